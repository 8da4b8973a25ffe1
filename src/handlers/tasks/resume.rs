//! Tasks that the store knows: entered at a start or a takeover, and resumed.
//!
//! ```text
//!   Outcome::Tasks ─▶ Holding: hosts entered ──────────────────────┐
//!                                 Outcome::Up ─▶ Resuming: tries begin, the end of the task is set
//!   Outcome::InheritedTasks ─▶ Holding ─▶ Resuming
//! ```
//!
//! Both handle a bounded number of hosts a step. Until they have finished, the loop takes no further
//! outcome of the store ([`Tasks::takes_outcomes`]), so each outcome finds the tasks complete that
//! came before it. Messages of hosts are handled meanwhile: a delivery that one of them has changed
//! is not begun again.

use std::vec;

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::dispatch::Begin;
use crate::handlers::tasks::jobs::Job;
use crate::handlers::tasks::table::{Draft, NEVER, Room, is_at_work};
use crate::ids::HostId;
use crate::store::op::{HeldTask, TaskState};
use crate::time::Span;

/// The entry of a stored task's hosts.
#[derive(Debug)]
pub(crate) struct Holding {
    task: u32,
    /// Hosts that are not entered yet, by name.
    hosts: vec::IntoIter<(HostId, TaskState, bool)>,
    expires: bool,
    /// The task belongs to another node, and is resumed at once.
    resumes: bool,
}

/// The resumption of stored tasks.
#[derive(Debug)]
pub(crate) struct Resuming {
    /// Slot and number of each, the next first.
    tasks: vec::IntoIter<(u32, u64)>,
    /// The task in progress, and the index of its next delivery.
    current: Option<(u32, u64, usize)>,
}

impl Tasks {
    /// Returns whether the tasks of all outcomes so far are entered and resumed.
    pub(crate) fn takes_outcomes(&self) -> bool {
        !self.jobs.is_resuming()
    }

    /// Enters some of the tasks of this node, before the store is up for the first time; with
    /// `resumes` those of a node that is gone, which go on here.
    pub(crate) fn hold_tasks(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        held: Vec<HeldTask>,
        resumes: bool,
    ) {
        for found in held {
            let HeldTask {
                key,
                created,
                queue,
                request,
                commands,
                hosts: named,
                expires,
                rollout,
                epoch,
            } = found;
            let rollout = match rollout.map(|text| serde_json::from_str(&text)).transpose() {
                Ok(rollout) => rollout,
                Err(error) => {
                    let text = format!("its stored rollout is not used: {error}");
                    cx.log(log::Level::Error, "rollout", key.to_string(), text);
                    None
                }
            };
            if let Some(slot) = self.table.find(&key) {
                if resumes && let Some(task) = self.table.task_mut(slot) {
                    task.epoch = task.epoch.max(epoch);
                    if task.keeper.is_some() {
                        task.rollout = rollout;
                    }
                    self.promote(cx, hosts, slot, named, expires);
                }
                continue;
            }
            let room = Room::of(&commands, named.len());
            if self.table.make_room(room).is_none() {
                cx.log(
                    log::Level::Error,
                    "dispatch",
                    key.to_string(),
                    "is in the store, and there is no room for it here".to_owned(),
                );
                continue;
            }
            let draft = Draft {
                key,
                created,
                request,
                queue,
                commands,
                rollout,
                epoch,
            };
            let holding = Holding {
                task: self.table.begin(draft, named.len(), cx.at.now),
                hosts: named.into_iter(),
                expires,
                resumes,
            };
            self.begin_job(cx, hosts, Job::Holding(Box::new(holding)));
        }
    }

    /// Enters at most `max` more hosts. Returns whether these were the last.
    pub(super) fn hold_some(&mut self, holding: &mut Holding, max: usize) -> bool {
        for (host, state, failed) in holding.hosts.by_ref().take(max) {
            self.table.enter(holding.task, host, state, failed);
        }
        holding.hosts.as_slice().is_empty()
    }

    /// Handles the entry of the last host of a stored task.
    pub(super) fn held(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, holding: &Holding) {
        let Some(task) = self.table.task_mut(holding.task) else {
            return;
        };
        task.expires = holding.expires;
        let number = task.number;
        if task.is_over() && !holding.expires {
            // A crash came before its time to live; the next store connection brings it.
            let next = cx.stats.store_sessions + 1;
            self.table.write_over(holding.task, next);
        }
        if holding.resumes {
            self.peers.look_soon(cx.at.now);
            self.begin_resuming(cx, hosts, vec![(holding.task, number)]);
        }
    }

    /// Resumes the tasks that the store knows, at its first connection. Tries of `sent` hosts begin
    /// anew, and busy ones have their full time.
    pub(crate) fn resume_tasks(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>) {
        self.turn_early(cx);
        let all = self.table.newest_first(0);
        let all = all.filter_map(|slot| Some((slot, self.table.task(slot)?.number)));
        let all = all.collect();
        self.begin_resuming(cx, hosts, all);
    }

    /// Applies the reports that arrived before the tasks were known.
    fn turn_early(&mut self, cx: &mut Ctx<'_>) {
        for ((host, key), next) in self.early.take() {
            let Some(slot) = self.table.delivery_of(&key, &host) else {
                continue;
            };
            let failed = self.table.delivery(slot).is_some_and(|d| d.failed);
            let next = match next {
                TaskState::Done if failed => TaskState::Failed,
                next => next,
            };
            if !self.turn_delivery(cx, slot, next, Cause::Ourselves) {
                // The store has this state already; the host has connected since.
                self.touch_delivery(cx, slot);
            }
            let state = self.table.delivery(slot).map(|delivery| delivery.state);
            if is_at_work(next) && !state.is_some_and(is_at_work) {
                // It has finished with it and runs it once more.
                continue;
            }
            // What it was taken to be at work on elsewhere is this.
            self.work.ended(&host, &key);
        }
    }

    fn begin_resuming(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, tasks: Vec<(u32, u64)>) {
        if tasks.is_empty() {
            return;
        }
        let resuming = Resuming {
            tasks: tasks.into_iter(),
            current: None,
        };
        self.begin_job(cx, hosts, Job::Resuming(Box::new(resuming)));
    }

    /// Resumes at most `max` more hosts. Returns whether these were the last.
    pub(super) fn resume_some(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        resuming: &mut Resuming,
        max: usize,
    ) -> bool {
        let mut left = max;
        while left > 0 {
            let current = resuming.current.take();
            let next = || {
                resuming
                    .tasks
                    .next()
                    .map(|(slot, number)| (slot, number, 0))
            };
            let Some((slot, number, place)) = current.or_else(next) else {
                return true;
            };
            left -= 1;
            let task = self.table.task(slot).filter(|task| task.number == number);
            let Some(task) = task else {
                // It has made room for another.
                continue;
            };
            let end = task.deliveries.len().min(place + left);
            let (is_last, created) = (end == task.deliveries.len(), task.created);
            let some = task.deliveries[place..end].to_vec();
            left -= some.len();
            for delivery in some {
                if self.is_untouched(delivery) {
                    self.begin_delivery(cx, hosts, delivery, Begin::Again);
                }
            }
            if is_last {
                let age = Span::from_millis(cx.at.wall.0.saturating_sub(created.0));
                let keep = cx.rules.keep.as_nanos();
                let rest = Span::from_nanos(keep.saturating_sub(age.as_nanos()));
                self.table.set_look(slot, cx.at.now + rest);
                self.resume_rollout(slot);
            } else {
                resuming.current = Some((slot, number, end));
            }
        }
        resuming.current.is_none() && resuming.tasks.as_slice().is_empty()
    }

    /// Returns whether a delivery is as the store had it: no message of its host has come since.
    fn is_untouched(&self, slot: u32) -> bool {
        let delivery = self.table.delivery(slot);
        delivery.is_some_and(|delivery| delivery.due == NEVER && !delivery.to_send)
    }
}
