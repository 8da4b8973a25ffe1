//! Several nodes on one Redis: a host belongs to the node that claimed it last.

use super::support::{Home, Host, Redis, Server, until_so};

/// A Redis, and the homes of nodes `n1`, `n2`, … on it.
pub(super) struct Nodes {
    pub(super) redis: Redis,
    pub(super) homes: Vec<Home>,
}

impl Nodes {
    pub(super) fn new(count: usize) -> Self {
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

    pub(super) fn start(&self) -> Vec<Server> {
        let servers: Vec<Server> = self.homes.iter().map(Home::start).collect();
        servers.iter().for_each(|server| server.until_ready(true));
        servers
    }

    /// The node that holds a host.
    pub(super) fn holder(&self, host: &str) -> String {
        let key = format!("anthill:host:{host}");
        let node: Option<String> = self.redis.say(&["HGET", &key, "node"]);
        node.unwrap_or_default()
    }

    pub(super) fn holds(&self, node: &str, host: &str) -> bool {
        let key = format!("anthill:node:{node}:hosts");
        self.redis.say(&["SISMEMBER", &key, host])
    }

    pub(super) fn until_held(&self, node: &str, host: &str) {
        until_so("it is claimed", || self.holder(host) == node);
    }
}

fn offlines(server: &Server) -> u64 {
    ["closed", "reset", "timeout", "abnormal", "lost"]
        .iter()
        .map(|reason| server.metric(&format!("anthill_offlines_total{{reason=\"{reason}\"}}")))
        .sum()
}

#[test]
fn a_host_that_moved_is_never_offline() {
    let nodes = Nodes::new(2);
    let servers = nodes.start();
    let before = Host::named(servers[0].tcp, "127.0.120.1", "h");
    nodes.until_held("n1", "h");
    let mut after = Host::named(servers[1].tcp, "127.0.120.1", "h");
    nodes.until_held("n2", "h");
    // The end of the old connection comes late.
    drop(before);
    until_so("the old node has let go of it", || !nodes.holds("n1", "h"));
    after.ask(super::support::BEAT_ASKING);
    assert_eq!(nodes.redis.story("h"), ["online", "online"]);
    assert_eq!(nodes.redis.exists(), ["h".to_owned()].into());
    assert_eq!(servers.iter().map(offlines).sum::<u64>(), 0);
    assert_eq!(servers[1].metric("anthill_hosts_taken_total"), 1);
    drop(after);
    until_so("now it is", || nodes.redis.story("h").len() == 3);
    assert_eq!(nodes.redis.story("h")[2], "offline closed");
    until_so("and counted", || offlines(&servers[1]) == 1);
    assert!(nodes.redis.exists().is_empty());
}

#[test]
fn a_restarted_node_steals_no_host() {
    let nodes = Nodes::new(2);
    let mut servers = nodes.start();
    let names: Vec<String> = (1..=20).map(|number| format!("h{number}")).collect();
    let connect = |server: &Server| -> Vec<Host> {
        let host = |name: &String| Host::named(server.tcp, "127.0.121.1", name);
        names.iter().map(host).collect()
    };
    let before = connect(&servers[0]);
    names.iter().for_each(|name| nodes.until_held("n1", name));
    servers.remove(0).kill();
    let mut after = connect(&servers[0]);
    drop(before);
    let first = nodes.homes[0].start();
    first.until_ready(true);
    names.iter().for_each(|name| nodes.until_held("n2", name));
    // Longer than it takes to judge hosts that were held over a restart, and to write them twice.
    let begin = std::time::Instant::now();
    until_so("the judgement is over", || {
        after.iter_mut().for_each(|host| {
            host.ask(super::support::BEAT_ASKING);
        });
        begin.elapsed().as_secs() >= 6
    });
    for name in &names {
        assert_eq!(nodes.holder(name), "n2", "{name}");
        assert_eq!(nodes.redis.story(name), ["online", "online"], "{name}");
    }
    assert_eq!(nodes.redis.exists().len(), names.len());
    assert_eq!((offlines(&first), offlines(&servers[0])), (0, 0));
    let own: u64 = nodes.redis.say(&["SCARD", "anthill:node:n1:hosts"]);
    assert_eq!(own, 0);
}

#[test]
fn hosts_of_a_dead_node_are_lost_once() {
    let nodes = Nodes::new(3);
    let mut servers = nodes.start();
    let names: Vec<String> = (1..=30).map(|number| format!("h{number}")).collect();
    let host = |name: &String| Host::named(servers[0].tcp, "127.0.122.1", name);
    let hosts: Vec<Host> = names.iter().map(host).collect();
    names.iter().for_each(|name| nodes.until_held("n1", name));
    servers.remove(0).kill();
    drop(hosts);
    let mut moved = Host::named(servers[0].tcp, "127.0.122.1", "h1");
    nodes.until_held("n2", "h1");
    // Its lease need not run out for the test.
    let _: u64 = nodes.redis.say(&["DEL", "anthill:node:n1"]);
    until_so("the others are lost", || {
        moved.ask(super::support::BEAT_ASKING);
        let lost: u64 = servers.iter().map(offlines).sum();
        lost >= 29
    });
    assert_eq!(nodes.redis.exists(), ["h1".to_owned()].into());
    for name in &names[1..] {
        assert_eq!(
            nodes.redis.story(name),
            ["online", "offline lost"],
            "{name}"
        );
        assert_eq!(nodes.holder(name), "");
    }
    assert_eq!(nodes.redis.story("h1"), ["online", "online"]);
    assert_eq!(servers.iter().map(offlines).sum::<u64>(), 29, "each once");
    let own: u64 = nodes.redis.say(&["EXISTS", "anthill:node:n1:hosts"]);
    assert_eq!(own, 0);
}

#[test]
fn a_half_open_connection_of_a_moved_host_ends() {
    let nodes = Nodes::new(2);
    let servers = nodes.start();
    let mut before = Host::named(servers[0].tcp, "127.0.123.1", "h");
    let mut plain = Host::online(servers[0].tcp, "127.0.123.2");
    nodes.until_held("n1", "h");
    let _after = Host::named(servers[1].tcp, "127.0.123.1", "h");
    nodes.until_held("n2", "h");
    // All is written again over the new connections.
    let _: u64 = nodes
        .redis
        .say(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    before.until_closed();
    plain.ask(super::support::BEAT_ASKING);
    assert_eq!(nodes.holder("h"), "n2");
    assert_eq!(nodes.holder("127.0.123.2"), "n1");
    assert_eq!(nodes.redis.story("h"), ["online", "online"]);
    assert_eq!(servers[0].metric("anthill_hosts_moved_total"), 1);
    assert_eq!(servers.iter().map(offlines).sum::<u64>(), 0);
}
