//! TLS to a Redis server: the accepted authorities, and the stream.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::wire::Steady;
use crate::certificates::{self, PemFile};

/// An encrypted connection. The handshake takes place in the first exchange, under its time limits.
pub(super) type Tls = StreamOwned<ClientConnection, Steady>;

/// Settings with the authorities in the file `ca`, or those of the system. The file is read at each
/// attempt, so that a corrected or renewed one needs no restart.
pub(super) fn settings(ca: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let authorities = match ca {
        Some(ca) => PemFile::open(ca)
            .and_then(|file| file.authorities())
            .map_err(|error| error.to_string()),
        None => certificates::authorities_of_the_system(),
    };
    let mut config = ClientConfig::builder_with_provider(certificates::provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(authorities.map_err(io::Error::other)?)
        .with_no_client_auth();
    // One connection is kept, so that sessions are never resumed.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A stream over `socket` to a server whose certificate is for `host`.
pub(super) fn over(socket: Steady, settings: Arc<ClientConfig>, host: &str) -> io::Result<Tls> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(settings, name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket))
}
