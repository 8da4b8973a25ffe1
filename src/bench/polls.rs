//! What tells that something has come: one poll for everybody, and another for those whose replies are looked at by
//! themselves. Behind ten thousand others that have something too a reply waits here for as long as those take, and
//! that would be told as the server's.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::time::Span;

/// What the first poll calls the other one. No socket has this name.
pub const FIRST: Token = Token(usize::MAX);

/// See the [room](self).
#[derive(Debug)]
pub struct Polls {
    all: Poll,
    /// Those that are looked at first, if there are any.
    first: Option<Poll>,
}

impl Polls {
    /// One poll, and another if some come `first`.
    ///
    /// # Errors
    /// When the system has none.
    pub fn new(first: bool) -> io::Result<Self> {
        let all = Poll::new()?;
        let first = first.then(Poll::new).transpose()?;
        if let Some(first) = &first {
            // So that a wait for all ends for them too.
            let fd = first.as_raw_fd();
            all.registry()
                .register(&mut SourceFd(&fd), FIRST, Interest::READABLE)?;
        }
        Ok(Self { all, first })
    }

    /// Where sockets are registered.
    #[must_use]
    pub fn registry(&self, first: bool) -> &Registry {
        match &self.first {
            Some(poll) if first => poll.registry(),
            _ => self.all.registry(),
        }
    }

    /// What has come, without waiting: of those that come first, or where they have nothing of the others.
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

    /// Sleeps until something has come, for `span` at the longest.
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
