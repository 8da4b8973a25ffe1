//! AK devices: one request at a time on one connection each, availability, and freshness of their data.
//!
//! ```text
//!  tick ─▶ due devices ─▶ dial, ask, time out, find stale       actions, events
//!  fate ─▶ connected, bytes ─▶ reply ─▶ value, status ─▶ next request
//!  pull ─▶ changes, for the store
//! ```
//!
//! This state machine is beside the core: it knows no host, and the core knows no device.
//! `docs/internals/devices.md` has its states and rules.

mod device;
mod fields;
mod stats;
#[cfg(test)]
mod tests;
mod write;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::codec::ak::{Code, Refusal};
use crate::ids::HostId;
use crate::limits::{
    AK_CONNECTING_MAX, AK_DEVICES_MAX, AK_DIAL_EVERY_MS, AK_STANDSTILL_MS, DEVICES_PER_TURN_MAX,
};
use crate::time::{Instant, Span, UnixMs};
use crate::wheel::Wheel;

use super::Moment;
use super::outside::{Act, Fate, Link, Owner, Way, Wishes};

use device::{Device, Phase};
pub use fields::{Field, FieldKind, FieldValue, FieldValues, Scalar};
pub use stats::Stats;
use write::Pen;

const DIAL_EVERY: Span = Span::from_millis(AK_DIAL_EVERY_MS);
const STANDSTILL: Span = Span::from_millis(AK_STANDSTILL_MS);

/// A device, as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRules {
    /// Name of the device.
    pub name: HostId,
    /// Address of the device.
    pub addr: SocketAddr,
    /// Channel of the requests.
    pub channel: u32,
    /// Commands, in order: at most `AK_COMMANDS_MAX`. No other command is ever sent.
    pub commands: Vec<Command>,
    /// Polling period.
    pub period: Span,
    /// Time limit of a reply.
    pub timeout: Span,
    /// Time without a good reply after which its data are stale.
    pub stale: Span,
    /// The byte behind STX.
    pub filler: u8,
}

/// A command that is sent to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its code.
    pub code: Code,
    /// Names for the words of its reply.
    pub fields: Vec<Field>,
}

/// State of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It replies, and its data are fresh.
    Up,
    /// It does not reply, or has never been reached.
    Down,
    /// It replies, but there was no good reply for too long.
    Stale,
}

impl State {
    /// The state as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Stale => "stale",
        }
    }
}

/// The last reply to a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its data, unchanged.
    pub data: String,
    /// The refusal, if it is one.
    pub refused: Option<Refusal>,
    /// Time of the reply.
    pub at: UnixMs,
    /// Its words by name, if they have names and the reply is no refusal.
    pub fields: Option<FieldValues>,
}

impl Value {
    /// Returns whether the store needs no update after `other`: fields follow from the data.
    fn says_the_same(&self, other: &Self) -> bool {
        self.data == other.data && self.refused == other.refused
    }

    fn is_marked_as(&self, other: &Self) -> bool {
        self.refused == other.refused && self.fields.is_some() == other.fields.is_some()
    }
}

/// A device, as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct DeviceView<'a> {
    device: &'a Device,
}

impl<'a> DeviceView<'a> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a HostId {
        &self.device.rules.name
    }

    /// Address of the device.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.device.rules.addr
    }

    /// State of the device.
    #[must_use]
    pub fn state(&self) -> State {
        self.device.state()
    }

    /// Another node polls the device, or may do so.
    #[must_use]
    pub fn stands_by(&self) -> bool {
        self.device.phase == Phase::StandBy
    }

    /// Reason for not being up.
    #[must_use]
    pub fn reason(&self) -> Option<&'a str> {
        self.device.reason.as_deref()
    }

    /// Time of the last change of state.
    #[must_use]
    pub fn since(&self) -> UnixMs {
        self.device.since
    }

    /// The error status of its last reply.
    #[must_use]
    pub fn error_status(&self) -> u8 {
        self.device.status
    }

    /// Time of the last good reply; zero before the first.
    #[must_use]
    pub fn last_good(&self) -> UnixMs {
        self.device.last_good
    }

    /// Its commands with replies, in order, each with the last one.
    pub fn values(&self) -> impl Iterator<Item = (Code, &'a Value)> + use<'a> {
        let commands = self.device.rules.commands.iter();
        let both = commands.zip(&self.device.values);
        both.filter_map(|(command, value)| Some((command.code, value.as_ref()?)))
    }
}

/// All devices.
#[derive(Debug, Default)]
pub struct Devices {
    slots: Vec<Option<Device>>,
    /// Slots in the order of the configuration.
    order: Vec<u32>,
    wheel: Wheel,
    due: Vec<u32>,
    /// Devices that wait for a dial. After a reload a device may be in the list twice.
    waiting: VecDeque<u32>,
    connecting: usize,
    /// Earliest time of the next dial.
    dial_at: Instant,
    /// Addresses of removed devices, with the end of their rest.
    left: Vec<(SocketAddr, Instant)>,
    generation: u32,
    /// A device is polled only by the node that has its lease.
    is_leased: bool,
    /// Deadline that the last tick returned.
    promised: Option<Instant>,
    pen: Pen,
    stats: Stats,
}

impl Devices {
    /// Takes the devices of a configuration. Unchanged devices keep their connection and values,
    /// others begin anew, and removed ones are dropped. An address that was connected keeps its
    /// rest.
    pub fn set(&mut self, at: Moment, rules: Vec<DeviceRules>, out: &mut Wishes) {
        let before = std::mem::take(&mut self.order);
        for rules in rules {
            let same = before.iter().copied().find(|slot| {
                let device = self.slots[*slot as usize].as_ref();
                device.is_some_and(|device| device.rules == rules)
            });
            match same {
                Some(slot) => self.order.push(slot),
                None => self.begin(at, rules),
            }
        }
        self.left.retain(|(_, until)| *until > at.now);
        for slot in before {
            if !self.order.contains(&slot) {
                self.leave(slot, at.now);
                self.end(slot, out);
            }
        }
        self.rest_of_the_new();
    }

    /// Keeps the end of the rest that the address of a removed device would have after a close now.
    fn leave(&mut self, slot: u32, now: Instant) {
        if let Some(Some(old)) = self.slots.get(slot as usize)
            && old.generation != 0
            && self.left.len() < AK_DEVICES_MAX
        {
            self.left.push((old.rules.addr, old.rests_until(now)));
        }
    }

    /// A new device at the address of an earlier one rests as long as that one would, also after
    /// another reload.
    fn rest_of_the_new(&mut self) {
        for slot in &self.order {
            if let Some(Some(device)) = self.slots.get_mut(*slot as usize)
                && device.phase != Phase::StandBy
            {
                let addr = device.rules.addr;
                let there = self.left.iter().filter(|(left, _)| *left == addr);
                if let Some(until) = there.map(|(_, until)| *until).max() {
                    device.begin_at(until);
                }
            }
        }
    }

    /// From now on devices are polled only with a lease: see [`lease`](Self::lease).
    pub fn need_leases(&mut self) {
        self.is_leased = true;
    }

    /// The lease of the device is this node's, or not any more.
    pub fn lease(&mut self, at: Moment, name: &str, is_ours: bool, out: &mut Wishes) {
        for slot in 0..self.slots.len() as u32 {
            let Some(Some(device)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            let stands_by = device.phase == Phase::StandBy;
            if device.rules.name.as_str() != name || stands_by != is_ours {
                continue;
            }
            if is_ours {
                device.begin(at);
                self.arm(slot, at.now);
                continue;
            }
            self.connecting -= usize::from(matches!(device.phase, Phase::Connecting { .. }));
            if device.phase.is_linked() {
                let link = device.link(slot);
                out.acts.push(Act::Hang { link });
            }
            device.stand_by(at.now);
        }
    }

    fn begin(&mut self, at: Moment, rules: DeviceRules) {
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let mut device = Device::new(rules, at);
        if self.is_leased {
            device.stand_by(at.now);
        }
        self.slots[slot] = Some(device);
        self.order.push(slot as u32);
        self.arm(slot as u32, at.now);
        self.pen.changed(slot as u32, at.now);
    }

    fn end(&mut self, slot: u32, out: &mut Wishes) {
        let Some(device) = self.slots[slot as usize].take() else {
            return;
        };
        self.connecting -= usize::from(matches!(device.phase, Phase::Connecting { .. }));
        if device.phase.is_linked() {
            let link = device.link(slot);
            out.acts.push(Act::Hang { link });
        }
        let name = device.rules.name;
        if device.phase == Phase::StandBy {
            return;
        }
        // A changed device has the same name, and the same key.
        let again = self.iter().any(|view| *view.name() == name);
        self.pen.gone(name, again);
    }

    /// Runs due actions; requests and connection attempts are judged by `judge`, the horizon.
    /// Returns the time of the next call, which may be now.
    pub fn tick(&mut self, judge: Instant, at: Moment, out: &mut Wishes) -> Option<Instant> {
        self.excuse_standstill(at.now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(at.now, &mut due);
        let looked_at = due.len().min(DEVICES_PER_TURN_MAX);
        for slot in due.drain(..looked_at) {
            self.look(slot, judge, at, out);
        }
        self.due = due;
        let dial = self.dial_some(at, out);
        let more = !self.due.is_empty();
        let next = [
            self.wheel.next(),
            self.write_due(at.now),
            dial,
            more.then_some(at.now),
        ];
        self.promised = next.into_iter().flatten().min();
        self.promised
    }

    /// Excludes a standstill of this process from the age of all data.
    fn excuse_standstill(&mut self, now: Instant) {
        let late = self.promised.map(|promised| now.since(promised));
        if let Some(late) = late.filter(|late| *late >= STANDSTILL) {
            for device in self.slots.iter_mut().flatten() {
                device.excuse(late, now);
            }
        }
    }

    /// Handles an event of a link.
    pub fn fate(&mut self, at: Moment, link: Link, fate: Fate<'_>, out: &mut Wishes) {
        let Some(Some(device)) = self.slots.get_mut(link.slot as usize) else {
            return;
        };
        if link.owner != Owner::Device
            || device.generation != link.generation
            || !device.phase.is_linked()
        {
            return;
        }
        let was_connecting = matches!(device.phase, Phase::Connecting { .. });
        let mut turn = device::Turn {
            at,
            link,
            out,
            stats: &mut self.stats,
        };
        match fate {
            Fate::Connected { .. } => device.connected(&mut turn),
            Fate::Bytes { bytes, .. } => device.bytes(bytes, &mut turn),
            Fate::Early { bytes } => device.early(bytes, &mut turn),
            Fate::Ended { failure, .. } => device.closed(failure.as_str(), &mut turn),
        }
        let connecting = matches!(device.phase, Phase::Connecting { .. });
        self.connecting -= usize::from(was_connecting && !connecting);
        self.settle(link.slot, at);
    }

    /// Handles a panic in the handling of this link: the device rests.
    pub fn give_up(&mut self, at: Moment, link: Link) {
        let slot = link.slot;
        if let Some(Some(device)) = self.slots.get_mut(slot as usize) {
            device.rest(at.now);
            self.settle(slot, at);
        }
        // The state of the handling is not known.
        let phases = self.slots.iter().flatten().map(|device| device.phase);
        let connecting = |phase: &Phase| matches!(phase, Phase::Connecting { .. });
        self.connecting = phases.filter(connecting).count();
    }

    /// One device.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<DeviceView<'_>> {
        self.iter().find(|view| view.name().as_str() == name)
    }

    /// All devices, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = DeviceView<'_>> {
        let slots = self.order.iter();
        slots.filter_map(|slot| {
            let device = self.slots.get(*slot as usize)?.as_ref()?;
            Some(DeviceView { device })
        })
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        for view in self.iter() {
            match view.state() {
                _ if view.stands_by() => stats.standby += 1,
                State::Up => stats.up += 1,
                State::Down => stats.down += 1,
                State::Stale => stats.stale += 1,
            }
        }
        stats
    }

    fn look(&mut self, slot: u32, judge: Instant, at: Moment, out: &mut Wishes) {
        let Some(Some(device)) = self.slots.get_mut(slot as usize) else {
            return;
        };
        if device.armed.is_some_and(|armed| armed > at.now) {
            // An earlier deadline was set and has been handled.
            return;
        }
        device.armed = None;
        let was_connecting = matches!(device.phase, Phase::Connecting { .. });
        let link = device.link(slot);
        let mut turn = device::Turn {
            at,
            link,
            out,
            stats: &mut self.stats,
        };
        device.look(judge, &mut turn);
        if device.wants_dial(at.now) {
            device.phase = Phase::Waiting;
            self.waiting.push_back(slot);
        }
        let connecting = matches!(device.phase, Phase::Connecting { .. });
        self.connecting -= usize::from(was_connecting && !connecting);
        self.settle(slot, at);
    }

    /// Sets the next deadline of the device, and queues it to be written if it has changed.
    fn settle(&mut self, slot: u32, at: Moment) {
        let Some(Some(device)) = self.slots.get_mut(slot as usize) else {
            return;
        };
        let deadline = device.deadline();
        if device.is_changed() {
            self.pen.changed(slot, at.now);
        }
        self.arm(slot, deadline);
    }

    fn arm(&mut self, slot: u32, deadline: Instant) {
        if let Some(Some(device)) = self.slots.get_mut(slot as usize)
            && device.armed.is_none_or(|armed| deadline < armed)
        {
            device.armed = Some(deadline);
            self.wheel.insert(deadline, slot);
        }
    }

    /// Dials waiting devices, as far as there is room; returns the time of the next dial.
    fn dial_some(&mut self, at: Moment, out: &mut Wishes) -> Option<Instant> {
        while self.connecting < AK_CONNECTING_MAX {
            let slot = self.waiting.front().copied()?;
            if self.dial_at > at.now {
                return Some(self.dial_at);
            }
            self.waiting.pop_front();
            let Some(Some(device)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            if !matches!(device.phase, Phase::Waiting) {
                continue;
            }
            self.generation = self.generation.wrapping_add(1);
            device.dial(self.generation, at.now);
            let (link, to) = (device.link(slot), device.rules.addr);
            let way = Way::Tcp;
            out.acts.push(Act::Dial { link, way, to });
            self.stats.dials += 1;
            self.connecting += 1;
            self.dial_at = at.now + DIAL_EVERY;
            self.settle(slot, at);
        }
        None
    }
}
