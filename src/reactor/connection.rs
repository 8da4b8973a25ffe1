//! Connection of one host: 16 bytes in a release build, since a hundred thousand may be idle.

use std::io::{self, ErrorKind};

use mio::net::TcpStream;
use mio::{Interest, Registry};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::buffer::{Buffer, Pool};
use super::tls::Tls;
use super::token;
use crate::codec::Order;
use crate::handlers::End;
use crate::ids::ConnId;
use crate::limits::{BUFFER_KEPT_BYTES_MAX, UNREAD_REPLY_BYTES_MAX};

/// Properties of a connection, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// The core has no room for its report; it is not read meanwhile.
    pub const BACKPRESSURE: Self = Self(1);
    /// The peer does not read its replies; it is not read meanwhile.
    pub const UNREAD: Self = Self(1 << 1);
    /// The kernel has reported the end of the stream: a short read does not mean that all has been
    /// read.
    pub const ENDING: Self = Self(1 << 2);
    /// Writing to it has failed: its end is a reset, however reading ends.
    pub const BROKEN: Self = Self(1 << 3);
    /// Something has been sent to it.
    pub const SENT_TO: Self = Self(1 << 4);
    /// The kernel reports when it can be written to.
    pub const WRITABLE_ASKED: Self = Self(1 << 5);
    /// It is in a queue of connections to be read.
    pub const QUEUED: Self = Self(1 << 6);
    /// It is on the list of connections with unsent bytes.
    pub const DIRTY: Self = Self(1 << 7);
    /// A challenge is outstanding: only short frames are taken.
    pub const CHALLENGED: Self = Self(1 << 8);
    /// Its frames have tags, and there is a guard for it.
    pub const GUARDED: Self = Self(1 << 9);
    /// It must not be read now, or is in a queue for that.
    pub const UNREADABLE: Self = Self(Self::BACKPRESSURE.0 | Self::UNREAD.0 | Self::QUEUED.0);
    /// It has not sent a complete message yet.
    pub const SILENT: Self = Self(1 << 10);
    /// The peer has sent no message, or not its proof.
    pub const UNPROVEN: Self = Self(Self::SILENT.0 | Self::CHALLENGED.0);
    /// It is read after known connections: unproven and ending ones.
    pub const LOW_PRIORITY: Self = Self(Self::UNPROVEN.0 | Self::ENDING.0);

    /// Returns whether any bit of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Sets `other`. Returns whether a bit of it was set before.
    pub const fn set(&mut self, other: Self) -> bool {
        let before = self.has(other);
        self.0 |= other.0;
        before
    }

    /// Clears `other`. Returns whether a bit of it was set before.
    pub const fn clear(&mut self, other: Self) -> bool {
        let before = self.has(other);
        self.0 &= !other.0;
        before
    }
}

/// Result of a read.
#[cfg_attr(
    not(feature = "tls"),
    allow(dead_code, reason = "TLS returns the rest")
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A number of bytes.
    Bytes(usize),
    Nothing,
    /// There are bytes, but the budget of this turn is used up.
    Later,
    End(End),
    /// The bytes violate the protocol, with the reason.
    Failed(String),
}

/// Result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    All,
    /// The peer takes no more now.
    Blocked,
    /// The connection is broken; nothing more is to be sent.
    Broken,
}

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The byte order of its frames, once known.
    pub order: Order,
    pub flags: Flags,
    buffer: Option<Box<Buffer>>,
}

impl Connection {
    /// Creates a connection that has sent nothing.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            order: Order::default(),
            flags: Flags::SILENT,
            buffer: None,
        }
    }

    /// Registers the socket for readability.
    pub fn register(&mut self, conn: ConnId, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.stream, token::host(conn), Interest::READABLE)
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Returns whether the connection must not be read now.
    pub fn is_paused(&self) -> bool {
        self.flags.has(Flags::BACKPRESSURE) || self.flags.has(Flags::UNREAD)
    }

    /// Reads once into `into`.
    pub fn read(&mut self, into: &mut [u8]) -> Got {
        loop {
            // Not through the C library, whose cancellable calls cost more.
            return match recv(&self.stream, &mut *into, RecvFlags::empty()) {
                Ok((_, 0)) if self.flags.has(Flags::BROKEN) => Got::End(End::Reset),
                Ok((_, 0)) => Got::End(End::Closed),
                Ok((_, bytes)) => Got::Bytes(bytes),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Got::Nothing,
                Err(error) => Got::End(end_of(&error.into())),
            };
        }
    }

    /// Takes the bytes of earlier reads, and the number of bytes that their first frame needs. To
    /// be returned with [`keep_input`](Self::keep_input).
    pub fn take_input(&mut self) -> (Vec<u8>, usize) {
        match &mut self.buffer {
            Some(buffer) => (std::mem::take(&mut buffer.input), buffer.need),
            None => (Vec::new(), 0),
        }
    }

    /// Takes empty memory for bytes to keep.
    pub fn lend_input(&mut self, pool: &mut Pool) -> Vec<u8> {
        let buffer = self.buffer.get_or_insert_with(|| pool.lend());
        std::mem::take(&mut buffer.input)
    }

    /// Keeps `input`, whose first frame needs `need` bytes. Empty memory goes back to the pool.
    pub fn keep_input(&mut self, mut input: Vec<u8>, need: usize, pool: &mut Pool) {
        if input.is_empty() && input.capacity() > BUFFER_KEPT_BYTES_MAX {
            input = Vec::new();
        }
        if input.capacity() > 0 || self.buffer.is_some() {
            let buffer = self.buffer.get_or_insert_with(|| pool.lend());
            buffer.input = input;
            buffer.need = need;
            self.return_empty(pool);
        }
    }

    /// Number of following raw bytes.
    pub fn raw(&self) -> u64 {
        self.buffer.as_ref().map_or(0, |buffer| buffer.raw)
    }

    /// Sets the number of raw bytes that follow.
    pub fn set_raw(&mut self, bytes: u64, pool: &mut Pool) {
        if bytes > 0 || self.buffer.is_some() {
            self.buffer.get_or_insert_with(|| pool.lend()).raw = bytes;
            self.return_empty(pool);
        }
    }

    /// Buffer to which replies are appended.
    pub fn out(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        self.buffer.get_or_insert_with(|| pool.lend()).out()
    }

    /// Bytes still to be sent.
    pub fn unsent(&self) -> usize {
        self.buffer.as_ref().map_or(0, |b| b.unsent().len())
    }

    /// Returns whether so much is unsent that the connection must not be read.
    pub fn is_unread(&self) -> bool {
        self.unsent() > UNREAD_REPLY_BYTES_MAX
    }

    /// Returns whether so much has been sent that reading may go on.
    pub fn is_drained(&self) -> bool {
        self.unsent() < UNREAD_REPLY_BYTES_MAX / 2
    }

    /// Sends what can be sent; `sent` counts the bytes.
    pub fn flush(&mut self, pool: &mut Pool, sent: &mut u64) -> Flushed {
        let Some(buffer) = &mut self.buffer else {
            return Flushed::All;
        };
        let flushed = loop {
            if buffer.unsent().is_empty() {
                break Flushed::All;
            }
            match send(&self.stream, buffer.unsent(), SendFlags::NOSIGNAL) {
                Ok(0) => break Flushed::Broken,
                Ok(bytes) => {
                    buffer.advance(bytes);
                    self.flags.set(Flags::SENT_TO);
                    *sent += bytes as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break Flushed::Blocked,
                Err(_) => break Flushed::Broken,
            }
        };
        if flushed == Flushed::Broken {
            buffer.drop_unsent();
            self.flags.set(Flags::BROKEN);
        }
        self.return_empty(pool);
        flushed
    }

    /// The same through TLS.
    pub fn flush_through(
        &mut self,
        tls: &mut Tls,
        conn: ConnId,
        pool: &mut Pool,
        sent: &mut u64,
    ) -> Flushed {
        let before = *sent;
        let flushed = loop {
            let taken = match &mut self.buffer {
                Some(buffer) => {
                    let taken = tls.take(conn, buffer.unsent());
                    buffer.advance(taken);
                    taken
                }
                None => 0,
            };
            match tls.send(conn, &mut self.stream, sent) {
                Flushed::All if taken > 0 => {}
                flushed => break flushed,
            }
        };
        if *sent > before {
            self.flags.set(Flags::SENT_TO);
        }
        if flushed == Flushed::Broken {
            self.buffer.iter_mut().for_each(|b| b.drop_unsent());
            self.flags.set(Flags::BROKEN);
        }
        self.return_empty(pool);
        flushed
    }

    /// Registers the socket for writability, from now on.
    ///
    /// Few hosts ever make a write block, so no other pays for it: both interests from the start
    /// would cause one useless event per accept. A socket that did block keeps both interests,
    /// since writability without a blocked write raises no event of its own.
    pub fn ask_writable(&mut self, conn: ConnId, registry: &Registry) -> io::Result<()> {
        if self.flags.set(Flags::WRITABLE_ASKED) {
            return Ok(());
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(&mut self.stream, token::host(conn), both)
    }

    /// Returns whether it has a buffer.
    #[cfg(test)]
    pub fn has_buffer(&self) -> bool {
        self.buffer.is_some()
    }

    /// Its socket and its buffer, as it is taken apart at its end.
    pub fn into_parts(self) -> (TcpStream, Option<Box<Buffer>>) {
        (self.stream, self.buffer)
    }

    /// Returns an empty buffer to the pool.
    fn return_empty(&mut self, pool: &mut Pool) {
        if let Some(buffer) = self.buffer.take_if(|buffer| buffer.is_empty()) {
            pool.give(buffer);
        }
    }
}

/// Converts a socket error to the end that it means for the peer.
pub(super) fn end_of(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            End::Dead
        }
        _ => End::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_errors_are_distinguished() {
        for (errno, end) in [
            (libc::ETIMEDOUT, End::Dead),
            (libc::EHOSTUNREACH, End::Dead),
            (libc::ENETUNREACH, End::Dead),
            (libc::ECONNRESET, End::Reset),
            (libc::EPIPE, End::Reset),
            (libc::EIO, End::Reset),
        ] {
            assert_eq!(end_of(&io::Error::from_raw_os_error(errno)), end);
        }
    }

    #[test]
    fn flags_are_independent() {
        let mut flags = Flags::default();
        assert!(!flags.set(Flags::BACKPRESSURE));
        assert!(!flags.set(Flags::DIRTY));
        assert!(flags.set(Flags::DIRTY));
        assert!(flags.clear(Flags::BACKPRESSURE));
        assert!(flags.has(Flags::DIRTY) && !flags.has(Flags::BACKPRESSURE));
    }

    #[cfg(not(debug_assertions))]
    #[test]
    fn a_connection_is_small() {
        assert_eq!(std::mem::size_of::<Connection>(), 16);
    }
}
