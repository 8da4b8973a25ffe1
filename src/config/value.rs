//! A value of the file with its path. Each reader returns the expected type, or an error that names
//! the path, the value and the valid values.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::error::{ConfigError, Place};
use super::read::AUTH_KEYS;
use super::table::{keys_of, sections};
use super::tree::Node;
use crate::escape::escape;
use crate::time::Span;

/// A node's name, in characters.
pub(super) const NAME_CHARS_MAX: usize = 64;
/// Length of a wrong value in an error, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Returns whether a node's name may have this character.
pub(super) const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A value, the file it is in and its path there.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) file: &'a str,
    pub(super) path: String,
    pub(super) node: &'a Node,
}

/// An object with checked keys: all known, none twice.
pub(super) struct Section<'a> {
    file: &'a str,
    path: String,
    members: &'a [(String, Node)],
}

impl<'a> Value<'a> {
    /// Its position.
    pub(super) fn place(&self) -> Place {
        Place::Key {
            file: self.file.to_owned(),
            path: self.path.clone(),
        }
    }

    /// The error of a wrong value: the value, then the valid values.
    pub(super) fn wrong(&self, may_be: &str) -> ConfigError {
        self.error(format!("{} {may_be}", shown(self.node)))
    }

    /// An error with its own text.
    pub(super) fn error(&self, why: String) -> ConfigError {
        ConfigError::Value {
            place: self.place(),
            why,
        }
    }

    /// None if it is `null`.
    pub(super) fn unless_null(self) -> Option<Self> {
        (*self.node != Node::Null).then_some(self)
    }

    /// The members of an object, none of which is given twice.
    pub(super) fn members(&self) -> Result<&'a [(String, Node)], ConfigError> {
        let Node::Object(members) = self.node else {
            return Err(self.error(format!("is {}, and must be an object", kind(self.node))));
        };
        let mut seen = HashSet::new();
        match members.iter().find(|(key, _)| !seen.insert(key)) {
            None => Ok(members),
            Some((key, _)) => Err(self
                .member(key, self.node)
                .error("is given twice".to_owned())),
        }
    }

    /// An object that has none but `known` keys.
    pub(super) fn section(self, known: &[&str]) -> Result<Section<'a>, ConfigError> {
        let members = self.members()?;
        if let Some((key, _)) = members.iter().find(|(key, _)| !known.contains(&&**key)) {
            return Err(ConfigError::UnknownKey {
                file: self.file.to_owned(),
                key: join(&self.path, key),
                hint: hint(key, known),
            });
        }
        Ok(Section {
            file: self.file,
            path: self.path,
            members,
        })
    }

    /// An object of which only some keys are read.
    pub(super) fn open_section(self) -> Result<Section<'a>, ConfigError> {
        Ok(Section {
            members: self.members()?,
            file: self.file,
            path: self.path,
        })
    }

    /// The value `node` under `key` of this one.
    pub(super) fn member(&self, key: &str, node: &'a Node) -> Value<'a> {
        Value {
            file: self.file,
            path: join(&self.path, key),
            node,
        }
    }

    /// The text of this value; empty if it is not a text.
    pub(super) fn text(&self) -> &'a str {
        match self.node {
            Node::Text(text) => text,
            _ => "",
        }
    }

    /// A text with a bounded number of characters, each of which is `allowed`.
    pub(super) fn text_of(
        &self,
        count: RangeInclusive<usize>,
        allowed: impl Fn(char) -> bool,
        is_not: &str,
    ) -> Result<String, ConfigError> {
        let text = self.text();
        match count.contains(&text.chars().count()) && text.chars().all(allowed) {
            true => Ok(text.to_owned()),
            false => Err(self.wrong(is_not)),
        }
    }

    /// A path: a text that is not empty and has no NUL.
    pub(super) fn path(&self) -> Result<&'a str, ConfigError> {
        match self.text() {
            text if !text.is_empty() && !text.contains('\0') => Ok(text),
            _ => Err(self.wrong("is not a path")),
        }
    }

    /// A list, with at most `max` entries, each under its own path.
    pub(super) fn list(&self, max: usize) -> Result<Vec<Value<'a>>, ConfigError> {
        let Node::List(list) = self.node else {
            return Err(self.error(format!("is {}, and must be a list", kind(self.node))));
        };
        if list.len() > max {
            return Err(self.error(format!("has {} entries, and may have {max}", list.len())));
        }
        let entry = |(i, node)| Value {
            file: self.file,
            path: format!("{}[{i}]", self.path),
            node,
        };
        Ok(list.iter().enumerate().map(entry).collect())
    }

    /// A whole number within `range`.
    pub(super) fn whole(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        self.whole_of("", range)
    }

    /// A whole number of milliseconds within `range`.
    pub(super) fn millis(&self, range: RangeInclusive<u64>) -> Result<Span, ConfigError> {
        self.whole_of(" of milliseconds", range)
            .map(Span::from_millis)
    }

    fn whole_of(&self, unit: &str, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let number = match self.node {
            Node::Number(number) => number.as_u64(),
            _ => None,
        };
        number.filter(|n| range.contains(n)).ok_or_else(|| {
            let (low, high) = range.into_inner();
            self.wrong(&format!("is not a whole number{unit} from {low} to {high}"))
        })
    }

    /// A number of seconds within `range`; fractions are kept to the microsecond.
    pub(super) fn seconds(&self, range: RangeInclusive<f64>) -> Result<Span, ConfigError> {
        let seconds = self.number().filter(|seconds| range.contains(seconds));
        let Some(seconds) = seconds else {
            let (low, high) = range.into_inner();
            return Err(self.wrong(&format!("is not a number of seconds from {low} to {high}")));
        };
        // Bounded above, so the cast is exact; a microsecond survives the way there and back.
        Ok(Span::from_micros((seconds * 1e6).round() as u64))
    }

    fn number(&self) -> Option<f64> {
        match self.node {
            Node::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        choose(self.text(), words)
            .ok_or_else(|| self.wrong(&format!("is not one of {}", list_of(words))))
    }

    /// An address to listen on.
    pub(super) fn address(&self) -> Result<SocketAddr, ConfigError> {
        address(self.text()).map_err(|may_be| self.wrong(&may_be))
    }
}

impl<'a> Section<'a> {
    /// The value under `key`, if it is given.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let (_, node) = self.members.iter().find(|(name, _)| name == key)?;
        Some(Value {
            file: self.file,
            path: join(&self.path, key),
            node,
        })
    }

    /// Reads the value under `key` into `target`; without a value that stays unchanged.
    pub(super) fn set<T>(
        &self,
        key: &str,
        target: &mut T,
        read: impl FnOnce(Value<'a>) -> Result<T, ConfigError>,
    ) -> Result<(), ConfigError> {
        if let Some(value) = self.get(key) {
            *target = read(value)?;
        }
        Ok(())
    }

    /// The same where `null` is allowed, and means none.
    pub(super) fn set_or_null<T>(
        &self,
        key: &str,
        target: &mut Option<T>,
        read: impl FnOnce(Value<'a>) -> Result<T, ConfigError>,
    ) -> Result<(), ConfigError> {
        self.set(key, target, |value| {
            value.unless_null().map(read).transpose()
        })
    }
}

/// Meaning of `word` among `words`.
pub(super) fn choose<T: Copy>(word: &str, words: &[(&str, T)]) -> Option<T> {
    words
        .iter()
        .find(|(name, _)| *name == word)
        .map(|&(_, value)| value)
}

/// `"a", "b" or "c"`.
pub(super) fn list_of<T>(words: &[(&str, T)]) -> String {
    let quoted: Vec<String> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// Reads `ip:port`; the error names the allowed forms.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let wanted = "is not an address such as 127.0.0.1:11451 or [::1]:11451";
        match text.rsplit_once(':') {
            Some((host, port)) if is_host_name(host) && port.parse::<u16>().is_ok() => {
                format!("{wanted} (host names are not looked up: give the IP address)")
            }
            _ => wanted.to_owned(),
        }
    })
}

/// Returns whether this reads as a host name and not as a damaged address.
pub(super) fn is_host_name(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_alphabetic()) && text.chars().all(is_name_char)
}

fn join(path: &str, key: &str) -> String {
    let key = shorten(key);
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// Formats a value for an error: one line, bounded, and without a password.
pub(super) fn shown(node: &Node) -> String {
    match node {
        Node::Null => "null".to_owned(),
        Node::Bool(value) => value.to_string(),
        Node::Number(number) => number.to_string(),
        Node::Text(text) => shown_text(text),
        Node::List(_) | Node::Object(_) => kind(node).to_owned(),
    }
}

/// The same for a text. A possible URL with a password is cut after its scheme.
pub(super) fn shown_text(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => format!("\"{}://…\"", shorten(scheme)),
        _ => format!("\"{}\"", shorten(text)),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    escape(&short).into_owned()
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Null => "null",
        Node::Bool(_) => "true or false",
        Node::Number(_) => "a number",
        Node::Text(_) => "a text",
        Node::List(_) => "a list",
        Node::Object(_) => "an object",
    }
}

/// Suggestion for an unknown key: the same key of another section, the nearest one of this section,
/// or else all keys.
fn hint(key: &str, known: &[&str]) -> String {
    let has_it = |section: &&str| match *section {
        "auth" => AUTH_KEYS.contains(&key),
        section => keys_of(section).contains(&key),
    };
    let elsewhere = sections().into_iter().find(has_it);
    let elsewhere = elsewhere.filter(|_| !known.contains(&key));
    if let Some(section) = elsewhere {
        return format!("did you mean {section}.{key}?");
    }
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&shorten(key), name), name))
        .min();
    match nearest {
        Some((distance, name)) if distance <= (name.len() / 3).max(1) => {
            format!("did you mean {name}?")
        }
        _ => format!("it may be one of {}", known.join(", ")),
    }
}
