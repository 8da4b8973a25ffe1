//! Reading all hosts at a start, page by page.
//!
//! ```text
//!  stage 0  the node's own set    ours, and interrupted changes, which are finished
//!  stage 1  last seen             all other known hosts
//!  stage 2  exists                online without a holder: left by an older server, and adopted
//! ```
//!
//! The sets may change meanwhile. A host that stays in its set comes at least once, and may come
//! twice.

use redis::{Cmd, Value};

use super::Context;
use super::connection::Commands;
use super::errors::Fault;
use super::link::Link;
use super::presence::withdraw;
use super::progress::lrange;
use super::step::{Recipient, Replies, Shared, Step, int, list, text};
use crate::ids::HostId;
use crate::limits::HOSTS_PER_OP_MAX;
use crate::store::events::StreamEvent;
use crate::store::held::{self, OwnHost, StoredHost};
use crate::store::op::{HeldHost, Reason, Stamp};
use crate::store::{HeldCursor, StoreError, schema};
use crate::time::UnixMs;

const STAGE_OWN: u8 = 0;
const STAGE_SEEN: u8 = 1;
// Any other stage is the last: `exists`.

/// Appends the next page of hosts and advances the cursor. Returns the number of invalid names on
/// it, which are ignored.
pub(super) fn page(
    link: &mut Link,
    context: &Context,
    all_hosts: bool,
    cursor: &mut HeldCursor,
    hosts: &mut Vec<HeldHost>,
) -> Result<usize, StoreError> {
    let (stage, position) = match cursor {
        HeldCursor::Start => (STAGE_OWN, b"0".to_vec()),
        HeldCursor::At(stage, position) => (*stage, position.clone()),
        HeldCursor::End => return Ok(0),
    };
    let (verb, key) = match stage {
        STAGE_OWN => ("SSCAN", context.own_set.as_str()),
        STAGE_SEEN => ("ZSCAN", schema::SEEN),
        _ => ("SSCAN", schema::EXISTS),
    };
    let (next, members) = scan(link, verb, key, &position, HOSTS_PER_OP_MAX)?;
    let count = members.len();
    let host = |member| HostId::checked(&text(member).ok()??).ok();
    let names: Vec<HostId> = members.into_iter().filter_map(host).collect();
    let strange = count - names.len();
    let found = look_up(link, context, &names)?;
    let node = &context.node;
    match stage {
        STAGE_OWN => own(link, context, found, hosts)?,
        STAGE_SEEN => hosts.extend(found.into_iter().filter_map(|one| one.of_seen(node))),
        _ => hosts.extend(found.into_iter().filter_map(|one| one.of_exists(node))),
    }
    *cursor = match (next, stage) {
        (Some(next), stage) => HeldCursor::At(stage, next),
        (None, STAGE_OWN | STAGE_SEEN) if all_hosts => HeldCursor::At(stage + 1, b"0".to_vec()),
        (None, _) => HeldCursor::End,
    };
    Ok(strange)
}

/// One page of a scan: its members, and the position of the next page, none at the end. A key of
/// another type has no members.
pub(super) fn scan(
    link: &mut Link,
    verb: &str,
    key: &str,
    position: &[u8],
    count: usize,
) -> Result<(Option<Vec<u8>>, Vec<Value>), StoreError> {
    let scan = cmd!(verb, key, position, "COUNT", count);
    let page = query(link, [scan], |replies| {
        let Some((next, members)) = lenient(key, replies.pair())? else {
            return Ok((None, Vec::new()));
        };
        Ok((text(next)?.filter(|next| next != "0"), list(members)?))
    });
    let (next, members) = page?;
    // In a sorted set the score follows each member.
    let each = if verb == "ZSCAN" { 2 } else { 1 };
    let members = members.into_iter().step_by(each).collect();
    Ok((next.map(String::into_bytes), members))
}

fn look_up(
    link: &mut Link,
    context: &Context,
    names: &[HostId],
) -> Result<Vec<StoredHost>, StoreError> {
    let mut commands = Commands::default();
    for host in names {
        let name = host.as_str();
        commands.push(&cmd!("HMGET", schema::host(host), &held::FIELDS));
        commands.push(&cmd!("SISMEMBER", &context.own_set, name));
        commands.push(&cmd!("SISMEMBER", schema::EXISTS, name));
        commands.push(&cmd!("ZSCORE", schema::SEEN, name));
        commands.push(&lrange(&schema::system_info_ipv4(host)));
        commands.push(&cmd!("HGET", schema::LABELS, name));
    }
    let mut replies = link.request(&commands)?.into_iter();
    names
        .iter()
        .map(|host| stored_host(host, Replies::new(replies.by_ref().take(6).collect())))
        .collect::<Result<_, _>>()
        .map_err(Fault::into_store_error)
}

fn stored_host(host: &HostId, mut replies: Replies) -> Result<StoredHost, Fault> {
    let hash = lenient(&schema::host(host), replies.value())?;
    let values = hash.map_or(Ok(Vec::new()), list)?.into_iter().map(text);
    let values: Vec<Option<String>> = values.collect::<Result<_, _>>()?;
    let in_own_set = lenient("the node's set", replies.int())? == Some(1);
    let exists = lenient(schema::EXISTS, replies.int())? == Some(1);
    let score = lenient(schema::SEEN, replies.text())?.flatten();
    let score = score.and_then(|score| score.parse().ok());
    let addresses = lenient(&schema::system_info_ipv4(host), replies.texts())?;
    let addresses = addresses.unwrap_or_default();
    let admin_labels = lenient(schema::LABELS, replies.text())?.flatten();
    let sets = (in_own_set, exists);
    let stored = StoredHost::new(host, values, score, addresses, sets);
    Ok(stored.with_admin_labels(admin_labels))
}

/// The value, or `None` if the key has another type: one damaged key does not stop a start.
pub(super) fn lenient<T>(key: &str, read: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Own(why)) => {
            log::warn!(
                key = key, error = why;
                "store: {key} cannot be read, and counts as missing: {why}"
            );
            Ok(None)
        }
        Err(unavailable) => Err(unavailable),
    }
}

/// Hosts in the node's own set: those that it holds, and those whose change was interrupted.
fn own(
    link: &mut Link,
    context: &Context,
    found: Vec<StoredHost>,
    hosts: &mut Vec<HeldHost>,
) -> Result<(), StoreError> {
    let (mut held, mut leaving, mut step) = (Vec::new(), Vec::new(), Step::new());
    for one in found {
        match one.of_own_set(&context.node) {
            OwnHost::Held(one) => held.push(one),
            OwnHost::Leaving(one) => leaving.push(one),
            OwnHost::Foreign(host) => {
                step.shared(0, Shared::OwnRemove, host.as_str());
            }
        }
    }
    take(link, context, step)?;
    finish_leaving(link, context, &leaving, true)?;
    hosts.append(&mut held);
    hosts.append(&mut leaving);
    Ok(())
}

/// Ends the next page of the hosts in the set of `node`, which is gone, as lost. Returns whether there
/// may be more.
pub(super) fn end_page(
    link: &mut Link,
    context: &Context,
    node: &str,
    now: UnixMs,
    hosts: &mut Vec<HeldHost>,
) -> Result<bool, StoreError> {
    let key = schema::node_hosts(node);
    let members = members_of(link, &key)?;
    if members.is_empty() {
        return Ok(false);
    }
    let names: Vec<HostId> = members
        .iter()
        .filter_map(|m| HostId::checked(m).ok())
        .collect();
    let (mut held, mut leaving, mut step) = (Vec::new(), Vec::new(), Step::new());
    for one in look_up(link, context, &names)? {
        match one.of_set_of(node) {
            OwnHost::Held(one) => {
                step.for_owner(held.len());
                step.shared(0, Shared::Release, &schema::host(&one.host))
                    .arg(node)
                    .arg(one.epoch)
                    .arg(Reason::Lost.as_str())
                    .arg(now.0)
                    .arg(context.keep_ms)
                    .arg(0);
                held.push(one);
            }
            OwnHost::Leaving(one) => leaving.push(one),
            OwnHost::Foreign(_) => {}
        }
    }
    for (owner, reply) in take(link, context, step)? {
        let (given_up, _) = Replies::new(vec![reply])
            .pair()
            .map_err(Fault::into_store_error)?;
        if int(given_up).map_err(Fault::into_store_error)? == 1 {
            leaving.push(HeldHost {
                since: now,
                reason: Some(Reason::Lost),
                ..held[owner].clone()
            });
        }
    }
    finish_leaving(link, context, &leaving, false)?;
    hosts.append(&mut leaving);
    // All of them leave the set.
    query(link, [cmd!("SREM", &key, &members)], |_| Ok(true))
}

/// Some members of a set; none only if the set is empty.
fn members_of(link: &mut Link, key: &str) -> Result<Vec<String>, StoreError> {
    let mut position = b"0".to_vec();
    loop {
        let (next, members) = scan(link, "SSCAN", key, &position, HOSTS_PER_OP_MAX)?;
        let members = members.into_iter();
        let members: Vec<String> = members.filter_map(|one| text(one).ok()?).collect();
        // Redis scans a bounded number of buckets at once. After many removals they may be empty
        // although members follow.
        match next {
            Some(next) if members.is_empty() => position = next,
            _ => return Ok(members),
        }
    }
}

/// Finishes hosts that were going offline when the server or the store failed. With `own` they leave
/// this node's set.
fn finish_leaving(
    link: &mut Link,
    context: &Context,
    leaving: &[HeldHost],
    own: bool,
) -> Result<(), StoreError> {
    let mut step = Step::new();
    for (owner, one) in leaving.iter().enumerate() {
        step.for_owner(owner);
        withdraw(context, &one.host, &mut step);
    }
    let replies = take(link, context, step)?;
    let mut claimed = vec![false; leaving.len()];
    let mut answered = vec![false; leaving.len()];
    for (owner, value) in replies {
        // The first reply is the node that holds the host now.
        if !std::mem::replace(&mut answered[owner], true) {
            claimed[owner] = text(value)
                .ok()
                .flatten()
                .is_some_and(|node| !node.is_empty());
        }
    }
    let mut step = Step::new();
    for (one, claimed) in leaving.iter().zip(claimed) {
        if claimed {
            step.shared(0, Shared::ExistsAdd, one.host.as_str());
        }
        // The number of the interrupted event is not known.
        let stamp = Stamp {
            at: one.since,
            seq: 0,
        };
        let event = StreamEvent::offline(&one.host, one.reason, stamp);
        step.one(0, context.append(&event));
        if own {
            step.shared(1, Shared::OwnRemove, one.host.as_str());
        }
    }
    take(link, context, step).map(drop)
}

/// Runs a step, and returns the replies with their operations. A key of another type is skipped.
fn take(link: &mut Link, context: &Context, step: Step) -> Result<Vec<(usize, Value)>, StoreError> {
    let (commands, recipients) = step.finish(&context.own_set, context.keys_max);
    let replies = link.request(&commands)?;
    let mut values = Vec::new();
    let mut read = |owner, reply| {
        let value = lenient("a key of a host's", Replies::new(vec![reply]).value());
        let value = value.map_err(Fault::into_store_error)?;
        values.extend(value.map(|value| (owner, value)));
        Ok(())
    };
    for (reply, recipient) in replies.into_iter().zip(recipients) {
        match (recipient, reply) {
            (Recipient::One(owner), reply) => read(owner, reply)?,
            (Recipient::Scattered(owners), Value::Array(values)) => {
                for (owner, value) in owners.into_iter().zip(values) {
                    read(owner, value)?;
                }
            }
            (_, reply) => {
                let value = lenient("a key of a host's", Replies::new(vec![reply]).value());
                value.map_err(Fault::into_store_error)?;
            }
        }
    }
    Ok(values)
}

/// Runs a few commands one after the other, none of which may fail.
pub(super) fn query<T>(
    link: &mut Link,
    commands: impl IntoIterator<Item = Cmd>,
    read: impl FnOnce(&mut Replies) -> Result<T, Fault>,
) -> Result<T, StoreError> {
    let mut packed = Commands::default();
    for command in commands {
        packed.push(&command);
        packed.barrier();
    }
    let mut replies = Replies::new(link.request(&packed)?);
    let value = read(&mut replies).map_err(Fault::into_store_error)?;
    replies.rest_good().map_err(Fault::into_store_error)?;
    Ok(value)
}
