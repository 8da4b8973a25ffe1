//! Conclusions about plain hosts from the strict sequence of old clients: one datagram after the
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

use crate::handlers::context::Ctx;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::table::{TaskTable, is_at_work};
use crate::ids::{ConnId, HostId, TaskKey};
use crate::limits::REST_S;
use crate::store::op::TaskState;
use crate::time::{Instant, Span};

impl Tasks {
    /// Handles an accepted report of a plain host: counts its heartbeats anew, and notes the sleep
    /// after a task. Call it before the report changes any state, since that may release tries that
    /// wait for the host.
    pub(crate) fn sequence_begins(
        &mut self,
        cx: &Ctx<'_>,
        conn: ConnId,
        host: &HostId,
        leaves_nothing: bool,
    ) {
        self.work.reported(conn);
        if leaves_nothing {
            self.work.rest(host, cx.at.now + Span::from_secs(REST_S));
        }
    }

    /// Handles the start of a command of `key` on a plain host: no older command runs there any
    /// more.
    pub(crate) fn command_began(&mut self, cx: &mut Ctx<'_>, host: &HostId, key: &TaskKey) {
        let elsewhere = self.work.only(host, key);
        self.lose_deliveries(cx, host, |table, slot| {
            table.names_of(slot).is_some_and(|names| names.1 != key)
        });
        if elsewhere {
            self.release_held_of(cx, host);
        }
    }

    /// Counts a heartbeat of a connection whose heartbeats are counted. Returns whether the next
    /// ones count as well.
    pub(crate) fn counted_beat(
        &mut self,
        cx: &mut Ctx<'_>,
        conn: ConnId,
        host: &HostId,
        is_plain: bool,
    ) -> bool {
        if !is_plain
            || self
                .working_until(cx, host)
                .is_none_or(|until| until <= cx.at.now)
        {
            self.work.closed(conn);
            return false;
        }
        let is_idle = self.work.beat(conn, cx.at.now);
        if is_idle {
            self.lose_cut(cx, host);
        }
        !is_idle
    }

    /// Handles the proof that no command runs on a plain host: tasks without a report since it
    /// reconnected are lost.
    fn lose_cut(&mut self, cx: &mut Ctx<'_>, host: &HostId) {
        self.work.lose_cut(host);
        self.lose_deliveries(cx, host, |table, slot| {
            table.delivery(slot).is_some_and(|d| d.cut)
        });
        self.release_held_of(cx, host);
    }

    /// Ends all work of a host as lost: its process has ended.
    pub(crate) fn lose_work(&mut self, cx: &mut Ctx<'_>, host: &HostId) {
        self.work.forget(host);
        self.lose_deliveries(cx, host, |_, _| true);
    }

    /// Ends the selected work of a host as lost.
    fn lose_deliveries(
        &mut self,
        cx: &mut Ctx<'_>,
        host: &HostId,
        is_meant: impl Fn(&TaskTable, u32) -> bool,
    ) {
        for slot in self.working_deliveries(host) {
            if is_meant(&self.table, slot) {
                self.turn_delivery(cx, slot, TaskState::Lost, Cause::Ourselves);
            }
        }
    }

    /// The deliveries with which a host is busy.
    fn working_deliveries(&self, host: &HostId) -> Vec<u32> {
        let recipient = self.table.recipient_of(host);
        let recipient = recipient.filter(|recipient| recipient.working > 0);
        let all = recipient.into_iter().flat_map(|r| &r.deliveries);
        let working = |slot: &u32| {
            self.table
                .delivery(*slot)
                .is_some_and(|d| is_at_work(d.state))
        };
        all.map(|pair| pair.1).filter(working).collect()
    }

    /// Handles a new connection of a plain host: reports sent on the previous one may be lost.
    /// Returns whether the host is busy, so that its heartbeats are counted.
    pub(crate) fn connected_anew(&mut self, cx: &Ctx<'_>, host: &HostId) -> bool {
        self.work.cut(host);
        for slot in self.working_deliveries(host) {
            if let Some(delivery) = self.table.delivery_mut(slot) {
                delivery.cut = true;
            }
        }
        self.working_until(cx, host).is_some()
    }

    /// Returns whether any host may be busy. If not, no name need be looked up: a hundred thousand
    /// hosts may be judged at once.
    pub(crate) fn has_busy_hosts(&self) -> bool {
        !self.work.is_empty() || self.table.recipients_working() > 0
    }

    /// Time until which a host counts as busy, regardless of its heartbeats.
    pub(crate) fn working_until(&self, cx: &Ctx<'_>, host: &HostId) -> Option<Instant> {
        let elsewhere = self.work.until(host, cx.rules.working_timeout);
        elsewhere.max(self.delivering_until(host))
    }

    /// Returns whether heartbeats have shown that no command runs behind this connection.
    pub(crate) fn is_idle(&self, conn: ConnId) -> bool {
        self.work.is_idle(conn)
    }
}
