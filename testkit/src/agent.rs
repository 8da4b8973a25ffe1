//! The agent as a process: the program's second half, with its log.

use std::path::Path;
use std::process::Stdio;
use std::thread;

use crate::server::Log;
use crate::{Process, program};

/// A running agent. Dropped, it is killed.
pub struct Agent {
    /// Its process.
    pub process: Process,
    log: Log,
}

impl Agent {
    /// Starts an agent for `server` in `dir`, which has an `allow.json`, with these further `args`.
    #[track_caller]
    pub fn start(dir: &Path, server: &str, args: &[&str]) -> Self {
        let first = ["agent", "--server", server, "--allow", "allow.json"];
        let mut command = program(dir, &[&first[..], args].concat());
        let mut process = Process::start(command.stdout(Stdio::null()));
        let log = Log::of(process.stderr.take().expect("a pipe"));
        Self { process, log }
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
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            self.log.print("the agent");
        }
    }
}
