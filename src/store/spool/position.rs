//! Position of the replay in the oldest segment, noted from time to time, so that an interrupted replay
//! need not start over.
//!
//! The note is never synced and never trusted: it counts only if it names its segment by number and
//! by that segment's first bytes, and a position at which a record begins. Without it records are
//! replayed twice, which changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::record::HEADER_BYTES;
use super::segment;
use crate::files;

/// A place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The segment's number.
    pub number: u64,
    /// The first bytes of the segment: the length and checksum of its first record, which name it.
    pub first: [u8; HEADER_BYTES],
    /// Up to where it is replayed, in bytes.
    pub offset: usize,
}

fn file(dir: &Path) -> PathBuf {
    dir.join("position")
}

/// The note in `dir`, if there is a readable one.
pub(super) fn load(dir: &Path) -> Option<Position> {
    let text = files::text_of(files::read_own(&file(dir)).ok()?).ok()?;
    let mut words = text.strip_suffix('\n')?.split(' ');
    let number = words.next()?.parse().ok()?;
    let first = u64::from_str_radix(words.next()?, 16).ok()?.to_be_bytes();
    let offset = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Position {
        number,
        first,
        offset,
    })
}

/// Leaves a note. That it fails costs a repetition, nothing more.
pub(super) fn save(dir: &Path, position: Position) {
    let first = u64::from_be_bytes(position.first);
    let text = format!("{} {first:016x} {}\n", position.number, position.offset);
    let fresh = dir.join("position.new");
    let saved =
        segment::write_file(&fresh, text.as_bytes()).and_then(|()| fs::rename(&fresh, file(dir)));
    if let Err(error) = saved {
        log::debug!("spool: no note of the position: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_a_torn_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), None);
        let position = Position {
            number: 7,
            first: [0, 1, 2, 3, 4, 5, 6, 255],
            offset: 4096,
        };
        save(dir.path(), position);
        assert_eq!(load(dir.path()), Some(position));
        let whole = fs::read(file(dir.path())).unwrap();
        for cut in 0..whole.len() {
            fs::write(file(dir.path()), &whole[..cut]).unwrap();
            assert_eq!(load(dir.path()), None, "cut at {cut}");
        }
    }
}
