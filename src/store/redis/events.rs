//! An entry of the stream of events.

use redis::Cmd;

use crate::ids::HostId;
use crate::limits::STREAM_ENTRIES_MAX;
use crate::store::op::Stamp;
use crate::store::schema::{self, event};

/// Fields of an entry. All of them are written as text, and only those present.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) event: &'a str,
    pub(super) host: Option<&'a HostId>,
    /// Its subject, if that is not a host.
    pub(super) about: Option<&'a str>,
    pub(super) stamp: Stamp,
    pub(super) reason: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) command: Option<&'a str>,
    pub(super) state: Option<&'a str>,
    pub(super) count: Option<u64>,
}

impl<'a> Entry<'a> {
    /// An entry that says only what happened, and when.
    pub(super) fn new(event: &'a str, stamp: Stamp) -> Self {
        Self {
            event,
            host: None,
            about: None,
            stamp,
            reason: None,
            key: None,
            command: None,
            state: None,
            count: None,
        }
    }

    /// The command that appends it, told by `node`.
    pub(super) fn append(&self, node: &str) -> Cmd {
        // Room for an entry as most are: fewer moves.
        let mut xadd = Cmd::with_capacity(20, 192);
        xadd.arg("XADD")
            .arg(schema::EVENTS)
            .arg("MAXLEN")
            .arg("~")
            .arg(STREAM_ENTRIES_MAX)
            .arg("*");
        xadd.arg(event::EVENT).arg(self.event);
        // One of the whole fleet is about no host.
        let about = self.host.map(HostId::as_str).or(self.about);
        xadd.arg(event::HOST).arg(about.unwrap_or_default());
        xadd.arg(event::AT).arg(self.stamp.at.0);
        xadd.arg(event::NODE).arg(node);
        xadd.arg(event::SEQ).arg(self.stamp.seq);
        let optional = [
            (event::REASON, self.reason),
            (event::KEY, self.key),
            (event::COMMAND, self.command),
            (event::STATE, self.state),
        ];
        for (field, value) in optional {
            if let Some(value) = value {
                xadd.arg(field).arg(value);
            }
        }
        if let Some(count) = self.count {
            xadd.arg(event::COUNT).arg(count);
        }
        xadd
    }
}
