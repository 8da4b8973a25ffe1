//! Both ends: the real server and the real agent, over datagrams and over the agent's connection,
//! and their state after either is killed.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::support::agent::Agent;
use super::support::process::runs;
use super::support::server::run;
use super::support::{Home, Server, http, on_both_stores, until, until_so};

on_both_stores! {
    output_is_shown_to_the_byte,
    a_killed_agent_runs_nothing_twice,
    an_agent_outlives_a_killed_server,
}

/// Starts an agent with the name of its state directory, and waits until it is online.
fn start(home: &Home, server: &Server, id: &str, how: &[&str]) -> Agent {
    let args = ["--id", id, "--state", id, "--source", "127.0.0.1"];
    let args = [&args[..], how].concat();
    let agent = Agent::start(home.path(), &server.tcp.to_string(), &args);
    until_so("the agent is online", || server.is_online(id));
    agent
}

fn allows(home: &Home, entries: &Value) {
    fs::write(home.path().join("allow.json"), entries.to_string()).unwrap();
}

/// A command that writes the number of its process group to a file, one line for each run, and runs
/// until another file exists.
struct Slow {
    marks: PathBuf,
    go: PathBuf,
    line: String,
}

impl Slow {
    fn new(home: &Home) -> Self {
        let (marks, go) = (home.path().join("marks"), home.path().join("go"));
        let line = format!(
            "echo $$ >> {}; until test -e {}; do sleep 0.02; done; echo went on",
            marks.display(),
            go.display()
        );
        Self { marks, go, line }
    }

    fn runs(&self) -> usize {
        let text = fs::read_to_string(&self.marks).unwrap_or_default();
        text.lines().count()
    }

    fn goes_on(&self) {
        fs::write(&self.go, "").unwrap();
    }

    /// Ends the processes that a killed agent has left running.
    fn end(&self) {
        let text = fs::read_to_string(&self.marks).unwrap();
        let pid = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        kill_process_group(pid, Signal::KILL).unwrap();
    }
}

/// Runs `anthill` with these words against this server. Returns status and output.
#[track_caller]
fn anthill(dir: &Path, server: &Server, args: &[&str]) -> (Option<i32>, String) {
    let api = format!("http://{}", server.http);
    let ended = run(dir, &[args, &["--api", &api]].concat());
    (ended.status, ended.stdout)
}

fn state(server: &Server, key: &str, host: &str) -> Value {
    server.json(&format!("/v1/tasks/{key}"))["hosts"][host].clone()
}

#[track_caller]
fn until_state(server: &Server, key: &str, host: &str, wanted: &str) -> Value {
    until(&format!("{host} {wanted} in {key}"), || {
        Some(state(server, key, host)).filter(|host| host["state"] == wanted)
    })
}

#[track_caller]
fn dispatched(home: &Home, server: &Server, key: &str, host: &str, commands: &[&str]) {
    let mut args = vec!["dispatch", key, "--host", host];
    for command in commands {
        args.extend(["--task", command]);
    }
    assert_eq!(anthill(home.path(), server, &args).0, Some(0));
}

fn output_is_shown_to_the_byte(home: Home) {
    let bytes = r"printf '\000\377\033[2Jx\n'; printf '\200' >&2";
    allows(&home, &json!(["echo *", {"shell": bytes}]));
    let server = home.start();
    let _by_push = start(&home, &server, "web-1", &["--push"]);
    let _by_udp = start(&home, &server, "web-2", &["--udp", "0"]);
    let refused = "rm -rf /nowhere";
    let mut args = vec!["dispatch", "AC1", "--wait=25", "--json"];
    let commands = ["echo first", refused, bytes];
    for command in commands {
        args.extend(["--task", command]);
    }
    let (status, text) = anthill(home.path(), &server, &args);
    assert_eq!(status, Some(1), "a refused command has failed: {text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    for host in ["web-1", "web-2"] {
        let told = &told["hosts"][host];
        assert_eq!(told["state"], "failed", "{told}");
        assert_eq!(told["complete"], json!(commands), "in order, to the end");
        let exits = commands.map(|command| told["results"][command]["exit"].clone());
        assert_eq!(exits, [json!(0), json!(126), json!(0)]);
        let path = format!(
            "/v1/tasks/AC1/hosts/{host}/output?command=printf%20%27%5C000%5C377%5C033%5B2Jx%5Cn%27%3B%20printf%20%27%5C200%27%20%3E%262"
        );
        let output = http::get_bytes(server.http, &path);
        assert_eq!(output, b"\0\xff\x1b[2Jx\n\x80", "byte by byte");
    }
    let (_, shown) = anthill(home.path(), &server, &["task", "AC1"]);
    assert!(
        shown.contains("exit 126") && shown.contains("allow file"),
        "{shown}"
    );
    assert!(
        !shown.contains('\x1b'),
        "what a host says does not steer the screen"
    );
    let args = ["dispatch", "AC2", "--task", "echo fine", "--wait=25"];
    let (status, text) = anthill(home.path(), &server, &args);
    assert_eq!(status, Some(0), "{text}");
}

fn a_killed_agent_runs_nothing_twice(mut home: Home) {
    home.set("dispatch.rto_ms", 200);
    let slow = Slow::new(&home);
    allows(&home, &json!(["echo *", {"shell": slow.line}]));
    let server = home.start();
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let how = ["--udp", &port.to_string()];
    let agent = start(&home, &server, "web-1", &how);
    dispatched(
        &home,
        &server,
        "AC1",
        "web-1",
        &["echo one", &slow.line, "echo two"],
    );
    until_so("the command runs", || slow.runs() == 1);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..10 {
        udp.send_to(b"AC1", ("127.0.0.1", port)).unwrap();
        // Answered with RCC 3: the server sends what is not answered, again.
        udp.send_to(b"\xff", ("127.0.0.1", port)).unwrap();
    }
    until_so("the first command is told of", || {
        state(&server, "AC1", "web-1")["complete"] == json!(["echo one"])
    });
    // Queued after the first: it has not begun, so a restart does not lose it.
    dispatched(&home, &server, "AC9", "web-1", &["echo queued"]);
    until_so("the second task is taken", || {
        let state = state(&server, "AC9", "web-1")["state"].clone();
        state == "answered" || state == "working"
    });
    drop(agent);
    slow.end();

    let _agent = start(&home, &server, "web-1", &how);
    let lost = until_state(&server, "AC1", "web-1", "lost");
    assert_eq!(lost["complete"], json!(["echo one"]));
    // The store has them in either order.
    let left = lost["oncall"].as_array().unwrap();
    let is_left = |command: &str| left.iter().any(|left| left == command);
    assert!(left.len() == 2 && is_left(&slow.line) && is_left("echo two"));
    until_state(&server, "AC9", "web-1", "done");
    for _ in 0..10 {
        udp.send_to(b"AC1", ("127.0.0.1", port)).unwrap();
    }
    // It works through another task, so it was idle: nothing of the old one was begun before it.
    dispatched(&home, &server, "AC2", "web-1", &["echo new"]);
    until_state(&server, "AC2", "web-1", "done");
    assert_eq!(slow.runs(), 1);
    assert_eq!(state(&server, "AC1", "web-1")["state"], "lost");
}

fn an_agent_outlives_a_killed_server(mut home: Home) {
    let slow = Slow::new(&home);
    allows(&home, &json!(["echo *", {"shell": slow.line}]));
    let server = home.start();
    // The same port again, so that the agent finds it.
    home.set("server.tcp", server.tcp.to_string());
    let _agent = start(&home, &server, "web-1", &["--push"]);
    dispatched(
        &home,
        &server,
        "AC1",
        "web-1",
        &["echo one", &slow.line, "echo two"],
    );
    until_so("the command runs", || slow.runs() == 1);
    server.kill();
    // The whole book is done before a server can be reached.
    slow.goes_on();
    let server = home.start();
    let done = until_state(&server, "AC1", "web-1", "done");
    assert_eq!(done["complete"].as_array().unwrap().len(), 3);
    for (command, output) in [
        ("echo one", "one\n"),
        ("echo two", "two\n"),
        (&slow.line, "went on\n"),
    ] {
        assert_eq!(done["results"][command]["output"], output, "{done}");
    }
    assert_eq!(slow.runs(), 1);
}

/// A server that accepts less than an agent sends must still get all other messages of the agent.
#[cfg(feature = "embedded")]
#[test]
fn a_refused_result_costs_only_its_output() {
    let mut home = Home::embedded();
    home.set("limits.result_bytes", 1_000);
    allows(&home, &json!(["echo *", "head -c * /dev/zero"]));
    let server = home.start();
    let _agent = start(&home, &server, "web-1", &["--push"]);
    let long = "head -c 5000 /dev/zero";
    dispatched(
        &home,
        &server,
        "AC1",
        "web-1",
        &["echo one", long, "echo two"],
    );
    let done = until_state(&server, "AC1", "web-1", "done");
    let (one, cut) = (&done["results"]["echo one"], &done["results"][long]);
    assert_eq!(
        (&one["output"], &one["truncated"]),
        (&json!("one\n"), &json!(false))
    );
    assert_eq!((&cut["size"], &cut["truncated"]), (&json!(0), &json!(true)));
    assert_eq!(done["results"]["echo two"]["output"], "two\n");
}

/// The console's lines reach both kinds of agents; only an agent with pushes returns output.
#[cfg(feature = "embedded")]
#[test]
fn a_console_command_runs_once() {
    let home = Home::embedded();
    let marks = home.path().join("marks");
    let mark = format!("echo x >> {}", marks.display());
    allows(&home, &json!(["echo *", {"shell": mark}]));
    let server = home.start();
    let agent = start(&home, &server, "web-1", &["--push"]);
    let body = json!({"command": mark, "hosts": ["web-1"]}).to_string();
    let answer = http::post(server.http, "/v1/commands", &body);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    let path = format!("/v1/commands/{}", told["id"].as_str().unwrap());
    let result = |server: &Server| {
        let told = server.json(&path);
        told.to_string().contains("\"exit\":0").then_some(())
    };
    until("the result", || result(&server));
    drop(agent);
    let _agent = start(&home, &server, "web-1", &["--push"]);
    dispatched(&home, &server, "AC1", "web-1", &["echo idle"]);
    until_state(&server, "AC1", "web-1", "done");
    assert_eq!(fs::read_to_string(&marks).unwrap(), "x\n");
}

/// Each process of this command forks and ends at once, so a scan of the process table easily misses the
/// one that runs. All of them hold the same lock.
#[cfg(feature = "embedded")]
#[test]
fn a_chain_of_forks_ends_with_its_command() {
    let home = Home::embedded();
    let path = |name: &str| home.path().join(name);
    fs::write(path("alive"), "").unwrap();
    let chain = format!(
        "exec 9>{}; flock 9; f() {{ test -e {} && f & }}; f; sleep 60",
        path("lock").display(),
        path("alive").display()
    );
    allows(
        &home,
        &json!(["echo *", {"shell": chain, "timeout_s": 0.5}]),
    );
    let server = home.start();
    let mut agent = start(&home, &server, "web-1", &["--push"]);
    let is_free = || File::open(path("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
    for key in ["AC1", "AC2", "AC3"] {
        dispatched(&home, &server, key, "web-1", &[&chain]);
        let failed = until_state(&server, key, "web-1", "failed");
        assert_eq!(failed["results"][&chain]["exit"], 124);
        assert!(is_free(), "the chain goes on after {key}");
    }
    dispatched(&home, &server, "AC4", "web-1", &[&chain]);
    until_so("the chain runs", || !is_free());
    agent.process.signal(Signal::TERM);
    agent.process.ended();
    let is_free = is_free();
    fs::remove_file(path("alive")).unwrap();
    assert!(is_free, "the chain goes on after its agent");
}

#[cfg(feature = "embedded")]
#[test]
fn cancel_ends_the_command_with_its_children() {
    let home = Home::embedded();
    let pids = home.path().join("pids");
    let line = format!(
        "sh -c 'echo $$ >> {0}; sleep 1000' & echo $$ >> {0}; sleep 1000",
        pids.display()
    );
    allows(&home, &json!([{"shell": line}, "echo *"]));
    let server = home.start();
    let _agent = start(&home, &server, "web-1", &["--push"]);
    dispatched(&home, &server, "AC1", "web-1", &[&line, "echo never"]);
    let running = || fs::read_to_string(&pids).unwrap_or_default();
    until_so("both processes run", || running().lines().count() == 2);
    let (status, answer) = anthill(home.path(), &server, &["cancel", "AC1"]);
    assert_eq!(status, Some(0), "{answer}");
    let ended = until_state(&server, "AC1", "web-1", "cancelled");
    assert_eq!(ended["complete"], json!([line]));
    assert_eq!(ended["results"][&line]["exit"], 143);
    for pid in running().lines() {
        until_so("its process has ended", || !runs(pid));
    }
    dispatched(&home, &server, "AC2", "web-1", &["echo next"]);
    until_state(&server, "AC2", "web-1", "done");
}
