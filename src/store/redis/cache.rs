//! Content of the lists that this process wrote last, one task for each host.
//!
//! ```text
//!  report, not cached ──▶ keys are read ──▶ merged ──▶ written ──▶ cached
//!  report, cached     ──────────────────▶ merged ──▶ written, if the keys are as cached
//! ```
//!
//! A host reports on one task at a time, and only the node that holds the host writes its reports.
//! So the content is usually known, and what is left to do is to write. The write checks the lists:
//! after a change from outside the keys are read.
//!
//! An entry is removed when another operation names the host, and all of them when the connection
//! ends.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::ids::{HostId, TaskKey};
use crate::limits::{PROGRESS_CACHE_BYTES_MAX, PROGRESS_CACHE_ENTRIES_MAX};
use crate::store::op::Op;
use crate::store::progress::Before;

/// Content of the keys of one host in one task.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key: TaskKey,
    pub(super) content: Before,
    /// Greatest number of finished commands.
    pub(super) room: usize,
}

impl Known {
    /// Estimated memory, in bytes.
    fn weight(&self) -> usize {
        let content = &self.content;
        let lists = content.complete.iter().chain(&content.oncall);
        let texts = lists.chain(&content.working);
        let bytes: usize = texts.map(|text| text.len() + size_of::<String>()).sum();
        bytes + 256
    }
}

/// The entries. When they are too many or too large, all are removed: each costs a reading.
#[derive(Debug, Default)]
pub(super) struct ProgressCache(RefCell<Entries>);

#[derive(Debug, Default)]
struct Entries {
    hosts: HashMap<HostId, Known>,
    bytes: usize,
}

impl Entries {
    fn remove(&mut self, host: &HostId) -> Option<Known> {
        let known = self.hosts.remove(host)?;
        self.bytes -= known.weight();
        Some(known)
    }
}

impl ProgressCache {
    /// Removes the entry of a host. Returns it if it is of this task.
    pub(super) fn take(&self, host: &HostId, key: &TaskKey) -> Option<Known> {
        let known = self.0.borrow_mut().remove(host)?;
        (known.key == *key).then_some(known)
    }

    /// Adds the entry of a host after its report was written.
    pub(super) fn put(&self, host: &HostId, known: Known) {
        let mut entries = self.0.borrow_mut();
        entries.remove(host);
        let weight = known.weight();
        let is_full = entries.hosts.len() >= PROGRESS_CACHE_ENTRIES_MAX
            || entries.bytes + weight > PROGRESS_CACHE_BYTES_MAX;
        if is_full {
            *entries = Entries::default();
        }
        if weight <= PROGRESS_CACHE_BYTES_MAX {
            entries.bytes += weight;
            entries.hosts.insert(host.clone(), known);
        }
    }

    /// Removes the entries that an operation other than a report of progress may make wrong.
    pub(super) fn before(&self, op: &Op) {
        let mut entries = self.0.borrow_mut();
        if entries.hosts.is_empty() {
            return;
        }
        let mut remove = |host: &HostId| drop(entries.remove(host));
        match op {
            Op::Online(op) => remove(&op.host),
            Op::Offline(op) => remove(&op.host),
            Op::Forget(host) => remove(host),
            Op::Answer(op) => remove(&op.host),
            Op::Dispatch(op) => op.hosts.iter().for_each(|(host, _)| remove(host)),
            Op::Restore(op) => op.hosts.iter().for_each(|(host, _)| remove(host)),
            Op::TaskStates(op) => op.states.iter().for_each(|(host, _)| remove(host)),
            _ => {}
        }
    }

    /// Removes all entries.
    pub(super) fn clear(&mut self) {
        *self.0.get_mut() = Entries::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(commands: usize) -> Known {
        Known {
            key: TaskKey::parse("AC1", "AC").unwrap(),
            content: Before {
                complete: vec!["x".repeat(1_000); commands],
                ..Before::default()
            },
            room: 1,
        }
    }

    fn host(number: usize) -> HostId {
        HostId::checked(&format!("h{number}")).unwrap()
    }

    #[test]
    fn entries_and_their_bytes_are_bounded() {
        let cache = ProgressCache::default();
        for number in 0..PROGRESS_CACHE_ENTRIES_MAX * 2 + 5 {
            cache.put(&host(number), known(0));
        }
        assert_eq!(cache.0.borrow().hosts.len(), 5);
        let each = PROGRESS_CACHE_BYTES_MAX / 10 / 1_000;
        for number in 0..100 {
            cache.put(&host(number), known(each));
            assert!(cache.0.borrow().bytes <= PROGRESS_CACHE_BYTES_MAX);
        }
        cache.put(&host(0), known(each * 11));
        assert!(cache.0.borrow().hosts.is_empty());
        let key = |name: &str| TaskKey::parse(name, "AC").unwrap();
        cache.put(&host(0), known(1));
        assert!(cache.take(&host(1), &key("AC1")).is_none());
        assert!(cache.take(&host(0), &key("AC1")).is_some());
        cache.put(&host(0), known(1));
        assert!(cache.take(&host(0), &key("AC2")).is_none());
        assert_eq!(cache.0.borrow().bytes, 0);
    }
}
