//! Anthill knows which machines of a fleet are alive, and gets work done on them.
//!
//! ```text
//!              bytes, now        message           effects
//!  sockets ──▶ reactor ──▶ codec ──▶ handlers ──▶ reactor ──▶ replies, deadlines
//!                                                 │    ▲
//!                                      operations ▼    │ outcomes, one wake
//!                                            bounded mailbox ◀──▶ store thread ◀──▶ Redis or files
//! ```
//!
//! Rooms, in reading order: [`time`], [`ids`], [`limits`], [`keys`]; [`codec`] (what travels); [`store::op`]
//! (what is written); [`handlers`] (what it means); [`control`] (the same over HTTP, to read);
//! [`reactor`] (the turn and the sockets); [`server`] (all of it together). The other end, a host's,
//! is in [`agent`].

pub mod agent;
pub mod bench;
#[cfg(feature = "tls")]
pub mod certificates;
pub mod codec;
pub mod config;
pub mod control;
pub mod escape;
pub mod files;
pub mod fuzzing;
pub mod handlers;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod logging;
mod prefetch;
pub mod reactor;
pub mod rng;
pub mod server;
pub mod store;
pub mod time;
pub mod wheel;

pub use server::{
    BindError, DispatchError, DispatchSource, Events, Handle, HandleError, Host, Ready, ServeError,
    Server, TaskState,
};
