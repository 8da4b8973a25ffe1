//! One trial: everybody connects, heartbeats are sent as the mode says, and what the other end used
//! meanwhile is looked at.

use std::io;

use super::BenchError;
use super::fleet::{Fleet, Setup};
use super::plan::{Mode, Plan};
use super::proc::{Observed, Sample};
use super::report::ServerUse;
use super::schedule::{Schedule, shuffled};
use super::tally::Tally;
use super::watch::{Progress, Watch};
use crate::limits::{BENCH_SENDS_PER_TURN_MAX, BENCH_WAIT_S_MAX};
use crate::time::{Instant, Span};

/// Connections of one loopback address: below what the usual range of ports allows.
const PER_SOURCE: u64 = 20_000;
/// Between two words to whoever looks on.
const TELL: Span = Span::from_millis(100);
/// The CPU time of the other end is looked at in steps of this while it comes to rest.
const REST_STEP: Span = Span::from_millis(40);
/// It rests when it uses less than this part of a step.
const REST_PART: u64 = 10;
/// It comes to rest within this, or is measured as it is.
const REST_MAX: Span = Span::from_secs(3);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// A server.
    Server,
    /// The floor, which welcomes nobody.
    Floor,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Trial {
    /// By the load generator.
    pub tally: Tally,
    /// How long all hosts took to connect, in seconds.
    pub connecting_s: f64,
    /// For how long heartbeats were sent, in seconds.
    pub beating_s: f64,
    /// CPU the load generator used meanwhile, in seconds.
    pub client_cpu_s: f64,
    /// What the other end used, or why that is not known.
    pub server: Result<ServerUse, String>,
}

/// Runs the load of the plan against what listens at its server's address.
///
/// # Errors
/// When nobody is there or everybody is lost.
pub fn run(
    plan: &Plan,
    observed: Result<Observed, String>,
    other: Other,
    watch: &mut dyn Watch,
) -> Result<Trial, BenchError> {
    let setup = Setup {
        server: plan.server,
        hosts: plan.hosts,
        identified: plan.identified,
        push: plan.mode == Mode::Dispatch,
        strict: other == Other::Server,
        sources: plan.sources,
        per_source: PER_SOURCE,
    };
    let mut stage = Stage {
        plan,
        fleet: Fleet::new(setup)?,
        observed,
        told: Instant::ZERO,
        watch,
    };
    let before = stage.sample();
    let start = stage.fleet.now();
    stage.connect()?;
    let connecting_s = stage.fleet.now().since(start).as_secs_f64();
    stage.rest()?;
    let connected = stage.sample();
    let client = Observed::of(std::process::id());
    let client_before = client.sample();
    let start = stage.fleet.now();
    stage.steady(start)?;
    let beating_s = stage.fleet.now().since(start).as_secs_f64();
    let client_after = client.sample();
    stage.drain()?;
    stage.rest()?;
    let after = stage.sample();
    let server = stage.used(before, connected, after);
    let mut tally = stage.fleet.tally;
    Ok(Trial {
        client_cpu_s: between(client_before, client_after),
        tally: std::mem::take(&mut tally),
        connecting_s,
        beating_s,
        server,
    })
}

fn between(before: io::Result<Sample>, after: io::Result<Sample>) -> f64 {
    match (before, after) {
        (Ok(before), Ok(after)) => after.cpu().as_secs_f64() - before.cpu().as_secs_f64(),
        _ => 0.0,
    }
}

/// A trial under way.
struct Stage<'a> {
    plan: &'a Plan,
    fleet: Fleet,
    observed: Result<Observed, String>,
    told: Instant,
    watch: &'a mut dyn Watch,
}

impl Stage<'_> {
    /// Everybody connects, at the rate of the plan.
    fn connect(&mut self) -> Result<(), BenchError> {
        let hosts = self.plan.hosts;
        let start = self.fleet.now();
        let rate = self.plan.connect_rate;
        let schedule = Schedule::new(start, rate, hosts as f64 / rate, self.plan.seed);
        let mut next = 0;
        loop {
            let mut until = self.fleet.now() + TELL;
            while next < hosts && self.fleet.in_progress() < self.plan.connecting {
                // Rounding may leave the last ones without a moment of their own: they are due.
                let due = schedule.due(next as u64).unwrap_or(start);
                if due > self.fleet.now() {
                    until = due.min(until);
                    break;
                }
                self.fleet.open(next, due)?;
                next += 1;
            }
            if next == hosts && self.fleet.in_progress() == 0 {
                break;
            }
            self.turn(until)?;
            self.none_at_all()?;
            self.tell("connecting", start, self.fleet.tally.made, hosts as u64);
        }
        self.none_at_all()
    }

    /// The first failure while nothing has gone well is the end: nobody is there.
    fn none_at_all(&self) -> Result<(), BenchError> {
        let tally = &self.fleet.tally;
        if tally.made > 0 || tally.failed == 0 {
            return Ok(());
        }
        Err(BenchError::Unreachable {
            server: self.plan.server,
            why: self
                .fleet
                .first_failure()
                .unwrap_or("no connection")
                .to_owned(),
        })
    }

    /// Heartbeats evenly spread.
    fn steady(&mut self, start: Instant) -> Result<(), BenchError> {
        let plan = self.plan;
        let schedule = Schedule::new(start, plan.rate, plan.seconds, plan.seed);
        let order = shuffled(plan.hosts, plan.seed);
        let end = start + Span::from_secs_f64(plan.seconds);
        let mut turn = 0;
        loop {
            let mut until = end.min(self.fleet.now() + TELL);
            for _ in 0..BENCH_SENDS_PER_TURN_MAX {
                let Some(due) = schedule.due(turn) else {
                    break;
                };
                if due > self.fleet.now() {
                    until = until.min(due);
                    break;
                }
                let host = order[(turn % order.len() as u64) as usize];
                self.fleet.beat(host, due, plan.replies);
                turn += 1;
                // More may be due: then nothing is waited for.
                until = until.min(due);
            }
            let now = self.fleet.now();
            if now >= end && turn >= schedule.turns() {
                return Ok(());
            }
            self.turn(until)?;
            self.tell(
                "beating",
                start,
                now.since(start).as_millis(),
                seconds_ms(plan),
            );
        }
    }

    /// Waits for the replies that are missing, and for what no socket took.
    fn drain(&mut self) -> Result<(), BenchError> {
        let start = self.fleet.now();
        let patience = Span::from_secs(BENCH_WAIT_S_MAX);
        while self.fleet.all_in_flight() > 0 || self.fleet.has_unsent() {
            let now = self.fleet.now();
            if now.since(start) > patience {
                break;
            }
            self.turn(now + Span::from_millis(10))?;
            self.tell("waiting for replies", start, 0, 0);
        }
        for index in 0..self.plan.hosts {
            for _ in 0..self.fleet.in_flight(index) {
                self.fleet.tally.error("unanswered");
            }
        }
        Ok(())
    }

    /// Waits until the other end has nothing more to do, as far as it can be looked into.
    fn rest(&mut self) -> Result<(), BenchError> {
        let start = self.fleet.now();
        let mut used = self.cpu();
        while self.fleet.now().since(start) < REST_MAX {
            let until = self.fleet.now() + REST_STEP;
            while self.fleet.now() < until {
                self.turn(until)?;
            }
            let now = self.cpu();
            match (used, now) {
                (Some(before), Some(after))
                    if after.as_nanos() - before.as_nanos()
                        > REST_STEP.part(REST_PART).as_nanos() =>
                {
                    used = now;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn cpu(&self) -> Option<Span> {
        Some(self.sample().ok()?.cpu())
    }

    fn sample(&self) -> Result<Sample, String> {
        let observed = self.observed.as_ref().map_err(Clone::clone)?;
        let pid = observed.pid();
        let cannot = |error| format!("its process {pid} cannot be looked into: {error}");
        observed.sample().map_err(cannot)
    }

    fn used(
        &self,
        before: Result<Sample, String>,
        connected: Result<Sample, String>,
        after: Result<Sample, String>,
    ) -> Result<ServerUse, String> {
        let pid = self.observed.as_ref().map_err(Clone::clone)?.pid();
        let tally = &self.fleet.tally;
        let samples = [before?, connected?, after?];
        Ok(ServerUse::between(pid, &samples, tally.made, tally.sent))
    }

    /// A turn of the fleet; everybody lost is the end.
    fn turn(&mut self, until: Instant) -> Result<(), BenchError> {
        self.fleet.turn(until)?;
        let tally = &self.fleet.tally;
        if tally.lost > 0 && self.fleet.live() == 0 && self.fleet.in_progress() == 0 {
            return Err(BenchError::Gone {
                server: self.plan.server,
                lost: tally.lost,
                why: tally.errors_in_words(),
            });
        }
        Ok(())
    }

    fn tell(&mut self, doing: &'static str, start: Instant, done: u64, of: u64) {
        let now = self.fleet.now();
        if now.since(self.told) < TELL {
            return;
        }
        self.told = now;
        let tally = &self.fleet.tally;
        self.watch.progress(&Progress {
            doing,
            done,
            of,
            connected: self.fleet.live() as u64,
            sent: tally.sent,
            answered: tally.answered,
            errors: tally.errors_in_all(),
            elapsed: now.since(start),
        });
    }
}

fn seconds_ms(plan: &Plan) -> u64 {
    Span::from_secs_f64(plan.seconds).as_millis()
}
