//! Body of the fuzz target for segments.

use super::record::{self, Piece};
use super::segment::scan;

/// Appends `payload` as a record with a correct checksum.
pub fn wrap(payload: &[u8], out: &mut Vec<u8>) {
    record::seal(payload, out);
}

/// Reads the bytes of a segment as a replay does.
///
/// # Panics
/// When a piece is outside, when a record is not decoded as it was encoded, or when a torn tail
/// remains after it is cut off.
pub fn segment(bytes: &[u8]) {
    let (mut at, mut records) = (0, 0);
    while let Some(piece) = record::piece(bytes, at) {
        let next = match piece {
            Piece::Record { payload } => {
                records += 1;
                if let Ok(op) = record::decode(&bytes[payload.clone()]) {
                    let mut again = Vec::new();
                    // It may be written with other white space, but is decoded as the same.
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
