//! What a run has shown: one document with stable names, units in the names, pure.
//!
//! Times are in seconds (`_s`), milliseconds (`_ms`) or microseconds (`_us`), memory in bytes, rates in
//! events a second (`_per_s`). What was not measured is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{Mode, Plan};
use super::proc::Sample;
use super::tally::Tally;
use super::trial::Trial;
use crate::time::Span;

/// Times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half took no longer.
    pub p50_us: f64,
    /// 90 of 100 took no longer.
    pub p90_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// 999 of 1,000 took no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Descriptors of the load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Descriptors {
    /// What the plan needs.
    pub needed: u64,
    /// What may be had; `null`: any number.
    pub limit: Option<u64>,
}

/// What was asked for.
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
    /// Whether heartbeats asked for replies.
    pub replies: bool,
    /// `--pipeline`.
    pub pipeline: usize,
    /// `--connecting`.
    pub connecting: usize,
    /// `--source`; `null`: loopback addresses for a loopback server, else whichever the system takes.
    pub source: Option<String>,
    /// `--cpu`.
    pub cpu: Option<usize>,
    /// `--commands`; `null` but in a dispatch.
    pub commands: Option<usize>,
    /// `--agent-port`; `null` where it says nothing.
    pub agent_port: Option<u16>,
    /// `--floor`.
    pub floor: bool,
    /// `--pairs`; `null` without `--floor`.
    pub pairs: Option<u32>,
    /// Whether the hosts gave themselves ids.
    pub identified: bool,
    /// `--leave`.
    pub leave: usize,
    /// `--apart`.
    pub apart: usize,
    /// Whether tasks came by datagram.
    pub datagrams: bool,
    /// `--seed`.
    pub seed: u64,
}

/// Connections of a trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Connections {
    /// That came about, greeting included.
    pub made: u64,
    /// That did not.
    pub failed: u64,
    /// Due, but not begun: neither side could hold the rate of a churn.
    pub not_begun: u64,
    /// That the server ended.
    pub lost: u64,
    /// How long the first ones took, all hosts together, in seconds.
    pub seconds: f64,
    /// Made a second in that time.
    pub made_per_s: f64,
    /// From when a connection should have begun until it had come about.
    pub latency: Option<Latency>,
}

/// Heartbeats of a trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heartbeats {
    /// Sent.
    pub sent: u64,
    /// For how long they were sent, in seconds.
    pub seconds: f64,
    /// Sent a second in that time.
    pub sent_per_s: f64,
    /// Due, but not sent: the load generator could not hold the rate.
    pub not_sent: u64,
    /// Answered; `null`, as the next two, where none asked for a reply.
    pub answered: Option<u64>,
    /// Answered a second in that time.
    pub answered_per_s: Option<f64>,
    /// That asked for a reply and had none at the end.
    pub unanswered: Option<u64>,
    /// From when a heartbeat should have been sent until its reply was read, or was no longer waited for.
    pub latency: Option<Latency>,
}

/// The load generator itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Client {
    /// CPU it used while heartbeats were sent, in seconds.
    pub cpu_s: Option<f64>,
    /// By how much it sent heartbeats late, which is part of the replies' latency; in churn and storm, by how much
    /// it began connections late. In a flood nothing can be late.
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

/// What the server used, read from `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerUse {
    /// Its process.
    pub pid: u32,
    /// CPU of the loop thread a heartbeat, while they were sent.
    pub loop_cpu_us_per_heartbeat: Option<f64>,
    /// CPU of the store thread a heartbeat.
    pub store_cpu_us_per_heartbeat: Option<f64>,
    /// CPU of all threads a heartbeat.
    pub cpu_us_per_heartbeat: Option<f64>,
    /// CPU of the loop thread a connection, while they were made: accept, greeting and its answer.
    pub loop_cpu_us_per_connection: Option<f64>,
    /// CPU of the store thread a connection.
    pub store_cpu_us_per_connection: Option<f64>,
    /// CPU of all threads a connection.
    pub cpu_us_per_connection: Option<f64>,
    /// Resident memory before the first connection.
    pub resident_bytes_before: u64,
    /// Resident memory when all were connected, before heartbeats; with `--idle` after the first silence.
    pub resident_bytes_connected: u64,
    /// Resident memory at the end, still connected; with `--idle` after the second silence.
    pub resident_bytes_after: u64,
    /// What it grew by for each connection until all were connected; `null` where it did not grow, and where
    /// connections come and go.
    pub memory_bytes_per_connection: Option<f64>,
    /// The same until the end.
    pub memory_bytes_per_connection_after: Option<f64>,
    /// Whether it was at rest before the first connection, before the heartbeats and at the end. Where it was
    /// not, other work is in the figures.
    pub rested: bool,
    /// The threads, the loop first.
    pub threads: Vec<ThreadUse>,
}

impl ServerUse {
    /// The uses between three samples: before connecting, connected, after the heartbeats. Meanwhile so many
    /// connections were made, of which so many were held, and so many heartbeats sent.
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

    /// Counts the memory of connections from another beginning.
    pub fn measure_from(&mut self, resident_bytes_before: u64, made: u64) {
        self.resident_bytes_before = resident_bytes_before;
        let each = |to| a_connection(resident_bytes_before, to, made);
        self.memory_bytes_per_connection = each(self.resident_bytes_connected);
        self.memory_bytes_per_connection_after = each(self.resident_bytes_after);
    }
}

/// What memory grew by for each connection. Where it did not grow, what was there before had room for them.
fn a_connection(before: u64, to: u64, held: u64) -> Option<f64> {
    let grown = to.checked_sub(before).filter(|grown| *grown > 0)?;
    (held > 0).then(|| grown as f64 / held as f64)
}

/// What the store thread of a server is called.
const STORE: &str = "store";

/// The uses of each thread, the process's own first.
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
    /// Until everybody was connected, in milliseconds.
    pub connected_ms: f64,
    /// Until everybody's first heartbeat was answered; `null` without replies, or where not all were.
    pub answered_ms: Option<f64>,
}

/// Many hosts went at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Left {
    /// How many.
    pub hosts: usize,
    /// When the first of them went, by the wall clock: milliseconds since 1970.
    pub began_unix_ms: f64,
    /// Until the last had gone, in milliseconds.
    pub closing_ms: f64,
    /// As that of all heartbeats, of those of the others that were due from when the first went until half a
    /// second after the last.
    pub replies: Option<Latency>,
    /// By how much the load generator was late meanwhile.
    pub late: Option<Latency>,
}

/// Datagrams of a task, by when the system of the load generator took them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Datagrams {
    /// Hosts that got one.
    pub hosts: u64,
    /// From the first to the last, in milliseconds; `null`, as the others, where fewer than two came.
    pub first_to_last_ms: Option<f64>,
    /// The same for as many bare `sendto` to the same sockets, once before and once after it, in milliseconds.
    pub bare_first_to_last_ms: [Option<f64>; 2],
    /// The one divided by the mean of the other.
    pub ratio: Option<f64>,
}

/// How far a task has come with everybody, from when it was posted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stride {
    /// Hosts that have come so far.
    pub hosts: u64,
    /// When, by host.
    pub latency: Option<Latency>,
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dispatched {
    /// Its key.
    pub key: String,
    /// Its commands.
    pub commands: usize,
    /// Until the server's answer to the post was there, which says that it is stored, in milliseconds. Hosts may
    /// have it before.
    pub stored_ms: Option<f64>,
    /// It was there.
    pub received: Stride,
    /// The host's answer was acknowledged.
    pub answered: Stride,
    /// The end of the last command was acknowledged.
    pub done: Stride,
    /// It came once more although it had been there.
    pub received_again: u64,
    /// Where it came by datagram.
    pub datagrams: Option<Datagrams>,
    /// The replies' times of hosts that it did not name, with `--apart`.
    pub apart: Option<Latency>,
}

/// One trial, against the server or against the floor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// Connections.
    pub connections: Connections,
    /// Heartbeats.
    pub heartbeats: Heartbeats,
    /// What went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
    /// The load generator.
    pub client: Client,
    /// The process at the other end, where it is on this machine and may be looked into.
    pub server_process: Option<ServerUse>,
    /// Why nothing is known of it.
    pub server_process_unknown: Option<String>,
    /// The rounds of a storm; empty otherwise.
    pub storm_rounds: Vec<Round>,
    /// What became of the task of a dispatch.
    pub dispatch: Option<Dispatched>,
    /// Hosts that went at once, with `--leave`.
    pub left: Option<Left>,
}

impl Shown {
    /// Of what was counted.
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
    /// The version of this document.
    pub bench: u32,
    /// The kind of load.
    pub mode: Mode,
    /// Where the server is.
    pub server: String,
    /// What was asked for.
    pub asked: Asked,
    /// Descriptors of the load generator.
    pub descriptors: Descriptors,
    /// Why it ended before its time; `null` if it did not.
    pub ended_early: Option<String>,
    /// What came of it; with `--floor`, of the first trial.
    #[serde(flatten)]
    pub shown: Shown,
    /// The comparison with the floor, where it was asked for.
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
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Ratio {
    /// Of those there are.
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
    /// CPU a heartbeat, the server's loop thread to the floor.
    pub loop_cpu_per_heartbeat_ratio: Option<Ratio>,
    /// CPU a heartbeat, all of the server's threads to the floor.
    pub cpu_per_heartbeat_ratio: Option<Ratio>,
    /// CPU a connection, the server's loop thread to the floor.
    pub loop_cpu_per_connection_ratio: Option<Ratio>,
    /// CPU a connection, all of the server's threads to the floor.
    pub cpu_per_connection_ratio: Option<Ratio>,
    /// Memory a connection beyond the floor's: a difference, since the floor has next to none.
    pub memory_bytes_per_connection_beyond: Option<Ratio>,
    /// The trials.
    pub pairs: Vec<Pair>,
}

impl Floored {
    /// The comparison of these pairs.
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
    /// The report of a run.
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
                // 0 is any.
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

    /// Everything that went wrong, in words; `None` if nothing did.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let mut errors = self.shown.errors.clone();
        // The first trial is the first pair's.
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
