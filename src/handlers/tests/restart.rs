//! Restarts and outages in the middle of a task.

use super::*;

/// A new core over the store of a killed server.
fn killed(world: World) -> World {
    let mut store = world.store;
    store.events.clear();
    let mut again = World::starting(store);
    again.ms = world.ms + 500;
    again
}

#[test]
fn tries_begin_again_and_work_continues() {
    let mut world = World::new();
    let mut conns = Vec::new();
    for ip in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        conns.push(world.plain(ip));
    }
    world.dispatch("AC1", &[]).unwrap();
    world.report(conns[1], "AC1", Phase::Received, &["x"]);
    world.report(conns[2], "AC1", Phase::Ended, &[]);
    world.end(conns[3], End::Closed);
    let mut world = killed(world);
    world.come_up(true);
    assert_eq!(
        world.sent_to(),
        ["10.0.0.1:6655 AC1"],
        "inherited, and still sent"
    );
    let states = ["sent", "working", "done", "sent"];
    for (i, state) in states.into_iter().enumerate() {
        assert_eq!(world.state("AC1", &format!("10.0.0.{}", i + 1)), state);
    }
    let busy = world.plain("10.0.0.2");
    world.pass(10 * TIMEOUT);
    assert_eq!(
        world.online(),
        ["10.0.0.2"],
        "at work it may still be silent"
    );
    let again = world.sent();
    assert_eq!(again.len(), 4, "all tries, while it is held to be online");
    world.report(busy, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.2"), "done");
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
}

#[test]
fn reports_before_the_tasks_are_known_count() {
    let mut world = World::new();
    for ip in ["10.0.0.1", "10.0.0.2"] {
        world.plain(ip);
    }
    world.dispatch("AC1", &[]).unwrap();
    let mut world = killed(world);
    let first = world.plain("10.0.0.1");
    let second = world.plain("10.0.0.2");
    world.report(first, "AC1", Phase::Ended, &[]);
    world.rcc(second, ResultCode::Received, Some("AC1"));
    let book = Message::Book(crate::codec::message::Book { task: "AC1".into() });
    let asking = world.open("10.0.0.2:2");
    assert_eq!(world.send(asking, book.clone(), None), Flow::Wait);
    world.come_up(true);
    assert_eq!(world.state("AC1", "10.0.0.1"), "done");
    assert_eq!(world.state("AC1", "10.0.0.2"), "answered");
    assert!(world.sent().is_empty());
    assert!(world.effects.contains(&Effect::Resume { conn: asking }));
    let _ = world.send(asking, book, None);
    assert!(matches!(world.words(asking)[..], [Word::Book { .. }]));
}

#[test]
fn a_failed_result_from_before_a_restart_is_remembered() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    results::send(&mut world, conn, "AC1", "uptime", b"no", 1);
    let mut world = killed(world);
    let conn = world.plain("10.0.0.1");
    world.come_up(true);
    world.report(conn, "AC1", Phase::Ended, &[]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "failed");
}

#[test]
fn a_queued_host_online_at_the_start_gets_its_task() {
    let mut world = World::new();
    let mut task = world.task("AC1", &["10.0.0.1"]);
    task.queue = true;
    let _ = world.ask(request::Request::Dispatch(task));
    let mut world = killed(world);
    world.plain("10.0.0.1");
    world.come_up(true);
    assert_eq!(world.sent_to(), ["10.0.0.1:6655 AC1"]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "sent");
}

#[test]
fn states_of_an_outage_are_written_afterwards() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.go_away();
    world.pass_beating(200_000, &[conn]);
    world.come_up(true);
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
    // A store that only hung loses the operations of its connection: all state is written again.
    let id = HostId::checked("10.0.0.1").unwrap();
    let task = world.store.tasks.get_mut("AC1").unwrap();
    task.states.insert(id, TaskState::Sent);
    world.pass_beating(5_100, &[conn]);
    assert_eq!(world.state("AC1", "10.0.0.1"), "unanswered");
}

#[test]
fn states_are_rewritten_until_a_connection_lasts() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    let mut world = killed(world);
    let conn = world.plain("10.0.0.1");
    world.report(conn, "AC1", Phase::Ended, &[]);
    let host = HostId::checked("10.0.0.1").unwrap();
    let forget = |world: &mut World| {
        let task = world.store.tasks.get_mut("AC1").unwrap();
        task.states.insert(host.clone(), TaskState::Working);
    };
    let stored = |world: &World| world.store.tasks["AC1"].states[&host];
    world.come_up(true);
    // It becomes unavailable again and again before it answers.
    for _ in 0..5 {
        world.go_away();
        forget(&mut world);
        world.sessions += 1;
        world.up = true;
        let _ = world.input(Input::Outcome(Outcome::Available {
            session: world.sessions,
            lease_clear: true,
            lost_data: false,
        }));
        while world.core.pull(world.at(), 64).is_some() {}
        world.pass_beating(20_000, &[conn]);
        forget(&mut world);
    }
    // It may lose its last seconds, including confirmed states.
    for _ in 0..5 {
        world.go_away();
        world.come_up(true);
        world.pass_beating(9_000, &[conn]);
        assert_eq!(stored(&world), TaskState::Done);
        forget(&mut world);
    }
    world.go_away();
    world.come_up(true);
    assert_eq!(stored(&world), TaskState::Done);
    world.pass_beating(20_000, &[conn]);
    world.go_away();
    forget(&mut world);
    world.come_up(true);
    world.pass_beating(20_000, &[conn]);
    assert_eq!(
        stored(&world),
        TaskState::Working,
        "it had come there for good"
    );
}

#[test]
fn states_of_thousands_are_written_some_at_a_time() {
    let mut world = World::new();
    let hosts: Vec<String> = (0..3_000).map(|i| format!("h{i}")).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let mut task = world.task("AC1", &names);
    task.queue = true;
    let _ = world.ask(request::Request::Dispatch(task));
    world.go_away();
    world.up = true;
    let _ = world.input(Input::Outcome(Outcome::Available {
        session: 2,
        lease_clear: true,
        lost_data: false,
    }));
    let (mut ops, mut states) = (0, BTreeSet::new());
    while let Some(batch) = world.core.pull(world.at(), 2) {
        assert!(batch.ops.len() <= 2);
        for op in batch.ops {
            if let Op::TaskStates(op) = op {
                ops += 1;
                assert!(!op.over && op.states.len() <= crate::limits::HOSTS_PER_OP_MAX);
                states.extend(op.states.into_iter().map(|(host, _)| host));
            }
        }
    }
    assert_eq!((ops, states.len()), (3, 3_000));
}

#[test]
fn an_emptied_store_gets_the_open_tasks_again() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.plain("10.0.0.2");
    world.dispatch("AC1", &[]).unwrap();
    world.dispatch("AC2", &["10.0.0.1"]).unwrap();
    world.dispatch("AC3", &["10.0.0.9"]).unwrap();
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    world.report(conn, "AC2", Phase::Ended, &[]);
    let before = world.store.tasks["AC1"].request;
    world.go_away();
    world.store.tasks.clear();
    world.come_up_as(true, true);
    // A task in a terminal state stays absent.
    assert_eq!(world.store.tasks.keys().collect::<Vec<_>>(), ["AC1"]);
    let task = &world.store.tasks["AC1"];
    assert_eq!(task.request, before, "the claim is the one it had");
    let states: Vec<TaskState> = task.states.values().copied().collect();
    assert_eq!(states, [TaskState::Answered, TaskState::Sent]);
    // No further rewrite follows.
    world.go_away();
    world.come_up(true);
    assert_eq!(world.store.restored, 1);
}

#[test]
fn interrupted_rewrites_are_repeated() {
    let mut world = World::new();
    world.plain("10.0.0.1");
    for key in 0..20 {
        world.dispatch(&format!("AC{key}"), &[]).unwrap();
    }
    world.go_away();
    world.store.tasks.clear();
    world.up = true;
    let _ = world.input(Input::Outcome(Outcome::Available {
        session: 2,
        lease_clear: true,
        lost_data: true,
    }));
    let mut handed = 0;
    while let Some(batch) = world.core.pull(world.at(), 100) {
        let restores = batch.ops.iter().filter(|op| matches!(op, Op::Restore(_)));
        handed += restores.count();
    }
    assert_eq!(
        handed,
        crate::limits::RESTORES_IN_FLIGHT_MAX,
        "a few at a time"
    );
    world.go_away();
    world.come_up(true);
    assert_eq!(world.store.tasks.len(), 20);
    assert_eq!(world.store.restored, 20);
}

#[test]
fn a_half_restored_ended_task_stays_ended() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.report(conn, "AC1", Phase::Ended, &[]);
    let mut world = killed(world);
    world.come_up(true);
    assert_eq!(world.state("AC1", "10.0.0.1"), "done");
    world.go_away();
    // It lost its data, and got back what it had confirmed lately, but not the final states.
    let states = &mut world.store.tasks.get_mut("AC1").unwrap().states;
    states
        .values_mut()
        .for_each(|state| *state = TaskState::Working);
    world.come_up_as(true, true);
    world.settle();
    let states: Vec<TaskState> = world.store.tasks["AC1"].states.values().copied().collect();
    assert_eq!(states, [TaskState::Done]);
}

#[test]
fn no_book_refers_to_a_key_before_the_restart() {
    let mut world = World::new();
    let conn = world.plain("10.0.0.1");
    world.dispatch("AC1", &[]).unwrap();
    world.pass(10);
    world.dispatch("AC2", &[]).unwrap();
    world.rcc(conn, ResultCode::Received, Some("AC1"));
    let mut world = killed(world);
    world.come_up(true);
    let conn = world.plain("10.0.0.1");
    world.rcc(conn, ResultCode::NoBook, None);
    assert_eq!(world.state("AC1", "10.0.0.1"), "no-book");
    assert_eq!(world.state("AC2", "10.0.0.1"), "sent");
}

/// Passes on the hosts and tasks of a dead node, as the store thread does.
fn inherit(world: &mut World, left: &Model) {
    let _ = world.input(Input::Outcome(Outcome::Ended(left.held())));
    let _ = world.input(Input::Outcome(Outcome::InheritedTasks(left.held_tasks())));
    world.settle();
}

#[test]
fn hosts_of_a_dead_node_are_lost_unless_connected() {
    let mut gone = World::new();
    for ip in ["10.0.0.1", "10.0.0.2"] {
        gone.plain(ip);
    }
    let mut world = World::new();
    world.plain("10.0.0.1");
    let told = world.told.len();
    world.store.claims.extend(gone.store.claims.clone());
    inherit(&mut world, &gone.store);
    assert_eq!(world.online(), ["10.0.0.1"]);
    let events: Vec<_> = world.told[told..]
        .iter()
        .filter(|event| event.contains("offline"))
        .collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(
        events[0].contains("10.0.0.2") && events[0].contains("lost"),
        "{events:?}"
    );
    assert_eq!(world.core.stats().offlines[Reason::Lost as usize], 1);
}

#[test]
fn tasks_of_a_dead_node_continue_here() {
    let mut gone = World::new();
    let conn = gone.plain("10.0.0.1");
    gone.plain("10.0.0.2");
    gone.dispatch("AC1", &[]).unwrap();
    gone.report(conn, "AC1", Phase::Ended, &[]);
    let mut world = World::new();
    world.plain("10.0.0.2");
    inherit(&mut world, &gone.store);
    world.store.tasks.append(&mut gone.store.tasks);
    assert_eq!(
        world.sent_to(),
        ["10.0.0.2:6655 AC1"],
        "sent, and not answered"
    );
    assert_eq!(world.state("AC1", "10.0.0.1"), "done");
    assert_eq!(world.state("AC1", "10.0.0.2"), "sent");
}
