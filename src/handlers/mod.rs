//! The core: messages, ends and deadlines go in, effects and store operations come out.
//!
//! Nothing here owns a socket, a thread, a channel or a file, reads a clock, or uses random numbers
//! without a seed.

pub mod ak;
mod auth;
mod context;
pub mod core;
mod deadline_cache;
mod directory;
pub mod effect;
mod fleet;
#[cfg(any(test, fuzzing, debug_assertions))]
mod invariants;
mod outbox;
pub mod outside;
pub mod polls;
pub mod reach;
pub mod request;
mod slot_set;
pub mod stats;
mod step;
pub mod survey;
mod tasks;
#[cfg(test)]
mod tests;
pub mod view;

pub use self::auth::Nonces;
pub use self::core::{Core, Rules};
pub use self::fleet::labels::LabelRules;
pub use self::tasks::rollout as tasks_options;

use std::net::SocketAddr;

use crate::codec::DecodeError;
use crate::codec::message::{Incoming, Signature};
use crate::ids::ConnId;
use crate::store::op::Outcome;
use crate::time::{Instant, UnixMs};

/// The time of a turn: one reading of each clock, for everything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock: all decisions use it.
    pub now: Instant,
    /// The wall clock: all records use it.
    pub wall: UnixMs,
}

/// Input of the core.
#[derive(Debug)]
pub enum Input<'a> {
    /// A peer has connected.
    Opened {
        /// The connection.
        conn: ConnId,
        /// Its address.
        peer: SocketAddr,
    },
    /// The peer has shown a certificate that names it. Arrives before any message, and at most
    /// once.
    Certified {
        /// The connection.
        conn: ConnId,
        /// The name, which becomes the host's id.
        name: &'a str,
    },
    /// A peer's certificate is no longer accepted. The core ends its session and closes the
    /// connection.
    Revoked {
        /// The connection.
        conn: ConnId,
        /// The reason.
        why: &'a str,
    },
    /// A complete message.
    Message {
        /// The connection.
        conn: ConnId,
        /// The message.
        incoming: Incoming<'a>,
    },
    /// Received bytes are no message. The core closes the connection.
    Abnormal {
        /// The connection.
        conn: ConnId,
        /// The error.
        error: DecodeError,
    },
    /// The connection has ended, by the peer or by the network. The reactor forgets it.
    Ended {
        /// The connection.
        conn: ConnId,
        /// Kind of the end.
        end: End,
    },
    /// An outcome of the store.
    Outcome(Outcome),
    /// Raw bytes behind an ADH43, as requested by [`Flow::Raw`].
    Raw {
        /// The connection.
        conn: ConnId,
        /// The next bytes, at most the number that is still expected.
        bytes: &'a [u8],
    },
    /// A datagram.
    Datagram {
        /// Sender.
        from: SocketAddr,
        /// The message.
        incoming: Incoming<'a>,
    },
    /// A datagram that names its host.
    Signed {
        /// Sender.
        from: SocketAddr,
        /// The message.
        incoming: Incoming<'a>,
        /// Its signature.
        signature: Signature<'a>,
    },
    /// A request.
    Request {
        /// Number of the requester, returned with the answer.
        requester: u64,
        /// The request.
        request: request::Request,
    },
}

/// Kind of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed it.
    Closed,
    /// It was reset, or failed otherwise.
    Reset,
    /// The kernel reports that the peer's machine no longer answers.
    Dead,
}

/// Result of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// The input was handled.
    Taken,
    /// There is no room for the input now, and nothing has changed. The same bytes must be passed
    /// in again after an [`Effect::Resume`](effect::Effect::Resume), before any later bytes.
    Wait,
    /// The input was handled, and this number of raw bytes follows its frame. They must be passed
    /// in as [`Input::Raw`].
    Raw(u64),
}
