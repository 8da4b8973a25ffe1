//! Dispatches and questions, and outages while they are in progress.

use super::*;
use crate::ids::TaskKey;
use crate::limits::DISPATCHES_WAITING_MAX;
use crate::store::op::{Dispatch, Found, HeldTask, Question, Read, Stored, TaskState, TaskStates};

pub(super) fn dispatch(request: u64) -> Op {
    Op::Dispatch(Box::new(Dispatch {
        request,
        rollout: None,
        key: TaskKey::parse(&format!("AC{request}"), "AC").unwrap(),
        created: UnixMs(1),
        queue: false,
        commands: vec![("uptime".to_owned(), 1.0)],
        hosts: vec![(HostId::checked("10.0.0.7").unwrap(), TaskState::Sent)].into(),
        rings: Vec::new(),
        epoch: 0,
        stamp: Stamp {
            at: UnixMs(1),
            seq: request,
        },
    }))
}

fn read(ticket: u64) -> Op {
    Op::Read(Box::new(Read {
        ticket,
        question: Question::Output {
            code: "AC1".to_owned(),
            host: HostId::checked("10.0.0.7").unwrap(),
            command: "uptime".to_owned(),
        },
    }))
}

fn states() -> Op {
    Op::TaskStates(Box::new(TaskStates {
        key: TaskKey::parse("AC1", "AC").unwrap(),
        states: Vec::new(),
        over: false,
        last: false,
    }))
}

/// Results of the dispatches so far, in order.
fn ended(bench: &Bench) -> Vec<(u64, Stored)> {
    let stored = bench.seen.iter().filter_map(|outcome| match outcome {
        Outcome::Dispatched { request, stored } => Some((*request, stored.clone())),
        _ => None,
    });
    stored.collect()
}

/// The questions answered so far, and whether each was run.
fn answered(bench: &Bench) -> Vec<(u64, bool)> {
    let found = bench.seen.iter().filter_map(|outcome| match outcome {
        Outcome::Read { ticket, found } => Some((*ticket, !matches!(found, Found::Nothing(_)))),
        _ => None,
    });
    found.collect()
}

fn undone() -> Stored {
    Stored::Undone("the store is unavailable".to_owned())
}

#[test]
fn tasks_come_in_pages_before_the_first_connection() {
    let mut bench = Bench::new(ROOM);
    let task = |n: u32| HeldTask {
        rollout: None,
        epoch: 0,
        key: TaskKey::parse(&format!("AC{n}"), "AC").unwrap(),
        created: UnixMs(1),
        queue: false,
        request: u64::from(n),
        commands: Vec::new(),
        hosts: Vec::new(),
        expires: false,
    };
    bench.world.get().tasks = (0..3).map(task).collect();
    bench.pass(1);
    let kind = |outcome: &Outcome| match outcome {
        Outcome::Held(_) => 'h',
        Outcome::Tasks(tasks) if tasks.len() == 1 => 't',
        Outcome::Available { .. } => 'u',
        _ => '?',
    };
    let told = |bench: &Bench| bench.seen.iter().map(kind).collect::<String>();
    assert_eq!(told(&bench), "hhtttu");
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(told(&bench), "hhtttu?hhu");
}

#[test]
fn tasks_are_read_again_after_an_interrupted_takeover() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().silent = vec!["b".to_owned()];
    bench.world.get().cut_taking = true;
    bench.world.get().tasks = vec![HeldTask {
        rollout: None,
        epoch: 0,
        key: TaskKey::parse("AC1", "AC").unwrap(),
        created: UnixMs(1),
        queue: false,
        request: 1,
        commands: Vec::new(),
        hosts: Vec::new(),
        expires: false,
    }];
    bench.pass(90_000);
    assert_eq!(bench.session, 2);
    let told =
        |outcome: &Outcome| matches!(outcome, Outcome::InheritedTasks(tasks) if tasks.len() == 1);
    assert_eq!(bench.count(told), 1);
    bench.world.get().error = away();
    bench.pass(2_000);
    bench.world.get().error = None;
    bench.pass(2_000);
    assert_eq!((bench.session, bench.count(told)), (3, 1), "only once");
}

#[test]
fn a_data_loss_is_reported_and_a_restore_is_state() {
    let mut bench = Bench::up(ROOM);
    let lost_data = |bench: &Bench| {
        let last = bench.seen.iter().rev().find_map(|outcome| match outcome {
            Outcome::Available { lost_data, .. } => Some(*lost_data),
            _ => None,
        });
        last.unwrap()
    };
    assert!(!lost_data(&bench));
    for is_empty in [true, false] {
        bench.world.get().error = away();
        bench.pass(1_001);
        bench.world.get().is_empty = is_empty;
        bench.world.get().error = None;
        bench.pass(1_001);
        assert_eq!(lost_data(&bench), is_empty);
    }
    let Op::Dispatch(task) = dispatch(7) else {
        panic!("a dispatch");
    };
    bench.give([Op::Restore(task)]);
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.world.get().error = None;
    bench.pass(1_001);
    let told = |o: &Outcome| matches!(o, Outcome::Restored { .. } | Outcome::Dispatched { .. });
    assert_eq!(bench.count(told), 0, "it is forgotten, and not settled");
}

#[test]
fn dispatches_and_questions_run_while_available() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1), report(1), states(), read(2), dispatch(2)]);
    bench.pass(50);
    assert_eq!(ended(&bench), [(1, Stored::Whole), (2, Stored::Whole)]);
    assert_eq!(answered(&bench), [(2, true)]);
    assert_eq!(bench.acknowledged().0, [1]);
    assert_eq!(bench.world.get().state, 1);
    assert_eq!(bench.world.get().runs, [5]);
    // One for an older connection is begun: it is no state.
    bench.worker.take(Batch {
        session: 0,
        ops: vec![states(), dispatch(3), read(4)],
    });
    bench.pass(50);
    assert_eq!(ended(&bench).len(), 3);
    assert_eq!(answered(&bench).len(), 2);
    assert_eq!(bench.world.get().state, 1);
}

#[test]
fn dispatches_and_questions_are_answered_while_unavailable() {
    let mut bench = Bench::new(ROOM);
    bench.world.get().error = away();
    bench.give([dispatch(1), read(1)]);
    bench.turn();
    assert_eq!(ended(&bench), [(1, undone())]);
    assert_eq!(answered(&bench), [(1, false)]);
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(bench.session, 1);
    assert!(bench.world.get().settled.is_empty());
    assert!(bench.world.get().dispatched.is_empty());
}

#[test]
fn an_unsettled_dispatch_is_finished_after_the_spool() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1), report(1), dispatch(2), read(1), report(2)]);
    bench.world.get().cut = vec![2];
    bench.pass(50);
    assert_eq!(ended(&bench), [(1, Stored::Whole)]);
    assert_eq!(answered(&bench), [(1, false)]);
    bench.pass(1_001);
    assert_eq!(bench.world.get().settled, [(2, true)]);
    assert_eq!(ended(&bench)[1..], [(2, Stored::Whole)]);
    // After the spool, before the store is available.
    assert_eq!(bench.world.get().log, [1, 1, 2]);
    let place = |what: fn(&Outcome) -> bool| bench.seen.iter().position(what).unwrap();
    let settled = place(|o| matches!(o, Outcome::Dispatched { request: 2, .. }));
    assert!(settled < place(|o| matches!(o, Outcome::Available { session: 2, .. })));
    assert!(settled > place(|o| matches!(o, Outcome::Unavailable(_))));
}

#[test]
fn an_expired_unsettled_dispatch_is_removed() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1)]);
    bench.pass(30);
    bench.world.get().error = away();
    bench.give([dispatch(2)]);
    bench.pass(10_000);
    assert!(ended(&bench).is_empty(), "nothing is known of them");
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(bench.world.get().settled, [(1, false), (2, false)]);
    assert!(matches!(
        ended(&bench)[..],
        [(1, Stored::Undone(_)), (2, Stored::Undone(_))]
    ));
}

#[test]
fn a_dispatch_is_settled_once_despite_outages() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1)]);
    for _ in 0..3 {
        bench.world.get().error = away();
        bench.pass(1_100);
        // Available for the test of the connection, and unavailable again before it is settled.
        bench.world.get().error = None;
        while !matches!(bench.worker.phase(), machine::Phase::Settle) {
            let next = bench.turn();
            if let Next::At(moment) = next {
                bench.world.get().now = moment;
            }
        }
    }
    bench.pass(2_000);
    assert_eq!(bench.world.get().settled, [(1, true)]);
    assert_eq!(ended(&bench), [(1, Stored::Whole)]);
}

#[test]
fn dispatches_are_bounded() {
    let mut bench = Bench::up(ROOM);
    let many = DISPATCHES_WAITING_MAX as u64 + 3;
    bench.give((0..many).map(dispatch));
    bench.turn();
    assert_eq!(ended(&bench).len(), 3, "refused at once");
    bench.world.get().error = away();
    bench.pass(1_001);
    bench.world.get().error = None;
    bench.pass(1_001);
    assert_eq!(ended(&bench).len() as u64, many);
    bench.give((0..many - 3).map(dispatch));
    bench.pass(50);
    assert_eq!(bench.world.get().dispatched.len() as u64, many - 3);
}

#[test]
fn a_dispatch_that_panics_alone_is_set_aside() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().mines = BTreeMap::from([(2, 1), (3, u32::MAX)]);
    bench.give([dispatch(1), dispatch(2)]);
    bench.pass(2_000);
    // After a panic pending dispatches are settled like after an outage.
    assert_eq!(ended(&bench), [(1, Stored::Whole), (2, Stored::Whole)]);
    bench.give([dispatch(3), dispatch(4), report(9)]);
    bench.pass(10_000);
    let ended = ended(&bench);
    assert!(matches!(ended[2], (3, Stored::Refused(_))), "{ended:?}");
    assert_eq!(ended[3], (4, Stored::Whole));
    assert_eq!(bench.acknowledged().0, [9]);
}

#[test]
fn the_end_settles_pending_operations() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1), read(2)]);
    bench.worker.end(ms(1_000));
    bench.worker.channel_is_empty();
    bench.pass(1);
    assert_eq!(ended(&bench), [(1, Stored::Whole)]);
    assert_eq!(answered(&bench), [(2, true)]);
    assert_eq!(bench.turn(), Next::Over);
}

#[test]
fn a_restore_is_repeated_after_another_data_loss() {
    let restore = || match dispatch(1) {
        Op::Dispatch(dispatch) => Op::Restore(dispatch),
        _ => unreachable!(),
    };
    let lost_data = |bench: &Bench, in_session| {
        let up = |outcome: &Outcome| matches!(outcome, Outcome::Available { session, lost_data: true, .. } if *session == in_session);
        bench.count(up) == 1
    };
    let away_and_back = |bench: &mut Bench| {
        bench.world.get().error = away();
        bench.pass(1_500);
        bench.world.get().error = None;
        bench.pass(1_500);
    };
    let mut bench = Bench::up(ROOM);
    bench.world.get().ours = false;
    bench.pass(5_001);
    assert!(lost_data(&bench, 2), "the lease was gone");
    bench.give([restore()]);
    bench.pass(1_000);
    // Our own set exists again, which shows nothing of the tasks.
    away_and_back(&mut bench);
    assert!(lost_data(&bench, 3));
    bench.give([restore()]);
    bench.pass(12_000);
    away_and_back(&mut bench);
    assert_eq!(bench.session, 4);
    assert!(!lost_data(&bench, 4), "long safe with the store");
}
