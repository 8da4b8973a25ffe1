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
use crate::codec::target::Target;
use crate::config::Config;
use crate::control::events;
use crate::control::json::Json;
use crate::handlers::effect::Event;
use crate::handlers::request::{ErrorKind, Request, Response};
use crate::handlers::view::{Filter, PageStart};
use crate::ids::HostId;
use crate::limits::{ASKER_S_MAX, EVENTS_WAITING_MAX, HANDLE_WAIT_S_MAX, PAGE_HOSTS_MAX};
use crate::reactor::request::{HandleRequest, Host};
use crate::reactor::wake::Wake;
use crate::store::op::TaskState;

const WAIT: Duration = Duration::from_secs(HANDLE_WAIT_S_MAX);
/// Longest wait for an answer that needs the store.
const RESPONSE_WAIT: Duration = Duration::from_secs(ASKER_S_MAX);

/// Requests to a running server, from any thread. Cloning is inexpensive.
///
/// The server answers between two turns: within 10 s, or 20 s if the answer needs the store. Then a
/// request fails with [`HandleError::NoAnswer`]. A request on the server's own thread, between two
/// calls of [`Server::turn`](super::Server::turn), always fails so; [`events`](Self::events),
/// [`reload`](Self::reload) and [`shutdown`](Self::shutdown) wait for no answer and may be called
/// there, too. After the server's end every request fails with [`HandleError::Ended`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = anthill::Server::bind(anthill::Config::default())?;
/// let handle = server.handle();
/// let running = std::thread::spawn(move || server.run());
/// println!("{:?}", handle.alive(&["10.0.0.7", "web-1"])?);
/// handle.shutdown();
/// running.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Sender<HandleRequest>,
    wake: Arc<Wake>,
}

/// Error of a request of a [`Handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// The server has ended.
    #[error("the server has ended")]
    Ended,
    /// The server has not answered within 10 s, or within 20 s if the answer needs the store: it is
    /// not running, or the request was made on its own thread.
    #[error(
        "the server has not answered in time: does anyone run it, on another thread than this?"
    )]
    NoAnswer,
}

/// Returns an event as JSON, as `GET /v1/events` shows it.
#[doc(hidden)]
#[must_use]
pub fn event_json(event: &Event, node: &str) -> String {
    Json::object(|json| events::write(json, event, node))
}

impl Handle {
    pub(super) fn new(requests: Sender<HandleRequest>, wake: Arc<Wake>) -> Self {
        Self { requests, wake }
    }

    /// Returns for each of `hosts`, in their order, whether it is online. A host's name is its IP
    /// address, or the id that it gave. An unknown or invalid name is not online.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    ///
    /// ```no_run
    /// # fn count(handle: &anthill::Handle) -> Result<(), anthill::HandleError> {
    /// let [web, db] = handle.alive(&["web-1", "db-1"])?[..] else {
    ///     unreachable!("one answer for each name");
    /// };
    /// println!("web-1: {web}, db-1: {db}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn alive(&self, hosts: &[&str]) -> Result<Vec<bool>, HandleError> {
        let mut alive = Vec::with_capacity(hosts.len());
        // In pieces, so that a long list does not keep the loop from its hosts.
        for hosts in hosts.chunks(PAGE_HOSTS_MAX) {
            let hosts: Vec<Option<HostId>> = hosts
                .iter()
                .map(|host| HostId::checked(host).ok())
                .collect();
            let names = hosts.clone();
            let mut here = self.request(|reply| HandleRequest::Alive { hosts, reply })?;
            if here.has_foreign {
                self.ask_elsewhere(&names, &mut here.online)?;
            }
            alive.extend(here.online);
        }
        Ok(alive)
    }

    /// Asks the store for the hosts that are not online at this node. While the store is unavailable
    /// they count as offline.
    fn ask_elsewhere(
        &self,
        names: &[Option<HostId>],
        online: &mut [bool],
    ) -> Result<(), HandleError> {
        let places = 0..names.len();
        let (places, hosts): (Vec<usize>, Vec<HostId>) = places
            .filter(|place| !online[*place])
            .filter_map(|place| Some((place, names[place].clone()?)))
            .unzip();
        if hosts.is_empty() {
            return Ok(());
        }
        if let Response::Named(found) = self.ask(Request::Named { hosts })? {
            for (place, host) in places.into_iter().zip(found) {
                online[place] = host.is_some_and(|host| host.online);
            }
        }
        Ok(())
    }

    /// Hosts of all nodes, from the store; none if it became unavailable meanwhile. A host that
    /// moves meanwhile is shown once.
    fn stored_hosts(&self, filter: Filter) -> Result<Option<Vec<Host>>, HandleError> {
        let mut all = BTreeMap::new();
        let mut start = PageStart::default();
        loop {
            let request = Request::Hosts {
                target: None,
                node: None,
                filter,
                start,
                limit: PAGE_HOSTS_MAX,
            };
            let Response::Hosts { hosts, next } = self.ask(request)? else {
                return Ok(None);
            };
            let hosts = hosts.iter().map(|view| (view.id.clone(), Host::from(view)));
            all.extend(hosts);
            match next {
                Some(next) => start = next,
                None => return Ok(Some(all.into_values().collect())),
            }
        }
    }

    /// Returns for each of `hosts`, at most [`PAGE_HOSTS_MAX`], whether `target` selects it.
    #[cfg_attr(
        not(feature = "cli"),
        allow(dead_code, reason = "the program's notifications ask for it")
    )]
    pub(crate) fn matching(
        &self,
        target: &Arc<Target>,
        hosts: Vec<HostId>,
    ) -> Result<Vec<bool>, HandleError> {
        let target = Arc::clone(target);
        self.request(|reply| HandleRequest::Matching {
            target,
            hosts,
            reply,
        })
    }

    /// Returns the hosts that match `filter`, of all nodes that share the store. The server answers in pages of 1,000 hosts, between
    /// turns: a host that changes meanwhile is shown as it was when its page was made.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    ///
    /// ```no_run
    /// # fn print(handle: &anthill::Handle) -> Result<(), anthill::HandleError> {
    /// for host in handle.hosts(anthill::Filter::Offline)? {
    ///     println!("{} since {} ms", host.id, host.since.0);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn hosts(&self, filter: Filter) -> Result<Vec<Host>, HandleError> {
        let mut all = Vec::new();
        let mut cursor = 0;
        loop {
            let page = self.request(|reply| HandleRequest::Hosts {
                filter,
                cursor,
                reply,
            })?;
            if page.has_foreign
                && let Some(hosts) = self.stored_hosts(filter)?
            {
                return Ok(hosts);
            }
            all.extend(page.hosts);
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(all),
            }
        }
    }

    /// Stores a task and sends it to its hosts. Returns the first state of each host; later states
    /// are [`events`](Self::events). See [`DispatchSource`] for an example, and
    /// [`Rollout`](super::Rollout) for a task that goes to a target in waves.
    ///
    /// # Errors
    /// When the task is invalid, its key was used before, the server cannot take it now, or has
    /// ended. Without an answer within 20 s the task may still be stored and sent.
    pub fn dispatch(
        &self,
        source: &dyn DispatchSource,
    ) -> Result<BTreeMap<HostId, TaskState>, DispatchError> {
        match self.ask(Request::Dispatch(new_task(source)?))? {
            Response::Dispatched { hosts, .. } => Ok(hosts.iter().cloned().collect()),
            Response::Error { kind, text } => Err(DispatchError::Refused { kind, text }),
            _ => Err(DispatchError::Refused {
                kind: ErrorKind::NotNow,
                text: "the server gave an answer to another question".to_owned(),
            }),
        }
    }

    /// Passes a request to the core. An error of the request is an answer, too.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    #[doc(hidden)]
    pub fn ask(&self, request: Request) -> Result<Response, HandleError> {
        let request = Box::new(request);
        self.request_within(RESPONSE_WAIT, |reply| HandleRequest::Core {
            request,
            reply,
        })
    }

    /// Subscribes to the events from now on: every connection after this call raises one. A server
    /// has at most 64 subscribers; a further one gets no events.
    #[must_use]
    pub fn events(&self) -> Events {
        let (events, waiting) = bounded(EVENTS_WAITING_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        // If the server has ended, the other end is gone, and so are the events: they end at once.
        let _ = self.send(HandleRequest::Subscribe {
            events,
            missed: Arc::clone(&missed),
        });
        Events { waiting, missed }
    }

    /// Applies a new configuration without a restart. Addresses, store, node name, the bounds of
    /// connections and their keep-alive stay as they were at the start. Never waits for an answer.
    pub fn reload(&self, config: Config) {
        // A server that has ended needs none; one that does not turn would not heed it.
        if let Err(error) = self.send(HandleRequest::Reload(Box::new(assemble::reload(&config)))) {
            log::error!(target: "reload", "not taken: {error}");
        }
    }

    /// Ends the server: it no longer accepts or reads connections, finishes outstanding writes
    /// within 10 s, and then [`run`](super::Server::run) returns. Never waits.
    pub fn shutdown(&self) {
        self.wake.ask_stop();
    }

    fn request<T>(
        &self,
        request: impl FnOnce(Sender<T>) -> HandleRequest,
    ) -> Result<T, HandleError> {
        self.request_within(WAIT, request)
    }

    fn request_within<T>(
        &self,
        wait: Duration,
        request: impl FnOnce(Sender<T>) -> HandleRequest,
    ) -> Result<T, HandleError> {
        let (reply, answer) = bounded(1);
        self.send(request(reply))?;
        answer.recv_timeout(wait).map_err(|error| match error {
            RecvTimeoutError::Timeout => HandleError::NoAnswer,
            RecvTimeoutError::Disconnected => HandleError::Ended,
        })
    }

    fn send(&self, request: HandleRequest) -> Result<(), HandleError> {
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

/// Events of the fleet, as they happen: an iterator that waits for each event and ends with the
/// server.
///
/// The server never waits for a subscriber. One that falls more than 4,096 events behind loses
/// further ones, and [`missed`](Self::missed) counts them.
///
/// ```no_run
/// # fn follow(handle: &anthill::Handle) {
/// for event in handle.events() {
///     match event.kind {
///         anthill::EventKind::Online { host, .. } => println!("{host} is online"),
///         anthill::EventKind::Offline { host, .. } => println!("{host} is offline"),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    waiting: Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// Waits for the next event for at most `timeout`. Returns `None` if none comes.
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

    /// Returns the next event, if there is one now.
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

    /// Number of events that this subscriber has lost so far.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.waiting.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::request::NewTask;
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

    /// A handle, and a thread in the place of the loop that answers `asks` dispatches and returns
    /// them.
    fn answered(
        asks: usize,
        answer: impl Fn(&NewTask) -> Option<Response> + Send + 'static,
    ) -> (Handle, Poll, JoinHandle<Vec<NewTask>>) {
        let poll = Poll::new().unwrap();
        let wake = Arc::new(Wake::new(poll.registry()).unwrap());
        let (requests, waiting) = bounded(8);
        let thread = std::thread::spawn(move || {
            let tasks = waiting.iter().take(asks).map(|request| {
                let HandleRequest::Core { request, reply } = request else {
                    panic!("{request:?}");
                };
                let Request::Dispatch(task) = *request else {
                    panic!("{request:?}");
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
    fn each_dispatch_is_a_request_of_its_own() {
        let (handle, _poll, thread) = answered(3, |task| {
            let hosts = task.hosts.as_deref().unwrap_or_default();
            let state = TaskState::Sent;
            let named = hosts
                .iter()
                .map(|host| (HostId::checked(host).unwrap(), state));
            Some(Response::Dispatched {
                key: TaskKey::parse(&task.key, "AC").unwrap(),
                hosts: Arc::new(named.collect()),
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
                Some(Response::Error { kind, text })
            });
            let error = handle.dispatch(&Work(None)).unwrap_err();
            assert_eq!(error.to_string(), "why");
            assert!(matches!(error, DispatchError::Refused { kind: k, .. } if k == kind));
        }
    }

    #[test]
    fn an_end_during_a_dispatch_is_an_error() {
        let (handle, _poll, thread) = answered(1, |_| None);
        let ended = Err(DispatchError::NoAnswer(HandleError::Ended));
        assert_eq!(handle.dispatch(&Work(None)), ended);
        thread.join().unwrap();
        assert_eq!(handle.dispatch(&Work(None)), ended);
    }
}
