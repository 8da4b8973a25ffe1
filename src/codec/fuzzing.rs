//! Bodies of the fuzz targets.
//!
//! They are library functions, so that ordinary tests run them over their corpus as well as a fuzzer
//! over generated input. A broken rule is a panic.

use super::message::{FromServer, Incoming, Word};
use super::{
    ByteOrder, DecodeError, Framing, Order, ServerStep, Step, ak, decode, decode_from_server,
};
use super::{emit, emit_push, encode};
use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, REFUSAL_CHARS_MAX};

/// Result of parsing a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The messages, each as `Debug` prints it: independent of the buffer they were borrowed from.
    pub messages: Vec<String>,
    /// The error at its end, if it is abnormal.
    pub error: Option<DecodeError>,
    /// Bytes behind the last whole frame.
    pub left: usize,
}

/// Parses `stream` like a connection that receives it in pieces of `sizes` bytes, repeatedly (a
/// size of zero counts as one; no sizes mean one piece).
///
/// # Panics
/// When [`decode`] violates a guarantee: a need that is not more than the available bytes, a frame
/// longer than the available bytes, or an error with a position outside of them.
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

/// Fuzz target `frame`: any split of a stream gives the same messages, and each message
/// is emitted to bytes that parse to the same message again.
///
/// The first two bytes of `data` select the byte order, the limit and the split.
///
/// # Panics
/// When that does not hold.
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

/// Fuzz target `body`: a body gives the same result alone and in a frame, with its error four bytes later.
///
/// # Panics
/// When that does not hold.
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

/// Fuzz target `slash`: slash text, its length counted in bytes and in characters; any split gives the
/// same result.
///
/// The first byte of `data` selects the split.
///
/// # Panics
/// When that does not hold.
pub fn slash(data: &[u8]) {
    let [cut, body @ ..] = data else {
        return;
    };
    let characters = String::from_utf8_lossy(body).chars().count();
    for length in [body.len(), characters] {
        let Ok(length) = u16::try_from(length) else {
            return;
        };
        let mut stream = i32::from(length).to_le_bytes().to_vec();
        stream.extend_from_slice(body);
        let framing = Framing {
            order: ByteOrder::Little,
            limit: FRAME_BYTES_MAX,
        };
        let whole = read_in_pieces(framing, &stream, &[]);
        let cuts = [1 + usize::from(*cut), 2];
        assert_eq!(read_in_pieces(framing, &stream, &cuts), whole);
        again(framing, &stream);
    }
}

/// Fuzz target `datagram`: a body without a frame is parsed or refused, and a parsed message is emitted
/// to a frame that parses to the same message.
///
/// # Panics
/// When that does not hold.
pub fn datagram(data: &[u8]) {
    match super::decode_body(data) {
        Ok(incoming) => emit_and_parse(&incoming, Order::Little),
        Err(error) => assert!(error.offset <= data.len(), "{error} of {}", data.len()),
    }
}

/// Fuzz target `from_server`: any beginning of a frame gives the same result as all of it or asks for
/// more, and a parsed message is emitted to bytes that parse to it again.
///
/// # Panics
/// When that does not hold.
pub fn from_server(data: &[u8]) {
    let framing = Framing {
        order: ByteOrder::Auto,
        limit: FRAME_BYTES_MAX,
    };
    let (mut order, mut rest) = (Order::Unknown, data);
    loop {
        let before = order;
        let step = decode_from_server(framing, &mut order, rest);
        for end in [0, 3, 4, 5, rest.len() / 2, rest.len().saturating_sub(1)] {
            let Some(cut) = rest.get(..end) else { continue };
            match decode_from_server(framing, &mut before.clone(), cut) {
                Ok(ServerStep::Need(bytes)) => assert!(bytes > end, "needs {bytes}, has {end}"),
                short => assert_eq!(short, step, "{end} of {} bytes", rest.len()),
            }
        }
        match step {
            Ok(ServerStep::Got { content, used }) => {
                say_and_read(&content, order);
                rest = &rest[used..];
            }
            Ok(ServerStep::Need(bytes)) => {
                assert!(bytes > rest.len(), "needs {bytes}, has {}", rest.len());
                return;
            }
            Err(error) => {
                assert!(error.offset <= rest.len(), "{error} of {}", rest.len());
                return;
            }
        }
    }
}

/// Emits a server's message and parses it again: it is equal, and no bytes are left. Exceptions: a task
/// book that does not fit a frame is refused, and a reason that is too long is cut.
///
/// # Panics
/// When that does not hold.
pub fn say_and_read(content: &FromServer<'_>, order: Order) {
    let mut frame = Vec::new();
    match content {
        FromServer::Reply(reply) => emit(reply, order, &mut frame),
        FromServer::Push(push) => {
            if emit_push(push, order, &mut frame).is_err() {
                assert!(frame.is_empty(), "what did not fit was taken back");
                return;
            }
        }
    }
    let framing = Framing {
        order: ByteOrder::Auto,
        limit: FRAME_BYTES_MAX,
    };
    match decode_from_server(framing, &mut Order::Unknown, &frame) {
        Ok(ServerStep::Got {
            content: read,
            used,
        }) => {
            assert_eq!(used, frame.len());
            assert!(
                is_same(&read, content),
                "{content:?} was read back as {read:?}"
            );
        }
        other => panic!("{content:?} was read back as {other:?}"),
    }
}

/// Returns whether the parsed message equals the sent one, or is the replacement of one that is too
/// long.
fn is_same(read: &FromServer<'_>, content: &FromServer<'_>) -> bool {
    let (FromServer::Reply(one), FromServer::Reply(other)) = (read, content) else {
        return read == content;
    };
    let words = match (&one.word, &other.word) {
        (Word::Refused(read), Word::Refused(content)) => {
            read.chars().eq(content.chars().take(REFUSAL_CHARS_MAX))
        }
        (Word::Refused(_), Word::Book { task, commands }) => {
            // An escape has six bytes at most, a number and its brackets fewer than forty.
            let texts = commands.iter().map(|(command, _)| 6 * command.len() + 40);
            6 * task.len() + texts.sum::<usize>() > FRAME_BYTES_MAX / 2
        }
        (read, content) => read == content,
    };
    words && (one.flag, one.seq) == (other.flag, other.seq)
}

/// Emits every message of a stream and reads it back.
fn again(framing: Framing, stream: &[u8]) {
    let (mut order, mut rest) = (Order::Unknown, stream);
    while let Ok(Step::Got { incoming, used }) = decode(framing, &mut order, rest) {
        emit_and_parse(&incoming, order);
        rest = &rest[used..];
    }
}

/// Emits a message and parses it again: it is equal, and no bytes are left.
///
/// # Panics
/// When that does not hold.
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

/// Parses `stream` as a device's, in pieces of `sizes` bytes, repeatedly (zero counts as one; none
/// mean one piece). Returns the result as `Debug` prints it.
#[must_use]
pub fn ak_in_pieces(stream: &[u8], sizes: &[usize]) -> Vec<String> {
    let mut parser = ak::Parser::default();
    let mut sizes = sizes.iter().cycle();
    let (mut found, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| (*size).max(1));
        let (mut piece, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        loop {
            match parser.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(frame)) => found.push(format!("{frame:?} {:?}", frame.reply())),
                Err(error) => {
                    found.push(error.to_string());
                    return found;
                }
            }
        }
    }
    found
}

/// Parses any bytes as a device's stream: every split gives the same result, and a parsed reply is
/// emitted to bytes that parse to it again. The first byte selects the split.
///
/// # Panics
/// When that does not hold.
pub fn ak(data: &[u8]) {
    let [cut, stream @ ..] = data else {
        return;
    };
    let whole = ak_in_pieces(stream, &[]);
    assert_eq!(ak_in_pieces(stream, &[usize::from(*cut)]), whole);
    let (mut parser, mut rest) = (ak::Parser::default(), stream);
    while let Ok(Some(frame)) = parser.next(&mut rest) {
        let Ok(reply) = frame.reply() else {
            continue;
        };
        let _ = (ak::Refusal::of(&reply), ak::Request::parse(frame.bytes));
        let Some(status) = reply.status else {
            continue;
        };
        let mut out = Vec::new();
        ak::emit_reply(reply.filler, reply.code, status, reply.data, &mut out);
        let mut again = ak::Parser::default();
        let read = again.next(&mut &out[..]);
        let read = read.ok().flatten().and_then(|frame| frame.reply().ok());
        assert_eq!(read, Some(reply));
    }
}
