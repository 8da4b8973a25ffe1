//! TLS of the hosts.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::certificates;

/// TLS of all hosts: the trusted authorities, and the name in the server's certificate.
#[derive(Clone)]
pub struct TlsSettings {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsSettings").field(&self.server).finish()
    }
}

impl TlsSettings {
    /// Creates settings for the server `host`. Each connection has a full handshake.
    ///
    /// # Errors
    /// The host cannot be in a certificate.
    pub fn new(host: &str, authorities: RootCertStore) -> Result<Self, String> {
        let server = certificates::server_name(host)?;
        let config = certificates::client(authorities, None).map_err(|error| error.to_string())?;
        let config = Arc::new(config);
        Ok(Self { config, server })
    }
}

/// TLS of one connection.
#[derive(Debug)]
pub struct Channel(ClientConnection);

impl Channel {
    /// Creates a channel before its handshake.
    ///
    /// # Errors
    /// An error of TLS.
    pub(super) fn new(settings: &TlsSettings) -> io::Result<Self> {
        let config = Arc::clone(&settings.config);
        let tls = ClientConnection::new(config, settings.server.clone());
        tls.map(Self).map_err(invalid)
    }

    /// Continues the handshake. Returns whether it is complete.
    ///
    /// # Errors
    /// An error of TLS or of the socket.
    pub(super) fn handshake(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        loop {
            self.flush(stream)?;
            if !self.0.is_handshaking() {
                return Ok(true);
            }
            match self.take_in(stream) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads plain bytes; 0 at the end.
    ///
    /// # Errors
    /// An error of TLS or of the socket; [`ErrorKind::WouldBlock`] if nothing has come.
    pub(super) fn read(&mut self, stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.take_in(stream)?,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
        }
    }

    /// Sends `bytes`. Returns their length, or 0 if the socket takes no more.
    ///
    /// # Errors
    /// An error of the socket.
    pub(super) fn write(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush(stream)? {
            return Ok(0);
        }
        self.0.writer().write_all(bytes)?;
        self.flush(stream)?;
        Ok(bytes.len())
    }

    /// Sends encrypted bytes. Returns whether the socket has taken all.
    ///
    /// # Errors
    /// An error of the socket.
    pub(super) fn flush(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        while self.0.wants_write() {
            match self.0.write_tls(stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Returns whether encrypted bytes wait for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.0.wants_write()
    }

    fn take_in(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        loop {
            match self.0.read_tls(stream) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.0.process_new_packets().map_err(invalid)?;
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::other(certificates::error_in_words(&error).to_string())
}
