//! The hosts' sockets and the loop over them. The [trial](super::trial) decides when a message is
//! sent; this module counts the replies.

mod connect;
mod failures;
mod frames;
mod keyed;
mod receive;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant as Origin;

use mio::event::Event;
use mio::{Events, Interest, Token};

use super::BenchError;
use super::host::{Host, State};
use super::inbox::Inbox;
use super::plan::Sources;
use super::polls::{FIRST, Polls};
use super::secure::{Channel, TlsSettings};
use super::tally::Tally;
use crate::codec::message::Incoming;
use crate::codec::{Order, encode};
use crate::limits::{BENCH_EVENTS_PER_TURN_MAX, BENCH_WAIT_S_MAX, READ_BUFFER_BYTES};
use crate::time::{Instant, Span};
use connect::{Refused, connect, connected};
pub use failures::Failures;
pub use keyed::{FleetKey, Keyed};

/// Part at the end of a wait that polls instead of sleeping, if a processor is free: about the time
/// of a wake-up.
const SPUN: Span = Span::from_micros(20);
/// Interval between two searches for slow connection attempts.
const LOOK: Span = Span::from_millis(100);

/// Identity and addresses of the hosts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Server address.
    pub server: SocketAddr,
    /// Number of hosts.
    pub hosts: usize,
    /// Gives each host an id.
    pub identified: bool,
    /// Key from which each host has its own; `None`: plain sessions.
    pub key: Option<FleetKey>,
    /// TLS of the connections.
    pub tls: Option<TlsSettings>,
    /// Asks for dispatches over the connection.
    pub push: bool,
    /// Waits for the hello's reply and parses replies strictly. A floor sends no hello replies.
    pub strict: bool,
    /// Source addresses.
    pub sources: Option<Sources>,
    /// Connections per source address; without it each host has an address of its own.
    pub per_source: Option<u64>,
    /// Port on which datagrams for the hosts arrive, 0 for a free one; `None`: no datagrams.
    pub datagrams: Option<u16>,
    /// First index of the hosts whose replies are also counted separately.
    pub apart: usize,
    /// Heartbeats have due times, and can therefore be late.
    pub paced: bool,
    /// A processor is free for polling the clock instead of sleeping.
    pub spins: bool,
}

impl Setup {
    const fn has_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// An event of the fleet, for trials that react to it.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetEvent {
    /// The host may send heartbeats.
    Live(usize),
    /// A heartbeat was answered.
    Answered(usize),
    /// A report was acknowledged.
    Acknowledged(usize),
    /// A task arrived over the connection.
    Task(usize, String),
    /// A task arrived by datagram, at this time of the wall clock.
    Datagram(usize, String, Span),
    /// The socket takes more bytes.
    Writable(usize),
}

/// The hosts of a run and their sockets.
pub struct Fleet {
    setup: Setup,
    polls: Polls,
    events: Events,
    origin: Origin,
    hosts: Vec<Option<Host>>,
    inbox: Option<Inbox>,
    scratch: Box<[u8]>,
    frame: Vec<u8>,
    /// Frame of a heartbeat without a reply.
    plain: Vec<u8>,
    /// Connection attempts in progress.
    in_progress: usize,
    /// Hosts that may send heartbeats.
    live: usize,
    /// Heartbeats that wait for a reply.
    in_flight: u64,
    opened: u64,
    looked: Instant,
    /// Counters of the trial.
    pub tally: Tally,
    /// Events are collected.
    pub gathers: bool,
    fleet_events: Vec<FleetEvent>,
    /// Failed connection attempts.
    pub failures: Failures,
}

impl Fleet {
    /// Creates a fleet without connections. Its clock starts at zero.
    ///
    /// # Errors
    /// When the system has no poll.
    pub fn new(setup: Setup) -> Result<Self, BenchError> {
        let mut plain = Vec::new();
        let fits = encode(&frames::heartbeat(None), Order::Little, &mut plain);
        debug_assert_eq!(fits, Ok(()));
        let polls = Polls::new(setup.apart < setup.hosts)
            .map_err(BenchError::system("cannot make a poll"))?;
        let inbox = setup
            .datagrams
            .map(|port| Inbox::open(port, polls.registry(false), setup.hosts))
            .transpose()
            .map_err(BenchError::system("cannot take datagrams"))?;
        Ok(Self {
            polls,
            inbox,
            events: Events::with_capacity(BENCH_EVENTS_PER_TURN_MAX),
            origin: Origin::now(),
            hosts: (0..setup.hosts).map(|_| None).collect(),
            scratch: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            frame: Vec::with_capacity(256),
            plain,
            in_progress: 0,
            live: 0,
            in_flight: 0,
            opened: 0,
            looked: Instant::ZERO,
            tally: Tally::default(),
            gathers: false,
            fleet_events: Vec::new(),
            failures: Failures::default(),
            setup,
        })
    }

    /// Current time of the fleet's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::ZERO + Span::from(self.origin.elapsed())
    }

    /// Converts a clock reading into the fleet's time.
    #[must_use]
    pub fn at(&self, then: Origin) -> Instant {
        Instant::ZERO + Span::from(then.saturating_duration_since(self.origin))
    }

    /// Connection attempts in progress.
    #[must_use]
    pub const fn in_progress(&self) -> usize {
        self.in_progress
    }

    /// Number of hosts that may send heartbeats.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// Returns whether this host may send heartbeats.
    #[must_use]
    pub fn is_live(&self, index: usize) -> bool {
        self.host(index)
            .is_some_and(|host| host.state == State::Live)
    }

    /// Returns whether the host has a connection, established or in progress.
    #[must_use]
    pub fn is_open(&self, index: usize) -> bool {
        self.host(index).is_some()
    }

    /// Heartbeats of this host that wait for a reply.
    #[must_use]
    pub fn in_flight(&self, index: usize) -> u64 {
        self.host(index).map_or(0, |host| host.waiting.len() as u64)
    }

    /// Heartbeats of all hosts that wait for a reply.
    #[must_use]
    pub const fn all_in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Returns whether unsent bytes wait for a socket.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.hosts.iter().flatten().any(|host| !host.is_flushed())
    }

    /// Moves the events since the last call into `into`.
    pub fn take_events(&mut self, into: &mut Vec<FleetEvent>) {
        into.clear();
        std::mem::swap(&mut self.fleet_events, into);
    }

    fn host(&self, index: usize) -> Option<&Host> {
        self.hosts.get(index)?.as_ref()
    }

    fn emit(&mut self, event: FleetEvent) {
        if self.gathers {
            self.fleet_events.push(event);
        }
    }

    /// Opens the connection of a host without one. Its latency counts from `due`.
    ///
    /// # Errors
    /// When its source address cannot be used. Other failures are counted.
    pub fn open(&mut self, index: usize, due: Instant) -> Result<(), BenchError> {
        debug_assert!(!self.is_open(index));
        self.tally.begun += 1;
        let number = match self.setup.per_source {
            Some(per_source) => self.opened / per_source,
            None => index as u64,
        };
        self.opened += 1;
        let source = self.setup.sources.map(|sources| sources.at(number));
        let begun = match connect(self.setup.server, source) {
            Err(Refused::Source(address, error)) => {
                return Err(BenchError::Source { address, error });
            }
            Err(Refused::Other(error)) => Err(error),
            Ok(mut stream) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                let registry = self.polls.registry(index >= self.setup.apart);
                registry
                    .register(&mut stream, Token(index), both)
                    .map(|()| stream)
            }
        };
        match begun {
            Ok(stream) => {
                self.hosts[index] = Some(Host::new(stream, due, self.now()));
                self.in_progress += 1;
            }
            Err(error) => self.failures.record(&mut self.tally, &error, false),
        }
        Ok(())
    }

    /// Closes a host's connection from this side. Heartbeats in flight count as unanswered.
    pub fn close(&mut self, index: usize) {
        if let Some(host) = self.hosts.get_mut(index).and_then(Option::take) {
            self.forget(index, host);
        }
    }

    /// Stops waiting for replies.
    pub fn give_up(&mut self) {
        for index in 0..self.hosts.len() {
            if let Some(host) = self.hosts[index].as_mut() {
                let waiting = std::mem::take(&mut host.waiting);
                self.unanswered(index, waiting);
            }
        }
    }

    fn unanswered(&mut self, index: usize, waiting: VecDeque<Instant>) {
        let now = self.now();
        self.in_flight -= waiting.len() as u64;
        for due in waiting {
            self.tally.unanswered(now, due);
            if index >= self.setup.apart {
                self.tally.apart(now, due);
            }
        }
    }

    /// Closes a host's connection on purpose: heartbeats in flight are not counted as unanswered.
    pub fn leave(&mut self, index: usize) {
        if let Some(host) = self.hosts.get_mut(index).and_then(Option::as_mut) {
            let in_flight = std::mem::take(&mut host.waiting).len() as u64;
            self.in_flight -= in_flight;
            self.tally.asked -= in_flight;
            self.close(index);
        }
    }

    fn forget(&mut self, index: usize, host: Host) {
        match host.state {
            State::Live => self.live -= 1,
            State::Connecting | State::Securing | State::Greeting => self.in_progress -= 1,
        }
        self.unanswered(index, host.waiting);
    }

    /// Records a connection that broke or was closed by the peer.
    fn broken(&mut self, index: usize, error: &io::Error) {
        let Some(host) = self.hosts.get_mut(index).and_then(Option::take) else {
            return;
        };
        let state = host.state;
        self.forget(index, host);
        if state != State::Live {
            let reached = state != State::Connecting;
            return self.failures.record(&mut self.tally, error, reached);
        }
        self.tally.lost += 1;
        self.tally.error(match error.kind() {
            ErrorKind::UnexpectedEof => "closed",
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset",
            ErrorKind::InvalidData => "bad_reply",
            ErrorKind::PermissionDenied => "refused",
            _ => "lost_other",
        });
    }

    /// Sends a live host's heartbeat that was due at `due`, and counts it.
    pub fn beat(&mut self, index: usize, due: Instant, reply: bool) {
        self.beats(index, due, reply, 1);
    }

    /// Sends `count` heartbeats at once.
    pub fn beats(&mut self, index: usize, due: Instant, reply: bool, count: u64) {
        if count == 0 || !self.is_live(index) {
            return;
        }
        let late = self.now().since(due);
        let Some(host) = self.hosts[index].as_mut() else {
            return;
        };
        self.frame.clear();
        for _ in 0..count {
            if reply || host.keyed.is_some() {
                let message = frames::heartbeat(reply.then_some(due.as_nanos()));
                let fits = keyed::encode(&mut host.keyed, &message, &mut self.frame);
                debug_assert_eq!(fits, Ok(()));
            } else {
                self.frame.extend_from_slice(&self.plain);
            }
        }
        match host.send(&self.frame) {
            Ok(true) => {
                self.tally.sent += count;
                if self.setup.paced {
                    self.tally.late(due, late);
                }
                if reply {
                    host.waiting.extend((0..count).map(|_| due));
                    self.in_flight += count;
                    self.tally.asked += count;
                }
            }
            Ok(false) => self.tally.errors("not_taken", count),
            Err(error) => self.broken(index, &error),
        }
    }

    /// Returns whether the socket has taken all bytes.
    #[must_use]
    pub fn is_flushed(&self, index: usize) -> bool {
        self.host(index).is_some_and(Host::is_flushed)
    }

    /// Sends a message of a live host.
    pub fn send(&mut self, index: usize, message: &Incoming<'_>) {
        let Some(host) = self.hosts.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        self.frame.clear();
        if keyed::encode(&mut host.keyed, message, &mut self.frame).is_err() {
            return self.tally.error("not_taken");
        }
        match host.send(&self.frame) {
            Ok(true) => {}
            Ok(false) => self.tally.error("not_taken"),
            Err(error) => self.broken(index, &error),
        }
    }

    /// Waits for events until `until` at the latest, and handles them.
    ///
    /// # Errors
    /// When the poll fails.
    pub fn turn(&mut self, until: Instant) -> Result<(), BenchError> {
        let until = match self.inbox.as_ref().is_some_and(Inbox::has_ready) {
            true => Instant::ZERO,
            false => until,
        };
        self.wait(until)
            .map_err(BenchError::system("cannot wait for the sockets"))?;
        let events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        for event in &events {
            self.ready(event);
        }
        self.events = events;
        self.datagrams();
        self.close_slow_attempts();
        Ok(())
    }

    /// Waits for events until `until` at the latest. The poll's time-outs are whole milliseconds,
    /// fifty times the time of a heartbeat, and a sleeping thread wakes late. The last part of the
    /// wait therefore polls.
    fn wait(&mut self, until: Instant) -> io::Result<()> {
        let wakes = match self.setup.spins {
            true => until - SPUN,
            false => until,
        };
        loop {
            self.polls.look(&mut self.events)?;
            let now = self.now();
            if !self.events.is_empty() || now >= until {
                return Ok(());
            }
            if now < wakes {
                self.polls.sleep(wakes.since(now))?;
            } else if self.in_flight == 0 && self.in_progress == 0 {
                while self.now() < until {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Port on which datagrams for the hosts arrive.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.inbox.as_ref().map(|inbox| inbox.port)
    }

    /// Reads a bounded number of datagrams.
    fn datagrams(&mut self) {
        let (Some(inbox), Some(sources)) = (&mut self.inbox, self.setup.sources) else {
            return;
        };
        let (hosts, events) = (self.setup.hosts, &mut self.fleet_events);
        let taken = inbox.take(BENCH_EVENTS_PER_TURN_MAX, |arrival, text| {
            let index = sources.number(arrival.to).filter(|index| *index < hosts);
            let text = String::from_utf8_lossy(text).into_owned();
            events.extend(index.map(|index| FleetEvent::Datagram(index, text, arrival.at)));
        });
        if taken.is_err() {
            self.tally.error("datagrams");
        }
    }

    fn ready(&mut self, event: &Event) {
        if event.token() == FIRST {
            // All datagrams of this round have been read.
            return;
        }
        let Token(index) = event.token();
        if let Some(socket) = index.checked_sub(self.setup.hosts) {
            return self.inbox.iter_mut().for_each(|inbox| inbox.ready(socket));
        }
        let Some(host) = self.hosts.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if event.is_writable() || event.is_error() {
            let went = match host.state {
                State::Connecting => connected(host).and_then(|done| match done {
                    true => secured(host, self.setup.tls.as_ref()),
                    false => Ok(false),
                }),
                State::Securing => host.secure(),
                State::Greeting | State::Live => host.flush().map(|()| false),
            };
            match went {
                Ok(true) => self.greet(index),
                Ok(false) if self.is_flushed(index) => self.emit(FleetEvent::Writable(index)),
                Ok(false) => {}
                Err(error) => return self.broken(index, &error),
            }
        }
        if event.is_readable() || event.is_read_closed() {
            let securing = self.hosts[index].as_mut();
            if let Some(host) = securing.filter(|host| host.state == State::Securing) {
                match host.secure() {
                    Ok(true) => self.greet(index),
                    Ok(false) => return,
                    Err(error) => return self.broken(index, &error),
                }
            }
            let to_the_end = event.is_read_closed() || event.is_error();
            if let Err(error) = self.read(index, to_the_end) {
                self.broken(index, &error);
            }
        }
    }

    /// Sends a host's hello.
    fn greet(&mut self, index: usize) {
        self.frame.clear();
        let mut keyed = None;
        if let Some(key) = &self.setup.key {
            let begun = Keyed::begin(&self.setup, key, &id(index), &mut self.frame);
            keyed = begun.ok().map(Box::new);
            debug_assert!(keyed.is_some());
        } else if self.setup.identified {
            let id = id(index);
            let hello = frames::hello(&id, self.port(), self.setup.push);
            let fits = encode(&hello, Order::Little, &mut self.frame);
            debug_assert_eq!(fits, Ok(()));
        } else {
            self.frame.extend_from_slice(&self.plain);
        }
        let Some(host) = self.hosts[index].as_mut() else {
            return;
        };
        host.state = State::Greeting;
        host.keyed = keyed;
        if let Err(error) = host.send(&self.frame) {
            return self.broken(index, &error);
        }
        if !self.setup.identified || !self.setup.strict {
            self.welcome(index);
        }
    }

    fn welcome(&mut self, index: usize) {
        let now = self.now();
        let Some(host) = self.hosts[index].as_mut() else {
            return;
        };
        if host.state == State::Greeting {
            host.state = State::Live;
            self.in_progress -= 1;
            self.live += 1;
            self.tally.made += 1;
            self.failures.in_a_row = 0;
            self.tally.connecting.record(now.since(host.due));
            self.emit(FleetEvent::Live(index));
        }
    }

    fn close_slow_attempts(&mut self) {
        let now = self.now();
        if self.in_progress == 0 || now.since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        let patience = Span::from_secs(BENCH_WAIT_S_MAX);
        for index in 0..self.hosts.len() {
            let slow = self
                .host(index)
                .is_some_and(|host| host.state != State::Live && now.since(host.opened) > patience);
            if slow {
                self.broken(index, &ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Begins the TLS handshake of an established connection, if the hosts use TLS. Returns whether
/// messages may be sent.
fn secured(host: &mut Host, tls: Option<&TlsSettings>) -> io::Result<bool> {
    let Some(settings) = tls else {
        return Ok(true);
    };
    host.channel = Some(Box::new(Channel::new(settings)?));
    host.state = State::Securing;
    host.secure()
}

/// Id of a host.
#[must_use]
pub fn id(index: usize) -> String {
    format!("bench-{:05}", index + 1)
}
