//! A map in many parts. A hash table that grows moves all its entries. For a million names that
//! takes longer than a heartbeat may wait; for one of [`SHARDS`] parts it does not.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// Number of parts.
const SHARDS: usize = 256;

/// A map in parts, so that growing one does not rehash all.
#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    hasher: RandomState,
    parts: Vec<HashMap<K, V>>,
}

impl<K: Hash + Eq, V> Shards<K, V> {
    /// The value of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.parts[self.part_of(key)].get(key)
    }

    /// The value of `key`, which is entered if it is missing.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let part = self.part_of(&key);
        self.parts[part].entry(key).or_insert_with(make)
    }

    /// Removes the value of `key`.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let part = self.part_of(key);
        self.parts[part].remove(key)
    }

    fn part_of(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: (0..SHARDS).map(|_| HashMap::new()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_spread_over_all_parts() {
        let mut map = Shards::default();
        const MANY: usize = 100 * SHARDS;
        for n in 0..MANY {
            assert_eq!(*map.get_or_insert_with(n, || n + 1), n + 1);
            assert_eq!(*map.get_or_insert_with(n, || 0), n + 1, "it is there");
        }
        assert_eq!(map.get(&MANY), None);
        let longest = map.parts.iter().map(HashMap::len).max();
        assert!(longest.is_some_and(|len| len < 300), "{longest:?}");
        for n in 0..MANY {
            assert_eq!(map.get(&n).copied(), Some(n + 1));
            assert_eq!(map.remove(&n), Some(n + 1));
            assert_eq!((map.get(&n).copied(), map.remove(&n)), (None, None));
        }
    }
}
