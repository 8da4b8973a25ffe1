//! The messages, borrowed from the bytes of their frame where possible.
//!
//! One variant per ADH code. The codec only knows that a message is well formed; its meaning is decided
//! in the handlers.

use std::borrow::Cow;

use crate::keys::{Content, KEY_BYTES, Nonce};

/// A received message and the reply that its sender asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming<'a> {
    /// The message.
    pub message: Message<'a>,
    /// The requested reply and its number.
    pub ask: ReplyRequest,
}

/// Request for a reply, as part of a message. Old clients request none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyRequest {
    /// `"reply":true` was present.
    pub reply: bool,
    /// The sender's own `"seq"`, echoed in the reply.
    pub seq: Option<u64>,
}

/// A message from a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// ADH18: the host is alive.
    Heartbeat,
    /// ADH27: progress of a task.
    Progress(Progress<'a>),
    /// ADH33: the host's answer to a dispatch.
    Answer(Answer<'a>),
    /// ADH56: information about the host.
    Inventory(Inventory<'a>),
    /// ADH40: identity and abilities of the host.
    Hello(Hello<'a>),
    /// ADH40 with a key: an identity that the host will prove.
    KeyedHello(KeyedHello<'a>),
    /// ADH40 with a proof: the answer to a challenge.
    Proof(Cow<'a, str>),
    /// ADH41: a request for a task book.
    Book(Book<'a>),
    /// ADH43: output of a command; the bytes follow behind the frame.
    Result(ResultHeader<'a>),
}

impl Message<'_> {
    /// The code of the message, which is also the code of its reply.
    #[must_use]
    pub const fn flag(&self) -> Flag {
        match self {
            Self::Heartbeat => Flag::Heartbeat,
            Self::Progress(_) => Flag::Progress,
            Self::Answer(_) => Flag::Answer,
            Self::Inventory(_) => Flag::Inventory,
            Self::Hello(_) | Self::KeyedHello(_) | Self::Proof(_) => Flag::Hello,
            Self::Book(_) => Flag::Book,
            Self::Result(_) => Flag::Result,
        }
    }
}

/// The codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// ADH18.
    Heartbeat,
    /// ADH27.
    Progress,
    /// ADH33.
    Answer,
    /// ADH56.
    Inventory,
    /// ADH40.
    Hello,
    /// ADH41.
    Book,
    /// ADH43.
    Result,
    /// ADH44, from the server only.
    Dispatch,
    /// ADH45, from the server only.
    Cancel,
}

impl Flag {
    /// The code on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "ADH18",
            Self::Progress => "ADH27",
            Self::Answer => "ADH33",
            Self::Inventory => "ADH56",
            Self::Hello => "ADH40",
            Self::Book => "ADH41",
            Self::Result => "ADH43",
            Self::Dispatch => "ADH44",
            Self::Cancel => "ADH45",
        }
    }

    /// All codes.
    pub const ALL: [Self; 9] = [
        Self::Heartbeat,
        Self::Progress,
        Self::Answer,
        Self::Inventory,
        Self::Hello,
        Self::Book,
        Self::Result,
        Self::Dispatch,
        Self::Cancel,
    ];
}

/// The event that an ADH27 reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// 1: the book was received; `oncall` lists all of it.
    Received,
    /// 2: `working` has begun, and is still in `oncall`.
    Began,
    /// 3: a command ended; `complete` and `oncall` list the finished and the remaining commands.
    Ended,
}

/// ADH27.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The task, unchecked: it may not be a key.
    pub code: Cow<'a, str>,
    /// The event.
    pub phase: Phase,
    /// The running command.
    pub working: Option<Cow<'a, str>>,
    /// The finished commands, in order.
    pub complete: Vec<Cow<'a, str>>,
    /// The remaining commands.
    pub oncall: Vec<Cow<'a, str>>,
    /// The host's process ended during the task: the remaining commands will not run.
    pub lost: bool,
    /// The task was cancelled: the remaining commands will not run.
    pub cancelled: bool,
}

/// Result of a datagram in an ADH33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultCode {
    /// 1: received.
    Received,
    /// 0: damaged (in the old fleet: the server's own "no answer in time").
    Unanswered,
    /// 3: damaged.
    Damaged,
    /// 2: there is no task book under that key.
    NoBook,
}

/// ADH33.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<'a> {
    /// The result.
    pub code: ResultCode,
    /// The text of the datagram, unchecked: a key, a console line, or nothing.
    pub task: Option<Cow<'a, str>>,
}

/// ADH56: every value that is not a list, and every element of the lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory<'a> {
    /// `hostname`, also among `values`.
    pub hostname: Option<Cow<'a, str>>,
    /// `MACAddress`, also among `values`.
    pub mac: Option<Cow<'a, str>>,
    /// Every value that is not a list, as text, in the order given.
    pub values: Vec<Cow<'a, str>>,
    /// Every element of every list, as text, in the order given: the IPv4 addresses.
    pub addresses: Vec<Cow<'a, str>>,
}

impl<'a> Inventory<'a> {
    /// Adds a value that is not a list, and sets `hostname` or `mac` if it has that name.
    pub(super) fn push(&mut self, name: &str, value: Cow<'a, str>) {
        match name {
            "hostname" => self.hostname = Some(value.clone()),
            "MACAddress" => self.mac = Some(value.clone()),
            _ => {}
        }
        self.values.push(value);
    }
}

/// Labels that a host claims: key and value.
pub type ClaimedLabels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// ADH40, without a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello<'a> {
    /// The requested id, unchecked.
    pub id: Cow<'a, str>,
    /// The host's UDP port, if it is not the usual one.
    pub udp: Option<u16>,
    /// The host wants dispatches over this connection.
    pub push: bool,
    /// Identifies the host's process. A new value means that the old process's work is lost, unless the
    /// new one `resumes`.
    pub boot: Option<Cow<'a, str>>,
    /// The process remembers the tasks that an earlier one took. It runs those that had not begun, and
    /// reports the others itself.
    pub resumes: bool,
    /// Labels that the host claims: key and value, of a label's alphabet.
    pub labels: ClaimedLabels<'a>,
    /// Version of the host's program.
    pub version: Option<Cow<'a, str>>,
    /// The host takes ADH45, the order to end a task.
    pub cancel: bool,
}

/// ADH40, with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedHello<'a> {
    /// The rest of the hello.
    pub hello: Hello<'a>,
    /// The name of the key, of an id's alphabet.
    pub key: Cow<'a, str>,
    /// The host's nonce.
    pub nonce: Nonce,
}

/// The signature of a datagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature<'a> {
    /// Id of the signing host; absent in datagrams to a host.
    pub id: Option<Cow<'a, str>>,
    /// Its number.
    pub n: u64,
    /// The mac.
    pub mac: [u8; KEY_BYTES],
    /// The signed content, except the number.
    pub over: Over<'a>,
}

/// The signed content of a datagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Over<'a> {
    /// The code.
    pub flag: Flag,
    /// `taskId` or `command`; empty for a heartbeat.
    pub field: &'static str,
    /// The value of the field.
    pub value: Cow<'a, str>,
    /// The result code of an answer.
    pub rcc: Option<u8>,
    /// The id of a console command.
    pub cid: Option<Cow<'a, str>>,
}

impl Signature<'_> {
    /// Returns whether the signature was made with this key.
    #[must_use]
    pub fn is_of(&self, key: &[u8; KEY_BYTES]) -> bool {
        self.over.content(self.n).has(key, &self.mac)
    }
}

impl Over<'_> {
    /// The signed content under number `n`.
    #[must_use]
    pub fn content(&self, n: u64) -> Content<'_> {
        Content {
            flag: self.flag.as_str(),
            n,
            field: self.field,
            value: &self.value,
            rcc: self.rcc,
            cid: self.cid.as_deref(),
        }
    }
}

/// A datagram with its optional signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Datagram<'a, T> {
    /// The content.
    pub content: T,
    /// The signature, if there is one.
    pub signature: Option<Signature<'a>>,
}

/// ADH41.
#[derive(Clone, Debug, PartialEq)]
pub struct Book<'a> {
    /// The task key, unchecked.
    pub task: Cow<'a, str>,
}

/// ADH43: the header; exactly `size` raw bytes follow its frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultHeader<'a> {
    /// The task's key, or the id of a console command; unchecked.
    pub code: Cow<'a, str>,
    /// The command.
    pub command: Cow<'a, str>,
    /// Its exit status.
    pub exit: i32,
    /// Run time in seconds.
    pub seconds: f64,
    /// Number of raw bytes behind the frame, after truncation.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// The command's output was longer.
    pub truncated: bool,
}

impl ResultCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unanswered => 0,
            Self::Received => 1,
            Self::NoBook => 2,
            Self::Damaged => 3,
        }
    }
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum FromServer<'a> {
    /// The answer to a message.
    Reply(Reply),
    /// ADH44: a dispatch.
    Push(Push<'a>),
}

/// ADH44: a dispatch to a host over its connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Push<'a> {
    /// There is a task.
    Task(Cow<'a, str>),
    /// ADH45: end this task. Over a connection only.
    Cancel(Cow<'a, str>),
    /// Run this console command, once.
    Command {
        /// The command.
        text: Cow<'a, str>,
        /// Its id, 32 hex digits.
        cid: Cow<'a, str>,
    },
}

/// A reply: `{"flag":…,"ACK":…,"seq":…}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Code of the message that is answered.
    pub flag: Flag,
    /// Number that its sender gave.
    pub seq: Option<u64>,
    /// The word and its data.
    pub word: Word,
}

/// The word of a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// `keepAlive`: the heartbeat arrived.
    Alive,
    /// `keepGotIt`: stored for good.
    GotIt,
    /// `keepRogerThat`: the host's information is stored.
    RogerThat,
    /// `keepGotIt` to a hello, with the heartbeat interval.
    Welcome {
        /// Seconds between two heartbeats.
        interval_s: f64,
    },
    /// `keepChallenge`: a request to prove the key.
    Challenge(Nonce),
    /// `keepGotIt` to a proof, with the server's proof. The last frame without a tag.
    Proven {
        /// The server's proof.
        proof: [u8; KEY_BYTES],
        /// Seconds between two heartbeats.
        interval_s: f64,
    },
    /// `keepGotIt` to an ADH41: the book, highest priority first.
    Book {
        /// The task.
        task: String,
        /// Command and priority.
        commands: Vec<(String, f64)>,
    },
    /// `keepRefused`, with a short reason.
    Refused(String),
}
