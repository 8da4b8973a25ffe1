//! The agent's core: bytes, datagrams, ended commands and time go in, effects come out. It owns no
//! socket, file, thread or clock, so that a fleet of agents runs in a test.
//!
//! ```text
//!            connected        welcome             silence, close
//!  Waiting ─▶ Connecting ─▶ Greeting ─▶ Live ──────────┐
//!     ▲ backoff, jittered, for ever                    │
//!     └────────────────────────────────────────────────┘
//!
//!  key ─▶ taken ─▶ book ─▶ phase 1 ─▶ ( starting ─ phase 2 ─ run ─ result ─ phase 3 )… ─▶ ended
//!           └ ADH33 RCC 1   └ refused: ADH33 RCC 2
//! ```
//!
//! The order of the effects makes a book run at most once: the driver brings every
//! [`Effect::Write`] to the disk before the next effect that is visible outside.

mod keyed;
mod link;
mod reports;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{HashSet, VecDeque};
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use log::Level;

use super::allow::{Allow, Job};
use super::memory::{Memory, Record};
use crate::codec::message::ResultCode;
use crate::rng::Rng;
use crate::time::{Instant, Span, UnixMs};
pub use keyed::Nonces;

use keyed::Keyed;
use link::Link;
use reports::Losses;
use work::{Item, Running};

/// Exit status of a command that was refused or could not be started.
pub const REFUSED: i32 = 126;
/// Exit status of a missing program.
pub const NOT_FOUND: i32 = 127;
/// Exit status of a command that ran out of time.
pub const TIMED_OUT: i32 = 124;
/// Exit status of a console command that was running when the agent ended: as if killed.
pub const KILLED: i32 = 137;

/// Settings of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Id in the hello; `None`: the host is identified by its address.
    pub id: Option<String>,
    /// Its UDP port.
    pub udp: Option<u16>,
    /// The agent wants dispatches over its connection.
    pub push: bool,
    /// The connection speaks TLS: bare datagrams are then dropped.
    pub tls: bool,
    /// Names this process: up to 64 random hex digits.
    pub boot: String,
    /// Heartbeat interval; `None`: the server's.
    pub interval: Option<Span>,
    /// The agent accepts work. It must not without a journal.
    pub takes_work: bool,
    /// Seed of the random generator: agents of a fleet need different ones.
    pub seed: u64,
    /// Labels that the host claims.
    pub labels: Vec<(String, String)>,
}

/// Both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic clock, for all decisions.
    pub now: Instant,
    /// Wall clock, for the journal and the messages.
    pub wall: UnixMs,
}

/// Facts about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub hostname: Option<String>,
    /// Hardware address of the connection's interface, or of the first interface.
    pub mac: Option<String>,
    /// Its IPv4 addresses.
    pub ipv4: Vec<String>,
}

/// A command that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Exit status by the convention of shells.
    pub exit: i32,
    /// Run time in seconds.
    pub seconds: f64,
    /// Output, or the reason for not running.
    pub output: Vec<u8>,
    /// The output was cut.
    pub truncated: bool,
}

/// Effects of the core, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Connect to the server; the result is passed to [`AgentCore::connected`] or
    /// [`AgentCore::disconnected`].
    Connect,
    /// Close the connection, or stop connecting. The core is not notified of the end.
    Disconnect,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send the stored output of a report.
    SendOutput {
        /// Number of the report.
        seq: u64,
        /// Size in bytes.
        size: u64,
    },
    /// Store this output for the report that is written next.
    Keep {
        /// Number of the report.
        seq: u64,
        /// The bytes.
        output: Vec<u8>,
    },
    /// Delete the stored output of a report.
    Drop {
        /// Number of the report.
        seq: u64,
    },
    /// Write this record. It must be on the disk before any later effect that is visible outside.
    Write(Record),
    /// Run this job; its end is passed to [`AgentCore::finished`].
    Run(Job),
    /// End the running job. Its end is passed to [`AgentCore::finished`], as always.
    EndRunning,
    /// Read the facts about the host; they are passed to [`AgentCore::facts`].
    Look,
    /// Write this to the log.
    Log(Note),
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Log level.
    pub level: Level,
    /// The whole message.
    pub text: String,
    /// Fields for lines in JSON: `key`, `command`, `reason`, …
    pub fields: Vec<(&'static str, String)>,
}

impl log::kv::Source for Note {
    fn visit<'kvs>(
        &'kvs self,
        visitor: &mut dyn log::kv::VisitSource<'kvs>,
    ) -> Result<(), log::kv::Error> {
        for (name, value) in &self.fields {
            visitor.visit_pair((*name).into(), value.as_str().into())?;
        }
        Ok(())
    }
}

/// An agent.
#[derive(Debug)]
pub struct AgentCore {
    settings: Settings,
    allow: Arc<Allow>,
    memory: Memory,
    rng: Rng,
    link: Link,
    /// Number of failed connection attempts since the last success.
    failures: u32,
    /// Number of accepted connections in a row that the server has closed.
    evictions: u32,
    /// Address of the server, after the first connection.
    server: Option<IpAddr>,
    facts: Facts,
    /// Queued tasks and commands, in order of arrival.
    queue: VecDeque<Item>,
    /// Queued tasks whose books an earlier process fetched. They start if the server still has
    /// them.
    unconfirmed: HashSet<String>,
    running: Option<Running>,
    /// The task of the running command is cancelled.
    is_cancelling: bool,
    /// Answers that wait for the next connection.
    answers: VecDeque<(Moment, ResultCode, Option<String>)>,
    losses: Losses,
    /// Its key, if it has one.
    keyed: Option<Box<Keyed>>,
}

impl AgentCore {
    /// Creates an agent from its memory. Work that an earlier process had started is reported lost;
    /// queued work stays queued.
    #[must_use]
    pub fn new(
        settings: Settings,
        allow: Arc<Allow>,
        memory: Memory,
        at: Moment,
        fx: &mut Vec<Effect>,
    ) -> Self {
        let mut core = Self {
            rng: Rng::new(settings.seed),
            settings,
            allow,
            memory,
            link: Link::Waiting { until: at.now },
            failures: 0,
            evictions: 0,
            server: None,
            facts: Facts::default(),
            queue: VecDeque::new(),
            unconfirmed: HashSet::new(),
            running: None,
            is_cancelling: false,
            answers: VecDeque::new(),
            losses: Losses::default(),
            keyed: None,
        };
        core.resume(at, fx);
        core
    }

    /// Replaces the allow file. The running command continues.
    pub fn set_allow(&mut self, allow: Arc<Allow>) {
        self.allow = allow;
    }

    /// Takes over the key of another core.
    pub fn inherit_key(&mut self, before: &mut Self) {
        self.keyed = before.keyed.take();
        if let Some(keyed) = &mut self.keyed {
            keyed.forget();
        }
    }

    /// The durable state, from which the journal is rewritten.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Returns whether the agent is connected and its hello was accepted.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.link, Link::Live(_))
    }

    fn write(&mut self, record: Record, fx: &mut Vec<Effect>) {
        self.memory.apply(record.clone());
        fx.push(Effect::Write(record));
    }
}

fn note(
    level: Level,
    fields: &[(&'static str, &dyn Display)],
    text: impl Into<String>,
    fx: &mut Vec<Effect>,
) {
    let fields = fields
        .iter()
        .map(|(name, value)| (*name, value.to_string()));
    fx.push(Effect::Log(Note {
        level,
        text: text.into(),
        fields: fields.collect(),
    }));
}
