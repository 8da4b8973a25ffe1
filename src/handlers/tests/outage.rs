//! Stores that hang, lose data, refuse, or return to an older copy; and waiting reports.

use super::*;

#[test]
fn an_older_store_still_gets_offline_hosts() {
    let mut world = World::new();
    let conn = world.open("10.0.0.1:1");
    world.beat(conn);
    let old = world.store.claims.clone();
    world.end(conn, End::Closed);
    let conn = world.open("10.0.0.1:2");
    world.beat(conn);
    world.go_away();
    world.end(conn, End::Closed);
    world.store.claims = old;
    world.come_up(true);
    assert!(world.store.exists.is_empty());
    assert_eq!(world.store.claims["10.0.0.1"], (1, false));
}

/// A store connection after a failover that brought back these claims, and not the sets of hosts.
fn fail_over(world: &mut World, claims: BTreeMap<String, (u64, bool)>) {
    world.go_away();
    world.store.claims.extend(claims);
    world.up = true;
    world.sessions += 1;
    let _ = world.input(Input::Outcome(Outcome::Available {
        session: world.sessions,
        lease_clear: true,
        lost_data: false,
    }));
    world.settle();
}

#[test]
fn a_release_that_a_failover_lost_is_repeated() {
    let mut world = World::new();
    let conns = ["10.0.0.1:1", "10.0.0.2:1"].map(|peer| {
        let conn = world.open(peer);
        world.beat(conn);
        conn
    });
    world.pass(SWEEPS_MS);
    let (claims, before) = (world.store.claims.clone(), world.events().len());
    for conn in conns {
        world.end(conn, End::Closed);
    }
    let back = world.open("10.0.0.2:2");
    world.beat(back);
    let events = world.events().len();
    assert_eq!(events, before + 3, "two offline and one online");
    fail_over(&mut world, claims);
    assert!(!world.store.claims["10.0.0.1"].1, "given up again");
    assert!(world.store.claims["10.0.0.2"].1, "it is connected");
    assert_eq!(world.events().len(), events, "without an event");
}

#[test]
fn an_old_release_is_not_repeated() {
    let mut world = World::new();
    let conn = world.open("10.0.0.1:1");
    world.beat(conn);
    world.pass(SWEEPS_MS);
    let claims = world.store.claims.clone();
    world.end(conn, End::Closed);
    world.pass(2_000 * REPLICATED_RECENT_S + AUDITS_MS);
    fail_over(&mut world, claims);
    assert!(world.store.claims["10.0.0.1"].1, "as it was found");
}

#[test]
fn a_host_back_in_an_outage_is_online_since_then() {
    let mut world = World::new();
    let conn = world.open("10.0.0.1:1");
    world.beat(conn);
    world.go_away();
    world.end(conn, End::Closed);
    world.ms += 3_000;
    let conn = world.open("10.0.0.1:2");
    world.beat(conn);
    let back = UnixMs(WALL + world.ms);
    world.come_up(true);
    let host = HostId::checked("10.0.0.1").unwrap();
    assert_eq!(world.core.host(&host).unwrap().since, back);
}

#[test]
fn refused_presence_is_written_later() {
    let mut world = World::new();
    let [gone, stays] = ["10.0.0.1:1", "10.0.0.2:1"].map(|peer| {
        let conn = world.open(peer);
        world.beat(conn);
        conn
    });
    world.pass(SWEEPS_MS);
    world.store.spoilt = true;
    world.end(gone, End::Closed);
    world.end(stays, End::Closed);
    let stays = world.open("10.0.0.2:2");
    world.beat(stays);
    let late = world.open("10.0.0.3:1");
    world.beat(late);
    let short = world.open("10.0.0.4:1");
    world.beat(short);
    world.end(short, End::Closed);
    world.pass(AUDITS_MS);
    world.store.spoilt = false;
    world.store.exists = ["10.0.0.1", "10.0.0.4"].map(str::to_owned).into();
    world.pass(AUDITS_MS);
    assert!(world.store.exists.iter().eq(["10.0.0.2", "10.0.0.3"]));
    let events = world.events().iter();
    let told: Vec<&String> = events.filter(|event| event.contains("10.0.0.3")).collect();
    assert_eq!(told, ["online 10.0.0.3"], "once");
    world.end(late, End::Closed);
    assert!(world.store.exists.iter().eq(["10.0.0.2"]));
}

#[test]
fn a_wait_ends_although_its_predecessor_left() {
    let mut world = World::new();
    let conns = [7, 8, 9].map(|host| world.open(&format!("10.0.0.{host}:4000")));
    let [first, second, third] = conns;
    world.up = false;
    // So large that it is accepted only without others.
    let large: &'static str = "x".repeat(REPORT_BYTES_WAITING_MAX).leak();
    let flows = conns.map(|conn| world.progress(conn, Phase::Received, &[large], 1));
    assert_eq!(flows, [Flow::Taken, Flow::Wait, Flow::Wait]);
    world.up = true;
    world.settle();
    assert_eq!(world.words(first), [Word::GotIt]);
    assert!(world.effects.contains(&Effect::Resume { conn: second }));
    assert!(!world.effects.contains(&Effect::Resume { conn: third }));
    world.end(second, End::Reset);
    world.pass(1);
    assert!(world.effects.contains(&Effect::Resume { conn: third }));
}

#[test]
fn repeated_inventories_are_answered_once() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.beat(conn);
    world.up = false;
    let inventory = || {
        Message::Inventory(Inventory {
            hostname: Some("ant".into()),
            mac: None,
            values: vec!["ant".into()],
            addresses: Vec::new(),
        })
    };
    let mut ops = Vec::new();
    for seq in 1..=2 {
        let _ = world.send(conn, inventory(), Some(seq));
        ops.extend(world.core.pull(world.at(), 64).unwrap().ops);
    }
    for op in ops {
        let outcome = world.store.run(op).unwrap();
        let _ = world.input(Input::Outcome(outcome));
    }
    assert_eq!(world.words(conn), [Word::RogerThat, Word::RogerThat]);
}

#[test]
fn a_dropped_inventory_leaves_no_waiter() {
    let mut world = World::new();
    let [first, second] = [4_000, 4_001].map(|port| world.open(&format!("10.0.0.7:{port}")));
    world.beat(first);
    world.up = false;
    let inventory = || {
        Message::Inventory(Inventory {
            hostname: None,
            mac: None,
            values: Vec::new(),
            addresses: Vec::new(),
        })
    };
    let _ = world.send(first, inventory(), Some(1));
    let _ = world.send(second, inventory(), Some(2));
    world.end(second, End::Closed);
    assert!(matches!(world.words(first)[..], [Word::Refused(_)]));
}

#[test]
fn an_audit_skips_unsettled_claims() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.beat(conn);
    world.up = false;
    world.end(conn, End::Closed);
    let leaving = world.core.pull(world.at(), 64).unwrap().ops;
    assert!(matches!(leaving[..], [Op::Offline(_)]));
    let again = world.open("10.0.0.7:4001");
    let _ = world.send(again, Message::Heartbeat, None);
    world.core.outbox.begin_audit();
    assert!(world.core.pull(world.at(), 64).is_none());
}

#[test]
fn a_late_claim_of_a_hung_store_is_released() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.up = false;
    let _ = world.send(conn, Message::Heartbeat, None);
    let late = world.core.pull(world.at(), 64).unwrap().ops;
    world.go_away();
    world.end(conn, End::Closed);
    world.come_up(true);
    for op in late {
        assert!(world.store.run(op).is_some(), "and nobody hears of it");
    }
    assert!(world.store.exists.contains("10.0.0.7"));
    world.pass(6_000);
    assert!(world.store.exists.is_empty());
    let told = ["online 10.0.0.7", "offline 10.0.0.7 closed"];
    assert_eq!(world.events(), told);
}

#[test]
fn an_older_claim_can_be_released() {
    let mut world = World::new();
    for _ in 0..3 {
        let conn = world.open("10.0.0.7:4000");
        world.beat(conn);
        world.end(conn, End::Closed);
    }
    let conn = world.open("10.0.0.7:4000");
    world.beat(conn);
    world.go_away();
    // It lost its data, and then executed the operation in flight.
    world.store.claims.insert("10.0.0.7".to_owned(), (1, true));
    world.end(conn, End::Closed);
    world.come_up(true);
    assert!(world.store.exists.is_empty());
}

#[test]
fn unknown_hosts_do_not_return() {
    let mut world = World::new();
    world.ms = 0;
    let conns: Vec<ConnId> = (0..40)
        .map(|host| world.open(&format!("10.0.1.{host}:4000")))
        .collect();
    for conn in &conns {
        world.beat(*conn);
    }
    world.pass_beating(TIMEOUT, &conns);
    for conn in &conns[..15] {
        world.end(*conn, End::Closed);
    }
    for host in 0..15 {
        let conn = world.open(&format!("10.0.2.{host}:4000"));
        world.beat(conn);
    }
    for conn in &conns[15..] {
        world.end(*conn, End::Closed);
    }
    // Those that came meanwhile have not stayed for a timeout: of the 40, the 21st is more than half.
    assert!(world.told.iter().any(|told| told == "mass-offline 21"));
}
