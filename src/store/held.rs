//! Stored hosts that are read at a start: which of them are ours, and which have an interrupted
//! change. The rules are in [`schema`](super::schema).

use std::net::{IpAddr, SocketAddr};

use super::op::{HeldHost, HostRecord, Reason};
use super::schema::field;
use crate::ids::HostId;
use crate::time::UnixMs;

/// Fields of a host's hash that are read.
pub(super) const FIELDS: [&str; 10] = [
    field::NODE,
    field::IP,
    field::PORT,
    field::HOSTNAME,
    field::MAC,
    field::SINCE,
    field::REASON,
    field::EPOCH,
    field::KEYED,
    field::LABELS,
];

/// Fields of a host's hash that counts and targets need.
pub(super) const BRIEF_FIELDS: [&str; 6] = [
    field::NODE,
    field::IP,
    field::SINCE,
    field::REASON,
    field::KEYED,
    field::LABELS,
];

/// A host, and the sets that name it.
#[derive(Debug)]
pub(super) struct StoredHost {
    /// The node that holds it; none without a claim, empty where the claim was given up.
    node: Option<String>,
    in_own_set: bool,
    exists: bool,
    is_seen: bool,
    /// Its facts. Whether it is ours says only the node above.
    held: HeldHost,
}

/// A host of the node's own set.
#[derive(Debug)]
pub(super) enum OwnHost {
    /// This node holds it.
    Held(HeldHost),
    /// Its going offline was cut short.
    Leaving(HeldHost),
    /// Another node's, which reports it, or none's: it leaves the set.
    Foreign(HostId),
}

impl StoredHost {
    /// From the values of [`FIELDS`], the score of its last message and its stored addresses.
    pub fn new(
        host: &HostId,
        values: impl IntoIterator<Item = Option<String>>,
        seen: Option<f64>,
        addresses: Vec<String>,
        (in_own_set, exists): (bool, bool),
    ) -> Self {
        let mut values = values.into_iter();
        let mut next = || values.next().flatten();
        let number = |text: Option<String>| -> Option<u64> { text?.parse().ok() };
        let node = next();
        let (ip, port) = (next(), next());
        let (hostname, mac) = (next(), next());
        let since = number(next()).map(UnixMs);
        let reason = next().as_deref().and_then(Reason::parse);
        let epoch = number(next()).unwrap_or_default();
        let keyed = next().as_deref() == Some("1");
        let host_labels = next();
        // A score is a time in ms; `as` maps anything else to 0.
        let seen = seen.map(|score| UnixMs(score as u64));
        let peer = ip.and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| {
            // A host without a port has none that could be sent to.
            let port = number(port).and_then(|port| u16::try_from(port).ok());
            SocketAddr::new(ip, port.unwrap_or_default())
        });
        let held = HeldHost {
            host: host.clone(),
            ours: false,
            epoch,
            peer,
            keyed,
            since: since.or(seen).unwrap_or_default(),
            seen: seen.or(since).unwrap_or_default(),
            reason,
            hostname,
            mac,
            // Stored last first; returned in the order in which the host gave them.
            addresses: addresses.into_iter().rev().collect(),
            admin_labels: None,
            host_labels,
        };
        Self {
            node,
            in_own_set,
            exists,
            is_seen: seen.is_some(),
            held,
        }
    }

    /// From the values of [`BRIEF_FIELDS`] and the score of its last message.
    pub fn brief(
        host: &HostId,
        values: impl IntoIterator<Item = Option<String>>,
        seen: Option<f64>,
    ) -> Self {
        let mut values = values.into_iter();
        let values = FIELDS.map(|field| match BRIEF_FIELDS.contains(&field) {
            true => values.next().flatten(),
            false => None,
        });
        Self::new(host, values, seen, Vec::new(), (false, false))
    }

    /// Adds the labels from an administrator.
    pub fn with_admin_labels(mut self, text: Option<String>) -> Self {
        self.held.admin_labels = text;
        self
    }

    fn is_free(&self) -> bool {
        self.node.as_deref().is_none_or(str::is_empty)
    }

    fn ours(mut self) -> HeldHost {
        self.held.ours = true;
        self.held
    }

    fn adopted(self) -> HeldHost {
        HeldHost {
            epoch: 0,
            reason: None,
            ..self.ours()
        }
    }

    /// The host as every node shows it; none if the store does not know it.
    pub fn record(self) -> Option<HostRecord> {
        let is_known = self.node.is_some() || self.exists || self.is_seen;
        // One without a claim was left by an older server.
        let is_online = match &self.node {
            Some(node) => !node.is_empty(),
            None => self.exists,
        };
        is_known.then(|| HostRecord {
            held: HeldHost {
                reason: self.held.reason.filter(|_| !is_online),
                ..self.held
            },
            node: self.node.filter(|node| !node.is_empty()),
            is_online,
        })
    }

    /// The host as one of the set of `holder`: this node, or one that is gone.
    pub fn of_set_of(self, holder: &str) -> OwnHost {
        match self.node.as_deref() {
            Some(node) if node == holder => OwnHost::Held(self.ours()),
            Some("") => OwnHost::Leaving(self.held),
            None | Some(_) => OwnHost::Foreign(self.held.host),
        }
    }

    /// The host as one of this node's own set. One without a claim that is in `exists` was left by
    /// an older server, and is adopted.
    pub fn of_own_set(self, node: &str) -> OwnHost {
        match self.node {
            None if self.exists => OwnHost::Held(self.adopted()),
            _ => self.of_set_of(node),
        }
    }

    /// The host as one that was seen: none if it comes with the own set, or with `exists`.
    pub fn of_seen(self, node: &str) -> Option<HeldHost> {
        match self.in_own_set || (self.exists && self.is_free()) {
            true => None,
            false if self.node.as_deref() == Some(node) => Some(self.ours()),
            false => Some(self.held),
        }
    }

    /// The host as one of `exists`: one without a holder is adopted; one that this node holds is
    /// ours, if no other set names it.
    pub fn of_exists(self, node: &str) -> Option<HeldHost> {
        if self.in_own_set {
            None
        } else if self.is_free() {
            Some(self.adopted())
        } else {
            let is_forgotten = self.node.as_deref() == Some(node) && !self.is_seen;
            is_forgotten.then(|| self.ours())
        }
    }
}
