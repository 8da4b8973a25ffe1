//! Bodies of sent messages: replies, and the messages themselves, for agents and tests. Emitted
//! bytes parse to the same message.

use std::io::Write;

use super::message::{
    Answer, Hello, Incoming, Inventory, Message, Over, Phase, Progress, ReplyRequest,
};
use super::message::{Flag, Push, Reply, ResultHeader, Word};
use crate::keys::{Hex, KEY_BYTES};
use crate::limits::REFUSAL_CHARS_MAX;
use crate::time::UnixMs;

/// Appends the body of a reply.
pub(super) fn reply(reply: &Reply, out: &mut Vec<u8>) {
    let mut object = Object::begin(reply.flag, out);
    match &reply.word {
        Word::Alive => object.text("ACK", "keepAlive"),
        Word::GotIt => object.text("ACK", "keepGotIt"),
        Word::RogerThat => object.text("ACK", "keepRogerThat"),
        Word::Welcome { interval_s } => {
            object.text("ACK", "keepGotIt");
            // JSON has no other numbers; an interval is finite wherever one is configured.
            if interval_s.is_finite() {
                object.plain("interval_s", interval_s);
            }
        }
        Word::Challenge(nonce) => {
            object.text("ACK", "keepChallenge");
            object.text("nonce", nonce.as_str());
        }
        Word::Proven { proof, interval_s } => {
            object.text("ACK", "keepGotIt");
            object.text("proof", &Hex(proof).to_string());
            object.plain("interval_s", interval_s);
        }
        Word::Book { task, commands } => {
            object.text("ACK", "keepGotIt");
            object.text("taskId", task);
            object.pairs("tasks", commands);
        }
        Word::Refused(reason) => {
            let end = reason.char_indices().nth(REFUSAL_CHARS_MAX);
            object.text("ACK", "keepRefused");
            object.text("error", &reason[..end.map_or(reason.len(), |(at, _)| at)]);
        }
    }
    object.seq(reply.seq);
    object.end();
}

/// Appends the body of an ADH44.
pub(super) fn push(push: &Push<'_>, out: &mut Vec<u8>) {
    let flag = match push {
        Push::Cancel(_) => Flag::Cancel,
        Push::Task(_) | Push::Command { .. } => Flag::Dispatch,
    };
    let mut object = Object::begin(flag, out);
    match push {
        Push::Task(task) | Push::Cancel(task) => object.text("taskId", task),
        Push::Command { text, cid } => {
            object.text("command", text);
            object.text("cid", cid);
        }
    }
    object.end();
}

/// A signed datagram: the content under number `n`, the mac, and, to a server, the id.
#[must_use]
pub fn signed(over: &Over<'_>, id: Option<&str>, n: u64, mac: &[u8; KEY_BYTES]) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(over.flag, &mut out);
    if over.flag == Flag::Heartbeat {
        object.plain("phase", 1);
        object.text("ACK", "keepAlive");
    }
    if let Some(rcc) = over.rcc {
        object.plain("RCC", rcc);
    }
    if !over.field.is_empty() {
        object.text(over.field, &over.value);
    }
    if let Some(cid) = &over.cid {
        object.text("cid", cid);
    }
    if let Some(id) = id {
        object.text("id", id);
    }
    object.plain("n", n);
    object.text("mac", &Hex(mac).to_string());
    object.end();
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the body of a message.
pub(super) fn incoming(incoming: &Incoming<'_>, out: &mut Vec<u8>) {
    let mut object = Object::begin(incoming.message.flag(), out);
    match &incoming.message {
        Message::Heartbeat => {
            object.plain("phase", 1);
            object.text("ACK", "keepAlive");
        }
        Message::Progress(message) => progress(message, &mut object),
        Message::Answer(message) => answer(message, &mut object),
        Message::Inventory(message) => inventory(message, &mut object),
        Message::Hello(message) => hello(message, &mut object),
        Message::KeyedHello(message) => {
            hello(&message.hello, &mut object);
            object.text("key", &message.key);
            object.text("nonce", message.nonce.as_str());
        }
        Message::Proof(proof) => object.text("proof", proof),
        Message::Book(message) => object.text("taskId", &message.task),
        Message::Result(message) => result(message, &mut object),
    }
    let ReplyRequest { reply, seq } = incoming.ask;
    if reply {
        object.plain("reply", true);
    }
    object.seq(seq);
    object.end();
}

fn progress(message: &Progress<'_>, object: &mut Object<'_>) {
    object.text("code", &message.code);
    object.plain(
        "phase",
        match message.phase {
            Phase::Received => 1,
            Phase::Began => 2,
            Phase::Ended => 3,
        },
    );
    object.optional_text("working", message.working.as_deref());
    object.texts("complete", &message.complete);
    object.texts("oncall", &message.oncall);
    if message.lost {
        object.plain("lost", true);
    }
    if message.cancelled {
        object.plain("cancelled", true);
    }
}

fn result(message: &ResultHeader<'_>, object: &mut Object<'_>) {
    object.text("code", &message.code);
    object.text("task", &message.command);
    object.plain("exit", message.exit);
    object.name("seconds");
    number(message.seconds, object.out);
    object.plain("total_size", message.size);
    object.text("sha256", &Hex(&message.sha256).to_string());
    object.plain("truncated", message.truncated);
}

/// Appends the body of an answer given at `at`.
pub(super) fn timed_answer(message: &Answer<'_>, at: UnixMs, out: &mut Vec<u8>) {
    let mut object = Object::begin(Flag::Answer, out);
    answer(message, &mut object);
    object.plain("answerTime", at.0 / 1000);
    object.end();
}

fn answer(message: &Answer<'_>, object: &mut Object<'_>) {
    object.plain("RCC", message.code.number());
    object.optional_text("taskId", message.task.as_deref());
}

/// Only the two known values have names of their own; the others are numbered.
fn inventory(message: &Inventory<'_>, object: &mut Object<'_>) {
    object.text("ACK", "keepRogerThat");
    object.name("systemInfoTask");
    let mut info = Object::nested(object.out);
    let (mut hostname, mut mac) = (message.hostname.as_ref(), message.mac.as_ref());
    for (number, value) in message.values.iter().enumerate() {
        if hostname.take_if(|hostname| *hostname == value).is_some() {
            info.text("hostname", value);
        } else if mac.take_if(|mac| *mac == value).is_some() {
            info.text("MACAddress", value);
        } else {
            info.text(&format!("value{number}"), value);
        }
    }
    info.texts("localAddrsIPV4", &message.addresses);
    info.end();
}

fn hello(message: &Hello<'_>, object: &mut Object<'_>) {
    object.text("id", &message.id);
    if let Some(udp) = message.udp {
        object.plain("udp", udp);
    }
    object.plain("push", message.push);
    if let Some(boot) = &message.boot {
        object.text("boot", boot);
    }
    if message.resumes {
        object.plain("resumes", true);
    }
    if !message.labels.is_empty() {
        object.name("labels");
        let mut labels = Object::nested(object.out);
        for (key, value) in &message.labels {
            // A key has no character that needs an escape.
            labels.text(key, value);
        }
        labels.end();
    }
    if let Some(version) = &message.version {
        object.text("version", version);
    }
    if message.cancel {
        object.plain("cancel", true);
    }
}

/// A JSON object being written. It allocates nothing but the growth of `out`.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    fn nested(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            is_empty: true,
        }
    }

    fn begin(flag: Flag, out: &'o mut Vec<u8>) -> Self {
        let mut object = Self::nested(out);
        object.text("flag", flag.as_str());
        object
    }

    /// A member's name, which needs no escape.
    fn name(&mut self, name: &str) {
        let before: &[u8] = match std::mem::replace(&mut self.is_empty, false) {
            true => b"\"",
            false => b",\"",
        };
        self.out.reserve(before.len() + name.len() + 2);
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        quoted(text, self.out);
    }

    fn optional_text(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.plain(name, "null"),
        }
    }

    fn texts(&mut self, name: &str, texts: &[impl AsRef<str>]) {
        self.name(name);
        self.out.push(b'[');
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            quoted(text.as_ref(), self.out);
        }
        self.out.push(b']');
    }

    /// Appends texts, each with its number.
    fn pairs(&mut self, name: &str, pairs: &[(String, f64)]) {
        self.name(name);
        self.out.push(b'[');
        for (index, (text, value)) in pairs.iter().enumerate() {
            self.out
                .extend_from_slice(if index > 0 { b",[" } else { b"[" });
            quoted(text, self.out);
            self.out.push(b',');
            number(*value, self.out);
            self.out.push(b']');
        }
        self.out.push(b']');
    }

    /// Appends a value whose JSON form is its `Display` form: a number, `true`, `null`.
    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        write!(self.out, "{value}").expect("a Vec takes all that is written to it");
    }

    fn seq(&mut self, seq: Option<u64>) {
        if let Some(seq) = seq {
            self.name("seq");
            json(&seq, self.out);
        }
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends a JSON string. Most texts need no escape and are copied whole.
fn quoted(text: &str, out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    if text.as_bytes().iter().all(is_plain) {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        json(text, out);
    }
}

fn json(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a Vec takes all that is written to it");
}

/// Appends a number in few characters: the shortest digits that identify it, without a point if
/// there is no fraction, and with an exponent if there would be many zeros. JSON has no non-finite
/// numbers; one would be written as 0.
fn number(value: f64, out: &mut Vec<u8>) {
    let size = value.abs();
    let written = if !value.is_finite() {
        write!(out, "0")
    } else if size == 0.0 || (1e-5..1e16).contains(&size) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    written.expect("a Vec takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(flag: Flag, seq: Option<u64>, word: Word) -> String {
        let mut out = Vec::new();
        reply(&Reply { flag, seq, word }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_read_as_the_protocol_spells_them() {
        for (flag, seq, word, wanted) in [
            (
                Flag::Heartbeat,
                Some(7),
                Word::Alive,
                r#"{"flag":"ADH18","ACK":"keepAlive","seq":7}"#,
            ),
            (
                Flag::Answer,
                None,
                Word::GotIt,
                r#"{"flag":"ADH33","ACK":"keepGotIt"}"#,
            ),
            (
                Flag::Inventory,
                None,
                Word::RogerThat,
                r#"{"flag":"ADH56","ACK":"keepRogerThat"}"#,
            ),
            (
                Flag::Hello,
                Some(0),
                Word::Welcome { interval_s: 20.0 },
                r#"{"flag":"ADH40","ACK":"keepGotIt","interval_s":20,"seq":0}"#,
            ),
            (
                Flag::Hello,
                None,
                Word::Welcome { interval_s: 0.5 },
                r#"{"flag":"ADH40","ACK":"keepGotIt","interval_s":0.5}"#,
            ),
            (
                Flag::Book,
                Some(3),
                Word::Book {
                    task: "AC1".into(),
                    commands: vec![
                        ("df \"-h\"".into(), 2.0),
                        ("echo 蚂蚁".into(), -0.5),
                        ("a\u{7f}\n".into(), 1e300),
                        ("b".into(), 1.5e-7),
                        ("c".into(), 1e15),
                    ],
                },
                concat!(
                    r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"AC1","tasks":[["df \"-h\"",2],"#,
                    r#"["echo 蚂蚁",-0.5],["a"#,
                    "\u{7f}",
                    r#"\n",1e300],["b",1.5e-7],["c",1000000000000000]],"seq":3}"#
                ),
            ),
            (
                Flag::Book,
                None,
                Word::Book {
                    task: "AC1".into(),
                    commands: Vec::new(),
                },
                r#"{"flag":"ADH41","ACK":"keepGotIt","taskId":"AC1","tasks":[]}"#,
            ),
            (
                Flag::Progress,
                Some(1),
                Word::Refused("no \"key\"\n".into()),
                r#"{"flag":"ADH27","ACK":"keepRefused","error":"no \"key\"\n","seq":1}"#,
            ),
        ] {
            assert_eq!(body(flag, seq, word), wanted);
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let long = body(
            Flag::Hello,
            None,
            Word::Refused("ä".repeat(REFUSAL_CHARS_MAX + 1)),
        );
        let cut = body(
            Flag::Hello,
            None,
            Word::Refused("ä".repeat(REFUSAL_CHARS_MAX)),
        );
        assert_eq!(long, cut);
    }
}
