//! The spool: reports on disk while the store is unavailable, in order, until they are replayed.
//!
//! ```text
//!  append, sync ──▶ 00000009.seg (written)
//!                   00000008.seg
//!                   00000007.seg ──▶ next, settled ──▶ the store; deleted when all of it is settled
//! ```
//!
//! Segments are files of records (`record.rs`). A closed segment is read as a whole. Only its
//! deletion marks it as replayed: records may be replayed twice, which changes nothing. While the
//! store is unavailable, a copy of the replay buffer lies beside the segments (`recent.rs`).

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod node;
mod numbers;
mod position;
mod recent;
mod record;
mod rejected;
mod segment;

pub use record::RecordError;
pub use rejected::Rejected;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::files;
use crate::limits::{SPOOL_MARK_BYTES, SPOOL_SEGMENT_BYTES};
use crate::store::op::Op;
use position::Position;
use record::{HEADER_BYTES, Piece};
use segment::Segment;

/// Error of the spool. After an error no operation of the batch is spooled.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The spool is full.
    #[error("the spool is full: {bytes} of at most {max} bytes")]
    Full {
        /// Bytes in the spool.
        bytes: u64,
        /// Its bound.
        max: u64,
    },
    /// The directory belongs to another process.
    #[error("the spool directory {0} is used by another server")]
    Locked(PathBuf),
    /// The disk is full, or fails.
    #[error("the spool in {dir}: {error}")]
    Disk {
        /// Its directory.
        dir: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// One of the operations cannot be a record.
    #[error("{0}")]
    Record(#[from] RecordError),
}

/// The spool, of one process and one thread.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    /// Held open to sync the directory itself.
    dir_file: File,
    lock: DirLock,
    max_bytes: u64,
    segment_bytes: u64,
    next_number: u64,
    /// Segments no longer written, oldest first.
    closed: VecDeque<Segment>,
    writer: Option<Writer>,
    /// Reader of the first of `closed`, while it is replayed.
    reader: Option<Reader>,
    /// Position in the first of `closed` up to which an earlier process replayed it.
    start: usize,
    /// Bytes of the copy of the replay buffer.
    recent_bytes: u64,
    damaged: u64,
}

/// The segment that is being written.
#[derive(Debug)]
struct Writer {
    file: File,
    segment: Segment,
    /// The synced part of it.
    synced: Segment,
}

/// The segment that is being replayed.
#[derive(Debug, Default)]
struct Reader {
    bytes: Vec<u8>,
    /// Position up to which it is decoded.
    at: usize,
    /// Decoded operations that are not settled.
    ops: Vec<Op>,
    /// End of the record of each of `ops`.
    ends: Vec<usize>,
    /// Position up to which the position file marks records as replayed.
    marked: usize,
}

impl Spool {
    /// Opens the spool in `dir`, which is created if necessary, and finds the segments of an
    /// earlier process. All of them are read once: about a second for each gigabyte.
    ///
    /// # Errors
    /// When another process has it, or the directory cannot be read and written.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let disk = |error| SpoolError::Disk {
            dir: dir.to_path_buf(),
            error,
        };
        let lock = lock(dir).map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::Locked(dir.to_path_buf()),
            TryLockError::Error(error) => disk(error),
        })?;
        let mut spool = Self {
            dir: dir.to_path_buf(),
            dir_file: File::open(dir).map_err(disk)?,
            lock,
            max_bytes,
            segment_bytes: SPOOL_SEGMENT_BYTES.min(max_bytes / 4).max(1),
            next_number: 1,
            closed: VecDeque::new(),
            writer: None,
            reader: None,
            start: 0,
            recent_bytes: 0,
            damaged: 0,
        };
        spool.find().map_err(disk)?;
        Ok(spool)
    }

    /// Finds the segments in the directory.
    fn find(&mut self) -> io::Result<()> {
        self.recent_bytes = recent::found(&self.dir);
        let numbers = segment::numbers(&self.dir, ".seg")?;
        let kept = segment::numbers(&self.dir, ".damaged")?;
        let last = numbers.last().max(kept.last()).copied().unwrap_or(0);
        self.next_number = last + 1;
        let noted = position::load(&self.dir);
        for number in numbers {
            let from = noted
                .filter(|note| self.closed.is_empty() && self.fits(note, number))
                .map_or(0, |note| note.offset);
            match segment::adopt(&self.dir, number, from) {
                Ok((segment, _)) if segment.records == 0 => {
                    self.damaged += u64::from(segment.is_damage_logged);
                    self.remove(number);
                }
                Ok((segment, start)) => {
                    self.damaged += u64::from(segment.is_damage_logged);
                    if self.closed.is_empty() {
                        self.start = start;
                    }
                    self.closed.push_back(segment);
                }
                Err(error) => {
                    self.damaged += 1;
                    segment::set_aside(&self.dir, number, &error);
                }
            }
        }
        Ok(())
    }

    /// Returns whether `note` belongs to the segment that now has this number.
    fn fits(&self, note: &Position, number: u64) -> bool {
        let mut first = [0; HEADER_BYTES];
        let read = files::open_own(
            &segment::path(&self.dir, number),
            OpenOptions::new().read(true),
        )
        .and_then(|file| file.read_exact_at(&mut first, 0));
        note.number == number && read.is_ok() && first == note.first
    }

    /// Returns whether the spool has no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.writer.is_none()
    }

    /// Number of records in the spool.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.segments().map(|segment| segment.records).sum()
    }

    /// Bytes on the disk, with replayed parts of segments and the copy of the replay buffer.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.queue_bytes() + self.recent_bytes
    }

    fn queue_bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// Number of damaged places found since it was opened.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        let written = self.writer.as_ref().map(|writer| &writer.segment);
        self.closed.iter().chain(written)
    }

    /// Appends reports: all of them or, with an error, none. They are safe after a
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// When there is no room, the disk fails, or one of them is no report.
    pub fn append(&mut self, ops: &[&Op]) -> Result<(), SpoolError> {
        let mut records = Vec::new();
        for op in ops {
            encode_report(op, &mut records)?;
        }
        if records.is_empty() {
            return Ok(());
        }
        let more = records.len() as u64;
        if self.bytes().saturating_add(more) > self.max_bytes {
            return Err(SpoolError::Full {
                bytes: self.bytes(),
                max: self.max_bytes,
            });
        }
        let written = match &self.writer {
            Some(writer) => writer.segment.bytes,
            None => 0,
        };
        if written > 0 && written + more > self.segment_bytes {
            self.close()?;
        }
        let begun = self.write(&records, ops.len() as u64);
        begun.map_err(|error| self.roll_back(error))
    }

    fn write(&mut self, records: &[u8], count: u64) -> io::Result<()> {
        if self.writer.is_none() {
            self.stay_in_place()?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let segment = Segment {
                    number: self.next_number,
                    bytes: 0,
                    records: 0,
                    is_damage_logged: false,
                };
                // The number is used up: a file left by a failure must not block later segments.
                self.next_number += 1;
                self.writer.insert(Writer {
                    file: segment::create(&self.dir, segment.number)?,
                    segment,
                    synced: segment,
                })
            }
        };
        let end = writer.segment.bytes;
        writer.file.write_all_at(records, end)?;
        writer.segment.bytes += records.len() as u64;
        writer.segment.records += count;
        Ok(())
    }

    /// Creates the directory and its lock again if another program has deleted them.
    fn stay_in_place(&mut self) -> io::Result<()> {
        if is_deleted(&self.lock.0)? {
            self.lock = lock(&self.dir)?;
            self.dir_file = File::open(&self.dir)?;
        }
        Ok(())
    }

    /// Syncs the appended reports. After an error they are removed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if writer.synced == writer.segment {
            return Ok(());
        }
        let new = writer.synced.bytes == 0;
        let mut synced = match is_deleted(&writer.file) {
            Ok(false) => writer.file.sync_data(),
            Ok(true) => Err(io::Error::other("its segment was deleted")),
            Err(error) => Err(error),
        };
        if new && synced.is_ok() {
            synced = self.dir_file.sync_all();
        }
        if synced.is_ok() {
            writer.synced = writer.segment;
        }
        synced.map_err(|error| self.roll_back(error))
    }

    /// Removes unsynced records, and closes the segment: after a failed sync the result of further
    /// syncs on the same file is undefined.
    fn roll_back(&mut self, error: io::Error) -> SpoolError {
        if let Some(writer) = self.writer.take() {
            let synced = writer.synced;
            if synced.bytes == 0 {
                self.remove(synced.number);
            } else {
                // The records beyond were not acknowledged, but they may be replayed.
                let cut = writer.file.set_len(synced.bytes);
                if let Err(error) = cut {
                    let segment = synced.number;
                    log::warn!(
                        segment = segment, error:% = error;
                        "spool: segment {segment} cannot be truncated: {error}"
                    );
                }
                self.closed.push_back(synced);
            }
        }
        SpoolError::Disk {
            dir: self.dir.clone(),
            error,
        }
    }

    /// Closes the segment that is being written.
    fn close(&mut self) -> Result<(), SpoolError> {
        self.sync()?;
        if let Some(writer) = self.writer.take() {
            self.closed.push_back(writer.segment);
        }
        Ok(())
    }

    /// The oldest unsettled reports, at most `ops_max` and about `bytes_max`; possibly none.
    ///
    /// # Errors
    /// When the disk fails. Unreadable segments are set aside.
    pub fn next(&mut self, ops_max: usize, bytes_max: usize) -> Result<&[Op], SpoolError> {
        while !self.is_empty() {
            if self.closed.is_empty() {
                self.close()?;
            }
            if self.reader.is_none() && !self.load() {
                continue;
            }
            self.decode(ops_max, bytes_max);
            if self.reader.as_ref().is_some_and(|r| !r.ops.is_empty()) {
                break;
            }
            self.finish();
        }
        let ops = self.reader.as_ref().map_or(&[][..], |reader| &reader.ops);
        Ok(&ops[..ops.len().min(ops_max)])
    }

    /// Reads the first closed segment, or sets it aside.
    fn load(&mut self) -> bool {
        let start = std::mem::take(&mut self.start);
        let Some(front) = self.closed.front() else {
            return false;
        };
        match files::read_own(&segment::path(&self.dir, front.number)) {
            Ok(mut bytes) => {
                bytes.truncate(usize::try_from(front.bytes).unwrap_or(usize::MAX));
                self.reader = Some(Reader {
                    bytes,
                    at: start,
                    marked: start,
                    ..Reader::default()
                });
                true
            }
            Err(error) => {
                self.damaged += 1;
                segment::set_aside(&self.dir, front.number, &error);
                self.closed.pop_front();
                false
            }
        }
    }

    /// Decodes records up to the limits, or to the end of the segment.
    fn decode(&mut self, ops_max: usize, bytes_max: usize) {
        let (Some(reader), Some(front)) = (&mut self.reader, self.closed.front_mut()) else {
            return;
        };
        let begin = reader.at;
        while reader.ops.len() < ops_max && reader.at - begin < bytes_max {
            let at = reader.at;
            let damage = match record::piece(&reader.bytes, at) {
                None => return,
                Some(Piece::Record { payload }) => {
                    reader.at = payload.end;
                    match record::decode(&reader.bytes[payload]) {
                        Ok(op) => {
                            reader.ops.push(op);
                            reader.ends.push(reader.at);
                            false
                        }
                        Err(error) => {
                            let segment = front.number;
                            log::error!(
                                segment = segment, byte = at, error:% = error;
                                "spool: segment {segment}, byte {at}: {error}"
                            );
                            true
                        }
                    }
                }
                Some(Piece::Damaged { resume }) => {
                    reader.at = resume;
                    true
                }
                Some(Piece::Torn) => {
                    reader.at = reader.bytes.len();
                    true
                }
            };
            if damage && !front.is_damage_logged {
                front.is_damage_logged = true;
                self.damaged += 1;
                segment::keep_damage(&self.dir, front.number, &reader.bytes, at);
            }
        }
    }

    /// Settles and returns the first `count` reports of the last [`next`](Self::next).
    pub fn settled(&mut self, count: usize) -> Vec<Op> {
        let (Some(reader), Some(front)) = (&mut self.reader, self.closed.front_mut()) else {
            return Vec::new();
        };
        let count = count.min(reader.ops.len());
        let Some(end) = reader.ends.drain(..count).next_back() else {
            return Vec::new();
        };
        let ops = reader.ops.drain(..count).collect();
        front.records = front.records.saturating_sub(count as u64);
        if reader.ops.is_empty() && reader.at == reader.bytes.len() {
            self.finish();
        } else if end - reader.marked >= SPOOL_MARK_BYTES {
            reader.marked = end;
            let mut first = [0; HEADER_BYTES];
            first.copy_from_slice(&reader.bytes[..HEADER_BYTES]);
            let number = front.number;
            position::save(
                &self.dir,
                Position {
                    number,
                    first,
                    offset: end,
                },
            );
        }
        ops
    }

    /// Deletes the first closed segment, which is replayed.
    fn finish(&mut self) {
        self.reader = None;
        if let Some(front) = self.closed.pop_front() {
            self.remove(front.number);
        }
    }

    /// Deletes the file of a segment. If that fails, its records are replayed again after a
    /// restart.
    fn remove(&self, number: u64) {
        let path = segment::path(&self.dir, number);
        let removed = fs::remove_file(&path).and_then(|()| self.dir_file.sync_all());
        if let Err(error) = removed {
            let file = path.display();
            log::warn!(file:% = file, error:% = error; "spool: {file} cannot be deleted: {error}");
        }
    }
}

/// Checks that an operation can be encoded as a record.
///
/// # Errors
/// When it cannot.
pub fn check(op: &Op) -> Result<(), RecordError> {
    encode_report(op, &mut Vec::new())
}

/// Appends a report as a record.
fn encode_report(op: &Op, out: &mut Vec<u8>) -> Result<(), RecordError> {
    match op.is_report() {
        true => record::encode(op, out),
        false => Err(RecordError::NotAReport),
    }
}

/// Lock of the directory.
#[derive(Debug)]
struct DirLock(File);

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing the file is not enough while a child process that was just forked has it open.
        let _ = self.0.unlock();
    }
}

/// Returns whether an open file was deleted: its data is lost when it is closed.
fn is_deleted(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() == 0)
}

/// Creates the directory and takes its lock.
fn lock(dir: &Path) -> Result<DirLock, TryLockError> {
    files::own_directory(dir).map_err(TryLockError::Error)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = files::open_own(&dir.join("lock"), &options).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(DirLock(file))
}

/// Returns whether a server uses the spool in `dir`. Creates nothing.
#[must_use]
pub fn is_in_use(dir: &Path) -> bool {
    let taken = File::open(dir.join("lock")).map(|file| file.try_lock_shared());
    matches!(taken, Ok(Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests;
