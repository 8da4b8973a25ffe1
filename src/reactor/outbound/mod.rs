//! Outbound connections, to AK devices and to targets of `reach`. Their state machines decide what
//! to dial, send and close; this module does it without waiting.
//!
//! ```text
//!  event ──▶ ready ──▶ queue ──▶ serve: connected? bytes? ──▶ machines ──▶ acts ──▶ sockets
//!                       ▲   a budget each │                       └─ news, notes ─▶ the loop
//!                       └── more to read ─┘
//! ```

mod wire;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mio::{Registry, Token, event};
use slab::Slab;

use super::clock::Clock;
use super::horizon::Horizon;
use super::poller::Woken;
use super::token;
use crate::handlers::Moment;
use crate::handlers::ak::{DeviceRules, Devices};
use crate::handlers::effect::Note;
use crate::handlers::outside::{Act, Failure, Fate, Link, News, Owner, Way, Wishes};
use crate::handlers::polls::Polls;
use crate::handlers::reach::{TargetRules, Targets};
use crate::limits::{DEVICES_PER_TURN_MAX, DIALED_BYTES_PER_TURN_MAX, REACH_PROBES_MAX};
use crate::metrics::{Measured, Metric};
use crate::store::op::{Op, PollsFound};
use crate::time::{Instant, Span};

use wire::{Got, Wire};

/// Bytes read at once that arrived before a request.
const EARLY_BYTES: usize = 1_024;

/// Configured devices and targets.
#[derive(Clone, Debug, Default)]
pub struct OutboundRules {
    /// The devices, in order.
    pub devices: Vec<DeviceRules>,
    /// Interval between two tries of a target.
    pub period: Span,
    /// The targets, in order.
    pub targets: Vec<TargetRules>,
    /// Other nodes may share the store: only the holder of its lease polls a device or target.
    pub is_shared: bool,
}

impl OutboundRules {
    /// Largest number of descriptors in use at once.
    pub fn descriptors(&self) -> usize {
        self.devices.len() + self.targets.len().min(REACH_PROBES_MAX)
    }
}

/// Outbound connections of devices and targets.
#[derive(Debug)]
pub struct Outbound {
    clock: Clock,
    wires: Slab<Wire>,
    places: HashMap<Link, usize>,
    /// Generation of the last wire, which makes events of closed wires recognizable.
    generation: u32,
    queue: VecDeque<Token>,
    devices: Devices,
    targets: Targets,
    polls: Polls,
    /// Other nodes may share the store.
    is_shared: bool,
    wishes: Wishes,
    horizon: Horizon,
    scratch: Box<[u8]>,
    panics: u64,
    is_stopped: bool,
    /// There has been a device or a target. Without one a turn costs nothing.
    is_used: bool,
}

impl Outbound {
    /// Creates a state without devices and targets.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            wires: Slab::new(),
            places: HashMap::new(),
            generation: 0,
            queue: VecDeque::new(),
            devices: Devices::default(),
            targets: Targets::default(),
            polls: Polls::default(),
            is_shared: false,
            wishes: Wishes::default(),
            horizon: Horizon::default(),
            scratch: vec![0; DIALED_BYTES_PER_TURN_MAX].into_boxed_slice(),
            panics: 0,
            is_stopped: false,
            is_used: false,
        }
    }

    /// Sets the devices and targets.
    pub fn set(&mut self, outside: OutboundRules, registry: &Registry, at: Moment) {
        let OutboundRules {
            devices,
            period,
            targets,
            is_shared,
        } = outside;
        if is_shared {
            self.is_shared = true;
            self.devices.need_leases();
            self.targets.need_leases();
            let devices = devices.iter().map(|device| device.name.to_string());
            let targets = targets.iter().map(|target| target.text.clone());
            self.polls.set(devices.chain(targets));
        }
        self.is_used |= !devices.is_empty() || !targets.is_empty();
        self.devices.set(at, devices, &mut self.wishes);
        self.targets.set(at, period, targets, &mut self.wishes);
        // Entries that are new under a name whose lease is held begin at once.
        self.polls.forget_polled();
        self.follow_leases(registry, at);
        self.act(registry, at);
    }

    /// The store has answered a request for leases.
    pub fn leases(&mut self, found: PollsFound, registry: &Registry, at: Moment) {
        self.polls.found(found);
        self.follow_leases(registry, at);
    }

    /// Other nodes share the store, or none does.
    pub fn nodes(&mut self, are_several: bool, at: Moment) {
        self.polls.nodes(at.now, are_several);
    }

    /// Begins to poll what this node has the lease of, and ends the rest.
    fn follow_leases(&mut self, registry: &Registry, at: Moment) {
        if !self.is_shared || self.is_stopped {
            return;
        }
        for (name, is_ours) in self.polls.changes(at.now) {
            self.devices.lease(at, &name, is_ours, &mut self.wishes);
            self.targets.lease(at, &name, is_ours, &mut self.wishes);
        }
        self.act(registry, at);
    }

    /// Ends the connections whose lease has run out, also after a standstill of this process,
    /// before anything is sent.
    fn end_leases(&mut self, registry: &Registry, at: Moment) {
        if self.polls.runs_out(at.now).is_some_and(|out| out <= at.now) {
            self.follow_leases(registry, at);
        }
    }

    /// The devices, to read.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The targets, to read.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Queues the connection of an event, for [`serve`](Self::serve) in the same turn.
    pub fn ready(&mut self, event: &event::Event) {
        let Some(place) = self.place_of(event.token()) else {
            return;
        };
        let wire = &mut self.wires[place];
        wire.note(event);
        if !wire.queued {
            wire.queued = true;
            self.queue.push_back(event.token());
        }
    }

    /// Returns whether a socket has more to read than a turn reads.
    pub fn has_ready(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Reads ready connections, at most as many as a turn allows, each within its budget.
    pub fn serve(&mut self, registry: &Registry, at: Moment) {
        self.end_leases(registry, at);
        for _ in 0..self.queue.len().min(DEVICES_PER_TURN_MAX) {
            let Some(token) = self.queue.pop_front() else {
                break;
            };
            if let Some(place) = self.place_of(token) {
                self.wires[place].queued = false;
                self.serve_one(place, token, registry, at);
            }
        }
    }

    fn serve_one(&mut self, place: usize, token: Token, registry: &Registry, at: Moment) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut left = scratch.len();
        while let Some(wire) = self.wires.get_mut(place).filter(|w| w.token == token) {
            let took = self.clock.now().since(wire.dialed);
            let link = wire.link;
            let (fate, goes_on) = match wire.step(&mut scratch[..left]) {
                Got::Nothing => break,
                Got::Connected => (Fate::Connected { took }, true),
                Got::Bytes { bytes, more } => {
                    left -= bytes;
                    let bytes = &scratch[..bytes];
                    (Fate::Bytes { bytes, took }, more)
                }
                Got::Ended(failure) => {
                    self.forget(place);
                    (Fate::Ended { failure, took }, false)
                }
            };
            self.deliver(link, fate, at);
            self.act(registry, at);
            if !goes_on {
                break;
            }
            if left == 0 {
                self.again(place, token);
                break;
            }
        }
        self.scratch = scratch;
    }

    fn again(&mut self, place: usize, token: Token) {
        if let Some(wire) = self.wires.get_mut(place).filter(|w| w.token == token) {
            wire.queued = true;
            self.queue.push_back(token);
        }
    }

    /// Handles deadlines up to a horizon of its own. Returns the next deadline.
    pub fn tick(&mut self, woken: Woken, registry: &Registry, at: Moment) -> Option<Instant> {
        if self.is_stopped || !self.is_used {
            return None;
        }
        self.end_leases(registry, at);
        let complete = woken.complete && self.queue.is_empty();
        let judge = self.horizon.turn(woken.before, complete, true).min(at.now);
        let devices = self.devices.tick(judge, at, &mut self.wishes);
        let targets = self.targets.tick(judge, at, &mut self.wishes);
        self.act(registry, at);
        let leases = self.polls.runs_out(at.now);
        [devices, targets, leases].into_iter().flatten().min()
    }

    /// Returns whether there has ever been a device or a target.
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    /// Takes the due operations. `session` is the number of the store connection, while there is
    /// one.
    pub fn pull(&mut self, at: Moment, session: Option<u32>) -> Vec<Op> {
        let mut ops = Vec::new();
        if !self.is_stopped && self.is_used {
            self.devices.pull(at, session, &mut ops);
            self.targets.pull(at, session, &mut ops);
            if self.is_shared {
                ops.extend(self.polls.pull(at.now, session));
            }
        } else if self.is_stopped {
            ops.extend(self.polls.give_up(at.now));
        }
        ops
    }

    /// Time of the next write.
    pub fn write_due(&self, now: Instant) -> Option<Instant> {
        if self.is_stopped {
            return None;
        }
        let all = [
            self.devices.write_due(now),
            self.targets.write_due(now),
            self.polls.due(now),
        ];
        all.into_iter().flatten().min()
    }

    /// Takes the events and log lines since the last call.
    pub fn take_events(&mut self) -> (Vec<News>, Vec<Note>) {
        let Wishes { news, notes, .. } = &mut self.wishes;
        (std::mem::take(news), std::mem::take(notes))
    }

    /// Closes all connections and dials no more.
    pub fn stop(&mut self) {
        self.is_stopped = true;
        self.wires.clear();
        self.places.clear();
        self.queue.clear();
    }

    /// Reports a result to the state machine of its link. A panic there ends that link only.
    fn deliver(&mut self, link: Link, fate: Fate<'_>, at: Moment) {
        let (devices, targets) = (&mut self.devices, &mut self.targets);
        let wishes = &mut self.wishes;
        let handled = catch_unwind(AssertUnwindSafe(|| match link.owner {
            Owner::Device => devices.fate(at, link, fate, wishes),
            Owner::Target => targets.fate(at, link, fate, wishes),
        }));
        if handled.is_err() {
            self.panics += 1;
            log::error!(target: "panic", "a link to be closed: handling what came of it failed");
            self.wishes.acts.push(Act::Hang { link });
            match link.owner {
                Owner::Device => self.devices.give_up(at, link),
                Owner::Target => self.targets.give_up(at, link),
            }
        }
    }

    /// Executes the machines' actions. An immediate failure is reported to them, and may lead to
    /// more actions.
    fn act(&mut self, registry: &Registry, at: Moment) {
        while !self.wishes.acts.is_empty() {
            for act in std::mem::take(&mut self.wishes.acts) {
                match act {
                    Act::Dial { link, way, to } => self.dial(link, way, to, registry, at),
                    Act::Send { link, bytes } => self.send(link, &bytes, at),
                    Act::Hang { link } => {
                        if let Some(place) = self.places.get(&link) {
                            self.forget(*place);
                        }
                    }
                }
            }
        }
    }

    fn dial(&mut self, link: Link, way: Way, to: SocketAddr, registry: &Registry, at: Moment) {
        let entry = self.wires.vacant_entry();
        let place = entry.key();
        self.generation = self.generation.wrapping_add(1);
        let token = token::outbound(self.generation, place);
        let dialed = self.clock.now();
        match Wire::dial(link, token, way, to, dialed, registry) {
            Ok(wire) => {
                entry.insert(wire);
                self.places.insert(link, place);
            }
            Err(failure) => {
                let took = self.clock.now().since(dialed);
                self.deliver(link, Fate::Ended { failure, took }, at);
            }
        }
    }

    fn send(&mut self, link: Link, bytes: &[u8], at: Moment) {
        let Some(&place) = self.places.get(&link) else {
            return;
        };
        if !self.is_quiet(place, link, at) {
            return;
        }
        if let Err(failure) = self.wires[place].send(bytes) {
            let took = self.clock.now().since(self.wires[place].dialed);
            self.forget(place);
            self.deliver(link, Fate::Ended { failure, took }, at);
        }
    }

    /// Reads what arrived before a request, so that it is not taken for its answer. Returns whether
    /// the request must still be sent.
    fn is_quiet(&mut self, place: usize, link: Link, at: Moment) -> bool {
        let mut early = [0; EARLY_BYTES];
        loop {
            let wire = &mut self.wires[place];
            match wire.step(&mut early) {
                Got::Nothing | Got::Connected => return true,
                Got::Bytes { bytes, more } => {
                    let acts = self.wishes.acts.len();
                    let bytes = &early[..bytes];
                    self.deliver(link, Fate::Early { bytes }, at);
                    let is_over = self.wishes.acts.len() > acts;
                    if is_over || !more {
                        return !is_over;
                    }
                }
                Got::Ended(failure) => {
                    let took = self.clock.now().since(wire.dialed);
                    self.forget(place);
                    self.deliver(link, Fate::Ended { failure, took }, at);
                    return false;
                }
            }
        }
    }

    /// Forgets a link. Closing a descriptor ends its registration, since no other refers to the
    /// same socket.
    fn forget(&mut self, place: usize) {
        if let Some(wire) = self.wires.try_remove(place) {
            self.places.remove(&wire.link);
        }
    }

    /// Place of the open wire of `token`.
    fn place_of(&self, token: Token) -> Option<usize> {
        let place = token::outbound_place(token);
        let wire = self.wires.get(place)?;
        (wire.token == token).then_some(place)
    }
}

impl From<&std::io::Error> for Failure {
    fn from(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        match (error.kind(), error.raw_os_error()) {
            (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => Self::NoRoom,
            (E::AddrNotAvailable | E::AddrInUse, _) => Self::NoRoom,
            (E::ConnectionRefused, _) => Self::Refused,
            (E::ConnectionReset | E::BrokenPipe | E::ConnectionAborted, _) => Self::Reset,
            (E::HostUnreachable | E::NetworkUnreachable | E::TimedOut, _) => Self::Unreachable,
            (E::WouldBlock, _) => Self::NotTaken,
            _ => Self::Other,
        }
    }
}

impl Measured for Outbound {
    const METRICS: &'static [Metric<Self>] = &[Metric::new(
        "anthill_out_panics_total",
        "Panics that ended one outbound connection.",
        |out| out.panics,
    )];
}
