//! One connection's turn: its bytes, frame by frame, to the core, within its budget.
//!
//! ```text
//!   kept bytes ──┐                    ┌──▶ whole: core ──▶ effects
//!                ├──▶ frame by frame ─┼──▶ half a frame: kept
//!   socket ──────┘                    ├──▶ no room: kept, and not read until resumed
//!                                     └──▶ budget used up, or much to send: kept, and on the
//!                                          still-ready list
//! ```
//!
//! Behind some frames come raw bytes. They go to the core in pieces as large as they were read,
//! straight from the buffer all connections share, and count in bytes, not in frames.
//!
//! A panic in here ends this connection and no other.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::connection::{Flags, Got};
use super::read_budget::ReadBudget;
use super::{Reactor, fault, journal};
use crate::codec::{Abnormal, DecodeError, Step, decode, decode_sealed};
use crate::handlers::effect::Effects;
use crate::handlers::{Core, End, Flow, Input, Moment};
use crate::ids::ConnId;
use crate::limits::{FRAME_HEADER_BYTES, UNPROVEN_FRAME_BYTES_MAX};
use crate::time::Instant;

/// Reason to stop handling a run of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// No whole frame is left; the next needs so many bytes.
    Hungry(usize),
    /// The budget of frames is used up, or there is much to send first.
    Budget,
    /// The core has no room for the next frame.
    Waiting,
    /// The connection is closed.
    Gone,
}

/// Result of the first frame, or the first piece of raw bytes.
enum One {
    /// A frame of so many bytes was taken.
    Taken(usize),
    /// A number of raw bytes was taken.
    Raw(usize),
    /// It is not whole: so many bytes are needed.
    Need(usize),
    /// There is no room for it now.
    Wait,
    /// It was invalid; the core is notified.
    Refused,
}

impl Reactor {
    /// Reads `conn` and handles its bytes, until there are no more or its budget is used up.
    pub(super) fn serve(&mut self, conn: ConnId, at: Moment) {
        let Some(entry) = self.connections.table.get_mut(conn) else {
            return;
        };
        if entry.is_paused() {
            return;
        }
        self.core.expect(conn);
        let (mut kept, mut need) = entry.take_input();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut budget = self.read_budget;
        let stop = self.serve_within(conn, &mut budget, &mut kept, &mut need, &mut scratch, at);
        self.scratch = scratch;
        let Some(entry) = self.connections.table.get_mut(conn) else {
            return;
        };
        entry.keep_input(kept, need, &mut self.connections.pool);
        match stop {
            Stop::Waiting => self.stats.read_waited += 1,
            Stop::Budget => self.connections.requeue(conn),
            Stop::Hungry(_) | Stop::Gone => {}
        }
    }

    /// The kept bytes first, then the socket. Leaves in `kept` what is not handled, and in `need`
    /// how many bytes that needs.
    fn serve_within(
        &mut self,
        conn: ConnId,
        budget: &mut ReadBudget,
        kept: &mut Vec<u8>,
        need: &mut usize,
        scratch: &mut [u8],
        at: Moment,
    ) -> Stop {
        if !kept.is_empty() && kept.len() >= *need {
            let stop = self.digest_kept(conn, budget, kept, need, at);
            if !matches!(stop, Stop::Hungry(_)) {
                return stop;
            }
        }
        loop {
            if self.connections.table.get(conn).is_none() {
                return Stop::Gone;
            }
            if budget.bytes == 0 {
                return Stop::Budget;
            }
            let asked = scratch.len().min(budget.bytes);
            let (got, may_empty) = self.connections.read(conn, &mut scratch[..asked], budget);
            if !self.name_by_certificate(conn, at) {
                return Stop::Gone;
            }
            let bytes = match got {
                Got::Bytes(bytes) => bytes,
                Got::Nothing => return Stop::Hungry(*need),
                Got::Later => return Stop::Budget,
                Got::End(end) => {
                    self.end(conn, end, at);
                    return Stop::Gone;
                }
                Got::Failed(why) => {
                    self.break_off(conn, Abnormal::Tls(why), at);
                    return Stop::Gone;
                }
            };
            // A short read has emptied the socket, and the kernel will report more; but an end that
            // it has reported already it will not report again.
            let emptied = bytes < asked && may_empty;
            self.stats.bytes_in += bytes as u64;

            let stop = if kept.is_empty() {
                self.digest_read(conn, budget, &scratch[..bytes], kept, need, at)
            } else {
                kept.extend_from_slice(&scratch[..bytes]);
                if kept.len() < *need {
                    Stop::Hungry(*need)
                } else {
                    self.digest_kept(conn, budget, kept, need, at)
                }
            };
            if !matches!(stop, Stop::Hungry(_)) || emptied {
                return stop;
            }
        }
    }

    /// Tells the core, once, whose certificate the peer has shown. Whether the connection goes on.
    fn name_by_certificate(&mut self, conn: ConnId, at: Moment) -> bool {
        match self.connections.certified(conn, at.wall) {
            None => true,
            Some(Ok(name)) => {
                let name = &name;
                self.guarded(conn, "certificate", at, Input::Certified { conn, name });
                self.apply(at);
                self.connections.table.get(conn).is_some()
            }
            Some(Err(why)) => {
                self.break_off(conn, Abnormal::Tls(why), at);
                false
            }
        }
    }

    /// Ends the sessions of connections whose certificates do not let them in any more. When to look again.
    pub(super) fn check_certificates(&mut self, at: Moment) -> Option<Instant> {
        if self.stopping.is_some() {
            return None;
        }
        for (conn, why) in self.connections.check_certificates(at.wall) {
            let why = &why;
            if !self.guarded(conn, "certificate", at, Input::Revoked { conn, why }) {
                self.give_up(conn, at);
            }
            self.apply(at);
            self.close(conn, at);
        }
        Some(at.now + self.connections.check_in(at.wall)?)
    }

    /// Passes the error of `conn` to the core, and closes it.
    fn break_off(&mut self, conn: ConnId, kind: Abnormal, at: Moment) {
        let error = DecodeError::new(kind, 0);
        self.guarded(conn, "abnormal", at, Input::Abnormal { conn, error });
        self.apply(at);
        self.close(conn, at);
    }

    /// Handles the bytes a connection kept.
    fn digest_kept(
        &mut self,
        conn: ConnId,
        budget: &mut ReadBudget,
        kept: &mut Vec<u8>,
        need: &mut usize,
        at: Moment,
    ) -> Stop {
        let (used, stop) = self.digest(conn, budget, kept, at);
        kept.drain(..used);
        *need = needed(stop);
        stop
    }

    /// Handles bytes just read, straight from the buffer that all connections share; only what
    /// is left of them is copied.
    fn digest_read(
        &mut self,
        conn: ConnId,
        budget: &mut ReadBudget,
        read: &[u8],
        kept: &mut Vec<u8>,
        need: &mut usize,
        at: Moment,
    ) -> Stop {
        let (used, stop) = self.digest(conn, budget, read, at);
        *need = needed(stop);
        if used < read.len()
            && let Some(entry) = self.connections.table.get_mut(conn)
        {
            if kept.capacity() == 0 {
                *kept = entry.lend_input(&mut self.connections.pool);
            }
            kept.extend_from_slice(&read[used..]);
        }
        stop
    }

    /// Handles the whole frames at the beginning of `input`: how many bytes they had, and why it
    /// stopped.
    fn digest(
        &mut self,
        conn: ConnId,
        budget: &mut ReadBudget,
        input: &[u8],
        at: Moment,
    ) -> (usize, Stop) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if rest.is_empty() {
                return (used, Stop::Hungry(FRAME_HEADER_BYTES));
            }
            let raw = self.connections.table.get(conn).map_or(0, |c| c.raw());
            if raw == 0 && budget.frames == 0 {
                return (used, Stop::Budget);
            }
            let one = match raw {
                0 => self.first_frame(conn, rest, at),
                _ => self.first_raw(conn, rest, raw, at),
            };
            self.apply(at);
            match one {
                One::Taken(bytes) => {
                    used += bytes;
                    budget.frames -= 1;
                    self.stats.frames += 1;
                }
                One::Raw(bytes) => {
                    used += bytes;
                    self.stats.raw_bytes += bytes as u64;
                }
                One::Need(bytes) => return (used, Stop::Hungry(bytes)),
                One::Wait => return (used, Stop::Waiting),
                One::Refused => self.close(conn, at),
            }
            match self.connections.table.get_mut(conn) {
                None => return (used, Stop::Gone),
                Some(entry) => {
                    let unread = entry.is_unread();
                    if entry.flags.clear(Flags::SILENT) && !entry.flags.has(Flags::CHALLENGED) {
                        self.connections.proved(conn);
                    }
                    // One question can have a long answer: the next turn sees whether its peer reads.
                    if unread {
                        return (used, Stop::Budget);
                    }
                }
            }
        }
    }

    /// Takes the first frame off `bytes` and hands it to the core.
    fn first_frame(&mut self, conn: ConnId, bytes: &[u8], at: Moment) -> One {
        let Some(entry) = self.connections.table.get_mut(conn) else {
            return One::Refused;
        };
        let (order, mut framing) = (&mut entry.order, self.tuning.framing);
        if entry.flags.has(Flags::CHALLENGED) {
            framing.limit = framing.limit.min(UNPROVEN_FRAME_BYTES_MAX);
        }
        let guarded = entry.flags.has(Flags::GUARDED);
        let mut guard = match guarded {
            true => self.connections.guards.get_mut(&conn),
            false => None,
        };
        let (core, fx) = (&mut self.core, &mut self.fx);
        let mut raw = 0;
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let step = match &guard {
                Some(guard) => decode_sealed(framing, order, &guard.open, bytes),
                // Nothing is taken unguarded that is to be guarded.
                None if guarded => Err(DecodeError::new(Abnormal::Tag, 0)),
                None => decode(framing, order, bytes),
            };
            match step {
                Ok(Step::Need(bytes)) => One::Need(bytes),
                Ok(Step::Got { incoming, used }) => {
                    fault::trip(&bytes[..used]);
                    if journal::is_tracing() {
                        let body = &bytes[FRAME_HEADER_BYTES.min(used)..used];
                        journal::received(core.peer(conn), "a frame", body);
                    }
                    let flow = hand_in(core, at, Input::Message { conn, incoming }, fx);
                    if let (Some(guard), true) = (&mut guard, flow != Flow::Wait) {
                        guard.open.advance();
                    }
                    match flow {
                        Flow::Taken => One::Taken(used),
                        Flow::Raw(bytes) => {
                            raw = bytes;
                            One::Taken(used)
                        }
                        Flow::Wait => One::Wait,
                    }
                }
                Err(error) => {
                    if journal::is_tracing() {
                        journal::received(core.peer(conn), "invalid data", bytes);
                    }
                    // There is no room to wait for: this is never turned away.
                    let _ = core.handle(at, Input::Abnormal { conn, error }, fx);
                    One::Refused
                }
            }
        }));
        if raw > 0 {
            entry.set_raw(raw, &mut self.connections.pool);
        }
        self.came_of(conn, "message", handled, at)
    }

    /// Hands the core what `bytes` has of the `raw` bytes that come next.
    fn first_raw(&mut self, conn: ConnId, bytes: &[u8], raw: u64, at: Moment) -> One {
        let piece = &bytes[..bytes.len().min(usize::try_from(raw).unwrap_or(usize::MAX))];
        let Some(entry) = self.connections.table.get_mut(conn) else {
            return One::Refused;
        };
        let (core, fx) = (&mut self.core, &mut self.fx);
        let mut left = raw - piece.len() as u64;
        let handled = catch_unwind(AssertUnwindSafe(|| {
            fault::trip(piece);
            let bytes = piece;
            match hand_in(core, at, Input::Raw { conn, bytes }, fx) {
                Flow::Taken => One::Raw(piece.len()),
                // Whatever was to come, this many come now.
                Flow::Raw(more) => {
                    left = more;
                    One::Raw(piece.len())
                }
                Flow::Wait => One::Wait,
            }
        }));
        if let Ok(One::Raw(_)) = handled {
            entry.set_raw(left, &mut self.connections.pool);
        }
        self.came_of(conn, "raw bytes", handled, at)
    }

    /// Result of an input that may be refused, or panic.
    fn came_of(
        &mut self,
        conn: ConnId,
        what: &str,
        handled: Result<One, Box<dyn Any + Send>>,
        at: Moment,
    ) -> One {
        match handled {
            Ok(One::Wait) => {
                // Set before any effect is looked at, so that no resume can come too early.
                if let Some(entry) = self.connections.table.get_mut(conn) {
                    entry.flags.set(Flags::BACKPRESSURE);
                }
                One::Wait
            }
            Ok(one) => one,
            Err(panic) => {
                self.panicked(format_args!("{}", Of(conn, what)), &*panic);
                self.give_up(conn, at);
                One::Refused
            }
        }
    }

    /// A peer has connected.
    pub(super) fn opened(&mut self, conn: ConnId, peer: std::net::SocketAddr, at: Moment) {
        if !self.guarded(conn, "opening", at, Input::Opened { conn, peer }) {
            self.give_up(conn, at);
            self.apply(at);
            self.close(conn, at);
        }
        self.apply(at);
    }

    /// Closes a connection that has not proved itself, since a new one needs its place.
    pub(super) fn evict(&mut self, conn: ConnId, at: Moment) {
        self.stats.shed_unproven += 1;
        self.connections.forget(conn);
        let end = End::Closed;
        self.guarded(conn, "end", at, Input::Ended { conn, end });
        self.apply(at);
    }

    /// Passes the end of `conn` to the core, and forgets it. Half a frame is dropped.
    fn end(&mut self, conn: ConnId, end: End, at: Moment) {
        self.connections.end(conn, &mut self.stats);
        self.guarded(conn, "end", at, Input::Ended { conn, end });
        self.apply(at);
    }

    /// Tells the core that handling `conn` failed, so that it ends like one with bad data; if
    /// that fails too, that it has ended. The caller closes the socket in any case.
    fn give_up(&mut self, conn: ConnId, at: Moment) {
        let error = DecodeError::new(Abnormal::Internal, 0);
        if !self.guarded(conn, "abnormal", at, Input::Abnormal { conn, error }) {
            let end = End::Reset;
            self.guarded(conn, "end", at, Input::Ended { conn, end });
        }
    }

    /// Hands `input` of a connection to the core; whether it came back.
    fn guarded(&mut self, conn: ConnId, what: &str, at: Moment, input: Input<'_>) -> bool {
        self.handed_in(format_args!("{}", Of(conn, what)), at, input)
    }

    /// Hands `input` to the core, which never turns such away; whether it came back. `what` names it if
    /// it did not.
    pub(super) fn handed_in(
        &mut self,
        what: fmt::Arguments<'_>,
        at: Moment,
        input: Input<'_>,
    ) -> bool {
        let (core, fx) = (&mut self.core, &mut self.fx);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let _ = hand_in(core, at, input, fx);
        }));
        match handled {
            Ok(()) => true,
            Err(panic) => {
                self.panicked(what, &*panic);
                false
            }
        }
    }

    pub(super) fn panicked(&mut self, what: fmt::Arguments<'_>, panic: &(dyn Any + Send)) {
        self.stats.panics += 1;
        let said = panic_message(panic);
        log::error!(target: "panic", "{what} failed: {said}");
    }
}

/// Something of a connection, the handling of which ends it when it fails.
struct Of<'a>(ConnId, &'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connection {}, to be ended: handling its {}",
            self.0.slot, self.1
        )
    }
}

/// The one door to the core for what comes from outside.
fn hand_in(core: &mut Core, at: Moment, input: Input<'_>, fx: &mut Effects) -> Flow {
    #[cfg(test)]
    if let Some(flow) = super::test_double::answers(&input, fx) {
        return flow;
    }
    core.handle(at, input, fx)
}

/// Number of bytes that the next frame needs; a whole or refused frame needs no more.
fn needed(stop: Stop) -> usize {
    match stop {
        Stop::Hungry(bytes) => bytes,
        Stop::Budget | Stop::Waiting | Stop::Gone => 0,
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "it did not say why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_either_kind_says_why() {
        for (panic, said) in [
            (catch_unwind(|| panic!("plain")), "plain"),
            (catch_unwind(|| panic!("number {}", 7)), "number 7"),
        ] {
            assert_eq!(panic_message(&*panic.unwrap_err()), said);
        }
        let odd = catch_unwind(|| std::panic::panic_any(7)).unwrap_err();
        assert_eq!(panic_message(&*odd), "it did not say why");
    }
}
