//! Connections of hosts, with their buffers, guards, queues and TLS.

mod reading;

pub use reading::{Advance, Reading};

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Registry, Token};

use super::admission::{Admission, Refusal};
use super::buffer::Pool;
use super::closing::Closing;
use super::connection::{Connection, Flags, Flushed};
use super::ready_queue::{ReadQueue, ReadQueues};
use super::stats::ReactorStats;
use super::table::Table;
use super::tls::{Tls, TlsSettings};
use super::token::About;
use crate::codec::message::{Push, Reply};
use crate::codec::{emit_push_sealed, emit_sealed};
use crate::ids::{ConnId, Numbered};
use crate::keys::{Directions, Guard};
use crate::limits::{TLS_EXPIRY_LOOK_S, UNPROVEN_BUSY_MS, UNPROVEN_SILENT_MS};
use crate::time::{Instant, Span, UnixMs};

/// All connections of hosts.
#[derive(Debug)]
pub struct Connections {
    pub(super) table: Table<Connection>,
    /// Connections with more to read, by [`ReadQueue`].
    queues: ReadQueues,
    pub(super) pool: Pool,
    /// Connections that only wait for their peers to close them.
    closing: Closing,
    /// Guards of connections whose frames have tags.
    guards: Numbered<ConnId, Box<Guard>>,
    admission: Admission,
    /// TLS, if it is configured.
    tls: Option<Tls>,
    /// Connections with unsent bytes, each once.
    dirty: Vec<ConnId>,
}

/// Time at which a connection that the kernel reports is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    No,
    Now,
    /// After the connections of known hosts.
    Later,
}

impl Connections {
    /// Bounds all connections by `max`, and those of each address by `per_ip`.
    pub fn new(max: usize, per_ip: Option<usize>, tls: Option<TlsSettings>) -> Self {
        Self {
            table: Table::default(),
            queues: ReadQueues::default(),
            pool: Pool::default(),
            closing: Closing::default(),
            guards: Numbered::default(),
            admission: Admission::new(max, per_ip, RandomState::new().hash_one(max)),
            tls: tls.map(Tls::new),
            dirty: Vec::new(),
        }
    }

    /// Room for so many.
    pub fn max(&self) -> usize {
        self.admission.max()
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Number of buffers lent so far.
    pub fn buffers_lent(&self) -> u64 {
        self.pool.lent()
    }

    /// Drops what the peer of a closing connection sends.
    pub fn drain_closing(&mut self, place: usize, scratch: &mut [u8]) {
        self.closing.ready(place, scratch);
    }

    /// Closes closing connections whose time is over. Returns the time of the next.
    pub fn tick_closing(&mut self, now: Instant) -> Option<Instant> {
        self.closing.tick(now)
    }

    /// Returns whether `conn` is open.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.table.get(conn).is_some()
    }

    /// Decides on a new connection from `peer`: returns the connection to close for it, if one must
    /// be closed.
    ///
    /// # Errors
    /// When the new connection must be closed.
    pub fn decide(&mut self, peer: IpAddr, now: Instant) -> Result<Option<ConnId>, Refusal> {
        let (table, tls) = (&self.table, self.tls.as_ref());
        let time_of = |conn| {
            let flags = table
                .get(conn)
                .map_or(Flags::default(), |entry| entry.flags);
            let is_busy = flags.has(Flags::CHALLENGED)
                || tls.is_some_and(|tls| tls.has_handshake_begun(conn));
            let ms = if is_busy {
                UNPROVEN_BUSY_MS
            } else {
                UNPROVEN_SILENT_MS
            };
            (!flags.has(Flags::QUEUED)).then_some(Span::from_millis(ms))
        };
        self.admission.decide(peer, table.len(), now, time_of)
    }

    /// Adds a new connection, unless the system has no memory for it: then it is closed and
    /// counted.
    pub fn admit(
        &mut self,
        stream: TcpStream,
        peer: IpAddr,
        now: Instant,
        registry: &Registry,
        stats: &mut ReactorStats,
    ) -> Option<ConnId> {
        let conn = self.table.insert(Connection::new(stream));
        let registered = self
            .table
            .get_mut(conn)
            .is_some_and(|entry| entry.register(conn, registry).is_ok());
        if !registered {
            stats.accept_errors += 1;
            self.table.remove(conn);
            return None;
        }
        if let Some(tls) = &mut self.tls
            && !tls.open(conn)
        {
            stats.accept_errors += 1;
            self.table.remove(conn);
            return None;
        }
        self.admission.add(conn, peer, now);
        stats.accepted += 1;
        Some(conn)
    }

    pub fn begin(&mut self) {
        self.queues.begin(ReadQueue::OverBudget);
        self.tls.iter_mut().for_each(Tls::begin);
    }

    /// New connections are made by these, and those that are there are checked where other clients
    /// are let in. Whether TLS is spoken at all stays as it is.
    pub fn set_tls(&mut self, settings: Option<TlsSettings>) {
        if let (Some(tls), Some(settings)) = (&mut self.tls, settings) {
            tls.set(settings);
        }
    }

    /// Returns connections whose certificates are no longer accepted, with the reasons.
    pub fn check_certificates(&mut self, wall: UnixMs) -> Vec<(ConnId, String)> {
        match &mut self.tls {
            Some(tls) if tls.check_due().is_some_and(|due| due <= wall) => tls.check(wall),
            _ => Vec::new(),
        }
    }

    /// Time until certificates must be checked again.
    pub fn check_in(&self, wall: UnixMs) -> Option<Span> {
        let due = self.tls.as_ref()?.check_due()?;
        let wait = Span::from_millis(due.0.saturating_sub(wall.0));
        Some(wait.min(Span::from_secs(TLS_EXPIRY_LOOK_S)))
    }

    /// Puts `conn` at the end of a queue, unless it is in one.
    pub fn enqueue(&mut self, conn: ConnId, queue: ReadQueue) {
        if let Some(entry) = self.table.get_mut(conn) {
            self.queues.enqueue(entry, conn, queue);
        }
    }

    /// Puts `conn` at the end of the queue for connections that have more to read.
    pub fn requeue(&mut self, conn: ConnId) {
        if let Some(entry) = self.table.get_mut(conn) {
            self.queues.requeue(entry, conn);
        }
    }

    /// The queues of connections to be read.
    pub fn queues(&mut self) -> &mut ReadQueues {
        &mut self.queues
    }

    /// Returns whether a connection is in a queue.
    pub fn has_ready(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Number of connections in a queue.
    pub fn waiting(&self, queue: ReadQueue) -> usize {
        self.queues.len(queue)
    }

    /// The next connection of a queue in this turn that is still open.
    pub fn next_of(&mut self, queue: ReadQueue) -> Option<ConnId> {
        loop {
            let conn = self.queues.pop(queue)?;
            if let Some(entry) = self.table.get_mut(conn) {
                entry.flags.clear(Flags::QUEUED);
                return Some(conn);
            }
        }
    }

    /// Prefetches the connection of the next event.
    pub fn expect(&self, token: Token) {
        if let About::Host(conn) = About::of(token) {
            self.table.expect(conn);
        }
    }

    /// Handles an event of `conn`. Returns when it must be read.
    pub fn event(
        &mut self,
        conn: ConnId,
        event: &Event,
        registry: &Registry,
        stats: &mut ReactorStats,
    ) -> Readable {
        let Some(entry) = self.table.get_mut(conn) else {
            return Readable::No;
        };
        if event.is_read_closed() || event.is_error() {
            entry.flags.set(Flags::ENDING);
        }
        let in_tls = self.tls.as_ref().is_some_and(|tls| tls.has_unsent(conn));
        let flags = match in_tls || entry.unsent() > 0 {
            false => Some(entry.flags),
            true => {
                self.flush(conn, registry, stats);
                self.table.get(conn).map(|entry| entry.flags)
            }
        };
        match flags {
            None => Readable::No,
            // A queued connection is read in its turn, within one budget.
            Some(flags) if flags.has(Flags::UNREADABLE) => Readable::No,
            Some(flags) if flags.has(Flags::LOW_PRIORITY) => Readable::Later,
            Some(_) => Readable::Now,
        }
    }

    /// Appends a reply, which is sent at the end of the turn. A broken connection gets none.
    pub fn reply(&mut self, conn: ConnId, reply: &Reply) {
        if let Some(entry) = self.table.get_mut(conn)
            && !entry.flags.has(Flags::BROKEN)
        {
            let order = entry.order;
            let seal = match entry.flags.has(Flags::GUARDED) {
                true => self.guards.get_mut(&conn).map(|guard| &mut guard.seal),
                false => None,
            };
            emit_sealed(reply, order, seal, entry.out(&mut self.pool));
            mark_dirty(&mut self.dirty, entry, conn);
        }
    }

    /// Appends a dispatch likewise. A peer that does not read its replies gets none: an unanswered
    /// dispatch is sent again.
    pub fn push(&mut self, conn: ConnId, push: &Push<'_>, stats: &mut ReactorStats) {
        let Some(entry) = self.table.get_mut(conn) else {
            return;
        };
        let order = entry.order;
        if entry.is_unread() || entry.flags.has(Flags::BROKEN) {
            stats.pushes_dropped += 1;
            return;
        }
        let seal = match entry.flags.has(Flags::GUARDED) {
            true => self.guards.get_mut(&conn).map(|guard| &mut guard.seal),
            false => None,
        };
        match emit_push_sealed(push, order, seal, entry.out(&mut self.pool)) {
            Ok(()) => stats.pushes += 1,
            Err(error) => {
                stats.pushes_dropped += 1;
                log::error!(target: "push", "a dispatch is not sent: {error}");
            }
        }
        mark_dirty(&mut self.dirty, entry, conn);
    }

    /// Takes only short frames from `conn` until it is guarded.
    pub fn narrow(&mut self, conn: ConnId) {
        if let Some(entry) = self.table.get_mut(conn) {
            entry.flags.set(Flags::CHALLENGED);
        }
    }

    /// Requires and adds tags on later frames of `conn`.
    pub fn guard(&mut self, conn: ConnId, keys: &Directions) {
        if let Some(entry) = self.table.get_mut(conn) {
            entry.flags.set(Flags::GUARDED);
            entry.flags.clear(Flags::CHALLENGED);
            self.admission.proved(conn);
            self.guards.insert(conn, Box::new(Guard::of_server(keys)));
        }
    }

    /// Resumes reading `conn` after backpressure.
    pub fn resume(&mut self, conn: ConnId) {
        if let Some(entry) = self.table.get_mut(conn)
            && entry.flags.clear(Flags::BACKPRESSURE)
        {
            self.queues.requeue(entry, conn);
        }
    }

    /// Sends the unsent bytes of all connections, with one write each.
    pub fn flush_dirty(&mut self, registry: &Registry, stats: &mut ReactorStats) {
        if self.dirty.is_empty() {
            return;
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            if let Some(entry) = self.flush(conn, registry, stats) {
                entry.flags.clear(Flags::DIRTY);
            }
        }
        self.dirty = dirty;
    }

    /// Sends unsent bytes of `conn`, and pauses or resumes reading by what is left.
    fn flush(
        &mut self,
        conn: ConnId,
        registry: &Registry,
        stats: &mut ReactorStats,
    ) -> Option<&mut Connection> {
        let entry = self.table.get_mut(conn)?;
        let mut flushed = match &mut self.tls {
            None => entry.flush(&mut self.pool, &mut stats.bytes_out),
            Some(tls) => entry.flush_through(tls, conn, &mut self.pool, &mut stats.bytes_out),
        };
        if flushed == Flushed::Blocked && entry.ask_writable(conn, registry).is_err() {
            // No event would ever resume it.
            entry.flags.set(Flags::BROKEN);
            flushed = Flushed::Broken;
        }
        if entry.is_unread() && flushed == Flushed::Blocked {
            if !entry.flags.set(Flags::UNREAD) {
                stats.read_paused += 1;
            }
        } else if entry.is_drained() && entry.flags.clear(Flags::UNREAD) {
            self.queues.requeue(entry, conn);
        }
        if flushed == Flushed::Broken {
            // Reading continues to the end of the stream: data before the break still counts.
            entry.flags.set(Flags::ENDING);
            entry.flags.clear(Flags::UNREAD);
            self.queues.requeue(entry, conn);
        }
        Some(entry)
    }

    /// Sends what can be sent to `conn`, and closes it: at once if its peer expects nothing from
    /// us, else so that it can still read the last reply.
    pub fn close(
        &mut self,
        conn: ConnId,
        now: Instant,
        registry: &Registry,
        stats: &mut ReactorStats,
    ) {
        if let Some((stream, flags)) = self.end(conn, stats)
            && flags.has(Flags::SENT_TO)
            && !flags.has(Flags::BROKEN)
        {
            self.closing.keep(stream, now, registry);
        }
    }

    /// Forgets `conn`, whose peer sends no more. Its unsent bytes are sent first, since the peer
    /// may still read.
    pub fn end(&mut self, conn: ConnId, stats: &mut ReactorStats) -> Option<(TcpStream, Flags)> {
        if let Some(entry) = self.table.get_mut(conn) {
            match &mut self.tls {
                None => {
                    entry.flush(&mut self.pool, &mut stats.bytes_out);
                }
                Some(tls) => {
                    entry.flush_through(tls, conn, &mut self.pool, &mut stats.bytes_out);
                    tls.end(conn, entry.stream());
                }
            }
        }
        self.forget(conn)
    }

    /// Returns unused memory.
    pub fn trim(&mut self) {
        self.pool.empty();
        self.admission.trim();
        self.queues.trim();
        self.dirty.shrink_to(0);
    }

    /// Forgets `conn`. Dropping the returned stream closes it.
    pub fn forget(&mut self, conn: ConnId) -> Option<(TcpStream, Flags)> {
        let entry = self.table.remove(conn)?;
        if let Some(tls) = &mut self.tls {
            tls.forget(conn);
        }
        self.admission.remove(conn);
        let flags = entry.flags;
        if flags.has(Flags::GUARDED) {
            self.guards.remove(&conn);
        }
        let (stream, buffer) = entry.into_parts();
        if let Some(mut buffer) = buffer {
            buffer.input.clear();
            buffer.raw = 0;
            buffer.drop_unsent();
            self.pool.give(buffer);
        }
        Some((stream, flags))
    }
}

/// Lists `conn`, which has something to send.
fn mark_dirty(dirty: &mut Vec<ConnId>, entry: &mut Connection, conn: ConnId) {
    if !entry.flags.set(Flags::DIRTY) {
        dirty.push(conn);
    }
}
