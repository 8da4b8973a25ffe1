//! Conclusions for plain hosts from the way old clients work: strictly in sequence, one datagram after the
//! other, one command after the other.
//!
//! ```text
//!   datagram ─▶ RCC 1 ─▶ phase 1 ─▶ phase 2, command, phase 3, 5 s of sleep ─▶ … ─▶ next datagram
//!                                   └─ send lock held: no heartbeat ─┘
//! ```
//!
//! - After a report with nothing remaining the host still sleeps: it is sent nothing again meanwhile.
//! - A command that begins shows that nothing older runs any more.
//! - A finished task that is reported on again is running once more: the host may be silent.
//! - Heartbeats without reports show that no command runs; tasks without a report since the host
//!   connected are lost then.

use std::net::IpAddr;

use crate::codec::message::Phase;
use crate::ids::{ConnId, HostId, TaskKey};
use crate::limits::REST_S;
use crate::store::op::TaskState;
use crate::time::{Instant, Span};

use crate::handlers::fleet::host::Host;
use crate::handlers::step::Step;
use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::table::is_at_work;

impl Step<'_> {
    /// Returns whether an online host is a plain one: it has given no id.
    pub(crate) fn is_sequential(&self, slot: u32) -> bool {
        let host = self.fleet.hosts.get(slot);
        host.is_some_and(|host| host.identified().is_none())
    }

    /// Handles an accepted report of a plain host: counts its heartbeats anew, and notes the sleep
    /// after a task. Call it before the report changes any state, since that may release tries that
    /// wait for the host.
    pub(crate) fn sequence_begins(&mut self, conn: ConnId, slot: u32, leaves_nothing: bool) {
        if !self.is_sequential(slot) {
            return;
        }
        self.tasks.work.reported(conn);
        self.fleet.sessions.watch(conn, true);
        if leaves_nothing && let Some(host) = self.fleet.hosts.reference(slot) {
            self.tasks
                .work
                .rest(host, self.cx.at.now + Span::from_secs(REST_S));
        }
    }

    /// An ADH27 of a host has been applied to its state in the task: what it shows of other tasks.
    pub(crate) fn sequence_goes_on(
        &mut self,
        slot: u32,
        host: &HostId,
        key: &TaskKey,
        phase: Phase,
    ) {
        if phase != Phase::Began || !self.is_sequential(slot) {
            return;
        }
        let elsewhere = self.fleet.hosts.reference(slot);
        let elsewhere = elsewhere.is_some_and(|host| self.tasks.work.only(host, key));
        self.lose_deliveries(host, |core, slot| {
            core.tasks
                .table
                .names_of(slot)
                .is_some_and(|names| names.1 != key)
        });
        if elsewhere {
            self.release_held_of(host);
        }
    }

    /// A host reports on a task that it has finished already. A plain one runs its commands once more: it is at work
    /// until nothing is left, and its state stays what it is.
    pub(crate) fn runs_again(&mut self, slot: u32, key: &TaskKey, is_left: bool) {
        if self.is_sequential(slot) {
            self.work_elsewhere(slot, key, is_left);
        }
    }

    /// A heartbeat by a connection whose heartbeats are counted.
    pub(crate) fn counted_beat(&mut self, conn: ConnId, slot: u32) {
        let is_busy = self
            .working_until(slot)
            .is_some_and(|until| until > self.cx.at.now);
        if !is_busy || !self.is_sequential(slot) {
            self.tasks.work.closed(conn);
            self.fleet.sessions.watch(conn, false);
        } else if self.tasks.work.beat(conn, self.cx.at.now) {
            self.fleet.sessions.watch(conn, false);
            self.lose_cut(slot);
        }
    }

    /// No command is under way on a plain host: what it has not reported on since it connected anew is lost.
    fn lose_cut(&mut self, slot: u32) {
        let Some(host) = self.fleet.hosts.get(slot).map(Host::id) else {
            return;
        };
        if let Some(reference) = self.fleet.hosts.reference(slot) {
            self.tasks.work.lose_cut(reference);
        }
        self.lose_deliveries(&host, |core, slot| {
            core.tasks.table.delivery(slot).is_some_and(|d| d.cut)
        });
        self.release_held_of(&host);
    }

    /// Ends the selected work of a host as lost.
    pub(crate) fn lose_deliveries(&mut self, host: &HostId, is_meant: impl Fn(&Self, u32) -> bool) {
        let Some(recipient) = self.tasks.table.recipient_of(host) else {
            return;
        };
        if recipient.working == 0 {
            return;
        }
        let all: Vec<u32> = recipient.deliveries.iter().map(|pair| pair.1).collect();
        for slot in all {
            let state = self
                .tasks
                .table
                .delivery(slot)
                .map(|delivery| delivery.state);
            if state.is_some_and(is_at_work) && is_meant(self, slot) {
                self.turn_delivery(slot, TaskState::Lost, Cause::Ourselves);
            }
        }
    }

    /// A plain connection has become one of a host's: reports by the one before may be lost, and the heartbeats
    /// by this one are counted as long as the host is at work.
    pub(crate) fn connected_anew(&mut self, conn: ConnId, slot: u32) {
        if let Some(reference) = self.fleet.hosts.reference(slot) {
            self.tasks.work.cut(reference);
        }
        if self.tasks.table.recipients_working() > 0
            && let Some(host) = self.fleet.hosts.get(slot).map(Host::id)
        {
            self.cut_deliveries(&host);
        }
        if self.working_until(slot).is_some() {
            self.fleet.sessions.watch(conn, true);
        }
    }

    fn cut_deliveries(&mut self, host: &HostId) {
        let recipient = self.tasks.table.recipient_of(host);
        let working = recipient.filter(|recipient| recipient.working > 0);
        let all: Vec<u32> = working
            .into_iter()
            .flat_map(|recipient| recipient.deliveries.iter().map(|pair| pair.1))
            .collect();
        for slot in all {
            if let Some(delivery) = self.tasks.table.delivery_mut(slot) {
                delivery.cut = true;
            }
        }
    }

    /// The tasks of before a restart are known. Every connection is a new one.
    pub(crate) fn watch_those_at_work(&mut self) {
        if self.tasks.table.recipients_working() == 0 {
            return;
        }
        let all: Vec<(ConnId, u32)> = self
            .fleet
            .sessions
            .iter()
            .filter(|(_, session)| !session.identified)
            .filter_map(|(conn, session)| Some((conn, session.host()?)))
            .collect();
        for (conn, slot) in all {
            if self.working_until(slot).is_some() {
                self.fleet.sessions.watch(conn, true);
            }
        }
    }

    /// Time until which the host counts as busy, whatever its heartbeats show.
    pub(crate) fn working_until(&self, slot: u32) -> Option<Instant> {
        let reference = self.fleet.hosts.reference(slot)?;
        let elsewhere = self
            .tasks
            .work
            .until(reference, self.cx.rules.working_timeout);
        if self.tasks.table.recipients_working() == 0 {
            // No name is looked up without need: a hundred thousand hosts may be judged at once.
            return elsewhere;
        }
        elsewhere.max(self.delivering_until(&self.fleet.hosts.get(slot)?.id()))
    }

    /// Time until which the host of a plain connection may be silent.
    pub(crate) fn may_be_silent_until(&mut self, conn: ConnId, slot: u32) -> Option<Instant> {
        let until = self
            .working_until(slot)
            .filter(|until| *until > self.cx.at.now)?;
        if self.tasks.work.is_idle(conn) {
            return None;
        }
        // One whose answer came by datagram, or by another connection.
        self.fleet.sessions.watch(conn, true);
        Some(until)
    }

    /// Returns whether a host held over a restart has more time to come back: a plain one in the
    /// middle of a command does not notice before its command ends.
    pub(crate) fn may_come_back_late(&self, slot: u32) -> bool {
        // Only a host's own address may be an id that reads as one.
        let is_plain = |host: &Host| host.id().as_str().parse::<IpAddr>().is_ok();
        let until = self.working_until(slot);
        self.fleet.hosts.get(slot).is_some_and(is_plain)
            && until.is_some_and(|until| until > self.cx.at.now)
    }
}
