//! Events in any order: no panic, only allowed transitions (the model checks), and in the end the
//! store equals the core.

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 4] = ["AC0", "AC1", "AC2", "AC3"];
const HOSTS: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
const CID: &str = "0123456789abcdef0123456789abcdef";

/// One step: what happens, and to whom.
type Step = (u8, usize, usize, u64);

fn run(steps: Vec<Step>) {
    let mut world = World::new();
    world.core.env.rules.keep = Span::from_secs(20_000);
    let mut conns: [Option<ConnId>; 4] = [None; 4];
    for (what, host, key, ms) in steps {
        step(&mut world, &mut conns, what, host % 4, key % 4);
        world.pass(ms);
        for conn in &mut conns {
            if conn.is_some_and(|conn| world.closed(conn)) {
                *conn = None;
            }
        }
    }
    if !world.up {
        world.come_up(true);
    }
    world.pass(6_000);
    assert!(world.core.settled());
    let keys: Vec<String> = world.store.tasks.keys().cloned().collect();
    for key in keys {
        if world
            .core
            .tasks
            .table()
            .find(&TaskKey::parse(&key, "AC").unwrap())
            .is_some()
        {
            let hosts: Vec<HostId> = world.store.tasks[&key].states.keys().cloned().collect();
            for host in hosts {
                world.state(&key, host.as_str());
            }
        }
    }
    // All connections end, and nothing is left behind.
    for conn in conns.into_iter().flatten() {
        world.end(conn, End::Closed);
    }
    world.pass(100_000_000);
    assert_eq!(world.core.tasks.table().taken(), Default::default());
    let stats = world.core.stats();
    let left = [stats.tasks_open, stats.deliveries_open, stats.hosts_at_work];
    assert_eq!((left, stats.result_bytes_held), ([0; 3], 0));
    assert_eq!(world.core.tasks.deadlines_len(), 0);
}

fn step(world: &mut World, conns: &mut [Option<ConnId>; 4], what: u8, host: usize, key: usize) {
    let conn = conns[host];
    match (what, conn) {
        (0, _) => {
            let mut task = world.task(KEYS[key], &HOSTS[..=host]);
            task.queue = key % 2 == 1;
            let _ = world.ask(request::Request::Dispatch(task));
        }
        (1, _) if world.up => world.go_away(),
        (1, _) => world.come_up(true),
        (2, Some(conn)) => {
            world.end(conn, End::Reset);
            conns[host] = None;
        }
        (3, _) => {
            let _ = world.ask(request::Request::Command {
                text: "uptime".to_owned(),
                hosts: None,
                cid: format!("{:032x}", world.next),
                target: None,
            });
        }
        (_, None) => {
            let conn = world.open(&format!("{}:4000", HOSTS[host]));
            match key {
                0 => world.hello_with(conn, HOSTS[host], Some("aa"), None, true),
                1 => world.hello_with(conn, HOSTS[host], Some("bb"), Some(7000), false),
                _ => world.beat(conn),
            }
            conns[host] = Some(conn);
        }
        (4, Some(conn)) => world.rcc(conn, ResultCode::Received, Some(KEYS[key])),
        (5, Some(conn)) => world.rcc(conn, ResultCode::Damaged, None),
        (6, Some(conn)) => world.rcc(conn, ResultCode::NoBook, Some(KEYS[key])),
        (7, Some(conn)) => world.report(conn, KEYS[key], Phase::Received, &["x", "y"]),
        (8, Some(conn)) => world.report(conn, KEYS[key], Phase::Ended, &["y"]),
        (9, Some(conn)) => world.report(conn, KEYS[key], Phase::Ended, &[]),
        (10, Some(conn)) => {
            let code = if key == 3 { CID } else { KEYS[key] };
            let header = results::header(code, "x", b"output", key as i32);
            if world.send(conn, Message::Result(header), None) == Flow::Raw(6) {
                for bytes in [&b"out"[..], b"put"] {
                    let _ = world.input(Input::Raw { conn, bytes });
                }
            }
            world.settle();
        }
        (_, Some(conn)) => world.beat(conn),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn core_and_store_agree_in_the_end_and_nothing_is_left(
        steps in prop::collection::vec(
            (0_u8..14, 0_usize..4, 0_usize..4, prop_oneof![0_u64..50, 0_u64..20_000, 0_u64..3_000_000]),
            1..60,
        )
    ) {
        run(steps);
    }
}
