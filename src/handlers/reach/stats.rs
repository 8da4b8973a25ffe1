//! Counters of targets.

use crate::metrics::{Measured, Metric};

/// Counters and gauges of targets. The table `METRICS` describes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub up: u64,
    pub refused: u64,
    pub down: u64,
    pub standby: u64,
    pub tries: u64,
}

#[rustfmt::skip] // A table: name, meaning, value.
impl Measured for Stats {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::by("state", "anthill_targets", "Targets of `reach`, by state: up, refused (connections are refused), down, or standby (another node tries it).",
            |s| vec![("up", s.up), ("refused", s.refused), ("down", s.down), ("standby", s.standby)]),
        Metric::new("anthill_target_tries_total", "Attempts to reach a target.", |s| s.tries),
    ];
}
