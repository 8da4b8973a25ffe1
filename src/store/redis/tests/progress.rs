//! Reports: a whole task, out of order, twice, and with what is not expected.

use super::*;
use crate::store::Settings;

fn clearing() -> Settings {
    Settings {
        clear_on_done: true,
        ..settings("n1")
    }
}

/// A task's whole life at one host: two commands.
fn life() -> Vec<Op> {
    let mut part = Part("h", "AC1", 0);
    vec![
        part.received(&["x", "y"]),
        part.began("x", &[], &["x", "y"]),
        part.ended(&["x"], &["y"]),
        part.began("y", &["x"], &["y"]),
        part.ended(&["x", "y"], &[]),
    ]
}

/// All keys of the task, for comparison.
fn keys(store: &mut RedisStore) -> Vec<(String, Option<Dump>)> {
    schema::of_task(&key("AC1"), &host("h"))
        .into_iter()
        .map(|name| {
            let value = store.dump(&name).unwrap();
            (name, value)
        })
        .collect()
}

#[test]
fn a_task_goes_from_received_to_done_step_by_step() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    server.say(&["ZADD", "AC1", "2", "x", "1", "y"]);
    let steps = life();
    run(&mut store, &steps[..1]);
    assert_eq!(list(&mut store, "AC1_h_oncall"), ["y", "x"]);
    assert_eq!(field(&mut store, "AC1_oncall", "h"), None);

    run(&mut store, &steps[1..2]);
    assert_eq!(field(&mut store, "AC1_working", "h").as_deref(), Some("x"));

    run(&mut store, &steps[2..3]);
    assert_eq!(field(&mut store, "AC1_working", "h"), None);
    assert_eq!(list(&mut store, "AC1_h_oncall"), ["y"]);
    assert_eq!(list(&mut store, "AC1_h_complete"), ["x"]);
    assert_eq!(
        field(&mut store, "AC1_oncall", "h").as_deref(),
        Some("AC1_h_oncall")
    );
    assert_eq!(
        field(&mut store, "AC1_complete", "h").as_deref(),
        Some("AC1_h_complete")
    );

    run(&mut store, &steps[3..]);
    assert_eq!(list(&mut store, "AC1_h_complete"), ["x", "y"]);
    for gone in ["AC1_h_oncall", "AC1_oncall", "AC1_working"] {
        assert_eq!(store.dump(gone).unwrap(), None, "{gone}");
    }
    for kept in ["AC1", "AC1_complete", "AC1_h_complete"] {
        let redis::Value::Int(ttl) = server.say(&["PTTL", kept]) else {
            panic!("{kept} has no lifetime");
        };
        assert!(ttl > 604_000_000, "{kept}: {ttl}");
    }
    assert_eq!(
        events(&mut store),
        [
            "progress h answered",
            "progress h working",
            "progress h working",
            "progress h working",
            "progress h done",
        ]
    );
}

#[test]
fn a_whole_life_in_one_batch_ends_the_same() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    run(&mut store, &life());
    assert_eq!(list(&mut store, "AC1_h_complete"), ["x", "y"]);
    assert_eq!(store.dump("AC1_working").unwrap(), None);
    assert_eq!(events(&mut store).len(), 5);
}

#[test]
fn where_what_is_done_is_cleared_only_the_book_is_left() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(clearing());
    server.say(&["ZADD", "AC1", "2", "x", "1", "y"]);
    run(&mut store, &life());
    for (name, value) in keys(&mut store) {
        assert_eq!(value.is_some(), name == "AC1", "{name}: {value:?}");
    }
}

#[test]
fn saying_it_twice_or_an_older_one_after_a_newer_changes_nothing() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let steps = life();
    for newest in 0..steps.len() {
        run(&mut store, &steps[newest..=newest]);
        let (before, told) = (keys(&mut store), events(&mut store));
        for older in &steps[..=newest] {
            run(&mut store, std::slice::from_ref(older));
            assert_eq!(keys(&mut store), before, "{older:?} after {newest}");
            assert_eq!(events(&mut store), told, "{older:?} after {newest}");
        }
    }
}

#[test]
fn a_report_without_a_list_sets_it_and_an_empty_end_drops_what_is_listed() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(clearing());
    let mut part = Part("h", "AC1", 0);
    run(&mut store, &[part.began("y", &["x"], &["y", "z"])]);
    assert_eq!(list(&mut store, "AC1_h_oncall"), ["z", "y"]);
    assert_eq!(list(&mut store, "AC1_h_complete"), ["x"]);
    assert_eq!(field(&mut store, "AC1_working", "h").as_deref(), Some("y"));
    run(&mut store, &[part.ended(&[], &[])]);
    assert!(keys(&mut store).iter().all(|(_, value)| value.is_none()));
    assert_eq!(
        events(&mut store),
        ["progress h working", "progress h done"]
    );
}

#[test]
fn commands_that_are_not_listed_do_not_come_back() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let mut part = Part("h", "AC1", 0);
    run(
        &mut store,
        &[
            part.received(&["x", "y", "z"]),
            part.ended(&["x"], &["z", "w"]),
        ],
    );
    assert_eq!(list(&mut store, "AC1_h_oncall"), ["z"]);
    // Said once more, a book sets the list anew, without what is done.
    run(&mut store, &[part.received(&["x", "y", "z"])]);
    assert_eq!(list(&mut store, "AC1_h_oncall"), ["z", "y"]);
}

#[test]
fn what_is_done_never_holds_more_than_the_book() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    server.say(&["ZADD", "AC1", "2", "x", "1", "y"]);
    let mut part = Part("h", "AC1", 0);
    run(&mut store, &[part.ended(&["x", "x", "a", "b"], &["y"])]);
    assert_eq!(list(&mut store, "AC1_h_complete"), ["x", "a"]);
    let many: Vec<_> = (0..5_000).map(|n| format!("c{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let mut bookless = Part("h", "AC2", 10);
    run(
        &mut store,
        &[bookless.report(Phase::Ended, None, &many, &["left"])],
    );
    assert_eq!(list(&mut store, "AC2_h_complete"), many[..4_096]);
}

#[test]
fn hosts_of_one_task_do_not_disturb_each_other() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(clearing());
    let (mut a, mut b) = (Part("a", "AC1", 0), Part("b", "AC1", 10));
    let ops = [
        a.received(&["x", "y"]),
        b.received(&["x", "y"]),
        a.began("x", &[], &["x", "y"]),
        b.began("x", &[], &["x", "y"]),
        b.ended(&["x"], &["y"]),
        a.ended(&["x"], &["y"]),
        a.ended(&["x", "y"], &[]),
    ];
    run(&mut store, &ops);
    assert_eq!(store.dump("AC1_a_complete").unwrap(), None);
    assert_eq!(list(&mut store, "AC1_b_complete"), ["x"]);
    assert_eq!(
        store.dump("AC1_complete").unwrap(),
        Some(Dump::Hash(vec![(
            "b".to_owned(),
            "AC1_b_complete".to_owned()
        )]))
    );
    assert_eq!(
        store.dump("AC1_oncall").unwrap(),
        Some(Dump::Hash(vec![(
            "b".to_owned(),
            "AC1_b_oncall".to_owned()
        )]))
    );
    assert_eq!(store.dump("AC1_working").unwrap(), None);
}

#[test]
fn an_answer_takes_the_host_off_the_list_only_when_the_book_arrived() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    server.say(&["SADD", "AC1_response", "h", "other"]);
    for (seq, rcc) in [(1, 0), (2, 2), (3, 3)] {
        run(&mut store, &[answer(rcc, seq)]);
        assert_eq!(set(&mut store, "AC1_response"), ["h", "other"]);
    }
    for seq in 4..6 {
        run(&mut store, &[answer(1, seq)]);
        assert_eq!(set(&mut store, "AC1_response"), ["other"]);
    }
    let told = ["damaged", "no-book", "damaged", "answered", "answered"];
    let told = told.map(|state| format!("answer h {state}"));
    assert_eq!(events(&mut store), told);
}

fn answer(rcc: u8, seq: u64) -> Op {
    Op::Answer(Box::new(op::Answer {
        origin: None,
        host: host("h"),
        key: key("AC1"),
        rcc,
        stamp: stamp(seq),
    }))
}
