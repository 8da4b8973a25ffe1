//! One host: its connection and its outstanding replies.

use std::collections::VecDeque;
use std::io::{self, Write};

use mio::net::TcpStream;

use crate::codec::Order;
use crate::limits::BENCH_UNSENT_BYTES_MAX;
use crate::time::Instant;

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The connection attempt is in progress.
    Connecting,
    /// The hello is sent and not yet answered.
    Greeting,
    /// Heartbeats may be sent.
    Live,
}

/// One simulated host.
#[derive(Debug)]
pub struct Host {
    pub(super) stream: TcpStream,
    pub(super) state: State,
    /// Due time of its connection.
    pub(super) due: Instant,
    /// Start of its connection.
    pub(super) opened: Instant,
    /// Byte order of its replies.
    pub(super) order: Order,
    /// Beginning of an incomplete frame.
    pub(super) partial: Vec<u8>,
    /// Due times of the heartbeats that wait for a reply, in the order of their replies.
    pub(super) waiting: VecDeque<Instant>,
    /// Bytes that the socket has not taken.
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

    /// Returns whether the socket has taken all bytes.
    pub(super) const fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends `bytes`, whole frames, behind waiting bytes. Returns false, and sends nothing, if too
    /// much waits already.
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

    /// Sends waiting bytes until the socket takes no more.
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

/// Writes once; returns the number of bytes taken.
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
