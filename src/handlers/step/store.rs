//! The store: operations for it, a batch a turn, and its outcomes for presence.

use crate::handlers::context::{Nodes, StoreState};
use crate::handlers::effect::Effect;
use crate::handlers::fleet::admission::NO_ROW;
use crate::handlers::fleet::host::{Host, Marks, Presence as HostPresence};
use crate::handlers::outbox::Presence;
use crate::handlers::outbox::changes::{Became, Change};
use crate::handlers::step::Step;
use crate::ids::HostRef;
use crate::limits::HOSTS_PER_OP_MAX;
use crate::store::op::{Batch, Op, Reason, Settled};
use crate::time::Instant;

impl Step<'_> {
    /// Takes at most `max` operations for the store, if there are any.
    pub(crate) fn pull(&mut self, max: usize) -> Option<Batch> {
        let mut ops = Vec::new();
        if self.cx.is_store_up() {
            self.outbox.take_notices(max, &mut ops);
            self.outbox.take_minutes(max, &mut ops);
            self.tasks.take_dispatches(max, &mut ops);
            // Half is left for reports, so that neither starves the other.
            let room = if self.outbox.has_reports() {
                max / 2
            } else {
                max
            };
            // First, since it may queue changes.
            self.take_audit(room, &mut ops);
            // Before any of them can be online again.
            self.outbox.take_unknown(room, &mut ops);
            self.take_presence(room, &mut ops);
            self.outbox.take_forgotten(room, &mut ops);
            self.take_inventories(room, &mut ops);
            self.take_labels(room, &mut ops);
            let last_seen = |slot| self.fleet.last_seen(&self.cx, slot);
            self.outbox.take_seen(room, &mut ops, last_seen);
        }
        let room = max.saturating_sub(ops.len());
        self.outbox.take_reports(room, &mut ops);
        // A state is not sent before the reports that led to it, and a question not before earlier
        // operations.
        if self.cx.is_store_up() && !self.outbox.has_reports() {
            self.tasks.post_answers(&mut self.cx);
            self.tasks.take_ops(self.cx.at.now, max, &mut ops);
        }
        let session = self.cx.stats.store_sessions as u32;
        (!ops.is_empty()).then_some(Batch { session, ops })
    }

    fn take_presence(&mut self, max: usize, ops: &mut Vec<Op>) {
        let mut looks = 0;
        while ops.len() < max
            && let Some(next) = self.outbox.next_presence(self.fleet.slots(), &mut looks)
        {
            match next {
                Presence::Change(slot, change) => {
                    let ticket = self.fleet.reference(slot);
                    let past = self.fleet.past(slot).to_vec();
                    let silent = self.fleet.silence(&self.cx, slot);
                    if let Some((ticket, host)) = ticket.zip(self.fleet.host_mut(slot)) {
                        let op = (self.outbox).presence_op(ticket, host, change, past, silent);
                        ops.push(op);
                    }
                }
                Presence::Sweep(slot) => self.sweep(slot),
            }
        }
    }

    fn take_inventories(&mut self, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max
            && let Some(slot) = self.outbox.next_inventory()
        {
            let inventory = self.fleet.inventory_to_write(slot);
            ops.extend(inventory.map(|inventory| Op::Inventory(Box::new(inventory))));
        }
    }

    /// Takes the next hosts to be checked in `exists`. On the way, refused writes are repeated, and
    /// hosts that have been offline for too long are forgotten.
    fn take_audit(&mut self, max: usize, ops: &mut Vec<Op>) {
        if ops.len() >= max {
            return;
        }
        let end = self.fleet.slots() as u32;
        let Some(mut slots) = self.outbox.audit_slots(end) else {
            return;
        };
        let mut hosts = Vec::new();
        while hosts.len() < HOSTS_PER_OP_MAX
            && let Some(slot) = slots.next()
        {
            let Some(host) = self.fleet.host(slot) else {
                continue;
            };
            // A host with a pending change may not be claimed, and would stay in `exists`.
            let behind = self.outbox.is_behind(slot);
            if host.presence.is_online() && host.has(Marks::TOLD_ONLINE) && !behind {
                // Beside other nodes the renewals check the claim first.
                if !self.cx.has_other_nodes() {
                    hosts.push(host.id());
                }
            } else if self.outbox.was_refused(slot, host) {
                // An online has its event already, which is written beside the rest; that of an
                // offline comes last of all.
                match host.presence.is_online() {
                    true => self.rewrite(slot),
                    false => self.sweep(slot),
                }
            } else if !behind && self.is_outdated(host) {
                self.forget_host(slot);
            }
        }
        self.outbox.audited(slots.start, end, hosts, ops);
    }

    /// Returns whether a host has been offline for so long that it is forgotten. An id that has proved a
    /// key stays while a task names it: a plain host could take the forgotten id, and read the book.
    fn is_outdated(&self, host: &Host) -> bool {
        let last = host.since.max(host.seen);
        let settled = !host.has(Marks::TOLD_ONLINE)
            && !host.has(Marks::IN_FLIGHT)
            && !host.has(Marks::IN_DOUBT);
        let old = self.cx.at.wall.0.saturating_sub(last.0) > self.cx.rules.keep.as_millis();
        let is_named = host.has(Marks::KEYED) && self.tasks.name_host(&host.id());
        !host.presence.is_online() && settled && old && !is_named
    }

    /// Writes a host before it changes, if the sweep has not reached it yet: its next event then
    /// refers to the stored state.
    pub(super) fn sweep_early(&mut self, slot: u32) {
        if self.cx.is_store_up() && self.outbox.is_sweep_before(slot) {
            self.sweep(slot);
        }
    }

    /// Queues a write of a host's current presence.
    fn sweep(&mut self, slot: u32) {
        let is_unannounced = self.fleet.is_unannounced(slot);
        let Some(host) = self.fleet.host_mut(slot) else {
            return;
        };
        self.outbox.sweep(&mut self.cx, slot, host, is_unannounced);
        // The store has never had it, so there is nothing to confirm.
        if let HostPresence::Offline(reason) = host.presence
            && host.is_unreported()
            && !self.outbox.is_behind(slot)
        {
            let stamp = (!is_unannounced).then(|| self.cx.stamp());
            let change = Change {
                to: Became::Offline(reason.unwrap_or(Reason::Lost)),
                since: host.since,
                event: stamp.map(|stamp| stamp.seq),
                waits: false,
            };
            self.report(slot, change);
        }
    }

    /// Writes a host that is online again, without an event.
    pub(super) fn rewrite(&mut self, slot: u32) {
        if let Some(host) = self.fleet.host(slot) {
            let change = Change {
                to: Became::Online,
                since: host.since,
                event: None,
                waits: false,
            };
            self.outbox.write(&self.cx, slot, host, change);
        }
    }

    /// Does what is due at `judge` every second and every ten.
    pub(super) fn rounds(&mut self, judge: Instant) {
        let due = self.outbox.take_due(judge);
        if due.flush {
            for slot in self.outbox.seen_slots() {
                self.fleet.note_last_seen(&self.cx, slot);
            }
            self.outbox.flush_seen(self.cx.is_store_up());
        }
        if due.renewal && self.cx.has_other_nodes() && self.cx.is_store_up() {
            self.outbox.begin_sweep();
        }
        if due.audit {
            if self.cx.is_store_up() {
                self.outbox.age_releases();
            }
            self.fleet.clean(judge);
            self.tidy_foreign(judge);
            self.sum_up_events();
            self.tasks.expire_work(&self.cx, judge);
        }
        if due.sweep {
            self.tasks.rewrite_states();
        }
        if due.count {
            let online = self.cx.stats.hosts_online;
            let at = self.cx.at;
            self.outbox.minutes.count(judge, at.wall, online);
        }
    }

    /// Handles an available store: it can be read and written, and its record of our hosts has been
    /// read.
    pub(super) fn store_up(&mut self, lease_clear: bool, lost_data: bool) {
        self.forget_flights();
        let is_first = self.cx.is_starting();
        self.outbox.begin(self.cx.at.now, is_first);
        if is_first {
            let deadline = self.cx.at.now + self.cx.rules.timeout;
            self.fleet.set_inherited_deadline(deadline);
        }
        if lease_clear {
            self.fleet.clear_lease();
        }
        self.cx.stats.store_sessions += 1;
        if lost_data && !is_first {
            self.fleet.labels_mut().rewrite();
        }
        self.tasks.store_up(&self.cx, lost_data);
        self.resume_settled();
        if !self.cx.is_store_up() {
            let inherited = self.cx.stats.hosts_inherited;
            let text = format!("up; {inherited} hosts held from before");
            self.cx.log(log::Level::Info, "store", "store", text);
        }
        *self.cx.store = StoreState::Available;
        if is_first {
            self.resume_tasks();
            self.watch_busy_hosts();
            self.resume_results();
        }
    }

    /// Takes the list of the other nodes that share the store.
    pub(super) fn nodes_changed(&mut self, are_several: bool) {
        *self.cx.had_others |= are_several;
        *self.cx.nodes = match are_several {
            true => Nodes::Several,
            false => Nodes::Alone,
        };
        self.tasks.nodes_changed(&self.cx);
        self.resume_settled();
    }

    /// Handles a store that does not answer.
    pub(super) fn store_away(&mut self, why: String) {
        self.report_unconfirmed();
        self.forget_flights();
        self.outbox.interrupt();
        let text = format!("away: {why}");
        self.cx.log(log::Level::Warn, "store", "store", text);
        self.tasks.store_away(&mut self.cx);
        self.fail_foreign("the store is unavailable");
        self.resume_settled();
        self.interrupt_labels();
        *self.cx.store = StoreState::Unavailable(why);
    }

    /// Handles an unusable store: it refuses us, or is damaged. A server that has never used it
    /// ends with `status`; any other continues without it.
    pub(super) fn store_unusable(&mut self, status: u8, why: String) {
        if self.cx.is_starting() {
            self.cx.fx.push(Effect::Stop { status, why });
        } else {
            self.store_away(why);
        }
    }

    /// Forgets the presence operations that are with the store.
    fn forget_flights(&mut self) {
        for slot in 0..self.fleet.slots() as u32 {
            if let Some(host) = self.fleet.host_mut(slot) {
                self.outbox.forget_flight(slot, host);
            }
        }
    }

    /// Settles an `Online` or `Offline`.
    pub(super) fn presence_settled(&mut self, ticket: HostRef, settled: Settled) {
        if ticket == NO_ROW {
            return;
        }
        self.outbox.presence_landed();
        let slot = self.fleet.resolve(ticket);
        let Some((slot, host)) = slot.and_then(|slot| Some((slot, self.fleet.host_mut(slot)?)))
        else {
            return;
        };
        let change = self.outbox.change_in_flight(slot, host);
        let (was_unknown, was_keyed) = (host.epoch() == 0, host.has(Marks::KEYED));
        self.outbox.settle(&mut self.cx, slot, host, &settled);
        if was_unknown && host.epoch() > 0 {
            self.fleet.labels_mut().write_claimed(slot);
        }
        let waits = change.filter(|change| change.waits);
        self.note_claim(slot, &settled);
        match settled {
            Settled::Claimed { moved, keyed, .. } => {
                self.cx.stats.hosts_taken += u64::from(moved);
                if keyed && !was_keyed {
                    self.recall_keyed(slot);
                }
                self.confirmed(slot, waits);
            }
            Settled::Renewed { .. } | Settled::Released | Settled::Refused(_) => {
                self.confirmed(slot, waits);
            }
            // No other node can have held it.
            Settled::NotOurs if !self.cx.has_other_nodes() => self.confirmed(slot, waits),
            Settled::NotOurs => self.fleet.need_not_report(slot),
            Settled::Returned { .. } => self.returned(slot),
            Settled::Foreign { is_free } => {
                self.fleet.need_not_report(slot);
                self.lose_claim(slot, is_free);
            }
            Settled::Contested { is_first } => {
                self.contested(slot, is_first);
                self.lose_claim(slot, false);
            }
        }
    }

    /// Beside other nodes the tasks of a host that is claimed are looked up.
    fn note_claim(&mut self, slot: u32, settled: &Settled) {
        let Some(host) = self.fleet.id(slot) else {
            return;
        };
        match settled {
            Settled::Claimed { restarted, .. } if self.cx.has_other_nodes() => {
                self.tasks.claimed(&host, *restarted);
            }
            Settled::Claimed { .. } | Settled::Foreign { .. } | Settled::Contested { .. } => {
                self.tasks.not_claimed(&host);
            }
            Settled::Refused(_) => self.tasks.not_claimed(&host),
            Settled::Renewed { .. }
            | Settled::Returned { .. }
            | Settled::Released
            | Settled::NotOurs => {}
        }
        self.resume_settled();
    }

    /// Handles a confirmed change: its event is reported, if it has waited.
    fn confirmed(&mut self, slot: u32, waits: Option<Change>) {
        if let Some(change) = waits {
            self.report(slot, change);
        }
    }
}
