//! Reading all hosts at a start, page by page.
//!
//! ```text
//!  stage 0  the node's own set    ours, and those that a crash interrupted (finished here)
//!  stage 1  last seen             all other known hosts
//!  stage 2  exists                online without a holder: an older server left them, they are adopted
//! ```
//!
//! The sets may change while they are read. A host that is always there comes at least once; one may come
//! twice, with the same facts.

use std::net::{IpAddr, SocketAddr};

use redis::{Cmd, Value};

use super::Context;
use super::connection::{Commands, Link};
use super::errors::Fault;
use super::presence::{offline_entry, withdraw};
use super::scripts::Script;
use super::step::{Recipient, Replies, Shared, Step, list, text};
use crate::ids::HostId;
use crate::limits::HOSTS_PER_OP_MAX;
use crate::store::op::{HeldHost, Reason, Stamp};
use crate::store::schema::{self, field};
use crate::store::{HeldCursor, StoreError};
use crate::time::UnixMs;

const STAGE_OWN: u8 = 0;
const STAGE_SEEN: u8 = 1;
// Any other stage is the last: `exists`.

/// Appends the next page of hosts and moves the cursor on. Returns how many names on it were left
/// alone, because no host can have them.
pub(super) fn page(
    link: &mut Link,
    context: &Context,
    everyone: bool,
    cursor: &mut HeldCursor,
    hosts: &mut Vec<HeldHost>,
) -> Result<usize, StoreError> {
    let (stage, position) = match cursor {
        HeldCursor::Start => (STAGE_OWN, b"0".to_vec()),
        HeldCursor::At(stage, position) => (*stage, position.clone()),
        HeldCursor::End => return Ok(0),
    };
    let (next, names, strange) = scan(link, context, stage, &position)?;
    let found = look_up(link, context, &names)?;
    match stage {
        STAGE_OWN => own(link, context, found, hosts)?,
        STAGE_SEEN => hosts.extend(found.into_iter().filter_map(|found| known(context, found))),
        _ => hosts.extend(found.into_iter().filter_map(|found| orphan(context, found))),
    }
    *cursor = match (next == b"0", stage) {
        (false, stage) => HeldCursor::At(stage, next),
        (true, STAGE_OWN | STAGE_SEEN) if everyone => HeldCursor::At(stage + 1, b"0".to_vec()),
        (true, _) => HeldCursor::End,
    };
    Ok(strange)
}

/// Cursor of the next page (`0` at the end), the names on this one, and the number of members that
/// cannot be hosts.
fn scan(
    link: &mut Link,
    context: &Context,
    stage: u8,
    position: &[u8],
) -> Result<(Vec<u8>, Vec<HostId>, usize), StoreError> {
    let (verb, key) = match stage {
        STAGE_OWN => ("SSCAN", context.own_set.as_str()),
        STAGE_SEEN => ("ZSCAN", schema::SEEN),
        _ => ("SSCAN", schema::EXISTS),
    };
    let mut scan = redis::cmd(verb);
    scan.arg(key)
        .arg(position)
        .arg("COUNT")
        .arg(HOSTS_PER_OP_MAX);
    let found = query(link, [scan], |replies| {
        // A key of another type has no hosts; the other places still do.
        let Some((next, members)) = lenient(key, replies.pair())? else {
            return Ok((b"0".to_vec(), Vec::new()));
        };
        Ok((text(next)?.unwrap_or_default().into_bytes(), list(members)?))
    });
    let (next, members) = found?;
    // A sorted set gives the score behind each member.
    let each = if stage == STAGE_SEEN { 2 } else { 1 };
    let members = members.into_iter().step_by(each);
    let mut names = Vec::new();
    let mut strange = 0_usize;
    for member in members {
        match text(member).ok().flatten().as_deref().map(HostId::checked) {
            Some(Ok(host)) => names.push(host),
            _ => strange += 1,
        }
    }
    Ok((next, names, strange))
}

/// Stored data of one host.
struct Found {
    host: HostId,
    /// The node that holds it: none where there is no claim, empty where it was given up.
    node: Option<String>,
    in_own_set: bool,
    exists: bool,
    /// Time of the last message, if there was one.
    seen: Option<UnixMs>,
    facts: HeldHost,
}

fn look_up(link: &mut Link, context: &Context, names: &[HostId]) -> Result<Vec<Found>, StoreError> {
    let mut commands = Commands::default();
    for host in names {
        let mut hash = redis::cmd("HMGET");
        hash.arg(schema::host(host)).arg(&[
            field::NODE,
            field::IP,
            field::PORT,
            field::HOSTNAME,
            field::MAC,
            field::SINCE,
            field::REASON,
            field::EPOCH,
            field::KEYED,
        ]);
        commands.push(&hash);
        for (verb, key) in [
            ("SISMEMBER", context.own_set.as_str()),
            ("SISMEMBER", schema::EXISTS),
            ("ZSCORE", schema::SEEN),
        ] {
            let mut of_host = redis::cmd(verb);
            commands.push(of_host.arg(key).arg(host.as_str()));
        }
        let mut addresses = redis::cmd("LRANGE");
        addresses.arg(schema::system_info_ipv4(host)).arg(0).arg(-1);
        commands.push(&addresses);
    }
    let mut replies = link.request(&commands)?.into_iter();
    names
        .iter()
        .map(|host| Found::read(host, Replies::new(replies.by_ref().take(5).collect())))
        .collect::<Result<_, _>>()
        .map_err(Fault::into_store_error)
}

/// The value read, or `None` if the key has another type: a reading of all hosts does not end at
/// one damaged key.
pub(super) fn lenient<T>(key: &str, read: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Own(why)) => {
            log::warn!("{key} cannot be read, and counts as missing: {why}");
            Ok(None)
        }
        Err(away) => Err(away),
    }
}

impl Found {
    fn read(host: &HostId, mut replies: Replies) -> Result<Self, Fault> {
        let hash = lenient(&schema::host(host), replies.value())?;
        let fields = hash.map_or(Ok(Vec::new()), list)?;
        let mut fields = fields.into_iter().map(text);
        let mut next = || fields.next().unwrap_or(Ok(None));
        let node = next()?;
        let (ip, port) = (next()?, next()?);
        let (hostname, mac) = (next()?, next()?);
        let since = number(next()?).map(UnixMs);
        let reason = next()?.as_deref().and_then(Reason::parse);
        let epoch = number(next()?).unwrap_or_default();
        let keyed = next()?.as_deref() == Some("1");
        let in_own_set = lenient("the node's set", replies.int())? == Some(1);
        let exists = lenient(schema::EXISTS, replies.int())? == Some(1);
        // A score is a floating point number; ours are whole and far below where those lose digits.
        let score = lenient(schema::SEEN, replies.text())?.flatten();
        let score: Option<f64> = score.and_then(|score| score.parse().ok());
        let seen = score.map(|score| UnixMs(score as u64));
        let addresses = lenient(&schema::system_info_ipv4(host), replies.texts())?;
        let peer = ip.and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| {
            let port = number(port).and_then(|port| u16::try_from(port).ok());
            SocketAddr::new(ip, port.unwrap_or_default())
        });
        Ok(Self {
            node,
            in_own_set,
            exists,
            seen,
            facts: HeldHost {
                host: host.clone(),
                ours: false,
                epoch,
                peer,
                keyed,
                since: since.or(seen).unwrap_or_default(),
                seen: seen.or(since).unwrap_or_default(),
                reason,
                hostname,
                mac,
                // Stored last first; given back in the order the host gave them.
                addresses: addresses.into_iter().flatten().rev().collect(),
            },
            host: host.clone(),
        })
    }

    fn is_of(&self, context: &Context) -> bool {
        self.node.as_deref() == Some(&context.node)
    }

    /// Returns whether no node holds it.
    fn is_free(&self) -> bool {
        self.node.as_deref().is_none_or(str::is_empty)
    }

    fn ours(mut self) -> HeldHost {
        self.facts.ours = true;
        self.facts
    }

    fn adopted(self) -> HeldHost {
        HeldHost {
            epoch: 0,
            reason: None,
            ..self.ours()
        }
    }
}

fn number(text: Option<String>) -> Option<u64> {
    text?.parse().ok()
}

/// Hosts in the node's own set: those it holds, and those whose changes were cut short.
fn own(
    link: &mut Link,
    context: &Context,
    found: Vec<Found>,
    hosts: &mut Vec<HeldHost>,
) -> Result<(), StoreError> {
    let (mut held, mut leaving, mut step) = (Vec::new(), Vec::new(), Step::new());
    for one in found {
        match one.node.as_deref() {
            Some(node) if node == context.node => held.push(one.ours()),
            Some("") => leaving.push(one),
            // Without a claim: its coming-online was interrupted. If it is in `exists` all the
            // same, an older server left it, and it is adopted.
            None if one.exists => held.push(one.adopted()),
            // Another node's, which reports it.
            None | Some(_) => step.shared(0, Shared::OwnRemove, &one.host),
        }
    }
    take(link, context, step)?;
    finish_leaving(link, context, &leaving)?;
    hosts.append(&mut held);
    hosts.extend(leaving.into_iter().map(|one| one.facts));
    Ok(())
}

/// Takes over the next of the hosts in the set of `node`, which is gone. Whether there may be more.
pub(super) fn inherit_page(
    link: &mut Link,
    context: &Context,
    node: &str,
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
        match one.node.as_deref() {
            Some(holder) if holder == node => {
                step.shared(0, Shared::OwnAdd, &one.host);
                held.push(one);
            }
            Some("") => leaving.push(one),
            // Its coming-online was cut short, or another has it, this node perhaps.
            None | Some(_) => {}
        }
    }
    take(link, context, step)?;
    let inherit = held.iter().map(|one| {
        let mut inherit = Script::Inherit.on(&schema::host(&one.host));
        inherit.arg(node).arg(&context.node);
        inherit
    });
    let mut replies = Replies::new(link.request(&inherit.collect())?);
    for one in held {
        let taken = lenient("a key of a host's", replies.int());
        if taken.map_err(Fault::into_store_error)? == Some(1) {
            hosts.push(one.ours());
        }
    }
    finish_leaving(link, context, &leaving)?;
    // Whatever became of them, the set has no more use for them.
    let mut leave = redis::cmd("SREM");
    leave.arg(&key).arg(&members);
    query(link, [leave], |_| Ok(true))
}

/// Some of the members of a set; none only where it has none.
fn members_of(link: &mut Link, key: &str) -> Result<Vec<String>, StoreError> {
    let mut position = "0".to_owned();
    loop {
        let mut scan = redis::cmd("SSCAN");
        scan.arg(key).arg(&position);
        scan.arg("COUNT").arg(HOSTS_PER_OP_MAX);
        let (next, members) = query(link, [scan], |replies| {
            Ok(match lenient(key, replies.pair())? {
                Some((next, members)) => (text(next)?, list(members)?),
                None => (None, Vec::new()),
            })
        })?;
        let members: Vec<String> = members
            .into_iter()
            .filter_map(|member| text(member).ok().flatten())
            .collect();
        // Redis looks at a bounded number of places at once: where many members have been taken out, it may find
        // nothing in them though more follow.
        match next {
            Some(next) if members.is_empty() && next != "0" => position = next,
            _ => return Ok(members),
        }
    }
}

/// Ends for good what was going offline when the server or the store fell.
fn finish_leaving(link: &mut Link, context: &Context, leaving: &[Found]) -> Result<(), StoreError> {
    let mut step = Step::new();
    for (owner, one) in leaving.iter().enumerate() {
        step.for_owner(owner);
        withdraw(context, &one.host, &mut step);
    }
    let heard = take(link, context, step)?;
    let mut claimed = vec![false; leaving.len()];
    let mut answered = vec![false; leaving.len()];
    for (owner, value) in heard {
        // The first reply of each is the node that holds it now.
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
            step.shared(0, Shared::ExistsAdd, &one.host);
        }
        // Its number is not known any more.
        let stamp = Stamp {
            at: one.facts.since,
            seq: 0,
        };
        let told = offline_entry(&one.host, one.facts.reason, stamp);
        step.one(0, told.append(&context.node));
        step.shared(1, Shared::OwnRemove, &one.host);
    }
    take(link, context, step).map(drop)
}

/// Everyone else that is known. Those in the node's own set have come already, those that only `exists`
/// knows come after.
fn known(context: &Context, found: Found) -> Option<HeldHost> {
    match found.in_own_set || (found.exists && found.is_free()) {
        true => None,
        false if found.is_of(context) => Some(found.ours()),
        false => Some(found.facts),
    }
}

/// A host that is online without a holder; or one that this node holds, while no other key says so.
fn orphan(context: &Context, found: Found) -> Option<HeldHost> {
    if found.in_own_set {
        // It has come already.
        return None;
    }
    if found.is_free() {
        return Some(found.adopted());
    }
    let forgotten = found.is_of(context) && found.seen.is_none();
    forgotten.then(|| found.ours())
}

/// Runs a step, and returns the replies with their owners. What a spoilt key does not take is left: it must
/// not keep everyone else from being found.
fn take(link: &mut Link, context: &Context, step: Step) -> Result<Vec<(usize, Value)>, StoreError> {
    let (commands, recipients) = step.finish(&context.own_set, context.keys_max);
    let replies = link.request(&commands)?;
    let mut heard = Vec::new();
    for (reply, recipient) in replies.into_iter().zip(recipients) {
        let value = lenient("a key of a host's", Replies::new(vec![reply]).value());
        let value = value.map_err(Fault::into_store_error)?;
        if let (Recipient::One(owner), Some(value)) = (recipient, value) {
            heard.push((owner, value));
        }
    }
    Ok(heard)
}

/// Asks a few things of the store's own, in which nothing may fail.
pub(super) fn query<T>(
    link: &mut Link,
    commands: impl IntoIterator<Item = Cmd>,
    read: impl FnOnce(&mut Replies) -> Result<T, Fault>,
) -> Result<T, StoreError> {
    let mut replies = Replies::new(link.request(&commands.into_iter().collect())?);
    let value = read(&mut replies).map_err(Fault::into_store_error)?;
    replies.rest_good().map_err(Fault::into_store_error)?;
    Ok(value)
}
