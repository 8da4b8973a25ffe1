//! Pause, resume and cancel at any node, over a real Redis.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::nodes::Nodes;
use super::support::words::{phase, rcc};
use super::support::{BEAT_ASKING, Host, Server, until_so};

/// Nodes whose hosts may be silent for `timeout` seconds, and whose tasks are sent once.
fn nodes(count: usize, timeout: u64) -> (Nodes, Vec<Server>) {
    let mut nodes = Nodes::new(count);
    for home in &mut nodes.homes {
        home.set("heartbeat.timeout_s", timeout)
            .set("dispatch.rto_ms", 60_000);
    }
    let servers = nodes.start();
    (nodes, servers)
}

/// A host that takes its tasks, and orders to end them, over its connection.
fn agent(server: &Server, ip: &str, id: &str) -> Host {
    let mut host = Host::connect(server.tcp, ip);
    let hello = format!(r#"{{"flag":"ADH40","id":"{id}","push":true,"cancel":true}}"#);
    assert_eq!(host.ask(hello.as_bytes())["ACK"], "keepGotIt");
    host
}

/// Dispatches `AC1` to the hosts `web-*`, two a wave.
fn roll_out(server: &Server, hosts: u64) {
    let task = json!({
        "key": "AC1", "commands": {"a": 1}, "target": "web-*", "batch": 2, "expect": hosts,
    });
    let (status, answer) = server.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{answer}");
}

fn change(server: &Server, verb: &str) -> (u16, Value) {
    server.post(&format!("/v1/tasks/AC1/{verb}"), &json!({}))
}

fn state(server: &Server) -> Value {
    server.json("/v1/tasks/AC1")["rollout"]["state"].clone()
}

fn until_rollout(servers: &[Server], expected: &str) {
    for server in servers {
        until_so(expected, || state(server) == expected);
    }
}

fn until_inbox_is_empty(nodes: &Nodes, node: &str) {
    let inbox = format!("anthill:node:{node}:inbox");
    until_so("the inbox is empty", || {
        nodes.redis.say::<u64>(&["XLEN", &inbox]) == 0
    });
}

#[test]
fn any_node_pauses_resumes_and_cancels_a_task() {
    let (nodes, servers) = nodes(3, 60);
    let mut far = agent(&servers[1], "127.0.138.1", "web-1");
    let _unread = agent(&servers[1], "127.0.138.2", "web-2");
    let _plain = Host::named(servers[2].tcp, "127.0.138.3", "web-3");
    for (node, host) in [("n2", "web-1"), ("n2", "web-2"), ("n3", "web-3")] {
        nodes.until_held(node, host);
    }
    until_so("the node knows all hosts", || {
        let (status, plan) = servers[0].post("/v1/plan", &json!({"target": "web-*"}));
        status == 200 && plan["hosts"] == 3
    });
    roll_out(&servers[0], 3);
    assert_eq!(far.reply()["taskId"], "AC1");
    far.ask(rcc(1, "AC1").as_bytes());
    servers[0].until_task("AC1", "web-1", "answered");
    for (at, verb, expected) in [(2, "pause", "paused"), (1, "resume", "running")] {
        let (status, answer) = change(&servers[at], verb);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["rollout"]["state"], expected);
        until_rollout(&servers, expected);
        let (status, answer) = change(&servers[at], verb);
        assert_eq!(status, 409, "{answer}");
    }
    // Sent at a node that is neither the keeper nor the one that is asked.
    let (status, answer) = change(&servers[2], "cancel");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["cancelled"], 2, "{answer}");
    assert_eq!(answer["asked"], 1, "{answer}");
    assert_eq!(answer["cannot"], json!([]), "{answer}");
    let order = far.reply();
    assert_eq!(
        (&order["flag"], &order["taskId"]),
        (&json!("ADH45"), &json!("AC1"))
    );
    until_rollout(&servers, "cancelled");
    let stored = |host| {
        nodes
            .redis
            .say::<String>(&["HGET", "anthill:task:AC1:hosts", host])
    };
    until_so("the states are stored", || {
        (stored("web-2"), stored("web-3")) == ("cancelled".to_owned(), "cancelled".to_owned())
    });
    for server in &servers {
        server.until_task("AC1", "web-2", "cancelled");
        server.until_task("AC1", "web-3", "cancelled");
    }
    far.ask(phase(3, "AC1", "null", r#"["a"]"#, "[]").as_bytes());
    for server in &servers {
        server.until_task("AC1", "web-1", "done");
    }
    (1..=3).for_each(|number| until_inbox_is_empty(&nodes, &format!("n{number}")));
}

#[test]
fn a_change_that_no_keeper_makes_is_refused_clearly() {
    let (nodes, servers) = nodes(2, 60);
    let _host = Host::named(servers[0].tcp, "127.0.139.1", "web-1");
    let _next = Host::named(servers[0].tcp, "127.0.139.2", "web-2");
    let _last = Host::named(servers[0].tcp, "127.0.139.3", "web-3");
    nodes.until_held("n1", "web-3");
    roll_out(&servers[0], 3);
    let task = json!({"key": "AC2", "commands": {"a": 1}, "hosts": ["web-1"]});
    servers[0].dispatch(&task);
    let (status, answer) = servers[1].post("/v1/tasks/AC2/pause", &json!({}));
    assert_eq!(status, 400, "{answer}");
    assert_eq!(servers[1].post("/v1/tasks/AC9/cancel", &json!({})).0, 404);
    let (status, answer) = servers[1].post("/v1/tasks/AC2/cancel", &json!({}));
    assert_eq!((status, &answer["cancelled"]), (200, &json!(1)), "{answer}");
    // The keeper stands still for longer than the requester waits: it drops the letter then.
    servers[0].signal(Signal::STOP);
    let (status, answer) = change(&servers[1], "pause");
    servers[0].signal(Signal::CONT);
    assert_eq!(status, 503, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("the node n1 keeps the task"),
        "{answer}"
    );
    until_inbox_is_empty(&nodes, "n1");
    assert_eq!(state(&servers[0]), "running");
    let (status, answer) = change(&servers[1], "pause");
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn the_next_keeper_makes_the_change_after_a_kill() {
    let (nodes, mut servers) = nodes(2, 6);
    let mut host = Host::named(servers[1].tcp, "127.0.140.1", "web-1");
    let _gone = Host::named(servers[0].tcp, "127.0.140.2", "web-2");
    let _late = Host::named(servers[0].tcp, "127.0.140.3", "web-3");
    nodes.until_held("n2", "web-1");
    nodes.until_held("n1", "web-3");
    until_so("the node knows all hosts", || {
        let (status, plan) = servers[0].post("/v1/plan", &json!({"target": "web-*"}));
        status == 200 && plan["hosts"] == 3
    });
    roll_out(&servers[0], 3);
    servers[1].until_task("AC1", "web-1", "sent");
    servers.remove(0).kill();
    let _: u64 = nodes.redis.say(&["DEL", "anthill:node:n1"]);
    let left = &servers[0];
    thread::scope(|scope| {
        let asked = scope.spawn(|| change(left, "pause"));
        until_so("the other node keeps it", || {
            host.ask(BEAT_ASKING);
            let claim: String = nodes.redis.say(&["GET", "anthill:task:AC1"]);
            claim.contains(r#""node":"n2""#)
        });
        until_so("the requester has its answer", || {
            host.ask(BEAT_ASKING);
            asked.is_finished()
        });
        // Of the dead keeper, or on a slow machine of the next one.
        let (status, answer) = asked.join().unwrap();
        assert!(status == 503 || status == 200, "{answer}");
    });
    until_so("it makes the change", || {
        host.ask(BEAT_ASKING);
        change(left, "cancel").0 == 200
    });
    until_rollout(&servers, "cancelled");
    left.until_task("AC1", "web-1", "cancelled");
}
