//! Reports and dispatches the store has confirmed lately. A store that loses its last seconds when it dies (a Redis that
//! syncs its file once a second) confirmed them all the same, so they are written again after
//! every reconnect.

use std::collections::VecDeque;

use crate::ids::HostId;
use crate::limits::{RECENT_BYTES_MAX, RECENT_OPS_MAX, RECENT_S};
use crate::store::op::Op;
use crate::time::{Instant, Span};

/// The reports and dispatches since [`RECENT_S`] seconds before the store was last seen to have its data, bounded
/// in number and bytes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ops: VecDeque<Op>,
    /// Time of confirmation and size of each.
    notes: VecDeque<(Instant, usize)>,
    bytes: usize,
    /// There are operations that are not on disk.
    pub is_new: bool,
}

impl Recent {
    /// A report was confirmed at `now`, or a dispatch, which finds itself when it is run again.
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
        self.is_new = true;
        self.bytes += size;
        self.notes.push_back((now, size));
        self.ops.push_back(op);
        while self.ops.len() > RECENT_OPS_MAX || self.bytes > RECENT_BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// The store still has its data at `now`: what it confirmed [`RECENT_S`] before is safe with it.
    pub fn prune(&mut self, now: Instant) {
        let limit = now - Span::from_secs(RECENT_S);
        while self.notes.front().is_some_and(|&(at, _)| at < limit) {
            self.drop_oldest();
        }
    }

    /// All of them have been written again, and are as fresh as on the first day.
    pub fn renew(&mut self, now: Instant) {
        for (at, _) in &mut self.notes {
            *at = now;
        }
    }

    fn drop_oldest(&mut self) {
        self.ops.pop_front();
        if let Some((_, size)) = self.notes.pop_front() {
            self.bytes -= size;
        }
    }

    /// All of them, oldest first.
    pub fn all(&mut self) -> &[Op] {
        self.ops.make_contiguous()
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// At most `max` of them from the `from`-th on, oldest first.
    pub fn slice(&mut self, from: usize, max: usize) -> &[Op] {
        let all = self.ops.make_contiguous();
        let rest = &all[from.min(all.len())..];
        &rest[..max.min(rest.len())]
    }

    /// Takes the one at `index` out.
    pub fn remove(&mut self, index: usize) -> Option<Op> {
        let (_, size) = self.notes.remove(index)?;
        self.bytes -= size;
        self.ops.remove(index)
    }
}

/// About how much memory a report takes, in bytes.
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
    fn it_forgets_by_age_only_while_the_store_lives() {
        let mut recent = Recent::default();
        for n in 0..20 {
            recent.push(at(n), report(n));
        }
        recent.prune(at(20));
        let left: Vec<u64> = recent.slice(0, 100).iter().map(name).collect();
        assert_eq!(left, (10..20).collect::<Vec<_>>());
    }

    #[test]
    fn it_is_bounded_in_number_and_bytes() {
        let mut recent = Recent::default();
        for n in 0..RECENT_OPS_MAX as u64 + 5 {
            recent.push(at(0), report(n));
        }
        assert_eq!(recent.ops.len(), RECENT_OPS_MAX);
        assert_eq!(name(&recent.slice(0, 1)[0]), 5);
        let mut recent = Recent::default();
        for n in 0..400 {
            let mut op = report(n);
            if let Op::Progress(report) = &mut op {
                report.oncall = vec!["x".repeat(60_000)];
            }
            recent.push(at(0), op);
        }
        assert!(recent.bytes <= RECENT_BYTES_MAX && recent.ops.len() > 200);
        while recent.remove(0).is_some() {}
        assert_eq!(recent.bytes, 0);
    }
}
