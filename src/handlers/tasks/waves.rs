//! Rollouts of tasks in the tables: waves begin, rollouts pause, and the store follows.
//!
//! ```text
//!   a host ends ─▶ ready ─▶ Rollout::step ─▶ Begin ─▶ Waving: held ─▶ sent, offline or queued
//!   a time comes ─▶ due ──────┘          └─▶ Paused, Finished ─▶ Op::Rollout
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::codec::target::Folder;
use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::request::{
    Cancelled, ErrorKind, PlanView, PlannedWave, Response, RolloutView, Within,
};
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::dispatch::{Begin, Refusal, not_now, wrong};
use crate::handlers::tasks::jobs::{Job, Named};
use crate::handlers::tasks::rollout::{
    Action, Counts, OfflineRule, Rollout, RolloutOptions, RolloutState,
};
use crate::handlers::tasks::scope::Scope;
use crate::handlers::tasks::table::Task;
use crate::ids::{HostId, TaskKey};
use crate::limits::BELL_HOSTS_MAX;
use crate::store::op::{Found, Op, RolloutText, TaskState, TaskStates};
use crate::time::{Instant, Span};

/// Interval of the looks at a rollout while the store is unavailable or does not answer a question.
const LOOK_AGAIN: Span = Span::from_secs(1);

/// Rollouts that are due for a step or a write, by the number of their task.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    ready: BTreeSet<u64>,
    due: BTreeSet<(Instant, u64)>,
    /// The time of each task in `due`.
    due_of: BTreeMap<u64, Instant>,
    unwritten: BTreeSet<u64>,
    /// Number of writes under way.
    writing: BTreeMap<u64, u32>,
    /// Rollouts with a wave that begins once it is stored, so that a node that no longer keeps the
    /// task sends nothing. The flag says that hosts of earlier waves may be held, too.
    beginning: BTreeMap<u64, bool>,
    /// Number of looks at the nodes that hold hosts of the present wave.
    looks: BTreeMap<u64, u32>,
    /// A look has failed: the present wave begins once more when the rollout is looked at next.
    again: BTreeSet<u64>,
}

impl Rollouts {
    /// Returns whether a rollout is to be looked at.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The store is unavailable: nothing under way has an answer, and all is written again.
    pub(crate) fn interrupt(&mut self) {
        self.writing.clear();
        self.looks.clear();
    }

    /// Begins the present wave of a task once it is stored.
    fn begin_when_stored(&mut self, number: u64, is_resumed: bool) {
        self.unwritten.insert(number);
        *self.beginning.entry(number).or_default() |= is_resumed;
    }

    /// A write is settled. Returns whether the present wave begins, and whether hosts of earlier
    /// waves may be held.
    fn written(&mut self, number: u64) -> Option<bool> {
        if let Some(left) = self.writing.get_mut(&number) {
            *left -= 1;
            if *left > 0 {
                return None;
            }
            self.writing.remove(&number);
        }
        let is_last = !self.unwritten.contains(&number);
        is_last.then(|| self.beginning.remove(&number)).flatten()
    }

    /// Forgets the rollout of a task.
    pub(super) fn forget(&mut self, number: u64) {
        self.set_due(number, None);
        self.ready.remove(&number);
        self.unwritten.remove(&number);
        self.beginning.remove(&number);
        self.looks.remove(&number);
        self.again.remove(&number);
    }

    /// Sets or clears the deadline of a rollout.
    fn set_due(&mut self, number: u64, due: Option<Instant>) {
        let before = match due {
            Some(due) => self.due_of.insert(number, due),
            None => self.due_of.remove(&number),
        };
        if let Some(before) = before {
            self.due.remove(&(before, number));
        }
        self.due.extend(due.map(|due| (due, number)));
    }
}

/// Job that starts the deliveries of a wave.
#[derive(Debug)]
pub(crate) struct Waving {
    task: u32,
    number: u64,
    /// Place of the next delivery.
    place: usize,
    /// How it begins. After a restart or a takeover its hosts may have the task already.
    begin: Begin,
    /// Hosts that are not connected here, and that other nodes may hold.
    away: Vec<HostId>,
}

/// Change of a task by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Control {
    /// It is cancelled.
    Cancel,
    /// Its rollout is paused.
    Pause,
    /// Its rollout is resumed.
    Resume,
}

/// A task whose hosts are being compared with the target of a token.
#[derive(Debug)]
pub(crate) struct Admitting {
    pub(crate) requester: u64,
    scope: Scope,
    control: Control,
    task: u32,
    number: u64,
    /// Place of the next delivery.
    place: usize,
}

/// A task that is being cancelled.
#[derive(Debug)]
pub(crate) struct Cancelling {
    pub(crate) requester: Option<u64>,
    task: u32,
    number: u64,
    place: usize,
    result: Cancelled,
    /// Hosts that other nodes may hold.
    away: Vec<HostId>,
}

/// A plan under construction.
#[derive(Debug)]
pub(crate) struct Planning {
    pub(crate) requester: u64,
    named: Named,
    ends: Vec<u64>,
    place: u64,
    wave: Folder,
    wave_hosts: u64,
    wave_offline: u64,
    view: PlanView,
    hash: Sha256,
}

/// SHA-256 of a list of hosts in order, each with a line feed behind it, in hex.
fn digest_of(named: &Named) -> String {
    let mut hash = Sha256::new();
    for host in named.places.keys() {
        hash.update(host.as_str());
        hash.update("\n");
    }
    hex(hash)
}

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Checks the number of hosts of a request.
///
/// # Errors
/// Another number was expected.
pub(crate) fn check_expected(options: &RolloutOptions, named: &Named) -> Result<(), Refusal> {
    let count = named.hosts.len() as u64;
    match options.expect {
        Some(expected) if expected != count => Err(wrong(format!(
            "{expected} hosts were expected, and there are {count}: nothing is sent"
        ))),
        _ => Ok(()),
    }
}

/// Prepares the rollout of a new task: hosts beyond the first wave are held.
pub(crate) fn plan_rollout(options: &RolloutOptions, named: &mut Named) -> Option<Box<Rollout>> {
    let total = named.hosts.len() as u64;
    if options.target.is_none() && !options.has_waves() {
        return None;
    }
    let rollout = options.rollout(total, digest_of(named))?;
    let first = rollout.reach();
    named.hold_from(first);
    Some(Box::new(rollout))
}

impl Planning {
    /// Begins a plan for these hosts.
    pub(crate) fn new(requester: u64, options: &RolloutOptions, named: Named) -> Self {
        let hosts = named.hosts.len() as u64;
        Self {
            requester,
            ends: match options.has_waves() {
                true => options.ends(hosts),
                false => vec![hosts],
            },
            named,
            place: 0,
            wave: Folder::default(),
            wave_hosts: 0,
            wave_offline: 0,
            view: PlanView {
                target: options.target.clone(),
                hosts,
                ..PlanView::default()
            },
            hash: Sha256::new(),
        }
    }

    /// Plans at most `max` more hosts. Returns whether these were the last.
    pub(crate) fn step(&mut self, max: usize) -> bool {
        for _ in 0..max {
            let Some((host, place)) = self.named.places.pop_first() else {
                return true;
            };
            let is_online = self.named.hosts[place as usize].1 == TaskState::Sent;
            self.hash.update(host.as_str());
            self.hash.update("\n");
            self.wave.add(host.as_str());
            self.wave_hosts += 1;
            self.wave_offline += u64::from(!is_online);
            self.place += 1;
            if self.ends.get(self.view.waves.len()) == Some(&self.place) {
                let wave = std::mem::take(&mut self.wave);
                self.view.offline += self.wave_offline;
                self.view.waves.push(PlannedWave {
                    hosts: std::mem::take(&mut self.wave_hosts),
                    offline: std::mem::take(&mut self.wave_offline),
                    folded: wave.finish(),
                });
            }
        }
        self.named.places.is_empty()
    }
}

/// Answers the requester of a complete plan.
pub(crate) fn answer_plan(cx: &mut Ctx<'_>, planning: Planning) {
    let mut view = planning.view;
    view.digest = hex(planning.hash);
    cx.respond(planning.requester, Response::Planned(Box::new(view)));
}

/// The rollout of a task, as it is shown.
pub(crate) fn rollout_view(rollout: &Rollout) -> RolloutView {
    RolloutView {
        target: rollout.target.clone(),
        digest: rollout.digest.clone(),
        state: rollout.state(),
        wave: rollout.wave(),
        waves: rollout.waves(),
        why: rollout.why().map(str::to_owned),
    }
}

pub(super) fn no_task() -> Refusal {
    (ErrorKind::Unknown, "no such task".to_owned())
}

fn counts_of(task: &Task) -> Counts {
    let mut counts = Counts::default();
    for (state, count) in task.counts() {
        match state {
            TaskState::Held => counts.held += count,
            TaskState::Offline => counts.offline += count,
            TaskState::Failed | TaskState::NoBook | TaskState::Lost | TaskState::Unanswered => {
                counts.failed += count;
            }
            state if !state.has_ended() => counts.busy += count,
            _ => {}
        }
    }
    counts
}

impl Waving {
    /// Number of the task.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Tasks {
    /// Looks at the rollout of a task in the next step: a host of it has changed.
    pub(super) fn touch_rollout(&mut self, slot: u32) {
        if let Some(task) = self.table.task(slot).filter(|task| task.rollout.is_some()) {
            self.rollouts.ready.insert(task.number);
        }
    }

    /// Marks the present wave as sent and starts its clock.
    pub(super) fn first_wave_entered(&mut self, cx: &Ctx<'_>, slot: u32) {
        if let Some(rollout) = self.table.rollout_mut(slot) {
            rollout.entered(cx.at.now);
            self.touch_rollout(slot);
        }
    }

    /// Looks at the rollouts whose time has come.
    pub(crate) fn look_at_rollouts(&mut self, judge: Instant) {
        while let Some((due, number)) = self.rollouts.due.first().copied()
            && due <= judge
        {
            self.rollouts.set_due(number, None);
            self.rollouts.ready.insert(number);
        }
    }

    /// Looks at the next rollout.
    pub(super) fn advance_rollout(&mut self, cx: &mut Ctx<'_>) {
        let Some(number) = self.rollouts.ready.pop_first() else {
            return;
        };
        self.rollouts.set_due(number, None);
        if !cx.is_store_up() {
            // A wave that is not stored would be sent once more after a restart.
            self.rollouts.set_due(number, Some(cx.at.now + LOOK_AGAIN));
            return;
        }
        if self.rollouts.again.remove(&number) {
            return self.rollouts.begin_when_stored(number, true);
        }
        let Some(slot) = self.table.slot_of(number) else {
            return;
        };
        let Some(task) = self.table.task(slot).filter(|task| !task.is_partial()) else {
            return;
        };
        let (counts, key) = (counts_of(task), task.key.clone());
        let Some(rollout) = self.table.rollout_mut(slot) else {
            return;
        };
        let action = rollout.step(counts, cx.at.now);
        let (wave, waves) = (rollout.wave(), rollout.waves());
        let text = match action {
            Action::Wait => return,
            Action::Until(until) => {
                self.rollouts.set_due(number, Some(until));
                return;
            }
            Action::Begin => {
                self.rollouts.begin_when_stored(number, false);
                format!("wave {wave} of {waves} begins")
            }
            Action::Paused(why) => {
                format!("its rollout is paused in wave {wave} of {waves}: {why}")
            }
            Action::Finished => "all its hosts have ended".to_owned(),
        };
        self.rollouts.unwritten.insert(number);
        cx.log(log::Level::Info, "rollout", key, text);
    }

    /// Sends to at most `max` more hosts of a wave. Returns whether these were the last.
    pub(super) fn wave_some(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        waving: &mut Waving,
        max: usize,
    ) -> bool {
        let Some(task) = self
            .table
            .task(waving.task)
            .filter(|t| t.number == waving.number)
        else {
            return true;
        };
        let Some(rollout) = &task.rollout else {
            return true;
        };
        let (offline, end) = (
            rollout.offline(),
            rollout.reach().min(task.deliveries.len()),
        );
        let until = end.min(waving.place + max);
        let some = task
            .deliveries
            .get(waving.place..until)
            .unwrap_or_default()
            .to_vec();
        let is_cancelled = rollout.state() == RolloutState::Cancelled;
        waving.place = until;
        for slot in some {
            let is_held = self.table.delivery(slot).map(|d| d.state) == Some(TaskState::Held);
            let host = self.table.names_of(slot).map(|names| names.0.clone());
            let Some(host) = host.filter(|_| is_held && !is_cancelled) else {
                continue;
            };
            if hosts.is_online(&host) || !cx.has_other_nodes() {
                self.begin_held(cx, hosts, slot, (offline, waving.begin));
            } else {
                waving.away.push(host);
            }
        }
        let is_last = until >= end;
        while waving.away.len() >= BELL_HOSTS_MAX || (is_last && !waving.away.is_empty()) {
            let rest = waving.away.len().saturating_sub(BELL_HOSTS_MAX);
            let away = waving.away.split_off(rest);
            *self.rollouts.looks.entry(waving.number).or_default() += 1;
            self.peers.look_at_wave(waving.number, away);
        }
        is_last
    }

    /// Starts a held delivery of the present wave, if no other node holds its host.
    fn begin_held(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        slot: u32,
        (rule, begin): (OfflineRule, Begin),
    ) {
        let Some((host, _)) = self.table.names_of(slot) else {
            return;
        };
        let recipient = self.table.delivery(slot).map(|delivery| delivery.recipient);
        let next = match (hosts.is_online(host), rule) {
            (true, _) => TaskState::Sent,
            (false, OfflineRule::Queue) => TaskState::Queued,
            (false, OfflineRule::Skip | OfflineRule::Fail) => TaskState::Offline,
        };
        self.turn_delivery(cx, slot, next, Cause::Ourselves);
        let waits = |this: &mut Self| {
            let recipient = recipient.filter(|_| begin == Begin::Again);
            recipient.is_some_and(|recipient| this.waits_for_host(cx, slot, recipient))
        };
        if next == TaskState::Sent && !waits(self) {
            self.queue_delivery(slot);
        }
    }

    /// Handles the holders of some hosts of a wave. Each holder sends the task to its hosts.
    pub(super) fn wave_found(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        (number, asked): (u64, Vec<HostId>),
        found: Found,
    ) {
        let Some(left) = self.rollouts.looks.get_mut(&number) else {
            return;
        };
        *left -= 1;
        let is_last = *left == 0;
        if is_last {
            self.rollouts.looks.remove(&number);
        }
        let slot = self.table.slot_of(number);
        let task = slot.and_then(|slot| Some((slot, self.table.task(slot)?)));
        let Some((task_slot, task)) = task else {
            return;
        };
        let Some(rollout) = task.rollout.as_deref() else {
            return;
        };
        let (key, rule) = (task.key.clone(), rollout.offline());
        if rollout.state() == RolloutState::Cancelled {
            return;
        }
        let Found::Holders(holders) = found else {
            // The hosts are still held.
            self.rollouts.again.insert(number);
            return self.rollouts.set_due(number, Some(cx.at.now + LOOK_AGAIN));
        };
        let mut rings: BTreeMap<&str, Vec<HostId>> = BTreeMap::new();
        let mut states = Vec::new();
        for (host, of) in asked.into_iter().zip(&holders.of) {
            let slot = self.table.delivery_of(&key, &host);
            let is_held = |slot: &u32| {
                let delivery = self.table.delivery(*slot);
                delivery.is_some_and(|delivery| delivery.state == TaskState::Held)
            };
            let Some(slot) = slot.filter(is_held) else {
                continue;
            };
            match of.and_then(|of| holders.nodes.get(of)) {
                Some((node, _)) if !hosts.is_online(&host) => {
                    self.turn_delivery(cx, slot, TaskState::Sent, Cause::Ourselves);
                    self.leave_to_others(slot);
                    states.push((host.clone(), TaskState::Sent));
                    rings.entry(node).or_default().push(host);
                }
                _ => self.begin_held(cx, hosts, slot, (rule, Begin::Again)),
            }
        }
        if !states.is_empty() {
            self.find_again(cx);
            let (over, last) = (false, false);
            self.table.write_first(TaskStates {
                key: key.clone(),
                states,
                over,
                last,
            });
        }
        for (node, hosts) in rings {
            self.peers.ring(node, &key, &hosts, 0);
        }
        if is_last && !self.jobs.is_waving(number) {
            self.first_wave_entered(cx, task_slot);
        }
    }

    /// All hosts of a wave have been sent to, or their nodes are being looked up.
    pub(super) fn waved(&mut self, cx: &Ctx<'_>, waving: &Waving) {
        let is_it = |task: &&Task| task.number == waving.number;
        let is_there = self.table.task(waving.task).filter(is_it).is_some();
        if is_there && !self.rollouts.looks.contains_key(&waving.number) {
            self.first_wave_entered(cx, waving.task);
        }
    }

    /// A task with a rollout is here again after a restart, or from another node: the present wave
    /// goes on where it was.
    pub(super) fn resume_rollout(&mut self, slot: u32) {
        let Some(task) = self.table.task(slot) else {
            return;
        };
        let number = task.number;
        let Some(rollout) = self.table.rollout_mut(slot) else {
            return;
        };
        match rollout.state() {
            RolloutState::Running | RolloutState::Paused => {
                rollout.restarted();
                self.rollouts.begin_when_stored(number, true);
            }
            RolloutState::Cancelled if rollout.has_run_out() => {}
            RolloutState::Cancelled => {
                self.jobs.push(Job::Cancelling(Box::new(Cancelling {
                    requester: None,
                    task: slot,
                    number,
                    place: 0,
                    result: Cancelled::default(),
                    away: Vec::new(),
                })));
            }
            RolloutState::Done => {}
        }
    }

    /// Cancels the unfinished rollout of a task that expires.
    pub(super) fn end_rollout(&mut self, cx: &mut Ctx<'_>, slot: u32) {
        let Some(task) = self.table.task(slot).filter(|task| task.keeper.is_none()) else {
            return;
        };
        let (held, number, key) = (counts_of(task).held, task.number, task.key.clone());
        let Some(rollout) = self.table.rollout_mut(slot).filter(|_| held > 0) else {
            return;
        };
        if let Some(why) = rollout.run_out(held) {
            self.rollouts.unwritten.insert(number);
            cx.log(log::Level::Warn, "rollout", key.to_string(), why);
        }
    }

    /// Has all rollouts written again: the store may lack their last changes.
    pub(super) fn rewrite_rollouts(&mut self) {
        let all = self
            .table
            .newest_first(0)
            .filter_map(|slot| self.table.task(slot));
        let with = all.filter(|task| task.rollout.is_some());
        self.rollouts.unwritten = with.map(|task| task.number).collect();
        // An interrupted wave goes on with its remaining hosts.
        for number in self.rollouts.unwritten.clone() {
            let slot = self.table.slot_of(number);
            let task = slot.and_then(|slot| self.table.task(slot));
            let is_entering = |rollout: &Rollout| rollout.is_entering();
            if task.is_some_and(|task| {
                !task.is_partial() && task.rollout.as_deref().is_some_and(is_entering)
            }) {
                self.rollouts.begin_when_stored(number, true);
            }
        }
    }

    /// Moves changed rollouts into a batch.
    pub(super) fn take_rollouts(&mut self, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max
            && let Some(number) = self.rollouts.unwritten.pop_first()
        {
            let slot = self.table.slot_of(number);
            let task = slot.and_then(|slot| self.table.task(slot));
            let Some((task, text)) = task.and_then(|task| Some((task, task.rollout_text()?)))
            else {
                continue;
            };
            let (key, epoch) = (task.key.clone(), task.epoch);
            ops.push(Op::Rollout(Box::new(RolloutText { key, text, epoch })));
            *self.rollouts.writing.entry(number).or_default() += 1;
        }
    }

    /// Returns whether a rollout is to be looked at, and this node knows that it keeps its tasks.
    pub(super) fn has_ready_rollouts(&self) -> bool {
        self.rollouts.has_ready() && !self.peers.checks_keepers()
    }

    /// The store has a rollout, or has refused it since a later keeper has written it.
    pub(crate) fn rollout_written(&mut self, key: &TaskKey, is_ours: bool) {
        let slot = self.table.find(key);
        let task = slot.and_then(|slot| Some((slot, self.table.task(slot)?.number)));
        let Some((slot, number)) = task else {
            return;
        };
        let begins = self.rollouts.written(number);
        if !is_ours {
            self.ask_keeper(key.clone());
        } else if let Some(is_resumed) = begins
            && let Some(rollout) = self.table.rollout_mut(slot)
        {
            let start = rollout.places().start;
            self.jobs.push(Job::Waving(Waving {
                task: slot,
                number,
                place: if is_resumed { 0 } else { start },
                begin: if is_resumed {
                    Begin::Again
                } else {
                    Begin::First
                },
                away: Vec::new(),
            }));
        }
    }

    /// The task of this key, if this node keeps it.
    fn kept_task(&self, key: &TaskKey) -> Result<Option<u32>, Refusal> {
        let slot = self.table.find(key);
        let task = slot.and_then(|slot| Some((slot, self.table.task(slot)?)));
        match task.filter(|(_, task)| task.keeper.is_none()) {
            Some((_, task)) if task.is_partial() => {
                Err(not_now("the task is still being created; try again"))
            }
            task => Ok(task.map(|(slot, _)| slot)),
        }
    }

    /// Cancels a task, or pauses or resumes its rollout; a token with a target must cover all hosts
    /// of the task.
    ///
    /// # Errors
    /// No such task, a task without a rollout, or a rollout in another state.
    pub(crate) fn control(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        (key, control): (String, Control),
        within: Option<Within>,
    ) -> Result<(), Refusal> {
        let parsed = TaskKey::parse(&key, &cx.rules.key_prefix).ok_or_else(no_task)?;
        let Some(task) = self.kept_task(&parsed)? else {
            return self.control_elsewhere(cx, requester, (parsed, control), within);
        };
        let Some(within) = within else {
            return self.controlled(cx, hosts, requester, (task, control));
        };
        let number = self.table.task(task).map_or(0, |task| task.number);
        let admitting = Admitting {
            requester,
            scope: Scope::new(within)?,
            control,
            task,
            number,
            place: 0,
        };
        self.begin_job(cx, hosts, Job::Admitting(Box::new(admitting)));
        Ok(())
    }

    /// Compares at most `max` more hosts with the target of a token. Returns whether these were the
    /// last.
    ///
    /// # Errors
    /// A host that is outside, or the task is gone.
    pub(super) fn admit_some(
        &mut self,
        hosts: Directory<'_>,
        admitting: &mut Admitting,
        max: usize,
    ) -> Result<bool, Refusal> {
        let task = self.table.task(admitting.task);
        let Some(task) = task.filter(|task| task.number == admitting.number) else {
            return Err(no_task());
        };
        let until = task.deliveries.len().min(admitting.place + max);
        for slot in &task.deliveries[admitting.place.min(until)..until] {
            if let Some((host, _)) = self.table.names_of(*slot) {
                admitting.scope.check(hosts, host)?;
            }
        }
        admitting.place = until;
        Ok(until == task.deliveries.len())
    }

    /// All hosts of a task are of the token's target.
    pub(super) fn admitted(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        admitting: Admitting,
    ) {
        let Admitting {
            requester,
            control,
            task,
            ..
        } = admitting;
        if let Err(refusal) = self.controlled(cx, hosts, requester, (task, control)) {
            cx.respond(requester, refusal.into());
        }
    }

    fn controlled(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        (slot, control): (u32, Control),
    ) -> Result<(), Refusal> {
        let task = self.table.task(slot).ok_or_else(no_task)?;
        let (counts, number, task_key) = (counts_of(task), task.number, task.key.clone());
        let key = task_key.to_string();
        let rollout = self.table.rollout_mut(slot);
        if rollout.is_some() {
            self.rollouts.unwritten.insert(number);
            self.rollouts.ready.insert(number);
        }
        let Some(rollout) = rollout.filter(|_| control != Control::Cancel) else {
            return match control {
                Control::Cancel => {
                    self.cancel(cx, hosts, requester, (slot, number, key));
                    Ok(())
                }
                Control::Pause | Control::Resume => Err(wrong(
                    "the task has no rollout: it was sent without a target or waves".to_owned(),
                )),
            };
        };
        let done = match control {
            Control::Pause => rollout.pause(),
            Control::Resume | Control::Cancel => rollout.resume(counts, cx.at.now),
        };
        done.map_err(|why| (ErrorKind::Taken, why))?;
        let rollout = rollout_view(rollout);
        let answer = Response::Rollout { key, rollout };
        self.confirm(cx, requester, &task_key, answer);
        Ok(())
    }

    /// Cancels a task. Unanswered deliveries are not sent again.
    fn cancel(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        (slot, number, key): (u32, u64, String),
    ) {
        if let Some(rollout) = self.table.rollout_mut(slot) {
            rollout.cancel();
        }
        let cancelling = Cancelling {
            requester: Some(requester),
            task: slot,
            number,
            place: 0,
            result: Cancelled {
                key,
                ..Cancelled::default()
            },
            away: Vec::new(),
        };
        self.begin_job(cx, hosts, Job::Cancelling(Box::new(cancelling)));
    }

    /// Cancels at most `max` more hosts. Returns whether these were the last.
    pub(super) fn cancel_some(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        cancelling: &mut Cancelling,
        max: usize,
    ) -> bool {
        let is_it = |task: &&Task| task.number == cancelling.number;
        let Some(task) = self.table.task(cancelling.task).filter(is_it) else {
            return true;
        };
        let until = task.deliveries.len().min(cancelling.place + max);
        let is_last = until == task.deliveries.len();
        let some = task.deliveries[cancelling.place.min(until)..until].to_vec();
        cancelling.place = until;
        for slot in some {
            let Some(delivery) = self.table.delivery(slot) else {
                continue;
            };
            let (state, is_away) = (delivery.state, delivery.is_away());
            let Some((host, _)) = self.table.names_of(slot) else {
                continue;
            };
            let is_begun = !state.has_ended() && state != TaskState::Held;
            let may_be_elsewhere = !hosts.is_online(host) && (is_away || cx.has_other_nodes());
            if is_begun && may_be_elsewhere && cx.is_store_up() {
                cancelling.away.push(host.clone());
            } else {
                self.cancel_host(cx, hosts, slot, &mut cancelling.result);
            }
        }
        is_last
    }

    /// Cancels the task of a delivery whose host no other node holds.
    pub(super) fn cancel_host(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        slot: u32,
        result: &mut Cancelled,
    ) {
        let state = self.table.delivery(slot).map(|delivery| delivery.state);
        let names = self.table.names_of(slot);
        let Some((state, (host, key))) = state.zip(names) else {
            return;
        };
        let (host, key) = (host.clone(), key.clone());
        match state {
            TaskState::Held | TaskState::Queued | TaskState::Sent => {
                self.turn_delivery(cx, slot, TaskState::Cancelled, Cause::Ourselves);
                result.cancelled += 1;
                if state == TaskState::Sent {
                    // The host may have begun without a report.
                    hosts.cancel(cx, &host, &key);
                }
            }
            TaskState::Answered | TaskState::Working => match hosts.cancel(cx, &host, &key) {
                true => result.asked += 1,
                false => result.cannot.push(host),
            },
            _ => {}
        }
    }

    /// Answers the requester of a task that is cancelled here, or asks the nodes of its other hosts.
    pub(super) fn answer_cancel(&mut self, cx: &mut Ctx<'_>, cancelling: Cancelling) {
        let Cancelling {
            requester,
            task,
            number,
            result,
            away,
            ..
        } = cancelling;
        let is_it = |task: &&Task| task.number == number;
        let key = self.table.task(task).filter(is_it);
        let key = key.map(|task| task.key.clone());
        match (key, requester) {
            (Some(key), _) if !away.is_empty() => {
                self.gather_cancels(cx, requester, (key, result), away);
            }
            (Some(key), Some(requester)) => {
                let answer = Response::Cancelled(Box::new(result));
                self.confirm(cx, requester, &key, answer);
            }
            (None, Some(requester)) => cx.respond(requester, no_task().into()),
            (_, None) => {}
        }
    }
}
