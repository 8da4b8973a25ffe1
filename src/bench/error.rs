//! Why there is no report.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// See the [room](self).
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system allows fewer descriptors than the plan needs.
    #[error(
        "--hosts {hosts} needs {needed} descriptors, and {limit} may be had: at most --hosts {room} \
         (raise the hard limit of open files, or run several at once)"
    )]
    Descriptors {
        /// Hosts wanted.
        hosts: usize,
        /// Descriptors they need.
        needed: u64,
        /// Descriptors there are.
        limit: u64,
        /// Hosts there is room for.
        room: u64,
    },
    /// Somebody is there, but does not take our hosts.
    #[error(
        "the server at {server} takes no such hosts: {why} (its port for hosts is wanted; keys and TLS are \
         not spoken here)"
    )]
    Unfit {
        /// Where.
        server: SocketAddr,
        /// What the first attempt met.
        why: String,
    },
    /// No connection came about.
    #[error("no server at {server}: {why} (is it running? see --server)")]
    Unreachable {
        /// Where.
        server: SocketAddr,
        /// What the first attempt met.
        why: String,
    },
    /// A source address cannot be used.
    #[error("--source: cannot connect from {address}: {error}")]
    Source {
        /// The address.
        address: IpAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The floor is compared with a server that can be looked into, and this one cannot.
    #[error("--floor compares a server on this machine with the floor: {0}")]
    Unseen(String),
    /// The system refuses what the load generator itself needs.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl BenchError {
    /// The error of something the load generator itself does.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }

    /// Whether the plan was wrong, rather than what became of it.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Descriptors { .. } | Self::Source { .. })
    }
}
