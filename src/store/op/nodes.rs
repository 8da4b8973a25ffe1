//! The nodes of a store, and hosts of any of them. Part of [`op`](super): plain data.

use serde::{Deserialize, Serialize};

use super::HeldHost;
use crate::time::UnixMs;

words! {
    /// State of a node.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum NodeState {
        /// It renews its lease.
        Up = "up",
        /// Its lease is missing. It may still return to its hosts.
        Silent = "silent",
        /// Its hosts were taken over by another node, or are being taken over.
        Dead = "dead",
    }
}

/// A node of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: NodeState,
    /// Number of hosts that it holds.
    pub hosts: u64,
    /// Number of entries that wait in its inbox.
    pub inbox: u64,
    /// Version of its program.
    pub version: Option<String>,
    /// Address of its HTTP API.
    pub http: Option<String>,
    /// Begin of the state: its start, the last time it was known to run, or the end of its hosts.
    pub since: UnixMs,
}

impl NodeFacts {
    /// A node of which only the name is known.
    #[must_use]
    pub fn named(name: String, state: NodeState) -> Self {
        Self {
            name,
            state,
            hosts: 0,
            inbox: 0,
            version: None,
            http: None,
            since: UnixMs::default(),
        }
    }
}

/// A stored host of any node.
#[derive(Clone, Debug, PartialEq)]
pub struct HostRecord {
    /// Its facts.
    pub held: HeldHost,
    /// The node that holds it; none while it is offline.
    pub node: Option<String>,
    /// It is online.
    pub is_online: bool,
}

/// A page of the stored hosts, of all nodes or of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostScan {
    /// Only the hosts that this node holds.
    pub node: Option<String>,
    /// Only hosts online, or only those offline.
    pub online: Option<bool>,
    /// Start of the page.
    pub start: ScanPlace,
    /// Number of hosts after which the page ends.
    pub limit: usize,
    /// Only what counts and targets need: records of the hosts that were seen, then the names of
    /// those online.
    pub brief: bool,
}

/// A position in the stored hosts: first those online, then all that were seen.
///
/// The store returns the members of a set in pieces, and a piece may be larger than a page. The next
/// page then begins in the same piece, behind the member of a certain [order](scan_order). If the
/// piece has another end by then, the set was rebuilt, and all of it is returned again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScanPlace {
    /// Among all hosts that were seen.
    pub is_late: bool,
    /// Start of the piece.
    pub from: u64,
    /// Its end at the last reading.
    pub end: u64,
    /// Order of the last member that was returned of it; 0 if none was.
    pub after: u64,
}

/// Place of a host among others, the same at every node and time: FNV-1a of its name, never 0.
#[must_use]
pub fn scan_order(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}
