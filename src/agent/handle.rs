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

/// Steers an agent from another thread.
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

    /// Says what may be run from now on. The command under way goes on.
    pub fn allow(&self, allow: Allow) {
        self.changes().allow = Some(allow);
        // Fails only when the loop is gone.
        let _ = self.waker.wake();
    }

    /// Says how TLS is spoken from the next connection on.
    pub fn tls(&self, tls: TlsSettings) {
        self.changes().tls = Some(tls);
    }

    pub(super) fn changes(&self) -> MutexGuard<'_, Changes> {
        // What is in it is replaced as a whole.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks it to end: the command under way is ended with it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Fails only when the loop is gone.
        let _ = self.waker.wake();
    }
}
