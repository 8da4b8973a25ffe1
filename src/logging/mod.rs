//! The log: `log` and `fern` at the caller's end, a thread of ours at the other, so that a slow disk
//! never stops the loop.
//!
//! ```text
//!  log::warn!(target: "abnormal", "10.0.0.7: …")
//!      │ level, then lines alike (limit)
//!      ▼
//!  bounded channel ──▶ log thread ──▶ standard error, always
//!      │ full: counted          └───▶ log.file, if there is one
//!      ▼
//!  "17 lines were dropped"
//! ```
//!
//! A caller never waits: it formats its message and hands it over, or has it counted as dropped.
//! Rendering, escaping, writing and rotating are the thread's business.

mod file;
mod limit;
mod line;
#[cfg(test)]
mod tests;
mod writer;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::LevelFilter;

use crate::config::{Format, Log};
use crate::limits::{LOG_FLUSH_S_MAX, LOG_LINES_WAITING_MAX, LOG_NICENESS};
use limit::{Beginning, Limiter};
use line::Line;
use writer::Writer;

/// Error of the log's start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system gives us no thread.
    #[error("cannot start the log thread: {0}")]
    Thread(#[from] io::Error),
    /// This process has a log already.
    #[error("cannot start the log: {0}")]
    Installed(#[from] log::SetLoggerError),
}

/// The running log. When it is dropped, everything that waits is written out; lines logged after
/// that go straight to standard error.
#[derive(Debug)]
pub struct Logging {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    /// Nothing comes this way; it ends when the thread does.
    ended: Receiver<()>,
}

/// Starts the log thread and makes it the log of this process.
///
/// A file that cannot be written is no error: that is said on standard error, and it is tried again.
///
/// # Errors
/// When there is no thread to be had, or this process has a log already.
pub fn start(config: &Log) -> Result<Logging, LogError> {
    let (logging, sink) = spawn(config, LOG_LINES_WAITING_MAX, Box::new(io::stderr()))?;
    let (_, logger) = dispatch(sink).into_log();
    log::set_boxed_logger(logger)?;
    log::set_max_level(config.level);
    Ok(logging)
}

impl Logging {
    /// Writes lines up to this level from now on.
    pub fn set_level(&self, level: LevelFilter) {
        log::set_max_level(level);
    }

    /// Closes the log's file and opens the one that has its name then, after a rename. Does not
    /// wait.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Takes over another configuration: level, form, file and rotation. Does not wait.
    pub fn reload(&self, config: &Log) {
        self.set_level(config.level);
        let is_json = config.format == Format::Json;
        self.shared.is_json.store(is_json, Ordering::Relaxed);
        *lock(&self.shared.reload) = Some(config.clone());
        self.wake();
    }

    /// Waits until everything logged so far is written; [`LOG_FLUSH_S_MAX`] at most.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests wait for the log"))]
    pub fn flush(&self) {
        let (done, waiting) = bounded(1);
        let limit = Duration::from_secs(LOG_FLUSH_S_MAX);
        if self.jobs.send_timeout(Job::Flush(done), limit).is_ok() {
            // Too late, or the thread has ended.
            let _ = waiting.recv_timeout(limit);
        }
    }

    /// If the channel is full, the thread is awake and will look.
    fn wake(&self) {
        let _ = self.jobs.try_send(Job::Wake);
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Logging {
    /// Writes everything that waits, and ends the log thread; waits for [`LOG_FLUSH_S_MAX`] at most. For an owner
    /// that cannot drop the log because another thread still holds it.
    pub fn finish(&self) {
        let limit = Duration::from_secs(LOG_FLUSH_S_MAX);
        if self.jobs.send_timeout(Job::Stop, limit).is_ok() {
            // A log that cannot be written must not keep the program from ending.
            let _ = self.ended.recv_timeout(limit);
        }
    }
}

/// A job for the log thread.
#[derive(Debug)]
enum Job {
    /// To be written.
    Line(Line),
    /// Look at what has been asked for.
    Wake,
    /// Confirm that everything before this is written.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests wait for the log"))]
    Flush(Sender<()>),
    /// Write what there is, and end.
    Stop,
}

/// State shared by callers and the thread.
#[derive(Debug)]
struct Shared {
    limiter: Mutex<Limiter>,
    dropped: AtomicU64,
    reopen: AtomicBool,
    reload: Mutex<Option<Log>>,
    /// Lines are written as JSON, with their fields.
    is_json: AtomicBool,
}

impl Shared {
    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        lock(&self.limiter)
    }

    fn format(&self) -> Format {
        match self.is_json.load(Ordering::Relaxed) {
            true => Format::Json,
            false => Format::Text,
        }
    }

    fn take_reload(&self) -> Option<Log> {
        lock(&self.reload).take()
    }
}

/// Locks, also after a panic: a count may then be off by one, which is harmless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The caller's end.
struct Sink {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

impl Sink {
    /// Hands a line over, or counts it.
    fn take(&self, record: &log::Record<'_>) {
        let (level, target) = (record.level(), record.target());
        // Formatted outside the lock: what is formatted may itself have something to log.
        let beginning = Beginning::of(target, *record.args());
        if !self.shared.limiter().admit(level, target, beginning.who()) {
            return;
        }
        if self.jobs.is_full() {
            self.dropped();
            return;
        }
        match self
            .jobs
            .try_send(Job::Line(Line::of(record, self.shared.format())))
        {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.dropped(),
            Err(TrySendError::Disconnected(_)) => {
                // The log has ended, and with it all reason not to wait.
                let mut line = Vec::new();
                Line::of(record, Format::Text).render(Format::Text, &mut line);
                let _ = io::stderr().write_all(&line);
            }
        }
    }

    fn dropped(&self) {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// `fern`'s part. It lets everything through: the level is set, and may be changed, in `log` itself.
fn dispatch(sink: Sink) -> fern::Dispatch {
    fern::Dispatch::new()
        .level(LevelFilter::Trace)
        .chain(fern::Output::call(move |record| sink.take(record)))
}

/// Starts the thread, with a channel of `capacity` lines, writing to `stderr`.
fn spawn(
    config: &Log,
    capacity: usize,
    stderr: Box<dyn Write + Send>,
) -> io::Result<(Logging, Sink)> {
    let (jobs, taken) = bounded(capacity);
    let (ending, ended) = bounded::<()>(0);
    let shared = Arc::new(Shared {
        limiter: Mutex::new(Limiter::new()),
        dropped: AtomicU64::new(0),
        reopen: AtomicBool::new(false),
        reload: Mutex::new(None),
        is_json: AtomicBool::new(config.format == Format::Json),
    });
    let writer = Writer::new(config, taken, Arc::clone(&shared), stderr);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            // Where it shares a core with the loop, hosts come first. Refused: then they do not.
            let _ = rustix::process::setpriority_process(None, LOG_NICENESS);
            writer.run();
            drop(ending);
        })?;
    let sink = Sink {
        jobs: jobs.clone(),
        shared: Arc::clone(&shared),
    };
    let logging = Logging {
        jobs,
        shared,
        ended,
    };
    Ok((logging, sink))
}
