//! Hosts that a certificate names: the name is the host's id, whatever else it says, and a host without a
//! session of its own is reached by its connection alone, since a datagram proves nothing.

use crate::codec::message::Hello;
use crate::codec::{Abnormal, DecodeError};
use crate::handlers::auth::Auth;
use crate::ids::{ConnId, HostId, Numbered};
use crate::store::op::Reason;

use crate::handlers::fleet::host::Peer;
use crate::handlers::step::Step;

/// Name in the certificate of each connection. As many as there are such connections.
pub(crate) type Certified = Numbered<ConnId, HostId>;

impl Auth {
    /// Reason to refuse a hello that contradicts the certificate of `conn`.
    pub(crate) fn contradicts_certificate(
        &self,
        conn: ConnId,
        hello: &Hello<'_>,
    ) -> Option<String> {
        let id = self.certified.get(&conn)?;
        (id.as_str() != hello.id).then(|| format!("the certificate is that of {id}"))
    }
}

impl Step<'_> {
    /// The peer of `conn` has shown a certificate with this name.
    pub(crate) fn certified(&mut self, conn: ConnId, name: &str) {
        if self.fleet.session(conn).is_none() {
            return;
        }
        match HostId::given(name, self.fleet.peer(conn).ip()) {
            Ok(id) => {
                self.auth.certified.insert(conn, id);
            }
            Err(error) => {
                let why = format!("the certificate names {name:?}: {error}");
                let error = DecodeError::new(Abnormal::Tls(why), 0);
                self.abnormal(conn, &error);
            }
        }
    }

    /// Ends the session of a connection that its certificate does not let in any more.
    pub(crate) fn revoked(&mut self, conn: ConnId, why: &str) {
        let Some(session) = self.fleet.session(conn) else {
            return;
        };
        let host = session.host().and_then(|slot| self.fleet.host(slot));
        let who = match host {
            Some(host) => host.id().to_string(),
            None => self.fleet.peer(conn).ip().to_string(),
        };
        self.cx.log(
            log::Level::Warn,
            "tls",
            who,
            format!("its session ends: {why}"),
        );
        self.cx.close(conn);
        self.end_session(conn, Reason::Closed);
    }

    /// The host of a connection whose first message is no hello: the one its certificate names.
    pub(crate) fn known_by_certificate(
        &mut self,
        conn: ConnId,
        id: HostId,
        peer: Peer,
    ) -> Option<u32> {
        match self.place_of(conn, id, peer) {
            Ok(slot) => {
                self.attach(conn, slot, true);
                Some(slot)
            }
            Err(why) => {
                self.cx.stats.refused_hellos += 1;
                let error = DecodeError::new(Abnormal::Tls(why), 0);
                self.abnormal(conn, &error);
                None
            }
        }
    }
}
