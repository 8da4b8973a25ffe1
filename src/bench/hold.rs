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
