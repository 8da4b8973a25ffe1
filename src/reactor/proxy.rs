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
    /// The oldest first. At most twice as many as may wait.
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

    /// Closes the oldest connections until at most `room` wait. They take descriptors of the room
    /// for connections.
    pub fn fit(&mut self, room: usize, now: Instant, stats: &mut ReactorStats) {
        while self.waiting.len() > room {
            let Some(turn) = self.turns.pop_front() else {
                break;
            };
            self.refuse(turn.place, turn.generation, ProxyError::NoRoom, now, stats);
        }
    }

    /// Keeps a connection until its header has arrived. The caller has made [room](Self::fit).
    pub fn keep(
        &mut self,
        mut stream: TcpStream,
        balancer: SocketAddr,
        now: Instant,
        registry: &Registry,
        stats: &mut ReactorStats,
    ) {
        self.fit(PROXY_WAITING_MAX - 1, now, stats);
        self.drop_gone();
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
        let balancer = waiting.balancer;
        let read = waiting.read().and_then(|read| {
            let peer = read.map(|peer| peer.address(balancer));
            peer.transpose()
        });
        match read {
            Ok(None) => None,
            Ok(Some(peer)) => {
                let mut stream = self.waiting.remove(place).stream;
                // It is registered again as a host's connection.
                if registry.deregister(&mut stream).is_err() {
                    stats.accept_errors += 1;
                    return None;
                }
                stats.proxied += 1;
                Some((stream, peer))
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

    /// Drops the turns of connections that are gone, once they are the greater part.
    fn drop_gone(&mut self) {
        if self.turns.len() >= 2 * PROXY_WAITING_MAX {
            let waiting = &self.waiting;
            self.turns.retain(|turn| {
                let found = waiting.get(turn.place);
                found.is_some_and(|waiting| waiting.generation == turn.generation)
            });
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_gone_connections_are_bounded() {
        let poll = mio::Poll::new().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rules = ProxyRules {
            from: Vec::new(),
            wait: Span::from_secs(10),
        };
        let (mut proxied, mut stats) = (Proxied::new(rules), ReactorStats::default());
        let now = Instant::ZERO;
        // The first one is silent, and stays in front of all others.
        for number in 0..3 * PROXY_WAITING_MAX {
            let _client = std::net::TcpStream::connect(address).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            let stream = TcpStream::from_std(stream);
            proxied.keep(stream, peer, now, poll.registry(), &mut stats);
            if number > 0 {
                let last = *proxied.turns.back().unwrap();
                let error = ProxyError::Truncated;
                proxied.refuse(last.place, last.generation, error, now, &mut stats);
            }
            assert!(proxied.turns.len() <= 2 * PROXY_WAITING_MAX);
        }
        assert_eq!(proxied.waiting.len(), 1);
        let first = proxied.turns.front().unwrap().until;
        assert_eq!(proxied.tick(now, &mut stats), Some(first));
    }
}
