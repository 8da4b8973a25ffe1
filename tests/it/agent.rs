//! The agent from outside: the built program with a server that the test simulates, frame by frame.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::agent::Agent;
use super::support::process::{Process, runs};
use super::support::server::{program, program_path};
use super::support::{PATIENCE, accepted, until_so};

const CID: &str = "00112233445566778899aabbccddeeff";

/// Directory of an agent, and the port where its server listens.
struct Stage {
    dir: TempDir,
    listener: TcpListener,
}

impl Stage {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, allow: &Value, more: &[&str]) -> Agent {
        fs::write(self.path("allow.json"), allow.to_string()).unwrap();
        let args = ["--id", "web-1", "--source", "127.0.0.1", "--state", "state"];
        Agent::start(
            self.dir.path(),
            &self.address(),
            &[&args[..], more].concat(),
        )
    }

    /// Address of the server.
    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The agent's next connection, after the welcome.
    fn welcome(&self) -> Server {
        let mut server = self.accept();
        let hello = server.next("ADH40");
        assert_eq!(hello["id"], "web-1");
        let seq = &hello["seq"];
        server.send(&json!({"flag":"ADH40","ACK":"keepGotIt","interval_s":1.0,"seq":seq}));
        server.hello = hello;
        server
    }

    fn accept(&self) -> Server {
        let stream = accepted(&self.listener);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Server {
            stream,
            hello: Value::Null,
        }
    }
}

/// The server's end of a connection.
struct Server {
    stream: TcpStream,
    hello: Value,
}

impl Server {
    fn send(&mut self, body: &Value) {
        let body = body.to_string();
        let length = i32::try_from(body.len()).unwrap();
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend_from_slice(body.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next message of this code. Heartbeats before it are answered; facts about the host are
    /// skipped; other messages fail the test.
    fn next(&mut self, flag: &str) -> Value {
        loop {
            let length = i32::from_le_bytes(self.bytes(4).try_into().unwrap());
            let body = self.bytes(usize::try_from(length).unwrap());
            let body: Value = serde_json::from_slice(&body).unwrap();
            if body["flag"] == "ADH18" {
                self.send(&json!({"flag":"ADH18","ACK":"keepAlive","seq":body["seq"]}));
            }
            if body["flag"] == flag {
                return body;
            }
            let may_pass = body["flag"] == "ADH18" || body["flag"] == "ADH56";
            assert!(may_pass, "waiting for {flag}, got {body}");
        }
    }

    fn got_it(&mut self, message: &Value) {
        let (flag, seq) = (&message["flag"], &message["seq"]);
        self.send(&json!({"flag":flag,"ACK":"keepGotIt","seq":seq}));
    }

    fn pushes(&mut self, key: &str) {
        self.send(&json!({"flag":"ADH44","taskId":key}));
    }

    fn gives_book(&mut self, key: &str, commands: &[&str]) {
        let asked = self.next("ADH41");
        assert_eq!(asked["taskId"], key);
        let count = commands.len();
        let tasks = commands
            .iter()
            .zip(0..)
            .map(|(command, at)| json!([command, count - at]));
        let tasks: Vec<Value> = tasks.collect();
        self.send(
            &json!({"flag":"ADH41","ACK":"keepGotIt","taskId":key,"tasks":tasks,"seq":asked["seq"]}),
        );
    }

    fn answered(&mut self, key: &str, rcc: u8) {
        let answer = self.next("ADH33");
        assert_eq!(
            (&answer["taskId"], &answer["RCC"]),
            (&json!(key), &json!(rcc))
        );
    }

    /// The next phase, acknowledged.
    fn phase(&mut self, phase: u8) -> Value {
        let said = self.next("ADH27");
        assert_eq!(said["phase"], phase, "{said}");
        self.got_it(&said);
        said
    }

    /// The next result with its bytes, acknowledged.
    fn result(&mut self) -> (Value, Vec<u8>) {
        let header = self.next("ADH43");
        let size = usize::try_from(header["total_size"].as_u64().unwrap()).unwrap();
        let output = self.bytes(size);
        self.got_it(&header);
        (header, output)
    }

    fn runs(&mut self, command: &str) -> (Value, Vec<u8>) {
        assert_eq!(self.phase(2)["working"], command);
        let result = self.result();
        assert_eq!(result.0["task"], command);
        self.phase(3);
        result
    }
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn it_beats_reports_facts_and_reconnects() {
    let stage = Stage::new();
    let _agent = stage.start(&json!([]), &["--push", "--interval", "0.1"]);
    let mut server = stage.welcome();
    assert_eq!(server.hello["push"], true);
    assert!(server.hello.get("udp").is_none());
    let boot = server.hello["boot"].clone();
    assert!(boot.as_str().is_some_and(|boot| boot.len() >= 16));
    let facts = server.next("ADH56");
    assert!(
        facts["systemInfoTask"]["localAddrsIPV4"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    );
    for _ in 0..3 {
        let beat = server.next("ADH18");
        assert_eq!((&beat["reply"], beat["seq"].is_u64()), (&json!(true), true));
    }
    drop(server);
    let server = stage.welcome();
    assert_eq!(server.hello["boot"], boot, "the same process");
    // No reply from here on: the agent takes the server for dead.
    let again = stage.welcome();
    drop((server, again));
}

#[test]
fn repeated_datagrams_and_pushes_run_once() {
    let stage = Stage::new();
    let marks = stage.path("marks");
    let mark = format!("echo x >> {}", marks.display());
    let allow = json!(["echo *", {"shell": mark}]);
    let _agent = stage.start(&allow, &["--push", "--udp", "0"]);
    let mut server = stage.welcome();
    let port = u16::try_from(server.hello["udp"].as_u64().unwrap()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"AC1", ("127.0.0.1", port)).unwrap();
    server.answered("AC1", 1);
    server.gives_book("AC1", &["echo $HOME", "rm -rf /nowhere", &mark]);
    assert_eq!(server.phase(1)["oncall"].as_array().unwrap().len(), 3);
    let (header, output) = server.runs("echo $HOME");
    assert_eq!((&header["exit"], output), (&json!(0), b"$HOME\n".to_vec()));
    let (header, output) = server.runs("rm -rf /nowhere");
    assert_eq!(header["exit"], 126);
    assert!(String::from_utf8(output).unwrap().contains("allow file"));
    server.runs(&mark);
    for _ in 0..5 {
        udp.send_to(b"AC1", ("127.0.0.1", port)).unwrap();
        server.answered("AC1", 1);
        server.pushes("AC1");
        server.answered("AC1", 1);
    }
    udp.send_to(b"\xff\xfe", ("127.0.0.1", port)).unwrap();
    assert_eq!(server.next("ADH33")["RCC"], 3);
    udp.send_to(b"echo line", ("127.0.0.1", port)).unwrap();
    server.answered("echo line", 1);
    server.pushes("AC2");
    server.answered("AC2", 1);
    let asked = server.next("ADH41");
    let refusal =
        json!({"flag":"ADH41","ACK":"keepRefused","error":"no such task","seq":asked["seq"]});
    server.send(&refusal);
    server.answered("AC2", 2);
    server.send(&json!({"flag":"ADH44","command":mark,"cid":CID}));
    server.answered(CID, 1);
    let (header, _) = server.result();
    assert_eq!((&header["code"], &header["exit"]), (&json!(CID), &json!(0)));
    server.send(&json!({"flag":"ADH44","command":mark,"cid":CID}));
    server.answered(CID, 1);
    assert_eq!(lines(&marks), 2, "once for the task, once for the command");
}

#[test]
fn a_killed_agent_reports_the_task_as_lost() {
    let stage = Stage::new();
    let marks = stage.path("marks");
    let slow = format!("echo $$ >> {}; sleep 1000", marks.display());
    let allow = json!(["echo *", {"shell": slow}]);
    let mut agent = stage.start(&allow, &["--push"]);
    let mut server = stage.welcome();
    server.pushes("AC1");
    server.answered("AC1", 1);
    server.gives_book("AC1", &["echo one", &slow, "echo two"]);
    server.phase(1);
    server.runs("echo one");
    // The phase is not acknowledged, so it is sent again.
    let began = server.next("ADH27");
    until_so("the command starts", || lines(&marks) == 1);
    let beat = server.next("ADH18");
    assert!(
        beat["seq"].is_u64(),
        "heartbeats continue while a command runs"
    );
    // Its answer says that all that came before is written down, what was acknowledged too.
    server.pushes("AC_");
    assert_eq!(server.next("ADH33")["RCC"], 3);
    agent.process.kill();
    let pid = fs::read_to_string(&marks).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process_group(pid, Signal::KILL).unwrap();
    drop(agent);

    let agent = stage.start(&allow, &["--push"]);
    let boot = server.hello["boot"].clone();
    let mut server = stage.welcome();
    assert_ne!(server.hello["boot"], boot);
    let again = server.phase(2);
    assert_eq!(again, began);
    let lost = server.phase(3);
    assert_eq!(lost["lost"], true);
    assert_eq!(lost["complete"], json!(["echo one"]));
    assert_eq!(lost["oncall"], json!([slow, "echo two"]));
    for _ in 0..10 {
        server.pushes("AC1");
        server.answered("AC1", 1);
    }
    // It is idle, so the next task is run at once: nothing of the old one was begun before it.
    server.pushes("AC2");
    server.answered("AC2", 1);
    server.gives_book("AC2", &["echo new"]);
    server.phase(1);
    server.runs("echo new");
    assert_eq!(lines(&marks), 1);

    // Stopped in good order, it takes its command with it.
    server.pushes("AC3");
    server.answered("AC3", 1);
    server.gives_book("AC3", &[&slow]);
    until_so("the command starts", || lines(&marks) == 2);
    let text = fs::read_to_string(&marks).unwrap();
    let pid = text.lines().last().unwrap().to_owned();
    let mut agent = agent;
    agent.process.signal(Signal::TERM);
    assert_eq!(agent.process.ended().code(), Some(0));
    until_so("the command ends", || !runs(&pid));
}

fn pids(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn detached_processes_end_with_their_command() {
    let stage = Stage::new();
    let marks = stage.path("marks");
    // One process in a session of its own, whose parent has ended; one that ignores SIGTERM.
    let detach = format!(
        "(setsid sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 0.1; done' &); echo $$ >> {0}; sleep 1000",
        marks.display()
    );
    let endless = format!("{detach}; true");
    let allow = json!([{"shell": detach, "timeout_s": 4}, {"shell": endless}]);
    let mut agent = stage.start(&allow, &["--push"]);
    let mut server = stage.welcome();
    server.pushes("AC1");
    server.answered("AC1", 1);
    server.gives_book("AC1", &[&detach]);
    server.phase(1);
    assert_eq!(server.runs(&detach).0["exit"], 124);
    assert_eq!(pids(&marks).len(), 2);
    assert!(!pids(&marks).iter().any(|pid| runs(pid)), "out of time");

    let start = |server: &mut Server, key: &str, count: usize| {
        server.pushes(key);
        server.answered(key, 1);
        server.gives_book(key, &[&endless]);
        server.phase(1);
        server.phase(2);
        until_so("the command starts", || pids(&marks).len() == count);
    };
    start(&mut server, "AC2", 4);
    // A process that has left its parent may be noted a little later.
    until_so("the processes are noted", || {
        let text = fs::read_to_string(stage.path("state/running")).unwrap_or_default();
        text.contains("cgroup ")
            || pids(&marks)[2..]
                .iter()
                .all(|pid| text.contains(&format!("process {pid} ")))
    });
    agent.process.kill();
    assert!(
        pids(&marks)[2..].iter().any(|pid| runs(pid)),
        "it was killed"
    );
    drop(agent);
    let mut agent = stage.start(&allow, &["--push"]);
    let mut server = stage.welcome();
    // The acknowledgement of phase 2 may have come too late for the journal: the phase is then sent
    // again.
    let mut said = server.next("ADH27");
    while said["phase"] == 2 {
        server.got_it(&said);
        said = server.next("ADH27");
    }
    assert_eq!((&said["phase"], &said["lost"]), (&json!(3), &json!(true)));
    server.got_it(&said);
    until_so("the processes of the killed agent are ended", || {
        !pids(&marks).iter().any(|pid| runs(pid))
    });

    start(&mut server, "AC3", 6);
    agent.process.signal(Signal::TERM);
    assert_eq!(agent.process.ended().code(), Some(0));
    assert!(
        !pids(&marks).iter().any(|pid| runs(pid)),
        "it takes all with it"
    );
}

#[test]
fn signals_during_the_start_take_effect() {
    let stage = Stage::new();
    for signal in [Signal::HUP, Signal::TERM, Signal::INT] {
        let args = ["agent", "--id", "web-1", "--push", "--state", "state"];
        let (server, files) = (stage.address(), ["--allow", "/dev/stdin"]);
        let args = [&args[..], &["--server", &server], &files].concat();
        let mut command = program(stage.dir.path(), &args);
        let mut agent = Process::start(command.stdin(Stdio::piped()));
        agent.reads_stdin();
        agent.signal(signal);
        let mut writer = agent.stdin.take().unwrap();
        writer.write_all(b"[]").unwrap();
        drop(writer);
        match signal {
            Signal::HUP => drop(stage.welcome()),
            _ => assert_eq!(agent.ended().code(), Some(0), "{signal:?}"),
        }
    }
}

#[test]
fn commands_have_limits_of_time_and_output() {
    let stage = Stage::new();
    let allow = json!([
        {"run": "sleep *", "timeout_s": 0.3},
        "head -c 2000000 /dev/zero",
        "no-such-program"
    ]);
    let _agent = stage.start(&allow, &["--push"]);
    let mut server = stage.welcome();
    server.pushes("AC1");
    server.answered("AC1", 1);
    let commands = ["sleep 1000", "head -c 2000000 /dev/zero", "no-such-program"];
    server.gives_book("AC1", &commands);
    server.phase(1);
    let (header, output) = server.runs(commands[0]);
    assert_eq!(header["exit"], 124);
    assert!(String::from_utf8(output).unwrap().contains("0.3 s"));
    let (header, output) = server.runs(commands[1]);
    assert_eq!(
        (&header["exit"], &header["truncated"]),
        (&json!(0), &json!(true))
    );
    // The output has both ends, with a line between them that counts the missing bytes.
    assert!((1024 * 1024 - 100..=1024 * 1024).contains(&output.len()));
    assert!(output.starts_with(&[0; 1_000]) && output.ends_with(&[0; 1_000]));
    let missing = 2_000_000 - output.iter().filter(|byte| **byte == 0).count();
    let line = format!("[anthill: {missing} bytes are missing here]");
    assert!(String::from_utf8_lossy(&output).contains(&line), "{line}");
    let (header, _) = server.runs(commands[2]);
    assert_eq!(header["exit"], 127);
}

#[test]
fn reports_wait_for_an_unavailable_server() {
    let stage = Stage::new();
    let allow = json!(["echo *"]);
    let _agent = stage.start(&allow, &["--push"]);
    let mut server = stage.welcome();
    server.pushes("AC1");
    server.answered("AC1", 1);
    server.gives_book("AC1", &["echo 1"]);
    let said = server.next("ADH27");
    drop(server);
    let mut server = stage.welcome();
    assert_eq!(server.phase(1), said);
    assert_eq!(server.runs("echo 1").1, b"1\n");
}

#[test]
fn without_a_journal_only_heartbeats_are_sent() {
    let stage = Stage::new();
    let _agent = stage.start(&json!(["echo *"]), &["--push", "--interval", "0.1"]);
    let mut server = stage.welcome();
    server.pushes("AC1");
    server.answered("AC1", 1);
    // There is no room for the output of the command.
    fs::remove_dir_all(stage.path("state")).unwrap();
    server.gives_book("AC1", &["echo 1"]);
    let mut again = stage.welcome();
    assert_ne!(
        again.hello["boot"], server.hello["boot"],
        "the running task is lost"
    );
    again.pushes("AC1");
    again.pushes("AC2");
    for _ in 0..3 {
        // Any other message would fail here.
        again.next("ADH18");
    }
}

fn fails(args: &[&str], status: i32, words: &[&str]) {
    let here = Path::new(".");
    let output = program(here, &[&["agent"], args].concat())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
    let last = text.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word:?} in {text:?}");
    }
    assert!(status != 2 || text.lines().count() == 1, "one line: {text}");
}

#[test]
fn files_that_others_could_change_are_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let stage = Stage::new();
    let (allow, state) = (stage.path("allow.json"), stage.path("state"));
    let args = |allow: &Path| {
        let words = ["--server", "127.0.0.1:9", "--state"].map(str::to_owned);
        let (state, allow) = (state.display().to_string(), allow.display().to_string());
        [&words[..], &[state, "--allow".to_owned(), allow]].concat()
    };
    let refused = |allow: &Path, status, said: &[&str]| {
        let args = args(allow);
        fails(
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
            status,
            said,
        );
    };
    fs::write(&allow, "[]").unwrap();
    for mode in [0o666, 0o646, 0o664] {
        chmod(&allow, mode);
        refused(&allow, 2, &["--allow", "chmod go-w"]);
    }
    chmod(&allow, 0o644);
    let latin = stage.path("latin.json");
    fs::write(&latin, b"[\"caf\xe9\"]").unwrap();
    refused(&latin, 2, &["latin.json", "not UTF-8", "at byte 5"]);
    let victim = stage.path("victim");
    fs::write(&victim, "precious").unwrap();
    for (name, mode, said) in [
        ("journal.new", 0o777, "chmod go-w"),
        ("journal.new", 0o700, "is a link"),
        ("journal", 0o700, "is a link"),
        ("lock", 0o700, "is a link"),
    ] {
        fs::create_dir(&state).unwrap();
        symlink(&victim, state.join(name)).unwrap();
        chmod(&state, mode);
        refused(&allow, 1, &[said]);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        fs::remove_dir_all(&state).unwrap();
    }
    // A valid file may begin with a byte order mark.
    let _agent = stage.start(&json!([]), &["--push"]);
    drop(stage.welcome());
}

#[test]
fn wrong_usage_is_status_2_and_one_line() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("allow.json");
    fs::write(&file, r#"["ls", 5]"#).unwrap();
    let file = file.to_str().unwrap();
    for (args, words) in [
        (&[][..], &["--server"][..]),
        (&["--server", "x:y"], &["--server", "'x:y'", "HOST:PORT"]),
        (&["--server", "x", "--id", "a b"], &["--id", "'a b'"]),
        (&["--server", "x", "--udp", "70000"], &["--udp", "'70000'"]),
        (&["--server", "x", "--source", "me"], &["--source", "'me'"]),
        (
            &["--server", "x", "--interval", "0"],
            &["--interval", "'0'"],
        ),
        (&["--server", "x", "--allow", file], &["--allow", "entry 2"]),
        (
            &["--server", "x", "--allow", "/no/such"],
            &["--allow", "/no/such"],
        ),
    ] {
        fails(args, 2, words);
    }
}

#[test]
fn state_directory_and_port_have_one_owner() {
    let stage = Stage::new();
    let _agent = stage.start(&json!([]), &["--push"]);
    let _server = stage.welcome();
    let (state, other) = (stage.path("state"), stage.path("other"));
    let (state, other) = (state.to_str().unwrap(), other.to_str().unwrap());
    fails(
        &["--server", "x", "--push", "--state", state],
        1,
        &["in use"],
    );
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let args = [
        "--server",
        "x",
        "--source",
        "127.0.0.1",
        "--udp",
        &port,
        "--state",
        other,
    ];
    fails(&args, 1, &["datagrams", &port]);
}

#[test]
fn the_example_of_an_allow_file_is_one() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/allow.json"));
    let allow = anthill::agent::Allow::parse(&text.unwrap()).unwrap();
    assert!(allow.job("uptime").is_some());
    assert!(allow.job("rm -rf /").is_none());
}

/// Invalid messages of a server, each on a connection of its own.
#[test]
fn no_message_of_a_server_ends_the_agent() {
    let stage = Stage::new();
    let mut agent = stage.start(&json!(["echo *"]), &["--push", "--interval", "0.1"]);
    let frame = |body: &[u8]| {
        let length = i32::try_from(body.len()).unwrap();
        [&length.to_le_bytes(), body].concat()
    };
    let nested = format!(r#"{{"flag":{}1"#, "[".repeat(5_000));
    let command =
        format!(r#"{{"flag":"ADH44","command":"echo \u0000\u001b[2J\u202e","cid":"{CID}"}}"#);
    let hostile: [Vec<u8>; 11] = [
        b"\xff\xff\xff\xff".to_vec(),
        i32::MAX.to_le_bytes().to_vec(),
        vec![0; 4],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        frame(b"\xff\xfe"),
        frame(b"[]"),
        frame(nested.as_bytes()),
        frame(br#"{"flag":"ADH44","taskId":5}"#),
        frame(br#"{"flag":"ADH44","command":"echo","cid":"short"}"#),
        frame(
            br#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"AC1","tasks":[["a",1e999]],"seq":1}"#,
        ),
        frame(br#"{"flag":"ADH27","ACK":"keepNothing","seq":1}"#),
    ];
    for bytes in hostile {
        let mut server = stage.accept();
        let hello = server.next("ADH40");
        let welcome = json!({"flag":"ADH40","ACK":"keepGotIt","interval_s":1.0,"seq":hello["seq"]});
        server.send(&welcome);
        // Heartbeats are answered, so that the agent reconnects soon.
        server.next("ADH18");
        server.stream.write_all(&bytes).unwrap();
        assert!(
            agent.process.try_ended().is_none(),
            "{}",
            bytes.escape_ascii()
        );
        if bytes == i32::MAX.to_le_bytes() || bytes == [0xff; 4] || bytes == [0; 4] {
            // A length alone is enough to know: nothing is waited for.
            wait_for_end(&mut server);
        }
    }
    let mut server = stage.welcome();
    server.stream.write_all(&frame(command.as_bytes())).unwrap();
    server.answered(CID, 1);
    let (header, _) = server.result();
    assert_eq!(header["exit"], 126, "no program can be given a NUL");
    // Replies without a request, and an unrequested book.
    server.send(&json!({"flag":"ADH43","ACK":"keepGotIt","seq":9_007_199_254_740_991_u64}));
    server.send(&json!({"flag":"ADH41","ACK":"keepGotIt","taskId":"AC9","tasks":[],"seq":77}));
    server.pushes("AC1");
    server.answered("AC1", 1);
    server.gives_book("AC1", &["echo fine"]);
    server.phase(1);
    assert_eq!(server.runs("echo fine").1, b"fine\n");
}

/// Reads until the agent has closed the connection.
fn wait_for_end(server: &mut Server) {
    let mut rest = Vec::new();
    match server.stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn sighup_reloads_the_allow_file() {
    let stage = Stage::new();
    let agent = stage.start(&json!(["echo one"]), &["--push", "--interval", "0.1"]);
    let mut server = stage.welcome();
    let mut number = 0;
    let mut exit_of = |command: &str| {
        number += 1;
        let cid = format!("{number:032x}");
        server.send(&json!({"flag":"ADH44","command":command,"cid":cid}));
        server.answered(&cid, 1);
        server.result().0["exit"].clone()
    };
    let hangup = |text: &str| {
        fs::write(stage.path("allow.json"), text).unwrap();
        agent.process.signal(Signal::HUP);
    };
    assert_eq!([exit_of("echo one"), exit_of("echo two")], [0, 126]);
    hangup(r#"["echo two"]"#);
    until_so("it is read again", || exit_of("echo two") == 0);
    assert_eq!(exit_of("echo one"), 126);
    hangup("[5]");
    assert_eq!(exit_of("echo two"), 0, "a wrong one changes nothing");
}

/// A shell that limits the files of its program to a number of blocks, like a full disk.
fn with_little_disk(stage: &Stage, blocks: u32) -> Process {
    let script = format!(r#"trap "" XFSZ; ulimit -f {blocks}; exec "$@""#);
    let log = fs::File::create(stage.path("log")).unwrap();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &script, "sh"])
        .arg(program_path())
        .args(["agent", "--id", "web-1", "--push", "--interval", "0.1"])
        .args(["--server", &stage.address(), "--state", "state"])
        .args(["--allow", "allow.json"])
        .current_dir(stage.dir.path())
        .stdin(Stdio::null())
        .stderr(log);
    Process::start(&mut command)
}

#[test]
fn on_a_full_disk_only_heartbeats_are_sent() {
    let stage = Stage::new();
    let log = || fs::read_to_string(stage.path("log")).unwrap();
    let marks = stage.path("marks");
    let mark = format!("echo x >> {}", marks.display());
    let long = format!("echo {}", "x".repeat(8_000));
    fs::write(
        stage.path("allow.json"),
        json!(["echo *", {"shell": mark}]).to_string(),
    )
    .unwrap();
    let agent = with_little_disk(&stage, 8);
    let mut server = stage.welcome();
    server.pushes("AC1");
    server.answered("AC1", 1);
    // The key can still be written down, and its book cannot.
    server.gives_book("AC1", &[&mark, &long]);
    let mut again = stage.welcome();
    assert_ne!(
        again.hello["boot"], server.hello["boot"],
        "the running task is lost"
    );
    again.pushes("AC1");
    for _ in 0..3 {
        again.next("ADH18");
    }
    assert!(log().contains("cannot write the journal in"), "{}", log());
    drop(agent);

    // Not even what is there can be written anew.
    let mut agent = with_little_disk(&stage, 0);
    let mut server = stage.welcome();
    server.pushes("AC1");
    for _ in 0..3 {
        server.next("ADH18");
    }
    assert!(agent.try_ended().is_none());
    assert_eq!(lines(&marks), 0, "a task without a record is not run");
}
