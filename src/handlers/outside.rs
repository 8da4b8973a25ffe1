//! What the machines of devices and targets have in common: the links they ask for, what comes of
//! these, and what they have to tell.

use std::net::SocketAddr;

use crate::ids::HostId;
use crate::time::Span;

use super::effect::Note;

/// Whose link it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// An AK device's.
    Device,
    /// A target's of `reach`.
    Target,
}

/// One attempt to reach something. Whatever comes of one that was given up finds another generation in its
/// slot, and falls flat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Whose it is.
    pub owner: Owner,
    /// Its place among its owner's.
    pub slot: u32,
    /// Counts the attempts.
    pub generation: u32,
}

/// How something is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a connection.
    Tcp,
    /// By one datagram.
    Udp,
}

/// Something to be done to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Connect, without waiting; or send the datagram.
    Dial {
        /// The new link.
        link: Link,
        /// How.
        way: Way,
        /// Where to.
        to: SocketAddr,
    },
    /// Send these bytes.
    Send {
        /// Through which link.
        link: Link,
        /// All of them, at once.
        bytes: Vec<u8>,
    },
    /// Close it. Nothing more of it is to be handed in.
    Hang {
        /// Which.
        link: Link,
    },
}

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It is connected.
    Connected {
        /// How long that took.
        took: Span,
    },
    /// Bytes have come, or a datagram.
    Bytes {
        /// They.
        bytes: &'a [u8],
        /// How long after the dial.
        took: Span,
    },
    /// Bytes had come when something was to be sent, which is sent behind them.
    Early {
        /// They.
        bytes: &'a [u8],
    },
    /// It has ended, or never came about. It is closed already.
    Ended {
        /// How.
        failure: Failure,
        /// How long after the dial.
        took: Span,
    },
}

/// Why there is no link, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// The peer closed it.
    Closed,
    /// It broke.
    Reset,
    /// There is no way there.
    Unreachable,
    /// The system has no descriptor, port or memory for it.
    NoRoom,
    /// The peer does not take what it is sent.
    NotTaken,
    /// The system said something else.
    Other,
}

impl Failure {
    /// In a word or three.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::NoRoom => "no descriptor or port left here",
            Self::NotTaken => "does not read",
            Self::Other => "failed",
        }
    }
}

/// A change that is told: an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Of a device.
    Device {
        /// Which.
        name: HostId,
        /// What it is now: `up`, `stale` or `down`.
        state: &'static str,
        /// Why.
        reason: Option<String>,
    },
    /// Of a target.
    Target {
        /// Which, as it is written in the configuration.
        target: String,
        /// What it is now: `up`, `refused` or `down`.
        state: &'static str,
    },
}

/// What the machines want done and told, in order. Drained by the reactor; its memory is kept.
#[derive(Debug, Default)]
pub struct Wishes {
    /// What is to be done to links.
    pub acts: Vec<Act>,
    /// What is told.
    pub news: Vec<News>,
    /// Lines for the log.
    pub notes: Vec<Note>,
}
