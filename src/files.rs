//! Files of a running process: text files written by people, and directories of its own.
//!
//! One function reads every text file: it bounds the size, skips a byte order mark, and names the
//! offset of invalid UTF-8. Files that the process obeys (allow file, keys, tokens, certificates)
//! and directories of its own (state, data, spool) must not be writable by another user: owner and
//! mode are checked, links of other users are not followed, and an error names the remedy.

mod protection;

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::escape::escape;
use protection::{Groups, fault, fault_on_the_way, is_ours, owner_or_mode, shown};

/// Mark that some editors put before UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Limit of links in a path: that of the kernel.
const LINKS_MAX: usize = 40;

/// Required protection of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Every user may write it, for a file named in a command.
    None,
    /// Only its owner and its group may write it; both may be any.
    Shared,
    /// Only root and the user of this process may own and write it.
    Trusted,
    /// As trusted, and others may not read it.
    Secret,
}

/// Error of a refused file. The text follows the file's name.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A system error.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is too long.
    #[error("has more than {0} bytes")]
    TooLong(u64),
    /// It is not UTF-8.
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    /// Other users could change or read it.
    #[error("{0}")]
    Unsafe(String),
    /// It has no text, or could block the process.
    #[error("is {0}, and must be a regular file")]
    Kind(&'static str),
}

/// A text is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8 {
    /// Offset of the first invalid byte.
    pub at: usize,
    is_utf16: bool,
}

impl NotUtf8 {
    /// The same error in a text that begins `before` bytes earlier.
    #[must_use]
    pub const fn behind(self, before: usize) -> Self {
        Self {
            at: self.at + before,
            is_utf16: self.is_utf16 && before == 0,
        }
    }
}

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = if self.is_utf16 { ": it is UTF-16" } else { "" };
        write!(f, "is not UTF-8 (at byte {}){hint}", self.at)
    }
}

impl std::error::Error for NotUtf8 {}

/// Decodes a text without its byte order mark.
///
/// # Errors
/// The bytes are not UTF-8.
pub fn text_of(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    let mut text = decode(bytes)?;
    if text.as_bytes().starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(text)
}

/// Decodes a part of a text.
///
/// # Errors
/// The bytes are not UTF-8.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        NotUtf8 {
            at: error.utf8_error().valid_up_to(),
            is_utf16: bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff"),
        }
    })
}

/// A text file that has been read.
#[derive(Debug)]
pub struct Text {
    /// The text, without a byte order mark.
    pub text: String,
    /// Its permissions, as in `chmod`.
    pub mode: u32,
}

/// Reads a text file of at most `max` bytes that is protected as `guard` says.
///
/// # Errors
/// It cannot be read, is too long, is not UTF-8, or is not protected.
pub fn read_text(path: &Path, max: u64, guard: Guard) -> Result<Text, FileError> {
    let (bytes, metadata) = read(path, max, guard)?;
    Ok(Text {
        text: text_of(bytes)?,
        mode: metadata.mode() & 0o7777,
    })
}

/// Reads a file that need not be UTF-8, without a byte order mark, and its permissions.
///
/// # Errors
/// It cannot be read, is too long, or is not protected.
pub fn read_bytes(path: &Path, max: u64, guard: Guard) -> Result<(Vec<u8>, u32), FileError> {
    let (mut bytes, metadata) = read(path, max, guard)?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok((bytes, metadata.mode() & 0o7777))
}

fn read(path: &Path, max: u64, guard: Guard) -> Result<(Vec<u8>, Metadata), FileError> {
    let (file, metadata) = open(path, guard)?;
    let mut bytes = Vec::new();
    // One byte more than the limit: a special file may be endless.
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(FileError::TooLong(max)),
        false => Ok((bytes, metadata)),
    }
}

/// Opens a configured file. Links that belong to root or to the user of the process are followed,
/// as certbot and Kubernetes need.
fn open(path: &Path, guard: Guard) -> Result<(File, Metadata), FileError> {
    let check = |metadata: &Metadata| match fault(path, metadata, guard) {
        Some(why) => Err(FileError::Unsafe(why)),
        None => Ok(()),
    };
    let found = fs::metadata(path)?;
    check_kind(path, &found)?;
    check(&found)?;
    // Another file may have taken its place: a named pipe would otherwise block the call.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    check_kind(path, &metadata)?;
    check(&metadata)?;
    rustix::io::ioctl_fionbio(&file, false).map_err(io::Error::from)?;
    Ok((file, metadata))
}

/// Refuses what is not a file of text. A named pipe would block until another program writes to it;
/// a pipe that this process inherited, such as `/dev/stdin` or `<(…)` of a shell, has its writer.
fn check_kind(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(FileError::Kind("a directory"));
    }
    if kind.is_socket() {
        return Err(FileError::Kind("a socket"));
    }
    match kind.is_fifo() && end_of_links(path)?.is_some() {
        true => Err(FileError::Kind("a named pipe")),
        false => Ok(()),
    }
}

/// Follows the links of `path`. Returns the path behind them, which need not exist, or `None` if
/// they lead to an open descriptor of a process.
///
/// # Errors
/// A directory or link on the way cannot be read.
pub fn end_of_links(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        let Some(parent) = path.parent() else {
            break;
        };
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        // A link in there leads to an open descriptor, whatever its text says: `/dev/stdout` comes
        // by here.
        if parent.canonicalize()?.starts_with("/proc") {
            return Ok(None);
        }
        let is_link = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            found => found?.is_symlink(),
        };
        if !is_link {
            break;
        }
        path = parent.join(fs::read_link(&path)?);
    }
    Ok(Some(path))
}

fn denied(path: &Path, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} {why}", escape(&path.to_string_lossy())),
    )
}

/// Makes a directory that belongs to this process alone, if it is not there; else checks that it
/// does.
///
/// # Errors
/// It cannot be made, or another user could put files into it or replace it: the error names the
/// remedy.
pub fn own_directory(dir: &Path) -> io::Result<()> {
    check_way(dir)?;
    let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is no directory", escape(&dir.to_string_lossy())),
        ),
        _ => error,
    })?;
    check_own_directory(dir)
}

/// Checks that a directory belongs to this process alone.
///
/// # Errors
/// As [`own_directory`], and when it is not there.
pub fn check_own_directory(dir: &Path) -> io::Result<()> {
    check_way(dir)?;
    let metadata = fs::metadata(dir)?;
    // In a sticky directory, such as a fresh tmpfs, others can put files but not take or change
    // ours, and theirs are not opened.
    let is_sticky = is_ours(&metadata) && metadata.mode() & 0o1000 != 0;
    match owner_or_mode(dir, &metadata).filter(|_| !is_sticky) {
        Some(why) => Err(denied(dir, &why)),
        None => Ok(()),
    }
}

fn check_way(dir: &Path) -> io::Result<()> {
    match fault_on_the_way(dir, Groups::Refused) {
        Some(why) => Err(denied(dir, &why)),
        None => Ok(()),
    }
}

/// Opens a file in a directory of our own. It follows no link, waits for no pipe or device, and
/// refuses a file that another user could change.
///
/// # Errors
/// A system error, or a file of another user.
pub fn open_own(path: &Path, options: &OpenOptions) -> io::Result<File> {
    // Flags that were set before are replaced: none of the callers sets any.
    let mut options = options.clone();
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => {
                let why = format!("is a link, which is not followed: rm {}", shown(path));
                denied(path, &why)
            }
            Some(libc::ENXIO) => denied(path, &special(path)),
            _ => error,
        })?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    let is_special = !kind.is_file() && !kind.is_dir();
    match owner_or_mode(path, &metadata).or(is_special.then(|| special(path))) {
        Some(why) => Err(denied(path, &why)),
        None => Ok(file),
    }
}

fn special(path: &Path) -> String {
    format!("is no regular file: rm {}", shown(path))
}

/// Reads a file in a directory of our own.
///
/// # Errors
/// As [`open_own`], and when it cannot be read.
pub fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_own(path, OpenOptions::new().read(true))?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks a configured output file: another user can neither replace it nor, if it is a regular
/// file, change it. Devices and pipes belong to the system.
///
/// # Errors
/// The error and its remedy, as a text that follows the file's name.
pub fn check_named_output(path: &Path) -> Result<(), String> {
    let file = fs::metadata(path).ok().filter(Metadata::is_file);
    fault_on_the_way(path, Groups::Accepted)
        .or_else(|| file.and_then(|metadata| owner_or_mode(path, &metadata)))
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
