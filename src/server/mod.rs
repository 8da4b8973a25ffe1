//! Server, handles and events: the library's face, which puts the other rooms together.
//!
//! ```text
//!   Config ─▶ bind: sockets, limits ─▶ Server ─▶ turn, turn, turn … ─▶ over: the store is stopped
//!                                        │ first turn: the store thread starts
//!   other threads: Handle ── requests ──▶┘
//! ```

mod assemble;
mod dispatch;
mod handle;
#[cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "`check-config` uses the rest")
)]
mod preflight;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::config::Config;
use crate::handlers::Core;
use crate::limits::{REQUESTS_WAITING_MAX, STORE_STOP_S_MAX};
use crate::reactor::clock::Clock;
use crate::reactor::inherited::Inherited;
use crate::reactor::mailbox::StoreEnds;
use crate::reactor::web::Web;
use crate::reactor::{Reactor, Sockets};
use crate::store::address::StoreUrl;
use crate::store::spool::Spool;
use crate::store::worker::{self, Make, Plan, StoreThread};

pub use crate::reactor::error::{BindError, ServeError};
pub use crate::reactor::request::Host;
pub use crate::store::op::TaskState;
pub use dispatch::{DispatchError, DispatchSource, Rollout};
#[doc(hidden)]
pub use handle::event_json;
pub use handle::{Events, Handle, HandleError};
#[cfg(feature = "cli")]
pub(crate) use preflight::preflight;

/// A bound server. Its owner runs it: on a thread with [`run`](Self::run), or inside a loop of its
/// own with [`turn`](Self::turn).
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = anthill::Server::bind(anthill::Config::default())?;
/// println!("{}", server.ready());
/// let handle = server.handle(); // for other threads
/// server.run()?; // on this one, until handle.shutdown()
/// # Ok(())
/// # }
/// ```
///
/// A server has one thread of its own, for the store. Dropping the server stops that thread and
/// waits up to 5 s for outstanding writes. Its log goes to the crate `log`.
pub struct Server {
    reactor: Reactor,
    handle: Handle,
    ready: Ready,
    store: Store,
}

/// State of the store thread.
enum Store {
    /// The first turn starts it.
    NotYet(Make, Plan, Box<Spool>),
    Running(StoreThread),
    Stopped,
}

/// Addresses and capacity of a bound server. Its display is the ready line of the program:
///
/// ```text
/// anthill ready tcp=127.0.0.1:11451 udp=127.0.0.1:11452 http=127.0.0.1:11480 store=embedded:data connections=19872
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// TCP address for hosts, with the assigned port.
    pub tcp: SocketAddr,
    /// UDP address for hosts.
    pub udp: SocketAddr,
    /// Address of the HTTP API.
    pub http: SocketAddr,
    /// URL of the store, without a password.
    pub store: String,
    /// Largest number of connections of hosts.
    pub connections: usize,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "anthill ready tcp={} udp={} http={} store={} connections={}",
            self.tcp,
            self.udp,
            self.http,
            Word(&self.store),
            self.connections
        )
    }
}

/// A value of the ready line: in quotes if it contains a character that would end it.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=');
        // A URL's own `=` ends nothing: only a first one does.
        match self.0.chars().all(|c| plain(c) || c == '=') && !self.0.is_empty() {
            true => f.write_str(self.0),
            false => write!(f, "{:?}", self.0),
        }
    }
}

impl Server {
    /// Binds the sockets and raises the limit of open files. Hosts can connect from now on and wait
    /// in the kernel's queue; nothing is read or stored before the first [`turn`](Self::turn).
    ///
    /// # Errors
    /// When an address cannot be bound, the system allows too few open files, or an embedded store
    /// or the spool cannot be opened, for example because another server uses it.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_with(config, Inherited::default())
    }

    /// Does the same as [`bind`](Self::bind), with the sockets that a service manager has bound.
    pub(crate) fn bind_with(config: Config, mut inherited: Inherited) -> Result<Self, BindError> {
        // Checks come first, so that a failed start leaves no directory behind.
        preflight::directories(&config)?;
        let settings = assemble::settings(&config);
        let sockets = Sockets::bind(&settings, &mut inherited)?;
        let (key, addr) = ("server.http", config.server.http);
        let web = Web::bind(addr, assemble::http_rules(&config), inherited.http.take())
            .map_err(|source| BindError::Socket { key, addr, source })?;
        let web = web.with_tls(assemble::http_tls(&config));
        let http = web.local_addr();
        let (make, plan) = (assemble::maker(&config, http)?, assemble::plan(&config));
        let spool = Spool::open(&plan.spool_dir, plan.spool_bytes);
        let spool = spool.map_err(|error| BindError::Spool(error.to_string()))?;
        if let Some(before) = spool.note_node(&config.server.name) {
            log::warn!(
                target: "store",
                "server.name is {:?} and was {before:?}: hosts that {before:?} held and that do not come here are lost when its \
                 lease has been gone for heartbeat.timeout_s; its tasks go on here then",
                config.server.name,
            );
        }
        let first_seq = spool.first_seq(assemble::first_seq(Clock::wall()));
        let store = Store::NotYet(make, plan, Box::new(spool));
        let mut core = Core::new(assemble::rules(&config), first_seq)
            .with_keys(assemble::access(&config), assemble::nonces())
            .with_labels(assemble::label_rules(&config));
        if !matches!(config.store.url, StoreUrl::Embedded(_)) {
            core = core.with_shared_store();
        }
        let (requests, waiting) = bounded(REQUESTS_WAITING_MAX);
        let (reactor, bound) = Reactor::new(&settings, sockets, core, web, waiting)?;
        Ok(Self {
            handle: Handle::new(requests, reactor.wake()),
            ready: Ready {
                tcp: bound.tcp,
                udp: bound.udp,
                http,
                store: config.store.url.to_string(),
                connections: bound.connections,
            },
            reactor,
            store,
        })
    }

    /// Bound addresses and capacity.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Returns whether the store has answered, or is known to be unavailable.
    #[must_use]
    pub fn has_tried_store(&self) -> bool {
        self.reactor.has_tried_store()
    }

    /// Returns the time after which a turn is due even without an event; zero: at once; `None`: no
    /// turn is due. A loop of another program waits for that long on the descriptor of the server
    /// ([`AsFd`]), and then calls [`turn`](Self::turn) with a zero limit.
    #[must_use]
    pub fn next_turn(&self) -> Option<Duration> {
        match self.store {
            Store::Running(_) => self.reactor.next_turn(),
            Store::NotYet(..) | Store::Stopped => Some(Duration::ZERO),
        }
    }

    /// Hosts that are online now.
    #[cfg_attr(
        not(feature = "cli"),
        allow(dead_code, reason = "the program shows it")
    )]
    pub(crate) fn hosts_online(&self) -> u64 {
        self.reactor.hosts_online()
    }

    /// Creates a handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs one turn of the loop: waits for input for at most `max` (`None`: unlimited), then
    /// handles it within a budget: a few milliseconds under full load, or
    /// [`turn_budget_us`](crate::config::Server::turn_budget_us), after which each part of the turn
    /// serves at most four more items. Not divided are deadlines that come at the same moment (about
    /// 2 µs for each host) and a step of a request with many hosts (256 hosts). Returns false after
    /// a shutdown, when the store is stopped. The first turn starts the store thread, and the last
    /// one waits for it.
    ///
    /// # Errors
    /// When the server cannot continue: the store refuses the user, another server has the same
    /// name, or the system fails. The store is stopped then, too.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let mut server = anthill::Server::bind(anthill::Config::default())?;
    /// while server.turn(Some(Duration::from_millis(100)))? {
    ///     // other work
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn turn(&mut self, max: Option<Duration>) -> Result<bool, ServeError> {
        match &self.store {
            Store::Running(_) => {}
            Store::NotYet(..) => self.start_store()?,
            Store::Stopped => return Ok(false),
        }
        let turned = self.reactor.turn(max);
        if turned != Ok(true) {
            self.stop_store();
        }
        turned
    }

    /// Runs the server on this thread until [`Handle::shutdown`].
    ///
    /// # Errors
    /// The same as of [`turn`](Self::turn).
    pub fn run(mut self) -> Result<(), ServeError> {
        while self.turn(None)? {}
        Ok(())
    }

    fn start_store(&mut self) -> Result<(), ServeError> {
        let Store::NotYet(make, plan, spool) = std::mem::replace(&mut self.store, Store::Stopped)
        else {
            return Ok(());
        };
        let wake = self.reactor.wake();
        let thread = worker::start(make, plan, *spool, move || wake.ring())
            .map_err(|error| ServeError::fatal(format!("the store thread: {error}")))?;
        let ends = StoreEnds {
            batches: thread.batches.clone(),
            outcomes: thread.outcomes.clone(),
        };
        let stats = Box::new(Arc::clone(&thread.stats));
        self.reactor.attach_store(ends, stats);
        self.store = Store::Running(thread);
        Ok(())
    }

    /// Stops the store thread: unwritten reports go to the spool. Hosts that wait for an
    /// acknowledgement of these still receive it.
    fn stop_store(&mut self) {
        self.reactor.detach_store();
        if let Store::Running(thread) = std::mem::replace(&mut self.store, Store::Stopped) {
            let stopped = thread.stop(Duration::from_secs(STORE_STOP_S_MAX));
            if !stopped.ended {
                log::error!(
                    target: "store",
                    "the store has not ended within {STORE_STOP_S_MAX} s and is left to itself",
                );
            }
            self.reactor.last_outcomes(stopped.outcomes);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_store();
    }
}

/// A descriptor that is readable while the server has events. It may be watched by another `epoll`
/// or `poll`, and by nothing else: see [`Server::next_turn`].
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reactor.as_fd()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(store: &str) -> Ready {
        Ready {
            tcp: "127.0.0.1:11451".parse().unwrap(),
            udp: "127.0.0.1:11452".parse().unwrap(),
            http: "127.0.0.1:11480".parse().unwrap(),
            store: store.to_owned(),
            connections: 19_872,
        }
    }

    #[test]
    fn the_ready_line_is_one_line() {
        assert_eq!(
            ready("embedded:anthill-data").to_string(),
            "anthill ready tcp=127.0.0.1:11451 udp=127.0.0.1:11452 http=127.0.0.1:11480 \
             store=embedded:anthill-data connections=19872"
        );
        let odd = ready("embedded:my data\n\"x\"").to_string();
        assert!(
            odd.contains(r#" store="embedded:my data\n\"x\"" "#),
            "{odd}"
        );
    }
}
