//! The keys of the hosts: the handshake of a connection, and the tags behind its frames.
//!
//! ```text
//!  connected ─▶ Asked: hello with a nonce ─▶ Proving: proof ─▶ Proved: every frame has a tag
//! ```

use crate::codec::message::{Incoming, Word};
use crate::codec::{FrameTooLong, Order, encode_sealed};
use crate::keys::{Guard, Hex, Key, Nonce, Transcript};
use crate::limits::NONCE_DIGITS;

use super::{Setup, frames};

/// The key of the fleet, from which each host has its own.
#[derive(Clone, Debug)]
pub struct FleetKey {
    /// Its name at the server.
    pub name: String,
    /// The key.
    pub key: Key,
}

/// Handshake and session of one host.
#[derive(Debug)]
pub enum Keyed {
    /// The hello is sent.
    Asked(Nonce),
    /// The proof is sent.
    Proving {
        /// The host's nonce.
        client: Nonce,
        /// The server's nonce.
        server: Nonce,
    },
    /// Both sides have proved the key.
    Proved(Guard),
}

impl Keyed {
    /// Begins the handshake of a host: its hello is appended to `out`.
    ///
    /// # Errors
    /// A hello that is too long.
    pub(super) fn begin(
        setup: &Setup,
        key: &FleetKey,
        id: &str,
        out: &mut Vec<u8>,
    ) -> Result<Self, FrameTooLong> {
        // A nonce of a load need not be secret, only new.
        let mut random = [0; NONCE_DIGITS / 2];
        fastrand::fill(&mut random);
        let nonce = Nonce::of(random);
        let hello = frames::keyed_hello(id, &key.name, nonce, setup.push);
        encode_sealed(&hello, Order::Little, None, out)?;
        Ok(Self::Asked(nonce))
    }

    /// Takes a word of the server. Returns whether it belongs to the handshake; a proof of the host
    /// is appended to `out`.
    pub(super) fn hear(
        &mut self,
        setup: &Setup,
        key: &FleetKey,
        id: &str,
        word: &Word,
        out: &mut Vec<u8>,
    ) -> bool {
        let own = key.key.derive(id);
        let said = |client: Nonce, server: Nonce| Transcript {
            server,
            client,
            id,
            key_id: &key.name,
            udp: None,
            push: setup.push,
        };
        match (&*self, word) {
            (Self::Asked(client), Word::Challenge(server)) => {
                let (client, server) = (*client, *server);
                let proof = Hex(&said(client, server).client_proof(&own)).to_string();
                let proof = frames::proof(proof);
                *self = Self::Proving { client, server };
                encode_sealed(&proof, Order::Little, None, out).is_ok()
            }
            (Self::Proving { client, server }, Word::Proven { proof, .. }) => {
                let said = said(*client, *server);
                if !said.server_has(&own, proof) {
                    return false;
                }
                *self = Self::Proved(Guard::of_client(&said.directions(&own)));
                true
            }
            _ => false,
        }
    }

    /// The tags of the session, once both sides have proved the key.
    pub(super) const fn guard(&mut self) -> Option<&mut Guard> {
        match self {
            Self::Proved(guard) => Some(guard),
            Self::Asked(_) | Self::Proving { .. } => None,
        }
    }
}

/// Appends a message, with its tag if the host has a session with a key.
///
/// # Errors
/// A message that is too long.
pub(super) fn encode(
    keyed: &mut Option<Box<Keyed>>,
    message: &Incoming<'_>,
    out: &mut Vec<u8>,
) -> Result<(), FrameTooLong> {
    let guard = keyed.as_deref_mut().and_then(Keyed::guard);
    encode_sealed(
        message,
        Order::Little,
        guard.map(|guard| &mut guard.seal),
        out,
    )
}
