//! The nodes of a store. Part of [`op`](super): plain data.

use serde::{Deserialize, Serialize};

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
