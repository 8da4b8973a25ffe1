//! Requests to the core from HTTP, the command line and handles, and their answers.

use std::net::SocketAddr;
use std::sync::Arc;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::handlers::fleet::labels::{LabelChanges, LabelSource};
use crate::handlers::survey::{Columns, Summary, Survey};
use crate::handlers::tasks::rollout::{RolloutOptions, RolloutState};
use crate::handlers::view::{Filter, HostView, PageStart};
use crate::ids::{HostId, TaskKey};
use crate::store::op::history::Run;
use crate::store::op::{FoundHost, NodeFacts, OutsideFound, TaskState, Transition, Was};
use crate::time::UnixMs;

/// A request for devices or targets of all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideRequest {
    /// The subject.
    pub what: OutsideWhat,
    /// Those of this node's configuration.
    pub rows: Vec<OutsideRow>,
}

/// Subject of a request for devices or targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutsideWhat {
    /// All devices.
    Devices,
    /// The device of this name.
    Device(String),
    /// All targets.
    Targets,
}

/// A device or target of this node's configuration, as its memory shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideRow {
    /// Name of the device, or text of the target.
    pub name: String,
    /// Another node polls it, or may do so.
    pub stands_by: bool,
    /// The JSON object that shows it.
    pub json: String,
}

/// A query or a command. Answered by one [`Response`].
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Send a task.
    Dispatch(NewTask),
    /// All tasks, the newest first, from `cursor` on (0 is the beginning).
    Tasks {
        /// Start of the page.
        cursor: u64,
        /// Maximum number of tasks.
        limit: usize,
    },
    /// Counts of the fleet, or the fleet as columns.
    Survey(Survey),
    /// One task, with its hosts from `cursor` on.
    Task {
        /// The key.
        key: String,
        /// Start of the page of its hosts.
        cursor: u64,
        /// Maximum number of hosts.
        limit: usize,
    },
    /// The whole output of a command on a host.
    Output {
        /// The task.
        key: String,
        /// The host.
        host: HostId,
        /// The command.
        command: String,
    },
    /// Send a console command, once.
    Command {
        /// Its text.
        text: String,
        /// The hosts; `None`: all online hosts.
        hosts: Option<Vec<String>>,
        /// Text of a target, instead of the hosts.
        target: Option<String>,
        /// 32 random hex digits.
        cid: String,
    },
    /// Forget a host that is offline.
    Forget {
        /// Its name.
        host: HostId,
    },
    /// Change the labels that an administrator has given a host.
    Label {
        /// Its name.
        host: HostId,
        /// The changes; `None` removes a label.
        changes: LabelChanges,
    },
    /// Hosts of any node by name.
    Named {
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// A page of the hosts of all nodes, or of one.
    Hosts {
        /// Text of a target; all hosts if there is none.
        target: Option<String>,
        /// Only hosts that this node holds.
        node: Option<String>,
        /// Selection by state.
        filter: Filter,
        /// Start of the page.
        start: PageStart,
        /// Maximum number of hosts.
        limit: usize,
    },
    /// Hosts of a task, grouped by the result of a command.
    Groups {
        /// The key.
        key: String,
        /// The command; `None`: the only one.
        command: Option<String>,
    },
    /// The nodes of the store.
    Nodes,
    /// Devices or targets of all nodes.
    Outside(Box<OutsideRequest>),
    /// History of a host, of all hosts at a time, or of the fleet.
    History(HistoryRequest),
    /// A request of a token that may send to the hosts of a target only.
    Within(Within, Box<Request>),
    /// Hosts and waves of a task, without sending it.
    Plan {
        /// The hosts; all that are online if none are named.
        hosts: Option<Vec<String>>,
        /// Target and rollout.
        options: Box<RolloutOptions>,
    },
    /// Cancel a task.
    Cancel {
        /// Its key.
        key: String,
    },
    /// Pause the rollout of a task.
    Pause {
        /// Its key.
        key: String,
    },
    /// Resume the rollout of a task.
    Resume {
        /// Its key.
        key: String,
    },
    /// Answers to a console command.
    CommandStatus {
        /// Its id.
        cid: String,
    },
}

impl Request {
    /// Returns whether it only reads, and takes many turns: it may end before its answer if the
    /// requester is gone.
    #[must_use]
    pub fn is_long_read(&self) -> bool {
        matches!(
            self,
            Self::Survey(_)
                | Self::Hosts {
                    target: Some(_),
                    ..
                }
                | Self::Groups { .. }
                | Self::Plan { .. }
                | Self::CommandStatus { .. }
        )
    }
}

/// Hosts of a task, grouped by the result of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupsView {
    /// The task.
    pub key: TaskKey,
    /// The command.
    pub command: String,
    /// Groups, the largest first.
    pub groups: Vec<ResultGroup>,
    /// Hosts without a result, by their state.
    pub without: Vec<(TaskState, Vec<HostId>)>,
}

/// Hosts with the same result.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultGroup {
    /// The exit status.
    pub exit: i32,
    /// SHA-256 of the output, in hex.
    pub sha256: String,
    /// The hosts.
    pub hosts: Vec<HostId>,
    /// Bytes of the output that the store has.
    pub size: u64,
    /// The output, or its beginning, if it is among those that are shown.
    pub output: Option<Vec<u8>>,
}

/// A query of the history.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryRequest {
    /// Transitions of a host.
    Host {
        /// Its name.
        host: HostId,
    },
    /// States of hosts at a time, from `cursor` on (0 is the beginning).
    At {
        /// The time.
        at: UnixMs,
        /// Start of the page.
        cursor: u64,
        /// Maximum number of hosts.
        limit: usize,
    },
    /// Hosts online by minute.
    Fleet {
        /// Number of minutes up to now.
        minutes: u64,
    },
}

/// History, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryView {
    /// Of a host.
    Host {
        /// Its name.
        host: HostId,
        /// Number of its connections.
        connections: u32,
        /// It has proved a key.
        keyed: bool,
        /// It receives tasks over its connection.
        push: bool,
        /// The last transitions, the oldest first.
        transitions: Vec<Transition>,
        /// Times since the first of them in which no server ran.
        away: Vec<Run>,
        /// The store could be read.
        complete: bool,
    },
    /// States at a time.
    At {
        /// The time.
        at: UnixMs,
        /// No server ran then: from when to when.
        away: Option<Run>,
        /// Hosts, with their state if it is known.
        hosts: Vec<(HostId, Option<Was>)>,
        /// Start of the next page.
        next: Option<u64>,
        /// The store could be read.
        complete: bool,
    },
    /// Hosts online by minute.
    Fleet {
        /// The first minute, counted from 1970.
        from: u64,
        /// Hosts online, from that minute on; `None` where nothing was counted.
        online: Vec<Option<u32>>,
        /// Times in which no server ran.
        away: Vec<Run>,
        /// The store could be read.
        complete: bool,
    },
}

/// A task to be sent, unchecked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewTask {
    /// Its key.
    pub key: String,
    /// Command and priority.
    pub commands: Vec<(String, f64)>,
    /// The hosts; `None`: all online hosts.
    pub hosts: Option<Vec<String>>,
    /// Hosts that are offline receive it when they come online.
    pub queue: bool,
    /// A random number that identifies this request.
    pub request: u64,
    /// Target, instead of the hosts, and rollout.
    pub rollout: Box<RolloutOptions>,
}

/// A token with a target, to whose hosts alone it may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// Name of the token.
    pub token: String,
    /// Text of the target: names and networks only.
    pub target: String,
}

/// Answer to a requester.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The task is stored, with the state of each host.
    Dispatched {
        /// Its key.
        key: TaskKey,
        /// By host.
        hosts: Arc<Vec<(HostId, TaskState)>>,
        /// Hosts among them that were never seen, in the order they were named.
        unknown: Vec<HostId>,
    },
    /// Tasks.
    Tasks {
        /// The newest first.
        tasks: Vec<TaskSummary>,
        /// Start of the next page, if there may be one.
        next: Option<u64>,
    },
    /// Counts of the fleet.
    Summary(Box<Summary>),
    /// A page of the fleet.
    Columns(Box<Columns>),
    /// One task.
    Task(Box<TaskView>),
    /// The whole output of a command.
    Output(Vec<u8>),
    /// A console command was sent.
    Commanded {
        /// Its id.
        cid: String,
        /// By host, whether it was sent.
        hosts: Vec<(HostId, bool)>,
        /// Hosts among them that were never seen, by name.
        unknown: Vec<HostId>,
    },
    /// The labels of a host are changed.
    Labels {
        /// Its name.
        host: HostId,
        /// All its labels: key, value and source.
        labels: Vec<(String, String, LabelSource)>,
    },
    /// Hosts by name, in the order of the names; none for a host that is not known.
    Named(Vec<Option<HostView<'static>>>),
    /// A page of hosts.
    Hosts {
        /// The hosts.
        hosts: Vec<HostView<'static>>,
        /// Start of the next page, if there may be one.
        next: Option<PageStart>,
    },
    /// Devices or targets of all nodes: the request, and the states of the store.
    Outside(Box<OutsideRequest>, Box<OutsideFound>),
    /// The nodes of the store, by name.
    Nodes(Vec<NodeFacts>),
    /// Hosts and waves of a task.
    Planned(Box<PlanView>),
    /// A rollout is paused or resumed.
    Rollout {
        /// Key of the task.
        key: String,
        /// Its rollout.
        rollout: RolloutView,
    },
    /// A task is cancelled.
    Cancelled(Box<Cancelled>),
    /// The host is forgotten.
    Forgotten {
        /// Its name.
        host: HostId,
    },
    /// Hosts of a task, grouped.
    Groups(Box<GroupsView>),
    /// History.
    History(Box<HistoryView>),
    /// Answers to a console command.
    Command(Box<CommandView>),
    /// The request cannot be fulfilled.
    Error {
        /// Kind of the error: a mistake in the request, or a condition that may pass.
        kind: ErrorKind,
        /// Short text.
        text: String,
    },
}

/// Kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The request is wrong: 400.
    Wrong,
    /// There is no such thing: 404.
    Unknown,
    /// The key was used before: 409.
    Taken,
    /// Temporarily impossible; the store is unavailable, or a table is full: 503.
    NotNow,
    /// A host is outside of the target of the requester's token: 403.
    Forbidden,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSummary {
    /// Its key.
    pub key: TaskKey,
    /// Creation time.
    pub created: UnixMs,
    /// Number of hosts in each state; only states with a host.
    pub hosts: Vec<(TaskState, u64)>,
    /// Its target and rollout.
    pub rollout: Option<RolloutView>,
}

/// One task, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// Its key.
    pub key: TaskKey,
    /// Creation time.
    pub created: UnixMs,
    /// Command and priority, highest first.
    pub commands: Vec<(String, f64)>,
    /// Hosts by name, each with its state and progress.
    pub hosts: Vec<(HostId, TaskState, FoundHost)>,
    /// Start of the next page of hosts, if there is one.
    pub next: Option<u64>,
    /// Its target and rollout.
    pub rollout: Option<RolloutView>,
}

/// A rollout, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Text of the target.
    pub target: Option<String>,
    /// SHA-256 of the frozen list of hosts.
    pub digest: String,
    /// Its state.
    pub state: RolloutState,
    /// The present wave, from 1.
    pub wave: u64,
    /// Number of waves.
    pub waves: u64,
    /// Reason for a pause.
    pub why: Option<String>,
}

/// Hosts and waves of a task that is not sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanView {
    /// Text of the target.
    pub target: Option<String>,
    /// Number of hosts.
    pub hosts: u64,
    /// Hosts that are offline.
    pub offline: u64,
    /// SHA-256 of the list of hosts.
    pub digest: String,
    /// The waves, the first first.
    pub waves: Vec<PlannedWave>,
}

/// A wave of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlannedWave {
    /// Number of hosts.
    pub hosts: u64,
    /// Hosts that are offline.
    pub offline: u64,
    /// The hosts, folded.
    pub folded: String,
}

/// What became of a cancelled task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Key of the task.
    pub key: String,
    /// Hosts that are not sent to, or not again.
    pub cancelled: u64,
    /// Hosts that were asked to end it.
    pub asked: u64,
    /// Hosts that are at it and cannot be asked.
    pub cannot: Vec<HostId>,
}

/// A console command, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandView {
    /// Its id.
    pub cid: String,
    /// Its text.
    pub text: String,
    /// Creation time.
    pub created: UnixMs,
    /// Hosts by name: whether it was sent, whether the host has answered, and its output.
    pub hosts: Vec<(HostId, bool, bool, FoundHost)>,
}

/// A datagram to a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Datagram {
    /// Destination.
    pub to: SocketAddr,
    /// The text. A task's key is short enough to take no memory of its own.
    pub text: CompactString,
}

impl Response {
    /// Number of hosts of the request, if the answer gives it.
    #[must_use]
    pub fn hosts(&self) -> Option<u64> {
        match self {
            Self::Dispatched { hosts, .. } => Some(hosts.len() as u64),
            Self::Commanded { hosts, .. } => Some(hosts.len() as u64),
            _ => None,
        }
    }
}

impl From<(ErrorKind, String)> for Response {
    fn from((kind, text): (ErrorKind, String)) -> Self {
        Self::Error { kind, text }
    }
}
