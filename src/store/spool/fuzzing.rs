//! Body of the fuzz target for a segment: a broken rule is a panic.

use super::record::{self, Piece};
use super::segment::scan;

/// Appends `payload` as a record whose checksum is right: no fuzzer would guess one.
pub fn wrap(payload: &[u8], out: &mut Vec<u8>) {
    record::seal(payload, out);
}

/// Walks through the bytes of a segment as a replay does.
///
/// # Panics
/// When a piece is outside, or nothing but an intact record is said to be one, or cutting a torn tail off
/// leaves another.
pub fn segment(bytes: &[u8]) {
    let (mut at, mut records) = (0, 0);
    while let Some(piece) = record::piece(bytes, at) {
        let next = match piece {
            Piece::Record { payload } => {
                records += 1;
                if let Ok(op) = record::decode(&bytes[payload.clone()]) {
                    let mut again = Vec::new();
                    // What was read once may be written with other spaces, but is read as the same.
                    if record::encode(&op, &mut again).is_ok() {
                        let read = record::decode(&again[record::HEADER_BYTES..]);
                        let read = read.expect("what was just written is read");
                        assert_eq!(format!("{op:?}"), format!("{read:?}"));
                    }
                }
                payload.end
            }
            Piece::Damaged { resume } => resume,
            Piece::Torn => bytes.len(),
        };
        assert!(at < next && next <= bytes.len(), "from {at} to {next}");
        at = next;
    }
    let found = scan(bytes, 0);
    assert_eq!(found.records, records);
    if let Some(torn) = found.torn {
        let rest = scan(&bytes[..torn], 0);
        assert_eq!((rest.records, rest.torn), (records, None));
    }
}
