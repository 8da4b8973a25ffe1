//! Presence: hosts online, their times, and their writes to the store.

use super::*;
use crate::handlers::request::{HistoryRequest, HistoryView};
use crate::store::op::Was;

#[test]
fn heartbeats_and_silence_decide_on_presence() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    assert!(world.online().is_empty(), "a connection alone is nobody");
    world.beat(conn);
    assert_eq!(world.online(), ["10.0.0.7"]);
    world.pass(TIMEOUT - 10);
    assert!(world.store.exists.contains("10.0.0.7"));
    world.pass(30);
    assert_eq!(
        world.events(),
        ["online 10.0.0.7", "offline 10.0.0.7 timeout"]
    );
    assert_eq!(world.told, world.store.events);
    assert!(world.closed(conn) && world.store.exists.is_empty());
}

#[test]
fn every_heartbeat_extends_the_deadline() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    for _ in 0..10 {
        world.beat(conn);
        world.pass(TIMEOUT - 1);
    }
    assert_eq!(world.events(), ["online 10.0.0.7"]);
    assert!(world.store.seen.contains_key("10.0.0.7"));
}

#[test]
fn each_end_has_its_reason() {
    for (end, reason) in [
        (End::Closed, "closed"),
        (End::Reset, "reset"),
        (End::Dead, "timeout"),
    ] {
        let mut world = World::new();
        let conn = world.open("10.0.0.7:4000");
        world.beat(conn);
        world.end(conn, end);
        assert_eq!(world.events()[1], format!("offline 10.0.0.7 {reason}"));
    }
}

#[test]
fn transitions_of_one_moment_keep_their_order() {
    let mut world = World::new();
    for _ in 0..2 {
        let conn = world.open("10.0.0.7:4000");
        world.beat(conn);
        world.end(conn, End::Closed);
    }
    let conn = world.open("10.0.0.7:4000");
    world.beat(conn);
    let host = HostId::named("10.0.0.7").unwrap();
    let request = request::Request::History(HistoryRequest::Host { host });
    let request::Response::History(view) = world.asked(request) else {
        panic!("no history");
    };
    let HistoryView::Host { transitions, .. } = *view else {
        panic!("not of a host");
    };
    let states: Vec<Was> = transitions.iter().map(|one| one.to()).collect();
    let closed = Was::Offline(Some(Reason::Closed));
    assert_eq!(
        states,
        [Was::Online, closed, Was::Online, closed, Was::Online]
    );
}

#[test]
fn abnormal_data_takes_the_host_offline() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.beat(conn);
    let error = DecodeError::new(Abnormal::Utf8, 9);
    let _ = world.input(Input::Abnormal { conn, error });
    world.settle();
    assert_eq!(world.events()[1], "offline 10.0.0.7 abnormal");
    assert!(world.closed(conn));
    assert_eq!(world.core.stats().abnormal.iter().sum::<u64>(), 1);
    world.end(conn, End::Closed);
    assert_eq!(world.events().len(), 2, "its end comes too late to matter");
}

#[test]
fn a_connection_without_a_message_is_closed() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.pass(9_990);
    assert!(!world.closed(conn));
    world.pass(20);
    assert!(world.closed(conn) && world.events().is_empty());
    assert_eq!(world.core.stats().speechless, 1);
}

#[test]
fn a_reused_slot_has_its_own_deadline() {
    let mut world = World::new();
    let peer: SocketAddr = "10.0.0.7:1".parse().unwrap();
    for generation in 0..1_000 {
        let conn = ConnId {
            slot: 5,
            generation,
        };
        let _ = world.input(Input::Opened { conn, peer });
        world.beat(conn);
        world.pass(50);
        if generation < 999 {
            world.end(conn, End::Closed);
        }
    }
    let last = ConnId {
        slot: 5,
        generation: 999,
    };
    world.pass(TIMEOUT - 100);
    assert!(!world.closed(last));
    world.beat(last);
    world.pass(TIMEOUT - 1);
    assert!(!world.closed(last));
    assert!(
        world.core.fleet.deadlines_len() < 10,
        "{} deadlines for one slot",
        world.core.fleet.deadlines_len()
    );
}

#[test]
fn a_host_is_online_until_its_last_connection_ends() {
    let mut world = World::new();
    let first = world.open("10.0.0.7:4000");
    let second = world.open("10.0.0.7:4001");
    world.beat(first);
    world.beat(second);
    world.end(first, End::Reset);
    assert_eq!(world.online(), ["10.0.0.7"]);
    world.end(second, End::Closed);
    assert_eq!(
        world.events(),
        ["online 10.0.0.7", "offline 10.0.0.7 closed"]
    );
}

#[test]
fn a_replaced_connection_causes_no_offline() {
    let mut world = World::new();
    let older = world.open("10.0.0.7:4000");
    world.hello(older, "web-1", None);
    let newer = world.open("10.0.0.8:4000");
    world.hello(newer, "web-1", None);
    assert!(world.closed(older) && !world.closed(newer));
    world.end(older, End::Closed);
    world.pass(TIMEOUT / 2);
    assert_eq!(world.events(), ["online web-1"]);
    let host = HostId::checked("web-1").unwrap();
    let ip = world.core.host(&host).unwrap().ip.unwrap();
    assert_eq!(ip.to_string(), "10.0.0.8");
    world.end(newer, End::Reset);
    assert_eq!(world.events()[1..], ["offline web-1 reset"]);
}

#[test]
fn only_the_first_message_may_be_a_hello() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.hello(conn, "web-1", None);
    assert_eq!(world.words(conn), [Word::Welcome { interval_s: 20.0 }]);
    world.hello(conn, "web-1", None);
    assert!(world.closed(conn));
    let thief = world.open("10.0.0.8:4000");
    world.hello(thief, "10.0.0.7", None);
    assert!(matches!(world.words(thief)[..], [Word::Refused(_)]) && world.closed(thief));
    assert_eq!(world.events(), ["online web-1", "offline web-1 abnormal"]);
}

#[test]
fn a_contested_id_stays_with_its_holder() {
    let mut world = World::new();
    let mut conns = Vec::new();
    for port in 0..40 {
        let conn = world.open(&format!("10.0.0.7:{}", 4000 + port));
        world.hello(conn, "web-1", None);
        conns.push(conn);
    }
    let holder = conns[15];
    assert!(!world.closed(holder) && conns[16..].iter().all(|conn| world.closed(*conn)));
    assert_eq!(
        world.told,
        ["online web-1", "duplicate-id web-1", "quarantine web-1"]
    );
    assert_eq!(world.core.stats().replacements, 15);
    world.pass(30_000);
    world.beat(holder);
    world.pass(31_000);
    let newcomer = world.open("10.0.0.9:4000");
    world.hello(newcomer, "web-1", None);
    assert!(
        world.closed(holder),
        "a minute later an id may be taken over again"
    );
}

#[test]
fn only_busy_plain_hosts_may_be_silent() {
    let mut world = World::new();
    let plain = world.open("10.0.0.7:4000");
    world.beat(plain);
    let _ = world.progress(plain, Phase::Received, &["sleep 600"], 1);
    let named = world.open("10.0.0.8:4000");
    world.hello(named, "web-1", None);
    let _ = world.progress(named, Phase::Received, &["sleep 600"], 1);
    world.pass(10 * TIMEOUT);
    assert_eq!(world.online(), ["10.0.0.7"]);
    let _ = world.progress(plain, Phase::Ended, &[], 2);
    world.pass(TIMEOUT - 10);
    assert_eq!(world.online(), ["10.0.0.7"]);
    world.pass(20);
    assert!(world.online().is_empty(), "silent after its work is silent");
}

#[test]
fn work_ends_without_messages_or_a_book() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    let answer = |code| {
        Message::Answer(Answer {
            code,
            task: Some("AC9".into()),
        })
    };
    let _ = world.send(conn, answer(ResultCode::Received), None);
    world.pass(3_600_000 - 100);
    assert_eq!(world.online(), ["10.0.0.7"]);
    world.pass(200);
    assert!(world.online().is_empty());
    let conn = world.open("10.0.0.8:4000");
    let _ = world.send(conn, answer(ResultCode::Received), None);
    let none = Message::Answer(Answer {
        code: ResultCode::NoBook,
        task: None,
    });
    let _ = world.send(conn, none, None);
    world.pass(TIMEOUT + 10);
    assert!(world.online().is_empty());
}

#[test]
fn a_new_boot_has_no_work() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.hello(conn, "web-1", Some("aa"));
    let _ = world.progress(conn, Phase::Received, &["x"], 1);
    assert_eq!(world.core.stats().hosts_at_work, 1);
    let again = world.open("10.0.0.7:4001");
    world.hello(again, "web-1", Some("bb"));
    assert_eq!(world.core.stats().hosts_at_work, 0);
}

#[test]
fn a_process_that_resumes_keeps_its_tasks() {
    for resumes in [true, false] {
        let mut world = World::new();
        let hello = |boot: &'static str, resumes| {
            Message::Hello(Hello {
                id: "web-1".into(),
                udp: None,
                push: true,
                boot: Some(boot.into()),
                resumes,
                ..Hello::default()
            })
        };
        let conn = world.open("10.0.0.7:4000");
        let _ = world.send(conn, hello("aa", false), Some(1));
        world.dispatch("AC1", &["web-1"]).unwrap();
        world.rcc(conn, ResultCode::Received, Some("AC1"));
        assert_eq!(world.state("AC1", "web-1"), "answered");
        let again = world.open("10.0.0.7:4001");
        let _ = world.send(again, hello("bb", resumes), Some(1));
        let wanted = if resumes { "answered" } else { "lost" };
        assert_eq!(world.state("AC1", "web-1"), wanted);
    }
}

#[test]
fn after_a_restart_only_absent_hosts_are_lost() {
    let mut before = World::new();
    for ip in ["10.0.0.7", "10.0.0.8"] {
        let conn = before.open(&format!("{ip}:4000"));
        before.beat(conn);
    }
    before.store.events.clear();
    let mut world = World::starting(before.store);
    let early = world.open("10.0.0.9:1");
    world.beat(early);
    world.pass(500);
    world.come_up(true);
    assert_eq!(world.online(), ["10.0.0.7", "10.0.0.8", "10.0.0.9"]);
    world.pass(TIMEOUT / 2);
    let back = world.open("10.0.0.7:5000");
    world.beat(back);
    world.beat(early);
    world.pass(TIMEOUT / 2 + 20);
    assert_eq!(world.events(), ["online 10.0.0.9", "offline 10.0.0.8 lost"]);
    assert_eq!(world.core.stats().hosts_inherited, 0);
}

#[test]
fn an_early_reconnect_after_a_restart_is_no_outage() {
    let mut before = World::new();
    let conn = before.open("10.0.0.7:4000");
    before.beat(conn);
    before.store.events.clear();
    let mut world = World::starting(before.store);
    let conn = world.open("10.0.0.7:4001");
    world.beat(conn);
    world.come_up(true);
    assert!(world.events().is_empty());
    assert_eq!(world.store.claims["10.0.0.7"], (2, true), "claimed anew");
    world.end(conn, End::Closed);
    assert_eq!(world.events(), ["offline 10.0.0.7 closed"]);
}

#[test]
fn a_foreign_lease_delays_the_judgement() {
    let mut before = World::new();
    let conn = before.open("10.0.0.7:4000");
    before.beat(conn);
    let mut world = World::starting(before.store);
    world.come_up(false);
    world.pass(2 * TIMEOUT);
    assert_eq!(world.online(), ["10.0.0.7"]);
    let _ = world.input(Input::Outcome(Outcome::LeaseClear));
    world.pass(2);
    assert!(world.online().is_empty());
    assert_eq!(world.events().last().unwrap(), "offline 10.0.0.7 lost");
}

#[test]
fn after_an_outage_the_current_presence_is_written() {
    let mut world = World::new();
    let stays = world.open("10.0.0.1:1");
    let goes = world.open("10.0.0.2:1");
    world.beat(stays);
    world.beat(goes);
    world.store.events.clear();
    world.go_away();
    assert!(matches!(world.core.store(), StoreView::Unavailable("gone")));
    world.end(goes, End::Reset);
    let comes = world.open("10.0.0.3:1");
    world.beat(comes);
    let flickers = world.open("10.0.0.4:1");
    world.beat(flickers);
    world.end(flickers, End::Closed);
    assert!(
        !world.core.has_work(),
        "state is not queued for a store that is unavailable"
    );
    world.come_up(true);
    let mut events = world.events().to_vec();
    events.sort();
    assert_eq!(events, ["offline 10.0.0.2 reset", "online 10.0.0.3"]);
    assert_eq!(
        world.store.exists.iter().collect::<Vec<_>>(),
        ["10.0.0.1", "10.0.0.3"]
    );
}

#[test]
fn an_emptied_store_is_refilled_without_events() {
    let mut world = World::new();
    for i in 0..50 {
        let conn = world.open(&format!("10.0.0.{i}:1"));
        world.beat(conn);
    }
    world.go_away();
    world.store = Model::default();
    world.come_up(true);
    assert_eq!(world.store.exists.len(), 50);
    assert!(world.events().is_empty());
    world.pass(SWEEPS_MS);
    assert!(
        world.store.claims.values().all(|claim| *claim == (1, true)),
        "under the epochs of before"
    );
}

#[test]
fn a_forgotten_offline_is_written_again() {
    let mut world = World::new();
    let conn = world.open("10.0.0.1:1");
    world.beat(conn);
    let old = world.store.claims.clone();
    world.end(conn, End::Closed);
    world.go_away();
    world.store.claims = old;
    world.store.exists.insert("10.0.0.1".to_owned());
    world.come_up(true);
    assert!(world.store.exists.is_empty());
}

#[test]
fn offline_before_the_sweep_is_still_reported() {
    let mut world = World::new();
    let conns: Vec<ConnId> = (0..200)
        .map(|i| {
            let conn = world.open(&format!("10.0.1.{i}:1"));
            world.beat(conn);
            conn
        })
        .collect();
    world.go_away();
    world.store = Model::default();
    // Available, but nothing is pulled yet: the sweep is at its start.
    world.up = true;
    let _ = world.input(Input::Outcome(Outcome::Available {
        session: 2,
        lease_clear: true,
        lost_data: false,
    }));
    for conn in &conns {
        let _ = world.input(Input::Ended {
            conn: *conn,
            end: End::Closed,
        });
    }
    world.settle();
    assert!(world.store.exists.is_empty());
    let offline = world
        .events()
        .iter()
        .filter(|event| event.starts_with("offline"))
        .count();
    assert_eq!(offline, 200);
}

#[test]
fn fast_changes_are_reported_in_order() {
    let mut world = World::new();
    world.up = false;
    for port in 0..5 {
        let conn = world.open(&format!("10.0.0.1:{}", 4000 + port));
        world.beat(conn);
        world.end(conn, End::Closed);
    }
    world.up = true;
    world.settle();
    let told = std::mem::take(&mut world.told);
    assert_eq!(told.len(), 10);
    assert_eq!(world.events(), told);
    world.up = false;
    for port in 0..1_000 {
        let conn = world.open(&format!("10.0.0.2:{port}"));
        world.beat(conn);
        world.end(conn, End::Closed);
    }
    world.up = true;
    world.settle();
    assert!(world.events().len() <= 10 + TRANSITIONS_WAITING_MAX);
    assert!(!world.store.exists.contains("10.0.0.2"));
}

#[test]
fn reports_are_acknowledged_when_stored() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.up = false;
    let _ = world.progress(conn, Phase::Received, &["x"], 7);
    assert!(world.words(conn).is_empty());
    let _ = world.send(conn, Message::Heartbeat, Some(8));
    assert_eq!(
        world.words(conn),
        [Word::Alive],
        "beats do not wait for reports"
    );
    world.up = true;
    world.settle();
    assert_eq!(world.words(conn), [Word::Alive, Word::GotIt]);
}

#[test]
fn a_waiting_report_does_not_count_as_silence() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.beat(conn);
    world.up = false;
    let mut taken = 0;
    while world.progress(conn, Phase::Received, &["x"], taken) == Flow::Taken {
        taken += 1;
    }
    assert_eq!(taken as usize, REPORTS_WAITING_MAX);
    let other = world.open("10.0.0.8:4000");
    world.beat(other);
    world.pass(TIMEOUT - 100);
    world.beat(other);
    world.pass(TIMEOUT);
    assert!(!world.closed(conn), "it is we who do not read");
    world.up = true;
    world.settle();
    assert!(world.effects.contains(&Effect::Resume { conn }));
    assert_eq!(
        world.progress(conn, Phase::Received, &["x"], 0),
        Flow::Taken
    );
    assert_eq!(world.store.reports, REPORTS_WAITING_MAX + 1);
    assert!(world.core.settled());
}

#[test]
fn freed_capacity_goes_to_waiters_first() {
    let mut world = World::new();
    let hosts = ["10.0.0.7", "10.0.0.8", "10.0.0.9"];
    let [first, second, fresh] = hosts.map(|ip| world.plain(ip));
    world.settle();
    world.up = false;
    let report = |world: &mut World, conn| world.progress(conn, Phase::Received, &["x"], 1);
    let settle_one = |world: &mut World| {
        let batch = world.core.pull(world.at(), 1).unwrap();
        for op in batch.ops {
            let outcome = world.store.run(op).unwrap();
            let _ = world.input(Input::Outcome(outcome));
        }
    };
    let taken = (0..=REPORTS_WAITING_MAX).take_while(|_| report(&mut world, first) == Flow::Taken);
    assert_eq!(taken.count(), REPORTS_WAITING_MAX);
    assert_eq!(report(&mut world, second), Flow::Wait);
    settle_one(&mut world);
    assert!(world.effects.contains(&Effect::Resume { conn: first }));
    assert_eq!(report(&mut world, fresh), Flow::Wait);
    assert_eq!(report(&mut world, first), Flow::Taken);
    settle_one(&mut world);
    assert!(world.effects.contains(&Effect::Resume { conn: second }));
    assert_eq!(report(&mut world, second), Flow::Taken);
    world.up = true;
    world.settle();
    assert!(world.effects.contains(&Effect::Resume { conn: fresh }));
    assert_eq!(report(&mut world, fresh), Flow::Taken);
    world.settle();
    assert!(world.core.settled());
}

#[test]
fn plenty_of_room_resumes_waiting_connections() {
    let mut world = World::new();
    let first = world.plain("10.0.0.7");
    let others: Vec<ConnId> = (0..REPORTS_WAITING_MAX)
        .map(|number| {
            let conn = world.open(&format!("10.0.0.8:{}", 5_000 + number));
            world.beat(conn);
            conn
        })
        .collect();
    world.settle();
    world.up = false;
    let report = |world: &mut World, conn| world.progress(conn, Phase::Received, &["x"], 1);
    let taken = (0..=REPORTS_WAITING_MAX).take_while(|_| report(&mut world, first) == Flow::Taken);
    assert_eq!(taken.count(), REPORTS_WAITING_MAX);
    for &other in &others {
        assert_eq!(report(&mut world, other), Flow::Wait);
    }
    // Resumed connections send nothing, so no further report is settled for those after them.
    let mut left = REPORTS_WAITING_MAX / 2 + 100;
    while left > 0 {
        let ops = world.core.pull(world.at(), left.min(64)).unwrap().ops;
        left -= ops.len();
        for op in ops {
            if let Some(outcome) = world.store.run(op) {
                let _ = world.input(Input::Outcome(outcome));
            }
        }
    }
    assert!(world.core.outbox.has_paused());
    assert!(world.core.outbox.reports_waiting() > 0);
    for _ in 0..REPORTS_WAITING_MAX / 64 {
        let (at, mut fx) = (world.at(), Effects::default());
        let _ = world.core.tick(at.now, at, &mut fx);
    }
    assert!(!world.core.outbox.has_paused());
}

#[test]
fn an_invalid_key_is_refused_if_a_reply_is_requested() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    let progress = |code: &'static str| {
        let (complete, oncall) = (Vec::new(), Vec::new());
        let phase = Phase::Ended;
        Message::Progress(Progress {
            code: code.into(),
            phase,
            working: None,
            complete,
            oncall,
            lost: false,
            cancelled: false,
        })
    };
    let _ = world.send(conn, progress("no_key"), Some(1));
    assert!(matches!(world.words(conn)[..], [Word::Refused(_)]));
    let console = Answer {
        code: ResultCode::Received,
        task: Some("echo hello".into()),
    };
    let _ = world.send(conn, Message::Answer(console), Some(2));
    assert_eq!(world.words(conn)[1], Word::GotIt);
    assert!(!world.closed(conn) && world.store.reports == 0);
}

#[test]
fn inventories_are_rewritten_after_an_outage() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    let inventory = || {
        let hostname = Some("ant-2".into());
        let values = vec!["ant-2".into()];
        Message::Inventory(Inventory {
            hostname,
            values,
            ..Inventory::default()
        })
    };
    let _ = world.send(conn, inventory(), Some(1));
    assert_eq!(world.words(conn), [Word::RogerThat]);
    world.go_away();
    let _ = world.send(conn, inventory(), Some(2));
    let gone = world.open("10.0.0.8:4000");
    let _ = world.send(gone, inventory(), Some(3));
    world.end(gone, End::Closed);
    assert_eq!(world.words(conn).len(), 1);
    world.store = Model::default();
    world.come_up(true);
    assert_eq!(world.words(conn), [Word::RogerThat, Word::RogerThat]);
    assert_eq!(world.store.inventories, ["10.0.0.7"]);
}

#[test]
fn a_mass_event_is_reported_beside_single_ones() {
    let mut world = World::new();
    let conns: Vec<ConnId> = (0..30)
        .map(|i| world.plain(&format!("10.0.0.{i}")))
        .collect();
    world.pass_beating(TIMEOUT, &conns);
    for conn in conns {
        world.end(conn, End::Reset);
    }
    let mass: Vec<&String> = world
        .told
        .iter()
        .filter(|told| told.starts_with("mass"))
        .collect();
    assert_eq!(mass, ["mass-offline 16"]);
    assert!(world.events().contains(&"mass-offline Some(16)".to_owned()));
}

#[test]
fn a_planned_stop_keeps_or_ends_presence() {
    for offline in [false, true] {
        let mut world = World::new();
        let conn = world.open("10.0.0.7:4000");
        world.beat(conn);
        let mut fx = Effects::default();
        world.core.shutdown(world.at(), offline, &mut fx);
        world.end(conn, End::Closed);
        world.settle();
        assert!(world.core.settled());
        assert_eq!(world.store.exists.is_empty(), offline);
    }
}

#[test]
fn the_pages_have_every_host_once() {
    let mut world = World::new();
    for i in 0..250 {
        let conn = world.open(&format!("10.0.0.{i}:1"));
        world.beat(conn);
    }
    let (mut cursor, mut names) = (0, BTreeSet::new());
    loop {
        let page = world.core.page(Filter::All, 100, cursor);
        for host in &page.hosts {
            assert!(names.insert(host.id.to_string()));
        }
        let Some(next) = page.next else { break };
        cursor = next;
    }
    assert_eq!(names.len(), 250);
}

#[test]
fn shorter_rules_apply_to_open_connections() {
    let mut world = World::new();
    let conn = world.open("10.0.0.7:4000");
    world.beat(conn);
    let rules = Rules {
        timeout: Span::from_secs(2),
        ..world.core.env.rules.clone()
    };
    world.core.set_rules(rules, world.at().now);
    world.pass(1_900);
    assert_eq!(world.online(), ["10.0.0.7"]);
    world.pass(200);
    assert!(world.online().is_empty());
}
