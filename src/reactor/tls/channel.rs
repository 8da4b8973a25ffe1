//! One connection's TLS.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::ServerConnection;

use super::super::connection::{Flushed, Got};
use super::TlsSettings;
use crate::certificates;
use crate::limits::TLS_BUFFER_BYTES_MAX;

/// See the [room](self).
pub(super) struct Channel {
    tls: ServerConnection,
    /// The certificate is still to be asked for the host's name.
    unnamed: bool,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("handshaking", &self.tls.is_handshaking())
            .field("unnamed", &self.unnamed)
            .finish()
    }
}

impl Channel {
    /// A channel on which nothing has been said.
    pub(super) fn new(settings: &TlsSettings) -> Option<Self> {
        let mut tls = ServerConnection::new(Arc::clone(&settings.config)).ok()?;
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
        Some(Self {
            tls,
            unnamed: settings.names_hosts,
        })
    }

    /// Reads plain bytes: what has been decrypted already before the socket, since nobody announces that.
    /// Takes from `steps` for each step of a handshake.
    pub(super) fn read(
        &mut self,
        stream: &mut (impl Read + Write),
        into: &mut [u8],
        steps: &mut usize,
    ) -> Got {
        loop {
            match self.tls.reader().read(into) {
                Ok(0) => return Got::End(crate::handlers::End::Closed),
                Ok(bytes) => return Got::Bytes(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // It ended without a goodbye, as hosts do that are switched off: frames have lengths of
                // their own, so nothing can have been cut off unseen.
                Err(_) => return Got::End(crate::handlers::End::Closed),
            }
            if self.tls.is_handshaking() && *steps == 0 {
                return Got::Later;
            }
            match self.tls.read_tls(stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Got::Nothing,
                Err(error) => return Got::End(super::super::connection::end_of(&error)),
            }
            *steps = steps.saturating_sub(usize::from(self.tls.is_handshaking()));
            if let Err(error) = self.tls.process_new_packets() {
                // The alert that says why: as far as it can be said at once.
                let _ = self.tls.write_tls(stream);
                return Got::Failed(error.to_string());
            }
        }
    }

    /// Takes some of `plain` on its way.
    pub(super) fn take(&mut self, plain: &[u8]) -> usize {
        self.tls.writer().write(plain).unwrap_or(0)
    }

    /// Sends what is on its way.
    pub(super) fn send(&mut self, stream: &mut impl Write, sent: &mut u64) -> Flushed {
        while self.tls.wants_write() {
            match self.tls.write_tls(stream) {
                Ok(0) => return Flushed::Broken,
                Ok(bytes) => *sent += bytes as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(_) => return Flushed::Broken,
            }
        }
        Flushed::All
    }

    /// Whether something is on its way.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    /// Says goodbye, as far as that can be done at once.
    pub(super) fn end(&mut self, stream: &mut impl Write) {
        self.tls.send_close_notify();
        let _ = self.send(stream, &mut 0);
    }

    /// The name in the peer's certificate, once.
    pub(super) fn name(&mut self) -> Option<Result<String, String>> {
        if !self.unnamed || self.tls.is_handshaking() {
            return None;
        }
        self.unnamed = false;
        Some(match self.tls.peer_certificates() {
            Some([own, ..]) => certificates::name_of(own),
            _ => Err("no certificate was shown".to_owned()),
        })
    }
}
