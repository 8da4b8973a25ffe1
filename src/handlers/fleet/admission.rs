//! Room in the table of hosts: new ids, eviction, and hosts that left after a short stay.

use std::net::IpAddr;

use crate::handlers::context::Ctx;
use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::{Host, Marks};
use crate::ids::{HostId, HostRef};
use crate::limits::{BRIEF_HOSTS_MAX, BRIEF_LOOKS_MAX};

/// Ticket for a host without a row.
pub(crate) const NO_ROW: HostRef = HostRef {
    slot: u32::MAX,
    generation: u32::MAX,
};

impl Fleet {
    /// Returns whether a new id may come from this address. One IPv4 address is one host by its own
    /// name. Until the store's hosts are known, all ids are new.
    pub(crate) fn admits_new(&mut self, cx: &Ctx<'_>, id: &HostId, ip: IpAddr) -> bool {
        let is_free = cx.is_starting() || (ip.is_ipv4() && *id == HostId::of_address(ip));
        is_free || self.newcomers.admit(ip, cx.at.now)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.hosts.is_full()
    }

    /// Enters a new host, as offline. `None` when the table is full.
    pub(crate) fn enter(&mut self, id: HostId) -> Option<u32> {
        self.hosts.insert(id)
    }

    /// Returns an offline host that can be evicted.
    pub(crate) fn evictable(&mut self, is_store_up: bool) -> Option<u32> {
        let may_go = |_, host: &Host| may_be_forgotten(host, is_store_up);
        self.hosts.evictable(may_go)
    }

    /// Forgets a host that is offline.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.unannounced.remove(slot);
        self.labels.forget(slot);
        self.history.forget(slot);
        self.need_not_report(slot);
        self.hosts.remove(slot);
    }

    /// Notes that the host in `slot` has gone offline after a short stay.
    pub(crate) fn note_brief(&mut self, slot: u32) {
        if let Some(host) = self.hosts.reference(slot) {
            self.newcomers.brief.push_back(host);
        }
    }

    /// Returns whether more hosts than there is room for have left after a short stay.
    pub(crate) fn has_too_many_brief(&self) -> bool {
        self.newcomers.brief.len() > BRIEF_HOSTS_MAX
    }

    /// Takes the host with a short stay that has been offline for longest.
    pub(crate) fn take_brief(&mut self, is_store_up: bool) -> Option<u32> {
        for _ in 0..BRIEF_LOOKS_MAX {
            let reference = self.newcomers.brief.pop_front()?;
            let slot = self.hosts.resolve(reference);
            let Some(host) = slot.and_then(|slot| self.hosts.get(slot)) else {
                continue;
            };
            if host.presence.is_online() || host.has(Marks::LASTING) || host.has(Marks::KEYED) {
                // A later short stay records the host again.
                continue;
            }
            if may_be_forgotten(host, is_store_up) {
                return slot;
            }
            self.newcomers.brief.push_back(reference);
        }
        None
    }

    /// Number of hosts that came online without an event since the last call, if there are any.
    pub(crate) fn take_unannounced(&mut self) -> Option<u64> {
        Some(self.newcomers.take_untold()).filter(|count| *count > 0)
    }

    /// Returns whether an online host came online without an event.
    pub(crate) fn is_unannounced(&self, slot: u32) -> bool {
        self.unannounced.has(slot)
    }
}

/// Returns whether an offline host can be forgotten: no write of it is with the store, and the
/// store does not have it as online. An unavailable store is corrected when it returns.
pub(crate) fn may_be_forgotten(host: &Host, is_store_up: bool) -> bool {
    let is_wrong = host.has(Marks::TOLD_ONLINE) || host.has(Marks::IN_DOUBT);
    let is_wrong = is_wrong || host.is_unreported();
    !(host.has(Marks::IN_FLIGHT) || (is_store_up && is_wrong))
}
