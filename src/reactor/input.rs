//! Input of connections: openings, bytes, ends.
//!
//! A panic in here ends this connection and no other.

use std::net::SocketAddr;

use mio::Token;
use mio::net::TcpStream;

use super::Reactor;
use super::connections::{Advance, Reading};
use super::read_budget::ReadBudget;
use crate::codec::{Abnormal, DecodeError, Framing};
use crate::handlers::{End, Input, Moment};
use crate::ids::ConnId;
use crate::limits::{READ_BUFFER_BYTES, TURN_SLICE_US};
use crate::time::Instant;

/// What all connections share for reading.
#[derive(Debug)]
pub(super) struct Reader {
    /// Buffer into which all connections read.
    pub scratch: Box<[u8]>,
    /// Budget of each connection in this turn.
    pub budget: ReadBudget,
    pub framing: Framing,
}

impl Reader {
    pub fn new(framing: Framing) -> Self {
        Self {
            scratch: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            budget: ReadBudget::default(),
            framing,
        }
    }
}

impl Reactor {
    /// Accepts connections, within the budget of a turn. Their bytes are reported by the next wait.
    pub(super) fn accept(&mut self, at: Moment) {
        self.listener.begin(at.now);
        let mut slice = self.budget.slice(TURN_SLICE_US, self.poller.now());
        let before = self.stats.accepted;
        while let Some((stream, peer)) = self.listener.accept(at.now, &mut self.stats) {
            if self.proxied.expects(peer.ip()) {
                let room = self
                    .connections
                    .max()
                    .saturating_sub(self.connections.len());
                let (registry, stats) = (self.poller.registry(), &mut self.stats);
                // One may wait in any case: its client may take the place of another.
                self.proxied.fit(room.saturating_sub(1), at.now, stats);
                self.proxied.keep(stream, peer, at.now, registry, stats);
            } else {
                self.take_in(stream, peer, at);
            }
            if slice.is_over(|| self.poller.now()) {
                break;
            }
        }
        self.poller.count_accepted(self.stats.accepted - before);
    }

    /// Takes in a connection whose PROXY header is complete.
    pub(super) fn proxied_event(&mut self, token: Token, at: Moment) {
        let (registry, stats) = (self.poller.registry(), &mut self.stats);
        if let Some((stream, peer)) = self.proxied.ready(token, at.now, registry, stats) {
            self.take_in(stream, peer, at);
        }
    }

    /// Admits a connection from `peer`, or refuses it.
    fn take_in(&mut self, stream: TcpStream, peer: SocketAddr, at: Moment) {
        match self.connections.decide(peer.ip(), at.now) {
            Ok(victim) => {
                victim.iter().for_each(|conn| self.evict(*conn, at));
                self.admit(stream, peer, at);
                let room = self
                    .connections
                    .max()
                    .saturating_sub(self.connections.len());
                self.proxied.fit(room.max(1), at.now, &mut self.stats);
            }
            // Dropping the stream closes it, so that its peer knows.
            Err(refusal) => self.stats.refused(refusal),
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, at: Moment) {
        let (registry, stats) = (self.poller.registry(), &mut self.stats);
        let admitted = self
            .connections
            .admit(stream, peer.ip(), at.now, registry, stats);
        let Some(conn) = admitted else {
            return;
        };
        let input = Input::Opened { conn, peer };
        if !self.driver.give_of(conn, "opening", at, input) {
            self.driver.give_up(conn, at);
            self.apply(at);
            self.close(conn, at);
        }
        self.apply(at);
    }

    /// Closes an unproven connection, since a new one needs its place.
    fn evict(&mut self, conn: ConnId, at: Moment) {
        self.stats.shed_unproven += 1;
        self.connections.forget(conn);
        let end = End::Closed;
        self.driver
            .give_of(conn, "end", at, Input::Ended { conn, end });
        self.apply(at);
    }

    /// Reads `conn` and handles its bytes, until there are no more or its budget is used up.
    pub(super) fn serve(&mut self, conn: ConnId, at: Moment) {
        self.driver.core().expect(conn);
        let mut scratch = std::mem::take(&mut self.reader.scratch);
        let mut reading = Reading::new(&mut scratch, self.reader.budget);
        loop {
            let context = (&mut self.driver, &mut self.stats);
            let advance =
                self.connections
                    .advance(conn, &mut reading, self.reader.framing, context, at);
            self.apply(at);
            match advance {
                Advance::Again => continue,
                Advance::Done => {}
                Advance::Close => self.close(conn, at),
                Advance::Invalid(kind) => self.close_invalid(conn, kind, at),
                Advance::End(end) => self.end(conn, end, at),
            }
            break;
        }
        self.reader.scratch = scratch;
    }

    /// Notifies the core of the end of `conn`, and forgets it. Half a frame is dropped.
    fn end(&mut self, conn: ConnId, end: End, at: Moment) {
        if self.connections.end(conn, &mut self.stats).is_some() {
            self.driver
                .give_of(conn, "end", at, Input::Ended { conn, end });
            self.apply(at);
        }
    }

    /// Notifies the core of invalid data from `conn`, and closes it.
    fn close_invalid(&mut self, conn: ConnId, kind: Abnormal, at: Moment) {
        if self.connections.is_open(conn) {
            let error = DecodeError::new(kind, 0);
            let input = Input::Abnormal { conn, error };
            self.driver.give_of(conn, "abnormal", at, input);
            self.apply(at);
            self.close(conn, at);
        }
    }

    /// Ends the sessions of connections whose certificates are no longer accepted. Returns the time
    /// of the next check.
    pub(super) fn check_certificates(&mut self, at: Moment) -> Option<Instant> {
        if self.lifecycle.is_stopping() {
            return None;
        }
        for (conn, why) in self.connections.check_certificates(at.wall) {
            let input = Input::Revoked { conn, why: &why };
            if !self.driver.give_of(conn, "certificate", at, input) {
                self.driver.give_up(conn, at);
            }
            self.apply(at);
            self.close(conn, at);
        }
        Some(at.now + self.connections.check_in(at.wall)?)
    }
}
