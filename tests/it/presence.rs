//! Hosts and their connections: several connections of one address, and the newest one of an id.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::support::{BEAT_ASKING, Home, Host, on_both_stores, until, until_so};

on_both_stores! {
    connections_of_one_address_are_one_host,
    the_newest_connection_of_an_id_wins,
    a_contested_id_is_quarantined,
    foreign_addresses_are_no_ids,
    facts_of_a_host_are_shown,
    one_listener_serves_ipv4_and_ipv6,
    more_than_half_offline_is_reported,
}

fn connections_of_one_address_are_one_host(home: Home) {
    let server = home.start();
    let first = Host::online(server.tcp, "127.0.4.1");
    let mut second = Host::online(server.tcp, "127.0.4.1");
    let third = Host::online(server.tcp, "127.0.4.1");
    drop(first);
    third.reset();
    until_so("one connection left", || {
        server.metric("anthill_sessions") == 1
    });
    assert!(server.is_online("127.0.4.1"));
    assert_eq!(second.ask(BEAT_ASKING)["ACK"], "keepAlive");
    second.reset();
    assert_eq!(server.until_offline("127.0.4.1")["reason"], "reset");
    drop(Host::online(server.tcp, "127.0.4.1"));
    assert_eq!(server.until_offline("127.0.4.1")["reason"], "closed");
    assert_eq!(server.metric("anthill_onlines_total"), 2);
    if home.has_redis() {
        let redis = home.store();
        until_so("the events", || redis.events().len() == 4);
        let story = ["online", "offline reset", "online", "offline closed"];
        assert_eq!(redis.story("127.0.4.1"), story);
    }
}

fn the_newest_connection_of_an_id_wins(home: Home) {
    let server = home.start();
    let mut older = Host::named(server.tcp, "127.0.4.1", "web-1");
    let mut newer = Host::named(server.tcp, "127.0.4.2", "web-1");
    assert_eq!(older.until_closed(), b"");
    // Its late end is its own.
    drop(older);
    assert_eq!(newer.ask(BEAT_ASKING)["ACK"], "keepAlive");
    let host = server.host("web-1").expect("known");
    assert_eq!(
        (&host["state"], &host["ip"]),
        (&"online".into(), &"127.0.4.2".into())
    );
    assert_eq!(server.metric("anthill_replacements_total"), 1);
    drop(newer);
    server.until_offline("web-1");
    if home.has_redis() {
        let redis = home.store();
        until_so("the end", || {
            redis.story("web-1").contains(&"offline closed".to_owned())
        });
        assert_eq!(redis.story("web-1"), ["online", "offline closed"]);
        let ip: String = redis.say(&["HGET", "anthill:host:web-1", "ip"]);
        assert_eq!(ip, "127.0.4.2");
    }
}

fn a_contested_id_is_quarantined(home: Home) {
    let server = home.start();
    let mut holder = Host::named(server.tcp, "127.0.4.1", "web-1");
    for _ in 0..15 {
        let newer = Host::named(server.tcp, "127.0.4.1", "web-1");
        assert_eq!(holder.until_closed(), b"");
        holder = newer;
    }
    for _ in 0..2 {
        let mut other = Host::connect(server.tcp, "127.0.4.9");
        assert_eq!(other.hello("web-1")["ACK"], "keepRefused");
        assert_eq!(other.until_closed(), b"");
    }
    assert_eq!(holder.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert_eq!(server.host("web-1").expect("known")["ip"], "127.0.4.1");
    server.logged(&["quarantine", "web-1", "127.0.4.1", "127.0.4.9"]);
    // Another id is not contested.
    Host::named(server.tcp, "127.0.4.9", "web-2");
    if home.has_redis() {
        let redis = home.store();
        let event = until("the event", || {
            let mut events = redis.events().into_iter();
            events.find(|event| event.field("event") == "quarantine")
        });
        assert_eq!(event.field("host"), "web-1");
        for address in ["127.0.4.1", "127.0.4.9"] {
            assert!(event.field("reason").contains(address), "{event:?}");
        }
        assert_eq!(redis.story("web-1"), ["online"]);
    }
}

fn foreign_addresses_are_no_ids(home: Home) {
    let server = home.start();
    for refused in ["127.0.4.2", "::ffff:127.0.4.1", "::1", "a/b", "", "a b"] {
        let mut host = Host::connect(server.tcp, "127.0.4.1");
        host.say(format!(r#"{{"flag":"ADH40","id":"{refused}","seq":5}}"#).as_bytes());
        let sent = host.until_closed();
        // An id outside the alphabet is bad data; one that is another host's address is refused
        // with a reason.
        let text = String::from_utf8_lossy(&sent);
        assert!(
            sent.is_empty() || text.contains("keepRefused"),
            "{refused}: {text}"
        );
        assert!(!text.contains("keepGotIt"), "{refused}: {text}");
    }
    assert_eq!(server.metric("anthill_onlines_total"), 0);
    Host::named(server.tcp, "127.0.4.1", "127.0.4.1");
}

fn facts_of_a_host_are_shown(home: Home) {
    let server = home.start();
    let mut host = Host::connect(server.tcp, "127.0.4.1");
    for name in ["old", "new"] {
        let body = format!(
            r#"{{"flag":"ADH56","ACK":"keepRogerThat","reply":true,"systemInfoTask":
               {{"hostname":"{name}","MACAddress":"00:16","localAddrsIPV4":["10.0.0.1","10.0.0.2"]}}}}"#
        );
        assert_eq!(host.ask(body.as_bytes())["ACK"], "keepRogerThat");
    }
    let seen = server.host("127.0.4.1").expect("known");
    assert_eq!(
        (&seen["hostname"], &seen["mac"]),
        (&"new".into(), &"00:16".into())
    );
    if home.has_redis() {
        let redis = home.store();
        let mut info: Vec<String> = redis.say(&["SMEMBERS", "127.0.4.1_systemInfo"]);
        info.sort();
        assert_eq!(info, ["00:16", "new"]);
        let length: u64 = redis.say(&["LLEN", "127.0.4.1_systemInfoIPV4"]);
        assert_eq!(length, 2);
        drop(host);
        until_so("both gone with it", || {
            let keys = ["EXISTS", "127.0.4.1_systemInfo", "127.0.4.1_systemInfoIPV4"];
            redis.say::<u64>(&keys) == 0
        });
    }
}

fn one_listener_serves_ipv4_and_ipv6(mut home: Home) {
    home.set("server.tcp", "[::]:0").auth_none();
    let server = home.start();
    let port = server.tcp.port();
    let by_name: [(IpAddr, &str); 2] = [
        ([127, 0, 0, 1].into(), "127.0.4.1"),
        (std::net::Ipv6Addr::LOCALHOST.into(), "::1"),
    ];
    for (address, name) in by_name {
        let mut host = Host::online(SocketAddr::new(address, port), name);
        let seen = server.host(name).expect("known by its address as text");
        assert_eq!((&seen["id"], &seen["ip"]), (&name.into(), &name.into()));
        if home.has_redis() {
            until_so("in the set", || home.store().exists().contains(name));
        }
        // Its own address is a name it may have.
        let mut named = Host::connect(SocketAddr::new(address, port), name);
        assert_eq!(named.hello(name)["ACK"], "keepGotIt");
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
}

fn more_than_half_offline_is_reported(mut home: Home) {
    let timeout = Duration::from_secs(5);
    home.set("heartbeat.timeout_s", timeout.as_secs());
    let server = home.start();
    let mut hosts: Vec<Host> = (1..=24)
        .map(|number| Host::online(server.tcp, &format!("127.0.4.{number}")))
        .collect();
    // Only hosts that have stayed for a timeout count.
    let online = Instant::now();
    while online.elapsed() <= timeout {
        for host in &mut hosts {
            assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    hosts.truncate(12);
    until_so("half are left", || {
        server.metric("anthill_hosts_online") == 12
    });
    assert!(
        server
            .log()
            .iter()
            .all(|line| !line.contains("mass-offline"))
    );
    hosts.truncate(2);
    until_so("two are left", || {
        server.metric("anthill_hosts_online") == 2
    });
    server.logged(&["ERROR", "mass-offline", "13 hosts"]);
    if home.has_redis() {
        let redis = home.store();
        until_so("all are told", || redis.events().len() == 24 + 22 + 1);
        let events = redis.events();
        let mass = events
            .iter()
            .filter(|event| event.field("event") == "mass-offline");
        let counts: Vec<&str> = mass.map(|event| event.field("count")).collect();
        assert_eq!(counts, ["13"], "once, when the half is passed");
    }
}
