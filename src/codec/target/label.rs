//! Labels of a target: `role=web`, `env!=test`, `dc in (fra,ams)`.

use crate::limits::LABEL_BYTES_MAX;

use super::name::glob;
use super::{TargetError, shown};

/// Labels that every host has, and which cannot be set. With each the values that are known
/// although no host may have them now.
pub const BUILT_IN_KEYS: [(&str, &[&str]); 4] = [
    ("sys.state", &["online", "offline"]),
    ("sys.version", &[]),
    ("sys.keyed", &["yes", "no"]),
    ("sys.node", &[]),
];

/// A label term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) key: String,
    /// It matches hosts without any of the values, and hosts without the key.
    pub(super) is_negated: bool,
    /// Texts without a wildcard, each once and in order, or one glob.
    pub(super) values: Vec<String>,
    pub(super) is_glob: bool,
}

/// Returns whether `text` may be the key or the value of a label, or the name of a group.
#[must_use]
pub fn is_label_text(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

impl Label {
    /// Parses a label; `None` if the text has no sign of one. `term` is the whole term, for the
    /// errors.
    pub(super) fn parse(text: &str, term: &str) -> Result<Option<Self>, TargetError> {
        let wrong = |why| {
            let term = shown(term);
            TargetError::Label { term, why }
        };
        if let Some((key, values)) = text.split_once('=') {
            let (key, is_negated) = match key.strip_suffix('!') {
                Some(key) => (key, true),
                None => (key, false),
            };
            check_key(key).map_err(wrong)?;
            let is_glob = values.contains(['*', '?']);
            let bare: String = values.chars().filter(|c| !matches!(c, '*' | '?')).collect();
            let bare_ok = bare.is_empty() && is_glob;
            if values.len() > LABEL_BYTES_MAX || !(bare_ok || is_label_text(&bare)) {
                return Err(wrong(
                    "its value is not 1 to 63 of A-Z a-z 0-9 . _ - and the wildcards * ?",
                ));
            }
            return Ok(Some(Self {
                key: key.to_owned(),
                is_negated,
                values: vec![values.to_owned()],
                is_glob,
            }));
        }
        let Some((head, list)) = text.split_once('(') else {
            return Ok(None);
        };
        let mut words = head.split_whitespace();
        let (key, is_negated) = match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => (key, false),
            (Some(key), Some("notin"), None) => (key, true),
            _ => return Ok(None),
        };
        check_key(key).map_err(wrong)?;
        let Some(list) = list.strip_suffix(')') else {
            return Err(wrong("its list does not end in )"));
        };
        let values = list.split(',').map(|value| match value.trim() {
            value if is_label_text(value) => Ok(value.to_owned()),
            _ => Err(wrong(
                "a value of its list is not 1 to 63 of A-Z a-z 0-9 . _ -",
            )),
        });
        let mut values = values.collect::<Result<Vec<_>, _>>()?;
        values.sort_unstable();
        values.dedup();
        Ok(Some(Self {
            key: key.to_owned(),
            is_negated,
            values,
            is_glob: false,
        }))
    }

    /// Place of the value that a host's value equals or matches.
    pub(super) fn place_of(&self, value: &str) -> Option<usize> {
        match self.is_glob {
            true => {
                let matches = |own: &String| glob(own.as_bytes(), value.as_bytes());
                self.values.iter().position(matches)
            }
            false => {
                let found = self.values.binary_search_by(|own| own.as_str().cmp(value));
                found.ok()
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), &'static str> {
    match is_label_text(key) {
        true => Ok(()),
        false => Err("its key is not 1 to 63 of A-Z a-z 0-9 . _ -"),
    }
}
