//! The sockets and the turn.

pub mod web;
