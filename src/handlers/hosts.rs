//! The table of hosts: who is known, under which name, in which slot.
//!
//! A slot is found by name through an index of bare slot numbers, so that a name is held once. The
//! table is bounded; when it is full a host that is offline makes room.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hashbrown::HashTable;
use slab::Slab;

use crate::ids::{ConnId, HostId, HostRef, TaskKey};
use crate::store::op::{Origin, Reason};
use crate::time::{Instant, UnixMs};

/// Entries looked at to find the host that is offline for longest when the table is full.
const EVICTION_LOOKS: usize = 1_024;

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// Counts the uses of the slot.
    pub generation: u32,
    /// Its connections.
    pub sessions: u32,
    /// The connection it named itself on, if there is one.
    pub identified: Option<ConnId>,
    /// Where it connects, or connected, from.
    pub peer: Peer,
    /// Where it stands.
    pub presence: Presence,
    /// Whether the event stream, as far as it is written, says it is online.
    pub told_online: bool,
    /// An `Online` or `Offline` of it is with the store.
    pub in_flight: bool,
    /// A store that went away may have run, or may still run, something of it that says it is online. It is
    /// written offline, if that is what it is, until the walk after the store's return has been made twice.
    pub in_doubt: bool,
    /// Its UDP port, where it gave one.
    pub udp: u16,
    /// Whether it wants dispatches over its connection.
    pub push: bool,
    /// Since when it is online or offline.
    pub since: UnixMs,
    /// When it was last heard of, as of the last round of writing that down.
    pub seen: UnixMs,
    /// When it went offline, if it has done so since the server started and is not back.
    pub gone: Option<Instant>,
    /// When the last datagram of it came.
    pub datagram: Instant,
    /// The epoch of our claim.
    pub epoch: u64,
    /// What few hosts have.
    pub rest: Option<Box<Rest>>,
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has a live connection.
    Online,
    /// It had one before a restart, and is not judged yet.
    Inherited,
    /// It is offline, and why, as far as that is known.
    Offline(Option<Reason>),
}

impl Presence {
    /// Whether it is shown as online.
    #[must_use]
    pub const fn is_online(self) -> bool {
        matches!(self, Self::Online | Self::Inherited)
    }
}

/// An address and a port, packed: an IPv4 address is held mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    ip: [u8; 16],
    port: u16,
}

impl Peer {
    /// Nobody's address.
    pub const UNKNOWN: Self = Self {
        ip: [0; 16],
        port: 0,
    };

    /// `address`, packed.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self {
            ip: ip.octets(),
            port: address.port(),
        }
    }

    /// The IP address, a mapped one as IPv4.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical()
    }

    /// Address and port.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }
}

/// What only hosts have that have reported themselves, named a process, or answered.
#[derive(Debug, Default)]
pub struct Rest {
    /// Names the host's process.
    pub boot: Option<String>,
    /// The key it last answered with "received".
    pub answered: Option<TaskKey>,
    /// What it says it is.
    pub hostname: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its IPv4 addresses.
    pub addresses: Vec<String>,
    /// The values that are stored for it.
    pub values: Vec<String>,
    /// The connection its inventory came by, while that is to be, or is, stored.
    pub inventory_from: Option<ConnId>,
    /// Whether the inventory still waits to be handed to the store.
    pub inventory_behind: bool,
    /// Who waits to hear that it is stored.
    pub inventory_asks: Vec<Origin>,
}

/// The table.
#[derive(Debug)]
pub struct Hosts {
    slots: Slab<Host>,
    names: HashTable<u32>,
    hasher: RandomState,
    generations: u32,
    hand: usize,
    max: usize,
}

impl Hosts {
    /// An empty table for at most `max` hosts.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            slots: Slab::new(),
            names: HashTable::new(),
            hasher: RandomState::new(),
            generations: 0,
            hand: 0,
            max,
        }
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slots in use or free: what a walk over all of them has to cover.
    #[must_use]
    pub fn slots(&self) -> usize {
        // The slab has no other way to tell how far its slots reach.
        self.slots.capacity()
    }

    /// The slot of the host of this name.
    #[must_use]
    pub fn find(&self, id: &HostId) -> Option<u32> {
        let hash = self.hasher.hash_one(id.as_str());
        self.names
            .find(hash, |slot| self.slots[*slot as usize].id == *id)
            .copied()
    }

    /// The host in this slot, if there is one.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<&Host> {
        self.slots.get(slot as usize)
    }

    /// The host in this slot, if there is one.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Host> {
        self.slots.get_mut(slot as usize)
    }

    /// The slot a reference names, if the host it was made for is still there.
    #[must_use]
    pub fn resolve(&self, host: HostRef) -> Option<u32> {
        let found = self.slots.get(host.slot as usize)?;
        (found.generation == host.generation).then_some(host.slot)
    }

    /// A reference to the host in this slot.
    #[must_use]
    pub fn reference(&self, slot: u32) -> Option<HostRef> {
        Some(HostRef {
            slot,
            generation: self.slots.get(slot as usize)?.generation,
        })
    }

    /// Enters a host that is not there yet, as offline and never told of. `None` when the table is
    /// full and nobody in it can go: nobody offline of whom nothing `is_behind`.
    pub fn insert(&mut self, id: HostId, is_behind: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.len() >= self.max && !self.make_room(is_behind) {
            return None;
        }
        self.generations = self.generations.wrapping_add(1);
        let hash = self.hasher.hash_one(id.as_str());
        let slot = self.slots.insert(Host {
            id,
            generation: self.generations,
            sessions: 0,
            identified: None,
            peer: Peer::UNKNOWN,
            presence: Presence::Offline(None),
            told_online: false,
            in_flight: false,
            in_doubt: false,
            udp: 0,
            push: false,
            since: UnixMs(0),
            seen: UnixMs(0),
            gone: None,
            datagram: Instant::ZERO,
            epoch: 0,
            rest: None,
        }) as u32;
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |slot: &u32| hasher.hash_one(slots[*slot as usize].id.as_str());
        self.names.insert_unique(hash, slot, rehash);
        Some(slot)
    }

    /// Forgets the host in this slot.
    pub fn remove(&mut self, slot: u32) {
        let Some(host) = self.slots.try_remove(slot as usize) else {
            return;
        };
        let hash = self.hasher.hash_one(host.id.as_str());
        if let Ok(entry) = self.names.find_entry(hash, |held| *held == slot) {
            entry.remove();
        }
    }

    /// Forgets the host offline for longest among the next few, if nothing of it is still to be
    /// written. The store keeps it for as long as it keeps anyone.
    fn make_room(&mut self, is_behind: impl Fn(u32) -> bool) -> bool {
        let reach = self.slots();
        let mut oldest: Option<(UnixMs, u32)> = None;
        for _ in 0..EVICTION_LOOKS.min(reach) {
            self.hand = (self.hand + 1) % reach;
            let Some(host) = self.slots.get(self.hand) else {
                continue;
            };
            let settled = !host.told_online && !host.in_flight && !host.in_doubt;
            if !host.presence.is_online() && settled && !is_behind(self.hand as u32) {
                let candidate = (host.since, self.hand as u32);
                oldest = Some(oldest.map_or(candidate, |best| best.min(candidate)));
            }
        }
        let Some((_, slot)) = oldest else {
            return false;
        };
        self.remove(slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> HostId {
        HostId::checked(text).unwrap()
    }

    #[test]
    fn a_host_is_found_by_name_until_it_is_removed() {
        let mut hosts = Hosts::new(10);
        let slot = hosts.insert(id("web-1"), |_| false).unwrap();
        let reference = hosts.reference(slot).unwrap();
        assert_eq!(hosts.find(&id("web-1")), Some(slot));
        hosts.remove(slot);
        assert_eq!(hosts.find(&id("web-1")), None);
        let again = hosts.insert(id("web-2"), |_| false).unwrap();
        assert_eq!(again, slot, "the slot is used again");
        assert_eq!(
            hosts.resolve(reference),
            None,
            "and the old reference does not fit it"
        );
    }

    #[test]
    fn a_full_table_forgets_the_host_offline_for_longest_and_never_one_online() {
        let mut hosts = Hosts::new(2);
        let first = hosts.insert(id("a"), |_| false).unwrap();
        let second = hosts.insert(id("b"), |_| false).unwrap();
        hosts.get_mut(first).unwrap().since = UnixMs(5);
        hosts.get_mut(second).unwrap().since = UnixMs(4);
        let third = hosts.insert(id("c"), |_| false).unwrap();
        assert!(hosts.find(&id("b")).is_none() && hosts.find(&id("a")).is_some());
        hosts.get_mut(first).unwrap().presence = Presence::Online;
        hosts.get_mut(third).unwrap().presence = Presence::Inherited;
        assert_eq!(hosts.insert(id("d"), |_| false), None);
    }

    #[test]
    fn a_host_of_whom_something_is_still_to_be_written_makes_no_room() {
        let mut hosts = Hosts::new(1);
        let slot = hosts.insert(id("a"), |_| false).unwrap();
        assert_eq!(hosts.insert(id("b"), |behind| behind == slot), None);
        hosts.get_mut(slot).unwrap().in_doubt = true;
        assert_eq!(hosts.insert(id("b"), |_| false), None);
        hosts.get_mut(slot).unwrap().in_doubt = false;
        assert!(hosts.insert(id("b"), |_| false).is_some());
    }

    #[test]
    fn a_packed_peer_unpacks_to_what_it_was() {
        for text in ["10.0.0.7:51234", "[fe80::1]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::new(address).address(), address);
        }
        let mapped: SocketAddr = "[::ffff:10.0.0.7]:1".parse().unwrap();
        assert_eq!(Peer::new(mapped).ip().to_string(), "10.0.0.7");
    }
}
