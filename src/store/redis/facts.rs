//! Operations of one step: inventory, last-seen times, membership in `exists`, the fleet's own
//! events, answers and results of hosts, states in tasks, and the state of devices and targets.

use super::Context;
use super::errors::Fault;
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Shared, Step};
use crate::ids::{HostId, TaskKey};
use crate::limits::{HISTORY_DAYS, HISTORY_RUNS_MAX, REDIS_MEMBERS_MAX};
use crate::store::events::StreamEvent;
use crate::store::op::{
    Answer, HistoryRow, Inventory, LabelPlace, Labels, Lifetime, Outcome, RolloutText, TaskResult,
    TaskState, TaskStates, history,
};
use crate::store::records::{followed_by, has_entered, result_text};
use crate::store::schema;
use crate::time::UnixMs;

/// Inventory of a host. A newer report replaces the older one.
pub(super) fn inventory(context: &Context, op: &Inventory, step: &mut Step) {
    let mut values = Script::ReplaceSet.on(&schema::system_info(&op.host));
    step.one(0, values.arg(&op.values).take());
    let mut addresses = Script::ReplaceList.on(&schema::system_info_ipv4(&op.host));
    step.one(0, addresses.arg(&op.addresses).take());
    let mut describe = Script::Describe.on(&schema::host(&op.host));
    describe
        .arg(&context.node)
        .arg(op.hostname.as_deref().unwrap_or_default())
        .arg(op.mac.as_deref().unwrap_or_default());
    step.one(0, describe);
}

/// Labels of a host, from one source.
pub(super) fn labels(op: &Labels, step: &mut Step) {
    let (key, name) = match op.place {
        LabelPlace::Admin => (schema::LABELS.to_owned(), op.host.as_str()),
        LabelPlace::Host => (schema::host(&op.host), schema::field::LABELS),
    };
    step.one(
        0,
        match &op.text {
            Some(text) => cmd!("HSET", key, name, text),
            None => cmd!("HDEL", key, name),
        },
    );
}

/// Last-seen times.
pub(super) fn seen(hosts: &[(HostId, UnixMs)], step: &mut Step) {
    for (host, at) in hosts {
        step.seen(0, host, at.0);
    }
}

/// Hosts of this node, which must all be in `exists`.
pub(super) fn audit(hosts: &[HostId], step: &mut Step) {
    for host in hosts {
        step.shared(0, Shared::ExistsAdd, host.as_str());
    }
}

/// An ADH33 about a task key.
pub(super) fn answer(context: &Context, op: &Answer, step: &mut Step) {
    if op.rcc == 1 {
        let response = schema::response(&op.key);
        step.one(0, cmd!("SREM", response, op.host.as_str()));
    }
    if !op.again {
        step.one(1, context.append(&StreamEvent::answer(op)));
    }
    if let Some(state) = op.state {
        step.one(2, set_states(&op.key, &[(op.host.clone(), state)]));
    }
}

/// An ADH43. The same task, host and command replaces itself.
pub(super) fn result(context: &Context, op: &TaskResult, step: &mut Step) {
    let name = schema::task_result(&op.code, &op.host);
    step.one(0, cmd!("HSET", &name, &op.command, result_text(op)));
    if op.lifetime != Lifetime::Open {
        step.one(0, context.expire(&name));
    }
    step.one(1, context.append(&StreamEvent::result(op)));
}

/// Target and rollout of a task.
pub(super) struct Rollout<'a>(pub(super) &'a RolloutText);

impl Job for Rollout<'_> {
    fn encode(&mut self, step: &mut Step) {
        let mut write = Script::Rollout.on(&schema::task_rollout(&self.0.key));
        step.one(0, write.arg(&self.0.text).arg(self.0.epoch).take());
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        Ok(StepResult::Done(Outcome::Rollout {
            key: self.0.key.clone(),
            is_ours: replies.int()? == 1,
        }))
    }
}

/// States of hosts in a task that no report has written.
pub(super) fn states(context: &Context, op: &TaskStates, step: &mut Step) {
    for states in op.states.chunks(REDIS_MEMBERS_MAX) {
        step.one(0, set_states(&op.key, states));
    }
    // A host whose wave has begun is awaited, a cancelled one is not.
    let of = |wanted: fn(TaskState) -> bool| {
        let some = op.states.iter().filter(move |(_, state)| wanted(*state));
        some.map(|(host, _)| host.as_str()).collect::<Vec<&str>>()
    };
    let (entered, cancelled) = (of(has_entered), of(|state| state == TaskState::Cancelled));
    for (verb, hosts) in [("SADD", entered), ("SREM", cancelled)] {
        for hosts in hosts
            .chunks(REDIS_MEMBERS_MAX)
            .filter(|_| !op.over || verb == "SREM")
        {
            step.one(0, cmd!(verb, schema::response(&op.key), hosts));
        }
    }
    if op.over {
        for (host, _) in &op.states {
            for name in schema::of_host_in_task(&op.key, host) {
                step.one(1, context.expire(&name));
            }
        }
    }
    if op.over && op.last {
        // After those of the hosts: a start looks at these to see whether all of it expires.
        for name in schema::of_whole_task(&op.key) {
            step.one(2, context.expire(&name));
        }
        step.one(2, close(&op.key));
    }
}

/// The command that takes a task out of the open ones.
pub(super) fn close(key: &TaskKey) -> redis::Cmd {
    cmd!("SREM", schema::TASKS_OPEN, key.as_str())
}

/// The command that sets these states, of hosts that the task names and that are not beyond them.
pub(super) fn set_states(key: &TaskKey, states: &[(HostId, TaskState)]) -> redis::Cmd {
    let mut set = Script::State.on(&schema::task_hosts(key));
    for (host, state) in states {
        let before = followed_by(*state);
        set.arg(host.as_str()).arg(state.as_str()).arg(before);
    }
    set
}

/// Counts of hosts online, and the time of this run.
pub(super) fn counts(context: &Context, op: &HistoryRow, step: &mut Step) {
    let node = &context.node;
    let mut add = Script::Counts.on(schema::HISTORY);
    add.arg(history::hour_field(node, op.hour))
        .arg(history::counts_text(&op.counts))
        .arg(history::runs_field(node))
        .arg(history::runs_text(&[op.run]))
        .arg(HISTORY_RUNS_MAX)
        .arg(op.hour.saturating_sub(24 * HISTORY_DAYS))
        .arg(u8::from(op.is_first()));
    step.one(0, add);
}
