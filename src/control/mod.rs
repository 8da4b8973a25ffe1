//! The HTTP API: bytes in, a reply out. It owns no socket and no clock, and cannot change the
//! fleet.
//!
//! ```text
//!  bytes ──▶ request::parse ─▶ RequestGuard ──────▶ routes ─────▶ Reply: Now a response,
//!            framing, sizes    Host, Origin, token  one table, roles     Ask the core, or
//!            └───────────────── Conversation ─────────────┘              Follow events
//! ```
//!
//! A [`Conversation`] is one connection. Its [`response::Reply`] travels to the socket as it is. A
//! request that can be refused by its head is refused before its body is read.

pub mod audit;
pub mod body;
pub mod conversation;
pub mod events;
pub mod guard;
pub mod gzip;
pub mod json;
mod members;
mod outside;
pub(crate) mod page;
pub mod request;
pub mod response;
pub mod routes;
mod scan;

pub use conversation::{Conversation, Step};
pub use guard::{Caller, HttpRules, RequestGuard};
pub use response::HttpResponse;

use crate::handlers::ak::Devices;
use crate::handlers::reach::Targets;
use crate::handlers::stats::Stats;
use crate::handlers::view::{Filter, HostView, Page, StoreView};
use crate::handlers::{Core, Moment};
use crate::ids::HostId;
use crate::metrics::Source;
use crate::time::Instant;

/// Read access to the fleet.
pub trait Fleet {
    /// One host.
    fn host(&self, host: &HostId) -> Option<HostView<'_>>;

    /// Some hosts, from `cursor` on (0 is the beginning): at most `limit`.
    fn page(&self, filter: Filter, limit: usize, cursor: u64) -> Page<'_>;

    /// State of the store.
    fn store(&self) -> StoreView<'_>;

    /// Counters and gauges.
    fn stats(&self) -> Stats;

    /// Prefix of task keys.
    fn key_prefix(&self) -> &str;

    /// Name of this node.
    fn node(&self) -> &str;

    /// The store has hosts that this node does not know.
    fn has_foreign_hosts(&self) -> bool;
}

impl Fleet for Core {
    fn host(&self, host: &HostId) -> Option<HostView<'_>> {
        Core::host(self, host)
    }

    fn page(&self, filter: Filter, limit: usize, cursor: u64) -> Page<'_> {
        Core::page(self, filter, limit, cursor)
    }

    fn store(&self) -> StoreView<'_> {
        Core::store(self)
    }

    fn stats(&self) -> Stats {
        Core::stats(self)
    }

    fn key_prefix(&self) -> &str {
        Core::key_prefix(self)
    }

    fn node(&self) -> &str {
        Core::node(self)
    }

    fn has_foreign_hosts(&self) -> bool {
        Core::has_foreign_hosts(self)
    }
}

/// Everything that a response is made of, for the length of a turn.
#[derive(Clone, Copy)]
pub struct HttpContext<'a> {
    /// The fleet.
    pub fleet: &'a dyn Fleet,
    /// The AK devices.
    pub devices: &'a Devices,
    /// The last events.
    pub recent: Option<&'a events::Recent>,
    /// The targets of `reach`.
    pub targets: &'a Targets,
    /// Time of this turn.
    pub at: Moment,
    /// Start of the server.
    pub started: Instant,
    /// Metrics besides those of the fleet, the devices and the targets.
    pub metrics: &'a dyn Source,
}

#[cfg(test)]
pub(crate) mod testing;
