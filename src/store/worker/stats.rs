//! Counters and gauges of the store thread, readable at any time from any thread, each number for
//! itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// State of the store: 0 connecting, 1 available, 2 unavailable, 3 ended.
    pub state: Gauge,
    /// Batches run.
    pub batches: Gauge,
    /// Operations settled by the store, those written again included.
    pub ops: Gauge,
    /// Duration of the last batch, in microseconds.
    pub last_batch_us: Gauge,
    /// Comings-up after the first.
    pub reconnects: Gauge,
    /// Panics of the store thread; after each it went on with a new connection.
    pub restarts: Gauge,
    /// Reports written to the spool.
    pub spooled: Gauge,
    /// Reports read from the spool and settled.
    pub replayed: Gauge,
    /// Operations refused for good, and written to `rejected`.
    pub rejected: Gauge,
    /// Records that wait in the spool.
    pub spool_records_waiting: Gauge,
    /// Bytes of the spool on disk.
    pub spool_bytes: Gauge,
    /// Damaged stretches found in the spool.
    pub spool_damaged: Gauge,
    /// Pending operations: neither stored nor spooled yet.
    pub pending_ops: Gauge,
}

/// One number of [`StoreStats`].
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }
}
