//! Copy of the hosts of other nodes, for requests that look at every host: targets and surveys.
//!
//! ```text
//!  request ─▶ the copy is young ─────────────────────────────────────────────▶ begin
//!      └─▶ it is old ─▶ scan of the store, page by page ─▶ rows entered, ─▶ waiting requests begin
//!                                                          others removed
//! ```
//!
//! The copy exists only while it is used. It answers for a second, or for as long as its scan took, so
//! that the store is scanned for at most half of the time. Surveys take an older copy if the scan took
//! long, and begin the next scan; and they take a part of the first copy rather than wait for long. A
//! row keeps its slot from scan to scan, so a walk over pages shows every host that stays.
//!
//! A scan first reads the hosts that were seen, then the names of those online. Only the names that are
//! not online in the copy are then read.

use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::facts::HostFacts;
use crate::handlers::fleet::host::{Host, Marks, Peer, Presence};
use crate::handlers::fleet::hosts::HostTable;
use crate::handlers::fleet::labels::{LabelRules, Labels, stored_labels};
use crate::handlers::request::Request;
use crate::ids::{HostId, Numbered};
use crate::limits::{
    FOREIGN_KEPT_S, FOREIGN_OLD_FACTOR, FOREIGN_PAGE_S_MAX, FOREIGN_PATIENCE_MS,
    FOREIGN_WAITING_MAX, FOREIGN_YOUNG_MS, HOSTS_MAX,
};
use crate::store::op::{HostRecord, ScanPlace};
use crate::time::{Instant, Span};

/// Slot of the first row: those of the node's own hosts are below.
pub(crate) const FIRST: u32 = 1 << 31;

const _: () = assert!(HOSTS_MAX <= FIRST as usize, "slots of two kinds");

/// The copy, and the requests that wait for it.
#[derive(Debug)]
pub(crate) struct Foreign {
    hosts: HostTable,
    labels: Labels,
    /// Names of the nodes.
    nodes: Vec<String>,
    /// The row's node, as its place in `nodes`, and the scan in which the host was found last.
    found: Numbered<u32, (Option<u32>, u32)>,
    /// Number of the scan.
    scan: u32,
    /// Start of the scan under way, or of the last, and time of its last page.
    begun: Instant,
    heard: Instant,
    is_under_way: bool,
    /// The page after the hosts that are read now.
    next: Option<ScanPlace>,
    /// End of the last scan; none if there is no copy.
    done: Option<Instant>,
    /// Duration of the last scan.
    took: Span,
    /// Last use.
    used: Instant,
    waiting: Vec<(u64, Request, Instant)>,
}

impl Default for Foreign {
    fn default() -> Self {
        Self {
            hosts: HostTable::new(HOSTS_MAX),
            labels: Labels::default(),
            nodes: Vec::new(),
            found: Numbered::default(),
            scan: 0,
            begun: Instant::ZERO,
            heard: Instant::ZERO,
            is_under_way: false,
            next: None,
            done: None,
            took: Span::ZERO,
            used: Instant::ZERO,
            waiting: Vec::new(),
        }
    }
}

/// Next step for a request that needs the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The copy is young enough.
    Now,
    /// So it is, and a scan is to begin.
    NowAndScan,
    /// The request waits, and a scan is to begin.
    Scan,
    /// The request waits for the scan under way.
    Wait,
    /// Too many requests wait.
    Refuse,
}

impl Foreign {
    /// Decides on a request, which is kept if it has to wait.
    pub(crate) fn take(&mut self, now: Instant, requester: u64, request: &Request) -> Use {
        self.used = now;
        if self.is_young(now) {
            return Use::Now;
        }
        // A scan whose question was dropped is begun again.
        let is_lost = now.since(self.heard) > Span::from_secs(FOREIGN_PAGE_S_MAX);
        let is_scanning = self.is_under_way && !is_lost;
        if matches!(request, Request::Survey(_)) && self.is_usable(now) {
            return match is_scanning {
                true => Use::Now,
                false => Use::NowAndScan,
            };
        }
        if self.waiting.len() >= FOREIGN_WAITING_MAX {
            return Use::Refuse;
        }
        self.waiting.push((requester, request.clone(), now));
        match is_scanning {
            true => Use::Wait,
            false => Use::Scan,
        }
    }

    /// Takes the surveys that have waited long enough for the first copy. One with a target waits for
    /// all hosts, since a term without a match is an error.
    pub(crate) fn take_impatient(&mut self, now: Instant) -> Vec<(u64, Request)> {
        if self.done.is_some() {
            return Vec::new();
        }
        let patience = Span::from_millis(FOREIGN_PATIENCE_MS);
        let is_due = |(_, request, since): &mut (u64, Request, Instant)| {
            let is_counted = matches!(request, Request::Survey(survey) if survey.is_of_all());
            is_counted && now.since(*since) >= patience
        };
        let due = self.waiting.extract_if(.., is_due);
        due.map(|(requester, request, _)| (requester, request))
            .collect()
    }

    /// Returns whether all hosts of other nodes have been read.
    pub(crate) fn is_complete(&self) -> bool {
        self.done.is_some()
    }

    /// Drops the requests of a requester that is gone.
    pub(crate) fn withdraw(&mut self, requester: u64) {
        self.waiting.retain(|(waiting, ..)| *waiting != requester);
    }

    fn is_young(&self, now: Instant) -> bool {
        let Some(done) = self.done else {
            return false;
        };
        let young = Span::from_millis(FOREIGN_YOUNG_MS).max(self.took);
        !self.is_under_way && now.since(done) < young
    }

    /// Returns whether the copy answers surveys while it is read anew.
    fn is_usable(&self, now: Instant) -> bool {
        let is_long = self.took > Span::from_millis(FOREIGN_YOUNG_MS);
        let age = self.done.map(|done| now.since(done));
        is_long
            && age.is_some_and(|age| age.as_millis() < self.took.as_millis() * FOREIGN_OLD_FACTOR)
    }

    /// Begins a scan under these rules for labels.
    pub(crate) fn begin(&mut self, now: Instant, rules: LabelRules) -> u32 {
        self.scan = self.scan.wrapping_add(1);
        self.begun = now;
        self.heard = now;
        self.is_under_way = true;
        self.labels.set_rules(rules);
        self.scan
    }

    /// Returns whether this scan is under way.
    pub(crate) fn is_scan(&self, scan: u32) -> bool {
        self.is_under_way && scan == self.scan
    }

    /// Enters a page of the scan. Hosts that the node `own` holds are left out: their rows here are
    /// newer.
    pub(crate) fn enter(&mut self, now: Instant, own: &str, page: Vec<HostRecord>) {
        self.heard = now;
        for record in page {
            if record.node.as_deref() != Some(own) {
                self.enter_host(record);
            }
        }
    }

    /// Keeps the next page until the hosts between are read.
    pub(crate) fn set_next(&mut self, next: Option<ScanPlace>) {
        self.next = next;
    }

    /// Takes the next page.
    pub(crate) fn take_next(&mut self) -> Option<ScanPlace> {
        self.next.take()
    }

    /// Returns whether this scan has found the host online.
    fn is_found(&self, id: &HostId) -> bool {
        let Some(slot) = self.hosts.find(id) else {
            return false;
        };
        let is_new = self
            .found
            .get(&slot)
            .is_some_and(|(_, scan)| *scan == self.scan);
        let host = self.hosts.get(slot);
        is_new && host.is_some_and(|host| host.presence.is_online())
    }

    fn enter_host(&mut self, record: HostRecord) {
        let held = record.held;
        let slot = self.hosts.find(&held.host);
        let Some(slot) = slot.or_else(|| self.hosts.insert(held.host.clone())) else {
            return;
        };
        let node = record.node.map(|node| self.number_of(node));
        self.found.insert(slot, (node, self.scan));
        let Some(host) = self.hosts.get_mut(slot) else {
            return;
        };
        host.set_peer(held.peer.map_or(Peer::UNKNOWN, Peer::new));
        host.since = held.since;
        host.seen = held.seen;
        host.set(Marks::KEYED, held.keyed);
        let presence = match record.is_online {
            true => Presence::Online,
            false => Presence::Offline(held.reason),
        };
        host.set_presence(presence, None);
        if held.hostname.is_some() || held.mac.is_some() || !held.addresses.is_empty() {
            let rest = host.rest_or_new();
            rest.hostname = held.hostname;
            rest.mac = held.mac;
            rest.addresses = held.addresses;
        }
        let stored = |text: Option<String>| text.as_deref().map(stored_labels).unwrap_or_default();
        let (admin, claimed) = (stored(held.admin_labels), stored(held.host_labels));
        if admin.is_empty() && claimed.is_empty() && !self.labels.concern(slot) {
            return;
        }
        self.labels
            .recall(slot, admin.iter().map(|(key, value)| (&**key, &**value)));
        self.labels
            .claim(slot, claimed.iter().map(|(key, value)| (&**key, &**value)));
        let facts = HostFacts::unlabelled(held.host, host, slot);
        self.labels.refresh(slot, &facts);
    }

    fn number_of(&mut self, node: String) -> u32 {
        let known = self.nodes.iter().position(|known| *known == node);
        let number = known.unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        });
        number as u32
    }

    /// The scan has ended: hosts that it has not found are removed. Returns the waiting requests.
    pub(crate) fn finish(&mut self, now: Instant) -> Vec<(u64, Request)> {
        let scan = self.scan;
        let gone: Vec<u32> = self
            .found
            .iter()
            .filter(|(_, (_, last))| *last != scan)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in gone {
            self.found.remove(&slot);
            self.labels.forget(slot);
            self.hosts.remove(slot);
        }
        self.is_under_way = false;
        self.done = Some(now);
        self.took = now.since(self.begun);
        self.take_waiting()
    }

    fn take_waiting(&mut self) -> Vec<(u64, Request)> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting
            .map(|(requester, request, _)| (requester, request))
            .collect()
    }

    /// The scan has failed: there is no copy. Returns the waiting requests.
    pub(crate) fn fail(&mut self) -> Vec<(u64, Request)> {
        let waiting = self.take_waiting();
        *self = Self {
            scan: self.scan,
            ..Self::default()
        };
        waiting
    }

    /// Drops the copy if it has not been used for long.
    pub(crate) fn drop_unused(&mut self, now: Instant) {
        let is_used = now.since(self.used) < Span::from_secs(FOREIGN_KEPT_S);
        if self.done.is_some() && !self.is_under_way && !is_used {
            self.fail();
        }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Number of slots, used or free.
    pub(crate) fn slots(&self) -> usize {
        self.hosts.slots()
    }

    /// Returns whether a host of this name has a row.
    pub(crate) fn has(&self, id: &HostId) -> bool {
        self.hosts.len() > 0 && self.hosts.find(id).is_some()
    }

    /// Returns the row in a slot, counted from [`FIRST`], with its labels and its node.
    pub(crate) fn row(&self, slot: u32) -> Option<(&Host, &Labels, Option<&str>)> {
        let place = slot.checked_sub(FIRST)?;
        let host = self.hosts.get(place)?;
        let (node, _) = self.found.get(&place)?;
        let node = node.and_then(|node| self.nodes.get(node as usize));
        Some((host, &self.labels, node.map(String::as_str)))
    }
}

impl Fleet {
    /// Enters a page of hosts of other nodes.
    pub(crate) fn enter_foreign(&mut self, now: Instant, page: Vec<HostRecord>) {
        self.foreign.enter(now, self.labels.node(), page);
    }

    /// Those of the hosts online that are neither connected here nor found by the scan under way.
    pub(crate) fn not_found(&self, mut names: Vec<HostId>) -> Vec<HostId> {
        names.retain(|host| !self.is_online(host) && !self.foreign.is_found(host));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::survey::{Grouping, Survey};
    use crate::store::op::HeldHost;
    use crate::time::UnixMs;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Span::from_millis(ms)
    }

    fn record(name: &str, node: Option<&str>) -> HostRecord {
        let held = HeldHost {
            host: HostId::checked(name).unwrap(),
            ours: false,
            epoch: 1,
            peer: None,
            keyed: false,
            since: UnixMs(1),
            seen: UnixMs(2),
            reason: None,
            hostname: None,
            mac: None,
            addresses: Vec::new(),
            admin_labels: Some(r#"{"dc":"fra"}"#.to_owned()),
            host_labels: None,
        };
        HostRecord {
            held,
            node: node.map(str::to_owned),
            is_online: node.is_some(),
        }
    }

    fn scan(foreign: &mut Foreign, now: u64, page: Vec<HostRecord>) -> usize {
        let number = foreign.begin(at(now), LabelRules::default());
        assert!(foreign.is_scan(number));
        foreign.enter(at(now), "n1", page);
        foreign.finish(at(now)).len()
    }

    fn slot_of(foreign: &Foreign, name: &str) -> Option<u32> {
        foreign.hosts.find(&HostId::checked(name).unwrap())
    }

    #[test]
    fn a_host_keeps_its_slot_from_scan_to_scan() {
        let mut foreign = Foreign::default();
        let page = ["a", "b", "c"].map(|name| record(name, Some("n2")));
        scan(&mut foreign, 0, page.to_vec());
        let slot = slot_of(&foreign, "c").unwrap();
        scan(
            &mut foreign,
            10,
            vec![record("c", None), record("d", Some("n3"))],
        );
        assert_eq!((foreign.len(), slot_of(&foreign, "c")), (2, Some(slot)));
        let (host, labels, node) = foreign.row(FIRST + slot).unwrap();
        assert_eq!((host.presence.is_online(), node), (false, None));
        assert_eq!(labels.get(slot, "dc"), Some("fra"));
        let other = slot_of(&foreign, "d").unwrap();
        assert_eq!(foreign.row(FIRST + other).unwrap().2, Some("n3"));
        assert!(foreign.row(slot).is_none(), "a slot of the node's own");
    }

    #[test]
    fn own_hosts_are_left_out() {
        let mut foreign = Foreign::default();
        scan(
            &mut foreign,
            0,
            vec![record("a", Some("n1")), record("b", Some("n2"))],
        );
        assert!(!foreign.has(&HostId::checked("a").unwrap()));
        assert_eq!(foreign.len(), 1);
    }

    #[test]
    fn requests_share_a_scan_and_a_young_copy() {
        let mut foreign = Foreign::default();
        let request = Request::Nodes;
        assert_eq!(foreign.take(at(0), 1, &request), Use::Scan);
        let number = foreign.begin(at(0), LabelRules::default());
        assert_eq!(foreign.take(at(1), 2, &request), Use::Wait);
        foreign.enter(at(2), "n1", vec![record("a", Some("n2"))]);
        assert_eq!(foreign.finish(at(3_000)).len(), 2);
        assert!(!foreign.is_scan(number));
        // Reading took three seconds, so the copy serves as long.
        assert_eq!(foreign.take(at(5_900), 3, &request), Use::Now);
        assert_eq!(foreign.take(at(6_100), 4, &request), Use::Scan);
        foreign.take(at(6_101), 5, &request);
        foreign.withdraw(5);
        assert_eq!(foreign.fail().len(), 1);
        assert_eq!(foreign.len(), 0);
        for requester in 0..FOREIGN_WAITING_MAX as u64 {
            assert_ne!(foreign.take(at(9_000), requester, &request), Use::Refuse);
        }
        assert_eq!(foreign.take(at(9_000), 99, &request), Use::Refuse);
    }

    #[test]
    fn surveys_wait_for_neither_a_copy_nor_the_next() {
        let all = Request::Survey(Survey::Summary {
            by: Grouping::Network,
            target: None,
        });
        let patience = FOREIGN_PATIENCE_MS;
        let mut foreign = Foreign::default();
        assert_eq!(foreign.take(at(0), 1, &Request::Nodes), Use::Scan);
        foreign.begin(at(0), LabelRules::default());
        assert_eq!(foreign.take(at(1), 2, &all), Use::Wait);
        assert!(foreign.take_impatient(at(patience)).is_empty());
        let early = foreign.take_impatient(at(patience + 1));
        assert_eq!(early, [(2, all.clone())]);
        assert!(!foreign.is_complete());
        assert_eq!(foreign.finish(at(8_000)).len(), 1, "the other waits on");
        // It took 8 s, so the copy answers for as long, and surveys four times as long.
        assert_eq!(foreign.take(at(15_000), 3, &Request::Nodes), Use::Now);
        assert_eq!(foreign.take(at(17_000), 3, &all), Use::NowAndScan);
        foreign.begin(at(17_000), LabelRules::default());
        assert_eq!(foreign.take(at(18_000), 4, &all), Use::Now);
        assert_eq!(foreign.take(at(18_000), 5, &Request::Nodes), Use::Wait);
        assert_eq!(foreign.take(at(40_000), 6, &all), Use::Scan, "too old");
    }

    #[test]
    fn a_scan_asks_for_names_it_has_not_found_online() {
        let mut foreign = Foreign::default();
        let id = |name| HostId::checked(name).unwrap();
        scan(&mut foreign, 0, vec![record("old", Some("n2"))]);
        foreign.begin(at(10), LabelRules::default());
        let page = vec![record("on", Some("n2")), record("off", None)];
        foreign.enter(at(10), "n1", page);
        let found = ["on", "off", "old", "new"].map(|name| foreign.is_found(&id(name)));
        assert_eq!(found, [true, false, false, false]);
    }

    #[test]
    fn an_unused_copy_is_dropped() {
        let mut foreign = Foreign::default();
        foreign.take(at(0), 1, &Request::Nodes);
        scan(&mut foreign, 0, vec![record("a", Some("n2"))]);
        foreign.drop_unused(at(FOREIGN_KEPT_S * 1_000 - 1));
        assert_eq!(foreign.len(), 1);
        foreign.drop_unused(at(FOREIGN_KEPT_S * 1_000));
        assert_eq!(foreign.len(), 0);
    }
}
