//! Connections that have more to read although the kernel will not report it again. Readiness is
//! reported once, so a connection that stopped at its budget is queued here.

use std::collections::VecDeque;

use crate::ids::ConnId;

/// The lines, in the order of service: each for a slice of the turn, behind the connections that
/// have just sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadQueue {
    /// Connections that used their budget and have more.
    OverBudget,
    /// Connections of hosts that were sent a task. All of them answer at once; no other host
    /// depends on it.
    Dispatched,
    /// Connections that arrive or leave.
    Transient,
}

impl ReadQueue {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::OverBudget, Self::Dispatched, Self::Transient];
}

/// First in, first out. Each connection is in it once at most, which its own flag sees to, so it
/// is never longer than the table of connections.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    queue: VecDeque<ConnId>,
    /// Remaining connections of this turn; later ones wait for the next.
    round: usize,
}

impl ReadyQueue {
    /// Puts `conn` behind everyone else.
    pub fn push(&mut self, conn: ConnId) {
        self.queue.push_back(conn);
    }

    /// Begins a turn: each queued connection gets one go.
    pub fn begin(&mut self) {
        self.round = self.queue.len();
    }

    /// The next of this turn.
    pub fn pop(&mut self) -> Option<ConnId> {
        self.round = self.round.checked_sub(1)?;
        self.queue.pop_front()
    }

    /// Gives back the memory of what is not in use.
    pub fn trim(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Forgets everyone.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn who_comes_back_during_a_turn_waits_for_the_next_behind_everyone() {
        let mut ready = ReadyQueue::default();
        ready.push(conn(1));
        ready.push(conn(2));
        ready.begin();
        assert_eq!(ready.pop(), Some(conn(1)));
        ready.push(conn(1));
        assert_eq!(ready.pop(), Some(conn(2)));
        assert_eq!(ready.pop(), None);
        ready.begin();
        assert_eq!(ready.pop(), Some(conn(1)));
        assert_eq!(ready.pop(), None);
        assert!(ready.is_empty());
    }
}
