//! Bytes to messages and back.
//!
//! ```text
//! +----------------------+------------------------+
//! | length: i32, 4 bytes | body: `length` bytes   |
//! +----------------------+------------------------+
//!
//!                         ┌─ '{' ─▶ json ───┐
//!  bytes ─▶ frame ─ body ─┤                 ├─▶ Incoming { message, ask }
//!                         └─ else ▶ slash ──┘
//!                                    └ literal
//!  Reply, Push, Incoming ─▶ write ─▶ frame ─▶ bytes
//!
//!  bytes from a server ─▶ frame ─▶ from_server ─▶ FromServer { Reply | Push }
//! ```
//!
//! Measuring devices speak a protocol of their own, AK; [`ak`] holds all of it.
//!
//! Both ends are here: agents and load generators parse with the same strictness as the server.
//!
//! The codec keeps no state between two calls except a connection's byte order, and allocates nothing
//! for a heartbeat.

pub mod ak;
pub mod error;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod message;
pub mod proxy;
pub mod target;

mod beat;
mod from_server;
mod json;
mod literal;
mod reader;
mod slash;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use error::{Abnormal, DecodeError};
pub use frame::{
    ByteOrder, FrameTooLong, Framing, Order, ServerStep, Step, decode, decode_from_server,
    decode_from_server_sealed, decode_sealed, emit, emit_answer, emit_push, emit_push_sealed,
    emit_sealed, encode, encode_sealed,
};
pub use from_server::decode_push;
pub use json::{decode_body, decode_datagram};
pub use write::signed;
