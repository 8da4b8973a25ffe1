//! Detection of mass events: more than half of at least twenty hosts offline within one timeout points to a
//! failed switch, or to this server, and raises one event beside the single ones.
//!
//! Offline hosts are counted in a ring of buckets that together span one timeout. A host that returns
//! within it is subtracted, so a host that comes and goes counts once.

use crate::limits::MASS_OFFLINE_HOSTS_MIN;
use crate::time::{Instant, Span};

const BUCKETS: u64 = 32;

/// The count, and when it was last told.
#[derive(Clone, Debug)]
pub struct MassOffline {
    window: Span,
    /// Span of a bucket, in nanoseconds.
    width: u64,
    buckets: [u64; BUCKETS as usize],
    /// In all of them.
    sum: u64,
    /// The number of the newest bucket since the beginning of time.
    newest: u64,
    told: Option<Instant>,
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
            told: None,
        }
    }

    /// A host has gone, leaving `online` behind. The count so far, if this is the moment to tell.
    pub fn record_offline(&mut self, now: Instant, online: u64) -> Option<u64> {
        self.turn(now);
        self.buckets[(self.newest % BUCKETS) as usize] += 1;
        self.sum += 1;
        let gone = self.sum;
        let before = online + gone;
        let quiet = self.told.is_none_or(|told| now.since(told) >= self.window);
        let mass = before >= MASS_OFFLINE_HOSTS_MIN as u64 && gone * 2 > before;
        (mass && quiet).then(|| {
            self.told = Some(now);
            gone
        })
    }

    /// A host that had gone at `gone` is back.
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
    fn it_is_told_once_when_the_half_is_passed() {
        let mut mass = MassOffline::new(WINDOW);
        let told: Vec<u64> = (0..40)
            .filter_map(|i| mass.record_offline(at(100 + i / 10), 39 - i))
            .collect();
        assert_eq!(told, [21], "of 40, the 21st is more than half");
    }

    #[test]
    fn nineteen_hosts_are_no_mass_and_slow_losses_are_none_either() {
        let mut mass = MassOffline::new(WINDOW);
        assert!((0..19).all(|i| mass.record_offline(at(100), 18 - i).is_none()));
        let mut mass = MassOffline::new(WINDOW);
        assert!((0..40).all(|i| mass.record_offline(at(100 + 10 * i), 39 - i).is_none()));
    }

    #[test]
    fn one_host_that_comes_and_goes_is_one_host() {
        let mut mass = MassOffline::new(WINDOW);
        for i in 0..40 {
            assert!(mass.record_offline(at(100 + i), 19).is_none());
            mass.record_online(at(100 + i), at(100 + i));
        }
    }

    #[test]
    fn another_timeout_may_tell_again() {
        let mut mass = MassOffline::new(WINDOW);
        assert!((0..30).any(|i| mass.record_offline(at(100), 29 - i).is_some()));
        assert!((0..30).any(|i| mass.record_offline(at(200), 29 - i).is_some()));
    }
}
