//! What an agent does: bytes, datagrams, ended commands and time in, effects out. It owns no socket,
//! no file, no thread and no clock, so that a fleet of them runs in a test.
//!
//! ```text
//!            connected        welcome             silence, close
//!  Resting ─▶ Connecting ─▶ Greeting ─▶ Live ──────────┐
//!     ▲ backoff, jittered, for ever                    │
//!     └────────────────────────────────────────────────┘
//!
//!  key ─▶ taken ─▶ book ─▶ phase 1 ─▶ ( starting ─ phase 2 ─ run ─ result ─ phase 3 )… ─▶ ended
//!           └ ADH33 RCC 1   └ refused: ADH33 RCC 2
//! ```
//!
//! Effects are in order, and the order is what makes a book run at most once: whoever drives brings
//! every [`Effect::Write`] to the disk before the next effect that is seen outside.

mod keyed;
mod link;
mod reports;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use log::Level;

use super::allow::{Allow, Job};
use super::memory::{Memory, Record};
use crate::chance::Chance;
use crate::codec::message::ResultCode;
use crate::time::{Instant, Span, UnixMs};
pub use keyed::Nonces;

use keyed::Keyed;
use link::Link;
use reports::Losses;
use work::{Item, Running};

/// The exit told of a command that was refused or could not be started.
pub const REFUSED: i32 = 126;
/// The exit told of a program that there is not.
pub const NOT_FOUND: i32 = 127;
/// The exit told of a command that ran out of time.
pub const TIMED_OUT: i32 = 124;
/// The exit told of a console command that was under way when the agent ended: as if killed.
pub const KILLED: i32 = 137;

/// How an agent behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The id it gives itself; without one it is known by the address it connects from.
    pub id: Option<String>,
    /// The UDP port it listens on.
    pub udp: Option<u16>,
    /// Whether it wants dispatches over its connection.
    pub push: bool,
    /// Whether its connection speaks TLS: bare datagrams are then dropped.
    pub tls: bool,
    /// Names this process: up to 64 random hex digits.
    pub boot: String,
    /// How often to beat; without it as often as the server says.
    pub interval: Option<Span>,
    /// Whether it takes work. One that cannot remember it must not.
    pub takes_work: bool,
    /// Where its chance begins: agents of a fleet must have different ones.
    pub seed: u64,
}

/// Both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock, which decides.
    pub now: Instant,
    /// The wall clock, which is written down.
    pub wall: UnixMs,
}

/// What the host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub hostname: Option<String>,
    /// The hardware address of the interface it is connected by, or of the first it has.
    pub mac: Option<String>,
    /// Its IPv4 addresses.
    pub ipv4: Vec<String>,
}

/// A command that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The exit status, as shells tell it.
    pub exit: i32,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// What it put out, or why it did not run.
    pub output: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

/// What the core wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Connect to the server; what comes of it is told by [`Core::connected`] or [`Core::disconnected`].
    Connect,
    /// Close the connection, or give up connecting. It is not told of again.
    Disconnect,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send the output kept for a report.
    SendOutput {
        /// Which report.
        seq: u64,
        /// How many bytes it has.
        size: u64,
    },
    /// Keep this output for a report that is written down next.
    Keep {
        /// Which report.
        seq: u64,
        /// The bytes.
        output: Vec<u8>,
    },
    /// Let go of the output kept for a report.
    Drop {
        /// Which report.
        seq: u64,
    },
    /// Write this down: on the disk before any later effect is carried out that can be seen outside.
    Write(Record),
    /// Run this; its end is told by [`Core::finished`].
    Run(Job),
    /// Look what the host is, and tell by [`Core::facts`].
    Look,
    /// Say this to whoever reads the log.
    Note(Level, String),
}

/// An agent.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    allow: Arc<Allow>,
    memory: Memory,
    chance: Chance,
    link: Link,
    /// How often connecting has failed since it last went well.
    failures: u32,
    /// How often in a row the server has ended a connection that it had accepted.
    evictions: u32,
    /// Where the server is, once we have been connected to it.
    server: Option<IpAddr>,
    facts: Facts,
    /// Tasks and commands to be done, in the order in which they came.
    queue: VecDeque<Item>,
    /// Queued tasks whose books an earlier process got. They begin when the server still has them.
    unconfirmed: HashSet<String>,
    running: Option<Running>,
    /// What has still to be answered, while there is no connection.
    answers: VecDeque<(Moment, ResultCode, Option<String>)>,
    losses: Losses,
    /// Its key, if it has one.
    keyed: Option<Box<Keyed>>,
}

impl Core {
    /// An agent with what it remembers. Work that an earlier process had started is reported lost; queued
    /// work stays queued.
    #[must_use]
    pub fn new(
        settings: Settings,
        allow: Arc<Allow>,
        memory: Memory,
        at: Moment,
        fx: &mut Vec<Effect>,
    ) -> Self {
        let mut core = Self {
            chance: Chance::new(settings.seed),
            settings,
            allow,
            memory,
            link: Link::Resting { until: at.now },
            failures: 0,
            evictions: 0,
            server: None,
            facts: Facts::default(),
            queue: VecDeque::new(),
            unconfirmed: HashSet::new(),
            running: None,
            answers: VecDeque::new(),
            losses: Losses::default(),
            keyed: None,
        };
        core.resume(at, fx);
        core
    }

    /// From now on this is what may be run. The command under way goes on.
    pub fn set_allow(&mut self, allow: Arc<Allow>) {
        self.allow = allow;
    }

    /// Goes on as the core before it, with its key.
    pub fn inherit_key(&mut self, before: &mut Self) {
        self.keyed = before.keyed.take();
        if let Some(keyed) = &mut self.keyed {
            keyed.forget();
        }
    }

    /// What it remembers: the journal is written anew from this.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether it is connected and welcome.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.link, Link::Live(_))
    }

    fn write(&mut self, record: Record, fx: &mut Vec<Effect>) {
        self.memory.apply(record.clone());
        fx.push(Effect::Write(record));
    }
}

fn note(level: Level, text: impl Into<String>, fx: &mut Vec<Effect>) {
    fx.push(Effect::Note(level, text.into()));
}
