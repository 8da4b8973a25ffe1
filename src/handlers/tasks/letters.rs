//! Letters between nodes: a change of a task at another node than its keeper, and its answer.
//!
//! ```text
//!   n1: pause, resume, cancel ─▶ Keepers: who keeps the task? ─▶ Control ──▶ inbox of the keeper
//!                                                                               │ as a request there
//!   n1: response ◀──────────────────────────── Answer ◀── inbox of n1 ◀─────────┤
//!                                                                               │ cancel: Holders
//!   keeper: counted, stored, answered ◀── Cancelled ◀── holders ◀── Cancel ◀────┘
//! ```
//!
//! A letter is an entry of an inbox with one more field. It is read once, and is not repeated: what it
//! asks for is answered within [`CONTROL_WAIT_S`], or the requester is told to ask again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::request::{Cancelled, ErrorKind, Response, RolloutView, Within};
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::delivery::Cause;
use crate::handlers::tasks::dispatch::{Refusal, not_now};
use crate::handlers::tasks::peers::{CancelBell, Entry};
use crate::handlers::tasks::waves::{Control, no_task};
use crate::ids::{HostId, TaskKey};
use crate::limits::{
    BELL_HOPS_MAX, BELL_HOSTS_MAX, CANCEL_WAIT_S, CANNOT_SHOWN_MAX, CONTROL_WAIT_S, LETTERS_MAX,
};
use crate::store::op::{About, Found, Ring, TaskState, TaskStates};
use crate::time::{Instant, Span};

/// Requesters at other nodes have numbers from here on, below the tickets of looks.
const REMOTE: u64 = 1 << 62;

/// Returns whether the response to a requester goes to another node.
pub(crate) const fn is_remote(requester: u64) -> bool {
    requester >> 62 == 1
}

/// A letter.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Letter {
    /// To the keeper: change the task.
    Control {
        from: String,
        ticket: u64,
        control: Control,
        within: Option<Within>,
    },
    /// To the node that asked: the response.
    Answer { ticket: u64, answer: Answer },
    /// To a holder: cancel the task for these hosts.
    Cancel { from: String, ticket: u64 },
    /// To the keeper: these are done with.
    Cancelled { ticket: u64, hosts: Cancels },
}

/// A response, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Rollout(RolloutView),
    Cancelled(Cancelled),
    Refused(ErrorKind, String),
}

/// Hosts for which another node has cancelled a task.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cancels {
    /// Not sent to, or not again.
    pub(super) cancelled: Vec<HostId>,
    /// Asked to end it.
    pub(super) asked: Vec<HostId>,
    /// At it, and cannot be asked.
    pub(super) cannot: Vec<HostId>,
    /// In a terminal state.
    pub(super) ended: Vec<HostId>,
    /// No node holds them.
    pub(super) unheld: Vec<HostId>,
}

/// A change that another node is asked for.
#[derive(Debug)]
struct Asked {
    requester: u64,
    key: String,
    control: Control,
    within: Option<Within>,
    /// The keeper, once it is known.
    keeper: Option<String>,
    deadline: Instant,
}

/// A request of another node.
#[derive(Debug)]
struct Asker {
    node: String,
    ticket: u64,
    key: TaskKey,
    deadline: Instant,
}

/// A cancelled task with hosts at other nodes.
#[derive(Debug)]
struct Gathering {
    requester: Option<u64>,
    key: TaskKey,
    result: Cancelled,
    /// Questions about holders under way.
    looks: usize,
    /// Hosts whose nodes have not answered; with `true` the state is `cancelled` in the store.
    hosts: BTreeMap<HostId, bool>,
    deadline: Instant,
}

/// Letters that wait for their answers.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    asked: BTreeMap<u64, Asked>,
    askers: BTreeMap<u64, Asker>,
    gathering: BTreeMap<u64, Gathering>,
    next: u64,
}

impl Letters {
    /// The next deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked = self.asked.values().map(|asked| asked.deadline);
        let askers = self.askers.values().map(|asker| asker.deadline);
        let gathering = self.gathering.values().map(|one| one.deadline);
        asked.chain(askers).chain(gathering).min()
    }

    /// A number that no earlier process of this node has used.
    fn ticket(&mut self, cx: &Ctx<'_>) -> u64 {
        self.next += 1;
        (cx.at.wall.0 << 16) | (self.next & 0xffff)
    }

    fn has_room(&self) -> bool {
        self.asked.len() + self.askers.len() + self.gathering.len() < LETTERS_MAX
    }
}

impl Tasks {
    /// Has the keeper of a task change it, which another node may be.
    ///
    /// # Errors
    /// No other node can keep it, or too many such requests wait.
    pub(super) fn control_elsewhere(
        &mut self,
        cx: &Ctx<'_>,
        requester: u64,
        (key, control): (TaskKey, Control),
        within: Option<Within>,
    ) -> Result<(), Refusal> {
        if is_remote(requester) {
            // The claim named this node just now.
            return Err(match self.table.find(&key) {
                Some(_) => not_now("another node takes the task over: ask again"),
                None => no_task(),
            });
        }
        if !cx.may_have_other_nodes() {
            return Err(no_task());
        }
        if !cx.is_store_up() {
            return Err(not_now("the store is unavailable"));
        }
        if !self.letters.has_room() {
            return Err(not_now("too many changes at other nodes are under way"));
        }
        let ticket = self.letters.ticket(cx);
        let asked = Asked {
            requester,
            key: key.to_string(),
            control,
            within,
            keeper: None,
            deadline: cx.at.now + Span::from_secs(CONTROL_WAIT_S),
        };
        self.letters.asked.insert(ticket, asked);
        self.peers.look_at_keeper(ticket, key);
        Ok(())
    }

    /// The store has named the keeper of a task that is to be changed.
    pub(super) fn keeper_found(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        (ticket, key): (u64, TaskKey),
        found: Found,
    ) {
        let Some(asked) = self.letters.asked.get_mut(&ticket) else {
            return;
        };
        let keeper = match found {
            Found::Keepers(mut keepers) => keepers.pop().flatten().ok_or_else(no_task),
            Found::Nothing(why) => Err(not_now(&why)),
            _ => Err(not_now("the store answered something else")),
        };
        let refusal = match keeper {
            Ok(keeper) if keeper.node != hosts.node() => {
                asked.keeper = Some(keeper.node.clone());
                let letter = Letter::Control {
                    from: hosts.node().to_owned(),
                    ticket,
                    control: asked.control,
                    within: asked.within.clone(),
                };
                return self.post(&keeper.node, &key, &[], 0, &letter);
            }
            Ok(_) => match self.table.find(&key) {
                Some(_) => not_now("this node takes the task over: ask again"),
                None => no_task(),
            },
            Err(refusal) => refusal,
        };
        if let Some(asked) = self.letters.asked.remove(&ticket) {
            cx.respond(asked.requester, refusal.into());
        }
    }

    fn post(&mut self, node: &str, key: &TaskKey, hosts: &[HostId], hops: u8, letter: &Letter) {
        let Ok(letter) = serde_json::to_string(letter) else {
            return;
        };
        self.peers.post(Ring {
            node: node.to_owned(),
            about: About::Task(key.clone()),
            hosts: hosts.to_vec(),
            hops,
            letter: Some(letter),
        });
    }

    /// Takes a letter. `is_late`: it may have waited for so long that its sender has given up.
    pub(super) fn take_letter(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        (entry, key, named): (Entry, TaskKey, Vec<HostId>),
        (text, is_late): (&str, bool),
    ) {
        let letter = serde_json::from_str(text);
        if let Ok(Letter::Cancel { from, ticket }) = letter {
            let bell = CancelBell {
                entry,
                from,
                ticket,
            };
            return self.peers.look_at_cancel_bell(key, named, bell);
        }
        self.peers.done_with(entry);
        match letter {
            Ok(Letter::Control {
                from,
                ticket,
                control,
                within,
            }) => {
                if is_late || !self.letters.has_room() {
                    return;
                }
                self.letters.next += 1;
                let requester = REMOTE | self.letters.next;
                let asker = Asker {
                    node: from,
                    ticket,
                    key: key.clone(),
                    deadline: cx.at.now + Span::from_secs(2 * CONTROL_WAIT_S),
                };
                self.letters.askers.insert(requester, asker);
                let change = (key.to_string(), control);
                if let Err(refusal) = self.control(cx, hosts, requester, change, within) {
                    cx.respond(requester, refusal.into());
                }
            }
            Ok(Letter::Answer { ticket, answer }) => {
                if let Some(asked) = self.letters.asked.remove(&ticket) {
                    cx.respond(asked.requester, response(asked.key, answer));
                }
            }
            Ok(Letter::Cancelled { ticket, hosts }) => self.cancels_counted(cx, ticket, hosts),
            Ok(Letter::Cancel { .. }) => {}
            Err(error) => {
                let text = format!("a letter of another node is not understood: {error}");
                cx.log(log::Level::Warn, "dispatch", &key, text);
            }
        }
    }

    /// Posts the responses to requesters at other nodes.
    pub(crate) fn post_answers(&mut self, cx: &mut Ctx<'_>) {
        for (requester, response) in std::mem::take(cx.answers) {
            let Some(asker) = self.letters.askers.remove(&requester) else {
                continue;
            };
            let answer = match response {
                Response::Rollout { rollout, .. } => Answer::Rollout(rollout),
                Response::Cancelled(mut cancelled) => {
                    cancelled.cannot.truncate(CANNOT_SHOWN_MAX);
                    Answer::Cancelled(*cancelled)
                }
                Response::Error { kind, text } => Answer::Refused(kind, text),
                _ => continue,
            };
            let ticket = asker.ticket;
            let letter = Letter::Answer { ticket, answer };
            self.post(&asker.node, &asker.key, &[], 0, &letter);
        }
    }

    /// The store is unavailable, or this node stops: nothing comes any more.
    pub(crate) fn forget_letters(&mut self, cx: &mut Ctx<'_>, why: &str) {
        let Letters {
            asked, gathering, ..
        } = std::mem::take(&mut self.letters);
        cx.answers.clear();
        let asked = asked.into_values().map(|asked| asked.requester);
        let gathering = gathering.into_values().filter_map(|one| one.requester);
        for requester in asked.chain(gathering).filter(|one| !is_remote(*one)) {
            let why = format!("{why}: the change may be made or not; ask again");
            cx.respond(requester, not_now(&why).into());
        }
    }

    /// Answers requesters whose letters have no answer in time.
    pub(super) fn hurry_letters(&mut self, cx: &mut Ctx<'_>, judge: Instant) {
        let letters = &mut self.letters;
        letters.askers.retain(|_, asker| asker.deadline > judge);
        let late: Vec<Asked> = letters
            .asked
            .extract_if(.., |_, asked| asked.deadline <= judge)
            .map(|(_, asked)| asked)
            .collect();
        for asked in late {
            let why = match asked.keeper {
                Some(node) => format!(
                    "the node {node} keeps the task and has not answered: it may have made the change \
                     or not; look at the task and ask again"
                ),
                None => "the store has not answered".to_owned(),
            };
            cx.respond(asked.requester, not_now(&why).into());
        }
        let gathering = self.letters.gathering.iter();
        let late = gathering.filter(|(_, one)| one.deadline <= judge);
        let late: Vec<u64> = late.map(|(ticket, _)| *ticket).collect();
        for ticket in late {
            if let Some(gathering) = self.letters.gathering.get_mut(&ticket) {
                gathering.looks = 0;
                for (host, is_cancelled) in std::mem::take(&mut gathering.hosts) {
                    count_silent(&mut gathering.result, host, is_cancelled);
                }
            }
            self.finish_gathering(cx, ticket);
        }
    }
}

/// Counts a host whose node has not said what became of it.
fn count_silent(result: &mut Cancelled, host: HostId, is_cancelled: bool) {
    match is_cancelled {
        true => result.cancelled += 1,
        false => result.cannot.push(host),
    }
}

/// The response to the requester of a change of the task `key`.
fn response(key: String, answer: Answer) -> Response {
    match answer {
        Answer::Rollout(rollout) => Response::Rollout { key, rollout },
        Answer::Cancelled(cancelled) => Response::Cancelled(Box::new(cancelled)),
        Answer::Refused(kind, text) => Response::Error { kind, text },
    }
}

impl Tasks {
    /// A task is cancelled here; the rest of its hosts other nodes may hold.
    pub(super) fn gather_cancels(
        &mut self,
        cx: &Ctx<'_>,
        requester: Option<u64>,
        (key, result): (TaskKey, Cancelled),
        mut away: Vec<HostId>,
    ) {
        let ticket = self.letters.ticket(cx);
        let mut looks = 0;
        while !away.is_empty() {
            let rest = away.len().saturating_sub(BELL_HOSTS_MAX);
            self.peers.look_at_cancel(ticket, away.split_off(rest));
            looks += 1;
        }
        let gathering = Gathering {
            requester,
            key,
            result,
            looks,
            hosts: BTreeMap::new(),
            deadline: cx.at.now + Span::from_secs(CANCEL_WAIT_S),
        };
        self.letters.gathering.insert(ticket, gathering);
    }

    /// The nodes that hold some hosts of a cancelled task are known. What has not begun is `cancelled`
    /// in the store before its node hears of it.
    pub(super) fn cancel_found(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        (ticket, asked): (u64, Vec<HostId>),
        found: Found,
    ) {
        let Some(mut gathering) = self.letters.gathering.remove(&ticket) else {
            return;
        };
        gathering.looks = gathering.looks.saturating_sub(1);
        let holders = match found {
            Found::Holders(holders) => *holders,
            // Nothing is known of them: what has not begun is cancelled all the same.
            _ => Default::default(),
        };
        let mut states = Vec::new();
        let mut forward: BTreeMap<&str, Vec<HostId>> = BTreeMap::new();
        let places = holders.of.iter().copied().chain(std::iter::repeat(None));
        for (host, of) in asked.into_iter().zip(places) {
            let Some(slot) = self.table.delivery_of(&gathering.key, &host) else {
                continue;
            };
            let holder = of.and_then(|of| holders.nodes.get(of));
            let Some((node, _)) = holder.filter(|_| !hosts.is_online(&host)) else {
                if self.table.delivery(slot).is_some_and(|one| one.is_away()) {
                    states.push(host.clone());
                }
                self.cancel_host(cx, hosts, slot, &mut gathering.result);
                continue;
            };
            let state = self.table.delivery(slot).map(|delivery| delivery.state);
            let is_unbegun = matches!(state, Some(TaskState::Sent | TaskState::Queued));
            if is_unbegun {
                self.turn_delivery(cx, slot, TaskState::Cancelled, Cause::Ourselves);
                self.leave_to_others(slot);
                states.push(host.clone());
            }
            forward.entry(node).or_default().push(host.clone());
            gathering.hosts.insert(host, is_unbegun);
        }
        let states: Vec<(HostId, TaskState)> = states
            .into_iter()
            .filter(|host| {
                let slot = self.table.delivery_of(&gathering.key, host);
                let delivery = slot.and_then(|slot| self.table.delivery(slot));
                delivery.is_some_and(|one| one.state == TaskState::Cancelled)
            })
            .map(|host| (host, TaskState::Cancelled))
            .collect();
        if !states.is_empty() {
            let (over, last) = (false, false);
            self.table.write_first(TaskStates {
                key: gathering.key.clone(),
                states,
                over,
                last,
            });
        }
        for (node, named) in forward {
            let letter = Letter::Cancel {
                from: hosts.node().to_owned(),
                ticket,
            };
            self.post(node, &gathering.key, &named, 0, &letter);
        }
        self.letters.gathering.insert(ticket, gathering);
        self.finish_gathering(cx, ticket);
    }

    /// A node says what became of hosts of a cancelled task.
    fn cancels_counted(&mut self, cx: &mut Ctx<'_>, ticket: u64, cancels: Cancels) {
        let Some(gathering) = self.letters.gathering.get_mut(&ticket) else {
            return;
        };
        let Cancels {
            cancelled,
            asked,
            cannot,
            ended,
            unheld,
        } = cancels;
        let (waiting, result) = (&mut gathering.hosts, &mut gathering.result);
        let mut count = |hosts: Vec<HostId>| {
            let known = hosts.iter().filter(|host| waiting.remove(*host).is_some());
            known.count() as u64
        };
        result.cancelled += count(cancelled);
        result.asked += count(asked);
        count(ended);
        let cannot = cannot.into_iter();
        let cannot: Vec<HostId> = cannot
            .filter(|host| waiting.remove(host).is_some())
            .collect();
        result.cannot.extend(cannot);
        for host in unheld {
            if let Some(is_cancelled) = waiting.remove(&host) {
                count_silent(result, host, is_cancelled);
            }
        }
        self.finish_gathering(cx, ticket);
    }

    /// Answers the requester of a cancelled task, if all nodes have answered.
    fn finish_gathering(&mut self, cx: &mut Ctx<'_>, ticket: u64) {
        let gathering = self.letters.gathering.get(&ticket);
        if gathering.is_none_or(|one| one.looks > 0 || !one.hosts.is_empty()) {
            return;
        }
        if let Some(gathering) = self.letters.gathering.remove(&ticket)
            && let Some(requester) = gathering.requester
        {
            let answer = Response::Cancelled(Box::new(gathering.result));
            self.confirm(cx, requester, &gathering.key, answer);
        }
    }

    /// The states of some hosts have been read for a keeper that cancels their task: cancels it for those
    /// of this node, and passes the letter on to the nodes of the others.
    pub(super) fn cancel_bell_read(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        (key, asked, bell): (TaskKey, Vec<HostId>, CancelBell),
        (strangers, forward): (Vec<HostId>, BTreeMap<String, Vec<HostId>>),
    ) {
        let forward = match bell.entry.hops < BELL_HOPS_MAX {
            true => forward,
            false => BTreeMap::new(),
        };
        let passed_on: BTreeSet<&HostId> =
            strangers.iter().chain(forward.values().flatten()).collect();
        let mut cancels = Cancels::default();
        for host in asked.iter().filter(|host| !passed_on.contains(host)) {
            let list = match hosts.is_online(host) {
                true => self.cancel_for_keeper(cx, hosts, &key, host, &mut cancels),
                false => &mut cancels.unheld,
            };
            list.push(host.clone());
        }
        if cancels != Cancels::default() {
            let (ticket, hosts) = (bell.ticket, cancels);
            let letter = Letter::Cancelled { ticket, hosts };
            self.post(&bell.from, &key, &[], 0, &letter);
        }
        for (node, named) in &forward {
            let letter = Letter::Cancel {
                from: bell.from.clone(),
                ticket: bell.ticket,
            };
            self.post(node, &key, named, bell.entry.hops + 1, &letter);
        }
        match strangers.is_empty() {
            true => self.peers.done_with(bell.entry),
            false => self.peers.look_at_strangers(key, strangers, bell),
        }
    }

    /// Cancels a task for a host of this node. Returns the list that the host belongs to.
    fn cancel_for_keeper<'a>(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        key: &TaskKey,
        host: &HostId,
        cancels: &'a mut Cancels,
    ) -> &'a mut Vec<HostId> {
        let slot = self.table.delivery_of(key, host);
        let state = slot.and_then(|slot| self.table.delivery(slot));
        let Some((slot, state)) = slot.zip(state.map(|delivery| delivery.state)) else {
            return &mut cancels.ended;
        };
        if state == TaskState::Cancelled {
            return &mut cancels.cancelled;
        }
        let mut result = Cancelled::default();
        self.cancel_host(cx, hosts, slot, &mut result);
        if result.cancelled > 0 {
            &mut cancels.cancelled
        } else if result.asked > 0 {
            &mut cancels.asked
        } else if !result.cannot.is_empty() {
            &mut cancels.cannot
        } else {
            &mut cancels.ended
        }
    }
}
