//! Dispatches and questions, and a store that goes away under them.

use super::*;
use crate::ids::TaskKey;
use crate::limits::DISPATCHES_WAITING_MAX;
use crate::store::op::{Dispatch, Found, HeldTask, Question, Read, Stored, TaskState, TaskStates};

pub(super) fn dispatch(request: u64) -> Op {
    Op::Dispatch(Box::new(Dispatch {
        request,
        key: TaskKey::parse(&format!("AC{request}"), "AC").unwrap(),
        created: UnixMs(1),
        queue: false,
        commands: vec![("uptime".to_owned(), 1.0)],
        hosts: vec![(HostId::checked("10.0.0.7").unwrap(), TaskState::Sent)],
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

/// The questions answered so far, and whether the store was there for them.
fn answered(bench: &Bench) -> Vec<(u64, bool)> {
    let found = bench.seen.iter().filter_map(|outcome| match outcome {
        Outcome::Read { ticket, found } => Some((*ticket, !matches!(found, Found::Nothing(_)))),
        _ => None,
    });
    found.collect()
}

fn undone() -> Stored {
    Stored::Undone("the store is away".to_owned())
}

#[test]
fn tasks_are_told_in_pages_before_the_first_up_and_never_again() {
    let mut bench = Bench::new(ROOM);
    let task = |n: u32| HeldTask {
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
        Outcome::Up { .. } => 'u',
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
fn tasks_are_told_again_when_taking_over_was_cut_short() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().silent = vec!["b".to_owned()];
    bench.world.get().cut_taking = true;
    bench.world.get().tasks = vec![HeldTask {
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
fn a_store_that_lost_its_contents_is_told_of_and_a_restore_is_state() {
    let mut bench = Bench::up(ROOM);
    let lost_data = |bench: &Bench| {
        let last = bench.seen.iter().rev().find_map(|outcome| match outcome {
            Outcome::Up { emptied, .. } => Some(*emptied),
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
fn while_it_is_up_they_are_run_like_all_else_and_states_have_no_outcome() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1), report(1), states(), read(2), dispatch(2)]);
    bench.pass(50);
    assert_eq!(ended(&bench), [(1, Stored::Whole), (2, Stored::Whole)]);
    assert_eq!(answered(&bench), [(2, true)]);
    assert_eq!(bench.acknowledged().0, [1]);
    assert_eq!(bench.world.get().state, 1);
    assert_eq!(bench.world.get().runs, [5]);
    // One of an older session is begun all the same: it is no state.
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
fn while_it_is_away_they_are_answered_at_once() {
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
fn one_that_it_went_away_under_is_finished_on_its_return_behind_the_spool() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1), report(1), dispatch(2), read(1), report(2)]);
    bench.world.get().cut = vec![2];
    bench.pass(50);
    assert_eq!(ended(&bench), [(1, Stored::Whole)]);
    assert_eq!(answered(&bench), [(1, false)]);
    bench.pass(1_001);
    assert_eq!(bench.world.get().settled, [(2, true)]);
    assert_eq!(ended(&bench)[1..], [(2, Stored::Whole)]);
    // Behind what was spooled, before the store is up.
    assert_eq!(bench.world.get().log, [1, 1, 2]);
    let place = |what: fn(&Outcome) -> bool| bench.seen.iter().position(what).unwrap();
    let settled = place(|o| matches!(o, Outcome::Dispatched { request: 2, .. }));
    assert!(settled < place(|o| matches!(o, Outcome::Up { session: 2, .. })));
    assert!(settled > place(|o| matches!(o, Outcome::Away(_))));
}

#[test]
fn one_that_nobody_waits_for_any_more_is_given_up() {
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
fn one_is_settled_however_often_it_goes_away_and_once() {
    let mut bench = Bench::up(ROOM);
    bench.give([dispatch(1)]);
    for _ in 0..3 {
        bench.world.get().error = away();
        bench.pass(1_100);
        // Back for the sign of life, and gone again before it is settled.
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
fn there_are_never_too_many() {
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
fn one_that_panics_is_run_again_and_then_put_aside_alone() {
    let mut bench = Bench::up(ROOM);
    bench.world.get().mines = BTreeMap::from([(2, 1), (3, u32::MAX)]);
    bench.give([dispatch(1), dispatch(2)]);
    bench.pass(2_000);
    // After a panic all that was was pending is settled like what the store went away under.
    assert_eq!(ended(&bench), [(1, Stored::Whole), (2, Stored::Whole)]);
    bench.give([dispatch(3), dispatch(4), report(9)]);
    bench.pass(10_000);
    let ended = ended(&bench);
    assert!(matches!(ended[2], (3, Stored::Refused(_))), "{ended:?}");
    assert_eq!(ended[3], (4, Stored::Whole));
    assert_eq!(bench.acknowledged().0, [9]);
}

#[test]
fn the_end_settles_what_is_in_the_hands() {
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
fn what_was_put_back_into_an_emptied_store_is_put_back_again_when_it_loses_its_last_seconds() {
    let restore = || match dispatch(1) {
        Op::Dispatch(dispatch) => Op::Restore(dispatch),
        _ => unreachable!(),
    };
    let lost_data = |bench: &Bench, in_session| {
        let up = |outcome: &Outcome| matches!(outcome, Outcome::Up { session, emptied: true, .. } if *session == in_session);
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
    // Our own set is there again, which says nothing of the tasks.
    away_and_back(&mut bench);
    assert!(lost_data(&bench, 3));
    bench.give([restore()]);
    bench.pass(12_000);
    away_and_back(&mut bench);
    assert_eq!(bench.session, 4);
    assert!(!lost_data(&bench, 4), "long safe with the store");
}
