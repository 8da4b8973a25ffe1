//! Reading at a start: the hosts, page by page; and whole keys for tests.
//!
//! Hosts come from three sets in turn: the node's own set, the last-seen times, and `exists`, for
//! hosts that the old server left there.

use crate::ids::HostId;
use crate::limits::HOSTS_PER_OP_MAX;
use crate::store::events::StreamEvent;
use crate::store::held::{self, OwnHost, StoredHost};
use crate::store::op::{HeldHost, Stamp};
use crate::store::{Dump, HeldCursor, schema};

use super::Context;
use super::events;
use super::keyspace::{Fault, Kind, Space};
use super::kinds::{score_of, text, unpack};
use super::presence;

const OWN: u8 = 0;
const SEEN: u8 = 1;
const EXISTS: u8 = 2;

/// The next page of hosts, and where to go on.
pub(super) fn held(
    space: &mut Space<'_>,
    context: &Context<'_>,
    all_hosts: bool,
    cursor: &HeldCursor,
) -> Result<(HeldCursor, Vec<HeldHost>), Fault> {
    let (stage, after) = match cursor {
        HeldCursor::Start => (OWN, None),
        // An empty position is the beginning of a stage.
        HeldCursor::At(stage, after) => (*stage, Some(&after[..]).filter(|a| !a.is_empty())),
        HeldCursor::End => return Ok((HeldCursor::End, Vec::new())),
    };
    let mut hosts = Vec::new();
    let own = schema::node_hosts(context.node);
    let (key, kind) = match stage {
        OWN => (&*own, Kind::Set),
        SEEN => (schema::SEEN, Kind::Sorted),
        _ => (schema::EXISTS, Kind::Set),
    };
    // A key of another type has no hosts; the other sets may.
    let page = lenient(space.page(key, kind, after, HOSTS_PER_OP_MAX), Vec::new())?;
    for (name, _) in &page {
        let Ok(host) = HostId::checked(&text(name)) else {
            continue;
        };
        let found = stored_host(space, context, &host)?;
        let found = match stage {
            OWN => own_host(space, context, found)?,
            SEEN => found.of_seen(context.node),
            _ => found.of_exists(context.node),
        };
        hosts.extend(found);
    }
    let next = match page.last() {
        Some((name, _)) if page.len() == HOSTS_PER_OP_MAX => HeldCursor::At(stage, name.clone()),
        _ if all_hosts && stage < EXISTS => HeldCursor::At(stage + 1, Vec::new()),
        _ => HeldCursor::End,
    };
    Ok((next, hosts))
}

/// A host of the node's own set. A change that was cut short is finished, and the host leaves the
/// set.
fn own_host(
    space: &mut Space<'_>,
    context: &Context<'_>,
    found: StoredHost,
) -> Result<Option<HeldHost>, Fault> {
    let (host, leaving) = match found.of_own_set(context.node) {
        OwnHost::Held(held) => return Ok(Some(held)),
        OwnHost::Leaving(held) => {
            lenient(finish(space, context, &held), ())?;
            (held.host.clone(), Some(held))
        }
        OwnHost::Foreign(host) => (host, None),
    };
    space.set_remove(&schema::node_hosts(context.node), host.as_str())?;
    Ok(leaving)
}

/// Finishes going offline for a host whose claim is given up.
pub(super) fn finish(
    space: &mut Space<'_>,
    context: &Context<'_>,
    held: &HeldHost,
) -> Result<(), Fault> {
    presence::remove(space, context, &held.host)?;
    if events::check(space).is_ok() {
        // The number of the interrupted event is not known; 0 is no other event's.
        let stamp = Stamp {
            at: held.since,
            seq: 0,
        };
        let event = StreamEvent::offline(&held.host, held.reason, stamp);
        events::append(space, context, &event)?;
    }
    Ok(())
}

/// The value, or `otherwise` if the key has another type: one damaged key does not stop a start.
pub(super) fn lenient<T>(read: Result<T, Fault>, otherwise: T) -> Result<T, Fault> {
    match read {
        Err(Fault::Kind(_)) => Ok(otherwise),
        read => read,
    }
}

/// A host with the data of the sets.
pub(super) fn stored_host(
    space: &Space<'_>,
    context: &Context<'_>,
    host: &HostId,
) -> Result<StoredHost, Fault> {
    let fields = lenient(space.hash_all(&schema::host(host)), Vec::new())?;
    let values = held::FIELDS.map(|name| {
        let field = fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.clone())
    });
    let score = lenient(space.score(schema::SEEN, host.as_str()), None)?;
    let addresses = lenient(space.list_get(&schema::system_info_ipv4(host)), None)?;
    let has = |set: &str| lenient(space.set_has(set, host.as_str()), false);
    let sets = (
        has(&schema::node_hosts(context.node))?,
        has(schema::EXISTS)?,
    );
    let addresses = addresses.unwrap_or_default();
    let labels = lenient(space.hash_get(schema::LABELS, host.as_str()), None)?;
    let stored = StoredHost::new(host, values, score, addresses, sets);
    Ok(stored.with_admin_labels(labels))
}

/// A whole key, in the form of no store.
pub(super) fn dump(space: &Space<'_>, key: &str) -> Result<Option<Dump>, Fault> {
    let Some(kind) = space.kind(key)? else {
        return Ok(None);
    };
    Ok(Some(match kind {
        Kind::Text => Dump::Text(space.text_get(key)?.unwrap_or_default()),
        Kind::List => Dump::List(space.list_get(key)?.unwrap_or_default()),
        Kind::Hash => Dump::Hash(space.hash_all(key)?),
        Kind::Set => {
            let rows = space.page(key, kind, None, usize::MAX)?;
            Dump::Set(rows.iter().map(|(member, _)| text(member)).collect())
        }
        Kind::Sorted => {
            let mut entries = Vec::new();
            for (member, score) in space.page(key, kind, None, usize::MAX)? {
                entries.push((text(&member), score_of(&score, key)?));
            }
            // The rows are in order of their members, which the sort keeps among equal scores.
            entries.sort_by(|(_, a), (_, b)| a.total_cmp(b));
            Dump::Sorted(entries)
        }
        Kind::Stream => {
            let mut entries = Vec::new();
            for (_, entry) in space.page(key, kind, None, usize::MAX)? {
                let texts = unpack(&entry, key)?;
                let pairs = texts.chunks_exact(2);
                entries.push(pairs.map(|p| (p[0].clone(), p[1].clone())).collect());
            }
            Dump::Stream(entries)
        }
    }))
}
