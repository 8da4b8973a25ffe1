//! A Redis with limits: the rights of the documented user, values above `proto-max-bulk-len`, a
//! missing database.

use serde_json::json;

use super::support::http::patch;
use super::support::server::run;
use super::support::words::{phase, rcc, result};
use super::support::{Home, Host, Inbox, Redis, Server, until, until_so};

/// Starts a Redis with the users of docs/operations.md, and a home behind the server's.
fn documented() -> (Redis, Home) {
    let redis = Redis::start(&[]);
    let docs = include_str!("../../docs/operations.md");
    for user in ["anthill", "reader"] {
        let sign = format!("user {user} on ");
        let line = docs.lines().find(|line| line.contains(&sign));
        let words: Vec<&str> = line.expect("the docs have it").split_whitespace().collect();
        let set = [&["ACL", "SETUSER"], &words[1..]].concat();
        redis.say::<String>(&set);
    }
    let home = Home::at(
        &redis
            .url()
            .replace("redis://", "redis://anthill:CHANGE-ME@"),
    );
    (redis, home)
}

/// A host that is reached over its connection.
fn pushed(server: &Server, source: &str, id: &str) -> Host {
    let mut host = Host::connect(server.tcp, source);
    let hello = json!({"flag": "ADH40", "id": id, "push": true, "boot": "0a"});
    assert_eq!(host.ask(hello.to_string().as_bytes())["ACK"], "keepGotIt");
    host
}

#[test]
fn every_feature_works_for_the_documented_user() {
    let (redis, mut home) = documented();
    let inbox = Inbox::at("127.0.91.1");
    home.set("dispatch.agent_port", inbox.port())
        .set("dispatch.on_done", "clear")
        .set("heartbeat.timeout_s", 5)
        .set("reach.targets", json!(["127.0.0.1:1"]))
        .set("reach.period_s", 0.1)
        .set(
            "ak.devices",
            json!([{"name": "bench-1", "addr": "127.0.0.1:1", "allowed_cmd": ["ASTZ"]}]),
        );
    let server = home.start();
    server.until_ready(true);
    let mut plain = Host::online(server.tcp, "127.0.91.1");
    let mut named = pushed(&server, "127.0.91.2", "web-1");
    let info = json!({"flag": "ADH56", "ACK": "keepRogerThat", "reply": true, "systemInfoTask":
        {"hostname": "h", "MACAddress": "m", "localAddrsIPV4": ["10.0.0.1"]}});
    for host in [&mut plain, &mut named] {
        assert_eq!(
            host.ask(info.to_string().as_bytes())["ACK"],
            "keepRogerThat"
        );
    }

    // A task, to its end.
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 2, "b": 1}, "hosts": ["127.0.91.1", "off"], "queue": true}));
    assert_eq!(inbox.next(), "AC1");
    for report in [
        rcc(1, "AC1"),
        phase(1, "AC1", "null", "[]", r#"["a","b"]"#),
        phase(2, "AC1", r#""a""#, "[]", r#"["a","b"]"#),
        phase(3, "AC1", "null", r#"["a"]"#, r#"["b"]"#),
    ] {
        assert_eq!(plain.ask(report.as_bytes())["ACK"], "keepGotIt");
    }
    plain.say(result("AC1", "a", 0, b"out").as_bytes());
    plain.send(b"out");
    assert_eq!(plain.reply()["ACK"], "keepGotIt");
    assert_eq!(
        server.json("/v1/tasks/AC1")["hosts"]["127.0.91.1"]["complete"],
        json!(["a"])
    );
    assert_eq!(
        server
            .get("/v1/tasks/AC1/hosts/127.0.91.1/output?command=a")
            .0,
        200
    );
    plain.ask(phase(3, "AC1", "null", r#"["b"]"#, "[]").as_bytes());
    assert_eq!(server.task_state("AC1", "127.0.91.1"), "done");

    // A key that exists, and a report on a key that was never stored.
    redis.say::<i64>(&["ZADD", "AC2", "1", "x"]);
    let taken = server.post(
        "/v1/tasks",
        &json!({"key": "AC2", "commands": {"a": 1}, "hosts": ["web-1"]}),
    );
    assert_eq!(taken.0, 409, "{}", taken.1);
    plain.ask(phase(1, "AC9", "null", "[]", r#"["a"]"#).as_bytes());

    // A console command, with its result.
    let (status, sent) = server.post(
        "/v1/commands",
        &json!({"command": "uptime", "hosts": ["web-1"]}),
    );
    assert_eq!(status, 202, "{sent}");
    let cid = sent["id"].as_str().expect("an id").to_owned();
    assert_eq!(named.reply()["cid"], cid.as_str());
    named.say(result(&cid, "uptime", 0, b"up").as_bytes());
    named.send(b"up");
    assert_eq!(named.reply()["ACK"], "keepGotIt");
    let shown = server.json(&format!("/v1/commands/{cid}"));
    assert_eq!(
        shown["hosts"]["web-1"]["results"]["uptime"]["output"], "up",
        "{shown}"
    );

    until_so("what is outside is stored", || {
        redis.say::<i64>(&["EXISTS", "anthill:reach", "anthill:ak:bench-1"]) == 2
    });
    for path in [
        "/v1/hosts",
        "/v1/tasks",
        "/v1/ak",
        "/v1/reach",
        "/v1/hosts/web-1",
    ] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }

    // Gone, killed, back, stopped.
    drop(named);
    server.until_offline("web-1");
    until_so("it is offline in Redis", || {
        !redis.exists().contains("web-1")
    });
    server.kill();
    let server = home.start();
    server.until_ready(true);
    server.until_task("AC1", "127.0.91.1", "done");
    server.stop();

    let log = refused(&redis);
    assert!(log.is_empty(), "{log:?}");
}

/// Commands that Redis has refused a user, with their users.
fn refused(redis: &Redis) -> Vec<redis::Value> {
    redis.say(&["ACL", "LOG"])
}

#[test]
fn a_fleet_of_nodes_works_for_the_documented_user() {
    let (redis, home) = documented();
    let url = redis
        .url()
        .replace("redis://", "redis://anthill:CHANGE-ME@");
    let mut homes = [home, Home::at(&url)];
    for (number, home) in homes.iter_mut().enumerate() {
        home.set("server.name", format!("n{}", number + 1))
            .set("heartbeat.timeout_s", 30)
            .set_section(
                "labels",
                json!([{"match": "web-*", "set": {"role": "web"}}]),
            );
    }
    let servers: Vec<Server> = homes.iter().map(Home::start).collect();
    servers.iter().for_each(|server| server.until_ready(true));
    let near = Host::named(servers[0].tcp, "127.0.93.1", "web-1");
    let mut far = pushed(&servers[1], "127.0.93.2", "web-2");
    until_so("both nodes show both hosts", || {
        servers.iter().all(|server| {
            let page = server.json("/v1/hosts");
            page["hosts"].as_array().map(Vec::len) == Some(2)
        })
    });
    let said = patch(servers[0].http, "/v1/hosts/web-1/labels", r#"{"dc":"fra"}"#);
    assert_eq!(said.status, 200, "{}", said.body);

    // A task for a host of the other node, and its cancellation here.
    let task =
        json!({"key": "AC1", "commands": {"a": 1}, "hosts": ["web-2", "off"], "queue": true});
    servers[0].dispatch(&task);
    assert_eq!(far.reply()["taskId"], "AC1");
    far.ask(rcc(1, "AC1").as_bytes());
    servers[0].until_task("AC1", "web-2", "answered");
    far.say(result("AC1", "a", 0, b"out").as_bytes());
    far.send(b"out");
    assert_eq!(far.reply()["ACK"], "keepGotIt");
    far.ask(phase(3, "AC1", "null", r#"["a"]"#, "[]").as_bytes());
    servers[0].until_task("AC1", "web-2", "done");
    let (status, said) = servers[0].post("/v1/tasks/AC1/cancel", &json!({}));
    assert_eq!(status, 200, "{said}");
    servers[0].until_task("AC1", "off", "cancelled");

    // A rollout, planned, paused, resumed and cancelled.
    let waves = json!({"key": "AC2", "commands": {"a": 1}, "target": "web-1", "batch": 1});
    assert_eq!(servers[0].post("/v1/plan", &waves).0, 200);
    assert_eq!(servers[0].post("/v1/tasks", &waves).0, 201);
    for step in ["pause", "resume", "cancel"] {
        let (status, said) = servers[0].post(&format!("/v1/tasks/AC2/{step}"), &json!({}));
        assert_eq!(status, 200, "{step}: {said}");
    }

    for path in [
        "/v1/nodes",
        "/v1/hosts?node=n2",
        "/v1/hosts?target=role=web",
        "/v1/hosts/web-2",
        "/v1/hosts/web-1/history",
        "/v1/history",
        "/v1/history/hosts?at=1",
        "/v1/summary",
        "/v1/fleet",
        "/v1/tasks",
        "/v1/tasks/AC1/groups",
        "/v1/tasks/AC2",
        "/v1/events/recent",
    ] {
        for server in &servers {
            let (status, body) = server.get(path);
            assert_eq!(status, 200, "{path}: {body}");
        }
    }

    // The end of a node, and of a host that is forgotten.
    drop((near, far));
    let api = format!("http://{}", servers[0].http);
    until_so("it is forgotten", || {
        run(homes[0].path(), &["forget", "web-1", "--api", &api]).status == Some(0)
    });
    let mut servers = servers.into_iter();
    let first = servers.next().expect("a node");
    servers.next().expect("another").kill();
    until_so("the other node is gone", || {
        let nodes = first.json("/v1/nodes");
        nodes["nodes"][1]["state"] != "up"
    });
    first.stop();
    let log = refused(&redis);
    assert!(log.is_empty(), "{log:?}");
}

#[test]
fn a_result_redis_will_not_take_is_put_aside() {
    let mut home = Home::redis_with(&["--proto-max-bulk-len", "1048576"]);
    home.set("store.timeout_ms", 500);
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.92.1");
    server.dispatch(&json!({"key": "AC1", "commands": {"a": 1, "b": 2}}));
    let output = vec![7; 900_000];
    host.say(result("AC1", "a", 0, &output).as_bytes());
    host.send(&output);
    assert_eq!(host.reply()["ACK"], "keepGotIt", "the spool has it");
    let rejected = home.path().join("spool/rejected");
    let text = until("it is rejected", || {
        let text = std::fs::read_to_string(&rejected).ok();
        text.filter(|text| text.ends_with('\n'))
    });
    assert!(
        text.contains("invalid bulk length"),
        "{}",
        &text[..text.len().min(500)]
    );
    server.until_ready(true);
    // Everything goes on.
    host.ask(phase(3, "AC1", "null", r#"["a","b"]"#, "[]").as_bytes());
    server.dispatch(&json!({"key": "AC2", "commands": {"a": 1}}));
    let _other = Host::online(server.tcp, "127.0.92.2");
    until_so("presence is stored", || {
        home.store().exists().contains("127.0.92.2")
    });
    server.stop();
    let server = home.start();
    server.until_ready(true);
    assert_eq!(server.metric("anthill_spool_records_waiting"), 0);
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let home = Home::redis();
    let url = home.store().url().replace("/0", "/99");
    let args = [
        "serve",
        "--store",
        &url,
        "--tcp",
        "127.0.0.1:0",
        "--udp",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ];
    let ended = run(home.path(), &args);
    assert_eq!(ended.status, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("database number"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("password"), "{}", ended.stderr);
}
