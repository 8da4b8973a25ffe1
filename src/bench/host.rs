//! One host: its connection, and what it is waiting for.

use std::collections::VecDeque;
use std::io::{self, Write};

use mio::net::TcpStream;

use crate::codec::Order;
use crate::limits::BENCH_UNSENT_BYTES_MAX;
use crate::time::Instant;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Begun.
    Connecting,
    /// It has said who it is and is not yet welcome.
    Greeting,
    /// It may beat.
    Live,
}

/// See the [room](self).
#[derive(Debug)]
pub struct Host {
    pub(super) stream: TcpStream,
    pub(super) state: State,
    /// When its connection should have begun.
    pub(super) due: Instant,
    /// When it began.
    pub(super) opened: Instant,
    /// Its replies are read in this order.
    pub(super) order: Order,
    /// The beginning of a frame whose end has not come.
    pub(super) partial: Vec<u8>,
    /// When the heartbeats were due that wait for a reply, in the order of their replies.
    pub(super) waiting: VecDeque<Instant>,
    /// What the socket would not take.
    unsent: Vec<u8>,
}

impl Host {
    pub(super) const fn new(stream: TcpStream, due: Instant, opened: Instant) -> Self {
        Self {
            stream,
            state: State::Connecting,
            due,
            opened,
            order: Order::Unknown,
            partial: Vec::new(),
            waiting: VecDeque::new(),
            unsent: Vec::new(),
        }
    }

    /// Whether the socket has taken all there was.
    pub(super) const fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends `bytes`, whole frames, behind what waits. False if too much waits already: nothing is sent.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            if self.unsent.len() + bytes.len() > BENCH_UNSENT_BYTES_MAX {
                return Ok(false);
            }
            self.unsent.extend_from_slice(bytes);
            return Ok(true);
        }
        let taken = write(&mut self.stream, bytes)?;
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(true)
    }

    /// Sends what waits, as far as it is taken.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let taken = write(&mut self.stream, &self.unsent)?;
        self.unsent.drain(..taken);
        Ok(())
    }
}

/// How many of the bytes the socket takes now.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}
