//! Events as JSON, the last of them, and their stream as Server-Sent Events.

use std::collections::VecDeque;

use serde::Serialize;

use crate::escape;
use crate::handlers::effect::{self, EventKind};
use crate::handlers::outside::News;
use crate::ids::HostId;
use crate::limits::EVENTS_RECENT_MAX;

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

/// The last events, the oldest first; when full the oldest goes.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<effect::Event>);

/// Some of them as they are shown.
#[derive(Debug, Serialize)]
pub struct Events<'a> {
    /// The oldest first.
    pub events: Vec<Event<'a>>,
}

impl Recent {
    /// Keeps an event.
    pub fn push(&mut self, event: &effect::Event) {
        if self.0.len() == EVENTS_RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event.clone());
    }

    /// The last `limit` events, as raised by `node`.
    #[must_use]
    pub fn last<'a>(&'a self, limit: usize, node: &'a str) -> Events<'a> {
        let skipped = self.0.len().saturating_sub(limit);
        let shown = self.0.iter().skip(skipped);
        Events {
            events: shown.map(|event| Event::of(event, node)).collect(),
        }
    }
}

/// Head of the response. It has no length and ends with the connection. The comment line makes
/// proxies pass the head on.
pub const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n: events\n\n";

/// A comment, so that a connection without events is not taken for a dead one.
pub const COMMENT: &str = ":\n\n";

/// Formats `event` as a message of `node`. JSON has no line breaks, so it is one line of data. It has no event name, so a listener for messages receives all of them.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn message(event: &effect::Event, node: &str) -> serde_json::Result<String> {
    let told = Event::of(event, node);
    let data = serde_json::to_string(&told)?;
    let data = escape::escape_json(&data);
    Ok(format!("id: {}\ndata: {data}\n\n", told.seq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::effect::EventKind;
    use crate::handlers::view::Reason;
    use crate::ids::TaskKey;
    use crate::store::op::{Stamp, TaskState};
    use crate::time::UnixMs;

    #[test]
    fn a_message_has_two_lines_always() {
        let kind = EventKind::Quarantine {
            host: HostId::checked("h").unwrap(),
            reason: "a\n\ndata: b\r\n\u{202e}\u{9b}".into(),
        };
        let stamp = Stamp {
            at: UnixMs(1),
            seq: 2,
        };
        assert_eq!(
            message(&effect::Event { stamp, kind }, "n").unwrap(),
            "id: 2\ndata: {\"event\":\"quarantine\",\"host\":\"h\",\"at\":1,\
             \"node\":\"n\",\"seq\":2,\"reason\":\"a\\n\\ndata: b\\r\\n\\u202e\\u009b\"}\n\n"
        );
    }

    #[test]
    fn only_the_last_events_are_kept() {
        let mut recent = Recent::default();
        assert!(recent.last(10, "n").events.is_empty());
        for seq in 0..=EVENTS_RECENT_MAX as u64 {
            let stamp = Stamp {
                at: UnixMs(seq),
                seq,
            };
            let kind = EventKind::MassOffline { count: seq };
            recent.push(&effect::Event { stamp, kind });
        }
        let of = |limit| {
            let shown = recent.last(limit, "n").events;
            let seqs = shown.iter().map(|event| event.seq);
            seqs.collect::<Vec<u64>>()
        };
        assert_eq!(of(usize::MAX).len(), EVENTS_RECENT_MAX);
        assert_eq!(of(usize::MAX)[0], 1);
        let last = EVENTS_RECENT_MAX as u64;
        assert_eq!(of(2), [last - 1, last]);
    }

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
