//! Events as JSON, the last of them, and their stream as Server-Sent Events.

use std::collections::VecDeque;

use super::json::Json;
use crate::handlers::effect::{self, EventKind};
use crate::handlers::outside::News;
use crate::limits::EVENTS_RECENT_MAX;

/// Names of all events.
pub const EVENT_NAMES: [&str; 14] = [
    "answer",
    "audit",
    "device",
    "dispatch",
    "duplicate-id",
    "mass-offline",
    "new-ids",
    "offline",
    "online",
    "progress",
    "quarantine",
    "reach",
    "result",
    "unknown-keys",
];

/// Writes `event` as raised by `node`, with the fields that it has in the store's stream. A field
/// that does not apply is left out.
pub fn write(json: &mut Json, event: &effect::Event, node: &str) {
    let stamp = &event.stamp;
    let begin = |json: &mut Json, name: &str, host: &str| {
        debug_assert!(EVENT_NAMES.contains(&name), "{name}");
        json.member("event", name);
        json.member("host", host);
        json.member("at", stamp.at.0);
        json.member("node", node);
        json.member("seq", stamp.seq);
    };
    match &event.kind {
        EventKind::Online { host, .. } => begin(json, "online", host.as_str()),
        EventKind::Offline { host, reason } => {
            begin(json, "offline", host.as_str());
            json.member("reason", reason.as_str());
        }
        EventKind::MassOffline { count } => {
            begin(json, "mass-offline", "");
            json.member("count", count);
        }
        EventKind::Dispatch { key, count } => {
            begin(json, "dispatch", "");
            json.member("key", key);
            json.member("count", count);
        }
        EventKind::Answer { host, key, state } => {
            begin(json, "answer", host.as_str());
            json.member("key", key);
            json.member("state", state);
        }
        EventKind::Progress {
            host,
            key,
            command,
            state,
        } => {
            begin(json, "progress", host.as_str());
            json.member("key", key);
            json.optional("command", command.as_deref());
            json.member("state", state.as_str());
        }
        EventKind::Result {
            host,
            code,
            command,
            exit: _,
        } => {
            begin(json, "result", host.as_str());
            json.member("key", code);
            json.member("command", command);
        }
        EventKind::Quarantine { host, reason } => {
            begin(json, "quarantine", host.as_str());
            json.member("reason", reason);
        }
        EventKind::Duplicate { host, reason } => {
            begin(json, "duplicate-id", host.as_str());
            json.member("reason", reason);
        }
        EventKind::NewIds { count } => {
            begin(json, "new-ids", "");
            json.member("count", count);
        }
        EventKind::UnknownKeys { count } => {
            begin(json, "unknown-keys", "");
            json.member("count", count);
        }
        EventKind::Outside(News::Device {
            name,
            state,
            reason,
        }) => {
            begin(json, "device", name.as_str());
            json.optional("reason", reason.as_deref());
            json.member("state", state);
        }
        EventKind::Audit(record) => {
            begin(json, "audit", "");
            json.optional("key", record.key.as_deref());
            if let Some(count) = record.count {
                json.member("count", count);
            }
            json.member("by", &*record.by);
            json.member("what", &*record.what);
            json.optional("target", record.target.as_deref());
            json.member("result", &*record.result);
        }
        EventKind::Outside(News::Target { target, state }) => {
            begin(json, "reach", target);
            json.member("state", state);
        }
    }
}

/// Share of passing events among those shown where there are enough others: one part in so many.
const PASSING_PARTS: usize = 4;

/// The last events. Passing ones never push others out.
#[derive(Debug, Default)]
pub struct Recent {
    lasting: Ring,
    passing: Ring,
}

/// Events, the oldest first. When it is full the oldest is dropped.
#[derive(Debug, Default)]
struct Ring(VecDeque<effect::Event>);

impl Recent {
    /// Adds an event.
    pub fn push(&mut self, event: &effect::Event) {
        let ring = match event.passing {
            true => &mut self.passing,
            false => &mut self.lasting,
        };
        if ring.0.len() == EVENTS_RECENT_MAX {
            ring.0.pop_front();
        }
        ring.0.push_back(event.clone());
    }

    /// The last `limit` events; of passing ones no more than their share.
    pub fn last(&self, limit: usize) -> impl Iterator<Item = &effect::Event> {
        let limit = limit.min(EVENTS_RECENT_MAX);
        let share = limit.div_ceil(PASSING_PARTS);
        let passing = share.max(limit.saturating_sub(self.lasting.0.len()));
        let passing = self.passing.last(passing);
        let lasting = self.lasting.last(limit - passing.len());
        let mut events: Vec<_> = passing.chain(lasting).collect();
        events.sort_by_key(|event| event.stamp.seq);
        events.into_iter()
    }
}

impl Ring {
    fn last(&self, limit: usize) -> impl ExactSizeIterator<Item = &effect::Event> {
        self.0.range(self.0.len().saturating_sub(limit)..)
    }
}

/// Head of the response. It has no length and ends with the connection. The comment line makes
/// proxies pass the head on. nginx would hold events back until they fill a buffer; its header tells
/// it not to.
pub const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n\
    Connection: close\r\n\r\n: events\n\n";

/// A comment that shows that a connection without events is alive.
pub const COMMENT: &str = ":\n\n";

/// Formats `event` as a message of `node`. JSON has no line breaks, so it is one line of data. It
/// has no event name, so a listener for messages receives all of them.
#[must_use]
pub fn message(event: &effect::Event, node: &str) -> String {
    let data = Json::object(|json| write(json, event, node));
    format!("id: {}\ndata: {data}\n\n", event.stamp.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::view::Reason;
    use crate::ids::{HostId, TaskKey};
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
            message(
                &effect::Event {
                    stamp,
                    kind,
                    passing: false
                },
                "n"
            ),
            "id: 2\ndata: {\"event\":\"quarantine\",\"host\":\"h\",\"at\":1,\
             \"node\":\"n\",\"seq\":2,\"reason\":\"a\\n\\ndata: b\\r\\n\\u202e\\u009b\"}\n\n"
        );
    }

    fn event(seq: u64, passing: bool) -> effect::Event {
        effect::Event {
            stamp: Stamp {
                at: UnixMs(seq),
                seq,
            },
            kind: EventKind::MassOffline { count: seq },
            passing,
        }
    }

    #[test]
    fn passing_events_push_out_no_others() {
        let mut recent = Recent::default();
        let all = EVENTS_RECENT_MAX as u64;
        for seq in 0..4 * all {
            recent.push(&event(seq, seq >= all));
        }
        let of = |limit| {
            let seqs = recent.last(limit).map(|event| event.stamp.seq);
            seqs.collect::<Vec<u64>>()
        };
        let shown = of(usize::MAX);
        assert_eq!(shown.len(), EVENTS_RECENT_MAX);
        let lasting = shown.iter().filter(|seq| **seq < all).count();
        assert_eq!(lasting, EVENTS_RECENT_MAX / 4 * 3);
        assert_eq!(of(4), [all - 3, all - 2, all - 1, 4 * all - 1]);
        assert_eq!(of(1), [4 * all - 1]);
    }

    #[test]
    fn only_the_last_events_are_kept() {
        let mut recent = Recent::default();
        assert_eq!(recent.last(10).count(), 0);
        for seq in 0..=EVENTS_RECENT_MAX as u64 {
            recent.push(&event(seq, false));
        }
        let of = |limit| {
            let seqs = recent.last(limit).map(|event| event.stamp.seq);
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
            let event = effect::Event {
                stamp,
                kind,
                passing: false,
            };
            let text = Json::object(|json| write(json, &event, "n"));
            let start = format!("{{\"event\":\"{name}\",\"host\":\"{host}\",\"at\":5,");
            assert_eq!(text, format!("{start}\"node\":\"n\",\"seq\":9{rest}}}"));
        }
    }
}
