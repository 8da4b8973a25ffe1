//! The node's lease, as the worker sees it: its own, or a foreign one under the node's name. Pure:
//! checks go in, changes come out.
//!
//! A foreign lease belongs either to a dead process, and then only runs down, or to a living one,
//! and then its time to live grows. A living owner found at the first connection ends this process.
//! Once this process has served, it goes on and logs the conflict.

use crate::limits::{
    LEASE_CONTEST_LOG_S, LEASE_GROWTH_MS, LEASE_LOOK_MS, LEASE_RENEW_S, LEASE_WATCH_S,
};
use crate::store::Lease;
use crate::time::{Instant, Span};

/// Change that a check has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseChange {
    /// No change.
    Nothing,
    /// The lease is ours for the first time.
    Clear,
    /// Likewise, and the foreign lease vanished before its time: given up, or lost with the store's
    /// data.
    ClearAndLost,
    /// It was ours, was gone, and is ours again: the store has lost its data.
    Lost,
    /// The foreign lease has not been renewed for long enough: take it by force.
    Dead,
    /// A living server renews the foreign lease, and had it before us.
    NameTaken,
    /// A living server renews it, although we have served under its name. Reported at intervals.
    Contested,
}

/// State of the lease.
#[derive(Debug, Default)]
pub(super) struct LeaseWatch {
    is_ours: bool,
    was_ours: bool,
    foreign: Option<Foreign>,
    due: Instant,
    /// Time before which a conflict is not reported again.
    contest_due: Instant,
}

/// A foreign lease under watch.
#[derive(Clone, Copy, Debug)]
struct Foreign {
    since: Instant,
    /// Time to live at the last check, and the time by which that check was certainly taken.
    left: Span,
    at: Instant,
}

impl LeaseWatch {
    /// Time of the next check or renewal.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Returns whether it is ours, according to the last check.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Returns whether it has been ours, so that inherited hosts may be judged.
    pub fn was_ours(&self) -> bool {
        self.was_ours
    }

    /// The connection ended: a watch begins anew.
    pub fn interrupted(&mut self) {
        self.foreign = None;
    }

    /// The store answered a check, or with `forced` a taking, that began at `before` and ended at
    /// `after`.
    pub fn checked(
        &mut self,
        lease: Lease,
        forced: bool,
        before: Instant,
        after: Instant,
    ) -> LeaseChange {
        let watched = self.foreign.is_some();
        let slack = Span::from_millis(LEASE_GROWTH_MS);
        let early = self
            .foreign
            .is_some_and(|last| after.since(last.at) + slack < last.left);
        match lease {
            Lease::Foreign { left } => {
                self.is_ours = false;
                self.due = after + Span::from_millis(LEASE_LOOK_MS);
                return self.watch(left, before, after);
            }
            Lease::Ours | Lease::Taken => {
                self.foreign = None;
                self.due = before + Span::from_secs(LEASE_RENEW_S);
            }
        }
        let had = std::mem::replace(&mut self.is_ours, true);
        if !std::mem::replace(&mut self.was_ours, true) {
            match early && !forced {
                true => LeaseChange::ClearAndLost,
                false => LeaseChange::Clear,
            }
        } else if lease == Lease::Taken && !forced && (had || watched) {
            LeaseChange::Lost
        } else {
            LeaseChange::Nothing
        }
    }

    fn watch(&mut self, left: Span, before: Instant, after: Instant) -> LeaseChange {
        let fresh = Foreign {
            since: after,
            left,
            at: after,
        };
        let Some(last) = self.foreign.replace(fresh) else {
            return LeaseChange::Nothing;
        };
        // At least so much time lies between the two checks, so it should have run down by as much.
        let elapsed = before.since(last.at);
        let grown = left + elapsed > last.left + Span::from_millis(LEASE_GROWTH_MS);
        if grown {
            if !self.was_ours {
                return LeaseChange::NameTaken;
            }
            if after < self.contest_due {
                return LeaseChange::Nothing;
            }
            self.contest_due = after + Span::from_secs(LEASE_CONTEST_LOG_S);
            return LeaseChange::Contested;
        }
        self.foreign = Some(Foreign {
            since: last.since,
            ..fresh
        });
        match before.since(last.since) >= Span::from_secs(LEASE_WATCH_S) {
            true => LeaseChange::Dead,
            false => LeaseChange::Nothing,
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
        let mut watch = LeaseWatch::default();
        let mut now = 0;
        while watch.checked(foreign(14_000 - now), false, at(now), at(now)) == LeaseChange::Nothing
        {
            assert!(now < 6_500, "it ought to be dead");
            now = watch.due().as_nanos() / 1_000_000;
        }
        assert!((6_000..=6_500).contains(&now), "dead at {now} ms");
        assert!(!watch.was_ours());
        let change = watch.checked(Lease::Taken, true, at(now), at(now));
        assert_eq!((change, watch.is_ours()), (LeaseChange::Clear, true));
    }

    #[test]
    fn a_foreign_lease_that_lapses_is_free() {
        let mut watch = LeaseWatch::default();
        assert_eq!(
            watch.checked(foreign(400), false, at(0), at(0)),
            LeaseChange::Nothing
        );
        assert_eq!(
            watch.checked(Lease::Taken, false, at(500), at(500)),
            LeaseChange::Clear
        );
    }

    #[test]
    fn a_vanished_lease_is_evidence_of_a_loss() {
        let mut watch = LeaseWatch::default();
        watch.checked(foreign(9_000), false, at(0), at(0));
        assert_eq!(
            watch.checked(Lease::Taken, false, at(500), at(500)),
            LeaseChange::ClearAndLost
        );
    }

    #[test]
    fn a_lease_that_grows_has_a_living_owner() {
        let mut watch = LeaseWatch::default();
        watch.checked(foreign(10_400), false, at(0), at(0));
        assert_eq!(
            watch.checked(foreign(15_000), false, at(500), at(500)),
            LeaseChange::NameTaken
        );
    }

    #[test]
    fn a_slow_check_is_no_growth() {
        let mut watch = LeaseWatch::default();
        // Requested at 0 and answered at 900; the next check is answered at once.
        watch.checked(foreign(10_000), false, at(0), at(900));
        assert_eq!(
            watch.checked(foreign(9_500), false, at(1_400), at(1_400)),
            LeaseChange::Nothing
        );
    }

    #[test]
    fn a_server_that_served_only_reports_a_contest() {
        let mut watch = LeaseWatch::default();
        watch.checked(Lease::Taken, false, at(0), at(0));
        assert_eq!(
            watch.checked(foreign(9_000), false, at(5_000), at(5_000)),
            LeaseChange::Nothing
        );
        assert_eq!(
            watch.checked(foreign(15_000), false, at(5_500), at(5_500)),
            LeaseChange::Contested
        );
        // The watch goes on, and the lease is ours again when its owner is gone.
        assert_eq!(
            watch.checked(foreign(8_000), false, at(12_600), at(12_600)),
            LeaseChange::Dead
        );
        assert_eq!(
            watch.checked(Lease::Taken, true, at(12_600), at(12_600)),
            LeaseChange::Nothing
        );
        assert_eq!(watch.due(), at(17_600));
    }

    #[test]
    fn our_lease_that_was_gone_is_a_loss() {
        let mut watch = LeaseWatch::default();
        assert_eq!(
            watch.checked(Lease::Taken, false, at(0), at(0)),
            LeaseChange::Clear
        );
        let later = at(5_000);
        assert_eq!(
            watch.checked(Lease::Ours, false, later, later),
            LeaseChange::Nothing
        );
        assert_eq!(
            watch.checked(Lease::Taken, false, later, later),
            LeaseChange::Lost
        );
    }
}
