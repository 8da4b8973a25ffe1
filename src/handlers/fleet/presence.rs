//! Presence: hosts online, their times, and their connections.
//!
//! A connection that ends can end only its own session: a host is offline when the last of
//! its connections has ended, for the reason of that end.

use crate::codec::Abnormal;
use crate::codec::DecodeError;
use crate::codec::message::{Flag, Word};
use crate::handlers::context::Ctx;
use crate::handlers::outbox::Outbox;
use crate::ids::{ConnId, HostId};
use crate::limits::TIMEOUTS_OF_THE_BUSY;
use crate::store::op::{HeldHost, Notice, Reason, Settled};
use crate::time::{Instant, Span};

use crate::handlers::Moment;
use crate::handlers::context::StoreState;
use crate::handlers::core::AUDIT_ROUND;
use crate::handlers::effect::{Effect, EventKind};
use crate::handlers::fleet::admission::NO_ROW;
use crate::handlers::fleet::host::{Marks, Peer, Presence, Rest};
use crate::handlers::outbox::changes::{Became, Change};
use crate::handlers::step::Step;

/// Delay of the second sweep after a store connection: a Redis that only hung still executes
/// commands of a dropped connection.
const SWEEP_AGAIN: Span = Span::from_secs(5);

/// The last words to a connection whose id another connection has taken.
const REPLACED: &str = "replaced by another connection with this id";

impl Outbox {
    pub(crate) fn mass_offline(&mut self, cx: &mut Ctx<'_>, count: u64) {
        let stamp = cx.stamp();
        cx.log(
            log::Level::Error,
            "mass-offline",
            "fleet".to_owned(),
            format!("{count} hosts, more than half, went offline within one timeout"),
        );
        cx.tell(stamp, EventKind::MassOffline { count });
        self.notice(
            cx,
            Notice {
                event: "mass-offline",
                about: None,
                state: None,
                reason: None,
                count: Some(count),
                stamp,
            },
        );
    }

    /// An event of the fleet itself, for the store.
    pub(crate) fn notice(&mut self, cx: &mut Ctx<'_>, notice: Notice) {
        if self.writes.notice(notice) {
            cx.stats.notices_dropped += 1;
        }
    }
}

impl Step<'_> {
    /// The host of a connection that has sent a valid message; a plain connection's first makes
    /// the peer's address its host. `None` when the connection had to be closed instead.
    pub(crate) fn known(&mut self, conn: ConnId) -> Option<u32> {
        let session = self.fleet.session(conn)?;
        if session.host().is_some() {
            return session.host();
        }
        let peer = self.fleet.peer(conn);
        if let Some(id) = self.auth.certified.get(&conn).cloned() {
            return self.known_by_certificate(conn, id, peer);
        }
        let id = HostId::of_address(peer.ip());
        if let Some(why) = self.demands_key(&id) {
            self.note_unkeyed(&id, peer, &why);
            let what = "a plain message for a host that must prove a key";
            let error = DecodeError::new(Abnormal::OutOfPlace(what), 0);
            self.abnormal(conn, &error);
            return None;
        }
        let slot = match self.admit_id(id, peer) {
            Ok(slot) => slot,
            Err(why) => {
                let error = DecodeError::new(Abnormal::OutOfPlace(why), 0);
                self.abnormal(conn, &error);
                return None;
            }
        };
        if self
            .fleet
            .hosts
            .get(slot)
            .is_some_and(|host| self.auth.has_key(host))
        {
            let what = "a plain message for a host that has proved its key";
            let error = DecodeError::new(Abnormal::OutOfPlace(what), 0);
            self.abnormal(conn, &error);
            return None;
        }
        self.attach(conn, slot, false);
        Some(slot)
    }

    /// Makes `conn` a connection of the host in `slot`.
    pub(crate) fn attach(&mut self, conn: ConnId, slot: u32, identified: bool) {
        let Some(session) = self.fleet.session_mut(conn) else {
            return;
        };
        session.identified = identified;
        self.fleet.sessions.set_host(conn, slot);
        let peer = self.fleet.peer(conn);
        let Some(host) = self.fleet.hosts.get_mut(slot) else {
            return;
        };
        host.sessions += 1;
        let older_asks = host.asks();
        let older = if identified {
            host.set_asks(false);
            host.set_identified(Some(conn))
        } else {
            None
        };
        let before = host.peer();
        let moved = identified && before != peer;
        host.set_peer(peer);
        self.fleet.addresses.remove(before.ip(), slot);
        if !host.is_named_by(peer.ip()) {
            self.fleet.addresses.insert(peer.ip(), host.udp(), slot);
        }
        let was = host.presence;
        match was {
            Presence::Offline(_) => self.come_online(slot),
            Presence::Inherited => {
                host.set_presence(Presence::Online, None);
                self.cx.stats.hosts_inherited -= 1;
                self.write_again(slot);
                self.send_queued_to(slot);
            }
            Presence::Online if moved => {
                // Otherwise this write would replace that of the sweep, and its event would be
                // lost.
                self.sweep_early(slot);
                self.write_again(slot);
            }
            Presence::Online => {}
        }
        if !identified {
            self.connected_anew(conn, slot);
        }
        if let Some(older) = older {
            self.cx.stats.replacements += 1;
            if older_asks {
                let why = Word::Refused(REPLACED.to_owned());
                self.cx.reply(older, Flag::Hello, None, why);
            }
            self.cx.close(older);
            self.end_session(older, Reason::Closed);
        }
    }

    /// Takes a connection out, and its host offline if it was the last.
    pub(crate) fn end_session(&mut self, conn: ConnId, reason: Reason) {
        let last = self.fleet.last_message(conn.slot, self.cx.at.now);
        let Some(session) = self.fleet.sessions.remove(conn) else {
            return;
        };
        self.auth.certified.remove(&conn);
        self.auth.keys.forget(conn);
        self.tasks.work.closed(conn);
        if self.tasks.payloads.forget(conn) {
            self.resume_results();
        }
        let beaten = self.outbox.writes.beaten.remove(conn.slot);
        let Some(slot) = session.host() else { return };
        let Some(host) = self.fleet.hosts.get_mut(slot) else {
            return;
        };
        if beaten {
            host.seen = host.seen.max(wall_of(last, self.cx.at));
        }
        host.sessions -= 1;
        if host.identified() == Some(conn) {
            host.set_identified(None);
        }
        if host.sessions == 0 && host.presence.is_online() {
            self.go_offline(slot, reason);
        } else {
            self.fleet.inventory_orphaned(&mut self.cx, conn, slot);
        }
    }

    fn come_online(&mut self, slot: u32) {
        self.sweep_early(slot);
        let stamp = self.cx.stamp();
        let Some(host) = self.fleet.hosts.get_mut(slot) else {
            return;
        };
        let lasting = host.has(Marks::LASTING);
        if let Some(gone) = host.gone().filter(|_| lasting) {
            self.fleet.mass.back(self.cx.at.now, gone);
        }
        host.set_presence(Presence::Online, None);
        host.since = self.cx.at.wall;
        host.seen = self.cx.at.wall;
        let (id, peer) = (host.id(), host.peer());
        self.cx.stats.onlines += 1;
        self.cx.stats.hosts_online += 1;
        let mut stamp = Some(stamp);
        if !lasting {
            self.fleet.arrivals.came(self.cx.at.now, self.cx.at.wall);
            if !self.fleet.newcomers.may_tell(self.cx.at.now) {
                self.fleet.untold.insert(slot);
                stamp = None;
            }
        }
        self.write(
            slot,
            Change {
                to: Became::Online,
                since: self.cx.at.wall,
                event: stamp.map(|stamp| stamp.seq),
            },
        );
        if let Some(stamp) = stamp {
            let from = peer.address();
            self.cx.tell(stamp, EventKind::Online { host: id, from });
        }
        self.send_queued_to(slot);
    }

    fn send_queued_to(&mut self, slot: u32) {
        if let Some(host) = self.fleet.hosts.get(slot).map(|host| host.id()) {
            self.tasks.send_queued(&mut self.cx, &host);
        }
    }

    /// Takes a host offline. Its connections, if any are left, are the caller's business.
    pub(crate) fn go_offline(&mut self, slot: u32, reason: Reason) {
        self.sweep_early(slot);
        let up = self.cx.is_store_up();
        let stamp = self.cx.stamp();
        let Some(host) = self.fleet.hosts.get_mut(slot) else {
            return;
        };
        if host.presence == Presence::Inherited {
            self.cx.stats.hosts_inherited -= 1;
        }
        if !host.has(Marks::LASTING) {
            let lasted = !self.fleet.arrivals.went(self.cx.at.now, host.since);
            host.set(Marks::LASTING, lasted);
        }
        let lasting = host.has(Marks::LASTING);
        let keyed = host.has(Marks::KEYED);
        let is_told = !self.fleet.untold.remove(slot) || lasting;
        host.set_presence(Presence::Offline(Some(reason)), Some(self.cx.at.now));
        host.since = self.cx.at.wall;
        host.set(
            Marks::IN_DOUBT,
            host.has(Marks::IN_DOUBT) || (self.outbox.writes.sweep.again.is_some() || !up),
        );
        let id = host.id();
        if !self.fleet.addresses.is_empty() {
            self.fleet.addresses.remove(host.peer().ip(), slot);
        }
        if let Some(rest) = host.rest_mut() {
            forget_inventory(rest);
        }
        self.tasks.work.forget(&id);
        self.cx.stats.offlines[reason as usize] += 1;
        self.cx.stats.hosts_online -= 1;
        if is_told {
            self.cx.tell(stamp, EventKind::Offline { host: id, reason });
        }
        self.write(
            slot,
            Change {
                to: Became::Offline(reason),
                since: self.cx.at.wall,
                event: is_told.then_some(stamp.seq),
            },
        );
        if !lasting {
            // Not a loss of the fleet's; and a key that was proved is not forgotten for want of room here.
            return if !keyed {
                self.note_brief(slot)
            };
        }
        let lasting = self.cx.stats.hosts_online - self.fleet.arrivals.count(self.cx.at.now);
        if let Some(count) = self.fleet.mass.gone(self.cx.at.now, lasting) {
            self.outbox.mass_offline(&mut self.cx, count);
        }
    }

    /// Hosts that did not come back in time after a restart.
    pub(crate) fn judge_inherited(&mut self, judge: Instant) {
        let due = self.fleet.inherited.deadline.filter(|due| *due <= judge);
        let Some(due) = due.filter(|_| self.fleet.inherited.lease_clear) else {
            return;
        };
        let is_last = std::mem::replace(&mut self.fleet.inherited.is_last, true);
        self.fleet.inherited.deadline = None;
        for slot in 0..self.fleet.slots() as u32 {
            let host = self.fleet.hosts.get(slot);
            if host.is_none_or(|host| host.presence != Presence::Inherited) {
                continue;
            }
            if !is_last && self.may_come_back_late(slot) {
                let more = self.cx.rules.timeout.times(TIMEOUTS_OF_THE_BUSY - 1);
                self.fleet.inherited.deadline = Some(due + more);
            } else {
                self.go_offline(slot, Reason::Lost);
            }
        }
    }

    /// Some of the hosts the store knows, before it is up.
    pub(crate) fn held(&mut self, held: Vec<HeldHost>) {
        let first = self.cx.stats.store_sessions == 0;
        for found in held {
            let Some(slot) = self.find_or_enter(found.host.clone()) else {
                if found.ours && !first {
                    self.outbox.end_unknown(&mut self.cx, found);
                }
                continue;
            };
            if found.keyed {
                self.recall_keyed(slot);
            }
            let Some(host) = self.fleet.hosts.get_mut(slot) else {
                continue;
            };
            let unheard_of = host.since.0 == 0;
            // One that an older server left behind has no time of its own.
            let since = if found.since.0 == 0 {
                self.cx.at.wall
            } else {
                found.since
            };
            host.set(
                Marks::TOLD_ONLINE,
                host.has(Marks::TOLD_ONLINE) || found.ours,
            );
            if found.ours {
                // What the store says now counts, also where it has gone back to an older copy of itself.
                host.epoch = found.epoch;
            }
            host.seen = host.seen.max(found.seen);
            if host.peer() == Peer::UNKNOWN {
                host.set_peer(found.peer.map_or(Peer::UNKNOWN, Peer::new));
            }
            if found.hostname.is_some() || found.mac.is_some() || !found.addresses.is_empty() {
                let rest = host.rest_or_new();
                if rest.inventory_from.is_none() {
                    rest.hostname = found.hostname;
                    rest.mac = found.mac;
                    rest.addresses = found.addresses;
                }
            }
            if host.presence.is_online() && !host.has(Marks::LASTING) {
                self.fleet.arrivals.went(self.cx.at.now, host.since);
            }
            host.set(Marks::LASTING, true);
            if found.ours && host.presence.is_online() {
                // It came back before the store could be read for the first time: it was never offline.
                if first {
                    host.since = since;
                }
            } else if found.ours && first && unheard_of {
                host.set_presence(Presence::Inherited, None);
                let peer = host.peer();
                if peer != Peer::UNKNOWN && !host.is_named_by(peer.ip()) {
                    self.fleet.addresses.insert(peer.ip(), host.udp(), slot);
                }
                host.since = since;
                self.cx.stats.hosts_online += 1;
                self.cx.stats.hosts_inherited += 1;
            } else if unheard_of {
                let reason = if found.ours {
                    Some(Reason::Lost)
                } else {
                    found.reason
                };
                host.set_presence(Presence::Offline(reason), None);
                host.since = if found.ours { self.cx.at.wall } else { since };
            }
        }
    }

    /// Hosts of a node that is gone, which this node holds now. Those that have not come here are lost: their node has been gone
    /// for as long as a host may be silent.
    pub(crate) fn inherit_hosts(&mut self, held: Vec<HeldHost>) {
        for found in held {
            let Some(slot) = self.find_or_enter(found.host.clone()) else {
                continue;
            };
            let Some(host) = self.fleet.hosts.get_mut(slot) else {
                continue;
            };
            if matches!(host.presence, Presence::Offline(_)) {
                host.epoch = found.epoch;
                host.seen = host.seen.max(found.seen);
                host.set(Marks::TOLD_ONLINE, true);
                host.set_presence(Presence::Inherited, None);
                self.cx.stats.hosts_online += 1;
                self.cx.stats.hosts_inherited += 1;
                self.go_offline(slot, Reason::Lost);
            } else {
                self.write_again(slot);
            }
            if found.keyed {
                self.recall_keyed(slot);
            }
        }
    }

    /// The store can be read and written; all that it knew of our hosts has been said.
    pub(crate) fn store_up(&mut self, lease_clear: bool, emptied: bool) {
        self.forget_flights();
        self.outbox.writes.forget_state();
        if self.cx.stats.store_sessions == 0 {
            self.fleet.inherited.deadline = Some(self.cx.at.now + self.cx.rules.timeout);
            self.outbox.audit_due = Some(self.cx.at.now + AUDIT_ROUND);
        }
        let is_first = self.cx.stats.store_sessions == 0;
        self.tasks
            .states
            .interrupt(self.cx.stats.store_sessions, self.cx.at.now);
        self.fleet.inherited.lease_clear |= lease_clear;
        self.cx.stats.store_sessions += 1;
        self.outbox.writes.sweep.cursor = Some(0);
        self.outbox.writes.sweep.again = Some(self.cx.at.now + SWEEP_AGAIN);
        self.tasks.states.walk();
        // At the first store connection the tables equal the store's content.
        self.tasks
            .restores
            .begin(emptied && !is_first, self.cx.stats.store_sessions);
        if !self.cx.is_store_up() {
            self.cx.log(
                log::Level::Info,
                "store",
                "store".to_owned(),
                format!(
                    "up; {} hosts held from before",
                    self.cx.stats.hosts_inherited
                ),
            );
        }
        *self.cx.store = StoreState::Up;
        if is_first {
            self.resume_tasks();
            self.watch_busy_hosts();
            self.resume_results();
        }
    }

    /// The store does not answer.
    pub(crate) fn store_away(&mut self, why: String) {
        self.forget_flights();
        self.outbox.writes.forget_unknown();
        self.outbox.writes.forget_state();
        self.cx.log(
            log::Level::Warn,
            "store",
            "store".to_owned(),
            format!("away: {why}"),
        );
        self.tasks
            .states
            .interrupt(self.cx.stats.store_sessions, self.cx.at.now);
        self.tasks.restores.interrupt();
        self.tasks.undo_dispatches(&mut self.cx);
        self.tasks.forget_reads(&mut self.cx);
        *self.cx.store = StoreState::Away(why);
    }

    /// There is no use in waiting for the store: it refuses us, or is damaged. A server that has never had it ends with `status`;
    /// one that has goes on without it.
    pub(crate) fn store_unusable(&mut self, status: u8, why: String) {
        if self.cx.stats.store_sessions == 0 {
            self.cx.fx.push(Effect::Stop { status, why });
        } else {
            self.store_away(why);
        }
    }

    fn forget_flights(&mut self) {
        for slot in 0..self.fleet.slots() as u32 {
            if let Some(host) = self.fleet.hosts.get_mut(slot)
                && host.take(Marks::IN_FLIGHT)
            {
                host.set(Marks::IN_DOUBT, true);
                // If it was an `Offline` and was run, the stream has told it. If not, the store
                // still has the host as ours, and says so.
                host.set(
                    Marks::TOLD_ONLINE,
                    host.has(Marks::TOLD_ONLINE) && !self.outbox.writes.is_leaving(slot),
                );
            }
        }
    }

    /// An `Online` or `Offline` was settled.
    pub(crate) fn presence_settled(&mut self, ticket: crate::ids::HostRef, settled: Settled) {
        if ticket == NO_ROW {
            return;
        }
        self.outbox.writes.presence_in_flight =
            self.outbox.writes.presence_in_flight.saturating_sub(1);
        let Some(slot) = self.fleet.resolve(ticket) else {
            return;
        };
        let Some(host) = self.fleet.hosts.get_mut(slot) else {
            return;
        };
        host.set(Marks::IN_FLIGHT, false);
        // What a store that went away still runs it runs before all is written once more.
        host.set(
            Marks::IN_DOUBT,
            host.has(Marks::IN_DOUBT) && self.outbox.writes.sweep.again.is_some(),
        );
        match settled {
            Settled::Claimed { epoch } => {
                host.epoch = epoch;
                host.set(Marks::TOLD_ONLINE, true);
                if host.rest().is_some_and(|rest| rest.inventory_behind) {
                    self.outbox.writes.inventories.push_back(slot);
                }
            }
            Settled::Released | Settled::NotOurs => host.set(Marks::TOLD_ONLINE, false),
            Settled::Refused(why) => {
                // The write may be partial, so any claim of ours is meant when it is ended, and the
                // stored presence counts as the opposite: the next audit tries again.
                host.epoch = 0;
                host.set(Marks::TOLD_ONLINE, !host.presence.is_online());
                let who = host.id().to_string();
                let text = format!("its presence is not written: {why}");
                self.cx.log(log::Level::Error, "store", who, text);
            }
        }
        self.outbox.writes.settled(slot);
    }

    /// Writes a host that is online again, without an event.
    pub(crate) fn write_again(&mut self, slot: u32) {
        let Some(host) = self.fleet.hosts.get(slot) else {
            return;
        };
        let since = host.since;
        self.write(
            slot,
            Change {
                to: Became::Online,
                since,
                event: None,
            },
        );
    }

    /// A change to be written, unless the store is not there: then all is written when it is.
    pub(crate) fn write(&mut self, slot: u32, change: Change) {
        if !self.cx.is_store_up() {
            return;
        }
        let in_flight = self
            .fleet
            .hosts
            .get(slot)
            .is_some_and(|host| host.has(Marks::IN_FLIGHT));
        self.outbox.writes.change(slot, change, in_flight);
    }
}

/// The wall clock at an earlier moment of the monotonic one.
pub(crate) fn wall_of(moment: Instant, at: Moment) -> crate::time::UnixMs {
    crate::time::UnixMs(at.wall.0.saturating_sub(at.now.since(moment).as_millis()))
}

/// Forgets the parts of a host's inventory that are deleted when it goes offline; its name and MAC
/// address stay.
fn forget_inventory(rest: &mut Rest) {
    rest.addresses = Vec::new();
    rest.values = Vec::new();
    rest.inventory_from = None;
    rest.inventory_behind = false;
    rest.inventory_asks = Vec::new();
}
