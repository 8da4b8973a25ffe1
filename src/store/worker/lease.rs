//! The node's lease, as the store thread sees it: its own, or another process's that it watches. Pure: checks go
//! in, conclusions come out.
//!
//! A foreign lease belongs either to a dead process, and then only runs down, or to a living one, and
//! then its time to live grows. Only one of our own name found at the first connection can end this
//! process; later this process serves, and logs the conflict.

use crate::limits::{LEASE_GROWTH_MS, LEASE_LOOK_MS, LEASE_RENEW_S, LEASE_WATCH_S};
use crate::store::Lease;
use crate::time::{Instant, Span};

/// Conclusion of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing to be done.
    Nothing,
    /// It is ours for the first time.
    Clear,
    /// The same, and another's vanished long before its time: given up, or the store has lost its contents.
    ClearAndLost,
    /// It was ours, was gone, and is ours again: the store has lost its contents.
    Lost,
    /// It has not been renewed for long enough: take it by force.
    Dead,
    /// A living server renews it, and had it before us.
    NameTaken,
    /// A living server renews it, although we have served under its name.
    Contested,
}

/// State of the lease.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    ours: bool,
    cleared: bool,
    watch: Option<Watch>,
    due: Instant,
}

/// A foreign lease under watch.
#[derive(Clone, Copy, Debug)]
struct Watch {
    since: Instant,
    /// Its time to live at the last look, and when that look had certainly been taken.
    left: Span,
    at: Instant,
}

impl Keeper {
    /// Time of the next check or renewal.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Returns whether it is ours, according to the last check.
    pub fn ours(&self) -> bool {
        self.ours
    }

    /// Returns whether it has been ours, so that inherited hosts may be judged.
    pub fn cleared(&self) -> bool {
        self.cleared
    }

    /// The connection is gone: a watch begins anew.
    pub fn interrupted(&mut self) {
        self.watch = None;
    }

    /// The store answered a look, or with `forced` a taking, that began at `before` and ended at `after`.
    pub fn saw(&mut self, lease: Lease, forced: bool, before: Instant, after: Instant) -> News {
        let watched = self.watch.is_some();
        let slack = Span::from_millis(LEASE_GROWTH_MS);
        let early = self
            .watch
            .is_some_and(|last| after.since(last.at) + slack < last.left);
        match lease {
            Lease::Foreign { left } => {
                self.ours = false;
                self.due = after + Span::from_millis(LEASE_LOOK_MS);
                return self.watch(left, before, after);
            }
            Lease::Ours | Lease::Taken => {
                self.watch = None;
                self.due = before + Span::from_secs(LEASE_RENEW_S);
            }
        }
        let had = std::mem::replace(&mut self.ours, true);
        if !std::mem::replace(&mut self.cleared, true) {
            match early && !forced {
                true => News::ClearAndLost,
                false => News::Clear,
            }
        } else if lease == Lease::Taken && !forced && (had || watched) {
            News::Lost
        } else {
            News::Nothing
        }
    }

    fn watch(&mut self, left: Span, before: Instant, after: Instant) -> News {
        let fresh = Watch {
            since: after,
            left,
            at: after,
        };
        let Some(last) = self.watch.replace(fresh) else {
            return News::Nothing;
        };
        // At least so much time lies between the two looks, so it should have run down by as much.
        let elapsed = before.since(last.at);
        let grown = left + elapsed > last.left + Span::from_millis(LEASE_GROWTH_MS);
        if grown {
            return match self.cleared {
                true => News::Contested,
                false => News::NameTaken,
            };
        }
        self.watch = Some(Watch {
            since: last.since,
            ..fresh
        });
        match before.since(last.since) >= Span::from_secs(LEASE_WATCH_S) {
            true => News::Dead,
            false => News::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Span::from_millis(ms)
    }

    fn foreign(ms: u64) -> Lease {
        Lease::Foreign {
            left: Span::from_millis(ms),
        }
    }

    #[test]
    fn a_lease_that_only_runs_down_is_dead_after_the_watch() {
        let mut keeper = Keeper::default();
        let mut now = 0;
        while keeper.saw(foreign(14_000 - now), false, at(now), at(now)) == News::Nothing {
            assert!(now < 6_500, "it ought to be dead");
            now = keeper.due().as_nanos() / 1_000_000;
        }
        assert!((6_000..=6_500).contains(&now), "dead at {now} ms");
        assert!(!keeper.cleared());
        let news = keeper.saw(Lease::Taken, true, at(now), at(now));
        assert_eq!((news, keeper.ours()), (News::Clear, true));
    }

    #[test]
    fn one_that_lapses_under_watch_is_free() {
        let mut keeper = Keeper::default();
        assert_eq!(keeper.saw(foreign(400), false, at(0), at(0)), News::Nothing);
        assert_eq!(
            keeper.saw(Lease::Taken, false, at(500), at(500)),
            News::Clear
        );
    }

    #[test]
    fn one_that_vanishes_before_its_time_may_have_gone_with_all_the_rest() {
        let mut keeper = Keeper::default();
        keeper.saw(foreign(9_000), false, at(0), at(0));
        assert_eq!(
            keeper.saw(Lease::Taken, false, at(500), at(500)),
            News::ClearAndLost
        );
    }

    #[test]
    fn one_that_grows_has_a_living_owner() {
        let mut keeper = Keeper::default();
        keeper.saw(foreign(10_400), false, at(0), at(0));
        assert_eq!(
            keeper.saw(foreign(15_000), false, at(500), at(500)),
            News::NameTaken
        );
    }

    #[test]
    fn a_slow_look_is_no_growth() {
        let mut keeper = Keeper::default();
        // Asked at 0, looked at and answered only at 900; the next is answered at once.
        keeper.saw(foreign(10_000), false, at(0), at(900));
        assert_eq!(
            keeper.saw(foreign(9_500), false, at(1_400), at(1_400)),
            News::Nothing
        );
    }

    #[test]
    fn whoever_has_served_is_not_ended_by_another_but_told() {
        let mut keeper = Keeper::default();
        keeper.saw(Lease::Taken, false, at(0), at(0));
        assert_eq!(
            keeper.saw(foreign(9_000), false, at(5_000), at(5_000)),
            News::Nothing
        );
        assert_eq!(
            keeper.saw(foreign(15_000), false, at(5_500), at(5_500)),
            News::Contested
        );
        // It goes on being watched, and is ours again when its owner is gone.
        assert_eq!(
            keeper.saw(foreign(8_000), false, at(12_600), at(12_600)),
            News::Dead
        );
        assert_eq!(
            keeper.saw(Lease::Taken, true, at(12_600), at(12_600)),
            News::Nothing
        );
        assert_eq!(keeper.due(), at(17_600));
    }

    #[test]
    fn a_lease_of_ours_that_was_gone_means_that_everything_is() {
        let mut keeper = Keeper::default();
        assert_eq!(keeper.saw(Lease::Taken, false, at(0), at(0)), News::Clear);
        let later = at(5_000);
        assert_eq!(keeper.saw(Lease::Ours, false, later, later), News::Nothing);
        assert_eq!(keeper.saw(Lease::Taken, false, later, later), News::Lost);
    }
}
