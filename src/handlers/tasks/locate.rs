//! Hosts of a dispatch, or of a console command, that are not connected to this node: which node holds
//! each of them.
//!
//! ```text
//!   Naming ─▶ named hosts that are offline here ─▶ Holders, a page at a time ─┐
//!          └▶ all that are online ─▶ Others, a page at a time ────────────────┴▶ store_task, Commanding
//! ```
//!
//! A host that another node holds begins as `sent`, and its node is rung when the task is stored.

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::request::Response;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::console::{Commanding, NewCommand};
use crate::handlers::tasks::dispatch::{CheckedTask, Refusal, WAIT, not_now, wrong};
use crate::handlers::tasks::jobs::{Job, Named};
use crate::limits::{BELL_HOSTS_MAX, DELIVERIES_MAX, DISPATCHES_WAITING_MAX, INBOX_ENTRIES_MAX};
use crate::store::op::{Found, OthersCursor, Question, TaskState};
use crate::time::Instant;

/// A dispatch whose hosts at other nodes are looked up.
#[derive(Debug)]
pub(crate) struct Locating {
    requester: u64,
    purpose: Located,
    named: Named,
    rest: Rest,
    deadline: Instant,
}

/// Purpose of the hosts.
#[derive(Debug)]
pub(super) enum Located {
    /// A task.
    Task(CheckedTask),
    /// A console command.
    Command(NewCommand),
}

/// Hosts still to be looked up.
#[derive(Debug)]
enum Rest {
    /// Places of named hosts that are offline here, the next last.
    Places(Vec<usize>),
    /// All hosts of other nodes, from here on.
    Others(Option<OthersCursor>),
}

/// Returns whether hosts of a dispatch may be connected to other nodes.
pub(super) fn needs_locating(cx: &Ctx<'_>, named: &Named, everyone: bool) -> bool {
    cx.may_have_other_nodes() && cx.is_store_up() && (everyone || named.sent < named.hosts.len())
}

impl Locating {
    /// Deadline of its requester.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The next question.
    pub(super) fn question(&self) -> Question {
        match &self.rest {
            Rest::Places(places) => {
                let from = places.len().saturating_sub(BELL_HOSTS_MAX);
                let host = |place: &usize| self.named.hosts[*place].0.clone();
                Question::Holders {
                    hosts: places[from..].iter().map(host).collect(),
                }
            }
            Rest::Others(cursor) => Question::Others {
                cursor: cursor.clone(),
            },
        }
    }

    /// Takes an answer. Returns whether it was the last.
    fn take(&mut self, found: Found) -> Result<bool, Refusal> {
        match (&mut self.rest, found) {
            (Rest::Places(places), Found::Holders(holders)) => {
                for (node, length) in &holders.nodes {
                    check_inbox(node, *length)?;
                }
                let from = places.len().saturating_sub(BELL_HOSTS_MAX);
                for (place, of) in places.split_off(from).into_iter().zip(&holders.of) {
                    if let Some((node, _)) = of.and_then(|of| holders.nodes.get(of)) {
                        self.named.found_elsewhere(place, node);
                    }
                }
                Ok(places.is_empty())
            }
            (Rest::Others(cursor), Found::Others(page)) => {
                if let Some((node, length)) = &page.node {
                    if !page.hosts.is_empty() {
                        check_inbox(node, *length)?;
                    }
                    if self.named.hosts.len() + page.hosts.len() > DELIVERIES_MAX {
                        return Err(not_now("too many hosts are online for one task"));
                    }
                    for host in page.hosts {
                        self.named.add_elsewhere(host, node);
                    }
                }
                *cursor = page.next;
                Ok(cursor.is_none())
            }
            (_, Found::Nothing(why)) => Err(not_now(&why)),
            _ => Err(not_now("the store answered something else")),
        }
    }
}

/// Refuses a dispatch to a node that does not read its inbox.
fn check_inbox(node: &str, length: usize) -> Result<(), Refusal> {
    match length < INBOX_ENTRIES_MAX {
        true => Ok(()),
        false => Err(not_now(&format!(
            "the inbox of node {node} is full: {length} entries wait for it"
        ))),
    }
}

impl Tasks {
    /// Begins to look up the hosts of a dispatch at other nodes: those named that are offline here, or
    /// with `everyone` all.
    pub(super) fn locate(
        &mut self,
        cx: &mut Ctx<'_>,
        requester: u64,
        purpose: Located,
        named: Named,
        everyone: bool,
    ) {
        if self.peers.locating.len() >= DISPATCHES_WAITING_MAX {
            let why = not_now("too many dispatches are under way");
            return cx.respond(requester, why.into());
        }
        let rest = match everyone {
            true => Rest::Others(None),
            false => {
                let hosts = named.hosts.iter().enumerate();
                let offline = hosts.filter(|(_, host)| host.1 != TaskState::Sent);
                Rest::Places(offline.map(|(place, _)| place).collect())
            }
        };
        let deadline = match &purpose {
            Located::Task(task) => task.deadline(),
            Located::Command(_) => cx.at.now + WAIT,
        };
        self.peers.begin_locating(Locating {
            requester,
            purpose,
            named,
            rest,
            deadline,
        });
    }

    /// The store has answered a question about the hosts of a dispatch.
    pub(super) fn located(
        &mut self,
        cx: &mut Ctx<'_>,
        hosts: Directory<'_>,
        number: u64,
        found: Found,
    ) {
        let Some(mut locating) = self.peers.locating.remove(&number) else {
            return;
        };
        let requester = locating.requester;
        let done = match locating.take(found) {
            Ok(false) => return self.peers.go_on_locating(number, locating),
            Ok(true) if locating.named.hosts.is_empty() => {
                Err(wrong("no host is online".to_owned()))
            }
            Ok(true) => {
                locating.named.sort_rings();
                match locating.purpose {
                    Located::Task(task) => self.store_task(cx, requester, task, locating.named),
                    Located::Command(command) => {
                        let commanding = Commanding::new(requester, command, locating.named);
                        self.begin_job(cx, hosts, Job::Commanding(Box::new(commanding)));
                        Ok(())
                    }
                }
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = done {
            cx.respond(requester, refusal.into());
        }
    }

    /// Answers requesters that have waited for too long. Nothing is stored.
    pub(super) fn hurry_locating(&mut self, cx: &mut Ctx<'_>, judge: Instant) {
        let late = |locating: &Locating| locating.deadline() <= judge;
        for (_, locating) in self.peers.locating.extract_if(.., |_, one| late(one)) {
            let why = not_now("the store has not answered");
            cx.respond(locating.requester, Response::from(why));
        }
    }

    /// Refuses the dispatches whose hosts are being looked up.
    pub(super) fn refuse_locating(&mut self, cx: &mut Ctx<'_>, why: &str) {
        for (_, locating) in std::mem::take(&mut self.peers.locating) {
            cx.respond(locating.requester, Response::from(not_now(why)));
        }
    }
}
