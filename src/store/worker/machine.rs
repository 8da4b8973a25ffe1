//! State machine of the store thread, one step at a time.
//!
//! ```text
//!           open                                spool empty                        all read
//!   Down ─────────▶ ReplayRecent ─▶ ReplaySpool ───────────▶ Settle ─▶ Lease ─▶ Hosts, Tasks ──▶ Up
//!    ▲                 ▲                                                                         │
//!    │ unavailable     └──────────────── the store has lost its data ────────────────────────────┤
//!    └───────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! *ReplayRecent* replays recently confirmed reports, *ReplaySpool* those in the spool, *Settle*
//! finishes interrupted dispatches. Only then is the store available, and state is written to it. A
//! step does one bounded thing; new batches are taken between two steps.
//!
//! A panic is caught around one step. All data that must not be lost is outside of the call that
//! panicked: an operation leaves the pending operations, the spool and the replay buffer only after
//! the backend has answered.

mod runs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::disk::Disk;
use super::inbox::Inbox;
use super::lease::{LeaseChange, LeaseWatch};
use super::link::Link;
use super::nodes::Nodes;
use super::pending::Pending;
use super::replay::ReplayBuffer;
use super::runner::{Runner, Running, Source};
use super::{Clock, Make, Plan, StoreStats};
use crate::limits::{RECENT_S, REPLICATED_RECENT_S};
use crate::store::op::{Batch, Outcome};
use crate::store::spool::Spool;
use crate::store::{HeldCursor, Lease, StoreError, panic_text};
use crate::time::{Instant, Span};

/// State of the store connection.
#[derive(Debug)]
pub(super) enum Phase {
    /// The store is unavailable.
    Down {
        /// Time of the next attempt.
        retry: Instant,
        /// Pending operations are kept for another run after a panic, instead of being spooled.
        keeps_pending: bool,
    },
    /// The replay buffer is replayed, from this index on.
    ReplayRecent(usize),
    /// The spool is replayed.
    ReplaySpool,
    /// Unsettled dispatches are settled.
    Settle,
    /// The lease is checked.
    Lease,
    /// The hosts are read for the core.
    Hosts(HeldCursor),
    /// The tasks are read for the core, once.
    Tasks(HeldCursor),
    /// The store is available: state and reports are written.
    Up,
    /// Another server has our name: nothing is written any more.
    NameTaken,
    /// The thread has ended.
    Over,
}

/// Continuation after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another step, without waiting.
    Now,
    /// Another step at this moment, or when a batch comes.
    At(Instant),
    /// None: the worker has ended.
    Over,
}

/// The requested end.
#[derive(Clone, Copy, Debug)]
struct Ending {
    deadline: Instant,
    /// The channel is empty.
    is_drained: bool,
}

/// The store thread without its waiting. The caller brings the time, as a [`Clock`].
///
/// Call [`turn`](Self::turn) until it says to wait; then take [`outcomes`](Self::outcomes), and
/// give it the next [`Batch`] with [`take`](Self::take) if it [`has_room`](Self::has_room). To end
/// it, call [`end`](Self::end), then [`channel_is_empty`](Self::channel_is_empty) once no batch is
/// left.
pub struct Worker {
    clock: Box<dyn Clock>,
    stats: Arc<StoreStats>,
    phase: Phase,
    link: Link,
    lease: LeaseWatch,
    nodes: Nodes,
    inbox: Inbox,
    pending: Pending,
    replay: ReplayBuffer,
    disk: Disk,
    runner: Runner,
    out: Vec<Outcome>,
    ending: Option<Ending>,
}

impl Worker {
    /// A worker that has not reached its store yet.
    #[must_use]
    pub fn new(
        make: Make,
        plan: Plan,
        mut spool: Spool,
        clock: Box<dyn Clock>,
        stats: Arc<StoreStats>,
    ) -> Self {
        let now = clock.now();
        Self {
            phase: Phase::Down {
                retry: now,
                keeps_pending: false,
            },
            link: Link::new(make, plan.retry, plan.seed, now),
            lease: LeaseWatch::default(),
            nodes: Nodes::new(plan.grace),
            inbox: Inbox::default(),
            pending: Pending::new(plan.flush),
            replay: ReplayBuffer::left_by_last_process(&mut spool, now),
            disk: Disk::new(spool, &plan.spool_dir, Arc::clone(&stats)),
            runner: Runner::new(Arc::clone(&stats)),
            out: Vec::new(),
            ending: None,
            clock,
            stats,
        }
    }

    /// Time of its clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Takes the outcomes since the last call.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.out)
    }

    /// Returns whether another batch may be taken: never while reports cannot be stored anywhere,
    /// nor when the pending operations are full, nor while the last of the spool is being replayed
    /// (a steady flow would keep that from ending).
    #[must_use]
    pub fn has_room(&self) -> bool {
        let ends_replay = matches!(self.phase, Phase::ReplaySpool) && self.disk.has_only_tail();
        self.disk.stuck().is_none() && !self.pending.is_full() && !ends_replay
    }

    /// Takes a batch. State for another store connection is dropped; dispatches and questions are
    /// answered at once while the store is unavailable.
    pub fn take(&mut self, batch: Batch) {
        let is_available = matches!(self.phase, Phase::Up);
        let is_current = is_available && batch.session == self.link.number();
        let now = self.now();
        self.pending
            .take(batch.ops, is_available, is_current, now, &mut self.out);
    }

    /// Requests the end, within `left`.
    pub fn end(&mut self, left: Span) {
        self.ending = Some(Ending {
            deadline: self.now() + left,
            is_drained: false,
        });
    }

    /// After [`end`](Self::end): no batch will follow.
    pub fn channel_is_empty(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.is_drained = true;
        }
    }

    /// Returns whether the end was requested and no batch will follow.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.ending.is_some_and(|ending| ending.is_drained)
    }

    /// Does one step. A panic in it is caught.
    pub fn turn(&mut self) -> Next {
        let next = match catch_unwind(AssertUnwindSafe(|| self.step())) {
            Ok(next) => next,
            Err(payload) => self.after_panic(&panic_text(&*payload)),
        };
        self.gauge();
        next
    }

    fn step(&mut self) -> Next {
        let now = self.now();
        self.runner.begin_step();
        if let Some(ending) = self.ending
            && (now >= ending.deadline || (ending.is_drained && self.pending.is_empty()))
        {
            self.finish();
        }
        match self.phase {
            Phase::Over => Next::Over,
            Phase::NameTaken => {
                self.spool_pending();
                Next::At(now + self.link.retry())
            }
            Phase::Down {
                retry,
                keeps_pending,
            } => self.down(retry, keeps_pending),
            _ => match self.connected() {
                Ok(next) => next,
                Err(error) => self.lose(&error),
            },
        }
    }

    fn down(&mut self, retry: Instant, keeps_pending: bool) -> Next {
        if !keeps_pending || self.ending.is_some() {
            self.save();
        }
        if self.now() < retry {
            return Next::At(retry);
        }
        match self.link.open(&*self.clock) {
            Ok(()) => {
                if self.link.is_replicated() {
                    self.link.note_data_loss();
                }
                self.go_on(Phase::ReplayRecent(0))
            }
            Err(error) => self.lose(&error),
        }
    }

    fn go_on(&mut self, phase: Phase) -> Next {
        self.phase = phase;
        Next::Now
    }

    fn connected(&mut self) -> Result<Next, StoreError> {
        if self.link.is_missing() {
            self.link.open(&*self.clock)?;
        }
        let is_up = matches!(self.phase, Phase::Up);
        if (is_up || self.lease.is_ours()) && self.now() >= self.lease.due() {
            self.check_lease(false)?;
        }
        // The check may have changed the phase; the present one is one of those below.
        match &self.phase {
            Phase::ReplayRecent(next) => self.replay_recent(*next),
            Phase::ReplaySpool if self.disk.is_empty() => Ok(self.go_on(Phase::Settle)),
            Phase::ReplaySpool => {
                // New reports go behind those that wait.
                self.spool_pending();
                self.replay_spooled()
            }
            Phase::Settle => self.settle_dispatch(),
            Phase::Lease => {
                self.check_lease(false)?;
                if matches!(self.phase, Phase::Lease) {
                    self.phase = Phase::Hosts(HeldCursor::Start);
                }
                Ok(Next::Now)
            }
            Phase::Hosts(cursor) => self.read_hosts(cursor.clone()),
            Phase::Tasks(cursor) => self.read_tasks(cursor.clone()),
            Phase::Up => self.up(),
            Phase::Down { .. } | Phase::NameTaken | Phase::Over => Ok(Next::Now),
        }
    }

    fn read_hosts(&mut self, mut cursor: HeldCursor) -> Result<Next, StoreError> {
        let is_first = self.link.number() == 0;
        if cursor == HeldCursor::Start {
            if !self.link.backend().has_own_set()? {
                self.link.note_data_loss();
            }
            self.nodes
                .look(&mut self.link, &*self.clock, &mut self.out)?;
        }
        // Beside other nodes only the hosts that this node holds are read. A start then costs the
        // same for any number of hosts of other nodes.
        let all_hosts = is_first && !self.nodes.are_several();
        let mut hosts = Vec::new();
        self.link.call(&*self.clock, |backend| {
            backend.held(all_hosts, &mut cursor, &mut hosts)
        })?;
        if !hosts.is_empty() {
            self.out.push(Outcome::Held(hosts));
        }
        Ok(match cursor {
            HeldCursor::End if is_first || self.nodes.has_unread_tasks() => {
                self.go_on(Phase::Tasks(HeldCursor::Start))
            }
            HeldCursor::End => self.become_available(),
            cursor => self.go_on(Phase::Hosts(cursor)),
        })
    }

    fn read_tasks(&mut self, mut cursor: HeldCursor) -> Result<Next, StoreError> {
        let mut tasks = Vec::new();
        let is_known = self.link.call(&*self.clock, |backend| {
            backend.tasks(&mut cursor, &mut tasks)?;
            // The check of the lease entered this node. The tasks are not read again: had the store
            // lost its data meanwhile, those that are replayed would belong to no node.
            Ok(cursor != HeldCursor::End || backend.has_node()?)
        })?;
        if !tasks.is_empty() {
            self.out.push(match self.link.number() {
                0 => Outcome::Tasks(tasks),
                _ => Outcome::InheritedTasks(tasks),
            });
        }
        if cursor != HeldCursor::End {
            return Ok(self.go_on(Phase::Tasks(cursor)));
        }
        self.nodes.tasks_are_read();
        if is_known {
            return Ok(self.become_available());
        }
        self.rewrite();
        Ok(Next::Now)
    }

    fn become_available(&mut self) -> Next {
        if !self.disk.is_empty() {
            return self.go_on(Phase::ReplaySpool);
        }
        self.stats
            .reconnects
            .add(usize::from(self.link.number() > 0));
        self.disk.became_available();
        let event = self.link.became_available(self.lease.was_ours());
        let connection = self.link.number();
        log::debug!(
            target: "store", connection = connection;
            "thread: the store is available, connection {connection}"
        );
        self.out.push(event);
        self.go_on(Phase::Up)
    }

    fn up(&mut self) -> Result<Next, StoreError> {
        let now = self.now();
        let due = self.pending.due();
        let hurries = self.ending.is_some() || self.runner.is_careful(now);
        if due.is_some_and(|due| now >= due || hurries) {
            self.run_pending()?;
            return Ok(Next::Now);
        }
        let is_taking_over = self
            .nodes
            .step(&mut self.link, &*self.clock, &mut self.out)?;
        if is_taking_over {
            return Ok(Next::Now);
        }
        self.inbox.was_empty(self.nodes.inbox_was_empty());
        let is_shared = self.nodes.are_several();
        if is_shared
            && self
                .inbox
                .step(&mut self.link, &*self.clock, &mut self.out)?
        {
            return Ok(Next::Now);
        }
        // While operations are in memory that must be on the disk once the store is unavailable.
        let is_watched = !self.replay.is_empty();
        let upkeep = self.link.maintain(&*self.clock, is_watched)?;
        let next = upkeep.min(self.lease.due()).min(self.nodes.due());
        let inbox = self.inbox.due(is_shared);
        let next = inbox.map_or(next, |inbox| inbox.min(next));
        Ok(Next::At(due.map_or(next, |due| due.min(next))))
    }

    fn check_lease(&mut self, forced: bool) -> Result<(), StoreError> {
        let is_up = matches!(self.phase, Phase::Up);
        // Each check enters this node among the nodes. A process that never had the lease may have
        // no other sign of a loss: its later writes are there, and the lease was due to run out.
        let watches = self.link.number() > 0 && !self.lease.was_ours();
        let is_forgotten = watches && !self.link.backend().has_node()?;
        let before = self.clock.now();
        let lease = self
            .link
            .call(&*self.clock, |backend| backend.lease(forced))?;
        let after = self.clock.now();
        // Before the store is available, what it confirmed earlier is still to be replayed. And an
        // answer alone does not say that it has its data: it may have lost it while we stood still.
        if is_up && lease == Lease::Ours {
            let is_replicated = self.link.is_replicated();
            let seconds = if is_replicated {
                REPLICATED_RECENT_S
            } else {
                RECENT_S
            };
            self.replay.prune(before, Span::from_secs(seconds));
        }
        match self.lease.checked(lease, forced, before, after) {
            LeaseChange::Nothing => {}
            LeaseChange::ClearAndLost if is_up => {
                self.out.push(Outcome::LeaseClear);
                self.rewrite();
            }
            LeaseChange::ClearAndLost => self.link.note_data_loss(),
            // It was due to run out, so that it is gone says nothing of the rest.
            LeaseChange::Clear if is_up => self.out.push(Outcome::LeaseClear),
            LeaseChange::Clear => {}
            // All is written next; only the evidence is needed.
            LeaseChange::Lost if matches!(self.phase, Phase::Lease) => self.link.note_data_loss(),
            LeaseChange::Lost => self.rewrite(),
            LeaseChange::Dead if forced => {}
            LeaseChange::Dead => self.check_lease(true)?,
            LeaseChange::NameTaken => {
                log::error!("store: another server renews the lease of our name");
                self.pending.keep_only_reports(&mut self.out);
                self.out.push(Outcome::NameTaken);
                self.phase = Phase::NameTaken;
            }
            LeaseChange::Contested => {
                log::error!("store: another server renews the lease of our name, which we serve");
            }
        }
        if is_forgotten {
            match self.phase {
                Phase::Up => self.rewrite(),
                _ => self.link.note_data_loss(),
            }
        }
        Ok(())
    }

    /// The store has lost our entry: all else may be lost as well.
    fn rewrite(&mut self) {
        log::warn!(
            "store: our entry is gone, since we stood still or the store lost its data: all is rewritten"
        );
        self.link.note_data_loss();
        self.inbox.interrupted();
        self.pending.keep_only_reports(&mut self.out);
        self.save_replay_buffer();
        self.phase = Phase::ReplayRecent(0);
    }

    /// The store is unavailable.
    fn lose(&mut self, error: &StoreError) -> Next {
        self.link.fail(error);
        let retry = self.link.next_attempt(self.clock.now());
        let next = self.go_down(retry, false);
        self.save();
        self.out.extend(self.link.hopeless_event(error));
        next
    }

    /// All that is known of the store is dropped.
    fn go_down(&mut self, retry: Instant, keeps_pending: bool) -> Next {
        self.nodes.interrupted();
        self.inbox.interrupted();
        self.lease.interrupted();
        self.pending.keep_only_reports(&mut self.out);
        self.phase = Phase::Down {
            retry,
            keeps_pending,
        };
        Next::At(retry)
    }

    /// Brings what only memory has to the disk, and notifies the core.
    fn save(&mut self) {
        self.save_replay_buffer();
        self.spool_pending();
        self.notify();
    }

    fn save_replay_buffer(&mut self) {
        if !self.link.keeps_what_it_confirms() {
            self.replay.save(self.disk.spool());
        }
    }

    fn spool_pending(&mut self) {
        let wall = self.clock.wall();
        self.disk
            .spool_reports(self.pending.reports(), wall, &mut self.out);
    }

    /// Notifies the core that the store is unavailable: once, and again when reports get stuck or
    /// are no longer stuck.
    fn notify(&mut self) {
        let event = self.link.outage_event(self.disk.stuck());
        self.out.extend(event);
    }

    /// Handles a panic of a step. If one operation ran alone, it is set aside and nothing else is
    /// disturbed; else the store is opened again and the same operations run again.
    fn after_panic(&mut self, text: &str) -> Next {
        let now = self.now();
        let running = self.runner.panicked(now);
        self.stats.restarts.add(1);
        log::error!(reason = text; "store: the thread panicked and goes on: {text}");
        self.link.drop_backend();
        match self.phase {
            Phase::Over => return Next::Over,
            Phase::NameTaken => return Next::At(self.link.next_attempt(now)),
            _ => {}
        }
        if let Some(Running {
            source,
            alone: true,
        }) = running
        {
            self.set_aside(source, &format!("running it panicked: {text}"));
            return Next::Now;
        }
        let is_careful = self.runner.is_careful(now);
        let ran_pending = running.is_some_and(|running| running.source == Source::Pending);
        self.link.end(format!("the store thread failed: {text}"));
        self.notify();
        let retry = match is_careful {
            true => self.link.next_attempt(now),
            false => now,
        };
        self.go_down(retry, ran_pending || !is_careful)
    }

    /// Ends the worker: everything is where it belongs, or there is no time left.
    fn finish(&mut self) {
        let is_connected = !matches!(
            self.phase,
            Phase::Down { .. } | Phase::NameTaken | Phase::Over
        );
        self.phase = Phase::Over;
        self.pending.keep_only_reports(&mut self.out);
        self.spool_pending();
        let count = self.pending.len();
        if count > 0 {
            log::error!(count = count; "store: ended with {count} reports neither stored nor spooled");
        }
        if is_connected && let Err(error) = self.link.close(self.lease.is_ours()) {
            log::warn!(error:% = error; "store: the lease is not given up: {error}");
            self.save_replay_buffer();
        }
    }

    fn gauge(&mut self) {
        self.stats.state.set(match self.phase {
            Phase::ReplayRecent(_) | Phase::ReplaySpool | Phase::Settle => 0,
            Phase::Lease | Phase::Hosts(_) | Phase::Tasks(_) => 0,
            Phase::Up => 1,
            Phase::Down { .. } => 2,
            Phase::NameTaken | Phase::Over => 3,
        });
        self.stats.pending_ops.set(self.pending.len() as u64);
        let (up, silent) = self.nodes.counts();
        self.stats.nodes_up.set(up as u64);
        self.stats.nodes_silent.set(silent as u64);
        self.stats.inbox.set(self.nodes.inbox() as u64);
        let redirects = self.link.take_redirects();
        self.stats.moved.add(redirects.moved);
        self.stats.asked.add(redirects.asked);
        self.stats.refreshes.add(redirects.refreshes);
        self.disk.gauge();
    }
}

/// Views for the tests of the worker.
#[cfg(test)]
impl Worker {
    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(super) fn spool(&mut self) -> &Spool {
        self.disk.spool()
    }

    pub(super) fn stats(&self) -> &StoreStats {
        &self.stats
    }
}
