//! Presence and inventory: operations of state.
//!
//! Each checks the types of all its keys before it writes the first, so that a refused operation
//! leaves no half change in the transaction that it shares with others.

use crate::ids::{HostId, HostRef};
use crate::store::events::StreamEvent;
use crate::store::op::{
    HistoryRow, Hold, Inventory, LabelPlace, Labels, Offline, Online, Outcome, Outside, Settled,
    Transition, history,
};
use crate::store::schema::{self, field};
use crate::time::UnixMs;

use super::Context;
use super::events;
use super::keyspace::{Fault, Kind, Space, WHOLE};

fn settled(ticket: HostRef, settled: Settled) -> Outcome {
    Outcome::Presence { ticket, settled }
}

/// A host is online: node's set, claim, `exists`, last seen, event.
pub(super) fn online(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Online,
) -> Result<Outcome, Fault> {
    let host = op.host.as_str();
    let (own, hash) = (schema::node_hosts(context.node), schema::host(&op.host));
    space.check(&own, Kind::Set)?;
    space.check(&hash, Kind::Hash)?;
    space.check(schema::EXISTS, Kind::Set)?;
    space.check(schema::SEEN, Kind::Sorted)?;
    if op.event.is_some() {
        events::check(space)?;
    }

    let node = space.hash_get(&hash, field::NODE)?.unwrap_or_default();
    let Some((epoch, result)) = hold(space, context, op, &node)? else {
        let is_free = node.is_empty();
        space.set_remove(&own, host)?;
        return Ok(settled(op.ticket, Settled::Foreign { is_free }));
    };
    space.set_add(&own, host)?;
    let fields = [
        (field::EPOCH, epoch.to_string()),
        (field::NODE, context.node.to_owned()),
        (field::ID, host.to_owned()),
        (field::IP, op.peer.ip().to_canonical().to_string()),
        (field::PORT, op.peer.port().to_string()),
        (field::SINCE, op.since.0.to_string()),
    ];
    for (name, value) in &fields {
        space.hash_set(&hash, name, value)?;
    }
    if op.keyed {
        space.hash_set(&hash, field::KEYED, "1")?;
    }
    if let Hold::Claim {
        boot: Some(boot), ..
    } = &op.hold
    {
        space.hash_set(&hash, field::BOOT, boot)?;
    }
    space.hash_put(&hash, field::REASON, None)?;
    space.persist(&hash)?;
    space.set_add(schema::EXISTS, host)?;
    let seen = op.event.map_or(op.since, |stamp| stamp.at);
    space.raise_scores(schema::SEEN, std::iter::once((host, seen.0 as f64)))?;
    if let Some(stamp) = op.event {
        events::append(space, context, &StreamEvent::online(&op.host, stamp))?;
    }
    add_history(space, &op.host, &op.history, None)?;
    Ok(settled(op.ticket, result))
}

/// The epoch under which this node holds a host that `node` holds now, and the result; `None` if the
/// host is not this node's.
fn hold(
    space: &Space<'_>,
    context: &Context<'_>,
    op: &Online,
    node: &str,
) -> Result<Option<(u64, Settled)>, Fault> {
    let hash = schema::host(&op.host);
    let stored = epoch(space, &hash)?;
    let (last, is_connected) = match &op.hold {
        Hold::Claim { boot, .. } => {
            let before = space.hash_get(&hash, field::BOOT)?;
            let differs = |(one, other): (String, &str)| *one != *other;
            let epoch = stored.saturating_add(1);
            let claimed = Settled::Claimed {
                epoch,
                moved: !node.is_empty() && node != context.node,
                restarted: before.zip(boot.as_deref()).is_some_and(differs),
                keyed: op.keyed || space.hash_get(&hash, field::KEYED)?.as_deref() == Some("1"),
            };
            return Ok(Some((epoch, claimed)));
        }
        Hold::Renew { epoch } => (*epoch, true),
        Hold::Keep { epoch } => (*epoch, false),
    };
    let renewed = |epoch| (epoch, Settled::Renewed { epoch });
    Ok(if node == context.node && stored >= last {
        Some(renewed(stored))
    } else if stored == 0 || stored < last {
        Some(renewed(last.max(1)))
    } else if node.is_empty() && last == 0 {
        Some(renewed(stored.saturating_add(1)))
    } else if node.is_empty() && last == stored && is_connected {
        let epoch = stored.saturating_add(1);
        Some(match op.event {
            Some(_) => renewed(epoch),
            None => (epoch, Settled::Returned { epoch }),
        })
    } else {
        None
    })
}

/// A host is offline: ends its claim, if that is still ours.
pub(super) fn offline(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Offline,
) -> Result<Outcome, Fault> {
    let (own, hash) = (schema::node_hosts(context.node), schema::host(&op.host));
    space.check(&own, Kind::Set)?;
    space.check(&hash, Kind::Hash)?;
    space.check(schema::EXISTS, Kind::Set)?;
    if op.event.is_some() {
        events::check(space)?;
    }

    let host = op.host.as_str();
    let to_end = match space.hash_get(&hash, field::NODE)? {
        Some(node) if node == context.node => {
            if op.epoch != 0 && op.epoch != epoch(space, &hash)? {
                return Ok(settled(op.ticket, Settled::NotOurs));
            }
            true
        }
        Some(node) if !node.is_empty() => {
            space.set_remove(&own, host)?;
            return Ok(settled(op.ticket, Settled::Foreign { is_free: false }));
        }
        // The claim is given up and the host is in the node's set: going offline was interrupted.
        Some(_) if space.set_has(&own, host)? => true,
        // A host that the old server left in `exists` was adopted under epoch 0, and never claimed.
        Some(_) => op.epoch == 0 && space.set_has(schema::EXISTS, host)?,
        // Likewise; or the claim is lost, and an audit has added the host.
        None => space.set_has(schema::EXISTS, host)?,
    };
    if !to_end {
        space.set_remove(&own, host)?;
        return Ok(settled(op.ticket, Settled::NotOurs));
    }

    space.hash_set(&hash, field::NODE, "")?;
    space.hash_set(&hash, field::REASON, op.reason.as_str())?;
    space.hash_set(&hash, field::SINCE, &op.since.0.to_string())?;
    space.expire(&hash, context.kept_until(space.now()))?;
    if let Some(stamp) = op.event {
        let event = StreamEvent::offline(&op.host, Some(op.reason), stamp);
        events::append(space, context, &event)?;
    }
    let kept_until = context.kept_until(space.now());
    add_history(space, &op.host, &op.history, Some(kept_until))?;
    remove(space, context, &op.host)?;
    Ok(settled(op.ticket, Settled::Released))
}

/// Removes a host from the keys of online hosts.
pub(super) fn remove(
    space: &mut Space<'_>,
    context: &Context<'_>,
    host: &HostId,
) -> Result<(), Fault> {
    space.set_remove(schema::EXISTS, host.as_str())?;
    for gone in context.delete_fields {
        space.delete(&schema::of_host(host, gone))?;
    }
    space.set_remove(&schema::node_hosts(context.node), host.as_str())
}

/// Deletes what is stored of a host, unless a node has claimed it.
pub(super) fn forget(space: &mut Space<'_>, host: &HostId) -> Result<(), Fault> {
    let hash = schema::host(host);
    let node = space.hash_get(&hash, field::NODE)?;
    if node.is_none_or(|node| node.is_empty()) {
        space.delete(&hash)?;
        space.delete(&schema::history(host))?;
        space.sorted_remove(schema::SEEN, host.as_str())?;
        space.hash_put(schema::LABELS, host.as_str(), None)?;
    }
    Ok(())
}

/// Labels of a host, from one source.
pub(super) fn labels(space: &mut Space<'_>, op: &Labels) -> Result<(), Fault> {
    let (key, name) = match op.place {
        LabelPlace::Admin => (schema::LABELS.to_owned(), op.host.as_str()),
        LabelPlace::Host => (schema::host(&op.host), field::LABELS),
    };
    space.check(&key, Kind::Hash)?;
    space.hash_put(&key, name, op.text.as_deref())
}

/// Last-seen times. A time older than the stored one changes nothing.
pub(super) fn seen(space: &mut Space<'_>, hosts: &[(HostId, UnixMs)]) -> Result<(), Fault> {
    // A time in ms is exact as a double for the next 285,000 years.
    let scores = hosts.iter().map(|(host, at)| (host.as_str(), at.0 as f64));
    space.raise_scores(schema::SEEN, scores)
}

/// Adds missing hosts to `exists`.
pub(super) fn audit(space: &mut Space<'_>, hosts: &[HostId]) -> Result<(), Fault> {
    space.check(schema::EXISTS, Kind::Set)?;
    for host in hosts {
        space.set_add(schema::EXISTS, host.as_str())?;
    }
    Ok(())
}

/// Inventory of a host; replaces the earlier one.
pub(super) fn inventory(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Inventory,
) -> Result<(), Fault> {
    let (hash, values) = (schema::host(&op.host), schema::system_info(&op.host));
    let addresses = schema::system_info_ipv4(&op.host);
    space.check(&hash, Kind::Hash)?;

    // Both are replaced, so their old types do not matter.
    space.delete(&values)?;
    for value in &op.values {
        space.set_add(&values, value)?;
    }
    space.delete(&addresses)?;
    let last_first: Vec<String> = op.addresses.iter().rev().cloned().collect();
    space.list_set(&addresses, &last_first)?;
    if space.hash_get(&hash, field::NODE)?.as_deref() == Some(context.node) {
        space.hash_put(&hash, field::HOSTNAME, op.hostname.as_deref())?;
        space.hash_put(&hash, field::MAC, op.mac.as_deref())?;
    }
    Ok(())
}

/// Epoch of the last claim; 0 before the first, or if it is not a number.
pub(super) fn epoch(space: &Space<'_>, hash: &str) -> Result<u64, Fault> {
    let text = space.hash_get(hash, field::EPOCH)?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// State of a device or of the targets.
pub(super) fn outside(space: &mut Space<'_>, op: &Outside) -> Result<(), Fault> {
    let key = schema::outside(&op.place);
    if op.whole {
        space.delete(&key)?;
    } else {
        space.check(&key, Kind::Hash)?;
    }
    for field in &op.removed {
        space.hash_put(&key, field, None)?;
    }
    for (field, text) in &op.set {
        space.hash_set(&key, field, text)?;
    }
    Ok(())
}

/// Adds transitions of a host, which are kept until this time, or without a limit.
fn add_history(
    space: &mut Space<'_>,
    host: &HostId,
    transitions: &[Transition],
    kept_until: Option<UnixMs>,
) -> Result<(), Fault> {
    if transitions.is_empty() {
        return Ok(());
    }
    let key = schema::history(host);
    let stored = transitions_of(space, host)?;
    let all = history::pack(&history::merged(&stored, transitions));
    space.put(&key, Kind::Text, WHOLE, &all)?;
    match kept_until {
        Some(at) => space.expire(&key, at),
        None => space.persist(&key),
    }
}

/// Stored transitions of a host.
pub(super) fn transitions_of(space: &Space<'_>, host: &HostId) -> Result<Vec<Transition>, Fault> {
    let bytes = space.get(&schema::history(host), Kind::Text, WHOLE)?;
    Ok(bytes.map_or_else(Vec::new, |bytes| history::unpack(&bytes)))
}

/// Counts of hosts online, and the time of this run.
pub(super) fn counts(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &HistoryRow,
) -> Result<(), Fault> {
    let (hour, runs) = (
        history::hour_field(context.node, op.hour),
        history::runs_field(context.node),
    );
    let text = |stored: Option<String>| stored.unwrap_or_default();
    let stored = text(space.hash_get(schema::HISTORY, &hour)?);
    let counts = history::counts_merged(&stored, &op.counts);
    space.hash_set(schema::HISTORY, &hour, &counts)?;
    let stored = text(space.hash_get(schema::HISTORY, &runs)?);
    space.hash_set(
        schema::HISTORY,
        &runs,
        &history::runs_merged(&stored, op.run),
    )?;
    if op.is_first() {
        for (field, _) in space.hash_all(schema::HISTORY)? {
            if history::is_outdated(&field, op.hour) {
                space.hash_put(schema::HISTORY, &field, None)?;
            }
        }
    }
    Ok(())
}
