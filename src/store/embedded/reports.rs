//! What hosts report of their tasks: the operations that are never lost.

use crate::codec::message::Phase;
use crate::limits::COMPLETE_COMMANDS_MAX;
use crate::store::op::{Answer, Progress};
use crate::store::progress::{After, Before, merge};

use super::events::{self, Told};
use super::keyspace::{Fault, Kind, Space};
use super::{Context, names};

/// The keys an ADH27 may touch.
struct Keys {
    book: String,
    response: String,
    working: String,
    oncall: String,
    complete: String,
    host_oncall: String,
    host_complete: String,
    task: String,
    task_hosts: String,
}

impl Keys {
    fn of(op: &Progress) -> Self {
        Self {
            book: op.key.as_str().to_owned(),
            response: names::response(&op.key),
            working: names::working(&op.key),
            oncall: names::oncall(&op.key),
            complete: names::complete(&op.key),
            host_oncall: names::host_oncall(&op.key, &op.host),
            host_complete: names::host_complete(&op.key, &op.host),
            task: names::task(&op.key),
            task_hosts: names::task_hosts(&op.key),
        }
    }

    fn check(&self, space: &Space<'_>) -> Result<(), Fault> {
        space.check(&self.book, Kind::Sorted)?;
        for hash in [&self.working, &self.oncall, &self.complete] {
            space.check(hash, Kind::Hash)?;
        }
        for list in [&self.host_oncall, &self.host_complete] {
            space.check(list, Kind::List)?;
        }
        events::check(space)
    }

    /// Everything of the task, as far as this host has a part in it.
    fn all(&self) -> [&str; 9] {
        [
            &self.book,
            &self.response,
            &self.working,
            &self.oncall,
            &self.complete,
            &self.host_oncall,
            &self.host_complete,
            &self.task,
            &self.task_hosts,
        ]
    }
}

/// An ADH27.
pub(super) fn progress(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Progress,
) -> Result<(), Fault> {
    let keys = Keys::of(op);
    keys.check(space)?;

    let before = read(space, &keys, op.host.as_str())?;
    let mut after = merge(&before, op, bound(space, &keys.book)?);
    if context.clear_on_done {
        after = after.cleared();
    }
    let changed = after.changes(&before);
    if changed {
        write(space, &keys, op.host.as_str(), &after)?;
        tell(space, context, op, after.done)?;
    }
    if after.done {
        let until = context.kept_until(space.now());
        for key in keys.all() {
            space.expire(key, until)?;
        }
    }
    Ok(())
}

/// How many commands may be done: as many as the book has.
fn bound(space: &Space<'_>, book: &str) -> Result<usize, Fault> {
    Ok(match space.count(book, Kind::Sorted)? {
        0 => COMPLETE_COMMANDS_MAX,
        commands => commands,
    })
}

fn read(space: &Space<'_>, keys: &Keys, host: &str) -> Result<Before, Fault> {
    Ok(Before {
        complete: space.list_get(&keys.host_complete)?.unwrap_or_default(),
        oncall: space.list_get(&keys.host_oncall)?,
        working: space.hash_get(&keys.working, host)?,
        complete_named: space.hash_get(&keys.complete, host)?.is_some(),
        oncall_named: space.hash_get(&keys.oncall, host)?.is_some(),
    })
}

fn write(space: &mut Space<'_>, keys: &Keys, host: &str, after: &After) -> Result<(), Fault> {
    space.list_set(&keys.host_complete, &after.complete)?;
    space.list_set(&keys.host_oncall, &after.oncall)?;
    space.hash_put(&keys.working, host, after.working.as_deref())?;
    let complete = after.complete_named.then_some(&*keys.host_complete);
    space.hash_put(&keys.complete, host, complete)?;
    let oncall = after.oncall_named.then_some(&*keys.host_oncall);
    space.hash_put(&keys.oncall, host, oncall)
}

fn tell(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Progress,
    done: bool,
) -> Result<(), Fault> {
    let (state, command) = match op.phase {
        Phase::Received => ("answered", None),
        Phase::Began => ("working", op.working.as_deref()),
        Phase::Ended if done => ("done", op.complete.last().map(|c| &**c)),
        Phase::Ended => ("working", op.complete.last().map(|c| &**c)),
    };
    let told = Told {
        event: "progress",
        host: op.host.as_str(),
        key: Some(op.key.as_str()),
        command,
        state: Some(state),
        ..Told::default()
    };
    events::tell(space, context, op.stamp, told)
}

/// An ADH33: the key arrived, was damaged, or has no book.
pub(super) fn answer(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Answer,
) -> Result<(), Fault> {
    let response = names::response(&op.key);
    let state = match op.rcc {
        1 => "answered",
        2 => "no-book",
        _ => "damaged",
    };
    space.check(&response, Kind::Set)?;
    events::check(space)?;
    if op.rcc == 1 {
        space.set_remove(&response, op.host.as_str())?;
    }
    let told = Told {
        event: "answer",
        host: op.host.as_str(),
        key: Some(op.key.as_str()),
        state: Some(state),
        ..Told::default()
    };
    events::tell(space, context, op.stamp, told)
}
