//! ADH40: a host names itself. The newest connection of an id replaces the older one.

use crate::codec::message::{Ask, Flag, Hello, Word};
use crate::codec::{Abnormal, DecodeError};
use crate::ids::{ConnId, HostId};
use crate::store::op::{Notice, Reason};
use crate::time::Span;

use crate::handlers::effect::EventKind;
use crate::handlers::fleet::host::{Marks, Peer};
use crate::handlers::fleet::quarantine::{Claim, Verdict};
use crate::handlers::step::Step;

impl Step<'_> {
    /// A hello: the first message of a connection, and the only one of its kind.
    pub(crate) fn hello(&mut self, conn: ConnId, hello: &Hello<'_>, ask: Ask) {
        let Some(session) = self.fleet.session(conn) else {
            return;
        };
        if session.host().is_some() {
            let error = DecodeError::new(Abnormal::OutOfPlace("a hello"), 0);
            return self.abnormal(conn, &error);
        }
        let peer = self.fleet.peer(conn);
        match self.admit(conn, hello, peer) {
            Ok(slot) => {
                let interval_s = self.welcome(conn, slot, hello, ask);
                self.cx
                    .reply(conn, Flag::Hello, ask.seq, Word::Welcome { interval_s });
            }
            Err(why) => self.refuse_hello(conn, ask, &why),
        }
    }

    pub(crate) fn refuse_hello(&mut self, conn: ConnId, ask: Ask, why: &str) {
        self.cx.stats.refused_hellos += 1;
        let word = Word::Refused(why.to_owned());
        self.cx.reply(conn, Flag::Hello, ask.seq, word);
        self.cx.close(conn);
        self.end_session(conn, Reason::Closed);
    }

    /// The slot of the host that `hello` names, if it may be that host. A host that has proved a
    /// key is never replaced by one that has not.
    pub(crate) fn admit(
        &mut self,
        conn: ConnId,
        hello: &Hello<'_>,
        peer: Peer,
    ) -> Result<u32, String> {
        let id = HostId::given(&hello.id, peer.ip()).map_err(|error| error.to_string())?;
        if let Some(why) = self.auth.contradicts_certificate(conn, hello) {
            return Err(why);
        }
        self.place_of(conn, id, peer)
    }

    /// The slot of the host of this name, if `conn` may be its connection.
    pub(crate) fn place_of(&mut self, conn: ConnId, id: HostId, peer: Peer) -> Result<u32, String> {
        if !self.auth.keys.has(conn)
            && let Some(why) = self.demands_key(&id)
        {
            self.note_unkeyed(&id, peer, &why);
            return Err(why);
        }
        let slot = self.admit_id(id.clone(), peer).map_err(str::to_owned)?;
        let holder = self
            .fleet
            .hosts
            .get(slot)
            .and_then(|host| host.identified());
        let Some(holder) = holder.filter(|holder| *holder != conn) else {
            return Ok(slot);
        };
        let Some(reference) = self.fleet.reference(slot) else {
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
            .map_or(self.cx.at.wall, |host| host.since);
        let claim = Claim {
            holder: self.fleet.peer(holder).ip(),
            claimant: peer.ip(),
            online: Span::from_millis(self.cx.at.wall.0.saturating_sub(since.0)),
        };
        match self
            .fleet
            .quarantine
            .claimed(reference, &claim, self.cx.at.now)
        {
            Verdict::Replace => return Ok(slot),
            Verdict::ReplaceAndReport => {
                self.quarantined(id, holder, peer);
                return Ok(slot);
            }
            Verdict::RefuseAndReport => self.quarantined(id, holder, peer),
            Verdict::Refuse => {}
        }
        Err("this id is in use and has been replaced too often; try again in a minute".to_owned())
    }

    /// Makes it the host. How often it is to beat, in seconds.
    pub(crate) fn welcome(&mut self, conn: ConnId, slot: u32, hello: &Hello<'_>, ask: Ask) -> f64 {
        self.note_duplicate(conn, slot, hello.boot.as_deref());
        self.attach(conn, slot, true);
        self.heard(conn);
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
                // A process that resumes reports what became of the tasks of the one before; any
                // other has forgotten what it was at work on.
                if restarted && !hello.resumes {
                    self.tasks.lose_work(&mut self.cx, &host.id());
                }
            }
        }
        self.cx.rules.timeout.part(3).as_secs_f64()
    }

    /// Reports, once a fight, that the host's id is used by two processes: another one is about to replace its connection.
    fn note_duplicate(&mut self, conn: ConnId, slot: u32, boot: Option<&str>) {
        let Some(host) = self.fleet.hosts.get(slot) else {
            return;
        };
        let older = host.identified().filter(|older| *older != conn);
        let (Some(older), Some(reference)) = (older, self.fleet.reference(slot)) else {
            return;
        };
        let differs = host.boot().zip(boot).map(|(one, other)| one != other);
        if !self
            .fleet
            .quarantine
            .is_duplicate(reference, differs, self.cx.at.now)
        {
            return;
        }
        let host = host.id();
        let (before, now) = (self.fleet.peer(older), self.fleet.peer(conn));
        let reason = format!("held by {}, claimed by {}", before.address(), now.address());
        let stamp = self.cx.stamp();
        self.cx.log(log::Level::Warn, "duplicate-id", host.to_string(), format!(
                "another process with this id replaces its connection, which was still open: {reason}"
            ));
        let kind = EventKind::Duplicate {
            host: host.clone(),
            reason: reason.clone(),
        };
        self.cx.tell(stamp, kind);
        self.outbox.notice(
            &mut self.cx,
            Notice {
                event: "duplicate-id",
                about: Some(host.to_string()),
                state: None,
                reason: Some(reason),
                count: None,
                stamp,
            },
        );
    }

    fn quarantined(&mut self, id: HostId, holder: ConnId, newcomer: Peer) {
        let holder = match self.fleet.session(holder) {
            Some(_) => self.fleet.peer(holder).address().to_string(),
            None => "nobody".to_owned(),
        };
        let reason = format!("held by {holder}, claimed by {}", newcomer.address());
        let stamp = self.cx.stamp();
        self.cx.log(
            log::Level::Error,
            "quarantine",
            id.to_string(),
            format!(
                "replaced too often, left for a minute to the address that had it longest: {reason}"
            ),
        );
        let kind = EventKind::Quarantine {
            host: id.clone(),
            reason: reason.clone(),
        };
        self.cx.tell(stamp, kind);
        self.outbox.notice(
            &mut self.cx,
            Notice {
                event: "quarantine",
                about: Some(id.to_string()),
                state: None,
                reason: Some(reason),
                count: None,
                stamp,
            },
        );
    }
}
