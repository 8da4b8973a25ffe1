//! Requests that look at every host wait for the copy of the hosts of other nodes.

use crate::handlers::fleet::foreign::Use;
use crate::handlers::request::Request;
use crate::handlers::step::Step;
use crate::handlers::tasks::dispatch::not_now;
use crate::handlers::tasks::reads::{HostsReading, Reading};
use crate::handlers::tasks::resolve::OWN_NODE;
use crate::limits::PAGE_HOSTS_MAX;
use crate::store::op::{Found, HostScan, Question, ScanPlace};
use crate::time::Instant;

/// Requester of a scan: no response reaches it.
const NO_REQUESTER: u64 = u64::MAX;

impl Step<'_> {
    /// Returns a request that may begin. One that looks at every host waits until the copy of the
    /// hosts of other nodes is young.
    pub(super) fn with_foreign(&mut self, requester: u64, request: Request) -> Option<Request> {
        let inner = match &request {
            Request::Within(_, request) => request,
            request => request,
        };
        let needs_all = match inner {
            Request::Dispatch(task) => task.rollout.target.is_some(),
            Request::Plan { options, .. } => options.target.is_some(),
            Request::Command { target, .. } => target.is_some(),
            Request::Survey(_) => true,
            Request::Hosts {
                target: Some(_),
                node,
                ..
            } => node.as_deref() != Some(OWN_NODE),
            _ => false,
        };
        if !needs_all || !*self.cx.had_others || !self.cx.is_store_up() {
            return Some(request);
        }
        let now = self.cx.at.now;
        match self.fleet.foreign_mut().take(now, requester, &request) {
            Use::Now => return Some(request),
            Use::NowAndScan => {
                self.begin_scan(now);
                return Some(request);
            }
            Use::Wait => {}
            Use::Scan => self.begin_scan(now),
            Use::Refuse => {
                let why = not_now("too many requests wait for the hosts of other nodes");
                self.cx.respond(requester, why.into());
            }
        }
        None
    }

    fn begin_scan(&mut self, now: Instant) {
        let rules = self.fleet.labels().rules();
        let scan = self.fleet.foreign_mut().begin(now, rules);
        let start = ScanPlace {
            is_late: true,
            ..ScanPlace::default()
        };
        self.scan_foreign(scan, start);
    }

    fn scan_foreign(&mut self, scan: u32, start: ScanPlace) {
        let question = Question::Scan(HostScan {
            node: None,
            online: None,
            start,
            limit: PAGE_HOSTS_MAX,
            brief: true,
        });
        self.read_foreign(scan, question);
    }

    fn read_foreign(&mut self, scan: u32, question: Question) {
        if !self.tasks.can_read(&self.cx) {
            return self.fail_foreign("too many questions are under way");
        }
        let reading = Reading::Hosts(HostsReading::Copy(scan));
        self.tasks
            .read(&mut self.cx, NO_REQUESTER, reading, question);
    }

    /// The store has returned a page of a scan.
    pub(super) fn foreign_read(&mut self, scan: u32, found: Found) {
        let now = self.cx.at.now;
        if !self.fleet.foreign().is_scan(scan) {
            return;
        }
        let (hosts, names) = match found {
            Found::Scan { hosts, names, next } => {
                self.fleet.foreign_mut().set_next(next);
                (hosts, names)
            }
            Found::Hosts(hosts) => (hosts.into_iter().flatten().collect(), Vec::new()),
            Found::Nothing(why) => return self.fail_foreign(&why),
            _ => return self.fail_foreign("the store answered something else"),
        };
        self.fleet.enter_foreign(now, hosts);
        let hosts = self.fleet.not_found(names);
        if !hosts.is_empty() {
            self.read_foreign(scan, Question::Hosts { hosts });
        } else if let Some(next) = self.fleet.foreign_mut().take_next() {
            self.scan_foreign(scan, next);
        } else {
            return self.end_scan(now);
        }
        for (requester, request) in self.fleet.foreign_mut().take_impatient(now) {
            self.serve(requester, request);
        }
    }

    fn end_scan(&mut self, now: Instant) {
        for (requester, request) in self.fleet.foreign_mut().finish(now) {
            self.request(requester, request);
        }
    }

    /// The hosts of other nodes cannot be read: answers the waiting requests.
    pub(super) fn fail_foreign(&mut self, why: &str) {
        for (requester, _) in self.fleet.foreign_mut().fail() {
            self.cx.respond(requester, not_now(why).into());
        }
    }

    /// Drops the copy if nothing has used it for long.
    pub(super) fn tidy_foreign(&mut self, judge: Instant) {
        self.fleet.foreign_mut().drop_unused(judge);
    }
}
