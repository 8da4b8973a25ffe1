//! Waker of the loop, with the flags of a ring and of a requested stop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Registry, Waker};

use super::token;

/// Ends the loop's wait from another thread, after a message was put into the mailbox. Further
/// wake-ups before the mailbox is read cost no system call.
#[derive(Debug)]
pub struct Wake {
    waker: Waker,
    rung: AtomicBool,
    stop: AtomicBool,
}

impl Wake {
    /// Creates the waker of the loop behind `registry`, which may have only one.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(registry, token::WAKER)?,
            rung: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        })
    }

    /// Ends the wait, or the next one.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It fails only when the loop's descriptor is closed, and then the loop does not wait.
            let _ = self.waker.wake();
        }
    }

    /// Requests a stop. Never waits.
    pub fn ask_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    /// Returns whether a stop was requested.
    pub fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Clears the ring before a look into the mailbox. Returns whether it was set.
    pub fn answer(&self) -> bool {
        // Most turns find it clear, and a load is less expensive than a swap.
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    #[test]
    fn many_rings_are_one_event() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let wake = Wake::new(poll.registry()).unwrap();
        for _ in 0..2 {
            for _ in 0..100 {
                wake.ring();
            }
            poll.poll(&mut events, Some(Duration::from_secs(20)))
                .unwrap();
            assert_eq!(events.iter().count(), 1);
            assert!(wake.answer() && !wake.answer());
        }
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
