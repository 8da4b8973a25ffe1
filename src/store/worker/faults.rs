//! Consecutive panics, and their consequences: after a few, operations are run one by one, so that
//! the faulty one is found and set aside.

use crate::limits::{STORE_CARE_S, STORE_PANICS_MAX};
use crate::time::{Instant, Span};

/// Source of the operations that panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Operations of the core.
    Pending,
    /// Operations of the replay buffer: the one at this index.
    Recent(usize),
    /// The oldest of the spool.
    Spool,
    /// The first dispatch that the store went away under.
    Dispatch,
}

/// A run under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    /// Of what.
    pub source: Source,
    /// A single operation, run alone because of earlier panics.
    pub alone: bool,
}

/// The panics of late.
#[derive(Debug, Default)]
pub(super) struct Faults {
    in_row: u32,
    last: Instant,
}

impl Faults {
    /// It has panicked at `now`.
    pub fn note(&mut self, now: Instant) {
        let fresh = now.since(self.last) > Span::from_secs(STORE_CARE_S);
        self.in_row = if fresh {
            1
        } else {
            self.in_row.saturating_add(1)
        };
        self.last = now;
    }

    /// Returns whether operations must be run one by one.
    pub fn careful(&self, now: Instant) -> bool {
        self.in_row >= STORE_PANICS_MAX && now.since(self.last) <= Span::from_secs(STORE_CARE_S)
    }
}

/// Message of a panic.
pub(super) fn words(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_make_it_careful_until_a_quiet_minute_has_passed() {
        let at = |secs| Instant::ZERO + Span::from_secs(secs);
        let mut faults = Faults::default();
        faults.note(at(100));
        faults.note(at(200));
        faults.note(at(210));
        assert!(!faults.careful(at(210)));
        faults.note(at(220));
        assert!(faults.careful(at(280)));
        assert!(!faults.careful(at(281)));
    }
}
