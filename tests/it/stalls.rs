//! A server that did not turn for a while accuses nobody.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::{BEAT_ASKING, Home, Host, PAUSE, on_both_stores};

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
