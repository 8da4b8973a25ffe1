//! Quarantine of contested ids. Two machines with one id would replace each other for ever. Beyond
//! fifteen replacements within a minute, the id stays for a minute with the network that held it
//! longest in the last hour, and other claimants are refused. That network itself keeps the rest of
//! its fifteen replacements, so that a host can reconnect after a lost connection.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::ids::{HostRef, Numbered, network_of};
use crate::limits::{FIGHTS_MAX, QUARANTINE_WINDOW_S, REPLACEMENTS_MAX, TENURES_MAX};
use crate::time::{Instant, Span};

const WINDOW: Span = Span::from_secs(QUARANTINE_WINDOW_S);
/// Interval in which the time of a network with an id counts.
const HOUR: Span = Span::from_secs(3_600);
/// Number of replacements within [`WINDOW`] that indicates two claimants, if the identity of their
/// processes is not known.
const DUPLICATE_REPLACEMENTS: usize = 3;

/// A connection that claims an id of another connection.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Address of the connection that holds the id.
    pub holder: IpAddr,
    /// Address of the claimant.
    pub claimant: IpAddr,
    /// Time for which the host has been online.
    pub online: Span,
}

/// Answer to a [`Claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The claimant replaces the holder.
    Replace,
    /// The claimant replaces the holder, and the quarantine that begins is to be reported.
    ReplaceAndReport,
    /// The claimant is refused, and the quarantine that begins is to be reported.
    RefuseAndReport,
    /// The claimant is refused.
    Refuse,
}

/// Time for which a network held an id.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    network: u128,
    held: Span,
    until: Instant,
}

impl Tenure {
    /// The part within the last hour; exact for a network that held the id without interruption.
    fn within_hour(&self, now: Instant) -> Span {
        let left = HOUR
            .as_nanos()
            .saturating_sub(now.since(self.until).as_nanos());
        self.held.min(Span::from_nanos(left))
    }
}

#[derive(Debug, Default)]
struct Fight {
    /// Time of each replacement, and the network of its claimant.
    replacements: VecDeque<(Instant, u128)>,
    /// End of the quarantine.
    until: Option<Instant>,
    /// Network that the quarantine leaves the id to.
    owner: Option<u128>,
    tenures: Vec<Tenure>,
    /// Time of the last claim.
    claimed: Option<Instant>,
    /// The two claimants have been reported.
    is_reported: bool,
}

/// The recently replaced ids.
#[derive(Debug, Default)]
pub struct Quarantine {
    fights: Numbered<HostRef, Fight>,
}

impl Quarantine {
    /// Decides on a claim.
    pub fn claimed(&mut self, host: HostRef, claim: &Claim, now: Instant) -> Verdict {
        let Some(fight) = self.fight(host, now) else {
            return Verdict::Replace;
        };
        let (holder, claimant) = (network_of(claim.holder), network_of(claim.claimant));
        fight.credit(holder, claim.online, now);
        if let Some(until) = fight.until {
            if now < until {
                return match fight.is_left_to(claimant, holder, now) {
                    true => Verdict::Replace,
                    false => Verdict::Refuse,
                };
            }
            fight.until = None;
            fight.replacements.clear();
        }
        fight.prune(now);
        if fight.replacements.len() >= REPLACEMENTS_MAX as usize {
            fight.until = Some(now + WINDOW);
            fight.owner = fight.longest(holder, now);
            let owner = fight.owner;
            fight.replacements.retain(|(_, by)| Some(*by) == owner);
            return match fight.is_left_to(claimant, holder, now) {
                true => Verdict::ReplaceAndReport,
                false => Verdict::RefuseAndReport,
            };
        }
        fight.replacements.push_back((now, claimant));
        Verdict::Replace
    }

    /// Records a replacement. Returns whether two claimants of one id are to be reported, once per
    /// contest: their processes differ, or, where these are not known, the replacements are
    /// frequent.
    pub fn is_duplicate(&mut self, host: HostRef, differs: Option<bool>, now: Instant) -> bool {
        let Some(fight) = self.fight(host, now) else {
            return false;
        };
        let often = fight.replacements.len() >= DUPLICATE_REPLACEMENTS;
        let is_first = !fight.is_reported && differs.unwrap_or(often);
        fight.is_reported |= is_first;
        is_first
    }

    /// Ends a contest: a connection that has proved a key has replaced one that has not.
    pub fn settled(&mut self, host: HostRef) {
        self.fights.remove(&host);
    }

    /// Forgets contests without a replacement for an hour. Contests of the last minute are reported
    /// once only.
    pub fn forget(&mut self, now: Instant) {
        self.fights.retain(|_, fight| {
            fight.prune(now);
            fight.is_reported &= fight.is_live(now);
            fight.claimed.is_some_and(|last| now.since(last) < HOUR)
        });
    }

    /// Number of ids that were replaced within the last minute, or are in quarantine.
    #[must_use]
    pub fn len(&self) -> usize {
        let live = |fight: &&Fight| fight.until.is_some() || !fight.replacements.is_empty();
        self.fights.values().filter(live).count()
    }

    /// The contest for this id. `None` if there is no room for another one.
    fn fight(&mut self, host: HostRef, now: Instant) -> Option<&mut Fight> {
        if self.fights.len() >= FIGHTS_MAX && !self.fights.contains_key(&host) {
            self.fights.retain(|_, fight| {
                fight.prune(now);
                fight.is_live(now)
            });
            if self.fights.len() >= FIGHTS_MAX {
                return None;
            }
        }
        Some(self.fights.entry(host).or_default())
    }
}

impl Fight {
    /// Time since which the holder has had the id: that of the last claim, or of its coming online,
    /// whichever is later.
    fn credit(&mut self, holder: u128, online: Span, now: Instant) {
        let last = self.claimed.replace(now);
        let held = last.map_or(online, |last| now.since(last).min(online));
        if let Some(tenure) = self.tenures.iter_mut().find(|t| t.network == holder) {
            tenure.held = (tenure.within_hour(now) + held).min(HOUR);
            tenure.until = now;
            return;
        }
        if self.tenures.len() >= TENURES_MAX {
            let all = self.tenures.iter().enumerate();
            let least = all.min_by_key(|(_, tenure)| tenure.within_hour(now));
            if let Some((place, _)) = least {
                self.tenures.swap_remove(place);
            }
        }
        self.tenures.push(Tenure {
            network: holder,
            held: held.min(HOUR),
            until: now,
        });
    }

    /// The network that held the id longest in the last hour; among equals that of the holder.
    fn longest(&self, holder: u128, now: Instant) -> Option<u128> {
        let rank = |tenure: &&Tenure| (tenure.within_hour(now), tenure.network == holder);
        let longest = self.tenures.iter().max_by_key(rank);
        longest.map(|tenure| tenure.network)
    }

    /// Returns whether the quarantine lets `claimant` replace `holder`: it is the owner, and takes
    /// the id from another network, or has some of its own replacements left.
    fn is_left_to(&mut self, claimant: u128, holder: u128, now: Instant) -> bool {
        if self.owner != Some(claimant) {
            return false;
        }
        let own = holder == claimant;
        let is_left = !own || self.replacements.len() < REPLACEMENTS_MAX as usize;
        if own && is_left {
            self.replacements.push_back((now, claimant));
        }
        is_left
    }

    fn prune(&mut self, now: Instant) {
        match self.until {
            Some(until) if now < until => return,
            Some(_) => {
                self.until = None;
                self.replacements.clear();
            }
            None => {}
        }
        let is_old = |(at, _): &(Instant, u128)| now.since(*at) >= WINDOW;
        while self.replacements.front().is_some_and(is_old) {
            self.replacements.pop_front();
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.until.is_some() || self.claimed.is_some_and(|last| now.since(last) < WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostRef = HostRef {
        slot: 1,
        generation: 1,
    };

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Span::from_secs(seconds)
    }

    /// `holder` has been online for an hour.
    fn claim(holder: &str, claimant: &str) -> Claim {
        Claim {
            holder: holder.parse().unwrap(),
            claimant: claimant.parse().unwrap(),
            online: HOUR,
        }
    }

    fn claimed(quarantine: &mut Quarantine, now: u64) -> Verdict {
        quarantine.claimed(HOST, &claim("10.0.0.1", "10.0.0.1"), at(now))
    }

    #[test]
    fn the_sixteenth_replacement_is_refused() {
        let mut quarantine = Quarantine::default();
        assert!((0..15).all(|i| claimed(&mut quarantine, i) == Verdict::Replace));
        assert_eq!(claimed(&mut quarantine, 15), Verdict::RefuseAndReport);
        assert_eq!(claimed(&mut quarantine, 74), Verdict::Refuse);
        let later = claimed(&mut quarantine, 75);
        assert_eq!(later, Verdict::Replace, "a minute later it is over");
    }

    #[test]
    fn slow_replacements_start_no_quarantine() {
        let mut quarantine = Quarantine::default();
        assert!((0..100).all(|i| claimed(&mut quarantine, 4 * i) == Verdict::Replace));
        quarantine.forget(at(1_000));
        assert_eq!(quarantine.len(), 0);
        quarantine.forget(at(4_000));
        assert!(quarantine.fights.is_empty());
    }

    #[test]
    fn the_longest_holder_keeps_the_id() {
        let (owner, thief) = ("2001:db8::1", "10.0.0.9");
        let mut quarantine = Quarantine::default();
        let first = quarantine.claimed(HOST, &claim(owner, thief), at(0));
        assert_eq!(first, Verdict::Replace);
        for _ in 1..15 {
            let again = quarantine.claimed(HOST, &claim(thief, thief), at(1));
            assert_eq!(again, Verdict::Replace);
        }
        let thief_again = quarantine.claimed(HOST, &claim(thief, thief), at(2));
        assert_eq!(thief_again, Verdict::RefuseAndReport);
        // Another address of the owner's network is its own.
        let back = quarantine.claimed(HOST, &claim(thief, "2001:db8::7"), at(3));
        assert_eq!(back, Verdict::Replace);
        let thief_again = quarantine.claimed(HOST, &claim(owner, thief), at(4));
        assert_eq!(thief_again, Verdict::Refuse);
        let own = (0..20).map(|_| quarantine.claimed(HOST, &claim(owner, owner), at(5)));
        let own = own.take_while(|verdict| *verdict == Verdict::Replace);
        assert_eq!(own.count(), 15, "nor do two of the owner's fight");
    }

    #[test]
    fn the_sixteenth_claim_of_the_owner_succeeds() {
        let (owner, thief) = ("10.0.0.1", "10.0.0.9");
        let mut quarantine = Quarantine::default();
        let _ = quarantine.claimed(HOST, &claim(owner, thief), at(0));
        for _ in 1..15 {
            let _ = quarantine.claimed(HOST, &claim(thief, thief), at(1));
        }
        let back = quarantine.claimed(HOST, &claim(thief, owner), at(2));
        assert_eq!(back, Verdict::ReplaceAndReport);
    }

    #[test]
    fn two_processes_are_reported_once_a_contest() {
        let mut quarantine = Quarantine::default();
        let mut reported = 0;
        for n in 0..10 {
            let _ = claimed(&mut quarantine, n);
            reported += u32::from(quarantine.is_duplicate(HOST, Some(n > 1), at(n)));
        }
        assert_eq!(reported, 1);
        quarantine.forget(at(100));
        let _ = claimed(&mut quarantine, 100);
        assert!(quarantine.is_duplicate(HOST, Some(true), at(100)));
        // Without known processes the frequency of replacements decides.
        let mut quarantine = Quarantine::default();
        let reports: Vec<bool> = (0..5)
            .map(|n| {
                let _ = claimed(&mut quarantine, n);
                quarantine.is_duplicate(HOST, None, at(n))
            })
            .collect();
        assert_eq!(reports, [false, false, true, false, false]);
    }

    #[test]
    fn a_full_table_stops_no_takeover() {
        let mut quarantine = Quarantine::default();
        for slot in 0..=FIGHTS_MAX as u32 {
            let host = HostRef {
                slot,
                generation: 1,
            };
            let verdict = quarantine.claimed(host, &claim("10.0.0.1", "10.0.0.1"), at(0));
            assert_eq!(verdict, Verdict::Replace);
        }
        assert_eq!(quarantine.len(), FIGHTS_MAX);
    }
}
