//! A server that was stopped for a while takes no host offline, and its store does not become
//! unavailable.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::proxy::{Mode, Proxy};
use super::support::reports::{Report, dispatch_for_results, missing};
use super::support::{BEAT_ASKING, Home, Host, PAUSE, Redis, on_both_stores};

on_both_stores! { a_stopped_server_accuses_nobody }

fn a_stopped_server_accuses_nobody(mut home: Home) {
    home.set("heartbeat.timeout_s", 1);
    let server = home.start();
    let name = |number| format!("127.0.7.{number}");
    let mut hosts: Vec<Host> = (1..=10)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();

    server.signal(Signal::STOP);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_200) {
        hosts.iter_mut().for_each(Host::beat);
        std::thread::sleep(20 * PAUSE);
    }
    // Who connects and beats meanwhile waits in the queue.
    let mut late = Host::connect(server.tcp, &name(11));
    late.beat();
    server.signal(Signal::CONT);

    hosts.push(late);
    for host in &mut hosts {
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    for reason in ["timeout", "closed", "reset", "abnormal", "lost"] {
        let count = server.metric(&format!("anthill_offlines_total{{reason=\"{reason}\"}}"));
        assert_eq!(count, 0, "{reason}");
    }
    for number in 1..=11 {
        assert!(server.is_online(&name(number)));
    }
    if home.has_redis() {
        let told: Vec<_> = home.store().events();
        assert!(
            told.iter().all(|event| event.field("event") == "online"),
            "{told:?}"
        );
    }
    // It still sees who really is silent.
    assert_eq!(server.until_offline(&name(1))["reason"], "timeout");
}

/// Stops and continues the server repeatedly, mostly while it waits for an answer of Redis.
#[test]
fn repeated_stops_keep_the_store() {
    const NAME: &str = "127.0.7.21";
    const COUNT: u64 = 300;
    let redis = Redis::start(&[]);
    let proxy = Proxy::before(redis.port());
    let mut home = Home::at(&proxy.url());
    home.set("store.timeout_ms", 10_000);
    let server = home.start();
    let mut host = Host::online(server.tcp, NAME);
    dispatch_for_results(&server, &[NAME.to_owned()]);
    (0..COUNT).for_each(|number| Report(number).expect(&redis, NAME));
    server.until_ready(true);
    proxy.set(Mode::Delay(Duration::from_millis(5)));
    let reporting = thread::spawn(move || {
        let report = |number| {
            host.send(&Report(number).bytes());
            let reply = host.reply();
            assert_eq!(reply["ACK"], "keepGotIt", "{reply}");
            Report(number)
        };
        (0..COUNT).map(report).collect::<BTreeSet<Report>>()
    });
    let mut stops = 0;
    while !reporting.is_finished() {
        server.signal(Signal::STOP);
        thread::sleep(2 * PAUSE);
        server.signal(Signal::CONT);
        thread::sleep(2 * PAUSE);
        stops += 1;
    }
    let acknowledged = reporting.join().expect("all are acknowledged");
    assert_eq!(server.metric("anthill_store_sessions_total"), 1);
    assert!(stops > 50, "{stops} stops");
    assert_eq!(missing(&redis, NAME, &acknowledged), []);
}
