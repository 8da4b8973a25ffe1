//! The log: `log` and `fern` on the caller's side, a separate thread on the other, so that a slow
//! disk never stops the loop.
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
//! A caller never waits: it formats its message and sends it to the thread, or the message is
//! counted as dropped. The thread renders, escapes, writes and rotates.

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
use crate::limits::{LOG_FLUSH_S_MAX, LOG_NICENESS};
use limit::{Beginning, Limiter};
use line::Line;
use writer::Writer;

/// Error of the log's start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No thread.
    #[error("cannot start the log thread: {0}")]
    Thread(#[from] io::Error),
    /// The process has a log already.
    #[error("cannot start the log: {0}")]
    Installed(#[from] log::SetLoggerError),
}

/// The running log. Dropping it writes all pending lines; later lines go directly to stderr.
#[derive(Debug)]
pub struct Logging {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    /// Closed by the end of the thread.
    ended: Receiver<()>,
}

/// Starts the log thread and installs it as the log of this process. At most `waiting` lines wait
/// for the thread; their places are allocated at once.
///
/// A file that cannot be written is not an error: stderr reports it, and the log retries.
///
/// # Errors
/// No thread, or the process has a log already.
pub fn start(config: &Log, waiting: usize) -> Result<Logging, LogError> {
    let (logging, sink) = spawn(config, waiting, Box::new(io::stderr()))?;
    let (_, logger) = dispatch(sink).into_log();
    log::set_boxed_logger(logger)?;
    log::set_max_level(config.level);
    Ok(logging)
}

impl Logging {
    /// Sets the level of the written lines.
    pub fn set_level(&self, level: LevelFilter) {
        log::set_max_level(level);
    }

    /// Reopens the log file, after a rename. Does not wait.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Applies another configuration: level, format, file and rotation. Does not wait.
    pub fn reload(&self, config: &Log) {
        self.set_level(config.level);
        let is_json = config.format == Format::Json;
        self.shared.is_json.store(is_json, Ordering::Relaxed);
        *lock(&self.shared.reload) = Some(config.clone());
        self.wake();
    }

    /// Waits until all lines logged so far are written; [`LOG_FLUSH_S_MAX`] at most.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests wait for the log"))]
    pub fn flush(&self) {
        let (done, waiting) = bounded(1);
        let limit = Duration::from_secs(LOG_FLUSH_S_MAX);
        if self.jobs.send_timeout(Job::Flush(done), limit).is_ok() {
            // Too late, or the thread has ended.
            let _ = waiting.recv_timeout(limit);
        }
    }

    /// If the channel is full, the thread is awake and will check.
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
    /// Writes all pending lines and ends the log thread; waits for [`LOG_FLUSH_S_MAX`] at most. For
    /// an owner that cannot drop the log because another thread still holds it.
    pub fn finish(&self) {
        let limit = Duration::from_secs(LOG_FLUSH_S_MAX);
        if self.jobs.send_timeout(Job::Stop, limit).is_ok() {
            // A blocked log must not keep the program from ending.
            let _ = self.ended.recv_timeout(limit);
        }
    }
}

/// A job for the log thread.
#[derive(Debug)]
enum Job {
    /// A line.
    Line(Line),
    /// Check the shared requests.
    Wake,
    /// Confirm that all earlier lines are written.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests wait for the log"))]
    Flush(Sender<()>),
    /// Write pending lines and end.
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

/// Locks also after a panic: a count may then be off by one, which is harmless.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The caller's end.
struct Sink {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

impl Sink {
    /// Sends a line to the thread, or counts it as dropped.
    fn take(&self, record: &log::Record<'_>) {
        let (level, target) = (record.level(), record.target());
        // Formatted outside the lock, since formatting may log, too.
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
                // The log has ended, so blocking is acceptable.
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

/// Configuration of `fern`. It accepts all levels: the level is set, and may be changed, in `log`.
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
            // On a core shared with the loop, hosts have priority. Without the permission they have
            // none.
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
