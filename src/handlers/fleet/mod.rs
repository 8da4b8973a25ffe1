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
use crate::ids::ConnId;
use crate::time::Instant;
use crate::wheel::Wheel;

use self::addresses::Addresses;
use self::hosts::Hosts;
use self::mass_offline::Mass;
use self::newcomers::{Arrivals, Newcomers};
use self::quarantine::Quarantine;
use self::session::Sessions;

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
}
