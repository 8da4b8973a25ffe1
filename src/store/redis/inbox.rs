//! Tasks with hosts of several nodes: the inboxes, and questions about hosts and tasks of other nodes.
//!
//! An entry of an inbox is only a bell. What it is about is read from the task and from the records
//! of its hosts.

use std::collections::HashMap;

use redis::{Cmd, Value};

use super::Context;
use super::errors::Fault;
use super::link::Link;
use super::load::{lenient, query};
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step, list, text, texts};
use super::tasks::{commands_of, read_book};
use crate::ids::{HostId, TaskKey};
use crate::limits::{
    BELL_HOSTS_MAX, BELLS_IN_WORK_MAX, COMMAND_KEEP_S, INBOX_ENTRIES_MAX, NODES_SEEN_MAX,
    OPEN_FIELDS_PER_STEP_MAX, OPEN_TASKS_MAX,
};
use crate::store::op::{
    About, Bell, CommandRecord, CommandState, Found, Holders, Keeper, OthersCursor, OthersPage,
    Outcome, Ring, TaskPart, TaskState,
};
use crate::store::records::Claim;
use crate::store::{StoreError, schema};
use crate::time::UnixMs;

/// The commands that ring a node for some hosts of a task.
pub(super) fn ring_commands(
    node: &str,
    key: &TaskKey,
    hosts: &[HostId],
    hops: u8,
) -> impl Iterator<Item = Cmd> {
    let chunks = hosts.chunks(BELL_HOSTS_MAX);
    let about = (schema::inbox::TASK, key.as_str());
    chunks.map(move |hosts| add(node, about, hosts, hops))
}

fn add(node: &str, about: (&str, &str), hosts: &[HostId], hops: u8) -> Cmd {
    let names: Vec<&str> = hosts.iter().map(HostId::as_str).collect();
    let inbox = schema::node_inbox(node);
    let mut add = cmd!("XADD", inbox, "MAXLEN", "~", INBOX_ENTRIES_MAX, "*");
    add.arg(about.0).arg(about.1);
    add.arg(schema::inbox::HOSTS).arg(names.join(" "));
    add.arg(schema::inbox::HOPS).arg(hops);
    add
}

/// An entry for the inbox of another node.
pub(super) fn ring(op: &Ring, step: &mut Step) {
    let mut add = add(&op.node, about(&op.about), &op.hosts, op.hops);
    if let Some(letter) = &op.letter {
        add.arg(schema::inbox::LETTER).arg(letter);
    }
    step.one(0, add);
}

/// A console command with hosts at several nodes, or states of its hosts.
pub(super) fn command(op: &CommandRecord, step: &mut Step) {
    let key = schema::command(&op.cid);
    let mut set = cmd!("HSET", &key);
    if let Some((text, created)) = &op.text {
        set.arg(schema::command::TEXT).arg(text);
        set.arg(schema::command::CREATED).arg(created.0);
    }
    for (host, state) in &op.hosts {
        let field = format!("{}{host}", schema::command::HOST);
        set.arg(field).arg(state.as_str());
    }
    step.one(0, set);
    step.one(0, cmd!("PEXPIRE", &key, COMMAND_KEEP_S * 1_000));
}

/// A console command with hosts at several nodes.
pub(super) struct Command<'a> {
    pub(super) ticket: u64,
    pub(super) cid: &'a str,
    /// An entry of this node's inbox that is deleted before, with the inbox. Then only the text is read.
    pub(super) entry: Option<(String, &'a str)>,
}

impl Job for Command<'_> {
    fn encode(&mut self, step: &mut Step) {
        use schema::command::{CREATED, TEXT};
        let key = schema::command(self.cid);
        match &self.entry {
            Some((inbox, entry)) => {
                step.one(0, cmd!("XDEL", inbox, entry));
                step.one(0, cmd!("HMGET", &key, TEXT, CREATED));
            }
            None => step.one(0, cmd!("HGETALL", &key)),
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        use schema::command::{CREATED, HOST, TEXT};
        let key = schema::command(self.cid);
        let is_taken = match self.entry {
            Some(_) => replies.int()? == 0,
            None => false,
        };
        let values = lenient(&key, replies.value().and_then(list))?.unwrap_or_default();
        let values: Vec<Option<String>> = values.into_iter().map(text).collect::<Result<_, _>>()?;
        let values: Vec<String> = values.into_iter().map(Option::unwrap_or_default).collect();
        let (mut text, mut created, mut hosts) = (String::new(), String::new(), Vec::new());
        match &*values {
            [first, second] if self.entry.is_some() => {
                (text, created) = (first.clone(), second.clone());
            }
            all => {
                for pair in all.chunks_exact(2) {
                    match (&*pair[0], pair[0].strip_prefix(HOST)) {
                        (TEXT, _) => text.clone_from(&pair[1]),
                        (CREATED, _) => created.clone_from(&pair[1]),
                        (_, Some(host)) => {
                            let state = CommandState::parse(&pair[1]);
                            hosts.extend(HostId::checked(host).ok().zip(state));
                        }
                        _ => {}
                    }
                }
            }
        }
        hosts.sort_by(|a, b| a.0.cmp(&b.0));
        let record = (!is_taken && !text.is_empty()).then(|| {
            let created = UnixMs(created.parse().unwrap_or_default());
            Box::new(CommandRecord {
                cid: self.cid.to_owned(),
                text: Some((text, created)),
                hosts,
            })
        });
        found(self.ticket, Found::CommandRecord(record))
    }
}

/// Entries of this node's inbox that are done with.
pub(super) fn rung(context: &Context, ids: &[String], step: &mut Step) {
    step.one(0, cmd!("XDEL", schema::node_inbox(&context.node), ids));
}

/// Entries of this node's inbox after the entry `after`, at most `max`.
pub(super) fn read(
    link: &mut Link,
    context: &Context,
    after: Option<&str>,
    max: usize,
) -> Result<Vec<Bell>, StoreError> {
    let inbox = schema::node_inbox(&context.node);
    let start = after.map_or("-".to_owned(), |id| format!("({id}"));
    entries(link, &inbox, start, max)
}

fn entries(
    link: &mut Link,
    inbox: &str,
    start: String,
    max: usize,
) -> Result<Vec<Bell>, StoreError> {
    let range = cmd!("XRANGE", inbox, start, "+", "COUNT", max);
    let entries = query(link, [range], |replies| {
        lenient(inbox, replies.value().and_then(list))
    })?;
    let mut bells = Vec::new();
    for entry in entries.unwrap_or_default() {
        let mut entry = list(entry).map_err(Fault::into_store_error)?.into_iter();
        let (Some(id), Some(fields)) = (entry.next(), entry.next()) else {
            continue;
        };
        let id = text(id)
            .map_err(Fault::into_store_error)?
            .unwrap_or_default();
        bells.push(bell(id, fields));
    }
    Ok(bells)
}

/// Moves a page of the inbox of `node`, which is gone, to that of this node. Returns whether there was
/// one.
///
/// An entry about a task is added before it is deleted, so that a crash loses none. One with a console
/// command is deleted first: the host may run each copy.
pub(super) fn forward(link: &mut Link, context: &Context, node: &str) -> Result<bool, StoreError> {
    let from = schema::node_inbox(node);
    let bells = entries(link, &from, "-".to_owned(), BELLS_IN_WORK_MAX)?;
    if bells.is_empty() {
        return Ok(false);
    }
    let delete = |bell: &Bell| cmd!("XDEL", &from, &bell.id);
    let is_command = |bell: &&Bell| matches!(bell.about, Some(About::Command(_)));
    let (commands, others): (Vec<&Bell>, Vec<&Bell>) = bells.iter().partition(is_command);
    let taken = query(link, commands.iter().map(|bell| delete(bell)), |replies| {
        commands.iter().map(|_| Ok(replies.int()? == 1)).collect()
    })?;
    let taken: Vec<bool> = taken;
    let commands = commands.iter().zip(taken).filter(|(_, taken)| *taken);
    let forwarded = commands.map(|(bell, _)| bell).chain(&others);
    let adds: Vec<Cmd> = forwarded
        .filter_map(|bell| {
            let about = about(bell.about.as_ref()?);
            // A letter waits for no answer any more.
            (!bell.hosts.is_empty()).then(|| add(&context.node, about, &bell.hosts, bell.hops))
        })
        .collect();
    let count = adds.len();
    query(link, adds, |replies| {
        (0..count).try_for_each(|_| replies.value().map(drop))
    })?;
    query(link, others.iter().map(|bell| delete(bell)), |_| Ok(()))?;
    Ok(true)
}

fn about(about: &About) -> (&'static str, &str) {
    match about {
        About::Task(key) => (schema::inbox::TASK, key.as_str()),
        About::Command(cid) => (schema::inbox::COMMAND, cid.as_str()),
    }
}

/// The entry `id` with these fields.
fn bell(id: String, fields: Value) -> Bell {
    let fields = texts(fields).unwrap_or_default();
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find(|pair| pair[0] == name).map(|pair| &*pair[1])
    };
    let task = field(schema::inbox::TASK).and_then(|key| TaskKey::parse(key, ""));
    let command = field(schema::inbox::COMMAND).map(str::to_owned);
    let about = task.map(About::Task).or(command.map(About::Command));
    let hosts = field(schema::inbox::HOSTS).unwrap_or_default();
    let hosts = hosts.split(' ').take(BELL_HOSTS_MAX);
    let hosts = hosts.filter_map(|host| HostId::checked(host).ok());
    let hops = field(schema::inbox::HOPS).and_then(|hops| hops.parse().ok());
    Bell {
        id,
        hosts: hosts.collect(),
        about,
        hops: hops.unwrap_or(u8::MAX),
        letter: field(schema::inbox::LETTER).map(str::to_owned),
        is_late: false,
    }
}

fn found(ticket: u64, found: Found) -> Result<StepResult, Fault> {
    Ok(StepResult::Done(Outcome::Read { ticket, found }))
}

/// The node that holds each host.
fn ask_holder(host: &HostId) -> Cmd {
    cmd!("HGET", schema::host(host), schema::field::NODE)
}

/// The node that a record names, if it names one.
fn holder(host: &HostId, replies: &mut Replies) -> Result<Option<String>, Fault> {
    let node = lenient(&schema::host(host), replies.text())?.flatten();
    Ok(node.filter(|node| !node.is_empty()))
}

/// Some hosts of a task.
pub(super) struct Part<'a> {
    ticket: u64,
    key: &'a TaskKey,
    hosts: &'a [HostId],
    with_holders: bool,
    /// What the first step has found.
    part: Option<Box<TaskPart>>,
}

impl<'a> Part<'a> {
    pub(super) fn new(
        ticket: u64,
        key: &'a TaskKey,
        hosts: &'a [HostId],
        with_holders: bool,
    ) -> Self {
        Self {
            ticket,
            key,
            hosts,
            with_holders,
            part: None,
        }
    }

    fn begun(&self, replies: &mut Replies) -> Result<Option<Box<TaskPart>>, Fault> {
        let claim = replies.text()?;
        let commands = commands_of(replies.value()?)?;
        let states = list(replies.value()?)?;
        let mut hosts = Vec::new();
        let mut holders = Vec::new();
        for (host, state) in self.hosts.iter().zip(states) {
            let holder = match self.with_holders {
                true => holder(host, replies)?,
                false => None,
            };
            if let Some(state) = text(state)?.and_then(|state| TaskState::parse(&state)) {
                hosts.push((host.clone(), state, state == TaskState::Failed));
                holders.push(holder);
            }
        }
        let claim = claim.and_then(|text| Claim::parse(&text));
        let claim = claim.filter(|_| !commands.is_empty());
        Ok(claim.map(|claim| {
            // The order of the hosts stays that of their holders.
            let mut task = claim.task(self.key, commands, Vec::new(), false);
            task.hosts = hosts;
            Box::new(TaskPart {
                task,
                keeper: claim.node,
                holders,
            })
        }))
    }
}

/// Returns whether the results of a host in this state matter for what follows.
const fn may_have_failed(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::Answered | TaskState::Working | TaskState::Lost | TaskState::Unanswered
    )
}

impl Job for Part<'_> {
    fn encode(&mut self, step: &mut Step) {
        if let Some(part) = &self.part {
            for (host, ..) in part
                .task
                .hosts
                .iter()
                .filter(|host| may_have_failed(host.1))
            {
                let results = schema::task_result(self.key.as_str(), host);
                step.one(0, Script::Failed.on(&results).take());
            }
            return;
        }
        step.one(0, cmd!("GET", schema::task(self.key)));
        step.one(0, read_book(self.key));
        let names: Vec<&str> = self.hosts.iter().map(HostId::as_str).collect();
        step.one(0, cmd!("HMGET", schema::task_hosts(self.key), names));
        if self.with_holders {
            for host in self.hosts {
                step.one(0, ask_holder(host));
            }
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        if let Some(mut part) = self.part.take() {
            let hosts = part.task.hosts.iter_mut();
            for host in hosts.filter(|host| may_have_failed(host.1)) {
                let failed = lenient("the results of a host", replies.int())?;
                host.2 = failed == Some(1);
            }
            return found(self.ticket, Found::Part(Some(part)));
        }
        match self.begun(&mut replies)? {
            Some(part) if part.task.hosts.iter().any(|host| may_have_failed(host.1)) => {
                self.part = Some(part);
                Ok(StepResult::More)
            }
            part => found(self.ticket, Found::Part(part)),
        }
    }
}

/// Open tasks that name any of some hosts.
pub(super) struct Open<'a> {
    ticket: u64,
    hosts: &'a [HostId],
    /// Position in the set of open tasks; none when all of it has been read.
    position: Option<Vec<u8>>,
    keys: Vec<TaskKey>,
    /// Number of them that have been compared.
    compared: usize,
    named: Vec<(TaskKey, Vec<HostId>)>,
}

impl<'a> Open<'a> {
    pub(super) fn new(ticket: u64, hosts: &'a [HostId]) -> Self {
        Self {
            ticket,
            hosts,
            position: Some(b"0".to_vec()),
            keys: Vec::new(),
            compared: 0,
            named: Vec::new(),
        }
    }

    /// The tasks of the next step.
    fn next(&self) -> &[TaskKey] {
        let left = &self.keys[self.compared..];
        let max = OPEN_FIELDS_PER_STEP_MAX / self.hosts.len().max(1);
        &left[..left.len().min(max.max(1))]
    }
}

impl Job for Open<'_> {
    fn encode(&mut self, step: &mut Step) {
        if let Some(position) = &self.position {
            let scan = cmd!(
                "SSCAN",
                schema::TASKS_OPEN,
                position,
                "COUNT",
                BELL_HOSTS_MAX
            );
            return step.one(0, scan);
        }
        let names: Vec<&str> = self.hosts.iter().map(HostId::as_str).collect();
        for key in self.next() {
            step.one(0, cmd!("HMGET", schema::task_hosts(key), &names));
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        if self.position.is_some() {
            let (next, members) = replies.pair()?;
            let next = text(next)?.filter(|next| next != "0");
            let key = |member: &String| TaskKey::parse(member, "");
            self.keys.extend(texts(members)?.iter().filter_map(key));
            self.keys.truncate(OPEN_TASKS_MAX);
            let next = next.filter(|_| self.keys.len() < OPEN_TASKS_MAX);
            self.position = next.map(String::into_bytes);
        } else {
            let count = self.next().len();
            for at in self.compared..self.compared + count {
                let key = &self.keys[at];
                let states = lenient(&schema::task_hosts(key), replies.value().and_then(list))?;
                let mut hosts = Vec::new();
                for (host, state) in self.hosts.iter().zip(states.unwrap_or_default()) {
                    let state = text(state)?.and_then(|state| TaskState::parse(&state));
                    if state.is_some_and(|state| !state.is_settled()) {
                        hosts.push(host.clone());
                    }
                }
                if !hosts.is_empty() {
                    self.named.push((key.clone(), hosts));
                }
            }
            self.compared += count;
        }
        if self.position.is_some() || self.compared < self.keys.len() {
            return Ok(StepResult::More);
        }
        found(self.ticket, Found::Open(std::mem::take(&mut self.named)))
    }
}

/// The nodes that keep some tasks.
pub(super) struct Keepers<'a> {
    pub(super) ticket: u64,
    pub(super) keys: &'a [TaskKey],
}

impl Job for Keepers<'_> {
    fn encode(&mut self, step: &mut Step) {
        for key in self.keys {
            step.one(0, cmd!("GET", schema::task(key)));
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let mut keeper = |key| {
            let text = lenient(&schema::task(key), replies.text())?.flatten();
            let claim = text.and_then(|text| Claim::parse(&text));
            Ok(claim.map(|claim| Keeper {
                node: claim.node,
                epoch: claim.epoch,
            }))
        };
        let keepers: Result<_, Fault> = self.keys.iter().map(&mut keeper).collect();
        found(self.ticket, Found::Keepers(keepers?))
    }
}

/// The nodes that hold some hosts.
pub(super) struct HoldersOf<'a> {
    ticket: u64,
    hosts: &'a [HostId],
    own: &'a str,
    holders: Option<Holders>,
}

impl<'a> HoldersOf<'a> {
    pub(super) fn new(context: &'a Context, ticket: u64, hosts: &'a [HostId]) -> Self {
        Self {
            ticket,
            hosts,
            own: &context.node,
            holders: None,
        }
    }
}

impl Job for HoldersOf<'_> {
    fn encode(&mut self, step: &mut Step) {
        match &self.holders {
            None => self
                .hosts
                .iter()
                .for_each(|host| step.one(0, ask_holder(host))),
            Some(holders) => holders
                .nodes
                .iter()
                .for_each(|(node, _)| step.one(0, cmd!("XLEN", schema::node_inbox(node)))),
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        if let Some(mut holders) = self.holders.take() {
            for (node, length) in &mut holders.nodes {
                let count = lenient(&schema::node_inbox(node), replies.int())?;
                *length = usize::try_from(count.unwrap_or_default()).unwrap_or_default();
            }
            return found(self.ticket, Found::Holders(Box::new(holders)));
        }
        let mut holders = Holders::default();
        let mut places = HashMap::new();
        for host in self.hosts {
            let node = holder(host, &mut replies)?.filter(|node| node != self.own);
            holders.of.push(node.map(|node| {
                *places.entry(node).or_insert_with_key(|node: &String| {
                    holders.nodes.push((node.clone(), 0));
                    holders.nodes.len() - 1
                })
            }));
        }
        if holders.nodes.is_empty() {
            return found(self.ticket, Found::Holders(Box::new(holders)));
        }
        self.holders = Some(holders);
        Ok(StepResult::More)
    }
}

/// A page of the hosts of other nodes.
pub(super) struct Others<'a> {
    ticket: u64,
    own: &'a str,
    cursor: Option<OthersCursor>,
}

impl<'a> Others<'a> {
    pub(super) fn new(context: &'a Context, ticket: u64, cursor: Option<&OthersCursor>) -> Self {
        Self {
            ticket,
            own: &context.node,
            cursor: cursor.cloned(),
        }
    }
}

impl Job for Others<'_> {
    fn encode(&mut self, step: &mut Step) {
        let Some(cursor) = &self.cursor else {
            return step.one(0, cmd!("SSCAN", schema::NODES, 0, "COUNT", NODES_SEEN_MAX));
        };
        let Some(node) = cursor.nodes.last() else {
            return step.one(0, cmd!("SISMEMBER", schema::NODES, self.own));
        };
        let position = match cursor.position.is_empty() {
            true => b"0",
            false => &*cursor.position,
        };
        let hosts = schema::node_hosts(node);
        step.one(0, cmd!("SSCAN", hosts, position, "COUNT", BELL_HOSTS_MAX));
        step.one(0, cmd!("XLEN", schema::node_inbox(node)));
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let Some(mut cursor) = self.cursor.take() else {
            let (_, nodes) = replies.pair()?;
            let mut nodes = texts(nodes)?;
            nodes.retain(|node| node != self.own);
            nodes.truncate(NODES_SEEN_MAX);
            if nodes.is_empty() {
                return found(self.ticket, Found::Others(Box::default()));
            }
            self.cursor = Some(OthersCursor {
                nodes,
                position: Vec::new(),
            });
            return Ok(StepResult::More);
        };
        let mut page = OthersPage::default();
        if let Some(node) = cursor.nodes.last() {
            let (next, hosts) = replies.pair()?;
            let hosts = texts(hosts)?;
            let hosts = hosts.iter().filter_map(|host| HostId::checked(host).ok());
            page.hosts = hosts.collect();
            let length = lenient(&schema::node_inbox(node), replies.int())?;
            let length = usize::try_from(length.unwrap_or_default()).unwrap_or_default();
            page.node = Some((node.clone(), length));
            match text(next)?.filter(|next| next != "0") {
                Some(next) => cursor.position = next.into_bytes(),
                None => {
                    cursor.nodes.pop();
                    cursor.position = Vec::new();
                }
            }
            page.next = Some(cursor).filter(|cursor| !cursor.nodes.is_empty());
        }
        found(self.ticket, Found::Others(Box::new(page)))
    }
}
