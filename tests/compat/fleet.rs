//! A fleet of old clients at their own pace.

use serde_json::json;

use testkit::{Home, Inbox, until};

use crate::paced_client::OldClient;

/// Redis, and a port that every address of the fleet has free: as free as that of the first one is.
fn home(first: &str) -> (Home, u16) {
    let mut home = Home::redis();
    let port = Inbox::at(first).port();
    home.set("dispatch.agent_port", port);
    (home, port)
}

#[test]
fn ten_old_clients_run_every_task_once() {
    let ips: Vec<String> = (1..=10).map(|i| format!("127.0.61.{i}")).collect();
    let (home, port) = home(&ips[0]);
    let server = home.start();
    let redis = home.store().url();
    let start = |ip: &String| OldClient::start(ip, port, server.tcp, &redis, home.path());
    let clients: Vec<OldClient> = ips.iter().map(start).collect();
    ips.iter()
        .for_each(|ip| until(ip, || server.is_online(ip).then_some(())));
    let send = |key: &str, commands: &[&str]| {
        let commands = commands.iter().rev().zip(1..);
        let commands: serde_json::Map<_, _> = commands
            .map(|(command, priority)| (format!("{command}echo {key} >> ran"), json!(priority)))
            .collect();
        server.dispatch(&json!({"key": key, "commands": commands}));
    };
    let all = |key: &str, state: &str| {
        ips.iter().for_each(|ip| server.until_task(key, ip, state));
    };
    send("AC1", &["sleep 2; "]);
    all("AC1", "working");
    // While the first runs; right after it is done, while they sleep; twice at once.
    send("AC2", &[""]);
    all("AC2", "done");
    send("AC3", &["", "true; "]);
    all("AC3", "done");
    send("AC4", &[""]);
    send("AC5", &[""]);
    all("AC5", "done");
    // Copies are worked off in their order: whatever was sent before this one has been run before it.
    send("AC6", &[""]);
    all("AC6", "done");
    for client in &clients {
        let ran = client.lines("ran");
        assert_eq!(ran, ["AC1", "AC2", "AC3", "AC3", "AC4", "AC5", "AC6"]);
    }
    assert_eq!(server.metric("anthill_resends_total"), 0);
    let events = home.store().events();
    let offline = events
        .iter()
        .find(|event| event.field("event") == "offline");
    assert!(offline.is_none(), "{offline:?}");
}

#[test]
fn a_killed_server_costs_one_report() {
    let ips = ["127.0.62.1", "127.0.62.2"];
    let (mut home, port) = home(ips[0]);
    home.set("heartbeat.timeout_s", 6);
    let server = home.start();
    let (tcp, redis) = (server.tcp, home.store().url());
    home.set("server.tcp", tcp.to_string());
    let clients = ips.map(|ip| OldClient::start(ip, port, tcp, &redis, home.path()));
    for ip in ips {
        until(ip, || server.is_online(ip).then_some(()));
    }
    let task = |key: &str, before: &str, hosts: &[&str]| {
        let command = format!("{before}echo {key} >> ran");
        json!({"key": key, "commands": {command: 1}, "hosts": hosts})
    };
    server.dispatch(&task("AC1", "sleep 14; ", &ips));
    for ip in ips {
        server.until_task("AC1", ip, "working");
    }
    server.dispatch(&task("AC2", "", &ips[..1]));
    server.kill();
    let server = home.start();
    // The command lasts for longer than two timeouts, and then the reports have no socket. The next
    // task shows that it has ended; without one, heartbeats do.
    server.until_task("AC2", ips[0], "done");
    server.until_task("AC1", ips[0], "lost");
    server.dispatch(&task("AC3", "", &ips[..1]));
    server.until_task("AC3", ips[0], "done");
    server.until_task("AC1", ips[1], "lost");
    server.dispatch(&task("AC4", "", &ips[1..]));
    server.until_task("AC4", ips[1], "done");
    assert_eq!(clients[0].lines("ran"), ["AC1", "AC2", "AC3"]);
    assert_eq!(clients[1].lines("ran"), ["AC1", "AC4"]);
    let events = home.store().events();
    let offline = events
        .iter()
        .find(|event| event.field("event") == "offline");
    assert!(offline.is_none(), "{offline:?}");
}
