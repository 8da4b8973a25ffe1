//! One connection's turn: its bytes, frame by frame, to the core, within its budget.
//!
//! ```text
//!   kept bytes ──┐                    ┌──▶ whole: core ──▶ effects
//!                ├──▶ frame by frame ─┼──▶ half a frame: kept
//!   socket ──────┘                    ├──▶ no room: kept, and not read until resumed
//!                                     └──▶ budget used up, or much to send: kept and queued
//! ```
//!
//! Raw bytes may follow a frame. They go to the core in pieces as large as they were read and count
//! in bytes, not in frames. [`Connections::advance`] looks the connection up once and goes on until
//! the core has effects, since an effect may change or close any connection.

use std::ops::Range;

use super::super::admission::Admission;
use super::super::buffer::Pool;
use super::super::connection::{Connection, Flags, Got};
use super::super::driver::{Driver, Taken};
use super::super::read_budget::ReadBudget;
use super::super::ready_queue::ReadQueues;
use super::super::stats::ReactorStats;
use super::super::tls::Tls;
use super::{Connections, mark_dirty};
use crate::codec::{Abnormal, Framing};
use crate::handlers::{End, Input, Moment};
use crate::ids::{ConnId, Numbered};
use crate::keys::Guard;
use crate::limits::{FRAME_HEADER_BYTES, UNPROVEN_FRAME_BYTES_MAX};

/// What the caller of [`Connections::advance`] must do after it has applied the effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    Again,
    /// Nothing: no more can be read in this turn.
    Done,
    /// Close the connection. The core was notified.
    Close,
    /// Notify the core of invalid data, and close the connection.
    Invalid(Abnormal),
    /// Notify the core of the end of the connection.
    End(End),
}

/// Progress of one connection in one turn.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Buffer into which all connections read.
    scratch: &'a mut [u8],
    /// Bytes of `scratch` that are still to be handled.
    unread: Range<usize>,
    budget: ReadBudget,
    /// Bytes from earlier turns. Later bytes are appended while there are some.
    kept: Vec<u8>,
    /// Number of these that are handled.
    used: usize,
    /// Number of bytes that the next frame needs.
    need: usize,
    next: Next,
    /// The socket has no more bytes, and the kernel will report new ones.
    lost_data: bool,
    /// A frame was taken, and its effects are applied.
    taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Begin,
    Read,
    Digest,
}

/// Result of a step.
enum After {
    Step(Next),
    Stop(Stop),
    Return(Advance),
}

/// Reason to stop reading in this turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Hungry,
    /// The budget is used up, or there is much to send first.
    Budget,
    /// The core has no room for the next frame.
    Backpressure,
}

impl<'a> Reading<'a> {
    /// Begins the turn of a connection with a buffer and a budget.
    pub fn new(scratch: &'a mut [u8], budget: ReadBudget) -> Self {
        Self {
            scratch,
            unread: 0..0,
            budget,
            kept: Vec::new(),
            used: 0,
            need: 0,
            next: Next::Begin,
            lost_data: false,
            taken: false,
        }
    }

    fn rest(&self) -> &[u8] {
        match self.kept.is_empty() {
            true => &self.scratch[self.unread.clone()],
            false => &self.kept[self.used..],
        }
    }

    fn consume(&mut self, bytes: usize) {
        match self.kept.is_empty() {
            true => self.unread.start += bytes,
            false => self.used += bytes,
        }
    }

    fn hungry(&mut self, need: usize) -> After {
        self.need = need;
        match self.lost_data {
            true => After::Stop(Stop::Hungry),
            false => After::Step(Next::Read),
        }
    }
}

/// A connection and what its reading needs of the others.
struct Open<'a> {
    conn: ConnId,
    entry: &'a mut Connection,
    pool: &'a mut Pool,
    guards: &'a mut Numbered<ConnId, Box<Guard>>,
    tls: &'a mut Option<Tls>,
    admission: &'a mut Admission,
    queues: &'a mut ReadQueues,
    dirty: &'a mut Vec<ConnId>,
    driver: &'a mut Driver,
    stats: &'a mut ReactorStats,
    at: Moment,
}

impl Connections {
    /// Reads `conn` and passes its frames to the core, until effects are to be applied or no more
    /// can be read in this turn.
    pub fn advance(
        &mut self,
        conn: ConnId,
        reading: &mut Reading<'_>,
        framing: Framing,
        (driver, stats): (&mut Driver, &mut ReactorStats),
        at: Moment,
    ) -> Advance {
        let Some(entry) = self.table.get_mut(conn) else {
            return Advance::Done;
        };
        let open = Open {
            conn,
            entry,
            pool: &mut self.pool,
            guards: &mut self.guards,
            tls: &mut self.tls,
            admission: &mut self.admission,
            queues: &mut self.queues,
            dirty: &mut self.dirty,
            driver,
            stats,
            at,
        };
        open.advance(reading, framing)
    }
}

impl Open<'_> {
    fn advance(mut self, reading: &mut Reading<'_>, framing: Framing) -> Advance {
        loop {
            if std::mem::take(&mut reading.taken) {
                let flags = &mut self.entry.flags;
                if flags.clear(Flags::SILENT) && !flags.has(Flags::CHALLENGED) {
                    self.admission.proved(self.conn);
                }
                // One request can have a long answer: the next turn shows whether its peer reads.
                if self.entry.is_unread() {
                    return self.stop(reading, Stop::Budget);
                }
            }
            let after = match reading.next {
                Next::Begin if self.entry.is_paused() => return Advance::Done,
                Next::Begin => {
                    (reading.kept, reading.need) = self.entry.take_input();
                    match !reading.kept.is_empty() && reading.kept.len() >= reading.need {
                        true => After::Step(Next::Digest),
                        false => After::Step(Next::Read),
                    }
                }
                Next::Read => self.read(reading),
                Next::Digest => self.digest(reading, framing),
            };
            match after {
                After::Step(next) => reading.next = next,
                After::Stop(stop) => return self.stop(reading, stop),
                After::Return(advance) => return advance,
            }
            if self.driver.has_effects() {
                return Advance::Again;
            }
        }
    }

    fn read(&mut self, reading: &mut Reading<'_>) -> After {
        if reading.budget.bytes == 0 {
            return After::Stop(Stop::Budget);
        }
        self.keep_rest(reading);
        let capacity = reading.scratch.len().min(reading.budget.bytes);
        let into = &mut reading.scratch[..capacity];
        let (got, may_empty) = match self.tls {
            None => {
                let got = self.entry.read(into);
                if let Got::Bytes(bytes) = got {
                    reading.budget.spend_bytes(bytes);
                }
                (got, !self.entry.flags.has(Flags::ENDING))
            }
            Some(tls) => {
                let got = tls.read(self.conn, self.entry.stream(), into, &mut reading.budget);
                // A handshake sends its own answers.
                if tls.has_unsent(self.conn) {
                    mark_dirty(self.dirty, self.entry, self.conn);
                }
                if let Some(Err(why)) = self.certificate() {
                    return After::Return(Advance::Invalid(Abnormal::Tls(why)));
                }
                (got, false)
            }
        };
        match got {
            Got::Bytes(bytes) => {
                self.stats.bytes_in += bytes as u64;
                // A short read has emptied the socket, and the kernel reports more. It does not
                // report an end again that it has already reported.
                reading.lost_data = bytes < capacity && may_empty;
                if reading.kept.is_empty() {
                    reading.unread = 0..bytes;
                    return After::Step(Next::Digest);
                }
                reading.kept.extend_from_slice(&reading.scratch[..bytes]);
                match reading.kept.len() < reading.need {
                    true => reading.hungry(reading.need),
                    false => After::Step(Next::Digest),
                }
            }
            Got::Nothing => After::Stop(Stop::Hungry),
            Got::Later => After::Stop(Stop::Budget),
            Got::End(End::Closed) if self.entry.flags.has(Flags::BROKEN) => {
                After::Return(Advance::End(End::Reset))
            }
            Got::End(end) => After::Return(Advance::End(end)),
            Got::Failed(why) => After::Return(Advance::Invalid(Abnormal::Tls(why))),
        }
    }

    /// Passes the name in the peer's certificate to the core, once.
    fn certificate(&mut self) -> Option<Result<(), String>> {
        let conn = self.conn;
        let name = self.tls.as_mut()?.name(conn, self.at.wall)?;
        Some(name.map(|name| {
            let input = Input::Certified { conn, name: &name };
            self.driver.give_of(conn, "certificate", self.at, input);
        }))
    }

    /// Passes the first frame, or the first piece of raw bytes, to the core.
    fn digest(&mut self, reading: &mut Reading<'_>, mut framing: Framing) -> After {
        let raw = self.entry.raw();
        let bytes = reading.rest();
        if bytes.is_empty() {
            return reading.hungry(FRAME_HEADER_BYTES);
        }
        let taken = match raw {
            0 if reading.budget.frames == 0 => return After::Stop(Stop::Budget),
            0 => {
                let flags = self.entry.flags;
                if flags.has(Flags::CHALLENGED) {
                    framing.limit = framing.limit.min(UNPROVEN_FRAME_BYTES_MAX);
                }
                let is_guarded = flags.has(Flags::GUARDED);
                let guard = match is_guarded {
                    true => self.guards.get_mut(&self.conn).map(|guard| &mut **guard),
                    false => None,
                };
                let framing = (framing, &mut self.entry.order);
                let guard = (is_guarded, guard);
                self.driver.frame(self.conn, framing, guard, bytes, self.at)
            }
            raw => self.driver.raw(self.conn, bytes, raw, self.at),
        };
        match taken {
            Taken::Bytes { used, raw: next } => {
                if raw == 0 {
                    reading.budget.frames -= 1;
                    self.stats.frames += 1;
                } else {
                    self.stats.raw_bytes += used as u64;
                }
                if raw > 0 || next > 0 {
                    self.entry.set_raw(next, self.pool);
                }
                reading.consume(used);
                reading.taken = true;
                After::Step(Next::Digest)
            }
            Taken::Need(bytes) => reading.hungry(bytes),
            Taken::Wait => {
                // Set before any effect is applied, so that no resumption comes too early.
                self.entry.flags.set(Flags::BACKPRESSURE);
                After::Stop(Stop::Backpressure)
            }
            Taken::Refused => After::Return(Advance::Close),
        }
    }

    /// Moves what is not handled to the front of the kept bytes.
    fn keep_rest(&mut self, reading: &mut Reading<'_>) {
        if reading.used > 0 {
            reading.kept.drain(..std::mem::take(&mut reading.used));
        }
        if !reading.unread.is_empty() {
            if reading.kept.capacity() == 0 {
                reading.kept = self.entry.lend_input(self.pool);
            }
            let rest = &reading.scratch[std::mem::take(&mut reading.unread)];
            reading.kept.extend_from_slice(rest);
        }
    }

    fn stop(&mut self, reading: &mut Reading<'_>, stop: Stop) -> Advance {
        self.keep_rest(reading);
        let need = if stop == Stop::Hungry {
            reading.need
        } else {
            0
        };
        let kept = std::mem::take(&mut reading.kept);
        self.entry.keep_input(kept, need, self.pool);
        match stop {
            Stop::Hungry => {}
            Stop::Budget => self.queues.requeue(self.entry, self.conn),
            Stop::Backpressure => self.stats.read_waited += 1,
        }
        Advance::Done
    }
}
