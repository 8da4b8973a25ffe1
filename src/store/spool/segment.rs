//! One segment file: its name, what is found in it, what becomes of damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::{self, Piece};
use crate::files;

/// A segment, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its number: segments are replayed in its order.
    pub number: u64,
    /// Bytes of it that are valid; what the file holds beyond is not ours.
    pub bytes: u64,
    /// Records in it that are still to be replayed.
    pub records: u64,
    /// Its damage is already logged and stored.
    pub told: bool,
}

/// The file of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

/// The file that keeps what is damaged of segment `number`.
pub(super) fn damaged_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.damaged"))
}

/// The numbers of the files in `dir` that end in `suffix`, ascending.
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

/// Makes the file of a new segment. It must not exist.
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
    /// Position of the first damage with intact records behind it, if there is any.
    pub damaged: Option<usize>,
    /// `from` is the beginning of a record or the end.
    pub aligned: bool,
}

/// Looks through the bytes of a segment; records that begin before `from` are not counted.
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

/// Reads a segment found when the spool is opened: cuts off a torn tail, keeps a copy of damage. What the
/// replay is to begin with is at `from`, if that fits; where it really begins is returned as well.
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
        log::warn!(
            "spool: {} has no whole record at byte {offset}: its last {} bytes are cut off",
            path.display(),
            bytes.len() - offset
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
        told: found.damaged.is_some(),
    };
    Ok((segment, from.min(valid)))
}

/// Stores the content of a segment from its first damage on, for inspection. The intact records
/// behind the damage are replayed all the same.
pub(super) fn keep_damage(dir: &Path, number: u64, bytes: &[u8], offset: usize) {
    let kept = damaged_path(dir, number);
    log::error!(
        "spool: {} is damaged at byte {offset}; what follows is kept as {}",
        path(dir, number).display(),
        kept.display()
    );
    if let Err(error) = write_file(&kept, &bytes[offset..]) {
        log::error!("spool: {} cannot be written: {error}", kept.display());
    }
}

/// Puts a whole segment aside that cannot be read.
pub(super) fn set_aside(dir: &Path, number: u64, error: &io::Error) {
    let from = path(dir, number);
    let to = damaged_path(dir, number);
    log::error!(
        "spool: {} cannot be read ({error}); it is kept as {}",
        from.display(),
        to.display()
    );
    if let Err(error) = fs::rename(&from, &to) {
        log::error!("spool: {} cannot be renamed: {error}", from.display());
    }
}

/// Writes a small file of ours, anew.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_file(path)?.write_all(bytes)
}

/// Opens a file of ours to be written anew.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    files::open_own(path, &options)
}
