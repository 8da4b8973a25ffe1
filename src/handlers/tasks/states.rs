//! States of hosts in tasks, kept in step with the store.
//!
//! ```text
//!   change ─▶ dirty ─┐
//!                    ├─▶ Op::TaskStates ─▶ StatesWritten … all ─▶ connected for another 10 s: sure
//!   Up ─▶ walk ──────┘                        │
//!    ▲                                        │ the store goes away before: the next walk writes them too
//!    └────────────────────────────────────────┘
//! ```
//!
//! A state that was sent to the store is not yet durable: the store may go away, or lose its last seconds.
//! Each new store connection therefore rewrites the changes since the last connection whose walk was
//! finished and survived.

use crate::handlers::tasks::Tasks;
use crate::limits::{HOSTS_PER_OP_MAX, RECENT_S};
use crate::store::op::{Op, TaskStates};
use crate::time::{Instant, Span};

use crate::handlers::tasks::restore::may_go_on;
use crate::handlers::tasks::table::Task;

/// Progress of writing the states.
#[derive(Debug, Default)]
pub(crate) struct States {
    /// The walk over all tasks, while it is under way.
    walk: Option<Walk>,
    /// `TaskStates` operations with the store.
    in_flight: usize,
    /// Time at which the last walk of this store connection was written.
    written: Option<Instant>,
    /// Changes during earlier store connections than this one are durable.
    sure_before: u64,
}

/// Position of a walk over all tasks.
#[derive(Clone, Copy, Debug)]
struct Walk {
    /// The least number of the next task.
    number: u64,
    /// The first of its deliveries that is left.
    place: usize,
}

impl States {
    /// Returns whether a walk is under way.
    pub(super) fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// Queues a rewrite of all states that may be missing.
    pub(crate) fn walk(&mut self) {
        self.written = None;
        self.walk = Some(Walk {
            number: 0,
            place: 0,
        });
    }

    /// Handles the end of store connection number `session`. Its walk is durable if the connection
    /// lasted long enough after it.
    pub(crate) fn interrupt(&mut self, session: u64, now: Instant) {
        self.walk = None;
        self.in_flight = 0;
        let written = self.written.take();
        if written.is_some_and(|at| now.since(at) >= Span::from_secs(RECENT_S)) {
            self.sure_before = session;
        }
    }

    /// Counts an operation that has ended.
    pub(crate) fn settled(&mut self, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.look(now);
    }

    /// The operation that writes some states.
    fn send(&mut self, states: TaskStates) -> Op {
        self.in_flight += 1;
        Op::TaskStates(Box::new(states))
    }

    fn look(&mut self, now: Instant) {
        if self.walk.is_none() && self.in_flight == 0 {
            self.written.get_or_insert(now);
        }
    }

    /// Returns whether changes of this store connection, counted from 1, may be missing.
    fn is_unsure(&self, changed: u64) -> bool {
        changed > 0 && changed >= self.sure_before
    }
}

impl Tasks {
    /// Moves states into a batch: those that changed, then those of the walk.
    pub(crate) fn take_states(&mut self, now: Instant, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max {
            let gone = self.table.take_gone();
            let states = gone.or_else(|| self.table.take_unwritten(HOSTS_PER_OP_MAX));
            let Some(states) = states else { break };
            ops.push(self.states.send(states));
        }
        while ops.len() < max {
            let Some(walk) = self.states.walk else {
                return;
            };
            if self.is_at_partial(walk) {
                return;
            }
            ops.extend(self.walk_states(walk, now));
        }
    }

    /// Returns whether the next task of the walk still lacks hosts, which must be entered first.
    fn is_at_partial(&self, walk: Walk) -> bool {
        let next = self.table.first_at_or_above(walk.number);
        let next = next.and_then(|(_, slot)| self.table.task(slot));
        self.has_jobs() && next.is_some_and(Task::is_partial)
    }

    /// One step of the walk.
    fn walk_states(&mut self, walk: Walk, now: Instant) -> Option<Op> {
        let Some((number, slot)) = self.table.first_at_or_above(walk.number) else {
            self.states.walk = None;
            self.states.look(now);
            return None;
        };
        let task = self.table.task(slot)?;
        // The reports confirmed lately have just been written again, and with them what was passed since: a
        // state that another may follow is not safe from them.
        let goes_on = may_go_on(task);
        let lost = self.states.is_unsure(self.restores.lost_at());
        let unsure = self.states.is_unsure(task.changed);
        let place = if number == walk.number { walk.place } else { 0 };
        let end = task.deliveries.len().min(place + HOSTS_PER_OP_MAX);
        if !(unsure || goes_on || lost) || place >= end {
            self.states.walk = Some(Walk {
                number: number + 1,
                place: 0,
            });
            return None;
        }
        let some = task.deliveries[place..end].to_vec();
        self.states.walk = Some(Walk { number, place: end });
        let last = end == task.deliveries.len();
        let states = self.table.states_of(slot, &some, last)?;
        Some(self.states.send(states))
    }
}
