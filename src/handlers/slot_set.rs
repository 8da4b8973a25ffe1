//! A set of slots, one bit each: a set of the whole fleet is small, and slots are taken in the
//! order of memory.

const BITS: usize = u64::BITS as usize;

/// The set.
#[derive(Debug, Default)]
pub struct SlotSet {
    words: Vec<u64>,
    len: usize,
    /// No word before this one has a bit set.
    first: usize,
}

impl SlotSet {
    /// Inserts `slot`. Returns whether it was missing.
    pub fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(new);
        self.first = self.first.min(word);
        new
    }

    /// Removes `slot`. Returns whether it was in the set.
    pub fn remove(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        let Some(word) = self.words.get_mut(word).filter(|word| **word & bit != 0) else {
            return false;
        };
        *word &= !bit;
        self.len -= 1;
        true
    }

    /// Returns whether `slot` is in the set.
    #[must_use]
    pub fn has(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes and returns the least slot.
    pub fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        while self.words[self.first] == 0 {
            self.first += 1;
        }
        let word = &mut self.words[self.first];
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        self.len -= 1;
        Some((self.first * BITS) as u32 + bit)
    }

    /// All slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.words.iter().enumerate();
        words.flat_map(|(place, word)| {
            let bits = (0..BITS as u32).filter(move |bit| word & (1 << bit) != 0);
            bits.map(move |bit| (place * BITS) as u32 + bit)
        })
    }

    /// Removes all slots.
    pub fn clear(&mut self) {
        if self.len > 0 {
            self.words.fill(0);
        }
        self.len = 0;
        self.first = 0;
    }
}

fn place(slot: u32) -> (usize, u64) {
    (slot as usize / BITS, 1 << (slot as usize % BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_in_order(steps in prop::collection::vec((0_u8..5, 0_u32..300), 0..300)) {
            let mut set = SlotSet::default();
            let mut model = BTreeSet::new();
            for (step, slot) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(set.insert(slot), model.insert(slot)),
                    2 => prop_assert_eq!(set.remove(slot), model.remove(&slot)),
                    3 => prop_assert_eq!(set.pop(), model.pop_first()),
                    _ if slot == 0 => {
                        set.clear();
                        model.clear();
                    }
                    _ => {}
                }
                prop_assert_eq!(set.has(slot), model.contains(&slot));
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert!(set.iter().eq(model.iter().copied()));
            }
        }
    }
}
