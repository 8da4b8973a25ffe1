//! Operations of the store and their outcomes: plain data, the only part of the store that other
//! rooms may name.
//!
//! There are four kinds of operation:
//!
//! - **State** (`Online`, `Offline`, `Inventory`, `Labels`, `Forget`, `Seen`, `Audit`, `Notice`, `Outside`,
//!   `History`, `TaskStates`, `Restore`, `Ring`, `Command`, `Rung`): the latest wins. While the store is unavailable state is dropped; the
//!   core rewrites it from memory.
//! - **Transactions** (`Dispatch`): stored completely or not at all. One that is in progress when the
//!   store becomes unavailable is settled after the reconnection.
//! - **Questions** (`Read`): dropped when the store becomes unavailable.
//! - **Reports** (`Progress`, `Answer`, `Result`): events. They are kept in order until the store or
//!   the spool has them, and only then acknowledged.
//!
//! Every operation can be repeated: running it twice has the result of running it once.

/// An enum of words, as they are stored and shown.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All variants.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word of this variant.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The variant of a word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|variant| variant.as_str() == word)
            }
        }
    };
}

mod bells;
pub mod history;
mod nodes;
mod outside;
mod tasks;

pub use bells::*;
pub use history::{FleetHistory, HistoryRow, Transition, Was};
pub use nodes::*;
pub use outside::*;
pub use tasks::*;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::codec::message::{Flag, Phase, ReplyRequest};
use crate::ids::{ConnId, HostId, HostRef, TaskKey};
use crate::time::UnixMs;

/// The core's operations of one turn.
#[derive(Debug)]
pub struct Batch {
    /// Number of the store connection for which these were made ([`Outcome::Available`]). State for an
    /// earlier connection is dropped, since the core rewrites it.
    pub session: u32,
    /// The operations, in order.
    pub ops: Vec<Op>,
}

/// An operation of the store.
#[derive(Clone, Debug)]
pub enum Op {
    /// A host is online at this node: node's set, claim, `exists`, event.
    Online(Box<Online>),
    /// A host is offline: the claim is given up if it is still ours, then `exists`, its fields,
    /// event.
    Offline(Box<Offline>),
    /// Inventory of a host.
    Inventory(Box<Inventory>),
    /// All that is stored of an offline host is deleted.
    Forget(HostId),
    /// Labels of a host.
    Labels(Box<Labels>),
    /// Last-seen times of hosts.
    Seen(Vec<(HostId, UnixMs)>),
    /// Hosts of this node that must be in `exists`: missing ones are added.
    Audit(Vec<HostId>),
    /// An event of the fleet itself.
    Notice(Box<Notice>),
    /// An ADH27.
    Progress(Box<Progress>),
    /// An ADH33 about a task key.
    Answer(Box<Answer>),
    /// An ADH43, with its output.
    Result(Box<TaskResult>),
    /// States of hosts in a task that come from no report.
    TaskStates(Box<TaskStates>),
    /// Target and rollout of a task.
    Rollout(Box<RolloutText>),
    /// A task to be stored, completely or not at all.
    Dispatch(Box<Dispatch>),
    /// A task that was stored once and may be lost: its missing parts are rewritten, without an
    /// event.
    Restore(Box<Dispatch>),
    /// A question.
    Read(Box<Read>),
    /// State of a device or a target.
    Outside(Box<Outside>),
    /// Leases of devices and targets.
    Polls(Box<Polls>),
    /// Counts of hosts online.
    History(Box<HistoryRow>),
    /// An entry for the inbox of another node.
    Ring(Box<Ring>),
    /// A console command with hosts at several nodes.
    Command(Box<CommandRecord>),
    /// Entries of this node's inbox that are done with, by id: they are deleted.
    Rung(Vec<String>),
}

impl Op {
    /// Returns whether this is a report, which is kept until it is durable.
    #[must_use]
    pub const fn is_report(&self) -> bool {
        matches!(self, Self::Progress(_) | Self::Answer(_) | Self::Result(_))
    }

    /// Returns whether the operation has an outcome.
    #[must_use]
    pub const fn has_outcome(&self) -> bool {
        !matches!(
            self,
            Self::Notice(_)
                | Self::Outside(_)
                | Self::Forget(_)
                | Self::History(_)
                | Self::Ring(_)
                | Self::Command(_)
                | Self::Rung(_)
        )
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
            Self::Labels(op) => {
                return Some(Outcome::Labels {
                    ticket: op.ticket,
                    place: op.place,
                    result,
                });
            }
            Self::TaskStates(_) => return Some(Outcome::StatesWritten),
            Self::Rollout(op) => {
                return Some(Outcome::Rollout {
                    key: op.key.clone(),
                    is_ours: true,
                });
            }
            Self::Seen(_) => return Some(Outcome::Seen),
            Self::Audit(_) => return Some(Outcome::Audited),
            // Without an answer nothing is known of the leases: those that are held run out.
            Self::Polls(op) => {
                let (at, held) = (op.at, Vec::new());
                return Some(Outcome::Polls(PollsFound { at, held }));
            }
            _ => return None,
        };
        Some(Outcome::Report { origin, result })
    }
}

/// Time and number of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Wall clock.
    pub at: UnixMs,
    /// Number among the events of this node. At each start it begins above all earlier numbers.
    pub seq: u64,
}

words! {
    /// Reason for being offline.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum Reason {
        /// It closed its last connection, or the server took its hosts offline at a planned stop.
        Closed = "closed",
        /// Its last connection broke.
        Reset = "reset",
        /// It was silent for too long.
        Timeout = "timeout",
        /// It sent invalid data.
        Abnormal = "abnormal",
        /// It did not return after a restart.
        Lost = "lost",
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
    /// It has proved a key. Once stored, this remains true of the host.
    pub keyed: bool,
    /// Time of coming online.
    pub since: UnixMs,
    /// Claim or renewal.
    pub hold: Hold,
    /// Its event; none when the host was online before and is only rewritten.
    pub event: Option<Stamp>,
    /// Transitions before this one, to be added to the stored ones.
    pub history: Vec<Transition>,
}

/// How a node holds a host that it writes as online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The host has connected: it is claimed, also from another node.
    Claim {
        /// Identifier of its process, if it gave one.
        boot: Option<Box<str>>,
        /// Milliseconds since its last message. A claim that comes long after it takes no host that
        /// has connected to another node since then.
        silent_ms: u64,
    },
    /// The host is connected, and its claim is renewed.
    Renew {
        /// Epoch that the store returned last.
        epoch: u64,
    },
    /// The host is held over a restart and is not connected: its claim is renewed, and is not taken
    /// again if it was given up. Under epoch 0 a host without a claim is adopted.
    Keep {
        /// Epoch that the store returned last.
        epoch: u64,
    },
}

/// A host is offline.
#[derive(Clone, Debug)]
pub struct Offline {
    /// The host's entry, sent back with the outcome.
    pub ticket: HostRef,
    /// Its name.
    pub host: HostId,
    /// Epoch of our claim. If another node, or a later claim of our own, holds the host, nothing is
    /// written.
    pub epoch: u64,
    /// Reason.
    pub reason: Reason,
    /// Time of going offline.
    pub since: UnixMs,
    /// Its event.
    pub event: Option<Stamp>,
    /// Transitions before this one, to be added to the stored ones.
    pub history: Vec<Transition>,
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
    /// Values that are no lists: the members of `<host>_systemInfo`.
    pub values: Vec<String>,
    /// Its IPv4 addresses in the order of the report; `<host>_systemInfoIPV4` holds them last
    /// first.
    pub addresses: Vec<String>,
}

/// Key that holds the labels of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelPlace {
    /// Labels from an administrator: a field of `anthill:labels`.
    Admin,
    /// Labels that the host claims: a field of its record.
    Host,
}

impl LabelPlace {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Admin, Self::Host];
}

/// Labels of a host, from one source.
#[derive(Clone, Debug)]
pub struct Labels {
    /// The host's entry, sent back with the outcome.
    pub ticket: HostRef,
    /// Its name.
    pub host: HostId,
    /// The key.
    pub place: LabelPlace,
    /// The labels as JSON; `None` if there are none.
    pub text: Option<String>,
}

/// An event of the fleet itself.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Its name: `mass-offline`, `quarantine`, `duplicate-id`, `new-ids`, `unknown-keys`, `device`, `reach` or `audit`.
    pub event: &'static str,
    /// The host, device or target; none for an event of the whole fleet.
    pub about: Option<String>,
    /// Its new state, if the event has one.
    pub state: Option<&'static str>,
    /// Reason, as text.
    pub reason: Option<String>,
    /// Its count, if the event has one.
    pub count: Option<u64>,
    /// The request, of an event `audit`.
    pub audit: Option<Box<AuditRecord>>,
    /// Time and number.
    pub stamp: Stamp,
}

/// A request over HTTP to change something, done or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Name of its token, else the address of the peer.
    pub by: String,
    /// Method and endpoint, such as `POST /v1/tasks`.
    pub what: String,
    /// Key of the task, or id of the console command.
    pub key: Option<String>,
    /// The host, or the target.
    pub target: Option<String>,
    /// Number of hosts that it concerns, if it is known.
    pub count: Option<u64>,
    /// `ok`, else the status and the error.
    pub result: String,
}

/// Origin of a report, returned with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The connection.
    pub conn: ConnId,
    /// Its code.
    pub flag: Flag,
    /// The requested reply.
    pub ask: ReplyRequest,
    /// Bytes that it counts of the room for reports.
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
    /// The running command.
    pub working: Option<String>,
    /// Finished commands, in order.
    pub complete: Vec<String>,
    /// Remaining commands.
    pub oncall: Vec<String>,
    /// New state of the host in the task, if the task is known here and the state changes.
    #[serde(default)]
    pub state: Option<TaskState>,
    /// The core knows no such task of this host. If the store knows none either, the keys expire.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// It has no event of its own: the host reports on too many unknown tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// State of the host in the task after the report, for the event. Records of an older spool
    /// have none.
    #[serde(default)]
    pub told: Option<TaskState>,
    /// Lifetime of the written keys.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// For the event.
    pub stamp: Stamp,
}

impl Progress {
    /// Returns whether the keys of its task expire with it. `done`: no command of the host remains.
    #[must_use]
    pub fn expires(&self, done: bool) -> bool {
        match self.lifetime {
            Lifetime::Foreign => done || self.state.is_some_and(TaskState::has_ended),
            Lifetime::Open => false,
            Lifetime::Over => true,
        }
    }

    /// State and command of its event. `done`, no command remains, serves for records without a
    /// state.
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
    /// Result code of the message, 0 to 3.
    pub rcc: u8,
    /// New state of the host in the task, if the task is known here and the state changes.
    #[serde(default)]
    pub state: Option<TaskState>,
    /// The host has finished the task before: there is no event.
    #[serde(default)]
    pub again: bool,
    /// For the event.
    pub stamp: Stamp,
}

/// Message of the store thread to the core.
#[derive(Debug)]
pub enum Outcome {
    /// A page of the stored hosts. All pages come before each `Available`: at the first connection every
    /// known host, later the hosts that this node holds.
    Held(Vec<HeldHost>),
    /// A page of the tasks that this node has dispatched, before the first `Available`.
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
    /// A `TaskStates` is settled.
    StatesWritten,
    /// A `Rollout` is settled.
    Rollout {
        /// The task.
        key: TaskKey,
        /// It is written, or its keys have expired. If not, a later keeper has written it.
        is_ours: bool,
    },
    /// The answer to a question.
    Read {
        /// Ticket of the question.
        ticket: u64,
        /// The data.
        found: Found,
    },
    /// The store is available.
    Available {
        /// Number of the store connection, from 1.
        session: u32,
        /// False while a foreign lease of our own name is watched: inherited hosts are not judged
        /// before [`Outcome::LeaseClear`].
        lease_clear: bool,
        /// The store may have lost its data: the node's own set, or its lease, was missing.
        lost_data: bool,
    },
    /// Whether other nodes share the store: before each `Up`, and when it changes. A store that cannot
    /// be shared does not say.
    Nodes {
        /// There are others.
        are_several: bool,
    },
    /// Hosts of a dead node, which were ended as lost.
    Ended(Vec<HeldHost>),
    /// Tasks of a dead node, which belong to this node now.
    InheritedTasks(Vec<HeldTask>),
    /// Entries of this node's inbox, oldest first.
    Bells(Vec<Bell>),
    /// The foreign lease found at the start was not renewed, and is ours now.
    LeaseClear,
    /// Another living server has our name: this server has to end.
    NameTaken,
    /// The store refused the user or the password. The server has to end if this is the first
    /// connection.
    Refused(String),
    /// The store's file is damaged: the reason, and the remedy. Waiting does not help.
    Damaged(String),
    /// The store is unavailable. State that is not confirmed is not written.
    Unavailable(String),
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
        /// `Ok` if it is written; else the reason for its final refusal.
        result: Result<(), String>,
    },
    /// A `Labels` is settled.
    Labels {
        /// The host's entry.
        ticket: HostRef,
        /// The key.
        place: LabelPlace,
        /// `Ok` if it is written; else the reason for its final refusal.
        result: Result<(), String>,
    },
    /// A `Seen` is settled.
    Seen,
    /// An `Audit` is settled.
    Audited,
    /// A `Polls` is settled.
    Polls(PollsFound),
    /// A report is durable, or refused for good.
    Report {
        /// The report that waits for it.
        origin: Option<Origin>,
        /// `Ok` if it is durable; else the reason for its final refusal.
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
        /// Another node held it.
        moved: bool,
        /// Its process is another one than the stored one.
        restarted: bool,
        /// It has proved a key, at any node and time.
        keyed: bool,
    },
    /// The claim is this node's, under this epoch.
    Renewed {
        /// The epoch.
        epoch: u64,
    },
    /// The claim had been given up and is this node's again. The host was shown as offline, and the
    /// operation had no event.
    Returned {
        /// The new epoch.
        epoch: u64,
    },
    /// The host belongs to another node, or to none any more; nothing was written. Also the result of
    /// an `Offline` of a host that another node holds.
    Foreign {
        /// No node holds it.
        is_free: bool,
    },
    /// Nodes have taken the host from each other too often: the claim is refused for a while, and
    /// the node that holds it keeps it.
    Contested {
        /// The refusals begin.
        is_first: bool,
    },
    /// The claim is given up, and the host is shown as offline.
    Released,
    /// The claim was no longer ours; nothing was written.
    NotOurs,
    /// The store refuses it, for example for a key of the wrong type. Some keys may be written.
    Refused(String),
}

impl Settled {
    /// The result of a claim of a host that no other node held.
    #[must_use]
    pub const fn claimed(epoch: u64) -> Self {
        Self::Claimed {
            epoch,
            moved: false,
            restarted: false,
            keyed: false,
        }
    }
}

/// A stored host.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldHost {
    /// Its name.
    pub host: HostId,
    /// This node holds it: the host was online here at the last write.
    pub ours: bool,
    /// Epoch of the last claim.
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
    /// Its IPv4 addresses, in the order of its report.
    pub addresses: Vec<String>,
    /// Labels from an administrator, as JSON.
    pub admin_labels: Option<String>,
    /// Labels that it claimed last, as JSON.
    pub host_labels: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::TaskState as T;

    #[test]
    fn states_change_only_along_these_arrows() {
        let reported = [T::Answered, T::Working, T::NoBook, T::Done, T::Failed];
        let beyond_work = [T::NoBook, T::Lost, T::Done, T::Failed];
        let sent = [T::Sent, T::Unanswered, T::Lost, T::Expired, T::Cancelled];
        for state in T::ALL {
            let next: Vec<T> = match state {
                T::Offline | T::Done | T::Failed | T::Expired => vec![],
                T::Queued | T::Sent => [&reported[..], &sent].concat(),
                T::Held => T::ALL.to_vec(),
                T::Answered => [&beyond_work[..], &[T::Working, T::Cancelled]].concat(),
                T::Working => [&beyond_work[..], &[T::Cancelled]].concat(),
                T::Cancelled => [&beyond_work[..], &[T::Working]].concat(),
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
    fn a_state_is_parsed_from_its_word() {
        for state in T::ALL {
            assert_eq!(T::parse(state.as_str()), Some(state));
        }
        assert_eq!(T::parse("asleep"), None);
    }
}
