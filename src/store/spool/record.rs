//! A record of a segment, and the recognition of damage.
//!
//! ```text
//! +-------------+--------------+---------+------+-----------------------+
//! | length: u32 | CRC-32: u32  | version | kind | the operation as JSON |
//! +-------------+--------------+---------+------+-----------------------+
//!                               \____________ length bytes ____________/
//! ```
//!
//! Both numbers are little-endian. The checksum covers the length as well, so that a damaged length
//! is noticed. Segments have only reports; the copy of the replay buffer (`recent.rs`) has
//! dispatches, too.

use std::ops::Range;

use crate::limits::SPOOL_RECORD_BYTES_MAX;
use crate::store::op::Op;

/// Bytes in front of the payload.
pub(super) const HEADER_BYTES: usize = 8;
/// Version and kind, at the beginning of the payload.
const TAG_BYTES: usize = 2;
const VERSION: u8 = 1;
const PROGRESS: u8 = b'P';
const ANSWER: u8 = b'A';
const RESULT: u8 = b'R';
const DISPATCH: u8 = b'D';

/// Error of an operation that cannot be a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operation is no report.
    #[error("only reports are spooled")]
    NotAReport,
    /// The record would be too long.
    #[error("a record of {0} bytes is longer than {SPOOL_RECORD_BYTES_MAX}")]
    TooLong(usize),
    /// The operation cannot be written as JSON.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Appends `op` to `out` as one record. An error leaves `out` unchanged.
pub(super) fn encode(op: &Op, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let begin = out.len();
    let written = write_record(op, begin, out);
    if written.is_err() {
        out.truncate(begin);
    }
    written
}

fn write_record(op: &Op, begin: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.extend_from_slice(&[0; HEADER_BYTES]);
    match op {
        Op::Progress(report) => {
            out.extend_from_slice(&[VERSION, PROGRESS]);
            serde_json::to_writer(&mut *out, report)?;
        }
        Op::Answer(report) => {
            out.extend_from_slice(&[VERSION, ANSWER]);
            serde_json::to_writer(&mut *out, report)?;
        }
        Op::Result(report) => {
            out.extend_from_slice(&[VERSION, RESULT]);
            serde_json::to_writer(&mut *out, report)?;
        }
        Op::Dispatch(dispatch) => {
            out.extend_from_slice(&[VERSION, DISPATCH]);
            serde_json::to_writer(&mut *out, dispatch)?;
        }
        _ => return Err(RecordError::NotAReport),
    }
    let payload = begin + HEADER_BYTES;
    let bytes = out.len() - payload;
    let length = match u32::try_from(bytes) {
        Ok(length) if bytes <= SPOOL_RECORD_BYTES_MAX => length.to_le_bytes(),
        _ => return Err(RecordError::TooLong(bytes)),
    };
    let crc = checksum(length, &out[payload..]).to_le_bytes();
    out[begin..begin + 4].copy_from_slice(&length);
    out[begin + 4..payload].copy_from_slice(&crc);
    Ok(())
}

/// Appends a record with any payload.
#[cfg(any(test, fuzzing))]
pub(super) fn seal(payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Decodes the payload of an intact record.
pub(super) fn decode(payload: &[u8]) -> Result<Op, RecordError> {
    match payload {
        [VERSION, PROGRESS, json @ ..] => Ok(Op::Progress(serde_json::from_slice(json)?)),
        [VERSION, ANSWER, json @ ..] => Ok(Op::Answer(serde_json::from_slice(json)?)),
        [VERSION, RESULT, json @ ..] => Ok(Op::Result(serde_json::from_slice(json)?)),
        [VERSION, DISPATCH, json @ ..] => Ok(Op::Dispatch(serde_json::from_slice(json)?)),
        _ => Err(RecordError::NotAReport),
    }
}

/// Content at a position of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// An intact record.
    Record {
        /// Range of its payload, whose end is the record's end.
        payload: Range<usize>,
    },
    /// Bytes that are no record, before an intact one.
    Damaged {
        /// Position of the next intact record.
        resume: usize,
    },
    /// Bytes that are no record, up to the end.
    Torn,
}

/// The content at `at`; `None` at the end.
pub(super) fn piece(bytes: &[u8], at: usize) -> Option<Piece> {
    if at >= bytes.len() {
        return None;
    }
    if let Some(payload) = intact(bytes, at) {
        return Some(Piece::Record { payload });
    }
    let resume = (at + 1..bytes.len()).find(|&later| intact(bytes, later).is_some());
    Some(resume.map_or(Piece::Torn, |resume| Piece::Damaged { resume }))
}

/// Range of the payload of the intact record at `at`, if there is one. Most damage is recognized
/// without a checksum, so that a search through a whole segment stays fast.
fn intact(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let long = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if !(TAG_BYTES..=SPOOL_RECORD_BYTES_MAX).contains(&long) {
        return None;
    }
    let payload = rest.get(..long)?;
    let tagged =
        payload[0] == VERSION && matches!(payload[1], PROGRESS | ANSWER | RESULT | DISPATCH);
    let begin = at + HEADER_BYTES;
    (tagged && checksum(*length, payload) == u32::from_le_bytes(*crc)).then(|| begin..begin + long)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::HostId;
    use crate::store::op::{Stamp, TaskResult};
    use crate::store::tests::reports::{name, report};
    use crate::time::UnixMs;
    use proptest::prelude::*;

    fn two() -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        encode(&report(1), &mut bytes).unwrap();
        let first = bytes.len();
        encode(&report(2), &mut bytes).unwrap();
        (bytes, first)
    }

    fn record_at(bytes: &[u8], at: usize) -> Op {
        match piece(bytes, at) {
            Some(Piece::Record { payload }) => decode(&bytes[payload]).unwrap(),
            other => panic!("{other:?} at {at}"),
        }
    }

    #[test]
    fn records_are_decoded_as_encoded() {
        let (bytes, first) = two();
        assert_eq!(name(&record_at(&bytes, 0)), name(&report(1)));
        assert_eq!(name(&record_at(&bytes, first)), name(&report(2)));
        assert_eq!(piece(&bytes, bytes.len()), None);
    }

    #[test]
    fn the_longest_result_fits_a_record() {
        let mut result = TaskResult {
            origin: None,
            host: HostId::checked("h").unwrap(),
            code: "AC1".to_owned(),
            command: "\u{1}".repeat(60_000),
            exit: -1,
            seconds: 0.5,
            sha256: "ab".repeat(32),
            truncated: true,
            output: "QUJD".repeat(16 * 1024 * 1024 / 3 + 1),
            size: 16 * 1024 * 1024,
            lifetime: Default::default(),
            stamp: Stamp {
                at: UnixMs(1),
                seq: 8,
            },
        };
        let mut bytes = Vec::new();
        encode(&Op::Result(Box::new(result.clone())), &mut bytes).unwrap();
        let Op::Result(found) = record_at(&bytes, 0) else {
            panic!("another kind of report");
        };
        assert_eq!(found.output, result.output);
        assert_eq!(
            (found.command, found.exit, found.stamp),
            (result.command.clone(), -1, result.stamp)
        );
        result.output.push_str(&"A".repeat(SPOOL_RECORD_BYTES_MAX));
        let long = encode(&Op::Result(Box::new(result)), &mut Vec::new());
        assert!(matches!(long, Err(RecordError::TooLong(_))));
    }

    #[test]
    fn state_is_no_record() {
        let mut bytes = vec![7];
        let state = Op::Audit(Vec::new());
        assert!(matches!(
            encode(&state, &mut bytes),
            Err(RecordError::NotAReport)
        ));
        assert_eq!(bytes, [7]);
    }

    #[test]
    fn zeros_are_no_records() {
        assert_eq!(piece(&[0; 4096], 0), Some(Piece::Torn));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed_and_skipped(bit in 0usize..4096) {
            let (mut bytes, first) = two();
            let bit = bit % (first * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(piece(&bytes, 0), Some(Piece::Damaged { resume: first }));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256), at in 0usize..300) {
            let found = piece(&bytes, at);
            prop_assert_eq!(found.is_none(), at >= bytes.len());
        }
    }
}
