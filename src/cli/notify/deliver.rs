//! Delivery to one receiver, on its own thread: a time limit, and a few tries.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use hmac::{Hmac, KeyInit, Mac};
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::Sha256;

use super::LOG;
use crate::config::{Channel, Secret};

/// Time limit of one try.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between the tries.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// Interval between two looks at a running command.
const LOOK: Duration = Duration::from_millis(20);

/// Delivers messages until there are no more. When `ending` is disconnected the server stops: each
/// message that is left has one more try, without a pause.
pub fn run(channel: &Channel, number: usize, messages: &Receiver<String>, ending: &Receiver<()>) {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("anthill/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    for message in messages {
        let mut pauses = PAUSES.iter();
        while let Err(why) = deliver(channel, &agent, &message) {
            let is_last = matches!(ending.try_recv(), Err(TryRecvError::Disconnected));
            let Some(pause) = pauses.next().filter(|_| !is_last) else {
                log::error!(target: LOG, "notify[{number}]: a message is dropped: {why}");
                break;
            };
            log::warn!(target: LOG, "notify[{number}]: {why}; again in {} s", pause.as_secs());
            // Nothing is sent: the pause ends with its time, or with the server.
            let _ = ending.recv_timeout(*pause);
        }
    }
}

fn deliver(channel: &Channel, agent: &ureq::Agent, message: &str) -> Result<(), String> {
    match channel {
        Channel::Command(words) => execute(words, message, TIMEOUT),
        Channel::Webhook { url, key, .. } => {
            let mut request = agent.post(url).header("Content-Type", "application/json");
            if let Some(key) = key {
                request = request.header("X-Anthill-Signature", signature(key, message)?);
            }
            // ureq makes an error of a status from 400 on.
            match request.send(message.as_bytes()) {
                Ok(response) if response.status().is_success() => Ok(()),
                Ok(response) => Err(format!("the receiver answers {}", response.status())),
                Err(error) => Err(error.to_string()),
            }
        }
    }
}

/// `sha256=HEX`: HMAC-SHA256 of the message.
fn signature(key: &Secret, message: &str) -> Result<String, String> {
    let mac = Hmac::<Sha256>::new_from_slice(key.bytes());
    let mut mac = mac.map_err(|error| error.to_string())?;
    mac.update(message.as_bytes());
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256={hex}"))
}

fn execute(words: &[String], message: &str, limit: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = words else {
        return Err("there is no program".to_owned());
    };
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // With all that it starts, it is ended after the time limit.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    // On a thread of its own: a program that does not read its input must not hold the time limit.
    if let Some(mut pipe) = child.stdin.take() {
        let message = message.to_owned();
        // The program may ignore its input.
        thread::spawn(move || drop(pipe.write_all(message.as_bytes())));
    }
    let begun = Instant::now();
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{program}: {status}")),
            None if begun.elapsed() > limit => {
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                let _ = child.wait();
                return Err(format!("{program} has not ended in {} s", limit.as_secs()));
            }
            None => thread::sleep(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read};
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn a_hanging_command_ends_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let mut reader = options.open(&pipe).unwrap();
        let script = "exec > $0; echo ready; sleep 600 & sleep 600 & wait";
        let words = ["/bin/sh", "-c", script, pipe.to_str().unwrap()].map(str::to_owned);
        let why = execute(&words, "message", Duration::from_secs(1)).unwrap_err();
        assert_eq!(why, "/bin/sh has not ended in 1 s");
        // The pipe ends when the last process that holds it has ended.
        let begun = Instant::now();
        let mut said = [0; 64];
        loop {
            match reader.read(&mut said) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(begun.elapsed() < Duration::from_secs(60), "a child is left");
                    thread::sleep(LOOK);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
