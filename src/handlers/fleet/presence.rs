//! Presence of hosts: changes of the table by connections, their ends, the store and silence.

use crate::codec::message::Hello;
use crate::handlers::Moment;
use crate::handlers::context::Ctx;
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::{Marks, Peer, Presence, Rest};
use crate::handlers::fleet::labels::{VERSION, check_label};
use crate::ids::{ConnId, HostId};
use crate::store::op::{HeldHost, LabelPlace, Reason, Stamp};
use crate::time::{Instant, UnixMs};

/// Result of assigning a connection to a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attached {
    /// Presence of the host before.
    pub(crate) was: Presence,
    /// Its id is its own, and its address differs from the previous one.
    pub(crate) moved: bool,
    /// The replaced connection, and whether the hello on it asked for a reply.
    pub(crate) replaced: Option<(ConnId, bool)>,
}

/// A session of a host has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionEnded {
    pub(crate) slot: u32,
    /// It was the last session of an online host.
    pub(crate) is_last: bool,
}

/// A host has come online.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CameOnline {
    /// Number of its event, if it has one.
    pub(crate) event: Option<u64>,
}

/// A host has gone offline.
#[derive(Debug)]
pub(crate) struct WentOffline {
    pub(crate) id: HostId,
    /// Number of its event, if it has one.
    pub(crate) event: Option<u64>,
    /// It had never stayed for a timeout and has proved no key.
    pub(crate) is_brief: bool,
}

/// The deadline of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) conn: ConnId,
    pub(crate) host: Option<u32>,
    /// Time from which the connection counts as silent.
    pub(crate) silent: Instant,
    /// The host may be silent while it is busy.
    pub(crate) is_plain: bool,
}

impl Fleet {
    /// Makes `conn` a connection of the host in `slot`.
    pub(crate) fn attach(
        &mut self,
        cx: &mut Ctx<'_>,
        conn: ConnId,
        slot: u32,
        identified: bool,
    ) -> Option<Attached> {
        self.sessions.get_mut(conn)?.identified = identified;
        self.sessions.set_host(conn, slot);
        let peer = self.sessions.peer(conn);
        let host = self.hosts.get_mut(slot)?;
        host.sessions += 1;
        let asks = host.asks();
        let older = if identified {
            host.set_asks(false);
            host.set_identified(Some(conn))
        } else {
            None
        };
        let before = host.peer();
        host.set_peer(peer);
        self.addresses.remove(before.ip(), slot);
        if !host.is_named_by(peer.ip()) {
            self.addresses.insert(peer.ip(), host.udp(), slot);
        }
        let was = host.presence;
        if was == Presence::Inherited {
            host.set_presence(Presence::Online, None);
            cx.stats.hosts_inherited -= 1;
        }
        let moved = identified && before != peer;
        if was != Presence::Online || moved {
            host.set_needs_claim(true);
        }
        if before.ip() != peer.ip() || before == Peer::UNKNOWN {
            self.refresh_labels(slot);
        }
        Some(Attached {
            was,
            moved,
            replaced: older.map(|older| (older, asks)),
        })
    }

    /// Records the contents of a hello. Returns whether the host's process differs from the
    /// previous one.
    pub(crate) fn introduce(&mut self, slot: u32, hello: &Hello<'_>, asks: bool) -> bool {
        let Some(host) = self.hosts.get_mut(slot) else {
            return false;
        };
        host.set_asks(asks);
        host.set_udp(hello.udp.unwrap_or(0));
        host.set(Marks::PUSH, hello.push);
        host.set_cancels(hello.cancel);
        let ip = host.peer().ip();
        if !host.is_named_by(ip) {
            self.addresses.insert(ip, host.udp(), slot);
        }
        self.claim_labels(slot, hello);
        let Some(host) = self.hosts.get_mut(slot) else {
            return false;
        };
        let before = host.boot();
        let Some(boot) = hello.boot.as_deref().filter(|boot| before != Some(boot)) else {
            return false;
        };
        let restarted = before.is_some();
        host.set_boot(boot);
        restarted
    }

    /// Takes the labels that a hello claims.
    fn claim_labels(&mut self, slot: u32, hello: &Hello<'_>) {
        if hello.labels.is_empty() && hello.version.is_none() && !self.labels.concern(slot) {
            return;
        }
        let version = hello.version.as_deref().map(|version| (VERSION, version));
        let own = hello.labels.iter().map(|(key, value)| (&**key, &**value));
        let own = own.filter(|(key, _)| check_label(key, None).is_ok());
        let is_changed = self.labels.claim(slot, own.chain(version));
        // A new host has no record yet.
        let is_stored = self.hosts.get(slot).is_some_and(|host| host.epoch() > 0);
        if is_changed && is_stored {
            self.labels.write(slot, LabelPlace::Host);
        }
    }

    /// Ends the session of a connection, if it has a host. Its last message counts if it `was_seen`
    /// since the last flush.
    pub(crate) fn end_session(
        &mut self,
        cx: &Ctx<'_>,
        conn: ConnId,
        was_seen: bool,
    ) -> Option<SessionEnded> {
        let last = self.sessions.last(conn.slot, cx.at.now);
        let slot = self.sessions.remove(conn)?.host()?;
        let host = self.hosts.get_mut(slot)?;
        if was_seen {
            host.seen = host.seen.max(wall_of(last, cx.at));
        }
        host.sessions -= 1;
        if host.identified() == Some(conn) {
            host.set_identified(None);
        }
        let is_last = host.sessions == 0 && host.presence.is_online();
        Some(SessionEnded { slot, is_last })
    }

    /// Makes a host online. Its event `waits` while that of its offline transition does.
    pub(crate) fn come_online(
        &mut self,
        cx: &mut Ctx<'_>,
        slot: u32,
        waits: bool,
    ) -> Option<CameOnline> {
        let stamp = cx.stamp();
        let since = self.leave_state(slot, cx.at.wall);
        let host = self.hosts.get_mut(slot)?;
        let lasting = host.has(Marks::LASTING);
        if let Some(gone) = host.gone().filter(|_| lasting) {
            self.mass_offline.record_online(cx.at.now, gone);
        }
        host.set_presence(Presence::Online, None);
        host.since = since;
        host.seen = cx.at.wall;
        cx.stats.hosts_online += 1;
        cx.stats.onlines += 1;
        if waits {
            let event = Some(stamp.seq);
            return Some(CameOnline { event });
        }
        if !lasting {
            self.arrivals.came(cx.at.now, since);
            if !self.newcomers.may_tell(host.peer().ip(), cx.at.now) {
                self.unannounced.insert(slot);
                return Some(CameOnline { event: None });
            }
        }
        let from = host.peer().address();
        let host = host.id();
        cx.publish_event(stamp, EventKind::Online { host, from }, !lasting);
        let event = Some(stamp.seq);
        Some(CameOnline { event })
    }

    /// Reports that a host is online, after the store has confirmed the earlier change.
    pub(crate) fn report_online(&self, cx: &mut Ctx<'_>, slot: u32, stamp: Stamp) {
        let Some(host) = self.hosts.get(slot) else {
            return;
        };
        let from = host.peer().address();
        let (passing, host) = (!host.has(Marks::LASTING), host.id());
        cx.publish_event(stamp, EventKind::Online { host, from }, passing);
    }

    /// Takes a host offline, without a report. It stays `in_doubt` while the store may still write it
    /// as online.
    pub(crate) fn go_offline(
        &mut self,
        cx: &mut Ctx<'_>,
        slot: u32,
        reason: Reason,
        in_doubt: bool,
    ) -> Option<WentOffline> {
        let since = self.leave_state(slot, cx.at.wall);
        let host = self.hosts.get_mut(slot)?;
        if host.presence == Presence::Inherited {
            cx.stats.hosts_inherited -= 1;
        }
        if !host.has(Marks::LASTING) {
            let lasted = !self.arrivals.went(cx.at.now, host.since);
            host.set(Marks::LASTING, lasted);
        }
        let lasting = host.has(Marks::LASTING);
        let is_announced = !self.unannounced.remove(slot) || lasting;
        host.set_presence(Presence::Offline(Some(reason)), Some(cx.at.now));
        host.since = since;
        host.set(Marks::IN_DOUBT, host.has(Marks::IN_DOUBT) || in_doubt);
        if !self.addresses.is_empty() {
            self.addresses.remove(host.peer().ip(), slot);
        }
        if let Some(rest) = host.rest_mut() {
            forget_inventory(rest);
        }
        self.unreported += u64::from(!host.is_unreported());
        host.set_unreported(true);
        cx.stats.hosts_online -= 1;
        let id = host.id();
        if !lasting {
            self.newcomers.left_early(host.peer().ip(), cx.at.now);
        }
        // A host with a proved key is not forgotten for lack of room.
        let is_brief = !lasting && !host.has(Marks::KEYED);
        Some(WentOffline {
            id,
            event: is_announced.then(|| cx.stamp().seq),
            is_brief,
        })
    }

    /// Reports that a host is offline; without a `stamp` it has no event. Returns the number of hosts
    /// that went offline together, if that is to be reported now.
    pub(crate) fn report_offline(
        &mut self,
        cx: &mut Ctx<'_>,
        slot: u32,
        reason: Reason,
        stamp: Option<Stamp>,
    ) -> Option<u64> {
        self.need_not_report(slot);
        let host = self.hosts.get(slot)?;
        let lasting = host.has(Marks::LASTING);
        cx.stats.offlines[reason as usize] += 1;
        if let Some(stamp) = stamp {
            let host = host.id();
            cx.publish_event(stamp, EventKind::Offline { host, reason }, !lasting);
        }
        // A host that never stayed is no loss of the fleet.
        // Those whose reports wait still count as online.
        let online = cx.stats.hosts_online + self.unreported - self.arrivals.count(cx.at.now);
        let count = lasting.then(|| self.mass_offline.record_offline(cx.at.now, online));
        count.flatten()
    }

    /// Clears the pending offline event of a host.
    pub(crate) fn need_not_report(&mut self, slot: u32) {
        let host = self.hosts.get_mut(slot);
        if let Some(host) = host.filter(|host| host.is_unreported()) {
            host.set_unreported(false);
            self.unreported -= 1;
        }
    }

    /// Takes a host offline here, without a report: another node holds it, or no node does any
    /// more.
    pub(crate) fn hand_over(&mut self, cx: &mut Ctx<'_>, slot: u32) {
        self.need_not_report(slot);
        // The record of the other node has the time of the next state.
        self.leave_state(slot, cx.at.wall);
        let host = self.hosts.get_mut(slot);
        let Some(host) = host.filter(|host| host.presence.is_online()) else {
            return;
        };
        if host.presence == Presence::Inherited {
            cx.stats.hosts_inherited -= 1;
        }
        cx.stats.hosts_online -= 1;
        if !host.has(Marks::LASTING) {
            let lasted = !self.arrivals.went(cx.at.now, host.since);
            host.set(Marks::LASTING, lasted);
        }
        self.unannounced.remove(slot);
        host.set_presence(Presence::Offline(None), None);
        host.set(Marks::TOLD_ONLINE, false);
        host.set(Marks::IN_DOUBT, false);
        host.set_needs_claim(false);
        host.set_epoch(0);
        if !self.addresses.is_empty() {
            self.addresses.remove(host.peer().ip(), slot);
        }
        if let Some(rest) = host.rest_mut() {
            forget_inventory(rest);
        }
    }

    /// Applies the store's record of a host; `is_first` at the first store connection.
    pub(crate) fn recall(&mut self, cx: &mut Ctx<'_>, slot: u32, found: HeldHost, is_first: bool) {
        let Some(host) = self.hosts.get_mut(slot) else {
            return;
        };
        let is_new = host.since.0 == 0;
        // One that an older server left behind has no time of its own.
        let since = if found.since.0 == 0 {
            cx.at.wall
        } else {
            found.since
        };
        host.set(
            Marks::TOLD_ONLINE,
            host.has(Marks::TOLD_ONLINE) || found.ours,
        );
        if found.ours {
            // The store's record counts now, even if the store has returned to an older copy of its
            // data.
            host.set_epoch(found.epoch);
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
            self.arrivals.went(cx.at.now, host.since);
        }
        host.set(Marks::LASTING, true);
        if found.ours && host.presence.is_online() {
            // It reconnected before the first reading of the store: it was never offline.
            if is_first {
                host.since = since;
            }
        } else if found.ours && is_first && is_new {
            host.set_presence(Presence::Inherited, None);
            let peer = host.peer();
            if peer != Peer::UNKNOWN && !host.is_named_by(peer.ip()) {
                self.addresses.insert(peer.ip(), host.udp(), slot);
            }
            host.since = since;
            cx.stats.hosts_online += 1;
            cx.stats.hosts_inherited += 1;
        } else if is_new {
            let lost = found.ours.then_some(Reason::Lost);
            host.set_presence(Presence::Offline(lost.or(found.reason)), None);
            host.since = if found.ours { cx.at.wall } else { since };
        }
    }

    /// A host of a node that is gone has been ended there. Returns the number of hosts that went
    /// offline together, if that is to be reported now.
    pub(crate) fn lost_elsewhere(
        &mut self,
        cx: &mut Ctx<'_>,
        slot: u32,
        seen: UnixMs,
    ) -> Option<u64> {
        let host = self.hosts.get_mut(slot)?;
        host.seen = host.seen.max(seen);
        host.since = cx.at.wall;
        host.set(Marks::LASTING, true);
        host.set_presence(Presence::Offline(Some(Reason::Lost)), Some(cx.at.now));
        let stamp = cx.stamp();
        self.report_offline(cx, slot, Reason::Lost, Some(stamp))
    }

    /// The deadline of the connection in `slot`, unless it has a later one than `judge`.
    pub(crate) fn due(&self, cx: &Ctx<'_>, slot: u32, judge: Instant) -> Option<Due> {
        let (conn, session) = self.sessions.at(slot)?;
        if session.is_armed_after(judge) {
            return None;
        }
        let last = self.sessions.last(slot, cx.at.now);
        let host = session.host();
        let mut is_plain = false;
        let silent = match host {
            None => last + cx.rules.first_message,
            Some(_) if session.is_waiting() => cx.at.now + cx.rules.timeout,
            Some(host) => {
                is_plain = !session.identified;
                let datagram = self.hosts.get(host).map_or(last, |host| host.datagram());
                last.max(datagram) + cx.rules.timeout
            }
        };
        Some(Due {
            conn,
            host,
            silent,
            is_plain,
        })
    }

    /// Prefetches the rows of these connections and of their hosts. A hundred thousand rows that
    /// are due at once are scattered in memory; without prefetching each access would wait for
    /// memory.
    pub(crate) fn prefetch(&self, slots: &[u32]) {
        let host = |slot: &u32| self.hosts.get(self.sessions.at(*slot)?.1.host()?);
        let online = slots.iter().filter_map(host);
        let online = online.filter(|host| host.presence.is_online()).count();
        std::hint::black_box(online);
    }

    /// Takes the deadline of the hosts held over a restart, if it has come and no other process can
    /// be holding them: the deadline, and whether hosts in the middle of a task are judged too.
    pub(crate) fn take_inherited_due(&mut self, judge: Instant) -> Option<(Instant, bool)> {
        let due = self.inherited_deadline().filter(|due| *due <= judge)?;
        self.inherited.deadline = None;
        let is_last = std::mem::replace(&mut self.inherited.is_last, true);
        Some((due, is_last))
    }

    /// Deadline of the hosts held over a restart, once no other process can be holding them.
    pub(crate) fn inherited_deadline(&self) -> Option<Instant> {
        let deadline = self.inherited.deadline;
        deadline.filter(|_| self.inherited.lease_clear)
    }

    pub(crate) fn set_inherited_deadline(&mut self, deadline: Instant) {
        self.inherited.deadline = Some(deadline);
    }

    /// Records that no other process can hold our hosts any more.
    pub(crate) fn clear_lease(&mut self) {
        self.inherited.lease_clear = true;
    }
}

/// The wall clock at an earlier moment of the monotonic one.
pub(crate) fn wall_of(moment: Instant, at: Moment) -> UnixMs {
    UnixMs(at.wall.0.saturating_sub(at.now.since(moment).as_millis()))
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
