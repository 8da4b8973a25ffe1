//! The table of hosts: names and slots.
//!
//! A slot is found by name through an index of bare slot numbers, so that a name is stored once. The
//! table is bounded; when it is full a host that is offline makes room.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use slab::Slab;

use super::host::{Host, Key, Marks};
use crate::ids::{HostId, HostRef};
use crate::time::UnixMs;

/// Entries looked at to find the host that is offline for longest when the table is full.
const EVICTION_LOOKS: usize = 1_024;

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

    /// Number of known hosts.
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

    /// Enters a new host, as offline and not yet written. `None` when the table is full and no host
    /// can be evicted: none is offline with nothing left to write (`is_behind`).
    pub fn insert(&mut self, id: HostId, is_behind: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.len() >= self.max && !self.make_room(is_behind) {
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
            let settled = !host.has(Marks::TOLD_ONLINE)
                && !host.has(Marks::IN_FLIGHT)
                && !host.has(Marks::IN_DOUBT);
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
    use super::super::host::Presence;
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
        hosts.get_mut(slot).unwrap().set(Marks::IN_DOUBT, true);
        assert_eq!(hosts.insert(id("b"), |_| false), None);
        hosts.get_mut(slot).unwrap().set(Marks::IN_DOUBT, false);
        assert!(hosts.insert(id("b"), |_| false).is_some());
    }
}
