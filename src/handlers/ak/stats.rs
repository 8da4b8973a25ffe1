//! Counters of devices.

use crate::metrics::{Measured, Metric};

/// Counters and gauges of devices. The table `METRICS` describes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub up: u64,
    pub down: u64,
    pub stale: u64,
    pub standby: u64,
    pub dials: u64,
    pub failures: u64,
    pub asked: u64,
    pub good: u64,
    pub refused: u64,
    pub timeouts: u64,
    pub abnormal: u64,
    pub status_changes: u64,
}

#[rustfmt::skip] // A table: name, meaning, value.
impl Measured for Stats {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::by("state", "anthill_devices", "AK devices, by state: up (good data), stale (answers without good data), down, or standby (another node polls it).",
            |s| vec![("up", s.up), ("stale", s.stale), ("down", s.down), ("standby", s.standby)]),
        Metric::by("kind", "anthill_device_replies_total", "Replies of AK devices: good ones and refusals.",
            |s| vec![("good", s.good), ("refused", s.refused)]),
        Metric::new("anthill_device_dials_total", "Connections to AK devices begun.", |s| s.dials),
        Metric::new("anthill_device_failures_total", "Connections to AK devices that failed, or ended before a reply.", |s| s.failures),
        Metric::new("anthill_device_questions_total", "Requests to AK devices.", |s| s.asked),
        Metric::new("anthill_device_timeouts_total", "Requests that AK devices did not answer in time.", |s| s.timeouts),
        Metric::new("anthill_device_abnormal_total", "Connections to AK devices closed for an invalid reply.", |s| s.abnormal),
        Metric::new("anthill_device_status_changes_total", "Changes of the error status of AK devices.", |s| s.status_changes),
    ];
}
