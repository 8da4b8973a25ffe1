//! Dispatches in progress: the start of each, and those that the store went away under. It is
//! unknown whether the latter are stored; they are settled after the reconnection.

use std::collections::VecDeque;

use crate::limits::{DISPATCH_WAIT_S_MAX, DISPATCHES_WAITING_MAX};
use crate::store::op::Dispatch;
use crate::time::{Instant, Span};

/// See the module. At most `DISPATCHES_WAITING_MAX` in all.
#[derive(Debug, Default)]
pub(super) struct Dispatches {
    /// Handed over and not settled: by request, and since when.
    begun: VecDeque<(u64, Instant)>,
    /// Those of them that the store went away under, in order.
    waiting: VecDeque<Box<Dispatch>>,
}

impl Dispatches {
    /// Starts one at `now`. Returns false if there are too many: it is not begun then.
    pub fn begin(&mut self, request: u64, now: Instant) -> bool {
        let room = self.begun.len() < DISPATCHES_WAITING_MAX;
        if room {
            self.begun.push_back((request, now));
        }
        room
    }

    /// The store has gone away under this one.
    pub fn keep(&mut self, dispatch: Box<Dispatch>) {
        self.waiting.push_back(dispatch);
    }

    /// The first that waits to be settled, and whether its asker is still waiting for it to be stored.
    pub fn next(&self, now: Instant) -> Option<(&Dispatch, bool)> {
        let dispatch = self.waiting.front()?;
        let begun = self.begun.iter().find(|(r, _)| *r == dispatch.request);
        let patience = Span::from_secs(DISPATCH_WAIT_S_MAX);
        let finish = begun.is_some_and(|(_, since)| now.since(*since) <= patience);
        Some((dispatch, finish))
    }

    /// Removes the first waiting one: it is settled or set aside.
    pub fn pop(&mut self) -> Option<Box<Dispatch>> {
        let dispatch = self.waiting.pop_front()?;
        self.settled(dispatch.request);
        Some(dispatch)
    }

    /// One is settled.
    pub fn settled(&mut self, request: u64) {
        if let Some(at) = self.begun.iter().position(|(r, _)| *r == request) {
            self.begun.remove(at);
        }
    }
}
