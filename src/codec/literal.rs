//! Python literals, as `repr` writes them: `['a', "it's"]`, `{'k': None}`. Parsed, never evaluated.
//!
//! Accepted are strings in either quote with Python's escapes (`u''` as well), lists, tuples (like
//! lists), dicts, `None`, `True`, `False`, integers and floats. Not accepted are forms that `repr` of such
//! values does not write: bytes, sets, `\N{…}`, names, sums, triple quotes. Nesting is bounded, and a
//! dict that gives a key twice is refused.

use std::borrow::Cow;
use std::collections::HashSet;

use super::error::{Abnormal, DecodeError, excerpt};
use super::reader::Reader;
use crate::limits::NESTING_DEPTH_MAX;

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal<'a> {
    /// `None`.
    None,
    /// `True`, `False` or a number, as written.
    Plain(&'a str),
    /// A string.
    Text(Cow<'a, str>),
    /// A list or a tuple.
    List(Vec<Literal<'a>>),
    /// A dict, in the order given.
    Dict(Dict<'a>),
}

/// The members of a dict.
pub(super) type Dict<'a> = Vec<(Literal<'a>, Literal<'a>)>;

/// Parses a dict. `depth` is the number of brackets it may open, its own included.
pub(super) fn dict<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Dict<'a>, DecodeError> {
    let depth = open(reader, "{", depth)?;
    let mut members = Vec::new();
    let mut seen = HashSet::new();
    while !close(reader, "}") {
        let at = reader.at();
        let name = literal(reader, depth)?;
        let key = match &name {
            Literal::None => (false, Cow::Borrowed("None")),
            Literal::Plain(text) => (false, Cow::Borrowed(*text)),
            Literal::Text(text) => (true, text.clone()),
            Literal::List(_) | Literal::Dict(_) => return reader.syntax("a key that is no scalar"),
        };
        if seen.contains(&key) {
            return Err(DecodeError::new(Abnormal::Twice(excerpt(&key.1)), at));
        }
        seen.insert(key);
        blank(reader);
        if !reader.eat(":") {
            return reader.syntax("expected `:`");
        }
        blank(reader);
        members.push((name, literal(reader, depth)?));
        comma(reader, "}")?;
    }
    Ok(members)
}

/// Parses a list of strings and nothing else.
pub(super) fn texts<'a>(reader: &mut Reader<'a>) -> Result<Vec<Cow<'a, str>>, DecodeError> {
    open(reader, "[", NESTING_DEPTH_MAX)?;
    let mut texts = Vec::new();
    while !close(reader, "]") {
        texts.push(text(reader)?);
        comma(reader, "]")?;
    }
    Ok(texts)
}

fn literal<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Literal<'a>, DecodeError> {
    match reader.peek() {
        Some('\'' | '"' | 'u' | 'b') => text(reader).map(Literal::Text),
        Some('[') => {
            let depth = open(reader, "[", depth)?;
            elements(reader, "]", depth).map(|(list, _)| Literal::List(list))
        }
        Some('(') => {
            let depth = open(reader, "(", depth)?;
            let (mut list, comma) = elements(reader, ")", depth)?;
            // Python's own rule: brackets around one value without a comma are only brackets.
            if comma || list.len() != 1 {
                return Ok(Literal::List(list));
            }
            Ok(list.remove(0))
        }
        Some('{') => dict(reader, depth).map(Literal::Dict),
        Some('+' | '-' | '.' | '0'..='9') => number(reader).map(Literal::Plain),
        _ => word(reader),
    }
}

/// Parses the elements up to `end`; returns whether a comma follows the last of them.
fn elements<'a>(
    reader: &mut Reader<'a>,
    end: &str,
    depth: usize,
) -> Result<(Vec<Literal<'a>>, bool), DecodeError> {
    let mut list = Vec::new();
    let mut trailing = false;
    while !close(reader, end) {
        list.push(literal(reader, depth)?);
        trailing = comma(reader, end)?;
    }
    Ok((list, trailing))
}

fn word<'a>(reader: &mut Reader<'a>) -> Result<Literal<'a>, DecodeError> {
    let start = reader.at();
    let word = reader.take_until(|c| !c.is_ascii_alphabetic());
    match word {
        "None" => Ok(Literal::None),
        "True" | "False" => Ok(Literal::Plain(word)),
        _ => Err(DecodeError::new(
            Abnormal::Syntax("expected a literal".into()),
            start,
        )),
    }
}

/// A decimal integer or float: `-1`, `0.5`, `5.`, `.5`, `1e-7`.
fn number<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let start = reader.at();
    let digits = |reader: &mut Reader<'a>| reader.take_until(|c| !c.is_ascii_digit());
    let _sign = reader.eat("-") || reader.eat("+");
    let whole = digits(reader);
    let is_float = reader.eat(".");
    let fraction = if is_float { digits(reader) } else { "" };
    if whole.is_empty() && fraction.is_empty() {
        return reader.syntax("expected a digit");
    }
    let has_exponent = reader.eat("e") || reader.eat("E");
    if has_exponent {
        let _sign = reader.eat("-") || reader.eat("+");
        if digits(reader).is_empty() {
            return reader.syntax("expected a digit");
        }
    }
    let is_octal = !is_float && !has_exponent && whole.len() > 1 && whole.starts_with('0');
    if is_octal && whole.bytes().any(|b| b != b'0') {
        return reader.syntax("a number that begins with 0");
    }
    Ok(reader.since(start))
}

/// A string. Borrowed where it has no escape.
fn text<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, str>, DecodeError> {
    let _prefix = reader.eat("u");
    let quote = match reader.peek() {
        Some(quote @ ('\'' | '"')) => quote,
        _ => return reader.syntax("expected a string"),
    };
    reader.next();
    let mut text = Cow::Borrowed("");
    loop {
        let plain = reader.take_until(|c| c == quote || matches!(c, '\\' | '\n' | '\r'));
        // The first piece stays borrowed: nothing is copied before an escape makes it necessary.
        text += plain;
        match reader.peek() {
            Some('\\') => escape(reader, text.to_mut())?,
            Some(end) if end == quote => {
                reader.next();
                return Ok(text);
            }
            _ => return reader.syntax("a string without its end"),
        }
    }
}

/// Parses a backslash and its escape, and appends the character.
fn escape(reader: &mut Reader<'_>, text: &mut String) -> Result<(), DecodeError> {
    reader.eat("\\");
    let start = *reader;
    let simple = match reader.next() {
        Some(same @ ('\\' | '\'' | '"')) => same,
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('a') => '\u{7}',
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('v') => '\u{b}',
        Some('\n') => return Ok(()),
        Some('\r') => {
            reader.eat("\n");
            return Ok(());
        }
        Some('0'..='7') => {
            *reader = start;
            code(reader, 8, 1..=3)?
        }
        Some('x') => code(reader, 16, 2..=2)?,
        Some('u') => code(reader, 16, 4..=4)?,
        Some('U') => code(reader, 16, 8..=8)?,
        Some('N') => return start.syntax("`\\N` is not read"),
        Some(other) => {
            text.push('\\');
            other
        }
        None => return start.syntax("a string without its end"),
    };
    text.push(simple);
    Ok(())
}

/// Parses `count` digits: the code point of a character.
fn code(
    reader: &mut Reader<'_>,
    radix: u32,
    count: std::ops::RangeInclusive<usize>,
) -> Result<char, DecodeError> {
    let start = *reader;
    let mut value = 0;
    let mut digits = 0;
    while digits < *count.end()
        && let Some(digit) = reader.peek().and_then(|c| c.to_digit(radix))
    {
        reader.next();
        // Eight hexadecimal digits at most: the value fits its 32 bits.
        value = value * radix + digit;
        digits += 1;
    }
    match char::from_u32(value) {
        Some(character) if digits >= *count.start() => Ok(character),
        _ => start.syntax("an escape that is no character"),
    }
}

/// Parses an opening bracket; returns the remaining depth.
fn open(reader: &mut Reader<'_>, bracket: &str, depth: usize) -> Result<usize, DecodeError> {
    let at = reader.at();
    if !reader.eat(bracket) {
        return reader.syntax("expected an opening bracket");
    }
    blank(reader);
    depth
        .checked_sub(1)
        .ok_or_else(|| DecodeError::new(Abnormal::Depth, at))
}

fn close(reader: &mut Reader<'_>, bracket: &str) -> bool {
    reader.eat(bracket)
}

/// Parses the text behind an element: a comma (true), or nothing if the bracket closes next.
fn comma(reader: &mut Reader<'_>, end: &str) -> Result<bool, DecodeError> {
    blank(reader);
    let comma = reader.eat(",");
    blank(reader);
    if comma || reader.rest().starts_with(end) {
        return Ok(comma);
    }
    reader.syntax("expected `,` or a closing bracket")
}

fn blank(reader: &mut Reader<'_>) {
    reader.take_until(|c| !matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c'));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Literal<'_>, DecodeError> {
        let mut reader = Reader::new(text);
        let read = literal(&mut reader, NESTING_DEPTH_MAX)?;
        if reader.is_at_end() {
            Ok(read)
        } else {
            reader.syntax("more")
        }
    }

    fn string(text: &str) -> Option<String> {
        match read(text) {
            Ok(Literal::Text(text)) => Some(text.into_owned()),
            _ => None,
        }
    }

    #[test]
    fn strings_have_pythons_quotes_and_escapes() {
        for (written, meant) in [
            ("'a'", "a"),
            ("\"it's\"", "it's"),
            ("u'x'", "x"),
            (r#"'d\' "e"'"#, "d' \"e\""),
            (r"'\\\n\r\t\a\b\f\v'", "\\\n\r\t\u{7}\u{8}\u{c}\u{b}"),
            (r"'\0|\101|\1018|\x41|\u8682|\U0001F41C'", "\0|A|A8|A|蚂|🐜"),
            (r"'\d\ä'", "\\d\\ä"),
            ("'a\\\nb\\\r\nc'", "abc"),
            ("'蚂蚁'", "蚂蚁"),
        ] {
            assert_eq!(string(written).as_deref(), Some(meant), "{written}");
        }
        for wrong in [
            "'a",
            "'a\\",
            "'a\nb'",
            r"'\x4'",
            r"'\ud800'",
            r"'\U00110000'",
            r"'\N{DIGIT ONE}'",
            "b'a'",
            "ub'a'",
            "r'a'",
            "'a' 'b'",
            "'''a'''",
        ] {
            assert!(
                matches!(
                    read(wrong),
                    Err(DecodeError {
                        kind: Abnormal::Syntax(_),
                        ..
                    })
                ),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_string_without_escapes_is_borrowed() {
        assert!(matches!(
            read("'plain'"),
            Ok(Literal::Text(Cow::Borrowed("plain")))
        ));
    }

    #[test]
    fn scalars_and_brackets() {
        for plain in [
            "True", "False", "0", "00", "-12", "1.5", "5.", ".5", "1e-7", "+3",
        ] {
            assert_eq!(read(plain), Ok(Literal::Plain(plain)), "{plain}");
        }
        assert_eq!(read("None"), Ok(Literal::None));
        assert_eq!(read("(1)"), Ok(Literal::Plain("1")));
        assert_eq!(read("(1,)"), Ok(Literal::List(vec![Literal::Plain("1")])));
        assert_eq!(read("()"), Ok(Literal::List(vec![])));
        assert_eq!(
            read("[ 1 ,\n None, ]"),
            Ok(Literal::List(vec![Literal::Plain("1"), Literal::None]))
        );
        assert_eq!(
            read("{'a' : [] , 2: {}}"),
            Ok(Literal::Dict(vec![
                (Literal::Text("a".into()), Literal::List(vec![])),
                (Literal::Plain("2"), Literal::Dict(vec![])),
            ]))
        );
        for wrong in [
            "",
            "[",
            "[,]",
            "[1 2]",
            "{1}",
            "{1:}",
            "{[]:1}",
            "012",
            "1.e",
            "-",
            ".",
            "none",
            "nan",
            "__import__('os')",
            "1+1",
            "[1]]",
            "(1",
            "0x1",
            "1_0",
            "[1)",
        ] {
            assert!(
                matches!(
                    read(wrong),
                    Err(DecodeError {
                        kind: Abnormal::Syntax(_),
                        ..
                    })
                ),
                "{wrong}"
            );
        }
    }

    #[test]
    fn depth_is_bounded_and_the_bracket_too_many_is_named() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(NESTING_DEPTH_MAX)).is_ok());
        let deep = DecodeError::new(Abnormal::Depth, NESTING_DEPTH_MAX);
        assert_eq!(read(&nested(NESTING_DEPTH_MAX + 1)), Err(deep.clone()));
        assert_eq!(read(&"[".repeat(60_000)), Err(deep.clone()));
        assert_eq!(read(&"(".repeat(60_000)), Err(deep));
        let dicts = "{1:".repeat(60_000);
        assert_eq!(
            read(&dicts),
            Err(DecodeError::new(Abnormal::Depth, 3 * NESTING_DEPTH_MAX))
        );
    }

    #[test]
    fn a_key_twice_is_refused_however_it_is_written() {
        let twice = |at| Err(DecodeError::new(Abnormal::Twice("a".into()), at));
        assert_eq!(read("{'a': 1, \"a\": 2}"), twice(9));
        assert_eq!(read(r"[{'a': 1, '\x61': 2}]"), twice(10));
        assert!(read("{1: 1, '1': 2}").is_ok());
    }
}
