//! Every key, its shape and its lifetime, spelled here and nowhere else. Shared by all backends:
//! only names and words, nothing of how they are written.
//!
//! Keys that the fleet's older programs read (they expect exactly these):
//!
//! | key | type | what | gone |
//! |---|---|---|---|
//! | [`EXISTS`] | set | hosts online | a host leaves when it goes offline |
//! | [`system_info`] | set | values of the host's report of itself | when it goes offline |
//! | [`system_info_ipv4`] | list | its IPv4 addresses, last first | when it goes offline |
//! | [`book`] | sorted set | the task book: command by priority | `keep` after a host last ended |
//! | [`response`] | set | hosts whose answer is awaited | likewise |
//! | [`working`] | hash | host → the command it runs | likewise; the field at its end |
//! | [`oncall_names`] | hash | host → name of its list below | likewise; the field at its end |
//! | [`oncall`] | list | commands not yet done, last first | at its end |
//! | [`complete_names`] | hash | host → name of its list below | likewise (*) |
//! | [`complete`] | list | commands done, in order | likewise (*) |
//!
//! (*) At the host's end already, where what is done is cleared.
//!
//! Keys of our own:
//!
//! | key | type | what | gone |
//! |---|---|---|---|
//! | [`SEEN`] | sorted set | host → last heard of, unix ms | members swept `keep` after that |
//! | [`host`] | hash | fields in [`field`] | `keep` after it went offline |
//! | [`TASKS`] | sorted set | task key → when it was stored, unix ms | members swept when the task is gone |
//! | [`task`] | string | a task's claim, as JSON ([`Claim`](super::records::Claim)) | with the book |
//! | [`task_hosts`] | hash | host → its state in the task | with the book |
//! | [`task_result`] | hash | command → its result, as JSON ([`records`](super::records)) | `keep` after the newest, or with the book |
//! | [`EVENTS`] | stream | fields in [`event`], all text | trimmed at about `STREAM_ENTRIES_MAX` |
//! | [`ak`] | hash | command → its last answer's data; fields in [`device`] | when a reload takes the device out |
//! | [`REACH`] | hash | target → JSON `{state, rtt_ms, since, at}`, times in unix ms | a field when a reload takes the target out |
//! | [`NODES`] | set | names of the nodes | never |
//! | [`node_lease`] | string | a random number of the process | `LEASE_S` after it was last renewed |
//! | [`node_heir`] | string | name of the node that takes over what this one left | when that is done, or `LEASE_S` later |
//! | [`node_info`] | hash | fields in [`node`](mod@node) | `keep` after the node was taken over |
//! | [`node_probe`] | string | nothing: written to see that the store takes writes | after a second |
//! | [`node_hosts`] | set | hosts a node holds | a host leaves last of all when it goes offline |
//!
//! A crash may cut any change short between two keys, never within one. The order of the writes
//! says what was meant:
//!
//! ```text
//!  online    node_hosts + ──▶ host: epoch + 1, node = us ──▶ EXISTS + ──▶ EVENTS
//!  offline   host: node = "" ──▶ EXISTS - ──▶ <host>_<field> gone ──▶ EVENTS ──▶ node_hosts -
//!  dispatch  TASKS + ──▶ task: the claim ──▶ task_hosts, response ──▶ book ──▶ EVENTS
//! ```
//!
//! So a host in the node's set whose `node` is empty was going offline, and is helped to the end. One in
//! [`EXISTS`] that no node holds, and that was not going offline, was left by an older server and is adopted: reported as
//! ours under epoch 0. Any other in the node's set, with another node or none, is only taken out of it.
//! Going offline under epoch 0 ends whatever claim the node has, and an adopted host, which has none.
//!
//! A task is stored when its book is there: the book comes last and at once. An entry of [`TASKS`] without one whose claim
//! is this node's, or that has none, was cut short and is undone: hosts and response, claim, entry.
//! A book beside a claim without `task_hosts` is another program's, which the claim came too late for.

use super::op::Place;
use crate::ids::{HostId, TaskKey};

/// Hosts online.
pub use crate::ids::EXISTS;
/// Last-seen times of the hosts.
pub const SEEN: &str = "anthill:seen";
/// The event stream.
pub const EVENTS: &str = "anthill:events";
/// The tasks, by when they were stored.
pub const TASKS: &str = "anthill:tasks";
/// Names of the nodes.
pub const NODES: &str = "anthill:nodes";

/// States of the targets of `reach`.
pub const REACH: &str = "anthill:reach";

/// State of an AK device.
#[must_use]
pub fn ak(device: &HostId) -> String {
    format!("anthill:ak:{device}")
}

/// The key of what devices and targets are.
#[must_use]
pub fn outside(place: &Place) -> String {
    match place {
        Place::Device(name) => ak(name),
        Place::Reach => REACH.to_owned(),
    }
}

/// Key that is deleted when a host goes offline: `<host>_<field>`.
#[must_use]
pub fn of_host(host: &HostId, field: &str) -> String {
    format!("{host}_{field}")
}

/// Values of the host's report of itself.
#[must_use]
pub fn system_info(host: &HostId) -> String {
    of_host(host, "systemInfo")
}

/// The host's IPv4 addresses, the last one given first.
#[must_use]
pub fn system_info_ipv4(host: &HostId) -> String {
    of_host(host, "systemInfoIPV4")
}

/// The task book.
#[must_use]
pub fn book(key: &TaskKey) -> String {
    key.to_string()
}

/// Hosts whose answer is awaited.
#[must_use]
pub fn response(key: &TaskKey) -> String {
    format!("{key}_response")
}

/// The command each host runs.
#[must_use]
pub fn working(key: &TaskKey) -> String {
    format!("{key}_working")
}

/// The name of each host's list of commands not yet done.
#[must_use]
pub fn oncall_names(key: &TaskKey) -> String {
    format!("{key}_oncall")
}

/// A host's commands not yet done, the last one first.
#[must_use]
pub fn oncall(key: &TaskKey, host: &HostId) -> String {
    format!("{key}_{host}_oncall")
}

/// The name of each host's list of commands done.
#[must_use]
pub fn complete_names(key: &TaskKey) -> String {
    format!("{key}_complete")
}

/// A host's commands done, in order.
#[must_use]
pub fn complete(key: &TaskKey, host: &HostId) -> String {
    format!("{key}_{host}_complete")
}

/// Record of a host; its fields are in [`field`].
#[must_use]
pub fn host(host: &HostId) -> String {
    format!("anthill:host:{host}")
}

/// The claim of a task.
#[must_use]
pub fn task(key: &TaskKey) -> String {
    format!("anthill:task:{key}")
}

/// The state of each host in a task.
#[must_use]
pub fn task_hosts(key: &TaskKey) -> String {
    format!("anthill:task:{key}:hosts")
}

/// Results of a task's commands on a host. `code` is the task's key, or the id of a console
/// command.
#[must_use]
pub fn task_result(code: &str, host: &HostId) -> String {
    format!("anthill:task:{code}:result:{host}")
}

/// The lease of a node.
#[must_use]
pub fn node_lease(node: &str) -> String {
    format!("anthill:node:{node}")
}

/// The node that takes over what a node that is gone has left.
#[must_use]
pub fn node_heir(node: &str) -> String {
    format!("anthill:node:{node}:heir")
}

/// Record of a node; its fields are in [`node`](mod@node).
#[must_use]
pub fn node_info(node: &str) -> String {
    format!("anthill:node:{node}:info")
}

/// Written by a node to see that its store takes writes.
#[must_use]
pub fn node_probe(node: &str) -> String {
    format!("anthill:node:{node}:probe")
}

/// The hosts a node holds.
#[must_use]
pub fn node_hosts(node: &str) -> String {
    format!("anthill:node:{node}:hosts")
}

/// Everything of a task that is no single host's. It expires together when one of its hosts ends.
#[must_use]
pub fn of_whole_task(key: &TaskKey) -> [String; 7] {
    [
        book(key),
        response(key),
        working(key),
        oncall_names(key),
        complete_names(key),
        task(key),
        task_hosts(key),
    ]
}

/// Everything of a task that is one host's. It expires when that host ends.
#[must_use]
pub fn of_host_in_task(key: &TaskKey, host: &HostId) -> [String; 3] {
    [
        oncall(key, host),
        complete(key, host),
        task_result(key.as_str(), host),
    ]
}

/// Everything of a task that expires together when this one of its hosts ends.
pub fn of_task(key: &TaskKey, host: &HostId) -> impl Iterator<Item = String> {
    let whole = of_whole_task(key).into_iter();
    whole.chain(of_host_in_task(key, host))
}

/// Keys of a report on a task that was never stored: the host's own lists, and with `whole` those
/// that it shares with other hosts of the task.
pub fn of_stray_task(key: &TaskKey, host: &HostId, whole: bool) -> impl Iterator<Item = String> {
    let shared = [working(key), oncall_names(key), complete_names(key)];
    let shared = shared.into_iter().filter(move |_| whole);
    [oncall(key, host), complete(key, host)]
        .into_iter()
        .chain(shared)
}

/// Fields of the hash [`host`].
pub mod field {
    /// The host's name once more.
    pub const ID: &str = "id";
    /// The address it connects from.
    pub const IP: &str = "ip";
    /// The port it connects from.
    pub const PORT: &str = "port";
    /// Its host name, where it has told.
    pub const HOSTNAME: &str = "hostname";
    /// Its MAC address, where it has told.
    pub const MAC: &str = "mac";
    /// Time of the last change, unix ms.
    pub const SINCE: &str = "since";
    /// Reason for being offline; absent while it is online.
    pub const REASON: &str = "reason";
    /// The node that holds it; empty when it is offline.
    pub const NODE: &str = "node";
    /// Counts its claims.
    pub const EPOCH: &str = "epoch";
    /// `1` once it has proved a key: from then on it is let in with a key only.
    pub const KEYED: &str = "keyed";
}

/// Fields of the hash [`node_info`].
pub mod node {
    /// Time at which all of the node's hosts had been taken over, unix ms; absent while it lives.
    pub const GONE: &str = "gone";
}

/// Fields of the hash [`ak`](fn@ak), spelled where the core can name them.
pub use super::op::device;

/// Fields of an entry of [`EVENTS`], in the order they are written, and the words in them.
pub mod event {
    /// Kind of the event: one of the names below.
    pub const EVENT: &str = "event";
    /// To which host; empty where it is about the whole fleet.
    pub const HOST: &str = "host";
    /// Time, unix ms.
    pub const AT: &str = "at";
    /// Told by which node.
    pub const NODE: &str = "node";
    /// Its number among that node's; 0 for one that a start told again for a crash.
    pub const SEQ: &str = "seq";
    /// Reason.
    pub const REASON: &str = "reason";
    /// In which task.
    pub const KEY: &str = "key";
    /// At which command.
    pub const COMMAND: &str = "command";
    /// New state.
    pub const STATE: &str = "state";
    /// Count.
    pub const COUNT: &str = "count";

    /// A host is online.
    pub const ONLINE: &str = "online";
    /// A host is offline.
    pub const OFFLINE: &str = "offline";
    /// A host has answered a dispatch.
    pub const ANSWER: &str = "answer";
    /// A host has come further with a task.
    pub const PROGRESS: &str = "progress";
    /// A task is stored.
    pub const DISPATCH: &str = "dispatch";
    /// The result of a command has come.
    pub const RESULT: &str = "result";

    /// The book has arrived.
    pub const ANSWERED: &str = "answered";
    /// The host received damaged data.
    pub const DAMAGED: &str = "damaged";
    /// There is no book under the key.
    pub const NO_BOOK: &str = "no-book";
    /// A command has begun, or has ended and others are left.
    pub const WORKING: &str = "working";
    /// Nothing is left.
    pub const DONE: &str = "done";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_older_programs_read_are_spelled_as_they_expect() {
        let host_id = HostId::checked("10.0.0.7").unwrap();
        let key = TaskKey::parse("AC132", "AC").unwrap();
        assert_eq!(system_info(&host_id), "10.0.0.7_systemInfo");
        assert_eq!(system_info_ipv4(&host_id), "10.0.0.7_systemInfoIPV4");
        assert_eq!(book(&key), "AC132");
        assert_eq!(response(&key), "AC132_response");
        assert_eq!(working(&key), "AC132_working");
        assert_eq!(oncall_names(&key), "AC132_oncall");
        assert_eq!(oncall(&key, &host_id), "AC132_10.0.0.7_oncall");
        assert_eq!(complete_names(&key), "AC132_complete");
        assert_eq!(complete(&key, &host_id), "AC132_10.0.0.7_complete");
    }

    #[test]
    fn no_two_keys_of_a_task_are_the_same() {
        let host_id = HostId::checked("oncall").unwrap();
        let key = TaskKey::parse("AC1", "AC").unwrap();
        let names: Vec<_> = of_task(&key, &host_id).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    use proptest::prelude::*;

    /// Names in which everything stands that the names of keys are put together from.
    fn name() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a",
            "AC1",
            "AC",
            "x",
            "exists",
            "anthill",
            "host",
            "task",
            "node",
            "ak",
            "seen",
            "hosts",
            "result",
            "systemInfo",
            "systemInfoIPV4",
            "response",
            "working",
            "oncall",
            "complete",
            "cpu",
            "load_1",
            "1",
            "10.0.0.7",
            "history",
            "labels",
            "lock",
            "0123456789abcdef0123456789abcdef",
        ]);
        let glue = prop::sample::select(vec!["_", ":", ".", "-", ""]);
        let pair = (piece.clone(), glue);
        (prop::collection::vec(pair, 0..4), piece).prop_map(|(pairs, last)| {
            let begin: String = pairs
                .iter()
                .flat_map(|(piece, glue)| [*piece, *glue])
                .collect();
            begin + last
        })
    }

    /// Every key there is for these names, with what it is.
    fn all_keys(host_id: &str, key: &str, node: &str, fields: &[String]) -> Vec<(String, String)> {
        let mut all = vec![
            (EXISTS.to_owned(), "exists".to_owned()),
            (SEEN.to_owned(), "seen".to_owned()),
            (EVENTS.to_owned(), "events".to_owned()),
            (TASKS.to_owned(), "tasks".to_owned()),
            (NODES.to_owned(), "nodes".to_owned()),
            (REACH.to_owned(), "reach".to_owned()),
        ];
        let mut add = |name: String, what: String| all.push((name, what));
        if !node.contains(['_', ':']) {
            add(node_lease(node), format!("lease of {node}"));
            add(node_hosts(node), format!("hosts of {node}"));
        }
        let task = ["AC", "a", "ex", "0"]
            .iter()
            .find_map(|prefix| TaskKey::parse(key, prefix));
        let host_id = HostId::checked(host_id).ok();
        if let Some(id) = &host_id {
            add(host(id), format!("claim of {id}"));
            add(ak(id), format!("device {id}"));
            for field in fields {
                add(of_host(id, field), format!("{field} of {id}"));
            }
            let cid = "0123456789abcdef0123456789abcdef";
            add(task_result(cid, id), format!("result {cid} {id}"));
        }
        if let Some(task_key) = &task {
            for (n, name) in of_whole_task(task_key).into_iter().enumerate() {
                add(name, format!("{n} of task {task_key}"));
            }
            for (n, name) in host_id
                .iter()
                .flat_map(|id| of_host_in_task(task_key, id))
                .enumerate()
            {
                add(name, format!("{n} of {host_id:?} in task {task_key}"));
            }
        }
        all
    }

    #[test]
    fn no_two_of_a_thousand_names_make_one_key() {
        let pieces = ["a", "AC1", "anthill", "host", "systemInfo", "oncall"];
        let mut names: Vec<String> = pieces.map(str::to_owned).to_vec();
        for _ in 0..2 {
            let longer = names.iter().flat_map(|name| {
                let with = move |piece| ["_", ":"].map(|glue| format!("{name}{glue}{piece}"));
                pieces.into_iter().flat_map(with)
            });
            let longer: Vec<String> = longer.collect();
            names.extend(longer);
        }
        let fields = ["systemInfo".to_owned(), "systemInfoIPV4".to_owned()];
        let mut seen = std::collections::HashMap::new();
        for name in &names {
            for (key, what) in all_keys(name, "AC1", "n1", &fields) {
                let before = seen.insert(key.clone(), what.clone());
                assert!(before.is_none_or(|before| before == what), "{key}: {what}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn no_two_names_make_one_key(
            one in (name(), name(), name()),
            other in (name(), name(), name()),
            more in prop::collection::vec("[a-z]{1,3}(_[a-z]{1,3})?|web_oncall|a_systemInfo", 0..3),
        ) {
            let mut fields = vec!["systemInfo".to_owned(), "systemInfoIPV4".to_owned(), "cpu".to_owned()];
            fields.extend(more);
            // Those that the configuration takes.
            let all = fields.clone();
            fields.retain(|field| crate::ids::meets_another(field, &all).is_none());
            let mut seen = std::collections::HashMap::new();
            for (host_id, key, node) in [&one, &other] {
                for (name, what) in all_keys(host_id, key, node, &fields) {
                    let before = seen.insert(name.clone(), what.clone());
                    prop_assert!(before.is_none_or(|before| before == what), "{name}: {what}");
                }
            }
        }
    }
}
