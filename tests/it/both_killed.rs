//! Redis is killed, and then the server in the outage, before it can write the data again that
//! Redis may have lost. After both return, acknowledged reports are stored: all of them if Redis
//! keeps a file, otherwise those of the ten seconds before its death and later ones.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::reports::{self, Report, dispatch_for_results};
use super::support::{BEAT_ASKING, Home, Host, PATIENCE, Redis, Server, until, until_so};

const EACH: u64 = 100;

/// Six hosts, of which three have a name.
fn names() -> Vec<String> {
    let plain = (1..=3).map(|n| format!("127.0.44.{n}"));
    plain.chain((1..=3).map(|n| format!("named-{n}"))).collect()
}

fn connect(server: &Server) -> Vec<Host> {
    let host = |(index, name): (usize, String)| {
        let from = format!("127.0.44.{}", index + 1);
        match index < 3 {
            true => Host::online(server.tcp, &from),
            false => Host::named(server.tcp, &from, &name),
        }
    };
    names().into_iter().enumerate().map(host).collect()
}

/// Acknowledged reports of one host, with their times.
type Acknowledged = Vec<(Report, Instant)>;

fn report(host: &mut Host, numbers: Range<u64>, done: &mut Acknowledged) {
    let count = numbers.clone().count();
    numbers.for_each(|number| host.send(&Report(number).bytes()));
    acknowledged(host, count, done);
}

fn acknowledged(host: &mut Host, count: usize, done: &mut Acknowledged) {
    for _ in 0..count {
        let report = reports::acknowledged(host, 1)[0];
        done.push((report, Instant::now()));
    }
}

/// Those of them that Redis does not have. A host that answered has left the awaited answers, if
/// there are any, and its answer is an event.
fn missing(redis: &Redis, host: &str, expected: &BTreeSet<Report>) -> Vec<Report> {
    let events = redis.events();
    let answers = events
        .iter()
        .filter(|event| event.field("event") == "answer");
    let answered: BTreeSet<&str> = answers
        .filter(|event| event.field("host") == host)
        .map(|event| event.field("key"))
        .collect();
    let is_there = |report: &Report| match report.0 % 3 {
        1 => answered.contains(report.key().as_str()) && report.is_stored(redis, host),
        _ => report.is_stored(redis, host),
    };
    let missing = expected.iter().filter(|report| !is_there(report));
    missing.copied().collect()
}

/// The way in which the server notices the death of Redis.
#[derive(Clone, Copy)]
enum Found {
    /// By new reports.
    ByReports,
    /// By its own checks.
    Idle,
}

fn both_are_killed(arguments: &[&str], found: Found) {
    let mut home = Home::redis_with(arguments);
    home.set("store.timeout_ms", 500);
    let keeps_a_file = arguments.contains(&"yes");
    let server = home.start();
    let mut hosts = connect(&server);
    let names = names();
    dispatch_for_results(&server, &names);
    let mut done: Vec<Acknowledged> = vec![Vec::new(); names.len()];
    for (host, done) in hosts.iter_mut().zip(&mut done) {
        report(host, 0..60, done);
    }
    server.dispatch(&json!({"key": "AClate", "commands": {"b": 2, "a": 1}, "hosts": names}));
    let died = match found {
        Found::Idle => {
            home.store_mut().kill();
            let died = Instant::now();
            until_so("it is noticed", || {
                home.path().join("spool/recent").exists()
            });
            died
        }
        Found::ByReports => {
            let mut died = None;
            for (index, host) in hosts.iter_mut().enumerate() {
                (60..80).for_each(|number| host.send(&Report(number).bytes()));
                if index == 3 {
                    died = Some(Instant::now());
                    home.store_mut().kill();
                }
            }
            for (host, done) in hosts.iter_mut().zip(&mut done) {
                acknowledged(host, 20, done);
            }
            died.expect("killed")
        }
    };
    // In the outage heartbeats and reports are answered as ever.
    for (host, done) in hosts.iter_mut().zip(&mut done) {
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
        report(host, 80..EACH, done);
    }
    server.kill();
    drop(hosts);

    home.store_mut().restart();
    let server = home.start();
    server.until_ready(true);
    for (name, done) in names.iter().zip(&done) {
        let kept = |at: &Instant| *at + Duration::from_secs(9) > died;
        let expected: BTreeSet<Report> = done
            .iter()
            .filter(|(_, at)| keeps_a_file || kept(at))
            .map(|(report, _)| *report)
            .collect();
        assert!(expected.len() >= 20, "the machine is too slow to tell");
        let lost = missing(home.store(), name, &expected);
        assert_eq!(lost, [], "{name}: acknowledged, and not stored");
    }
    let book: Vec<String> = home.store().say(&["ZREVRANGE", "AClate", "0", "-1"]);
    assert_eq!(book, ["b", "a"], "the task that was sent is there");
    assert_eq!(server.metric("anthill_store_rejected_total"), 0);
    until_so("nothing waits", || {
        server.metric("anthill_spool_bytes") == 0
    });
    assert!(!home.path().join("spool/recent").exists());
}

#[test]
fn an_idle_server_notices_a_dead_redis() {
    both_are_killed(&[], Found::Idle);
}

#[test]
fn redis_without_a_file_under_reports() {
    both_are_killed(&[], Found::ByReports);
}

#[test]
fn redis_that_syncs_once_a_second() {
    both_are_killed(
        &["--appendonly", "yes", "--appendfsync", "everysec"],
        Found::ByReports,
    );
}

#[test]
fn redis_that_syncs_always() {
    both_are_killed(
        &["--appendonly", "yes", "--appendfsync", "always"],
        Found::ByReports,
    );
}

/// An idle server notices a dead Redis at once, as long as it has unsafe reports.
#[test]
fn a_dead_redis_is_noticed_between_two_pings() {
    let mut quickest = PATIENCE;
    for _ in 0..5 {
        let mut home = Home::redis();
        let server = home.start();
        let mut host = Host::online(server.tcp, "127.0.44.9");
        report(&mut host, 0..1, &mut Vec::new());
        home.store_mut().kill();
        let start = Instant::now();
        let kept = home.path().join("spool/recent");
        until("it is kept", || kept.exists().then_some(()));
        quickest = quickest.min(start.elapsed());
    }
    // The next sign of life would be asked for a second after the report.
    assert!(quickest < Duration::from_millis(500), "{quickest:?}");
}
