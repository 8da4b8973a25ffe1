//! Anthill knows which machines of a fleet are alive, and gets work done on them.
//!
//! ```text
//!              bytes, now        message           effects
//!  sockets ──▶ reactor ──▶ codec ──▶ handlers ──▶ reactor ──▶ replies, deadlines
//!                                                 │    ▲
//!                                      operations ▼    │ outcomes, one wake
//!                                            bounded mailbox ◀──▶ store thread ◀──▶ Redis or files
//! ```
//!
//! Rooms, in reading order: [`time`], [`ids`], [`limits`]; [`codec`] (what travels); [`store::op`]
//! (what is written); [`handlers`] (what it means).

pub mod codec;
pub mod handlers;
pub mod ids;
pub mod limits;
pub mod store;
pub mod time;
pub mod wheel;
