//! Read views of the core: plain data, borrowed.

use std::net::IpAddr;

use crate::ids::HostId;
pub use crate::store::op::Reason;
use crate::time::UnixMs;

/// A host, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct HostView<'a> {
    /// Its name.
    pub id: HostId,
    /// Peer address, current or last.
    pub ip: Option<IpAddr>,
    /// The host is online.
    pub online: bool,
    /// Reason for being offline.
    pub reason: Option<Reason>,
    /// Time of the last change.
    pub since: UnixMs,
    /// Time of the last message.
    pub last_seen: UnixMs,
    /// Its host name.
    pub hostname: Option<&'a str>,
    /// Its MAC address.
    pub mac: Option<&'a str>,
    /// Its IPv4 addresses.
    pub ipv4: &'a [String],
}

/// Selection of hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All that are known.
    #[default]
    All,
    /// Those online.
    Online,
    /// Those offline.
    Offline,
}

/// Some hosts, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page<'a> {
    /// The hosts.
    pub hosts: Vec<HostView<'a>>,
    /// The cursor of the next page, if there may be more.
    pub next: Option<u64>,
}

/// State of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreView<'a> {
    /// It has not been reached since the start.
    Starting,
    /// It answers.
    Available,
    /// It does not, for this reason.
    Unavailable(&'a str),
}
