//! The file of the embedded store: creation, lock, check, and durable transactions.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;

use redb::{CommitError, Database, DatabaseError, StorageError, TransactionError};

use super::keyspace::{Fault, Space};
use crate::files;
use crate::limits::{EMBEDDED_CACHE_BYTES, EMBEDDED_CHECK_BYTES_MAX, EMBEDDED_NEW_FILE_BYTES_MAX};
use crate::store::panic_text;
use crate::time::UnixMs;

/// Name of the file in its directory.
pub(super) const FILE_NAME: &str = "anthill.redb";

/// Error of opening the store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be created.
    #[error("cannot make the directory {}: {error}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file cannot be created, opened or read.
    #[error("cannot open {}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", file.display())]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// The file is not Anthill's, damaged, or of another version.
    #[error("{} is damaged or not a store of this version ({why}); {}", file.display(), advice(file))]
    Unusable {
        /// The file.
        file: PathBuf,
        /// The reason.
        why: String,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Remedy for an unusable file.
fn advice(file: &Path) -> String {
    let file = file.display();
    format!(
        "put a backup in its place, or start with an empty store: mv {file} {file}.damaged (presence is rewritten, tasks and results are lost)"
    )
}

thread_local! {
    /// A panic of this thread is caught and returned as an error, and not printed.
    static EXPECTS_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the database library, which panics at some damages of its file.
///
/// # Errors
/// The message of the panic. Nothing that was open may be used again.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTS_PANIC.get() {
                others(info);
            }
        }));
    });
    let before = EXPECTS_PANIC.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    EXPECTS_PANIC.set(before);
    done.map_err(|payload| {
        let text = panic_text(&*payload);
        text.lines().next().unwrap_or_default().to_owned()
    })
}

/// The file, open.
pub(super) struct Opened {
    pub(super) database: Database,
    /// Device and inode, if it is a file.
    id: Option<(u64, u64)>,
}

impl Opened {
    pub(super) fn in_memory(database: Database) -> Self {
        Self { database, id: None }
    }

    /// Returns whether `dir` still has this file: a deleted file is lost when it is closed.
    pub(super) fn is_in(&self, dir: &Path) -> bool {
        let found = fs::metadata(dir.join(FILE_NAME));
        found.is_ok_and(|found| Some((found.dev(), found.ino())) == self.id)
    }
}

/// Opens the file for the first time in this process, and checks it as a whole if it is not too
/// large.
pub(super) fn open_and_check(dir: &Path) -> Result<Opened, OpenError> {
    let path = dir.join(FILE_NAME);
    let mut opened = open(dir)?;
    let length = fs::metadata(&path).map_or(0, |found| found.len());
    if length > EMBEDDED_CHECK_BYTES_MAX {
        return Ok(opened);
    }
    let checked = guarded(move || {
        let sound = opened.database.check_integrity();
        sound.map(|sound| (sound, opened))
    });
    match checked {
        Ok(Ok((sound, opened))) => {
            if !sound {
                let file = path.display();
                log::warn!(
                    file:% = file;
                    "store: {file} was damaged and is repaired; its last changes may be missing"
                );
            }
            Ok(opened)
        }
        Ok(Err(error)) => Err(unusable(&path, error.to_string())),
        Err(panic) => Err(unusable(&path, panic)),
    }
}

/// Message about a file in `dir` that was found damaged during use.
pub(super) fn damaged(dir: &Path, why: String) -> String {
    unusable(&dir.join(FILE_NAME), why).to_string()
}

fn unusable(file: &Path, why: String) -> OpenError {
    OpenError::Unusable {
        file: file.to_owned(),
        why,
    }
}

/// Creates the directory if necessary, and opens the file in it.
pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    files::own_directory(dir).map_err(|error| OpenError::Directory {
        dir: dir.to_owned(),
        error,
    })?;
    let path = dir.join(FILE_NAME);
    let locked = locked_file(&path)?;
    let found = locked.metadata().map_err(|error| OpenError::File {
        file: path.clone(),
        error,
    })?;
    let id = Some((found.dev(), found.ino()));
    let opened = guarded(|| {
        Database::builder()
            .set_cache_size(EMBEDDED_CACHE_BYTES)
            .create_file(locked)
    });
    let opened = opened.map_err(|panic| unusable(&path, panic))?;
    let database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { file: path.clone() },
        DatabaseError::Storage(StorageError::Io(error)) if is_damage(&error) => {
            unusable(&path, "it is too short".to_owned())
        }
        DatabaseError::Storage(StorageError::Io(error)) => OpenError::File {
            file: path.clone(),
            error,
        },
        other => unusable(&path, other.to_string()),
    })?;
    Ok(Opened { database, id })
}

/// Returns whether a failed read is caused by the file's content and not by the disk.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

/// The file, locked for this process as long as it is open.
///
/// A file whose creation was interrupted has its size but no magic number, and would always be
/// refused. It is created again.
fn locked_file(path: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::File {
        file: path.to_owned(),
        error,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    if path.is_dir() {
        return Err(unusable(path, "it is a directory".to_owned()));
    }
    let mut file = files::open_own(path, options.mode(0o600)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse {
                file: path.to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    if is_half_made(&mut file).map_err(failed)? {
        file.set_len(0).map_err(failed)?;
    }
    Ok(file)
}

/// Returns whether the file was never finished: small, with zeros in place of its magic number.
fn is_half_made(file: &mut File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length == 0 || length > EMBEDDED_NEW_FILE_BYTES_MAX {
        return Ok(false);
    }
    let mut mark = Vec::new();
    file.take(8).read_to_end(&mut mark)?;
    Ok(mark.iter().all(|byte| *byte == 0))
}

/// Runs `work` in one transaction at `now`. What it has written is durable when this returns.
pub(super) fn transaction<T>(
    database: &Database,
    now: UnixMs,
    work: impl FnOnce(&mut Space<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut transaction = database.begin_write().map_err(|error| match error {
        TransactionError::Storage(error) => Fault::Storage(error),
        other => Fault::Storage(StorageError::Corrupted(other.to_string())),
    })?;
    transaction.set_quick_repair(true);
    let mut space = Space::open(&transaction, now)?;
    let value = work(&mut space)?;
    let written = space.written();
    drop(space);
    if written {
        transaction.commit().map_err(|error| match error {
            CommitError::Storage(error) => Fault::Storage(error),
            other => Fault::Storage(StorageError::Corrupted(other.to_string())),
        })?;
    } else {
        transaction.abort()?;
    }
    Ok(value)
}
