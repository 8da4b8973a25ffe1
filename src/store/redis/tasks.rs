//! Reading the tasks that this node has dispatched, page by page, and removing tasks that a crash
//! left half stored or that have expired.

use redis::{Cmd, Value};

use super::Context;
use super::connection::Commands;
use super::errors::Fault;
use super::facts::close;
use super::link::Link;
use super::load::{lenient, query, scan};
use super::scripts::Script;
use super::step::{Replies, list, text, texts};
use crate::ids::{HostId, TaskKey};
use crate::limits::{SWEEP_TASKS_MAX, TASKS_PER_LOOK_MAX};
use crate::store::op::{HeldTask, TaskState};
use crate::store::records::{Claim, finite_priority, undone_task};
use crate::store::{HeldCursor, StoreError, schema};
use crate::time::UnixMs;

/// Appends the next page of the tasks that the node `of` has dispatched and advances the cursor.
/// Tasks of another node, which is gone, become this node's.
pub(super) fn page(
    link: &mut Link,
    context: &Context,
    of: &str,
    cursor: &mut HeldCursor,
    tasks: &mut Vec<HeldTask>,
) -> Result<(), StoreError> {
    let position = match cursor {
        HeldCursor::Start => b"0".to_vec(),
        HeldCursor::At(_, position) => position.clone(),
        HeldCursor::End => return Ok(()),
    };
    let (tasks_key, count) = (schema::TASKS, TASKS_PER_LOOK_MAX);
    let (next, members) = scan(link, "ZSCAN", tasks_key, &position, count)?;
    let key = |member| TaskKey::parse(&text(member).ok()??, "");
    let keys: Vec<TaskKey> = members.into_iter().filter_map(key).collect();
    // Redis returns a small set at once, whatever `COUNT` says.
    for keys in keys.chunks(TASKS_PER_LOOK_MAX) {
        look_at(link, context, of, keys, tasks)?;
    }
    *cursor = next.map_or(HeldCursor::End, |next| HeldCursor::At(0, next));
    Ok(())
}

/// Loads stored tasks, and removes interrupted ones. Other nodes' tasks are skipped.
fn look_at(
    link: &mut Link,
    context: &Context,
    of: &str,
    keys: &[TaskKey],
    tasks: &mut Vec<HeldTask>,
) -> Result<(), StoreError> {
    let look = keys.iter().flat_map(|key| {
        [
            cmd!("GET", schema::task(key)),
            cmd!("EXISTS", schema::book(key)),
        ]
    });
    let mut replies = Replies::new(link.request(&look.collect())?);
    let (mut whole, mut cut, mut unclaimed) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        let claim = lenient(&schema::task(key), replies.text()).map_err(unavailable)?;
        let book = replies.int().map_err(unavailable)? == 1;
        match claim {
            Some(Some(text)) => match Claim::parse(&text) {
                Some(claim) if claim.node == of && book => whole.push((key, text, claim)),
                Some(claim) if claim.node == of => cut.push((key, text)),
                _ => {}
            },
            Some(None) if !book && of == context.node => unclaimed.push(key),
            _ => {}
        }
    }
    cut.extend(claim_to_clear(link, context, &unclaimed)?);
    undo(link, &cut)?;
    if of != context.node {
        whole = retake(link, context, whole)?;
    }
    load(link, &whole, tasks)
}

/// Takes over tasks of a node that is gone, if their claims are unchanged.
fn retake<'a>(
    link: &mut Link,
    context: &Context,
    found: Vec<(&'a TaskKey, String, Claim)>,
) -> Result<Vec<(&'a TaskKey, String, Claim)>, StoreError> {
    let mut calls = Commands::default();
    let mut claims = Vec::new();
    for (key, before, claim) in found {
        let claim = claim.taken_over(&context.node);
        let text = claim.text();
        calls.push(Script::Retake.on(&schema::task(key)).arg(before).arg(&text));
        claims.push((key, text, claim));
    }
    let mut replies = Replies::new(link.request(&calls)?);
    let mut ours = Vec::new();
    for claim in claims {
        if lenient("a task's claim", replies.int()).map_err(unavailable)? == Some(1) {
            ours.push(claim);
        }
    }
    Ok(ours)
}

/// Claims keys without a claim, so that no other node uses them while they are deleted.
fn claim_to_clear<'a>(
    link: &mut Link,
    context: &Context,
    keys: &[&'a TaskKey],
) -> Result<Vec<(&'a TaskKey, String)>, StoreError> {
    let claim = Claim::for_clearing(&context.node).text();
    let set = keys
        .iter()
        .map(|key| cmd!("SET", schema::task(key), &claim, "NX"));
    let mut replies = Replies::new(link.request(&set.collect())?);
    let mut ours = Vec::new();
    for key in keys {
        if replies.text().map_err(unavailable)?.is_some() {
            ours.push((*key, claim.clone()));
        }
    }
    Ok(ours)
}

/// Removes what a crash left of the tasks with these claims: the entry last, so that a start finds
/// them again after an interruption.
fn undo(link: &mut Link, cut: &[(&TaskKey, String)]) -> Result<(), StoreError> {
    let mut commands = Commands::default();
    for (key, _) in cut {
        undone_task(key);
        for (name, kind) in [
            (schema::task_hosts(key), "hash"),
            (schema::response(key), "set"),
        ] {
            commands.push(Script::Drop.on(&name).arg(kind));
        }
    }
    commands.barrier();
    release(cut, &mut commands);
    all_good(link, &commands)
}

/// Adds the commands that remove claims, and then the entries.
fn release(claims: &[(&TaskKey, String)], commands: &mut Commands) {
    for (key, claim) in claims {
        commands.push(Script::Unclaim.on(&schema::task(key)).arg(claim));
    }
    commands.barrier();
    for (key, _) in claims {
        commands.push(&close(key));
        commands.push(&cmd!("ZREM", schema::TASKS, key.as_str()));
    }
}

/// Reads stored tasks.
fn load(
    link: &mut Link,
    whole: &[(&TaskKey, String, Claim)],
    tasks: &mut Vec<HeldTask>,
) -> Result<(), StoreError> {
    let read = whole.iter().flat_map(|(key, ..)| {
        let hosts = schema::task_hosts(key);
        [
            read_book(key),
            cmd!("HGETALL", &hosts),
            cmd!("PTTL", &hosts),
            cmd!("GET", schema::task_rollout(key)),
        ]
    });
    let mut replies = Replies::new(link.request(&read.collect())?);
    let (mut found, mut foreign) = (Vec::new(), Vec::new());
    for (key, text, claim) in whole {
        let book = lenient(&schema::book(key), replies.value()).map_err(unavailable)?;
        let hosts = lenient(&schema::task_hosts(key), replies.value()).map_err(unavailable)?;
        let hosts = hosts
            .map_or(Ok(Vec::new()), hosts_of)
            .map_err(unavailable)?;
        let expires = replies.int().map_err(unavailable)? >= 0;
        let rollout = lenient(&schema::task_rollout(key), replies.text()).map_err(unavailable)?;
        if hosts.is_empty() {
            // The book of another program, older than our claim.
            foreign.push((*key, text.clone()));
            continue;
        }
        let commands = book
            .map_or(Ok(Vec::new()), commands_of)
            .map_err(unavailable)?;
        found.push(HeldTask {
            rollout: rollout.flatten(),
            ..claim.task(key, commands, hosts, expires)
        });
    }
    let mut released = Commands::default();
    release(&foreign, &mut released);
    all_good(link, &released)?;
    mark_failures(link, &mut found)?;
    // They may be older than this set, or the store may have lost it.
    let mut opened = Commands::default();
    for task in &found {
        if task.hosts.iter().any(|host| !host.1.is_settled()) {
            opened.push(&cmd!("SADD", schema::TASKS_OPEN, task.key.as_str()));
        }
    }
    all_good(link, &opened)?;
    tasks.append(&mut found);
    Ok(())
}

/// Marks the open hosts with a result of a failed command.
fn mark_failures(link: &mut Link, tasks: &mut [HeldTask]) -> Result<(), StoreError> {
    for task in tasks {
        let key = &task.key;
        let open = task.hosts.iter_mut().filter(|host| !host.1.is_settled());
        let mut open: Vec<_> = open.collect();
        let reads = open
            .iter()
            .map(|(host, ..)| Script::Failed.on(&schema::task_result(key.as_str(), host)));
        let mut replies = Replies::new(link.request(&reads.collect())?);
        for (_, _, failed) in &mut open {
            let failures = lenient("the results of a host", replies.int()).map_err(unavailable)?;
            *failed = failures == Some(1);
        }
    }
    Ok(())
}

/// The command that reads a task book, the highest priority first.
pub(super) fn read_book(key: &TaskKey) -> Cmd {
    cmd!("ZREVRANGE", schema::book(key), 0, -1, "WITHSCORES")
}

pub(super) fn hosts_of(value: Value) -> Result<Vec<(HostId, TaskState, bool)>, Fault> {
    let fields = texts(value)?;
    let host = |field: &[String]| {
        let state = TaskState::parse(&field[1])?;
        let failed = state == TaskState::Failed;
        Some((HostId::checked(&field[0]).ok()?, state, failed))
    };
    let mut hosts: Vec<_> = fields.chunks_exact(2).filter_map(host).collect();
    hosts.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(hosts)
}

pub(super) fn commands_of(value: Value) -> Result<Vec<(String, f64)>, Fault> {
    let fields = list(value)?.into_iter().map(text);
    let fields: Vec<_> = fields.collect::<Result<_, _>>()?;
    let command = |field: &[Option<String>]| {
        let priority = field[1].as_ref()?.parse().ok()?;
        Some((field[0].clone()?, finite_priority(priority)))
    };
    Ok(fields.chunks_exact(2).filter_map(command).collect())
}

/// Removes entries of tasks whose keys have expired, among the oldest from the `from`-th on.
/// Returns the position of the next sweep.
pub(super) fn sweep(
    link: &mut Link,
    context: &Context,
    now: UnixMs,
    from: usize,
) -> Result<usize, StoreError> {
    let oldest = now.0.saturating_sub(context.keep_ms);
    let end = format!("({oldest}");
    let (tasks, most) = (schema::TASKS, SWEEP_TASKS_MAX);
    let old = cmd!("ZRANGEBYSCORE", tasks, "-inf", end, "LIMIT", from, most);
    let names = query(link, [old], |replies| {
        Ok(lenient(schema::TASKS, replies.texts())?.unwrap_or_default())
    })?;
    let keys = names.iter().filter_map(|name| TaskKey::parse(name, ""));
    let keys: Vec<TaskKey> = keys.collect();
    let look = keys
        .iter()
        .flat_map(|key| [schema::task(key), schema::book(key)].map(|name| cmd!("EXISTS", name)));
    let mut replies = Replies::new(link.request(&look.collect())?);
    let (mut gone, mut closed) = (Commands::default(), Commands::default());
    for key in &keys {
        let left = replies.int().map_err(unavailable)? + replies.int().map_err(unavailable)?;
        if left == 0 {
            gone.push(&cmd!("ZREM", schema::TASKS, key.as_str()));
            closed.push(&close(key));
        }
    }
    all_good(link, &closed)?;
    all_good(link, &gone)?;
    Ok(match names.len() == SWEEP_TASKS_MAX {
        true => from + names.len() - gone.len(),
        false => 0,
    })
}

fn unavailable(fault: Fault) -> StoreError {
    fault.into_store_error()
}

/// Runs commands without results. A key of another type is skipped.
fn all_good(link: &mut Link, commands: &Commands) -> Result<(), StoreError> {
    for reply in link.request(commands)? {
        lenient("a key of a task's", Replies::new(vec![reply]).value()).map_err(unavailable)?;
    }
    Ok(())
}
