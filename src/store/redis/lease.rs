//! The node's lease: checked when the worker requests it, and renewed during long runs.
//!
//! Operations of one host follow each other, each with a few round trips. A thousand of them on a
//! distant Redis take longer than a lease lasts: it must not run out under a busy server.
//!
//! The lease is on one server. In a Cluster each primary has a *mark*, a lease of its own under a key
//! in one of its slots. A mark that was held and is missing shows that its primary has lost its
//! data, which counts as the loss of the lease.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Context;
use super::errors::Fault;
use super::link::Link;
use super::load::query;
use super::scripts::Script;
use super::step::{Replies, int};
use crate::limits::{LEASE_RENEW_S, LEASE_S};
use crate::store::{Lease, StoreError, schema};
use crate::time::Span;

/// The lease of this process.
pub(super) struct LeaseHolder {
    /// Random number by which the process recognizes it.
    number: String,
    /// Last time at which it was certainly held; `None` while it is not.
    pub(super) renewed: Option<Instant>,
    /// Tags of the marks that were held at the last check.
    marks: HashSet<String>,
}

impl LeaseHolder {
    /// # Panics
    /// When the system has no randomness to give.
    pub(super) fn new() -> Self {
        let mut number = [0_u8; 16];
        getrandom::fill(&mut number).expect("the system gives random numbers");
        Self {
            number: number.iter().map(|byte| format!("{byte:02x}")).collect(),
            renewed: None,
            marks: HashSet::new(),
        }
    }

    /// The same process, before its first check.
    pub(super) fn again(&self) -> Self {
        Self {
            number: self.number.clone(),
            renewed: None,
            marks: HashSet::new(),
        }
    }

    /// Takes or renews it, and enters the node among the nodes.
    pub(super) fn look(
        &mut self,
        link: &mut Link,
        context: &Context,
        force: bool,
    ) -> Result<Lease, StoreError> {
        let requested_at = Instant::now();
        let lease_ms = LEASE_S * 1_000;
        let mut look = Script::Lease.on(&schema::node_lease(&context.node));
        look.arg(&self.number).arg(lease_ms).arg(u8::from(force));
        let enter = cmd!("SADD", schema::NODES, &context.node);
        // The node is alive, even if its hosts were taken over while its lease was missing.
        let info = schema::node_info(&context.node);
        let unmark = cmd!("HDEL", info, schema::node::GONE);
        self.renewed = None;
        let lease = query(link, [look, enter, unmark], |replies| {
            let (state, left) = replies.pair()?;
            let left = int(left)?;
            Ok(match int(state)? {
                0 => Lease::Ours,
                1 => Lease::Taken,
                // A lease without a time to live was set by hand; it counts as just renewed.
                _ => Lease::Foreign {
                    left: Span::from_millis(u64::try_from(left).unwrap_or(lease_ms)),
                },
            })
        })?;
        if !matches!(lease, Lease::Ours | Lease::Taken) {
            return Ok(lease);
        }
        let is_lost = self.mark(link, context)?;
        self.renewed = Some(requested_at);
        Ok(if is_lost { Lease::Taken } else { lease })
    }

    /// Takes or renews the marks. Returns whether one that was held is missing.
    fn mark(&mut self, link: &mut Link, context: &Context) -> Result<bool, StoreError> {
        let tags = link.tags();
        if tags.is_empty() {
            return Ok(false);
        }
        let marks = tags.iter().map(|tag| {
            let mut mark = Script::Lease.on(&schema::node_mark(&context.node, tag));
            mark.arg(&self.number).arg(LEASE_S * 1_000).arg(1);
            mark
        });
        let mut replies = Replies::new(link.request(&marks.collect())?);
        let mut is_lost = false;
        for tag in &tags {
            let (state, _) = replies.pair().map_err(Fault::into_store_error)?;
            let was_missing = int(state).map_err(Fault::into_store_error)? != 0;
            is_lost |= was_missing && self.marks.contains(tag);
        }
        self.marks = tags.into_iter().collect();
        Ok(is_lost)
    }

    /// Renews the lease if that is due. A missing lease is not taken again: the next check must see
    /// that the store has lost its data.
    pub(super) fn keep(&mut self, link: &mut Link, context: &Context) -> Result<(), StoreError> {
        let due = Duration::from_secs(LEASE_RENEW_S);
        let now = Instant::now();
        if self
            .renewed
            .is_none_or(|at| now.saturating_duration_since(at) < due)
        {
            return Ok(());
        }
        let mut renew = Script::RenewLease.on(&schema::node_lease(&context.node));
        renew.arg(&self.number).arg(LEASE_S * 1_000);
        let is_ours = query(link, [renew], |replies| Ok(replies.int()? == 1))?;
        let marks = link.tags();
        let marks = marks.iter().map(|tag| {
            let mut renew = Script::RenewLease.on(&schema::node_mark(&context.node, tag));
            renew.arg(&self.number).arg(LEASE_S * 1_000);
            renew
        });
        // A missing mark is noticed by the next check.
        link.request(&marks.collect())?;
        self.renewed = is_ours.then_some(now);
        Ok(())
    }

    /// Gives up the lease.
    pub(super) fn release(&mut self, link: &mut Link, context: &Context) -> Result<(), StoreError> {
        self.renewed = None;
        let mut release = Script::ReleaseLease.on(&schema::node_lease(&context.node));
        release.arg(&self.number);
        query(link, [release], |_| Ok(()))
    }
}
