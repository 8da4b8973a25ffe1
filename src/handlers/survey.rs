//! Surveys: counts of the fleet by group, and the fleet as columns. Both walk over all hosts, in
//! slices of a turn, so that they do not delay heartbeats.
//!
//! ```text
//!   Request ─▶ line ─▶ step, at most N hosts ─▶ … ─▶ Response::Summary or Columns
//!               ▲                │ not the last
//!               └────────────────┘
//! ```
//!
//! Bounds: [`SURVEYS_MAX`] surveys at once, each with the memory of its answer. A page of columns has at
//! most [`FLEET_HOSTS_MAX`] hosts and about [`FLEET_BYTES_MAX`] bytes of JSON; the next page begins at its
//! cursor. A survey ends with its requester's connection, or after [`WALK_S_MAX`]. A host that comes or goes during the walk may be in the answer or not.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use compact_str::CompactString;

use crate::codec::target::Facts as _;
use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::fleet::facts::HostFacts;
use crate::handlers::fleet::host::{Host, Presence};
use crate::handlers::request::Response;
use crate::handlers::tasks::dispatch::{Refusal, not_now};
use crate::handlers::tasks::resolve::Resolution;
use crate::handlers::view::Reason;
use crate::ids::HostId;
use crate::limits::{
    FLEET_BYTES_MAX, FLEET_HOSTS_MAX, SUMMARY_GROUPS_MAX, SUMMARY_SILENT_MAX, SURVEYS_MAX,
    WALK_S_MAX,
};
use crate::time::{Instant, Span, UnixMs};

/// Milliseconds after going offline in which a host counts as recently lost.
const LATELY_MS: u64 = 3_600_000;
/// JSON bytes of a host beside its id: quotes and comma, state, silence and two groups.
const ROW_BYTES: usize = 24;
/// Number of states: online, offline for an unknown reason, and one for each reason.
pub(crate) const STATES: usize = 2 + Reason::ALL.len();

/// Property by which hosts are grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The /24 of its IPv4 address, or the /64 of its IPv6 address.
    Network,
    /// Its value of this label.
    Label(String),
}

/// Label of the node that a host is connected to.
pub const NODE_LABEL: &str = "sys.node";

/// A requested survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survey {
    /// Counts, of all hosts and by group.
    Summary {
        /// Property of the groups.
        by: Grouping,
        /// The hosts; all if there is no target.
        target: Option<String>,
    },
    /// A page of columns.
    Columns {
        /// Properties of one or two levels of groups.
        by: Vec<Grouping>,
        /// The hosts; all if there is no target.
        target: Option<String>,
        /// Start of the page; 0 is the beginning.
        cursor: u64,
        /// Hosts on the page at most.
        limit: usize,
    },
}

impl Survey {
    /// Returns whether it is of all hosts.
    pub(crate) fn is_of_all(&self) -> bool {
        let (Self::Summary { target, .. } | Self::Columns { target, .. }) = self;
        target.is_none()
    }
}

/// Counts of the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Time of the summary.
    pub at: UnixMs,
    /// Hosts by state: see `state_name`.
    pub states: [u64; STATES],
    /// Hosts that went offline within the last hour and are not back.
    pub lost_lately: u64,
    /// Silence after which a host goes offline.
    pub timeout: Span,
    /// Hosts that went offline since the start, by reason.
    pub offlines: [u64; Reason::ALL.len()],
    /// Property of the groups.
    pub by: Grouping,
    /// The largest groups: name, hosts online and offline.
    pub groups: Vec<GroupCount>,
    /// Number of the other groups, and their hosts.
    pub rest: Option<(u64, GroupCount)>,
    /// Hosts online with the longest silence, the longest first, in seconds.
    pub silent: Vec<(HostId, u64)>,
    /// Hosts of other nodes are missing: they are not read yet, or the store is unavailable.
    pub is_partial: bool,
}

/// Hosts of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCount {
    /// Its name; empty for hosts without one.
    pub name: String,
    /// Number of hosts online.
    pub online: u64,
    /// Number of hosts offline.
    pub offline: u64,
}

/// Some hosts, as columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Time of the page.
    pub at: UnixMs,
    /// Names.
    pub ids: Vec<HostId>,
    /// States: see `state_name`.
    pub states: Vec<u8>,
    /// Seconds since the last message, if there has been one.
    pub silences: Vec<Option<u32>>,
    /// Levels of groups: the names, and for each host the place of its group among them.
    pub levels: Vec<Level>,
    /// Start of the next page, if there may be one.
    pub next: Option<u64>,
    /// Hosts of other nodes are missing: they are not read yet, or the store is unavailable.
    pub is_partial: bool,
}

/// One level of groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// Names of the groups; empty for hosts without one.
    pub names: Vec<String>,
    /// Group of each host.
    pub places: Vec<u32>,
}

/// Name of a state by its number, from 0 to [`STATES`]: `online`, `offline`, then the reasons.
pub(crate) fn state_name(number: usize) -> &'static str {
    match number {
        0 => "online",
        1 => "offline",
        reason => Reason::ALL[reason - 2].as_str(),
    }
}

fn state_of(host: &Host) -> usize {
    match host.presence {
        Presence::Online | Presence::Inherited => 0,
        Presence::Offline(None) => 1,
        Presence::Offline(Some(reason)) => 2 + reason as usize,
    }
}

/// A group, before it has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Group {
    None,
    V4([u8; 3]),
    V6([u8; 8]),
    Text(CompactString),
}

impl Group {
    fn of(facts: &HostFacts<'_>, by: &Grouping) -> Self {
        match by {
            Grouping::Label(key) => {
                let mut group = Self::None;
                facts.label(key, &mut |value| group = Self::Text(value.into()));
                group
            }
            Grouping::Network => match facts.ip() {
                None => Self::None,
                Some(IpAddr::V4(ip)) => {
                    let [a, b, c, _] = ip.octets();
                    Self::V4([a, b, c])
                }
                Some(IpAddr::V6(ip)) => {
                    let mut prefix = [0; 8];
                    prefix.copy_from_slice(&ip.octets()[..8]);
                    Self::V6(prefix)
                }
            },
        }
    }

    fn name(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Text(text) => text.into(),
            Self::V4([a, b, c]) => format!("{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6(prefix) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(&prefix);
                format!("{}/64", Ipv6Addr::from(octets))
            }
        }
    }
}

/// Surveys in progress, the next first.
#[derive(Debug, Default)]
pub(crate) struct Surveys {
    line: VecDeque<Walk>,
}

/// A survey in progress.
#[derive(Debug)]
struct Walk {
    requester: u64,
    deadline: Instant,
    /// Comparison with the target, if there is one.
    resolution: Option<Resolution>,
    /// The next slot to be looked at, without a target.
    slot: u32,
    /// The terms of the target must match: it is the first page.
    is_first: bool,
    /// Hosts of other nodes are missing.
    is_partial: bool,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Summary(Counting),
    Columns(Listing),
}

#[derive(Debug)]
struct Counting {
    by: Grouping,
    states: [u64; STATES],
    lost_lately: u64,
    groups: HashMap<Group, (u64, u64)>,
    /// The shortest of the longest silences first.
    silent: BinaryHeap<Reverse<(u64, u32)>>,
}

#[derive(Debug)]
struct Listing {
    columns: Columns,
    by: Vec<Grouping>,
    groups: Vec<HashMap<Group, u32>>,
    bytes: usize,
    limit: usize,
}

impl Surveys {
    /// Returns whether no survey is in progress.
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Begins a survey, and runs its first step at once.
    ///
    /// # Errors
    /// No target, an unknown group, or too many surveys.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        survey: Survey,
        max: usize,
    ) -> Result<(), Refusal> {
        if self.line.len() >= SURVEYS_MAX {
            return Err(not_now("too many surveys of the fleet are under way"));
        }
        let (slot, target, found) = match survey {
            Survey::Summary { by, target } => (0, target, Found::Summary(Counting::new(by))),
            Survey::Columns {
                by,
                target,
                cursor,
                limit,
            } => {
                let slot = u32::try_from(cursor).unwrap_or(u32::MAX);
                (slot, target, Found::Columns(Listing::new(by, limit)))
            }
        };
        let resolution = target
            .map(|text| Resolution::new(hosts, &text))
            .transpose()?;
        self.line.push_front(Walk {
            requester,
            deadline: cx.at.now + Span::from_secs(WALK_S_MAX),
            resolution: resolution.map(|resolution| resolution.starting_at(slot)),
            slot,
            is_first: slot == 0,
            is_partial: hosts.misses_hosts(cx),
            found,
        });
        self.step(cx, hosts, max);
        Ok(())
    }

    /// Takes one step of the next survey: at most `max` hosts.
    pub(crate) fn step(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, max: usize) {
        let Some(mut walk) = self.line.pop_front() else {
            return;
        };
        match walk.step(cx, hosts, max) {
            Ok(false) if walk.deadline <= cx.at.now => {
                let refusal = not_now("the survey took too long: the server is busy");
                cx.respond(walk.requester, refusal.into());
            }
            Ok(false) => self.line.push_back(walk),
            Ok(true) => {
                let answer = walk.found.finish(cx, hosts, walk.is_partial);
                cx.respond(walk.requester, answer);
            }
            Err(refusal) => cx.respond(walk.requester, refusal.into()),
        }
    }

    /// Ends the survey of a requester that is gone.
    pub(crate) fn withdraw(&mut self, requester: u64) {
        self.line.retain(|walk| walk.requester != requester);
    }

    /// Ends all surveys: requests in progress are refused.
    pub(crate) fn refuse(&mut self, cx: &mut Ctx<'_>) {
        for walk in std::mem::take(&mut self.line) {
            cx.respond(walk.requester, not_now("the server is stopping").into());
        }
    }
}

impl Walk {
    /// Looks at most at `max` more slots. Returns whether these were the last.
    ///
    /// # Errors
    /// A term of the target that matches nothing.
    fn step(&mut self, cx: &Ctx<'_>, hosts: Directory<'_>, max: usize) -> Result<bool, Refusal> {
        let hosts = hosts.everywhere();
        let found = &mut self.found;
        let Some(resolution) = &mut self.resolution else {
            for _ in 0..max {
                let Some(slot) = hosts.place(self.slot).filter(|_| !found.is_full()) else {
                    return Ok(true);
                };
                if let Some(facts) = hosts.facts(slot) {
                    found.add(cx, hosts, slot, &facts);
                }
                self.slot = slot + 1;
            }
            return Ok(false);
        };
        // The first page compares all hosts, so that an error names a term without a match.
        if !self.is_first && (found.is_full() || resolution.is_at_end(hosts)) {
            return Ok(true);
        }
        let is_over = resolution.step(hosts, max, |slot, facts| {
            found.add(cx, hosts, slot, &facts);
        });
        match is_over {
            Err(_) if !self.is_first => Ok(true),
            is_over => is_over,
        }
    }
}

impl Found {
    fn add(&mut self, cx: &Ctx<'_>, hosts: Directory<'_>, slot: u32, facts: &HostFacts<'_>) {
        if hosts.is_outdated(slot, &facts.id) {
            return;
        }
        match self {
            Self::Summary(counting) => counting.add(cx, slot, facts),
            Self::Columns(listing) => listing.add(cx, slot, facts),
        }
    }

    /// Returns whether nothing more is taken.
    fn is_full(&self) -> bool {
        matches!(self, Self::Columns(listing) if listing.columns.next.is_some())
    }

    fn finish(self, cx: &Ctx<'_>, hosts: Directory<'_>, is_partial: bool) -> Response {
        match self {
            Self::Summary(counting) => {
                let summary = counting.finish(cx, hosts, is_partial);
                Response::Summary(Box::new(summary))
            }
            Self::Columns(listing) => {
                let mut columns = listing.columns;
                for (level, groups) in columns.levels.iter_mut().zip(listing.groups) {
                    level.names = vec![String::new(); groups.len()];
                    for (group, place) in groups {
                        level.names[place as usize] = group.name();
                    }
                }
                columns.at = cx.at.wall;
                columns.is_partial = is_partial;
                Response::Columns(Box::new(columns))
            }
        }
    }
}

/// Milliseconds since the last message of a host.
fn silence_of(cx: &Ctx<'_>, host: &Host) -> Option<u64> {
    (host.seen.0 > 0).then(|| cx.at.wall.0.saturating_sub(host.seen.0))
}

impl Counting {
    fn new(by: Grouping) -> Self {
        Self {
            by,
            states: [0; STATES],
            lost_lately: 0,
            groups: HashMap::new(),
            silent: BinaryHeap::new(),
        }
    }

    fn add(&mut self, cx: &Ctx<'_>, slot: u32, facts: &HostFacts<'_>) {
        let host = facts.host;
        let state = state_of(host);
        let is_online = state == 0;
        self.states[state] += 1;
        let group = self.groups.entry(Group::of(facts, &self.by)).or_default();
        if is_online {
            group.0 += 1;
        } else {
            group.1 += 1;
            let age = cx.at.wall.0.saturating_sub(host.since.0);
            self.lost_lately += u64::from(age < LATELY_MS);
            return;
        }
        let Some(silence) = silence_of(cx, host) else {
            return;
        };
        let shortest = self
            .silent
            .peek()
            .map_or(0, |Reverse((silence, _))| *silence);
        if self.silent.len() < SUMMARY_SILENT_MAX || silence > shortest {
            self.silent.push(Reverse((silence, slot)));
            if self.silent.len() > SUMMARY_SILENT_MAX {
                self.silent.pop();
            }
        }
    }

    fn finish(self, cx: &Ctx<'_>, hosts: Directory<'_>, is_partial: bool) -> Summary {
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        // The largest first, then in the order of their addresses.
        groups.sort_by_cached_key(|(group, (online, offline))| {
            (Reverse(online + offline), group.clone())
        });
        let others = groups.split_off(groups.len().min(SUMMARY_GROUPS_MAX));
        let rest = others
            .iter()
            .fold(GroupCount::default(), |sum, (_, (online, offline))| {
                GroupCount {
                    online: sum.online + online,
                    offline: sum.offline + offline,
                    ..sum
                }
            });
        let named = |(group, (online, offline)): (Group, (u64, u64))| GroupCount {
            name: group.name(),
            online,
            offline,
        };
        let silent = self.silent.into_sorted_vec().into_iter();
        let silent = silent
            .filter_map(|Reverse((silence, slot))| Some((hosts.facts(slot)?.id, silence / 1_000)));
        Summary {
            at: cx.at.wall,
            states: self.states,
            lost_lately: self.lost_lately,
            timeout: cx.rules.timeout,
            offlines: cx.stats.offlines,
            by: self.by,
            groups: groups.into_iter().map(named).collect(),
            rest: (!others.is_empty()).then_some((others.len() as u64, rest)),
            silent: silent.collect(),
            is_partial,
        }
    }
}

impl Listing {
    fn new(by: Vec<Grouping>, limit: usize) -> Self {
        let columns = Columns {
            levels: vec![Level::default(); by.len()],
            ..Columns::default()
        };
        Self {
            columns,
            groups: vec![HashMap::new(); by.len()],
            by,
            bytes: 0,
            limit: limit.min(FLEET_HOSTS_MAX),
        }
    }

    fn add(&mut self, cx: &Ctx<'_>, slot: u32, facts: &HostFacts<'_>) {
        let columns = &mut self.columns;
        if columns.ids.len() >= self.limit || self.bytes >= FLEET_BYTES_MAX {
            // The first host beyond the page.
            columns.next.get_or_insert(u64::from(slot));
            return;
        }
        self.bytes += facts.id.as_str().len() + ROW_BYTES;
        columns.ids.push(facts.id.clone());
        columns.states.push(state_of(facts.host) as u8);
        let silence = silence_of(cx, facts.host);
        let silence = silence.map(|ms| u32::try_from(ms / 1_000).unwrap_or(u32::MAX));
        columns.silences.push(silence);
        let levels = columns.levels.iter_mut().zip(&mut self.groups);
        for ((level, groups), by) in levels.zip(&self.by) {
            let new = groups.len() as u32;
            let place = *groups.entry(Group::of(facts, by)).or_insert(new);
            if place == new {
                // The name of the group, in quotes.
                self.bytes += 24;
            }
            level.places.push(place);
        }
    }
}
