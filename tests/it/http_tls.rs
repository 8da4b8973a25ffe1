//! The HTTP API with TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::json;
use testkit::server::run;

use super::support::tls::{Authority, TlsHost};
use super::support::{Home, Host, PATIENCE, Server, until_so};

/// Answer to a GET over TLS, if the server's certificate is from this authority.
fn get(server: &Server, authority: &Authority, path: &str) -> Option<String> {
    let mut stream = TlsHost::connect(server.http, "127.0.0.1", authority, None).stream;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // The server sends close_notify, so that the end of the answer is known.
    stream.read_to_end(&mut answer).ok()?;
    String::from_utf8(answer).ok()
}

#[test]
fn the_api_speaks_tls() {
    let mut home = Home::embedded();
    let authority = Authority::new();
    let own = authority.signs(&["localhost"], None, false);
    let (cert, key) = own.files(home.path(), "http");
    let ca = authority.file(home.path(), "ca.pem");
    home.set("server.http_tls", json!({"cert": cert, "key": key}));
    let server = home.start();
    for (path, wanted) in [
        ("/healthz", "\"status\""),
        ("/metrics", "anthill_hosts_online 0"),
        ("/v1/hosts", "{\"hosts\":[],\"next\":null}"),
    ] {
        let answer = get(&server, &authority, path).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.contains(wanted), "{path}: {answer}");
    }
    // The command line, with the authority and without.
    let api = format!("https://localhost:{}", server.http.port());
    let good = run(
        home.path(),
        &[
            "hosts",
            "--json",
            "--api",
            &api,
            "--ca",
            ca.to_str().unwrap(),
        ],
    );
    assert_eq!(good.status, Some(0), "{good:?}");
    let bad = run(home.path(), &["hosts", "--api", &api]);
    assert_ne!(bad.status, Some(0), "{bad:?}");
    assert!(bad.stdout.is_empty() && !bad.stderr.is_empty(), "{bad:?}");
    // Plain bytes get no answer.
    let mut plain = TcpStream::connect(server.http).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Events arrive one by one.
    let mut stream = TlsHost::connect(server.http, "127.0.0.1", &authority, None).stream;
    stream
        .write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let (mut heard, mut bytes) = (String::new(), [0; 4_096]);
    let mut host = None;
    while !heard.contains("\"web-1\"") {
        let count = stream.read(&mut bytes).expect("the stream goes on");
        assert_ne!(count, 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if heard.contains(": events") && host.is_none() {
            host = Some(Host::named(server.tcp, "127.0.0.1", "web-1"));
        }
    }
    // A reload takes over another certificate, for the next connection.
    let other = Authority::new();
    let renewed = other.signs(&["localhost"], None, false);
    fs::write(&cert, &renewed.cert).unwrap();
    fs::write(&key, &renewed.key).unwrap();
    server.signal(Signal::HUP);
    server.logged(&["server.http_tls: other certificates"]);
    until_so("the other certificate is shown", || {
        let answer = get(&server, &other, "/healthz");
        answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    });
    server.stop();
}

#[test]
fn a_missing_key_is_an_error_of_the_configuration() {
    let mut home = Home::embedded();
    home.set("server.http_tls", json!({"cert": "none.pem"}));
    home.write_config();
    let ended = run(home.path(), &["check-config"]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("server.http_tls"), "{ended:?}");
}
