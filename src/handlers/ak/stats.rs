//! Counters of devices. None is labelled by device.

/// Counters and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Devices that answer with fresh data.
    pub up: u64,
    /// Devices that do not answer.
    pub down: u64,
    /// Devices that answer without good data.
    pub stale: u64,
    /// Connections begun.
    pub dials: u64,
    /// Connections that did not come about, or ended with a question open.
    pub failures: u64,
    /// Questions.
    pub asked: u64,
    /// Good replies.
    pub good: u64,
    /// Replies that refuse.
    pub refused: u64,
    /// Questions not answered in time.
    pub timeouts: u64,
    /// Connections closed for an invalid reply, or one to another request.
    pub abnormal: u64,
    /// Changes of an error status.
    pub status_changes: u64,
}
