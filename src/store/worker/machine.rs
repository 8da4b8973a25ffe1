//! State machine of the store thread, one step at a time.
//!
//! ```text
//!            open                     spool empty                                  all read
//!   Down ───────────▶ Again ─▶ Replay ───────────▶ Settle ─▶ Lease ─▶ Held, Tasks ─────────▶ Up
//!    ▲                  ▲                                                                    │
//!    │ away, from       └──────────────── the store has lost its contents ───────────────────┤
//!    └─ anywhere ────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! *Again* replays recently confirmed reports, *Replay* those in the spool, *Settle* finishes interrupted
//! dispatches, and only then is the store available and state written to it. A step does one bounded
//! thing; between two of them new batches are taken.
//!
//! A panic is caught around one step. Everything that must not be lost is outside of the call that
//! panicked: an operation leaves the pending operations, the spool and the replay buffer only after the
//! backend has answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::dispatches::Dispatches;
use super::faults::{Faults, Running, Source, words};
use super::kept::Kept;
use super::lease::{Keeper, News};
use super::nodes::{Nodes, TakeOver};
use super::recent::Recent;
use super::suspects::Suspects;
use super::{Clock, Make, Plan, StoreStats};
use crate::limits::{
    BATCH_OPS_MAX, RECENT_S, SPOOL_TAIL_RECORDS, STORE_IDLE_MS, STORE_LOOK_MS,
    STORE_PENDING_OPS_MAX, STORE_RUN_OPS_MAX, STORE_SWEEP_S,
};
use crate::rng::Rng;
use crate::store::op::{Batch, Found, Op, Outcome, Stored};
use crate::store::spool::{Rejected, Spool};
use crate::store::{Backend, HeldCursor, Lease, StoreError};
use crate::time::{Instant, Span};

/// State of the store connection.
#[derive(Debug)]
pub(super) enum Phase {
    /// It is away; when to try again.
    Down(Instant),
    /// Recently confirmed reports are replayed, from this index on.
    ReplayRecent(usize),
    /// The spool is replayed.
    ReplaySpool,
    /// Dispatches that the store went away under are settled.
    Settle,
    /// The lease is looked at.
    Lease,
    /// The held hosts are read for the core.
    Held(HeldCursor),
    /// The tasks are read for the core, once.
    Tasks(HeldCursor),
    /// State and reports are written.
    Up,
    /// Another server has our name: nothing is written any more.
    NameTaken,
    /// Ended.
    Over,
}

/// Continuation after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one, without waiting.
    Now,
    /// Another one at this moment, or when a batch comes.
    At(Instant),
    /// None: it has ended.
    Over,
}

/// The outage as the core knows it.
#[derive(Debug, Default)]
struct Outage {
    why: String,
    notified: bool,
    notified_stuck: bool,
    notified_hopeless: bool,
}

/// The end that was asked for.
#[derive(Clone, Copy, Debug)]
struct Ending {
    deadline: Instant,
    drained: bool,
}

/// State of the store thread, without the waiting. The caller brings the time, as a [`Clock`].
pub struct Worker {
    make: Make,
    pub(super) plan: Plan,
    pub(super) clock: Box<dyn Clock>,
    pub(super) backend: Option<Box<dyn Backend>>,
    pub(super) spool: Spool,
    pub(super) rejected: Rejected,
    pub(super) recent: Recent,
    pub(super) kept: Kept,
    pub(super) stats: Arc<StoreStats>,
    pub(super) faults: Faults,
    pub(super) running: Option<Running>,
    pub(super) suspects: Suspects,
    /// This connection has taken a write of its own.
    pub(super) probed: bool,
    pub(super) phase: Phase,
    lease: Keeper,
    pub(super) nodes: Nodes,
    pub(super) taking: Option<TakeOver>,
    /// Taking over was cut short: some of the tasks may be ours by now, and the core does not know them.
    tasks_unread: bool,
    session: u32,
    /// There is evidence since the last connection that the store has lost its data.
    lost_data: bool,
    /// Time at which a task was last restored to a store that had lost it.
    pub(super) restored: Option<Instant>,
    /// Operations taken and not settled; only reports unless it is up.
    pub(super) pending: Vec<Op>,
    pub(super) dispatches: Dispatches,
    /// Time since which operations are pending.
    pending_since: Instant,
    /// The pending operations are kept for another try after a panic, instead of being spooled.
    hold: bool,
    /// Reason for which reports cannot be stored anywhere.
    pub(super) stuck: Option<String>,
    outage: Outage,
    contact: Instant,
    sweep_due: Instant,
    look_due: Instant,
    contest_due: Instant,
    /// The backend's outcomes of the present run.
    pub(super) answers: Vec<Outcome>,
    pub(super) out: Vec<Outcome>,
    ending: Option<Ending>,
    rng: Rng,
}

impl Worker {
    /// One that has not reached its store yet.
    #[must_use]
    pub fn new(
        make: Make,
        plan: Plan,
        spool: Spool,
        clock: Box<dyn Clock>,
        stats: Arc<StoreStats>,
    ) -> Self {
        let now = clock.now();
        let mut worker = Self {
            make,
            rejected: Rejected::in_dir(&plan.spool_dir),
            rng: Rng::new(plan.seed),
            plan,
            clock,
            backend: None,
            spool,
            recent: Recent::default(),
            kept: Kept::default(),
            stats,
            faults: Faults::default(),
            running: None,
            suspects: Suspects::default(),
            probed: false,
            phase: Phase::Down(now),
            lease: Keeper::default(),
            nodes: Nodes::default(),
            taking: None,
            tasks_unread: false,
            session: 0,
            lost_data: false,
            restored: None,
            pending: Vec::new(),
            dispatches: Dispatches::default(),
            pending_since: now,
            hold: false,
            stuck: None,
            outage: Outage::default(),
            contact: now,
            sweep_due: now + Span::from_secs(STORE_SWEEP_S),
            look_due: now,
            contest_due: now,
            answers: Vec::new(),
            out: Vec::new(),
            ending: None,
        };
        worker.take_over_recent();
        worker
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
        let emptying =
            matches!(self.phase, Phase::ReplaySpool) && self.spool.records() <= SPOOL_TAIL_RECORDS;
        self.stuck.is_none() && !self.full() && !emptying
    }

    /// Returns whether the pending operations have no room for another batch.
    fn full(&self) -> bool {
        self.pending.len() + BATCH_OPS_MAX > STORE_PENDING_OPS_MAX
    }

    /// Takes a batch. State for another store connection is dropped; dispatches and questions are
    /// answered at once while the store is unavailable.
    pub fn take(&mut self, batch: Batch) {
        let up = matches!(self.phase, Phase::Up);
        let current = up && batch.session == self.session;
        if self.pending.is_empty() {
            self.pending_since = self.now();
        }
        for op in batch.ops {
            let kept = match &op {
                Op::Dispatch(dispatch) => up && self.begin_dispatch(dispatch.request),
                Op::Read(_) => up,
                op => current || op.is_report(),
            };
            if kept {
                self.pending.push(op);
            } else {
                self.out.extend(not_begun(&op));
            }
        }
    }

    fn begin_dispatch(&mut self, request: u64) -> bool {
        let now = self.now();
        self.dispatches.begin(request, now)
    }

    /// Leaves only reports among the pending operations: state is forgotten, questions are answered so, and dispatches, which may have been
    /// begun, wait to be settled.
    fn keep_only_reports(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            match op {
                op if op.is_report() => self.pending.push(op),
                Op::Dispatch(dispatch) => self.dispatches.keep(dispatch),
                op => self.out.extend(not_begun(&op)),
            }
        }
    }

    /// The end is asked for, and may take so long.
    pub fn end(&mut self, left: Span) {
        self.ending = Some(Ending {
            deadline: self.now() + left,
            drained: false,
        });
    }

    /// After [`end`](Self::end): nothing more will come.
    pub fn channel_is_empty(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.drained = true;
        }
    }

    /// Returns whether the end was announced.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.ending.is_some_and(|ending| ending.drained)
    }

    /// One step, whatever happens in it.
    pub fn turn(&mut self) -> Next {
        let next = match catch_unwind(AssertUnwindSafe(|| self.step())) {
            Ok(next) => next,
            Err(payload) => self.after_panic(&words(&*payload)),
        };
        self.gauge();
        next
    }

    fn step(&mut self) -> Next {
        let now = self.now();
        self.running = None;
        if let Some(ending) = self.ending
            && (now >= ending.deadline || (ending.drained && self.pending.is_empty()))
        {
            self.finish();
        }
        match self.phase {
            Phase::Over => Next::Over,
            Phase::NameTaken => {
                self.spool_pending();
                Next::At(now + self.plan.retry)
            }
            Phase::Down(retry) => self.down(retry),
            _ => match self.connected() {
                Ok(next) => next,
                Err(error) => self.lose(&error),
            },
        }
    }

    fn down(&mut self, retry: Instant) -> Next {
        if !self.hold || self.ending.is_some() {
            self.keep_recent();
            self.spool_pending();
            self.notify();
        }
        if self.now() < retry {
            return Next::At(retry);
        }
        match self.open() {
            Ok(()) => {
                self.phase = Phase::ReplayRecent(0);
                Next::Now
            }
            Err(error) => self.lose(&error),
        }
    }

    /// Checks the connection, and opens a missing one.
    fn open(&mut self) -> Result<(), StoreError> {
        self.backend
            .get_or_insert_with(&mut self.make)
            .open()
            .map(|()| self.contact())
    }

    /// The store has just answered.
    pub(super) fn contact(&mut self) {
        self.contact = self.now();
    }

    fn connected(&mut self) -> Result<Next, StoreError> {
        if self.backend.is_none() {
            self.open()?;
        }
        let up = matches!(self.phase, Phase::Up);
        if (up || self.lease.ours()) && self.now() >= self.lease.due() {
            self.look_at_lease(false)?;
        }
        // A look at the lease may have changed the phase; what follows is one of those below all the same.
        match &self.phase {
            Phase::ReplayRecent(next) => self.replay_recent(*next),
            Phase::ReplaySpool => self.replay(),
            Phase::Settle => self.settle_dispatch(),
            Phase::Lease => {
                self.look_at_lease(false)?;
                if matches!(self.phase, Phase::Lease) {
                    self.phase = Phase::Held(HeldCursor::Start);
                }
                Ok(Next::Now)
            }
            Phase::Held(cursor) => {
                let cursor = cursor.clone();
                self.read_hosts(cursor)
            }
            Phase::Tasks(cursor) => {
                let cursor = cursor.clone();
                self.read_tasks(cursor)
            }
            Phase::Up => self.up(),
            Phase::Down(_) | Phase::NameTaken | Phase::Over => Ok(Next::Now),
        }
    }

    fn replay(&mut self) -> Result<Next, StoreError> {
        if self.spool.is_empty() {
            self.phase = Phase::Settle;
            return Ok(Next::Now);
        }
        // New ones go behind those that wait.
        self.spool_pending();
        self.replay_spooled()
    }

    fn read_hosts(&mut self, mut cursor: HeldCursor) -> Result<Next, StoreError> {
        let everyone = self.session == 0;
        let mut hosts = Vec::new();
        if let Some(backend) = &mut self.backend {
            if cursor == HeldCursor::Start {
                self.lost_data |= !backend.has_own_set()?;
            }
            backend.held(everyone, &mut cursor, &mut hosts)?;
        }
        self.contact();
        if !hosts.is_empty() {
            self.out.push(Outcome::Held(hosts));
        }
        match cursor {
            HeldCursor::End if everyone || self.tasks_unread => {
                self.phase = Phase::Tasks(HeldCursor::Start);
            }
            HeldCursor::End => self.become_available(),
            cursor => self.phase = Phase::Held(cursor),
        }
        Ok(Next::Now)
    }

    fn read_tasks(&mut self, mut cursor: HeldCursor) -> Result<Next, StoreError> {
        let mut tasks = Vec::new();
        let mut forgot_us = false;
        if let Some(backend) = &mut self.backend {
            backend.tasks(&mut cursor, &mut tasks)?;
            // The check of the lease entered this node. The tasks are not read again: had the store
            // lost its data meanwhile, those that are replayed would belong to no node.
            forgot_us = cursor == HeldCursor::End && !backend.knows_node()?;
        }
        self.contact();
        if !tasks.is_empty() {
            self.out.push(match self.session {
                0 => Outcome::Tasks(tasks),
                _ => Outcome::InheritedTasks(tasks),
            });
        }
        self.tasks_unread &= cursor != HeldCursor::End;
        match cursor {
            HeldCursor::End if forgot_us => self.rewrite(),
            HeldCursor::End => self.become_available(),
            cursor => self.phase = Phase::Tasks(cursor),
        }
        Ok(Next::Now)
    }

    fn become_available(&mut self) {
        if !self.spool.is_empty() {
            self.phase = Phase::ReplaySpool;
            return;
        }
        self.stats.reconnects.add(usize::from(self.session > 0));
        self.session = self.session.saturating_add(1);
        self.phase = Phase::Up;
        self.hold = false;
        self.stuck = None;
        self.outage = Outage::default();
        log::debug!(target: "store", "thread: up, session {}", self.session);
        self.out.push(Outcome::Up {
            session: self.session,
            lease_clear: self.lease.cleared(),
            emptied: std::mem::take(&mut self.lost_data),
        });
    }

    fn up(&mut self) -> Result<Next, StoreError> {
        let now = self.now();
        if self.ripe(now) {
            self.run_pending()?;
            return Ok(Next::Now);
        }
        if let Some(backend) = &mut self.backend
            && now >= self.sweep_due
        {
            self.sweep_due = now + Span::from_secs(STORE_SWEEP_S);
            backend.sweep(self.clock.wall())?;
            self.contact();
        }
        if self.watch_nodes()? {
            return Ok(Next::Now);
        }
        let idle = Span::from_millis(STORE_IDLE_MS);
        if self.now().since(self.contact) >= idle {
            self.open()?;
        }
        let mut due = (self.contact + idle)
            .min(self.lease.due())
            .min(self.nodes.due())
            .min(self.sweep_due);
        if self.watch()? {
            due = due.min(self.look_due);
        }
        let flush = self.pending_since + self.plan.flush;
        Ok(Next::At(match self.pending.is_empty() {
            true => due,
            false => due.min(flush),
        }))
    }

    /// Looks whether the connection has been closed, while there is something in memory that is to be on disk as soon as
    /// the store is gone. Whether that is to be done again.
    fn watch(&mut self) -> Result<bool, StoreError> {
        let now = self.now();
        let Some(backend) = self.backend.as_mut().filter(|_| !self.recent.is_empty()) else {
            return Ok(false);
        };
        if now < self.look_due {
            return Ok(true);
        }
        self.look_due = now + Span::from_millis(STORE_LOOK_MS);
        backend.look()
    }

    /// Returns whether the pending operations should be run now.
    fn ripe(&self, now: Instant) -> bool {
        let waited = now >= self.pending_since + self.plan.flush;
        let enough = self.pending.len() >= STORE_RUN_OPS_MAX;
        let hurry = enough || self.ending.is_some() || self.faults.careful(now);
        !self.pending.is_empty() && (waited || hurry)
    }

    fn look_at_lease(&mut self, forced: bool) -> Result<(), StoreError> {
        let Some(backend) = &mut self.backend else {
            return Ok(());
        };
        let up = matches!(self.phase, Phase::Up);
        // Each check enters this node among the nodes. A process that never had the lease may have
        // no other sign of a loss: its later writes are there, and the lease was due to run out.
        let watching = self.session > 0 && !self.lease.cleared();
        let forgot_us = watching && !backend.knows_node()?;
        let before = self.clock.now();
        let lease = backend.lease(forced)?;
        let after = self.clock.now();
        self.contact();
        // While it comes up, what it confirmed before it went away is still to be written again. And an answer alone does
        // not say that it has kept anything: it may have lost its data while we stood still.
        if up && matches!(lease, Lease::Ours) {
            self.recent.prune(before);
        }
        match self.lease.saw(lease, forced, before, after) {
            News::Nothing => {}
            News::ClearAndLost if up => {
                self.out.push(Outcome::LeaseClear);
                self.rewrite();
            }
            News::ClearAndLost => self.lost_data = true,
            // It was due to run out, so that it is gone says nothing of the rest.
            News::Clear if up => self.out.push(Outcome::LeaseClear),
            News::Clear => {}
            // It is written once more as it is: only what may be missing besides has to be known.
            News::Lost if matches!(self.phase, Phase::Lease) => self.lost_data = true,
            News::Lost => self.rewrite(),
            News::Dead if forced => {}
            News::Dead => self.look_at_lease(true)?,
            News::NameTaken => {
                log::error!("store: another server renews the lease of our name");
                self.keep_only_reports();
                self.out.push(Outcome::NameTaken);
                self.phase = Phase::NameTaken;
            }
            News::Contested => {
                if after >= self.contest_due {
                    self.contest_due = after + Span::from_secs(60);
                    log::error!(
                        "store: another server renews the lease of our name, which we serve"
                    );
                }
            }
        }
        match self.phase {
            Phase::Up if forgot_us => self.rewrite(),
            _ => self.lost_data |= forgot_us,
        }
        Ok(())
    }

    /// The lease is gone that was there: the rest may be as well.
    fn rewrite(&mut self) {
        log::warn!(
            "store: our entry in it has gone, since we stood still or it lost what it had: all is written anew"
        );
        self.lost_data = true;
        self.keep_only_reports();
        self.keep_recent();
        self.phase = Phase::ReplayRecent(0);
    }

    /// The store is away.
    fn lose(&mut self, error: &StoreError) -> Next {
        self.hold = false;
        if let Some(backend) = &mut self.backend {
            backend.disconnect();
        }
        self.outage.why = error.to_string();
        let retry = self.soon();
        let next = self.go_down(retry);
        self.keep_recent();
        self.spool_pending();
        self.notify();
        let hopeless = match error {
            StoreError::Refused(why) => Some(Outcome::Refused(why.clone())),
            StoreError::Damaged(why) => Some(Outcome::Damaged(why.clone())),
            StoreError::Unavailable(_) | StoreError::Broken(_) => None,
        };
        if let Some(outcome) = hopeless
            && !std::mem::replace(&mut self.outage.notified_hopeless, true)
        {
            self.out.push(outcome);
        }
        next
    }

    /// Nothing is known of the store any more: what was state is forgotten.
    fn go_down(&mut self, retry: Instant) -> Next {
        self.probed = false;
        self.nodes.interrupted();
        self.tasks_unread |= self.taking.take().is_some();
        self.lease.interrupted();
        // What was put back just before it went may have gone with its last seconds, and our set be back without it.
        let recent = Span::from_secs(RECENT_S);
        self.lost_data |= self
            .restored
            .is_some_and(|at| self.contact.since(at) <= recent);
        self.keep_only_reports();
        self.phase = Phase::Down(retry);
        Next::At(retry)
    }

    /// Time of the next attempt: servers that lost the same store do not all come at once.
    fn soon(&mut self) -> Instant {
        self.now() + self.rng.at_least(2, self.plan.retry)
    }

    /// Tells the core that the store is away: once, and again when reports can be put nowhere, or somewhere again.
    fn notify(&mut self) {
        let stuck = self.stuck.is_some();
        if self.outage.why.is_empty()
            || (self.outage.notified && self.outage.notified_stuck == stuck)
        {
            return;
        }
        self.outage.notified = true;
        self.outage.notified_stuck = stuck;
        let text = match &self.stuck {
            Some(stuck) => format!("{}; reports wait unacknowledged: {stuck}", self.outage.why),
            None => self.outage.why.clone(),
        };
        log::debug!(target: "store", "thread: away: {text}");
        self.out.push(Outcome::Away(text));
    }

    /// Handles a panic of a step. If it was one operation alone, that is set aside and nothing else
    /// is disturbed; else the store is opened again and the same operations are run again.
    fn after_panic(&mut self, text: &str) -> Next {
        let now = self.now();
        self.faults.note(now);
        self.stats.restarts.add(1);
        log::error!("store: the thread panicked and goes on: {text}");
        if let Some(backend) = self.backend.take() {
            // What has just panicked may do so again when it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(backend)));
        }
        self.answers.clear();
        let running = self.running.take();
        match self.phase {
            Phase::Over => return Next::Over,
            Phase::NameTaken => return Next::At(self.soon()),
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
        let careful = self.faults.careful(now);
        let was_pending = running.is_some_and(|running| running.source == Source::Pending);
        self.hold = was_pending || !careful;
        self.outage.why = format!("the store thread failed: {text}");
        self.notify();
        let retry = if careful { self.soon() } else { now };
        self.go_down(retry)
    }

    /// The end: everything is where it belongs, or there is no more time.
    fn finish(&mut self) {
        let connected = !matches!(self.phase, Phase::Down(_) | Phase::NameTaken | Phase::Over);
        self.phase = Phase::Over;
        self.keep_only_reports();
        self.spool_pending();
        if !self.pending.is_empty() {
            let left = self.pending.len();
            log::error!("store: ended with {left} reports neither stored nor spooled");
        }
        if let Some(backend) = &mut self.backend
            && connected
        {
            let released = match self.lease.ours() {
                true => backend.release_lease(),
                false => Ok(()),
            };
            backend.disconnect();
            if let Err(error) = released {
                log::warn!("store: the lease is not given up: {error}");
                self.keep_recent();
            }
        }
    }

    fn gauge(&self) {
        let stats = &self.stats;
        stats.state.set(match self.phase {
            Phase::ReplayRecent(_) | Phase::ReplaySpool | Phase::Settle => 0,
            Phase::Lease | Phase::Held(_) | Phase::Tasks(_) => 0,
            Phase::Up => 1,
            Phase::Down(_) => 2,
            Phase::NameTaken | Phase::Over => 3,
        });
        stats.pending_ops.set(self.pending.len() as u64);
        stats.spool_records_waiting.set(self.spool.records());
        stats.spool_bytes.set(self.spool.bytes());
        stats.spool_damaged.set(self.spool.damaged());
    }
}

/// Outcome of an operation while the store is unavailable. State has none.
fn not_begun(op: &Op) -> Option<Outcome> {
    let why = "the store is away".to_owned();
    match op {
        Op::Dispatch(dispatch) => Some(Outcome::Dispatched {
            request: dispatch.request,
            stored: Stored::Undone(why),
        }),
        Op::Read(read) => Some(Outcome::Read {
            ticket: read.ticket,
            found: Found::Nothing(why),
        }),
        _ => None,
    }
}
