//! Frames: bytes to a complete frame, a partial frame or an error; messages to bytes.
//!
//! The result for a frame depends on its own bytes alone, never on the sizes of the reads. For
//! slash text beyond ASCII the header does not determine the length of the frame. There the parser
//! works in steps, and each step reads exactly the bytes that the previous step requested.

use byteorder::{BigEndian, ByteOrder as _, LittleEndian};

use super::error::{Abnormal, DecodeError};
use super::message::{Answer, FromServer, Incoming, Message, Push, Reply, ReplyRequest, Word};
use super::{from_server, json, slash, write};
use crate::keys::{Open, Seal, TAG_BYTES};
use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use crate::time::UnixMs;

/// Configured byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteOrder {
    /// The first length of each connection decides.
    #[default]
    Auto,
    /// Little-endian.
    Little,
    /// Big-endian.
    Big,
}

/// Byte order of one connection. One byte per connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// No length has arrived yet.
    #[default]
    Unknown,
    /// Little-endian.
    Little,
    /// Big-endian.
    Big,
}

/// Framing rules that all connections share.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// Configured byte order.
    pub order: ByteOrder,
    /// The longest body, in bytes.
    pub limit: usize,
}

/// Result of parsing a connection's bytes from the end of the last frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    /// Partial frame: parsing needs at least this number of bytes in all.
    Need(usize),
    /// A frame of `used` bytes, including its header.
    Got {
        /// Its message.
        incoming: Incoming<'a>,
        /// Length of the frame in bytes.
        used: usize,
    },
}

/// Result of parsing a server's bytes from the end of the last frame.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerStep<'a> {
    /// Partial frame: parsing needs at least this number of bytes in all.
    Need(usize),
    /// A frame of `used` bytes, including its header.
    Got {
        /// Its content.
        content: FromServer<'a>,
        /// Length of the frame in bytes.
        used: usize,
    },
}

/// Parses the first frame of `input`.
///
/// `order` belongs to the connection and is detected from its first length.
///
/// # Errors
/// When the bytes are abnormal data, regardless of later bytes. A length is checked as soon as it
/// has arrived.
pub fn decode<'a>(
    framing: Framing,
    order: &mut Order,
    input: &'a [u8],
) -> Result<Step<'a>, DecodeError> {
    let Some((header, rest)) = input.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(Step::Need(FRAME_HEADER_BYTES));
    };
    let length = length(framing, order, *header)?;
    let Some(body) = rest.get(..length) else {
        return Ok(Step::Need(FRAME_HEADER_BYTES + length));
    };
    let step = if body.first() == Some(&b'{') {
        json::decode_body(body).map(|incoming| Step::Got {
            incoming,
            used: length,
        })
    } else if body.is_ascii() {
        slash_text(body).map(|message| got(message, length))
    } else {
        slash_beyond_ascii(rest, length)
    };
    let step =
        step.map_err(|error| DecodeError::new(error.kind, error.offset + FRAME_HEADER_BYTES))?;
    Ok(match step {
        Step::Need(bytes) => Step::Need(bytes + FRAME_HEADER_BYTES),
        Step::Got { incoming, used } => Step::Got {
            incoming,
            used: used + FRAME_HEADER_BYTES,
        },
    })
}

/// Parses the first frame of `input` from a server: the counterpart of [`decode`], with the same
/// strictness. All frames of a server have JSON bodies.
///
/// # Errors
/// When the bytes are abnormal data, regardless of later bytes.
pub fn decode_from_server<'a>(
    framing: Framing,
    order: &mut Order,
    input: &'a [u8],
) -> Result<ServerStep<'a>, DecodeError> {
    let Some((header, rest)) = input.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(ServerStep::Need(FRAME_HEADER_BYTES));
    };
    let used = FRAME_HEADER_BYTES + length(framing, order, *header)?;
    let Some(body) = rest.get(..used - FRAME_HEADER_BYTES) else {
        return Ok(ServerStep::Need(used));
    };
    let content = from_server::decode_body(body);
    content
        .map(|content| ServerStep::Got { content, used })
        .map_err(|error| DecodeError::new(error.kind, error.offset + FRAME_HEADER_BYTES))
}

/// Parses the first frame of `input`, which must end in its tag. The tag is checked before anything
/// else is parsed. The length counts the tag.
///
/// # Errors
/// When the tag is wrong, or the bytes are abnormal data.
pub fn decode_sealed<'a>(
    framing: Framing,
    order: &mut Order,
    open: &Open,
    input: &'a [u8],
) -> Result<Step<'a>, DecodeError> {
    let (body, used) = match opened(framing, order, open, input)? {
        Ok(body) => (body, body.len() + TAG_BYTES + FRAME_HEADER_BYTES),
        Err(need) => return Ok(Step::Need(need)),
    };
    let step = match body.first() {
        Some(b'{') => json::decode_body(body).map(|incoming| Step::Got { incoming, used }),
        _ => slash_text(body).map(|message| got(message, used)),
    };
    step.map_err(|error| DecodeError::new(error.kind, error.offset + FRAME_HEADER_BYTES))
}

/// Parses a tagged frame from a server.
///
/// # Errors
/// When the tag is wrong, or the bytes are abnormal data.
pub fn decode_from_server_sealed<'a>(
    framing: Framing,
    order: &mut Order,
    open: &Open,
    input: &'a [u8],
) -> Result<ServerStep<'a>, DecodeError> {
    let body = match opened(framing, order, open, input)? {
        Ok(body) => body,
        Err(need) => return Ok(ServerStep::Need(need)),
    };
    let used = body.len() + TAG_BYTES + FRAME_HEADER_BYTES;
    let content = from_server::decode_body(body);
    content
        .map(|content| ServerStep::Got { content, used })
        .map_err(|error| DecodeError::new(error.kind, error.offset + FRAME_HEADER_BYTES))
}

/// Returns the body of the first frame, or the number of bytes needed in all.
fn opened<'a>(
    framing: Framing,
    order: &mut Order,
    open: &Open,
    input: &'a [u8],
) -> Result<Result<&'a [u8], usize>, DecodeError> {
    let Some((header, rest)) = input.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(Err(FRAME_HEADER_BYTES));
    };
    let length = length(framing, order, *header)?;
    let Some(tagged) = rest.get(..length) else {
        return Ok(Err(FRAME_HEADER_BYTES + length));
    };
    match open.body(tagged) {
        Some(body) => Ok(Ok(body)),
        None => Err(DecodeError::new(Abnormal::Tag, FRAME_HEADER_BYTES)),
    }
}

/// The length of the body that a header announces.
fn length(
    framing: Framing,
    order: &mut Order,
    header: [u8; FRAME_HEADER_BYTES],
) -> Result<usize, DecodeError> {
    let (little, big) = (
        LittleEndian::read_i32(&header),
        BigEndian::read_i32(&header),
    );
    let within = |length: i32, limit: usize| {
        usize::try_from(length)
            .ok()
            .filter(|length| (1..=limit).contains(length))
    };
    if *order == Order::Unknown {
        // At most one byte order gives a valid length: for both, all four bytes would have to be
        // zero.
        *order = match framing.order {
            ByteOrder::Little => Order::Little,
            ByteOrder::Big => Order::Big,
            ByteOrder::Auto if within(big, FRAME_BYTES_MAX).is_some() => Order::Big,
            ByteOrder::Auto => Order::Little,
        };
    }
    let read = if *order == Order::Big { big } else { little };
    let limit = framing.limit.min(FRAME_BYTES_MAX);
    within(read, limit).ok_or_else(|| DecodeError::new(Abnormal::Length(read, limit), 0))
}

fn got(message: Message<'_>, used: usize) -> Step<'_> {
    let ask = ReplyRequest::default();
    Step::Got {
        incoming: Incoming { message, ask },
        used,
    }
}

fn slash_text(body: &[u8]) -> Result<Message<'_>, DecodeError> {
    slash::parse(str::from_utf8(body).map_err(|error| not_utf8(error.valid_up_to()))?)
}

fn not_utf8(offset: usize) -> DecodeError {
    DecodeError::new(Abnormal::Utf8, offset)
}

/// Parses slash text with characters beyond ASCII. The old client counted characters instead of
/// bytes. If the first `length` bytes are a whole message they are the frame; otherwise `length`
/// counts characters.
fn slash_beyond_ascii(bytes: &[u8], length: usize) -> Result<Step<'_>, DecodeError> {
    let body = &bytes[..length];
    let whole = Characters::of(body, 0)?;
    // A wrong code or word is reported at once: more bytes would not correct it.
    slash::check_head(str::from_utf8(&body[..whole.bytes]).unwrap_or_default())?;
    if whole.bytes == length
        && let Ok(message) = slash_text(body)
    {
        return Ok(got(message, length));
    }
    let end = end_of_characters(bytes, length)?;
    let Some(body) = bytes.get(..end) else {
        return Ok(Step::Need(end));
    };
    slash_text(body).map(|message| got(message, end))
}

/// Returns the byte length of the first `length` characters of `bytes`, or, if some are missing,
/// the least length they can have.
fn end_of_characters(bytes: &[u8], length: usize) -> Result<usize, DecodeError> {
    let mut done = 0;
    let mut missing = length;
    let mut reach = length;
    while let Some(piece) = bytes.get(done..reach) {
        let seen = Characters::of(piece, done)?;
        done += seen.bytes;
        missing -= seen.count;
        if missing == 0 {
            return Ok(done);
        }
        // A cut character has the width that its first byte announces, and each missing character
        // has at least one byte. The next read therefore never holds more characters than are
        // missing.
        reach = done + seen.cut_width.max(1) + missing - 1;
        if reach > FRAME_BYTES_MAX {
            let reach = i32::try_from(reach).unwrap_or(i32::MAX);
            return Err(DecodeError::new(
                Abnormal::Length(reach, FRAME_BYTES_MAX),
                0,
            ));
        }
    }
    Ok(reach)
}

/// Characters at the beginning of some bytes.
struct Characters {
    /// Number of whole characters.
    count: usize,
    /// Their length in bytes.
    bytes: usize,
    /// Full width of the cut character behind them; 0 if there is no cut.
    cut_width: usize,
}

impl Characters {
    /// Counts the characters of `piece`, which begins at `offset` of the body.
    fn of(piece: &[u8], offset: usize) -> Result<Self, DecodeError> {
        let (bytes, is_cut) = match str::from_utf8(piece) {
            Ok(text) => (text.len(), false),
            Err(error) if error.error_len().is_none() => (error.valid_up_to(), true),
            Err(error) => return Err(not_utf8(offset + error.valid_up_to())),
        };
        let (whole, cut) = piece.split_at(bytes);
        let cut_width = match cut.first() {
            Some(0xF0..) if is_cut => 4,
            Some(0xE0..) if is_cut => 3,
            Some(_) if is_cut => 2,
            _ => 0,
        };
        let is_first_byte = |byte: &&u8| !(0x80..0xC0).contains(*byte);
        let count = whole.iter().filter(is_first_byte).count();
        Ok(Self {
            count,
            bytes,
            cut_width,
        })
    }
}

/// A message that does not fit a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body of {0} bytes does not fit a frame of {FRAME_BYTES_MAX}")]
pub struct FrameTooLong(pub usize);

/// Appends `reply` as one frame in a connection's byte order (little-endian if it is not detected
/// yet). A reason that is too long is cut, and a task book that does not fit is replaced by a
/// refusal: a reply is never longer than a frame.
pub fn emit(reply: &Reply, order: Order, out: &mut Vec<u8>) {
    emit_sealed(reply, order, None, out);
}

/// Appends a reply, with a tag behind the body if there is a seal.
pub fn emit_sealed(reply: &Reply, order: Order, mut seal: Option<&mut Seal>, out: &mut Vec<u8>) {
    let start = begin(out);
    write::reply(reply, out);
    if let Err(error) = end_if_it_fits(start, order, seal.as_deref_mut(), out) {
        let (flag, seq) = (reply.flag, reply.seq);
        let word = Word::Refused(error.to_string());
        let start = begin(out);
        write::reply(&Reply { flag, seq, word }, out);
        end(start, order, seal, out);
    }
}

/// Appends `push` as one frame in a connection's byte order (little-endian if it is not detected
/// yet).
///
/// # Errors
/// When it is longer than a frame may be; `out` is then unchanged.
pub fn emit_push(push: &Push<'_>, order: Order, out: &mut Vec<u8>) -> Result<(), FrameTooLong> {
    emit_push_sealed(push, order, None, out)
}

/// Appends a push, with a tag behind the body if there is a seal.
///
/// # Errors
/// When it is longer than a frame may be; `out` is then unchanged.
pub fn emit_push_sealed(
    push: &Push<'_>,
    order: Order,
    seal: Option<&mut Seal>,
    out: &mut Vec<u8>,
) -> Result<(), FrameTooLong> {
    let start = begin(out);
    write::push(push, out);
    end_if_it_fits(start, order, seal, out)
}

/// Appends a host's message as one frame with a JSON body.
///
/// # Errors
/// When it is longer than a frame may be; `out` is then unchanged.
pub fn encode(
    incoming: &Incoming<'_>,
    order: Order,
    out: &mut Vec<u8>,
) -> Result<(), FrameTooLong> {
    encode_sealed(incoming, order, None, out)
}

/// Appends a host's message, with a tag behind the body if there is a seal.
///
/// # Errors
/// When it is longer than a frame may be; `out` is then unchanged.
pub fn encode_sealed(
    incoming: &Incoming<'_>,
    order: Order,
    seal: Option<&mut Seal>,
    out: &mut Vec<u8>,
) -> Result<(), FrameTooLong> {
    let start = begin(out);
    write::incoming(incoming, out);
    end_if_it_fits(start, order, seal, out)
}

/// Appends an answer to a dispatch with its time. The server checks the time and does not keep it,
/// so it is not part of [`Answer`].
///
/// # Errors
/// When it is longer than a frame may be; `out` is then unchanged.
pub fn emit_answer(
    answer: &Answer<'_>,
    at: UnixMs,
    order: Order,
    seal: Option<&mut Seal>,
    out: &mut Vec<u8>,
) -> Result<(), FrameTooLong> {
    let start = begin(out);
    write::timed_answer(answer, at, out);
    end_if_it_fits(start, order, seal, out)
}

/// Reserves room for a header and returns its position.
fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    start
}

/// Writes the header at `start`, unless the body is too long: then both are removed again.
fn end_if_it_fits(
    start: usize,
    order: Order,
    seal: Option<&mut Seal>,
    out: &mut Vec<u8>,
) -> Result<(), FrameTooLong> {
    let tag = if seal.is_some() { TAG_BYTES } else { 0 };
    let length = out.len() - start - FRAME_HEADER_BYTES + tag;
    if length > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(FrameTooLong(length));
    }
    end(start, order, seal, out);
    Ok(())
}

/// Writes the header at `start`, and the tag if there is a seal, after the body is complete.
fn end(start: usize, order: Order, seal: Option<&mut Seal>, out: &mut Vec<u8>) {
    if let Some(seal) = seal {
        let tag = seal.tag(&out[start + FRAME_HEADER_BYTES..]);
        out.extend_from_slice(&tag);
    }
    let length = out.len() - start - FRAME_HEADER_BYTES;
    // At most a frame's 65,535 bytes: it fits.
    let length = length as i32;
    let header = &mut out[start..start + FRAME_HEADER_BYTES];
    match order {
        Order::Little | Order::Unknown => LittleEndian::write_i32(header, length),
        Order::Big => BigEndian::write_i32(header, length),
    }
}
