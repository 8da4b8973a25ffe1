//! The tables of dispatch: tasks, and their deliveries, one for each host in each task.
//!
//! ```text
//!   key ──▶ Task ──▶ its deliveries, by name of the host
//!                          ▲
//!   name of a host ──▶ Recipient ──▶ its deliveries, by task
//! ```
//!
//! A task may name hosts that are not known, so a recipient is found by name. Transitions are
//! decided elsewhere; this module counts states and allows only transitions of
//! [`TaskState::may_become`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::Serialize;
use slab::Slab;

use crate::ids::{HostId, TaskKey};
use crate::limits::{
    BOOKS_BYTES_MAX, DELIVERIES_MAX, HOSTS_PER_STEP_MAX, QUEUED_QUARTERS_MAX, TASKS_MAX,
};
use crate::store::op::{Lifetime, TaskState, TaskStates};
use crate::time::{Instant, Span, UnixMs};

use crate::handlers::tasks::rollout::Rollout;
use crate::handlers::tasks::shards::Shards;

/// A moment later than every other.
pub(crate) const NEVER: Instant = Instant::from_nanos(u64::MAX);
/// Number of low bits in a task's number, below the milliseconds of its creation.
const NUMBER_BITS: u32 = 10;
#[derive(Debug)]
pub(crate) struct Task {
    pub(super) key: TaskKey,
    pub(super) created: UnixMs,
    /// The random number of its request.
    pub(super) request: u64,
    /// Hosts that are offline receive it when they come online.
    pub(super) queue: bool,
    /// Greater than that of every older task.
    pub(super) number: u64,
    /// Command and priority, in the order in which they are run.
    pub(super) commands: Vec<(String, f64)>,
    /// Its deliveries, by name of the host.
    pub(super) deliveries: Vec<u32>,
    /// Hosts that are not entered yet.
    left: usize,
    /// Time at which its last host ended.
    pub(super) ended: Instant,
    /// Number of the store connection during which a state last changed without a report.
    pub(super) changed: u64,
    /// Deliveries whose state is to be written.
    dirty: Vec<u32>,
    /// Index of the first delivery of a walk that writes all of them.
    rewritten: Option<usize>,
    /// It is removed, and its deliveries are dropped in steps. `Some(true)`: their states are to be
    /// written.
    going: Option<bool>,
    /// Its time is over: a host without a book is not waited for any longer.
    pub(super) aged: bool,
    /// Its keys have a time to live, or will get one.
    pub(super) expires: bool,
    /// Another node that keeps the task. Here are only the hosts that this node has held.
    pub(super) keeper: Option<Box<str>>,
    /// Its keeper epoch.
    pub(super) epoch: u64,
    /// Its target and rollout.
    pub(super) rollout: Option<Box<Rollout>>,
    /// Time of the next check for its end.
    look: Instant,
    counts: [u32; TaskState::ALL.len()],
    bytes: usize,
}

impl Task {
    /// Number of hosts in each state, in the order of [`TaskState::ALL`]; only states with a host.
    pub(super) fn counts(&self) -> impl Iterator<Item = (TaskState, u64)> {
        let counts = TaskState::ALL.into_iter().zip(self.counts);
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(state, count)| (state, u64::from(count)))
    }

    /// Its share of the room for tasks with queued hosts.
    fn queued(&self) -> Room {
        match self.counts[TaskState::Queued as usize] {
            0 if !(self.queue && self.is_partial()) => Room::default(),
            _ => Room {
                tasks: 1,
                deliveries: self.deliveries.len() + self.left,
                bytes: self.bytes,
            },
        }
    }

    /// Returns whether no host can change any more. From then on its keys have a time to live. Only
    /// the node that keeps the task knows.
    pub(super) fn is_over(&self) -> bool {
        let mut counts = self.counts();
        self.is_whole()
            && counts.all(|(state, _)| state.is_settled() || (self.aged && may_end_aged(state)))
    }

    /// Returns whether a host is not in a terminal state, or is not entered yet.
    pub(super) fn is_open(&self) -> bool {
        self.is_partial() || self.counts().any(|(state, _)| !state.has_ended())
    }

    /// Returns whether states of it are to be written.
    fn is_dirty(&self) -> bool {
        self.rewritten.is_some() || !self.dirty.is_empty()
    }

    /// Takes at most `max` deliveries whose states are to be written.
    fn take_dirty(&mut self, max: usize) -> Vec<u32> {
        if let Some(place) = self.rewritten {
            let end = self.deliveries.len().min(place + max);
            self.rewritten = (end < self.deliveries.len()).then_some(end);
            return self.deliveries[place..end].to_vec();
        }
        let rest = self.dirty.len().saturating_sub(max);
        self.dirty.split_off(rest)
    }

    /// Returns whether all its hosts are here.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_partial() && self.keeper.is_none()
    }

    /// Its target and rollout as they are stored.
    pub(super) fn rollout_text(&self) -> Option<String> {
        let stored = StoredRollout {
            rollout: self.rollout.as_deref()?,
            epoch: self.epoch,
        };
        serde_json::to_string(&stored).ok()
    }

    /// Returns whether hosts of it are still to be entered.
    pub(super) fn is_partial(&self) -> bool {
        self.left > 0
    }
}

/// A rollout with the keeper epoch of its writer.
#[derive(Serialize)]
struct StoredRollout<'a> {
    #[serde(flatten)]
    rollout: &'a Rollout,
    epoch: u64,
}

/// One host in one task.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(super) task: u32,
    pub(super) recipient: u32,
    pub(super) state: TaskState,
    /// Number of sends, including skipped tries.
    pub(super) tries: u32,
    /// Time of the first of them since the start, in milliseconds of the clock; 0 before it.
    pub(super) first_sent: u32,
    /// A result of it has an exit other than 0.
    pub(super) failed: bool,
    /// Number of results of commands that the book does not have.
    pub(super) unlisted: u8,
    /// It is in the send queue.
    pub(super) to_send: bool,
    /// Reason for which its tries are paused.
    pub(super) pause: Pause,
    /// Its next copy is sent even to a busy host.
    pub(super) at_once: bool,
    /// The host has reconnected since its last message about it.
    pub(super) cut: bool,
    /// It is in its task's list of states to be written.
    pub(super) dirty: bool,
    /// Time of the next check.
    pub(super) due: Instant,
    /// The deadline in the wheel: never later than `due`.
    pub(super) armed: Instant,
}

/// Reason for which the tries of a delivery are paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// They are not.
    Nothing,
    /// The host has to finish other work first.
    Busy,
    /// Another node holds the host, or is to be found: that node sends the task to it and writes
    /// its state.
    Away,
}

impl Delivery {
    /// Returns whether another node holds the host, or may hold it.
    pub(super) fn is_away(&self) -> bool {
        self.pause == Pause::Away
    }

    /// Notes a send at `at`.
    pub(super) fn note_sent(&mut self, at: Instant) {
        if self.first_sent == 0 {
            self.first_sent = clock_ms(at).max(1);
        }
    }

    /// Returns the time from its first send until `now`; `None` if it was not sent by this process.
    pub(super) fn since_first_sent(&self, now: Instant) -> Option<Span> {
        let passed = clock_ms(now).wrapping_sub(self.first_sent);
        (self.first_sent != 0).then_some(Span::from_millis(u64::from(passed)))
    }
}

/// Milliseconds of the clock, modulo 50 days.
fn clock_ms(at: Instant) -> u32 {
    (at.as_nanos() / 1_000_000) as u32
}

const _: () = assert!(size_of::<Delivery>() <= 40, "there may be a million");

/// A host that is named in tasks.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(super) id: HostId,
    /// Slots of task and delivery, by slot of the task.
    pub(super) deliveries: Vec<(u32, u32)>,
    /// Number of deliveries with which it is busy.
    pub(super) working: u32,
}

/// Data of a new task.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(super) key: TaskKey,
    pub(super) created: UnixMs,
    /// The random number of the request that stored it.
    pub(super) request: u64,
    /// Hosts that are offline receive it when they come online.
    pub(super) queue: bool,
    /// Command and priority, in any order.
    pub(super) commands: Vec<(String, f64)>,
    /// Its target and rollout.
    pub(super) rollout: Option<Box<Rollout>>,
    /// Its keeper epoch.
    pub(super) epoch: u64,
}

/// Room in the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) tasks: usize,
    /// Hosts in them.
    pub(crate) deliveries: usize,
    /// Text of their books, in bytes.
    pub(crate) bytes: usize,
}

impl Room {
    /// Room of a task with this book and so many hosts.
    pub(super) fn of(commands: &[(String, f64)], hosts: usize) -> Self {
        Self {
            tasks: 1,
            deliveries: hosts,
            bytes: commands.iter().map(|(text, _)| text.len() + 32).sum(),
        }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            tasks: self.tasks + other.tasks,
            deliveries: self.deliveries + other.deliveries,
            bytes: self.bytes + other.bytes,
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            tasks: self.tasks - other.tasks,
            deliveries: self.deliveries - other.deliveries,
            bytes: self.bytes - other.bytes,
        }
    }

    fn fits(self) -> bool {
        self.fits_quarters(4)
    }

    fn fits_quarters(self, quarters: usize) -> bool {
        self.tasks <= TASKS_MAX / 4 * quarters
            && self.deliveries <= DELIVERIES_MAX / 4 * quarters
            && self.bytes <= BOOKS_BYTES_MAX / 4 * quarters
    }
}
#[derive(Debug, Default)]
pub(crate) struct TaskTable {
    tasks: Slab<Task>,
    keys: HashMap<TaskKey, u32>,
    order: BTreeMap<u64, u32>,
    looks: BTreeSet<(Instant, u32)>,
    deliveries: Slab<Delivery>,
    recipients: Slab<Recipient>,
    names: Shards<HostId, u32>,
    /// Deliveries that are not entered yet, of all tasks.
    left: usize,
    bytes: usize,
    /// Room of the tasks with queued hosts.
    queued: Room,
    tasks_open: usize,
    deliveries_open: usize,
    recipients_working: usize,
    /// Tasks with states to be written, each once.
    dirty: VecDeque<u32>,
    /// Last states of evicted tasks, and of hosts of other nodes whose wave has begun. Bounded by the
    /// size of the tables.
    gone: VecDeque<TaskStates>,
    /// Removed tasks whose deliveries are not dropped yet.
    going: VecDeque<u32>,
    going_deliveries: usize,
}

impl TaskTable {
    pub(crate) fn taken(&self) -> Room {
        Room {
            tasks: self.tasks.len() - self.going.len(),
            deliveries: self.deliveries.len() - self.going_deliveries + self.left,
            bytes: self.bytes,
        }
    }

    /// Returns whether there is room for `more` with queued hosts.
    pub(super) fn has_room_to_queue(&self, more: Room) -> bool {
        self.queued.and(more).fits_quarters(QUEUED_QUARTERS_MAX)
    }

    /// Number of tasks that are not in a terminal state.
    pub(crate) fn tasks_open(&self) -> usize {
        self.tasks_open
    }

    /// Number of deliveries that are not in a terminal state.
    pub(crate) fn deliveries_open(&self) -> usize {
        self.deliveries_open
    }

    /// Number of hosts that are busy with a task in the tables.
    pub(crate) fn recipients_working(&self) -> usize {
        self.recipients_working
    }

    /// The task under this key.
    pub(crate) fn find(&self, key: &TaskKey) -> Option<u32> {
        let slot = self.keys.get(key).copied();
        slot.filter(|slot| self.task(*slot).is_some())
    }
    pub(super) fn task(&self, slot: u32) -> Option<&Task> {
        let task = self.tasks.get(slot as usize);
        task.filter(|task| task.going.is_none())
    }
    pub(super) fn task_mut(&mut self, slot: u32) -> Option<&mut Task> {
        let task = self.tasks.get_mut(slot as usize);
        task.filter(|task| task.going.is_none())
    }
    pub(super) fn delivery(&self, slot: u32) -> Option<&Delivery> {
        self.deliveries.get(slot as usize)
    }
    pub(super) fn delivery_mut(&mut self, slot: u32) -> Option<&mut Delivery> {
        self.deliveries.get_mut(slot as usize)
    }
    pub(super) fn recipient(&self, slot: u32) -> Option<&Recipient> {
        self.recipients.get(slot as usize)
    }

    /// The task with this number.
    pub(super) fn slot_of(&self, number: u64) -> Option<u32> {
        self.order.get(&number).copied()
    }

    /// The rollout of a task, if it has one.
    pub(super) fn rollout_mut(&mut self, slot: u32) -> Option<&mut Rollout> {
        self.task_mut(slot)?.rollout.as_deref_mut()
    }

    /// The recipient of this name.
    pub(super) fn recipient_of(&self, host: &HostId) -> Option<&Recipient> {
        self.recipient(*self.names.get(host)?)
    }

    /// The delivery of a task to a host, if the task names it.
    pub(crate) fn delivery_of(&self, key: &TaskKey, host: &HostId) -> Option<u32> {
        let task = self.find(key)?;
        let deliveries = &self.recipient_of(host)?.deliveries;
        let place = deliveries.binary_search_by_key(&task, |pair| pair.0).ok()?;
        Some(deliveries[place].1)
    }

    /// The host and the key of a delivery.
    pub(super) fn names_of(&self, delivery: u32) -> Option<(&HostId, &TaskKey)> {
        let delivery = self.delivery(delivery)?;
        let host = &self.recipient(delivery.recipient)?.id;
        Some((host, &self.task(delivery.task)?.key))
    }

    /// Slots of all tasks whose number is below `below` (all if that is 0), the newest first.
    pub(super) fn newest_first(&self, below: u64) -> impl Iterator<Item = u32> {
        let end = if below == 0 { u64::MAX } else { below };
        let slots = self.order.range(..end).rev().map(|(_, slot)| *slot);
        slots.filter(|slot| self.task(*slot).is_some())
    }

    /// The first task whose number is at least `number`.
    pub(super) fn first_at_or_above(&self, number: u64) -> Option<(u64, u32)> {
        let mut tasks = self.order.range(number..);
        let (number, slot) = tasks.find(|(_, slot)| self.task(**slot).is_some())?;
        Some((*number, *slot))
    }

    /// Makes room for `more` by evicting the oldest finished tasks. They are evicted only if that
    /// makes enough room; returns their number.
    pub(crate) fn make_room(&mut self, more: Room) -> Option<u64> {
        let mut left = self.taken().and(more);
        let mut going = Vec::new();
        for slot in self.order.values() {
            if left.fits() {
                break;
            }
            let task = &self.tasks[*slot as usize];
            if task.going.is_none() && !task.is_open() {
                left.tasks -= 1;
                left.deliveries -= task.deliveries.len();
                left.bytes -= task.bytes;
                going.push(*slot);
            }
        }
        if !left.fits() {
            return None;
        }
        for slot in &going {
            self.let_go(*slot);
        }
        self.remove_some(HOSTS_PER_STEP_MAX);
        Some(going.len() as u64)
    }

    /// Enters a new task without its hosts: `count` of them are to be [entered](Self::enter) by
    /// name. It stays open until then. The caller has made room for it.
    pub(super) fn begin(&mut self, draft: Draft, count: usize, now: Instant) -> u32 {
        let Draft {
            key,
            created,
            request,
            queue,
            mut commands,
            rollout,
            epoch,
        } = draft;
        debug_assert!(self.find(&key).is_none(), "{key} is there already");
        sort_book(&mut commands);
        let mut number = (created.0 << NUMBER_BITS) | 1;
        while self.order.contains_key(&number) {
            number += 1;
        }
        let bytes = Room::of(&commands, 0).bytes;
        let slot = self.tasks.insert(Task {
            key: key.clone(),
            created,
            request,
            queue,
            number,
            commands,
            deliveries: Vec::with_capacity(count),
            left: count,
            look: NEVER,
            ended: now,
            changed: 0,
            dirty: Vec::new(),
            rewritten: None,
            going: None,
            aged: false,
            expires: false,
            keeper: None,
            epoch,
            rollout,
            counts: [0; TaskState::ALL.len()],
            bytes,
        }) as u32;
        self.bytes += bytes;
        self.left += count;
        self.keys.insert(key, slot);
        self.order.insert(number, slot);
        let task = &self.tasks[slot as usize];
        self.queued = self.queued.and(task.queued());
        self.tasks_open += usize::from(task.is_open());
        slot
    }

    /// Enters the next host of a task that has [begun](Self::begin), and returns its delivery.
    pub(super) fn enter(&mut self, task: u32, host: HostId, state: TaskState, failed: bool) -> u32 {
        let before = self.tasks[task as usize].queued();
        let slot = self.insert_delivery(task, host, state, failed);
        let task = &mut self.tasks[task as usize];
        task.left -= 1;
        self.left -= 1;
        self.queued = self.queued.without(before).and(task.queued());
        if !task.is_open() {
            self.tasks_open -= 1;
        }
        slot
    }

    /// Adds a host to a task that has all its hosts, or a part of them, and returns its delivery.
    pub(super) fn add(&mut self, task: u32, host: HostId, state: TaskState, failed: bool) -> u32 {
        let place = task as usize;
        let (was_open, before) = (self.tasks[place].is_open(), self.tasks[place].queued());
        let slot = self.insert_delivery(task, host, state, failed);
        let after = self.tasks[place].queued();
        self.queued = self.queued.without(before).and(after);
        match (was_open, self.tasks[place].is_open()) {
            (true, false) => self.tasks_open -= 1,
            (false, true) => self.tasks_open += 1,
            _ => {}
        }
        slot
    }

    /// Makes a task with some hosts one that this node keeps. It counts as incomplete until
    /// [`complete`](Self::complete).
    pub(super) fn promote(&mut self, slot: u32) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let before = task.queued();
        self.tasks_open += usize::from(!task.is_open());
        task.keeper = None;
        task.left += 1;
        self.left += 1;
        self.queued = self.queued.without(before).and(task.queued());
    }

    /// All hosts of a promoted task are there: `order` has their deliveries by name.
    pub(super) fn complete(&mut self, slot: u32, order: Vec<u32>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        debug_assert_eq!(order.len(), task.deliveries.len(), "each host once");
        if order.len() == task.deliveries.len() {
            task.deliveries = order;
        }
        let before = task.queued();
        task.left -= 1;
        self.left -= 1;
        self.queued = self.queued.without(before).and(task.queued());
        self.tasks_open -= usize::from(!task.is_open());
    }

    fn insert_delivery(&mut self, task: u32, host: HostId, state: TaskState, failed: bool) -> u32 {
        let recipients = &mut self.recipients;
        let recipient = *self.names.get_or_insert_with(host.clone(), || {
            let deliveries = Vec::new();
            recipients.insert(Recipient {
                id: host,
                deliveries,
                working: 0,
            }) as u32
        });
        let slot = self.deliveries.insert(Delivery {
            task,
            recipient,
            state,
            tries: 0,
            first_sent: 0,
            failed,
            unlisted: 0,
            to_send: false,
            pause: Pause::Nothing,
            at_once: false,
            cut: false,
            dirty: false,
            due: NEVER,
            armed: NEVER,
        }) as u32;
        let deliveries = &mut self.recipients[recipient as usize].deliveries;
        let place = deliveries.partition_point(|pair| pair.0 < task);
        deliveries.insert(place, (task, slot));
        self.tasks[task as usize].deliveries.push(slot);
        self.count(slot, state, true);
        slot
    }

    /// Evicts a task. Its keys in the store expire, even if a host of it could still change.
    fn let_go(&mut self, slot: u32) {
        let task = self.task(slot);
        let is_unwritten = task.is_some_and(|task| !task.expires && task.keeper.is_none());
        self.take_out(slot, is_unwritten);
    }

    /// Removes a task and its deliveries: the first of many at once, the rest by
    /// [`remove_some`](Self::remove_some).
    pub(crate) fn remove(&mut self, slot: u32) {
        self.take_out(slot, false);
        self.remove_some(HOSTS_PER_STEP_MAX);
    }

    /// Marks a task as removed and frees its room. Many of them may make room for one, so the rest
    /// is left to [`remove_some`](Self::remove_some).
    fn take_out(&mut self, slot: u32, is_unwritten: bool) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        if task.going.is_some() {
            return;
        }
        if task.is_open() {
            self.tasks_open -= 1;
        }
        self.queued = self.queued.without(task.queued());
        task.going = Some(is_unwritten);
        self.left -= std::mem::take(&mut task.left);
        self.bytes -= task.bytes;
        self.going_deliveries += task.deliveries.len();
        self.going.push_back(slot);
    }

    /// Takes a removed task out of all indexes. Another may have its key meanwhile.
    fn unlink(&mut self, slot: u32) {
        let task = &self.tasks[slot as usize];
        if self.keys.get(&task.key) == Some(&slot) {
            self.keys.remove(&task.key);
        }
        self.order.remove(&task.number);
        self.looks.remove(&(task.look, slot));
        if task.is_dirty() {
            self.dirty.retain(|dirty| *dirty != slot);
        }
        self.tasks.remove(slot as usize);
    }

    /// Returns whether states are to be written.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.dirty.is_empty() || !self.gone.is_empty()
    }

    /// Queues states that are written before all others: those of hosts of other nodes.
    pub(super) fn write_first(&mut self, states: TaskStates) {
        self.gone.push_back(states);
    }

    /// Takes states that are written before all others.
    pub(super) fn take_gone(&mut self) -> Option<TaskStates> {
        self.gone.pop_front()
    }

    /// Takes states that are to be written: at most `max` of one task.
    pub(super) fn take_unwritten(&mut self, max: usize) -> Option<TaskStates> {
        let slot = self.dirty.front().copied()?;
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            self.dirty.pop_front();
            return None;
        };
        if task.going.is_some() {
            // Its states are written as it goes, if they are to be.
            (task.rewritten, task.dirty) = (None, Vec::new());
            self.dirty.pop_front();
            return None;
        }
        let some = task.take_dirty(max);
        let last = !task.is_dirty();
        if last {
            self.dirty.pop_front();
        }
        for delivery in &some {
            self.deliveries[*delivery as usize].dirty = false;
        }
        self.states_of(slot, &some, last)
    }

    /// States of some hosts of a task; `last` says whether no others are to follow.
    pub(super) fn states_of(
        &self,
        slot: u32,
        deliveries: &[u32],
        last: bool,
    ) -> Option<TaskStates> {
        let task = self.tasks.get(slot as usize)?;
        let over = task.is_over() || task.going.is_some();
        let state = |delivery: &u32| {
            let delivery = self.deliveries.get(*delivery as usize)?;
            if delivery.is_away() && !over {
                return None;
            }
            let host = self.recipients.get(delivery.recipient as usize)?;
            Some((host.id.clone(), delivery.state))
        };
        Some(TaskStates {
            key: task.key.clone(),
            states: deliveries.iter().filter_map(state).collect(),
            over,
            last,
        })
    }

    /// Returns whether deliveries of removed tasks are still to be dropped.
    pub(super) fn has_going(&self) -> bool {
        !self.going.is_empty()
    }

    /// Number of deliveries, those of removed tasks included.
    #[cfg(test)]
    pub(crate) fn held_deliveries(&self) -> usize {
        self.deliveries.len()
    }

    /// Drops at most `max` deliveries of removed tasks, and the tasks that have none left.
    pub(super) fn remove_some(&mut self, max: usize) {
        let mut left = max;
        while left > 0
            && let Some(slot) = self.going.front().copied()
        {
            let task = &mut self.tasks[slot as usize];
            let rest = task.deliveries.len().saturating_sub(left);
            let some = task.deliveries.split_off(rest);
            let is_unwritten = task.going == Some(true) && !some.is_empty();
            if is_unwritten {
                let states = self.states_of(slot, &some, rest == 0);
                self.gone.extend(states);
            }
            self.going_deliveries -= some.len();
            // A task without hosts is work too.
            left -= some.len().max(1);
            for delivery in some {
                self.remove_delivery(slot, delivery);
            }
            if rest == 0 {
                self.going.pop_front();
                self.unlink(slot);
            }
        }
    }

    fn remove_delivery(&mut self, task: u32, delivery: u32) {
        self.count(delivery, self.deliveries[delivery as usize].state, false);
        let gone = self.deliveries.remove(delivery as usize);
        let recipient = &mut self.recipients[gone.recipient as usize];
        let place = recipient
            .deliveries
            .binary_search_by_key(&task, |pair| pair.0);
        if let Ok(place) = place {
            recipient.deliveries.remove(place);
        }
        if recipient.deliveries.is_empty() {
            let recipient = self.recipients.remove(gone.recipient as usize);
            self.names.remove(&recipient.id);
        }
    }

    /// Sets the time of the next check of a task.
    pub(super) fn set_look(&mut self, slot: u32, look: Instant) {
        let Some(task) = self.task_mut(slot) else {
            return;
        };
        let before = std::mem::replace(&mut task.look, look);
        self.looks.remove(&(before, slot));
        self.looks.insert((look, slot));
    }

    /// Time of the next check of a task.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.looks.first().map(|(look, _)| *look)
    }

    /// Takes a task whose check is due, once until it is set again.
    pub(super) fn take_look(&mut self, now: Instant) -> Option<u32> {
        let (look, slot) = self.looks.first().copied()?;
        (look <= now).then(|| {
            self.looks.remove(&(look, slot));
            slot
        })
    }

    /// Makes a delivery `next`, if that is a change and is allowed. Returns the previous state.
    pub(super) fn become_(
        &mut self,
        slot: u32,
        next: TaskState,
        now: Instant,
    ) -> Option<TaskState> {
        let delivery = self.deliveries.get_mut(slot as usize)?;
        let before = delivery.state;
        if before == next || !before.may_become(next) {
            return None;
        }
        delivery.state = next;
        let task = delivery.task;
        let was_open = self.tasks[task as usize].is_open();
        let was_queued = self.tasks[task as usize].queued();
        self.count(slot, before, false);
        self.count(slot, next, true);
        let task = &mut self.tasks[task as usize];
        self.queued = self.queued.without(was_queued).and(task.queued());
        if next.has_ended() {
            task.ended = now;
        }
        match (was_open, task.is_open()) {
            (true, false) => self.tasks_open -= 1,
            (false, true) => self.tasks_open += 1,
            _ => {}
        }
        Some(before)
    }

    /// Returns whether writes on a task expire now.
    pub(super) fn lifetime(&self, key: &TaskKey) -> Lifetime {
        match self.find(key).and_then(|slot| self.task(slot)) {
            None => Lifetime::Foreign,
            Some(task) if task.is_over() => Lifetime::Over,
            Some(_) => Lifetime::Open,
        }
    }

    /// Gives an ended task its time to live: with the last report if it has one host only, else
    /// with the states of all its hosts.
    /// its time to live.
    pub(super) fn end(&mut self, slot: u32, reported: bool, store_session: u64) {
        match self.tasks.get_mut(slot as usize) {
            Some(task) if reported && task.deliveries.len() == 1 => task.expires = true,
            _ => self.write_over(slot, store_session),
        }
    }

    /// Queues a write of the states of all hosts of an ended task, and with them of its time to
    /// live.
    pub(super) fn write_over(&mut self, slot: u32, store_session: u64) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        task.expires = true;
        if task.deliveries.is_empty() {
            return;
        }
        task.changed = store_session;
        if !task.is_dirty() {
            self.dirty.push_back(slot);
        }
        task.dirty.clear();
        task.rewritten = Some(0);
    }

    /// Queues a write of a delivery's state.
    pub(super) fn write(&mut self, slot: u32, store_session: u64) {
        let Some(delivery) = self.deliveries.get_mut(slot as usize) else {
            return;
        };
        let task_slot = delivery.task;
        let task = &mut self.tasks[task_slot as usize];
        task.changed = store_session;
        if !std::mem::replace(&mut delivery.dirty, true) {
            if !task.is_dirty() {
                self.dirty.push_back(task_slot);
            }
            task.dirty.push(slot);
        }
    }

    /// Counts a delivery in or out of `state`.
    fn count(&mut self, slot: u32, state: TaskState, comes: bool) {
        let delivery = &self.deliveries[slot as usize];
        let step = |count: u32| if comes { count + 1 } else { count - 1 };
        let counts = &mut self.tasks[delivery.task as usize].counts;
        counts[state as usize] = step(counts[state as usize]);
        if !state.has_ended() {
            self.deliveries_open = step(self.deliveries_open as u32) as usize;
        }
        if is_at_work(state) {
            let recipient = &mut self.recipients[delivery.recipient as usize];
            let before = recipient.working;
            recipient.working = step(before);
            match (before, recipient.working) {
                (0, 1) => self.recipients_working += 1,
                (1, 0) => self.recipients_working -= 1,
                _ => {}
            }
        }
    }
}

/// Returns whether a host in this state is not waited for once the task's time is over.
const fn may_end_aged(state: TaskState) -> bool {
    matches!(state, TaskState::NoBook | TaskState::Cancelled)
}

/// Returns whether a host in this state is busy with the task.
pub(crate) const fn is_at_work(state: TaskState) -> bool {
    matches!(state, TaskState::Answered | TaskState::Working)
}

/// The order in which a book is run: the highest priority first, equal ones in the reverse order of
/// their bytes, as Redis gives them.
pub(super) fn sort_book(commands: &mut [(String, f64)]) {
    commands.sort_by(|(text, priority), (other_text, other)| {
        let by_priority = other.partial_cmp(priority);
        let by_priority = by_priority.unwrap_or(std::cmp::Ordering::Equal);
        by_priority.then_with(|| other_text.cmp(text))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> HostId {
        HostId::checked(&format!("h{number}")).unwrap()
    }

    fn key(number: usize) -> TaskKey {
        TaskKey::parse(&format!("AC{number}"), "AC").unwrap()
    }

    /// Enters a task with so many hosts, all in one state.
    fn insert(tasks: &mut TaskTable, number: usize, hosts: usize, state: TaskState) -> u32 {
        let draft = Draft {
            epoch: 0,
            request: 0,
            queue: false,
            key: key(number),
            created: UnixMs(5 + number as u64),
            commands: vec![("x".to_owned(), 1.0)],
            rollout: None,
        };
        let slot = tasks.begin(draft, hosts, Instant::ZERO);
        let mut hosts: Vec<_> = (0..hosts).map(host).collect();
        hosts.sort();
        for host in hosts {
            tasks.enter(slot, host, state, false);
        }
        slot
    }

    #[test]
    fn a_delivery_is_found_by_task_and_host_and_only_there() {
        let mut tasks = TaskTable::default();
        for number in 0..20 {
            insert(&mut tasks, number, 3, TaskState::Sent);
        }
        for number in 0..20 {
            let slot = tasks.delivery_of(&key(number), &host(1)).unwrap();
            assert_eq!(tasks.names_of(slot), Some((&host(1), &key(number))));
        }
        assert_eq!(tasks.delivery_of(&key(1), &host(3)), None);
        assert_eq!(tasks.delivery_of(&key(99), &host(1)), None);
        let newest: Vec<u32> = tasks.newest_first(0).collect();
        assert_eq!(newest[0], tasks.find(&key(19)).unwrap());
        assert_eq!((newest.len(), tasks.deliveries_open()), (20, 60));
    }

    #[test]
    fn counts_follow_every_state() {
        let mut tasks = TaskTable::default();
        let slot = insert(&mut tasks, 1, 2, TaskState::Sent);
        let one = tasks.delivery_of(&key(1), &host(0)).unwrap();
        let now = Instant::ZERO;
        assert_eq!(
            tasks.become_(one, TaskState::Working, now),
            Some(TaskState::Sent)
        );
        assert_eq!(tasks.become_(one, TaskState::Sent, now), None);
        assert_eq!(tasks.recipients_working(), 1);
        let counts: Vec<_> = tasks.task(slot).unwrap().counts().collect();
        assert_eq!(counts, [(TaskState::Sent, 1), (TaskState::Working, 1)]);
        tasks.become_(one, TaskState::Done, now);
        let other = tasks.delivery_of(&key(1), &host(1)).unwrap();
        tasks.become_(other, TaskState::Unanswered, now);
        assert_eq!((tasks.tasks_open(), tasks.deliveries_open()), (0, 0));
        tasks.become_(other, TaskState::Answered, now);
        assert_eq!((tasks.tasks_open(), tasks.recipients_working()), (1, 1));
        tasks.remove(slot);
        assert_eq!(tasks.taken(), Room::default());
        assert_eq!((tasks.tasks_open(), tasks.recipients_working()), (0, 0));
        assert!(tasks.recipient_of(&host(0)).is_none());
    }

    #[test]
    fn a_full_table_evicts_only_ended_tasks() {
        let mut tasks = TaskTable::default();
        for number in 0..TASKS_MAX {
            let state = match number {
                0 => TaskState::Sent,
                _ => TaskState::Done,
            };
            insert(&mut tasks, number, 1, state);
        }
        let one = Room::of(&[], 1);
        assert_eq!(tasks.make_room(one), Some(1));
        assert!(tasks.find(&key(0)).is_some() && tasks.find(&key(1)).is_none());
        let too_much = Room {
            deliveries: DELIVERIES_MAX,
            ..one
        };
        assert_eq!(tasks.make_room(too_much), None);
        assert_eq!(tasks.taken().tasks, TASKS_MAX - 1, "and nothing has gone");
    }

    #[test]
    fn a_large_evicted_task_is_dropped_in_steps() {
        let mut tasks = TaskTable::default();
        let many = 3 * HOSTS_PER_STEP_MAX;
        let slot = insert(&mut tasks, 1, many, TaskState::Offline);
        tasks.let_go(slot);
        tasks.remove_some(HOSTS_PER_STEP_MAX);
        assert!(tasks.has_going() && tasks.task(slot).is_none());
        assert_eq!(tasks.taken(), Room::default());
        assert_eq!(tasks.held_deliveries(), many - HOSTS_PER_STEP_MAX);
        // Its key and its hosts may be used again meanwhile.
        let again = insert(&mut tasks, 1, 2, TaskState::Sent);
        while tasks.has_going() {
            let before = tasks.held_deliveries();
            tasks.remove_some(100);
            assert!(before - tasks.held_deliveries() <= 100);
        }
        assert_eq!(tasks.find(&key(1)), Some(again));
        assert!(tasks.delivery_of(&key(1), &host(1)).is_some());
        assert_eq!((tasks.deliveries_open(), tasks.held_deliveries()), (2, 2));
        let states = tasks.gone.iter().map(|piece| piece.states.len());
        assert_eq!(states.sum::<usize>(), many);
        let last: Vec<bool> = tasks.gone.iter().map(|piece| piece.last).collect();
        assert_eq!(last.iter().filter(|last| **last).count(), 1);
        assert_eq!(last.last(), Some(&true));
    }

    #[test]
    fn many_small_tasks_make_room_at_once_and_go_in_steps() {
        let mut tasks = TaskTable::default();
        for number in 0..TASKS_MAX {
            insert(&mut tasks, number, 1, TaskState::Done);
        }
        let all = Room {
            deliveries: DELIVERIES_MAX,
            ..Room::of(&[], 0)
        };
        assert_eq!(tasks.make_room(all), Some(TASKS_MAX as u64));
        assert_eq!(tasks.taken(), Room::default());
        assert_eq!(tasks.keys.len(), TASKS_MAX - HOSTS_PER_STEP_MAX);
        // None of them is found meanwhile, and each key may come again.
        let last = TASKS_MAX - 1;
        assert_eq!(tasks.find(&key(last)), None);
        assert_eq!(tasks.newest_first(0).count(), 0);
        assert_eq!(tasks.first_at_or_above(0), None);
        let again = insert(&mut tasks, last, 1, TaskState::Sent);
        while tasks.has_going() {
            let before = tasks.order.len();
            tasks.remove_some(100);
            assert!(before - tasks.order.len() <= 100);
        }
        assert_eq!(tasks.find(&key(last)), Some(again));
        assert_eq!((tasks.keys.len(), tasks.order.len()), (1, 1));
        assert_eq!((tasks.tasks.len(), tasks.deliveries.len()), (1, 1));
    }

    #[test]
    fn queued_tasks_leave_room_for_others() {
        let mut tasks = TaskTable::default();
        let one = Room::of(&[("x".to_owned(), 1.0)], 1);
        let mut number = 0;
        while tasks.has_room_to_queue(one) {
            insert(&mut tasks, number, 1, TaskState::Queued);
            number += 1;
        }
        assert_eq!(number, TASKS_MAX / 4 * QUEUED_QUARTERS_MAX);
        assert_eq!(tasks.make_room(one), Some(0), "an urgent one");
        // A host that comes online makes room.
        let slot = tasks.delivery_of(&key(0), &host(0)).unwrap();
        tasks.become_(slot, TaskState::Sent, Instant::ZERO);
        assert!(tasks.has_room_to_queue(one));
        for number in 0..number {
            tasks.remove(tasks.find(&key(number)).unwrap());
        }
        assert_eq!(tasks.queued, Room::default());
    }

    #[test]
    fn a_book_is_run_as_redis_gives_it() {
        let pairs = [("b", 1.0), ("a", 1.0), ("c", -0.5), ("d", 7.0), ("ab", 1.0)];
        let mut book: Vec<(String, f64)> = pairs.map(|(text, p)| (text.to_owned(), p)).into();
        sort_book(&mut book);
        let order: Vec<&str> = book.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(order, ["d", "b", "ab", "a", "c"]);
    }
}
