//! How far a host has come with a task, and what it answered to a dispatch.
//!
//! ```text
//!  look ──▶ complete ──▶ oncall ──▶ working, names of the lists, clean-up, event
//!           (script)     (script)
//! ```
//!
//! Each list is merged by a script on that one key, so that saying a thing twice, or saying an older thing
//! after a newer one, changes nothing: what is done is only added to, and is never left to do again.

use redis::Cmd;

use super::Context;
use super::errors::Fault;
use super::events::Entry;
use super::run::{Heard, Job};
use super::scripts::Script;
use super::step::{Replies, Step, int, texts};
use crate::codec::message::Phase;
use crate::limits::COMPLETE_COMMANDS_MAX;
use crate::store::op::{self, Outcome};
use crate::store::schema::{self, event};

/// An ADH27.
pub(super) struct Progress<'a> {
    context: &'a Context,
    op: &'a op::Progress,
    stage: Coming,
    /// Whether a list has changed, or may have when this was written before and broke off.
    changed: bool,
    /// The fields the host has in the task's hashes.
    fields: Fields,
    /// What is done by now.
    complete: Vec<String>,
    /// Whether anything is left by now.
    left: bool,
}

/// How far the writing is.
enum Coming {
    /// The book's size and the host's fields are to be read.
    Look,
    /// What is done is to be merged; so many there may be.
    Complete(usize),
    /// What is left is to be merged.
    Oncall,
    /// The host's fields are to be written, and the event.
    Fields,
}

/// What the task's hashes hold for a host before the message.
#[derive(Default)]
struct Fields {
    working: Option<String>,
    complete: Option<String>,
    oncall: Option<String>,
}

impl<'a> Progress<'a> {
    /// `owed`: it was begun before and broke off, so its event may be missing.
    pub(super) fn new(context: &'a Context, op: &'a op::Progress, owed: bool) -> Self {
        Self {
            context,
            op,
            stage: Coming::Look,
            changed: owed,
            fields: Fields::default(),
            complete: Vec::new(),
            left: false,
        }
    }

    /// Whether the message says that nothing is left. A phase 3 only ever takes from what is left, so
    /// then there is nothing.
    fn ended(&self) -> bool {
        self.op.phase == Phase::Ended && self.op.oncall.is_empty()
    }

    fn look(&self, step: &mut Step) {
        let (key, host) = (&self.op.key, self.op.host.as_str());
        let mut size = redis::cmd("ZCARD");
        size.arg(schema::book(key));
        step.one(0, size);
        step.one(0, hget(&schema::working(key), host));
        step.one(0, hget(&schema::complete_names(key), host));
        step.one(0, hget(&schema::oncall_names(key), host));
    }

    fn merge_complete(&self, room: usize) -> Cmd {
        let op = self.op;
        let mut merge = Script::Complete.on(&schema::complete(&op.key, &op.host));
        merge.arg(room).arg(&op.complete);
        merge
    }

    fn merge_oncall(&self) -> Cmd {
        let op = self.op;
        let mut merge = Script::Oncall.on(&schema::oncall(&op.key, &op.host));
        merge
            .arg(u8::from(op.phase == Phase::Received))
            .arg(op.oncall.len())
            .arg(&op.oncall)
            .arg(&self.complete);
        merge
    }

    /// Brings the host's fields in line with its lists, and tells of it if anything is new.
    fn write_fields(&self, step: &mut Step) {
        let writes = match self.op.phase {
            Phase::Received => Vec::new(),
            Phase::Began => self.begin_working().into_iter().collect(),
            Phase::Ended if self.ended() => self.end_task(),
            Phase::Ended => self.end_command(),
        };
        let changed = self.changed || !writes.is_empty();
        for write in writes {
            step.one(0, write);
        }
        if self.ended() {
            self.expire(step);
        }
        if changed {
            step.one(1, self.entry().append(&self.context.node));
        }
    }

    fn begin_working(&self) -> Option<Cmd> {
        let command = self.op.working.as_deref()?;
        let news = self.fields.working.as_deref() != Some(command)
            && !self.complete.iter().any(|done| done == command);
        news.then(|| {
            hset(
                &schema::working(&self.op.key),
                self.op.host.as_str(),
                command,
            )
        })
    }

    /// A command ended and others are left.
    fn end_command(&self) -> Vec<Cmd> {
        let (key, host) = (&self.op.key, &self.op.host);
        let mut writes = Vec::new();
        if let Some(command) = &self.fields.working
            && self.complete.contains(command)
        {
            writes.push(self.leave_working(command));
        }
        writes.extend(self.name_complete());
        let list = schema::oncall(key, host);
        if self.left && self.fields.oncall.as_ref() != Some(&list) {
            writes.push(hset(&schema::oncall_names(key), host.as_str(), &list));
        }
        writes
    }

    /// The last command ended: what said what was left goes; what is done goes too where that is asked for.
    fn end_task(&self) -> Vec<Cmd> {
        let (key, host) = (&self.op.key, &self.op.host);
        let mut writes = Vec::new();
        if let Some(command) = &self.fields.working {
            writes.push(self.leave_working(command));
        }
        if self.fields.oncall.is_some() {
            writes.push(hdel(&schema::oncall_names(key), host.as_str()));
        }
        if !self.context.clear_on_done {
            writes.extend(self.name_complete());
            return writes;
        }
        if self.fields.complete.is_some() {
            writes.push(hdel(&schema::complete_names(key), host.as_str()));
        }
        if !self.complete.is_empty() {
            let mut del = redis::cmd("DEL");
            del.arg(schema::complete(key, host));
            writes.push(del);
        }
        writes
    }

    fn leave_working(&self, command: &str) -> Cmd {
        let mut ended = Script::Ended.on(&schema::working(&self.op.key));
        ended.arg(self.op.host.as_str()).arg(command);
        ended
    }

    fn name_complete(&self) -> Option<Cmd> {
        let list = schema::complete(&self.op.key, &self.op.host);
        let news = !self.complete.is_empty() && self.fields.complete.as_ref() != Some(&list);
        news.then(|| {
            hset(
                &schema::complete_names(&self.op.key),
                self.op.host.as_str(),
                &list,
            )
        })
    }

    fn expire(&self, step: &mut Step) {
        for name in schema::of_task(&self.op.key, &self.op.host) {
            let mut expire = redis::cmd("PEXPIRE");
            expire.arg(name).arg(self.context.keep_ms);
            step.one(1, expire);
        }
    }

    fn entry(&self) -> Entry<'a> {
        let op = self.op;
        let mut entry = Entry::new(event::PROGRESS, op.stamp);
        entry.host = Some(&op.host);
        entry.key = Some(&op.key);
        (entry.state, entry.command) = match op.phase {
            Phase::Received => (Some(event::ANSWERED), None),
            Phase::Began => (Some(event::WORKING), op.working.as_deref()),
            Phase::Ended => {
                let state = if self.ended() {
                    event::DONE
                } else {
                    event::WORKING
                };
                (Some(state), op.complete.last().map(String::as_str))
            }
        };
        entry
    }

    fn outcome(&self, result: Result<(), String>) -> Option<Outcome> {
        Some(Outcome::Report {
            origin: self.op.origin,
            result,
        })
    }
}

impl Job for Progress<'_> {
    fn ask(&mut self, step: &mut Step) {
        match self.stage {
            Coming::Look => self.look(step),
            Coming::Complete(room) => step.one(0, self.merge_complete(room)),
            Coming::Oncall => step.one(0, self.merge_oncall()),
            Coming::Fields => self.write_fields(step),
        }
    }

    fn hear(&mut self, mut replies: Replies) -> Result<Heard, Fault> {
        self.stage = match self.stage {
            Coming::Look => {
                let size = usize::try_from(replies.int()?).unwrap_or_default();
                self.fields = Fields {
                    working: replies.text()?,
                    complete: replies.text()?,
                    oncall: replies.text()?,
                };
                Coming::Complete(if size == 0 {
                    COMPLETE_COMMANDS_MAX
                } else {
                    size
                })
            }
            Coming::Complete(_) => {
                let (changed, list) = replies.pair()?;
                self.changed |= int(changed)? == 1;
                self.complete = texts(list)?;
                Coming::Oncall
            }
            Coming::Oncall => {
                let (changed, list) = replies.pair()?;
                self.changed |= int(changed)? == 1;
                self.left = !texts(list)?.is_empty();
                Coming::Fields
            }
            Coming::Fields => {
                replies.rest_good()?;
                return Ok(Heard::Done(self.outcome(Ok(()))));
            }
        };
        Ok(Heard::More)
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        self.outcome(Err(why))
    }
}

fn hget(key: &str, field: &str) -> Cmd {
    let mut command = redis::cmd("HGET");
    command.arg(key).arg(field);
    command
}

fn hset(key: &str, field: &str, value: &str) -> Cmd {
    let mut command = redis::cmd("HSET");
    command.arg(key).arg(field).arg(value);
    command
}

fn hdel(key: &str, field: &str) -> Cmd {
    let mut command = redis::cmd("HDEL");
    command.arg(key).arg(field);
    command
}

/// An ADH33 about a task key.
pub(super) struct Answer<'a> {
    pub(super) context: &'a Context,
    pub(super) op: &'a op::Answer,
}

impl Job for Answer<'_> {
    fn ask(&mut self, step: &mut Step) {
        let op = self.op;
        let state = match op.rcc {
            1 => event::ANSWERED,
            2 => event::NO_BOOK,
            _ => event::DAMAGED,
        };
        if op.rcc == 1 {
            let mut answered = redis::cmd("SREM");
            answered
                .arg(schema::response(&op.key))
                .arg(op.host.as_str());
            step.one(0, answered);
        }
        let mut entry = Entry::new(event::ANSWER, op.stamp);
        entry.host = Some(&op.host);
        entry.key = Some(&op.key);
        entry.state = Some(state);
        step.one(1, entry.append(&self.context.node));
    }

    fn hear(&mut self, mut replies: Replies) -> Result<Heard, Fault> {
        replies.rest_good()?;
        Ok(Heard::Done(Some(Outcome::Report {
            origin: self.op.origin,
            result: Ok(()),
        })))
    }

    fn refused(&self, why: String) -> Option<Outcome> {
        Some(Outcome::Report {
            origin: self.op.origin,
            result: Err(why),
        })
    }
}
