//! The host's end of the protocol: `anthill agent`.
//!
//! ```text
//!               bytes, now              effects
//!  TCP, UDP ──▶ drive ──▶ core ──────▶ drive ──▶ frames
//!                 ▲         │ allow       ├────▶ journal (fsync, before anything is said or done)
//!                 └─────────┴── runner ◀──┘
//! ```
//!
//! [`core`] is as pure as the server's handlers and decides everything; [`memory`] is what it must not
//! forget, and [`journal`] keeps that on disk; [`allow`] says what may be run, [`runner`] runs it, [`output`] bounds what it puts out and `tree` ends all of it;
//! [`facts`] is what the host is; `wire` is the connection, plain or over [`tls`]; [`drive`] puts them on
//! a loop.

pub mod allow;
pub mod core;
pub mod drive;
pub mod facts;
pub mod journal;
pub mod memory;
pub mod output;
pub mod runner;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_none.rs"]
pub mod tls;
mod tree;
mod wire;

pub use allow::{Allow, AllowError};
pub use drive::{Agent, AgentError, Handle, Setup};
pub use tls::TlsSettings;
pub use tree::adopt_orphans;
