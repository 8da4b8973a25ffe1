//! The only room that reads clocks. Everyone else is told what time it is.

use std::time::{Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use crate::handlers::Moment;
use crate::time::{Instant, Span, UnixMs};

/// Both clocks, read from one place.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: SystemInstant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: SystemInstant::now(),
        }
    }

    /// The monotonic clock. Time for which the machine was suspended does not count.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::ZERO + Span::from(self.origin.elapsed())
    }

    /// Both clocks, for all of one turn.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            wall: Self::wall(),
        }
    }

    /// The wall clock. Zero where it stands before 1970.
    #[must_use]
    pub fn wall() -> UnixMs {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_begins_at_zero_and_does_not_go_back() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.moment().now;
        assert!(first <= second);
        assert!(first.since(Instant::ZERO) < Span::from_secs(3600));
    }
}
