//! The loop of an agent: sockets, clocks, journal and runner around the core.
//!
//! ```text
//!  wait ─▶ read TCP, UDP, ended commands ─▶ core ─▶ tick ─▶ effects, in order ─▶ write
//!                                                            │ before anything is sent or
//!                                                            │ started: journal to the disk
//! ```
//!
//! If the journal cannot be written, the agent drops its work, accepts no more, and only sends
//! heartbeats. After an error of the disk (full, read-only) the journal is tried again; once it
//! opens, the agent continues like a restarted one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use super::allow::Allow;
use super::core::{AgentCore, Effect, Moment, Note, Settings};
use super::facts;
use super::handle::Handle;
use super::journal::{Journal, JournalError, is_disk_error};
use super::memory::Memory;
use super::runner::Runner;
use super::setup::{AgentError, Setup};
use super::udp;
use super::wire::Wire;
use crate::limits::{
    AGENT_DISK_RETRY_S, AGENT_READ_BYTES_PER_TURN_MAX, AGENT_UNREAD_BYTES_MAX,
    DATAGRAM_SIGNED_BYTES_MAX, DATAGRAMS_PER_TURN_MAX, READ_BUFFER_BYTES,
};
use crate::time::{Instant, Span, UnixMs};

const TCP: Token = Token(0);
const UDP: Token = Token(1);
const WAKER: Token = Token(2);
const DISK_RETRY: Span = Span::from_secs(AGENT_DISK_RETRY_S);
/// Consequence of a disk error that is retried, for the log.
const NO_WORK: &str = "this host sends heartbeats and accepts no work until it can be written";
/// Consequence of any other unwritable journal.
const NO_WORK_UNTIL_RESTART: &str =
    "this host sends heartbeats and accepts no work until the agent is restarted";

/// An agent.
#[derive(Debug)]
pub struct Agent {
    setup: Setup,
    settings: Settings,
    allow: Arc<Allow>,
    core: AgentCore,
    poll: Poll,
    handle: Handle,
    begun: SystemInstant,
    tcp: Option<Wire>,
    udp: Option<UdpSocket>,
    /// A socket has unread data: the next wait is zero.
    is_ready: bool,
    /// `None` if it cannot be written.
    journal: Option<Journal>,
    /// Time of the next attempt to open the journal after an error of the disk.
    retry: Option<Instant>,
    /// Index of the server address in use; the next one is tried if no hello is accepted.
    address_index: usize,
    was_accepted: bool,
    runner: Runner,
}

impl Agent {
    /// Binds the socket and reads the journal.
    ///
    /// # Errors
    /// Another agent uses the journal, or a system error.
    pub fn start(mut setup: Setup) -> Result<Self, AgentError> {
        let opened = match open_journal(&setup.state) {
            Ok(opened) => Some(opened),
            Err(error) if error.is_disk_error() => {
                log::error!(target: "agent", error:% = error; "{error}; {NO_WORK}");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let retry = opened.is_none().then_some(Instant::ZERO + DISK_RETRY);
        let (journal, memory) = opened.unzip();
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        // TLS without a key has no datagrams: nothing in a datagram would prove its sender.
        let is_tls = setup.tls.is_some();
        if is_tls && setup.key.is_none() {
            setup.udp = None;
            setup.push = true;
        }
        let mut udp = match setup.udp {
            Some(port) => Some(udp::bind(setup.source, port)?),
            None => None,
        };
        if let Some(udp) = &mut udp {
            poll.registry().register(udp, UDP, Interest::READABLE)?;
        }
        let settings = Settings {
            id: setup.id.clone(),
            udp: match &udp {
                Some(udp) => Some(udp.local_addr()?.port()),
                None => None,
            },
            push: setup.push,
            tls: is_tls,
            boot: boot()?,
            interval: setup.interval,
            takes_work: journal.is_some(),
            seed: getrandom::u64().map_err(io::Error::other)?,
            labels: setup.labels.clone(),
        };
        let allow = Arc::new(std::mem::take(&mut setup.allow));
        let state = journal.is_some().then(|| setup.state.clone());
        let runner = Runner::start(Arc::clone(&waker), state)?;
        let begun = SystemInstant::now();
        let mut fx = Vec::new();
        let mut core = AgentCore::new(
            settings.clone(),
            Arc::clone(&allow),
            memory.unwrap_or_default(),
            Moment {
                now: Instant::ZERO,
                wall: wall(),
            },
            &mut fx,
        );
        if let Some((name, key)) = setup.key.take() {
            core.set_key(name, key, Box::new(nonce));
        }
        let handle = Handle::new(waker);
        let mut agent = Self {
            setup,
            settings,
            allow,
            core,
            poll,
            handle,
            begun,
            tcp: None,
            udp,
            is_ready: false,
            journal,
            retry,
            address_index: 0,
            was_accepted: true,
            runner,
        };
        agent.apply_effects(fx);
        Ok(agent)
    }

    /// Handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs on this thread until it is stopped.
    ///
    /// # Errors
    /// An error of the poll.
    pub fn run(mut self) -> Result<(), AgentError> {
        let mut events = Events::with_capacity(16);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            match self.poll.poll(&mut events, Some(self.poll_timeout())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            if self.handle.is_stopped() {
                return Ok(());
            }
            self.turn(&mut buffer);
        }
    }

    /// Time-out of the next wait.
    fn poll_timeout(&self) -> Duration {
        if self.is_ready {
            return Duration::ZERO;
        }
        let due = self.core.deadline();
        let due = self.retry.map_or(due, |retry| due.min(retry));
        due.since(self.now()).into()
    }

    fn now(&self) -> Instant {
        Instant::ZERO + Span::from(self.begun.elapsed())
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            wall: wall(),
        }
    }

    /// Runs one turn. It reads both sockets, since an empty read is cheaper than tracking their
    /// readiness.
    fn turn(&mut self, buffer: &mut [u8]) {
        self.is_ready = false;
        self.was_accepted |= self.core.is_live();
        let allow = self.handle.changes().allow.take();
        if let Some(allow) = allow {
            self.allow = Arc::new(allow);
            self.core.set_allow(Arc::clone(&self.allow));
        }
        if self.retry.is_some_and(|retry| self.now() >= retry) {
            self.retry_journal();
        }
        let mut fx = Vec::new();
        self.read_tcp(buffer, &mut fx);
        self.apply_effects(fx);
        let mut fx = Vec::new();
        self.read_udp(buffer, &mut fx);
        if let Some(finished) = self.runner.finished() {
            self.core.finished(finished, &mut fx);
        }
        self.apply_effects(fx);
        let mut fx = Vec::new();
        self.core.tick(self.moment(), &mut fx);
        self.apply_effects(fx);
        self.flush();
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal
                .sync()
                .and_then(|()| journal.compact(self.core.memory()))
        {
            self.drop_journal(&error);
        }
    }

    fn read_tcp(&mut self, buffer: &mut [u8], fx: &mut Vec<Effect>) {
        let at = self.moment();
        let Some(tcp) = &mut self.tcp else {
            return;
        };
        // Counts encrypted bytes, too: a TLS record need not hold any data.
        let mut left = AGENT_READ_BYTES_PER_TURN_MAX;
        if !tcp.is_connected() {
            match tcp.finish_connect(&mut left) {
                Ok(None) => {
                    self.is_ready = left == 0;
                    return;
                }
                Ok(Some((local, server))) => self.core.connected(at, local, server, fx),
                Err(error) => return self.lost(at, &error.to_string(), fx),
            }
        }
        while let Some(tcp) = &mut self.tcp {
            match tcp.read(buffer, &mut left) {
                Ok(0) => return self.lost(at, "it closed the connection", fx),
                Ok(read) => self.core.bytes(at, &buffer[..read], fx),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_ready = left == 0;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lost(at, &error.to_string(), fx),
            }
        }
    }

    fn lost(&mut self, at: Moment, why: &str, fx: &mut Vec<Effect>) {
        self.tcp = None;
        self.core.disconnected(at, why, fx);
    }

    fn read_udp(&mut self, buffer: &mut [u8], fx: &mut Vec<Effect>) {
        let at = self.moment();
        let Some(udp) = &self.udp else {
            return;
        };
        // One byte more than the limit, to detect longer datagrams.
        let buffer = &mut buffer[..DATAGRAM_SIGNED_BYTES_MAX + 1];
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            match udp.recv_from(buffer) {
                Ok((read, from)) => self.core.datagram(at, from.ip(), &buffer[..read], fx),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Read again in the next turn.
                Err(_) => return,
            }
        }
        self.is_ready = true;
    }

    /// Applies effects in order, then the effects that they cause.
    fn apply_effects(&mut self, fx: Vec<Effect>) {
        let mut more = Vec::new();
        for effect in fx {
            if let Err(error) = self.effect(effect, &mut more) {
                // The remaining effects belong to dropped work.
                return self.drop_journal(&error);
            }
        }
        if !more.is_empty() {
            self.apply_effects(more);
        }
    }

    /// Applies one effect.
    ///
    /// # Errors
    /// When the journal cannot be written.
    fn effect(&mut self, effect: Effect, more: &mut Vec<Effect>) -> io::Result<()> {
        match effect {
            Effect::Connect => self.connect(more),
            Effect::Disconnect => self.tcp = None,
            Effect::Send(bytes) => {
                self.sync()?;
                self.send(&bytes);
            }
            Effect::SendOutput { seq, size } => self.send_output(seq, size, more),
            Effect::Keep { seq, output } => {
                if let Some(journal) = &mut self.journal {
                    journal.keep(seq, &output)?;
                }
            }
            Effect::Drop { seq } => {
                if let Some(journal) = &mut self.journal {
                    journal.drop_output(seq);
                }
            }
            Effect::Write(record) => {
                if let Some(journal) = &mut self.journal {
                    journal.write(&record);
                }
            }
            Effect::Run(job) => {
                self.sync()?;
                self.runner.run(job);
            }
            Effect::EndRunning => self.runner.cancel(),
            Effect::Look => {
                let facts = facts::look(self.tcp.as_ref().and_then(Wire::local));
                self.core.facts(facts, more);
            }
            Effect::Log(note) => write_note(&note),
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.journal.as_mut().map_or(Ok(()), Journal::sync)
    }

    /// Drops all work, since work without a journal must not be done. Heartbeats continue.
    fn drop_journal(&mut self, error: &io::Error) {
        let path = self.setup.state.display();
        log::error!(
            target: "agent", path:% = path, error:% = error;
            "cannot write the journal in {path}: {error}; {}",
            if is_disk_error(error) { NO_WORK } else { NO_WORK_UNTIL_RESTART }
        );
        self.retry = is_disk_error(error).then(|| self.now() + DISK_RETRY);
        self.restart_core(None, Memory::default());
    }

    /// Opens the journal again after an error of the disk, like a new process.
    fn retry_journal(&mut self) {
        match open_journal(&self.setup.state) {
            Ok((journal, memory)) => {
                let path = self.setup.state.display();
                log::info!(
                    target: "agent", path:% = path;
                    "the journal in {path} can be written again: this host accepts work"
                );
                self.retry = None;
                self.restart_core(Some(journal), memory);
            }
            Err(error) => {
                log::warn!(target: "agent", error:% = error; "{error}; {NO_WORK}");
                self.retry = Some(self.now() + DISK_RETRY);
            }
        }
    }

    /// Restarts the core with this journal, or none. The server sees a new process: running work is
    /// lost.
    fn restart_core(&mut self, journal: Option<Journal>, memory: Memory) {
        self.tcp = None;
        self.settings.takes_work = journal.is_some();
        self.journal = journal;
        let state = self.journal.is_some().then(|| self.setup.state.clone());
        let runner = Runner::start(Arc::clone(&self.handle.waker), state);
        match (boot(), runner) {
            (Ok(boot), Ok(runner)) => {
                self.settings.boot = boot;
                self.runner = runner;
            }
            (Err(error), _) | (_, Err(error)) => {
                log::error!(target: "agent", error:% = error; "the agent ends: {error}");
                self.handle.stop();
            }
        }
        let mut fx = Vec::new();
        let (settings, allow) = (self.settings.clone(), Arc::clone(&self.allow));
        let mut core = AgentCore::new(settings, allow, memory, self.moment(), &mut fx);
        core.inherit_key(&mut self.core);
        self.core = core;
        // Only writes to a journal fail, so there is one.
        self.apply_effects(fx);
    }

    fn connect(&mut self, more: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.was_accepted) {
            self.address_index = self.address_index.wrapping_add(1);
        }
        let tls = self.handle.changes().tls.take();
        if tls.is_some() {
            self.setup.tls = tls;
        }
        match Wire::begin(&self.setup, self.address_index, self.poll.registry(), TCP) {
            Ok(connection) => {
                self.tcp = Some(connection);
                // It may be established already; then no event follows.
                self.is_ready = true;
            }
            Err(error) => {
                let at = self.moment();
                self.core.disconnected(at, &error.to_string(), more);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(tcp) = &mut self.tcp {
            tcp.send(bytes);
        }
    }

    fn send_output(&mut self, seq: u64, size: u64, more: &mut Vec<Effect>) {
        let output = self.journal.as_ref().map(|journal| journal.output(seq));
        match output {
            Some(Ok(output)) if output.len() as u64 == size => self.send(&output),
            Some(read) => {
                let error = read.err().map_or_else(
                    || "it has another size".to_owned(),
                    |error| error.to_string(),
                );
                // Its header is already sent, so the connection must end. The next start repairs
                // the journal.
                log::error!(
                    target: "agent", report = seq, error = error.as_str();
                    "the output kept for report {seq} cannot be read: {error}"
                );
                let at = self.moment();
                self.lost(at, "an output for it cannot be read", more);
            }
            None => {}
        }
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self) {
        let at = self.moment();
        let Some(tcp) = self.tcp.as_mut().filter(|tcp| tcp.is_connected()) else {
            return;
        };
        let is_long = tcp.unsent() > READ_BUFFER_BYTES;
        let wrote = tcp.write().and_then(|any| match tcp.unsent() {
            0..=AGENT_UNREAD_BYTES_MAX => Ok(any),
            _ => Err(io::Error::other("it does not read what it is sent")),
        });
        match wrote {
            Ok(true) if is_long => self.core.went_out(at),
            Ok(_) => {}
            Err(error) => {
                let mut fx = Vec::new();
                self.lost(at, &error.to_string(), &mut fx);
                self.apply_effects(fx);
            }
        }
    }
}

fn write_note(note: &Note) {
    if note.level <= log::max_level() {
        log::logger().log(
            &log::Record::builder()
                .level(note.level)
                .target("agent")
                .args(format_args!("{}", note.text))
                .key_values(note)
                .build(),
        );
    }
}

fn wall() -> UnixMs {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
}

/// Opens the journal, and logs damaged lines.
fn open_journal(dir: &Path) -> Result<(Journal, Memory), JournalError> {
    let (journal, memory, torn) = Journal::open(dir)?;
    if torn > 0 {
        log::warn!(
            target: "agent", path:% = dir.display(), lines = torn;
            "{torn} lines of the journal in {} cannot be read and are dropped", dir.display()
        );
    }
    Ok((journal, memory))
}

/// Random name of this process: 32 hex digits.
fn boot() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Random bytes of the system.
fn nonce() -> Option<[u8; 16]> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok().map(|()| random)
}
