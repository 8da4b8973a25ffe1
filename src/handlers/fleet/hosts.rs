//! The table of hosts: names and slots.
//!
//! A slot is found by name through an index of bare slot numbers, so that a name is stored once. The
//! table is bounded; when it is full a host that is offline makes room.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use slab::Slab;

use crate::handlers::fleet::host::{Host, Key, Marks};
use crate::ids::{HostId, HostRef};
use crate::time::UnixMs;

/// Entries looked at to find the host that is offline for longest when the table is full.
const EVICTION_LOOKS: usize = 1_024;

/// The table.
#[derive(Debug)]
pub struct HostTable {
    slots: Slab<Host>,
    names: HashTable<u32>,
    hasher: RandomState,
    generations: u32,
    hand: usize,
    max: usize,
}

impl HostTable {
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

    /// Number of known hosts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Number of slots, in use or free: the range of a walk over all hosts.
    #[must_use]
    pub fn slots(&self) -> usize {
        // The slab has no other way to return the number of its slots.
        self.slots.capacity()
    }

    /// The slot of the host of this name.
    #[must_use]
    pub fn find(&self, id: &HostId) -> Option<u32> {
        let key = Key::of(id);
        let hash = self.hasher.hash_one(key);
        self.names
            .find(hash, |slot| self.slots[*slot as usize].key() == key)
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

    /// Returns the slot of a reference, if its host is still in the table.
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

    /// Returns whether the table has no room for another host.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.max
    }

    /// Enters a new host, as offline and not yet written. `None` when the table is full.
    pub fn insert(&mut self, id: HostId) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        self.generations = self.generations.wrapping_add(1);
        let hash = self.hasher.hash_one(Key::of(&id));
        let slot = self.slots.insert(Host::new(id, self.generations)) as u32;
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |slot: &u32| hasher.hash_one(slots[*slot as usize].key());
        self.names.insert_unique(hash, slot, rehash);
        Some(slot)
    }

    /// Forgets the host in this slot.
    pub fn remove(&mut self, slot: u32) {
        let Some(host) = self.slots.try_remove(slot as usize) else {
            return;
        };
        let hash = self.hasher.hash_one(host.key());
        if let Ok(entry) = self.names.find_entry(hash, |held| *held == slot) {
            entry.remove();
        }
    }

    /// Returns the host to evict when the table is full: an offline one among the next few for
    /// which `may_go` holds. Hosts with short stays are evicted first. Hosts that have proved a key
    /// are evicted last, since their ids would be free for any peer. Among equals the host that has
    /// been offline for longest is evicted.
    pub fn evictable(&mut self, may_go: impl Fn(u32, &Host) -> bool) -> Option<u32> {
        let reach = self.slots();
        let mut best: Option<(bool, bool, UnixMs, u32)> = None;
        for _ in 0..EVICTION_LOOKS.min(reach) {
            self.hand = (self.hand + 1) % reach;
            let slot = self.hand as u32;
            let Some(host) = self.slots.get(self.hand) else {
                continue;
            };
            if !host.presence.is_online() && may_go(slot, host) {
                let (keyed, lasting) = (host.has(Marks::KEYED), host.has(Marks::LASTING));
                let candidate = (keyed, lasting, host.since, slot);
                best = Some(best.map_or(candidate, |best| best.min(candidate)));
            }
        }
        best.map(|(.., slot)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::fleet::host::Presence;

    fn id(text: &str) -> HostId {
        HostId::checked(text).unwrap()
    }

    #[test]
    fn a_host_is_found_by_name_until_it_is_removed() {
        let mut hosts = HostTable::new(10);
        let slot = hosts.insert(id("web-1")).unwrap();
        let reference = hosts.reference(slot).unwrap();
        assert_eq!(hosts.find(&id("web-1")), Some(slot));
        hosts.remove(slot);
        assert_eq!(hosts.find(&id("web-1")), None);
        let again = hosts.insert(id("web-2")).unwrap();
        assert_eq!(again, slot, "the slot is used again");
        assert_eq!(
            hosts.resolve(reference),
            None,
            "and the old reference does not fit it"
        );
    }

    #[test]
    fn short_stays_are_evicted_first_keyed_hosts_last() {
        let mut hosts = HostTable::new(5);
        let slots = ["online", "keyed", "old", "new", "brief"].map(|name| {
            let slot = hosts.insert(id(name)).unwrap();
            let host = hosts.get_mut(slot).unwrap();
            host.set(Marks::LASTING, name != "brief");
            host.set(Marks::KEYED, name == "keyed");
            host.since = UnixMs(match name {
                "brief" => 9,
                "new" => 5,
                _ => 4,
            });
            slot
        });
        assert_eq!(hosts.insert(id("more")), None);
        hosts.get_mut(slots[0]).unwrap().presence = Presence::Online;
        for slot in [slots[4], slots[2], slots[3], slots[1]] {
            assert_eq!(hosts.evictable(|other, _| other == slot), Some(slot));
            assert_eq!(hosts.evictable(|_, _| true), Some(slot));
            hosts.remove(slot);
        }
        assert_eq!(hosts.evictable(|_, _| true), None);
    }
}
