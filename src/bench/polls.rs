//! Two polls: one for all sockets, and one for the hosts whose replies are measured separately.
//! Behind ten thousand ready sockets a reply waits until those are handled, and that wait would
//! count as the server's.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::time::Span;

/// Token of the second poll in the first. No socket has it.
pub const FIRST: Token = Token(usize::MAX);

/// The polls of a fleet.
#[derive(Debug)]
pub struct Polls {
    all: Poll,
    /// Poll of the separately measured hosts, if there are any.
    first: Option<Poll>,
}

impl Polls {
    /// Creates one poll, and a second one if `first`.
    ///
    /// # Errors
    /// When the system has none.
    pub fn new(first: bool) -> io::Result<Self> {
        let all = Poll::new()?;
        let first = first.then(Poll::new).transpose()?;
        if let Some(first) = &first {
            // A wait on the first poll ends for the second one too.
            let fd = first.as_raw_fd();
            all.registry()
                .register(&mut SourceFd(&fd), FIRST, Interest::READABLE)?;
        }
        Ok(Self { all, first })
    }

    /// Registry for a socket.
    #[must_use]
    pub fn registry(&self, first: bool) -> &Registry {
        match &self.first {
            Some(poll) if first => poll.registry(),
            _ => self.all.registry(),
        }
    }

    /// Collects events without waiting: those of the second poll, or else those of the first.
    ///
    /// # Errors
    /// When a poll fails.
    pub fn look(&mut self, events: &mut Events) -> io::Result<()> {
        for poll in self.first.iter_mut().chain([&mut self.all]) {
            match poll.poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                other => other?,
            }
            if !events.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Sleeps until there are events, at most for `span`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sleep(&self, span: Span) -> io::Result<()> {
        let nanos = span.as_nanos();
        let timeout = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        };
        let events = self.all.registry().as_fd();
        match poll(
            &mut [PollFd::from_borrowed_fd(events, PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
