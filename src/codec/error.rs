//! Errors of incoming bytes: one kind, and the position.

use std::fmt;

use crate::limits::EXCERPT_CHARS_MAX;

/// Abnormal data. The connection is closed, and the host's entry in the log names this kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The kind. Counted by [`Abnormal::label`].
    pub kind: Abnormal,
    /// Position: bytes from the beginning of the frame, including its header.
    pub offset: usize,
}

impl DecodeError {
    /// An error of `kind` at `offset`.
    #[must_use]
    pub fn new(kind: Abnormal, offset: usize) -> Self {
        Self { kind, offset }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// The beginning of a received text, short enough for a log line.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS_MAX).collect()
}

/// The kinds of abnormal data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abnormal {
    /// The header says zero, a negative length, or one above the limit, in either byte order.
    #[error("frame length {0} is not within 1..={1}")]
    Length(i32, usize),
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    Utf8,
    /// The body is neither a JSON object nor slash text of a known shape.
    #[error("the body does not parse: {0}")]
    Syntax(String),
    /// No code, or an unknown one; the text is the code received.
    #[error("unknown code {0:?}")]
    Flag(String),
    /// A member is missing, of the wrong type, or out of its range.
    #[error("{0}")]
    Field(String),
    /// A member is given twice.
    #[error("member {0:?} is given twice")]
    Twice(String),
    /// The body nests deeper than it may.
    #[error("nested deeper than {}", crate::limits::NESTING_DEPTH_MAX)]
    Depth,
    /// A valid message in a wrong place, for example a second hello.
    #[error("{0} may not come here")]
    OutOfPlace(&'static str),
    /// TLS failed, in the handshake or later.
    #[error("TLS: {0}")]
    Tls(String),
    /// A frame of a keyed session without the tag it must have.
    #[error("the frame's tag is wrong")]
    Tag,
    /// An internal error: handling the message panicked. The connection ends like one with bad
    /// data.
    #[error("handling it failed inside the server")]
    Internal,
}

impl Abnormal {
    /// One word for the counter and the metric's label. The set is closed.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Length(..) => "length",
            Self::Utf8 => "utf8",
            Self::Syntax(_) => "syntax",
            Self::Flag(_) => "flag",
            Self::Field(_) => "field",
            Self::Twice(_) => "twice",
            Self::Depth => "depth",
            Self::OutOfPlace(_) => "place",
            Self::Tls(_) => "tls",
            Self::Tag => "tag",
            Self::Internal => "internal",
        }
    }

    /// All labels, in the order of the variants.
    pub const LABELS: [&'static str; 11] = [
        "length", "utf8", "syntax", "flag", "field", "twice", "depth", "place", "tls", "tag",
        "internal",
    ];
}
