//! Properties with arbitrary, repeated and reordered messages.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::store::op;
use crate::store::progress::{After, Before, merge};

/// Sequences of messages tried in a case; each message is a batch of its own.
const SEQUENCES: u32 = 24;

/// A message about `key`, of host `h`.
fn message(key: &TaskKey, told: &Told) -> op::Progress {
    let (phase, working, complete, oncall) = told;
    op::Progress {
        origin: None,
        host: host("h"),
        key: key.clone(),
        phase: *phase,
        working: working.clone(),
        complete: complete.clone(),
        oncall: oncall.clone(),
        unknown: false,
        silent: false,
        told: None,
        lifetime: Default::default(),
        state: None,
        stamp: stamp(1),
    }
}

/// Phase, working, complete, oncall.
type Told = (Phase, Option<String>, Vec<String>, Vec<String>);

/// All messages of a host with a book of `commands` commands, in order.
fn whole_task(commands: usize) -> Vec<Told> {
    let names: Vec<String> = (0..commands).map(|n| format!("c{n}")).collect();
    let mut all = vec![(Phase::Received, None, Vec::new(), names.clone())];
    for at in 0..commands {
        let (done, left) = names.split_at(at);
        all.push((
            Phase::Began,
            left.first().cloned(),
            done.to_vec(),
            left.to_vec(),
        ));
        let (done, left) = names.split_at(at + 1);
        all.push((Phase::Ended, None, done.to_vec(), left.to_vec()));
    }
    all
}

/// Arbitrary messages about four commands, inconsistent ones included.
fn anything() -> impl Strategy<Value = Told> {
    let phase = prop::sample::select(vec![Phase::Received, Phase::Began, Phase::Ended]);
    let commands = || prop::collection::vec("[a-d]", 0..4);
    (phase, proptest::option::of("[a-d]"), commands(), commands())
}

/// State of host `h` in the keys of a task.
fn known(s: &mut Box<dyn Subject>, task: &TaskKey) -> Before {
    let entries = |dump| match dump {
        Some(Dump::List(entries)) => entries,
        None => Vec::new(),
        other => panic!("no list: {other:?}"),
    };
    let (complete, oncall) = (format!("{task}_h_complete"), format!("{task}_h_oncall"));
    let complete_names = fields(s, &format!("{task}_complete"));
    let oncall_names = fields(s, &format!("{task}_oncall"));
    for (names, list) in [(&complete_names, &complete), (&oncall_names, &oncall)] {
        assert!(names.get("h").is_none_or(|name| name == list), "{names:?}");
    }
    Before {
        complete: entries(key(s, &complete)),
        oncall: entries(key(s, &oncall)),
        working: fields(s, &format!("{task}_working")).remove("h"),
        complete_named: complete_names.contains_key("h"),
        oncall_named: oncall_names.contains_key("h"),
    }
}

fn settled(after: After) -> Before {
    Before {
        complete: after.complete,
        oncall: after.oncall,
        working: after.working,
        complete_named: after.complete_named,
        oncall_named: after.oncall_named,
    }
}

/// Runs `test` on many values, each with the key of a new task.
fn try_many<S: Strategy>(
    strategy: S,
    test: impl Fn(TaskKey, S::Value) -> Result<(), TestCaseError>,
) {
    let next = RefCell::new(0..);
    let config = Config {
        cases: SEQUENCES,
        failure_persistence: None,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&strategy, |value| {
        let number: u32 = next.borrow_mut().next().expect("it does not end");
        test(TaskKey::parse(&format!("AC{number}"), "AC").unwrap(), value)
    });
    if let Err(why) = tried {
        panic!("{why}");
    }
}

/// Reordered or repeated messages reach the same final state, and a finished command stays
/// finished.
pub fn a_stale_message_after_a_newer_changes_nothing(open: &mut Factory<'_>) {
    let s = RefCell::new(open(settings()));
    let order = prop::collection::vec(any::<prop::sample::Index>(), 0..12);
    let strategy = (1_usize..5, order, any::<prop::sample::Index>());
    try_many(strategy, |key, (commands, order, at)| {
        let s = &mut s.borrow_mut();
        let task = whole_task(commands);
        let mut told: Vec<&Told> = order.iter().map(|n| &task[n.index(task.len())]).collect();
        // The last message comes at some point, or the task has not ended.
        told.insert(at.index(told.len() + 1), &task[task.len() - 1]);
        let mut done = Vec::new();
        for message_told in told {
            let op = Op::Progress(Box::new(message(&key, message_told)));
            store_all(s, &[op]);
            let now = known(s, &key);
            prop_assert!(now.complete.starts_with(&done));
            prop_assert!(now.oncall.iter().all(|left| !now.complete.contains(left)));
            prop_assert!(now.working.iter().all(|runs| !now.complete.contains(runs)));
            done = now.complete;
        }
        let end = Before {
            complete: (0..commands).map(|n| format!("c{n}")).collect(),
            complete_named: true,
            ..Before::default()
        };
        prop_assert_eq!(known(s, &key), end);
        Ok(())
    });
}

/// For every message the keys equal the result of `merge`, an event is raised if anything changed,
/// and a repeated message changes nothing.
pub fn every_operation_can_be_repeated(open: &mut Factory<'_>) {
    let sequences = || prop::collection::vec(anything(), 1..8);
    for clear_on_done in [false, true] {
        let s = RefCell::new(open(Settings {
            clear_on_done,
            ..settings()
        }));
        // Both rounds use one store, so the keys of their tasks differ.
        let offset = if clear_on_done { "b" } else { "a" };
        try_many((sequences(), 0_usize..4), |key, (told, book)| {
            let s = &mut s.borrow_mut();
            let key = TaskKey::parse(&format!("{key}{offset}"), "AC").unwrap();
            let commands: Vec<_> = (0..book).map(|n| (format!("c{n}"), n as f64)).collect();
            s.seed(key.as_str(), Dump::Sorted(commands));
            let bound = if book == 0 { usize::MAX } else { book };
            for one in &told {
                let message = message(&key, one);
                let (before, heard) = (known(s, &key), events(s).len());
                let mut after = merge(&before, &message, bound);
                if clear_on_done {
                    after = after.cleared();
                }
                let news = usize::from(after.changes(&before));
                let expected = settled(after);
                for _ in 0..2 {
                    store_all(s, &[Op::Progress(Box::new(message.clone()))]);
                    prop_assert_eq!(known(s, &key), expected.clone(), "{:?}", one);
                    prop_assert_eq!(events(s).len(), heard + news, "{:?}", one);
                }
            }
            Ok(())
        });
    }
}
