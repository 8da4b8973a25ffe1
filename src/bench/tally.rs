//! What has been counted, pure.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::report::Latency;
use crate::time::{Instant, Span};

/// The longest time told apart, in nanoseconds: an hour. What is longer counts as that.
const LONGEST: u64 = 3_600_000_000_000;
/// How a connection that had come about is lost.
pub const LOSSES: [&str; 5] = ["closed", "reset", "bad_reply", "refused", "lost_other"];
/// Significant digits of a time.
const DIGITS: u8 = 3;

/// Times, by how often they came.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self(histogram.expect("the bounds are in order and the digits few"))
    }
}

impl Times {
    /// It took so long.
    pub fn record(&mut self, span: Span) {
        self.0.saturating_record(span.as_nanos().max(1));
    }

    /// What is to be told of them; nothing where there are none.
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

/// A stretch of time whose heartbeats are looked at by themselves.
#[derive(Clone, Debug)]
pub struct Meanwhile {
    /// Its first moment.
    pub from: Instant,
    /// The first moment after it.
    pub to: Instant,
    /// Replies to heartbeats that were due in it.
    pub replies: Times,
    /// By how much they were sent late.
    pub late: Times,
}

impl Meanwhile {
    /// Whether a moment is in it.
    fn holds(&self, due: Instant) -> bool {
        self.from <= due && due < self.to
    }
}

/// All that is counted in a trial.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections begun.
    pub begun: u64,
    /// Connections that were due and not begun in time.
    pub not_begun: u64,
    /// Connections that came about, greeting included.
    pub made: u64,
    /// Connections that did not.
    pub failed: u64,
    /// Connections that came about and were ended by the other side.
    pub lost: u64,
    /// From when a connection should have begun until it had come about.
    pub connecting: Times,
    /// Heartbeats sent.
    pub sent: u64,
    /// Heartbeats that were due and not sent in time.
    pub not_sent: u64,
    /// Those that were sent and ask for a reply.
    pub asked: u64,
    /// Replies to them.
    pub answered: u64,
    /// From when a heartbeat should have been sent until its reply was read, or no longer waited for.
    pub replies: Times,
    /// The same of those that were due within a stretch of time, if there is one.
    pub meanwhile: Option<Meanwhile>,
    /// The same of hosts that have nothing to do with a task.
    pub apart: Times,
    /// By how much the load generator itself was late, where there is a moment to be late for.
    pub late: Times,
    /// What went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Something went wrong.
    pub fn error(&mut self, kind: &str) {
        self.errors(kind, 1);
    }

    /// It went wrong so often.
    pub fn errors(&mut self, kind: &str, times: u64) {
        match self.errors.get_mut(kind) {
            Some(count) => *count += times,
            None if times == 0 => {}
            None => {
                self.errors.insert(kind.to_owned(), times);
            }
        }
    }

    /// So many heartbeats were due and will not be sent.
    pub fn gave_up(&mut self, count: u64) {
        self.not_sent += count;
        self.errors("not_sent", count);
    }

    /// The same of connections.
    pub fn not_begun(&mut self, count: u64) {
        self.not_begun += count;
        self.errors("not_begun", count);
    }

    /// All errors.
    #[must_use]
    pub fn errors_in_all(&self) -> u64 {
        self.errors.values().sum()
    }

    /// A heartbeat that was due at `due` was sent so late.
    pub fn late(&mut self, due: Instant, late: Span) {
        self.late.record(late);
        if let Some(meanwhile) = self.meanwhile.as_mut().filter(|during| during.holds(due)) {
            meanwhile.late.record(late);
        }
    }

    /// How connections were lost, by kind, in words.
    #[must_use]
    pub fn losses_in_words(&self) -> String {
        let words = LOSSES.iter().filter_map(|kind| {
            let count = self.errors.get(*kind)?;
            Some(format!("{count} {kind}"))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// A reply was read that counts by itself too.
    pub fn apart(&mut self, now: Instant, due: Instant) {
        self.apart.record(now.since(due));
    }

    /// Nobody waits any more for the reply to a heartbeat that was due then. It took at least so long, and
    /// would be missing among the longest.
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

    /// A reply was read at `now` to a heartbeat that was due at the moment its `seq` says. False if that
    /// cannot be: nothing was due then.
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
    fn a_reply_counts_from_when_its_heartbeat_was_due_however_late_it_was_sent() {
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
    fn what_is_never_answered_counts_with_the_time_it_was_waited_for() {
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
    fn nothing_measured_is_no_figure_and_what_is_too_long_is_the_longest() {
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
        assert_eq!(tally.losses_in_words(), "1 closed, 2 reset");
    }
}
