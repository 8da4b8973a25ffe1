//! What travels.
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
//!  Reply, Incoming ─▶ write ─▶ frame ─▶ bytes
//! ```
//!
//! Nothing here knows who is reading, keeps anything between two calls but a connection's byte
//! order, or allocates for a heartbeat.

pub mod error;
pub mod frame;
pub mod fuzzing;
pub mod message;

mod json;
mod literal;
mod reader;
mod slash;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use error::{Abnormal, DecodeError};
pub use frame::{ByteOrder, FrameTooLong, Framing, Order, Step, decode, emit, encode};
pub use json::decode_body;
