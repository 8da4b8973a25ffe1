//! History of the fleet: past transitions of hosts, and the number of hosts online by minute. Part
//! of [`op`](super): plain data.
//!
//! A host has a string of packed [`Transition`]s, the oldest first. The fleet has a hash: for each
//! node and hour a row of sixty counts, and for each node its last runs. What no run covers, the
//! server was away for.

use std::collections::{BTreeMap, BTreeSet};

use super::Reason;
use crate::limits::{HISTORY_DAYS, HISTORY_RUNS_MAX, HISTORY_TRANSITIONS_MAX};
use crate::time::UnixMs;

/// Bytes of a packed transition.
pub const TRANSITION_BYTES: usize = 8;
/// Minutes of an hour.
pub const HOUR_MINUTES: usize = 60;
/// Milliseconds of a minute.
pub const MINUTE_MS: u64 = 60_000;
/// Milliseconds of an hour.
const HOUR_MS: u64 = HOUR_MINUTES as u64 * MINUTE_MS;

/// A change of a host's presence, packed: the time in milliseconds, and four bits for the state.
/// Transitions are ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transition(u64);

/// State of a host after a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    /// Online.
    Online,
    /// Offline, and the reason if it is known.
    Offline(Option<Reason>),
}

/// States by their code, which is stored: new ones are added at the end.
const CODES: [Was; 7] = [
    Was::Online,
    Was::Offline(None),
    Was::Offline(Some(Reason::Closed)),
    Was::Offline(Some(Reason::Reset)),
    Was::Offline(Some(Reason::Timeout)),
    Was::Offline(Some(Reason::Abnormal)),
    Was::Offline(Some(Reason::Lost)),
];

impl Transition {
    /// Packs a transition.
    #[must_use]
    pub fn new(at: UnixMs, to: Was) -> Self {
        let code = CODES.iter().position(|known| *known == to).unwrap_or(1);
        Self(at.0 << 4 | code as u64)
    }

    /// Time.
    #[must_use]
    pub const fn at(self) -> UnixMs {
        UnixMs(self.0 >> 4)
    }

    /// The new state. A code of a later version is offline for an unknown reason.
    #[must_use]
    pub fn to(self) -> Was {
        let code = (self.0 & 0xf) as usize;
        CODES.get(code).copied().unwrap_or(Was::Offline(None))
    }
}

impl std::fmt::Debug for Transition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {}", self.to(), self.at().0)
    }
}

/// Bytes of transitions, as they are stored.
#[must_use]
pub fn pack(transitions: &[Transition]) -> Vec<u8> {
    let bytes = transitions.iter().map(|one| one.0.to_be_bytes());
    bytes.flatten().collect()
}

/// Transitions of stored bytes. An incomplete one at the end is left out.
#[must_use]
pub fn unpack(bytes: &[u8]) -> Vec<Transition> {
    let (whole, _) = bytes.as_chunks::<TRANSITION_BYTES>();
    whole
        .iter()
        .map(|bytes| Transition(u64::from_be_bytes(*bytes)))
        .collect()
}

/// The last transitions of both lists, the oldest first, each once.
#[must_use]
pub fn merged(one: &[Transition], other: &[Transition]) -> Vec<Transition> {
    let all: BTreeSet<Transition> = one.iter().chain(other).copied().collect();
    let more = all.len().saturating_sub(HISTORY_TRANSITIONS_MAX);
    all.into_iter().skip(more).collect()
}

/// Counts of the hosts online in the minutes of an hour. `None`: not counted.
pub type Counts = [Option<u32>; HOUR_MINUTES];

/// Row of an hour, to be merged with the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// The hour, counted from 1970.
    pub hour: u64,
    /// Its counts so far.
    pub counts: Box<Counts>,
    /// This run of the server: its start, and the last time it was known to run.
    pub run: Run,
}

impl HistoryRow {
    /// Returns whether it has at most one count: older rows are deleted with it.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.counts.iter().flatten().count() <= 1
    }
}

/// A run of a server: its start, and the last time it was known to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Start.
    pub from: UnixMs,
    /// Last time.
    pub to: UnixMs,
}

/// Name of the field with the counts of `node` in an hour.
#[must_use]
pub fn hour_field(node: &str, hour: u64) -> String {
    format!("{node}:{hour}")
}

/// Name of the field with the runs of `node`.
#[must_use]
pub fn runs_field(node: &str) -> String {
    format!("{node}:runs")
}

/// The hour in the name of a field.
fn hour_of(field: &str) -> Option<u64> {
    field.rsplit_once(':')?.1.parse().ok()
}

/// Returns whether the row in `field` is older than the history is long, at `hour`.
#[must_use]
pub fn is_outdated(field: &str, hour: u64) -> bool {
    hour_of(field).is_some_and(|of| of + 24 * HISTORY_DAYS < hour)
}

/// Text of counts: sixty numbers with commas between, empty where nothing was counted.
#[must_use]
pub fn counts_text(counts: &Counts) -> String {
    let texts = counts.map(|count| count.map_or(String::new(), |count| count.to_string()));
    texts.join(",")
}

/// Counts of a text. Invalid numbers count as missing.
#[must_use]
pub fn counts_of(text: &str) -> Counts {
    let mut counts = [None; HOUR_MINUTES];
    for (count, text) in counts.iter_mut().zip(text.split(',')) {
        *count = text.parse().ok();
    }
    counts
}

/// Stored counts with new ones over them.
#[must_use]
pub fn counts_merged(stored: &str, new: &Counts) -> String {
    let mut counts = counts_of(stored);
    for (count, new) in counts.iter_mut().zip(new) {
        *count = new.or(*count);
    }
    counts_text(&counts)
}

/// Text of runs: `FROM-TO` in milliseconds, with commas between.
#[must_use]
pub fn runs_text(runs: &[Run]) -> String {
    let texts = runs
        .iter()
        .map(|run| format!("{}-{}", run.from.0, run.to.0));
    texts.collect::<Vec<_>>().join(",")
}

/// Runs of a text. Invalid ones are skipped.
#[must_use]
pub fn runs_of(text: &str) -> Vec<Run> {
    let run = |text: &str| {
        let (from, to) = text.split_once('-')?;
        let [from, to] = [from, to].map(|text| text.parse().ok().map(UnixMs));
        Some(Run {
            from: from?,
            to: to?,
        })
    };
    text.split(',').filter_map(run).collect()
}

/// Stored runs with this one: it replaces the one with its start.
#[must_use]
pub fn runs_merged(stored: &str, run: Run) -> String {
    let mut runs = runs_of(stored);
    match runs.iter_mut().find(|known| known.from == run.from) {
        Some(known) => known.to = known.to.max(run.to),
        None => runs.push(run),
    }
    let more = runs.len().saturating_sub(HISTORY_RUNS_MAX);
    runs_text(&runs[more..])
}

/// The stored history of the fleet: rows of hours by node, and runs by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetHistory {
    /// Counts of all nodes together, by hour.
    hours: BTreeMap<u64, Counts>,
    runs: Vec<Run>,
}

impl FleetHistory {
    /// Adds a stored field, unless it has the counts of an hour before `from`.
    pub fn add_since(&mut self, from: u64, field: &str, text: &str) {
        if hour_of(field).is_none_or(|hour| hour >= from) {
            self.add(field, text);
        }
    }

    /// Adds a stored field.
    fn add(&mut self, field: &str, text: &str) {
        if field.ends_with(":runs") {
            self.runs.extend(runs_of(text));
        } else if let Some(hour) = hour_of(field) {
            self.add_counts(hour, &counts_of(text));
        }
    }

    /// Adds counts of an hour that are not stored yet, unless they are there.
    pub fn add_own(&mut self, row: &HistoryRow) {
        let known = self.hours.entry(row.hour).or_insert([None; HOUR_MINUTES]);
        for (count, own) in known.iter_mut().zip(row.counts.iter()) {
            *count = count.or(*own);
        }
        self.runs.push(row.run);
    }

    fn add_counts(&mut self, hour: u64, counts: &Counts) {
        let sum = self.hours.entry(hour).or_insert([None; HOUR_MINUTES]);
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum = match (*sum, *count) {
                (Some(one), Some(other)) => Some(one.saturating_add(other)),
                (one, other) => one.or(other),
            };
        }
    }

    /// Counts of so many minutes from the minute `from` on, counted from 1970.
    #[must_use]
    pub fn online_from(&self, from: u64, minutes: u64) -> Vec<Option<u32>> {
        let mut counts = Vec::new();
        let mut minute = from;
        while minute < from + minutes {
            let (hour, first) = (minute / 60, (minute % 60) as usize);
            let last = HOUR_MINUTES.min(first + (from + minutes - minute) as usize);
            match self.hours.get(&hour) {
                Some(row) => counts.extend_from_slice(&row[first..last]),
                None => counts.resize(counts.len() + last - first, None),
            }
            minute += (last - first) as u64;
        }
        counts
    }

    /// Times between `from` and `to` in which no server ran, in order, after the first known run.
    #[must_use]
    pub fn away(&self, from: UnixMs, to: UnixMs) -> Vec<Run> {
        let mut runs = self.runs.clone();
        runs.sort_by_key(|run| run.from);
        let mut gaps = Vec::new();
        let mut covered: Option<UnixMs> = None;
        for run in runs {
            if let Some(end) = covered.filter(|end| *end < run.from) {
                let gap = Run {
                    from: end.max(from),
                    to: run.from.min(to),
                };
                gaps.extend((gap.from < gap.to).then_some(gap));
            }
            covered = covered.max(Some(run.to));
        }
        gaps
    }
}

/// The minute of a time, counted from 1970.
#[must_use]
pub const fn minute_of(at: UnixMs) -> u64 {
    at.0 / MINUTE_MS
}

/// The hour of a time, counted from 1970.
#[must_use]
pub const fn hour_at(at: UnixMs) -> u64 {
    at.0 / HOUR_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64, to: Was) -> Transition {
        Transition::new(UnixMs(ms), to)
    }

    #[test]
    fn a_transition_keeps_time_and_state() {
        for was in CODES {
            let one = at(1_795_000_000_123, was);
            assert_eq!((one.at().0, one.to()), (1_795_000_000_123, was));
            assert_eq!(unpack(&pack(&[one])), [one]);
        }
        assert!(at(2, Was::Online) > at(1, Was::Offline(Some(Reason::Lost))));
        assert_eq!(unpack(&[0; 9]).len(), 1);
    }

    #[test]
    fn every_reason_has_a_code() {
        for reason in Reason::ALL {
            assert_eq!(
                at(1, Was::Offline(Some(reason))).to(),
                Was::Offline(Some(reason))
            );
        }
    }

    proptest! {
        #[test]
        fn merging_again_changes_nothing(
            one in prop::collection::vec(0u64..500, 0..40),
            other in prop::collection::vec(0u64..500, 0..40),
        ) {
            let list = |times: &[u64]| -> Vec<Transition> {
                times.iter().map(|ms| at(*ms, Was::Online)).collect()
            };
            let (one, other) = (list(&one), list(&other));
            let both = merged(&one, &other);
            prop_assert!(both.len() <= HISTORY_TRANSITIONS_MAX && both.is_sorted());
            prop_assert_eq!(&merged(&both, &other), &both);
            prop_assert_eq!(&merged(&other, &one), &both);
            prop_assert_eq!(unpack(&pack(&both)), both);
        }

        #[test]
        fn counts_read_back(counts in prop::collection::vec(prop::option::of(any::<u32>()), 60)) {
            let counts: Counts = counts.try_into().unwrap();
            prop_assert_eq!(counts_of(&counts_text(&counts)), counts);
            prop_assert_eq!(counts_merged(&counts_text(&counts), &[None; 60]), counts_text(&counts));
        }
    }

    #[test]
    fn a_run_is_extended_and_old_ones_are_dropped() {
        let run = |from, to| Run {
            from: UnixMs(from),
            to: UnixMs(to),
        };
        let mut text = String::new();
        for number in 0..=HISTORY_RUNS_MAX as u64 {
            text = runs_merged(&text, run(number * 10, number * 10 + 1));
            text = runs_merged(&text, run(number * 10, number * 10 + 5));
        }
        let runs = runs_of(&text);
        assert_eq!(runs.len(), HISTORY_RUNS_MAX);
        assert_eq!(runs[0], run(10, 15));
        assert_eq!(runs_of("x,5,1-2,"), [run(1, 2)]);
    }

    #[test]
    fn between_two_runs_the_server_was_away() {
        let mut history = FleetHistory::default();
        history.add("a:runs", "100-200,300-400");
        history.add("b:runs", "150-250,390-500");
        let away = |from, to| -> Vec<(u64, u64)> {
            let gaps = history.away(UnixMs(from), UnixMs(to));
            gaps.iter().map(|gap| (gap.from.0, gap.to.0)).collect()
        };
        assert_eq!(away(0, 1_000), [(250, 300)]);
        assert_eq!(away(260, 280), [(260, 280)]);
        assert_eq!(away(310, 1_000), []);
    }

    #[test]
    fn nodes_add_up_by_minute() {
        let mut history = FleetHistory::default();
        history.add("a:7", "1,2,,4");
        history.add("b:7", "10,,30");
        let shown = history.online_from(419, 5);
        assert_eq!(shown, [None, Some(11), Some(2), Some(30), Some(4)]);
        assert_eq!(history.online_from(0, 1_000).len(), 1_000);
        assert!(is_outdated("a:7", 7 + 24 * HISTORY_DAYS + 1));
        assert!(!is_outdated("a:7", 7) && !is_outdated("a:runs", u64::MAX));
    }
}
