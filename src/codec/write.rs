//! Bodies as they are sent: replies, and the messages themselves, which agents and tests emit.
//! What is emitted here parses to what it was emitted from.

use std::io::Write;

use super::message::{Answer, Ask, Hello, Incoming, Inventory, Message, Phase, Progress};
use super::message::{Flag, Reply, ResultCode, Word};
use crate::limits::REFUSAL_CHARS_MAX;

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
        Word::Refused(reason) => {
            let end = reason.char_indices().nth(REFUSAL_CHARS_MAX);
            object.text("ACK", "keepRefused");
            object.text("error", &reason[..end.map_or(reason.len(), |(at, _)| at)]);
        }
    }
    object.seq(reply.seq);
    object.end();
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
    }
    let Ask { reply, seq } = incoming.ask;
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
}

fn answer(message: &Answer<'_>, object: &mut Object<'_>) {
    object.plain(
        "RCC",
        match message.code {
            ResultCode::Unanswered => 0,
            ResultCode::Received => 1,
            ResultCode::NoBook => 2,
            ResultCode::Damaged => 3,
        },
    );
    object.optional_text("taskId", message.task.as_deref());
}

/// A value has a name of its own only where it is one of the two known; the others are numbered.
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
            info.text(format_args!("value{number}"), value);
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

    /// A member's name, which is our own and needs no escape.
    fn name(&mut self, name: impl std::fmt::Display) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(b',');
        }
        write!(self.out, "\"{name}\":").expect("a Vec takes all that is written to it");
    }

    fn text(&mut self, name: impl std::fmt::Display, text: &str) {
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

    /// A value that is written in JSON as it is for people: a number, `true`, `null`.
    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        write!(self.out, "{value}").expect("a Vec takes all that is written to it");
    }

    fn seq(&mut self, seq: Option<u64>) {
        if let Some(seq) = seq {
            self.plain("seq", seq);
        }
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes all text that is written to it");
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
