//! The messages themselves, borrowed from the bytes they came in where they can be.
//!
//! A variant an ADH code. What a message *means* is the handlers' business; here it is only known
//! to be well formed.

use std::borrow::Cow;

use crate::keys::{Content, KEY_BYTES, Nonce};

/// One message as it came, and what its sender wants back for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming<'a> {
    /// The message.
    pub message: Message<'a>,
    /// Whether an answer is wanted, and under which number.
    pub ask: Ask,
}

/// What the sender of a message wants back: old clients nothing, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `"reply":true` was there.
    pub reply: bool,
    /// The sender's own `"seq"`, sent back with the reply.
    pub seq: Option<u64>,
}

/// A message from a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// ADH18: the host is alive.
    Heartbeat,
    /// ADH27: how far the host has come with a task.
    Progress(Progress<'a>),
    /// ADH33: the host's answer to a dispatch.
    Answer(Answer<'a>),
    /// ADH56: what the host is.
    Inventory(Inventory<'a>),
    /// ADH40: who the host is and what it can do.
    Hello(Hello<'a>),
    /// ADH40 with a key: who the host says it is, to be proved.
    KeyedHello(KeyedHello<'a>),
    /// ADH40 with a proof: the answer to a challenge.
    Proof(Cow<'a, str>),
    /// ADH41: the host wants the book of a task.
    Book(Book<'a>),
    /// ADH43: what a command put out; the bytes follow behind the frame.
    Result(ResultHeader<'a>),
}

impl Message<'_> {
    /// The code it came under, which is also the code of its reply.
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
}

impl Flag {
    /// The code as it travels.
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
        }
    }

    /// Every code there is.
    pub const ALL: [Self; 8] = [
        Self::Heartbeat,
        Self::Progress,
        Self::Answer,
        Self::Inventory,
        Self::Hello,
        Self::Book,
        Self::Result,
        Self::Dispatch,
    ];
}

/// What an ADH27 says has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// 1: the book was received; `oncall` lists all of it.
    Received,
    /// 2: `working` has begun, and is still in `oncall`.
    Began,
    /// 3: a command ended; `complete` and `oncall` say what is done and what is left.
    Ended,
}

/// ADH27.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The task it is about, unchecked: it may be no key at all.
    pub code: Cow<'a, str>,
    /// What has happened.
    pub phase: Phase,
    /// The command under way.
    pub working: Option<Cow<'a, str>>,
    /// The commands done, in order.
    pub complete: Vec<Cow<'a, str>>,
    /// The commands left.
    pub oncall: Vec<Cow<'a, str>>,
    /// The host's process ended under the task: what is left will not be run.
    pub lost: bool,
}

/// What an ADH33 says of the datagram it answers.
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
    /// What became of the datagram.
    pub code: ResultCode,
    /// The text of the datagram, unchecked: a key, a console line, or nothing.
    pub task: Option<Cow<'a, str>>,
}

/// ADH56: every value that is no list, and every element of those that are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory<'a> {
    /// `hostname`, also among `values`.
    pub hostname: Option<Cow<'a, str>>,
    /// `MACAddress`, also among `values`.
    pub mac: Option<Cow<'a, str>>,
    /// Every value that is no list, as text, in the order given.
    pub values: Vec<Cow<'a, str>>,
    /// Every element of every list, as text, in the order given: the IPv4 addresses.
    pub addresses: Vec<Cow<'a, str>>,
}

impl<'a> Inventory<'a> {
    /// Adds a value that is no list, and picks it out if its name is one of the two known.
    pub(super) fn push(&mut self, name: &str, value: Cow<'a, str>) {
        match name {
            "hostname" => self.hostname = Some(value.clone()),
            "MACAddress" => self.mac = Some(value.clone()),
            _ => {}
        }
        self.values.push(value);
    }
}

/// ADH40, without a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello<'a> {
    /// The id the host wants to be known by, unchecked.
    pub id: Cow<'a, str>,
    /// The UDP port it listens on, where that is not the usual one.
    pub udp: Option<u16>,
    /// Whether it wants dispatches over this connection.
    pub push: bool,
    /// Names the host's process: another one than before has forgotten what it was at work on.
    pub boot: Option<Cow<'a, str>>,
}

/// ADH40, with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedHello<'a> {
    /// What it says beside.
    pub hello: Hello<'a>,
    /// The name of the key, of an id's alphabet.
    pub key: Cow<'a, str>,
    /// The host's nonce.
    pub nonce: Nonce,
}

/// What makes a datagram a signed one.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature<'a> {
    /// Who says to have signed it: the id to the server, nothing to a host.
    pub id: Option<Cow<'a, str>>,
    /// Its number.
    pub n: u64,
    /// The mac.
    pub mac: [u8; KEY_BYTES],
    /// What it is over, beside the number.
    pub over: Over<'a>,
}

/// What a signature is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Over<'a> {
    /// The code.
    pub flag: Flag,
    /// `taskId` or `command`; empty for a heartbeat.
    pub field: &'static str,
    /// What stands there.
    pub value: Cow<'a, str>,
    /// The result code of an answer.
    pub rcc: Option<u8>,
    /// The id of a console command.
    pub cid: Option<Cow<'a, str>>,
}

impl Signature<'_> {
    /// Whether it was made with this key.
    #[must_use]
    pub fn is_of(&self, key: &[u8; KEY_BYTES]) -> bool {
        self.over.content(self.n).has(key, &self.mac)
    }
}

impl Over<'_> {
    /// As it is signed under number `n`.
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

/// A datagram, with its signature if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Datagram<'a, T> {
    /// What it says.
    pub said: T,
    /// Who says so.
    pub signature: Option<Signature<'a>>,
}

/// ADH41.
#[derive(Clone, Debug, PartialEq)]
pub struct Book<'a> {
    /// The task, unchecked.
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
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// The raw bytes behind the frame, after any truncation.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// Whether the command put out more than that.
    pub truncated: bool,
}

impl ResultCode {
    /// As it travels.
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

/// What the server says: the other end of the same protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum FromServer<'a> {
    /// The answer to a message.
    Reply(Reply),
    /// ADH44.
    Push(Push<'a>),
}

/// ADH44: what the server sends a host over its connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Push<'a> {
    /// There is a task.
    Task(Cow<'a, str>),
    /// Run this console command, once.
    Command {
        /// The command.
        text: Cow<'a, str>,
        /// Its id, 32 hex digits.
        cid: Cow<'a, str>,
    },
}

/// A reply, as it is sent: `{"flag":…,"ACK":…,"seq":…}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The code of what is answered.
    pub flag: Flag,
    /// The number its sender gave it.
    pub seq: Option<u64>,
    /// The word, and what goes with it.
    pub word: Word,
}

/// The word of a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// `keepAlive`: the heartbeat was heard.
    Alive,
    /// `keepGotIt`: stored for good.
    GotIt,
    /// `keepRogerThat`: the host's information is stored.
    RogerThat,
    /// `keepGotIt` to a hello, with how often to beat, in seconds.
    Welcome {
        /// Seconds between two heartbeats.
        interval_s: f64,
    },
    /// `keepChallenge`: prove that you have the key.
    Challenge(Nonce),
    /// `keepGotIt` to a proof, with the server's own. The last frame without a tag.
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
    /// `keepRefused`, with the reason in a few words.
    Refused(String),
}
