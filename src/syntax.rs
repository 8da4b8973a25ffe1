//! Mistakes in JSON text, in words of this program and at a position that an editor shows.

use std::fmt;

use serde_json::Error;

/// Mistake in a JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// The mistake, to follow a position.
    pub why: String,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, why } = self;
        write!(f, "{why}, at line {line} column {column}")
    }
}

/// Mistakes as the parser calls them, and in words.
const WORDS: [(&str, &str); 21] = [
    (
        "EOF while parsing a list",
        "the text ends inside a list: its ] is missing",
    ),
    (
        "EOF while parsing an object",
        "the text ends inside an object: its } is missing",
    ),
    (
        "EOF while parsing a string",
        "the text ends inside a string: its \" is missing",
    ),
    (
        "EOF while parsing a value",
        "the text ends where a value belongs",
    ),
    ("expected `:`", "a : belongs between a name and its value"),
    (
        "expected `,` or `]`",
        "a , or the ] of the list belongs here",
    ),
    (
        "expected `,` or `}`",
        "a , or the } of the object belongs here",
    ),
    (
        "expected ident",
        "not a value: the only words without quotes are true, false and null",
    ),
    ("expected value", "not the beginning of a value"),
    ("expected `\"`", "a \" belongs here"),
    ("invalid escape", "no character can follow the \\ like this"),
    ("invalid number", "not a number as JSON has them"),
    ("number out of range", "the number is too large"),
    (
        "invalid unicode code point",
        "the \\u sequence is not a character",
    ),
    (
        "control character (\\u0000-\\u001F) found while parsing a string",
        "a line break, tab or other control character inside a string: it is written \\n, \\t or \\u…",
    ),
    ("key must be a string", "a name in quotes belongs here"),
    (
        "lone leading surrogate in hex escape",
        "the \\u sequence is half of a pair",
    ),
    (
        "unexpected end of hex escape",
        "the \\u sequence is half of a pair",
    ),
    (
        "trailing comma",
        "a comma stands before the closing bracket",
    ),
    ("trailing characters", "text follows the end of the value"),
    ("recursion limit exceeded", "brackets are nested too deep"),
];

/// The mistake that the parser found in `text`.
#[must_use]
pub fn json_fault(text: &str, error: &Error) -> JsonFault {
    let (mut line, mut column) = (error.line(), error.column());
    let said = error.to_string();
    let suffix = format!(" at line {line} column {column}");
    let said = said.strip_suffix(&suffix).unwrap_or(&said);
    let known = WORDS.iter().find(|(parsers, _)| *parsers == said);
    if column == 0 && line > 1 {
        // Behind a line break, which is the last character of its own line.
        line -= 1;
        let before = text.split('\n').nth(line - 1).unwrap_or_default();
        column = before.len() + 1;
    }
    JsonFault {
        line: line.max(1),
        column: column.max(1),
        why: known.map_or(said, |(_, words)| words).to_owned(),
    }
}

/// Describes a text without a value: no bytes, or white space only.
#[must_use]
pub fn blank(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("is empty"),
        text if text.trim().is_empty() => Some("holds only white space"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> JsonFault {
        let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        json_fault(text, &error)
    }

    #[test]
    fn each_mistake_has_words_and_a_position() {
        let deep = "[".repeat(200);
        for (text, line, column, words) in [
            ("", 1, 1, "ends where a value"),
            ("[", 1, 1, "inside a list"),
            ("{\n\"a\": 1", 2, 6, "inside an object"),
            (r#"{"a": "b"#, 1, 8, "inside a string"),
            (r#"{"a" 1}"#, 1, 6, "a : belongs"),
            ("[1 2]", 1, 4, "the ] of the list"),
            (r#"{"a": 1 "b"}"#, 1, 9, "the } of the object"),
            ("[truu]", 1, 5, "true, false and null"),
            ("[ab]", 1, 2, "the beginning of a value"),
            (r#"["\x"]"#, 1, 4, "follow the \\"),
            ("[01]", 1, 3, "a number as JSON"),
            ("1e999", 1, 5, "too large"),
            (r#"["\udc00\ud800"]"#, 1, 8, "half of a pair"),
            (r#"["\ud800"]"#, 1, 9, "half of a pair"),
            ("[\"a\nb\"]", 1, 4, "control character inside"),
            ("{1: 2}", 1, 2, "a name in quotes"),
            ("[1,]", 1, 4, "a comma stands before"),
            ("{} x", 1, 4, "follows the end"),
            (&deep, 1, 128, "too deep"),
        ] {
            let found = fault(text);
            assert!(found.why.contains(words), "{text}: {found}");
            assert_eq!(
                (found.line, found.column),
                (line, column),
                "{text}: {found}"
            );
            assert!(WORDS.iter().any(|(_, why)| *why == found.why), "{found}");
        }
    }

    #[test]
    fn texts_without_a_value_are_told_apart() {
        assert_eq!(blank(""), Some("is empty"));
        assert_eq!(blank(" \r\n\t"), Some("holds only white space"));
        assert_eq!(blank("{}"), None);
    }
}
