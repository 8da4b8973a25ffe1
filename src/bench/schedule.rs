//! Due times, pure: the same seed gives the same moments.
//!
//! ```text
//!  turn      0        1        2        3        4 …      a turn every 1/rate
//!         |  x     |     x  |x       |      x |   x       the moment within it is random
//!           host 3   host 0   host 2   host 1   host 3    in an order drawn once
//! ```
//!
//! Each host's heartbeats are a period apart, give or take a turn. All hosts are spread evenly over
//! the period, in an order that differs from the order of their connections.

use crate::rng::Rng;
use crate::time::{Instant, Span};

/// Due times at an even rate.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
    rate: f64,
    seed: u64,
    turns: u64,
    together: u64,
}

impl Schedule {
    /// Creates `rate` moments a second from `start`, for `seconds`.
    #[must_use]
    pub fn new(start: Instant, rate: f64, seconds: f64, seed: u64) -> Self {
        // `as` saturates, and maps NaN to zero.
        let turns = (rate * seconds).round() as u64;
        Self {
            start,
            rate,
            seed,
            turns,
            together: 1,
        }
    }

    /// Moves `count` moments into one, followed by a pause of the same length.
    #[must_use]
    pub fn together(mut self, count: u64) -> Self {
        self.together = count.max(1);
        self
    }

    /// Number of moments.
    #[must_use]
    pub const fn turns(&self) -> u64 {
        self.turns
    }

    /// Number of moments due at `moment`, give or take one.
    #[must_use]
    pub fn due_by(&self, moment: Instant) -> u64 {
        if moment < self.start {
            return 0;
        }
        let whole = (moment.since(self.start).as_secs_f64() * self.rate) as u64;
        let due = match self.together {
            1 => whole,
            heap => (whole / heap + 1) * heap,
        };
        due.min(self.turns)
    }

    /// Due time of turn number `turn`; `None` after the last.
    #[must_use]
    pub fn due(&self, turn: u64) -> Option<Instant> {
        if turn >= self.turns {
            return None;
        }
        if self.together > 1 {
            let first = turn - turn % self.together;
            return Some(self.start + Span::from_secs_f64(first as f64 / self.rate));
        }
        let begins = Span::from_secs_f64(turn as f64 / self.rate);
        let gap = Span::from_secs_f64(1.0 / self.rate);
        let within = Rng::new(self.seed ^ turn).part_of(gap);
        Some(self.start + begins + within)
    }
}

/// The numbers below `count` in random order.
#[must_use]
pub fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut rng = Rng::new(seed);
    for last in (1..count).rev() {
        let among = Span::from_nanos(last as u64 + 1);
        let at = rng.part_of(among).as_nanos();
        order.swap(last, usize::try_from(at).unwrap_or(last));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    #[test]
    fn a_schedule_follows_from_its_seed() {
        let schedule = Schedule::new(START, 1_000.0, 2.0, 7);
        assert_eq!(schedule.turns(), 2_000);
        assert_eq!(schedule.due(2_000), None);
        let dues: Vec<u64> = (0..2_000)
            .map(|turn| schedule.due(turn).unwrap().since(START).as_nanos())
            .collect();
        for (turn, due) in (0..).zip(&dues) {
            assert!(
                (turn * 1_000_000..(turn + 1) * 1_000_000).contains(due),
                "{turn}: {due}"
            );
        }
        let mean = dues.iter().map(|due| due % 1_000_000).sum::<u64>() / 2_000;
        assert!(
            (450_000..550_000).contains(&mean),
            "spread within the turn: {mean}"
        );
        let again = Schedule::new(START, 1_000.0, 2.0, 7);
        assert_eq!(again.due(77), schedule.due(77));
        assert_ne!(
            Schedule::new(START, 1_000.0, 2.0, 8).due(77),
            schedule.due(77)
        );
    }

    #[test]
    fn moments_that_fall_together_keep_the_rate() {
        let schedule = Schedule::new(START, 1_000.0, 1.0, 7).together(100);
        let at = |turn| schedule.due(turn).unwrap().since(START).as_millis();
        assert_eq!((at(0), at(99), at(100), at(999)), (0, 0, 100, 900));
        assert_eq!(schedule.due(1_000), None);
    }

    #[test]
    fn due_heartbeats_are_computed() {
        let schedule = Schedule::new(START, 1_000.0, 2.0, 7);
        let by = |schedule: &Schedule, ms| schedule.due_by(START + Span::from_millis(ms));
        assert_eq!(schedule.due_by(Instant::ZERO), 0);
        assert_eq!((by(&schedule, 0), by(&schedule, 500)), (0, 500));
        assert_eq!((by(&schedule, 2_000), by(&schedule, 9_000)), (2_000, 2_000));
        let heaps = schedule.together(100);
        assert_eq!((by(&heaps, 0), by(&heaps, 150)), (100, 200));
        assert_eq!(by(&heaps, 9_000), 2_000);
    }

    #[test]
    fn no_rate_is_no_moment() {
        for (rate, seconds) in [(0.0, 10.0), (10.0, 0.0), (f64::NAN, 1.0)] {
            assert_eq!(Schedule::new(START, rate, seconds, 1).due(0), None);
        }
    }

    #[test]
    fn an_order_holds_everybody_once() {
        let order = shuffled(1_000, 3);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1_000));
        assert_ne!(order, sorted);
        assert!(shuffled(0, 1).is_empty());
    }
}
