//! The agent over TLS, and its errors.

use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use super::support::agent::Agent;
use super::support::server::run;
use super::support::tls::Authority;
use super::support::{Home, Server, accepted, until_so};

fn start(home: &Home, server: &str, how: &[&str]) -> Agent {
    let args = ["--tls", "--state", "state", "--source", "127.0.0.1"];
    Agent::start(home.path(), server, &[&args[..], how].concat())
}

/// A directory with `ca.pem`, a server's and a host's certificate, and what the host may run.
fn home(authority: &Authority, names_hosts: bool) -> Home {
    let mut home = Home::embedded();
    let path = home.path().to_owned();
    authority.file(&path, "ca.pem");
    authority
        .signs(&["localhost"], None, false)
        .files(&path, "server");
    authority.signs(&["web-1"], None, false).files(&path, "web");
    std::fs::write(
        path.join("allow.json"),
        json!(["echo *", "head -c * /dev/zero"]).to_string(),
    )
    .unwrap();
    home.set("tls.cert", "server.pem");
    home.set("tls.key", "server.key");
    if names_hosts {
        home.set("tls.client_ca", "ca.pem");
        home.set("server.http_write", "open");
    }
    home
}

fn by_name(server: &Server) -> String {
    format!("localhost:{}", server.tcp.port())
}

const BOTH: [&str; 6] = ["--ca", "ca.pem", "--cert", "web.pem", "--key", "web.key"];

#[test]
fn an_agent_with_a_certificate_works() {
    let authority = Authority::new();
    let home = home(&authority, true);
    let server = home.start();
    let agent = start(&home, &by_name(&server), &BOTH);
    until_so("web-1 online", || server.is_online("web-1"));
    let long = "head -c 700000 /dev/zero";
    server.dispatch(&json!({
        "key": "AC1", "commands": {"echo one": 2, long: 1}, "hosts": ["web-1"],
    }));
    server.until_task("AC1", "web-1", "done");
    let task = server.json("/v1/tasks/AC1");
    let results = &task["hosts"]["web-1"]["results"];
    assert_eq!(results["echo one"]["output"], "one\n");
    assert_eq!(results[long]["size"], 700_000);

    // A server that is gone and comes back is found again, and what is shown is read anew.
    let address = server.tcp.to_string();
    server.kill();
    agent.logged(&["no connection to the server"]);
    agent.process.signal(Signal::HUP);
    agent.logged(&["the files of TLS have been reloaded"]);
    let mut home = home;
    home.set("server.tcp", address);
    let server = home.start();
    server.dispatch(&json!({"key": "AC2", "commands": {"echo two": 1}, "hosts": ["web-1"]}));
    server.until_task("AC2", "web-1", "done");
    drop(agent);
    // A killed process whose socket holds unread replies resets the connection.
    let reason = server.until_offline("web-1")["reason"].clone();
    assert!(reason == "closed" || reason == "reset", "{reason}");
    server.stop();
}

#[test]
fn a_host_without_certificate_keeps_its_id() {
    let authority = Authority::new();
    let home = home(&authority, false);
    let server = home.start();
    let how = ["--ca", "ca.pem", "--id", "db-1", "--udp", "0"];
    let _agent = start(&home, &by_name(&server), &how);
    until_so("db-1 online", || server.is_online("db-1"));
    server.dispatch(&json!({"key": "AC1", "commands": {"echo one": 1}, "hosts": ["db-1"]}));
    server.until_task("AC1", "db-1", "done");
}

#[test]
fn a_failed_handshake_is_retried() {
    let authority = Authority::new();
    let home = home(&authority, true);
    let server = home.start();
    Authority::new().file(home.path(), "other.pem");
    let cases: [(&str, &[&str], &str); 3] = [
        (
            "localhost",
            &["--push", "--ca", "other.pem"],
            "invalid peer certificate",
        ),
        // The certificate is that of another.
        (
            "127.0.0.1",
            &["--push", "--ca", "ca.pem"],
            "it is for another name",
        ),
        // The server wants a certificate.
        (
            "localhost",
            &["--push", "--ca", "ca.pem"],
            "certificate required",
        ),
    ];
    for (host, how, why) in cases {
        let address = format!("{host}:{}", server.tcp.port());
        let agent = start(&home, &address, how);
        agent.logged(&["no connection to the server: TLS: ", why, "next attempt"]);
        until_so("next attempt", || {
            let log = agent.log();
            log.iter().filter(|line| line.contains(why)).count() > 1
        });
    }
    assert_eq!(server.json("/v1/hosts")["hosts"], json!([]));
    // The right one comes as soon as the file is right.
    let agent = start(
        &home,
        &by_name(&server),
        &[&["--ca", "other.pem"], &BOTH[2..]].concat(),
    );
    agent.logged(&["invalid peer certificate"]);
    authority.file(home.path(), "other.pem");
    agent.process.signal(Signal::HUP);
    until_so("web-1 online", || server.is_online("web-1"));
}

#[test]
fn a_server_without_tls_is_left_and_retried() {
    let authority = Authority::new();
    let home = home(&authority, false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    let agent = start(&home, &address, &["--push", "--ca", "ca.pem"]);
    let mut plain = accepted(&listener);
    plain
        .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        .unwrap();
    agent.logged(&[
        "no connection to the server: TLS: ",
        "its port speaks HTTP",
        "next attempt",
    ]);
    let closes = accepted(&listener);
    closes.shutdown(Shutdown::Write).unwrap();
    agent.logged(&["in the middle of the handshake"]);
    let _silent = accepted(&listener);
    agent.logged(&["no answer in time"]);
}

#[track_caller]
fn refused(dir: &Path, how: &[&str], said: &str) {
    let args = [&["agent", "--server", "localhost", "--state", "state"], how].concat();
    let ended = run(dir, &args);
    assert_eq!(ended.status, Some(2), "{how:?}: {}", ended.stderr);
    assert!(ended.stderr.contains(said), "{how:?}: {}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{how:?}: {}", ended.stderr);
}

#[test]
fn wrong_files_and_flags_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new();
    let home = home(&authority, false);
    let dir = home.path();
    authority
        .signs(&["*.example"], None, false)
        .files(dir, "star");
    std::fs::copy(dir.join("web.key"), dir.join("open.key")).unwrap();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.join("open.key"), open).unwrap();
    std::fs::write(dir.join("empty.pem"), "").unwrap();
    std::fs::write(dir.join("none.key"), "").unwrap();
    let own = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(dir.join("none.key"), own).unwrap();
    let with = |ca: &'static str, cert: &'static str, key: &'static str| {
        ["--tls", "--ca", ca, "--cert", cert, "--key", key]
    };
    let cases = [
        (
            with("nowhere.pem", "web.pem", "web.key"),
            "--ca: nowhere.pem cannot be read",
        ),
        (
            with("empty.pem", "web.pem", "web.key"),
            "--ca: empty.pem holds no certificate",
        ),
        (
            with("web.key", "web.pem", "web.key"),
            "--ca: web.key holds no certificate",
        ),
        (
            with("ca.pem", "nowhere.pem", "web.key"),
            "--cert: nowhere.pem cannot",
        ),
        (
            with("ca.pem", "web.pem", "nowhere.key"),
            "--key: nowhere.key cannot",
        ),
        (with("ca.pem", "web.pem", "open.key"), "others may read"),
        (
            with("ca.pem", "web.pem", "none.key"),
            "--key: none.key holds no private key",
        ),
        (
            with("ca.pem", "web.pem", "server.key"),
            "--key: server.key cannot be used",
        ),
        (
            with("ca.pem", "star.pem", "star.key"),
            "--cert names this host '*.example'",
        ),
    ];
    for (how, said) in cases {
        refused(dir, &how, said);
    }
    refused(
        dir,
        &["--tls", "--ca", "ca.pem", "--cert", "web.pem"],
        "--key",
    );
    refused(
        dir,
        &["--tls", "--ca", "ca.pem", "--key", "web.key"],
        "--cert",
    );
    refused(dir, &["--ca", "ca.pem"], "--tls");
    let other = [
        &with("ca.pem", "web.pem", "web.key")[..],
        &["--id", "web-2"],
    ]
    .concat();
    refused(dir, &other, "names this host 'web-1'");
}

#[test]
fn a_certificate_does_not_replace_a_key() {
    let authority = Authority::new();
    let mut home = home(&authority, true);
    let drawn = run(home.path(), &["keygen"]).stdout;
    let (name, hex) = drawn.trim().split_once(' ').expect("a name and a key");
    let keys = json!({ name: hex }).to_string();
    for (file, text) in [("host.key", &drawn), ("keys.json", &keys)] {
        use std::os::unix::fs::PermissionsExt;
        let path = home.path().join(file);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    home.set("auth.keys_file", "keys.json");
    let server = home.start();
    let without = start(&home, &by_name(&server), &BOTH);
    without.logged(&["it refuses this host"]);
    drop(without);
    assert!(!server.is_online("web-1"));
    let how = [&BOTH[..], &["--key-file", "host.key", "--push"]].concat();
    let _agent = start(&home, &by_name(&server), &how);
    until_so("web-1 online", || server.is_online("web-1"));
    server.dispatch(&json!({"key": "AC1", "commands": {"echo one": 1}, "hosts": ["web-1"]}));
    server.until_task("AC1", "web-1", "done");
}

#[test]
fn certificates_of_an_authority_name_the_remedy() {
    let mut home = Home::embedded();
    let path = home.path().to_owned();
    home.set("tls.cert", "server.pem");
    home.set("tls.key", "server.key");
    std::fs::write(path.join("allow.json"), "[]").unwrap();
    let remedy = "basicConstraints=critical,CA:FALSE";
    for is_authority in [false, true] {
        Authority::signs_itself(is_authority).files(&path, "server");
        home.write_config();
        let checked = run(&path, &["check-config"]);
        assert_eq!(checked.status, Some(0), "{checked:?}");
        let warned = ["tls.cert: server.pem", remedy].map(|word| checked.stderr.contains(word));
        assert_eq!(warned, [is_authority; 2], "{}", checked.stderr);
        let server = home.start();
        let how = ["--ca", "server.pem", "--id", "db-1", "--udp", "0"];
        let agent = start(&home, &by_name(&server), &how);
        if is_authority {
            agent.logged(&["(CA:TRUE)", remedy]);
        } else {
            until_so("db-1 online", || server.is_online("db-1"));
        }
        drop(agent);
        server.stop();
    }
}
