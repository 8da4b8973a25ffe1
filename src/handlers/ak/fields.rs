//! Words of a reply by name: `1.25 #9999 3E-2` as values, each with its validity.

use serde::ser::{Serialize, Serializer};

use crate::codec::ak::words;

/// Name and type of a word in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Unit.
    pub unit: Option<String>,
    /// Type.
    pub kind: FieldKind,
}

/// Type of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldKind {
    /// As a number.
    #[default]
    Number,
    /// Unchanged text.
    Text,
}

/// Value of a word.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A number, finite.
    Number(f64),
    /// A text.
    Text(String),
}

/// A parsed word.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct FieldValue {
    /// The value; `None` if it is missing, or not a number where one is expected.
    pub value: Option<Scalar>,
    /// Unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The value is present and readable, and has no `#` in front.
    pub valid: bool,
}

/// All fields of a reply, in order. Serialized as an object.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldValues(pub Vec<(String, FieldValue)>);

impl FieldValues {
    /// The words of `data`, named by `fields`. Words beyond these have no names and are left out.
    #[must_use]
    pub fn of(fields: &[Field], data: &[u8]) -> Self {
        let mut words = words(data);
        let read = |field: &Field| {
            let value = read(field.kind, words.next(), &field.unit);
            (field.name.clone(), value)
        };
        Self(fields.iter().map(read).collect())
    }
}

impl Serialize for FieldValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn read(kind: FieldKind, word: Option<&[u8]>, unit: &Option<String>) -> FieldValue {
    let doubtful = word.is_some_and(|word| word.starts_with(b"#"));
    let word = word.map(|word| String::from_utf8_lossy(word.strip_prefix(b"#").unwrap_or(word)));
    let word = word.filter(|word| !word.is_empty() && word != "NA");
    let value = word.and_then(|word| match kind {
        FieldKind::Text => Some(Scalar::Text(word.into_owned())),
        FieldKind::Number => number(&word).map(Scalar::Number),
    });
    FieldValue {
        valid: value.is_some() && !doubtful,
        value,
        unit: unit.clone(),
    }
}

/// Parses a finite decimal number: `NaN`, `inf` and the like are refused.
fn number(word: &str) -> Option<f64> {
    let is_digits = word.bytes().any(|b| b.is_ascii_digit());
    let number: f64 = word.parse().ok()?;
    (is_digits && number.is_finite()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, unit: Option<&str>, kind: FieldKind) -> Field {
        Field {
            name: name.to_owned(),
            unit: unit.map(str::to_owned),
            kind,
        }
    }

    #[test]
    fn words_become_values_with_validity() {
        use FieldKind::{Number, Text};
        let fields = [
            field("co", Some("ppm"), Number),
            field("co2", None, Number),
            field("temp", None, Number),
            field("mode", None, Text),
            field("bad", None, Number),
            field("none", None, Number),
        ];
        let values = FieldValues::of(&fields, b"1.25 #9999\r\n3E-2  #STBY abc");
        assert_eq!(
            serde_json::to_string(&values).unwrap(),
            r#"{"co":{"value":1.25,"unit":"ppm","valid":true},"co2":{"value":9999.0,"valid":false},"temp":{"value":0.03,"valid":true},"mode":{"value":"STBY","valid":false},"bad":{"value":null,"valid":false},"none":{"value":null,"valid":false}}"#
        );
        for word in ["NaN", "inf", "NA", "#", "1e999", "0x10", ""] {
            let values = FieldValues::of(&fields[..1], word.as_bytes());
            assert_eq!(values.0[0].1.value, None, "{word}");
        }
    }
}
