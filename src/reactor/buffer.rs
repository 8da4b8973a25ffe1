//! The bytes a connection keeps: the beginning of a frame whose rest has not come, and replies
//! its peer has not taken; and how many raw bytes it still owes. Most connections have none of
//! these, and then no buffer at all.
//!
//! ```text
//!   input   [ half a frame …           ]      out   [ sent | still to be sent      ]
//!           needs `need` bytes in all                     ▲ sent
//! ```

use crate::limits::{BUFFER_KEPT_BYTES_MAX, BUFFERS_KEPT_MAX};

/// The buffers of one connection. Knows no socket.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Received bytes that are not handled yet.
    pub input: Vec<u8>,
    /// Nothing can be said of `input` before it has so many bytes.
    pub need: usize,
    /// The next so many bytes are raw: they belong to the frame before them.
    pub raw: u64,
    out: Vec<u8>,
    sent: usize,
}

impl Buffer {
    /// Buffer to which replies are appended.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes still to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// The first `bytes` of what was to be sent have been sent.
    ///
    /// # Panics
    /// When there were not so many: then the socket has lied.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.out.len() - self.sent, "sent what was there");
        self.sent += bytes;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent >= self.out.len() / 2 {
            // A peer that is always a little behind must not make this grow for ever.
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Gives up what could not be sent.
    pub fn drop_unsent(&mut self) {
        self.out.clear();
        self.sent = 0;
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty() && self.out.is_empty() && self.raw == 0
    }

    /// Makes it as good as new. Large memory goes back to the system.
    fn reset(&mut self) {
        self.need = 0;
        self.raw = 0;
        for bytes in [&mut self.input, &mut self.out] {
            if bytes.capacity() > BUFFER_KEPT_BYTES_MAX {
                *bytes = Vec::new();
            }
        }
    }
}

/// Lends buffers, and keeps some that come back, so that a host whose heartbeats come in two
/// pieces, or want a reply, costs no allocation each.
#[derive(Debug, Default)]
pub struct Pool {
    // Boxed in the pool as in the connections, so that lending moves one pointer and allocates
    // nothing.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Buffer>>,
    lent: u64,
}

impl Pool {
    pub fn lend(&mut self) -> Box<Buffer> {
        self.lent += 1;
        self.free.pop().unwrap_or_default()
    }

    /// Number of buffers lent so far.
    pub fn lent(&self) -> u64 {
        self.lent
    }

    /// Gives back the memory of all that are kept.
    pub fn empty(&mut self) {
        self.free = Vec::new();
    }

    /// Takes back a buffer that is empty.
    pub fn give(&mut self, mut buffer: Box<Buffer>) {
        debug_assert!(buffer.is_empty(), "only an empty buffer comes back");
        if self.free.len() < BUFFERS_KEPT_MAX {
            buffer.reset();
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_sends_keep_the_order() {
        let mut buffer = Buffer::default();
        buffer.out().extend_from_slice(b"abcdefghij");
        buffer.advance(3);
        assert_eq!(buffer.unsent(), b"defghij");
        buffer.out().extend_from_slice(b"kl");
        buffer.advance(6);
        assert_eq!(buffer.unsent(), b"jkl");
        buffer.advance(3);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_lagging_peer_does_not_grow_the_buffer() {
        let mut buffer = Buffer::default();
        buffer.out().extend_from_slice(&[0; 64]);
        for _ in 0..10_000 {
            buffer.out().extend_from_slice(&[0; 64]);
            buffer.advance(64);
        }
        assert_eq!(buffer.unsent().len(), 64);
        assert!(buffer.out.capacity() < 1_024);
    }

    #[test]
    fn the_pool_keeps_small_buffers_only() {
        let mut pool = Pool::default();
        let mut buffer = pool.lend();
        buffer.input.reserve(BUFFER_KEPT_BYTES_MAX + 1);
        buffer.out().reserve(100);
        pool.give(buffer);
        let buffer = pool.lend();
        assert_eq!(buffer.input.capacity(), 0);
        assert!(buffer.out.capacity() >= 100);
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut pool = Pool::default();
        for _ in 0..=BUFFERS_KEPT_MAX {
            pool.give(Box::default());
        }
        assert_eq!(pool.free.len(), BUFFERS_KEPT_MAX);
    }
}
