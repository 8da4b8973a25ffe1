//! Chance from a seed: what spreads tries, beats and reconnects over time. The same seed gives the same
//! intervals, so that a failure is one number. Not for secrets.

use crate::time::Span;

/// A stream of numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream that `seed` names.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// `span`, give or take a quarter of it.
    pub fn about(&mut self, span: Span) -> Span {
        let nanos = u128::from(span.as_nanos());
        let quarter = nanos / 4;
        let offset = (u128::from(self.next()) * 2 * quarter) >> 64;
        let sum = nanos - quarter + offset;
        Span::from_nanos(u64::try_from(sum).unwrap_or(u64::MAX))
    }

    /// Some part of `span`, all of them alike.
    pub fn part_of(&mut self, span: Span) -> Span {
        let part = (u128::from(self.next()) * u128::from(span.as_nanos())) >> 64;
        // Less than the span, which is a u64.
        Span::from_nanos(part as u64)
    }

    /// Between the `least`-th part of `span` and all of it.
    ///
    /// # Panics
    /// When `least` is zero.
    pub fn at_least(&mut self, least: u64, span: Span) -> Span {
        let floor = span.part(least);
        let rest = Span::from_nanos(span.as_nanos() - floor.as_nanos());
        floor + self.part_of(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_is_within_a_quarter_and_reaches_both_ends_of_it() {
        let mut chance = Chance::new(7);
        let span = Span::from_secs(4);
        let drawn: Vec<u64> = (0..1_000).map(|_| chance.about(span).as_millis()).collect();
        assert!(drawn.iter().all(|ms| (3_000..=5_000).contains(ms)));
        assert!(drawn.iter().any(|ms| *ms < 3_100) && drawn.iter().any(|ms| *ms > 4_900));
        let again = Chance::new(7).about(span).as_millis();
        assert_eq!(again, drawn[0], "the seed says it all");
        let longest = chance.about(Span::from_nanos(u64::MAX)).as_nanos();
        assert!(longest >= u64::MAX / 4 * 3, "nothing wraps");
    }

    #[test]
    fn draws_reach_both_ends_of_their_range_and_no_further() {
        let mut chance = Chance::new(7);
        let span = Span::from_secs(4);
        let drawn: Vec<u64> = (0..1_000)
            .map(|_| chance.at_least(2, span).as_millis())
            .collect();
        assert!(drawn.iter().all(|ms| (2_000..=4_000).contains(ms)));
        assert!(drawn.iter().any(|ms| *ms < 2_100) && drawn.iter().any(|ms| *ms > 3_900));
        let again = Chance::new(7).at_least(2, span).as_millis();
        assert_eq!(again, drawn[0], "the seed says it all");
        assert!(chance.part_of(Span::ZERO) == Span::ZERO);
    }
}
