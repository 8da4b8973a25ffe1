//! AK, the protocol of measuring devices: a request is sent and a reply returns, each between two
//! marks.
//!
//! ```text
//!  request  STX  X  C C C C  ' '  'K' channel  [' ' data]  ETX
//!  reply    STX  X  C C C C  ' '  S            [' ' data]  ETX
//! ```
//!
//! There is no length and no checksum, so a reply is found by its marks only. Every STX begins a
//! new frame. Bytes before it, and bytes after an ETX (mostly a CR), are noise and dropped. Within
//! a reply all bytes count, including CR and LF. Replies have no number: the caller decides whether
//! a reply belongs to a request, from the number of STX bytes before it.

use std::borrow::Cow;
use std::fmt;

use crate::limits::{AK_NOISE_BYTES_MAX, AK_REPLY_BYTES_MAX};

/// First byte of a message.
pub const STX: u8 = 0x02;
/// Last byte of a message.
pub const ETX: u8 = 0x03;
/// The code in a reply to an unknown or unreadable request.
pub const UNKNOWN: [u8; 4] = *b"????";

/// Length of filler, code, blank and status, which every reply has between its marks.
const REPLY_BYTES_MIN: usize = 7;
const FILLER: usize = 0;
const CODE: usize = 1;
const BLANK: usize = 5;
const STATUS: usize = 6;
/// Length of a refusing word.
const REFUSAL_BYTES: usize = 2;

/// A function code: a capital letter, then three capital letters or digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code([u8; 4]);

impl Code {
    /// Request for the current errors.
    pub const ASTF: Self = Self(*b"ASTF");

    /// `text` as a code, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 4] = text.as_bytes().try_into().ok()?;
        let rest = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        (code[0].is_ascii_uppercase() && code.iter().all(rest)).then_some(Self(code))
    }

    /// Returns whether the code changes the device rather than reading it.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self.0[0], b'S' | b'E')
    }

    /// Its four bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // A code has ASCII characters only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Appends the request for `code` on `channel`, without data.
pub fn emit_request(filler: u8, code: Code, channel: u32, out: &mut Vec<u8>) {
    out.extend([STX, filler]);
    out.extend(code.0);
    out.extend_from_slice(format!(" K{channel}").as_bytes());
    out.push(ETX);
}

/// Appends a reply, as a device sends it. Empty `data` is left out.
pub fn emit_reply(filler: u8, code: [u8; 4], status: u8, data: &[u8], out: &mut Vec<u8>) {
    out.extend([STX, filler]);
    out.extend(code);
    out.extend([b' ', b'0' + status.min(9)]);
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(ETX);
}

/// A request, as a device reads it between its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The function code, unchecked.
    pub code: [u8; 4],
    /// The channel: digits.
    pub channel: &'a [u8],
    /// The data, without the blank in front.
    pub data: &'a [u8],
}

impl<'a> Request<'a> {
    /// Parses a request from `frame`.
    #[must_use]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let code = *frame.get(CODE..)?.first_chunk()?;
        let rest = frame.get(BLANK..)?.strip_prefix(b" K")?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (channel, rest) = rest.split_at(digits);
        let data = match rest {
            [] => rest,
            [b' ', data @ ..] => data,
            _ => return None,
        };
        (digits > 0).then_some(Self {
            code,
            channel,
            data,
        })
    }
}

/// A device's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The byte after STX, without a meaning.
    pub filler: u8,
    /// The code of its request, unchecked; [`UNKNOWN`] if the device could not read it.
    pub code: [u8; 4],
    /// The error status, 0 to 9. It is no count: it takes another digit at each change. `None` in a
    /// refusal without a status.
    pub status: Option<u8>,
    /// The data, without the blank in front.
    pub data: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The reply between two marks. Data need a blank on either side of the status, since their
    /// digits could be taken for it. A refusal is also read without these blanks.
    fn parse(frame: &'a [u8]) -> Option<Self> {
        Self::spaced(frame).or_else(|| Self::glued(frame))
    }

    fn spaced(frame: &'a [u8]) -> Option<Self> {
        if frame.len() < REPLY_BYTES_MIN || frame[BLANK] != b' ' {
            return None;
        }
        let status = digit(frame[STATUS])?;
        let data = match &frame[REPLY_BYTES_MIN..] {
            [] => &[],
            [b' ', data @ ..] => data,
            _ => return None,
        };
        Some(Self {
            filler: frame[FILLER],
            code: *frame[CODE..].first_chunk()?,
            status: Some(status),
            data,
        })
    }

    /// A refusal without a blank between its word and the status, channel or code, or without a
    /// status: `0BS`, `0K0BS`, `K0BS`, `BS`. A reply to an unreadable request is a refusal,
    /// whatever follows its code.
    fn glued(frame: &'a [u8]) -> Option<Self> {
        let code = *frame.get(CODE..)?.first_chunk()?;
        let rest = frame[BLANK..].trim_ascii_start();
        let status = rest.first().and_then(|byte| digit(*byte));
        let data = if status.is_some() { &rest[1..] } else { rest };
        let reply = Self {
            filler: frame[FILLER],
            code,
            status,
            data: data.trim_ascii_start(),
        };
        Refusal::of(&reply).is_some().then_some(reply)
    }

    /// The data as text; what is not UTF-8 is U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.data)
    }
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

/// Reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `BS`: it is busy.
    Busy,
    /// `SE`: the request's syntax is wrong.
    Syntax,
    /// `DF`: the request's data are wrong.
    Data,
    /// `OF`: it is not in remote mode.
    Offline,
    /// `NA`: the device has no such value.
    Missing,
    /// `????`: the device does not know the code, or could not read it.
    Unknown,
}

impl Refusal {
    /// The refusing word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "BS",
            Self::Syntax => "SE",
            Self::Data => "DF",
            Self::Offline => "OF",
            Self::Missing => "NA",
            Self::Unknown => "????",
        }
    }

    /// The refusal of a reply, if it is one. The word is first, or follows a channel, with or
    /// without a blank between them (`BS`, `K0 BS`, `K0BS`). `NA` refuses only if it stands alone:
    /// among values it marks a missing one.
    #[must_use]
    pub fn of(reply: &Reply<'_>) -> Option<Self> {
        if reply.code == UNKNOWN {
            return Some(Self::Unknown);
        }
        let mut words = words(reply.data).flat_map(Told);
        match words.next()?? {
            Self::Missing if words.any(|word| word.is_none()) => None,
            refusal => Some(refusal),
        }
    }

    fn from_word(word: &[u8]) -> Option<Self> {
        match word {
            b"BS" => Some(Self::Busy),
            b"SE" => Some(Self::Syntax),
            b"DF" => Some(Self::Data),
            b"OF" => Some(Self::Offline),
            b"NA" => Some(Self::Missing),
            _ => None,
        }
    }
}

/// The refusals in a word; `None` for other words. A system names the channel before each of its
/// analyzers, and some omit the blanks: `K0OF`, `K0BSK1NA`.
struct Told<'a>(&'a [u8]);

impl Iterator for Told<'_> {
    type Item = Option<Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let word = behind_channel(self.0);
        if word.is_empty() {
            return None;
        }
        let (first, rest) = word.split_at(word.len().min(REFUSAL_BYTES));
        let is_whole = rest.is_empty() || behind_channel(rest).len() < rest.len();
        let refusal = Refusal::from_word(first).filter(|_| is_whole);
        self.0 = if refusal.is_some() { rest } else { &[] };
        Some(refusal)
    }
}

/// A word without its channel (`K` and digits); empty if nothing follows.
fn behind_channel(word: &[u8]) -> &[u8] {
    let Some(rest) = word.strip_prefix(b"K") else {
        return word;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { word } else { &rest[digits..] }
}

/// The words of some data, which blanks, CR and LF separate.
pub fn words(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = data.split(|b| matches!(b, b' ' | b'\r' | b'\n' | b'\t'));
    words.filter(|word| !word.is_empty())
}

/// Errors of AK data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AkError {
    /// A reply without an end.
    #[error("a reply longer than {AK_REPLY_BYTES_MAX} bytes")]
    TooLong,
    /// Too many bytes without a reply.
    #[error("more than {AK_NOISE_BYTES_MAX} bytes that belong to no reply")]
    Noise,
    /// STX and ETX without a reply between them.
    #[error("what stands between STX and ETX is no reply")]
    Malformed,
}

/// Bytes between STX and ETX, and the number of the STX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The number of its STX, from 1.
    pub begun: u64,
}

impl<'a> Frame<'a> {
    /// Parses the reply.
    ///
    /// # Errors
    /// When the bytes are not a reply.
    pub fn reply(&self) -> Result<Reply<'a>, AkError> {
        Reply::parse(self.bytes).ok_or(AkError::Malformed)
    }
}

/// Finds the frames in a stream of bytes, split anywhere. Keeps at most [`AK_REPLY_BYTES_MAX`]
/// bytes.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    frame: Vec<u8>,
    is_inside: bool,
    /// The frame has been returned: the next byte begins a new one.
    is_whole: bool,
    begun: u64,
    noise: usize,
}

impl Parser {
    /// Number of STX bytes so far. A frame with a number up to it has already begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Removes bytes from the front of `input` up to the end of the next frame, and returns that
    /// frame; none when `input` is used up.
    ///
    /// # Errors
    /// When a bound is exceeded. Later bytes cannot be trusted.
    pub fn next<'p>(&'p mut self, input: &mut &[u8]) -> Result<Option<Frame<'p>>, AkError> {
        if std::mem::take(&mut self.is_whole) {
            self.frame.clear();
        }
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            match byte {
                STX => self.begin()?,
                // The first byte is the filler, and may have any value.
                ETX if self.is_inside && !self.frame.is_empty() => {
                    self.is_inside = false;
                    self.is_whole = true;
                    self.noise = 0;
                    let (bytes, begun) = (&self.frame[..], self.begun);
                    return Ok(Some(Frame { bytes, begun }));
                }
                _ if !self.is_inside => self.drop_noise(1)?,
                _ if self.frame.len() == AK_REPLY_BYTES_MAX => return Err(AkError::TooLong),
                byte => self.frame.push(byte),
            }
        }
        Ok(None)
    }

    fn begin(&mut self) -> Result<(), AkError> {
        if self.is_inside {
            self.drop_noise(self.frame.len() + 1)?;
        }
        self.frame.clear();
        self.is_inside = true;
        self.begun += 1;
        Ok(())
    }

    fn drop_noise(&mut self, bytes: usize) -> Result<(), AkError> {
        self.noise += bytes;
        match self.noise > AK_NOISE_BYTES_MAX {
            true => Err(AkError::Noise),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
