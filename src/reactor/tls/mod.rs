//! TLS between the sockets of hosts and their plain bytes.
//!
//! ```text
//!   socket ──▶ Channel::read ──▶ plain bytes, as if they had been read
//!      ▲          │ certificate: the host's name
//!      └── Channel::send ◀── plain bytes, as if they were being sent
//! ```
//!
//! Channels are in a table beside the connections, so that a plain connection costs nothing. Steps
//! of handshakes have a budget per turn, since one costs as much as a thousand heartbeats. Each
//! connection has a budget per turn of encrypted bytes and of records, whether or not the records
//! hold data.

mod channel;
mod records;

use std::collections::BTreeSet;
use std::sync::Arc;

use mio::net::TcpStream;

use self::channel::Channel;
use super::connection::{Flushed, Got};
use super::read_budget::ReadBudget;
use crate::certificates::{self, Clients};
use crate::ids::ConnId;
use crate::limits::{
    TLS_CHECKS_PER_TURN_MAX, TLS_HANDSHAKE_SPARED_BYTES, TLS_HANDSHAKES_BYTES_MAX,
    TLS_HANDSHAKES_PER_TURN_MAX, TLS_SLOTS_PER_TURN_MAX,
};
use crate::time::UnixMs;

/// Reason of a refused handshake that is valid in itself.
const TOO_MANY: &str = "too many handshakes are in progress to continue one of this size";

#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Certificate, versions and client verification.
    pub config: Arc<rustls::ServerConfig>,
    /// Accepted clients, if a certificate is required: it names the host.
    pub clients: Option<Clients>,
}

/// TLS of a connection outside of the table, such as one of HTTP.
#[derive(Debug)]
pub struct Session(Channel);

impl Session {
    /// Creates a session before its handshake.
    pub fn new(settings: &TlsSettings) -> Option<Self> {
        let conn = ConnId {
            slot: 0,
            generation: 0,
        };
        Channel::new(settings, conn, 0).map(Self)
    }

    /// Reads plain bytes, within a turn's budget of encrypted bytes and records. `steps` counts the
    /// steps of a handshake that are left.
    pub fn read(&mut self, stream: &mut TcpStream, into: &mut [u8], steps: &mut usize) -> Got {
        let mut budget = ReadBudget::among(1);
        self.0.read(stream, into, &mut budget, steps)
    }

    /// Encrypts some of `plain`. Returns its length.
    pub fn take(&mut self, plain: &[u8]) -> usize {
        self.0.take(plain)
    }

    /// Sends encrypted bytes.
    pub fn send(&mut self, stream: &mut TcpStream) -> Flushed {
        self.0.send(stream, &mut 0)
    }

    /// Sends close_notify, if it can be sent at once.
    pub fn end(&mut self, stream: &mut TcpStream) {
        self.0.end(stream);
    }
}

#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    /// By the connections' slots.
    channels: Vec<Option<Box<Channel>>>,
    /// Steps of handshakes that are left in this turn.
    steps: usize,
    /// Bytes of all handshakes in progress.
    handshake_bytes: usize,
    /// Number of changes of the authorities. A certificate accepted in an earlier era must be
    /// checked again.
    era: u32,
    /// Next slot of the check of all connections after a change.
    walk: Option<usize>,
    /// Times of the next certificate checks, with their connections.
    expiries: BTreeSet<(UnixMs, ConnId)>,
}

impl Tls {
    pub fn new(settings: TlsSettings) -> Self {
        Self {
            settings,
            channels: Vec::new(),
            steps: TLS_HANDSHAKES_PER_TURN_MAX,
            handshake_bytes: 0,
            era: 0,
            walk: None,
            expiries: BTreeSet::new(),
        }
    }

    /// Sets the settings of later connections. If the accepted clients change,
    /// [`check`](Self::check) checks the connected ones again.
    pub fn set(&mut self, settings: TlsSettings) {
        let same = match (&self.settings.clients, &settings.clients) {
            (None, None) => true,
            (Some(before), Some(after)) => before.is_same(after),
            _ => false,
        };
        if !same {
            self.era = self.era.wrapping_add(1);
            self.walk = Some(0);
        }
        self.settings = settings;
    }

    pub fn begin(&mut self) {
        self.steps = TLS_HANDSHAKES_PER_TURN_MAX;
    }

    /// Creates a channel for a new connection. Returns false if that fails.
    pub fn open(&mut self, conn: ConnId) -> bool {
        let channel = Channel::new(&self.settings, conn, self.era);
        let slot = conn.slot as usize;
        if self.channels.len() <= slot {
            self.channels.resize_with(slot + 1, || None);
        }
        self.channels[slot] = channel.map(Box::new);
        self.channels[slot].is_some()
    }

    /// Forgets the channel of a closed connection.
    pub fn forget(&mut self, conn: ConnId) {
        if let Some(channel) = self.channels.get_mut(conn.slot as usize)
            && let Some(channel) = channel.take()
        {
            self.handshake_bytes -= channel.handshake_bytes();
            if let Some(expires) = channel.expires {
                self.expiries.remove(&(expires, conn));
            }
        }
    }

    /// Reads plain bytes, within the `budget` of the connection.
    pub fn read(
        &mut self,
        conn: ConnId,
        stream: &mut TcpStream,
        into: &mut [u8],
        budget: &mut ReadBudget,
    ) -> Got {
        match self.channels.get_mut(conn.slot as usize) {
            Some(Some(channel)) => {
                self.handshake_bytes -= channel.handshake_bytes();
                let got = channel.read(stream, into, budget, &mut self.steps);
                let own = channel.handshake_bytes();
                self.handshake_bytes += own;
                let refused = self.handshake_bytes > TLS_HANDSHAKES_BYTES_MAX
                    && own > TLS_HANDSHAKE_SPARED_BYTES;
                match (refused, got) {
                    (true, Got::Nothing | Got::Later) => Got::Failed(TOO_MANY.to_owned()),
                    (_, got) => got,
                }
            }
            _ => Got::Nothing,
        }
    }

    /// Encrypts some of `plain`. Returns its length.
    pub fn take(&mut self, conn: ConnId, plain: &[u8]) -> usize {
        match self.channels.get_mut(conn.slot as usize) {
            Some(Some(channel)) => channel.take(plain),
            _ => 0,
        }
    }

    /// Sends encrypted bytes; `sent` counts them.
    pub fn send(&mut self, conn: ConnId, stream: &mut TcpStream, sent: &mut u64) -> Flushed {
        match self.channels.get_mut(conn.slot as usize) {
            Some(Some(channel)) => channel.send(stream, sent),
            _ => Flushed::All,
        }
    }

    /// Returns whether encrypted bytes are unsent.
    pub fn has_unsent(&self, conn: ConnId) -> bool {
        match self.channels.get(conn.slot as usize) {
            Some(Some(channel)) => channel.has_unsent(),
            _ => false,
        }
    }

    /// Returns whether the peer has begun a handshake.
    pub fn has_handshake_begun(&self, conn: ConnId) -> bool {
        let channel = self.channels.get(conn.slot as usize);
        channel.is_some_and(|channel| {
            channel
                .as_ref()
                .is_some_and(|one| one.has_handshake_begun())
        })
    }

    pub fn end(&mut self, conn: ConnId, stream: &mut TcpStream) {
        if let Some(Some(channel)) = self.channels.get_mut(conn.slot as usize) {
            channel.end(stream);
        }
    }

    /// Returns the name in the peer's certificate, once, as soon as it is known. It is an error if
    /// the certificate is missing or no longer accepted.
    pub fn name(&mut self, conn: ConnId, wall: UnixMs) -> Option<Result<String, String>> {
        let channel = self.channels.get_mut(conn.slot as usize)?.as_mut()?;
        if !channel.take_handshake_end() {
            return None;
        }
        let clients = self.settings.clients.as_ref()?;
        // The handshake may have begun under other authorities.
        if channel.era != self.era
            && let Err(why) = clients.check(channel.shown(), wall)
        {
            return Some(Err(why));
        }
        channel.era = self.era;
        let shown = channel.shown().unwrap_or_default();
        let name = match shown {
            [own, ..] => certificates::name_of(own),
            [] => Err("no certificate was shown".to_owned()),
        };
        if name.is_ok() {
            channel.expires = certificates::expiry(shown, wall);
            self.expiries.extend(channel.expires.map(|at| (at, conn)));
        }
        Some(name)
    }

    /// Returns connections whose certificates have expired or are no longer accepted, with the
    /// reasons. It checks at most [`TLS_CHECKS_PER_TURN_MAX`]; [`check_due`](Self::check_due) is
    /// the time of the next check.
    pub fn check(&mut self, wall: UnixMs) -> Vec<(ConnId, String)> {
        let (mut over, mut left) = (Vec::new(), TLS_CHECKS_PER_TURN_MAX);
        while left > 0
            && let Some((at, conn)) = self.expiries.first().copied()
            && at <= wall
        {
            self.expiries.pop_first();
            left -= 1;
            over.extend(self.check_one(conn, wall).map(|why| (conn, why)));
        }
        let end = self.channels.len();
        let mut slot = self.walk.unwrap_or(end);
        let stop = slot + TLS_SLOTS_PER_TURN_MAX;
        while left > 0 && slot < end.min(stop) {
            let conn = self.channels[slot]
                .as_deref()
                .filter(|channel| channel.is_known() && channel.era != self.era);
            if let Some(conn) = conn.map(|channel| channel.conn) {
                left -= 1;
                over.extend(self.check_one(conn, wall).map(|why| (conn, why)));
            }
            slot += 1;
        }
        self.walk = (slot < end).then_some(slot);
        over
    }

    /// Checks one connection. Returns the reason to end it, if there is one.
    fn check_one(&mut self, conn: ConnId, wall: UnixMs) -> Option<String> {
        let channel = self.channels.get_mut(conn.slot as usize)?.as_mut()?;
        channel.era = self.era;
        let before = channel.expires.take();
        if let Some(before) = before {
            self.expiries.remove(&(before, conn));
        }
        match (&self.settings.clients, channel.shown()) {
            (None, None) => None,
            (None, Some(_)) => Some("client certificates are not accepted any more".to_owned()),
            (Some(clients), shown) => match clients.check(shown, wall) {
                Err(why) => Some(format!("its certificate is not accepted any more: {why}")),
                Ok(()) => {
                    channel.expires = certificates::expiry(shown.unwrap_or_default(), wall);
                    self.expiries.extend(channel.expires.map(|at| (at, conn)));
                    None
                }
            },
        }
    }

    /// Time of the next [`check`](Self::check), by the wall clock.
    pub fn check_due(&self) -> Option<UnixMs> {
        match self.walk {
            Some(_) => Some(UnixMs(0)),
            None => self.expiries.first().map(|(at, _)| *at),
        }
    }
}
