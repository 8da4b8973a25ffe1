//! What may be asked of the core by those who are no hosts (HTTP, the command line, handles), and
//! what they are answered.

use std::net::SocketAddr;

use compact_str::CompactString;

use crate::ids::{HostId, TaskKey};
use crate::store::op::{FoundHost, TaskState};
use crate::time::UnixMs;

/// A question or an order. Answered by one [`Answer`].
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Send a task.
    Dispatch(NewTask),
    /// Which tasks there are, the newest first, from `cursor` on (0 is the beginning).
    Tasks {
        /// Where to go on.
        cursor: u64,
        /// How many at most.
        limit: usize,
    },
    /// One task, with its hosts from `cursor` on.
    Task {
        /// Which.
        key: String,
        /// Where to go on among its hosts.
        cursor: u64,
        /// How many hosts at most.
        limit: usize,
    },
    /// All that a command put out on a host.
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
        /// To whom; to all that are online if none are named.
        hosts: Option<Vec<String>>,
        /// 32 random hex digits.
        cid: String,
    },
    /// Forget a host that is offline.
    Forget {
        /// Its name.
        host: HostId,
    },
    /// What became of a console command.
    CommandStatus {
        /// Which.
        cid: String,
    },
}

/// A task to be sent, unchecked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewTask {
    /// Its key.
    pub key: String,
    /// Command and priority.
    pub commands: Vec<(String, f64)>,
    /// The hosts; all that are online if none are named.
    pub hosts: Option<Vec<String>>,
    /// Whether hosts that are offline get it when they come.
    pub queue: bool,
    /// A random number that tells this request from all others.
    pub request: u64,
}

/// What an asker is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The task is stored; what each host is in it.
    Dispatched {
        /// Its key.
        key: TaskKey,
        /// By host.
        hosts: Vec<(HostId, TaskState)>,
        /// Hosts among them that were never seen, in the order they were named.
        unknown: Vec<HostId>,
    },
    /// Tasks.
    Tasks {
        /// The newest first.
        tasks: Vec<TaskSummary>,
        /// Where to go on, if there may be more.
        next: Option<u64>,
    },
    /// One task.
    Task(Box<TaskView>),
    /// All bytes that a command put out.
    Output(Vec<u8>),
    /// A console command went out.
    Commanded {
        /// Its id.
        cid: String,
        /// By host, whether it was sent.
        hosts: Vec<(HostId, bool)>,
        /// Hosts among them that were never seen, by name.
        unknown: Vec<HostId>,
    },
    /// The host is forgotten.
    Forgotten {
        /// Its name.
        host: HostId,
    },
    /// What became of a console command.
    Command(Box<CommandView>),
    /// It cannot be done.
    Error {
        /// Whose fault it is, or how long it lasts.
        kind: ErrorKind,
        /// In a few words.
        text: String,
    },
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked is wrong: 400.
    Wrong,
    /// There is no such thing: 404.
    Unknown,
    /// The key was used before: 409.
    Taken,
    /// Not now; the store is away, or something is full: 503.
    NotNow,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSummary {
    /// Its key.
    pub key: TaskKey,
    /// When it was stored.
    pub created: UnixMs,
    /// How many hosts are what in it; only states that somebody is in.
    pub hosts: Vec<(TaskState, u64)>,
}

/// One task, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// Its key.
    pub key: TaskKey,
    /// When it was stored.
    pub created: UnixMs,
    /// Command and priority, highest first.
    pub commands: Vec<(String, f64)>,
    /// Hosts by name, each with its state and how far it has come.
    pub hosts: Vec<(HostId, TaskState, FoundHost)>,
    /// Where to go on among the hosts, if there are more.
    pub next: Option<u64>,
}

/// A console command, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandView {
    /// Its id.
    pub cid: String,
    /// Its text.
    pub text: String,
    /// When it was sent.
    pub created: UnixMs,
    /// Hosts by name: whether it was sent, whether the host has answered, and what it put out.
    pub hosts: Vec<(HostId, bool, bool, FoundHost)>,
}

/// Something to be sent to a host by datagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Datagram {
    /// Where to.
    pub to: SocketAddr,
    /// The text. A task's key is short enough to take no memory of its own.
    pub text: CompactString,
}
