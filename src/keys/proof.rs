//! The proofs of both ends, and the session keys derived with them.

use std::fmt;

use hmac::Mac;

use super::ring::Key;
use super::{KEY_BYTES, hmac, sum};
use crate::limits::NONCE_DIGITS;

/// A nonce: 32 of `0-9a-f`, fresh from the system.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; NONCE_DIGITS]);

impl Nonce {
    /// Creates a nonce from sixteen random bytes.
    #[must_use]
    pub fn of(random: [u8; NONCE_DIGITS / 2]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; NONCE_DIGITS];
        for (pair, byte) in text.chunks_exact_mut(2).zip(random) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(text)
    }

    /// Parses the other end's nonce: exactly 32 of `0-9a-f`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let digits: [u8; NONCE_DIGITS] = text.as_bytes().try_into().ok()?;
        digits.iter().all(digit).then_some(Self(digits))
    }

    /// The nonce on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// T: the handshake before the proofs, in the order in which it is proved.
#[derive(Clone, Copy, Debug)]
pub struct Transcript<'a> {
    /// The server's nonce.
    pub server: Nonce,
    /// The client's nonce.
    pub client: Nonce,
    /// The requested id.
    pub id: &'a str,
    /// The name of the key.
    pub key_id: &'a str,
    /// The UDP port, if one was given.
    pub udp: Option<u16>,
    /// The host wants pushes.
    pub push: bool,
}

/// The keys of the two directions of one session.
#[derive(Clone, PartialEq, Eq)]
pub struct Directions {
    /// Key for frames from the host.
    pub to_server: [u8; KEY_BYTES],
    /// Key for frames from the server.
    pub to_client: [u8; KEY_BYTES],
}

impl fmt::Debug for Directions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directions(…)")
    }
}

impl Transcript<'_> {
    /// HMAC-SHA256(key, label ‖ 0 ‖ T).
    fn labelled(&self, key: &Key, label: &str) -> hmac::Hmac<sha2::Sha256> {
        let udp = self.udp.unwrap_or(0).to_string();
        let parts = [
            label,
            self.server.as_str(),
            self.client.as_str(),
            self.id,
            self.key_id,
            &udp,
            if self.push { "1" } else { "0" },
        ];
        let mut mac = hmac(key.bytes(), &[]);
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                mac.update(&[0]);
            }
            mac.update(part.as_bytes());
        }
        mac
    }

    /// The client's proof of the key.
    #[must_use]
    pub fn client_proof(&self, key: &Key) -> [u8; KEY_BYTES] {
        sum(self.labelled(key, "ADH40 client"))
    }

    /// The server's proof of the key.
    #[must_use]
    pub fn server_proof(&self, key: &Key) -> [u8; KEY_BYTES] {
        sum(self.labelled(key, "ADH40 server"))
    }

    /// Returns whether `proof` is the client's, in constant time.
    #[must_use]
    pub fn client_has(&self, key: &Key, proof: &[u8; KEY_BYTES]) -> bool {
        let mac = self.labelled(key, "ADH40 client");
        mac.verify_slice(proof).is_ok()
    }

    /// Returns whether `proof` is the server's, in constant time.
    #[must_use]
    pub fn server_has(&self, key: &Key, proof: &[u8; KEY_BYTES]) -> bool {
        let mac = self.labelled(key, "ADH40 server");
        mac.verify_slice(proof).is_ok()
    }

    /// The keys of the session's two directions.
    #[must_use]
    pub fn directions(&self, key: &Key) -> Directions {
        Directions {
            to_server: sum(self.labelled(key, "ADH40 to server")),
            to_client: sum(self.labelled(key, "ADH40 to client")),
        }
    }
}
