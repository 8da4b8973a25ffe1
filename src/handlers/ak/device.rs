//! One device: its connection, its request, its availability and its freshness.

use std::mem;

use crate::codec::ak::{Code, Frame, Parser, Refusal, Reply, UNKNOWN, emit_request};
use crate::handlers::Moment;
use crate::handlers::effect::Note;
use crate::handlers::outside::{Act, Link, News, Owner, Wishes};
use crate::limits::{
    AK_CONNECT_MS_MAX, AK_CONNECT_MS_MIN, AK_LISTEN_MS, AK_RETRY_MS_MAX, AK_RETRY_MS_MIN,
};
use crate::time::{Instant, Span, UnixMs};

use super::fields::FieldValues;
use super::{DeviceRules, State, Stats, Value};

const REST_MIN: Span = Span::from_millis(AK_RETRY_MS_MIN);
const REST_MAX: Span = Span::from_millis(AK_RETRY_MS_MAX);
const CONNECT_MIN: Span = Span::from_millis(AK_CONNECT_MS_MIN);
const CONNECT_MAX: Span = Span::from_millis(AK_CONNECT_MS_MAX);
const LISTEN: Span = Span::from_millis(AK_LISTEN_MS);

/// Activity of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Another node polls it, or may do so.
    StandBy,
    /// Idle until then.
    Resting { until: Instant },
    /// It waits for its turn to be dialled.
    Waiting,
    /// It is being dialled.
    Connecting { deadline: Instant },
    /// It has just been connected. Bytes before the first request are no reply.
    Listening { until: Instant },
    /// It is connected without an open request.
    Idle,
    /// A request is open.
    Asking {
        /// Index of the command.
        command: usize,
        /// Deadline of the reply.
        deadline: Instant,
        /// Number of STX bytes before the request: its reply has a later one.
        begun: u64,
    },
}

impl Phase {
    pub(super) const fn is_linked(self) -> bool {
        !matches!(self, Self::StandBy | Self::Resting { .. } | Self::Waiting)
    }
}

/// Context for handling one device.
pub(super) struct Turn<'a> {
    pub(super) at: Moment,
    pub(super) link: Link,
    pub(super) out: &'a mut Wishes,
    pub(super) stats: &'a mut Stats,
}

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) rules: DeviceRules,
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// The earliest deadline in the wheel.
    pub(super) armed: Option<Instant>,
    parser: Parser,
    /// End of the rest after the last connection, on standby.
    left: Instant,
    /// Length of the next rest.
    rest: Span,
    /// The next command of the round; the number of commands after the last.
    next: usize,
    /// Start of the round.
    round: Instant,
    /// A command to be sent before the round continues: `ASTF` after a change of the status, or a
    /// request that was lost with its connection.
    ahead: Option<usize>,
    /// A reply has arrived on this connection.
    has_answered: bool,
    /// The last connection attempt failed.
    was_unreachable: bool,
    /// The device answers; unknown before the first attempt.
    answers: Option<bool>,
    /// Time of the last good reply, or of the start.
    fresh: Instant,
    is_stale: bool,
    pub(super) since: UnixMs,
    pub(super) reason: Option<String>,
    pub(super) status: u8,
    pub(super) last_good: UnixMs,
    pub(super) values: Vec<Option<Value>>,
    /// Commands, a bit each, whose values are not written yet.
    pub(super) values_changed: u32,
    /// Commands, a bit each, whose refusal or fields must be written.
    pub(super) marks_changed: u32,
    /// The time of the last good reply must be written.
    pub(super) good_changed: bool,
    /// Other fields must be written.
    pub(super) facts_changed: bool,
    /// Time of the last full write.
    pub(super) all_written: Instant,
    /// Its hash has been written since the store connected.
    pub(super) written_whole: bool,
}

impl Device {
    pub(super) fn new(rules: DeviceRules, at: Moment) -> Self {
        Self {
            values: vec![None; rules.commands.len()],
            rules,
            generation: 0,
            phase: Phase::Resting { until: at.now },
            armed: None,
            parser: Parser::default(),
            left: at.now,
            rest: REST_MIN,
            next: 0,
            round: at.now,
            ahead: None,
            has_answered: false,
            was_unreachable: false,
            answers: None,
            fresh: at.now,
            is_stale: false,
            since: at.wall,
            reason: None,
            status: 0,
            last_good: UnixMs(0),
            values_changed: 0,
            marks_changed: 0,
            good_changed: false,
            facts_changed: true,
            all_written: at.now,
            written_whole: false,
        }
    }

    pub(super) fn link(&self, slot: u32) -> Link {
        Link {
            owner: Owner::Device,
            slot,
            generation: self.generation,
        }
    }

    pub(super) fn state(&self) -> State {
        match (self.answers, self.is_stale) {
            (Some(true), false) => State::Up,
            (Some(true), true) => State::Stale,
            _ => State::Down,
        }
    }

    pub(super) fn is_polled(&self) -> bool {
        self.phase != Phase::StandBy
    }

    /// It is known whether the device answers.
    pub(super) fn is_tried(&self) -> bool {
        self.answers.is_some()
    }

    pub(super) fn is_changed(&self) -> bool {
        self.facts_changed || self.good_changed || self.values_changed | self.marks_changed != 0
    }

    /// Next deadline.
    pub(super) fn deadline(&self) -> Instant {
        let stale = self.fresh + self.rules.stale;
        let phase = match self.phase {
            Phase::Resting { until } | Phase::Listening { until } => Some(until),
            Phase::StandBy | Phase::Waiting => None,
            Phase::Connecting { deadline } | Phase::Asking { deadline, .. } => Some(deadline),
            Phase::Idle => Some(self.round + self.rules.period),
        };
        let stale = (!self.is_stale && self.phase != Phase::StandBy).then_some(stale);
        // Its turn to be dialled depends on the other devices, not on time.
        let never = Instant::from_nanos(u64::MAX);
        phase.into_iter().chain(stale).min().unwrap_or(never)
    }

    /// Excludes an interval without polling from the age of the data. Data read since then do not
    /// get younger than they are.
    pub(super) fn excuse(&mut self, span: Span, now: Instant) {
        self.fresh = (self.fresh + span).min(now);
    }

    /// End of the rest if the connection closed now.
    pub(super) fn rests_until(&self, now: Instant) -> Instant {
        match self.phase {
            Phase::Resting { until } => until,
            Phase::StandBy => self.left,
            Phase::Waiting => now,
            _ => now + REST_MIN,
        }
    }

    /// Sets the earliest time of the first dial.
    pub(super) fn begin_at(&mut self, earliest: Instant) {
        if let Phase::Resting { until } = self.phase
            && self.generation == 0
        {
            let until = until.max(earliest);
            self.phase = Phase::Resting { until };
        }
    }

    /// Another node may poll it from now on. Its values are kept, to be shown without the store.
    pub(super) fn stand_by(&mut self, now: Instant) {
        self.left = self.rests_until(now);
        self.phase = Phase::StandBy;
    }

    /// This node polls it from now on: it begins as after a start.
    pub(super) fn begin(&mut self, at: Moment) {
        let (rules, left) = (self.rules.clone(), self.left);
        *self = Self {
            generation: self.generation,
            armed: self.armed,
            values: std::mem::take(&mut self.values),
            ..Self::new(rules, at)
        };
        let until = left.max(at.now);
        self.phase = Phase::Resting { until };
    }

    pub(super) fn wants_dial(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Resting { until } if until <= now)
    }

    pub(super) fn dial(&mut self, generation: u32, now: Instant) {
        self.generation = generation;
        self.parser = Parser::default();
        let deadline = now + self.rules.timeout.clamp(CONNECT_MIN, CONNECT_MAX);
        self.phase = Phase::Connecting { deadline };
    }

    /// Handles what is due by `judge`.
    pub(super) fn look(&mut self, judge: Instant, turn: &mut Turn<'_>) {
        if self.phase == Phase::StandBy {
            return;
        }
        match self.phase {
            Phase::Connecting { deadline } if deadline <= judge => {
                self.hang(turn);
                self.ended("does not take connections", turn);
            }
            Phase::Asking { deadline, .. } if deadline <= judge => {
                turn.stats.timeouts += 1;
                self.hang(turn);
                self.ended("no answer in time", turn);
            }
            Phase::Listening { until } if until <= judge => {
                self.phase = Phase::Idle;
                // A round continues where the last connection ended. Otherwise commands after a
                // request that ends each connection would never be sent. A finished round begins
                // anew if the device could not be reached: it is down until it replies, and its
                // next round may be a day away.
                let is_over = self.next >= self.rules.commands.len() && self.ahead.is_none();
                if self.next == 0 || (is_over && self.was_unreachable) {
                    self.round = turn.at.now;
                    self.next = 0;
                }
                self.was_unreachable = false;
                self.go_on(turn);
            }
            Phase::Idle => self.go_on(turn),
            _ => {}
        }
        if !self.is_stale && self.fresh + self.rules.stale <= judge {
            let before = self.availability();
            self.is_stale = true;
            let why = format!("no good answer for {} s", self.rules.stale.as_secs_f64());
            self.report_change(before, Some(why), turn);
        }
    }

    pub(super) fn connected(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        let until = turn.at.now + LISTEN;
        self.phase = Phase::Listening { until };
        self.has_answered = false;
    }

    /// Handles the end of the connection. Some devices close it after each reply, and the next
    /// request is lost with it. That request is repeated on the next connection, which shows
    /// whether the device is available.
    pub(super) fn closed(&mut self, why: &str, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Asking { command, .. } if self.has_answered => {
                self.ahead = Some(command);
                turn.stats.failures += 1;
                self.rest(turn.at.now);
            }
            _ => self.ended(why, turn),
        }
    }

    /// Handles the loss of the connection. If a reply was expected, the device is down.
    fn ended(&mut self, why: &str, turn: &mut Turn<'_>) {
        let expected = !matches!(self.phase, Phase::Idle);
        self.was_unreachable |= matches!(self.phase, Phase::Connecting { .. });
        self.rest(turn.at.now);
        if expected {
            turn.stats.failures += 1;
            let before = self.availability();
            self.answers = Some(false);
            self.report_change(before, Some(why.to_owned()), turn);
        }
    }

    /// Rests, longer each time until a good reply arrives.
    pub(super) fn rest(&mut self, now: Instant) {
        self.parser = Parser::default();
        let until = now + self.rest;
        self.rest = self.rest.times(2).min(REST_MAX);
        self.phase = Phase::Resting { until };
    }

    pub(super) fn bytes(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        if self.take(bytes, turn) && self.phase == Phase::Idle {
            self.go_on(turn);
        }
    }

    /// Handles bytes from before the request: they are no reply to it.
    pub(super) fn early(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        let Phase::Asking {
            command, deadline, ..
        } = self.phase
        else {
            return;
        };
        self.phase = Phase::Idle;
        if self.take(bytes, turn) {
            self.phase = Phase::Asking {
                command,
                deadline,
                begun: self.parser.begun(),
            };
        } else {
            self.ahead = Some(command);
            turn.stats.asked -= 1;
        }
    }

    /// Handles received bytes. Returns false if they have ended the connection.
    fn take(&mut self, mut bytes: &[u8], turn: &mut Turn<'_>) -> bool {
        let mut parser = mem::take(&mut self.parser);
        loop {
            let taken = match parser.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(frame)) => self.frame(&frame, turn),
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = taken {
                turn.stats.abnormal += 1;
                let is_told = self.phase != Phase::Idle && self.answers != Some(false);
                if !is_told {
                    self.note(log::Level::Warn, &format!("closed: {why}"), turn);
                }
                self.hang(turn);
                self.ended(&why, turn);
                return false;
            }
        }
        self.parser = parser;
        true
    }

    /// Handles the bytes between STX and ETX: the reply to the request, or an error.
    fn frame(&mut self, frame: &Frame<'_>, turn: &mut Turn<'_>) -> Result<(), String> {
        let reply = frame.reply().map_err(|error| error.to_string())?;
        let code = String::from_utf8_lossy(&reply.code);
        let Phase::Asking { command, begun, .. } = self.phase else {
            return Err(format!("an answer to {code}, which was not asked"));
        };
        let asked = self.rules.commands[command].code;
        if frame.begun <= begun {
            return Err(format!(
                "an answer to {code} that began before {asked} was asked"
            ));
        }
        if reply.code != asked.bytes() && reply.code != UNKNOWN {
            return Err(format!("an answer to {code} where {asked} was asked"));
        }
        self.answered(command, &reply, turn);
        Ok(())
    }

    fn answered(&mut self, command: usize, reply: &Reply<'_>, turn: &mut Turn<'_>) {
        let before = self.availability();
        let refused = Refusal::of(reply);
        self.phase = Phase::Idle;
        self.answers = Some(true);
        self.has_answered = true;
        if refused.is_none() {
            turn.stats.good += 1;
            self.rest = REST_MIN;
            self.fresh = turn.at.now;
            self.is_stale = false;
            self.last_good = turn.at.wall;
            self.good_changed = true;
        } else {
            turn.stats.refused += 1;
        }
        let asked = &self.rules.commands[command];
        let is_about_errors = asked.code == Code::ASTF;
        let named = refused.is_none() && !asked.fields.is_empty();
        let value = Value {
            data: reply.text().into_owned(),
            refused,
            at: turn.at.wall,
            fields: named.then(|| FieldValues::of(&asked.fields, reply.data)),
        };
        self.keep(command, value);
        let why = self.is_stale.then(|| "answers, but refuses".to_owned());
        self.report_change(before, why, turn);
        if let Some(status) = reply.status {
            self.take_status(status, is_about_errors, turn);
        }
    }

    /// Keeps the last reply, and marks what has changed for the store.
    fn keep(&mut self, command: usize, value: Value) {
        let bit = 1 << command;
        let before = self.values[command].as_ref();
        if before.is_none_or(|before| !before.says_the_same(&value)) {
            self.values_changed |= bit;
        }
        if before.is_none_or(|before| !before.is_marked_as(&value)) {
            self.marks_changed |= bit;
        }
        self.values[command] = Some(value);
    }

    /// Reports a change of the error status; the errors themselves are requested next.
    fn take_status(&mut self, status: u8, is_about_errors: bool, turn: &mut Turn<'_>) {
        let before = mem::replace(&mut self.status, status);
        if before == status {
            return;
        }
        self.facts_changed = true;
        turn.stats.status_changes += 1;
        let errors = self.errors_command();
        self.ahead = errors.filter(|_| status != 0 && !is_about_errors);
        let what = format!("error status {status}, was {before}");
        let level = if status == 0 {
            log::Level::Info
        } else {
            log::Level::Warn
        };
        self.note(level, &what, turn);
        turn.out.news.push(News::Device {
            name: self.rules.name.clone(),
            state: self.state().as_str(),
            reason: Some(what),
        });
    }

    fn errors_command(&self) -> Option<usize> {
        let mut commands = self.rules.commands.iter();
        commands.position(|command| command.code == Code::ASTF)
    }

    /// Sends the request that is due, if there is one.
    fn go_on(&mut self, turn: &mut Turn<'_>) {
        if let Some(command) = self.ahead.take() {
            return self.ask(command, turn);
        }
        let due = self.round + self.rules.period;
        if self.next >= self.rules.commands.len() && due <= turn.at.now {
            // A missed round is not made up for.
            let late = turn.at.now.since(due) >= self.rules.period;
            self.round = if late { turn.at.now } else { due };
            self.next = 0;
        }
        if self.next < self.rules.commands.len() {
            let command = self.next;
            self.next += 1;
            self.ask(command, turn);
        }
    }

    fn ask(&mut self, command: usize, turn: &mut Turn<'_>) {
        let rules = &self.rules;
        let mut bytes = Vec::with_capacity(16);
        let code = rules.commands[command].code;
        emit_request(rules.filler, code, rules.channel, &mut bytes);
        let link = turn.link;
        turn.out.acts.push(Act::Send { link, bytes });
        turn.stats.asked += 1;
        self.phase = Phase::Asking {
            command,
            deadline: turn.at.now + rules.timeout,
            begun: self.parser.begun(),
        };
    }

    fn hang(&self, turn: &mut Turn<'_>) {
        let link = turn.link;
        turn.out.acts.push(Act::Hang { link });
    }

    fn availability(&self) -> (Option<bool>, bool) {
        (self.answers, self.is_stale)
    }

    /// Reports changes of availability and freshness since `before`.
    fn report_change(
        &mut self,
        before: (Option<bool>, bool),
        why: Option<String>,
        turn: &mut Turn<'_>,
    ) {
        if before == self.availability() {
            // No event, but the shown reason is that of the current failure, not of the first.
            if self.answers == Some(false) && why != self.reason {
                self.reason = why;
                self.facts_changed = true;
            }
            return;
        }
        let became_stale = self.is_stale && !before.1;
        let state = if became_stale {
            State::Stale
        } else {
            self.state()
        };
        self.facts_changed = true;
        if !(became_stale && self.state() == State::Down) {
            self.since = turn.at.wall;
            self.reason.clone_from(&why);
        }
        let level = if state == State::Up {
            log::Level::Info
        } else {
            log::Level::Warn
        };
        let text = match &why {
            Some(why) => format!("{}: {why}", state.as_str()),
            None => state.as_str().to_owned(),
        };
        self.note(level, &text, turn);
        turn.out.news.push(News::Device {
            name: self.rules.name.clone(),
            state: state.as_str(),
            reason: why,
        });
    }

    fn note(&self, level: log::Level, text: &str, turn: &mut Turn<'_>) {
        turn.out.notes.push(Note {
            level,
            what: "device",
            who: self.rules.name.to_string(),
            text: text.to_owned(),
        });
    }
}
