//! JSON values before their meaning is known: split, checked, and located.
//!
//! serde_json parses. Faults that it does not report (a member given twice, too deep a nesting) are kept
//! beside its own error as a *fault*. Every value is a slice of the body, so its position is known.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{Abnormal, DecodeError, excerpt};
use crate::limits::NESTING_DEPTH_MAX;
use crate::syntax::json_fault;

/// A value as text, if it is a string. Borrowed where it has no escape.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = value.get();
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(quoted).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Returns whether a value is a number.
pub(super) fn is_number(value: &RawValue) -> bool {
    value
        .get()
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// A value as a number, if it is one; it is finite then, since no other is valid JSON here.
pub(super) fn number(value: &RawValue) -> Option<f64> {
    let number: f64 = value.get().parse().ok()?;
    (is_number(value) && number.is_finite()).then_some(number)
}

/// A value as a list, if it is one.
pub(super) fn list(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// A value as a list of strings and numbers, if it is one.
pub(super) fn addresses(value: &RawValue) -> Option<Vec<Cow<'_, str>>> {
    let element = |value| match text(value) {
        Some(text) => Some(text),
        None => is_number(value).then(|| Cow::Borrowed(value.get())),
    };
    list(value)?.into_iter().map(element).collect()
}

/// Position of `part`, a slice of `body`.
pub(super) fn offset_in(body: &str, part: &str) -> usize {
    let offset = (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
    offset.min(body.len())
}

/// Passes each member of `object`, which is `body` or a slice of it, to the callback: its name, and
/// its raw value.
pub(super) fn each_member<'a>(
    body: &'a str,
    object: &'a str,
    take: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_str(object);
    let visitor = EachMember {
        take,
        fault: &mut fault,
    };
    let read = json.deserialize_map(visitor).and_then(|()| json.end());
    read.map_err(|error| fault.unwrap_or_else(|| syntax(body, object, &error)))
}

/// Checks the rules for every value, known or not: bounded nesting, no member given twice, only
/// numbers and characters that exist.
pub(super) fn check(body: &str, value: &RawValue) -> Result<(), DecodeError> {
    let raw = value.get();
    if raw.starts_with('"') && !raw.contains('\\') {
        return Ok(());
    }
    let start = offset_in(body, raw);
    if let Some(bracket) = bracket_too_deep(raw) {
        return Err(DecodeError::new(Abnormal::Depth, start + bracket));
    }
    let mut fault = None;
    let seed = Check {
        body,
        start,
        fault: &mut fault,
    };
    let checked = seed.deserialize(&mut serde_json::Deserializer::from_str(raw));
    checked.map_err(|error| fault.unwrap_or_else(|| syntax(body, raw, &error)))
}

/// Position of the first bracket in a member's value that nests too deep. The body's own bracket is
/// the first level.
fn bracket_too_deep(raw: &str) -> Option<usize> {
    let mut depth = 1;
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in raw.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth > NESTING_DEPTH_MAX {
            return Some(at);
        }
    }
    None
}

/// An error for a member given twice. A name with escapes has no position in the body; the error
/// then points at `fallback`.
pub(super) fn twice(body: &str, name: Cow<'_, str>, fallback: usize) -> DecodeError {
    let offset = match name {
        Cow::Borrowed(name) => offset_in(body, name),
        Cow::Owned(_) => fallback,
    };
    DecodeError::new(Abnormal::Twice(excerpt(&name)), offset)
}

/// Converts an error of serde_json in `piece`, a slice of `body`.
fn syntax(body: &str, piece: &str, error: &serde_json::Error) -> DecodeError {
    let what = match error.classify() {
        // It would quote the value, however long.
        serde_json::error::Category::Data => "not a JSON object".to_owned(),
        _ => json_fault(piece, error).why,
    };
    let offset = offset_in(body, piece) + position(piece, error);
    DecodeError::new(Abnormal::Syntax(what), offset)
}

/// The byte of `piece` at serde_json's line and column, both counted from 1.
fn position(piece: &str, error: &serde_json::Error) -> usize {
    if error.is_eof() {
        return piece.len();
    }
    let lines = piece
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1));
    let line_start: usize = lines.map(str::len).sum();
    (line_start + error.column())
        .saturating_sub(1)
        .min(piece.len())
}

/// Visits the members of one object.
struct EachMember<'f, F> {
    take: F,
    /// A fault that serde_json does not report.
    fault: &'f mut Option<DecodeError>,
}

impl<'a, F> Visitor<'a> for EachMember<'_, F>
where
    F: FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), DecodeError>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Text)? {
            let value = map.next_value()?;
            if let Err(error) = (self.take)(name, value) {
                *self.fault = Some(error);
                return Err(A::Error::custom("see the fault"));
            }
        }
        Ok(())
    }
}

/// Parses a string, borrowed if it has no escape. (A `Cow` inside an `Option` or a list would be
/// owned with serde's own implementation.)
struct Text;

impl<'a> DeserializeSeed<'a> for Text {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Text {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Parses any value and keeps nothing; an object that gives a member twice is a fault. It recurses
/// as deep as the value nests, which is bounded before.
struct Check<'b, 'f> {
    body: &'b str,
    /// Position of the outermost value.
    start: usize,
    fault: &'f mut Option<DecodeError>,
}

impl Check<'_, '_> {
    fn again(&mut self) -> Check<'_, '_> {
        Check {
            body: self.body,
            start: self.start,
            fault: self.fault,
        }
    }
}

impl<'a> DeserializeSeed<'a> for Check<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Check<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key_seed(Text)? {
            if names.contains(&name) {
                *self.fault = Some(twice(self.body, name, self.start));
                return Err(A::Error::custom("see the fault"));
            }
            names.insert(name);
            map.next_value_seed(self.again())?;
        }
        Ok(())
    }
}
