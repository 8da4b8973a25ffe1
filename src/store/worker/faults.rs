//! Consecutive panics of the store thread. After a few of them operations run one by one, so that
//! the faulty one is found and set aside.

use crate::limits::{STORE_CARE_S, STORE_PANICS_MAX};
use crate::time::{Instant, Span};

/// Recent panics.
#[derive(Debug, Default)]
pub(super) struct Faults {
    in_row: u32,
    last: Instant,
}

impl Faults {
    /// Records a panic at `now`.
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
    pub fn is_careful(&self, now: Instant) -> bool {
        self.in_row >= STORE_PANICS_MAX && now.since(self.last) <= Span::from_secs(STORE_CARE_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_panics_in_a_row_make_it_careful_for_a_minute() {
        let at = |secs| Instant::ZERO + Span::from_secs(secs);
        let mut faults = Faults::default();
        faults.note(at(100));
        faults.note(at(200));
        faults.note(at(210));
        assert!(!faults.is_careful(at(210)));
        faults.note(at(220));
        assert!(faults.is_careful(at(280)));
        assert!(!faults.is_careful(at(281)));
    }
}
