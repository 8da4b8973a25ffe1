//! `anthill bench` as a user runs it, against the built program.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::Process;
use crate::support::server::{Ended, program, run};
use crate::support::{Home, Server, until_so};

/// Runs it against the server with `--json` and these words.
#[track_caller]
fn bench(home: &Home, server: &Server, words: &[&str]) -> Value {
    let ended = bench_ends(home, server, words);
    assert_eq!(ended.status, Some(0), "{words:?}: {}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("one document on stdout")
}

fn bench_ends(home: &Home, server: &Server, words: &[&str]) -> Ended {
    let tcp = server.tcp.to_string();
    let mut args = vec!["bench"];
    args.extend_from_slice(words);
    args.extend_from_slice(&["--server", &tcp, "--json"]);
    run(home.path(), &args)
}

#[track_caller]
fn number(document: &Value, path: &str) -> f64 {
    let value = document.pointer(path);
    let number = value.and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("no number at {path}: {document:#}"))
}

#[test]
fn a_steady_load_is_sent_and_answered() {
    let home = Home::redis();
    let server = home.start();
    let words = ["--hosts", "20", "--rate", "200", "--seconds", "1"];
    let report = bench(&home, &server, &words);
    assert_eq!(report["bench"], 1);
    assert_eq!(report["mode"], "steady");
    assert_eq!(report["asked"]["hosts"], 20);
    assert_eq!(report["connections"]["made"], 20);
    assert_eq!(report["heartbeats"]["sent"], 200);
    assert_eq!(report["heartbeats"]["answered"], 200);
    assert_eq!(report["heartbeats"]["unanswered"], 0);
    assert_eq!(report["errors"], serde_json::json!({}));
    for figure in ["p50_us", "p99_us", "p999_us", "max_us"] {
        assert!(number(&report, &format!("/heartbeats/latency/{figure}")) > 0.0);
    }
    assert_eq!(number(&report, "/server_process/pid") as u32, server.pid());
    for figure in [
        "loop_cpu_us_per_heartbeat",
        "store_cpu_us_per_heartbeat",
        "cpu_us_per_heartbeat",
        "cpu_us_per_connection",
        "resident_bytes_before",
    ] {
        number(&report, &format!("/server_process/{figure}"));
    }
    assert!(number(&report, "/server_process/cpu_us_per_heartbeat") > 0.0);
    assert!(report["server_process"]["rested"].is_boolean());
    assert!(server.host("bench-00020").is_some());
}

#[test]
fn plain_hosts_have_an_address_each() {
    let home = Home::redis();
    let server = home.start();
    let words = [
        "--plain",
        "--no-replies",
        "--hosts",
        "20",
        "--rate",
        "100",
        "--seconds",
        "0.5",
    ];
    let report = bench(&home, &server, &words);
    assert_eq!(report["heartbeats"]["sent"], 50);
    assert_eq!(report["heartbeats"]["latency"], Value::Null);
    assert!(server.host("127.0.0.1").is_some() && server.host("127.0.0.20").is_some());
}

#[test]
fn a_flood_fills_its_pipeline() {
    let home = Home::redis();
    let server = home.start();
    let words = ["flood", "--hosts", "10", "--seconds", "0.5"];
    let report = bench(&home, &server, &words);
    let sent = number(&report, "/heartbeats/sent");
    assert!(sent > 10.0 * 16.0, "more than the first fill: {report:#}");
    assert_eq!(number(&report, "/heartbeats/answered"), sent);
    let words = ["flood", "--no-replies", "--hosts", "10", "--seconds", "0.5"];
    let report = bench(&home, &server, &words);
    assert!(number(&report, "/heartbeats/sent") >= 640.0, "{report:#}");
    for unknown in ["answered", "answered_per_s", "unanswered"] {
        assert_eq!(report["heartbeats"][unknown], Value::Null, "{unknown}");
    }
    assert_eq!(report["client"]["late"], Value::Null, "nothing was due");
}

#[test]
fn churn_and_storm_loads_connect_hosts() {
    let home = Home::redis();
    let server = home.start();
    let words = [
        "churn",
        "--hosts",
        "10",
        "--connect-rate",
        "100",
        "--seconds",
        "1",
    ];
    let report = bench(&home, &server, &words);
    assert_eq!(report["connections"]["made"], 100);
    assert_eq!(report["heartbeats"]["answered"], 100);
    assert!(number(&report, "/server_process/cpu_us_per_connection") > 0.0);
    assert_eq!(
        report["server_process"]["memory_bytes_per_connection"],
        Value::Null
    );

    let words = ["storm", "--hosts", "20", "--seconds", "0.3"];
    let report = bench(&home, &server, &words);
    let rounds = report["storm_rounds"].as_array().unwrap();
    assert!(!rounds.is_empty());
    assert_eq!(
        number(&report, "/heartbeats/answered") as usize,
        rounds.len() * 20
    );
    for round in rounds {
        let (connected, answered) = (&round["connected_ms"], &round["answered_ms"]);
        assert!(connected.as_f64() <= answered.as_f64(), "{round}");
    }
    let words = ["storm", "--hosts", "20", "--seconds", "0.1", "--no-replies"];
    let report = bench(&home, &server, &words);
    let rounds = report["storm_rounds"].as_array().unwrap();
    assert!(!rounds.is_empty());
    for round in rounds {
        assert_eq!(round["answered_ms"], Value::Null, "nobody was to answer");
    }
}

#[test]
fn a_task_goes_to_all_and_is_finished() {
    let home = Home::redis();
    let server = home.start();
    let api = format!("http://{}", server.http);
    let words = [
        "dispatch",
        "--hosts",
        "10",
        "--commands",
        "3",
        "--key",
        "ACbench",
        "--api",
        &api,
    ];
    let report = bench(&home, &server, &words);
    for stride in ["received", "answered", "done"] {
        assert_eq!(number(&report, &format!("/dispatch/{stride}/hosts")), 10.0);
    }
    // The arrival of the book, and the beginning and the end of each command.
    assert_eq!(number(&report, "/dispatch/reports"), 70.0);
    assert!(number(&report, "/dispatch/reports_per_s") > 0.0);
    let task = server.json("/v1/tasks/ACbench");
    let host = &task["hosts"]["bench-00010"];
    assert_eq!(host["state"], "done", "{task:#}");
    assert_eq!(host["complete"].as_array().unwrap().len(), 3, "{task:#}");

    // Each key may be used once.
    let ended = bench_ends(&home, &server, &words);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("ACbench"), "{}", ended.stderr);
}

#[test]
fn datagrams_are_compared_with_bare_ones() {
    let mut home = Home::redis();
    // The port stays taken while this test holds it.
    let kept = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = kept.local_addr().unwrap().port();
    home.set("dispatch.agent_port", port);
    let server = home.start();
    let (api, port) = (format!("http://{}", server.http), port.to_string());
    for (words, key, host) in [
        (&[][..], "ACnamed", "bench-00010"),
        (&["--plain", "--agent-port", &port], "ACplain", "127.0.0.10"),
    ] {
        let mut all = vec!["dispatch", "--datagrams", "--hosts", "12", "--apart", "2"];
        all.extend_from_slice(&["--rate", "5000"]);
        all.extend_from_slice(&["--api", &api]);
        all.extend_from_slice(&["--key", key]);
        all.extend_from_slice(words);
        let report = bench(&home, &server, &all);
        let sent = |name| number(&report, &format!("/dispatch/datagrams/{name}"));
        assert_eq!(sent("hosts"), 10.0);
        for figure in ["first_to_last_ms", "bare_first_to_last_ms/0", "ratio"] {
            assert!(sent(figure) > 0.0, "{figure}: {report:#}");
        }
        assert_eq!(number(&report, "/dispatch/done/hosts"), 10.0);
        assert!(number(&report, "/dispatch/apart/p99_us") > 0.0);
        let task = server.json(&format!("/v1/tasks/{key}"));
        assert_eq!(task["hosts"].as_object().unwrap().len(), 10);
        assert_eq!(task["hosts"][host]["state"], "done", "{task:#}");
    }
}

#[test]
fn some_hosts_leave_at_once_and_others_continue() {
    let home = Home::redis();
    let server = home.start();
    let words = [
        "--hosts",
        "50",
        "--leave",
        "40",
        "--rate",
        "500",
        "--seconds",
        "1",
    ];
    let report = bench(&home, &server, &words);
    assert_eq!(number(&report, "/left/hosts"), 40.0);
    assert!(number(&report, "/left/closing_ms") > 0.0);
    assert!(number(&report, "/left/replies/p99_us") > 0.0);
    assert_eq!(report["heartbeats"]["unanswered"], 0);
    let began = number(&report, "/left/began_unix_ms");
    for event in home.store().events() {
        if event.field("type") == "offline" {
            let at: f64 = event.field("at").parse().unwrap();
            assert!(at + 1.0 >= began, "nobody went before: {at} {began}");
        }
    }
}

#[test]
fn memory_is_measured_while_idle() {
    let home = Home::redis();
    let server = home.start();
    let words = [
        "--no-replies",
        "--hosts",
        "20",
        "--rate",
        "100",
        "--together",
        "--hold",
        "--seconds",
        "0.5",
        "--idle",
        "0.2",
    ];
    let report = bench(&home, &server, &words);
    assert_eq!(report["heartbeats"]["sent"], 50);
    assert_eq!(report["errors"], serde_json::json!({}));
    number(&report, "/server_process/resident_bytes_after");
    assert!(server.host("bench-00020").is_some(), "it goes on");
}

#[test]
fn the_floor_alternates_and_gives_ratios() {
    let home = Home::redis();
    let server = home.start();
    for words in [
        &["steady"][..],
        &["steady", "--no-replies", "--together"],
        &["steady", "--no-replies", "--plain"],
        &["churn"],
    ] {
        let mut all = words.to_vec();
        all.extend([
            "--floor",
            "--pairs",
            "2",
            "--hosts",
            "20",
            "--seconds",
            "0.3",
        ]);
        let report = bench(&home, &server, &all);
        let pairs = report["floor"]["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 2);
        let asked = &report["asked"];
        assert_eq!(
            (&asked["floor"], &asked["pairs"]),
            (&true.into(), &2.into())
        );
        assert_eq!(
            (&asked["connecting"], &asked["cpu"]),
            (&256.into(), &Value::Null)
        );
        for pair in pairs {
            assert_eq!(pair["floor"]["errors"], serde_json::json!({}));
            let sent = |side: &str| number(pair, &format!("/{side}/heartbeats/sent"));
            assert_eq!(sent("server"), sent("floor"), "the same load: {words:?}");
        }
        let ratio = match words[0] {
            "churn" => "cpu_per_connection_ratio",
            _ => "cpu_per_heartbeat_ratio",
        };
        let figure = |name| number(&report, &format!("/floor/{ratio}/{name}"));
        assert!(0.0 < figure("min") && figure("min") <= figure("median"));
        assert!(figure("median") <= figure("max"));
    }
}

#[test]
fn a_stop_counts_for_every_due_heartbeat() {
    let home = Home::redis();
    let server = home.start();
    let tcp = server.tcp.to_string();
    let words = [
        "bench",
        "--server",
        &tcp,
        "--json",
        "--hosts",
        "10",
        "--rate",
        "100",
        "--seconds",
        "3",
    ];
    let child = Process::start(&mut program(home.path(), &words));
    // Twice the first message: beating has begun.
    until_so("heartbeats", || {
        server.metric("anthill_messages_total{code=\"ADH18\"}") > 5
    });
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(1));
    server.signal(Signal::CONT);
    let output = child.output();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["heartbeats"]["answered"], 300);
    // A third of them was due while the server was stopped. If each heartbeat had waited for the
    // reply to the one before, only one per host would show it.
    assert!(
        number(&report, "/heartbeats/latency/p90_us") > 300_000.0,
        "{report:#}"
    );
    assert!(
        number(&report, "/heartbeats/latency/max_us") > 900_000.0,
        "{report:#}"
    );
}

#[test]
fn an_unreachable_rate_ends_in_time() {
    let home = Home::redis();
    let server = home.start();
    let words = ["--no-replies", "--hosts", "10", "--rate", "100000000"];
    let all = [&words[..], &["--seconds", "0.3"]].concat();
    let ended = bench_ends(&home, &server, &all);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("not_sent"), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let figure = |name: &str| number(&report, &format!("/heartbeats/{name}"));
    assert!(figure("seconds") < 3.0, "{report:#}");
    let given_up = figure("not_sent");
    assert_eq!(number(&report, "/errors/not_sent"), given_up);
    // What no socket took was tried all the same.
    let not_taken = report["errors"]["not_taken"].as_f64().unwrap_or_default();
    assert_eq!(figure("sent") + not_taken + given_up, 3e7);

    let words = ["churn", "--hosts", "10", "--connect-rate", "10000000"];
    let all = [&words[..], &["--seconds", "0.1"]].concat();
    let ended = bench_ends(&home, &server, &all);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let figure = |name: &str| number(&report, &format!("/connections/{name}"));
    let not_begun = figure("not_begun");
    assert_eq!(figure("made") + figure("failed") + not_begun, 1e6);
    assert_eq!(number(&report, "/errors/not_begun"), not_begun);
}

#[test]
fn too_few_descriptors_fail_at_once() {
    let script = "ulimit -n 300 && exec \"$0\" bench --hosts 1000 --server 127.0.0.1:1";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_anthill")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["--hosts 1000", "1064", "300", "at most --hosts 236"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn impossible_loads_are_wrong_usage() {
    let home = Home::redis();
    for (words, named) in [
        (&["trickle"][..], "'trickle'"),
        (&["flood", "flood"], "'flood' is one LOAD too many"),
        (&["--nonsense"], "see 'anthill bench --help'"),
        (&["--hosts", "0"], "--hosts"),
        (&["--rate", "-1"], "--rate"),
        (&["--rate", "nan"], "--rate"),
        (&["--seconds", "soon"], "--seconds"),
        (&["--connect-rate", "0"], "--connect-rate"),
        (&["--server", "a b"], "--server"),
        (&["--source", "10.0.0.0/99"], "--source"),
        (
            &["--source", "192.0.2.1", "--server", "127.0.0.1:1"],
            "--source",
        ),
        (
            &["--plain", "--source", "127.0.0.0/30", "--hosts", "3"],
            "--source",
        ),
        (&["--cpu", "4000"], "--cpu"),
        (&["dispatch", "--plain"], "--plain"),
        (&["dispatch", "--floor"], "--floor"),
        (&["--pairs", "2"], "--floor"),
        (&["--datagrams"], "--datagrams"),
        (
            &[
                "dispatch",
                "--datagrams",
                "--source",
                "127.0.0.0/30",
                "--hosts",
                "3",
            ],
            "--source",
        ),
        (&["--leave", "1000"], "--leave"),
        (&["storm", "--leave", "10"], "--leave"),
        (&["--apart", "1"], "--apart"),
        (&["--hold"], "--together"),
        (&["--idle", "-1"], "--idle"),
        (&["--pairs", "2"], "--pairs needs --floor"),
        (&["--hold"], "--hold needs --together"),
        (
            &["churn", "--together"],
            "--together has no meaning for churn",
        ),
        (&["flood", "--together"], "--together"),
        (&["--commands", "2"], "--commands"),
        (&["--pipeline", "2"], "--pipeline"),
        (&["flood", "--pipeline", "2", "--no-replies"], "--pipeline"),
        (&["--agent-port", "6655"], "--agent-port"),
        (&["--together", "--rate", "0"], "--together"),
        (&["churn", "--idle", "1"], "--idle"),
    ] {
        let mut args = vec!["bench"];
        args.extend_from_slice(words);
        let ended = run(home.path(), &args);
        assert_eq!(ended.status, Some(2), "{words:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(named), "{words:?}: {}", ended.stderr);
    }
    // Options without a meaning for a load are noted, and the load begins: here no server listens.
    for words in [
        ["flood", "--rate", "5"],
        ["storm", "--connect-rate", "5"],
        ["dispatch", "--seconds", "1"],
        ["steady", "--api", "http://127.0.0.1:1"],
    ] {
        let args = [&["bench", "--server", "127.0.0.1:1"], &words[..]].concat();
        let ended = run(home.path(), &args);
        assert_eq!(ended.status, Some(1), "{words:?}: {}", ended.stderr);
        let told = format!("{} has no meaning for {}", words[1], words[0]);
        assert!(ended.stderr.contains(&told), "{words:?}: {}", ended.stderr);
    }
}

#[test]
fn an_absent_server_is_reported_at_once() {
    let home = Home::redis();
    let ended = run(home.path(), &["bench", "--server", "127.0.0.1:1"]);
    assert_eq!(ended.status, Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("no server at 127.0.0.1:1"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout, "");
    let words = ["bench", "--server", "127.0.0.1:1", "--json"];
    let ended = run(home.path(), &words);
    let document: Value = serde_json::from_str(&ended.stdout).expect("one document");
    assert_eq!(document["bench"], 1);
    let error = document["error"].as_str().unwrap();
    assert!(error.contains("no server at 127.0.0.1:1"), "{error}");
}

/// A server with a key from which each host has its own, and the key's file for the bench.
fn home_with_keys() -> Home {
    let mut home = Home::embedded();
    let key = "09".repeat(32);
    let write = |name: &str, text: String| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    };
    let keys = serde_json::json!({"fleet": {"key": key, "derive": true}});
    write("keys.json", keys.to_string());
    write("key", format!("fleet {key}\n"));
    write("other", format!("fleet {}\n", "08".repeat(32)));
    home.auth(serde_json::json!({"keys_file": "keys.json"}));
    home
}

#[test]
fn keyed_hosts_prove_keys_of_their_own() {
    let home = home_with_keys();
    let server = home.start();
    let words = ["--key-file", "key", "--hosts", "20", "--seconds", "1"];
    let rate = [&words[..], &["--rate", "200"]].concat();
    let report = bench(&home, &server, &rate);
    assert_eq!(report["asked"]["keyed"], true);
    assert_eq!(report["connections"]["made"], 20);
    assert_eq!(report["heartbeats"]["answered"], 200);
    assert_eq!(report["errors"], serde_json::json!({}));
    let flood = [&["flood"], &words[..]].concat();
    let report = bench(&home, &server, &flood);
    assert_eq!(report["heartbeats"]["unanswered"], 0);
    assert!(number(&report, "/heartbeats/answered") > 20.0);
    // Another key proves nothing.
    let wrong = ["--key-file", "other", "--hosts", "2", "--seconds", "1"];
    let ended = bench_ends(&home, &server, &wrong);
    assert_ne!(ended.status, Some(0), "{}", ended.stdout);
    assert!(ended.stdout.contains("not accepted"), "{}", ended.stdout);
}
