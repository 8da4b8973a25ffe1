//! TLS to the server: trusted authorities, own certificate, and the channel of a connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::certificates;
use crate::limits::READ_BUFFER_BYTES;

/// Certificate chain and private key.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Bytes of an answer by which its protocol is recognized.
const FIRST_BYTES: usize = 8;

/// Error of the TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The name of the server cannot be in a certificate.
    #[error("{0}")]
    Server(String),
    /// The own certificate or its key is unusable.
    #[error("{}", certificates::explain(.0))]
    Own(rustls::Error),
}

/// TLS settings of the connection to the server.
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
    /// Creates settings for `server`, `host:port`, with its trusted authorities and the own
    /// certificate, if any.
    ///
    /// # Errors
    /// The host cannot be in a certificate, or the key does not match the certificate.
    pub fn new(
        server: &str,
        authorities: RootCertStore,
        own: Option<Shown>,
    ) -> Result<Self, TlsError> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let server = certificates::server_name(host).map_err(TlsError::Server)?;
        let config = certificates::client(authorities, own).map_err(TlsError::Own)?;
        Ok(Self {
            config: Arc::new(config),
            server,
        })
    }
}

/// One connection's TLS.
pub(super) struct Channel {
    tls: ClientConnection,
    /// First received bytes, to recognize a protocol other than TLS.
    first: Vec<u8>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("handshaking", &self.tls.is_handshaking())
            .finish()
    }
}

impl Channel {
    /// Creates a channel before its handshake.
    pub(super) fn new(settings: &TlsSettings) -> io::Result<Self> {
        let mut tls = ClientConnection::new(Arc::clone(&settings.config), settings.server.clone())
            .map_err(failed)?;
        tls.set_buffer_limit(Some(READ_BUFFER_BYTES));
        Ok(Self {
            tls,
            first: Vec::new(),
        })
    }

    /// Continues the handshake as far as the socket and `left`, the budget of encrypted bytes,
    /// allow. Returns whether it is complete.
    ///
    /// # Errors
    /// An error of TLS or of the socket.
    pub(super) fn handshake(
        &mut self,
        stream: &mut (impl Read + Write),
        left: &mut usize,
    ) -> io::Result<bool> {
        self.advance(stream, left)
            .map_err(|error| match error.kind() {
            _ if self.first.starts_with(b"HTTP/") => failed(
                "its port speaks HTTP without TLS: --server is the port for hosts, usually 11451",
            ),
            // Types of TLS records: change_cipher_spec to application_data.
            _ if !matches!(self.first.first(), None | Some(20..=23)) => {
                failed("its port does not speak TLS: try without --tls")
            }
            io::ErrorKind::Other => error,
            _ if self.first.is_empty() => failed(format_args!(
                "{error}, in the middle of the handshake: does its port speak TLS?"
            )),
            _ => failed(format_args!("{error}, in the middle of the handshake")),
        })
    }

    fn advance(&mut self, stream: &mut (impl Read + Write), left: &mut usize) -> io::Result<bool> {
        loop {
            self.flush(stream)?;
            if !self.tls.is_handshaking() {
                return Ok(true);
            }
            match self.take_in(stream, left) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads plain bytes. Decrypted bytes of an earlier read go first, since no event announces
    /// them. Every encrypted byte is taken from `left`, since a record need not hold any data.
    ///
    /// # Errors
    /// An error of the socket or of TLS. [`io::ErrorKind::WouldBlock`] also when `left` is used up.
    pub(super) fn read(
        &mut self,
        stream: &mut (impl Read + Write),
        into: &mut [u8],
        left: &mut usize,
    ) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An end without close_notify is valid: frames carry their length, so a truncation
                // is noticed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.take_in(stream, left)?;
        }
    }

    /// Writes as much as the socket takes and removes it from `out`. Returns whether anything was
    /// written.
    pub(super) fn write(&mut self, stream: &mut impl Write, out: &mut Vec<u8>) -> io::Result<bool> {
        let (mut any, mut done) = (false, 0);
        let ended = loop {
            match self.flush(stream) {
                Ok(sent) => any |= sent,
                Err(error) => break Err(error),
            }
            if self.tls.wants_write() || done == out.len() {
                break Ok(());
            }
            match self.tls.writer().write(&out[done..]) {
                Ok(taken) => done += taken,
                Err(error) => break Err(error),
            }
        };
        out.drain(..done);
        ended.map(|()| any)
    }

    /// Sends close_notify, without waiting.
    pub(super) fn end(&mut self, stream: &mut impl Write) {
        self.tls.send_close_notify();
        let _ = self.flush(stream);
    }

    /// Reads available bytes from the socket. Returns their number, 0 at the end.
    fn take_in(&mut self, stream: &mut (impl Read + Write), left: &mut usize) -> io::Result<usize> {
        if *left == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = loop {
            let mut seen = Seen {
                stream: &mut *stream,
                first: &mut self.first,
            };
            match self.tls.read_tls(&mut seen) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        *left = left.saturating_sub(read);
        if let Err(error) = self.tls.process_new_packets() {
            // Sends the alert with the reason, without waiting.
            let _ = self.tls.write_tls(stream);
            return Err(failed(certificates::error_in_words(&error)));
        }
        Ok(read)
    }

    /// Writes pending records as far as the socket takes them. Returns whether anything was
    /// written.
    fn flush(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let mut any = false;
        while self.tls.wants_write() {
            match self.tls.write_tls(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }
}

/// Stream that records its first bytes.
struct Seen<'a, S> {
    stream: &'a mut S,
    first: &'a mut Vec<u8>,
}

impl<S: Read> Read for Seen<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        let room = FIRST_BYTES.saturating_sub(self.first.len());
        self.first.extend_from_slice(&into[..read.min(room)]);
        Ok(read)
    }
}

fn failed(why: impl fmt::Display) -> io::Error {
    io::Error::other(format!("TLS: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::testing::{Socket, settings};
    use rustls::ServerConnection;

    /// A channel and its server after the handshake, and the socket of the channel.
    fn connected() -> (Channel, ServerConnection, Socket) {
        let (_, server, roots) = settings(&rustls::version::TLS13);
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        server.set_buffer_limit(None);
        let settings = TlsSettings::new("localhost:1", roots, None).unwrap();
        let mut channel = Channel::new(&settings).unwrap();
        let mut socket = Socket::default();
        while !channel.handshake(&mut socket, &mut 4_096).unwrap() || server.is_handshaking() {
            let mut sent = &std::mem::take(&mut socket.outgoing)[..];
            while !sent.is_empty() {
                server.read_tls(&mut sent).unwrap();
                server.process_new_packets().unwrap();
            }
            let incoming = socket.incoming.get_mut();
            while server.wants_write() {
                server.write_tls(incoming).unwrap();
            }
        }
        (channel, server, socket)
    }

    #[test]
    fn empty_records_use_the_read_budget() {
        let (mut channel, mut server, mut socket) = connected();
        for _ in 0..400 {
            for _ in 0..30 {
                server.refresh_traffic_keys().unwrap();
            }
            server.writer().write_all(b"x").unwrap();
        }
        while server.wants_write() {
            server.write_tls(socket.incoming.get_mut()).unwrap();
        }
        let all = socket.left();
        let (mut left, mut plain) = (16_384, 0);
        let ended = loop {
            match channel.read(&mut socket, &mut [0; 1_024], &mut left) {
                Ok(read) => plain += read,
                Err(error) => break error,
            }
        };
        assert_eq!(ended.kind(), io::ErrorKind::WouldBlock, "{ended}");
        assert_eq!(left, 0);
        let taken = all - socket.left();
        assert!(plain > 0 && taken < 32_768, "{taken} of {all} bytes");
    }
}
