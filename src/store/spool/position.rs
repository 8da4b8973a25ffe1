//! Position of the replay in the oldest segment, noted at intervals, so that an interrupted replay
//! need not start over.
//!
//! The note is never synced and never trusted: it must have the number and the first bytes of its
//! segment, and a position at which a record begins. Without it records are replayed twice, which
//! changes nothing.

use std::path::Path;

use super::record::HEADER_BYTES;
use super::segment::{replace_file, small_file};

/// A place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The segment's number.
    pub number: u64,
    /// First bytes of the segment: length and checksum of its first record.
    pub first: [u8; HEADER_BYTES],
    /// Replayed bytes.
    pub offset: usize,
}

const FILE: &str = "position";

/// The note in `dir`; none if it is missing or damaged.
pub(super) fn load(dir: &Path) -> Option<Position> {
    let text = small_file(dir, FILE)?;
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

/// Writes a note. A failure only costs a repetition.
pub(super) fn save(dir: &Path, position: Position) {
    let first = u64::from_be_bytes(position.first);
    let text = format!("{} {first:016x} {}\n", position.number, position.offset);
    if let Err(error) = replace_file(dir, FILE, &text, None) {
        log::debug!(error:% = error; "spool: the position of the replay is not noted: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_note_is_parsed_and_a_torn_one_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), None);
        let position = Position {
            number: 7,
            first: [0, 1, 2, 3, 4, 5, 6, 255],
            offset: 4096,
        };
        save(dir.path(), position);
        assert_eq!(load(dir.path()), Some(position));
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for cut in 0..whole.len() {
            fs::write(dir.path().join(FILE), &whole[..cut]).unwrap();
            assert_eq!(load(dir.path()), None, "cut at {cut}");
        }
    }
}
