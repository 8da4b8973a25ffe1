//! Progress of a host in a task.
//!
//! ```text
//!  look ──▶ complete ──▶ oncall ──▶ working, names of the lists, clean-up, event ──▶ cached
//!   │       (script)     (script)
//!   └─ no change: done
//!
//!  cached ──▶ working, event, and with finished commands the ends of both lists ──▶ cached
//!    │                                                        (one script)
//!    └─ another change, or the lists are not as cached: look
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
use super::cache::{Known, ProgressCache};
use super::errors::Fault;
use super::facts::{close, set_states};
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step};
use crate::codec::message::Phase;
use crate::ids::HostId;
use crate::limits::{COMPLETE_BYTES_MAX, COMPLETE_COMMANDS_MAX, LUA_WORDS_MAX, STRAY_WINDOW_S};
use crate::store::events::StreamEvent;
use crate::store::op::{self, Lifetime, TaskState};
use crate::store::progress::{After, Before, merge};
use crate::store::records::is_final;
use crate::store::schema;

/// An ADH27.
pub(super) struct Progress<'a> {
    context: &'a Context,
    op: &'a op::Progress,
    cache: &'a ProgressCache,
    stage: ProgressStep,
    /// An earlier run was interrupted: the event may be missing although all else is written.
    owed: bool,
    /// Greatest number of finished commands.
    room: usize,
    /// There is a task book.
    has_book: bool,
    /// For a host that has no part in the task: whether the task is stored.
    stray: Option<bool>,
    /// The stored task names the host.
    is_named: bool,
    /// Content of the keys that have been read.
    known: Before,
    /// The host's state in the task was not a final one.
    is_open: bool,
}

/// Step of the write.
enum ProgressStep {
    /// Read the keys.
    Look,
    /// Merge the finished commands.
    Complete,
    /// Merge the remaining commands.
    Oncall,
    /// Write the ends of both cached lists, the running command and the event.
    Advance(Advance),
    /// Write the host's fields and the event.
    Fields,
    /// Write only the host's state and the expiry.
    Renew,
}

/// Change of both lists at their ends.
struct Advance {
    /// Number of the last finished commands that are new.
    added: usize,
    /// Number of remaining commands that leave the end of the list.
    removed: usize,
}

impl<'a> Progress<'a> {
    /// `owed`: an earlier run was interrupted, so the event may be missing.
    pub(super) fn new(
        context: &'a Context,
        op: &'a op::Progress,
        owed: bool,
        cache: &'a ProgressCache,
    ) -> Self {
        let mut new = Self {
            context,
            op,
            cache,
            stage: ProgressStep::Look,
            owed,
            room: COMPLETE_COMMANDS_MAX,
            has_book: false,
            stray: None,
            is_named: false,
            known: Before::default(),
            is_open: false,
        };
        if let Some(known) = cache.take(&op.host, &op.key)
            && new.is_usual()
        {
            (new.known, new.room) = (known.content, known.room);
            (new.has_book, new.is_open) = (true, true);
            new.stage = new.cached_step().unwrap_or(ProgressStep::Look);
        }
        new
    }

    /// Returns whether the report changes only the host's lists in a task that is stored and open.
    fn is_usual(&self) -> bool {
        let op = self.op;
        let plain = !self.owed && !op.unknown && !op.silent && op.state.is_none();
        plain && !op.expires(false) && self.context.keys_max > 1
    }

    /// The step that writes the message over cached content, unless the keys must be read.
    fn cached_step(&self) -> Option<ProgressStep> {
        let (known, after) = (&self.known, self.merged());
        let has_same_names = after.complete_named == known.complete_named
            && after.oncall_named == known.oncall_named;
        if after.done || !has_same_names || !after.changes(known) {
            return None;
        }
        // Finished commands are only ever added.
        let added = after.complete.len() - known.complete.len();
        let removed = known.oncall.len().checked_sub(after.oncall.len())?;
        if !known.oncall.starts_with(&after.oncall) || added + removed > LUA_WORDS_MAX {
            return None;
        }
        Some(match added + removed {
            0 => ProgressStep::Fields,
            _ => ProgressStep::Advance(Advance { added, removed }),
        })
    }

    fn write_advance(&self, advance: &Advance) -> Cmd {
        let (op, after) = (self.op, self.merged());
        let mut write = Script::Advance.on_each(4);
        write
            .arg(schema::complete(&op.key, &op.host))
            .arg(schema::oncall(&op.key, &op.host))
            .arg(schema::working(&op.key))
            .arg(schema::EVENTS)
            .arg(op.host.as_str());
        match (&self.known.working, &after.working) {
            (was, Some(is)) if was.as_ref() != Some(is) => write.arg("set").arg(is),
            (Some(_), None) => write.arg("end").arg(""),
            _ => write.arg("keep").arg(""),
        };
        let new = &after.complete[after.complete.len() - advance.added..];
        let gone = &self.known.oncall[self.known.oncall.len() - advance.removed..];
        write
            .arg(advance.added)
            .arg(after.complete.len())
            .arg(advance.removed)
            .arg(new);
        gone.iter().rev().for_each(|command| {
            write.arg(command);
        });
        let event = self.context.append(&StreamEvent::progress(op, false));
        // After the name of the command and the key.
        for word in event.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = word {
                write.arg(bytes);
            }
        }
        write
    }

    /// Caches the written lists, if the host continues with the task.
    fn keep(&self) {
        let after = self.merged();
        let has_ended = after.done || !self.is_open || self.op.state.is_some_and(is_final);
        let is_cached = self.has_book && self.stray.is_none() && self.context.keys_max > 1;
        if has_ended || !is_cached {
            return;
        }
        let content = Before {
            complete: after.complete,
            oncall: after.oncall,
            working: after.working,
            complete_named: after.complete_named,
            oncall_named: after.oncall_named,
        };
        let known = Known {
            key: self.op.key.clone(),
            content,
            room: self.room,
        };
        self.cache.put(&self.op.host, known);
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
        self.is_named = state.is_some();
        let state = state.as_deref().and_then(TaskState::parse);
        self.is_open = !state.is_some_and(is_final);
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
            let says = self.state();
            let is_new = says.is_some() && says != state;
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
        } else if op.expires(done) && !self.is_adopted() {
            for name in schema::of_task(&op.key, &op.host) {
                step.one(1, self.context.expire(&name));
            }
            if op.lifetime == Lifetime::Over {
                step.one(1, close(&op.key));
            }
        }
        if let Some(state) = self.state() {
            step.one(2, set_states(&op.key, &[(op.host.clone(), state)]));
        }
    }

    /// New state of the host. Of a task that only another node knows, that of the report.
    fn state(&self) -> Option<TaskState> {
        let adopted = self.op.told.filter(|_| self.is_adopted());
        self.op.state.or(adopted)
    }

    /// Returns whether another node has the task in its tables: the store has it, and it names the
    /// host.
    fn is_adopted(&self) -> bool {
        self.op.unknown && self.is_named
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
        match &self.stage {
            ProgressStep::Look => self.look(step),
            ProgressStep::Complete => step.one(0, self.merge_complete()),
            ProgressStep::Oncall => step.one(0, self.merge_oncall()),
            ProgressStep::Advance(advance) => step.one(0, self.write_advance(advance)),
            ProgressStep::Fields => self.write_fields(step),
            ProgressStep::Renew => self.conclude(self.merged().done, step),
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let next = match &self.stage {
            ProgressStep::Look => self.looked(replies)?,
            ProgressStep::Complete => {
                self.known.complete = replies.texts()?;
                Some(ProgressStep::Oncall)
            }
            ProgressStep::Oncall => {
                self.known.oncall = replies.texts()?;
                Some(ProgressStep::Fields)
            }
            ProgressStep::Advance(_) => match replies.int()? {
                1 => None,
                _ => Some(ProgressStep::Look),
            },
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
            None => {
                self.keep();
                StepResult::Written
            }
        })
    }
}

pub(super) fn lrange(key: &str) -> Cmd {
    cmd!("LRANGE", key, 0, -1)
}

pub(super) fn hget(key: &str, host: &HostId) -> Cmd {
    cmd!("HGET", key, host.as_str())
}
