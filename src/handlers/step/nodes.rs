//! Hosts of other nodes, read from the store: one by name, or page by page.
//!
//! ```text
//!  request ─▶ Question::Hosts, Scan ─▶ records ─▶ hosts that are connected here: their rows ─▶ response
//! ```
//!
//! A node that has been alone since its start knows all hosts, and answers from memory. So does one
//! whose store is away, and says that it shows its own hosts only.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::codec::target::Facts;
use crate::handlers::fleet::labels::{LabelSource, stored_labels};
use crate::handlers::request::Response;
use crate::handlers::step::Step;
use crate::handlers::tasks::dispatch::{not_now, wrong};
use crate::handlers::tasks::reads::{HostsReading, Listed, Reading, unknown};
use crate::handlers::view::{Filter, HostView, PageStart, view};
use crate::ids::HostId;
use crate::limits::PAGE_HOSTS_MAX;
use crate::store::op::{Found, HostRecord, HostScan, Question, ScanPlace};

/// A stored host, as the labels of the configuration match it.
struct RecordFacts<'a> {
    id: &'a HostId,
    ip: Option<IpAddr>,
}

impl Facts for RecordFacts<'_> {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn ip(&self) -> Option<IpAddr> {
        self.ip.or_else(|| self.id.as_str().parse().ok())
    }

    fn label(&self, _: &str, _: &mut dyn FnMut(&str)) {}

    fn labels(&self, _: &mut dyn FnMut(&str, &str)) {}
}

impl Step<'_> {
    /// Handles a request for hosts of any node by name.
    pub(super) fn ask_records(&mut self, requester: u64, hosts: Vec<HostId>) {
        let reading = Reading::Hosts(HostsReading::Named(hosts.clone()));
        let question = Question::Hosts { hosts };
        self.tasks.read(&mut self.cx, requester, reading, question);
    }

    /// Handles a request for a page of the hosts of all nodes, or of one.
    pub(super) fn ask_page(
        &mut self,
        requester: u64,
        node: Option<String>,
        (filter, start, limit): (Filter, PageStart, usize),
    ) {
        let start = match start {
            PageStart::Slot(0) => ScanPlace::default(),
            PageStart::Scan(place) => place,
            _ => {
                let (kind, text) = wrong("the cursor is of another list; begin again".to_owned());
                return self.cx.respond(requester, Response::Error { kind, text });
            }
        };
        let online = match filter {
            Filter::All => None,
            Filter::Online => Some(true),
            Filter::Offline => Some(false),
        };
        // Only hosts online have a node.
        if node.is_some() && online == Some(false) {
            let (hosts, next) = (Vec::new(), None);
            return self.cx.respond(requester, Response::Hosts { hosts, next });
        }
        let question = Question::Scan(HostScan {
            node,
            online,
            start,
            limit: limit.clamp(1, PAGE_HOSTS_MAX),
            brief: false,
        });
        let reading = Reading::Hosts(HostsReading::Page(filter));
        self.tasks.read(&mut self.cx, requester, reading, question);
    }

    /// The store has answered a question about hosts of any node.
    pub(super) fn hosts_read(&mut self, requester: u64, reading: HostsReading, found: Found) {
        let response = match (reading, found) {
            (HostsReading::Copy(scan), found) => return self.foreign_read(scan, found),
            (HostsReading::Forget(host), Found::Hosts(mut records)) => {
                return self.forget_record(requester, &host, records.pop().flatten());
            }
            (HostsReading::History(host), Found::Hosts(mut records)) => {
                return self.ask_history_of(requester, host, records.pop().flatten());
            }
            (HostsReading::Named(names), Found::Hosts(records)) => {
                let records = records.into_iter().chain(std::iter::repeat(None));
                let hosts = names.into_iter().zip(records);
                let hosts = hosts.map(|(id, record)| self.shown(&id, record));
                Response::Named(hosts.collect())
            }
            (HostsReading::Listed(listed), Found::Hosts(records)) => {
                let Listed {
                    mut hosts,
                    next,
                    filter,
                } = *listed;
                let mut read: HashMap<HostId, HostView<'static>> = HashMap::new();
                for record in records.into_iter().flatten() {
                    let id = record.held.host.clone();
                    read.extend(self.shown(&id, Some(record)).map(|shown| (id, shown)));
                }
                for host in &mut hosts {
                    if let Some(shown) = read.remove(&host.id) {
                        *host = shown;
                    }
                }
                hosts.retain(|host| filter.takes(host.online));
                Response::Hosts {
                    hosts,
                    next: next.map(PageStart::Slot),
                }
            }
            (HostsReading::Page(filter), Found::Scan { hosts, next, .. }) => {
                let hosts = hosts.into_iter().filter_map(|record| {
                    let id = record.held.host.clone();
                    self.shown(&id, Some(record))
                });
                Response::Hosts {
                    hosts: hosts.filter(|host| filter.takes(host.online)).collect(),
                    next: next.map(PageStart::Scan),
                }
            }
            (_, Found::Nothing(why)) => not_now(&why).into(),
            _ => unknown("the store answered something else"),
        };
        self.cx.respond(requester, response);
    }

    /// A host as it is shown: by its row, if it is connected here or was until now, else by its
    /// record.
    fn shown(&mut self, id: &HostId, record: Option<HostRecord>) -> Option<HostView<'static>> {
        let slot = self.fleet.find(id);
        let is_online = self.fleet.is_online(id);
        let own = self.fleet.labels().node();
        let is_ours = record
            .as_ref()
            .is_some_and(|record| record.node.as_deref() == Some(own));
        let row = slot.filter(|_| is_online || is_ours);
        if let Some(shown) = row.and_then(|slot| view(self.fleet, slot)) {
            return Some(shown.into_owned());
        }
        Some(self.of_record(record?))
    }

    fn of_record(&mut self, record: HostRecord) -> HostView<'static> {
        let held = record.held;
        let ip = held.peer.map(|peer| peer.ip().to_canonical());
        let sources = [
            (LabelSource::Admin, held.admin_labels.as_deref()),
            (LabelSource::Host, held.host_labels.as_deref()),
        ];
        let stored = sources.map(|(source, text)| (source, text.map(stored_labels)));
        let facts = RecordFacts { id: &held.host, ip };
        let labels = self.fleet.labels_mut().of_record(&facts, stored);
        HostView {
            id: held.host,
            ip,
            online: record.is_online,
            node: record.node.map(Into::into),
            reason: held.reason,
            since: held.since,
            last_seen: held.seen,
            hostname: held.hostname.map(Into::into),
            mac: held.mac.map(Into::into),
            ipv4: held.addresses.into(),
            labels,
        }
    }
}
