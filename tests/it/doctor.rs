//! `anthill doctor`: problems and their remedies.

use std::net::UdpSocket;
use std::process::Command;

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
    let fix = of(&findings, "store appendonly")[0]["fix"]
        .as_str()
        .unwrap();
    // The Redis of the tests has no file, so that the second half fails.
    let mended = Command::new("sh").args(["-c", fix]).output().unwrap();
    let (_, findings) = self::findings(&home, &["--api", "http://127.0.0.1:1"]);
    let found = of(&findings, "store appendonly")[0];
    assert_eq!(found["state"], "ok", "{mended:?}");
    home.set_section("store", json!({"url": "redis://127.0.0.1:1/0"}));
    let (_, findings) = self::findings(&home, &["--api", "http://127.0.0.1:1"]);
    assert_eq!(of(&findings, "store")[0]["state"], "wrong", "{findings:?}");
    assert_eq!(of(&findings, "server")[0]["state"], "note", "{findings:?}");
}

#[test]
fn missing_rights_have_the_command_that_grants_them() {
    let mut home = Home::redis();
    let port = home.store().port();
    let words = "ACL SETUSER narrow on >secret ~anthill:* +@all -hset";
    let words: Vec<_> = words.split(' ').collect();
    let _: () = home.store().say(&words);
    home.set(
        "store.url",
        format!("redis://narrow:secret@127.0.0.1:{port}/0"),
    );
    let api = ["--api", "http://127.0.0.1:1"];
    let (_, before) = findings(&home, &api);
    let wrong = of(&before, "store rights")[0];
    assert_eq!(wrong["state"], "wrong", "{before:?}");
    assert!(wrong["text"].as_str().unwrap().contains("HSET"), "{wrong}");
    let fix = shlex::split(wrong["fix"].as_str().unwrap()).unwrap();
    let at = fix.iter().position(|word| word == "acl").unwrap();
    let cli = format!("redis-cli -h 127.0.0.1 -p {port} --user ADMINISTRATOR --askpass");
    assert_eq!(fix[..at].join(" "), cli);
    let words: Vec<_> = fix[at..].iter().map(String::as_str).collect();
    let _: () = home.store().say(&words);
    let (_, after) = findings(&home, &api);
    assert_eq!(of(&after, "store")[0]["state"], "ok", "{after:?}");
    assert!(of(&after, "store rights").is_empty(), "{after:?}");
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
