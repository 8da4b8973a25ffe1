//! When hosts come and go in crowds, what the store is to be told of them goes over in heaps: to wake its thread for
//! each costs more than all the rest of letting a host in.
//!
//! ```text
//!   a heap   ▼                   ▼                    ▼  at once, it is long ago
//!            ├── GATHER_STATE ──▶├── GATHER_STATE ──▶          time
//!   changes  x   x  x   x   x     x x                 x
//! ```
//!
//! The first goes at once, so that in thin traffic nothing waits. Whatever somebody waits for never does.

use crate::limits::GATHER_STATE_MS;
use crate::time::{Instant, Span};

/// See the [room](self).
#[derive(Debug, Default)]
pub struct Gather {
    /// When the last heap may be followed by the next.
    next: Instant,
    /// Something waits for that, as of this turn.
    waiting: bool,
}

impl Gather {
    /// A turn looks anew whether there is anything: what waited may have gone with something else, or be nothing any more
    /// since the store went away.
    pub fn begin(&mut self) {
        self.waiting = false;
    }

    /// Whether a heap may go `now`; if not, what there is waits until [`due`](Self::due).
    pub fn may_go(&mut self, now: Instant) -> bool {
        self.waiting = now < self.next;
        !self.waiting
    }

    /// A heap has gone.
    pub fn gone(&mut self, now: Instant) {
        self.next = now + Span::from_millis(GATHER_STATE_MS);
        self.waiting = false;
    }

    /// When what waits may go, if something does.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.waiting.then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_those_close_behind_it_together() {
        let mut gather = Gather::default();
        let pause = Span::from_millis(GATHER_STATE_MS);
        let now = Instant::ZERO + Span::from_secs(1);
        assert!(gather.may_go(now));
        gather.gone(now);
        assert_eq!(gather.due(), None, "nothing waits");
        let soon = now + pause.part(2);
        assert!(!gather.may_go(soon));
        assert_eq!(gather.due(), Some(now + pause));
        gather.begin();
        assert_eq!(gather.due(), None, "nothing is left to wait");
        assert!(gather.may_go(now + pause));
        assert_eq!(gather.due(), None);
    }
}
