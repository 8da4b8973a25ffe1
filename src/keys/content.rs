//! Signed datagrams: the content of their mac, and the window that accepts each number once.

use hmac::Mac;

use super::{KEY_BYTES, hmac, sum};
use crate::limits::DATAGRAM_WINDOW;

/// The signed content of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// Its code.
    pub flag: &'a str,
    /// Its number, from 1 in each session and direction.
    pub n: u64,
    /// `taskId` or `command`; empty for a heartbeat.
    pub field: &'a str,
    /// The value of the field, without NUL; empty for a heartbeat.
    pub value: &'a str,
    /// The result code of an answer.
    pub rcc: Option<u8>,
    /// The id of a console command.
    pub cid: Option<&'a str>,
}

impl Content<'_> {
    /// FLAG ‖ 0 ‖ N ‖ 0 ‖ FIELD ‖ 0 ‖ VALUE [‖ 0 ‖ RCC] [‖ 0 ‖ CID] under a direction's key.
    fn under(&self, key: &[u8; KEY_BYTES]) -> hmac::Hmac<sha2::Sha256> {
        let n = self.n.to_string();
        let rcc = self.rcc.map(|rcc| rcc.to_string());
        let always = [n.as_str(), self.field, self.value];
        let mut mac = hmac(key, &[self.flag.as_bytes()]);
        for part in always.into_iter().chain(rcc.as_deref()).chain(self.cid) {
            mac.update(&[0]);
            mac.update(part.as_bytes());
        }
        mac
    }

    /// The mac.
    #[must_use]
    pub fn mac(&self, key: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
        sum(self.under(key))
    }

    /// Returns whether `mac` is valid, in constant time.
    #[must_use]
    pub fn has(&self, key: &[u8; KEY_BYTES], mac: &[u8; KEY_BYTES]) -> bool {
        self.under(key).verify_slice(mac).is_ok()
    }
}

/// Window of received numbers: the highest, and one bit for each of the numbers closely below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    highest: u64,
    /// Bit i: `highest - i` has been received.
    seen: u64,
}

impl Window {
    /// The highest accepted number; 0 before the first.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Accepts number `n` if it is new and within the window. Call it only after the mac is
    /// checked: a forged number would otherwise shut out real ones.
    pub const fn take(&mut self, n: u64) -> bool {
        if n == 0 {
            return false;
        }
        if n > self.highest {
            let shift = n - self.highest;
            self.seen = if shift < DATAGRAM_WINDOW {
                self.seen << shift | 1
            } else {
                1
            };
            self.highest = n;
            return true;
        }
        let age = self.highest - n;
        if age >= DATAGRAM_WINDOW || self.seen & 1 << age != 0 {
            return false;
        }
        self.seen |= 1 << age;
        true
    }
}

const _: () = assert!(DATAGRAM_WINDOW == u64::BITS as u64, "a bit a number");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn each_is_taken_once_within_the_window() {
        let mut window = Window::default();
        for (n, taken) in [
            (0, false),
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (100, true),
            (37, true),
            (36, false),
            (3, false),
            (u64::MAX, true),
            (u64::MAX, false),
            (100, false),
        ] {
            assert_eq!(window.take(n), taken, "{n}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set_with_a_lower_end(numbers in proptest::collection::vec(0..300_u64, 0..300)) {
            let (mut window, mut seen, mut highest) = (Window::default(), HashSet::new(), 0);
            for n in numbers {
                let may = n > 0 && n + DATAGRAM_WINDOW > highest && !seen.contains(&n);
                prop_assert_eq!(window.take(n), may);
                if may {
                    seen.insert(n);
                    highest = highest.max(n);
                }
            }
        }

        #[test]
        fn any_other_content_has_another_mac(
            n in 1..u64::MAX, value in "[a-z]{1,9}", rcc in proptest::option::of(0..4_u8), bit in 0..256_usize,
        ) {
            let key = [9; 32];
            let one = Content { flag: "ADH33", n, field: "taskId", value: &value, rcc, cid: None };
            let mut mac = one.mac(&key);
            prop_assert!(one.has(&key, &mac));
            prop_assert!(!one.has(&[8; 32], &mac));
            let others = [
                Content { n: n - 1, ..one },
                Content { field: "command", ..one },
                Content { flag: "ADH18", ..one },
                Content { rcc: Some(4), ..one },
                Content { cid: Some(""), ..one },
            ];
            for other in others {
                prop_assert!(!other.has(&key, &mac));
            }
            mac[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!one.has(&key, &mac));
        }
    }
}
