//! Keyed sessions, pure: proofs, tags, and the permission to use a key. Also the tokens of HTTP.
//!
//! ```text
//!   Ring ── KEY_ID, id ──▶ Key ─┐
//!   both nonces, id, … ─▶ Transcript ─▶ proofs, and a key for each direction
//!                                                      │
//!                        frames:    Seal tags ◀────────┤────────▶ Open checks
//!                        datagrams: Content::mac ◀─────┴────────▶ Window: each number once
//! ```
//!
//! This module owns no socket, reads no clock and draws no random numbers: nonces are arguments.
//! `docs/keyed-sessions.md` has the layout of every byte, with an example whose values are also in the
//! tests.

mod content;
mod hex;
mod proof;
mod ring;
mod seal;
#[cfg(test)]
mod tests;
mod tokens;

pub use content::{Content, Window};
pub use hex::{Hex, bytes_of};
pub use proof::{Directions, Nonce, Transcript};
pub use ring::{Access, Key, Network, Ring, is_pattern};
pub use seal::{Guard, Open, Seal, TAG_BYTES};
pub use tokens::{Role, Token, TokenFault, Tokens, digest_of, is_token_name};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of a key, a proof and a tag in bytes: that of a SHA-256.
pub const KEY_BYTES: usize = 32;

/// HMAC-SHA256 with `key` over the concatenated `parts`.
fn hmac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// Finishes an HMAC.
fn sum(mac: Hmac<Sha256>) -> [u8; KEY_BYTES] {
    mac.finalize().into_bytes().into()
}
