//! Authentication: keys, their proofs, and certificates. A side table by connection, so that plain
//! connections cost nothing.
//!
//! ```text
//!   first message ─▶ gate ─┬─ may be plain ─▶ handled
//!                          ├─ hello with a key ─▶ Challenge ─ proof ─▶ Proven ─▶ welcome, guard
//!                          └─ anything else ─▶ refused or abnormal
//! ```
//!
//! Before the proof no host is entered, no connection is replaced, and no message is counted.

mod way;

pub(crate) use self::way::Way;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::codec::message::{Flag, Hello, KeyedHello, Message, Over, Push, Signature};
use crate::handlers::core::Rules;
use crate::handlers::fleet::host::{Host, Marks, Presence};
use crate::handlers::stats::Stats;
use crate::ids::{ConnId, HostId, Numbered};
use crate::keys::{Access, Directions, KEY_BYTES, Key, Nonce, Transcript, Window, bytes_of};
use crate::limits::{DATAGRAM_WINDOW, NONCE_DIGITS};

/// Source of nonces: the system, in the server. `None` if it fails.
pub type Nonces = Box<dyn FnMut() -> Option<[u8; NONCE_DIGITS / 2]> + Send>;

/// Key in place of a missing one, so that a proof takes the same time. Its proofs are never
/// accepted.
const DUMMY: Key = Key::new([0x5a; KEY_BYTES]);

/// Identities that connections have to prove, or have proved.
#[derive(Default)]
pub(crate) struct Auth {
    access: Access,
    nonces: Option<Nonces>,
    challenges: Numbered<ConnId, Box<Challenge>>,
    proven: Numbered<ConnId, Box<Proven>>,
    /// Name in the certificate of each connection. Bounded by the number of connections.
    certified: Numbered<ConnId, HostId>,
}

/// The unproved identity of a connection.
struct Challenge {
    server: Nonce,
    client: Nonce,
    id: HostId,
    key: String,
    udp: Option<u16>,
    push: bool,
    boot: Option<String>,
    resumes: bool,
    labels: Vec<(String, String)>,
    version: Option<String>,
    cancel: bool,
}

/// A session that is proved.
struct Proven {
    /// The name of its key.
    name: String,
    key: Key,
    directions: Directions,
    /// The number of the last datagram sent in it.
    sent: u64,
    /// Numbers of the datagrams received.
    received: Window,
}

/// Reason to stop a message before it is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It is not allowed now: the connection is closed as abnormal.
    OutOfPlace(&'static str),
    /// Its hello is refused.
    Refused(&'static str),
}

/// Result of a proof.
pub(crate) enum Proof {
    /// No challenge is open.
    NotAsked,
    /// The proof of this host with this key is wrong.
    Wrong { id: HostId, key: String },
    /// The connection has the key of the host that it named.
    Good(Box<Proved>),
}

/// The identity of a connection that has proved its key.
pub(crate) struct Proved {
    challenge: Box<Challenge>,
    /// Proof of the server.
    pub(crate) proof: [u8; KEY_BYTES],
    pub(crate) directions: Directions,
}

impl Proved {
    /// The hello that was proved.
    pub(crate) fn hello(&self) -> Hello<'_> {
        let challenge = &*self.challenge;
        Hello {
            id: Cow::Borrowed(challenge.id.as_str()),
            udp: challenge.udp,
            push: challenge.push,
            boot: challenge.boot.as_deref().map(Cow::Borrowed),
            resumes: challenge.resumes,
            labels: borrowed(&challenge.labels),
            version: challenge.version.as_deref().map(Cow::Borrowed),
            cancel: challenge.cancel,
        }
    }

    pub(crate) fn id(&self) -> &HostId {
        &self.challenge.id
    }
}

fn owned(labels: &[(Cow<'_, str>, Cow<'_, str>)]) -> Vec<(String, String)> {
    let labels = labels.iter();
    labels
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn borrowed(labels: &[(String, String)]) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let labels = labels.iter();
    labels
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect()
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("challenges", &self.challenges.len())
            .field("proven", &self.proven.len())
            .field("certified", &self.certified.len())
            .finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn new(access: Access, nonces: Nonces) -> Self {
        Self {
            access,
            nonces: Some(nonces),
            ..Self::default()
        }
    }

    pub(crate) fn set_access(&mut self, access: Access) {
        self.access = access;
    }

    pub(crate) fn gauges(&self, stats: &mut Stats) {
        stats.challenges = self.challenges.len() as u64;
        stats.keyed_sessions = self.proven.len() as u64;
    }

    /// Forgets a connection that has ended.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.challenges.remove(&conn);
        self.proven.remove(&conn);
        self.certified.remove(&conn);
    }

    /// Returns whether the server has keys, so that a plain host needs a network of `plain_from`.
    pub(crate) fn has_keys(&self) -> bool {
        !self.access.is_open()
    }

    /// Returns whether this connection has proved its key.
    pub(crate) fn is_proven(&self, conn: ConnId) -> bool {
        self.proven.contains_key(&conn)
    }

    /// The connection on which a host has proved its key, if that is its current one.
    pub(crate) fn keyed_conn(&self, host: &Host) -> Option<ConnId> {
        host.identified().filter(|conn| self.is_proven(*conn))
    }

    /// Returns whether a host may be without a key at this address.
    pub(crate) fn may_be_plain(&self, ip: IpAddr) -> bool {
        self.access.may_be_plain(ip)
    }

    /// Reason for which a plain host cannot have `id`, if the server has keys: the `ids` of a key
    /// name it, or it `was_keyed`: it has proved a key before. A network of `plain_from` changes
    /// nothing about that.
    pub(crate) fn demands_key(&self, id: &HostId, was_keyed: bool) -> Option<&'static str> {
        if self.access.is_open() {
            None
        } else if self.access.owner(id.as_str()).is_some() {
            Some("a key is demanded: the ids of a key name this id")
        } else {
            was_keyed.then_some("a key is demanded: this id has proved its key before")
        }
    }

    /// Returns whether the key that this connection has proved is still that of its host.
    pub(crate) fn is_current(&self, conn: ConnId, id: &HostId) -> bool {
        self.proven.get(&conn).is_some_and(|proven| {
            let (key, known) = self.access.find(&proven.name, id.as_str(), &DUMMY);
            known && key.is(&proven.key)
        })
    }

    /// Returns whether a host may be sent to, and trusted, without a signature.
    pub(crate) fn is_plain(&self, rules: &Rules, host: &Host) -> bool {
        !rules.certificates
            && self.keyed_conn(host).is_none()
            && (host.presence == Presence::Online
                || (self.may_be_plain(host.peer().ip())
                    && self
                        .demands_key(&host.id(), host.has(Marks::KEYED))
                        .is_none()))
    }

    /// Decides whether a message may be handled. A connection `is_fresh` before it has a host.
    pub(crate) fn gate(
        &self,
        conn: ConnId,
        message: &Message<'_>,
        is_fresh: bool,
        ip: IpAddr,
    ) -> Result<(), Barred> {
        let is_challenged = || self.challenges.contains_key(&conn);
        match message {
            Message::KeyedHello(_) if is_fresh && !is_challenged() => Ok(()),
            Message::KeyedHello(_) => Err(Barred::OutOfPlace("a hello")),
            Message::Proof(_) => Ok(()),
            _ if !is_fresh => Ok(()),
            _ if is_challenged() => Err(Barred::OutOfPlace("anything but the proof")),
            _ if self.may_be_plain(ip) => Ok(()),
            Message::Hello(_) => Err(Barred::Refused("a key is demanded")),
            _ => Err(Barred::OutOfPlace("a message before the proof of a key")),
        }
    }

    /// Challenges a connection to prove its key, whatever host and key it names. `None` without a
    /// random number.
    pub(crate) fn challenge(
        &mut self,
        conn: ConnId,
        id: HostId,
        keyed: &KeyedHello<'_>,
    ) -> Option<Nonce> {
        let server = Nonce::of(self.nonces.as_mut().and_then(|nonces| nonces())?);
        let hello = &keyed.hello;
        let challenge = Challenge {
            server,
            client: keyed.nonce,
            id,
            key: keyed.key.to_string(),
            udp: hello.udp,
            push: hello.push,
            boot: hello.boot.as_deref().map(str::to_owned),
            resumes: hello.resumes,
            labels: owned(&hello.labels),
            version: hello.version.as_deref().map(str::to_owned),
            cancel: hello.cancel,
        };
        self.challenges.insert(conn, Box::new(challenge));
        Some(server)
    }

    /// Examines the proof of a connection. A good one makes it a proven session, until it is
    /// [forgotten](Self::forget).
    pub(crate) fn prove(&mut self, conn: ConnId, proof: &str) -> Proof {
        let Some(challenge) = self.challenges.remove(&conn) else {
            return Proof::NotAsked;
        };
        let said = challenge.transcript();
        let id = challenge.id.as_str();
        let (key, known) = self.access.find(&challenge.key, id, &DUMMY);
        let given = bytes_of(proof);
        let has = said.client_has(&key, &given.unwrap_or_default());
        if !(has && known && given.is_some()) {
            let Challenge { id, key, .. } = *challenge;
            return Proof::Wrong { id, key };
        }
        let directions = said.directions(&key);
        let proof = said.server_proof(&key);
        let proven = Proven {
            name: challenge.key.clone(),
            directions: directions.clone(),
            sent: 0,
            received: Window::default(),
            key,
        };
        self.proven.insert(conn, Box::new(proven));
        Proof::Good(Box::new(Proved {
            challenge,
            proof,
            directions,
        }))
    }

    /// A signed datagram for the host that has proved itself on `conn`.
    pub(crate) fn sign(&mut self, conn: ConnId, push: &Push<'_>) -> Option<String> {
        let proven = self.proven.get_mut(&conn)?;
        proven.sent += 1;
        let over = over(push);
        let mac = over.content(proven.sent).mac(&proven.directions.to_client);
        Some(crate::codec::signed(&over, None, proven.sent, &mac))
    }

    /// Returns whether a signed datagram of the session on `conn` is genuine and new.
    pub(crate) fn verify(
        &mut self,
        conn: Option<ConnId>,
        signature: &Signature<'_>,
        stats: &mut Stats,
    ) -> bool {
        let proven = conn.and_then(|conn| self.proven.get_mut(&conn));
        let Some(proven) = proven.filter(|p| signature.is_of(&p.directions.to_server)) else {
            stats.datagrams_forged += 1;
            return false;
        };
        let is_old = proven.received.highest() >= signature.n.saturating_add(DATAGRAM_WINDOW);
        let is_new = proven.received.take(signature.n);
        if !is_new && is_old {
            stats.datagrams_stale += 1;
        } else if !is_new {
            stats.datagrams_replayed += 1;
        }
        is_new
    }

    /// Notes the name in the certificate of a connection: it is the host's id, whatever else the
    /// connection sends.
    pub(crate) fn certify(&mut self, conn: ConnId, id: HostId) {
        self.certified.insert(conn, id);
    }

    /// Name in the certificate of a connection.
    pub(crate) fn certificate(&self, conn: ConnId) -> Option<&HostId> {
        self.certified.get(&conn)
    }
}

impl Challenge {
    fn transcript(&self) -> Transcript<'_> {
        Transcript {
            server: self.server,
            client: self.client,
            id: self.id.as_str(),
            key_id: &self.key,
            udp: self.udp,
            push: self.push,
        }
    }
}

/// Signed content of an ADH44.
pub(crate) fn over<'a>(push: &'a Push<'_>) -> Over<'a> {
    let (field, value, cid) = match push {
        Push::Task(key) | Push::Cancel(key) => ("taskId", key, None),
        Push::Command { text, cid } => ("command", text, Some(Cow::Borrowed(&**cid))),
    };
    Over {
        flag: Flag::Dispatch,
        field,
        value: Cow::Borrowed(value),
        rcc: None,
        cid,
    }
}
