//! The core under connections that say anything at any time, its invariants looked at all along.

use std::net::SocketAddr;

use super::Script;
use crate::codec::{ByteOrder, Framing, Order, Step, decode, decode_body};
use crate::handlers::effect::{Effect, Effects};
use crate::handlers::request::{NewTask, Request};
use crate::handlers::{Core, End, Flow, Input, Moment, Rules};
use crate::ids::ConnId;
use crate::limits::FRAME_BYTES_MAX;
use crate::store::op::{Op, Outcome, Settled, Stored};
use crate::time::{Instant, Span, UnixMs};

/// Connections at most: few, so that they meet.
const CONNS: u8 = 6;

/// Rules as the server ships them, but for a small table.
pub(super) fn rules() -> Rules {
    Rules {
        hosts_max: 4,
        result_bytes: 4_096,
        seed: 7,
        ..Rules::default()
    }
}

/// One connection of the script.
struct Conn {
    id: ConnId,
    order: Order,
    input: Vec<u8>,
    raw: u64,
    waits: bool,
}

/// The core, its store and its connections.
struct World {
    core: Core,
    now: Instant,
    conns: [Option<Conn>; CONNS as usize],
    generation: u32,
    epoch: u64,
}

/// Fuzz target `session`: whatever connections, datagrams, callers and the store bring, in whatever order,
/// the invariants of the core hold.
///
/// # Panics
/// When one does not.
pub fn session(data: &[u8]) {
    let mut world = World {
        core: Core::new(rules(), 1),
        now: Instant::ZERO + Span::from_secs(1),
        conns: [const { None }; CONNS as usize],
        generation: 0,
        epoch: 0,
    };
    world.outcome(Outcome::Held(Vec::new()));
    world.outcome(Outcome::Tasks(Vec::new()));
    let mut session = 1;
    world.outcome(Outcome::Available {
        session,
        lease_clear: true,
        lost_data: false,
    });
    let mut script = Script(data);
    while let Some(what) = script.byte() {
        let slot = usize::from(script.byte().unwrap_or_default() % CONNS);
        match what % 9 {
            0 => world.open(slot),
            1..=3 => world.bytes(slot, script.bytes()),
            4 => world.end(slot, script.byte().unwrap_or_default()),
            5 => world.pass(u64::from(script.byte().unwrap_or_default())),
            6 => world.datagram(slot, script.bytes()),
            7 => world.ask(script.bytes()),
            _ => {
                world.outcome(Outcome::Unavailable("fuzzed".to_owned()));
                session += 1;
                world.outcome(Outcome::Held(Vec::new()));
                world.outcome(Outcome::Available {
                    session,
                    lease_clear: true,
                    lost_data: session > 1,
                });
            }
        }
        world.settle();
        world.core.assert_invariants();
    }
}

impl World {
    fn at(&self) -> Moment {
        Moment {
            now: self.now,
            wall: UnixMs(1_800_000_000_000 + self.now.as_nanos() / 1_000_000),
        }
    }

    fn peer(slot: usize) -> SocketAddr {
        // Two from each address, so that plain ones share a host.
        SocketAddr::from(([127, 0, 0, 1 + (slot / 2) as u8], 1_000 + slot as u16))
    }

    fn input(&mut self, input: Input<'_>) -> Flow {
        let mut fx = Effects::default();
        let flow = self.core.handle(self.at(), input, &mut fx);
        self.apply(fx);
        flow
    }

    fn apply(&mut self, fx: Effects) {
        for effect in fx.list {
            match effect {
                Effect::Close { conn } => {
                    for place in &mut self.conns {
                        place.take_if(|held| held.id == conn);
                    }
                }
                Effect::Resume { conn } => {
                    let waiting = self.conns.iter_mut().flatten();
                    for held in waiting.filter(|held| held.id == conn) {
                        held.waits = false;
                    }
                }
                _ => {}
            }
        }
    }

    fn outcome(&mut self, outcome: Outcome) {
        assert_eq!(self.input(Input::Outcome(outcome)), Flow::Taken);
    }

    fn open(&mut self, slot: usize) {
        if self.conns[slot].is_some() {
            return;
        }
        self.generation += 1;
        let id = ConnId {
            slot: slot as u32,
            generation: self.generation,
        };
        self.conns[slot] = Some(Conn {
            id,
            order: Order::Unknown,
            input: Vec::new(),
            raw: 0,
            waits: false,
        });
        let peer = Self::peer(slot);
        let _ = self.input(Input::Opened { conn: id, peer });
    }

    fn end(&mut self, slot: usize, how: u8) {
        let Some(conn) = self.conns[slot].take() else {
            return;
        };
        let end = match how % 3 {
            0 => End::Closed,
            1 => End::Reset,
            _ => End::Dead,
        };
        let _ = self.input(Input::Ended { conn: conn.id, end });
    }

    /// Passes received bytes on as a reactor does.
    fn bytes(&mut self, slot: usize, bytes: &[u8]) {
        let Some(conn) = &mut self.conns[slot] else {
            return;
        };
        conn.input.extend_from_slice(bytes);
        while self.first(slot) {}
    }

    /// Handles the first of what a connection has; whether more may come of it.
    fn first(&mut self, slot: usize) -> bool {
        let Some(mut conn) = self.conns[slot].take() else {
            return false;
        };
        let (id, input) = (conn.id, std::mem::take(&mut conn.input));
        if conn.waits || input.is_empty() {
            conn.input = input;
            self.conns[slot] = Some(conn);
            return false;
        }
        let framing = Framing {
            order: ByteOrder::Auto,
            limit: FRAME_BYTES_MAX,
        };
        let mut order = conn.order;
        let raw = conn.raw;
        self.conns[slot] = Some(conn);
        let (flow, used) = if raw > 0 {
            let piece = &input[..input.len().min(usize::try_from(raw).unwrap_or(usize::MAX))];
            let bytes = piece;
            let flow = self.input(Input::Raw { conn: id, bytes });
            (flow, piece.len())
        } else {
            match decode(framing, &mut order, &input) {
                Ok(Step::Need(_)) => {
                    if let Some(conn) = &mut self.conns[slot] {
                        (conn.order, conn.input) = (order, input);
                    }
                    return false;
                }
                Ok(Step::Got { incoming, used }) => {
                    (self.input(Input::Message { conn: id, incoming }), used)
                }
                Err(error) => {
                    let _ = self.input(Input::Abnormal { conn: id, error });
                    assert!(self.conns[slot].is_none(), "abnormal data closes");
                    return false;
                }
            }
        };
        let Some(conn) = &mut self.conns[slot] else {
            return false;
        };
        conn.order = order;
        match flow {
            Flow::Wait => {
                conn.waits = true;
                conn.input = input;
                return false;
            }
            Flow::Raw(more) => conn.raw = more,
            Flow::Taken => conn.raw = raw.saturating_sub(used as u64).min(raw),
        }
        conn.input = input[used..].to_vec();
        true
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Span::from_secs(seconds);
        let mut fx = Effects::default();
        let at = self.at();
        let next = self.core.tick(at.now, at, &mut fx);
        assert!(next.is_none_or(|next| next > at.now), "{next:?}");
        self.apply(fx);
        let mut fx = Effects::default();
        let _ = self.core.take_sends(at, 64, &mut Vec::new(), &mut fx);
        self.apply(fx);
    }

    fn datagram(&mut self, slot: usize, bytes: &[u8]) {
        if let Ok(incoming) = decode_body(bytes) {
            let from = Self::peer(slot);
            let _ = self.input(Input::Datagram { from, incoming });
        }
    }

    fn ask(&mut self, key: &[u8]) {
        let ask = Request::Dispatch(NewTask {
            key: String::from_utf8_lossy(key).into_owned(),
            commands: vec![("uptime".to_owned(), 1.0)],
            hosts: None,
            queue: key.len() % 2 == 1,
            request: u64::from(self.generation),
            rollout: Default::default(),
        });
        let _ = self.input(Input::Request {
            requester: 1,
            request: ask,
        });
        let mut fx = Effects::default();
        while self.core.go_on(self.at(), 1, &mut fx) {}
        self.apply(fx);
    }

    /// The store takes whatever it is given.
    fn settle(&mut self) {
        while let Some(batch) = self.core.pull(self.at(), 64) {
            for op in batch.ops {
                if let Some(outcome) = self.run(op) {
                    self.outcome(outcome);
                }
            }
        }
    }

    fn run(&mut self, op: Op) -> Option<Outcome> {
        let result = Ok(());
        Some(match op {
            Op::Online(op) => {
                self.epoch += 1;
                let epoch = self.epoch;
                Outcome::Presence {
                    ticket: op.ticket,
                    settled: Settled::claimed(epoch),
                }
            }
            Op::Offline(op) => Outcome::Presence {
                ticket: op.ticket,
                settled: Settled::Released,
            },
            Op::Inventory(op) => Outcome::Inventory {
                origins: op.origins,
                ticket: op.ticket,
                result,
            },
            Op::Labels(op) => Outcome::Labels {
                ticket: op.ticket,
                place: op.place,
                result,
            },
            Op::Seen(_) => Outcome::Seen,
            Op::Audit(_) => Outcome::Audited,
            Op::TaskStates(_) => Outcome::StatesWritten,
            Op::Progress(op) => Outcome::Report {
                origin: op.origin,
                result,
            },
            Op::Answer(op) => Outcome::Report {
                origin: op.origin,
                result,
            },
            Op::Result(op) => Outcome::Report {
                origin: op.origin,
                result,
            },
            Op::Dispatch(op) => Outcome::Dispatched {
                request: op.request,
                stored: Stored::Whole,
            },
            _ => return None,
        })
    }
}
