//! Commands that send work and follow it: `dispatch`, `tasks`, `task`, `console`.

use super::*;

/// The program with this subcommand, asking the fake server.
fn asking(address: SocketAddr, args: &[&str]) -> Command {
    let mut command = anthill(args);
    command.env("ANTHILL_API", format!("http://{address}"));
    command
}

/// The answer of a server with two hosts about `target`.
fn fleet(target: &str) -> String {
    match target {
        "/readyz" => http("200 OK", r#"{"status":"ready"}"#),
        "/v1/hosts/web-10" => http("200 OK", &host("web-10", "online")),
        _ if target.starts_with("/v1/hosts/") => http(
            "404 Not Found",
            r#"{"error":"no host of this name is known"}"#,
        ),
        _ => match target.split_once("&target=") {
            Some((_, target)) => resolved(target),
            None => page(
                &[host("web-10", "online"), host("web-9", "offline")],
                "null",
            ),
        },
    }
}

/// The answer of such a server about an encoded target.
fn resolved(target: &str) -> String {
    let (ten, nine) = (host("web-10", "online"), host("web-9", "offline"));
    let error = |text: &str| http("400 Bad Request", &format!(r#"{{"error":"{text}"}}"#));
    match target {
        "all" | "web-%2A" | "web-%5B9-10%5D" => page(&[ten, nine], "null"),
        "web-9" | "web-%2A%2C%21web-10" => page(&[nine], "null"),
        "web-9%2C%21web-9" => page(&[], "null"),
        "wbe-9" => error("'wbe-9' matches no known host (did you mean 'web-9'?)"),
        "db-%2A" => error("'db-*' matches no known host"),
        other => panic!("no answer for {other}"),
    }
}

/// A server that accepts any task, and answers each request for it with the next of `states`, and
/// the last one again and again.
fn dispatcher(states: &'static [&'static str]) -> (SocketAddr, Receiver<Request>) {
    let (posted, requests) = channel();
    let mut looks = 0;
    let address = server(move |request| {
        if request.target == "/v1/nodes" {
            return http("200 OK", r#"{"nodes":[{"name":"n1","state":"up"}]}"#);
        }
        if request.target == "/v1/plan" {
            let wave = r#"{"hosts":2,"offline":0,"folded":"web-[9-10]"}"#;
            let plan = format!(r#"{{"hosts":2,"offline":0,"waves":[{wave}]}}"#);
            return http("200 OK", &plan);
        }
        if request.method == "POST" {
            posted.send(request).expect("the test listens");
            return http(
                "201 Created",
                r#"{"key":"AC1","hosts":{"web-10":"sent","w\u001b[2J":"offline"}}"#,
            );
        }
        if request.target == "/healthz" {
            return http("200 OK", r#"{"hosts_online":2,"key_prefix":"AC"}"#);
        }
        if request.target.starts_with("/v1/hosts") || request.target == "/readyz" {
            return fleet(&request.target);
        }
        let task = request.target.split('?').next();
        assert!(task.is_some_and(|task| task.starts_with("/v1/tasks/AC")));
        let hosts = states[looks.min(states.len() - 1)];
        looks += 1;
        http(
            "200 OK",
            &format!(
                r#"{{"key":"AC1","created":"2026-11-20T10:00:00Z","commands":[["df -h",2],["uptime",1]],"hosts":{{{hosts}}},"next":null}}"#
            ),
        )
    });
    (address, requests)
}

#[test]
fn a_dispatch_shows_the_state_of_each_host() {
    let (address, requests) = dispatcher(&[""]);
    let args = [
        "dispatch",
        "AC1",
        "--task",
        "A=b",
        "--task",
        "df -h=2.5",
        "--host",
        "web-10",
        "--host",
        "w",
        "--queue",
    ];
    let output = asking(address, &args).output().unwrap();
    assert_eq!(the_line(&output), "1 sent, 1 offline");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "HOST        STATE",
            r"w\u{1b}[2J  offline",
            "web-10      sent"
        ]
    );
    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&*request.method, &*request.target), ("POST", "/v1/tasks"));
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "key": "AC1", "commands": {"A=b": 3.5, "df -h": 2.5}, "hosts": ["web-10", "w"], "queue": true
        })
    );
}

#[test]
fn commands_come_from_a_file() {
    let (address, requests) = dispatcher(&[""]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tasks");
    std::fs::write(&file, r#"{"uptime":1,"df -h":2}"#).unwrap();
    let file = file.to_str().unwrap();
    let output = asking(address, &["dispatch", "AC1", "--tasks", file, "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["hosts"]["web-10"], "sent");
    let body = requests.recv_timeout(PATIENCE).unwrap().body;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"key": "AC1", "commands": {"uptime": 1.0, "df -h": 2.0}, "hosts": null, "queue": false})
    );
}

#[test]
fn a_refused_task_is_status_1() {
    for (status, why) in [
        ("400 Bad Request", "nobody is online"),
        ("409 Conflict", "the key was used before"),
        ("503 Service Unavailable", "the store is unavailable"),
    ] {
        let answer = http(status, &format!(r#"{{"error":"{why}"}}"#));
        let address = server(move |_| answer.clone());
        for more in [&[][..], &["--json"], &["--wait"], &["--wait=5", "--json"]] {
            let args = [&["dispatch", "AC1", "--task", "a"], more].concat();
            fails(&asking(address, &args).output().unwrap(), 1, &[status, why]);
        }
    }
    let args = ["dispatch", "AC1", "--task", "a"];
    fails(
        &asking(nobody(), &args).output().unwrap(),
        1,
        &["no server at"],
    );
}

const AT_WORK: &str = r#""a":{"state":"working","working":"df -h"},"b":{"state":"sent"}"#;
const ALL_DONE: &str = r#""a":{"state":"done","complete":["df -h","uptime"]},"b":{"state":"done"}"#;
const ONE_LOST: &str = r#""a":{"state":"done"},"b":{"state":"lost"}"#;

#[test]
fn waiting_ends_with_0_only_if_all_are_done() {
    let args = ["dispatch", "AC1", "--task", "a", "--wait"];
    let (address, _requests) = dispatcher(&[AT_WORK, AT_WORK, ALL_DONE]);
    let output = asking(address, &args).output().unwrap();
    assert_eq!(the_line(&output), "AC1: 2 done");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "HOST  STATE  WORKING  DONE",
            "a     done   -        2/2",
            "b     done   -        0/2"
        ]
    );
    for state in [
        "offline",
        "failed",
        "unanswered",
        "no-book",
        "lost",
        "expired",
    ] {
        let ended: &'static str =
            format!(r#""a":{{"state":"done"}},"b":{{"state":"{state}"}}"#).leak();
        let states: &'static [&'static str] = vec![AT_WORK, ended].leak();
        let (address, _requests) = dispatcher(states);
        let output = asking(address, &args).output().unwrap();
        let line = the_line(&output);
        assert!(
            line.contains("AC1: 1 done") && line.contains(&format!("1 {state}")),
            "{line}"
        );
        assert_eq!(output.status.code(), Some(1), "{state}");
    }
}

#[test]
fn waiting_for_json_prints_one_document() {
    for (states, status) in [(&[AT_WORK, ALL_DONE][..], 0), (&[AT_WORK, ONE_LOST], 1)] {
        let states: &'static [&'static str] = states.to_vec().leak();
        let (address, _requests) = dispatcher(states);
        let args = ["dispatch", "AC1", "--task", "a", "--wait=60", "--json"];
        let output = asking(address, &args).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["hosts"]["a"]["state"], "done");
        assert_eq!(value["commands"][0], serde_json::json!(["df -h", 2]));
        assert_eq!(value["next"], serde_json::Value::Null);
    }
}

#[test]
fn a_wait_that_times_out_ends_with_1() {
    let (address, _requests) = dispatcher(&[AT_WORK]);
    let args = ["dispatch", "AC1", "--task", "a", "--wait=0.2", "--json"];
    let output = asking(address, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(the_line(&output).contains("1 sent, 1 working when time was up"));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["hosts"]["a"]["working"], "df -h");
}

#[test]
fn waiting_outlives_a_restart_of_the_server() {
    let mut asked = 0;
    let address = server(move |_| {
        asked += 1;
        match asked {
            1 => http("201 Created", r#"{"key":"AC1","hosts":{"a":"sent"}}"#),
            2 => String::new(),
            3 => http("503 Service Unavailable", r#"{"error":"starting"}"#),
            _ => http(
                "200 OK",
                r#"{"commands":[],"hosts":{"a":{"state":"done"}},"next":null}"#,
            ),
        }
    });
    let args = ["dispatch", "AC1", "--task", "a", "--wait", "--json"];
    let output = asking(address, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("trying again") && said[1].contains("answers again"));
}

#[test]
fn tasks_are_shown_from_all_pages() {
    let answer = |request: Request| {
        let (key, next) = if request.target.contains("cursor=7") {
            ("AC1", "null")
        } else {
            ("AC2\\u202e", "7")
        };
        http(
            "200 OK",
            &format!(
                r#"{{"tasks":[{{"key":"{key}","created":"2026-11-20T10:00:00Z","hosts":{{"failed":1,"done":2}}}}],"next":{next}}}"#
            ),
        )
    };
    let address = server(answer);
    let output = asking(address, &["tasks"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("KEY") && lines[0].ends_with("HOSTS"));
    assert!(lines[1].starts_with(r"AC2\u{202e}"), "{text}");
    assert!(
        lines[2].starts_with("AC1") && lines[2].ends_with("2 done, 1 failed"),
        "{text}"
    );
    let output = asking(address, &["tasks", "--json"]).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["tasks"][1]["key"], "AC1");
    assert_eq!(value["next"], serde_json::Value::Null);
}

#[test]
fn a_task_is_shown_from_all_pages() {
    let address = server(|request| {
        let (hosts, next) = if request.target.contains("cursor=") {
            (r#""b":{"state":"sent"}"#, "null")
        } else {
            (
                r#""a":{"state":"failed","complete":["df -h"],"oncall":[],"results":{"df -h":{"exit":3,"seconds":0.25,"size":14,"sha256":"","truncated":false,"output":"one\ntwo\u001b[2J\n"}}}"#,
                "1000",
            )
        };
        http(
            "200 OK",
            &format!(
                r#"{{"key":"AC1","created":"2026-11-20T10:00:00Z","commands":[["df -h",1]],"hosts":{{{hosts}}},"next":{next}}}"#
            ),
        )
    });
    let output = asking(address, &["task", "AC1"]).output().unwrap();
    assert_eq!(the_line(&output), "1 sent, 1 failed");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for line in [
        "HOST  STATE   WORKING  DONE  FAILED",
        "a     failed  -        1/1   df -h: exit 3",
        "b     sent    -        0/1   -",
        "a: df -h: exit 3, 0.2 s",
        "    one",
        r"    two\u{1b}[2J",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line:?} in {text}"
        );
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let output = asking(address, &["task", "AC1", "--json"])
        .output()
        .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["hosts"].as_object().unwrap().len(), 2);
}

#[test]
fn an_unknown_task_is_status_1_and_one_line() {
    let (asked, requests) = channel();
    let address = server(move |request| {
        asked.send(request.target).expect("the test listens");
        http("404 Not Found", r#"{"error":"no such task"}"#)
    });
    let output = asking(address, &["task", "../AC 1"]).output().unwrap();
    fails(&output, 1, &["404", "no such task"]);
    let target = requests.recv_timeout(PATIENCE).unwrap();
    assert!(target.starts_with("/v1/tasks/..%2FAC%201?"), "{target}");
}

/// Runs the console over these lines.
fn console(address: SocketAddr, lines: &str) -> Output {
    let mut child = Process::start(asking(address, &["console"]).stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    // One that leaves early reads no more.
    let _ = stdin.write_all(lines.as_bytes());
    drop(stdin);
    child.output()
}

#[test]
fn an_unknown_host_is_refused_before_sending() {
    for command in [&["dispatch", "AC1", "--task", "a"][..], &["run", "a"]] {
        let (address, requests) = dispatcher(&[ALL_DONE]);
        let args = [command, &["--host", "web-10", "--host", "wbe-10"]].concat();
        let output = asking(address, &args).output().unwrap();
        fails(&output, 2, &["'wbe-10'", "'web-10'", "--allow-unknown"]);
        assert!(requests.try_recv().is_err(), "nothing is sent");
        let args = [&args[..], &["--allow-unknown"]].concat();
        assert_eq!(
            asking(address, &args).output().unwrap().status.code(),
            Some(0)
        );
        let body = requests.recv_timeout(PATIENCE).unwrap().body;
        assert!(body.contains("wbe-10"), "{body}");
    }
}

#[test]
fn a_target_is_resolved_before_anything_is_sent() {
    let (address, requests) = dispatcher(&[ALL_DONE]);
    let (hosts, target) = (serde_json::json!(["web-9", "web-10"]), "web-*");
    for (args, named, target) in [
        (&["run", "a", "web-[9-10]"][..], hosts, None),
        (
            &["dispatch", "--task", "a", "--target", target, "--wait"],
            serde_json::Value::Null,
            Some(target),
        ),
    ] {
        let output = asking(address, args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let body = requests.recv_timeout(PATIENCE).unwrap().body;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["hosts"], named);
        // The server resolves it once more, and refuses another number of hosts.
        assert_eq!(body["target"].as_str(), target);
        assert_eq!(body["expect"].as_u64(), target.map(|_| 2));
        let key = body["key"].as_str().unwrap();
        assert!(key.starts_with("AC2") && key.len() == 20, "{key}");
    }
    for (target, words) in [
        ("wbe-9", &["'wbe-9'", "'web-9'"][..]),
        ("web-9,!web-9", &["no host"]),
        ("all", &["'a'", "2 hosts (web-[9-10])", "--yes"]),
    ] {
        let args = ["run", "a", target];
        fails(&asking(address, &args).output().unwrap(), 2, words);
    }
    assert!(requests.try_recv().is_err(), "nothing is sent");
    let args = ["run", "a", "all", "--yes"];
    assert_eq!(
        asking(address, &args).output().unwrap().status.code(),
        Some(0)
    );
}

#[test]
fn a_task_that_goes_to_no_host_is_status_1() {
    let address = server(|_| http("201 Created", r#"{"key":"AC1","hosts":{"a":"offline"}}"#));
    let args = ["dispatch", "AC1", "--task", "a"];
    let output = asking(address, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(the_line(&output).contains("AC1 was sent to no host: 1 offline"));
    let args = [&args[..], &["--json"]].concat();
    assert_eq!(
        asking(address, &args).output().unwrap().status.code(),
        Some(1)
    );
}

/// A server with one task of two hosts, one of which failed. Its long output must be requested
/// separately.
fn one_failed(request: Request) -> String {
    let target = request.target.as_str();
    if request.method == "POST" {
        return http(
            "201 Created",
            r#"{"key":"AC1","hosts":{"a":"sent","b":"sent"}}"#,
        );
    }
    if target == "/healthz" {
        return http("200 OK", r#"{"hosts_online":2}"#);
    }
    if target.contains("/output?") {
        return match target {
            _ if target.ends_with("/hosts/b/output?command=df%20-h") => {
                http("200 OK", &format!("{}\u{1b}[2J\n", "line\n".repeat(2_000)))
            }
            _ if target.contains("/hosts/b/output?command=") => {
                http("404 Not Found", r#"{"error":"no such output"}"#)
            }
            _ => http("200 OK", "fine\n"),
        };
    }
    let result = |exit: i32, size: u32, output: &str| {
        format!(
            r#"{{"exit":{exit},"seconds":0.25,"size":{size},"truncated":false,"output":"{output}"}}"#
        )
    };
    http(
        "200 OK",
        &format!(
            r#"{{"commands":[["df -h",1]],"hosts":{{"a":{{"state":"done","results":{{"df -h":{}}}}},"b":{{"state":"failed","results":{{"df -h":{}}}}}}},"next":null}}"#,
            result(0, 5, r"fine\n"),
            result(3, 10_005, r"line\nline\n")
        ),
    )
}

#[test]
fn a_run_shows_whole_outputs_and_how_each_ended() {
    let address = server(one_failed);
    let output = asking(address, &["run", "df -h"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = the_line(&output);
    assert!(line.contains(": 1 done, 1 failed"), "{line}");
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "b: df -h: exit 3, 0.2 s");
    assert_eq!(lines.len(), 1 + 2_001 + 2, "{text:.400}");
    assert_eq!(lines[2_001], r"    \u{1b}[2J");
    assert_eq!(&lines[2_002..], ["a: df -h: exit 0, 0.2 s", "    fine"]);
    let output = asking(address, &["run", "df -h", "-L"]).output().unwrap();
    assert!(stdout(&output).ends_with("b: line\nb: \\u{1b}[2J\na: fine\n"));
}

#[test]
fn an_output_is_printed_whole_and_as_it_is() {
    let address = server(one_failed);
    for args in [
        &["output", "AC1", "b", "df -h"][..],
        &["output", "AC1", "b"],
    ] {
        let output = asking(address, args).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        assert_eq!(
            stdout(&output),
            format!("{}\u{1b}[2J\n", "line\n".repeat(2_000))
        );
    }
    for (args, words) in [
        (&["c", "df -h"][..], &["no host 'c'"][..]),
        (&["b", "df"], &["'df'", "output of 'df -h'"]),
        (&["c"], &["no host 'c'"]),
    ] {
        let args = [&["output", "AC1"], args].concat();
        let address = server(|request| match request.target.contains("/hosts/c/output") {
            true => http("404 Not Found", r#"{"error":"no such output"}"#),
            false => one_failed(request),
        });
        fails(&asking(address, &args).output().unwrap(), 1, words);
    }
}

#[test]
fn a_task_is_filtered_by_state_and_host() {
    let address = server(one_failed);
    let shown = |more: &[&str]| {
        let args = [&["task", "AC1", "--json"], more].concat();
        let output = asking(address, &args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let hosts = value["hosts"].as_object().unwrap().keys();
        hosts.cloned().collect::<Vec<String>>()
    };
    assert_eq!(shown(&["--failed"]), ["b"]);
    assert_eq!(shown(&["--host", "a"]), ["a"]);
    assert!(shown(&["--host", "a", "--failed"]).is_empty());
    let output = asking(address, &["task", "AC1", "--host", "c"]).output();
    fails(&output.unwrap(), 1, &["no host 'c'"]);
    let output = asking(address, &["task", "AC1"]).output().unwrap();
    let text = stdout(&output);
    assert!(text.contains("anthill output AC1 b 'df -h'"), "{text}");
}

#[test]
fn one_host_is_shown_and_a_mistyped_one_named() {
    let address = server(|request| fleet(&request.target));
    let output = asking(address, &["host", "web-10"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(
        text.contains("STATE      online") && text.contains("10.0.0.1"),
        "{text}"
    );
    let output = asking(address, &["host", "web-11"]).output().unwrap();
    fails(&output, 1, &["'web-11'", "'web-10'"]);
    let args = ["hosts", "web-*", "!web-10", "--json"];
    let output = asking(address, &args).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["hosts"][0]["id"], "web-9");
    assert_eq!(value["hosts"].as_array().unwrap().len(), 1);
    let output = asking(address, &["hosts", "db-*"]).output().unwrap();
    fails(&output, 2, &["'db-*'", "no known host"]);
}

#[test]
fn hosts_are_forgotten_by_target_or_age() {
    let (asked, requests) = channel();
    let address = server(move |request| {
        if request.method != "DELETE" {
            return fleet(&request.target);
        }
        let answer = match request.target.as_str() {
            "/v1/hosts/web-9" => http("200 OK", "{}"),
            _ => http("409 Conflict", r#"{"error":"web-10 is online"}"#),
        };
        asked.send(request.target).expect("the test listens");
        answer
    });
    let said = |args: &[&str], status| {
        let output = asking(address, &[&["forget"], args].concat()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["web-9"], 0).contains("1 forgotten"));
    assert_eq!(requests.recv_timeout(PATIENCE).unwrap(), "/v1/hosts/web-9");
    let mixed = said(&["web-*"], 1);
    assert!(mixed.contains("web-10 is online") && mixed.contains("1 forgotten, 1 kept"));
    assert_eq!(requests.iter().take(2).count(), 2);
    assert!(said(&["wbe-9"], 2).contains("'web-9'"));
    assert!(said(&["--offline-for", "1000000d"], 0).contains("0 forgotten"));
    assert!(said(&["--offline-for", "soon"], 2).contains("'soon'"));
    assert!(said(&[], 2).contains("--offline-for"));
    assert!(requests.try_recv().is_err());
}

#[test]
fn events_are_shown_and_followed_by_name() {
    let event = |name: &str, seq: u32| {
        format!(r#"{{"event":"{name}","host":"web-1","at":1000,"node":"n","seq":{seq}}}"#)
    };
    let mut asked = 0;
    let address = server(move |request| {
        let (one, two) = (event("online", 1), event("offline", 2));
        if request.target.starts_with("/v1/events/recent?limit=") {
            return http("200 OK", &format!(r#"{{"events":[{one},{two}]}}"#));
        }
        assert_eq!(request.target, "/v1/events");
        asked += 1;
        let events = match asked {
            1 => format!(": events\n\nid: 1\ndata: {one}\n\nid: 2\ndata: {two}\n\n"),
            _ => format!("data: {}\n\n", event("offline", 3)),
        };
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{events}"
        )
    });
    let output = asking(address, &["events"]).output().unwrap();
    assert_eq!(
        stdout(&output),
        "1970-01-01T00:00:01.000Z  online        web-1\n1970-01-01T00:00:01.000Z  offline       web-1\n"
    );
    let args = ["events", "--event", "offline", "--json"];
    let output = asking(address, &args).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["events"].as_array().unwrap().len(), 1);
    let args = [&args[..], &["--follow"]].concat();
    let mut child = Process::start(&mut asking(address, &args));
    let lines = lines(child.stdout.take().unwrap());
    // The second stream is another: one that ends is asked for again.
    for seq in [2, 3] {
        let line = lines.recv_timeout(PATIENCE).expect("a line in time");
        let value: serde_json::Value = serde_json::from_str(&line).expect("a document a line");
        assert_eq!(
            (&value["event"], &value["seq"]),
            (&"offline".into(), &seq.into())
        );
    }
    fails(
        &asking(nobody(), &["events", "--follow"]).output().unwrap(),
        1,
        &["no server at"],
    );
}

#[test]
fn colour_is_for_terminals_or_on_request() {
    let address = server(|request| fleet(&request.target));
    let shown = |more: &[&str]| {
        let args = [&["hosts"], more].concat();
        stdout(&asking(address, &args).output().unwrap())
    };
    assert!(!shown(&[]).contains('\u{1b}'));
    assert!(!shown(&["--color", "never"]).contains('\u{1b}'));
    let text = shown(&["--color=always"]);
    assert!(text.contains("\u{1b}[32monline\u{1b}[0m"), "{text:?}");
    assert!(text.contains("\u{1b}[31moffline\u{1b}[0m"), "{text:?}");
}

#[test]
fn the_console_shows_which_hosts_answer() {
    let (posted, requests) = channel();
    let mut looks = 0;
    let address = server(move |request| {
        if request.method == "POST" {
            assert_eq!(request.target, "/v1/commands");
            posted.send(request.body).expect("the test listens");
            return http(
                "202 Accepted",
                r#"{"id":"00ff","hosts":{"a":"sent","b":"offline"}}"#,
            );
        }
        if request.target.starts_with("/v1/hosts/") {
            return http("200 OK", "{}");
        }
        assert_eq!(request.target, "/v1/commands/00ff");
        looks += 1;
        http(
            "200 OK",
            match looks {
                1 => r#"{"id":"00ff","hosts":{"a":{"state":"sent"},"b":{"state":"offline"}}}"#,
                2 => r#"{"id":"00ff","hosts":{"a":{"state":"answered","results":{}}}}"#,
                _ => {
                    r#"{"id":"00ff","hosts":{"a":{"state":"answered","results":{"df -h":{"exit":0,"seconds":1,"size":5,"output":"\u001b[2J\n"}}}}}"#
                }
            },
        )
    });
    let output = console(address, "\n  \n@a @b df -h\n@a\nexit()\n@a reboot\n");
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "sent to 1: a",
            "offline: b",
            "a: has it",
            "a: df -h: exit 0, 1.0 s",
            r"    \u{1b}[2J"
        ]
    );
    let said = String::from_utf8(output.stderr).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("'df -h': of 2 hosts 1 offline"));
    assert!(said[1].contains("there is no command"));
    let body = requests.recv_timeout(PATIENCE).unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"command": "df -h", "hosts": ["a", "b"]})
    );
    assert!(requests.try_recv().is_err(), "nothing after exit()");
}

#[test]
fn the_console_outlives_errors() {
    let address = server(|request| match request.target.as_str() {
        "/v1/commands" => {
            assert!(request.body.contains(r#""hosts":null"#), "{}", request.body);
            http("400 Bad Request", r#"{"error":"nobody is online"}"#)
        }
        "/healthz" => http("200 OK", r#"{"hosts_online":10}"#),
        target if target.starts_with("/v1/tasks") => {
            http("200 OK", r#"{"tasks":[{"key":"AC7"}],"next":null}"#)
        }
        _ => page(&[host("web-1", "online")], "null"),
    });
    let output = console(address, "@all reboot\nhosts\ntasks\nhelp");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(
        said.starts_with("anthill: ") && said.contains("nobody is online"),
        "{said}"
    );
    let text = stdout(&output);
    for word in ["web-1", "AC7", "@all COMMAND"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert_eq!(console(address, "hosts\n").status.code(), Some(0));
    for leaving in ["exit", "exit()", "quit", "q", ""] {
        let output = console(nobody(), leaving);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
    let output = console(nobody(), "@all reboot\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(the_line(&output).contains("no server at"));
}

#[test]
fn a_line_without_a_target_is_refused() {
    let address = server(|request| {
        assert_ne!(request.method, "POST", "{}", request.body);
        match request.target.as_str() {
            "/healthz" => http("200 OK", r#"{"hosts_online":11}"#),
            target => fleet(target),
        }
    });
    for (line, words) in [
        ("reboot", &["'reboot'", "@all reboot"][..]),
        ("quti", &["'quti'", "'quit'"]),
        ("task", &["task KEY"]),
        ("@wbe-10 reboot", &["'wbe-10'", "'web-10'"]),
        ("@db-* reboot", &["'db-*'"]),
        ("@all reboot", &["all 11 hosts", "--yes"]),
    ] {
        let output = console(address, line);
        fails(&output, 1, words);
    }
}
