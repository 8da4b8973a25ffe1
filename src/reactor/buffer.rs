//! Bytes that a connection keeps: the beginning of an incomplete frame, unsent replies, and the
//! number of raw bytes that follow. Most connections have none of these, and then no buffer at all.
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
    /// Number of bytes that the first frame of `input` needs.
    pub need: usize,
    /// Number of raw bytes that follow the last frame.
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

    /// Removes the first `bytes` unsent bytes, which were sent.
    ///
    /// # Panics
    /// When fewer bytes were unsent.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.out.len() - self.sent, "sent what was there");
        self.sent += bytes;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent >= self.out.len() / 2 {
            // The buffer of a peer that always lags a little must not grow without bound.
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Drops unsent bytes.
    pub fn drop_unsent(&mut self) {
        self.out.clear();
        self.sent = 0;
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty() && self.out.is_empty() && self.raw == 0
    }

    /// Empties the buffer and frees large memory.
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

/// Pool of buffers, so that a heartbeat in two pieces, or one with a reply, allocates nothing.
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

    /// Frees the buffers of the pool.
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
