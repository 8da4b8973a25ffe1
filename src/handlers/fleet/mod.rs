//! The fleet: hosts, their sessions and addresses, and the rules of coming and going.

pub(crate) mod addresses;
pub(crate) mod admission;
pub(crate) mod datagram;
pub(crate) mod hello;
pub(crate) mod host;
pub(crate) mod hosts;
pub(crate) mod mass_offline;
pub(crate) mod newcomers;
pub(crate) mod presence;
pub(crate) mod quarantine;
pub(crate) mod session;

use crate::handlers::core::Rules;
use crate::handlers::slot_set::SlotSet;
use crate::ids::{ConnId, HostId, HostRef};
use crate::time::Instant;
use crate::wheel::Wheel;

use self::addresses::Addresses;
use self::host::{Host, Peer};
use self::hosts::Hosts;
use self::mass_offline::Mass;
use self::newcomers::{Arrivals, Newcomers};
use self::quarantine::Quarantine;
use self::session::{Session, Sessions};

/// Hosts, sessions, and what decides on their presence.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) hosts: Hosts,
    pub(crate) sessions: Sessions,
    pub(crate) addresses: Addresses,
    /// Deadlines of connections, by slot.
    pub(crate) wheel: Wheel,
    pub(crate) due: Vec<u32>,
    pub(crate) mass: Mass,
    pub(crate) arrivals: Arrivals,
    pub(crate) newcomers: Newcomers,
    /// Hosts online, by slot, that came without an event of their own.
    pub(crate) untold: SlotSet,
    pub(crate) quarantine: Quarantine,
    pub(crate) inherited: Inherited,
}

/// The hosts held from before a restart.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// Time of their judgement; `None` before the store could be read.
    pub(crate) deadline: Option<Instant>,
    /// Those in the middle of a task, too, are judged then.
    pub(crate) is_last: bool,
    /// No other process can be holding them.
    pub(crate) lease_clear: bool,
}

impl Fleet {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self {
            hosts: Hosts::new(rules.hosts_max),
            sessions: Sessions::default(),
            addresses: Addresses::default(),
            wheel: Wheel::new(),
            due: Vec::new(),
            mass: Mass::new(rules.timeout),
            arrivals: Arrivals::new(rules.timeout),
            newcomers: Newcomers::default(),
            untold: SlotSet::default(),
            quarantine: Quarantine::default(),
            inherited: Inherited::default(),
        }
    }

    // Hosts.

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

    // Sessions.

    /// The session of a connection, unless it has ended.
    pub(crate) fn session(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(conn)
    }

    pub(crate) fn session_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.sessions.get_mut(conn)
    }

    /// The connection that has this slot now.
    pub(crate) fn session_at(&self, slot: u32) -> Option<(ConnId, &Session)> {
        self.sessions.at(slot)
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
        self.sessions.heard(conn, now)
    }

    /// Time of the last message of the connection in `slot`.
    pub(crate) fn last_message(&self, slot: u32, now: Instant) -> Instant {
        self.sessions.last(slot, now)
    }

    /// Has the heartbeats of a connection counted, or counted no longer.
    pub(crate) fn watch(&mut self, conn: ConnId, is_watched: bool) {
        self.sessions.watch(conn, is_watched);
    }

    /// Takes new rules. Under shorter ones every connection is looked at, from `now` on.
    pub(crate) fn set_rules(&mut self, before: &Rules, rules: &Rules, now: Instant) {
        if rules.timeout != before.timeout {
            self.mass = Mass::new(rules.timeout);
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
}
