//! The agent's durable state: accepted keys, progress of tasks, and reports that the server has not
//! acknowledged.
//!
//! ```text
//!  Task ─▶ Book ─▶ Starting ─▶ Report(Output) ─▶ Report(Phase 3) ─▶ … ─▶ ended, its key remembered
//!                               └──────┬───────┘
//!                                   outbox, until Settled
//! ```
//!
//! All of it follows from a sequence of [`Record`]s, which a journal keeps. A record that refers to
//! an unknown task, because a disk lost the records before it, changes nothing.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::codec::message::{Message, Phase, Progress, ResultHeader};
use crate::limits::AGENT_KEYS_MAX;
use crate::time::UnixMs;

/// Prefix of the id of a console command, in place of a task key. No key has a colon.
const COMMAND: &str = "cid:";

/// One change of the memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A task or a command is accepted; in a rewritten journal, its state.
    Task {
        /// Task key, or id of a console command.
        code: String,
        /// State of the task.
        task: Task,
    },
    /// The book of a task has arrived.
    Book {
        /// Task key, or id of a console command.
        code: String,
        /// Its commands, in the order in which they run.
        commands: Vec<String>,
    },
    /// A command is about to start.
    Starting {
        /// Task key, or id of a console command.
        code: String,
        /// Its index in the book.
        index: usize,
    },
    /// A report for the server.
    Report {
        /// Its number, rising, which is also its `seq`.
        seq: u64,
        /// The report.
        report: Report,
    },
    /// The server has acknowledged a report, or refused it permanently.
    Settled {
        /// Number of the report.
        seq: u64,
    },
    /// The server has no book for a task: its key is forgotten.
    Forgotten {
        /// Task key, or id of a console command.
        code: String,
    },
}

/// A task, or a console command as a task of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Time at which the key was accepted.
    pub at: UnixMs,
    /// Its commands, while they are needed.
    pub commands: Option<Vec<String>>,
    /// Number of commands started.
    pub started: usize,
    /// Number of commands ended.
    pub done: usize,
    /// The task is in a terminal state.
    pub ended: bool,
}

impl Task {
    /// Returns whether the task book has not arrived yet.
    #[must_use]
    pub const fn wants_book(&self) -> bool {
        self.commands.is_none() && !self.ended
    }
}

/// A report for the server. The names of the commands are in their task's book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// ADH27.
    Phase {
        /// Task key, or id of a console command.
        code: String,
        /// The event.
        phase: Phase,
        /// Number of finished commands. In phase 2 the next one has started.
        done: usize,
        /// The remaining commands are lost.
        lost: bool,
        /// The task is cancelled: the remaining commands will not run.
        #[serde(default)]
        cancelled: bool,
    },
    /// ADH43.
    Output {
        /// Task key, or id of a console command.
        code: String,
        /// Index of the command in the book.
        index: usize,
        /// Result of the command.
        outcome: Outcome,
    },
}

impl Report {
    fn code(&self) -> &str {
        match self {
            Self::Phase { code, .. } | Self::Output { code, .. } => code,
        }
    }

    /// Bytes of output that go with it.
    #[must_use]
    pub const fn output_bytes(&self) -> u64 {
        match self {
            Self::Phase { .. } => 0,
            Self::Output { outcome, .. } => outcome.size,
        }
    }
}

/// Result of a command; the output itself is stored beside the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The exit status.
    pub exit: i32,
    /// Run time in seconds.
    pub seconds: f64,
    /// Bytes of output kept.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// The output was cut.
    pub truncated: bool,
}

/// Name of a console command in the memory.
#[must_use]
pub fn command_code(cid: &str) -> String {
    format!("{COMMAND}{cid}")
}

/// Returns whether `code` is the id of a console command.
#[must_use]
pub fn is_command(code: &str) -> bool {
    code.starts_with(COMMAND)
}

#[derive(Clone, Debug)]
struct Held {
    task: Task,
    /// Position in the order of acceptance.
    number: u64,
    /// Number of its reports in the outbox.
    owed: usize,
}

/// The memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    tasks: HashMap<String, Held>,
    order: BTreeMap<u64, String>,
    outbox: BTreeMap<u64, Report>,
    /// The number of the next task.
    next_number: u64,
    /// Number of the next report.
    next_seq: u64,
    output_bytes: u64,
}

impl Memory {
    /// Applies a record.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Task { code, task } => self.enter(code, task),
            Record::Book { code, commands } => {
                let held = self.tasks.get_mut(&code);
                if let Some(held) = held.filter(|held| held.task.wants_book()) {
                    held.task.commands = Some(commands);
                }
            }
            Record::Starting { code, index } => {
                if let Some(held) = self.tasks.get_mut(&code) {
                    held.task.started = index + 1;
                }
            }
            Record::Report { seq, report } => self.post(seq, report),
            Record::Settled { seq } => self.settle(seq),
            Record::Forgotten { code } => {
                if self.tasks.get(&code).is_some_and(|held| held.owed == 0) {
                    self.remove(&code);
                }
            }
        }
    }

    fn enter(&mut self, code: String, task: Task) {
        if self.tasks.contains_key(&code) {
            return;
        }
        self.make_room();
        let number = self.next_number;
        self.next_number += 1;
        self.order.insert(number, code.clone());
        let held = Held {
            task,
            number,
            owed: 0,
        };
        self.tasks.insert(code, held);
    }

    fn remove(&mut self, code: &str) {
        if let Some(held) = self.tasks.remove(code) {
            self.order.remove(&held.number);
        }
    }

    /// Forgets the oldest tasks above the limit, up to the first one that has not ended.
    fn make_room(&mut self) {
        while self.tasks.len() >= AGENT_KEYS_MAX {
            let oldest = self.order.values().next().cloned();
            let is_over = |code: &String| {
                let held = self.tasks.get(code);
                held.is_some_and(|held| held.task.ended && held.owed == 0)
            };
            let Some(code) = oldest.filter(is_over) else {
                return;
            };
            self.remove(&code);
        }
    }

    fn post(&mut self, seq: u64, report: Report) {
        self.next_seq = self.next_seq.max(seq + 1);
        if self.outbox.contains_key(&seq) {
            return;
        }
        let Some(held) = self.tasks.get_mut(report.code()) else {
            return;
        };
        let Some(all) = held.task.commands.as_ref().map(Vec::len) else {
            return;
        };
        match &report {
            Report::Phase {
                phase,
                done,
                lost,
                cancelled,
                ..
            } => {
                // Phase 2 refers to an existing command, and the lists are cut at an existing
                // index.
                if *done + usize::from(*phase == Phase::Began) > all {
                    return;
                }
                held.task.done = held.task.done.max(*done);
                held.task.ended |= *lost || *cancelled || *done == all;
            }
            Report::Output { code, index, .. } => {
                if *index >= all {
                    return;
                }
                held.task.done = held.task.done.max(index + 1);
                held.task.ended |= is_command(code);
            }
        }
        held.owed += 1;
        self.output_bytes += report.output_bytes();
        self.outbox.insert(seq, report);
    }

    fn settle(&mut self, seq: u64) {
        let Some(report) = self.outbox.remove(&seq) else {
            return;
        };
        self.output_bytes = self.output_bytes.saturating_sub(report.output_bytes());
        if let Some(held) = self.tasks.get_mut(report.code()) {
            held.owed = held.owed.saturating_sub(1);
            if held.task.ended && held.owed == 0 {
                // Only the key is still needed.
                held.task.commands = None;
            }
        }
    }

    /// State of a task.
    #[must_use]
    pub fn task(&self, code: &str) -> Option<&Task> {
        self.tasks.get(code).map(|held| &held.task)
    }

    /// Tasks that have not ended, in order of acceptance.
    pub fn open(&self) -> impl Iterator<Item = &str> {
        let codes = self.order.values().map(String::as_str);
        codes.filter(|code| self.task(code).is_some_and(|task| !task.ended))
    }

    /// Number of the next report.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Number of reports that wait for their acknowledgement.
    #[must_use]
    pub fn reports(&self) -> usize {
        self.outbox.len()
    }

    /// Bytes of output that wait to be acknowledged.
    #[must_use]
    pub const fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    /// The first report numbered `seq` or above.
    #[must_use]
    pub fn report_from(&self, seq: u64) -> Option<(u64, &Report)> {
        let (seq, report) = self.outbox.range(seq..).next()?;
        Some((*seq, report))
    }

    /// Reports with output, with its size.
    pub fn outputs(&self) -> impl Iterator<Item = (u64, u64)> {
        let outputs = self
            .outbox
            .iter()
            .map(|(seq, report)| (*seq, report.output_bytes()));
        outputs.filter(|(_, size)| *size > 0)
    }

    /// Removes the output from a report.
    pub fn without_output(&mut self, seq: u64, nothing: [u8; 32]) {
        if let Some(Report::Output { outcome, .. }) = self.outbox.get_mut(&seq) {
            self.output_bytes = self.output_bytes.saturating_sub(outcome.size);
            outcome.size = 0;
            outcome.sha256 = nothing;
            outcome.truncated = true;
        }
    }

    /// The message of a report.
    #[must_use]
    pub fn message(&self, seq: u64) -> Option<Message<'_>> {
        let report = self.outbox.get(&seq)?;
        let commands = self.task(report.code())?.commands.as_deref()?;
        let own = |list: &[String]| list.iter().map(|command| command.clone().into()).collect();
        Some(match report {
            Report::Phase {
                code,
                phase,
                done,
                lost,
                cancelled,
            } => {
                let (complete, oncall) = commands.split_at_checked(*done)?;
                let began = *phase == Phase::Began;
                Message::Progress(Progress {
                    code: code.into(),
                    phase: *phase,
                    working: oncall.first().filter(|_| began).map(Into::into),
                    complete: own(complete),
                    oncall: own(oncall),
                    lost: *lost,
                    cancelled: *cancelled,
                })
            }
            Report::Output {
                code,
                index,
                outcome,
            } => Message::Result(ResultHeader {
                code: code.strip_prefix(COMMAND).unwrap_or(code).into(),
                command: commands.get(*index)?.into(),
                exit: outcome.exit,
                seconds: outcome.seconds,
                size: outcome.size,
                sha256: outcome.sha256,
                truncated: outcome.truncated,
            }),
        })
    }

    /// Minimal records of this memory. The reports of a task follow it, so that it is not forgotten
    /// before they are known.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let mut reports: HashMap<&str, Vec<Record>> = HashMap::new();
        for (seq, report) in &self.outbox {
            let (seq, list) = (*seq, reports.entry(report.code()).or_default());
            let report = report.clone();
            list.push(Record::Report { seq, report });
        }
        let mut records = Vec::with_capacity(self.tasks.len() + self.outbox.len());
        for code in self.order.values() {
            if let Some(task) = self.task(code).cloned() {
                let code = code.clone();
                records.push(Record::Task { code, task });
            }
            records.extend(reports.remove(code.as_str()).unwrap_or_default());
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(code: &str, at: u64, commands: &[&str]) -> [Record; 2] {
        let task = Task {
            at: UnixMs(at),
            ..Task::default()
        };
        let commands = commands
            .iter()
            .map(|command| (*command).to_owned())
            .collect();
        let code = code.to_owned();
        [
            Record::Task {
                code: code.clone(),
                task,
            },
            Record::Book { code, commands },
        ]
    }

    fn phase(seq: u64, code: &str, phase: Phase, done: usize, lost: bool) -> Record {
        let code = code.to_owned();
        let report = Report::Phase {
            code,
            phase,
            done,
            lost,
            cancelled: false,
        };
        Record::Report { seq, report }
    }

    fn memory(records: impl IntoIterator<Item = Record>) -> Memory {
        let mut memory = Memory::default();
        records.into_iter().for_each(|record| memory.apply(record));
        memory
    }

    #[test]
    fn reports_show_the_progress_of_a_book() {
        let mut memory = memory(taken("AC1", 0, &["a", "b"]));
        memory.apply(phase(0, "AC1", Phase::Received, 0, false));
        memory.apply(phase(1, "AC1", Phase::Began, 1, false));
        memory.apply(phase(2, "AC1", Phase::Ended, 2, false));
        let said = |seq| match memory.message(seq) {
            Some(Message::Progress(said)) => (
                said.working.map(|text| text.into_owned()),
                said.complete.join(","),
                said.oncall.join(","),
            ),
            other => panic!("{other:?}"),
        };
        assert_eq!(said(0), (None, String::new(), "a,b".into()));
        assert_eq!(said(1), (Some("b".into()), "a".into(), "b".into()));
        assert_eq!(said(2), (None, "a,b".into(), String::new()));
        assert_eq!(memory.open().count(), 0, "all is done");
    }

    #[test]
    fn a_finished_task_keeps_its_book_for_reports() {
        let mut memory = memory(taken("AC1", 0, &["a"]));
        memory.apply(phase(7, "AC1", Phase::Ended, 1, false));
        assert_eq!(memory.next_seq(), 8);
        assert!(memory.message(7).is_some());
        memory.apply(Record::Settled { seq: 7 });
        assert_eq!(memory.reports(), 0);
        let task = memory.task("AC1").unwrap();
        assert!(task.ended && task.commands.is_none());
    }

    #[test]
    fn a_key_outlives_any_step_of_the_clock() {
        let mut memory = memory(taken("AC1", 0, &["a"]));
        memory.apply(phase(0, "AC1", Phase::Ended, 1, false));
        memory.apply(Record::Settled { seq: 0 });
        for record in taken("AC2", 2_000_000_000_000, &["a"]) {
            memory.apply(record);
        }
        assert!(memory.task("AC1").is_some_and(|task| task.ended));
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..AGENT_KEYS_MAX + 10 {
            let task = Task {
                ended: true,
                ..Task::default()
            };
            memory.apply(Record::Task {
                code: format!("AC{number}"),
                task,
            });
        }
        assert_eq!(memory.tasks.len(), AGENT_KEYS_MAX);
        assert!(memory.task("AC9").is_none() && memory.task("AC10").is_some());
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let code = "AC[0-3]|cid:[0-3]";
        let outcome = (any::<u8>(), 0u64..5).prop_map(|(exit, size)| Outcome {
            exit: i32::from(exit),
            seconds: 0.5,
            size,
            sha256: [exit; 32],
            truncated: size == 0,
        });
        prop_oneof![
            (code, 0..3u64, any::<bool>()).prop_map(|(code, days, has_book)| {
                let at = UnixMs(days * 1_728_000_000);
                let commands = has_book.then(|| vec!["a".to_owned()]);
                let task = Task {
                    at,
                    commands,
                    ..Task::default()
                };
                Record::Task { code, task }
            }),
            (code, prop::collection::vec("[a-c]", 0..4))
                .prop_map(|(code, commands)| Record::Book { code, commands }),
            (code, 0usize..4).prop_map(|(code, index)| Record::Starting { code, index }),
            (0u64..20, code, 0usize..5, any::<bool>()).prop_map(|(seq, code, done, lost)| {
                let phase = if lost { Phase::Ended } else { Phase::Began };
                let report = Report::Phase {
                    code,
                    phase,
                    done,
                    lost,
                    cancelled: lost && done > 2,
                };
                Record::Report { seq, report }
            }),
            (20u64..40, code, 0usize..5, outcome).prop_map(|(seq, code, index, outcome)| {
                let report = Report::Output {
                    code,
                    index,
                    outcome,
                };
                Record::Report { seq, report }
            }),
            (0u64..40).prop_map(|seq| Record::Settled { seq }),
            code.prop_map(|code| Record::Forgotten { code }),
        ]
    }

    proptest! {
        #[test]
        fn snapshots_equal_their_records(
            records in prop::collection::vec(any_record(), 0..60)
        ) {
            let memory = memory(records);
            let again = self::memory(memory.snapshot());
            for seq in 0..40 {
                prop_assert_eq!(memory.message(seq), again.message(seq));
            }
            prop_assert_eq!(memory.open().collect::<Vec<_>>(), again.open().collect::<Vec<_>>());
            prop_assert_eq!(memory.output_bytes(), again.output_bytes());
        }
    }
}
