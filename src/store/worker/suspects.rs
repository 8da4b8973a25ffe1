//! Operations that may be the cause of a broken connection.
//!
//! A server or a proxy may close the connection at one operation: a value above its limit, a reply
//! that is too long. Such an operation breaks every connection, and no later one is ever written.
//! Operations that were in progress when a connection broke are *suspects*. They run in small
//! groups, then alone. An operation that has broken [`SUSPECT_BREAKS_MAX`] connections in a row,
//! each time alone, is refused.
//!
//! An ordinary outage refuses none: a connection counts only after it has taken a write of its own
//! ([`Backend::probe`](crate::store::Backend::probe)).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::limits::{STORE_CARE_S, SUSPECT_BREAKS_MAX, SUSPECTS_MAX};
use crate::store::op::Op;
use crate::time::{Instant, Span};

/// Parts into which a broken batch is divided for the next attempt.
const PARTS: usize = 16;

/// The suspects, by fingerprint.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    found: HashMap<u64, Suspect>,
    hasher: RandomState,
    /// Number of suspects that run together.
    group: usize,
    /// Reason of the last break.
    why: String,
}

/// A suspect.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    /// Consecutive connections that it has broken alone.
    breaks: u32,
    /// Time of the last break while it was in progress.
    at: Instant,
}

impl Suspects {
    /// Returns whether there is no suspect.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Number of `ops`, from the first, that may run together.
    pub fn together(&self, ops: &[Op]) -> usize {
        if self.is_empty() {
            return ops.len();
        }
        let breaks = |op| Some(self.found.get(&self.mark(op))?.breaks);
        let first = ops.first().and_then(breaks);
        let alike = || ops.iter().take_while(|op| breaks(op) == first).count();
        match first {
            None => alike(),
            Some(0) => alike().min(self.group.max(1)),
            Some(_) => 1,
        }
    }

    /// The connection broke at `now`, for this reason, while `ops` were in progress.
    pub fn broke(&mut self, ops: &[Op], now: Instant, why: &str) {
        why.clone_into(&mut self.why);
        let care = Span::from_secs(STORE_CARE_S);
        self.found.retain(|_, one| now.since(one.at) <= care);
        if self.found.len() + ops.len() > SUSPECTS_MAX {
            self.found.retain(|_, one| one.breaks > 0);
        }
        let alone = ops.len() == 1;
        for op in ops.iter().take(SUSPECTS_MAX) {
            let mark = self.mark(op);
            let one = self.found.entry(mark);
            let one = one.or_insert(Suspect { breaks: 0, at: now });
            one.breaks += u32::from(alone);
            one.at = now;
        }
        if !alone {
            self.group = ops.len() / PARTS;
        }
    }

    /// `ops` were answered.
    pub fn passed(&mut self, ops: &[Op]) {
        for op in ops {
            if self.is_empty() {
                return;
            }
            self.found.remove(&self.mark(op));
        }
    }

    /// Reason to refuse an operation without running it. A report is refused once; state and
    /// questions are repeated by the core, and stay refused for [`STORE_CARE_S`].
    pub fn verdict(&mut self, op: &Op, now: Instant) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mark = self.mark(op);
        let one = self.found.get_mut(&mark)?;
        if one.breaks < SUSPECT_BREAKS_MAX {
            return None;
        }
        if now.since(one.at) > Span::from_secs(STORE_CARE_S) {
            one.breaks = SUSPECT_BREAKS_MAX - 1;
            one.at = now;
            return None;
        }
        if op.is_report() {
            self.found.remove(&mark);
        }
        Some(format!(
            "it broke {SUSPECT_BREAKS_MAX} connections to the store in a row: {}",
            self.why
        ))
    }

    /// Fingerprint of an operation, the same if it is made again or read from the spool.
    fn mark(&self, op: &Op) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        std::mem::discriminant(op).hash(&mut hasher);
        match op {
            Op::Online(op) => op.host.hash(&mut hasher),
            Op::Offline(op) => op.host.hash(&mut hasher),
            Op::Inventory(op) => op.host.hash(&mut hasher),
            Op::Labels(op) => (&op.host, op.place as u8).hash(&mut hasher),
            Op::Forget(host) => host.as_str().hash(&mut hasher),
            Op::Seen(_) | Op::Audit(_) => {}
            Op::Notice(op) => op.stamp.seq.hash(&mut hasher),
            Op::Progress(op) => (&op.host, &op.key, op.stamp.seq).hash(&mut hasher),
            Op::Answer(op) => (&op.host, &op.key, op.stamp.seq).hash(&mut hasher),
            Op::Result(op) => (&op.host, &op.code, op.stamp.seq).hash(&mut hasher),
            Op::TaskStates(op) => op.key.hash(&mut hasher),
            Op::Rollout(op) => op.key.hash(&mut hasher),
            Op::Dispatch(op) | Op::Restore(op) => (&op.key, op.request).hash(&mut hasher),
            Op::Read(op) => op.question.hash(&mut hasher),
            Op::Outside(op) => op.place.as_str().hash(&mut hasher),
            Op::Polls(op) => op.at.hash(&mut hasher),
            Op::History(op) => op.hour.hash(&mut hasher),
            Op::Ring(op) => (&op.node, &op.about).hash(&mut hasher),
            Op::Command(op) => op.cid.hash(&mut hasher),
            Op::Rung(ids) => ids.hash(&mut hasher),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::reports::report;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Span::from_secs(secs)
    }

    #[test]
    fn a_broken_batch_runs_in_groups_and_then_alone() {
        let ops: Vec<Op> = (0..64).map(report).collect();
        let mut suspects = Suspects::default();
        assert_eq!(suspects.together(&ops), 64);
        suspects.broke(&ops, at(1), "closed");
        assert_eq!(suspects.together(&ops), 4);
        suspects.passed(&ops[..4]);
        suspects.broke(&ops[4..8], at(2), "closed");
        assert_eq!(suspects.together(&ops[4..]), 1);
        assert_eq!(
            suspects.together(&ops[..8]),
            4,
            "only unsuspected operations"
        );
    }

    #[test]
    fn three_breaks_alone_in_a_row_refuse() {
        let op = report(1);
        let mut suspects = Suspects::default();
        for now in 1..=2 {
            suspects.broke(std::slice::from_ref(&op), at(now), "closed");
        }
        suspects.passed(std::slice::from_ref(&op));
        for now in 3..=5 {
            assert_eq!(suspects.verdict(&op, at(now)), None);
            suspects.broke(std::slice::from_ref(&op), at(now), "closed");
        }
        assert!(suspects.verdict(&op, at(6)).is_some());
        assert!(suspects.is_empty());
    }

    #[test]
    fn state_is_tried_again_after_a_minute() {
        let op = Op::Audit(Vec::new());
        let mut suspects = Suspects::default();
        for now in 1..=3 {
            suspects.broke(std::slice::from_ref(&op), at(now), "closed");
        }
        assert!(suspects.verdict(&op, at(4)).is_some());
        assert!(suspects.verdict(&op, at(60)).is_some());
        assert_eq!(suspects.verdict(&op, at(64)), None);
        suspects.broke(std::slice::from_ref(&op), at(65), "closed");
        assert!(suspects.verdict(&op, at(66)).is_some());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut suspects = Suspects::default();
        for round in 0..10 {
            let ops: Vec<Op> = (0..1_000).map(|n| report(round * 1_000 + n)).collect();
            suspects.broke(&ops, at(1), "closed");
            assert!(suspects.found.len() <= SUSPECTS_MAX);
        }
    }
}
