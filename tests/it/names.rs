//! A server under another name than before: a new container, or `hostnamectl`.

use serde_json::json;

use super::support::words::{phase, rcc};
use super::support::{Home, Host, on_both_stores, until_so};

on_both_stores!(a_renamed_node_keeps_its_tasks, hosts_of_the_new_name_stay);

fn a_renamed_node_keeps_its_tasks(mut home: Home) {
    home.set("server.name", "old").set("heartbeat.timeout_s", 2);
    let server = home.start();
    let mut host = Host::named(server.tcp, "127.0.93.1", "dies");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["dies"]}));
    server.dispatch(&json!({"key": "AC2", "commands": {"a": 1}, "hosts": ["dies"]}));
    host.ask(rcc(1, "AC1").as_bytes());
    host.ask(phase(3, "AC1", "null", r#"["a"]"#, "[]").as_bytes());
    server.stop();
    drop(host);

    home.set("server.name", "new");
    let server = home.start();
    server.logged(&["WARN", "new", "old"]);
    let host = server.until_offline("dies");
    until_so("it is lost", || {
        server
            .host("dies")
            .is_some_and(|host| host["reason"] == "lost")
    });
    assert_eq!(host["state"], "offline");
    if home.has_redis() {
        let redis = home.store();
        until_so("it leaves `exists`", || redis.exists().is_empty());
        until_so("and that is told", || {
            redis.story("dies") == ["online", "offline lost"]
        });
    }
    server.until_task("AC1", "dies", "done");
    assert_ne!(server.task_state("AC2", "dies"), "done");
    server.stop();

    // The old name again: nothing is held twice.
    home.set("server.name", "old");
    let server = home.start();
    server.until_ready(true);
    assert_eq!(server.host("dies").expect("known")["reason"], "lost");
    assert_eq!(server.task_state("AC1", "dies"), "done");
}

fn hosts_of_the_new_name_stay(mut home: Home) {
    home.set("server.name", "old").set("heartbeat.timeout_s", 3);
    let server = home.start();
    let stays = Host::named(server.tcp, "127.0.94.1", "stays");
    let goes = Host::named(server.tcp, "127.0.94.2", "goes");
    // What is not written yet is written by then.
    server.stop();
    drop((stays, goes));
    home.set("server.name", "new");
    let server = home.start();
    server.until_ready(true);
    let mut stays = Host::named(server.tcp, "127.0.94.1", "stays");
    let beat = br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","reply":true}"#;
    until_so("the other one is lost", || {
        stays.ask(beat);
        server
            .host("goes")
            .is_some_and(|host| host["reason"] == "lost")
    });
    stays.ask(beat);
    assert!(server.is_online("stays"));
    if home.has_redis() {
        until_so("only that is in `exists`", || {
            home.store().exists() == ["stays".to_owned()].into()
        });
    }
}
