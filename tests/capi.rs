//! The C example, compiled, linked against the library for C, and run with a host.
#![cfg(all(feature = "cli", feature = "embedded"))]

use std::path::Path;
use std::process::{Command, Stdio};

use testkit::{Agent, Process, server};

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

#[test]
fn a_c_program_serves_a_host_in_its_own_poll_loop() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let this = std::env::current_exe().unwrap();
    let target = this.ancestors().nth(2).unwrap();
    let profile = if target.ends_with("release") {
        "release"
    } else {
        "dev"
    };
    let mut build = Command::new(env!("CARGO"));
    let words = [
        "build",
        "-q",
        "--locked",
        "-p",
        "anthill-capi",
        "--profile",
        profile,
    ];
    succeed(build.args(words).current_dir(root));
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("embed");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror"]);
    compiler.arg(root.join("capi/examples/embed.c"));
    compiler.arg("-I").arg(root.join("capi/include"));
    compiler.arg(target.join("libanthill_c.a"));
    succeed(
        compiler
            .args(["-lpthread", "-ldl", "-lm", "-o"])
            .arg(&program),
    );
    let config = r#"{
        "server": {"tcp": "127.0.0.1:0", "udp": "127.0.0.1:0", "http": "127.0.0.1:0"},
        "store": {"url": "embedded:data", "spool": "spool"}
    }"#;
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    std::fs::write(dir.path().join("allow.json"), r#"["uptime", "df -h /"]"#).unwrap();
    let mut command = Command::new(&program);
    let mut embed = Process::start(command.current_dir(dir.path()).stdout(Stdio::piped()));
    let lines = server::lines(embed.stdout.take().unwrap());
    let ready = lines
        .recv_timeout(testkit::PATIENCE)
        .expect("the ready line");
    let tcp = ready.split(' ').find_map(|word| word.strip_prefix("tcp="));
    let agent = Agent::start(dir.path(), tcp.unwrap(), &["--id", "web-1", "--push"]);
    let mut agent = Some(agent);
    let mut said = Vec::new();
    while let Ok(line) = lines.recv_timeout(testkit::PATIENCE) {
        if line.contains("\"state\":\"done\"") {
            agent = None;
        }
        said.push(line);
    }
    assert!(agent.is_none(), "the task is done: {said:#?}");
    let has = |words: &str| said.iter().any(|line| line.contains(words));
    assert!(has("sent to 1, web-1 alive: 1"), "{said:#?}");
    assert!(has("\"event\":\"offline\",\"host\":\"web-1\""), "{said:#?}");
    assert!(embed.ended().success());
}
