//! Errors of the start and of the loop.

use std::io;
use std::net::SocketAddr;

/// Error of [`Server::bind`](crate::Server::bind).
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A socket could not be bound.
    #[error("{key} {addr}: {source}")]
    Socket {
        /// The key of the configuration that names it.
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
    /// The store is one that can never be used as it is, or is in use by another process.
    #[error("store.url: {0}")]
    Store(String),
    /// The spool cannot be had: another server has it, or its directory cannot be made.
    #[error("store.spool: {0}")]
    Spool(String),
    /// The event loop could not be set up.
    #[error("the event loop: {0}")]
    Loop(#[from] io::Error),
}

/// Error that ended the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ServeError {
    /// The exit status that says so.
    pub status: u8,
    /// One line.
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
