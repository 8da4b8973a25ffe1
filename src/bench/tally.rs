//! Counters of a trial, pure.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::report::Latency;
use crate::time::{Instant, Span};

/// Longest time recorded, in nanoseconds: an hour. Longer times count as an hour.
const LONGEST: u64 = 3_600_000_000_000;
/// Kinds of lost connections.
pub const LOSSES: [&str; 5] = ["closed", "reset", "bad_reply", "refused", "lost_other"];
/// Significant digits of a recorded time.
const DIGITS: u8 = 3;

/// A histogram of times.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self(histogram.expect("the bounds are in order and the digits few"))
    }
}

impl Times {
    /// Records one time.
    pub fn record(&mut self, span: Span) {
        self.0.saturating_record(span.as_nanos().max(1));
    }

    /// Summary for the report; `None` without measurements.
    #[must_use]
    pub fn summary(&self) -> Option<Latency> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Some(Latency {
            count: self.0.len(),
            mean_us: self.0.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max() as f64 / 1e3,
        })
    }
}

/// An interval whose heartbeats are also counted separately.
#[derive(Clone, Debug)]
pub struct Meanwhile {
    /// Start of the interval.
    pub from: Instant,
    /// End of the interval, exclusive.
    pub to: Instant,
    /// Latency of heartbeats that were due in it.
    pub replies: Times,
    /// Lateness of sending.
    pub late: Times,
}

impl Meanwhile {
    /// Returns whether `due` is in the interval.
    fn holds(&self, due: Instant) -> bool {
        self.from <= due && due < self.to
    }
}

/// All counters of a trial.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections begun.
    pub begun: u64,
    /// Connections that were due and not begun in time.
    pub not_begun: u64,
    /// Connections established, hello included.
    pub made: u64,
    /// Failed connection attempts.
    pub failed: u64,
    /// Established connections that the peer closed.
    pub lost: u64,
    /// From the due time of a connection to its establishment.
    pub connecting: Times,
    /// Heartbeats sent.
    pub sent: u64,
    /// Heartbeats that were due and not sent in time.
    pub not_sent: u64,
    /// Heartbeats sent that ask for a reply.
    pub asked: u64,
    /// Replies to them.
    pub answered: u64,
    /// From the due time of a heartbeat until its reply was read, or was no longer awaited.
    pub replies: Times,
    /// The same for heartbeats due within a separate interval, if there is one.
    pub meanwhile: Option<Meanwhile>,
    /// The same for hosts that the task does not name.
    pub apart: Times,
    /// Lateness of the load generator itself, where there is a due time.
    pub late: Times,
    /// Errors, by kind.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts one error.
    pub fn error(&mut self, kind: &str) {
        self.errors(kind, 1);
    }

    /// Counts an error `times` times.
    pub fn errors(&mut self, kind: &str, times: u64) {
        match self.errors.get_mut(kind) {
            Some(count) => *count += times,
            None if times == 0 => {}
            None => {
                self.errors.insert(kind.to_owned(), times);
            }
        }
    }

    /// Counts heartbeats that were due and will not be sent.
    pub fn gave_up(&mut self, count: u64) {
        self.not_sent += count;
        self.errors("not_sent", count);
    }

    /// Counts connections that were due and will not be begun.
    pub fn not_begun(&mut self, count: u64) {
        self.not_begun += count;
        self.errors("not_begun", count);
    }

    /// Number of all errors.
    #[must_use]
    pub fn errors_in_all(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Records the lateness of a heartbeat that was due at `due`.
    pub fn late(&mut self, due: Instant, late: Span) {
        self.late.record(late);
        if let Some(meanwhile) = self.meanwhile.as_mut().filter(|during| during.holds(due)) {
            meanwhile.late.record(late);
        }
    }

    /// Lost connections by kind, as text.
    #[must_use]
    pub fn losses_text(&self) -> String {
        let words = LOSSES.iter().filter_map(|kind| {
            let count = self.errors.get(*kind)?;
            Some(format!("{count} {kind}"))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Records a reply of a separately measured host.
    pub fn apart(&mut self, now: Instant, due: Instant) {
        self.apart.record(now.since(due));
    }

    /// Records a heartbeat without a reply, with the time it was awaited. Without it the longest
    /// times would be missing.
    pub fn unanswered(&mut self, now: Instant, due: Instant) {
        self.error("unanswered");
        self.took(now, due);
    }

    fn took(&mut self, now: Instant, due: Instant) {
        self.replies.record(now.since(due));
        if let Some(meanwhile) = self.meanwhile.as_mut().filter(|during| during.holds(due)) {
            meanwhile.replies.record(now.since(due));
        }
    }

    /// Records a reply, read at `now`, to the heartbeat whose due time is its `seq`. Returns false
    /// if no heartbeat was due then.
    pub fn reply(&mut self, now: Instant, seq: u64) -> bool {
        let due = Instant::from_nanos(seq);
        if due > now {
            return false;
        }
        self.answered += 1;
        self.took(now, due);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Span::from_millis(ms)
    }

    #[test]
    fn latency_counts_from_the_due_time() {
        let mut tally = Tally::default();
        // Due every 10 ms; the server hangs for a second and then answers all at once.
        for beat in 0..100 {
            assert!(tally.reply(at(1_000), at(beat * 10).as_nanos()));
        }
        assert!(!tally.reply(at(1_000), at(1_001).as_nanos()), "not due yet");
        let latency = tally.replies.summary().unwrap();
        assert_eq!(latency.count, 100);
        assert!(
            (490_000.0..=520_000.0).contains(&latency.p50_us),
            "{latency:?}"
        );
        assert!(
            (990_000.0..=1_010_000.0).contains(&latency.max_us),
            "{latency:?}"
        );
    }

    #[test]
    fn unanswered_heartbeats_count_as_latency() {
        let mut tally = Tally::default();
        for beat in 0..60 {
            tally.reply(at(beat + 1), at(beat).as_nanos());
        }
        for beat in 60..100 {
            tally.unanswered(at(1_060), at(beat));
        }
        let latency = tally.replies.summary().unwrap();
        assert_eq!((latency.count, tally.answered), (100, 60));
        assert!(latency.p50_us < 1_100.0, "{latency:?}");
        assert!(latency.p90_us > 950_000.0, "{latency:?}");
        assert_eq!(tally.errors["unanswered"], 40);
    }

    #[test]
    fn empty_and_overlong_latencies() {
        let mut times = Times::default();
        assert!(times.summary().is_none());
        times.record(Span::ZERO);
        times.record(Span::from_secs(10_000));
        let latency = times.summary().unwrap();
        assert!((3.59e9..3.61e9).contains(&latency.max_us), "{latency:?}");
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let mut tally = Tally::default();
        for kind in ["reset", "closed", "reset", "connect_refused"] {
            tally.error(kind);
        }
        tally.errors("not_sent", 0);
        assert_eq!(tally.errors_in_all(), 4);
        assert_eq!(tally.losses_text(), "1 closed, 2 reset");
    }
}
