//! What one connection means to the core.
//!
//! ```text
//! Fresh ──first valid message──▶ Known(host) ──▶ gone
//!   └────abnormal, silent, closed───────────────▶ gone
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ids::ConnId;
use crate::time::Instant;

use super::host::Peer;

const NONE: u32 = u32::MAX;

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// When its last complete valid message came; before the first, when it was opened.
    pub last: Instant,
    /// The latest deadline set for it. An entry that comes due before it is of no account: it was
    /// set for an earlier connection of the slot, or under other rules.
    pub armed: Instant,
    generation: u32,
    host: u32,
    /// Its peer's address; nobody's if that is an IPv6 one, which is kept aside.
    ip: Ipv4Addr,
    port: u16,
    /// It named its host with a hello.
    pub identified: bool,
    /// A report of it waits for room; it is not read meanwhile, so it is not silent.
    pub waiting: bool,
}

const _: () = assert!(
    size_of::<Option<Session>>() == 32,
    "two to a line of the cache"
);

impl Session {
    /// The slot of its host, once it has one.
    #[must_use]
    pub fn host(&self) -> Option<u32> {
        (self.host != NONE).then_some(self.host)
    }

    /// It is a connection of the host in `slot`.
    pub fn set_host(&mut self, slot: u32) {
        self.host = slot;
    }
}

/// All connections, by the slots the reactor gave them.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Vec<Option<Session>>,
    len: usize,
    /// By slot, the peers whose address is an IPv6 one.
    v6: HashMap<u32, Ipv6Addr>,
}

impl Sessions {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Enters one. An older one in the same slot is overwritten; the reactor never lets that be.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddr, now: Instant) {
        let slot = conn.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
        }
        debug_assert!(self.slots[slot].is_none(), "slot {slot} is opened twice");
        let ip = match peer.ip().to_canonical() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(ip) => {
                self.v6.insert(conn.slot, ip);
                Ipv4Addr::UNSPECIFIED
            }
        };
        let session = Session {
            last: now,
            armed: now,
            generation: conn.generation,
            host: NONE,
            ip,
            port: peer.port(),
            identified: false,
            waiting: false,
        };
        if self.slots[slot].replace(session).is_none() {
            self.len += 1;
        }
    }

    /// The connection, unless it is gone.
    #[must_use]
    pub fn get(&self, conn: ConnId) -> Option<&Session> {
        let session = self.slots.get(conn.slot as usize)?.as_ref()?;
        (session.generation == conn.generation).then_some(session)
    }

    /// The connection, unless it is gone.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        let session = self.slots.get_mut(conn.slot as usize)?.as_mut()?;
        (session.generation == conn.generation).then_some(session)
    }

    /// Where a connection comes from; nobody's address if it is gone.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> Peer {
        let Some(session) = self.get(conn) else {
            return Peer::UNKNOWN;
        };
        let v6 = (session.ip == Ipv4Addr::UNSPECIFIED).then(|| self.v6.get(&conn.slot));
        let ip = match v6.flatten() {
            Some(ip) => IpAddr::V6(*ip),
            None => IpAddr::V4(session.ip),
        };
        Peer::new(SocketAddr::new(ip, session.port))
    }

    /// Whichever connection has this slot now.
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<(ConnId, &Session)> {
        let session = self.slots.get(slot as usize)?.as_ref()?;
        Some((
            ConnId {
                slot,
                generation: session.generation,
            },
            session,
        ))
    }

    /// Takes it out.
    pub fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.get(conn)?;
        self.len -= 1;
        self.v6.remove(&conn.slot);
        self.slots[conn.slot as usize].take()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Session)> {
        (0_u32..).zip(&self.slots).filter_map(|(slot, session)| {
            let session = session.as_ref()?;
            Some((
                ConnId {
                    slot,
                    generation: session.generation,
                },
                session,
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_what_it_was_whatever_its_kind() {
        let mut sessions = Sessions::default();
        for (generation, text) in (0..).zip(["10.0.0.7:1", "[fe80::1]:2", "[::ffff:10.0.0.8]:3"]) {
            let conn = ConnId {
                slot: 5,
                generation,
            };
            let peer: SocketAddr = text.parse().unwrap();
            sessions.open(conn, peer, Instant::ZERO);
            assert_eq!(sessions.peer(conn), Peer::new(peer));
            assert!(sessions.remove(conn).is_some());
            assert_eq!(sessions.peer(conn), Peer::UNKNOWN);
        }
        assert!(sessions.v6.is_empty());
    }
}
