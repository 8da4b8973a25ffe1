//! Push parser for the syntax of JSON: bytes arrive in any pieces, and each is looked at no more
//! than twice.
//!
//! It reports where names and values begin and end, and keeps nothing of them but the nesting. So a
//! long body is checked while it arrives, and costs each turn only what the turn has read.

use std::fmt;

/// Line and column, from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    line: usize,
    column: usize,
}

impl Position {
    fn pass(&mut self, byte: u8) {
        if byte == b'\n' {
            (self.line, self.column) = (self.line + 1, 1);
        } else if byte & 0xc0 != 0x80 {
            self.column += 1;
        }
    }

    /// Position of the character before this one, in the same line.
    fn before(self) -> Self {
        Self {
            column: self.column.saturating_sub(1).max(1),
            ..self
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// What a byte means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It lies within a name or a value, or between two.
    Inner,
    /// It is the first byte of a name or a value inside of `level` containers.
    Began { level: usize, is_name: bool },
    /// It is the last byte of such a name or value.
    Ended { level: usize, is_name: bool },
    /// A number has ended before it. The byte is to be pushed again.
    NumberEnded { level: usize },
}

/// A place at which the text stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxError {
    /// The character there cannot follow.
    Invalid(Position),
    /// The text ends there.
    Incomplete(Position),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a value. `or_close`: the list may also end.
    Value {
        or_close: bool,
    },
    /// Before a name. `or_close`: the object may also end.
    Name {
        or_close: bool,
    },
    /// Between a name and its value.
    Colon,
    /// Behind a value of a container.
    Next,
    /// In a string; `escape` counts the missing characters of an escape.
    Text {
        is_name: bool,
        escape: Escape,
    },
    Number(Number),
    /// In `true`, `false` or `null`, of which this is missing.
    Word(&'static [u8]),
    /// Behind the outermost value.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    /// Behind a backslash.
    Begun,
    /// So many hexadecimal digits are missing.
    Digits(u8),
}

/// The part of a number that was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Number {
    /// The part to which `byte` belongs, or `None` if the number cannot go on with it.
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::E,
            (Self::E, b'+' | b'-') => Self::Sign,
            (Self::E | Self::Sign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
            _ => return None,
        })
    }

    const fn may_end(self) -> bool {
        matches!(
            self,
            Self::Zero | Self::Whole | Self::Fraction | Self::Exponent
        )
    }
}

/// The parser.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Open containers, the outermost first: each an object or a list.
    open: Vec<bool>,
    /// Position of the next character.
    at: Position,
}

impl Scanner {
    pub fn new() -> Self {
        Self {
            state: State::Value { or_close: false },
            open: Vec::new(),
            at: Position { line: 1, column: 1 },
        }
    }

    /// Position of the next character.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Length of the prefix of `bytes` inside the present string, without quotes, escapes and
    /// control characters. It may be [passed](Self::pass) without [`push`](Self::push).
    pub fn plain_len(&self, bytes: &[u8]) -> usize {
        match self.state {
            State::Text {
                escape: Escape::No, ..
            } => bytes
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
                .unwrap_or(bytes.len()),
            _ => 0,
        }
    }

    /// Passes such a part.
    pub fn pass(&mut self, plain: &[u8]) {
        self.at.column += plain.iter().filter(|byte| *byte & 0xc0 != 0x80).count();
    }

    /// Takes the next byte.
    pub fn push(&mut self, byte: u8) -> Result<Event, SyntaxError> {
        let event = self.take(byte).ok_or(SyntaxError::Invalid(self.at))?;
        if !matches!(event, Event::NumberEnded { .. }) {
            self.at.pass(byte);
        }
        Ok(event)
    }

    /// Returns whether no value has begun.
    pub fn is_blank(&self) -> bool {
        self.open.is_empty() && self.state == State::Value { or_close: false }
    }

    /// Checks that the text may end here.
    pub fn finish(&self) -> Result<(), SyntaxError> {
        match self.state {
            State::End => Ok(()),
            _ => Err(SyntaxError::Incomplete(self.at.before())),
        }
    }

    fn take(&mut self, byte: u8) -> Option<Event> {
        let level = self.open.len();
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::Text { is_name, escape } => return self.take_text(byte, is_name, escape),
            State::Number(part) => match part.next(byte) {
                Some(part) => self.state = State::Number(part),
                None if part.may_end() => {
                    self.end_value();
                    return Some(Event::NumberEnded { level });
                }
                None => return None,
            },
            State::Word(rest) => match rest.split_first() {
                Some((first, [])) if *first == byte => {
                    self.end_value();
                    return Some(Event::Ended {
                        level,
                        is_name: false,
                    });
                }
                Some((first, rest)) if *first == byte => self.state = State::Word(rest),
                _ => return None,
            },
            _ if is_space => {}
            State::Value { or_close: true } if byte == b']' => return Some(self.close()),
            State::Name { or_close: true } if byte == b'}' => return Some(self.close()),
            State::Value { .. } => return self.begin(byte),
            State::Name { .. } if byte == b'"' => {
                self.state = State::Text {
                    is_name: true,
                    escape: Escape::No,
                };
                return Some(Event::Began {
                    level,
                    is_name: true,
                });
            }
            State::Colon if byte == b':' => self.state = State::Value { or_close: false },
            State::Next => {
                let is_object = *self.open.last()?;
                match byte {
                    b',' if is_object => self.state = State::Name { or_close: false },
                    b',' => self.state = State::Value { or_close: false },
                    b'}' if is_object => return Some(self.close()),
                    b']' if !is_object => return Some(self.close()),
                    _ => return None,
                }
            }
            State::Name { .. } | State::Colon | State::End => return None,
        }
        Some(Event::Inner)
    }

    fn take_text(&mut self, byte: u8, is_name: bool, escape: Escape) -> Option<Event> {
        let escape = match (escape, byte) {
            (Escape::No, b'"') => {
                let level = self.open.len();
                match is_name {
                    true => self.state = State::Colon,
                    false => self.end_value(),
                }
                return Some(Event::Ended { level, is_name });
            }
            (Escape::No, b'\\') => Escape::Begun,
            (Escape::No, 0..0x20) => return None,
            (Escape::No, _) => Escape::No,
            (Escape::Begun, b'u') => Escape::Digits(4),
            (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::No,
            (Escape::Digits(1), _) if byte.is_ascii_hexdigit() => Escape::No,
            (Escape::Digits(count), _) if byte.is_ascii_hexdigit() => Escape::Digits(count - 1),
            _ => return None,
        };
        self.state = State::Text { is_name, escape };
        Some(Event::Inner)
    }

    fn begin(&mut self, byte: u8) -> Option<Event> {
        let level = self.open.len();
        self.state = match byte {
            b'{' => State::Name { or_close: true },
            b'[' => State::Value { or_close: true },
            b'"' => State::Text {
                is_name: false,
                escape: Escape::No,
            },
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Whole),
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            _ => return None,
        };
        if matches!(byte, b'{' | b'[') {
            self.open.push(byte == b'{');
        }
        Some(Event::Began {
            level,
            is_name: false,
        })
    }

    fn close(&mut self) -> Event {
        self.open.pop();
        self.end_value();
        Event::Ended {
            level: self.open.len(),
            is_name: false,
        }
    }

    fn end_value(&mut self) {
        self.state = match self.open.is_empty() {
            true => State::End,
            false => State::Next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Scans `text`. Returns the error, and each name and value with its level.
    fn scan(text: &str) -> (Result<(), SyntaxError>, Vec<(usize, &str)>) {
        let mut scanner = Scanner::new();
        let (mut begun, mut parts) = (Vec::new(), Vec::new());
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let plain = scanner.plain_len(&bytes[at..]);
            if plain > 0 {
                scanner.pass(&bytes[at..at + plain]);
                at += plain;
                continue;
            }
            match scanner.push(bytes[at]) {
                Ok(Event::Inner) => {}
                Ok(Event::Began { .. }) => begun.push(at),
                Ok(Event::Ended { level, .. }) => {
                    parts.push((level, &text[begun.pop().unwrap()..=at]));
                }
                Ok(Event::NumberEnded { level }) => {
                    parts.push((level, &text[begun.pop().unwrap()..at]));
                    continue;
                }
                Err(error) => return (Err(error), parts),
            }
            at += 1;
        }
        (scanner.finish(), parts)
    }

    #[test]
    fn names_and_values_have_their_level() {
        let (result, parts) = scan(r#" {"a":[1,-2.5e+3, "x\"]"],"b":{"c":null}, "d":true} "#);
        assert_eq!(result, Ok(()));
        let expected = [
            (1, r#""a""#),
            (2, "1"),
            (2, "-2.5e+3"),
            (2, r#""x\"]""#),
            (1, r#"[1,-2.5e+3, "x\"]"]"#),
            (1, r#""b""#),
            (2, r#""c""#),
            (2, "null"),
            (1, r#"{"c":null}"#),
            (1, r#""d""#),
            (1, "true"),
        ];
        assert_eq!(parts[..expected.len()], expected);
    }

    #[test]
    fn an_error_has_its_position() {
        let cases = [
            ("{\"a\" 1}", 6),
            ("{\"\u{e4}\u{e4}\":01}", 8),
            ("[1 2]", 4),
            ("{\"a\":1,}", 8),
            ("[1,]", 4),
            ("[\"\u{1}\"]", 3),
            ("[\"\\x\"]", 4),
            ("[nul]", 5),
            ("{} {}", 4),
            ("[1.]", 4),
            ("[}", 2),
        ];
        for (text, column) in cases {
            let at = Position { line: 1, column };
            assert_eq!(scan(text).0, Err(SyntaxError::Invalid(at)), "{text}");
        }
        let at = Position { line: 2, column: 2 };
        assert_eq!(scan("[\n 1").0, Err(SyntaxError::Incomplete(at)));
    }

    proptest! {
        #[test]
        fn the_same_texts_are_json_as_for_serde_json(
            text in r#"(\[|\]|\{|\}|"[a-b]?"|"\\[un"0]?|[ :,0-9eE.+-]|null|true|\n){0,12}"#,
        ) {
            let other = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            // A number that nothing follows is not reported as ended.
            let text = format!("{text} ");
            prop_assert_eq!(scan(&text).0.is_ok(), other.is_ok(), "{}", text);
        }
    }
}
