//! Progress of a run, for an observer.

use crate::time::Span;

/// State of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Current phase in a word: `connecting`, `beating`, …
    pub doing: &'static str,
    /// Completed part of the phase, in the unit of `of`.
    pub done: u64,
    /// Size of the phase; zero if it is not known.
    pub of: u64,
    /// Hosts connected now.
    pub connected: u64,
    /// Heartbeats sent so far.
    pub sent: u64,
    /// Replies so far.
    pub answered: u64,
    /// Errors so far.
    pub errors: u64,
    /// Elapsed time of the phase.
    pub elapsed: Span,
}

/// An observer, called a few times a second.
pub trait Watch {
    /// Receives the current state.
    fn progress(&mut self, progress: &Progress);
    /// Receives a line worth printing.
    fn note(&mut self, line: &str);
    /// Returns a reason to end now; the figures so far are reported.
    fn wants_end(&self) -> Option<String> {
        None
    }
}
