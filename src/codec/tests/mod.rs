//! The codec as a whole.

mod bounds;
mod golden;
mod properties;
mod server;

use super::*;
use crate::limits::FRAME_BYTES_MAX;

const AUTO: Framing = Framing {
    order: ByteOrder::Auto,
    limit: FRAME_BYTES_MAX,
};

fn frame(length: usize, body: &[u8]) -> Vec<u8> {
    let mut frame = (length as i32).to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn step(input: &[u8]) -> Result<Step<'_>, DecodeError> {
    decode(AUTO, &mut Order::Unknown, input)
}
