//! Strangers in great number: their share of the table, of the events, and of a contested id.

use super::*;
use crate::limits::{
    BRIEF_HOSTS_MAX, BRIEF_TOLD_ALL_MAX, BRIEF_TOLD_MAX, NEW_IDS_PER_NETWORK_MAX, NEW_IDS_TOLD_MAX,
    STRAY_HOST_BYTES_MAX, STRAY_HOST_TOLD_MAX,
};

/// A world with room for so many hosts.
fn world_of(hosts_max: usize) -> World {
    let mut world = World::starting(Model::default());
    let rules = Rules {
        hosts_max,
        ..world.core.env.rules.clone()
    };
    world.core = Core::new(rules, 1);
    world.come_up(true);
    // Hosts that go offline are in doubt, and stay, until the second sweep.
    world.pass(SWEEPS_MS);
    world
}

impl World {
    fn named(&mut self, peer: &str, id: &str) -> ConnId {
        let conn = self.open(peer);
        self.hello(conn, id, None);
        conn
    }

    /// Runs all operations for the store, without checking all hosts after each outcome.
    fn drain(&mut self) {
        while let Some(batch) = self.core.pull(self.at(), 2_048) {
            let mut fx = Effects::default();
            for op in batch.ops {
                if let Some(outcome) = self.store.run(op) {
                    let _ = self
                        .core
                        .handle(self.at(), Input::Outcome(outcome), &mut fx);
                }
            }
            self.take(fx);
        }
    }

    /// Lets time pass in one step, and runs due actions.
    fn jump(&mut self, ms: u64) {
        self.ms += ms;
        let (mut fx, at) = (Effects::default(), self.at());
        self.core.tick(at.now, at, &mut fx);
        self.take(fx);
        self.drain();
    }

    /// A host that connects and disconnects before the next exchange with the store.
    fn flicker(&mut self, ip: &str, id: &str) -> ConnId {
        self.next += 1;
        let conn = ConnId {
            slot: 60_000,
            generation: self.next,
        };
        let peer = SocketAddr::new(ip.parse().unwrap(), 4000);
        let hello = Hello {
            id: id.into(),
            udp: None,
            push: false,
            boot: None,
            ..Hello::default()
        };
        let ask = ReplyRequest {
            reply: true,
            seq: None,
        };
        let incoming = Incoming {
            message: Message::Hello(hello),
            ask,
        };
        let mut fx = Effects::default();
        let at = self.at();
        for input in [
            Input::Opened { conn, peer },
            Input::Message { conn, incoming },
            Input::Ended {
                conn,
                end: End::Closed,
            },
        ] {
            let _ = self.core.handle(at, input, &mut fx);
        }
        self.take(fx);
        conn
    }
}

#[test]
fn unwritten_short_stays_leave_room_for_hosts() {
    let mut world = world_of(100);
    let steady = world.named("10.0.0.1:4000", "steady");
    // A slow store: there is no exchange while strangers connect.
    for number in 0..1_000 {
        world.flicker("10.0.0.9", &format!("stranger-{number}"));
    }
    assert!(world.core.stats().hosts_known <= 100);
    let honest: Vec<ConnId> = (0..50)
        .map(|number| world.named("10.0.0.2:4000", &format!("honest-{number}")))
        .collect();
    assert!(honest.iter().all(|conn| !world.closed(*conn)) && !world.closed(steady));
    world.settle();
    world.core.assert_invariants();
    assert_eq!(world.store.exists.len(), 51);
}

#[test]
fn while_the_store_is_away_offline_hosts_make_room_too() {
    let mut world = world_of(10);
    let conns: Vec<ConnId> = (0..10)
        .map(|number| world.named("10.0.0.1:4000", &format!("old-{number}")))
        .collect();
    world.pass_beating(TIMEOUT, &conns);
    world.go_away();
    for conn in conns {
        world.end(conn, End::Closed);
    }
    for number in 0..10 {
        let conn = world.named("10.0.0.2:4000", &format!("new-{number}"));
        assert!(!world.closed(conn));
    }
    world.come_up(true);
    world.pass(SWEEPS_MS);
    let online: Vec<&String> = world.store.exists.iter().collect();
    assert_eq!(online.len(), 10);
    assert!(
        online.iter().all(|name| name.starts_with("new")),
        "{online:?}"
    );
}

#[test]
fn short_stays_are_bounded_here_and_in_the_store() {
    let mut world = world_of(1 << 20);
    let more = 500;
    for number in 0..BRIEF_HOSTS_MAX + more {
        world.flicker("10.0.0.9", &format!("stranger-{number}"));
        if number % 100 == 0 {
            world.drain();
        }
    }
    world.drain();
    assert_eq!(world.core.stats().hosts_known, BRIEF_HOSTS_MAX as u64);
    assert_eq!(world.store.claims.len(), BRIEF_HOSTS_MAX);
    assert!(!world.store.claims.contains_key("stranger-0"));
    assert!(!world.store.seen.contains_key("stranger-0"));
    // A host that is known again counts as new.
    let conn = world.named("10.0.0.9:4000", "stranger-0");
    assert!(!world.closed(conn));
}

#[test]
fn new_ids_of_an_address_are_bounded() {
    let mut world = world_of(1 << 20);
    for number in 0..NEW_IDS_PER_NETWORK_MAX {
        world.flicker("2001:db8::9", &format!("stranger-{number}"));
    }
    world.drain();
    assert_eq!(world.core.stats().new_ids_refused, 0);
    let refused = world.flicker("2001:db8::8", "one-more");
    assert!(matches!(world.words(refused)[..], [Word::Refused(_)]));
    let plain = world.open("[2001:db8::7]:4000");
    let _ = world.send(plain, Message::Heartbeat, None);
    assert!(world.closed(plain), "nor an address of the same /64");
    let known = NEW_IDS_PER_NETWORK_MAX - 1;
    let known = world.named("[2001:db8::9]:4000", &format!("stranger-{known}"));
    assert!(!world.closed(known));
    assert_eq!(world.core.stats().new_ids_refused, 2);
    world.jump(60_000);
    let later = world.named("[2001:db8::9]:4000", "one-more");
    assert!(!world.closed(later));
}

#[test]
fn events_of_short_stays_are_summed_up_beyond_a_number() {
    let mut world = world_of(1 << 20);
    let more = 1_000;
    for number in 0..NEW_IDS_TOLD_MAX + more {
        // Each from an address of its own: of one with several, fewer short stays have events.
        let (high, low) = (number / 62_500 + 9, number % 62_500);
        let ip = format!("10.{high}.{}.{}", low / 250, low % 250);
        world.flicker(&ip, &format!("stranger-{number}"));
    }
    world.drain();
    let stays = world.named("10.0.0.1:4000", "stays");
    world.jump(TIMEOUT / 2);
    world.beat(stays);
    world.jump(TIMEOUT / 2);
    world.end(stays, End::Reset);
    let single = |told: &&String| told.contains("stranger");
    let told = world.told.iter().filter(single).count() as u64;
    assert_eq!(told, 2 * NEW_IDS_TOLD_MAX);
    assert!(world.store.events.len() as u64 <= told + 10);
    let sum = format!("new-ids {}", more + 1);
    assert!(world.told.contains(&sum), "{:?}", world.told.last());
    assert!(
        world
            .events()
            .contains(&format!("new-ids Some({})", more + 1))
    );
    assert_eq!(world.told.last().unwrap(), "offline stays reset");
}

#[test]
fn events_of_short_stays_of_one_address_are_summed_up() {
    let mut world = world_of(1 << 20);
    for number in 0..8_000 {
        world.flicker("10.0.0.9", &format!("stranger-{number}"));
    }
    world.drain();
    world.named("10.0.0.1:4000", "honest");
    world.jump(60_000);
    let single = |told: &&String| told.contains("stranger");
    let told = world.told.iter().filter(single).count() as u32;
    assert_eq!(told, 2 * BRIEF_TOLD_MAX);
    assert!(world.told.contains(&"online honest".to_owned()));
    let sum = format!("new-ids {}", 8_000 - BRIEF_TOLD_MAX);
    assert!(world.told.contains(&sum), "{:?}", world.told.last());
}

#[test]
fn events_of_short_stays_of_many_addresses_are_summed_up() {
    let mut world = world_of(1 << 20);
    for number in 0..2_048 {
        let ip = format!("10.0.0.{}", number % 200);
        world.flicker(&ip, &format!("stranger-{number}"));
    }
    world.named("10.0.1.1:4000", "honest");
    world.jump(60_000);
    let single = |told: &&String| told.contains("stranger");
    let told = world.told.iter().filter(single).count() as u32;
    assert_eq!(told, 2 * BRIEF_TOLD_ALL_MAX);
    assert!(world.told.contains(&"online honest".to_owned()));
    let sum = format!("new-ids {}", 2_048 - BRIEF_TOLD_ALL_MAX);
    assert!(world.told.contains(&sum), "{:?}", world.told.last());
}

#[test]
fn reports_on_unknown_keys_push_out_no_events() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let number = STRAY_HOST_TOLD_MAX as usize + 10;
    for number in 0..number {
        let progress = Progress {
            code: format!("ACx{number}").into(),
            ..progress_of("AC1", Phase::Received, &["a"])
        };
        let _ = world.send(conn, Message::Progress(progress), None);
        world.beat(conn);
    }
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    world.report(conn, "AC1", Phase::Received, &["uptime"]);
    let passing = |effect: &&Effect| matches!(effect, Effect::Tell(event) if event.passing);
    let passing = world.effects.iter().filter(passing).count() as u32;
    assert_eq!(passing, STRAY_HOST_TOLD_MAX + 1, "and the host's own");
    let last = world.told.last().unwrap();
    assert!(
        last.starts_with("progress") && last.contains("AC1"),
        "{last}"
    );
    world.pass_beating(20_000, &[conn]);
    assert!(world.told.contains(&"unknown-keys 10".to_owned()));
    assert!(world.events().contains(&"unknown-keys Some(10)".to_owned()));
}

#[test]
fn an_owner_that_is_back_may_connect_again() {
    let mut world = World::new();
    let owner = world.named("10.0.0.1:4000", "web-1");
    world.pass_beating(TIMEOUT, &[owner]);
    for _ in 0..20 {
        world.named("10.0.0.9:4000", "web-1");
    }
    for port in 4001..4005 {
        let back = world.named(&format!("10.0.0.1:{port}"), "web-1");
        assert!(!world.closed(back), "{port}");
        let thief = world.named("10.0.0.9:4001", "web-1");
        assert!(world.closed(thief) && !world.closed(back));
    }
}

#[test]
fn short_stays_do_not_hide_a_mass_event() {
    let mut world = World::new();
    let real: Vec<ConnId> = (0..40)
        .map(|n| world.named("10.0.0.1:4000", &format!("real-{n}")))
        .collect();
    world.pass_beating(TIMEOUT, &real);
    for n in 0..45 {
        world.named("10.0.0.9:4000", &format!("fake-{n}"));
    }
    for conn in real {
        world.end(conn, End::Reset);
    }
    assert!(world.told.contains(&"mass-offline 21".to_owned()));
}

#[test]
fn fakes_that_go_are_no_loss_of_the_fleet() {
    let mut world = World::new();
    let real: Vec<ConnId> = (0..5)
        .map(|n| world.named("10.0.0.1:4000", &format!("real-{n}")))
        .collect();
    world.pass_beating(TIMEOUT, &real);
    for n in 0..45 {
        world.flicker("10.0.0.9", &format!("fake-{n}"));
    }
    assert!(!world.told.iter().any(|told| told.starts_with("mass")));
}

#[test]
fn an_owner_regains_its_contested_id() {
    let mut world = World::new();
    let owner = world.named("10.0.0.1:4000", "web-1");
    world.pass_beating(TIMEOUT, &[owner]);
    for _ in 0..15 {
        world.named("10.0.0.9:4000", "web-1");
    }
    let back = world.named("10.0.0.1:4001", "web-1");
    assert!(!world.closed(back));
    let thief = world.named("10.0.0.9:4001", "web-1");
    assert!(world.closed(thief) && !world.closed(back));
    let reports = world
        .told
        .iter()
        .filter(|told| told.starts_with("quarantine"));
    assert_eq!(reports.count(), 1);
}

#[test]
fn a_contest_of_two_agents_is_reported_once() {
    let mut world = World::new();
    let mut before: Option<ConnId> = None;
    for turn in 0..6 {
        let (peer, boot) = [("10.0.0.1:4000", "aa"), ("10.0.0.2:4000", "bb")][turn % 2];
        let conn = world.open(peer);
        world.hello(conn, "web-1", Some(boot));
        if let Some(before) = before {
            let last = world.words(before).pop();
            let replaced = Word::Refused("replaced by another connection with this id".to_owned());
            assert_eq!(last, Some(replaced));
            assert!(world.closed(before));
        }
        before = Some(conn);
        world.pass(1_000);
    }
    assert_eq!(world.told, ["online web-1", "duplicate-id web-1"]);
    let lines: Vec<&Effect> = world
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Log(note) if note.what == "duplicate-id"))
        .collect();
    let [Effect::Log(note)] = lines[..] else {
        panic!("one line: {lines:?}");
    };
    assert!(note.text.contains("10.0.0.1:4000") && note.text.contains("10.0.0.2:4000"));
}

#[test]
fn a_client_without_a_reply_request_gets_none() {
    let mut world = World::new();
    let hello = Hello {
        id: "web-1".into(),
        udp: None,
        push: false,
        boot: None,
        ..Hello::default()
    };
    let older = world.open("10.0.0.1:4000");
    let _ = world.send(older, Message::Hello(hello), None);
    let before = world.words(older).len();
    world.named("10.0.0.2:4000", "web-1");
    assert!(world.closed(older) && world.words(older).len() == before);
    assert_eq!(world.told, ["online web-1"], "once is a reconnect");
}

#[test]
fn reports_on_unknown_keys_are_bounded() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let refused = |world: &World| world.core.stats().strays_refused;
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    let text = "x".repeat(60_000);
    let most = STRAY_HOST_BYTES_MAX as usize / 60_000;
    for number in 0..most + 10 {
        let key = format!("ACx{number}");
        let progress = Progress {
            code: key.into(),
            oncall: vec![text.as_str().into()],
            ..progress_of("AC1", Phase::Received, &["a"])
        };
        assert_eq!(
            world.send(conn, Message::Progress(progress), Some(1)),
            Flow::Taken
        );
    }
    assert!(refused(&world) >= 10);
    assert!(world.store.reports <= most);
    assert!(matches!(world.words(conn).last(), Some(Word::Refused(_))));
    // Its own task does not count.
    world.report(conn, "AC1", Phase::Received, &["uptime"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "working");
}

#[test]
fn a_forgotten_host_leaves_no_queued_task() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.end(conn, End::Closed);
    world.pass(20_000);
    let mut task = world.task("AC1", &["10.0.0.1", "10.0.0.2"]);
    task.queue = true;
    world.asked(request::Request::Dispatch(task));
    assert_eq!(world.state("AC1", "10.0.0.1"), "queued");
    let host = HostId::named("10.0.0.1").unwrap();
    let answer = world.asked(request::Request::Forget { host });
    assert!(
        matches!(answer, request::Response::Forgotten { .. }),
        "{answer:?}"
    );
    assert_eq!(world.state("AC1", "10.0.0.1"), "expired");
    assert_eq!(world.state("AC1", "10.0.0.2"), "queued");
    // It may come again, as a new host, and gets nothing.
    world.sent();
    world.plain("10.0.0.1");
    assert!(world.sent().is_empty());
}

#[test]
fn a_host_is_forgotten_where_it_is_offline_and_written() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    let host = HostId::named("10.0.0.1").unwrap();
    let forget = |world: &mut World| {
        let host = host.clone();
        match world.asked(request::Request::Forget { host }) {
            request::Response::Forgotten { .. } => Ok(()),
            request::Response::Error { kind, .. } => Err(kind),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(forget(&mut world), Err(ErrorKind::Taken));
    world.end(conn, End::Closed);
    assert_eq!(forget(&mut world), Err(ErrorKind::NotNow));
    // Shortly after a reconnection an earlier write may still be executed.
    world.pass(20_000);
    assert_eq!(forget(&mut world), Ok(()));
    assert_eq!(forget(&mut world), Err(ErrorKind::Unknown));
    // It may connect again, as a new host.
    world.plain("10.0.0.1");
    assert_eq!(forget(&mut world), Err(ErrorKind::Taken));
    world.go_away();
    assert_eq!(forget(&mut world), Err(ErrorKind::NotNow));
}
