//! A child process that ends with its value, and the memory and CPU time of a process.

use std::fs;
use std::io::Read;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::until;

/// A child process. Dropped, it is killed and collected.
pub struct Process(Child);

impl Process {
    /// Starts `command`.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    /// Exit status, if it has ended.
    #[track_caller]
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child of this process")
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        until("the end of the process", || self.try_ended())
    }

    /// Waits until it has ended by itself, and returns its status and its output.
    #[track_caller]
    pub fn output(mut self) -> Output {
        drop(self.stdin.take());
        let stdout = self.stdout.take().map(read_to_end);
        let stderr = self.stderr.take().map(read_to_end);
        let status = self.ended();
        let all = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
            reader.map_or_else(Vec::new, |reader| reader.join().expect("a pipe is read"))
        };
        Output {
            status,
            stdout: all(stdout),
            stderr: all(stderr),
        }
    }

    /// Waits until it has opened its standard input again, as `/dev/stdin`.
    #[track_caller]
    pub fn reads_stdin(&self) {
        let directory = format!("/proc/{}/fd", self.id());
        until("the open of its standard input", || {
            let pipe = fs::read_link(format!("{directory}/0")).ok()?;
            let links = fs::read_dir(&directory).ok()?;
            let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            (links.filter(|link| *link == pipe).count() > 1).then_some(())
        });
    }

    /// Kills it, as `kill -9` does. A process that has ended already is only collected.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_to_end(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe");
        bytes
    })
}

/// Returns whether a process runs: a zombie does not.
pub fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Memory of a process, in bytes.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.expect("VmRSS").parse::<u64>().expect("a number") * 1024
}

/// CPU time of a process, of all its threads, in user mode and in the kernel.
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The name, in parentheses, may have any characters.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks = |field: usize| -> u64 {
        let word = fields.split(' ').nth(field).expect("a field");
        word.parse().expect("a number")
    };
    // utime and stime, in hundredths of a second on every Linux that this runs on.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Share of one processor that a process takes during `time`.
pub fn processor_share(pid: u32, time: Duration) -> f64 {
    let (before, start) = (processor_time(pid), Instant::now());
    thread::sleep(time);
    (processor_time(pid) - before).as_secs_f64() / start.elapsed().as_secs_f64()
}
