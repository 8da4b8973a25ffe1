//! Resolution of a target over all known hosts, a few hosts at a time.
//!
//! ```text
//!   Target ─▶ Selection ─▶ each slot compared once ─▶ every term has matched ─▶ the hosts
//!                                                └─▶ one has not ─▶ each slot searched for the nearest name ─▶ 400
//! ```

use crate::codec::target::{Search, Selection, Target};
use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::fleet::facts::HostFacts;
use crate::handlers::fleet::foreign::FIRST;
use crate::handlers::request::Response;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::dispatch::{Refusal, wrong};
use crate::handlers::tasks::jobs::Job;
use crate::handlers::tasks::reads::{HostsReading, Listed, Reading};
use crate::handlers::view::{Filter, HostView, PageStart};
use crate::ids::HostId;
use crate::limits::{TARGET_PATTERNS_PER_STEP, WALK_S_MAX};
use crate::store::op::Question;
use crate::time::{Instant, Span};

/// Name that stands for the asked node, and for what it has in memory.
pub(crate) const OWN_NODE: &str = "self";

/// A comparison of a target with the hosts.
#[derive(Debug)]
pub(crate) struct Resolution {
    selection: Selection,
    /// The next slot.
    slot: u32,
    /// A term has matched nothing.
    search: Option<Box<Search>>,
}

impl Resolution {
    /// Begins to resolve the target `text`.
    ///
    /// # Errors
    /// No target, or an unknown group.
    pub(crate) fn new(hosts: Directory<'_>, text: &str) -> Result<Self, Refusal> {
        let target = Target::parse(text).map_err(|why| wrong(why.to_string()))?;
        let selection = Selection::new(&target, hosts.groups());
        Ok(Self {
            selection: selection.map_err(|why| wrong(why.to_string()))?,
            slot: 0,
            search: None,
        })
    }

    /// Begins at `slot` instead of the first one.
    pub(crate) fn starting_at(self, slot: u32) -> Self {
        Self { slot, ..self }
    }

    /// Returns whether all slots have been compared.
    pub(crate) fn is_at_end(&self, hosts: Directory<'_>) -> bool {
        hosts.place(self.slot).is_none()
    }

    /// Compares at most `max` more slots, fewer if the target has many terms, and calls `take` for
    /// each selected host. Returns whether these were the last.
    ///
    /// # Errors
    /// A term that matches nothing.
    pub(crate) fn step<'h>(
        &mut self,
        hosts: Directory<'h>,
        max: usize,
        mut take: impl FnMut(u32, HostFacts<'h>),
    ) -> Result<bool, Refusal> {
        let max = max / (1 + self.selection.cost() / TARGET_PATTERNS_PER_STEP);
        for _ in 0..max.max(1) {
            let Some(slot) = hosts.place(self.slot) else {
                if let Some(search) = self.search.take() {
                    return Err(wrong(search.end().to_string()));
                }
                let Err(search) = self.selection.finish() else {
                    return Ok(true);
                };
                self.search = Some(search);
                self.slot = 0;
                continue;
            };
            self.slot = slot + 1;
            let Some(facts) = hosts.facts(slot) else {
                continue;
            };
            match &mut self.search {
                Some(search) => search.look_at(&facts),
                None if self.selection.takes(&facts) => take(slot, facts),
                None => {}
            }
        }
        Ok(false)
    }
}

/// A page of the hosts of a target. The first page compares all hosts, so that an error names a
/// term without a match; a later page ends when it is full.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) requester: u64,
    pub(crate) deadline: Instant,
    resolution: Resolution,
    filter: Filter,
    /// Only hosts that this node holds; `self`: only those that are in memory here.
    node: Option<String>,
    is_first: bool,
    limit: usize,
    hosts: Vec<HostView<'static>>,
    /// Those of them that are connected to other nodes, or to none. The copy lacks some of their
    /// facts.
    foreign: Vec<HostId>,
    /// Slot of the first selected host beyond the page.
    next: Option<u64>,
}

impl Listing {
    /// Compares at most `max` more slots. Returns whether the page is complete.
    pub(crate) fn step(&mut self, hosts: Directory<'_>, max: usize) -> Result<bool, Refusal> {
        let hosts = match self.node.as_deref() {
            Some(OWN_NODE) => hosts,
            _ => hosts.everywhere(),
        };
        if !self.is_first && (self.next.is_some() || self.resolution.is_at_end(hosts)) {
            return Ok(true);
        }
        let Self {
            resolution,
            filter,
            node,
            limit,
            hosts: page,
            foreign,
            next,
            ..
        } = self;
        let is_over = resolution.step(hosts, max, |slot, facts| {
            let is_there = match node.as_deref() {
                None | Some(OWN_NODE) => true,
                Some(node) => facts.is_online() && facts.node == Some(node),
            };
            if !is_there || !filter.takes(facts.is_online()) {
            } else if page.len() < *limit {
                page.extend(hosts.view(slot).map(HostView::into_owned));
                if slot >= FIRST {
                    foreign.push(facts.id);
                }
            } else {
                next.get_or_insert(u64::from(slot));
            }
        });
        match is_over {
            // Terms were checked with the first page.
            Err(_) if !self.is_first => Ok(true),
            is_over => is_over,
        }
    }
}

impl Tasks {
    /// Lists hosts of a target: those in a state, from a slot on, up to a bound.
    ///
    /// # Errors
    /// No target, an unknown group, or too many requests.
    pub(crate) fn list_hosts(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        requester: u64,
        (target, node): (&str, Option<String>),
        (filter, cursor, limit): (Filter, u64, usize),
    ) -> Result<(), Refusal> {
        let mut resolution = Resolution::new(hosts, target)?;
        resolution.slot = u32::try_from(cursor).unwrap_or(u32::MAX);
        self.check_room(hosts.slots())?;
        self.check_listings()?;
        let listing = Listing {
            requester,
            deadline: cx.at.now + Span::from_secs(WALK_S_MAX),
            resolution,
            filter,
            node,
            is_first: cursor == 0,
            limit,
            hosts: Vec::new(),
            foreign: Vec::new(),
            next: None,
        };
        self.begin_job(cx, hosts, Job::Listing(Box::new(listing)));
        Ok(())
    }

    /// Answers the requester of a complete page, once the records of foreign hosts are read.
    pub(super) fn answer_listing(&mut self, cx: &mut Ctx<'_>, listing: Listing) {
        let Listing {
            requester,
            filter,
            hosts,
            foreign,
            next,
            ..
        } = listing;
        if foreign.is_empty() {
            let next = next.map(PageStart::Slot);
            return cx.respond(requester, Response::Hosts { hosts, next });
        }
        let listed = Listed {
            hosts,
            next,
            filter,
        };
        let reading = Reading::Hosts(HostsReading::Listed(Box::new(listed)));
        self.read(cx, requester, reading, Question::Hosts { hosts: foreign });
    }
}
