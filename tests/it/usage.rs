//! Start options: wrong configurations, and the old server's file.

use std::net::SocketAddr;

use std::net::TcpListener;

use super::support::server::{Ended, run};
use super::support::{BEAT_ASKING, Home, Host, Server, until_so};

/// Checks for status 2 and one line with all of `words`.
#[track_caller]
fn refused(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status, Some(2), "{words:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{words:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word} in {}", ended.stderr);
    }
}

#[test]
fn wrong_configurations_are_refused_in_one_line() {
    let cases: [(&str, &[&str]); 19] = [
        ("", &["config.json"]),
        ("[]", &["config.json", "object"]),
        (
            r#"{"heartbeat":{"timeout":5}}"#,
            &["heartbeat.timeout", "timeout_s"],
        ),
        (r#"{"hartbeat":{}}"#, &["hartbeat", "heartbeat"]),
        (
            r#"{"heartbeat":{"timeout_s":0}}"#,
            &["heartbeat.timeout_s", "0"],
        ),
        (
            r#"{"heartbeat":{"timeout_s":"60"}}"#,
            &["heartbeat.timeout_s", "\"60\""],
        ),
        (
            r#"{"heartbeat":{"byte_order":"native"}}"#,
            &["byte_order", "native", "little"],
        ),
        (
            r#"{"limits":{"frame_bytes":65536}}"#,
            &["limits.frame_bytes", "65536", "65535"],
        ),
        (
            r#"{"store":{"url":"mysql://x"}}"#,
            &["store.url", "mysql", "redis://"],
        ),
        (
            r#"{"store":{"url":"redis+sentinel://:hush@x"}}"#,
            &["store.url", "redis+sentinel", "no good name of a master"],
        ),
        (
            r#"{"store":{"url":"redis+cluster://:hush@x,y/1"}}"#,
            &["store.url", "redis+cluster", "has only one"],
        ),
        (
            r#"{"store":{"url":"redis://:hush@h:port/0"}}"#,
            &["store.url", "port"],
        ),
        (
            r#"{"server":{"tcp":"localhost"}}"#,
            &["server.tcp", "localhost"],
        ),
        (
            r#"{"server":{"tcp":"0.0.0.0:0"}}"#,
            &["server.tcp", "0.0.0.0", "auth"],
        ),
        (
            r#"{"server":{"udp":"0.0.0.0:0"}}"#,
            &["server.udp", "0.0.0.0", "auth"],
        ),
        (
            r#"{"server":{"http":"0.0.0.0:0"}}"#,
            &["server.http", "0.0.0.0"],
        ),
        (
            r#"{"auth":"none","server":{"http":"[::]:0"}}"#,
            &["server.http", "http_token_file"],
        ),
        (r#"{"auth":"some"}"#, &["auth", "some", "none"]),
        (
            r#"{"log":{"level":"loud"}}"#,
            &["log.level", "loud", "warn"],
        ),
    ];
    let home = Home::embedded();
    for (config, words) in cases {
        std::fs::write(home.path().join("config.json"), config).unwrap();
        refused(&run(home.path(), &[]), words);
        refused(&run(home.path(), &["check-config"]), words);
        assert!(!run(home.path(), &[]).stderr.contains("hush"));
    }
    assert!(
        !home.path().join("anthill-data").exists(),
        "nothing was begun"
    );
}

#[test]
fn check_config_names_all_that_is_wrong() {
    let home = Home::embedded();
    let config = home.path().join("config.json");
    std::fs::write(&config, r#"{"server":{"tcp":"x","http":"y"},"stor":{}}"#).unwrap();
    let checked = run(home.path(), &["check-config"]);
    assert_eq!(checked.status, Some(2), "{}", checked.stderr);
    for word in ["server.tcp", "server.http", "stor "] {
        assert!(checked.stderr.contains(word), "{word}: {}", checked.stderr);
    }
    for (text, what) in [
        ("", "is empty"),
        ("\u{feff}", "is empty"),
        (" \n", "white space"),
    ] {
        std::fs::write(&config, text).unwrap();
        refused(&run(home.path(), &[]), &["config.json", what, "{}"]);
    }
}

fn entries(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Failures of each kind: a taken port, a spool that cannot be created, an unusable store.
#[test]
fn a_failed_start_leaves_no_directories_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = udp.local_addr().unwrap().to_string();
    for (key, value) in [
        ("server.tcp", &taken),
        ("server.http", &taken),
        ("server.udp", &udp),
        ("store.spool", &"config.json/spool".to_owned()),
        ("store.url", &"embedded:config.json/data".to_owned()),
    ] {
        let mut home = Home::embedded();
        home.set(key, value.as_str()).write_config();
        // A server on the address would answer for longer than this.
        let started = run(home.path(), &[]);
        assert_eq!(started.status, Some(1), "{key}: {}", started.stderr);
        assert!(started.stderr.contains(key), "{key}: {}", started.stderr);
        assert_eq!(entries(&home), ["config.json"], "{key}");
        let checked = run(home.path(), &["check-config"]);
        assert_eq!(checked.status, Some(1), "{key}: {}", checked.stderr);
        assert!(checked.stderr.contains(key), "{key}: {}", checked.stderr);
        assert!(checked.stdout.contains("\"server\""), "{key}");
        assert_eq!(entries(&home), ["config.json"], "{key}");
    }
}

/// A reload is tried first: the ports of the running server are its own.
#[test]
fn check_config_accepts_a_running_server() {
    let mut home = Home::embedded();
    let server = home.start();
    home.set("server.tcp", server.tcp.to_string());
    home.set("server.udp", server.udp.to_string());
    home.set("server.http", server.http.to_string());
    home.write_config();
    let checked = run(home.path(), &["check-config"]);
    assert_eq!(
        (checked.status, checked.stderr.as_str()),
        (Some(0), ""),
        "{}",
        checked.stdout
    );
    server.stop();
    let checked = run(home.path(), &["check-config"]);
    assert_eq!(checked.status, Some(0), "{}", checked.stderr);
}

#[test]
fn wrong_flags_are_refused_in_one_line() {
    let home = Home::embedded();
    home.write_config();
    let cases: [(&[&str], &[&str]); 9] = [
        (
            &["--tcp", "0.0.0.0:0"],
            &["--tcp", "0.0.0.0:0", "--auth none"],
        ),
        (
            &["--http", "0.0.0.0:0", "--auth", "none"],
            &["--http", "token"],
        ),
        (&["--tcp", "here"], &["--tcp", "here"]),
        (&["--store", "cassandra://x"], &["--store", "cassandra"]),
        (&["--log-level", "loud"], &["--log-level", "loud"]),
        (&["--config", "absent.json"], &["absent.json"]),
        (
            &["ak-sim", "--listen", "9883"],
            &["--listen", "9883", "127.0.0.1:9883"],
        ),
        (
            &["agent", "--server", "127.0.0.1:9", "--source", "here"],
            &["--source", "here", "it may be an IP address"],
        ),
        (
            &["agent", "--server", "127.0.0.1:9", "--udp", "66000"],
            &["--udp", "66000", "0 to 65535"],
        ),
    ];
    for (flags, words) in cases {
        refused(&run(home.path(), flags), words);
    }
}

#[test]
fn flags_beat_the_file_beats_defaults() {
    let home = Home::embedded();
    home.write_config();
    let server = Server::start(home.path(), &["serve", "--store", "embedded:other"], &[]);
    assert!(
        server.ready.contains(" store=embedded:other "),
        "{}",
        server.ready
    );
    assert!(home.path().join("other").exists() && !home.path().join("data").exists());
    let words: Vec<&str> = server.ready.split(' ').collect();
    assert_eq!(words[..2], ["anthill", "ready"]);
    let holds = words
        .iter()
        .find_map(|word| word.strip_prefix("connections="));
    assert!(
        holds
            .expect("how many it can hold")
            .parse::<u64>()
            .expect("a number")
            > 0
    );
}

#[test]
fn the_old_configuration_is_accepted() {
    let home = Home::redis();
    // Its TCP port is fixed, so no other test may use the address.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let address = format!("127.{}.{low}.77", 64 + high % 64);
    let config = format!(
        r#"{{"redisConfig": {{"host": "127.0.0.1", "password": ""}},
            "localConfig": {{"ip": "{address}"}},
            "offlineDelFields": {{"system": ["systemInfo"]}}}}"#
    );
    std::fs::write(home.path().join("old.json"), config).unwrap();
    let url = home.store().url();
    let flags = [
        "--config",
        "old.json",
        "--http",
        "127.0.0.1:0",
        "--store",
        &url,
    ];
    let server = Server::start(home.path(), &flags, &[]);
    assert_eq!(
        server.tcp,
        SocketAddr::new(address.parse().unwrap(), 11_451)
    );
    server.logged(&["WARN", "old.json", "auth", "none"]);
    let mut host = Host::connect(server.tcp, "127.0.9.1");
    host.say(
        b"ADH56/KEEPROGERTHAT/{'hostname': 'h', 'MACAddress': 'm', 'localAddrsIPV4': ['10.0.0.1']}",
    );
    host.ask(BEAT_ASKING);
    let redis = home.store();
    let there = |key: &str| redis.say::<u64>(&["EXISTS", key]) == 1;
    until_so("what it is", || there("127.0.9.1_systemInfoIPV4"));
    drop(host);
    until_so("it left", || redis.exists().is_empty());
    until_so("its field is deleted", || !there("127.0.9.1_systemInfo"));
    assert!(there("127.0.9.1_systemInfoIPV4"), "this one was not named");
}
