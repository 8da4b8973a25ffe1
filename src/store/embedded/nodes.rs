//! Nodes that are dead: their hosts are ended and their tasks become this node's, a page in each
//! transaction.

use crate::ids::HostId;
use crate::limits::{HOSTS_PER_OP_MAX, NODES_SEEN_MAX};
use crate::store::HeldCursor;
use crate::store::held::OwnHost;
use crate::store::op::{Found, HeldHost, HeldTask, NodeFacts, NodeState, Reason};
use crate::store::schema::{self, field};
use crate::time::UnixMs;

use super::keyspace::{Fault, Kind, Space};
use super::kinds::text;
use super::{Context, load, tasks};

/// This node, the only one that uses the file, and nodes that used it before.
pub(super) fn all(space: &Space<'_>, context: &Context<'_>) -> Result<Found, Fault> {
    let mut nodes = Vec::new();
    for (name, _) in space.page(schema::NODES, Kind::Set, None, NODES_SEEN_MAX)? {
        let name = text(&name);
        let hosts = space.count(&schema::node_hosts(&name), Kind::Set)?;
        let gone = space.hash_get(&schema::node_info(&name), schema::node::GONE)?;
        let gone: Option<u64> = gone.and_then(|ms| ms.parse().ok());
        let info = Some(context.info).filter(|_| name == context.node);
        let state = match (info, gone) {
            (Some(_), _) => NodeState::Up,
            (None, Some(_)) => NodeState::Dead,
            (None, None) => NodeState::Silent,
        };
        nodes.push(NodeFacts {
            hosts: hosts as u64,
            version: info.map(|info| info.version.clone()),
            http: info.map(|info| info.http.clone()),
            since: info.map_or(UnixMs(gone.unwrap_or_default()), |info| info.started),
            ..NodeFacts::named(name, state)
        });
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Found::Nodes(nodes))
}

/// Other nodes that have left hosts or tasks. Deletes the names of nodes whose records have
/// expired.
pub(super) fn silent(space: &mut Space<'_>, context: &Context<'_>) -> Result<Vec<String>, Fault> {
    let mut silent = Vec::new();
    for (name, _) in space.page(schema::NODES, Kind::Set, None, NODES_SEEN_MAX)? {
        let name = text(&name);
        if name == context.node {
            continue;
        }
        let info = schema::node_info(&name);
        let gone = space.hash_get(&info, schema::node::GONE)?;
        let gone: Option<u64> = gone.and_then(|ms| ms.parse().ok());
        let has_hosts = space.kind(&schema::node_hosts(&name))?.is_some();
        let kept = |since: u64| space.now().0.saturating_sub(since) <= context.keep.as_millis();
        match gone {
            Some(since) if !has_hosts && !kept(since) => {
                space.set_remove(schema::NODES, &name)?;
                space.delete(&info)?;
            }
            Some(_) if !has_hosts => {}
            _ => silent.push(name),
        }
    }
    Ok(silent)
}

/// Ends the next page of the hosts in the set of `node` as lost. The result has an entry for each
/// name.
pub(super) fn end_hosts(
    space: &mut Space<'_>,
    context: &Context<'_>,
    node: &str,
    now: UnixMs,
) -> Result<Vec<Option<HeldHost>>, Fault> {
    let key = schema::node_hosts(node);
    let mut found = Vec::new();
    for (name, _) in space.page(&key, Kind::Set, None, HOSTS_PER_OP_MAX)? {
        let name = text(&name);
        space.set_remove(&key, &name)?;
        let Ok(host) = HostId::checked(&name) else {
            found.push(None);
            continue;
        };
        let leaving = match load::stored_host(space, context, &host)?.of_set_of(node) {
            OwnHost::Held(held) => {
                let hash = schema::host(&host);
                space.hash_set(&hash, field::NODE, "")?;
                space.hash_set(&hash, field::REASON, Reason::Lost.as_str())?;
                space.hash_set(&hash, field::SINCE, &now.0.to_string())?;
                space.expire(&hash, context.kept_until(space.now()))?;
                Some(HeldHost {
                    since: now,
                    reason: Some(Reason::Lost),
                    ..held
                })
            }
            OwnHost::Leaving(held) => Some(held),
            OwnHost::Foreign(_) => None,
        };
        if let Some(held) = &leaving {
            load::lenient(load::finish(space, context, held), ())?;
        }
        found.push(leaving);
    }
    Ok(found)
}

/// Takes over the next page of the tasks that `node` has dispatched. At the end `node` counts as
/// taken over.
pub(super) fn tasks(
    space: &mut Space<'_>,
    context: &Context<'_>,
    node: &str,
    cursor: &HeldCursor,
) -> Result<(HeldCursor, Vec<HeldTask>), Fault> {
    let (next, found) = tasks::held(space, context, node, cursor)?;
    if next == HeldCursor::End {
        let now = space.now().0.to_string();
        space.hash_set(&schema::node_info(node), schema::node::GONE, &now)?;
    }
    Ok((next, found))
}
