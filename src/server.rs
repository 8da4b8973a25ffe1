//! Puts the rooms together: [`Server`], the [`Handle`] others hold of it, and the [`Events`] they
//! follow.
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
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::config::Config;
use crate::handlers::Core;
use crate::limits::{REQUESTS_WAITING_MAX, STORE_STOP_S_MAX};
use crate::reactor::clock::Clock;
use crate::reactor::mailbox::StoreEnds;
use crate::reactor::web::Web;
use crate::reactor::{Reactor, Sockets};
use crate::store::spool::Spool;
use crate::store::worker::{self, Make, Plan, StoreThread};

pub use crate::reactor::error::{BindError, ServeError};
pub use crate::reactor::request::Host;
pub use crate::store::op::TaskState;
pub use dispatch::{DispatchError, DispatchSource};
pub use handle::{Events, Handle, HandleError};
#[cfg(feature = "cli")]
pub(crate) use preflight::preflight;

/// A server: bound, and run by its owner.
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
pub struct Server {
    reactor: Reactor,
    handle: Handle,
    ready: Ready,
    store: Store,
}

/// The store thread's life.
enum Store {
    /// It is started by the first turn.
    NotYet(Make, Plan, Box<Spool>),
    Running(StoreThread),
    Stopped,
}

/// The ready message of a bound server: its addresses and its capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Address for hosts.
    pub tcp: SocketAddr,
    /// The UDP socket.
    pub udp: SocketAddr,
    /// Address of the HTTP API.
    pub http: SocketAddr,
    /// The store, without a password.
    pub store: String,
    /// Connections of hosts there is room for.
    pub connections: usize,
}

/// One line, for people and for scripts.
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

/// A value in such a line: in quotes if it has anything that would end it.
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
    /// Binds the sockets and raises the limit of descriptors. Nothing is read and nothing stored before the first
    /// [`turn`](Self::turn), but hosts can connect already: they wait in the queue.
    ///
    /// # Errors
    /// When an address cannot be bound, the system allows too few descriptors, or an embedded store
    /// or the spool cannot be opened (another server has it, say).
    pub fn bind(config: Config) -> Result<Self, BindError> {
        // First all that makes nothing: a start that fails there leaves no directory behind.
        preflight::directories(&config, false)?;
        let settings = assemble::settings(&config);
        let sockets = Sockets::bind(&settings)?;
        let (key, addr) = ("server.http", config.server.http);
        let web = Web::bind(addr, assemble::http_rules(&config))
            .map_err(|source| BindError::Socket { key, addr, source })?;
        let http = web.local_addr();
        let (make, plan) = (assemble::maker(&config)?, assemble::plan(&config));
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
        let core = Core::new(assemble::rules(&config), first_seq)
            .with_keys(assemble::access(&config), assemble::nonces());
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

    /// Addresses, with the assigned ports, and capacity.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Returns whether the store has answered, or is known to be unavailable.
    #[must_use]
    pub fn has_tried_store(&self) -> bool {
        self.reactor.has_tried_store()
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs one turn of the loop, waiting for at most `max` (`None`: unlimited). Returns false after it has been shut down and the store is stopped.
    ///
    /// # Errors
    /// When it cannot go on: the store refuses the user, another server has the same name, or the system
    /// fails. The store is stopped then, too.
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

    /// Turns on this thread until it is shut down.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
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

/// A server that is dropped between two turns still puts down what it was given to store.
impl Drop for Server {
    fn drop(&mut self) {
        self.stop_store();
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
    fn the_ready_line_is_one_line_whatever_the_store_is_called() {
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
