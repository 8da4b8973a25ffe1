//! Requests that read: answered from the tables at once, or after the store has answered.

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::tasks::Tasks;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{HostId, TaskKey};
use crate::limits::{
    PAGE_TASK_HOSTS_MAX, PAGE_TASKS_MAX, READ_LARGE_HOSTS, READS_LARGE_MAX, READS_WAITING_MAX,
};
use crate::store::op::{
    CommandRecord, Found, FoundHost, HostRecord, Op, Question, Read, TaskState, Transition,
};
use crate::time::{Instant, UnixMs};

use crate::handlers::request::{
    ErrorKind, HistoryRequest, OutsideRequest, Response, RolloutView, TaskSummary, TaskView,
};
use crate::handlers::tasks::dispatch::{WAIT, not_now};
use crate::handlers::tasks::groups::GroupsReading;
use crate::handlers::tasks::table::Task;
use crate::handlers::tasks::waves::rollout_view;
use crate::handlers::view::{Filter, HostView};

/// Key, creation time, commands and rollout of a task.
type TaskFacts = (TaskKey, UnixMs, Vec<(String, f64)>, Option<RolloutView>);

/// Use of the store's answer.
#[derive(Clone, Debug)]
pub(crate) enum Reading {
    /// Devices or targets of all nodes.
    Outside(Box<OutsideRequest>),
    /// A page of a task that is not in the tables.
    Stored {
        /// Its key.
        key: TaskKey,
        /// Start of the page.
        cursor: u64,
        /// Maximum number of hosts.
        limit: usize,
    },
    /// A page of a task.
    Task {
        /// Its key.
        key: TaskKey,
        /// Creation time.
        created: UnixMs,
        /// Command and priority, in the order in which they are run.
        commands: Vec<(String, f64)>,
        /// The hosts of the page, with their states at the time of the request. Their progress at
        /// that time is in the store when it is read.
        hosts: Vec<(HostId, TaskState)>,
        /// Start of the next page.
        next: Option<u64>,
        /// Its target and rollout.
        rollout: Option<Box<RolloutView>>,
    },
    /// An output.
    Output,
    /// Hosts of a task, grouped by the result of a command.
    Groups(Box<GroupsReading>),
    /// The nodes of the store.
    Nodes,
    /// This answer, when the store has what it tells.
    Confirmed(Box<Response>),
    /// Hosts of any node.
    Hosts(HostsReading),
    /// History.
    History(Box<HistoryReading>),
    /// A console command.
    Command {
        /// Its id.
        cid: String,
        /// The requested hosts.
        hosts: Vec<HostId>,
        /// The command as all nodes share it; none if it is in the table.
        stored: Option<Box<CommandRecord>>,
    },
    /// A console command that the store has for all nodes.
    CommandRecord,
}

impl Reading {
    /// Text for a requester that gets no answer, for this reason.
    fn unanswered(&self, why: &'static str) -> &'static str {
        match self {
            Self::Confirmed(_) => UNSTORED,
            _ => why,
        }
    }
}

/// Text of a change that is made, and that the store has not confirmed.
const UNSTORED: &str =
    "done, and not confirmed by the store: a restart of the server may undo it; ask again";

/// A request for hosts of any node that waits for the store.
#[derive(Clone, Debug)]
pub(crate) enum HostsReading {
    /// Hosts by name.
    Named(Vec<HostId>),
    /// A page of those in these states.
    Page(Filter),
    /// A page of the scan of this number.
    Copy(u32),
    /// A page of a target's hosts.
    Listed(Box<Listed>),
    /// A host whose history is requested.
    History(HostId),
    /// A host that is to be forgotten.
    Forget(HostId),
}

/// A page of a target's hosts that waits for the records of those of other nodes.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) hosts: Vec<HostView<'static>>,
    /// Start of the next page.
    pub(crate) next: Option<u64>,
    pub(crate) filter: Filter,
}

/// A request for the history that waits for the store.
#[derive(Clone, Debug)]
pub(crate) struct HistoryReading {
    pub(crate) request: HistoryRequest,
    /// The hosts that are shown.
    pub(crate) hosts: Vec<HostId>,
    /// Start of the next page.
    pub(crate) next: Option<u64>,
    /// Hosts whose stored transitions are requested, and the answer.
    pub(crate) asked: Vec<HostId>,
    pub(crate) stored: Vec<Vec<Transition>>,
    /// Record of a host that is not online here.
    pub(crate) record: Option<HostRecord>,
}

/// A question to the store.
#[derive(Debug)]
struct Pending {
    requester: u64,
    deadline: Instant,
    reading: Reading,
}

/// Questions to the store.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pending: BTreeMap<u64, Pending>,
    turn: VecDeque<Read>,
    next: u64,
    /// Questions about many hosts that the store thread has.
    large: BTreeSet<u64>,
}

/// Returns whether a question costs the store many commands.
fn is_large(read: &Read) -> bool {
    match &read.question {
        Question::Scan(_) => true,
        Question::Hosts { hosts } => hosts.len() >= READ_LARGE_HOSTS,
        _ => false,
    }
}

impl Reads {
    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        let has_room = self.large.len() < READS_LARGE_MAX;
        self.turn.iter().any(|read| has_room || !is_large(read))
    }

    /// Moves up to `max` of them into a batch.
    pub(crate) fn take_ops(&mut self, max: usize, ops: &mut Vec<Op>) {
        let mut waiting = VecDeque::new();
        while let Some(read) = self.turn.pop_front() {
            let is_large = is_large(&read);
            if ops.len() >= max || (is_large && self.large.len() >= READS_LARGE_MAX) {
                waiting.push_back(read);
                continue;
            }
            if is_large {
                self.large.insert(read.ticket);
            }
            ops.push(Op::Read(Box::new(read)));
        }
        self.turn = waiting;
    }

    /// Deadline of the next requester: tickets are assigned in the order of their deadlines.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (_, first) = self.pending.first_key_value()?;
        Some(first.deadline)
    }
}

impl Tasks {
    /// The tasks whose number is below `below` (all if that is 0), the newest first, without those that still
    /// miss hosts.
    fn whole_tasks(&self, below: u64) -> impl Iterator<Item = &Task> {
        let slots = self.table.newest_first(below);
        let tasks = slots.filter_map(|slot| self.table.task(slot));
        tasks.filter(|task| task.is_whole())
    }

    pub(crate) fn list_tasks(&self, cursor: u64, limit: usize) -> Response {
        let limit = limit.clamp(1, PAGE_TASKS_MAX);
        let found: Vec<_> = self.whole_tasks(cursor).take(limit).collect();
        let last = found.last().map(|task| task.number);
        let more = |number: &u64| self.whole_tasks(*number).next().is_some();
        Response::Tasks {
            next: last.filter(more),
            tasks: found
                .into_iter()
                .map(|task| TaskSummary {
                    key: task.key.clone(),
                    created: task.created,
                    hosts: task.counts().collect(),
                    rollout: task.rollout.as_deref().map(rollout_view),
                })
                .collect(),
        }
    }

    pub(crate) fn ask_task(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        key: &str,
        cursor: u64,
        limit: usize,
    ) {
        let Some(key) = TaskKey::parse(key, &cx.rules.key_prefix) else {
            return cx.respond(requester, unknown("no such task"));
        };
        let task = self.table.find(&key).and_then(|slot| self.table.task(slot));
        let Some(task) = task.filter(|task| task.is_whole()) else {
            // One that has ended long ago, another node's, or one that still misses hosts here: the store may have it.
            let question = Question::Whole { key: key.clone() };
            let reading = Reading::Stored { key, cursor, limit };
            return self.read(cx, requester, reading, question);
        };
        let host = |slot: &u32| {
            let name = self.table.names_of(*slot)?.0.clone();
            Some((name, self.table.delivery(*slot)?.state))
        };
        let (page, next) = page_of(&task.deliveries, cursor, limit);
        let hosts = page.iter().filter_map(host).collect();
        let (created, commands) = (task.created, task.commands.clone());
        let rollout = task.rollout.as_deref().map(rollout_view);
        let facts = (key, created, commands, rollout);
        self.read_page(cx, requester, facts, hosts, next);
    }

    /// Requests the progress of the hosts of a page from the store.
    fn read_page(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        (key, created, commands, rollout): TaskFacts,
        hosts: Vec<(HostId, TaskState)>,
        next: Option<u64>,
    ) {
        let question = Question::Task {
            key: key.clone(),
            hosts: hosts.iter().map(|(name, _)| name.clone()).collect(),
        };
        let reading = Reading::Task {
            key,
            created,
            commands,
            hosts,
            next,
            rollout: rollout.map(Box::new),
        };
        self.read(cx, requester, reading, question);
    }

    /// Sends a question to the store for a requester.
    pub(crate) fn read(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        reading: Reading,
        question: Question,
    ) {
        let refusal = if !cx.is_store_up() {
            Some("the store is unavailable")
        } else if self.reads.pending.len() >= READS_WAITING_MAX {
            Some("too many questions are under way")
        } else {
            None
        };
        if let Some(why) = refusal {
            let (kind, text) = not_now(why);
            return cx.respond(requester, Response::Error { kind, text });
        }
        let ticket = self.reads.next;
        self.reads.next += 1;
        let deadline = cx.at.now + WAIT;
        let pending = Pending {
            requester,
            deadline,
            reading,
        };
        self.reads.pending.insert(ticket, pending);
        self.reads.turn.push_back(Read { ticket, question });
    }

    /// Gives an answer about a change when the store has it: what was written before a question is
    /// there when that is answered.
    ///
    /// Beside other nodes the question is that for the keeper of the task: a node that stood still may
    /// not keep it any more.
    pub(super) fn confirm(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        key: &TaskKey,
        answer: Response,
    ) {
        let question = match cx.may_have_other_nodes() {
            true => Question::Keepers {
                keys: vec![key.clone()],
            },
            false => Question::Nodes,
        };
        match self.can_read(cx) {
            true => {
                let reading = Reading::Confirmed(Box::new(answer));
                self.read(cx, requester, reading, question);
            }
            false => cx.respond(requester, not_now(UNSTORED).into()),
        }
    }

    /// Gives the answer about a console command when the store has it and its nodes are rung.
    pub(super) fn confirm_command(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        cid: String,
        answer: Response,
    ) {
        let hosts = Vec::new();
        match self.can_read(cx) {
            true => {
                let reading = Reading::Confirmed(Box::new(answer));
                self.read(cx, requester, reading, Question::Command { cid, hosts });
            }
            false => cx.respond(requester, not_now(UNSTORED).into()),
        }
    }

    /// Takes the requester of a question, if it was about the history.
    pub(crate) fn take_history(&mut self, ticket: u64) -> Option<(u64, HistoryReading)> {
        let pending = self.reads.pending.get(&ticket)?;
        if !matches!(pending.reading, Reading::History(_)) {
            return None;
        }
        let Pending {
            requester, reading, ..
        } = self.reads.pending.remove(&ticket)?;
        match reading {
            Reading::History(reading) => Some((requester, *reading)),
            _ => None,
        }
    }

    /// Takes the requester of a question, if it was about hosts of any node.
    pub(crate) fn take_hosts(&mut self, ticket: u64) -> Option<(u64, HostsReading)> {
        let pending = self.reads.pending.get(&ticket)?;
        if !matches!(pending.reading, Reading::Hosts(_)) {
            return None;
        }
        let Pending {
            requester, reading, ..
        } = self.reads.pending.remove(&ticket)?;
        match reading {
            Reading::Hosts(reading) => Some((requester, reading)),
            _ => None,
        }
    }

    /// The store has answered a question.
    pub(crate) fn read_answered(&mut self, ticket: u64) {
        self.reads.large.remove(&ticket);
    }

    /// Drops the questions of a requester that is gone, and with them those that would follow.
    pub(super) fn forget_reads_of(&mut self, requester: u64) {
        let pending = &mut self.reads.pending;
        pending.retain(|_, pending| pending.requester != requester);
        let turn = &mut self.reads.turn;
        turn.retain(|read| pending.contains_key(&read.ticket));
    }

    /// The store is unavailable: answers the waiting requesters.
    pub(crate) fn forget_reads(&mut self, cx: &mut Ctx<'_>) {
        self.reads.turn = VecDeque::new();
        self.reads.large.clear();
        for (_, pending) in std::mem::take(&mut self.reads.pending) {
            let why = pending.reading.unanswered("the store is unavailable");
            cx.respond(pending.requester, not_now(why).into());
        }
    }

    /// Takes the requesters that have waited long enough.
    pub(crate) fn hurry_reads(&mut self, cx: &mut Ctx<'_>, judge: Instant) {
        while self.reads.deadline().is_some_and(|due| due <= judge) {
            let Some((_, pending)) = self.reads.pending.pop_first() else {
                return;
            };
            let why = pending.reading.unanswered("the store has not answered");
            cx.respond(pending.requester, not_now(why).into());
        }
    }
}

impl Tasks {
    /// Returns whether the store can be asked another question.
    pub(crate) fn can_read(&self, cx: &Ctx<'_>) -> bool {
        cx.is_store_up() && self.reads.pending.len() < READS_WAITING_MAX
    }

    /// Asks the store for an output.
    pub(crate) fn ask_output(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        code: String,
        host: HostId,
        command: String,
    ) {
        let question = Question::Output {
            code,
            host,
            command,
        };
        self.read(cx, requester, Reading::Output, question);
    }

    /// The store has answered a question.
    pub(crate) fn read_settled(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        ticket: u64,
        found: Found,
    ) {
        let Some(Pending {
            requester, reading, ..
        }) = self.reads.pending.remove(&ticket)
        else {
            return;
        };
        let reading = match reading {
            Reading::Groups(reading) => return self.groups_read(cx, requester, *reading, found),
            other => other,
        };
        let answer = match (reading, found) {
            (Reading::Stored { .. }, Found::Whole(None)) => unknown("no such task"),
            (Reading::Stored { key, cursor, limit }, Found::Whole(Some(task))) => {
                let (page, next) = page_of(&task.hosts, cursor, limit);
                let page = page.iter().map(|(host, state, _)| (host.clone(), *state));
                let rollout = task.rollout.as_ref();
                let rollout = rollout.and_then(|text| serde_json::from_str(text).ok());
                let rollout = rollout.as_ref().map(rollout_view);
                let task_facts = (key, task.created, task.commands.clone(), rollout);
                return self.read_page(cx, requester, task_facts, page.collect(), next);
            }
            (
                Reading::Task {
                    key,
                    created,
                    commands,
                    hosts,
                    next,
                    rollout,
                },
                Found::Task(found),
            ) => {
                let found = found
                    .into_iter()
                    .chain(std::iter::repeat_with(FoundHost::default));
                let hosts = hosts.into_iter().zip(found);
                let hosts = hosts.map(|((host, state), found)| (host, state, found));
                Response::Task(Box::new(TaskView {
                    key,
                    created,
                    commands,
                    hosts: hosts.collect(),
                    next,
                    rollout: rollout.map(|rollout| *rollout),
                }))
            }
            (
                Reading::Command {
                    cid,
                    hosts: asked,
                    stored,
                },
                Found::Task(found),
            ) => {
                return self.show_command(cx, hosts, requester, (cid, asked, stored), found);
            }
            (Reading::CommandRecord, Found::CommandRecord(record)) => {
                return self.record_read(cx, requester, record);
            }
            (Reading::Confirmed(answer), Found::Task(_)) => *answer,
            (Reading::Confirmed(answer), Found::Nodes(_)) => *answer,
            (Reading::Confirmed(answer), Found::Keepers(keepers)) => {
                let keeper = keepers.into_iter().next().flatten();
                match keeper.filter(|keeper| keeper.node != hosts.node()) {
                    Some(keeper) => Response::Error {
                        kind: ErrorKind::NotNow,
                        text: format!("the node {} keeps the task now: ask again", keeper.node),
                    },
                    None => *answer,
                }
            }
            (Reading::Outside(request), Found::Outside(found)) => Response::Outside(request, found),
            (Reading::Nodes, Found::Nodes(nodes)) => Response::Nodes(nodes),
            (Reading::Output, Found::Output(Some(bytes))) => Response::Output(bytes),
            (Reading::Output, Found::Output(None)) => unknown("no such output"),
            (_, Found::Nothing(text)) => {
                let kind = ErrorKind::NotNow;
                Response::Error { kind, text }
            }
            (
                _,
                Found::Task(_)
                | Found::Whole(_)
                | Found::CommandRecord(_)
                | Found::Output(_)
                | Found::Results(_)
                | Found::Transitions(_)
                | Found::Part(_)
                | Found::Open(_)
                | Found::Keepers(_)
                | Found::Holders(_)
                | Found::Others(_)
                | Found::FleetHistory(_)
                | Found::Nodes(_)
                | Found::Outside(_)
                | Found::Hosts(_)
                | Found::Scan { .. },
            ) => unknown("the store answered something else"),
        };
        cx.respond(requester, answer);
    }
}

/// The hosts of one page, and where the next one begins.
fn page_of<T>(all: &[T], cursor: u64, limit: usize) -> (&[T], Option<u64>) {
    let start = usize::try_from(cursor).unwrap_or(usize::MAX).min(all.len());
    let end = all.len().min(start + limit.clamp(1, PAGE_TASK_HOSTS_MAX));
    (&all[start..end], (end < all.len()).then_some(end as u64))
}

/// There is no such thing.
pub(crate) fn unknown(text: &str) -> Response {
    let kind = ErrorKind::Unknown;
    let text = text.to_owned();
    Response::Error { kind, text }
}
