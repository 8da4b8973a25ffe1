//! Operations of the store and their outcomes: plain data, the only part of the store that other rooms may name.
//!
//! There are four kinds of operation:
//!
//! * **State** (`Online`, `Offline`, `Inventory`, `Forget`, `Seen`, `Audit`, `Notice`, `Outside`, `TaskStates`, `Restore`): the latest wins. While the store is
//!   unavailable it is not stored as history; the core writes it again from its present view.
//! * **Transactions** (`Dispatch`): stored whole or not at all. One that is in progress when the store goes away is
//!   settled after the reconnection.
//! * **Questions** (`Read`): dropped when the store goes away.
//! * **Reports** (`Progress`, `Answer`, `Result`): events. They are kept in order until the store or the
//!   spool has them, and only then acknowledged.
//!
//! Every operation can be repeated: running one twice leaves what running it once leaves.

mod outside;
mod tasks;

pub use outside::*;
pub use tasks::*;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::codec::message::{Ask, Flag, Phase};
use crate::ids::{ConnId, HostId, HostRef, TaskKey};
use crate::time::UnixMs;

/// The core's operations of one turn.
#[derive(Debug)]
pub struct Batch {
    /// Number of the store connection for which these were made ([`Outcome::Up`]). State for an
    /// earlier one is dropped: the core has rewritten it, or will.
    pub session: u32,
    /// The operations, in order.
    pub ops: Vec<Op>,
}

/// One thing to be written.
#[derive(Clone, Debug)]
pub enum Op {
    /// A host is online, through us: node's set, claim, `exists`, event.
    Online(Box<Online>),
    /// A host is offline: claim given up if it is still ours, `exists`, its fields, event.
    Offline(Box<Offline>),
    /// Inventory of a host.
    Inventory(Box<Inventory>),
    /// A host that is offline is to be as if it had never been seen.
    Forget(HostId),
    /// Last-seen times of hosts.
    Seen(Vec<(HostId, UnixMs)>),
    /// Hosts of ours that must all be in `exists`: what is missing is added.
    Audit(Vec<HostId>),
    /// An event of the fleet itself.
    Notice(Box<Notice>),
    /// An ADH27.
    Progress(Box<Progress>),
    /// An ADH33 about a task key.
    Answer(Box<Answer>),
    /// An ADH43, with its bytes.
    Result(Box<TaskResult>),
    /// States of hosts in a task that no report has brought with it.
    TaskStates(Box<TaskStates>),
    /// A task is to be stored, whole or not at all.
    Dispatch(Box<Dispatch>),
    /// A task that was stored once and may be gone: what of it is missing is written again, and no event told.
    Restore(Box<Dispatch>),
    /// A question.
    Read(Box<Read>),
    /// State of a device or a target.
    Outside(Box<Outside>),
}

impl Op {
    /// Returns whether this is a report: kept until it is durable.
    #[must_use]
    pub const fn is_report(&self) -> bool {
        matches!(self, Self::Progress(_) | Self::Answer(_) | Self::Result(_))
    }

    /// Returns whether the operation has an outcome.
    #[must_use]
    pub const fn has_outcome(&self) -> bool {
        !matches!(self, Self::Notice(_) | Self::Outside(_) | Self::Forget(_))
    }

    /// Outcome of an operation that was written; none if it has no outcome, or one that says more.
    #[must_use]
    pub fn written(&self) -> Option<Outcome> {
        self.settled(Ok(()))
    }

    /// Outcome of an operation that is refused for good.
    #[must_use]
    pub fn refused(&self, reason: &str) -> Option<Outcome> {
        let reason = reason.to_owned();
        let (ticket, settled) = match self {
            Self::Online(op) => (op.ticket, Settled::Refused(reason)),
            Self::Offline(op) => (op.ticket, Settled::Refused(reason)),
            Self::Dispatch(op) => {
                return Some(Outcome::Dispatched {
                    request: op.request,
                    stored: Stored::Refused(reason),
                });
            }
            Self::Restore(op) => {
                return Some(Outcome::Restored {
                    key: op.key.clone(),
                    stored: Stored::Refused(reason),
                });
            }
            Self::Read(op) => {
                return Some(Outcome::Read {
                    ticket: op.ticket,
                    found: Found::Nothing(reason),
                });
            }
            _ => return self.settled(Err(reason)),
        };
        Some(Outcome::Presence { ticket, settled })
    }

    fn settled(&self, result: Result<(), String>) -> Option<Outcome> {
        let origin = match self {
            Self::Progress(op) => op.origin,
            Self::Answer(op) => op.origin,
            Self::Result(op) => op.origin,
            Self::Inventory(op) => {
                return Some(Outcome::Inventory {
                    origins: op.origins.clone(),
                    ticket: op.ticket,
                    result,
                });
            }
            Self::TaskStates(_) => return Some(Outcome::StatesWritten),
            Self::Seen(_) => return Some(Outcome::Seen),
            Self::Audit(_) => return Some(Outcome::Audited),
            _ => return None,
        };
        Some(Outcome::Report { origin, result })
    }
}

/// Time of an event, and its number among this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Wall clock.
    pub at: UnixMs,
    /// Counts the node's events. Starts anew above all earlier ones at each start.
    pub seq: u64,
}

/// Reason for being offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It closed its last connection, or the server took its hosts offline at a planned stop.
    Closed,
    /// Its last connection broke.
    Reset,
    /// It was silent for too long.
    Timeout,
    /// It sent abnormal data.
    Abnormal,
    /// It did not come back after a restart.
    Lost,
}

impl Reason {
    /// The word as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Abnormal => "abnormal",
            Self::Lost => "lost",
        }
    }

    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Closed,
        Self::Reset,
        Self::Timeout,
        Self::Abnormal,
        Self::Lost,
    ];

    /// The reason a stored word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A host is online.
#[derive(Clone, Debug)]
pub struct Online {
    /// The host's entry, sent back with the outcome.
    pub ticket: HostRef,
    /// Its name.
    pub host: HostId,
    /// Peer address.
    pub peer: SocketAddr,
    /// It has proved a key. Once stored, this stays with the host.
    pub keyed: bool,
    /// Time of coming online.
    pub since: UnixMs,
    /// The event to tell; none when it was online before and is only written again.
    pub event: Option<Stamp>,
}

/// A host is offline.
#[derive(Clone, Debug)]
pub struct Offline {
    /// The host's entry, sent back with the outcome.
    pub ticket: HostRef,
    /// Its name.
    pub host: HostId,
    /// The epoch of our claim. Where another node, or a later claim of our own, holds the host,
    /// nothing is written and nothing told.
    pub epoch: u64,
    /// Reason.
    pub reason: Reason,
    /// Time of going offline.
    pub since: UnixMs,
    /// The event to tell.
    pub event: Option<Stamp>,
}

/// Inventory of a host.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Reports that wait for an acknowledgement; returned with the outcome.
    pub origins: Vec<Origin>,
    /// The host's entry.
    pub ticket: HostRef,
    /// Its name.
    pub host: HostId,
    /// Its host name.
    pub hostname: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Every value that is no list: the members of `<host>_systemInfo`.
    pub values: Vec<String>,
    /// Its IPv4 addresses in the order the host gave them; `<host>_systemInfoIPV4` holds them last first.
    pub addresses: Vec<String>,
}

/// An event of the fleet itself.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Its name: `mass-offline`, `quarantine`, `duplicate-id`, `new-ids`, `device` or `reach`.
    pub event: &'static str,
    /// The host it is about, or the device or target; none where it is about the whole fleet.
    pub about: Option<String>,
    /// Its new state, if the event has one.
    pub state: Option<&'static str>,
    /// In words.
    pub reason: Option<String>,
    /// Its count, if the event has one.
    pub count: Option<u64>,
    /// Time and number.
    pub stamp: Stamp,
}

/// Origin of a report, returned with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The connection.
    pub conn: ConnId,
    /// Its code.
    pub flag: Flag,
    /// The requested reply.
    pub ask: Ask,
    /// Its share of the room for reports, in bytes.
    pub bytes: u32,
}

/// An ADH27.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Its origin; `None` if it comes from the spool.
    #[serde(skip)]
    pub origin: Option<Origin>,
    /// The host.
    pub host: HostId,
    /// The task.
    pub key: TaskKey,
    /// The event.
    pub phase: Phase,
    /// The command under way.
    pub working: Option<String>,
    /// Finished commands, in order.
    pub complete: Vec<String>,
    /// Remaining commands.
    pub oncall: Vec<String>,
    /// New state of the host in the task, if the task is known here and the state changes.
    #[serde(default)]
    pub state: Option<TaskState>,
    /// The core's tables have no such task of this host. If the store has none either, its keys get a time to live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// State of the host in the task after the report, for the event. A record of an older spool
    /// has none.
    #[serde(default)]
    pub told: Option<TaskState>,
    /// Lifetime of the written keys.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// For the event.
    pub stamp: Stamp,
}

impl Progress {
    /// Returns whether the keys of its task expire with it. `done`: nothing is left of the host's
    /// part.
    #[must_use]
    pub fn expires(&self, done: bool) -> bool {
        match self.lifetime {
            Lifetime::Foreign => done || self.state.is_some_and(TaskState::has_ended),
            Lifetime::Open => false,
            Lifetime::Over => true,
        }
    }

    /// The state and the command of its event. `done` says whether nothing is left, for records that do not
    /// say what the host is.
    #[must_use]
    pub fn event(&self, done: bool) -> (TaskState, Option<&str>) {
        let ended = done && self.phase == Phase::Ended;
        let state = self.told.unwrap_or(match ended {
            true => TaskState::Done,
            false => TaskState::Working,
        });
        let command = match self.phase {
            Phase::Received => None,
            Phase::Began => self.working.as_deref(),
            Phase::Ended => self.complete.last().map(String::as_str),
        };
        (state, command)
    }
}

/// An ADH33 about a task key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Its origin; `None` if it comes from the spool.
    #[serde(skip)]
    pub origin: Option<Origin>,
    /// The host.
    pub host: HostId,
    /// The task.
    pub key: TaskKey,
    /// 0 to 3, as it came.
    pub rcc: u8,
    /// New state of the host in the task, if the task is known here and the state changes.
    #[serde(default)]
    pub state: Option<TaskState>,
    /// The host has finished the task already: there is no event.
    #[serde(default)]
    pub again: bool,
    /// For the event.
    pub stamp: Stamp,
}

/// Messages of the store thread to the core.
#[derive(Debug)]
pub enum Outcome {
    /// Some of the hosts in the store. All of them come, in pieces, before each `Up`: at the first
    /// connection every known host, later only those that this node holds.
    Held(Vec<HeldHost>),
    /// Some of the tasks this node has dispatched, before the first `Up`.
    Tasks(Vec<HeldTask>),
    /// A dispatch is settled.
    Dispatched {
        /// Request number.
        request: u64,
        /// Result.
        stored: Stored,
    },
    /// A `Restore` is settled.
    Restored {
        /// The task.
        key: TaskKey,
        /// Result.
        stored: Stored,
    },
    /// A `TaskStates` is done with.
    StatesWritten,
    /// The answer to a question.
    Read {
        /// Ticket of the question.
        ticket: u64,
        /// The data.
        found: Found,
    },
    /// The store can be read and written.
    Up {
        /// Number of the store connection, from 1.
        session: u32,
        /// False while a lease of our own name, not ours, is being watched: inherited hosts are
        /// not judged until [`Outcome::LeaseClear`].
        lease_clear: bool,
        /// The store may have lost what it had: the node's own set, or its lease, was gone.
        emptied: bool,
    },
    /// Hosts of a node that is gone; this node holds them now.
    Inherited(Vec<HeldHost>),
    /// Tasks of a node that is gone; they are this node's now.
    InheritedTasks(Vec<HeldTask>),
    /// The lease found at the start was not renewed, and is ours now.
    LeaseClear,
    /// Another living server has our name: this one has to end.
    NameTaken,
    /// The store refused the user or the password, or is not a store: the server has to end if this
    /// is the first connection.
    Refused(String),
    /// The store's file is damaged, for this reason, and what can be done. No use to wait.
    Damaged(String),
    /// The store does not answer. State that is not confirmed is not written.
    Away(String),
    /// An `Online` or `Offline` was settled.
    Presence {
        /// The host's entry.
        ticket: HostRef,
        /// Result.
        settled: Settled,
    },
    /// An `Inventory` was settled.
    Inventory {
        /// Reports that wait for it.
        origins: Vec<Origin>,
        /// The host's entry.
        ticket: HostRef,
        /// `Ok` if it is written; else the reason why it never will be.
        result: Result<(), String>,
    },
    /// A `Seen` is done with.
    Seen,
    /// An `Audit` is done with.
    Audited,
    /// A report is stored or spooled for good, or refused for good, with the reason.
    Report {
        /// The report that waits for it.
        origin: Option<Origin>,
        /// `Ok` if it is durable; else the reason why it never will be.
        result: Result<(), String>,
    },
}

/// Result of an `Online` or `Offline`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The host is claimed for this node, under this epoch.
    Claimed {
        /// The new epoch.
        epoch: u64,
    },
    /// The claim is given up; the host is offline for all to see.
    Released,
    /// The claim was not ours any more; nothing was written.
    NotOurs,
    /// The store will not have it (a key of the wrong type, say); written as far as it went.
    Refused(String),
}

/// A host as the store knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldHost {
    /// Its name.
    pub host: HostId,
    /// This node holds it: it was online here at the last write.
    pub ours: bool,
    /// The epoch of the last claim.
    pub epoch: u64,
    /// Peer address.
    pub peer: Option<SocketAddr>,
    /// It has proved a key before.
    pub keyed: bool,
    /// Time of the last change.
    pub since: UnixMs,
    /// Time of the last message.
    pub seen: UnixMs,
    /// Reason for being offline.
    pub reason: Option<Reason>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its IPv4 addresses, in the order it gave them.
    pub addresses: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::TaskState as T;

    #[test]
    fn the_arrows_between_states_are_these_and_no_others() {
        let reported = [T::Answered, T::Working, T::NoBook, T::Done, T::Failed];
        let beyond_work = [T::NoBook, T::Lost, T::Done, T::Failed];
        let sent = [T::Sent, T::Unanswered, T::Lost, T::Expired];
        for state in T::ALL {
            let next: Vec<T> = match state {
                T::Offline | T::Done | T::Failed | T::Expired => vec![],
                T::Queued | T::Sent => [&reported[..], &sent].concat(),
                T::Answered => [&beyond_work[..], &[T::Working]].concat(),
                T::Working => beyond_work.to_vec(),
                T::Unanswered => [&reported[..], &[T::Lost, T::Expired]].concat(),
                T::Lost => [&reported[1..], &[T::Expired]].concat(),
                T::NoBook => vec![T::Working],
            };
            for other in T::ALL {
                let may = other == state || next.contains(&other);
                assert_eq!(state.may_become(other), may, "{state:?} to {other:?}");
            }
        }
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in T::ALL {
            assert_eq!(T::parse(state.as_str()), Some(state));
        }
        assert_eq!(T::parse("asleep"), None);
    }
}
