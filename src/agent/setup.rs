//! Setup of an agent, and the errors of its start.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::allow::Allow;
use super::journal::JournalError;
use super::tls::TlsSettings;
use crate::keys::Key;
use crate::time::Span;

/// Setup of an agent.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The server, `host:port`. A name is looked up at each attempt to connect.
    pub server: String,
    /// The id it gives itself; without one it is known by the address it connects from.
    pub id: Option<String>,
    /// The address it connects from and takes datagrams at.
    pub source: Option<IpAddr>,
    /// The port it takes datagrams at; 0 is any free one. None: it takes none.
    pub udp: Option<u16>,
    /// The agent wants dispatches over its connection.
    pub push: bool,
    /// Heartbeat interval; `None`: the server's.
    pub interval: Option<Span>,
    /// Allowed commands.
    pub allow: Allow,
    /// Its key, with the key's name. None: it is a plain host.
    pub key: Option<(String, Key)>,
    /// Directory of the journal.
    pub state: PathBuf,
    /// TLS settings; `None`: plain TCP.
    pub tls: Option<TlsSettings>,
}

/// Error of the start of an agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It cannot take datagrams where it is to.
    #[error("cannot take datagrams at {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// The system refuses something else.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}
