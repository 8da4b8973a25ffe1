//! What a handle may ask of the loop, and how it is answered from the core.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::Sender;

use super::News;
use crate::handlers::Core;
use crate::handlers::ask::{Answer, Ask};
use crate::handlers::effect::Event;
use crate::handlers::view::{Filter, HostView};
use crate::ids::HostId;
use crate::limits::PAGE_HOSTS_MAX;
use crate::store::op::Reason;
use crate::time::UnixMs;

/// A host as it was when it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// Where it connects, or connected, from.
    pub ip: Option<IpAddr>,
    /// Whether it is online.
    pub online: bool,
    /// Why it is offline.
    pub reason: Option<Reason>,
    /// Since when it is online or offline.
    pub since: UnixMs,
    /// When it was last heard of.
    pub last_seen: UnixMs,
    /// Its host name.
    pub hostname: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its IPv4 addresses.
    pub ipv4: Vec<String>,
}

impl From<&HostView<'_>> for Host {
    fn from(view: &HostView<'_>) -> Self {
        Self {
            id: view.id.clone(),
            ip: view.ip,
            online: view.online,
            reason: view.reason,
            since: view.since,
            last_seen: view.last_seen,
            hostname: view.hostname.map(str::to_owned),
            mac: view.mac.map(str::to_owned),
            ipv4: view.ipv4.to_vec(),
        }
    }
}

/// Some hosts, and where to go on.
#[derive(Debug)]
pub struct HostsPage {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The cursor of the next page, if there may be more.
    pub next: Option<u64>,
}

/// One request. A reply goes into a channel that has room for it; whoever stopped waiting is none
/// of the loop's business.
#[derive(Debug)]
pub enum Request {
    /// Which of these are online.
    Alive {
        /// The names; `None` for what cannot be one.
        hosts: Vec<Option<HostId>>,
        /// One answer a name.
        reply: Sender<Vec<bool>>,
    },
    /// A page of hosts.
    Hosts {
        /// Which.
        filter: Filter,
        /// From where on; 0 is the beginning.
        cursor: u64,
        /// The page.
        reply: Sender<HostsPage>,
    },
    /// An order or a question for the core, answered when it is settled.
    Ask {
        /// What.
        ask: Box<Ask>,
        /// The answer.
        reply: Sender<Answer>,
    },
    /// Events from now on.
    Subscribe {
        /// Where they go.
        events: Sender<Event>,
        /// Counts those that did not fit.
        missed: Arc<AtomicU64>,
    },
    /// A new configuration.
    Reload(Box<News>),
}

/// Which of `hosts` are online.
#[must_use]
pub fn alive(core: &Core, hosts: &[Option<HostId>]) -> Vec<bool> {
    let online = |host: &Option<HostId>| {
        let view = host.as_ref().and_then(|host| core.host(host));
        view.is_some_and(|view| view.online)
    };
    hosts.iter().map(online).collect()
}

/// The page at `cursor`.
#[must_use]
pub fn page(core: &Core, filter: Filter, cursor: u64) -> HostsPage {
    let page = core.page(filter, PAGE_HOSTS_MAX, cursor);
    HostsPage {
        hosts: page.hosts.iter().map(Host::from).collect(),
        next: page.next,
    }
}
