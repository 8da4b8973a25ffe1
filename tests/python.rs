//! The Python package: its own tests against the built server, its examples, and its installation.
#![cfg(all(feature = "cli", feature = "embedded"))]

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testkit::{Agent, Home, until_so};

/// Directory of the package.
fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// `python3` that leaves nothing in the source tree.
fn python() -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

/// Runs a command that must succeed.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let texts = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into());
    let [out, err]: [String; 2] = texts;
    assert!(output.status.success(), "{command:?}\n{out}{err}");
    out
}

#[test]
fn the_package_passes_its_tests_against_the_server() {
    let mut home = Home::embedded();
    // A free port of the address that the old client of the tests has.
    let free = UdpSocket::bind("127.0.0.9:0").unwrap();
    let agent_port = free.local_addr().unwrap().port();
    drop(free);
    home.set("dispatch.agent_port", agent_port);
    let server = home.start();
    let allow = json!(["uptime", "echo *", "true", "false"]).to_string();
    std::fs::write(home.path().join("allow.json"), allow).unwrap();
    let address = server.tcp.to_string();
    let agents = ["web-1", "web-2"].map(|id| {
        let args = ["--id", id, "--state", id, "--push"];
        Agent::start(home.path(), &address, &args)
    });
    for id in ["web-1", "web-2"] {
        until_so(id, || server.is_online(id));
    }
    let mut guarded = Home::embedded();
    let token = guarded.path().join("token");
    std::fs::write(&token, "a-token-of-the-tests\n").unwrap();
    guarded.set("server.http_token_file", token.to_str().unwrap());
    let guarded = guarded.start();
    let tests = package().join("tests");
    succeed(
        python()
            .args([
                "-W",
                "error",
                "-m",
                "unittest",
                "discover",
                "--start-directory",
            ])
            .arg(tests)
            .env("PYTHONPATH", package().join("src"))
            .env("ANTHILL_API", format!("http://{}", server.http))
            .env_remove("ANTHILL_TOKEN_FILE")
            .env("ANTHILL_TEST_TCP", address)
            .env("ANTHILL_TEST_AGENT_PORT", agent_port.to_string())
            .env("ANTHILL_TEST_TOKEN_API", format!("http://{}", guarded.http))
            .env("ANTHILL_TEST_TOKEN_FILE", token),
    );
    drop(agents);
}

/// Copies a directory, so that a build writes into the copy.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn pip_installs_the_package_into_a_fresh_environment() {
    let dir = tempfile::tempdir().unwrap();
    let (source, venv) = (dir.path().join("python"), dir.path().join("venv"));
    copy(&package(), &source);
    succeed(python().args(["-m", "venv"]).arg(&venv));
    let mut pip = Command::new(venv.join("bin/pip"));
    succeed(pip.args(["install", "-q", "--no-index"]).arg(&source));
    let script = "import anthill, anthill.compat, pathlib\n\
        print(anthill.__version__, pathlib.Path(anthill.__file__).with_name('py.typed').exists())";
    let said = succeed(Command::new(venv.join("bin/python")).args(["-c", script]));
    assert_eq!(said, format!("{} True\n", env!("CARGO_PKG_VERSION")));
}
