//! The outbox: data that the store has not received yet.
//!
//! ```text
//!  changes of hosts ─▶ per host, in order, one with the store at a time ─┐
//!  all hosts again, after each reconnection (the sweep) ─────────────────┤
//!  reports, in order, counted until settled ─────────────────────────────┼─▶ pull ─▶ one batch a turn
//!  inventories, last-seen times, audits, notices ────────────────────────┘
//! ```
//!
//! Presence is not queued as operations. The queue holds hosts, and the operation of a host is made
//! in its turn. A slow store therefore costs one entry per host, however often its presence
//! changes.

pub(crate) mod changes;
pub(crate) mod minutes;

use std::collections::VecDeque;
use std::ops::Range;

use crate::handlers::context::Ctx;
use crate::handlers::fleet::host::{Host, Marks, Presence as HostPresence};
use crate::handlers::slot_set::SlotSet;
use crate::handlers::stats::Stats;
use crate::ids::{ConnId, HostId, HostRef};
use crate::limits::{
    AUDIT_S, BRIEF_HOSTS_MAX, HOSTS_PER_OP_MAX, NOTICES_WAITING_MAX, PRESENCE_IN_FLIGHT_MAX,
    REPLICATED_RECENT_S, REPORT_BYTES_WAITING_MAX, REPORTS_WAITING_MAX, SEEN_IN_FLIGHT_MAX,
    STORE_RUN_OPS_MAX, TRANSITIONS_WAITING_MAX,
};
use crate::store::op::{Hold, Notice, Offline, Online, Op, Origin, Reason, Settled, Transition};
use crate::time::{Instant, Span, UnixMs};

use self::changes::{Became, Change, Changes};
use self::minutes::Minutes;

/// Interval between two writes of last-seen times.
const SEEN_ROUND: Span = Span::from_secs(1);
/// Interval between two checks that all our hosts are in `exists`.
const AUDIT_ROUND: Span = Span::from_secs(AUDIT_S);
/// Beside other nodes, every sixth audit (once a minute) renews all claims.
const AUDITS_PER_RENEWAL: u64 = 6;
/// Number of audits for which the releases of claims are kept, at least: as long as reports.
const AUDITS_PER_RELEASE: u64 = REPLICATED_RECENT_S / AUDIT_S;
/// Delay of the second sweep after a store connection: a Redis that only hung still executes
/// commands of a dropped connection.
const SWEEP_AGAIN: Span = Span::from_secs(5);
/// Number of slots that a sweep or an audit examines for one batch.
const SLOTS_PER_PULL_MAX: u32 = 20_000;

/// The next presence operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Presence {
    /// A change of the host in this slot.
    Change(u32, Change),
    /// The current presence of the host in this slot.
    Sweep(u32),
}

/// Rounds that are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// Last-seen times are to be flushed.
    pub(crate) flush: bool,
    /// An audit begins.
    pub(crate) audit: bool,
    /// The second sweep begins.
    pub(crate) sweep: bool,
    /// The hosts online are to be counted.
    pub(crate) count: bool,
    /// Beside other nodes the claims are renewed.
    pub(crate) renewal: bool,
}

/// A walk over all hosts that writes each host again.
#[derive(Debug, Default)]
struct Sweep {
    /// The next slot, while a sweep is in progress.
    cursor: Option<u32>,
    /// Time of the next sweep.
    again: Option<Instant>,
}

/// All data that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Changes by slot of the host, oldest first. The first may be with the store.
    changes: Changes,
    /// Hosts whose first change is ready, each once.
    turn: VecDeque<u32>,
    /// Slots in the queue; that of a forgotten host is skipped.
    in_turn: SlotSet,
    /// Hosts that the store is to forget as well.
    forgotten: VecDeque<HostId>,
    /// Hosts without a row that must be set offline in the store. Bounded by the hosts that the
    /// store has as ours.
    unknown: VecDeque<Offline>,
    /// Hosts whose inventory is ready.
    inventories: VecDeque<u32>,
    /// The walk over all hosts.
    sweep: Sweep,
    /// Hosts, by slot, that have gone offline and whose claims were given up within the last
    /// [`REPLICATED_RECENT_S`], and in the period before. A store whose primary was replaced may have lost that.
    released: [SlotSet; 2],
    /// Reports, in order.
    reports: VecDeque<Op>,
    /// Reports accepted and not settled, including those with the store.
    reports_waiting: usize,
    /// The same in bytes.
    report_bytes_waiting: usize,
    /// Reports accepted, and settled, so far.
    accepted: u64,
    settled: u64,
    /// Acknowledgements that wait until this many reports are settled: the reports that they repeat
    /// may not be durable yet.
    owed: VecDeque<(u64, Origin)>,
    /// Connections paused for lack of room, first come first served.
    paused: VecDeque<ConnId>,
    /// Events of the fleet.
    notices: VecDeque<Notice>,
    /// Number of hosts online by minute.
    pub(crate) minutes: Minutes,
    /// Connections, by slot, that have sent something since the last flush.
    seen_since_flush: SlotSet,
    /// Hosts of the last flush that are not written yet.
    seen: SlotSet,
    /// `Seen` operations with the store.
    seen_in_flight: usize,
    /// The next slot to be audited.
    audit: Option<u32>,
    /// Time of the next flush of last-seen times.
    seen_due: Option<Instant>,
    /// Time of the next audit.
    audit_due: Option<Instant>,
    /// Number of audits so far.
    audits: u64,
    /// `Audit` operations with the store.
    audits_in_flight: usize,
    /// `Online` and `Offline` operations with the store.
    presence_in_flight: usize,
}

impl Outbox {
    /// Adds a change of a host. `in_flight` says whether an earlier one is with the store.
    fn change(&mut self, slot: u32, change: Change, in_flight: bool) {
        if !self.changes.has(slot) {
            self.changes.push_first(slot, change);
            self.take_turn(slot);
            return;
        }
        let untouched = usize::from(in_flight);
        let waiting = self.changes.of(slot).count();
        let last = self.changes.of(slot).last();
        if let Some(last) = last.filter(|_| waiting > untouched) {
            if last.is_online() && change.is_online() {
                // Written again before it was written: once is enough, and the event stays.
                return;
            }
            if waiting >= TRANSITIONS_WAITING_MAX {
                // Full: what it became last and what it becomes now cancel out.
                self.changes.pop_back(slot);
                return;
            }
        }
        self.changes.push(slot, change);
    }

    /// The next host with a ready change, and the change.
    fn next_change(&mut self) -> Option<(u32, Change)> {
        while let Some(slot) = self.turn.pop_front() {
            self.in_turn.remove(slot);
            if let Some(change) = self.changes.of(slot).next() {
                return Some((slot, change));
            }
        }
        None
    }

    /// Settles the change of this host that was with the store.
    fn settled(&mut self, slot: u32) {
        self.changes.pop_front(slot);
        if self.changes.has(slot) {
            self.take_turn(slot);
        }
    }

    fn take_turn(&mut self, slot: u32) {
        if self.in_turn.insert(slot) {
            self.turn.push_back(slot);
        }
    }

    /// Forgets the host in `slot`, which has nothing with the store: its unwritten changes are
    /// dropped.
    pub(crate) fn forget_host(&mut self, slot: u32) {
        while self.changes.has(slot) {
            self.changes.pop_front(slot);
        }
        self.claims_anew(slot);
    }

    /// Returns whether this host's claim was given up a short time ago.
    fn was_released(&self, slot: u32) -> bool {
        self.released.iter().any(|released| released.has(slot))
    }

    /// The release of this host's claim is not to be repeated any more.
    fn claims_anew(&mut self, slot: u32) {
        for released in &mut self.released {
            released.remove(slot);
        }
    }

    /// Queues the deletion of this host in the store. If too many wait, the store keeps it as long
    /// as any offline host.
    pub(crate) fn forget_in_store(&mut self, host: HostId) {
        if self.forgotten.len() < BRIEF_HOSTS_MAX {
            self.forgotten.push_back(host);
        }
    }

    /// Queues an offline write of a host without a row.
    pub(crate) fn end_unknown(&mut self, offline: Offline) {
        self.unknown.push_back(offline);
    }

    /// Moves up to `max` of these into a batch.
    pub(crate) fn take_unknown(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.unknown.len().min(max.saturating_sub(ops.len()));
        let some = self.unknown.drain(..count).map(Box::new);
        ops.extend(some.map(Op::Offline));
    }

    /// Returns whether one more host can be forgotten in the store.
    pub(crate) fn may_forget(&self) -> bool {
        self.forgotten.len() < BRIEF_HOSTS_MAX
    }

    /// Moves up to `max` hosts to be forgotten into a batch.
    pub(crate) fn take_forgotten(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.forgotten.len().min(max.saturating_sub(ops.len()));
        ops.extend(self.forgotten.drain(..count).map(Op::Forget));
    }

    /// Returns whether a change of this host is still to be written.
    pub(crate) fn is_behind(&self, slot: u32) -> bool {
        self.changes.has(slot)
    }

    /// Returns whether the next change of this host, or the one with the store, takes it offline.
    fn is_leaving(&self, slot: u32) -> bool {
        let next = self.changes.of(slot).next();
        next.is_some_and(|change| !change.is_online())
    }

    /// Handles an unavailable store: all state is dropped, since it is written again after the
    /// reconnection.
    fn forget_state(&mut self) {
        self.changes = Changes::default();
        self.turn = VecDeque::new();
        self.in_turn.clear();
        self.forgotten = VecDeque::new();
        self.inventories = VecDeque::new();
        self.sweep = Sweep::default();
        self.seen_in_flight = 0;
        self.audits_in_flight = 0;
        self.presence_in_flight = 0;
        self.audit = None;
    }

    /// Returns whether a report of `bytes` has room. A single report always has.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.reports_waiting == 0
            || (self.reports_waiting + self.owed.len() < REPORTS_WAITING_MAX
                && self.report_bytes_waiting + bytes <= REPORT_BYTES_WAITING_MAX)
    }

    /// Returns whether more than half of the room for reports is free.
    pub(crate) fn has_plenty_of_room(&self) -> bool {
        self.reports_waiting + self.owed.len() < REPORTS_WAITING_MAX / 2
            && self.report_bytes_waiting < REPORT_BYTES_WAITING_MAX / 2
    }

    /// Takes a report.
    pub(crate) fn report(&mut self, op: Op, bytes: usize) {
        self.reports_waiting += 1;
        self.accepted += 1;
        self.report_bytes_waiting += bytes;
        self.reports.push_back(op);
    }

    /// Settles a report.
    pub(crate) fn report_settled(&mut self, bytes: usize) {
        self.reports_waiting = self.reports_waiting.saturating_sub(1);
        self.settled += 1;
        self.report_bytes_waiting = self.report_bytes_waiting.saturating_sub(bytes);
    }

    /// Holds an acknowledgement back until all reports accepted so far are settled.
    pub(crate) fn owe(&mut self, origin: Origin) {
        self.owed.push_back((self.accepted, origin));
    }

    /// The next acknowledgement that need not wait any more.
    pub(crate) fn take_owed(&mut self) -> Option<Origin> {
        let (accepted, origin) = *self.owed.front()?;
        (accepted <= self.settled).then(|| {
            self.owed.pop_front();
            origin
        })
    }

    /// Moves up to `max` reports into a batch.
    pub(crate) fn take_reports(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.reports.len().min(max);
        ops.extend(self.reports.drain(..count));
    }

    /// Publishes an event of the fleet, for the store.
    pub(crate) fn notice(&mut self, cx: &mut Ctx<'_>, notice: Notice) {
        if self.notices.len() == NOTICES_WAITING_MAX {
            self.notices.pop_front();
            cx.stats.notices_dropped += 1;
        }
        self.notices.push_back(notice);
    }

    /// Moves up to `max` events of the fleet into a batch.
    pub(crate) fn take_notices(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.notices.len().min(max);
        ops.extend(
            self.notices
                .drain(..count)
                .map(|notice| Op::Notice(Box::new(notice))),
        );
    }

    /// Moves counts of hosts online into a batch.
    pub(crate) fn take_minutes(&mut self, max: usize, ops: &mut Vec<Op>) {
        self.minutes.take(max, ops);
    }

    /// Returns unused memory to the allocator.
    pub(crate) fn tidy(&mut self) {
        self.turn.shrink_to_fit();
        self.forgotten.shrink_to_fit();
        self.inventories.shrink_to_fit();
        self.reports.shrink_to_fit();
        self.owed.shrink_to_fit();
        self.paused.shrink_to_fit();
    }

    /// Returns whether reports are ready.
    pub(crate) fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Returns whether state is ready.
    pub(crate) fn has_state(&self) -> bool {
        (self.has_presence_room() && (!self.turn.is_empty() || self.sweep.cursor.is_some()))
            || !self.inventories.is_empty()
            || !self.notices.is_empty()
            || self.minutes.is_ready()
            || !self.forgotten.is_empty()
            || !self.unknown.is_empty()
            || (!self.seen.is_empty() && self.seen_in_flight < SEEN_IN_FLIGHT_MAX)
            || (self.audit.is_some() && self.audits_in_flight == 0)
    }

    /// Returns whether the presence changes fill a batch, or a sweep is in progress.
    pub(crate) fn is_much(&self) -> bool {
        let much = self.turn.len() >= STORE_RUN_OPS_MAX || self.sweep.cursor.is_some();
        much && self.has_presence_room()
    }

    /// Returns whether one more `Online` or `Offline` may be in flight.
    fn has_presence_room(&self) -> bool {
        self.presence_in_flight < PRESENCE_IN_FLIGHT_MAX
    }

    /// Asserts the invariants; `in_flight` says whether a change of a host is with the store.
    #[cfg(any(test, fuzzing, debug_assertions))]
    pub(crate) fn assert_invariants(&self, slots: u32, in_flight: impl Fn(u32) -> bool) {
        let turn: std::collections::HashSet<u32> = self.turn.iter().copied().collect();
        assert_eq!(turn.len(), self.turn.len(), "a host has its turn twice");
        for slot in (0..slots).filter(|slot| self.changes.has(*slot)) {
            let changes: Vec<Change> = self.changes.of(slot).collect();
            assert!((1..=TRANSITIONS_WAITING_MAX).contains(&changes.len()));
            assert_ne!(in_flight(slot), turn.contains(&slot), "slot {slot}'s turn");
            for (earlier, later) in changes.iter().zip(changes.iter().skip(1)) {
                let again = earlier.is_online() && later.is_online() && later.event.is_none();
                assert!(
                    again || earlier.is_online() != later.is_online(),
                    "slot {slot}: {changes:?}"
                );
            }
        }
        assert!(turn.iter().all(|slot| !in_flight(*slot)));
        assert!(self.in_turn.iter().all(|slot| turn.contains(&slot)));
        assert_eq!(self.in_turn.len(), turn.len());
        assert!(self.reports.len() <= self.reports_waiting);
        assert!(self.reports_waiting <= REPORTS_WAITING_MAX);
        assert!(self.reports_waiting > 0 || self.report_bytes_waiting == 0);
    }

    // Presence.

    /// Queues a change of a host, unless the store is unavailable: then all hosts are written after
    /// its return.
    pub(crate) fn write(&mut self, cx: &Ctx<'_>, slot: u32, host: &Host, change: Change) {
        if cx.is_store_up() {
            self.change(slot, change, host.has(Marks::IN_FLIGHT));
        }
    }

    /// The next presence operation, if another may be in flight. A sweep examines a bounded number
    /// of the `slots` for one batch.
    pub(crate) fn next_presence(&mut self, slots: usize, looks: &mut u32) -> Option<Presence> {
        if !self.has_presence_room() {
            return None;
        }
        if let Some((slot, change)) = self.next_change() {
            return Some(Presence::Change(slot, change));
        }
        while *looks < SLOTS_PER_PULL_MAX {
            *looks += 1;
            let slot = self.sweep.cursor?;
            self.sweep.cursor = ((slot as usize) < slots).then_some(slot + 1);
            if self.sweep.cursor.is_some() && !self.is_behind(slot) {
                return Some(Presence::Sweep(slot));
            }
        }
        None
    }

    /// The operation of a change of a host whose last message is `silent` ago. It is in flight from now
    /// on.
    pub(crate) fn presence_op(
        &mut self,
        ticket: HostRef,
        host: &mut Host,
        change: Change,
        history: Vec<Transition>,
        silent: Span,
    ) -> Op {
        host.set(Marks::IN_FLIGHT, true);
        self.presence_in_flight += 1;
        let was_released = self.was_released(ticket.slot);
        if change.is_online() {
            self.claims_anew(ticket.slot);
        }
        let (name, since, event) = (host.id(), change.since, change.stamp());
        match change.to {
            Became::Online => Op::Online(Box::new(Online {
                ticket,
                host: name,
                peer: host.peer().address(),
                keyed: host.has(Marks::KEYED),
                since,
                hold: hold(host, silent),
                event,
                history,
            })),
            Became::Offline(reason) => Op::Offline(Box::new(Offline {
                ticket,
                host: name,
                // The claim of one in doubt may have an epoch that we were never told, and a failover may
                // bring an older one back: 0 is any of ours.
                epoch: match host.has(Marks::IN_DOUBT) || was_released {
                    true => 0,
                    false => host.epoch(),
                },
                reason,
                since,
                event,
                history,
            })),
        }
    }

    /// Queues a write of a host's current presence.
    pub(crate) fn sweep(
        &mut self,
        cx: &mut Ctx<'_>,
        slot: u32,
        host: &mut Host,
        is_unannounced: bool,
    ) {
        let told = host.has(Marks::TOLD_ONLINE);
        let is_open = told || host.has(Marks::IN_DOUBT);
        let to = match host.presence {
            HostPresence::Online | HostPresence::Inherited => Became::Online,
            HostPresence::Offline(reason) if is_open || self.was_released(slot) => {
                Became::Offline(reason.unwrap_or(Reason::Lost))
            }
            HostPresence::Offline(_) => return,
        };
        // The store has confirmed it before, with its event.
        let is_repeat = to != Became::Online && !is_open && !host.is_unreported();
        if let Some(rest) = host.rest_mut() {
            rest.inventory_behind = to == Became::Online && rest.inventory_from.is_some();
        }
        let has_event = (to != Became::Online || !told) && !is_unannounced && !is_repeat;
        let change = Change {
            to,
            since: host.since,
            event: has_event.then(|| cx.stamp().seq),
            waits: to != Became::Online && host.is_unreported(),
        };
        self.write(cx, slot, host, change);
    }

    /// The change of a host that is with the store.
    pub(crate) fn change_in_flight(&self, slot: u32, host: &Host) -> Option<Change> {
        let first = self.changes.of(slot).next();
        first.filter(|_| host.has(Marks::IN_FLIGHT))
    }

    /// Changes of a host whose reports wait for the store, oldest first.
    pub(crate) fn unreported(&self, slot: u32) -> Vec<Change> {
        self.changes
            .of(slot)
            .filter(|change| change.waits)
            .collect()
    }

    /// Returns whether a sweep in progress has not written the host in this slot yet.
    pub(crate) fn is_sweep_before(&self, slot: u32) -> bool {
        self.sweep.cursor.is_some_and(|cursor| slot >= cursor) && !self.is_behind(slot)
    }

    /// Returns whether the second sweep of this store connection is still to come.
    pub(crate) fn expects_sweep(&self) -> bool {
        self.sweep.again.is_some()
    }

    /// Counts a presence operation that is no longer with the store.
    pub(crate) fn presence_landed(&mut self) {
        self.presence_in_flight = self.presence_in_flight.saturating_sub(1);
    }

    /// Settles a presence operation of a host.
    pub(crate) fn settle(
        &mut self,
        cx: &mut Ctx<'_>,
        slot: u32,
        host: &mut Host,
        settled: &Settled,
    ) {
        host.set(Marks::IN_FLIGHT, false);
        // A dropped store connection executes its last operations before the second sweep.
        let in_doubt = host.has(Marks::IN_DOUBT) && self.expects_sweep();
        host.set(Marks::IN_DOUBT, in_doubt);
        match *settled {
            Settled::Claimed { epoch, .. }
            | Settled::Renewed { epoch }
            | Settled::Returned { epoch } => {
                host.set_epoch(epoch);
                host.set(Marks::TOLD_ONLINE, true);
                if host.rest().is_some_and(|rest| rest.inventory_behind) {
                    self.inventories.push_back(slot);
                }
            }
            Settled::Released
            | Settled::NotOurs
            | Settled::Foreign { .. }
            | Settled::Contested { .. } => {
                host.set(Marks::TOLD_ONLINE, false);
                if !host.presence.is_online() {
                    self.note_release(slot);
                }
            }
            Settled::Refused(ref why) => {
                // The write may be partial, so any claim of ours is meant when it is ended, and the
                // stored presence counts as the opposite: the next audit tries again.
                host.set_epoch(0);
                host.set(Marks::TOLD_ONLINE, !host.presence.is_online());
                let text = format!("its presence is not written: {why}");
                cx.log(log::Level::Error, "store", host.id(), text);
            }
        }
        self.settled(slot);
    }

    /// Forgets a presence operation that was with the store when the connection was lost.
    pub(crate) fn forget_flight(&self, slot: u32, host: &mut Host) {
        if host.take(Marks::IN_FLIGHT) {
            host.set(Marks::IN_DOUBT, true);
            // If it was an `Offline` and was executed, its event is in the stream. If not, the
            // store returns the host as ours.
            let told = host.has(Marks::TOLD_ONLINE) && !self.is_leaving(slot);
            host.set(Marks::TOLD_ONLINE, told);
        }
    }

    // Last-seen times, audits and inventories.

    /// Records that the connection in `slot` has sent a message. Returns whether this set a
    /// deadline.
    pub(crate) fn note_seen(&mut self, slot: u32, now: Instant) -> bool {
        let is_first = self.seen_since_flush.insert(slot) && self.seen_due.is_none();
        if is_first {
            self.seen_due = Some(now + SEEN_ROUND);
        }
        is_first
    }

    /// Forgets a connection that has ended. Returns whether it has sent something since the last
    /// flush.
    pub(crate) fn forget_conn(&mut self, slot: u32) -> bool {
        self.seen_since_flush.remove(slot)
    }

    /// Connections, by slot, that have sent something since the last flush.
    pub(crate) fn seen_slots(&self) -> impl Iterator<Item = u32> {
        self.seen_since_flush.iter()
    }

    /// Queues a write of the last-seen times, if those of the last flush are written. Times that
    /// are skipped here are written with the next flush, or the next message.
    pub(crate) fn flush_seen(&mut self, is_store_up: bool) {
        if is_store_up && self.seen.is_empty() && self.seen_in_flight == 0 {
            std::mem::swap(&mut self.seen, &mut self.seen_since_flush);
        }
        self.seen_since_flush.clear();
    }

    /// Moves last-seen times into a batch.
    pub(crate) fn take_seen(
        &mut self,
        max: usize,
        ops: &mut Vec<Op>,
        last_seen: impl Fn(u32) -> Option<(HostId, UnixMs)>,
    ) {
        while ops.len() < max && self.seen_in_flight < SEEN_IN_FLIGHT_MAX && !self.seen.is_empty() {
            let mut seen = Vec::with_capacity(HOSTS_PER_OP_MAX.min(self.seen.len()));
            while seen.len() < HOSTS_PER_OP_MAX
                && let Some(slot) = self.seen.pop()
            {
                seen.extend(last_seen(slot));
            }
            if !seen.is_empty() {
                self.seen_in_flight += 1;
                ops.push(Op::Seen(seen));
            }
        }
    }

    pub(crate) fn seen_settled(&mut self) {
        self.seen_in_flight = self.seen_in_flight.saturating_sub(1);
    }

    pub(crate) fn audit_settled(&mut self) {
        self.audits_in_flight = self.audits_in_flight.saturating_sub(1);
    }

    /// The next slots to be audited, of the given number.
    pub(crate) fn audit_slots(&self, slots: u32) -> Option<Range<u32>> {
        let first = self.audit.filter(|_| self.audits_in_flight == 0)?;
        Some(first..slots.min(first.saturating_add(SLOTS_PER_PULL_MAX)))
    }

    /// Records that the slots before `next` have been audited: `hosts` are to be checked.
    pub(crate) fn audited(&mut self, next: u32, slots: u32, hosts: Vec<HostId>, ops: &mut Vec<Op>) {
        self.audit = (next < slots).then_some(next);
        if !hosts.is_empty() {
            self.audits_in_flight += 1;
            ops.push(Op::Audit(hosts));
        }
    }

    /// Returns whether the host's last change is neither written nor in flight: the store refused
    /// it.
    pub(crate) fn was_refused(&self, slot: u32, host: &Host) -> bool {
        let walked = self.sweep.cursor.is_none_or(|cursor| slot < cursor);
        walked
            && host.presence.is_online() != host.has(Marks::TOLD_ONLINE)
            && !host.has(Marks::IN_FLIGHT)
            && !self.is_behind(slot)
    }

    /// Queues the inventory of a host. While its presence is to be written, that brings the
    /// inventory back when it is settled.
    pub(crate) fn queue_inventory(&mut self, slot: u32) {
        if !self.is_behind(slot) {
            self.inventories.push_back(slot);
        }
    }

    /// The next host whose inventory is to be written.
    pub(crate) fn next_inventory(&mut self) -> Option<u32> {
        while let Some(slot) = self.inventories.pop_front() {
            if !self.is_behind(slot) {
                return Some(slot);
            }
        }
        None
    }

    // Store connections.

    /// Handles a new store connection: all hosts are written, twice.
    pub(crate) fn begin(&mut self, now: Instant, is_first: bool) {
        self.forget_state();
        self.sweep = Sweep {
            cursor: Some(0),
            again: Some(now + SWEEP_AGAIN),
        };
        self.minutes.begin(now);
        if is_first {
            self.audit_due = Some(now + AUDIT_ROUND);
        }
    }

    /// Handles an unavailable store: no state is kept, since all of it is written again.
    pub(crate) fn interrupt(&mut self) {
        self.unknown = VecDeque::new();
        self.forget_state();
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let rounds = [
            self.seen_due,
            self.audit_due,
            self.sweep.again,
            self.minutes.due,
        ];
        rounds.into_iter().flatten().min()
    }

    /// Begins the rounds that are due at `judge`.
    pub(crate) fn take_due(&mut self, judge: Instant) -> Rounds {
        let is_due = |due: &Instant| *due <= judge;
        let mut due = Rounds {
            flush: self.seen_due.take_if(|due| is_due(due)).is_some(),
            audit: self.audit_due.take_if(|due| is_due(due)).is_some(),
            sweep: self.sweep.again.take_if(|due| is_due(due)).is_some(),
            count: self.minutes.due.take_if(|due| is_due(due)).is_some(),
            renewal: false,
        };
        if due.audit {
            self.audits += 1;
            due.renewal = self.audits.is_multiple_of(AUDITS_PER_RENEWAL);
            self.audit_due = Some(judge + AUDIT_ROUND);
            self.audit.get_or_insert(0);
        }
        if due.sweep {
            self.sweep.cursor = Some(0);
        }
        due
    }

    /// Lets the releases of claims grow old, at an audit while the store is available.
    pub(crate) fn age_releases(&mut self) {
        if self.audits.is_multiple_of(AUDITS_PER_RELEASE) {
            self.released.swap(0, 1);
            self.released[0].clear();
        }
    }

    /// Records that the claim of this host, which is offline here, is not this node's any more.
    pub(crate) fn note_release(&mut self, slot: u32) {
        self.released[0].insert(slot);
    }

    /// Queues a write of all hosts.
    pub(crate) fn begin_sweep(&mut self) {
        self.sweep.cursor.get_or_insert(0);
    }

    #[cfg(test)]
    pub(crate) fn begin_audit(&mut self) {
        self.audit = Some(0);
    }

    /// Returns whether all state has been sent and settled.
    pub(crate) fn is_settled(&self) -> bool {
        !self.has_state() && self.presence_in_flight == 0
    }

    // Reports and the connections that wait for their room.

    /// Number of reports accepted and not settled.
    pub(crate) fn reports_waiting(&self) -> usize {
        self.reports_waiting
    }

    pub(crate) fn gauges(&self, stats: &mut Stats) {
        stats.reports_waiting = self.reports_waiting as u64;
        stats.report_bytes_waiting = self.report_bytes_waiting as u64;
        stats.presence_behind = self.changes.hosts() as u64;
    }

    /// Pauses a connection for lack of room, as the next or as the last to be resumed.
    pub(crate) fn pause(&mut self, conn: ConnId, is_next: bool) {
        match is_next {
            true => self.paused.push_front(conn),
            false => self.paused.push_back(conn),
        }
    }

    /// Takes the next paused connection.
    pub(crate) fn next_paused(&mut self) -> Option<ConnId> {
        self.paused.pop_front()
    }

    pub(crate) fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    #[cfg(any(test, fuzzing, debug_assertions))]
    pub(crate) fn paused(&self) -> impl Iterator<Item = ConnId> {
        self.paused.iter().copied()
    }

    #[cfg(any(test, fuzzing, debug_assertions))]
    pub(crate) fn presence_in_flight(&self) -> usize {
        self.presence_in_flight
    }
}

/// Hold of a host that is written as online: a host that has connected is claimed, once.
fn hold(host: &mut Host, silent: Span) -> Hold {
    let epoch = host.epoch();
    if host.presence == HostPresence::Inherited {
        return Hold::Keep { epoch };
    }
    if host.needs_claim() || epoch == 0 {
        host.set_needs_claim(false);
        let boot = host.boot().map(Box::from);
        let silent_ms = silent.as_millis();
        return Hold::Claim { boot, silent_ms };
    }
    Hold::Renew { epoch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::outbox::changes::Became;
    use crate::store::op::Reason;
    use crate::time::UnixMs;

    fn change(to: Became, seq: u64) -> Change {
        Change {
            to,
            since: UnixMs(seq),
            event: Some(seq),
            waits: false,
        }
    }

    const OFF: Became = Became::Offline(Reason::Closed);

    #[test]
    fn changes_of_one_host_go_one_at_a_time_and_in_order() {
        let mut outbox = Outbox::default();
        outbox.change(1, change(Became::Online, 1), false);
        let (slot, first) = outbox.next_change().unwrap();
        assert_eq!((slot, first.to), (1, Became::Online));
        outbox.change(1, change(OFF, 2), true);
        assert!(outbox.next_change().is_none(), "the first is not settled");
        outbox.settled(1);
        assert_eq!(outbox.next_change().unwrap().1.to, OFF);
        outbox.settled(1);
        assert!(!outbox.is_behind(1));
    }

    #[test]
    fn beyond_the_bound_opposite_changes_cancel_out() {
        let mut outbox = Outbox::default();
        for seq in 0..1_000 {
            outbox.change(1, change(Became::Online, 2 * seq), false);
            outbox.change(1, change(OFF, 2 * seq + 1), false);
        }
        let mut seen = Vec::new();
        while let Some((slot, change)) = outbox.next_change() {
            seen.push(change.to);
            outbox.settled(slot);
        }
        assert!(seen.len() <= TRANSITIONS_WAITING_MAX);
        assert!(
            seen.chunks(2).all(|pair| pair == [Became::Online, OFF]),
            "{seen:?}"
        );
    }

    #[test]
    fn a_rewrite_before_the_first_write_is_dropped() {
        let mut outbox = Outbox::default();
        outbox.change(1, change(Became::Online, 1), false);
        outbox.change(
            1,
            Change {
                event: None,
                ..change(Became::Online, 2)
            },
            false,
        );
        let (_, first) = outbox.next_change().unwrap();
        assert!(first.event.is_some(), "with its event");
        outbox.change(1, change(Became::Online, 3), true);
        outbox.settled(1);
        assert!(
            outbox.next_change().is_some(),
            "what is with the store already is no match"
        );
    }

    #[test]
    fn one_report_always_has_room() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(usize::MAX));
        outbox.reports_waiting = 1;
        assert!(outbox.has_room(REPORT_BYTES_WAITING_MAX));
        outbox.report_bytes_waiting = 1;
        assert!(!outbox.has_room(REPORT_BYTES_WAITING_MAX));
    }
}
