//! Requests of handles to the loop, and their answers from the core.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::Sender;

use super::Reload;
use crate::codec::target::Target;
use crate::handlers::Core;
use crate::handlers::effect::Event;
use crate::handlers::request::{Request, Response};
use crate::handlers::view::{Filter, HostView, StoreView};
use crate::ids::HostId;
use crate::limits::PAGE_HOSTS_MAX;
use crate::store::op::Reason;
use crate::time::UnixMs;

/// State of a host at the time of [`Handle::hosts`](crate::Handle::hosts). Times are milliseconds
/// since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Name: the id that the host gave, or its IP address.
    pub id: HostId,
    /// Address of the current or last connection.
    pub ip: Option<IpAddr>,
    /// The host is online.
    pub online: bool,
    /// Name of the node that the host is connected to; `None` while it is offline.
    pub node: Option<String>,
    /// Reason for the end of the last connection, if the host is offline.
    pub reason: Option<Reason>,
    /// Time of the last change between online and offline.
    pub since: UnixMs,
    /// Time of the last message.
    pub last_seen: UnixMs,
    /// Host name that the host reported.
    pub hostname: Option<String>,
    /// MAC address that the host reported.
    pub mac: Option<String>,
    /// IPv4 addresses that the host reported.
    pub ipv4: Vec<String>,
}

impl From<&HostView<'_>> for Host {
    fn from(view: &HostView<'_>) -> Self {
        Self {
            id: view.id.clone(),
            ip: view.ip,
            online: view.online,
            node: view.node.as_deref().map(str::to_owned),
            reason: view.reason,
            since: view.since,
            last_seen: view.last_seen,
            hostname: view.hostname.as_deref().map(str::to_owned),
            mac: view.mac.as_deref().map(str::to_owned),
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
    /// The store has hosts of other nodes, which are not among these.
    pub has_foreign: bool,
}

/// One request. Its answer goes to a channel with room for it; a dropped receiver is ignored.
#[derive(Debug)]
pub enum HandleRequest {
    /// Asks which of these hosts are online.
    Alive {
        /// The names; `None` for what cannot be one.
        hosts: Vec<Option<HostId>>,
        /// The answer.
        reply: Sender<Alive>,
    },
    /// Asks which of these hosts a target selects.
    Matching {
        /// The target.
        target: Arc<Target>,
        /// The hosts.
        hosts: Vec<HostId>,
        /// One answer a host.
        reply: Sender<Vec<bool>>,
    },
    /// A page of hosts.
    Hosts {
        /// Selection of hosts.
        filter: Filter,
        /// Start of the page; 0 is the beginning.
        cursor: u64,
        /// The page.
        reply: Sender<HostsPage>,
    },
    /// An order or a question for the core, answered when it is settled.
    Core {
        /// The request for the core.
        request: Box<Request>,
        /// The answer.
        reply: Sender<Response>,
    },
    /// Events from now on.
    Subscribe {
        /// Channel for the events.
        events: Sender<Event>,
        /// Counts those that did not fit.
        missed: Arc<AtomicU64>,
    },
    /// A new configuration.
    Reload(Box<Reload>),
}

/// Which hosts are online at this node.
#[derive(Debug)]
pub struct Alive {
    /// One answer a name.
    pub online: Vec<bool>,
    /// Others may be online at another node: the store has to be asked.
    pub has_foreign: bool,
}

/// Returns for each of `hosts` whether it is online here.
#[must_use]
pub fn alive(core: &Core, hosts: &[Option<HostId>]) -> Alive {
    let online = |host: &Option<HostId>| {
        let view = host.as_ref().and_then(|host| core.host(host));
        view.is_some_and(|view| view.online)
    };
    Alive {
        online: hosts.iter().map(online).collect(),
        has_foreign: core.has_foreign_hosts(),
    }
}

/// The page at `cursor`.
#[must_use]
pub fn page(core: &Core, filter: Filter, cursor: u64) -> HostsPage {
    let page = core.page(filter, PAGE_HOSTS_MAX, cursor);
    HostsPage {
        hosts: page.hosts.iter().map(Host::from).collect(),
        next: page.next,
        has_foreign: core.has_foreign_hosts() && core.store() == StoreView::Available,
    }
}
