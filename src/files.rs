//! Files of a running process: text files written by people, and directories of its own.
//!
//! One function reads every text file: it bounds the size, skips a byte order mark, and names the
//! offset of invalid UTF-8. Files that the process obeys (allow file, keys, tokens, certificates)
//! and directories of its own (state, data, spool) must not be writable by another user: owner and
//! mode are checked, links of other users are not followed, and an error names the remedy.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::escape::escape;

/// Mark that some editors put before UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Limit of links in a path: that of the kernel.
pub(crate) const LINKS_MAX: usize = 40;

/// Required protection of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Every user may write it, for a file named in a command.
    None,
    /// Only its owner and its group may write it, whoever they are.
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
    // Checked before it is opened, since opening the pipe of another user would block.
    check(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check(&metadata)?;
    Ok((file, metadata))
}

/// Checks a file's owner and mode, and the directories above it; returns the error and its remedy.
fn fault(path: &Path, metadata: &Metadata, guard: Guard) -> Option<String> {
    let kind = metadata.file_type();
    // Devices belong to the system.
    let is_device = kind.is_char_device() || kind.is_block_device() || kind.is_socket();
    let (mode, file) = (metadata.mode() & 0o777, shown(path));
    match guard {
        Guard::None => None,
        Guard::Shared => (mode & 0o002 != 0 && !is_device).then(|| {
            format!(
                "can be changed by everybody on this machine (mode {mode:04o}): chmod o-w {file}"
            )
        }),
        Guard::Secret if mode & 0o007 != 0 && !is_device => {
            let go = if mode & 0o020 != 0 { "g-w,o=" } else { "o=" };
            Some(format!(
                "can be read or changed by everybody on this machine (mode {mode:04o}): chmod {go} {file}"
            ))
        }
        Guard::Secret | Guard::Trusted => Some(metadata)
            .filter(|_| !is_device)
            .and_then(|metadata| owner_or_mode(path, metadata))
            .or_else(|| fault_on_the_way(path, Groups::Refused)),
    }
}

/// Rule for directories above a file that a group can write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Groups {
    /// Refused, unless the group is root's or the user's own.
    Refused,
    /// Accepted: `/var/log` often belongs to the group of the system's log.
    Accepted,
}

/// Walks a path from `/` along its links. Returns the first directory or link by which another user
/// could replace the file, with its remedy. Missing components are skipped.
fn fault_on_the_way(path: &Path, groups: Groups) -> Option<String> {
    let mut at = PathBuf::new();
    let mut rest = std::path::absolute(path).ok()?;
    let mut links = 0;
    loop {
        let mut parts = rest.components();
        match parts.next()? {
            Component::ParentDir => {
                at.pop();
            }
            part => at.push(part),
        }
        let after = parts.as_path().to_path_buf();
        let found = fs::symlink_metadata(&at).ok()?;
        if !found.is_symlink() {
            let is_above = found.is_dir() && after.components().next().is_some();
            if is_above && let Some(why) = directory_fault(&at, &found, groups) {
                return Some(why);
            }
            rest = after;
            continue;
        }
        // `/dev/stdin` and its like lead to an open descriptor, which has no directory. More links than the
        // kernel follows are left to the call that opens the file.
        if at.starts_with("/proc") || links == LINKS_MAX {
            return None;
        }
        if !is_ours(&found) {
            let (uid, link) = (found.uid(), shown(&at));
            return Some(format!(
                "is behind a link of user {uid}, which is not followed: rm {link}"
            ));
        }
        links += 1;
        rest = fs::read_link(&at).ok()?.join(after);
        at.pop();
    }
}

/// Checks that no other user can replace files in a directory; returns the error and its remedy.
fn directory_fault(dir: &Path, metadata: &Metadata, groups: Groups) -> Option<String> {
    if !is_ours(metadata) {
        return Some(format!(
            "can be replaced by user {}, the owner of a directory above it: {}",
            metadata.uid(),
            change_owner(dir)
        ));
    }
    // In a sticky directory only its owner can replace a file.
    if metadata.mode() & 0o1000 != 0 {
        return None;
    }
    let gid = metadata.gid();
    let is_private = gid == 0 || gid == own_user() && gid == getegid().as_raw();
    let by_group = metadata.mode() & 0o020 != 0 && groups == Groups::Refused && !is_private;
    let (by, bits) = match (by_group, metadata.mode() & 0o002 != 0) {
        (false, false) => return None,
        (true, false) => (format!("group {gid}"), "g-w"),
        (false, true) => ("everybody on this machine".to_owned(), "o-w"),
        (true, true) => ("everybody on this machine".to_owned(), "go-w"),
    };
    let dir = shown(dir);
    Some(format!("can be replaced by {by}: chmod {bits} {dir}"))
}

/// Checks an owner and a mode; returns the error and its remedy.
fn owner_or_mode(path: &Path, metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode() & 0o777;
    if !is_ours(metadata) {
        return Some(format!(
            "belongs to user {}, which could change it: {}",
            metadata.uid(),
            change_owner(path)
        ));
    }
    (mode & 0o022 != 0).then(|| {
        let file = shown(path);
        format!("can be changed by other users (mode {mode:04o}): chmod go-w {file}")
    })
}

/// Remedy for a file or directory of another user. Root may have started the service of that user
/// by hand.
fn change_owner(path: &Path) -> String {
    let path = shown(path);
    match own_user() {
        0 => format!("run anthill as that user, or chown root {path}"),
        own => format!("chown {own} {path}"),
    }
}

fn own_user() -> u32 {
    geteuid().as_raw()
}

/// Returns whether it belongs to root or to the user of this process.
fn is_ours(metadata: &Metadata) -> bool {
    [0, own_user()].contains(&metadata.uid())
}

/// A path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let quoted = shlex::try_quote(&text).unwrap_or_else(|_| text.clone());
    escape(&quoted).into_owned()
}

fn denied(path: &Path, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} {why}", escape(&path.to_string_lossy())),
    )
}

/// Makes a directory that belongs to this process alone, if it is not there; else checks that it does.
///
/// # Errors
/// When it cannot be made, or another user could put files into it or replace it: the error names what mends it.
pub fn own_directory(dir: &Path) -> io::Result<()> {
    check_way(dir)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    check_own_directory(dir)
}

/// Checks that a directory belongs to this process alone.
///
/// # Errors
/// As [`own_directory`], and when it is not there.
pub fn check_own_directory(dir: &Path) -> io::Result<()> {
    check_way(dir)?;
    let metadata = fs::metadata(dir)?;
    // In a sticky directory, such as a fresh tmpfs, others can put files but not take or change ours, and
    // theirs are not opened.
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

/// Opens a file in a directory of our own. A link there is not followed, a pipe or a device is not waited for, and a
/// file that is another user's to change is refused.
///
/// # Errors
/// When the system refuses, or the file is not ours.
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

/// All bytes of a file in a directory of our own.
///
/// # Errors
/// As [`open_own`], and when it cannot be read.
pub fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_own(path, OpenOptions::new().read(true))?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks a file that is written to and that a person has named: another user can neither replace it nor, where it
/// is there and regular, change it. A device, or a pipe that stands for one, is the system's.
///
/// # Errors
/// What is wrong with it, in words that follow its name, and what mends it.
pub fn check_named_output(path: &Path) -> Result<(), String> {
    let file = fs::metadata(path).ok().filter(Metadata::is_file);
    fault_on_the_way(path, Groups::Accepted)
        .or_else(|| file.and_then(|metadata| owner_or_mode(path, &metadata)))
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const MAX: u64 = 100;

    fn file(dir: &Path, bytes: &[u8], mode: u32) -> PathBuf {
        let path = dir.join("a file");
        fs::write(&path, bytes).unwrap();
        chmod(&path, mode);
        path
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn why(path: &Path, guard: Guard) -> String {
        read_text(path, MAX, guard).unwrap_err().to_string()
    }

    #[test]
    fn text_is_utf8_without_a_byte_order_mark() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, wanted) in [
            (&b"\xef\xbb\xbf[]\r\n"[..], Ok("[]\r\n")),
            (b"\xef\xbb\xbf", Ok("")),
            (b"", Ok("")),
            (b"a\xef\xbb\xbfb", Ok("a\u{feff}b")),
            (b"ab\xffc", Err("is not UTF-8 (at byte 2)")),
            (b"\xef\xbb", Err("is not UTF-8 (at byte 0)")),
            (
                b"\xff\xfea\0",
                Err("is not UTF-8 (at byte 0): it is UTF-16"),
            ),
        ] {
            let path = file(dir.path(), bytes, 0o644);
            let got = read_text(&path, MAX, Guard::Trusted);
            let got = got.map(|read| read.text).map_err(|error| error.to_string());
            assert_eq!(got, wanted.map(str::to_owned).map_err(str::to_owned));
        }
        let path = file(dir.path(), &[b'a'; 101], 0o644);
        assert_eq!(why(&path, Guard::None), "has more than 100 bytes");
    }

    #[test]
    fn a_file_writable_by_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), b"x", 0o644);
        let name = format!("'{}'", path.display());
        for (mode, guard, command) in [
            (0o644, Guard::Trusted, None),
            (0o600, Guard::Secret, None),
            (0o640, Guard::Secret, None),
            (0o666, Guard::None, None),
            (0o666, Guard::Trusted, Some("chmod go-w")),
            (0o664, Guard::Trusted, Some("chmod go-w")),
            (0o664, Guard::Shared, None),
            (0o646, Guard::Shared, Some("chmod o-w")),
            (0o644, Guard::Secret, Some("chmod o=")),
            (0o666, Guard::Secret, Some("chmod g-w,o=")),
            (0o660, Guard::Secret, Some("chmod go-w")),
        ] {
            chmod(&path, mode);
            let got = read_text(&path, MAX, guard).map(|_| ());
            let got = got.map_err(|error| error.to_string()).err();
            let fits = |command: &str| {
                let end = format!("{command} {name}");
                got.as_ref().is_some_and(|got| got.ends_with(&end))
            };
            assert!(command.map_or(got.is_none(), fits), "{mode:o}: {got:?}");
        }
        chmod(&path, 0o644);
        chmod(dir.path(), 0o777);
        assert!(why(&path, Guard::Trusted).contains("chmod o-w"));
        chmod(dir.path(), 0o1777);
        assert!(read_text(&path, MAX, Guard::Trusted).is_ok());
        chmod(dir.path(), 0o700);
    }

    #[test]
    fn devices_and_our_own_links_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let null = Path::new("/dev/null");
        assert_eq!(read_text(null, MAX, Guard::Secret).unwrap().text, "");
        assert_eq!(check_named_output(null), Ok(()));
        let path = file(dir.path(), b"x", 0o644);
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(read_text(&link, MAX, Guard::Trusted).unwrap().text, "x");
        chmod(&path, 0o666);
        assert!(why(&link, Guard::Trusted).contains("chmod go-w"));
        assert!(check_named_output(&link).is_err());
    }

    #[test]
    fn files_of_another_user_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), b"x", 0o644);
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
            eprintln!("not tested: giving a file to another user needs root");
            return;
        }
        for guard in [Guard::Trusted, Guard::Secret] {
            chmod(&path, 0o640);
            let why = why(&path, guard);
            assert!(
                why.contains("user 12345") && why.contains("chown root"),
                "{why}"
            );
        }
        assert!(read_text(&path, MAX, Guard::Shared).is_ok());
        assert!(open_own(&path, OpenOptions::new().read(true)).is_err());
        let link = dir.path().join("link");
        symlink("/dev/null", &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
        assert!(why(&link, Guard::Trusted).contains("link of user 12345"));
        assert!(check_named_output(&link).is_err());
        std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
        assert!(own_directory(dir.path()).is_err());
    }

    #[test]
    fn the_way_to_a_file_is_checked_up_to_the_root() {
        use std::os::unix::fs::{chown, lchown};
        let top = tempfile::tempdir().unwrap();
        let (outer, inner) = (top.path().join("outer"), top.path().join("outer/inner"));
        fs::create_dir_all(&inner).unwrap();
        let path = file(&inner, b"x", 0o644);
        let wanted = |command: &str| {
            for got in [
                why(&path, Guard::Trusted),
                own_directory(&inner.join("new")).unwrap_err().to_string(),
            ] {
                assert!(
                    got.ends_with(&format!("{command} {}", outer.display())),
                    "{got}"
                );
            }
            assert!(!inner.join("new").exists());
        };
        chmod(&outer, 0o757);
        wanted("chmod o-w");
        assert!(check_named_output(&inner.join("log")).is_err());
        chmod(&outer, 0o1777);
        assert!(read_text(&path, MAX, Guard::Trusted).is_ok());
        if chown(&outer, None, Some(12_345)).is_err() {
            eprintln!("not tested: giving a directory to another user needs root");
            return;
        }
        chmod(&outer, 0o775);
        wanted("chmod g-w");
        assert_eq!(check_named_output(&inner.join("log")), Ok(()));
        chown(&outer, Some(12_345), Some(0)).unwrap();
        for mode in [0o755, 0o1755] {
            chmod(&outer, mode);
            wanted("run anthill as that user, or chown root");
            assert!(check_named_output(&inner.join("log")).is_err());
        }
        let link = top.path().join("link");
        symlink(&outer, &link).unwrap();
        chown(&outer, Some(0), None).unwrap();
        let through = link.join("inner").join("../inner/a file");
        assert_eq!(read_text(&through, MAX, Guard::Trusted).unwrap().text, "x");
        lchown(&link, Some(12_345), None).unwrap();
        let why = why(&through, Guard::Trusted);
        assert!(why.ends_with(&format!("rm {}", link.display())), "{why}");
    }

    #[test]
    fn a_planted_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("lock");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (done, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let write = open_own(&pipe, OpenOptions::new().create(true).append(true));
            done.send(read_own(&pipe).map(|_| ())).unwrap();
            done.send(write.map(|_| ())).unwrap();
        });
        for _ in 0..2 {
            let got = told.recv_timeout(std::time::Duration::from_secs(20));
            let error = got.expect("it waits for the pipe").unwrap_err();
            assert!(
                error.to_string().contains("no regular file: rm "),
                "{error}"
            );
        }
    }

    #[test]
    fn planted_links_in_the_state_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let victim = file(dir.path(), b"precious", 0o600);
        let own = dir.path().join("own");
        own_directory(&own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        let planted = own.join("journal.new");
        symlink(&victim, &planted).unwrap();
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true);
        let error = open_own(&planted, &options).unwrap_err().to_string();
        assert!(
            error.contains("is a link") && error.contains("rm "),
            "{error}"
        );
        assert!(read_own(&planted).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        for (mode, is_ours) in [
            (0o777, false),
            (0o775, false),
            (0o755, true),
            (0o1777, true),
        ] {
            chmod(&own, mode);
            let got = own_directory(&own);
            assert_eq!(got.is_ok(), is_ours, "{mode:o}");
            if let Err(error) = got {
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
        }
    }
}
