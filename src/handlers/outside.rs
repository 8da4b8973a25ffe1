//! Common types of the state machines for devices and targets: links, their results, and events.

use std::net::SocketAddr;

use crate::ids::HostId;
use crate::time::Span;

use crate::handlers::effect::Note;

/// Owner of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// An AK device.
    Device,
    /// A target of `reach`.
    Target,
}

/// An attempt to reach a device or target. A result of an abandoned attempt has another generation
/// than its slot, and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Its owner.
    pub owner: Owner,
    /// Its slot among the links of its owner.
    pub slot: u32,
    /// Number of the attempt.
    pub generation: u32,
}

/// Transport of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TCP.
    Tcp,
    /// A single UDP datagram.
    Udp,
}

/// An action on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Connect without waiting, or send the datagram.
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
        /// The link.
        link: Link,
        /// The bytes, sent at once.
        bytes: Vec<u8>,
    },
    /// Close the link. No later result of it may be passed in.
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
    /// Bytes have arrived, or a datagram.
    Bytes {
        /// The bytes.
        bytes: &'a [u8],
        /// Time since the dial.
        took: Span,
    },
    /// Bytes had already arrived when a request was about to be sent. It is sent after them.
    Early {
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The link has ended or could not be established. It is closed already.
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
    /// The connection failed.
    Reset,
    /// There is no route to it.
    Unreachable,
    /// The system has no descriptor, port or memory for it.
    NoRoom,
    /// The peer does not read the sent bytes.
    NotTaken,
    /// Another system error.
    Other,
}

impl Failure {
    /// Short text.
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

/// Actions and events of the state machines, in order. Drained by the reactor; their memory is
/// reused.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Actions on links.
    pub acts: Vec<Act>,
    /// Events.
    pub news: Vec<News>,
    /// Lines for the log.
    pub notes: Vec<Note>,
}
