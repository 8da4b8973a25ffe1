//! Tasks while servers and stores die under them.

use serde_json::json;

use super::support::{Home, Host, Inbox, until_so};

/// An answer to a dispatch.
fn rcc(code: u8, key: &str) -> String {
    format!(
        r#"{{"flag":"ADH33","RCC":{code},"taskId":"{key}","answerTime":1700000000,"reply":true}}"#
    )
}

/// A report of progress.
fn phase(number: u8, key: &str, working: &str, complete: &str, oncall: &str) -> String {
    format!(
        r#"{{"flag":"ADH27","code":"{key}","phase":{number},"working":{working},
           "complete":{complete},"oncall":{oncall},"reply":true}}"#
    )
}

#[test]
fn a_redis_that_comes_back_empty_is_given_the_open_tasks_with_their_books() {
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
    assert_eq!(
        redis.say::<Vec<String>>(&["SMEMBERS", "AC1_response"]),
        ["127.0.31.2"]
    );
    let state = |host: &str| redis.say::<String>(&["HGET", "anthill:task:AC1:hosts", host]);
    assert_eq!(
        (state("127.0.31.1"), state("127.0.31.2")),
        ("answered".into(), "sent".into())
    );
    assert!(
        redis
            .say::<Option<f64>>(&["ZSCORE", "anthill:tasks", "AC1"])
            .is_some()
    );

    // The host goes on as if nothing had been.
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
