//! The examples of the library, run as programs.
#![cfg(all(feature = "cli", feature = "embedded"))]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Once;

const CONFIG: &str = r#"{
    "server": {"tcp": "127.0.0.1:0", "udp": "127.0.0.1:0", "http": "127.0.0.1:0"},
    "store": {"url": "embedded:data", "spool": "spool"}
}"#;

/// The program of an example. `cargo test --test examples` alone does not build them.
fn program(name: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    let this = std::env::current_exe().unwrap();
    let target = this.ancestors().nth(2).unwrap();
    BUILD.call_once(|| {
        let profile = match target.ends_with("release") {
            true => "release",
            false => "dev",
        };
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--locked",
            "--examples",
            "--profile",
            profile,
        ]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success());
    });
    target.join("examples").join(name)
}

/// A running example, killed when it is dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    _dir: tempfile::TempDir,
}

impl Running {
    fn start(name: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), CONFIG).unwrap();
        let mut command = Command::new(program(name));
        command.args(args).current_dir(dir.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        Self {
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            _dir: dir,
        }
    }

    /// A client of this server.
    fn client(&mut self) -> Self {
        let mut ready = String::new();
        self.output.read_line(&mut ready).unwrap();
        let tcp = ready.split(' ').find_map(|word| word.strip_prefix("tcp="));
        Self::start("client", &[tcp.expect("the ready line"), "web-1"])
    }

    /// Waits for its end, and returns its output.
    fn ended(mut self) -> String {
        let mut output = String::new();
        self.output.read_to_string(&mut output).unwrap();
        assert!(self.child.wait().unwrap().success(), "{output}");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn embed_has_a_task_done_by_the_client() {
    let mut server = Running::start("embed", &[]);
    let _client = server.client();
    let output = server.ended();
    for part in ["web-1: sent", "Progress", "Done"] {
        assert!(output.contains(part), "{part} in\n{output}");
    }
}

#[test]
fn embed_turn_prints_the_client() {
    let mut server = Running::start("embed_turn", &[]);
    let _client = server.client();
    let output = server.ended();
    assert!(output.contains("Online"), "{output}");
}

#[test]
fn events_prints_the_coming_and_going_of_the_client() {
    let mut server = Running::start("events", &[]);
    let client = server.client();
    let mut line = String::new();
    server.output.read_line(&mut line).unwrap();
    assert!(
        line.starts_with("web-1 is online, from 127.0.0.1:"),
        "{line}"
    );
    drop(client);
    let output = server.ended();
    // The kernel resets the connection of a killed client that has not read all its bytes.
    let ends = ["web-1 is offline: Closed", "web-1 is offline: Reset"];
    assert!(ends.iter().any(|end| output.starts_with(end)), "{output}");
}
