//! Lookup of hosts for the tasks: a read-only view of the fleet and of the sessions' keys.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::codec::message::Push;
use crate::codec::target::{Facts as _, Groups};
use crate::ids::{HostId, TaskKey};

use super::auth::{Auth, Way};
use super::context::Ctx;
use super::effect::Effect;
use super::fleet::Fleet;
use super::fleet::facts::HostFacts;
use super::fleet::foreign;
use super::fleet::host::Host;
use super::view::{HostView, view};

/// The hosts, as the tasks see them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directory<'a> {
    fleet: &'a Fleet,
    auth: &'a Auth,
    /// The copy of the hosts of other nodes is included.
    is_whole: bool,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(fleet: &'a Fleet, auth: &'a Auth) -> Self {
        Self {
            fleet,
            auth,
            is_whole: false,
        }
    }

    /// The same with the copy of the hosts of other nodes, as far as there is one.
    pub(crate) fn everywhere(self) -> Self {
        Self {
            is_whole: self.fleet.foreign().len() > 0,
            ..self
        }
    }

    /// Returns whether the copy of the hosts of other nodes is still being read for the first time, or
    /// cannot be read.
    pub(crate) fn misses_hosts(&self, cx: &Ctx<'_>) -> bool {
        *cx.had_others && !self.fleet.foreign().is_complete()
    }

    /// The first slot from `slot` on; none at the end.
    pub(crate) fn place(&self, slot: u32) -> Option<u32> {
        if (slot as usize) < self.fleet.slots() {
            return Some(slot);
        }
        let slot = slot.max(foreign::FIRST);
        let count = self.fleet.foreign().slots();
        (self.is_whole && ((slot - foreign::FIRST) as usize) < count).then_some(slot)
    }

    /// Returns whether a host of the copy is connected to this node by now.
    pub(crate) fn is_outdated(&self, slot: u32, id: &HostId) -> bool {
        slot >= foreign::FIRST && self.fleet.is_online(id)
    }

    /// Returns whether this host has ever been seen.
    pub(crate) fn is_known(&self, host: &HostId) -> bool {
        self.fleet.find(host).is_some()
    }

    /// Returns whether this host is online, also if it is held from before a restart.
    pub(crate) fn is_online(&self, host: &HostId) -> bool {
        self.fleet.is_online(host)
    }

    /// Address of a host, current or last. A host that was never seen and is named by its address has
    /// that.
    pub(crate) fn ip_of(&self, host: &HostId) -> Option<IpAddr> {
        match self
            .fleet
            .find(host)
            .and_then(|slot| self.fleet.facts(slot))
        {
            Some(facts) => facts.ip(),
            None => host.as_str().parse().ok(),
        }
    }

    /// Name of this node.
    pub(crate) fn node(&self) -> &'a str {
        self.fleet.labels().node()
    }

    /// Number of slots, used or free.
    pub(crate) fn slots(&self) -> usize {
        self.fleet.slots()
    }

    /// The host in `slot`, if it is online.
    pub(crate) fn online_at(&self, slot: u32) -> Option<HostId> {
        let host = self.fleet.host(slot);
        host.filter(|host| host.presence.is_online()).map(Host::id)
    }

    /// The host in `slot` with its labels.
    pub(crate) fn facts(&self, slot: u32) -> Option<HostFacts<'a>> {
        if let Some((host, labels, node)) = self.fleet.foreign().row(slot) {
            return Some(HostFacts::labelled(
                host,
                slot - foreign::FIRST,
                labels,
                node,
            ));
        }
        let facts = self.fleet.facts(slot)?;
        // Where it is by now, the store says.
        let is_elsewhere =
            self.is_whole && !facts.is_online() && self.fleet.foreign().has(&facts.id);
        (!is_elsewhere).then_some(facts)
    }

    /// The host in `slot`, as it is shown.
    pub(crate) fn view(&self, slot: u32) -> Option<HostView<'a>> {
        view(self.fleet, slot)
    }

    /// Groups for use in targets.
    pub(crate) fn groups(&self) -> &'a Groups {
        self.fleet.labels().groups()
    }

    /// Asks a host to end a task, if it takes such orders and is connected. Returns whether it was
    /// asked.
    pub(crate) fn cancel(&self, cx: &mut Ctx<'_>, host: &HostId, key: &TaskKey) -> bool {
        let host = self.fleet.find(host).and_then(|slot| self.fleet.host(slot));
        let conn = host
            .filter(|host| host.cancels())
            .and_then(Host::identified);
        if let Some(conn) = conn {
            let push = Push::Cancel(Cow::Owned(key.to_string()));
            cx.fx.push(Effect::Push { conn, push });
        }
        conn.is_some()
    }

    /// Way to reach a host now; `None` if it is offline.
    pub(crate) fn way_to(&self, cx: &Ctx<'_>, host: &HostId) -> Option<Way> {
        let host = self.fleet.host(self.fleet.find(host)?)?;
        self.auth.way_to(cx.rules, host)
    }
}
