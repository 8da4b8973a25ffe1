//! Counters and gauges of the reactor.

use super::admission::Refusal;
use crate::codec::Abnormal;
use crate::codec::proxy::ProxyError;
use crate::metrics::{Bounds, Histogram, Measured, Metric};

/// Bounds of the times of turns: 50 µs to 1 s.
pub const TURN_BOUNDS: Bounds = [
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    1_000_000_000,
];

/// Counters and gauges of the sockets and the turn. The table `METRICS` describes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorStats {
    pub connections: u64,
    pub connections_max: u64,
    pub accepted: u64,
    pub shed_full: u64,
    pub shed_per_ip: u64,
    pub shed_unproven: u64,
    pub shed_descriptors: u64,
    pub accept_errors: u64,
    pub proxied: u64,
    /// In the order of [`ProxyError::LABELS`].
    pub proxy_refused: [u64; ProxyError::LABELS.len()],
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub frames: u64,
    pub raw_bytes: u64,
    pub turns: u64,
    pub turn_times: Histogram,
    pub busy_turns: u64,
    pub naps: u64,
    pub panics: u64,
    pub datagrams: u64,
    pub datagrams_too_long: u64,
    /// In the order of [`Abnormal::LABELS`].
    pub datagrams_abnormal: [u64; Abnormal::LABELS.len()],
    pub datagrams_sent: u64,
    pub datagrams_failed: u64,
    pub datagrams_blocked: u64,
    pub pushes: u64,
    pub pushes_dropped: u64,
    pub requesters: u64,
    pub read_paused: u64,
    pub read_waited: u64,
    pub still_ready: u64,
    pub horizon_lag_ns: u64,
    pub batches: u64,
    pub ops: u64,
    pub batches_held: u64,
    pub subscribers: u64,
    pub events_missed: u64,
}

impl ReactorStats {
    /// Counts a new connection that is closed at once.
    pub fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Full => self.shed_full += 1,
            Refusal::PerNetwork => self.shed_per_ip += 1,
            Refusal::Unproven => self.shed_unproven += 1,
        }
    }
}

#[rustfmt::skip] // A table: name, meaning, value.
impl Measured for ReactorStats {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::new("anthill_connections", "Connections of hosts open now.", |s| s.connections),
        Metric::new("anthill_connections_max", "Largest number of connections of hosts.", |s| s.connections_max),
        Metric::new("anthill_still_ready", "Connections that used up their budget of the last turn.", |s| s.still_ready),
        Metric::new("anthill_subscribers", "Subscribers to the events.", |s| s.subscribers),
        Metric::new("anthill_askers", "Requests of handles that wait for an answer.", |s| s.requesters),
        Metric::seconds("anthill_horizon_lag_seconds", "Distance of the horizon behind the clock in the last turn.", |s| s.horizon_lag_ns as f64 / 1e9),
        Metric::by("cause", "anthill_connections_shed_total", "Connections closed because there was no room, by cause.", |s| vec![
            ("full", s.shed_full),
            ("per_ip", s.shed_per_ip),
            ("unproven", s.shed_unproven),
            ("descriptors", s.shed_descriptors),
        ]),
        Metric::by("kind", "anthill_datagrams_abnormal_total", "Datagrams received that were no valid messages, by kind.", |s| Abnormal::LABELS.into_iter().zip(s.datagrams_abnormal).collect()),
        Metric::new("anthill_accepted_total", "Connections accepted and kept.", |s| s.accepted),
        Metric::new("anthill_accept_errors_total", "Failures to accept a connection.", |s| s.accept_errors),
        Metric::new("anthill_proxied_total", "Connections whose PROXY header was accepted.", |s| s.proxied),
        Metric::by("kind", "anthill_proxy_refused_total", "Connections closed for their PROXY header, by kind.", |s| ProxyError::LABELS.into_iter().zip(s.proxy_refused).collect()),
        Metric::new("anthill_bytes_in_total", "Bytes read from hosts.", |s| s.bytes_in),
        Metric::new("anthill_bytes_out_total", "Bytes written to hosts.", |s| s.bytes_out),
        Metric::new("anthill_frames_total", "Whole frames received.", |s| s.frames),
        Metric::new("anthill_raw_bytes_total", "Raw bytes of results received.", |s| s.raw_bytes),
        Metric::new("anthill_turns_total", "Turns of the loop.", |s| s.turns),
        Metric::histogram("anthill_turn_seconds", "Time of a turn of the loop after its wait.", &TURN_BOUNDS, |s| s.turn_times),
        Metric::new("anthill_busy_turns_total", "Turns that did not wait.", |s| s.busy_turns),
        Metric::new("anthill_naps_total", "Naps under dense traffic.", |s| s.naps),
        Metric::new("anthill_panics_total", "Panics that ended one connection.", |s| s.panics),
        Metric::new("anthill_datagrams_total", "Datagrams received.", |s| s.datagrams),
        Metric::new("anthill_datagrams_too_long_total", "Datagrams received that were dropped for their length.", |s| s.datagrams_too_long),
        Metric::new("anthill_datagrams_sent_total", "Datagrams sent.", |s| s.datagrams_sent),
        Metric::new("anthill_datagrams_failed_total", "Datagrams that the system refused to send.", |s| s.datagrams_failed),
        Metric::new("anthill_datagrams_blocked_total", "Times that the UDP socket was full.", |s| s.datagrams_blocked),
        Metric::new("anthill_pushes_total", "Dispatches sent over a connection.", |s| s.pushes),
        Metric::new("anthill_pushes_dropped_total", "Dispatches not sent over a connection because its peer does not read.", |s| s.pushes_dropped),
        Metric::new("anthill_read_paused_total", "Times that a connection was not read because it did not read its replies.", |s| s.read_paused),
        Metric::new("anthill_read_waited_total", "Times that a connection was not read because there was no room for its report.", |s| s.read_waited),
        Metric::new("anthill_batches_total", "Batches passed to the store thread.", |s| s.batches),
        Metric::new("anthill_batches_held_total", "Times that a batch waited because the store thread's channel was full.", |s| s.batches_held),
        Metric::new("anthill_events_missed_total", "Events that a slow subscriber lost.", |s| s.events_missed),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Source;

    #[test]
    fn every_metric_has_its_own_line() {
        let stats = ReactorStats {
            accepted: 7,
            shed_per_ip: 3,
            horizon_lag_ns: 1_500_000_000,
            ..ReactorStats::default()
        };
        let mut page = String::new();
        stats.collect(&mut page);
        for line in [
            "anthill_accepted_total 7",
            "anthill_connections_shed_total{cause=\"per_ip\"} 3",
            "anthill_horizon_lag_seconds 1.5",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        }
    }
}
