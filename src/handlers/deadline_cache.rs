//! Cache for the result of the last search for due work. Most turns of a busy server handle only
//! heartbeats. Heartbeats of known hosts change no deadline and create no work.
//!
//! ```text
//!   tick: searches everything ──▶ cached, until the next deadline ──▶ tick: searches again
//!                 ▲                      │
//!                 └──── invalidated ◀─────┘  by any other input
//! ```

use crate::time::Instant;

/// The cached result.
#[derive(Debug, Default)]
pub(super) struct DeadlineCache {
    found: Option<Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    next: Option<Instant>,
    work: bool,
}

impl DeadlineCache {
    /// Invalidates the result after an event that may create work or change the next deadline.
    pub(super) fn invalidate(&mut self) {
        self.found = None;
    }

    /// Sets the result of a search: the next deadline, and whether there is work.
    pub(super) fn found(&mut self, next: Option<Instant>, work: bool) {
        self.found = Some(Found { next, work });
    }

    /// The next deadline, if it is cached and after `judge`: no work is due.
    pub(super) fn next_after(&self, judge: Instant) -> Option<Option<Instant>> {
        let Found { next, .. } = self.found?;
        next.is_none_or(|next| judge < next).then_some(next)
    }

    /// Returns whether there is work for the store, if that is cached.
    pub(super) fn work(&self) -> Option<bool> {
        Some(self.found?.work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn a_result_is_cached_until_its_deadline() {
        let at = |second| Instant::ZERO + Span::from_secs(second);
        let mut cache = DeadlineCache::default();
        assert_eq!((cache.next_after(at(1)), cache.work()), (None, None));
        cache.found(Some(at(5)), true);
        assert_eq!(cache.next_after(at(4)), Some(Some(at(5))));
        assert_eq!(cache.next_after(at(5)), None, "due");
        assert_eq!(cache.work(), Some(true));
        cache.invalidate();
        assert_eq!((cache.next_after(at(4)), cache.work()), (None, None));
        cache.found(None, false);
        assert_eq!(
            (cache.next_after(at(9)), cache.work()),
            (Some(None), Some(false))
        );
    }
}
