//! Reports: progress with a task, answers to a dispatch, and requests for its book.
//!
//! ```text
//!   report ─▶ room in the outbox? ─▶ state in the task ─▶ event, and Op::Progress or Op::Answer
//!                 └ no: the connection is paused           └ settled: acknowledged, the next is resumed
//! ```

use std::borrow::Cow;

use crate::codec::message::{Answer, Book, Flag, Phase, Progress, ReplyRequest, ResultCode, Word};
use crate::handlers::Flow;
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::host::Marks;
use crate::handlers::fleet::session::Turn;
use crate::handlers::step::{NO_SUCH_TASK, Step};
use crate::ids::{ConnId, HostId, TaskKey};
use crate::store::op::{self, Op, Origin, Stamp, TaskState};

/// Approximate memory of a report without its texts, in bytes.
pub(super) const REPORT_BYTES: usize = 256;

/// Number of paused connections that a tick resumes while there is plenty of room for their
/// reports.
const RESUMED_PER_TICK_MAX: usize = 64;

impl Step<'_> {
    /// A report of progress. Waits when there is no room for another.
    pub(super) fn progress(
        &mut self,
        conn: ConnId,
        slot: u32,
        progress: &Progress<'_>,
        ask: ReplyRequest,
    ) -> Flow {
        let Some(key) = TaskKey::parse(&progress.code, &self.cx.rules.key_prefix) else {
            if ask.reply {
                let why = Word::Refused("the code is no task key".to_owned());
                self.cx.reply(conn, Flag::Progress, ask.seq, why);
            }
            return Flow::Taken;
        };
        let Some(host) = self.fleet.id(slot) else {
            return Flow::Taken;
        };
        let (state, failed) = self.tasks.state_of(&key, &host).unzip();
        let failed = failed.unwrap_or_default();
        // An ended command is not remaining, although some clients still name it.
        let works = progress.phase != Phase::Ended && progress.working.is_some();
        let is_left = !progress.oncall.is_empty() || works;
        if let Some(TaskState::Done | TaskState::Failed) = state {
            let flow = self.said_again(conn, Flag::Progress, ask);
            if flow == Flow::Taken {
                let is_plain = self.note_plain_report(conn, slot, &host, !is_left);
                if is_plain {
                    // It runs the commands once more; its state does not change.
                    self.tasks.work_elsewhere(&self.cx, &host, &key, is_left);
                }
                if is_plain && progress.phase == Phase::Began {
                    self.tasks.command_began(&mut self.cx, &host, &key);
                }
            }
            return flow;
        }
        let texts = progress
            .complete
            .iter()
            .chain(&progress.oncall)
            .chain(&progress.working);
        let bytes = REPORT_BYTES + texts.map(|text| text.len() + 24).sum::<usize>();
        if !self.make_room_for_report(conn, bytes) {
            return Flow::Wait;
        }
        let unknown = state.is_none() && !self.cx.is_starting();
        if unknown && !self.admit_stray(slot, &key, bytes) {
            return self.refuse_stray(conn, Flag::Progress, &host, &key, ask);
        }
        let silent = unknown && !self.may_tell_stray(slot);
        let is_plain = self.note_plain_report(conn, slot, &host, !is_left);
        let next = becomes(progress, failed);
        let begins = progress.phase == Phase::Received;
        let became = if state == Some(TaskState::NoBook) && !begins {
            None
        } else {
            self.tasks
                .reported(&mut self.cx, &host, is_plain, &key, next)
        };
        if is_plain && progress.phase == Phase::Began {
            self.tasks.command_began(&mut self.cx, &host, &key);
        }
        let told = became.or(state).unwrap_or(next);
        let stamp = self.cx.stamp();
        let own = |list: &[Cow<'_, str>]| {
            list.iter()
                .map(|text| text.to_string())
                .collect::<Vec<String>>()
        };
        let lifetime = match self.cx.is_starting() {
            // It may be a task of this node with other busy hosts.
            true => op::Lifetime::Open,
            false => self.tasks.lifetime(&key),
        };
        let report = op::Progress {
            origin: Some(Origin {
                conn,
                flag: Flag::Progress,
                ask,
                bytes: bytes as u32,
            }),
            host,
            key,
            phase: progress.phase,
            working: progress.working.as_deref().map(str::to_owned),
            complete: own(&progress.complete),
            oncall: own(&progress.oncall),
            state: became,
            unknown,
            silent,
            told: Some(told),
            lifetime,
            stamp,
        };
        let (state, command) = report.event(false);
        let kind = EventKind::Progress {
            host: report.host.clone(),
            key: report.key.clone(),
            command: command.map(str::to_owned),
            state,
        };
        if !silent {
            self.cx.publish_event(stamp, kind, unknown);
        }
        self.outbox.report(Op::Progress(Box::new(report)), bytes);
        Flow::Taken
    }

    /// Refuses a report on a key that this server never stored.
    pub(super) fn refuse_stray(
        &mut self,
        conn: ConnId,
        flag: Flag,
        host: &HostId,
        key: &TaskKey,
        ask: ReplyRequest,
    ) -> Flow {
        self.cx.stats.strays_refused += 1;
        let why = "too many reports on keys that this server never stored; try again in an hour";
        self.cx.log(
            log::Level::Warn,
            "unknown-keys",
            host.to_string(),
            format!("report on {key} refused: {why}"),
        );
        if ask.reply {
            self.cx
                .reply(conn, flag, ask.seq, Word::Refused(why.to_owned()));
        }
        Flow::Taken
    }

    /// Acknowledges a report that changes nothing, since the host has ended with its task, as soon
    /// as the repeated report is durable.
    pub(super) fn said_again(&mut self, conn: ConnId, flag: Flag, ask: ReplyRequest) -> Flow {
        if !ask.reply {
            return Flow::Taken;
        }
        if self.outbox.reports_waiting() == 0 {
            self.cx.reply(conn, flag, ask.seq, Word::GotIt);
        } else if self.make_room_for_report(conn, 0) {
            self.outbox.owe(Origin {
                conn,
                flag,
                ask,
                bytes: 0,
            });
        } else {
            return Flow::Wait;
        }
        Flow::Taken
    }

    /// Returns whether a report of `bytes` has room; else its connection must wait. While
    /// connections wait no other goes first: freed capacity goes to resumed ones, and a host that
    /// had to wait once more would be sent its task again.
    pub(super) fn make_room_for_report(&mut self, conn: ConnId, bytes: usize) -> bool {
        let turn = self.fleet.take_turn(conn);
        // A host that answered by datagram has no connection to be paused.
        let may_go = turn == Some(Turn::Next) || !self.outbox.has_paused() || turn.is_none();
        if self.outbox.has_room(bytes) && may_go {
            return true;
        }
        if self.fleet.pause(conn) {
            self.outbox.pause(conn, turn == Some(Turn::Next));
            self.cx.stats.waits += 1;
        }
        false
    }

    /// Handles the end of a report: it is durable, or refused for good.
    pub(super) fn report_settled(&mut self, origin: Option<Origin>, result: Result<(), String>) {
        let Some(origin) = origin else { return };
        self.outbox.report_settled(origin.bytes as usize);
        let word = match result {
            Ok(()) => {
                self.cx.stats.reports_stored += 1;
                Word::GotIt
            }
            Err(why) => {
                self.cx.stats.reports_refused += 1;
                let who = origin.flag.as_str().to_owned();
                let text = format!("a report is refused by the store: {why}");
                self.cx.log(log::Level::Error, "rejected", who, text);
                Word::Refused(why)
            }
        };
        if origin.ask.reply && self.fleet.session(origin.conn).is_some() {
            self.cx
                .reply(origin.conn, origin.flag, origin.ask.seq, word);
        }
        while let Some(owed) = self.outbox.take_owed() {
            if self.fleet.session(owed.conn).is_some() {
                self.cx
                    .reply(owed.conn, owed.flag, owed.ask.seq, Word::GotIt);
            }
        }
        self.resume_waiting();
    }

    /// Resumes some waiting connections while there is plenty of room.
    ///
    /// Each settled report resumes one connection. If that one never sends its report, or if one
    /// large report made room for many small ones, this resumes further ones.
    pub(super) fn resume_if_plenty(&mut self) {
        for _ in 0..RESUMED_PER_TICK_MAX {
            if !self.outbox.has_paused() || !self.outbox.has_plenty_of_room() {
                return;
            }
            self.resume_waiting();
        }
    }

    /// Resumes a connection that waited for room, if there is one.
    fn resume_waiting(&mut self) {
        while self.outbox.has_room(REPORT_BYTES)
            && let Some(conn) = self.outbox.next_paused()
        {
            if self.fleet.resume(&mut self.cx, conn, Turn::Next) {
                return;
            }
        }
    }

    /// Handles an answer to a dispatch. One that names no key is valid: old clients answer a
    /// console line with its text.
    pub(super) fn answer(
        &mut self,
        conn: ConnId,
        slot: u32,
        answer: &Answer<'_>,
        ask: ReplyRequest,
    ) -> Flow {
        let Some(host) = self.fleet.host_mut(slot) else {
            return Flow::Taken;
        };
        host.set(Marks::ASKED, false);
        let host = host.id();
        let Some(key) = self.answered_key(slot, &host, answer) else {
            let received = answer.code == ResultCode::Received;
            if let Some(text) = answer.task.as_deref().filter(|_| received) {
                self.tasks.command_answered(text, &host);
            }
            if ask.reply {
                self.cx.reply(conn, Flag::Answer, ask.seq, Word::GotIt);
            }
            return Flow::Taken;
        };
        if !self.make_room_for_report(conn, REPORT_BYTES) {
            return Flow::Wait;
        }
        let unknown = !self.cx.is_starting() && !self.tasks.names(&key, &host);
        if unknown && !self.admit_stray(slot, &key, REPORT_BYTES) {
            return self.refuse_stray(conn, Flag::Answer, &host, &key, ask);
        }
        let again = answer.code == ResultCode::Received && self.tasks.has_finished(&host, &key);
        let (state, said) = match answer.code {
            ResultCode::Received => {
                let is_plain = self.note_plain_report(conn, slot, &host, false);
                if let Some(host) = self.fleet.host_mut(slot) {
                    host.rest_or_new().answered = Some(key.clone());
                }
                let state =
                    self.tasks
                        .reported(&mut self.cx, &host, is_plain, &key, TaskState::Answered);
                (state, "answered")
            }
            ResultCode::NoBook => {
                let is_plain = self.note_plain_report(conn, slot, &host, false);
                self.cx.log(
                    log::Level::Warn,
                    "no-book",
                    host.to_string(),
                    format!("finds no task book under {key}"),
                );
                let state =
                    self.tasks
                        .reported(&mut self.cx, &host, is_plain, &key, TaskState::NoBook);
                (state, "no-book")
            }
            ResultCode::Unanswered | ResultCode::Damaged => {
                self.tasks.send_newest_again(&self.cx, &host);
                (None, "damaged")
            }
        };
        let again = again || (unknown && !self.may_tell_stray(slot));
        // A repeated answer to a finished task is not reported.
        let stamp = match again {
            true => Stamp {
                at: self.cx.at.wall,
                seq: 0,
            },
            false => self.cx.stamp(),
        };
        if !again {
            let kind = EventKind::Answer {
                host: host.clone(),
                key: key.clone(),
                state: said,
            };
            self.cx.publish_event(stamp, kind, unknown);
        }
        let report = op::Answer {
            origin: Some(Origin {
                conn,
                flag: Flag::Answer,
                ask,
                bytes: REPORT_BYTES as u32,
            }),
            host,
            key,
            rcc: match answer.code {
                ResultCode::Unanswered => 0,
                ResultCode::Received => 1,
                ResultCode::NoBook => 2,
                ResultCode::Damaged => 3,
            },
            state,
            again,
            stamp,
        };
        self.outbox
            .report(Op::Answer(Box::new(report)), REPORT_BYTES);
        Flow::Taken
    }

    /// Answers with the book of a task in the tables that names the host, with or without a
    /// requested reply. Waits until the tasks of the store are known.
    pub(super) fn book(
        &mut self,
        conn: ConnId,
        slot: u32,
        book: &Book<'_>,
        ask: ReplyRequest,
    ) -> Flow {
        if self.cx.is_starting() {
            return self.hold(conn, slot, 0);
        }
        let word = self.book_of(slot, &book.task);
        if word.is_none() && self.looks_up(slot, &book.task) {
            return self.hold(conn, slot, 0);
        }
        let word = word.unwrap_or_else(|| Word::Refused(NO_SUCH_TASK.to_owned()));
        self.cx.reply(conn, Flag::Book, ask.seq, word);
        Flow::Taken
    }

    /// The key an answer is about.
    fn answered_key(&self, slot: u32, host: &HostId, answer: &Answer<'_>) -> Option<TaskKey> {
        let rest = self.fleet.host(slot)?.rest();
        let last = rest.and_then(|rest| rest.answered.as_ref());
        self.tasks.answered_key(&self.cx, host, last, answer)
    }

    fn book_of(&self, slot: u32, text: &str) -> Option<Word> {
        let key = TaskKey::parse(text, &self.cx.rules.key_prefix)?;
        let commands = self.tasks.book(&key, &self.fleet.id(slot)?)?;
        let task = key.to_string();
        Some(Word::Book { task, commands })
    }

    /// Returns whether the host may report on a key that this server never stored.
    fn admit_stray(&mut self, slot: u32, key: &TaskKey, bytes: usize) -> bool {
        let host = self.fleet.reference(slot);
        host.is_some_and(|host| self.tasks.admit_stray(&self.cx, host, key, bytes))
    }

    /// Returns whether an admitted report on such a key has an event of its own.
    fn may_tell_stray(&mut self, slot: u32) -> bool {
        let host = self.fleet.reference(slot);
        host.is_none_or(|host| self.tasks.may_tell_stray(host))
    }
}

/// State of a host in a task according to its report. After a restart of the server the first
/// report may be of any phase.
fn becomes(progress: &Progress<'_>, failed: bool) -> TaskState {
    let is_left = !progress.oncall.is_empty();
    match (progress.phase, is_left) {
        (Phase::Ended, _) if progress.cancelled => TaskState::Cancelled,
        (Phase::Ended, true) if progress.lost => TaskState::Lost,
        (Phase::Ended, false) if failed => TaskState::Failed,
        (Phase::Ended, false) => TaskState::Done,
        _ => TaskState::Working,
    }
}
