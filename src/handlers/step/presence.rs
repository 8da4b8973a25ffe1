//! Presence: hosts come online and go offline, and the store follows.
//!
//! A connection that ends can end only its own session: a host is offline when the last of
//! its connections has ended, for the reason of that end.

use crate::codec::message::{Flag, Word};
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::admission::{NO_ROW, may_be_forgotten};
use crate::handlers::fleet::host::{Host, Peer, Presence};
use crate::handlers::fleet::presence::CameOnline;
use crate::handlers::outbox::changes::{Became, Change};
use crate::handlers::request::{ErrorKind, Response};
use crate::handlers::step::Step;
use crate::handlers::tasks::dispatch::{Refusal, not_now};
use crate::handlers::tasks::reads::{HostsReading, Reading};
use crate::ids::{ConnId, HostId};
use crate::limits::TIMEOUTS_OF_THE_BUSY;
use crate::store::op::{HeldHost, HostRecord, Notice, Offline, Question, Reason};
use crate::time::Instant;

/// Reason for closing a connection whose id another connection has taken.
const REPLACED: &str = "replaced by another connection with this id";

/// Bound of hosts forgotten when one more has left after a short stay.
const BRIEF_FORGOTTEN_AT_ONCE: usize = 4;

impl Step<'_> {
    /// Makes `conn` a connection of the host in `slot`.
    pub(super) fn attach(&mut self, conn: ConnId, slot: u32, identified: bool) {
        let Some(attached) = self.fleet.attach(&mut self.cx, conn, slot, identified) else {
            return;
        };
        match attached.was {
            Presence::Offline(_) => self.come_online(slot),
            Presence::Inherited => {
                self.rewrite(slot);
                self.unsettle(slot);
                self.send_queued_to(slot);
            }
            Presence::Online if attached.moved => {
                // Otherwise this write would replace that of the sweep, and its event would be
                // lost.
                self.sweep_early(slot);
                self.rewrite(slot);
            }
            Presence::Online => {}
        }
        if !identified {
            self.connected_anew(conn, slot);
        }
        if let Some((older, asks)) = attached.replaced {
            self.cx.stats.replacements += 1;
            if asks {
                let why = Word::Refused(REPLACED.to_owned());
                self.cx.reply(older, Flag::Hello, None, why);
            }
            self.close(older, Reason::Closed);
        }
    }

    /// Closes a connection, and ends its session.
    pub(crate) fn close(&mut self, conn: ConnId, reason: Reason) {
        self.cx.close(conn);
        self.end_session(conn, reason);
    }

    /// Ends the session of a connection; its host goes offline with its last session.
    pub(crate) fn end_session(&mut self, conn: ConnId, reason: Reason) {
        if self.fleet.session(conn).is_none() {
            return;
        }
        let was_seen = self.outbox.forget_conn(conn.slot);
        let ended = self.fleet.end_session(&self.cx, conn, was_seen);
        self.auth.forget(conn);
        if self.tasks.forget_conn(conn) {
            self.resume_results();
        }
        match ended {
            Some(ended) if ended.is_last => self.go_offline(ended.slot, reason),
            Some(ended) => self
                .fleet
                .inventory_orphaned(&mut self.cx, conn, ended.slot),
            None => {}
        }
    }

    fn come_online(&mut self, slot: u32) {
        self.sweep_early(slot);
        // It follows the offline event, which waits for the store.
        let waits = self.fleet.host(slot).is_some_and(Host::is_unreported);
        let Some(CameOnline { event }) = self.fleet.come_online(&mut self.cx, slot, waits) else {
            return;
        };
        let change = Change {
            to: Became::Online,
            since: self.cx.at.wall,
            event,
            waits,
        };
        if let Some(host) = self.fleet.host(slot) {
            self.outbox.write(&self.cx, slot, host, change);
        }
        self.unsettle(slot);
        self.send_queued_to(slot);
    }

    /// Beside other nodes the reports of a host that has connected wait until its claim is settled,
    /// and the tasks are known that name it.
    fn unsettle(&mut self, slot: u32) {
        if self.cx.has_other_nodes()
            && self.cx.is_store_up()
            && let Some(host) = self.fleet.id(slot)
        {
            self.tasks.unsettle(&host);
        }
    }

    fn send_queued_to(&mut self, slot: u32) {
        if let Some(host) = self.fleet.id(slot) {
            self.tasks.send_queued(&mut self.cx, &host);
        }
    }

    /// Takes a host offline. The caller ends its remaining connections.
    pub(crate) fn go_offline(&mut self, slot: u32, reason: Reason) {
        self.sweep_early(slot);
        let in_doubt = self.outbox.expects_sweep() || !self.cx.is_store_up();
        let Some(gone) = self.fleet.go_offline(&mut self.cx, slot, reason, in_doubt) else {
            return;
        };
        self.tasks.forget_work(&gone.id);
        let change = Change {
            to: Became::Offline(reason),
            since: self.cx.at.wall,
            event: gone.event,
            waits: self.cx.reports_wait(),
        };
        if let Some(host) = self.fleet.host(slot) {
            self.outbox.write(&self.cx, slot, host, change);
        }
        if !change.waits {
            self.report(slot, change);
        }
        if gone.is_brief {
            self.fleet.note_brief(slot);
            // More than one is evicted if some could not be evicted before.
            for _ in 0..BRIEF_FORGOTTEN_AT_ONCE {
                if !self.fleet.has_too_many_brief() || !self.forget_brief() {
                    return;
                }
            }
        }
    }

    /// Reports a change of a host: to the log, to subscribers and to the counters.
    pub(super) fn report(&mut self, slot: u32, change: Change) {
        match change.to {
            Became::Online => {
                if let Some(stamp) = change.stamp() {
                    self.fleet.report_online(&mut self.cx, slot, stamp);
                }
            }
            Became::Offline(reason) => {
                let stamp = change.stamp();
                let count = self.fleet.report_offline(&mut self.cx, slot, reason, stamp);
                self.report_mass_offline(count);
            }
        }
    }

    fn report_mass_offline(&mut self, count: Option<u64>) {
        if let Some(count) = count {
            let kind = EventKind::MassOffline { count };
            let text = "hosts, more than half, went offline within one timeout";
            self.publish(log::Level::Error, kind, text);
        }
    }

    /// Handles an unavailable store. A node that knows of no others reports its waiting hosts
    /// now; any other learns their owners when the store is available again.
    pub(super) fn report_unconfirmed(&mut self) {
        for slot in 0..self.fleet.slots() as u32 {
            let host = self.fleet.host(slot);
            let Some(host) = host.filter(|host| host.is_unreported()) else {
                continue;
            };
            let is_online = host.presence.is_online();
            if self.cx.is_alone() {
                for change in self.outbox.unreported(slot) {
                    self.report(slot, change);
                }
            }
            if is_online {
                self.fleet.need_not_report(slot);
            }
        }
    }

    /// Handles a host that the store has refused to this node: another node holds it, or none does
    /// any more.
    pub(super) fn lose_claim(&mut self, slot: u32, is_free: bool) {
        let Some(host) = self.fleet.host(slot) else {
            return;
        };
        let (conn, presence) = (host.identified(), host.presence);
        let is_behind = self.outbox.is_behind(slot);
        match presence {
            Presence::Offline(_) => {}
            Presence::Online if is_free && !is_behind => self.claim_again(slot),
            // A plain host may have connections to several nodes. Each audit tries again.
            Presence::Online if conn.is_none() => {}
            Presence::Online | Presence::Inherited => {
                let id = host.id();
                self.cx.stats.hosts_moved += 1;
                self.fleet.hand_over(&mut self.cx, slot);
                self.outbox.note_release(slot);
                self.tasks.forget_work(&id);
                self.tasks.handed_over(&id);
                if let Some(conn) = conn {
                    let text = "another node holds it: its connection ends";
                    self.cx.log(log::Level::Info, "nodes", id, text);
                    self.close(conn, Reason::Closed);
                }
            }
        }
    }

    /// Claims a connected host that no node holds any more. It was shown as offline.
    fn claim_again(&mut self, slot: u32) {
        let event = self.cx.stamp().seq;
        if let Some(host) = self.fleet.host_mut(slot) {
            host.set_needs_claim(true);
            let change = Change {
                to: Became::Online,
                since: self.cx.at.wall,
                event: Some(event),
                waits: true,
            };
            self.outbox.write(&self.cx, slot, host, change);
        }
    }

    /// Takes back a host that was shown as offline: it is this node's again.
    pub(super) fn returned(&mut self, slot: u32) {
        if self.outbox.is_behind(slot) {
            return;
        }
        let stamp = self.cx.stamp();
        let change = Change {
            to: Became::Online,
            since: stamp.at,
            event: Some(stamp.seq),
            waits: false,
        };
        if let Some(host) = self.fleet.host(slot) {
            self.outbox.write(&self.cx, slot, host, change);
        }
        self.report(slot, change);
    }

    /// Nodes have taken a host from each other too often.
    pub(super) fn contested(&mut self, slot: u32, is_first: bool) {
        let Some(host) = self.fleet.host(slot).filter(|_| is_first) else {
            return;
        };
        let kind = EventKind::Quarantine {
            host: host.id(),
            reason: format!("held by another node, claimed by {}", host.peer().address()),
        };
        let text =
            "nodes took it from each other too often; left for a minute to the one that has it";
        self.publish(log::Level::Error, kind, text);
    }

    /// Publishes an event of the fleet: to the log, to subscribers and to the store.
    pub(super) fn publish(&mut self, level: log::Level, kind: EventKind, text: &str) {
        let (event, about, reason, count) = match &kind {
            EventKind::MassOffline { count } => ("mass-offline", None, None, Some(*count)),
            EventKind::NewIds { count } => ("new-ids", None, None, Some(*count)),
            EventKind::UnknownKeys { count } => ("unknown-keys", None, None, Some(*count)),
            EventKind::Quarantine { host, reason } => {
                ("quarantine", Some(host.to_string()), Some(reason), None)
            }
            EventKind::Duplicate { host, reason } => {
                ("duplicate-id", Some(host.to_string()), Some(reason), None)
            }
            _ => return,
        };
        let stamp = self.cx.stamp();
        let reason = reason.cloned();
        let line = match (count, &reason) {
            (Some(count), _) => format!("{count} {text}"),
            (None, Some(reason)) => format!("{text}: {reason}"),
            (None, None) => text.to_owned(),
        };
        let who = about.clone().unwrap_or_else(|| "fleet".to_owned());
        self.cx.log(level, event, who, line);
        self.cx.publish(stamp, kind);
        let notice = Notice {
            event,
            about,
            state: None,
            reason,
            count,
            audit: None,
            stamp,
        };
        self.outbox.notice(&mut self.cx, notice);
    }

    /// Reports the number of hosts that came online, and of reports on unknown keys, without single
    /// events.
    pub(super) fn sum_up_events(&mut self) {
        if let Some(count) = self.fleet.take_unannounced() {
            let text = "hosts never seen before came online; they have no events of their own";
            self.publish(log::Level::Warn, EventKind::NewIds { count }, text);
        }
        if let Some(count) = self.tasks.take_untold_strays() {
            let text = "reports on keys that were never stored have no events of their own";
            self.publish(log::Level::Warn, EventKind::UnknownKeys { count }, text);
        }
    }

    /// Judges the hosts that did not come back in time after a restart.
    pub(super) fn judge_inherited(&mut self, judge: Instant) {
        let Some((due, is_last)) = self.fleet.take_inherited_due(judge) else {
            return;
        };
        for slot in 0..self.fleet.slots() as u32 {
            let host = self.fleet.host(slot);
            if host.is_none_or(|host| host.presence != Presence::Inherited) {
                continue;
            }
            if !is_last && self.may_come_back_late(slot) {
                let more = self.cx.rules.timeout.times(TIMEOUTS_OF_THE_BUSY - 1);
                self.fleet.set_inherited_deadline(due + more);
            } else {
                self.go_offline(slot, Reason::Lost);
            }
        }
    }

    /// Takes some of the hosts in the store, before the store counts as available.
    pub(super) fn held(&mut self, held: Vec<HeldHost>) {
        let is_first = self.cx.is_starting();
        for found in held {
            let Some(slot) = self.find_or_enter(found.host.clone()) else {
                if found.ours && !is_first {
                    self.end_unknown(found);
                }
                continue;
            };
            if found.keyed {
                self.recall_keyed(slot);
            }
            if is_first {
                self.recall_labels(slot, &found);
            }
            self.fleet.recall(&mut self.cx, slot, found, is_first);
            self.fleet.refresh_labels(slot);
        }
    }

    /// Ends a host that the store has as ours and that has no room here: its row was forgotten
    /// while the store was unavailable.
    fn end_unknown(&mut self, found: HeldHost) {
        let stamp = self.cx.stamp();
        let (host, reason) = (found.host, Reason::Lost);
        self.outbox.end_unknown(Offline {
            ticket: NO_ROW,
            host: host.clone(),
            epoch: found.epoch,
            reason,
            since: self.cx.at.wall,
            event: Some(stamp),
            history: Vec::new(),
        });
        self.cx.publish(stamp, EventKind::Offline { host, reason });
    }

    /// Reports the hosts of a node that is gone, which this node has ended as lost.
    pub(super) fn hosts_ended(&mut self, ended: Vec<HeldHost>) {
        for found in ended {
            let Some(slot) = self.find_or_enter(found.host.clone()) else {
                let (host, reason) = (found.host, Reason::Lost);
                let stamp = self.cx.stamp();
                self.cx.stats.offlines[reason as usize] += 1;
                self.cx.publish(stamp, EventKind::Offline { host, reason });
                continue;
            };
            let host = self.fleet.host(slot);
            if host.is_none_or(|host| !host.presence.is_online()) {
                let count = self.fleet.lost_elsewhere(&mut self.cx, slot, found.seen);
                self.report_mass_offline(count);
            }
            if found.keyed {
                self.recall_keyed(slot);
            }
        }
    }

    /// The host of this name for a connection from `peer`, entered if it is new.
    ///
    /// # Errors
    /// When its network has brought too many new ids, or the table is full.
    pub(super) fn admit_id(&mut self, id: HostId, peer: Peer) -> Result<u32, &'static str> {
        if let Some(slot) = self.fleet.find(&id) {
            return Ok(slot);
        }
        if !self.fleet.admits_new(&self.cx, &id, peer.ip()) {
            self.cx.stats.new_ids_refused += 1;
            return Err("too many new ids from this address; try again in a minute");
        }
        self.find_or_enter(id)
            .ok_or("the server knows as many hosts as it can")
    }

    /// The host of this name, entered if it is new. `None` when the table is full of hosts online.
    fn find_or_enter(&mut self, id: HostId) -> Option<u32> {
        if let Some(slot) = self.fleet.find(&id) {
            return Some(slot);
        }
        if self.fleet.is_full() && !self.forget_brief() {
            let slot = self.fleet.evictable(self.cx.is_store_up())?;
            self.forget_host(slot);
        }
        self.fleet.enter(id)
    }

    /// Forgets the host that has been offline for longest of those whose stay was short, if there is
    /// one.
    fn forget_brief(&mut self) -> bool {
        let is_up = self.cx.is_store_up();
        let Some(slot) = self.fleet.take_brief(is_up) else {
            return false;
        };
        let stored = |host: &&Host| is_up && host.epoch() > 0;
        if let Some(id) = self.fleet.host(slot).filter(stored).map(Host::id) {
            self.outbox.forget_in_store(id);
        }
        self.forget_host(slot);
        true
    }

    /// Handles a request to forget a host, here and in the store.
    pub(crate) fn ask_forget(&mut self, requester: u64, host: &HostId) {
        if *self.cx.had_others && self.cx.is_store_up() && !self.fleet.is_online(host) {
            // It may be online at another node, or known there only.
            let hosts = vec![host.clone()];
            let reading = Reading::Hosts(HostsReading::Forget(host.clone()));
            let question = Question::Hosts { hosts };
            return self.tasks.read(&mut self.cx, requester, reading, question);
        }
        let forgotten = self.try_forget(host);
        self.answer_forget(requester, host, forgotten);
    }

    /// Forgets a host that is not online here, and that the store knows as this.
    pub(super) fn forget_record(
        &mut self,
        requester: u64,
        host: &HostId,
        record: Option<HostRecord>,
    ) {
        let forgotten = match record {
            Some(record) if record.is_online => Err(is_online(host)),
            Some(_) if self.fleet.find(host).is_none() => {
                self.outbox.forget_in_store(host.clone());
                Ok(())
            }
            _ => self.try_forget(host),
        };
        self.answer_forget(requester, host, forgotten);
    }

    fn answer_forget(&mut self, requester: u64, host: &HostId, forgotten: Result<(), Refusal>) {
        let answer = match forgotten {
            Ok(()) => Response::Forgotten { host: host.clone() },
            Err((kind, text)) => Response::Error { kind, text },
        };
        self.cx.respond(requester, answer);
    }

    fn try_forget(&mut self, id: &HostId) -> Result<(), Refusal> {
        if !self.cx.is_store_up() {
            return Err(not_now("the store is unavailable"));
        }
        let slot = self.fleet.find(id);
        let Some((slot, host)) = slot.and_then(|slot| Some((slot, self.fleet.host(slot)?))) else {
            let text = "no host of this name is known".to_owned();
            return Err((ErrorKind::Unknown, text));
        };
        if host.presence.is_online() {
            return Err(is_online(id));
        }
        let writes = &mut *self.outbox;
        let is_written = may_be_forgotten(host, true) && !writes.is_behind(slot);
        if !is_written || !writes.may_forget() {
            return Err(not_now(
                "the store has not confirmed its last change yet; try again",
            ));
        }
        writes.forget_in_store(id.clone());
        self.forget_host(slot);
        self.tasks.expire_queued_of(&mut self.cx, id);
        Ok(())
    }

    /// Forgets a host that is offline, and what was still to be written of it.
    pub(crate) fn forget_host(&mut self, slot: u32) {
        self.outbox.forget_host(slot);
        self.fleet.forget(slot);
    }
}

fn is_online(host: &HostId) -> Refusal {
    let text = format!("{host} is online: only a host that is offline can be forgotten");
    (ErrorKind::Taken, text)
}
