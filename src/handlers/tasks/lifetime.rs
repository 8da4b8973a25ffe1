//! Lifetime of tasks: unfinished ones expire, and tasks that the store has deleted are evicted.

use crate::handlers::context::Ctx;
use crate::handlers::tasks::Tasks;
use std::collections::HashMap;

use crate::ids::{HostId, TaskKey};
use crate::limits::{EARLY_REPORTS_MAX, HOSTS_PER_STEP_MAX};
use crate::store::op::TaskState;
use crate::time::{Instant, Span};

use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::jobs::Job;
use crate::handlers::tasks::table::Task;

/// Least interval between two checks of a task that is still open after its time.
const LOOK_AGAIN: Span = Span::from_secs(60);
/// Interval between two checks of a task, so that no task is checked twice at one moment.
const TICK: Span = Span::from_millis(1);

/// The examination of an expired task.
#[derive(Debug)]
pub(crate) struct Expiring {
    task: u32,
    number: u64,
    /// Place of the next delivery.
    place: usize,
    /// Moment by which the deadlines are judged.
    judge: Instant,
}

/// Reports that arrived before the store's tasks were known.
#[derive(Debug, Default)]
pub(crate) struct Early {
    states: HashMap<(HostId, TaskKey), TaskState>,
}

impl Early {
    /// Takes all reports.
    pub(super) fn take(&mut self) -> HashMap<(HostId, TaskKey), TaskState> {
        std::mem::take(&mut self.states)
    }

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

impl Tasks {
    /// Remembers a report on an unknown task: before the store's tasks are known, it may belong to
    /// one of them.
    pub(super) fn note_early(
        &mut self,
        cx: &Ctx<'_>,
        host: &HostId,
        key: &TaskKey,
        next: TaskState,
    ) {
        if cx.is_starting() {
            self.early.note(host.clone(), key.clone(), next);
        }
    }

    /// Examines the tasks whose time has come: unfinished ones expire, and old finished ones are
    /// evicted.
    pub(crate) fn look_at_tasks(&mut self, cx: &mut Ctx<'_>, judge: Instant) {
        // The rest is due at once, and follows in the next turn.
        let mut left = HOSTS_PER_STEP_MAX;
        while left > 0
            && let Some(slot) = self.table.take_look(judge)
        {
            let Some(task) = self.table.task(slot) else {
                continue;
            };
            left = left.saturating_sub(task.deliveries.len().max(1));
            let mut expiring = Expiring {
                task: slot,
                number: task.number,
                place: 0,
                judge,
            };
            self.end_rollout(cx, slot);
            match self.expire_some(cx, &mut expiring, HOSTS_PER_STEP_MAX) {
                true => self.expired(cx, &expiring),
                false => self.jobs.push(Job::Expiring(expiring)),
            }
        }
    }

    /// Expires at most `max` more hosts of a task. Returns whether these were the last.
    pub(super) fn expire_some(
        &mut self,
        cx: &mut Ctx<'_>,
        expiring: &mut Expiring,
        max: usize,
    ) -> bool {
        let Some(task) = self.expiring_task(expiring) else {
            return true;
        };
        let end = task.deliveries.len().min(expiring.place + max);
        let is_last = end == task.deliveries.len();
        let some = task.deliveries[expiring.place..end].to_vec();
        expiring.place = end;
        for delivery in some {
            self.expire_delivery(cx, delivery);
        }
        is_last
    }

    /// The task under examination, unless it has been evicted meanwhile.
    fn expiring_task(&self, expiring: &Expiring) -> Option<&Task> {
        let task = self.table.task(expiring.task);
        task.filter(|task| task.number == expiring.number)
    }

    /// Removes a task whose hosts have been examined, or sets its next check.
    pub(crate) fn expired(&mut self, cx: &mut Ctx<'_>, expiring: &Expiring) {
        let slot = expiring.task;
        if self.expiring_task(expiring).is_none() {
            return;
        }
        let Some(task) = self.table.task_mut(slot) else {
            return;
        };
        task.aged = true;
        let is_unwritten = task.is_over() && !task.expires;
        if is_unwritten {
            // A host without a book ends with it.
            task.ended = cx.at.now;
        }
        let (is_open, over) = (task.is_open(), task.ended + cx.rules.keep);
        if is_unwritten {
            self.table.write_over(slot, cx.stats.store_sessions);
        }
        if is_open {
            self.table.set_look(slot, cx.at.now + LOOK_AGAIN);
        } else if over <= expiring.judge {
            self.table.remove(slot);
        } else {
            self.table.set_look(slot, over.max(cx.at.now + TICK));
        }
    }

    /// Ends what waits for this host to connect: it is forgotten.
    pub(crate) fn expire_queued_of(&mut self, cx: &mut Ctx<'_>, host: &HostId) {
        let recipient = self.table.recipient_of(host);
        let all = recipient.into_iter().flat_map(|it| &it.deliveries);
        let all: Vec<u32> = all.map(|pair| pair.1).collect();
        for slot in all {
            let delivery = self.table.delivery(slot);
            if delivery.is_some_and(|it| it.state == TaskState::Queued) {
                self.turn_delivery(cx, slot, TaskState::Expired, Cause::Ourselves);
            }
        }
    }

    fn expire_delivery(&mut self, cx: &mut Ctx<'_>, slot: u32) {
        let delivery = self.table.delivery(slot);
        let task = delivery.and_then(|delivery| self.table.task(delivery.task));
        if task.is_none_or(|task| task.keeper.is_some()) {
            return;
        }
        let state = delivery.map(|delivery| delivery.state);
        if let Some(TaskState::Held | TaskState::Queued | TaskState::Lost | TaskState::Unanswered) =
            state
        {
            self.turn_delivery(cx, slot, TaskState::Expired, Cause::Ourselves);
        }
    }
}
