//! The report of a run: one JSON document with stable names and the units in the names; pure.
//!
//! Times are in seconds (`_s`), milliseconds (`_ms`) or microseconds (`_us`), memory in bytes, rates in
//! events a second (`_per_s`). A figure that was not measured is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{Mode, Plan};
use super::proc::Sample;
use super::tally::Tally;
use super::trial::Trial;
use crate::time::Span;

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
pub struct Asked {
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

/// One thread of the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadUse {
    /// Its name.
    pub name: String,
    /// CPU while connecting, in seconds.
    pub connecting_cpu_s: f64,
    /// CPU while heartbeats were sent, in seconds.
    pub beating_cpu_s: f64,
}

/// Resources that the server used, read from `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerUse {
    /// Process id.
    pub pid: u32,
    /// CPU of the loop thread per heartbeat.
    pub loop_cpu_us_per_heartbeat: Option<f64>,
    /// CPU of the store thread per heartbeat.
    pub store_cpu_us_per_heartbeat: Option<f64>,
    /// CPU of all threads per heartbeat.
    pub cpu_us_per_heartbeat: Option<f64>,
    /// CPU of the loop thread per connection: accept, hello and its reply.
    pub loop_cpu_us_per_connection: Option<f64>,
    /// CPU of the store thread per connection.
    pub store_cpu_us_per_connection: Option<f64>,
    /// CPU of all threads per connection.
    pub cpu_us_per_connection: Option<f64>,
    /// Resident memory before the first connection.
    pub resident_bytes_before: u64,
    /// Resident memory when all were connected, before heartbeats; with `--idle` after the first silence.
    pub resident_bytes_connected: u64,
    /// Resident memory at the end, still connected; with `--idle` after the second silence.
    pub resident_bytes_after: u64,
    /// Growth of memory per connection until all were connected; `null` without growth, and where
    /// connections come and go.
    pub memory_bytes_per_connection: Option<f64>,
    /// Growth of memory per connection until the end.
    pub memory_bytes_per_connection_after: Option<f64>,
    /// The server was at rest before the first connection, before the heartbeats and at the end.
    /// Otherwise the figures include other work.
    pub rested: bool,
    /// The threads, the loop first.
    pub threads: Vec<ThreadUse>,
}

impl ServerUse {
    /// Computes the use between three samples: before connecting, connected, after the heartbeats.
    /// In that time `made` connections were established, `held` of them kept, and the heartbeats
    /// sent.
    #[must_use]
    pub fn between(pid: u32, samples: &[Sample; 3], made: u64, held: u64, sent: u64) -> Self {
        let [before, connected, after] = samples;
        let threads = threads(pid, samples);
        let of = |name: &str, part: fn(&ThreadUse) -> f64| {
            let named = threads.iter().skip(1).filter(|thread| thread.name == name);
            named.map(part).sum::<f64>()
        };
        let connecting: fn(&ThreadUse) -> f64 = |thread| thread.connecting_cpu_s;
        let beating: fn(&ThreadUse) -> f64 = |thread| thread.beating_cpu_s;
        let first = |part: fn(&ThreadUse) -> f64| threads.first().map_or(0.0, part);
        let all = |part: fn(&ThreadUse) -> f64| threads.iter().map(part).sum::<f64>();
        let per = |seconds: f64, count: u64| (count > 0).then(|| seconds * 1e6 / count as f64);
        let each = |to: &Sample| a_connection(before.resident, to.resident, held);
        Self {
            pid,
            loop_cpu_us_per_heartbeat: per(first(beating), sent),
            store_cpu_us_per_heartbeat: per(of(STORE, beating), sent),
            cpu_us_per_heartbeat: per(all(beating), sent),
            loop_cpu_us_per_connection: per(first(connecting), made),
            store_cpu_us_per_connection: per(of(STORE, connecting), made),
            cpu_us_per_connection: per(all(connecting), made),
            resident_bytes_before: before.resident,
            resident_bytes_connected: connected.resident,
            resident_bytes_after: after.resident,
            memory_bytes_per_connection: each(connected),
            memory_bytes_per_connection_after: each(after),
            rested: true,
            threads,
        }
    }

    /// Counts the memory of connections from another baseline.
    pub fn measure_from(&mut self, resident_bytes_before: u64, made: u64) {
        self.resident_bytes_before = resident_bytes_before;
        let each = |to| a_connection(resident_bytes_before, to, made);
        self.memory_bytes_per_connection = each(self.resident_bytes_connected);
        self.memory_bytes_per_connection_after = each(self.resident_bytes_after);
    }
}

/// Growth of memory per connection; `None` if earlier memory had room for them.
fn a_connection(before: u64, to: u64, held: u64) -> Option<f64> {
    let grown = to.checked_sub(before).filter(|grown| *grown > 0)?;
    (held > 0).then(|| grown as f64 / held as f64)
}

/// Name of the server's store thread.
const STORE: &str = "store";

/// Use of each thread, the main thread first.
fn threads(pid: u32, [before, connected, after]: &[Sample; 3]) -> Vec<ThreadUse> {
    let used = |id: &u32, from: &Sample, to: &Sample| {
        let at = |sample: &Sample| {
            sample
                .threads
                .get(id)
                .map_or(Span::ZERO, |thread| thread.cpu)
        };
        at(to).as_secs_f64() - at(from).as_secs_f64()
    };
    let mut ids: Vec<&u32> = after.threads.keys().collect();
    ids.sort_by_key(|id| (**id != pid, **id));
    let one = |id: &u32| ThreadUse {
        name: after.threads[id].name.clone(),
        connecting_cpu_s: used(id, before, connected),
        beating_cpu_s: used(id, connected, after),
    };
    ids.into_iter().map(one).collect()
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
pub struct Left {
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
pub struct Stride {
    /// Hosts that have taken the step.
    pub hosts: u64,
    /// Time of the step, by host.
    pub latency: Option<Latency>,
}

/// Result of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dispatched {
    /// Task key.
    pub key: String,
    /// Number of commands.
    pub commands: usize,
    /// Time until the server's answer that the task is stored, in milliseconds. Hosts may have the
    /// task before.
    pub stored_ms: Option<f64>,
    /// The task arrived.
    pub received: Stride,
    /// The host's answer was acknowledged.
    pub answered: Stride,
    /// The end of the last command was acknowledged.
    pub done: Stride,
    /// Number of repeated arrivals.
    pub received_again: u64,
    /// Datagrams, if the task went out by datagram.
    pub datagrams: Option<Datagrams>,
    /// Latency of hosts that the task did not name, with `--apart`.
    pub apart: Option<Latency>,
}

/// One trial, against the server or against the floor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
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
    /// Result of the task of a dispatch.
    pub dispatch: Option<Dispatched>,
    /// Hosts that disconnected at once, with `--leave`.
    pub left: Option<Left>,
}

impl Shown {
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
            dispatch: trial.dispatch.clone().map(|task| Dispatched {
                apart: tally.apart.summary(),
                ..task
            }),
            left: trial.left.map(|left| Left {
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
    pub asked: Asked,
    /// Descriptors of the load generator.
    pub descriptors: Descriptors,
    /// Reason for an early end, else `null`.
    pub ended_early: Option<String>,
    /// Figures of the run; with `--floor`, of the first trial.
    #[serde(flatten)]
    pub shown: Shown,
    /// Comparison with the floor, if it was asked for.
    pub floor: Option<Floored>,
}

/// One trial against the server and one against the floor.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The server's.
    pub server: Shown,
    /// The floor's.
    pub floor: Shown,
}

/// The server's figure divided by the floor's, of each pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Median.
    pub median: f64,
    /// Minimum.
    pub min: f64,
    /// Maximum.
    pub max: f64,
}

impl Ratio {
    /// Summarizes the ratios; `None` for an empty list.
    #[must_use]
    pub fn of(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.retain(|ratio| ratio.is_finite());
        ratios.sort_by(f64::total_cmp);
        let (&min, &max) = (ratios.first()?, ratios.last()?);
        let middle = ratios.len() / 2;
        let median = match ratios.len() % 2 {
            1 => ratios[middle],
            _ => (ratios[middle - 1] + ratios[middle]) / 2.0,
        };
        Some(Self { median, min, max })
    }
}

/// The comparison with the floor.
#[derive(Clone, Debug, Serialize)]
pub struct Floored {
    /// CPU per heartbeat, the server's loop thread to the floor.
    pub loop_cpu_per_heartbeat_ratio: Option<Ratio>,
    /// CPU per heartbeat, all of the server's threads to the floor.
    pub cpu_per_heartbeat_ratio: Option<Ratio>,
    /// CPU per connection, the server's loop thread to the floor.
    pub loop_cpu_per_connection_ratio: Option<Ratio>,
    /// CPU per connection, all of the server's threads to the floor.
    pub cpu_per_connection_ratio: Option<Ratio>,
    /// Memory per connection beyond the floor's: a difference, since the floor has next to none.
    pub memory_bytes_per_connection_beyond: Option<Ratio>,
    /// The trials.
    pub pairs: Vec<Pair>,
}

impl Floored {
    /// Compares these pairs.
    #[must_use]
    pub fn of(pairs: Vec<Pair>) -> Self {
        let each = |server: fn(&ServerUse) -> Option<f64>,
                    floor: fn(&ServerUse) -> Option<f64>,
                    compare: fn(f64, f64) -> f64| {
            let one = |pair: &Pair| {
                let ours = server(pair.server.server_process.as_ref()?)?;
                let theirs = floor(pair.floor.server_process.as_ref()?)?;
                Some(compare(ours, theirs))
            };
            Ratio::of(pairs.iter().filter_map(one).collect())
        };
        let divided: fn(f64, f64) -> f64 = |ours, theirs| ours / theirs;
        let beyond: fn(f64, f64) -> f64 = |ours, theirs| ours - theirs;
        let beat: fn(&ServerUse) -> Option<f64> = |used| used.cpu_us_per_heartbeat;
        let connection: fn(&ServerUse) -> Option<f64> = |used| used.cpu_us_per_connection;
        let memory: fn(&ServerUse) -> Option<f64> = |used| used.memory_bytes_per_connection;
        Self {
            loop_cpu_per_heartbeat_ratio: each(
                |used| used.loop_cpu_us_per_heartbeat,
                beat,
                divided,
            ),
            cpu_per_heartbeat_ratio: each(beat, beat, divided),
            loop_cpu_per_connection_ratio: each(
                |used| used.loop_cpu_us_per_connection,
                connection,
                divided,
            ),
            cpu_per_connection_ratio: each(connection, connection, divided),
            memory_bytes_per_connection_beyond: each(memory, memory, beyond),
            pairs,
        }
    }
}

impl Report {
    /// Builds the report of a run.
    #[must_use]
    pub fn new(plan: &Plan, descriptors: Descriptors, trial: &Trial) -> Self {
        Self {
            bench: 1,
            mode: plan.mode,
            server: plan.server.to_string(),
            asked: Asked {
                hosts: plan.hosts,
                rate_per_s: plan.rate,
                together: plan.together,
                hold: plan.hold,
                seconds: plan.seconds,
                idle_s: plan.idle,
                connect_rate_per_s: plan.connect_rate,
                replies: plan.replies,
                pipeline: plan.pipeline,
                connecting: plan.connecting,
                source: plan.source.clone(),
                cpu: plan.cpu,
                commands: (plan.mode == Mode::Dispatch).then_some(plan.commands.len()),
                // Port 0 means any.
                agent_port: plan.datagrams.filter(|port| *port > 0),
                floor: plan.pairs > 0,
                pairs: (plan.pairs > 0).then_some(plan.pairs),
                identified: plan.identified,
                leave: plan.leave,
                apart: plan.apart,
                datagrams: plan.datagrams.is_some(),
                seed: plan.seed,
            },
            descriptors,
            ended_early: trial.ended_early.clone(),
            shown: Shown::of(trial),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::proc::Thread;

    fn sample(loop_ms: u64, store_ms: u64, resident: u64) -> Sample {
        let thread = |name: &str, ms| Thread {
            name: name.to_owned(),
            cpu: Span::from_millis(ms),
        };
        Sample {
            threads: [
                (9, thread("store", store_ms)),
                (7, thread("anthill", loop_ms)),
            ]
            .into(),
            resident,
        }
    }

    #[test]
    fn a_ratio_is_the_middle_one_and_its_spread() {
        let ratio = Ratio::of(vec![3.0, 1.0, f64::NAN, 2.0, 4.0]).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.5, 1.0, 4.0));
        assert_eq!(Ratio::of(vec![7.0]).unwrap().median, 7.0);
        assert_eq!(Ratio::of(Vec::new()), None);
    }

    #[test]
    fn what_the_server_used_is_told_by_thread_a_heartbeat_and_a_connection() {
        let samples = [
            sample(10, 5, 1_000),
            sample(30, 15, 3_000),
            sample(80, 16, 3_500),
        ];
        let used = ServerUse::between(7, &samples, 10, 10, 1_000);
        assert_eq!(used.threads[0].name, "anthill");
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-6;
        assert!(near(used.loop_cpu_us_per_heartbeat, 50.0), "{used:?}");
        assert!(near(used.store_cpu_us_per_heartbeat, 1.0), "{used:?}");
        assert!(near(used.cpu_us_per_heartbeat, 51.0), "{used:?}");
        assert!(near(used.loop_cpu_us_per_connection, 2_000.0), "{used:?}");
        assert!(near(used.store_cpu_us_per_connection, 1_000.0), "{used:?}");
        assert!(near(used.memory_bytes_per_connection, 200.0), "{used:?}");
        let [before, _, after] = samples.clone();
        let shrunk = ServerUse::between(7, &[after.clone(), before, after], 10, 10, 0);
        assert_eq!(shrunk.memory_bytes_per_connection, None, "{shrunk:?}");
        assert_eq!(shrunk.memory_bytes_per_connection_after, None);
        let nothing = ServerUse::between(7, &samples, 0, 0, 0);
        assert_eq!(nothing.cpu_us_per_heartbeat, None);
        assert_eq!(nothing.memory_bytes_per_connection, None);
    }
}
