//! Other nodes, as the store thread sees them: whose lease is missing, and for how long. Pure: looks go in, the name of a node
//! that is gone comes out.
//!
//! A node is gone when its lease was missing in every look for the grace, each look at most [`NODE_LOOK_GAP_S`] after the one
//! before. A look that comes later, after an outage of the store or a stall of this node, begins the count anew.

use std::collections::HashMap;

use super::machine::Worker;
use crate::limits::{NODE_LOOK_GAP_S, NODE_LOOK_S};
use crate::store::op::Outcome;
use crate::store::{HeldCursor, StoreError};
use crate::time::{Instant, Span};

/// The nodes without a lease.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Time since which each has been missing in every check.
    missing: HashMap<String, Instant>,
    last: Instant,
    due: Instant,
}

impl Nodes {
    /// Time of the next check.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The store went away: what was counted says nothing any more.
    pub fn interrupted(&mut self) {
        self.missing.clear();
    }

    /// A look at `now` found these without a lease. The first of them that has been so for `grace`.
    pub fn saw(&mut self, silent: Vec<String>, grace: Span, now: Instant) -> Option<String> {
        if now.since(self.last) > Span::from_secs(NODE_LOOK_GAP_S) {
            self.missing.clear();
        }
        self.last = now;
        let often = Span::from_nanos((grace.as_nanos() / 2).max(500_000_000));
        self.due = now + often.min(Span::from_secs(NODE_LOOK_S));
        let before = std::mem::take(&mut self.missing);
        for name in silent {
            let since = before.get(&name).copied().unwrap_or(now);
            self.missing.insert(name, since);
        }
        let gone = self
            .missing
            .iter()
            .filter(|(_, since)| now.since(**since) >= grace);
        gone.map(|(name, _)| name).min().cloned()
    }
}

/// A node whose hosts and tasks are being taken over.
#[derive(Debug)]
pub(super) struct TakeOver {
    node: String,
    /// Position in its tasks, once its hosts have been taken over.
    tasks: Option<HeldCursor>,
}

impl Worker {
    /// Looks at the leases of other nodes when that is due, and takes over what one that is gone has left, a page at a time.
    /// Whether there is more to do at once.
    pub(super) fn watch_nodes(&mut self) -> Result<bool, StoreError> {
        let now = self.now();
        let wall = self.clock.wall();
        let Some(backend) = &mut self.backend else {
            return Ok(false);
        };
        let Some(taking) = &mut self.taking else {
            if now < self.nodes.due() {
                return Ok(false);
            }
            let silent = backend.silent_nodes(wall)?;
            let gone = self.nodes.saw(silent, self.plan.grace, now);
            self.taking = gone.map(|node| {
                log::warn!("store: the node {node} is gone: what it held is taken over");
                TakeOver { node, tasks: None }
            });
            self.contact();
            return Ok(self.taking.is_some());
        };
        let (mut hosts, mut tasks) = (Vec::new(), Vec::new());
        match &mut taking.tasks {
            None => {
                if !backend.take_over_hosts(&taking.node, &mut hosts)? {
                    taking.tasks = Some(HeldCursor::Start);
                }
            }
            Some(cursor) => backend.take_over_tasks(&taking.node, wall, cursor, &mut tasks)?,
        }
        if taking.tasks == Some(HeldCursor::End) {
            self.taking = None;
        }
        self.contact();
        if !hosts.is_empty() {
            self.out.push(Outcome::Inherited(hosts));
        }
        if !tasks.is_empty() {
            self.out.push(Outcome::InheritedTasks(tasks));
        }
        Ok(true)
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
        nodes.saw(names, Span::from_secs(20), at(now))
    }

    #[test]
    fn a_lease_missing_for_the_grace_marks_a_node_gone() {
        let mut nodes = Nodes::default();
        for now in [100, 105, 110, 115] {
            assert_eq!(see(&mut nodes, &["b"], now), None);
            assert_eq!(nodes.due(), at(now + NODE_LOOK_S));
        }
        assert_eq!(see(&mut nodes, &["b"], 120).as_deref(), Some("b"));
    }

    #[test]
    fn one_look_that_finds_it_begins_the_count_anew() {
        let mut nodes = Nodes::default();
        for (now, names) in [(100, &["b"][..]), (105, &[]), (110, &["b"]), (119, &["b"])] {
            assert_eq!(see(&mut nodes, names, now), None);
        }
        assert_eq!(see(&mut nodes, &["b"], 128), None);
        assert!(see(&mut nodes, &["b"], 130).is_some());
    }

    #[test]
    fn a_stall_or_an_outage_begins_it_anew() {
        let mut nodes = Nodes::default();
        see(&mut nodes, &["b"], 100);
        assert_eq!(see(&mut nodes, &["b"], 121), None, "a stall");
        nodes.interrupted();
        assert_eq!(see(&mut nodes, &["b"], 130), None);
        assert_eq!(see(&mut nodes, &["b"], 140), None);
        assert!(see(&mut nodes, &["b"], 150).is_some());
    }
}
