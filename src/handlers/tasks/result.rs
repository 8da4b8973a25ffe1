//! ADH43: output of a command. A header, and the bytes behind its frame.
//!
//! ```text
//!   header ─▶ too large: closed     not requested: bytes dropped, then refused
//!      │       no room: waits, up to a minute, then refused
//!      ▼
//!   bytes, as they come ─▶ complete ─▶ digest ─▶ Op::Result, a report like others
//! ```

use crate::handlers::context::Ctx;
use crate::handlers::fleet::Fleet;
use crate::handlers::tasks::Tasks;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest as _;

use crate::codec::message::{Ask, Flag, ResultHeader, Word};
use crate::codec::{Abnormal, DecodeError};
use crate::ids::{ConnId, HostId, TaskKey};
use crate::limits::{RESULT_BYTES_A_MESSAGE, RESULT_WAIT_S_MAX};
use crate::store::op::{Lifetime, Op, Origin, Reason, TaskResult};
use crate::time::{Instant, Span};

use crate::handlers::Flow;
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::session::{Session, Turn};
use crate::handlers::step::NO_SUCH_TASK;
use crate::handlers::step::Step;
use crate::handlers::tasks::payloads::Payload;
use crate::handlers::tasks::progress::REPORT_BYTES;

/// The refusal of a result that has waited for room for too long.
const NO_ROOM: &str = "no room for it in time";
/// The refusal of a result that stalled while others waited for room.
const STALLED: &str = "too slow while others waited for room";

const WAIT: Span = Span::from_secs(RESULT_WAIT_S_MAX);

impl Tasks {
    /// Returns whether a result with this code is wanted: of a task that names the host, or of a
    /// console command that was sent to it.
    pub(crate) fn is_result_wanted(&self, cx: &Ctx<'_>, host: &HostId, code: &str) -> bool {
        let key = TaskKey::parse(code, &cx.rules.key_prefix);
        key.is_some_and(|key| self.table.delivery_of(&key, host).is_some())
            || self.commands.was_sent(code, host)
    }
}

impl Fleet {
    pub(crate) fn note_result(&mut self, cx: &mut Ctx<'_>, conn: ConnId, text: &str) {
        cx.log(
            log::Level::Warn,
            "result",
            self.peer(conn).ip().to_string(),
            text.to_owned(),
        );
    }
}

impl Step<'_> {
    /// The header of a result.
    pub(crate) fn result(
        &mut self,
        conn: ConnId,
        slot: u32,
        header: &ResultHeader<'_>,
        ask: Ask,
    ) -> Flow {
        if header.size > self.cx.rules.result_bytes {
            let what = format!(
                "a result is larger than {} bytes",
                self.cx.rules.result_bytes
            );
            let error = DecodeError::new(Abnormal::Field(what), 0);
            self.abnormal(conn, &error);
            return Flow::Taken;
        }
        let Some(host) = self.fleet.host(slot).map(|host| host.id()) else {
            return Flow::Taken;
        };
        if self.cx.is_starting() {
            return self.hold(conn, slot, 0);
        }
        let address = self.fleet.peer(conn).ip();
        let mut payload = Payload::new(header, slot, address, ask);
        // It is meant for this result, whatever that is refused for.
        let is_overdue = self.tasks.payloads.take_mark(conn);
        if !self.tasks.is_result_wanted(&self.cx, &host, &header.code) {
            payload.refusal = Some(NO_SUCH_TASK);
        } else if is_overdue {
            payload.refusal = Some(NO_ROOM);
        }
        if payload.is_wanted() {
            let bytes = header.size as usize;
            if !self.tasks.payloads.has_room(slot, address, bytes) {
                return self.hold(conn, slot, bytes);
            }
            if header.size == 0 && !self.make_room_for_report(conn, report_bytes(&payload)) {
                return Flow::Wait;
            }
        }
        self.tasks.payloads.begin(conn, payload, self.cx.at.now);
        if header.size > 0 {
            return Flow::Raw(header.size);
        }
        self.result_is_whole(conn);
        Flow::Taken
    }

    /// Bytes of a result. The last of them are taken only when there is room for the report that they
    /// make whole.
    pub(crate) fn raw(&mut self, conn: ConnId, bytes: &[u8]) -> Flow {
        let Some(payload) = self.tasks.payloads.get(conn) else {
            return Flow::Taken;
        };
        let left = payload.size - payload.came;
        let bytes = &bytes[..bytes.len().min(left as usize)];
        let is_last = bytes.len() as u64 == left;
        if payload.is_wanted() {
            let report = report_bytes(payload);
            if is_last && !self.make_room_for_report(conn, report) {
                return Flow::Wait;
            }
        }
        let came = self.tasks.payloads.take(conn, bytes, self.cx.at.now);
        let before = came - bytes.len() as u64;
        if is_last || came / RESULT_BYTES_A_MESSAGE > before / RESULT_BYTES_A_MESSAGE {
            self.touch(conn);
        }
        if is_last {
            self.result_is_whole(conn);
        }
        Flow::Taken
    }

    /// All bytes are there.
    fn result_is_whole(&mut self, conn: ConnId) {
        let Some(payload) = self.tasks.payloads.remove(conn) else {
            return;
        };
        let ask = payload.ask;
        let good = payload.digest.clone().finalize().as_slice() == payload.sha256.as_slice();
        let refusal = payload.refusal.or((!good).then_some("wrong digest"));
        if let Some(why) = refusal {
            self.cx.stats.results_refused += 1;
            if ask.reply {
                let word = Word::Refused(why.to_owned());
                self.cx.reply(conn, Flag::Result, ask.seq, word);
            }
        } else {
            self.keep_result(conn, payload);
        }
        self.resume_results();
    }

    fn keep_result(&mut self, conn: ConnId, payload: Payload) {
        let Some(host) = self.fleet.host(payload.slot).map(|host| host.id()) else {
            return;
        };
        let key = TaskKey::parse(&payload.code, &self.cx.rules.key_prefix);
        if let Some(slot) = key.and_then(|key| self.tasks.table.delivery_of(&key, &host)) {
            self.tasks.touch_delivery(&self.cx, slot);
            if let Some(delivery) = self.tasks.table.delivery_mut(slot) {
                delivery.failed |= payload.exit != 0;
            }
        } else {
            self.tasks.commands.has_result(&payload.code, &host);
        }
        let stamp = self.cx.stamp();
        let kind = EventKind::Result {
            host: host.clone(),
            code: payload.code.clone(),
            command: payload.command.clone(),
            exit: payload.exit,
        };
        self.cx.tell(stamp, kind);
        let bytes = report_bytes(&payload);
        let key = TaskKey::parse(&payload.code, &self.cx.rules.key_prefix);
        let lifetime = key.map_or(Lifetime::Foreign, |key| self.tasks.table.lifetime(&key));
        let report = TaskResult {
            origin: Some(Origin {
                conn,
                flag: Flag::Result,
                ask: payload.ask,
                bytes: bytes as u32,
            }),
            host,
            code: payload.code,
            command: payload.command,
            exit: payload.exit,
            seconds: payload.seconds,
            sha256: payload.sha256.map(|byte| format!("{byte:02x}")).concat(),
            truncated: payload.truncated,
            output: BASE64.encode(&payload.bytes),
            size: payload.size,
            lifetime,
            stamp,
        };
        self.outbox.report(Op::Result(Box::new(report)), bytes);
    }

    /// Has a connection wait: nothing of what it sent is taken, and it is not read meanwhile.
    pub(crate) fn hold(&mut self, conn: ConnId, slot: u32, bytes: usize) -> Flow {
        if let Some(session) = self.fleet.session_mut(conn) {
            session.turn = Turn::Waiting;
            let address = self.fleet.peer(conn).ip();
            let place = (slot, address);
            self.tasks
                .payloads
                .wait(conn, place, bytes, self.cx.at.now, self.cx.at.now + WAIT);
            self.cx.stats.waits += 1;
        }
        Flow::Wait
    }

    /// Lets those go on for whom there is room now.
    pub(crate) fn resume_results(&mut self) {
        if self.cx.is_starting() {
            return;
        }
        for conn in self.tasks.payloads.take_resumable() {
            let Some(session) = self.fleet.session_mut(conn) else {
                continue;
            };
            session.turn = Turn::None;
            // It was not read, so it was not silent.
            self.fleet.touch(conn, self.cx.at.now);
            self.cx.resume(conn);
        }
    }

    /// Refuses results that have stalled while connections wait for room, and those of connections that have waited
    /// for too long. Before the store has been up, no result can be judged: such a connection is closed.
    pub(crate) fn hurry_results(&mut self, judge: Instant) {
        let mut refused = false;
        for conn in self.tasks.payloads.take_stalled(judge).unwrap_or_default() {
            let waits = |session: &Session| session.turn == Turn::Waiting;
            // One that waits for room among the reports is not read.
            if self.fleet.session(conn).is_none_or(waits) {
                continue;
            }
            refused = true;
            self.tasks.payloads.give_up(conn, STALLED);
            self.fleet.note_result(
                &mut self.cx,
                conn,
                "refused: it stalled while others waited for room",
            );
        }
        while let Some(conn) = self.tasks.payloads.take_overdue(judge) {
            let starting = self.cx.is_starting();
            let Some(session) = self.fleet.session_mut(conn) else {
                continue;
            };
            if starting {
                self.fleet.note_result(
                    &mut self.cx,
                    conn,
                    "closed: the store has not been reached",
                );
                self.cx.close(conn);
                self.end_session(conn, Reason::Closed);
                continue;
            }
            session.turn = Turn::None;
            refused = true;
            self.fleet.touch(conn, self.cx.at.now);
            self.tasks.payloads.mark(conn);
            self.fleet
                .note_result(&mut self.cx, conn, "refused: there was no room for it");
            self.cx.resume(conn);
        }
        if refused {
            self.resume_results();
        }
    }
}

/// Approximate memory of the report of a result, in bytes.
fn report_bytes(payload: &Payload) -> usize {
    let output = payload.size.div_ceil(3) as usize * 4;
    REPORT_BYTES + payload.code.len() + payload.command.len() + output
}
