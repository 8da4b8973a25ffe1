//! Facts of a host that targets ask for.

use std::net::IpAddr;

use crate::codec::target::Facts;
use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::{Host, Marks, Peer};
use crate::handlers::fleet::labels::{Labels, VERSION};
use crate::ids::HostId;

/// A host with its labels.
#[derive(Debug)]
pub(crate) struct HostFacts<'a> {
    pub(crate) id: HostId,
    pub(crate) host: &'a Host,
    slot: u32,
    labels: Option<&'a Labels>,
    /// The node that holds it, as far as that is known.
    pub(crate) node: Option<&'a str>,
}

impl<'a> HostFacts<'a> {
    /// A host without its labels.
    pub(crate) fn unlabelled(id: HostId, host: &'a Host, slot: u32) -> Self {
        let (labels, node) = (None, None);
        Self {
            id,
            host,
            slot,
            labels,
            node,
        }
    }

    /// A host with its labels, which are those of `slot`.
    pub(crate) fn labelled(
        host: &'a Host,
        slot: u32,
        labels: &'a Labels,
        node: Option<&'a str>,
    ) -> Self {
        Self {
            id: host.id(),
            host,
            slot,
            labels: Some(labels),
            node,
        }
    }

    /// Returns whether the host is shown as online.
    pub(crate) fn is_online(&self) -> bool {
        self.host.presence.is_online()
    }
}

impl Facts for HostFacts<'_> {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn ip(&self) -> Option<IpAddr> {
        let peer = self.host.peer();
        match peer == Peer::UNKNOWN {
            // A plain host is its address.
            true => self.id.as_str().parse().ok(),
            false => Some(peer.ip()),
        }
    }

    fn label(&self, key: &str, with: &mut dyn FnMut(&str)) {
        let Some(labels) = self.labels else {
            return;
        };
        let value = match key {
            "sys.state" => Some(if self.is_online() {
                "online"
            } else {
                "offline"
            }),
            "sys.keyed" => Some(if self.host.has(Marks::KEYED) {
                "yes"
            } else {
                "no"
            }),
            "sys.node" => self.node,
            VERSION => labels.get(self.slot, VERSION),
            key => labels.get(self.slot, key),
        };
        if let Some(value) = value {
            with(value);
        }
    }

    fn labels(&self, with: &mut dyn FnMut(&str, &str)) {
        for (key, value, _) in self.labels.iter().flat_map(|labels| labels.of(self.slot)) {
            with(key, value);
        }
    }
}

impl Fleet {
    /// The host in this slot, with its labels.
    pub(crate) fn facts(&self, slot: u32) -> Option<HostFacts<'_>> {
        let host = self.hosts.get(slot)?;
        let node = Some(self.labels.node()).filter(|node| !node.is_empty());
        Some(HostFacts::labelled(host, slot, &self.labels, node))
    }

    /// Gives a host the labels of the configuration.
    pub(crate) fn refresh_labels(&mut self, slot: u32) {
        if !self.labels.concern(slot) {
            return;
        }
        if let Some(host) = self.hosts.get(slot) {
            let facts = HostFacts::unlabelled(host.id(), host, slot);
            self.labels.refresh(slot, &facts);
        }
    }

    /// Goes on giving all hosts the labels of a new configuration: at most `max` of them.
    pub(crate) fn walk_labels(&mut self, max: usize) {
        for slot in self.labels.take_walk(self.hosts.slots(), max) {
            self.refresh_labels(slot);
        }
    }
}
