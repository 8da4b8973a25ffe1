//! Errors of the start and of the loop.

use std::io;
use std::net::SocketAddr;

/// Error of [`Server::bind`](crate::Server::bind).
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address could not be bound.
    #[error("{key} {addr}: {source}")]
    Socket {
        /// Configuration key of the address.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system allows too few open files for even one connection.
    #[error(
        "the limit of open files ({limit}) leaves no room for a connection; at least {needed} are needed"
    )]
    Descriptors {
        /// Limit of the system.
        limit: u64,
        /// Number needed.
        needed: u64,
    },
    /// The store cannot be opened: it is damaged, in use by another process, or not part of this
    /// build.
    #[error("store.url: {0}")]
    Store(String),
    /// The spool cannot be opened: another server uses it, or its directory cannot be created.
    #[error("store.spool: {0}")]
    Spool(String),
    /// The event loop could not be set up.
    #[error("the event loop: {0}")]
    Loop(#[from] io::Error),
}

/// Error that ended a server: of [`Server::turn`](crate::Server::turn) and
/// [`Server::run`](crate::Server::run).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ServeError {
    /// Exit status for a program.
    pub status: u8,
    /// Reason in one line.
    pub why: String,
}

impl ServeError {
    /// An end with status 1.
    #[must_use]
    pub fn fatal(why: impl Into<String>) -> Self {
        Self {
            status: 1,
            why: why.into(),
        }
    }
}
