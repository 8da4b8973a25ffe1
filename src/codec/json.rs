//! The JSON body, borrowed.
//!
//! ```text
//! body ─▶ members: one slot a known name, every value still raw ─▶ flag ─▶ Message
//!           └ each value checked: nesting, members given twice
//! ```
//!
//! A body is first split into its members, in any order, and then parsed according to its flag. Values
//! stay raw until then, so each is checked by the rules of its own message and an error can point at
//! it. Unknown members are checked like the others and dropped.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::beat;
use super::error::{Abnormal, DecodeError, excerpt};
use super::message::{
    Answer, Book, ClaimedLabels, Hello, Incoming, Inventory, Message, Phase, Progress, ReplyRequest,
};
use super::message::{Datagram, Flag, KeyedHello, Over, ResultCode, ResultHeader, Signature};
use super::target::is_label_text;
use super::value::{
    addresses, check, each_member, is_number, list, number, offset_in, text, twice,
};
use crate::ids::HostId;
use crate::keys::{Nonce, bytes_of};
use crate::limits::{LABELS_MAX, SEQ_MAX};

/// Hexadecimal digits of the longest `boot`.
const BOOT_DIGITS_MAX: usize = 64;

/// Parses a bare JSON body, as in a datagram, without a length in front.
///
/// # Errors
/// When it is abnormal data; offsets count from the body's first byte.
pub fn decode_body(body: &[u8]) -> Result<Incoming<'_>, DecodeError> {
    if let Some(ask) = beat::read(body) {
        let message = Message::Heartbeat;
        return Ok(Incoming { message, ask });
    }
    match str::from_utf8(body) {
        Ok(text) => parse(text),
        Err(error) => Err(DecodeError::new(Abnormal::Utf8, error.valid_up_to())),
    }
}

/// Parses a datagram from a host: bare JSON, signed if it has a `mac`.
///
/// # Errors
/// When it is abnormal data; offsets count from the body's first byte.
pub fn decode_datagram(body: &[u8]) -> Result<Datagram<'_, Incoming<'_>>, DecodeError> {
    let body = str::from_utf8(body)
        .map_err(|error| DecodeError::new(Abnormal::Utf8, error.valid_up_to()))?;
    let members = Members::read(body)?;
    let content = members.incoming()?;
    let signature = members.signature(content.message.flag())?;
    Ok(Datagram { content, signature })
}

/// Parses a JSON body.
///
/// # Errors
/// When it is abnormal data; offsets count from the body's first byte.
pub(super) fn parse(body: &str) -> Result<Incoming<'_>, DecodeError> {
    Members::read(body)?.incoming()
}

/// Every member name of every message.
#[derive(Clone, Copy)]
pub(super) enum Name {
    Flag,
    Identifier,
    Ack,
    Kp,
    Reply,
    Seq,
    Code,
    Phase,
    Working,
    Complete,
    Oncall,
    Rcc,
    TaskId,
    AnswerTime,
    SystemInfoTask,
    Id,
    Udp,
    Push,
    Boot,
    Resumes,
    Lost,
    Task,
    Exit,
    Seconds,
    TotalSize,
    Sha256,
    Truncated,
    // Sent by the server only.
    Error,
    IntervalS,
    Tasks,
    Command,
    Cid,
    // Of keyed sessions.
    Key,
    Nonce,
    Proof,
    N,
    Mac,
    // Of labels and cancellation.
    Labels,
    Version,
    Cancel,
    Cancelled,
}

impl Name {
    /// The names on the wire, in the order of the variants.
    const ALL: [&'static str; 41] = [
        "flag",
        "identifier",
        "ACK",
        "kp",
        "reply",
        "seq",
        "code",
        "phase",
        "working",
        "complete",
        "oncall",
        "RCC",
        "taskId",
        "answerTime",
        "systemInfoTask",
        "id",
        "udp",
        "push",
        "boot",
        "resumes",
        "lost",
        "task",
        "exit",
        "seconds",
        "total_size",
        "sha256",
        "truncated",
        "error",
        "interval_s",
        "tasks",
        "command",
        "cid",
        "key",
        "nonce",
        "proof",
        "n",
        "mac",
        "labels",
        "version",
        "cancel",
        "cancelled",
    ];

    const fn as_str(self) -> &'static str {
        Self::ALL[self as usize]
    }
}

/// A body split into its members: the raw value of each known name.
pub(super) struct Members<'a> {
    body: &'a str,
    values: [Option<&'a RawValue>; Name::ALL.len()],
}

impl<'a> Members<'a> {
    pub(super) fn read(body: &'a str) -> Result<Self, DecodeError> {
        let mut values = [None; Name::ALL.len()];
        let mut others = HashSet::new();
        each_member(body, body, |name, value| {
            let known = Name::ALL.iter().position(|known| *known == name);
            let is_new = match known {
                Some(index) => values[index].replace(value).is_none(),
                None => others.insert(name.clone()),
            };
            if is_new {
                return check(body, value);
            }
            Err(twice(body, name, offset_in(body, value.get())))
        })?;
        Ok(Self { body, values })
    }

    fn incoming(&self) -> Result<Incoming<'a>, DecodeError> {
        let message = match self.flag()? {
            Flag::Heartbeat => self.heartbeat()?,
            Flag::Progress => Message::Progress(self.progress()?),
            Flag::Answer => Message::Answer(self.answer()?),
            Flag::Inventory => Message::Inventory(self.inventory()?),
            Flag::Hello => self.greeting()?,
            Flag::Book => Message::Book(self.book()?),
            Flag::Result => Message::Result(self.result()?),
            // The server sends this code and never receives it.
            flag @ (Flag::Dispatch | Flag::Cancel) => return Err(self.wrong_flag(flag.as_str())),
        };
        let ask = self.ask()?;
        Ok(Incoming { message, ask })
    }

    /// Returns the signature of a datagram, if it has a `mac`.
    pub(super) fn signature(&self, flag: Flag) -> Result<Option<Signature<'a>>, DecodeError> {
        let Some(mac) = self.get(Name::Mac) else {
            return Ok(None);
        };
        let mac = text(mac).and_then(|mac| bytes_of(&mac));
        let over = match flag {
            Flag::Heartbeat => Over {
                flag,
                field: "",
                value: Cow::Borrowed(""),
                rcc: None,
                cid: None,
            },
            _ => self.signed_field(flag)?,
        };
        let n = self.get(Name::N).and_then(|n| n.get().parse().ok());
        Ok(Some(Signature {
            id: self.optional_text(Name::Id)?,
            n: n.ok_or_else(|| self.wrong(Name::N, "an integer of 64 bits"))?,
            mac: mac.ok_or_else(|| self.wrong(Name::Mac, "64 hexadecimal digits"))?,
            over,
        }))
    }

    fn signed_field(&self, flag: Flag) -> Result<Over<'a>, DecodeError> {
        let (name, other) = match self.get_some(Name::Command) {
            Some(_) => (Name::Command, Name::TaskId),
            None => (Name::TaskId, Name::Command),
        };
        if self.get_some(other).is_some() {
            return Err(self.wrong(other, "absent where there is a `command`"));
        }
        let value = self.text(name)?;
        if value.contains('\0') {
            return Err(self.wrong(name, "without NUL"));
        }
        let rcc = match flag {
            Flag::Answer => Some(self.result_code()?.number()),
            _ => None,
        };
        let cid = self.optional_text(Name::Cid)?;
        let field = name.as_str();
        Ok(Over {
            flag,
            field,
            value,
            rcc,
            cid,
        })
    }

    pub(super) fn get(&self, name: Name) -> Option<&'a RawValue> {
        self.values[name as usize]
    }

    /// Returns the raw value; `null` counts as absent.
    fn get_some(&self, name: Name) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get() != "null")
    }

    /// An error for a member with a wrong value, pointing at it, or at the body if it is missing.
    pub(super) fn wrong(&self, name: Name, must: &str) -> DecodeError {
        let offset = self
            .get(name)
            .map_or(0, |value| offset_in(self.body, value.get()));
        DecodeError::new(
            Abnormal::Field(format!("`{}` must be {must}", name.as_str())),
            offset,
        )
    }

    /// Returns the value of a member with two names.
    fn either(&self, name: Name, alias: Name) -> Result<Option<&'a RawValue>, DecodeError> {
        let (Some(one), Some(other)) = (self.get(name), self.get(alias)) else {
            return Ok(self.get(name).or(self.get(alias)));
        };
        let equal = match (text(one), text(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one.get() == other.get(),
        };
        if equal {
            return Ok(Some(one));
        }
        Err(self.wrong(alias, &format!("what `{}` is", name.as_str())))
    }

    pub(super) fn flag(&self) -> Result<Flag, DecodeError> {
        let Some(value) = self.either(Name::Flag, Name::Identifier)? else {
            return Err(DecodeError::new(Abnormal::Flag(String::new()), 0));
        };
        let code = text(value).unwrap_or(Cow::Borrowed(value.get()));
        let known = Flag::ALL.into_iter().find(|flag| flag.as_str() == code);
        known.ok_or_else(|| self.wrong_flag(&code))
    }

    /// An error for a code that is not allowed here, pointing at it.
    fn wrong_flag(&self, code: &str) -> DecodeError {
        let value = self.get(Name::Flag).or(self.get(Name::Identifier));
        let offset = value.map_or(0, |value| offset_in(self.body, value.get()));
        DecodeError::new(Abnormal::Flag(excerpt(code)), offset)
    }

    fn ask(&self) -> Result<ReplyRequest, DecodeError> {
        let reply = self.bool(Name::Reply)?;
        let seq = self.seq()?;
        Ok(ReplyRequest { reply, seq })
    }

    pub(super) fn seq(&self) -> Result<Option<u64>, DecodeError> {
        match self.get(Name::Seq) {
            None => Ok(None),
            Some(_) => self.count(Name::Seq).map(Some),
        }
    }

    fn heartbeat(&self) -> Result<Message<'a>, DecodeError> {
        let word = self.either(Name::Ack, Name::Kp)?.and_then(text);
        if word.as_deref() == Some("keepAlive") {
            return Ok(Message::Heartbeat);
        }
        Err(self.wrong(Name::Ack, "`keepAlive`"))
    }

    fn progress(&self) -> Result<Progress<'a>, DecodeError> {
        self.either(Name::Ack, Name::Kp)?;
        let phase = match self.get(Name::Phase).map(RawValue::get) {
            Some("1") => Phase::Received,
            Some("2") => Phase::Began,
            Some("3") => Phase::Ended,
            _ => return Err(self.wrong(Name::Phase, "1, 2 or 3")),
        };
        Ok(Progress {
            code: self.text(Name::Code)?,
            phase,
            working: self.optional_text(Name::Working)?,
            complete: self.texts(Name::Complete)?,
            oncall: self.texts(Name::Oncall)?,
            lost: self.bool(Name::Lost)?,
            cancelled: self.bool(Name::Cancelled)?,
        })
    }

    fn answer(&self) -> Result<Answer<'a>, DecodeError> {
        self.either(Name::Ack, Name::Kp)?;
        let code = self.result_code()?;
        if self
            .get_some(Name::AnswerTime)
            .is_some_and(|time| !is_number(time))
        {
            return Err(self.wrong(Name::AnswerTime, "a number"));
        }
        // A signed answer to a console command names it as what it is.
        let task = match self.optional_text(Name::TaskId)? {
            Some(task) => Some(task),
            None => self.optional_text(Name::Command)?,
        };
        Ok(Answer { code, task })
    }

    fn result_code(&self) -> Result<ResultCode, DecodeError> {
        match self.get(Name::Rcc).map(RawValue::get) {
            Some("0") => Ok(ResultCode::Unanswered),
            Some("1") => Ok(ResultCode::Received),
            Some("2") => Ok(ResultCode::NoBook),
            Some("3") => Ok(ResultCode::Damaged),
            _ => Err(self.wrong(Name::Rcc, "0, 1, 2 or 3")),
        }
    }

    fn inventory(&self) -> Result<Inventory<'a>, DecodeError> {
        if let Some(word) = self.either(Name::Ack, Name::Kp)? {
            let good = text(word).is_some_and(|word| word.eq_ignore_ascii_case("keepRogerThat"));
            if !good {
                return Err(self.wrong(Name::Ack, "`keepRogerThat`"));
            }
        }
        let info = self.get(Name::SystemInfoTask).map(RawValue::get);
        let Some(info) = info.filter(|info| info.starts_with('{')) else {
            return Err(self.wrong(Name::SystemInfoTask, "an object"));
        };
        let mut inventory = Inventory::default();
        each_member(self.body, info, |name, value| {
            let raw = value.get();
            match raw.as_bytes().first() {
                Some(b'n') => {}
                Some(b'[' | b'{') => {
                    let addresses = addresses(value).ok_or_else(|| {
                        let what =
                            "a value of `systemInfoTask` must be a scalar or a list of texts";
                        DecodeError::new(Abnormal::Field(what.into()), offset_in(self.body, raw))
                    })?;
                    inventory.addresses.extend(addresses);
                }
                _ => inventory.push(&name, text(value).unwrap_or(Cow::Borrowed(raw))),
            }
            Ok(())
        })?;
        Ok(inventory)
    }

    /// Parses one of the three forms of ADH40.
    fn greeting(&self) -> Result<Message<'a>, DecodeError> {
        self.either(Name::Ack, Name::Kp)?;
        if self.get(Name::Proof).is_some() {
            if self.get(Name::Id).is_some() {
                return Err(self.wrong(Name::Proof, "absent where there is an `id`"));
            }
            return self.text(Name::Proof).map(Message::Proof);
        }
        let hello = self.hello()?;
        if self.get_some(Name::Key).is_none() {
            return Ok(Message::Hello(hello));
        }
        let key = self.text(Name::Key)?;
        if HostId::checked(&key).is_err() {
            return Err(self.wrong(Name::Key, "1 to 64 of A-Z a-z 0-9 . _ : -"));
        }
        let nonce = self.nonce()?;
        Ok(Message::KeyedHello(KeyedHello { hello, key, nonce }))
    }

    pub(super) fn nonce(&self) -> Result<Nonce, DecodeError> {
        let nonce = self.get(Name::Nonce).and_then(text);
        let nonce = nonce.and_then(|nonce| Nonce::parse(&nonce));
        nonce.ok_or_else(|| self.wrong(Name::Nonce, "32 of 0-9 a-f"))
    }

    /// A proof of the server's.
    pub(super) fn proof(&self) -> Result<[u8; 32], DecodeError> {
        let proof = self.get(Name::Proof).and_then(text);
        let proof = proof.and_then(|proof| bytes_of(&proof));
        proof.ok_or_else(|| self.wrong(Name::Proof, "64 hexadecimal digits"))
    }

    fn hello(&self) -> Result<Hello<'a>, DecodeError> {
        let udp = match self
            .get_some(Name::Udp)
            .map(|port| port.get().parse::<u16>())
        {
            None | Some(Ok(0)) => None,
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => return Err(self.wrong(Name::Udp, "a port from 1 to 65535")),
        };
        let boot = self.optional_text(Name::Boot)?;
        let is_boot = |boot: &str| {
            (1..=BOOT_DIGITS_MAX).contains(&boot.len())
                && boot.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if boot.as_deref().is_some_and(|boot| !is_boot(boot)) {
            return Err(self.wrong(Name::Boot, "1 to 64 hexadecimal digits"));
        }
        Ok(Hello {
            id: self.text(Name::Id)?,
            udp,
            push: self.bool(Name::Push)?,
            boot,
            resumes: self.bool(Name::Resumes)?,
            labels: self.labels()?,
            version: self.version()?,
            cancel: self.bool(Name::Cancel)?,
        })
    }

    /// Parses the labels that a host claims.
    fn labels(&self) -> Result<ClaimedLabels<'a>, DecodeError> {
        let Some(object) = self.get_some(Name::Labels).map(RawValue::get) else {
            return Ok(Vec::new());
        };
        let wrong = || {
            let what = "an object of at most 32 labels, key and value 1 to 63 of A-Z a-z 0-9 . _ -";
            self.wrong(Name::Labels, what)
        };
        if !object.starts_with('{') {
            return Err(wrong());
        }
        let mut labels = Vec::new();
        each_member(self.body, object, |key, value| {
            let value = text(value).filter(|value| is_label_text(value));
            let value = value.filter(|_| is_label_text(&key) && labels.len() < LABELS_MAX);
            labels.push((key, value.ok_or_else(wrong)?));
            Ok(())
        })?;
        Ok(labels)
    }

    /// Parses the version of a host's program.
    fn version(&self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let version = self.optional_text(Name::Version)?;
        match version.as_deref().is_none_or(is_label_text) {
            true => Ok(version),
            false => Err(self.wrong(Name::Version, "1 to 63 of A-Z a-z 0-9 . _ -")),
        }
    }

    fn book(&self) -> Result<Book<'a>, DecodeError> {
        self.either(Name::Ack, Name::Kp)?;
        let task = self.text(Name::TaskId)?;
        Ok(Book { task })
    }

    fn result(&self) -> Result<ResultHeader<'a>, DecodeError> {
        self.either(Name::Ack, Name::Kp)?;
        let exit = self
            .get(Name::Exit)
            .and_then(|exit| exit.get().parse().ok());
        let sha256 = self
            .get(Name::Sha256)
            .and_then(text)
            .and_then(|hex| bytes_of(&hex));
        Ok(ResultHeader {
            code: self.text(Name::Code)?,
            command: self.text(Name::Task)?,
            exit: exit.ok_or_else(|| self.wrong(Name::Exit, "an integer of 32 bits"))?,
            seconds: self.seconds(Name::Seconds)?,
            size: self.count(Name::TotalSize)?,
            sha256: sha256.ok_or_else(|| self.wrong(Name::Sha256, "64 hexadecimal digits"))?,
            truncated: self.bool(Name::Truncated)?,
        })
    }

    /// Parses a duration in seconds.
    pub(super) fn seconds(&self, name: Name) -> Result<f64, DecodeError> {
        let seconds = self.get(name).and_then(number);
        let seconds = seconds.filter(|seconds| *seconds >= 0.0);
        seconds.ok_or_else(|| self.wrong(name, "a number of seconds, not below 0"))
    }

    /// Parses an integer that every JSON parser represents exactly.
    fn count(&self, name: Name) -> Result<u64, DecodeError> {
        let count = self.get(name).and_then(|value| value.get().parse().ok());
        let count = count.filter(|count| *count <= SEQ_MAX);
        count.ok_or_else(|| self.wrong(name, "an integer from 0 to 2^53 - 1"))
    }

    pub(super) fn text(&self, name: Name) -> Result<Cow<'a, str>, DecodeError> {
        let value = self.get(name).and_then(text);
        value.ok_or_else(|| self.wrong(name, "a string"))
    }

    fn optional_text(&self, name: Name) -> Result<Option<Cow<'a, str>>, DecodeError> {
        match self.get_some(name) {
            None => Ok(None),
            Some(_) => self.text(name).map(Some),
        }
    }

    fn texts(&self, name: Name) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        let list = self.get(name).and_then(list);
        let texts = list.and_then(|list| list.into_iter().map(text).collect());
        texts.ok_or_else(|| self.wrong(name, "a list of strings"))
    }

    fn bool(&self, name: Name) -> Result<bool, DecodeError> {
        match self.get(name).map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }
}
