//! Deadlines of the loop, and the horizon up to which they are due.

use super::horizon::Horizon;
use super::poller::Woken;
use super::trim::Trim;
use crate::time::Instant;

/// Next deadlines of the parts that are asked once a turn.
#[derive(Debug, Default)]
pub struct Schedule {
    horizon: Horizon,
    core: Option<Instant>,
    sockets: Option<Instant>,
    trim: Trim,
}

impl Schedule {
    /// Moves the horizon. `all_read` means that everything was read that was reported.
    pub fn horizon(&mut self, woken: Woken, all_read: bool, accepted_all: bool) -> Instant {
        self.horizon.turn(woken.before, all_read, accepted_all)
    }

    #[cfg(test)]
    pub fn reached(&self) -> Instant {
        self.horizon.reached()
    }

    pub fn set_core(&mut self, at: Option<Instant>) {
        self.core = at;
    }

    pub fn set_sockets(&mut self, at: impl IntoIterator<Item = Option<Instant>>) {
        self.sockets = at.into_iter().flatten().min();
    }

    /// Adds a deadline of the sockets.
    pub fn add_sockets(&mut self, at: Option<Instant>) {
        self.sockets = [self.sockets, at].into_iter().flatten().min();
    }

    /// Returns whether unused memory is to be returned after so much `work`.
    pub fn is_trim_due(&mut self, now: Instant, work: u64) -> bool {
        self.trim.is_due(now, work)
    }

    pub fn next(&self) -> Option<Instant> {
        let next = [self.core, self.sockets, self.trim.next()];
        next.into_iter().flatten().min()
    }
}
