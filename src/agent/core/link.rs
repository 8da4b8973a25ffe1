//! The connection: connect, hello, heartbeats, loss, and endless retries.

use std::net::IpAddr;

use log::Level;

use super::keyed::Keyed;
use super::reports::Sent;
use super::{AgentCore, Effect, Facts, Moment, note};
use crate::codec::message::{
    Answer, Flag, FromServer, Hello, Incoming, Inventory, Message, Push, Reply, ReplyRequest,
    ResultCode, Word,
};
use crate::codec::{
    ByteOrder, FrameTooLong, Framing, Order, ServerStep, decode_from_server,
    decode_from_server_sealed, emit_answer, encode_sealed,
};
use crate::keys::Seal;
use crate::limits::{
    AGENT_ANSWERS_WAITING_MAX, AGENT_CONNECT_S_MAX, AGENT_EVICTED_MS_MAX, AGENT_EVICTED_MS_MIN,
    AGENT_LOOK_S, AGENT_RETRY_MS_MAX, AGENT_RETRY_MS_MIN, AGENT_SETTLED_S, AGENT_SILENT_INTERVALS,
    FRAME_BYTES_MAX,
};
use crate::time::{Instant, Span};

const FRAMING: Framing = Framing {
    order: ByteOrder::Auto,
    limit: FRAME_BYTES_MAX,
};
/// Bounds of the heartbeat interval, whatever a server demands.
const INTERVAL_MS_MIN: u64 = 50;
const INTERVAL_S_MAX: u64 = 3_600;
/// Bytes shown of an invalid answer.
const FOREIGN_BYTES_SHOWN: usize = 32;

/// State of the connection.
#[derive(Debug)]
pub(super) enum Link {
    /// The next attempt is due at `until`.
    Waiting { until: Instant },
    /// A connection is being established, until `until` at the latest.
    Connecting { until: Instant },
    /// The hello is sent. The welcome must come before `until`.
    Greeting { until: Instant, inbox: Inbox },
    /// The session is established.
    Live(Box<Live>),
}

/// Bytes of an incomplete frame, and the byte order.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    order: Order,
}

/// An established session.
#[derive(Debug)]
pub(super) struct Live {
    inbox: Inbox,
    interval: Span,
    next_beat: Instant,
    /// Number of the next message that is not a report.
    next_seq: u64,
    /// Time of the server's acceptance.
    since: Instant,
    /// Time of the last data from the server.
    last_received: Instant,
    next_look: Instant,
    /// Facts that were last sent to the server.
    sent_facts: Option<Facts>,
    /// Requested books, by the number of the request.
    pub(super) requested_books: Vec<(u64, String)>,
    /// Reports in flight.
    pub(super) sent: Sent,
}

impl Live {
    pub(super) const fn number(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    fn deadline(&self) -> Instant {
        let silent = self.last_received + self.interval.times(AGENT_SILENT_INTERVALS);
        self.next_beat.min(self.next_look).min(silent)
    }
}

impl AgentCore {
    /// Deadline of the next [`tick`](Self::tick).
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.link {
            Link::Waiting { until } | Link::Connecting { until } | Link::Greeting { until, .. } => {
                *until
            }
            Link::Live(live) => live.deadline(),
        }
    }

    /// Runs all due actions. Input must be passed in before, so that a slow agent does not mistake
    /// its server for dead.
    pub fn tick(&mut self, at: Moment, fx: &mut Vec<Effect>) {
        if at.now < self.deadline() {
            return;
        }
        match &mut self.link {
            Link::Waiting { .. } => {
                let until = at.now + Span::from_secs(AGENT_CONNECT_S_MAX);
                self.link = Link::Connecting { until };
                fx.push(Effect::Connect);
            }
            Link::Connecting { .. } => self.disconnect(at, "no answer in time", fx),
            Link::Greeting { .. } => self.disconnect(at, "it does not answer the hello", fx),
            Link::Live(live) => {
                let silent = at.now.since(live.last_received);
                if silent >= live.interval.times(AGENT_SILENT_INTERVALS) {
                    return self.disconnect(at, "it sends nothing", fx);
                }
                if at.now >= live.next_look {
                    live.next_look = at.now + Span::from_secs(AGENT_LOOK_S);
                    fx.push(Effect::Look);
                }
                if at.now >= live.next_beat {
                    let wait = self.rng.at_least(2, live.interval.part(4));
                    live.next_beat = at.now + live.interval.part(4).times(3) + wait;
                    let seq = live.number();
                    self.say(Message::Heartbeat, Some(seq), fx);
                }
            }
        }
    }

    /// Handles an established connection from `local` to `server`.
    pub fn connected(&mut self, at: Moment, local: IpAddr, server: IpAddr, fx: &mut Vec<Effect>) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        self.server = Some(server.to_canonical());
        let until = at.now + Span::from_secs(AGENT_CONNECT_S_MAX);
        let inbox = Inbox::default();
        self.link = Link::Greeting { until, inbox };
        let own = local.to_canonical().to_string();
        let hello = Hello {
            id: self.settings.id.clone().unwrap_or(own).into(),
            udp: self.settings.udp,
            push: self.settings.push,
            boot: Some(self.settings.boot.clone().into()),
            resumes: self.memory.open().next().is_some(),
            labels: self
                .settings
                .labels
                .iter()
                .map(|(key, value)| (key.clone().into(), value.clone().into()))
                .collect(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            cancel: true,
        };
        self.greet(at, hello, fx);
    }

    /// Handles the loss of a connection, or a failed attempt.
    pub fn disconnected(&mut self, at: Moment, why: &str, fx: &mut Vec<Effect>) {
        match &self.link {
            Link::Waiting { .. } => {}
            Link::Greeting { .. } => {
                let tls = if self.settings.tls {
                    ""
                } else {
                    " without TLS"
                };
                let why = format!(
                    "{why}, before it answered the hello (is this the port for hosts{tls}?)"
                );
                self.retry_later(at, &why, fx);
            }
            _ => self.retry_later(at, why, fx),
        }
    }

    /// Handles a refused hello, or the end of an accepted session.
    fn refused(&mut self, at: Moment, why: &str, fx: &mut Vec<Effect>) {
        if !self.is_live() {
            return self.disconnect(at, &format!("it refuses this host: {why}"), fx);
        }
        // Another agent with this id may be connected. Two agents that replace each other must slow
        // down.
        let doubled = AGENT_EVICTED_MS_MIN << self.evictions.min(16);
        let most = Span::from_millis(doubled.min(AGENT_EVICTED_MS_MAX));
        self.evictions = self.evictions.saturating_add(1);
        fx.push(Effect::Disconnect);
        self.wait_to_reconnect(
            at,
            most,
            &format!("the server has ended the connection: {why}"),
            fx,
        );
    }

    pub(super) fn disconnect(&mut self, at: Moment, why: &str, fx: &mut Vec<Effect>) {
        fx.push(Effect::Disconnect);
        self.retry_later(at, why, fx);
    }

    fn retry_later(&mut self, at: Moment, why: &str, fx: &mut Vec<Effect>) {
        let doubled = AGENT_RETRY_MS_MIN << self.failures.min(16);
        let most = Span::from_millis(doubled.min(AGENT_RETRY_MS_MAX));
        self.failures = self.failures.saturating_add(1);
        self.wait_to_reconnect(at, most, &format!("no connection to the server: {why}"), fx);
    }

    /// Waits between half of `most` and all of it before the next attempt to connect.
    fn wait_to_reconnect(&mut self, at: Moment, most: Span, why: &str, fx: &mut Vec<Effect>) {
        if let Some(keyed) = &mut self.keyed {
            keyed.forget();
        }
        if let Link::Live(live) = &self.link {
            self.losses.lost(&live.sent);
        }
        let wait = self.rng.at_least(2, most);
        self.link = Link::Waiting {
            until: at.now + wait,
        };
        let seconds = wait.as_secs_f64();
        let text = format!("{why}; next attempt in {seconds:.1} s");
        note(Level::Warn, &[("reason", &why)], text, fx);
    }

    /// Handles bytes of the server.
    pub fn bytes(&mut self, at: Moment, bytes: &[u8], fx: &mut Vec<Effect>) {
        let mut inbox = match &mut self.link {
            Link::Greeting { inbox, .. } => std::mem::take(inbox),
            Link::Live(live) => {
                live.last_received = at.now;
                std::mem::take(&mut live.inbox)
            }
            Link::Waiting { .. } | Link::Connecting { .. } => return,
        };
        inbox.bytes.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            let (order, rest) = (&mut inbox.order, &inbox.bytes[done..]);
            let step = match self.keyed.as_mut().and_then(|keyed| keyed.guard()) {
                Some(guard) => decode_from_server_sealed(FRAMING, order, &guard.open, rest)
                    .inspect(|step| match step {
                        ServerStep::Got { .. } => guard.open.advance(),
                        ServerStep::Need(_) => {}
                    }),
                None => decode_from_server(FRAMING, order, rest),
            };
            match step {
                Ok(ServerStep::Got { content, used }) => {
                    self.on_message(at, content, fx);
                    done += used;
                }
                Ok(ServerStep::Need(_)) => break,
                Err(error) => {
                    let why = match &self.link {
                        Link::Greeting { .. } => other_protocol(rest),
                        _ => format!("it sends invalid data: {error}"),
                    };
                    return self.disconnect(at, &why, fx);
                }
            }
            if matches!(self.link, Link::Waiting { .. }) {
                return;
            }
        }
        inbox.bytes.drain(..done);
        match &mut self.link {
            Link::Greeting { inbox: place, .. } => *place = inbox,
            Link::Live(live) => live.inbox = inbox,
            Link::Waiting { .. } | Link::Connecting { .. } => {}
        }
    }

    /// Records that part of a long message was sent. A server that reads it is alive, even if its
    /// replies are late.
    pub fn went_out(&mut self, at: Moment) {
        if let Link::Live(live) = &mut self.link {
            live.last_received = at.now;
        }
    }

    fn on_message(&mut self, at: Moment, content: FromServer<'_>, fx: &mut Vec<Effect>) {
        match content {
            FromServer::Push(_) if self.is_unproved() => {
                self.disconnect(at, "it sends work before its proof", fx);
            }
            FromServer::Push(Push::Cancel(key)) => self.cancel(&key, fx),
            FromServer::Push(Push::Task(key)) => self.accept_key(at, &key, fx),
            FromServer::Push(Push::Command { text, cid }) => {
                self.accept_command(at, &text, &cid, fx);
            }
            FromServer::Reply(reply) => self.on_reply(at, reply, fx),
        }
    }

    fn on_reply(&mut self, at: Moment, reply: Reply, fx: &mut Vec<Effect>) {
        match (reply.flag, reply.word) {
            (Flag::Hello, Word::Challenge(nonce)) => self.challenged(at, nonce, fx),
            (Flag::Hello, Word::Proven { proof, interval_s }) => match self.server_proves(&proof) {
                true => self.welcome(at, interval_s, fx),
                false => self.disconnect(at, "its proof is wrong: it does not have this key", fx),
            },
            (Flag::Hello, Word::Refused(why)) => self.refused(at, &why, fx),
            _ if self.is_unproved() => self.disconnect(at, "it does not prove its key", fx),
            (Flag::Hello, Word::Welcome { interval_s }) => self.welcome(at, interval_s, fx),
            (Flag::Heartbeat, _) => self.on_heartbeat_reply(at),
            (Flag::Book, word) => self.on_book(at, reply.seq, word, fx),
            (Flag::Progress | Flag::Result, word) => self.on_report_reply(reply.seq, &word, fx),
            (Flag::Inventory, Word::Refused(why)) => {
                let text = format!("the server refuses the facts about this host: {why}");
                note(Level::Warn, &[("reason", &why)], text, fx);
            }
            _ => {}
        }
    }

    /// Handles the reply to a heartbeat.
    fn on_heartbeat_reply(&mut self, at: Moment) {
        self.failures = 0;
        if let Link::Live(live) = &self.link
            && at.now.since(live.since) >= Span::from_secs(AGENT_SETTLED_S)
        {
            self.evictions = 0;
        }
    }

    fn welcome(&mut self, at: Moment, interval_s: f64, fx: &mut Vec<Effect>) {
        let Link::Greeting { .. } = &self.link else {
            return;
        };
        let wanted = Span::from_secs_f64(interval_s);
        let interval = self.settings.interval.unwrap_or(wanted);
        let interval = interval
            .max(Span::from_millis(INTERVAL_MS_MIN))
            .min(Span::from_secs(INTERVAL_S_MAX));
        self.link = Link::Live(Box::new(Live {
            inbox: Inbox::default(),
            interval,
            // Spreads the heartbeats of a fleet that was accepted at once.
            next_beat: at.now + self.rng.part_of(interval),
            next_seq: 1,
            since: at.now,
            last_received: at.now,
            next_look: at.now + Span::from_secs(AGENT_LOOK_S),
            sent_facts: None,
            requested_books: Vec::new(),
            sent: Sent::default(),
        }));
        let seconds = interval.as_secs_f64();
        if interval > wanted.times(2) {
            let wanted = wanted.as_secs_f64();
            let text = format!(
                "a heartbeat every {seconds} s is too rare: the server expects one every {wanted} s, and may count this host as offline"
            );
            note(
                Level::Warn,
                &[("seconds", &seconds), ("wanted", &wanted)],
                text,
                fx,
            );
        }
        let text = format!("connected to the server; a heartbeat every {seconds} s");
        note(Level::Info, &[("seconds", &seconds)], text, fx);
        fx.push(Effect::Look);
        for (given, code, task) in std::mem::take(&mut self.answers) {
            self.answer(given, code, task, fx);
        }
        self.send_reports(fx);
        self.ask_for_books(fx);
    }

    /// Sets the facts about the host, and sends them if they have changed.
    pub fn facts(&mut self, facts: Facts, fx: &mut Vec<Effect>) {
        self.facts = facts;
        let Link::Live(live) = &mut self.link else {
            return;
        };
        if live.sent_facts.as_ref() == Some(&self.facts) {
            return;
        }
        live.sent_facts = Some(self.facts.clone());
        let seq = live.number();
        let facts = &self.facts;
        let values = facts.hostname.iter().chain(&facts.mac);
        let inventory = Inventory {
            hostname: facts.hostname.as_deref().map(Into::into),
            mac: facts.mac.as_deref().map(Into::into),
            values: values.map(Into::into).collect(),
            addresses: facts.ipv4.iter().map(Into::into).collect(),
        };
        send(
            &mut self.keyed,
            Message::Inventory(inventory),
            Some(seq),
            fx,
        );
    }

    /// Answers a dispatch, now or after the next connection.
    pub(super) fn answer(
        &mut self,
        at: Moment,
        code: ResultCode,
        task: Option<String>,
        fx: &mut Vec<Effect>,
    ) {
        if !self.is_live() {
            if self.answers.len() >= AGENT_ANSWERS_WAITING_MAX {
                self.answers.pop_front();
            }
            return self.answers.push_back((at, code, task));
        }
        let task = task.map(Into::into);
        let mut out = Vec::new();
        let answer = Answer { code, task };
        let encoded = emit_answer(
            &answer,
            at.wall,
            Order::Little,
            seal_of(&mut self.keyed),
            &mut out,
        );
        send_if(encoded, out, fx);
    }

    /// Sends a message, with a number if it needs a reply. Returns whether it was sent.
    pub(super) fn say(
        &mut self,
        message: Message<'_>,
        seq: Option<u64>,
        fx: &mut Vec<Effect>,
    ) -> bool {
        send(&mut self.keyed, message, seq, fx)
    }
}

/// Describes the protocol at the port by the first bytes of its answer.
fn other_protocol(answer: &[u8]) -> String {
    match answer {
        [0x15 | 0x16, 3, 0..=4, ..] => {
            "its port speaks TLS: start this agent with --tls".to_owned()
        }
        _ if answer.starts_with(b"HTTP/") => {
            "its port speaks HTTP: --server takes the port for hosts, usually 11451".to_owned()
        }
        _ => {
            let begin = &answer[..answer.len().min(FOREIGN_BYTES_SHOWN)];
            format!(
                "it is no Anthill server: its answer begins with {:?}",
                String::from_utf8_lossy(begin)
            )
        }
    }
}

/// Sends a message, with a tag in a keyed session. Returns whether it was sent.
pub(super) fn send(
    keyed: &mut Option<Box<Keyed>>,
    message: Message<'_>,
    seq: Option<u64>,
    fx: &mut Vec<Effect>,
) -> bool {
    let ask = ReplyRequest {
        reply: seq.is_some(),
        seq,
    };
    let mut out = Vec::new();
    let incoming = Incoming { message, ask };
    let seal = seal_of(keyed);
    let encoded = encode_sealed(&incoming, Order::Little, seal, &mut out);
    send_if(encoded, out, fx)
}

/// Seal of the frames, in a keyed session.
fn seal_of(keyed: &mut Option<Box<Keyed>>) -> Option<&mut Seal> {
    let guard = keyed.as_mut()?.guard()?;
    Some(&mut guard.seal)
}

/// Sends a frame if it was encoded. Returns whether it was.
fn send_if(encoded: Result<(), FrameTooLong>, frame: Vec<u8>, fx: &mut Vec<Effect>) -> bool {
    match encoded {
        Ok(()) => fx.push(Effect::Send(frame)),
        Err(error) => {
            let text = format!("a message is not sent: {error}");
            note(Level::Error, &[("error", &error)], text, fx);
        }
    }
    encoded.is_ok()
}
