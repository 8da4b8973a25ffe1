//! Traffic beside the connections: datagrams, requests, and the core's send queue.

use std::net::SocketAddr;

use crossbeam_channel::Sender;

use super::requesters::WEB;
use super::{Reactor, journal};
use crate::codec::message::Datagram;
use crate::codec::{Abnormal, decode_datagram};
use crate::handlers::request::{ErrorKind, Request, Response};
use crate::handlers::{Input, Moment};
use crate::limits::{
    DATAGRAM_IN_BYTES_MAX, DATAGRAMS_PER_TURN_MAX, HOSTS_PER_STEP_MAX, TURN_SLICE_FEW,
    TURN_SLICE_US,
};

impl Reactor {
    /// Receives datagrams, within the budget of a turn.
    pub(super) fn receive(&mut self, at: Moment) {
        let mut scratch = std::mem::take(&mut self.reader.scratch);
        for received in 0..DATAGRAMS_PER_TURN_MAX {
            if !self.udp.is_pending() {
                break;
            }
            if received >= TURN_SLICE_FEW as usize && self.budget.is_over(|| self.poller.now()) {
                break;
            }
            if let Some((bytes, from)) = self.udp.receive(&mut scratch) {
                self.stats.datagrams += 1;
                self.datagram(from, &scratch[..bytes], at);
            }
        }
        self.reader.scratch = scratch;
    }

    /// Passes a datagram to the core if it is a message. Others are counted and dropped.
    fn datagram(&mut self, from: SocketAddr, body: &[u8], at: Moment) {
        if body.len() > DATAGRAM_IN_BYTES_MAX {
            self.stats.datagrams_too_long += 1;
            return;
        }
        if journal::is_tracing() {
            journal::received(from, "a datagram", body);
        }
        match decode_datagram(body) {
            Ok(Datagram { content, signature }) => {
                let input = match signature {
                    None => Input::Datagram {
                        from,
                        incoming: content,
                    },
                    Some(signature) => Input::Signed {
                        from,
                        incoming: content,
                        signature,
                    },
                };
                self.driver.give(
                    format_args!("a datagram from {from}: handling it"),
                    at,
                    input,
                );
                self.apply(at);
            }
            Err(error) => {
                let label = error.kind.label();
                if let Some(kind) = Abnormal::LABELS.iter().position(|l| *l == label) {
                    self.stats.datagrams_abnormal[kind] += 1;
                }
                log::debug!(target: "datagram", "{}: {error} ({label}), from {from}", from.ip());
            }
        }
    }

    pub(super) fn handle_request(&mut self, request: Request, reply: Sender<Response>, at: Moment) {
        match self.requesters.add(reply.clone(), at.now) {
            Some(requester) => self.request(requester, request, at),
            None => {
                let _ = reply.try_send(not_now("too many are waiting for an answer"));
            }
        }
    }

    /// Passes a request to the core. During a stop it is refused.
    pub(super) fn request(&mut self, requester: u64, request: Request, at: Moment) {
        if self.lifecycle.is_stopping() {
            self.respond(requester, not_now("the server is ending"));
            return;
        }
        let handled = self.driver.give(
            format_args!("an order or a question: handling it"),
            at,
            Input::Request { requester, request },
        );
        if !handled {
            self.respond(requester, not_now("it failed inside the server"));
        }
        self.apply(at);
    }

    pub(super) fn respond(&mut self, requester: u64, answer: Response) {
        match requester & WEB {
            0 => self.requesters.respond(requester, answer),
            _ => self.web.respond(requester, answer),
        }
    }

    /// Continues requests with many hosts, for a slice of the turn.
    pub(super) fn go_on(&mut self, at: Moment) {
        if !self.driver.core().has_jobs() {
            return;
        }
        let clock = self.poller.clock();
        let mut slice = self.budget.slice(TURN_SLICE_US, clock.now()).at_least(1);
        // After a panic the job has left its queue: its requester is answered at its deadline.
        self.driver.guarded(
            format_args!("a request with many hosts"),
            |core, effects| {
                while core.go_on(at, HOSTS_PER_STEP_MAX, effects) && !slice.is_over(|| clock.now())
                {
                }
            },
        );
        self.apply(at);
    }

    /// Sends datagrams and pushes of the core, within the budget of a turn.
    pub(super) fn send(&mut self, at: Moment) {
        let (udp, max) = (&mut self.udp, self.budget.sends());
        self.driver
            .with(|core, effects| udp.take_sends(core, max, at, effects));
        self.apply(at);
        self.udp.flush(self.poller.registry(), &mut self.stats);
    }
}

fn not_now(text: &str) -> Response {
    Response::Error {
        kind: ErrorKind::NotNow,
        text: text.to_owned(),
    }
}
