//! Cases of tasks: stored whole or not at all, for every interruption and every competing request.

use super::results::result;
use super::*;
use crate::store::op::{Dispatch, HeldTask, Lifetime, Stored, TaskStates};

/// The task `name` of two commands for two hosts.
fn task(name: &str, request: u64) -> Dispatch {
    Dispatch {
        request,
        rollout: None,
        key: TaskKey::parse(name, "AC").unwrap(),
        created: UnixMs(1_700_000_000_000),
        queue: true,
        commands: vec![("df -h".into(), 1.0), ("uptime".into(), 2.5)],
        hosts: vec![
            (host("h"), TaskState::Sent),
            (host("i"), TaskState::Offline),
        ]
        .into(),
        rings: Vec::new(),
        epoch: 0,
        stamp: stamp(request),
    }
}

fn dispatch(s: &mut Box<dyn Subject>, task: &Dispatch) -> Stored {
    match run(s, &[Op::Dispatch(Box::new(task.clone()))]).pop() {
        Some(Outcome::Dispatched { request, stored }) if request == task.request => stored,
        other => panic!("not settled: {other:?}"),
    }
}

/// All tasks of this node in the store.
fn tasks(s: &mut Box<dyn Subject>) -> BTreeMap<String, HeldTask> {
    let (mut cursor, mut found) = (HeldCursor::Start, Vec::new());
    for _ in 0..1_000 {
        if cursor == HeldCursor::End {
            break;
        }
        s.tasks(&mut cursor, &mut found).unwrap();
    }
    assert_eq!(cursor, HeldCursor::End, "the reading does not end");
    found.into_iter().map(|t| (t.key.to_string(), t)).collect()
}

/// Returns which keys of the task `name` exist: entry, claim, states, response, book.
fn keys_of(s: &mut Box<dyn Subject>, name: &str) -> [bool; 5] {
    let entry = match key(s, "anthill:tasks") {
        Some(Dump::Sorted(entries)) => entries.iter().any(|(member, _)| member == name),
        _ => false,
    };
    let mut there = |name: String| key(s, &name).is_some();
    [
        entry,
        there(format!("anthill:task:{name}")),
        there(format!("anthill:task:{name}:hosts")),
        there(format!("{name}_response")),
        there(name.to_owned()),
    ]
}

const NOTHING: [bool; 5] = [false; 5];
const ALL: [bool; 5] = [true; 5];

fn claim_of(task: &Dispatch, node: &str) -> Option<Dump> {
    let (request, created, queue) = (task.request, task.created.0, task.queue);
    Some(Dump::Text(format!(
        r#"{{"request":"{request}","created":{created},"node":"{node}","queue":{queue}}}"#
    )))
}

fn assert_whole(s: &mut Box<dyn Subject>, task: &Dispatch) {
    let name = task.key.as_str();
    assert_eq!(keys_of(s, name), ALL, "{name}");
    let claim = claim_of(task, NODE);
    assert_eq!(key(s, &format!("anthill:task:{name}")), claim);
    let states = hash(&[("h", "sent"), ("i", "offline")]);
    assert_eq!(key(s, &format!("anthill:task:{name}:hosts")), states);
    assert_eq!(key(s, &format!("{name}_response")), set(&["h", "i"]));
    assert_eq!(key(s, name), sorted(&[("df -h", 1.0), ("uptime", 2.5)]));
}

/// Writes the keys that a dispatch leaves when it ends after its first `commands` commands.
fn cut_short(s: &mut Box<dyn Subject>, task: &Dispatch, commands: usize) {
    let name = task.key.as_str();
    let steps = [
        (
            "anthill:tasks".to_owned(),
            sorted(&[(name, task.created.0 as f64)]),
        ),
        (format!("anthill:task:{name}"), claim_of(task, NODE)),
        (format!("anthill:task:{name}:hosts"), hash(&[("h", "sent")])),
        (
            format!("anthill:task:{name}:hosts"),
            hash(&[("h", "sent"), ("i", "offline")]),
        ),
        (format!("{name}_response"), set(&["h"])),
        (format!("{name}_response"), set(&["h", "i"])),
        (name.to_owned(), sorted(&[("df -h", 1.0), ("uptime", 2.5)])),
    ];
    for (name, value) in steps.into_iter().take(commands) {
        s.seed(&name, value.unwrap());
    }
}

const COMMANDS: usize = 7;

pub fn a_task_is_stored_with_its_event(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let one = task("AC1", 1);
    assert_eq!(dispatch(&mut s, &one), Stored::Whole);
    assert_whole(&mut s, &one);
    let created = sorted(&[("AC1", 1_700_000_000_000.0)]);
    assert_eq!(key(&mut s, "anthill:tasks"), created);
    assert_eq!(
        last_event(&mut s, &["event", "host", "key", "count", "seq", "node"]),
        ["dispatch", "", "AC1", "2", "1", NODE]
    );
    // The same request may be repeated; another request finds the key taken.
    assert_eq!(dispatch(&mut s, &one), Stored::Whole);
    assert_whole(&mut s, &one);
    let told = events(&mut s).len();
    let other = Dispatch {
        hosts: vec![(host("j"), TaskState::Sent)].into(),
        rings: Vec::new(),
        epoch: 0,
        ..task("AC1", 2)
    };
    assert_eq!(dispatch(&mut s, &other), Stored::Taken);
    assert_whole(&mut s, &one);
    assert_eq!(events(&mut s).len(), told);
}

pub fn a_task_of_many_hosts_and_commands_is_stored(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let many = 2_345;
    let great = Dispatch {
        commands: (0..many)
            .map(|n| (format!("c{n}"), n as f64 / 3.0))
            .collect(),
        hosts: (0..many)
            .map(|n| (host(&format!("h{n:05}")), TaskState::Sent))
            .collect::<Vec<_>>()
            .into(),
        ..task("AC1", 1)
    };
    assert_eq!(dispatch(&mut s, &great), Stored::Whole);
    let states = fields(&mut s, "anthill:task:AC1:hosts");
    assert_eq!((states.len(), &*states["h02344"]), (many, "sent"));
    let found = &tasks(&mut s)["AC1"];
    assert_eq!((found.hosts.len(), found.commands.len()), (many, many));
    assert_eq!(found.commands[0], ("c2344".to_owned(), 2_344.0 / 3.0));
    assert_eq!(found.commands[many - 1].0, "c0");
}

pub fn a_used_key_is_not_changed(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let books = [
        sorted(&[("theirs", 1.0)]).unwrap(),
        Dump::Text("theirs".into()),
        Dump::Set(owned(&["theirs"])),
    ];
    for (n, book) in books.into_iter().enumerate() {
        let name = format!("AC{n}");
        s.seed(&name, book.clone());
        s.seed(&format!("{name}_response"), Dump::Set(owned(&["z"])));
        let kept = [false, false, false, true, true];
        // Not begun; cut short before the book was seen, then finished; the same, then undone.
        assert_eq!(dispatch(&mut s, &task(&name, 1)), Stored::Taken);
        assert_eq!(keys_of(&mut s, &name), kept);
        for finish in [true, false] {
            cut_short(&mut s, &task(&name, 1), 2);
            let stored = s.settle(&task(&name, 1), finish).unwrap();
            match finish {
                true => assert_eq!(stored, Stored::Taken),
                false => assert!(matches!(stored, Stored::Undone(_)), "{stored:?}"),
            }
            assert_eq!(keys_of(&mut s, &name), kept);
        }
        cut_short(&mut s, &task(&name, 1), 2);
        assert!(tasks(&mut s).is_empty());
        assert_eq!(keys_of(&mut s, &name), kept);
        assert_eq!(key(&mut s, &name), Some(book));
        assert_eq!(key(&mut s, &format!("{name}_response")), set(&["z"]));
    }
    assert!(events(&mut s).is_empty());
}

pub fn a_foreign_book_is_not_changed(open: &mut Factory<'_>) {
    let mut s = open(settings());
    for commands in 3..COMMANDS {
        for (n, finish) in [(0, true), (10, false)] {
            let one = task(&format!("AC{}", n + commands), 7);
            let name = one.key.as_str();
            cut_short(&mut s, &one, commands);
            s.seed(name, sorted(&[("theirs", 1.0), ("uptime", 3.0)]).unwrap());
            assert_eq!(s.settle(&one, finish), Ok(Stored::Taken), "{name}");
            let left = [false, false, false, false, true];
            assert_eq!(keys_of(&mut s, name), left, "{name}");
        }
    }
    // Later additions by another program do not change its owner.
    let one = task("AC1", 7);
    assert_eq!(dispatch(&mut s, &one), Stored::Whole);
    let more = [("df -h", 1.0), ("theirs", 9.0), ("uptime", 2.5)];
    s.seed("AC1", sorted(&more).unwrap());
    for finish in [true, false] {
        assert_eq!(s.settle(&one, finish), Ok(Stored::Whole));
    }
    assert_eq!(keys_of(&mut s, "AC1"), ALL);
}

pub fn a_cut_dispatch_is_finished_when_repeated(open: &mut Factory<'_>) {
    let mut s = open(settings());
    for commands in 0..=COMMANDS {
        for (offset, settle) in [(0, false), (10, true)] {
            let one = task(&format!("AC{}", offset + commands), 7);
            cut_short(&mut s, &one, commands);
            let stored = match settle {
                true => s.settle(&one, true).unwrap(),
                false => dispatch(&mut s, &one),
            };
            assert_eq!(stored, Stored::Whole, "cut behind {commands}");
            assert_whole(&mut s, &one);
        }
    }
}

pub fn a_cut_dispatch_can_be_given_up(open: &mut Factory<'_>) {
    let mut s = open(settings());
    for commands in 0..=COMMANDS {
        let one = task(&format!("AC{commands}"), 7);
        cut_short(&mut s, &one, commands);
        let stored = s.settle(&one, false).unwrap();
        if commands == COMMANDS {
            assert_eq!(stored, Stored::Whole);
            assert_whole(&mut s, &one);
        } else {
            assert!(matches!(stored, Stored::Undone(_)), "{stored:?}");
            assert_eq!(
                keys_of(&mut s, one.key.as_str()),
                NOTHING,
                "behind {commands}"
            );
            // The key can be used again.
            assert_eq!(dispatch(&mut s, &task(one.key.as_str(), 8)), Stored::Whole);
        }
    }
}

pub fn a_cut_dispatch_is_undone_at_the_start(open: &mut Factory<'_>) {
    for commands in 0..=COMMANDS {
        let mut s = open(settings());
        let one = task(&format!("AC{commands}"), 7);
        cut_short(&mut s, &one, commands);
        drop(s);
        let mut s = open(settings());
        let found = tasks(&mut s);
        if commands == COMMANDS {
            assert_eq!(found.keys().collect::<Vec<_>>(), ["AC7"]);
            assert_whole(&mut s, &one);
        } else {
            assert!(found.is_empty(), "cut behind {commands}");
            assert_eq!(
                keys_of(&mut s, one.key.as_str()),
                NOTHING,
                "behind {commands}"
            );
        }
    }
    // All keys of a task without a claim are deleted.
    let mut s = open(settings());
    cut_short(&mut s, &task("AC8", 7), 6);
    s.seed("anthill:task:AC8", Dump::List(Vec::new()));
    assert_eq!(keys_of(&mut s, "AC8"), [true, false, true, true, false]);
    tasks(&mut s);
    assert_eq!(keys_of(&mut s, "AC8"), NOTHING);
}

pub fn two_nodes_cannot_both_take_a_key(open: &mut Factory<'_>) {
    let other_node = || Settings {
        node: "n2".into(),
        ..settings()
    };
    // The other node's claim holds at each stage of its dispatch, and our request leaves no key.
    for commands in 2..=COMMANDS {
        let (ours, theirs) = (
            task(&format!("AC{commands}"), 1),
            task(&format!("AC{commands}"), 2),
        );
        let name = theirs.key.as_str();
        let mut s = open(settings());
        cut_short(&mut s, &theirs, commands);
        s.seed(
            &format!("anthill:task:{name}"),
            claim_of(&theirs, "n2").unwrap(),
        );
        let before = keys_of(&mut s, name);
        assert_eq!(dispatch(&mut s, &ours), Stored::Taken);
        assert!(matches!(s.settle(&ours, false), Ok(Stored::Undone(_))));
        assert!(tasks(&mut s).is_empty(), "none of ours");
        assert_eq!(keys_of(&mut s, name), before);
        drop(s);
        let mut s = open(other_node());
        assert_eq!(dispatch(&mut s, &theirs), Stored::Whole);
        assert_eq!(keys_of(&mut s, name), ALL);
        assert_eq!(tasks(&mut s)[name].hosts.len(), 2);
    }
    let mut s = open(settings());
    assert_eq!(dispatch(&mut s, &task("AC9", 1)), Stored::Whole);
    drop(s);
    let mut s = open(other_node());
    assert_eq!(dispatch(&mut s, &task("AC9", 2)), Stored::Taken);
    assert!(!tasks(&mut s).contains_key("AC9"));
    drop(s);
    assert_whole(&mut open(settings()), &task("AC9", 1));
}

pub fn dispatches_of_one_batch_settle_separately(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let ops = [
        task("AC1", 1),
        task("AC1", 2),
        task("AC2", 3),
        task("AC1", 1),
    ];
    let ops = ops.map(|task| Op::Dispatch(Box::new(task)));
    let told: Vec<_> = run(&mut s, &ops)
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Dispatched { request, stored } => (request, stored),
            other => panic!("{other:?}"),
        })
        .collect();
    let whole = |request| (request, Stored::Whole);
    assert_eq!(told, [whole(1), (2, Stored::Taken), whole(3), whole(1)]);
    assert_eq!(
        tasks(&mut s).into_keys().collect::<Vec<_>>(),
        ["AC1", "AC2"]
    );
}

pub fn a_refused_dispatch_leaves_nothing(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let spoilt = || Dump::List(owned(&["spoilt"]));
    for name in ["anthill:task:AC1", "AC1_response", "anthill:task:AC1:hosts"] {
        s.seed(name, spoilt());
        let stored = dispatch(&mut s, &task("AC1", 1));
        assert!(matches!(stored, Stored::Refused(_)), "{name}: {stored:?}");
        assert_eq!(key(&mut s, name), Some(spoilt()));
        s.seed(name, Dump::List(Vec::new()));
        assert_eq!(keys_of(&mut s, "AC1"), NOTHING, "{name}");
    }
    s.seed("anthill:tasks", spoilt());
    let stored = dispatch(&mut s, &task("AC1", 1));
    assert!(matches!(stored, Stored::Refused(_)), "{stored:?}");
    assert!(tasks(&mut s).is_empty());
    s.sweep(UnixMs(1)).unwrap();
    s.seed("anthill:tasks", Dump::List(Vec::new()));
    assert_eq!(keys_of(&mut s, "AC1"), NOTHING);
    let empty = Dispatch {
        hosts: Vec::new().into(),
        ..task("AC1", 1)
    };
    assert!(matches!(dispatch(&mut s, &empty), Stored::Refused(_)));
    assert_eq!(keys_of(&mut s, "AC1"), NOTHING);
    assert_eq!(dispatch(&mut s, &task("AC1", 1)), Stored::Whole);
}

pub fn tasks_are_found_again_after_a_restart(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let many = 150;
    for n in 0..many {
        assert_eq!(dispatch(&mut s, &task(&format!("AC{n}"), n)), Stored::Whole);
    }
    let states = TaskStates {
        key: TaskKey::parse("AC7", "AC").unwrap(),
        states: vec![
            (host("h"), TaskState::Working),
            (host("i"), TaskState::Failed),
        ],
        over: false,
        last: false,
    };
    run(&mut s, &[Op::TaskStates(Box::new(states))]);
    store_all(
        &mut s,
        &[
            result("AC7", "h", "uptime", 0),
            result("AC8", "h", "uptime", 3),
        ],
    );
    drop(s);
    let mut s = open(settings());
    let found = tasks(&mut s);
    assert_eq!(found.len() as u64, many);
    let one = HeldTask {
        rollout: None,
        epoch: 0,
        key: TaskKey::parse("AC7", "AC").unwrap(),
        created: UnixMs(1_700_000_000_000),
        queue: true,
        request: 7,
        commands: vec![("uptime".into(), 2.5), ("df -h".into(), 1.0)],
        hosts: vec![
            (host("h"), TaskState::Working, false),
            (host("i"), TaskState::Failed, true),
        ],
        expires: false,
    };
    assert_eq!(found["AC7"], one);
    assert!(found["AC8"].hosts[0].2, "a command has failed");
    // Priorities that another program wrote: JSON and hosts take finite numbers only.
    let edited = [
        ("last", f64::NEG_INFINITY),
        ("df -h", 1.0),
        ("first", f64::INFINITY),
    ];
    s.seed("AC7", sorted(&edited).unwrap());
    let priorities = [
        ("first".to_owned(), f64::MAX),
        ("df -h".to_owned(), 1.0),
        ("last".to_owned(), f64::MIN),
    ];
    assert_eq!(tasks(&mut s)["AC7"].commands, priorities);
    // A damaged claim belongs to no node, and hides no other task.
    s.seed("anthill:task:AC7", Dump::Text("spoilt".into()));
    s.seed("anthill:task:AC8", Dump::List(owned(&["spoilt"])));
    assert_eq!(tasks(&mut s).len() as u64, many - 2);
}

pub fn a_lost_task_is_restored(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let restore = |s: &mut Box<dyn Subject>, task: &Dispatch| match run(
        s,
        &[Op::Restore(Box::new(task.clone()))],
    )
    .pop()
    {
        Some(Outcome::Restored { key, stored }) if key == task.key => stored,
        other => panic!("not settled: {other:?}"),
    };
    // All keys are gone.
    let now = Dispatch {
        hosts: vec![
            (host("h"), TaskState::Working),
            (host("i"), TaskState::Offline),
        ]
        .into(),
        ..task("AC1", 1)
    };
    assert_eq!(restore(&mut s, &now), Stored::Whole);
    assert_eq!(keys_of(&mut s, "AC1"), ALL);
    let name = "anthill:task:AC1:hosts";
    assert_eq!(
        key(&mut s, name),
        hash(&[("h", "working"), ("i", "offline")])
    );
    assert_eq!(
        key(&mut s, "AC1_response"),
        set(&["i"]),
        "a host that has answered is not awaited"
    );
    assert!(events(&mut s).is_empty(), "no second event");
    let found = tasks(&mut s).remove("AC1").unwrap();
    assert_eq!((found.request, found.commands.len()), (1, 2));
    // No key is gone, and a host's state is further on: nothing changes.
    let done = TaskStates {
        key: now.key.clone(),
        states: vec![(host("h"), TaskState::Done)],
        over: false,
        last: false,
    };
    run(&mut s, &[Op::TaskStates(Box::new(done))]);
    assert_eq!(restore(&mut s, &now), Stored::Whole);
    assert_eq!(key(&mut s, name), hash(&[("h", "done"), ("i", "offline")]));
    // Only its hosts are gone.
    dispatch(&mut s, &task("AC2", 2));
    s.seed("anthill:task:AC2:hosts", Dump::Hash(Vec::new()));
    assert_eq!(restore(&mut s, &task("AC2", 2)), Stored::Whole);
    assert_eq!(keys_of(&mut s, "AC2"), ALL);
    // Another request has the key meanwhile: its keys are not changed.
    dispatch(&mut s, &task("AC3", 3));
    let before = fields(&mut s, "anthill:task:AC3:hosts");
    assert_eq!(
        restore(
            &mut s,
            &Dispatch {
                hosts: now.hosts.clone(),
                ..task("AC3", 4)
            }
        ),
        Stored::Taken
    );
    s.seed("AC4", Dump::Sorted(vec![("theirs".into(), 1.0)]));
    assert_eq!(restore(&mut s, &task("AC4", 5)), Stored::Taken);
    assert_eq!(fields(&mut s, "anthill:task:AC3:hosts"), before);
    assert_eq!(
        key(&mut s, "AC4"),
        Some(Dump::Sorted(vec![("theirs".into(), 1.0)]))
    );
    assert_eq!(keys_of(&mut s, "AC4"), [false, false, false, false, true]);
}

pub fn states_change_for_named_hosts_until_they_have_ended(open: &mut Factory<'_>) {
    let mut s = open(settings());
    dispatch(&mut s, &task("AC1", 1));
    let states = |states: &[(&str, TaskState)], ended| {
        Op::TaskStates(Box::new(TaskStates {
            key: TaskKey::parse("AC1", "AC").unwrap(),
            states: states.iter().map(|(h, state)| (host(h), *state)).collect(),
            over: ended,
            last: ended,
        }))
    };
    use TaskState as T;
    let unknown = states(&[("h", T::Unanswered), ("stranger", T::Lost)], false);
    assert!(matches!(
        run(&mut s, &[unknown])[..],
        [Outcome::StatesWritten]
    ));
    let name = "anthill:task:AC1:hosts";
    assert_eq!(
        key(&mut s, name),
        hash(&[("h", "unanswered"), ("i", "offline")])
    );
    let say = |op: Op, state| match op {
        Op::Answer(mut report) => {
            report.state = Some(state);
            Op::Answer(report)
        }
        Op::Progress(mut report) => {
            report.state = Some(state);
            Op::Progress(report)
        }
        other => other,
    };
    let begins = progress("h", 1, None, &[], &["uptime", "df -h"]);
    store_all(
        &mut s,
        &[
            say(answer("h", 1), T::Answered),
            say(begins.clone(), T::Working),
        ],
    );
    assert_eq!(fields(&mut s, name)["h"], "working");
    // Repeated with a state that the first write did not store.
    run(&mut s, &[states(&[("h", T::Answered)], false)]);
    store_all(&mut s, &[say(begins.clone(), T::Working)]);
    assert_eq!(fields(&mut s, name)["h"], "working");
    store_all(
        &mut s,
        &[say(
            progress("h", 3, None, &["uptime", "df -h"], &[]),
            T::Done,
        )],
    );
    assert_eq!(fields(&mut s, name)["h"], "done");
    // In a terminal state, reports are acknowledged and change nothing.
    let told = events(&mut s).len();
    let lists = |s: &mut Box<dyn Subject>| (key(s, "AC1_h_oncall"), key(s, "AC1_h_complete"));
    let before = lists(&mut s);
    store_all(
        &mut s,
        &[
            say(
                progress("h", 3, None, &["uptime", "df -h", "x"], &["y"]),
                T::Working,
            ),
            progress("h", 1, None, &[], &["again"]),
        ],
    );
    run(
        &mut s,
        &[states(&[("h", T::Lost), ("i", T::Cancelled)], false)],
    );
    store_all(&mut s, &[say(answer("h", 1), T::Answered)]);
    assert_eq!(lists(&mut s), before);
    let ended = hash(&[("h", "done"), ("i", "offline")]);
    assert_eq!(key(&mut s, name), ended, "also for a server");
    assert_eq!(
        events(&mut s).len(),
        told + 1,
        "only the answer is an event"
    );
    // A host that the task does not name is written to its lists, and has no state in the task.
    store_all(
        &mut s,
        &[say(progress("z", 1, None, &[], &["a"]), T::Working)],
    );
    assert_eq!(key(&mut s, "AC1_z_oncall"), list(&["a"]));
    assert_eq!(fields(&mut s, name).len(), 2);
    run(&mut s, &[states(&[("i", T::Lost)], true)]);
    assert_eq!(fields(&mut s, name)["i"], "offline");
}

pub fn a_state_never_goes_back(open: &mut Factory<'_>) {
    use TaskState as T;
    let mut s = open(settings());
    assert_eq!(dispatch(&mut s, &task("AC1", 1)), Stored::Whole);
    let mut becomes = |next: T| {
        let states = TaskStates {
            key: TaskKey::parse("AC1", "AC").unwrap(),
            states: vec![(host("h"), next)],
            over: false,
            last: false,
        };
        run(&mut s, &[Op::TaskStates(Box::new(states))]);
        let fields = fields(&mut s, "anthill:task:AC1:hosts");
        T::parse(&fields["h"]).unwrap()
    };
    for (next, is) in [
        (T::Answered, T::Answered),
        (T::Sent, T::Answered),
        (T::Working, T::Working),
        (T::Answered, T::Working),
        (T::Unanswered, T::Working),
        (T::Lost, T::Lost),
        (T::Answered, T::Lost),
        (T::Working, T::Working),
        (T::Done, T::Done),
        (T::Working, T::Done),
    ] {
        assert_eq!(becomes(next), is, "after {next:?}");
    }
}

pub fn a_task_expires_after_a_host_has_ended(open: &mut Factory<'_>) {
    let brief = || Settings {
        keep: Span::from_millis(50),
        ..settings()
    };
    let mut s = open(brief());
    dispatch(&mut s, &task("AC1", 1));
    let unfinished = progress("h", 3, None, &["uptime"], &["df -h"]);
    store_all(&mut s, &[result("AC1", "h", "uptime", 0), unfinished]);
    until_gone(&mut s, "anthill:task:AC1:result:h");
    assert_eq!(
        keys_of(&mut s, "AC1"),
        ALL,
        "no host is in a terminal state"
    );
    let states = TaskStates {
        key: TaskKey::parse("AC1", "AC").unwrap(),
        states: vec![(host("h"), TaskState::Lost)],
        over: true,
        last: true,
    };
    run(&mut s, &[Op::TaskStates(Box::new(states))]);
    for name in [
        "AC1",
        "AC1_response",
        "AC1_oncall",
        "AC1_complete",
        "AC1_h_oncall",
        "AC1_h_complete",
        "anthill:task:AC1",
        "anthill:task:AC1:hosts",
    ] {
        until_gone(&mut s, name);
    }
    // Only the entry is left, until the sweep.
    dispatch(&mut s, &task("AC2", 2));
    s.sweep(UnixMs(1_700_000_000_049)).unwrap();
    assert!(keys_of(&mut s, "AC1")[0], "not old enough");
    s.sweep(UnixMs(u64::MAX / 4)).unwrap();
    assert_eq!(keys_of(&mut s, "AC1"), NOTHING);
    assert_eq!(keys_of(&mut s, "AC2"), ALL, "old, and there");
    // The key is free again, and a task without a recipient is terminal from the beginning.
    let nobody = Dispatch {
        hosts: vec![(host("i"), TaskState::Offline)].into(),
        ..task("AC1", 3)
    };
    assert_eq!(dispatch(&mut s, &nobody), Stored::Whole);
    until_gone(&mut s, "AC1");
    until_gone(&mut s, "anthill:task:AC1");

    // A host that is done takes its results with it.
    dispatch(&mut s, &task("AC3", 4));
    s.seed("anthill:task:AC3:result:h", hash(&[("a", "{}")]).unwrap());
    let Op::Progress(mut last) = progress("h", 3, None, &["uptime", "df -h"], &[]) else {
        panic!("a report of progress");
    };
    last.key = TaskKey::parse("AC3", "AC").unwrap();
    last.state = Some(TaskState::Done);
    store_all(&mut s, &[Op::Progress(last)]);
    until_gone(&mut s, "anthill:task:AC3:result:h");
    until_gone(&mut s, "anthill:task:AC3:hosts");
}

fn named(node: &str) -> Settings {
    Settings {
        node: node.into(),
        ..settings()
    }
}

/// State left by the node `n1`: it holds `a`, was cut short while taking `b` offline, has lost `c`
/// to another node, and has dispatched AC1.
fn left_by_n1(open: &mut Factory<'_>) {
    let mut s = open(named("n1"));
    s.lease(false).unwrap();
    for (seq, name) in (1..).zip(["a", "b", "c"]) {
        settle(&mut s, online(name, Some(seq)));
    }
    s.seed(
        "anthill:host:b",
        Dump::Hash(vec![
            ("node".into(), String::new()),
            ("reason".into(), "closed".into()),
        ]),
    );
    s.seed(
        "anthill:host:c",
        Dump::Hash(vec![("node".into(), "n9".into())]),
    );
    assert_eq!(dispatch(&mut s, &task("AC1", 7)), Stored::Whole);
    s.release_lease().unwrap();
}

fn take_over(s: &mut Box<dyn Subject>, node: &str) -> (Vec<String>, Vec<String>) {
    let (mut hosts, mut tasks) = (Vec::new(), Vec::new());
    while s.end_hosts(node, UnixMs(5), &mut hosts).unwrap() {}
    let mut cursor = HeldCursor::Start;
    while cursor != HeldCursor::End {
        s.take_over_tasks(node, UnixMs(5), &mut cursor, &mut tasks)
            .unwrap();
    }
    (
        hosts.iter().map(|host| host.host.to_string()).collect(),
        tasks.iter().map(|task| task.key.to_string()).collect(),
    )
}

pub fn hosts_and_tasks_of_a_gone_node_are_taken_over(open: &mut Factory<'_>) {
    left_by_n1(open);
    let mut s = open(named("n2"));
    s.lease(false).unwrap();
    assert_eq!(s.look_at_nodes(UnixMs(1)).unwrap().silent, ["n1"]);
    let (mut hosts, tasks_taken) = take_over(&mut s, "n1");
    hosts.sort();
    assert_eq!(
        (hosts, tasks_taken),
        (owned(&["a", "b"]), owned(&["AC1"])),
        "c belongs to another node"
    );
    assert_eq!(key(&mut s, "anthill:node:n2:hosts"), None);
    assert_eq!(key(&mut s, "anthill:node:n1:hosts"), None);
    let ended = fields(&mut s, "anthill:host:a");
    assert_eq!((&*ended["node"], &*ended["reason"]), ("", "lost"));
    assert_eq!(fields(&mut s, "anthill:host:b")["reason"], "closed");
    assert_eq!(fields(&mut s, "anthill:host:c")["node"], "n9");
    assert_eq!(key(&mut s, "exists"), set(&["c"]));
    let told = events(&mut s);
    let offline = told.iter().filter(|event| event["event"] == "offline");
    assert_eq!(offline.count(), 2, "each once: {told:?}");
    let Some(Dump::Text(dispatched)) = claim_of(&task("AC1", 7), "n2") else {
        panic!("a claim is a text");
    };
    let taken_over = dispatched.replace('}', r#","epoch":1}"#);
    assert_eq!(
        key(&mut s, "anthill:task:AC1"),
        Some(Dump::Text(taken_over))
    );
    assert!(tasks(&mut s).contains_key("AC1"));
    // Nothing is left, and the node's name is deleted after the retention time.
    assert_eq!(s.look_at_nodes(UnixMs(6)).unwrap().silent, [""; 0]);
    assert_eq!(key(&mut s, "anthill:nodes"), set(&["n1", "n2"]));
    assert_eq!(
        s.look_at_nodes(UnixMs(u64::MAX / 2)).unwrap().silent,
        [""; 0]
    );
    assert_eq!(key(&mut s, "anthill:nodes"), set(&["n2"]));
    assert_eq!(key(&mut s, "anthill:node:n1:info"), None);
}

pub fn a_node_that_returns_is_not_gone(open: &mut Factory<'_>) {
    left_by_n1(open);
    let mut s = open(named("n2"));
    s.lease(false).unwrap();
    take_over(&mut s, "n1");
    s.release_lease().unwrap();
    drop(s);
    let mut s = open(named("n1"));
    s.lease(false).unwrap();
    assert_eq!(key(&mut s, "anthill:node:n1:info"), None);
    assert_eq!(settle(&mut s, online("a", Some(9))), Settled::claimed(2));
    s.release_lease().unwrap();
    drop(s);
    let mut s = open(named("n2"));
    s.lease(false).unwrap();
    assert_eq!(s.look_at_nodes(UnixMs(7)).unwrap().silent, ["n1"]);
    assert_eq!(take_over(&mut s, "n1").0, ["a"]);
}

pub fn a_task_of_any_node_can_be_read(open: &mut Factory<'_>) {
    left_by_n1(open);
    let mut s = open(named("n2"));
    let mut ask = |name: &str| {
        let read = crate::store::op::Read {
            ticket: 1,
            question: crate::store::op::Question::Whole {
                key: TaskKey::parse(name, "AC").unwrap(),
            },
        };
        match run(&mut s, &[Op::Read(Box::new(read))]).pop() {
            Some(Outcome::Read { found, .. }) => found,
            other => panic!("not answered: {other:?}"),
        }
    };
    let crate::store::op::Found::Whole(Some(found)) = ask("AC1") else {
        panic!("there is a task");
    };
    let whole = task("AC1", 7);
    assert_eq!(
        (found.key.as_str(), found.created, found.request),
        ("AC1", whole.created, 7)
    );
    assert_eq!(
        found.commands,
        [("uptime".to_owned(), 2.5), ("df -h".to_owned(), 1.0)]
    );
    let hosts: Vec<_> = found
        .hosts
        .iter()
        .map(|(host, state, _)| (host.as_str(), *state))
        .collect();
    assert_eq!(hosts, [("h", TaskState::Sent), ("i", TaskState::Offline)]);
    assert_eq!(ask("AC2"), crate::store::op::Found::Whole(None));
}

pub fn a_task_with_open_hosts_does_not_expire(open: &mut Factory<'_>) {
    let mut s = open(Settings {
        keep: Span::from_millis(50),
        ..settings()
    });
    dispatch(&mut s, &task("AC1", 1));
    let report = |lifetime: Lifetime, state: Option<TaskState>| {
        let Op::Progress(mut report) = progress("h", 3, None, &["uptime", "df -h"], &[]) else {
            panic!("a report of progress");
        };
        (report.lifetime, report.state) = (lifetime, state);
        Op::Progress(report)
    };
    let Op::Result(mut output) = result("AC1", "h", "uptime", 0) else {
        panic!("a result");
    };
    output.lifetime = Lifetime::Open;
    let done = report(Lifetime::Open, Some(TaskState::Done));
    store_all(&mut s, &[Op::Result(output), done]);
    // A host in a terminal state is written again. A result with the normal lifetime expires
    // meanwhile.
    let states = |over| TaskStates {
        key: TaskKey::parse("AC1", "AC").unwrap(),
        states: vec![(host("h"), TaskState::Done), (host("i"), TaskState::Lost)],
        over,
        last: true,
    };
    run(&mut s, &[Op::TaskStates(Box::new(states(false)))]);
    store_all(&mut s, &[result("AC2", "h", "uptime", 0)]);
    until_gone(&mut s, "anthill:task:AC2:result:h");
    let kept = [
        "AC1",
        "AC1_complete",
        "AC1_h_complete",
        "anthill:task:AC1",
        "anthill:task:AC1:hosts",
        "anthill:task:AC1:result:h",
    ];
    for name in kept {
        assert!(key(&mut s, name).is_some(), "{name} is gone");
    }
    let expires = |s: &mut Box<dyn Subject>| tasks(s)["AC1"].expires;
    assert!(!expires(&mut s));
    // A piece that is not the last one: the rest of the task does not expire before it.
    let piece = TaskStates {
        last: false,
        ..states(true)
    };
    run(&mut s, &[Op::TaskStates(Box::new(piece))]);
    until_gone(&mut s, "AC1_h_complete");
    until_gone(&mut s, "anthill:task:AC1:result:h");
    assert!(!expires(&mut s));
    run(&mut s, &[Op::TaskStates(Box::new(states(true)))]);
    for name in kept {
        until_gone(&mut s, name);
    }
}
