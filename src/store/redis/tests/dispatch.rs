//! Dispatches on a server that refuses commands, hangs or dies, and the thread that settles them.

use std::time::Duration;

use super::failures::{impatient, reopen};
use super::*;
use crate::store::op::{Batch, Dispatch, Found, Question, Read, Stored, TaskResult, TaskState};
use crate::store::redis::tests::server::PATIENCE;
use crate::store::spool::Spool;
use crate::store::worker::{Plan, StoreThread, start};
use crate::store::{HeldCursor, StoreError};
use crate::time::Span;

fn task(name: &str, request: u64) -> Dispatch {
    Dispatch {
        request,
        rollout: None,
        key: key(name),
        created: UnixMs(1_000),
        queue: false,
        commands: vec![("uptime".to_owned(), 1.0)],
        hosts: vec![(host("h"), TaskState::Sent), (host("i"), TaskState::Sent)].into(),
        rings: Vec::new(),
        epoch: 0,
        stamp: stamp(request),
    }
}

fn op(task: &Dispatch) -> Op {
    Op::Dispatch(Box::new(task.clone()))
}

/// Returns whether entry, claim, states, response and book exist.
fn keys_of(server: &RedisServer, name: &str) -> [bool; 5] {
    let exists = |key: String| server.say(&["EXISTS", &key]) == redis::Value::Int(1);
    [
        server.say(&["ZSCORE", schema::TASKS, name]) != redis::Value::Nil,
        exists(format!("anthill:task:{name}")),
        exists(format!("anthill:task:{name}:hosts")),
        exists(format!("{name}_response")),
        exists(name.to_owned()),
    ]
}

/// Forbids each command in turn, which interrupts a dispatch there.
const CUTS: [(&str, [bool; 5]); 6] = [
    ("zadd", [false, true, false, false, false]),
    ("set", [true, false, false, false, false]),
    ("get", [true, true, false, false, false]),
    ("sadd", [true, true, true, false, false]),
    ("persist", [true, true, true, true, false]),
    ("xadd", [true, true, true, true, true]),
];

#[test]
fn a_dispatch_refused_at_any_command_is_settled_later() {
    let server = RedisServer::start(&[]);
    let mut store = server.store_as_default(settings("n1"));
    for (n, (verb, left)) in CUTS.into_iter().enumerate() {
        for finish in [true, false] {
            let name = format!("AC{n}{finish}");
            let one = task(&name, 7);
            server.say(&["ACL", "SETUSER", "default", &format!("-{verb}")]);
            let mut outcomes = Vec::new();
            let ran = store.run(&[op(&one)], &mut outcomes);
            server.say(&["ACL", "SETUSER", "default", &format!("+{verb}")]);
            assert!(
                matches!(ran.error, Some(StoreError::Unavailable(_))),
                "{verb}"
            );
            assert_eq!((ran.done, outcomes.len()), (0, 0), "{verb}");
            assert_eq!(keys_of(&server, &name), left, "{verb}");
            reopen(&mut store);
            let stored = store.settle(&one, finish).unwrap();
            if finish || left == [true; 5] {
                assert_eq!(stored, Stored::Whole, "{verb}");
                assert_eq!(keys_of(&server, &name), [true; 5], "{verb}");
            } else {
                assert!(matches!(stored, Stored::Undone(_)), "{verb}: {stored:?}");
                assert_eq!(keys_of(&server, &name), [false; 5], "{verb}");
            }
        }
    }
}

#[test]
fn a_start_removes_an_interrupted_dispatch() {
    let server = RedisServer::start(&[]);
    for (n, (verb, left)) in CUTS.into_iter().enumerate() {
        let name = format!("AC{n}");
        let mut store = server.store_as_default(settings("n1"));
        server.say(&["ACL", "SETUSER", "default", &format!("-{verb}")]);
        store.run(&[op(&task(&name, 7))], &mut Vec::new());
        server.say(&["ACL", "SETUSER", "default", &format!("+{verb}")]);
        drop(store);
        let mut store = server.store_as_default(settings("n1"));
        let (mut cursor, mut found) = (HeldCursor::Start, Vec::new());
        while cursor != HeldCursor::End {
            store.tasks(&mut cursor, &mut found).unwrap();
        }
        let whole = left == [true; 5];
        assert_eq!(found.len(), usize::from(whole), "{verb}");
        match left {
            // The entry, by which a start finds the rest, comes first.
            [false, ..] => assert_eq!(keys_of(&server, &name), left, "{verb}"),
            _ => assert_eq!(keys_of(&server, &name), [whole; 5], "{verb}"),
        }
    }
}

#[test]
fn a_foreign_book_written_meanwhile_stays_separate() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let rounds = 200;
    std::thread::scope(|scope| {
        let racing = scope.spawn(|| {
            for n in 0..rounds {
                // Like a program that checks first.
                let name = format!("AC{n}");
                server.say(&["EVAL", THEIRS, "1", &name]);
            }
        });
        for n in 0..rounds {
            let name = format!("AC{n}");
            let outcomes = run(&mut store, &[op(&task(&name, 7))]);
            let Some(Dump::Sorted(book)) = store.dump(&name).unwrap() else {
                panic!("{name} is no book");
            };
            let (ours, left) = match &outcomes[..] {
                [Outcome::Dispatched { stored, .. }] if *stored == Stored::Whole => {
                    ("uptime", [true; 5])
                }
                [Outcome::Dispatched { stored, .. }] if *stored == Stored::Taken => {
                    ("theirs", [false, false, false, false, true])
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(book, [(ours.to_owned(), 1.0)]);
            assert_eq!(keys_of(&server, &name), left);
        }
        racing.join().unwrap();
    });
}

const THEIRS: &str =
    "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZADD', KEYS[1], 1, 'theirs') end";

#[test]
fn only_one_of_two_racing_nodes_takes_a_key() {
    let server = RedisServer::start(&[]);
    let rounds = 150;
    let race = |node: &str, request: u64| {
        let mut store = server.store(settings(node));
        let mut won = Vec::new();
        for n in 0..rounds {
            let one = Dispatch {
                hosts: vec![(host(node), TaskState::Sent)].into(),
                ..task(&format!("AC{n}"), request)
            };
            match &run(&mut store, &[op(&one)])[..] {
                [Outcome::Dispatched { stored, .. }] => won.push(*stored == Stored::Whole),
                other => panic!("{other:?}"),
            }
        }
        won
    };
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| race("n1", 1));
        let two = scope.spawn(|| race("n2", 2));
        (one.join().unwrap(), two.join().unwrap())
    });
    for n in 0..rounds {
        let name = format!("AC{n}");
        assert!(one[n] != two[n], "{name}: {} and {}", one[n], two[n]);
        let winner = if one[n] { "n1" } else { "n2" };
        assert_eq!(keys_of(&server, &name), [true; 5]);
        let states = server.say(&["HKEYS", &format!("anthill:task:{name}:hosts")]);
        assert_eq!(
            states,
            redis::Value::Array(vec![redis::Value::BulkString(winner.into())])
        );
    }
}

/// A store thread, and its outcomes that no test has taken yet.
struct Driver {
    thread: StoreThread,
    heard: Vec<Outcome>,
}

/// The store thread over this server.
fn driver(server: &RedisServer, dir: &std::path::Path) -> Driver {
    let store = RedisStore::new(server.address(), impatient(1_500));
    let plan = Plan {
        spool_dir: dir.to_path_buf(),
        spool_bytes: 1 << 30,
        flush: Span::from_millis(1),
        retry: Span::from_millis(20),
        grace: Span::from_secs(60),
        seed: 7,
    };
    let spool = Spool::open(&plan.spool_dir, plan.spool_bytes).unwrap();
    let make = Box::new(move || Box::new(store.again()) as Box<dyn Backend>);
    Driver {
        thread: start(make, plan, spool, || {}).unwrap(),
        heard: Vec::new(),
    }
}

impl Driver {
    /// Waits for an outcome. Others are kept.
    fn until<T>(&mut self, what: impl Fn(&Outcome) -> Option<T>) -> T {
        loop {
            let mut found = self.heard.iter().enumerate();
            if let Some((place, found)) = found.find_map(|(n, one)| Some((n, what(one)?))) {
                self.heard.remove(place);
                return found;
            }
            let next = self.thread.outcomes.recv_timeout(PATIENCE).unwrap();
            self.heard.extend(next);
        }
    }

    /// Waits for the result of the dispatch with this request number.
    fn stored(&mut self, wanted: u64) -> Stored {
        self.until(|outcome| match outcome {
            Outcome::Dispatched { request, stored } if *request == wanted => Some(stored.clone()),
            _ => None,
        })
    }

    fn give(&self, session: u32, op: Op) {
        let batch = Batch {
            session,
            ops: vec![op],
        };
        let within = Duration::from_secs(20);
        self.thread.batches.send_timeout(batch, within).unwrap();
    }
}

fn unavailable(outcome: &Outcome) -> Option<()> {
    matches!(outcome, Outcome::Unavailable(_)).then_some(())
}

fn up(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Available { session, .. } => Some(*session),
        _ => None,
    }
}

#[test]
fn a_dispatch_survives_a_server_death_or_leaves_nothing() {
    let mut server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let mut driver = driver(&server, dir.path());
    let session = driver.until(up);
    // The server hangs during the dispatch, and dies without an answer.
    server.stop();
    driver.give(session, op(&task("AC1", 7)));
    driver.until(unavailable);
    // A dispatch during the outage is refused at once.
    driver.give(session, op(&task("AC2", 8)));
    assert!(matches!(driver.stored(8), Stored::Undone(_)));
    server.restart();
    let settled = driver.stored(7);
    let there = match settled {
        Stored::Whole => [true; 5],
        // A busy machine may take longer than the limit.
        Stored::Undone(_) => [false; 5],
        other => panic!("{other:?}"),
    };
    driver.until(up);
    assert_eq!(keys_of(&server, "AC1"), there);
    assert_eq!(keys_of(&server, "AC2"), [false; 5]);
    driver.thread.stop(PATIENCE);
}

#[test]
fn a_hung_server_stores_a_dispatch_once() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let mut driver = driver(&server, dir.path());
    let session = driver.until(up);
    server.stop();
    driver.give(session, op(&task("AC1", 7)));
    driver.until(unavailable);
    // Commands of the dropped connection are executed as well.
    server.go_on();
    let settled = driver.stored(7);
    driver.until(up);
    let there = matches!(settled, Stored::Whole);
    assert_eq!(keys_of(&server, "AC1"), [there; 5], "{settled:?}");
    driver.thread.stop(PATIENCE);
}

#[test]
fn a_question_with_large_results_is_bounded() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let output = "QUJD".repeat(400_000);
    let result = |command: String| {
        Op::Result(Box::new(TaskResult {
            origin: None,
            host: host("h"),
            code: "AC1".to_owned(),
            command,
            exit: 0,
            seconds: 0.0,
            sha256: String::new(),
            truncated: false,
            output: output.clone(),
            size: 1_200_000,
            lifetime: Default::default(),
            stamp: stamp(1),
        }))
    };
    let ops: Vec<Op> = (0..20).map(|n| result(format!("c{n:02}"))).collect();
    run(&mut store, &ops);
    let ask = |question| {
        Op::Read(Box::new(Read {
            ticket: 1,
            question,
        }))
    };
    let code = || "AC1".to_owned();
    let outcomes = run(
        &mut store,
        &[
            ask(Question::Task {
                key: key("AC1"),
                hosts: vec![host("h")],
            }),
            ask(Question::Output {
                code: code(),
                host: host("h"),
                command: "c19".to_owned(),
            }),
        ],
    );
    let [
        Outcome::Read {
            found: Found::Task(hosts),
            ..
        },
        Outcome::Read {
            found: Found::Output(Some(whole)),
            ..
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!((hosts[0].results.len(), whole.len()), (20, 1_200_000));
    let shown = |r: &crate::store::op::FoundResult| r.output == b"ABC".repeat(1_366)[..4_096];
    assert!(hosts[0].results.iter().all(shown));
}
