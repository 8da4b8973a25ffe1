//! The only module that reads clocks. Every other part receives the time as an argument.

use std::time::{Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use crate::handlers::Moment;
use crate::time::{Instant, Span, UnixMs};

/// Both clocks, read from one place.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: SystemInstant,
}

impl Clock {
    /// Starts a clock whose monotonic time begins now.
    pub fn start() -> Self {
        Self {
            origin: SystemInstant::now(),
        }
    }

    /// The monotonic clock. Time for which the machine was suspended does not count.
    pub fn now(&self) -> Instant {
        Instant::ZERO + Span::from(self.origin.elapsed())
    }

    /// Both clocks, for all of one turn.
    pub fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            wall: Self::wall(),
        }
    }

    /// The wall clock; zero before 1970.
    pub fn wall() -> UnixMs {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Times of turns. The wall clock is read every 10 ms and follows the monotonic clock in between,
/// so a step of the wall clock takes effect after at most 10 ms.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    clock: Clock,
    read: Instant,
    /// Wall-clock time at that moment, in nanoseconds since 1970.
    wall_ns: u64,
}

/// Interval between two reads of the wall clock. A clock that is being adjusted drifts by 500 ppm,
/// which is 5 µs in this interval.
const WALL_READ_EVERY: Span = Span::from_millis(10);

impl Moments {
    pub fn of(clock: Clock) -> Self {
        Self {
            clock,
            read: clock.now(),
            wall_ns: wall_ns(),
        }
    }

    pub fn moment(&mut self) -> Moment {
        let now = self.clock.now();
        if now.since(self.read) >= WALL_READ_EVERY {
            (self.read, self.wall_ns) = (now, wall_ns());
        }
        let wall = self.wall_ns + now.since(self.read).as_nanos();
        Moment {
            now,
            wall: UnixMs(wall / 1_000_000),
        }
    }
}

/// Nanoseconds since 1970, until the year 2554.
fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.unwrap_or_default().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_begins_at_zero_and_never_goes_back() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.moment().now;
        assert!(first <= second);
        assert!(first.since(Instant::ZERO) < Span::from_secs(3600));
    }

    #[test]
    fn turn_times_follow_the_wall_clock() {
        let clock = Clock::start();
        let mut moments = Moments::of(clock);
        let (start, mut last) = (clock.now(), Clock::wall().0);
        while clock.now() < start + WALL_READ_EVERY.times(3) {
            // The granularity of a reading, and the drift of the two clocks until the next one.
            let before = Clock::wall().0 - 1;
            let wall = moments.moment().wall.0;
            assert!(
                before <= wall && wall <= Clock::wall().0 + 1,
                "{before} {wall}"
            );
            assert!(last <= wall + 1, "{last} {wall}");
            last = wall;
        }
    }
}
