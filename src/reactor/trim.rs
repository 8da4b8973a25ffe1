//! Return of memory to the system after a storm.
//!
//! The allocator keeps freed memory and the pool keeps buffers, so that a busy server asks the
//! system for nothing. A fleet that connects at once needs several times the memory of an idle one,
//! so the surplus is returned once the load is calm.

use crate::limits::{CALM_WORK_PER_S_MAX, LOG_WINDOW_S, STORM_WORK_MIN};
use crate::time::{Instant, Span};

/// Delay of a second trim. At the first one, other threads still hold memory of the storm: the
/// log's counts, the replay buffer, the first audit of a fleet.
const AGAIN_AFTER: Span = Span::from_secs(LOG_WINDOW_S + 5);

/// Shortest interval between two checks for calm.
const LOOK_EVERY: Span = Span::from_secs(1);

/// Detector for the end of a storm. *Work* is everything that takes memory for a while: connections
/// accepted, buffers lent, operations sent.
#[derive(Debug, Default)]
pub struct Trim {
    looked: Instant,
    /// Work up to that check.
    work: u64,
    /// Work since the last trim.
    since: u64,
    /// Time of the second trim.
    again: Option<Instant>,
}

impl Trim {
    /// Returns whether a storm is over. `work` is the total so far.
    pub fn is_due(&mut self, now: Instant, work: u64) -> bool {
        let passed = now.since(self.looked);
        if passed < LOOK_EVERY {
            return false;
        }
        let done = work - self.work;
        (self.looked, self.work) = (now, work);
        self.since += done;
        let calm = done as f64 <= CALM_WORK_PER_S_MAX as f64 * passed.as_secs_f64();
        let due = calm && self.since >= STORM_WORK_MIN;
        if due {
            self.since = 0;
            self.again = Some(now + AGAIN_AFTER);
        }
        due || self.again.take_if(|again| calm && *again <= now).is_some()
    }

    /// Time of the next check, if there is memory to return; nothing else may wake the loop for it.
    pub fn next(&self) -> Option<Instant> {
        let look = self.looked + LOOK_EVERY;
        let storm = (self.since >= STORM_WORK_MIN).then_some(look);
        let again = self.again.map(|again| again.max(look));
        [storm, again].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Span::from_secs(seconds)
    }

    #[test]
    fn trim_is_due_after_a_storm() {
        let mut trim = Trim::default();
        let mut work = 0;
        for second in 1..10 {
            work += STORM_WORK_MIN;
            assert!(!trim.is_due(at(second), work));
        }
        assert_eq!(trim.next(), Some(at(10)));
        assert!(trim.is_due(at(10), work + 1));
        assert!(!trim.is_due(at(11), work + 1));
    }

    #[test]
    fn trim_is_due_again_after_the_log_window() {
        let mut trim = Trim::default();
        let again = at(10) + AGAIN_AFTER;
        assert!(!trim.is_due(at(9), STORM_WORK_MIN));
        assert!(trim.is_due(at(10), STORM_WORK_MIN));
        assert_eq!(trim.next(), Some(again));
        assert!(!trim.is_due(at(11), STORM_WORK_MIN));
        assert!(trim.is_due(again, STORM_WORK_MIN));
        assert_eq!(trim.next(), None);
        assert!(!trim.is_due(again + LOOK_EVERY, STORM_WORK_MIN));
    }

    #[test]
    fn steady_work_is_trimmed_now_and_then() {
        let mut trim = Trim::default();
        let due = (1..=1_000).filter(|second| trim.is_due(at(*second), 100 * second));
        // Twice each time.
        let expected = 2 * (100 * 1_000 / STORM_WORK_MIN);
        assert!(due.count().abs_diff(expected as usize) <= 2);
    }
}
