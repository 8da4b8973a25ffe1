//! The command line from outside: the built program, its exit status, and its output.
//!
//! For commands that need a server, a thread of the test answers each request by a function, so
//! that it can also give invalid answers.

mod man;
mod work;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::Signal;

use super::support::PATIENCE;
use super::support::process::Process;
use super::support::server::{lines, program};

/// The program with these arguments.
fn anthill(args: &[&str]) -> Command {
    program(Path::new("."), args)
}

fn run(args: &[&str]) -> Output {
    anthill(args).output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is text")
}

/// The one line on stderr; fails if there is not exactly one.
fn the_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).expect("stderr is text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {text:?}");
    assert!(text.ends_with('\n'), "a whole line: {text:?}");
    lines[0].to_owned()
}

/// Checks that it ended with `status`, nothing on stdout, and a line with all of `words`.
fn fails(output: &Output, status: i32, words: &[&str]) {
    let line = the_line(output);
    assert_eq!(output.status.code(), Some(status), "{line}");
    assert_eq!(stdout(output), "", "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} in {line:?}");
    }
}

#[test]
fn wrong_usage_is_status_2_and_one_line() {
    for (args, words) in [
        (&["--bogus"][..], &["'--bogus'", "--store", "--tcp"][..]),
        (
            &["--verbose"],
            &["'--verbose' is no flag of 'anthill': it may be"],
        ),
        (
            &["serve", "--stroe", "x"],
            &["'--stroe'", "did you mean '--store'"],
        ),
        (
            &["hsots"],
            &["'hsots'", "did you mean 'hosts'", "anthill --help"],
        ),
        (&["dispatsh"], &["'dispatsh'", "did you mean 'dispatch'"]),
        (
            &["frobnicate"],
            &["'frobnicate' is no subcommand: see 'anthill --help'"],
        ),
        (
            &["dispatch"],
            &["one of --task, --tasks, --retry is missing: see 'anthill dispatch --help'"],
        ),
        (
            &["dispatch", "AC1"],
            &["one of --task, --tasks, --retry is missing"],
        ),
        (&["dispatch", "", "--task", "a"], &["KEY is given no value"]),
        (&["task"], &["KEY is missing: see 'anthill task --help'"]),
        (
            &["agent"],
            &["--server is missing: see 'anthill agent --help'"],
        ),
        (
            &["dispatch", "AC1", "--task", "a", "--tasks", "f"],
            &["--task", "--tasks"],
        ),
        (
            &["dispatch", "AC1", "--task", "a", "--wait=soon"],
            &["--wait", "'soon'", "a number of seconds"],
        ),
        (
            &["dispatch", "AC1", "--task", "a", "--wait=-1"],
            &["--wait", "'-1'", "a number of seconds"],
        ),
        (
            &["dispatch", "AC1", "--task", "up=1", "--task", "up"],
            &["--task", "'up'", "twice"],
        ),
        (
            &["dispatch", "AC1", "--task", "up=1e999"],
            &["--task", "'up=1e999'", "finite"],
        ),
        (&["dispatch", "AC1", "--task", "=1"], &["--task", "empty"]),
        (
            &["dispatch", "AC1", "--tasks", "/nowhere/f"],
            &["--tasks", "'/nowhere/f'", "No such file"],
        ),
        (&["console", "now"], &["'now'", "--api"]),
        (&["--auth", "some"], &["--auth", "'some'", "it may be none"]),
        (
            &["--log-level", "loud"],
            &["--log-level", "'loud'", "error, warn, info"],
        ),
        (
            &["--config"],
            &["--config is given no value, and takes one"],
        ),
        (
            &["--config", "a", "--config", "b"],
            &["--config", "more than once"],
        ),
        (&["--tcp", "1", "hosts"], &["'hosts'", "flags go after it"]),
        (
            &["hosts", "--online", "--offline"],
            &["--online", "--offline"],
        ),
        (&["hosts", "--json=yes"], &["--json", "'yes'"]),
        (&["hosts", "@w/b"], &["'@w/b'", "a group may be"]),
        (&["label", "web-1", "dc"], &["'dc'", "KEY=VALUE"]),
        (
            &["agent", "--server", "a", "--label", "dc"],
            &["--label is 'dc'", "KEY=VALUE"],
        ),
        (&["hosts", ""], &["TARGET", "empty"]),
        (&["run"], &["COMMAND is missing", "missing"]),
        (&["run", " "], &["COMMAND", "empty"]),
        (&["run", "a", "web-*", "--host", "b"], &["--host", "TARGET"]),
        (&["output", "AC1"], &["HOST is missing"]),
        (&["host"], &["NAME is missing"]),
        (
            &["hosts", "--color", "red"],
            &["--color", "'red'", "always"],
        ),
        (
            &["hosts", "--api", "ftp://x"],
            &["--api", "'ftp://x'", "http://HOST:PORT"],
        ),
        (
            &["hosts", "--token-file", "/nowhere/token"],
            &["--token-file", "'/nowhere/token'", "No such file"],
        ),
        (
            &["check-config", "--tcp", "1"],
            &["'--tcp'", "anthill check-config", "--config"],
        ),
        (&["completions"], &["SHELL is missing: it may be bash"]),
        (
            &["bench", "--hosts", "many"],
            &["--hosts is 'many': it may be a whole number from 1 to 1000000"],
        ),
        (&["bench", "--hosts", "0"], &["--hosts is '0'", "from 1 to"]),
        (
            &["bench", "--seed", "x"],
            &["--seed is 'x'", "a whole number"],
        ),
        (
            &["bench", "--cpu", "x"],
            &["--cpu is 'x'", "a whole number"],
        ),
        (&["bench", "--rate", "x"], &["--rate is 'x'", "a number of"]),
        (
            &["agent", "--server", "h", "--interval", "soon"],
            &["--interval is 'soon'", "a number of seconds"],
        ),
        (
            &["completions", "basch"],
            &["'basch'", "did you mean 'bash'", "fish"],
        ),
        (&["--two\nlines"], &[r"--two\u{a}lines"]),
        (
            &["check-config", "--config", "/nowhere/config.json"],
            &["/nowhere/config.json"],
        ),
        (
            &["serve", "--config", "/nowhere/config.json"],
            &["/nowhere/config.json"],
        ),
        (
            &["--config", "/nowhere/config.json"],
            &["--config", "/nowhere/config.json"],
        ),
        (
            &["--store", "/nowhere"],
            &["--store", "\"/nowhere\"", "embedded:DIR"],
        ),
    ] {
        fails(&run(args), 2, words);
    }
}

#[test]
fn a_wrong_environment_is_named() {
    let output = anthill(&["hosts"]).env("ANTHILL_API", "nonsense").output();
    fails(&output.unwrap(), 2, &["ANTHILL_API", "'nonsense'"]);
    let output = anthill(&["hosts"])
        .env("ANTHILL_TOKEN_FILE", "/nowhere/t")
        .output();
    fails(&output.unwrap(), 2, &["ANTHILL_TOKEN_FILE", "'/nowhere/t'"]);
    let output = anthill(&["hosts", "--api", "http://127.0.0.1:1"])
        .env("ANTHILL_API", "")
        .env("ANTHILL_TOKEN_FILE", "")
        .output();
    fails(&output.unwrap(), 1, &["no server at http://127.0.0.1:1:"]);
}

#[test]
fn help_and_version_are_results() {
    for args in [&["--help"][..], &["-h"], &["help"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        let text = stdout(&output);
        for word in [
            "serve",
            "hosts",
            "dispatch",
            "tasks",
            "task",
            "console",
            "check-config",
            "health",
            "completions",
            "--config",
            "--version",
        ] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
    let text = stdout(&run(&["hosts", "--help"]));
    assert!(
        text.contains("--watch") && text.contains("--token-file"),
        "{text}"
    );
    let version = format!("anthill {}\n", env!("CARGO_PKG_VERSION"));
    for args in [&["--version"][..], &["-V"], &["hosts", "--version"]] {
        let output = run(args);
        assert_eq!(
            (output.status.code(), stdout(&output)),
            (Some(0), version.clone())
        );
    }
}

#[test]
fn completions_know_the_flags_in_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let text = stdout(&output);
        for word in [
            "check-config",
            "log-level",
            "watch",
            "dispatch",
            "queue",
            "console",
        ] {
            assert!(text.contains(word), "{word} for {shell}");
        }
    }
}

/// A request as the fake server sees it: its method, its path with the query, its token, and what
/// it carries.
struct Request {
    method: String,
    target: String,
    authorization: Option<String>,
    body: String,
}

/// Answers every request, one a connection, until the test ends.
fn server(mut answer: impl FnMut(Request) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let request = read_request(&stream);
            // A client that has gone already has nothing to learn.
            let _ = stream.write_all(answer(request).as_bytes());
        }
    });
    address
}

fn read_request(stream: &TcpStream) -> Request {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    };
    let first = next();
    let mut words = first.split(' ').map(str::to_owned);
    let method = words.next().expect("a method");
    let target = words.next().expect("a target");
    let mut authorization = None;
    let mut length = 0;
    loop {
        let line = next();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').expect("a header");
        if name.eq_ignore_ascii_case("authorization") {
            authorization = Some(value.trim().to_owned());
        }
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().expect("a length");
        }
        if name.eq_ignore_ascii_case("content-type") {
            assert_eq!(value.trim(), "application/json");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a whole body");
    Request {
        method,
        target,
        authorization,
        body: String::from_utf8(body).expect("text"),
    }
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn host(id: &str, state: &str) -> String {
    format!(
        r#"{{"id":"{id}","ip":"10.0.0.1","state":"{state}","reason":null,"since":"2026-11-20T10:00:00Z","last_seen":"2026-11-20T10:00:00Z","hostname":"h\u001b[2J","mac":null,"ipv4":[]}}"#
    )
}

fn page(hosts: &[String], next: &str) -> String {
    http(
        "200 OK",
        &format!(r#"{{"hosts":[{}],"next":{next}}}"#, hosts.join(",")),
    )
}

fn hosts(address: SocketAddr, more: &[&str]) -> Command {
    let api = format!("http://{address}");
    let mut command = anthill(&["hosts", "--api", &api]);
    command.args(more);
    command
}

/// A server with three hosts on two pages.
fn small_fleet() -> SocketAddr {
    server(|request| {
        if request.target.contains("cursor=a%20b") {
            page(&[host("web-2", "offline")], "null")
        } else {
            page(
                &[host("web-10", "online"), host("10.0.0.7", "online")],
                r#""a b""#,
            )
        }
    })
}

#[test]
fn hosts_are_shown_from_all_pages_in_order() {
    let output = hosts(small_fleet(), &[]).output().unwrap();
    assert_eq!(the_line(&output), "2 online, 1 offline");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let first: Vec<&str> = text
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(first, ["ID", "10.0.0.7", "web-2", "web-10"]);
    assert!(text.contains(r"h\u{1b}[2J"), "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "nothing steers the terminal: {text:?}"
    );
}

#[test]
fn json_is_one_document_of_all_pages() {
    let output = hosts(small_fleet(), &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["hosts"].as_array().unwrap().len(), 3);
    assert_eq!(value["hosts"][1]["id"], "web-2");
    assert_eq!(value["next"], serde_json::Value::Null);
}

#[test]
fn states_and_the_token_go_to_the_server() {
    let (asked, requests) = channel();
    let address = server(move |request| {
        asked.send(request).expect("the test listens");
        page(&[], "null")
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let output = hosts(address, &["--online"])
        .env("ANTHILL_TOKEN_FILE", &file)
        .output()
        .unwrap();
    assert_eq!(the_line(&output), "0 online");
    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert!(
        request.target.contains("state=online"),
        "{}",
        request.target
    );
    assert_eq!(request.authorization.as_deref(), Some("Bearer s3cret"));
    let output = hosts(address, &["--offline"]).output().unwrap();
    assert_eq!(the_line(&output), "0 offline");
    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert!(
        request.target.contains("state=offline"),
        "{}",
        request.target
    );
    assert_eq!(request.authorization, None);
}

#[test]
fn invalid_answers_are_status_1() {
    let cases = [
        (
            http("401 Unauthorized", r#"{"error":"x"}"#),
            &["token", "--token-file"][..],
        ),
        (
            http("421 Misdirected Request", r#"{"error":"not me"}"#),
            &["421", "not me"],
        ),
        (http("500 Internal Server Error", ""), &["500"]),
        (http("302 Found", "<html>"), &["302"]),
        (
            http("200 OK", "<html>\n</html>"),
            &["no answer of an Anthill server"],
        ),
        (
            http("200 OK", r#"{"hosts":[{"state":1}],"next":null}"#),
            &["no answer of an Anthill"],
        ),
        (
            http("200 OK", "{}"),
            &["no answer of an Anthill server", "hosts"],
        ),
        (page(&[], "7"), &["no end"]),
        (
            "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
            &["no answer of an Anthill server"],
        ),
        (String::new(), &["no server at"]),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_owned(),
            &["http://127.0.0.1"],
        ),
    ];
    for (answer, words) in cases {
        let address = server(move |_| answer.clone());
        fails(&hosts(address, &[]).output().unwrap(), 1, words);
        fails(&hosts(address, &["--json"]).output().unwrap(), 1, words);
    }
}

/// An address without a listener.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

#[test]
fn an_absent_server_is_status_1() {
    let address = nobody();
    let line = format!(
        "anthill: no server at http://{address}: connection refused (is it running? see --api)"
    );
    fails(&hosts(address, &[]).output().unwrap(), 1, &[&line]);
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    let address = small_fleet();
    for args in [&[][..], &["--json"], &["--watch"]] {
        // The reader is gone from the beginning: one that stops later might be noticed too late.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = Process::start(hosts(address, args).stdout(writer));
        let output = child.output();
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn watching_shows_changes_and_outlives_outages() {
    // The server's answers in turn: the same twice, away, then a change that stays.
    let mut asked = 0;
    let address = server(move |_| {
        asked += 1;
        match asked {
            1 | 2 => page(&[host("a", "online")], "null"),
            3 => http("503 Service Unavailable", r#"{"error":"starting"}"#),
            _ => page(&[host("a", "offline")], "null"),
        }
    });
    let mut child = Process::start(&mut hosts(address, &["--watch", "--json"]));
    let results = lines(child.stdout.take().unwrap());
    let remarks = lines(child.stderr.take().unwrap());
    let state = || {
        let line = results.recv_timeout(PATIENCE).expect("a line in time");
        let value: serde_json::Value = serde_json::from_str(&line).expect("a document a line");
        assert_eq!(value["id"], "a");
        value["state"].as_str().expect("a state").to_owned()
    };
    assert_eq!(state(), "online");
    assert_eq!(state(), "offline");
    let remark = remarks.recv_timeout(PATIENCE).unwrap();
    assert!(
        remark.contains("503") && remark.contains("trying again"),
        "{remark}"
    );
    let remark = remarks.recv_timeout(PATIENCE).unwrap();
    assert!(remark.contains("answers again"), "{remark}");
}

#[test]
fn sighup_moves_the_log_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let configure = |log: serde_json::Value| {
        let any = "127.0.0.1:0";
        let config = serde_json::json!({
            "server": {"tcp": any, "udp": any, "http": any},
            "store": {"url": format!("embedded:{}", path("data").display()), "spool": path("spool")},
            "log": log,
        });
        std::fs::write(path("config.json"), config.to_string()).unwrap();
    };
    configure(serde_json::json!({"file": path("one.log")}));
    let config = path("config.json");
    let mut child = Process::start(&mut anthill(&["--config", config.to_str().unwrap()]));
    let said = lines(child.stderr.take().unwrap());
    let ready = lines(child.stdout.take().unwrap());
    assert!(ready.recv_timeout(PATIENCE).unwrap().contains(" ready "));
    configure(serde_json::json!({"file": path("two.log"), "format": "json"}));
    child.signal(Signal::HUP);
    let line = loop {
        let line = said.recv_timeout(PATIENCE).expect("the log goes on");
        if line.contains("read again") {
            break line;
        }
    };
    let line: serde_json::Value = serde_json::from_str(&line).expect("lines are JSON now");
    assert!(line.to_string().contains("log.file: "), "{line}");
    child.kill();
    let one = std::fs::read_to_string(path("one.log")).unwrap();
    assert!(
        one.contains("store: up") && !one.contains("read again"),
        "{one}"
    );
    assert!(path("two.log").exists());
}
