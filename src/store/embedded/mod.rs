//! The embedded store, for machines without Redis: one file with the keys and contents that Redis
//! would have, so that both stores pass the same tests.
//!
//! ```text
//!  run(ops) ─▶ one write transaction: op, op, op … ─▶ one durable commit ─▶ outcomes
//!                       │                                    │
//!                       └─ a key of another type:            └─ a disk error: nothing is written or
//!                          the operation is refused             confirmed, and the file is reopened
//! ```
//!
//! Modules, in reading order: `file` (opening, one transaction), `keyspace` (keys over tables of
//! bytes), `kinds` (the types of Redis), `events`, `presence`, `reports`, `tasks` (the operations),
//! `load` and `nodes` (reading, takeover), `memory` (a store without a file). The keys are in
//! [`schema`].
//!
//! A commit is on the disk when it returns, and a file left by `kill -9` opens at once: each commit
//! has the data that a repair would search for.

mod events;
mod file;
mod keyspace;
mod kinds;
mod load;
mod memory;
mod nodes;
mod presence;
mod reports;
mod tasks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::StorageError;

pub use self::file::OpenError;
use self::file::Opened;
use self::keyspace::{Fault, Kind, Space};
use self::kinds::score_of;
pub use self::memory::Memory;
use super::events::StreamEvent;
use super::op::{Dispatch, HeldHost, HeldTask, Op, Outcome, Stored};
use super::{
    Backend, Dump, HeldCursor, Lease, NodeInfo, NodesSeen, Ran, Settings, StoreError, refuse,
    schema,
};
use crate::limits::{STREAM_ENTRIES_MAX, SWEEP_ROWS_MAX};
use crate::time::{Span, UnixMs};

/// Context of the operations, borrowed for one transaction.
struct Context<'a> {
    node: &'a str,
    delete_fields: &'a [String],
    clear_on_done: bool,
    keep: Span,
    info: &'a NodeInfo,
}

impl Context<'_> {
    /// Expiry of a record that is finished at `now`.
    fn kept_until(&self, now: UnixMs) -> UnixMs {
        UnixMs(now.0.saturating_add(self.keep.as_millis()))
    }

    /// Score below which records have expired at `now`.
    fn oldest_kept(&self, now: UnixMs) -> f64 {
        now.0.saturating_sub(self.keep.as_millis()) as f64
    }
}

/// Location of the bytes, and the clock.
#[derive(Clone)]
enum Place {
    /// A file in this directory, with the system's clock.
    Dir(PathBuf),
    /// Memory, with the caller's clock.
    Memory(Memory, Wall),
}

/// A wall clock.
pub type Wall = Arc<dyn Fn() -> UnixMs + Send + Sync>;

impl Place {
    fn open(&self) -> Result<Opened, StoreError> {
        match self {
            Self::Dir(dir) => file::open(dir).map_err(|error| match error {
                OpenError::Unusable { .. } => StoreError::Damaged(error.to_string()),
                error => StoreError::Unavailable(error.to_string()),
            }),
            Self::Memory(memory, _) => memory.open(),
        }
    }

    fn now(&self) -> UnixMs {
        match self {
            Self::Dir(_) => wall_clock(),
            Self::Memory(_, wall) => wall(),
        }
    }
}

/// The embedded store.
pub struct EmbeddedStore {
    place: Place,
    settings: Settings,
    /// Value of the node's lease for this process.
    process: String,
    /// The open file; none after a disk error, until [`Backend::open`].
    opened: Option<Opened>,
    /// The lease has been written to the open file.
    has_lease: bool,
    /// Last host of the previous sweep of last-seen times.
    swept: Option<Vec<u8>>,
    /// Last task of the previous sweep of tasks.
    swept_tasks: Option<Vec<u8>>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, and creates both if necessary. One process at a time can open it.
    ///
    /// # Errors
    /// When the directory or file cannot be created or read, is in use, or is no store of this
    /// version.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, OpenError> {
        let random = getrandom::u64().map_err(OpenError::Random)?;
        let opened = file::open_and_check(dir)?;
        Ok(Self {
            opened: Some(opened),
            ..Self::closed(
                Place::Dir(dir.to_owned()),
                settings,
                format!("{random:016x}"),
            )
        })
    }

    fn closed(place: Place, settings: Settings, process: String) -> Self {
        Self {
            place,
            settings,
            process,
            has_lease: false,
            opened: None,
            swept: None,
            swept_tasks: None,
        }
    }

    /// A store over `memory`, with the clock `wall`, closed until [`Backend::open`]. `process` is
    /// the value of the node's lease. One store at a time may be open over the same memory.
    #[must_use]
    pub fn in_memory(memory: Memory, settings: Settings, wall: Wall, process: u64) -> Self {
        let place = Place::Memory(memory, wall);
        Self::closed(place, settings, format!("{process:016x}"))
    }

    /// The same store, closed until [`Backend::open`], for a store thread that restarts.
    #[must_use]
    pub fn again(&self) -> Self {
        let (place, settings) = (self.place.clone(), self.settings.clone());
        Self::closed(place, settings, self.process.clone())
    }

    /// Reads a whole key, for tests.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub fn dump(&mut self, key: &str) -> Result<Option<Dump>, StoreError> {
        self.transact(self.place.now(), |space, _| load::dump(space, key))
    }

    /// Runs `work` in one transaction at `now`, and commits it if it has written anything.
    ///
    /// An error of the file discards the whole transaction and closes the file.
    fn transact<T>(
        &mut self,
        now: UnixMs,
        work: impl FnOnce(&mut Space<'_>, &Context<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let context = Context {
            node: &self.settings.node,
            delete_fields: &self.settings.delete_fields,
            clear_on_done: self.settings.clear_on_done,
            keep: self.settings.keep,
            info: &self.settings.info,
        };
        let Some(opened) = &self.opened else {
            return Err(StoreError::Unavailable("the store's file is closed".into()));
        };
        let result = file::guarded(|| {
            file::transaction(&opened.database, now, |space| work(space, &context))
        });
        let result = result.unwrap_or_else(|panic| Err(StorageError::Corrupted(panic).into()));
        match result {
            Ok(value) => Ok(value),
            // A key that the store itself needs has a wrong type.
            Err(fault @ Fault::Kind(_)) => Err(StoreError::Unavailable(fault.to_string())),
            Err(Fault::Storage(error)) => {
                self.has_lease = false;
                let opened = self.opened.take();
                // After an error the library may panic when the file is closed.
                let _ = file::guarded(|| drop(opened));
                Err(match (error, &self.place) {
                    (StorageError::Corrupted(why), Place::Dir(dir)) => {
                        StoreError::Damaged(file::damaged(dir, why))
                    }
                    (error, _) => StoreError::Unavailable(error.to_string()),
                })
            }
        }
    }
}

fn wall_clock() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // With a clock before 1970, nothing expires.
    let ms = since.map_or(0, |since| since.as_millis());
    UnixMs(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Runs one operation. If a key has another type, the operation is refused; an error of the file
/// ends the batch.
fn apply(
    space: &mut Space<'_>,
    context: &Context<'_>,
    op: &Op,
) -> Result<Option<Outcome>, StorageError> {
    let result = match op {
        Op::Online(op) => presence::online(space, context, op),
        Op::Offline(op) => presence::offline(space, context, op),
        Op::Dispatch(op) => tasks::dispatch(space, context, op).map(|stored| Outcome::Dispatched {
            request: op.request,
            stored,
        }),
        Op::Restore(op) => tasks::restore(space, context, op).map(|stored| Outcome::Restored {
            key: op.key.clone(),
            stored,
        }),
        Op::Read(op) => tasks::read(space, context, &op.question).map(|found| Outcome::Read {
            ticket: op.ticket,
            found,
        }),
        _ => return settled(op, write(space, context, op).map(|()| op.written())),
    };
    settled(op, result.map(Some))
}

/// Runs an operation whose outcome says only that it is written.
fn write(space: &mut Space<'_>, context: &Context<'_>, op: &Op) -> Result<(), Fault> {
    match op {
        Op::Inventory(op) => presence::inventory(space, context, op),
        Op::Progress(op) => reports::progress(space, context, op),
        Op::Answer(op) => reports::answer(space, context, op),
        Op::Result(op) => reports::result(space, context, op),
        Op::TaskStates(op) => tasks::states(space, context, op),
        Op::Labels(op) => presence::labels(space, op),
        Op::Rollout(op) => tasks::rollout(space, op),
        Op::Forget(host) => presence::forget(space, host),
        Op::Seen(hosts) => presence::seen(space, hosts),
        Op::Audit(hosts) => presence::audit(space, hosts),
        Op::Outside(op) => presence::outside(space, op),
        Op::History(op) => presence::counts(space, context, op),
        Op::Notice(op) => {
            events::check(space)?;
            events::append(space, context, &StreamEvent::notice(op))
        }
        // There is no other node.
        Op::Ring(_) | Op::Command(_) | Op::Rung(_) | Op::Polls(_) => Ok(()),
        Op::Online(_) | Op::Offline(_) | Op::Dispatch(_) | Op::Restore(_) | Op::Read(_) => Ok(()),
    }
}

/// The outcome, or a refusal for a key of another type. An error of the file stays an error.
fn settled(
    op: &Op,
    result: Result<Option<Outcome>, Fault>,
) -> Result<Option<Outcome>, StorageError> {
    match result {
        Ok(outcome) => Ok(outcome),
        Err(fault @ Fault::Kind(_)) => Ok(refuse(op, &fault.to_string())),
        Err(Fault::Storage(error)) => Err(error),
    }
}

impl Backend for EmbeddedStore {
    fn open(&mut self) -> Result<(), StoreError> {
        // An open file is not checked, so that an idle server does not access the disk.
        if self.opened.is_none() {
            self.opened = Some(self.place.open()?);
            return self.transact(self.place.now(), |_, _| Ok(()));
        }
        Ok(())
    }

    /// Only one process has the file, so a foreign lease in it belongs to a dead process: it is
    /// taken at once, and never is [`Lease::Foreign`]. For the same reason the lease is written
    /// once and never renewed. A deleted file is noticed here. The next `open` creates it.
    fn lease(&mut self, force: bool) -> Result<Lease, StoreError> {
        if let Place::Dir(dir) = &self.place
            && self.opened.take_if(|opened| !opened.is_in(dir)).is_some()
        {
            self.has_lease = false;
            let why = format!("the file in {} was deleted", dir.display());
            return Err(StoreError::Unavailable(why));
        }
        if self.has_lease && !force {
            return Ok(Lease::Ours);
        }
        let process = self.process.clone();
        let lease = self.transact(self.place.now(), |space, context| {
            let key = schema::node_lease(context.node);
            space.check(schema::NODES, Kind::Set)?;
            let ours = space.text_get(&key)?.is_some_and(|held| held == process);
            space.text_set(&key, &process)?;
            space.persist(&key)?;
            space.set_add(schema::NODES, context.node)?;
            let info = schema::node_info(context.node);
            if space.hash_get(&info, schema::node::GONE)?.is_some() {
                space.delete(&info)?;
            }
            Ok(if ours { Lease::Ours } else { Lease::Taken })
        })?;
        self.has_lease = true;
        Ok(lease)
    }

    fn release_lease(&mut self) -> Result<(), StoreError> {
        self.has_lease = false;
        let process = self.process.clone();
        self.transact(self.place.now(), |space, context| {
            let key = schema::node_lease(context.node);
            if space.text_get(&key)?.is_some_and(|held| held == process) {
                space.delete(&key)?;
            }
            Ok(())
        })
    }

    fn held(
        &mut self,
        all_hosts: bool,
        cursor: &mut HeldCursor,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<(), StoreError> {
        let (next, page) = self.transact(self.place.now(), |space, context| {
            load::held(space, context, all_hosts, cursor)
        })?;
        *cursor = next;
        hosts.extend(page);
        Ok(())
    }

    fn has_own_set(&mut self) -> Result<bool, StoreError> {
        self.transact(self.place.now(), |space, context| {
            Ok(space.kind(&schema::node_hosts(context.node))?.is_some())
        })
    }

    fn has_node(&mut self) -> Result<bool, StoreError> {
        self.transact(self.place.now(), |space, context| {
            space.set_has(schema::NODES, context.node)
        })
    }

    fn tasks(
        &mut self,
        cursor: &mut HeldCursor,
        found: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        let (next, page) = self.transact(self.place.now(), |space, context| {
            tasks::held(space, context, context.node, cursor)
        })?;
        *cursor = next;
        found.extend(page);
        Ok(())
    }

    /// Only this process has the file: no other node is live.
    fn look_at_nodes(&mut self, now: UnixMs) -> Result<NodesSeen, StoreError> {
        let silent = self.transact(now, nodes::silent)?;
        Ok(NodesSeen {
            are_several: None,
            live: 0,
            inbox: 0,
            silent,
        })
    }

    fn end_hosts(
        &mut self,
        node: &str,
        now: UnixMs,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<bool, StoreError> {
        let mut taken = self.transact(self.place.now(), |space, context| {
            nodes::end_hosts(space, context, node, now)
        })?;
        let more = !taken.is_empty();
        hosts.extend(taken.drain(..).flatten());
        Ok(more)
    }

    fn take_over_tasks(
        &mut self,
        node: &str,
        now: UnixMs,
        cursor: &mut HeldCursor,
        found: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        let (next, tasks) = self.transact(now, |space, context| {
            nodes::tasks(space, context, node, cursor)
        })?;
        *cursor = next;
        found.extend(tasks);
        Ok(())
    }

    fn settle(&mut self, dispatch: &Dispatch, finish: bool) -> Result<Stored, StoreError> {
        self.transact(self.place.now(), |space, context| {
            let settled = match finish {
                true => tasks::dispatch(space, context, dispatch),
                false => tasks::give_up(space, dispatch),
            };
            match settled {
                Err(fault @ Fault::Kind(_)) => Ok(Stored::Refused(fault.to_string())),
                settled => settled,
            }
        })
    }

    fn run(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) -> Ran {
        let result = self.transact(self.place.now(), |space, context| {
            let mut settled = Vec::with_capacity(ops.len());
            for op in ops {
                settled.extend(apply(space, context, op)?);
            }
            if let Err(Fault::Storage(error)) =
                space.stream_trim(schema::EVENTS, STREAM_ENTRIES_MAX as u64)
            {
                return Err(error.into());
            }
            Ok(settled)
        });
        match result {
            Ok(settled) => {
                outcomes.extend(settled);
                Ran::all(ops.len())
            }
            Err(error) => Ran::stopped(0, error),
        }
    }

    fn sweep(&mut self, now: UnixMs) -> Result<(), StoreError> {
        let from = self.swept.take();
        self.swept = self.transact(now, |space, context| {
            space.sweep(SWEEP_ROWS_MAX)?;
            forget_unseen(space, context, from.as_deref())
        })?;
        let from = self.swept_tasks.take();
        self.swept_tasks = self.transact(now, |space, context| {
            tasks::sweep(space, context, from.as_deref())
        })?;
        Ok(())
    }

    /// All writes are synced before they are confirmed.
    fn keeps_what_it_confirms(&self) -> bool {
        true
    }

    fn disconnect(&mut self) {
        self.has_lease = false;
        self.opened = None;
    }
}

/// Deletes last-seen times older than hosts are kept, in one page of the table. Returns the last
/// host of the page, if others may follow.
fn forget_unseen(
    space: &mut Space<'_>,
    context: &Context<'_>,
    from: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, Fault> {
    let key = schema::SEEN;
    let page = load::lenient(
        space.page(key, Kind::Sorted, from, SWEEP_ROWS_MAX),
        Vec::new(),
    )?;
    for (host, seen) in &page {
        if score_of(seen, key)? < context.oldest_kept(space.now()) {
            space.take(key, Kind::Sorted, host)?;
        }
    }
    Ok(last_of_full(page, SWEEP_ROWS_MAX))
}

/// Member of the last row of a page, if the page has `max` rows and others may follow.
fn last_of_full(page: Vec<keyspace::Row>, max: usize) -> Option<Vec<u8>> {
    let is_full = page.len() == max;
    let last = page.into_iter().next_back();
    last.map(|(member, _)| member).filter(|_| is_full)
}

#[cfg(test)]
mod tests;
