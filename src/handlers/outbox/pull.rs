//! The core's queue turned into operations, a batch a turn.

use crate::handlers::outbox::Outbox;
use crate::ids::ConnId;
use crate::limits::{HOSTS_PER_OP_MAX, SEEN_IN_FLIGHT_MAX};
use crate::store::op::{Batch, Inventory, Offline, Online, Op, Reason};

use crate::handlers::fleet::host::{Host, Marks, Presence};
use crate::handlers::fleet::presence::wall_of;
use crate::handlers::fleet::session::Session;
use crate::handlers::outbox::changes::{Became, Change};
use crate::handlers::outbox::writes::Writes;
use crate::handlers::step::Step;

/// Slots a sweep or an audit looks at for one batch, however few of them lead to an operation.
const SLOTS_PER_PULL_MAX: u32 = 20_000;

impl Outbox {
    /// Returns whether the host's last change is neither written nor in flight: the store refused
    /// it.
    pub(crate) fn was_refused(&self, slot: u32, host: &Host) -> bool {
        let walked = self.writes.sweep.cursor.is_none_or(|cursor| slot < cursor);
        walked
            && host.presence.is_online() != host.has(Marks::TOLD_ONLINE)
            && !host.has(Marks::IN_FLIGHT)
            && !self.writes.is_behind(slot)
    }
}

impl Step<'_> {
    /// Takes operations for the store: at most `max`; `None` if there are none.
    pub(crate) fn pull(&mut self, max: usize) -> Option<Batch> {
        let mut ops = Vec::new();
        if self.cx.is_store_up() {
            self.outbox.writes.take_notices(max, &mut ops);
            self.tasks.dispatches.take_ops(max, &mut ops);
            // Half is left for reports, so that neither starves the other.
            let room = if self.outbox.writes.has_reports() {
                max / 2
            } else {
                max
            };
            // First, since it may find changes to be written.
            self.take_audit(room, &mut ops);
            // Before any of them can be online again.
            self.outbox.writes.take_unknown(room, &mut ops);
            self.take_presence(room, &mut ops);
            self.outbox.writes.take_forgotten(room, &mut ops);
            self.take_inventories(room, &mut ops);
            self.take_seen(room, &mut ops);
        }
        let room = max.saturating_sub(ops.len());
        self.outbox.writes.take_reports(room, &mut ops);
        if self.cx.is_store_up() {
            // A state never overtakes the reports that led to it, and a question none that came before it.
            if !self.outbox.writes.has_reports() {
                self.tasks.take_restores(max, &mut ops);
                self.tasks.take_states(self.cx.at.now, max, &mut ops);
                self.tasks.reads.take_ops(max, &mut ops);
            }
        }
        let session = self.cx.stats.store_sessions as u32;
        (!ops.is_empty()).then_some(Batch { session, ops })
    }

    fn take_presence(&mut self, max: usize, ops: &mut Vec<Op>) {
        let mut looks = 0;
        while ops.len() < max && self.outbox.writes.has_presence_room() {
            if let Some((slot, change)) = self.outbox.writes.next_change() {
                ops.extend(self.presence_op(slot, change));
            } else if looks < SLOTS_PER_PULL_MAX && self.sweep_step() {
                looks += 1;
            } else {
                break;
            }
        }
    }

    fn presence_op(&mut self, slot: u32, change: Change) -> Option<Op> {
        let ticket = self.fleet.reference(slot)?;
        let host = self.fleet.host_mut(slot)?;
        host.set(Marks::IN_FLIGHT, true);
        self.outbox.writes.presence_in_flight += 1;
        let Change { to, since, .. } = change;
        let event = change.stamp();
        let name = host.id();
        Some(match to {
            Became::Online => {
                let peer = host.peer().address();
                Op::Online(Box::new(Online {
                    ticket,
                    host: name,
                    peer,
                    keyed: host.has(Marks::KEYED),
                    since,
                    event,
                }))
            }
            Became::Offline(reason) => {
                // The claim of one in doubt may have an epoch that we were never told: 0 is any of ours.
                let epoch = if host.has(Marks::IN_DOUBT) {
                    0
                } else {
                    host.epoch
                };
                Op::Offline(Box::new(Offline {
                    ticket,
                    host: name,
                    epoch,
                    reason,
                    since,
                    event,
                }))
            }
        })
    }

    /// One step of the sweep that rewrites all hosts; false when there is no sweep.
    fn sweep_step(&mut self) -> bool {
        let Some(slot) = self.outbox.writes.sweep.cursor else {
            return false;
        };
        if slot as usize >= self.fleet.slots() {
            self.outbox.writes.sweep.cursor = None;
            return false;
        }
        self.outbox.writes.sweep.cursor = Some(slot + 1);
        if !self.outbox.writes.is_behind(slot) {
            self.sweep_one(slot);
        }
        true
    }

    /// Writes a host before it changes, if the sweep has not reached it yet: its next event then
    /// refers to the stored state.
    pub(crate) fn sweep_early(&mut self, slot: u32) {
        let ahead = self
            .outbox
            .writes
            .sweep
            .cursor
            .is_some_and(|cursor| slot >= cursor);
        if ahead && self.cx.is_store_up() && !self.outbox.writes.is_behind(slot) {
            self.sweep_one(slot);
        }
    }

    fn sweep_one(&mut self, slot: u32) {
        let Some(host) = self.fleet.host_mut(slot) else {
            return;
        };
        let (since, told, doubt) = (
            host.since,
            host.has(Marks::TOLD_ONLINE),
            host.has(Marks::IN_DOUBT),
        );
        let to = match host.presence {
            Presence::Online | Presence::Inherited => Became::Online,
            Presence::Offline(reason) if told || doubt => {
                Became::Offline(reason.unwrap_or(Reason::Lost))
            }
            Presence::Offline(_) => return,
        };
        if let Some(rest) = host.rest_mut() {
            rest.inventory_behind = to == Became::Online && rest.inventory_from.is_some();
        }
        let news = (to != Became::Online || !told) && !self.fleet.is_unannounced(slot);
        let event = news.then(|| self.cx.stamp().seq);
        self.write(slot, Change { to, since, event });
    }

    fn take_inventories(&mut self, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max {
            let Some(slot) = self.outbox.writes.inventories.pop_front() else {
                return;
            };
            ops.extend(self.inventory_op(slot));
        }
    }

    /// A host's inventory, if it is still to be written and the connection it came by is still its own.
    fn inventory_op(&mut self, slot: u32) -> Option<Op> {
        let ticket = self.fleet.reference(slot)?;
        if self.outbox.writes.is_behind(slot) {
            // Its presence goes first, and brings the inventory back here when it is settled.
            return None;
        }
        let from = self.fleet.host(slot)?.rest()?.inventory_from?;
        let session = self.fleet.session(from);
        let own = session.is_some_and(|session| session.host() == Some(slot));
        let host = self.fleet.host_mut(slot)?;
        let name = host.id();
        let rest = host.rest_mut()?;
        if !std::mem::take(&mut rest.inventory_behind) || !own {
            return None;
        }
        Some(Op::Inventory(Box::new(Inventory {
            origins: rest.inventory_asks.clone(),
            ticket,
            host: name,
            hostname: rest.hostname.clone(),
            mac: rest.mac.clone(),
            values: rest.values.clone(),
            addresses: rest.addresses.clone(),
        })))
    }

    /// Notes when the hosts heard of since the last round were last heard of, and has it written if the
    /// last round has been. What falls out here is written a round later, or with the next beat.
    pub(crate) fn note_seen(&mut self) {
        let mut beaten = std::mem::take(&mut self.outbox.writes.beaten);
        for slot in beaten.iter() {
            let Some((_, session)) = self.fleet.session_at(slot) else {
                continue;
            };
            let last = self.fleet.last_message(slot, self.cx.at.now);
            if let Some(host) = session.host().and_then(|host| self.fleet.host_mut(host)) {
                host.seen = host.seen.max(wall_of(last, self.cx.at));
            }
        }
        if self.cx.is_store_up()
            && self.outbox.writes.seen.is_empty()
            && self.outbox.writes.seen_in_flight == 0
        {
            std::mem::swap(&mut self.outbox.writes.seen, &mut beaten);
        }
        beaten.clear();
        self.outbox.writes.beaten = beaten;
    }

    fn take_seen(&mut self, max: usize, ops: &mut Vec<Op>) {
        let room = |writes: &Writes| writes.seen_in_flight < SEEN_IN_FLIGHT_MAX;
        while ops.len() < max && room(&self.outbox.writes) && !self.outbox.writes.seen.is_empty() {
            let mut seen = Vec::with_capacity(HOSTS_PER_OP_MAX.min(self.outbox.writes.seen.len()));
            while seen.len() < HOSTS_PER_OP_MAX
                && let Some(slot) = self.outbox.writes.seen.pop()
            {
                let last = |(_, session): (ConnId, &Session)| {
                    let host = self.fleet.host(session.host()?)?;
                    Some((
                        host.id(),
                        wall_of(self.fleet.last_message(slot, self.cx.at.now), self.cx.at),
                    ))
                };
                seen.extend(self.fleet.session_at(slot).and_then(last));
            }
            if !seen.is_empty() {
                self.outbox.writes.seen_in_flight += 1;
                ops.push(Op::Seen(seen));
            }
        }
    }

    /// Takes the next hosts to be checked in `exists`. On the way, refused writes are repeated, and
    /// hosts that have been offline for too long are forgotten.
    fn take_audit(&mut self, max: usize, ops: &mut Vec<Op>) {
        if self.outbox.writes.audits_in_flight > 0 || ops.len() >= max {
            return;
        }
        let Some(mut slot) = self.outbox.writes.audit else {
            return;
        };
        let end = self.fleet.slots() as u32;
        let stop = end.min(slot.saturating_add(SLOTS_PER_PULL_MAX));
        let mut hosts = Vec::new();
        while slot < stop && hosts.len() < HOSTS_PER_OP_MAX {
            let Some(host) = self.fleet.host(slot) else {
                slot += 1;
                continue;
            };
            // One with a change to be written may not be claimed, and would be left behind in there.
            let behind = self.outbox.writes.is_behind(slot);
            if host.presence.is_online() && host.has(Marks::TOLD_ONLINE) && !behind {
                hosts.push(host.id());
            } else if self.outbox.was_refused(slot, host) {
                self.write_refused(slot);
            } else if !behind && self.is_over(host) {
                self.forget_host(slot);
            }
            slot += 1;
        }
        self.outbox.writes.audit = (slot < end).then_some(slot);
        if !hosts.is_empty() {
            self.outbox.writes.audits_in_flight += 1;
            ops.push(Op::Audit(hosts));
        }
    }

    /// Writes once more what was refused. An online has its event already, which is written beside the rest;
    /// that of an offline comes last of all.
    fn write_refused(&mut self, slot: u32) {
        let online = |host: &Host| host.presence.is_online();
        match self.fleet.host(slot).is_some_and(online) {
            true => self.rewrite(slot),
            false => self.sweep_one(slot),
        }
    }

    fn is_over(&self, host: &Host) -> bool {
        let last = host.since.max(host.seen);
        let settled = !host.has(Marks::TOLD_ONLINE)
            && !host.has(Marks::IN_FLIGHT)
            && !host.has(Marks::IN_DOUBT);
        let old = self.cx.at.wall.0.saturating_sub(last.0) > self.cx.rules.keep.as_millis();
        !host.presence.is_online() && settled && old
    }
}
