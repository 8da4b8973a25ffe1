//! Pending writes: the core's half of the way to the store.
//!
//! ```text
//!  changes of hosts ─▶ per host, in order, one with the store at a time ─┐
//!  all hosts again, after each reconnection (the sweep) ─────────────────┤
//!  reports, in order, counted until settled ─────────────────────────────┼─▶ pull ─▶ one batch a turn
//!  inventories, last-seen times, audits, notices ────────────────────────┘
//! ```
//!
//! Presence is never queued as operations: a host is in the queue, and its operation is made in its turn.
//! A slow store therefore costs one entry per host, however often hosts come and go.

use std::collections::VecDeque;

use crate::handlers::outbox::changes::{Change, Changes};
use crate::handlers::slot_set::SlotSet;
use crate::ids::{ConnId, HostId};
use crate::limits::{
    BRIEF_HOSTS_MAX, NOTICES_WAITING_MAX, PRESENCE_IN_FLIGHT_MAX, REPORT_BYTES_WAITING_MAX,
    REPORTS_WAITING_MAX, SEEN_IN_FLIGHT_MAX, STORE_RUN_OPS_MAX, TRANSITIONS_WAITING_MAX,
};
use crate::store::op::{Notice, Offline, Op, Origin};
use crate::time::Instant;

/// A walk over all hosts that writes each of them anew.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The next slot, while it is under way.
    pub cursor: Option<u32>,
    /// Time of the next sweep.
    pub again: Option<Instant>,
}

/// All that waits to be written.
#[derive(Debug, Default)]
pub struct Writes {
    /// Changes by slot of the host, oldest first. The first may be with the store.
    changes: Changes,
    /// Hosts whose first change is ready, each once.
    turn: VecDeque<u32>,
    /// Slots in the queue; that of a forgotten host is skipped.
    in_turn: SlotSet,
    /// Hosts that the store is to forget as well.
    forgotten: VecDeque<HostId>,
    /// Hosts without a row that are to be offline in the store. As many as the store has as ours, at most.
    unknown: VecDeque<Offline>,
    /// Hosts whose inventory is ready.
    pub inventories: VecDeque<u32>,
    /// The walk over all hosts.
    pub sweep: Sweep,
    /// Reports, in order.
    reports: VecDeque<Op>,
    /// Reports accepted and not settled, including those with the store.
    pub reports_waiting: usize,
    /// The same in bytes.
    pub report_bytes_waiting: usize,
    /// Reports accepted, and settled, so far.
    accepted: u64,
    settled: u64,
    /// Acknowledgements that wait until this many reports are settled: the reports that they repeat
    /// may not be durable yet.
    owed: VecDeque<(u64, Origin)>,
    /// Connections turned away for want of room, first come first served.
    pub waiting: VecDeque<ConnId>,
    /// Events of the fleet.
    notices: VecDeque<Notice>,
    /// Connections by slot that were heard of since the last round.
    pub beaten: SlotSet,
    /// Hosts of the last round that are still to be written.
    pub seen: SlotSet,
    /// `Seen` operations with the store.
    pub seen_in_flight: usize,
    /// The next slot to be audited.
    pub audit: Option<u32>,
    /// `Audit` operations with the store.
    pub audits_in_flight: usize,
    /// `Online` and `Offline` operations with the store.
    pub presence_in_flight: usize,
}

impl Writes {
    /// One more change of a host. `in_flight` says whether an earlier one of it is with the store.
    pub fn change(&mut self, slot: u32, change: Change, in_flight: bool) {
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
    pub fn next_change(&mut self) -> Option<(u32, Change)> {
        while let Some(slot) = self.turn.pop_front() {
            self.in_turn.remove(slot);
            if let Some(change) = self.changes.of(slot).next() {
                return Some((slot, change));
            }
        }
        None
    }

    /// The change of this host that was with the store is settled.
    pub fn settled(&mut self, slot: u32) {
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

    /// The host in `slot` is forgotten, and nothing of it is with the store: what was still to be written is not.
    pub fn forget_host(&mut self, slot: u32) {
        while self.changes.has(slot) {
            self.changes.pop_front(slot);
        }
    }

    /// The store is to forget this host. When too many wait it stays there for as long as any host that is offline.
    pub fn forget_in_store(&mut self, host: HostId) {
        if self.forgotten.len() < BRIEF_HOSTS_MAX {
            self.forgotten.push_back(host);
        }
    }

    /// A host that has no row is to be offline in the store.
    pub fn end_unknown(&mut self, offline: Offline) {
        self.unknown.push_back(offline);
    }

    /// Moves up to `max` of these into a batch.
    pub fn take_unknown(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.unknown.len().min(max.saturating_sub(ops.len()));
        let some = self.unknown.drain(..count).map(Box::new);
        ops.extend(some.map(Op::Offline));
    }

    /// The store is away: it tells again which hosts it has as ours.
    pub fn forget_unknown(&mut self) {
        self.unknown = VecDeque::new();
    }

    /// Returns whether one more host can be forgotten in the store.
    #[must_use]
    pub fn may_forget(&self) -> bool {
        self.forgotten.len() < BRIEF_HOSTS_MAX
    }

    /// Moves up to `max` hosts to be forgotten into a batch.
    pub fn take_forgotten(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.forgotten.len().min(max.saturating_sub(ops.len()));
        ops.extend(self.forgotten.drain(..count).map(Op::Forget));
    }

    /// Returns whether a change of this host is still to be written.
    #[must_use]
    pub fn is_behind(&self, slot: u32) -> bool {
        self.changes.has(slot)
    }

    /// Returns whether the next change of this host, or the one with the store, takes it offline.
    #[must_use]
    pub fn is_leaving(&self, slot: u32) -> bool {
        let next = self.changes.of(slot).next();
        next.is_some_and(|change| !change.is_online())
    }

    /// Number of hosts with unwritten changes.
    #[must_use]
    pub fn hosts_behind(&self) -> usize {
        self.changes.hosts()
    }

    /// The store is away: of all that is state nothing is kept, since all of it is written anew.
    pub fn forget_state(&mut self) {
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
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.reports_waiting == 0
            || (self.reports_waiting + self.owed.len() < REPORTS_WAITING_MAX
                && self.report_bytes_waiting + bytes <= REPORT_BYTES_WAITING_MAX)
    }

    /// Returns whether more than half of the room for reports is free.
    #[must_use]
    pub fn has_plenty_of_room(&self) -> bool {
        self.reports_waiting + self.owed.len() < REPORTS_WAITING_MAX / 2
            && self.report_bytes_waiting < REPORT_BYTES_WAITING_MAX / 2
    }

    /// Takes a report.
    pub fn report(&mut self, op: Op, bytes: usize) {
        self.reports_waiting += 1;
        self.accepted += 1;
        self.report_bytes_waiting += bytes;
        self.reports.push_back(op);
    }

    /// A report is settled.
    pub fn report_settled(&mut self, bytes: usize) {
        self.reports_waiting = self.reports_waiting.saturating_sub(1);
        self.settled += 1;
        self.report_bytes_waiting = self.report_bytes_waiting.saturating_sub(bytes);
    }

    /// Owes an acknowledgement, until all reports accepted so far are settled.
    pub fn owe(&mut self, origin: Origin) {
        self.owed.push_back((self.accepted, origin));
    }

    /// The next acknowledgement that is owed no longer.
    pub fn take_owed(&mut self) -> Option<Origin> {
        let (accepted, origin) = *self.owed.front()?;
        (accepted <= self.settled).then(|| {
            self.owed.pop_front();
            origin
        })
    }

    /// Moves up to `max` reports into a batch.
    pub fn take_reports(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.reports.len().min(max);
        ops.extend(self.reports.drain(..count));
    }

    /// Takes an event of the fleet; true if an older one had to go for it.
    pub fn notice(&mut self, notice: Notice) -> bool {
        let full = self.notices.len() == NOTICES_WAITING_MAX;
        if full {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
        full
    }

    /// Moves up to `max` events of the fleet into a batch.
    pub fn take_notices(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.notices.len().min(max);
        ops.extend(
            self.notices
                .drain(..count)
                .map(|notice| Op::Notice(Box::new(notice))),
        );
    }

    /// Gives back the memory of what is not in use.
    pub fn tidy(&mut self) {
        self.turn.shrink_to_fit();
        self.forgotten.shrink_to_fit();
        self.inventories.shrink_to_fit();
        self.reports.shrink_to_fit();
        self.owed.shrink_to_fit();
        self.waiting.shrink_to_fit();
    }

    /// Returns whether reports are ready.
    #[must_use]
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Returns whether state is ready.
    #[must_use]
    pub fn has_state(&self) -> bool {
        (self.has_presence_room() && (!self.turn.is_empty() || self.sweep.cursor.is_some()))
            || !self.inventories.is_empty()
            || !self.notices.is_empty()
            || !self.forgotten.is_empty()
            || !self.unknown.is_empty()
            || (!self.seen.is_empty() && self.seen_in_flight < SEEN_IN_FLIGHT_MAX)
            || (self.audit.is_some() && self.audits_in_flight == 0)
    }

    /// Returns whether the presence changes fill a batch, or a sweep is in progress.
    #[must_use]
    pub fn is_much(&self) -> bool {
        let much = self.turn.len() >= STORE_RUN_OPS_MAX || self.sweep.cursor.is_some();
        much && self.has_presence_room()
    }

    /// Returns whether one more `Online` or `Offline` may be in flight.
    #[must_use]
    pub fn has_presence_room(&self) -> bool {
        self.presence_in_flight < PRESENCE_IN_FLIGHT_MAX
    }

    /// Asserts the invariants; `in_flight` says whether a change of a host is with the store.
    #[cfg(any(test, fuzzing, debug_assertions))]
    pub fn assert_invariants(&self, slots: u32, in_flight: impl Fn(u32) -> bool) {
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
        }
    }

    const OFF: Became = Became::Offline(Reason::Closed);

    #[test]
    fn changes_of_one_host_go_one_at_a_time_and_in_order() {
        let mut writes = Writes::default();
        writes.change(1, change(Became::Online, 1), false);
        let (slot, first) = writes.next_change().unwrap();
        assert_eq!((slot, first.to), (1, Became::Online));
        writes.change(1, change(OFF, 2), true);
        assert!(writes.next_change().is_none(), "the first is not settled");
        writes.settled(1);
        assert_eq!(writes.next_change().unwrap().1.to, OFF);
        writes.settled(1);
        assert!(!writes.is_behind(1));
    }

    #[test]
    fn beyond_the_bound_an_online_and_its_offline_cancel_out() {
        let mut writes = Writes::default();
        for seq in 0..1_000 {
            writes.change(1, change(Became::Online, 2 * seq), false);
            writes.change(1, change(OFF, 2 * seq + 1), false);
        }
        let mut seen = Vec::new();
        while let Some((slot, change)) = writes.next_change() {
            seen.push(change.to);
            writes.settled(slot);
        }
        assert!(seen.len() <= TRANSITIONS_WAITING_MAX);
        assert!(
            seen.chunks(2).all(|pair| pair == [Became::Online, OFF]),
            "{seen:?}"
        );
    }

    #[test]
    fn a_host_written_again_before_it_was_written_is_written_once() {
        let mut writes = Writes::default();
        writes.change(1, change(Became::Online, 1), false);
        writes.change(
            1,
            Change {
                event: None,
                ..change(Became::Online, 2)
            },
            false,
        );
        let (_, first) = writes.next_change().unwrap();
        assert!(first.event.is_some(), "with its event");
        writes.change(1, change(Became::Online, 3), true);
        writes.settled(1);
        assert!(
            writes.next_change().is_some(),
            "what is with the store already is no match"
        );
    }

    #[test]
    fn one_report_always_has_room() {
        let mut writes = Writes::default();
        assert!(writes.has_room(usize::MAX));
        writes.reports_waiting = 1;
        assert!(writes.has_room(REPORT_BYTES_WAITING_MAX));
        writes.report_bytes_waiting = 1;
        assert!(!writes.has_room(REPORT_BYTES_WAITING_MAX));
    }
}
