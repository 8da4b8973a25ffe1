//! The worker's end of the store connection: the backend, the number of the connection, its timers,
//! the outage as the core knows it, and the evidence that the store has lost its data.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Clock, Make};
use crate::limits::{RECENT_S, STORE_IDLE_MS, STORE_LOOK_MS, STORE_SWEEP_S};
use crate::rng::Rng;
use crate::store::op::Outcome;
use crate::store::{Backend, Redirects, StoreError};
use crate::time::{Instant, Span};

/// The store connection.
pub(super) struct Link {
    make: Make,
    backend: Option<Box<dyn Backend>>,
    /// This connection has taken a write of its own.
    is_probed: bool,
    /// Number of connections over which the store became available.
    number: u32,
    retry: Span,
    rng: Rng,
    timers: Timers,
    loss: DataLoss,
    outage: Outage,
}

/// Times of the last and the next use of an idle connection.
#[derive(Debug)]
struct Timers {
    /// The store last answered.
    contact: Instant,
    look_due: Instant,
    sweep_due: Instant,
}

/// Evidence that the store has lost its data, since it last became available.
#[derive(Debug, Default)]
struct DataLoss {
    is_seen: bool,
    /// Time at which a lost task was last restored.
    restored: Option<Instant>,
}

/// The outage as the core knows it.
#[derive(Debug, Default)]
struct Outage {
    reason: String,
    /// The core knows of it, and whether reports are stuck.
    notified: Option<bool>,
    notified_hopeless: bool,
}

impl Link {
    /// A connection that has not been opened. Attempts are about `retry` apart.
    pub fn new(make: Make, retry: Span, seed: u64, now: Instant) -> Self {
        Self {
            make,
            backend: None,
            is_probed: false,
            number: 0,
            retry,
            rng: Rng::new(seed),
            timers: Timers {
                contact: now,
                look_due: now,
                sweep_due: now + Span::from_secs(STORE_SWEEP_S),
            },
            loss: DataLoss::default(),
            outage: Outage::default(),
        }
    }

    /// The backend, which is made if it is missing.
    pub fn backend(&mut self) -> &mut dyn Backend {
        &mut **self.backend.get_or_insert_with(&mut self.make)
    }

    /// Calls the backend, and records the time of its answer.
    pub fn call<T>(
        &mut self,
        clock: &dyn Clock,
        work: impl FnOnce(&mut dyn Backend) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = work(self.backend())?;
        self.answered(clock.now());
        Ok(answer)
    }

    /// The store answered at `now`.
    pub fn answered(&mut self, now: Instant) {
        self.timers.contact = now;
    }

    /// Checks the connection, and opens a missing one.
    pub fn open(&mut self, clock: &dyn Clock) -> Result<(), StoreError> {
        self.call(clock, |backend| backend.open())
    }

    /// Returns whether the backend has to be made and opened.
    pub fn is_missing(&self) -> bool {
        self.backend.is_none()
    }

    /// Makes sure that this connection has taken a write.
    pub fn probe(&mut self) -> Result<(), StoreError> {
        if !self.is_probed {
            self.backend().probe()?;
            self.is_probed = true;
        }
        Ok(())
    }

    /// Sweeps the store and tests an idle connection when that is due; returns when it is due next.
    /// With `watched` the connection is also checked often, so that its end is noticed at once.
    pub fn maintain(&mut self, clock: &dyn Clock, watched: bool) -> Result<Instant, StoreError> {
        let now = clock.now();
        if now >= self.timers.sweep_due {
            self.timers.sweep_due = now + Span::from_secs(STORE_SWEEP_S);
            self.call(clock, |backend| backend.sweep(clock.wall()))?;
        }
        let idle = Span::from_millis(STORE_IDLE_MS);
        if clock.now().since(self.timers.contact) >= idle {
            self.open(clock)?;
        }
        let mut looks = watched;
        if watched && now >= self.timers.look_due {
            self.timers.look_due = now + Span::from_millis(STORE_LOOK_MS);
            looks = self.backend().look()?;
        }
        let due = self.timers.sweep_due.min(self.timers.contact + idle);
        Ok(match looks {
            true => due.min(self.timers.look_due),
            false => due,
        })
    }

    /// Returns whether another server may take over without the last confirmed writes.
    pub fn is_replicated(&self) -> bool {
        self.backend.as_deref().is_some_and(Backend::is_replicated)
    }

    /// Takes the counts of redirected commands since the last call.
    pub fn take_redirects(&mut self) -> Redirects {
        let backend = self.backend.as_deref_mut();
        backend.map_or_else(Redirects::default, Backend::take_redirects)
    }

    /// Returns whether confirmed writes survive the store's death.
    pub fn keeps_what_it_confirms(&self) -> bool {
        let backend = self.backend.as_deref();
        backend.is_some_and(Backend::keeps_what_it_confirms)
    }

    /// Number of the last connection over which the store was available; 0 before the first.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The store is available: the outage and the evidence of a loss end here.
    pub fn became_available(&mut self, lease_clear: bool) -> Outcome {
        self.number = self.number.saturating_add(1);
        self.outage = Outage::default();
        Outcome::Available {
            session: self.number,
            lease_clear,
            lost_data: std::mem::take(&mut self.loss.is_seen),
        }
    }

    /// Records evidence that the store has lost its data.
    pub fn note_data_loss(&mut self) {
        self.loss.is_seen = true;
    }

    /// A lost task was restored at `now`.
    pub fn note_restored(&mut self, now: Instant) {
        self.loss.restored = Some(now);
    }

    /// The store failed: the connection is closed.
    pub fn fail(&mut self, error: &StoreError) {
        if let Some(backend) = &mut self.backend {
            backend.disconnect();
        }
        self.end(error.to_string());
    }

    /// The backend panicked: it is dropped, which may panic once more.
    pub fn drop_backend(&mut self) {
        if let Some(backend) = self.backend.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(backend)));
        }
    }

    /// The connection is not to be used any more, for this reason. A task that was restored shortly
    /// before may be lost with the store's last seconds, and our set be back without it.
    pub fn end(&mut self, reason: String) {
        self.is_probed = false;
        self.outage.reason = reason;
        let recent = Span::from_secs(RECENT_S);
        let restored = self.loss.restored;
        self.loss.is_seen |= restored.is_some_and(|at| self.timers.contact.since(at) <= recent);
    }

    /// Time of the next attempt, at random: servers that lost the same store do not return at once.
    pub fn next_attempt(&mut self, now: Instant) -> Instant {
        now + self.rng.at_least(2, self.retry)
    }

    /// Interval of the attempts.
    pub fn retry(&self) -> Span {
        self.retry
    }

    /// The event of an outage that the core does not know as it is: the store is unavailable, and
    /// reports are `stuck` or not.
    pub fn outage_event(&mut self, stuck: Option<&str>) -> Option<Outcome> {
        let outage = &mut self.outage;
        if outage.reason.is_empty() || outage.notified == Some(stuck.is_some()) {
            return None;
        }
        outage.notified = Some(stuck.is_some());
        let reason = &outage.reason;
        let text = match stuck {
            Some(stuck) => format!("{reason}; reports wait unacknowledged: {stuck}"),
            None => reason.clone(),
        };
        log::debug!(target: "store", reason = text; "thread: the store is unavailable: {text}");
        Some(Outcome::Unavailable(text))
    }

    /// The event of an error that does not end by itself, once an outage.
    pub fn hopeless_event(&mut self, error: &StoreError) -> Option<Outcome> {
        let event = match error {
            StoreError::Refused(reason) => Outcome::Refused(reason.clone()),
            StoreError::Damaged(reason) => Outcome::Damaged(reason.clone()),
            StoreError::Unavailable(_) | StoreError::Broken(_) => return None,
        };
        let is_known = std::mem::replace(&mut self.outage.notified_hopeless, true);
        (!is_known).then_some(event)
    }

    /// Ends the connection for good, and gives up the lease with `release`.
    pub fn close(&mut self, release: bool) -> Result<(), StoreError> {
        let Some(backend) = &mut self.backend else {
            return Ok(());
        };
        let released = match release {
            true => backend.release_lease(),
            false => Ok(()),
        };
        backend.disconnect();
        released
    }
}
