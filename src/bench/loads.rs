//! The kinds of load, except dispatch, which has a module of its own.

use super::BenchError;
use super::fleet::FleetEvent;
use super::hold::Hold;
use super::leaving::Leaving;
use super::pacer::{GRACE, Pacer};
use super::report::{Disconnected, Round};
use super::schedule::Schedule;
use super::tally::Tally;
use super::trial::{PROGRESS_INTERVAL, Stage};
use crate::limits::BENCH_WAIT_S_MAX;
use crate::time::{Instant, Span};

/// Heartbeats per write in a flood without replies.
const POURED: u64 = 64;
/// The longest wait while work may become due without a socket event.
const STEP: Span = Span::from_millis(10);

impl Stage<'_> {
    /// End of the load.
    fn end(&self, start: Instant) -> Instant {
        start + Span::from_secs_f64(self.plan.asked.seconds)
    }

    fn report_time(&mut self, doing: &'static str, start: Instant) {
        let done = self.fleet.now().since(start).as_millis();
        let of = Span::from_secs_f64(self.plan.asked.seconds).as_millis();
        self.report_progress(doing, start, done, of);
    }

    /// Evenly spread heartbeats. Some hosts may disconnect in the middle.
    pub(super) fn steady(&mut self, start: Instant) -> Result<Option<Disconnected>, BenchError> {
        let end = self.end(start);
        let observed = self.observed.as_ref().ok().filter(|_| self.plan.asked.hold);
        let hold = observed.and_then(Hold::of);
        let mut pacer = Pacer::new(self.plan, start, self.plan.asked.seconds, hold);
        let mut leaving = Leaving::new(self.plan, start);
        loop {
            let now = self.fleet.now();
            let next = leaving
                .as_mut()
                .and_then(|them| them.go(&mut self.fleet, now));
            let latest = end.min(now + PROGRESS_INTERVAL).min(next.unwrap_or(end));
            let until = pacer.send(&mut self.fleet, latest);
            let left = leaving.as_ref().is_none_or(Leaving::is_over);
            let now = self.fleet.now();
            let late = now >= end + GRACE;
            if self.is_over() || (now >= end && left && (late || pacer.is_over())) {
                self.fleet.tally.gave_up(pacer.given_up(now));
                return Ok(leaving.and_then(Leaving::result));
            }
            self.turn(until)?;
            self.report_time("beating", start);
        }
    }

    /// Heartbeats as fast as they are answered, or, without replies, as fast as they are taken.
    pub(super) fn flood(&mut self, start: Instant) -> Result<(), BenchError> {
        self.fleet.gathers = true;
        if self.plan.asked.replies {
            self.flood_answered(start)
        } else {
            self.flood_poured(start)
        }
    }

    /// Keeps a fixed number of heartbeats in flight on each connection.
    fn flood_answered(&mut self, start: Instant) -> Result<(), BenchError> {
        let end = self.end(start);
        let pipeline = self.plan.asked.pipeline as u64;
        for index in 0..self.plan.asked.hosts {
            let now = self.fleet.now();
            self.fleet.beats(index, now, true, pipeline);
        }
        let mut news = Vec::new();
        while self.fleet.now() < end && !self.is_over() {
            let until = end.min(self.fleet.now() + STEP);
            self.turn(until)?;
            self.fleet.take_events(&mut news);
            let answered = |item: &FleetEvent| match item {
                FleetEvent::Answered(index) => Some(*index),
                _ => None,
            };
            for run in news.chunk_by(|one, next| answered(one) == answered(next)) {
                if let Some(index) = answered(&run[0]) {
                    let now = self.fleet.now();
                    self.fleet.beats(index, now, true, run.len() as u64);
                }
            }
            self.report_time("flooding", start);
        }
        Ok(())
    }

    /// Fills each socket in turn until it takes no more.
    fn flood_poured(&mut self, start: Instant) -> Result<(), BenchError> {
        let end = self.end(start);
        let mut ready: Vec<usize> = (0..self.plan.asked.hosts).collect();
        let mut is_ready = vec![true; self.plan.asked.hosts];
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
            self.fleet.take_events(&mut news);
            for item in &news {
                if let FleetEvent::Writable(index) = *item
                    && !std::mem::replace(&mut is_ready[index], true)
                {
                    ready.push(index);
                }
            }
            self.report_time("flooding", start);
        }
        Ok(())
    }

    /// Connections arrive at a rate, send one heartbeat, and close when their place is needed
    /// again.
    pub(super) fn churn(&mut self, start: Instant) -> Result<(), BenchError> {
        self.fleet.gathers = true;
        let plan = self.plan;
        let schedule = Schedule::new(
            start,
            plan.asked.connect_rate_per_s,
            plan.asked.seconds,
            plan.asked.seed,
        );
        let end = self.end(start);
        let mut dues = vec![start; plan.asked.hosts];
        let (mut next, mut news) = (0, Vec::new());
        // Time at which a connection last waited for another. That wait does not count as lateness.
        let (mut held_up_at, mut held_up) = (start, false);
        // A connection that is delayed for longer is dropped, like a late heartbeat.
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
                let place = (next % plan.asked.hosts as u64) as usize;
                if due > self.fleet.now() {
                    until = until.min(due);
                    break;
                }
                let settled = self.fleet.is_live(place) && self.fleet.in_flight(place) == 0;
                held_up = (self.fleet.is_open(place) && !settled)
                    || self.fleet.in_progress() >= plan.asked.connecting;
                if held_up {
                    break;
                }
                self.fleet.close(place);
                self.begin(place, due, held_up_at)?;
                dues[place] = due;
                next += 1;
            }
            self.turn(until)?;
            self.check_first_failure()?;
            self.greet_by(&mut news, |index| dues[index]);
            self.report_time("coming and going", start);
        }
        let due = schedule.due_by(self.fleet.now() - GRACE);
        self.fleet.tally.not_begun(due.saturating_sub(next));
        Ok(())
    }

    /// Opens a connection where connections are the load. Lateness counts from when it was due and
    /// possible.
    fn begin(&mut self, index: usize, due: Instant, could: Instant) -> Result<(), BenchError> {
        let late = self.fleet.now().since(due.max(could));
        self.fleet.tally.late(due, late);
        self.fleet.open(index, due)
    }

    /// Sends one heartbeat for each host that has become live.
    fn greet_by(&mut self, news: &mut Vec<FleetEvent>, due: impl Fn(usize) -> Instant) {
        self.fleet.take_events(news);
        for item in news.iter() {
            if let FleetEvent::Live(index) = *item {
                self.fleet.beat(index, due(index), self.plan.asked.replies);
            }
        }
    }

    /// All hosts connect at once, in rounds.
    pub(super) fn storm(&mut self, start: Instant) -> Result<Vec<Round>, BenchError> {
        self.fleet.gathers = true;
        let end = self.end(start);
        let mut rounds = Vec::new();
        while rounds.is_empty() || self.fleet.now() < end {
            let Some(round) = self.storm_round(start)? else {
                break;
            };
            rounds.push(round);
            for index in 0..self.plan.asked.hosts {
                self.fleet.close(index);
            }
        }
        Ok(rounds)
    }

    /// Runs one round; `None` if the load ends in its middle.
    fn storm_round(&mut self, start: Instant) -> Result<Option<Round>, BenchError> {
        let (hosts, begun) = (self.plan.asked.hosts, self.fleet.now());
        let patience = Span::from_secs(BENCH_WAIT_S_MAX).times(3);
        // A connection that fails or breaks is not waited for, and counts as unanswered.
        let broken = |tally: &Tally| tally.failed + tally.lost;
        let before = broken(&self.fleet.tally);
        let (mut next, mut news, mut connected) = (0, Vec::new(), None);
        loop {
            let now = self.fleet.now();
            while next < hosts && self.fleet.in_progress() < self.plan.asked.connecting {
                // Hosts beyond the first ones wait until there is room.
                self.begin(next, begun, now)?;
                next += 1;
            }
            let until = self.fleet.now() + STEP;
            self.turn(until)?;
            self.check_first_failure()?;
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
                    let is_answered = self.plan.asked.replies && answered && whole;
                    return Ok(Some(Round {
                        connected_ms: connected.as_secs_f64() * 1e3,
                        answered_ms: is_answered.then(|| took.as_secs_f64() * 1e3),
                    }));
                }
            }
            self.report_time("storming", start);
        }
    }
}
