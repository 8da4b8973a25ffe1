//! Tasks with hosts of several nodes: questions to the store, and bells to other nodes.
//!
//! ```text
//!   host claimed ────────────▶ Open: which open tasks name it? ─┐
//!   every minute: own hosts ─▶                                  ├▶ Part: states ─▶ Merging ─▶ tables
//!   bell ──────────────────────────────────────────────────────▶┤
//!   every minute: hosts that are away ─────────────────────────▶┘
//!
//!   state changes of a task that another node keeps ─▶ echo ─▶ Op::Ring to the keeper
//! ```
//!
//! A delivery is *away* while another node holds its host, or while that is unknown: it has no
//! tries and no deadline here. The claim of the host and the state in the store are the truth. A
//! bell is only a hint. A scan every minute finds the changes that a lost bell announced.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::effect::EventKind;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::dispatch::Begin;
use crate::handlers::tasks::jobs::Job;
use crate::handlers::tasks::locate::Locating;
use crate::handlers::tasks::table::{Draft, NEVER, Pause, Room, is_at_work};
use crate::ids::{HostId, TaskKey};
use crate::limits::{
    BELL_HOPS_MAX, BELL_HOSTS_MAX, HOSTS_PER_OP_MAX, LOOK_ROUND_S, LOOKS_IN_FLIGHT_MAX,
    LOOKS_WAITING_MAX,
};
use crate::store::op::{
    About, Bell, CommandRecord, Found, HeldTask, Op, Question, Read, Ring, TaskPart, TaskState,
};
use crate::time::{Instant, Span};

/// First ticket of questions of this room. Tickets of requesters are lower.
const TICKETS: u64 = 1 << 63;
/// Changes of states are gathered for so long before their keeper is rung.
const ECHO: Span = Span::from_millis(50);
/// Time from a takeover or a change of the nodes to the look at hosts that are away.
const SOON: Span = Span::from_millis(500);

/// Reason for a look at some hosts of a task.
#[derive(Clone, Debug)]
enum Reason {
    /// They are connected to this node.
    Held,
    /// An entry of the inbox.
    Bell(Entry),
    /// They are away; with `rings` their nodes are rung.
    Away { rings: bool },
    /// The keeper cancels the task for them.
    Cancel(CancelBell),
}

/// An entry of the inbox that is in work.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    id: String,
    pub(super) hops: u8,
}

/// A letter of a keeper that cancels a task, in work.
#[derive(Clone, Debug)]
pub(super) struct CancelBell {
    pub(super) entry: Entry,
    /// The keeper.
    pub(super) from: String,
    pub(super) ticket: u64,
}

/// An entry of the inbox with a console command, in work.
#[derive(Clone, Debug)]
pub(super) struct CommandBell {
    pub(super) entry: Entry,
    pub(super) cid: String,
    pub(super) hosts: Vec<HostId>,
}

/// A question to the store.
#[derive(Debug)]
enum Look {
    /// The open tasks that name these hosts. `settles`: their claims are new.
    Open { hosts: Vec<HostId>, settles: bool },
    /// Some hosts of a task.
    Part {
        key: TaskKey,
        hosts: Vec<HostId>,
        with_holders: bool,
        reason: Reason,
    },
    /// Hosts of a dispatch, by its number.
    Locate(u64),
    /// The nodes that keep these tasks.
    Keepers(Vec<TaskKey>),
    /// The nodes that hold these hosts of a wave; the number of their task.
    Wave(u64, Vec<HostId>),
    /// The node that keeps a task that is to be changed; the ticket of the request.
    Keeper(u64, TaskKey),
    /// The nodes that hold these hosts of a cancelled task; its ticket.
    Cancel(u64, Vec<HostId>),
    /// The text of a console command, for hosts of this node.
    Command(CommandBell),
    /// The nodes that hold hosts of a console command that are not at this node.
    Moved(CommandBell),
}

/// Host with a new claim, while its open tasks are read.
#[derive(Debug, Default)]
struct Unsettled {
    /// Looks at tasks under way; `None` before these are known.
    looks: Option<u32>,
    /// Its reports have waited since it connected.
    is_fresh: bool,
    /// Its process is another one than the stored one.
    restarted: bool,
    /// Its process reports what became of the tasks of the one before.
    resumes: bool,
}

/// Looks at tasks of several nodes, and the bells.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    line: VecDeque<Look>,
    in_flight: BTreeMap<u64, Look>,
    next: u64,
    rings: VecDeque<Ring>,
    /// Console commands with hosts at several nodes, and states of their hosts.
    records: VecDeque<CommandRecord>,
    /// Entries of the inbox that are to be deleted.
    rung: Vec<String>,
    /// Hosts whose states have changed here, by task that another node keeps.
    echo: BTreeMap<TaskKey, BTreeSet<HostId>>,
    echo_due: Option<Instant>,
    unsettled: HashMap<HostId, Unsettled>,
    /// Tasks that were looked up for a host before a message about them is refused.
    looked_up: HashSet<(HostId, TaskKey)>,
    /// Hosts whose claims are new and that have not been asked about.
    claimed: Vec<HostId>,
    /// A host is no longer unsettled: connections may be resumed.
    has_settled: bool,
    /// Time of the next round.
    round: Option<Instant>,
    /// Time of the next look at the hosts that are away.
    soon: Option<Instant>,
    pub(super) locating: BTreeMap<u64, Locating>,
    next_locating: u64,
    /// Number of looks for keepers under way.
    checks: usize,
}

impl Peers {
    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        !self.rings.is_empty()
            || !self.records.is_empty()
            || !self.rung.is_empty()
            || (self.in_flight.len() < LOOKS_IN_FLIGHT_MAX
                && (!self.line.is_empty() || !self.claimed.is_empty()))
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let locating = self.locating.values().map(Locating::deadline).min();
        let all = [self.echo_due, self.round, self.soon, locating];
        all.into_iter().flatten().min()
    }

    /// A store connection begins.
    pub(crate) fn begin(&mut self, cx: &Ctx<'_>) {
        self.interrupt();
        self.line
            .extend(self.locating.keys().copied().map(Look::Locate));
        if cx.has_other_nodes() {
            self.begin_rounds(cx.at.now);
        }
    }

    fn begin_rounds(&mut self, now: Instant) {
        self.look_soon(now);
        self.round = Some(now + Span::from_secs(LOOK_ROUND_S));
    }

    /// The store is unavailable, or all is written to it anew: nothing under way has an answer.
    fn interrupt(&mut self) {
        self.line.clear();
        self.in_flight.clear();
        self.rings.clear();
        self.records.clear();
        self.rung.clear();
        self.forget_claims();
        (self.round, self.soon) = (None, None);
        self.checks = 0;
    }

    /// Forgets the hosts whose claims are new.
    fn forget_claims(&mut self) {
        self.claimed.clear();
        self.has_settled |= !self.unsettled.is_empty();
        self.unsettled.clear();
    }

    /// Schedules an early look at the hosts that are away.
    pub(crate) fn look_soon(&mut self, now: Instant) {
        self.soon = Some(now + SOON);
    }

    /// Moves console commands, and bells behind all that they are about, into a batch.
    pub(super) fn take_rings(&mut self, max: usize, ops: &mut Vec<Op>) {
        let count = self.records.len().min(max.saturating_sub(ops.len()));
        let records = self.records.drain(..count);
        ops.extend(records.map(|record| Op::Command(Box::new(record))));
        if !self.records.is_empty() {
            return;
        }
        let count = self.rings.len().min(max.saturating_sub(ops.len()));
        let rings = self.rings.drain(..count);
        ops.extend(rings.map(|ring| Op::Ring(Box::new(ring))));
    }

    /// Moves questions, and entries of the inbox that are done with, into a batch.
    pub(crate) fn take_ops(&mut self, max: usize, ops: &mut Vec<Op>) {
        while ops.len() < max && self.in_flight.len() < LOOKS_IN_FLIGHT_MAX {
            let Some(look) = self.next_look() else {
                break;
            };
            let Some(question) = self.question(&look) else {
                continue;
            };
            let ticket = TICKETS | self.next;
            self.next += 1;
            ops.push(Op::Read(Box::new(Read { ticket, question })));
            self.in_flight.insert(ticket, look);
        }
        // An entry goes when what follows from it is written.
        if !self.rung.is_empty()
            && self.rings.is_empty()
            && self.records.is_empty()
            && ops.len() < max
        {
            ops.push(Op::Rung(std::mem::take(&mut self.rung)));
        }
    }

    fn next_look(&mut self) -> Option<Look> {
        if self.claimed.is_empty() {
            return self.line.pop_front();
        }
        let rest = self.claimed.len().saturating_sub(HOSTS_PER_OP_MAX);
        let hosts = self.claimed.split_off(rest);
        Some(Look::Open {
            hosts,
            settles: true,
        })
    }

    /// The question of a look; `None` if its dispatch is gone.
    fn question(&self, look: &Look) -> Option<Question> {
        Some(match look {
            Look::Open { hosts, .. } => Question::Open {
                hosts: hosts.clone(),
            },
            Look::Part {
                key,
                hosts,
                with_holders,
                ..
            } => Question::Part {
                key: key.clone(),
                hosts: hosts.clone(),
                with_holders: *with_holders,
            },
            Look::Locate(number) => self.locating.get(number)?.question(),
            Look::Keepers(keys) => Question::Keepers { keys: keys.clone() },
            Look::Keeper(_, key) => Question::Keepers {
                keys: vec![key.clone()],
            },
            Look::Command(bell) => Question::TakeCommand {
                cid: bell.cid.clone(),
                entry: bell.entry.id.clone(),
            },
            Look::Wave(_, hosts)
            | Look::Cancel(_, hosts)
            | Look::Moved(CommandBell { hosts, .. }) => Question::Holders {
                hosts: hosts.clone(),
            },
        })
    }

    /// Returns whether a ticket is that of a look.
    pub(crate) const fn is_look(ticket: u64) -> bool {
        ticket >= TICKETS
    }

    /// Queues the look for the holders of the hosts of a dispatch.
    pub(super) fn begin_locating(&mut self, locating: Locating) {
        let number = self.next_locating;
        self.next_locating += 1;
        self.locating.insert(number, locating);
        self.line.push_front(Look::Locate(number));
    }

    /// Queues the look for the next hosts of a dispatch.
    pub(super) fn go_on_locating(&mut self, number: u64, locating: Locating) {
        self.locating.insert(number, locating);
        self.line.push_front(Look::Locate(number));
    }

    /// Looks at the keepers of tasks before the node goes on with them.
    pub(super) fn check(&mut self, keys: Vec<TaskKey>) {
        self.checks += 1;
        self.line.push_front(Look::Keepers(keys));
    }

    /// A look at keepers is done with.
    pub(super) fn checked(&mut self) {
        self.checks = self.checks.saturating_sub(1);
    }

    /// Returns whether the keepers of this node's tasks are being read.
    pub(super) fn checks_keepers(&self) -> bool {
        self.checks > 0
    }

    /// Has the nodes of some hosts of a wave looked up.
    pub(super) fn look_at_wave(&mut self, number: u64, hosts: Vec<HostId>) {
        self.line.push_back(Look::Wave(number, hosts));
    }

    /// Has the keeper of a task looked up for a request.
    pub(super) fn look_at_keeper(&mut self, ticket: u64, key: TaskKey) {
        self.line.push_back(Look::Keeper(ticket, key));
    }

    /// Has the nodes of some hosts of a cancelled task looked up.
    pub(super) fn look_at_cancel(&mut self, ticket: u64, hosts: Vec<HostId>) {
        self.line.push_back(Look::Cancel(ticket, hosts));
    }

    /// Has the states of hosts read that a keeper cancels a task for.
    pub(super) fn look_at_cancel_bell(
        &mut self,
        key: TaskKey,
        hosts: Vec<HostId>,
        bell: CancelBell,
    ) {
        self.ask(Look::Part {
            key,
            hosts,
            with_holders: false,
            reason: Reason::Cancel(bell),
        });
    }

    /// The same for those that this node does not hold.
    pub(super) fn look_at_strangers(&mut self, key: TaskKey, hosts: Vec<HostId>, bell: CancelBell) {
        self.ask(Look::Part {
            key,
            hosts,
            with_holders: true,
            reason: Reason::Cancel(bell),
        });
    }

    /// Has a console command, or states of its hosts, written for all nodes. A command is written
    /// before its nodes are rung.
    pub(super) fn record(&mut self, mut record: CommandRecord) {
        let last = self.records.back_mut();
        if let Some(last) = last.filter(|last| {
            let count = last.hosts.len() + record.hosts.len();
            record.text.is_none() && last.cid == record.cid && count <= BELL_HOSTS_MAX
        }) {
            return last.hosts.append(&mut record.hosts);
        }
        while record.hosts.len() > BELL_HOSTS_MAX {
            let rest = record.hosts.split_off(record.hosts.len() - BELL_HOSTS_MAX);
            self.records.push_back(CommandRecord {
                cid: record.cid.clone(),
                text: None,
                hosts: rest,
            });
        }
        if self.records.len() < LOOKS_WAITING_MAX {
            self.records.push_back(record);
        }
    }

    /// Rings a node for some hosts of a console command.
    pub(super) fn ring_command(&mut self, node: &str, cid: &str, hosts: &[HostId], hops: u8) {
        for hosts in hosts.chunks(BELL_HOSTS_MAX) {
            self.post(Ring {
                node: node.to_owned(),
                about: About::Command(cid.to_owned()),
                hosts: hosts.to_vec(),
                hops,
                letter: None,
            });
        }
    }

    /// Has the nodes looked up that hold hosts of a console command.
    pub(super) fn look_at_moved(&mut self, bell: CommandBell) {
        self.ask(Look::Moved(bell));
    }

    /// An entry of the inbox is done with.
    pub(super) fn done_with(&mut self, entry: Entry) {
        self.rung.push(entry.id);
    }

    /// Has an entry added to the inbox of another node. While too many wait it is dropped.
    pub(super) fn post(&mut self, ring: Ring) {
        if self.rings.len() < LOOKS_WAITING_MAX {
            self.rings.push_back(ring);
        }
    }

    /// Has hosts of this node looked up in a task.
    pub(super) fn look_at_own(&mut self, key: TaskKey, hosts: Vec<HostId>) {
        self.ask(Look::Part {
            key,
            hosts,
            with_holders: false,
            reason: Reason::Held,
        });
    }

    /// Adds a look, if there is room for it.
    fn ask(&mut self, look: Look) {
        if self.line.len() < LOOKS_WAITING_MAX {
            return self.line.push_back(look);
        }
        // If the line is full, the look is left to the next scan.
        match look {
            Look::Part { hosts, reason, .. } => self.part_done(&hosts, &reason),
            Look::Open { hosts, .. } => hosts.iter().for_each(|host| self.settle(host)),
            Look::Locate(_)
            | Look::Keepers(_)
            | Look::Wave(..)
            | Look::Keeper(..)
            | Look::Cancel(..) => {}
            Look::Command(bell) | Look::Moved(bell) => self.done_with(bell.entry),
        }
    }

    /// A look at some hosts of a task is done with.
    fn part_done(&mut self, hosts: &[HostId], reason: &Reason) {
        match reason {
            Reason::Bell(entry) | Reason::Cancel(CancelBell { entry, .. }) => {
                self.rung.push(entry.id.clone());
            }
            Reason::Away { .. } => {}
            Reason::Held => {
                for host in hosts {
                    let unsettled = self.unsettled.get_mut(host);
                    let looks = unsettled.and_then(|unsettled| unsettled.looks.as_mut());
                    if let Some(looks) = looks {
                        *looks = looks.saturating_sub(1);
                    }
                }
            }
        }
    }

    /// A host is no longer unsettled.
    pub(super) fn settle(&mut self, host: &HostId) {
        if !self.unsettled.is_empty() {
            self.has_settled |= self.unsettled.remove(host).is_some();
        }
    }

    /// Rings a node for some hosts of a task.
    pub(super) fn ring(&mut self, node: &str, key: &TaskKey, hosts: &[HostId], hops: u8) {
        for hosts in hosts.chunks(BELL_HOSTS_MAX) {
            // One that is dropped the next round finds.
            self.post(Ring {
                node: node.to_owned(),
                about: About::Task(key.clone()),
                hosts: hosts.to_vec(),
                hops,
                letter: None,
            });
        }
    }
}

/// Some hosts of a task, on their way into the tables.
#[derive(Debug)]
pub(crate) struct Merging {
    part: Box<TaskPart>,
    /// The next host.
    next: usize,
    /// The hosts that were asked about.
    asked: Vec<HostId>,
    with_holders: bool,
    /// All hosts of the task are here: this node keeps it now.
    is_promotion: bool,
    /// Deliveries of a promotion, by name of the host.
    order: Vec<u32>,
    reason: Reason,
    /// Hosts with holders that must be found.
    strangers: Vec<HostId>,
    /// Hosts that other nodes hold, for the bells to these nodes.
    forward: BTreeMap<String, Vec<HostId>>,
    /// Hosts that this node has taken.
    taken: Vec<HostId>,
}

/// State of the scan of each minute.
#[derive(Debug)]
pub(crate) struct Rounding {
    /// The next slot of a host; `None` if the own hosts are not scanned, or all have been.
    slot: Option<u32>,
    /// Slot and number of each remaining task, in reverse order.
    tasks: Vec<(u32, u64)>,
    /// Place of the next delivery of the last of them.
    place: usize,
    rings: bool,
    /// Other nodes may hold hosts that are offline here.
    beside_others: bool,
    hosts: Vec<HostId>,
}

impl Tasks {
    /// Returns whether reports of a host must wait: its claim is new, and the tasks that name it are
    /// not known yet.
    pub(crate) fn is_unsettled(&self, host: &HostId) -> bool {
        !self.peers.unsettled.is_empty() && self.peers.unsettled.contains_key(host)
    }

    /// A host has connected, beside other nodes, and will be claimed.
    pub(crate) fn unsettle(&mut self, host: &HostId) {
        let unsettled = self.peers.unsettled.entry(host.clone()).or_default();
        unsettled.is_fresh = true;
    }

    /// The process of a host reports what became of the tasks of the one before.
    pub(crate) fn note_resumes(&mut self, host: &HostId) {
        if let Some(unsettled) = self.peers.unsettled.get_mut(host) {
            unsettled.resumes = true;
        }
    }

    /// Queues a look at an unknown task for a host, before a report on the task is refused. Returns
    /// whether the message has to wait. A look is not repeated at once.
    pub(crate) fn look_up(&mut self, cx: &Ctx<'_>, host: &HostId, code: &str) -> bool {
        let Some(key) = TaskKey::parse(code, &cx.rules.key_prefix) else {
            return false;
        };
        let is_known = self.table.delivery_of(&key, host).is_some();
        if is_known || self.peers.line.len() >= LOOKS_WAITING_MAX {
            return false;
        }
        let pair = (host.clone(), key.clone());
        if self.peers.looked_up.remove(&pair) {
            return false;
        }
        if self.peers.looked_up.len() >= LOOKS_WAITING_MAX {
            self.peers.looked_up.clear();
        }
        self.peers.looked_up.insert(pair);
        let unsettled = self.peers.unsettled.entry(host.clone()).or_default();
        unsettled.looks = Some(1);
        self.peers.ask(Look::Part {
            key,
            hosts: vec![host.clone()],
            with_holders: false,
            reason: Reason::Held,
        });
        true
    }

    /// A host is claimed: the tasks that name it are looked up.
    pub(crate) fn claimed(&mut self, host: &HostId, restarted: bool) {
        let unsettled = self.peers.unsettled.entry(host.clone()).or_default();
        unsettled.restarted |= restarted;
        unsettled.looks = None;
        self.peers.claimed.push(host.clone());
    }

    /// A host is not claimed: its reports need not wait.
    pub(crate) fn not_claimed(&mut self, host: &HostId) {
        self.peers.settle(host);
    }

    /// Leaves the tasks of a host to the node that now holds it.
    pub(crate) fn handed_over(&mut self, host: &HostId) {
        let recipient = self.table.recipient_of(host);
        let all = recipient.into_iter().flat_map(|r| &r.deliveries);
        let all: Vec<u32> = all.map(|pair| pair.1).collect();
        for slot in all {
            // The node that the host joins sends its queued tasks.
            let state = self.table.delivery(slot).map(|delivery| delivery.state);
            if state.is_some_and(|state| state == TaskState::Sent || is_at_work(state)) {
                self.leave_to_others(slot);
            }
        }
    }

    /// Handles the first other node on the store, and the end of the last one.
    pub(crate) fn nodes_changed(&mut self, cx: &Ctx<'_>) {
        if cx.has_other_nodes() {
            self.peers.begin_rounds(cx.at.now);
        } else {
            // No node holds a host that is away now.
            self.peers.forget_claims();
            self.peers.look_soon(cx.at.now);
            self.peers.round = None;
        }
    }

    /// Returns whether hosts have been settled since the last call, so that connections may go on.
    pub(crate) fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.peers.has_settled)
    }

    /// Returns whether a delivery that is `sent`, `answered` or `working` belongs to a host that is
    /// not connected here.
    pub(super) fn is_elsewhere(&self, hosts: Directory<'_>, slot: u32) -> bool {
        let state = self.table.delivery(slot).map(|delivery| delivery.state);
        let goes_on = state.is_some_and(|state| state == TaskState::Sent || is_at_work(state));
        goes_on && {
            let host = self.table.names_of(slot).map(|names| names.0);
            host.is_some_and(|host| !hosts.is_online(host))
        }
    }

    /// Has the hosts that are away looked up in the next round, also if no other node is known.
    pub(super) fn find_again(&mut self, cx: &Ctx<'_>) {
        let round = cx.at.now + Span::from_secs(LOOK_ROUND_S);
        self.peers.round.get_or_insert(round);
    }

    /// Leaves a delivery to the node that holds its host.
    pub(super) fn leave_to_others(&mut self, slot: u32) {
        if let Some(delivery) = self.table.delivery_mut(slot) {
            delivery.pause = Pause::Away;
            delivery.to_send = false;
            delivery.due = NEVER;
        }
    }

    /// Notes that the state of a delivery has changed here, for the node that keeps its task.
    pub(super) fn echo(&mut self, cx: &Ctx<'_>, slot: u32) {
        let task = self.table.delivery(slot).map(|delivery| delivery.task);
        let task = task.and_then(|task| self.table.task(task));
        if task.is_none_or(|task| task.keeper.is_none()) {
            return;
        }
        if let Some((host, key)) = self.table.names_of(slot) {
            let hosts = self.peers.echo.entry(key.clone()).or_default();
            hosts.insert(host.clone());
            self.peers.echo_due.get_or_insert(cx.at.now + ECHO);
        }
    }

    /// Takes entries of the inbox.
    pub(crate) fn take_bells(
        &mut self,
        cx: &mut Ctx<'_>,
        directory: Directory<'_>,
        bells: Vec<Bell>,
    ) {
        for bell in bells {
            let Bell {
                id,
                about,
                hosts,
                hops,
                letter,
                is_late,
            } = bell;
            let entry = Entry { id, hops };
            let key = match about {
                Some(About::Command(cid)) => {
                    let bell = CommandBell { entry, cid, hosts };
                    match is_late {
                        true => self.drop_command(bell),
                        false => self.peers.ask(Look::Command(bell)),
                    }
                    continue;
                }
                Some(About::Task(key)) => Some(key),
                None => None,
            };
            if let (Some(text), Some(key)) = (&letter, &key) {
                let about = (entry, key.clone(), hosts);
                self.take_letter(cx, directory, about, (text, is_late));
                continue;
            }
            let reason = Reason::Bell(entry);
            let Some(key) = key.filter(|_| !hosts.is_empty()) else {
                self.peers.part_done(&hosts, &reason);
                continue;
            };
            // The holders decide about hosts of a task that this node keeps.
            let with_holders = self.keeps(&key);
            self.peers.ask(Look::Part {
                key,
                hosts,
                with_holders,
                reason,
            });
        }
    }

    fn keeps(&self, key: &TaskKey) -> bool {
        let task = self.table.find(key).and_then(|slot| self.table.task(slot));
        task.is_some_and(|task| task.keeper.is_none())
    }

    /// The store is unavailable.
    pub(crate) fn forget_looks(&mut self, cx: &mut Ctx<'_>) {
        self.refuse_locating(cx, "the store is unavailable");
        self.peers.interrupt();
    }

    /// Does what is due: echoes, the round, and dispatches whose requesters have waited for too long.
    pub(crate) fn look_at_peers(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, judge: Instant) {
        if self.peers.echo_due.is_some_and(|due| due <= judge) {
            self.send_echoes();
        }
        let is_round = self.peers.round.is_some_and(|due| due <= judge);
        let is_soon = self.peers.soon.is_some_and(|due| due <= judge);
        if is_round {
            self.peers.round = None;
            if cx.has_other_nodes() {
                self.find_again(cx);
            }
        }
        if is_soon {
            self.peers.soon = None;
        }
        if is_round || is_soon {
            let tasks = self.table.newest_first(0);
            let open = tasks.filter_map(|slot| {
                let task = self.table.task(slot).filter(|task| task.is_open())?;
                Some((slot, task.number))
            });
            let rounding = Rounding {
                slot: (is_round && cx.has_other_nodes()).then_some(0),
                beside_others: cx.has_other_nodes(),
                tasks: open.collect(),
                place: 0,
                rings: is_soon,
                hosts: Vec::new(),
            };
            self.begin_job(cx, hosts, Job::Rounding(Box::new(rounding)));
        }
        self.hurry_locating(cx, judge);
        self.hurry_letters(cx, judge);
    }

    fn send_echoes(&mut self) {
        self.peers.echo_due = None;
        for (key, hosts) in std::mem::take(&mut self.peers.echo) {
            let task = self.table.find(&key).and_then(|slot| self.table.task(slot));
            if let Some(keeper) = task.and_then(|task| task.keeper.clone()) {
                let hosts: Vec<HostId> = hosts.into_iter().collect();
                self.peers.ring(&keeper, &key, &hosts, 0);
            }
        }
    }

    /// Collects at most `max` more hosts for looks. Returns whether these were the last.
    pub(super) fn round_some(
        &mut self,
        hosts: Directory<'_>,
        rounding: &mut Rounding,
        max: usize,
    ) -> bool {
        for _ in 0..max {
            if let Some(slot) = rounding.slot {
                let is_last = slot as usize >= hosts.slots();
                rounding.slot = (!is_last).then_some(slot + 1);
                rounding.hosts.extend(hosts.online_at(slot));
                if rounding.hosts.len() == BELL_HOSTS_MAX || (is_last && !rounding.hosts.is_empty())
                {
                    let hosts = std::mem::take(&mut rounding.hosts);
                    let settles = false;
                    self.peers.ask(Look::Open { hosts, settles });
                }
                continue;
            }
            let Some((slot, number)) = rounding.tasks.last().copied() else {
                return true;
            };
            let task = self.table.task(slot).filter(|task| task.number == number);
            let next = task.and_then(|task| Some((task, *task.deliveries.get(rounding.place)?)));
            let (task, delivery) = next.unzip();
            rounding.place += 1;
            if let Some(delivery) = delivery {
                let beside_others = rounding.beside_others;
                let host = self.host_to_find(hosts, delivery, beside_others);
                rounding.hosts.extend(host);
            }
            let Some(task) = task else {
                let collected = std::mem::take(&mut rounding.hosts);
                rounding.tasks.pop();
                rounding.place = 0;
                self.find_hosts(slot, number, collected, rounding.rings);
                continue;
            };
            if rounding.hosts.len() == BELL_HOSTS_MAX {
                let key = task.key.clone();
                let hosts = std::mem::take(&mut rounding.hosts);
                self.look_away(key, hosts, rounding.rings);
            }
        }
        false
    }

    fn find_hosts(&mut self, slot: u32, number: u64, hosts: Vec<HostId>, rings: bool) {
        let task = self.table.task(slot).filter(|task| task.number == number);
        if let Some(key) = task
            .map(|task| task.key.clone())
            .filter(|_| !hosts.is_empty())
        {
            self.look_away(key, hosts, rings);
        }
    }

    fn look_away(&mut self, key: TaskKey, hosts: Vec<HostId>, rings: bool) {
        self.peers.ask(Look::Part {
            key,
            hosts,
            with_holders: true,
            reason: Reason::Away { rings },
        });
    }

    /// The host of an unfinished delivery, if it is not connected here.
    fn host_to_find(&self, hosts: Directory<'_>, slot: u32, beside_others: bool) -> Option<HostId> {
        let delivery = self.table.delivery(slot)?;
        if !beside_others && !delivery.is_away() {
            return None;
        }
        let is_kept = self.table.task(delivery.task)?.keeper.is_none();
        let goes_on = delivery.state == TaskState::Sent || is_at_work(delivery.state);
        let host = self.table.names_of(slot)?.0;
        let is_ours = hosts.is_online(host) && !delivery.is_away();
        (goes_on && !is_ours && (is_kept || !delivery.is_away())).then(|| host.clone())
    }

    /// The store has answered a look.
    pub(crate) fn look_settled(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        ticket: u64,
        found: Found,
    ) {
        let Some(look) = self.peers.in_flight.remove(&ticket) else {
            return;
        };
        match (look, found) {
            (
                Look::Open {
                    hosts: asked,
                    settles,
                },
                Found::Open(named),
            ) => {
                self.open_found(cx, &asked, settles, named);
            }
            (
                Look::Part {
                    hosts: asked,
                    with_holders,
                    reason,
                    ..
                },
                Found::Part(Some(part)),
            ) => {
                let merging = Merging {
                    part,
                    next: 0,
                    asked,
                    with_holders,
                    is_promotion: false,
                    order: Vec::new(),
                    reason,
                    strangers: Vec::new(),
                    forward: BTreeMap::new(),
                    taken: Vec::new(),
                };
                self.begin_job(cx, hosts, Job::Merging(Box::new(merging)));
            }
            (Look::Locate(number), found) => self.located(cx, hosts, number, found),
            (Look::Wave(number, asked), found) => {
                self.wave_found(cx, hosts, (number, asked), found);
            }
            (Look::Keepers(keys), found) => self.keepers_found(hosts, keys, found),
            (Look::Command(bell), found) => self.command_taken(cx, hosts, bell, found),
            (Look::Moved(bell), found) => self.command_moved(hosts, bell, found),
            (Look::Keeper(ticket, key), found) => {
                self.keeper_found(cx, hosts, (ticket, key), found);
            }
            (Look::Cancel(ticket, asked), found) => {
                self.cancel_found(cx, hosts, (ticket, asked), found);
            }
            // The task is gone, or cannot be read.
            (Look::Part { hosts, reason, .. }, _) => {
                self.peers.part_done(&hosts, &reason);
                self.conclude(cx, &hosts);
            }
            (Look::Open { hosts, .. }, _) => hosts.iter().for_each(|host| self.peers.settle(host)),
        }
    }

    /// The open tasks that name some hosts of this node are known.
    fn open_found(
        &mut self,
        cx: &mut Ctx<'_>,
        asked: &[HostId],
        settles: bool,
        named: Vec<(TaskKey, Vec<HostId>)>,
    ) {
        if settles {
            for host in asked {
                if let Some(unsettled) = self.peers.unsettled.get_mut(host) {
                    unsettled.looks = Some(0);
                }
            }
        }
        for (key, mut hosts) in named {
            // This node knows more than the store of the deliveries that are here and not away.
            hosts.retain(|host| {
                let delivery = self.table.delivery_of(&key, host);
                let delivery = delivery.and_then(|slot| self.table.delivery(slot));
                delivery.is_none_or(|delivery| delivery.is_away())
            });
            if hosts.is_empty() {
                continue;
            }
            for host in &hosts {
                let unsettled = self.peers.unsettled.get_mut(host);
                if let Some(looks) = unsettled.and_then(|unsettled| unsettled.looks.as_mut()) {
                    *looks += 1;
                }
            }
            self.peers.ask(Look::Part {
                key,
                hosts,
                with_holders: false,
                reason: Reason::Held,
            });
        }
        self.conclude(cx, asked);
    }

    /// Settles the hosts with complete looks. If the process of a host was replaced and the new one
    /// does not resume the work, the running tasks of the host are `lost`.
    fn conclude(&mut self, cx: &mut Ctx<'_>, hosts: &[HostId]) {
        for host in hosts {
            let unsettled = self.peers.unsettled.get(host);
            let Some(unsettled) = unsettled.filter(|unsettled| unsettled.looks == Some(0)) else {
                continue;
            };
            // What it has reported since it connected is its present process's work.
            if unsettled.is_fresh && unsettled.restarted && !unsettled.resumes {
                self.lose_work(cx, host);
            }
            self.peers.settle(host);
        }
    }

    /// Becomes the keeper of a task of which it has a part, and loads all hosts of the task.
    pub(super) fn promote(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        slot: u32,
        named: Vec<(HostId, TaskState, bool)>,
        expires: bool,
    ) {
        let Some(task) = self.table.task(slot).filter(|task| task.keeper.is_some()) else {
            return;
        };
        let held = HeldTask {
            key: task.key.clone(),
            created: task.created,
            queue: task.queue,
            request: task.request,
            commands: task.commands.clone(),
            hosts: named,
            expires,
            rollout: None,
            epoch: task.epoch,
        };
        let room = Room {
            tasks: 0,
            deliveries: held.hosts.len(),
            bytes: 0,
        };
        if self.table.make_room(room).is_none() {
            return self.no_room(cx, &held.key);
        }
        self.table.promote(slot);
        self.peers.look_soon(cx.at.now);
        let merging = Merging {
            part: Box::new(TaskPart {
                task: held,
                keeper: String::new(),
                holders: Vec::new(),
            }),
            next: 0,
            asked: Vec::new(),
            with_holders: false,
            is_promotion: true,
            order: Vec::new(),
            reason: Reason::Held,
            strangers: Vec::new(),
            forward: BTreeMap::new(),
            taken: Vec::new(),
        };
        self.begin_job(cx, hosts, Job::Merging(Box::new(merging)));
    }

    fn no_room(&self, cx: &mut Ctx<'_>, key: &TaskKey) {
        let text = "is in the store, and there is no room for its hosts here";
        cx.log(log::Level::Error, "dispatch", key, text);
    }

    /// Merges at most `max` more hosts of a task. Returns whether these were the last.
    pub(super) fn merge_some(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        merging: &mut Merging,
        max: usize,
    ) -> bool {
        let end = merging.part.task.hosts.len().min(merging.next + max);
        while merging.next < end {
            self.merge_host(cx, hosts, merging);
            merging.next += 1;
        }
        end == merging.part.task.hosts.len()
    }

    fn merge_host(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, merging: &mut Merging) {
        let (host, state, failed) = merging.part.task.hosts[merging.next].clone();
        let key = &merging.part.task.key;
        let slot = self.table.delivery_of(key, &host);
        if merging.is_promotion {
            let slot = match (slot, self.table.find(key)) {
                (None, Some(task)) => {
                    let slot = self.table.add(task, host, state, failed);
                    self.begin_delivery(cx, hosts, slot, Begin::Again);
                    Some(slot)
                }
                (slot, _) => slot,
            };
            merging.order.extend(slot);
            return;
        }
        if hosts.is_online(&host) {
            return self.take_host(cx, hosts, merging, slot, (host, state, failed));
        }
        let is_kept = self.keeps(key);
        let holder = merging.part.holders.get(merging.next).cloned().flatten();
        match (slot, holder) {
            // It went offline since it was asked about.
            _ if matches!(merging.reason, Reason::Held) => {}
            _ if !merging.with_holders => merging.strangers.push(host),
            (slot, Some(node)) => {
                if let Some(slot) = slot {
                    self.learn(cx, slot, state, failed);
                    self.leave_to_others(slot);
                    self.find_again(cx);
                }
                let rings = match &merging.reason {
                    Reason::Bell(_) => !is_kept,
                    Reason::Away { rings } => *rings,
                    Reason::Held => false,
                    Reason::Cancel(_) => true,
                };
                let cancels = matches!(merging.reason, Reason::Cancel(_));
                if rings && (cancels || !state.has_ended()) {
                    merging.forward.entry(node).or_default().push(host);
                }
            }
            // No node holds the host: the keeper of the task goes on with the tries.
            (Some(slot), None) if is_kept => {
                let was_away = self
                    .table
                    .delivery(slot)
                    .is_some_and(|found| found.is_away());
                if was_away {
                    self.learn(cx, slot, state, failed);
                    self.take_up(cx, slot);
                }
            }
            (_, None) => {}
        }
    }

    /// Adds or resumes the delivery of a host that is connected here.
    fn take_host(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        merging: &mut Merging,
        slot: Option<u32>,
        (host, state, failed): (HostId, TaskState, bool),
    ) {
        let delivery = slot.and_then(|slot| self.table.delivery(slot));
        let slot = match (slot, delivery) {
            (Some(slot), Some(delivery)) if delivery.is_away() => {
                self.learn(cx, slot, state, failed);
                if let Some(delivery) = self.table.delivery_mut(slot) {
                    delivery.pause = Pause::Nothing;
                }
                slot
            }
            (Some(_), _) => return,
            // Its keeper rings when its wave begins.
            (None, _) if state == TaskState::Held => return,
            // A host may repeat what it reported of a task that it has finished.
            (None, _)
                if state.is_settled()
                    && !matches!(
                        (&merging.reason, state),
                        (Reason::Held, TaskState::Done | TaskState::Failed)
                    ) =>
            {
                return;
            }
            (None, _) => {
                let Some(task) = self.part_of(cx, &merging.part) else {
                    return;
                };
                self.table.add(task, host.clone(), state, failed)
            }
        };
        self.begin_delivery(cx, hosts, slot, Begin::Again);
        self.echo(cx, slot);
        merging.taken.push(host);
    }

    /// Returns the task of a part, entered if it is missing, with room for one more host.
    fn part_of(&mut self, cx: &mut Ctx<'_>, part: &TaskPart) -> Option<u32> {
        let found = self.table.find(&part.task.key);
        let room = match found {
            Some(_) => Room {
                tasks: 0,
                deliveries: 1,
                bytes: 0,
            },
            None => Room::of(&part.task.commands, 1),
        };
        if self.table.make_room(room).is_none() {
            self.no_room(cx, &part.task.key);
            return None;
        }
        if found.is_some() {
            return found;
        }
        let draft = Draft {
            rollout: None,
            key: part.task.key.clone(),
            created: part.task.created,
            request: part.task.request,
            queue: part.task.queue,
            commands: part.task.commands.clone(),
            epoch: part.task.epoch,
        };
        let slot = self.table.begin(draft, 0, cx.at.now);
        self.table.task_mut(slot)?.keeper = Some(part.keeper.as_str().into());
        let age = cx.at.wall.0.saturating_sub(part.task.created.0);
        let rest = cx.rules.keep.as_millis().saturating_sub(age);
        self.table
            .set_look(slot, cx.at.now + Span::from_millis(rest));
        Some(slot)
    }

    /// No node holds the host of a delivery: its tries and deadlines are this node's.
    fn take_up(&mut self, cx: &Ctx<'_>, slot: u32) {
        let Some(delivery) = self.table.delivery_mut(slot) else {
            return;
        };
        delivery.pause = Pause::Nothing;
        match delivery.state {
            TaskState::Sent => self.queue_delivery(slot),
            TaskState::Answered | TaskState::Working => self.touch_delivery(cx, slot),
            _ => {}
        }
    }

    /// The store says that a host is `state` in a task: another node has written that.
    fn learn(&mut self, cx: &mut Ctx<'_>, slot: u32, state: TaskState, failed: bool) {
        if let Some(delivery) = self.table.delivery_mut(slot) {
            delivery.failed |= failed;
        }
        let Some(before) = self.table.become_(slot, state, cx.at.now) else {
            return;
        };
        let Some(delivery) = self.table.delivery(slot) else {
            return;
        };
        let (recipient, task) = (delivery.recipient, delivery.task);
        self.restores.note_change(task);
        self.touch_rollout(task);
        if self.table.task(task).is_some_and(|task| task.is_over()) {
            self.table.end(task, false, cx.stats.store_sessions);
        }
        if is_at_work(before) && !is_at_work(state) {
            self.release_held(cx, recipient);
        }
        let Some((host, key)) = self.table.names_of(slot) else {
            return;
        };
        let (host, key) = (host.clone(), key.clone());
        let said = match state {
            TaskState::Answered => Some("answered"),
            TaskState::NoBook => Some("no-book"),
            _ => None,
        };
        let kind = match (said, state) {
            (Some(said), _) => EventKind::Answer {
                host,
                key,
                state: said,
            },
            (None, TaskState::Working | TaskState::Done | TaskState::Failed) => {
                EventKind::Progress {
                    host,
                    key,
                    command: None,
                    state,
                }
            }
            _ => return,
        };
        let stamp = cx.stamp();
        cx.publish(stamp, kind);
    }

    /// All hosts of a part have been merged.
    pub(super) fn merged(&mut self, cx: &mut Ctx<'_>, hosts: Directory<'_>, merging: Merging) {
        let Merging {
            part,
            asked,
            is_promotion,
            order,
            reason,
            strangers,
            forward,
            taken,
            ..
        } = merging;
        let key = part.task.key;
        let slot = self.table.find(&key);
        if is_promotion {
            if let Some(slot) = slot {
                self.table.complete(slot, order);
                if let Some(task) = self.table.task_mut(slot) {
                    task.expires = part.task.expires;
                    if task.is_over() && !part.task.expires {
                        self.table.write_over(slot, cx.stats.store_sessions);
                    }
                }
                self.resume_rollout(slot);
            }
            return;
        }
        // Another node may have taken the task over.
        if let Some(task) = slot.and_then(|slot| self.table.task_mut(slot))
            && task.keeper.is_some()
        {
            task.keeper = Some(part.keeper.as_str().into());
        }
        if !taken.is_empty() {
            let count = taken.len();
            let text = format!("{count} hosts of it are this node's now");
            cx.log(log::Level::Info, "dispatch", &key, text);
        }
        let reason = match reason {
            Reason::Cancel(bell) => {
                let about = (key, asked, bell);
                return self.cancel_bell_read(cx, hosts, about, (strangers, forward));
            }
            reason => reason,
        };
        let hops = match &reason {
            Reason::Bell(entry) => entry.hops.saturating_add(1),
            Reason::Held | Reason::Away { .. } | Reason::Cancel(_) => 0,
        };
        if hops <= BELL_HOPS_MAX {
            for (node, hosts) in forward {
                self.peers.ring(&node, &key, &hosts, hops);
            }
        }
        if strangers.is_empty() {
            self.peers.part_done(&asked, &reason);
        } else {
            self.peers.ask(Look::Part {
                key,
                hosts: strangers,
                with_holders: true,
                reason,
            });
        }
        self.conclude(cx, &asked);
    }
}
