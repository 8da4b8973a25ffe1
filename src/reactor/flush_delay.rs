//! Delay of presence batches: when hosts come and go in crowds, their changes go to the store
//! thread in batches. Waking that thread for each change costs more than the rest of accepting a
//! host.
//!
//! ```text
//!   a batch  ▼                   ▼                    ▼  at once: the last is long ago
//!            ├── GATHER_STATE ──▶├── GATHER_STATE ──▶          time
//!   changes  x   x  x   x   x     x x                 x
//! ```
//!
//! The first change goes at once, so thin traffic is not delayed. Operations with a waiting
//! requester are never delayed.

use crate::limits::GATHER_STATE_MS;
use crate::time::{Instant, Span};

#[derive(Debug, Default)]
pub struct FlushDelay {
    /// Earliest time of the next batch.
    next: Instant,
    /// Changes wait for that time, as of this turn.
    waiting: bool,
}

impl FlushDelay {
    /// Starts a turn. Waiting changes may have left with another batch, or be obsolete since the
    /// store went away.
    pub fn begin(&mut self) {
        self.waiting = false;
    }

    /// Returns whether a batch may be sent at `now`; if not, the changes wait until
    /// [`due`](Self::due).
    pub fn may_go(&mut self, now: Instant) -> bool {
        self.waiting = now < self.next;
        !self.waiting
    }

    /// Records that a batch was sent at `now`.
    pub fn gone(&mut self, now: Instant) {
        self.next = now + Span::from_millis(GATHER_STATE_MS);
        self.waiting = false;
    }

    /// Time at which waiting changes may be sent.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_batches_share_a_delay() {
        let mut delay = FlushDelay::default();
        let pause = Span::from_millis(GATHER_STATE_MS);
        let now = Instant::ZERO + Span::from_secs(1);
        assert!(delay.may_go(now));
        delay.gone(now);
        assert_eq!(delay.due(), None, "nothing waits");
        let soon = now + pause.part(2);
        assert!(!delay.may_go(soon));
        assert_eq!(delay.due(), Some(now + pause));
        delay.begin();
        assert_eq!(delay.due(), None, "nothing is left to wait");
        assert!(delay.may_go(now + pause));
        assert_eq!(delay.due(), None);
    }
}
