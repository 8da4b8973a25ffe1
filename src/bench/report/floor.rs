//! Comparison of a server with the floor.

use serde::Serialize;

use super::{ServerUse, TrialReport};

/// One trial against the server and one against the floor.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The server's.
    pub server: TrialReport,
    /// The floor's.
    pub floor: TrialReport,
}

/// The server's figure divided by the floor's, of each pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Median.
    pub median: f64,
    /// Minimum.
    pub min: f64,
    /// Maximum.
    pub max: f64,
}

impl Ratio {
    /// Summarizes the ratios; `None` for an empty list.
    #[must_use]
    pub fn of(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.retain(|ratio| ratio.is_finite());
        ratios.sort_by(f64::total_cmp);
        let (&min, &max) = (ratios.first()?, ratios.last()?);
        let middle = ratios.len() / 2;
        let median = match ratios.len() % 2 {
            1 => ratios[middle],
            _ => (ratios[middle - 1] + ratios[middle]) / 2.0,
        };
        Some(Self { median, min, max })
    }
}

/// The comparison with the floor.
#[derive(Clone, Debug, Serialize)]
pub struct FloorReport {
    /// CPU per heartbeat, the server's loop thread to the floor.
    pub loop_cpu_per_heartbeat_ratio: Option<Ratio>,
    /// CPU per heartbeat, all of the server's threads to the floor.
    pub cpu_per_heartbeat_ratio: Option<Ratio>,
    /// CPU per connection, the server's loop thread to the floor.
    pub loop_cpu_per_connection_ratio: Option<Ratio>,
    /// CPU per connection, all of the server's threads to the floor.
    pub cpu_per_connection_ratio: Option<Ratio>,
    /// Memory per connection beyond the floor's: a difference, since the floor has next to none.
    pub memory_bytes_per_connection_beyond: Option<Ratio>,
    /// The trials.
    pub pairs: Vec<Pair>,
}

impl FloorReport {
    /// Compares these pairs.
    #[must_use]
    pub fn of(pairs: Vec<Pair>) -> Self {
        let each = |server: fn(&ServerUse) -> Option<f64>,
                    floor: fn(&ServerUse) -> Option<f64>,
                    compare: fn(f64, f64) -> f64| {
            let one = |pair: &Pair| {
                let ours = server(pair.server.server_process.as_ref()?)?;
                let theirs = floor(pair.floor.server_process.as_ref()?)?;
                Some(compare(ours, theirs))
            };
            Ratio::of(pairs.iter().filter_map(one).collect())
        };
        let divided: fn(f64, f64) -> f64 = |ours, theirs| ours / theirs;
        let beyond: fn(f64, f64) -> f64 = |ours, theirs| ours - theirs;
        let beat: fn(&ServerUse) -> Option<f64> = |used| used.cpu_us_per_heartbeat;
        let connection: fn(&ServerUse) -> Option<f64> = |used| used.cpu_us_per_connection;
        let memory: fn(&ServerUse) -> Option<f64> = |used| used.memory_bytes_per_connection;
        Self {
            loop_cpu_per_heartbeat_ratio: each(
                |used| used.loop_cpu_us_per_heartbeat,
                beat,
                divided,
            ),
            cpu_per_heartbeat_ratio: each(beat, beat, divided),
            loop_cpu_per_connection_ratio: each(
                |used| used.loop_cpu_us_per_connection,
                connection,
                divided,
            ),
            cpu_per_connection_ratio: each(connection, connection, divided),
            memory_bytes_per_connection_beyond: each(memory, memory, beyond),
            pairs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_has_median_minimum_and_maximum() {
        let ratio = Ratio::of(vec![3.0, 1.0, f64::NAN, 2.0, 4.0]).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.5, 1.0, 4.0));
        assert_eq!(Ratio::of(vec![7.0]).unwrap().median, 7.0);
        assert_eq!(Ratio::of(Vec::new()), None);
    }
}
