//! A restart is no outage: a host that reconnects was never offline, and any other host is lost,
//! once.

use serde_json::Value;

use super::support::server::run;
use super::support::{BEAT_ASKING, Home, Host, Redis, Server, on_both_stores, until_so};

on_both_stores! {
    a_kill_ends_only_hosts_that_stay_away,
    a_stop_leaves_hosts_to_the_next_start,
    a_stop_can_take_hosts_offline,
}

const INVENTORY: &[u8] = br#"{"flag":"ADH56","ACK":"keepRogerThat","reply":true,
    "systemInfoTask":{"hostname":"h","MACAddress":"00:16","localAddrsIPV4":["10.0.0.1"]}}"#;

fn name(number: usize) -> String {
    format!("127.0.5.{number}")
}

/// Hosts that are online, in the store too: what a host says of itself is written behind that.
fn online(server: &Server, numbers: std::ops::RangeInclusive<usize>) -> Vec<Host> {
    let host = |number| {
        let mut host = Host::connect(server.tcp, &name(number));
        assert_eq!(host.ask(INVENTORY)["ACK"], "keepRogerThat");
        host
    };
    numbers.map(host).collect()
}

/// A number among what it counts.
fn offline_as(server: &Server, reason: &str) -> u64 {
    server.metric(&format!("anthill_offlines_total{{reason=\"{reason}\"}}"))
}

fn a_kill_ends_only_hosts_that_stay_away(mut home: Home) {
    home.set("heartbeat.timeout_s", 2);
    let server = home.start();
    let hosts = online(&server, 1..=10);
    server.kill();
    drop(hosts);

    let server = home.start();
    for number in 1..=10 {
        assert!(server.is_online(&name(number)), "held over the restart");
    }
    let mut back: Vec<Host> = (1..=5)
        .map(|n| Host::online(server.tcp, &name(n)))
        .collect();
    until_so("five are lost", || {
        back.iter_mut().for_each(|host| {
            host.ask(BEAT_ASKING);
        });
        offline_as(&server, "lost") == 5
    });
    for number in 1..=10 {
        let host = server.host(&name(number)).expect("known");
        let (state, reason) = match number {
            1..=5 => ("online", Value::Null),
            _ => ("offline", "lost".into()),
        };
        assert_eq!(
            (&host["state"], &host["reason"]),
            (&state.into(), &reason),
            "{host}"
        );
    }
    assert_eq!(
        server.metric("anthill_onlines_total"),
        0,
        "none came online: they were"
    );
    if home.has_redis() {
        let redis = home.store();
        until_so("the events", || redis.events().len() == 15);
        for number in 1..=10 {
            let story = redis.story(&name(number));
            match number {
                1..=5 => assert_eq!(story, ["online"]),
                _ => assert_eq!(story, ["online", "offline lost"]),
            }
        }
        until_so("five in the set", || {
            redis.exists() == (1..=5).map(name).collect()
        });
    }
    server.stop();
}

fn a_stop_leaves_hosts_to_the_next_start(mut home: Home) {
    home.set("heartbeat.timeout_s", 1);
    let server = home.start();
    let hosts = online(&server, 1..=4);
    server.stop();
    drop(hosts);
    if home.has_redis() {
        let redis = home.store();
        assert_eq!(redis.exists().len(), 4);
        assert_eq!(
            redis.say::<u64>(&["EXISTS", "anthill:node:n1"]),
            0,
            "the lease is given up"
        );
        assert_eq!(redis.say::<u64>(&["SCARD", "anthill:node:n1:hosts"]), 4);
    }
    let server = home.start();
    assert_eq!(server.metric("anthill_hosts_inherited"), 4);
    let mut back = Host::online(server.tcp, &name(1));
    until_so("three are lost", || {
        back.ask(BEAT_ASKING);
        offline_as(&server, "lost") == 3
    });
    assert!(server.is_online(&name(1)));
    // Two starts later they are lost still, and once.
    server.stop();
    let server = home.start();
    assert_eq!(server.metric("anthill_hosts_inherited"), 1);
    for number in 2..=4 {
        assert_eq!(server.host(&name(number)).expect("known")["reason"], "lost");
        if home.has_redis() {
            assert_eq!(
                home.store().story(&name(number)),
                ["online", "offline lost"]
            );
        }
    }
}

fn a_stop_can_take_hosts_offline(mut home: Home) {
    home.set("heartbeat.on_shutdown", "offline");
    let server = home.start();
    let _hosts = online(&server, 1..=4);
    server.stop();
    if home.has_redis() {
        let redis = home.store();
        assert!(redis.exists().is_empty());
        assert_eq!(redis.story(&name(4)), ["online", "offline closed"]);
        assert_eq!(redis.say::<u64>(&["EXISTS", "127.0.5.4_systemInfo"]), 0);
    }
    let server = home.start();
    assert_eq!(server.metric("anthill_hosts_inherited"), 0);
    assert_eq!(server.host(&name(4)).expect("known")["state"], "offline");
}

#[test]
fn killed_while_redis_hangs() {
    let mut home = Home::redis();
    home.set("heartbeat.timeout_s", 2)
        .set("store.timeout_ms", 300);
    let server = home.start();
    let hosts = online(&server, 1..=2);
    home.store().stop();
    let mut late = Host::online(server.tcp, &name(3));
    let report = br#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1,"reply":true}"#;
    assert_eq!(late.ask(report)["ACK"], "keepGotIt", "it is in the spool");
    server.until_ready(false);
    server.kill();
    drop((hosts, late));
    home.store().go_on();
    let _: u64 = home.store().say(&["SADD", "AC1_response", &name(3)]);

    let server = home.start();
    server.until_ready(true);
    // What was acknowledged outlives both.
    until_so("the report", || {
        !home
            .store()
            .say::<bool>(&["SISMEMBER", "AC1_response", &name(3)])
    });
    let mut back = Host::online(server.tcp, &name(1));
    until_so("one is lost", || {
        back.ask(BEAT_ASKING);
        home.store().story(&name(2)) == ["online", "offline lost"]
    });
    assert_eq!(home.store().story(&name(1)), ["online"]);
    assert!(home.store().exists().contains(&name(1)));
    assert!(!home.store().exists().contains(&name(2)));
}

#[test]
fn hosts_that_the_old_server_left_behind() {
    let mut home = Home::redis();
    home.set("heartbeat.timeout_s", 1);
    let redis = home.store();
    let _: u64 = redis.say(&["SADD", "exists", &name(1), &name(2)]);
    let _: u64 = redis.say(&["SADD", &format!("{}_systemInfo", name(2)), "h", "m"]);
    let server = home.start();
    assert!(server.is_online(&name(1)) && server.is_online(&name(2)));
    let mut back = Host::online(server.tcp, &name(1));
    until_so("one is lost", || {
        back.ask(BEAT_ASKING);
        redis.exists() == [name(1)].into()
    });
    assert_eq!(server.host(&name(2)).expect("known")["reason"], "lost");
    assert_eq!(
        redis.say::<u64>(&["EXISTS", &format!("{}_systemInfo", name(2))]),
        0
    );
    assert!(!redis.story(&name(1)).contains(&"offline lost".to_owned()));
}

#[test]
fn started_while_redis_is_away() {
    let mut redis = Redis::start(&[]);
    let home = Home::at(&redis.url());
    redis.kill();
    let server = home.start();
    assert_eq!(server.get("/readyz").0, 503);
    assert_eq!(server.get("/healthz").0, 200);
    let mut host = Host::online(server.tcp, &name(1));
    let gone = Host::online(server.tcp, &name(2));
    drop(gone);
    server.until_offline(&name(2));
    redis.restart();
    server.until_ready(true);
    until_so("presence is written", || redis.exists() == [name(1)].into());
    until_so("and told", || redis.story(&name(1)) == ["online"]);
    let ip: String = redis.say(&["HGET", "anthill:host:127.0.5.1", "ip"]);
    assert_eq!(ip, name(1));
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    server.stop();
}

#[test]
fn over_a_unix_socket() {
    let redis = Redis::start(&[]);
    let home = Home::at(&redis.unix_url());
    let server = home.start();
    let _host = Host::online(server.tcp, &name(1));
    until_so("presence is written", || redis.exists() == [name(1)].into());
}

#[test]
fn a_refused_password_ends_it() {
    let redis = Redis::start(&["--requirepass", "the-right-one"]);
    let url = format!("redis://:the-wrong-one@127.0.0.1:{}/0", redis.port());
    let mut home = Home::at(&url);
    home.set("log.level", "off").write_config();
    let ended = run(home.path(), &[]);
    assert_eq!(ended.status, Some(2), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("store.url"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("the-wrong-one"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "it never was ready");
}

#[test]
fn the_right_password_is_taken_and_never_shown() {
    let redis = Redis::start(&["--requirepass", "the-right-one"]);
    let url = format!("redis://:the-right-one@127.0.0.1:{}/0", redis.port());
    let server = Home::at(&url).start();
    server.until_ready(true);
    assert!(!server.ready.contains("the-right-one"), "{}", server.ready);
    assert!(
        server
            .log()
            .iter()
            .all(|line| !line.contains("the-right-one"))
    );
    drop(redis);
    server.until_ready(false);
    assert!(!server.get("/readyz").1.contains("the-right-one"));
}

#[test]
fn a_second_server_of_the_same_name_gives_way() {
    let redis = Redis::start(&[]);
    let home = Home::at(&redis.url());
    let mut first = home.start();
    let mut host = online(&first, 1..=1).remove(0);
    let mut other = Home::at(&redis.url());
    other.set("log.level", "off").write_config();
    let ended = run(other.path(), &[]);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("server.name"), "{}", ended.stderr);
    assert!(first.is_running());
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert_eq!(redis.story(&name(1)), ["online"]);
    assert_eq!(redis.exists(), [name(1)].into());
    // With a name of its own it may stay.
    other.set("server.name", "n2");
    let second = other.start();
    let _host = Host::online(second.tcp, &name(2));
    until_so("both are online", || {
        redis.exists() == [name(1), name(2)].into()
    });
    let nodes: Vec<String> = redis.say(&["SMEMBERS", "anthill:nodes"]);
    assert_eq!(nodes.len(), 2, "{nodes:?}");
}

#[test]
fn a_port_in_use_ends_it() {
    let home = Home::embedded();
    let server = home.start();
    let other = Home::embedded();
    for (flag, key, address) in [
        ("--tcp", "server.tcp", server.tcp),
        ("--http", "server.http", server.http),
    ] {
        other.write_config();
        let ended = run(
            other.path(),
            &["--log-level", "off", flag, &address.to_string()],
        );
        assert_eq!(ended.status, Some(1), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        for word in [key, &address.to_string()] {
            assert!(ended.stderr.contains(word), "{}", ended.stderr);
        }
        assert_eq!(ended.stdout, "");
    }
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap().to_string();
    let ended = run(other.path(), &["--log-level", "off", "--udp", &address]);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("server.udp"), "{}", ended.stderr);
}
