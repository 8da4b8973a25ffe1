//! Reachability: each target is probed every period, and a change raises an event.
//!
//! ```text
//!            room among REACH_PROBES_MAX          connected, an answer: up     refused: refused
//!  Resting ──────────────────────────▶ Trying ──┤ no answer in time: down (UDP: up, unless one was wanted)
//!     ▲                                          └──────┐
//!     └────────── until the period is over ─────────────┘
//! ```

mod stats;
#[cfg(test)]
mod tests;
mod write;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::limits::{DIALS_PER_TURN_MAX, REACH_PROBES_MAX, REACH_WAIT_MS_MAX};
use crate::time::{Instant, Span, UnixMs};
use crate::wheel::Wheel;

use super::Moment;
use super::effect::Note;
use super::outside::{Act, Failure, Fate, Link, News, Owner, Way, Wishes};

pub use stats::Stats;
use write::Pen;

const WAIT_MAX: Span = Span::from_millis(REACH_WAIT_MS_MAX);

/// A target, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRules {
    /// The text of the configuration, which is its name.
    pub text: String,
    /// Transport.
    pub way: Way,
    /// Address of the target.
    pub addr: SocketAddr,
    /// A datagram must be answered.
    pub wants_answer: bool,
}

/// State of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was reached.
    Up,
    /// The target refuses connections.
    Refused,
    /// It did not answer, or was not probed yet.
    Down,
}

impl State {
    /// The state as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Refused => "refused",
            Self::Down => "down",
        }
    }
}

/// A target, as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct TargetView<'a> {
    /// The text of the configuration.
    pub target: &'a str,
    /// State of the target.
    pub state: State,
    /// Round-trip time of the last answer, if there was one.
    pub rtt: Option<Span>,
    /// Time of the last change.
    pub since: UnixMs,
    /// Time of the last result; zero before the first.
    pub at: UnixMs,
    /// Another node tries it, or may do so.
    pub stands_by: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Another node tries it, or may do so.
    StandBy,
    Resting {
        until: Instant,
    },
    Waiting,
    Trying {
        deadline: Instant,
    },
}

#[derive(Debug)]
struct Target {
    rules: TargetRules,
    generation: u32,
    phase: Phase,
    armed: Option<Instant>,
    /// Start of the last try.
    tried: Instant,
    /// Its state; `None` before the first try.
    state: Option<State>,
    rtt: Option<Span>,
    since: UnixMs,
    at: UnixMs,
}

impl Target {
    fn link(&self, slot: u32) -> Link {
        Link {
            owner: Owner::Target,
            slot,
            generation: self.generation,
        }
    }

    fn view(&self) -> TargetView<'_> {
        TargetView {
            target: &self.rules.text,
            state: self.state.unwrap_or(State::Down),
            rtt: self.rtt,
            since: self.since,
            at: self.at,
            stands_by: self.phase == Phase::StandBy,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Resting { until } => Some(until),
            Phase::StandBy | Phase::Waiting => None,
            Phase::Trying { deadline } => Some(deadline),
        }
    }
}

/// All targets.
#[derive(Debug, Default)]
pub struct Targets {
    period: Span,
    slots: Vec<Option<Target>>,
    order: Vec<u32>,
    wheel: Wheel,
    due: Vec<u32>,
    waiting: VecDeque<u32>,
    trying: usize,
    generation: u32,
    /// A target is tried only by the node that has its lease.
    is_leased: bool,
    pen: Pen,
    stats: Stats,
}

impl Targets {
    /// Takes the targets of a configuration. States of unchanged targets are kept.
    pub fn set(&mut self, at: Moment, period: Span, rules: Vec<TargetRules>, out: &mut Wishes) {
        let sooner = period < self.period;
        self.period = period;
        let before = std::mem::take(&mut self.order);
        for rules in rules {
            let same = before.iter().copied().find(|slot| {
                let target = self.slots[*slot as usize].as_ref();
                target.is_some_and(|target| target.rules == rules)
            });
            match same {
                Some(slot) => self.order.push(slot),
                None => self.begin(at, rules),
            }
        }
        for slot in before {
            if !self.order.contains(&slot) {
                self.end(at, slot, out);
            } else if sooner {
                self.hurry(slot, at.now);
            }
        }
    }

    /// From now on targets are tried only with a lease: see [`lease`](Self::lease).
    pub fn need_leases(&mut self) {
        self.is_leased = true;
    }

    /// The lease of the target is this node's, or not any more.
    pub fn lease(&mut self, at: Moment, text: &str, is_ours: bool, out: &mut Wishes) {
        for slot in 0..self.slots.len() as u32 {
            let Some(Some(target)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            let stands_by = target.phase == Phase::StandBy;
            if target.rules.text != text || stands_by != is_ours {
                continue;
            }
            if is_ours {
                target.state = None;
                target.phase = Phase::Resting { until: at.now };
                self.settle(slot);
                continue;
            }
            if matches!(target.phase, Phase::Trying { .. }) {
                self.trying -= 1;
                let link = target.link(slot);
                out.acts.push(Act::Hang { link });
            }
            target.phase = Phase::StandBy;
        }
    }

    fn begin(&mut self, at: Moment, rules: TargetRules) {
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Target {
            rules,
            generation: 0,
            phase: match self.is_leased {
                true => Phase::StandBy,
                false => Phase::Resting { until: at.now },
            },
            armed: None,
            tried: at.now,
            state: None,
            rtt: None,
            since: at.wall,
            at: UnixMs(0),
        });
        self.order.push(slot as u32);
        self.settle(slot as u32);
    }

    fn end(&mut self, at: Moment, slot: u32, out: &mut Wishes) {
        let Some(target) = self.slots[slot as usize].take() else {
            return;
        };
        if matches!(target.phase, Phase::Trying { .. }) {
            self.trying -= 1;
            let link = target.link(slot);
            out.acts.push(Act::Hang { link });
        }
        if target.phase != Phase::StandBy {
            self.pen.gone(target.rules.text, at.now);
        }
    }

    /// Applies a shorter period to a target that rests for a longer one.
    fn hurry(&mut self, slot: u32, now: Instant) {
        if let Some(Some(target)) = self.slots.get_mut(slot as usize)
            && let Phase::Resting { until } = target.phase
        {
            let until = until.min(now + self.period);
            target.phase = Phase::Resting { until };
            self.settle(slot);
        }
    }

    /// Runs due actions; silence is judged by `judge`, the horizon. Returns the time of the next
    /// call, which may be now.
    pub fn tick(&mut self, judge: Instant, at: Moment, out: &mut Wishes) -> Option<Instant> {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(at.now, &mut due);
        for slot in due.drain(..) {
            self.look(slot, judge, at, out);
        }
        self.due = due;
        let more = self.dial_some(at, out);
        let next = [
            self.wheel.next(),
            self.pen.due(at.now),
            more.then_some(at.now),
        ];
        next.into_iter().flatten().min()
    }

    /// Handles a result of a link.
    pub fn fate(&mut self, at: Moment, link: Link, fate: Fate<'_>, out: &mut Wishes) {
        let Some(target) = self.tried(link) else {
            return;
        };
        let way = target.rules.way;
        let (state, took) = match fate {
            // Only the dial sends bytes.
            Fate::Early { .. } => return,
            // The socket of a datagram is connected at once, which proves nothing.
            Fate::Connected { .. } if way == Way::Udp => return,
            Fate::Connected { took } | Fate::Bytes { took, .. } => {
                out.acts.push(Act::Hang { link });
                (State::Up, Some(took))
            }
            Fate::Ended {
                failure: Failure::Refused,
                took,
            } => (State::Refused, Some(took)),
            // A shortage of this machine proves nothing about the target.
            Fate::Ended {
                failure: Failure::NoRoom,
                ..
            } => return self.rest(at.now, link.slot),
            Fate::Ended { .. } => (State::Down, None),
        };
        self.found(at, link.slot, state, took, out);
    }

    /// Handles a panic in the handling of this link: the target counts as not probed.
    pub fn give_up(&mut self, at: Moment, link: Link) {
        if self.tried(link).is_some() {
            self.rest(at.now, link.slot);
        }
    }

    /// One target.
    #[must_use]
    pub fn get(&self, target: &str) -> Option<TargetView<'_>> {
        self.iter().find(|view| view.target == target)
    }

    /// All targets, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = TargetView<'_>> {
        let slots = self.order.iter();
        slots.filter_map(|slot| self.slots.get(*slot as usize)?.as_ref().map(Target::view))
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats;
        for view in self.iter() {
            match view.state {
                _ if view.stands_by => stats.standby += 1,
                State::Up => stats.up += 1,
                State::Refused => stats.refused += 1,
                State::Down => stats.down += 1,
            }
        }
        stats
    }

    /// The target of this attempt, if it is still in progress.
    fn tried(&mut self, link: Link) -> Option<&mut Target> {
        let target = self.slots.get_mut(link.slot as usize)?.as_mut()?;
        let current = link.owner == Owner::Target && target.generation == link.generation;
        (current && matches!(target.phase, Phase::Trying { .. })).then_some(target)
    }

    fn look(&mut self, slot: u32, judge: Instant, at: Moment, out: &mut Wishes) {
        let Some(Some(target)) = self.slots.get_mut(slot as usize) else {
            return;
        };
        if target.armed.is_some_and(|armed| armed > at.now) {
            return;
        }
        target.armed = None;
        match target.phase {
            Phase::Resting { until } if until <= at.now => {
                target.phase = Phase::Waiting;
                self.waiting.push_back(slot);
            }
            Phase::Trying { deadline } if deadline <= judge => {
                let link = target.link(slot);
                out.acts.push(Act::Hang { link });
                let silent_is_up = target.rules.way == Way::Udp && !target.rules.wants_answer;
                let state = if silent_is_up { State::Up } else { State::Down };
                self.found(at, slot, state, None, out);
            }
            _ => self.settle(slot),
        }
    }

    fn settle(&mut self, slot: u32) {
        if let Some(Some(target)) = self.slots.get_mut(slot as usize)
            && let Some(deadline) = target.deadline()
            && target.armed.is_none_or(|armed| deadline < armed)
        {
            target.armed = Some(deadline);
            self.wheel.insert(deadline, slot);
        }
    }

    /// Handles the end of an attempt.
    fn found(&mut self, at: Moment, slot: u32, state: State, rtt: Option<Span>, out: &mut Wishes) {
        let Some(Some(target)) = self.slots.get_mut(slot as usize) else {
            return;
        };
        target.rtt = rtt;
        target.at = at.wall;
        if target.state.replace(state) != Some(state) {
            target.since = at.wall;
            let level = match state {
                State::Up => log::Level::Info,
                State::Refused | State::Down => log::Level::Warn,
            };
            out.notes.push(Note {
                level,
                what: "reach",
                who: target.rules.text.clone(),
                text: state.as_str().to_owned(),
            });
            out.news.push(News::Target {
                target: target.rules.text.clone(),
                state: state.as_str(),
            });
        }
        self.pen.changed(slot, at.now);
        self.rest(at.now, slot);
    }

    fn rest(&mut self, now: Instant, slot: u32) {
        let period = self.period;
        self.trying -= 1;
        if let Some(Some(target)) = self.slots.get_mut(slot as usize) {
            let until = (target.tried + period).max(now);
            target.phase = Phase::Resting { until };
        }
        self.settle(slot);
    }

    /// Tries waiting targets, as far as there is room; returns whether there is room for more.
    fn dial_some(&mut self, at: Moment, out: &mut Wishes) -> bool {
        let mut dials = 0;
        while dials < DIALS_PER_TURN_MAX && self.trying < REACH_PROBES_MAX {
            let Some(slot) = self.waiting.pop_front() else {
                return false;
            };
            let Some(Some(target)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            if target.phase != Phase::Waiting {
                continue;
            }
            self.generation = self.generation.wrapping_add(1);
            target.generation = self.generation;
            target.tried = at.now;
            let deadline = at.now + self.period.min(WAIT_MAX);
            target.phase = Phase::Trying { deadline };
            let (link, way, to) = (target.link(slot), target.rules.way, target.rules.addr);
            out.acts.push(Act::Dial { link, way, to });
            self.stats.tries += 1;
            self.trying += 1;
            dials += 1;
            self.settle(slot);
        }
        !self.waiting.is_empty() && self.trying < REACH_PROBES_MAX
    }
}
