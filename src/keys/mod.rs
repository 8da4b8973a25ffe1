//! Keyed sessions, pure: what is proved, what is tagged, and who may use which key.
//!
//! ```text
//!   Ring ── KEY_ID, id ──▶ Key ─┐
//!   both nonces, id, … ─▶ Transcript ─▶ proofs, and a key for each direction
//!                                                      │
//!                        frames:    Seal tags ◀────────┤────────▶ Open checks
//!                        datagrams: Content::mac ◀─────┴────────▶ Window: each number once
//! ```
//!
//! Nothing here owns a socket, reads a clock or draws chance: nonces are handed in. The layout of every
//! byte is in `docs/keyed-sessions.md`, with an example whose values stand in the tests, too.

mod content;
mod hex;
mod proof;
mod ring;
mod seal;
#[cfg(test)]
mod tests;

pub use content::{Content, Window};
pub use hex::{Hex, bytes_of};
pub use proof::{Directions, Nonce, Transcript};
pub use ring::{Access, Key, KeyFault, Network, Ring, is_pattern};
pub use seal::{Guard, Open, Seal, TAG_BYTES};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a key, of a proof and of a tag: those of a SHA-256.
pub const KEY_BYTES: usize = 32;

/// HMAC-SHA256 under `key`, over `parts` one behind the other.
fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// What an HMAC comes to.
fn sum(mac: Hmac<Sha256>) -> [u8; KEY_BYTES] {
    mac.finalize().into_bytes().into()
}
