//! Common types of the machines for devices and targets: links, their results, and events.

use std::net::SocketAddr;

use crate::ids::HostId;
use crate::time::Span;

use crate::handlers::effect::Note;

/// Owner of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// An AK device's.
    Device,
    /// A target's of `reach`.
    Target,
}

/// One attempt to reach something. A result for an abandoned attempt has another generation than
/// its slot, and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Its owner.
    pub owner: Owner,
    /// Its place among its owner's.
    pub slot: u32,
    /// Counts the attempts.
    pub generation: u32,
}

/// Transport of a link.
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
        /// Transport.
        way: Way,
        /// Destination.
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
        /// The link.
        link: Link,
    },
}

/// Result of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It is connected.
    Connected {
        /// Duration of the connect.
        took: Span,
    },
    /// Bytes have come, or a datagram.
    Bytes {
        /// They.
        bytes: &'a [u8],
        /// Time since the dial.
        took: Span,
    },
    /// Bytes had come when something was to be sent, which is sent behind them.
    Early {
        /// They.
        bytes: &'a [u8],
    },
    /// It has ended, or never came about. It is closed already.
    Ended {
        /// The failure.
        failure: Failure,
        /// Time since the dial.
        took: Span,
    },
}

/// Reason for a failed or ended link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The destination refuses connections.
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

/// A change that raises an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Of a device.
    Device {
        /// Name of the device.
        name: HostId,
        /// Its new state: `up`, `stale` or `down`.
        state: &'static str,
        /// Reason.
        reason: Option<String>,
    },
    /// Of a target.
    Target {
        /// The target as configured.
        target: String,
        /// Its new state: `up`, `refused` or `down`.
        state: &'static str,
    },
}

/// Actions and events of the machines, in order. Drained by the reactor; the memory is kept.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Actions on links.
    pub acts: Vec<Act>,
    /// Events.
    pub news: Vec<News>,
    /// Lines for the log.
    pub notes: Vec<Note>,
}
