//! Room in the table of hosts: admission, eviction, and events in sum.

use crate::handlers::context::Ctx;
use crate::handlers::outbox::Outbox;
use crate::ids::{HostId, HostRef};
use crate::limits::{BRIEF_HOSTS_MAX, BRIEF_LOOKS_MAX};
use crate::store::op::{HeldHost, Notice, Offline, Reason};

use crate::handlers::ask::{Answer, ErrorKind};
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::host::{Host, Marks, Peer};
use crate::handlers::step::Step;
use crate::handlers::tasks::dispatch::{Refusal, not_now};

/// The ticket of a host that has no row.
pub(crate) const NO_ROW: HostRef = HostRef {
    slot: u32::MAX,
    generation: u32::MAX,
};

/// Hosts forgotten at most when one more has gone after a short stay.
const BRIEF_FORGOTTEN_AT_ONCE: usize = 4;

impl Outbox {
    /// Ends a host that the store has as ours, and that has no room here: its row was forgotten while the store was away.
    pub(crate) fn end_unknown(&mut self, cx: &mut Ctx<'_>, found: HeldHost) {
        let stamp = cx.stamp();
        let (host, reason) = (found.host, Reason::Lost);
        self.writes.end_unknown(Offline {
            ticket: NO_ROW,
            host: host.clone(),
            epoch: found.epoch,
            reason,
            since: cx.at.wall,
            event: Some(stamp),
        });
        cx.tell(stamp, EventKind::Offline { host, reason });
    }
}

impl Step<'_> {
    /// The host of this name that `peer` wants to be, entered if it is new.
    ///
    /// # Errors
    /// When its network has brought too many new ids, or the table is full.
    pub(crate) fn admit_id(&mut self, id: HostId, peer: Peer) -> Result<u32, &'static str> {
        if let Some(slot) = self.fleet.find(&id) {
            return Ok(slot);
        }
        let ip = peer.ip();
        // One IPv4 address is one host by its own name. Until the store's hosts are known, all are
        // new.
        let is_free = self.cx.is_starting() || (ip.is_ipv4() && id == HostId::of_address(ip));
        if !is_free && !self.fleet.newcomers.admit(ip, self.cx.at.now) {
            self.cx.stats.new_ids_refused += 1;
            return Err("too many new ids from this address; try again in a minute");
        }
        self.find_or_enter(id)
            .ok_or("the server knows as many hosts as it can")
    }

    /// The host of this name, entered if it is new. `None` when the table is full of hosts online.
    pub(crate) fn find_or_enter(&mut self, id: HostId) -> Option<u32> {
        if let Some(slot) = self.fleet.find(&id) {
            return Some(slot);
        }
        if self.fleet.hosts.is_full() && !self.forget_brief() {
            let is_up = self.cx.is_store_up();
            let slot = self.fleet.hosts.evictable(|_, host| may_go(host, is_up))?;
            self.forget_host(slot);
        }
        self.fleet.hosts.insert(id)
    }

    /// The host in `slot` has gone offline after a short stay. Only so many of these are kept.
    pub(crate) fn note_brief(&mut self, slot: u32) {
        if let Some(host) = self.fleet.reference(slot) {
            self.fleet.newcomers.brief.push_back(host);
        }
        // More than one goes where some could not go before.
        for _ in 0..BRIEF_FORGOTTEN_AT_ONCE {
            if self.fleet.newcomers.brief.len() <= BRIEF_HOSTS_MAX || !self.forget_brief() {
                return;
            }
        }
    }

    /// Forgets the host that has been offline for longest of those whose stay was short, if there is one.
    fn forget_brief(&mut self) -> bool {
        let is_up = self.cx.is_store_up();
        for _ in 0..BRIEF_LOOKS_MAX {
            let Some(reference) = self.fleet.newcomers.brief.pop_front() else {
                return false;
            };
            let slot = self.fleet.resolve(reference);
            let Some(host) = slot.and_then(|slot| self.fleet.host(slot)) else {
                continue;
            };
            if host.presence.is_online() || host.has(Marks::LASTING) || host.has(Marks::KEYED) {
                // It will be noted again, if its stay is short again.
                continue;
            }
            if !may_go(host, is_up) {
                self.fleet.newcomers.brief.push_back(reference);
                continue;
            }
            if is_up && host.epoch > 0 {
                let id = host.id();
                self.outbox.writes.forget_in_store(id);
            }
            self.forget_host(reference.slot);
            return true;
        }
        false
    }

    /// A host is to be forgotten, here and in the store, if it is offline and nothing of it is under way.
    pub(crate) fn ask_forget(&mut self, asker: u64, host: &HostId) {
        let answer = match self.try_forget(host) {
            Ok(()) => Answer::Forgotten { host: host.clone() },
            Err((kind, text)) => Answer::Error { kind, text },
        };
        self.cx.respond(asker, answer);
    }

    fn try_forget(&mut self, id: &HostId) -> Result<(), Refusal> {
        if !self.cx.is_store_up() {
            return Err(not_now("the store is away"));
        }
        let unknown = || {
            (
                ErrorKind::Unknown,
                "no host of this name is known".to_owned(),
            )
        };
        let slot = self.fleet.find(id).ok_or_else(unknown)?;
        let host = self.fleet.host(slot).ok_or_else(unknown)?;
        if host.presence.is_online() {
            let text = format!("{id} is online: only a host that is offline can be forgotten");
            return Err((ErrorKind::Taken, text));
        }
        let is_written = may_go(host, true) && !self.outbox.writes.is_behind(slot);
        if !is_written || !self.outbox.writes.may_forget() {
            return Err(not_now("the store is still being told of it; try again"));
        }
        self.outbox.writes.forget_in_store(id.clone());
        self.forget_host(slot);
        Ok(())
    }

    /// Forgets a host that is offline, and what was still to be written of it.
    pub(crate) fn forget_host(&mut self, slot: u32) {
        self.outbox.writes.forget_host(slot);
        self.fleet.untold.remove(slot);
        self.fleet.hosts.remove(slot);
    }

    /// Tells how many hosts have come without an event of their own.
    pub(crate) fn sum_up_new_ids(&mut self) {
        let count = self.fleet.newcomers.take_untold();
        if count == 0 {
            return;
        }
        let stamp = self.cx.stamp();
        self.cx.log(
            log::Level::Warn,
            "new-ids",
            "fleet".to_owned(),
            format!(
                "{count} hosts never seen before came online; they have no events of their own"
            ),
        );
        self.cx.tell(stamp, EventKind::NewIds { count });
        self.outbox.notice(
            &mut self.cx,
            Notice {
                event: "new-ids",
                about: None,
                state: None,
                reason: None,
                count: Some(count),
                stamp,
            },
        );
    }
}

/// Returns whether an offline host can be forgotten: no write of it is with the store, and the
/// store does not have it as online. While the store is unavailable its return corrects that.
fn may_go(host: &Host, is_up: bool) -> bool {
    let is_wrong = host.has(Marks::TOLD_ONLINE) || host.has(Marks::IN_DOUBT);
    let stays = host.has(Marks::IN_FLIGHT) || (is_up && is_wrong);
    !stays
}
