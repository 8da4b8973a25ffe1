//! What the store knows of all hosts, page by page.
//!
//! ```text
//!  stage 0  the node's own set    ours, and what a crash cut short (finished here)
//!  stage 1  last seen             everyone else that is known
//!  stage 2  exists                online, but nobody's: an older server left them, we adopt them
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
        _ => {
            let mut adopted: Vec<_> = found
                .into_iter()
                .filter_map(|found| orphan(context, found))
                .collect();
            with_addresses(link, &mut adopted)?;
            hosts.append(&mut adopted);
        }
    }
    *cursor = match (next == b"0", stage) {
        (false, stage) => HeldCursor::At(stage, next),
        (true, STAGE_OWN | STAGE_SEEN) if everyone => HeldCursor::At(stage + 1, b"0".to_vec()),
        (true, _) => HeldCursor::End,
    };
    Ok(strange)
}

/// Where the next page begins (`0` where there is none), the names on this one, and how many more no
/// host can have.
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
    let (next, members) = ask(link, [scan], |replies| replies.pair())?;
    let read = || -> Result<_, Fault> {
        let next = text(next)?.unwrap_or_default().into_bytes();
        // A sorted set gives the score behind each member.
        let each = if stage == STAGE_SEEN { 2 } else { 1 };
        Ok((next, list(members)?.into_iter().step_by(each)))
    };
    let (next, members) = read().map_err(Fault::into_store_error)?;
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

/// What is stored of one host.
struct Found {
    host: HostId,
    /// The node that holds it: none where there is no hash, empty where it is offline.
    node: Option<String>,
    in_own_set: bool,
    exists: bool,
    /// Whether it was ever heard of.
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
    }
    let mut replies = link.ask(&commands)?.into_iter();
    let mut found = Vec::with_capacity(names.len());
    for host in names {
        match Found::read(host, Replies::new(replies.by_ref().take(4).collect())) {
            Ok(one) => found.push(one),
            Err(Fault::Away(why)) => return Err(StoreError::Away(why)),
            Err(Fault::Own(why)) => log::warn!("what is stored of {host} cannot be read: {why}"),
        }
    }
    Ok(found)
}

impl Found {
    fn read(host: &HostId, mut replies: Replies) -> Result<Self, Fault> {
        let mut fields = list(replies.value()?)?.into_iter().map(text);
        let mut next = || fields.next().unwrap_or(Ok(None));
        let node = next()?;
        let (ip, port) = (next()?, next()?);
        let (hostname, mac) = (next()?, next()?);
        let since = UnixMs(number(next()?).unwrap_or_default());
        let reason = next()?.as_deref().and_then(Reason::parse);
        let epoch = number(next()?).unwrap_or_default();
        let in_own_set = replies.int()? == 1;
        let exists = replies.int()? == 1;
        // A score is a floating point number; ours are whole and far below where those lose digits.
        let score: Option<f64> = replies.text()?.and_then(|score| score.parse().ok());
        let seen = score.map(|score| UnixMs(score as u64));
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
                since,
                seen: seen.unwrap_or(since),
                reason,
                hostname,
                mac,
                addresses: Vec::new(),
            },
            host: host.clone(),
        })
    }

    fn is_of(&self, context: &Context) -> bool {
        self.node.as_deref() == Some(&context.node)
    }

    /// Nobody holds it.
    fn is_free(&self) -> bool {
        self.node.as_deref().is_none_or(str::is_empty)
    }

    fn ours(mut self) -> HeldHost {
        self.facts.ours = true;
        self.facts
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
    let (held, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.is_of(context));
    let mut held: Vec<_> = held.into_iter().map(Found::ours).collect();
    with_addresses(link, &mut held)?;
    hosts.append(&mut held);
    let (leaving, strangers): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|one| one.node.as_deref() == Some(""));
    finish_leaving(link, context, &leaving)?;
    hosts.extend(leaving.into_iter().map(|one| one.facts));
    let mut step = Step::new();
    for one in &strangers {
        step.shared(0, Shared::OwnRemove, &one.host);
    }
    take(link, context, step).map(drop)
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

/// A host that is online for all to see and that nobody holds.
fn orphan(context: &Context, found: Found) -> Option<HeldHost> {
    let forgotten = found.is_of(context) && !found.in_own_set && found.seen.is_none();
    if found.is_free() {
        let mut adopted = found.ours();
        adopted.epoch = 0;
        adopted.reason = None;
        return Some(adopted);
    }
    forgotten.then(|| found.ours())
}

/// Adds the addresses the hosts gave, in the order they gave them.
fn with_addresses(link: &mut Link, hosts: &mut [HeldHost]) -> Result<(), StoreError> {
    let mut commands = Commands::default();
    for one in hosts.iter() {
        let mut range = redis::cmd("LRANGE");
        range
            .arg(schema::system_info_ipv4(&one.host))
            .arg(0)
            .arg(-1);
        commands.push(&range);
    }
    let replies = link.ask(&commands)?;
    for (one, reply) in hosts.iter_mut().zip(replies) {
        match Replies::new(vec![reply]).texts() {
            Ok(addresses) => one.addresses = addresses.into_iter().rev().collect(),
            Err(Fault::Away(why)) => return Err(StoreError::Away(why)),
            Err(Fault::Own(why)) => {
                log::warn!("the addresses of {} cannot be read: {why}", one.host)
            }
        }
    }
    Ok(())
}

/// Runs a step in which nothing may fail, and returns the replies with their owners.
fn take(link: &mut Link, context: &Context, step: Step) -> Result<Vec<(usize, Value)>, StoreError> {
    let (commands, recipients) = step.finish(&context.own_set);
    let replies = link.ask(&commands)?;
    let mut heard = Vec::new();
    for (reply, recipient) in replies.into_iter().zip(recipients) {
        let value = Replies::new(vec![reply])
            .value()
            .map_err(Fault::into_store_error)?;
        if let Recipient::One(owner) = recipient {
            heard.push((owner, value));
        }
    }
    Ok(heard)
}

/// Asks a few things of the store's own, in which nothing may fail.
pub(super) fn ask<T>(
    link: &mut Link,
    commands: impl IntoIterator<Item = Cmd>,
    read: impl FnOnce(&mut Replies) -> Result<T, Fault>,
) -> Result<T, StoreError> {
    let mut replies = Replies::new(link.ask(&commands.into_iter().collect())?);
    let value = read(&mut replies).map_err(Fault::into_store_error)?;
    replies.rest_good().map_err(Fault::into_store_error)?;
    Ok(value)
}
