//! Stops the process at the other end while heartbeats are sent to it, so that it finds them all at once: on
//! one machine it would else keep up with whoever sends, and read one at a time.

use rustix::process::{Pid, Signal, kill_process};

use super::proc::Observed;

/// See the [room](self). Dropped, the process goes on.
#[derive(Debug)]
pub struct Hold {
    process: Pid,
    stopped: bool,
}

impl Hold {
    /// Of this process, which runs.
    pub fn of(observed: &Observed) -> Option<Self> {
        let number = i32::try_from(observed.pid()).ok()?;
        Some(Self {
            process: Pid::from_raw(number)?,
            stopped: false,
        })
    }

    /// It does nothing until it may go on.
    pub fn stop(&mut self) {
        // A process that is gone or another's is not stopped: then there are no full batches.
        self.stopped = self.stopped || kill_process(self.process, Signal::STOP).is_ok();
    }

    /// It goes on.
    pub fn go_on(&mut self) {
        if std::mem::take(&mut self.stopped) {
            // Whoever is gone meanwhile needs no more.
            let _ = kill_process(self.process, Signal::CONT);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.go_on();
    }
}
