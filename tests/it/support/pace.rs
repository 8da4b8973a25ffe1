//! Latency of a host's heartbeats, and its comparison over time.

use std::time::{Duration, Instant};

use super::{BEAT_ASKING, Host};

/// Latencies.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// All but one in a hundred take no longer.
    pub p99: Duration,
}

/// Heartbeats in one measurement.
const BEATS: usize = 300;
/// Measurements among which a busy machine must leave one alone.
const ROUNDS: usize = 25;

/// Measures it once.
#[track_caller]
pub fn measure(host: &mut Host) -> Pace {
    let beat = |_| {
        let asked = Instant::now();
        assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
        asked.elapsed()
    };
    let mut took: Vec<Duration> = (0..BEATS).map(beat).collect();
    took.sort();
    Pace {
        p99: took[BEATS - 1 - BEATS / 100],
    }
}

/// The best of several measurements: the server's own latency, whatever else the machine does.
#[track_caller]
pub fn best(host: &mut Host) -> Pace {
    let measurements = (0..5).map(|_| measure(host));
    measurements.min_by_key(|pace| pace.p99).expect("some")
}

/// Asserts that the 99th percentile is at most `later` above `before`. Other programs may use the
/// machine: an effect of the server is in every measurement, an effect of theirs is not.
#[track_caller]
pub fn keeps(host: &mut Host, before: Pace, later: Duration) -> Pace {
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let pace = measure(host);
        if pace.p99 <= before.p99 + later {
            return pace;
        }
        seen.push(pace.p99);
    }
    panic!("{:?} before, and now {seen:?}", before.p99);
}
