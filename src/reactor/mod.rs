//! The turn: the only place that waits, and the only room with sockets and clocks.
//!
//! ```text
//!    ┌─▶ wait ─▶ read ─▶ mailbox ─▶ tick ─▶ send ─▶ pull ─▶ write ─┐
//!    │        each within its budget; effects as they come        │
//!    └────────────────────────────────────────────────────────────┘
//! ```
//!
//! The reactor does not know the meaning of a message: bytes go to the codec, messages to the core, and
//! the core's effects are applied.

pub mod admission;
pub mod buffer;
pub mod clock;
pub mod closing;
pub mod coalesce;
pub mod connection;
pub mod connections;
mod datagram_queue;
pub mod descriptors;
pub mod error;
pub mod fault;
pub mod flush_delay;
pub mod horizon;
mod input;
mod journal;
pub mod listener;
pub mod mailbox;
pub mod memory;
pub mod outbound;
pub mod read_budget;
pub mod ready_queue;
pub mod request;
pub mod requesters;
pub mod scheduling;
mod send_many;
pub mod stats;
pub mod subscribers;
pub mod table;
#[cfg(test)]
mod test_double;
pub mod timerfd;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_none.rs"]
pub mod tls;
pub mod token;
mod traffic;
pub mod trim;
pub mod udp;
pub mod wake;
pub mod web;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use mio::net::TcpStream;
use mio::{Events, Poll};

use self::clock::{Clock, Moments};
use self::coalesce::Coalesce;
use self::connections::{Connections, Readable};
use self::error::{BindError, ServeError};
use self::flush_delay::FlushDelay;
use self::horizon::Horizon;
use self::listener::Listener;
use self::mailbox::{Handed, Mailbox, StoreEnds};
use self::outbound::{Outbound, OutboundRules};
use self::read_budget::{ReadBudget, Slice};
use self::ready_queue::ReadQueue;
use self::request::Request;
use self::requesters::Requesters;
use self::stats::ReactorStats;
use self::subscribers::Subscribers;
use self::timerfd::Timerfd;
use self::tls::TlsSettings;
use self::token::About;
use self::trim::Trim;
use self::udp::Udp;
use self::wake::Wake;
use self::web::Web;
use crate::codec::Framing;
use crate::control::{HttpContext, HttpRules};
use crate::handlers::ask::Datagram;
use crate::handlers::effect::{Effect, Effects};
use crate::handlers::view::StoreView;
use crate::handlers::{Core, Input, Moment, Rules};
use crate::ids::ConnId;
use crate::keys::Access;
use crate::limits::{
    BATCH_OPS_MAX, EVENTS_PER_TURN_MAX, READ_BUFFER_BYTES, REQUESTS_PER_TURN_MAX, SHUTDOWN_S_MAX,
    TURN_SLICE_SENDING_US, TURN_SLICE_US,
};
use crate::metrics::Source;
use crate::store::op::{Batch, Outcome};
use crate::time::{Instant, Span};

/// Effects for which memory is kept when it is calm.
const EFFECTS_KEPT: usize = 1_024;

/// Configuration of the reactor that cannot change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address for hosts.
    pub tcp: SocketAddr,
    /// The UDP socket.
    pub udp: SocketAddr,
    /// Idle time after which a connection is probed.
    pub keepalive: Span,
    /// Connections at most; `None`: as many as descriptors allow.
    pub connections: Option<usize>,
    /// Connections of one address at most.
    pub connections_per_ip: Option<usize>,
    /// TLS for the hosts' port.
    pub tls: Option<TlsSettings>,
    /// Devices and targets.
    pub outside: OutboundRules,
    /// The rest.
    pub tuning: Tuning,
}

/// Configuration that may change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Framing rules.
    pub framing: Framing,
    /// Longest nap under dense traffic, in which events gather.
    pub coalesce: Span,
    /// All hosts go offline at a planned stop.
    pub offline_on_shutdown: bool,
}

/// A new configuration, as far as it can be had without a restart.
#[derive(Clone, Debug)]
pub struct Reload {
    /// For the core.
    pub rules: Rules,
    /// Admission rules.
    pub access: Access,
    /// For the web.
    pub http: HttpRules,
    /// Devices and targets.
    pub outside: OutboundRules,
    /// For the reactor itself.
    pub tuning: Tuning,
    /// For the connections to come, where TLS is spoken.
    pub tls: Option<TlsSettings>,
}

/// The loop, with its sockets and the core.
pub struct Reactor {
    poll: Poll,
    events: Events,
    clock: Clock,
    moments: Moments,
    horizon: Horizon,
    coalesce: Coalesce,
    flush_delay: FlushDelay,
    timerfd: Timerfd,
    /// Gone once the end has begun.
    listener: Option<Listener>,
    udp: Udp,
    web: Web,
    connections: Connections,
    /// Connections that we open.
    outbound: Outbound,
    core: Core,
    fx: Effects,
    mailbox: Mailbox,
    subscribers: Subscribers,
    /// Handles that wait for the core's answer.
    requesters: Requesters,
    /// Datagrams on their way from the core to the socket's queue; empty between turns.
    datagrams: Vec<Datagram>,
    /// The core had more to send than a turn sends.
    more_to_send: bool,
    /// Buffer into which all connections read.
    scratch: Box<[u8]>,
    /// Read budget of a connection in this turn.
    read_budget: ReadBudget,
    tuning: Tuning,
    stats: ReactorStats,
    /// Metrics of the store thread, once it runs.
    store_metrics: Box<dyn Source + Send>,
    started: Instant,
    /// The core has not come to the end of what it looks through for the store.
    sweep_pending: bool,
    trim: Trim,
    /// Next deadline of the core.
    deadline: Option<Instant>,
    /// Next deadline of HTTP and of closing connections.
    sockets_due: Option<Instant>,
    /// Shutdown deadline for outstanding writes.
    stopping: Option<Instant>,
    /// Error that ends the loop.
    failed: Option<ServeError>,
}

/// Bound addresses, and the number of connections there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Address for hosts.
    pub tcp: SocketAddr,
    /// The UDP socket.
    pub udp: SocketAddr,
    /// Connections there is room for.
    pub connections: usize,
}

/// The sockets of the hosts, bound.
#[derive(Debug)]
pub struct Sockets {
    /// Connections there is room for.
    room: usize,
    listener: Listener,
    udp: Udp,
}

impl Sockets {
    /// Binds them, and raises the limit of descriptors.
    ///
    /// # Errors
    /// When a socket cannot be bound, or the system allows too few descriptors.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let room = descriptors::raise(settings.connections, settings.outside.descriptors())?;
        let (key, addr) = ("server.tcp", settings.tcp);
        let listener = Listener::bind(addr, settings.keepalive)
            .map_err(|source| BindError::Socket { key, addr, source })?;
        let (key, addr) = ("server.udp", settings.udp);
        let udp = Udp::bind(addr).map_err(|source| BindError::Socket { key, addr, source })?;
        Ok(Self {
            room,
            listener,
            udp,
        })
    }
}

impl Reactor {
    /// Sets up the loop around bound sockets, `core` and `web`. Nothing runs yet.
    ///
    /// # Errors
    /// When the system refuses a part of the loop.
    pub fn new(
        settings: &Settings,
        sockets: Sockets,
        core: Core,
        mut web: Web,
        requests: Receiver<Request>,
    ) -> Result<(Self, Bound), BindError> {
        let Sockets {
            room,
            mut listener,
            mut udp,
        } = sockets;
        let poll = Poll::new()?;
        listener.register(poll.registry())?;
        udp.register(poll.registry())?;
        web.register(poll.registry())?;
        let wake = Arc::new(Wake::new(poll.registry())?);
        let timerfd = Timerfd::new(poll.registry())?;
        let bound = Bound {
            tcp: listener.local_addr()?,
            udp: udp.local_addr()?,
            connections: room,
        };
        let clock = Clock::start();
        let mut outbound = Outbound::new(clock);
        outbound.set(settings.outside.clone(), poll.registry(), clock.moment());
        let reactor = Self {
            started: clock.now(),
            store_metrics: Box::new(()),
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN_MAX),
            clock,
            moments: Moments::of(clock),
            horizon: Horizon::default(),
            coalesce: Coalesce::new(settings.tuning.coalesce),
            flush_delay: FlushDelay::default(),
            timerfd,
            listener: Some(listener),
            udp,
            web,
            connections: Connections::new(room, settings.connections_per_ip, settings.tls.clone()),
            outbound,
            core,
            fx: Effects::default(),
            mailbox: Mailbox::new(wake, requests),
            subscribers: Subscribers::default(),
            requesters: Requesters::default(),
            datagrams: Vec::new(),
            more_to_send: false,
            scratch: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            read_budget: ReadBudget::default(),
            tuning: settings.tuning,
            stats: ReactorStats::default(),
            sweep_pending: false,
            trim: Trim::default(),
            deadline: None,
            sockets_due: None,
            stopping: None,
            failed: None,
        };
        Ok((reactor, bound))
    }

    /// The waker: rings after whatever is put into a channel to this loop.
    #[must_use]
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(self.mailbox.wake())
    }

    /// The store thread runs: the loop's ends of its channels, and what it counts.
    pub fn attach_store(&mut self, store: StoreEnds, metrics: Box<dyn Source + Send>) {
        self.mailbox.attach(store);
        self.store_metrics = metrics;
    }

    /// Lets go of the store thread's channels, before it is stopped.
    pub fn detach_store(&mut self) {
        self.mailbox.detach();
    }

    /// Takes the last outcomes of a stopped store thread. The last acknowledgements are sent if the
    /// sockets take them at once.
    pub fn last_outcomes(&mut self, outcomes: Vec<Outcome>) {
        let at = self.clock.moment();
        // What no turn has come to yet is older.
        while let Ok(Some(outcome)) = self.mailbox.outcome() {
            self.take_outcome(outcome, at);
        }
        for outcome in outcomes {
            self.take_outcome(outcome, at);
        }
        self.connections
            .flush_dirty(self.poll.registry(), &mut self.stats);
    }

    /// Returns whether the store has answered, or is known to be unavailable.
    #[must_use]
    pub fn has_tried_store(&self) -> bool {
        self.core.store() != StoreView::Starting
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> ReactorStats {
        let waiting = ReadQueue::ALL.map(|queue| self.connections.waiting(queue) as u64);
        ReactorStats {
            connections: self.connections.table.len() as u64,
            connections_max: self.connections.max() as u64,
            still_ready: waiting.iter().sum(),
            subscribers: self.subscribers.len() as u64,
            requesters: self.requesters.len() as u64,
            ..self.stats
        }
    }

    /// One turn, waiting for at most `max`. False when it was asked to end and everything is
    /// settled, or has had its time.
    ///
    /// # Errors
    /// When it cannot go on.
    pub fn turn(&mut self, max: Option<Duration>) -> Result<bool, ServeError> {
        let (before_wait, all_reported) = self.wait(max)?;
        let at = self.moments.moment();
        let all_reported = self.read(at) && all_reported;
        self.mail(at);
        self.tick(before_wait, all_reported, at);
        self.go_on(at);
        self.send(at);
        self.hand_over(at);
        self.connections
            .flush_dirty(self.poll.registry(), &mut self.stats);
        self.stats.turns += 1;
        self.trim_memory(at.now);
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(!self.is_over(at.now)),
        }
    }

    /// Waits for something to happen. When the wait began, and whether the kernel has reported all
    /// that it knew.
    fn wait(&mut self, max: Option<Duration>) -> Result<(Instant, bool), ServeError> {
        let mut now = self.clock.now();
        let mut wait = self.poll_timeout(now, max);
        if wait == Some(Span::ZERO) {
            self.stats.busy_turns += 1;
        }
        if let Some(nap) = self.coalesce.nap(now, wait) {
            // The one place that sleeps without listening, and only under dense traffic: one wait that
            // brings a hundred events costs far less than a hundred that bring one each.
            std::thread::sleep(nap.into());
            self.stats.naps += 1;
            let before = std::mem::replace(&mut now, self.clock.now());
            wait = wait.map(|wait| (before + wait).since(now));
        }
        let wait = match wait {
            // What is ours to do has a timer; only a caller's own limit is a time-out.
            Some(wait)
                if wait > Span::ZERO
                    && max.is_none_or(|max| wait < Span::from(max))
                    && self.timerfd.ends(now, wait) =>
            {
                max
            }
            wait => wait.map(Duration::from),
        };
        match self.poll.poll(&mut self.events, wait) {
            Ok(()) => Ok((now, true)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.events.clear();
                Ok((now, false))
            }
            Err(error) => Err(ServeError::fatal(format!("waiting for events: {error}"))),
        }
    }

    /// Time-out of the next wait. Zero while a connection is still ready, or a deadline has passed
    /// on the clock (one ahead of the horizon needs more turns, not more time).
    fn poll_timeout(&self, now: Instant, max: Option<Duration>) -> Option<Span> {
        let reading = self.stopping.is_none() && self.connections.has_ready();
        let pending_accepts = self.listener.as_ref().is_some_and(|l| !l.accepted_all());
        if reading
            || pending_accepts
            || self.udp.has_ready()
            || (self.more_to_send && self.udp.room() > 0)
            || self.web.has_ready()
            || self.outbound.has_ready()
            || self.mailbox.has_left()
            || self.sweep_pending
            || self.core.has_jobs()
        {
            return Some(Span::ZERO);
        }
        let retry = self.listener.as_ref().and_then(Listener::retry_at);
        let trim = self.trim.next();
        let heap = self.flush_delay.due();
        let next = [
            self.deadline,
            self.sockets_due,
            retry,
            self.stopping,
            trim,
            heap,
        ];
        let next = next.into_iter().flatten().min().map(|at| at.since(now));
        [next, max.map(Span::from)].into_iter().flatten().min()
    }

    /// Reads everyone whom the kernel named and everyone who was still ready, accepts, and serves
    /// the other sockets. Whether the kernel had no more to name.
    fn read(&mut self, at: Moment) -> bool {
        let (mut reported, mut ours) = (0, 0);
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        self.connections.begin();
        self.read_budget = ReadBudget::among(
            events.iter().count() + self.connections.waiting(ReadQueue::OverBudget),
        );
        let mut behind = events.iter().skip(1);
        for event in &events {
            reported += 1;
            if let Some(next) = behind.next() {
                self.connections.expect(next.token());
            }
            match About::of(event.token()) {
                About::Listener => self.listener.iter_mut().for_each(Listener::ready),
                About::Udp => self.udp.ready(event),
                // That it is time for the mailbox, or a deadline, is seen without being reported.
                About::Waker | About::Timerfd => {}
                About::Web => self.web.ready(event),
                About::Outbound => {
                    ours += 1;
                    self.outbound.ready(event);
                }
                About::Host(conn) => self.host_event(conn, event, at),
                About::Closing(place) => self.connections.closing.ready(place, &mut self.scratch),
            }
        }
        self.events = events;
        // Hosts are not to wait for the sake of devices.
        self.coalesce.turn(reported - ours, at.now);
        if self.stopping.is_none() {
            self.serve_queues(at);
            if self.listener.as_ref().is_some_and(|l| l.is_due(at.now)) {
                self.accept(at);
            }
        }
        self.receive(at);
        self.serve_outbound(at);
        self.serve_web(at);
        reported < EVENTS_PER_TURN_MAX
    }

    /// Devices and targets, behind the hosts, whose replies are not to wait for them.
    fn serve_outbound(&mut self, at: Moment) {
        if self.outbound.has_ready() {
            let registry = self.poll.registry();
            self.connections.flush_dirty(registry, &mut self.stats);
            self.outbound.serve(registry, at);
        }
    }

    fn host_event(&mut self, conn: ConnId, event: &mio::event::Event, at: Moment) {
        let registry = self.poll.registry();
        let read = self
            .connections
            .event(conn, event, registry, &mut self.stats);
        match read {
            Readable::Now if self.answers_wait() && self.core.owes_answer(conn) => {
                self.connections.enqueue(conn, ReadQueue::Dispatched);
            }
            Readable::Now if self.stopping.is_none() => self.serve(conn, at),
            Readable::Later => self.connections.requeue(conn),
            Readable::Now | Readable::No => {}
        }
    }

    /// Returns whether hosts that were sent a task must wait: it is still being sent to others, or
    /// they are too many for one turn.
    fn answers_wait(&self) -> bool {
        let waiting = self.more_to_send || self.connections.waiting(ReadQueue::Dispatched) > 0;
        waiting && self.stopping.is_none()
    }

    /// Serves the lines, each for a slice of the turn, behind the connections that have just sent
    /// something.
    fn serve_queues(&mut self, at: Moment) {
        if !self.connections.has_ready() {
            return;
        }
        let registry = self.poll.registry();
        self.connections.flush_dirty(registry, &mut self.stats);
        for queue in ReadQueue::ALL {
            // The slice of the still-ready line began with the turn: a connection that used its
            // budget just now waits for the next.
            if queue != ReadQueue::OverBudget {
                self.connections.begin_queue(queue);
            }
            let long = match queue {
                ReadQueue::Dispatched if self.more_to_send => TURN_SLICE_SENDING_US,
                _ => TURN_SLICE_US,
            };
            let mut slice = Slice::of(long, self.clock.now());
            while let Some(conn) = self.connections.next_of(queue) {
                self.serve(conn, at);
                if slice.is_over(|| self.clock.now()) {
                    break;
                }
            }
        }
    }

    /// Accepts connections, within the budget of a turn. Their bytes are reported by the next wait.
    fn accept(&mut self, at: Moment) {
        let Some(mut listener) = self.listener.take() else {
            return;
        };
        listener.begin(at.now);
        let mut slice = Slice::begin(self.clock.now());
        let before = self.stats.accepted;
        while let Some((stream, peer)) = listener.accept(at.now, &mut self.stats) {
            match self.connections.decide(peer.ip(), at.now) {
                Ok(victim) => {
                    victim.iter().for_each(|conn| self.evict(*conn, at));
                    self.admit(stream, peer, at);
                }
                // Dropping the stream closes it, so that its peer knows.
                Err(refusal) => self.stats.refused(refusal),
            }
            if slice.is_over(|| self.clock.now()) {
                break;
            }
        }
        self.listener = Some(listener);
        self.coalesce.accepted(self.stats.accepted - before);
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, at: Moment) {
        let (registry, stats) = (self.poll.registry(), &mut self.stats);
        let admitted = self
            .connections
            .admit(stream, peer.ip(), at.now, registry, stats);
        if let Some(conn) = admitted {
            self.opened(conn, peer, at);
        }
    }

    /// Handles outcomes of the store, requests of handles, and a requested stop.
    fn mail(&mut self, at: Moment) {
        if !self.mailbox.is_due() {
            return;
        }
        // Each outcome may cause a reply: a batch of two thousand at once would delay every host.
        let mut slice = Slice::begin(self.clock.now());
        loop {
            match self.mailbox.outcome() {
                Ok(Some(outcome)) => self.take_outcome(outcome, at),
                Ok(None) => break,
                Err(gone) => {
                    self.fail(ServeError::fatal(gone.to_string()));
                    break;
                }
            }
            if slice.is_over(|| self.clock.now()) {
                self.mailbox.leave();
                break;
            }
        }
        for left in (0..REQUESTS_PER_TURN_MAX).rev() {
            match self.mailbox.request() {
                Some(request) => self.answer(request, at),
                None => break,
            }
            if left == 0 {
                self.mailbox.leave();
            }
        }
        if self.stopping.is_none() && self.mailbox.wake().stop_asked() {
            self.begin_stop(at);
        }
    }

    fn take_outcome(&mut self, outcome: Outcome, at: Moment) {
        // The store is never turned away.
        let _ = self.core.handle(at, Input::Outcome(outcome), &mut self.fx);
        self.apply(at);
    }

    fn answer(&mut self, request: Request, at: Moment) {
        match request {
            Request::Alive { hosts, reply } => {
                // The requester may have stopped waiting.
                let _ = reply.try_send(request::alive(&self.core, &hosts));
            }
            Request::Hosts {
                filter,
                cursor,
                reply,
            } => {
                let _ = reply.try_send(request::page(&self.core, filter, cursor));
            }
            Request::Ask { ask, reply } => self.handle_asks(*ask, reply, at),
            Request::Subscribe { events, missed } => self.subscribers.add(events, missed),
            Request::Reload(reload) => {
                let Reload {
                    rules,
                    access,
                    http,
                    outside,
                    tuning,
                    tls,
                } = *reload;
                self.connections.set_tls(tls);
                if self.stopping.is_none() {
                    self.outbound.set(outside, self.poll.registry(), at);
                }
                self.core.set_rules(rules, at.now);
                self.core.set_access(access, at, &mut self.fx);
                self.apply(at);
                self.web.set_rules(http);
                self.coalesce = Coalesce::new(tuning.coalesce);
                self.tuning = tuning;
            }
        }
    }

    /// Deadlines, up to the horizon.
    fn tick(&mut self, before_wait: Instant, all_reported: bool, at: Moment) {
        let complete = all_reported && !self.connections.has_ready();
        let accepted_all = self.listener.as_ref().is_none_or(Listener::accepted_all);
        let horizon = self.horizon.turn(before_wait, complete, accepted_all);
        self.stats.horizon_lag_ns = at.now.since(horizon).as_nanos();
        self.deadline = self.core.tick(horizon, at, &mut self.fx);
        self.apply(at);
        let web = self.web.tick(at.now);
        let closing = self.connections.closing.tick(at.now);
        let registry = self.poll.registry();
        let outbound = self.outbound.tick(before_wait, all_reported, registry, at);
        self.publish_outbound(at);
        let certificates = self.check_certificates(at);
        let sockets_due = [web, closing, outbound, certificates];
        self.sockets_due = sockets_due.into_iter().flatten().min();
    }

    /// Publishes events of devices and targets.
    fn publish_outbound(&mut self, at: Moment) {
        let (news, notes) = self.outbound.take_events();
        for note in notes {
            self.fx.push(Effect::Log(note));
        }
        for news in news {
            self.core.announce(at, news, &mut self.fx);
        }
        self.apply(at);
    }

    /// Hands what is to be written to the store thread, as long as it has room.
    fn hand_over(&mut self, at: Moment) {
        self.sweep_pending = false;
        self.flush_delay.begin();
        self.mailbox.hand_held();
        if self.core.has_work() {
            self.hand_over_core(at);
        }
        if self.outbound.is_used() {
            self.hand_over_outbound(at);
        }
    }

    /// Sends the core's operations to the store thread.
    fn hand_over_core(&mut self, at: Moment) {
        // Urgent operations go at once, and take along those that have gathered.
        let at_once = self.core.has_urgent_work() || self.stopping.is_some();
        while self.core.has_work()
            && (at_once || self.flush_delay.may_go(at.now))
            && self.mailbox.has_room()
        {
            let Some(batch) = self.core.pull(at, BATCH_OPS_MAX) else {
                // A walk over many hosts of whom nothing is to be written: it goes on in the next turn.
                self.sweep_pending = self.core.has_work();
                break;
            };
            self.stats.ops += batch.ops.len() as u64;
            match self.mailbox.hand(batch) {
                Handed::Over => self.stats.batches += 1,
                Handed::Held => self.stats.batches_held += 1,
                Handed::Gone => {
                    return self.fail(ServeError::fatal(mailbox::StoreGone.to_string()));
                }
            }
            if !self.core.has_work() {
                self.flush_delay.gone(at.now);
            }
        }
    }

    /// The same of devices and targets: a little at a time, so that no host waits for long.
    fn hand_over_outbound(&mut self, at: Moment) {
        if !self.mailbox.has_room() {
            return;
        }
        let session = self.core.store_session();
        let ops = self.outbound.pull(at, session);
        if let Some(session) = session.filter(|_| !ops.is_empty()) {
            match self.mailbox.hand(Batch { session, ops }) {
                Handed::Over => self.stats.batches += 1,
                Handed::Held => self.stats.batches_held += 1,
                Handed::Gone => {
                    return self.fail(ServeError::fatal(mailbox::StoreGone.to_string()));
                }
            }
        }
        let both = [self.sockets_due, self.outbound.write_due(at.now)];
        self.sockets_due = both.into_iter().flatten().min();
    }

    /// Does what the core wants done, in order. Its list keeps its memory.
    fn apply(&mut self, at: Moment) {
        if self.fx.list.is_empty() {
            return;
        }
        let mut list = std::mem::take(&mut self.fx.list);
        for effect in list.drain(..) {
            match effect {
                Effect::Reply { conn, reply } => self.connections.reply(conn, &reply),
                Effect::Close { conn } => self.close(conn, at),
                Effect::Push { conn, push } => self.connections.push(conn, &push, &mut self.stats),
                Effect::Respond { asker, answer } => self.respond(asker, answer),
                Effect::Resume { conn } => self.connections.resume(conn),
                Effect::Narrow { conn } => self.connections.narrow(conn),
                Effect::Guard { conn, keys } => self.connections.guard(conn, &keys),
                Effect::Tell(event) => {
                    journal::event(&event);
                    self.stats.events_missed += self.subscribers.notify(&event);
                    self.web.tell(&event, at.now);
                }
                Effect::Log(note) => journal::note(&note),
                Effect::Stop { status, why } => self.fail(ServeError { status, why }),
            }
        }
        self.fx.list = list;
    }

    fn close(&mut self, conn: ConnId, at: Moment) {
        let registry = self.poll.registry();
        self.connections
            .close(conn, at.now, registry, &mut self.stats);
    }

    /// Records the error that ends the loop; the first one is kept.
    fn fail(&mut self, error: ServeError) {
        self.failed.get_or_insert(error);
    }

    /// Begins the stop: no connection is accepted or read any more, and the store settles
    /// outstanding writes.
    fn begin_stop(&mut self, at: Moment) {
        self.listener = None;
        self.web.stop(self.poll.registry());
        self.outbound.stop();
        self.connections.clear_ready();
        let offline = self.tuning.offline_on_shutdown;
        self.core.shutdown(at, offline, &mut self.fx);
        self.apply(at);
        self.stopping = Some(at.now + Span::from_secs(SHUTDOWN_S_MAX));
    }

    fn is_over(&self, now: Instant) -> bool {
        let done = || self.core.settled() && self.web.connections() == 0;
        self.stopping.is_some_and(|until| until <= now || done())
    }

    /// After a storm, when it is calm again, what it took of memory goes back.
    fn trim_memory(&mut self, now: Instant) {
        let work = self.stats.accepted + self.stats.ops + self.connections.pool.lent();
        if self.trim.is_due(now, work) {
            self.connections.trim();
            self.fx.list.shrink_to(EFFECTS_KEPT);
            self.core.tidy();
            memory::give_back();
        }
    }

    /// Answers what has been asked over HTTP, within a budget of its own.
    fn serve_web(&mut self, at: Moment) {
        if self.web.has_ready() {
            let stats = self.stats();
            let sources: [&dyn Source; 3] = [&stats, &*self.store_metrics, &self.outbound];
            let context = HttpContext {
                fleet: &self.core,
                devices: self.outbound.devices(),
                targets: self.outbound.targets(),
                recent: None,
                at,
                started: self.started,
                metrics: &sources,
            };
            let mut slice = Slice::of(TURN_SLICE_US, self.clock.now()).at_least(1);
            let goes_on = || !slice.is_over(|| self.clock.now());
            self.web.run_ready(self.poll.registry(), &context, goes_on);
        }
        for (requester, ask) in self.web.take_asks() {
            self.ask(requester, ask, at);
        }
    }
}

#[cfg(test)]
mod tests;
