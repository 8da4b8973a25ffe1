//! The store thread: it takes batches, runs them, returns outcomes and wakes the loop.
//!
//! ```text
//!  core ──Batch──▶ [ channel ] ──▶ pending ──▶ backend ──▶ outcomes ──▶ [ channel ] ──▶ core, one wake
//!                                    │            ▲
//!              store unavailable     ▼            │ replay, before anything new
//!                                  spool ─────────┘
//! ```
//!
//! This module has the thread and its channels. [`Worker`] has the work, one step at a time, so
//! that tests and the simulation can drive it with a clock of their own.

mod disk;
mod faults;
mod inbox;
#[cfg(debug_assertions)]
mod inject;
mod lease;
mod link;
mod machine;
mod nodes;
mod pending;
mod replay;
mod runner;
mod stats;
mod suspects;

pub use machine::{Next, Worker};
pub use stats::{Gauge, StoreStats};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::Backend;
use super::op::{Batch, Outcome};
use super::spool::Spool;
use crate::limits::{
    BATCHES_WAITING_MAX, OUTCOMES_WAITING_MAX, STORE_NICENESS, STORE_RETRY_MS_MAX,
};
use crate::time::{Instant, Span, UnixMs};

/// Makes a backend, at the start and after each panic. All of them must use the same random number
/// for the node's lease.
pub type Make = Box<dyn FnMut() -> Box<dyn Backend> + Send>;

/// Settings of the store thread.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Directory of the spool.
    pub spool_dir: PathBuf,
    /// Size of the spool, in bytes.
    pub spool_bytes: u64,
    /// Time for which operations gather before they run as one batch.
    pub flush: Span,
    /// Time for which another node's lease must be missing before its hosts are taken over.
    pub grace: Span,
    /// Interval of the attempts to reach an unavailable store, at most one second.
    pub retry: Span,
    /// Seed of the jitter of the attempts: servers that lost the same store do not return at once.
    pub seed: u64,
}

/// The store thread and its two channels. If it is dropped without [`stop`](Self::stop), the thread
/// ends as if stopped with no time left.
#[derive(Debug)]
pub struct StoreThread {
    /// Operations. Senders use only `try_send`; when the channel is full, the batch stays with
    /// them.
    pub batches: Sender<Batch>,
    /// Outcomes. A woken reader takes them until the channel is empty.
    pub outcomes: Receiver<Vec<Outcome>>,
    /// Counters and gauges.
    pub stats: Arc<StoreStats>,
    stop: Sender<Duration>,
    thread: JoinHandle<()>,
}

/// End of the store thread.
#[derive(Debug)]
pub struct Stopped {
    /// Outcomes that were not sent.
    pub outcomes: Vec<Outcome>,
    /// The thread ended in time. If not, it is abandoned.
    pub ended: bool,
}

/// The clocks, as the thread reads them.
pub trait Clock: Send {
    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// The wall clock.
    fn wall(&self) -> UnixMs;
}

/// The system's clocks, counted from its creation.
struct SystemClock(std::time::Instant);

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::ZERO + Span::from(self.0.elapsed())
    }

    fn wall(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        UnixMs(since.map_or(0, |since| Span::from(since).as_millis()))
    }
}

/// Starts the thread. `wake` is called after outcomes were queued in an empty channel.
///
/// # Errors
/// When the thread cannot be created.
pub fn start(
    make: Make,
    plan: Plan,
    spool: Spool,
    wake: impl Fn() + Send + Sync + 'static,
) -> io::Result<StoreThread> {
    let stats = Arc::new(StoreStats::default());
    let (batches, from_core) = bounded(BATCHES_WAITING_MAX);
    let (to_core, outcomes) = bounded(OUTCOMES_WAITING_MAX);
    let (stop, stopping) = bounded(1);
    let worker_stats = Arc::clone(&stats);
    let wake = Arc::new(wake);
    let run = move || {
        // Dropped after the channels, so that the loop notices the end of the thread.
        let _last = WakeOnDrop(Arc::clone(&wake));
        // If both want the same processor, the loop goes first: a heartbeat does not wait for a
        // batch. A failure does not matter.
        let _ = setpriority_process(Some(gettid()), STORE_NICENESS);
        let clock = Box::new(SystemClock(std::time::Instant::now()));
        let plan = Plan {
            retry: plan.retry.min(Span::from_millis(STORE_RETRY_MS_MAX)),
            ..plan
        };
        Loop {
            worker: Worker::new(make, plan, spool, clock, worker_stats),
            batches: from_core,
            outcomes: to_core,
            stopping,
            wake,
        }
        .run();
    };
    let thread = std::thread::Builder::new().name("store".to_owned());
    Ok(StoreThread {
        batches,
        outcomes,
        stats,
        stop,
        thread: thread.spawn(run)?,
    })
}

impl StoreThread {
    /// Ends the thread: queued batches are run or, while the store is unavailable, spooled; then
    /// the lease is given up. Waits for at most `deadline`.
    pub fn stop(self, deadline: Duration) -> Stopped {
        let until = std::time::Instant::now() + deadline;
        // The channel has room for its only message. If the receiver is gone, so is the thread. The
        // thread gets less time than there is, so that it can still give up the lease.
        let _ = self.stop.try_send(deadline / 4 * 3);
        drop(self.batches);
        let mut outcomes = Vec::new();
        // The channel ends with the thread. It is drained so that the thread never waits for room.
        let ended = loop {
            match self.outcomes.recv_deadline(until) {
                Ok(more) => outcomes.extend(more),
                Err(error) => break error.is_disconnected(),
            }
        };
        if ended && self.thread.join().is_err() {
            log::error!("store: the thread ended by a panic");
        }
        Stopped { outcomes, ended }
    }
}

/// Wakes the loop when it is dropped.
struct WakeOnDrop<W: Fn()>(Arc<W>);

impl<W: Fn()> Drop for WakeOnDrop<W> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The loop of the thread: runs the worker, and waits for the requested time.
struct Loop<W> {
    worker: Worker,
    batches: Receiver<Batch>,
    outcomes: Sender<Vec<Outcome>>,
    stopping: Receiver<Duration>,
    wake: Arc<W>,
}

/// Result of a wait.
enum Wake {
    Batch(Batch),
    Stop(Duration),
    Nothing,
}

impl<W: Fn()> Loop<W> {
    fn run(mut self) {
        let mut ending = false;
        loop {
            let next = self.worker.turn();
            self.publish();
            let wait = match next {
                Next::Over => return,
                Next::Now => Duration::ZERO,
                Next::At(moment) => moment.since(self.worker.now()).into(),
            };
            let wake = match (ending, self.worker.has_room()) {
                (true, true) => self.rest(wait),
                (true, false) => {
                    std::thread::park_timeout(wait);
                    Wake::Nothing
                }
                (false, room) => self.wait(wait, room),
            };
            match wake {
                Wake::Batch(batch) => {
                    self.worker.take(batch);
                    // Batches that came during the last run are run as one.
                    while self.worker.has_room()
                        && let Ok(more) = self.batches.try_recv()
                    {
                        self.worker.take(more);
                    }
                }
                Wake::Stop(left) => {
                    ending = true;
                    self.worker.end(left.into());
                }
                Wake::Nothing => {}
            }
        }
    }

    /// Waits for a batch, if there is room for one, or for the end.
    fn wait(&self, wait: Duration, room: bool) -> Wake {
        let stop = |left: Result<Duration, _>| Wake::Stop(left.unwrap_or_default());
        if !room {
            return match self.stopping.recv_timeout(wait) {
                Err(error) if error.is_timeout() => Wake::Nothing,
                left => stop(left),
            };
        }
        select! {
            recv(self.batches) -> batch => match batch {
                Ok(batch) => Wake::Batch(batch),
                Err(_) => stop(self.stopping.recv_timeout(Duration::ZERO)),
            },
            recv(self.stopping) -> left => Wake::Stop(left.unwrap_or_default()),
            default(wait) => Wake::Nothing,
        }
    }

    /// Takes the remaining batches after the stop was requested.
    fn rest(&mut self, wait: Duration) -> Wake {
        match self.batches.try_recv() {
            Ok(batch) => Wake::Batch(batch),
            Err(_) if self.worker.is_drained() => {
                std::thread::park_timeout(wait);
                Wake::Nothing
            }
            Err(_) => {
                self.worker.channel_is_empty();
                Wake::Nothing
            }
        }
    }

    /// Sends the outcomes. If others are queued, the reader is awake and drains these, too.
    fn publish(&mut self) {
        let outcomes = self.worker.outcomes();
        if outcomes.is_empty() {
            return;
        }
        // Without a receiver the outcomes are dropped.
        if self.outcomes.send(outcomes).is_ok() && self.outcomes.len() <= 1 {
            (self.wake)();
        }
    }
}

#[cfg(test)]
mod tests;
