//! Keyed sessions: connections that must still prove their key, and those that have. A side table by connection, so that plain
//! connections cost nothing.
//!
//! ```text
//!   first message ─▶ gate ─┬─ may be plain ─▶ as ever
//!                          ├─ hello with a key ─▶ Challenge ─ proof ─▶ Proven ─▶ welcome, guard
//!                          └─ anything else ─▶ refused or abnormal
//! ```
//!
//! Before the proof no host is entered, nothing is replaced, and nothing is counted as a message.

use crate::handlers::auth::Auth;
use crate::handlers::context::Ctx;
use crate::handlers::fleet::Fleet;
use crate::handlers::tasks::Tasks;
use std::borrow::Cow;
use std::fmt;

use crate::codec::message::{
    Ask, Flag, Hello, Incoming, KeyedHello, Message, Over, Push, Signature, Word,
};
use crate::codec::{Abnormal, DecodeError};
use crate::ids::{ConnId, HostId, Numbered, TaskKey};
use crate::keys::{Access, Directions, KEY_BYTES, Key, Nonce, Transcript, Window, bytes_of};
use crate::limits::{DATAGRAM_WINDOW, NONCE_DIGITS};
use crate::store::op::{Reason, TaskState};

use crate::handlers::Flow;
use crate::handlers::effect::Effect;
use crate::handlers::fleet::host::{Host, Marks, Peer, Presence};
use crate::handlers::step::Step;
use crate::handlers::tasks::book::NO_SUCH_TASK;

/// Source of nonces: the system, in the server. `None` when it has none to give.
pub type Nonces = Box<dyn FnMut() -> Option<[u8; NONCE_DIGITS / 2]> + Send>;

/// Worked on in the place of a key that there is not. What it proves is never believed.
const DUMMY: Key = Key::new([0x5a; KEY_BYTES]);

/// The same words whatever was wrong.
const NOT_ACCEPTED: &str = "not accepted";

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) access: Access,
    pub(crate) nonces: Option<Nonces>,
    challenges: Numbered<ConnId, Box<Challenge>>,
    proven: Numbered<ConnId, Box<Proven>>,
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
}

/// A session that is proved.
struct Proven {
    /// The name of its key.
    name: String,
    key: Key,
    directions: Directions,
    /// The number of the last datagram sent in it.
    sent: u64,
    /// Those that came.
    came: Window,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("challenges", &self.challenges.len())
            .field("proven", &self.proven.len())
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Number of challenges, and of proven sessions.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.challenges.len(), self.proven.len())
    }

    /// Returns whether the server has keys, so that a plain host needs a network of `plain_from`.
    pub(crate) fn are_demanded(&self) -> bool {
        !self.access.is_open()
    }

    /// Returns whether this connection has proved its key.
    pub(crate) fn has(&self, conn: ConnId) -> bool {
        self.proven.contains_key(&conn)
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.challenges.remove(&conn);
        self.proven.remove(&conn);
    }
}

impl Tasks {
    /// A host held over the restart is back: what could not be signed for it goes out.
    pub(crate) fn send_again_to(&mut self, host: &HostId) {
        let Some(recipient) = self.table.recipient_of(host) else {
            return;
        };
        let all: Vec<u32> = recipient.deliveries.iter().map(|pair| pair.1).collect();
        for slot in all {
            let state = self.table.delivery(slot).map(|delivery| delivery.state);
            if state == Some(TaskState::Sent) {
                self.queue_delivery(slot);
            }
        }
    }
}

impl Fleet {
    fn note_refused(&mut self, cx: &mut Ctx<'_>, conn: ConnId, challenge: &Challenge) {
        let peer = self.sessions.peer(conn).address().to_string();
        cx.log(
            log::Level::Warn,
            "keys",
            challenge.id.to_string(),
            format!(
                "its proof is not accepted: key {}, from {peer}",
                challenge.key
            ),
        );
    }
}

impl Auth {
    /// Returns whether the host has proved its key on its present connection.
    pub(crate) fn has_key(&self, host: &Host) -> bool {
        host.identified().is_some_and(|conn| self.keys.has(conn))
    }

    /// A signed datagram for the host that has proved itself on `conn`.
    pub(crate) fn sign(&mut self, conn: ConnId, push: &Push<'_>) -> Option<String> {
        let proven = self.keys.proven.get_mut(&conn)?;
        proven.sent += 1;
        let over = over(push);
        let mac = over.content(proven.sent).mac(&proven.directions.to_client);
        Some(crate::codec::signed(&over, None, proven.sent, &mac))
    }
}

impl Step<'_> {
    /// Takes new keys. Every session ends whose key is not the same any more, and every plain one that
    /// would not be let in now.
    pub(crate) fn set_access(&mut self, access: Access) {
        self.auth.keys.access = access;
        let mut over = Vec::new();
        for (conn, session) in self.fleet.sessions() {
            let good = match (self.auth.keys.proven.get(&conn), session.host()) {
                (Some(proven), Some(host)) => self.is_current(proven, host),
                (None, host) => self.may_stay_plain(conn, host),
                (Some(_), None) => true,
            };
            match (good, session.host()) {
                (true, _) => {}
                (false, Some(host)) => over.push((conn, host)),
                // It has said nothing yet, or has still to prove itself.
                (false, None) => self.cx.fx.push(Effect::Narrow { conn }),
            }
        }
        for (conn, host) in over {
            let who = self.fleet.host(host).map(|host| host.id().to_string());
            self.cx.log(
                log::Level::Warn,
                "keys",
                who.unwrap_or_default(),
                "its session ends: its key is gone or another".to_owned(),
            );
            self.cx.close(conn);
            self.end_session(conn, Reason::Closed);
        }
    }

    /// Returns whether a connection without a key may stay: its network may be plain, and its host
    /// needs no key.
    fn may_stay_plain(&self, conn: ConnId, host: Option<u32>) -> bool {
        let host = host.and_then(|slot| self.fleet.host(slot));
        self.auth
            .keys
            .access
            .may_be_plain(self.fleet.peer(conn).ip())
            && host.is_none_or(|host| self.demands_key(&host.id()).is_none())
    }

    /// Reason for which a plain host cannot have `id`, if the server has keys: the `ids` of a key
    /// name it, or it has proved a key before. A network of `plain_from` changes nothing about
    /// that.
    pub(crate) fn demands_key(&self, id: &HostId) -> Option<String> {
        if self.auth.keys.access.is_open() {
            return None;
        }
        if self.auth.keys.access.owner(id.as_str()).is_some() {
            return Some("a key is demanded: the ids of a key name this id".to_owned());
        }
        let host = self.fleet.find(id).and_then(|slot| self.fleet.host(slot));
        let proved = host.is_some_and(|host| host.has(Marks::KEYED));
        proved.then(|| "a key is demanded: this id has proved its key before".to_owned())
    }

    /// Logs a plain connection that is refused an id.
    pub(crate) fn note_unkeyed(&mut self, id: &HostId, peer: Peer, why: &str) {
        self.cx.log(
            log::Level::Warn,
            "keys",
            id.to_string(),
            format!("plain connection from {} refused: {why}", peer.address()),
        );
    }

    /// The store says that this host has proved a key before. Plain connections that took its id meanwhile end.
    pub(crate) fn recall_keyed(&mut self, slot: u32) {
        if let Some(host) = self.fleet.host_mut(slot) {
            host.set(Marks::KEYED, true);
            if self.auth.keys.are_demanded() && host.sessions > 0 {
                self.end_plain_of(slot);
            }
        }
    }

    fn is_current(&self, proven: &Proven, host: u32) -> bool {
        let Some(host) = self.fleet.host(host) else {
            return false;
        };
        let (key, known) = self
            .auth
            .keys
            .access
            .find(&proven.name, host.id().as_str(), &DUMMY);
        known && key.is(&proven.key)
    }

    /// A peer has connected: is it to be let say only little?
    pub(crate) fn narrow_unproven(&mut self, conn: ConnId) {
        let is_there = self.fleet.session(conn).is_some();
        if is_there
            && !self
                .auth
                .keys
                .access
                .may_be_plain(self.fleet.peer(conn).ip())
        {
            self.cx.fx.push(Effect::Narrow { conn });
        }
    }

    /// Lets a message on that may be handled; sees to the others.
    pub(crate) fn gate<'m>(
        &mut self,
        conn: ConnId,
        message: Message<'m>,
        ask: Ask,
    ) -> Option<Message<'m>> {
        let session = self.fleet.session(conn);
        let is_fresh = session.is_none_or(|session| session.host().is_none());
        let out_of_place = match message {
            Message::KeyedHello(hello)
                if is_fresh && !self.auth.keys.challenges.contains_key(&conn) =>
            {
                self.challenge(conn, &hello, ask);
                return None;
            }
            Message::KeyedHello(_) => "a hello",
            Message::Proof(proof) => {
                self.proof(conn, &proof, ask);
                return None;
            }
            message if !is_fresh => return Some(message),
            _ if self.auth.keys.challenges.contains_key(&conn) => "anything but the proof",
            message
                if self
                    .auth
                    .keys
                    .access
                    .may_be_plain(self.fleet.peer(conn).ip()) =>
            {
                return Some(message);
            }
            Message::Hello(_) => {
                self.refuse_hello(conn, ask, "a key is demanded");
                return None;
            }
            _ => "a message before the proof of a key",
        };
        let error = DecodeError::new(Abnormal::OutOfPlace(out_of_place), 0);
        self.abnormal(conn, &error);
        None
    }

    /// Answers a hello with a key by a challenge, whatever host and key it names.
    fn challenge(&mut self, conn: ConnId, keyed: &KeyedHello<'_>, ask: Ask) {
        if self.fleet.session(conn).is_none() {
            return;
        }
        let peer = self.fleet.peer(conn);
        if matches!(self.auth.keys.access, Access::Open) {
            return self.refuse_hello(conn, ask, "this server has no keys");
        }
        let hello = &keyed.hello;
        let id = match HostId::given(&hello.id, peer.ip()) {
            Ok(id) => id,
            Err(error) => return self.refuse_hello(conn, ask, &error.to_string()),
        };
        let Some(random) = self.auth.keys.nonces.as_mut().and_then(|nonces| nonces()) else {
            return self.refuse_hello(conn, ask, "not now");
        };
        let server = Nonce::of(random);
        let challenge = Challenge {
            server,
            client: keyed.nonce,
            id,
            key: keyed.key.to_string(),
            udp: hello.udp,
            push: hello.push,
            boot: hello.boot.as_deref().map(str::to_owned),
            resumes: hello.resumes,
        };
        self.auth.keys.challenges.insert(conn, Box::new(challenge));
        self.cx
            .reply(conn, Flag::Hello, ask.seq, Word::Challenge(server));
    }

    fn proof(&mut self, conn: ConnId, proof: &str, ask: Ask) {
        let Some(challenge) = self.auth.keys.challenges.remove(&conn) else {
            let error = DecodeError::new(Abnormal::OutOfPlace("a proof"), 0);
            return self.abnormal(conn, &error);
        };
        let said = challenge.transcript();
        let id = challenge.id.as_str();
        let (key, known) = self.auth.keys.access.find(&challenge.key, id, &DUMMY);
        let given = bytes_of(proof);
        let has = said.client_has(&key, &given.unwrap_or_default());
        if !(has && known && given.is_some()) {
            self.cx.stats.proofs_refused += 1;
            self.fleet.note_refused(&mut self.cx, conn, &challenge);
            return self.refuse_hello(conn, ask, NOT_ACCEPTED);
        }
        let proven = Proven {
            name: challenge.key.clone(),
            directions: said.directions(&key),
            sent: 0,
            came: Window::default(),
            key,
        };
        self.proved(conn, &challenge, proven, ask);
    }

    /// It has the key: it is the host it says it is.
    fn proved(&mut self, conn: ConnId, challenge: &Challenge, proven: Proven, ask: Ask) {
        let hello = Hello {
            id: Cow::Borrowed(challenge.id.as_str()),
            udp: challenge.udp,
            push: challenge.push,
            boot: challenge.boot.as_deref().map(Cow::Borrowed),
            resumes: challenge.resumes,
        };
        if self.fleet.session(conn).is_none() {
            return;
        }
        let peer = self.fleet.peer(conn);
        let proof = challenge.transcript().server_proof(&proven.key);
        let keys = proven.directions.clone();
        // Forgotten again with the session, if it is refused after all.
        self.auth.keys.proven.insert(conn, Box::new(proven));
        let slot = match self.admit(conn, &hello, peer) {
            Ok(slot) => slot,
            Err(why) => return self.refuse_hello(conn, ask, &why),
        };
        let was = self.fleet.host(slot).map(|host| host.presence);
        if let Some(host) = self.fleet.host_mut(slot) {
            // Before it comes online, so that it is stored with that.
            host.set(Marks::KEYED, true);
        }
        let interval_s = self.welcome(conn, slot, &hello, ask);
        let word = Word::Proven { proof, interval_s };
        self.cx.reply(conn, Flag::Hello, ask.seq, word);
        self.cx.fx.push(Effect::Guard { conn, keys });
        self.cx.count(Flag::Hello);
        if self.fleet.host(slot).is_some_and(|host| host.sessions > 1) {
            self.end_plain_of(slot);
        }
        if was == Some(Presence::Inherited) {
            self.tasks.send_again_to(&challenge.id);
        }
    }

    /// Ends the connections of a host that have proved no key.
    fn end_plain_of(&mut self, slot: u32) {
        let others = self.fleet.sessions();
        let others =
            others.filter(|(conn, s)| s.host() == Some(slot) && !self.auth.keys.has(*conn));
        let others: Vec<ConnId> = others.map(|(conn, _)| conn).collect();
        for conn in others {
            self.cx.close(conn);
            self.end_session(conn, Reason::Closed);
        }
    }

    /// Returns whether the host may be sent to, and trusted, without a signature.
    pub(crate) fn is_plain(&self, host: &Host) -> bool {
        !self.cx.rules.certificates
            && !self.auth.has_key(host)
            && (host.presence == Presence::Online
                || (self.auth.keys.access.may_be_plain(host.peer().ip())
                    && self.demands_key(&host.id()).is_none()))
    }

    /// A signed datagram has come: whose it is, if it is good and new.
    pub(crate) fn signer(
        &mut self,
        from: std::net::IpAddr,
        signature: &Signature<'_>,
    ) -> Option<u32> {
        let stats = &mut self.cx.stats;
        let id = signature.id.as_deref();
        let id = id.and_then(|id| HostId::checked(id).ok());
        let slot = id.and_then(|id| self.fleet.find(&id));
        let conn = slot.and_then(|slot| self.fleet.host(slot)?.identified());
        let at_home = conn.is_some_and(|conn| self.fleet.peer(conn).ip() == from.to_canonical());
        let proven = conn.filter(|_| at_home);
        let proven = proven.and_then(|conn| self.auth.keys.proven.get_mut(&conn));
        let Some(proven) = proven.filter(|p| signature.is_of(&p.directions.to_server)) else {
            stats.datagrams_forged += 1;
            return None;
        };
        let is_old = proven.came.highest() >= signature.n.saturating_add(DATAGRAM_WINDOW);
        if proven.came.take(signature.n) {
            return slot;
        }
        match is_old {
            true => stats.datagrams_stale += 1,
            false => stats.datagrams_replayed += 1,
        }
        None
    }

    /// Refuses a report of a host with a session on a task that does not name it, and returns the
    /// result. `None` if it is to be accepted.
    pub(crate) fn keep_to_own(
        &mut self,
        conn: ConnId,
        slot: u32,
        incoming: &Incoming<'_>,
    ) -> Option<Flow> {
        let Incoming { message, ask } = incoming;
        if self.names(slot, message)? {
            return None;
        }
        if self.cx.is_starting() {
            // The tasks are not known yet.
            return Some(self.hold(conn, slot, 0));
        }
        if ask.reply {
            let why = Word::Refused(NO_SUCH_TASK.to_owned());
            self.cx.reply(conn, message.flag(), ask.seq, why);
        }
        Some(Flow::Taken)
    }

    /// Returns whether the task of a report names the host; `None` if the report has no task.
    pub(crate) fn names(&self, slot: u32, message: &Message<'_>) -> Option<bool> {
        let text = match message {
            Message::Progress(progress) => &*progress.code,
            Message::Answer(answer) => answer.task.as_deref()?,
            _ => return None,
        };
        let key = TaskKey::parse(text, &self.cx.rules.key_prefix)?;
        let host = self.fleet.host(slot)?;
        Some(self.tasks.table.delivery_of(&key, &host.id()).is_some())
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
        Push::Task(key) => ("taskId", key, None),
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
