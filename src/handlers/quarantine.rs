//! Contested ids: two machines with one id would replace each other for ever. Beyond fifteen
//! replacements within a minute the present connection keeps the id, and others are refused for a
//! minute.

use std::collections::VecDeque;

use crate::ids::{HostRef, Numbered};
use crate::limits::{QUARANTINE_WINDOW_S, REPLACEMENTS_MAX};
use crate::time::{Instant, Span};

const WINDOW: Span = Span::from_secs(QUARANTINE_WINDOW_S);

/// Decision about a new claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It replaces the present connection.
    Replace,
    /// It is refused, and this is the first: to be reported.
    Report,
    /// It is refused.
    Refuse,
}

#[derive(Debug, Default)]
struct Fight {
    replacements: VecDeque<Instant>,
    until: Option<Instant>,
}

/// The ids replaced of late.
#[derive(Debug, Default)]
pub struct Quarantine {
    fights: Numbered<HostRef, Fight>,
}

impl Quarantine {
    /// Records that a connection claims an id in use by another.
    pub fn claimed(&mut self, host: HostRef, now: Instant) -> Verdict {
        let fight = self.fights.entry(host).or_default();
        if let Some(until) = fight.until {
            if now < until {
                return Verdict::Refuse;
            }
            *fight = Fight::default();
        }
        while fight
            .replacements
            .front()
            .is_some_and(|at| now.since(*at) >= WINDOW)
        {
            fight.replacements.pop_front();
        }
        if fight.replacements.len() >= REPLACEMENTS_MAX as usize {
            fight.until = Some(now + WINDOW);
            return Verdict::Report;
        }
        fight.replacements.push_back(now);
        Verdict::Replace
    }

    /// The one whose id it is has come: the fight is over.
    pub fn settled(&mut self, host: HostRef) {
        self.fights.remove(&host);
    }

    /// Forgets what is over. Called now and then, so that the table holds no more ids than were
    /// replaced within the last minute or two.
    pub fn forget(&mut self, now: Instant) {
        self.fights.retain(|_, fight| {
            let held = fight.until.is_some_and(|until| now < until);
            held || fight
                .replacements
                .back()
                .is_some_and(|at| now.since(*at) < WINDOW)
        });
    }

    /// Number of watched ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fights.len()
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

    #[test]
    fn the_sixteenth_within_a_minute_is_refused_and_reported_once() {
        let mut quarantine = Quarantine::default();
        assert!((0..15).all(|i| quarantine.claimed(HOST, at(i)) == Verdict::Replace));
        assert_eq!(quarantine.claimed(HOST, at(15)), Verdict::Report);
        assert_eq!(quarantine.claimed(HOST, at(74)), Verdict::Refuse);
        assert_eq!(
            quarantine.claimed(HOST, at(75)),
            Verdict::Replace,
            "a minute later it is over"
        );
    }

    #[test]
    fn one_replacement_every_few_seconds_is_a_host_with_a_bad_network() {
        let mut quarantine = Quarantine::default();
        assert!((0..100).all(|i| quarantine.claimed(HOST, at(4 * i)) == Verdict::Replace));
        quarantine.forget(at(1_000));
        assert_eq!(quarantine.len(), 0);
    }
}
