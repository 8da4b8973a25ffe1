//! One connection's TLS.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;

use super::super::connection::{Flushed, Got};
use super::super::read_budget::ReadBudget;
use super::TlsSettings;
use super::records::{Metered, Records};
use crate::certificates::error_in_words;
use crate::ids::ConnId;
use crate::limits::TLS_BUFFER_BYTES_MAX;
use crate::time::UnixMs;

/// TLS of one connection.
pub(super) struct Channel {
    tls: ServerConnection,
    /// The connection it belongs to.
    pub(super) conn: ConnId,
    /// Record boundaries in the received bytes.
    records: Records,
    /// Received bytes of the handshake.
    handshake_bytes_read: usize,
    /// The end of the handshake has been handled.
    is_known: bool,
    /// Era of the authorities that last accepted the peer's certificate: see [`Tls`](super::Tls).
    pub(super) era: u32,
    /// Time of the next check of the peer's certificates, at which one of them expires.
    pub(super) expires: Option<UnixMs>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("handshaking", &self.tls.is_handshaking())
            .field("era", &self.era)
            .finish_non_exhaustive()
    }
}

impl Channel {
    /// Creates a channel before its handshake.
    pub(super) fn new(settings: &TlsSettings, conn: ConnId, era: u32) -> Option<Self> {
        let mut tls = ServerConnection::new(Arc::clone(&settings.config)).ok()?;
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
        Some(Self {
            tls,
            conn,
            records: Records::default(),
            handshake_bytes_read: 0,
            is_known: false,
            era,
            expires: None,
        })
    }

    /// Reads plain bytes. Decrypted bytes that are left from the read before go first, since no
    /// event announces them. Charges `budget` for every encrypted byte and every record, whether or
    /// not it holds data (a KeyUpdate holds none), and `steps` for each step of a handshake.
    /// Returns [`Got::Later`] when one of these is used up.
    pub(super) fn read(
        &mut self,
        stream: &mut (impl Read + Write),
        into: &mut [u8],
        budget: &mut ReadBudget,
        steps: &mut usize,
    ) -> Got {
        loop {
            match self.tls.reader().read(into) {
                Ok(0) => return Got::End(crate::handlers::End::Closed),
                Ok(bytes) => return Got::Bytes(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end without close_notify, as of a host that loses power. Frames have lengths,
                // so a truncation cannot go unnoticed.
                Err(_) => return Got::End(crate::handlers::End::Closed),
            }
            let handshaking = self.tls.is_handshaking();
            if budget.bytes == 0 || budget.records == 0 || (handshaking && *steps == 0) {
                return Got::Later;
            }
            // The steps bound a handshake. Afterwards no read may end more records than the budget
            // has left.
            let room = match handshaking {
                true => budget.bytes,
                false => self.records.room(budget.records, true).min(budget.bytes),
            };
            let mut metered = Metered {
                stream: &mut *stream,
                records: &mut self.records,
                bytes_max: room,
                ended: 0,
            };
            let read = self.tls.read_tls(&mut metered);
            budget.records = budget.records.saturating_sub(metered.ended);
            let taken = room - metered.bytes_max;
            budget.spend_bytes(taken);
            self.handshake_bytes_read += if handshaking { taken } else { 0 };
            match read {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Got::Nothing,
                Err(error) => return Got::End(super::super::connection::end_of(&error)),
            }
            *steps = steps.saturating_sub(usize::from(handshaking));
            if let Err(error) = self.tls.process_new_packets() {
                // The alert with the reason, if it can be sent at once.
                let _ = self.tls.write_tls(stream);
                return Got::Failed(error_in_words(&error));
            }
        }
    }

    /// Encrypts some of `plain`. Returns its length.
    pub(super) fn take(&mut self, plain: &[u8]) -> usize {
        self.tls.writer().write(plain).unwrap_or(0)
    }

    /// Sends encrypted bytes.
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

    /// Returns whether encrypted bytes are unsent.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    /// Sends close_notify, if it can be sent at once.
    pub(super) fn end(&mut self, stream: &mut impl Write) {
        self.tls.send_close_notify();
        let _ = self.send(stream, &mut 0);
    }

    /// Returns true once, after the end of the handshake.
    pub(super) fn take_handshake_end(&mut self) -> bool {
        let is_over = !self.tls.is_handshaking();
        is_over && !std::mem::replace(&mut self.is_known, true)
    }

    /// Returns whether the peer has begun a handshake.
    pub(super) fn has_handshake_begun(&self) -> bool {
        self.handshake_bytes_read > 0
    }

    /// Received bytes of a handshake in progress, a bound of its memory.
    pub(super) fn handshake_bytes(&self) -> usize {
        match self.tls.is_handshaking() {
            true => self.handshake_bytes_read,
            false => 0,
        }
    }

    /// Returns whether the end of the handshake has been handled.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The peer's certificates: its own, then the intermediate ones.
    pub(super) fn shown(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.peer_certificates()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ClientConnection;
    use rustls::pki_types::ServerName;

    use crate::certificates::testing::{Socket, settings};

    /// A client and a channel of the server, before the first byte.
    fn both(version: &'static rustls::SupportedProtocolVersion) -> (ClientConnection, Channel) {
        let (client, server, _) = settings(version);
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        client.set_buffer_limit(None);
        let settings = TlsSettings {
            config: Arc::new(server),
            clients: None,
        };
        let conn = ConnId {
            slot: 0,
            generation: 0,
        };
        (client, Channel::new(&settings, conn, 0).unwrap())
    }

    /// Sends the client's pending bytes, and reads them within one budget.
    fn say(client: &mut ClientConnection, channel: &mut Channel) -> Got {
        let mut socket = Socket::default();
        client.write_tls(socket.incoming.get_mut()).unwrap();
        let (mut budget, mut steps) = (ReadBudget::among(1), 8);
        let got = channel.read(&mut socket, &mut [0; 1_024], &mut budget, &mut steps);
        channel.send(&mut socket.outgoing, &mut 0);
        client.read_tls(&mut &socket.outgoing[..]).unwrap();
        client.process_new_packets().unwrap();
        got
    }

    fn shake_hands(client: &mut ClientConnection, channel: &mut Channel) {
        while client.is_handshaking() || client.wants_write() {
            assert_eq!(say(client, channel), Got::Nothing);
        }
        assert!(!channel.tls.is_handshaking());
    }

    /// Reads as in one turn of a connection. Returns the bytes taken from the socket, and the plain
    /// bytes.
    fn turn(channel: &mut Channel, socket: &mut Socket, mut budget: ReadBudget) -> (usize, usize) {
        let (before, mut plain) = (socket.left(), 0);
        let mut into = vec![0; 65_536];
        while budget.bytes > 0 {
            match channel.read(socket, &mut into, &mut budget, &mut 8) {
                Got::Bytes(bytes) => plain += bytes,
                Got::Later | Got::Nothing => break,
                other => panic!("{other:?}"),
            }
        }
        (before - socket.left(), plain)
    }

    #[test]
    fn empty_records_use_up_the_budget() {
        let (mut client, mut channel) = both(&rustls::version::TLS13);
        shake_hands(&mut client, &mut channel);
        // More key updates in a row than 32 are refused; a byte of data lets 32 more pass.
        let mut socket = Socket::default();
        for _ in 0..40 {
            for _ in 0..30 {
                client.refresh_traffic_keys().unwrap();
            }
            client.writer().write_all(b"x").unwrap();
        }
        while client.wants_write() {
            client.write_tls(socket.incoming.get_mut()).unwrap();
        }
        let mut counted = Records::default();
        for frames in [1, 16, 256] {
            let budget = ReadBudget {
                records: frames,
                ..ReadBudget::among(1)
            };
            let from = socket.incoming.position() as usize;
            let (taken, _) = turn(&mut channel, &mut socket, budget);
            let records = counted.advance(&socket.incoming.get_ref()[from..from + taken]);
            assert!((1..=frames).contains(&records), "{records} of {frames}");
        }
        // Each turn makes progress, and nothing is lost.
        let mut plain = 0;
        while socket.left() > 0 {
            let (taken, some) = turn(&mut channel, &mut socket, ReadBudget::among(1_000_000));
            assert!(taken > 0);
            plain += some;
        }
        plain += turn(&mut channel, &mut socket, ReadBudget::among(1)).1;
        assert!(plain >= 30, "{plain}");
    }

    #[test]
    fn encrypted_bytes_use_up_the_budget() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let (mut client, mut channel) = both(version);
            shake_hands(&mut client, &mut channel);
            let mut socket = Socket::default();
            for _ in 0..1_000 {
                client.writer().write_all(b"x").unwrap();
            }
            client.write_tls(socket.incoming.get_mut()).unwrap();
            let budget = ReadBudget {
                bytes: 2_000,
                ..ReadBudget::among(1)
            };
            let (taken, _) = turn(&mut channel, &mut socket, budget);
            assert!(taken > 0 && taken <= 2_000, "{taken} bytes");
        }
    }

    #[test]
    fn handshake_fragments_use_up_steps() {
        let (mut client, mut channel) = both(&rustls::version::TLS13);
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        // The same message, a byte a record.
        let mut socket = Socket::default();
        for byte in &hello[5..] {
            socket.incoming.get_mut().extend([22, 3, 1, 0, 1, *byte]);
        }
        let mut steps = 1;
        let mut budget = ReadBudget::among(1_000_000);
        let before = socket.left();
        let got = channel.read(&mut socket, &mut [0; 64], &mut budget, &mut steps);
        assert_eq!(got, Got::Later);
        assert_eq!((steps, budget.records), (0, 0));
        assert!(before - socket.left() <= 8_192);
        // It makes progress nevertheless.
        for _ in 0..64 {
            channel.read(&mut socket, &mut [0; 64], &mut ReadBudget::among(1), &mut 8);
        }
        assert!(channel.has_unsent(), "the server's first flight");
    }
}
