//! The journal: an agent's [`Memory`] on disk, so that it runs a book at most once and loses no
//! report.
//!
//! ```text
//!  DIR/journal     one line a record:  crc32 in hex, blank, JSON
//!  DIR/output-N    a command's output for report N, until it is settled
//!  DIR/lock        held by the agent that uses the directory
//! ```
//!
//! Records are buffered until [`Journal::sync`], which writes them with one write and one
//! fdatasync. Nothing is answered, sent or started before. A line torn by a crash is skipped; later
//! lines are valid. When most of the file is obsolete, a new file is written beside it and replaces
//! it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::memory::{Memory, Record};
use crate::files;
use crate::limits::AGENT_JOURNAL_BYTES_MIN;

const JOURNAL: &str = "journal";
const OUTPUT: &str = "output-";

/// Error of opening the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another agent uses the directory.
    #[error("{0} is in use by another agent")]
    InUse(PathBuf),
    /// A system error.
    #[error("cannot use {0}: {1}")]
    Io(PathBuf, io::Error),
}

impl JournalError {
    /// Returns whether the journal may recover without a change to this agent's setup.
    #[must_use]
    pub fn is_disk_error(&self) -> bool {
        matches!(self, Self::Io(_, error) if is_disk_error(error))
    }
}

/// Returns whether the error comes from a disk that is full, read-only or broken, rather than from
/// a wrong path or permission.
#[must_use]
pub fn is_disk_error(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kinds = [FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(libc::EIO)
}

/// The journal of one agent, in a directory of its own.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: File,
    /// Bytes in the file.
    size: u64,
    /// Size after the last rewrite.
    base: u64,
    /// Records not yet written.
    waiting: Vec<u8>,
    /// Outputs to delete once the record that releases them is written.
    dropped: Vec<u64>,
    /// Held as long as the journal is open.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `dir`, which is created if necessary. Returns the memory and the number
    /// of damaged lines.
    ///
    /// # Errors
    /// Another agent uses it, or a system error.
    pub fn open(dir: &Path) -> Result<(Self, Memory, usize), JournalError> {
        let refused = |error| JournalError::Io(dir.to_owned(), error);
        files::own_directory(dir).map_err(refused)?;
        let lock = files::open_own(&dir.join("lock"), private().create(true).append(true));
        let lock = lock.map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        Self::read(dir, lock).map_err(refused)
    }

    fn read(dir: &Path, lock: File) -> io::Result<(Self, Memory, usize)> {
        let path = dir.join(JOURNAL);
        let file = files::open_own(&path, private().create(true).append(true))?;
        let (mut memory, torn) = replay(&files::read_own(&path)?);
        repair_outputs(dir, &mut memory)?;
        let mut journal = Self {
            dir: dir.to_owned(),
            file,
            size: 0,
            base: 0,
            waiting: Vec::new(),
            dropped: Vec::new(),
            _lock: lock,
        };
        // Rewritten, so that no record follows a torn line.
        journal.rewrite(&memory)?;
        Ok((journal, memory, torn))
    }

    /// Adds a record, which the next [`sync`](Self::sync) writes.
    pub fn write(&mut self, record: &Record) {
        line(record, &mut self.waiting);
    }

    /// Syncs all records to the disk.
    ///
    /// # Errors
    /// A system error, after which the content of the disk is uncertain; or the file is no longer
    /// in its directory, where its records would be looked for.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.delete_outputs();
            return Ok(());
        }
        self.file.write_all(&self.waiting)?;
        self.file.sync_data()?;
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "it has been deleted",
            ));
        }
        self.size += self.waiting.len() as u64;
        self.waiting.clear();
        self.delete_outputs();
        Ok(())
    }

    /// Rewrites the journal from `memory` if most of it is obsolete.
    ///
    /// # Errors
    /// A system error.
    pub fn compact(&mut self, memory: &Memory) -> io::Result<()> {
        if self.size < AGENT_JOURNAL_BYTES_MIN.max(2 * self.base) {
            return Ok(());
        }
        self.rewrite(memory)
    }

    fn rewrite(&mut self, memory: &Memory) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in memory.snapshot() {
            line(&record, &mut bytes);
        }
        let aside = self.dir.join("journal.new");
        let mut file = files::open_own(&aside, &truncating())?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&aside, self.dir.join(JOURNAL))?;
        File::open(&self.dir)?.sync_all()?;
        self.file = file;
        self.size = bytes.len() as u64;
        self.base = self.size;
        self.waiting.clear();
        Ok(())
    }

    /// Stores the output of a command for report `seq`, and syncs it.
    ///
    /// # Errors
    /// A system error.
    pub fn keep(&mut self, seq: u64, output: &[u8]) -> io::Result<()> {
        let mut file = files::open_own(&self.output_path(seq), &truncating())?;
        file.write_all(output)?;
        file.sync_data()?;
        File::open(&self.dir)?.sync_all()
    }

    /// Reads the output of report `seq`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn output(&self, seq: u64) -> io::Result<Vec<u8>> {
        files::read_own(&self.output_path(seq))
    }

    /// Deletes the output of report `seq` with the next [`sync`](Self::sync), not before: a process
    /// that dies in between sends the report again, and needs its output.
    pub fn drop_output(&mut self, seq: u64) {
        self.dropped.push(seq);
    }

    fn delete_outputs(&mut self) {
        for seq in std::mem::take(&mut self.dropped) {
            // An output that remains is found and deleted at the next start.
            let _ = fs::remove_file(self.output_path(seq));
        }
    }

    fn output_path(&self, seq: u64) -> PathBuf {
        self.dir.join(format!("{OUTPUT}{seq}"))
    }
}

/// Options for files that only their owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// The same for a file that is replaced.
pub(super) fn truncating() -> OpenOptions {
    let mut options = private();
    options.create(true).write(true).truncate(true);
    options
}

/// Appends a record as a line.
fn line(record: &Record, out: &mut Vec<u8>) {
    let json = serde_json::to_string(record).expect("records have text for names, and no maps");
    let crc = crc32fast::hash(json.as_bytes());
    writeln!(out, "{crc:08x} {json}").expect("a Vec takes all that is written to it");
}

/// Replays the lines of a journal; returns the memory and the number of invalid lines.
fn replay(bytes: &[u8]) -> (Memory, usize) {
    let (mut memory, mut torn) = (Memory::default(), 0);
    // An editor may have added it.
    for line in bytes
        .strip_prefix(files::BYTE_ORDER_MARK)
        .unwrap_or(bytes)
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match record(line) {
            Some(record) => memory.apply(record),
            None => torn += 1,
        }
    }
    (memory, torn)
}

fn record(line: &[u8]) -> Option<Record> {
    let (crc, json) = line.split_at_checked(9)?;
    let wanted = format!("{:08x} ", crc32fast::hash(json));
    (wanted.as_bytes() == crc).then_some(())?;
    serde_json::from_slice(json).ok()
}

/// Deletes outputs without a report, and removes missing or damaged outputs from their reports.
fn repair_outputs(dir: &Path, memory: &mut Memory) -> io::Result<()> {
    let wanted: Vec<(u64, u64)> = memory.outputs().collect();
    for (seq, size) in &wanted {
        let path = dir.join(format!("{OUTPUT}{seq}"));
        if !fs::metadata(path).is_ok_and(|meta| meta.len() == *size) {
            memory.without_output(*seq, Sha256::digest([]).into());
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(seq) = name.to_str().and_then(|name| name.strip_prefix(OUTPUT)) else {
            continue;
        };
        let is_wanted = |seq: u64| wanted.iter().any(|(wanted, _)| *wanted == seq);
        if !seq.parse().is_ok_and(is_wanted) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::memory::{Outcome, Report, Task};
    use crate::codec::message::{Message, Phase};
    use proptest::prelude::*;

    fn records() -> Vec<Record> {
        let code = "AC1".to_owned();
        let phase = |phase, done| Report::Phase {
            code: code.clone(),
            phase,
            done,
            lost: false,
            cancelled: false,
        };
        let outcome = Outcome {
            exit: 3,
            seconds: 0.25,
            size: 4,
            sha256: [7; 32],
            truncated: false,
        };
        let output = Report::Output {
            code: code.clone(),
            index: 0,
            outcome,
        };
        let commands = vec!["a \"b\"\n".to_owned(), "c".to_owned()];
        vec![
            Record::Task {
                code: code.clone(),
                task: Task::default(),
            },
            Record::Book {
                code: code.clone(),
                commands,
            },
            Record::Report {
                seq: 0,
                report: phase(Phase::Received, 0),
            },
            Record::Starting {
                code: code.clone(),
                index: 0,
            },
            Record::Report {
                seq: 1,
                report: phase(Phase::Began, 0),
            },
            Record::Report {
                seq: 2,
                report: output,
            },
            Record::Report {
                seq: 3,
                report: phase(Phase::Ended, 1),
            },
            Record::Settled { seq: 0 },
        ]
    }

    fn open(dir: &Path) -> (Journal, Memory) {
        let (journal, memory, _) = Journal::open(dir).unwrap();
        (journal, memory)
    }

    fn filled(dir: &Path) {
        let (mut journal, _) = open(dir);
        journal.keep(2, b"out\n").unwrap();
        records().iter().for_each(|record| journal.write(record));
        journal.sync().unwrap();
    }

    #[test]
    fn a_journal_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        // Twice: the first start rewrites the journal.
        for _ in 0..2 {
            let (journal, memory) = open(dir.path());
            let task = memory.task("AC1").unwrap();
            assert_eq!((task.started, task.done, task.ended), (1, 1, false));
            assert_eq!(memory.reports(), 3);
            assert_eq!(journal.output(2).unwrap(), b"out\n");
            let Some(Message::Result(header)) = memory.message(2) else {
                panic!("a result");
            };
            assert_eq!((header.command.as_ref(), header.size), ("a \"b\"\n", 4));
        }
    }

    #[test]
    fn a_directory_has_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(dir.path());
        let second = Journal::open(dir.path()).map(|_| ());
        assert!(matches!(second, Err(JournalError::InUse(_))), "{second:?}");
        drop(journal);
        open(dir.path());
    }

    #[test]
    fn outputs_and_reports_are_matched_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        fs::write(dir.path().join("output-2"), b"ou").unwrap();
        fs::write(dir.path().join("output-9"), b"orphan").unwrap();
        let (_, memory) = open(dir.path());
        let Some(Message::Result(header)) = memory.message(2) else {
            panic!("a result");
        };
        assert_eq!((header.size, header.truncated, header.exit), (0, true, 3));
        assert_eq!(header.sha256, <[u8; 32]>::from(Sha256::digest([])));
        assert!(!dir.path().join("output-9").exists());
    }

    #[test]
    fn a_journal_that_is_deleted_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.write(&records()[0]);
        journal.sync().unwrap();
        fs::remove_file(dir.path().join(JOURNAL)).unwrap();
        journal.write(&records()[1]);
        let error = journal.sync().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!is_disk_error(&error), "it is permanent");
    }

    #[test]
    fn the_journal_size_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut memory) = open(dir.path());
        let mut written = 0;
        while written < 3 * AGENT_JOURNAL_BYTES_MIN {
            let code = "AC1".to_owned();
            let commands = vec!["x".repeat(50_000)];
            let task = Task {
                commands: Some(commands),
                ..Task::default()
            };
            for record in [
                Record::Task {
                    code: code.clone(),
                    task,
                },
                Record::Forgotten { code },
            ] {
                journal.write(&record);
                memory.apply(record);
            }
            journal.sync().unwrap();
            journal.compact(&memory).unwrap();
            written += 50_000;
        }
        let size = fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
        assert!(size < 2 * AGENT_JOURNAL_BYTES_MIN, "{size}");
        assert_eq!(size, journal.size);
    }

    proptest! {
        /// A crash may leave any prefix of a write; a disk may damage a byte.
        #[test]
        fn a_damaged_journal_loses_only_damaged_lines(
            cut in 0usize..2_000, spoilt in 0usize..2_000, by in 1u8..
        ) {
            let mut bytes = Vec::new();
            records().iter().for_each(|record| line(record, &mut bytes));
            let whole: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
            let cut = cut % (bytes.len() + 1);
            let (memory, torn) = replay(&bytes[..cut]);
            prop_assert!(torn <= 1);
            let lines = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            let mut wanted = Memory::default();
            // A last line without its line feed is complete.
            let lines = lines + usize::from(torn == 0 && cut > 0 && bytes[cut - 1] != b'\n');
            records().into_iter().take(lines).for_each(|record| wanted.apply(record));
            prop_assert_eq!(memory.snapshot(), wanted.snapshot());

            let mut bytes = whole.concat();
            let at = spoilt % bytes.len();
            bytes[at] ^= by;
            let (_, torn) = replay(&bytes);
            prop_assert!((1..=2).contains(&torn), "{torn}");
        }
    }
}
