//! Store updates of targets: changes, gathered for a moment; everything after a reconnection.

use std::collections::BTreeSet;

use crate::handlers::Moment;
use crate::limits::{
    OUTSIDE_AGAIN_S, OUTSIDE_OPS_MAX, OUTSIDE_PACE_MS, OUTSIDE_WRITE_MS, REACH_TARGETS_MAX,
};
use crate::store::op::{Op, Outside, Place};
use crate::time::{Instant, Span};

use super::{TargetView, Targets};

const GATHER: Span = Span::from_millis(OUTSIDE_WRITE_MS);
const PACE: Span = Span::from_millis(OUTSIDE_PACE_MS);
const AGAIN: Span = Span::from_secs(OUTSIDE_AGAIN_S);

/// Targets to be written, and the time of the next write.
#[derive(Debug, Default)]
pub(super) struct Pen {
    changed: BTreeSet<u32>,
    /// Index at which the next write begins: the first ones may change again before the last were
    /// written.
    cursor: u32,
    /// Targets whose fields are deleted first.
    gone: Vec<String>,
    /// The hash must be rewritten: an earlier process may have left targets there.
    whole: bool,
    due: Option<Instant>,
    session: Option<u32>,
    again: Option<Instant>,
}

impl Pen {
    pub(super) fn changed(&mut self, slot: u32, now: Instant) {
        self.changed.insert(slot);
        self.due.get_or_insert(now + GATHER);
    }

    pub(super) fn gone(&mut self, target: String, now: Instant) {
        // While the store is unavailable there may be many reloads.
        if !self.gone.contains(&target) && self.gone.len() < REACH_TARGETS_MAX {
            self.gone.push(target);
        }
        self.due.get_or_insert(now + GATHER);
    }

    fn pop(&mut self) -> Option<u32> {
        let behind = self.changed.range(self.cursor..).next();
        let slot = *behind.or(self.changed.first())?;
        self.changed.remove(&slot);
        self.cursor = slot + 1;
        Some(slot)
    }

    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let due = self.due.filter(|_| self.session.is_some());
        let both = [due, self.again].into_iter().flatten();
        both.filter(|due| *due > now).min()
    }
}

impl Targets {
    /// Takes the due operations. `session` is the number of the store connection, while there is
    /// one.
    pub fn pull(&mut self, at: Moment, session: Option<u32>, ops: &mut Vec<Op>) {
        let again = self.pen.again.is_some_and(|again| again <= at.now);
        let anew = session != self.pen.session;
        if anew {
            self.pen.session = session;
            self.pen.whole = true;
        }
        if anew || again {
            self.pen.again = session.filter(|_| anew).map(|_| at.now + AGAIN);
            self.pen.changed.extend(self.order.iter().copied());
            self.pen.due = Some(at.now);
        }
        if session.is_none() || self.pen.due.is_none_or(|due| due > at.now) {
            return;
        }
        let mut op = Outside::of(Place::Reach);
        op.whole = std::mem::take(&mut self.pen.whole);
        for target in std::mem::take(&mut self.pen.gone) {
            // It may have been added again.
            if self.get(&target).is_none() {
                op.removed.push(target);
            }
        }
        for _ in 0..OUTSIDE_OPS_MAX {
            let Some(slot) = self.pen.pop() else {
                break;
            };
            let target = self.slots.get(slot as usize);
            if let Some(view) = target.and_then(|target| Some(target.as_ref()?.view()))
                && view.at.0 > 0
                && !view.stands_by
            {
                op.set(view.target, json(&view));
            }
        }
        self.pen.due = (!self.pen.changed.is_empty()).then_some(at.now + PACE);
        if op.whole || !op.set.is_empty() || !op.removed.is_empty() {
            ops.push(Op::Outside(Box::new(op)));
        }
    }

    /// Time of the next write, except one that is due already.
    #[must_use]
    pub fn write_due(&self, now: Instant) -> Option<Instant> {
        self.pen.due(now)
    }
}

/// The stored form of a target.
fn json(view: &TargetView<'_>) -> String {
    let rtt_ms = view.rtt.map(|rtt| rtt.as_nanos() as f64 / 1e6);
    serde_json::json!({
        "state": view.state.as_str(),
        "rtt_ms": rtt_ms,
        "since": view.since.0,
        "at": view.at.0,
    })
    .to_string()
}
