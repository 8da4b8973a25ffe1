//! TLS on the connections of hosts: between the socket and the bytes, and nowhere else.
//!
//! ```text
//!   socket ──▶ Channel::read ──▶ plain bytes, as if they had been read
//!      ▲          │ certificate: the host's name
//!      └── Channel::send ◀── plain bytes, as if they were being sent
//! ```
//!
//! Channels stand in a table beside the connections, so that one without TLS costs nothing. Steps of
//! handshakes have a budget per turn, since one costs as much as a thousand heartbeats. Each connection has a
//! budget per turn of encrypted bytes and of records, whatever the records hold.

mod channel;
mod records;

use std::sync::Arc;

use mio::net::TcpStream;

use self::channel::Channel;
use super::connection::{Flushed, Got};
use super::share::Share;
use crate::ids::ConnId;
use crate::limits::TLS_HANDSHAKES_PER_TURN_MAX;

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The certificate, the versions, and who must show what.
    pub config: Arc<rustls::ServerConfig>,
    /// Whether clients must show a certificate: it names the host.
    pub names_hosts: bool,
}

/// All channels.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    /// By the connections' slots.
    channels: Vec<Option<Box<Channel>>>,
    /// Steps of handshakes that are left in this turn.
    steps: usize,
}

impl Tls {
    /// No channels yet.
    #[must_use]
    pub fn new(settings: TlsSettings) -> Self {
        Self {
            settings,
            channels: Vec::new(),
            steps: TLS_HANDSHAKES_PER_TURN_MAX,
        }
    }

    /// Takes new settings: for the connections that come from now on.
    pub fn set(&mut self, settings: TlsSettings) {
        self.settings = settings;
    }

    /// A turn begins.
    pub fn begin(&mut self) {
        self.steps = TLS_HANDSHAKES_PER_TURN_MAX;
    }

    /// A channel for a new connection. False if there can be none.
    pub fn open(&mut self, conn: ConnId) -> bool {
        let channel = Channel::new(&self.settings);
        let slot = conn.slot as usize;
        if self.channels.len() <= slot {
            self.channels.resize_with(slot + 1, || None);
        }
        self.channels[slot] = channel.map(Box::new);
        self.channels[slot].is_some()
    }

    /// Forgets the channel of a connection that is gone.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some(channel) = self.channels.get_mut(conn.slot as usize) {
            *channel = None;
        }
    }

    /// Reads plain bytes, within the `budget` of the connection.
    pub fn read(
        &mut self,
        conn: ConnId,
        stream: &mut TcpStream,
        into: &mut [u8],
        budget: &mut Share,
    ) -> Got {
        match self.channels.get_mut(conn.slot as usize) {
            Some(Some(channel)) => channel.read(stream, into, budget, &mut self.steps),
            _ => Got::Nothing,
        }
    }

    /// Takes some of `plain` on its way: how much.
    pub fn take(&mut self, conn: ConnId, plain: &[u8]) -> usize {
        match self.channels.get_mut(conn.slot as usize) {
            Some(Some(channel)) => channel.take(plain),
            _ => 0,
        }
    }

    /// Sends what is on its way; `sent` counts the bytes.
    pub fn send(&mut self, conn: ConnId, stream: &mut TcpStream, sent: &mut u64) -> Flushed {
        match self.channels.get_mut(conn.slot as usize) {
            Some(Some(channel)) => channel.send(stream, sent),
            _ => Flushed::All,
        }
    }

    /// Whether something is on its way.
    #[must_use]
    pub fn has_unsent(&self, conn: ConnId) -> bool {
        match self.channels.get(conn.slot as usize) {
            Some(Some(channel)) => channel.has_unsent(),
            _ => false,
        }
    }

    /// Says goodbye.
    pub fn end(&mut self, conn: ConnId, stream: &mut TcpStream) {
        if let Some(Some(channel)) = self.channels.get_mut(conn.slot as usize) {
            channel.end(stream);
        }
    }

    /// The name in the certificate of the peer, once, as soon as it is known. An error if it has none.
    pub fn name(&mut self, conn: ConnId) -> Option<Result<String, String>> {
        match self.channels.get_mut(conn.slot as usize) {
            Some(Some(channel)) => channel.name(),
            _ => None,
        }
    }
}
