//! A segment file: its name, its scan, and the treatment of damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::{self, Piece};
use crate::files;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its number: segments are replayed in the order of their numbers.
    pub number: u64,
    /// Its valid bytes; the file may be longer.
    pub bytes: u64,
    /// Records that are not replayed.
    pub records: u64,
    /// Its damage is logged and copied.
    pub is_damage_logged: bool,
}

/// The file of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// The file with the damaged part of segment `number`.
pub(super) fn damaged_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.damaged"))
}

/// The numbers of the files in `dir` with this suffix, ascending.
pub(super) fn numbers(dir: &Path, suffix: &str) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix));
        let digits = number.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        found.extend(digits.and_then(|text| text.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Creates the file of a new segment.
pub(super) fn create(dir: &Path, number: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    files::open_own(&path(dir, number), &options)
}

/// Result of a scan of a whole segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Intact records from `from` on.
    pub records: u64,
    /// Position of a torn tail, if there is one.
    pub torn: Option<usize>,
    /// Position of the first damage before intact records, if there is any.
    pub damaged: Option<usize>,
    /// `from` is the beginning of a record, or the end.
    pub aligned: bool,
}

/// Scans the bytes of a segment. Records before `from` are not counted.
pub(super) fn scan(bytes: &[u8], from: usize) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    scan.aligned = from == 0;
    while let Some(piece) = record::piece(bytes, at) {
        match piece {
            Piece::Record { payload } => {
                scan.records += u64::from(at >= from);
                at = payload.end;
            }
            Piece::Damaged { resume } => {
                scan.damaged.get_or_insert(at);
                at = resume;
            }
            Piece::Torn => {
                scan.torn = Some(at);
                at = bytes.len();
            }
        }
        scan.aligned |= at == from;
    }
    scan
}

/// Reads a segment that is found when the spool is opened: cuts off a torn tail, and copies damage.
/// The replay begins at `from` if a record begins there; the position is returned.
pub(super) fn adopt(dir: &Path, number: u64, from: usize) -> io::Result<(Segment, usize)> {
    let path = path(dir, number);
    let bytes = files::read_own(&path)?;
    let mut from = from;
    let mut found = scan(&bytes, from);
    if !found.aligned {
        from = 0;
        found = scan(&bytes, from);
    }
    let mut valid = bytes.len();
    if let Some(offset) = found.torn {
        let (file, lost) = (path.display(), bytes.len() - offset);
        log::warn!(
            file:% = file, byte = offset, bytes = lost;
            "spool: {file} has no complete record at byte {offset}: its last {lost} bytes are cut off"
        );
        let file = files::open_own(&path, OpenOptions::new().write(true))?;
        file.set_len(offset as u64)?;
        file.sync_data()?;
        valid = offset;
    }
    if let Some(offset) = found.damaged {
        keep_damage(dir, number, &bytes, offset);
    }
    let segment = Segment {
        number,
        bytes: valid as u64,
        records: found.records,
        is_damage_logged: found.damaged.is_some(),
    };
    Ok((segment, from.min(valid)))
}

/// Copies a segment from its first damage on, for inspection. Intact records after the damage are
/// replayed.
pub(super) fn keep_damage(dir: &Path, number: u64, bytes: &[u8], offset: usize) {
    let kept = damaged_path(dir, number);
    let (file, copy) = (path(dir, number), kept.display());
    let file = file.display();
    log::error!(
        file:% = file, byte = offset, copy:% = copy;
        "spool: {file} is damaged at byte {offset}; the rest is copied to {copy}"
    );
    if let Err(error) = write_file(&kept, &bytes[offset..]) {
        log::error!(file:% = copy, error:% = error; "spool: {copy} cannot be written: {error}");
    }
}

/// Sets a segment aside that cannot be read.
pub(super) fn set_aside(dir: &Path, number: u64, error: &io::Error) {
    let from = path(dir, number);
    let to = damaged_path(dir, number);
    let (file, copy) = (from.display(), to.display());
    log::error!(
        file:% = file, copy:% = copy, error:% = error;
        "spool: {file} cannot be read ({error}); it is renamed to {copy}"
    );
    if let Err(error) = fs::rename(&from, &to) {
        log::error!(file:% = file, error:% = error; "spool: {file} cannot be renamed: {error}");
    }
}

/// Writes a small file.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_file(path)?.write_all(bytes)
}

/// Replaces the small file `name` in `dir`, also if a crash interrupts that. It is synced together with
/// the directory, if that is given.
pub(super) fn replace_file(
    dir: &Path,
    name: &str,
    text: &str,
    synced: Option<&File>,
) -> io::Result<()> {
    let (path, fresh) = (dir.join(name), dir.join(format!("{name}.new")));
    let mut file = create_file(&fresh)?;
    file.write_all(text.as_bytes())?;
    if synced.is_some() {
        file.sync_all()?;
    }
    fs::rename(&fresh, path)?;
    synced.map_or(Ok(()), File::sync_all)
}

/// The text of the small file `name` in `dir`; none if it is missing or damaged.
pub(super) fn small_file(dir: &Path, name: &str) -> Option<String> {
    files::text_of(files::read_own(&dir.join(name)).ok()?).ok()
}

/// Creates a file, or truncates an existing one.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    files::open_own(path, &options)
}
