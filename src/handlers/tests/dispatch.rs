//! A task is requested, stored and sent.

use super::*;
use crate::limits::{BOOKS_BYTES_MAX, DISPATCHES_WAITING_MAX, TASKS_MAX};

#[test]
fn a_task_is_sent_to_all_online_hosts_at_once() {
    let mut world = World::new();
    let conns: Vec<ConnId> = (1..=20)
        .map(|i| world.plain(&format!("10.0.0.{i}")))
        .collect();
    world.end(conns[1], End::Closed);
    let told = world.dispatch("AC1", &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]);
    let states = ["10.0.0.1 sent", "10.0.0.2 offline", "10.0.0.3 sent"];
    assert_eq!(told.unwrap(), states);
    assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC1", "10.0.0.3:6655 AC1"]);
    assert!(
        world.told.contains(&"dispatch AC1 3".to_owned()),
        "all that are named"
    );
    assert_eq!(world.dispatch("AC2", &[]).unwrap().len(), 19);
    assert_eq!(world.sent().len(), 19);
    world.plain("10.0.0.2");
    assert!(world.sent().is_empty(), "offline stays offline");
    assert_eq!(world.state("AC1", "10.0.0.2"), "offline");
}

#[test]
fn nothing_is_sent_before_it_is_stored() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    world.up = false;
    let task = world.task("AC1", &[]);
    let requester = world.ask(request::Request::Dispatch(task));
    world.pass(100);
    assert!(world.sent().is_empty() && world.answer_to(requester).is_none());
    world.up = true;
    world.settle();
    assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC1"]);
    assert!(world.answer_to(requester).is_some());
}

#[test]
fn invalid_requests_are_refused_without_effect() {
    let mut world = World::new();
    assert_eq!(world.dispatch("AC1", &[]), Err(ErrorKind::Wrong), "nobody");
    assert!(
        world.dispatch("AC0", &["10.0.0.1"]).is_ok(),
        "named hosts may be offline"
    );
    world.plain("10.0.0.1");
    for key in ["AC", "BC1", "AC_1", "AC:1", "AC{1}", ""] {
        assert_eq!(world.dispatch(key, &[]), Err(ErrorKind::Wrong), "{key}");
    }
    assert_eq!(world.dispatch("AC1", &["a b"]), Err(ErrorKind::Wrong));
    let task = world.task("AC1", &[]);
    let wrong = [
        NewTask {
            hosts: Some(Vec::new()),
            ..task.clone()
        },
        NewTask {
            commands: Vec::new(),
            ..task.clone()
        },
        NewTask {
            commands: vec![("x".to_owned(), f64::NAN)],
            ..task.clone()
        },
        NewTask {
            commands: vec![("x".repeat(40_000), 1.0)],
            ..task.clone()
        },
    ];
    for task in wrong {
        let (kind, _) = error(world.asked(request::Request::Dispatch(task)));
        assert_eq!(kind, ErrorKind::Wrong);
    }
    assert!(world.dispatch("AC1", &[]).is_ok());
}

#[test]
fn a_key_is_used_once() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    assert!(world.dispatch("AC1", &[]).is_ok());
    assert_eq!(world.dispatch("AC1", &[]), Err(ErrorKind::Taken));
    let task = world.store.tasks["AC1"].clone();
    world.store.tasks.insert("AC2".to_owned(), task);
    assert_eq!(
        world.dispatch("AC2", &[]),
        Err(ErrorKind::Taken),
        "also by another than us"
    );
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn an_outage_refuses_new_and_unsent_dispatches() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    world.up = false;
    let task = world.task("AC1", &[]);
    let requester = world.ask(request::Request::Dispatch(task));
    world.go_away();
    let (kind, _) = error(world.answer_to(requester).unwrap());
    assert_eq!(kind, ErrorKind::NotNow);
    assert_eq!(world.dispatch("AC2", &[]), Err(ErrorKind::NotNow));
    world.come_up(true);
    assert!(world.dispatch("AC1", &[]).is_ok(), "nothing was used up");
}

#[test]
fn a_late_stored_dispatch_is_sent() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.up = false;
    let task = world.task("AC1", &[]);
    let requester = world.ask(request::Request::Dispatch(task));
    let batch = world.core.pull(world.at(), 64).unwrap();
    world.go_away();
    world.pass(9_900);
    assert!(world.answer_to(requester).is_none());
    world.pass(200);
    let (kind, text) = error(world.answer_to(requester).unwrap());
    assert!(kind == ErrorKind::NotNow && text.contains("outcome unknown"));
    world.beat(conn);
    for op in batch.ops {
        let outcome = world.store.run(op);
        let _ = world.input(Input::Outcome(outcome.unwrap()));
    }
    world.come_up(true);
    assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC1"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "sent");
}

#[test]
fn refused_dispatches_are_not_sent() {
    for (stored, kind) in [
        (Stored::Refused("wrong type".to_owned()), ErrorKind::Wrong),
        (Stored::Undone("gone".to_owned()), ErrorKind::NotNow),
        (Stored::Taken, ErrorKind::Taken),
    ] {
        let mut world = World::new();
        world.plain("10.0.0.1");
        world.up = false;
        let task = world.task("AC1", &[]);
        let request = task.request;
        let requester = world.ask(request::Request::Dispatch(task));
        let _ = world.input(Input::Outcome(Outcome::Dispatched { request, stored }));
        world.send_out();
        assert_eq!(error(world.answer_to(requester).unwrap()).0, kind);
        assert!(world.sent().is_empty());
    }
}

#[test]
fn dispatches_in_progress_are_bounded() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    world.up = false;
    for number in 0..DISPATCHES_WAITING_MAX {
        let task = world.task(&format!("AC{number}"), &[]);
        let requester = world.ask(request::Request::Dispatch(task));
        assert!(world.answer_to(requester).is_none());
    }
    assert_eq!(world.dispatch("ACx", &[]), Err(ErrorKind::NotNow));
    world.up = true;
    world.settle();
    assert_eq!(world.sent().len(), DISPATCHES_WAITING_MAX);
}

#[test]
fn only_ended_tasks_make_room_in_full_tables() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    let mut task = world.task("AC0", &[]);
    task.commands = vec![("x".repeat(29_000), 1.0)];
    let mut taken = 0;
    loop {
        world.next += 1;
        task.request = u64::from(world.next);
        task.key = format!("AC{taken}");
        match world.asked(request::Request::Dispatch(task.clone())) {
            request::Response::Dispatched { .. } => taken += 1,
            answer => break assert_eq!(error(answer).0, ErrorKind::NotNow),
        }
    }
    assert_eq!(taken, (BOOKS_BYTES_MAX / 29_032).min(TASKS_MAX));
    let conn = world.plain("10.0.0.1");
    world.report(conn, "AC7", Phase::Ended, &[]);
    let answer = world.asked(request::Request::Dispatch(task));
    assert!(matches!(answer, request::Response::Dispatched { .. }));
    assert_eq!(world.core.stats().tasks_let_go, 1);
    assert_eq!(world.dispatch("AC7", &["10.0.0.1"]), Err(ErrorKind::Taken));
}

#[test]
fn unknown_hosts_are_listed_in_every_answer() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.plain("10.0.0.2");
    world.end(conn, End::Closed);
    for queue in [false, true] {
        let mut task = world.task(
            if queue { "AC2" } else { "AC1" },
            &["10.0.0.9", "10.0.0.1", "10.0.0.2", "10.0.0.8"],
        );
        task.queue = queue;
        let request::Response::Dispatched { unknown, .. } =
            world.asked(request::Request::Dispatch(task))
        else {
            panic!("it is stored");
        };
        let unknown: Vec<&str> = unknown.iter().map(HostId::as_str).collect();
        assert_eq!(unknown, ["10.0.0.9", "10.0.0.8"]);
    }
    let all = world.task("AC3", &[]);
    let answer = world.asked(request::Request::Dispatch(all));
    assert!(matches!(answer, request::Response::Dispatched { unknown, .. } if unknown.is_empty()));
}

#[test]
fn queued_hosts_get_the_task_when_online() {
    let mut world = World::new();
    let mut task = world.task("AC1", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    task.queue = true;
    let conn = world.plain("10.0.0.3");
    let answer = world.asked(request::Request::Dispatch(task));
    assert!(matches!(answer, request::Response::Dispatched { hosts, .. }
        if hosts[0].1 == TaskState::Queued && hosts[2].1 == TaskState::Sent));
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    world.report(conn, "AC1", Phase::Ended, &[]);
    world.sent();
    world.pass(86_400_000);
    assert!(world.sent().is_empty());
    let conn = world.plain("10.0.0.1");
    assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC1"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "sent");
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    world.report(conn, "AC1", Phase::Ended, &[]);
    world.pass(6 * 86_400_000 + 1_000);
    assert_eq!(world.state("AC1", "10.0.0.2"), "expired");
    world.plain("10.0.0.2");
    assert!(world.sent().is_empty());
    world.pass(7 * 86_400_000 + 1_000);
    assert_eq!(
        world.core.tasks.table().taken(),
        Default::default(),
        "and is let go"
    );
}

#[test]
fn pushes_use_the_connection_others_their_port() {
    let mut world = World::new();
    let conn = world.open("10.0.0.1:4000");
    world.hello_with(conn, "nat", None, Some(7000), true);
    let other = world.open("10.0.0.2:4000");
    world.hello_with(other, "port", None, Some(7000), false);
    let third = world.open("10.0.0.3:4000");
    world.hello(third, "usual", None);
    world.dispatch("AC1", &["nat", "port", "usual"]).unwrap();
    let push = format!("push {} AC1", conn.slot);
    let expected = [push.as_str(), "10.0.0.2:7000 AC1", "10.0.0.3:6655 AC1"];
    assert_eq!(world.sent_to(), expected);
    assert_eq!(world.core.stats().sends, 3);
}

#[test]
fn hosts_at_one_address_and_port_share_a_datagram() {
    let mut world = World::new();
    let plain = world.plain("10.0.0.1");
    let mut conns = vec![plain];
    for (port, name, udp) in [(1, "a", None), (2, "b", None), (3, "c", Some(7000))] {
        let conn = world.open(&format!("10.0.0.1:{port}"));
        world.hello_with(conn, name, None, udp, false);
        conns.push(conn);
    }
    world.dispatch("AC1", &["10.0.0.1", "a", "b", "c"]).unwrap();
    let mut sent = world.sent_to();
    sent.sort();
    assert_eq!(sent, ["10.0.0.1:6655 AC1", "10.0.0.1:7000 AC1"]);
    world.pass_beating(120_000, &conns);
    let usual = |sent: &&(u64, String, String)| sent.1 == "10.0.0.1:6655";
    assert_eq!(world.sent().iter().filter(usual).count(), 4);
    for host in ["10.0.0.1", "a", "b", "c"] {
        assert_eq!(world.state("AC1", host), "unanswered");
    }
}

#[test]
fn ten_thousand_hosts_are_sent_to_a_budget_a_turn() {
    let mut world = World::new();
    world.core.env.rules.hosts_max = 20_000;
    world.core.fleet = crate::handlers::fleet::Fleet::new(&world.core.env.rules);
    for i in 0..10_000 {
        world.plain(&format!("10.1.{}.{}", i / 250, i % 250));
    }
    world.up = false;
    let task = world.task("AC1", &[]);
    let request = task.request;
    let requester = world.ask(request::Request::Dispatch(task));
    let stored = Stored::Whole;
    let _ = world.input(Input::Outcome(Outcome::Dispatched { request, stored }));
    world.finish_jobs();
    assert!(world.answer_to(requester).is_some());
    let (mut fx, mut datagrams, mut turns) = (Effects::default(), Vec::new(), 0);
    while world.core.has_sends() {
        let before = datagrams.len();
        let _ = world
            .core
            .take_sends(world.at(), 512, &mut datagrams, &mut fx);
        assert!(datagrams.len() - before <= 512);
        turns += 1;
    }
    assert_eq!((datagrams.len(), turns), (10_000, 20));
}

#[test]
fn a_sent_task_is_awaited_until_its_answer() {
    let mut world = World::new();
    let asked = world.plain("10.0.0.1");
    let other = world.plain("10.0.0.2");
    assert!(!world.core.owes_answer(asked));
    world.dispatch("AC1", &["10.0.0.1"]).unwrap();
    assert_eq!(world.sent().len(), 1);
    assert!(world.core.owes_answer(asked) && !world.core.owes_answer(other));
    world.beat(asked);
    assert!(world.core.owes_answer(asked), "a heartbeat is no answer");
    world.rcc(asked, ResultCode::Received, None);
    assert!(!world.core.owes_answer(asked));
    world.end(asked, End::Closed);
    assert!(!world.core.owes_answer(asked), "nobody is there");
}

#[test]
fn tasks_are_listed_newest_first_in_pages() {
    let mut world = World::new();
    for i in 1..=5 {
        world.plain(&format!("10.0.0.{i}"));
    }
    for number in 0..7 {
        world.pass(10);
        world.dispatch(&format!("AC{number}"), &[]).unwrap();
    }
    let (mut cursor, mut keys) = (0, Vec::new());
    loop {
        let ask = request::Request::Tasks { cursor, limit: 3 };
        let request::Response::Tasks { tasks, next } = world.asked(ask) else {
            panic!("tasks are listed");
        };
        assert!(
            tasks
                .iter()
                .all(|task| task.hosts == [(TaskState::Sent, 5)])
        );
        keys.extend(tasks.into_iter().map(|task| task.key.to_string()));
        let Some(next) = next else { break };
        cursor = next;
    }
    assert_eq!(keys, ["AC6", "AC5", "AC4", "AC3", "AC2", "AC1", "AC0"]);
    let (mut cursor, mut hosts) = (0, Vec::new());
    loop {
        let key = "AC3".to_owned();
        let ask = request::Request::Task {
            key,
            cursor,
            limit: 2,
        };
        let request::Response::Task(view) = world.asked(ask) else {
            panic!("a task is shown");
        };
        assert_eq!(view.commands, [("uptime".to_owned(), 1.0)]);
        hosts.extend(view.hosts.into_iter().map(|host| host.0.to_string()));
        let Some(next) = view.next else { break };
        cursor = next;
    }
    assert_eq!(hosts.len(), 5);
    let ask = request::Request::Task {
        key: "AC99".to_owned(),
        cursor: 0,
        limit: 2,
    };
    assert_eq!(error(world.asked(ask)).0, ErrorKind::Unknown);
}

#[test]
fn unanswered_questions_end_as_not_now() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    let ask = || request::Request::Task {
        key: "AC1".to_owned(),
        cursor: 0,
        limit: 2,
    };
    world.up = false;
    let first = world.ask(ask());
    world.pass(10_010);
    assert_eq!(error(world.answer_to(first).unwrap()).0, ErrorKind::NotNow);
    let second = world.ask(ask());
    world.go_away();
    assert_eq!(error(world.answer_to(second).unwrap()).0, ErrorKind::NotNow);
    assert_eq!(error(world.asked(ask())).0, ErrorKind::NotNow);
}

#[test]
fn a_task_that_left_the_tables_is_read_from_the_store() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.report(conn, "AC1", Phase::Ended, &[]);
    let before = world.asked(request::Request::Task {
        key: "AC1".to_owned(),
        cursor: 0,
        limit: 2,
    });
    let slot = world
        .core
        .tasks
        .table()
        .find(&TaskKey::parse("AC1", "AC").unwrap());
    world.core.tasks.table().remove(slot.unwrap());
    let after = world.asked(request::Request::Task {
        key: "AC1".to_owned(),
        cursor: 0,
        limit: 2,
    });
    let (request::Response::Task(before), request::Response::Task(after)) = (before, after) else {
        panic!("both are shown");
    };
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

#[test]
fn queued_tasks_leave_room_for_urgent_ones() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    let commands: Vec<(String, f64)> = vec![("x".repeat(29_000), 1.0)];
    let mut waiting = 0;
    loop {
        let mut task = world.task(&format!("AC{waiting}"), &["off"]);
        task.queue = true;
        task.commands = commands.clone();
        match world.asked(request::Request::Dispatch(task)) {
            request::Response::Dispatched { .. } => waiting += 1,
            answer => {
                let (kind, text) = error(answer);
                assert_eq!(kind, ErrorKind::NotNow);
                assert!(text.contains("wait for hosts that are offline"), "{text}");
                break;
            }
        }
        world.effects.clear();
    }
    assert_eq!(waiting, BOOKS_BYTES_MAX / 4 * 3 / 29_032);
    for number in 0..100 {
        let mut task = world.task(&format!("ACU{number}"), &["10.0.0.1"]);
        task.queue = true;
        task.commands = commands.clone();
        assert!(matches!(
            world.asked(request::Request::Dispatch(task)),
            request::Response::Dispatched { .. }
        ));
    }
}
