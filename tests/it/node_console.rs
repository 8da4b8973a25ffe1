//! Console commands to hosts of several nodes, over a real Redis.

use serde_json::json;

use super::nodes::Nodes;
use super::support::words::{rcc, result};
use super::support::{Host, Inbox, Server, little, until_so};

/// Nodes whose hosts take their datagrams at the port of `inbox`, and may be silent for long.
fn nodes(count: usize, inbox: &Inbox) -> (Nodes, Vec<Server>) {
    let mut nodes = Nodes::new(count);
    for home in &mut nodes.homes {
        home.set("heartbeat.timeout_s", 60)
            .set("dispatch.agent_port", inbox.port());
    }
    let servers = nodes.start();
    (nodes, servers)
}

fn agent(server: &Server, ip: &str, id: &str) -> Host {
    let mut host = Host::connect(server.tcp, ip);
    let hello = format!(r#"{{"flag":"ADH40","id":"{id}","push":true}}"#);
    assert_eq!(host.ask(hello.as_bytes())["ACK"], "keepGotIt");
    host
}

/// Waits until all nodes show the same of a host of a command.
fn until_shown(servers: &[Server], cid: &str, host: &str, state: &str) {
    for server in servers {
        until_so(&format!("{host} is {state}"), || {
            let shown = server.json(&format!("/v1/commands/{cid}"));
            shown["hosts"][host]["state"] == state
        });
    }
}

fn until_empty(nodes: &Nodes, node: &str) {
    let inbox = format!("anthill:node:{node}:inbox");
    until_so("the inbox is empty", || {
        nodes.redis.say::<u64>(&["XLEN", &inbox]) == 0
    });
}

#[test]
fn a_command_reaches_hosts_of_other_nodes_once() {
    let far = Inbox::at("127.0.142.2");
    let near = Inbox::on("127.0.142.1", far.port());
    let (nodes, servers) = nodes(3, &far);
    let mut here = Host::named(servers[0].tcp, "127.0.142.1", "here");
    let mut there = Host::named(servers[1].tcp, "127.0.142.2", "there");
    let mut pushed = agent(&servers[2], "127.0.142.3", "pushed");
    for (node, host) in [("n1", "here"), ("n2", "there"), ("n3", "pushed")] {
        nodes.until_held(node, host);
    }
    let hosts = json!(["here", "there", "pushed", "gone"]);
    let command = json!({"command": "uptime", "hosts": hosts});
    let (status, told) = servers[0].post("/v1/commands", &command);
    assert_eq!(status, 202, "{told}");
    let expected = json!({"here": "sent", "there": "sent", "pushed": "sent", "gone": "offline"});
    assert_eq!(told["hosts"], expected);
    let cid = told["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (near.next(), far.next()),
        ("uptime".to_owned(), "uptime".to_owned())
    );
    let order = pushed.reply();
    assert_eq!(
        (&order["command"], &order["cid"]),
        (&json!("uptime"), &json!(cid))
    );
    here.ask(rcc(1, "uptime").as_bytes());
    there.ask(rcc(1, "uptime").as_bytes());
    let frame = little(result(&cid, "uptime", 0, b"up").as_bytes());
    pushed.send(&[&frame[..], b"up"].concat());
    assert_eq!(pushed.reply()["ACK"], "keepGotIt");
    for host in ["here", "there", "pushed"] {
        until_shown(&servers, &cid, host, "answered");
    }
    until_shown(&servers, &cid, "gone", "offline");
    for server in &servers {
        let shown = server.json(&format!("/v1/commands/{cid}"));
        assert_eq!(shown["command"], "uptime");
        assert_eq!(
            shown["hosts"]["pushed"]["results"]["uptime"]["output"], "up",
            "{shown}"
        );
    }
    let left: i64 = nodes.redis.say(&["TTL", &format!("anthill:command:{cid}")]);
    assert!((1..=3_600).contains(&left), "{left}");
    (1..=3).for_each(|number| until_empty(&nodes, &format!("n{number}")));
    // To all, and to a target.
    for body in [
        json!({"command": "date"}),
        json!({"command": "date", "target": "here,there"}),
    ] {
        until_so("the command reaches both", || {
            let (status, told) = servers[2].post("/v1/commands", &body);
            status == 202 && told["hosts"]["here"] == "sent" && told["hosts"]["there"] == "sent"
        });
        assert_eq!(
            (near.next(), far.next()),
            ("date".to_owned(), "date".to_owned())
        );
    }
    assert_eq!(
        servers[1]
            .get("/v1/commands/0123456789abcdef0123456789abcdef")
            .0,
        404
    );
}

#[test]
fn the_inbox_of_a_dead_node_goes_to_its_heir() {
    let inbox = Inbox::at("127.0.143.1");
    let mut nodes = Nodes::new(2);
    for home in &mut nodes.homes {
        home.set("dispatch.agent_port", inbox.port());
    }
    let mut servers = nodes.start();
    let host = Host::named(servers[1].tcp, "127.0.143.1", "h");
    nodes.until_held("n2", "h");
    // It stands still while it is rung, and dies.
    servers[1].signal(rustix::process::Signal::STOP);
    let command = json!({"command": "uptime", "hosts": ["h"]});
    let (status, told) = servers[0].post("/v1/commands", &command);
    assert_eq!(
        (status, &told["hosts"]["h"]),
        (202, &json!("sent")),
        "{told}"
    );
    let entries: u64 = nodes.redis.say(&["XLEN", "anthill:node:n2:inbox"]);
    assert_eq!(entries, 1);
    servers.remove(1).kill();
    drop(host);
    let _: u64 = nodes.redis.say(&["DEL", "anthill:node:n2"]);
    let mut moved = Host::named(servers[0].tcp, "127.0.143.1", "h");
    until_so("the entry is forwarded", || {
        moved.ask(super::support::BEAT_ASKING);
        nodes.redis.say::<u64>(&["XLEN", "anthill:node:n2:inbox"]) == 0
    });
    assert_eq!(inbox.next(), "uptime");
    moved.ask(rcc(1, "uptime").as_bytes());
    let cid = told["id"].as_str().unwrap();
    until_shown(&servers, cid, "h", "answered");
    until_empty(&nodes, "n1");
}
