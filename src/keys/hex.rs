//! Bytes as hexadecimal text, and back.

use std::fmt;

use super::KEY_BYTES;

/// Bytes shown as lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Parses 64 hexadecimal digits of either case to 32 bytes.
#[must_use]
pub fn bytes_of(text: &str) -> Option<[u8; KEY_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

const fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in any::<[u8; KEY_BYTES]>()) {
            let text = Hex(&bytes).to_string();
            prop_assert_eq!(bytes_of(&text), Some(bytes));
            prop_assert_eq!(bytes_of(&text.to_uppercase()), Some(bytes));
            prop_assert_eq!(bytes_of(&text[1..]), None);
        }

        #[test]
        fn other_text_is_no_bytes(text in ".{0,80}") {
            let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            prop_assert_eq!(bytes_of(&text).is_some(), good);
        }
    }
}
