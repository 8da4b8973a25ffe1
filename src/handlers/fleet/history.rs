//! Past transitions of hosts: 8 bytes each. A host that came online once and stayed has none.
//!
//! The present state of a host is in its row. Only the states before it are here.

use std::collections::HashMap;

use crate::limits::HISTORY_TRANSITIONS_MAX;
use crate::store::op::Transition;

/// Transitions before the present state, by slot.
#[derive(Debug, Default)]
pub(crate) struct History {
    hosts: HashMap<u32, Vec<Transition>>,
}

impl History {
    /// Adds the state that a host is about to leave.
    pub(crate) fn push(&mut self, slot: u32, left: Transition) {
        let list = self.hosts.entry(slot).or_default();
        if list.last() == Some(&left) {
            return;
        }
        if list.len() + 1 >= HISTORY_TRANSITIONS_MAX {
            list.remove(0);
        }
        list.reserve_exact(1);
        list.push(left);
    }

    /// Transitions of a host before its present state, the oldest first.
    pub(crate) fn of(&self, slot: u32) -> &[Transition] {
        self.hosts.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// Forgets a host.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.hosts.remove(&slot);
    }

    /// Returns unused memory to the allocator.
    pub(crate) fn trim(&mut self) {
        self.hosts.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::op::Was;
    use crate::time::UnixMs;

    #[test]
    fn the_oldest_transition_makes_room() {
        let mut history = History::default();
        let at = |ms| Transition::new(UnixMs(ms), Was::Online);
        for ms in 1..=100 {
            history.push(7, at(ms));
            history.push(7, at(ms));
        }
        let shown = history.of(7);
        // The present state is the last of so many.
        assert_eq!(shown.len(), HISTORY_TRANSITIONS_MAX - 1);
        assert_eq!((shown[0], shown[30]), (at(70), at(100)));
        assert!(history.of(8).is_empty());
        history.forget(7);
        assert!(history.of(7).is_empty());
    }
}
