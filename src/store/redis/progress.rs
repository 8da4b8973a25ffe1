//! Progress of a host in a task.
//!
//! ```text
//!  look ──▶ complete ──▶ oncall ──▶ working, names of the lists, clean-up, event
//!   │       (script)     (script)
//!   └─ no change: done
//! ```
//!
//! A script merges each list on its one key, so that a repeated message, or an older one after a
//! newer one, changes nothing: the list of finished commands only grows, and a finished command
//! never returns to the list of remaining ones. [`merge`] has the same arithmetic.
//!
//! The host's state in the task is written last. In a terminal state all has been written, and
//! later messages change nothing. The exception is a missing list: a store that lost its data was
//! given the state again, but not yet the reports before it.

use redis::Cmd;

use super::Context;
use super::errors::Fault;
use super::facts::set_states;
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step};
use crate::codec::message::Phase;
use crate::ids::HostId;
use crate::limits::{COMPLETE_BYTES_MAX, COMPLETE_COMMANDS_MAX, STRAY_WINDOW_S};
use crate::store::events::StreamEvent;
use crate::store::op::{self, TaskState};
use crate::store::progress::{After, Before, merge};
use crate::store::records::is_final;
use crate::store::schema;

/// An ADH27.
pub(super) struct Progress<'a> {
    context: &'a Context,
    op: &'a op::Progress,
    stage: ProgressStep,
    /// An earlier run was interrupted: the event may be missing although all else is written.
    owed: bool,
    /// Greatest number of finished commands.
    room: usize,
    /// There is a task book.
    has_book: bool,
    /// For a host that has no part in the task: whether the task is stored.
    stray: Option<bool>,
    /// Content of the keys that have been read.
    known: Before,
}

/// Step of the write.
enum ProgressStep {
    /// Read the keys.
    Look,
    /// Merge the finished commands.
    Complete,
    /// Merge the remaining commands.
    Oncall,
    /// Write the host's fields and the event.
    Fields,
    /// Write only the host's state and the expiry.
    Renew,
}

impl<'a> Progress<'a> {
    /// `owed`: an earlier run was interrupted, so the event may be missing.
    pub(super) fn new(context: &'a Context, op: &'a op::Progress, owed: bool) -> Self {
        Self {
            context,
            op,
            stage: ProgressStep::Look,
            owed,
            room: COMPLETE_COMMANDS_MAX,
            has_book: false,
            stray: None,
            known: Before::default(),
        }
    }

    fn look(&self, step: &mut Step) {
        let (key, host) = (&self.op.key, &self.op.host);
        step.one(0, cmd!("ZCARD", schema::book(key)));
        step.one(0, lrange(&schema::complete(key, host)));
        step.one(0, lrange(&schema::oncall(key, host)));
        step.one(0, hget(&schema::working(key), host));
        step.one(0, hget(&schema::complete_names(key), host));
        step.one(0, hget(&schema::oncall_names(key), host));
        step.one(0, hget(&schema::task_hosts(key), host));
        if self.op.unknown {
            step.one(0, cmd!("EXISTS", schema::task(key)));
        }
    }

    /// The next step after the keys were read; `None` if there is no change.
    fn looked(&mut self, mut replies: Replies) -> Result<Option<ProgressStep>, Fault> {
        let size = usize::try_from(replies.int()?).unwrap_or_default();
        if size > 0 {
            self.room = size;
        }
        self.has_book = size > 0;
        self.known = Before {
            complete: replies.texts()?,
            oncall: replies.texts()?,
            working: replies.text()?,
            complete_named: replies.text()?.is_some(),
            oncall_named: replies.text()?.is_some(),
        };
        let state = replies.text()?;
        if self.op.unknown && state.is_none() {
            self.stray = Some(replies.int()? == 1);
        }
        let state = state.as_deref().and_then(TaskState::parse);
        let after = self.merged();
        Ok(if self.owed {
            Some(ProgressStep::Complete)
        } else if state.is_some_and(is_final)
            && (self.context.clear_on_done || after.complete == self.known.complete)
        {
            None
        } else if after.changes(&self.known) {
            Some(ProgressStep::Complete)
        } else {
            // A repeated end still renews the expiry.
            let is_new = self.op.state.is_some() && self.op.state != state;
            (is_new || after.done).then_some(ProgressStep::Renew)
        })
    }

    /// Result of the message for the known content.
    fn merged(&self) -> After {
        let after = merge(&self.known, self.op, self.room);
        if self.context.clear_on_done {
            after.cleared()
        } else {
            after
        }
    }

    fn merge_complete(&self) -> Cmd {
        let op = self.op;
        let mut merge = Script::Complete.on(&schema::complete(&op.key, &op.host));
        merge
            .arg(self.room)
            .arg(COMPLETE_BYTES_MAX)
            .arg(&op.complete);
        merge
    }

    fn merge_oncall(&self) -> Cmd {
        let op = self.op;
        let mut merge = Script::Oncall.on(&schema::oncall(&op.key, &op.host));
        merge
            .arg(u8::from(op.phase == Phase::Received))
            .arg(op.oncall.len())
            .arg(&op.oncall)
            .arg(&self.known.complete)
            // Commands that the list had no room for are finished, too.
            .arg(&op.complete);
        merge
    }

    /// Writes the host's fields according to its lists, and the event.
    fn write_fields(&self, step: &mut Step) {
        let after = self.merged();
        let (key, host) = (&self.op.key, &self.op.host);
        let (complete, oncall) = (schema::complete(key, host), schema::oncall(key, host));
        if let Some(write) = self.write_working(after.working.as_deref()) {
            step.one(0, write);
        }
        for (names, list, was, is) in [
            (
                schema::complete_names(key),
                &complete,
                self.known.complete_named,
                after.complete_named,
            ),
            (
                schema::oncall_names(key),
                &oncall,
                self.known.oncall_named,
                after.oncall_named,
            ),
        ] {
            match (was, is) {
                (false, true) => step.one(0, cmd!("HSET", &names, host.as_str(), list)),
                (true, false) => step.one(0, cmd!("HDEL", &names, host.as_str())),
                _ => {}
            }
        }
        if after.complete.is_empty() && !self.known.complete.is_empty() {
            step.one(0, cmd!("DEL", &complete));
        }
        let told = match self.op.silent {
            false => self
                .context
                .append(&StreamEvent::progress(self.op, after.done)),
            // A step has at least one command.
            true => cmd!("EXISTS", schema::working(&self.op.key)),
        };
        step.one(1, told);
        self.conclude(after.done, step);
    }

    /// Writes the expiry and the state of the host.
    fn conclude(&self, done: bool, step: &mut Step) {
        let op = self.op;
        let stray = self.stray.filter(|_| !(done && self.has_book));
        if let Some(has_task) = stray {
            self.expire_stray(has_task, step);
        } else if op.expires(done) {
            for name in schema::of_task(&op.key, &op.host) {
                step.one(1, self.context.expire(&name));
            }
        }
        if let Some(state) = op.state {
            step.one(2, set_states(&op.key, &[(op.host.clone(), state)]));
        }
    }

    /// Lets the keys of a task that was never stored here expire: as late as other ended tasks if a
    /// script has written its book, else earlier. Keys shared with a stored task are not touched.
    fn expire_stray(&self, has_task: bool, step: &mut Step) {
        let keep_ms = match self.has_book {
            true => self.context.keep_ms,
            false => self.context.keep_ms.min(STRAY_WINDOW_S * 1_000),
        };
        for name in schema::of_stray_task(&self.op.key, &self.op.host, !has_task) {
            step.one(1, cmd!("PEXPIRE", name, keep_ms));
        }
    }

    fn write_working(&self, command: Option<&str>) -> Option<Cmd> {
        let (working, host) = (schema::working(&self.op.key), &self.op.host);
        match (self.known.working.as_deref(), command) {
            (was, Some(command)) if was != Some(command) => {
                Some(cmd!("HSET", &working, host.as_str(), command))
            }
            (Some(was), None) => {
                let mut ended = Script::Ended.on(&working);
                ended.arg(host.as_str()).arg(was);
                Some(ended)
            }
            _ => None,
        }
    }
}

impl Job for Progress<'_> {
    fn encode(&mut self, step: &mut Step) {
        match self.stage {
            ProgressStep::Look => self.look(step),
            ProgressStep::Complete => step.one(0, self.merge_complete()),
            ProgressStep::Oncall => step.one(0, self.merge_oncall()),
            ProgressStep::Fields => self.write_fields(step),
            ProgressStep::Renew => self.conclude(self.merged().done, step),
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let next = match self.stage {
            ProgressStep::Look => self.looked(replies)?,
            ProgressStep::Complete => {
                self.known.complete = replies.texts()?;
                Some(ProgressStep::Oncall)
            }
            ProgressStep::Oncall => {
                self.known.oncall = replies.texts()?;
                Some(ProgressStep::Fields)
            }
            ProgressStep::Fields | ProgressStep::Renew => {
                replies.rest_good()?;
                None
            }
        };
        Ok(match next {
            Some(next) => {
                self.stage = next;
                StepResult::More
            }
            None => StepResult::Written,
        })
    }
}

pub(super) fn lrange(key: &str) -> Cmd {
    cmd!("LRANGE", key, 0, -1)
}

pub(super) fn hget(key: &str, host: &HostId) -> Cmd {
    cmd!("HGET", key, host.as_str())
}
