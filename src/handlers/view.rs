//! What may be read of the core: plain data, borrowed.

use std::net::IpAddr;

use crate::ids::HostId;
pub use crate::store::op::Reason;
use crate::time::UnixMs;

/// A host, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct HostView<'a> {
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
    pub hostname: Option<&'a str>,
    /// Its MAC address.
    pub mac: Option<&'a str>,
    /// Its IPv4 addresses.
    pub ipv4: &'a [String],
}

/// Which hosts.
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

/// What the store is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreView<'a> {
    /// It has not been reached since the start.
    Starting,
    /// It answers.
    Up,
    /// It does not, for this reason.
    Away(&'a str),
}
