//! The inbox of this node, as the worker sees it: read at intervals while other nodes share the
//! store, often while something comes.
//!
//! An entry stays in the store until the core is done with it, so that none is lost in a crash. The
//! worker remembers which ones the core has.

use super::Clock;
use super::link::Link;
use crate::limits::{
    BELLS_IN_WORK_MAX, INBOX_BUSY_MS, INBOX_BUSY_S, INBOX_IDLE_MS, INBOX_REPLICATED_IDLE_MS,
    LETTER_AGE_S_MAX,
};
use crate::store::StoreError;
use crate::store::op::{Op, Outcome};
use crate::time::{Instant, Span};

/// State of the inbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    due: Instant,
    busy_until: Instant,
    /// The last entry that the core has.
    after: Option<String>,
    /// Time at which nothing was left last: entries that come now are younger.
    emptied: Option<Instant>,
    /// Number of entries that the core has and that are not deleted.
    in_work: usize,
}

impl Inbox {
    /// Time of the next reading; `None` while none is wanted.
    pub fn due(&self, is_shared: bool) -> Option<Instant> {
        (is_shared && self.in_work < BELLS_IN_WORK_MAX).then_some(self.due)
    }

    /// The store became unavailable: the core has forgotten the entries, and all are read again.
    pub fn interrupted(&mut self) {
        *self = Self::default();
    }

    /// These operations are settled. Those that ring other nodes have answers soon.
    pub fn settled(&mut self, ops: &[Op], now: Instant) {
        for op in ops {
            match op {
                Op::Rung(ids) => self.in_work = self.in_work.saturating_sub(ids.len()),
                Op::Ring(_) => self.hurry(now),
                Op::Dispatch(op) if !op.rings.is_empty() => self.hurry(now),
                _ => {}
            }
        }
    }

    fn hurry(&mut self, now: Instant) {
        self.busy_until = now + Span::from_secs(INBOX_BUSY_S);
        self.due = self.due.min(now + Span::from_millis(INBOX_BUSY_MS));
    }

    /// The inbox was empty at this time.
    pub fn was_empty(&mut self, at: Option<Instant>) {
        self.emptied = self.emptied.max(at);
    }

    /// Reads the inbox if that is due. Returns whether entries came.
    pub fn step(
        &mut self,
        link: &mut Link,
        clock: &dyn Clock,
        out: &mut Vec<Outcome>,
    ) -> Result<bool, StoreError> {
        let now = clock.now();
        let room = BELLS_IN_WORK_MAX.saturating_sub(self.in_work);
        if now < self.due || room == 0 {
            return Ok(false);
        }
        let after = self.after.as_deref();
        let mut bells = link.call(clock, |backend| backend.read_inbox(after, room))?;
        let age = Span::from_secs(LETTER_AGE_S_MAX);
        if self.emptied.is_none_or(|at| now.since(at) > age) {
            bells.iter_mut().for_each(|bell| bell.is_late = true);
        }
        if bells.len() < room {
            self.emptied = Some(now);
        }
        let idle = match link.is_replicated() {
            true => INBOX_REPLICATED_IDLE_MS,
            false => INBOX_IDLE_MS,
        };
        let idle = match now < self.busy_until {
            true => INBOX_BUSY_MS,
            false => idle,
        };
        self.due = now + Span::from_millis(idle);
        let Some(last) = bells.last() else {
            return Ok(false);
        };
        self.after = Some(last.id.clone());
        self.in_work += bells.len();
        self.hurry(now);
        out.push(Outcome::Bells(bells));
        Ok(true)
    }
}
