//! Tasks in the store: dispatches, states of hosts, results, and questions about them. Part of
//! [`op`](super): plain data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    CommandRecord, FleetHistory, Holders, HostRecord, HostScan, NodeFacts, Origin, OthersCursor,
    OthersPage, OutsideFound, ScanPlace, Stamp, TaskPart, Transition,
};
use crate::ids::{HostId, TaskKey};
use crate::time::UnixMs;

/// An ADH43.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskResult {
    /// Its origin; `None` if it comes from the spool.
    #[serde(skip)]
    pub origin: Option<Origin>,
    /// The host.
    pub host: HostId,
    /// The task's key, or the id of a console command (32 hex digits).
    pub code: String,
    /// The command.
    pub command: String,
    /// Its exit status.
    pub exit: i32,
    /// Run time in seconds.
    pub seconds: f64,
    /// SHA-256 of `output`, in hex.
    pub sha256: String,
    /// The output was cut.
    pub truncated: bool,
    /// Output in base64.
    pub output: String,
    /// Bytes of the whole output.
    pub size: u64,
    /// Its lifetime.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// For the event.
    pub stamp: Stamp,
}

/// States of hosts in a task.
#[derive(Clone, Debug)]
pub struct TaskStates {
    /// The task.
    pub key: TaskKey,
    /// Hosts and their new states.
    pub states: Vec<(HostId, TaskState)>,
    /// No host of the task may change state any more, so the keys of these hosts expire.
    pub over: bool,
    /// These are the last hosts of the task: with `over`, the keys of the whole task expire, too.
    pub last: bool,
}

/// Rule for the expiry of the keys of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// The server does not know the task: its keys expire when a host has ended.
    #[default]
    Foreign,
    /// A host may still change state: no key expires.
    Open,
    /// No host may change state any more: each written key expires.
    Over,
}

/// A task to be stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dispatch {
    /// Random number by which its own claim is recognized when it is repeated.
    pub request: u64,
    /// Its key.
    pub key: TaskKey,
    /// Creation time.
    pub created: UnixMs,
    /// Hosts that are offline receive it when they come online.
    pub queue: bool,
    /// Command and priority.
    pub commands: Vec<(String, f64)>,
    /// Every named host, with its state: at first `sent`, `queued` or `offline`. Shared with the
    /// core.
    pub hosts: Arc<Vec<(HostId, TaskState)>>,
    /// Hosts that other nodes hold, by node: these are rung when the task is stored.
    #[serde(default)]
    pub rings: Vec<(String, Vec<HostId>)>,
    /// For the event.
    pub stamp: Stamp,
    /// Its target and rollout, as JSON.
    #[serde(default)]
    pub rollout: Option<String>,
    /// Its keeper epoch.
    #[serde(default)]
    pub epoch: u64,
}

/// Target and rollout of a stored task. Written only if no later keeper has written it.
#[derive(Clone, Debug)]
pub struct RolloutText {
    /// The task.
    pub key: TaskKey,
    /// The rollout as JSON, with the keeper epoch as `epoch`.
    pub text: String,
    /// Keeper epoch of the writer.
    pub epoch: u64,
}

/// The node that keeps a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// Its name.
    pub node: String,
    /// Keeper epoch: number of times that another node has taken the task over.
    pub epoch: u64,
}

/// A question to the store.
#[derive(Clone, Debug)]
pub struct Read {
    /// Returned with the answer.
    pub ticket: u64,
    /// The question.
    pub question: Question,
}

/// Questions to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Progress of these hosts in a task: working, complete, oncall, and results with at most
    /// `OUTPUT_SHOWN_BYTES_MAX` of each output.
    Task {
        /// The task's key.
        key: TaskKey,
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// Outputs of a console command on these hosts, likewise. It has no lists.
    Command {
        /// Its id.
        cid: String,
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// A console command with hosts at several nodes, and their states.
    CommandRecord {
        /// Its id.
        cid: String,
    },
    /// The text of such a command, once this entry of this node's inbox is deleted. None if it was
    /// deleted before.
    TakeCommand {
        /// Its id.
        cid: String,
        /// The entry.
        entry: String,
    },
    /// A stored task, of any node.
    Whole {
        /// Its key.
        key: TaskKey,
    },
    /// Results of one command on these hosts, without their outputs.
    Results {
        /// The task's key.
        key: TaskKey,
        /// The command.
        command: String,
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// Stored transitions of these hosts.
    Transitions {
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// Some hosts of a task, of any node.
    Part {
        /// The task's key.
        key: TaskKey,
        /// The hosts.
        hosts: Vec<HostId>,
        /// The node that holds each of them is asked for, too.
        with_holders: bool,
    },
    /// Open tasks that name any of these hosts.
    Open {
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// The nodes that keep these tasks.
    Keepers {
        /// The tasks' keys.
        keys: Vec<TaskKey>,
    },
    /// The nodes that hold these hosts.
    Holders {
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// A page of the hosts of other nodes.
    Others {
        /// Its position; `None` is the beginning.
        cursor: Option<OthersCursor>,
    },
    /// Counts of hosts online, from this hour on, counted from 1970; and the runs.
    FleetHistory {
        /// The first hour.
        from: u64,
    },
    /// The nodes of the store.
    Nodes,
    /// States of the devices and targets of all nodes, and of these devices.
    Outside {
        /// Devices of the configuration.
        devices: Vec<HostId>,
    },
    /// Stored hosts of any node, by name.
    Hosts {
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// A page of the stored hosts of any node.
    Scan(HostScan),
    /// The whole output of a command on a host.
    Output {
        /// The task's key, or the id of a console command.
        code: String,
        /// The host.
        host: HostId,
        /// The command.
        command: String,
    },
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// To `Question::Task` and `Question::Command`, in the order of the hosts.
    Task(Vec<FoundHost>),
    /// To `Question::CommandRecord` and `Question::TakeCommand`: the command, if there is one.
    CommandRecord(Option<Box<CommandRecord>>),
    /// To `Question::Whole`: the task, if there is one.
    Whole(Option<Box<HeldTask>>),
    /// To `Question::Output`: the bytes, if there are any.
    Output(Option<Vec<u8>>),
    /// To `Question::Results`, in the order of the hosts.
    Results(Vec<Option<FoundResult>>),
    /// To `Question::Transitions`, in the order of the hosts.
    Transitions(Vec<Vec<Transition>>),
    /// To `Question::Part`: the task, if there is one.
    Part(Option<Box<TaskPart>>),
    /// To `Question::Open`: each task, and those of the hosts that it names and that have not
    /// ended there.
    Open(Vec<(TaskKey, Vec<HostId>)>),
    /// To `Question::Keepers`, in the order of the keys; none for a task that is gone.
    Keepers(Vec<Option<Keeper>>),
    /// To `Question::Holders`.
    Holders(Box<Holders>),
    /// To `Question::Others`.
    Others(Box<OthersPage>),
    /// To `Question::FleetHistory`.
    FleetHistory(Box<FleetHistory>),
    /// To `Question::Nodes`, by name.
    Nodes(Vec<NodeFacts>),
    /// To `Question::Outside`.
    Outside(Box<OutsideFound>),
    /// To `Question::Hosts`, in the order of the hosts; none for a host that is not known.
    Hosts(Vec<Option<HostRecord>>),
    /// To `Question::Scan`.
    Scan {
        /// The hosts.
        hosts: Vec<HostRecord>,
        /// Hosts that are online, in a brief scan.
        names: Vec<HostId>,
        /// Start of the next page.
        next: Option<ScanPlace>,
    },
    /// The store became unavailable, or the key has another type: the reason.
    Nothing(String),
}

/// Progress of one host in a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundHost {
    /// The command it runs.
    pub working: Option<String>,
    /// Finished commands, in order.
    pub complete: Vec<String>,
    /// Remaining commands, the next first.
    pub oncall: Vec<String>,
    /// Results, by command.
    pub results: Vec<FoundResult>,
}

/// A result as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundResult {
    /// The command.
    pub command: String,
    /// Its exit status.
    pub exit: i32,
    /// Run time in seconds.
    pub seconds: f64,
    /// Bytes of its output.
    pub size: u64,
    /// Their SHA-256 in hex.
    pub sha256: String,
    /// The output was cut.
    pub truncated: bool,
    /// The beginning of the output.
    pub output: Vec<u8>,
}

words! {
    /// State of a host in a task.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum TaskState {
        /// It was not online when the task was sent.
        Offline = "offline",
        /// The task is sent to it when it comes online.
        Queued = "queued",
        /// Sent, and not answered yet.
        Sent = "sent",
        /// It has the key.
        Answered = "answered",
        /// It has reported a phase.
        Working = "working",
        /// All attempts are over.
        Unanswered = "unanswered",
        /// It finds no book under the key.
        NoBook = "no-book",
        /// It was busy when it went away, or for longer than allowed.
        Lost = "lost",
        /// No command remains.
        Done = "done",
        /// No command remains, and one failed or was refused.
        Failed = "failed",
        /// It was `Queued`, `Lost` or `Unanswered` when the task's time was over.
        Expired = "expired",
        /// Its wave has not begun.
        Held = "held",
        /// The task was cancelled before the host had finished it.
        Cancelled = "cancelled",
    }
}

impl TaskState {
    /// Returns whether a host in this state can change to `next`. A state may always stay the same.
    /// The caller checks that `no-book` becomes `working` only by a phase 1.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use TaskState as T;
        if self as u8 == next as u8 {
            return true;
        }
        match self {
            T::Offline | T::Done | T::Failed | T::Expired => false,
            // The state at the time of the dispatch never comes back.
            T::Queued | T::Sent => !matches!(next, T::Offline | T::Queued | T::Held),
            T::Held => true,
            T::Answered => matches!(
                next,
                T::Working | T::NoBook | T::Lost | T::Done | T::Failed | T::Cancelled
            ),
            T::Working => matches!(
                next,
                T::NoBook | T::Lost | T::Done | T::Failed | T::Cancelled
            ),
            // An answer says only that the host has the key: work that goes on is what counts.
            T::Cancelled => matches!(next, T::Working | T::NoBook | T::Lost | T::Done | T::Failed),
            // A host answers a repeated key even if it has dropped the task: only a report on the
            // work ends `lost`.
            T::Lost => matches!(
                next,
                T::Working | T::NoBook | T::Done | T::Failed | T::Expired
            ),
            T::Unanswered => matches!(
                next,
                T::Answered | T::Working | T::NoBook | T::Lost | T::Done | T::Failed | T::Expired
            ),
            T::NoBook => matches!(next, T::Working),
        }
    }

    /// Returns whether a host in this state can reach `next`, in any number of steps.
    #[must_use]
    pub fn may_reach(self, next: Self) -> bool {
        let mut reached = vec![self];
        let mut looked_at = 0;
        while let Some(state) = reached.get(looked_at).copied() {
            looked_at += 1;
            for other in Self::ALL {
                if state.may_become(other) && !reached.contains(&other) {
                    reached.push(other);
                }
            }
        }
        reached.contains(&next)
    }

    /// Returns whether the state never changes. A `no-book` may become `working` until the task
    /// expires.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Offline | Self::Done | Self::Failed | Self::Expired
        )
    }

    /// Returns whether the state is terminal for this node.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        !matches!(
            self,
            Self::Held | Self::Queued | Self::Sent | Self::Answered | Self::Working
        )
    }
}

/// A stored task.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldTask {
    /// Its key.
    pub key: TaskKey,
    /// Creation time.
    pub created: UnixMs,
    /// Hosts that are offline receive it when they come online.
    pub queue: bool,
    /// The random number of the request that stored it.
    pub request: u64,
    /// Command and priority, highest first.
    pub commands: Vec<(String, f64)>,
    /// Every named host, its state, and whether one of its results has an exit status other than 0.
    pub hosts: Vec<(HostId, TaskState, bool)>,
    /// Its keys have a time to live.
    pub expires: bool,
    /// Its target and rollout, as JSON.
    pub rollout: Option<String>,
    /// Its keeper epoch.
    pub epoch: u64,
}

/// Result of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored, and can be sent.
    Whole,
    /// The key was used before; nothing has changed.
    Taken,
    /// The store was or became unavailable, and nothing is stored.
    Undone(String),
    /// The store refuses it, and nothing is stored.
    Refused(String),
}
