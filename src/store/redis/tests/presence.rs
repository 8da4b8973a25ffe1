//! Claims and releases on the server: fields, lifetimes, two nodes, number of commands.

use super::*;
use crate::limits::REDIS_KEYS_MAX;
use crate::store::Lease;
use crate::store::op::Inventory;
use crate::store::schema::field as f;
use crate::time::Span;

#[test]
fn online_writes_all_its_keys() {
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
fn offline_leaves_only_the_hash_and_one_event() {
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

    // Online again: reason and time to live are removed.
    assert_eq!(claim(&mut store, "a", 4), 2);
    assert_eq!(field(&mut store, &key, f::REASON), None);
    assert_eq!(server.say(&["PTTL", &key]), redis::Value::Int(-1));
}

#[test]
fn a_late_offline_changes_nothing() {
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
        Settled::Foreign { is_free: false }
    );
    assert_eq!(
        settle(&mut store, offline("a", 0, 5)),
        Settled::Foreign { is_free: false }
    );
    assert_eq!(set(&mut store, schema::EXISTS), ["a"]);
    assert_eq!(store.dump(&schema::node_hosts("n1")).unwrap(), None);
    assert_eq!(set(&mut store, &schema::node_hosts("n2")), ["a"]);
    assert_eq!(settle(&mut other, offline("a", 0, 6)), Settled::Released);
    assert_eq!(store.dump(schema::EXISTS).unwrap(), None);
}

#[test]
fn a_batch_keeps_the_order_of_each_host() {
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
            Settled::claimed(1),
            Settled::claimed(1),
            Settled::Released,
            Settled::claimed(2),
            Settled::Released,
        ]
    );
    assert_eq!(set(&mut store, schema::EXISTS), ["a"]);
    assert_eq!(set(&mut store, &schema::node_hosts("n1")), ["a"]);
}

#[test]
fn thousands_go_offline_in_few_commands() {
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
    // `exists`, the node's set, claims and two fields share commands.
    let calls = names.len().div_ceil(REDIS_KEYS_MAX);
    for (command, calls) in [("srem", 2 * calls), ("evalsha", calls), ("del", 2 * calls)] {
        let sign = format!("cmdstat_{command}:calls={calls},");
        assert!(stats.contains(&sign), "{sign}: {stats}");
    }
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
fn a_lease_is_taken_renewed_and_released() {
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

#[test]
fn a_long_run_renews_the_lease() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let ops: Vec<_> = (0..20).map(|n| online("a", n)).collect();
    let key = schema::node_lease("n1");
    let left = || match server.say(&["PTTL", &key]) {
        redis::Value::Int(left) => left,
        other => panic!("{other:?}"),
    };
    let long_ago = std::time::Instant::now().checked_sub(std::time::Duration::from_secs(6));
    run(&mut store, &ops);
    assert_eq!(left(), -2, "it was never ours");
    assert_eq!(store.lease(false), Ok(Lease::Taken));
    server.say(&["PEXPIRE", &key, "60000"]);
    run(&mut store, &ops);
    assert!(left() > 15_000, "not yet due");
    store.lease.renewed = long_ago;
    run(&mut store, &ops);
    assert!((0..=15_000).contains(&left()), "renewed");
    // A missing lease stays missing, so that the worker notices it.
    server.say(&["DEL", &key]);
    store.lease.renewed = long_ago;
    run(&mut store, &ops);
    assert_eq!(left(), -2);
    assert_eq!(store.lease(false), Ok(Lease::Taken));
}

#[test]
fn a_contested_claim_is_refused_for_a_minute() {
    let server = RedisServer::start(&[]);
    let mut nodes = [server.store(settings("n1")), server.store(settings("n2"))];
    let connects = |store: &mut _, seq| settle(store, online("a", seq));
    for seq in 0..16 {
        let node = &mut nodes[seq as usize % 2];
        let settled = connects(node, seq);
        assert!(
            matches!(settled, Settled::Claimed { .. }),
            "{seq}: {settled:?}"
        );
    }
    let [one, two] = &mut nodes;
    let before = events(one).len();
    assert_eq!(connects(one, 16), Settled::Contested { is_first: true });
    assert_eq!(connects(one, 17), Settled::Contested { is_first: false });
    assert_eq!(set(one, &schema::node_hosts("n1")), [""; 0]);
    assert_eq!(set(one, schema::EXISTS), ["a"]);
    // The node that holds the host can claim it again.
    assert_eq!(claim(two, "a", 18), 17);
    assert_eq!(settle(two, offline("a", 17, 19)), Settled::Released);
    assert_eq!(claim(one, "a", 20), 18, "free hosts are not contested");
    assert!(events(one).len() >= before);
    let barred = field(one, &schema::host(&host("a")), "barred_until");
    assert!(barred.is_some());
}

#[test]
fn a_late_claim_takes_no_host_that_moved() {
    let server = RedisServer::start(&[]);
    let (mut old, mut new) = (server.store(settings("n1")), server.store(settings("n2")));
    let late = |silent_ms| {
        let Op::Online(mut op) = online("a", 2) else {
            panic!("no claim");
        };
        op.hold = op::Hold::Claim {
            boot: None,
            silent_ms,
        };
        Op::Online(op)
    };
    // Free hosts are claimed, however late.
    assert!(matches!(
        settle(&mut new, late(60_000)),
        Settled::Claimed { epoch: 1, .. }
    ));
    let foreign = Settled::Foreign { is_free: false };
    assert_eq!(settle(&mut old, late(60_000)), foreign);
    assert_eq!(set(&mut old, &schema::node_hosts("n1")), [""; 0]);
    assert_eq!(set(&mut old, schema::EXISTS), ["a"]);
    // Its own claim never stands in the way.
    assert_eq!(
        settle(&mut new, late(60_000)),
        Settled::Claimed {
            epoch: 2,
            moved: false,
            restarted: false,
            keyed: false
        }
    );
    // A message of the host after the other claim, or a claim in time.
    let key = schema::host(&host("a"));
    server.say(&["HINCRBY", &key, "claimed", "-60001"]);
    assert!(matches!(
        settle(&mut old, late(60_000)),
        Settled::Claimed { epoch: 3, .. }
    ));
    assert!(matches!(
        settle(&mut new, late(999)),
        Settled::Claimed { epoch: 4, .. }
    ));
}
