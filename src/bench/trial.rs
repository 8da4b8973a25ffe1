//! One trial: all hosts connect, the load runs, and the server's process is measured.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use super::BenchError;
use super::fleet::{Fleet, Setup};
use super::plan::{Mode, Plan};
use super::proc::{Observed, Sample};
use super::report::{Disconnected, DispatchReport, Round, ServerUse};
use super::schedule::Schedule;
use super::tally::Tally;
use super::turns::{TurnTimes, Turns};
use super::watch::{Progress, Watch};
use crate::limits::BENCH_WAIT_S_MAX;
use crate::time::{Instant, Span};

/// Connections per loopback address: far fewer than its ports, so that a free port is found at
/// once.
const PER_SOURCE: u64 = 1_000;
/// Interval between two progress reports.
pub(super) const PROGRESS_INTERVAL: Span = Span::from_millis(100);
/// Interval of the measurements that detect rest.
const REST_STEP: Span = Span::from_millis(40);
/// Number of quiet intervals in a row that count as rest: writes to the store come in bursts.
const REST_STEPS: u32 = 2;
/// An interval is quiet below this fraction of a CPU.
const REST_PART: u64 = 10;
/// Number of failed attempts in a row, without a connected host, after which the server counts as
/// gone.
const FAILURES_MAX: u64 = 50;
/// Longest wait for missing replies after an early end.
const HURRY: Span = Span::from_secs(1);
/// Time limit of the check whether a server that closed all connections is still reachable.
const REACHED_WITHIN: Duration = Duration::from_secs(1);
/// Longest time between the loss of a dying process's connections and that of its listener.
const DYING: Duration = Duration::from_millis(300);
/// Longest wait for rest; afterwards the server is measured as it is.
const REST_MAX: Span = Span::from_secs(3);

/// The other end of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A server.
    Server,
    /// The floor, which sends no hello replies.
    Floor,
}

/// Result of a trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Counters of the load generator.
    pub tally: Tally,
    /// Duration until all hosts were connected, in seconds.
    pub connecting_s: f64,
    /// Duration of the heartbeats, in seconds.
    pub beating_s: f64,
    /// The heartbeats asked for replies.
    pub replies: bool,
    /// CPU that the load generator used in that time, in seconds.
    pub client_cpu_s: Option<f64>,
    /// Use of the server's process, or the reason for the missing measurement.
    pub server: Result<ServerUse, String>,
    /// The rounds of a storm.
    pub rounds: Vec<Round>,
    /// Result of the task.
    pub dispatch: Option<DispatchReport>,
    /// Hosts that disconnected at once.
    pub left: Option<Disconnected>,
    /// Times of the loop's turns, or the reason for the missing measurement.
    pub turns: Result<TurnTimes, String>,
    /// Reason for an early end, if there was one.
    pub ended_early: Option<String>,
}

/// Runs the plan's load against the listener at its address.
///
/// # Errors
/// When no host can connect. If all connections are lost later, the trial says so.
pub fn run(
    plan: &Plan,
    observed: Result<Observed, String>,
    peer: Peer,
    watch: &mut dyn Watch,
) -> Result<Trial, BenchError> {
    let setup = Setup {
        server: plan.server,
        hosts: plan.asked.hosts,
        identified: plan.asked.identified,
        // A floor knows neither keys nor TLS.
        key: plan.fleet_key.clone().filter(|_| peer == Peer::Server),
        tls: plan.tls.clone().filter(|_| peer == Peer::Server),
        push: plan.mode == Mode::Dispatch && plan.datagrams.is_none(),
        datagrams: plan.datagrams,
        strict: peer == Peer::Server,
        sources: plan.sources,
        per_source: (plan.asked.identified && plan.datagrams.is_none()).then_some(PER_SOURCE),
        apart: match plan.asked.apart {
            0 => usize::MAX,
            apart => plan.asked.hosts - apart,
        },
        paced: matches!(plan.mode, Mode::Steady | Mode::Dispatch),
        spins: plan.spins,
    };
    let mut stage = Stage {
        plan,
        fleet: Fleet::new(setup)?,
        observed,
        peer,
        last_progress: Instant::ZERO,
        rested: true,
        over: None,
        watch,
    };
    let mut trial = if plan.mode.connects_first() {
        stage.connected_first()?
    } else {
        stage.connections_only()?
    };
    trial.tally = stage.fleet.tally;
    trial.ended_early = stage.over;
    Ok(trial)
}

/// CPU use of this program up to a moment.
struct Client(io::Result<Sample>);

impl Client {
    fn now() -> Self {
        Self(Observed::of(std::process::id()).sample())
    }

    /// CPU used since then, in seconds.
    fn used(self) -> Option<f64> {
        let (before, after) = (self.0.ok()?, Self::now().0.ok()?);
        Some(after.cpu().as_secs_f64() - before.cpu().as_secs_f64())
    }
}

/// A trial in progress.
pub(super) struct Stage<'a> {
    pub(super) plan: &'a Plan,
    pub(super) fleet: Fleet,
    pub(super) observed: Result<Observed, String>,
    peer: Peer,
    last_progress: Instant,
    /// The server was at rest at every measurement that needs it.
    rested: bool,
    /// Reason for an early end; the work in progress then finishes.
    pub(super) over: Option<String>,
    watch: &'a mut dyn Watch,
}

impl Stage<'_> {
    /// All hosts connect, then the load runs.
    fn connected_first(&mut self) -> Result<Trial, BenchError> {
        self.rest()?;
        let before = self.sample();
        let start = self.fleet.now();
        self.connect()?;
        let connecting_s = self.fleet.now().since(start).as_secs_f64();
        self.idle()?;
        let turns_before = self.turns();
        self.rest()?;
        let connected = self.sample();
        let made = self.fleet.tally.made;
        let (client, start) = (Client::now(), self.fleet.now());
        let mut left = None;
        let dispatch = match self.plan.mode {
            _ if self.is_over() => None,
            Mode::Flood => self.flood(start).map(|()| None)?,
            Mode::Dispatch => self.dispatch(start)?,
            _ => {
                left = self.steady(start)?;
                None
            }
        };
        let beating_s = self.fleet.now().since(start).as_secs_f64();
        let client_cpu_s = client.used();
        self.drain()?;
        self.idle()?;
        self.rest()?;
        let samples = [before, connected, self.sample()];
        let turns = self.turns_since(turns_before);
        // In a dispatch the heartbeats are the smallest part of the work.
        let sent = match self.plan.mode {
            Mode::Dispatch => 0,
            _ => self.fleet.tally.sent,
        };
        let server = self.used(samples, made, made, sent);
        Ok(Trial {
            tally: Tally::default(),
            connecting_s,
            beating_s,
            client_cpu_s,
            server,
            replies: self.plan.asked.replies,
            rounds: Vec::new(),
            dispatch,
            left,
            turns,
            ended_early: None,
        })
    }

    /// The load consists of connections, so all measured use is theirs.
    fn connections_only(&mut self) -> Result<Trial, BenchError> {
        let turns_before = self.turns();
        self.rest()?;
        let before = self.sample();
        let (client, start) = (Client::now(), self.fleet.now());
        let rounds = match self.plan.mode {
            Mode::Storm => self.storm(start)?,
            _ => self.churn(start).map(|()| Vec::new())?,
        };
        let seconds = self.fleet.now().since(start).as_secs_f64();
        let client_cpu_s = client.used();
        self.drain()?;
        self.rest()?;
        let after = self.sample();
        // No connection is kept, so there is no memory per connection.
        let samples = [before, after.clone(), after];
        let turns = self.turns_since(turns_before);
        let server = self.used(samples, self.fleet.tally.made, 0, 0);
        Ok(Trial {
            tally: Tally::default(),
            connecting_s: seconds,
            beating_s: seconds,
            client_cpu_s,
            server,
            replies: self.plan.asked.replies,
            rounds,
            dispatch: None,
            left: None,
            turns,
            ended_early: None,
        })
    }

    /// Connects all hosts at the plan's rate.
    fn connect(&mut self) -> Result<(), BenchError> {
        let hosts = self.plan.asked.hosts;
        let start = self.fleet.now();
        let rate = self.plan.asked.connect_rate_per_s;
        let schedule = Schedule::new(start, rate, hosts as f64 / rate, self.plan.asked.seed);
        let mut next = 0;
        loop {
            let mut until = self.fleet.now() + PROGRESS_INTERVAL;
            while next < hosts && self.fleet.in_progress() < self.plan.asked.connecting {
                // Rounding may leave the last hosts without a due time: they are due at once.
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
            self.check_first_failure()?;
            if self.is_over() {
                return Ok(());
            }
            self.report_progress("connecting", start, self.fleet.tally.made, hosts as u64);
        }
        self.check_first_failure()
    }

    /// Returns the first failure if no connection has succeeded. A server that has room for some
    /// hosts only is not a failure.
    pub(super) fn check_first_failure(&self) -> Result<(), BenchError> {
        let (tally, server) = (&self.fleet.tally, self.plan.server);
        let Some(failure) = self
            .fleet
            .failures
            .first
            .as_ref()
            .filter(|_| tally.failed > 0)
        else {
            return Ok(());
        };
        let why = failure.why.clone();
        match failure.reached {
            _ if tally.made > 0 => Ok(()),
            true if !self.is_hopeless() => Ok(()),
            true => Err(BenchError::Unfit { server, why }),
            false => Err(BenchError::Unreachable { server, why }),
        }
    }

    /// Returns whether no attempt is in progress, or so many have failed that further ones will
    /// fail too.
    fn is_hopeless(&self) -> bool {
        let most = FAILURES_MAX.max(self.plan.asked.hosts as u64);
        self.fleet.in_progress() == 0 || self.fleet.failures.in_a_row >= most
    }

    /// Waits for missing replies and for unsent bytes.
    fn drain(&mut self) -> Result<(), BenchError> {
        let start = self.fleet.now();
        while self.fleet.all_in_flight() > 0 || self.fleet.has_unsent() {
            let now = self.fleet.now();
            let patience = match self.is_over() {
                true => HURRY,
                false => Span::from_secs(BENCH_WAIT_S_MAX),
            };
            if now.since(start) > patience {
                break;
            }
            self.turn(now + Span::from_millis(10))?;
            self.report_progress("waiting for replies", start, 0, 0);
        }
        self.fleet.give_up();
        Ok(())
    }

    /// Sends nothing for the plan's idle time.
    fn idle(&mut self) -> Result<(), BenchError> {
        let start = self.fleet.now();
        let span = Span::from_secs_f64(self.plan.asked.idle_s);
        while self.fleet.now() < start + span && !self.is_over() {
            let until = (start + span).min(self.fleet.now() + PROGRESS_INTERVAL);
            self.turn(until)?;
            let done = self.fleet.now().since(start).as_millis();
            self.report_progress("idle", start, done, span.as_millis());
        }
        Ok(())
    }

    /// Waits until the server is at rest, if its process can be measured.
    fn rest(&mut self) -> Result<(), BenchError> {
        let start = self.fleet.now();
        let mut used = self.cpu();
        let mut still = 0;
        while self.fleet.now().since(start) < REST_MAX && !self.is_over() {
            let until = self.fleet.now() + REST_STEP;
            while self.fleet.now() < until {
                self.turn(until)?;
            }
            let (Some(before), now @ Some(after)) = (used, self.cpu()) else {
                return Ok(());
            };
            let busy = after.as_nanos().saturating_sub(before.as_nanos())
                > REST_STEP.part(REST_PART).as_nanos();
            still = if busy { 0 } else { still + 1 };
            if still == REST_STEPS {
                return Ok(());
            }
            used = now;
        }
        self.rested = self.rested && self.is_over();
        Ok(())
    }

    fn cpu(&self) -> Option<Span> {
        Some(self.sample().ok()?.cpu())
    }

    /// Times of the loop's turns so far. The floor does not count them.
    fn turns(&self) -> Result<Turns, String> {
        match self.peer {
            Peer::Server => Turns::of(&(self.plan.metrics)()?),
            Peer::Floor => Err("the floor has no metrics".to_owned()),
        }
    }

    fn turns_since(&self, before: Result<Turns, String>) -> Result<TurnTimes, String> {
        let before = before?;
        self.turns()?.since(&before)
    }

    fn sample(&self) -> Result<Sample, String> {
        let observed = self.observed.as_ref().map_err(Clone::clone)?;
        let pid = observed.pid();
        let cannot = |error| format!("its process {pid} cannot be measured: {error}");
        observed.sample().map_err(cannot)
    }

    fn used(
        &self,
        [before, connected, after]: [Result<Sample, String>; 3],
        made: u64,
        held: u64,
        sent: u64,
    ) -> Result<ServerUse, String> {
        let pid = self.observed.as_ref().map_err(Clone::clone)?.pid();
        let samples = [before?, connected?, after?];
        let used = ServerUse::between(pid, &samples, made, held, sent);
        Ok(ServerUse {
            rested: self.rested,
            ..used
        })
    }

    /// Runs one turn of the fleet; the loss of all connections ends the trial.
    pub(super) fn turn(&mut self, until: Instant) -> Result<(), BenchError> {
        self.fleet.turn(until)?;
        if self.over.is_none() {
            self.over = self.watch.wants_end();
        }
        if self.over.is_none() && self.is_gone() {
            self.over = Some(self.gone_text());
        }
        Ok(())
    }

    /// Returns whether the trial ends early.
    pub(super) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Returns whether all established connections are lost.
    fn is_gone(&self) -> bool {
        let (tally, fleet) = (&self.fleet.tally, &self.fleet);
        let is_empty = fleet.live() == 0 && fleet.in_progress() == 0;
        let gone = match self.plan.mode.connects_first() {
            true => tally.lost > 0 && is_empty,
            // A server that refuses for a while because it is full is not gone.
            false => {
                let away = fleet
                    .failures
                    .last
                    .as_ref()
                    .is_some_and(|last| !last.reached);
                let many = fleet.failures.in_a_row >= FAILURES_MAX;
                away && many && fleet.live() == 0 && self.is_hopeless()
            }
        };
        gone && tally.made > 0
    }

    fn gone_text(&self) -> String {
        let (tally, server) = (&self.fleet.tally, self.plan.server);
        let who = match self.peer {
            Peer::Server => "server",
            Peer::Floor => "floor",
        };
        let what = match self.plan.mode.connects_first() {
            true => format!(
                "all {} connections are lost ({})",
                tally.lost,
                tally.losses_text()
            ),
            false => format!(
                "{} connections in a row have failed ({})",
                self.fleet.failures.in_a_row,
                self.fleet
                    .failures
                    .last
                    .as_ref()
                    .map_or("no connection", |last| &last.why)
            ),
        };
        let no_answers = self.plan.asked.replies && tally.answered == 0;
        let hint = match no_answers && self.plan.asked.rate_per_s > 0.0 {
            true => ": it may demand a key (--key-file) or TLS (--tls)",
            false => "",
        };
        // A server that closes all connections need not have ended. A server that ends closes some
        // of them before its listener. No event reports the end of the listener, and until then it
        // queues a new connection.
        std::thread::sleep(DYING);
        match TcpStream::connect_timeout(&server, REACHED_WITHIN) {
            Ok(_) => format!("the {who} at {server} is still there, but {what}{hint}"),
            Err(_) => format!("the {who} at {server} went away: {what}"),
        }
    }

    pub(super) fn report_progress(
        &mut self,
        doing: &'static str,
        start: Instant,
        done: u64,
        of: u64,
    ) {
        let now = self.fleet.now();
        if now.since(self.last_progress) < PROGRESS_INTERVAL {
            return;
        }
        self.last_progress = now;
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
