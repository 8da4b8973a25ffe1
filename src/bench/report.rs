//! The report of a run: one JSON document with stable names and the units in the names; pure.
//!
//! Times are in seconds (`_s`), milliseconds (`_ms`) or microseconds (`_us`), memory in bytes,
//! rates in events a second (`_per_s`). A figure that was not measured is `null`.

mod floor;
mod server;

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{Mode, Plan};
use super::tally::Tally;
use super::trial::Trial;
use super::turns::TurnTimes;
pub use floor::{FloorReport, Pair, Ratio};
pub use server::ServerUse;

/// A distribution of times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Number of measurements.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Maximum.
    pub max_us: f64,
}

/// Descriptors of the load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Descriptors {
    /// Descriptors that the plan needs.
    pub needed: u64,
    /// Limit of the process; `null`: none.
    pub limit: Option<u64>,
}

/// The run's options.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// `--hosts`.
    pub hosts: usize,
    /// `--rate`, of all hosts together.
    pub rate_per_s: f64,
    /// `--together`.
    pub together: bool,
    /// `--hold`.
    pub hold: bool,
    /// `--seconds`.
    pub seconds: f64,
    /// `--idle`.
    pub idle_s: f64,
    /// `--connect-rate`.
    pub connect_rate_per_s: f64,
    /// Heartbeats asked for replies.
    pub replies: bool,
    /// `--pipeline`.
    pub pipeline: usize,
    /// `--connecting`.
    pub connecting: usize,
    /// `--source`; `null`: loopback addresses for a loopback server, else the system's choice.
    pub source: Option<String>,
    /// `--cpu`.
    pub cpu: Option<usize>,
    /// `--commands`; `null` but in a dispatch.
    pub commands: Option<usize>,
    /// `--agent-port`; `null` where it has no meaning.
    pub agent_port: Option<u16>,
    /// `--floor`.
    pub floor: bool,
    /// `--pairs`; `null` without `--floor`.
    pub pairs: Option<u32>,
    /// Hosts gave an id.
    pub identified: bool,
    /// Each host had a key of its own.
    pub keyed: bool,
    /// `--tls`.
    pub tls: bool,
    /// `--leave`.
    pub leave: usize,
    /// `--apart`.
    pub apart: usize,
    /// Tasks arrived by datagram.
    pub datagrams: bool,
    /// `--seed`.
    pub seed: u64,
}

/// Connections of a trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Connections {
    /// Connections established, hello included.
    pub made: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Due, but not begun: one of the sides could not hold the rate of a churn.
    pub not_begun: u64,
    /// Connections that the server closed.
    pub lost: u64,
    /// Duration of the first connections of all hosts, in seconds.
    pub seconds: f64,
    /// Connections a second in that time.
    pub made_per_s: f64,
    /// From the due time of a connection to its establishment.
    pub latency: Option<Latency>,
}

/// Heartbeats of a trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heartbeats {
    /// Heartbeats sent.
    pub sent: u64,
    /// Duration of sending, in seconds.
    pub seconds: f64,
    /// Heartbeats sent a second.
    pub sent_per_s: f64,
    /// Due, but not sent: the load generator could not hold the rate.
    pub not_sent: u64,
    /// Heartbeats answered; `null`, as the next two, if none asked for a reply.
    pub answered: Option<u64>,
    /// Replies a second.
    pub answered_per_s: Option<f64>,
    /// Heartbeats that asked for a reply and had none at the end.
    pub unanswered: Option<u64>,
    /// From the due time of a heartbeat until its reply was read, or was no longer awaited.
    pub latency: Option<Latency>,
}

/// The load generator itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Client {
    /// CPU used while heartbeats were sent, in seconds.
    pub cpu_s: Option<f64>,
    /// Lateness of sending, which is part of the latency; in churn and storm, lateness of beginning
    /// connections. `null` in a flood.
    pub late: Option<Latency>,
}

/// A round of a storm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Round {
    /// Time until every host was connected, in milliseconds.
    pub connected_ms: f64,
    /// Time until every host's first heartbeat was answered; `null` without replies, or if some
    /// were missing.
    pub answered_ms: Option<f64>,
}

/// Many hosts that disconnected at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Disconnected {
    /// Number of hosts.
    pub hosts: usize,
    /// Time of the first disconnect, by the wall clock: milliseconds since 1970.
    pub began_unix_ms: f64,
    /// Time until the last disconnect, in milliseconds.
    pub closing_ms: f64,
    /// Latency of the other hosts' heartbeats that were due from the first disconnect until half a
    /// second after the last.
    pub replies: Option<Latency>,
    /// Lateness of the load generator in that time.
    pub late: Option<Latency>,
}

/// Datagrams of a task, by their arrival times at the load generator's system.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Datagrams {
    /// Hosts that received one.
    pub hosts: u64,
    /// From the first to the last, in milliseconds; `null`, as the others, if fewer than two
    /// arrived.
    pub first_to_last_ms: Option<f64>,
    /// The same for as many bare `sendto` calls to the same sockets, once before and once after, in
    /// milliseconds.
    pub bare_first_to_last_ms: [Option<f64>; 2],
    /// The server's time divided by the mean of the bare times.
    pub ratio: Option<f64>,
}

/// One step of a task over all hosts, from the moment of the post.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepTimes {
    /// Hosts that have taken the step.
    pub hosts: u64,
    /// Time of the step, by host.
    pub latency: Option<Latency>,
}

/// Result of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DispatchReport {
    /// Task key.
    pub key: String,
    /// Number of commands.
    pub commands: usize,
    /// Time until the server's answer that the task is stored, in milliseconds. Hosts may have the
    /// task before.
    pub stored_ms: Option<f64>,
    /// The task arrived.
    pub received: StepTimes,
    /// The host's answer was acknowledged.
    pub answered: StepTimes,
    /// The end of the last command was acknowledged.
    pub done: StepTimes,
    /// Number of repeated arrivals.
    pub received_again: u64,
    /// Reports of progress that were acknowledged.
    pub reports: u64,
    /// The same a second, from the first arrival of the task to the last acknowledgement.
    pub reports_per_s: Option<f64>,
    /// Datagrams, if the task went out by datagram.
    pub datagrams: Option<Datagrams>,
    /// Latency of hosts that the task did not name, with `--apart`.
    pub apart: Option<Latency>,
}

/// One trial, against the server or against the floor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialReport {
    /// Connections.
    pub connections: Connections,
    /// Heartbeats.
    pub heartbeats: Heartbeats,
    /// Errors, by kind.
    pub errors: BTreeMap<String, u64>,
    /// The load generator.
    pub client: Client,
    /// The process at the other end, if it is on this machine and may be measured.
    pub server_process: Option<ServerUse>,
    /// Reason for the missing measurement.
    pub server_process_unknown: Option<String>,
    /// The rounds of a storm; empty otherwise.
    pub storm_rounds: Vec<Round>,
    /// Turns of the server's loop while the load was on, if its metrics could be read.
    pub turns: Option<TurnTimes>,
    /// Reason for the missing times.
    pub turns_unknown: Option<String>,
    /// Result of the task of a dispatch.
    pub dispatch: Option<DispatchReport>,
    /// Hosts that disconnected at once, with `--leave`.
    pub left: Option<Disconnected>,
}

impl TrialReport {
    /// Builds the figures of a trial.
    #[must_use]
    pub fn of(trial: &Trial) -> Self {
        let tally = &trial.tally;
        let (server_process, server_process_unknown) = match &trial.server {
            Ok(used) => (Some(used.clone()), None),
            Err(why) => (None, Some(why.clone())),
        };
        Self {
            connections: connections(tally, trial.connecting_s),
            heartbeats: heartbeats(tally, trial.beating_s, trial.replies),
            errors: tally.errors.clone(),
            client: Client {
                cpu_s: trial.client_cpu_s,
                late: tally.late.summary(),
            },
            server_process,
            server_process_unknown,
            storm_rounds: trial.rounds.clone(),
            turns: trial.turns.clone().ok(),
            turns_unknown: trial.turns.clone().err(),
            dispatch: trial.dispatch.clone().map(|task| DispatchReport {
                apart: tally.apart.summary(),
                ..task
            }),
            left: trial.left.map(|left| Disconnected {
                late: tally
                    .meanwhile
                    .as_ref()
                    .and_then(|during| during.late.summary()),
                replies: tally
                    .meanwhile
                    .as_ref()
                    .and_then(|during| during.replies.summary()),
                ..left
            }),
        }
    }
}

fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

fn connections(tally: &Tally, seconds: f64) -> Connections {
    Connections {
        made: tally.made,
        failed: tally.failed,
        not_begun: tally.not_begun,
        lost: tally.lost,
        seconds,
        made_per_s: rate(tally.made, seconds),
        latency: tally.connecting.summary(),
    }
}

fn heartbeats(tally: &Tally, seconds: f64, replies: bool) -> Heartbeats {
    let answered = replies.then_some(tally.answered);
    Heartbeats {
        sent: tally.sent,
        seconds,
        sent_per_s: rate(tally.sent, seconds),
        not_sent: tally.not_sent,
        answered,
        answered_per_s: answered.map(|answered| rate(answered, seconds)),
        unanswered: answered.map(|answered| tally.asked.saturating_sub(answered)),
        latency: tally.replies.summary(),
    }
}

/// The whole document.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this document.
    pub bench: u32,
    /// The kind of load.
    pub mode: Mode,
    /// Address of the server.
    pub server: String,
    /// The run's options.
    pub asked: Options,
    /// Descriptors of the load generator.
    pub descriptors: Descriptors,
    /// Reason for an early end, else `null`.
    pub ended_early: Option<String>,
    /// Figures of the run; with `--floor`, of the first trial.
    #[serde(flatten)]
    pub shown: TrialReport,
    /// Comparison with the floor, if it was asked for.
    pub floor: Option<FloorReport>,
}

impl Report {
    /// Builds the report of a run.
    #[must_use]
    pub fn new(plan: &Plan, descriptors: Descriptors, trial: &Trial) -> Self {
        Self {
            bench: 1,
            mode: plan.mode,
            server: plan.server.to_string(),
            asked: plan.asked.clone(),
            descriptors,
            ended_early: trial.ended_early.clone(),
            shown: TrialReport::of(trial),
            floor: None,
        }
    }

    /// All errors as text, if there were any.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let mut errors = self.shown.errors.clone();
        // The first trial belongs to the first pair.
        for pair in self
            .floor
            .iter()
            .flat_map(|floor| floor.pairs.iter().skip(1))
        {
            for (kind, count) in &pair.server.errors {
                *errors.entry(kind.clone()).or_default() += count;
            }
        }
        let early = self.ended_early.iter();
        let mut words: Vec<String> = early.map(|why| format!("ended early: {why}")).collect();
        words.extend(errors.iter().map(|(kind, count)| format!("{count} {kind}")));
        (!words.is_empty()).then(|| words.join(", "))
    }
}
