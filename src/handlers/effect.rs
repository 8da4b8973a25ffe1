//! Effects: everything the core may ask of the reactor, and so everything the server can do to the
//! world.

use std::net::SocketAddr;

use crate::codec::message::{Push, Reply};
use crate::ids::{ConnId, HostId, TaskKey};
use crate::keys::Directions;
pub use crate::store::op::AuditRecord;
use crate::store::op::{Reason, Stamp, TaskState};

use crate::handlers::outside::News;
use crate::handlers::request::Response;

/// The effects of an input, in order. Filled by the handlers and drained by the reactor after each
/// input; the memory is kept.
#[derive(Debug, Default)]
pub struct Effects {
    /// The effects, oldest first.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Asks for one more.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }
}

/// One thing the core wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this to the peer.
    Reply {
        /// Through this connection.
        conn: ConnId,
        /// The reply.
        reply: Reply,
    },
    /// Send what is still to be sent, then close. The core has forgotten the connection already;
    /// nothing of it is to be handed in any more.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// There is room again for what [`Flow::Wait`](super::Flow::Wait) turned away: read on.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Take no frame from this peer above
    /// [`UNPROVEN_FRAME_BYTES_MAX`](crate::limits::UNPROVEN_FRAME_BYTES_MAX) before it is guarded.
    Narrow {
        /// The connection.
        conn: ConnId,
    },
    /// From here on every frame of this connection has a tag, both ways; what was to be sent before has
    /// none.
    Guard {
        /// The connection.
        conn: ConnId,
        /// The keys of its directions.
        keys: Directions,
    },
    /// Publish this event to subscribers.
    Tell(Event),
    /// Send this frame to a peer that asked for pushes.
    Push {
        /// Through this connection.
        conn: ConnId,
        /// The frame.
        push: Push<'static>,
    },
    /// Answer an requester.
    Respond {
        /// Number of the requester.
        requester: u64,
        /// With what.
        answer: Response,
    },
    /// Write a line to the log. That a host came or went has no line of its own: the event says it all.
    Log(Note),
    /// End the server with this status, after saying why.
    Stop {
        /// Exit status.
        status: u8,
        /// One line.
        why: String,
    },
}

/// Something that happened to the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Time, and number among this node's events.
    pub stamp: Stamp,
    /// The event.
    pub kind: EventKind,
    /// It is about a host that has never stayed for a timeout, or a key that this server never
    /// stored: it pushes no other event out of the recent ones.
    pub passing: bool,
}

/// Kind of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A host is online.
    Online {
        /// The host.
        host: HostId,
        /// By a connection from there.
        from: SocketAddr,
    },
    /// A host is offline.
    Offline {
        /// The host.
        host: HostId,
        /// The reason.
        reason: Reason,
    },
    /// More than half of the hosts went offline within one timeout.
    MassOffline {
        /// Number of hosts so far.
        count: u64,
    },
    /// A task went out.
    Dispatch {
        /// Its key.
        key: TaskKey,
        /// To how many hosts.
        count: u64,
    },
    /// A host has answered a dispatch.
    Answer {
        /// The host.
        host: HostId,
        /// The task.
        key: TaskKey,
        /// The answer.
        state: &'static str,
    },
    /// A host has come further with a task, or has ended.
    Progress {
        /// The host.
        host: HostId,
        /// The task.
        key: TaskKey,
        /// The command under way or done last.
        command: Option<String>,
        /// New state of the host in the task.
        state: TaskState,
    },
    /// Output of a command has arrived.
    Result {
        /// The host.
        host: HostId,
        /// The task's key, or the id of a console command.
        code: String,
        /// The command.
        command: String,
        /// Its exit status.
        exit: i32,
    },
    /// An id is claimed too often; its present connection keeps it.
    Quarantine {
        /// The id.
        host: HostId,
        /// Both addresses, in words.
        reason: String,
    },
    /// Two connections have one id and replace each other.
    Duplicate {
        /// The id.
        host: HostId,
        /// Both addresses, in words.
        reason: String,
    },
    /// Hosts came online that have no events of their own: ids never seen before, in too great a number.
    NewIds {
        /// Number of hosts.
        count: u64,
    },
    /// Hosts report on keys that were never stored, so often that these reports have no events of their own.
    UnknownKeys {
        /// Number of reports.
        count: u64,
    },
    /// A device or a target has changed.
    Outside(News),
    /// A request over HTTP has changed something, or was refused.
    Audit(Box<AuditRecord>),
}

/// A line for the log, before it is formatted: repeated ones are limited by `what` and `who`.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Log level.
    pub level: log::Level,
    /// Kind of the line, a constant: `abnormal`, `online`, …
    pub what: &'static str,
    /// The host or the peer.
    pub who: String,
    /// The rest, from anyone: escaped when it is written.
    pub text: String,
}
