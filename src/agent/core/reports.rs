//! Reports to the server: sent in order within a window, until each is acknowledged.

use std::collections::BTreeMap;

use log::Level;
use sha2::{Digest, Sha256};

use super::link::Link;
use super::link::send;
use super::{AgentCore, Effect, Finished, note};
use crate::agent::memory::{Outcome, Record, Report};
use crate::codec::message::{Message, Word};
use crate::limits::{
    AGENT_OUTPUT_BYTES_IN_FLIGHT_MAX, AGENT_OUTPUTS_BYTES_MAX, AGENT_REPORTS_IN_FLIGHT_MAX,
    AGENT_RESULT_LOSSES_MAX,
};

/// Reports sent on this connection.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Number of the first report that has not been sent.
    next: u64,
    /// Sent and not acknowledged, with the bytes of their output.
    waiting: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Sent {
    /// Returns whether one more report may be sent. Those numbered below `suspects` go one at a
    /// time.
    fn has_room(&self, suspects: u64) -> bool {
        let Some((first, _)) = self.waiting.first_key_value() else {
            return true;
        };
        *first >= suspects
            && self.waiting.len() < AGENT_REPORTS_IN_FLIGHT_MAX
            && self.bytes < AGENT_OUTPUT_BYTES_IN_FLIGHT_MAX
    }

    fn acknowledged(&mut self, seq: u64) {
        if let Some(bytes) = self.waiting.remove(&seq) {
            self.bytes -= bytes;
        }
    }
}

/// Number of connections lost over the same result. The server may not accept an output of that
/// size.
///
/// A server that ends a connection does not acknowledge the reports just received. After a loss
/// these are sent one at a time, so that a loss can be attributed to one result.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Reports below this number were in flight with output when a connection was lost.
    suspects: u64,
    seq: u64,
    times: u32,
}

impl Losses {
    /// Records a lost connection with these reports in flight.
    pub(super) fn lost(&mut self, sent: &Sent) {
        if sent.bytes == 0 {
            return;
        }
        self.suspects = self.suspects.max(sent.next);
        let mut waiting = sent.waiting.keys();
        let (Some(seq), None) = (waiting.next(), waiting.next()) else {
            return;
        };
        if *seq != self.seq {
            (self.seq, self.times) = (*seq, 0);
        }
        self.times += 1;
    }

    fn are_enough(&self, seq: u64) -> bool {
        self.seq == seq && self.times >= AGENT_RESULT_LOSSES_MAX
    }
}

impl AgentCore {
    /// Writes a report and queues it for the server.
    pub(super) fn report(&mut self, report: Report, fx: &mut Vec<Effect>) {
        let seq = self.memory.next_seq();
        self.write(Record::Report { seq, report }, fx);
        self.send_reports(fx);
    }

    /// Reports the result of a command, and stores its output if there is room.
    pub(super) fn report_outcome(
        &mut self,
        code: String,
        index: usize,
        finished: Finished,
        fx: &mut Vec<Effect>,
    ) {
        let Finished {
            exit,
            seconds,
            mut output,
            mut truncated,
        } = finished;
        if self.memory.output_bytes() + output.len() as u64 > AGENT_OUTPUTS_BYTES_MAX {
            let (reason, key) = ("no room for the output of a command", &code);
            let text = format!("task {key}: {reason}");
            note(Level::Warn, &[("key", key), ("reason", &reason)], text, fx);
            output.clear();
            truncated = true;
        }
        let outcome = Outcome {
            exit,
            seconds,
            size: output.len() as u64,
            sha256: Sha256::digest(&output).into(),
            truncated,
        };
        if !output.is_empty() {
            let seq = self.memory.next_seq();
            fx.push(Effect::Keep { seq, output });
        }
        self.report(
            Report::Output {
                code,
                index,
                outcome,
            },
            fx,
        );
    }

    /// Sends reports within the window.
    pub(super) fn send_reports(&mut self, fx: &mut Vec<Effect>) {
        while let Link::Live(live) = &mut self.link {
            if !live.sent.has_room(self.losses.suspects) {
                return;
            }
            let Some((seq, report)) = self.memory.report_from(live.sent.next) else {
                return;
            };
            live.sent.next = seq + 1;
            let has_output = report.output_bytes() > 0;
            if has_output && self.losses.are_enough(seq) {
                let reason = "the server takes no result of that size";
                let text = format!("report {seq} is sent without output: {reason}");
                note(
                    Level::Error,
                    &[("report", &seq), ("reason", &reason)],
                    text,
                    fx,
                );
                self.memory.without_output(seq, Sha256::digest([]).into());
            }
            let size = self
                .memory
                .report_from(seq)
                .map_or(0, |(_, report)| report.output_bytes());
            live.sent.waiting.insert(seq, size);
            live.sent.bytes += size;
            self.send_report(seq, size, fx);
        }
    }

    fn send_report(&mut self, seq: u64, size: u64, fx: &mut Vec<Effect>) {
        let message: Option<Message<'_>> = self.memory.message(seq);
        let is_sent = message.is_some_and(|message| send(&mut self.keyed, message, Some(seq), fx));
        if !is_sent {
            // The report can never be sent. It is logged once and does not block later reports.
            self.settle(seq, fx);
        } else if size > 0 {
            fx.push(Effect::SendOutput { seq, size });
        }
    }

    /// Handles the reply to a report.
    pub(super) fn on_report_reply(&mut self, seq: Option<u64>, word: &Word, fx: &mut Vec<Effect>) {
        let Link::Live(live) = &self.link else {
            return;
        };
        let Some(seq) = seq.filter(|seq| live.sent.waiting.contains_key(seq)) else {
            return;
        };
        if let Word::Refused(why) = word {
            let text = format!("the server refuses report {seq}: {why}");
            note(Level::Warn, &[("report", &seq), ("reason", why)], text, fx);
        }
        self.settle(seq, fx);
        self.send_reports(fx);
    }

    fn settle(&mut self, seq: u64, fx: &mut Vec<Effect>) {
        if let Link::Live(live) = &mut self.link {
            live.sent.acknowledged(seq);
        }
        self.write(Record::Settled { seq }, fx);
        fx.push(Effect::Drop { seq });
    }
}
