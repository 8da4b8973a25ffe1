//! A hierarchical timer wheel, pure: insert a deadline, collect those that are due, ask for the next.
//!
//! Six levels of 64 slots, each slot of a level as wide as the whole level below it. A deadline goes to
//! the lowest level on which it and the present still differ, and moves down as its time comes nearer,
//! at most five times.
//!
//! ```text
//! level 0   |.|.|.|x|.|…|   64 slots of 1 tick (2^20 ns, about a millisecond)
//! level 1   |.|x|.|.|.|…|   64 slots of 64 ticks
//!   …                       six of them; a deadline is at most 2^31 ticks ahead, 26 days
//! ```
//!
//! There is no cancelling and no searching: the owner checks a deadline when it comes due, and inserts
//! another if it was too early. An entry is 12 bytes: it holds the lower half of its tick, which is
//! unambiguous near the present.

use crate::time::{Instant, Span};

const TICK_SHIFT: u32 = 20;
const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Deadlines beyond this number of ticks are set early and found not due when they come. It is half
/// of the range that an entry can represent, and far less than the span of the highest level, so no
/// deadline lands in the slot of the present.
const REACH: u64 = i32::MAX as u64;
const _: () = assert!(REACH < (SLOTS as u64 - 1) << (SLOT_BITS * (LEVELS as u32 - 1)));
const NONE: u32 = u32::MAX;

/// Width of a tick: the greatest delay between a deadline and its discovery.
pub const TICK: Span = Span::from_nanos(1 << TICK_SHIFT);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The lower half of its tick.
    at: u32,
    key: u32,
    next: u32,
}

const _: () = assert!(size_of::<Entry>() == 12, "one for each connection");

#[derive(Clone, Debug)]
struct Level {
    occupied: u64,
    heads: [u32; SLOTS],
}

/// The wheel. Keys belong to the caller; the wheel does not interpret them.
#[derive(Clone, Debug)]
pub struct Wheel {
    /// The tick up to which all deadlines have been collected.
    elapsed: u64,
    levels: [Level; LEVELS],
    entries: Vec<Entry>,
    free: u32,
    len: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// Creates an empty wheel at time zero.
    #[must_use]
    pub fn new() -> Self {
        let level = Level {
            occupied: 0,
            heads: [NONE; SLOTS],
        };
        Self {
            elapsed: 0,
            levels: std::array::from_fn(|_| level.clone()),
            entries: Vec::new(),
            free: NONE,
            len: 0,
        }
    }

    /// Number of deadlines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no deadline is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Inserts a deadline. A past deadline is due at the next tick.
    pub fn insert(&mut self, at: Instant, key: u32) {
        let tick = at.as_nanos().div_ceil(1 << TICK_SHIFT);
        let tick = tick.clamp(self.elapsed + 1, self.elapsed + REACH);
        let entry = Entry {
            at: tick as u32,
            key,
            next: NONE,
        };
        let index = if self.free == NONE {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            index
        };
        self.len += 1;
        self.link(index);
    }

    /// Advances the present to `now` and appends the keys of all due deadlines to `due`.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<u32>) {
        let now = now.as_nanos() >> TICK_SHIFT;
        while let Some((level, slot, tick)) = self.first() {
            if tick > now {
                break;
            }
            self.elapsed = self.elapsed.max(tick);
            self.empty(level, slot, now, due);
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// Earliest moment at which [`expire`](Self::expire) may find something. Always later than its
    /// last call.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let (_, _, tick) = self.first()?;
        Some(Instant::from_nanos(
            tick.max(self.elapsed + 1) << TICK_SHIFT,
        ))
    }

    /// The occupied slot with the earliest time: level, number and first tick.
    fn first(&self) -> Option<(usize, usize, u64)> {
        for (index, level) in self.levels.iter().enumerate() {
            if level.occupied == 0 {
                continue;
            }
            let shift = SLOT_BITS * index as u32;
            let here = (self.elapsed >> shift) & (SLOTS as u64 - 1);
            let ahead = level.occupied.rotate_right(here as u32).trailing_zeros();
            let slot = (here + u64::from(ahead)) & (SLOTS as u64 - 1);
            let turn = 1_u64 << (shift + SLOT_BITS);
            let mut tick = (self.elapsed & !(turn - 1)) + (slot << shift);
            if slot < here {
                // Only the highest level wraps: slots behind the present belong to the next turn.
                tick += turn;
            }
            return Some((index, slot as usize, tick));
        }
        None
    }

    /// Empties a slot: deadlines due by the tick `now` are collected at any level; the others move
    /// down.
    fn empty(&mut self, level: usize, slot: usize, now: u64, due: &mut Vec<u32>) {
        let mut index = std::mem::replace(&mut self.levels[level].heads[slot], NONE);
        self.levels[level].occupied &= !(1 << slot);
        while index != NONE {
            let entry = self.entries[index as usize];
            if self.tick_of(entry) <= now {
                due.push(entry.key);
                self.entries[index as usize].next = self.free;
                self.free = index;
                self.len -= 1;
            } else {
                self.link(index);
            }
            index = entry.next;
        }
        if self.len == 0 {
            // All memory is free: the size of a storm need not be kept.
            self.entries.clear();
            self.entries.shrink_to(SLOTS);
            self.free = NONE;
        }
    }

    /// Full tick of `entry`: the one nearest to the present.
    fn tick_of(&self, entry: Entry) -> u64 {
        let ahead = entry.at.wrapping_sub(self.elapsed as u32).cast_signed();
        self.elapsed.saturating_add_signed(i64::from(ahead))
    }

    fn link(&mut self, index: u32) {
        let at = self.tick_of(self.entries[index as usize]);
        // The highest bit in which the deadline differs from the present gives the level. The
        // lowest six bits all belong to level 0.
        let differs = (self.elapsed ^ at) | (SLOTS as u64 - 1);
        let level = ((63 - differs.leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1);
        let slot = ((at >> (SLOT_BITS * level)) & (SLOTS as u64 - 1)) as usize;
        let level = &mut self.levels[level as usize];
        self.entries[index as usize].next = level.heads[slot];
        level.heads[slot] = index;
        level.occupied |= 1 << slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Span::from_millis(ms)
    }

    #[test]
    fn deadlines_are_due_within_a_tick() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        wheel.insert(at(60_000), 7);
        wheel.expire(at(59_999), &mut due);
        assert!(due.is_empty());
        wheel.expire(at(60_000) + TICK, &mut due);
        assert_eq!(due, [7]);
        assert!(wheel.is_empty() && wheel.next().is_none());
    }

    #[test]
    fn a_past_deadline_is_due_at_the_next_tick() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        wheel.expire(at(5_000), &mut due);
        wheel.insert(at(10), 1);
        let next = wheel.next().unwrap();
        assert!(next > at(4_999) && next <= at(5_000) + TICK + TICK);
        wheel.expire(next, &mut due);
        assert_eq!(due, [1]);
    }

    #[test]
    fn a_distant_deadline_is_set_early() {
        let mut wheel = Wheel::new();
        wheel.insert(Instant::from_nanos(u64::MAX), 1);
        let mut due = Vec::new();
        wheel.expire(Instant::from_nanos(u64::MAX / 2), &mut due);
        assert_eq!(due, [1]);
        // From the middle of a slot, where it would otherwise land in the slot it started from.
        wheel.insert(Instant::from_nanos(u64::MAX), 2);
        assert!(wheel.next().unwrap() > Instant::from_nanos(u64::MAX / 2));
        wheel.expire(
            Instant::from_nanos(u64::MAX / 2) + Span::from_secs(1),
            &mut due,
        );
        assert_eq!(due, [1]);
    }

    #[test]
    fn the_lower_half_of_a_tick_may_wrap() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        let wrap = (1_u64 << 32) << TICK_SHIFT;
        wheel.expire(Instant::from_nanos(wrap - 5_000_000_000), &mut due);
        let deadline = Instant::from_nanos(wrap + 5_000_000_000);
        wheel.insert(deadline, 1);
        for before in [4_000_000_000, 1_000_000, 0] {
            wheel.expire(Instant::from_nanos(wrap - before), &mut due);
            assert!(due.is_empty() && wheel.next().unwrap() <= deadline + TICK);
        }
        wheel.expire(deadline + TICK, &mut due);
        assert_eq!(due, [1]);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_list(
            steps in prop::collection::vec((0_u64..200_000_000, 0_u64..5_000_000), 1..200)
        ) {
            let mut wheel = Wheel::new();
            let mut model: Vec<(u64, u32)> = Vec::new();
            let mut now = 0_u64;
            for (key, (ahead, pass)) in (0_u32..).zip(steps) {
                let deadline = now + ahead * 1_000;
                wheel.insert(Instant::from_nanos(deadline), key);
                model.push((deadline, key));
                now += pass * 1_000;
                let mut due = Vec::new();
                wheel.expire(Instant::from_nanos(now), &mut due);
                for key in &due {
                    let place = model.iter().position(|(_, k)| k == key).unwrap();
                    let (deadline, _) = model.remove(place);
                    prop_assert!(deadline <= now, "due {} early", deadline - now);
                }
                let slack = 2 * TICK.as_nanos();
                prop_assert!(model.iter().all(|(deadline, _)| *deadline + slack > now));
                prop_assert_eq!(wheel.len(), model.len());
                match wheel.next() {
                    None => prop_assert!(model.is_empty()),
                    Some(next) => {
                        prop_assert!(next.as_nanos() > now);
                        let first = model.iter().map(|(deadline, _)| *deadline).min().unwrap();
                        prop_assert!(next.as_nanos() <= first.max(now) + slack);
                    }
                }
            }
        }
    }
}
