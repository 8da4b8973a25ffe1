//! Counters of targets. None is labelled by target.

/// Counters and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Targets that were reached.
    pub up: u64,
    /// Targets that refuse connections.
    pub refused: u64,
    /// Targets that do not answer.
    pub down: u64,
    /// Attempts.
    pub tries: u64,
}
