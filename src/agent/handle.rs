//! Handle of a running agent, for other threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use super::allow::Allow;
use super::tls::TlsSettings;

/// Changes requested by another thread.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) allow: Option<Allow>,
    pub(super) tls: Option<TlsSettings>,
}

/// Controls an agent from another thread.
#[derive(Clone, Debug)]
pub struct Handle {
    stop: Arc<AtomicBool>,
    changes: Arc<Mutex<Changes>>,
    pub(super) waker: Arc<Waker>,
}

impl Handle {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self {
            stop: Arc::default(),
            changes: Arc::default(),
            waker,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Replaces the allow file. The running command continues.
    pub fn allow(&self, allow: Allow) {
        self.changes().allow = Some(allow);
        // Fails only after the end of the loop.
        let _ = self.waker.wake();
    }

    /// Replaces the TLS settings from the next connection on.
    pub fn tls(&self, tls: TlsSettings) {
        self.changes().tls = Some(tls);
    }

    pub(super) fn changes(&self) -> MutexGuard<'_, Changes> {
        // Its values are replaced as a whole, so a panic leaves them valid.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the agent and its running command.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Fails only after the end of the loop.
        let _ = self.waker.wake();
    }
}
