//! Tasks: dispatches, states of hosts, and questions.
//!
//! One transaction does what takes Redis several steps, so no change is interrupted here. Half a
//! task in a restored file is removed by the same rules.

use crate::ids::{HostId, TaskKey};
use crate::limits::{READ_OUTPUT_BYTES_MAX, SWEEP_TASKS_MAX, TASKS_PER_LOOK_MAX};
use crate::store::HeldCursor;
use crate::store::events::StreamEvent;
use crate::store::op::{
    Dispatch, FleetHistory, Found, FoundHost, HeldTask, Question, RolloutText, Stored, TaskState,
    TaskStates,
};
use crate::store::records::{
    Claim, GIVEN_UP, Owner, SHOWN_CHARS, finite_priority, followed_by, found_result, has_entered,
    has_failed, is_awaited, skipped_result, undone_task, unfit, whole_output,
};
use crate::store::schema;

use super::Context;
use super::events;
use super::keyspace::{Fault, Kind, Space};
use super::kinds::{score_of, text};
use super::load::lenient;

fn owner(space: &Space<'_>, op: &Dispatch) -> Result<Owner, Fault> {
    let claim = space.text_get(&schema::task(&op.key))?;
    Ok(Owner::of(claim.as_deref(), op))
}

fn has_book(space: &Space<'_>, key: &TaskKey) -> Result<bool, Fault> {
    Ok(space.kind(&schema::book(key))?.is_some())
}

fn has_hosts(space: &Space<'_>, key: &TaskKey) -> Result<bool, Fault> {
    Ok(space.kind(&schema::task_hosts(key))?.is_some())
}

/// A dispatch: entry, claim, states, awaited answers, book, event.
pub(super) fn dispatch(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Dispatch,
) -> Result<Stored, Fault> {
    if let Some(why) = unfit(op) {
        undo(space, op)?;
        return Ok(Stored::Refused(why.to_owned()));
    }
    let owner = owner(space, op)?;
    if owner == Owner::Another {
        return Ok(Stored::Taken);
    }
    if has_book(space, &op.key)? {
        return found(space, op, Stored::Taken);
    }
    let event = StreamEvent::dispatch(op);
    let written =
        write(space, context, op, false).and_then(|()| events::append(space, context, &event));
    match written {
        Ok(()) => Ok(Stored::Whole),
        Err(fault @ Fault::Kind(_)) => {
            undo(space, op)?;
            Err(fault)
        }
        Err(storage) => Err(storage),
    }
}

/// Rewrites the missing parts of a task that was stored.
pub(super) fn restore(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Dispatch,
) -> Result<Stored, Fault> {
    let another = owner(space, op)? == Owner::Another;
    if another || (has_book(space, &op.key)? && !is_our_book(space, op)?) {
        return Ok(Stored::Taken);
    }
    write(space, context, op, true).map(|()| Stored::Whole)
}

/// Result of a dispatch whose book exists: stored if all keys are ours; else it is undone.
fn found(space: &mut Space<'_>, op: &Dispatch, otherwise: Stored) -> Result<Stored, Fault> {
    let key = &op.key;
    let ours = owner(space, op)? == Owner::Us && has_hosts(space, key)?;
    if ours && is_our_book(space, op)? {
        return Ok(Stored::Whole);
    }
    if !ours {
        undo(space, op)?;
        return Ok(otherwise);
    }
    // Another program wrote a book of this name since the key was claimed.
    space.delete(&schema::task_hosts(key))?;
    for (host, _) in op.hosts.iter() {
        lenient(space.set_remove(&schema::response(key), host.as_str()), ())?;
    }
    release(space, key)?;
    Ok(Stored::Taken)
}

/// Returns whether the existing book has these commands. Others may have been added.
fn is_our_book(space: &Space<'_>, op: &Dispatch) -> Result<bool, Fault> {
    let book = schema::book(&op.key);
    for (command, priority) in &op.commands {
        if lenient(space.score(&book, command), None)? != Some(*priority) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Dispatch,
    again: bool,
) -> Result<(), Fault> {
    let key = &op.key;
    let (hosts, response) = (schema::task_hosts(key), schema::response(key));
    space.check(schema::TASKS, Kind::Sorted)?;
    space.check(&hosts, Kind::Hash)?;
    space.check(&response, Kind::Set)?;
    events::check(space)?;

    if space.score(schema::TASKS, key.as_str())?.is_none() {
        let entry = (key.as_str(), op.created.0 as f64);
        space.raise_scores(schema::TASKS, std::iter::once(entry))?;
    }
    space.text_set(&schema::task(key), &Claim::of(op, context.node).text())?;
    let rollout = schema::task_rollout(key);
    if let Some(text) = &op.rollout
        // What was changed since is kept when the task is written again.
        && !(again && space.kind(&rollout)? == Some(Kind::Text))
    {
        space.text_set(&rollout, text)?;
    }
    for (host, state) in op.hosts.iter() {
        if space.hash_get(&hosts, host.as_str())?.is_none() {
            space.hash_set(&hosts, host.as_str(), state.as_str())?;
        }
        if is_awaited(*state) {
            space.set_add(&response, host.as_str())?;
        }
    }
    space.persist(&hosts)?;
    space.persist(&rollout)?;
    space.persist(&response)?;
    let commands = op
        .commands
        .iter()
        .map(|(command, priority)| (&**command, *priority));
    space.raise_scores(&schema::book(key), commands)?;
    // No host will change state, so the expiry begins now.
    if op.hosts.iter().all(|(_, state)| state.is_settled()) {
        expire(space, context, schema::of_whole_task(key))?;
    }
    Ok(())
}

/// Removes a dispatch that will not be stored, unless it is complete.
pub(super) fn give_up(space: &mut Space<'_>, op: &Dispatch) -> Result<Stored, Fault> {
    let undone = Stored::Undone(GIVEN_UP.to_owned());
    if has_book(space, &op.key)? {
        return found(space, op, undone);
    }
    undo(space, op)?;
    Ok(undone)
}

/// Removes the keys of a dispatch that is not stored.
fn undo(space: &mut Space<'_>, op: &Dispatch) -> Result<(), Fault> {
    let key = &op.key;
    match owner(space, op) {
        Ok(Owner::Us) => {
            // A book without states is another program's, and so are its awaited answers.
            if !has_book(space, key)? {
                clear_hosts(space, key)?;
            }
            release(space, key)
        }
        Ok(Owner::Another) => Ok(()),
        // A damaged claim is not ours, but the entry may be, if it has the same time.
        Ok(Owner::Nobody) | Err(Fault::Kind(_)) => {
            let entry = lenient(space.score(schema::TASKS, key.as_str()), None)?;
            match entry == Some(op.created.0 as f64) {
                true => space.take(schema::TASKS, Kind::Sorted, key.as_str().as_bytes()),
                false => Ok(()),
            }
        }
        Err(storage) => Err(storage),
    }
}

fn clear_hosts(space: &mut Space<'_>, key: &TaskKey) -> Result<(), Fault> {
    for (name, kind) in [
        (schema::task_rollout(key), Kind::Text),
        (schema::task_hosts(key), Kind::Hash),
        (schema::response(key), Kind::Set),
    ] {
        // A key of another type is not ours.
        if space.kind(&name)? == Some(kind) {
            space.delete(&name)?;
        }
    }
    Ok(())
}

/// Removes the claim of a key, and its entry.
fn release(space: &mut Space<'_>, key: &TaskKey) -> Result<(), Fault> {
    space.delete(&schema::task(key))?;
    let entry = space.take(schema::TASKS, Kind::Sorted, key.as_str().as_bytes());
    lenient(entry, ())
}

/// State of a host in a task, if the task names it.
pub(super) fn state(
    space: &Space<'_>,
    key: &TaskKey,
    host: &HostId,
) -> Result<Option<TaskState>, Fault> {
    let word = space.hash_get(&schema::task_hosts(key), host.as_str())?;
    Ok(word.as_deref().and_then(TaskState::parse))
}

/// Sets the state of a host in a task, if the task names it and its present state permits that.
pub(super) fn set_state(
    space: &mut Space<'_>,
    key: &TaskKey,
    host: &HostId,
    next: TaskState,
) -> Result<(), Fault> {
    let hosts = schema::task_hosts(key);
    let Some(word) = space.hash_get(&hosts, host.as_str())? else {
        return Ok(());
    };
    if !followed_by(next).contains(&format!(" {word} ")) {
        return Ok(());
    }
    space.hash_set(&hosts, host.as_str(), next.as_str())
}

/// Lets keys of finished records expire.
pub(super) fn expire(
    space: &mut Space<'_>,
    context: &Context<'_>,
    keys: impl IntoIterator<Item = String>,
) -> Result<(), Fault> {
    let until = context.kept_until(space.now());
    keys.into_iter()
        .try_for_each(|key| space.expire(&key, until))
}

/// Target and rollout of a task.
pub(super) fn rollout(space: &mut Space<'_>, op: &RolloutText) -> Result<(), Fault> {
    let key = schema::task_rollout(&op.key);
    match space.kind(&key)? {
        Some(_) => space.text_set(&key, &op.text),
        // Its keys have expired.
        None => Ok(()),
    }
}

/// States of hosts in a task.
pub(super) fn states(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &TaskStates,
) -> Result<(), Fault> {
    let response = schema::response(&op.key);
    for (host, state) in &op.states {
        set_state(space, &op.key, host, *state)?;
        // A host whose wave has begun is awaited, a cancelled one is not.
        if *state == TaskState::Cancelled {
            lenient(space.set_remove(&response, host.as_str()), ())?;
        } else if has_entered(*state) && !op.over {
            lenient(space.set_add(&response, host.as_str()), ())?;
        }
    }
    if op.over && op.last {
        expire(space, context, schema::of_whole_task(&op.key))?;
    }
    if op.over {
        for (host, _) in &op.states {
            expire(space, context, schema::of_host_in_task(&op.key, host))?;
        }
    }
    Ok(())
}

/// The answer to a question about other nodes.
fn unshared() -> Result<Found, Fault> {
    Ok(Found::Nothing("this store is that of one node".to_owned()))
}

/// The answer to a question.
pub(super) fn read(
    space: &Space<'_>,
    context: &Context<'_>,
    question: &Question,
) -> Result<Found, Fault> {
    match question {
        Question::Task { key, hosts } => found_hosts(space, key.as_str(), Some(key), hosts),
        Question::Whole { key } => {
            let claim = space.text_get(&schema::task(key))?;
            let claim = claim.and_then(|text| Claim::parse(&text));
            Ok(Found::Whole(match claim {
                Some(claim) if has_book(space, key)? && has_hosts(space, key)? => {
                    Some(Box::new(described(space, key.clone(), claim)?))
                }
                _ => None,
            }))
        }
        Question::Command { cid, hosts } => found_hosts(space, cid, None, hosts),
        Question::Results {
            key,
            command,
            hosts,
        } => {
            let result = |host: &HostId| {
                let hash = schema::task_result(key.as_str(), host);
                let text = space.hash_get(&hash, command)?;
                Ok(text.and_then(|text| found_result(command, &text, 0)))
            };
            let all = hosts.iter().map(result).collect::<Result<_, Fault>>();
            Ok(Found::Results(all?))
        }
        Question::Transitions { hosts } => {
            let hosts = hosts.iter();
            let all = hosts.map(|host| super::presence::transitions_of(space, host));
            Ok(Found::Transitions(all.collect::<Result<_, _>>()?))
        }
        Question::CommandRecord { .. } | Question::TakeCommand { .. } => unshared(),
        Question::Outside { .. } => unshared(),
        Question::Part { .. } | Question::Open { .. } | Question::Keepers { .. } => unshared(),
        Question::Holders { .. } | Question::Others { .. } => unshared(),
        Question::FleetHistory { from } => {
            let mut history = FleetHistory::default();
            for (field, text) in space.hash_all(schema::HISTORY)? {
                history.add_since(*from, &field, &text);
            }
            Ok(Found::FleetHistory(Box::new(history)))
        }
        Question::Nodes => super::nodes::all(space, context),
        // The core knows all hosts of a store that no other node uses.
        Question::Hosts { .. } | Question::Scan(_) => {
            Ok(Found::Nothing("the store has no other nodes".to_owned()))
        }
        Question::Output {
            code,
            host,
            command,
        } => {
            let text = space.hash_get(&schema::task_result(code, host), command)?;
            Ok(match text.as_deref().map(whole_output) {
                None => Found::Output(None),
                Some(Some(output)) => Found::Output(Some(output)),
                Some(None) => Found::Nothing("what is stored is no result".to_owned()),
            })
        }
    }
}

/// Progress of hosts in a task; of a console command, which has no lists, only its outputs.
fn found_hosts(
    space: &Space<'_>,
    code: &str,
    key: Option<&TaskKey>,
    hosts: &[HostId],
) -> Result<Found, Fault> {
    let mut room = READ_OUTPUT_BYTES_MAX;
    let found = hosts
        .iter()
        .map(|host| found_host(space, code, key, host, &mut room));
    Ok(Found::Task(found.collect::<Result<_, _>>()?))
}

/// Progress of a host. `room` is the number of bytes of outputs that may still be read.
fn found_host(
    space: &Space<'_>,
    code: &str,
    key: Option<&TaskKey>,
    host: &HostId,
    room: &mut usize,
) -> Result<FoundHost, Fault> {
    let mut found = FoundHost::default();
    if let Some(key) = key {
        let list = |name: String| Ok::<_, Fault>(space.list_get(&name)?.unwrap_or_default());
        found.working = space.hash_get(&schema::working(key), host.as_str())?;
        found.complete = list(schema::complete(key, host))?;
        found.oncall = list(schema::oncall(key, host))?;
        // The list is stored last first.
        found.oncall.reverse();
    }
    for (command, text) in space.hash_all(&schema::task_result(code, host))? {
        match found_result(&command, &text, SHOWN_CHARS.min(*room)) {
            Some(result) => {
                *room = room.saturating_sub(result.output.len());
                found.results.push(result);
            }
            None => skipped_result(code),
        }
    }
    Ok(found)
}

/// The next page of tasks that the node `of` has dispatched, and where to go on. Tasks of another
/// node, which is gone, become this node's.
pub(super) fn held(
    space: &mut Space<'_>,
    context: &Context<'_>,
    of: &str,
    cursor: &HeldCursor,
) -> Result<(HeldCursor, Vec<HeldTask>), Fault> {
    let after = match cursor {
        HeldCursor::Start => None,
        HeldCursor::At(_, after) => Some(&after[..]),
        HeldCursor::End => return Ok((HeldCursor::End, Vec::new())),
    };
    let mut tasks = Vec::new();
    let page = space.page(schema::TASKS, Kind::Sorted, after, TASKS_PER_LOOK_MAX);
    // A key of another type names no task.
    let page = lenient(page, Vec::new())?;
    for (name, _) in &page {
        if let Some(key) = TaskKey::parse(&text(name), "") {
            tasks.extend(held_task(space, context, of, key)?);
        }
    }
    let next = match page.into_iter().next_back() {
        Some((name, _)) => HeldCursor::At(0, name),
        None => HeldCursor::End,
    };
    Ok((next, tasks))
}

/// A task of the node `of`; none if it is another's, or was interrupted and is removed.
fn held_task(
    space: &mut Space<'_>,
    context: &Context<'_>,
    of: &str,
    key: TaskKey,
) -> Result<Option<HeldTask>, Fault> {
    let claim = match space.text_get(&schema::task(&key)) {
        Err(Fault::Kind(_)) => return Ok(None),
        text => text?.map(|text| Claim::parse(&text)),
    };
    let ours = |claim: &Claim| claim.node == of;
    let claim = match claim {
        None if of != context.node => return Ok(None),
        None => None,
        Some(Some(claim)) if ours(&claim) => Some(claim),
        Some(_) => return Ok(None),
    };
    match claim {
        Some(claim) if has_book(space, &key)? && has_hosts(space, &key)? => {
            if of != context.node {
                let claim = claim.taken_over(context.node);
                space.text_set(&schema::task(&key), &claim.text())?;
            }
            described(space, key, claim).map(Some)
        }
        // The book of another program, older than our claim.
        Some(_) if has_book(space, &key)? => release(space, &key).map(|()| None),
        None if has_book(space, &key)? => Ok(None),
        _ => {
            undone_task(&key);
            clear_hosts(space, &key)?;
            release(space, &key).map(|()| None)
        }
    }
}

fn described(space: &Space<'_>, key: TaskKey, claim: Claim) -> Result<HeldTask, Fault> {
    let book = space.page(&schema::book(&key), Kind::Sorted, None, usize::MAX);
    let mut commands = Vec::new();
    for (command, score) in lenient(book, Vec::new())? {
        let priority = finite_priority(score_of(&score, key.as_str())?);
        commands.push((text(&command), priority));
    }
    // Equal priorities in reverse order of their names, as in Redis.
    commands.reverse();
    commands.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut hosts = Vec::new();
    for (name, word) in lenient(space.hash_all(&schema::task_hosts(&key)), Vec::new())? {
        if let (Ok(host), Some(state)) = (HostId::checked(&name), TaskState::parse(&word)) {
            let failed = failed(space, &key, &host, state)?;
            hosts.push((host, state, failed));
        }
    }
    let expires = space.expires(&schema::task_hosts(&key))?;
    let rollout = lenient(space.text_get(&schema::task_rollout(&key)), None)?;
    Ok(HeldTask {
        rollout,
        ..claim.task(&key, commands, hosts, expires)
    })
}

/// Returns whether a result of a host reports a failed command. For finished hosts the state says
/// so.
fn failed(
    space: &Space<'_>,
    key: &TaskKey,
    host: &HostId,
    state: TaskState,
) -> Result<bool, Fault> {
    if state.is_settled() {
        return Ok(state == TaskState::Failed);
    }
    let results = space.hash_all(&schema::task_result(key.as_str(), host));
    let results = lenient(results, Vec::new())?;
    Ok(results.iter().any(|(_, text)| has_failed(text)))
}

/// Removes entries of tasks whose keys have expired, in one page of the table. Returns the last
/// task of the page, if others may follow.
pub(super) fn sweep(
    space: &mut Space<'_>,
    context: &Context<'_>,
    from: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, Fault> {
    let oldest = context.oldest_kept(space.now());
    let page = space.page(schema::TASKS, Kind::Sorted, from, SWEEP_TASKS_MAX);
    let page = lenient(page, Vec::new())?;
    for (name, created) in &page {
        let Some(key) = TaskKey::parse(&text(name), "") else {
            continue;
        };
        let old = score_of(created, schema::TASKS)? < oldest;
        if old && !has_book(space, &key)? && space.kind(&schema::task(&key))?.is_none() {
            space.take(schema::TASKS, Kind::Sorted, name)?;
        }
    }
    Ok(super::last_of_full(page, SWEEP_TASKS_MAX))
}
