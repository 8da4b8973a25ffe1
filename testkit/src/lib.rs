//! Processes and clients for the tests and benches of Anthill.
//!
//! ```text
//!  test ── Home: a directory, config.json, a store ──▶ Server: the program, its ready line, its log
//!   │                                                     ▲            ▲
//!   ├── Host, Inbox: a hand-made client over TCP and UDP ─┘            │
//!   ├── http: requests, written out ───────────────────────────────────┘
//!   ├── Proxy: a network that fails on demand, in front of Redis
//!   └── Redis: a server on a free port, and its keys as any other program reads them
//!       Sentinels: a master, its replica, and three that watch them; Cluster: primaries and replicas
//! ```
//!
//! Every wait ends with a condition or with [`PATIENCE`], and every process ends with its value.

pub mod agent;
pub mod cluster;
pub mod home;
pub mod host;
pub mod http;
pub mod inbox;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod sentinel;
pub mod server;
pub mod wait;

pub use agent::Agent;
pub use cluster::Cluster;
pub use home::Home;
pub use host::{BEAT, BEAT_ASKING, Host, big, little};
pub use inbox::Inbox;
pub use process::Process;
pub use redis::{Keys, Redis, free_port};
pub use sentinel::Sentinels;
pub use server::{Ended, Log, Server, program, program_path, run};
pub use wait::{PATIENCE, PAUSE, accepted, until, until_or, until_so};
