//! The log thread: receives lines, renders them, writes them to stderr and to the file, and reports
//! errors. Only this thread waits for a slow disk or an unread terminal.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::Level;

use super::file::LogFile;
use super::line::Line;
use super::{Job, Shared};
use crate::config::{Format, Log};
use crate::escape::escape;
use crate::limits::{LOG_BATCH_BYTES, LOG_KEPT_BYTES, LOG_WINDOW_S};

/// Pause between two batches of lines. A caller wakes this thread only while it waits for a line,
/// which would be expensive for a loop that accepts a thousand hosts a second.
const REST: Duration = Duration::from_millis(5);
/// Interval of the checks for dropped lines and deadlines.
const TICK: Duration = Duration::from_secs(1);
const MIB: u64 = 1024 * 1024;

/// State of the log thread.
pub(super) struct Writer {
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
    stderr: Box<dyn Write + Send>,
    format: Format,
    file: Option<LogFile>,
    /// Rendered lines for stderr.
    pending: Vec<u8>,
    /// Messages of the file about itself.
    said: Vec<String>,
    /// End of the limiter's window; `None` while there are no counts.
    window_ends: Option<Instant>,
    /// Time of the last message about dropped lines.
    dropped_said: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        log: &Log,
        jobs: Receiver<Job>,
        shared: Arc<Shared>,
        stderr: Box<dyn Write + Send>,
    ) -> Self {
        Self {
            jobs,
            shared,
            stderr,
            format: log.format,
            file: log_file(log),
            pending: Vec::new(),
            said: Vec::new(),
            window_ends: None,
            dropped_said: None,
        }
    }

    /// Runs until it is stopped.
    pub(super) fn run(mut self) {
        loop {
            let (mut waiting, mut stop) = (Vec::new(), false);
            let first = self.wait();
            for job in first.into_iter().chain(self.jobs.clone().try_iter()) {
                match job {
                    Job::Line(line) => self.line(&line),
                    // Applied here, so that later lines use the new configuration.
                    Job::Wake => self.settings(),
                    Job::Flush(done) => waiting.push(done),
                    Job::Stop => stop = true,
                }
                if self.pending.len() >= LOG_BATCH_BYTES {
                    break;
                }
            }
            // Requests whose job found no room in the channel.
            self.settings();
            self.tick(Instant::now(), stop);
            self.write_out();
            waiting.into_iter().for_each(notify);
            if stop {
                self.finish();
                return;
            }
            std::thread::sleep(REST);
        }
    }

    /// Waits for the next job; while a report is due later, at most until then.
    fn wait(&self) -> Option<Job> {
        let counting = !self.shared.limiter().is_empty();
        let dropped = self.shared.dropped.load(Ordering::Relaxed) > 0;
        let report = match self.window_ends {
            Some(ends) if !dropped => ends.saturating_duration_since(Instant::now()),
            None if !dropped && !counting => {
                return Some(self.jobs.recv().unwrap_or(Job::Stop));
            }
            _ => TICK,
        };
        match self.jobs.recv_timeout(report) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Stop),
        }
    }

    /// Writes lines that arrived after the request to stop.
    fn finish(&mut self) {
        for job in self.jobs.clone().try_iter() {
            match job {
                Job::Line(line) => self.line(&line),
                Job::Flush(done) => notify(done),
                Job::Wake | Job::Stop => {}
            }
        }
        self.write_out();
    }

    /// Renders a line for stderr and for the file.
    fn line(&mut self, line: &Line) {
        let from = self.pending.len();
        line.render(self.format, &mut self.pending);
        if let Some(file) = &mut self.file {
            file.line(&self.pending[from..], Instant::now(), &mut self.said);
        }
    }

    /// Applies shared requests: another configuration, reopening the file.
    fn settings(&mut self) {
        let now = Instant::now();
        if let Some(log) = self.shared.take_reload() {
            self.flush_file(now);
            self.format = log.format;
            self.file = log_file(&log);
        }
        if self.shared.reopen.swap(false, Ordering::Relaxed)
            && let Some(file) = &mut self.file
        {
            file.reopen(now, &mut self.said);
        }
    }

    /// Reports suppressed and dropped lines, when it is time or at the end (`now_or_never`).
    fn tick(&mut self, now: Instant, now_or_never: bool) {
        let window = Duration::from_secs(LOG_WINDOW_S);
        match self.window_ends {
            None if now_or_never => self.close_window(),
            None if !self.shared.limiter().is_empty() => self.window_ends = Some(now + window),
            Some(end) if end <= now || now_or_never => self.close_window(),
            _ => {}
        }
        let due = self
            .dropped_said
            .is_none_or(|said| now.saturating_duration_since(said) >= TICK);
        if (due || now_or_never) && self.shared.dropped.load(Ordering::Relaxed) > 0 {
            let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
            self.dropped_said = Some(now);
            let message = format!("{dropped} lines were dropped: they came faster than written");
            self.line(&Line::own(Level::Warn, message).with("lines", dropped));
        }
    }

    fn close_window(&mut self) {
        self.window_ends = None;
        let held_back = self.shared.limiter().close_window();
        for more in held_back {
            let mut line = Line::own(more.level, more.to_string()).with("lines", more.lines);
            if !more.who.is_empty() {
                line = line.with("host", escape(&more.who));
            }
            line.target = more.target.into();
            self.line(&line);
        }
    }

    /// Writes pending lines. An error of standard error is ignored: it cannot be reported.
    fn write_out(&mut self) {
        self.flush_file(Instant::now());
        let path = self.file.as_ref().map(LogFile::path).unwrap_or_default();
        for message in std::mem::take(&mut self.said) {
            Line::own(Level::Error, message)
                .with("path", path.as_str())
                .render(self.format, &mut self.pending);
        }
        let _ = self.stderr.write_all(&self.pending);
        let _ = self.stderr.flush();
        self.pending.clear();
        self.pending.shrink_to(LOG_KEPT_BYTES);
    }

    fn flush_file(&mut self, now: Instant) {
        if let Some(file) = &mut self.file {
            file.flush(now, &mut self.said);
        }
    }
}

/// Notifies the waiting caller that all lines are written. The caller may have stopped waiting.
fn notify(done: Sender<()>) {
    let _ = done.try_send(());
}

fn log_file(log: &Log) -> Option<LogFile> {
    let path = log.file.clone()?;
    Some(LogFile::new(
        path,
        log.rotate_mb.saturating_mul(MIB),
        log.keep,
    ))
}
