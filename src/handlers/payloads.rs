//! Results on their way: the bytes of each connection so far, who waits for room, and how much is held
//! in all. Memory is taken as bytes arrive, never for what is only announced.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

use crate::codec::message::Ask;
use crate::ids::{ConnId, Numbered};
use crate::limits::RESULT_BYTES_HELD_MAX;
use crate::time::Instant;

/// One result, as far as it has come.
#[derive(Debug)]
pub struct Payload {
    /// The slot of the host.
    pub slot: u32,
    /// The task's key, or the id of a console command.
    pub code: String,
    /// The command.
    pub command: String,
    /// Its exit status.
    pub exit: i32,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// Bytes of it in all.
    pub size: u64,
    /// What their SHA-256 must be.
    pub sha256: [u8; 32],
    /// Whether the command put out more.
    pub truncated: bool,
    /// What its sender wants back.
    pub ask: Ask,
    /// Whether it is kept. Else its bytes are dropped as they come.
    pub wanted: bool,
    /// The bytes so far.
    pub bytes: Vec<u8>,
    /// Their digest so far.
    pub digest: Sha256,
    /// How many have come.
    pub came: u64,
}

/// A connection that is not read until there is room.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    slot: u32,
    bytes: usize,
    deadline: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Payloads {
    arriving: Numbered<ConnId, Payload>,
    /// Whose payload a host is sending: one at a time is kept.
    sending: Numbered<u32, ConnId>,
    held: usize,
    /// First come, first served; so the first deadline is the earliest.
    waiting: VecDeque<Waiting>,
}

impl Payloads {
    /// Who waits for room.
    #[cfg(any(test, fuzzing))]
    pub fn waiting(&self) -> impl Iterator<Item = ConnId> {
        self.waiting.iter().map(|wait| wait.conn)
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The payload that this connection is sending.
    #[must_use]
    pub fn get(&self, conn: ConnId) -> Option<&Payload> {
        self.arriving.get(&conn)
    }

    /// Whether `bytes` more of a payload by `conn`, of the host in `slot`, have room.
    #[must_use]
    pub fn has_room(&self, conn: ConnId, slot: u32, bytes: usize) -> bool {
        self.fits(conn, slot, bytes, self.held)
    }

    fn fits(&self, conn: ConnId, slot: u32, bytes: usize, held: usize) -> bool {
        let free = self.sending.get(&slot).is_none_or(|other| *other == conn);
        // One that is alone always has room.
        let own = self.arriving.get(&conn).map_or(0, |own| own.bytes.len());
        free && (held == own || held + bytes <= RESULT_BYTES_HELD_MAX)
    }

    /// A header was taken.
    pub fn begin(&mut self, conn: ConnId, payload: Payload) {
        if payload.wanted {
            self.sending.insert(payload.slot, conn);
        }
        self.arriving.insert(conn, payload);
    }

    /// Takes the next bytes: how many have come by now.
    pub fn take(&mut self, conn: ConnId, bytes: &[u8]) -> u64 {
        let Some(payload) = self.arriving.get_mut(&conn) else {
            return 0;
        };
        payload.came += bytes.len() as u64;
        if payload.wanted {
            payload.bytes.extend_from_slice(bytes);
            payload.digest.update(bytes);
            self.held += bytes.len();
        }
        payload.came
    }

    /// A payload is whole, or its connection has ended.
    pub fn remove(&mut self, conn: ConnId) -> Option<Payload> {
        let payload = self.arriving.remove(&conn)?;
        self.held -= payload.bytes.len();
        if payload.wanted {
            self.sending.remove(&payload.slot);
        }
        Some(payload)
    }

    /// A connection waits until `bytes` of its host have room.
    pub fn wait(&mut self, conn: ConnId, slot: u32, bytes: usize, deadline: Instant) {
        self.waiting.push_back(Waiting {
            conn,
            slot,
            bytes,
            deadline,
        });
    }

    /// Those that wait and have room now, all together.
    pub fn take_resumable(&mut self) -> Vec<ConnId> {
        let mut held = self.held;
        let mut resumed = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|wait| {
            let fits = self.fits(wait.conn, wait.slot, wait.bytes, held);
            if fits {
                held += wait.bytes;
                resumed.push(wait.conn);
            }
            !fits
        });
        self.waiting = waiting;
        resumed
    }

    /// When the next of those that wait has waited long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|wait| wait.deadline)
    }

    /// One that has.
    pub fn take_overdue(&mut self, now: Instant) -> Option<ConnId> {
        let overdue = self.deadline().is_some_and(|deadline| deadline <= now);
        let wait = overdue.then(|| self.waiting.pop_front())??;
        Some(wait.conn)
    }

    /// A connection has ended: what it was sending is dropped, and it waits for nothing.
    pub fn forget(&mut self, conn: ConnId) -> bool {
        self.waiting.retain(|wait| wait.conn != conn);
        !self.arriving.is_empty() && self.remove(conn).is_some()
    }
}
