//! Reading at a start: the hosts, page by page, and whole keys for tests.
//!
//! Hosts come from three places, one after the other: the node's own set, the hosts ever seen, and
//! those that are only in `exists`, where the old server left them.

use std::net::{IpAddr, SocketAddr};

use crate::ids::HostId;
use crate::limits::HOSTS_PER_OP_MAX;
use crate::store::op::{HeldHost, Reason, Stamp};
use crate::store::schema::{self, event, field};
use crate::store::{Dump, HeldCursor};
use crate::time::UnixMs;

use super::Context;
use super::events::{self, Told};
use super::keyspace::{Fault, Kind, Space};
use super::kinds::{score_of, text, unpack};
use super::presence;

const OWN: u8 = 0;
const SEEN: u8 = 1;
const EXISTS: u8 = 2;

/// Appends the next page of hosts and returns where to go on.
pub(super) fn held(
    space: &mut Space<'_>,
    context: &Context<'_>,
    everyone: bool,
    cursor: &HeldCursor,
    hosts: &mut Vec<HeldHost>,
) -> Result<HeldCursor, Fault> {
    let (stage, after) = match cursor {
        HeldCursor::Start => (OWN, None),
        // An empty position is the beginning of a stage.
        HeldCursor::At(stage, after) => (*stage, Some(&after[..]).filter(|a| !a.is_empty())),
        HeldCursor::End => return Ok(HeldCursor::End),
    };
    let own = schema::node_hosts(context.node);
    let (key, kind) = match stage {
        OWN => (&*own, Kind::Set),
        SEEN => (schema::SEEN, Kind::Sorted),
        _ => (schema::EXISTS, Kind::Set),
    };
    let page = match space.page(key, kind, after, HOSTS_PER_OP_MAX) {
        // A key of another type has no hosts; the other places still do.
        Err(Fault::Kind(_)) => Vec::new(),
        page => page?,
    };
    for (name, _) in &page {
        let Ok(host) = HostId::checked(&text(name)) else {
            continue;
        };
        let found = match stage {
            OWN => own_host(space, context, host)?,
            SEEN => known(space, context, host)?,
            _ => orphan(space, context, host)?,
        };
        hosts.extend(found);
    }
    Ok(match page.last() {
        Some((name, _)) if page.len() == HOSTS_PER_OP_MAX => HeldCursor::At(stage, name.clone()),
        _ if everyone && stage < EXISTS => HeldCursor::At(stage + 1, Vec::new()),
        _ => HeldCursor::End,
    })
}

/// A host of the node's own set. One whose going-offline or coming-online was cut short is
/// finished, and then no more of ours.
fn own_host(
    space: &mut Space<'_>,
    context: &Context<'_>,
    host: HostId,
) -> Result<Option<HeldHost>, Fault> {
    let held = describe(space, context, host)?;
    if held.ours {
        return Ok(Some(held));
    }
    let leaving = match node_of(space, &held.host)?.as_deref() {
        // Without a claim: its coming-online was interrupted. If it is in `exists` all the same,
        // the old server left it, and it is adopted.
        None if has(space, schema::EXISTS, &held.host)? => return Ok(Some(adopt(held))),
        Some("") => {
            lenient(finish(space, context, &held), ())?;
            Some(held.clone())
        }
        // Another node's, which reports it.
        None | Some(_) => None,
    };
    space.set_remove(&schema::node_hosts(context.node), held.host.as_str())?;
    Ok(leaving)
}

/// Does what is left to do for a host whose claim is given up.
pub(super) fn finish(
    space: &mut Space<'_>,
    context: &Context<'_>,
    held: &HeldHost,
) -> Result<(), Fault> {
    presence::remove(space, context, &held.host)?;
    if events::check(space).is_ok() {
        let told = Told {
            event: event::OFFLINE,
            host: held.host.as_str(),
            reason: held.reason.map(Reason::as_str),
            ..Told::default()
        };
        // Its number is not known any more; 0 is no other event's.
        let stamp = Stamp {
            at: held.since,
            seq: 0,
        };
        events::tell(space, context, stamp, told)?;
    }
    Ok(())
}

/// Everyone else that was ever heard of. Those in the node's own set have come already, those that
/// only `exists` knows come after.
fn known(
    space: &Space<'_>,
    context: &Context<'_>,
    host: HostId,
) -> Result<Option<HeldHost>, Fault> {
    let free = node_of(space, &host)?.is_none_or(|node| node.is_empty());
    if has(space, &schema::node_hosts(context.node), &host)?
        || (free && has(space, schema::EXISTS, &host)?)
    {
        return Ok(None);
    }
    describe(space, context, host).map(Some)
}

/// A host in `exists` without a holder; or one that this node holds, while no other key says so.
fn orphan(
    space: &Space<'_>,
    context: &Context<'_>,
    host: HostId,
) -> Result<Option<HeldHost>, Fault> {
    if has(space, &schema::node_hosts(context.node), &host)? {
        return Ok(None);
    }
    let node = node_of(space, &host)?.unwrap_or_default();
    if node.is_empty() {
        return Ok(Some(adopt(describe(space, context, host)?)));
    }
    let heard_of = lenient(space.score(schema::SEEN, host.as_str()), None)?.is_some();
    if node != context.node || heard_of {
        return Ok(None);
    }
    describe(space, context, host).map(Some)
}

fn adopt(held: HeldHost) -> HeldHost {
    HeldHost {
        ours: true,
        epoch: 0,
        reason: None,
        ..held
    }
}

fn has(space: &Space<'_>, set: &str, host: &HostId) -> Result<bool, Fault> {
    lenient(space.set_has(set, host.as_str()), false)
}

fn node_of(space: &Space<'_>, host: &HostId) -> Result<Option<String>, Fault> {
    lenient(space.hash_get(&schema::host(host), field::NODE), None)
}

/// The value read, or `otherwise` if the key has another type: a reading of all hosts does not end
/// at one damaged key.
pub(super) fn lenient<T>(read: Result<T, Fault>, otherwise: T) -> Result<T, Fault> {
    match read {
        Err(Fault::Kind(_)) => Ok(otherwise),
        read => read,
    }
}

pub(super) fn describe(
    space: &Space<'_>,
    context: &Context<'_>,
    host: HostId,
) -> Result<HeldHost, Fault> {
    let fields = lenient(space.hash_all(&schema::host(&host)), Vec::new())?;
    let value = |name: &str| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| &**value)
    };
    let score = lenient(space.score(schema::SEEN, host.as_str()), None)?;
    let addresses = lenient(space.list_get(&schema::system_info_ipv4(&host)), None)?;
    let since = value(field::SINCE).and_then(|ms| ms.parse().ok());
    // A score is a time in ms; `as` maps anything else to 0.
    let seen = score.map(|score| score as u64);
    Ok(HeldHost {
        ours: value(field::NODE) == Some(context.node),
        epoch: value(field::EPOCH)
            .and_then(|e| e.parse().ok())
            .unwrap_or(0),
        peer: peer(value(field::IP), value(field::PORT)),
        keyed: value(field::KEYED) == Some("1"),
        since: UnixMs(since.or(seen).unwrap_or(0)),
        seen: UnixMs(seen.or(since).unwrap_or(0)),
        reason: value(field::REASON).and_then(Reason::parse),
        hostname: value(field::HOSTNAME).map(str::to_owned),
        mac: value(field::MAC).map(str::to_owned),
        // Stored last first; given back in the order the host gave them.
        addresses: addresses.unwrap_or_default().into_iter().rev().collect(),
        host,
    })
}

fn peer(ip: Option<&str>, port: Option<&str>) -> Option<SocketAddr> {
    let ip: IpAddr = ip?.parse().ok()?;
    // A host without a port has none that could be sent to.
    let port = port.and_then(|port| port.parse().ok());
    Some(SocketAddr::new(ip, port.unwrap_or_default()))
}

/// A whole key in the form all stores share.
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
            // The rows come by member, and the sort keeps that order among equal scores.
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
