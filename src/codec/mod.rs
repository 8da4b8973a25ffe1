//! What travels.
//!
//! ```text
//! +----------------------+------------------------+
//! | length: i32, 4 bytes | body: `length` bytes   |
//! +----------------------+------------------------+
//! ```

pub mod error;
pub mod frame;
pub mod message;

pub use error::{Abnormal, DecodeError};
pub use frame::{ByteOrder, Framing, Order, Step, decode, emit};
