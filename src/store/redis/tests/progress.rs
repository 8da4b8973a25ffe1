//! Reports beyond the conformance suite: step by step, lifetimes, one batch.

use super::*;
use crate::store::Settings;

fn clearing() -> Settings {
    Settings {
        clear_on_done: true,
        ..settings("n1")
    }
}

/// All reports of a host on a task with two commands.
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
        .map(|name| {
            let value = store.dump(&name).unwrap();
            (name, value)
        })
        .collect()
}

#[test]
fn a_task_goes_from_received_to_done() {
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
            "progress h working",
            "progress h working",
            "progress h working",
            "progress h working",
            "progress h done",
        ]
    );
}

#[test]
fn a_whole_task_in_one_batch_ends_the_same() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    run(&mut store, &life());
    assert_eq!(list(&mut store, "AC1_h_complete"), ["x", "y"]);
    assert_eq!(store.dump("AC1_working").unwrap(), None);
    assert_eq!(events(&mut store).len(), 5);
}

#[test]
fn repeated_and_older_reports_change_nothing() {
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
fn a_missing_list_is_set_and_an_empty_one_dropped() {
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

/// Redis commands that were run, with those in scripts.
fn commands(server: &RedisServer) -> u64 {
    let redis::Value::BulkString(stats) = server.say(&["INFO", "commandstats"]) else {
        panic!("no statistics");
    };
    let text = String::from_utf8(stats).unwrap();
    let calls = text.lines().filter_map(|line| {
        let calls = line.split_once("calls=")?.1;
        calls.split(',').next()?.parse::<u64>().ok()
    });
    calls.sum()
}

/// A whole task: each command begins and ends.
fn long_life(names: &[String]) -> Vec<Op> {
    let mut part = Part("h", "AC1", 0);
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut ops = vec![part.received(&names)];
    for at in 0..names.len() {
        ops.push(part.began(names[at], &names[..at], &names[at..]));
        ops.push(part.ended(&names[..=at], &names[at + 1..]));
    }
    ops
}

fn write_book(server: &RedisServer, names: &[String]) {
    for (at, name) in names.iter().enumerate() {
        server.say(&["ZADD", "AC1", &at.to_string(), name]);
    }
}

#[test]
fn a_report_costs_at_most_six_commands_on_average() {
    let names: Vec<String> = (0..20).map(|at| format!("command {at}")).collect();
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    write_book(&server, &names);
    let ops = long_life(&names);
    let before = commands(&server);
    ops.iter()
        .for_each(|op| drop(run(&mut store, std::slice::from_ref(op))));
    let cost = commands(&server) - before;
    assert!(cost <= 6 * ops.len() as u64, "{cost} for {}", ops.len());
    // The keys are those that a store writes which caches nothing.
    let other = RedisServer::start(&[]);
    let mut uncached = other.store(settings("n1"));
    uncached.context.keys_max = 1;
    write_book(&other, &names);
    run(&mut uncached, &ops);
    assert_eq!(keys(&mut store), keys(&mut uncached));
    assert_eq!(events(&mut store), events(&mut uncached));
}

#[test]
fn changes_from_outside_between_reports_are_noticed() {
    for change in [
        &["DEL", "AC1_h_complete"][..],
        &["RPUSH", "AC1_h_complete", "other"],
        &["DEL", "AC1_h_oncall"],
        &["RPUSH", "AC1_h_oncall", "other"],
        &["RPOP", "AC1_h_oncall"],
        &["FLUSHALL"],
    ] {
        let names: Vec<String> = (0..6).map(|at| at.to_string()).collect();
        let ops = long_life(&names);
        let [mut cached, mut read] = [64, 1].map(|keys_max| {
            let server = RedisServer::start(&[]);
            let mut store = server.store(settings("n1"));
            store.context.keys_max = keys_max;
            write_book(&server, &names);
            run(&mut store, &ops[..6]);
            server.say(change);
            ops[6..]
                .iter()
                .for_each(|op| drop(run(&mut store, std::slice::from_ref(op))));
            (server, store)
        });
        assert_eq!(keys(&mut cached.1), keys(&mut read.1), "{change:?}");
    }
}
