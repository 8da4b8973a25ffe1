//! Messages for one receiver: selects events, waits until they have lasted, and groups them. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Receiver, TargetText};
use crate::control::events;
use crate::control::json::Json;
use crate::handlers::effect::{Event, EventKind};
use crate::handlers::outside::News;
use crate::ids::HostId;
use crate::limits::{NOTIFY_EVENTS_SHOWN_MAX, NOTIFY_LASTING_MAX};
use crate::store::op::TaskState;

/// Events on their way to a receiver.
pub struct Digest {
    receiver: Receiver,
    node: String,
    /// Conditions that have not lasted yet: the subject, its event, and the end of its time.
    lasting: HashMap<String, (Instant, String, &'static str)>,
    /// The same in the order of these ends. Ended conditions are removed later.
    order: VecDeque<(Instant, String)>,
    /// The group being gathered.
    group: Group,
    group_due: Option<Instant>,
}

#[derive(Default)]
struct Group {
    counts: BTreeMap<&'static str, u64>,
    /// The first events, as JSON.
    shown: Vec<String>,
}

/// Meaning of an event for notifications.
enum Meaning {
    /// A notification is due.
    Told(&'static str),
    /// It begins a condition of this subject.
    Begins(&'static str, String),
    /// It ends that condition.
    Ends(String),
    /// No notification.
    Other,
}

impl Digest {
    pub fn new(receiver: Receiver, node: &str) -> Self {
        Self {
            receiver,
            node: node.to_owned(),
            lasting: HashMap::new(),
            order: VecDeque::new(),
            group: Group::default(),
            group_due: None,
        }
    }

    /// Hosts that its events may be of; `None`: any.
    pub fn target(&self) -> Option<&Arc<TargetText>> {
        self.receiver.target.as_ref()
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event, now: Instant) {
        match meaning(&event.kind) {
            Meaning::Told(name) if self.wants(name) => {
                let text = self.text(event);
                self.add(name, text, now);
            }
            Meaning::Begins(name, subject) if self.wants(name) => {
                let text = self.text(event);
                let lasting: Duration = self.receiver.lasting.into();
                if self.lasting.contains_key(&subject) {
                    // It has begun with its first event.
                } else if lasting.is_zero() || self.lasting.len() >= NOTIFY_LASTING_MAX {
                    // Beyond the bound it is reported at once rather than never.
                    self.add(name, text, now);
                } else {
                    self.begin(subject, (now + lasting, text, name));
                }
            }
            Meaning::Ends(subject) => {
                self.lasting.remove(&subject);
            }
            _ => {}
        }
    }

    /// Time at which [`message`](Self::message) has something to do.
    pub fn due(&self) -> Option<Instant> {
        let lasting = self.order.front().map(|(due, _)| *due);
        [lasting, self.group_due].into_iter().flatten().min()
    }

    /// Returns the message that is due at `now`.
    pub fn message(&mut self, now: Instant) -> Option<String> {
        while let Some((due, subject)) = self.order.pop_front_if(|(due, _)| *due <= now) {
            if self.lasting.get(&subject).is_some_and(|it| it.0 == due)
                && let Some((_, text, name)) = self.lasting.remove(&subject)
            {
                self.add(name, text, now);
            }
        }
        self.group_due.take_if(|due| *due <= now)?;
        Some(self.take_group())
    }

    /// Returns the message that is being gathered. Conditions that have not lasted are left out.
    pub fn rest(&mut self) -> Option<String> {
        self.group_due.take()?;
        Some(self.take_group())
    }

    fn take_group(&mut self) -> String {
        let group = std::mem::take(&mut self.group);
        let count: u64 = group.counts.values().sum();
        let mut text = Json::object(|json| {
            json.member("node", &self.node);
            json.member("count", count);
            json.member("counts", &group.counts);
        });
        // The events are JSON already.
        text.pop();
        text += &format!(",\"events\":[{}]}}", group.shown.join(","));
        text
    }

    fn begin(&mut self, subject: String, condition: (Instant, String, &'static str)) {
        if self.order.len() >= 2 * NOTIFY_LASTING_MAX {
            let lasting = &self.lasting;
            let holds =
                |due: Instant, subject: &str| lasting.get(subject).is_some_and(|it| it.0 == due);
            self.order.retain(|(due, subject)| holds(*due, subject));
        }
        self.order.push_back((condition.0, subject.clone()));
        self.lasting.insert(subject, condition);
    }

    fn wants(&self, name: &str) -> bool {
        self.receiver.events.contains(&name)
    }

    fn text(&self, event: &Event) -> String {
        Json::object(|json| events::write(json, event, &self.node))
    }

    fn add(&mut self, name: &'static str, text: String, now: Instant) {
        *self.group.counts.entry(name).or_default() += 1;
        if self.group.shown.len() < NOTIFY_EVENTS_SHOWN_MAX {
            self.group.shown.push(text);
        }
        let group: Duration = self.receiver.group.into();
        self.group_due.get_or_insert(now + group);
    }
}

/// The host that a notification of this event would be about.
pub fn host_of(kind: &EventKind) -> Option<&HostId> {
    match kind {
        EventKind::Offline { host, .. }
        | EventKind::Quarantine { host, .. }
        | EventKind::Progress {
            host,
            state: TaskState::Failed,
            ..
        } => Some(host),
        _ => None,
    }
}

fn meaning(kind: &EventKind) -> Meaning {
    let host = |host: &HostId| format!("host {host}");
    match kind {
        EventKind::Offline { host: id, .. } => Meaning::Begins("offline", host(id)),
        EventKind::Online { host: id, .. } => Meaning::Ends(host(id)),
        EventKind::MassOffline { .. } => Meaning::Told("mass-offline"),
        EventKind::Quarantine { .. } => Meaning::Told("quarantine"),
        EventKind::Progress {
            state: TaskState::Failed,
            ..
        } => Meaning::Told("failed"),
        EventKind::Outside(News::Device { name, state, .. }) => {
            condition("device", format!("device {name}"), state)
        }
        EventKind::Outside(News::Target { target, state }) => {
            condition("reach", format!("target {target}"), state)
        }
        _ => Meaning::Other,
    }
}

fn condition(name: &'static str, subject: String, state: &str) -> Meaning {
    match state {
        "up" => Meaning::Ends(subject),
        _ => Meaning::Begins(name, subject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Channel, NOTIFY_EVENTS};
    use crate::handlers::view::Reason;
    use crate::store::op::Stamp;
    use crate::time::{Span, UnixMs};

    fn digest(lasting: u64, group: u64) -> Digest {
        let receiver = Receiver {
            channel: Channel::Command(vec!["/bin/true".to_owned()]),
            events: NOTIFY_EVENTS.to_vec(),
            target: None,
            lasting: Span::from_secs(lasting),
            group: Span::from_secs(group),
        };
        Digest::new(receiver, "n1")
    }

    fn event(kind: EventKind) -> Event {
        let stamp = Stamp {
            at: UnixMs(1),
            seq: 2,
        };
        Event {
            stamp,
            kind,
            passing: false,
        }
    }

    fn offline(host: &str) -> Event {
        event(EventKind::Offline {
            host: HostId::checked(host).unwrap(),
            reason: Reason::Timeout,
        })
    }

    fn online(host: &str) -> Event {
        event(EventKind::Online {
            host: HostId::checked(host).unwrap(),
            from: ([10, 0, 0, 1], 1).into(),
        })
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_mass_event_is_one_message() {
        let (mut digest, start) = (digest(0, 5), Instant::now());
        for host in 0..1_000 {
            digest.event(&offline(&format!("h{host}")), start);
        }
        assert_eq!(digest.message(start + after(4)), None);
        assert_eq!(digest.due(), Some(start + after(5)));
        let message = digest.message(start + after(5)).unwrap();
        let message: serde_json::Value = serde_json::from_str(&message).unwrap();
        assert_eq!(message["count"], 1_000);
        assert_eq!(message["counts"]["offline"], 1_000);
        let shown = message["events"].as_array().unwrap();
        assert_eq!(shown.len(), NOTIFY_EVENTS_SHOWN_MAX);
        assert_eq!(shown[0]["host"], "h0");
        assert_eq!(
            (digest.message(start + after(9)), digest.due()),
            (None, None)
        );
    }

    #[test]
    fn brief_conditions_are_not_reported() {
        let (mut digest, start) = (digest(30, 0), Instant::now());
        digest.event(&offline("short"), start);
        digest.event(&offline("long"), start);
        digest.event(&online("short"), start + after(29));
        // Offline again: its time starts over.
        digest.event(&offline("short"), start + after(29));
        assert_eq!(digest.message(start + after(29)), None);
        let message = digest.message(start + after(30)).unwrap();
        assert!(message.contains("\"long\"") && !message.contains("short"));
        assert!(digest.message(start + after(59)).unwrap().contains("short"));
    }

    #[test]
    fn a_stop_omits_only_unexpired_conditions() {
        let (mut digest, start) = (digest(30, 60), Instant::now());
        digest.event(&offline("short"), start + after(29));
        digest.event(&event(EventKind::MassOffline { count: 30 }), start);
        let rest = digest.rest().unwrap();
        assert!(
            rest.contains("mass-offline") && !rest.contains("short"),
            "{rest}"
        );
        assert_eq!(digest.rest(), None);
    }

    #[test]
    fn only_selected_events_are_reported() {
        let (mut digest, start) = (digest(0, 0), Instant::now());
        digest.receiver.events = vec!["mass-offline"];
        digest.event(&offline("a"), start);
        assert_eq!(digest.message(start), None);
        digest.event(&event(EventKind::MassOffline { count: 30 }), start);
        let message = digest.message(start).unwrap();
        assert!(
            message.contains("\"counts\":{\"mass-offline\":1}"),
            "{message}"
        );
    }
}
