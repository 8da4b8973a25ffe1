//! Table of connections. An id has a slot and a generation, so that it never names a later
//! connection in the same slot.

use std::hint::black_box;

use slab::Slab;

use crate::ids::ConnId;
use crate::prefetch;

/// Entries in slots, by [`ConnId`].
#[derive(Debug)]
pub struct Table<T> {
    slots: Slab<T>,
    /// Generation of each slot that was ever used.
    generations: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: Slab::new(),
            generations: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    /// Puts `entry` into a free slot and returns its id.
    ///
    /// # Panics
    /// With more than four thousand million entries, which the bound on connections excludes.
    pub fn insert(&mut self, entry: T) -> ConnId {
        let slot = self.slots.insert(entry);
        if self.generations.len() <= slot {
            self.generations.resize(slot + 1, 0);
        }
        ConnId {
            slot: u32::try_from(slot).expect("there are far fewer connections"),
            generation: self.generations[slot],
        }
    }

    pub fn get(&self, conn: ConnId) -> Option<&T> {
        match self.is_current(conn) {
            true => self.slots.get(conn.slot as usize),
            false => None,
        }
    }

    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        match self.is_current(conn) {
            true => self.slots.get_mut(conn.slot as usize),
            false => None,
        }
    }

    /// Removes an entry. Its id is invalid from then on.
    pub fn remove(&mut self, conn: ConnId) -> Option<T> {
        if !self.is_current(conn) {
            return None;
        }
        let entry = self.slots.try_remove(conn.slot as usize)?;
        let generation = &mut self.generations[conn.slot as usize];
        *generation = (*generation + 1) & ConnId::GENERATION_MAX;
        Some(entry)
    }

    /// Prefetches an entry.
    pub fn expect(&self, conn: ConnId) {
        let slot = conn.slot as usize;
        prefetch::prefetch(&self.generations, slot);
        // The check loads the slot; its result is not needed.
        black_box(self.slots.contains(slot));
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn is_current(&self, conn: ConnId) -> bool {
        self.generations.get(conn.slot as usize) == Some(&conn.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stale_id_finds_no_entry() {
        let mut table = Table::default();
        let old = table.insert("old");
        assert_eq!(table.remove(old), Some("old"));
        assert_eq!(table.remove(old), None);
        let new = table.insert("new");
        assert_eq!(new.slot, old.slot);
        assert_eq!(table.get(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(&"new"));
    }

    proptest! {
        #[test]
        fn every_name_means_one_entry_for_ever(steps in proptest::collection::vec(any::<(bool, usize)>(), 0..200)) {
            let mut table = Table::default();
            let mut live = Vec::new();
            let mut gone = Vec::new();
            for (number, (add, which)) in steps.into_iter().enumerate() {
                if add || live.is_empty() {
                    live.push((table.insert(number), number));
                } else {
                    let (conn, number) = live.swap_remove(which % live.len());
                    prop_assert_eq!(table.remove(conn), Some(number));
                    gone.push(conn);
                }
                prop_assert_eq!(table.len(), live.len());
                for &(conn, number) in &live {
                    prop_assert_eq!(table.get(conn), Some(&number));
                }
                for &conn in &gone {
                    prop_assert_eq!(table.get(conn), None);
                }
            }
        }
    }
}
