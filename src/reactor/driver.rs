//! The core, the effects of its last inputs, and the guard against its panics.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{fault, journal};
use crate::codec::{Abnormal, DecodeError, Framing, Order, Step, decode, decode_sealed};
use crate::handlers::effect::{Effect, Effects};
use crate::handlers::{Core, End, Flow, Input, Moment};
use crate::ids::ConnId;
use crate::keys::Guard;
use crate::limits::FRAME_HEADER_BYTES;

/// Effects for which memory is kept while the load is calm.
const EFFECTS_KEPT: usize = 1_024;

/// Result of passing bytes of a connection to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The core took `used` bytes. The next `raw` bytes are raw.
    Bytes { used: usize, raw: u64 },
    /// The first frame is incomplete and has this many bytes.
    Need(usize),
    /// The core has no room for the frame now.
    Wait,
    /// The bytes are invalid, and the core was notified.
    Refused,
}

/// The core with its pending effects. A panic in the core ends one connection or one request.
#[derive(Debug)]
pub struct Driver {
    core: Core,
    effects: Effects,
    panics: u64,
}

impl Driver {
    pub fn new(core: Core) -> Self {
        Self {
            core,
            effects: Effects::default(),
            panics: 0,
        }
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Runs `work` on the core, which may add effects.
    pub fn with<T>(&mut self, work: impl FnOnce(&mut Core, &mut Effects) -> T) -> T {
        work(&mut self.core, &mut self.effects)
    }

    /// The same where a panic must not end the loop: returns `None` after one. `what` names the
    /// work.
    pub fn guarded<T>(
        &mut self,
        what: fmt::Arguments<'_>,
        work: impl FnOnce(&mut Core, &mut Effects) -> T,
    ) -> Option<T> {
        let (core, effects) = (&mut self.core, &mut self.effects);
        let worked = catch_unwind(AssertUnwindSafe(|| work(core, effects)));
        worked.map_err(|panic| self.panicked(what, &*panic)).ok()
    }

    /// Passes an input that the core never refuses. Returns false after a panic.
    pub fn give(&mut self, what: fmt::Arguments<'_>, at: Moment, input: Input<'_>) -> bool {
        let given = self.guarded(what, |core, effects| {
            let _ = hand_in(core, at, input, effects);
        });
        given.is_some()
    }

    /// Passes an input of `conn` that the core never refuses. Returns false after a panic.
    pub fn give_of(&mut self, conn: ConnId, what: &str, at: Moment, input: Input<'_>) -> bool {
        self.give(format_args!("{}", Of(conn, what)), at, input)
    }

    /// Notifies the core that handling `conn` failed, so that it ends like one with invalid data.
    /// If that fails too, the core is notified of its end. The caller closes the socket in any
    /// case.
    pub fn give_up(&mut self, conn: ConnId, at: Moment) {
        let error = DecodeError::new(Abnormal::Internal, 0);
        if !self.give_of(conn, "abnormal", at, Input::Abnormal { conn, error }) {
            let end = End::Reset;
            self.give_of(conn, "end", at, Input::Ended { conn, end });
        }
    }

    /// Decodes the first frame of `bytes` and passes it to the core. With `is_guarded` only frames
    /// with a valid tag are taken.
    pub fn frame(
        &mut self,
        conn: ConnId,
        (framing, order): (Framing, &mut Order),
        (is_guarded, mut guard): (bool, Option<&mut Guard>),
        bytes: &[u8],
        at: Moment,
    ) -> Taken {
        let (core, effects) = (&mut self.core, &mut self.effects);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let step = match &guard {
                Some(guard) => decode_sealed(framing, order, &guard.open, bytes),
                None if is_guarded => Err(DecodeError::new(Abnormal::Tag, 0)),
                None => decode(framing, order, bytes),
            };
            match step {
                Ok(Step::Need(bytes)) => Taken::Need(bytes),
                Ok(Step::Got { incoming, used }) => {
                    fault::trip(&bytes[..used]);
                    if journal::is_tracing() {
                        let body = &bytes[FRAME_HEADER_BYTES.min(used)..used];
                        journal::received(core.peer(conn), "a frame", body);
                    }
                    let flow = hand_in(core, at, Input::Message { conn, incoming }, effects);
                    if let (Some(guard), true) = (&mut guard, flow != Flow::Wait) {
                        guard.open.advance();
                    }
                    match flow {
                        Flow::Taken => Taken::Bytes { used, raw: 0 },
                        Flow::Raw(raw) => Taken::Bytes { used, raw },
                        Flow::Wait => Taken::Wait,
                    }
                }
                Err(error) => {
                    if journal::is_tracing() {
                        journal::received(core.peer(conn), "invalid data", bytes);
                    }
                    let _ = core.handle(at, Input::Abnormal { conn, error }, effects);
                    Taken::Refused
                }
            }
        }));
        self.refused_by_panic(conn, "message", handled, at)
    }

    /// Passes the core what `bytes` has of the next `raw` raw bytes.
    pub fn raw(&mut self, conn: ConnId, bytes: &[u8], raw: u64, at: Moment) -> Taken {
        let bytes = &bytes[..bytes.len().min(usize::try_from(raw).unwrap_or(usize::MAX))];
        let used = bytes.len();
        let (core, effects) = (&mut self.core, &mut self.effects);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            fault::trip(bytes);
            match hand_in(core, at, Input::Raw { conn, bytes }, effects) {
                Flow::Taken => Taken::Bytes {
                    used,
                    raw: raw - used as u64,
                },
                // The core changes how many bytes follow.
                Flow::Raw(raw) => Taken::Bytes { used, raw },
                Flow::Wait => Taken::Wait,
            }
        }));
        self.refused_by_panic(conn, "raw bytes", handled, at)
    }

    fn refused_by_panic(
        &mut self,
        conn: ConnId,
        what: &str,
        handled: Result<Taken, Box<dyn Any + Send>>,
        at: Moment,
    ) -> Taken {
        handled.unwrap_or_else(|panic| {
            self.panicked(format_args!("{}", Of(conn, what)), &*panic);
            self.give_up(conn, at);
            Taken::Refused
        })
    }

    fn panicked(&mut self, what: fmt::Arguments<'_>, panic: &(dyn Any + Send)) {
        self.panics += 1;
        log::error!(target: "panic", "{what} failed: {}", panic_message(panic));
    }

    /// Number of panics so far.
    pub fn panics(&self) -> u64 {
        self.panics
    }

    pub fn has_effects(&self) -> bool {
        !self.effects.list.is_empty()
    }

    /// Takes the pending effects, in order. Their memory goes back with
    /// [`return_list`](Self::return_list).
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects.list)
    }

    /// Returns the memory of applied effects.
    pub fn return_list(&mut self, list: Vec<Effect>) {
        self.effects.list = list;
    }

    #[cfg(test)]
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn trim(&mut self) {
        self.effects.list.shrink_to(EFFECTS_KEPT);
        self.core.tidy();
    }
}

/// The part of a connection whose handling failed, in the words of the log.
struct Of<'a>(ConnId, &'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(conn, what) = self;
        write!(
            f,
            "connection {}, to be ended: handling its {what}",
            conn.slot
        )
    }
}

/// The only entrance to the core for input from outside.
fn hand_in(core: &mut Core, at: Moment, input: Input<'_>, effects: &mut Effects) -> Flow {
    #[cfg(test)]
    if let Some(flow) = super::test_double::answers(&input, effects) {
        return flow;
    }
    core.handle(at, input, effects)
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
    fn panics_of_both_kinds_have_a_message() {
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
