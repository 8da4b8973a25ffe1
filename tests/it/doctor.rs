//! `anthill doctor`: problems and their remedies.

use std::net::UdpSocket;

use serde_json::{Value, json};

use super::support::Home;
use super::support::server::run;

fn findings(home: &Home, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let config = home.write_config();
    let first = ["doctor", "--json", "--config", config.to_str().unwrap()];
    let ended = run(home.path(), &[&first[..], args].concat());
    let document: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let findings = document["findings"].as_array().unwrap().clone();
    let wrong = findings.iter().filter(|it| it["state"] == "wrong").count();
    assert_eq!(document["wrong"], wrong);
    assert_eq!(ended.status, Some(i32::from(wrong > 0)), "{}", ended.stdout);
    (ended.status, findings)
}

fn of<'a>(findings: &'a [Value], check: &str) -> Vec<&'a Value> {
    findings.iter().filter(|it| it["check"] == check).collect()
}

#[test]
fn a_server_in_order_has_its_checks_listed() {
    let mut home = Home::embedded();
    home.set("store.spool_mb", 1);
    let server = home.start();
    let api = format!("http://{}", server.http);
    let (_, findings) = findings(&home, &["--api", &api]);
    for check in [
        "configuration",
        "descriptors",
        "addresses",
        "secrets",
        "store",
        "server",
    ] {
        let found = of(&findings, check);
        assert_eq!(found[0]["state"], "ok", "{findings:?}");
    }
}

#[test]
fn each_fault_has_its_remedy() {
    let mut home = Home::redis();
    let token = home.path().join("token");
    std::fs::write(&token, "a-token-of-the-tests\n").unwrap();
    home.set("server.http_token_file", token.to_str().unwrap());
    home.set("server.tcp", "0.0.0.0:0");
    home.set("store.spool_mb", 1 << 19);
    home.auth_none();
    let (status, findings) = findings(&home, &["--api", "http://127.0.0.1:1"]);
    assert_eq!(status, Some(1));
    for (check, text, fix) in [
        ("addresses", "server.tcp is 0.0.0.0:0", "anthill keygen"),
        ("secrets", "every user can read", "chmod o= "),
        ("store appendonly", "no: ", "config set appendonly yes"),
        ("disk", "store.spool", "df -h"),
    ] {
        let found = of(&findings, check);
        let wrong = found.iter().find(|it| it["state"] == "wrong");
        let wrong = wrong.unwrap_or_else(|| panic!("{check}: {findings:?}"));
        assert!(wrong["text"].as_str().unwrap().contains(text), "{wrong}");
        assert!(wrong["fix"].as_str().unwrap().contains(fix), "{wrong}");
    }
    home.set_section("store", json!({"url": "redis://127.0.0.1:1/0"}));
    let (_, findings) = self::findings(&home, &["--api", "http://127.0.0.1:1"]);
    assert_eq!(of(&findings, "store")[0]["state"], "wrong", "{findings:?}");
    assert_eq!(of(&findings, "server")[0]["state"], "note", "{findings:?}");
}

#[test]
fn ports_of_a_running_server_are_no_fault() {
    let mut home = Home::embedded();
    let server = home.start();
    for (key, addr) in [
        ("server.tcp", server.tcp),
        ("server.udp", server.udp),
        ("server.http", server.http),
    ] {
        home.set(key, addr.to_string());
    }
    // From another directory, relative paths of the configuration are others.
    let elsewhere = tempfile::tempdir().unwrap();
    let check = |home: &Home| {
        let config = home.write_config();
        let args = ["check-config", "--config", config.to_str().unwrap()];
        run(elsewhere.path(), &args)
    };
    let ended = check(&home);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    home.set("server.tcp", "127.0.0.1:0");
    home.set("server.http", "127.0.0.1:0");
    home.set("server.udp", other.local_addr().unwrap().to_string());
    let ended = check(&home);
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.stderr.contains("server.udp 127.0.0.1:"),
        "{}",
        ended.stderr
    );
}
