//! One connection's TLS, without buffers of its own while it is idle: what `rustls` calls
//! *unbuffered*. Received bytes are kept only while a record or a handshake message is incomplete,
//! plain bytes only beyond the reader's buffer, and encrypted ones until they are sent.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, WriteTraffic};

use super::super::connection::{Flushed, Got};
use super::super::read_budget::ReadBudget;
use super::TlsSettings;
use super::records::{Metered, Records};
use crate::certificates::error_in_words;
use crate::ids::ConnId;
use crate::limits::{TLS_BUFFER_BYTES_MAX, TLS_READ_BYTES, TLS_UNREAD_BYTES_MAX};
use crate::time::UnixMs;

/// TLS of one connection.
pub(super) struct Channel {
    tls: UnbufferedServerConnection,
    /// Received bytes of incomplete records and handshake messages.
    received: Vec<u8>,
    /// Plain bytes for which the reader had no room.
    plain: Vec<u8>,
    unsent: Unsent,
    /// The peer has sent close_notify.
    is_over: bool,
    /// TLS has failed and is not called again: `rustls` may panic then.
    has_failed: bool,
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

/// Encrypted bytes to be sent.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// Number of those that have been sent.
    sent: usize,
}

impl Unsent {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn room(&self) -> usize {
        TLS_BUFFER_BYTES_MAX.saturating_sub(self.bytes.len() - self.sent)
    }

    /// Appends what `write` writes into `most` bytes. It returns the number of bytes written, or
    /// the number of bytes that it needs, and is then called once more. Returns whether it wrote.
    fn append(
        &mut self,
        most: usize,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
    ) -> bool {
        let start = self.bytes.len();
        self.bytes.resize(start + most, 0);
        let written = match write(&mut self.bytes[start..]) {
            Err(Some(needed)) => {
                self.bytes.resize(start + needed, 0);
                write(&mut self.bytes[start..])
            }
            other => other,
        };
        self.bytes.truncate(start + written.unwrap_or(0));
        written.is_ok()
    }

    fn send(&mut self, stream: &mut impl Write, sent: &mut u64) -> Flushed {
        while self.sent < self.bytes.len() {
            match stream.write(&self.bytes[self.sent..]) {
                Ok(0) => return Flushed::Broken,
                Ok(bytes) => {
                    self.sent += bytes;
                    *sent += bytes as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(_) => return Flushed::Broken,
            }
        }
        *self = Self::default();
        Flushed::All
    }
}

/// Bytes that encryption adds to one record, and to a key update before it, at most.
const ENCRYPTION_BYTES: usize = 128;

/// Destination of decrypted bytes: the reader's buffer, then the channel's.
struct Plain<'a> {
    into: &'a mut [u8],
    filled: usize,
    rest: &'a mut Vec<u8>,
}

impl Plain<'_> {
    fn append(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(self.into.len() - self.filled);
        self.into[self.filled..][..room].copy_from_slice(&bytes[..room]);
        self.filled += room;
        self.rest.extend_from_slice(&bytes[room..]);
    }
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
        Some(Self {
            tls: UnbufferedServerConnection::new(Arc::clone(&settings.config)).ok()?,
            received: Vec::new(),
            plain: Vec::new(),
            unsent: Unsent::default(),
            is_over: false,
            has_failed: false,
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
            if !self.plain.is_empty() {
                return Got::Bytes(self.take_plain(into));
            }
            if self.is_over || self.has_failed {
                return Got::End(crate::handlers::End::Closed);
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
            let mut bytes = [0; TLS_READ_BYTES];
            let read = metered.read(&mut bytes);
            budget.records = budget.records.saturating_sub(metered.ended);
            let taken = room - metered.bytes_max;
            budget.spend_bytes(taken);
            self.handshake_bytes_read += if handshaking { taken } else { 0 };
            let read = match read {
                // An end without close_notify, as of a host that loses power. Frames have lengths,
                // so a truncation cannot go unnoticed.
                Ok(0) => return Got::End(crate::handlers::End::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Got::Nothing,
                Err(error) => return Got::End(super::super::connection::end_of(&error)),
            };
            *steps = steps.saturating_sub(usize::from(handshaking));
            match self.receive(&mut bytes[..read], into) {
                Ok(0) => {}
                Ok(bytes) => return Got::Bytes(bytes),
                Err(why) => {
                    self.has_failed = true;
                    // The alert with the reason, if it can be sent at once.
                    let _ = self.unsent.send(stream, &mut 0);
                    return Got::Failed(why);
                }
            }
        }
    }

    /// Returns plain bytes for which there was no room before.
    fn take_plain(&mut self, into: &mut [u8]) -> usize {
        let bytes = self.plain.len().min(into.len());
        into[..bytes].copy_from_slice(&self.plain[..bytes]);
        self.plain.drain(..bytes);
        if self.plain.is_empty() {
            self.plain = Vec::new();
        }
        bytes
    }

    /// Decrypts received bytes, after those of records that were incomplete. Returns the number of
    /// plain bytes in `into`.
    fn receive(&mut self, bytes: &mut [u8], into: &mut [u8]) -> Result<usize, String> {
        let mut plain = Plain {
            into,
            filled: 0,
            rest: &mut self.plain,
        };
        let (tls, unsent, is_over) = (&mut self.tls, &mut self.unsent, &mut self.is_over);
        if self.received.is_empty() {
            let done = process(tls, bytes, &mut plain, unsent, is_over)?;
            self.received.extend_from_slice(&bytes[done..]);
        } else {
            if self.received.len() + bytes.len() > TLS_UNREAD_BYTES_MAX {
                return Err("a message of the handshake is too long".to_owned());
            }
            self.received.extend_from_slice(bytes);
            let done = process(tls, &mut self.received, &mut plain, unsent, is_over)?;
            self.received.drain(..done);
            if self.received.is_empty() {
                self.received = Vec::new();
            }
        }
        Ok(plain.filled)
    }

    /// Encrypts some of `plain`. Returns its length.
    pub(super) fn take(&mut self, plain: &[u8]) -> usize {
        let some = &plain[..plain.len().min(self.unsent.room())];
        if some.is_empty() {
            return 0;
        }
        let is_taken = self.write(some.len() + ENCRYPTION_BYTES, |traffic, out| {
            traffic.encrypt(some, out)
        });
        if is_taken { some.len() } else { 0 }
    }

    /// Appends what `write` writes into `most` bytes, once the handshake is over. Returns whether
    /// it wrote.
    fn write(
        &mut self,
        most: usize,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> bool {
        while !self.has_failed {
            let status = self.tls.process_tls_records(&mut self.received);
            debug_assert_eq!(status.discard, 0, "everything complete has been processed");
            match status.state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return self.unsent.append(most, |out| {
                        write(&mut traffic, out).map_err(|error| match error {
                            EncryptError::InsufficientSize(needed) => Some(needed.required_size),
                            EncryptError::EncryptExhausted => None,
                        })
                    });
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.unsent),
                Ok(ConnectionState::PeerClosed) => self.is_over = true,
                Ok(_) => return false,
                Err(_) => self.has_failed = true,
            }
        }
        false
    }

    /// Sends encrypted bytes.
    pub(super) fn send(&mut self, stream: &mut impl Write, sent: &mut u64) -> Flushed {
        self.unsent.send(stream, sent)
    }

    /// Returns whether encrypted bytes are unsent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends close_notify, if it can be sent at once.
    pub(super) fn end(&mut self, stream: &mut impl Write) {
        self.write(ENCRYPTION_BYTES, |traffic, out| {
            traffic.queue_close_notify(out)
        });
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

/// Lets `tls` process `bytes` as far as they are complete. Returns the number of bytes that are not
/// needed any more. After an error `unsent` has the alert with the reason.
fn process(
    tls: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    plain: &mut Plain<'_>,
    unsent: &mut Unsent,
    is_over: &mut bool,
) -> Result<usize, String> {
    let mut done = 0;
    loop {
        let status = tls.process_tls_records(&mut bytes[done..]);
        done += status.discard;
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    plain.append(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, unsent),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => *is_over = true,
            Ok(_) => return Ok(done),
            Err(error) => {
                take_alert(tls, unsent);
                return Err(error_in_words(&error));
            }
        }
    }
}

/// Appends the alert of an error. No received bytes are processed any more.
fn take_alert(tls: &mut UnbufferedServerConnection, unsent: &mut Unsent) {
    while tls.wants_write() {
        match tls.process_tls_records(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, unsent),
            _ => return,
        }
    }
}

/// Appends bytes of the handshake, or an alert.
fn encode(
    data: &mut rustls::unbuffered::EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    unsent: &mut Unsent,
) {
    unsent.append(0, |out| {
        data.encode(out).map_err(|error| match error {
            EncodeError::InsufficientSize(needed) => Some(needed.required_size),
            EncodeError::AlreadyEncoded => None,
        })
    });
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

    /// Sends `bytes` in random pieces until the channel ends or waits. Returns whether it failed.
    fn send_in_pieces(channel: &mut Channel, bytes: &[u8], random: &mut fastrand::Rng) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..=rest.len()));
            rest = behind;
            let mut socket = Socket::default();
            socket.incoming.get_mut().extend(piece);
            for _ in 0..64 {
                let mut budget = ReadBudget::among(1);
                match channel.read(&mut socket, &mut [0; 100], &mut budget, &mut 8) {
                    Got::Failed(_) | Got::End(_) => return true,
                    Got::Nothing => break,
                    Got::Bytes(_) | Got::Later => {}
                }
            }
        }
        false
    }

    #[test]
    fn damaged_records_fail_without_a_panic() {
        let mut failures = 0;
        for seed in 0..150 {
            let mut random = fastrand::Rng::with_seed(seed);
            let version = [&rustls::version::TLS12, &rustls::version::TLS13][seed as usize % 2];
            let (mut client, mut channel) = both(version);
            // Damage comes in the hello, in the second flight, or in records of data.
            match seed / 2 % 3 {
                0 => {}
                1 => {
                    say(&mut client, &mut channel);
                }
                _ => shake_hands(&mut client, &mut channel),
            }
            let mut bytes = Vec::new();
            if !client.is_handshaking() {
                client.writer().write_all(&[7; 300]).unwrap();
                client.send_close_notify();
            }
            client.write_tls(&mut bytes).unwrap();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.insert(at, random.u8(..)),
                    _ => {
                        bytes.remove(at);
                    }
                }
            }
            let failed = send_in_pieces(&mut channel, &bytes, &mut random);
            failures += usize::from(failed);
            // What a server does with a connection that has failed, or not.
            let mut socket = Socket::default();
            channel.take(b"reply");
            channel.read(&mut socket, &mut [0; 9], &mut ReadBudget::among(1), &mut 8);
            channel.end(&mut socket);
        }
        assert!(failures > 25, "{failures} failed");
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
