//! The older fleet in front of the built program and a real Redis: its captured messages, and its client
//! acted out.

#![cfg(feature = "cli")]

mod client;
mod paced_client;
mod support;

mod captured;
mod fleet;
mod tasks;
