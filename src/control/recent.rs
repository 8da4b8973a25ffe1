//! The last events, for a client that comes after they happened.

use std::collections::VecDeque;

use serde::Serialize;

use crate::handlers::effect;
use crate::limits::EVENTS_RECENT_MAX;

use super::json::Event;

/// The last events, the oldest first; when full the oldest goes.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<effect::Event>);

/// Some of them as they are shown.
#[derive(Debug, Serialize)]
pub struct Events<'a> {
    /// The oldest first.
    pub events: Vec<Event<'a>>,
}

impl Recent {
    /// Keeps an event.
    pub fn push(&mut self, event: &effect::Event) {
        if self.0.len() == EVENTS_RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event.clone());
    }

    /// The last `limit` events, as raised by `node`.
    #[must_use]
    pub fn last<'a>(&'a self, limit: usize, node: &'a str) -> Events<'a> {
        let skipped = self.0.len().saturating_sub(limit);
        let shown = self.0.iter().skip(skipped);
        Events {
            events: shown.map(|event| Event::of(event, node)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::effect::EventKind;
    use crate::store::op::Stamp;
    use crate::time::UnixMs;

    #[test]
    fn the_last_events_are_kept_and_no_more() {
        let mut recent = Recent::default();
        assert!(recent.last(10, "n").events.is_empty());
        for seq in 0..=EVENTS_RECENT_MAX as u64 {
            let stamp = Stamp {
                at: UnixMs(seq),
                seq,
            };
            let kind = EventKind::MassOffline { count: seq };
            recent.push(&effect::Event { stamp, kind });
        }
        let of = |limit| {
            let shown = recent.last(limit, "n").events;
            let seqs = shown.iter().map(|event| event.seq);
            seqs.collect::<Vec<u64>>()
        };
        assert_eq!(of(usize::MAX).len(), EVENTS_RECENT_MAX);
        assert_eq!(of(usize::MAX)[0], 1);
        let last = EVENTS_RECENT_MAX as u64;
        assert_eq!(of(2), [last - 1, last]);
    }
}
