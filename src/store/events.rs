//! Entries of the event stream, with their fields, for all stores.

use std::borrow::Cow;

use super::op::{Answer, AuditRecord, Dispatch, Notice, Progress, Reason, Stamp, TaskResult};
use super::schema::event;
use crate::ids::HostId;

/// An event of a host, a task or the fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamEvent<'a> {
    name: &'a str,
    /// The host, device or target; empty for an event of the whole fleet.
    subject: &'a str,
    stamp: Stamp,
    reason: Option<&'a str>,
    key: Option<&'a str>,
    command: Option<&'a str>,
    state: Option<&'a str>,
    count: Option<u64>,
    audit: Option<&'a AuditRecord>,
}

impl<'a> StreamEvent<'a> {
    const fn new(name: &'a str, subject: &'a str, stamp: Stamp) -> Self {
        Self {
            name,
            subject,
            stamp,
            reason: None,
            key: None,
            command: None,
            state: None,
            count: None,
            audit: None,
        }
    }

    pub fn online(host: &'a HostId, stamp: Stamp) -> Self {
        Self::new(event::ONLINE, host.as_str(), stamp)
    }

    pub fn offline(host: &'a HostId, reason: Option<Reason>, stamp: Stamp) -> Self {
        Self {
            reason: reason.map(Reason::as_str),
            ..Self::new(event::OFFLINE, host.as_str(), stamp)
        }
    }

    /// The event of a report. `done`: nothing is left of the host's part in the task.
    pub fn progress(op: &'a Progress, done: bool) -> Self {
        let (state, command) = op.event(done);
        Self {
            key: Some(op.key.as_str()),
            command,
            state: Some(state.as_str()),
            ..Self::new(event::PROGRESS, op.host.as_str(), op.stamp)
        }
    }

    pub fn answer(op: &'a Answer) -> Self {
        Self {
            key: Some(op.key.as_str()),
            state: Some(match op.rcc {
                1 => event::ANSWERED,
                2 => event::NO_BOOK,
                _ => event::DAMAGED,
            }),
            ..Self::new(event::ANSWER, op.host.as_str(), op.stamp)
        }
    }

    pub fn result(op: &'a TaskResult) -> Self {
        Self {
            key: Some(&op.code),
            command: Some(&op.command),
            ..Self::new(event::RESULT, op.host.as_str(), op.stamp)
        }
    }

    pub fn dispatch(op: &'a Dispatch) -> Self {
        Self {
            key: Some(op.key.as_str()),
            count: Some(op.hosts.len() as u64),
            ..Self::new(event::DISPATCH, "", op.stamp)
        }
    }

    pub fn notice(op: &'a Notice) -> Self {
        let audit = op.audit.as_deref();
        Self {
            key: audit.and_then(|audit| audit.key.as_deref()),
            state: op.state,
            reason: op.reason.as_deref(),
            count: op.count,
            audit,
            ..Self::new(op.event, op.about.as_deref().unwrap_or_default(), op.stamp)
        }
    }

    /// The fields that apply, in order, of an event that `node` writes.
    pub fn fields(&self, node: &'a str) -> impl Iterator<Item = (&'static str, Cow<'a, str>)> {
        let number = |number: u64| Some(Cow::Owned(number.to_string()));
        let text = |text: Option<&'a str>| text.map(Cow::Borrowed);
        let fields = [
            (event::EVENT, text(Some(self.name))),
            (event::HOST, text(Some(self.subject))),
            (event::AT, number(self.stamp.at.0)),
            (event::NODE, text(Some(node))),
            (event::SEQ, number(self.stamp.seq)),
            (event::REASON, text(self.reason)),
            (event::KEY, text(self.key)),
            (event::COMMAND, text(self.command)),
            (event::STATE, text(self.state)),
            (event::COUNT, self.count.and_then(number)),
            (event::BY, text(self.audit.map(|audit| &*audit.by))),
            (event::WHAT, text(self.audit.map(|audit| &*audit.what))),
            (
                event::TARGET,
                text(self.audit.and_then(|audit| audit.target.as_deref())),
            ),
            (
                event::RESULT_OF,
                text(self.audit.map(|audit| &*audit.result)),
            ),
        ];
        let present = |(name, value)| Some((name, value?));
        fields.into_iter().filter_map(present)
    }
}
