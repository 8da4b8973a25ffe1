//! Reading from any node: the nodes themselves, and hosts that live at other nodes.

use serde_json::Value;

use super::nodes::Nodes;
use super::support::{Home, Host, Redis, Server, http, until, until_so};

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

/// Ids of a walk over the pages of `path`, and the largest page.
fn walk(server: &Server, path: &str) -> (Vec<String>, usize) {
    let (mut ids, mut largest, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = server.json(&format!("{path}{cursor}"));
        let hosts = list(&page, "hosts");
        largest = largest.max(hosts.len());
        ids.extend(
            hosts
                .iter()
                .map(|host| host["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (ids, largest),
        }
    }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn a_host_is_shown_the_same_at_every_node() {
    let nodes = Nodes::new(2);
    let servers = nodes.start();
    let mut host = Host::named(servers[0].tcp, "127.0.126.1", "web-1");
    let facts = br#"{"flag":"ADH56","ACK":"keepRogerThat","reply":true,"systemInfoTask":
        {"hostname":"one","MACAddress":"00:16","localAddrsIPV4":["10.9.0.1","10.9.0.2"]}}"#;
    assert_eq!(host.ask(facts)["ACK"], "keepRogerThat");
    let plain = Host::online(servers[0].tcp, "127.0.126.2");
    until_so("both nodes show it alike", || {
        let shown: Vec<Option<Value>> = servers.iter().map(|s| s.host("web-1")).collect();
        shown[0].is_some() && shown[0] == shown[1]
    });
    let shown = servers[1].host("web-1").expect("shown");
    assert_eq!(
        (&shown["state"], &shown["node"]),
        (&"online".into(), &"n1".into())
    );
    assert_eq!(
        (&shown["ip"], &shown["hostname"]),
        (&"127.0.126.1".into(), &"one".into())
    );
    assert_eq!(shown["ipv4"], serde_json::json!(["10.9.0.1", "10.9.0.2"]));
    let plain_shown = until("the other node shows the plain host", || {
        servers[1].host("127.0.126.2")
    });
    assert_eq!(
        (&plain_shown["node"], &plain_shown["ip"]),
        (&"n1".into(), &"127.0.126.2".into())
    );
    drop((host, plain));
    for server in &servers {
        until_so("it is offline at both, and has no node", || {
            let shown = server.host("web-1").expect("shown");
            shown["state"] == "offline" && shown["node"].is_null() && shown["reason"] == "closed"
        });
    }
    assert_eq!(servers[1].get("/v1/hosts/nobody").0, 404);
    // So is its history.
    for server in &servers {
        until_so("both transitions are shown", || {
            let history = server.json("/v1/hosts/web-1/history");
            let states: Vec<Value> = list(&history, "transitions");
            let states = states.iter().filter_map(|one| one["state"].as_str());
            states.eq(["online", "offline"])
        });
        assert_eq!(server.get("/v1/hosts/nobody/history").0, 404);
    }
    // It is forgotten only while it is offline, also at a node that never had it.
    let forget = |host: &str| {
        let line = format!("DELETE /v1/hosts/{host}");
        http::send(servers[1].http, &line, "", "").status
    };
    let online = Host::named(servers[0].tcp, "127.0.126.1", "web-2");
    until_so("it is online", || servers[1].host("web-2").is_some());
    assert_eq!(forget("web-2"), 409);
    drop(online);
    until_so("it is forgotten", || forget("web-2") == 200);
    for server in &servers {
        until_so("and unknown", || server.get("/v1/hosts/web-2").0 == 404);
    }
    assert_eq!(forget("nobody"), 404);
}

#[test]
fn every_node_lists_the_hosts_of_all() {
    let mut nodes = Nodes::new(2);
    // Longer than the test takes: its hosts send no heartbeats.
    for home in &mut nodes.homes {
        home.set("heartbeat.timeout_s", 120);
    }
    let servers = nodes.start();
    let connect = |server: &Server, name: &str, from: usize, to: usize| -> Vec<Host> {
        let host = |number| Host::named(server.tcp, "127.0.127.1", &format!("{name}-{number}"));
        (from..to).map(host).collect()
    };
    // More than Redis returns at once of a small set.
    let _a = connect(&servers[0], "a", 0, 200);
    let _b = connect(&servers[1], "b", 0, 10);
    drop(connect(&servers[1], "gone", 0, 5));
    for server in &servers {
        until_so("all are listed", || {
            let (online, _) = walk(server, "/v1/hosts?state=online");
            let (offline, _) = walk(server, "/v1/hosts?state=offline");
            (sorted(online).len(), sorted(offline).len()) == (210, 5)
        });
        let (all, largest) = walk(server, "/v1/hosts?limit=7");
        assert_eq!((sorted(all).len(), largest), (215, 7));
        let (one, _) = walk(server, "/v1/hosts?node=n2&limit=3");
        assert!(one.iter().all(|id| id.starts_with("b-")), "{one:?}");
        assert_eq!(sorted(one).len(), 10);
        let (none, _) = walk(server, "/v1/hosts?node=n2&state=offline");
        assert!(none.is_empty(), "{none:?}");
    }
    let (own, _) = walk(&servers[1], "/v1/hosts?node=self&state=online");
    assert_eq!(own.len(), 10);
    // From the command line, too.
    let api = format!("http://{}", servers[1].http);
    let home = nodes.homes[1].path();
    let shown = |more: &[&str]| -> usize {
        let args = [&["hosts", "--json", "--api", &api], more].concat();
        let ended = super::support::server::run(home, &args);
        let page: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        list(&page, "hosts").len()
    };
    assert_eq!(shown(&["--node", "n1"]), 200);
    assert_eq!(shown(&["--online"]), 210);
    let ended = super::support::server::run(home, &["hosts", "--online", "--api", &api]);
    let unknown = super::support::server::run(home, &["hosts", "--node", "n9", "--api", &api]);
    assert_eq!(unknown.status, Some(2));
    assert!(
        unknown.stderr.contains("'n9'") && unknown.stderr.contains("n1, n2"),
        "{}",
        unknown.stderr
    );
    let header = ended.stdout.lines().next().unwrap_or_default();
    assert!(
        header.starts_with("ID") && header.contains("NODE"),
        "{header}"
    );
}

#[test]
fn without_the_store_a_node_shows_its_own_hosts() {
    let nodes = Nodes::new(2);
    let servers = nodes.start();
    let _here = Host::named(servers[0].tcp, "127.0.128.1", "here");
    let _there = Host::named(servers[1].tcp, "127.0.128.1", "there");
    until_so("both are listed", || {
        sorted(walk(&servers[0], "/v1/hosts?limit=9").0) == ["here", "there"]
    });
    assert!(servers[0].json("/v1/hosts").get("complete").is_none());
    nodes.redis.stop();
    servers[0].until_ready(false);
    let page = servers[0].json("/v1/hosts");
    assert_eq!(page["complete"], false);
    assert_eq!(list(&page, "hosts").len(), 1);
    assert_eq!(servers[0].get("/v1/nodes").0, 503);
    nodes.redis.go_on();
}

#[test]
fn targets_and_counts_include_all_nodes() {
    let nodes = Nodes::new(2);
    let servers = nodes.start();
    let connect = |server: &Server, name: &str, count: usize| -> Vec<Host> {
        let host = |number| Host::named(server.tcp, "127.0.129.1", &format!("{name}-{number}"));
        (0..count).map(host).collect()
    };
    let mut a = connect(&servers[0], "a", 30);
    let _b = connect(&servers[1], "b", 5);
    let count = |server: &Server, query: &str| {
        let (ids, largest) = walk(server, &format!("/v1/hosts?limit=7&{query}"));
        assert!(largest <= 7);
        sorted(ids).len()
    };
    let by_node = |server: &Server| -> Vec<(String, u64)> {
        let summary = server.json("/v1/summary?by=node");
        let groups = list(&summary, "groups").into_iter();
        let group = |group: Value| {
            let name = group["name"].as_str().unwrap().to_owned();
            (name, group["online"].as_u64().unwrap())
        };
        groups.map(group).collect()
    };
    let patched = http::patch(servers[0].http, "/v1/hosts/a-1/labels", r#"{"dc":"fra"}"#);
    assert_eq!(patched.status, 200);
    for server in &servers {
        until_so("all are counted", || {
            by_node(server) == [("n1".to_owned(), 30), ("n2".to_owned(), 5)]
        });
        assert_eq!(count(server, "target=a-*,b-*"), 35);
        assert_eq!(count(server, "target=b-[0-9]&state=online"), 5);
        assert_eq!(count(server, "target=sys.node%3Dn1"), 30);
        assert_eq!(count(server, "target=all&node=n2"), 5);
        assert_eq!(count(server, "target=dc%3Dfra"), 1);
        let fleet = server.json("/v1/fleet?by=node");
        assert_eq!(list(&fleet, "id").len(), 35);
    }
    assert_eq!(
        servers[1].get("/v1/hosts?target=a-*&node=self").0,
        400,
        "none is here"
    );
    // A host that moves is counted at its new node, at both nodes.
    let _moved = Host::named(servers[1].tcp, "127.0.129.1", "a-0");
    drop(a.remove(0));
    for server in &servers {
        until_so("it is counted once", || {
            by_node(server) == [("n1".to_owned(), 29), ("n2".to_owned(), 6)]
        });
    }
}

/// Number of calls of a command since the start of Redis.
fn calls(redis: &Redis, command: &str) -> u64 {
    let text: String = redis.say(&["INFO", "commandstats"]);
    let line = text.lines().find_map(|line| {
        let rest = line.strip_prefix(&format!("cmdstat_{command}:calls="))?;
        rest.split(',').next()?.parse().ok()
    });
    line.unwrap_or_default()
}

#[test]
fn a_start_reads_no_host_of_other_nodes() {
    const FOREIGN: u64 = 2_000;
    for lives in [true, false] {
        let mut nodes = Nodes::new(1);
        nodes.homes[0].set("heartbeat.timeout_s", 60);
        let redis = &nodes.redis;
        let seed = format!(
            "redis.call('SADD', 'anthill:nodes', 'other')
             for number = 1, {FOREIGN} do
                 local host = 'f' .. number
                 redis.call('HSET', 'anthill:host:' .. host, 'node', 'other', 'epoch', 1, 'since', 5)
                 redis.call('SADD', 'exists', host)
                 redis.call('SADD', 'anthill:node:other:hosts', host)
                 redis.call('ZADD', 'anthill:seen', 5, host)
             end"
        );
        let _: Option<String> = redis.say(&["EVAL", &seed, "0"]);
        if lives {
            let _: String = redis.say(&["SET", "anthill:node:other", "1"]);
        }
        let reads = || calls(redis, "hmget") + calls(redis, "hgetall") + calls(redis, "lrange");
        let before = reads();
        let server = nodes.homes[0].start();
        server.until_ready(true);
        let more = reads() - before;
        assert!(more < 20, "{more} reads at a start");
        assert_eq!(server.metric("anthill_hosts_known"), 0);
        let gauges = ["anthill_nodes_up", "anthill_nodes_silent"].map(|name| server.metric(name));
        assert_eq!(gauges, if lives { [1, 0] } else { [0, 1] });
        // Yet it shows all of them.
        let (ids, _) = walk(&server, "/v1/hosts?limit=1000");
        assert_eq!(sorted(ids).len() as u64, FOREIGN);
        assert_eq!(server.host("f7").expect("shown")["node"], "other");
    }
}

#[test]
fn counts_include_hosts_that_no_other_set_names() {
    let nodes = Nodes::new(1);
    let redis = &nodes.redis;
    let seed = "
        redis.call('SADD', 'anthill:nodes', 'other')
        redis.call('SET', 'anthill:node:other', '1')
        for number = 1, 2500 do
            local host = 'f' .. number
            redis.call('HSET', 'anthill:host:' .. host, 'epoch', 1, 'since', 5, 'ip', '10.0.0.1',
                       'hostname', 'machine', 'node', number <= 2000 and 'other' or '',
                       'labels', number % 2 == 0 and '{\"dc\":\"fra\"}' or '{}')
            if number <= 2000 then
                redis.call('SADD', 'exists', host)
                redis.call('SADD', 'anthill:node:other:hosts', host)
            end
            -- Some have sent nothing since a loss of this set.
            if number > 3 then redis.call('ZADD', 'anthill:seen', 6, host) end
        end
        -- One of an older server, which knows no claims.
        redis.call('SADD', 'exists', '10.0.0.7')";
    let _: Option<String> = redis.say(&["EVAL", seed, "0"]);
    let server = nodes.homes[0].start();
    server.until_ready(true);
    let lranges = calls(redis, "lrange");
    let summary = until("the hosts are counted", || {
        let summary = server.json("/v1/summary?by=label:dc");
        (summary["hosts"] == 2_501).then_some(summary)
    });
    assert_eq!(summary["online"], 2_001, "{summary}");
    assert_eq!(summary["offline"]["unknown"], 500);
    assert!(summary.get("complete").is_none(), "{summary}");
    let named = |group: &&Value| group["name"] == "fra";
    let groups = list(&summary, "groups");
    let fra = groups.iter().find(named).expect("a group");
    assert_eq!(
        (&fra["online"], &fra["offline"]),
        (&1_000.into(), &250.into())
    );
    assert!(
        calls(redis, "lrange") < lranges + 50,
        "a list for each host"
    );
    // A list shows all facts.
    let page = server.json("/v1/hosts?target=f7");
    let shown = &page["hosts"][0];
    assert_eq!(
        (&shown["hostname"], &shown["node"]),
        (&"machine".into(), &"other".into())
    );
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
