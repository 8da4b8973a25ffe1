//! The program as a process: its ready line, its log, its signals and its end.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::{PATIENCE, Process, http, process, until, until_or};

/// A running server. Dropped, it is killed.
pub struct Server {
    process: Process,
    /// Address for hosts.
    pub tcp: SocketAddr,
    /// Address for datagrams.
    pub udp: SocketAddr,
    /// Address of the HTTP API.
    pub http: SocketAddr,
    /// The ready line.
    pub ready: String,
    log: Log,
}

/// Path of the built program: from cargo, or next to the test's own directory if the test was started by hand.
pub fn program_path() -> PathBuf {
    if let Some(path) = std::env::var_os("CARGO_BIN_EXE_anthill") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("target/debug/deps/it");
    profile.join("anthill")
}

/// The program in `dir`, with none of its variables in the environment and with pipes for its output.
pub fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program_path());
    command
        .args(args)
        .current_dir(dir)
        .env_remove("ANTHILL_API")
        .env_remove("ANTHILL_TOKEN_FILE")
        .env_remove("ANTHILL_FAULT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Server {
    /// Starts the program with `args` in `dir` and waits for its ready line.
    pub fn start(dir: &Path, args: &[&str], environment: &[(String, String)]) -> Self {
        let mut command = program(dir, args);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::of(&mut command)
    }

    /// Starts `command`, which becomes the program, and waits for its ready line.
    pub fn of(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let log = Log::of(process.stderr.take().expect("a pipe"));
        let output = lines(process.stdout.take().expect("a pipe"));
        let Ok(ready) = output.recv_timeout(PATIENCE) else {
            process.kill();
            panic!("not ready: {:?}", log.lines());
        };
        let address = |name: &str| -> SocketAddr {
            let word = ready.split(' ').find_map(|word| word.strip_prefix(name));
            word.expect(name).parse().expect(name)
        };
        Self {
            tcp: address("tcp="),
            udp: address("udp="),
            http: address("http="),
            process,
            ready,
            log,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its memory now, in bytes.
    #[track_caller]
    pub fn resident(&self) -> u64 {
        process::memory(self.pid())
    }

    /// Returns whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.try_ended().is_none()
    }

    /// Its exit status, if it has ended.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_ended()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        self.process.ended()
    }

    /// Asks it to stop and waits until it has: status 0.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().code(), Some(0), "{:?}", self.log());
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a line of the log that has all of `words`, and returns it.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> String {
        self.log.line_with(words)
    }

    /// Response to a GET: the status and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = http::get(self.http, path);
        (answer.status, answer.body)
    }

    /// Response to a POST: the status and the JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = http::post(self.http, path, &body.to_string());
        let json = serde_json::from_str(&answer.body).expect("JSON");
        (answer.status, json)
    }

    /// Sends a task. Returns the state of each host.
    #[track_caller]
    pub fn dispatch(&self, task: &Value) -> Value {
        let (status, answer) = self.post("/v1/tasks", task);
        assert_eq!(status, 201, "{answer}");
        answer["hosts"].clone()
    }

    /// State of a host in a task.
    #[track_caller]
    pub fn task_state(&self, key: &str, host: &str) -> String {
        let task = self.json(&format!("/v1/tasks/{key}"));
        let state = task["hosts"][host]["state"].as_str();
        state
            .unwrap_or_else(|| panic!("no {host} in {task}"))
            .to_owned()
    }

    /// Waits until a host has this state in a task.
    #[track_caller]
    pub fn until_task(&self, key: &str, host: &str, state: &str) {
        let mut last = String::new();
        let so = until_or(|| {
            last = self.task_state(key, host);
            (last == state).then_some(())
        });
        assert!(so.is_some(), "{key} {host}: {last}, not {state}");
    }

    /// The JSON it answers to GET.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// One host, if it is known.
    pub fn host(&self, host: &str) -> Option<Value> {
        let (status, body) = self.get(&format!("/v1/hosts/{host}"));
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    /// Returns whether a host is online.
    pub fn is_online(&self, host: &str) -> bool {
        self.host(host)
            .is_some_and(|host| host["state"] == "online")
    }

    /// Waits until a host is offline, and returns it.
    #[track_caller]
    pub fn until_offline(&self, host: &str) -> Value {
        until(&format!("{host} offline"), || {
            self.host(host).filter(|host| host["state"] == "offline")
        })
    }

    /// Waits until the store is available, or unavailable.
    #[track_caller]
    pub fn until_ready(&self, ready: bool) {
        let wanted = if ready { 200 } else { 503 };
        until(&format!("/readyz {wanted}"), || {
            (self.get("/readyz").0 == wanted).then_some(())
        });
    }

    /// A sample of /metrics, by its name and label as they stand there.
    #[track_caller]
    pub fn metric(&self, sample: &str) -> u64 {
        let (_, page) = self.get("/metrics");
        let value = page.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == sample).then(|| value.parse().expect("a whole number"))
        });
        value.unwrap_or_else(|| panic!("no {sample} in {page}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            self.log.print(&self.ready);
        }
    }
}

/// A log as it grows: the lines of a pipe.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Reads `pipe` to its end on a thread.
    pub fn of(pipe: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::default());
        let (into, lines) = (Arc::clone(&log.0), lines(pipe));
        thread::spawn(move || {
            lines
                .iter()
                .for_each(|line| into.lock().unwrap().push(line))
        });
        log
    }

    /// Lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for a line that has all of `words`, and returns it.
    #[track_caller]
    pub fn line_with(&self, words: &[&str]) -> String {
        until(&format!("{words:?} in the log"), || {
            let has_all = |line: &String| words.iter().all(|word| line.contains(word));
            self.lines().into_iter().find(has_all)
        })
    }

    /// Prints it to stderr, for a test that has failed.
    pub fn print(&self, title: &str) {
        eprintln!("--- the log of {title}");
        self.lines().iter().for_each(|line| eprintln!("{line}"));
    }
}

/// Output of a program that ends by itself.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

/// Runs the program until it ends by itself.
#[track_caller]
pub fn run(dir: &Path, args: &[&str]) -> Ended {
    let mut process = Process::start(&mut program(dir, args));
    let stdout = lines(process.stdout.take().expect("a pipe"));
    let stderr = lines(process.stderr.take().expect("a pipe"));
    let Some(status) = until_or(|| process.try_ended()) else {
        process.kill();
        let said: Vec<String> = stdout.iter().chain(stderr.iter()).collect();
        panic!("{args:?} does not end: {said:?}");
    };
    let all = |lines: &Receiver<String>| lines.iter().map(|line| line + "\n").collect();
    Ended {
        status: status.code(),
        stdout: all(&stdout),
        stderr: all(&stderr),
    }
}

/// Lines of a pipe as they come.
pub fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
