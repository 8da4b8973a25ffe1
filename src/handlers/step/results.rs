//! Results: output of commands. A header, and the bytes behind its frame.
//!
//! ```text
//!   header ─▶ too large: closed     not requested: bytes dropped, then refused
//!      │       no room: waits, up to a minute, then refused
//!      ▼
//!   bytes, as they come ─▶ complete ─▶ digest ─▶ Op::Result, a report like others
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest as _;

use crate::codec::message::{Flag, ReplyRequest, ResultHeader, Word};
use crate::codec::{Abnormal, DecodeError};
use crate::handlers::Flow;
use crate::handlers::effect::EventKind;
use crate::handlers::fleet::session::{Session, Turn};
use crate::handlers::step::reports::REPORT_BYTES;
use crate::handlers::step::{NO_SUCH_TASK, Step};
use crate::handlers::tasks::payloads::Payload;
use crate::ids::ConnId;
use crate::limits::{RESULT_BYTES_A_MESSAGE, RESULT_WAIT_S_MAX};
use crate::store::op::{Op, Origin, Reason, TaskResult};
use crate::time::{Instant, Span};

/// The refusal of a result that has waited for room for too long.
const NO_ROOM: &str = "no room for it in time";
/// The refusal of a result that stalled while others waited for room.
const STALLED: &str = "too slow while others waited for room";

const WAIT: Span = Span::from_secs(RESULT_WAIT_S_MAX);

impl Step<'_> {
    /// Handles the header of a result.
    pub(super) fn result(
        &mut self,
        conn: ConnId,
        slot: u32,
        header: &ResultHeader<'_>,
        ask: ReplyRequest,
    ) -> Flow {
        let max = self.cx.rules.result_bytes;
        if header.size > max {
            let what = format!("a result is larger than {max} bytes");
            self.abnormal(conn, &DecodeError::new(Abnormal::Field(what), 0));
            return Flow::Taken;
        }
        let Some(host) = self.fleet.id(slot) else {
            return Flow::Taken;
        };
        if self.cx.is_starting() {
            return self.hold(conn, slot, 0);
        }
        let address = self.fleet.peer(conn).ip();
        let mut payload = Payload::new(header, slot, address, ask);
        let (code, command) = (&header.code, &header.command);
        let is_wanted = self.tasks.is_result_wanted(&self.cx, &host, code, command);
        if !is_wanted && self.looks_up(slot, code) {
            return self.hold(conn, slot, 0);
        }
        let payloads = self.tasks.payloads();
        // The refusal is for this result, whatever its reason.
        let is_overdue = payloads.take_mark(conn);
        if !is_wanted {
            payload.refusal = Some(NO_SUCH_TASK);
        } else if is_overdue {
            payload.refusal = Some(NO_ROOM);
        } else {
            let bytes = header.size as usize;
            if !payloads.has_room(slot, address, bytes) {
                return self.hold(conn, slot, bytes);
            }
            if header.size == 0 && !self.make_room_for_report(conn, report_bytes(&payload)) {
                return Flow::Wait;
            }
        }
        let now = self.cx.at.now;
        self.tasks.payloads().begin(conn, payload, now);
        if header.size > 0 {
            return Flow::Raw(header.size);
        }
        self.result_complete(conn);
        Flow::Taken
    }

    /// Handles bytes of a result. The last of them are taken only when there is room for the report
    /// that they complete.
    pub(super) fn raw(&mut self, conn: ConnId, bytes: &[u8]) -> Flow {
        let Some(payload) = self.tasks.payloads().get(conn) else {
            return Flow::Taken;
        };
        let left = payload.size - payload.came;
        let bytes = &bytes[..bytes.len().min(left as usize)];
        let is_last = bytes.len() as u64 == left;
        let report = (is_last && payload.is_wanted()).then(|| report_bytes(payload));
        if report.is_some_and(|bytes| !self.make_room_for_report(conn, bytes)) {
            return Flow::Wait;
        }
        let came = self.tasks.payloads().take(conn, bytes, self.cx.at.now);
        let before = came - bytes.len() as u64;
        if is_last || came / RESULT_BYTES_A_MESSAGE > before / RESULT_BYTES_A_MESSAGE {
            self.touch(conn);
        }
        if is_last {
            self.result_complete(conn);
        }
        Flow::Taken
    }

    /// All bytes of a result have arrived.
    fn result_complete(&mut self, conn: ConnId) {
        let Some(payload) = self.tasks.payloads().remove(conn) else {
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
        let Some(host) = self.fleet.id(payload.slot) else {
            return;
        };
        let failed = payload.exit != 0;
        let lifetime =
            self.tasks
                .take_result(&self.cx, &host, &payload.code, &payload.command, failed);
        let stamp = self.cx.stamp();
        let kind = EventKind::Result {
            host: host.clone(),
            code: payload.code.clone(),
            command: payload.command.clone(),
            exit: payload.exit,
        };
        self.cx.publish(stamp, kind);
        let bytes = report_bytes(&payload);
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

    /// Pauses a connection until there is room for `bytes` of its host. Its data are not taken, and
    /// it is not read meanwhile.
    pub(super) fn hold(&mut self, conn: ConnId, slot: u32, bytes: usize) -> Flow {
        if self.fleet.pause(conn) {
            let place = (slot, self.fleet.peer(conn).ip());
            let now = self.cx.at.now;
            let payloads = self.tasks.payloads();
            payloads.wait(conn, place, bytes, now, now + WAIT);
            self.cx.stats.waits += 1;
        }
        Flow::Wait
    }

    /// Resumes the connections that now have room for their results.
    pub(super) fn resume_results(&mut self) {
        if self.cx.is_starting() {
            return;
        }
        for conn in self.tasks.payloads().take_resumable() {
            self.fleet.resume(&mut self.cx, conn, Turn::None);
        }
    }

    /// Refuses results that have stalled while connections wait for room, and those of connections
    /// that have waited for too long. Before the store has been up, no result can be judged: such a
    /// connection is closed.
    pub(super) fn hurry_results(&mut self, judge: Instant) {
        let mut refused = false;
        let stalled = self.tasks.payloads().take_stalled(judge);
        for conn in stalled.unwrap_or_default() {
            // One that waits for room among the reports is not read.
            if self.fleet.session(conn).is_none_or(Session::is_waiting) {
                continue;
            }
            refused = true;
            self.tasks.payloads().give_up(conn, STALLED);
            self.log_result(conn, "refused: it stalled while others waited for room");
        }
        while let Some(conn) = self.tasks.payloads().take_overdue(judge) {
            if self.fleet.session(conn).is_none() {
                continue;
            }
            if self.cx.is_starting() {
                self.log_result(conn, "closed: the store has not been reached");
                self.close(conn, Reason::Closed);
                continue;
            }
            refused = true;
            self.tasks.payloads().mark(conn);
            self.log_result(conn, "refused: there was no room for it");
            self.fleet.resume(&mut self.cx, conn, Turn::None);
        }
        if refused {
            self.resume_results();
        }
    }

    fn log_result(&mut self, conn: ConnId, text: &str) {
        let peer = self.fleet.peer(conn).ip();
        self.cx.log(log::Level::Warn, "result", peer, text);
    }
}

/// Approximate memory of the report of a result, in bytes.
fn report_bytes(payload: &Payload) -> usize {
    let output = payload.size.div_ceil(3) as usize * 4;
    REPORT_BYTES + payload.code.len() + payload.command.len() + output
}
