//! Changes of presence that are not written yet: a short queue for each host with changes.
//!
//! Memory is used only for pages of hosts with changes, and is freed when the last change is
//! settled.

use slab::Slab;

use crate::store::op::{Reason, Stamp};
use crate::time::UnixMs;

const NONE: u32 = u32::MAX;

/// A change of a host's presence that is not written yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The new state: online, or offline for a reason.
    pub to: Became,
    /// Time of the change.
    pub since: UnixMs,
    /// Number of its event; none for a host that is only written again.
    pub event: Option<u64>,
    /// It is reported once the store has confirmed it.
    pub waits: bool,
}

/// State of a host after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Online.
    Online,
    /// Offline.
    Offline(Reason),
}

impl Change {
    /// Returns whether the host is online.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.to == Became::Online
    }

    /// The event of the change, with the time of the change.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        let at = self.since;
        self.event.map(|seq| Stamp { at, seq })
    }
}

/// A change in its queue.
#[derive(Clone, Copy, Debug)]
struct Node {
    since: UnixMs,
    /// Number of the event, if `has_event`.
    seq: u64,
    next: u32,
    to: Became,
    has_event: bool,
    waits: bool,
}

/// Number of hosts on a page.
const PAGE: usize = 1_024;

/// The oldest change of each host, by slot. A page covers a thousand hosts and exists if one of
/// them has a change. Hosts go offline by the hundred thousand, roughly in the order of their
/// slots, so pages stay in the cache; a hash table would miss it for each host.
#[derive(Debug, Default)]
struct Heads {
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    /// Number of hosts with a change.
    len: usize,
}

impl Heads {
    fn get(&self, slot: u32) -> u32 {
        let (page, place) = Self::place(slot);
        let page = self.pages.get(page).and_then(Option::as_ref);
        page.map_or(NONE, |page| page[place])
    }

    /// Sets the oldest change of a host; `NONE` if it has none.
    fn set(&mut self, slot: u32, head: u32) {
        let (page, place) = Self::place(slot);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([NONE; PAGE]));
        let before = std::mem::replace(&mut page[place], head);
        self.len += usize::from(head != NONE);
        self.len -= usize::from(before != NONE);
    }

    const fn place(slot: u32) -> (usize, usize) {
        (slot as usize / PAGE, slot as usize % PAGE)
    }
}

/// The queues of all hosts.
#[derive(Debug, Default)]
pub struct Changes {
    heads: Heads,
    nodes: Slab<Node>,
}

impl Changes {
    /// Returns whether the host in `slot` has a change.
    #[must_use]
    pub fn has(&self, slot: u32) -> bool {
        self.head(slot) != NONE
    }

    /// Number of hosts with a change.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.heads.len
    }

    /// The changes of a host, oldest first.
    pub fn of(&self, slot: u32) -> impl Iterator<Item = Change> {
        let mut next = self.head(slot);
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.next;
            Some(Change {
                to: node.to,
                since: node.since,
                event: node.has_event.then_some(node.seq),
                waits: node.waits,
            })
        })
    }

    /// Appends a change of a host.
    pub fn push(&mut self, slot: u32, change: Change) {
        match self.last_two(slot) {
            Some((_, last)) => {
                let node = self.enter(change);
                self.nodes[last as usize].next = node;
            }
            None => self.push_first(slot, change),
        }
    }

    /// Appends a change of a host that has none.
    pub fn push_first(&mut self, slot: u32, change: Change) {
        let node = self.enter(change);
        self.heads.set(slot, node);
    }

    fn enter(&mut self, change: Change) -> u32 {
        self.nodes.insert(Node {
            since: change.since,
            seq: change.event.unwrap_or(0),
            next: NONE,
            to: change.to,
            has_event: change.event.is_some(),
            waits: change.waits,
        }) as u32
    }

    /// Takes the oldest change of a host.
    pub fn pop_front(&mut self, slot: u32) {
        let head = self.head(slot);
        if head != NONE {
            let next = self.take(head).next;
            if next == NONE {
                self.forget(slot);
            } else {
                self.heads.set(slot, next);
            }
        }
    }

    /// Takes the newest change of a host.
    pub fn pop_back(&mut self, slot: u32) {
        let Some((before, last)) = self.last_two(slot) else {
            return;
        };
        self.take(last);
        if before == NONE {
            self.forget(slot);
        } else {
            self.nodes[before as usize].next = NONE;
        }
    }

    fn head(&self, slot: u32) -> u32 {
        self.heads.get(slot)
    }

    /// The newest change of a host and the one before it. A queue is only a few changes long.
    fn last_two(&self, slot: u32) -> Option<(u32, u32)> {
        let (mut before, mut last) = (NONE, self.head(slot));
        while let Some(node) = self.nodes.get(last as usize).filter(|n| n.next != NONE) {
            (before, last) = (last, node.next);
        }
        (last != NONE).then_some((before, last))
    }

    fn take(&mut self, node: u32) -> Node {
        self.nodes.remove(node as usize)
    }

    /// Handles the end of a host's last change: after a storm the memory is freed.
    fn forget(&mut self, slot: u32) {
        self.heads.set(slot, NONE);
        if self.heads.len == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, VecDeque};

    proptest! {
        #[test]
        fn each_host_has_a_queue_of_its_own(steps in prop::collection::vec((0_u8..4, 0_u32..5), 0..200)) {
            let mut changes = Changes::default();
            let mut model: HashMap<u32, VecDeque<Change>> = HashMap::new();
            for (number, (step, slot)) in (0..).zip(steps) {
                // Some hosts have a page of their own.
                let slot = slot * 500;
                let queue = model.entry(slot).or_default();
                match step {
                    0 | 1 => {
                        let change = Change {
                            to: if number % 2 == 0 { Became::Online } else { Became::Offline(Reason::Reset) },
                            since: UnixMs(number),
                            event: (number % 3 == 0).then_some(number),
                            waits: number % 5 == 0,
                        };
                        changes.push(slot, change);
                        queue.push_back(change);
                    }
                    2 => {
                        changes.pop_front(slot);
                        queue.pop_front();
                    }
                    _ => {
                        changes.pop_back(slot);
                        queue.pop_back();
                    }
                }
                for slot in (0..6).map(|slot| slot * 500) {
                    let queue = model.get(&slot).cloned().unwrap_or_default();
                    prop_assert_eq!(changes.has(slot), !queue.is_empty());
                    prop_assert!(changes.of(slot).eq(queue));
                }
                prop_assert_eq!(changes.hosts(), model.values().filter(|q| !q.is_empty()).count());
            }
        }
    }
}
