//! The store: operations of the core, written to Redis or to the embedded store by a thread of its
//! own.
//!
//! ```text
//!  core ──Batch──▶ bounded channel ──▶ worker ──ops──▶ backend: Redis or embedded
//!    ▲                                   │  │
//!    └──Outcome──◀ bounded channel ◀─────┘  └──▶ spool, while the backend is unavailable
//! ```
//!
//! The reactor uses [`op`] and the two channels. All other modules belong to the store thread.

pub mod address;
#[cfg(feature = "embedded")]
pub mod embedded;
mod events;
mod held;
pub mod op;
mod progress;
mod records;
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
    /// The `complete` list and field of a host are deleted when it ends.
    pub clear_on_done: bool,
    /// Time for which finished records are stored.
    pub keep: Span,
    /// Time limit of the store, after which it counts as unavailable.
    pub timeout: Span,
    /// Number of replicas that must have a report before it is confirmed.
    pub wait_replicas: usize,
    /// Facts of the node that others are shown.
    pub info: NodeInfo,
}

/// Facts of a node that others are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Version of its program.
    pub version: String,
    /// Address of its HTTP API.
    pub http: String,
    /// Time of its start.
    pub started: UnixMs,
}

/// Error of a store operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or cannot serve now (LOADING, READONLY, OOM, MISCONF,
    /// CLUSTERDOWN, TRYAGAIN, NOREPLICAS, no permission, a full disk). The operations wait.
    #[error("{0}")]
    Unavailable(String),
    /// The connection broke, or no answer came in time, while operations were in progress. They
    /// wait, but one of them may be the cause.
    #[error("{0}")]
    Broken(String),
    /// The store refuses the user or the password. Waiting does not help.
    #[error("{0}")]
    Refused(String),
    /// The file of the store is damaged. Waiting does not help.
    #[error("{0}")]
    Damaged(String),
}

/// Result of a batch.
#[derive(Debug, Default)]
pub struct Ran {
    /// Number of operations, from the first, that are settled. Their outcomes have been pushed.
    pub done: usize,
    /// Reason for stopping there. The state of the others is unknown, and all can be repeated.
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

    /// Checks the guarantees of a backend that has run `ops`.
    ///
    /// # Panics
    /// When one is violated: the worker then treats the backend like one that panicked.
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
        Op::History(_) => "the history of the fleet".to_owned(),
        Op::Ring(op) => format!("an entry for the inbox of node {}", op.node),
        Op::Polls(_) => "leases of devices and targets".to_owned(),
        Op::Rung(_) => "the inbox".to_owned(),
        Op::Command(op) => format!("the console command {}", op.cid),
        _ => return op.refused(reason),
    };
    log::warn!(
        subject = subject, reason = reason;
        "store: {subject} cannot be written: {reason}"
    );
    op.refused(reason)
}

/// Numbers of commands that a server of a Redis Cluster redirected, and of readings of its map, since
/// they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redirects {
    /// The slot belongs to another server.
    pub moved: usize,
    /// The slot is being moved to another server.
    pub asked: usize,
    /// Readings of the map of the slots.
    pub refreshes: usize,
}

impl std::ops::AddAssign for Redirects {
    fn add_assign(&mut self, more: Self) {
        self.moved += more.moved;
        self.asked += more.asked;
        self.refreshes += more.refreshes;
    }
}

/// State of the node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// This process holds it.
    Ours,
    /// It was missing, and this process holds it now: the store has lost its data, or this process
    /// did not renew it for too long.
    Taken,
    /// Another process holds it.
    Foreign {
        /// Time to live, unless it is renewed.
        left: Span,
    },
}

/// The other nodes of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodesSeen {
    /// Whether there are others that may hold hosts; `None` if the store cannot be shared.
    pub are_several: Option<bool>,
    /// Number of others that hold their leases.
    pub live: usize,
    /// Entries of this node's inbox.
    pub inbox: usize,
    /// Nodes without a lease that have left hosts or tasks.
    pub silent: Vec<String>,
}

/// Position in a reading of all hosts or tasks. Opaque to the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeldCursor {
    /// From the beginning.
    #[default]
    Start,
    /// Stage, and position within it, in the form of the backend.
    At(u8, Vec<u8>),
    /// The end.
    End,
}

/// A kind of store. All calls block, for about [`Settings::timeout`] at most.
pub trait Backend: Send {
    /// Connects if it is not connected, and tests the connection.
    ///
    /// # Errors
    /// When the store cannot be reached, or refuses the connection.
    fn open(&mut self) -> Result<(), StoreError>;

    /// Checks the node's lease: takes a free one, renews its own, and takes a foreign one with
    /// `force`. Also enters the node among the nodes.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn lease(&mut self, force: bool) -> Result<Lease, StoreError>;

    /// Gives up the lease, if this process holds it.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn release_lease(&mut self) -> Result<(), StoreError>;

    /// Appends the next page of hosts (about `HOSTS_PER_OP_MAX`) and advances `cursor`: all hosts
    /// that the store knows with `all_hosts`, else those in the node's own set. A change that a
    /// crash interrupted is finished here: see `store/schema.rs`.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn held(
        &mut self,
        all_hosts: bool,
        cursor: &mut HeldCursor,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<(), StoreError>;

    /// Returns whether the node's own set exists. It is missing if the node held no host, or if the
    /// store has lost its data.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn has_own_set(&mut self) -> Result<bool, StoreError>;

    /// Returns whether the node is among the nodes, where each check of its lease enters it.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn has_node(&mut self) -> Result<bool, StoreError>;

    /// Appends the next page of the tasks that this node has dispatched and advances `cursor`. A
    /// task that a crash left half stored is removed here: see `store/schema.rs`. A task may come
    /// twice, with the same facts.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn tasks(
        &mut self,
        cursor: &mut HeldCursor,
        tasks: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError>;

    /// Settles a dispatch that was in progress when the store became unavailable. With `finish` it
    /// is stored, if it is not yet and the key is free; else it is removed unless it is stored.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn settle(&mut self, dispatch: &Dispatch, finish: bool) -> Result<Stored, StoreError>;

    /// Runs operations in order, as one batch, and pushes one outcome for each that
    /// [has one](Op::has_outcome).
    fn run(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) -> Ran;

    /// Deletes records that are older than they are kept. Called about once a minute.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn sweep(&mut self, now: UnixMs) -> Result<(), StoreError>;

    /// Examines the other nodes. Deletes the names of nodes whose records have expired.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn look_at_nodes(&mut self, _now: UnixMs) -> Result<NodesSeen, StoreError> {
        Ok(NodesSeen::default())
    }

    /// Ends the next page of the hosts that `node`, which is gone, holds, as lost, and appends those
    /// that were ended. Returns whether there may be more.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn end_hosts(
        &mut self,
        _node: &str,
        _now: UnixMs,
        _hosts: &mut Vec<HeldHost>,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Takes over the next page of the tasks that `node`, which is gone, has dispatched, and
    /// appends them. A task that a crash left half stored is removed. At the end `node` counts as
    /// taken over.
    ///
    /// # Errors
    /// When the store is unavailable.
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

    /// Entries of this node's inbox after the entry `after`, at most `max`.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn read_inbox(
        &mut self,
        _after: Option<&str>,
        _max: usize,
    ) -> Result<Vec<op::Bell>, StoreError> {
        Ok(Vec::new())
    }

    /// Checks that the connection is still open, without a request and without waiting. Returns
    /// whether this kind of store can do that.
    ///
    /// # Errors
    /// When it has been closed.
    fn look(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Returns whether confirmed writes survive the death of the store, so that none is replayed.
    fn keeps_what_it_confirms(&self) -> bool {
        false
    }

    /// Returns whether another server may take over without the last confirmed writes. Then each
    /// connection counts as one to a store that may have lost tasks, and reports are kept for longer.
    fn is_replicated(&self) -> bool {
        false
    }

    /// Takes the counts of redirected commands since the last call.
    fn take_redirects(&mut self) -> Redirects {
        Redirects::default()
    }

    /// Tests with a harmless write whether this connection takes writes.
    ///
    /// # Errors
    /// When the store is unavailable.
    fn probe(&mut self) -> Result<(), StoreError> {
        self.open()
    }

    /// Drops the connection, whose state is unknown.
    fn disconnect(&mut self);
}

/// The value of a key in a neutral form, for tests that compare stores.
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
