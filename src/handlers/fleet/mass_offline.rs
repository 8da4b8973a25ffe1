//! Detection of mass events. If more than half of at least twenty hosts go offline within one
//! timeout, a switch or this server may have failed. One event reports it, beside the single ones.
//!
//! Offline hosts are counted in a ring of buckets that together span one timeout. A host that returns
//! within it is subtracted, so a host that comes and goes counts once.

use crate::limits::MASS_OFFLINE_HOSTS_MIN;
use crate::time::{Instant, Span};

const BUCKETS: u64 = 32;

/// Count of hosts that went offline, and the time of the last report.
#[derive(Clone, Debug)]
pub struct MassOffline {
    window: Span,
    /// Span of a bucket, in nanoseconds.
    width: u64,
    buckets: [u64; BUCKETS as usize],
    /// Sum of all buckets.
    sum: u64,
    /// Number of the newest bucket since time zero.
    newest: u64,
    reported: Option<Instant>,
}

impl MassOffline {
    /// Creates an empty count; `window` is the timeout.
    #[must_use]
    pub fn new(window: Span) -> Self {
        Self {
            window,
            width: window.part(BUCKETS).as_nanos().max(1),
            buckets: [0; BUCKETS as usize],
            sum: 0,
            newest: 0,
            reported: None,
        }
    }

    /// Records a host that went offline, with `online` hosts left. Returns the count if it is to be
    /// reported now.
    pub fn record_offline(&mut self, now: Instant, online: u64) -> Option<u64> {
        self.turn(now);
        self.buckets[(self.newest % BUCKETS) as usize] += 1;
        self.sum += 1;
        let gone = self.sum;
        let before = online + gone;
        let quiet = self.reported.is_none_or(|at| now.since(at) >= self.window);
        let mass = before >= MASS_OFFLINE_HOSTS_MIN as u64 && gone * 2 > before;
        (mass && quiet).then(|| {
            self.reported = Some(now);
            gone
        })
    }

    /// Records that a host which went offline at `gone` is online again.
    pub fn record_online(&mut self, now: Instant, gone: Instant) {
        self.turn(now);
        let bucket = self.number(gone);
        if bucket + BUCKETS > self.newest && bucket <= self.newest {
            let count = &mut self.buckets[(bucket % BUCKETS) as usize];
            if *count > 0 {
                *count -= 1;
                self.sum -= 1;
            }
        }
    }

    fn number(&self, at: Instant) -> u64 {
        at.as_nanos() / self.width
    }

    fn turn(&mut self, now: Instant) {
        let end = (self.newest + 1).saturating_mul(self.width);
        if now.as_nanos() < end {
            // The usual case in a mass event.
            return;
        }
        let number = self.number(now).max(self.newest);
        let stale = (number - self.newest).min(BUCKETS);
        for step in 0..stale {
            let bucket = &mut self.buckets[((number - step) % BUCKETS) as usize];
            self.sum -= std::mem::take(bucket);
        }
        self.newest = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Span = Span::from_secs(60);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Span::from_secs(seconds)
    }

    #[test]
    fn a_mass_event_is_reported_once() {
        let mut mass = MassOffline::new(WINDOW);
        let reported: Vec<u64> = (0..40)
            .filter_map(|i| mass.record_offline(at(100 + i / 10), 39 - i))
            .collect();
        assert_eq!(reported, [21], "of 40, the 21st is more than half");
    }

    #[test]
    fn few_or_slow_losses_are_no_mass_event() {
        let mut mass = MassOffline::new(WINDOW);
        assert!((0..19).all(|i| mass.record_offline(at(100), 18 - i).is_none()));
        let mut mass = MassOffline::new(WINDOW);
        assert!((0..40).all(|i| mass.record_offline(at(100 + 10 * i), 39 - i).is_none()));
    }

    #[test]
    fn a_reconnecting_host_counts_once() {
        let mut mass = MassOffline::new(WINDOW);
        for i in 0..40 {
            assert!(mass.record_offline(at(100 + i), 19).is_none());
            mass.record_online(at(100 + i), at(100 + i));
        }
    }

    #[test]
    fn a_later_mass_event_is_reported_again() {
        let mut mass = MassOffline::new(WINDOW);
        assert!((0..30).any(|i| mass.record_offline(at(100), 29 - i).is_some()));
        assert!((0..30).any(|i| mass.record_offline(at(200), 29 - i).is_some()));
    }
}
