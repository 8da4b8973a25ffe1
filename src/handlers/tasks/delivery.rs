//! State of one host in one task. All changes of states and all tries are made here.
//!
//! ```text
//!   sent ── interval over ──▶ sent again … tries over ──▶ unanswered
//!    │ ▲ busy with another task, or at rest: its tries wait
//!    ▼ answer, report
//!   answered, working ── no message for working_timeout, another boot ──▶ lost
//! ```
//!
//! A delivery has one deadline in the wheel. Postponing it only records the new time; the old entry
//! is compared with it when it comes due.

use crate::handlers::context::Ctx;
use crate::handlers::stats::ANSWER_BOUNDS;
use crate::handlers::tasks::Tasks;
use crate::ids::{HostId, TaskKey};
use crate::store::op::TaskState;
use crate::time::{Instant, Span};

use crate::handlers::tasks::sends::Outgoing;
use crate::handlers::tasks::table::{NEVER, Pause, Task, is_at_work};

/// Cause of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A report, which takes the state to the store itself.
    Report,
    /// The server: the state must be written.
    Ourselves,
}

impl Tasks {
    /// Makes a delivery `next`, if that transition is allowed. Returns whether it was.
    pub(crate) fn turn_delivery(
        &mut self,
        cx: &mut Ctx<'_>,
        slot: u32,
        next: TaskState,
        cause: Cause,
    ) -> bool {
        let Some(before) = self.table.become_(slot, next, cx.at.now) else {
            return false;
        };
        if cause == Cause::Ourselves {
            self.table.write(slot, cx.stats.store_sessions);
        } else if matches!(before, TaskState::Unanswered | TaskState::Lost) {
            cx.stats.late_answers += 1;
        }
        let Some(delivery) = self.table.delivery_mut(slot) else {
            return true;
        };
        if before == TaskState::Sent
            && cause == Cause::Report
            && let Some(passed) = delivery.since_first_sent(cx.at.now)
        {
            let times = &mut cx.stats.answer_times;
            times.record(&ANSWER_BOUNDS, passed.as_nanos());
        }
        if delivery.pause == Pause::Busy || cause == Cause::Report {
            delivery.pause = Pause::Nothing;
        }
        delivery.to_send = false;
        delivery.cut = false;
        delivery.due = NEVER;
        let (recipient, task) = (delivery.recipient, delivery.task);
        self.restores.note_change(task);
        self.echo(cx, slot);
        self.touch_rollout(task);
        if self.table.task(task).is_some_and(Task::is_over) {
            // A report of the only host has its task expire itself.
            let reported = cause == Cause::Report;
            self.table.end(task, reported, cx.stats.store_sessions);
        }
        if is_at_work(next) {
            self.arm_delivery(slot, cx.at.now + cx.rules.working_timeout);
        } else if is_at_work(before) {
            self.release_held(cx, recipient);
        }
        true
    }

    /// Records a message about this delivery, which extends the time of busy work.
    pub(crate) fn touch_delivery(&mut self, cx: &Ctx<'_>, slot: u32) {
        let working = |state| is_at_work(state);
        if let Some(delivery) = self.table.delivery_mut(slot)
            && working(delivery.state)
        {
            delivery.cut = false;
            self.arm_delivery(slot, cx.at.now + cx.rules.working_timeout);
        }
    }

    /// Sets the next deadline of a delivery.
    pub(crate) fn arm_delivery(&mut self, slot: u32, due: Instant) {
        let Some(delivery) = self.table.delivery_mut(slot) else {
            return;
        };
        delivery.due = due;
        if due < delivery.armed {
            delivery.armed = due;
            self.tries.insert(due, slot);
        }
    }

    /// Handles the deliveries whose deadlines have come.
    pub(crate) fn look_at_deliveries(&mut self, cx: &mut Ctx<'_>, judge: Instant) {
        let mut due = std::mem::take(&mut self.due);
        self.tries.expire(judge, &mut due);
        for slot in due.drain(..) {
            self.look_at_delivery(cx, slot, judge);
        }
        self.due = due;
    }

    pub(crate) fn look_at_delivery(&mut self, cx: &mut Ctx<'_>, slot: u32, judge: Instant) {
        let Some(delivery) = self.table.delivery_mut(slot) else {
            return;
        };
        if delivery.armed > judge {
            // The entry belongs to an earlier delivery in the slot, or to an earlier deadline.
            return;
        }
        delivery.armed = NEVER;
        let (due, state) = (delivery.due, delivery.state);
        if due > judge {
            if due < NEVER {
                self.arm_delivery(slot, due);
            }
            return;
        }
        delivery.due = NEVER;
        match state {
            TaskState::Sent => self.interval_over(cx, slot),
            TaskState::Answered | TaskState::Working => {
                self.turn_delivery(cx, slot, TaskState::Lost, Cause::Ourselves);
            }
            _ => {}
        }
    }

    /// Handles a try without an answer within its interval.
    pub(crate) fn interval_over(&mut self, cx: &mut Ctx<'_>, slot: u32) {
        let Some(delivery) = self.table.delivery(slot) else {
            return;
        };
        let (tries, pause, recipient) = (delivery.tries, delivery.pause, delivery.recipient);
        if self.waits_for_host(cx, slot, recipient) {
            return;
        }
        if pause == Pause::Busy {
            self.release_delivery(cx, slot, cx.at.now);
        } else if tries >= cx.rules.tries {
            self.turn_delivery(cx, slot, TaskState::Unanswered, Cause::Ourselves);
        } else {
            self.queue_delivery(slot);
        }
    }

    /// Returns whether the next try waits because its host is busy or rests; if so it is postponed.
    pub(crate) fn waits_for_host(&mut self, cx: &Ctx<'_>, slot: u32, recipient: u32) -> bool {
        if self.is_busy(cx, recipient) {
            self.hold_delivery(cx, slot);
        } else if let Some(rest) = self.rest_of(cx, recipient) {
            self.release_delivery(cx, slot, rest);
        } else {
            return false;
        }
        true
    }

    /// Pauses the tries of a delivery while the host is busy. The pause is checked from time to
    /// time: the busy work may end without a message.
    pub(crate) fn hold_delivery(&mut self, cx: &Ctx<'_>, slot: u32) {
        let Some(delivery) = self.table.delivery_mut(slot) else {
            return;
        };
        delivery.pause = Pause::Busy;
        let tries = delivery.tries;
        let next = cx.at.now + self.interval(cx, tries);
        self.arm_delivery(slot, next);
    }

    /// Postpones the next try of a delivery: its host reads datagrams again at `from`, and may find
    /// an older copy only then.
    pub(crate) fn release_delivery(&mut self, cx: &Ctx<'_>, slot: u32, from: Instant) {
        let Some(delivery) = self.table.delivery_mut(slot) else {
            return;
        };
        delivery.pause = Pause::Nothing;
        let tries = delivery.tries;
        let wait = match tries >= cx.rules.tries {
            true => self.interval(cx, tries),
            false => cx.rules.rto + self.rng.part_of(cx.rules.rto.part(4)),
        };
        self.arm_delivery(slot, from + wait);
    }

    /// End of a recipient's rest after a task, if it rests.
    pub(crate) fn rest_of(&self, cx: &Ctx<'_>, recipient: u32) -> Option<Instant> {
        let recipient = self.table.recipient(recipient)?;
        self.work.rests_until(&recipient.id, cx.at.now)
    }

    /// Returns whether a recipient is busy with any task.
    pub(crate) fn is_busy(&self, cx: &Ctx<'_>, recipient: u32) -> bool {
        let Some(recipient) = self.table.recipient(recipient) else {
            return false;
        };
        let limit = cx.rules.working_timeout;
        let until = self.work.until(&recipient.id, limit);
        recipient.working > 0 || until.is_some_and(|until| until > cx.at.now)
    }

    /// Resumes paused tries of a recipient that is no longer busy, after its rest.
    pub(crate) fn release_held(&mut self, cx: &Ctx<'_>, recipient: u32) {
        if self.is_busy(cx, recipient) {
            return;
        }
        let from = self.rest_of(cx, recipient).unwrap_or(cx.at.now);
        let Some(recipient) = self.table.recipient(recipient) else {
            return;
        };
        let all: Vec<u32> = recipient.deliveries.iter().map(|pair| pair.1).collect();
        for slot in all {
            if self
                .table
                .delivery(slot)
                .is_some_and(|d| d.pause == Pause::Busy)
            {
                self.release_delivery(cx, slot, from);
            }
        }
    }

    /// Handles the end of a host's work on a task that is not in the tables.
    pub(crate) fn release_held_of(&mut self, cx: &Ctx<'_>, host: &HostId) {
        let recipient = self.table.recipient_of(host);
        let Some((_, delivery)) = recipient.and_then(|r| r.deliveries.first()).copied() else {
            return;
        };
        if let Some(recipient) = self.table.delivery(delivery).map(|d| d.recipient) {
            self.release_held(cx, recipient);
        }
    }

    /// Wait for the answer to try number `tries`: each twice as long as the one before, plus or
    /// minus a quarter.
    pub(crate) fn interval(&mut self, cx: &Ctx<'_>, tries: u32) -> Span {
        let times = 1_u64.checked_shl(tries.saturating_sub(1));
        let span = cx.rules.rto.times(times.unwrap_or(u64::MAX));
        self.rng.about(span)
    }

    /// Queues a delivery to be sent.
    pub(crate) fn queue_delivery(&mut self, slot: u32) {
        let Some(delivery) = self.table.delivery_mut(slot) else {
            return;
        };
        delivery.pause = Pause::Nothing;
        if !std::mem::replace(&mut delivery.to_send, true) {
            self.sends.push_back(Outgoing::Delivery(slot));
        }
    }

    /// Sends a host its unanswered tasks again: it was held over a restart and has returned, and
    /// only now can datagrams be signed.
    pub(crate) fn send_again_to(&mut self, host: &HostId) {
        let recipient = self.table.recipient_of(host);
        let all = recipient.into_iter().flat_map(|r| &r.deliveries);
        let all: Vec<u32> = all.map(|pair| pair.1).collect();
        for slot in all {
            let delivery = self.table.delivery(slot);
            if delivery.is_some_and(|d| d.state == TaskState::Sent) {
                self.queue_delivery(slot);
            }
        }
    }

    /// Handles an answer "damaged": the host is ready to receive. Its newest unanswered key is sent
    /// again at once, even if the host is busy.
    pub(crate) fn send_newest_again(&mut self, cx: &Ctx<'_>, host: &HostId) {
        let Some(slot) = self.newest_in(host, TaskState::Sent) else {
            return;
        };
        let tries = self.table.delivery(slot).map_or(0, |d| d.tries);
        if tries > 0 && tries < cx.rules.tries {
            if let Some(delivery) = self.table.delivery_mut(slot) {
                delivery.at_once = true;
            }
            self.queue_delivery(slot);
        }
    }

    /// The delivery of the newest task in which the host has this state.
    pub(crate) fn newest_in(&self, host: &HostId, state: TaskState) -> Option<u32> {
        let deliveries = &self.table.recipient_of(host)?.deliveries;
        let waiting = deliveries.iter().filter(|pair| {
            let delivery = self.table.delivery(pair.1);
            delivery.is_some_and(|delivery| delivery.state == state)
        });
        let number = |pair: &&(u32, u32)| self.table.task(pair.0).map(|task| task.number);
        waiting.max_by_key(number).map(|pair| pair.1)
    }

    /// Applies a report that a host is `next` in a task. Returns the new state, if the state
    /// changes.
    pub(crate) fn reported(
        &mut self,
        cx: &mut Ctx<'_>,
        host: &HostId,
        is_plain: bool,
        key: &TaskKey,
        next: TaskState,
    ) -> Option<TaskState> {
        let goes_on = is_at_work(next);
        let Some(delivery) = self.table.delivery_of(key, host) else {
            self.note_early(cx, host, key, next);
            self.work_elsewhere(cx, host, key, goes_on);
            return None;
        };
        if self.turn_delivery(cx, delivery, next, Cause::Report) {
            if !goes_on {
                self.work_elsewhere(cx, host, key, false);
            }
            return Some(next);
        }
        let state = self.table.delivery(delivery).map(|delivery| delivery.state);
        match state {
            Some(TaskState::Answered | TaskState::Working) => self.touch_delivery(cx, delivery),
            // A plain host runs the commands of a finished task once more.
            Some(TaskState::Done | TaskState::Failed) if !is_plain => {}
            None => {}
            // It stays what it is in the task, and is at work all the same.
            Some(_) => self.work_elsewhere(cx, host, key, goes_on),
        }
        None
    }

    /// Sends a host that came online its queued tasks.
    pub(crate) fn send_queued(&mut self, cx: &mut Ctx<'_>, host: &HostId) {
        let Some(recipient) = self.table.recipient_of(host) else {
            return;
        };
        let all: Vec<u32> = recipient.deliveries.iter().map(|pair| pair.1).collect();
        for slot in all {
            let delivery = self.table.delivery(slot);
            if delivery.is_some_and(|d| d.state == TaskState::Queued)
                && self.turn_delivery(cx, slot, TaskState::Sent, Cause::Ourselves)
            {
                self.queue_delivery(slot);
            }
        }
    }

    /// Time until which a host counts as busy with tasks that name it.
    pub(crate) fn delivering_until(&self, host: &HostId) -> Option<Instant> {
        let recipient = self.table.recipient_of(host)?;
        if recipient.working == 0 {
            return None;
        }
        let of = |pair: &(u32, u32)| self.table.delivery(pair.1);
        let working = recipient.deliveries.iter().filter_map(of);
        working
            .filter(|delivery| is_at_work(delivery.state))
            .map(|delivery| delivery.due)
            .max()
    }

    /// Handles a message that a host works on `key`, or has ended, although no delivery says so.
    pub(crate) fn work_elsewhere(
        &mut self,
        cx: &Ctx<'_>,
        host: &HostId,
        key: &TaskKey,
        goes_on: bool,
    ) {
        if goes_on {
            // A task that does not name the host is no reason for it to be silent.
            let named = self.table.delivery_of(key, host).is_some();
            if named || self.table.find(key).is_none() {
                self.work.heard(host, key, cx.at.now);
            }
            return;
        }
        self.work.ended(host, key);
        self.release_held_of(cx, host);
    }
}
