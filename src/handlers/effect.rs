//! Effects: all requests of the core to the reactor. The server acts on its surroundings by effects
//! only.

use std::net::SocketAddr;

use crate::codec::message::{Push, Reply};
use crate::ids::{ConnId, HostId, TaskKey};
use crate::keys::Directions;
pub use crate::store::op::AuditRecord;
use crate::store::op::{Reason, Stamp, TaskState};

use crate::handlers::outside::News;
use crate::handlers::request::Response;

/// The effects of an input, in order. Filled by the handlers and drained by the reactor after each
/// input. Their memory is reused.
#[derive(Debug, Default)]
pub struct Effects {
    /// The effects, oldest first.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }
}

/// A request of the core to the reactor.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Sends a reply to a peer.
    Reply {
        /// The connection.
        conn: ConnId,
        /// The reply.
        reply: Reply,
    },
    /// Sends the unsent bytes and closes the connection. The core has forgotten it already, so no
    /// further input of it may be passed in.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Resumes a connection that [`Flow::Wait`](super::Flow::Wait) has paused: there is room again.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Limits the frames of a connection to
    /// [`UNPROVEN_FRAME_BYTES_MAX`](crate::limits::UNPROVEN_FRAME_BYTES_MAX) until it is guarded.
    Narrow {
        /// The connection.
        conn: ConnId,
    },
    /// Guards a connection: every later frame has a tag, in both directions. Earlier unsent frames
    /// have none.
    Guard {
        /// The connection.
        conn: ConnId,
        /// The keys of its directions.
        keys: Directions,
    },
    /// Publishes an event to subscribers.
    Tell(Event),
    /// Sends a frame to a peer that asked for pushes.
    Push {
        /// The connection.
        conn: ConnId,
        /// The frame.
        push: Push<'static>,
    },
    /// Answers a requester.
    Respond {
        /// Number of the requester.
        requester: u64,
        /// The answer.
        answer: Response,
    },
    /// Writes a line to the log. Coming online and going offline have no line of their own: the
    /// reactor logs their events.
    Log(Note),
    /// Ends the server with this status, and logs the reason.
    Stop {
        /// Exit status.
        status: u8,
        /// The reason, one line.
        why: String,
    },
}

/// An event of the fleet.
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
        /// Address of its connection.
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
    /// A task was dispatched.
    Dispatch {
        /// Its key.
        key: TaskKey,
        /// Number of its hosts.
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
    /// Progress of a host with a task, or its end.
    Progress {
        /// The host.
        host: HostId,
        /// The task.
        key: TaskKey,
        /// The running command, or the last finished one.
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
    /// An id is claimed too often; its current connection keeps it.
    Quarantine {
        /// The id.
        host: HostId,
        /// Both addresses, as text.
        reason: String,
    },
    /// Two connections have one id and replace each other.
    Duplicate {
        /// The id.
        host: HostId,
        /// Both addresses, as text.
        reason: String,
    },
    /// Too many hosts with new ids came online; they have no events of their own.
    NewIds {
        /// Number of hosts.
        count: u64,
    },
    /// Too many reports on keys that were never stored; these reports have no events of their own.
    UnknownKeys {
        /// Number of reports.
        count: u64,
    },
    /// A device or a target has changed.
    Outside(News),
    /// A request over HTTP has changed something, or was refused.
    Audit(Box<AuditRecord>),
}

/// A line for the log, before it is formatted. Repeated lines are limited by `what` and `who`.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Log level.
    pub level: log::Level,
    /// Kind of the line, a constant: `abnormal`, `online`, …
    pub what: &'static str,
    /// The host or the peer.
    pub who: String,
    /// The rest, possibly of a peer: escaped when it is written.
    pub text: String,
}
