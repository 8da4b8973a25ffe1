//! The core: one place where everything that happens comes in.

use crate::ids::HostId;
use crate::store::op::{Batch, Op};
use crate::time::{Instant, Span};

use super::effect::Effects;
use super::stats::Stats;
use super::view::{Filter, HostView, Page, StoreView};
use super::{Flow, Input, Moment};

/// What the core has to know of the configuration. May change while it runs.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Silence after which a host is offline.
    pub timeout: Span,
    /// How long a connection may take to its first valid message.
    pub first_message: Span,
    /// How long a plain host at work may be silent.
    pub working_timeout: Span,
    /// What task keys begin with.
    pub key_prefix: String,
    /// How long a host that is offline is remembered.
    pub keep: Span,
    /// Hosts in the table at most.
    pub hosts_max: usize,
}

/// The core. See the [room](super).
#[derive(Debug)]
pub struct Core {
    rules: Rules,
    stats: Stats,
}

impl Core {
    /// A core that knows nobody yet. `seq` is the number of its first event: above all that this
    /// node has told before.
    #[must_use]
    pub fn new(rules: Rules, _seq: u64) -> Self {
        Self {
            rules,
            stats: Stats::default(),
        }
    }

    /// Takes new rules. Deadlines already set fall due as they were set, and are then judged anew.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Something has happened.
    pub fn handle(&mut self, _at: Moment, _input: Input<'_>, _fx: &mut Effects) -> Flow {
        Flow::Taken
    }

    /// Does what is due at `judge`, the horizon (never later than `at.now`), and returns the next deadline, which is later than `judge`.
    pub fn tick(&mut self, _judge: Instant, _at: Moment, _fx: &mut Effects) -> Option<Instant> {
        None
    }

    /// Takes what is to be written: at most `max` operations, none if there is nothing.
    pub fn pull(&mut self, _at: Moment, _max: usize, _fx: &mut Effects) -> Option<Batch> {
        None::<Vec<Op>>.map(|ops| Batch { session: 0, ops })
    }

    /// Whether [`pull`](Self::pull) would return something.
    #[must_use]
    pub fn has_work(&self) -> bool {
        false
    }

    /// The server is about to stop. With `offline` every host goes offline, else the presence stays as it is.
    pub fn shutdown(&mut self, _at: Moment, _offline: bool, _fx: &mut Effects) {}

    /// Whether everything handed over has been settled by the store (and nothing is left to pull).
    #[must_use]
    pub fn settled(&self) -> bool {
        true
    }

    /// One host.
    #[must_use]
    pub fn host(&self, _at: Moment, _host: &HostId) -> Option<HostView<'_>> {
        None
    }

    /// Some hosts, from `cursor` on (0 is the beginning): at most `limit`, and no more than
    /// `PAGE_SCAN_MAX` entries looked at.
    #[must_use]
    pub fn page(&self, _at: Moment, _filter: Filter, _limit: usize, _cursor: u64) -> Page<'_> {
        Page::default()
    }

    /// What the store is to us now.
    #[must_use]
    pub fn store(&self) -> StoreView<'_> {
        StoreView::Starting
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}
