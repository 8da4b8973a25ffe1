//! States of hosts in a task that no report has written.

use redis::Cmd;

use super::Context;
use super::dispatch::expire;
use super::errors::Fault;
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step};
use crate::ids::{HostId, TaskKey};
use crate::limits::REDIS_MEMBERS_MAX;
use crate::store::op::{self, Outcome, TaskState};
use crate::store::records::followed_by;
use crate::store::schema;

/// The command that sets these states, of hosts that the task names and that are not beyond them.
pub(super) fn set_states(key: &TaskKey, states: &[(HostId, TaskState)]) -> Cmd {
    let mut set = Script::State.on(&schema::task_hosts(key));
    for (host, state) in states {
        let before = followed_by(*state);
        set.arg(host.as_str()).arg(state.as_str()).arg(before);
    }
    set
}

/// States of hosts in a task.
pub(super) struct States<'a> {
    pub(super) context: &'a Context,
    pub(super) op: &'a op::TaskStates,
}

impl Job for States<'_> {
    fn encode(&mut self, step: &mut Step) {
        let op = self.op;
        for states in op.states.chunks(REDIS_MEMBERS_MAX) {
            step.one(0, set_states(&op.key, states));
        }
        if op.over {
            for (host, _) in &op.states {
                for name in schema::of_host_in_task(&op.key, host) {
                    step.one(1, expire(self.context, &name));
                }
            }
        }
        if op.over && op.last {
            // After those of the hosts: a start looks at these to see whether all of it expires.
            for name in schema::of_whole_task(&op.key) {
                step.one(2, expire(self.context, &name));
            }
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        replies.rest_good()?;
        Ok(StepResult::Done(Some(Outcome::StatesWritten)))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        log::warn!("states in task {} cannot be written: {why}", self.op.key);
        Some(Outcome::StatesWritten)
    }
}
