//! The turn: the only place that waits, and the only room with sockets and clocks.
//!
//! ```text
//!    ┌─▶ wait ─▶ read ─▶ mailbox ─▶ tick ─▶ send ─▶ pull ─▶ write ─┐
//!    │        each within its budget; effects as they come        │
//!    └────────────────────────────────────────────────────────────┘
//! ```
//!
//! The reactor does not know the meaning of a message: bytes go to the codec, messages to the core,
//! and the core's effects are applied.

pub(crate) mod admission;
pub(crate) mod buffer;
pub(crate) mod clock;
pub(crate) mod closing;
pub(crate) mod coalesce;
pub(crate) mod connection;
pub(crate) mod connections;
mod datagram_queue;
pub(crate) mod descriptors;
mod driver;
pub(crate) mod error;
pub(crate) mod fault;
pub(crate) mod flush_delay;
pub mod horizon;
pub(crate) mod inherited;
mod input;
mod journal;
mod lifecycle;
pub(crate) mod listener;
pub(crate) mod mailbox;
#[cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "the program calls it")
)]
pub(crate) mod memory;
pub(crate) mod outbound;
mod poller;
pub(crate) mod proxy;
pub(crate) mod read_budget;
pub(crate) mod ready_queue;
pub(crate) mod request;
pub(crate) mod requesters;
mod schedule;
#[cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "the program calls it")
)]
pub(crate) mod scheduling;
mod send_many;
mod settings;
pub(crate) mod stats;
pub(crate) mod subscribers;
pub(crate) mod table;
#[cfg(test)]
mod test_double;
pub(crate) mod timerfd;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_none.rs"]
pub(crate) mod tls;
pub(crate) mod token;
mod traffic;
pub(crate) mod trim;
pub(crate) mod udp;
pub(crate) mod wake;
pub(crate) mod web;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use self::connections::{Connections, Readable};
use self::driver::Driver;
use self::error::{BindError, ServeError};
use self::input::Reader;
use self::lifecycle::Lifecycle;
use self::listener::Listener;
use self::mailbox::{Mailbox, StoreEnds};
use self::outbound::Outbound;
use self::poller::{Poller, Woken};
use self::proxy::Proxied;
use self::read_budget::TurnBudget;
use self::ready_queue::ReadQueue;
use self::request::HandleRequest;
use self::requesters::Requesters;
use self::schedule::Schedule;
use self::stats::{ReactorStats, TURN_BOUNDS};
use self::subscribers::Subscribers;
use self::token::About;
use self::udp::Udp;
use self::wake::Wake;
use self::web::Web;
use crate::control::HttpContext;
use crate::handlers::effect::Effect;
use crate::handlers::view::StoreView;
use crate::handlers::{Core, Input, Moment};
use crate::ids::ConnId;
use crate::limits::{
    EVENTS_PER_TURN_MAX, REQUESTS_PER_TURN_MAX, TURN_SLICE_SENDING_US, TURN_SLICE_US,
};
use crate::metrics::Source;
use crate::store::op::Outcome;
use crate::time::{Instant, Span};

pub use self::settings::{Bound, Reload, Settings, Sockets, Tuning};

/// The loop: the sockets, the core, and the queues to other threads.
pub struct Reactor {
    poller: Poller,
    listener: Listener,
    connections: Connections,
    reader: Reader,
    udp: Udp,
    web: Web,
    /// Connections that we open.
    outbound: Outbound,
    driver: Driver,
    mailbox: Mailbox,
    proxied: Proxied,
    subscribers: Subscribers,
    /// Handles that wait for the core's answer.
    requesters: Requesters,
    schedule: Schedule,
    budget: TurnBudget,
    lifecycle: Lifecycle,
    stats: ReactorStats,
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
        requests: Receiver<HandleRequest>,
    ) -> Result<(Self, Bound), BindError> {
        let poller = Poller::new(settings.tuning.coalesce)?;
        let Sockets {
            connections,
            mut listener,
            mut udp,
        } = sockets;
        let registry = poller.registry();
        listener.register(registry)?;
        udp.register(registry)?;
        web.register(registry)?;
        let wake = Arc::new(Wake::new(registry)?);
        let bound = Bound {
            tcp: listener.local_addr(),
            udp: udp.local_addr()?,
            connections,
        };
        let clock = poller.clock();
        let mut outbound = Outbound::new(clock);
        outbound.set(settings.outside.clone(), registry, clock.moment());
        let per_ip = settings.connections_per_ip;
        let reactor = Self {
            poller,
            listener,
            connections: Connections::new(connections, per_ip, settings.tls.clone()),
            reader: Reader::new(settings.tuning.framing),
            udp,
            web,
            outbound,
            driver: Driver::new(core),
            mailbox: Mailbox::new(wake, requests),
            subscribers: Subscribers::default(),
            proxied: Proxied::new(settings.proxy.clone()),
            requesters: Requesters::default(),
            schedule: Schedule::default(),
            budget: TurnBudget::new(settings.tuning.turn_budget),
            lifecycle: Lifecycle::new(&settings.tuning),
            stats: ReactorStats::default(),
        };
        Ok((reactor, bound))
    }

    /// Waker of this loop, to be rung after each message to it.
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(self.mailbox.wake())
    }

    /// Attaches the store thread's channels and metrics.
    pub fn attach_store(&mut self, store: StoreEnds, metrics: Box<dyn Source + Send>) {
        self.mailbox.attach(store, metrics);
    }

    /// Drops the store thread's channels, before it is stopped.
    pub fn detach_store(&mut self) {
        self.mailbox.detach();
    }

    /// Returns whether the store has answered, or is known to be unavailable.
    pub fn has_tried_store(&self) -> bool {
        self.driver.core().store() != StoreView::Starting
    }

    /// Time until the next turn is due without an event.
    pub fn next_turn(&self) -> Option<Duration> {
        let timeout = self.poll_timeout(self.poller.now(), None);
        timeout.map(Duration::from)
    }

    /// Descriptor that is readable while there are events.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    /// Hosts that are online now.
    pub fn hosts_online(&self) -> u64 {
        self.driver.core().stats().hosts_online
    }

    pub fn stats(&self) -> ReactorStats {
        let waiting = ReadQueue::ALL.map(|queue| self.connections.waiting(queue) as u64);
        ReactorStats {
            connections: self.connections.len() as u64,
            connections_max: self.connections.max() as u64,
            still_ready: waiting.iter().sum(),
            subscribers: self.subscribers.len() as u64,
            requesters: self.requesters.len() as u64,
            panics: self.driver.panics(),
            ..self.stats
        }
    }

    /// Runs one turn, waiting for at most `max`. Returns false when the stop is complete.
    ///
    /// # Errors
    /// When the loop cannot continue.
    pub fn turn(&mut self, max: Option<Duration>) -> Result<bool, ServeError> {
        let now = self.poller.now();
        let timeout = self.poll_timeout(now, max);
        let mut woken = self.poller.wait(now, timeout, max, &mut self.stats)?;
        let at = self.poller.moment();
        self.budget.begin(at.now);
        woken.complete &= self.read(at);
        self.mail(at);
        self.tick(woken, at);
        self.go_on(at);
        self.send(at);
        self.hand_over(at);
        self.flush_dirty();
        self.trim_memory(at.now);
        self.stats.turns += 1;
        let turned = self.poller.now().since(at.now).as_nanos();
        self.stats.turn_times.record(&TURN_BOUNDS, turned);
        match self.lifecycle.take_error() {
            Some(error) => Err(error),
            None => Ok(!self.is_over(at.now)),
        }
    }

    /// Time-out of the next wait. Zero while a connection is still ready, or a deadline has passed
    /// on the clock (one ahead of the horizon needs more turns, not more time).
    fn poll_timeout(&self, now: Instant, max: Option<Duration>) -> Option<Span> {
        let reading = !self.lifecycle.is_stopping() && self.connections.has_ready();
        if reading
            || !self.listener.accepted_all()
            || self.udp.has_ready()
            || self.web.has_ready()
            || self.outbound.has_ready()
            || self.mailbox.has_left()
            || self.driver.core().has_jobs()
        {
            return Some(Span::ZERO);
        }
        let next = [
            self.schedule.next(),
            self.listener.retry_at(),
            self.mailbox.flush_due(),
            self.lifecycle.stop_by(),
        ];
        let next = next.into_iter().flatten().min().map(|at| at.since(now));
        [next, max.map(Span::from)].into_iter().flatten().min()
    }

    /// Reads the reported and the queued connections, accepts, and serves the other sockets.
    /// Returns whether the kernel had no more events.
    fn read(&mut self, at: Moment) -> bool {
        let (mut reported, mut ours) = (0, 0);
        let events = self.poller.take_events();
        self.connections.begin();
        self.reader.budget = self
            .budget
            .of_each(events.iter().count() + self.connections.waiting(ReadQueue::OverBudget));
        let mut behind = events.iter().skip(1);
        for event in &events {
            reported += 1;
            if let Some(next) = behind.next() {
                self.connections.expect(next.token());
            }
            match About::of(event.token()) {
                About::Listener => self.listener.ready(),
                About::Udp => self.udp.ready(event),
                // The mailbox and the deadlines are checked in each turn.
                About::Waker | About::Timerfd => {}
                About::Web => self.web.ready(event),
                About::Outbound => {
                    ours += 1;
                    self.outbound.ready(event);
                }
                About::Host(conn) => self.host_event(conn, event, at),
                About::Proxied => self.proxied_event(event.token(), at),
                About::Closing(place) => self
                    .connections
                    .drain_closing(place, &mut self.reader.scratch),
            }
        }
        self.poller.return_events(events);
        // Traffic of devices must not delay hosts.
        self.poller.count_events(reported - ours, at.now);
        if !self.lifecycle.is_stopping() {
            self.serve_queues(at);
            if self.listener.is_due(at.now) {
                self.accept(at);
            }
        }
        self.receive(at);
        self.serve_outbound(at);
        self.serve_web(at);
        reported < EVENTS_PER_TURN_MAX
    }

    /// Serves devices and targets, after the replies to hosts are sent.
    fn serve_outbound(&mut self, at: Moment) {
        if self.outbound.has_ready() {
            self.flush_dirty();
            self.outbound.serve(self.poller.registry(), at);
        }
    }

    fn host_event(&mut self, conn: ConnId, event: &mio::event::Event, at: Moment) {
        let registry = self.poller.registry();
        let read = self
            .connections
            .event(conn, event, registry, &mut self.stats);
        match read {
            Readable::Now if self.answers_wait() && self.driver.core().owes_answer(conn) => {
                self.connections.enqueue(conn, ReadQueue::Dispatched);
            }
            Readable::Now if self.budget.stops_reading(|| self.poller.now()) => {
                self.connections.requeue(conn);
            }
            Readable::Now if !self.lifecycle.is_stopping() => self.serve(conn, at),
            Readable::Later => self.connections.requeue(conn),
            Readable::Now | Readable::No => {}
        }
    }

    /// Returns whether hosts that were sent a task must wait: it is still being sent to others, or
    /// they are too many for one turn.
    fn answers_wait(&self) -> bool {
        let waiting = self.udp.has_more() || self.connections.waiting(ReadQueue::Dispatched) > 0;
        waiting && !self.lifecycle.is_stopping()
    }

    /// Serves the queues, each for a slice of the turn, after the connections that the kernel
    /// reported.
    fn serve_queues(&mut self, at: Moment) {
        if !self.connections.has_ready() {
            return;
        }
        self.flush_dirty();
        for queue in ReadQueue::ALL {
            // The round of this queue began with the turn: a connection that has just used its
            // budget waits for the next turn.
            if queue != ReadQueue::OverBudget {
                self.connections.queues().begin(queue);
            }
            let long = match queue {
                ReadQueue::Dispatched if self.udp.has_more() => TURN_SLICE_SENDING_US,
                _ => TURN_SLICE_US,
            };
            let mut slice = self.budget.slice(long, self.poller.now());
            while let Some(conn) = self.connections.next_of(queue) {
                self.serve(conn, at);
                if slice.is_over(|| self.poller.now()) {
                    break;
                }
            }
        }
    }

    /// Handles outcomes of the store, requests of handles, and a requested stop.
    fn mail(&mut self, at: Moment) {
        if !self.mailbox.is_due() {
            return;
        }
        // Each outcome may cause a reply: a batch of two thousand at once would delay every host.
        let mut slice = self.budget.slice(TURN_SLICE_US, self.poller.now());
        loop {
            if !self.driver.core().takes_outcomes() {
                self.mailbox.leave();
                break;
            }
            match self.mailbox.outcome() {
                Ok(Some(outcome)) => self.take_outcome(outcome, at),
                Ok(None) => break,
                Err(gone) => {
                    self.lifecycle.fail(ServeError::fatal(gone.to_string()));
                    break;
                }
            }
            if slice.is_over(|| self.poller.now()) {
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
        if !self.lifecycle.is_stopping() && self.mailbox.wake().stop_asked() {
            self.begin_stop(at);
        }
    }

    fn take_outcome(&mut self, outcome: Outcome, at: Moment) {
        let outcome = match outcome {
            Outcome::Polls(found) => {
                return self.outbound.leases(found, self.poller.registry(), at);
            }
            other => other,
        };
        if let Outcome::Nodes { are_several } = outcome {
            self.outbound.nodes(are_several, at);
        }
        // The core never refuses an outcome.
        let input = Input::Outcome(outcome);
        let _ = self
            .driver
            .with(|core, effects| core.handle(at, input, effects));
        self.apply(at);
    }

    fn answer(&mut self, request: HandleRequest, at: Moment) {
        match request {
            HandleRequest::Alive { hosts, reply } => {
                // The requester may have stopped waiting.
                let _ = reply.try_send(request::alive(self.driver.core(), &hosts));
            }
            HandleRequest::Matching {
                target,
                hosts,
                reply,
            } => {
                let _ = reply.try_send(self.driver.core().matching(&target, &hosts));
            }
            HandleRequest::Hosts {
                filter,
                cursor,
                reply,
            } => {
                let _ = reply.try_send(request::page(self.driver.core(), filter, cursor));
            }
            HandleRequest::Core { request, reply } => self.handle_request(*request, reply, at),
            HandleRequest::Subscribe { events, missed } => self.subscribers.add(events, missed),
            HandleRequest::Reload(reload) => self.reload(*reload, at),
        }
    }

    /// Handles deadlines up to the horizon.
    fn tick(&mut self, woken: Woken, at: Moment) {
        let all_read = woken.complete && !self.connections.has_ready();
        let accepted_all = self.listener.accepted_all();
        let horizon = self.schedule.horizon(woken, all_read, accepted_all);
        self.stats.horizon_lag_ns = at.now.since(horizon).as_nanos();
        let due = self
            .driver
            .with(|core, effects| core.tick(horizon, at, effects));
        self.schedule.set_core(due);
        self.apply(at);
        let web = self.web.tick(at.now);
        let closing = self.connections.tick_closing(at.now);
        let proxied = self.proxied.tick(at.now, &mut self.stats);
        let outbound = self.outbound.tick(woken, self.poller.registry(), at);
        self.publish_outbound(at);
        let certificates = self.check_certificates(at);
        self.schedule
            .set_sockets([web, closing, proxied, outbound, certificates]);
    }

    /// Publishes events of devices and targets.
    fn publish_outbound(&mut self, at: Moment) {
        let (news, notes) = self.outbound.take_events();
        self.driver.with(|core, effects| {
            for note in notes {
                effects.push(Effect::Log(note));
            }
            for news in news {
                core.announce(at, news, effects);
            }
        });
        self.apply(at);
    }

    /// Passes operations of the core, then of devices and targets, to the store thread.
    fn hand_over(&mut self, at: Moment) {
        let Self {
            driver,
            mailbox,
            outbound,
            stats,
            ..
        } = self;
        let at_once = self.lifecycle.is_stopping();
        let mut passed = driver.with(|core, _| mailbox.pass_core(core, at_once, at, stats));
        if passed.is_ok() && outbound.is_used() && mailbox.has_room() {
            let session = driver.core().store_session();
            passed = mailbox.pass_ops(session, outbound.pull(at, session), stats);
            self.schedule.add_sockets(outbound.write_due(at.now));
        }
        if let Err(gone) = passed {
            self.lifecycle.fail(ServeError::fatal(gone.to_string()));
        }
    }

    /// Applies the effects of the core, in order.
    fn apply(&mut self, at: Moment) {
        if !self.driver.has_effects() {
            return;
        }
        let mut list = self.driver.take_effects();
        for effect in list.drain(..) {
            match effect {
                Effect::Reply { conn, reply } => self.connections.reply(conn, &reply),
                Effect::Close { conn } => self.close(conn, at),
                Effect::Push { conn, push } => self.connections.push(conn, &push, &mut self.stats),
                Effect::Respond { requester, answer } => self.respond(requester, answer),
                Effect::Resume { conn } => self.connections.resume(conn),
                Effect::Narrow { conn } => self.connections.narrow(conn),
                Effect::Guard { conn, keys } => self.connections.guard(conn, &keys),
                Effect::Tell(event) => {
                    journal::event(&event);
                    self.stats.events_missed += self.subscribers.notify(&event);
                    self.web.publish(&event, at.now);
                }
                Effect::Log(note) => journal::note(&note),
                Effect::Stop { status, why } => self.lifecycle.fail(ServeError { status, why }),
            }
        }
        self.driver.return_list(list);
    }

    fn close(&mut self, conn: ConnId, at: Moment) {
        let registry = self.poller.registry();
        self.connections
            .close(conn, at.now, registry, &mut self.stats);
    }

    /// Sends replies that are still unsent.
    fn flush_dirty(&mut self) {
        let registry = self.poller.registry();
        self.connections.flush_dirty(registry, &mut self.stats);
    }

    /// Returns memory to the system after a storm.
    fn trim_memory(&mut self, now: Instant) {
        let work = self.stats.accepted + self.stats.ops + self.connections.buffers_lent();
        if self.schedule.is_trim_due(now, work) {
            self.connections.trim();
            self.driver.trim();
            memory::give_back();
        }
    }

    /// Serves HTTP, within a budget of its own.
    fn serve_web(&mut self, at: Moment) {
        if self.web.has_ready() {
            let stats = self.stats();
            let sources: [&dyn Source; 3] = [&stats, self.mailbox.store_metrics(), &self.outbound];
            let context = HttpContext {
                fleet: self.driver.core(),
                devices: self.outbound.devices(),
                targets: self.outbound.targets(),
                recent: None,
                at,
                started: self.poller.started(),
                metrics: &sources,
            };
            let slice = self.budget.slice(TURN_SLICE_US, self.poller.now());
            let mut slice = slice.at_least(1);
            let goes_on = || !slice.is_over(|| self.poller.now());
            self.web
                .run_ready(self.poller.registry(), &context, goes_on);
        }
        for (requester, request) in self.web.take_requests() {
            self.request(requester, request, at);
        }
        for requester in self.web.take_withdrawn() {
            self.driver.with(|core, _| core.withdraw(at, requester));
        }
        self.publish_audits(at);
    }

    /// Publishes requests over HTTP that have changed something, or were refused.
    fn publish_audits(&mut self, at: Moment) {
        let audits = self.web.take_audits();
        if audits.is_empty() {
            return;
        }
        self.driver.with(|core, effects| {
            for (record, by_stranger) in audits {
                core.audit(at, record, by_stranger, effects);
            }
        });
        self.apply(at);
    }
}

#[cfg(test)]
mod tests;
