//! Forms of values: how the value of a key is read, shown and described.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::error::ConfigError;
use super::tree::Node;
use super::value::Value;
use super::{Config, MIB};
use crate::time::Span;

type Read<T> = Box<dyn Fn(&Value<'_>) -> Result<T, ConfigError>>;

/// Conversion between a value of the file and a member of the configuration.
pub(super) struct Form<T> {
    /// Text of the column "may be" of the documentation.
    may_be: String,
    read: Read<T>,
    show: fn(&T) -> Json,
    /// `null` leaves the member as it is: the server works the value out.
    is_derived: bool,
}

impl<T> Form<T> {
    /// Reads `v` into `target`, which keeps its value on an error.
    pub(super) fn set(&self, v: &Value<'_>, target: &mut T) -> Result<(), ConfigError> {
        if !(self.is_derived && *v.node == Node::Null) {
            *target = (self.read)(v)?;
        }
        Ok(())
    }

    /// The value in the shape of the file.
    pub(super) fn show(&self, value: &T) -> Json {
        (self.show)(value)
    }

    /// The description; `_member` only tells the compiler the type of the form.
    pub(super) fn may_be(self, _member: fn(&Config) -> &T) -> String {
        self.may_be
    }
}

fn range<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// Value with a reader and a function that shows it.
pub(super) fn shown<T: 'static>(
    may_be: impl Into<String>,
    read: impl Fn(&Value<'_>) -> Result<T, ConfigError> + 'static,
    show: fn(&T) -> Json,
) -> Form<T> {
    Form {
        may_be: may_be.into(),
        read: Box::new(read),
        show,
        is_derived: false,
    }
}

/// Value with a reader, shown as its type serializes.
pub(super) fn plain<T: Serialize + 'static>(
    may_be: &str,
    read: impl Fn(&Value<'_>) -> Result<T, ConfigError> + 'static,
) -> Form<T> {
    shown(may_be, read, |value| json!(value))
}

/// Whole number within a range, which the type of the member can hold.
pub(super) fn whole<T>(bounds: RangeInclusive<u64>) -> Form<T>
where
    T: TryFrom<u64> + Serialize + 'static,
{
    plain(&range(&bounds), move |v| {
        let number = v.whole(bounds.clone())?;
        T::try_from(number).map_err(|_| v.wrong("is too large for this machine"))
    })
}

/// Number of MiB within a range; the member counts bytes.
pub(super) fn mib(bounds: RangeInclusive<u64>) -> Form<u64> {
    let may_be = range(&bounds);
    let read = move |v: &Value<'_>| v.whole(bounds.clone()).map(|mib| mib * MIB);
    shown(may_be, read, |bytes| (bytes / MIB).into())
}

/// Whole number of milliseconds within a range.
pub(super) fn millis(bounds: RangeInclusive<u64>) -> Form<Span> {
    let may_be = range(&bounds);
    let read = move |v: &Value<'_>| v.millis(bounds.clone());
    shown(may_be, read, |span| span.as_millis().into())
}

/// Number of seconds within a range, shown without a fraction if it is whole.
pub(super) fn seconds(bounds: RangeInclusive<f64>) -> Form<Span> {
    let may_be = range(&bounds);
    let read = move |v: &Value<'_>| v.seconds(bounds.clone());
    shown(may_be, read, |span| super::show::seconds(*span))
}

/// One of several words. Each table has a word for every value.
pub(super) fn word<T: Words>() -> Form<T> {
    let quoted: Vec<_> = T::WORDS
        .iter()
        .map(|(word, _)| format!("`{word}`"))
        .collect();
    shown(
        quoted.join(", "),
        |v| v.word(T::WORDS),
        |value| {
            let word = T::WORDS.iter().find(|(_, one)| one == value);
            json!(word.map(|(word, _)| word))
        },
    )
}

/// Values that have a word each.
pub(super) trait Words: Copy + PartialEq + 'static {
    const WORDS: &[(&str, Self)];
}

/// `null` for none, or a value of the inner form.
pub(super) fn or_null<T: Serialize + 'static>(inner: Form<T>) -> Form<Option<T>> {
    let may_be = format!("`null`, {}", inner.may_be);
    plain(&may_be, move |v| match v.node {
        Node::Null => Ok(None),
        _ => (inner.read)(v).map(Some),
    })
}

/// `null` for a value that the server works out, or a value of the inner form.
pub(super) fn or_derived<T>(inner: Form<T>) -> Form<T> {
    Form {
        may_be: format!("`null`, {}", inner.may_be),
        is_derived: true,
        ..inner
    }
}
