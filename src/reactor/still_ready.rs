//! Who still has something to be read although the kernel will not say so again: readiness is
//! announced once, so whoever stopped at its budget is remembered here, behind everyone else.

use std::collections::VecDeque;

use crate::ids::ConnId;

/// In which order they are served: each line for a slice of the turn, behind whoever has said something just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Who has had a budget and wants more.
    Ready,
    /// Who was sent a task: all who were answer at once, and nobody else has to do with it.
    Asked,
    /// Who comes or goes.
    Behind,
}

impl Line {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Asked, Self::Behind];
}

/// First in, first out. Each connection is in it once at most, which its own flag sees to, so it
/// is never longer than the table of connections.
#[derive(Debug, Default)]
pub struct StillReady {
    queue: VecDeque<ConnId>,
    /// How many of this turn are left: who comes back during it waits for the next.
    round: usize,
}

impl StillReady {
    /// Puts `conn` behind everyone else.
    pub fn push(&mut self, conn: ConnId) {
        self.queue.push_back(conn);
    }

    /// Begins a turn: everyone who is in it now gets one go.
    pub fn begin(&mut self) {
        self.round = self.queue.len();
    }

    /// The next of this turn.
    pub fn pop(&mut self) -> Option<ConnId> {
        self.round = self.round.checked_sub(1)?;
        self.queue.pop_front()
    }

    /// Gives back the memory of what is not in use.
    pub fn tidy(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Forgets everyone.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is nobody.
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
        let mut ready = StillReady::default();
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
