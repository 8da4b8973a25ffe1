//! Bodies of the fuzz targets.
//!
//! They are library functions, so that ordinary tests run them over their corpus as well as a fuzzer
//! does over what it makes up. A broken rule is a panic.

use super::message::Incoming;
use super::{ByteOrder, DecodeError, Framing, Order, Step, decode, encode};
use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};

/// What a stream came to.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The messages, each as `Debug` prints it: independent of the buffer they were borrowed from.
    pub messages: Vec<String>,
    /// How the stream ended where it is abnormal.
    pub error: Option<DecodeError>,
    /// Bytes behind the last whole frame.
    pub left: usize,
}

/// Reads `stream` as a connection does to which it comes in pieces of `sizes` bytes, over and over
/// (a size of zero counts as one; no sizes at all as one piece).
///
/// # Panics
/// When [`decode`] breaks one of its promises: a need that is no more than what is there, a frame
/// longer than what is there, an error that points outside.
pub fn read_in_pieces(framing: Framing, stream: &[u8], sizes: &[usize]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut order = Order::Unknown;
    let (mut start, mut arrived, mut needed) = (0, 0, 0);
    let mut sizes = sizes.iter().cycle();
    while arrived < stream.len() {
        let size = sizes.next().map_or(stream.len(), |size| (*size).max(1));
        arrived = arrived.saturating_add(size).min(stream.len());
        while arrived - start >= needed && start < arrived {
            let input = &stream[start..arrived];
            match decode(framing, &mut order, input) {
                Ok(Step::Need(bytes)) => {
                    assert!(bytes > input.len(), "needs {bytes}, has {}", input.len());
                    assert!(
                        bytes <= FRAME_HEADER_BYTES + FRAME_BYTES_MAX,
                        "needs {bytes}"
                    );
                    needed = bytes;
                }
                Ok(Step::Got { incoming, used }) => {
                    assert!(
                        FRAME_HEADER_BYTES < used && used <= input.len(),
                        "used {used}"
                    );
                    assert!(used >= needed, "used {used}, but asked for {needed}");
                    outcome.messages.push(format!("{incoming:?}"));
                    start += used;
                    needed = 0;
                }
                Err(error) => {
                    assert!(error.offset <= input.len(), "{error} of {}", input.len());
                    outcome.error = Some(error);
                    outcome.left = stream.len() - start;
                    return outcome;
                }
            }
        }
    }
    outcome.left = stream.len() - start;
    outcome
}

/// Fuzz target `frame`: any split of a stream gives the same messages, and each message it holds
/// is emitted to bytes that parse to the same message again.
///
/// The first two bytes of `data` say the byte order, the limit and where to cut.
///
/// # Panics
/// When that is not so.
pub fn frames(data: &[u8]) {
    let [how, cut, stream @ ..] = data else {
        return;
    };
    let framing = Framing {
        order: match how % 4 {
            0 => ByteOrder::Little,
            1 => ByteOrder::Big,
            _ => ByteOrder::Auto,
        },
        limit: if how & 0x80 == 0 {
            FRAME_BYTES_MAX
        } else {
            512
        },
    };
    let whole = read_in_pieces(framing, stream, &[]);
    for sizes in [
        vec![1],
        vec![usize::from(*cut)],
        vec![usize::from(*cut), 3, usize::from(*how)],
    ] {
        assert_eq!(
            read_in_pieces(framing, stream, &sizes),
            whole,
            "in pieces of {sizes:?}"
        );
    }
    again(framing, stream);
}

/// Fuzz target `body`: a body, alone and in a frame, comes to the same, its error four bytes later.
///
/// # Panics
/// When that is not so.
pub fn body(data: &[u8]) {
    let alone = super::decode_body(data);
    let Ok(length) = u16::try_from(data.len()) else {
        return;
    };
    if data.first() != Some(&b'{') {
        return;
    }
    let mut frame = i32::from(length).to_le_bytes().to_vec();
    frame.extend_from_slice(data);
    let framing = Framing {
        order: ByteOrder::Little,
        limit: FRAME_BYTES_MAX,
    };
    match (decode(framing, &mut Order::Unknown, &frame), alone) {
        (Ok(Step::Got { incoming, .. }), Ok(alone)) => assert_eq!(incoming, alone),
        (Err(framed), Err(alone)) => {
            assert_eq!(
                (framed.kind, framed.offset),
                (alone.kind, alone.offset + FRAME_HEADER_BYTES)
            );
        }
        (framed, alone) => panic!("{framed:?} in a frame, {alone:?} alone"),
    }
}

/// Emits every message of a stream and reads it back.
fn again(framing: Framing, stream: &[u8]) {
    let (mut order, mut rest) = (Order::Unknown, stream);
    while let Ok(Step::Got { incoming, used }) = decode(framing, &mut order, rest) {
        emit_and_parse(&incoming, order);
        rest = &rest[used..];
    }
}

/// Emits a message and reads it back: it is the same, and nothing is left.
///
/// # Panics
/// When that is not so.
pub fn emit_and_parse(incoming: &Incoming<'_>, order: Order) {
    let mut frame = Vec::new();
    // Text may grow by its escapes.
    if encode(incoming, order, &mut frame).is_err() {
        assert!(frame.is_empty(), "what did not fit was taken back");
        return;
    }
    let framing = Framing {
        order: ByteOrder::Auto,
        limit: FRAME_BYTES_MAX,
    };
    let mut found = Order::Unknown;
    match decode(framing, &mut found, &frame) {
        Ok(Step::Got {
            incoming: read,
            used,
        }) => {
            assert_eq!(&read, incoming);
            assert_eq!(used, frame.len());
        }
        other => panic!("{incoming:?} was read back as {other:?}"),
    }
}
