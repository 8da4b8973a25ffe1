//! The queues between the loop and the other threads. All are bounded, and the loop never blocks on
//! them.
//!
//! ```text
//!   handles ──requests──▶ ┌──────┐ ──batches──▶ store thread
//!                         │ loop │
//!        store ─outcomes─▶ └──────┘    one batch may be held here, until there is room for it
//! ```

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::flush_delay::FlushDelay;
use super::request::HandleRequest;
use super::stats::ReactorStats;
use super::wake::Wake;
use crate::handlers::{Core, Moment};
use crate::limits::BATCH_OPS_MAX;
use crate::metrics::Source;
use crate::store::op::{Batch, Op, Outcome};
use crate::time::Instant;

/// The loop's ends of the two channels of the store thread.
#[derive(Debug)]
pub struct StoreEnds {
    /// Operations for the store.
    pub batches: Sender<Batch>,
    pub outcomes: Receiver<Vec<Outcome>>,
}

/// Result of sending a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The store thread has it.
    Over,
    /// The batch is held until the channel has room.
    Held,
    /// The store thread has ended.
    Gone,
}

/// The loop's ends of the queues to other threads.
pub struct Mailbox {
    wake: Arc<Wake>,
    requests: Receiver<HandleRequest>,
    store: Option<StoreEnds>,
    held: Option<Batch>,
    /// Received outcomes that no turn has taken yet.
    left: std::vec::IntoIter<Outcome>,
    /// The last turn left outcomes or requests.
    has_left: bool,
    flush_delay: FlushDelay,
    /// A sweep of the core for the store is still in progress.
    sweep_pending: bool,
    /// Metrics of the store thread.
    metrics: Box<dyn Source + Send>,
}

impl Mailbox {
    /// A mailbox without a store yet.
    pub fn new(wake: Arc<Wake>, requests: Receiver<HandleRequest>) -> Self {
        Self {
            wake,
            requests,
            store: None,
            held: None,
            left: Vec::new().into_iter(),
            has_left: false,
            flush_delay: FlushDelay::default(),
            sweep_pending: false,
            metrics: Box::new(()),
        }
    }

    /// Attaches the store thread's channels and metrics.
    pub fn attach(&mut self, store: StoreEnds, metrics: Box<dyn Source + Send>) {
        self.store = Some(store);
        self.metrics = metrics;
        self.has_left = true;
    }

    /// Drops the channels to the store thread.
    pub fn detach(&mut self) {
        self.store = None;
    }

    /// Waker of the loop.
    pub fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// The next outcome, if there is one.
    ///
    /// # Errors
    /// When the store thread is gone.
    pub fn outcome(&mut self) -> Result<Option<Outcome>, StoreGone> {
        loop {
            if let Some(outcome) = self.left.next() {
                return Ok(Some(outcome));
            }
            let Some(store) = &self.store else {
                return Ok(None);
            };
            match store.outcomes.try_recv() {
                Ok(outcomes) => self.left = outcomes.into_iter(),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(StoreGone),
            }
        }
    }

    /// The next request, if there is one.
    pub fn request(&self) -> Option<HandleRequest> {
        self.requests.try_recv().ok()
    }

    /// Returns whether this turn must look for outcomes and requests. Each sender wakes the loop,
    /// so most turns need no look.
    pub fn is_due(&mut self) -> bool {
        let rung = self.wake.answer();
        std::mem::take(&mut self.has_left) || rung
    }

    /// Leaves outcomes or requests for the next turn.
    pub fn leave(&mut self) {
        self.has_left = true;
    }

    /// Returns whether the last turn left something to do at once.
    pub fn has_left(&self) -> bool {
        self.has_left || self.sweep_pending
    }

    /// Time at which delayed operations must be passed.
    pub fn flush_due(&self) -> Option<Instant> {
        self.flush_delay.due()
    }

    #[cfg(test)]
    pub fn flush_delay(&mut self) -> &mut FlushDelay {
        &mut self.flush_delay
    }

    /// Metrics of the store thread.
    pub fn store_metrics(&self) -> &dyn Source {
        &*self.metrics
    }

    /// Passes operations of the core while the store thread has room. Urgent ones go at once, and
    /// so do all `at_once`; others are delayed a little, so that they share a batch.
    ///
    /// # Errors
    /// When the store thread is gone.
    pub fn pass_core(
        &mut self,
        core: &mut Core,
        at_once: bool,
        at: Moment,
        stats: &mut ReactorStats,
    ) -> Result<(), StoreGone> {
        self.sweep_pending = false;
        self.flush_delay.begin();
        self.hand_held();
        let at_once = core.has_work() && (at_once || core.has_urgent_work());
        while core.has_work() && (at_once || self.flush_delay.may_go(at.now)) && self.has_room() {
            let Some(batch) = core.pull(at, BATCH_OPS_MAX) else {
                // A sweep over many hosts with nothing to write continues in the next turn.
                self.sweep_pending = core.has_work();
                break;
            };
            stats.ops += batch.ops.len() as u64;
            self.pass(batch, stats)?;
            if !core.has_work() {
                self.flush_delay.gone(at.now);
            }
        }
        Ok(())
    }

    /// Passes operations of devices and targets, if the store is available.
    ///
    /// # Errors
    /// When the store thread is gone.
    pub fn pass_ops(
        &mut self,
        session: Option<u32>,
        ops: Vec<Op>,
        stats: &mut ReactorStats,
    ) -> Result<(), StoreGone> {
        match session {
            Some(session) if !ops.is_empty() => self.pass(Batch { session, ops }, stats),
            _ => Ok(()),
        }
    }

    fn pass(&mut self, batch: Batch, stats: &mut ReactorStats) -> Result<(), StoreGone> {
        match self.hand(batch) {
            Handed::Over => stats.batches += 1,
            Handed::Held => stats.batches_held += 1,
            Handed::Gone => return Err(StoreGone),
        }
        Ok(())
    }

    /// Returns whether a batch would be taken now: no other is held, and the channel has room.
    /// Sends a held one first.
    pub fn has_room(&mut self) -> bool {
        self.hand_held();
        let room = self.store.as_ref().is_some_and(|s| !s.batches.is_full());
        room && self.held.is_none()
    }

    /// Sends the held batch, if there is one and the channel has room.
    pub fn hand_held(&mut self) {
        if let Some(batch) = self.held.take() {
            self.hand(batch);
        }
    }

    /// Passes `batch` to the store thread, or holds it. To be called only when
    /// [`has_room`](Self::has_room).
    pub fn hand(&mut self, batch: Batch) -> Handed {
        let Some(store) = &self.store else {
            self.held = Some(batch);
            return Handed::Held;
        };
        match store.batches.try_send(batch) {
            Ok(()) => Handed::Over,
            Err(TrySendError::Full(batch)) => {
                self.held = Some(batch);
                Handed::Held
            }
            Err(TrySendError::Disconnected(_)) => Handed::Gone,
        }
    }
}

/// Error: the store thread has ended unexpectedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store thread has ended")]
pub struct StoreGone;

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use mio::Poll;

    fn batch(session: u32) -> Batch {
        Batch {
            session,
            ops: Vec::new(),
        }
    }

    fn mailbox() -> (Mailbox, Receiver<Batch>, Sender<Vec<Outcome>>, Poll) {
        let poll = Poll::new().unwrap();
        let wake = Arc::new(Wake::new(poll.registry()).unwrap());
        let (_requests, ends) = bounded(1);
        let mut mailbox = Mailbox::new(wake, ends);
        assert!(!mailbox.has_room(), "there is no store yet");
        let (batches, taken) = bounded(1);
        let (answer, outcomes) = bounded(1);
        mailbox.attach(StoreEnds { batches, outcomes }, Box::new(()));
        (mailbox, taken, answer, poll)
    }

    #[test]
    fn a_held_batch_is_sent_first() {
        let (mut mailbox, taken, _answer, _poll) = mailbox();
        assert!(mailbox.has_room());
        assert_eq!(mailbox.hand(batch(1)), Handed::Over);
        assert!(!mailbox.has_room());
        assert_eq!(mailbox.hand(batch(2)), Handed::Held);
        assert!(!mailbox.has_room());
        assert_eq!(taken.try_recv().unwrap().session, 1);
        assert!(!mailbox.has_room(), "the held one has taken the room");
        assert_eq!(taken.try_recv().unwrap().session, 2);
        assert!(mailbox.has_room());
    }

    #[test]
    fn outcomes_outlive_the_channel() {
        let (mut mailbox, _taken, answer, _poll) = mailbox();
        let sent = vec![Outcome::Seen, Outcome::Audited, Outcome::Seen];
        answer.send(sent).unwrap();
        assert!(matches!(mailbox.outcome(), Ok(Some(Outcome::Seen))));
        mailbox.detach();
        assert!(matches!(mailbox.outcome(), Ok(Some(Outcome::Audited))));
        assert!(matches!(mailbox.outcome(), Ok(Some(Outcome::Seen))));
        assert!(matches!(mailbox.outcome(), Ok(None)));
    }

    #[test]
    fn the_mailbox_is_due_when_rung_or_unfinished() {
        let (mut mailbox, _taken, answer, _poll) = mailbox();
        assert!(mailbox.is_due(), "what was there before the loop was");
        assert!(!mailbox.is_due());
        answer.send(vec![Outcome::Seen]).unwrap();
        mailbox.wake().ring();
        assert!(mailbox.is_due());
        mailbox.leave();
        assert!(mailbox.has_left());
        assert!(mailbox.is_due());
        assert!(!mailbox.has_left() && !mailbox.is_due());
    }

    #[test]
    fn a_missing_store_thread_is_an_error() {
        let (mut mailbox, taken, answer, _poll) = mailbox();
        answer.send(vec![Outcome::Seen]).unwrap();
        assert!(matches!(mailbox.outcome(), Ok(Some(_))));
        assert!(matches!(mailbox.outcome(), Ok(None)));
        drop((taken, answer));
        assert!(mailbox.outcome().is_err());
        assert_eq!(mailbox.hand(batch(1)), Handed::Gone);
    }
}
