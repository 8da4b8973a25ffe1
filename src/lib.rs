//! Anthill knows which machines of a fleet are alive, and gets work done on them.
//!
//! This library is the server, to be embedded in a program of your own. [`Server::bind`] opens the
//! sockets; [`Server::run`] runs it on the calling thread, or [`Server::turn`] inside a loop of your
//! own; a [`Handle`] asks it questions, sends tasks and stops it from other threads.
//!
//! ```no_run
//! use anthill::{Config, Filter, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind(Config::default())?;
//! let handle = server.handle();
//! let running = std::thread::spawn(move || server.run());
//! println!("{} hosts online", handle.hosts(Filter::Online)?.len());
//! handle.shutdown();
//! running.join().expect("the server does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Config`] holds every setting, with defaults; [`Config::load`] reads `config.json`.
//! - [`Handle::events`] follows hosts that come and go, as [`Event`]s.
//! - [`DispatchSource`] describes a task: its commands, its hosts and its key.
//! - [`Rollout`] builds a task for a target, which may go out in waves.
//!
//! Features: `embedded` (default) is the store in files, `tls` (default) is TLS for hosts and for
//! Redis, `cli` (default) is the program `anthill`, `agent` its subcommand `agent` alone. Modules
//! that this page does not show belong to the program, its tests and its benchmarks, and may change
//! in any version.

#[cfg(feature = "agent")]
#[doc(hidden)]
pub mod agent;
#[cfg(feature = "cli")]
mod bench;
#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod codec;
pub mod config;
mod control;
mod escape;
#[cfg_attr(
    not(all(feature = "cli", feature = "tls")),
    allow(dead_code, reason = "the program with TLS uses the rest")
)]
mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod handlers;
#[doc(hidden)]
pub mod ids;
#[cfg_attr(
    not(feature = "agent"),
    allow(dead_code, reason = "the agent uses the rest")
)]
mod keys;
#[doc(hidden)]
pub mod limits;
#[cfg(feature = "agent")]
#[cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "the server uses the rest")
)]
mod logging;
mod metrics;
mod prefetch;
#[cfg(feature = "agent")]
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod reactor;
#[doc(hidden)]
pub mod rng;
mod server;
#[doc(hidden)]
pub mod store;
mod syntax;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod wheel;

pub use config::{Config, ConfigError, Overrides};
pub use handlers::effect::{AuditRecord, Event, EventKind};
pub use handlers::view::Filter;
pub use ids::HostId;
#[doc(hidden)]
pub use server::event_json;
pub use server::{
    BindError, DispatchError, DispatchSource, Events, Handle, HandleError, Host, Ready, Rollout,
    ServeError, Server, TaskState,
};
