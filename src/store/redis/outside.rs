//! State of devices and targets.

use super::errors::Fault;
use super::run::{Job, StepResult};
use super::step::{Replies, Step};
use crate::limits::REDIS_MEMBERS_MAX;
use crate::store::op::{Outcome, Outside};
use crate::store::schema;

/// Fields of a hash.
pub(super) struct Fields<'a>(pub(super) &'a Outside);

impl Job for Fields<'_> {
    fn encode(&mut self, step: &mut Step) {
        let key = schema::outside(&self.0.place);
        if self.0.whole {
            let mut del = redis::cmd("DEL");
            del.arg(&key);
            step.one(0, del);
        }
        for removed in self.0.removed.chunks(REDIS_MEMBERS_MAX) {
            let mut hdel = redis::cmd("HDEL");
            hdel.arg(&key).arg(removed);
            step.one(1, hdel);
        }
        for set in self.0.set.chunks(REDIS_MEMBERS_MAX) {
            let mut hset = redis::cmd("HSET");
            hset.arg(&key);
            for (field, text) in set {
                hset.arg(field).arg(text);
            }
            step.one(1, hset);
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        replies.rest_good()?;
        Ok(StepResult::Done(None))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        let key = schema::outside(&self.0.place);
        log::warn!("{key} cannot be written: {why}");
        None
    }
}
