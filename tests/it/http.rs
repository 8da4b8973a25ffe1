//! HTTP: pages over many hosts, and access control.

use std::collections::BTreeSet;

use super::support::http::request;
use super::support::{Home, Host, Server, http, on_both_stores, until_so};

on_both_stores! { pages_over_many_hosts }

const HOSTS: usize = 2_500;

/// Follows the cursors to the end. Returns the ids of each page.
fn pages(server: &Server, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.json(&format!("/v1/hosts?{query}{cursor}"));
        let hosts = page["hosts"].as_array().expect("hosts").iter();
        pages.push(
            hosts
                .map(|host| host["id"].as_str().expect("an id").to_owned())
                .collect(),
        );
        match &page["next"] {
            serde_json::Value::Null => return pages,
            serde_json::Value::String(next) => cursor = format!("&cursor={next}"),
            next => cursor = format!("&cursor={next}"),
        }
    }
}

fn pages_over_many_hosts(home: Home) {
    let server = home.start();
    let mut stay = Vec::new();
    for number in 0..HOSTS {
        let source = format!("127.1.{}.1", number % 250);
        let host = Host::named(server.tcp, &source, &format!("web-{number}"));
        // A tenth of the hosts stays connected.
        if number % 10 == 0 {
            stay.push(host);
        }
    }
    until_so("nine tenths have left", || {
        server.metric("anthill_hosts_online") == 250
    });

    for (query, wanted) in [
        ("limit=1000", HOSTS),
        ("limit=333", HOSTS),
        ("", HOSTS),
        ("state=online&limit=7", 250),
        ("state=offline&limit=1000", HOSTS - 250),
    ] {
        let pages = pages(&server, query);
        let all: Vec<&String> = pages.iter().flatten().collect();
        let once: BTreeSet<&String> = all.iter().copied().collect();
        assert_eq!((all.len(), once.len()), (wanted, wanted), "{query}");
        let most = query
            .split("limit=")
            .nth(1)
            .map_or(1_000, |limit| limit.parse().unwrap());
        assert!(pages.iter().all(|page| page.len() <= most), "{query}");
    }
    let host = server.host("web-2490").expect("known");
    assert_eq!(
        (&host["state"], &host["reason"]),
        (&"online".into(), &().into())
    );
    let host = server.host("web-2491").expect("known");
    assert_eq!(
        (&host["state"], &host["reason"]),
        (&"offline".into(), &"closed".into())
    );
    for wrong in [
        "limit=0",
        "limit=x",
        "state=maybe",
        "cursor=x",
        "cursor=-1",
        "colour=1",
    ] {
        assert_eq!(server.get(&format!("/v1/hosts?{wrong}")).0, 400, "{wrong}");
    }
}

#[test]
fn hosts_and_origins_are_checked() {
    let server = Home::embedded().start();
    let port = server.http.port();
    let ask = |lines: &str| {
        request(
            server.http,
            &format!("GET /v1/hosts HTTP/1.1\r\n{lines}\r\n"),
        )
    };
    for (lines, status) in [
        (format!("Host: 127.0.0.1:{port}"), 200),
        (format!("Host: localhost:{port}"), 200),
        ("Host: localhost".to_owned(), 200),
        ("Host: evil.example".to_owned(), 421),
        (format!("Host: evil.example:{port}"), 421),
        ("Host: 10.0.0.1".to_owned(), 421),
        (
            format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}"),
            200,
        ),
        (
            format!("Host: localhost:{port}\r\nOrigin: http://evil.example"),
            403,
        ),
        (format!("Host: localhost:{port}\r\nOrigin: null"), 403),
        (
            format!("Host: localhost:{port}\r\nSec-Fetch-Site: cross-site"),
            403,
        ),
        (
            format!("Host: localhost:{port}\r\nSec-Fetch-Site: same-origin"),
            200,
        ),
    ] {
        let answer = ask(&lines);
        assert_eq!(answer.status, status, "{lines}");
        let cors = answer
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("access-control"));
        assert!(!cors, "{answer:?}");
        if status != 200 {
            let error: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            assert!(error["error"].is_string(), "{answer:?}");
        }
    }
}

#[test]
fn methods_paths_and_sizes_are_checked() {
    let server = Home::embedded().start();
    let host = format!("Host: {}\r\n", server.http);
    let ask =
        |line: &str, more: &str| request(server.http, &format!("{line} HTTP/1.1\r\n{host}{more}"));
    assert_eq!(ask("GET /nowhere", "").status, 404);
    assert_eq!(ask("GET /v1/hosts/nobody", "").status, 404);
    assert_eq!(ask("DELETE /v1/hosts/nobody", "").status, 404);
    for path in ["/v1/hosts", "/healthz", "/metrics", "/v1/hosts/nobody"] {
        let answer = ask(&format!("PUT {path}"), "");
        assert_eq!(answer.status, 405, "{path}");
        assert!(
            answer
                .header("allow")
                .is_some_and(|allow| allow.contains("GET")),
            "{answer:?}"
        );
    }
    // Responses whose content is stable.
    for path in ["/v1/hosts", "/v1/tasks"] {
        let (get, head) = (
            ask(&format!("GET {path}"), ""),
            ask(&format!("HEAD {path}"), ""),
        );
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
    }
    assert_eq!(
        ask(
            "GET /v1/hosts",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
        )
        .status,
        400
    );
    assert_eq!(
        ask(
            "POST /v1/nowhere",
            "Content-Type: text/plain\r\nContent-Length: 0\r\n"
        )
        .status,
        415
    );
    let long = format!("X: {}\r\n", "x".repeat(17 * 1024));
    assert_eq!(ask("GET /healthz", &long).status, 431);
    let health: serde_json::Value = serde_json::from_str(&ask("GET /healthz", "").body).unwrap();
    assert_eq!(health["status"], "ok");
}

#[test]
fn a_configured_token_is_required() {
    let mut home = Home::embedded();
    home.set("server.http_token_file", "token");
    let path = home.path().join("token");
    std::fs::write(&path, "a-token-of-some-length\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    let server = home.start();
    assert_eq!(http::get(server.http, "/healthz").status, 200);
    let refused = http::get(server.http, "/v1/hosts");
    assert_eq!(
        (refused.status, refused.header("www-authenticate").is_some()),
        (401, true)
    );
    for (token, status) in [
        ("a-token-of-some-length", 200),
        ("another-token-of-length", 401),
    ] {
        let head = format!(
            "GET /v1/hosts HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n",
            server.http
        );
        assert_eq!(request(server.http, &head).status, status, "{token}");
    }
}

#[test]
fn every_metric_is_documented() {
    let server = Home::embedded().start();
    let (_, page) = server.get("/metrics");
    let mut table = "| Metric | Kind | Label | Meaning |\n|---|---|---|---|\n".to_owned();
    let mut names = BTreeSet::new();
    for family in page.split("# HELP ").skip(1) {
        let mut lines = family.lines();
        let mut line = || lines.next().expect("HELP, TYPE and a sample");
        let (name, help) = line().split_once(' ').expect("a name and a meaning");
        let kind = line().rsplit(' ').next().expect("a kind");
        let label = line()
            .split_once('{')
            .and_then(|(_, label)| label.split_once('='));
        let label = label.map_or(String::new(), |(label, _)| format!("`{label}`"));
        assert!(names.insert(name), "{name} stands twice");
        table += &format!("| `{name}` | {kind} | {label} | {help} |\n");
    }
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let documented = std::fs::read_to_string(docs.join("metrics.md")).expect("the documentation");
    assert!(
        documented.contains(&table),
        "docs/metrics.md is to have this:\n{table}"
    );
    for page in ["operations.md", "security.md", "tls.md", "performance.md"] {
        let text = std::fs::read_to_string(docs.join(page)).expect("the documentation");
        let mut words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        let unknown = words.find(|word| word.starts_with("anthill_") && !names.contains(word));
        assert_eq!(unknown, None, "{page}");
    }
}
