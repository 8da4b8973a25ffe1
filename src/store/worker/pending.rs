//! Pending operations: what the core has handed over and neither the store nor the spool has yet.
//!
//! Among them are dispatches that were in progress when the store became unavailable. It is unknown
//! whether these are stored; they are *unsettled* until the store is asked after the reconnection.

use std::collections::VecDeque;

use crate::limits::{
    BATCH_OPS_MAX, DISPATCH_WAIT_S_MAX, DISPATCHES_WAITING_MAX, STORE_PENDING_OPS_MAX,
    STORE_RUN_OPS_MAX,
};
use crate::store::op::{Found, Op, Outcome, Stored};
use crate::time::{Instant, Span};

/// Operations for which memory is kept between two runs.
const OPS_KEPT: usize = 64;

/// The pending operations. At most `STORE_PENDING_OPS_MAX`, `DISPATCHES_WAITING_MAX` dispatches
/// among them.
#[derive(Debug)]
pub(super) struct Pending {
    /// In order. Only reports unless the store is available.
    ops: Vec<Op>,
    /// Time since which there are some.
    since: Instant,
    /// Time for which they gather before they run as one batch.
    flush: Span,
    /// Request numbers of the dispatches that are not settled, and the start of each.
    begun: VecDeque<(u64, Instant)>,
    /// Unsettled dispatches, in order.
    unsettled: VecDeque<Op>,
}

impl Pending {
    pub fn new(flush: Span) -> Self {
        Self {
            ops: Vec::new(),
            since: Instant::ZERO,
            flush,
            begun: VecDeque::new(),
            unsettled: VecDeque::new(),
        }
    }

    /// Takes reports at any time, dispatches and questions if the store is available, and state if
    /// it was made for the `current` connection. Other operations are answered, or dropped.
    pub fn take(
        &mut self,
        ops: Vec<Op>,
        is_available: bool,
        is_current: bool,
        now: Instant,
        out: &mut Vec<Outcome>,
    ) {
        if self.ops.is_empty() {
            self.since = now;
        }
        for op in ops {
            let is_taken = match &op {
                Op::Dispatch(dispatch) => is_available && self.begin(dispatch.request, now),
                Op::Read(_) => is_available,
                op => is_current || op.is_report(),
            };
            match is_taken {
                true => self.ops.push(op),
                false => out.extend(not_begun(&op)),
            }
        }
    }

    /// Returns false if there are too many dispatches.
    fn begin(&mut self, request: u64, now: Instant) -> bool {
        let has_room = self.begun.len() < DISPATCHES_WAITING_MAX;
        if has_room {
            self.begun.push_back((request, now));
        }
        has_room
    }

    /// Returns whether there is no room for another batch.
    pub fn is_full(&self) -> bool {
        self.ops.len() + BATCH_OPS_MAX > STORE_PENDING_OPS_MAX
    }

    /// Returns whether no operation is pending, apart from unsettled dispatches.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Number of pending operations.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// The operations, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The operations, for the spool: only reports while the store is unavailable.
    pub fn reports(&mut self) -> &mut Vec<Op> {
        &mut self.ops
    }

    /// Time at which they should run, if any is pending.
    pub fn due(&self) -> Option<Instant> {
        match self.ops.len() {
            0 => None,
            STORE_RUN_OPS_MAX.. => Some(Instant::ZERO),
            _ => Some(self.since + self.flush),
        }
    }

    /// Removes the first `count`, which the store has settled.
    pub fn settle(&mut self, count: usize) -> Vec<Op> {
        let settled: Vec<Op> = self.ops.drain(..count).collect();
        // The memory that many hosts needed is not kept for the few that follow.
        self.ops.shrink_to(OPS_KEPT);
        for op in &settled {
            self.end(op);
        }
        settled
    }

    /// Removes the first.
    pub fn remove_first(&mut self) -> Option<Op> {
        let count = self.ops.len().min(1);
        self.settle(count).pop()
    }

    /// Keeps only reports. State is dropped, questions are answered, and dispatches, which may have
    /// been begun, become unsettled.
    pub fn keep_only_reports(&mut self, out: &mut Vec<Outcome>) {
        for op in std::mem::take(&mut self.ops) {
            match op {
                op if op.is_report() => self.ops.push(op),
                op @ Op::Dispatch(_) => self.unsettled.push_back(op),
                op => out.extend(not_begun(&op)),
            }
        }
    }

    /// The first unsettled dispatch, and whether its requester still waits for it to be stored.
    pub fn unsettled(&self, now: Instant) -> Option<(&Op, bool)> {
        let op = self.unsettled.front()?;
        let limit = Span::from_secs(DISPATCH_WAIT_S_MAX);
        let begun = self.begun.iter().find(|(request, _)| is_of(op, *request));
        let finish = begun.is_some_and(|(_, since)| now.since(*since) <= limit);
        Some((op, finish))
    }

    /// Removes the first unsettled dispatch: it is settled, or set aside.
    pub fn settle_dispatch(&mut self) -> Option<Op> {
        let op = self.unsettled.pop_front()?;
        self.end(&op);
        Some(op)
    }

    fn end(&mut self, op: &Op) {
        if let Some(at) = self
            .begun
            .iter()
            .position(|(request, _)| is_of(op, *request))
        {
            self.begun.remove(at);
        }
    }
}

fn is_of(op: &Op, request: u64) -> bool {
    matches!(op, Op::Dispatch(dispatch) if dispatch.request == request)
}

/// Outcome of an operation that is not begun because the store is unavailable. State has none.
fn not_begun(op: &Op) -> Option<Outcome> {
    let reason = "the store is unavailable".to_owned();
    match op {
        Op::Dispatch(dispatch) => Some(Outcome::Dispatched {
            request: dispatch.request,
            stored: Stored::Undone(reason),
        }),
        Op::Read(read) => Some(Outcome::Read {
            ticket: read.ticket,
            found: Found::Nothing(reason),
        }),
        _ => None,
    }
}
