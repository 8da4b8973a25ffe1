//! The sockets of the HTTP API, on the loop of the hosts.
//!
//! ```text
//!  event ──▶ ready ──▶ ready queue ──▶ run_ready ──▶ Connection::drive ──▶ control's Conversation
//!                        ▲  within a budget ▲     │
//!                        └── not finished ──┴─────┘            tick: deadlines
//! ```
//!
//! An event only queues its connection. [`Web::run_ready`] serves the queue within a budget, so
//! that a client with many requests takes turns with the others and with the hosts. Requests for
//! the core are taken by the reactor ([`Web::take_requests`]) and answered through [`Web::respond`], in
//! this turn or a later one. Requests are few; no client can occupy the loop or its memory.

mod connection;
mod stream;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};

use mio::event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::Socket;

use crate::control::events::Recent;
use crate::control::response::{Note, Reply};
use crate::control::{HttpContext, HttpResponse, HttpRules, events};
use crate::handlers::effect::{AuditRecord, Event};
use crate::handlers::request::{Request, Response};
use crate::limits::{
    AUDIT_REFUSALS_PER_S_MAX, HTTP_ACCEPT_RETRY_MS, HTTP_ACCEPTS_PER_TURN_MAX,
    HTTP_ANSWERS_PER_TURN_MAX, HTTP_CONNECTIONS_MAX, HTTP_FOLLOWERS_MAX, HTTP_PLACE_RETRY_MS,
    HTTP_READ_BYTES, HTTP_SPARE_ASKS_MAX, HTTP_SPARE_MAX,
};
use crate::metrics::{Measured, Metric, Source};
use crate::time::{Instant, Span};

use super::requesters::WEB;
use super::tls::TlsSettings;
use connection::{Connection, Driven, Late, Progress};
use stream::Stream;

/// Token of the HTTP listener.
pub const LISTENER: Token = Token(3);
/// The bit that marks the token of an HTTP connection. No other token has this bit without bit 63.
const CONNECTION: usize = 1 << 62;
/// Bits of such a token that hold the slot; those above hold the generation.
const SLOT_BITS: u32 = 16;

/// The HTTP server.
#[derive(Debug)]
pub struct Web {
    /// None after the stop.
    listener: Option<TcpListener>,
    /// TLS of later connections.
    tls: Option<TlsSettings>,
    bound: SocketAddr,
    rules: HttpRules,
    connections: Slab<Connection>,
    /// Number of connections so far. It tells an event of a closed connection from those of the
    /// next in its slot.
    generation: u32,
    queue: VecDeque<Token>,
    /// The listener has connections to accept.
    accepting: bool,
    /// Next attempt to accept after a failure.
    retry_at: Option<Instant>,
    /// An accepted connection that waits for a place.
    waiting: Option<(TcpStream, IpAddr)>,
    scratch: Box<[u8]>,
    /// Requests for the core: at most one per connection.
    requests: Vec<(u64, Request)>,
    /// Requesters of long reads whose connections have ended: at most one per connection.
    withdrawn: Vec<u64>,
    /// Records of requests that change something, with whether the sender was a stranger: at most
    /// two per connection and turn.
    audits: Vec<(AuditRecord, bool)>,
    /// Refused requests that raised an event in the second that began then.
    refusals: [(Instant, u64); 2],
    /// Connections that follow the events.
    followers: Vec<Token>,
    /// The last events.
    recent: Recent,
    stats: WebStats,
}

/// Counters and gauges of HTTP. The table `METRICS` describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebStats {
    pub connections: u64,
    pub accepted: u64,
    /// By the first digit of the status: 2xx, 3xx, 4xx, 5xx.
    pub answers: [u64; 4],
    pub timeouts: u64,
    pub evicted: u64,
    pub refused: u64,
    pub accept_failures: u64,
    pub wrong_tokens: u64,
    pub panics: u64,
    pub followers: u64,
    pub followers_dropped: u64,
    pub refusals_unaudited: u64,
}

#[rustfmt::skip] // A table: name, meaning, value.
impl Measured for WebStats {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::new("anthill_http_connections", "HTTP connections open now.", |s| s.connections),
        Metric::new("anthill_http_followers", "HTTP connections that follow the events now.", |s| s.followers),
        Metric::by("class", "anthill_http_answers_total", "HTTP requests answered, by class of status.", |s| ["2xx", "3xx", "4xx", "5xx"].into_iter().zip(s.answers).collect()),
        Metric::new("anthill_http_accepted_total", "HTTP connections accepted.", |s| s.accepted),
        Metric::new("anthill_http_timeouts_total", "HTTP connections closed for being slow or idle.", |s| s.timeouts),
        Metric::new("anthill_http_evicted_total", "Idle, stalled and spare HTTP connections closed for new ones.", |s| s.evicted),
        Metric::new("anthill_http_refused_total", "HTTP requests refused because there was no room.", |s| s.refused),
        Metric::new("anthill_http_accept_failures_total", "Failures to accept an HTTP connection.", |s| s.accept_failures),
        Metric::new("anthill_http_wrong_tokens_total", "HTTP requests refused for a wrong token.", |s| s.wrong_tokens),
        Metric::new("anthill_http_panics_total", "HTTP connections closed because answering them panicked.", |s| s.panics),
        Metric::new("anthill_http_followers_dropped_total", "HTTP connections closed for not reading the events fast enough.", |s| s.followers_dropped),
        Metric::new("anthill_http_refusals_unaudited_total", "Refused HTTP requests to change something that raised no event `audit`, because there were too many in a second.", |s| s.refusals_unaudited),
    ];
}

impl WebStats {
    fn answered(&mut self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(2);
        if let Some(count) = self.answers.get_mut(class) {
            *count += 1;
        }
    }
}

impl Web {
    /// Listens on `addr`; port 0 means any free port.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(addr: SocketAddr, rules: HttpRules, inherited: Option<Socket>) -> io::Result<Self> {
        let listener = match inherited {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket.into())
            }
            None => TcpListener::bind(addr)?,
        };
        Ok(Self {
            tls: None,
            bound: listener.local_addr()?,
            listener: Some(listener),
            rules,
            connections: Slab::new(),
            generation: 0,
            queue: VecDeque::new(),
            accepting: false,
            retry_at: None,
            waiting: None,
            scratch: vec![0; HTTP_READ_BYTES].into_boxed_slice(),
            requests: Vec::new(),
            withdrawn: Vec::new(),
            audits: Vec::new(),
            refusals: [(Instant::ZERO, 0); 2],
            followers: Vec::new(),
            recent: Recent::default(),
            stats: WebStats::default(),
        })
    }

    /// Sets TLS for its connections.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<TlsSettings>) -> Self {
        self.tls = tls;
        self
    }

    /// Bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &WebStats {
        &self.stats
    }

    /// Replaces the rules from the next request on. The last token cannot be removed: the address
    /// decides whether tokens are required, and it changes only at a restart.
    pub fn set_rules(&mut self, rules: HttpRules) {
        let tokens = rules.tokens.or_else(|| self.rules.tokens.take());
        self.rules = HttpRules { tokens, ..rules };
        // A follower whose token is gone would go on without it.
        for token in self.followers.clone() {
            if let Some(slot) = self.slot_of(token)
                && !self.connections[slot].caller().is_admitted(&self.rules)
            {
                self.close(slot);
            }
        }
    }

    /// Replaces the certificate of later connections. Turning TLS on or off takes a restart.
    pub fn set_tls(&mut self, tls: Option<TlsSettings>) {
        if self.tls.is_some() && tls.is_some() {
            self.tls = tls;
        }
    }

    /// Registers the listener.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.listener {
            Some(listener) => registry.register(listener, LISTENER, Interest::READABLE),
            None => Ok(()),
        }
    }

    /// Returns whether `token` belongs to HTTP.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        token == LISTENER || token.0 >> 62 == 1
    }

    /// Queues the connection of an event that HTTP [`owns`](Self::owns).
    /// [`run_ready`](Self::run_ready), in the same turn, does the work.
    pub fn ready(&mut self, event: &event::Event) {
        if event.token() == LISTENER {
            self.accept_soon();
            return;
        }
        if (event.is_read_closed() || event.is_error())
            && let Some(slot) = self.slot_of(event.token())
        {
            self.connections[slot].note_end();
        }
        self.enqueue(event.token());
    }

    /// Returns whether [`run_ready`](Self::run_ready) has work, so that the loop must not wait.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.accepting || !self.queue.is_empty()
    }

    /// Works on queued connections within the budget of a turn, as long as `goes_on`, called after
    /// each connection, returns true.
    pub fn run_ready(
        &mut self,
        registry: &Registry,
        context: &HttpContext<'_>,
        mut goes_on: impl FnMut() -> bool,
    ) {
        if self.accepting {
            self.accept(registry, context.at.now);
        }
        let mut answers = HTTP_ANSWERS_PER_TURN_MAX;
        // Each connection once: those that are queued again wait for the next turn.
        for _ in 0..self.queue.len() {
            if answers == 0 {
                break;
            }
            if let Some(token) = self.queue.pop_front() {
                answers -= usize::from(self.run(token, context));
                if !goes_on() {
                    break;
                }
            }
        }
    }

    /// Closes connections past their deadline. Returns the next deadline, which is later than
    /// `now`. Queued connections are left alone: their bytes may have arrived in time.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        if self.connections.is_empty() && self.retry_at.is_none() {
            return None;
        }
        let due: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| !connection.queued && connection.deadline <= now)
            .map(|(slot, _)| slot)
            .collect();
        for slot in due {
            let reads_long = self.connections[slot].reads_long();
            let connection = &mut self.connections[slot];
            let (token, lingering) = (connection.token, connection.is_lingering());
            match connection.time_out(now) {
                Late::Alive | Late::Due => self.enqueue(token),
                Late::Refused(status) => {
                    if reads_long {
                        self.withdrawn.push(WEB | token.0 as u64);
                    }
                    self.stats.timeouts += 1;
                    self.stats.answered(status);
                    self.enqueue(token);
                    self.collect_audit(slot, now);
                }
                Late::Over => {
                    self.stats.timeouts += u64::from(!lingering);
                    self.close(slot);
                }
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.accept_soon();
        }
        let waiting = self.connections.iter().filter(|(_, c)| !c.queued);
        let deadlines = waiting.map(|(_, connection)| connection.deadline);
        deadlines.chain(self.retry_at).min()
    }

    /// Takes the requests for the core since the last call, with their requesters. Call it after
    /// every [`run_ready`](Self::run_ready).
    pub fn take_requests(&mut self) -> Vec<(u64, Request)> {
        std::mem::take(&mut self.requests)
    }

    /// Takes the requesters of long reads that have ended without an answer since the last call.
    pub fn take_withdrawn(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.withdrawn)
    }

    /// Takes the records of requests that change something since the last call, each with whether
    /// its sender was a stranger.
    pub fn take_audits(&mut self) -> Vec<(AuditRecord, bool)> {
        std::mem::take(&mut self.audits)
    }

    /// Takes the record of a connection's last request, if it changes something and is to raise an
    /// event.
    fn collect_audit(&mut self, slot: usize, now: Instant) {
        let Some(audited) = self.connections[slot].take_audited() else {
            return;
        };
        if audited.is_refused {
            let (since, count) = &mut self.refusals[usize::from(audited.is_stranger)];
            if now.since(*since) >= Span::from_secs(1) {
                (*since, *count) = (now, 0);
            }
            *count += 1;
            if *count > AUDIT_REFUSALS_PER_S_MAX {
                self.stats.refusals_unaudited += 1;
                return;
            }
        }
        self.audits.push((audited.record, audited.is_stranger));
    }

    /// Passes the core's answer to a requester. If that has disconnected or timed out, the answer
    /// is dropped.
    pub fn respond(&mut self, requester: u64, answer: Response) {
        let Some(token) = token_of_requester(requester) else {
            return;
        };
        if let Some(slot) = self.slot_of(token)
            && self.connections[slot].answer(answer)
        {
            self.enqueue(token);
        }
    }

    /// Sends an event to the followers. One that is too far behind is closed: it would not notice a
    /// gap, but it notices the end.
    pub fn publish(&mut self, event: &Event, now: Instant) {
        self.recent.push(event);
        if self.followers.is_empty() {
            return;
        }
        let message = events::message(event, &self.rules.node);
        for token in self.followers.clone() {
            let Some(slot) = self.slot_of(token) else {
                continue;
            };
            if self.connections[slot].send_event(&message, now) {
                self.enqueue(token);
            } else {
                self.stats.followers_dropped += 1;
                self.close(slot);
            }
        }
    }

    /// Stops accepting, and closes connections that are not being answered. The rest close after
    /// their response, which takes further turns: until [`connections`](Self::connections) is zero.
    pub fn stop(&mut self, registry: &Registry) {
        if let Some(mut listener) = self.listener.take() {
            // Closing it ends its registration as well.
            let _ = registry.deregister(&mut listener);
        }
        (self.accepting, self.retry_at, self.waiting) = (false, None, None);
        self.followers.clear();
        // A delayed response waits for no event of its socket, so its connection is queued.
        let delayed = self.connections.iter().filter(|(_, c)| c.is_delayed());
        let delayed: Vec<Token> = delayed.map(|(_, connection)| connection.token).collect();
        self.connections.retain(|_, connection| connection.stop());
        delayed.into_iter().for_each(|token| self.enqueue(token));
        self.count_connections();
    }

    fn accept_soon(&mut self) {
        self.retry_at = None;
        self.accepting = self.listener.is_some();
    }

    /// Accepts until the kernel's queue is empty, or the budget is used up. A connection without a
    /// place waits, and those behind it stay in the kernel's queue.
    fn accept(&mut self, registry: &Registry, now: Instant) {
        for _ in 0..HTTP_ACCEPTS_PER_TURN_MAX {
            let Some((stream, peer)) = self.next_accepted(now) else {
                return;
            };
            let Some(is_spare) = self.make_place(now) else {
                self.waiting = Some((stream, peer));
                self.accepting = false;
                self.retry_at = Some(now + Span::from_millis(HTTP_PLACE_RETRY_MS));
                return;
            };
            self.admit(stream, peer, is_spare, registry, now);
        }
    }

    /// Takes the waiting connection, else accepts one.
    fn next_accepted(&mut self, now: Instant) -> Option<(TcpStream, IpAddr)> {
        if let Some(waiting) = self.waiting.take() {
            return Some(waiting);
        }
        loop {
            match self.listener.as_ref()?.accept() {
                Ok((stream, peer)) => {
                    self.stats.accepted += 1;
                    return Some((stream, peer.ip()));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.accepting = false;
                        return None;
                    }
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        self.accept_failed(now);
                        return None;
                    }
                },
            }
        }
    }

    /// Schedules another attempt. Descriptors or memory are missing, and connections that wait
    /// already raise no further event.
    fn accept_failed(&mut self, now: Instant) {
        self.stats.accept_failures += 1;
        self.accepting = false;
        self.retry_at = Some(now + Span::from_millis(HTTP_ACCEPT_RETRY_MS));
    }

    /// Makes a place for a connection. Returns whether it is a spare one, or `None` if every
    /// connection is fresh, is queued, or waits for the core.
    fn make_place(&mut self, now: Instant) -> Option<bool> {
        let is_spare = !self.make_own_place(now);
        let slots = HTTP_CONNECTIONS_MAX + HTTP_SPARE_MAX;
        let fits = self.connections.len() < slots
            || self.evict(Connection::is_lingering)
            || self.evict_spare(now);
        fits.then_some(is_spare)
    }

    /// Makes one of the [`HTTP_CONNECTIONS_MAX`] places. Returns whether one is free.
    fn make_own_place(&mut self, now: Instant) -> bool {
        let own = |c: &Connection| !c.is_lingering() && !c.is_spare;
        let held = self.connections.iter().filter(|(_, c)| own(c)).count();
        held < HTTP_CONNECTIONS_MAX
            || self.evict(|c| own(c) && c.is_idle() && !c.is_fresh(now))
            || self.evict(|c| own(c) && c.is_delayed())
            || self.evict(|c| own(c) && c.has_stalled(now))
    }

    /// Closes the oldest connection in a spare place that is neither fresh nor queued, and does not
    /// wait for the core. Returns whether there was one.
    fn evict_spare(&mut self, now: Instant) -> bool {
        let may = |c: &Connection| c.is_spare && !c.queued && !c.is_asking() && !c.is_fresh(now);
        self.evict_first(may, |connection| connection.born)
    }

    fn admit(
        &mut self,
        mut stream: TcpStream,
        peer: IpAddr,
        is_spare: bool,
        registry: &Registry,
        now: Instant,
    ) {
        // The address of a disconnected peer is gone.
        let Ok(local) = stream.local_addr() else {
            return;
        };
        self.generation = self.generation.wrapping_add(1);
        let entry = self.connections.vacant_entry();
        let token = token_of(self.generation, entry.key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let nodelay = stream.set_nodelay(true);
        if nodelay
            .and_then(|()| registry.register(&mut stream, token, interest))
            .is_err()
        {
            return;
        }
        let Some(stream) = Stream::new(stream, self.tls.as_ref()) else {
            return;
        };
        let mut connection = Connection::new(stream, local, peer, token, now);
        if is_spare {
            connection.make_spare();
        }
        entry.insert(connection);
        self.count_connections();
        self.enqueue(token);
    }

    /// Closes the connection with the earliest deadline among those that `may` go. Returns whether
    /// there was one.
    fn evict(&mut self, may: impl Fn(&Connection) -> bool) -> bool {
        self.evict_first(may, |connection| connection.deadline)
    }

    fn evict_first(
        &mut self,
        may: impl Fn(&Connection) -> bool,
        key: impl Fn(&Connection) -> Instant,
    ) -> bool {
        let candidates = self.connections.iter().filter(|(_, c)| may(c));
        let first = candidates.min_by_key(|(_, connection)| key(connection));
        let Some((slot, connection)) = first else {
            return false;
        };
        self.stats.evicted += u64::from(!connection.is_lingering());
        self.close(slot);
        true
    }

    /// Works on one connection. Returns whether that counts: a request was answered, or much was
    /// read.
    fn run(&mut self, token: Token, context: &HttpContext<'_>) -> bool {
        let Some(slot) = self.slot_of(token) else {
            return false;
        };
        let connection = &mut self.connections[slot];
        connection.queued = false;
        let peer = connection.peer;
        let sources: [&dyn Source; 2] = [context.metrics, &self.stats];
        let now = context.at.now;
        let context = HttpContext {
            metrics: &sources,
            recent: Some(&self.recent),
            ..*context
        };
        // The fleet is only read, so nothing is left half changed, and the connection is closed: a
        // panic ends this request only.
        let driven = panic::catch_unwind(AssertUnwindSafe(|| {
            connection.drive(
                &self.rules,
                self.bound,
                &context,
                random(),
                &mut self.scratch,
            )
        }));
        let driven = driven.unwrap_or_else(|_| {
            self.stats.panics += 1;
            Driven::GONE
        });
        let worked = driven.reply.is_some() || driven.read >= HTTP_READ_BYTES;
        if driven.progress == Progress::Gone {
            self.connections[slot].abandon();
        }
        self.collect_audit(slot, now);
        match driven.progress {
            Progress::Blocked => {}
            Progress::Again => self.enqueue(token),
            Progress::Gone => self.close(slot),
        }
        match driven.reply {
            None => {}
            Some(Reply::Now(response)) => {
                self.stats.answered(response.status);
                if response.note == Note::WrongToken {
                    self.stats.wrong_tokens += 1;
                    log::warn!(target: "token", "{peer}: a request over HTTP had a wrong token");
                }
            }
            Some(Reply::Ask(_)) if !self.may_request(slot, now) => {
                self.refuse(slot, "too many connections", now);
            }
            Some(Reply::Ask(request)) => self.requests.push((WEB | token.0 as u64, request)),
            Some(Reply::Follow) => self.follow(slot, now),
        }
        worked
    }

    /// Returns whether a connection may wait for the core. In a spare place it may if another place
    /// is free, or if few others do.
    fn may_request(&mut self, slot: usize, now: Instant) -> bool {
        if !self.connections[slot].is_spare {
            return true;
        }
        if self.make_own_place(now) {
            self.connections[slot].is_spare = false;
            return true;
        }
        let asking = |c: &Connection| c.is_spare && c.is_asking();
        self.connections.iter().filter(|(_, c)| asking(c)).count() <= HTTP_SPARE_ASKS_MAX
    }

    /// Makes a connection follow the events, if there is room for it.
    fn follow(&mut self, slot: usize, now: Instant) {
        let may = self.may_request(slot, now) && !self.connections[slot].is_spare;
        let stalled = |c: &Connection| c.is_following() && c.has_stalled(now);
        if !may {
            self.refuse(slot, "too many connections", now);
        } else if self.followers.len() < HTTP_FOLLOWERS_MAX || self.evict(stalled) {
            let connection = &mut self.connections[slot];
            let token = connection.token;
            connection.follow(now);
            self.followers.push(token);
            self.stats.answered(200);
            self.count_connections();
            self.enqueue(token);
        } else {
            self.refuse(slot, "too many follow the events", now);
        }
    }

    /// Answers 503 and closes.
    fn refuse(&mut self, slot: usize, why: &str, now: Instant) {
        let connection = &mut self.connections[slot];
        let token = connection.token;
        connection.refuse(&HttpResponse::error(503, why), now);
        self.stats.refused += 1;
        self.stats.answered(503);
        self.enqueue(token);
        self.collect_audit(slot, now);
    }

    fn enqueue(&mut self, token: Token) {
        if let Some(slot) = self.slot_of(token) {
            let connection = &mut self.connections[slot];
            if !connection.queued {
                connection.queued = true;
                self.queue.push_back(token);
            }
        }
    }

    /// Slot of a connection that is still open.
    fn slot_of(&self, token: Token) -> Option<usize> {
        let slot = token.0 & ((1 << SLOT_BITS) - 1);
        let connection = self.connections.get(slot)?;
        (connection.token == token).then_some(slot)
    }

    /// Closes a connection. Closing a descriptor ends its registration, since no other refers to
    /// the same socket.
    fn close(&mut self, slot: usize) {
        self.withdraw(slot);
        let token = self.connections.remove(slot).token;
        self.followers.retain(|follower| *follower != token);
        if self.waiting.is_some() {
            self.accept_soon();
        }
        self.count_connections();
    }

    /// Notes that a long read of this connection has no use any more, if one is under way.
    fn withdraw(&mut self, slot: usize) {
        let connection = &self.connections[slot];
        if connection.reads_long() {
            self.withdrawn.push(WEB | connection.token.0 as u64);
        }
    }

    fn count_connections(&mut self) {
        self.stats.connections = self.connections.len() as u64;
        self.stats.followers = self.followers.len() as u64;
    }
}

/// The connection behind an HTTP requester.
fn token_of_requester(requester: u64) -> Option<Token> {
    let token = usize::try_from(requester & !WEB).ok()?;
    (requester & WEB != 0).then_some(Token(token))
}

/// A random number. It only has to differ from those of other servers and other times, so a
/// pseudo-random number does where the system has none.
fn random() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_ne_bytes(bytes),
        Err(_) => fastrand::u128(..),
    }
}

const fn token_of(generation: u32, slot: usize) -> Token {
    Token(CONNECTION | (generation as usize) << SLOT_BITS | slot)
}

#[cfg(test)]
mod tests;
