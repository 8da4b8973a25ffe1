//! Seeded random numbers, which spread retries, heartbeats and reconnects over time. The same seed
//! gives the same intervals, so a failure is one number. Not for secrets.

use crate::time::Span;

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Creates the generator of `seed`.
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

    /// Returns `span` with a deviation of up to a quarter in either direction.
    pub fn about(&mut self, span: Span) -> Span {
        let nanos = u128::from(span.as_nanos());
        let quarter = nanos / 4;
        let offset = (u128::from(self.next()) * 2 * quarter) >> 64;
        let sum = nanos - quarter + offset;
        Span::from_nanos(u64::try_from(sum).unwrap_or(u64::MAX))
    }

    /// Returns a number below `bound`, uniformly distributed.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Less than the bound, which is a u64.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a span below `span`, uniformly distributed.
    pub fn part_of(&mut self, span: Span) -> Span {
        Span::from_nanos(self.below(span.as_nanos()))
    }

    /// Returns a span between `span / least` and `span`, uniformly distributed.
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
    fn about_covers_a_quarter_in_both_directions() {
        let mut rng = Rng::new(7);
        let span = Span::from_secs(4);
        let drawn: Vec<u64> = (0..1_000).map(|_| rng.about(span).as_millis()).collect();
        assert!(drawn.iter().all(|ms| (3_000..=5_000).contains(ms)));
        assert!(drawn.iter().any(|ms| *ms < 3_100) && drawn.iter().any(|ms| *ms > 4_900));
        let again = Rng::new(7).about(span).as_millis();
        assert_eq!(again, drawn[0], "the seed says it all");
        let longest = rng.about(Span::from_nanos(u64::MAX)).as_nanos();
        assert!(longest >= u64::MAX / 4 * 3, "nothing wraps");
    }

    #[test]
    fn draws_reach_both_ends_of_their_range_and_no_further() {
        let mut rng = Rng::new(7);
        let span = Span::from_secs(4);
        let drawn: Vec<u64> = (0..1_000)
            .map(|_| rng.at_least(2, span).as_millis())
            .collect();
        assert!(drawn.iter().all(|ms| (2_000..=4_000).contains(ms)));
        assert!(drawn.iter().any(|ms| *ms < 2_100) && drawn.iter().any(|ms| *ms > 3_900));
        let again = Rng::new(7).at_least(2, span).as_millis();
        assert_eq!(again, drawn[0], "the seed says it all");
        assert!(rng.part_of(Span::ZERO) == Span::ZERO);
    }
}
