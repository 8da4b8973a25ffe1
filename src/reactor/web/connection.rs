//! One HTTP socket.
//!
//! ```text
//!            first byte          whole request          flushed
//!  Receiving(idle) ──▶ Receiving ──▶ Sending ─────────▶ Receiving(idle)
//!                        │ 10 s: 408 ──▲ │ last answer
//!                                        ▼
//!                                     Lingering ──▶ closed
//! ```
//!
//! Nothing is read while an answer is on its way: a peer that does not read is not listened to, so
//! one answer and one request are all that is ever held. *Lingering* reads and drops what the peer
//! was still sending; closing over unread bytes would reset the connection and destroy the answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::Token;
use mio::net::TcpStream;

use crate::control::{Conversation, Door, HttpRules, Response, Site, Step};
use crate::limits::{
    HTTP_ANSWER_S_MAX, HTTP_LINGER_S_MAX, HTTP_REQUEST_S_MAX, READ_BYTES_PER_TURN_MAX,
};
use crate::time::{Instant, Span};

/// One HTTP socket.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    local: SocketAddr,
    conversation: Conversation,
    output: Vec<u8>,
    /// Bytes of `output` the kernel has taken.
    sent: usize,
    phase: Phase,
    /// Set when the server stops: there is no time for lingering.
    hurried: bool,
    /// The name of this connection.
    pub(super) token: Token,
    /// When it has taken too long with what it is doing.
    pub(super) deadline: Instant,
    /// Whether it waits on the queue of those ready.
    pub(super) queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request is awaited, or part of it has come.
    Receiving,
    /// Bytes are on their way to the peer.
    Sending(Then),
    /// Everything is said; the peer's end is awaited.
    Lingering,
}

/// What follows when everything has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The rest of the request under way.
    Body,
    /// The next request.
    Next,
    /// The end.
    Close,
}

/// Where a connection stands after it was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for the kernel: an event will come.
    Blocked,
    /// It has used up its budget: no event will come.
    Again,
    /// It is over.
    Gone,
}

/// What was done for a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driven {
    /// Where it stands.
    pub(super) progress: Progress,
    /// The status of the request that was answered, if one was.
    pub(super) answered: Option<u16>,
}

/// What reading came to.
enum Took {
    Bytes(usize),
    Nothing,
    End,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, local: SocketAddr, token: Token, now: Instant) -> Self {
        Self {
            stream,
            local,
            conversation: Conversation::new(),
            output: Vec::new(),
            sent: 0,
            phase: Phase::Receiving,
            hurried: false,
            token,
            deadline: now + Span::from_secs(HTTP_REQUEST_S_MAX),
            queued: false,
        }
    }

    /// Whether it may be closed for another: nothing of a request has come, nothing is ready to be
    /// read, and nobody waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        !self.queued && self.phase == Phase::Receiving && self.conversation.is_silent()
    }

    /// Whether everything is said, so that nothing is lost if it is closed.
    pub(super) fn is_lingering(&self) -> bool {
        self.phase == Phase::Lingering
    }

    /// Its deadline is past. Whether there is something to be said first.
    pub(super) fn time_out(&mut self, now: Instant) -> bool {
        let late = self.phase == Phase::Receiving && !self.conversation.is_silent();
        if late {
            self.conversation.time_out(&mut self.output);
            self.send(Then::Close, now);
        }
        late
    }

    /// There is no room: says so, and then closes.
    pub(super) fn turn_away(&mut self, now: Instant) {
        let answer = Response::error(503, "too many connections");
        self.conversation.refuse(&answer, &mut self.output);
        self.send(Then::Close, now);
    }

    /// The server stops. Whether there is an answer to be sent first.
    pub(super) fn stop(&mut self) -> bool {
        self.hurried = true;
        match &mut self.phase {
            Phase::Sending(then) if *then != Then::Body => {
                *then = Then::Close;
                true
            }
            _ => false,
        }
    }

    /// Does what can be done without waiting: at most one request is answered.
    pub(super) fn drive(
        &mut self,
        rules: &HttpRules,
        bound: SocketAddr,
        site: &Site<'_>,
        scratch: &mut [u8],
    ) -> Driven {
        let door = Door {
            rules,
            bound,
            local: self.local,
        };
        let mut answered = None;
        let progress = self.advance(&door, site, scratch, &mut answered);
        Driven {
            // An error of the socket is its end, whatever it was.
            progress: progress.unwrap_or(Progress::Gone),
            answered,
        }
    }

    fn advance(
        &mut self,
        door: &Door<'_>,
        site: &Site<'_>,
        scratch: &mut [u8],
        answered: &mut Option<u16>,
    ) -> io::Result<Progress> {
        let now = site.at.now;
        let mut budget = READ_BYTES_PER_TURN_MAX;
        loop {
            if let Phase::Sending(then) = self.phase {
                if !self.flush()? {
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
            if self.phase == Phase::Receiving {
                match self.conversation.step(door, site, &mut self.output) {
                    Step::More => {}
                    // The time of a request goes on running while its body is asked for.
                    Step::Continue => {
                        self.phase = Phase::Sending(Then::Body);
                        continue;
                    }
                    Step::Answered { status, close } => {
                        *answered = Some(status);
                        self.send(if close { Then::Close } else { Then::Next }, now);
                        continue;
                    }
                }
            }
            if budget == 0 {
                return Ok(Progress::Again);
            }
            match self.read(scratch)? {
                Took::Bytes(count) => {
                    budget = budget.saturating_sub(count);
                    self.took(&scratch[..count], now);
                }
                Took::Nothing => return Ok(Progress::Blocked),
                Took::End => return Ok(Progress::Gone),
            }
        }
    }

    fn took(&mut self, bytes: &[u8], now: Instant) {
        if self.phase == Phase::Lingering {
            return;
        }
        if self.conversation.is_silent() {
            self.receive(now);
        }
        self.conversation.take(bytes);
    }

    /// A request begins, or is awaited: both may take so long.
    fn receive(&mut self, now: Instant) {
        self.phase = Phase::Receiving;
        self.deadline = now + Span::from_secs(HTTP_REQUEST_S_MAX);
    }

    fn send(&mut self, then: Then, now: Instant) {
        self.phase = Phase::Sending(then);
        self.deadline = now + Span::from_secs(HTTP_ANSWER_S_MAX);
    }

    fn linger(&mut self, now: Instant) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.phase = Phase::Lingering;
        self.deadline = now + Span::from_secs(HTTP_LINGER_S_MAX);
        Ok(())
    }

    /// Hands the output to the kernel. Whether it has taken all of it.
    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(false),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        // The memory goes with it: a kept connection holds none.
        (self.output, self.sent) = (Vec::new(), 0);
        Ok(true)
    }

    fn read(&mut self, scratch: &mut [u8]) -> io::Result<Took> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Ok(Took::End),
                Ok(count) => return Ok(Took::Bytes(count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Took::Nothing),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}
