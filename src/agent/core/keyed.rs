//! The agent's half of a keyed session. Agent and server prove the key to each other; before that
//! nothing is accepted.
//!
//! ```text
//!  connected ─▶ hello with a nonce ─▶ challenge ─▶ proof ─▶ the server's proof ─▶ every frame tagged
//!                     anything else from the server, or a wrong proof: hang up
//! ```

use std::fmt;

use log::Level;

use super::{AgentCore, Effect, Moment, note};
use crate::codec::decode_push;
use crate::codec::message::{Datagram, Hello, KeyedHello, Message, Push};
use crate::keys::{Directions, Guard, Hex, KEY_BYTES, Key, Nonce, Transcript, Window};
use crate::limits::{DATAGRAM_SIGNED_BYTES_MAX, NONCE_DIGITS};

/// Source of nonces: the system, in an agent. `None` if it fails.
pub type Nonces = Box<dyn FnMut() -> Option<[u8; NONCE_DIGITS / 2]> + Send>;

/// The key of an agent, and the state of its session.
pub(super) struct Keyed {
    name: String,
    key: Key,
    nonces: Nonces,
    stage: Stage,
}

/// Progress of the handshake on this connection.
enum Stage {
    /// No message is sent yet.
    Idle,
    /// The hello is sent.
    HelloSent { id: String, client: Nonce },
    /// The agent's proof is sent.
    ProofSent {
        id: String,
        client: Nonce,
        server: Nonce,
    },
    /// The server has proved the key, too.
    Proved(Box<Session>),
}

struct Session {
    guard: Guard,
    keys: Directions,
    received: Window,
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyed({})", self.name)
    }
}

impl Keyed {
    /// Guard of the session, if it is proved.
    pub(super) fn guard(&mut self) -> Option<&mut Guard> {
        match &mut self.stage {
            Stage::Proved(session) => Some(&mut session.guard),
            _ => None,
        }
    }

    /// Ends the session with its connection.
    pub(super) fn forget(&mut self) {
        self.stage = Stage::Idle;
    }

    fn transcript<'a>(
        &'a self,
        (id, client, server): (&'a str, Nonce, Nonce),
        settings: &super::Settings,
    ) -> Transcript<'a> {
        Transcript {
            server,
            client,
            id,
            key_id: &self.name,
            udp: settings.udp,
            push: settings.push,
        }
    }
}

impl AgentCore {
    /// Sets the key that agent and server must prove.
    pub fn set_key(&mut self, name: String, key: Key, nonces: Nonces) {
        self.keyed = Some(Box::new(Keyed {
            name,
            key,
            nonces,
            stage: Stage::Idle,
        }));
    }

    /// Sends the first message of a connection.
    pub(super) fn greet(&mut self, at: Moment, hello: Hello<'_>, fx: &mut Vec<Effect>) {
        let Some(keyed) = &mut self.keyed else {
            self.say(Message::Hello(hello), Some(0), fx);
            return;
        };
        let Some(random) = (keyed.nonces)() else {
            return self.disconnect(at, "the system gives no random numbers", fx);
        };
        let (id, nonce) = (hello.id.to_string(), Nonce::of(random));
        let key = keyed.name.clone().into();
        keyed.stage = Stage::HelloSent { id, client: nonce };
        self.say(
            Message::KeyedHello(KeyedHello { hello, key, nonce }),
            Some(0),
            fx,
        );
    }

    /// Returns whether messages of the server are ignored until its proof.
    pub(super) fn is_unproved(&self) -> bool {
        let proved = |keyed: &Keyed| matches!(keyed.stage, Stage::Proved(_));
        self.keyed.as_deref().is_some_and(|keyed| !proved(keyed))
    }

    /// Answers the server's challenge with a proof.
    pub(super) fn challenged(&mut self, at: Moment, server: Nonce, fx: &mut Vec<Effect>) {
        let Some(keyed) = &mut self.keyed else {
            return self.disconnect(
                at,
                "it demands a key, and this agent has none (--key-file)",
                fx,
            );
        };
        let stage = std::mem::replace(&mut keyed.stage, Stage::Idle);
        let Stage::HelloSent { id, client } = stage else {
            return self.disconnect(at, "it asks for a proof at the wrong time", fx);
        };
        let transcript = keyed.transcript((&id, client, server), &self.settings);
        let proof = Hex(&transcript.client_proof(&keyed.key)).to_string();
        keyed.stage = Stage::ProofSent { id, client, server };
        self.say(Message::Proof(proof.into()), Some(0), fx);
    }

    /// Checks the server's proof. Returns whether it is valid.
    pub(super) fn server_proves(&mut self, proof: &[u8; KEY_BYTES]) -> bool {
        let Some(keyed) = &mut self.keyed else {
            return false;
        };
        let stage = std::mem::replace(&mut keyed.stage, Stage::Idle);
        let Stage::ProofSent { id, client, server } = stage else {
            return false;
        };
        let transcript = keyed.transcript((&id, client, server), &self.settings);
        if !transcript.server_has(&keyed.key, proof) {
            return false;
        }
        let keys = transcript.directions(&keyed.key);
        let guard = Guard::of_client(&keys);
        let received = Window::default();
        keyed.stage = Stage::Proved(Box::new(Session {
            guard,
            keys,
            received,
        }));
        true
    }

    /// Handles a datagram of an agent with a key. It must be signed by the server, and is accepted
    /// once.
    pub(super) fn signed_datagram(&mut self, at: Moment, bytes: &[u8], fx: &mut Vec<Effect>) {
        let Some(Stage::Proved(session)) = self.keyed.as_deref_mut().map(|k| &mut k.stage) else {
            return;
        };
        let bytes = Some(bytes).filter(|bytes| bytes.len() <= DATAGRAM_SIGNED_BYTES_MAX);
        let content = bytes.and_then(|bytes| decode_push(bytes).ok());
        let Some((push, signature)) = content.and_then(|Datagram { content, signature }| {
            signature.map(|signature| (content, signature))
        }) else {
            return drop_datagram("it has no signature", fx);
        };
        if !signature.is_of(&session.keys.to_client) {
            return drop_datagram("its signature is wrong", fx);
        }
        if !session.received.take(signature.n) {
            return drop_datagram("it is a duplicate", fx);
        }
        match push {
            Push::Cancel(_) => {}
            Push::Task(key) => self.accept_key(at, &key, fx),
            Push::Command { text, cid } => self.accept_command(at, &text, &cid, fx),
        }
    }
}

fn drop_datagram(why: &str, fx: &mut Vec<Effect>) {
    let text = format!("a datagram is dropped: {why}");
    note(Level::Warn, &[("reason", &why)], text, fx);
}
