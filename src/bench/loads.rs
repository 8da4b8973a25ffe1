//! The kinds of load, but for dispatch, which has a room of its own.

use super::BenchError;
use super::fleet::News;
use super::hold::Hold;
use super::leaving::Leaving;
use super::pacer::{GRACE, Pacer};
use super::report::{Left, Round};
use super::schedule::Schedule;
use super::tally::Tally;
use super::trial::{Stage, TELL};
use crate::limits::BENCH_WAIT_S_MAX;
use crate::time::{Instant, Span};

/// Heartbeats written in one go in a flood without replies.
const POURED: u64 = 64;
/// The longest wait where something may have to be done that no socket tells of.
const STEP: Span = Span::from_millis(10);

impl Stage<'_> {
    /// When the load is over.
    fn end(&self, start: Instant) -> Instant {
        start + Span::from_secs_f64(self.plan.seconds)
    }

    fn tell_time(&mut self, doing: &'static str, start: Instant) {
        let done = self.fleet.now().since(start).as_millis();
        let of = Span::from_secs_f64(self.plan.seconds).as_millis();
        self.tell(doing, start, done, of);
    }

    /// Heartbeats evenly spread. In the middle of it some hosts may go.
    pub(super) fn steady(&mut self, start: Instant) -> Result<Option<Left>, BenchError> {
        let end = self.end(start);
        let observed = self.observed.as_ref().ok().filter(|_| self.plan.hold);
        let hold = observed.and_then(Hold::of);
        let mut pacer = Pacer::new(self.plan, start, self.plan.seconds, hold);
        let mut leaving = Leaving::new(self.plan, start);
        loop {
            let now = self.fleet.now();
            let next = leaving
                .as_mut()
                .and_then(|them| them.go(&mut self.fleet, now));
            let latest = end.min(now + TELL).min(next.unwrap_or(end));
            let until = pacer.send(&mut self.fleet, latest);
            let left = leaving.as_ref().is_none_or(Leaving::is_over);
            let now = self.fleet.now();
            let late = now >= end + GRACE;
            if self.is_over() || (now >= end && left && (late || pacer.is_over())) {
                self.fleet.tally.gave_up(pacer.given_up(now));
                return Ok(leaving.and_then(Leaving::told));
            }
            self.turn(until)?;
            self.tell_time("beating", start);
        }
    }

    /// Heartbeats as fast as they are answered, or, without replies, as fast as they are taken.
    pub(super) fn flood(&mut self, start: Instant) -> Result<(), BenchError> {
        self.fleet.gathers = true;
        if self.plan.replies {
            self.flood_answered(start)
        } else {
            self.flood_poured(start)
        }
    }

    /// On each connection so many are on their way; one that is answered makes room for the next.
    fn flood_answered(&mut self, start: Instant) -> Result<(), BenchError> {
        let end = self.end(start);
        let pipeline = self.plan.pipeline as u64;
        for index in 0..self.plan.hosts {
            let now = self.fleet.now();
            self.fleet.beats(index, now, true, pipeline);
        }
        let mut news = Vec::new();
        while self.fleet.now() < end && !self.is_over() {
            let until = end.min(self.fleet.now() + STEP);
            self.turn(until)?;
            self.fleet.take_news(&mut news);
            let answered = |item: &News| match item {
                News::Answered(index) => Some(*index),
                _ => None,
            };
            for run in news.chunk_by(|one, next| answered(one) == answered(next)) {
                if let Some(index) = answered(&run[0]) {
                    let now = self.fleet.now();
                    self.fleet.beats(index, now, true, run.len() as u64);
                }
            }
            self.tell_time("flooding", start);
        }
        Ok(())
    }

    /// Each socket is filled until it takes no more, everybody in turn.
    fn flood_poured(&mut self, start: Instant) -> Result<(), BenchError> {
        let end = self.end(start);
        let mut ready: Vec<usize> = (0..self.plan.hosts).collect();
        let mut is_ready = vec![true; self.plan.hosts];
        let mut news = Vec::new();
        while self.fleet.now() < end && !self.is_over() {
            ready.retain(|&index| {
                let now = self.fleet.now();
                self.fleet.beats(index, now, false, POURED);
                is_ready[index] = self.fleet.is_flushed(index);
                is_ready[index]
            });
            let until = match ready.is_empty() {
                true => end.min(self.fleet.now() + STEP),
                false => Instant::ZERO,
            };
            self.turn(until)?;
            self.fleet.take_news(&mut news);
            for item in &news {
                if let News::Writable(index) = *item
                    && !std::mem::replace(&mut is_ready[index], true)
                {
                    ready.push(index);
                }
            }
            self.tell_time("flooding", start);
        }
        Ok(())
    }

    /// Connections come at a rate, say one heartbeat, and go when their place is wanted again.
    pub(super) fn churn(&mut self, start: Instant) -> Result<(), BenchError> {
        self.fleet.gathers = true;
        let plan = self.plan;
        let schedule = Schedule::new(start, plan.connect_rate, plan.seconds, plan.seed);
        let end = self.end(start);
        let mut dues = vec![start; plan.hosts];
        let (mut next, mut news) = (0, Vec::new());
        // When a connection last had to wait for another: nobody here is late for that.
        let (mut held_up_at, mut held_up) = (start, false);
        // What is held up for longer is given up, as heartbeats are.
        let last = end + GRACE;
        let to_begin = |next, now| next < schedule.turns() && now < last;
        while !self.is_over()
            && (to_begin(next, self.fleet.now())
                || self.fleet.in_progress() > 0
                || self.fleet.now() < end)
        {
            let now = self.fleet.now();
            let mut until = now + STEP;
            held_up_at = if held_up { now } else { held_up_at };
            held_up = false;
            while let Some(due) = schedule.due(next).filter(|_| to_begin(next, now)) {
                let place = (next % plan.hosts as u64) as usize;
                if due > self.fleet.now() {
                    until = until.min(due);
                    break;
                }
                let settled = self.fleet.is_live(place) && self.fleet.in_flight(place) == 0;
                held_up = (self.fleet.is_open(place) && !settled)
                    || self.fleet.in_progress() >= plan.connecting;
                if held_up {
                    break;
                }
                self.fleet.close(place);
                self.begin(place, due, held_up_at)?;
                dues[place] = due;
                next += 1;
            }
            self.turn(until)?;
            self.none_at_all()?;
            self.greet_by(&mut news, |index| dues[index]);
            self.tell_time("coming and going", start);
        }
        let due = schedule.due_by(self.fleet.now() - GRACE);
        self.fleet.tally.not_begun(due.saturating_sub(next));
        Ok(())
    }

    /// Begins a connection where connections are the load: late is what begins after it was due and could.
    fn begin(&mut self, index: usize, due: Instant, could: Instant) -> Result<(), BenchError> {
        let late = self.fleet.now().since(due.max(could));
        self.fleet.tally.late(due, late);
        self.fleet.open(index, due)
    }

    /// Whoever may beat now does, once.
    fn greet_by(&mut self, news: &mut Vec<News>, due: impl Fn(usize) -> Instant) {
        self.fleet.take_news(news);
        for item in news.iter() {
            if let News::Live(index) = *item {
                self.fleet.beat(index, due(index), self.plan.replies);
            }
        }
    }

    /// Everybody at once, again and again.
    pub(super) fn storm(&mut self, start: Instant) -> Result<Vec<Round>, BenchError> {
        self.fleet.gathers = true;
        let end = self.end(start);
        let mut rounds = Vec::new();
        while rounds.is_empty() || self.fleet.now() < end {
            let Some(round) = self.storm_round(start)? else {
                break;
            };
            rounds.push(round);
            for index in 0..self.plan.hosts {
                self.fleet.close(index);
            }
        }
        Ok(rounds)
    }

    /// One round; none where the end comes in its middle.
    fn storm_round(&mut self, start: Instant) -> Result<Option<Round>, BenchError> {
        let (hosts, begun) = (self.plan.hosts, self.fleet.now());
        let patience = Span::from_secs(BENCH_WAIT_S_MAX).times(3);
        // Whose connection fails or breaks waits for no answer any more, and has none.
        let broken = |tally: &Tally| tally.failed + tally.lost;
        let before = broken(&self.fleet.tally);
        let (mut next, mut news, mut connected) = (0, Vec::new(), None);
        loop {
            let now = self.fleet.now();
            while next < hosts && self.fleet.in_progress() < self.plan.connecting {
                // All but the first ones wait until there is room.
                self.begin(next, begun, now)?;
                next += 1;
            }
            let until = self.fleet.now() + STEP;
            self.turn(until)?;
            self.none_at_all()?;
            if self.is_over() {
                return Ok(None);
            }
            self.greet_by(&mut news, |_| begun);
            let took = self.fleet.now().since(begun);
            if next == hosts && self.fleet.in_progress() == 0 {
                let connected = *connected.get_or_insert(took);
                let answered = self.fleet.all_in_flight() == 0;
                if answered || took > patience {
                    let whole = broken(&self.fleet.tally) == before;
                    let heard = self.plan.replies && answered && whole;
                    return Ok(Some(Round {
                        connected_ms: connected.as_secs_f64() * 1e3,
                        answered_ms: heard.then(|| took.as_secs_f64() * 1e3),
                    }));
                }
            }
            self.tell_time("storming", start);
        }
    }
}
