//! Running operations and settling them: pending operations, the spool, the replay buffer. And
//! the two other places an operation may end in, the spool and `rejected`.

use super::faults::{Running, Source};
use super::machine::{Next, Phase, Worker};
use super::suspects::Suspects;
use super::trip::trip;
use super::{Clock, StoreStats};
use crate::limits::{REPLAY_BYTES_MAX, REPLAY_OPS_MAX, STORE_RUN_OPS_MAX};
use crate::store::op::{Found, Op, Outcome, Settled, Stored};
use crate::store::spool::{self, SpoolError};
use crate::store::{Backend, Ran, StoreError};
use crate::time::{Instant, Span};

/// Operations for which memory is kept between two runs.
const PENDING_KEPT: usize = 64;

impl Worker {
    /// Number of operations to run at once: `max`, unless recent panics call for care. Records what
    /// is run.
    fn begin(&mut self, source: Source, max: usize) -> usize {
        let alone = self.faults.careful(self.now());
        self.running = Some(Running { source, alone });
        if alone { 1 } else { max }
    }

    /// Takes `op`, which is to be run next, out of `source` if it has broken too many connections. Whether it did.
    /// Otherwise, while there are suspects, the connection has to take a write first: only then does its end say
    /// something of them.
    fn convict(&mut self, source: Source, op: Option<Op>) -> Result<bool, StoreError> {
        let now = self.now();
        if let Some(why) = op.and_then(|op| self.suspects.verdict(&op, now)) {
            self.running = None;
            self.set_aside(source, &why);
            return Ok(true);
        }
        if let Some(backend) = &mut self.backend
            && !self.probed
        {
            backend.probe()?;
            self.probed = true;
        }
        Ok(false)
    }

    /// Ends a run whose operations were answered.
    fn end_run(&mut self, ran: &Ran) {
        self.running = None;
        if ran.error.is_none() {
            self.contact();
        }
    }

    /// Runs what came from the core, and passes the outcomes on.
    pub(super) fn run_pending(&mut self) -> Result<(), StoreError> {
        if !self.suspects.is_empty()
            && self.convict(Source::Pending, self.pending.first().cloned())?
        {
            return Ok(());
        }
        let max = self.begin(Source::Pending, STORE_RUN_OPS_MAX);
        let ops = &self.pending[..max.min(self.pending.len())];
        let ops = &ops[..self.suspects.together(ops)];
        let Some(backend) = &mut self.backend else {
            return Ok(());
        };
        let ran = execute(
            &mut **backend,
            ops,
            &mut self.answers,
            &*self.clock,
            &self.stats,
        );
        let now = self.clock.now();
        judge(&mut self.suspects, ops, &ran, now);
        self.end_run(&ran);
        let mut refused = Vec::new();
        let settled: Vec<Op> = self.pending.drain(..ran.done).collect();
        let mut answers = std::mem::take(&mut self.answers).into_iter();
        for op in settled {
            if !has_outcome(&op) {
                continue;
            }
            let Some(answer) = answers.next() else {
                break;
            };
            match &answer {
                Outcome::Report { result: Ok(()), .. } => self.recent.push(now, op),
                Outcome::Report {
                    result: Err(error), ..
                } => refused.push((op, error.clone())),
                Outcome::Dispatched { request, stored } => {
                    self.dispatches.settled(*request);
                    if *stored == Stored::Whole {
                        self.recent.push(now, op);
                    }
                }
                Outcome::Restored { .. } => self.restored = Some(now),
                _ => {}
            }
            self.out.push(answer);
        }
        self.reject(&refused);
        // What a crowd of hosts filled is not kept for the few that follow it.
        self.pending.shrink_to(PENDING_KEPT);
        ran.error.map_or(Ok(()), Err)
    }

    /// Replays some of the spool.
    pub(super) fn replay_spooled(&mut self) -> Result<Next, StoreError> {
        if !self.suspects.is_empty() {
            let next = self.spool.next(1, REPLAY_BYTES_MAX).map_err(unavailable)?;
            let next = next.first().cloned();
            if self.convict(Source::Spool, next)? {
                return Ok(Next::Now);
            }
        }
        let max = self.begin(Source::Spool, REPLAY_OPS_MAX);
        let ops = self
            .spool
            .next(max, REPLAY_BYTES_MAX)
            .map_err(unavailable)?;
        let ops = &ops[..self.suspects.together(ops)];
        let Some(backend) = &mut self.backend else {
            return Ok(Next::Now);
        };
        let ran = execute(
            &mut **backend,
            ops,
            &mut self.answers,
            &*self.clock,
            &self.stats,
        );
        let refused: Vec<(Op, String)> = ops
            .iter()
            .zip(self.answers.drain(..))
            .filter_map(|(op, answer)| Some((op.clone(), refusal_of(answer)?)))
            .collect();
        judge(&mut self.suspects, ops, &ran, self.clock.now());
        self.end_run(&ran);
        // Written down before the segment may go.
        self.reject(&refused);
        let now = self.now();
        for op in self.spool.settled(ran.done) {
            self.recent.push(now, op);
        }
        self.stats.replayed.add(ran.done);
        ran.error.map_or(Ok(Next::Now), Err)
    }

    /// Writes again what was confirmed lately, from the `next`-th on.
    pub(super) fn replay_recent(&mut self, next: usize) -> Result<Next, StoreError> {
        if !self.suspects.is_empty() {
            let op = self.recent.slice(next, 1).first().cloned();
            if self.convict(Source::Recent(next), op)? {
                return Ok(Next::Now);
            }
        }
        let max = self.begin(Source::Recent(next), REPLAY_OPS_MAX);
        let ops = self.recent.slice(next, max);
        let ops = &ops[..self.suspects.together(ops)];
        let Some(backend) = &mut self.backend else {
            return Ok(Next::Now);
        };
        if ops.is_empty() {
            let now = self.now();
            self.recent.renew(now);
            // Before anything newer is written: what is found at a start must not be older than what is in the store.
            self.forget_kept();
            self.phase = Phase::ReplaySpool;
            return Ok(Next::Now);
        }
        let ran = execute(
            &mut **backend,
            ops,
            &mut self.answers,
            &*self.clock,
            &self.stats,
        );
        judge(&mut self.suspects, ops, &ran, self.clock.now());
        self.running = None;
        let answers = std::mem::take(&mut self.answers).into_iter().enumerate();
        let bad: Vec<(usize, String)> = answers
            .filter_map(|(index, answer)| Some((next + index, refusal_of(answer)?)))
            .collect();
        let mut refused = Vec::new();
        for (index, error) in bad.into_iter().rev() {
            refused.extend(self.recent.remove(index).map(|op| (op, error)));
        }
        refused.reverse();
        self.phase = Phase::ReplayRecent(next + ran.done - refused.len());
        self.reject(&refused);
        ran.error.map_or(Ok(Next::Now), Err)
    }

    /// Settles the first of the dispatches that the store went away under.
    pub(super) fn settle_dispatch(&mut self) -> Result<Next, StoreError> {
        if !self.suspects.is_empty() {
            let now = self.now();
            let next = self.dispatches.next(now);
            let op = next.map(|(dispatch, _)| Op::Dispatch(Box::new(dispatch.clone())));
            if self.convict(Source::Dispatch, op)? {
                return Ok(Next::Now);
            }
        }
        self.begin(Source::Dispatch, 1);
        let now = self.now();
        let Some(backend) = &mut self.backend else {
            return Ok(Next::Now);
        };
        let Some((dispatch, finish)) = self.dispatches.next(now) else {
            self.phase = Phase::Lease;
            return Ok(Next::Now);
        };
        let (request, key) = (dispatch.request, dispatch.key.clone());
        let stored = backend.settle(dispatch, finish).inspect_err(|error| {
            if let StoreError::Broken(why) = error {
                let op = Op::Dispatch(Box::new(dispatch.clone()));
                self.suspects.broke(&[op], now, why);
            }
        })?;
        self.running = None;
        if let Some(dispatch) = self.dispatches.pop() {
            let op = Op::Dispatch(dispatch);
            self.suspects.passed(std::slice::from_ref(&op));
            if stored == Stored::Whole {
                self.recent.push(now, op);
            }
        }
        self.contact();
        log::info!("store: the dispatch of {key}, which it went away under: {stored:?}");
        self.out.push(Outcome::Dispatched { request, stored });
        Ok(Next::Now)
    }

    /// Spools all pending reports and acknowledges them. If that cannot be they
    /// stay, and [`stuck`](Worker::stuck) says why.
    pub(super) fn spool_pending(&mut self) {
        if self.pending.is_empty() {
            self.stuck = None;
            return;
        }
        match self.append_pending() {
            Ok(()) => self.stuck = None,
            Err(SpoolError::Record(_)) => self.refuse_unspoolable(),
            Err(error) => self.stuck = Some(error.to_string()),
        }
    }

    fn append_pending(&mut self) -> Result<(), SpoolError> {
        let reports: Vec<&Op> = self.pending.iter().collect();
        self.spool.append(&reports)?;
        self.spool.sync()?;
        self.stats.spooled.add(self.pending.len());
        self.out.extend(self.pending.iter().filter_map(spooled));
        self.pending.clear();
        Ok(())
    }

    /// Refuses what can never be a record, and spools the rest.
    fn refuse_unspoolable(&mut self) {
        let mut refused = Vec::new();
        let mut good = Vec::new();
        for op in self.pending.drain(..) {
            match spool::check(&op) {
                Ok(()) => good.push(op),
                Err(error) => refused.push((op, error.to_string())),
            }
        }
        self.pending = good;
        self.reject(&refused);
        let told = refused.iter().filter_map(|(op, error)| refusal(op, error));
        self.out.extend(told);
        if let Err(error) = self.append_pending() {
            self.stuck = Some(error.to_string());
        }
    }

    /// Takes the one operation out that was run alone and cannot be run, for this reason.
    pub(super) fn set_aside(&mut self, source: Source, why: &str) {
        let error = why.to_owned();
        let op = match source {
            Source::Pending => {
                let op = (!self.pending.is_empty()).then(|| self.pending.remove(0));
                let told = op.as_ref().and_then(|op| refusal(op, &error));
                self.out.extend(told);
                if let Some(Op::Dispatch(dispatch)) = &op {
                    self.dispatches.settled(dispatch.request);
                }
                op
            }
            Source::Dispatch => {
                let op = self.dispatches.pop().map(Op::Dispatch);
                let told = op.as_ref().and_then(|op| refusal(op, &error));
                self.out.extend(told);
                op
            }
            Source::Recent(index) => self.recent.remove(index),
            Source::Spool => self.spool.settled(1).pop(),
        };
        // A question holds nothing that a person would miss.
        let op = op.filter(|op| !matches!(op, Op::Read(_)));
        let refused: Vec<(Op, String)> = op.map(|op| (op, error)).into_iter().collect();
        self.reject(&refused);
    }

    /// Writes down what is refused for good.
    fn reject(&mut self, refused: &[(Op, String)]) {
        let Some((_, first)) = refused.first() else {
            return;
        };
        let count = refused.len();
        self.stats.rejected.add(count);
        log::warn!("store: {count} refused for good and written to `rejected`: {first}");
        let lines: Vec<(&Op, &str)> = refused.iter().map(|(op, e)| (op, e.as_str())).collect();
        if let Err(error) = self.rejected.write(self.clock.wall(), &lines) {
            log::error!("store: `rejected` cannot be written: {error}");
        }
    }
}

/// Runs operations, and holds the backend to its promises: one that breaks them is treated like one that panics.
fn execute(
    backend: &mut dyn Backend,
    ops: &[Op],
    answers: &mut Vec<Outcome>,
    clock: &dyn Clock,
    stats: &StoreStats,
) -> Ran {
    answers.clear();
    trip(ops);
    let begun = clock.now();
    let ran = backend.run(ops, answers);
    let took: Span = clock.now().since(begun);
    assert!(ran.done <= ops.len(), "more settled than was asked for");
    assert!(
        ran.error.is_some() || ran.done == ops.len(),
        "operations left without a reason"
    );
    assert_eq!(
        answers.len(),
        ops[..ran.done].iter().filter(|op| has_outcome(op)).count(),
        "one outcome for each operation"
    );
    stats.batches.add(1);
    stats.ops.add(ran.done);
    stats.last_batch_us.set(took.as_nanos() / 1_000);
    ran
}

/// Records the result of a run: settled operations are no longer suspects, and if the connection
/// broke the others are.
fn judge(suspects: &mut Suspects, ops: &[Op], ran: &Ran, now: Instant) {
    let (settled, open) = ops.split_at(ran.done);
    suspects.passed(settled);
    if let Some(StoreError::Broken(why)) = &ran.error {
        suspects.broke(open, now, why);
    }
}

/// Returns whether an operation has an outcome when it is run.
fn has_outcome(op: &Op) -> bool {
    !matches!(op, Op::Notice(_) | Op::Outside(_) | Op::Forget(_))
}

/// The outcome of a report the spool has taken.
fn spooled(op: &Op) -> Option<Outcome> {
    report_outcome(op, Ok(()))
}

/// The outcome of a report; none where the operation is no report.
fn report_outcome(op: &Op, result: Result<(), String>) -> Option<Outcome> {
    let origin = match op {
        Op::Progress(report) => report.origin,
        Op::Answer(report) => report.origin,
        Op::Result(report) => report.origin,
        _ => return None,
    };
    Some(Outcome::Report { origin, result })
}

/// The outcome of an operation that is refused without a word from the backend.
fn refusal(op: &Op, error: &str) -> Option<Outcome> {
    let error = error.to_owned();
    Some(match op {
        Op::Progress(_) | Op::Answer(_) | Op::Result(_) => return report_outcome(op, Err(error)),
        Op::Dispatch(dispatch) => Outcome::Dispatched {
            request: dispatch.request,
            stored: Stored::Refused(error),
        },
        Op::Read(read) => Outcome::Read {
            ticket: read.ticket,
            found: Found::Nothing(error),
        },
        Op::Online(online) => Outcome::Presence {
            ticket: online.ticket,
            settled: Settled::Refused(error),
        },
        Op::Offline(offline) => Outcome::Presence {
            ticket: offline.ticket,
            settled: Settled::Refused(error),
        },
        Op::Inventory(inventory) => Outcome::Inventory {
            origins: inventory.origins.clone(),
            ticket: inventory.ticket,
            result: Err(error),
        },
        Op::Seen(_) => Outcome::Seen,
        Op::Audit(_) => Outcome::Audited,
        Op::Restore(dispatch) => Outcome::Restored {
            key: dispatch.key.clone(),
            stored: Stored::Refused(error),
        },
        Op::TaskStates(_) => Outcome::StatesWritten,
        Op::Notice(_) | Op::Outside(_) | Op::Forget(_) => return None,
    })
}

/// Reason for the final refusal of a report, if it was refused.
fn refusal_of(answer: Outcome) -> Option<String> {
    match answer {
        Outcome::Report {
            result: Err(error), ..
        } => Some(error),
        _ => None,
    }
}

fn unavailable(error: SpoolError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
