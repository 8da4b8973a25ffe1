//! Naps under dense traffic: with many hosts active it is cheaper to let events gather than to wake
//! up for each. The loop then naps before it waits, so that its waits begin `server.coalesce_us`
//! apart. Thin traffic is never delayed.
//!
//! Density counts events a second, not events per wait: evenly spread traffic brings one or two per
//! wait until the loop is nearly saturated, and naps save most at that point.

use crate::time::{Instant, Span};

/// Interval over which events are counted.
const WINDOW: Span = Span::from_millis(2);
/// Number of events in a window that counts as dense: 16,000 a second, a tenth of a core and more
/// without naps. Half as many suffice once the loop naps, so that it does not alternate.
const DENSE_EVENTS_MIN: u64 = 32;
/// Number of events that an accepted connection counts as, by its cost.
const EVENTS_PER_ACCEPT: u64 = 4;

/// Decides on naps by the times of events. The caller sleeps.
#[derive(Debug)]
pub struct Coalesce {
    nap: Span,
    /// End of the last wait.
    woke: Instant,
    /// Start of this window, and the events in it.
    since: Instant,
    events: u64,
    /// The window before this one was dense.
    dense: bool,
}

impl Coalesce {
    /// Lets waits of dense traffic begin `nap` apart; zero switches naps off.
    pub fn new(nap: Span) -> Self {
        Self {
            nap,
            woke: Instant::ZERO,
            since: Instant::ZERO,
            events: 0,
            dense: false,
        }
    }

    /// Counts the events of a wait that ended at `now`.
    pub fn turn(&mut self, events: usize, now: Instant) {
        self.woke = now;
        self.events += events as u64;
        let passed = now.since(self.since);
        if passed < WINDOW {
            return;
        }
        // A window that a long wait or turn has stretched needs more events in proportion.
        let wanted = if self.dense {
            DENSE_EVENTS_MIN / 2
        } else {
            DENSE_EVENTS_MIN
        };
        self.dense = self.events * WINDOW.as_nanos() >= wanted.saturating_mul(passed.as_nanos());
        (self.since, self.events) = (now, 0);
    }

    /// Counts accepted connections of the last wait.
    pub fn accepted(&mut self, connections: u64) {
        self.events += EVENTS_PER_ACCEPT * connections;
    }

    /// Length of a nap at `now`, before a wait of up to `wait` (`None`: unlimited). Never longer
    /// than that wait; no nap if there is no wait or the turn itself was long enough to gather
    /// events.
    pub fn nap(&self, now: Instant, wait: Option<Span>) -> Option<Span> {
        let nap = (self.woke + self.nap).since(now);
        let nap = nap.min(wait.unwrap_or(nap));
        (self.dense && nap > Span::ZERO).then_some(nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAP: Span = Span::from_millis(1);

    /// Waits that bring `events` each, `apart`, for `long`, from `from` on. When the last ended.
    fn waits(
        coalesce: &mut Coalesce,
        from: Instant,
        long: Span,
        apart: Span,
        events: usize,
    ) -> Instant {
        let mut now = from;
        while now < from + long {
            now = now + apart;
            coalesce.turn(events, now);
        }
        now
    }

    #[test]
    fn evenly_spread_traffic_is_dense() {
        let mut coalesce = Coalesce::new(NAP);
        // 50,000 a second, one at a time.
        let each = Span::from_micros(20);
        let long = WINDOW.times(2);
        let now = waits(&mut coalesce, Instant::ZERO, long, each, 1);
        assert_eq!(coalesce.nap(now, None), Some(NAP));
    }

    #[test]
    fn thin_traffic_ends_density() {
        let mut coalesce = Coalesce::new(NAP);
        // 10,000 a second.
        let (each, long) = (Span::from_micros(100), Span::from_secs(1));
        let now = waits(&mut coalesce, Instant::ZERO, long, each, 1);
        assert_eq!(coalesce.nap(now, None), None);
        let now = waits(&mut coalesce, now, WINDOW, WINDOW, 1_000);
        assert_eq!(coalesce.nap(now, None), Some(NAP));
        let now = waits(&mut coalesce, now, long, each, 1);
        assert_eq!(coalesce.nap(now, None), Some(NAP), "no wavering");
        let now = waits(&mut coalesce, now, WINDOW, each.times(2), 1);
        assert_eq!(coalesce.nap(now, None), None);
    }

    #[test]
    fn a_burst_after_a_long_wait_is_not_dense() {
        let mut coalesce = Coalesce::new(NAP);
        let now = Instant::ZERO + Span::from_secs(3_600);
        coalesce.turn(1_000, now);
        assert_eq!(coalesce.nap(now, None), None);
    }

    #[test]
    fn naps_are_bounded_by_wait_and_turn() {
        let dense = |nap| {
            let mut coalesce = Coalesce::new(nap);
            let long = WINDOW.times(3);
            let now = waits(&mut coalesce, Instant::ZERO, long, WINDOW, 1_000);
            (coalesce, now)
        };
        let (coalesce, now) = dense(NAP);
        let near = Span::from_micros(300);
        assert_eq!(coalesce.nap(now, Some(near)), Some(near));
        assert_eq!(coalesce.nap(now, Some(Span::ZERO)), None);
        let turned = Span::from_micros(200);
        assert_eq!(
            coalesce.nap(now + turned, None),
            Some(Span::from_micros(800))
        );
        assert_eq!(coalesce.nap(now + NAP, None), None);
        let (coalesce, now) = dense(Span::ZERO);
        assert_eq!(coalesce.nap(now, None), None);
    }
}
