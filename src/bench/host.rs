//! One host: its connection and its outstanding replies.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::fleet::Keyed;
use super::secure::Channel;
use crate::codec::Order;
use crate::limits::BENCH_UNSENT_BYTES_MAX;
use crate::time::Instant;

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The connection attempt is in progress.
    Connecting,
    /// The TLS handshake is in progress.
    Securing,
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
    /// TLS, if the hosts use it.
    pub(super) channel: Option<Box<Channel>>,
    /// Handshake and tags, if the host has a key.
    pub(super) keyed: Option<Box<Keyed>>,
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
            channel: None,
            keyed: None,
            unsent: Vec::new(),
        }
    }

    /// Returns whether the socket has taken all bytes.
    pub(super) fn is_flushed(&self) -> bool {
        let encrypted = self.channel.as_ref();
        self.unsent.is_empty() && !encrypted.is_some_and(|channel| channel.has_unsent())
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
        let taken = self.write(bytes)?;
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(true)
    }

    /// Sends waiting bytes until the socket takes no more.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(channel) = &mut self.channel {
            channel.flush(&mut self.stream)?;
        }
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let taken = self.write(&unsent)?;
        self.unsent.extend_from_slice(&unsent[taken..]);
        Ok(())
    }

    /// Writes once; returns the number of bytes taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.channel {
            Some(channel) => channel.write(&mut self.stream, bytes),
            None => write(&mut self.stream, bytes),
        }
    }

    /// Reads once.
    ///
    /// # Errors
    /// When the connection is broken, or nothing has come.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.channel {
            Some(channel) => channel.read(&mut self.stream, into),
            None => self.stream.read(into),
        }
    }

    /// Continues the TLS handshake, if there is one. Returns whether messages may be sent.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn secure(&mut self) -> io::Result<bool> {
        match &mut self.channel {
            Some(channel) => channel.handshake(&mut self.stream),
            None => Ok(true),
        }
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
