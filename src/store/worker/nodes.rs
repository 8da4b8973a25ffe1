//! Other nodes, as the worker sees them: a node whose lease is missing for long enough is gone, its
//! hosts are ended, and its tasks are taken over.
//!
//! A node is gone when its lease was missing in every check for the grace, each check at most
//! [`NODE_LOOK_GAP_S`] after the one before. A check that comes later, after an outage of the store
//! or a stall of this node, begins the count anew.

use std::collections::HashMap;

use super::Clock;
use super::link::Link;
use crate::limits::{NODE_LOOK_GAP_S, NODE_LOOK_S};
use crate::store::op::Outcome;
use crate::store::{HeldCursor, StoreError};
use crate::time::{Instant, Span};

/// The nodes without a lease, and the takeover in progress.
#[derive(Debug)]
pub(super) struct Nodes {
    grace: Span,
    missing: HashMap<String, Missing>,
    checked: Instant,
    due: Instant,
    takeover: Option<Takeover>,
    /// Other nodes share the store; `None` if it cannot be shared, or before the first look.
    are_several: Option<bool>,
    /// Others that hold their leases, and those without, at the last look.
    counts: (usize, usize),
    /// Entries of this node's inbox at the last look.
    inbox: usize,
    /// Time of the last look at which there were none.
    inbox_was_empty: Option<Instant>,
    /// A takeover was interrupted: some of the tasks may be ours, and the core does not know them.
    has_unread_tasks: bool,
}

/// A node without a lease.
#[derive(Debug)]
struct Missing {
    since: Instant,
    /// Its end is logged: another node may take over its hosts.
    is_logged: bool,
}

/// A node whose hosts and tasks are being taken over.
#[derive(Debug)]
struct Takeover {
    node: String,
    /// Position in its tasks, once its hosts have been taken over.
    tasks: Option<HeldCursor>,
}

impl Nodes {
    pub fn new(grace: Span) -> Self {
        Self {
            grace,
            missing: HashMap::new(),
            checked: Instant::ZERO,
            due: Instant::ZERO,
            takeover: None,
            are_several: None,
            counts: (0, 0),
            inbox: 0,
            inbox_was_empty: None,
            has_unread_tasks: false,
        }
    }

    /// Time of the next check.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Returns whether the tasks must be read again, since a takeover was interrupted.
    pub fn has_unread_tasks(&self) -> bool {
        self.has_unread_tasks
    }

    /// All tasks of this node were read.
    pub fn tasks_are_read(&mut self) {
        self.has_unread_tasks = false;
    }

    /// The store became unavailable: the count begins anew.
    pub fn interrupted(&mut self) {
        self.missing.clear();
        self.has_unread_tasks |= self.takeover.take().is_some();
    }

    /// Checks the leases of other nodes when that is due, and takes over one page of what a node
    /// that is gone has left. Returns whether there is more to do at once.
    pub fn step(
        &mut self,
        link: &mut Link,
        clock: &dyn Clock,
        out: &mut Vec<Outcome>,
    ) -> Result<bool, StoreError> {
        let (now, wall) = (clock.now(), clock.wall());
        let Some(takeover) = &mut self.takeover else {
            if now < self.due {
                return Ok(false);
            }
            let silent = self.look(link, clock, out)?;
            let gone = self.checked(silent, now);
            self.takeover = gone.map(|node| Takeover { node, tasks: None });
            return Ok(self.takeover.is_some());
        };
        let node = &takeover.node;
        match &mut takeover.tasks {
            None => {
                let mut hosts = Vec::new();
                if !link.call(clock, |backend| backend.end_hosts(node, wall, &mut hosts))? {
                    takeover.tasks = Some(HeldCursor::Start);
                }
                if !hosts.is_empty() {
                    out.push(Outcome::Ended(hosts));
                }
            }
            Some(cursor) => {
                let mut tasks = Vec::new();
                link.call(clock, |backend| {
                    backend.take_over_tasks(node, wall, cursor, &mut tasks)
                })?;
                if *cursor == HeldCursor::End {
                    self.takeover = None;
                }
                if !tasks.is_empty() {
                    out.push(Outcome::InheritedTasks(tasks));
                }
            }
        }
        Ok(true)
    }

    /// Looks at the other nodes, and notifies the core of a change. Returns those without a lease.
    pub fn look(
        &mut self,
        link: &mut Link,
        clock: &dyn Clock,
        out: &mut Vec<Outcome>,
    ) -> Result<Vec<String>, StoreError> {
        let (now, wall) = (clock.now(), clock.wall());
        let seen = link.call(clock, |backend| backend.look_at_nodes(wall))?;
        if let Some(are_several) = seen.are_several
            && self.are_several.replace(are_several) != Some(are_several)
        {
            out.push(Outcome::Nodes { are_several });
        }
        self.counts = (seen.live, seen.silent.len());
        self.inbox = seen.inbox;
        if seen.inbox == 0 {
            self.inbox_was_empty = Some(now);
        }
        Ok(seen.silent)
    }

    /// Returns whether others may hold hosts, according to the last look.
    pub fn are_several(&self) -> bool {
        self.are_several == Some(true)
    }

    /// Number of the others that hold their leases, and of those without.
    pub fn counts(&self) -> (usize, usize) {
        self.counts
    }

    /// Number of entries of this node's inbox.
    pub fn inbox(&self) -> usize {
        self.inbox
    }

    /// Time of the last look at which this node's inbox was empty.
    pub fn inbox_was_empty(&self) -> Option<Instant> {
        self.inbox_was_empty
    }

    /// A check at `now` found these nodes without a lease. Returns the first that is gone.
    fn checked(&mut self, silent: Vec<String>, now: Instant) -> Option<String> {
        if now.since(self.checked) > Span::from_secs(NODE_LOOK_GAP_S) {
            self.missing.clear();
        }
        self.checked = now;
        let often = Span::from_nanos((self.grace.as_nanos() / 2).max(500_000_000));
        self.due = now + often.min(Span::from_secs(NODE_LOOK_S));
        let mut before = std::mem::take(&mut self.missing);
        for name in silent {
            let missing = before.remove(&name).unwrap_or(Missing {
                since: now,
                is_logged: false,
            });
            self.missing.insert(name, missing);
        }
        let grace = self.grace;
        let gone = self.missing.iter_mut();
        let gone = gone.filter(|(_, node)| now.since(node.since) >= grace);
        let (name, node) = gone.min_by(|a, b| a.0.cmp(b.0))?;
        if !std::mem::replace(&mut node.is_logged, true) {
            log::warn!(
                node = name;
                "store: the node {name} is gone: its hosts and tasks go to this node or to another"
            );
        }
        Some(name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Span::from_secs(secs)
    }

    fn see(nodes: &mut Nodes, names: &[&str], now: u64) -> Option<String> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        nodes.checked(names, at(now))
    }

    #[test]
    fn a_lease_missing_for_the_grace_marks_a_node_gone() {
        let mut nodes = Nodes::new(Span::from_secs(20));
        for now in [100, 105, 110, 115] {
            assert_eq!(see(&mut nodes, &["b"], now), None);
            assert_eq!(nodes.due(), at(now + NODE_LOOK_S));
        }
        assert_eq!(see(&mut nodes, &["b"], 120).as_deref(), Some("b"));
    }

    #[test]
    fn a_check_that_finds_the_lease_restarts_the_count() {
        let mut nodes = Nodes::new(Span::from_secs(20));
        for (now, names) in [(100, &["b"][..]), (105, &[]), (110, &["b"]), (119, &["b"])] {
            assert_eq!(see(&mut nodes, names, now), None);
        }
        assert_eq!(see(&mut nodes, &["b"], 128), None);
        assert!(see(&mut nodes, &["b"], 130).is_some());
    }

    #[test]
    fn a_stall_or_an_outage_restarts_the_count() {
        let mut nodes = Nodes::new(Span::from_secs(20));
        see(&mut nodes, &["b"], 100);
        assert_eq!(see(&mut nodes, &["b"], 121), None, "a stall");
        nodes.interrupted();
        assert_eq!(see(&mut nodes, &["b"], 130), None);
        assert_eq!(see(&mut nodes, &["b"], 140), None);
        assert!(see(&mut nodes, &["b"], 150).is_some());
    }

    #[test]
    fn a_gone_node_is_logged_once() {
        let mut nodes = Nodes::new(Span::from_secs(20));
        let is_logged = |nodes: &Nodes| nodes.missing["b"].is_logged;
        for now in [100, 105, 110, 115] {
            see(&mut nodes, &["b"], now);
            assert!(!is_logged(&nodes));
        }
        // Another node is its heir, so each check finds it again.
        for now in [120, 125, 130] {
            assert_eq!(see(&mut nodes, &["b"], now).as_deref(), Some("b"));
            assert!(is_logged(&nodes));
        }
        see(&mut nodes, &[], 135);
        see(&mut nodes, &["b"], 140);
        assert!(!is_logged(&nodes), "it returned, and is gone again");
    }
}
