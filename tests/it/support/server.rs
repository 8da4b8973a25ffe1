//! The program as a process: its ready line, its log, the signals it is sent, how it ends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{PATIENCE, http, until};

/// A running server. Dropped, it is killed.
pub struct Server {
    child: Child,
    /// Address for hosts.
    pub tcp: SocketAddr,
    /// Address for datagrams.
    pub udp: SocketAddr,
    /// Address of the HTTP API.
    pub http: SocketAddr,
    /// The ready line.
    pub ready: String,
    log: Arc<Mutex<Vec<String>>>,
}

/// The program in `dir`, with nothing of ours in its environment.
pub fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anthill"));
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
        let mut child = command.spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&log);
        let errors = lines(child.stderr.take().expect("a pipe"));
        thread::spawn(move || {
            errors
                .iter()
                .for_each(|line| into.lock().unwrap().push(line))
        });
        let output = lines(child.stdout.take().expect("a pipe"));
        let Ok(ready) = output.recv_timeout(PATIENCE) else {
            // It may have ended, or hang; either way it is ours to end.
            let _ = child.kill();
            let status = child.wait();
            panic!("not ready, {status:?}: {:?}", log.lock().unwrap());
        };
        let address = |name: &str| -> SocketAddr {
            let word = ready.split(' ').find_map(|word| word.strip_prefix(name));
            word.expect(name).parse().expect(name)
        };
        Self {
            tcp: address("tcp="),
            udp: address("udp="),
            http: address("http="),
            child,
            ready,
            log,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The memory it has now, in bytes.
    #[track_caller]
    pub fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("it runs");
        let kb = status.lines().find_map(|line| {
            let rest = line.strip_prefix("VmRSS:")?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        });
        kb.expect("a figure") * 1024
    }

    /// Returns whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its exit status, if it has ended.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        until("the server's end", || self.child.try_wait().unwrap())
    }

    /// Asks it to stop and waits until it has: status 0.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().code(), Some(0), "{:?}", self.log());
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log that has all of `words`, and returns it.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> String {
        until(&format!("{words:?} in the log"), || {
            let has_all = |line: &String| words.iter().all(|word| line.contains(word));
            self.log().into_iter().find(has_all)
        })
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

    /// Sends a task; what its hosts are in it.
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

    /// Waits until a host is this in a task.
    #[track_caller]
    pub fn until_task(&self, key: &str, host: &str, state: &str) {
        let mut last = String::new();
        let so = super::until_or(|| {
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

    /// Waits until the store can be reached, or cannot.
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
        // Already dead is dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the log of {}", self.ready);
            self.log().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Output of a program that ends by itself.
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
    let mut child = program(dir, args).spawn().expect("the program starts");
    let stdout = lines(child.stdout.take().expect("a pipe"));
    let stderr = lines(child.stderr.take().expect("a pipe"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            let said: Vec<String> = stdout.iter().chain(stderr.iter()).collect();
            panic!("{args:?} does not end: {said:?}");
        }
        thread::sleep(super::PAUSE);
    };
    let all = |lines: &Receiver<String>| lines.iter().map(|line| line + "\n").collect();
    Ended {
        status: status.code(),
        stdout: all(&stdout),
        stderr: all(&stderr),
    }
}

/// The lines of a pipe as they come.
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
