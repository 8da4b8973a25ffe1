//! When many hosts talk at once it is cheaper to let a little gather than to wake for each: under
//! dense traffic the loop naps for up to `server.coalesce_us` before it waits. Thin traffic never
//! waits for it.

use crate::time::Span;

/// A turn with so many events is dense.
const DENSE_EVENTS_MIN: usize = 32;
/// So many dense turns in a row make it worth a nap.
const DENSE_TURNS_MIN: u32 = 8;

/// Decides whether to nap. It looks at events only; the caller sleeps.
#[derive(Debug)]
pub struct Coalesce {
    nap: Span,
    dense: u32,
}

impl Coalesce {
    /// Naps of up to `nap`; zero switches them off.
    #[must_use]
    pub fn new(nap: Span) -> Self {
        Self { nap, dense: 0 }
    }

    /// A wait has brought `events`.
    pub fn turn(&mut self, events: usize) {
        self.dense = match events {
            DENSE_EVENTS_MIN.. => self.dense.saturating_add(1),
            _ => 0,
        };
    }

    /// How long to nap before a wait of up to `wait` (`None`: for as long as it takes). Never
    /// longer than that wait, and not at all where there is to be none.
    #[must_use]
    pub fn nap(&self, wait: Option<Span>) -> Option<Span> {
        let nap = self.nap.min(wait.unwrap_or(self.nap));
        (self.dense >= DENSE_TURNS_MIN && nap > Span::ZERO).then_some(nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(nap: Span) -> Coalesce {
        let mut coalesce = Coalesce::new(nap);
        for _ in 0..DENSE_TURNS_MIN {
            coalesce.turn(DENSE_EVENTS_MIN);
        }
        coalesce
    }

    #[test]
    fn only_sustained_density_is_worth_a_nap_and_one_thin_turn_ends_it() {
        let nap = Span::from_millis(1);
        let mut coalesce = Coalesce::new(nap);
        for _ in 0..DENSE_TURNS_MIN {
            assert_eq!(coalesce.nap(None), None);
            coalesce.turn(DENSE_EVENTS_MIN);
        }
        assert_eq!(coalesce.nap(None), Some(nap));
        coalesce.turn(DENSE_EVENTS_MIN - 1);
        assert_eq!(coalesce.nap(None), None);
    }

    #[test]
    fn a_nap_never_outlasts_the_wait_and_zero_switches_it_off() {
        let coalesce = dense(Span::from_millis(1));
        let near = Span::from_micros(300);
        assert_eq!(coalesce.nap(Some(near)), Some(near));
        assert_eq!(coalesce.nap(Some(Span::ZERO)), None);
        assert_eq!(dense(Span::ZERO).nap(None), None);
    }
}
