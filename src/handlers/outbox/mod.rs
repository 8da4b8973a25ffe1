//! The outbox: what the store must still be given.

pub(crate) mod changes;
pub(crate) mod pull;
pub(crate) mod writes;

use crate::handlers::context::Ctx;
use crate::handlers::core::SEEN_ROUND;
use crate::store::op::Notice;
use crate::time::Instant;

use self::writes::Writes;

/// Pending writes, and when the next rounds of them come.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) writes: Writes,
    pub(crate) seen_due: Option<Instant>,
    pub(crate) audit_due: Option<Instant>,
}

impl Outbox {
    /// Notes that the connection in `slot` has sent a message. Returns whether this set a deadline.
    pub(crate) fn note_seen(&mut self, slot: u32, now: Instant) -> bool {
        let is_first = self.writes.beaten.insert(slot) && self.seen_due.is_none();
        if is_first {
            self.seen_due = Some(now + SEEN_ROUND);
        }
        is_first
    }

    /// Returns whether all state has been sent and settled.
    pub(crate) fn is_settled(&self) -> bool {
        !self.writes.has_state() && self.writes.presence_in_flight == 0
    }

    /// Publishes an event of the fleet, for the store.
    pub(crate) fn notice(&mut self, cx: &mut Ctx<'_>, notice: Notice) {
        if self.writes.notice(notice) {
            cx.stats.notices_dropped += 1;
        }
    }
}
