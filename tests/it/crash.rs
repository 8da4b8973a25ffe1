//! Faults of the server: killed at random moments while hosts report, stopped, paused for longer
//! than the timeout, with a wall clock that jumps. Acknowledged reports are stored afterwards.
//!
//! `ANTHILL_KILLS=200` is how often the embedded store is killed in the long run; `ANTHILL_SEED` repeats the moments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::support::reports::result;
use super::support::{
    BEAT_ASKING, EndWhenDropped, Home, Host, PAUSE, Server, little, need_descriptors,
    on_both_stores, until_so,
};

on_both_stores! {
    a_long_stop_ends_only_hosts_that_left,
    a_stop_under_load_loses_no_report,
    a_jump_of_the_wall_clock_is_harmless,
}

const HOSTS: usize = 3;

fn name(number: usize) -> String {
    format!("127.0.42.{number}")
}

/// Acknowledged reports of one host for one task.
#[derive(Clone, Copy, Debug, Default)]
struct Acknowledged {
    results: usize,
    complete: usize,
}

/// Reports one command after the other, result and progress, until the server is killed.
fn work(server: &Server, host: usize, key: &str) -> impl FnOnce() -> Acknowledged + use<> {
    let stream = Host::connect(server.tcp, &name(host)).stream;
    let (key, mut done) = (key.to_owned(), Acknowledged::default());
    move || {
        let mut host = Host { stream };
        for number in 0.. {
            if !says(&mut host, &result(&key, &format!("c{number}"))) {
                return done;
            }
            done.results = number + 1;
            let complete: Vec<String> = (0..=number).map(|n| format!("c{n}")).collect();
            let progress = json!({"flag": "ADH27", "code": key, "phase": 3, "working": null,
                "complete": complete, "oncall": ["last"], "reply": true});
            if !says(&mut host, &little(progress.to_string().as_bytes())) {
                return done;
            }
            done.complete = number + 1;
        }
        unreachable!("the server is ended long before");
    }
}

/// Sends a message. Returns whether it was acknowledged.
fn says(host: &mut Host, bytes: &[u8]) -> bool {
    use std::io::{Read, Write};
    let mut header = [0; 4];
    if host.stream.write_all(bytes).is_err() || host.stream.read_exact(&mut header).is_err() {
        return false;
    }
    let mut body = vec![0; i32::from_le_bytes(header) as usize];
    let whole = host.stream.read_exact(&mut body).is_ok();
    let text = String::from_utf8_lossy(&body);
    assert!(!whole || text.contains("keepGotIt"), "{text}");
    whole
}

/// Dispatches a task of this key and lets every host work on it until `end`, which ends the server.
fn until_ended(server: Server, key: &str, end: impl FnOnce(Server)) -> Vec<Acknowledged> {
    let hosts: Vec<String> = (1..=HOSTS).map(name).collect();
    let commands: BTreeMap<String, u64> = (0..2_000).map(|n| (format!("c{n}"), 1)).collect();
    server.dispatch(&json!({"key": key, "commands": commands, "hosts": hosts}));
    let workers: Vec<_> = (1..=HOSTS).map(|n| work(&server, n, key)).collect();
    thread::scope(|scope| {
        let working: Vec<_> = workers.into_iter().map(|work| scope.spawn(work)).collect();
        end(server);
        let done = working.into_iter().map(|work| work.join().expect("done"));
        done.collect()
    })
}

/// Checks that all reports acknowledged for this key are stored.
#[track_caller]
fn is_there(server: &Server, key: &str, acknowledged: &[Acknowledged]) {
    for (index, done) in acknowledged.iter().enumerate() {
        let task = server.json(&format!("/v1/tasks/{key}"));
        let host = &task["hosts"][name(index + 1)];
        let complete = host["complete"].as_array().expect("a list");
        for number in 0..done.results.max(done.complete) {
            let command = format!("c{number}");
            let has_result = host["results"].get(&command).is_some();
            assert!(number >= done.results || has_result, "{key}: {command}");
            let is_complete = complete.contains(&json!(command));
            assert!(number >= done.complete || is_complete, "{key}: {command}");
        }
    }
}

/// Kills the server repeatedly, at random moments under reports, and checks the acknowledged
/// reports.
fn killed_again_and_again(home: &Home, kills: usize) {
    let seed = std::env::var("ANTHILL_SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("ANTHILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all: Vec<(String, Vec<Acknowledged>)> = Vec::new();
    for kill in 0..kills {
        let server = home.start();
        server.until_ready(true);
        if let Some((key, done)) = all.last() {
            is_there(&server, key, done);
        }
        let key = format!("AC{kill}");
        let moment = Duration::from_micros(random.u64(0..120_000));
        let done = until_ended(server, &key, |server| {
            thread::sleep(moment);
            server.kill();
        });
        all.push((key, done));
    }
    let server = home.start();
    server.until_ready(true);
    for (key, done) in &all {
        is_there(&server, key, done);
    }
    let count = |(_, done): &(String, Vec<Acknowledged>)| -> usize {
        done.iter().map(|done| done.results + done.complete).sum()
    };
    let reports: usize = all.iter().map(count).sum();
    eprintln!("{kills} kills, {reports} reports acknowledged, none missing");
    assert!(reports > kills, "hardly any report was acknowledged");
    // No host went offline: each came back in time, every time.
    if home.has_redis() {
        for host in (1..=HOSTS).map(name) {
            assert_eq!(home.store().story(&host), ["online"]);
        }
    }
}

#[cfg(feature = "embedded")]
#[test]
fn the_embedded_store_loses_nothing_to_kills() {
    let kills = std::env::var("ANTHILL_KILLS").ok();
    let kills = kills.map_or(20, |kills| kills.parse().expect("a number"));
    killed_again_and_again(&Home::embedded(), kills);
}

#[test]
fn nothing_is_lost_to_kills_in_front_of_a_redis() {
    killed_again_and_again(&Home::redis(), 3);
}

fn a_stop_under_load_loses_no_report(home: Home) {
    let server = home.start();
    server.until_ready(true);
    let done = until_ended(server, "AC1", |server| {
        thread::sleep(Duration::from_millis(100));
        server.stop();
    });
    let server = home.start();
    server.until_ready(true);
    is_there(&server, "AC1", &done);
    assert!(done.iter().any(|done| done.results > 0), "{done:?}");
}

/// Many hosts send all the while, more than the kernel reports at once; three fall silent, and
/// three disconnect.
fn a_long_stop_ends_only_hosts_that_left(mut home: Home) {
    const MANY: usize = 1_100;
    need_descriptors(MANY);
    home.set("heartbeat.timeout_s", 2).set("log.level", "warn");
    let server = home.start();
    let of_many = |number: usize| format!("127.0.{}.{}", 43 + number / 250, 1 + number % 250);
    let mut beating = Vec::new();
    for number in 0..MANY {
        beating.push(Host::online(server.tcp, &of_many(number)));
        // A loaded machine needs longer than the timeout for all of them.
        if number % 50 == 0 {
            beating.iter_mut().for_each(Host::beat);
        }
    }
    // All of them are alive when it stops.
    beating.iter_mut().for_each(Host::beat);
    let silent: Vec<Host> = (21..=23)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    let ended: Vec<Host> = (24..=26)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    server.signal(Signal::STOP);
    drop(ended);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(4_200) {
        beating.iter_mut().for_each(Host::beat);
        thread::sleep(20 * PAUSE);
    }
    server.signal(Signal::CONT);
    let offlines =
        |reason| server.metric(&format!("anthill_offlines_total{{reason=\"{reason}\"}}"));
    until_so("who is gone is gone", || {
        beating.iter_mut().for_each(|host| {
            host.ask(BEAT_ASKING);
        });
        offlines("timeout") == 3 && offlines("closed") == 3
    });
    drop(silent);
    assert_eq!(server.metric("anthill_hosts_online"), MANY as u64);
    assert_eq!(server.metric("anthill_onlines_total"), MANY as u64 + 6);
    if home.has_redis() {
        let redis = home.store();
        until_so("all is told", || redis.events().len() == MANY + 12);
        for number in 21..=26 {
            let reason = if number < 24 { "timeout" } else { "closed" };
            let expected = ["online".to_owned(), format!("offline {reason}")];
            assert_eq!(redis.story(&name(number)), expected, "{number}");
        }
    }
}

/// The library that shows a process another wall clock.
fn faketime() -> Option<String> {
    let places = fs::read_dir("/usr/lib").ok()?;
    let library = |dir: &Path| dir.join("faketime/libfaketime.so.1");
    let mut found = places.map_while(Result::ok).map(|dir| library(&dir.path()));
    let found = found.find(|library| library.exists())?;
    Some(found.to_str()?.to_owned())
}

/// The same, or a word that it is not there.
fn need_faketime() -> Option<String> {
    use std::io::Write;
    let library = faketime();
    if library.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: a wall clock that jumps (the package faketime is not installed)"
        );
    }
    library
}

/// Each run begins at the same moment of the wall clock: it is set back by the time of the previous
/// run.
#[test]
fn a_clock_set_back_repeats_no_event_number() {
    let Some(library) = need_faketime() else {
        return;
    };
    let mut home = Home::redis();
    home.environment("LD_PRELOAD", &library)
        .environment("FAKETIME", "2026-01-02 03:04:05")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut numbers = BTreeSet::new();
    for life in 1..=3 {
        let server = home.start();
        for number in 1..=5 {
            drop(Host::online(server.tcp, &name(number)));
            server.until_offline(&name(number));
        }
        let all_told = || home.store().events().len() == life * 10;
        until_so("all is told", all_told);
        drop(server);
        let events = home.store().events();
        let of_all = events.iter().map(|event| event.field("seq").to_owned());
        numbers.extend(of_all);
        assert_eq!(numbers.len(), events.len(), "a number is given twice");
    }
}

fn a_jump_of_the_wall_clock_is_harmless(mut home: Home) {
    let Some(library) = need_faketime() else {
        return;
    };
    let clock = home.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    home.set("heartbeat.timeout_s", 2)
        .environment("LD_PRELOAD", &library)
        .environment("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let server = home.start();
    let over = AtomicBool::new(false);
    let host = &|number: usize| {
        let mut host = Host::online(server.tcp, &name(number));
        while !over.load(Ordering::SeqCst) {
            host.ask(BEAT_ASKING);
            thread::sleep(10 * PAUSE);
        }
    };
    thread::scope(|scope| {
        for number in 1..=5 {
            scope.spawn(move || host(number));
        }
        // Whatever fails in here, the hosts end.
        let end = EndWhenDropped(&over);
        // Time at which a new host came online, by the server's wall clock.
        let now = || {
            let _probe = Host::online(server.tcp, &name(9));
            let since = server.host(&name(9)).expect("known")["since"].clone();
            humantime::parse_rfc3339(since.as_str().expect("a time")).expect("a time")
        };
        until_so("all are online", || {
            server.metric("anthill_hosts_online") == 5
        });
        for jump in ["+1d", "-1d", "+0"] {
            let before = now();
            fs::write(&clock, jump).unwrap();
            let half_a_day = Duration::from_secs(43_200);
            until_so(jump, || {
                let step = now().duration_since(before);
                step.unwrap_or_else(|error| error.duration()) > half_a_day
            });
            server.until_offline(&name(9));
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(2_500) {
                thread::sleep(10 * PAUSE);
                assert_eq!(server.metric("anthill_hosts_online"), 5, "{jump}");
            }
        }
        // Silence is still judged, by the clock that does not jump.
        drop(Host::online(server.tcp, &name(6)));
        let _silent = Host::online(server.tcp, &name(7));
        assert_eq!(server.until_offline(&name(7))["reason"], "timeout");
        drop(end);
    });
    for reason in ["abnormal", "lost", "reset"] {
        let sample = format!("anthill_offlines_total{{reason=\"{reason}\"}}");
        assert_eq!(server.metric(&sample), 0, "{reason}");
    }
    assert_eq!(
        server.metric("anthill_offlines_total{reason=\"timeout\"}"),
        1
    );
}
