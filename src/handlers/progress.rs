//! ADH27: how far a host has come with a task. Saying it twice changes nothing.

use crate::codec::message::{Ask, Flag, Progress, Word};
use crate::ids::{ConnId, TaskKey};
use crate::store::op::{self, Op, Origin};

use super::core::Core;
use super::effect::{Effect, Effects, Note};
use super::{Flow, Moment};

/// What a report takes in memory beside its texts, in bytes: about.
pub(super) const REPORT_BYTES: usize = 256;

impl Core {
    /// A report of progress. Waits when there is no room for another.
    pub(super) fn progress(
        &mut self,
        at: Moment,
        conn: ConnId,
        slot: u32,
        progress: &Progress<'_>,
        ask: Ask,
        fx: &mut Effects,
    ) -> Flow {
        let Some(key) = TaskKey::parse(&progress.code, &self.rules.key_prefix) else {
            if ask.reply {
                let why = Word::Refused("the code is no task key".to_owned());
                self.reply(conn, Flag::Progress, ask.seq, why, fx);
            }
            return Flow::Taken;
        };
        let texts = progress
            .complete
            .iter()
            .chain(&progress.oncall)
            .chain(&progress.working);
        let bytes = REPORT_BYTES + texts.map(|text| text.len() + 24).sum::<usize>();
        let Some(host) = self.hosts.get(slot) else {
            return Flow::Taken;
        };
        let host = host.id.clone();
        if !self.make_room_for_report(conn, bytes) {
            return Flow::Wait;
        }
        if let Some(reference) = self.hosts.reference(slot) {
            // Not only phase 1 begins it: after a restart of ours the next that comes may be any.
            match progress.oncall.is_empty() {
                true => self.work.ended(reference, &key),
                false => self.work.heard(reference, &key, at.now),
            }
        }
        let own = |list: &[std::borrow::Cow<'_, str>]| {
            list.iter()
                .map(|text| text.to_string())
                .collect::<Vec<String>>()
        };
        let stamp = self.stamp(at);
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
            stamp,
        };
        self.writes.report(Op::Progress(Box::new(report)), bytes);
        Flow::Taken
    }

    /// Whether a report of `bytes` has room; else its connection is to wait.
    pub(super) fn make_room_for_report(&mut self, conn: ConnId, bytes: usize) -> bool {
        if self.writes.has_room(bytes) {
            return true;
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.waiting = true;
            self.writes.waiting.push_back(conn);
            self.stats.waits += 1;
        }
        false
    }

    /// A report is kept for good, or refused for good.
    pub(super) fn report_settled(
        &mut self,
        at: Moment,
        origin: Option<Origin>,
        result: Result<(), String>,
        fx: &mut Effects,
    ) {
        let Some(origin) = origin else { return };
        self.writes.report_settled(origin.bytes as usize);
        let word = match result {
            Ok(()) => {
                self.stats.reports_stored += 1;
                Word::GotIt
            }
            Err(why) => {
                self.stats.reports_refused += 1;
                let who = origin.flag.as_str().to_owned();
                let text = format!("a report is refused by the store: {why}");
                fx.push(Effect::Log(Note {
                    level: log::Level::Error,
                    what: "rejected",
                    who,
                    text,
                }));
                Word::Refused(why)
            }
        };
        if origin.ask.reply && self.sessions.get(origin.conn).is_some() {
            self.reply(origin.conn, origin.flag, origin.ask.seq, word, fx);
        }
        self.resume_waiting(at, fx);
    }

    /// Each report settled lets one connection go on. Should that one never send what it had, nothing is left to be
    /// settled for those behind it: then the next is let go on here.
    pub(super) fn resume_if_idle(&mut self, at: Moment, fx: &mut Effects) {
        if self.writes.reports_waiting == 0 {
            self.resume_waiting(at, fx);
        }
    }

    /// Lets a connection that waited for room go on; it stands behind others if there is none.
    fn resume_waiting(&mut self, at: Moment, fx: &mut Effects) {
        while self.writes.has_room(REPORT_BYTES) {
            let Some(conn) = self.writes.waiting.pop_front() else {
                return;
            };
            let Some(session) = self.sessions.get_mut(conn) else {
                continue;
            };
            session.waiting = false;
            // It was not read, so it was not silent.
            session.last = at.now;
            fx.push(Effect::Resume { conn });
            return;
        }
    }
}
