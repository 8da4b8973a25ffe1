//! Outages of the store of all kinds: acknowledged reports are stored afterwards, in order, and the
//! store agrees with the server on the hosts.
//!
//! The reports are numbered; `support/reports.rs` knows where each must be found.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::pace;
use super::support::process::{memory, processor_share};
use super::support::proxy::{Mode, Proxy};
use super::support::reports::{Report, acknowledged, dispatch_for_results, missing};
use super::support::{Home, Host, PATIENCE, Redis, Server, until_so};

fn name(number: usize) -> String {
    format!("127.0.40.{number}")
}

/// A home in front of a Redis of its own that syncs its file once a second.
fn durable() -> Home {
    let mut home = Home::redis_with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    home.set("store.timeout_ms", 500);
    home
}

/// Sends the reports of these numbers and takes their acknowledgements.
#[track_caller]
fn report(host: &mut Host, numbers: impl IntoIterator<Item = u64>) -> Vec<Report> {
    let reports: Vec<Report> = numbers.into_iter().map(Report).collect();
    reports.iter().for_each(|report| host.send(&report.bytes()));
    acknowledged(host, reports.len())
}

/// Waits until all of these are in Redis.
#[track_caller]
fn until_stored(redis: &Redis, host: &str, reports: &BTreeSet<Report>) {
    let start = Instant::now();
    loop {
        let missing = missing(redis, host, reports);
        if missing.is_empty() {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "acknowledged, not stored: {missing:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until Redis and the server agree that exactly `expected` are online.
#[track_caller]
fn until_agreed(server: &Server, redis: &Redis, expected: &BTreeSet<String>) {
    until_so("Redis has who is online", || redis.exists() == *expected);
    until_so("and under this node", || {
        redis.say::<BTreeSet<String>>(&["SMEMBERS", "anthill:node:n1:hosts"]) == *expected
    });
    let page = server.json("/v1/hosts?state=online");
    let online = page["hosts"].as_array().expect("hosts").iter();
    let online: BTreeSet<String> = online
        .map(|host| host["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(online, *expected, "the server's own view");
}

#[test]
fn redis_and_server_die_under_600_reports() {
    const HOSTS: usize = 4;
    const EACH: u64 = 150;
    let mut home = durable();
    let server = home.start();
    let mut hosts: Vec<Host> = (1..=HOSTS)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    let names: Vec<String> = (1..=HOSTS).map(name).collect();
    dispatch_for_results(&server, &names);
    for host in &names {
        (0..EACH).for_each(|number| Report(number).expect(home.store(), host));
    }
    let mut stored = vec![BTreeSet::new(); HOSTS];

    // A third is sent before the outage, a third during it, and half of the last one arrives.
    for (host, stored) in hosts.iter_mut().zip(&mut stored) {
        stored.extend(report(host, 0..50));
    }
    for (index, host) in hosts.iter_mut().enumerate() {
        (50..100).for_each(|number| host.send(&Report(number).bytes()));
        if index == HOSTS / 2 {
            home.store_mut().kill();
        }
    }
    for (host, stored) in hosts.iter_mut().zip(&mut stored) {
        stored.extend(acknowledged(host, 50));
    }
    server.until_ready(false);
    for (host, stored) in hosts.iter_mut().zip(&mut stored) {
        (100..150).for_each(|number| host.send(&Report(number).bytes()));
        stored.extend(acknowledged(host, 25));
    }
    assert!(server.metric("anthill_spool_records_waiting") >= 25);
    server.kill();
    drop(hosts);

    // Both come back; no host reports again.
    home.store_mut().restart();
    let server = home.start();
    server.until_ready(true);
    for (host, stored) in names.iter().zip(&stored) {
        assert_eq!(stored.len(), 125);
        until_stored(home.store(), host, stored);
    }
    // The hosts reconnect, repeat unacknowledged reports, and continue.
    for (name, stored) in names.iter().zip(&mut stored) {
        let mut host = Host::online(server.tcp, name);
        stored.extend(report(&mut host, 125..EACH));
        assert_eq!(stored.len() as u64, EACH);
        until_stored(home.store(), name, stored);
    }
}

/// Reports wait in the spool, hosts are connected, and there is no work to do for either.
#[test]
fn waiting_reports_use_no_cpu() {
    let mut home = durable();
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    let _others: Vec<Host> = (2..=40)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    dispatch_for_results(&server, &[name(1)]);
    let mut stored = BTreeSet::new();
    for dead in [true, false] {
        let from = stored.len() as u64;
        (from..from + 30).for_each(|number| Report(number).expect(home.store(), &name(1)));
        match dead {
            true => home.store_mut().kill(),
            false => home.store().stop(),
        }
        stored.extend(report(&mut host, from..from + 30));
        server.until_ready(false);
        assert!(server.metric("anthill_spool_records_waiting") >= 30);
        let share = processor_share(server.pid(), Duration::from_millis(2_500));
        eprintln!("dead: {dead}, {share:.3} of a processor");
        assert!(share < 0.3, "dead: {dead}, {share:.3} of a processor");
        match dead {
            true => home.store_mut().restart(),
            false => home.store().go_on(),
        }
        server.until_ready(true);
        until_stored(home.store(), &name(1), &stored);
    }
}

#[test]
fn lost_seconds_of_redis_are_replayed() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 500);
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    dispatch_for_results(&server, &[name(1)]);
    (0..60).for_each(|number| Report(number).expect(home.store(), &name(1)));
    let early: BTreeSet<Report> = report(&mut host, 0..30).into_iter().collect();
    let _: String = home.store().say(&["SAVE"]);
    // Confirmed by Redis and by us, and then Redis comes back with what it had saved before.
    let late: BTreeSet<Report> = report(&mut host, 30..60).into_iter().collect();
    assert_eq!(
        missing(home.store(), &name(1), &late),
        [],
        "they were stored"
    );
    let _newcomer = Host::online(server.tcp, &name(2));
    home.store_mut().restart();
    server.until_ready(true);
    until_stored(home.store(), &name(1), &early);
    until_stored(home.store(), &name(1), &late);
    until_agreed(&server, home.store(), &[name(1), name(2)].into());
}

/// Redis refuses writes, for several reasons in turn.
#[test]
fn redis_refuses_to_write_for_now() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 500);
    let redis = home.store();
    let nobody = super::support::redis::free_port().to_string();
    let ways: [(&[&str], &[&str]); 3] = [
        (
            &["REPLICAOF", "127.0.0.1", &nobody],
            &["REPLICAOF", "NO", "ONE"],
        ),
        (
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
        (
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
        ),
    ];
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    dispatch_for_results(&server, &[name(1)]);
    (0..60).for_each(|number| Report(number).expect(redis, &name(1)));
    for (round, (refuse, allow)) in (0_u64..).zip(ways) {
        let goes = Host::online(server.tcp, &name(2));
        until_so("it is up to date", || redis.exists().len() == 2);
        let _: String = redis.say(refuse);
        let stored: BTreeSet<Report> = report(&mut host, round * 20..round * 20 + 20)
            .into_iter()
            .collect();
        server.until_ready(false);
        assert!(
            server.metric("anthill_spool_records_waiting") >= 20,
            "{refuse:?}"
        );
        let _comes = Host::online(server.tcp, &name(3));
        drop(goes);
        server.until_offline(&name(2));
        assert!(missing(redis, &name(1), &stored).len() >= 6, "{refuse:?}");
        let _: String = redis.say(allow);
        server.until_ready(true);
        until_stored(redis, &name(1), &stored);
        until_agreed(&server, redis, &[name(1), name(3)].into());
        drop(_comes);
        until_so("the newcomer is gone", || redis.exists().len() == 1);
    }
    assert_eq!(server.metric("anthill_store_rejected_total"), 0);
    assert_eq!(redis.story(&name(1)), ["online"]);
}

#[test]
fn a_failing_network_to_redis_loses_nothing() {
    let redis = Redis::start(&[]);
    let proxy = Proxy::before(redis.port());
    let mut home = Home::at(&proxy.url());
    home.set("store.timeout_ms", 400);
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    let mut beating = Host::online(server.tcp, &name(2));
    dispatch_for_results(&server, &[name(1)]);
    (0..160).for_each(|number| Report(number).expect(&redis, &name(1)));
    let mut stored = BTreeSet::new();
    let before = pace::best(&mut beating);

    // It accepts and says nothing, for longer than its timeout several times over.
    proxy.set(Mode::Hang);
    let start = Instant::now();
    stored.extend(report(&mut host, 0..40));
    server.until_ready(false);
    while start.elapsed() < Duration::from_millis(1_500) {
        pace::keeps(&mut beating, before, Duration::from_millis(10));
    }
    assert_eq!(server.get("/readyz").0, 503);
    proxy.set(Mode::Pass);
    server.until_ready(true);

    // Replies are cut in the middle, again and again: written or not, it is written again.
    for round in 1..4 {
        let cuts = proxy.cuts();
        proxy.cut_next_reply();
        stored.extend(report(&mut host, round * 40 - 10..round * 40 + 30));
        until_so("the cut", || proxy.cuts() > cuts);
        server.until_ready(true);
    }

    // A slow store is available.
    let sessions = server.metric("anthill_store_sessions_total");
    proxy.set(Mode::Delay(Duration::from_millis(40)));
    stored.extend(report(&mut host, 150..155));
    assert_eq!(server.metric("anthill_store_sessions_total"), sessions);

    proxy.set(Mode::Refuse);
    server.until_ready(false);
    stored.extend(report(&mut host, 155..160));
    proxy.set(Mode::Pass);
    server.until_ready(true);
    assert_eq!(stored.len(), 160);
    until_stored(&redis, &name(1), &stored);
    until_agreed(&server, &redis, &[name(1), name(2)].into());
    assert_eq!(redis.story(&name(1)), ["online"]);
    assert_eq!(server.metric("anthill_store_rejected_total"), 0);
}

#[test]
fn reports_are_written_in_their_order() {
    let mut home = durable();
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    let progress = |number: u64| {
        let done: Vec<String> = (0..number).map(|n| format!("c{n}")).collect();
        let left: Vec<String> = (number..40).map(|n| format!("c{n}")).collect();
        json!({"flag": "ADH27", "code": "ACorder", "phase": 3, "working": null, "complete": done,
            "oncall": left, "reply": true, "seq": number})
        .to_string()
    };
    for number in 1..=40 {
        if number == 10 {
            home.store_mut().kill();
        }
        assert_eq!(host.ask(progress(number).as_bytes())["ACK"], "keepGotIt");
        if number == 25 {
            home.store_mut().restart();
        }
    }
    server.until_ready(true);
    let redis = home.store();
    let list = format!("ACorder_{}_complete", name(1));
    let expected: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    until_so("all are done", || {
        redis
            .say::<Vec<String>>(&["LRANGE", &list, "0", "-1"])
            .len()
            == 40
    });
    assert_eq!(
        redis.say::<Vec<String>>(&["LRANGE", &list, "0", "-1"]),
        expected
    );
    let oncall = format!("ACorder_{}_oncall", name(1));
    assert_eq!(redis.say::<u64>(&["EXISTS", &oncall]), 0, "none is left");
    until_so("the spool is empty", || {
        server.metric("anthill_spool_records_waiting") == 0
    });
}

#[test]
fn a_refused_record_blocks_no_other() {
    let mut home = durable();
    let _: String = home
        .store()
        .say(&["SET", &format!("AC15_{}_oncall", name(1)), "a text"]);
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    dispatch_for_results(&server, &[name(1)]);
    (0..30).for_each(|number| Report(number).expect(home.store(), &name(1)));
    home.store_mut().kill();
    server.until_ready(false);
    // It belongs to the spool by then, and the store's refusal comes too late for the host.
    let mut stored: BTreeSet<Report> = report(&mut host, 0..30).into_iter().collect();
    assert!(stored.remove(&Report(15)));
    home.store_mut().restart();
    server.until_ready(true);
    until_stored(home.store(), &name(1), &stored);
    assert_eq!(server.metric("anthill_store_rejected_total"), 1);
    assert_eq!(server.metric("anthill_spool_records_waiting"), 0);
    let rejected = std::fs::read_to_string(home.path().join("spool/rejected")).expect("put aside");
    let line: serde_json::Value = serde_json::from_str(rejected.trim()).expect("one line");
    assert_eq!(line["record"]["key"], "AC15", "{line}");
    assert!(line["error"].as_str().unwrap().contains("WRONGTYPE"));
    // While the store is available, the host itself is refused.
    let key = format!("AC33_{}_oncall", name(1));
    let _: String = home.store().say(&["SET", &key, "a text"]);
    host.send(&Report(33).bytes());
    let refused = host.reply();
    assert_eq!(refused["ACK"], "keepRefused", "{refused}");
    report(&mut host, [36]);
}

/// Hosts connect and disconnect during a long outage. Memory does not grow with their changes, and
/// afterwards the store has their last state.
#[test]
fn presence_coalesces_while_hosts_come_and_go() {
    const HOSTS: usize = 20;
    let mut home = durable();
    let server = home.start();
    let mut hosts: Vec<Host> = (1..=HOSTS)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    until_so("all are online", || home.store().exists().len() == HOSTS);
    home.store_mut().kill();
    server.until_ready(false);
    let mut churn = |rounds: u64| {
        let before = server.metric("anthill_onlines_total");
        for _ in 0..rounds {
            for (index, host) in hosts.iter_mut().enumerate() {
                let new = name(index + 1);
                host.stream.shutdown(std::net::Shutdown::Both).unwrap();
                server.until_offline(&new);
                *host = Host::online(server.tcp, &new);
            }
        }
        let came = server.metric("anthill_onlines_total") - before;
        assert_eq!(came, rounds * HOSTS as u64);
        memory(server.pid())
    };
    let early = churn(20);
    let late = churn(60);
    assert!(
        late < early + 1024 * 1024,
        "400 changes: {early} bytes, 1,600 more: {late}"
    );
    // One in two is gone for good.
    let left: BTreeSet<String> = (1..=HOSTS / 2).map(name).collect();
    hosts.truncate(HOSTS / 2);
    server.until_offline(&name(HOSTS));
    home.store_mut().restart();
    server.until_ready(true);
    until_agreed(&server, home.store(), &left);
    for number in 1..=HOSTS {
        let story = home.store().story(&name(number));
        let last = if number <= HOSTS / 2 {
            "online"
        } else {
            "offline closed"
        };
        assert_eq!(story.last().map(String::as_str), Some(last), "{story:?}");
        assert!(story.len() <= 2 + 2 * 16, "{} events", story.len());
        for pair in story.windows(2) {
            assert_ne!(pair[0], pair[1], "each change once: {story:?}");
        }
    }
}
