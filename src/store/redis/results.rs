//! Results of commands: written as they arrive, and read with the progress of the hosts.

use redis::Value;

use super::Context;
use super::dispatch::expire;
use super::errors::Fault;
use super::events::Entry;
use super::progress::{hget, lrange};
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step, texts};
use super::tasks::{commands_of, hosts_of};
use crate::ids::{HostId, TaskKey};
use crate::limits::{READ_HOSTS_PER_STEP_MAX, READ_OUTPUT_BYTES_MAX};
use crate::store::op::{self, Found, FoundHost, HeldTask, Lifetime, Outcome};
use crate::store::records::{Claim, SHOWN_CHARS, found_result, result_text, whole_output};
use crate::store::schema::{self, event};
use crate::time::UnixMs;

/// An ADH43. The same task, host and command replaces itself.
pub(super) struct Arrived<'a> {
    context: &'a Context,
    op: &'a op::TaskResult,
    /// As it is to be stored, or why it cannot be.
    text: Result<String, String>,
}

impl<'a> Arrived<'a> {
    pub(super) fn new(context: &'a Context, op: &'a op::TaskResult) -> Self {
        Self {
            context,
            op,
            text: result_text(op).map_err(|error| error.to_string()),
        }
    }

    fn outcome(&self, result: Result<(), String>) -> Option<Outcome> {
        Some(Outcome::Report {
            origin: self.op.origin,
            result,
        })
    }
}

impl Job for Arrived<'_> {
    fn encode(&mut self, step: &mut Step) {
        let op = self.op;
        let Ok(text) = &self.text else {
            return step.one(0, redis::cmd("PING"));
        };
        let name = schema::task_result(&op.code, &op.host);
        let mut write = redis::cmd("HSET");
        write.arg(&name).arg(&op.command).arg(text);
        step.one(0, write);
        if op.lifetime != Lifetime::Open {
            step.one(0, expire(self.context, &name));
        }
        let mut entry = Entry::new(event::RESULT, op.stamp);
        entry.host = Some(&op.host);
        entry.key = Some(&op.code);
        entry.command = Some(&op.command);
        step.one(1, entry.append(&self.context.node));
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        replies.rest_good()?;
        let result = self.text.as_ref().map(drop).map_err(Clone::clone);
        Ok(StepResult::Done(self.outcome(result)))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        self.outcome(Err(why))
    }
}

fn found(ticket: u64, found: Found) -> Option<Outcome> {
    Some(Outcome::Read { ticket, found })
}

/// A task as it is stored.
pub(super) struct Whole<'a> {
    pub(super) ticket: u64,
    pub(super) key: &'a TaskKey,
}

impl Job for Whole<'_> {
    fn encode(&mut self, step: &mut Step) {
        let mut claim = redis::cmd("GET");
        step.one(0, claim.arg(schema::task(self.key)).take());
        let mut book = redis::cmd("ZREVRANGE");
        book.arg(schema::book(self.key)).arg(0).arg(-1);
        step.one(0, book.arg("WITHSCORES").take());
        let mut hosts = redis::cmd("HGETALL");
        step.one(0, hosts.arg(schema::task_hosts(self.key)).take());
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let claim = replies.text()?;
        let commands = commands_of(replies.value()?)?;
        let hosts = hosts_of(replies.value()?)?;
        let claim = claim.and_then(|text| Claim::parse(&text));
        let whole = claim.filter(|_| !commands.is_empty() && !hosts.is_empty());
        let task = whole.map(|claim| {
            Box::new(HeldTask {
                key: self.key.clone(),
                created: UnixMs(claim.created),
                queue: claim.queue,
                request: claim.request.parse().unwrap_or_default(),
                commands,
                hosts,
                // Only looked at.
                expires: true,
            })
        });
        Ok(StepResult::Done(found(self.ticket, Found::Whole(task))))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        found(self.ticket, Found::Nothing(why))
    }
}

/// Progress of some hosts in a task.
pub(super) struct Task<'a> {
    ticket: u64,
    code: &'a str,
    /// The task; none for a console command, which has no lists.
    key: Option<&'a TaskKey>,
    hosts: &'a [HostId],
    told: Vec<FoundHost>,
    /// Number of characters of outputs that may still be read.
    room: usize,
}

impl<'a> Task<'a> {
    /// Reads the progress in a task.
    pub(super) fn of_task(ticket: u64, key: &'a TaskKey, hosts: &'a [HostId]) -> Self {
        Self::new(ticket, key.as_str(), Some(key), hosts)
    }

    /// Reads the outputs of a console command.
    pub(super) fn of_command(ticket: u64, cid: &'a str, hosts: &'a [HostId]) -> Self {
        Self::new(ticket, cid, None, hosts)
    }

    fn new(ticket: u64, code: &'a str, key: Option<&'a TaskKey>, hosts: &'a [HostId]) -> Self {
        Self {
            ticket,
            code,
            key,
            hosts,
            told: Vec::with_capacity(hosts.len()),
            room: READ_OUTPUT_BYTES_MAX,
        }
    }

    /// The hosts of the next step.
    fn next(&self) -> &'a [HostId] {
        let left = &self.hosts[self.told.len()..];
        &left[..left.len().min(READ_HOSTS_PER_STEP_MAX)]
    }

    fn read(&mut self, replies: &mut Replies) -> Result<FoundHost, Fault> {
        let mut host = FoundHost::default();
        if self.key.is_some() {
            host.working = replies.text()?;
            host.complete = replies.texts()?;
            host.oncall = replies.texts()?;
            // Stored last first.
            host.oncall.reverse();
        }
        let fields = texts(replies.value()?)?;
        for field in fields.chunks_exact(2) {
            let (command, text) = (&field[0], &field[1]);
            // Not all of it is output; it is an upper bound all the same.
            self.room = self.room.saturating_sub(text.len());
            match found_result(command, text, SHOWN_CHARS) {
                Some(result) => host.results.push(result),
                None => log::warn!("a result of task {} is none and left out", self.code),
            }
        }
        host.results.sort_by(|a, b| a.command.cmp(&b.command));
        Ok(host)
    }
}

impl Job for Task<'_> {
    fn encode(&mut self, step: &mut Step) {
        let hosts = self.next();
        if hosts.is_empty() {
            return step.one(0, redis::cmd("PING"));
        }
        let each = self.room / hosts.len();
        for host in hosts {
            if let Some(key) = self.key {
                step.one(0, hget(&schema::working(key), host));
                step.one(0, lrange(&schema::complete(key, host)));
                step.one(0, lrange(&schema::oncall(key, host)));
            }
            let mut results = Script::Results.on(&schema::task_result(self.code, host));
            results.arg(SHOWN_CHARS).arg(each);
            step.one(0, results);
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        for _ in self.next() {
            let host = self.read(&mut replies)?;
            self.told.push(host);
        }
        Ok(if self.told.len() == self.hosts.len() {
            let told = std::mem::take(&mut self.told);
            StepResult::Done(found(self.ticket, Found::Task(told)))
        } else {
            StepResult::More
        })
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        found(self.ticket, Found::Nothing(why))
    }
}

/// All that a command put out on a host.
pub(super) struct Output<'a> {
    pub(super) ticket: u64,
    pub(super) code: &'a str,
    pub(super) host: &'a HostId,
    pub(super) command: &'a str,
}

impl Job for Output<'_> {
    fn encode(&mut self, step: &mut Step) {
        let mut read = redis::cmd("HGET");
        read.arg(schema::task_result(self.code, self.host));
        step.one(0, read.arg(self.command).take());
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let text = match replies.value()? {
            Value::Nil => return Ok(StepResult::Done(found(self.ticket, Found::Output(None)))),
            value => super::step::text(value)?.unwrap_or_default(),
        };
        let output = whole_output(&text);
        let output = output.ok_or_else(|| Fault::Own("what is stored is no result".to_owned()))?;
        Ok(StepResult::Done(found(
            self.ticket,
            Found::Output(Some(output)),
        )))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        found(self.ticket, Found::Nothing(why))
    }
}
