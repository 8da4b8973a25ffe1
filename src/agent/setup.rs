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
    /// Server, `host:port`. A name is resolved at each attempt.
    pub server: String,
    /// Id in the hello; `None`: the host is identified by its address.
    pub id: Option<String>,
    /// Local address of the connection and of the UDP socket.
    pub source: Option<IpAddr>,
    /// UDP port, 0 for any free port; `None`: no datagrams.
    pub udp: Option<u16>,
    /// The agent wants dispatches over its connection.
    pub push: bool,
    /// Heartbeat interval; `None`: the server's.
    pub interval: Option<Span>,
    /// Allowed commands.
    pub allow: Allow,
    /// Key and its name; `None`: a plain host.
    pub key: Option<(String, Key)>,
    /// Directory of the journal.
    pub state: PathBuf,
    /// Labels that the host claims.
    pub labels: Vec<(String, String)>,
    /// TLS settings; `None`: plain TCP.
    pub tls: Option<TlsSettings>,
}

/// Error of the start of an agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The UDP port cannot be bound.
    #[error("cannot receive datagrams at {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// Another system error.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}
