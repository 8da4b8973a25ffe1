//! Connections that the server has closed, but their peers have not.
//!
//! A socket closed with unread bytes makes the kernel send a reset, and a reset destroys the reply
//! that was just sent, usually a refusal. So the sending side is shut down, and incoming bytes are
//! read and dropped until the peer closes too, for a second at most.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry};

use super::token;
use crate::limits::{LINGER_MS, LINGERING_MAX, READ_BYTES_PER_TURN_MAX};
use crate::time::{Instant, Span};

#[derive(Debug)]
struct Closed {
    stream: TcpStream,
    until: Instant,
}

/// A ring of fixed size: a new one takes the place of the oldest.
#[derive(Debug)]
pub struct Closing {
    ring: [Option<Closed>; LINGERING_MAX],
    next: usize,
    /// There may be closing connections.
    any: bool,
}

impl Default for Closing {
    fn default() -> Self {
        Self {
            ring: std::array::from_fn(|_| None),
            next: 0,
            any: false,
        }
    }
}

impl Closing {
    /// Shuts down the sending side of `stream` and keeps it open. If that fails, it is closed.
    pub fn keep(&mut self, mut stream: TcpStream, now: Instant, registry: &Registry) {
        let token = token::closing(self.next);
        let kept = stream.shutdown(Shutdown::Write).is_ok()
            && registry
                .reregister(&mut stream, token, Interest::READABLE)
                .is_ok();
        if kept {
            let until = now + Span::from_millis(LINGER_MS);
            self.ring[self.next] = Some(Closed { stream, until });
            self.any = true;
            self.next = (self.next + 1) % LINGERING_MAX;
        }
    }

    /// Drops what has arrived on the connection at `place`. Closes it at its end, at an error, or
    /// when too much arrives.
    pub fn ready(&mut self, place: usize, scratch: &mut [u8]) {
        let Some(slot) = self.ring.get_mut(place) else {
            return;
        };
        let mut budget = READ_BYTES_PER_TURN_MAX;
        while let Some(lingerer) = slot {
            match lingerer.stream.read(scratch) {
                Ok(bytes) if bytes > 0 && bytes < budget => budget -= bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => *slot = None,
            }
        }
    }

    /// Closes connections whose time is over. Returns the time of the next.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        if !self.any {
            return None;
        }
        for slot in &mut self.ring {
            slot.take_if(|lingerer| lingerer.until <= now);
        }
        let next = self.ring.iter().flatten().map(|l| l.until).min();
        self.any = next.is_some();
        next
    }
}
