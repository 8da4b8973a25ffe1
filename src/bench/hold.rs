//! Stops the process at the other end while heartbeats are sent to it, so that it finds them all at once: on
//! one machine it would else keep up with whoever sends, and read one at a time.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use super::proc::Observed;

/// Which process is stopped just now, by any load of this program.
static STOPPED: Mutex<Stopped> = Mutex::new(Stopped::Nobody);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Nobody,
    This(Pid),
    /// And none will be any more.
    Never,
}

/// Lets a process go on that is stopped, and stops none from here on: for whoever ends this program without
/// unwinding.
pub fn let_go() {
    let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Stopped::This(process) = std::mem::replace(&mut *stopped, Stopped::Never) {
        // Whoever is gone meanwhile needs no more.
        let _ = kill_process(process, Signal::CONT);
    }
}

/// See the [room](self). Dropped, the process goes on.
#[derive(Debug)]
pub struct Hold {
    process: Pid,
}

impl Hold {
    /// Of this process, which runs.
    pub fn of(observed: &Observed) -> Option<Self> {
        let number = i32::try_from(observed.pid()).ok()?;
        Some(Self {
            process: Pid::from_raw(number)?,
        })
    }

    /// It does nothing until it may go on.
    pub fn stop(&mut self) {
        let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that is gone or another's is not stopped: then there are no full batches.
        if *stopped == Stopped::Nobody && kill_process(self.process, Signal::STOP).is_ok() {
            *stopped = Stopped::This(self.process);
        }
    }

    /// It goes on.
    pub fn go_on(&mut self) {
        let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
        if *stopped == Stopped::This(self.process) {
            // Whoever is gone meanwhile needs no more.
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

    /// Waits until the process is stopped, or is not.
    fn until_stopped(pid: u32, stopped: bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            if stat.contains(") T ") == stopped {
                return;
            }
            assert!(Instant::now() < deadline, "{stat}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_stopped_goes_on_however_it_ends_and_then_nothing_is_stopped() {
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
        let_go();
        until_stopped(pid, false);
        hold.stop();
        until_stopped(pid, false);
        // It reads its end.
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
