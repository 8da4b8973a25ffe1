//! ADH33: the key arrived, was damaged, or has no book.

use crate::codec::message::{Answer, Ask, Flag, ResultCode, Word};
use crate::handlers::tasks::Tasks;
use crate::ids::{ConnId, HostId, TaskKey};
use crate::store::op::{self, Op, Origin, Stamp, TaskState};

use crate::handlers::Flow;
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::host::Marks;
use crate::handlers::step::Step;
use crate::handlers::tasks::progress::REPORT_BYTES;

impl Tasks {
    /// Returns whether a host has finished a task, with or without success.
    pub(crate) fn has_finished(&self, host: &HostId, key: &TaskKey) -> bool {
        let delivery = self.table.delivery_of(key, host);
        let delivery = delivery.and_then(|slot| self.table.delivery(slot));
        delivery.is_some_and(|d| matches!(d.state, TaskState::Done | TaskState::Failed))
    }

    /// The key of the newest task in which a host is this.
    pub(crate) fn newest_key(&self, host: &HostId, state: TaskState) -> Option<TaskKey> {
        let slot = self.newest_in(host, state)?;
        Some(self.table.names_of(slot)?.1.clone())
    }
}

impl Step<'_> {
    /// An answer to a dispatch. One that names no key is valid: old clients answer a console line with
    /// its text.
    pub(crate) fn answer(
        &mut self,
        conn: ConnId,
        slot: u32,
        answer: &Answer<'_>,
        ask: Ask,
    ) -> Flow {
        let Some(host) = self.fleet.host_mut(slot) else {
            return Flow::Taken;
        };
        host.set(Marks::ASKED, false);
        let host = host.id();
        let Some(key) = self.answered_key(slot, &host, answer) else {
            let received = answer.code == ResultCode::Received;
            if let Some(text) = answer.task.as_deref().filter(|_| received) {
                self.tasks.commands.answered(text, &host);
            }
            if ask.reply {
                self.cx.reply(conn, Flag::Answer, ask.seq, Word::GotIt);
            }
            return Flow::Taken;
        };
        if !self.make_room_for_report(conn, REPORT_BYTES) {
            return Flow::Wait;
        }
        let unknown = !self.cx.is_starting() && self.tasks.table.delivery_of(&key, &host).is_none();
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
        // A task that is done and answered once more is no news.
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
            self.cx.tell_about(stamp, kind, unknown);
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

    /// The key an answer is about. "No book" without a key means the one last answered with "received";
    /// "damaged" whatever is to go out again, since an old client names the one before.
    fn answered_key(&self, slot: u32, host: &HostId, answer: &Answer<'_>) -> Option<TaskKey> {
        let named = answer.task.as_deref();
        let named = named.and_then(|text| TaskKey::parse(text, &self.cx.rules.key_prefix));
        match answer.code {
            ResultCode::Unanswered | ResultCode::Damaged => {
                self.tasks.newest_key(host, TaskState::Sent).or(named)
            }
            ResultCode::NoBook if answer.task.is_none() => {
                let rest = self.fleet.host(slot)?.rest();
                let answered = rest.and_then(|rest| rest.answered.clone());
                // After a restart of ours only the tables know.
                answered.or_else(|| self.tasks.newest_key(host, TaskState::Answered))
            }
            ResultCode::NoBook | ResultCode::Received => named,
        }
    }
}
