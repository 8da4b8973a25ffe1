//! Leases of devices and targets. One node on a store polls each of them.
//!
//! ```text
//!             taken                          until POLL_VALID_S after the request of the last renewal
//!  standby ─────────▶ held ───────────────┐
//!     ▲                 ▲  renewed        │ run out: the node stops polling
//!     └─────────────────┴─────────────────┘ before another one can take the lease
//! ```
//!
//! Validity counts from the moment of the request, and the store keeps the lease for longer. So a
//! late answer never extends the polling of a lease that has ended.

use std::collections::BTreeMap;

use crate::limits::{POLL_ALONE_S, POLL_EVERY_S, POLL_VALID_S};
use crate::store::op::{Op, PollAsk, Polls as Request, PollsFound};
use crate::time::{Instant, Span};

const EVERY: Span = Span::from_secs(POLL_EVERY_S);
const VALID: Span = Span::from_secs(POLL_VALID_S);
const ALONE: Span = Span::from_secs(POLL_ALONE_S);

/// The lease of a device or target.
#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    /// It was this process's at the last answer.
    is_ours: bool,
    /// Request of the last renewal.
    renewed: Instant,
    /// The state machine polls it.
    is_polled: bool,
}

/// Leases of all devices and targets of the configuration.
#[derive(Debug, Default)]
pub struct Polls {
    leases: BTreeMap<String, Lease>,
    release: Vec<String>,
    due: Instant,
    session: Option<u32>,
    /// End of the grace after an outage, in which free leases are left to their earlier holders.
    look_until: Instant,
    /// Time since which no other node shares the store.
    alone: Option<Instant>,
}

impl Polls {
    /// Sets the names of the devices and targets.
    pub fn set(&mut self, names: impl IntoIterator<Item = String>) {
        let mut before = std::mem::take(&mut self.leases);
        for name in names {
            let lease = before.remove(&name).unwrap_or_default();
            self.leases.insert(name, lease);
        }
        let held = before.into_iter().filter(|(_, lease)| lease.is_ours);
        self.release.extend(held.map(|(name, _)| name));
        self.due = Instant::ZERO;
    }

    /// Makes the next [`changes`](Self::changes) report all held leases.
    pub fn forget_polled(&mut self) {
        let leases = self.leases.values_mut();
        leases.for_each(|lease| lease.is_polled = false);
    }

    /// Notes whether other nodes share the store.
    pub fn nodes(&mut self, now: Instant, are_several: bool) {
        self.alone = match are_several {
            true => None,
            false => Some(self.alone.unwrap_or(now)),
        };
    }

    /// Takes the due request. `session` is the number of the store connection, while there is one.
    pub fn pull(&mut self, now: Instant, session: Option<u32>) -> Option<Op> {
        if session != self.session {
            let returned = session.is_some_and(|number| number > 1);
            if returned {
                self.look_until = now + VALID;
            }
            self.session = session;
            self.due = now;
        }
        let is_idle = self.leases.is_empty() && self.release.is_empty();
        if session.is_none() || is_idle || now < self.due {
            return None;
        }
        self.due = now + EVERY;
        let take = match now < self.look_until {
            true => PollAsk::Look,
            false => PollAsk::Take,
        };
        let ask = self.leases.iter().map(|(name, lease)| {
            let ask = if lease.is_ours { PollAsk::Renew } else { take };
            (name.clone(), ask)
        });
        Some(Op::Polls(Box::new(Request {
            at: now,
            ask: ask.collect(),
            release: std::mem::take(&mut self.release),
        })))
    }

    /// The request that gives up all leases, at the end.
    pub fn give_up(&mut self, now: Instant) -> Option<Op> {
        self.set(None);
        let release = std::mem::take(&mut self.release);
        let ask = Vec::new();
        let request = Request {
            at: now,
            ask,
            release,
        };
        (!request.release.is_empty()).then(|| Op::Polls(Box::new(request)))
    }

    /// The store has answered.
    pub fn found(&mut self, found: PollsFound) {
        for (name, is_ours) in found.held {
            let Some(lease) = self.leases.get_mut(&name) else {
                if is_ours {
                    self.release.push(name);
                    self.due = Instant::ZERO;
                }
                continue;
            };
            // An earlier answer says nothing of a later request.
            if found.at >= lease.renewed {
                lease.is_ours = is_ours;
                lease.renewed = found.at;
            }
        }
    }

    /// Returns the leases gained or lost since the last call, with `true` for those gained.
    pub fn changes(&mut self, now: Instant) -> Vec<(String, bool)> {
        let goes_on = self.goes_on(now);
        let leases = self.leases.iter_mut();
        let changed = leases.filter_map(|(name, lease)| {
            let holds = lease.is_ours && (goes_on || now.since(lease.renewed) < VALID);
            let was = std::mem::replace(&mut lease.is_polled, holds);
            (was != holds).then(|| (name.clone(), holds))
        });
        changed.collect()
    }

    /// A node that was alone for long keeps polling while the store is unavailable.
    fn goes_on(&self, now: Instant) -> bool {
        self.alone.is_some_and(|since| now.since(since) >= ALONE)
    }

    /// Time at which the first lease runs out.
    pub fn runs_out(&self, now: Instant) -> Option<Instant> {
        if self.goes_on(now) {
            return None;
        }
        let polled = self.leases.values().filter(|lease| lease.is_polled);
        polled.map(|lease| lease.renewed + VALID).min()
    }

    /// Time of the next request, except one that is due already.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let is_idle = self.leases.is_empty() && self.release.is_empty();
        let due = self.session.filter(|_| !is_idle).map(|_| self.due);
        due.filter(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Span::from_millis(ms)
    }

    fn polls() -> Polls {
        let mut polls = Polls::default();
        polls.set(["a".to_owned()]);
        polls
    }

    fn asked(polls: &mut Polls, ms: u64, session: u32) -> Option<(PollAsk, Vec<String>)> {
        match polls.pull(at(ms), Some(session))? {
            Op::Polls(op) => Some((
                op.ask.first().map_or(PollAsk::Look, |ask| ask.1),
                op.release,
            )),
            op => panic!("{op:?}"),
        }
    }

    fn found(polls: &mut Polls, ms: u64, is_ours: bool) {
        let held = vec![("a".to_owned(), is_ours)];
        polls.found(PollsFound { at: at(ms), held });
    }

    fn changed(polls: &mut Polls, ms: u64) -> Option<bool> {
        polls.changes(at(ms)).first().map(|(_, holds)| *holds)
    }

    #[test]
    fn a_lease_is_taken_renewed_and_runs_out() {
        let mut polls = polls();
        assert!(polls.pull(at(0), None).is_none(), "no store yet");
        assert_eq!(asked(&mut polls, 100, 1).unwrap().0, PollAsk::Take);
        assert!(asked(&mut polls, 200, 1).is_none(), "not due");
        found(&mut polls, 100, true);
        assert_eq!(changed(&mut polls, 300), Some(true));
        assert_eq!(asked(&mut polls, 5_100, 1).unwrap().0, PollAsk::Renew);
        found(&mut polls, 5_100, true);
        assert_eq!(polls.runs_out(at(5_200)), Some(at(17_100)));
        assert_eq!(changed(&mut polls, 17_099), None);
        assert_eq!(changed(&mut polls, 17_100), Some(false));
        // A late answer to an old request does not begin it again.
        found(&mut polls, 5_100, true);
        assert_eq!(changed(&mut polls, 17_200), None);
    }

    #[test]
    fn a_free_lease_is_left_to_its_holder_after_an_outage() {
        let mut polls = polls();
        assert_eq!(asked(&mut polls, 0, 1).unwrap().0, PollAsk::Take);
        found(&mut polls, 0, false);
        assert!(polls.pull(at(6_000), None).is_none());
        assert_eq!(asked(&mut polls, 7_000, 2).unwrap().0, PollAsk::Look);
        assert_eq!(asked(&mut polls, 12_000, 2).unwrap().0, PollAsk::Look);
        assert_eq!(asked(&mut polls, 19_000, 2).unwrap().0, PollAsk::Take);
    }

    #[test]
    fn a_removed_name_and_the_end_give_leases_up() {
        let mut polls = polls();
        asked(&mut polls, 0, 1);
        found(&mut polls, 0, true);
        polls.set(["b".to_owned()]);
        let (ask, release) = asked(&mut polls, 10, 1).unwrap();
        assert_eq!((ask, release), (PollAsk::Take, vec!["a".to_owned()]));
        let held = vec![("b".to_owned(), true)];
        polls.found(PollsFound { at: at(10), held });
        let Some(Op::Polls(op)) = polls.give_up(at(20)) else {
            panic!("b is held");
        };
        assert_eq!(op.release, ["b"]);
        assert!(polls.give_up(at(30)).is_none());
    }

    #[test]
    fn a_node_that_was_alone_goes_on_without_the_store() {
        let mut polls = polls();
        polls.nodes(at(0), false);
        asked(&mut polls, 0, 1);
        found(&mut polls, 0, true);
        changed(&mut polls, 1);
        assert_eq!(
            changed(&mut polls, 12_000),
            Some(false),
            "alone for too short a time"
        );
        found(&mut polls, 58_000, true);
        assert_eq!(changed(&mut polls, 58_001), Some(true));
        assert_eq!(changed(&mut polls, 90_000), None);
        polls.nodes(at(90_000), true);
        assert_eq!(changed(&mut polls, 90_000), Some(false));
    }
}
