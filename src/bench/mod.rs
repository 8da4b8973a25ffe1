//! The load generator: many hosts in one process, on one thread and one loop, and the cost that
//! they cause at a server.
//!
//! ```text
//!  Plan ─▶ trial ─▶ schedule: due times ─▶ fleet: sockets ─▶ the server, or the floor
//!            │                                               │ replies, each with its due time
//!            ├─ proc: CPU and memory of the listening process ▼
//!            └───────────────────────────────▶ tally ─▶ Report: one document, and lines to read
//! ```
//!
//! A heartbeat that asks for a reply carries its due time as its `seq`. The reply therefore shows
//! the whole latency, including delays of the load generator and of the server. Heartbeats that
//! wait for their replies are remembered, so that missing replies are not left out of the figures.
//!
//! [`plan`], [`schedule`], [`tally`], [`report`], [`turns`], [`watch`] and [`proc::text`] are pure.
//! The others own sockets or read clocks.

use std::num::NonZeroU64;

pub mod arrival;
pub mod bare;
pub mod descriptors;
pub mod dispatch;
pub mod error;
pub mod fleet;
pub mod floor;
mod hold;
pub mod host;
pub mod inbox;
mod late_port;
mod leaving;
mod loads;
mod pacer;
pub mod pairs;
pub mod plan;
mod polls;
pub mod proc;
pub mod report;
pub mod schedule;
#[cfg(feature = "tls")]
pub mod secure;
#[cfg(not(feature = "tls"))]
#[path = "secure_none.rs"]
pub mod secure;
pub mod tally;
pub mod trial;
pub mod turns;
pub mod watch;

pub use dispatch::Post;
pub use error::BenchError;
pub use hold::resume_server;
pub use plan::{Mode, Plan};
pub use report::Report;
pub use watch::{Progress, Watch};

/// Runs the plan and reports its progress to `watch`.
///
/// # Errors
/// When the plan needs more than the system allows, or the server cannot be reached or goes away.
pub fn run(plan: &Plan, watch: &mut dyn Watch) -> Result<Report, BenchError> {
    let descriptors = descriptors::check(plan)?;
    // If the slack cannot be set, waits end a little late, and the report has the delay.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let observed = proc::Observed::find(plan.server);
    if plan.pairs > 0 {
        let (trial, floored) = pairs::run(plan, observed, watch)?;
        let mut report = Report::new(plan, descriptors, &trial);
        report.floor = Some(floored);
        return Ok(report);
    }
    let trial = trial::run(plan, observed, trial::Peer::Server, watch)?;
    Ok(Report::new(plan, descriptors, &trial))
}
