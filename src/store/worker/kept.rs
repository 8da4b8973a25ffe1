//! The replay buffer on disk for as long as the store is unavailable: a server that is killed in the outage
//! replays it after its next start.
//!
//! It is written when the store is found to be unavailable, before any later report is spooled; it is
//! deleted when all of it has been replayed, before anything newer is written. In between it equals the
//! copy in memory.

use super::machine::Worker;
use crate::store::Backend;

/// Relation of the copy on disk to the one in memory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The disk failed in this outage: it is in memory only.
    given_up: bool,
}

impl Worker {
    /// Takes over what a process kept that ended in an outage.
    pub(super) fn take_over_recent(&mut self) {
        let now = self.now();
        let found = self.spool.recent();
        if !found.is_empty() {
            let count = found.len();
            log::info!("store: {count} confirmed before the last end are written again");
        }
        for op in found {
            self.recent.push(now, op);
        }
        self.recent.is_new = false;
    }

    /// The store is away: what it confirmed lately is put on disk, unless it is there.
    pub(super) fn keep_recent(&mut self) {
        let backend = self.backend.as_deref();
        let needless = backend.is_some_and(Backend::keeps_what_it_confirms);
        if needless || !self.recent.is_new || self.kept.given_up {
            return;
        }
        let ops = self.recent.all();
        let all = ops.len();
        match self.spool.keep_recent(ops) {
            Ok(count) => {
                self.recent.is_new = false;
                log::debug!(target: "store", "thread: {count} of {all} confirmed lately are kept on disk");
                if count < all {
                    in_memory_only(all - count, "they would take more than half of the room");
                }
            }
            Err(error) => {
                self.kept.given_up = true;
                in_memory_only(all, &error.to_string());
            }
        }
    }

    /// All of it has been written again.
    pub(super) fn forget_kept(&mut self) {
        self.spool.forget_recent();
        self.recent.is_new = true;
        self.kept.given_up = false;
    }
}

fn in_memory_only(count: usize, why: &str) {
    log::warn!(
        "store: {count} confirmed lately are not kept on disk, only in memory, until it is back: {why}"
    );
}
