//! Times of the turns of the server's loop, from the histogram that it serves at `/metrics`.

use std::sync::Arc;

use serde::Serialize;

/// Name of the histogram's buckets in the metrics.
const BUCKETS: &str = "anthill_turn_seconds_bucket{le=\"";

/// Reads the metrics of the server, as text.
pub type ReadMetrics = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// Turns of the loop while the load was on. A time is the upper bound of the bucket that it falls
/// in; `null` above the last bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TurnTimes {
    /// Number of turns.
    pub count: u64,
    /// Median.
    pub p50_us_at_most: Option<f64>,
    /// 99th percentile.
    pub p99_us_at_most: Option<f64>,
    /// 99.99th percentile.
    pub p9999_us_at_most: Option<f64>,
    /// Maximum.
    pub max_us_at_most: Option<f64>,
}

/// Buckets of the histogram at a moment: the upper bound in microseconds and the turns up to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Turns(Vec<(f64, u64)>);

impl Turns {
    /// Reads the buckets in a page of metrics.
    ///
    /// # Errors
    /// When the page has no such histogram.
    pub fn of(metrics: &str) -> Result<Self, String> {
        let bucket = |line: &str| {
            let (bound, turns) = line.strip_prefix(BUCKETS)?.split_once("\"} ")?;
            Some((bound.parse::<f64>().ok()? * 1e6, turns.parse().ok()?))
        };
        let buckets: Vec<_> = metrics.lines().filter_map(bucket).collect();
        match buckets.is_empty() {
            true => Err("its metrics have no anthill_turn_seconds".to_owned()),
            false => Ok(Self(buckets)),
        }
    }

    /// Computes the times of the turns after `before`.
    ///
    /// # Errors
    /// When the counts have fallen: the server was started again.
    pub fn since(&self, before: &Self) -> Result<TurnTimes, String> {
        let restarted = || "the server was started again".to_owned();
        let pairs = self.0.iter().zip(&before.0);
        let counts: Option<Vec<(f64, u64)>> = pairs
            .map(|(now, then)| Some((now.0, now.1.checked_sub(then.1)?)))
            .collect();
        let counts = counts.ok_or_else(restarted)?;
        let count = counts.last().map_or(0, |last| last.1);
        let at = |part: f64| {
            let wanted = (count as f64 * part).ceil().max(1.0) as u64;
            let bound = counts.iter().find(|(_, turns)| *turns >= wanted)?.0;
            bound.is_finite().then_some(bound)
        };
        Ok(TurnTimes {
            count,
            p50_us_at_most: at(0.5),
            p99_us_at_most: at(0.99),
            p9999_us_at_most: at(0.9999),
            max_us_at_most: at(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(counts: [u64; 3]) -> String {
        let bounds = ["0.00005", "0.001", "+Inf"];
        let bounds = bounds.iter().zip(counts);
        let line = |(bound, count)| format!("{BUCKETS}{bound}\"}} {count}\n");
        format!(
            "anthill_turns_total 7\n{}",
            bounds.map(line).collect::<String>()
        )
    }

    #[test]
    fn times_are_bounds_of_buckets() {
        let turns = |counts| Turns::of(&page(counts)).unwrap();
        let (before, after) = (turns([100, 100, 100]), turns([199, 201, 201]));
        let times = after.since(&before).unwrap();
        assert_eq!(times.count, 101);
        assert_eq!(times.p50_us_at_most, Some(50.0));
        assert_eq!(times.p9999_us_at_most, Some(1_000.0));
        assert_eq!(
            turns([1, 1, 2])
                .since(&turns([0; 3]))
                .unwrap()
                .max_us_at_most,
            None
        );
        assert!(before.since(&after).is_err(), "a restarted server");
        assert!(Turns::of("anthill_turns_total 7\n").is_err());
    }

    #[test]
    fn no_turn_has_no_time() {
        let turns = Turns::of(&page([5, 5, 5])).unwrap();
        let times = turns.since(&turns).unwrap();
        assert_eq!((times.count, times.max_us_at_most), (0, None));
    }
}
