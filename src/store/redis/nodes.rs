//! Nodes that are gone: their hosts and tasks become this node's.
//!
//! A host enters this node's set before its claim changes, and leaves the other set last. A task
//! changes with its claim. An interrupted takeover can therefore be repeated.

use super::Context;
use super::link::Link;
use super::load::{inherit_page, lenient, query, scan};
use super::step::text;
use super::tasks;
use crate::limits::{HOSTS_PER_OP_MAX, LEASE_S, NODES_SEEN_MAX};
use crate::store::op::{HeldHost, HeldTask};
use crate::store::{HeldCursor, StoreError, schema};
use crate::time::UnixMs;

/// Other nodes without a lease that have left hosts or tasks. Deletes the names of nodes that have
/// been gone for longer than records are kept.
pub(super) fn silent(
    link: &mut Link,
    context: &Context,
    now: UnixMs,
) -> Result<Vec<String>, StoreError> {
    let mut silent = Vec::new();
    for name in names(link, context)? {
        let info = schema::node_info(&name);
        let lease = cmd!("EXISTS", schema::node_lease(&name));
        let hosts = cmd!("EXISTS", schema::node_hosts(&name));
        let gone = cmd!("HGET", &info, schema::node::GONE);
        let (lease, hosts, gone) = query(link, [lease, hosts, gone], |replies| {
            let (lease, hosts) = (replies.int()? == 1, replies.int()? == 1);
            Ok((lease, hosts, lenient(&info, replies.text())?.flatten()))
        })?;
        let gone: Option<u64> = gone.and_then(|ms| ms.parse().ok());
        match gone {
            _ if lease => {}
            Some(since) if !hosts && now.0.saturating_sub(since) > context.keep_ms => {
                let leave = cmd!("SREM", schema::NODES, &name);
                let forget = cmd!("DEL", &info);
                query(link, [leave, forget], |_| Ok(()))?;
            }
            Some(_) if !hosts => {}
            _ => silent.push(name),
        }
    }
    Ok(silent)
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

/// Takes over the next page of the hosts that `node` holds. Returns whether there may be more.
pub(super) fn hosts(
    link: &mut Link,
    context: &Context,
    node: &str,
    hosts: &mut Vec<HeldHost>,
) -> Result<bool, StoreError> {
    match is_heir(link, context, node)? {
        true => inherit_page(link, context, node, hosts),
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
