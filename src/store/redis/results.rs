//! Questions about tasks: the progress of hosts, results of commands, a whole task.

use redis::Value;

use super::Context;
use super::errors::Fault;
use super::inbox::{Command, HoldersOf, Keepers, Open, Others, Part};
use super::progress::{hget, lrange};
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step, texts};
use super::tasks::{commands_of, hosts_of, read_book};
use crate::ids::{HostId, TaskKey};
use crate::limits::{READ_HOSTS_PER_STEP_MAX, READ_OUTPUT_BYTES_MAX};
use crate::store::op::history::unpack;
use crate::store::op::{FleetHistory, Found, FoundHost, HeldTask, Outcome, Question, Read};
use crate::store::records::{Claim, SHOWN_CHARS, found_result, skipped_result, whole_output};
use crate::store::schema;

fn found(ticket: u64, found: Found) -> StepResult {
    StepResult::Done(Outcome::Read { ticket, found })
}

/// The job of a question.
pub(super) fn read<'a>(context: &'a Context, op: &'a Read) -> Box<dyn Job + 'a> {
    let ticket = op.ticket;
    match &op.question {
        Question::Task { key, hosts } => {
            Box::new(Task::new(ticket, key.as_str(), Some(key), hosts))
        }
        Question::Command { cid, hosts } => Box::new(Task::new(ticket, cid, None, hosts)),
        Question::CommandRecord { cid } => Box::new(Command {
            ticket,
            cid,
            entry: None,
        }),
        Question::TakeCommand { cid, entry } => Box::new(Command {
            ticket,
            cid,
            entry: Some((schema::node_inbox(&context.node), entry)),
        }),
        Question::Whole { key } => Box::new(Whole { ticket, key }),
        Question::Results {
            key,
            command,
            hosts,
        } => Box::new(Digests {
            ticket,
            key,
            command,
            hosts,
        }),
        Question::Transitions { hosts } => Box::new(Transitions { ticket, hosts }),
        Question::Part {
            key,
            hosts,
            with_holders,
        } => Box::new(Part::new(ticket, key, hosts, *with_holders)),
        Question::Open { hosts } => Box::new(Open::new(ticket, hosts)),
        Question::Keepers { keys } => Box::new(Keepers { ticket, keys }),
        Question::Holders { hosts } => Box::new(HoldersOf::new(context, ticket, hosts)),
        Question::Others { cursor } => Box::new(Others::new(context, ticket, cursor.as_ref())),
        Question::FleetHistory { from } => Box::new(Fleet {
            ticket,
            from: *from,
        }),
        Question::Nodes => Box::new(super::nodes::All::new(ticket)),
        Question::Outside { devices } => Box::new(super::outside::All::new(ticket, devices)),
        Question::Hosts { hosts } => Box::new(super::hosts::Named::new(ticket, hosts)),
        Question::Scan(scan) => Box::new(super::hosts::Scan::new(ticket, scan)),
        Question::Output {
            code,
            host,
            command,
        } => Box::new(Output {
            ticket,
            code,
            host,
            command,
        }),
    }
}

/// A task as it is stored.
struct Whole<'a> {
    ticket: u64,
    key: &'a TaskKey,
}

impl Job for Whole<'_> {
    fn encode(&mut self, step: &mut Step) {
        step.one(0, cmd!("GET", schema::task(self.key)));
        step.one(0, read_book(self.key));
        step.one(0, cmd!("HGETALL", schema::task_hosts(self.key)));
        step.one(0, cmd!("GET", schema::task_rollout(self.key)));
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let claim = replies.text()?;
        let commands = commands_of(replies.value()?)?;
        let hosts = hosts_of(replies.value()?)?;
        let rollout = replies.text()?;
        let claim = claim.and_then(|text| Claim::parse(&text));
        let whole = claim.filter(|_| !commands.is_empty() && !hosts.is_empty());
        // It is only shown: when it expires does not matter.
        let task = whole.map(|claim| {
            Box::new(HeldTask {
                rollout,
                ..claim.task(self.key, commands, hosts, true)
            })
        });
        Ok(found(self.ticket, Found::Whole(task)))
    }
}

/// Progress of some hosts in a task.
struct Task<'a> {
    ticket: u64,
    code: &'a str,
    /// The task; none for a console command, which has no lists.
    key: Option<&'a TaskKey>,
    hosts: &'a [HostId],
    found: Vec<FoundHost>,
    /// Characters of outputs that may still be read.
    room: usize,
}

impl<'a> Task<'a> {
    fn new(ticket: u64, code: &'a str, key: Option<&'a TaskKey>, hosts: &'a [HostId]) -> Self {
        Self {
            ticket,
            code,
            key,
            hosts,
            found: Vec::with_capacity(hosts.len()),
            room: READ_OUTPUT_BYTES_MAX,
        }
    }

    /// The hosts of the next step.
    fn next(&self) -> &'a [HostId] {
        let left = &self.hosts[self.found.len()..];
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
            // An upper bound: not all of the text is output.
            self.room = self.room.saturating_sub(text.len());
            match found_result(command, text, SHOWN_CHARS) {
                Some(result) => host.results.push(result),
                None => skipped_result(self.code),
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
            return step.one(0, cmd!("PING"));
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
            self.found.push(host);
        }
        Ok(if self.found.len() == self.hosts.len() {
            let hosts = std::mem::take(&mut self.found);
            found(self.ticket, Found::Task(hosts))
        } else {
            StepResult::More
        })
    }
}

/// The whole output of a command on a host.
struct Output<'a> {
    ticket: u64,
    code: &'a str,
    host: &'a HostId,
    command: &'a str,
}

impl Job for Output<'_> {
    fn encode(&mut self, step: &mut Step) {
        let results = schema::task_result(self.code, self.host);
        step.one(0, cmd!("HGET", results, self.command));
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let text = match replies.value()? {
            Value::Nil => return Ok(found(self.ticket, Found::Output(None))),
            value => super::step::text(value)?.unwrap_or_default(),
        };
        let output = whole_output(&text);
        let output = output.ok_or_else(|| Fault::Own("what is stored is no result".to_owned()))?;
        Ok(found(self.ticket, Found::Output(Some(output))))
    }
}

/// Stored transitions of some hosts.
struct Transitions<'a> {
    ticket: u64,
    hosts: &'a [HostId],
}

impl Job for Transitions<'_> {
    fn encode(&mut self, step: &mut Step) {
        if self.hosts.is_empty() {
            step.one(0, cmd!("PING"));
        }
        for host in self.hosts {
            step.one(0, cmd!("GET", schema::history(host)));
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let mut all = Vec::with_capacity(self.hosts.len());
        for _ in self.hosts {
            all.push(match replies.value()? {
                Value::BulkString(bytes) => unpack(&bytes),
                _ => Vec::new(),
            });
        }
        Ok(found(self.ticket, Found::Transitions(all)))
    }
}

/// Counts of hosts online, and the runs of all nodes.
struct Fleet {
    ticket: u64,
    from: u64,
}

impl Job for Fleet {
    fn encode(&mut self, step: &mut Step) {
        step.one(0, cmd!("HGETALL", schema::HISTORY));
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let fields = texts(replies.value()?)?;
        let mut history = FleetHistory::default();
        for field in fields.chunks_exact(2) {
            history.add_since(self.from, &field[0], &field[1]);
        }
        Ok(found(self.ticket, Found::FleetHistory(Box::new(history))))
    }
}

/// Results of one command on some hosts, without their outputs.
struct Digests<'a> {
    ticket: u64,
    key: &'a TaskKey,
    command: &'a str,
    hosts: &'a [HostId],
}

impl Job for Digests<'_> {
    fn encode(&mut self, step: &mut Step) {
        if self.hosts.is_empty() {
            step.one(0, cmd!("PING"));
        }
        for host in self.hosts {
            let hash = schema::task_result(self.key.as_str(), host);
            let mut results = Script::Results.on(&hash);
            results.arg(0).arg(0);
            step.one(0, results);
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let mut all = Vec::with_capacity(self.hosts.len());
        for _ in self.hosts {
            let fields = texts(replies.value()?)?;
            let mut pairs = fields.chunks_exact(2);
            let own = pairs.find(|pair| pair[0] == self.command);
            all.push(own.and_then(|pair| found_result(&pair[0], &pair[1], 0)));
        }
        Ok(found(self.ticket, Found::Results(all)))
    }
}
