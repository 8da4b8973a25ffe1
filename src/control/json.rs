//! The shapes of what is shown: the same over HTTP as with `--json` on the command line.

mod event;
mod outside;
mod tasks;

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::handlers::view::{HostView, Page};
use crate::ids::HostId;
use crate::time::UnixMs;

pub use event::Event;
pub use outside::{Device, Devices, Target, Targets};
pub use tasks::{Command, Commanded, Dispatched, Map, Task, Tasks};

/// The last millisecond of the year 9999: RFC 3339 has no year beyond.
const TIME_MAX: u64 = 253_402_300_799_999;

/// A host.
#[derive(Debug, Serialize)]
pub struct Host<'a> {
    /// Its name.
    pub id: HostId,
    /// Peer address, current or last.
    pub ip: Option<IpAddr>,
    /// `online` or `offline`.
    pub state: &'static str,
    /// Reason for being offline.
    pub reason: Option<&'static str>,
    /// Time of the last change.
    pub since: Time,
    /// Time of the last message.
    pub last_seen: Time,
    /// Its host name.
    pub hostname: Option<&'a str>,
    /// Its MAC address.
    pub mac: Option<&'a str>,
    /// Its IPv4 addresses.
    pub ipv4: &'a [String],
}

impl<'a> Host<'a> {
    /// `view` as it is shown.
    #[must_use]
    pub fn of(view: &HostView<'a>) -> Self {
        Self {
            id: view.id.clone(),
            ip: view.ip,
            state: if view.online { "online" } else { "offline" },
            reason: view.reason.map(|reason| reason.as_str()),
            since: Time(view.since),
            last_seen: Time(view.last_seen),
            hostname: view.hostname,
            mac: view.mac,
            ipv4: view.ipv4,
        }
    }
}

/// A host that was forgotten.
#[derive(Debug, Serialize)]
pub struct Forgotten<'a> {
    /// Its name.
    pub id: &'a str,
    /// Always `forgotten`.
    pub state: &'static str,
}

impl<'a> Forgotten<'a> {
    /// `host` as it is shown when it is forgotten.
    #[must_use]
    pub fn of(host: &'a HostId) -> Self {
        Self {
            id: host.as_str(),
            state: "forgotten",
        }
    }
}

/// Some hosts, and where to go on.
#[derive(Debug, Serialize)]
pub struct Hosts<'a> {
    /// The hosts.
    pub hosts: Vec<Host<'a>>,
    /// The cursor of the next page: a word without meaning to others. None at the end.
    pub next: Option<String>,
}

impl<'a> Hosts<'a> {
    /// `page` as it is shown.
    #[must_use]
    pub fn of(page: &Page<'a>) -> Self {
        Self {
            hosts: page.hosts.iter().map(Host::of).collect(),
            next: page.next.map(|cursor| cursor.to_string()),
        }
    }
}

/// A moment as RFC 3339 in UTC with milliseconds; null where it is not known (zero) or has no
/// such form.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub UnixMs);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let UnixMs(millis) = self.0;
        if millis == 0 || millis > TIME_MAX {
            return serializer.serialize_none();
        }
        let moment = UNIX_EPOCH + Duration::from_millis(millis);
        serializer.collect_str(&humantime::format_rfc3339_millis(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::view::Reason;
    use crate::ids::HostId;

    #[test]
    fn times_are_rfc_3339_or_null() {
        let text = |millis| serde_json::to_string(&Time(UnixMs(millis))).unwrap();
        assert_eq!(text(1_234), "\"1970-01-01T00:00:01.234Z\"");
        assert_eq!(text(1_792_713_600_000), "\"2026-10-23T00:00:00.000Z\"");
        assert_eq!(text(TIME_MAX), "\"9999-12-31T23:59:59.999Z\"");
        assert_eq!(text(0), "null");
        assert_eq!(text(TIME_MAX + 1), "null");
        assert_eq!(text(u64::MAX), "null");
    }

    #[test]
    fn a_host_has_all_its_members_always() {
        let id = HostId::checked("web-1").unwrap();
        let view = HostView {
            id,
            ip: None,
            online: false,
            reason: Some(Reason::Timeout),
            since: UnixMs(1_000),
            last_seen: UnixMs(0),
            hostname: Some("a\u{1}\"b"),
            mac: None,
            ipv4: &[],
        };
        assert_eq!(
            serde_json::to_string(&Host::of(&view)).unwrap(),
            r#"{"id":"web-1","ip":null,"state":"offline","reason":"timeout","since":"1970-01-01T00:00:01.000Z","last_seen":null,"hostname":"a\u0001\"b","mac":null,"ipv4":[]}"#
        );
    }
}
