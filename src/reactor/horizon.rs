//! The horizon: the latest moment up to which all arrived data has been read. Silence is judged
//! against it and never against the clock, so a slow server takes no host offline.
//!
//! ```text
//!   wait₁ ── read all ──── wait₂ ── read all ──── wait₃ ── budget ran out ──── wait₄ ── read all
//!                                   horizon = 1             stays                       horizon = 2
//! ```
//!
//! A turn that reads everything the kernel reported is *complete*. It moves the horizon only to
//! the moment before the wait of the complete turn before it: connections that were in the accept
//! queue then were accepted by that turn, and read by this one.
//!
//! A flood can keep turns from ever being complete. It holds the horizon back for
//! [`HORIZON_LAG_MS_MAX`] of running time at most. A turn counts for [`TURN_COUNTED_MS_MAX`] at
//! most, since a stopped process or a suspended machine was not running.

use std::collections::VecDeque;

use crate::limits::{HORIZON_LAG_MS_MAX, TURN_COUNTED_MS_MAX};
use crate::time::{Instant, Span};

const LAG_MAX: Span = Span::from_millis(HORIZON_LAG_MS_MAX);
const TURN_COUNTED_MAX: Span = Span::from_millis(TURN_COUNTED_MS_MAX);
/// Distance between two marks: the granularity of the bound on the lag.
const MARK_EVERY: Span = Span::from_millis(HORIZON_LAG_MS_MAX / 10);

/// A time, and the running time up to it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    turned: Span,
}

#[derive(Debug, Default)]
pub struct Horizon {
    reached: Instant,
    /// Before the wait of the last complete turn.
    complete: Option<Instant>,
    /// Before the last wait.
    last: Option<Instant>,
    /// Running time so far, each turn counted up to its bound.
    turned: Span,
    /// Oldest first, [`MARK_EVERY`] of running time apart: at most eleven.
    marks: VecDeque<Mark>,
}

impl Horizon {
    /// Time up to which silence may be judged.
    pub fn reached(&self) -> Instant {
        self.reached
    }

    /// Records a turn whose wait began at `before_wait`: `complete` if nothing that the kernel
    /// reported is unread, `accepted_all` if the accept queue is empty. Returns the new horizon.
    pub fn turn(&mut self, before_wait: Instant, complete: bool, accepted_all: bool) -> Instant {
        self.count(before_wait);
        if complete
            && accepted_all
            && let Some(previous) = self.complete.replace(before_wait)
        {
            self.reached = self.reached.max(previous);
        }
        self.reached
    }

    /// Counts the running time up to `before_wait`, and moves the horizon past marks that are old
    /// enough.
    fn count(&mut self, before_wait: Instant) {
        let length = before_wait.since(self.last.unwrap_or(before_wait));
        self.last = Some(before_wait);
        self.turned = self.turned + length.min(TURN_COUNTED_MAX);
        if self
            .marks
            .back()
            .is_none_or(|mark| mark.turned + MARK_EVERY <= self.turned)
        {
            self.marks.push_back(Mark {
                at: before_wait,
                turned: self.turned,
            });
        }
        // One interval early, so that the lag stays within its bound until the next mark.
        while let Some(mark) = self.marks.front()
            && mark.turned + LAG_MAX <= self.turned + MARK_EVERY
        {
            self.reached = self.reached.max(mark.at);
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Instant {
        Instant::ZERO + Span::from_millis(millis)
    }

    #[test]
    fn a_complete_turn_moves_the_horizon() {
        let mut horizon = Horizon::default();
        assert_eq!(horizon.turn(ms(10), true, true), Instant::ZERO);
        assert_eq!(horizon.turn(ms(20), true, true), ms(10));
        assert_eq!(horizon.turn(ms(30), true, true), ms(20));
    }

    #[test]
    fn an_incomplete_turn_does_not_move_the_horizon() {
        let mut horizon = Horizon::default();
        horizon.turn(ms(10), true, true);
        horizon.turn(ms(20), true, true);
        assert_eq!(horizon.turn(ms(30), false, true), ms(10));
        assert_eq!(horizon.turn(ms(40), true, false), ms(10));
        assert_eq!(horizon.turn(ms(50), true, true), ms(20));
        assert_eq!(horizon.turn(ms(60), true, true), ms(50));
    }

    #[test]
    fn a_stopped_process_does_not_move_the_horizon() {
        let mut horizon = Horizon::default();
        horizon.turn(ms(10), true, true);
        horizon.turn(ms(20), true, true);
        // Stopped for an hour in this turn; then a flood of what had gathered.
        let hour = 3_600_000;
        for turn in 0..20 {
            assert!(horizon.turn(ms(hour + turn), false, true) <= ms(20));
        }
        assert_eq!(horizon.turn(ms(hour + 20), true, true), ms(20));
        assert_eq!(horizon.turn(ms(hour + 21), true, true), ms(hour + 20));
    }

    #[test]
    fn a_flood_delays_the_horizon_by_5_s() {
        let mut horizon = Horizon::default();
        horizon.turn(ms(0), true, true);
        horizon.turn(ms(1), true, true);
        for at in (11..60_000).step_by(10) {
            let reached = horizon.turn(ms(at), false, false);
            let lag = ms(at).since(reached);
            assert!(lag <= LAG_MAX, "{lag:?} at {at} ms");
            if at > 10_000 {
                assert!(lag >= Span::from_millis(4_000), "{lag:?} at {at} ms");
            }
        }
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_passes_the_wait(
            turns in proptest::collection::vec((0u64..400, any::<bool>(), any::<bool>()), 1..400)
        ) {
            let mut horizon = Horizon::default();
            let mut at = 0;
            let mut before = Instant::ZERO;
            for (length, complete, accepted) in turns {
                at += length;
                let reached = horizon.turn(ms(at), complete, accepted);
                prop_assert!(reached >= before);
                prop_assert!(reached <= ms(at));
                prop_assert!(horizon.marks.len() <= 11);
                before = reached;
            }
        }
    }
}
