//! Reports on keys that this server never stored. Scripts that write task books into the store
//! cause some of them. Without a bound a host could fill the store and the event stream with
//! invented keys.

use std::collections::HashSet;

use crate::ids::{HostRef, Numbered, TaskKey};
use crate::limits::{
    STRAY_BYTES_MAX, STRAY_HOST_BYTES_MAX, STRAY_HOST_KEYS_MAX, STRAY_HOST_REPORTS_MAX,
    STRAY_HOST_TOLD_MAX, STRAY_HOSTS_MAX, STRAY_REPORTS_MAX, STRAY_TOLD_MAX, STRAY_WINDOW_S,
};
use crate::time::{Instant, Span};

const WINDOW: Span = Span::from_secs(STRAY_WINDOW_S);

/// Reports of one host.
#[derive(Debug, Default)]
struct Stray {
    keys: HashSet<TaskKey>,
    reports: u32,
    told: u32,
    bytes: u64,
}

/// The counts of the current window.
#[derive(Debug, Default)]
pub struct Strays {
    hosts: Numbered<HostRef, Stray>,
    began: Instant,
    reports: u32,
    told: u32,
    bytes: u64,
    /// Reports without an event of their own since the last summary.
    untold: u64,
}

impl Strays {
    /// Returns whether `host` may report on `key`, which was never stored here; the report is
    /// counted if so.
    pub fn admit(&mut self, host: HostRef, key: &TaskKey, bytes: usize, now: Instant) -> bool {
        if now.since(self.began) >= WINDOW {
            *self = Self {
                began: now,
                untold: self.untold,
                ..Self::default()
            };
        }
        let bytes = bytes as u64;
        let is_full = self.hosts.len() >= STRAY_HOSTS_MAX && !self.hosts.contains_key(&host);
        if is_full
            || self.reports >= STRAY_REPORTS_MAX
            || self.bytes.saturating_add(bytes) > STRAY_BYTES_MAX
        {
            return false;
        }
        let stray = self.hosts.entry(host).or_default();
        let is_new = !stray.keys.contains(key);
        if (is_new && stray.keys.len() >= STRAY_HOST_KEYS_MAX)
            || stray.reports >= STRAY_HOST_REPORTS_MAX
            || stray.bytes.saturating_add(bytes) > STRAY_HOST_BYTES_MAX
        {
            return false;
        }
        if is_new {
            stray.keys.insert(key.clone());
        }
        stray.reports += 1;
        stray.bytes += bytes;
        self.reports += 1;
        self.bytes += bytes;
        true
    }

    /// Returns whether a report of `host` that was admitted may have an event of its own; if not it
    /// is counted for the summary.
    pub fn may_tell(&mut self, host: HostRef) -> bool {
        let stray = self.hosts.entry(host).or_default();
        let is_told = stray.told < STRAY_HOST_TOLD_MAX && self.told < STRAY_TOLD_MAX;
        stray.told += u32::from(is_told);
        self.told += u32::from(is_told);
        self.untold += u64::from(!is_told);
        is_told
    }

    /// Number of reports without an event of their own since the last call, if there are any.
    pub fn take_untold(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.untold)).filter(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(slot: u32) -> HostRef {
        HostRef {
            slot,
            generation: 1,
        }
    }

    fn key(number: usize) -> TaskKey {
        TaskKey::parse(&format!("AC{number}"), "AC").unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Span::from_secs(seconds)
    }

    #[test]
    fn a_host_has_so_many_keys_reports_and_bytes_an_hour() {
        let mut strays = Strays::default();
        let keys = 0..STRAY_HOST_KEYS_MAX;
        assert!(
            keys.clone()
                .all(|n| strays.admit(host(1), &key(n), 1, at(1)))
        );
        assert!(!strays.admit(host(1), &key(STRAY_HOST_KEYS_MAX), 1, at(2)));
        assert!(strays.admit(host(1), &key(0), 1, at(2)), "a key it has");
        assert!(strays.admit(host(2), &key(STRAY_HOST_KEYS_MAX), 1, at(2)));
        let all = STRAY_HOST_BYTES_MAX as usize;
        assert!(!strays.admit(host(2), &key(1), all, at(2)));
        assert!(strays.admit(host(3), &key(1), all, at(2)));
        let reports =
            (0..STRAY_HOST_REPORTS_MAX + 9).filter(|_| strays.admit(host(4), &key(1), 1, at(2)));
        assert_eq!(reports.count() as u32, STRAY_HOST_REPORTS_MAX);
        assert!(strays.admit(host(1), &key(STRAY_HOST_KEYS_MAX), 1, at(STRAY_WINDOW_S)));
    }

    #[test]
    fn so_many_reports_of_a_host_and_of_all_have_events() {
        let mut strays = Strays::default();
        let mut told = |slot| {
            let all = (0..STRAY_HOST_TOLD_MAX + 5).map(|_| strays.may_tell(host(slot)));
            all.filter(|is_told| *is_told).count() as u32
        };
        let hosts = STRAY_TOLD_MAX / STRAY_HOST_TOLD_MAX;
        assert!((0..hosts).all(|slot| told(slot) == STRAY_HOST_TOLD_MAX));
        assert_eq!(told(hosts), 0);
        let untold = u64::from(STRAY_HOST_TOLD_MAX + 5 * (hosts + 1));
        assert_eq!(strays.take_untold(), Some(untold));
        assert_eq!(strays.take_untold(), None);
    }

    #[test]
    fn all_hosts_together_have_a_bound_too() {
        let mut strays = Strays::default();
        let all = STRAY_HOST_BYTES_MAX as usize;
        let taken = (0..1_000).filter(|n| strays.admit(host(*n), &key(1), all, at(1)));
        assert_eq!(taken.count() as u64, STRAY_BYTES_MAX / STRAY_HOST_BYTES_MAX);
    }
}
