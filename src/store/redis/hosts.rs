//! Questions about stored hosts of any node: by name, or page by page.
//!
//! ```text
//!  members of a set ─▶ of those that were seen: the ones offline ─▶ their records
//!        ▲                                                              │ the page is not full
//!        └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! A brief scan goes the other way: the hosts that were seen, with the time, and one command for the
//! rest of each; then the names of those online, of which the caller knows most by then.

use redis::Cmd;

use super::errors::Fault;
use super::load::lenient;
use super::progress::lrange;
use super::run::{Job, StepResult};
use super::step::{Replies, Step, int, list, text};
use crate::ids::HostId;
use crate::limits::{HOSTS_PER_OP_MAX, PAGE_SCAN_MAX};
use crate::store::held::{self, BRIEF_FIELDS, StoredHost};
use crate::store::op::{Found, HostRecord, HostScan, Outcome, ScanPlace, scan_order};
use crate::store::schema;

/// Adds the commands that read the records of some hosts.
fn ask_records(step: &mut Step, hosts: &[HostId]) {
    if hosts.is_empty() {
        return step.one(0, cmd!("PING"));
    }
    for host in hosts {
        step.one(0, cmd!("HMGET", schema::host(host), &held::FIELDS));
        step.one(0, lrange(&schema::system_info_ipv4(host)));
    }
    step.one(0, on_all("ZMSCORE", schema::SEEN, hosts));
    step.one(0, on_all("SMISMEMBER", schema::EXISTS, hosts));
    step.one(0, on_all("HMGET", schema::LABELS, hosts));
}

fn on_all(verb: &str, key: &str, hosts: &[HostId]) -> Cmd {
    let mut command = cmd!(verb, key);
    for host in hosts {
        command.arg(host.as_str());
    }
    command
}

/// Reads the replies to [`ask_records`]. A key of another type counts as missing.
fn records(replies: &mut Replies, hosts: &[HostId]) -> Result<Vec<Option<HostRecord>>, Fault> {
    let mut hashes = Vec::with_capacity(hosts.len());
    for host in hosts {
        let hash = texts_of(&schema::host(host), replies)?;
        let addresses = lenient(&schema::system_info_ipv4(host), replies.texts())?;
        hashes.push((hash, addresses.unwrap_or_default()));
    }
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let scores = texts_of(schema::SEEN, replies)?;
    let exists = members(replies)?;
    let labels = texts_of(schema::LABELS, replies)?;
    let at = |texts: &[Option<String>], place: usize| texts.get(place).cloned().flatten();
    let all = hosts.iter().zip(hashes).enumerate();
    let all = all.map(|(place, (host, (hash, addresses)))| {
        let score = at(&scores, place).and_then(|score| score.parse().ok());
        let exists = exists.get(place).copied().unwrap_or_default();
        let stored = StoredHost::new(host, hash, score, addresses, (false, exists));
        stored.with_admin_labels(at(&labels, place)).record()
    });
    Ok(all.collect())
}

/// A host, and the time of its last message as far as the set has it.
type Member = (HostId, Option<f64>);

/// Adds the commands that read what counts and targets need of some hosts.
fn ask_brief(step: &mut Step, members: &[Member]) {
    let mut labels = cmd!("HMGET", schema::LABELS);
    for (host, _) in members {
        step.one(0, cmd!("HMGET", schema::host(host), &BRIEF_FIELDS));
        labels.arg(host.as_str());
    }
    step.one(
        0,
        if members.is_empty() {
            cmd!("PING")
        } else {
            labels
        },
    );
}

/// Reads the replies to [`ask_brief`].
fn brief(replies: &mut Replies, members: Vec<Member>) -> Result<Vec<HostRecord>, Fault> {
    let mut found = Vec::with_capacity(members.len());
    for (host, seen) in &members {
        let hash = texts_of(&schema::host(host), replies)?;
        found.push(StoredHost::brief(host, hash, *seen));
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let labels = texts_of(schema::LABELS, replies)?.into_iter();
    let labels = labels.chain(std::iter::repeat(None));
    let found = found.into_iter().zip(labels);
    let found = found.filter_map(|(stored, labels)| stored.with_admin_labels(labels).record());
    Ok(found.collect())
}

fn texts_of(key: &str, replies: &mut Replies) -> Result<Vec<Option<String>>, Fault> {
    let values = lenient(key, replies.value())?.map_or(Ok(Vec::new()), list)?;
    values.into_iter().map(text).collect()
}

/// Which of the hosts asked for are in `exists`.
fn members(replies: &mut Replies) -> Result<Vec<bool>, Fault> {
    let values = lenient(schema::EXISTS, replies.value())?;
    let values = values.map_or(Ok(Vec::new()), list)?.into_iter();
    values.map(|value| Ok(int(value)? == 1)).collect()
}

/// Stored hosts by name.
pub(super) struct Named<'a> {
    ticket: u64,
    hosts: &'a [HostId],
}

impl<'a> Named<'a> {
    pub(super) fn new(ticket: u64, hosts: &'a [HostId]) -> Self {
        Self { ticket, hosts }
    }
}

impl Job for Named<'_> {
    fn encode(&mut self, step: &mut Step) {
        ask_records(step, self.hosts);
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let found = Found::Hosts(records(&mut replies, self.hosts)?);
        let ticket = self.ticket;
        Ok(StepResult::Done(Outcome::Read { ticket, found }))
    }
}

/// A page of the stored hosts.
pub(super) struct Scan<'a> {
    ticket: u64,
    scan: &'a HostScan,
    place: ScanPlace,
    phase: Phase,
    found: Vec<HostRecord>,
    /// Hosts online, in a brief scan.
    names: Vec<HostId>,
    /// Number of members that were looked at.
    looked: usize,
}

/// What is asked next.
enum Phase {
    /// Members of the set.
    Members,
    /// Which of these are online; and the place behind them.
    Online(Vec<HostId>, Option<ScanPlace>),
    /// Their records.
    Records(Vec<HostId>, Option<ScanPlace>),
    /// What counts and targets need of them.
    Brief(Vec<Member>, Option<ScanPlace>),
}

impl<'a> Scan<'a> {
    pub(super) fn new(ticket: u64, scan: &'a HostScan) -> Self {
        let mut place = scan.start;
        if scan.online == Some(false) && place == ScanPlace::default() {
            place.is_late = true;
        }
        Self {
            ticket,
            scan,
            place,
            phase: Phase::Members,
            found: Vec::new(),
            names: Vec::new(),
            looked: 0,
        }
    }

    fn members(&self) -> Cmd {
        let from = self.place.from;
        match (&self.scan.node, self.place.is_late) {
            (Some(node), _) => scan_of("SSCAN", &schema::node_hosts(node), from),
            (None, false) => scan_of("SSCAN", schema::EXISTS, from),
            (None, true) => scan_of("ZSCAN", schema::SEEN, from),
        }
    }

    /// Takes a piece of the set that ends at `end`, as far as the page has room.
    fn take(&mut self, mut members: Vec<Member>, end: u64) -> StepResult {
        members.sort_by_cached_key(|(host, _)| (scan_order(host.as_str()), host.clone()));
        members.dedup_by(|one, other| one.0 == other.0);
        let place = self.place;
        if place.after > 0 && place.end == end {
            members.retain(|(host, _)| scan_order(host.as_str()) > place.after);
        }
        let next = match self.cut(&mut members) {
            Some(after) => Some(ScanPlace {
                end,
                after,
                ..place
            }),
            None => self.following(end),
        };
        self.looked += members.len();
        if self.scan.brief && place.is_late {
            self.phase = Phase::Brief(members, next);
            return StepResult::More;
        }
        let names = members.into_iter().map(|(host, _)| host);
        if self.scan.brief {
            self.names.extend(names);
            return self.go_on(next);
        }
        self.phase = match place.is_late {
            true => Phase::Online(names.collect(), next),
            false => Phase::Records(names.collect(), next),
        };
        StepResult::More
    }

    /// Leaves as many names as there is room for. Returns the order of the last one if there are more.
    fn cut(&self, members: &mut Vec<Member>) -> Option<u64> {
        let taken = self.found.len() + self.names.len();
        let room = self.scan.limit.saturating_sub(taken).max(1);
        if members.len() <= room {
            return None;
        }
        let after = scan_order(members[room - 1].0.as_str());
        // Names of the same order stay together.
        members.retain(|(host, _)| scan_order(host.as_str()) <= after);
        Some(after)
    }

    /// The place behind a piece that ends at `end`.
    fn following(&self, end: u64) -> Option<ScanPlace> {
        let is_late = self.place.is_late;
        if end > 0 {
            return Some(ScanPlace {
                is_late,
                from: end,
                ..ScanPlace::default()
            });
        }
        let has_more = match self.scan.brief {
            true => is_late,
            false => !is_late && self.scan.node.is_none() && self.scan.online != Some(true),
        };
        has_more.then_some(ScanPlace {
            is_late: !is_late,
            ..ScanPlace::default()
        })
    }

    fn go_on(&mut self, next: Option<ScanPlace>) -> StepResult {
        let taken = self.found.len() + self.names.len();
        let is_enough = taken >= self.scan.limit || self.looked >= PAGE_SCAN_MAX;
        if let Some(place) = next.filter(|_| !is_enough) {
            self.place = place;
            self.phase = Phase::Members;
            return StepResult::More;
        }
        let hosts = std::mem::take(&mut self.found);
        let names = std::mem::take(&mut self.names);
        StepResult::Done(Outcome::Read {
            ticket: self.ticket,
            found: Found::Scan { hosts, names, next },
        })
    }
}

fn scan_of(verb: &str, key: &str, from: u64) -> Cmd {
    cmd!(verb, key, from, "COUNT", HOSTS_PER_OP_MAX)
}

impl Job for Scan<'_> {
    fn encode(&mut self, step: &mut Step) {
        match &self.phase {
            Phase::Members => step.one(0, self.members()),
            Phase::Online(hosts, _) if hosts.is_empty() => step.one(0, cmd!("PING")),
            Phase::Online(hosts, _) => step.one(0, on_all("SMISMEMBER", schema::EXISTS, hosts)),
            Phase::Records(hosts, _) => ask_records(step, hosts),
            Phase::Brief(members, _) => ask_brief(step, members),
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        match std::mem::replace(&mut self.phase, Phase::Members) {
            Phase::Members => {
                let Some((end, members)) = lenient("the hosts", replies.pair())? else {
                    let next = self.following(0);
                    return Ok(self.go_on(next));
                };
                let end = text(end)?.and_then(|end| end.parse().ok());
                let mut members = list(members)?.into_iter();
                let is_late = self.place.is_late;
                let mut found = Vec::new();
                while let Some(member) = members.next() {
                    // In a sorted set the score follows each member.
                    let score = is_late.then(|| members.next().and_then(|score| text(score).ok()));
                    let score = score
                        .flatten()
                        .flatten()
                        .and_then(|score| score.parse().ok());
                    let host = text(member).ok().flatten();
                    if let Some(Ok(host)) = host.map(|host| HostId::checked(&host)) {
                        found.push((host, score));
                    }
                }
                Ok(self.take(found, end.unwrap_or_default()))
            }
            Phase::Brief(members, next) => {
                self.found.extend(brief(&mut replies, members)?);
                Ok(self.go_on(next))
            }
            Phase::Online(hosts, next) => {
                let online = members(&mut replies)?.into_iter();
                let online = online.chain(std::iter::repeat(false));
                let offline = hosts.into_iter().zip(online).filter(|(_, online)| !online);
                self.phase = Phase::Records(offline.map(|(host, _)| host).collect(), next);
                Ok(StepResult::More)
            }
            Phase::Records(hosts, next) => {
                let found = records(&mut replies, &hosts)?;
                let scan = self.scan;
                let wanted = |record: &HostRecord| {
                    let is_there = scan.node.is_none() || record.node == scan.node;
                    is_there && scan.online.is_none_or(|online| online == record.is_online)
                };
                self.found
                    .extend(found.into_iter().flatten().filter(wanted));
                Ok(self.go_on(next))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(limit: usize) -> HostScan {
        HostScan {
            node: None,
            online: Some(true),
            start: ScanPlace::default(),
            limit,
            brief: false,
        }
    }

    fn names(count: usize) -> Vec<Member> {
        let name = |number| (HostId::checked(&format!("h{number}")).unwrap(), None);
        (0..count).map(name).collect()
    }

    /// Takes a piece, and returns what of it is on the page, and the next place.
    fn taken(scan: &HostScan, piece: Vec<Member>, end: u64) -> (Vec<HostId>, Option<ScanPlace>) {
        let mut job = Scan::new(1, scan);
        job.take(piece, end);
        match job.phase {
            Phase::Records(hosts, next) | Phase::Online(hosts, next) => (hosts, next),
            Phase::Brief(..) | Phase::Members => panic!("nothing was taken"),
        }
    }

    #[test]
    fn a_large_piece_is_walked_in_pages() {
        let mut scan = scan(7);
        let mut seen = Vec::new();
        loop {
            let (hosts, next) = taken(&scan, names(40), 0);
            assert!(hosts.len() <= 7);
            seen.extend(hosts);
            match next {
                Some(next) => scan.start = next,
                None => break,
            }
        }
        seen.sort();
        let mut all: Vec<_> = names(40).into_iter().map(|(host, _)| host).collect();
        all.sort();
        assert_eq!(seen, all, "each once");
    }

    #[test]
    fn a_rebuilt_piece_is_returned_whole() {
        let mut scan = scan(30);
        let (_, next) = taken(&scan, names(40), 64);
        scan.start = next.unwrap();
        assert_eq!(taken(&scan, names(40), 64).0.len(), 10);
        // The set was rebuilt: the piece has another end, and may have other members.
        assert_eq!(taken(&scan, names(20), 32).0.len(), 20);
    }

    #[test]
    fn hosts_that_were_seen_follow_those_online() {
        let mut all = HostScan {
            online: None,
            ..scan(100)
        };
        let (_, next) = taken(&all, names(3), 0);
        all.start = next.unwrap();
        assert!(all.start.is_late);
        assert_eq!(taken(&all, names(3), 0).1, None);
        assert_eq!(taken(&scan(100), names(3), 0).1, None, "only those online");
    }
}
