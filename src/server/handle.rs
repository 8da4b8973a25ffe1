//! What other threads hold of a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded,
};

use super::assemble;
use crate::config::Config;
use crate::handlers::effect::Event;
use crate::handlers::view::Filter;
use crate::ids::HostId;
use crate::limits::{EVENTS_WAITING_MAX, HANDLE_WAIT_S_MAX, PAGE_HOSTS_MAX};
use crate::reactor::request::{Host, Request};
use crate::reactor::wake::Wake;

const WAIT: Duration = Duration::from_secs(HANDLE_WAIT_S_MAX);

/// A handle of a server: cheap to clone, for any thread.
///
/// The loop answers between turns. A question asked on the loop's own thread, between two calls of
/// [`Server::turn`](super::Server::turn), cannot be answered while it waits, and fails after
/// ten seconds; [`events`](Self::events), [`reload`](Self::reload) and
/// [`shutdown`](Self::shutdown) wait for no answer and may be called anywhere.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<Request>,
    wake: Arc<Wake>,
}

/// Why the server did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It has ended.
    #[error("the server has ended")]
    Ended,
    /// It has not answered for ten seconds: nobody turns it, or this is its own thread.
    #[error(
        "the server has not answered for {HANDLE_WAIT_S_MAX} s: does anyone run it, on another thread than this?"
    )]
    NoAnswer,
}

impl Handle {
    pub(super) fn new(requests: Sender<Request>, wake: Arc<Wake>) -> Self {
        Self { requests, wake }
    }

    /// Which of `hosts` are online: one answer each, in their order. What cannot be a host's name is
    /// not online.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    pub fn alive(&self, hosts: &[&str]) -> Result<Vec<bool>, HandleError> {
        let mut alive = Vec::with_capacity(hosts.len());
        // In pieces, so that a long list does not keep the loop from its hosts.
        for hosts in hosts.chunks(PAGE_HOSTS_MAX) {
            let hosts = hosts.iter().map(|host| HostId::checked(host).ok());
            let hosts = hosts.collect();
            alive.extend(self.ask(|reply| Request::Alive { hosts, reply })?);
        }
        Ok(alive)
    }

    /// All hosts that `filter` lets through. They come page by page, between turns: one that changes meanwhile
    /// is shown as it was when its page was made.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    pub fn hosts(&self, filter: Filter) -> Result<Vec<Host>, HandleError> {
        let mut all = Vec::new();
        let mut cursor = 0;
        loop {
            let page = self.ask(|reply| Request::Hosts {
                filter,
                cursor,
                reply,
            })?;
            all.extend(page.hosts);
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(all),
            }
        }
    }

    /// What happens to the fleet from now on: everything that connects after this returns is told of.
    #[must_use]
    pub fn events(&self) -> Events {
        let (events, waiting) = bounded(EVENTS_WAITING_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        // If the server has ended, the other end is gone, and so are the events: they end at once.
        let _ = self.send(Request::Subscribe {
            events,
            missed: Arc::clone(&missed),
        });
        Events { waiting, missed }
    }

    /// Takes a new configuration, as far as it can be had without a restart: not the addresses, the store, the
    /// node's name, the number of connections and their keep-alive.
    pub fn reload(&self, config: Config) {
        // A server that has ended needs none; one that does not turn would not heed it.
        if let Err(error) = self.send(Request::Reload(Box::new(assemble::news(&config)))) {
            log::error!(target: "reload", "not taken: {error}");
        }
    }

    /// Ends the server: nobody is accepted or read any more, what is to be written is written, then
    /// [`run`](super::Server::run) returns. Never waits.
    pub fn shutdown(&self) {
        self.wake.ask_stop();
    }

    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T, HandleError> {
        let (reply, answer) = bounded(1);
        self.send(request(reply))?;
        answer.recv_timeout(WAIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => HandleError::NoAnswer,
            RecvTimeoutError::Disconnected => HandleError::Ended,
        })
    }

    fn send(&self, request: Request) -> Result<(), HandleError> {
        self.requests
            .send_timeout(request, WAIT)
            .map_err(|error| match error {
                SendTimeoutError::Timeout(_) => HandleError::NoAnswer,
                SendTimeoutError::Disconnected(_) => HandleError::Ended,
            })?;
        self.wake.ring();
        Ok(())
    }
}

/// What happens to the fleet, as it happens. It ends when the server does.
///
/// The server waits for nobody: who falls more than [`EVENTS_WAITING_MAX`] behind loses events, and
/// [`missed`](Self::missed) says how many.
#[derive(Debug)]
pub struct Events {
    waiting: Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// The next event, if one comes within `timeout`; `None` if none does.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Event>, HandleError> {
        match self.waiting.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(HandleError::Ended),
        }
    }

    /// The next event, if one is there.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn try_recv(&self) -> Result<Option<Event>, HandleError> {
        match self.waiting.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(HandleError::Ended),
        }
    }

    /// How many events have been lost so far because they were not taken in time.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// Waits for each; ends when the server does.
impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.waiting.recv().ok()
    }
}
