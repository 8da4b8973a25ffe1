//! The store: what is written, what may be lost, and how a start reads it.
//!
//! ```text
//!  core ──Batch──▶ bounded channel ──▶ worker ──ops──▶ backend: Redis or embedded
//!    ▲                                   │  │
//!    └──Outcome──◀ bounded channel ◀─────┘  └──▶ spool, while the backend is unavailable
//! ```
//!
//! The reactor sees [`op`] and the two channels. Everything else here lives on the store thread.

pub mod address;
#[cfg(feature = "embedded")]
pub mod embedded;
mod events;
mod held;
pub mod op;
pub mod progress;
pub mod records;
pub mod redis;
pub mod schema;
pub mod spool;
#[cfg(test)]
pub(crate) mod tests;
pub mod worker;

use crate::time::{Span, UnixMs};
use op::{Dispatch, HeldHost, HeldTask, Op, Outcome, Stored};

/// Configuration of the store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// `<host>_<field>` is deleted for each of these when a host goes offline.
    pub delete_fields: Vec<String>,
    /// A finished host's `complete` list and field are deleted as well.
    pub clear_on_done: bool,
    /// Time for which finished records are stored.
    pub keep: Span,
    /// Time limit of the store, after which it counts as unavailable.
    pub timeout: Span,
}

/// Error of a store operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or says it cannot serve now (LOADING, READONLY, OOM, MISCONF, CLUSTERDOWN,
    /// TRYAGAIN, NOREPLICAS, no permission, a full disk). Waited out.
    #[error("{0}")]
    Unavailable(String),
    /// The connection broke, or no answer came in time, while operations were under way. Waited out like the above, but
    /// one of the operations may be the cause.
    #[error("{0}")]
    Broken(String),
    /// It refuses the user or the password. No use to wait.
    #[error("{0}")]
    Refused(String),
    /// Its file is damaged. No use to wait.
    #[error("{0}")]
    Damaged(String),
}

/// Result of a batch.
#[derive(Debug, Default)]
pub struct Ran {
    /// Number of operations, from the first, that are settled: their outcomes have been pushed.
    pub done: usize,
    /// Reason for stopping there. The state of the rest is unknown, and all of it can be repeated.
    pub error: Option<StoreError>,
}

impl Ran {
    /// All `count` operations are settled.
    #[must_use]
    pub fn all(count: usize) -> Self {
        Self {
            done: count,
            error: None,
        }
    }

    /// The first `done` operations are settled; then there was an error.
    #[must_use]
    pub fn stopped(done: usize, error: StoreError) -> Self {
        Self {
            done,
            error: Some(error),
        }
    }

    /// Checks the promises of a backend that has run `ops`.
    ///
    /// # Panics
    /// When one is broken: the worker then treats the backend like one that panicked.
    fn check(&self, ops: &[Op], outcomes: &[Outcome]) {
        assert!(self.done <= ops.len(), "more settled than was requested");
        assert!(
            self.error.is_some() || self.done == ops.len(),
            "operations left without a reason"
        );
        let expected = ops[..self.done].iter().filter(|op| op.has_outcome());
        assert_eq!(
            outcomes.len(),
            expected.count(),
            "one outcome for each operation"
        );
    }
}

/// Message of a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a message".to_owned(),
    }
}

/// Outcome of an operation that a store refuses for good. If it has no room for the reason, that is
/// logged.
fn refuse(op: &Op, reason: &str) -> Option<Outcome> {
    let subject = match op {
        Op::TaskStates(op) => format!("states in task {}", op.key),
        Op::Forget(host) => format!("the removal of host {host}"),
        Op::Seen(_) => "last-seen times".to_owned(),
        Op::Audit(_) => "the hosts online".to_owned(),
        Op::Outside(op) => schema::outside(&op.place),
        Op::Notice(op) => format!("the event {}", op.event),
        _ => return op.refused(reason),
    };
    log::warn!(
        subject = subject, reason = reason;
        "store: {subject} cannot be written: {reason}"
    );
    op.refused(reason)
}

/// State of the node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It is ours.
    Ours,
    /// It was gone, and is ours now: the store came back empty, or we were away for too long.
    Taken,
    /// Another process holds it, and it lapses after so long unless renewed.
    Foreign {
        /// Time to live.
        left: Span,
    },
}

/// Position in a reading of all hosts. Opaque to the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeldCursor {
    /// From the beginning.
    #[default]
    Start,
    /// Stage and position within it, as the backend likes.
    At(u8, Vec<u8>),
    /// There is no more.
    End,
}

/// One kind of store. All calls block, for about `timeout` at most.
pub trait Backend: Send {
    /// Connects if not connected, and asks for a sign of life.
    ///
    /// # Errors
    /// When it cannot be reached or refuses us.
    fn open(&mut self) -> Result<(), StoreError>;

    /// Looks at the node's lease; takes it when it is free, renews it when it is ours, and takes it
    /// from its holder with `force`. Also enters the node among the nodes.
    ///
    /// # Errors
    /// When the store is away.
    fn lease(&mut self, force: bool) -> Result<Lease, StoreError>;

    /// Gives up the lease, if it is ours.
    ///
    /// # Errors
    /// When the store is away.
    fn release_lease(&mut self) -> Result<(), StoreError>;

    /// Appends the next of the hosts the store knows (about `HOSTS_PER_OP_MAX`) and moves `cursor` on. With
    /// `everyone` all of them; else those in the node's own set only. A host of ours whose
    /// going-offline was cut short by a crash is finished here: see `store/schema.rs`.
    ///
    /// # Errors
    /// When the store is away.
    fn held(
        &mut self,
        everyone: bool,
        cursor: &mut HeldCursor,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<(), StoreError>;

    /// Returns whether the node's own set exists. It is missing if the node held no host, or if the store has
    /// lost its data.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn has_own_set(&mut self) -> Result<bool, StoreError>;

    /// Returns whether the node is among the nodes, where each check of its lease enters it.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn knows_node(&mut self) -> Result<bool, StoreError>;

    /// Appends the next of the tasks that this node has dispatched and moves `cursor` on. What a crash left half stored is
    /// undone here: see `store/schema.rs`. A task may come twice, with the same facts.
    ///
    /// # Errors
    /// When the store is away.
    fn tasks(
        &mut self,
        cursor: &mut HeldCursor,
        tasks: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError>;

    /// Ends a dispatch that the store went away under: with `finish` it is stored, if it is not yet and the key
    /// is free; without, it is undone unless it is stored already.
    ///
    /// # Errors
    /// When the store is away.
    fn settle(&mut self, dispatch: &Dispatch, finish: bool) -> Result<Stored, StoreError>;

    /// Runs operations in order, as one batch, and pushes one outcome for each (a `Notice` and
    /// an `Outside` have none).
    fn run(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) -> Ran;

    /// Throws away what is older than it is kept. Called about once a minute.
    ///
    /// # Errors
    /// When the store is away.
    fn sweep(&mut self, now: UnixMs) -> Result<(), StoreError>;

    /// Names of other nodes that have no lease, and of which something is left to take over. Forgets the names of nodes that
    /// have been gone for longer than anything is kept.
    ///
    /// # Errors
    /// When the store is away.
    fn silent_nodes(&mut self, _now: UnixMs) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// Makes this node the holder of the next of the hosts that `node`, which is gone, holds, and appends them. Whether there
    /// may be more.
    ///
    /// # Errors
    /// When the store is away.
    fn take_over_hosts(
        &mut self,
        _node: &str,
        _hosts: &mut Vec<HeldHost>,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Makes the next of the tasks that `node`, which is gone, has dispatched this node's, and appends them; what a crash left
    /// half stored is undone. At the end `node` counts as taken over.
    ///
    /// # Errors
    /// When the store is away.
    fn take_over_tasks(
        &mut self,
        _node: &str,
        _now: UnixMs,
        cursor: &mut HeldCursor,
        _tasks: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        *cursor = HeldCursor::End;
        Ok(())
    }

    /// Checks that the connection is still open, without a request and without waiting. Returns whether that is
    /// possible at all.
    ///
    /// # Errors
    /// When it has been closed.
    fn look(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Returns whether confirmed writes survive the store's death: nothing needs to be replayed
    /// then.
    fn keeps_what_it_confirms(&self) -> bool {
        false
    }

    /// Writes something that harms nothing, to find out whether this connection takes writes at all.
    ///
    /// # Errors
    /// When the store is away.
    fn probe(&mut self) -> Result<(), StoreError> {
        self.open()
    }

    /// Drops the connection, if there is one: its state is not to be trusted.
    fn disconnect(&mut self);

    /// The store as it may be shown: no password.
    fn describe(&self) -> String;

    /// The node these hosts belong to, for tests of the layout.
    fn node(&self) -> &str;

    /// Reads a whole key back in a neutral form, for tests that hold one store against another.
    ///
    /// # Errors
    /// When the store is away.
    fn dump(&mut self, key: &str) -> Result<Option<Dump>, StoreError>;
}

/// A key's value, whatever store it is in.
#[derive(Clone, Debug, PartialEq)]
pub enum Dump {
    /// A string.
    Text(String),
    /// A set, sorted.
    Set(Vec<String>),
    /// A list, first to last.
    List(Vec<String>),
    /// A hash, sorted by field.
    Hash(Vec<(String, String)>),
    /// A sorted set, by score and then member.
    Sorted(Vec<(String, f64)>),
    /// A stream: the fields of each entry, oldest first.
    Stream(Vec<Vec<(String, String)>>),
}
