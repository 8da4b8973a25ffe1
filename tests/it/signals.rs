//! SIGHUP, SIGTERM and SIGINT.

use rustix::process::Signal;

use super::support::{BEAT_ASKING, Home, Host, on_both_stores, until_so};

on_both_stores! { told_to_end }

fn told_to_end(home: Home) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = home.start();
        let mut host = Host::online(server.tcp, "127.0.8.1");
        // Half a frame, a peer that does not read, and an idle one hold nobody up.
        host.send(&[20, 0, 0]);
        let _mute = Host::connect(server.tcp, "127.0.8.2");
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0));
        assert_eq!(host.until_closed(), b"");
        server.logged(&["stopped"]);
    }
}

#[test]
fn told_to_end_while_redis_hangs() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 300);
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.8.1");
    home.store().stop();
    let report = br#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1,"reply":true}"#;
    assert_eq!(host.ask(report)["ACK"], "keepGotIt");
    server.stop();
    home.store().go_on();
}

#[test]
fn a_new_configuration_is_taken() {
    let mut home = Home::embedded();
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.8.1");

    home.set("heartbeat.timeout_s", "soon").write_config();
    server.signal(Signal::HUP);
    server.logged(&["ERROR", "nothing changed", "heartbeat.timeout_s", "soon"]);
    std::fs::write(home.path().join("config.json"), "{").unwrap();
    server.signal(Signal::HUP);
    server.logged(&["ERROR", "nothing changed", "config.json:1:"]);
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");

    home.set("heartbeat.timeout_s", 0.5);
    home.set("server.tcp", "127.0.0.1:1").write_config();
    server.signal(Signal::HUP);
    let line = server.logged(&["in force now", "heartbeat.timeout_s"]);
    let (now, later) = line.split_once("after a restart").expect("both are told");
    assert!(now.contains("heartbeat.timeout_s"), "{line}");
    assert!(later.contains("server.tcp"), "{line}");
    // It holds for who is connected already.
    assert_eq!(server.until_offline("127.0.8.1")["reason"], "timeout");
    server.stop();
}

#[test]
fn the_log_is_reopened() {
    let mut home = Home::embedded();
    home.set("log.file", "anthill.log");
    let server = home.start();
    let (file, moved) = (home.path().join("anthill.log"), home.path().join("old.log"));
    let has = |file: &std::path::Path, word: &str| {
        std::fs::read_to_string(file).is_ok_and(|text| text.contains(word))
    };
    drop(Host::online(server.tcp, "127.0.8.1"));
    until_so("lines in the file", || has(&file, "127.0.8.1: offline"));
    std::fs::rename(&file, &moved).unwrap();
    server.signal(Signal::HUP);
    server.logged(&["read again"]);
    drop(Host::online(server.tcp, "127.0.8.2"));
    until_so("lines in the new file", || has(&file, "127.0.8.2: offline"));
    assert!(!has(&moved, "127.0.8.2"), "the old one is left alone");
    assert!(has(&moved, "127.0.8.1"));
}
