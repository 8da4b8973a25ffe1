//! The tags behind the frames of a keyed session: 32 bytes over the frame's number and its body.

use std::fmt;

use hmac::Mac;

use super::{Directions, KEY_BYTES, hmac, sum};

/// Length of a tag in bytes; a frame's length counts it.
pub const TAG_BYTES: usize = KEY_BYTES;

/// Tags outgoing frames.
pub struct Seal {
    key: [u8; KEY_BYTES],
    /// Number of the next frame.
    number: u64,
}

/// Checks incoming frames.
pub struct Open {
    key: [u8; KEY_BYTES],
    /// Number of the next frame.
    number: u64,
}

/// Both directions of one connection.
#[derive(Debug)]
pub struct Guard {
    /// Incoming frames.
    pub open: Open,
    /// Outgoing frames.
    pub seal: Seal,
}

impl Guard {
    /// The server's guard.
    #[must_use]
    pub fn of_server(keys: &Directions) -> Self {
        Self {
            open: Open::new(keys.to_server),
            seal: Seal::new(keys.to_client),
        }
    }

    /// The client's guard.
    #[must_use]
    pub fn of_client(keys: &Directions) -> Self {
        Self {
            open: Open::new(keys.to_client),
            seal: Seal::new(keys.to_server),
        }
    }
}

impl Seal {
    /// Creates a seal; its first frame has number 1.
    #[must_use]
    pub const fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key, number: 1 }
    }

    /// The tag of the next frame with this body. Call it once per frame: it counts.
    pub fn tag(&mut self, body: &[u8]) -> [u8; TAG_BYTES] {
        let tag = sum(hmac(&self.key, &[&self.number.to_be_bytes(), body]));
        self.number = self.number.wrapping_add(1);
        tag
    }
}

impl Open {
    /// Creates a check; its first frame has number 1.
    #[must_use]
    pub const fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key, number: 1 }
    }

    /// Returns the body of the next frame if its tag is valid, in constant time. Does not advance:
    /// a frame without room is checked again.
    #[must_use]
    pub fn body<'a>(&self, tagged: &'a [u8]) -> Option<&'a [u8]> {
        let (body, tag) = tagged.split_at_checked(tagged.len().checked_sub(TAG_BYTES)?)?;
        let mac = hmac(&self.key, &[&self.number.to_be_bytes(), body]);
        mac.verify_slice(tag).is_ok().then_some(body)
    }

    /// Advances to the next frame after this one was taken.
    pub const fn advance(&mut self) {
        self.number = self.number.wrapping_add(1);
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal(number {})", self.number)
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open(number {})", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tagged(seal: &mut Seal, body: &[u8]) -> Vec<u8> {
        let tag = seal.tag(body);
        [body, &tag].concat()
    }

    #[test]
    fn a_frame_is_taken_once_and_in_its_order() {
        let (mut seal, mut open) = (Seal::new([7; 32]), Open::new([7; 32]));
        let (one, two) = (tagged(&mut seal, b"one"), tagged(&mut seal, b"two"));
        assert_eq!(open.body(&two), None, "the second before the first");
        assert_eq!(open.body(&one), Some(&b"one"[..]));
        assert_eq!(open.body(&one), Some(&b"one"[..]), "it is not taken yet");
        open.advance();
        assert_eq!(open.body(&one), None, "the first again");
        assert_eq!(open.body(&two), Some(&b"two"[..]));
        assert_eq!(open.body(b""), None);
        assert_eq!(open.body(&two[..31]), None);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(
            key in any::<[u8; 32]>(),
            body in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let mut frame = tagged(&mut Seal::new(key), &body);
            prop_assert_eq!(Open::new(key).body(&frame), Some(&body[..]));
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            prop_assert_eq!(Open::new(key).body(&frame), None);
        }

        #[test]
        fn any_other_length_is_refused(body in proptest::collection::vec(any::<u8>(), 1..100), cut in 1..40_usize) {
            let frame = tagged(&mut Seal::new([1; 32]), &body);
            let cut = frame.len().saturating_sub(cut);
            prop_assert_eq!(Open::new([1; 32]).body(&frame[..cut]), None);
            let longer = [&frame[..], b"\0"].concat();
            prop_assert_eq!(Open::new([1; 32]).body(&longer), None);
        }
    }
}
