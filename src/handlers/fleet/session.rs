//! One connection in the core.
//!
//! ```text
//! Fresh ──first valid message──▶ Known(host) ──▶ gone
//!   └────abnormal, silent, closed───────────────▶ gone
//! ```
//!
//! The data that a heartbeat reads and writes are in a column of their own, eight bytes per
//! connection. Those of a million connections stay in the cache; the rest of a session does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ids::{ConnId, Numbered};
use crate::prefetch;
use crate::time::{Instant, Span};

use crate::handlers::fleet::host::Peer;

const NONE: u32 = u32::MAX;

/// Data of a connection that a heartbeat needs.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    /// Time of the last complete valid message, or of the opening before the first. In
    /// milliseconds, rounded up so that no host counts as silent too early. Only the lower half is
    /// stored; it is unambiguous, since no host is silent for 24 days.
    last: u32,
    /// Generation, and the flags below.
    mark: u32,
}

/// Flag of an open connection.
const OPEN: u32 = 1;
/// Flag of a known host whose heartbeats need no further action.
const UNWATCHED: u32 = 2;
/// Bits of a mark beside the generation.
const MARKS: u32 = 2;
const _: () = assert!(ConnId::GENERATION_MAX << MARKS >> MARKS == ConnId::GENERATION_MAX);

const _: () = assert!(size_of::<Pulse>() == 8, "a million are 8 MB");

impl Pulse {
    fn of(conn: ConnId, now: Instant) -> Self {
        let mut pulse = Self {
            last: 0,
            mark: conn.generation << MARKS | OPEN,
        };
        pulse.beat(now);
        pulse
    }

    /// Returns whether it belongs to `conn`.
    fn is_of(self, conn: ConnId) -> bool {
        self.mark & !UNWATCHED == conn.generation << MARKS | OPEN
    }

    fn conn(self, slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: self.mark >> MARKS,
        }
    }

    fn beat(&mut self, now: Instant) {
        self.last = millis_up(now) as u32;
    }

    fn last(self, now: Instant) -> Instant {
        let millis = millis_up(now);
        // A heartbeat that seems to be later than now counts as of now.
        let ago = (millis as u32).wrapping_sub(self.last).cast_signed().max(0) as u32;
        Instant::ZERO + Span::from_millis(millis.saturating_sub(ago.into()))
    }
}

fn millis_up(now: Instant) -> u64 {
    now.as_nanos().div_ceil(1_000_000)
}

fn millis_down(at: Instant) -> u32 {
    (at.as_nanos() / 1_000_000) as u32
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The latest deadline set for it, in milliseconds, rounded down. Only the lower half is
    /// stored: it is at most a day ahead.
    armed: u32,
    host: u32,
    /// The peer's address; unspecified for an IPv6 address, which is stored separately.
    ip: Ipv4Addr,
    port: u16,
    /// The host has sent a hello.
    pub identified: bool,
    /// Its position among the connections that wait for room.
    pub turn: Turn,
}

/// Position of a connection among those that wait for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Not waiting.
    #[default]
    None,
    /// Waiting and not read, so its silence does not count.
    Waiting,
    /// After a wait for a report: it goes before connections that have not waited.
    Next,
}

const _: () = assert!(
    size_of::<Option<Session>>() == 16,
    "with its pulse, 24 bytes"
);

impl Session {
    /// Sets the latest deadline, which is less than 24 days ahead. An earlier entry of the wheel is
    /// ignored: it belongs to an earlier connection of the slot, or to other rules.
    pub fn arm(&mut self, deadline: Instant) {
        self.armed = millis_down(deadline);
    }

    /// Returns whether the deadline has not come yet.
    #[must_use]
    pub fn is_armed_after(&self, judge: Instant) -> bool {
        self.armed.wrapping_sub(millis_down(judge)).cast_signed() > 0
    }

    /// Returns whether it waits for room.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.turn == Turn::Waiting
    }

    /// The slot of its host, once it has one.
    #[must_use]
    pub fn host(&self) -> Option<u32> {
        (self.host != NONE).then_some(self.host)
    }
}

/// All connections, by slot of the reactor.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Vec<Option<Session>>,
    /// Pulses, by the same slots.
    pulses: Vec<Pulse>,
    len: usize,
    /// IPv6 addresses of peers, by slot.
    v6: Numbered<u32, Ipv6Addr>,
}

impl Sessions {
    /// Number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Enters a connection. An older one in the same slot would be overwritten; the reactor
    /// prevents that.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddr, now: Instant) {
        let slot = conn.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
            self.pulses.resize(slot + 1, Pulse::default());
        }
        debug_assert!(self.slots[slot].is_none(), "slot {slot} is opened twice");
        let ip = match peer.ip().to_canonical() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(ip) => {
                self.v6.insert(conn.slot, ip);
                Ipv4Addr::UNSPECIFIED
            }
        };
        self.pulses[slot] = Pulse::of(conn, now);
        let session = Session {
            armed: millis_down(now),
            host: NONE,
            ip,
            port: peer.port(),
            identified: false,
            turn: Turn::None,
        };
        if self.slots[slot].replace(session).is_none() {
            self.len += 1;
        }
    }

    /// The connection, unless it has ended.
    #[must_use]
    pub fn get(&self, conn: ConnId) -> Option<&Session> {
        self.pulse(conn)?;
        self.slots.get(conn.slot as usize)?.as_ref()
    }

    /// The connection, unless it has ended.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.pulse(conn)?;
        self.slots.get_mut(conn.slot as usize)?.as_mut()
    }

    /// Returns whether the connection is open. On the fast path.
    #[must_use]
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.pulse(conn).is_some()
    }

    /// Returns whether the connection has a host and its heartbeats are not counted. On the fast
    /// path.
    #[must_use]
    pub fn is_unwatched(&self, conn: ConnId) -> bool {
        self.pulse(conn)
            .is_some_and(|pulse| pulse.mark & UNWATCHED != 0)
    }

    /// Sets whether the heartbeats of a connection with a host are counted.
    pub fn watch(&mut self, conn: ConnId, watched: bool) {
        if self.get(conn).is_some_and(|session| session.host != NONE) {
            let mark = &mut self.pulses[conn.slot as usize].mark;
            match watched {
                true => *mark &= !UNWATCHED,
                false => *mark |= UNWATCHED,
            }
        }
    }

    /// Prefetches the pulse of a connection that probably has a message.
    pub fn expect(&self, conn: ConnId) {
        prefetch::prefetch(&self.pulses, conn.slot as usize);
    }

    fn pulse(&self, conn: ConnId) -> Option<&Pulse> {
        let pulse = self.pulses.get(conn.slot as usize)?;
        pulse.is_of(conn).then_some(pulse)
    }

    /// Records that a connection is alive. Returns whether it is open.
    pub fn touch(&mut self, conn: ConnId, now: Instant) -> bool {
        match self.pulses.get_mut(conn.slot as usize) {
            Some(pulse) if pulse.is_of(conn) => {
                pulse.beat(now);
                true
            }
            _ => false,
        }
    }

    /// Time of the last message of the connection in `slot`, seen from now; rounded up to a
    /// millisecond.
    #[must_use]
    pub fn last(&self, slot: u32, now: Instant) -> Instant {
        let pulse = self.pulses.get(slot as usize);
        pulse.map_or(now, |pulse| pulse.last(now))
    }

    /// Assigns a connection to the host in `slot`.
    pub fn set_host(&mut self, conn: ConnId, slot: u32) {
        if let Some(session) = self.get_mut(conn) {
            session.host = slot;
            self.pulses[conn.slot as usize].mark |= UNWATCHED;
        }
    }

    /// Peer of a connection; an unknown address if it has ended.
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

    /// The connection that has this slot now.
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<(ConnId, &Session)> {
        let session = self.slots.get(slot as usize)?.as_ref()?;
        let pulse = self.pulses.get(slot as usize)?;
        Some((pulse.conn(slot), session))
    }

    /// Removes a connection.
    pub fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.get(conn)?;
        self.len -= 1;
        if !self.v6.is_empty() {
            self.v6.remove(&conn.slot);
        }
        self.pulses[conn.slot as usize] = Pulse::default();
        self.slots[conn.slot as usize].take()
    }

    /// All connections.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Session)> {
        (0..self.slots.len() as u32).filter_map(|slot| self.at(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId {
        slot: 3,
        generation: 7,
    };

    fn opened(now: Instant) -> Sessions {
        let mut sessions = Sessions::default();
        sessions.open(CONN, ([10, 0, 0, 7], 1).into(), now);
        sessions
    }

    #[test]
    fn a_pulse_belongs_to_one_generation_of_a_slot() {
        let mut sessions = opened(Instant::ZERO);
        let other = ConnId {
            generation: 8,
            ..CONN
        };
        assert!(sessions.is_open(CONN) && !sessions.is_open(other));
        sessions.watch(CONN, false);
        assert!(!sessions.is_unwatched(CONN), "it has no host yet");
        sessions.set_host(CONN, 5);
        assert!(sessions.is_unwatched(CONN) && !sessions.is_unwatched(other));
        sessions.watch(CONN, true);
        assert!(sessions.is_open(CONN) && !sessions.is_unwatched(CONN));
        sessions.watch(CONN, false);
        assert!(sessions.is_unwatched(CONN));
        assert!(!sessions.touch(other, Instant::from_nanos(9_000_000)));
        assert_eq!(
            sessions.last(3, Instant::from_nanos(9_000_000)),
            Instant::ZERO
        );
        assert!(sessions.remove(CONN).is_some());
        assert!(!sessions.is_open(CONN) && !sessions.touch(CONN, Instant::ZERO));
        sessions.open(other, ([10, 0, 0, 7], 1).into(), Instant::ZERO);
        assert!(sessions.is_open(other) && !sessions.is_open(CONN));
        assert!(!sessions.is_unwatched(other));
    }

    #[test]
    fn last_seen_is_exact_to_a_millisecond() {
        // Also where the milliseconds exceed the range of a pulse.
        for start in [0, 1, 999_999, (u64::from(u32::MAX) - 1) * 1_000_000 + 1] {
            let mut sessions = opened(Instant::ZERO);
            let touched = Instant::from_nanos(start);
            assert!(sessions.touch(CONN, touched));
            for later in [0, 1, 5_000_000, 86_400_000_000_000] {
                let last = sessions.last(CONN.slot, touched + Span::from_nanos(later));
                assert!(last >= touched, "{start} {later}");
                assert!(
                    last.since(touched) < Span::from_millis(1),
                    "{start} {later}"
                );
            }
        }
    }

    #[test]
    fn peers_of_every_kind_are_kept() {
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
