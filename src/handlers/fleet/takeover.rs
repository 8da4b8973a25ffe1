//! Takeover: the newest connection of an id replaces the older one, unless the id is in quarantine.

use crate::handlers::context::Ctx;
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::Peer;
use crate::handlers::fleet::quarantine::{Claim, Verdict};
use crate::ids::ConnId;
use crate::time::Span;

/// Decision on a connection that wants the id of another one.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) is_allowed: bool,
    /// A quarantine of the id begins.
    pub(crate) quarantine: Option<EventKind>,
}

impl Fleet {
    /// Decides whether a connection from `claimant` may replace the `holder` of the host in `slot`.
    pub(crate) fn claim(
        &mut self,
        cx: &Ctx<'_>,
        slot: u32,
        holder: ConnId,
        claimant: Peer,
    ) -> Decision {
        let host = self.hosts.get(slot).zip(self.hosts.reference(slot));
        let Some((host, reference)) = host else {
            return Decision {
                is_allowed: true,
                quarantine: None,
            };
        };
        let before = self.sessions.peer(holder);
        let claim = Claim {
            holder: before.ip(),
            claimant: claimant.ip(),
            online: Span::from_millis(cx.at.wall.0.saturating_sub(host.since.0)),
        };
        let verdict = self.quarantine.claimed(reference, &claim, cx.at.now);
        let begins = matches!(
            verdict,
            Verdict::ReplaceAndReport | Verdict::RefuseAndReport
        );
        Decision {
            is_allowed: matches!(verdict, Verdict::Replace | Verdict::ReplaceAndReport),
            quarantine: begins.then(|| EventKind::Quarantine {
                host: host.id(),
                reason: reason(before, claimant),
            }),
        }
    }

    /// Forgets the claims on an id: its host has proved its key.
    pub(crate) fn settle_claims(&mut self, slot: u32) {
        if let Some(reference) = self.hosts.reference(slot) {
            self.quarantine.settled(reference);
        }
    }

    /// Returns the event for a second process with the id of the host in `slot`, once per contest.
    /// Its connection is about to replace one that is still open.
    pub(crate) fn find_duplicate(
        &mut self,
        cx: &Ctx<'_>,
        conn: ConnId,
        slot: u32,
        boot: Option<&str>,
    ) -> Option<EventKind> {
        let host = self.hosts.get(slot)?;
        let older = host.identified().filter(|older| *older != conn)?;
        let reference = self.hosts.reference(slot)?;
        let differs = host.boot().zip(boot).map(|(one, other)| one != other);
        let is_first = self.quarantine.is_duplicate(reference, differs, cx.at.now);
        is_first.then(|| EventKind::Duplicate {
            host: host.id(),
            reason: reason(self.sessions.peer(older), self.sessions.peer(conn)),
        })
    }
}

fn reason(before: Peer, now: Peer) -> String {
    format!("held by {}, claimed by {}", before.address(), now.address())
}
