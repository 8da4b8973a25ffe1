//! Tasks while servers and stores are killed.

use std::time::Duration;

use serde_json::json;

use super::support::words::{phase, rcc};
use super::support::{Home, Host, Inbox, http, on_both_stores, until_so};

#[test]
fn an_emptied_redis_gets_the_open_tasks() {
    let mut home = Home::redis();
    let inbox = Inbox::at("127.0.31.1");
    home.set("store.timeout_ms", 500)
        .set("dispatch.agent_port", inbox.port());
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.31.1");
    let _silent = Host::online(server.tcp, "127.0.31.2");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 2, "b": 1}, "hosts": null}));
    assert_eq!(inbox.next(), "AC1");
    assert_eq!(host.ask(rcc(1, "AC1").as_bytes())["ACK"], "keepGotIt");
    let redis = home.store();
    let claim: String = redis.say(&["GET", "anthill:task:AC1"]);

    home.store_mut().restart();
    server.until_ready(true);
    let redis = home.store();
    until_so("the book is there again", || {
        redis.say::<Vec<(String, f64)>>(&["ZREVRANGE", "AC1", "0", "-1", "WITHSCORES"])
            == [("a".to_owned(), 2.0), ("b".to_owned(), 1.0)]
    });
    assert_eq!(redis.say::<String>(&["GET", "anthill:task:AC1"]), claim);
    // What it confirmed lately comes back in its order: the task first, then the answer to it.
    until_so("the answer as well", || {
        redis.say::<Vec<String>>(&["SMEMBERS", "AC1_response"]) == ["127.0.31.2"]
    });
    let state = |host: &str| redis.say::<String>(&["HGET", "anthill:task:AC1:hosts", host]);
    until_so("the states as well", || {
        (state("127.0.31.1").as_str(), state("127.0.31.2").as_str()) == ("answered", "sent")
    });
    assert!(
        redis
            .say::<Option<f64>>(&["ZSCORE", "anthill:tasks", "AC1"])
            .is_some()
    );

    // The host continues without a change.
    let book = host.ask(br#"{"flag":"ADH41","taskId":"AC1"}"#);
    assert_eq!(book["tasks"], json!([["a", 2], ["b", 1]]));
    for report in [
        phase(1, "AC1", "null", "[]", r#"["a","b"]"#),
        phase(3, "AC1", "null", r#"["a"]"#, r#"["b"]"#),
        phase(3, "AC1", "null", r#"["b"]"#, "[]"),
    ] {
        assert_eq!(host.ask(report.as_bytes())["ACK"], "keepGotIt");
    }
    until_so("done, in Redis", || state("127.0.31.1") == "done");
    assert_eq!(
        redis.say::<Vec<String>>(&["LRANGE", "AC1_127.0.31.1_complete", "0", "-1"]),
        ["a", "b"]
    );
    // A server that starts now finds it.
    server.kill();
    let server = home.start();
    server.until_ready(true);
    server.until_task("AC1", "127.0.31.1", "done");
}

on_both_stores!(
    a_restart_resends_open_deliveries,
    queued_tasks_go_out_after_a_restart,
    a_kill_leaves_a_dispatch_whole_or_absent,
);

fn a_restart_resends_open_deliveries(mut home: Home) {
    let inbox = Inbox::at("127.0.41.1");
    home.set("dispatch.agent_port", inbox.port())
        .set("dispatch.rto_ms", 100);
    let server = home.start();
    let host = Host::online(server.tcp, "127.0.41.1");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 1}}));
    assert_eq!(inbox.next(), "AC1");
    server.kill();
    while inbox.within(Duration::from_millis(50)).is_some() {}
    drop(host);
    let server = home.start();
    // It is held online, so it is sent to before it is back.
    assert_eq!(inbox.next(), "AC1");
    let mut host = Host::online(server.tcp, "127.0.41.1");
    host.ask(rcc(1, "AC1").as_bytes());
    assert_eq!(server.task_state("AC1", "127.0.41.1"), "answered");
    server.kill();
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.41.1");
    host.ask(phase(3, "AC1", "null", r#"["a"]"#, "[]").as_bytes());
    server.until_task("AC1", "127.0.41.1", "done");
    server.kill();
    let server = home.start();
    server.until_ready(true);
    server.until_task("AC1", "127.0.41.1", "done");
}

fn queued_tasks_go_out_after_a_restart(mut home: Home) {
    let inbox = Inbox::at("127.0.42.1");
    home.set("dispatch.agent_port", inbox.port())
        .set("dispatch.rto_ms", 100);
    let server = home.start();
    let task = json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["127.0.42.1", "127.0.42.2"], "queue": true});
    let hosts = server.dispatch(&task);
    assert_eq!(
        hosts,
        json!({"127.0.42.1": "queued", "127.0.42.2": "queued"})
    );
    server.kill();
    let server = home.start();
    server.until_ready(true);
    assert_eq!(server.task_state("AC1", "127.0.42.1"), "queued");
    assert!(inbox.within(Duration::from_millis(100)).is_none());
    let mut host = Host::online(server.tcp, "127.0.42.1");
    assert_eq!(inbox.next(), "AC1");
    host.ask(rcc(1, "AC1").as_bytes());
    assert_eq!(server.task_state("AC1", "127.0.42.1"), "answered");
    assert_eq!(server.task_state("AC1", "127.0.42.2"), "queued");
    let late = Inbox::on("127.0.42.2", inbox.port());
    let _host = Host::online(server.tcp, "127.0.42.2");
    assert_eq!(late.next(), "AC1");
}

fn a_kill_leaves_a_dispatch_whole_or_absent(home: Home) {
    let (mut whole, mut nothing) = (0, 0);
    let mut server = home.start();
    for round in 0..12_u64 {
        let key = format!("AC{round}");
        let commands: serde_json::Map<_, _> =
            (0..500).map(|n| (format!("c{n}"), json!(n))).collect();
        let body = json!({"key": key, "commands": commands, "hosts": ["a", "b"], "queue": true});
        let (http, body) = (server.http, body.to_string());
        let asking = std::thread::spawn(move || http::try_post(http, "/v1/tasks", &body));
        std::thread::sleep(Duration::from_micros(700 * round));
        server.kill();
        let told = asking.join().unwrap();
        server = home.start();
        server.until_ready(true);
        let (status, text) = server.get(&format!("/v1/tasks/{key}"));
        match status {
            200 => {
                let task: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(task["commands"].as_array().unwrap().len(), 500);
                assert_eq!(task["hosts"].as_object().unwrap().len(), 2);
                whole += 1;
            }
            _ => {
                assert_eq!(status, 404, "{text}");
                assert_ne!(told, Some(201), "it was told that it is stored");
                // The key is as free as before.
                server.dispatch(&json!({"key": key, "commands": {"a": 1}, "hosts": ["a"]}));
                nothing += 1;
            }
        }
    }
    assert_eq!(whole + nothing, 12);
}

/// Lets Redis hang for some time in the middle of a dispatch. Returns the status of the answer, and
/// whether the task is stored.
fn hung(seconds: u64, address: &str) -> (u16, bool) {
    let mut home = Home::redis();
    home.set("store.timeout_ms", 300);
    let server = home.start();
    let inbox = Inbox::at(address);
    let mut host = Host::connect(server.tcp, address);
    host.ask(format!(r#"{{"flag":"ADH40","id":"h","udp":{}}}"#, inbox.port()).as_bytes());
    until_so("it is online", || home.store().exists().contains("h"));
    home.store().stop();
    let http = server.http;
    let asking = std::thread::spawn(move || {
        let body = json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["h"]}).to_string();
        http::try_post(http, "/v1/tasks", &body)
    });
    server.until_ready(false);
    let (status, _) = server.post("/v1/tasks", &json!({"key": "AC2", "commands": {"a": 1}}));
    assert_eq!(status, 503, "while it is away nothing is begun");
    std::thread::sleep(Duration::from_secs(seconds));
    home.store().go_on();
    let told = asking.join().unwrap().expect("an answer");
    server.until_ready(true);
    let keys = home.store().say::<Vec<String>>(&["KEYS", "*AC1*"]);
    let there = server.get("/v1/tasks/AC1").0 == 200;
    assert_eq!(keys.len(), if there { 4 } else { 0 }, "{keys:?}");
    assert_eq!(
        inbox.within(Duration::from_millis(300)).is_some(),
        there,
        "sent if stored"
    );
    (told, there)
}

#[test]
fn a_hung_redis_delays_a_dispatch() {
    // Where something else of the server's hung before the task came, it was away already.
    let begun = (1..=10).map(|number| hung(1, &format!("127.0.43.{number}")));
    let mut begun = begun.skip_while(|ended| *ended == (503, false));
    assert_eq!(begun.next(), Some((201, true)));
}

#[test]
fn an_unconfirmed_dispatch_is_undone() {
    let (told, there) = hung(11, "127.0.44.1");
    assert_eq!((told, there), (503, false));
}
