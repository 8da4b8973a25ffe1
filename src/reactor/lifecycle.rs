//! Reload, stop and failure of the loop.

use super::read_budget::TurnBudget;
use super::settings::{Reload, Tuning};
use super::{Reactor, ServeError};
use crate::handlers::Moment;
use crate::limits::SHUTDOWN_S_MAX;
use crate::store::op::Outcome;
use crate::time::{Instant, Span};

/// State of the loop between its start and its end.
#[derive(Debug)]
pub(super) struct Lifecycle {
    /// Shutdown deadline for outstanding writes.
    stop_by: Option<Instant>,
    /// Error that ends the loop.
    failed: Option<ServeError>,
    offline_on_shutdown: bool,
}

impl Lifecycle {
    pub fn new(tuning: &Tuning) -> Self {
        Self {
            stop_by: None,
            failed: None,
            offline_on_shutdown: tuning.offline_on_shutdown,
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    pub fn stop_by(&self) -> Option<Instant> {
        self.stop_by
    }

    /// Records the error that ends the loop; the first one is kept.
    pub fn fail(&mut self, error: ServeError) {
        self.failed.get_or_insert(error);
    }

    pub fn take_error(&mut self) -> Option<ServeError> {
        self.failed.take()
    }
}

impl Reactor {
    pub(super) fn reload(&mut self, reload: Reload, at: Moment) {
        let Reload {
            rules,
            access,
            labels,
            http,
            outside,
            proxy,
            tuning,
            tls,
            http_tls,
        } = reload;
        self.connections.set_tls(tls);
        if !self.lifecycle.is_stopping() {
            self.outbound.set(outside, self.poller.registry(), at);
        }
        self.driver.with(|core, effects| {
            core.set_rules(rules, at.now);
            core.set_access(access, at, effects);
            core.set_labels(labels, at, effects);
        });
        self.apply(at);
        self.web.set_rules(http);
        self.web.set_tls(http_tls);
        self.proxied.set_rules(proxy);
        self.poller.set_nap(tuning.coalesce);
        self.budget = TurnBudget::new(tuning.turn_budget);
        self.reader.framing = tuning.framing;
        self.lifecycle.offline_on_shutdown = tuning.offline_on_shutdown;
    }

    /// Begins the stop: no connection is accepted or read any more, and the store settles
    /// outstanding writes.
    pub(super) fn begin_stop(&mut self, at: Moment) {
        self.listener.close();
        self.proxied.clear();
        self.web.stop(self.poller.registry());
        self.outbound.stop();
        self.connections.queues().clear();
        let offline = self.lifecycle.offline_on_shutdown;
        self.driver
            .with(|core, effects| core.shutdown(at, offline, effects));
        self.apply(at);
        self.lifecycle.stop_by = Some(at.now + Span::from_secs(SHUTDOWN_S_MAX));
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        let done = || self.driver.core().settled() && self.web.connections() == 0;
        self.lifecycle.stop_by.is_some_and(|by| by <= now || done())
    }

    /// Takes the last outcomes of a stopped store thread. The last acknowledgements are sent if the
    /// sockets take them at once.
    pub fn last_outcomes(&mut self, outcomes: Vec<Outcome>) {
        let at = self.poller.clock().moment();
        // Outcomes that no turn has taken are older.
        while let Ok(Some(outcome)) = self.mailbox.outcome() {
            self.take_outcome(outcome, at);
        }
        for outcome in outcomes {
            self.take_outcome(outcome, at);
        }
        self.flush_dirty();
    }
}
