//! The wait: the kernel's events, the clocks, and the nap before a wait under dense traffic.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use mio::{Events, Poll, Registry};

use super::clock::{Clock, Moments};
use super::coalesce::Coalesce;
use super::error::ServeError;
use super::stats::ReactorStats;
use super::timerfd::Timerfd;
use crate::handlers::Moment;
use crate::limits::EVENTS_PER_TURN_MAX;
use crate::time::{Instant, Span};

/// The only place that waits.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    clock: Clock,
    moments: Moments,
    coalesce: Coalesce,
    timerfd: Timerfd,
    started: Instant,
}

/// Result of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// Time at which the wait began.
    pub before: Instant,
    /// All events up to that time are reported.
    pub complete: bool,
}

impl Poller {
    /// Creates the poll, with naps of at most `nap`.
    pub fn new(nap: Span) -> io::Result<Self> {
        let poll = Poll::new()?;
        let clock = Clock::start();
        Ok(Self {
            events: Events::with_capacity(EVENTS_PER_TURN_MAX),
            moments: Moments::of(clock),
            coalesce: Coalesce::new(nap),
            timerfd: Timerfd::new(poll.registry())?,
            started: clock.now(),
            clock,
            poll,
        })
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Descriptor of the poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the poll owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.poll.as_raw_fd()) }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Time of this turn.
    pub fn moment(&mut self) -> Moment {
        self.moments.moment()
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn set_nap(&mut self, nap: Span) {
        self.coalesce = Coalesce::new(nap);
    }

    /// Counts the events of hosts in a turn, which decide on the next nap.
    pub fn count_events(&mut self, events: usize, now: Instant) {
        self.coalesce.turn(events, now);
    }

    /// Counts accepted connections likewise.
    pub fn count_accepted(&mut self, connections: u64) {
        self.coalesce.accepted(connections);
    }

    /// Waits for events from `now` on, for at most `timeout`, to which `max` has contributed.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait(
        &mut self,
        mut now: Instant,
        mut timeout: Option<Span>,
        max: Option<Duration>,
        stats: &mut ReactorStats,
    ) -> Result<Woken, ServeError> {
        if timeout == Some(Span::ZERO) {
            stats.busy_turns += 1;
        }
        if let Some(nap) = self.coalesce.nap(now, timeout) {
            // The one place that sleeps without listening, and only under dense traffic: one wait
            // that brings a hundred events costs far less than a hundred that bring one each.
            std::thread::sleep(nap.into());
            stats.naps += 1;
            let before = std::mem::replace(&mut now, self.clock.now());
            timeout = timeout.map(|timeout| (before + timeout).since(now));
        }
        let timeout = match timeout {
            // Our own deadlines have a timer; only the caller's limit is a time-out.
            Some(timeout)
                if timeout > Span::ZERO
                    && max.is_none_or(|max| timeout < Span::from(max))
                    && self.timerfd.ends(now, timeout) =>
            {
                max
            }
            timeout => timeout.map(Duration::from),
        };
        let complete = match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.events.clear();
                false
            }
            Err(error) => {
                return Err(ServeError::fatal(format!("waiting for events: {error}")));
            }
        };
        Ok(Woken {
            before: now,
            complete,
        })
    }

    /// Takes the events of the last wait; [`return_events`](Self::return_events) gives back their
    /// memory.
    pub fn take_events(&mut self) -> Events {
        std::mem::replace(&mut self.events, Events::with_capacity(0))
    }

    pub fn return_events(&mut self, events: Events) {
        self.events = events;
    }
}
