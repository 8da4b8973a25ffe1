//! Names of a target: ids, globs, ranges, networks and groups.

use std::net::{IpAddr, Ipv4Addr};

use crate::ids::HostId;
use crate::keys::Network;
use crate::limits::{HOST_ID_BYTES_MAX, TARGET_PARTS_MAX};

use super::label::is_label_text;
use super::{TargetError, shown};

/// Names a term can stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    All,
    Id(String),
    Glob(String),
    Range(Range),
    Network(Network),
    Group(String),
}

/// Numbered hosts: `prefix[spans]suffix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) prefix: String,
    pub(super) suffix: String,
    /// First and last number of each span; ascending, without overlaps.
    spans: Vec<(u64, u64)>,
    /// Digits of each number; 0 for numbers without leading zeros.
    pub(super) width: usize,
}

impl Name {
    /// Parses a name; `term` is the whole term, for the errors.
    pub(super) fn parse(name: &str, term: &str) -> Result<Self, TargetError> {
        if name == "all" {
            return Ok(Self::All);
        }
        if let Some(group) = name.strip_prefix('@') {
            return match is_label_text(group) {
                true => Ok(Self::Group(group.to_owned())),
                false => Err(TargetError::Group(shown(term))),
            };
        }
        if name.contains(['(', ')']) {
            return Err(TargetError::Parenthesis(shown(term)));
        }
        if name.contains('/') {
            let network = name.parse().map(Self::Network);
            return network.map_err(|()| TargetError::Network(shown(term)));
        }
        if name.contains(['[', ']']) {
            if name.bytes().filter(|b| *b == b',').count() >= TARGET_PARTS_MAX {
                return Err(TargetError::ManyParts);
            }
            let range = Range::parse(name).ok_or_else(|| TargetError::Range(shown(term)))?;
            check_characters(&range.prefix, term)?;
            check_characters(&range.suffix, term)?;
            return Ok(Self::Range(range));
        }
        check_characters(name, term)?;
        Ok(match (name.contains(['*', '?']), HostId::named(name)) {
            (true, _) => match shortest(name) {
                Some(pattern) => Self::Glob(pattern),
                // Too long for a host, so no host matches it.
                None => Self::Id(name.to_owned()),
            },
            (false, Ok(id)) => Self::Id(id.as_str().to_owned()),
            // Too long for a host, so no host has it.
            (false, Err(_)) => Self::Id(name.to_owned()),
        })
    }

    /// Compares the name with an id and an address. A group never matches by itself.
    pub(super) fn matches(&self, id: &str, ip: impl FnOnce() -> Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Id(own) => own == id,
            Self::Glob(pattern) => glob(pattern.as_bytes(), id.as_bytes()),
            Self::Range(range) => range.matches(id),
            Self::Network(network) => ip().is_some_and(|ip| network.has(ip)),
            Self::Group(_) => false,
        }
    }
}

/// The glob with one star for each run of them; `None` if it has more other characters than an id.
fn shortest(glob: &str) -> Option<String> {
    let mut pattern = String::with_capacity(glob.len().min(2 * HOST_ID_BYTES_MAX + 1));
    let mut others = 0;
    for c in glob.chars() {
        if c != '*' || !pattern.ends_with('*') {
            pattern.push(c);
            others += usize::from(c != '*');
        }
        if others > HOST_ID_BYTES_MAX {
            return None;
        }
    }
    Some(pattern)
}

fn check_characters(name: &str, term: &str) -> Result<(), TargetError> {
    let allowed =
        |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-' | '*' | '?');
    match name.chars().find(|c| !allowed(c)) {
        None => Ok(()),
        Some(character) => Err(TargetError::Character {
            term: shown(term),
            character: shown(&character.to_string()),
        }),
    }
}

impl Range {
    fn parse(name: &str) -> Option<Self> {
        let (prefix, rest) = name.split_once('[')?;
        let (inner, suffix) = rest.split_once(']')?;
        let plain = |text: &str| !text.contains(['[', ']', '*', '?', ',']);
        if !plain(prefix) || !plain(suffix) {
            return None;
        }
        let spans = inner.split(',').map(|span| {
            let (first, last) = span.split_once('-').unwrap_or((span, span));
            (first.trim(), last.trim())
        });
        let texts: Vec<(&str, &str)> = spans.collect();
        let all = || texts.iter().flat_map(|(first, last)| [*first, *last]);
        // `[001-120]`: the width of a padded number is that of all.
        let width = all().find(|digits| is_padded(digits)).map_or(0, str::len);
        if width > 0 && all().any(|digits| digits.len() != width) {
            return None;
        }
        let mut spans = Vec::with_capacity(texts.len());
        for (first, last) in &texts {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            spans.push((first, last));
        }
        Some(Self {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            spans: merged(spans),
            width,
        })
    }

    /// Returns whether every host that matches is found by its [number](numbered): then the range
    /// is looked up instead of compared.
    pub(super) fn is_indexed(&self) -> bool {
        let Self { prefix, suffix, .. } = self;
        let is_name = !may_be_address(prefix, suffix)
            && !prefix.contains('.')
            && !prefix.ends_with(|c: char| c.is_ascii_digit())
            && (suffix.is_empty() || suffix.starts_with('.'));
        let is_address = || {
            let last = self.spans.last().map_or(0, |span| span.1);
            let least = format!("{prefix}0");
            suffix.is_empty() && last <= 255 && self.width == 0 && least.parse::<Ipv4Addr>().is_ok()
        };
        is_name || is_address()
    }

    /// Number of spans.
    pub(super) fn spans(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn matches(&self, id: &str) -> bool {
        let digits = id.strip_prefix(self.prefix.as_str());
        let digits = digits.and_then(|rest| rest.strip_suffix(self.suffix.as_str()));
        digits.is_some_and(|digits| self.has_digits(digits))
    }

    /// Returns whether the range has the number with these digits.
    pub(super) fn has_digits(&self, digits: &str) -> bool {
        let fits = match self.width {
            0 => !is_padded(digits),
            width => digits.len() == width,
        };
        let Some(found) = number(digits).filter(|_| fits) else {
            return false;
        };
        let place = self.spans.partition_point(|(_, last)| *last < found);
        self.spans.get(place).is_some_and(|span| span.0 <= found)
    }
}

/// Returns whether a number between the two may make an IP address of them.
fn may_be_address(prefix: &str, suffix: &str) -> bool {
    let chars = || prefix.chars().chain(suffix.chars());
    let is_ipv4 = chars().any(|c| c == '.') && chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_ipv6 = chars().any(|c| c == ':')
        && chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
    is_ipv4 || is_ipv6
}

/// The spans in order, with those that meet as one.
pub(super) fn merged(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match merged.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// Returns whether a number has leading zeros.
pub(super) fn is_padded(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

/// Digits only, at most 18 of them: no sign, no blank.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The parts of an id that ends in a number, or has one before its first dot: prefix, digits and
/// suffix. Of an IPv4 address the last number counts; an IPv6 address has none.
pub(super) fn numbered(id: &str) -> Option<(&str, &str, &str)> {
    let is_digit = |c: char| c.is_ascii_digit();
    let may_be_ipv4 = id.starts_with(is_digit) && id.ends_with(is_digit);
    let is_ipv6 = || id.contains(':') && id.parse::<IpAddr>().is_ok();
    if is_ipv6() {
        return None;
    }
    let (name, domain) = match id.find('.') {
        Some(dot) if !(may_be_ipv4 && id.parse::<Ipv4Addr>().is_ok()) => id.split_at(dot),
        _ => (id, ""),
    };
    let prefix = name.trim_end_matches(is_digit);
    let digits = &name[prefix.len()..];
    (1..=18)
        .contains(&digits.len())
        .then_some((prefix, digits, domain))
}

/// Returns whether `pattern` matches all of `text`: `*` any run of characters, `?` one of them.
/// Takes at most the product of the two lengths.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and from where in the text it is tried next.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else {
                    return false;
                };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}
