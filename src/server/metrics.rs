//! Metrics of the store thread.

use std::sync::Arc;

use crate::control::metrics::{Exposition, Source};
use crate::store::worker::StoreStats;

/// The numbers of a store thread, read whenever they are shown.
#[derive(Debug)]
pub struct StoreMetrics(pub Arc<StoreStats>);

impl Source for StoreMetrics {
    #[rustfmt::skip] // A table: name, meaning, value.
    fn collect(&self, page: &mut Exposition) {
        let stats = &self.0;
        for (name, help, gauge) in [
            ("anthill_store_thread_state", "The store thread: 0 coming up, 1 up, 2 away, 3 ended.", &stats.state),
            ("anthill_spool_records_waiting", "Records that wait in the spool.", &stats.spool_records_waiting),
            ("anthill_spool_bytes", "Bytes of the spool on disk.", &stats.spool_bytes),
            ("anthill_store_ops_in_hand", "Operations neither stored nor spooled yet.", &stats.pending_ops),
        ] {
            page.gauge(name, help, gauge.get());
        }
        page.gauge(
            "anthill_store_last_batch_seconds",
            "How long the store took for its last batch.",
            stats.last_batch_us.get() as f64 / 1e6,
        );
        for (name, help, gauge) in [
            ("anthill_store_batches_total", "Batches run by the store.", &stats.batches),
            ("anthill_store_ops_total", "Operations settled by the store.", &stats.ops),
            ("anthill_store_reconnects_total", "Comings-up of the store after the first.", &stats.reconnects),
            ("anthill_store_restarts_total", "Panics of the store thread.", &stats.restarts),
            ("anthill_spool_written_total", "Reports written to the spool.", &stats.spooled),
            ("anthill_spool_replayed_total", "Reports read from the spool and settled.", &stats.replayed),
            ("anthill_store_rejected_total", "Operations refused for good.", &stats.rejected),
            ("anthill_spool_damaged_total", "Damaged stretches found in the spool.", &stats.spool_damaged),
        ] {
            page.counter(name, help, gauge.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_shown_once() {
        let mut page = Exposition::new();
        StoreMetrics(Arc::default()).collect(&mut page);
        let page = page.finish();
        assert_eq!(page.lines().filter(|l| l.starts_with("# TYPE")).count(), 13);
        assert!(
            page.lines()
                .any(|line| line == "anthill_store_restarts_total 0")
        );
    }
}
