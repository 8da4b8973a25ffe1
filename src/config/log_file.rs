//! The kind of `log.file`: a regular file, which is rotated, or another, which is only written to.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::error::shown_path;
use crate::files::end_of_links;

/// Kind of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFileKind {
    /// A regular file, or none yet, at this path behind all links: it is rotated there.
    Regular(PathBuf),
    /// Something that cannot be rotated, by its name.
    Special(&'static str),
}

/// Kind of the file at `path` now. An inaccessible file counts as regular: opening it gives the
/// error.
#[must_use]
pub fn log_file_kind(path: &Path) -> LogFileKind {
    resolve(path).unwrap_or_else(|_| LogFileKind::Regular(path.to_path_buf()))
}

fn resolve(path: &Path) -> io::Result<LogFileKind> {
    let Some(path) = end_of_links(path)? else {
        return Ok(LogFileKind::Special("a descriptor of a process"));
    };
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LogFileKind::Regular(path)),
        found => Ok(match special(found?.file_type()) {
            Some(special) => LogFileKind::Special(special),
            None => LogFileKind::Regular(path),
        }),
    }
}

/// The name of a file that is neither regular nor a directory.
fn special(kind: FileType) -> Option<&'static str> {
    let kinds = [
        (kind.is_fifo(), "a named pipe"),
        (kind.is_char_device(), "a character device"),
        (kind.is_block_device(), "a block device"),
        (kind.is_socket(), "a socket"),
    ];
    kinds.into_iter().find_map(|(is, name)| is.then_some(name))
}

/// Warning for a start whose `log.file` is not a regular file.
pub(super) fn warning(path: &Path) -> Option<String> {
    let LogFileKind::Special(kind) = log_file_kind(path) else {
        return None;
    };
    let path = shown_path(path);
    Some(format!(
        "log.file is {path}, {kind}: it is written to and never rotated; \
         lines that it does not take at once are lost there, and stderr has them"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_regular_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("real.log"), "").unwrap();
        symlink("real.log", at("link.log")).unwrap();
        symlink(at("link.log"), at("second.log")).unwrap();
        symlink("missing.log", at("dangling.log")).unwrap();
        for (name, real) in [
            ("real.log", "real.log"),
            ("second.log", "real.log"),
            ("dangling.log", "missing.log"),
            ("new.log", "new.log"),
        ] {
            let wanted = LogFileKind::Regular(at(real));
            assert_eq!(log_file_kind(&at(name)), wanted, "{name}");
        }

        symlink("/dev/null", at("null")).unwrap();
        symlink("/dev/stdout", at("stdout")).unwrap();
        symlink("/proc/self/fd/2", at("descriptor")).unwrap();
        let device = LogFileKind::Special("a character device");
        let descriptor = LogFileKind::Special("a descriptor of a process");
        for (path, wanted) in [
            (Path::new("/dev/null"), &device),
            (&at("null"), &device),
            (Path::new("/dev/stdout"), &descriptor),
            (Path::new("/dev/fd/1"), &descriptor),
            (&at("stdout"), &descriptor),
            (&at("descriptor"), &descriptor),
        ] {
            assert_eq!(log_file_kind(path), *wanted, "{}", path.display());
        }
    }

    #[test]
    fn links_in_a_ring_are_left_to_the_open() {
        let dir = tempfile::tempdir().unwrap();
        let ring = dir.path().join("ring");
        symlink("ring", &ring).unwrap();
        assert!(matches!(log_file_kind(&ring), LogFileKind::Regular(_)));
    }
}
