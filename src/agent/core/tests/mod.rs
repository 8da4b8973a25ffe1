//! Conversations of the core with a server that the test simulates.

mod link;
mod work;

use std::sync::Arc;

use super::*;
use crate::agent::memory::Report;
use crate::codec::message::{Answer, Flag, Message, Push, Reply, Word};
use crate::codec::{ByteOrder, Framing, Order, Step, decode, emit, emit_push};
use crate::limits::FRAME_BYTES_MAX;

const SERVER: &str = "127.0.0.1";
const CID: &str = "00112233445566778899aabbccddeeff";

/// An agent, its clock, and effects that the test has not examined.
struct Talk {
    core: AgentCore,
    at: Moment,
    fx: Vec<Effect>,
    /// All records so far: the content of the journal after a crash.
    journal: Vec<Record>,
}

fn settings() -> Settings {
    Settings {
        id: Some("web-1".into()),
        udp: Some(6655),
        push: true,
        tls: false,
        boot: "b00".into(),
        interval: None,
        takes_work: true,
        seed: 5,
        labels: Vec::new(),
    }
}

fn start(settings: Settings, journal: Vec<Record>) -> Talk {
    start_at(settings, journal, UnixMs(1_000_000))
}

fn start_at(settings: Settings, journal: Vec<Record>, wall: UnixMs) -> Talk {
    let allow = Arc::new(Allow::parse(r#"["a", "b", "c"]"#).unwrap());
    let mut memory = Memory::default();
    journal
        .iter()
        .cloned()
        .for_each(|record| memory.apply(record));
    let mut fx = Vec::new();
    let at = Moment {
        now: Instant::ZERO + Span::from_secs(100),
        wall,
    };
    let core = AgentCore::new(settings, allow, memory, at, &mut fx);
    let mut talk = Talk {
        core,
        at,
        fx: Vec::new(),
        journal,
    };
    talk.take_in(fx);
    talk
}

/// Describes a message of the agent in a few words.
fn words(message: &Message<'_>) -> String {
    match message {
        Message::Heartbeat => "beat".into(),
        Message::Hello(hello) => format!("hello {}", hello.id),
        Message::KeyedHello(keyed) => format!("hello {} with {}", keyed.hello.id, keyed.key),
        Message::Proof(proof) => format!("proof {proof}"),
        Message::Inventory(_) => "inventory".into(),
        Message::Book(book) => format!("book? {}", book.task),
        Message::Answer(Answer { code, task }) => {
            format!("{code:?} {}", task.as_deref().unwrap_or("-"))
        }
        Message::Progress(said) => format!(
            "{} {:?} {}|{}|{}{}{}",
            said.code,
            said.phase,
            said.working.as_deref().unwrap_or("-"),
            said.complete.join(","),
            said.oncall.join(","),
            if said.lost { " lost" } else { "" },
            if said.cancelled { " cancelled" } else { "" }
        ),
        Message::Result(header) => format!(
            "result {} {} {} {}",
            header.code, header.command, header.exit, header.size
        ),
    }
}

impl Talk {
    fn take_in(&mut self, fx: Vec<Effect>) {
        for effect in &fx {
            if let Effect::Write(record) = effect {
                self.journal.push(record.clone());
            }
        }
        self.fx.extend(fx);
    }

    fn with(&mut self, act: impl FnOnce(&mut AgentCore, Moment, &mut Vec<Effect>)) {
        let mut fx = Vec::new();
        act(&mut self.core, self.at, &mut fx);
        self.take_in(fx);
    }

    fn wait(&mut self, span: Span) {
        self.at.now = self.at.now + span;
        self.with(AgentCore::tick);
    }

    fn replies(&mut self, flag: Flag, seq: u64, word: Word) {
        let mut bytes = Vec::new();
        let seq = Some(seq);
        emit(&Reply { flag, seq, word }, Order::Little, &mut bytes);
        self.with(|core, at, fx| core.bytes(at, &bytes, fx));
    }

    fn pushes(&mut self, push: &Push<'_>) {
        let mut bytes = Vec::new();
        emit_push(push, Order::Little, &mut bytes).unwrap();
        self.with(|core, at, fx| core.bytes(at, &bytes, fx));
    }

    fn datagram(&mut self, from: &str, bytes: &[u8]) {
        let from = from.parse().unwrap();
        self.with(|core, at, fx| core.datagram(at, from, bytes, fx));
    }

    fn finishes(&mut self, exit: i32, output: &str) {
        let finished = Finished {
            exit,
            seconds: 0.5,
            output: output.into(),
            truncated: false,
        };
        self.with(|core, _, fx| core.finished(finished, fx));
    }

    /// Returns the messages sent since the last call, with their numbers.
    fn sent(&mut self) -> Vec<(String, Option<u64>)> {
        let framing = Framing {
            order: ByteOrder::Little,
            limit: FRAME_BYTES_MAX,
        };
        let mut sent = Vec::new();
        self.fx.retain(|effect| {
            let Effect::Send(bytes) = effect else {
                return true;
            };
            match decode(framing, &mut Order::Little, bytes) {
                Ok(Step::Got { incoming, used }) => {
                    assert_eq!(used, bytes.len());
                    assert_eq!(incoming.ask.reply, incoming.ask.seq.is_some());
                    sent.push((words(&incoming.message), incoming.ask.seq));
                }
                other => panic!("not a message: {other:?}"),
            }
            false
        });
        sent
    }

    fn messages(&mut self) -> Vec<String> {
        self.sent().into_iter().map(|(words, _)| words).collect()
    }

    /// Returns all other effects since the last call in short words, without log lines.
    fn did(&mut self) -> Vec<String> {
        let done = std::mem::take(&mut self.fx);
        let words = done.iter().filter_map(|effect| match effect {
            Effect::Send(_) => Some("send".to_owned()),
            Effect::SendOutput { seq, size } => Some(format!("output {seq} {size}")),
            Effect::Keep { seq, output } => Some(format!("keep {seq} {}", output.len())),
            Effect::Drop { seq } => Some(format!("drop {seq}")),
            Effect::Write(record) => Some(match record {
                Record::Task { .. } => "write taken".to_owned(),
                Record::Book { .. } => "write book".to_owned(),
                Record::Starting { index, .. } => format!("write starting {index}"),
                Record::Report {
                    seq,
                    report: Report::Phase { .. },
                } => format!("write phase {seq}"),
                Record::Report {
                    seq,
                    report: Report::Output { .. },
                } => format!("write result {seq}"),
                Record::Settled { seq } => format!("write settled {seq}"),
                Record::Forgotten { .. } => "write forgotten".to_owned(),
            }),
            Effect::Run(job) => Some(format!("run {}", job.words.join(" "))),
            Effect::EndRunning => Some("end".to_owned()),
            Effect::Connect => Some("connect".to_owned()),
            Effect::Disconnect => Some("disconnect".to_owned()),
            Effect::Look => Some("look".to_owned()),
            Effect::Log(_) => None,
        });
        words.collect()
    }

    fn connects(&mut self) {
        while !self.fx.contains(&Effect::Connect) {
            let due = self.core.deadline().since(self.at.now);
            self.wait(due);
        }
        self.fx.retain(|effect| *effect != Effect::Connect);
        let address = SERVER.parse().unwrap();
        self.with(|core, at, fx| core.connected(at, address, address, fx));
    }

    fn is_welcome(&mut self) {
        self.connects();
        self.replies(Flag::Hello, 0, Word::Welcome { interval_s: 20.0 });
        self.with(|core, _, fx| core.facts(Facts::default(), fx));
    }

    /// Connects the agent, and drops the effects of that.
    fn live(mut self) -> Self {
        self.is_welcome();
        self.fx.clear();
        self
    }

    fn book(&mut self, key: &str, commands: &[&str]) {
        let question = format!("book? {key}");
        let asked = self.sent();
        let asked = asked.iter().find(|(said, _)| *said == question);
        let seq = asked
            .and_then(|(_, seq)| *seq)
            .expect("it asks for the book");
        let task = key.to_owned();
        let commands = (0..)
            .zip(commands)
            .map(|(n, command)| ((*command).to_owned(), f64::from(-n)));
        let commands = commands.collect();
        self.replies(Flag::Book, seq, Word::Book { task, commands });
    }

    /// Kills the process and starts another one with the same journal.
    fn crashes(self) -> Self {
        start(settings(), self.journal)
    }
}

fn agent() -> Talk {
    start(settings(), Vec::new())
}
