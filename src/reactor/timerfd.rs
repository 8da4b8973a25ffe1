//! Timer of the kernel for the next deadline. A time-out of `epoll_wait` would be set up and
//! removed with each wait, and it is rounded up to a millisecond; the timer stays until it fires or
//! an earlier deadline is set.
//!
//! ```text
//!   waits   ├─┤├──┤├─┤├───┤├─┤                  most end with an event
//!   timer   └──────────────────────▶ fires      set once
//! ```

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::token;
use crate::time::{Instant, Span};

#[derive(Debug)]
pub struct Timerfd {
    timer: OwnedFd,
    /// Time at which it fires, or fired.
    set: Option<Instant>,
}

impl Timerfd {
    /// Creates and registers a timer that is not set.
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(
            &mut SourceFd(&timer.as_raw_fd()),
            token::TIMERFD,
            Interest::READABLE,
        )?;
        Ok(Self { timer, set: None })
    }

    /// Lets a wait that begins at `now` end after `wait` at the latest. Returns false if that
    /// fails. The wait may end early once.
    pub fn ends(&mut self, now: Instant, wait: Span) -> bool {
        let at = now + wait;
        if self.set.is_some_and(|set| now < set && set <= at) {
            return true;
        }
        // Zero would disarm the timer.
        let nanos = wait.as_nanos().max(1);
        let value = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: (nanos % 1_000_000_000) as _,
            },
        };
        let set = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value).is_ok();
        self.set = set.then_some(at);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    #[test]
    fn the_timer_ends_waits_and_only_moves_forward() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let mut alarm = Timerfd::new(poll.registry()).unwrap();
        let (hour, soon) = (Span::from_secs(3_600), Span::from_millis(1));
        let mut now = Instant::ZERO;
        for _ in 0..3 {
            assert!(alarm.ends(now, hour));
            let set = alarm.set;
            now = now + Span::from_secs(1);
            assert!(alarm.ends(now, hour), "later than it is set to");
            assert_eq!(alarm.set, set);
            assert!(alarm.ends(now, soon));
            assert_eq!(alarm.set, Some(now + soon));
            let deadline = Some(Duration::from_secs(30));
            poll.poll(&mut events, deadline).unwrap();
            assert!(events.iter().any(|event| event.token() == token::TIMERFD));
            now = now + soon;
        }
    }
}
