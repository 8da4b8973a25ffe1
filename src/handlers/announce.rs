//! Events of devices and targets, numbered like the core's own.

use crate::store::op::Notice;

use super::Moment;
use crate::handlers::core::{Core, StoreState};
use crate::handlers::effect::{Effects, EventKind};
use crate::handlers::outside::News;

impl Core {
    /// Tells of a change of a device or a target.
    pub fn announce(&mut self, at: Moment, news: News, fx: &mut Effects) {
        self.calm.stir();
        let stamp = self.stamp(at);
        let (event, about, state, reason) = match &news {
            News::Device {
                name,
                state,
                reason,
            } => ("device", name.to_string(), *state, reason.clone()),
            News::Target { target, state } => ("reach", target.clone(), *state, None),
        };
        self.notice(Notice {
            event,
            about: Some(about),
            state: Some(state),
            reason,
            count: None,
            stamp,
        });
        self.tell(stamp, EventKind::Outside(news), fx);
    }

    /// Number of the store connection, while there is one: a batch carries it.
    #[must_use]
    pub fn store_session(&self) -> Option<u32> {
        let is_up = matches!(self.store, StoreState::Up);
        is_up.then_some(self.stats.store_sessions as u32)
    }
}
