//! Tasks with hosts of several nodes: sent and reported at the node that holds each host, and shown
//! by all.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::nodes::Nodes;
use super::support::words::{phase, rcc, result};
use super::support::{Host, Inbox, Server, little, until_so};

/// Nodes whose hosts take their datagrams at the port of `inbox`.
fn nodes(count: usize, inbox: &Inbox) -> (Nodes, Vec<Server>) {
    let mut nodes = Nodes::new(count);
    for home in &mut nodes.homes {
        home.set("dispatch.agent_port", inbox.port())
            .set("dispatch.rto_ms", 60_000);
    }
    let servers = nodes.start();
    (nodes, servers)
}

/// Answers a task, and asks for its book.
fn take(host: &mut Host, key: &str) {
    host.ask(rcc(1, key).as_bytes());
    let book = format!(r#"{{"flag":"ADH41","taskId":"{key}"}}"#);
    assert_eq!(host.ask(book.as_bytes())["tasks"], json!([["a", 1]]));
}

/// Reports the output of the only command, and its end.
fn finish(host: &mut Host, key: &str) {
    let frame = little(result(key, "a", 0, b"out").as_bytes());
    host.send(&[&frame[..], b"out"].concat());
    assert_eq!(host.reply()["ACK"], "keepGotIt");
    let end = host.ask(phase(3, key, "null", r#"["a"]"#, "[]").as_bytes());
    assert_eq!(end["ACK"], "keepGotIt");
}

fn until_all_show(servers: &[Server], key: &str, host: &str, state: &str) {
    for server in servers {
        server.until_task(key, host, state);
    }
}

/// Waits until the keys of a task expire.
fn until_over(nodes: &Nodes, key: &str) {
    let hosts = format!("anthill:task:{key}:hosts");
    until_so("it expires", || {
        let left: i64 = nodes.redis.say(&["PTTL", &hosts]);
        left > 0
    });
    let open: u64 = nodes.redis.say(&["SISMEMBER", "anthill:tasks:open", key]);
    assert_eq!(open, 0);
    for home in 1..=nodes.homes.len() {
        let inbox = format!("anthill:node:n{home}:inbox");
        until_so("the inbox is empty", || {
            nodes.redis.say::<u64>(&["XLEN", &inbox]) == 0
        });
    }
}

fn no_copy(inbox: &Inbox) {
    let copy = inbox.within(Duration::from_millis(300));
    assert_eq!(copy, None, "another copy");
}

#[test]
fn a_task_reaches_named_hosts_of_other_nodes() {
    let far = Inbox::at("127.0.130.2");
    let near = Inbox::on("127.0.130.1", far.port());
    let (nodes, servers) = nodes(2, &far);
    let mut here = Host::named(servers[0].tcp, "127.0.130.1", "here");
    let mut there = Host::named(servers[1].tcp, "127.0.130.2", "there");
    nodes.until_held("n1", "here");
    nodes.until_held("n2", "there");
    let task = json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["here", "there", "gone"]});
    let states = servers[0].dispatch(&task);
    assert_eq!(
        states,
        json!({"here": "sent", "there": "sent", "gone": "offline"})
    );
    assert_eq!(
        (near.next(), far.next()),
        ("AC1".to_owned(), "AC1".to_owned())
    );
    take(&mut there, "AC1");
    until_all_show(&servers, "AC1", "there", "answered");
    take(&mut here, "AC1");
    finish(&mut there, "AC1");
    until_all_show(&servers, "AC1", "there", "done");
    until_all_show(&servers, "AC1", "here", "answered");
    finish(&mut here, "AC1");
    until_all_show(&servers, "AC1", "here", "done");
    until_over(&nodes, "AC1");
    no_copy(&far);
    no_copy(&near);
    // Counted, and shown with the output, at the node that took the dispatch.
    let list = servers[0].json("/v1/tasks");
    assert_eq!(list["tasks"][0]["hosts"], json!({"done": 2, "offline": 1}));
    let output = servers[0].get("/v1/tasks/AC1/hosts/there/output?command=a");
    assert_eq!(output, (200, "out".to_owned()));
    let (status, _) = servers[1].post("/v1/tasks", &task);
    assert_eq!(status, 409, "a key is used once among all nodes");
}

#[test]
fn a_task_for_all_reaches_all_nodes() {
    let inbox = Inbox::at("127.0.131.1");
    let (nodes, servers) = nodes(3, &inbox);
    let names: Vec<String> = (0..30).map(|number| format!("h{number}")).collect();
    let mut hosts = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let at = number % 3;
        hosts.push(Host::named(servers[at].tcp, "127.0.131.1", name));
        nodes.until_held(&format!("n{}", at + 1), name);
    }
    let states = servers[0].dispatch(&json!({"key": "AC1", "commands": {"a": 1}}));
    let all: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| (name.clone(), json!("sent")))
        .collect();
    assert_eq!(states, Value::Object(all));
    // One datagram at each node: they share an address.
    for _ in &servers {
        assert_eq!(inbox.next(), "AC1");
    }
    no_copy(&inbox);
    for host in &mut hosts {
        take(host, "AC1");
        finish(host, "AC1");
    }
    for server in &servers {
        names
            .iter()
            .for_each(|name| server.until_task("AC1", name, "done"));
    }
    until_over(&nodes, "AC1");
}

#[test]
fn a_target_of_the_command_line_reaches_all_nodes() {
    let inbox = Inbox::at("127.0.135.1");
    let (nodes, servers) = nodes(2, &inbox);
    let _here = Host::named(servers[0].tcp, "127.0.135.1", "web-1");
    let _there = Host::named(servers[1].tcp, "127.0.135.2", "web-2");
    nodes.until_held("n1", "web-1");
    nodes.until_held("n2", "web-2");
    let api = format!("http://{}", servers[0].http);
    until_so("the node knows of the other", || {
        servers[0].json("/v1/nodes")["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.len() == 2)
            && servers[0].host("web-2").is_some()
    });
    let words = [
        "dispatch", "AC1", "--target", "web-*", "--task", "a", "--api", &api,
    ];
    let sent = testkit::server::run(nodes.homes[0].path(), &words);
    assert_eq!(sent.status, Some(0), "{}", sent.stderr);
    for host in ["web-1", "web-2"] {
        servers[0].until_task("AC1", host, "sent");
    }
}

#[test]
fn a_host_moves_in_the_middle_of_a_task() {
    let inbox = Inbox::at("127.0.132.1");
    let (nodes, servers) = nodes(3, &inbox);
    let mut host = Host::named(servers[1].tcp, "127.0.132.1", "h");
    nodes.until_held("n2", "h");
    servers[0].dispatch(&json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["h"]}));
    assert_eq!(inbox.next(), "AC1");
    take(&mut host, "AC1");
    host.ask(phase(2, "AC1", r#""a""#, "[]", r#"["a"]"#).as_bytes());
    // Its report follows its hello at once.
    let mut moved = Host::named(servers[2].tcp, "127.0.132.1", "h");
    take(&mut moved, "AC1");
    finish(&mut moved, "AC1");
    drop(host);
    until_all_show(&servers, "AC1", "h", "done");
    until_over(&nodes, "AC1");
    no_copy(&inbox);
    let output = servers[1].get("/v1/tasks/AC1/hosts/h/output?command=a");
    assert_eq!(output, (200, "out".to_owned()));
    // What it repeats of a finished task is taken at a node that never had the task.
    let task = json!({"key": "AC2", "commands": {"a": 1}, "hosts": ["h"]});
    servers[2].dispatch(&task);
    assert_eq!(inbox.next(), "AC2");
    take(&mut moved, "AC2");
    finish(&mut moved, "AC2");
    until_over(&nodes, "AC2");
    let mut again = Host::named(servers[0].tcp, "127.0.132.1", "h");
    finish(&mut again, "AC2");
    let unknown = again.ask(br#"{"flag":"ADH41","taskId":"AC9"}"#);
    assert_eq!(unknown["ACK"], "keepRefused", "{unknown}");
    assert_eq!(servers[0].task_state("AC2", "h"), "done");
}

#[test]
fn a_task_goes_on_without_the_node_that_sent_it() {
    let inbox = Inbox::at("127.0.133.1");
    let (nodes, mut servers) = nodes(3, &inbox);
    let mut host = Host::named(servers[1].tcp, "127.0.133.1", "h");
    nodes.until_held("n2", "h");
    let task = json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["h", "gone"], "queue": true});
    servers[0].dispatch(&task);
    assert_eq!(inbox.next(), "AC1");
    take(&mut host, "AC1");
    servers[1].until_task("AC1", "h", "answered");
    servers.remove(0).kill();
    let _: u64 = nodes.redis.say(&["DEL", "anthill:node:n1"]);
    until_so("another node keeps it", || {
        host.ask(super::support::BEAT_ASKING);
        let claim: String = nodes.redis.say(&["GET", "anthill:task:AC1"]);
        !claim.contains(r#""node":"n1""#)
    });
    finish(&mut host, "AC1");
    until_all_show(&servers, "AC1", "h", "done");
    // The other host comes to the node that holds no part of the task so far.
    let mut late = Host::named(servers[1].tcp, "127.0.133.1", "gone");
    assert_eq!(inbox.next(), "AC1");
    take(&mut late, "AC1");
    finish(&mut late, "AC1");
    until_all_show(&servers, "AC1", "gone", "done");
    until_over(&nodes, "AC1");
    no_copy(&inbox);
}

#[test]
fn hosts_of_a_dead_node_get_the_task_elsewhere() {
    let inbox = Inbox::at("127.0.134.1");
    let (nodes, mut servers) = nodes(3, &inbox);
    let host = Host::named(servers[1].tcp, "127.0.134.1", "h");
    nodes.until_held("n2", "h");
    servers[0].dispatch(&json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["h"]}));
    assert_eq!(inbox.next(), "AC1");
    // It dies before the host has answered.
    servers.remove(1).kill();
    drop(host);
    let mut moved = Host::named(servers[1].tcp, "127.0.134.1", "h");
    assert_eq!(inbox.next(), "AC1");
    take(&mut moved, "AC1");
    finish(&mut moved, "AC1");
    until_all_show(&servers, "AC1", "h", "done");
    until_over(&nodes, "AC1");
    no_copy(&inbox);
}

/// Dispatches a rollout of one host a wave, and returns its hosts `web-1` and up, all at `n1`.
fn one_by_one(nodes: &Nodes, server: &Server, ip: &str, count: usize) -> Vec<Host> {
    let names: Vec<String> = (1..=count).map(|number| format!("web-{number}")).collect();
    let hosts = names.iter().map(|name| Host::named(server.tcp, ip, name));
    let hosts = hosts.collect();
    names.iter().for_each(|name| nodes.until_held("n1", name));
    let task = json!({"key": "AC1", "commands": {"a": 1}, "target": "web-*", "batch": 1});
    let (status, answer) = server.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{answer}");
    hosts
}

fn states(server: &Server, key: &str) -> Vec<String> {
    let task = server.json(&format!("/v1/tasks/{key}"));
    let hosts = task["hosts"].as_object().expect("hosts");
    let states = hosts.values().map(|host| host["state"].as_str().unwrap());
    states.map(str::to_owned).collect()
}

fn until_states(server: &Server, key: &str, expected: &[&str]) {
    until_so(&format!("{expected:?}"), || states(server, key) == expected);
}

fn rollout(server: &Server, key: &str) -> Value {
    server.json(&format!("/v1/tasks/{key}"))["rollout"].clone()
}

#[test]
fn a_returned_node_follows_the_new_keeper() {
    let inbox = Inbox::at("127.0.136.1");
    let (nodes, servers) = nodes(2, &inbox);
    let mut hosts = one_by_one(&nodes, &servers[0], "127.0.136.1", 4);
    assert_eq!(inbox.next(), "AC1");
    take(&mut hosts[0], "AC1");
    finish(&mut hosts[0], "AC1");
    until_states(&servers[0], "AC1", &["done", "sent", "held", "held"]);
    assert_eq!(inbox.next(), "AC1");
    // It stands still until the other node has taken its task over.
    servers[0].signal(Signal::STOP);
    let _: u64 = nodes.redis.say(&["DEL", "anthill:node:n1"]);
    let mut moved: Vec<Host> = (1..=4)
        .map(|number| Host::named(servers[1].tcp, "127.0.136.1", &format!("web-{number}")))
        .collect();
    until_so("the other node keeps it", || {
        moved.iter_mut().for_each(|host| {
            host.ask(super::support::BEAT_ASKING);
        });
        let claim: String = nodes.redis.say(&["GET", "anthill:task:AC1"]);
        claim.contains(r#""node":"n2""#) && claim.contains(r#""epoch":1"#)
    });
    assert_eq!(inbox.next(), "AC1", "it moved, and is sent the task again");
    take(&mut moved[1], "AC1");
    finish(&mut moved[1], "AC1");
    until_states(&servers[1], "AC1", &["done", "done", "sent", "held"]);
    assert_eq!(inbox.next(), "AC1");
    servers[0].signal(Signal::CONT);
    servers[0].logged(&["AC1", "the node n2 keeps it now"]);
    take(&mut moved[2], "AC1");
    let failed = little(result("AC1", "a", 1, b"").as_bytes());
    moved[2].send(&failed);
    assert_eq!(moved[2].reply()["ACK"], "keepGotIt");
    moved[2].ask(phase(3, "AC1", "null", r#"["a"]"#, "[]").as_bytes());
    for server in &servers {
        until_so("it pauses at all nodes", || {
            rollout(server, "AC1")["state"] == "paused"
        });
        until_states(server, "AC1", &["done", "done", "failed", "held"]);
    }
    let stored: String = nodes.redis.say(&["GET", "anthill:task:AC1:rollout"]);
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!((&stored["epoch"], &stored["wave"]), (&json!(1), &json!(2)));
    no_copy(&inbox);
}

#[test]
fn waves_cover_the_hosts_of_all_nodes_and_outlive_their_keeper() {
    let inbox = Inbox::at("127.0.137.1");
    let (nodes, mut servers) = nodes(3, &inbox);
    // web-2 and web-5 at the second node, web-3 at the third.
    let homes = [0, 1, 2, 0, 1];
    let mut hosts: Vec<Host> = Vec::new();
    for (number, at) in homes.into_iter().enumerate() {
        let name = format!("web-{}", number + 1);
        hosts.push(Host::named(servers[at].tcp, "127.0.137.1", &name));
        nodes.until_held(&format!("n{}", at + 1), &name);
    }
    let api = &servers[2];
    let options = json!({"target": "web-*", "batch": 1});
    let (status, plan) = api.post("/v1/plan", &options);
    assert_eq!((status, &plan["hosts"]), (200, &json!(5)), "{plan}");
    let task = json!({
        "key": "AC1", "commands": {"a": 1}, "target": "web-*", "batch": 1, "expect": 5,
    });
    let (status, answer) = api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{answer}");
    until_states(api, "AC1", &["sent", "held", "held", "held", "held"]);
    for host in &mut hosts[..2] {
        assert_eq!(inbox.next(), "AC1");
        take(host, "AC1");
        finish(host, "AC1");
    }
    // The third wave is of a host of the keeper, which dies in its middle.
    assert_eq!(inbox.next(), "AC1");
    until_states(
        &servers[0],
        "AC1",
        &["done", "done", "sent", "held", "held"],
    );
    take(&mut hosts[2], "AC1");
    until_states(
        &servers[0],
        "AC1",
        &["done", "done", "answered", "held", "held"],
    );
    servers.remove(2).kill();
    let _: u64 = nodes.redis.say(&["DEL", "anthill:node:n3"]);
    hosts[2] = Host::named(servers[0].tcp, "127.0.137.1", "web-3");
    until_so("another node keeps it", || {
        hosts.iter_mut().for_each(|host| {
            host.ask(super::support::BEAT_ASKING);
        });
        let claim: String = nodes.redis.say(&["GET", "anthill:task:AC1"]);
        !claim.contains(r#""node":"n3""#)
    });
    finish(&mut hosts[2], "AC1");
    for host in &mut hosts[3..] {
        assert_eq!(inbox.next(), "AC1");
        take(host, "AC1");
        finish(host, "AC1");
    }
    for server in &servers {
        until_so("it is done at all nodes", || {
            rollout(server, "AC1")["state"] == "done"
        });
        assert_eq!(states(server, "AC1"), ["done"; 5]);
    }
    no_copy(&inbox);
}
