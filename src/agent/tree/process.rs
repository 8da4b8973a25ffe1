//! One process, and the system's process table.

use std::fs;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// A process, identified by its number and its start time, since numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::agent) struct Process {
    pub(super) pid: i32,
    /// In clock ticks since the machine started.
    pub(super) started: u64,
}

impl Process {
    /// The process that has this number now.
    pub(in crate::agent) fn of(pid: i32) -> Option<Self> {
        Entry::read(pid).map(|entry| entry.process)
    }

    /// A process as it was [written down](std::fmt::Display).
    pub(in crate::agent) fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.split_once(' ')?;
        let pid = pid.parse().ok().filter(|pid| *pid > 1)?;
        let started = started.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Sends a signal to this process only. One that has ended, or may not be signalled, gets none.
    pub(in crate::agent) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => {
                // The descriptor refers to the process that had the number when it was opened.
                if Self::of(self.pid) == Some(self) {
                    let _ = pidfd_send_signal(process, signal);
                }
            }
            Err(rustix::io::Errno::SRCH) => {}
            Err(_) => {
                if Self::of(self.pid) == Some(self) {
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// Waits until the first of these processes has ended, for `timeout` at the longest. Processes can
/// join a command at any moment, so callers look again after a short time.
pub(in crate::agent) fn wait_for_end(running: &[Process], timeout: Duration) {
    let first = running
        .first()
        .and_then(|process| Pid::from_raw(process.pid));
    let end = first.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    // Without a descriptor this only waits.
    let mut polled = Vec::from_iter(end.iter().map(|end| PollFd::new(end, PollFlags::IN)));
    let timeout = Timespec::try_from(timeout).ok();
    // After an interruption the caller looks earlier.
    let _ = poll(&mut polled, timeout.as_ref());
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

/// A row of the process table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) process: Process,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) is_zombie: bool,
}

impl Entry {
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads `/proc/PID/stat`. The program's name, in parentheses, may hold anything.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse().ok();
        Some(Self {
            process: Process {
                pid,
                started: fields.get(19)?.parse().ok()?,
            },
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            is_zombie: matches!(fields.first(), Some(&"Z" | &"X")),
        })
    }
}

/// The process table, as far as it can be read.
pub(super) fn table() -> Vec<Entry> {
    let Ok(names) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pid = |name: fs::DirEntry| name.file_name().to_str()?.parse().ok();
    names
        .flatten()
        .filter_map(pid)
        .filter_map(Entry::read)
        .collect()
}

pub(super) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_program_names_in_the_process_table() {
        let stat = "42 (a) b) (c) S 7 40 30 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        let entry = Entry::parse(42, stat).unwrap();
        assert_eq!((entry.parent, entry.group, entry.session), (7, 40, 30));
        assert_eq!(entry.process.to_string(), "42 987654");
        assert!(!entry.is_zombie);
        assert_eq!(Process::parse("42 987654"), Some(entry.process));
        for wrong in ["", "42", "1 5", "0 5", "-4 5", "a b"] {
            assert_eq!(Process::parse(wrong), None, "{wrong}");
        }
        assert!(Entry::parse(42, "42 (sh) S 7").is_none());
    }
}
