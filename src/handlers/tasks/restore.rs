//! Rewriting of tasks after the store has lost its data.
//!
//! ```text
//!   Up, emptied ─▶ walk over the tasks ─▶ Op::Restore, a few at a time ─▶ Restored … all ─▶ done
//!                     ▲                                                     │ the store goes away
//!                     └────────────── next Available, lost_data or not ◀─────────────┘
//! ```
//!
//! The hosts of a task with many hosts are listed some at a time, in later turns ([`Restoring`]).
//!
//! A restore is state. If the store becomes unavailable, a restore in flight is dropped, and the
//! walk begins again at the next connection. Existing parts of a task stay unchanged.

use crate::handlers::context::Ctx;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::jobs::Job;
use crate::ids::{HostId, TaskKey};
use crate::limits::{HOSTS_PER_STEP_MAX, RESTORES_IN_FLIGHT_MAX};
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
    /// The task whose hosts are being listed.
    list: Option<List>,
    /// Number of lists so far.
    lists: u64,
}

/// Hosts of a task with many of them, listed in steps.
#[derive(Debug)]
struct List {
    id: u64,
    task: u32,
    /// Number of the task.
    number: u64,
    /// A state has changed since it began.
    is_stale: bool,
    /// Set when it is complete.
    hosts: Option<Hosts>,
}

type Hosts = Vec<(HostId, TaskState)>;

/// The listing of a task's hosts.
#[derive(Debug)]
pub(crate) struct Restoring {
    list: u64,
    hosts: Hosts,
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
        self.interrupt();
        self.cursor = self.due.then_some(0);
    }

    /// The store is unavailable.
    pub(crate) fn interrupt(&mut self) {
        self.cursor = None;
        self.in_flight = 0;
        self.list = None;
    }

    /// A host of this task has another state.
    pub(super) fn note_change(&mut self, task: u32) {
        if let Some(list) = &mut self.list {
            list.is_stale |= list.task == task;
        }
    }

    fn is_listing(&self) -> bool {
        self.list.as_ref().is_some_and(|list| list.hosts.is_none())
    }

    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        self.cursor.is_some() && self.in_flight < RESTORES_IN_FLIGHT_MAX && !self.is_listing()
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
            if let Some(list) = self.restores.list.take() {
                if let Some(op) = self.restore_listed(list) {
                    ops.push(op);
                    self.restores.in_flight += 1;
                }
                continue;
            }
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
            let task = self.table.task(slot);
            let task = task.filter(|task| may_go_on(task) && task.keeper.is_none());
            let Some(task) = task else {
                continue;
            };
            if task.deliveries.len() > HOSTS_PER_STEP_MAX {
                self.begin_list(slot, number);
                return;
            }
            let mut hosts = Vec::with_capacity(task.deliveries.len());
            hosts.extend(self.hosts_of(&task.deliveries));
            ops.push(restore_op(task, hosts));
            self.restores.in_flight += 1;
        }
    }

    fn hosts_of(&self, deliveries: &[u32]) -> impl Iterator<Item = (HostId, TaskState)> {
        deliveries.iter().filter_map(|slot| {
            let (host, _) = self.table.names_of(*slot)?;
            Some((host.clone(), self.table.delivery(*slot)?.state))
        })
    }

    fn begin_list(&mut self, task: u32, number: u64) {
        self.restores.lists += 1;
        let id = self.restores.lists;
        self.restores.list = Some(List {
            id,
            task,
            number,
            is_stale: false,
            hosts: None,
        });
        self.jobs.push(Job::Restoring(Box::new(Restoring {
            list: id,
            hosts: Vec::new(),
        })));
    }

    /// Lists at most `max` more hosts. Returns whether these were the last. A listing that began
    /// during an earlier store connection has nothing left.
    pub(super) fn list_some(&self, restoring: &mut Restoring, max: usize) -> bool {
        let list = self.restores.list.as_ref();
        let list = list.filter(|list| list.id == restoring.list);
        let Some(task) = list.and_then(|list| self.listed_task(list)) else {
            return true;
        };
        let place = restoring.hosts.len();
        if place == 0 {
            restoring.hosts.reserve_exact(task.deliveries.len());
        }
        let end = task.deliveries.len().min(place + max);
        let some = self.hosts_of(&task.deliveries[place..end]);
        restoring.hosts.extend(some);
        end == task.deliveries.len()
    }

    /// The task of a list, unless it has been removed.
    fn listed_task(&self, list: &List) -> Option<&Task> {
        let task = self.table.task(list.task);
        task.filter(|task| task.number == list.number)
    }

    /// A listing has ended.
    pub(super) fn listed(&mut self, restoring: Restoring) {
        let list = self.restores.list.as_mut();
        if let Some(list) = list.filter(|list| list.id == restoring.list) {
            list.hosts = Some(restoring.hosts);
        }
    }

    /// The operation for a complete list, if the task may still go on.
    fn restore_listed(&self, list: List) -> Option<Op> {
        let task = self.listed_task(&list).filter(|task| may_go_on(task))?;
        let mut hosts = list.hosts?;
        debug_assert_eq!(hosts.len(), task.deliveries.len());
        if list.is_stale {
            // Only the states: a few milliseconds for a task of the greatest size.
            for (host, slot) in hosts.iter_mut().zip(&task.deliveries) {
                host.1 = self.table.delivery(*slot)?.state;
            }
        }
        Some(restore_op(task, hosts))
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

fn restore_op(task: &Task, hosts: Hosts) -> Op {
    Op::Restore(Box::new(Dispatch {
        request: task.request,
        key: task.key.clone(),
        created: task.created,
        queue: task.queue,
        commands: task.commands.clone(),
        hosts: hosts.into(),
        rings: Vec::new(),
        rollout: task.rollout_text(),
        epoch: task.epoch,
        // Never stored.
        stamp: Stamp {
            at: task.created,
            seq: 0,
        },
    }))
}
