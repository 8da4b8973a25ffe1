//! Connections from load balancers that have not sent their PROXY header yet.
//!
//! ```text
//!   accepted ──▶ from a network of server.proxy_from ──▶ waiting ──▶ header ──▶ admission, as its client
//!       └──────▶ from elsewhere ──▶ admission                 └──▶ bad, late or ended: closed
//! ```
//!
//! The core, admission and TLS see a connection only after its header, with the address that the
//! header gives. No byte beyond the header is read here.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use slab::Slab;

use super::stats::ReactorStats;
use super::token;
use crate::codec::proxy::{ProxyError, ProxyPeer, ProxyStep, proxy_header};
use crate::keys::Network;
use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_WAITING_MAX};
use crate::time::{Instant, Span};

/// Least time between two lines about refused headers; all of them are counted.
const LOG_GAP: Span = Span::from_secs(1);

/// Networks of load balancers, and the time for a header.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyRules {
    pub from: Vec<Network>,
    pub wait: Span,
}

/// A connection without its whole header.
#[derive(Debug)]
struct Waiting {
    stream: TcpStream,
    balancer: SocketAddr,
    generation: u32,
    bytes: Vec<u8>,
}

/// A waiting connection in the order of arrival, which may be gone.
#[derive(Clone, Copy, Debug)]
struct Turn {
    place: usize,
    generation: u32,
    until: Instant,
}

/// The waiting connections.
#[derive(Debug)]
pub struct Proxied {
    rules: ProxyRules,
    waiting: Slab<Waiting>,
    /// The oldest first.
    turns: VecDeque<Turn>,
    generation: u32,
    logged: Option<Instant>,
}

impl Proxied {
    pub fn new(rules: ProxyRules) -> Self {
        Self {
            rules,
            waiting: Slab::new(),
            turns: VecDeque::new(),
            generation: 0,
            logged: None,
        }
    }

    /// Sets the rules for later connections.
    pub fn set_rules(&mut self, rules: ProxyRules) {
        self.rules = rules;
    }

    /// Returns whether a connection from `peer` must begin with a header.
    pub fn expects(&self, peer: IpAddr) -> bool {
        self.rules.from.iter().any(|network| network.has(peer))
    }

    /// Keeps a connection until its header has arrived. If there is no room, the oldest is closed.
    pub fn keep(
        &mut self,
        mut stream: TcpStream,
        balancer: SocketAddr,
        now: Instant,
        registry: &Registry,
        stats: &mut ReactorStats,
    ) {
        while self.waiting.len() >= PROXY_WAITING_MAX {
            let Some(turn) = self.turns.pop_front() else {
                break;
            };
            self.refuse(turn.place, turn.generation, ProxyError::NoRoom, now, stats);
        }
        self.generation = self.generation.wrapping_add(1);
        let (entry, generation) = (self.waiting.vacant_entry(), self.generation);
        let token = token::proxied(generation, entry.key());
        if registry
            .register(&mut stream, token, Interest::READABLE)
            .is_err()
        {
            stats.accept_errors += 1;
            return;
        }
        self.turns.push_back(Turn {
            place: entry.key(),
            generation,
            until: now + self.rules.wait,
        });
        entry.insert(Waiting {
            stream,
            balancer,
            generation,
            bytes: Vec::new(),
        });
    }

    /// Reads a connection that the kernel reports. Returns it with the address of its peer when its
    /// header is complete.
    pub fn ready(
        &mut self,
        token: Token,
        now: Instant,
        registry: &Registry,
        stats: &mut ReactorStats,
    ) -> Option<(TcpStream, SocketAddr)> {
        let (generation, place) = token::proxied_parts(token);
        let found = self.waiting.get_mut(place);
        let waiting = found.filter(|waiting| waiting.generation == generation)?;
        match waiting.read() {
            Ok(None) => None,
            Ok(Some(peer)) => {
                let Waiting {
                    mut stream,
                    balancer,
                    ..
                } = self.waiting.remove(place);
                // It is registered again as a host's connection.
                if registry.deregister(&mut stream).is_err() {
                    stats.accept_errors += 1;
                    return None;
                }
                stats.proxied += 1;
                match peer {
                    ProxyPeer::Client(client) => Some((stream, client)),
                    ProxyPeer::Balancer => Some((stream, balancer)),
                }
            }
            Err(error) => {
                self.refuse(place, generation, error, now, stats);
                None
            }
        }
    }

    /// Closes the connections whose time is over. Returns the time of the next.
    pub fn tick(&mut self, now: Instant, stats: &mut ReactorStats) -> Option<Instant> {
        while let Some(turn) = self.turns.front().copied() {
            let is_there = self.is_there(turn.place, turn.generation);
            if is_there && turn.until > now {
                return Some(turn.until);
            }
            self.turns.pop_front();
            if is_there {
                self.refuse(turn.place, turn.generation, ProxyError::Late, now, stats);
            }
        }
        None
    }

    /// Closes all of them, at the stop.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.turns.clear();
    }

    fn is_there(&self, place: usize, generation: u32) -> bool {
        let found = self.waiting.get(place);
        found.is_some_and(|waiting| waiting.generation == generation)
    }

    /// Closes a connection, and counts and logs the reason.
    fn refuse(
        &mut self,
        place: usize,
        generation: u32,
        error: ProxyError,
        now: Instant,
        stats: &mut ReactorStats,
    ) {
        if !self.is_there(place, generation) {
            return;
        }
        let balancer = self.waiting.remove(place).balancer;
        stats.proxy_refused[error.kind()] += 1;
        if self
            .logged
            .is_none_or(|logged| now.since(logged) >= LOG_GAP)
        {
            self.logged = Some(now);
            log::warn!(target: "proxy", "{balancer}: closed: {error} (server.proxy_from)");
        }
    }
}

impl Waiting {
    /// Reads what is missing of the header. Returns the peer when it is complete.
    fn read(&mut self) -> Result<Option<ProxyPeer>, ProxyError> {
        let mut scratch = [0; PROXY_HEADER_BYTES_MAX];
        loop {
            let need = match proxy_header(&self.bytes)? {
                ProxyStep::Whole(peer) => return Ok(Some(peer)),
                ProxyStep::Need(need) => need,
            };
            let missing = &mut scratch[..need - self.bytes.len()];
            match recv(&self.stream, &mut *missing, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(ProxyError::Truncated),
                Ok((_, bytes)) => self.bytes.extend_from_slice(&missing[..bytes]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(_) => return Err(ProxyError::Truncated),
            }
        }
    }
}
