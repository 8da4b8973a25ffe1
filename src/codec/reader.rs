//! A bounded cursor over text, used for slash text and its literals. It only moves forward and
//! never rests inside a character, so no slice taken through it can be wrong.

use super::error::{Abnormal, DecodeError};

/// A cursor over a text.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Always at a character boundary, at most the text's length.
    at: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the beginning of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Number of bytes read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The unread text.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Returns whether all text has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// The next character.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Reads the next character.
    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Reads `wanted` if it comes next.
    pub(super) fn eat(&mut self, wanted: &str) -> bool {
        let here = self.rest().starts_with(wanted);
        if here {
            self.at += wanted.len();
        }
        here
    }

    /// Reads up to the first character for which `stop` is true, or to the end.
    pub(super) fn take_until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(stop).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// Reads `bytes` bytes; nothing if there are fewer, or they end inside a character.
    pub(super) fn take(&mut self, bytes: usize) -> &'a str {
        let taken = self.rest().get(..bytes).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    /// The text read since the cursor was at `start`.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// A syntax error at this position.
    pub(super) fn syntax<T>(&self, what: &str) -> Result<T, DecodeError> {
        Err(DecodeError::new(Abnormal::Syntax(what.into()), self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_by_whole_characters_and_stops_at_the_end() {
        let mut reader = Reader::new("蚁/b");
        assert_eq!(reader.take_until(|c| c == '/'), "蚁");
        assert_eq!(reader.at(), 3);
        assert!(!reader.eat("b"));
        assert!(reader.eat("/"));
        assert_eq!(reader.next(), Some('b'));
        assert!(reader.is_at_end());
        assert_eq!((reader.next(), reader.rest()), (None, ""));
        assert_eq!(reader.since(3), "/b");
    }
}
