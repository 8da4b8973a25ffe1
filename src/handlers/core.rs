//! The core: owns the parts, is driven by the reactor, and knows the next deadline.

use std::net::SocketAddr;

use crate::codec::message::{Flag, Message, Reply, ReplyRequest, Word};
use crate::codec::target::{Selection, Target};
use crate::ids::{ConnId, HostId};
use crate::keys::Access;
use crate::limits::PAGE_SCAN_MAX;
use crate::store::op::{Batch, Notice, Reason};
use crate::time::{Instant, Span};

use super::auth::{Auth, Nonces};
use super::context::{Ctx, Env, Nodes, StoreState};
use super::deadline_cache::DeadlineCache;
use super::effect::{AuditRecord, Effect, Effects, EventKind};
use super::fleet::Fleet;
use super::fleet::host::{Host, Marks};
use super::fleet::labels::LabelRules;
use super::fleet::session::Session;
use super::outbox::Outbox;
use super::outside::News;
use super::request::Datagram;
use super::stats::Stats;
use super::step::Step;
use super::survey::Surveys;
use super::tasks::Tasks;
use super::view::{Filter, HostView, Page, StoreView, view};
use super::{Flow, Input, Moment};

/// Configuration of the core. May change while it runs.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Silence after which a host is offline.
    pub timeout: Span,
    /// Time of a connection for its first valid message.
    pub first_message: Span,
    /// Longest silence of a busy plain host.
    pub working_timeout: Span,
    /// Prefix of task keys.
    pub key_prefix: String,
    /// Time for which an offline host is remembered.
    pub keep: Span,
    /// Greatest number of hosts in the table. Fixed when the core is created.
    pub hosts_max: usize,
    /// UDP port of hosts that report none.
    pub agent_port: u16,
    /// Wait for the first answer to a dispatch; each try doubles it.
    pub rto: Span,
    /// Number of sends of a task to a host, in all.
    pub tries: u32,
    /// The longest accepted result, in bytes.
    pub result_bytes: u64,
    /// Every connection shows a certificate that names its host: a bare datagram then proves
    /// nothing.
    pub certificates: bool,
    /// Seed of the random intervals between tries. Fixed when the core is created.
    pub seed: u64,
}

/// The rules of a default configuration, for a table of a thousand hosts and with a fixed seed.
impl Default for Rules {
    fn default() -> Self {
        Self {
            timeout: Span::from_secs(60),
            first_message: Span::from_secs(10),
            working_timeout: Span::from_secs(3_600),
            key_prefix: "AC".to_owned(),
            keep: Span::from_secs(7 * 86_400),
            hosts_max: 1_000,
            agent_port: 6655,
            rto: Span::from_secs(3),
            tries: 5,
            result_bytes: 1 << 20,
            certificates: false,
            seed: 1,
        }
    }
}

/// The core: hosts, sessions, tasks and pending writes, without sockets, threads and clocks.
///
/// # Order of calls
///
/// The reactor calls these methods in each turn, in this order:
///
/// 1. [`expect`](Self::expect) for each ready connection, and [`handle`](Self::handle) for each
///    input. The effects of an input are applied before the next input.
/// 2. [`tick`](Self::tick), which does what is due and returns the next deadline. Then
///    [`go_on`](Self::go_on), while requests with many hosts are under way.
/// 3. [`take_sends`](Self::take_sends), which returns datagrams and pushes to hosts.
/// 4. [`pull`](Self::pull), which returns operations for the store, until it returns `None` or the
///    store's channel is full. Their outcomes come back through `handle`.
///
/// # Other methods
///
/// - Rules and keys that change at run time: [`set_rules`](Self::set_rules),
///   [`set_access`](Self::set_access).
/// - Views, which change nothing: [`host`](Self::host), [`page`](Self::page),
///   [`store`](Self::store), [`stats`](Self::stats), [`peer`](Self::peer).
/// - The end: [`shutdown`](Self::shutdown), then turns until [`settled`](Self::settled).
#[derive(Debug)]
pub struct Core {
    pub(super) fleet: Fleet,
    pub(super) tasks: Tasks,
    pub(super) outbox: Outbox,
    pub(super) auth: Auth,
    pub(super) surveys: Surveys,
    pub(super) env: Env,
    pub(super) cache: DeadlineCache,
    #[cfg(debug_assertions)]
    pub(super) unchecked_steps: usize,
}

impl Core {
    /// Creates an empty core. `seq` is the number of its first event: above all earlier numbers of
    /// this node.
    #[must_use]
    pub fn new(rules: Rules, seq: u64) -> Self {
        Self {
            fleet: Fleet::new(&rules),
            tasks: Tasks::new(rules.seed),
            outbox: Outbox::default(),
            auth: Auth::default(),
            surveys: Surveys::default(),
            env: Env {
                rules,
                stats: Stats::default(),
                store: StoreState::Starting,
                nodes: Nodes::default(),
                had_others: false,
                seq,
                stopping: false,
                answers: Vec::new(),
            },
            cache: DeadlineCache::default(),
            #[cfg(debug_assertions)]
            unchecked_steps: 0,
        }
    }

    /// Sets the admission rules and the source of nonces. Without them every host is admitted
    /// without a key.
    #[must_use]
    pub fn with_keys(mut self, access: Access, nonces: Nonces) -> Self {
        self.auth = Auth::new(access, nonces);
        self
    }

    /// Sets the labels and groups of the configuration.
    #[must_use]
    pub fn with_labels(mut self, rules: LabelRules) -> Self {
        self.fleet.labels_mut().set_rules(rules);
        self
    }

    /// Other nodes may share the store, which is known once it has been available.
    #[must_use]
    pub const fn with_shared_store(mut self) -> Self {
        self.env.nodes = Nodes::Unknown;
        self
    }

    /// Takes new rules. A connection with a deadline of the old rules is judged by the new ones at
    /// that deadline at the latest.
    pub fn set_rules(&mut self, rules: Rules, now: Instant) {
        self.cache.invalidate();
        self.fleet.set_rules(&self.env.rules, &rules, now);
        self.env.rules = rules;
    }

    /// Takes new keys. Ends every session whose key has changed, and every plain session that would
    /// not be admitted now.
    pub fn set_access(&mut self, access: Access, at: Moment, fx: &mut Effects) {
        self.step(at, fx).set_access(access);
    }

    /// Takes the labels and groups of a configuration. All hosts get the new labels in the next
    /// steps of [`go_on`](Self::go_on).
    pub fn set_labels(&mut self, rules: LabelRules, at: Moment, fx: &mut Effects) {
        self.step(at, fx).set_labels(rules);
    }

    /// Handles an input.
    pub fn handle(&mut self, at: Moment, input: Input<'_>, fx: &mut Effects) -> Flow {
        if let Input::Message { conn, incoming } = &input
            && matches!(incoming.message, Message::Heartbeat)
            && self.fleet.is_unwatched(*conn)
            && !self.env.stopping
        {
            self.heartbeat(at, *conn, incoming.ask, fx);
            return Flow::Taken;
        }
        let flow = self.step(at, fx).handle(input);
        #[cfg(debug_assertions)]
        self.sweep_invariants();
        flow
    }

    /// Handles a heartbeat of a known host: nearly all messages are this. It touches the session's
    /// pulse and one bit of the outbox.
    fn heartbeat(&mut self, at: Moment, conn: ConnId, ask: ReplyRequest, fx: &mut Effects) {
        if ask.reply {
            let reply = Reply {
                flag: Flag::Heartbeat,
                seq: ask.seq,
                word: Word::Alive,
            };
            fx.push(Effect::Reply { conn, reply });
        }
        self.fleet.touch(conn, at.now);
        if self.outbox.note_seen(conn.slot, at.now) {
            self.cache.invalidate();
        }
        self.env.stats.count(Flag::Heartbeat);
    }

    /// Prefetches the row of a connection that probably has a message.
    pub fn expect(&self, conn: ConnId) {
        self.fleet.expect(conn);
    }

    /// Does what is due at `judge`, the horizon (never later than `at.now`), and returns the next
    /// deadline, which is later than `judge`.
    pub fn tick(&mut self, judge: Instant, at: Moment, fx: &mut Effects) -> Option<Instant> {
        if self.env.stopping {
            return None;
        }
        if let Some(next) = self.cache.next_after(judge) {
            debug_assert_eq!(next, self.next_deadline(judge), "the cache is stale");
            return next;
        }
        self.step(at, fx).tick(judge);
        #[cfg(debug_assertions)]
        self.sweep_invariants();
        let next = self.next_deadline(judge);
        // The next tick may resume a paused connection.
        if !self.outbox.has_paused() {
            self.cache.found(next, self.search_work());
        }
        next
    }

    fn next_deadline(&self, judge: Instant) -> Option<Instant> {
        let soonest = [
            self.fleet.deadline(),
            self.outbox.deadline(),
            self.tasks.deadline(),
        ];
        let next = soonest.into_iter().flatten().min()?;
        // Rounds may lag behind the horizon by nothing, but never ahead of it.
        Some(next.max(judge + Span::from_nanos(1)))
    }

    /// Continues a request that has many hosts: at most `max` of them. Returns whether there is
    /// more to do.
    pub fn go_on(&mut self, at: Moment, max: usize, fx: &mut Effects) -> bool {
        if self.has_jobs() {
            self.step(at, fx).go_on(max);
        }
        self.has_jobs()
    }

    /// Returns whether [`go_on`](Self::go_on) has work.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        self.tasks.has_jobs() || !self.surveys.is_empty() || self.fleet.labels().is_walking()
    }

    /// Returns whether the next outcome of the store may be handled. It waits while tasks of
    /// earlier outcomes are being entered or resumed by [`go_on`](Self::go_on).
    #[must_use]
    pub fn takes_outcomes(&self) -> bool {
        self.tasks.takes_outcomes()
    }

    /// Takes what is to be sent to hosts: pushes go into `fx`, datagrams into `datagrams`; at most
    /// `max` in all. Returns whether there is more.
    pub fn take_sends(
        &mut self,
        at: Moment,
        max: usize,
        datagrams: &mut Vec<Datagram>,
        fx: &mut Effects,
    ) -> bool {
        self.step(at, fx).take_sends(max, datagrams);
        self.has_sends()
    }

    /// Returns whether the send queue has entries.
    #[must_use]
    pub fn has_sends(&self) -> bool {
        self.tasks.has_sends()
    }

    /// Returns whether the host of this connection was sent a task and has not answered yet. When
    /// many answer at once they can wait for the others to be sent to.
    #[must_use]
    pub fn owes_answer(&self, conn: ConnId) -> bool {
        let host = self.fleet.session(conn).and_then(Session::host);
        let host = host.and_then(|slot| self.fleet.host(slot));
        host.is_some_and(|host| host.has(Marks::ASKED))
    }

    /// Takes at most `max` operations for the store, if there are any.
    pub fn pull(&mut self, at: Moment, max: usize) -> Option<Batch> {
        let mut fx = Effects::default();
        let batch = self.step(at, &mut fx).pull(max);
        debug_assert!(fx.list.is_empty(), "a pull has no effects");
        batch
    }

    /// Returns whether [`pull`](Self::pull) may return something.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.cache.work().unwrap_or_else(|| self.search_work())
    }

    fn search_work(&self) -> bool {
        let outbox = &self.outbox;
        outbox.has_reports()
            || (self.env.store.is_up()
                && (outbox.has_state()
                    || self.tasks.has_ops()
                    || !self.env.answers.is_empty()
                    || self.fleet.labels().has_ops()))
    }

    /// Returns whether the operations are urgent: a requester waits for them, or there are many.
    /// Presence changes and last-seen times of a few hosts are not urgent.
    #[must_use]
    pub fn has_urgent_work(&self) -> bool {
        let outbox = &self.outbox;
        outbox.has_reports()
            || (self.env.store.is_up()
                && (self.tasks.has_ops()
                    || !self.env.answers.is_empty()
                    || outbox.is_much()
                    || self.fleet.labels().has_ops()))
    }

    /// Publishes a change of a device or a target.
    pub fn announce(&mut self, at: Moment, news: News, fx: &mut Effects) {
        let mut step = self.step(at, fx);
        let stamp = step.cx.stamp();
        let (event, about, state, reason) = match &news {
            News::Device {
                name,
                state,
                reason,
            } => ("device", name.to_string(), *state, reason.clone()),
            News::Target { target, state } => ("reach", target.clone(), *state, None),
        };
        step.outbox.notice(
            &mut step.cx,
            Notice {
                event,
                about: Some(about),
                state: Some(state),
                reason,
                count: None,
                audit: None,
                stamp,
            },
        );
        step.cx.publish(stamp, EventKind::Outside(news));
    }

    /// Publishes a request over HTTP that has changed something, or was refused. `by_stranger`: its
    /// sender has no valid token, so its event pushes no other out of the recent ones.
    pub fn audit(&mut self, at: Moment, record: AuditRecord, by_stranger: bool, fx: &mut Effects) {
        let mut step = self.step(at, fx);
        let stamp = step.cx.stamp();
        let record = Box::new(record);
        step.outbox.notice(
            &mut step.cx,
            Notice {
                event: "audit",
                about: None,
                state: None,
                reason: None,
                count: record.count,
                audit: Some(record.clone()),
                stamp,
            },
        );
        step.cx
            .publish_event(stamp, EventKind::Audit(record), by_stranger);
    }

    /// Ends the long reads of a requester that is gone: it gets no answer.
    pub fn withdraw(&mut self, at: Moment, requester: u64) {
        let mut fx = Effects::default();
        let step = self.step(at, &mut fx);
        step.fleet.foreign_mut().withdraw(requester);
        step.surveys.withdraw(requester);
        step.tasks.withdraw(requester);
    }

    /// Begins the end of the server. With `offline` every host goes offline, else the presence stays
    /// as it is. After this only outcomes of the store change anything.
    pub fn shutdown(&mut self, at: Moment, offline: bool, fx: &mut Effects) {
        let mut step = self.step(at, fx);
        if offline {
            for slot in 0..step.fleet.slots() as u32 {
                let host = step.fleet.host(slot);
                if host.is_some_and(|host| host.presence.is_online()) {
                    step.go_offline(slot, Reason::Closed);
                }
            }
        }
        step.tasks.refuse_jobs(&mut step.cx);
        if !step.cx.is_starting() {
            let online = step.cx.stats.hosts_online;
            step.outbox.minutes.end(at.now, at.wall, online);
        }
        step.surveys.refuse(&mut step.cx);
        self.env.stopping = true;
    }

    /// Returns whether all operations have been sent and settled by the store; while it is
    /// unavailable, all reports.
    #[must_use]
    pub fn settled(&self) -> bool {
        let state = !self.env.store.is_up()
            || (self.outbox.is_settled()
                && self.tasks.is_settled()
                && self.fleet.labels().is_settled());
        state && self.outbox.reports_waiting() == 0
    }

    /// Returns unused memory to the allocator.
    pub fn tidy(&mut self) {
        self.fleet.trim();
        self.tasks.trim();
        self.outbox.tidy();
    }

    /// One host.
    #[must_use]
    pub fn host(&self, host: &HostId) -> Option<HostView<'_>> {
        view(&self.fleet, self.fleet.find(host)?)
    }

    /// Returns for each of `hosts` whether `target` selects it. An unknown host is not selected; a
    /// target of a group that is gone selects all, so that its owner misses nothing.
    #[must_use]
    pub fn matching(&self, target: &Target, hosts: &[HostId]) -> Vec<bool> {
        let Ok(mut selection) = Selection::new(target, self.fleet.labels().groups()) else {
            return vec![true; hosts.len()];
        };
        let facts = |host| self.fleet.facts(self.fleet.find(host)?);
        let takes = |host| facts(host).is_some_and(|facts| selection.takes(&facts));
        hosts.iter().map(takes).collect()
    }

    /// Some hosts, from `cursor` on (0 is the beginning): at most `limit`, from at most
    /// `PAGE_SCAN_MAX` examined entries. A walk over all cursors returns each host exactly once if
    /// it stays in the table.
    #[must_use]
    pub fn page(&self, filter: Filter, limit: usize, cursor: u64) -> Page<'_> {
        let reach = self.fleet.slots() as u64;
        let end = reach.min(cursor.saturating_add(PAGE_SCAN_MAX as u64));
        let mut page = Page::default();
        let mut slot = cursor;
        while slot < end && page.hosts.len() < limit {
            let wanted = |host: &&Host| filter.takes(host.presence.is_online());
            let is_wanted = self.fleet.host(slot as u32).filter(wanted).is_some();
            page.hosts
                .extend(view(&self.fleet, slot as u32).filter(|_| is_wanted));
            slot += 1;
        }
        page.next = (slot < reach).then_some(slot);
        page
    }

    /// Name of this node.
    #[must_use]
    pub fn node(&self) -> &str {
        self.fleet.labels().node()
    }

    /// Returns whether the store has hosts that this node does not know: it has other nodes, or had
    /// them since the start.
    #[must_use]
    pub fn has_foreign_hosts(&self) -> bool {
        self.env.had_others
    }

    /// State of the store.
    #[must_use]
    pub fn store(&self) -> StoreView<'_> {
        self.env.store.view()
    }

    /// Number of the store connection, while there is one: a batch carries it.
    #[must_use]
    pub fn store_session(&self) -> Option<u32> {
        let is_up = self.env.store.is_up();
        is_up.then_some(self.env.stats.store_sessions as u32)
    }

    /// Prefix of task keys.
    #[must_use]
    pub fn key_prefix(&self) -> &str {
        &self.env.rules.key_prefix
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.env.stats.clone();
        self.fleet.gauges(&mut stats);
        self.tasks.gauges(&mut stats);
        self.outbox.gauges(&mut stats);
        self.auth.gauges(&mut stats);
        stats
    }

    /// Address of the peer of `conn`.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> SocketAddr {
        self.fleet.peer(conn).address()
    }

    /// Begins a step.
    fn step<'a>(&'a mut self, at: Moment, fx: &'a mut Effects) -> Step<'a> {
        self.cache.invalidate();
        Step {
            fleet: &mut self.fleet,
            tasks: &mut self.tasks,
            outbox: &mut self.outbox,
            auth: &mut self.auth,
            surveys: &mut self.surveys,
            cx: Ctx::new(at, &mut self.env, fx),
        }
    }
}
