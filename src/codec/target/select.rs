//! Comparison of a target with the hosts, one host at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use crate::escape::nearest;
use crate::limits::{
    TARGET_GROUPS_DEPTH_MAX, TARGET_GROUPS_MAX, TARGET_NEAREST_CHARS_MAX,
    TARGET_NEAREST_DISTANCE_MAX, TARGET_NEAREST_LOOKS_MAX, TARGET_PARTS_MAX, TARGET_PATTERNS_MAX,
};

use super::label::{BUILT_IN_KEYS, Label};
use super::name::{Name, Range, numbered};
use super::{Size, Target, Term, What, shown};

/// Named targets of the configuration.
pub type Groups = BTreeMap<String, Arc<Target>>;

/// Facts of a host that a target may ask for.
pub trait Facts {
    /// Its name.
    fn id(&self) -> &str;
    /// Peer address, current or last.
    fn ip(&self) -> Option<IpAddr>;
    /// Calls `with` for the value of a label, if the host has it. Built-in labels are included.
    fn label(&self, key: &str, with: &mut dyn FnMut(&str));
    /// Calls `with` for each label except the built-in ones.
    fn labels(&self, with: &mut dyn FnMut(&str, &str));
}

/// A target in comparison with the hosts.
#[derive(Debug)]
pub struct Selection {
    terms: Arc<[Term]>,
    /// Whether each term has matched.
    hits: Vec<bool>,
    /// Terms that are looked up by the id.
    ids: HashMap<String, Vec<u32>>,
    /// Terms that are looked up by prefix, suffix and number of the id.
    families: HashMap<String, Vec<u32>>,
    patterns: Vec<Pattern>,
    /// Terms with which each host is compared, with those of groups.
    cost: usize,
    /// Without a positive name the base is all hosts.
    from_all: bool,
    /// Buffer for a key of `families`.
    family: String,
}

/// A term with which every host is compared.
#[derive(Debug)]
struct Pattern {
    term: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Name,
    Group(Box<Selection>),
    Label {
        is_key_known: bool,
        /// Whether a host has each value.
        values: Vec<bool>,
    },
}

/// A term that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMatch {
    /// The term, as it was written.
    pub term: String,
    /// Group whose target has the term.
    pub group: Option<String>,
    /// The unknown thing.
    missing: Missing,
    /// The known name that is most like it.
    pub nearest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Missing {
    Host,
    Address,
    Key(String),
    Value(String, String),
    Group,
    Depth,
    Size,
}

/// What the groups of a target have taken of its bounds.
#[derive(Debug, Default)]
struct Taken {
    groups: usize,
    size: Size,
}

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "group {group}: ")?;
        }
        let term = shown(&self.term);
        match &self.missing {
            Missing::Host => write!(f, "'{term}' matches no known host")?,
            Missing::Address => write!(f, "'{term}' matches the address of no known host")?,
            Missing::Key(key) => write!(f, "'{term}': no known host has the label {key}")?,
            Missing::Value(key, value) => {
                write!(f, "'{term}': no known host has {key}={value}")?;
            }
            Missing::Group => write!(f, "'{term}' is no known group")?,
            Missing::Depth => write!(f, "'{term}' leads through too many groups")?,
            Missing::Size => write!(
                f,
                "'{term}': with its groups the target has more than {TARGET_PARTS_MAX} names, numbers and values, or more than {TARGET_PATTERNS_MAX} globs, networks, groups and labels"
            )?,
        }
        match &self.nearest {
            Some(name) => write!(f, " (did you mean '{name}'?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NoMatch {}

impl Selection {
    /// Prepares the comparison of `target` with the hosts.
    ///
    /// # Errors
    /// A group that is not in `groups`, or groups beyond the bounds.
    pub fn new(target: &Target, groups: &Groups) -> Result<Self, NoMatch> {
        let mut taken = Taken::default();
        let mut this = Self::within(target, groups, 0, &mut taken)?;
        this.cost = taken.size.patterns;
        Ok(this)
    }

    /// Number of terms with which each host is compared.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    fn within(
        target: &Target,
        groups: &Groups,
        depth: usize,
        taken: &mut Taken,
    ) -> Result<Self, NoMatch> {
        for term in &target.terms {
            taken.size.add(term);
            if !taken.size.is_allowed() {
                return Err(NoMatch::of(term, Missing::Size));
            }
        }
        let terms: Arc<[Term]> = target.terms.clone().into();
        let mut this = Self {
            hits: vec![false; terms.len()],
            ids: HashMap::new(),
            families: HashMap::new(),
            patterns: Vec::new(),
            cost: 0,
            from_all: true,
            family: String::new(),
            terms: Arc::clone(&terms),
        };
        let mut has_all = [false; 2];
        for (place, term) in terms.iter().enumerate() {
            let number = place as u32;
            let kind = match &term.what {
                What::Label(label) => Kind::Label {
                    is_key_known: false,
                    values: vec![false; label.values.len()],
                },
                What::Name(name) => {
                    this.from_all &= term.takes_away;
                    match name {
                        Name::All => {
                            let seen = &mut has_all[usize::from(term.takes_away)];
                            if std::mem::replace(seen, true) {
                                // The first of them is judged.
                                this.hits[place] = true;
                                continue;
                            }
                            Kind::Name
                        }
                        Name::Id(id) => {
                            this.ids.entry(id.clone()).or_default().push(number);
                            continue;
                        }
                        Name::Range(range) if range.is_indexed() => {
                            let key = this.family_of(&range.prefix, &range.suffix).to_owned();
                            this.families.entry(key).or_default().push(number);
                            continue;
                        }
                        Name::Range(_) | Name::Glob(_) | Name::Network(_) => Kind::Name,
                        Name::Group(group) => {
                            let inner = find_group(term, group, groups, depth, taken)?;
                            let inner = Self::within(inner, groups, depth + 1, taken);
                            let inner = inner.map_err(|error| error.inside(group))?;
                            Kind::Group(Box::new(inner))
                        }
                    }
                }
            };
            this.patterns.push(Pattern { term: number, kind });
        }
        Ok(this)
    }

    /// Makes the key of numbered names.
    fn family_of(&mut self, prefix: &str, suffix: &str) -> &str {
        self.family.clear();
        let _ = write!(self.family, "{prefix}[{suffix}");
        &self.family
    }

    /// Compares the next host. Returns whether the target selects it.
    pub fn takes(&mut self, host: &impl Facts) -> bool {
        let mut mark = Mark {
            added: self.from_all,
            taken: false,
        };
        if !self.ids.is_empty() {
            for term in self.ids.get(host.id()).into_iter().flatten() {
                self.hits[*term as usize] = true;
                mark.name(&self.terms[*term as usize]);
            }
        }
        if !self.families.is_empty()
            && let Some((prefix, digits, suffix)) = numbered(host.id())
        {
            self.family_of(prefix, suffix);
            for term in self.families.get(&self.family).into_iter().flatten() {
                let own = &self.terms[*term as usize];
                if own.range().is_some_and(|range| range.has_digits(digits)) {
                    self.hits[*term as usize] = true;
                    mark.name(own);
                }
            }
        }
        for pattern in &mut self.patterns {
            let place = pattern.term as usize;
            let term = &self.terms[place];
            match (&mut pattern.kind, &term.what) {
                (Kind::Name, What::Name(name)) => {
                    if name.matches(host.id(), || host.ip()) {
                        self.hits[place] = true;
                        mark.name(term);
                    }
                }
                (Kind::Group(inner), _) => {
                    // An empty group is judged by its own terms.
                    self.hits[place] = true;
                    if inner.takes(host) {
                        mark.name(term);
                    }
                }
                (
                    Kind::Label {
                        is_key_known,
                        values,
                    },
                    What::Label(label),
                ) => {
                    let mut place = None;
                    host.label(&label.key, &mut |value| {
                        *is_key_known = true;
                        place = label.place_of(value);
                    });
                    if let Some(place) = place {
                        values[place] = true;
                    }
                    mark.label(term, place.is_some() != label.is_negated);
                }
                (Kind::Name, What::Label(_)) | (Kind::Label { .. }, What::Name(_)) => {}
            }
        }
        mark.added && !mark.taken
    }

    /// Ends the comparison: all hosts have been compared.
    ///
    /// # Errors
    /// The first term that has matched nothing. The search finds the name that is most like it.
    pub fn finish(&self) -> Result<(), Box<Search>> {
        let mut patterns = self.patterns.iter().peekable();
        for (place, term) in self.terms.iter().enumerate() {
            let pattern = patterns.next_if(|pattern| pattern.term as usize == place);
            let missing = match (pattern.map(|pattern| &pattern.kind), &term.what) {
                (Some(Kind::Group(inner)), What::Name(Name::Group(group))) => {
                    inner.finish().map_err(|mut search| {
                        search.found = search.found.inside(group);
                        search
                    })?;
                    None
                }
                (
                    Some(Kind::Label {
                        is_key_known,
                        values,
                    }),
                    What::Label(label),
                ) => missing_label(label, *is_key_known, values),
                (_, What::Name(Name::Network(_))) => {
                    (!self.hits[place]).then_some(Missing::Address)
                }
                _ => (!self.hits[place]).then_some(Missing::Host),
            };
            if let Some(missing) = missing {
                return Err(Box::new(Search::new(term, missing)));
            }
        }
        Ok(())
    }

    /// Compares all `hosts`. Returns the places of the selected ones.
    ///
    /// # Errors
    /// The first term that has matched nothing.
    pub fn select<F: Facts>(mut self, hosts: &[F]) -> Result<Vec<usize>, NoMatch> {
        let takes = hosts.iter().map(|host| self.takes(host)).enumerate();
        let places: Vec<(usize, bool)> = takes.collect();
        self.finish().map_err(|mut search| {
            hosts.iter().for_each(|host| search.look_at(host));
            search.end()
        })?;
        let taken = places.into_iter().filter(|(_, taken)| *taken);
        Ok(taken.map(|(place, _)| place).collect())
    }
}

/// The group of a term, unless the bounds are reached.
fn find_group<'g>(
    term: &Term,
    group: &str,
    groups: &'g Groups,
    depth: usize,
    taken: &mut Taken,
) -> Result<&'g Target, NoMatch> {
    taken.groups += 1;
    let is_over = depth >= TARGET_GROUPS_DEPTH_MAX || taken.groups > TARGET_GROUPS_MAX;
    let (missing, nearest) = if is_over {
        (Missing::Depth, None)
    } else if let Some(found) = groups.get(group) {
        return Ok(found);
    } else {
        let near = nearest(group, groups.keys().map(String::as_str));
        (Missing::Group, near.map(|name| format!("@{name}")))
    };
    Err(NoMatch {
        nearest,
        ..NoMatch::of(term, missing)
    })
}

fn missing_label(label: &Label, is_key_known: bool, values: &[bool]) -> Option<Missing> {
    let built_in = BUILT_IN_KEYS.iter().find(|(key, _)| *key == label.key);
    let known = built_in.map_or(&[][..], |(_, values)| values);
    if !is_key_known && built_in.is_none() {
        return Some(Missing::Key(label.key.clone()));
    }
    let mut pairs = label.values.iter().zip(values);
    let unknown = pairs.find(|(value, is_hit)| {
        let in_vocabulary = known.iter().any(|known| label_matches(label, value, known));
        !**is_hit && !in_vocabulary
    });
    unknown.map(|(value, _)| Missing::Value(label.key.clone(), value.clone()))
}

fn label_matches(label: &Label, value: &str, known: &str) -> bool {
    match label.is_glob {
        true => label.place_of(known).is_some(),
        false => value == known,
    }
}

impl Term {
    fn range(&self) -> Option<&Range> {
        match &self.what {
            What::Name(Name::Range(range)) => Some(range),
            _ => None,
        }
    }
}

/// Judgement of one host.
struct Mark {
    added: bool,
    taken: bool,
}

impl Mark {
    /// A name has matched.
    fn name(&mut self, term: &Term) {
        match term.takes_away {
            true => self.taken = true,
            false => self.added = true,
        }
    }

    /// A label has matched, or not.
    fn label(&mut self, term: &Term, is_match: bool) {
        self.taken |= term.takes_away == is_match;
    }
}

impl NoMatch {
    fn of(term: &Term, missing: Missing) -> Self {
        Self {
            term: term.text.clone(),
            group: None,
            missing,
            nearest: None,
        }
    }

    fn inside(mut self, group: &str) -> Self {
        // The innermost group has the term.
        self.group.get_or_insert_with(|| group.to_owned());
        self
    }
}

/// Search for the known name that is most like a term without a match.
#[derive(Debug)]
pub struct Search {
    found: NoMatch,
    word: String,
    seen: HashSet<String>,
    looks: usize,
    best: Option<(usize, String)>,
}

impl Search {
    fn new(term: &Term, missing: Missing) -> Self {
        let word = match &missing {
            Missing::Key(key) => key.clone(),
            Missing::Value(_, value) => value.clone(),
            _ => term.text.trim_start_matches('!').trim_start().to_owned(),
        };
        Self {
            found: NoMatch::of(term, missing),
            word,
            seen: HashSet::new(),
            looks: 0,
            best: None,
        }
    }

    /// Compares the names of the next host with the term.
    pub fn look_at(&mut self, host: &impl Facts) {
        if self.looks >= TARGET_NEAREST_LOOKS_MAX {
            return;
        }
        match self.found.missing.clone() {
            Missing::Host => self.consider(host.id()),
            Missing::Address => {
                if let Some(ip) = host.ip() {
                    self.consider(&ip.to_string());
                }
            }
            Missing::Key(_) => {
                host.labels(&mut |key, _| self.consider_once(key));
            }
            Missing::Value(key, _) => {
                let mut value = None;
                host.label(&key, &mut |found| value = Some(found.to_owned()));
                if let Some(value) = value {
                    self.consider_once(&value);
                }
            }
            Missing::Group | Missing::Depth | Missing::Size => {}
        }
    }

    fn consider_once(&mut self, name: &str) {
        if !self.seen.contains(name) {
            self.seen.insert(name.to_owned());
            self.consider(name);
        }
    }

    fn consider(&mut self, name: &str) {
        self.looks += 1;
        let length = self.word.chars().count();
        let most = (length / 2).clamp(2, TARGET_NEAREST_DISTANCE_MAX);
        // The distance is at least the difference of the lengths.
        if length > TARGET_NEAREST_CHARS_MAX || name.chars().count().abs_diff(length) > most {
            return;
        }
        let distance = strsim::osa_distance(&self.word, name);
        let is_better = |(best, text): &(usize, String)| (distance, name) < (*best, text.as_str());
        if distance <= most && self.best.as_ref().is_none_or(is_better) {
            self.best = Some((distance, name.to_owned()));
        }
    }

    /// The term, with the name that is most like it.
    #[must_use]
    pub fn end(mut self: Box<Self>) -> NoMatch {
        if matches!(self.found.missing, Missing::Key(_)) {
            for (built_in, _) in BUILT_IN_KEYS {
                self.consider(built_in);
            }
        }
        let best = self.best.map(|(_, name)| name);
        self.found.nearest = best.map(|name| match &self.found.missing {
            Missing::Value(key, _) => format!("{key}={name}"),
            _ => name,
        });
        self.found
    }
}
