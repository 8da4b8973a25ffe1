//! Bytes → complete, partial or abnormal.

use super::error::DecodeError;
use super::message::{Incoming, Reply};

/// The byte order the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteOrder {
    /// The first length of each connection decides.
    #[default]
    Auto,
    /// Little-endian, whatever comes.
    Little,
    /// Big-endian, whatever comes.
    Big,
}

/// The byte order of one connection, as far as it is known. One byte a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// No length has come yet.
    #[default]
    Unknown,
    /// Little-endian.
    Little,
    /// Big-endian.
    Big,
}

/// What all connections share: how their frames are to be read.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// The order asked for.
    pub order: ByteOrder,
    /// The longest body, in bytes.
    pub limit: usize,
}

/// What the bytes of a connection come to, read from where the last frame ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    /// Not a whole frame yet: nothing can be said before there are at least so many bytes in all.
    Need(usize),
    /// A frame of `used` bytes, header included.
    Got {
        /// The message in it.
        incoming: Incoming<'a>,
        /// How many bytes it took.
        used: usize,
    },
}

/// Takes the first frame off `input`.
///
/// # Errors
/// When the bytes are abnormal data, whatever may follow them.
pub fn decode<'a>(
    _framing: Framing,
    _order: &mut Order,
    _input: &'a [u8],
) -> Result<Step<'a>, DecodeError> {
    Ok(Step::Need(4))
}

/// Appends `reply` as one frame in a connection's byte order (little-endian where none is known).
pub fn emit(_reply: &Reply, _order: Order, _out: &mut Vec<u8>) {}
