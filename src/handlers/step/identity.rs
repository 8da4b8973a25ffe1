//! Identity: assigns connections and datagrams to hosts, and checks their right to be that host.

use std::net::SocketAddr;

use crate::codec::message::{
    Flag, Hello, Incoming, KeyedHello, Message, ReplyRequest, Signature, Word,
};
use crate::codec::{Abnormal, DecodeError};
use crate::handlers::Flow;
use crate::handlers::auth::Proof;
use crate::handlers::effect::Effect;
use crate::handlers::fleet::host::{Marks, Peer, Presence};
use crate::handlers::step::Step;
use crate::ids::{ConnId, HostId, TaskKey};
use crate::keys::Access;
use crate::store::op::Reason;

/// The answer to every wrong proof.
const NOT_ACCEPTED: &str = "not accepted";
/// The answer to a report on a task that does not name the host. It does not show whether the task
/// exists.
pub(crate) const NO_SUCH_TASK: &str = "no such task for this host";

/// Stands for the connection of a message that came by datagram.
const NO_CONNECTION: ConnId = ConnId {
    slot: u32::MAX,
    generation: u32::MAX,
};

impl Step<'_> {
    /// The host of a connection that has sent a valid message; a plain connection's first makes
    /// the peer's address its host. `None` when the connection had to be closed instead.
    pub(super) fn resolve_host(&mut self, conn: ConnId) -> Option<u32> {
        let session = self.fleet.session(conn)?;
        if session.host().is_some() {
            return session.host();
        }
        let peer = self.fleet.peer(conn);
        if let Some(id) = self.auth.certificate(conn).cloned() {
            return match self.admit(conn, id, peer) {
                Ok(slot) => {
                    self.attach(conn, slot, true);
                    Some(slot)
                }
                Err(why) => {
                    self.cx.stats.refused_hellos += 1;
                    self.abnormal(conn, &DecodeError::new(Abnormal::Tls(why.to_owned()), 0));
                    None
                }
            };
        }
        let id = HostId::of_address(peer.ip());
        if let Some(why) = self.demands_key(&id) {
            self.log_unkeyed(&id, peer, why);
            self.out_of_place(conn, "a plain message for a host that must prove a key");
            return None;
        }
        let slot = match self.admit_id(id, peer) {
            Ok(slot) => slot,
            Err(why) => {
                self.out_of_place(conn, why);
                return None;
            }
        };
        let host = self.fleet.host(slot);
        if host.is_some_and(|host| self.auth.keyed_conn(host).is_some()) {
            self.out_of_place(conn, "a plain message for a host that has proved its key");
            return None;
        }
        self.attach(conn, slot, false);
        Some(slot)
    }

    /// Closes a connection for a message that is not allowed now.
    pub(super) fn out_of_place(&mut self, conn: ConnId, what: &'static str) {
        let error = DecodeError::new(Abnormal::OutOfPlace(what), 0);
        self.abnormal(conn, &error);
    }

    /// Handles a hello: the first message of a connection, and the only one of its kind.
    pub(super) fn hello(&mut self, conn: ConnId, hello: &Hello<'_>, ask: ReplyRequest) {
        let Some(session) = self.fleet.session(conn) else {
            return;
        };
        if session.host().is_some() {
            return self.out_of_place(conn, "a hello");
        }
        match self.admit_hello(conn, hello) {
            Ok(slot) => {
                let interval_s = self.welcome(conn, slot, hello, ask);
                let word = Word::Welcome { interval_s };
                self.cx.reply(conn, Flag::Hello, ask.seq, word);
            }
            Err(why) => self.refuse_hello(conn, ask, &why),
        }
    }

    /// Refuses a hello, and closes its connection.
    pub(super) fn refuse_hello(&mut self, conn: ConnId, ask: ReplyRequest, why: &str) {
        self.cx.stats.refused_hellos += 1;
        let word = Word::Refused(why.to_owned());
        self.cx.reply(conn, Flag::Hello, ask.seq, word);
        self.close(conn, Reason::Closed);
    }

    /// Answers a hello with a key by a challenge, whatever host and key it names.
    pub(super) fn challenge(&mut self, conn: ConnId, keyed: &KeyedHello<'_>, ask: ReplyRequest) {
        if !self.auth.has_keys() {
            return self.refuse_hello(conn, ask, "this server has no keys");
        }
        let id = match HostId::given(&keyed.hello.id, self.fleet.peer(conn).ip()) {
            Ok(id) => id,
            Err(error) => return self.refuse_hello(conn, ask, &error.to_string()),
        };
        match self.auth.challenge(conn, id, keyed) {
            Some(nonce) => self
                .cx
                .reply(conn, Flag::Hello, ask.seq, Word::Challenge(nonce)),
            None => self.refuse_hello(conn, ask, "not now"),
        }
    }

    /// Handles a proof: a connection with the right key is the host that it named.
    pub(super) fn proof(&mut self, conn: ConnId, proof: &str, ask: ReplyRequest) {
        let proved = match self.auth.prove(conn, proof) {
            Proof::NotAsked => return self.out_of_place(conn, "a proof"),
            Proof::Wrong { id, key } => {
                self.cx.stats.proofs_refused += 1;
                let peer = self.fleet.peer(conn).address();
                let text = format!("its proof is not accepted: key {key}, from {peer}");
                self.cx.log(log::Level::Warn, "keys", id, text);
                return self.refuse_hello(conn, ask, NOT_ACCEPTED);
            }
            Proof::Good(proved) => proved,
        };
        let hello = proved.hello();
        let slot = match self.admit_hello(conn, &hello) {
            Ok(slot) => slot,
            Err(why) => return self.refuse_hello(conn, ask, &why),
        };
        let mut was_inherited = false;
        if let Some(host) = self.fleet.host_mut(slot) {
            was_inherited = host.presence == Presence::Inherited;
            // Before it comes online, so that it is stored with that.
            host.set(Marks::KEYED, true);
        }
        let interval_s = self.welcome(conn, slot, &hello, ask);
        let proof = proved.proof;
        let word = Word::Proven { proof, interval_s };
        self.cx.reply(conn, Flag::Hello, ask.seq, word);
        let keys = proved.directions.clone();
        self.cx.fx.push(Effect::Guard { conn, keys });
        self.cx.count(Flag::Hello);
        if self.fleet.host(slot).is_some_and(|host| host.sessions > 1) {
            self.end_plain_of(slot);
        }
        if was_inherited {
            self.tasks.send_again_to(proved.id());
        }
    }

    /// The slot of the host that `hello` names, if `conn` may be its connection.
    fn admit_hello(&mut self, conn: ConnId, hello: &Hello<'_>) -> Result<u32, String> {
        let peer = self.fleet.peer(conn);
        let id = HostId::given(&hello.id, peer.ip()).map_err(|error| error.to_string())?;
        match self.auth.certificate(conn) {
            Some(named) if named.as_str() != hello.id => {
                Err(format!("the certificate is that of {named}"))
            }
            _ => self.admit(conn, id, peer).map_err(str::to_owned),
        }
    }

    /// The slot of the host of this name, if `conn` may be its connection. A host that has proved a
    /// key is never replaced by one that has not.
    fn admit(&mut self, conn: ConnId, id: HostId, peer: Peer) -> Result<u32, &'static str> {
        let is_proven = self.auth.is_proven(conn);
        if !is_proven && let Some(why) = self.demands_key(&id) {
            self.log_unkeyed(&id, peer, why);
            return Err(why);
        }
        let slot = self.admit_id(id, peer)?;
        let holder = self.fleet.host(slot).and_then(|host| host.identified());
        let Some(holder) = holder.filter(|holder| *holder != conn) else {
            return Ok(slot);
        };
        match (self.auth.is_proven(holder), is_proven) {
            (true, false) => return Err("this id has proved its key"),
            (false, true) => {
                // The host keeps this id, however often plain connections replaced each other.
                self.fleet.settle_claims(slot);
                return Ok(slot);
            }
            _ => {}
        }
        let decision = self.fleet.claim(&self.cx, slot, holder, peer);
        if let Some(kind) = decision.quarantine {
            let text = "replaced too often, left for a minute to the address that had it longest";
            self.publish(log::Level::Error, kind, text);
        }
        decision
            .is_allowed
            .then_some(slot)
            .ok_or("this id is in use and has been replaced too often; try again in a minute")
    }

    /// Makes `conn` the connection of the host that `hello` names. Returns the interval of its
    /// heartbeats in seconds.
    fn welcome(&mut self, conn: ConnId, slot: u32, hello: &Hello<'_>, ask: ReplyRequest) -> f64 {
        let boot = hello.boot.as_deref();
        if let Some(kind) = self.fleet.find_duplicate(&self.cx, conn, slot, boot) {
            let text = "another process with this id replaces its connection, which was still open";
            self.publish(log::Level::Warn, kind, text);
        }
        self.attach(conn, slot, true);
        self.touch(conn);
        let restarted = self.fleet.introduce(slot, hello, ask.reply);
        if hello.resumes
            && self.cx.has_other_nodes()
            && let Some(host) = self.fleet.id(slot)
        {
            self.tasks.note_resumes(&host);
        }
        // A process that resumes reports on the tasks of its predecessor; any other has forgotten
        // its running work.
        if restarted
            && !hello.resumes
            && let Some(host) = self.fleet.id(slot)
        {
            self.tasks.lose_work(&mut self.cx, &host);
        }
        self.cx.rules.timeout.part(3).as_secs_f64()
    }

    /// Reason for which a plain host cannot have `id`.
    fn demands_key(&self, id: &HostId) -> Option<&'static str> {
        if !self.auth.has_keys() {
            return None;
        }
        let host = self.fleet.find(id).and_then(|slot| self.fleet.host(slot));
        let was_keyed = host.is_some_and(|host| host.has(Marks::KEYED));
        self.auth.demands_key(id, was_keyed)
    }

    /// Logs a plain connection that is refused an id.
    fn log_unkeyed(&mut self, id: &HostId, peer: Peer, why: &str) {
        let text = format!("plain connection from {} refused: {why}", peer.address());
        self.cx.log(log::Level::Warn, "keys", id, text);
    }

    /// Handles the store's record that this host has proved a key. Plain connections that took its
    /// id meanwhile end.
    pub(super) fn recall_keyed(&mut self, slot: u32) {
        if let Some(host) = self.fleet.host_mut(slot) {
            host.set(Marks::KEYED, true);
            if self.auth.has_keys() && host.sessions > 0 {
                self.end_plain_of(slot);
            }
        }
    }

    /// Ends the connections of a host that have proved no key.
    fn end_plain_of(&mut self, slot: u32) {
        let of_host = self.fleet.sessions().filter(|s| s.1.host() == Some(slot));
        let conns = of_host.map(|(conn, _)| conn);
        let plain: Vec<ConnId> = conns.filter(|conn| !self.auth.is_proven(*conn)).collect();
        for conn in plain {
            self.close(conn, Reason::Closed);
        }
    }

    /// Takes new keys. Ends every session whose key has changed, and every plain session that would
    /// not be admitted now.
    pub(crate) fn set_access(&mut self, access: Access) {
        self.auth.set_access(access);
        let mut over = Vec::new();
        let mut unproven = Vec::new();
        for (conn, session) in self.fleet.sessions() {
            let id = session.host().and_then(|slot| self.fleet.id(slot));
            let is_good = match (self.auth.is_proven(conn), &id) {
                (true, id) => id.as_ref().is_none_or(|id| self.auth.is_current(conn, id)),
                (false, id) => {
                    self.auth.may_be_plain(self.fleet.peer(conn).ip())
                        && id.as_ref().is_none_or(|id| self.demands_key(id).is_none())
                }
            };
            match id {
                _ if is_good => {}
                Some(id) => over.push((conn, id)),
                // It has sent nothing yet, or has not proved its key.
                None => unproven.push(conn),
            }
        }
        for conn in unproven {
            self.cx.fx.push(Effect::Narrow { conn });
        }
        for (conn, id) in over {
            let text = "its session ends: its key is gone or another";
            self.cx.log(log::Level::Warn, "keys", id, text);
            self.close(conn, Reason::Closed);
        }
    }

    /// Limits the frames of a connection that has to prove itself.
    pub(super) fn narrow_unproven(&mut self, conn: ConnId) {
        if !self.auth.may_be_plain(self.fleet.peer(conn).ip()) {
            self.cx.fx.push(Effect::Narrow { conn });
        }
    }

    /// The peer of `conn` has shown a certificate with this name.
    pub(super) fn certified(&mut self, conn: ConnId, name: &str) {
        if self.fleet.session(conn).is_none() {
            return;
        }
        match HostId::given(name, self.fleet.peer(conn).ip()) {
            Ok(id) => self.auth.certify(conn, id),
            Err(error) => {
                let why = format!("the certificate names {name:?}: {error}");
                self.abnormal(conn, &DecodeError::new(Abnormal::Tls(why), 0));
            }
        }
    }

    /// Ends the session of a connection whose certificate has been revoked.
    pub(super) fn revoked(&mut self, conn: ConnId, why: &str) {
        if self.fleet.session(conn).is_some() {
            let who = self.fleet.name_of(conn);
            let text = format!("its session ends: {why}");
            self.cx.log(log::Level::Warn, "tls", who, text);
            self.close(conn, Reason::Closed);
        }
    }

    /// Refuses a report of a host with a session on a task that does not name it, and returns the
    /// result. `None` if the report is to be accepted.
    pub(super) fn keep_to_own(
        &mut self,
        conn: ConnId,
        slot: u32,
        message: &Message<'_>,
        ask: ReplyRequest,
    ) -> Option<Flow> {
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
    fn names(&self, slot: u32, message: &Message<'_>) -> Option<bool> {
        let text = match message {
            Message::Progress(progress) => &*progress.code,
            Message::Answer(answer) => answer.task.as_deref()?,
            _ => return None,
        };
        let key = TaskKey::parse(text, &self.cx.rules.key_prefix)?;
        let host = self.fleet.id(slot)?;
        Some(self.tasks.names(&key, &host))
    }

    /// Handles a datagram: a heartbeat or an answer, accepted only from the address of a host that
    /// is online already. Datagrams bring no host online and are never answered.
    pub(super) fn datagram(&mut self, from: SocketAddr, incoming: &Incoming<'_>) {
        let slot = self.fleet.only_one_at(&self.cx, from);
        let host = slot.and_then(|slot| self.fleet.host(slot));
        match slot.filter(|_| host.is_some_and(|host| self.auth.is_plain(self.cx.rules, host))) {
            Some(slot) => self.take_datagram(slot, incoming),
            None => self.cx.stats.datagrams_refused += 1,
        }
    }

    /// Handles a datagram that is signed in the session of a host.
    pub(super) fn signed_datagram(
        &mut self,
        from: SocketAddr,
        incoming: &Incoming<'_>,
        signature: &Signature<'_>,
    ) {
        let id = signature.id.as_deref();
        let id = id.and_then(|id| HostId::checked(id).ok());
        let slot = id.and_then(|id| self.fleet.find(&id));
        let conn = slot.and_then(|slot| self.fleet.host(slot)?.identified());
        let ip = from.ip().to_canonical();
        let at_home = conn.filter(|conn| self.fleet.peer(*conn).ip() == ip);
        if !self.auth.verify(at_home, signature, self.cx.stats) {
            return;
        }
        let Some(slot) = slot else { return };
        match self.names(slot, &incoming.message) {
            Some(false) => self.cx.stats.datagrams_refused += 1,
            Some(true) | None => self.take_datagram(slot, incoming),
        }
    }

    fn take_datagram(&mut self, slot: u32, incoming: &Incoming<'_>) {
        let flow = match &incoming.message {
            Message::Heartbeat => Flow::Taken,
            Message::Answer(answer) => {
                self.answer(NO_CONNECTION, slot, answer, ReplyRequest::default())
            }
            // Without room for its report an answer is lost like any datagram; the host repeats it.
            _ => Flow::Wait,
        };
        if flow != Flow::Taken {
            self.cx.stats.datagrams_refused += 1;
            return;
        }
        if let Some(host) = self.fleet.host_mut(slot) {
            host.set_datagram(self.cx.at.now);
            host.seen = host.seen.max(self.cx.at.wall);
        }
        self.cx.count(incoming.message.flag());
    }
}
