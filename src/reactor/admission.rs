//! Admission of new connections: bounds for all of them and for each network, and the choice of the
//! unproven connection that makes room for a new one.
//!
//! ```text
//!   accepted ──▶ decide ──┬──▶ room ──▶ add ──┬──▶ first message, or proof of a key ──▶ proved
//!                         │             ▲     └──▶ closed ──▶ remove
//!                         ├──▶ victim ──┘
//!                         └──▶ refused
//! ```
//!
//! A *network* is an IPv4 address or an IPv6 /64. Each place given to a network raises the *rank*
//! of its next connections; a proof clears it, and it halves every [`UNPROVEN_RANK_HALF_S`].
//! Without room, the unproven connection of the highest rank is closed if its rank is above that of
//! the new connection, or its time for a proof is over, which is shorter for higher ranks.
//! Otherwise the new connection is refused. Connections that are reopened again and again therefore
//! lose against a host that needs a round trip for its proof, and a place is shared by networks
//! instead of going to the fastest of them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ids::{ConnId, Numbered};
use crate::limits::{
    UNPROVEN_LOOKED_AT_MAX, UNPROVEN_MIN, UNPROVEN_PARTS, UNPROVEN_RANK_CELLS, UNPROVEN_RANK_HALF_S,
};
use crate::rng::Rng;
use crate::time::{Instant, Span};

/// What one place adds to a cell.
const PLACE: u32 = 256;
/// Part of the places of a wider network (/24, or /48) that counts for each network in it.
const WIDER_PARTS: u32 = 16;

/// Reason to refuse a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All places are taken by proven connections.
    Full,
    /// The network has as many proven connections as one may have.
    PerNetwork,
    /// No unproven connection has to make room for this one.
    Unproven,
}

/// Networks, and unproven connections by rank: see the [module](self).
#[derive(Debug)]
pub struct Admission {
    max: usize,
    per_network_max: Option<usize>,
    unproven: Numbered<ConnId, Unproven>,
    /// The unproven connections, in no order.
    all: Vec<ConnId>,
    networks: HashMap<IpAddr, Network>,
    /// The networks of proven connections, if these have a bound.
    proven: Numbered<ConnId, IpAddr>,
    ranks: Ranks,
    rng: Rng,
}

#[derive(Clone, Copy, Debug)]
struct Unproven {
    network: IpAddr,
    rank: u32,
    since: Instant,
    /// Index in [`Admission::all`].
    in_all: usize,
    /// Index in [`Network::unproven`].
    in_network: usize,
}

#[derive(Debug, Default)]
struct Network {
    /// Proven connections, if these have a bound.
    proven: usize,
    unproven: Vec<ConnId>,
}

impl Admission {
    /// Bounds all connections, and those of each network if `per_network_max` is given. `seed`
    /// makes the choices unpredictable for peers.
    pub fn new(max: usize, per_network_max: Option<usize>, seed: u64) -> Self {
        Self {
            max,
            per_network_max,
            unproven: Numbered::default(),
            all: Vec::new(),
            networks: HashMap::new(),
            proven: Numbered::default(),
            ranks: Ranks::new(seed),
            rng: Rng::new(seed),
        }
    }

    /// Bound of all connections.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Decides on a new connection from `peer` while `open` connections are open: returns the
    /// connection to close for it, if one must be closed. `time_of` returns the time that a
    /// connection has for its proof, or `None` while the server has still to read its bytes.
    ///
    /// # Errors
    /// When the new connection must be closed.
    pub fn decide(
        &mut self,
        peer: IpAddr,
        open: usize,
        now: Instant,
        time_of: impl Fn(ConnId) -> Option<Span>,
    ) -> Result<Option<ConnId>, Refusal> {
        let network = network(peer);
        let rank = self.ranks.of(network) + 1;
        let own = self.networks.get(&network);
        let own_unproven = own.map_or(&[][..], |own| &own.unproven);
        let own_open = own.map_or(0, |own| own.proven + own.unproven.len());
        let own_full = self.per_network_max.is_some_and(|max| own_open >= max);
        let share = (self.max / UNPROVEN_PARTS).max(UNPROVEN_MIN);
        let is_full = open >= self.max;
        let (among, refusal) = if own_full {
            (own_unproven, Refusal::PerNetwork)
        } else if own_unproven.len() >= share {
            (own_unproven, Refusal::Unproven)
        } else if is_full {
            (&self.all[..], Refusal::Full)
        } else {
            return Ok(None);
        };
        let (unproven, rng) = (&self.unproven, &mut self.rng);
        let mut unread = false;
        let mut worst = None;
        for place in 0..among.len().min(UNPROVEN_LOOKED_AT_MAX) {
            let conn = match among.len() {
                ..=UNPROVEN_LOOKED_AT_MAX => among[place],
                len => among[rng.below(len as u64) as usize],
            };
            let (one, time) = (&unproven[&conn], time_of(conn));
            let age = now.since(one.since);
            unread |= time.is_none();
            // The higher its rank, the shorter is the time of a connection.
            let rank = match time.is_some_and(|time| age >= time.part(one.rank.max(1).into())) {
                // The rank of its network, so that the oldest of a network is closed first.
                true => Some(self.ranks.of(one.network)),
                false => Some(one.rank).filter(|own| *own > rank),
            };
            worst = worst.max(rank.map(|rank| (rank, age, Reverse(conn))));
        }
        match worst {
            Some((_, _, Reverse(conn))) => Ok(Some(conn)),
            None if among.is_empty() => Err(refusal),
            // Its time is over, but only because of the server's delay.
            None if unread && !own_full && !is_full => Ok(None),
            None => Err(Refusal::Unproven),
        }
    }

    /// Gives a place to a connection from `peer`.
    pub fn add(&mut self, conn: ConnId, peer: IpAddr, now: Instant) {
        let network = network(peer);
        let own = self.networks.entry(network).or_default();
        let one = Unproven {
            network,
            rank: self.ranks.add(network, now),
            since: now,
            in_all: self.all.len(),
            in_network: own.unproven.len(),
        };
        self.all.push(conn);
        own.unproven.push(conn);
        self.unproven.insert(conn, one);
    }

    /// Moves a connection that has proved itself.
    pub fn proved(&mut self, conn: ConnId) {
        if let Some(network) = self.remove_unproven(conn) {
            self.ranks.clear(network);
            if self.per_network_max.is_some() {
                self.networks.entry(network).or_default().proven += 1;
                self.proven.insert(conn, network);
            }
            self.drop_unused(network);
        }
    }

    /// Removes a closed connection.
    pub fn remove(&mut self, conn: ConnId) {
        if let Some(network) = self.remove_unproven(conn) {
            self.drop_unused(network);
        } else if let Some(network) = self.proven.remove(&conn) {
            self.networks.entry(network).or_default().proven -= 1;
            self.drop_unused(network);
        }
    }

    fn remove_unproven(&mut self, conn: ConnId) -> Option<IpAddr> {
        let one = self.unproven.remove(&conn)?;
        self.all.swap_remove(one.in_all);
        if let Some(moved) = self
            .all
            .get(one.in_all)
            .and_then(|c| self.unproven.get_mut(c))
        {
            moved.in_all = one.in_all;
        }
        let own = &mut self.networks.entry(one.network).or_default().unproven;
        own.swap_remove(one.in_network);
        if let Some(moved) = own
            .get(one.in_network)
            .and_then(|c| self.unproven.get_mut(c))
        {
            moved.in_network = one.in_network;
        }
        Some(one.network)
    }

    fn drop_unused(&mut self, network: IpAddr) {
        let own = self.networks.get(&network);
        if own.is_some_and(|own| own.proven == 0 && own.unproven.is_empty()) {
            self.networks.remove(&network);
        }
    }

    pub fn trim(&mut self) {
        self.unproven.shrink_to_fit();
        self.all.shrink_to_fit();
        self.networks.shrink_to_fit();
        self.proven.shrink_to_fit();
    }
}

/// Places that networks were given and that led to no proof yet, in a table of fixed size. Each
/// network has two cells, of which the lower counts, since other networks may use one of them, too.
#[derive(Debug)]
struct Ranks {
    cells: Box<[u32]>,
    seed: u64,
    halved: Instant,
}

impl Ranks {
    fn new(seed: u64) -> Self {
        Self {
            cells: vec![0; 2 * UNPROVEN_RANK_CELLS].into_boxed_slice(),
            seed,
            halved: Instant::ZERO,
        }
    }

    fn cells(&self, network: IpAddr) -> [usize; 2] {
        let mut hasher = DefaultHasher::new();
        (self.seed, network).hash(&mut hasher);
        let hash = hasher.finish();
        let row = UNPROVEN_RANK_CELLS;
        [hash as usize % row, row + (hash >> 32) as usize % row]
    }

    fn count(&self, network: IpAddr) -> u32 {
        let [one, other] = self.cells(network);
        self.cells[one].min(self.cells[other])
    }

    /// The rank: whole places, so that small differences between neighbours do not matter.
    fn of(&self, network: IpAddr) -> u32 {
        (self.count(network) + self.count(wider(network)) / WIDER_PARTS) / PLACE
    }

    /// Counts one place more, and returns the rank.
    fn add(&mut self, network: IpAddr, now: Instant) -> u32 {
        let half = Span::from_secs(UNPROVEN_RANK_HALF_S);
        if now.since(self.halved) >= half {
            self.halved = now;
            self.cells.iter_mut().for_each(|cell| *cell /= 2);
        }
        for cell in [self.cells(network), self.cells(wider(network))].concat() {
            // Half of the range at most, so that sums stay in range.
            self.cells[cell] = (self.cells[cell] + PLACE).min(u32::MAX / 2);
        }
        self.of(network)
    }

    fn clear(&mut self, network: IpAddr) {
        for (network, part) in [(network, u32::MAX), (wider(network), PLACE)] {
            let part = self.count(network).min(part);
            for cell in self.cells(network) {
                self.cells[cell] -= part;
            }
        }
    }
}

/// The unit that counts as one peer: an IPv4 address (also one mapped into IPv6), or the /64
/// network of an IPv6 address, since one machine can use all of its addresses.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(peer) => IpAddr::V6(Ipv6Addr::from_bits(peer.to_bits() >> 64 << 64)),
        peer => peer,
    }
}

/// The /24 or /48 of a network, in a form that no network has: those of IPv6 end in 64 zero bits.
fn wider(network: IpAddr) -> IpAddr {
    match network {
        IpAddr::V4(peer) => {
            IpAddr::V6(Ipv4Addr::from_bits(peer.to_bits() >> 8 << 8).to_ipv6_mapped())
        }
        IpAddr::V6(peer) => IpAddr::V6(Ipv6Addr::from_bits(peer.to_bits() >> 80 << 80 | 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_double::conn;
    use super::*;
    use crate::limits::{UNPROVEN_BUSY_MS, UNPROVEN_SILENT_MS};
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn millis(ms: u64) -> Instant {
        Instant::ZERO + Span::from_millis(ms)
    }

    const LONG: Option<Span> = Some(Span::from_secs(1));

    /// Connections of `peers`, one a millisecond.
    fn with(max: usize, per_network_max: Option<usize>, peers: &[&str]) -> Admission {
        let mut admission = Admission::new(max, per_network_max, 7);
        for (slot, peer) in peers.iter().enumerate() {
            admission.add(conn(slot as u32), ip(peer), millis(slot as u64));
        }
        admission
    }

    #[test]
    fn highest_rank_makes_room() {
        let peers = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.2"];
        let mut full = with(4, None, &peers);
        let now = millis(4);
        let time = |due| Some(Span::from_millis(if due { 0 } else { 9 }));
        let mut decide = |peer, open, due| full.decide(ip(peer), open, now, |_| time(due));
        assert_eq!(decide("10.0.0.4", 3, false), Ok(None));
        // The second connection of one address, although it still has time.
        assert_eq!(decide("10.0.0.4", 4, false), Ok(Some(conn(3))));
        assert_eq!(decide("10.0.0.2", 4, false), Err(Refusal::Unproven));
        assert_eq!(decide("10.0.0.2", 4, true), Ok(Some(conn(1))));
        full.remove(conn(3));
        full.remove(conn(1));
        // Equal ranks: the oldest, when its time is over.
        let mut decide = |due| full.decide(ip("10.0.0.4"), 4, now, |_| time(due));
        assert_eq!(decide(false), Err(Refusal::Unproven));
        assert_eq!(decide(true), Ok(Some(conn(0))));
        for slot in 0..3 {
            full.proved(conn(slot));
        }
        let refused = full.decide(ip("10.0.0.4"), 4, now, |_| time(true));
        assert_eq!(refused, Err(Refusal::Full));
        assert!(full.networks.is_empty() && full.all.is_empty());
    }

    #[test]
    fn a_network_is_one_address_or_a_64() {
        let mut admission = with(
            100,
            Some(2),
            &["2001:db8::1", "2001:db8::ffff:1", "10.0.0.1"],
        );
        admission.add(conn(3), ip("::ffff:10.0.0.1"), millis(3));
        for peer in ["2001:db8::9:9", "10.0.0.1", "::ffff:10.0.0.1"] {
            let refused = admission.decide(ip(peer), 4, millis(4), |_| LONG);
            assert_eq!(refused, Err(Refusal::Unproven), "{peer}");
        }
        for peer in ["2001:db8:0:1::1", "10.0.0.2"] {
            let taken = admission.decide(ip(peer), 4, millis(4), |_| LONG);
            assert_eq!(taken, Ok(None), "{peer}");
        }
        // Its own unproven connections make room, and proven ones do not.
        let own = admission.decide(ip("10.0.0.1"), 4, millis(4), |_| Some(Span::from_millis(2)));
        assert_eq!(own, Ok(Some(conn(2))));
        admission.proved(conn(2));
        admission.proved(conn(3));
        let refused = admission.decide(ip("10.0.0.1"), 4, millis(4), |_| Some(Span::ZERO));
        assert_eq!(refused, Err(Refusal::PerNetwork));
        admission.remove(conn(3));
        let taken = admission.decide(ip("10.0.0.1"), 3, millis(4), |_| LONG);
        assert_eq!(taken, Ok(None));
        for slot in 0..4 {
            admission.remove(conn(slot));
        }
        assert!(admission.networks.is_empty() && admission.proven.is_empty());
    }

    #[test]
    fn ranks_halve_and_a_proof_clears_them() {
        let mut ranks = Ranks::new(7);
        let one = ip("10.0.0.1");
        for _ in 0..32 {
            ranks.add(one, Instant::ZERO);
        }
        let before = ranks.of(one);
        assert_eq!(before, 32 + 32 / WIDER_PARTS);
        // A neighbour has a part of it, others none.
        assert_eq!(ranks.of(ip("10.0.0.2")), 32 / WIDER_PARTS);
        assert_eq!(ranks.of(ip("10.0.1.1")), 0);
        let later = Instant::ZERO + Span::from_secs(UNPROVEN_RANK_HALF_S);
        ranks.add(ip("10.9.9.9"), later);
        assert_eq!(ranks.of(one), before / 2);
        ranks.clear(one);
        assert_eq!(ranks.count(one), 0);
    }

    /// Strangers that reopen connections at full speed, and hosts that need a round trip for their
    /// proof.
    #[derive(Debug)]
    struct Race {
        room: usize,
        /// Addresses of the strangers.
        strangers: u32,
        /// Connections that they open each millisecond.
        per_ms: u32,
        /// The strangers send a first message, too.
        speak: bool,
        /// Hosts, and their number of addresses.
        hosts: u32,
        addresses: u32,
        /// Duration of a proof.
        proof_ms: u64,
    }

    impl Race {
        /// Time until all hosts are in, in milliseconds. A host that is closed tries again a second
        /// later.
        fn run(&self, end_ms: u64) -> u64 {
            /// The strangers have all places then.
            const START_MS: u64 = 1_000;
            let mut admission = Admission::new(self.room, None, 7);
            let mut open: HashMap<ConnId, Option<(u32, u64)>> = HashMap::new();
            let mut next_try: Vec<Option<u64>> = vec![Some(START_MS); self.hosts as usize];
            let (mut next, mut turn, mut proven) = (0, 0, 0);
            for ms in 0..end_ms {
                let mut arrivals: Vec<(IpAddr, Option<u32>)> = Vec::new();
                for _ in 0..self.per_ms {
                    turn = (turn + 1) % self.strangers;
                    arrivals.push((
                        IpAddr::from(0x0a00_0000_u32.wrapping_add(turn).to_be_bytes()),
                        None,
                    ));
                }
                for host in 0..self.hosts {
                    if next_try[host as usize].take_if(|at| *at <= ms).is_some() {
                        let peer = 0xc0a8_0000_u32 + host % self.addresses;
                        arrivals.push((IpAddr::from(peer.to_be_bytes()), Some(host)));
                    }
                }
                for (peer, host) in arrivals {
                    let speak = self.speak;
                    let time_of = |conn: ConnId| {
                        let speaks = speak || open.get(&conn).is_some_and(Option::is_some);
                        let ms = if speaks {
                            UNPROVEN_BUSY_MS
                        } else {
                            UNPROVEN_SILENT_MS
                        };
                        Some(Span::from_millis(ms))
                    };
                    let decided = admission.decide(peer, open.len() + proven, millis(ms), time_of);
                    if let Ok(victim) = decided {
                        if let Some(victim) = victim {
                            admission.remove(victim);
                            if let Some((host, _)) = open.remove(&victim).unwrap() {
                                next_try[host as usize] = Some(ms + 1_000);
                            }
                        }
                        next += 1;
                        admission.add(conn(next), peer, millis(ms));
                        open.insert(conn(next), host.map(|host| (host, ms + self.proof_ms)));
                    } else if let Some(host) = host {
                        next_try[host as usize] = Some(ms + 1_000);
                    }
                }
                let done: Vec<ConnId> = open
                    .iter()
                    .filter(|(_, one)| one.is_some_and(|(_, at)| at <= ms))
                    .map(|(conn, _)| *conn)
                    .collect();
                for conn in done {
                    open.remove(&conn);
                    admission.proved(conn);
                    proven += 1;
                }
                if proven == self.hosts as usize {
                    return ms - START_MS;
                }
            }
            panic!("{proven} of {} hosts are in", self.hosts);
        }
    }

    #[test]
    fn slow_proofs_win_against_reopened_connections() {
        for speak in [false, true] {
            for (hosts, addresses) in [(1, 1), (20, 20), (20, 1)] {
                let race = Race {
                    room: 60,
                    strangers: 500,
                    per_ms: 2,
                    speak,
                    hosts,
                    addresses,
                    proof_ms: 800,
                };
                let ms = race.run(40_000);
                assert!(ms < 10_000, "{ms} ms: {race:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn indices_agree_with_the_table(
            limited: bool,
            steps in proptest::collection::vec((0_u8..3, 0_u8..4), 0..300),
        ) {
            let mut admission = Admission::new(1_000, limited.then_some(500), 7);
            let mut live: Vec<(ConnId, IpAddr, bool)> = Vec::new();
            for (number, (step, which)) in steps.into_iter().enumerate() {
                let one = usize::from(which) * live.len() / 4;
                match step {
                    1 if !live.is_empty() => {
                        admission.proved(live[one].0);
                        live[one].2 = true;
                    }
                    2 if !live.is_empty() => admission.remove(live.swap_remove(one).0),
                    _ => {
                        let peer = IpAddr::from([10, 0, 0, which]);
                        admission.add(conn(number as u32), peer, Instant::ZERO);
                        live.push((conn(number as u32), peer, false));
                    }
                }
                let unproven = live.iter().filter(|(_, _, proven)| !proven);
                prop_assert_eq!(admission.all.len(), unproven.clone().count());
                for (conn, peer, _) in unproven {
                    let entry = &admission.unproven[conn];
                    prop_assert_eq!(admission.all[entry.in_all], *conn);
                    prop_assert_eq!(admission.networks[peer].unproven[entry.in_network], *conn);
                }
                let counted: usize = admission.networks.values().map(|own| own.proven).sum();
                let proven = live.iter().filter(|(_, _, proven)| *proven).count();
                prop_assert_eq!(counted, if limited { proven } else { 0 });
            }
        }
    }
}
