//! Silence, measured by the server's own times.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::support::{BEAT_ASKING, Home, Host, Server, little, on_both_stores, until, until_so};

on_both_stores! {
    silence_ends_a_host_on_time,
    an_unfinished_frame_is_silence,
    a_first_message_must_come_in_time,
    a_busy_plain_host_may_be_silent,
}

/// Time from the last message of a host to its going offline, according to the server.
fn silence(host: &Value) -> Duration {
    let time = |name: &str| -> SystemTime {
        let text = host[name].as_str().expect("a time");
        humantime::parse_rfc3339(text).expect("a time")
    };
    let silence = time("since").duration_since(time("last_seen"));
    silence.expect("first seen, then silent")
}

/// Waits until a host is offline for its silence. Returns the duration.
#[track_caller]
fn timed_out(server: &Server, host: &str) -> Duration {
    let host = server.until_offline(host);
    assert_eq!(host["reason"], "timeout", "{host}");
    silence(&host)
}

fn silence_ends_a_host_on_time(mut home: Home) {
    home.set("heartbeat.timeout_s", 2);
    let server = home.start();
    let name = |number| format!("127.0.3.{number}");
    let mut hosts: Vec<Host> = (1..=8)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    // The second beat counts, not the first.
    for host in &mut hosts {
        host.ask(BEAT_ASKING);
    }
    let silences: Vec<Duration> = (1..=8).map(|n| timed_out(&server, &name(n))).collect();
    for (host, silence) in hosts.iter_mut().zip(&silences) {
        assert_eq!(host.until_closed(), b"");
        // Stamps are cut to the millisecond.
        assert!(*silence >= Duration::from_millis(1_999), "{silences:?}");
    }
    // A busy machine may be late with one, hardly with all of them.
    let best = silences.iter().min().unwrap();
    assert!(*best <= Duration::from_millis(2_300), "{silences:?}");
    if home.has_redis() {
        let redis = home.store();
        until_so("the events", || redis.events().len() == 16);
        assert_eq!(redis.story(&name(1)), ["online", "offline timeout"]);
        // Other programs find the same times in the store.
        for event in redis
            .events()
            .iter()
            .filter(|event| event.field("event") == "offline")
        {
            let at: f64 = event.field("at").parse().expect("a time");
            let seen: f64 = redis.say(&["ZSCORE", "anthill:seen", event.field("host")]);
            assert!(at - seen >= 1_999.0, "{event:?}, last seen {seen}");
        }
        assert!(redis.exists().is_empty());
    }
}

fn an_unfinished_frame_is_silence(mut home: Home) {
    home.set("heartbeat.timeout_s", 1.2);
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.3.1");
    let endless = little(&[b'{'; 60_000]);
    let mut bytes = endless.iter();
    let seen = until("offline, byte by byte", || {
        // The connection may be closed already.
        let _ = std::io::Write::write(&mut host.stream, &[*bytes.next()?]);
        server
            .host("127.0.3.1")
            .filter(|host| host["state"] == "offline")
    });
    assert_eq!(seen["reason"], "timeout");
    assert!(silence(&seen) >= Duration::from_millis(1_199));
    host.until_closed();
}

fn a_first_message_must_come_in_time(mut home: Home) {
    home.set("heartbeat.first_message_s", 0.5);
    let server = home.start();
    let mut mute = Host::connect(server.tcp, "127.0.3.1");
    let mut loris = Host::connect(server.tcp, "127.0.3.2");
    loris.send(&little(&[b'{'; 1_000])[..500]);
    let mut good = Host::online(server.tcp, "127.0.3.3");
    assert_eq!(mute.until_closed(), b"");
    assert_eq!(loris.until_closed(), b"");
    assert_eq!(server.metric("anthill_speechless_total"), 2);
    assert_eq!(
        (server.host("127.0.3.1"), server.host("127.0.3.2")),
        (None, None)
    );
    assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
}

fn a_busy_plain_host_may_be_silent(mut home: Home) {
    home.set("heartbeat.timeout_s", 1);
    let server = home.start();
    let received = br#"{"flag":"ADH33","RCC":1,"taskId":"AC9","answerTime":1,"reply":true}"#;
    let mut plain = Host::online(server.tcp, "127.0.3.1");
    plain.ask(received);
    let mut named = Host::named(server.tcp, "127.0.3.2", "web-1");
    named.ask(received);
    // One with a name beats while it works; it is silent like any other.
    timed_out(&server, "web-1");
    // And once more a timeout.
    let _idle = Host::online(server.tcp, "127.0.3.3");
    timed_out(&server, "127.0.3.3");
    assert!(server.is_online("127.0.3.1"));
    assert_eq!(server.metric("anthill_hosts_at_work"), 1);
    let done = br#"{"flag":"ADH27","code":"AC9","phase":3,"working":"a","complete":["a"],"oncall":[],"reply":true}"#;
    assert_eq!(plain.ask(done)["ACK"], "keepGotIt");
    assert!(timed_out(&server, "127.0.3.1") >= Duration::from_millis(999));
}
