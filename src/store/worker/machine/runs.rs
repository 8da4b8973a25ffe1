//! Runs of the worker's operations, and their consequences: pending operations, the spool, the
//! replay buffer and unsettled dispatches.

use super::{Next, Phase, Worker};
use crate::limits::{REPLAY_OPS_MAX, STORE_RUN_OPS_MAX};
use crate::store::StoreError;
use crate::store::op::{Op, Outcome, Stored};
use crate::store::worker::runner::{Run, Source};

impl Worker {
    /// Runs pending operations, and passes the outcomes on.
    pub(super) fn run_pending(&mut self) -> Result<(), StoreError> {
        let (ops, clock) = (self.pending.ops(), &*self.clock);
        let (source, max) = (Source::Pending, STORE_RUN_OPS_MAX);
        let run = self.runner.run(&mut self.link, clock, source, ops, max)?;
        let run = match run {
            Run::Refused(reason) => {
                self.set_aside(source, &reason);
                return Ok(());
            }
            Run::Ran(run) => run,
        };
        let now = self.now();
        let mut refused = Vec::new();
        let settled = self.pending.settle(run.done);
        self.inbox.settled(&settled, now);
        let settled = settled.into_iter();
        for (op, outcome) in settled.filter(Op::has_outcome).zip(run.outcomes) {
            match &outcome {
                Outcome::Report { result: Ok(()), .. }
                | Outcome::Dispatched {
                    stored: Stored::Whole,
                    ..
                } => self.replay.push(now, op),
                Outcome::Report {
                    result: Err(reason),
                    ..
                } => refused.push((op, reason.clone())),
                Outcome::Restored { .. } => self.link.note_restored(now),
                _ => {}
            }
            self.out.push(outcome);
        }
        self.disk.reject(self.clock.wall(), &refused);
        run.error.map_or(Ok(()), Err)
    }

    /// Replays some of the spool.
    pub(super) fn replay_spooled(&mut self) -> Result<Next, StoreError> {
        let (ops, clock) = (self.disk.next(REPLAY_OPS_MAX)?, &*self.clock);
        let (source, max) = (Source::Spool, REPLAY_OPS_MAX);
        let run = self.runner.run(&mut self.link, clock, source, ops, max)?;
        let run = match run {
            Run::Refused(reason) => return Ok(self.set_aside(source, &reason)),
            Run::Ran(run) => run,
        };
        let each = ops.iter().zip(run.outcomes);
        let refused: Vec<(Op, String)> = each
            .filter_map(|(op, outcome)| Some((op.clone(), refusal(outcome)?)))
            .collect();
        // Written before the segment may be deleted.
        self.disk.reject(self.clock.wall(), &refused);
        let now = self.now();
        for op in self.disk.settle(run.done) {
            self.replay.push(now, op);
        }
        self.stats.replayed.add(run.done);
        run.error.map_or(Ok(Next::Now), Err)
    }

    /// Replays some of the replay buffer, from the `next`-th on.
    pub(super) fn replay_recent(&mut self, next: usize) -> Result<Next, StoreError> {
        let (ops, clock) = (self.replay.slice(next, REPLAY_OPS_MAX), &*self.clock);
        if ops.is_empty() {
            // Before anything newer is written: what a start finds must not be older than the
            // store.
            self.replay.replayed(self.disk.spool(), clock.now());
            return Ok(self.go_on(Phase::ReplaySpool));
        }
        let (source, max) = (Source::Recent(next), REPLAY_OPS_MAX);
        let run = self.runner.run(&mut self.link, clock, source, ops, max)?;
        let run = match run {
            Run::Refused(reason) => return Ok(self.set_aside(source, &reason)),
            Run::Ran(run) => run,
        };
        let reasons = run.outcomes.into_iter().map(refusal).enumerate();
        let mut refused = Vec::new();
        for (index, reason) in reasons.filter_map(|(index, reason)| Some((index, reason?))) {
            let op = self.replay.remove(next + index - refused.len());
            refused.extend(op.map(|op| (op, reason)));
        }
        self.phase = Phase::ReplayRecent(next + run.done - refused.len());
        self.disk.reject(self.clock.wall(), &refused);
        run.error.map_or(Ok(Next::Now), Err)
    }

    /// Settles the first of the unsettled dispatches.
    pub(super) fn settle_dispatch(&mut self) -> Result<Next, StoreError> {
        let (now, clock) = (self.now(), &*self.clock);
        let Some((op, finish)) = self.pending.unsettled(now) else {
            return Ok(self.go_on(Phase::Lease));
        };
        let outcomes = match self.runner.settle(&mut self.link, clock, op, finish)? {
            Run::Refused(reason) => return Ok(self.set_aside(Source::Dispatch, &reason)),
            Run::Ran(run) => match run.error {
                Some(error) => return Err(error),
                None => run.outcomes,
            },
        };
        let op = self.pending.settle_dispatch();
        if let Some(Op::Dispatch(dispatch)) = op
            && let [Outcome::Dispatched { stored, .. }] = &outcomes[..]
        {
            let key = dispatch.key.clone();
            log::info!(
                key:% = key, result:? = stored;
                "store: the dispatch of {key}, in progress when the store became unavailable: {stored:?}"
            );
            if *stored == Stored::Whole {
                self.replay.push(now, Op::Dispatch(dispatch));
            }
        }
        self.out.extend(outcomes);
        Ok(Next::Now)
    }

    /// Refuses the one operation that was to be run, or was run alone, for this reason.
    pub(super) fn set_aside(&mut self, source: Source, reason: &str) -> Next {
        let op = match source {
            Source::Pending => self.pending.remove_first(),
            Source::Dispatch => self.pending.settle_dispatch(),
            Source::Recent(index) => self.replay.remove(index),
            Source::Spool => self.disk.settle(1).pop(),
        };
        if let Some(op) = op {
            if matches!(source, Source::Pending | Source::Dispatch) {
                self.out.extend(op.refused(reason));
            }
            // A question holds no data that would be missed.
            if !matches!(op, Op::Read(_)) {
                let refused = [(op, reason.to_owned())];
                self.disk.reject(self.clock.wall(), &refused);
            }
        }
        Next::Now
    }
}

/// Reason for the final refusal of a report, if it was refused.
fn refusal(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Report {
            result: Err(reason),
            ..
        } => Some(reason),
        _ => None,
    }
}
