//! The replay buffer: reports and dispatches that the store has confirmed lately.
//!
//! A store that dies may lose its last seconds although it confirmed them (a Redis that syncs its
//! file once a second). They are replayed after every reconnection. While the store is unavailable
//! a copy is on the disk, so that a server which is killed in the outage replays them after its
//! next start. The copy is written before any later report is spooled, and deleted when all of it
//! has been replayed, before anything newer is written to the store.

use std::collections::VecDeque;

use crate::ids::HostId;
use crate::limits::{RECENT_BYTES_MAX, RECENT_OPS_MAX};
use crate::store::op::Op;
use crate::store::spool::Spool;
use crate::time::{Instant, Span};

/// The operations that were confirmed in the last seconds before the store was last known to have
/// its data, bounded in number and bytes.
#[derive(Debug, Default)]
pub(super) struct ReplayBuffer {
    ops: VecDeque<Op>,
    /// Time of confirmation and size of each.
    notes: VecDeque<(Instant, usize)>,
    bytes: usize,
    copy: Copy,
}

/// Relation of the copy on the disk to the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Copy {
    /// It has all operations that the disk has room for.
    #[default]
    Current,
    /// There are newer operations in memory.
    Outdated,
    /// The disk failed in this outage: no other copy is attempted.
    Failed,
}

impl ReplayBuffer {
    /// The copy that an earlier process left when it ended in an outage.
    pub fn left_by_last_process(spool: &mut Spool, now: Instant) -> Self {
        let mut buffer = Self::default();
        let found = spool.recent();
        let count = found.len();
        if count > 0 {
            log::info!(
                count = count;
                "store: {count} operations confirmed before the last end are replayed"
            );
        }
        for op in found {
            buffer.push(now, op);
        }
        buffer.copy = Copy::Current;
        buffer
    }

    /// Adds an operation that the store confirmed at `now`. Only reports and dispatches are kept.
    pub fn push(&mut self, now: Instant, mut op: Op) {
        let size = weight(&op);
        match &mut op {
            Op::Progress(report) => report.origin = None,
            Op::Answer(report) => report.origin = None,
            Op::Result(report) => report.origin = None,
            // One that would push out all the others is not kept.
            Op::Dispatch(_) if size < RECENT_BYTES_MAX / 2 => {}
            _ => return,
        }
        if self.copy == Copy::Current {
            self.copy = Copy::Outdated;
        }
        self.bytes += size;
        self.notes.push_back((now, size));
        self.ops.push_back(op);
        while self.ops.len() > RECENT_OPS_MAX || self.bytes > RECENT_BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// Removes safe operations: the store still had its data at `now`, so operations confirmed more
    /// than `kept` before that are safe.
    pub fn prune(&mut self, now: Instant, kept: Span) {
        let limit = now - kept;
        while self.notes.front().is_some_and(|&(at, _)| at < limit) {
            self.drop_oldest();
        }
    }

    /// Handles the end of a replay at `now`: the copy is deleted.
    pub fn replayed(&mut self, spool: &mut Spool, now: Instant) {
        for (at, _) in &mut self.notes {
            *at = now;
        }
        spool.delete_recent();
        self.copy = Copy::Outdated;
    }

    /// Writes the copy, if it is outdated.
    pub fn save(&mut self, spool: &mut Spool) {
        if self.copy != Copy::Outdated {
            return;
        }
        let ops: &[Op] = self.ops.make_contiguous();
        let all = ops.len();
        match spool.save_recent(ops) {
            Ok(count) => {
                self.copy = Copy::Current;
                log::debug!(
                    target: "store", count = count;
                    "thread: {count} of {all} operations confirmed lately are on the disk"
                );
                if count < all {
                    in_memory_only(all - count, "they would take more than half of the room");
                }
            }
            Err(error) => {
                self.copy = Copy::Failed;
                in_memory_only(all, &error.to_string());
            }
        }
    }

    fn drop_oldest(&mut self) {
        self.ops.pop_front();
        if let Some((_, size)) = self.notes.pop_front() {
            self.bytes -= size;
        }
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// At most `max` operations from the `from`-th on, oldest first.
    pub fn slice(&mut self, from: usize, max: usize) -> &[Op] {
        let all = self.ops.make_contiguous();
        let rest = &all[from.min(all.len())..];
        &rest[..max.min(rest.len())]
    }

    /// Removes the operation at `index`.
    pub fn remove(&mut self, index: usize) -> Option<Op> {
        let (_, size) = self.notes.remove(index)?;
        self.bytes -= size;
        self.ops.remove(index)
    }
}

fn in_memory_only(count: usize, reason: &str) {
    log::warn!(
        count = count, reason = reason;
        "store: {count} operations confirmed lately are only in memory while it is unavailable: {reason}"
    );
}

/// Estimated memory of an operation, in bytes.
fn weight(op: &Op) -> usize {
    let texts = match op {
        Op::Progress(report) => {
            let lists = report.complete.iter().chain(&report.oncall);
            lists
                .chain(&report.working)
                .map(|text| text.len() + size_of::<String>())
                .sum()
        }
        Op::Result(report) => report.output.len() + report.command.len(),
        Op::Dispatch(dispatch) => {
            let commands = dispatch
                .commands
                .iter()
                .map(|(command, _)| command.len() + 32);
            commands.sum::<usize>() + dispatch.hosts.len() * 2 * size_of::<HostId>()
        }
        _ => 0,
    };
    256 + texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::reports::{name, report};

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Span::from_secs(secs)
    }

    #[test]
    fn age_counts_only_while_the_store_has_its_data() {
        let mut buffer = ReplayBuffer::default();
        for n in 0..20 {
            buffer.push(at(n), report(n));
        }
        buffer.prune(at(20), Span::from_secs(10));
        let left: Vec<u64> = buffer.slice(0, 100).iter().map(name).collect();
        assert_eq!(left, (10..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_buffer_is_bounded_in_number_and_bytes() {
        let mut buffer = ReplayBuffer::default();
        for n in 0..RECENT_OPS_MAX as u64 + 5 {
            buffer.push(at(0), report(n));
        }
        assert_eq!(buffer.ops.len(), RECENT_OPS_MAX);
        assert_eq!(name(&buffer.slice(0, 1)[0]), 5);
        let mut buffer = ReplayBuffer::default();
        for n in 0..400 {
            let mut op = report(n);
            if let Op::Progress(report) = &mut op {
                report.oncall = vec!["x".repeat(60_000)];
            }
            buffer.push(at(0), op);
        }
        assert!(buffer.bytes <= RECENT_BYTES_MAX && buffer.ops.len() > 200);
        while buffer.remove(0).is_some() {}
        assert_eq!(buffer.bytes, 0);
    }
}
