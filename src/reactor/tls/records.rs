//! Counts the TLS records of one direction from their headers, without decrypting them.

use std::io::{self, Read};

/// Bytes of a record's header: its type, its version, and the length of its body.
const HEADER_BYTES: u8 = 5;
/// The shortest record on the wire, in bytes: a fragment of one byte.
const SHORTEST_BYTES: usize = HEADER_BYTES as usize + 1;
/// The shortest encrypted record, in bytes: it has a tag of 16.
const SHORTEST_ENCRYPTED_BYTES: usize = HEADER_BYTES as usize + 16;

/// The position in a stream of records.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Received bytes of the current header.
    header: u8,
    /// Missing bytes of the current body; while the header is incomplete, its length so far.
    body: u16,
}

impl Records {
    /// Number of bytes that may be read so that they end at most `records` records, at least one.
    pub(super) fn room(&self, records: usize, encrypted: bool) -> usize {
        let shortest = match encrypted {
            true => SHORTEST_ENCRYPTED_BYTES,
            false => SHORTEST_BYTES,
        };
        let current = match self.header {
            HEADER_BYTES => usize::from(self.body),
            header => shortest.saturating_sub(usize::from(header)).max(1),
        };
        current + records.saturating_sub(1) * shortest
    }

    /// Advances by `bytes`. Returns the number of records that they end.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.header < HEADER_BYTES {
                match self.header {
                    3 => self.body = u16::from(bytes[0]) << 8,
                    4 => self.body |= u16::from(bytes[0]),
                    _ => {}
                }
                self.header += 1;
                bytes = &bytes[1..];
            } else {
                let some = bytes.len().min(usize::from(self.body));
                self.body -= some as u16;
                bytes = &bytes[some..];
            }
            if self.header == HEADER_BYTES && self.body == 0 {
                self.header = 0;
                ended += 1;
            }
        }
        ended
    }
}

/// A stream that counts records in a bounded number of bytes.
pub(super) struct Metered<'a, S> {
    pub(super) stream: &'a mut S,
    pub(super) records: &'a mut Records,
    pub(super) bytes_max: usize,
    /// Records that ended in the bytes read.
    pub(super) ended: usize,
}

impl<S: Read> Read for Metered<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(self.bytes_max);
        let bytes = self.stream.read(&mut into[..most])?;
        self.ended += self.records.advance(&into[..bytes]);
        self.bytes_max -= bytes;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(body: usize) -> Vec<u8> {
        let mut record = vec![23, 3, 3];
        record.extend((body as u16).to_be_bytes());
        record.resize(record.len() + body, 7);
        record
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_count(
            bodies in proptest::collection::vec(0_usize..600, 1..20),
            cuts in proptest::collection::vec(1_usize..700, 1..20),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| record(*body)).collect();
            let (mut records, mut ended, mut rest) = (Records::default(), 0, &stream[..]);
            for cut in cuts.iter().cycle() {
                let some = rest.len().min(*cut);
                ended += records.advance(&rest[..some]);
                rest = &rest[some..];
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(ended, bodies.len());
        }

        #[test]
        fn the_room_ends_no_more_records_than_were_asked_for(
            bodies in proptest::collection::vec(16_usize..40, 60),
            before in 0_usize..200,
            asked in 1_usize..20,
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| record(*body)).collect();
            let mut records = Records::default();
            records.advance(&stream[..before]);
            let room = records.room(asked, true);
            prop_assert!(room > 0);
            let end = stream.len().min(before + room);
            prop_assert!(records.advance(&stream[before..end]) <= asked);
        }
    }
}
