//! Counters and gauges of the store thread, readable at any time from any thread, each number for
//! itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{BOUNDS, Bounds, Histogram, Measured, Metric, bucket_of};

/// Bounds of the times of batches: 100 µs to 5 s.
const BATCH_BOUNDS: Bounds = [
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// Counters and gauges of the store thread. The table `METRICS` describes them.
#[derive(Debug, Default)]
pub struct StoreStats {
    pub state: Gauge,
    pub batches: Gauge,
    pub ops: Gauge,
    pub last_batch_us: Gauge,
    pub batch_times: BatchTimes,
    pub reconnects: Gauge,
    pub restarts: Gauge,
    pub moved: Gauge,
    pub asked: Gauge,
    pub refreshes: Gauge,
    pub spooled: Gauge,
    pub replayed: Gauge,
    pub rejected: Gauge,
    pub spool_records_waiting: Gauge,
    pub spool_bytes: Gauge,
    pub spool_damaged: Gauge,
    pub pending_ops: Gauge,
    pub nodes_up: Gauge,
    pub nodes_silent: Gauge,
    pub inbox: Gauge,
}

#[rustfmt::skip] // A table: name, meaning, value.
impl Measured for StoreStats {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::new("anthill_store_thread_state", "The store thread: 0 connecting, 1 available, 2 unavailable, 3 ended.", |s| s.state.get()),
        Metric::new("anthill_spool_records_waiting", "Records that wait in the spool.", |s| s.spool_records_waiting.get()),
        Metric::new("anthill_spool_bytes", "Bytes of the spool on disk.", |s| s.spool_bytes.get()),
        Metric::new("anthill_store_ops_in_hand", "Pending operations: neither stored nor spooled yet.", |s| s.pending_ops.get()),
        Metric::new("anthill_nodes_up", "Other nodes that renew their leases.", |s| s.nodes_up.get()),
        Metric::new("anthill_nodes_silent", "Other nodes without a lease that may still have hosts or tasks.", |s| s.nodes_silent.get()),
        Metric::new("anthill_inbox_entries", "Entries of this node's inbox, which other nodes fill, at the last look.", |s| s.inbox.get()),
        Metric::seconds("anthill_store_last_batch_seconds", "Duration of the last batch of the store.", |s| s.last_batch_us.get() as f64 / 1e6),
        Metric::histogram("anthill_store_batch_seconds", "Duration of a batch of the store.", &BATCH_BOUNDS, |s| s.batch_times.get()),
        Metric::new("anthill_store_batches_total", "Batches run by the store.", |s| s.batches.get()),
        Metric::new("anthill_store_ops_total", "Operations settled by the store, rewrites included.", |s| s.ops.get()),
        Metric::new("anthill_store_reconnects_total", "Connections to the store after the first.", |s| s.reconnects.get()),
        Metric::new("anthill_store_restarts_total", "Panics of the store thread. It continues with a new connection.", |s| s.restarts.get()),
        Metric::new("anthill_store_moved_total", "Commands that a Redis Cluster answered with MOVED: their slot has another server.", |s| s.moved.get()),
        Metric::new("anthill_store_ask_total", "Commands that a Redis Cluster answered with ASK: their slot is being moved.", |s| s.asked.get()),
        Metric::new("anthill_store_topology_refreshes_total", "Readings of the map of a Redis Cluster's slots after the first.", |s| s.refreshes.get()),
        Metric::new("anthill_spool_written_total", "Reports written to the spool.", |s| s.spooled.get()),
        Metric::new("anthill_spool_replayed_total", "Reports read from the spool and settled.", |s| s.replayed.get()),
        Metric::new("anthill_store_rejected_total", "Operations refused for good and written to `rejected`.", |s| s.rejected.get()),
        Metric::new("anthill_spool_damaged_total", "Damaged stretches found in the spool.", |s| s.spool_damaged.get()),
    ];
}

/// Durations of batches.
#[derive(Debug, Default)]
pub struct BatchTimes {
    counts: [Gauge; BOUNDS + 1],
    sum_ns: Gauge,
}

impl BatchTimes {
    pub(super) fn record(&self, ns: u64) {
        self.counts[bucket_of(&BATCH_BOUNDS, ns)].add(1);
        self.sum_ns.0.fetch_add(ns, Ordering::Relaxed);
    }

    /// The durations so far.
    #[must_use]
    pub fn get(&self) -> Histogram {
        Histogram::of(self.counts.each_ref().map(Gauge::get), self.sum_ns.get())
    }
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
