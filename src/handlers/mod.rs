//! What it all means: messages, ends and deadlines go in, effects and store operations come out.
//!
//! Nothing here owns a socket, a thread, a channel or a file, reads a clock, or uses chance that
//! is not seeded.

mod addresses;
pub mod ak;
mod announce;
mod answer;
pub mod ask;
mod asks;
mod book;
mod calm;
mod certified;
mod changes;
mod commands;
mod console;
pub mod core;
mod datagram;
mod delivery;
mod dispatch;
pub mod effect;
mod heartbeat;
mod hello;
mod host;
mod hosts;
#[cfg(any(test, fuzzing))]
mod invariants;
mod inventory;
mod jobs;
pub mod keys;
mod lifetime;
mod mass;
mod newcomers;
pub mod outside;
mod payloads;
mod presence;
mod progress;
mod pull;
mod quarantine;
pub mod reach;
mod restore;
mod result;
mod room;
mod sends;
mod sequence;
mod session;
mod shards;
mod slot_set;
mod states;
pub mod stats;
mod strays;
pub mod target;
mod tasks;
#[cfg(test)]
mod tests;
pub mod view;
mod work;
mod writes;

pub use self::core::{Core, Rules};

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
        /// From where.
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
        /// What was wrong.
        error: DecodeError,
    },
    /// The peer's end, or the network's. The reactor forgets the connection.
    Ended {
        /// Which connection.
        conn: ConnId,
        /// How.
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
        /// From where.
        from: SocketAddr,
        /// What it says.
        incoming: Incoming<'a>,
    },
    /// A datagram has come that says whose it is.
    Signed {
        /// From where.
        from: SocketAddr,
        /// What it says.
        incoming: Incoming<'a>,
        /// Who says so.
        signature: Signature<'a>,
    },
    /// Somebody asks for something.
    Ask {
        /// Who: a number that comes back with the answer.
        asker: u64,
        /// What.
        ask: ask::Ask,
    },
}

/// How a connection ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed it.
    Closed,
    /// It was reset, or failed otherwise.
    Reset,
    /// The peer's machine no longer answers, says the kernel.
    Dead,
}

/// What became of an input.
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
