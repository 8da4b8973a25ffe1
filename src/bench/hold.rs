//! Stops the server's process while heartbeats are sent, so that it reads them in one batch. On one
//! machine it would otherwise keep pace with the sender and read them one at a time.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use super::proc::Observed;

/// The stopped process. This program stops one at a time.
static STOPPED: Mutex<Stopped> = Mutex::new(Stopped::Nobody);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Nobody,
    This(Pid),
    /// No process may be stopped any more.
    Never,
}

/// Resumes a stopped process and stops none from here on; for an exit without unwinding.
pub fn resume_server() {
    let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Stopped::This(process) = std::mem::replace(&mut *stopped, Stopped::Never) {
        // The process may have ended meanwhile.
        let _ = kill_process(process, Signal::CONT);
    }
}

/// A handle to stop and resume the server's process. Dropping it resumes the process.
#[derive(Debug)]
pub struct Hold {
    process: Pid,
}

impl Hold {
    /// Creates a handle to this running process.
    pub fn of(observed: &Observed) -> Option<Self> {
        let number = i32::try_from(observed.pid()).ok()?;
        Some(Self {
            process: Pid::from_raw(number)?,
        })
    }

    /// Stops the process until `go_on`.
    pub fn stop(&mut self) {
        let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that has ended or belongs to another user is not stopped. Batches are then not
        // full.
        if *stopped == Stopped::Nobody && kill_process(self.process, Signal::STOP).is_ok() {
            *stopped = Stopped::This(self.process);
        }
    }

    /// Resumes the process.
    pub fn go_on(&mut self) {
        let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
        if *stopped == Stopped::This(self.process) {
            // The process may have ended meanwhile.
            let _ = kill_process(self.process, Signal::CONT);
            *stopped = Stopped::Nobody;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.go_on();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Waits until the process is stopped, or runs again.
    fn until_stopped(pid: u32, stopped: bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            if stat.contains(") T ") == stopped {
                return;
            }
            assert!(Instant::now() < deadline, "{stat}");
            // No descriptor reports that a process is stopped.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_stopped_process_is_always_resumed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (pid, observed) = (child.id(), Observed::of(child.id()));
        let mut hold = Hold::of(&observed).unwrap();
        hold.stop();
        until_stopped(pid, true);
        hold.go_on();
        until_stopped(pid, false);
        hold.stop();
        until_stopped(pid, true);
        drop(hold);
        until_stopped(pid, false);

        let mut hold = Hold::of(&observed).unwrap();
        hold.stop();
        until_stopped(pid, true);
        resume_server();
        until_stopped(pid, false);
        hold.stop();
        until_stopped(pid, false);
        // The child reads the end of its stdin.
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
