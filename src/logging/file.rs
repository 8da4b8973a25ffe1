//! The log file: rotated by size, reopened on request, and retried after an error.
//!
//! ```text
//!  anthill.log ──▶ anthill.log.1 ──▶ anthill.log.2 ──▶ … ──▶ anthill.log.KEEP ──▶ gone
//! ```
//!
//! Lines are buffered and written together. Lines that cannot be written are lost here (stderr has
//! them) and counted; the count is reported when the file can be written again. A retry happens
//! once a second.
//!
//! Only a regular file is rotated, at the end of its links. A device, a pipe or a descriptor is
//! written without blocking and never renamed.

use crate::config::{LogFileKind, log_file_kind};
use crate::escape::escape;
use crate::files;
use crate::limits::LOG_KEPT_BYTES;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Pause after a failed write of the file.
const RETRY: Duration = Duration::from_secs(1);
/// Size up to which a write to a pipe is atomic.
const PIECE_BYTES: usize = 4_096;

/// The log file. Its messages about itself are returned, for stderr.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// Size above which a new file begins; `None`: never.
    rotate_bytes: Option<u64>,
    keep: u32,
    state: State,
    /// Unwritten whole lines, and their number.
    pending: Vec<u8>,
    pending_lines: u64,
    /// Lines lost since the last successful write.
    lost: u64,
}

#[derive(Debug)]
enum State {
    /// Closed until the next line.
    Closed,
    Open {
        file: File,
        bytes: u64,
        /// Size of the next rotation. A failure raises it, so that not every line tries again.
        rotate_at: u64,
    },
    /// Open, and not a regular file.
    Special {
        file: File,
        /// Start of the stall, if it takes no more.
        stalled: Option<Instant>,
        /// The last line is incomplete.
        is_torn: bool,
    },
    Broken {
        since: Instant,
    },
}

impl LogFile {
    pub(super) fn new(path: PathBuf, rotate_bytes: u64, keep: u32) -> Self {
        Self {
            path,
            rotate_bytes: Some(rotate_bytes).filter(|&bytes| bytes > 0),
            keep,
            state: State::Closed,
            pending: Vec::new(),
            pending_lines: 0,
            lost: 0,
        }
    }

    /// Its configured path, escaped.
    pub(super) fn path(&self) -> String {
        escape(&self.path.to_string_lossy()).into_owned()
    }

    /// Adds a line with its line feed. It is written at the next [`flush`](Self::flush), or earlier
    /// if a new file begins.
    pub(super) fn line(&mut self, line: &[u8], now: Instant, say: &mut Vec<String>) {
        self.open(now, say);
        let full = match &self.state {
            State::Open {
                bytes, rotate_at, ..
            } => {
                let held = bytes + self.pending.len() as u64;
                held > 0 && held + line.len() as u64 > *rotate_at
            }
            _ => false,
        };
        if full {
            self.flush(now, say);
            self.rotate(say);
            self.open(now, say);
        }
        self.pending.extend_from_slice(line);
        self.pending_lines += 1;
    }

    /// Writes pending lines.
    pub(super) fn flush(&mut self, now: Instant, say: &mut Vec<String>) {
        if self.pending.is_empty() {
            return;
        }
        self.open(now, say);
        match &mut self.state {
            State::Open { file, bytes, .. } => match file.write_all(&self.pending) {
                Ok(()) => *bytes += self.pending.len() as u64,
                Err(error) => {
                    self.lost += self.pending_lines;
                    self.broken(&error, now, say);
                }
            },
            State::Special { .. } => self.flush_special(now, say),
            State::Closed | State::Broken { .. } => self.lost += self.pending_lines,
        }
        self.pending.clear();
        self.pending.shrink_to(LOG_KEPT_BYTES);
        self.pending_lines = 0;
    }

    /// Writes pending lines without blocking, so that a slow reader does not delay the log thread.
    fn flush_special(&mut self, now: Instant, say: &mut Vec<String>) {
        let State::Special {
            file,
            stalled,
            is_torn,
        } = &mut self.state
        else {
            return;
        };
        let waits = |since: Instant| now.saturating_duration_since(since) < RETRY;
        if stalled.is_some_and(waits) {
            self.lost += self.pending_lines;
            return;
        }
        let path = self.path.display();
        match write_at_once(file, &self.pending, is_torn) {
            Ok(0) => {
                *stalled = None;
                if self.lost > 0 {
                    let lost = std::mem::take(&mut self.lost);
                    say.push(format!("{path} takes lines again; it misses {lost} lines"));
                }
            }
            Ok(lost) => {
                self.lost += lost;
                if stalled.replace(now).is_none() {
                    say.push(format!("{path} takes no more lines: it is not read"));
                }
            }
            Err(error) => {
                self.lost += self.pending_lines;
                self.broken(&error, now, say);
            }
        }
    }

    /// Closes the file, so that the next line opens the file that then has its name.
    pub(super) fn reopen(&mut self, now: Instant, say: &mut Vec<String>) {
        self.flush(now, say);
        self.state = State::Closed;
        self.open(now, say);
    }

    /// Opens the file if it is closed and a retry is due.
    fn open(&mut self, now: Instant, say: &mut Vec<String>) {
        let again = match &self.state {
            State::Open { .. } | State::Special { .. } => return,
            State::Closed => false,
            State::Broken { since } if now.saturating_duration_since(*since) < RETRY => return,
            State::Broken { .. } => true,
        };
        match open(&self.path) {
            Ok(opened) => {
                self.state = match opened {
                    Opened::Regular(file, bytes) => State::Open {
                        file,
                        bytes,
                        rotate_at: self.rotate_bytes.unwrap_or(u64::MAX),
                    },
                    Opened::Special(file) => State::Special {
                        file,
                        stalled: None,
                        is_torn: false,
                    },
                };
                if self.lost > 0 {
                    let (path, lost) = (self.path.display(), std::mem::take(&mut self.lost));
                    say.push(format!(
                        "{path} can be written again; it misses {lost} lines"
                    ));
                }
            }
            // Reported once, not at each retry.
            Err(_) if again => self.state = State::Broken { since: now },
            Err(error) => self.broken(&error, now, say),
        }
    }

    fn broken(&mut self, error: &io::Error, now: Instant, say: &mut Vec<String>) {
        say.push(format!(
            "{} cannot be written: {error}; trying again",
            self.path.display()
        ));
        self.state = State::Broken { since: now };
    }

    /// Renames every file to the next number, the current one to number 1, and begins a new one.
    fn rotate(&mut self, say: &mut Vec<String>) {
        let State::Open {
            bytes, rotate_at, ..
        } = &mut self.state
        else {
            return;
        };
        // Checked again, since the file that has the name now would be renamed.
        let shifted = match log_file_kind(&self.path) {
            LogFileKind::Regular(path) => shift(&path, self.keep),
            LogFileKind::Special(kind) => Err(io::Error::other(format!("it is {kind} now"))),
        };
        match shifted {
            Ok(()) => self.state = State::Closed,
            Err(error) => {
                // One large file is better than lost lines. The next attempt follows after the same
                // amount.
                *rotate_at = bytes.saturating_add(self.rotate_bytes.unwrap_or(u64::MAX));
                say.push(format!(
                    "{} cannot be rotated: {error}; it grows on",
                    self.path.display()
                ));
            }
        }
    }
}

/// The opened destination.
enum Opened {
    /// A regular file of so many bytes.
    Regular(File, u64),
    /// Anything else.
    Special(File),
}

/// Opens for appending, without waiting for a reader of a pipe.
fn open(path: &Path) -> io::Result<Opened> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    match log_file_kind(path) {
        LogFileKind::Regular(real) => {
            let refused =
                |why| io::Error::new(io::ErrorKind::PermissionDenied, format!("it {why}"));
            files::check_named_output(path).map_err(refused)?;
            let file = files::open_own(&real, &options)?;
            let bytes = file.metadata()?.len();
            return Ok(Opened::Regular(file, bytes));
        }
        LogFileKind::Special("a block device") => {
            let why = "it is a block device, whose content would be overwritten";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        LogFileKind::Special(_) => {}
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits().cast_signed());
    match options.open(path) {
        Ok(file) => Ok(Opened::Special(file)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
            Err(io::Error::other("no process reads it"))
        }
        Err(error) => Err(error),
    }
}

/// Writes whole lines until one would block. Returns the number of unwritten lines.
fn write_at_once(file: &mut File, lines: &[u8], is_torn: &mut bool) -> io::Result<u64> {
    let mut left = lines;
    while !left.is_empty() {
        if std::mem::take(is_torn) && !write_whole(file, b"\n", is_torn)? {
            *is_torn = true;
            break;
        }
        let piece = &left[..piece_bytes(left)];
        if !write_whole(file, piece, is_torn)? {
            break;
        }
        left = &left[piece.len()..];
    }
    Ok(left.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// Size of the whole lines that one atomic write can hold, at least one line.
fn piece_bytes(lines: &[u8]) -> usize {
    let end_of = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
    let fits = &lines[..lines.len().min(PIECE_BYTES)];
    let first = || lines.iter().position(|byte| *byte == b'\n');
    end_of(fits).or_else(first).map_or(lines.len(), |at| at + 1)
}

/// Returns whether all of `bytes` was written.
fn write_whole(file: &mut File, mut bytes: &[u8], is_torn: &mut bool) -> io::Result<bool> {
    let whole = bytes.len();
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                *is_torn = bytes.len() < whole;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn shift(path: &Path, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return missing_is_fine(fs::remove_file(path));
    }
    for number in (1..keep).rev() {
        missing_is_fine(fs::rename(
            numbered(path, number),
            numbered(path, number + 1),
        ))?;
    }
    // A missing file was renamed, and so rotated, by another program.
    missing_is_fine(fs::rename(path, numbered(path, 1)))
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
