//! Nodes that are dead: their hosts are ended, and their tasks become this node's.
//!
//! The claim of a host is released first, in the name of the other node, and the host leaves that
//! node's set last. A task changes with its claim. An interrupted takeover can therefore be
//! repeated.

use super::Context;
use super::errors::Fault;
use super::inbox;
use super::link::Link;
use super::load::{end_page, lenient, query, scan};
use super::run::{Job, StepResult};
use super::step::{Replies, Step};
use super::step::{list, text};
use super::tasks;
use crate::limits::{HOSTS_PER_OP_MAX, LEASE_S, NODES_SEEN_MAX};
use crate::store::op::{Found, HeldHost, HeldTask, NodeFacts, NodeState, Outcome};
use crate::store::{HeldCursor, NodesSeen, StoreError, schema};
use crate::time::UnixMs;

/// Examines the leases of the other nodes. Deletes the names of nodes whose records have expired.
pub(super) fn look(
    link: &mut Link,
    context: &Context,
    now: UnixMs,
) -> Result<NodesSeen, StoreError> {
    let inbox = show(link, context, now)?;
    let names = names(link, context)?;
    let leases = names
        .iter()
        .map(|name| cmd!("EXISTS", schema::node_lease(name)));
    let live = query(link, leases, |replies| {
        names.iter().map(|_| Ok(replies.int()? == 1)).collect()
    })?;
    let live: Vec<bool> = live;
    let mut seen = NodesSeen {
        are_several: Some(live.contains(&true)),
        live: live.iter().filter(|lives| **lives).count(),
        inbox,
        silent: Vec::new(),
    };
    for (name, _) in names.into_iter().zip(live).filter(|(_, lives)| !lives) {
        let info = schema::node_info(&name);
        let hosts = cmd!("EXISTS", schema::node_hosts(&name));
        let gone = cmd!("HGET", &info, schema::node::GONE);
        let (has_hosts, gone) = query(link, [hosts, gone], |replies| {
            let has_hosts = replies.int()? == 1;
            Ok((has_hosts, lenient(&info, replies.text())?.flatten()))
        })?;
        let gone: Option<u64> = gone.and_then(|ms| ms.parse().ok());
        match gone {
            Some(since) if !has_hosts && now.0.saturating_sub(since) > context.keep_ms => {
                let leave = cmd!("SREM", schema::NODES, &name);
                let forget = cmd!("DEL", &info);
                let inbox = cmd!("DEL", schema::node_inbox(&name));
                query(link, [leave, forget, inbox], |_| Ok(()))?;
            }
            Some(_) if !has_hosts => {}
            _ => {
                // It may return, and still hold its hosts.
                seen.are_several = Some(true);
                seen.silent.push(name);
            }
        }
    }
    Ok(seen)
}

/// Writes the facts of this node for other nodes. Returns the length of its inbox.
fn show(link: &mut Link, context: &Context, now: UnixMs) -> Result<usize, StoreError> {
    use schema::node::{HOSTS, HTTP, SEEN, STARTED, VERSION};
    let inbox = schema::node_inbox(&context.node);
    let counts = [cmd!("SCARD", &context.own_set), cmd!("XLEN", &inbox)];
    let (hosts, entries) = query(link, counts, |replies| {
        let hosts = lenient(&context.own_set, replies.int())?.unwrap_or_default();
        let entries = lenient(&inbox, replies.int())?.unwrap_or_default();
        Ok((hosts, usize::try_from(entries).unwrap_or_default()))
    })?;
    let info = &context.info;
    let mut set = cmd!("HSET", schema::node_info(&context.node));
    set.arg(VERSION).arg(&info.version);
    set.arg(HTTP).arg(&info.http);
    set.arg(STARTED).arg(info.started.0);
    set.arg(HOSTS).arg(hosts).arg(SEEN).arg(now.0);
    query(link, [set], |replies| {
        lenient("the record of this node", replies.int()).map(drop)
    })?;
    Ok(entries)
}

/// The job that lists all nodes.
pub(super) struct All {
    ticket: u64,
    names: Option<Vec<String>>,
}

impl All {
    pub(super) fn new(ticket: u64) -> Self {
        let names = None;
        Self { ticket, names }
    }

    fn read(name: &str, replies: &mut Replies) -> Result<NodeFacts, Fault> {
        let lives = replies.int()? == 1;
        let is_inherited = replies.int()? == 1;
        let hosts = lenient(&schema::node_hosts(name), replies.int())?;
        let inbox = lenient(&schema::node_inbox(name), replies.int())?;
        let info = lenient(&schema::node_info(name), replies.value())?;
        let info = info.map_or(Ok(Vec::new()), list)?.into_iter().map(text);
        let info: Vec<Option<String>> = info.collect::<Result<_, _>>()?;
        let mut info = info.into_iter();
        let mut next = || info.next().flatten().filter(|text| !text.is_empty());
        let (version, http) = (next(), next());
        let mut time = || next().and_then(|ms| ms.parse().ok()).map(UnixMs);
        let (started, seen, gone) = (time(), time(), time());
        let state = if lives {
            NodeState::Up
        } else if is_inherited || gone.is_some() {
            NodeState::Dead
        } else {
            NodeState::Silent
        };
        let since = match state {
            NodeState::Up => started,
            NodeState::Silent => seen,
            NodeState::Dead => gone.or(seen),
        };
        let count = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        Ok(NodeFacts {
            hosts: count(hosts).unwrap_or_default(),
            inbox: count(inbox).unwrap_or_default(),
            version,
            http,
            since: since.unwrap_or_default(),
            ..NodeFacts::named(name.to_owned(), state)
        })
    }
}

impl Job for All {
    fn encode(&mut self, step: &mut Step) {
        use schema::node::{GONE, HTTP, SEEN, STARTED, VERSION};
        let Some(names) = &self.names else {
            let scan = cmd!("SSCAN", schema::NODES, 0, "COUNT", NODES_SEEN_MAX);
            return step.one(0, scan);
        };
        if names.is_empty() {
            return step.one(0, cmd!("PING"));
        }
        for name in names {
            let info = schema::node_info(name);
            step.one(0, cmd!("EXISTS", schema::node_lease(name)));
            step.one(0, cmd!("EXISTS", schema::node_heir(name)));
            step.one(0, cmd!("SCARD", schema::node_hosts(name)));
            step.one(0, cmd!("XLEN", schema::node_inbox(name)));
            step.one(0, cmd!("HMGET", info, VERSION, HTTP, STARTED, SEEN, GONE));
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let Some(names) = &self.names else {
            let (_, members) = replies.pair()?;
            let names = list(members)?.into_iter();
            let mut names: Vec<String> = names.filter_map(|name| text(name).ok()?).collect();
            names.sort();
            names.dedup();
            names.truncate(NODES_SEEN_MAX);
            self.names = Some(names);
            return Ok(StepResult::More);
        };
        let nodes = names.iter().map(|name| Self::read(name, &mut replies));
        let found = Found::Nodes(nodes.collect::<Result<_, _>>()?);
        let ticket = self.ticket;
        Ok(StepResult::Done(Outcome::Read { ticket, found }))
    }
}

fn names(link: &mut Link, context: &Context) -> Result<Vec<String>, StoreError> {
    let (mut names, mut position) = (Vec::new(), Some(b"0".to_vec()));
    while let Some(from) = position.filter(|_| names.len() < NODES_SEEN_MAX) {
        let (next, page) = scan(link, "SSCAN", schema::NODES, &from, HOSTS_PER_OP_MAX)?;
        let page = page.into_iter().filter_map(|name| text(name).ok()?);
        names.extend(page.filter(|name| *name != context.node));
        position = next;
    }
    Ok(names)
}

/// Returns whether this node takes over from `node`: the first node that requests it, as long as it
/// repeats the request.
fn is_heir(link: &mut Link, context: &Context, node: &str) -> Result<bool, StoreError> {
    let heir = schema::node_heir(node);
    let lease_ms = LEASE_S * 1_000;
    let set = cmd!("SET", &heir, &context.node, "NX", "PX", lease_ms);
    let get = cmd!("GET", &heir);
    let lease = cmd!("EXISTS", schema::node_lease(node));
    let (heir_is, back) = query(link, [set, get, lease], |replies| {
        replies.value()?;
        Ok((replies.text()?, replies.int()? == 1))
    })?;
    if back || heir_is.as_deref() != Some(&context.node) {
        return Ok(false);
    }
    let renew = cmd!("PEXPIRE", &heir, lease_ms);
    query(link, [renew], |_| Ok(true))
}

/// Ends the next page of the hosts that `node` holds. Returns whether there may be more.
pub(super) fn end_hosts(
    link: &mut Link,
    context: &Context,
    node: &str,
    now: UnixMs,
    hosts: &mut Vec<HeldHost>,
) -> Result<bool, StoreError> {
    match is_heir(link, context, node)? {
        true => end_page(link, context, node, now, hosts),
        false => Ok(false),
    }
}

/// Stage of a takeover in which the tasks are read and the inbox is forwarded.
const INBOX: u8 = u8::MAX;

/// Takes over the next page of the tasks that `node` has dispatched, and then of its inbox. At the end
/// `node` counts as taken over.
pub(super) fn tasks(
    link: &mut Link,
    context: &Context,
    node: &str,
    now: UnixMs,
    cursor: &mut HeldCursor,
    found: &mut Vec<HeldTask>,
) -> Result<(), StoreError> {
    if !is_heir(link, context, node)? {
        *cursor = HeldCursor::End;
        return Ok(());
    }
    if !matches!(cursor, HeldCursor::At(INBOX, _)) {
        tasks::page(link, context, node, cursor, found)?;
        if *cursor != HeldCursor::End {
            return Ok(());
        }
    }
    if inbox::forward(link, context, node)? {
        *cursor = HeldCursor::At(INBOX, Vec::new());
        return Ok(());
    }
    *cursor = HeldCursor::End;
    let info = schema::node_info(node);
    let gone = cmd!("HSETNX", info, schema::node::GONE, now.0);
    let heir = cmd!("DEL", schema::node_heir(node));
    query(link, [gone, heir], |_| Ok(()))
}
