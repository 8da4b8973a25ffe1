//! One HTTP socket.
//!
//! ```text
//!            first byte          whole request          flushed
//!  Receiving(idle) ──▶ Receiving ──▶ Sending ─────────▶ Receiving(idle)
//!                        │   │ 10 s: 408 ──▲ │ last answer
//!                        │   ▼             │ ▼
//!                        │  Asking ─ reply ┘ Lingering ──▶ closed
//!                        ▼
//!                     Delayed: the response to a wrong token waits, then it is sent
//!                     Following: events, until either side ends it
//! ```
//!
//! *Asking* waits for the core; *Following* receives events while the peer keeps up.
//!
//! Nothing is read while a response is sent, so memory holds one response and one request.
//! *Lingering* reads and drops what the peer still sends: closing a socket with unread bytes would
//! reset the connection and destroy the response.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::Token;

use crate::control::audit::Audited;
use crate::control::conversation::CONTINUE;
use crate::control::gzip::Compressing;
use crate::control::response::{Note, Reply, ResponseBuilder};
use crate::control::{
    Caller, Conversation, HttpContext, HttpResponse, HttpRules, RequestGuard, Step, events,
};
use crate::handlers::request::Response;
use crate::limits::{
    HOSTS_SHOWN_PER_STEP_MAX, HTTP_ANSWER_S_MAX, HTTP_ASK_S_MAX, HTTP_BODY_STEP_BYTES,
    HTTP_FOLLOWER_BYTES_MAX, HTTP_FOLLOWER_COMMENT_S, HTTP_FOLLOWER_FLUSH_BYTES, HTTP_FRESH_MS,
    HTTP_GZIP_BYTES_PER_STEP_MAX, HTTP_LINGER_S_MAX, HTTP_PROGRESS_BYTES, HTTP_REQUEST_S_MAX,
    HTTP_STALLED_S, HTTP_TOKEN_DELAY_MS,
};
use crate::time::{Instant, Span};

use super::stream::{Stream, Took};

/// One HTTP socket.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    local: SocketAddr,
    /// Address of the peer, in its shortest form.
    pub(super) peer: IpAddr,
    conversation: Conversation,
    output: Vec<u8>,
    /// Bytes of `output` the kernel has taken.
    sent: usize,
    phase: Phase,
    /// The response to the core's answer, until it is complete.
    response: Option<ResponseBuilder>,
    /// The complete response, while it is compressed.
    compressing: Option<Compressing>,
    /// The peer has ended its side.
    peer_ended: bool,
    /// The request under way is a long read, which has no use without its peer.
    is_long_read: bool,
    /// Set when the server stops: there is no time for lingering.
    hurried: bool,
    /// Identifies this connection.
    pub(super) token: Token,
    /// Deadline of the present phase.
    pub(super) deadline: Instant,
    /// The connection is in the ready queue.
    pub(super) queued: bool,
    /// The connection has a spare place, in which one request is answered.
    pub(super) is_spare: bool,
    /// Time of the accept.
    pub(super) born: Instant,
    /// Time at which the request or the response began or last made progress.
    progress_at: Instant,
    /// Bytes since then.
    progressed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request is awaited or arrives.
    Receiving,
    /// The core's answer is awaited.
    Asking,
    /// Bytes are on their way to the peer.
    Sending(Then),
    /// The peer receives events.
    Following,
    /// The response to a wrong token is delayed.
    Delayed(Then),
    /// Everything is sent; the end of the peer is awaited.
    Lingering,
}

/// Next phase after everything has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The rest of the current request.
    Body,
    /// The next request.
    Next,
    /// The end.
    Close,
}

/// State of a connection after work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for an event of its socket.
    Blocked,
    /// It has used up its budget, and no event will come.
    Again,
    /// It is over.
    Gone,
}

/// Result of a passed deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The connection is to be closed.
    Over,
    /// The request is refused with this status.
    Refused(u16),
    /// The deadline was harmless.
    Alive,
    /// The delay of the response is over, and it is to be sent.
    Due,
}

/// Result of work on a connection.
#[derive(Debug)]
pub(super) struct Driven {
    /// Its state.
    pub(super) progress: Progress,
    /// Reply to its request. A response is already on its way; the other replies are to be served.
    pub(super) reply: Option<Reply>,
    /// Bytes read from it.
    pub(super) read: usize,
}

impl Driven {
    /// The connection is over.
    pub(super) const GONE: Self = Self {
        progress: Progress::Gone,
        reply: None,
        read: 0,
    };
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        local: SocketAddr,
        peer: IpAddr,
        token: Token,
        now: Instant,
    ) -> Self {
        Self {
            stream,
            local,
            peer: peer.to_canonical(),
            conversation: Conversation::default(),
            output: Vec::new(),
            sent: 0,
            phase: Phase::Receiving,
            response: None,
            compressing: None,
            peer_ended: false,
            is_long_read: false,
            hurried: false,
            token,
            deadline: now + Span::from_secs(HTTP_REQUEST_S_MAX),
            queued: false,
            is_spare: false,
            born: now,
            progress_at: now,
            progressed: 0,
        }
    }

    /// Returns whether the connection may be closed for another: no byte of a request has arrived,
    /// nothing is readable, and no response is awaited.
    pub(super) fn is_idle(&self) -> bool {
        !self.queued && self.phase == Phase::Receiving && self.conversation.is_silent()
    }

    /// Returns whether its peer still has time for its first request.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.born + Span::from_millis(HTTP_FRESH_MS)
    }

    /// Moves the connection to a spare place, where one request is answered.
    pub(super) fn make_spare(&mut self) {
        self.is_spare = true;
        self.conversation.end_after_next();
    }

    /// Returns whether the connection may be closed for another if none is idle: its request, or
    /// the reading of its peer, makes no progress.
    pub(super) fn has_stalled(&self, now: Instant) -> bool {
        let under_way = match self.phase {
            Phase::Receiving => !self.conversation.is_silent(),
            Phase::Sending(_) => true,
            Phase::Following => self.unsent() > 0,
            Phase::Asking | Phase::Delayed(_) | Phase::Lingering => false,
        };
        under_way && !self.queued && self.progress_at + Span::from_secs(HTTP_STALLED_S) <= now
    }

    /// Returns whether its response is delayed.
    pub(super) fn is_delayed(&self) -> bool {
        matches!(self.phase, Phase::Delayed(_))
    }

    /// Sender of its last admitted request.
    pub(super) fn caller(&self) -> &Caller {
        self.conversation.caller()
    }

    /// Takes the record of the request that was answered last, if it changes something.
    pub(super) fn take_audited(&mut self) -> Option<Audited> {
        let mut audited = self.conversation.take_audited()?;
        if audited.record.by.is_empty() {
            audited.record.by = self.peer.to_string();
        }
        Some(audited)
    }

    /// Ends without an answer to the current request.
    pub(super) fn abandon(&mut self) {
        if self.phase == Phase::Asking {
            self.conversation.abandon();
        }
    }

    /// Returns whether it follows the events.
    pub(super) fn is_following(&self) -> bool {
        self.phase == Phase::Following
    }

    /// The peer has ended its side. It may still read the answer to what it has sent.
    pub(super) fn note_end(&mut self) {
        self.peer_ended = true;
    }

    /// Returns whether a long read is under way.
    pub(super) fn reads_long(&self) -> bool {
        self.phase == Phase::Asking && self.is_long_read
    }

    /// Returns whether it waits for the core.
    pub(super) fn is_asking(&self) -> bool {
        self.phase == Phase::Asking
    }

    fn progress_begins(&mut self, now: Instant) {
        (self.progress_at, self.progressed) = (now, 0);
    }

    fn progress(&mut self, bytes: usize, now: Instant) {
        self.progressed += bytes;
        if self.progressed >= HTTP_PROGRESS_BYTES {
            self.progress_begins(now);
        }
    }

    /// Returns whether everything is sent, so that closing loses nothing.
    pub(super) fn is_lingering(&self) -> bool {
        self.phase == Phase::Lingering
    }

    /// Acts on a passed deadline.
    pub(super) fn time_out(&mut self, now: Instant) -> Late {
        let response = match self.phase {
            Phase::Delayed(then) => {
                self.send(then, now);
                return Late::Due;
            }
            Phase::Receiving if !self.conversation.is_silent() => {
                HttpResponse::error(408, "the request took too long")
            }
            Phase::Asking => HttpResponse::error(503, "no answer in time: the outcome is unknown"),
            // Output is left only if the peer has not read for long.
            Phase::Following if self.output.is_empty() => {
                self.output.extend_from_slice(events::COMMENT.as_bytes());
                self.progress_begins(now);
                self.deadline = now + Span::from_secs(HTTP_FOLLOWER_COMMENT_S);
                return Late::Alive;
            }
            _ => return Late::Over,
        };
        self.refuse(&response, now);
        Late::Refused(response.status)
    }

    /// Sends a last response, then closes.
    pub(super) fn refuse(&mut self, response: &HttpResponse, now: Instant) {
        self.conversation.refuse(response, &mut self.output);
        self.send(Then::Close, now);
    }

    /// Takes the core's answer. Returns whether it was awaited.
    pub(super) fn answer(&mut self, answer: Response) -> bool {
        let awaited = self.phase == Phase::Asking && self.response.is_none();
        if awaited {
            self.response = Some(ResponseBuilder::new(answer));
        }
        awaited
    }

    /// Makes the connection follow the events.
    pub(super) fn follow(&mut self, now: Instant) {
        self.output.extend_from_slice(events::HEAD.as_bytes());
        self.phase = Phase::Following;
        self.progress_begins(now);
        self.deadline = now + Span::from_secs(HTTP_FOLLOWER_COMMENT_S);
    }

    /// Appends a message for a follower. Returns whether the follower keeps up.
    pub(super) fn send_event(&mut self, message: &str, now: Instant) -> bool {
        if self.unsent() == 0 {
            self.progress_begins(now);
        }
        // Sent bytes are dropped in pieces that are worth the copying.
        if self.sent > self.output.len() / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        self.output.extend_from_slice(message.as_bytes());
        if self.unsent() >= HTTP_FOLLOWER_FLUSH_BYTES && self.flush(now).is_err() {
            return false;
        }
        self.unsent() <= HTTP_FOLLOWER_BYTES_MAX
    }

    /// Bytes of memory its output takes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.output.capacity()
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Prepares for the stop of the server. Returns whether a response is to be sent first.
    pub(super) fn stop(&mut self) -> bool {
        self.hurried = true;
        match &mut self.phase {
            Phase::Delayed(_) => {
                self.phase = Phase::Sending(Then::Close);
                true
            }
            Phase::Sending(then) if *then != Then::Body => {
                *then = Then::Close;
                true
            }
            // A change in progress is finished first, and its requester is answered.
            Phase::Asking => true,
            _ => false,
        }
    }

    /// Works until the socket blocks or one request is answered. `number` is random.
    pub(super) fn drive(
        &mut self,
        rules: &HttpRules,
        bound: SocketAddr,
        context: &HttpContext<'_>,
        number: u128,
        scratch: &mut [u8],
    ) -> Driven {
        let guard = RequestGuard {
            rules,
            bound,
            local: self.local,
        };
        let mut driven = Driven::GONE;
        let progress = self.advance(&guard, context, number, scratch, &mut driven);
        // Any error of the socket ends the connection.
        driven.progress = progress.unwrap_or(Progress::Gone);
        driven
    }

    fn advance(
        &mut self,
        guard: &RequestGuard<'_>,
        context: &HttpContext<'_>,
        number: u128,
        scratch: &mut [u8],
        driven: &mut Driven,
    ) -> io::Result<Progress> {
        let now = context.at.now;
        let mut budget = HTTP_BODY_STEP_BYTES;
        loop {
            if let Phase::Sending(then) = self.phase {
                if !self.flush(now)? {
                    return Ok(Progress::Blocked);
                }
                match then {
                    Then::Body => self.phase = Phase::Receiving,
                    Then::Next => {
                        self.receive(now);
                        return Ok(Progress::Again);
                    }
                    Then::Close if self.hurried => return Ok(Progress::Gone),
                    Then::Close => self.linger(now)?,
                }
            }
            if matches!(self.phase, Phase::Delayed(_)) {
                return Ok(Progress::Blocked);
            }
            if self.phase == Phase::Asking {
                // A peer that only ends its sending side gets short answers. A long read ends.
                let ends = self.peer_ended && self.is_long_read;
                let unless_ended = |progress| if ends { Progress::Gone } else { progress };
                let response = match (&mut self.compressing, &mut self.response) {
                    (Some(compressing), _) => compressing.step(HTTP_GZIP_BYTES_PER_STEP_MAX),
                    (None, Some(builder)) => builder.step(HOSTS_SHOWN_PER_STEP_MAX),
                    (None, None) => return Ok(unless_ended(Progress::Blocked)),
                };
                let Some(response) = response else {
                    return Ok(unless_ended(Progress::Again));
                };
                let compressed = self.compressing.take().is_some();
                // Within a machine, sending is cheaper than compressing.
                let wanted = self.conversation.accepts_gzip() && !self.peer.is_loopback();
                let response = match wanted && !compressed {
                    true => match Compressing::begin(response) {
                        Ok(compressing) => {
                            self.compressing = Some(compressing);
                            return Ok(unless_ended(Progress::Again));
                        }
                        Err(response) => response,
                    },
                    false => response,
                };
                self.response = None;
                self.respond(response, now, driven);
                continue;
            }
            if self.phase == Phase::Following {
                self.flush(now)?;
            }
            if self.phase == Phase::Receiving {
                match self.conversation.step(guard, context, number) {
                    Step::More => {}
                    Step::Working => return Ok(Progress::Again),
                    // The time of the request goes on while its body is awaited.
                    Step::Continue => {
                        self.output.extend_from_slice(CONTINUE);
                        self.phase = Phase::Sending(Then::Body);
                        continue;
                    }
                    Step::Reply(Reply::Now(response)) => {
                        self.respond(response, now, driven);
                        continue;
                    }
                    Step::Reply(reply) => {
                        if let Reply::Ask(request) = &reply {
                            self.is_long_read = request.is_long_read();
                            self.phase = Phase::Asking;
                            self.deadline = now + Span::from_secs(HTTP_ASK_S_MAX);
                        }
                        driven.reply = Some(reply);
                        // The end of the peer raises no second event.
                        let again = self.peer_ended;
                        return Ok(if again {
                            Progress::Again
                        } else {
                            Progress::Blocked
                        });
                    }
                }
            }
            if budget == 0 {
                return Ok(Progress::Again);
            }
            match self.stream.read(scratch)? {
                Took::Bytes(count) => {
                    budget = budget.saturating_sub(count);
                    driven.read += count;
                    self.took(&scratch[..count], now);
                }
                Took::Nothing => return Ok(Progress::Blocked),
                Took::Later => return Ok(Progress::Again),
                Took::End => return Ok(Progress::Gone),
            }
        }
    }

    fn took(&mut self, bytes: &[u8], now: Instant) {
        if self.phase != Phase::Receiving {
            return;
        }
        if self.conversation.is_silent() {
            self.receive(now);
        }
        self.progress(bytes.len(), now);
        self.conversation.take(bytes);
    }

    /// Begins to await a request. Waiting and receiving have the same time limit.
    fn receive(&mut self, now: Instant) {
        self.phase = Phase::Receiving;
        self.deadline = now + Span::from_secs(HTTP_REQUEST_S_MAX);
        self.progress_begins(now);
    }

    /// Begins to send a response. One to a wrong token is delayed, so that guessing takes long.
    fn respond(&mut self, response: HttpResponse, now: Instant, driven: &mut Driven) {
        let close = self.conversation.respond(&response, &mut self.output) || self.hurried;
        self.send(if close { Then::Close } else { Then::Next }, now);
        if response.note == Note::WrongToken && !self.hurried {
            self.delay(now);
        }
        driven.reply = Some(Reply::Now(response));
    }

    fn send(&mut self, then: Then, now: Instant) {
        self.phase = Phase::Sending(then);
        self.deadline = now + Span::from_secs(HTTP_ANSWER_S_MAX);
        self.progress_begins(now);
    }

    fn delay(&mut self, now: Instant) {
        if let Phase::Sending(then) = self.phase {
            self.phase = Phase::Delayed(then);
            self.deadline = now + Span::from_millis(HTTP_TOKEN_DELAY_MS);
        }
    }

    fn linger(&mut self, now: Instant) -> io::Result<()> {
        self.stream.shut_down()?;
        self.phase = Phase::Lingering;
        self.deadline = now + Span::from_secs(HTTP_LINGER_S_MAX);
        Ok(())
    }

    /// Writes the output. Returns whether the kernel has taken all of it.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..])? {
                0 => return Ok(false),
                count => {
                    self.sent += count;
                    self.progress(count, now);
                }
            }
        }
        if !self.stream.flush()? {
            return Ok(false);
        }
        // The memory is freed: a kept connection holds none.
        (self.output, self.sent) = (Vec::new(), 0);
        Ok(true)
    }
}
