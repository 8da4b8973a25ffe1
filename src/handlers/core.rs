//! The core: one place where everything that happens comes in, and the one match over it.
//!
//! ```text
//! handle(input) ─▶ session ─▶ presence, heartbeat, progress, answer, inventory, hello ─▶ effects
//! tick(horizon) ─▶ silence, inherited hosts, the rounds of every second and every ten
//! pull()        ─▶ operations for the store
//! ```

use std::net::SocketAddr;

use crate::codec::message::{Flag, Incoming, Message, Reply, Word};
use crate::codec::{Abnormal, DecodeError};
use crate::ids::{ConnId, HostId};
use crate::limits::{AUDIT_S, PAGE_SCAN_MAX};
use crate::store::op::{Outcome, Reason, Stamp};
use crate::time::{Instant, Span};

use super::auth::Auth;
use super::deadline_cache::Calm;
use super::effect::{Effect, Effects, Event, EventKind, Note};
use super::fleet::Fleet;
use super::fleet::host::{Host, Peer, Presence};
use super::fleet::mass_offline::Mass;
use super::fleet::newcomers::Arrivals;
use super::outbox::Outbox;
use super::stats::Stats;
use super::tasks::Tasks;
use super::view::{Filter, HostView, Page, StoreView};
use super::{End, Flow, Input, Moment};

/// Interval between two writes of last-seen times.
pub(super) const SEEN_ROUND: Span = Span::from_secs(1);
/// Interval between two checks that all our hosts are in `exists`.
pub(super) const AUDIT_ROUND: Span = Span::from_secs(AUDIT_S);

/// Connections whose rows are brought into the cache together when their deadlines have come.
const LOOKED_AT_TOGETHER: usize = 32;

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
    /// Hosts in the table at most. Fixed when the core is made.
    pub hosts_max: usize,
    /// UDP port of hosts that name none of their own.
    pub agent_port: u16,
    /// Wait for the first answer to a dispatch; each try doubles it.
    pub rto: Span,
    /// Number of sends of a task to a host, in all.
    pub tries: u32,
    /// The longest result taken, in bytes.
    pub result_bytes: u64,
    /// Every connection shows a certificate that names its host: then a bare datagram proves
    /// nothing.
    pub certificates: bool,
    /// Seed of the random intervals between tries. Fixed when the core is made.
    pub seed: u64,
}

/// The core: hosts, sessions, tasks and pending writes.
///
/// The reactor drives it in this order: [`handle`](Self::handle) for each input, with the effects applied
/// after each; [`tick`](Self::tick) once a turn; [`take_sends`](Self::take_sends) and then
/// [`pull`](Self::pull) until they return nothing or their budgets are used up.
#[derive(Debug)]
pub struct Core {
    pub(super) fleet: Fleet,
    pub(super) tasks: Tasks,
    pub(super) outbox: Outbox,
    pub(super) auth: Auth,
    pub(super) rules: Rules,
    pub(super) stats: Stats,
    pub(super) store: StoreState,
    pub(super) calm: Calm,
    seq: u64,
    pub(super) stopping: bool,
}

/// State of the store.
#[derive(Debug)]
pub(super) enum StoreState {
    Starting,
    Up,
    Away(String),
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
            rules,
            stats: Stats::default(),
            store: StoreState::Starting,
            calm: Calm::default(),
            seq,
            stopping: false,
        }
    }

    /// Takes new rules. A connection whose deadline was set under the old ones is judged by the new
    /// ones at the latest when that deadline comes.
    pub fn set_rules(&mut self, rules: Rules, now: Instant) {
        self.calm.stir();
        let shorter =
            rules.timeout < self.rules.timeout || rules.first_message < self.rules.first_message;
        if rules.timeout != self.rules.timeout {
            self.fleet.mass = Mass::new(rules.timeout);
            // All online hosts count as having stayed.
            self.fleet.arrivals = Arrivals::new(rules.timeout);
        }
        self.rules = rules;
        if shorter {
            let all: Vec<ConnId> = self.fleet.sessions.iter().map(|(conn, _)| conn).collect();
            for conn in all {
                self.arm(conn, now);
            }
        }
    }

    /// Something has happened.
    pub fn handle(&mut self, at: Moment, input: Input<'_>, fx: &mut Effects) -> Flow {
        if let Input::Message { conn, incoming } = input {
            return self.message(at, conn, incoming, fx);
        }
        self.calm.stir();
        match input {
            Input::Opened { conn, peer } => self.opened(at, conn, peer, fx),
            Input::Certified { conn, name } => self.certified(at, conn, name, fx),
            Input::Revoked { conn, why } => self.revoked(at, conn, why, fx),
            Input::Message { .. } => {}
            Input::Abnormal { conn, error } => self.abnormal(at, conn, &error, fx),
            Input::Ended { conn, end } => self.ended(at, conn, end, fx),
            Input::Outcome(outcome) => self.outcome(at, outcome, fx),
            Input::Raw { conn, bytes } => return self.raw(at, conn, bytes, fx),
            Input::Datagram { from, incoming } => self.datagram(at, from, &incoming, fx),
            Input::Signed {
                from,
                incoming,
                signature,
            } => self.signed_datagram(at, from, &incoming, &signature, fx),
            Input::Ask { asker, ask } => self.ask(at, asker, ask, fx),
        }
        Flow::Taken
    }

    /// A message may be about to come by this connection: what has to be looked at for it is brought meanwhile.
    pub fn expect(&self, conn: ConnId) {
        self.fleet.sessions.expect(conn);
    }

    /// Does what is due at `judge`, the horizon (never later than `at.now`), and returns the next
    /// deadline, which is later than `judge`.
    pub fn tick(&mut self, judge: Instant, at: Moment, fx: &mut Effects) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        if let Some(next) = self.calm.next_after(judge) {
            debug_assert_eq!(next, self.next_deadline(judge), "stirred unnoticed");
            return next;
        }
        let mut due = std::mem::take(&mut self.fleet.due);
        self.fleet.wheel.expire(judge, &mut due);
        for together in due.chunks(LOOKED_AT_TOGETHER) {
            self.bring(together);
            for slot in together {
                self.look_at(*slot, judge, at, fx);
            }
        }
        due.clear();
        self.fleet.due = due;
        self.judge_inherited(judge, at, fx);
        self.look_at_deliveries(judge, at);
        self.look_at_tasks(judge, at);
        self.look_at_commands(judge);
        self.hurry_dispatches(judge, fx);
        self.hurry_reads(judge, fx);
        self.hurry_results(judge, at, fx);
        self.rounds(judge, at, fx);
        self.resume_if_plenty(at, fx);
        let next = self.next_deadline(judge);
        // The next look may resume a connection that waits for room.
        if self.outbox.writes.waiting.is_empty() {
            self.calm.found(next, self.look_for_work());
        }
        next
    }

    /// The server is about to stop. With `offline` every host goes offline, else the presence stays
    /// as it is. Nothing that comes in afterwards changes anything, but what the store answers.
    pub fn shutdown(&mut self, at: Moment, offline: bool, fx: &mut Effects) {
        if offline {
            let slots: Vec<u32> = (0..self.fleet.hosts.slots() as u32).collect();
            for slot in slots {
                if self
                    .fleet
                    .hosts
                    .get(slot)
                    .is_some_and(|host| host.presence.is_online())
                {
                    self.go_offline(slot, Reason::Closed, at, fx);
                }
            }
        }
        self.refuse_jobs(fx);
        self.calm.stir();
        self.stopping = true;
    }

    /// Returns whether all operations have been sent and settled by the store; while it is
    /// unavailable, all reports.
    #[must_use]
    pub fn settled(&self) -> bool {
        let written = !self.outbox.writes.has_state()
            && self.outbox.writes.presence_in_flight == 0
            && !self.has_states()
            && !self.tasks.restores.is_due()
            && self.tasks.dispatches.len() == 0
            && !self.has_jobs();
        let state = !matches!(self.store, StoreState::Up) || written;
        state && self.outbox.writes.reports_waiting == 0
    }

    /// Gives back the memory of what is not in use.
    pub fn tidy(&mut self) {
        self.fleet.due.shrink_to_fit();
        self.tasks.due.shrink_to_fit();
        self.outbox.writes.tidy();
    }

    /// One host.
    #[must_use]
    pub fn host(&self, host: &HostId) -> Option<HostView<'_>> {
        self.fleet.hosts.get(self.fleet.hosts.find(host)?).map(view)
    }

    /// Some hosts, from `cursor` on (0 is the beginning): at most `limit`, and no more than
    /// `PAGE_SCAN_MAX` entries examined. A walk over all cursors shows every host that was there all the
    /// while exactly once.
    #[must_use]
    pub fn page(&self, filter: Filter, limit: usize, cursor: u64) -> Page<'_> {
        let reach = self.fleet.hosts.slots() as u64;
        let end = reach.min(cursor.saturating_add(PAGE_SCAN_MAX as u64));
        let mut page = Page::default();
        let mut slot = cursor;
        while slot < end && page.hosts.len() < limit {
            let wanted = |host: &&Host| match filter {
                Filter::All => true,
                Filter::Online => host.presence.is_online(),
                Filter::Offline => !host.presence.is_online(),
            };
            page.hosts
                .extend(self.fleet.hosts.get(slot as u32).filter(wanted).map(view));
            slot += 1;
        }
        page.next = (slot < reach).then_some(slot);
        page
    }

    /// State of the store.
    #[must_use]
    pub fn store(&self) -> StoreView<'_> {
        match &self.store {
            StoreState::Starting => StoreView::Starting,
            StoreState::Up => StoreView::Up,
            StoreState::Away(why) => StoreView::Away(why),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Prefix of task keys.
    #[must_use]
    pub fn key_prefix(&self) -> &str {
        &self.rules.key_prefix
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            hosts_known: self.fleet.hosts.len() as u64,
            sessions: self.fleet.sessions.len() as u64,
            hosts_at_work: (self.tasks.work.len() + self.tasks.table.recipients_working()) as u64,
            ids_contested: self.fleet.quarantine.len() as u64,
            challenges: self.auth.keys.len().0 as u64,
            keyed_sessions: self.auth.keys.len().1 as u64,
            reports_waiting: self.outbox.writes.reports_waiting as u64,
            report_bytes_waiting: self.outbox.writes.report_bytes_waiting as u64,
            presence_behind: self.outbox.writes.hosts_behind() as u64,
            tasks_open: self.tasks.table.tasks_open() as u64,
            deliveries_open: self.tasks.table.deliveries_open() as u64,
            dispatches_waiting: self.tasks.dispatches.len() as u64,
            result_bytes_held: self.tasks.payloads.held() as u64,
            ..self.stats.clone()
        }
    }

    /// Address of the peer of `conn`.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> SocketAddr {
        self.fleet.sessions.peer(conn).address()
    }

    fn opened(&mut self, at: Moment, conn: ConnId, peer: SocketAddr, fx: &mut Effects) {
        self.fleet.sessions.open(conn, peer, at.now);
        // The earlier of the two; a connection that is examined too early gets another deadline.
        let first = self.rules.first_message.min(self.rules.timeout);
        self.arm(conn, at.now + first);
        self.narrow_unproven(conn, fx);
    }

    /// Sets the deadline at which a connection is looked at.
    fn arm(&mut self, conn: ConnId, deadline: Instant) {
        let Some(session) = self.fleet.sessions.get_mut(conn) else {
            return;
        };
        session.arm(deadline);
        self.fleet.wheel.insert(deadline, conn.slot);
    }

    fn message(
        &mut self,
        at: Moment,
        conn: ConnId,
        incoming: Incoming<'_>,
        fx: &mut Effects,
    ) -> Flow {
        if self.stopping || !self.fleet.sessions.is_open(conn) {
            return Flow::Taken;
        }
        let Incoming { message, ask } = incoming;
        if matches!(message, Message::Heartbeat) && self.fleet.sessions.is_unwatched(conn) {
            // Nearly all messages are this, and nothing else of the session is looked at for it.
            self.heartbeat(conn, ask, fx);
            self.heard(at, conn);
            self.count(Flag::Heartbeat);
            return Flow::Taken;
        }
        self.calm.stir();
        let Some(message) = self.gate(at, conn, message, ask, fx) else {
            return Flow::Taken;
        };
        let flag = message.flag();
        if let Message::Hello(hello) = message {
            self.hello(at, conn, &hello, ask, fx);
            self.count(flag);
            return Flow::Taken;
        }
        let Some(slot) = self.known(at, conn, fx) else {
            return Flow::Taken;
        };
        let incoming = Incoming { message, ask };
        let own = match incoming.message {
            Message::Progress(_) | Message::Answer(_) if self.auth.keys.has(conn) => {
                self.keep_to_own(at, conn, slot, &incoming, fx)
            }
            Message::Progress(_) | Message::Answer(_)
                if self.is_starting() && self.auth.keys.are_demanded() =>
            {
                // The store still has to say which hosts have proved a key.
                Some(self.hold(conn, slot, 0, at))
            }
            _ => None,
        };
        let flow = match incoming.message {
            _ if own.is_some() => own.unwrap_or(Flow::Taken),
            Message::Heartbeat => {
                self.heartbeat(conn, ask, fx);
                self.counted_beat(conn, slot, at);
                Flow::Taken
            }
            Message::Progress(progress) => self.progress(at, conn, slot, &progress, ask, fx),
            Message::Answer(answer) => self.answer(at, conn, slot, &answer, ask, fx),
            Message::Inventory(inventory) => self.inventory(conn, slot, &inventory, ask, fx),
            Message::Hello(_) | Message::KeyedHello(_) | Message::Proof(_) => Flow::Taken,
            Message::Book(book) => self.book(at, conn, slot, &book, ask, fx),
            Message::Result(header) => self.result(at, conn, slot, &header, ask, fx),
        };
        if flow != Flow::Wait && self.heard(at, conn) {
            self.count(flag);
        }
        flow
    }

    /// A complete valid message came by this connection. Whether it is still there.
    pub(super) fn heard(&mut self, at: Moment, conn: ConnId) -> bool {
        if !self.fleet.sessions.heard(conn, at.now) {
            return false;
        }
        if self.outbox.writes.beaten.insert(conn.slot) && self.outbox.seen_due.is_none() {
            self.outbox.seen_due = Some(at.now + SEEN_ROUND);
            self.calm.stir();
        }
        true
    }

    pub(super) fn count(&mut self, flag: Flag) {
        if let Some(place) = Flag::ALL.iter().position(|known| *known == flag) {
            self.stats.messages[place] += 1;
        }
    }

    /// Ends a connection for bad data, ours or the peer's.
    pub(super) fn abnormal(
        &mut self,
        at: Moment,
        conn: ConnId,
        error: &DecodeError,
        fx: &mut Effects,
    ) {
        let label = error.kind.label();
        if let Some(place) = Abnormal::LABELS.iter().position(|known| *known == label) {
            self.stats.abnormal[place] += 1;
        }
        let Some(session) = self.fleet.sessions.get(conn) else {
            return;
        };
        let peer = self.fleet.sessions.peer(conn).address();
        let who = match session.host().and_then(|slot| self.fleet.hosts.get(slot)) {
            Some(host) => host.id().to_string(),
            None => peer.ip().to_string(),
        };
        fx.push(Effect::Log(Note {
            level: log::Level::Warn,
            what: "abnormal",
            who,
            text: format!("{error} ({label}), from {peer}"),
        }));
        fx.push(Effect::Close { conn });
        self.end_session(conn, Reason::Abnormal, at, fx);
    }

    fn ended(&mut self, at: Moment, conn: ConnId, end: End, fx: &mut Effects) {
        if self.stopping {
            return;
        }
        let reason = match end {
            End::Closed => Reason::Closed,
            End::Reset => Reason::Reset,
            End::Dead => Reason::Timeout,
        };
        self.end_session(conn, reason, at, fx);
    }

    fn outcome(&mut self, at: Moment, outcome: Outcome, fx: &mut Effects) {
        match outcome {
            Outcome::Held(held) => self.held(at, held, fx),
            Outcome::Up {
                lease_clear,
                emptied,
                ..
            } => self.store_up(at, lease_clear, emptied, fx),
            Outcome::LeaseClear => self.fleet.inherited.lease_clear = true,
            Outcome::NameTaken => fx.push(Effect::Stop {
                status: 1,
                why: "another living server has this server.name and holds its hosts".to_owned(),
            }),
            Outcome::Refused(why) => self.store_unusable(at, 2, format!("store.url: {why}"), fx),
            Outcome::Damaged(why) => self.store_unusable(at, 1, why, fx),
            Outcome::Away(why) => self.store_away(at, why, fx),
            Outcome::Presence { ticket, settled } => self.presence_settled(ticket, settled, fx),
            Outcome::Inventory {
                origins,
                ticket,
                result,
            } => {
                self.inventory_settled(ticket, origins, result, fx);
            }
            Outcome::Seen => {
                self.outbox.writes.seen_in_flight =
                    self.outbox.writes.seen_in_flight.saturating_sub(1);
            }
            Outcome::Audited => {
                self.outbox.writes.audits_in_flight =
                    self.outbox.writes.audits_in_flight.saturating_sub(1);
            }
            Outcome::StatesWritten if matches!(self.store, StoreState::Up) => {
                self.tasks.states.settled(at.now);
            }
            Outcome::StatesWritten => {}
            Outcome::Tasks(held) => drop(self.held_tasks(at, held, fx)),
            Outcome::Inherited(held) => self.inherit_hosts(at, held, fx),
            Outcome::InheritedTasks(held) => self.inherit_tasks(at, held, fx),
            Outcome::Dispatched { request, stored } => self.dispatched(at, request, stored, fx),
            Outcome::Restored { key, stored } => self.restored(&key, &stored, fx),
            Outcome::Read { ticket, found } => self.read_settled(at, ticket, found, fx),
            Outcome::Report { origin, result } => {
                self.report_settled(at, origin, result, fx);
            }
        }
    }

    /// Brings into the cache what is needed of these connections and of their hosts. Of a hundred thousand that are due at once
    /// each is somewhere else in memory: looked at alone, each would be waited for in turn.
    fn bring(&self, slots: &[u32]) {
        let host = |slot: &u32| {
            self.fleet
                .hosts
                .get(self.fleet.sessions.at(*slot)?.1.host()?)
        };
        let online = slots.iter().filter_map(host);
        let online = online.filter(|host| host.presence.is_online()).count();
        std::hint::black_box(online);
    }

    /// A deadline of the connection in `slot` has come: is it silent, or was it heard of since?
    fn look_at(&mut self, slot: u32, judge: Instant, at: Moment, fx: &mut Effects) {
        let Some((conn, &session)) = self.fleet.sessions.at(slot) else {
            return;
        };
        if session.is_armed_after(judge) {
            return;
        }
        let last = self.fleet.sessions.last(slot, at.now);
        let deadline = match session.host() {
            None => last + self.rules.first_message,
            Some(_) if session.is_waiting() => at.now + self.rules.timeout,
            Some(host) => {
                let datagram = self
                    .fleet
                    .hosts
                    .get(host)
                    .map_or(last, |host| host.datagram());
                let silent = last.max(datagram) + self.rules.timeout;
                let may_be_silent = if session.identified {
                    None
                } else {
                    self.may_be_silent_until(conn, host, at)
                };
                match may_be_silent {
                    // Looked at again within a timeout: work may end long before it must.
                    Some(until) if until > silent && judge >= silent => {
                        until.min(judge + self.rules.timeout)
                    }
                    _ => silent,
                }
            }
        };
        if deadline > judge {
            self.arm(conn, deadline);
            return;
        }
        if session.host().is_none() {
            let peer = self.fleet.sessions.peer(conn).address();
            self.stats.speechless += 1;
            fx.push(Effect::Log(Note {
                level: log::Level::Info,
                what: "speechless",
                who: peer.ip().to_string(),
                text: format!("no valid message in time, from {peer}"),
            }));
        }
        fx.push(Effect::Close { conn });
        self.end_session(conn, Reason::Timeout, at, fx);
    }

    fn rounds(&mut self, judge: Instant, at: Moment, fx: &mut Effects) {
        if self.outbox.seen_due.is_some_and(|due| due <= judge) {
            self.outbox.seen_due = None;
            self.note_seen(at);
        }
        if self.outbox.audit_due.is_some_and(|due| due <= judge) {
            self.outbox.audit_due = Some(judge + AUDIT_ROUND);
            self.fleet.quarantine.forget(judge);
            self.fleet.newcomers.forget(judge);
            self.sum_up_new_ids(at, fx);
            self.tasks.work.expire(judge, self.rules.working_timeout);
            if self.outbox.writes.audit.is_none() {
                self.outbox.writes.audit = Some(0);
            }
        }
        if self
            .outbox
            .writes
            .sweep
            .again
            .is_some_and(|due| due <= judge)
        {
            self.outbox.writes.sweep.again = None;
            self.outbox.writes.sweep.cursor = Some(0);
            self.tasks.states.walk();
        }
    }

    fn next_deadline(&self, judge: Instant) -> Option<Instant> {
        let inherited = self
            .fleet
            .inherited
            .deadline
            .filter(|_| self.fleet.inherited.lease_clear);
        let soonest = [
            self.fleet.wheel.next(),
            self.outbox.seen_due,
            self.outbox.audit_due,
            self.outbox.writes.sweep.again,
            inherited,
            self.tasks.tries.next(),
            self.tasks.table.next_look(),
            self.tasks.commands.deadline(),
            self.tasks.dispatches.deadline(),
            self.tasks.reads.deadline(),
            self.tasks.payloads.deadline(),
        ];
        let next = soonest.into_iter().flatten().min()?;
        // Rounds may lag behind the horizon by nothing, but never ahead of it.
        Some(next.max(judge + Span::from_nanos(1)))
    }

    /// The stamp of an event that happens now.
    pub(super) fn stamp(&mut self, at: Moment) -> Stamp {
        let seq = self.seq;
        self.seq += 1;
        Stamp { at: at.wall, seq }
    }

    pub(super) fn tell(&self, stamp: Stamp, kind: EventKind, fx: &mut Effects) {
        fx.push(Effect::Tell(Event { stamp, kind }));
    }

    pub(super) fn reply(
        &self,
        conn: ConnId,
        flag: Flag,
        seq: Option<u64>,
        word: Word,
        fx: &mut Effects,
    ) {
        fx.push(Effect::Reply {
            conn,
            reply: Reply { flag, seq, word },
        });
    }
}

fn view(host: &Host) -> HostView<'_> {
    let rest = host.rest();
    let peer = host.peer();
    HostView {
        id: host.id(),
        ip: (peer != Peer::UNKNOWN).then(|| peer.ip()),
        online: host.presence.is_online(),
        reason: match host.presence {
            Presence::Offline(reason) => reason,
            Presence::Online | Presence::Inherited => None,
        },
        since: host.since,
        last_seen: host.seen,
        hostname: rest.and_then(|rest| rest.hostname.as_deref()),
        mac: rest.and_then(|rest| rest.mac.as_deref()),
        ipv4: rest.map_or(&[], |rest| &rest.addresses),
    }
}
