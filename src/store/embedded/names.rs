//! The names of the keys this store holds, spelled here and nowhere else in this room.

use std::fmt::Display;

use crate::ids::{HostId, TaskKey};

/// Hosts online (set).
pub(super) fn exists() -> &'static str {
    "exists"
}

/// When hosts were last heard of, in unix ms (sorted set).
pub(super) fn seen() -> &'static str {
    "anthill:seen"
}

/// What happened (stream).
pub(super) fn events() -> &'static str {
    "anthill:events"
}

/// Names of the nodes (set).
pub(super) fn nodes() -> &'static str {
    "anthill:nodes"
}

/// A node's lease (string).
pub(super) fn lease(node: &str) -> String {
    format!("anthill:node:{node}")
}

/// The hosts a node holds (set).
pub(super) fn node_hosts(node: &str) -> String {
    format!("anthill:node:{node}:hosts")
}

/// A host: claim and description (hash).
pub(super) fn host(host: &HostId) -> String {
    format!("anthill:host:{host}")
}

/// A host's host name, MAC address and the like, values only (set).
pub(super) fn system_info(host: &HostId) -> String {
    host_field(host, "systemInfo")
}

/// A host's IPv4 addresses, last first (list).
pub(super) fn system_info_ipv4(host: &HostId) -> String {
    host_field(host, "systemInfoIPV4")
}

/// A key of the old server's about one host.
pub(super) fn host_field(host: &HostId, field: impl Display) -> String {
    format!("{host}_{field}")
}

/// The hosts whose answer is awaited (set).
pub(super) fn response(key: &TaskKey) -> String {
    format!("{key}_response")
}

/// Host → the command it runs (hash).
pub(super) fn working(key: &TaskKey) -> String {
    format!("{key}_working")
}

/// Host → the name of its list of commands left (hash).
pub(super) fn oncall(key: &TaskKey) -> String {
    format!("{key}_oncall")
}

/// Host → the name of its list of commands done (hash).
pub(super) fn complete(key: &TaskKey) -> String {
    format!("{key}_complete")
}

/// A host's commands left, last first (list).
pub(super) fn host_oncall(key: &TaskKey, host: &HostId) -> String {
    format!("{key}_{host}_oncall")
}

/// A host's commands done, in order (list).
pub(super) fn host_complete(key: &TaskKey, host: &HostId) -> String {
    format!("{key}_{host}_complete")
}

/// A task's claim (string).
pub(super) fn task(key: &TaskKey) -> String {
    format!("anthill:task:{key}")
}

/// Host → its state in a task (hash).
pub(super) fn task_hosts(key: &TaskKey) -> String {
    format!("anthill:task:{key}:hosts")
}
