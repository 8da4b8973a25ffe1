//! Early ends of a load of `anthill bench`: the figures so far are reported all the same.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::support::process::Process;
use super::support::server::program;
use super::support::{Home, Server, until_so};

/// A load of ten minutes, unless something ends it.
fn begin(home: &Home, server: &Server, words: &[&str]) -> Process {
    let (tcp, api) = (server.tcp.to_string(), format!("http://{}", server.http));
    let mut all = vec!["bench"];
    all.extend_from_slice(words);
    all.extend_from_slice(&["--server", &tcp]);
    if words.contains(&"dispatch") {
        all.extend_from_slice(&["--api", &api]);
    } else {
        all.extend_from_slice(&["--seconds", "600"]);
    }
    Process::start(&mut program(home.path(), &all))
}

/// Its status, the document on stdout, and stderr.
#[track_caller]
fn told(output: &Output) -> (Option<i32>, Value, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("no document: {error}: {said}"));
    (output.status.code(), document, said)
}

fn messages(server: &Server) -> u64 {
    server.metric("anthill_messages_total{code=\"ADH18\"}")
}

#[test]
fn a_dead_server_leaves_the_report_whole() {
    let home = Home::redis();
    for load in ["steady", "flood", "churn", "storm"] {
        let server = home.start();
        let child = begin(&home, &server, &[load, "--hosts", "10", "--json"]);
        until_so("heartbeats", || messages(&server) > 20);
        let tcp = server.tcp.to_string();
        server.kill();
        let (status, report, said) = told(&child.output());
        assert_eq!(status, Some(1), "{load}: {said}");
        let why = report["ended_early"].as_str().unwrap_or_default();
        assert!(
            why.contains("went away") && why.contains(&tcp),
            "{load}: {why}"
        );
        assert!(said.contains(why), "{load}: {said}");
        assert!(
            report["heartbeats"]["answered"].as_u64() > Some(0),
            "{load}: {report:#}"
        );
        let wanted = match load {
            "steady" | "flood" => "all 10 connections are lost",
            _ => "connections in a row have failed",
        };
        assert!(why.contains(wanted), "{load}: {why}");
    }
}

#[test]
fn a_server_death_in_a_task_is_reported() {
    let home = Home::redis();
    let server = home.start();
    // So many commands that there is time.
    let words = ["dispatch", "--hosts", "50", "--commands", "1000", "--json"];
    let child = begin(&home, &server, &words);
    until_so("somebody works", || {
        server.metric("anthill_messages_total{code=\"ADH27\"}") > 100
    });
    server.kill();
    let (status, report, said) = told(&child.output());
    assert_eq!(status, Some(1), "{said}");
    assert!(report["ended_early"].is_string(), "{report:#}");
    assert!(report["dispatch"]["received"]["hosts"].as_u64() > Some(0));
}

#[test]
fn finished_pairs_survive_a_server_death() {
    let home = Home::redis();
    let server = home.start();
    let tcp = server.tcp.to_string();
    let words = [
        "bench",
        "--server",
        &tcp,
        "--hosts",
        "10",
        "--rate",
        "1000",
        "--seconds",
        "0.5",
        "--floor",
        "--pairs",
        "100",
        "--json",
    ];
    let child = Process::start(&mut program(home.path(), &words));
    until_so("a second pair", || messages(&server) > 700);
    server.kill();
    let (status, report, said) = told(&child.output());
    assert_eq!(status, Some(1), "{said}");
    let why = report["ended_early"].as_str().unwrap();
    assert!(why.contains("went away"), "{why}");
    let pairs = report["floor"]["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 1, "{why}");
    assert!(report["floor"]["cpu_per_heartbeat_ratio"]["median"].is_f64());
}

#[test]
fn a_signal_ends_the_load_with_a_report() {
    let home = Home::redis();
    let server = home.start();
    let loads: [(&[&str], _, _, _); 3] = [
        (&["steady"], Signal::INT, 130, "SIGINT"),
        (&["flood"], Signal::TERM, 143, "SIGTERM"),
        (
            &["churn", "--connect-rate", "50"],
            Signal::INT,
            130,
            "SIGINT",
        ),
    ];
    for (load, which, wanted, name) in loads {
        let before = messages(&server);
        let words = [load, &["--hosts", "10", "--json"]].concat();
        let child = begin(&home, &server, &words);
        until_so("heartbeats", || messages(&server) > before + 20);
        child.signal(which);
        let (status, report, said) = told(&child.output());
        assert_eq!(status, Some(wanted), "{load:?}: {said}");
        let why = report["ended_early"].as_str().unwrap();
        assert!(why.contains(name), "{why}");
        assert_eq!(report["errors"], serde_json::json!({}), "{load:?}");
        assert!(report["server_process"].is_object(), "{load:?}");
    }
}

#[test]
fn two_signals_in_succession_are_one() {
    let home = Home::redis();
    let server = home.start();
    let words = [
        "--no-replies",
        "--hosts",
        "50",
        "--rate",
        "1000",
        "--together",
        "--hold",
        "--json",
    ];
    let child = begin(&home, &server, &words);
    until_so("heartbeats", || messages(&server) > 100);
    // Stopped itself, it has both signals before it can heed the first.
    child.signal(Signal::STOP);
    child.signal(Signal::INT);
    child.signal(Signal::TERM);
    child.signal(Signal::CONT);
    let (status, report, said) = told(&child.output());
    assert!(matches!(status, Some(130 | 143)), "{status:?}: {said}");
    let why = report["ended_early"].as_str().unwrap();
    assert!(why.contains("SIGINT") || why.contains("SIGTERM"), "{why}");
    until_so("the server goes on", || server.get("/healthz").0 == 200);
}

#[test]
fn a_hung_server_is_not_shown_as_fast() {
    let home = Home::redis();
    let server = home.start();
    let words = ["--hosts", "10", "--rate", "200", "--json"];
    let child = begin(&home, &server, &words);
    until_so("heartbeats", || messages(&server) > 20);
    server.signal(Signal::STOP);
    // Far more are due meanwhile than were answered before.
    std::thread::sleep(Duration::from_secs(1));
    child.signal(Signal::INT);
    let (_, report, said) = told(&child.output());
    server.signal(Signal::CONT);
    let beats = &report["heartbeats"];
    assert!(beats["unanswered"].as_f64() > Some(100.0), "{said}");
    let sum = beats["answered"].as_u64().unwrap() + beats["unanswered"].as_u64().unwrap();
    assert_eq!(beats["latency"]["count"].as_u64(), Some(sum));
    // They are waited for for a second.
    assert!(
        beats["latency"]["p99_us"].as_f64() > Some(900_000.0),
        "{beats:#}"
    );
}

#[test]
fn refused_connections_blame_the_server() {
    let home = Home::redis();
    let server = home.start();
    let load = ["churn", "--hosts", "5", "--connect-rate", "200", "--json"];
    let child = begin(&home, &server, &load);
    until_so("heartbeats", || messages(&server) > 20);
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(1));
    server.signal(Signal::CONT);
    let before = messages(&server);
    until_so("more of them", || messages(&server) > before + 50);
    child.signal(Signal::INT);
    let (_, report, said) = told(&child.output());
    let figure = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let waited = figure("/connections/latency/max_us").unwrap();
    assert!(waited > 900_000.0, "{said} {report:#}");
    let late = figure("/client/late/max_us").unwrap();
    assert!(late < waited / 2.0, "{report:#}");
}

#[test]
fn hosts_without_room_are_errors() {
    let mut home = Home::redis();
    home.set("limits.connections", 20);
    let server = home.start();
    let tcp = server.tcp.to_string();
    let words = ["bench", "storm", "--hosts", "60", "--seconds", "0.1"];
    let words = [&words[..], &["--server", &tcp, "--json"]].concat();
    let (status, report, said) = told(&program(home.path(), &words).output().unwrap());
    assert_eq!(status, Some(1), "{said}");
    assert_eq!(report["ended_early"], Value::Null, "{said}");
    assert!(report["connections"]["made"].as_u64() >= Some(20), "{said}");
    assert!(report["connections"]["failed"].as_u64() > Some(0), "{said}");
}

#[test]
fn a_refusing_server_is_not_called_away() {
    let mut home = Home::embedded();
    let keys = home.path().join("keys.json");
    std::fs::write(&keys, format!("{{\"fleet\": \"{}\"}}", "07".repeat(32))).unwrap();
    std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
    home.auth(serde_json::json!({"keys_file": "keys.json", "plain_from": []}));
    let server = home.start();
    let (tcp, http) = (server.tcp.to_string(), server.http.to_string());
    for (address, words, wanted) in [
        (&tcp, &[][..], "it refuses"),
        (&tcp, &["--plain"], "it may demand a key"),
        (&http, &[], "refuses these hosts"),
    ] {
        let all = ["bench", "--hosts", "20", "--server", address];
        let mut program = program(home.path(), &[&all[..], words].concat());
        let output = program.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
        assert!(!said.contains("no server"), "{said}");
        assert!(!said.contains("went away"), "{said}");
    }
}
