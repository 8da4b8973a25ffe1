//! Connections that have not proved themselves, by age and by network: where there is no room, the oldest of these is
//! closed for a new one, so that a peer that says nothing keeps no host out.
//!
//! ```text
//!   accepted ──▶ add ──┬──▶ first message, or proof of a key ──▶ remove
//!                      ├──▶ gone ──▶ remove
//!                      └──▶ no room for a new one ──▶ victim
//! ```
//!
//! The queues keep entries of connections that have been removed, until they outnumber the others.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::ids::{ConnId, Numbered};
use crate::limits::NEWCOMERS_LOOKED_AT_MAX;

use super::per_ip::network;

/// Entries of removed connections that a queue may keep in any case.
const STALE_KEPT: usize = 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Newcomers {
    /// The network of each.
    networks: Numbered<ConnId, IpAddr>,
    /// All of them, the oldest first.
    all: VecDeque<ConnId>,
    /// Those of each network that has some.
    own: HashMap<IpAddr, Own>,
}

/// The newcomers of one network.
#[derive(Debug, Default)]
struct Own {
    /// Number of newcomers.
    count: usize,
    /// The oldest first.
    queue: VecDeque<ConnId>,
}

impl Newcomers {
    /// Adds a connection from `peer`.
    pub fn add(&mut self, conn: ConnId, peer: IpAddr) {
        let network = network(peer);
        self.networks.insert(conn, network);
        self.all.push_back(conn);
        let own = self.own.entry(network).or_default();
        own.count += 1;
        own.queue.push_back(conn);
        let live = &self.networks;
        if self.all.len() > 2 * live.len() + STALE_KEPT {
            self.all.retain(|conn| live.contains_key(conn));
        }
        if own.queue.len() > 2 * own.count + STALE_KEPT {
            own.queue.retain(|conn| live.contains_key(conn));
        }
    }

    /// Removes a connection that has proved itself, or is gone.
    pub fn remove(&mut self, conn: ConnId) {
        let Some(network) = self.networks.remove(&conn) else {
            return;
        };
        if let Some(own) = self.own.get_mut(&network) {
            own.count -= 1;
            if own.count == 0 {
                self.own.remove(&network);
            }
        }
    }

    /// Number of newcomers of the network of `peer`.
    #[must_use]
    pub fn count(&self, peer: IpAddr) -> usize {
        self.own.get(&network(peer)).map_or(0, |own| own.count)
    }

    /// The oldest of the network of `peer`; of the first few, one that does not wait to be read is preferred. Whether it
    /// `waits` is the server's doing.
    pub fn oldest_of(&mut self, peer: IpAddr, waits: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        let own = self.own.get_mut(&network(peer))?;
        let live = &self.networks;
        while own
            .queue
            .front()
            .is_some_and(|conn| !live.contains_key(conn))
        {
            own.queue.pop_front();
        }
        let first = || own.queue.iter().filter(|conn| live.contains_key(conn));
        let mut few = first().take(NEWCOMERS_LOOKED_AT_MAX);
        few.find(|conn| !waits(**conn)).or(first().next()).copied()
    }

    /// The one to be closed where all places are taken: of the oldest few, the network that has most newcomers is chosen,
    /// and of that network the oldest.
    pub fn victim(&mut self, waits: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        let live = &self.networks;
        while self
            .all
            .front()
            .is_some_and(|conn| !live.contains_key(conn))
        {
            self.all.pop_front();
        }
        let mut chosen: Option<((usize, bool), ConnId)> = None;
        let few = self.all.iter().filter(|conn| live.contains_key(conn));
        for &conn in few.take(NEWCOMERS_LOOKED_AT_MAX) {
            let own = self.own.get(&live[&conn]).map_or(0, |own| own.count);
            let rank = (own, !waits(conn));
            if chosen.is_none_or(|(best, _)| rank > best) {
                chosen = Some((rank, conn));
            }
        }
        chosen.map(|(_, conn)| conn)
    }

    /// Gives back the memory of what is not in use.
    pub fn tidy(&mut self) {
        let live = &self.networks;
        self.all.retain(|conn| live.contains_key(conn));
        self.all.shrink_to_fit();
        self.networks.shrink_to_fit();
        self.own.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 0,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn with(peers: &[&str]) -> Newcomers {
        let mut newcomers = Newcomers::default();
        for (slot, peer) in peers.iter().enumerate() {
            newcomers.add(conn(slot as u32), ip(peer));
        }
        newcomers
    }

    #[test]
    fn the_oldest_of_the_network_with_most_is_the_victim() {
        let mut newcomers = with(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.2"]);
        assert_eq!(newcomers.victim(|_| false), Some(conn(1)));
        newcomers.remove(conn(1));
        // One each: the oldest.
        assert_eq!(newcomers.victim(|_| false), Some(conn(0)));
        assert_eq!(newcomers.victim(|waits| waits == conn(0)), Some(conn(2)));
        assert_eq!(newcomers.victim(|_| true), Some(conn(0)));
        for slot in [0, 2, 3] {
            newcomers.remove(conn(slot));
        }
        assert_eq!(newcomers.victim(|_| false), None);
        assert!(newcomers.own.is_empty());
    }

    #[test]
    fn a_network_is_one_address_or_a_64() {
        let mut newcomers = with(&[
            "2001:db8::1",
            "2001:db8::ffff:1",
            "2001:db8:0:1::1",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "10.0.0.2",
        ]);
        for (peer, count) in [
            ("2001:db8::9:9", 2),
            ("2001:db8:0:1::9", 1),
            ("10.0.0.1", 2),
            ("10.0.0.2", 1),
            ("10.0.0.3", 0),
        ] {
            assert_eq!(newcomers.count(ip(peer)), count, "{peer}");
        }
        let oldest = newcomers.oldest_of(ip("2001:db8::7"), |_| false);
        assert_eq!(oldest, Some(conn(0)));
        let spared = newcomers.oldest_of(ip("10.0.0.1"), |waits| waits == conn(3));
        assert_eq!(spared, Some(conn(4)));
        assert_eq!(newcomers.oldest_of(ip("10.0.0.3"), |_| false), None);
    }

    proptest! {
        #[test]
        fn the_queues_agree_with_the_table(steps in proptest::collection::vec((any::<bool>(), 0_u8..4), 0..300)) {
            let mut newcomers = Newcomers::default();
            let mut live: Vec<(ConnId, IpAddr)> = Vec::new();
            for (number, (add, which)) in steps.into_iter().enumerate() {
                if add || live.is_empty() {
                    let peer = IpAddr::from([10, 0, 0, which]);
                    newcomers.add(conn(number as u32), peer);
                    live.push((conn(number as u32), peer));
                    prop_assert!(newcomers.all.len() <= 2 * live.len() + STALE_KEPT);
                } else {
                    newcomers.remove(live.remove(usize::from(which) % live.len()).0);
                }
                for which in 0..4 {
                    let peer = IpAddr::from([10, 0, 0, which]);
                    let own = || live.iter().filter(|(_, own)| *own == peer);
                    prop_assert_eq!(newcomers.count(peer), own().count());
                    prop_assert_eq!(newcomers.oldest_of(peer, |_| false), own().next().map(|one| one.0));
                }
                prop_assert_eq!(newcomers.victim(|_| false).is_some(), !live.is_empty());
            }
        }
    }
}
