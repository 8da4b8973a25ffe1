//! Reading at a start, with two nodes and with thousands of hosts.

use super::*;
use crate::store::HeldCursor;
use crate::store::op::HeldHost;

fn held(store: &mut RedisStore, all_hosts: bool) -> Vec<HeldHost> {
    let (mut cursor, mut hosts) = (HeldCursor::Start, Vec::new());
    let mut pages = 0;
    while cursor != HeldCursor::End {
        store.held(all_hosts, &mut cursor, &mut hosts).unwrap();
        pages += 1;
        assert!(pages < 1_000, "the cursor does not come to an end");
    }
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    hosts
}

fn names(hosts: &[HeldHost], ours: bool) -> Vec<&str> {
    hosts
        .iter()
        .filter(|one| one.ours == ours)
        .map(|one| one.host.as_str())
        .collect()
}

#[test]
fn each_host_comes_once_with_all_its_facts() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let mut other = server.store(settings("n2"));
    claim(&mut store, "ours", 1);
    run(
        &mut store,
        &[Op::Inventory(Box::new(op::Inventory {
            origins: Vec::new(),
            ticket: TICKET,
            host: host("ours"),
            hostname: Some("ant".to_owned()),
            mac: Some("02-42".to_owned()),
            values: vec!["ant".to_owned()],
            addresses: vec!["1.1.1.1".to_owned(), "2.2.2.2".to_owned()],
        }))],
    );
    claim(&mut other, "theirs", 2);
    let epoch = claim(&mut store, "gone", 3);
    assert_eq!(
        settle(&mut store, offline("gone", epoch, 4)),
        Settled::Released
    );
    server.say(&["SADD", "exists", "left-by-an-old-server", "no host at all"]);

    let hosts = held(&mut store, true);
    assert_eq!(names(&hosts, true), ["left-by-an-old-server", "ours"]);
    assert_eq!(names(&hosts, false), ["gone", "theirs"]);
    let ours = hosts.iter().find(|one| one.host == host("ours")).unwrap();
    assert_eq!(
        *ours,
        HeldHost {
            host: host("ours"),
            ours: true,
            epoch: 1,
            peer: Some("10.0.0.7:40000".parse().unwrap()),
            keyed: false,
            since: UnixMs(1_000),
            seen: UnixMs(1_000_001),
            reason: None,
            hostname: Some("ant".to_owned()),
            mac: Some("02-42".to_owned()),
            addresses: vec!["1.1.1.1".to_owned(), "2.2.2.2".to_owned()],
            admin_labels: None,
            host_labels: None,
        }
    );
    let gone = hosts.iter().find(|one| one.host == host("gone")).unwrap();
    assert_eq!(
        (gone.reason, gone.since),
        (Some(Reason::Timeout), UnixMs(2_000))
    );
    assert_eq!(names(&held(&mut store, false), true), ["ours"]);
    assert!(names(&held(&mut store, false), false).is_empty());
}

#[test]
fn thousands_of_hosts_come_in_pages() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n1"));
    let ops: Vec<_> = (0..5_000).map(|n| online(&format!("h{n}"), n)).collect();
    run(&mut store, &ops);
    let (mut cursor, mut first) = (HeldCursor::Start, Vec::new());
    store.held(true, &mut cursor, &mut first).unwrap();
    assert!(!first.is_empty() && first.len() < 3_000, "{}", first.len());
    let mut hosts = held(&mut store, true);
    hosts.dedup_by(|a, b| a.host == b.host);
    assert_eq!(hosts.len(), 5_000);
    assert!(hosts.iter().all(|one| one.ours));
}

#[test]
fn a_large_node_is_taken_over_completely() {
    let server = RedisServer::start(&[]);
    let mut store = server.store(settings("n2"));
    let names: Vec<String> = (0..20_000).map(|n| format!("h{n}")).collect();
    let key = schema::node_hosts("n1");
    let words = ["SADD", key.as_str()].into_iter();
    let words: Vec<&str> = words.chain(names.iter().map(String::as_str)).collect();
    server.say(&words);
    let mut hosts = Vec::new();
    while store.end_hosts("n1", UnixMs(9), &mut hosts).unwrap() {}
    assert_eq!(hosts, []);
    assert_eq!(server.say(&["EXISTS", &key]), redis::Value::Int(0));
}
