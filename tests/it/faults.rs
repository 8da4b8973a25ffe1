//! A fault inside the server ends only the connection or request that caused it. Debug builds can
//! inject faults.

#![cfg(debug_assertions)]

use super::support::{BEAT_ASKING, Home, Host, on_both_stores, until_so};

on_both_stores! { a_panic_ends_one_connection, the_store_thread_goes_on_after_panics }

fn a_panic_ends_one_connection(mut home: Home) {
    home.environment("ANTHILL_FAULT", "panic-on:fail-here");
    let server = home.start();
    let mut neighbour = Host::online(server.tcp, "127.0.10.1");
    for count in 1..=3 {
        let mut host = Host::online(server.tcp, "127.0.10.2");
        host.say(br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","note":"fail-here"}"#);
        assert_eq!(host.until_closed(), b"");
        assert_eq!(server.until_offline("127.0.10.2")["reason"], "abnormal");
        assert_eq!(
            server.metric("anthill_abnormal_total{kind=\"internal\"}"),
            count
        );
        assert_eq!(neighbour.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    server.logged(&["panic", "ANTHILL_FAULT"]);
    server.stop();
}

fn the_store_thread_goes_on_after_panics(mut home: Home) {
    home.environment("ANTHILL_FAULT", "panic-store-on:AC666");
    let server = home.start();
    let answer = |key: &str, seq: u64| {
        let body = r#""flag":"ADH33","RCC":1,"answerTime":1,"reply":true"#;
        format!(r#"{{{body},"taskId":"{key}","seq":{seq}}}"#)
    };
    let mut hosts: Vec<Host> = (1..=5)
        .map(|number| Host::connect(server.tcp, &format!("127.0.11.{number}")))
        .collect();
    for host in &mut hosts {
        // Before it, with it and behind it.
        for (seq, key) in [(1, "AC1"), (2, "AC666"), (3, "AC3")] {
            host.say(answer(key, seq).as_bytes());
        }
    }
    for host in &mut hosts {
        for (seq, word) in [(1, "keepGotIt"), (2, "keepRefused"), (3, "keepGotIt")] {
            let reply = host.reply();
            assert_eq!(
                (&reply["seq"], &reply["ACK"]),
                (&seq.into(), &word.into()),
                "{reply}"
            );
        }
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    assert!(server.metric("anthill_store_restarts_total") >= 3);
    server.logged(&["ERROR", "store", "panicked and goes on", "ANTHILL_FAULT"]);
    let rejected = std::fs::read(home.path().join("spool/rejected")).expect("put aside");
    assert!(String::from_utf8_lossy(&rejected).contains("AC666"));
    server.until_ready(true);
    if home.has_redis() {
        let redis = home.store();
        until_so("all are online", || redis.exists().len() == 5);
        for number in 1..=5 {
            assert_eq!(redis.story(&format!("127.0.11.{number}")), ["online"]);
        }
    }
    server.stop();
}
