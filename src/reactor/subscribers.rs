//! Subscribers to events inside this process. The loop never waits for a subscriber: an event that
//! does not fit into its channel is lost for it, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use crate::handlers::effect::Event;
use crate::limits::SUBSCRIBERS_MAX;

#[derive(Debug)]
struct Subscriber {
    events: Sender<Event>,
    missed: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
pub struct Subscribers {
    list: Vec<Subscriber>,
}

impl Subscribers {
    /// Adds a subscriber. If there are too many it is dropped at once, which ends its channel.
    pub fn add(&mut self, events: Sender<Event>, missed: Arc<AtomicU64>) {
        if self.list.len() < SUBSCRIBERS_MAX {
            self.list.push(Subscriber { events, missed });
        } else {
            log::warn!(target: "subscribers", "more than {SUBSCRIBERS_MAX}; one is refused");
        }
    }

    /// Sends an event to all; returns the number of subscribers that missed it. Disconnected ones
    /// are removed.
    pub fn notify(&mut self, event: &Event) -> u64 {
        let mut missed = 0;
        self.list
            .retain(|to| match to.events.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    to.missed.fetch_add(1, Ordering::Relaxed);
                    missed += 1;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            });
        missed
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::effect::EventKind;
    use crate::store::op::Stamp;
    use crate::time::UnixMs;
    use crossbeam_channel::bounded;

    fn event(seq: u64) -> Event {
        let stamp = Stamp { at: UnixMs(0), seq };
        let kind = EventKind::MassOffline { count: 1 };
        Event {
            stamp,
            kind,
            passing: false,
        }
    }

    #[test]
    fn only_a_slow_subscriber_misses_events() {
        let mut subscribers = Subscribers::default();
        let (slow, slow_end) = bounded(1);
        let (quick, quick_end) = bounded(10);
        let missed = Arc::new(AtomicU64::new(0));
        subscribers.add(slow, Arc::clone(&missed));
        subscribers.add(quick, Arc::default());
        let lost: u64 = (0..5).map(|seq| subscribers.notify(&event(seq))).sum();
        assert_eq!((lost, missed.load(Ordering::Relaxed)), (4, 4));
        assert_eq!(slow_end.try_iter().count(), 1);
        assert_eq!(quick_end.try_iter().count(), 5);
    }

    #[test]
    fn subscribers_have_a_bound() {
        let mut subscribers = Subscribers::default();
        let ends: Vec<_> = (0..=SUBSCRIBERS_MAX)
            .map(|_| {
                let (events, end) = bounded(1);
                subscribers.add(events, Arc::default());
                end
            })
            .collect();
        assert_eq!(subscribers.len(), SUBSCRIBERS_MAX);
        drop(ends);
        subscribers.notify(&event(1));
        assert_eq!(subscribers.len(), 0);
    }
}
