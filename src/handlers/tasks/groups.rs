//! Hosts of a task, grouped by exit status and digest of a command's output.
//!
//! ```text
//!  task in the table ─┐           a page of hosts a question        the first of each group
//!  task of the store ─┴─▶ hosts ─▶ results without outputs ─▶ groups ─▶ outputs ─▶ response
//! ```
//!
//! Each question names at most a page of hosts, so a large task is read in many turns. Only the
//! outputs that are shown are read.

use std::collections::{BTreeMap, HashMap};

use crate::handlers::context::Ctx;
use crate::handlers::request::{ErrorKind, GroupsView, Response, ResultGroup};
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::reads::{Reading, unknown};
use crate::ids::{HostId, TaskKey};
use crate::limits::{GROUP_OUTPUT_BYTES_MAX, GROUP_OUTPUTS_MAX, PAGE_TASK_HOSTS_MAX};
use crate::store::op::{Found, FoundResult, Question, TaskState};

/// A request in progress.
#[derive(Clone, Debug)]
pub(crate) struct GroupsReading {
    key: TaskKey,
    command: Option<String>,
    /// Hosts of a task that is only in the store.
    stored: Option<Vec<(HostId, TaskState)>>,
    /// Number of hosts whose results have been requested.
    asked: usize,
    /// The hosts of the current question.
    page: Vec<(HostId, TaskState)>,
    /// Places in `groups`, by exit status and digest.
    places: HashMap<(i32, String), usize>,
    groups: Vec<ResultGroup>,
    without: BTreeMap<&'static str, (TaskState, Vec<HostId>)>,
    /// Number of groups whose output has been requested.
    outputs: usize,
}

impl Tasks {
    /// Begins to group the hosts of a task.
    pub(crate) fn ask_groups(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        key: &str,
        command: Option<String>,
    ) {
        let Some(key) = TaskKey::parse(key, &cx.rules.key_prefix) else {
            return cx.respond(requester, unknown("no such task"));
        };
        let reading = Box::new(GroupsReading {
            key: key.clone(),
            command,
            stored: None,
            asked: 0,
            page: Vec::new(),
            places: HashMap::new(),
            groups: Vec::new(),
            without: BTreeMap::new(),
            outputs: 0,
        });
        match self.commands_of(&key) {
            Some(commands) => self.begin_groups(cx, requester, reading, &commands),
            None => {
                let question = Question::Whole { key };
                self.read(cx, requester, Reading::Groups(reading), question);
            }
        }
    }

    /// Commands of a task in the table.
    fn commands_of(&self, key: &TaskKey) -> Option<Vec<(String, f64)>> {
        let task = self.table.task(self.table.find(key)?)?;
        task.is_whole().then(|| task.commands.clone())
    }

    /// Chooses the command, and asks for the first hosts.
    fn begin_groups(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        mut reading: Box<GroupsReading>,
        commands: &[(String, f64)],
    ) {
        let refusal = match (&reading.command, commands) {
            (None, [(only, _)]) => {
                reading.command = Some(only.clone());
                None
            }
            (None, all) => Some(Response::Error {
                kind: ErrorKind::Wrong,
                text: format!("the task has {} commands: command must name one", all.len()),
            }),
            (Some(named), all) if all.iter().any(|(command, _)| command == named) => None,
            (Some(_), _) => Some(unknown("the task has no such command")),
        };
        match refusal {
            Some(refusal) => cx.respond(requester, refusal),
            None => self.next_groups(cx, requester, reading),
        }
    }

    /// Asks for the results of the next hosts, then for the outputs of the groups.
    fn next_groups(&mut self, cx: &mut Ctx<'_>, requester: u64, mut reading: Box<GroupsReading>) {
        let Some(page) = self.next_hosts(&reading) else {
            let text = "the task has left the memory meanwhile; ask again".to_owned();
            let kind = ErrorKind::NotNow;
            return cx.respond(requester, Response::Error { kind, text });
        };
        let (key, command) = (
            reading.key.clone(),
            reading.command.clone().unwrap_or_default(),
        );
        if !page.is_empty() {
            reading.asked += page.len();
            let hosts = page.iter().map(|(host, _)| host.clone()).collect();
            reading.page = page;
            let question = Question::Results {
                key,
                command,
                hosts,
            };
            return self.read(cx, requester, Reading::Groups(reading), question);
        }
        if reading.outputs == 0 {
            let order = |group: &ResultGroup| std::cmp::Reverse(group.hosts.len());
            // Stable: groups of one size stay in the order of their first hosts.
            reading.groups.sort_by_key(order);
        }
        let shown = reading.groups.len().min(GROUP_OUTPUTS_MAX);
        if reading.outputs < shown {
            let first = reading.groups[reading.outputs].hosts.first().cloned();
            reading.outputs += 1;
            if let Some(host) = first {
                let code = key.as_str().to_owned();
                let question = Question::Output {
                    code,
                    host,
                    command,
                };
                return self.read(cx, requester, Reading::Groups(reading), question);
            }
        }
        let view = GroupsView {
            key,
            command,
            groups: reading.groups,
            without: reading.without.into_values().collect(),
        };
        cx.respond(requester, Response::Groups(Box::new(view)));
    }

    /// The next hosts of the task, with their states; empty at the end. None if the task has left
    /// the memory.
    fn next_hosts(&self, reading: &GroupsReading) -> Option<Vec<(HostId, TaskState)>> {
        let from = reading.asked;
        if let Some(hosts) = &reading.stored {
            let rest = hosts.iter().skip(from).take(PAGE_TASK_HOSTS_MAX);
            return Some(rest.cloned().collect());
        }
        let task = self.table.task(self.table.find(&reading.key)?)?;
        let host = |slot: &u32| {
            let name = self.table.names_of(*slot)?.0.clone();
            Some((name, self.table.delivery(*slot)?.state))
        };
        let rest = task.deliveries.iter().skip(from).take(PAGE_TASK_HOSTS_MAX);
        Some(rest.filter_map(host).collect())
    }

    /// The store has answered a question about the groups of a task.
    pub(crate) fn groups_read(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        mut reading: GroupsReading,
        found: Found,
    ) {
        match found {
            Found::Whole(None) => return cx.respond(requester, unknown("no such task")),
            Found::Whole(Some(task)) => {
                let hosts = task.hosts.into_iter();
                reading.stored = Some(hosts.map(|(host, state, _)| (host, state)).collect());
                return self.begin_groups(cx, requester, Box::new(reading), &task.commands);
            }
            Found::Results(results) => reading.take(results),
            Found::Output(output) => {
                let place = reading.outputs.saturating_sub(1);
                if let Some(group) = reading.groups.get_mut(place) {
                    group.output = output.map(|mut bytes| {
                        bytes.truncate(GROUP_OUTPUT_BYTES_MAX);
                        bytes
                    });
                }
            }
            Found::Nothing(text) => {
                let kind = ErrorKind::NotNow;
                return cx.respond(requester, Response::Error { kind, text });
            }
            _ => {
                let response = unknown("the store answered something else");
                return cx.respond(requester, response);
            }
        }
        self.next_groups(cx, requester, Box::new(reading));
    }
}

impl GroupsReading {
    /// Sorts the hosts of the page into groups.
    fn take(&mut self, results: Vec<Option<FoundResult>>) {
        let page = std::mem::take(&mut self.page);
        let results = results.into_iter().chain(std::iter::repeat_with(|| None));
        for ((host, state), result) in page.into_iter().zip(results) {
            let Some(result) = result else {
                let without = self.without.entry(state.as_str());
                without.or_insert_with(|| (state, Vec::new())).1.push(host);
                continue;
            };
            let next = self.groups.len();
            let digest = (result.exit, result.sha256);
            let place = *self.places.entry(digest.clone()).or_insert(next);
            if place == next {
                self.groups.push(ResultGroup {
                    exit: digest.0,
                    sha256: digest.1,
                    hosts: Vec::new(),
                    size: result.size,
                    output: None,
                });
            }
            self.groups[place].hosts.push(host);
        }
    }
}
