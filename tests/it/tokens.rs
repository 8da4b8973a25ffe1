//! Tokens of the HTTP API: roles, files and reloads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use testkit::server::run;

use super::support::http::{self, request};
use super::support::{Home, Host, Server, until_so};

/// Prints a new token of this role by the program. Returns the token, and its line for the file.
fn new_token(dir: &Path, name: &str, role: &str) -> (String, String) {
    let ended = run(dir, &["token", name, "--role", role]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let mut lines = ended.stdout.lines().map(str::to_owned);
    let pair = (
        lines.next().expect("a token"),
        lines.next().expect("a line"),
    );
    assert_eq!(lines.next(), None);
    pair
}

fn write_tokens(home: &Home, lines: &[&str]) {
    let path = home.path().join("tokens.json");
    fs::write(&path, format!("{{{}}}", lines.join(",\n"))).expect("the file is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// Status and body of the answer to `line` with a token and a body.
fn ask(server: &Server, line: &str, token: &str, body: &str) -> (u16, String) {
    let headers = format!("Authorization: Bearer {token}\r\n");
    let answer = http::send(server.http, line, &headers, body);
    (answer.status, answer.body)
}

const READS: [&str; 7] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/hosts",
    "/v1/tasks",
    "/v1/events/recent",
    "/v1/reach",
];
const SENDS: [(&str, &str); 2] = [
    (
        "POST /v1/tasks",
        r#"{"key":"AC1","commands":{"a":1},"hosts":["h"]}"#,
    ),
    ("POST /v1/commands", r#"{"command":"uptime"}"#),
];

#[test]
fn a_role_bounds_what_a_token_may_do() {
    let mut home = Home::embedded();
    home.set("server.http_tokens", "tokens.json");
    let tokens = ["read", "dispatch", "admin"].map(|role| new_token(home.path(), role, role));
    write_tokens(&home, &tokens.each_ref().map(|(_, line)| line.as_str()));
    let server = home.start();
    until_so("the store is up", || {
        ask(&server, "GET /readyz", &tokens[0].0, "").0 == 200
    });
    for (rights, (token, _)) in tokens.iter().enumerate() {
        for path in READS {
            assert_eq!(
                ask(&server, &format!("GET {path}"), token, "").0,
                200,
                "{path}"
            );
        }
        let forget = ask(&server, "DELETE /v1/hosts/h-9", token, "");
        assert_eq!(forget.0, if rights == 2 { 404 } else { 403 }, "{forget:?}");
        for (line, body) in SENDS {
            let sent = ask(&server, line, token, body);
            assert_eq!(sent.0 == 403, rights == 0, "{line}: {sent:?}");
            assert_ne!(sent.0, 401, "{line}: {sent:?}");
        }
    }
    let refused = ask(&server, SENDS[0].0, &tokens[0].0, SENDS[0].1).1;
    assert!(
        refused.contains("the token read has the role read"),
        "{refused}"
    );
    for wrong in ["", "x", &tokens[0].0[1..]] {
        assert_eq!(ask(&server, "GET /v1/hosts", wrong, "").0, 401);
    }
    assert_eq!(ask(&server, "GET /healthz", "x", "").0, 200);
    // The log has neither a token nor a digest.
    let log = server.log().join("\n");
    for (token, line) in &tokens {
        let digest = line.split('"').find(|word| word.len() == 64);
        let digest = digest.expect("a digest");
        assert!(
            !log.contains(token.as_str()) && !log.contains(digest),
            "{log}"
        );
    }
}

#[test]
fn a_reload_takes_over_other_tokens() {
    let mut home = Home::embedded();
    home.set("server.http_tokens", "tokens.json");
    home.set("server.http_token_file", "single");
    let single = home.path().join("single");
    fs::write(&single, "a-token-of-some-length\n").unwrap();
    fs::set_permissions(&single, fs::Permissions::from_mode(0o600)).unwrap();
    let (old, old_line) = new_token(home.path(), "old", "read");
    let (new, new_line) = new_token(home.path(), "new", "admin");
    write_tokens(&home, &[&old_line]);
    let server = home.start();
    let status = |token: &str| ask(&server, "GET /v1/hosts", token, "").0;
    assert_eq!((status(&old), status(&new)), (200, 401));
    assert_eq!(status("a-token-of-some-length"), 200);
    write_tokens(&home, &[&new_line]);
    server.signal(Signal::HUP);
    until_so("the other token is taken over", || status(&new) == 200);
    assert_eq!((status(&old), status("a-token-of-some-length")), (401, 200));
    server.logged(&["server.http_tokens", "gone or changed", "old"]);
    // A damaged file changes nothing.
    write_tokens(&home, &["\"x\": 1"]);
    server.signal(Signal::HUP);
    server.logged(&["tokens.json: x: is a number"]);
    assert_eq!(status(&new), 200);
}

#[test]
fn a_tokens_file_that_others_can_write_is_refused() {
    let mut home = Home::embedded();
    home.set("server.http_tokens", "tokens.json");
    write_tokens(&home, &[]);
    let path = home.path().join("tokens.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    home.write_config();
    let ended = run(home.path(), &["check-config"]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("chmod go-w"), "{}", ended.stderr);
}

#[test]
fn a_follower_ends_with_its_token() {
    let mut home = Home::embedded();
    home.set("server.http_tokens", "tokens.json");
    let (old, old_line) = new_token(home.path(), "old", "read");
    let (_, new_line) = new_token(home.path(), "new", "read");
    write_tokens(&home, &[&old_line]);
    let server = home.start();
    let address = server.http;
    let head =
        format!("GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {old}\r\n");
    let follower = std::thread::spawn(move || request(address, &head));
    until_so("it follows", || {
        let page = ask(&server, "GET /metrics", &old, "").1;
        page.lines().any(|line| line == "anthill_http_followers 1")
    });
    let host = Host::named(server.tcp, "127.0.0.1", "web-1");
    write_tokens(&home, &[&new_line]);
    server.signal(Signal::HUP);
    let heard = follower.join().expect("the stream ends");
    assert!(heard.body.contains("web-1"), "{heard:?}");
    drop(host);
}

#[test]
fn a_change_raises_an_audit() {
    let mut home = Home::embedded();
    home.set("server.http_tokens", "tokens.json");
    let (ops, ops_line) = new_token(home.path(), "ops", "dispatch");
    let (board, board_line) = new_token(home.path(), "board", "read");
    write_tokens(&home, &[&ops_line, &board_line]);
    let server = home.start();
    let host = Host::named(server.tcp, "127.0.0.1", "web-1");
    until_so("the host is online", || {
        ask(&server, "GET /v1/hosts?state=online", &ops, "")
            .1
            .contains("web-1")
    });
    let task = r#"{"key":"AC1","commands":{"secret-word":1},"hosts":["web-1"]}"#;
    until_so("the store is up", || {
        ask(&server, "GET /readyz", &ops, "").0 == 200
    });
    assert_eq!(ask(&server, "POST /v1/tasks", &ops, task).0, 201);
    assert_eq!(ask(&server, "POST /v1/tasks", &ops, task).0, 409);
    assert_eq!(ask(&server, "DELETE /v1/hosts/web-1", &board, "").0, 403);
    assert_eq!(ask(&server, "POST /v1/tasks", "wrong", task).0, 401);
    assert_eq!(ask(&server, "GET /v1/hosts", &board, "").0, 200);
    let audits = || -> Vec<serde_json::Value> {
        let page = ask(&server, "GET /v1/events/recent", &board, "").1;
        let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
        let events = page["events"].as_array().expect("events").iter();
        events
            .filter(|event| event["event"] == "audit")
            .cloned()
            .collect()
    };
    until_so("four audits", || audits().len() == 4);
    let wanted = [
        ("ops", "POST /v1/tasks", "key", "AC1", "ok"),
        ("ops", "POST /v1/tasks", "key", "AC1", "409 "),
        ("board", "DELETE /v1/hosts/HOST", "target", "web-1", "403 "),
        ("127.0.0.1", "POST /v1/tasks", "", "", "401 "),
    ];
    for (audit, (by, what, about, name, result)) in audits().iter().zip(wanted) {
        assert_eq!((&audit["by"], &audit["what"]), (&by.into(), &what.into()));
        if !about.is_empty() {
            assert_eq!(audit[about], name, "{audit}");
        }
        let said = audit["result"].as_str().expect("a result");
        assert!(said.starts_with(result), "{audit}");
    }
    assert_eq!(audits()[0]["count"], 1);
    server.logged(&["ops: POST /v1/tasks AC1, 1 hosts: ok"]);
    server.logged(&["board: DELETE /v1/hosts/HOST web-1: 403"]);
    let log = server.log().join("\n");
    assert!(!log.contains(&ops) && !log.contains("secret-word"), "{log}");
    drop(host);
}

#[test]
fn refusals_of_strangers_are_bounded() {
    let mut home = Home::embedded();
    home.set("server.http_tokens", "tokens.json");
    let (board, line) = new_token(home.path(), "board", "read");
    write_tokens(&home, &[&line]);
    let server = home.start();
    let metric = |name: &str| -> u64 {
        let page = ask(&server, "GET /metrics", &board, "").1;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().parse().expect("a number")
    };
    // Without a token there is no delay.
    until_so("some refusals raise no event", || {
        for _ in 0..64 {
            assert_eq!(
                http::send(server.http, "POST /v1/tasks", "", "{}").status,
                401
            );
        }
        metric("anthill_http_refusals_unaudited_total ") > 0
    });
    // They hide no refusal of a token.
    for host in ["web-1", "web-2", "web-3"] {
        for _ in 0..64 {
            http::send(server.http, "POST /v1/tasks", "", "{}");
        }
        let request = format!("DELETE /v1/hosts/{host}");
        assert_eq!(ask(&server, &request, &board, "").0, 403);
        server.logged(&["audit", "board: DELETE", host, "403"]);
    }
}

#[test]
fn a_token_sends_to_hosts_of_its_target() {
    let mut home = Home::embedded();
    home.set("server.http_tokens", "tokens.json");
    let args = [
        "token",
        "web",
        "--role",
        "dispatch",
        "--target",
        "web-*,!web-9",
    ];
    let ended = run(home.path(), &args);
    let mut lines = ended.stdout.lines();
    let (token, line) = (
        lines.next().expect("a token"),
        lines.next().expect("a line"),
    );
    write_tokens(&home, &[line]);
    let server = home.start();
    until_so("the store is up", || {
        ask(&server, "GET /readyz", token, "").0 == 200
    });
    let task = |key: &str, hosts: &str| {
        let body = format!(r#"{{"key":"{key}","commands":{{"a":1}},"hosts":{hosts}}}"#);
        ask(&server, "POST /v1/tasks", token, &body)
    };
    for (number, hosts, expected) in [
        (1, r#"["web-1","web-2"]"#, 201),
        (2, r#"["web-1","db-1"]"#, 403),
        (3, r#"["web-9"]"#, 403),
        (4, "null", 403),
    ] {
        let answer = task(&format!("AC{number}"), hosts);
        assert_eq!(answer.0, expected, "{hosts}: {answer:?}");
    }
    let command = r#"{"command":"uptime","hosts":["db-1"]}"#;
    let refused = ask(&server, "POST /v1/commands", token, command);
    assert_eq!(refused.0, 403, "{refused:?}");
    assert!(
        refused.1.contains("db-1") && refused.1.contains("web-*,!web-9"),
        "{refused:?}"
    );
    let wrong = run(
        home.path(),
        &["token", "x", "--role", "read", "--target", "all"],
    );
    assert_eq!(wrong.status, Some(2), "{wrong:?}");
}
