//! Tasks with hosts of several nodes: bells, and questions about hosts and tasks of other nodes. Part
//! of [`op`](super): plain data.

use super::HeldTask;
use crate::ids::{HostId, TaskKey};
use crate::time::UnixMs;

/// Subject of an entry of an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum About {
    /// The task of this key.
    Task(TaskKey),
    /// The console command of this id.
    Command(String),
}

/// An entry for the inbox of a node: hosts of a task whose states in the store it is to look at, or of
/// a console command that it is to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// The node.
    pub node: String,
    /// The subject.
    pub about: About,
    /// Its hosts, at most [`BELL_HOSTS_MAX`](crate::limits::BELL_HOSTS_MAX).
    pub hosts: Vec<HostId>,
    /// Number of times that the entry was forwarded.
    pub hops: u8,
    /// A letter about the task, as JSON.
    pub letter: Option<String>,
}

/// An entry of this node's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bell {
    /// Id of the entry.
    pub id: String,
    /// The subject; `None` for an entry that is not understood.
    pub about: Option<About>,
    /// Its hosts.
    pub hosts: Vec<HostId>,
    /// Number of times that the entry was forwarded.
    pub hops: u8,
    /// A letter about the task, as JSON.
    pub letter: Option<String>,
    /// The entry may have waited for longer than [`LETTER_AGE_S_MAX`](crate::limits::LETTER_AGE_S_MAX).
    pub is_late: bool,
}

/// A console command with hosts at several nodes, or what became of some of its hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandRecord {
    /// Its id.
    pub cid: String,
    /// Its text and the time of the command; `None` if only states are written.
    pub text: Option<(String, UnixMs)>,
    /// Some of its hosts, each with its state.
    pub hosts: Vec<(HostId, CommandState)>,
}

words! {
    /// State of a host in a console command.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    pub enum CommandState {
        /// It was not online.
        Offline = "offline",
        /// It is sent to.
        Sent = "sent",
        /// It has answered, or its output is stored.
        Answered = "answered",
    }
}

/// Some hosts of a stored task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPart {
    /// The task, with those of the hosts that it names.
    pub task: HeldTask,
    /// The node that keeps it.
    pub keeper: String,
    /// The node that holds each host of it, if that was asked for and one does.
    pub holders: Vec<Option<String>>,
}

/// The nodes that hold some hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Place of the holder of each host in `nodes`; none if no other node holds it.
    pub of: Vec<Option<usize>>,
    /// The nodes, and the length of each one's inbox.
    pub nodes: Vec<(String, usize)>,
}

/// Position in a reading of the hosts of other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OthersCursor {
    /// The nodes still to be read, the present one last.
    pub nodes: Vec<String>,
    /// Position in the set of the present one; empty at its beginning.
    pub position: Vec<u8>,
}

/// A page of the hosts of other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OthersPage {
    /// Their node, and the length of its inbox; none if there is no other node.
    pub node: Option<(String, usize)>,
    /// Some of its hosts.
    pub hosts: Vec<HostId>,
    /// Position of the next page, if there may be one.
    pub next: Option<OthersCursor>,
}
