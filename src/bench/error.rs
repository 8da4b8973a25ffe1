//! Reasons for a run without a report.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Error of a run of the load generator.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system allows fewer descriptors than the plan needs.
    #[error(
        "--hosts {hosts} needs {needed} descriptors, and the system allows {limit}: at most --hosts {room} \
         (raise the hard limit of open files, or run several at once)"
    )]
    Descriptors {
        /// Number of hosts wanted.
        hosts: usize,
        /// Descriptors that they need.
        needed: u64,
        /// Descriptors available.
        limit: u64,
        /// Hosts that fit.
        room: u64,
    },
    /// A server listens, but does not take hosts.
    #[error(
        "the server at {server} refuses these hosts: {why} (use its port for hosts; --key-file \
         and --tls are for servers that demand keys and TLS)"
    )]
    Unfit {
        /// Its address.
        server: SocketAddr,
        /// Error of the first attempt.
        why: String,
    },
    /// No connection could be made.
    #[error("no server at {server}: {why} (is it running? see --server)")]
    Unreachable {
        /// Address of the server.
        server: SocketAddr,
        /// Error of the first attempt.
        why: String,
    },
    /// A source address cannot be used.
    #[error("--source: cannot connect from {address}: {error}")]
    Source {
        /// The address.
        address: IpAddr,
        /// The system's error.
        error: io::Error,
    },
    /// `--floor` needs the process of the server, which cannot be measured.
    #[error("--floor compares a server on this machine with the floor: {0}")]
    Unseen(String),
    /// The system refuses a resource of the load generator itself.
    #[error("{what}: {error}")]
    System {
        /// The attempted operation.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

impl BenchError {
    /// Wraps an error of the load generator's own operation `what`.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }

    /// Returns whether the plan was wrong, as opposed to its execution.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Descriptors { .. } | Self::Source { .. })
    }
}
