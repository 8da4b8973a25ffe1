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

use std::net::SocketAddr;

use crate::codec::DecodeError;
use crate::codec::message::{Incoming, Signature};
use crate::ids::ConnId;
use crate::store::op::Outcome;
use crate::time::{Instant, UnixMs};

/// The time of a turn: one reading of each clock, for everything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock, which decides.
    pub now: Instant,
    /// The wall clock, which is written down.
    pub wall: UnixMs,
}

/// Whatever can happen to the core.
#[derive(Debug)]
pub enum Input<'a> {
    /// A peer has connected.
    Opened {
        /// The connection.
        conn: ConnId,
        /// Its address.
        peer: SocketAddr,
    },
    /// The peer has shown a certificate that names it. Comes before any message, and at most once.
    Certified {
        /// By which connection.
        conn: ConnId,
        /// The name: to be the host's id.
        name: &'a str,
    },
    /// The certificate that let a peer in does not let it in any more. The core ends its session and closes the
    /// connection.
    Revoked {
        /// The connection.
        conn: ConnId,
        /// The reason.
        why: &'a str,
    },
    /// A whole message has come.
    Message {
        /// By which connection.
        conn: ConnId,
        /// The message.
        incoming: Incoming<'a>,
    },
    /// Bytes have come that are no message. The core closes the connection.
    Abnormal {
        /// By which connection.
        conn: ConnId,
        /// The error.
        error: DecodeError,
    },
    /// The peer's end, or the network's. The reactor forgets the connection.
    Ended {
        /// The connection.
        conn: ConnId,
        /// Kind of the end.
        end: End,
    },
    /// The store has something to say.
    Outcome(Outcome),
    /// Bytes behind an ADH43, of those that [`Flow::Raw`] asked for.
    Raw {
        /// By which connection.
        conn: ConnId,
        /// The next of them: never more than are still to come.
        bytes: &'a [u8],
    },
    /// A datagram has come.
    Datagram {
        /// Sender.
        from: SocketAddr,
        /// The message.
        incoming: Incoming<'a>,
    },
    /// A datagram has come that says whose it is.
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
    /// The peer's machine no longer answers, says the kernel.
    Dead,
}

/// Result of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It was taken.
    Taken,
    /// There is no room for it now: nothing has changed. The same bytes are to be handed in again
    /// after an [`Effect::Resume`](effect::Effect::Resume), and nothing behind them before.
    Wait,
    /// It was taken, and so many bytes behind its frame are no frames: they are to come as [`Input::Raw`].
    Raw(u64),
}
