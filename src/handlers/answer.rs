//! ADH33: the key arrived, was damaged, or has no book.

use crate::codec::message::{Answer, Ask, Flag, ResultCode, Word};
use crate::ids::{ConnId, TaskKey};
use crate::store::op::{self, Op, Origin};

use super::core::Core;
use super::effect::{Effect, Effects, Note};
use super::progress::REPORT_BYTES;
use super::{Flow, Moment};

impl Core {
    /// An answer to a dispatch. One that names no key is valid and changes nothing: old clients answer a
    /// console line with its text.
    pub(super) fn answer(
        &mut self,
        at: Moment,
        conn: ConnId,
        slot: u32,
        answer: &Answer<'_>,
        ask: Ask,
        fx: &mut Effects,
    ) -> Flow {
        let Some(key) = self.answered_key(slot, answer) else {
            if ask.reply {
                self.reply(conn, Flag::Answer, ask.seq, Word::GotIt, fx);
            }
            return Flow::Taken;
        };
        if !self.make_room_for_report(conn, REPORT_BYTES) {
            return Flow::Wait;
        }
        let reference = self.hosts.reference(slot);
        let Some(host) = self.hosts.get_mut(slot) else {
            return Flow::Taken;
        };
        let name = host.id.clone();
        match (answer.code, reference) {
            (ResultCode::Received, Some(reference)) => {
                host.rest.get_or_insert_default().answered = Some(key.clone());
                self.work.heard(reference, &key, at.now);
            }
            (ResultCode::NoBook, Some(reference)) => {
                self.work.ended(reference, &key);
                fx.push(Effect::Log(Note {
                    level: log::Level::Warn,
                    what: "no-book",
                    who: name.to_string(),
                    text: format!("finds no task book under {key}"),
                }));
            }
            _ => {}
        }
        let stamp = self.stamp(at);
        let report = op::Answer {
            origin: Some(Origin {
                conn,
                flag: Flag::Answer,
                ask,
                bytes: REPORT_BYTES as u32,
            }),
            host: name,
            key,
            rcc: match answer.code {
                ResultCode::Unanswered => 0,
                ResultCode::Received => 1,
                ResultCode::NoBook => 2,
                ResultCode::Damaged => 3,
            },
            stamp,
        };
        self.writes
            .report(Op::Answer(Box::new(report)), REPORT_BYTES);
        Flow::Taken
    }

    /// The key an answer is about. "No book" without a key means the one last answered with "received".
    fn answered_key(&self, slot: u32, answer: &Answer<'_>) -> Option<TaskKey> {
        match (&answer.task, answer.code) {
            (Some(text), _) => TaskKey::parse(text, &self.rules.key_prefix),
            (None, ResultCode::NoBook) => self.hosts.get(slot)?.rest.as_deref()?.answered.clone(),
            (None, _) => None,
        }
    }
}
