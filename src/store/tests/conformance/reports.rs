//! Cases of reports: how far hosts have come with a task, and their answers.

use super::*;
use crate::limits::COMPLETE_COMMANDS_MAX;

/// The keys of task `AC1` as they stand, the hosts' lists included.
fn task(s: &mut Box<dyn Subject>, hosts: &[&str]) -> BTreeMap<String, Dump> {
    let mut names = owned(&["AC1_working", "AC1_oncall", "AC1_complete", "AC1_response"]);
    for host in hosts {
        names.push(format!("AC1_{host}_oncall"));
        names.push(format!("AC1_{host}_complete"));
    }
    let mut all = BTreeMap::new();
    for name in names {
        if let Some(value) = key(s, &name) {
            all.insert(name, value);
        }
    }
    all
}

fn keys(all: &[(&str, Option<Dump>)]) -> BTreeMap<String, Dump> {
    let own = |(name, value): &(&str, Option<Dump>)| Some(((*name).to_owned(), value.clone()?));
    all.iter().filter_map(own).collect()
}

fn book(s: &mut Box<dyn Subject>, commands: &[(&str, f64)]) {
    s.seed("AC1", sorted(commands).unwrap());
}

pub fn a_task_ends_with_only_its_book_when_cleared(open: &mut Factory<'_>) {
    let mut s = open(clearing());
    let commands = [("three", 10.0), ("two", 20.0), ("one", 30.0)];
    book(&mut s, &commands);
    let (all, none): (&[&str], &[&str]) = (&["one", "two", "three"], &[]);
    let done_field = || hash(&[("h", "AC1_h_complete")]);
    let left_field = || hash(&[("h", "AC1_h_oncall")]);
    let began = |command| hash(&[("h", command)]);
    let steps = [
        (
            progress("h", 1, None, none, all),
            keys(&[("AC1_h_oncall", list(&["three", "two", "one"]))]),
        ),
        (
            progress("h", 2, Some("one"), none, all),
            keys(&[
                ("AC1_h_oncall", list(&["three", "two", "one"])),
                ("AC1_working", began("one")),
            ]),
        ),
        (
            progress("h", 3, None, &["one"], &["two", "three"]),
            keys(&[
                ("AC1_h_complete", list(&["one"])),
                ("AC1_h_oncall", list(&["three", "two"])),
                ("AC1_complete", done_field()),
                ("AC1_oncall", left_field()),
            ]),
        ),
        (
            progress("h", 2, Some("two"), &["one"], &["two", "three"]),
            keys(&[
                ("AC1_h_complete", list(&["one"])),
                ("AC1_h_oncall", list(&["three", "two"])),
                ("AC1_complete", done_field()),
                ("AC1_oncall", left_field()),
                ("AC1_working", began("two")),
            ]),
        ),
        (
            progress("h", 3, None, &["one", "two"], &["three"]),
            keys(&[
                ("AC1_h_complete", list(&["one", "two"])),
                ("AC1_h_oncall", list(&["three"])),
                ("AC1_complete", done_field()),
                ("AC1_oncall", left_field()),
            ]),
        ),
        (
            progress("h", 2, Some("three"), &["one", "two"], &["three"]),
            keys(&[
                ("AC1_h_complete", list(&["one", "two"])),
                ("AC1_h_oncall", list(&["three"])),
                ("AC1_complete", done_field()),
                ("AC1_oncall", left_field()),
                ("AC1_working", began("three")),
            ]),
        ),
        (progress("h", 3, None, all, none), keys(&[])),
    ];
    for (number, (op, expected)) in steps.into_iter().enumerate() {
        // Each message comes twice, and the second changes and tells nothing.
        for _ in 0..2 {
            store_all(&mut s, std::slice::from_ref(&op));
            assert_eq!(task(&mut s, &["h"]), expected, "step {number}");
            assert_eq!(events(&mut s).len(), number + 1, "step {number}");
        }
    }
    assert_eq!(key(&mut s, "AC1"), sorted(&commands));
    let states: Vec<_> = events(&mut s).iter().map(|e| e["state"].clone()).collect();
    assert_eq!(states[1..3], ["working", "working"]);
    assert_eq!(
        last_event(&mut s, &["event", "host", "node", "key", "state"]),
        ["progress", "h", NODE, "AC1", "done"]
    );
}

pub fn a_task_of_two_hosts_keeps_them_apart(open: &mut Factory<'_>) {
    let mut s = open(clearing());
    book(&mut s, &[("b", 1.0), ("a", 2.0)]);
    for host in ["h", "i"] {
        store_all(
            &mut s,
            &[
                progress(host, 1, None, &[], &["a", "b"]),
                progress(host, 2, Some("a"), &[], &["a", "b"]),
            ],
        );
    }
    assert_eq!(key(&mut s, "AC1_working"), hash(&[("h", "a"), ("i", "a")]));
    for host in ["h", "i"] {
        store_all(&mut s, &[progress(host, 3, None, &["a"], &["b"])]);
    }
    let both = keys(&[
        ("AC1_h_complete", list(&["a"])),
        ("AC1_h_oncall", list(&["b"])),
        ("AC1_i_complete", list(&["a"])),
        ("AC1_i_oncall", list(&["b"])),
        (
            "AC1_complete",
            hash(&[("h", "AC1_h_complete"), ("i", "AC1_i_complete")]),
        ),
        (
            "AC1_oncall",
            hash(&[("h", "AC1_h_oncall"), ("i", "AC1_i_oncall")]),
        ),
    ]);
    assert_eq!(task(&mut s, &["h", "i"]), both);

    store_all(&mut s, &[progress("h", 3, None, &["a", "b"], &[])]);
    let one = keys(&[
        ("AC1_i_complete", list(&["a"])),
        ("AC1_i_oncall", list(&["b"])),
        ("AC1_complete", hash(&[("i", "AC1_i_complete")])),
        ("AC1_oncall", hash(&[("i", "AC1_i_oncall")])),
    ]);
    assert_eq!(task(&mut s, &["h", "i"]), one);
    store_all(&mut s, &[progress("i", 3, None, &["a", "b"], &[])]);
    assert_eq!(task(&mut s, &["h", "i"]), keys(&[]));
}

pub fn a_kept_task_keeps_its_finished_commands(open: &mut Factory<'_>) {
    let mut s = open(settings());
    book(&mut s, &[("b", 1.0), ("a", 2.0)]);
    store_all(
        &mut s,
        &[
            progress("h", 1, None, &[], &["a", "b"]),
            progress("h", 2, Some("b"), &["a"], &["b"]),
            progress("h", 3, None, &["a", "b"], &[]),
        ],
    );
    let kept = keys(&[
        ("AC1_h_complete", list(&["a", "b"])),
        ("AC1_complete", hash(&[("h", "AC1_h_complete")])),
    ]);
    assert_eq!(task(&mut s, &["h"]), kept);
    assert_eq!(key(&mut s, "AC1"), sorted(&[("b", 1.0), ("a", 2.0)]));
}

pub fn reports_before_a_restored_state_are_written(open: &mut Factory<'_>) {
    let mut s = open(settings());
    book(&mut s, &[("b", 1.0), ("a", 2.0)]);
    let name = "anthill:task:AC1:hosts";
    let says = |op: Op, state| match op {
        Op::Progress(mut report) => {
            report.state = Some(state);
            Op::Progress(report)
        }
        other => other,
    };
    let told = |name| {
        [
            says(
                progress(name, 1, None, &[], &["a", "b"]),
                TaskState::Working,
            ),
            says(progress(name, 3, None, &["a"], &["b"]), TaskState::Working),
            says(progress(name, 3, None, &["a", "b"], &[]), TaskState::Done),
        ]
    };
    // Emptied, the store was given the task and its states, and nothing else.
    let states = hash(&[("h", "done"), ("i", "done")]);
    s.seed(name, states.clone().unwrap());
    let whole = keys(&[
        ("AC1_h_complete", list(&["a", "b"])),
        ("AC1_complete", hash(&[("h", "AC1_h_complete")])),
    ]);
    for _ in 0..2 {
        store_all(&mut s, &told("h"));
        assert_eq!(task(&mut s, &["h", "i"]), whole);
        assert_eq!(key(&mut s, name), states);
    }
    // Without a record of finished hosts nothing is missing.
    drop(s);
    let mut s = open(clearing());
    store_all(&mut s, &told("i"));
    assert_eq!(task(&mut s, &["h", "i"]), whole);
}

pub fn repeated_or_late_progress_changes_nothing(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let (first, all): (&[&str], &[&str]) = (&["a"], &["a", "b"]);
    let told = [
        progress("h", 1, None, &[], all),
        progress("h", 2, Some("a"), &[], all),
        progress("h", 3, None, first, &["b"]),
        progress("h", 2, Some("b"), first, &["b"]),
        progress("h", 3, None, all, &[]),
    ];
    // The newest first: what it says stands, whatever comes behind it.
    store_all(&mut s, &told[4..]);
    let end = task(&mut s, &["h"]);
    let heard = events(&mut s).len();
    for late in told.iter().chain(told.iter().rev()) {
        store_all(&mut s, std::slice::from_ref(late));
        assert_eq!(task(&mut s, &["h"]), end);
    }
    assert_eq!(events(&mut s).len(), heard, "nothing changed, nothing told");

    // In the middle of a task: an older message after a newer one.
    store_all(&mut s, &[progress("i", 3, None, first, &["b"])]);
    store_all(&mut s, &[progress("i", 2, Some("b"), first, &["b"])]);
    let middle = task(&mut s, &["i"]);
    store_all(&mut s, &told_by("i", all));
    assert_eq!(task(&mut s, &["i"]), middle);
    assert_eq!(key(&mut s, "AC1_working"), hash(&[("i", "b")]));
}

/// The two messages a host sends first.
fn told_by(host: &str, all: &[&str]) -> [Op; 2] {
    [
        progress(host, 1, None, &[], all),
        progress(host, 2, Some(all[0]), &[], all),
    ]
}

pub fn progress_without_a_list_sets_it(open: &mut Factory<'_>) {
    let mut s = open(clearing());
    store_all(
        &mut s,
        &[progress("h", 2, Some("蚂蚁"), &["z"], &["蚂蚁", "y"])],
    );
    assert_eq!(key(&mut s, "AC1_h_oncall"), list(&["y", "蚂蚁"]));
    assert_eq!(key(&mut s, "AC1_working"), hash(&[("h", "蚂蚁")]));
    assert_eq!(
        last_event(&mut s, &["event", "command", "state"]),
        ["progress", "蚂蚁", "working"]
    );
}

pub fn an_empty_end_drops_the_list(open: &mut Factory<'_>) {
    let mut s = open(clearing());
    // Nothing there at all: nothing comes of it.
    store_all(&mut s, &[progress("h", 3, None, &[], &[])]);
    assert_eq!(task(&mut s, &["h"]), keys(&[]));
    assert!(events(&mut s).is_empty());

    s.seed("AC1_h_oncall", list(&["a"]).unwrap());
    s.seed("AC1_working", hash(&[("h", "a"), ("i", "a")]).unwrap());
    store_all(&mut s, &[progress("h", 3, None, &[], &[])]);
    assert_eq!(
        task(&mut s, &["h"]),
        keys(&[("AC1_working", hash(&[("i", "a")]))])
    );
}

pub fn the_book_bounds_the_finished_list(open: &mut Factory<'_>) {
    let mut s = open(settings());
    book(&mut s, &[("a", 1.0), ("b", 2.0)]);
    store_all(&mut s, &[progress("h", 3, None, &["a", "x", "b"], &["y"])]);
    assert_eq!(key(&mut s, "AC1_h_complete"), list(&["a", "x"]));

    s.seed("AC1", sorted(&[]).unwrap());
    let many: Vec<String> = (0..=COMPLETE_COMMANDS_MAX).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(|n| &**n).collect();
    store_all(&mut s, &[progress("i", 3, None, &many, &["y"])]);
    let bounded = &many[..COMPLETE_COMMANDS_MAX];
    assert_eq!(key(&mut s, "AC1_i_complete"), list(bounded));
}

/// One host with one long command a report made every report of the fleet wait for its list.
pub fn the_finished_list_is_no_longer_than_a_message(open: &mut Factory<'_>) {
    let mut s = open(settings());
    let long = |n: usize| format!("{n}{}", "x".repeat(30_000));
    let all: Vec<String> = (0..9).map(long).collect();
    for command in &all {
        store_all(&mut s, &[progress("h", 3, None, &[command], &["y"])]);
    }
    store_all(&mut s, &[progress("h", 3, None, &["z"], &["y"])]);
    let kept = list(&[&all[0], &all[1], "z"]);
    assert_eq!(key(&mut s, "AC1_h_complete"), kept);
}

pub fn unlisted_commands_are_taken_once(open: &mut Factory<'_>) {
    let mut s = open(settings());
    store_all(&mut s, &[progress("h", 1, None, &[], &["x", "y", "z"])]);
    // What is listed and left stays; what was never listed is not added to it.
    for _ in 0..2 {
        store_all(&mut s, &[progress("h", 3, None, &["x"], &["z", "w"])]);
        assert_eq!(key(&mut s, "AC1_h_oncall"), list(&["z"]));
    }
    // A list that has nothing in common with the message counts as none.
    for _ in 0..2 {
        store_all(&mut s, &[progress("h", 3, None, &["x"], &["v", "w", "w"])]);
        assert_eq!(key(&mut s, "AC1_h_oncall"), list(&["w", "v"]));
    }
    assert_eq!(events(&mut s).len(), 3);
}

pub fn an_answer_ends_the_wait_for_a_host(open: &mut Factory<'_>) {
    let mut s = open(settings());
    s.seed("AC1_response", Dump::Set(owned(&["h", "i"])));
    for (rcc, state) in [(0, "damaged"), (3, "damaged"), (2, "no-book")] {
        store_all(&mut s, &[answer("h", rcc)]);
        assert_eq!(key(&mut s, "AC1_response"), set(&["h", "i"]));
        assert_eq!(
            last_event(&mut s, &["event", "host", "key", "state", "seq"]),
            ["answer", "h", "AC1", state, &rcc.to_string()]
        );
    }
    for _ in 0..2 {
        store_all(&mut s, &[answer("h", 1)]);
        assert_eq!(key(&mut s, "AC1_response"), set(&["i"]));
        assert_eq!(last_event(&mut s, &["state"]), ["answered"]);
    }
    store_all(&mut s, &[answer("i", 1)]);
    assert_eq!(key(&mut s, "AC1_response"), None, "gone with its last");
}
