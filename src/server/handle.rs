//! Handles, by which other threads use a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded,
};

use super::assemble;
use super::dispatch::{DispatchError, DispatchSource, new_task};
use crate::config::Config;
use crate::handlers::ask::{Answer, Ask, ErrorKind};
use crate::handlers::effect::Event;
use crate::handlers::view::Filter;
use crate::ids::HostId;
use crate::limits::{ASKER_S_MAX, EVENTS_WAITING_MAX, HANDLE_WAIT_S_MAX, PAGE_HOSTS_MAX};
use crate::reactor::request::{Host, Request};
use crate::reactor::wake::Wake;
use crate::store::op::TaskState;

const WAIT: Duration = Duration::from_secs(HANDLE_WAIT_S_MAX);
/// Longest wait for an answer that needs the store.
const ASK_WAIT: Duration = Duration::from_secs(ASKER_S_MAX);

/// A handle of a server: inexpensive to clone, for any thread.
///
/// The loop answers between turns. A request made on the loop's own thread, between two calls of
/// [`Server::turn`](super::Server::turn), cannot be answered while it waits, and fails after
/// ten seconds; [`events`](Self::events), [`reload`](Self::reload) and
/// [`shutdown`](Self::shutdown) wait for no answer and may be called anywhere.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<Request>,
    wake: Arc<Wake>,
}

/// Error of a request to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It has ended.
    #[error("the server has ended")]
    Ended,
    /// No answer in time: in ten seconds or, if the answer needs the store, in twenty. The loop
    /// does not run, or this is its own thread.
    #[error(
        "the server has not answered in time: does anyone run it, on another thread than this?"
    )]
    NoAnswer,
}

impl Handle {
    pub(super) fn new(requests: Sender<Request>, wake: Arc<Wake>) -> Self {
        Self { requests, wake }
    }

    /// Returns for each of `hosts`, in their order, whether it is online. An invalid name is not online.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    pub fn alive(&self, hosts: &[&str]) -> Result<Vec<bool>, HandleError> {
        let mut alive = Vec::with_capacity(hosts.len());
        // In pieces, so that a long list does not keep the loop from its hosts.
        for hosts in hosts.chunks(PAGE_HOSTS_MAX) {
            let hosts = hosts.iter().map(|host| HostId::checked(host).ok());
            let hosts = hosts.collect();
            alive.extend(self.request(|reply| Request::Alive { hosts, reply })?);
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
            let page = self.request(|reply| Request::Hosts {
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

    /// Dispatches a task: it is checked, stored and sent. Returns the state of each host in it. Later states come by
    /// the [`events`](Self::events), and by [`ask`](Self::ask) at any time.
    ///
    /// It may be called any number of times, from any thread, at once or one after the other.
    ///
    /// # Errors
    /// When it is wrong, its key was used before, the server cannot take it now, or has ended. If
    /// the server does not answer in time, the task may yet be stored and sent.
    pub fn dispatch(
        &self,
        source: &dyn DispatchSource,
    ) -> Result<BTreeMap<HostId, TaskState>, DispatchError> {
        match self.ask(Ask::Dispatch(new_task(source)))? {
            Answer::Dispatched { hosts, .. } => Ok(hosts.into_iter().collect()),
            Answer::Error { kind, text } => Err(DispatchError::Refused { kind, text }),
            _ => Err(DispatchError::Refused {
                kind: ErrorKind::NotNow,
                text: "the server gave an answer to another question".to_owned(),
            }),
        }
    }

    /// Asks for tasks and what became of them, or orders something. What cannot be done is an answer too.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    pub fn ask(&self, ask: Ask) -> Result<Answer, HandleError> {
        let ask = Box::new(ask);
        self.request_within(ASK_WAIT, |reply| Request::Ask { ask, reply })
    }

    /// Events of the fleet from now on: every connection after this call raises one.
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
        if let Err(error) = self.send(Request::Reload(Box::new(assemble::reload(&config)))) {
            log::error!(target: "reload", "not taken: {error}");
        }
    }

    /// Ends the server: connections are no longer accepted or read, outstanding writes are finished, then
    /// [`run`](super::Server::run) returns. Never waits.
    pub fn shutdown(&self) {
        self.wake.ask_stop();
    }

    fn request<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Result<T, HandleError> {
        self.request_within(WAIT, request)
    }

    fn request_within<T>(
        &self,
        wait: Duration,
        request: impl FnOnce(Sender<T>) -> Request,
    ) -> Result<T, HandleError> {
        let (reply, answer) = bounded(1);
        self.send(request(reply))?;
        answer.recv_timeout(wait).map_err(|error| match error {
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

/// Events of the fleet, as they happen. The iterator ends when the server does.
///
/// The server waits for no subscriber: one that falls more than [`EVENTS_WAITING_MAX`] behind loses events, and
/// [`missed`](Self::missed) gives their number.
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

    /// Number of events lost so far because they were not taken in time.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::ask::NewTask;
    use crate::ids::TaskKey;
    use mio::Poll;
    use std::thread::JoinHandle;

    struct Work(Option<Vec<String>>);

    impl DispatchSource for Work {
        fn ip_list(&self) -> Option<Vec<String>> {
            self.0.clone()
        }

        fn dis_commands(&self) -> Vec<(String, f64)> {
            vec![("uptime".to_owned(), 2.0), ("df -h".to_owned(), 0.5)]
        }

        fn key(&self) -> String {
            "AC131".to_owned()
        }
    }

    /// A handle, and a thread in the place of the loop that answers `asks` dispatches and returns them.
    fn answered(
        asks: usize,
        answer: impl Fn(&NewTask) -> Option<Answer> + Send + 'static,
    ) -> (Handle, Poll, JoinHandle<Vec<NewTask>>) {
        let poll = Poll::new().unwrap();
        let wake = Arc::new(Wake::new(poll.registry()).unwrap());
        let (requests, waiting) = bounded(8);
        let thread = std::thread::spawn(move || {
            let tasks = waiting.iter().take(asks).map(|request| {
                let Request::Ask { ask, reply } = request else {
                    panic!("{request:?}");
                };
                let Ask::Dispatch(task) = *ask else {
                    panic!("{ask:?}");
                };
                if let Some(answer) = answer(&task) {
                    reply.send(answer).unwrap();
                }
                task
            });
            tasks.collect()
        });
        (Handle::new(requests, wake), poll, thread)
    }

    #[test]
    fn a_dispatch_hands_in_what_its_source_says_each_time_as_a_request_of_its_own() {
        let (handle, _poll, thread) = answered(3, |task| {
            let hosts = task.hosts.as_deref().unwrap_or_default();
            let state = TaskState::Sent;
            let named = hosts
                .iter()
                .map(|host| (HostId::checked(host).unwrap(), state));
            Some(Answer::Dispatched {
                key: TaskKey::parse(&task.key, "AC").unwrap(),
                hosts: named.collect(),
                unknown: Vec::new(),
            })
        });
        let named = Work(Some(vec!["b".to_owned(), "a".to_owned()]));
        let sent = |host: &str| (HostId::checked(host).unwrap(), TaskState::Sent);
        let other = handle.clone();
        let far = std::thread::spawn(move || other.dispatch(&Work(None)));
        for _ in 0..2 {
            let states = handle.dispatch(&named).unwrap();
            assert_eq!(states, BTreeMap::from([sent("a"), sent("b")]));
        }
        assert_eq!(far.join().unwrap(), Ok(BTreeMap::new()));
        let tasks = thread.join().unwrap();
        for task in &tasks {
            assert_eq!(task.commands, Work(None).dis_commands());
            assert!(!task.queue && task.key == "AC131");
            let same = tasks.iter().filter(|other| other.request == task.request);
            assert_eq!(same.count(), 1, "no request is like another");
        }
        assert_eq!(tasks.iter().filter(|task| task.hosts.is_none()).count(), 1);
    }

    #[test]
    fn a_dispatch_that_cannot_be_says_why() {
        for kind in [ErrorKind::Wrong, ErrorKind::Taken, ErrorKind::NotNow] {
            let (handle, _poll, _thread) = answered(1, move |_| {
                let text = "why".to_owned();
                Some(Answer::Error { kind, text })
            });
            let error = handle.dispatch(&Work(None)).unwrap_err();
            assert_eq!(error.to_string(), "why");
            assert!(matches!(error, DispatchError::Refused { kind: k, .. } if k == kind));
        }
    }

    #[test]
    fn a_loop_that_ends_with_a_dispatch_in_hand_is_told_of() {
        let (handle, _poll, thread) = answered(1, |_| None);
        let ended = Err(DispatchError::NoAnswer(HandleError::Ended));
        assert_eq!(handle.dispatch(&Work(None)), ended);
        thread.join().unwrap();
        assert_eq!(handle.dispatch(&Work(None)), ended);
    }
}
