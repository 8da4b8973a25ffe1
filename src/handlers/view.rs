//! Read views of the core: plain data, borrowed.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

pub use super::fleet::labels::LabelSource;

use super::fleet::Fleet;
use super::fleet::foreign;
use super::fleet::host::{Host, Peer, Presence};
use super::fleet::labels::Labels;
use crate::escape::whole_number;
use crate::ids::HostId;
pub use crate::store::op::Reason;
use crate::store::op::ScanPlace;
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
    /// The node that holds it; none while it is offline.
    pub node: Option<Cow<'a, str>>,
    /// Reason for being offline.
    pub reason: Option<Reason>,
    /// Time of the last change.
    pub since: UnixMs,
    /// Time of the last message.
    pub last_seen: UnixMs,
    /// Its host name.
    pub hostname: Option<Cow<'a, str>>,
    /// Its MAC address.
    pub mac: Option<Cow<'a, str>>,
    /// Its IPv4 addresses.
    pub ipv4: Cow<'a, [String]>,
    /// Its labels: key, value and source, by key.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>, LabelSource)>,
}

impl HostView<'_> {
    /// The view without borrowed data.
    #[must_use]
    pub fn into_owned(self) -> HostView<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        HostView {
            node: self.node.map(own),
            hostname: self.hostname.map(own),
            mac: self.mac.map(own),
            ipv4: Cow::Owned(self.ipv4.into_owned()),
            labels: self
                .labels
                .into_iter()
                .map(|(key, value, source)| (own(key), own(value), source))
                .collect(),
            id: self.id,
            ip: self.ip,
            online: self.online,
            reason: self.reason,
            since: self.since,
            last_seen: self.last_seen,
        }
    }
}

/// The host in a slot, as it is shown.
pub(crate) fn view(fleet: &Fleet, slot: u32) -> Option<HostView<'_>> {
    if let Some((host, labels, node)) = fleet.foreign().row(slot) {
        return Some(shown(host, slot - foreign::FIRST, labels, node));
    }
    let host = fleet.host(slot)?;
    let labels = fleet.labels();
    let node = host.presence.is_online().then(|| labels.node());
    Some(shown(host, slot, labels, node))
}

fn shown<'a>(host: &'a Host, slot: u32, labels: &'a Labels, node: Option<&'a str>) -> HostView<'a> {
    let rest = host.rest();
    let peer = host.peer();
    let labels = labels.of(slot);
    let labels = labels.map(|(key, value, source)| (key.into(), value.into(), source));
    let mut labels: Vec<(Cow<'_, str>, Cow<'_, str>, LabelSource)> = labels.collect();
    labels.sort();
    HostView {
        id: host.id(),
        ip: (peer != Peer::UNKNOWN).then(|| peer.ip()),
        online: host.presence.is_online(),
        node: node.map(Into::into),
        reason: match host.presence {
            Presence::Offline(reason) => reason,
            Presence::Online | Presence::Inherited => None,
        },
        since: host.since,
        last_seen: host.seen,
        hostname: rest
            .and_then(|rest| rest.hostname.as_deref())
            .map(Cow::Borrowed),
        mac: rest.and_then(|rest| rest.mac.as_deref()).map(Cow::Borrowed),
        ipv4: rest.map_or(&[][..], |rest| &rest.addresses).into(),
        labels,
    }
}

/// Selection of hosts by state.
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

impl Filter {
    /// Returns whether hosts in this state are selected.
    #[must_use]
    pub const fn takes(self, is_online: bool) -> bool {
        match self {
            Self::All => true,
            Self::Online => is_online,
            Self::Offline => !is_online,
        }
    }
}

/// Start of a page of hosts, shown as an opaque text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStart {
    /// This slot of the table; 0 is the beginning of any list.
    Slot(u64),
    /// This position among the stored hosts.
    Scan(ScanPlace),
}

impl Default for PageStart {
    fn default() -> Self {
        Self::Slot(0)
    }
}

impl fmt::Display for PageStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "{slot}"),
            Self::Scan(place) => {
                let set = if place.is_late { 's' } else { 'o' };
                write!(f, "{set}{}.{}.{}", place.from, place.end, place.after)
            }
        }
    }
}

impl PageStart {
    /// Parses a text that a page has given.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_late = match text.as_bytes().first()? {
            b's' => true,
            b'o' => false,
            _ => return whole_number(text).map(Self::Slot),
        };
        let mut numbers = text[1..].split('.').map(whole_number);
        let mut next = || numbers.next().flatten();
        let place = ScanPlace {
            is_late,
            from: next()?,
            end: next()?,
            after: next()?,
        };
        numbers.next().is_none().then_some(Self::Scan(place))
    }
}

/// A page of hosts.
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
    /// It has not been available since the start.
    Starting,
    /// It is available.
    Available,
    /// It is unavailable, for this reason.
    Unavailable(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_it_was_shown() {
        let place = |is_late| ScanPlace {
            is_late,
            from: 3,
            end: u64::MAX,
            after: 0,
        };
        let starts = [
            PageStart::Slot(0),
            PageStart::Slot(u64::MAX),
            PageStart::Scan(place(true)),
            PageStart::Scan(place(false)),
        ];
        for start in starts {
            assert_eq!(PageStart::parse(&start.to_string()), Some(start));
        }
        for bad in [
            "", "-1", "s", "s1.2", "o1.2.3.4", "o1.2.x", "x1.2.3", "ä1.2.3",
        ] {
            assert_eq!(PageStart::parse(bad), None, "{bad}");
        }
    }
}
