//! Labels of hosts, from three sources: the configuration, an administrator, and the host itself.
//!
//! ```text
//!  rules of the configuration ─▶ refresh ─┐
//!  administrator ──────────────▶ change ──┼─▶ one list a host ─▶ the first source that names a key wins
//!  ADH40 ──────────────────────▶ claim ───┘
//! ```
//!
//! A host without labels has no entry here. Keys and values are interned: a fleet has few of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::codec::target::{Facts, Groups, Selection, Target, is_label_text};
use crate::ids::{HostRef, Numbered};
use crate::limits::{
    LABEL_WORDS_CLAIMED_MAX, LABEL_WORDS_MAX, LABEL_WRITES_WAITING_MAX, LABELS_MAX,
};
use crate::store::op::{self, LabelPlace, Op};

/// Prefix of the built-in labels, which cannot be set.
const BUILT_IN: &str = "sys.";

/// Label that holds the version of a host's agent.
pub(crate) const VERSION: &str = "sys.version";

/// Labels and groups of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelRules {
    /// Labels of the hosts that a target selects. Of two rules with one key the first wins.
    pub rules: Vec<(Arc<Target>, BTreeMap<String, String>)>,
    /// Named targets.
    pub groups: Groups,
    /// Name of this node.
    pub node: String,
}

/// Source of a label, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelSource {
    /// The configuration.
    Config,
    /// An administrator.
    Admin,
    /// The host itself.
    Host,
}

impl LabelSource {
    /// Name of the source, as it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Admin => "admin",
            Self::Host => "host",
        }
    }
}

/// Changes of a host's labels; `None` removes one.
pub type LabelChanges = Vec<(String, Option<String>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u32,
    value: u32,
    source: LabelSource,
}

/// The labels of all hosts.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    words: Words,
    /// As they came.
    source: Arc<LabelRules>,
    rules: Vec<(Selection, BTreeMap<String, String>)>,
    groups: Arc<Groups>,
    node: String,
    /// Entries by slot of the host, in the order of their sources; only hosts with any.
    lists: Numbered<u32, Box<[Entry]>>,
    /// Next slot of the walk that gives all hosts the labels of a new configuration.
    walk: Option<u32>,
    /// Labels to be written, and labels that are with the store.
    unwritten: BTreeSet<(u32, LabelPlace)>,
    in_flight: BTreeSet<(u32, LabelPlace)>,
    /// Requesters that wait until the labels of a host are written.
    waiting: Vec<(u64, HostRef)>,
}

impl Labels {
    /// Takes the labels and groups of a configuration. All hosts must then be
    /// [refreshed](Self::take_walk).
    pub(crate) fn set_rules(&mut self, rules: LabelRules) {
        let had_rules = !self.rules.is_empty();
        self.source = Arc::new(rules.clone());
        let compiled = rules.rules.into_iter().filter_map(|(target, set)| {
            // A match has no groups, so nothing is missing.
            Some((Selection::new(&target, &Groups::new()).ok()?, set))
        });
        self.rules = compiled.collect();
        self.groups = Arc::new(rules.groups);
        self.node = rules.node;
        self.walk = (had_rules || !self.rules.is_empty()).then_some(0);
    }

    /// The labels and groups of the configuration.
    pub(crate) fn rules(&self) -> LabelRules {
        (*self.source).clone()
    }

    pub(crate) fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Name of this node.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Returns whether hosts are still to be refreshed.
    pub(crate) fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// Takes the next slots of the walk over all `slots`, at most `max`.
    pub(crate) fn take_walk(&mut self, slots: usize, max: usize) -> std::ops::Range<u32> {
        let start = self.walk.unwrap_or(u32::MAX);
        let end = (start as usize).saturating_add(max).min(slots) as u32;
        self.walk = ((end as usize) < slots).then_some(end);
        start.min(end)..end
    }

    /// Returns whether a host may have labels of the configuration, now or before.
    pub(crate) fn concern(&self, slot: u32) -> bool {
        !self.rules.is_empty() || self.lists.contains_key(&slot)
    }

    /// Gives a host the labels of the configuration: it is new, or its address has changed.
    pub(crate) fn refresh(&mut self, slot: u32, host: &impl Facts) {
        let mut set: BTreeMap<&str, &str> = BTreeMap::new();
        for (selection, labels) in &mut self.rules {
            if selection.takes(host) {
                for (key, value) in &*labels {
                    set.entry(key).or_insert(value);
                }
            }
        }
        let set: Vec<(String, String)> = set
            .into_iter()
            .take(LABELS_MAX)
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let set = set
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        self.replace(slot, LabelSource::Config, set);
    }

    /// Labels of a host that has no row, from the configuration and from what is stored of it, by key.
    pub(crate) fn of_record(
        &mut self,
        host: &impl Facts,
        stored: [(LabelSource, Option<BTreeMap<String, String>>); 2],
    ) -> Vec<(Cow<'static, str>, Cow<'static, str>, LabelSource)> {
        let mut all: BTreeMap<String, (String, LabelSource)> = BTreeMap::new();
        for (selection, labels) in &mut self.rules {
            if selection.takes(host) {
                for (key, value) in &*labels {
                    let entry = all.entry(key.clone());
                    entry.or_insert_with(|| (value.clone(), LabelSource::Config));
                }
            }
        }
        for (source, labels) in stored {
            for (key, value) in labels.unwrap_or_default() {
                all.entry(key).or_insert((value, source));
            }
        }
        let all = all.into_iter().take(LABELS_MAX);
        all.map(|(key, (value, source))| (key.into(), value.into(), source))
            .collect()
    }

    /// Takes the labels that a host claims, as far as there is room. Returns whether they have
    /// changed.
    pub(crate) fn claim<'a>(
        &mut self,
        slot: u32,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> bool {
        self.replace(slot, LabelSource::Host, labels).0
    }

    /// Takes the labels that an administrator gave a host earlier.
    pub(crate) fn recall<'a>(
        &mut self,
        slot: u32,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        self.replace(slot, LabelSource::Admin, labels);
    }

    /// Changes the labels that an administrator has given a host.
    ///
    /// # Errors
    /// A label that cannot be set, or too many.
    pub(crate) fn change(&mut self, slot: u32, changes: &LabelChanges) -> Result<(), String> {
        let mut own: BTreeMap<String, String> = self.of_source(slot, LabelSource::Admin);
        for (key, value) in changes {
            check_label(key, value.as_deref())?;
            match value {
                Some(value) => drop(own.insert(key.clone(), value.clone())),
                None => drop(own.remove(key)),
            }
        }
        let fixed = self.of_source(slot, LabelSource::Config);
        let count = own.keys().filter(|key| !fixed.contains_key(*key)).count();
        if fixed.len() + count > LABELS_MAX {
            return Err(format!("a host has at most {LABELS_MAX} labels"));
        }
        let own = own
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        match self.replace(slot, LabelSource::Admin, own) {
            (_, 0) => Ok(()),
            _ => Err("the table of labels is full".to_owned()),
        }
    }

    /// Labels of one source.
    pub(crate) fn of_source(&self, slot: u32, source: LabelSource) -> BTreeMap<String, String> {
        let entries = self.entries(slot).iter();
        let own = entries.filter(|entry| entry.source == source);
        own.map(|entry| {
            (
                self.words.text(entry.key).to_owned(),
                self.words.text(entry.value).to_owned(),
            )
        })
        .collect()
    }

    /// Replaces the labels of one source. Returns whether they have changed, and how many have no
    /// room.
    fn replace<'a>(
        &mut self,
        slot: u32,
        source: LabelSource,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> (bool, usize) {
        let old: Vec<Entry> = self.entries(slot).to_vec();
        let mut dropped = 0;
        let mut own = Vec::new();
        for (key, value) in labels {
            let is_full = own.len() > LABELS_MAX;
            let entry = match is_full {
                true => None,
                false => self.words.pair(key, value, words_max(source)),
            };
            match entry {
                Some((key, value)) => own.push(Entry { key, value, source }),
                None => dropped += 1,
            }
        }
        let changed = !old.iter().filter(|entry| entry.source == source).eq(&own);
        // The words of the old entries are released after those of the new are taken.
        for entry in old.iter().filter(|entry| entry.source == source) {
            self.words.release(entry.key);
            self.words.release(entry.value);
        }
        let mut list: Vec<Entry> = old
            .into_iter()
            .filter(|entry| entry.source != source)
            .collect();
        list.extend(own);
        list.sort_by_key(|entry| entry.source);
        match list.is_empty() {
            true => drop(self.lists.remove(&slot)),
            false => drop(self.lists.insert(slot, list.into_boxed_slice())),
        }
        (changed, dropped)
    }

    /// Queues a write of the labels of one source, which `place` names.
    pub(crate) fn write(&mut self, slot: u32, place: LabelPlace) {
        self.unwritten.insert((slot, place));
    }

    /// Queues a write of the labels that a new host claims, now that its record exists.
    pub(crate) fn write_claimed(&mut self, slot: u32) {
        if self
            .of_source(slot, LabelSource::Host)
            .keys()
            .any(|key| key != VERSION)
        {
            self.write(slot, LabelPlace::Host);
        }
    }

    /// Queues a write of all labels: the store may have lost them.
    pub(crate) fn rewrite(&mut self) {
        for (slot, list) in &self.lists {
            for entry in list {
                match entry.source {
                    LabelSource::Config => {}
                    LabelSource::Admin => drop(self.unwritten.insert((*slot, LabelPlace::Admin))),
                    LabelSource::Host => drop(self.unwritten.insert((*slot, LabelPlace::Host))),
                }
            }
        }
    }

    /// Notes that a requester waits until the labels of a host are written. Returns whether there
    /// is room for it.
    pub(crate) fn wait(&mut self, requester: u64, host: HostRef) -> bool {
        let has_room = self.waiting.len() < LABEL_WRITES_WAITING_MAX;
        if has_room {
            self.waiting.push((requester, host));
        }
        has_room
    }

    /// Returns whether labels are to be written.
    pub(crate) fn has_ops(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Returns whether all labels are written.
    pub(crate) fn is_settled(&self) -> bool {
        self.unwritten.is_empty() && self.in_flight.is_empty()
    }

    /// Takes the next labels to be written: the slot of the host, where, and the text.
    pub(crate) fn take_unwritten(&mut self) -> Option<(u32, LabelPlace, Option<String>)> {
        let (slot, place) = self.unwritten.pop_first()?;
        self.in_flight.insert((slot, place));
        let source = match place {
            LabelPlace::Admin => LabelSource::Admin,
            LabelPlace::Host => LabelSource::Host,
        };
        let mut labels = self.of_source(slot, source);
        labels.remove(VERSION);
        let text = serde_json::to_string(&labels).ok();
        Some((slot, place, text.filter(|_| !labels.is_empty())))
    }

    /// Labels are written, or refused. Returns the requesters that waited for them.
    pub(crate) fn written(&mut self, host: HostRef, place: LabelPlace) -> Vec<u64> {
        self.in_flight.remove(&(host.slot, place));
        if place == LabelPlace::Host || self.unwritten.contains(&(host.slot, place)) {
            return Vec::new();
        }
        let done = self
            .waiting
            .extract_if(.., |(_, waits_for)| *waits_for == host);
        done.map(|(requester, _)| requester).collect()
    }

    /// Handles an unavailable store: unconfirmed labels are written after its return. Returns the
    /// waiting requesters.
    pub(crate) fn interrupt(&mut self) -> Vec<u64> {
        self.unwritten.append(&mut self.in_flight);
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .into_iter()
            .map(|(requester, _)| requester)
            .collect()
    }

    /// Forgets the labels of a host.
    pub(crate) fn forget(&mut self, slot: u32) {
        for place in LabelPlace::ALL {
            self.unwritten.remove(&(slot, place));
        }
        for entry in self.lists.remove(&slot).unwrap_or_default() {
            self.words.release(entry.key);
            self.words.release(entry.value);
        }
    }

    fn entries(&self, slot: u32) -> &[Entry] {
        self.lists.get(&slot).map_or(&[], |list| &**list)
    }

    /// Entries that count: the first of each key, at most [`LABELS_MAX`] and the version.
    fn effective(&self, slot: u32) -> impl Iterator<Item = &Entry> {
        let entries = self.entries(slot);
        let first = |place: usize, key: u32| !entries[..place].iter().any(|one| one.key == key);
        let all = entries.iter().enumerate();
        all.filter(move |(place, entry)| first(*place, entry.key))
            .map(|(_, entry)| entry)
            .take(LABELS_MAX + 1)
    }

    /// Value of a label of a host.
    pub(crate) fn get(&self, slot: u32, key: &str) -> Option<&str> {
        if self.lists.is_empty() {
            return None;
        }
        let key = self.words.find(key)?;
        let entry = self.effective(slot).find(|entry| entry.key == key)?;
        Some(self.words.text(entry.value))
    }

    /// Labels of a host without the built-in ones: key, value and source, in no order.
    pub(crate) fn of(&self, slot: u32) -> impl Iterator<Item = (&str, &str, LabelSource)> {
        let shown = self.effective(slot).map(|entry| {
            let (key, value) = (self.words.text(entry.key), self.words.text(entry.value));
            (key, value, entry.source)
        });
        shown.filter(|(key, ..)| *key != VERSION)
    }
}

/// The operation that writes labels of a host.
pub(crate) fn label_op(
    ticket: HostRef,
    host: crate::ids::HostId,
    place: LabelPlace,
    text: Option<String>,
) -> Op {
    Op::Labels(Box::new(op::Labels {
        ticket,
        host,
        place,
        text,
    }))
}

/// Reads labels as they are stored, without invalid ones.
pub(crate) fn stored_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    labels.retain(|key, value| check_label(key, Some(value)).is_ok());
    labels
}

/// Checks a label that is to be set, or removed where it has no value.
///
/// # Errors
/// Words up to which a new one is taken for a label of this source. Hosts leave room for the others.
fn words_max(source: LabelSource) -> usize {
    match source {
        LabelSource::Host => LABEL_WORDS_CLAIMED_MAX,
        LabelSource::Config | LabelSource::Admin => LABEL_WORDS_MAX,
    }
}

/// Reason of an invalid label, in a few words.
pub fn check_label(key: &str, value: Option<&str>) -> Result<(), String> {
    let shown = crate::escape::escape(key);
    if !is_label_text(key) {
        return Err(format!(
            "the label '{shown}' is not 1 to 63 of A-Z a-z 0-9 . _ -"
        ));
    }
    if key.starts_with(BUILT_IN) {
        return Err(format!(
            "the label '{shown}' is built in, and cannot be set"
        ));
    }
    match value {
        Some(value) if !is_label_text(value) => Err(format!(
            "the value of the label '{shown}' is not 1 to 63 of A-Z a-z 0-9 . _ -"
        )),
        _ => Ok(()),
    }
}

/// Interned texts, counted by their uses.
#[derive(Debug, Default)]
struct Words {
    texts: Slab<(Box<str>, u32)>,
    ids: HashTable<u32>,
    hasher: RandomState,
}

impl Words {
    fn text(&self, word: u32) -> &str {
        self.texts.get(word as usize).map_or("", |(text, _)| text)
    }

    fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.ids
            .find(hash, |word| self.text(*word) == text)
            .copied()
    }

    /// Takes both words, unless there is no room for them.
    fn pair(&mut self, key: &str, value: &str, max: usize) -> Option<(u32, u32)> {
        let key = self.take(key, max)?;
        let Some(value) = self.take(value, max) else {
            self.release(key);
            return None;
        };
        Some((key, value))
    }

    fn take(&mut self, text: &str, max: usize) -> Option<u32> {
        if let Some(word) = self.find(text) {
            self.texts[word as usize].1 += 1;
            return Some(word);
        }
        if self.texts.len() >= max {
            return None;
        }
        let word = self.texts.insert((text.into(), 1)) as u32;
        let (texts, hasher) = (&self.texts, &self.hasher);
        let hash = |word: &u32| hasher.hash_one(&*texts[*word as usize].0);
        self.ids.insert_unique(hasher.hash_one(text), word, hash);
        Some(word)
    }

    fn release(&mut self, word: u32) {
        let Some((_, uses)) = self.texts.get_mut(word as usize) else {
            return;
        };
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        let (text, _) = self.texts.remove(word as usize);
        let hash = self.hasher.hash_one(&*text);
        if let Ok(entry) = self.ids.find_entry(hash, |held| *held == word) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    struct Host(&'static str);

    impl Facts for Host {
        fn id(&self) -> &str {
            self.0
        }

        fn ip(&self) -> Option<IpAddr> {
            "10.0.0.1".parse().ok()
        }

        fn label(&self, _: &str, _: &mut dyn FnMut(&str)) {}

        fn labels(&self, _: &mut dyn FnMut(&str, &str)) {}
    }

    fn rules(pairs: &[(&str, &str, &str)]) -> LabelRules {
        let rule = |(target, key, value): &(&str, &str, &str)| {
            let target = Arc::new(Target::parse(target).unwrap());
            (target, [((*key).to_owned(), (*value).to_owned())].into())
        };
        LabelRules {
            rules: pairs.iter().map(rule).collect(),
            ..LabelRules::default()
        }
    }

    fn set(key: &str, value: &str) -> LabelChanges {
        vec![(key.to_owned(), Some(value.to_owned()))]
    }

    fn shown(labels: &Labels, slot: u32) -> Vec<String> {
        let all = labels
            .of(slot)
            .map(|(k, v, s)| format!("{k}={v} {}", s.as_str()));
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    }

    #[test]
    fn the_first_source_that_names_a_key_wins() {
        let mut labels = Labels::default();
        labels.claim(
            1,
            [("dc", "host"), ("rack", "9"), ("os", "linux")].into_iter(),
        );
        labels.change(1, &set("dc", "admin")).unwrap();
        labels.change(1, &set("rack", "7")).unwrap();
        labels.set_rules(rules(&[("web-*", "dc", "fra"), ("web-1", "dc", "ams")]));
        labels.refresh(1, &Host("web-1"));
        assert_eq!(
            shown(&labels, 1),
            ["dc=fra config", "os=linux host", "rack=7 admin"]
        );
        assert_eq!(labels.get(1, "dc"), Some("fra"));
        labels.set_rules(LabelRules::default());
        assert_eq!(labels.take_walk(5, 2), 0..2);
        assert_eq!(labels.take_walk(5, 9), 2..5);
        assert!(!labels.is_walking());
        labels.refresh(1, &Host("web-1"));
        assert_eq!(labels.get(1, "dc"), Some("admin"));
        labels.change(1, &vec![("dc".to_owned(), None)]).unwrap();
        assert_eq!(labels.get(1, "dc"), Some("host"));
    }

    #[test]
    fn claimed_labels_leave_words_for_the_others() {
        let mut labels = Labels::default();
        let texts: Vec<String> = (0..LABEL_WORDS_MAX).map(|n| format!("w{n}")).collect();
        for (slot, words) in texts.chunks(2 * LABELS_MAX).enumerate() {
            let pairs = words.chunks(2).map(|pair| (&*pair[0], &*pair[1]));
            labels.claim(slot as u32, pairs);
        }
        assert_eq!(labels.words.texts.len(), LABEL_WORDS_CLAIMED_MAX);
        let slot = texts.len() as u32;
        labels.change(slot, &set("role", "web")).unwrap();
        labels.set_rules(rules(&[("web-*", "dc", "fra")]));
        labels.refresh(slot, &Host("web-1"));
        assert_eq!(shown(&labels, slot), ["dc=fra config", "role=web admin"]);
    }

    #[test]
    fn forgotten_hosts_leave_no_words() {
        let mut labels = Labels::default();
        labels.claim(1, [("a", "b")].into_iter());
        labels.change(2, &set("a", "c")).unwrap();
        labels.claim(1, std::iter::empty());
        assert_eq!((labels.lists.len(), labels.words.texts.len()), (1, 2));
        labels.forget(2);
        assert_eq!((labels.lists.len(), labels.words.texts.len()), (0, 0));
        assert!(labels.words.ids.is_empty());
    }

    #[test]
    fn labels_are_bounded_and_named_in_errors() {
        let mut labels = Labels::default();
        for number in 0..LABELS_MAX {
            labels.change(1, &set(&format!("k{number}"), "v")).unwrap();
        }
        let error = labels.change(1, &set("more", "v")).unwrap_err();
        assert!(error.contains("at most 32"), "{error}");
        labels.claim(1, [("own", "v")].into_iter());
        assert_eq!(
            labels
                .of(1)
                .filter(|label| label.2 == LabelSource::Admin)
                .count(),
            LABELS_MAX
        );
        for (key, value, word) in [
            ("sys.node", "a", "built in"),
            ("a b", "a", "'a b'"),
            ("a", "", "value"),
            ("a", "ä", "value"),
        ] {
            let error = labels.change(2, &set(key, value)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
