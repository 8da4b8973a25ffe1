//! What one connection means to the core.
//!
//! ```text
//! Fresh ──first valid message──▶ Known(host) ──▶ gone
//!   └────abnormal, silent, closed───────────────▶ gone
//! ```

use crate::ids::ConnId;
use crate::time::Instant;

use super::hosts::Peer;

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    generation: u32,
    /// The slot of its host, once it has one.
    pub host: Option<u32>,
    /// Where it comes from.
    pub peer: Peer,
    /// When its last complete valid message came; before the first, when it was opened.
    pub last: Instant,
    /// The latest deadline set for it. An entry that comes due before it is of no account: it was
    /// set for an earlier connection of the slot, or under other rules.
    pub armed: Instant,
    /// It named its host with a hello.
    pub identified: bool,
    /// Something came by it since last-seen times were last written down.
    pub beaten: bool,
    /// A report of it waits for room; it is not read meanwhile, so it is not silent.
    pub waiting: bool,
}

/// All connections, by the slots the reactor gave them.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Vec<Option<Session>>,
    len: usize,
}

impl Sessions {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Enters one. An older one in the same slot is overwritten; the reactor never lets that be.
    pub fn open(&mut self, conn: ConnId, peer: Peer, now: Instant) {
        let slot = conn.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
        }
        debug_assert!(self.slots[slot].is_none(), "slot {slot} is opened twice");
        let session = Session {
            generation: conn.generation,
            host: None,
            peer,
            last: now,
            armed: now,
            identified: false,
            beaten: false,
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
