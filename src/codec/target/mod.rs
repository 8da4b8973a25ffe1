//! Targets: a text that names hosts of the fleet.
//!
//! ```text
//! target = term *("," term)
//! term   = ["!"] (name | label)
//! name   = "all" | ID | GLOB (* ?) | web-[1-99,101] | db-[001-010] | 10.1.0.0/16 | @group
//! label  = KEY=GLOB | KEY!=GLOB | KEY in (a,b) | KEY notin (a,b) | KEY=* (has it)
//! ```
//!
//! Names add up, labels narrow, and `!` takes away; the order of the terms does not matter. Without
//! a positive name the base is all known hosts. A parsed target is compared with the hosts by a
//! [`Selection`], one host at a time.

mod fold;
mod label;
mod name;
mod select;
#[cfg(test)]
mod tests;

pub use self::fold::{Folder, fold, natural_order};
pub use self::label::{BUILT_IN_KEYS, is_label_text};
pub use self::select::{Facts, Groups, NoMatch, Search, Selection};

use crate::limits::{TARGET_BYTES_MAX, TARGET_PARTS_MAX, TARGET_PATTERNS_MAX};

use self::label::Label;
use self::name::Name;

/// Parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    terms: Vec<Term>,
}

/// One term, with the text it was written as.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    text: String,
    takes_away: bool,
    what: What,
}

/// Kinds of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Name(Name),
    Label(Label),
}

/// Reason why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No term at all.
    #[error("the target is empty: it may be host names, globs such as web-*, labels, or all")]
    Empty,
    /// Nothing between two commas, or behind a `!`.
    #[error("the target '{0}' has an empty term")]
    EmptyTerm(String),
    /// Longer than the bound.
    #[error(
        "the target has {0} bytes, and at most {TARGET_BYTES_MAX} are possible: use globs, ranges, labels or a group"
    )]
    Long(usize),
    /// More names, numbers and values than the bound.
    #[error(
        "the target has more than {TARGET_PARTS_MAX} names, numbers and values: use globs, ranges, labels or a group"
    )]
    ManyParts,
    /// More terms than the bound that are neither plain ids nor numbered names.
    #[error("the target has more than {TARGET_PATTERNS_MAX} globs, networks, groups and labels")]
    ManyPatterns,
    /// A range that cannot be read.
    #[error("'{0}': a range may be NAME-[1-99,101], with its numbers ascending and equally padded")]
    Range(String),
    /// A network that cannot be read.
    #[error("'{0}': a network may be 10.1.0.0/16 or fd00::/8, without bits behind its length")]
    Network(String),
    /// A group's name that cannot be read.
    #[error("'{0}': a group may be @NAME, of 1 to 63 characters A-Z a-z 0-9 . _ -")]
    Group(String),
    /// A label that cannot be read.
    #[error("'{term}': {why}; a label may be KEY=GLOB, KEY!=GLOB, KEY in (a,b) or KEY notin (a,b)")]
    Label {
        /// The term.
        term: String,
        /// The mistake.
        why: &'static str,
    },
    /// A parenthesis outside of `in (…)`.
    #[error("'{0}': parentheses stand only in KEY in (a,b) and KEY notin (a,b)")]
    Parenthesis(String),
    /// A label where only names and networks are possible.
    #[error("'{0}': only names and networks are possible here, no labels")]
    NoLabels(String),
    /// A character that no name has.
    #[error("'{term}': no host name contains '{character}'")]
    Character {
        /// The term.
        term: String,
        /// The character, escaped.
        character: String,
    },
}

impl Target {
    /// Parses `text`.
    ///
    /// # Errors
    /// The first term that cannot be read.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.len() > TARGET_BYTES_MAX {
            return Err(TargetError::Long(text.len()));
        }
        if text.trim().is_empty() {
            return Err(TargetError::Empty);
        }
        let terms = split(text).map(|term| match term.trim() {
            "" => Err(TargetError::EmptyTerm(shown(text))),
            term => Term::parse(term),
        });
        let mut parsed = Vec::new();
        let mut size = Size::default();
        for term in terms {
            let term = term?;
            size.add(&term);
            if size.parts > TARGET_PARTS_MAX {
                return Err(TargetError::ManyParts);
            }
            if size.patterns > TARGET_PATTERNS_MAX {
                return Err(TargetError::ManyPatterns);
            }
            parsed.push(term);
        }
        Ok(Self {
            text: text.trim().to_owned(),
            terms: parsed,
        })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The ids, where every term is one plain id: such a target needs no list of the fleet.
    #[must_use]
    pub fn plain_ids(&self) -> Option<Vec<&str>> {
        let ids = self.terms.iter().map(|term| match &term.what {
            What::Name(Name::Id(id)) if !term.takes_away => Some(id.as_str()),
            _ => None,
        });
        ids.collect()
    }

    /// Returns whether one of the terms is `all`.
    #[must_use]
    pub fn names_all(&self) -> bool {
        let all = |term: &Term| !term.takes_away && matches!(term.what, What::Name(Name::All));
        self.terms.iter().any(all)
    }

    /// Compares all `hosts` with the target, without groups. Returns the places of the selected
    /// ones.
    ///
    /// # Errors
    /// The first term that matches nothing.
    pub fn select<F: Facts>(&self, hosts: &[F]) -> Result<Vec<usize>, NoMatch> {
        Selection::new(self, &Groups::new())?.select(hosts)
    }

    /// Checks that the target has names and networks only.
    ///
    /// # Errors
    /// The first label, or a group, which may have labels.
    pub fn without_labels(self) -> Result<Self, TargetError> {
        let wrong = |term: &&Term| matches!(term.what, What::Label(_) | What::Name(Name::Group(_)));
        match self.terms.iter().find(wrong) {
            Some(term) => Err(TargetError::NoLabels(term.text.clone())),
            None => Ok(self),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Cost of a target.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Names, numbers and values.
    parts: usize,
    /// Terms with which each host must be compared.
    patterns: usize,
}

impl Size {
    fn add(&mut self, term: &Term) {
        self.parts += match &term.what {
            What::Name(Name::Range(range)) => range.spans(),
            What::Label(label) => label.values.len(),
            What::Name(_) => 1,
        };
        self.patterns += usize::from(term.is_pattern());
    }

    /// Returns whether a target may have this size.
    fn is_allowed(self) -> bool {
        self.parts <= TARGET_PARTS_MAX && self.patterns <= TARGET_PATTERNS_MAX
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

/// A text of an error: escaped, and of a bounded length.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    crate::escape::escape(&short).into_owned()
}

impl Term {
    fn parse(text: &str) -> Result<Self, TargetError> {
        let (takes_away, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        if rest.is_empty() {
            return Err(TargetError::EmptyTerm(shown(text)));
        }
        let what = match Label::parse(rest, text)? {
            Some(label) => What::Label(label),
            None => What::Name(Name::parse(rest, text)?),
        };
        Ok(Self {
            text: text.to_owned(),
            takes_away,
            what,
        })
    }

    /// Returns whether each host must be compared with the term. Plain ids and most numbered names
    /// are looked up instead.
    fn is_pattern(&self) -> bool {
        match &self.what {
            What::Name(Name::All | Name::Id(_)) => false,
            What::Name(Name::Range(range)) => !range.is_indexed(),
            What::Name(_) | What::Label(_) => true,
        }
    }
}
