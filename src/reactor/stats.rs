//! Counters and gauges of the reactor.

use crate::codec::Abnormal;
use crate::control::metrics::{Exposition, Source};

/// Counters, and a few gauges, of the sockets and the turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorStats {
    /// Connections of hosts open now.
    pub connections: u64,
    /// Connections of hosts there is room for.
    pub connections_max: u64,
    /// Connections accepted and kept.
    pub accepted: u64,
    /// Connections closed at once because the table was full.
    pub shed_full: u64,
    /// Connections closed at once because their address had its share.
    pub shed_per_ip: u64,
    /// Connections closed for a new one because they had not proved themselves.
    pub shed_unproven: u64,
    /// Connections closed at once because the system had no descriptor left.
    pub shed_descriptors: u64,
    /// Times accepting failed, whatever the reason.
    pub accept_errors: u64,
    /// Bytes read from hosts.
    pub bytes_in: u64,
    /// Bytes written to hosts.
    pub bytes_out: u64,
    /// Whole frames taken by the core.
    pub frames: u64,
    /// Raw bytes taken by the core.
    pub raw_bytes: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that did not wait, because a connection was still ready or a deadline had passed.
    pub busy_turns: u64,
    /// Turns before which the loop napped, to let traffic gather.
    pub naps: u64,
    /// Panics while one connection's input was handled. Each has ended that connection only.
    pub panics: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Datagrams received that were dropped for being too long.
    pub datagrams_too_long: u64,
    /// Datagrams received that were no messages, by what was wrong with them.
    pub datagrams_abnormal: [u64; Abnormal::LABELS.len()],
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams the system would not send.
    pub datagrams_failed: u64,
    /// Times the UDP socket took no more datagrams for the moment.
    pub datagrams_blocked: u64,
    /// Dispatches sent over a connection.
    pub pushes: u64,
    /// Dispatches not sent over a connection, because its peer does not read.
    pub pushes_dropped: u64,
    /// Askers waiting for the core's answer.
    pub askers: u64,
    /// Times a connection was not read on because it did not read its replies.
    pub read_paused: u64,
    /// Times a connection was not read on because there was no room for its report.
    pub read_waited: u64,
    /// Connections on the still-ready list after the last turn.
    pub still_ready: u64,
    /// Distance of the horizon behind the clock in the last turn, in nanoseconds.
    pub horizon_lag_ns: u64,
    /// Batches handed to the store thread.
    pub batches: u64,
    /// The operations in them.
    pub ops: u64,
    /// Times a batch had to wait because the store thread's channel was full.
    pub batches_held: u64,
    /// Subscribers to the events now.
    pub subscribers: u64,
    /// Events dropped because a subscriber was slow.
    pub events_missed: u64,
}

impl Source for ReactorStats {
    fn collect(&self, page: &mut Exposition) {
        let gauges = [
            (
                "anthill_connections",
                "Connections of hosts open now.",
                self.connections,
            ),
            (
                "anthill_connections_max",
                "Connections of hosts there is room for.",
                self.connections_max,
            ),
            (
                "anthill_still_ready",
                "Connections that stopped at their budget of the last turn.",
                self.still_ready,
            ),
            (
                "anthill_subscribers",
                "Subscribers to the events.",
                self.subscribers,
            ),
            (
                "anthill_askers",
                "Handles waiting for an answer.",
                self.askers,
            ),
        ];
        for (name, help, value) in gauges {
            page.gauge(name, help, value);
        }
        page.gauge(
            "anthill_horizon_lag_seconds",
            "How far what has been read lay behind the clock in the last turn.",
            self.horizon_lag_ns as f64 / 1e9,
        );
        page.counters(
            "anthill_connections_shed_total",
            "Connections closed because there was no room, by cause.",
            "cause",
            [
                ("full", self.shed_full),
                ("per_ip", self.shed_per_ip),
                ("unproven", self.shed_unproven),
                ("descriptors", self.shed_descriptors),
            ],
        );
        page.counters(
            "anthill_datagrams_abnormal_total",
            "Datagrams received that were no messages, by what was wrong with them.",
            "kind",
            Abnormal::LABELS.into_iter().zip(self.datagrams_abnormal),
        );
        for (name, help, value) in self.counters() {
            page.counter(name, help, value);
        }
    }
}

impl ReactorStats {
    #[rustfmt::skip] // A table: name, meaning, value.
    fn counters(&self) -> [(&'static str, &'static str, u64); 22] {
        [
            ("anthill_accepted_total", "Connections accepted and kept.", self.accepted),
            ("anthill_accept_errors_total", "Times accepting failed.", self.accept_errors),
            ("anthill_bytes_in_total", "Bytes read from hosts.", self.bytes_in),
            ("anthill_bytes_out_total", "Bytes written to hosts.", self.bytes_out),
            ("anthill_frames_total", "Whole frames taken.", self.frames),
            ("anthill_raw_bytes_total", "Raw bytes of results taken.", self.raw_bytes),
            ("anthill_turns_total", "Turns of the loop.", self.turns),
            ("anthill_busy_turns_total", "Turns that did not wait.", self.busy_turns),
            ("anthill_naps_total", "Naps under dense traffic.", self.naps),
            ("anthill_panics_total", "Panics that ended one connection.", self.panics),
            ("anthill_datagrams_total", "Datagrams received.", self.datagrams),
            ("anthill_datagrams_too_long_total", "Datagrams received that were dropped for being too long.", self.datagrams_too_long),
            ("anthill_datagrams_sent_total", "Datagrams sent.", self.datagrams_sent),
            ("anthill_datagrams_failed_total", "Datagrams the system would not send.", self.datagrams_failed),
            ("anthill_datagrams_blocked_total", "Times the UDP socket took no more for the moment.", self.datagrams_blocked),
            ("anthill_pushes_total", "Dispatches sent over a connection.", self.pushes),
            ("anthill_pushes_dropped_total", "Dispatches not sent over a connection, because its peer does not read.", self.pushes_dropped),
            ("anthill_read_paused_total", "Times a connection was not read because it did not read its replies.", self.read_paused),
            ("anthill_read_waited_total", "Times a connection was not read because there was no room for its report.", self.read_waited),
            ("anthill_batches_total", "Batches handed to the store thread.", self.batches),
            ("anthill_batches_held_total", "Times a batch waited for room in the store thread's channel.", self.batches_held),
            ("anthill_events_missed_total", "Events that a slow subscriber lost.", self.events_missed),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_line_of_its_own() {
        let stats = ReactorStats {
            accepted: 7,
            shed_per_ip: 3,
            horizon_lag_ns: 1_500_000_000,
            ..ReactorStats::default()
        };
        let mut page = Exposition::new();
        stats.collect(&mut page);
        let page = page.finish();
        for line in [
            "anthill_accepted_total 7",
            "anthill_connections_shed_total{cause=\"per_ip\"} 3",
            "anthill_horizon_lag_seconds 1.5",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        }
    }
}
