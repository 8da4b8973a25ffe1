//! Rewriting of tasks after the store has lost its data.
//!
//! ```text
//!   Up, emptied ─▶ walk over the tasks ─▶ Op::Restore, a few at a time ─▶ Restored … all ─▶ done
//!                     ▲                                                     │ the store goes away
//!                     └────────────── next Available, lost_data or not ◀─────────────┘
//! ```
//!
//! A restore is state. If the store becomes unavailable, a restore in flight is dropped, and the
//! walk begins again at the next connection. Existing parts of a task stay unchanged.

use crate::handlers::context::Ctx;
use crate::handlers::tasks::Tasks;
use crate::ids::{HostId, TaskKey};
use crate::limits::RESTORES_IN_FLIGHT_MAX;
use crate::store::op::{Dispatch, Op, Stamp, Stored, TaskState};

use crate::handlers::tasks::table::Task;

/// Progress of the rewrite.
#[derive(Debug, Default)]
pub(crate) struct Restores {
    /// Tasks may be missing in the store, until a whole walk has been settled.
    due: bool,
    /// Least number of the next task, during a walk.
    cursor: Option<u64>,
    /// Restores with the store.
    in_flight: usize,
    /// Number of tasks stored since it began.
    stored: usize,
    /// Number of the last store connection at which the store had lost its data; 0: none.
    lost_at: u64,
}

impl Restores {
    /// Handles store connection number `session`; the store may have lost its data.
    pub(crate) fn begin(&mut self, lost_data: bool, session: u64) {
        if lost_data {
            self.lost_at = session;
        }
        if lost_data && !self.due {
            self.stored = 0;
        }
        self.due |= lost_data;
        self.cursor = self.due.then_some(0);
        self.in_flight = 0;
    }

    /// The store is unavailable.
    pub(crate) fn interrupt(&mut self) {
        self.cursor = None;
        self.in_flight = 0;
    }

    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        self.cursor.is_some() && self.in_flight < RESTORES_IN_FLIGHT_MAX
    }

    /// Returns whether tasks may still be missing in the store.
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Number of the last store connection at which the store had lost its data; 0: none. After it
    /// states may be missing that no rewrite brings back: those of an ended task that returned with
    /// the replay buffer.
    pub(super) fn lost_at(&self) -> u64 {
        self.lost_at
    }

    /// Returns whether this was the last task.
    fn is_over(&mut self) -> bool {
        let over = self.cursor.is_none() && self.in_flight == 0;
        over && std::mem::take(&mut self.due)
    }
}

impl Tasks {
    /// Moves possibly missing tasks into a batch. Call it only while no report waits: a state here
    /// never overtakes the report that led to it.
    pub(crate) fn take_restores(&mut self, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max && self.restores.has_ops() {
            let number = self.restores.cursor.unwrap_or_default();
            let Some((number, slot)) = self.table.first_at_or_above(number) else {
                self.restores.cursor = None;
                // Where some are with the store, the last of them ends it.
                self.restores.is_over();
                return;
            };
            if self.has_jobs() && self.table.task(slot).is_some_and(Task::is_partial) {
                // Its other hosts have to be entered first.
                self.restores.cursor = Some(number);
                return;
            }
            self.restores.cursor = Some(number + 1);
            if let Some(task) = self.table.task(slot).filter(|task| may_go_on(task)) {
                ops.push(self.restore_op(task));
                self.restores.in_flight += 1;
            }
        }
    }

    fn restore_op(&self, task: &Task) -> Op {
        let host = |slot: &u32| {
            let (host, _) = self.table.names_of(*slot)?;
            Some((host.clone(), self.table.delivery(*slot)?.state))
        };
        let hosts: Vec<(HostId, TaskState)> = task.deliveries.iter().filter_map(host).collect();
        Op::Restore(Box::new(Dispatch {
            request: task.request,
            key: task.key.clone(),
            created: task.created,
            queue: task.queue,
            commands: task.commands.clone(),
            hosts: hosts.into(),
            // Never stored.
            stamp: Stamp {
                at: task.created,
                seq: 0,
            },
        }))
    }

    /// Settles a restore.
    pub(crate) fn restored(&mut self, cx: &mut Ctx<'_>, key: &TaskKey, stored: &Stored) {
        let restores = &mut self.restores;
        restores.in_flight = restores.in_flight.saturating_sub(1);
        restores.stored += usize::from(*stored == Stored::Whole);
        let lost = match stored {
            Stored::Whole => None,
            Stored::Taken => Some("another has its key now"),
            Stored::Undone(why) | Stored::Refused(why) => Some(&**why),
        };
        if let Some(why) = lost {
            cx.log(
                log::Level::Error,
                "dispatch",
                key.to_string(),
                format!("the store has lost it, and does not take it again: {why}"),
            );
        }
        if restores.is_over() {
            let count = restores.stored;
            cx.log(
                log::Level::Info,
                "store",
                "store".to_owned(),
                format!("it may have lost what it had; {count} tasks written again"),
            );
        }
    }
}

/// Returns whether a host of the task may still change, so that its book is needed.
pub(super) fn may_go_on(task: &Task) -> bool {
    task.counts().any(|(state, _)| !state.is_settled())
}
