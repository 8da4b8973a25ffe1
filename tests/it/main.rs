//! The built program from outside: real sockets, a real Redis, real signals.
//!
//! ```text
//!  test ── Home: a directory, config.json, a store ──▶ Server: the program, its ready line, its log
//!   │                                                     ▲            ▲
//!   ├── Host: a hand-made client from 127.0.0.x ──────────┘            │
//!   ├── http: requests, written out ───────────────────────────────────┘
//!   └── Redis: what any other program would read there
//! ```
//!
//! Everything waits for a condition with a deadline, and ends only what it started.

#![cfg(feature = "cli")]

mod support;

mod abnormal;
mod agent;
mod ak;
mod bench;
mod bench_ends;
mod both_killed;
mod crash;
mod crowd;
mod dispatch;
mod dispatch_faults;
mod faults;
mod frames;
mod http;
mod keys;
mod many_hosts;
mod names;
mod old_fleet;
mod outage;
mod presence;
mod reach;
mod restart;
mod signals;
mod spool;
mod stalls;
mod store_away;
mod store_limits;
mod storm;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
#[cfg(all(feature = "tls", feature = "embedded"))]
mod tls_agent;
#[cfg(feature = "tls")]
mod tls_store;
mod usage;
