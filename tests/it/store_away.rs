//! Outages of Redis under a running server: it returns with its data, or without.

use std::time::{Duration, Instant};

use super::support::{BEAT_ASKING, Home, Host, PATIENCE, until_so};

fn name(number: usize) -> String {
    format!("127.0.6.{number}")
}

/// A report that is to be acknowledged.
fn report(key: &str) -> Vec<u8> {
    format!(
        r#"{{"flag":"ADH27","code":"{key}","phase":1,"working":null,"complete":[],
           "oncall":["a","b"],"reply":true}}"#
    )
    .into_bytes()
}

#[test]
fn redis_comes_back_empty() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 500);
    let server = home.start();
    let mut hosts: Vec<Host> = (1..=20)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    for (number, host) in hosts.iter_mut().enumerate() {
        assert_eq!(
            host.ask(&report(&format!("AC{number}")))["ACK"],
            "keepGotIt"
        );
    }
    let all: std::collections::BTreeSet<String> = (1..=20).map(name).collect();
    until_so("all are online", || home.store().exists() == all);

    home.store_mut().kill();
    server.until_ready(false);
    // No host waits for the store, neither with heartbeats nor with reports.
    for (number, host) in hosts.iter_mut().enumerate() {
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
        assert_eq!(
            host.ask(&report(&format!("ACaway{number}")))["ACK"],
            "keepGotIt"
        );
    }
    assert!(
        server.metric("anthill_spool_records_waiting") >= 20,
        "on disk"
    );
    drop(hosts.pop());
    server.until_offline(&name(20));

    home.store_mut().restart();
    server.until_ready(true);
    let redis = home.store();
    let left: std::collections::BTreeSet<String> = (1..=19).map(name).collect();
    until_so("who is online is online again", || redis.exists() == left);
    until_so("the node's own set", || {
        redis.say::<u64>(&["SCARD", "anthill:node:n1:hosts"]) == 19
    });
    assert_eq!(
        redis.say::<u64>(&["EXISTS", "anthill:node:n1"]),
        1,
        "the lease"
    );
    assert!(redis.say::<i64>(&["PTTL", "anthill:node:n1"]) > 0);
    for number in [1, 19] {
        let ip: String = redis.say(&["HGET", &format!("anthill:host:{}", name(number)), "ip"]);
        assert_eq!(ip, name(number));
    }
    // What was acknowledged is there: from the spool, and of the last seconds before.
    for key in ["AC0", "ACaway0"] {
        let list = format!("{key}_{}_oncall", name(1));
        until_so(key, || {
            redis.say::<Vec<String>>(&["LRANGE", &list, "0", "-1"]) == ["b", "a"]
        });
    }
    until_so("the spool is empty", || {
        server.metric("anthill_spool_records_waiting") == 0
    });
    for number in 1..=19 {
        assert!(
            !redis
                .story(&name(number))
                .contains(&"offline lost".to_owned())
        );
        assert!(server.is_online(&name(number)));
    }
}

#[test]
fn redis_hangs_for_three_seconds() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 300)
        .set("heartbeat.timeout_s", 10);
    let server = home.start();
    let mut hosts: Vec<Host> = (1..=5)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    until_so("all are online", || home.store().exists().len() == 5);

    home.store().stop();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut reports = 0;
    while start.elapsed() < Duration::from_secs(3) {
        for host in &mut hosts {
            let asked = Instant::now();
            assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
            slowest = slowest.max(asked.elapsed());
        }
        reports += 1;
        assert_eq!(
            hosts[0].ask(&report(&format!("AC{reports}")))["ACK"],
            "keepGotIt"
        );
        assert!(start.elapsed() < PATIENCE);
    }
    // A store that hangs costs a beat nothing; a busy machine may cost it some.
    assert!(slowest < Duration::from_millis(800), "{slowest:?}");
    assert_eq!(server.get("/readyz").0, 503);
    let mut newcomer = Host::online(server.tcp, &name(6));
    drop(hosts.remove(4));
    server.until_offline(&name(5));

    home.store().go_on();
    let beat_until = |what: &str, hosts: &mut Vec<Host>, so: &dyn Fn() -> bool| {
        until_so(what, || {
            hosts.iter_mut().for_each(|host| host.beat());
            so()
        });
    };
    hosts.push(Host {
        stream: newcomer.stream.try_clone().unwrap(),
    });
    let redis = home.store();
    beat_until("it is ready", &mut hosts, &|| {
        server.get("/readyz").0 == 200
    });
    let online = [1, 2, 3, 4, 6].map(name).into();
    beat_until("who is online", &mut hosts, &|| redis.exists() == online);
    let last = format!("AC{reports}_{}_oncall", name(1));
    beat_until("the last report", &mut hosts, &|| {
        redis.say::<u64>(&["LLEN", &last]) == 2
    });
    beat_until("who went", &mut hosts, &|| redis.story(&name(5)).len() == 2);
    for number in 1..=4 {
        assert_eq!(redis.story(&name(number)), ["online"]);
    }
    for report in 1..=reports {
        let list = format!("AC{report}_{}_oncall", name(1));
        assert_eq!(redis.say::<u64>(&["LLEN", &list]), 2, "each once: {list}");
    }
    assert_eq!(newcomer.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert_eq!(
        server.metric("anthill_offlines_total{reason=\"timeout\"}"),
        0
    );
}

#[test]
fn foreign_keys_do_not_block_the_rest() {
    let home = Home::redis();
    let redis = home.store();
    let _: String = redis.say(&["SET", "AC1_127.0.6.1_oncall", "a text"]);
    let server = home.start();
    let mut host = Host::online(server.tcp, &name(1));
    let refused = host.ask(&report("AC1"));
    assert_eq!(refused["ACK"], "keepRefused", "{refused}");
    assert!(
        refused["error"].as_str().is_some_and(|why| !why.is_empty()),
        "{refused}"
    );
    assert_eq!(host.ask(&report("AC2"))["ACK"], "keepGotIt");
    assert_eq!(
        redis.say::<String>(&["GET", "AC1_127.0.6.1_oncall"]),
        "a text"
    );
    let rejected = std::fs::read(home.path().join("spool/rejected")).expect("what was refused");
    assert!(String::from_utf8_lossy(&rejected).contains("AC1"));
    assert_eq!(server.metric("anthill_reports_refused_total"), 1);
}
