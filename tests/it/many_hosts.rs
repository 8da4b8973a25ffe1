//! Requests with many hosts, while one host sends heartbeats.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{BEAT_ASKING, Home, Host, http};

/// Hosts of a request.
const HOSTS: usize = 20_000;
/// A heartbeat may wait for one such part of the request's time.
const PARTS: u32 = 5;
/// Tries until one request delays no heartbeat; a busy machine may need several.
const ROUNDS: u32 = 10;

#[test]
fn a_large_request_delays_no_heartbeat() {
    let home = Home::embedded();
    let server = home.start();
    let mut host = Host::online(server.tcp, "127.0.60.2");
    let names: Vec<String> = (0..HOSTS).map(|n| format!("host-{n}")).collect();
    let http = server.http;
    let mut longest_beside = |path: &'static str, body: String, status: u16| {
        let began = Instant::now();
        let posted = thread::spawn(move || http::post(http, path, &body).status);
        let mut longest = Duration::ZERO;
        while !posted.is_finished() {
            let asked = Instant::now();
            assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
            longest = longest.max(asked.elapsed());
        }
        assert_eq!(posted.join().unwrap(), status);
        (longest, began.elapsed())
    };
    for (path, status) in [("/v1/tasks", 201), ("/v1/commands", 202)] {
        let mut seen = Vec::new();
        loop {
            let body = match path {
                "/v1/tasks" => json!({
                    "key": format!("AC{}", seen.len()),
                    "commands": {"uptime": 1},
                    "hosts": names,
                }),
                _ => json!({"command": "uptime", "hosts": names}),
            };
            let (longest, took) = longest_beside(path, body.to_string(), status);
            seen.push((longest, took));
            if longest * PARTS <= took {
                break;
            }
            assert!(
                seen.len() < ROUNDS as usize,
                "{path}: waits and times: {seen:?}"
            );
        }
        eprintln!("{path}: {seen:?}");
    }
}
