//! Targets: a text that names hosts of the fleet, resolved against the hosts that are known.
//!
//! ```text
//! target = term *("," term)
//! term   = ["!"] name
//! name   = "all" | ID | GLOB (* ?) | web-[1-99,101] | db-[001-010] (zero-padded)
//! ```
//!
//! Names add up and `!` takes away; the order of the terms does not matter. Without a positive name
//! the base is all known hosts. Labels, networks and groups have a place in the grammar and are
//! refused by name until they exist.

use std::collections::HashMap;

use crate::escape::nearest;
use crate::ids::HostId;
use crate::limits::{TARGET_BYTES_MAX, TARGET_SPANS_MAX};

/// Parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    terms: Vec<Term>,
}

/// One term, with the text it was written as.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    text: String,
    takes_away: bool,
    name: Name,
}

/// Names a term can stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    All,
    Id(String),
    Glob(String),
    Range(Range),
}

/// Numbered hosts: `prefix[spans]suffix`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    prefix: String,
    suffix: String,
    /// First and last number of each span.
    spans: Vec<(u64, u64)>,
    /// Digits of each number; 0 for numbers without leading zeros.
    width: usize,
}

/// Reason why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No term at all.
    #[error("the target is empty: it may be host names, globs such as web-*, or all")]
    Empty,
    /// Nothing between two commas.
    #[error("the target '{0}' has an empty term")]
    EmptyTerm(String),
    /// Longer than the bound.
    #[error("the target is longer than {TARGET_BYTES_MAX} bytes")]
    Long,
    /// Part of the grammar that does not exist yet.
    #[error(
        "'{term}': {what} are not supported yet; a term may be a host name, a glob (* ?) or all"
    )]
    Unsupported {
        /// The term.
        term: String,
        /// Its kind.
        what: &'static str,
    },
    /// A range that cannot be read.
    #[error("'{0}': a range may be NAME-[1-99,101], with its numbers ascending and equally padded")]
    Range(String),
    /// A character that no name has.
    #[error("'{term}': no host name contains '{character}'")]
    Character {
        /// The term.
        term: String,
        /// The character, escaped.
        character: String,
    },
}

/// A term that matches no known host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{term}' matches no known host{}", hint(.nearest))]
pub struct NoMatch {
    /// The term, as it was written.
    pub term: String,
    /// The known name that is most like it.
    pub nearest: Option<String>,
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!(" (did you mean '{name}'?)"),
        None => String::new(),
    }
}

impl Target {
    /// Parses `text`.
    ///
    /// # Errors
    /// The first term that cannot be read.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.len() > TARGET_BYTES_MAX {
            return Err(TargetError::Long);
        }
        if text.trim().is_empty() {
            return Err(TargetError::Empty);
        }
        let terms = split(text).map(|term| match term.trim() {
            "" => Err(TargetError::EmptyTerm(text.to_owned())),
            term => Term::parse(term),
        });
        Ok(Self {
            terms: terms.collect::<Result<_, _>>()?,
        })
    }

    /// Places in `hosts` of those that the target selects, in their order.
    ///
    /// # Errors
    /// The first term that matches none of `hosts`.
    pub fn select(&self, hosts: &[&str]) -> Result<Vec<usize>, NoMatch> {
        let is_id = |term: &Term| matches!(term.name, Name::Id(_));
        let places: HashMap<&str, usize> = match self.terms.iter().any(is_id) {
            true => hosts.iter().enumerate().map(|(at, id)| (*id, at)).collect(),
            false => HashMap::new(),
        };
        let negative_only = self.terms.iter().all(|term| term.takes_away);
        let mut added = vec![negative_only; hosts.len()];
        let mut taken = vec![false; hosts.len()];
        for term in &self.terms {
            let marks = match term.takes_away {
                true => &mut taken,
                false => &mut added,
            };
            let mut matched = false;
            match &term.name {
                Name::Id(id) => {
                    if let Some(at) = places.get(id.as_str()) {
                        marks[*at] = true;
                        matched = true;
                    }
                }
                name => {
                    for (mark, host) in marks.iter_mut().zip(hosts) {
                        let hit = name.matches(host);
                        *mark |= hit;
                        matched |= hit;
                    }
                }
            }
            if !matched {
                let word = term.text.trim_start_matches('!').trim_start();
                return Err(NoMatch {
                    term: term.text.clone(),
                    nearest: nearest(word, hosts.iter().copied()).map(str::to_owned),
                });
            }
        }
        let chosen = added.iter().zip(&taken).enumerate();
        Ok(chosen
            .filter(|(_, (added, taken))| **added && !**taken)
            .map(|(at, _)| at)
            .collect())
    }

    /// The ids, where every term is one plain id: such a target needs no list of the fleet.
    #[must_use]
    pub fn plain_ids(&self) -> Option<Vec<&str>> {
        let ids = self.terms.iter().map(|term| match &term.name {
            Name::Id(id) if !term.takes_away => Some(id.as_str()),
            _ => None,
        });
        ids.collect()
    }

    /// Returns whether one of the terms is `all`.
    #[must_use]
    pub fn names_all(&self) -> bool {
        let all = |term: &Term| !term.takes_away && term.name == Name::All;
        self.terms.iter().any(all)
    }
}

/// Splits at the commas that stand outside of brackets and parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0usize;
    text.split(move |c| {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

impl Term {
    fn parse(text: &str) -> Result<Self, TargetError> {
        let (takes_away, name) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        Ok(Self {
            text: text.to_owned(),
            takes_away,
            name: Name::parse(name, text)?,
        })
    }
}

impl Name {
    fn parse(name: &str, term: &str) -> Result<Self, TargetError> {
        let unsupported = |what| {
            let term = term.to_owned();
            Err(TargetError::Unsupported { term, what })
        };
        if name.is_empty() {
            return Err(TargetError::EmptyTerm(term.to_owned()));
        }
        if name == "all" {
            return Ok(Self::All);
        }
        if name.starts_with('@') {
            return unsupported("groups");
        }
        if name.contains(['=', '(', ')']) {
            return unsupported("labels");
        }
        if name.contains('/') {
            return unsupported("networks");
        }
        if name.contains(['[', ']']) {
            let range = Range::parse(name).ok_or_else(|| TargetError::Range(term.to_owned()))?;
            return Ok(Self::Range(range));
        }
        let wild = name.contains(['*', '?']);
        let allowed =
            |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-' | '*' | '?');
        if let Some(character) = name.chars().find(|c| !allowed(c)) {
            return Err(TargetError::Character {
                term: term.to_owned(),
                character: crate::escape::escape(&character.to_string()).into_owned(),
            });
        }
        Ok(match (wild, HostId::named(name)) {
            (true, _) => Self::Glob(name.to_owned()),
            (false, Ok(id)) => Self::Id(id.as_str().to_owned()),
            // Too long for a host, so no host has it.
            (false, Err(_)) => Self::Id(name.to_owned()),
        })
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::All => true,
            Self::Id(id) => id == host,
            Self::Glob(pattern) => glob(pattern.as_bytes(), host.as_bytes()),
            Self::Range(range) => range.matches(host),
        }
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
        let mut spans = Vec::new();
        let mut width = None;
        for span in inner.split(',') {
            let (first, last) = span.split_once('-').unwrap_or((span, span));
            let (first, last) = (first.trim(), last.trim());
            for number in [first, last] {
                let padded = number.len() > 1 && number.starts_with('0');
                let own = if padded { number.len() } else { 0 };
                // `[001-120]`: the width of the padded number is that of all.
                match width {
                    Some(known) if known == own || (own == 0 && known == number.len()) => {}
                    Some(_) => return None,
                    None => width = Some(own),
                }
            }
            let (first, last) = (number(first)?, number(last)?);
            if first > last || spans.len() == TARGET_SPANS_MAX {
                return None;
            }
            spans.push((first, last));
        }
        Some(Self {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            spans,
            width: width?,
        })
    }

    fn matches(&self, host: &str) -> bool {
        let digits = host.strip_prefix(self.prefix.as_str());
        let digits = digits.and_then(|rest| rest.strip_suffix(self.suffix.as_str()));
        let Some((digits, found)) = digits.and_then(|text| Some((text, number(text)?))) else {
            return false;
        };
        let padded = digits.len() > 1 && digits.starts_with('0');
        let fits = match self.width {
            0 => !padded,
            width => digits.len() == width,
        };
        fits && (self.spans.iter()).any(|(first, last)| (*first..=*last).contains(&found))
    }
}

/// Digits only, at most 18 of them: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    let digits = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Returns whether `pattern` matches all of `text`: `*` any run of characters, `?` one of them.
/// Takes at most the product of the two lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
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

/// Hosts as a short text, numbered ones together: `web-[1-12,15],db-[001-024],lb`. Parsing it gives
/// the same hosts again.
#[must_use]
pub fn fold<'a>(hosts: impl Iterator<Item = &'a str>) -> String {
    /// Numbered hosts alike but for their number.
    #[derive(Default)]
    struct Family {
        numbers: Vec<u64>,
    }
    let mut order: Vec<(&str, &str, usize)> = Vec::new();
    let mut families: HashMap<(&str, &str, usize), Family> = HashMap::new();
    let mut single = Vec::new();
    for host in hosts {
        match numbered(host) {
            Some((prefix, number, suffix, width)) => {
                let key = (prefix, suffix, width);
                let family = families.entry(key).or_insert_with(|| {
                    order.push(key);
                    Family::default()
                });
                family.numbers.push(number);
            }
            None => single.push(host),
        }
    }
    let mut parts = Vec::new();
    for key in order {
        let (prefix, suffix, width) = key;
        let Some(mut family) = families.remove(&key) else {
            continue;
        };
        family.numbers.sort_unstable();
        family.numbers.dedup();
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for number in family.numbers {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => spans.push((number, number)),
            }
        }
        let padded = |number: u64| format!("{number:0width$}");
        parts.push(match spans[..] {
            [(first, last)] if first == last => format!("{prefix}{}{suffix}", padded(first)),
            _ => {
                let spans: Vec<String> = spans
                    .iter()
                    .map(|(first, last)| match first == last {
                        true => padded(*first),
                        false => format!("{}-{}", padded(*first), padded(*last)),
                    })
                    .collect();
                format!("{prefix}[{}]{suffix}", spans.join(","))
            }
        });
    }
    single.sort_unstable();
    single.dedup();
    parts.extend(single.into_iter().map(str::to_owned));
    parts.join(",")
}

/// The parts of a name that ends in a number, or has one before its first dot: prefix, number, suffix,
/// and the digits of a number with leading zeros (else 0).
fn numbered(host: &str) -> Option<(&str, u64, &str, usize)> {
    let is_digit = |c: char| c.is_ascii_digit();
    let address = host.parse::<std::net::IpAddr>().is_ok();
    let (name, domain) = match host.find('.') {
        Some(dot) if !address => host.split_at(dot),
        _ => (host, ""),
    };
    let prefix = name.trim_end_matches(is_digit);
    let digits = &name[prefix.len()..];
    let number = number(digits)?;
    let padded = digits.len() > 1 && digits.starts_with('0');
    if host.contains("::") {
        // The last group of an IPv6 address is hexadecimal.
        return None;
    }
    Some((
        prefix,
        number,
        domain,
        if padded { digits.len() } else { 0 },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const FLEET: [&str; 9] = [
        "10.0.0.7",
        "db-001",
        "db-010",
        "lb",
        "web-1",
        "web-10",
        "web-2",
        "web-3.example",
        "allow",
    ];

    fn selected(text: &str) -> Result<Vec<&'static str>, String> {
        let target = Target::parse(text).map_err(|error| error.to_string())?;
        let places = target.select(&FLEET).map_err(|error| error.to_string())?;
        Ok(places.into_iter().map(|at| FLEET[at]).collect())
    }

    #[test]
    fn names_add_up_and_a_bang_takes_away() {
        for (text, hosts) in [
            ("web-1", &["web-1"][..]),
            ("web-?", &["web-1", "web-2"]),
            ("web-*", &["web-1", "web-10", "web-2", "web-3.example"]),
            (" lb , web-1", &["lb", "web-1"]),
            ("web-1,lb,web-1", &["lb", "web-1"]),
            ("!web-1,web-*,!*.example", &["web-10", "web-2"]),
            ("all,!web-*,!db-*", &["10.0.0.7", "lb", "allow"]),
            ("!web-*,! db-*", &["10.0.0.7", "lb", "allow"]),
            ("*", &FLEET),
            ("all", &FLEET),
            ("::ffff:10.0.0.7", &["10.0.0.7"]),
            ("web-[1-9,10]", &["web-1", "web-10", "web-2"]),
            ("web-[1-3].example", &["web-3.example"]),
            ("db-[001-010]", &["db-001", "db-010"]),
            ("10.0.0.[1-9]", &["10.0.0.7"]),
            ("lb,!lb", &[]),
        ] {
            assert_eq!(selected(text).as_deref(), Ok(hosts), "{text}");
        }
    }

    #[test]
    fn a_term_without_a_match_is_named_with_the_nearest_host() {
        for (text, words) in [
            ("wbe-1", &["'wbe-1'", "'web-1'"][..]),
            ("web-1,!wbe-2", &["'!wbe-2'", "'web-2'"]),
            ("zzz*", &["'zzz*'", "matches no known host"]),
            ("db-[1-10]", &["'db-[1-10]'"]),
            ("web-[4-9]", &["'web-[4-9]'"]),
        ] {
            let said = selected(text).unwrap_err();
            for word in words {
                assert!(said.contains(word), "{text}: {said}");
            }
        }
    }

    #[test]
    fn what_is_no_target_is_said_with_its_term() {
        for (text, words) in [
            ("", "empty"),
            (" ", "empty"),
            ("a,,b", "empty term"),
            ("a,!", "empty term"),
            ("@web", "groups"),
            ("role=web", "labels"),
            ("a,role in (a,b)", "'role in (a,b)': labels"),
            ("10.0.0.0/8", "networks"),
            ("web-[3-1]", "range"),
            ("web-[]", "range"),
            ("web-[01-3]", "range"),
            ("web-[1-3", "range"),
            ("web-[1-9]*", "range"),
            ("a b", "' '"),
            ("a\u{1b}", "\\u{1b}"),
            ("web;rm", "';'"),
        ] {
            let said = Target::parse(text).unwrap_err().to_string();
            assert!(said.contains(words), "{text:?}: {said}");
        }
        let long = "a".repeat(TARGET_BYTES_MAX + 1);
        assert_eq!(Target::parse(&long), Err(TargetError::Long));
    }

    #[test]
    fn a_glob_with_many_stars_ends() {
        let pattern = "*a".repeat(30);
        let text = "b".repeat(60);
        assert!(!glob(pattern.as_bytes(), text.as_bytes()));
        assert!(glob(b"**", b"") && glob(b"a*?c", b"abbc") && !glob(b"a?", b"a"));
    }

    #[test]
    fn hosts_are_folded_by_their_numbers() {
        for (hosts, text) in [
            (&["web-2", "web-1", "web-3", "web-7"][..], "web-[1-3,7]"),
            (&["db-010", "db-009", "lb"], "db-[009-010],lb"),
            (&["10.0.0.9", "10.0.0.10"], "10.0.0.[9-10]"),
            (&["web-1.example", "web-2.example"], "web-[1-2].example"),
            (&["web-1"], "web-1"),
            (&["1", "2"], "[1-2]"),
            (&[], ""),
        ] {
            assert_eq!(fold(hosts.iter().copied()), text);
        }
    }

    proptest! {
        #[test]
        fn parsing_a_folded_set_gives_the_set(
            hosts in proptest::collection::btree_set("[ab]{1,2}-?0?[0-9]{0,2}(\\.[a-c0-9]{1,2})?|10\\.0\\.0\\.[1-9]", 1..20),
            others in proptest::collection::btree_set("[ab]{1,2}-?0?[0-9]{0,2}", 0..20),
        ) {
            let text = fold(hosts.iter().map(String::as_str));
            let known: BTreeSet<&str> = hosts.iter().chain(&others).map(String::as_str).collect();
            let known: Vec<&str> = known.into_iter().collect();
            let found = Target::parse(&text).unwrap().select(&known).unwrap();
            let found: BTreeSet<&str> = found.into_iter().map(|at| known[at]).collect();
            let wanted: BTreeSet<&str> = hosts.iter().map(String::as_str).collect();
            prop_assert_eq!(found, wanted, "{}", text);
        }

        #[test]
        fn nothing_panics(text in "[a!,*?\\[\\]0-9 ()=@/.-]{0,24}") {
            if let Ok(target) = Target::parse(&text) {
                let _ = target.select(&FLEET);
            }
        }

        #[test]
        fn order_does_not_matter(terms in proptest::collection::vec("!?(web-\\*|web-1|lb|all|db-\\*)", 1..5)) {
            let forward = selected(&terms.join(","));
            let backward: Vec<String> = terms.iter().rev().cloned().collect();
            prop_assert_eq!(forward, selected(&backward.join(",")));
        }
    }
}
