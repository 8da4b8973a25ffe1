//! How far a run is, for whoever looks on.

use crate::time::Span;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// In a word: `connecting`, `beating`, …
    pub doing: &'static str,
    /// How much of it is done, in the unit of `of`.
    pub done: u64,
    /// How much there is to do. Zero where it is not known.
    pub of: u64,
    /// Hosts connected now.
    pub connected: u64,
    /// Heartbeats sent so far.
    pub sent: u64,
    /// Replies so far.
    pub answered: u64,
    /// Errors so far.
    pub errors: u64,
    /// For how long it has been under way.
    pub elapsed: Span,
}

/// Who looks on. Told a few times a second.
pub trait Watch {
    /// It stands so.
    fn progress(&mut self, progress: &Progress);
    /// Something worth a line.
    fn note(&mut self, line: &str);
    /// Why it is to end now, if it is: what was measured so far is told.
    fn wants_end(&self) -> Option<String> {
        None
    }
}

/// Nobody looks on.
#[derive(Debug)]
pub struct Nobody;

impl Watch for Nobody {
    fn progress(&mut self, _: &Progress) {}
    fn note(&mut self, _: &str) {}
}
