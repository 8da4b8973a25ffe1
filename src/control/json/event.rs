//! An event as JSON, with the fields that it has in the store's stream.

use serde::Serialize;

use crate::handlers::effect::{self, EventKind};
use crate::handlers::outside::News;
use crate::ids::HostId;

/// An event. What does not apply to one is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Event<'a> {
    /// Kind of the event.
    pub event: &'static str,
    /// To which host, device or target; empty where it is about the whole fleet.
    pub host: &'a str,
    /// Time, unix ms.
    pub at: u64,
    /// Told by which node.
    pub node: &'a str,
    /// Its number among that node's.
    pub seq: u64,
    /// Reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// In which task, or after which console command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// At which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<&'a str>,
    /// New state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'a str>,
    /// Count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl<'a> Event<'a> {
    /// Formats `event` as raised by `node`.
    #[must_use]
    pub fn of(event: &'a effect::Event, node: &'a str) -> Self {
        let about = |event: &'static str, host: Option<&'a HostId>| Self {
            event,
            host: host.map_or("", HostId::as_str),
            ..Self::new(node)
        };
        let told = match &event.kind {
            EventKind::Online { host, .. } => about("online", Some(host)),
            EventKind::Offline { host, reason } => Self {
                reason: Some(reason.as_str()),
                ..about("offline", Some(host))
            },
            EventKind::MassOffline { count } => Self {
                count: Some(*count),
                ..about("mass-offline", None)
            },
            EventKind::Dispatch { key, count } => Self {
                key: Some(key.as_str()),
                count: Some(*count),
                ..about("dispatch", None)
            },
            EventKind::Answer { host, key, state } => Self {
                key: Some(key.as_str()),
                state: Some(state),
                ..about("answer", Some(host))
            },
            EventKind::Progress {
                host,
                key,
                command,
                state,
            } => Self {
                key: Some(key.as_str()),
                command: command.as_deref(),
                state: Some(state.as_str()),
                ..about("progress", Some(host))
            },
            EventKind::Result {
                host,
                code,
                command,
                exit: _,
            } => Self {
                key: Some(code),
                command: Some(command),
                ..about("result", Some(host))
            },
            EventKind::Quarantine { host, reason } => Self {
                reason: Some(reason),
                ..about("quarantine", Some(host))
            },
            EventKind::Duplicate { host, reason } => Self {
                reason: Some(reason),
                ..about("duplicate-id", Some(host))
            },
            EventKind::NewIds { count } => Self {
                count: Some(*count),
                ..about("new-ids", None)
            },
            EventKind::Outside(News::Device {
                name,
                state,
                reason,
            }) => Self {
                state: Some(state),
                reason: reason.as_deref(),
                ..about("device", Some(name))
            },
            EventKind::Outside(News::Target { target, state }) => Self {
                host: target,
                state: Some(state),
                ..about("reach", None)
            },
        };
        Self {
            at: event.stamp.at.0,
            seq: event.stamp.seq,
            ..told
        }
    }

    const fn new(node: &'a str) -> Self {
        Self {
            event: "",
            host: "",
            at: 0,
            node,
            seq: 0,
            reason: None,
            key: None,
            command: None,
            state: None,
            count: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::view::Reason;
    use crate::ids::TaskKey;
    use crate::store::op::{Stamp, TaskState};
    use crate::time::UnixMs;

    #[test]
    fn every_kind_has_the_fields_of_the_stream() {
        let host = HostId::checked("h-1").unwrap();
        let key = TaskKey::parse("AC1", "AC").unwrap();
        let cases = [
            (
                EventKind::Online {
                    host: host.clone(),
                    from: ([10, 0, 0, 1], 1).into(),
                },
                "online",
                "h-1",
                "",
            ),
            (
                EventKind::Offline {
                    host: host.clone(),
                    reason: Reason::Timeout,
                },
                "offline",
                "h-1",
                ",\"reason\":\"timeout\"",
            ),
            (
                EventKind::MassOffline { count: 3 },
                "mass-offline",
                "",
                ",\"count\":3",
            ),
            (
                EventKind::Dispatch {
                    key: key.clone(),
                    count: 2,
                },
                "dispatch",
                "",
                ",\"key\":\"AC1\",\"count\":2",
            ),
            (
                EventKind::Answer {
                    host: host.clone(),
                    key: key.clone(),
                    state: "no-book",
                },
                "answer",
                "h-1",
                ",\"key\":\"AC1\",\"state\":\"no-book\"",
            ),
            (
                EventKind::Progress {
                    host: host.clone(),
                    key,
                    command: Some("df\n".into()),
                    state: TaskState::Working,
                },
                "progress",
                "h-1",
                ",\"key\":\"AC1\",\"command\":\"df\\n\",\"state\":\"working\"",
            ),
            (
                EventKind::Result {
                    host: host.clone(),
                    code: "c1".into(),
                    command: "df".into(),
                    exit: 1,
                },
                "result",
                "h-1",
                ",\"key\":\"c1\",\"command\":\"df\"",
            ),
            (
                EventKind::Quarantine {
                    host: host.clone(),
                    reason: "two".into(),
                },
                "quarantine",
                "h-1",
                ",\"reason\":\"two\"",
            ),
            (
                EventKind::Outside(News::Device {
                    name: host,
                    state: "down",
                    reason: Some("refused".into()),
                }),
                "device",
                "h-1",
                ",\"reason\":\"refused\",\"state\":\"down\"",
            ),
            (
                EventKind::Outside(News::Target {
                    target: "udp://10.0.0.1:53?answer".into(),
                    state: "up",
                }),
                "reach",
                "udp://10.0.0.1:53?answer",
                ",\"state\":\"up\"",
            ),
        ];
        for (kind, name, host, rest) in cases {
            let stamp = Stamp {
                at: UnixMs(5),
                seq: 9,
            };
            let event = effect::Event { stamp, kind };
            let text = serde_json::to_string(&Event::of(&event, "n")).unwrap();
            let start = format!("{{\"event\":\"{name}\",\"host\":\"{host}\",\"at\":5,");
            assert_eq!(text, format!("{start}\"node\":\"n\",\"seq\":9{rest}}}"));
        }
    }
}
