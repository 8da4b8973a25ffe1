//! Authentication: keys, their proofs, and certificates.

pub(crate) mod certified;
pub(crate) mod keys;

pub use self::keys::Nonces;

use self::certified::Certified;
use self::keys::Keys;

/// Identities that connections have to prove, or have proved.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    pub(crate) keys: Keys,
    pub(crate) certified: Certified,
}
