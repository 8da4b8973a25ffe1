//! Runs many operations at once, each of which may take several steps.
//!
//! ```text
//!            wave 0              wave 1
//!  host a    Online ─────────▶   Offline          one host's operations keep their order,
//!  host b    Progress ───────▶   Progress         those of different hosts go side by side
//!  host c    Answer
//! ```
//!
//! All operations of a wave take their steps together, so that a batch of two thousand takes a few
//! round trips. Settled operations are counted from the first: an operation behind an open one
//! counts as open, even if it was written, since all can be repeated.

use std::collections::HashMap;

use redis::Value;

use super::Context;
use super::errors::{Fault, judge, unexpected};
use super::lease::LeaseHolder;
use super::link::Link;
use super::step::{Recipient, Replies, Step};
use crate::ids::{HostId, TaskKey};
use crate::limits::REDIS_KEYS_MAX;
use crate::store::op::{Op, Outcome, Question, TaskState};
use crate::store::{StoreError, refuse};

/// Operations that are encoded while the server runs the ones before: as many as share a command.
const STEP_JOBS: usize = REDIS_KEYS_MAX;

/// Continuation of an operation after a step.
#[derive(Debug)]
pub(super) enum StepResult {
    /// There is another step.
    More,
    /// It is written.
    Written,
    /// It is settled with this outcome.
    Done(Outcome),
}

/// An operation in progress.
pub(super) trait Job {
    /// Adds the commands of the next step. There is at least one.
    fn encode(&mut self, step: &mut Step);

    /// Takes the replies to the commands of the last step. By default there is one step, and its
    /// replies say only whether it failed.
    ///
    /// # Errors
    /// When one is an error that ends the operation, or the batch.
    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        replies.rest_good()?;
        Ok(StepResult::Written)
    }
}

/// An operation of one step, as the function that encodes it.
impl<F: FnMut(&mut Step)> Job for F {
    fn encode(&mut self, step: &mut Step) {
        self(step);
    }
}

/// Result of operations that were run together.
#[derive(Debug)]
pub(super) struct BatchProgress {
    /// The outcome of each settled operation.
    pub(super) settled: Vec<Option<Option<Outcome>>>,
    /// Operations that were begun and are not settled.
    pub(super) broken_off: Vec<usize>,
    /// Reason for stopping early.
    pub(super) error: Option<StoreError>,
}

/// Runs operations until all are settled or the store fails, and renews the lease meanwhile.
/// `begin` makes the job of an operation.
pub(super) fn run<'a>(
    link: &mut Link,
    context: &Context,
    lease: &mut LeaseHolder,
    ops: &'a [Op],
    begin: impl Fn(&'a Op) -> Box<dyn Job + 'a>,
) -> BatchProgress {
    let mut progress = BatchProgress {
        settled: ops.iter().map(|_| None).collect(),
        broken_off: Vec::new(),
        error: None,
    };
    for wave in waves(ops) {
        let mut active: Vec<_> = wave.into_iter().map(|at| (at, begin(&ops[at]))).collect();
        while !active.is_empty() && progress.error.is_none() {
            progress.error = lease.keep(link, context).err();
            if progress.error.is_none() {
                active = take_step(link, context, ops, active, &mut progress);
            }
        }
        if progress.error.is_some() {
            progress
                .broken_off
                .extend(active.into_iter().map(|(at, _)| at));
            break;
        }
    }
    if context.wait_replicas > 0 && ops.iter().any(is_report) {
        confirm(link, context, &mut progress);
    }
    progress
}

/// Returns whether the operation is acknowledged to a host or to the requester of a dispatch.
fn is_report(op: &Op) -> bool {
    matches!(
        op,
        Op::Progress(_) | Op::Answer(_) | Op::Result(_) | Op::Dispatch(_)
    )
}

/// Waits until replicas have all settled operations. If they do not, none of these counts as
/// settled: all can be repeated.
fn confirm(link: &mut Link, context: &Context, progress: &mut BatchProgress) {
    if progress.error.is_none() {
        let waited = link.wait_for_replicas(context.wait_replicas, context.timeout);
        progress.error = waited.err();
    }
    if progress.error.is_some() {
        progress.settled.fill_with(|| None);
    }
}

/// Does one step of all operations, and returns those that need another one.
fn take_step<'a>(
    link: &mut Link,
    context: &Context,
    ops: &[Op],
    active: Vec<(usize, Box<dyn Job + 'a>)>,
    progress: &mut BatchProgress,
) -> Vec<(usize, Box<dyn Job + 'a>)> {
    let mut active = active;
    let jobs = active.len();
    let sets = active
        .chunks_mut(STEP_JOBS)
        .enumerate()
        .map(|(number, some)| {
            let mut step = Step::new();
            for (at, (_, job)) in some.iter_mut().enumerate() {
                step.for_owner(number * STEP_JOBS + at);
                job.encode(&mut step);
            }
            step.finish(&context.own_set, context.keys_max)
        });
    let replies = match link.request_each(sets) {
        Ok(replies) => replies,
        Err(error) => {
            progress.error = Some(error);
            return active;
        }
    };
    let scattered = scatter_replies(jobs, replies);
    let mut left = Vec::new();
    for ((at, mut job), (fault, own)) in active.into_iter().zip(scattered) {
        let result = match fault {
            Some(fault) => Err(fault),
            None => job.on_replies(Replies::new(own)),
        };
        match result {
            Ok(StepResult::Written) => progress.settled[at] = Some(ops[at].written()),
            Ok(StepResult::Done(outcome)) => progress.settled[at] = Some(Some(outcome)),
            Ok(StepResult::More) => left.push((at, job)),
            Err(Fault::Own(why)) => progress.settled[at] = Some(refuse(&ops[at], &why)),
            Err(Fault::Unavailable(why)) => {
                progress.error.get_or_insert(StoreError::Unavailable(why));
                left.push((at, job));
            }
        }
    }
    left
}

/// The replies to each operation's own commands, and the error of a command that it shares.
fn scatter_replies(
    jobs: usize,
    sets: Vec<(Vec<Value>, Vec<Recipient>)>,
) -> Vec<(Option<Fault>, Vec<Value>)> {
    let mut scattered: Vec<(Option<Fault>, Vec<Value>)> = Vec::new();
    scattered.resize_with(jobs, Default::default);
    let each = sets
        .into_iter()
        .flat_map(|(replies, recipients)| replies.into_iter().zip(recipients));
    for (reply, recipient) in each {
        match (recipient, reply) {
            (Recipient::One(job), reply) => scattered[job].1.push(reply),
            (Recipient::Scattered(owners), Value::Array(values)) => {
                // A list that is too short is noticed by the operation that misses a reply.
                for (job, value) in owners.into_iter().zip(values) {
                    scattered[job].1.push(value);
                }
            }
            (Recipient::Each(owners) | Recipient::Scattered(owners), Value::ServerError(error)) => {
                for job in owners {
                    scattered[job].0.get_or_insert_with(|| judge(&error));
                }
            }
            (Recipient::Each(_), _) => {}
            (Recipient::Scattered(owners), other) => {
                for job in owners {
                    scattered[job].0.get_or_insert_with(|| unexpected(&other));
                }
            }
        }
    }
    scattered
}

/// The operations in waves, as their places.
///
/// - Operations of one host follow each other.
/// - A notice comes after all earlier operations, to which it may refer. So does an audit, which
///   may name a host that has just come online. Later operations come with it or after it.
/// - Dispatches of one key follow each other, and reports on a task follow its dispatch: the replay
///   buffer may hold both.
/// - States come after the earlier operations of their hosts and before the later ones.
/// - A question comes after the earlier operations of its hosts.
fn waves(ops: &[Op]) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut last: HashMap<&str, usize> = HashMap::with_capacity(ops.len());
    // The waves in which tasks are written.
    let mut written: HashMap<&str, usize> = HashMap::new();
    let mut floor = 0;
    for (at, op) in ops.iter().enumerate() {
        let wave = match op {
            Op::Seen(_) => floor,
            Op::Notice(_) | Op::Audit(_) => {
                floor = waves.len();
                floor
            }
            Op::Online(op) => behind(&mut last, op.host.as_str(), floor),
            Op::Offline(op) => behind(&mut last, op.host.as_str(), floor),
            Op::Inventory(op) => behind(&mut last, op.host.as_str(), floor),
            Op::Labels(op) => behind(&mut last, op.host.as_str(), floor),
            Op::Forget(host) => behind(&mut last, host.as_str(), floor),
            Op::Progress(op) => behind(
                &mut last,
                op.host.as_str(),
                after(&written, op.key.as_str(), floor),
            ),
            Op::Answer(op) => behind(
                &mut last,
                op.host.as_str(),
                after(&written, op.key.as_str(), floor),
            ),
            Op::Result(op) => behind(
                &mut last,
                op.host.as_str(),
                after(&written, &op.code, floor),
            ),
            Op::Command(op) => {
                let names = op.hosts.iter().map(|(host, _)| host.as_str());
                let wave = behind_all(&last, names.clone(), floor);
                last.extend(names.map(|name| (name, wave)));
                wave
            }
            Op::Dispatch(op) => {
                let wave = behind(&mut last, op.key.as_str(), floor);
                written.insert(op.key.as_str(), wave);
                wave
            }
            Op::TaskStates(op) => behind_task(&mut last, &op.key, &op.states, floor),
            Op::Restore(op) => behind_task(&mut last, &op.key, &op.hosts, floor),
            Op::Rollout(op) => behind(&mut last, op.key.as_str(), floor),
            // A device with the name of a host follows that host, which is harmless.
            Op::Outside(op) => behind(&mut last, op.place.as_str(), floor),
            // Rows follow each other. A bell comes after all that it may be about.
            Op::Polls(_) | Op::History(_) | Op::Ring(_) | Op::Rung(_) => {
                floor = waves.len();
                floor
            }
            Op::Read(op) => match &op.question {
                Question::Task { hosts, .. } | Question::Command { hosts, .. } => {
                    behind_all(&last, hosts.iter().map(|host| host.as_str()), floor)
                }
                Question::Whole { key } => after(&written, key.as_str(), floor),
                Question::Output { host, .. } => behind_all(&last, [host.as_str()], floor),
                Question::Transitions { hosts }
                | Question::Results { hosts, .. }
                | Question::Hosts { hosts } => {
                    behind_all(&last, hosts.iter().map(|host| host.as_str()), floor)
                }
                Question::Part { key, hosts, .. } => {
                    let names = hosts.iter().map(|host| host.as_str());
                    let task = after(&written, key.as_str(), floor);
                    behind_all(&last, names, task)
                }
                Question::Open { .. } | Question::CommandRecord { .. } => {
                    floor = waves.len();
                    floor
                }
                Question::Holders { .. } | Question::Others { .. } => floor,
                // Confirms what was written before it about these tasks.
                Question::Keepers { keys } => {
                    behind_all(&last, keys.iter().map(TaskKey::as_str), floor)
                }
                Question::FleetHistory { .. }
                | Question::Nodes
                | Question::TakeCommand { .. }
                | Question::Outside { .. }
                | Question::Scan(_) => floor,
            },
        };
        while waves.len() <= wave {
            waves.push(Vec::new());
        }
        waves[wave].push(at);
    }
    waves
}

/// The first wave for a report on a task: after the one in which the task is written.
fn after(written: &HashMap<&str, usize>, key: &str, floor: usize) -> usize {
    written.get(key).map_or(floor, |wave| floor.max(wave + 1))
}

/// The wave after the host's last one, which it becomes.
fn behind<'a>(last: &mut HashMap<&'a str, usize>, host: &'a str, floor: usize) -> usize {
    let wave = last
        .get(host)
        .map_or(floor, |&before| floor.max(before + 1));
    last.insert(host, wave);
    wave
}

/// The wave after the last one of a task and of these hosts, which it becomes for all of them.
fn behind_task<'a>(
    last: &mut HashMap<&'a str, usize>,
    key: &'a TaskKey,
    states: &'a [(HostId, TaskState)],
    floor: usize,
) -> usize {
    let hosts = states.iter().map(|(host, _)| host.as_str());
    let names = hosts.chain([key.as_str()]);
    let wave = behind_all(last, names.clone(), floor);
    last.extend(names.map(|name| (name, wave)));
    wave
}

/// The wave after the last one of any of these.
fn behind_all<'a>(
    last: &HashMap<&'a str, usize>,
    names: impl IntoIterator<Item = &'a str>,
    floor: usize,
) -> usize {
    let before = names.into_iter().filter_map(|name| last.get(name)).max();
    before.map_or(floor, |&before| floor.max(before + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::op::{Answer, Dispatch, Notice, Read, Stamp, TaskStates};
    use crate::time::UnixMs;

    const STAMP: Stamp = Stamp {
        at: UnixMs(1),
        seq: 1,
    };

    fn answer(host: &str) -> Op {
        Op::Answer(Box::new(Answer {
            origin: None,
            host: HostId::checked(host).unwrap(),
            key: TaskKey::parse("AC1", "AC").unwrap(),
            rcc: 1,
            state: None,
            again: false,
            stamp: STAMP,
        }))
    }

    fn notice() -> Op {
        Op::Notice(Box::new(Notice {
            event: "mass-offline",
            about: None,
            state: None,
            reason: None,
            count: Some(1),
            audit: None,
            stamp: STAMP,
        }))
    }

    #[test]
    fn operations_of_one_host_follow_each_other() {
        let ops = [
            answer("a"),
            answer("a"),
            answer("b"),
            answer("a"),
            answer("b"),
        ];
        assert_eq!(waves(&ops), [vec![0, 2], vec![1, 4], vec![3]]);
    }

    #[test]
    fn a_notice_comes_after_all_before_it() {
        let ops = [answer("a"), answer("a"), notice(), answer("b"), answer("a")];
        assert_eq!(waves(&ops), [vec![0], vec![1], vec![2, 3, 4]]);
    }

    #[test]
    fn states_follow_hosts_and_reports_follow_dispatches() {
        let key = || TaskKey::parse("AC1", "AC").unwrap();
        let host = |name: &str| HostId::checked(name).unwrap();
        let states = |name| {
            Op::TaskStates(Box::new(TaskStates {
                key: key(),
                states: vec![(host(name), TaskState::Lost)],
                over: false,
                last: false,
            }))
        };
        let dispatch = || {
            Op::Dispatch(Box::new(Dispatch {
                request: 1,
                rollout: None,
                key: key(),
                created: UnixMs(1),
                queue: false,
                commands: Vec::new(),
                hosts: Vec::new().into(),
                rings: Vec::new(),
                epoch: 0,
                stamp: STAMP,
            }))
        };
        let read = Op::Read(Box::new(Read {
            ticket: 1,
            question: Question::Task {
                key: key(),
                hosts: vec![host("a"), host("b")],
            },
        }));
        let ops = [
            dispatch(),
            dispatch(),
            answer("a"),
            states("a"),
            read,
            answer("a"),
            answer("b"),
        ];
        assert_eq!(
            waves(&ops),
            [vec![0], vec![1], vec![2, 6], vec![3], vec![4, 5]]
        );
    }

    #[test]
    fn a_question_for_a_keeper_follows_the_writes() {
        let key = || TaskKey::parse("AC1", "AC").unwrap();
        let states = Op::TaskStates(Box::new(TaskStates {
            key: key(),
            states: vec![(HostId::checked("a").unwrap(), TaskState::Cancelled)],
            over: false,
            last: false,
        }));
        let read = Op::Read(Box::new(Read {
            ticket: 1,
            question: Question::Keepers { keys: vec![key()] },
        }));
        assert_eq!(waves(&[answer("b"), states, read]), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn the_error_of_a_shared_command_reaches_all_sharers() {
        let error = redis::parse_redis_value(b"-WRONGTYPE no\r\n").unwrap();
        let scattered = scatter_replies(
            3,
            vec![
                (vec![error], vec![Recipient::Each(vec![0, 2])]),
                (vec![Value::Int(1)], vec![Recipient::One(1)]),
            ],
        );
        assert!(matches!(scattered[0].0, Some(Fault::Own(_))));
        assert!(scattered[1].0.is_none() && scattered[1].1 == [Value::Int(1)]);
        assert!(matches!(scattered[2].0, Some(Fault::Own(_))));
    }
    #[test]
    fn a_list_is_scattered_with_its_errors() {
        let list = redis::parse_redis_value(b"*2\r\n:7\r\n-WRONGTYPE no\r\n").unwrap();
        let scattered = scatter_replies(
            3,
            vec![(vec![list], vec![Recipient::Scattered(vec![2, 0])])],
        );
        assert_eq!(scattered[2], (None, vec![Value::Int(7)]));
        assert!(matches!(scattered[0].1[..], [Value::ServerError(_)]));
        assert_eq!(scattered[1], (None, vec![]));
        let none = scatter_replies(
            1,
            vec![(vec![Value::Okay], vec![Recipient::Scattered(vec![0])])],
        );
        assert!(matches!(none[0].0, Some(Fault::Unavailable(_))));
    }
}
