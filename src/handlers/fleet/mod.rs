//! The fleet: hosts, their sessions and addresses, and the rules of their presence.

pub(crate) mod addresses;
pub(crate) mod admission;
pub(crate) mod facts;
pub(crate) mod foreign;
pub(crate) mod history;
pub(crate) mod host;
pub(crate) mod hosts;
#[cfg(any(test, fuzzing, debug_assertions))]
pub(crate) mod invariants;
pub(crate) mod inventory;
pub(crate) mod labels;
pub(crate) mod mass_offline;
pub(crate) mod newcomers;
pub(crate) mod presence;
pub(crate) mod quarantine;
pub(crate) mod reached;
pub(crate) mod session;
pub(crate) mod takeover;

use std::net::SocketAddr;

use crate::handlers::context::Ctx;
use crate::handlers::core::Rules;
use crate::handlers::slot_set::SlotSet;
use crate::handlers::stats::Stats;
use crate::ids::{ConnId, HostId, HostRef};
use crate::limits::TRANSITIONS_AHEAD_MS_MAX;
use crate::store::op::{Transition, Was};
use crate::time::{Instant, Span, UnixMs};
use crate::wheel::Wheel;

use self::addresses::Addresses;
use self::foreign::Foreign;
use self::history::History;
use self::host::{Host, Peer, Presence};
use self::hosts::HostTable;
use self::labels::Labels;
use self::mass_offline::MassOffline;
use self::newcomers::{Arrivals, Newcomers};
use self::presence::wall_of;
use self::quarantine::Quarantine;
use self::session::{Session, Sessions, Turn};

/// Hosts, sessions, and the data that decide on their presence.
#[derive(Debug)]
pub(crate) struct Fleet {
    hosts: HostTable,
    sessions: Sessions,
    addresses: Addresses,
    /// Deadlines of connections, by slot.
    wheel: Wheel,
    due: Vec<u32>,
    mass_offline: MassOffline,
    arrivals: Arrivals,
    newcomers: Newcomers,
    /// Online hosts, by slot, that came online without an event of their own.
    unannounced: SlotSet,
    quarantine: Quarantine,
    inherited: Inherited,
    labels: Labels,
    foreign: Foreign,
    /// Past transitions.
    history: History,
    /// Number of hosts whose offline event is still to be reported.
    unreported: u64,
}

/// The hosts held from before a restart.
#[derive(Debug, Default)]
struct Inherited {
    /// Deadline of their judgement; `None` before the first reading of the store.
    deadline: Option<Instant>,
    /// The deadline also applies to hosts in the middle of a task.
    is_last: bool,
    /// No other process can hold them any more.
    lease_clear: bool,
}

impl Fleet {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self {
            hosts: HostTable::new(rules.hosts_max),
            sessions: Sessions::default(),
            addresses: Addresses::default(),
            wheel: Wheel::new(),
            due: Vec::new(),
            mass_offline: MassOffline::new(rules.timeout),
            arrivals: Arrivals::new(rules.timeout),
            newcomers: Newcomers::default(),
            unannounced: SlotSet::default(),
            quarantine: Quarantine::default(),
            inherited: Inherited::default(),
            labels: Labels::default(),
            foreign: Foreign::default(),
            history: History::default(),
            unreported: 0,
        }
    }

    // Hosts.

    /// Hosts of other nodes.
    pub(crate) fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    pub(crate) fn foreign_mut(&mut self) -> &mut Foreign {
        &mut self.foreign
    }

    /// The host in this slot, if there is one.
    pub(crate) fn host(&self, slot: u32) -> Option<&Host> {
        self.hosts.get(slot)
    }

    pub(crate) fn host_mut(&mut self, slot: u32) -> Option<&mut Host> {
        self.hosts.get_mut(slot)
    }

    /// The slot of the host of this name.
    pub(crate) fn find(&self, id: &HostId) -> Option<u32> {
        self.hosts.find(id)
    }

    pub(crate) fn reference(&self, slot: u32) -> Option<HostRef> {
        self.hosts.reference(slot)
    }

    pub(crate) fn resolve(&self, host: HostRef) -> Option<u32> {
        self.hosts.resolve(host)
    }

    /// Slots in use or free: the range of a walk over all hosts.
    pub(crate) fn slots(&self) -> usize {
        self.hosts.slots()
    }

    pub(crate) fn id(&self, slot: u32) -> Option<HostId> {
        self.hosts.get(slot).map(Host::id)
    }

    /// State of a host as a transition; none for a host that has never been online or offline.
    pub(crate) fn present(&self, slot: u32) -> Option<Transition> {
        let host = self.hosts.get(slot).filter(|host| host.since.0 > 0)?;
        let was = match host.presence {
            Presence::Online | Presence::Inherited => Was::Online,
            Presence::Offline(reason) => Was::Offline(reason),
        };
        Some(Transition::new(host.since, was))
    }

    /// Records the state that a host is about to leave. Returns the time of its next state: now, or
    /// a millisecond after the state that it leaves. Transitions are stored sorted by time, so that no
    /// two of one host may have the same.
    pub(crate) fn leave_state(&mut self, slot: u32, now: UnixMs) -> UnixMs {
        let Some(left) = self.present(slot) else {
            return now;
        };
        self.history.push(slot, left);
        match left.at().0.checked_sub(now.0) {
            Some(ahead) if ahead < TRANSITIONS_AHEAD_MS_MAX => UnixMs(left.at().0 + 1),
            // The clock was set back, or it has gone on.
            _ => now,
        }
    }

    /// Transitions of a host before its present state.
    pub(crate) fn past(&self, slot: u32) -> &[Transition] {
        self.history.of(slot)
    }

    pub(crate) fn gauges(&self, stats: &mut Stats) {
        stats.hosts_known = self.hosts.len() as u64;
        stats.sessions = self.sessions.len() as u64;
        stats.ids_contested = self.quarantine.len() as u64;
    }

    // Labels.

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    pub(crate) fn labels_mut(&mut self) -> &mut Labels {
        &mut self.labels
    }

    // Sessions.

    /// Opens a session.
    pub(crate) fn open(&mut self, cx: &Ctx<'_>, conn: ConnId, peer: SocketAddr) {
        self.sessions.open(conn, peer, cx.at.now);
        // The earlier of the two; a connection that is examined too early gets another deadline.
        let first = cx.rules.first_message.min(cx.rules.timeout);
        self.arm(conn, cx.at.now + first);
    }

    /// Prefetches the pulse of a connection that probably has a message.
    pub(crate) fn expect(&self, conn: ConnId) {
        self.sessions.expect(conn);
    }

    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.sessions.is_open(conn)
    }

    /// Returns whether the connection has a host, and its heartbeats are not counted.
    pub(crate) fn is_unwatched(&self, conn: ConnId) -> bool {
        self.sessions.is_unwatched(conn)
    }

    #[cfg(debug_assertions)]
    pub(crate) fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Name of the host of a connection, or its address before it has one.
    pub(crate) fn name_of(&self, conn: ConnId) -> String {
        let host = self.sessions.get(conn).and_then(Session::host);
        match host.and_then(|slot| self.hosts.get(slot)) {
            Some(host) => host.id().to_string(),
            None => self.sessions.peer(conn).ip().to_string(),
        }
    }

    /// The session of a connection, unless it has ended.
    pub(crate) fn session(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(conn)
    }

    /// Returns the place of a connection among those that wait for room. `None` if it has ended.
    pub(crate) fn take_turn(&mut self, conn: ConnId) -> Option<Turn> {
        let session = self.sessions.get_mut(conn)?;
        Some(std::mem::take(&mut session.turn))
    }

    /// Pauses a connection, which is not read meanwhile. Returns whether it is still open.
    pub(crate) fn pause(&mut self, conn: ConnId) -> bool {
        let session = self.sessions.get_mut(conn);
        session
            .map(|session| session.turn = Turn::Waiting)
            .is_some()
    }

    /// Resumes a paused connection. Returns whether it is still open.
    pub(crate) fn resume(&mut self, cx: &mut Ctx<'_>, conn: ConnId, turn: Turn) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else {
            return false;
        };
        session.turn = turn;
        // A paused connection was not read, so its silence does not count.
        self.sessions.touch(conn, cx.at.now);
        cx.resume(conn);
        true
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = (ConnId, &Session)> {
        self.sessions.iter()
    }

    /// Peer of a connection; an unknown address if it has ended.
    pub(crate) fn peer(&self, conn: ConnId) -> Peer {
        self.sessions.peer(conn)
    }

    /// Notes that a connection is alive. Returns whether it is still open.
    pub(crate) fn touch(&mut self, conn: ConnId, now: Instant) -> bool {
        self.sessions.touch(conn, now)
    }

    /// The host of the connection in `slot`, and the time of its last message.
    pub(crate) fn last_seen(&self, cx: &Ctx<'_>, slot: u32) -> Option<(HostId, UnixMs)> {
        let (_, session) = self.sessions.at(slot)?;
        let host = self.hosts.get(session.host()?)?;
        Some((
            host.id(),
            wall_of(self.sessions.last(slot, cx.at.now), cx.at),
        ))
    }

    /// Time since the last message of a host on the connection with its id, or since its last at all if
    /// it has gone. A plain host that is online counts as not silent.
    pub(crate) fn silence(&self, cx: &Ctx<'_>, slot: u32) -> Span {
        let Some(host) = self.hosts.get(slot) else {
            return Span::ZERO;
        };
        match host.identified() {
            Some(conn) => cx.at.now.since(self.sessions.last(conn.slot, cx.at.now)),
            None if host.presence.is_online() => Span::ZERO,
            None => Span::from_millis(cx.at.wall.0.saturating_sub(host.seen.0)),
        }
    }

    /// Notes in its row when the host of the connection in `slot` sent its last message.
    pub(crate) fn note_last_seen(&mut self, cx: &Ctx<'_>, slot: u32) {
        let host = self.sessions.at(slot).and_then(|(_, s)| s.host());
        if let Some(host) = host.and_then(|host| self.hosts.get_mut(host)) {
            let last = self.sessions.last(slot, cx.at.now);
            host.seen = host.seen.max(wall_of(last, cx.at));
        }
    }

    /// Sets whether the heartbeats of a connection are counted.
    pub(crate) fn watch(&mut self, conn: ConnId, is_watched: bool) {
        self.sessions.watch(conn, is_watched);
    }

    /// Takes new rules. With a shorter timeout every connection gets an earlier deadline.
    pub(crate) fn set_rules(&mut self, before: &Rules, rules: &Rules, now: Instant) {
        if rules.timeout != before.timeout {
            self.mass_offline = MassOffline::new(rules.timeout);
            // All online hosts count as having stayed.
            self.arrivals = Arrivals::new(rules.timeout);
        }
        if rules.timeout < before.timeout || rules.first_message < before.first_message {
            let all: Vec<ConnId> = self.sessions.iter().map(|(conn, _)| conn).collect();
            for conn in all {
                self.arm(conn, now);
            }
        }
    }

    /// Sets the deadline at which a connection is looked at.
    pub(crate) fn arm(&mut self, conn: ConnId, deadline: Instant) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.arm(deadline);
            self.wheel.insert(deadline, conn.slot);
        }
    }

    /// Returns whether this host is online, also if it is held from before a restart.
    pub(crate) fn is_online(&self, host: &HostId) -> bool {
        let found = self.hosts.find(host).and_then(|slot| self.hosts.get(slot));
        found.is_some_and(|host| host.presence.is_online())
    }

    /// Returns whether an online host is a plain one: it has given no id.
    pub(crate) fn is_plain(&self, slot: u32) -> bool {
        let host = self.hosts.get(slot);
        host.is_some_and(|host| host.identified().is_none())
    }

    /// Takes the connections whose deadlines have come by `judge`.
    pub(crate) fn expire(&mut self, judge: Instant) -> Vec<u32> {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(judge, &mut due);
        due
    }

    /// Returns the buffer of [`expire`](Self::expire).
    pub(crate) fn recycle(&mut self, mut due: Vec<u32>) {
        due.clear();
        self.due = due;
    }

    /// Drops data that are expired at `judge`: counts of new ids, claims on ids.
    pub(crate) fn clean(&mut self, judge: Instant) {
        self.quarantine.forget(judge);
        self.newcomers.forget(judge);
    }

    #[cfg(test)]
    pub(crate) fn deadlines_len(&self) -> usize {
        self.wheel.len()
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let soonest = [self.wheel.next(), self.inherited_deadline()];
        soonest.into_iter().flatten().min()
    }

    /// Returns unused memory to the allocator.
    pub(crate) fn trim(&mut self) {
        self.due.shrink_to_fit();
        self.history.trim();
    }
}
