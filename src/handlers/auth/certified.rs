//! Hosts that a certificate names: the name is the host's id, whatever else it says, and a host without a
//! session of its own is reached by its connection alone, since a datagram proves nothing.

use crate::codec::message::Hello;
use crate::codec::{Abnormal, DecodeError};
use crate::ids::{ConnId, HostId, Numbered};
use crate::store::op::Reason;

use crate::handlers::Moment;
use crate::handlers::core::Core;
use crate::handlers::effect::{Effect, Effects, Note};
use crate::handlers::fleet::host::Peer;

/// Name in the certificate of each connection. As many as there are such connections.
pub(crate) type Certified = Numbered<ConnId, HostId>;

impl Core {
    /// The peer of `conn` has shown a certificate with this name.
    pub(crate) fn certified(&mut self, at: Moment, conn: ConnId, name: &str, fx: &mut Effects) {
        if self.fleet.sessions.get(conn).is_none() {
            return;
        }
        match HostId::given(name, self.fleet.sessions.peer(conn).ip()) {
            Ok(id) => {
                self.auth.certified.insert(conn, id);
            }
            Err(error) => {
                let why = format!("the certificate names {name:?}: {error}");
                let error = DecodeError::new(Abnormal::Tls(why), 0);
                self.abnormal(at, conn, &error, fx);
            }
        }
    }

    /// Ends the session of a connection that its certificate does not let in any more.
    pub(crate) fn revoked(&mut self, at: Moment, conn: ConnId, why: &str, fx: &mut Effects) {
        let Some(session) = self.fleet.sessions.get(conn) else {
            return;
        };
        let host = session.host().and_then(|slot| self.fleet.hosts.get(slot));
        let who = match host {
            Some(host) => host.id().to_string(),
            None => self.fleet.sessions.peer(conn).ip().to_string(),
        };
        fx.push(Effect::Log(Note {
            level: log::Level::Warn,
            what: "tls",
            who,
            text: format!("its session ends: {why}"),
        }));
        fx.push(Effect::Close { conn });
        self.end_session(conn, Reason::Closed, at, fx);
    }

    /// The host of a connection whose first message is no hello: the one its certificate names.
    pub(crate) fn known_by_certificate(
        &mut self,
        at: Moment,
        conn: ConnId,
        id: HostId,
        peer: Peer,
        fx: &mut Effects,
    ) -> Option<u32> {
        match self.place_of(at, conn, id, peer, fx) {
            Ok(slot) => {
                self.attach(at, conn, slot, true, fx);
                Some(slot)
            }
            Err(why) => {
                self.stats.refused_hellos += 1;
                let error = DecodeError::new(Abnormal::Tls(why), 0);
                self.abnormal(at, conn, &error, fx);
                None
            }
        }
    }

    /// Reason to refuse a hello that contradicts the certificate of `conn`.
    pub(crate) fn contradicts_certificate(
        &self,
        conn: ConnId,
        hello: &Hello<'_>,
    ) -> Option<String> {
        let id = self.auth.certified.get(&conn)?;
        (id.as_str() != hello.id).then(|| format!("the certificate is that of {id}"))
    }
}
