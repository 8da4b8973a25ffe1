//! The worker's disk: the spool, for reports while the store is unavailable, and the file
//! `rejected`.

use std::path::Path;
use std::sync::Arc;

use super::StoreStats;
use crate::limits::{REPLAY_BYTES_MAX, SPOOL_TAIL_RECORDS};
use crate::store::StoreError;
use crate::store::op::{Op, Outcome};
use crate::store::spool::{self, Rejected, Spool, SpoolError};
use crate::time::UnixMs;

/// The spool and the rejected operations.
#[derive(Debug)]
pub(super) struct Disk {
    spool: Spool,
    rejected: Rejected,
    /// Reason for which reports can be stored nowhere.
    stuck: Option<String>,
    stats: Arc<StoreStats>,
}

impl Disk {
    pub fn new(spool: Spool, dir: &Path, stats: Arc<StoreStats>) -> Self {
        Self {
            spool,
            rejected: Rejected::in_dir(dir),
            stuck: None,
            stats,
        }
    }

    /// The spool, for the copy of the replay buffer.
    pub fn spool(&mut self) -> &mut Spool {
        &mut self.spool
    }

    /// Returns whether no report is spooled.
    pub fn is_empty(&self) -> bool {
        self.spool.is_empty()
    }

    /// Returns whether the last records of the spool are being replayed.
    pub fn has_only_tail(&self) -> bool {
        self.spool.records() <= SPOOL_TAIL_RECORDS
    }

    /// Reason for which reports can be stored nowhere, if there is one.
    pub fn stuck(&self) -> Option<&str> {
        self.stuck.as_deref()
    }

    /// Handles an available store: reports go there.
    pub fn became_available(&mut self) {
        self.stuck = None;
    }

    /// Spools `reports`, acknowledges them and empties the list. One that can never be a record is
    /// refused. If the spool takes none, they stay, and [`stuck`](Self::stuck) says why.
    pub fn spool_reports(&mut self, reports: &mut Vec<Op>, wall: UnixMs, out: &mut Vec<Outcome>) {
        let mut spooled = self.append(reports, out);
        if matches!(spooled, Err(SpoolError::Record(_))) {
            let check = |op| match spool::check(&op) {
                Ok(()) => Ok(op),
                Err(error) => Err((op, error.to_string())),
            };
            let mut refused = Vec::new();
            for op in std::mem::take(reports) {
                match check(op) {
                    Ok(op) => reports.push(op),
                    Err(bad) => refused.push(bad),
                }
            }
            self.reject(wall, &refused);
            out.extend(refused.iter().filter_map(|(op, reason)| op.refused(reason)));
            spooled = self.append(reports, out);
        }
        self.stuck = spooled.err().map(|error| error.to_string());
    }

    fn append(&mut self, reports: &mut Vec<Op>, out: &mut Vec<Outcome>) -> Result<(), SpoolError> {
        if reports.is_empty() {
            return Ok(());
        }
        self.spool.append(&reports.iter().collect::<Vec<_>>())?;
        self.spool.sync()?;
        self.stats.spooled.add(reports.len());
        out.extend(reports.drain(..).filter_map(|op| op.written()));
        Ok(())
    }

    /// The oldest spooled reports, at most `max`.
    pub fn next(&mut self, max: usize) -> Result<&[Op], StoreError> {
        let next = self.spool.next(max, REPLAY_BYTES_MAX);
        next.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Removes the first `count` of the last [`next`](Self::next).
    pub fn settle(&mut self, count: usize) -> Vec<Op> {
        self.spool.settled(count)
    }

    /// Writes finally refused operations to `rejected`, each with its reason.
    pub fn reject(&self, wall: UnixMs, refused: &[(Op, String)]) {
        let Some((_, reason)) = refused.first() else {
            return;
        };
        let count = refused.len();
        self.stats.rejected.add(count);
        log::warn!(
            count = count, reason = reason;
            "store: {count} operations are refused for good and written to `rejected`: {reason}"
        );
        let lines: Vec<(&Op, &str)> = refused.iter().map(|(op, why)| (op, &**why)).collect();
        if let Err(error) = self.rejected.write(wall, &lines) {
            log::error!(error:% = error; "store: `rejected` cannot be written: {error}");
        }
    }

    /// Updates the gauges.
    pub fn gauge(&self) {
        self.stats.spool_records_waiting.set(self.spool.records());
        self.stats.spool_bytes.set(self.spool.bytes());
        self.stats.spool_damaged.set(self.spool.damaged());
    }
}
