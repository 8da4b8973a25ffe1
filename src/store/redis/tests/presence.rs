//! Claims and releases, what a host is, and who was heard of.

use super::*;
use crate::store::Lease;
use crate::store::op::{Inventory, Notice};
use crate::store::schema::field as f;
use crate::time::Span;

#[test]
fn online_writes_the_nodes_set_the_claim_exists_last_seen_and_the_event() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    assert_eq!(claim(&mut store, "a", 1), 1);
    let key = schema::host(&host("a"));
    assert_eq!(set(&mut store, schema::EXISTS), ["a"]);
    assert_eq!(set(&mut store, &schema::node_hosts("n1")), ["a"]);
    for (name, value) in [
        (f::ID, "a"),
        (f::IP, "10.0.0.7"),
        (f::PORT, "40000"),
        (f::SINCE, "1000"),
        (f::NODE, "n1"),
        (f::EPOCH, "1"),
    ] {
        assert_eq!(
            field(&mut store, &key, name).as_deref(),
            Some(value),
            "{name}"
        );
    }
    assert_eq!(
        store.dump(schema::SEEN).unwrap(),
        Some(Dump::Sorted(vec![("a".to_owned(), 1_000_001.0)]))
    );
    let Some(Dump::Stream(entries)) = store.dump(schema::EVENTS).unwrap() else {
        panic!("no events");
    };
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        entries,
        [[
            named("event", "online"),
            named("host", "a"),
            named("at", "1000001"),
            named("node", "n1"),
            named("seq", "1"),
        ]]
    );
}

#[test]
fn offline_leaves_nothing_but_the_hash_and_is_told_once() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let epoch = claim(&mut store, "a", 1);
    run(&mut store, &[inventory("a", &["h", "m"], &["1.1.1.1"])]);
    assert_eq!(
        settle(&mut store, offline("a", epoch, 2)),
        Settled::Released
    );
    let key = schema::host(&host("a"));
    assert_eq!(field(&mut store, &key, f::NODE).as_deref(), Some(""));
    assert_eq!(
        field(&mut store, &key, f::REASON).as_deref(),
        Some("timeout")
    );
    assert_eq!(field(&mut store, &key, f::SINCE).as_deref(), Some("2000"));
    for gone in [
        "exists",
        "anthill:node:n1:hosts",
        "a_systemInfo",
        "a_systemInfoIPV4",
    ] {
        assert_eq!(store.dump(gone).unwrap(), None, "{gone}");
    }
    let redis::Value::Int(ttl) = server.say(&["PTTL", &key]) else {
        panic!("no lifetime");
    };
    assert!(ttl > 604_000_000, "{ttl}");
    assert_eq!(settle(&mut store, offline("a", epoch, 3)), Settled::NotOurs);
    assert_eq!(events(&mut store), ["online a", "offline a timeout"]);

    // Online again: the reason goes, and so does the lifetime.
    assert_eq!(claim(&mut store, "a", 4), 2);
    assert_eq!(field(&mut store, &key, f::REASON), None);
    assert_eq!(server.say(&["PTTL", &key]), redis::Value::Int(-1));
}

#[test]
fn a_late_offline_of_an_older_claim_or_another_nodes_host_changes_nothing() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let mut other = server.store(settings("n2"));
    let old = claim(&mut store, "a", 1);
    assert_eq!(claim(&mut store, "a", 2), old + 1);
    assert_eq!(settle(&mut store, offline("a", old, 3)), Settled::NotOurs);
    assert_eq!(set(&mut store, schema::EXISTS), ["a"]);
    assert_eq!(set(&mut store, &schema::node_hosts("n1")), ["a"]);

    let newest = claim(&mut other, "a", 1);
    assert_eq!(
        settle(&mut store, offline("a", newest, 4)),
        Settled::NotOurs
    );
    assert_eq!(settle(&mut store, offline("a", 0, 5)), Settled::NotOurs);
    assert_eq!(set(&mut store, schema::EXISTS), ["a"]);
    assert_eq!(store.dump(&schema::node_hosts("n1")).unwrap(), None);
    assert_eq!(set(&mut store, &schema::node_hosts("n2")), ["a"]);
    assert_eq!(settle(&mut other, offline("a", 0, 6)), Settled::Released);
    assert_eq!(store.dump(schema::EXISTS).unwrap(), None);
}

#[test]
fn a_going_offline_that_broke_off_is_finished_when_it_is_repeated() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let epoch = claim(&mut store, "a", 1);
    // What the first write of an offline leaves, and nothing behind it.
    server.say(&["HSET", "anthill:host:a", "node", "", "reason", "reset"]);
    assert_eq!(
        settle(&mut store, offline("a", epoch, 2)),
        Settled::Released
    );
    assert_eq!(store.dump(schema::EXISTS).unwrap(), None);
    assert_eq!(store.dump(&schema::node_hosts("n1")).unwrap(), None);
    assert_eq!(events(&mut store), ["online a", "offline a timeout"]);
}

#[test]
fn a_batch_keeps_each_hosts_order() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let ops = [
        online("a", 1),
        online("b", 2),
        offline("a", 1, 3),
        online("a", 4),
        offline("b", 1, 5),
    ];
    let settled: Vec<_> = run(&mut store, &ops)
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Presence { settled, .. } => settled,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        settled,
        [
            Settled::Claimed { epoch: 1 },
            Settled::Claimed { epoch: 1 },
            Settled::Released,
            Settled::Claimed { epoch: 2 },
            Settled::Released,
        ]
    );
    assert_eq!(set(&mut store, schema::EXISTS), ["a"]);
    assert_eq!(set(&mut store, &schema::node_hosts("n1")), ["a"]);
}

#[test]
fn thousands_go_offline_in_a_few_round_trips() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let names: Vec<_> = (0..3_000).map(|n| format!("h{n}")).collect();
    let ops: Vec<_> = names.iter().map(|name| online(name, 1)).collect();
    run(&mut store, &ops);
    assert_eq!(set(&mut store, schema::EXISTS).len(), names.len());
    let ops: Vec<_> = names.iter().map(|name| offline(name, 1, 2)).collect();
    server.say(&["CONFIG", "RESETSTAT"]);
    run(&mut store, &ops);
    assert_eq!(store.dump(schema::EXISTS).unwrap(), None);
    assert_eq!(store.dump(&schema::node_hosts("n1")).unwrap(), None);
    let redis::Value::BulkString(stats) = server.say(&["INFO", "commandstats"]) else {
        panic!("no statistics");
    };
    let stats = String::from_utf8(stats).unwrap();
    // Three for `exists`, three for the node's set.
    assert!(stats.contains("cmdstat_srem:calls=6,"), "{stats}");
}

fn inventory(name: &str, values: &[&str], addresses: &[&str]) -> Op {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Op::Inventory(Box::new(Inventory {
        origins: Vec::new(),
        ticket: TICKET,
        host: host(name),
        hostname: values.first().map(|&word| word.to_owned()),
        mac: values.get(1).map(|&word| word.to_owned()),
        values: owned(values),
        addresses: owned(addresses),
    }))
}

#[test]
fn a_newer_inventory_replaces_the_older_one() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    claim(&mut store, "a", 1);
    for _ in 0..2 {
        let first = inventory("a", &["ant", "02-42"], &["1.1.1.1", "2.2.2.2"]);
        assert!(matches!(
            run(&mut store, &[first])[..],
            [Outcome::Inventory {
                result: Ok(()),
                ticket: TICKET,
                ..
            }]
        ));
        assert_eq!(set(&mut store, "a_systemInfo"), ["02-42", "ant"]);
        assert_eq!(list(&mut store, "a_systemInfoIPV4"), ["2.2.2.2", "1.1.1.1"]);
        assert_eq!(
            field(&mut store, "anthill:host:a", f::MAC).as_deref(),
            Some("02-42")
        );
    }
    run(&mut store, &[inventory("a", &["bee"], &[])]);
    assert_eq!(set(&mut store, "a_systemInfo"), ["bee"]);
    assert_eq!(store.dump("a_systemInfoIPV4").unwrap(), None);
    assert_eq!(
        field(&mut store, "anthill:host:a", f::HOSTNAME).as_deref(),
        Some("bee")
    );
    assert_eq!(field(&mut store, "anthill:host:a", f::MAC), None);
}

#[test]
fn the_hash_of_a_host_that_is_not_ours_is_not_described() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    run(&mut store, &[inventory("a", &["ant"], &[])]);
    assert_eq!(store.dump("anthill:host:a").unwrap(), None);
}

#[test]
fn last_seen_never_goes_back_and_is_swept() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let seen = |name: &str, at| (host(name), UnixMs(at));
    run(
        &mut store,
        &[Op::Seen(vec![seen("a", 5_000), seen("b", 6_000)])],
    );
    run(
        &mut store,
        &[Op::Seen(vec![seen("a", 4_000), seen("b", 7_000)])],
    );
    let both = vec![("a".to_owned(), 5_000.0), ("b".to_owned(), 7_000.0)];
    assert_eq!(store.dump(schema::SEEN).unwrap(), Some(Dump::Sorted(both)));
    store.sweep(UnixMs(604_800_000 + 6_000)).unwrap();
    let late = vec![("b".to_owned(), 7_000.0)];
    assert_eq!(store.dump(schema::SEEN).unwrap(), Some(Dump::Sorted(late)));
}

#[test]
fn an_audit_only_adds_what_is_missing() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    server.say(&["SADD", "exists", "a", "x"]);
    let outcomes = run(&mut store, &[Op::Audit(vec![host("a"), host("b")])]);
    assert!(matches!(outcomes[..], [Outcome::Audited]));
    assert_eq!(set(&mut store, schema::EXISTS), ["a", "b", "x"]);
}

#[test]
fn a_notice_is_only_an_event() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let notice = Op::Notice(Box::new(Notice {
        event: "mass-offline",
        host: None,
        reason: None,
        count: Some(12),
        stamp: stamp(9),
    }));
    assert!(run(&mut store, &[notice]).is_empty());
    let Some(Dump::Stream(entries)) = store.dump(schema::EVENTS).unwrap() else {
        panic!("no events");
    };
    assert!(entries[0].contains(&("count".to_owned(), "12".to_owned())));
    assert!(entries[0].contains(&("host".to_owned(), String::new())));
}

#[test]
fn the_lease_is_taken_renewed_watched_and_given_up() {
    let server = RedisServer::start(&[]);
    let mut first = server.store(settings("n1"));
    let mut second = server.store(settings("n1"));
    assert_eq!(first.lease(false), Ok(Lease::Taken));
    assert_eq!(first.lease(false), Ok(Lease::Ours));
    match second.lease(false) {
        Ok(Lease::Foreign { left }) => assert!(left > Span::ZERO && left <= Span::from_secs(15)),
        other => panic!("{other:?}"),
    }
    second.release_lease().unwrap();
    assert_eq!(first.lease(false), Ok(Lease::Ours));
    assert_eq!(second.lease(true), Ok(Lease::Taken));
    assert!(matches!(first.lease(false), Ok(Lease::Foreign { .. })));
    second.release_lease().unwrap();
    assert_eq!(first.lease(false), Ok(Lease::Taken));
    assert_eq!(set(&mut first, schema::NODES), ["n1"]);
}
