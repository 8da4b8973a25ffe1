//! All random choices of a run: one seed, one stream.

use anthill::rng::Rng;
use anthill::time::Span;

/// The stream, with the choices that a simulation needs.
#[derive(Clone, Debug)]
pub struct Dice(Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// A number below `bound`, uniformly.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.part_of(Span::from_nanos(bound)).as_nanos()
    }

    pub fn number(&mut self) -> u64 {
        self.below(u64::MAX)
    }

    /// An index of a list of this length.
    pub fn place(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    /// Milliseconds from `least` to below `most`.
    pub fn ms(&mut self, least: u64, most: u64) -> Span {
        Span::from_millis(least) + self.0.part_of(Span::from_millis(most - least))
    }
}
