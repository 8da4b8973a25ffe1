//! Nodes that are gone: their hosts are ended, and their tasks become this node's.
//!
//! The claim of a host is given up first, in the name of the other node, and the host leaves that
//! node's set last. A task changes with its claim. An interrupted takeover can therefore be repeated.

use super::Context;
use super::link::Link;
use super::load::{end_page, lenient, query, scan};
use super::step::text;
use super::tasks;
use crate::limits::{HOSTS_PER_OP_MAX, LEASE_S, NODES_SEEN_MAX};
use crate::store::op::{HeldHost, HeldTask};
use crate::store::{HeldCursor, NodesSeen, StoreError, schema};
use crate::time::UnixMs;

/// Looks at the leases of the other nodes. Deletes the names of nodes that have been gone for longer
/// than records are kept.
pub(super) fn look(
    link: &mut Link,
    context: &Context,
    now: UnixMs,
) -> Result<NodesSeen, StoreError> {
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
        are_live: live.contains(&true),
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
                query(link, [leave, forget], |_| Ok(()))?;
            }
            Some(_) if !has_hosts => {}
            _ => {
                // It may return, and hold its hosts still.
                seen.are_several = Some(true);
                seen.silent.push(name);
            }
        }
    }
    Ok(seen)
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

/// Returns whether this node takes over from `node`: the first that asks, while it keeps asking.
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

/// Takes over the next page of the tasks that `node` has dispatched. At the end `node` counts as
/// taken over.
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
    tasks::page(link, context, node, cursor, found)?;
    if *cursor == HeldCursor::End {
        let info = schema::node_info(node);
        let gone = cmd!("HSETNX", info, schema::node::GONE, now.0);
        let heir = cmd!("DEL", schema::node_heir(node));
        query(link, [gone, heir], |_| Ok(()))?;
    }
    Ok(())
}
