//! The built program from outside: real sockets, a real Redis, real signals.
//!
//! Everything waits for a condition with a deadline, and ends only what it started.

#![cfg(feature = "cli")]

mod support;

mod abnormal;
mod agent;
mod agent_server;
mod ak;
mod balancer;
mod bench;
mod bench_ends;
mod both_killed;
mod cli;
mod crash;
mod crowd;
mod dispatch;
mod dispatch_faults;
mod doctor;
mod faults;
mod frames;
mod groups;
mod history;
mod http;
#[cfg(feature = "tls")]
mod http_tls;
mod keys;
mod labels;
mod many_hosts;
mod names;
mod node_console;
mod node_controls;
mod node_polls;
mod node_reads;
mod node_tasks;
mod nodes;
mod notify;
mod outage;
mod page;
mod presence;
mod reach;
mod redis_groups;
mod restart;
mod rollouts;
mod signals;
mod spool;
mod stalls;
mod store_away;
mod store_limits;
mod storm;
mod systemd;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
#[cfg(all(feature = "tls", feature = "embedded"))]
mod tls_agent;
#[cfg(feature = "tls")]
mod tls_store;
mod tokens;
mod usage;
