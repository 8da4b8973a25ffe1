//! ADH40: a host names itself. The newest connection of an id replaces the older one.

use crate::codec::message::{Ask, Flag, Hello, Word};
use crate::codec::{Abnormal, DecodeError};
use crate::ids::{ConnId, HostId};
use crate::store::op::{Notice, Reason};
use crate::time::Span;

use crate::handlers::Moment;
use crate::handlers::core::Core;
use crate::handlers::effect::{Effect, Effects, EventKind, Note};
use crate::handlers::fleet::host::{Marks, Peer};
use crate::handlers::fleet::quarantine::{Claim, Verdict};

impl Core {
    /// A hello: the first message of a connection, and the only one of its kind.
    pub(crate) fn hello(
        &mut self,
        at: Moment,
        conn: ConnId,
        hello: &Hello<'_>,
        ask: Ask,
        fx: &mut Effects,
    ) {
        let Some(session) = self.fleet.sessions.get(conn) else {
            return;
        };
        if session.host().is_some() {
            let error = DecodeError::new(Abnormal::OutOfPlace("a hello"), 0);
            return self.abnormal(at, conn, &error, fx);
        }
        let peer = self.fleet.sessions.peer(conn);
        match self.admit(at, conn, hello, peer, fx) {
            Ok(slot) => {
                let interval_s = self.welcome(at, conn, slot, hello, ask, fx);
                self.reply(conn, Flag::Hello, ask.seq, Word::Welcome { interval_s }, fx);
            }
            Err(why) => self.refuse_hello(at, conn, ask, &why, fx),
        }
    }

    pub(crate) fn refuse_hello(
        &mut self,
        at: Moment,
        conn: ConnId,
        ask: Ask,
        why: &str,
        fx: &mut Effects,
    ) {
        self.stats.refused_hellos += 1;
        let word = Word::Refused(why.to_owned());
        self.reply(conn, Flag::Hello, ask.seq, word, fx);
        fx.push(Effect::Close { conn });
        self.end_session(conn, Reason::Closed, at, fx);
    }

    /// The slot of the host that `hello` names, if it may be that host. A host that has proved a
    /// key is never replaced by one that has not.
    pub(crate) fn admit(
        &mut self,
        at: Moment,
        conn: ConnId,
        hello: &Hello<'_>,
        peer: Peer,
        fx: &mut Effects,
    ) -> Result<u32, String> {
        let id = HostId::given(&hello.id, peer.ip()).map_err(|error| error.to_string())?;
        if let Some(why) = self.contradicts_certificate(conn, hello) {
            return Err(why);
        }
        self.place_of(at, conn, id, peer, fx)
    }

    /// The slot of the host of this name, if `conn` may be its connection.
    pub(crate) fn place_of(
        &mut self,
        at: Moment,
        conn: ConnId,
        id: HostId,
        peer: Peer,
        fx: &mut Effects,
    ) -> Result<u32, String> {
        if !self.auth.keys.has(conn)
            && let Some(why) = self.demands_key(&id)
        {
            self.note_unkeyed(&id, peer, &why, fx);
            return Err(why);
        }
        let slot = self.admit_id(id.clone(), peer, at).map_err(str::to_owned)?;
        let holder = self
            .fleet
            .hosts
            .get(slot)
            .and_then(|host| host.identified());
        let Some(holder) = holder.filter(|holder| *holder != conn) else {
            return Ok(slot);
        };
        let Some(reference) = self.fleet.hosts.reference(slot) else {
            return Ok(slot);
        };
        if self.auth.keys.has(holder) && !self.auth.keys.has(conn) {
            return Err("this id has proved its key".to_owned());
        }
        if self.auth.keys.has(conn) && !self.auth.keys.has(holder) {
            // It is whose the id is. However plain ones have fought over it, that keeps it out of nothing.
            self.fleet.quarantine.settled(reference);
            return Ok(slot);
        }
        let since = self
            .fleet
            .hosts
            .get(slot)
            .map_or(at.wall, |host| host.since);
        let claim = Claim {
            holder: self.fleet.sessions.peer(holder).ip(),
            claimant: peer.ip(),
            online: Span::from_millis(at.wall.0.saturating_sub(since.0)),
        };
        match self.fleet.quarantine.claimed(reference, &claim, at.now) {
            Verdict::Replace => return Ok(slot),
            Verdict::ReplaceAndReport => {
                self.quarantined(at, id, holder, peer, fx);
                return Ok(slot);
            }
            Verdict::RefuseAndReport => self.quarantined(at, id, holder, peer, fx),
            Verdict::Refuse => {}
        }
        Err("this id is in use and has been replaced too often; try again in a minute".to_owned())
    }

    /// Makes it the host. How often it is to beat, in seconds.
    pub(crate) fn welcome(
        &mut self,
        at: Moment,
        conn: ConnId,
        slot: u32,
        hello: &Hello<'_>,
        ask: Ask,
        fx: &mut Effects,
    ) -> f64 {
        self.note_duplicate(at, conn, slot, hello.boot.as_deref(), fx);
        self.attach(at, conn, slot, true, fx);
        self.heard(at, conn);
        let reference = self.fleet.hosts.reference(slot);
        if let Some(host) = self.fleet.hosts.get_mut(slot) {
            host.set_asks(ask.reply);
            host.set_udp(hello.udp.unwrap_or(0));
            host.set(Marks::PUSH, hello.push);
            let ip = host.peer().ip();
            if !host.is_named_by(ip) {
                self.fleet.addresses.insert(ip, host.udp(), slot);
            }
            let before = host.boot();
            if let Some(boot) = hello.boot.as_deref().filter(|boot| before != Some(boot)) {
                let restarted = before.is_some();
                host.set_boot(boot);
                // A process that resumes reports what became of the tasks of the one before.
                if let Some(reference) = reference.filter(|_| restarted && !hello.resumes) {
                    // Another process than before has forgotten what it was at work on.
                    self.tasks.work.forget(reference);
                    let id = host.id();
                    self.lose_work(&id, at);
                }
            }
        }
        self.rules.timeout.part(3).as_secs_f64()
    }

    /// Reports, once a fight, that the host's id is used by two processes: another one is about to replace its connection.
    fn note_duplicate(
        &mut self,
        at: Moment,
        conn: ConnId,
        slot: u32,
        boot: Option<&str>,
        fx: &mut Effects,
    ) {
        let Some(host) = self.fleet.hosts.get(slot) else {
            return;
        };
        let older = host.identified().filter(|older| *older != conn);
        let (Some(older), Some(reference)) = (older, self.fleet.hosts.reference(slot)) else {
            return;
        };
        let differs = host.boot().zip(boot).map(|(one, other)| one != other);
        if !self
            .fleet
            .quarantine
            .is_duplicate(reference, differs, at.now)
        {
            return;
        }
        let host = host.id();
        let (before, now) = (
            self.fleet.sessions.peer(older),
            self.fleet.sessions.peer(conn),
        );
        let reason = format!("held by {}, claimed by {}", before.address(), now.address());
        let stamp = self.stamp(at);
        fx.push(Effect::Log(Note {
            level: log::Level::Warn,
            what: "duplicate-id",
            who: host.to_string(),
            text: format!(
                "another process with this id replaces its connection, which was still open: {reason}"
            ),
        }));
        let kind = EventKind::Duplicate {
            host: host.clone(),
            reason: reason.clone(),
        };
        self.tell(stamp, kind, fx);
        self.notice(Notice {
            event: "duplicate-id",
            about: Some(host.to_string()),
            state: None,
            reason: Some(reason),
            count: None,
            stamp,
        });
    }

    fn quarantined(
        &mut self,
        at: Moment,
        id: HostId,
        holder: ConnId,
        newcomer: Peer,
        fx: &mut Effects,
    ) {
        let holder = match self.fleet.sessions.get(holder) {
            Some(_) => self.fleet.sessions.peer(holder).address().to_string(),
            None => "nobody".to_owned(),
        };
        let reason = format!("held by {holder}, claimed by {}", newcomer.address());
        let stamp = self.stamp(at);
        fx.push(Effect::Log(Note {
            level: log::Level::Error,
            what: "quarantine",
            who: id.to_string(),
            text: format!(
                "replaced too often, left for a minute to the address that had it longest: {reason}"
            ),
        }));
        let kind = EventKind::Quarantine {
            host: id.clone(),
            reason: reason.clone(),
        };
        self.tell(stamp, kind, fx);
        self.notice(Notice {
            event: "quarantine",
            about: Some(id.to_string()),
            state: None,
            reason: Some(reason),
            count: None,
            stamp,
        });
    }
}
