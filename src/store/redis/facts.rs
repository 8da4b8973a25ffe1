//! Operations of one step that concern one host, or the fleet: inventory, last-seen times,
//! membership in `exists`, and the fleet's own events.

use super::Context;
use super::errors::Fault;
use super::events::Entry;
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Shared, Step};
use crate::ids::HostId;
use crate::store::op::{self, Outcome};
use crate::store::schema;
use crate::time::UnixMs;

/// Inventory of a host. A newer report replaces the older one.
pub(super) struct Inventory<'a> {
    pub(super) context: &'a Context,
    pub(super) op: &'a op::Inventory,
}

impl Inventory<'_> {
    fn outcome(&self, result: Result<(), String>) -> Option<Outcome> {
        Some(Outcome::Inventory {
            origins: self.op.origins.clone(),
            ticket: self.op.ticket,
            result,
        })
    }
}

impl Job for Inventory<'_> {
    fn encode(&mut self, step: &mut Step) {
        let op = self.op;
        let mut values = Script::ReplaceSet.on(&schema::system_info(&op.host));
        values.arg(&op.values);
        step.one(0, values);
        let mut addresses = Script::ReplaceList.on(&schema::system_info_ipv4(&op.host));
        addresses.arg(&op.addresses);
        step.one(0, addresses);
        let mut describe = Script::Describe.on(&schema::host(&op.host));
        describe
            .arg(&self.context.node)
            .arg(op.hostname.as_deref().unwrap_or_default())
            .arg(op.mac.as_deref().unwrap_or_default());
        step.one(0, describe);
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        replies.rest_good()?;
        Ok(StepResult::Done(self.outcome(Ok(()))))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        self.outcome(Err(why))
    }
}

/// Last-seen times. A refusal is only logged: the next times follow in a second.
pub(super) struct Seen<'a>(pub(super) &'a [(HostId, UnixMs)]);

impl Job for Seen<'_> {
    fn encode(&mut self, step: &mut Step) {
        step.expect_seen(0, self.0.len());
        for (host, at) in self.0 {
            step.seen(0, host, at.0);
        }
    }

    fn on_replies(&mut self, _: Replies) -> Result<StepResult, Fault> {
        Ok(StepResult::Done(Some(Outcome::Seen)))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        log::warn!("when hosts were last seen cannot be written: {why}");
        Some(Outcome::Seen)
    }
}

/// Hosts of ours that must all be in `exists`.
pub(super) struct Audit<'a>(pub(super) &'a [HostId]);

impl Job for Audit<'_> {
    fn encode(&mut self, step: &mut Step) {
        for host in self.0 {
            step.shared(0, Shared::ExistsAdd, host);
        }
    }

    fn on_replies(&mut self, _: Replies) -> Result<StepResult, Fault> {
        Ok(StepResult::Done(Some(Outcome::Audited)))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        log::warn!("the hosts online cannot be written: {why}");
        Some(Outcome::Audited)
    }
}

/// An event of the fleet itself.
pub(super) struct Notice<'a> {
    pub(super) context: &'a Context,
    pub(super) op: &'a op::Notice,
}

impl Job for Notice<'_> {
    fn encode(&mut self, step: &mut Step) {
        let mut entry = Entry::new(self.op.event, self.op.stamp);
        entry.about = self.op.about.as_deref();
        entry.state = self.op.state;
        entry.reason = self.op.reason.as_deref();
        entry.count = self.op.count;
        step.one(0, entry.append(&self.context.node));
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        replies.rest_good()?;
        Ok(StepResult::Done(None))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        log::warn!("the event {} cannot be written: {why}", self.op.event);
        None
    }
}
