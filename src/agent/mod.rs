//! The host's end of the protocol: `anthill agent`.
//!
//! ```text
//!               bytes, now              effects
//!  TCP, UDP ──▶ drive ──▶ core ──────▶ drive ──▶ frames
//!                 ▲         │ allow       ├────▶ journal (fsync, before anything is said or done)
//!                 └─────────┴── runner ◀──┘
//! ```
//!
//! - [`core`] decides everything. It is as pure as the server's handlers.
//! - [`memory`] is its durable state, which [`journal`] keeps on disk.
//! - [`allow`] names the permitted commands, [`runner`] runs them, [`output`] bounds their output,
//!   and `tree` ends all of their processes.
//! - [`facts`] describes the host. `wire` is the connection, plain or over [`tls`].
//! - [`drive`] is the loop around them. `handle` steers it from another thread.

pub mod allow;
pub mod core;
pub mod drive;
pub mod facts;
mod handle;
pub mod journal;
pub mod memory;
pub mod output;
pub mod runner;
mod setup;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_none.rs"]
pub mod tls;
mod tree;
mod udp;
mod wire;

pub use allow::{Allow, AllowError};
pub use drive::Agent;
pub use handle::Handle;
pub use setup::{AgentError, Setup};
pub use tls::TlsSettings;
pub use tree::adopt_orphans;
