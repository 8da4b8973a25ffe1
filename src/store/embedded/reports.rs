//! Reports of hosts on their tasks. These operations are never lost.

use crate::limits::{COMPLETE_COMMANDS_MAX, STRAY_WINDOW_S};
use crate::store::events::StreamEvent;
use crate::store::op::{Answer, Lifetime, Progress, TaskResult};
use crate::store::progress::{After, Before, merge};
use crate::store::records::{is_final, result_text};
use crate::store::schema;

use crate::time::UnixMs;

use super::Context;
use super::events;
use super::keyspace::{Fault, Kind, Space};
use super::tasks;

/// Keys of the progress of a host.
struct Keys {
    working: String,
    oncall_names: String,
    complete_names: String,
    oncall: String,
    complete: String,
}

impl Keys {
    fn of(op: &Progress) -> Self {
        Self {
            working: schema::working(&op.key),
            oncall_names: schema::oncall_names(&op.key),
            complete_names: schema::complete_names(&op.key),
            oncall: schema::oncall(&op.key, &op.host),
            complete: schema::complete(&op.key, &op.host),
        }
    }

    fn check(&self, space: &Space<'_>) -> Result<(), Fault> {
        for hash in [&self.working, &self.oncall_names, &self.complete_names] {
            space.check(hash, Kind::Hash)?;
        }
        for list in [&self.oncall, &self.complete] {
            space.check(list, Kind::List)?;
        }
        Ok(())
    }
}

/// An ADH27.
pub(super) fn progress(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Progress,
) -> Result<(), Fault> {
    let keys = Keys::of(op);
    let book = schema::book(&op.key);
    space.check(&book, Kind::Sorted)?;
    keys.check(space)?;
    events::check(space)?;

    let before = read(space, &keys, op.host.as_str())?;
    let mut after = merge(&before, op, bound(space, &book)?);
    // In a terminal state nothing changes, unless the finished commands are missing: a store that
    // lost its data was given the state again, but not yet the reports before it.
    if tasks::state(space, &op.key, &op.host)?.is_some_and(is_final)
        && (context.clear_on_done || after.complete == before.complete)
    {
        return Ok(());
    }
    if context.clear_on_done {
        after = after.cleared();
    }
    let changed = after.changes(&before);
    if changed {
        write(space, &keys, op.host.as_str(), &after)?;
        if !op.silent {
            events::append(space, context, &StreamEvent::progress(op, after.done))?;
        }
    }
    if let Some(state) = op.state {
        tasks::set_state(space, &op.key, &op.host, state)?;
    }
    let has_book = space.count(&book, Kind::Sorted)? > 0;
    let is_stray = op.unknown && tasks::state(space, &op.key, &op.host)?.is_none();
    if is_stray && !(after.done && has_book) {
        expire_stray(space, context, op, has_book)?;
    } else if op.expires(after.done) {
        tasks::expire(space, context, schema::of_task(&op.key, &op.host))?;
    }
    Ok(())
}

/// Lets the keys of a task that was never stored here expire: as late as other ended tasks if a
/// script has written its book, else earlier. Keys shared with a stored task are not touched.
fn expire_stray(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Progress,
    has_book: bool,
) -> Result<(), Fault> {
    let whole = space.kind(&schema::task(&op.key))?.is_none();
    let until = context.kept_until(space.now());
    let until = match has_book {
        true => until,
        false => until.min(UnixMs(space.now().0 + STRAY_WINDOW_S * 1_000)),
    };
    for key in schema::of_stray_task(&op.key, &op.host, whole) {
        if space.kind(&key)?.is_some() {
            space.expire(&key, until)?;
        }
    }
    Ok(())
}

/// An ADH43. The same task, host and command replaces itself.
pub(super) fn result(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &TaskResult,
) -> Result<(), Fault> {
    let key = schema::task_result(&op.code, &op.host);
    space.check(&key, Kind::Hash)?;
    events::check(space)?;
    space.hash_set(&key, &op.command, &result_text(op))?;
    if op.lifetime != Lifetime::Open {
        tasks::expire(space, context, [key])?;
    }
    events::append(space, context, &StreamEvent::result(op))
}

/// Greatest number of finished commands: the number of commands in the book.
fn bound(space: &Space<'_>, book: &str) -> Result<usize, Fault> {
    Ok(match space.count(book, Kind::Sorted)? {
        0 => COMPLETE_COMMANDS_MAX,
        commands => commands,
    })
}

fn read(space: &Space<'_>, keys: &Keys, host: &str) -> Result<Before, Fault> {
    Ok(Before {
        complete: space.list_get(&keys.complete)?.unwrap_or_default(),
        oncall: space.list_get(&keys.oncall)?.unwrap_or_default(),
        working: space.hash_get(&keys.working, host)?,
        complete_named: space.hash_get(&keys.complete_names, host)?.is_some(),
        oncall_named: space.hash_get(&keys.oncall_names, host)?.is_some(),
    })
}

fn write(space: &mut Space<'_>, keys: &Keys, host: &str, after: &After) -> Result<(), Fault> {
    space.list_set(&keys.complete, &after.complete)?;
    space.list_set(&keys.oncall, &after.oncall)?;
    space.hash_put(&keys.working, host, after.working.as_deref())?;
    let complete = after.complete_named.then_some(&*keys.complete);
    space.hash_put(&keys.complete_names, host, complete)?;
    let oncall = after.oncall_named.then_some(&*keys.oncall);
    space.hash_put(&keys.oncall_names, host, oncall)
}

/// An ADH33: the key arrived, was damaged, or has no book.
pub(super) fn answer(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Answer,
) -> Result<(), Fault> {
    let response = schema::response(&op.key);
    space.check(&response, Kind::Set)?;
    space.check(&schema::task_hosts(&op.key), Kind::Hash)?;
    events::check(space)?;
    if let Some(state) = op.state {
        tasks::set_state(space, &op.key, &op.host, state)?;
    }
    if op.rcc == 1 {
        space.set_remove(&response, op.host.as_str())?;
    }
    match op.again {
        true => Ok(()),
        false => events::append(space, context, &StreamEvent::answer(op)),
    }
}
