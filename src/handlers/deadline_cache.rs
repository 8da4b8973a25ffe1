//! Cache for the result of the last search for due work. Nearly every turn of a busy server brings
//! heartbeats only, and those of known hosts change no deadline and create no work.
//!
//! ```text
//!   tick: searches everything ──▶ cached, until the next deadline ──▶ tick: searches again
//!                 ▲                      │
//!                 └──── invalidated ◀─────┘  by anything but such a heartbeat
//! ```

use crate::time::Instant;

/// The cached result.
#[derive(Debug, Default)]
pub(super) struct Calm {
    found: Option<Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    next: Option<Instant>,
    work: bool,
}

impl Calm {
    /// Something has happened that may have changed what is due, or what there is to do.
    pub(super) fn stir(&mut self) {
        self.found = None;
    }

    /// All has been looked at: the next deadline, if there is any, and whether there is work.
    pub(super) fn found(&mut self, next: Option<Instant>, work: bool) {
        self.found = Some(Found { next, work });
    }

    /// The next deadline, if it is cached and after `judge`: then nothing is due.
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
    fn it_lasts_until_the_deadline_or_until_it_is_stirred() {
        let at = |second| Instant::ZERO + Span::from_secs(second);
        let mut calm = Calm::default();
        assert_eq!((calm.next_after(at(1)), calm.work()), (None, None));
        calm.found(Some(at(5)), true);
        assert_eq!(calm.next_after(at(4)), Some(Some(at(5))));
        assert_eq!(calm.next_after(at(5)), None, "due");
        assert_eq!(calm.work(), Some(true));
        calm.stir();
        assert_eq!((calm.next_after(at(4)), calm.work()), (None, None));
        calm.found(None, false);
        assert_eq!(
            (calm.next_after(at(9)), calm.work()),
            (Some(None), Some(false))
        );
    }
}
