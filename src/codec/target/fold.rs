//! Hosts as a short text, numbered ones together.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::limits::TARGET_PARTS_MAX;

use super::name::{is_padded, merged, number, numbered};

/// Hosts that are being folded, one at a time.
#[derive(Debug, Default)]
pub struct Folder {
    /// By prefix and suffix, with a bracket between them.
    families: HashMap<String, Family>,
    singles: Vec<String>,
    key: String,
}

/// Numbered names alike but for the number.
#[derive(Debug, Default)]
struct Family {
    /// Numbers without leading zeros.
    plain: Vec<u64>,
    /// Numbers with leading zeros, by width.
    padded: HashMap<usize, Vec<u64>>,
}

impl Folder {
    /// Adds a host.
    pub fn add(&mut self, host: &str) {
        let parts = numbered(host);
        // At most 18 digits.
        let parts = parts.and_then(|parts| Some((parts, number(parts.1)?)));
        let Some(((prefix, digits, suffix), number)) = parts else {
            self.singles.push(match host {
                "all" => "\"all\"".to_owned(),
                _ => host.to_owned(),
            });
            return;
        };
        self.key.clear();
        self.key.extend([prefix, "[", suffix]);
        if !self.families.contains_key(&self.key) {
            self.families.insert(self.key.clone(), Family::default());
        }
        if let Some(family) = self.families.get_mut(&self.key) {
            match is_padded(digits) {
                true => family.padded.entry(digits.len()).or_default().push(number),
                false => family.plain.push(number),
            }
        }
    }

    /// The folded hosts.
    #[must_use]
    pub fn finish(self) -> String {
        let mut parts = self.singles;
        for (key, family) in self.families {
            let (prefix, suffix) = key.split_once('[').unwrap_or((&key, ""));
            let Family { plain, mut padded } = family;
            let mut rest = Vec::with_capacity(plain.len());
            for number in plain {
                // `db-099` and `db-100` stand together.
                match padded.get_mut(&digits_of(number)) {
                    Some(numbers) => numbers.push(number),
                    None => rest.push(number),
                }
            }
            for (width, numbers) in padded.into_iter().chain([(0, rest)]) {
                let spans = merged(numbers.into_iter().map(|number| (number, number)).collect());
                let spans = spans.chunks(TARGET_PARTS_MAX);
                parts.extend(spans.map(|spans| span_text(prefix, spans, suffix, width)));
            }
        }
        parts.sort_by(|one, other| natural_order(one, other));
        parts.dedup();
        parts.join(",")
    }
}

/// Hosts as a short text, in the order of names and numbers: `db-[001-024],lb,web-[1-12,15]`.
/// Parsing it gives the same hosts again. A host that is named `all` stands in quotes, since the
/// bare word means every host.
#[must_use]
pub fn fold<'a>(hosts: impl Iterator<Item = &'a str>) -> String {
    let mut folder = Folder::default();
    hosts.for_each(|host| folder.add(host));
    folder.finish()
}

fn digits_of(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

fn span_text(prefix: &str, spans: &[(u64, u64)], suffix: &str, width: usize) -> String {
    use std::fmt::Write as _;
    let mut text = prefix.to_owned();
    if let [(first, last)] = spans
        && first == last
    {
        let _ = write!(text, "{first:0width$}");
    } else {
        let mut mark = '[';
        for (first, last) in spans {
            let _ = write!(text, "{mark}{first:0width$}");
            if last > first {
                let _ = write!(text, "-{last:0width$}");
            }
            mark = ',';
        }
        text.push(']');
    }
    text.push_str(suffix);
    text
}

/// Compares two names with their digits read as numbers: `web-2` before `web-10`.
#[must_use]
pub fn natural_order(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one, other);
    while let (Some(a), Some(b)) = (left.chars().next(), right.chars().next()) {
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let ((a, left_rest), (b, right_rest)) = (leading_digits(left), leading_digits(right));
            let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (left_rest, right_rest);
        } else if a == b {
            (left, right) = (&left[a.len_utf8()..], &right[b.len_utf8()..]);
        } else {
            return a.cmp(&b);
        }
    }
    left.len().cmp(&right.len()).then_with(|| one.cmp(other))
}

fn leading_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}
