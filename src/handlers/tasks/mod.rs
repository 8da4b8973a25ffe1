//! Tasks: the table, deliveries and their retransmission, results, console commands, and the work of hosts.

pub(crate) mod commands;
pub(crate) mod console;
pub(crate) mod delivery;
pub(crate) mod dispatch;
pub(crate) mod groups;
pub(crate) mod jobs;
pub(crate) mod keepers;
pub(crate) mod letters;
pub(crate) mod lifetime;
pub(crate) mod locate;
pub(crate) mod payloads;
pub(crate) mod peers;
pub(crate) mod reads;
pub(crate) mod reports;
pub(crate) mod resolve;
pub(crate) mod restore;
mod resume;
pub mod rollout;
mod scope;
pub(crate) mod sends;
pub(crate) mod sequence;
pub(crate) mod shards;
pub(crate) mod states;
pub(crate) mod strays;
pub(crate) mod table;
pub(crate) mod waves;
pub(crate) mod work;

use std::collections::VecDeque;

use crate::handlers::context::Ctx;
use crate::handlers::stats::Stats;
use crate::ids::{ConnId, HostId, TaskKey};
use crate::rng::Rng;
use crate::store::op::Op;
use crate::time::Instant;
use crate::wheel::Wheel;

use self::commands::Commands;
use self::dispatch::Dispatches;
use self::jobs::Jobs;
use self::letters::Letters;
use self::lifetime::Early;
use self::payloads::Payloads;
use self::peers::Peers;
use self::reads::Reads;
use self::restore::Restores;
use self::sends::Outgoing;
use self::states::States;
use self::strays::Strays;
use self::table::TaskTable;
use self::waves::Rollouts;
use self::work::Work;

/// Tasks, console commands, and the work in progress on them.
#[derive(Debug)]
pub(crate) struct Tasks {
    table: TaskTable,
    /// Deadlines of deliveries, by slot.
    tries: Wheel,
    due: Vec<u32>,
    rng: Rng,
    sends: VecDeque<Outgoing>,
    dispatches: Dispatches,
    jobs: Jobs,
    states: States,
    restores: Restores,
    early: Early,
    payloads: Payloads,
    strays: Strays,
    commands: Commands,
    reads: Reads,
    work: Work,
    peers: Peers,
    letters: Letters,
    rollouts: Rollouts,
}

impl Tasks {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            table: TaskTable::default(),
            tries: Wheel::new(),
            due: Vec::new(),
            rng: Rng::new(seed),
            sends: VecDeque::new(),
            dispatches: Dispatches::default(),
            jobs: Jobs::default(),
            states: States::default(),
            restores: Restores::default(),
            early: Early::default(),
            payloads: Payloads::default(),
            strays: Strays::default(),
            commands: Commands::default(),
            reads: Reads::default(),
            work: Work::default(),
            peers: Peers::default(),
            letters: Letters::default(),
            rollouts: Rollouts::default(),
        }
    }

    /// Returns whether states of tasks must be written.
    pub(crate) fn has_states(&self) -> bool {
        self.states.is_walking() || self.table.has_unwritten()
    }

    /// Returns whether requests with many hosts are under way.
    pub(crate) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty() || self.table.has_going() || self.has_ready_rollouts()
    }

    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        self.dispatches.has_ops()
            || self.has_states()
            || self.reads.has_ops()
            || self.peers.has_ops()
            || (!self.peers.checks_keepers()
                && (self.restores.has_ops() || self.rollouts.has_ops()))
    }

    /// Returns whether nothing is left to be written.
    pub(crate) fn is_settled(&self) -> bool {
        !self.has_states()
            && !self.rollouts.has_ops()
            && !self.restores.is_due()
            && self.dispatches.len() == 0
            && !self.has_jobs()
    }

    /// Returns whether a task names a host.
    pub(crate) fn names(&self, key: &TaskKey, host: &HostId) -> bool {
        self.table.delivery_of(key, host).is_some()
    }

    /// Returns whether any task names a host.
    pub(crate) fn name_host(&self, host: &HostId) -> bool {
        self.table.recipient_of(host).is_some()
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let soonest = [
            self.tries.next(),
            self.table.next_look(),
            self.commands.deadline(),
            self.dispatches.deadline(),
            self.reads.deadline(),
            self.payloads.deadline(),
            self.peers.deadline(),
            self.letters.deadline(),
            self.rollouts.deadline(),
        ];
        soonest.into_iter().flatten().min()
    }

    pub(crate) fn gauges(&self, stats: &mut Stats) {
        stats.hosts_at_work = (self.work.len() + self.table.recipients_working()) as u64;
        stats.tasks_open = self.table.tasks_open() as u64;
        stats.deliveries_open = self.table.deliveries_open() as u64;
        stats.dispatches_waiting = self.dispatches.len() as u64;
        stats.result_bytes_held = self.payloads.held() as u64;
    }

    /// Moves new tasks into a batch.
    pub(crate) fn take_dispatches(&mut self, max: usize, ops: &mut Vec<Op>) {
        self.dispatches.take_ops(max, ops);
    }

    /// Moves states of tasks, and then questions, into a batch.
    pub(crate) fn take_ops(&mut self, now: Instant, max: usize, ops: &mut Vec<Op>) {
        if !self.peers.checks_keepers() {
            self.take_restores(max, ops);
            self.take_rollouts(max, ops);
        }
        self.take_states(now, max, ops);
        self.peers.take_rings(max, ops);
        self.reads.take_ops(max, ops);
        self.peers.take_ops(max, ops);
    }

    /// The store has written states of tasks.
    pub(crate) fn states_written(&mut self, now: Instant) {
        self.states.settled(now);
    }

    /// Queues a rewrite of all states and rollouts that the store may lack, or have from an older
    /// write that came late.
    pub(crate) fn rewrite_states(&mut self) {
        self.states.walk();
        self.rewrite_rollouts();
    }

    /// A store connection begins; the store may have lost its data.
    pub(crate) fn store_up(&mut self, cx: &Ctx<'_>, lost_data: bool) {
        let session = cx.stats.store_sessions;
        self.states.interrupt(session - 1, cx.at.now);
        self.states.walk();
        self.peers.begin(cx);
        self.check_keepers(cx);
        self.rollouts.interrupt();
        self.rewrite_rollouts();
        // At the first store connection the tables equal the store's content.
        self.restores.begin(lost_data && session > 1, session);
    }

    /// Handles a store that does not answer.
    pub(crate) fn store_away(&mut self, cx: &mut Ctx<'_>) {
        self.states.interrupt(cx.stats.store_sessions, cx.at.now);
        self.restores.interrupt();
        self.rollouts.interrupt();
        self.undo_dispatches(cx);
        self.forget_reads(cx);
        self.forget_looks(cx);
        self.forget_letters(cx, "the store is unavailable");
    }

    /// Forgets a connection that has ended. Returns whether the room of its result is free.
    pub(crate) fn forget_conn(&mut self, conn: ConnId) -> bool {
        self.work.closed(conn);
        self.payloads.forget(conn)
    }

    /// Forgets the work of a host that has gone offline.
    pub(crate) fn forget_work(&mut self, host: &HostId) {
        self.work.forget(host);
        self.peers.settle(host);
    }

    /// Drops work without a message for too long.
    pub(crate) fn expire_work(&mut self, cx: &Ctx<'_>, judge: Instant) {
        self.work.expire(judge, cx.rules.working_timeout);
    }

    /// Returns unused memory to the allocator.
    pub(crate) fn trim(&mut self) {
        self.due.shrink_to_fit();
    }

    /// Connections that wait for the room of their results.
    #[cfg(any(test, fuzzing, debug_assertions))]
    pub(crate) fn paused(&self) -> impl Iterator<Item = ConnId> {
        self.payloads.waiting()
    }

    #[cfg(test)]
    pub(crate) fn table(&mut self) -> &mut TaskTable {
        &mut self.table
    }

    /// Results in transit.
    pub(crate) fn payloads(&mut self) -> &mut Payloads {
        &mut self.payloads
    }

    #[cfg(test)]
    pub(crate) fn is_expiring(&self) -> bool {
        self.jobs.is_expiring()
    }

    #[cfg(test)]
    pub(crate) fn deadlines_len(&self) -> usize {
        self.tries.len()
    }
}
