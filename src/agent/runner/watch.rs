//! Watching a running command: reads its output until it ends or is ended.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::{CANCEL_TIME, FIRST_LOOK, KILL_TIME, Orders, READ_BYTES, TICK, end};
use crate::agent::core::{KILLED, REFUSED, TIMED_OUT};
use crate::agent::output::Output;
use crate::agent::tree::{Note, Tree};
use crate::limits::AGENT_PROCESS_LOOK_MS_MAX;

/// End of a command.
pub(super) struct Ended {
    pub(super) exit: i32,
    pub(super) output: Output,
}

impl Ended {
    pub(super) fn reason(exit: i32, why: &str) -> Self {
        let mut output = Output::default();
        output.say(why);
        Self { exit, output }
    }
}

/// Reason to stop waiting for a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Ended,
    TimedOut,
    Stopped,
    Cancelled,
}

/// Reads the output of a command until it has ended, and ends it at its time limit, a stop or a cancellation.
pub(super) fn watch(
    mut command: Watched,
    time: Duration,
    orders: &Orders,
    note: &mut Note,
) -> io::Result<Option<Ended>> {
    // A limit beyond the range of the clock never comes.
    let followed = command.follow(Instant::now().checked_add(time), orders, note);
    let over = match followed {
        Ok(over) => over,
        Err(error) => {
            // It is no longer watched, so it must not continue.
            command.end(KILL_TIME)?;
            return Err(error);
        }
    };
    let grace = match over {
        Over::Cancelled => CANCEL_TIME,
        Over::Ended | Over::TimedOut | Over::Stopped => KILL_TIME,
    };
    let all_gone = over == Over::Ended || command.end(grace)?;
    let status = command.child.try_wait()?;
    let mut output = command.output;
    let exit = match (over, status) {
        (Over::Stopped, _) => return Ok(None),
        (Over::TimedOut, _) => {
            output.say(&format!(
                "not ended within {} s, and killed",
                time.as_secs_f64()
            ));
            if !all_gone {
                output.say("some of its processes cannot be killed");
            }
            TIMED_OUT
        }
        (Over::Cancelled, status) => {
            output.say("cancelled");
            if !all_gone {
                output.say("some of its processes cannot be killed");
            }
            status.map_or(KILLED, exit_of)
        }
        (Over::Ended, Some(status)) => exit_of(status),
        (Over::Ended, None) => REFUSED,
    };
    Ok(Some(Ended { exit, output }))
}

/// Exit status by the convention of shells: 128 plus the number of a signal.
fn exit_of(status: ExitStatus) -> i32 {
    let by_signal = status.signal().map(|signal| 128 + signal);
    status.code().or(by_signal).unwrap_or(REFUSED)
}

/// A running command.
pub(super) struct Watched {
    child: Child,
    pid: Pid,
    tree: Tree,
    /// Reports its end, if the kernel has pidfds.
    end: Option<OwnedFd>,
    /// Output pipe; `None` after all writers have closed it.
    reader: Option<PipeReader>,
    output: Output,
    /// Time of the next record of its processes, and the interval to the one after.
    next_look: Instant,
    look_every: Duration,
}

impl Watched {
    pub(super) fn new(child: Child, reader: PipeReader, tree: Tree) -> Self {
        let pid = Pid::from_child(&child);
        Self {
            child,
            pid,
            tree,
            end: pidfd_open(pid, PidfdFlags::empty()).ok(),
            reader: Some(reader),
            output: Output::default(),
            next_look: Instant::now() + FIRST_LOOK,
            look_every: FIRST_LOOK,
        }
    }

    /// Reads until the command has ended, until `deadline`, or until an order ends it.
    fn follow(
        &mut self,
        deadline: Option<Instant>,
        orders: &Orders,
        note: &mut Note,
    ) -> io::Result<Over> {
        loop {
            let has_ended = self.has_ended()?;
            self.read()?;
            if has_ended {
                return Ok(Over::Ended);
            }
            if orders.has_cancelled() {
                return Ok(Over::Cancelled);
            }
            let now = Instant::now();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Over::TimedOut);
            }
            if now >= self.next_look {
                self.tree.look();
                note.write(self.tree.cgroup(), self.tree.known());
                let most = Duration::from_millis(AGENT_PROCESS_LOOK_MS_MAX);
                self.look_every = (2 * self.look_every).min(most);
                self.next_look = now + self.look_every;
            }
            let look = self.next_look.saturating_duration_since(now);
            if self.wait(left.map_or(look, |left| left.min(look)), orders)? {
                return Ok(Over::Stopped);
            }
        }
    }

    /// Ends all processes and reads their output meanwhile. Returns whether all have ended.
    fn end(&mut self, grace: Duration) -> io::Result<bool> {
        let Self {
            tree,
            reader,
            output,
            ..
        } = self;
        end(tree, grace, || read(reader, output))
    }

    /// Waits for output, the end of the command, an order, or `left`. Returns whether the runner
    /// stops.
    fn wait(&self, left: Duration, orders: &Orders) -> io::Result<bool> {
        let reader = self.reader.as_ref().map(AsFd::as_fd);
        let end = self.end.as_ref().map(AsFd::as_fd);
        let (stopped, looks) = (orders.stopped.as_fd(), orders.looks.as_fd());
        let watched = [Some(stopped), Some(looks), reader, end];
        let mut polled: Vec<PollFd<'_>> = watched
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let left = match self.end {
            Some(_) => left,
            None => left.min(TICK),
        };
        let left = Timespec::try_from(left).ok();
        match poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (stops, looks) = (
            !polled[0].revents().is_empty(),
            !polled[1].revents().is_empty(),
        );
        if looks && !stops {
            // The bytes say only that there is something to look at.
            let _ = (&orders.looks).read(&mut [0; 16])?;
        }
        Ok(stops)
    }

    /// Returns whether the process has ended. It stays a zombie until it is reaped.
    fn has_ended(&self) -> io::Result<bool> {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), how)?.is_some())
    }

    fn read(&mut self) -> io::Result<()> {
        read(&mut self.reader, &mut self.output)
    }
}

/// Reads the available output, bounded, so that a command that never stops writing cannot delay its
/// deadline.
fn read(pipe: &mut Option<PipeReader>, output: &mut Output) -> io::Result<()> {
    let mut buffer = [0; READ_BYTES];
    for _ in 0..64 {
        let Some(reader) = pipe else {
            return Ok(());
        };
        match reader.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => output.push(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
