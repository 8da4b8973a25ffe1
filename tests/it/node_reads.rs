//! Reading from any node: the nodes themselves, and hosts that live at other nodes.

use serde_json::Value;

use super::support::{Home, Host, Redis, Server, until_so};

/// A Redis, and the homes of nodes `n1`, `n2`, … on it.
struct Nodes {
    redis: Redis,
    homes: Vec<Home>,
}

impl Nodes {
    fn new(count: usize) -> Self {
        let redis = Redis::start(&[]);
        let home = |number| {
            let mut home = Home::at(&redis.url());
            home.set("server.name", format!("n{number}"));
            home.set("heartbeat.timeout_s", 3);
            home
        };
        let homes = (1..=count).map(home).collect();
        Self { redis, homes }
    }

    fn start(&self) -> Vec<Server> {
        let servers: Vec<Server> = self.homes.iter().map(Home::start).collect();
        servers.iter().for_each(|server| server.until_ready(true));
        servers
    }
}

/// The members of a list of objects.
fn list(answer: &Value, name: &str) -> Vec<Value> {
    answer[name].as_array().expect("a list").clone()
}

fn state_of(server: &Server, name: &str) -> String {
    let nodes = list(&server.json("/v1/nodes"), "nodes");
    let node = nodes.iter().find(|node| node["name"] == name);
    node.map_or(String::new(), |node| {
        node["state"].as_str().unwrap().to_owned()
    })
}

#[test]
fn every_node_lists_all_nodes() {
    let nodes = Nodes::new(3);
    let mut servers = nodes.start();
    let _hosts = ["a", "b"].map(|name| Host::named(servers[1].tcp, "127.0.124.1", name));
    for server in &servers {
        until_so("its hosts are counted", || {
            let nodes = list(&server.json("/v1/nodes"), "nodes");
            nodes.len() == 3 && nodes[1]["hosts"] == 2
        });
        let listed = list(&server.json("/v1/nodes"), "nodes");
        for (place, node) in listed.iter().enumerate() {
            assert_eq!(node["name"], format!("n{}", place + 1));
            assert_eq!((&node["state"], &node["inbox"]), (&"up".into(), &0.into()));
            assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(node["http"], servers[place].http.to_string());
            assert!(node["since"].is_string(), "{node}");
        }
    }
    // A planned stop gives up the lease; a node that is gone is dead once its hosts were ended.
    servers.remove(0).stop();
    until_so("it is silent, then dead", || {
        let state = state_of(&servers[0], "n1");
        assert!(["silent", "dead"].contains(&&*state), "{state}");
        state == "dead"
    });
    let again = nodes.homes[0].start();
    again.until_ready(true);
    assert_eq!(state_of(&servers[1], "n1"), "up");
}

#[test]
fn the_record_of_a_node_is_in_redis() {
    let nodes = Nodes::new(1);
    let servers = nodes.start();
    let record = || -> Vec<Option<String>> {
        let words = ["HMGET", "anthill:node:n1:info", "version", "http", "hosts"];
        nodes.redis.say(&words)
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let http = servers[0].http.to_string();
    assert_eq!(record()[..2], [Some(version), Some(http)]);
    let _host = Host::named(servers[0].tcp, "127.0.125.1", "h");
    until_so("its hosts are counted", || {
        record()[2].as_deref() == Some("1")
    });
}

super::support::on_both_stores!(a_single_node_lists_itself);

fn a_single_node_lists_itself(mut home: Home) {
    home.set("server.name", "alone");
    let server = home.start();
    server.until_ready(true);
    let listed = list(&server.json("/v1/nodes"), "nodes");
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["state"]),
        (&"alone".into(), &"up".into())
    );
    assert_eq!(listed[0]["http"], server.http.to_string());
    let api = format!("http://{}", server.http);
    let ended = super::support::server::run(home.path(), &["nodes", "--json", "--api", &api]);
    let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(shown, server.json("/v1/nodes"));
    let ended = super::support::server::run(home.path(), &["nodes", "--api", &api]);
    assert!(ended.stdout.starts_with("NODE "), "{}", ended.stdout);
    assert!(ended.stdout.contains("\nalone  up "), "{}", ended.stdout);
}
