//! All hosts reconnect at once. They are accepted as fast as the kernel reports them, none waits
//! for long, and afterwards the server uses no more memory than before.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::support::process::memory;
use super::support::{BEAT_ASKING, Home, Host, Server, need_descriptors, until_so};

/// Number of hosts.
const HOSTS: usize = 4_000;

fn source(number: usize) -> String {
    format!("127.0.{}.{}", 100 + number / 250, 1 + number % 250)
}

/// Connects all hosts and sends a heartbeat of each, without waiting. Returns the time until all
/// are answered.
fn all_at_once(server: &Server) -> (Vec<Host>, Vec<Duration>) {
    let start = Instant::now();
    let mut hosts: Vec<Host> = (0..HOSTS)
        .map(|number| {
            let mut host = Host::connect(server.tcp, &source(number));
            host.say(BEAT_ASKING);
            host
        })
        .collect();
    let mut took = vec![Duration::ZERO; HOSTS];
    for (host, took) in hosts.iter_mut().zip(&mut took) {
        assert_eq!(host.reply()["ACK"], "keepAlive");
        *took = start.elapsed();
    }
    (hosts, took)
}

/// Disconnects all hosts, and reconnects them at once.
fn storm(server: &Server, hosts: Vec<Host>) -> (Vec<Host>, Vec<Duration>) {
    for host in &hosts {
        // It may have been closed.
        let _ = host.stream.shutdown(Shutdown::Both);
    }
    until_so("all have gone", || server.metric("anthill_sessions") == 0);
    all_at_once(server)
}

/// The memory after all writes and trims: the minimum within some seconds.
#[track_caller]
fn calm(what: &str, server: &Server, took: &mut [Duration]) -> u64 {
    let start = Instant::now();
    settled(what, server, took, |_| {
        start.elapsed() > Duration::from_secs(4)
    })
}

/// The memory once it is at most `enough`.
#[track_caller]
fn settled(
    what: &str,
    server: &Server,
    took: &mut [Duration],
    enough: impl Fn(u64) -> bool,
) -> u64 {
    until_so("all is written", || {
        server.metric("anthill_presence_behind") == 0
    });
    let mut least = u64::MAX;
    until_so("no more memory than before", || {
        least = memory(server.pid()).min(least);
        enough(least)
    });
    took.sort();
    eprintln!(
        "{what}: {HOSTS} hosts answered within {:?}, half of them within {:?}; {} KiB",
        took[HOSTS - 1],
        took[HOSTS / 2],
        least / 1024
    );
    least
}

#[test]
fn a_reconnect_storm_grows_no_memory() {
    need_descriptors(HOSTS);
    let mut home = Home::redis();
    home.set("log.level", "warn");
    let server = home.start();
    let (hosts, _) = all_at_once(&server);
    until_so("all are online", || home.store().exists().len() == HOSTS);
    // Before: a fleet that has come and gone once, and is all there.
    let (hosts, mut took) = storm(&server, hosts);
    let before = calm("before", &server, &mut took);
    let enough = |memory: u64| memory <= before / 100 * 105;
    server.kill();
    drop(hosts);

    // A server that has just been started, then the same one twice more.
    let server = home.start();
    let (mut hosts, mut took) = all_at_once(&server);
    server.until_ready(true);
    settled("after a restart", &server, &mut took, enough);
    let offlines = server.metric("anthill_offlines_total{reason=\"lost\"}");
    assert_eq!(offlines, 0, "who came back in time was never offline");
    for _ in 0..2 {
        (hosts, took) = storm(&server, hosts);
        settled("once more", &server, &mut took, enough);
    }
    assert_eq!(server.metric("anthill_hosts_online"), HOSTS as u64);
    assert_eq!(home.store().exists().len(), HOSTS);
    // No connection was refused.
    for cause in ["full", "per_ip", "descriptors"] {
        let sample = format!("anthill_connections_shed_total{{cause=\"{cause}\"}}");
        assert_eq!(server.metric(&sample), 0, "{cause}");
    }
    for host in &mut hosts {
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
}
