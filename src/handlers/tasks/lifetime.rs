//! Lifetime of tasks: restored after a restart, ended when their time is over, and evicted when the
//! store no longer has them.

use std::collections::HashMap;

use crate::ids::{HostId, TaskKey};
use crate::limits::EARLY_REPORTS_MAX;
use crate::store::op::{HeldTask, TaskState};
use crate::time::{Instant, Span};

use crate::handlers::Moment;
use crate::handlers::core::Core;
use crate::handlers::effect::{Effect, Effects, Note};
use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::dispatch::Begin;
use crate::handlers::tasks::table::{Draft, Room, is_at_work};

/// A task that is open when its time is over is looked at again so much later, at least.
const LOOK_AGAIN: Span = Span::from_secs(60);
/// A task is never looked at twice at one moment.
const TICK: Span = Span::from_millis(1);

/// Reports that arrived before the store's tasks were known.
#[derive(Debug, Default)]
pub(crate) struct Early {
    states: HashMap<(HostId, TaskKey), TaskState>,
}

impl Early {
    fn note(&mut self, host: HostId, key: TaskKey, next: TaskState) {
        let pair = (host, key);
        if let Some(state) = self.states.get_mut(&pair) {
            if state.may_become(next) {
                *state = next;
            }
        } else if self.states.len() < EARLY_REPORTS_MAX {
            self.states.insert(pair, next);
        }
    }
}

impl Core {
    /// Remembers a report on an unknown task: before the store's tasks are known, it may belong to
    /// one of them.
    pub(crate) fn note_early(&mut self, host: &HostId, key: &TaskKey, next: TaskState) {
        if self.is_starting() {
            self.tasks.early.note(host.clone(), key.clone(), next);
        }
    }

    /// Some of the tasks this node has dispatched, before the store is up for the first time. Returns the slots of those that
    /// were entered.
    pub(crate) fn held_tasks(
        &mut self,
        at: Moment,
        held: Vec<HeldTask>,
        fx: &mut Effects,
    ) -> Vec<u32> {
        let mut entered = Vec::new();
        for found in held {
            let HeldTask {
                key,
                created,
                queue,
                request,
                commands,
                hosts,
                expires,
            } = found;
            if self.tasks.table.find(&key).is_some() {
                continue;
            }
            let room = Room::of(&commands, hosts.len());
            if self.tasks.table.make_room(room).is_none() {
                fx.push(Effect::Log(Note {
                    level: log::Level::Error,
                    what: "dispatch",
                    who: key.to_string(),
                    text: "is in the store, and there is no room for it here".to_owned(),
                }));
                continue;
            }
            let draft = Draft {
                key,
                created,
                request,
                queue,
                commands,
                hosts,
            };
            let slot = self.tasks.table.insert(draft, at.now);
            entered.push(slot);
            let Some(task) = self.tasks.table.task_mut(slot) else {
                continue;
            };
            task.expires = expires;
            if task.is_over() && !expires {
                // A crash came before its time to live; the next store connection brings it.
                self.tasks
                    .table
                    .write_over(slot, self.stats.store_sessions + 1);
            }
        }
        entered
    }

    /// Tasks of a node that is gone go on here.
    pub(crate) fn inherit_tasks(&mut self, at: Moment, held: Vec<HeldTask>, fx: &mut Effects) {
        for slot in self.held_tasks(at, held, fx) {
            self.resume_task(slot, at);
        }
    }

    fn resume_task(&mut self, slot: u32, at: Moment) {
        let Some(task) = self.tasks.table.task(slot) else {
            return;
        };
        let age = Span::from_millis(at.wall.0.saturating_sub(task.created.0));
        let left = Span::from_nanos(self.rules.keep.as_nanos().saturating_sub(age.as_nanos()));
        self.begin_task(slot, at.now + left, Begin::Again, at);
    }

    /// Resumes the tasks that the store knows, at its first connection. Tries of `sent` hosts begin
    /// anew, and busy ones have their full time.
    pub(crate) fn resume_tasks(&mut self, at: Moment) {
        let all: Vec<u32> = self.tasks.table.newest_first(0).collect();
        for slot in all {
            self.resume_task(slot, at);
        }
        for ((host, key), next) in std::mem::take(&mut self.tasks.early).states {
            let Some(slot) = self.tasks.table.delivery_of(&key, &host) else {
                continue;
            };
            let failed = self.tasks.table.delivery(slot).is_some_and(|d| d.failed);
            let next = match next {
                TaskState::Done if failed => TaskState::Failed,
                next => next,
            };
            self.turn_delivery(slot, next, Cause::Ourselves, at);
            if let Some(delivery) = self.tasks.table.delivery_mut(slot) {
                delivery.cut = false;
            }
            let state = self
                .tasks
                .table
                .delivery(slot)
                .map(|delivery| delivery.state);
            if is_at_work(next) && !state.is_some_and(is_at_work) {
                // It has finished with it and runs it once more.
                continue;
            }
            if let Some(host) = self.fleet.hosts.find(&host) {
                // What it was taken to be at work on elsewhere is this.
                let reference = self.fleet.hosts.reference(host);
                reference.inspect(|reference| self.tasks.work.ended(*reference, &key));
            }
        }
        self.watch_those_at_work();
    }

    /// Examines the tasks whose time has come: unfinished ones expire, and old finished ones are
    /// evicted.
    pub(crate) fn look_at_tasks(&mut self, judge: Instant, at: Moment) {
        while let Some(slot) = self.tasks.table.take_look(judge) {
            let Some(task) = self.tasks.table.task(slot) else {
                continue;
            };
            for delivery in task.deliveries.clone() {
                self.expire_delivery(delivery, at);
            }
            let Some(task) = self.tasks.table.task_mut(slot) else {
                continue;
            };
            task.aged = true;
            if task.is_over() && !task.expires {
                // A host without a book ends with it.
                task.ended = at.now;
                self.tasks.table.write_over(slot, self.stats.store_sessions);
            }
            let Some(task) = self.tasks.table.task(slot) else {
                continue;
            };
            let over = task.ended + self.rules.keep;
            if task.is_open() {
                self.tasks.table.set_look(slot, at.now + LOOK_AGAIN);
            } else if over <= judge {
                self.tasks.table.remove(slot);
            } else {
                self.tasks.table.set_look(slot, over.max(at.now + TICK));
            }
        }
    }

    fn expire_delivery(&mut self, slot: u32, at: Moment) {
        let state = self
            .tasks
            .table
            .delivery(slot)
            .map(|delivery| delivery.state);
        if let Some(TaskState::Queued | TaskState::Lost | TaskState::Unanswered) = state {
            self.turn_delivery(slot, TaskState::Expired, Cause::Ourselves, at);
        }
    }
}
