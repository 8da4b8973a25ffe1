//! Tasks in the store: how one is stored, what each host is in it, what came back, and the
//! questions about it. Part of [`op`](super): plain data.

use serde::{Deserialize, Serialize};

use super::{Origin, Stamp};
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
    /// Output in base64, as it is stored.
    pub output: String,
    /// Bytes of it before that.
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
    /// No host of the task may change state any more: the keys of these hosts expire.
    pub over: bool,
    /// These are the last of its hosts: with `over`, the keys of the whole task expire, too.
    pub last: bool,
}

/// Rule for the expiry of the keys of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// The server knows no such task: it expires when a host has ended with it.
    #[default]
    Foreign,
    /// A host of it may still change state: none of its keys expires.
    Open,
    /// No host of it may change state any more: each key that is written expires.
    Over,
}

/// A task to be stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dispatch {
    /// Random: tells our own claim from another's when this is run again.
    pub request: u64,
    /// Its key.
    pub key: TaskKey,
    /// Creation time.
    pub created: UnixMs,
    /// Hosts that are offline receive it when they come online.
    pub queue: bool,
    /// Command and priority.
    pub commands: Vec<(String, f64)>,
    /// Every host named, and what it is: at first `sent`, `queued` or `offline`.
    pub hosts: Vec<(HostId, TaskState)>,
    /// For the event.
    pub stamp: Stamp,
}

/// A question to the store.
#[derive(Clone, Debug)]
pub struct Read {
    /// Sent back with the answer.
    pub ticket: u64,
    /// The question.
    pub question: Question,
}

/// Questions to the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Progress of these hosts in a task: working, complete, oncall, and results with at most
    /// `OUTPUT_SHOWN_BYTES_MAX` of each output.
    Task {
        /// The task's key.
        key: TaskKey,
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// Outputs of a console command on these hosts, likewise. An id is not a key: it has no lists.
    Command {
        /// Its id.
        cid: String,
        /// The hosts.
        hosts: Vec<HostId>,
    },
    /// A task as it is stored, whatever node dispatched it.
    Whole {
        /// Its key.
        key: TaskKey,
    },
    /// All bytes that a command put out on a host.
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
    /// To `Question::Task` and `Question::Command`, in the order asked.
    Task(Vec<FoundHost>),
    /// To `Question::Whole`: the task, if there is one.
    Whole(Option<Box<HeldTask>>),
    /// To `Question::Output`: the bytes, if there are any.
    Output(Option<Vec<u8>>),
    /// The store went away, or has something else under that key.
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
    /// By command.
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

/// State of a host in a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It was not online when the task was sent.
    Offline,
    /// The task is sent to it when it comes online.
    Queued,
    /// Sent, no answer yet.
    Sent,
    /// It has the key.
    Answered,
    /// It has reported a phase.
    Working,
    /// All tries are over.
    Unanswered,
    /// It finds no book under the key.
    NoBook,
    /// It was at work when it ended, or for longer than allowed.
    Lost,
    /// Nothing is left.
    Done,
    /// Finished, and something failed or was refused.
    Failed,
    /// It was `Queued`, `Lost` or `Unanswered` when the task's time was over.
    Expired,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Offline,
        Self::Queued,
        Self::Sent,
        Self::Answered,
        Self::Working,
        Self::Unanswered,
        Self::NoBook,
        Self::Lost,
        Self::Done,
        Self::Failed,
        Self::Expired,
    ];

    /// The word as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Working => "working",
            Self::Unanswered => "unanswered",
            Self::NoBook => "no-book",
            Self::Lost => "lost",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// The state a stored word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

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
            // Whether a host was online when the task was sent is settled once and for all.
            T::Queued | T::Sent => !matches!(next, T::Offline | T::Queued),
            T::Answered => matches!(next, T::Working | T::NoBook | T::Lost | T::Done | T::Failed),
            T::Working => matches!(next, T::NoBook | T::Lost | T::Done | T::Failed),
            // A key that comes again is answered again, also by a host that has given its task up: only
            // what it reports of the work makes the task more than lost.
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

    /// Returns whether the state is final. A `no-book` may still become `working`, until the task's time is over.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Offline | Self::Done | Self::Failed | Self::Expired
        )
    }

    /// Returns whether the state is terminal, as far as this node knows.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        !matches!(
            self,
            Self::Queued | Self::Sent | Self::Answered | Self::Working
        )
    }
}

/// A task as the store has it.
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
    /// Every host named, its state, and whether a result of it has an exit other than 0.
    pub hosts: Vec<(HostId, TaskState, bool)>,
    /// Its keys have a time to live.
    pub expires: bool,
}

/// Result of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored: to be sent.
    Whole,
    /// The key was used before; nothing has changed.
    Taken,
    /// The store is away or went away before anything was stored for good; nothing is.
    Undone(String),
    /// The store will not have it; nothing is stored.
    Refused(String),
}
