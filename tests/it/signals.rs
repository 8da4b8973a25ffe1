//! SIGHUP, SIGTERM and SIGINT.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::support::process::{Process, runs};
use super::support::server::{lines, program};
use super::support::{BEAT_ASKING, Home, Host, on_both_stores, until, until_so};

on_both_stores! { stop_signals_end_it_cleanly }

fn stop_signals_end_it_cleanly(home: Home) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = home.start();
        let mut host = Host::online(server.tcp, "127.0.8.1");
        // Half a frame, a peer that does not read, and an idle one delay no other connection.
        host.send(&[20, 0, 0]);
        let _mute = Host::connect(server.tcp, "127.0.8.2");
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0));
        assert_eq!(host.until_closed(), b"");
        server.logged(&["stopped"]);
    }
}

#[test]
fn a_stop_with_a_hung_redis_ends() {
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

/// A report that the store has not taken when the signals come is in the spool afterwards.
#[test]
fn two_signals_in_succession_are_one_clean_stop() {
    for signals in [
        [Signal::TERM, Signal::TERM],
        [Signal::TERM, Signal::INT],
        [Signal::INT, Signal::TERM],
    ] {
        let mut home = Home::redis();
        home.set("store.timeout_ms", 700);
        let mut server = home.start();
        let mut host = Host::online(server.tcp, "127.0.8.1");
        home.store().stop();
        host.say(br#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1}"#);
        host.ask(BEAT_ASKING);
        for signal in signals {
            server.signal(signal);
        }
        assert_eq!(server.ended().code(), Some(0), "{signals:?}");
        server.logged(&["stopped"]);
        home.store().go_on();
        let server = home.start();
        until_so("the report", || {
            let events = home.store().events();
            let is_it = |event: &str, key: &str| event == "answer" && key == "AC1";
            let mut events = events.iter();
            events.any(|event| is_it(event.field("event"), event.field("key")))
        });
        server.stop();
    }
}

/// A stop that takes too long can be cut short.
#[test]
fn a_later_signal_ends_a_stop_that_hangs() {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 60_000);
    let mut server = home.start();
    let mut host = Host::online(server.tcp, "127.0.8.1");
    home.store().stop();
    host.say(br#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1}"#);
    host.ask(BEAT_ASKING);
    let status = until("its end", || {
        server.signal(Signal::TERM);
        server.try_ended()
    });
    assert_eq!(status.code(), Some(1));
    home.store().go_on();
}

/// A configuration that is a pipe: the start waits for its content.
fn held_start(home: &Home) -> Process {
    let _ = std::fs::remove_file(home.path().join("held.json"));
    symlink("/dev/stdin", home.path().join("held.json")).unwrap();
    let args = ["serve", "--config", "held.json"];
    Process::start(program(home.path(), &args).stdin(Stdio::piped()))
}

/// Waits until the program reads its configuration, runs `meanwhile`, and writes `text` to the pipe.
fn at_its_configuration(child: &mut Process, text: &[u8], meanwhile: impl FnOnce(&Process)) {
    child.reads_stdin();
    meanwhile(child);
    let mut writer = child.stdin.take().unwrap();
    writer.write_all(text).unwrap();
}

#[test]
fn a_stop_signal_during_the_start_is_clean() {
    let home = Home::embedded();
    let text = std::fs::read(home.write_config()).unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = held_start(&home);
        at_its_configuration(&mut child, &text, |child| child.signal(signal));
        assert_eq!(child.ended().code(), Some(0), "{signal:?}");
        let said = lines(child.stdout.take().unwrap());
        assert_eq!(said.iter().next(), None, "it was never ready");
    }
}

#[test]
fn sighup_during_the_start_reloads() {
    let home = Home::embedded();
    let config = home.write_config();
    let text = std::fs::read(&config).unwrap();
    let mut child = held_start(&home);
    at_its_configuration(&mut child, &text, |child| {
        child.signal(Signal::HUP);
        // It reads this when it reads again.
        let held = home.path().join("held.json");
        std::fs::remove_file(&held).unwrap();
        symlink(&config, held).unwrap();
    });
    let ready = lines(child.stdout.take().unwrap());
    let line = ready.recv_timeout(super::support::PATIENCE).unwrap();
    assert!(line.starts_with("anthill ready "), "{line}");
    let log = lines(child.stderr.take().unwrap());
    let again = log.iter().find(|line| line.contains("read again"));
    assert!(again.is_some(), "the hangup was lost");
    child.signal(Signal::TERM);
    assert_eq!(child.ended().code(), Some(0));
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
    // It applies to connected hosts too.
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

/// The log as JSON: what a host sends, what becomes of it, and one ready line.
#[test]
fn the_json_log_has_fields() {
    let mut home = Home::embedded();
    home.set("log.level", "trace").set("log.format", "json");
    let server = home.start();
    assert!(
        server.ready.starts_with("anthill ready "),
        "{}",
        server.ready
    );
    let mut host = Host::online(server.tcp, "127.0.8.1");
    host.say(b"{\"flag\":\"ADH18\",\"phase\":1,\"ACK\":\"no \x1b[2J\"}");
    assert_eq!(host.until_closed(), b"");
    drop(host);
    let line = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&server.logged(words)).expect("JSON")
    };
    let online = line(&["presence", "online"]);
    assert_eq!(online["host"], "127.0.8.1");
    let offline = line(&["presence", "abnormal"]);
    assert_eq!(offline["reason"], "abnormal");
    let frame = line(&["received", "a frame"]);
    let data = frame["data"].as_str().unwrap();
    assert!(data.contains("ADH18"), "{frame}");
    assert_eq!(frame["host"], "127.0.8.1");
    assert!(frame["bytes"].is_u64(), "{frame}");
    let damaged = line(&["received", "invalid data"]);
    let data = damaged["data"].as_str().unwrap();
    assert!(data.contains("\\u{1b}"), "{damaged}");
    let graver = |line: &String| line.contains("\"level\":\"info\"");
    let ready = |line: &String| line.contains("anthill ready") && graver(line);
    assert!(!server.log().iter().any(ready), "a second ready line");
    server.stop();
}

#[test]
fn a_closed_terminal_ends_the_program() {
    let home = Home::embedded();
    let server = home.start();
    let binary = program(home.path(), &[]);
    let binary = binary.get_program().to_str().unwrap();
    let file = |name: &str| fs::read_to_string(home.path().join(name)).unwrap_or_default();
    for (command, begun) in [("console", "\x1b[?2004h"), ("top", "\x1b[?1049h")] {
        // It sees the end of its terminal, and no signal.
        let line = format!(
            "trap '' HUP; sh -c 'echo $$ > pid; exec {binary} {command} --api http://{}'",
            server.http
        );
        let mut script = Process::start(
            Command::new("script")
                .args(["-qfc", &line, "screen"])
                .current_dir(home.path())
                .env("TERM", "xterm")
                .stdin(Stdio::piped())
                .stdout(Stdio::null()),
        );
        until_so("the terminal is taken", || file("screen").contains(begun));
        let pid = file("pid").trim().to_owned();
        script.kill();
        until_so(&format!("{command} ends"), || !runs(&pid));
        fs::write(home.path().join("screen"), "").unwrap();
    }
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let home = Home::embedded();
    let server = home.start();
    let binary = program(home.path(), &[]);
    let binary = binary.get_program().to_str().unwrap();
    let file = |name: &str| fs::read_to_string(home.path().join(name)).unwrap_or_default();
    for (command, begun) in [("console", "\x1b[?2004h"), ("top", "\x1b[?1049h")] {
        for signal in [Signal::TERM, Signal::HUP, Signal::QUIT] {
            let line = format!(
                "stty -g > before; sh -c 'echo $$ > pid; exec {binary} {command} --api http://{}'; \
                 stty -g > after",
                server.http
            );
            let mut script = Process::start(
                Command::new("script")
                    .args(["-qfc", &line, "screen"])
                    .current_dir(home.path())
                    .env("TERM", "xterm")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null()),
            );
            until_so("the terminal is taken", || file("screen").contains(begun));
            let pid = file("pid").trim().parse().ok().and_then(Pid::from_raw);
            kill_process(pid.expect("a pid"), signal).expect("it runs");
            script.ended();
            assert_eq!(file("after"), file("before"), "{command}, {signal:?}");
            fs::write(home.path().join("screen"), "").unwrap();
        }
    }
}
