//! Tasks from the request to the last report of their hosts.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::words::{phase, rcc, result};
use super::support::{
    BEAT, BEAT_ASKING, Home, Host, Inbox, Server, little, on_both_stores, server, until_so,
};

on_both_stores!(
    a_dispatch_is_sent_four_times,
    damaged_datagrams_are_resent_at_once,
    late_reports_change_the_state,
    results_between_frames_keep_their_bytes,
    only_named_hosts_get_the_task,
    a_key_is_used_once,
);

/// Short intervals, four tries, and where hosts take their datagrams.
fn quick(home: &mut Home, inbox: &Inbox) -> Server {
    home.set("dispatch.rto_ms", 100)
        .set("dispatch.tries", 4)
        .set("dispatch.agent_port", inbox.port());
    home.start()
}

/// Number of further copies of `key` until the server stops sending.
fn copies(server: &Server, inbox: &Inbox, key: &str, host: &str) -> usize {
    server.until_task(key, host, "unanswered");
    let mut copies = 0;
    while let Some(text) = inbox.within(Duration::from_millis(50)) {
        assert_eq!(text, key);
        copies += 1;
    }
    copies
}

fn a_dispatch_is_sent_four_times(mut home: Home) {
    let inbox = Inbox::at("127.0.32.1");
    let server = quick(&mut home, &inbox);
    let _silent = Host::online(server.tcp, "127.0.32.1");
    let task = json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["127.0.32.1", "127.0.32.9"]});
    let hosts = server.dispatch(&task);
    assert_eq!(
        hosts,
        json!({"127.0.32.1": "sent", "127.0.32.9": "offline"})
    );
    assert_eq!(copies(&server, &inbox, "AC1", "127.0.32.1"), 4);
    assert!(inbox.within(Duration::from_secs(2)).is_none(), "a fifth");
    // Who was not there is not sent to when it comes.
    let late = Inbox::on("127.0.32.9", inbox.port());
    let mut host = Host::online(server.tcp, "127.0.32.9");
    host.ask(BEAT_ASKING);
    assert!(late.within(Duration::from_millis(500)).is_none());
    assert_eq!(server.task_state("AC1", "127.0.32.9"), "offline");
}

fn damaged_datagrams_are_resent_at_once(mut home: Home) {
    let inbox = Inbox::at("127.0.33.1");
    home.set("dispatch.rto_ms", 60_000)
        .set("dispatch.tries", 4)
        .set("dispatch.agent_port", inbox.port());
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.33.1");
    for key in ["AC1", "AC2"] {
        server.dispatch(&json!({"key": key, "commands": {"a": 1}}));
        assert_eq!(inbox.next(), key);
    }
    host.ask(rcc(1, "AC2").as_bytes());
    // The newest that is not answered goes out, whatever it names.
    for code in [0, 3, 3] {
        host.ask(rcc(code, "AC2").as_bytes());
        assert_eq!(inbox.next(), "AC1");
    }
    for code in [0, 3, 0, 3] {
        host.ask(rcc(code, "AC1").as_bytes());
    }
    assert!(
        inbox.within(Duration::from_millis(300)).is_none(),
        "a fifth"
    );
    // By datagram, from its address and from another.
    let stranger = Inbox::at("127.0.33.2");
    let answer = br#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1}"#;
    stranger.send(server.udp, answer);
    until_so("it is refused", || {
        server.metric("anthill_datagrams_refused_total") == 1
    });
    assert_eq!(server.task_state("AC1", "127.0.33.1"), "sent");
    inbox.send(server.udp, answer);
    server.until_task("AC1", "127.0.33.1", "answered");
}

fn late_reports_change_the_state(mut home: Home) {
    let inbox = Inbox::at("127.0.34.1");
    let server = quick(&mut home, &inbox);
    let mut host = Host::online(server.tcp, "127.0.34.1");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 1}}));
    server.until_task("AC1", "127.0.34.1", "unanswered");
    host.ask(rcc(1, "AC1").as_bytes());
    assert_eq!(server.task_state("AC1", "127.0.34.1"), "answered");
    let nothing = br#"{"flag":"ADH33","RCC":2,"taskId":null,"answerTime":1,"reply":true}"#;
    assert_eq!(host.ask(nothing)["ACK"], "keepGotIt");
    assert_eq!(server.task_state("AC1", "127.0.34.1"), "no-book");
    server.logged(&["no-book", "127.0.34.1", "AC1"]);
    host.ask(phase(1, "AC1", "null", "[]", r#"["a"]"#).as_bytes());
    assert_eq!(server.task_state("AC1", "127.0.34.1"), "working");
    host.ask(phase(3, "AC1", "null", r#"["a"]"#, "[]").as_bytes());
    assert_eq!(server.task_state("AC1", "127.0.34.1"), "done");
    // That is the end: what is said again is acknowledged, and changes nothing.
    let again = host.ask(phase(1, "AC1", "null", "[]", r#"["a"]"#).as_bytes());
    assert_eq!(again["ACK"], "keepGotIt");
    let task = server.json("/v1/tasks/AC1");
    assert_eq!(task["hosts"]["127.0.34.1"]["complete"], json!(["a"]));
    assert_eq!(task["hosts"]["127.0.34.1"]["oncall"], json!([]));
}

fn results_between_frames_keep_their_bytes(home: Home) {
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.35.1");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 2, "b": 1}}));
    let output: Vec<u8> = (0..=255).cycle().take(70_001).collect();
    host.send(
        &[
            &little(BEAT)[..],
            &little(result("AC1", "a", 0, &output).as_bytes()),
            &output,
            &little(result("AC1", "b", 3, b"").as_bytes()),
            &little(phase(3, "AC1", "null", r#"["a","b"]"#, "[]").as_bytes()),
            &little(BEAT_ASKING),
        ]
        .concat(),
    );
    let mut replies: Vec<String> = (0..4).map(|_| host.reply()["flag"].to_string()).collect();
    replies.sort();
    assert_eq!(
        replies,
        ["\"ADH18\"", "\"ADH27\"", "\"ADH43\"", "\"ADH43\""]
    );
    assert_eq!(server.task_state("AC1", "127.0.35.1"), "failed", "b failed");
    let path = "/v1/tasks/AC1/hosts/127.0.35.1/output?command=a";
    let kept = super::support::http::get_bytes(server.http, path);
    assert!(kept == output, "{} of {} bytes", kept.len(), output.len());
    let task = server.json("/v1/tasks/AC1");
    let results = &task["hosts"]["127.0.35.1"]["results"];
    assert_eq!(
        (&results["a"]["size"], &results["b"]["exit"]),
        (&json!(70_001), &json!(3))
    );
}

fn only_named_hosts_get_the_task(home: Home) {
    let server = home.start();
    let _named = Host::online(server.tcp, "127.0.36.1");
    let mut other = Host::online(server.tcp, "127.0.36.2");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["127.0.36.1"]}));
    let mut words = Vec::new();
    for key in ["AC1", "AC2", "no key", "AC1_response"] {
        let reply = other.ask(format!(r#"{{"flag":"ADH41","taskId":"{key}"}}"#).as_bytes());
        assert_eq!(reply["ACK"], "keepRefused", "{reply}");
        words.push(reply.to_string());
    }
    words.dedup();
    assert_eq!(words.len(), 1, "{words:?}");
    for key in ["AC1", "AC2"] {
        other.send(
            &[
                little(result(key, "a", 0, b"xyz").as_bytes()),
                b"xyz".to_vec(),
            ]
            .concat(),
        );
        words.push(other.reply()["error"].to_string());
    }
    assert_eq!(words[1], words[2]);
    // What it says of a task that is not its own makes nothing of it there.
    other.ask(rcc(1, "AC1").as_bytes());
    let task = server.json("/v1/tasks/AC1");
    assert_eq!(task["hosts"].as_object().unwrap().len(), 1, "{task}");
}

fn a_key_is_used_once(home: Home) {
    let server = home.start();
    let refused = |task: &Value, status: u16| {
        let (got, answer) = server.post("/v1/tasks", task);
        assert_eq!(got, status, "{task}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    };
    // No host is online: an error that uses up nothing.
    refused(&json!({"key": "AC1", "commands": {"a": 1}}), 400);
    let _host = Host::online(server.tcp, "127.0.37.1");
    for wrong in [
        json!({"key": "BC1", "commands": {"a": 1}}),
        json!({"key": "AC_1", "commands": {"a": 1}}),
        json!({"key": "AC{1}", "commands": {"a": 1}}),
        json!({"key": format!("AC{}", "x".repeat(63)), "commands": {"a": 1}}),
        json!({"key": "AC1", "commands": {}}),
        json!({"key": "AC1", "commands": {"a": "1"}}),
        json!({"key": "AC1", "commands": {"a": 1}, "hosts": []}),
        json!({"key": "AC1", "commands": {"a": 1}, "more": 1}),
        json!({"key": "AC1", "commands": {"y".repeat(30_000): 1}}),
    ] {
        refused(&wrong, 400);
    }
    if home.has_redis() {
        // Another program stores its book there without asking the server.
        home.store().say::<()>(&["ZADD", "AC2", "1", "theirs"]);
        refused(&json!({"key": "AC2", "commands": {"a": 1}}), 409);
        assert_eq!(home.store().say::<Vec<String>>(&["KEYS", "*AC2*"]), ["AC2"]);
    }
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 1}}));
    refused(&json!({"key": "AC1", "commands": {"b": 1}}), 409);
    assert_eq!(server.json("/v1/tasks/AC1")["commands"][0][0], "a");
    server.kill();
    let server = home.start();
    server.until_ready(true);
    let (status, _) = server.post(
        "/v1/tasks",
        &json!({"key": "AC1", "commands": {"b": 1}, "hosts": ["x"]}),
    );
    assert_eq!(status, 409, "after a restart");
}

#[test]
fn the_stream_reports_the_end_of_a_delivery() {
    let home = Home::redis();
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.40.1");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["127.0.40.1", "x"]}));
    host.ask(phase(1, "AC1", "null", "[]", r#"["a"]"#).as_bytes());
    host.send(&little(result("AC1", "a", 9, b"").as_bytes()));
    host.reply();
    host.ask(phase(3, "AC1", "null", r#"["a"]"#, "[]").as_bytes());
    let told = || -> Vec<[String; 3]> {
        let events = home.store().events();
        let of_task = events.iter().filter(|event| event.field("key") == "AC1");
        let fields = ["event", "state", "count"];
        of_task
            .filter(|event| event.field("event") != "audit")
            .map(|event| fields.map(|name| event.field(name).to_owned()))
            .collect()
    };
    until_so("four events", || told().len() == 4);
    assert_eq!(
        told(),
        [
            ["dispatch", "", "2"],
            ["progress", "working", ""],
            ["result", "", ""],
            ["progress", "failed", ""],
        ]
    );
}

#[test]
fn a_script_waits_for_a_task() {
    let mut home = Home::redis();
    let inbox = Inbox::at("127.0.38.1");
    let server = quick(&mut home, &inbox);
    let mut host = Host::online(server.tcp, "127.0.38.1");
    let api = format!("http://{}", server.http);
    let dir = home.path().to_owned();
    let words = |key: &'static str, api: String, dir: std::path::PathBuf| {
        let task = [
            "dispatch",
            key,
            "--task",
            "a",
            "--wait=30",
            "--json",
            "--api",
        ];
        std::thread::spawn(move || server::run(&dir, &[&task[..], &[&api]].concat()))
    };
    for (key, exit, state, status) in [("AC1", 0, "done", 0), ("AC2", 1, "failed", 1)] {
        let waiting = words(key, api.clone(), dir.clone());
        while inbox.next() != key {}
        host.ask(rcc(1, key).as_bytes());
        host.send(
            &[
                little(result(key, "a", exit, b"out").as_bytes()),
                b"out".to_vec(),
            ]
            .concat(),
        );
        host.reply();
        host.ask(phase(3, key, "null", r#"["a"]"#, "[]").as_bytes());
        let ended = waiting.join().unwrap();
        assert_eq!(ended.status, Some(status), "{}", ended.stderr);
        let task: Value = serde_json::from_str(&ended.stdout).expect("one JSON document");
        assert_eq!(task["hosts"]["127.0.38.1"]["state"], state);
        assert_eq!(task["hosts"]["127.0.38.1"]["results"]["a"]["output"], "out");
    }
    let again = server::run(&dir, &["dispatch", "AC1", "--task", "a", "--api", &api]);
    assert_eq!((again.status, again.stdout.as_str()), (Some(1), ""));
    assert!(again.stderr.contains("AC1"), "{}", again.stderr);
}

#[test]
fn a_large_dispatch_delays_no_heartbeat() {
    const HOSTS: u16 = 2_000;
    let mut home = Home::embedded();
    home.set("dispatch.rto_ms", 60_000);
    let server = home.start();
    let inbox = Inbox::at("127.0.39.1");
    let mut hosts: Vec<Host> = (0..HOSTS)
        .map(|number| {
            let mut host = Host::connect(server.tcp, "127.0.39.1");
            // All behind one address; every tenth at a port where the test listens.
            let port = if number == 0 {
                inbox.port()
            } else {
                20_000 + number
            };
            let hello = format!(r#"{{"flag":"ADH40","id":"h{number}","udp":{port}}}"#);
            host.say(hello.as_bytes());
            host
        })
        .collect();
    for host in &mut hosts {
        assert_eq!(host.reply()["ACK"], "keepGotIt");
    }
    let http = server.http;
    let sending = std::thread::spawn(move || {
        let task = json!({"key": "AC1", "commands": {"a": 1}}).to_string();
        super::support::http::post(http, "/v1/tasks", &task).status
    });
    let mut beats = 0;
    while beats < 20 || server.metric("anthill_sends_total") < u64::from(HOSTS) {
        assert_eq!(
            hosts[usize::from(HOSTS) - 1].ask(BEAT_ASKING)["ACK"],
            "keepAlive"
        );
        beats += 1;
    }
    assert_eq!(sending.join().unwrap(), 201);
    assert_eq!(inbox.next(), "AC1");
    assert_eq!(
        server.metric("anthill_sends_total"),
        u64::from(HOSTS),
        "one each"
    );
    // Page by page, each host once.
    let (mut names, mut cursor) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let page = server.json(&format!("/v1/tasks/AC1?limit=300{cursor}"));
        names.extend(page["hosts"].as_object().unwrap().keys().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names.len(), usize::from(HOSTS));
}
