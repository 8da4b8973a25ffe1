//! New ids: bounds per network, a budget of single events, and hosts that left after a short stay.
//!
//! ```text
//!  new id ──▶ admit: its network's count this minute ──▶ row
//!  online ──▶ may_tell: budget of single events ──▶ event, or one more in the next summary
//!  offline after less than a timeout ──▶ brief: the first rows to be evicted
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::ids::{HostRef, network_of};
use crate::limits::{
    BRIEF_TOLD_ALL_MAX, BRIEF_TOLD_MAX, NEW_IDS_PER_NETWORK_MAX, NEW_IDS_TOLD_MAX,
    NEW_IDS_TOLD_PER_S, NEW_NETWORKS_MAX,
};
use crate::time::{Instant, Span, UnixMs};

const MINUTE: Span = Span::from_secs(60);

/// New ids of one network.
#[derive(Clone, Copy, Debug)]
struct Count {
    minute: u64,
    ids: u32,
    /// Hosts that left after less than a timeout.
    brief: u32,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Newcomers {
    networks: HashMap<u128, Count>,
    /// Minute, and hosts of all networks that left in it after less than a timeout.
    brief_all: (u64, u32),
    /// Single events left, and the time of the last refill.
    budget: u64,
    refilled: Instant,
    /// Hosts that came online without an event of their own since the last summary.
    untold: u64,
    /// Hosts that are offline after a short stay, the oldest first. Some may be online again or
    /// forgotten.
    pub brief: VecDeque<HostRef>,
}

impl Default for Newcomers {
    fn default() -> Self {
        Self {
            networks: HashMap::new(),
            brief_all: (0, 0),
            budget: NEW_IDS_TOLD_MAX,
            refilled: Instant::ZERO,
            untold: 0,
            brief: VecDeque::new(),
        }
    }
}

impl Newcomers {
    /// Counts a new id from this address. Returns whether it may be entered.
    pub fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let Some(count) = self.count_of(ip, now) else {
            // With so many networks at once, bounds per network have no effect, so the id is
            // admitted.
            return true;
        };
        if count.ids >= NEW_IDS_PER_NETWORK_MAX {
            return false;
        }
        count.ids += 1;
        true
    }

    /// Counts of the network of `ip` in this minute. `None` if there is no room for another network.
    fn count_of(&mut self, ip: IpAddr, now: Instant) -> Option<&mut Count> {
        let minute = now.as_nanos() / MINUTE.as_nanos();
        let network = network_of(ip);
        if self.networks.len() >= NEW_NETWORKS_MAX && !self.networks.contains_key(&network) {
            self.networks.retain(|_, count| count.minute == minute);
            if self.networks.len() >= NEW_NETWORKS_MAX {
                return None;
            }
        }
        let fresh = Count {
            minute,
            ids: 0,
            brief: 0,
        };
        let count = self.networks.entry(network).or_insert(fresh);
        if count.minute != minute {
            *count = fresh;
        }
        Some(count)
    }

    /// Counts a host from `ip` that left after less than a timeout.
    pub fn left_early(&mut self, ip: IpAddr, now: Instant) {
        let minute = now.as_nanos() / MINUTE.as_nanos();
        if self.brief_all.0 != minute {
            self.brief_all = (minute, 0);
        }
        self.brief_all.1 = self.brief_all.1.saturating_add(1);
        if let Some(count) = self.count_of(ip, now) {
            count.brief = count.brief.saturating_add(1);
        }
    }

    /// Returns whether a host from `ip` that has never stayed for a timeout may have single events.
    /// Otherwise the summary counts it.
    pub fn may_tell(&mut self, ip: IpAddr, now: Instant) -> bool {
        let minute = now.as_nanos() / MINUTE.as_nanos();
        let are_many = self.brief_all.0 == minute && self.brief_all.1 >= BRIEF_TOLD_ALL_MAX;
        let brief_max = if are_many { 1 } else { BRIEF_TOLD_MAX };
        let count = self.networks.get(&network_of(ip));
        if count.is_some_and(|count| count.minute == minute && count.brief >= brief_max) {
            self.untold += 1;
            return false;
        }
        let per_s = NEW_IDS_TOLD_PER_S.max(1);
        let whole = now.since(self.refilled).as_millis() * per_s / 1_000;
        if whole > 0 {
            self.budget = self.budget.saturating_add(whole).min(NEW_IDS_TOLD_MAX);
            self.refilled = now;
        }
        let left = self.budget.checked_sub(1);
        match left {
            Some(left) => self.budget = left,
            None => self.untold += 1,
        }
        left.is_some()
    }

    /// Number of hosts without an event of their own since the last call.
    pub fn take_untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// Forgets the counts of earlier minutes, and frees their memory.
    pub fn forget(&mut self, now: Instant) {
        let minute = now.as_nanos() / MINUTE.as_nanos();
        self.networks.retain(|_, count| count.minute == minute);
        if self.networks.is_empty() {
            self.networks = HashMap::new();
        }
    }
}

/// Number of buckets in a timeout.
const PARTS: u64 = 32;

/// Number of online hosts that have not stayed for a timeout yet, by time of arrival. A host takes
/// no memory here: its bucket follows from the time at which it came online.
#[derive(Clone, Debug)]
pub struct Arrivals {
    timeout: Span,
    parts: VecDeque<Part>,
    sum: u64,
}

/// Hosts that came online within one part of a timeout, by the wall clock.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: u64,
    /// Time of the latest arrival, by the monotonic clock.
    last: Instant,
    hosts: u64,
}

impl Arrivals {
    /// Creates an empty count.
    #[must_use]
    pub fn new(timeout: Span) -> Self {
        Self {
            timeout,
            parts: VecDeque::new(),
            sum: 0,
        }
    }

    /// Counts a host that comes online now. `since` is the same moment on the wall clock, and
    /// selects the bucket.
    pub fn came(&mut self, now: Instant, since: UnixMs) {
        self.mature(now);
        self.sum += 1;
        let number = self.number(since);
        match self.parts.back_mut().filter(|part| part.number == number) {
            Some(part) => {
                part.last = now;
                part.hosts += 1;
            }
            None => self.parts.push_back(Part {
                number,
                last: now,
                hosts: 1,
            }),
        }
    }

    /// Removes a host that came online at `since` and went offline. Returns whether its stay was
    /// shorter than a timeout.
    pub fn went(&mut self, now: Instant, since: UnixMs) -> bool {
        self.mature(now);
        let number = self.number(since);
        let mut parts = self.parts.iter_mut().rev();
        let part = parts.find(|part| part.number == number && part.hosts > 0);
        if let Some(part) = part {
            part.hosts -= 1;
            self.sum -= 1;
            return true;
        }
        false
    }

    /// Number of hosts online that have not stayed for a timeout.
    pub fn count(&mut self, now: Instant) -> u64 {
        self.mature(now);
        self.sum
    }

    fn number(&self, since: UnixMs) -> u64 {
        since.0 / (self.timeout.as_millis() / PARTS).max(1)
    }

    fn mature(&mut self, now: Instant) {
        while let Some(part) = self.parts.front() {
            if now.since(part.last) < self.timeout {
                return;
            }
            self.sum -= part.hosts;
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Span::from_millis(ms)
    }

    #[test]
    fn new_ids_of_a_network_are_bounded_per_minute() {
        let mut newcomers = Newcomers::default();
        let mut admit = |ip: &str, ms| newcomers.admit(ip.parse().unwrap(), at(ms));
        assert!((0..NEW_IDS_PER_NETWORK_MAX).all(|_| admit("2001:db8::1", 0)));
        assert!(!admit("2001:db8::2", 0), "of the same /64");
        assert!(admit("2001:db8:0:1::2", 0), "of another");
        assert!(admit("10.0.0.1", 0) && admit("2001:db8::2", 60_000));
        assert!((1..NEW_IDS_PER_NETWORK_MAX).all(|_| admit("::ffff:10.0.0.1", 1)));
        assert!(!admit("10.0.0.1", 2), "a mapped address is the IPv4 one");
    }

    #[test]
    fn networks_are_counted_while_there_is_room() {
        let mut newcomers = Newcomers::default();
        let ip = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n + 1));
        let networks = NEW_NETWORKS_MAX as u32;
        assert!((0..networks + 5).all(|n| newcomers.admit(ip(n), at(0))));
        assert_eq!(newcomers.networks.len(), NEW_NETWORKS_MAX);
        newcomers.forget(at(60_000));
        assert!(newcomers.networks.is_empty());
    }

    #[test]
    fn events_beyond_the_budget_are_counted() {
        let mut newcomers = Newcomers::default();
        let ip = "10.0.0.1".parse().unwrap();
        let told = (0..NEW_IDS_TOLD_MAX + 10).filter(|_| newcomers.may_tell(ip, at(0)));
        assert_eq!(told.count() as u64, NEW_IDS_TOLD_MAX);
        assert_eq!(newcomers.take_untold(), 10);
        let later = (0..10)
            .filter(|_| newcomers.may_tell(ip, at(3_000)))
            .count();
        assert_eq!(later as u64, 3 * NEW_IDS_TOLD_PER_S);
    }

    #[test]
    fn a_network_of_short_stays_has_no_single_events() {
        let mut newcomers = Newcomers::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..BRIEF_TOLD_MAX {
            assert!(newcomers.may_tell(ip("10.0.0.1"), at(0)));
            newcomers.left_early(ip("10.0.0.1"), at(0));
        }
        assert!(!newcomers.may_tell(ip("10.0.0.1"), at(1)));
        assert!(newcomers.may_tell(ip("10.0.0.2"), at(1)), "of another");
        assert_eq!(newcomers.take_untold(), 1);
        assert!(newcomers.may_tell(ip("10.0.0.1"), at(60_000)));
    }

    #[test]
    fn a_stay_is_short_until_a_timeout_is_over() {
        let mut arrivals = Arrivals::new(Span::from_secs(60));
        for ms in [0, 1_000, 30_000] {
            arrivals.came(at(ms), UnixMs(1_000_000 + ms));
        }
        assert_eq!(arrivals.count(at(30_000)), 3);
        assert!(arrivals.went(at(31_000), UnixMs(1_000_000)));
        assert_eq!(arrivals.count(at(62_000)), 1, "one has gone, one stayed");
        assert!(!arrivals.went(at(62_000), UnixMs(1_001_000)));
        assert!(arrivals.went(at(62_000), UnixMs(1_030_000)));
        assert_eq!(arrivals.count(at(62_000)), 0);
    }

    #[test]
    fn a_jump_of_the_wall_clock_keeps_stays_short() {
        let mut arrivals = Arrivals::new(Span::from_secs(60));
        arrivals.came(at(0), UnixMs(9_000_000));
        arrivals.came(at(1_000), UnixMs(1_000));
        assert!(arrivals.went(at(2_000), UnixMs(9_000_000)));
        assert!(arrivals.went(at(2_000), UnixMs(1_000)));
        assert_eq!(arrivals.count(at(2_000)), 0);
    }
}
