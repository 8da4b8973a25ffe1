//! Runs operations on the backend, carefully: one by one after panics, and with an eye on those
//! that may break the connection. It records what is run, for the case that the run panics.

use std::sync::Arc;

use super::faults::Faults;
use super::link::Link;
use super::suspects::Suspects;
use super::{Clock, StoreStats};
use crate::store::op::{Op, Outcome};
use crate::store::{Backend, Ran, StoreError};
use crate::time::Instant;

/// Source of the operations of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The pending operations.
    Pending,
    /// The replay buffer, from this index on.
    Recent(usize),
    /// The spool.
    Spool,
    /// The unsettled dispatches.
    Dispatch,
}

/// A run in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub source: Source,
    /// A single operation, run alone because of earlier panics.
    pub alone: bool,
}

/// Result of a run.
#[derive(Debug)]
pub(super) enum Run {
    /// The first operation is refused for this reason, and nothing was run.
    Refused(String),
    /// Operations were run.
    Ran(Completed),
}

/// Result of operations that were run.
#[derive(Debug)]
pub(super) struct Completed {
    /// Number of operations, from the first, that are settled.
    pub done: usize,
    /// Outcomes of the settled operations that have one.
    pub outcomes: Vec<Outcome>,
    /// Reason for stopping early.
    pub error: Option<StoreError>,
}

/// Records of runs that failed, and the run in progress.
#[derive(Debug)]
pub(super) struct Runner {
    running: Option<Running>,
    faults: Faults,
    suspects: Suspects,
    stats: Arc<StoreStats>,
}

impl Runner {
    pub fn new(stats: Arc<StoreStats>) -> Self {
        Self {
            running: None,
            faults: Faults::default(),
            suspects: Suspects::default(),
            stats,
        }
    }

    /// A step begins: nothing is running.
    pub fn begin_step(&mut self) {
        self.running = None;
    }

    /// Returns whether operations must run one by one.
    pub fn is_careful(&self, now: Instant) -> bool {
        self.faults.is_careful(now)
    }

    /// The step panicked at `now`. Returns the run that was in progress.
    pub fn panicked(&mut self, now: Instant) -> Option<Running> {
        self.faults.note(now);
        self.running.take()
    }

    /// Runs some of `ops`, at most `max`, from the first on.
    ///
    /// # Errors
    /// When the connection takes no write at all; nothing was run.
    pub fn run(
        &mut self,
        link: &mut Link,
        clock: &dyn Clock,
        source: Source,
        ops: &[Op],
        max: usize,
    ) -> Result<Run, StoreError> {
        let stats = Arc::clone(&self.stats);
        let ops = &ops[..max.min(ops.len())];
        self.attempt(link, clock, source, ops, |backend, ops, outcomes| {
            let begun = clock.now();
            let ran = backend.run(ops, outcomes);
            stats.batches.add(1);
            stats.ops.add(ran.done);
            let duration = clock.now().since(begun);
            stats.last_batch_us.set(duration.as_nanos() / 1_000);
            stats.batch_times.record(duration.as_nanos());
            ran
        })
    }

    /// Settles a dispatch that was in progress when the store became unavailable.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn settle(
        &mut self,
        link: &mut Link,
        clock: &dyn Clock,
        op: &Op,
        finish: bool,
    ) -> Result<Run, StoreError> {
        let ops = std::slice::from_ref(op);
        self.attempt(
            link,
            clock,
            Source::Dispatch,
            ops,
            |backend, _, outcomes| {
                let Op::Dispatch(dispatch) = op else {
                    return Ran::all(1);
                };
                match backend.settle(dispatch, finish) {
                    Ok(stored) => outcomes.push(Outcome::Dispatched {
                        request: dispatch.request,
                        stored,
                    }),
                    Err(error) => return Ran::stopped(0, error),
                }
                Ran::all(1)
            },
        )
    }

    fn attempt(
        &mut self,
        link: &mut Link,
        clock: &dyn Clock,
        source: Source,
        ops: &[Op],
        work: impl FnOnce(&mut dyn Backend, &[Op], &mut Vec<Outcome>) -> Ran,
    ) -> Result<Run, StoreError> {
        let now = clock.now();
        if let Some(reason) = ops.first().and_then(|op| self.suspects.verdict(op, now)) {
            return Ok(Run::Refused(reason));
        }
        if !self.suspects.is_empty() {
            // Only then does the end of this connection say something of the suspects.
            link.probe()?;
        }
        let alone = self.faults.is_careful(now);
        self.running = Some(Running { source, alone });
        let ops = match alone {
            true => &ops[..ops.len().min(1)],
            false => &ops[..self.suspects.together(ops)],
        };
        #[cfg(debug_assertions)]
        super::inject::panic_if_ordered(ops);
        let mut outcomes = Vec::new();
        let ran = work(link.backend(), ops, &mut outcomes);
        ran.check(ops, &outcomes);
        if ran.error.is_none() {
            link.answered(clock.now());
        }
        let (settled, open) = ops.split_at(ran.done);
        self.suspects.passed(settled);
        if let Some(StoreError::Broken(reason)) = &ran.error {
            self.suspects.broke(open, clock.now(), reason);
        }
        self.running = None;
        Ok(Run::Ran(Completed {
            done: ran.done,
            outcomes,
            error: ran.error,
        }))
    }
}
