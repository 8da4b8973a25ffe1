//! Every key with its type and its lifetime. The names are spelled here and nowhere else, and are
//! shared by all stores.
//!
//! Keys that the fleet's older programs read:
//!
//! | key | type | content | deleted |
//! |---|---|---|---|
//! | [`EXISTS`] | set | hosts online | a host leaves when it goes offline |
//! | [`system_info`] | set | values of the host's inventory | when it goes offline |
//! | [`system_info_ipv4`] | list | its IPv4 addresses, last first | when it goes offline |
//! | [`book`] | sorted set | the task book: command by priority | `keep` after a host last ended |
//! | [`response`] | set | hosts whose answer is awaited | likewise |
//! | [`working`] | hash | host → the command it runs | likewise; the field at its end |
//! | [`oncall_names`] | hash | host → name of its list below | likewise; the field at its end |
//! | [`oncall`] | list | remaining commands, last first | at its end |
//! | [`complete_names`] | hash | host → name of its list below | likewise (*) |
//! | [`complete`] | list | finished commands, in order | likewise (*) |
//!
//! (*) When the host ends, where `on_done` is `clear`.
//!
//! Keys of our own:
//!
//! | key | type | content | deleted |
//! |---|---|---|---|
//! | [`SEEN`] | sorted set | host → time of its last message, unix ms | members swept `keep` after that |
//! | [`host`] | hash | fields in [`field`] | `keep` after it went offline |
//! | [`LABELS`] | hash | host → its labels from an administrator, as JSON | when the host is forgotten |
//! | [`TASKS`] | sorted set | task key → creation time, unix ms | members swept when the task is gone |
//! | [`task`] | string | a task's claim, as JSON (`records::Claim`) | with the book |
//! | [`task_rollout`] | string | target and rollout of a task, as JSON, with the keeper epoch | with the book |
//! | [`task_hosts`] | hash | host → its state in the task | with the book |
//! | [`task_result`] | hash | command → its result, as JSON (`records`) | `keep` after the newest, or with the book |
//! | [`EVENTS`] | stream | fields in [`event`], all text | trimmed at about `STREAM_ENTRIES_MAX` |
//! | [`ak`] | hash | command → its last answer's data; fields in [`device`] | when a reload takes the device out |
//! | [`fn@history`] | string | packed transitions of a host before its present state | as [`host`] |
//! | [`HISTORY`] | hash | counts by node and hour, and runs by node: `op::history` | rows after `HISTORY_DAYS` |
//! | [`REACH`] | hash | target → JSON `{state, rtt_ms, since, at}`, times in unix ms | a field when a reload takes the target out |
//! | [`AK_DEVICES`] | set | names of AK devices | when a reload takes the device out |
//! | [`poll`] | string | name of the node that polls a device or a target | `POLL_LEASE_S` after it was last renewed |
//! | [`TASKS_OPEN`] | set | keys of the tasks in which a host may still change state | a task leaves when all its hosts have ended |
//! | [`NODES`] | set | names of the nodes | never |
//! | [`node_lease`] | string | a random number of the process | `LEASE_S` after it was last renewed |
//! | [`node_mark`] | string | likewise, at each primary of a Cluster | likewise |
//! | [`node_heir`] | string | name of the node that takes over from this one | when that is done, or `LEASE_S` later |
//! | [`node_info`] | hash | fields in [`node`](mod@node) | `keep` after the node was taken over |
//! | [`node_inbox`] | stream | work for a node | trimmed at about 10,000 entries |
//! | [`command`](fn@command) | hash | a console command with hosts at several nodes | after an hour |
//! | [`node_probe`], [`node_probe_at`] | string | test value: the store takes writes | after a second |
//! | [`node_hosts`] | set | hosts that a node holds | a host leaves as the last step of going offline |
//!
//! A crash may interrupt a change between two keys, never within one. The order of the writes shows
//! how far the change got:
//!
//! ```text
//!  online    node_hosts + ──▶ host: epoch + 1, node = us ──▶ EXISTS + ──▶ EVENTS
//!  offline   host: node = "" ──▶ EXISTS - ──▶ <host>_<field> gone ──▶ EVENTS ──▶ node_hosts -
//!  dispatch  TASKS + ──▶ task: the claim ──▶ task_hosts, response ──▶ book ──▶ EVENTS
//! ```
//!
//! - A host in the node's set whose `node` is empty was going offline: the change is finished.
//! - A host in [`EXISTS`] that no node holds, and that was not going offline, was left by an older
//!   server. It is adopted: reported as ours under epoch 0. Going offline under epoch 0 ends any
//!   claim of this node, and an adopted host, which has none.
//! - Any other host in the node's set, with another node or none, is only removed from the set.
//! - A task is stored when its book exists: the book is written last, in one command. An entry of
//!   [`TASKS`] without a book, whose claim is this node's or missing, was interrupted. It is
//!   removed: hosts and response, claim, entry.
//! - A book beside a claim without `task_hosts` belongs to another program, which was faster.

use super::op::Place;
use crate::ids::{HostId, TaskKey};

/// Hosts online.
pub use crate::ids::EXISTS;
/// Last-seen times of the hosts.
pub const SEEN: &str = "anthill:seen";
/// The event stream.
pub const EVENTS: &str = "anthill:events";
/// The tasks, by creation time.
pub const TASKS: &str = "anthill:tasks";
/// Keys of the tasks in which a host may still change state. Written only by a store that nodes can
/// share.
pub const TASKS_OPEN: &str = "anthill:tasks:open";
/// Names of the nodes.
pub const NODES: &str = "anthill:nodes";

/// Labels from an administrator.
pub const LABELS: &str = "anthill:labels";

/// Counts of hosts online by minute, and the runs of the nodes.
pub const HISTORY: &str = "anthill:history";
/// Names of the AK devices. Written only by a store that nodes can share.
pub const AK_DEVICES: &str = "anthill:ak";
/// States of the targets of `reach`.
pub const REACH: &str = "anthill:reach";

/// One function a key, which returns its name.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),+) = $format:literal;)+) => {
        $($(#[$doc])* #[must_use] pub fn $name($($argument: $type),+) -> String {
            format!($format)
        })+
    };
}

keys! {
    /// State of an AK device.
    ak(device: &HostId) = "anthill:ak:{device}";
    /// Key that is deleted when a host goes offline.
    of_host(host: &HostId, field: &str) = "{host}_{field}";
    /// Values of the host's inventory.
    system_info(host: &HostId) = "{host}_systemInfo";
    /// The host's IPv4 addresses, the last one first.
    system_info_ipv4(host: &HostId) = "{host}_systemInfoIPV4";
    /// The task book.
    book(key: &TaskKey) = "{key}";
    /// Hosts whose answer is awaited.
    response(key: &TaskKey) = "{key}_response";
    /// The command that each host runs.
    working(key: &TaskKey) = "{key}_working";
    /// The name of each host's list of remaining commands.
    oncall_names(key: &TaskKey) = "{key}_oncall";
    /// A host's remaining commands, the last one first.
    oncall(key: &TaskKey, host: &HostId) = "{key}_{host}_oncall";
    /// The name of each host's list of finished commands.
    complete_names(key: &TaskKey) = "{key}_complete";
    /// A host's finished commands, in order.
    complete(key: &TaskKey, host: &HostId) = "{key}_{host}_complete";
    /// Record of a host; its fields are in [`field`].
    host(host: &HostId) = "anthill:host:{host}";
    /// Packed transitions of a host.
    history(host: &HostId) = "anthill:history:{host}";
    /// The claim of a task.
    task(key: &TaskKey) = "anthill:task:{key}";
    /// The state of each host in a task.
    task_hosts(key: &TaskKey) = "anthill:task:{key}:hosts";
    /// Target and rollout of a task.
    task_rollout(key: &TaskKey) = "anthill:task:{key}:rollout";
    /// Results of commands on a host. `code` is the task's key, or the id of a console command.
    task_result(code: &str, host: &HostId) = "anthill:task:{code}:result:{host}";
    /// A console command with hosts at several nodes; its fields are in [`command`](mod@command).
    command(cid: &str) = "anthill:command:{cid}";
    /// The lease of a node.
    node_lease(node: &str) = "anthill:node:{node}";
    /// The node that takes over from a node that is gone.
    node_heir(node: &str) = "anthill:node:{node}:heir";
    /// Record of a node; its fields are in [`node`](mod@node).
    node_info(node: &str) = "anthill:node:{node}:info";
    /// Written by a node to see that its store takes writes.
    node_probe(node: &str) = "anthill:node:{node}:probe";
    /// The same at a primary of a Cluster, which has the slot of `tag`.
    node_probe_at(node: &str, tag: &str) = "anthill:node:{node}:probe:{{{tag}}}";
    /// Written by a node at a primary of a Cluster, which has the slot of `tag`, to see that this
    /// primary still has its data. A lease of its own.
    node_mark(node: &str, tag: &str) = "anthill:node:{node}:mark:{{{tag}}}";
    /// Work for a node.
    node_inbox(node: &str) = "anthill:node:{node}:inbox";
    /// The hosts that a node holds.
    node_hosts(node: &str) = "anthill:node:{node}:hosts";
}

/// The lease of the node that polls a device or a target, or that has a task for the whole fleet.
#[must_use]
pub fn poll(name: &str) -> String {
    match name {
        // A device of this name is no task for the fleet.
        "adopt" => "anthill:poll:ak:adopt".to_owned(),
        name => format!("anthill:poll:{name}"),
    }
}

/// The key of a device or of the targets.
#[must_use]
pub fn outside(place: &Place) -> String {
    match place {
        Place::Device(name) => ak(name),
        Place::Reach => REACH.to_owned(),
    }
}

/// Keys of a task that belong to all its hosts. They expire together when one of the hosts ends.
#[must_use]
pub fn of_whole_task(key: &TaskKey) -> [String; 8] {
    [
        book(key),
        response(key),
        working(key),
        oncall_names(key),
        complete_names(key),
        task(key),
        task_hosts(key),
        task_rollout(key),
    ]
}

/// Keys of a task that belong to one host. They expire when that host ends.
#[must_use]
pub fn of_host_in_task(key: &TaskKey, host: &HostId) -> [String; 3] {
    [
        oncall(key, host),
        complete(key, host),
        task_result(key.as_str(), host),
    ]
}

/// Keys of a task that expire when this host ends.
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
    /// The host's name.
    pub const ID: &str = "id";
    /// The address it connects from.
    pub const IP: &str = "ip";
    /// The port it connects from.
    pub const PORT: &str = "port";
    /// Its host name, if it has reported one.
    pub const HOSTNAME: &str = "hostname";
    /// Its MAC address, if it has reported one.
    pub const MAC: &str = "mac";
    /// Time of the last change, unix ms.
    pub const SINCE: &str = "since";
    /// Reason for being offline; absent while it is online.
    pub const REASON: &str = "reason";
    /// The node that holds it; empty when it is offline.
    pub const NODE: &str = "node";
    /// Number of its claims.
    pub const EPOCH: &str = "epoch";
    /// `1` once it has proved a key: from then on it needs one.
    pub const KEYED: &str = "keyed";
    /// The labels that it claims, as JSON; absent if there are none.
    pub const LABELS: &str = "labels";
    /// Identifier of its process, if it gave one.
    pub const BOOT: &str = "boot";
}

/// Fields of the hash [`node_info`].
pub mod node {
    /// Version of its program.
    pub const VERSION: &str = "version";
    /// Time of its start, unix ms.
    pub const STARTED: &str = "started";
    /// Address of its HTTP API.
    pub const HTTP: &str = "http";
    /// Number of hosts that it held at the last look.
    pub const HOSTS: &str = "hosts";
    /// Time of its last look at the other nodes, unix ms.
    pub const SEEN: &str = "seen";
    /// Time at which all of the node's hosts were taken over, unix ms; absent while it lives.
    pub const GONE: &str = "gone";
}

/// Fields of an entry of [`node_inbox`].
pub mod inbox {
    /// Key of the task.
    pub const TASK: &str = "task";
    /// Hosts, between blanks.
    pub const HOSTS: &str = "hosts";
    /// Number of times that it was forwarded.
    pub const HOPS: &str = "hops";
    /// A letter about the task, as JSON.
    pub const LETTER: &str = "letter";
    /// Id of the console command, instead of a task.
    pub const COMMAND: &str = "command";
}

/// Fields of the hash [`command`](fn@command).
pub mod command {
    /// Its text.
    pub const TEXT: &str = "text";
    /// Time of the command.
    pub const CREATED: &str = "created";
    /// Prefix of the fields of its hosts.
    pub const HOST: &str = "host:";
}

/// Fields of the hash [`ak`](fn@ak).
pub use super::op::device;

/// Fields of an entry of [`EVENTS`], in the order in which they are written, and their words.
pub mod event {
    /// Kind of the event: one of the names below.
    pub const EVENT: &str = "event";
    /// The host; empty for an event of the whole fleet.
    pub const HOST: &str = "host";
    /// Time, unix ms.
    pub const AT: &str = "at";
    /// The node that wrote it.
    pub const NODE: &str = "node";
    /// Its number among that node's; 0 for one that a start repeats after a crash.
    pub const SEQ: &str = "seq";
    /// Reason.
    pub const REASON: &str = "reason";
    /// The task.
    pub const KEY: &str = "key";
    /// The command.
    pub const COMMAND: &str = "command";
    /// New state.
    pub const STATE: &str = "state";
    /// Count.
    pub const COUNT: &str = "count";
    /// Name of the token, or address of the peer.
    pub const BY: &str = "by";
    /// Method and endpoint.
    pub const WHAT: &str = "what";
    /// The host, or the target.
    pub const TARGET: &str = "target";
    /// Result of a request.
    pub const RESULT_OF: &str = "result";

    /// A host is online.
    pub const ONLINE: &str = "online";
    /// A host is offline.
    pub const OFFLINE: &str = "offline";
    /// A host has answered a dispatch.
    pub const ANSWER: &str = "answer";
    /// A host has made progress in a task.
    pub const PROGRESS: &str = "progress";
    /// A task is stored.
    pub const DISPATCH: &str = "dispatch";
    /// The result of a command has arrived.
    pub const RESULT: &str = "result";

    /// The book has arrived.
    pub const ANSWERED: &str = "answered";
    /// The host received damaged data.
    pub const DAMAGED: &str = "damaged";
    /// There is no book under the key.
    pub const NO_BOOK: &str = "no-book";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_programs_find_their_key_names() {
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
    fn the_keys_of_a_task_are_distinct() {
        let host_id = HostId::checked("oncall").unwrap();
        let key = TaskKey::parse("AC1", "AC").unwrap();
        let names: Vec<_> = of_task(&key, &host_id).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    use proptest::prelude::*;

    /// Names made of all pieces that key names are made of.
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

    /// All keys for these names, each with its meaning.
    fn all_keys(host_id: &str, key: &str, node: &str, fields: &[String]) -> Vec<(String, String)> {
        let mut all = vec![
            (EXISTS.to_owned(), "exists".to_owned()),
            (SEEN.to_owned(), "seen".to_owned()),
            (EVENTS.to_owned(), "events".to_owned()),
            (TASKS.to_owned(), "tasks".to_owned()),
            (NODES.to_owned(), "nodes".to_owned()),
            (REACH.to_owned(), "reach".to_owned()),
            (LABELS.to_owned(), "labels".to_owned()),
            (HISTORY.to_owned(), "history".to_owned()),
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
            add(history(id), format!("history of {id}"));
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
