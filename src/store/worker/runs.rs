//! Running operations and settling them: from the hands, from the spool, from what was confirmed lately. And
//! the two other places an operation may end in, the spool and `rejected`.

use super::faults::{Running, Source};
use super::life::{Life, Next, Phase};
use super::trip::trip;
use super::{Clock, StoreStats};
use crate::limits::{REPLAY_BYTES_MAX, REPLAY_OPS_MAX, STORE_RUN_OPS_MAX};
use crate::store::op::{Found, Op, Outcome, Settled, Stored};
use crate::store::spool::{self, SpoolError};
use crate::store::{Backend, Ran, StoreError};
use crate::time::Span;

/// Operations for which memory is kept between two runs.
const HANDS_KEPT: usize = 64;

impl Life {
    /// How many to run at once, `max` unless panics of late call for care; notes what is being run.
    fn begin(&mut self, source: Source, max: usize) -> usize {
        let alone = self.faults.careful(self.now());
        self.running = Some(Running { source, alone });
        if alone { 1 } else { max }
    }

    /// What was begun has been answered.
    fn end_run(&mut self, ran: &Ran) {
        self.running = None;
        if ran.error.is_none() {
            self.contact();
        }
    }

    /// Runs what came from the core, and passes the outcomes on.
    pub(super) fn run_hands(&mut self) -> Result<(), StoreError> {
        let max = self.begin(Source::Hands, STORE_RUN_OPS_MAX);
        let ops = &self.hands[..max.min(self.hands.len())];
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
        self.end_run(&ran);
        let now = self.now();
        let mut refused = Vec::new();
        let settled: Vec<Op> = self.hands.drain(..ran.done).collect();
        let mut answers = std::mem::take(&mut self.answers).into_iter();
        for op in settled {
            if !is_told(&op) {
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
        self.hands.shrink_to(HANDS_KEPT);
        ran.error.map_or(Ok(()), Err)
    }

    /// Replays some of the spool.
    pub(super) fn run_spooled(&mut self) -> Result<Next, StoreError> {
        let max = self.begin(Source::Spool, REPLAY_OPS_MAX);
        let ops = self.spool.next(max, REPLAY_BYTES_MAX).map_err(away)?;
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
    pub(super) fn run_again(&mut self, next: usize) -> Result<Next, StoreError> {
        let max = self.begin(Source::Recent(next), REPLAY_OPS_MAX);
        let ops = self.recent.slice(next, max);
        let Some(backend) = &mut self.backend else {
            return Ok(Next::Now);
        };
        if ops.is_empty() {
            let now = self.now();
            self.recent.renew(now);
            // Before anything newer is written: what is found at a start must not be older than what is in the store.
            self.forget_kept();
            self.phase = Phase::Replay;
            return Ok(Next::Now);
        }
        let ran = execute(
            &mut **backend,
            ops,
            &mut self.answers,
            &*self.clock,
            &self.stats,
        );
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
        self.phase = Phase::Again(next + ran.done - refused.len());
        self.reject(&refused);
        ran.error.map_or(Ok(Next::Now), Err)
    }

    /// Settles the first of the dispatches that the store went away under.
    pub(super) fn settle_dispatch(&mut self) -> Result<Next, StoreError> {
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
        let stored = backend.settle(dispatch, finish)?;
        self.running = None;
        let settled = self.dispatches.pop();
        if let (Stored::Whole, Some(dispatch)) = (&stored, settled) {
            self.recent.push(now, Op::Dispatch(dispatch));
        }
        self.contact();
        log::info!("store: the dispatch of {key}, which it went away under: {stored:?}");
        self.out.push(Outcome::Dispatched { request, stored });
        Ok(Next::Now)
    }

    /// Puts the reports in the hands into the spool, all of them, and acknowledges them. If that cannot be they
    /// stay, and [`stuck`](Life::stuck) says why.
    pub(super) fn put_away(&mut self) {
        if self.hands.is_empty() {
            self.stuck = None;
            return;
        }
        match self.spool_hands() {
            Ok(()) => self.stuck = None,
            Err(SpoolError::Record(_)) => self.refuse_unspoolable(),
            Err(error) => self.stuck = Some(error.to_string()),
        }
    }

    fn spool_hands(&mut self) -> Result<(), SpoolError> {
        let reports: Vec<&Op> = self.hands.iter().collect();
        self.spool.append(&reports)?;
        self.spool.sync()?;
        self.stats.spooled.add(self.hands.len());
        self.out.extend(self.hands.iter().filter_map(spooled));
        self.hands.clear();
        Ok(())
    }

    /// Refuses what can never be a record, and spools the rest.
    fn refuse_unspoolable(&mut self) {
        let mut refused = Vec::new();
        let mut good = Vec::new();
        for op in self.hands.drain(..) {
            match spool::check(&op) {
                Ok(()) => good.push(op),
                Err(error) => refused.push((op, error.to_string())),
            }
        }
        self.hands = good;
        self.reject(&refused);
        let told = refused.iter().filter_map(|(op, error)| refusal(op, error));
        self.out.extend(told);
        if let Err(error) = self.spool_hands() {
            self.stuck = Some(error.to_string());
        }
    }

    /// Takes the one operation out that was run alone and panicked.
    pub(super) fn put_aside(&mut self, source: Source, text: &str) {
        let error = format!("running it panicked: {text}");
        let op = match source {
            Source::Hands => {
                let op = (!self.hands.is_empty()).then(|| self.hands.remove(0));
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
        ops[..ran.done].iter().filter(|op| is_told(op)).count(),
        "one outcome for each operation"
    );
    stats.batches.add(1);
    stats.ops.add(ran.done);
    stats.last_batch_us.set(took.as_nanos() / 1_000);
    ran
}

/// Whether an operation has an outcome when it is run.
fn is_told(op: &Op) -> bool {
    !matches!(op, Op::Notice(_) | Op::Outside(_))
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
        Op::Notice(_) | Op::Outside(_) => return None,
    })
}

/// Why a report was refused for good, if it was.
fn refusal_of(answer: Outcome) -> Option<String> {
    match answer {
        Outcome::Report {
            result: Err(error), ..
        } => Some(error),
        _ => None,
    }
}

fn away(error: SpoolError) -> StoreError {
    StoreError::Away(error.to_string())
}
