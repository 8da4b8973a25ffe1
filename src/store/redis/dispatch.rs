//! A task is stored, completely or not at all.
//!
//! ```text
//!  entry, claim, look ──▶ states, response ──▶ book ──▶ event
//!   │ another's: taken        │ refused          │ another program was faster
//!   └─ a book exists ─────────┴──────────────────┴──▶ look ──▶ undo, the entry last
//! ```
//!
//! A step begins when the one before has been answered, so that a later key never exists without
//! the earlier ones. The claim shows which keys are ours; an undo touches no others.

use redis::Cmd;

use super::Context;
use super::errors::Fault;
use super::facts::close;
use super::inbox::ring_commands;
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step};
use crate::limits::REDIS_MEMBERS_MAX;
use crate::store::events::StreamEvent;
use crate::store::op::{self, Outcome, Stored};
use crate::store::records::{Claim, GIVEN_UP, Owner, is_awaited, unfit};
use crate::store::schema;

/// A dispatch in progress.
pub(super) struct Dispatch<'a> {
    context: &'a Context,
    op: &'a op::Dispatch,
    /// Our claim, as it is stored.
    claim: String,
    stage: DispatchStep,
    /// It was stored once, and may be lost.
    again: bool,
    /// The keys were read after a refusal: another refusal ends the dispatch.
    looked: bool,
}

/// Step of the dispatch.
enum DispatchStep {
    /// Claim the key.
    Claim,
    /// The key is ours: write the hosts.
    Hosts,
    /// The hosts are written: write the book, or check whether the existing one is ours.
    Book,
    /// The task is stored: write its event.
    Event,
    /// The task will not be stored, with this result: read how far it came.
    Look(Stored),
    /// Remove our keys of it, to this extent.
    Undo(Reach, Stored),
}

/// Extent of an undo.
struct Reach {
    /// The hosts' states and the awaited answers.
    hosts: bool,
    /// The claim.
    claim: bool,
    /// The entry among the tasks.
    entry: bool,
}

/// State of a key.
struct Standing {
    claim: Owner,
    book: bool,
    hosts: bool,
    /// The entry among the tasks may be ours: it has the same time.
    entry: bool,
    /// Error of a part that could not be read. Such a part counts as missing.
    damage: Option<String>,
}

impl Standing {
    /// Returns whether the task is complete, if the book is ours.
    fn may_be_stored(&self) -> bool {
        self.claim == Owner::Us && self.book && self.hosts
    }

    /// Extent of the undo of a dispatch that is not stored.
    fn reach(&self) -> Reach {
        Reach {
            // A book without states is another program's, and so are its awaited answers.
            hosts: self.claim == Owner::Us && !self.book,
            claim: self.claim == Owner::Us,
            entry: match self.claim {
                Owner::Us => true,
                Owner::Nobody => self.entry,
                Owner::Another => false,
            },
        }
    }
}

impl<'a> Dispatch<'a> {
    /// Stores a task, or continues an interrupted attempt.
    pub(super) fn new(context: &'a Context, op: &'a op::Dispatch) -> Self {
        Self {
            context,
            op,
            claim: Claim::of(op, &context.node).text(),
            stage: match unfit(op) {
                None => DispatchStep::Claim,
                Some(why) => DispatchStep::Look(Stored::Refused(why.to_owned())),
            },
            again: false,
            looked: false,
        }
    }

    /// Rewrites the missing parts of a task that was stored.
    pub(super) fn again(context: &'a Context, op: &'a op::Dispatch) -> Self {
        Self {
            again: true,
            ..Self::new(context, op)
        }
    }

    /// Removes what an earlier attempt left, unless the task is complete.
    pub(super) fn given_up(context: &'a Context, op: &'a op::Dispatch) -> Self {
        Self {
            stage: DispatchStep::Look(Stored::Undone(GIVEN_UP.to_owned())),
            ..Self::new(context, op)
        }
    }

    fn enter(&self) -> Cmd {
        let (at, key) = (self.op.created.0, self.op.key.as_str());
        cmd!("ZADD", schema::TASKS, "NX", at, key)
    }

    fn look(&self, step: &mut Step, stage: usize) {
        let key = &self.op.key;
        for (verb, name) in [
            ("GET", schema::task(key)),
            ("EXISTS", schema::book(key)),
            ("EXISTS", schema::task_hosts(key)),
        ] {
            step.one(stage, cmd!(verb, name));
        }
        step.one(stage, cmd!("ZSCORE", schema::TASKS, key.as_str()));
    }

    fn looked(&self, replies: &mut Replies) -> Result<Standing, Fault> {
        let mut damage = None;
        let claim = readable(replies.text(), &mut damage)?.flatten();
        let claim = Owner::of(claim.as_deref(), self.op);
        let (book, hosts) = (replies.int()? == 1, replies.int()? == 1);
        let score = readable(replies.text(), &mut damage)?.flatten();
        let score: Option<f64> = score.and_then(|score| score.parse().ok());
        Ok(Standing {
            claim,
            book,
            hosts,
            entry: score == Some(self.op.created.0 as f64),
            damage,
        })
    }

    /// Next step after the attempt to claim the key.
    fn claimed(&self, mut replies: Replies) -> Result<NextStep, Fault> {
        replies.value()?;
        let fresh = replies.text()?.is_some();
        let standing = self.looked(&mut replies)?;
        if let Some(why) = standing.damage {
            return Err(Fault::Own(why));
        }
        Ok(match standing.claim {
            Owner::Us if !standing.book || self.again => NextStep::Go(DispatchStep::Hosts),
            // An earlier attempt was complete, if the book is ours.
            Owner::Us if !fresh && standing.hosts => NextStep::Go(DispatchStep::Book),
            Owner::Us => {
                let reach = Reach {
                    hosts: false,
                    ..standing.reach()
                };
                NextStep::Go(DispatchStep::Undo(reach, Stored::Taken))
            }
            Owner::Another => NextStep::Done(Stored::Taken),
            // The claim was just written: another program deletes keys.
            Owner::Nobody => {
                return Err(Fault::Own("the claim of the task vanished".to_owned()));
            }
        })
    }

    fn write_hosts(&self, step: &mut Step) {
        let op = self.op;
        // Repeated, since a node that gave up the key may have removed the entry.
        step.one(0, self.enter());
        step.one(0, cmd!("SADD", schema::TASKS_OPEN, op.key.as_str()));
        for hosts in op.hosts.chunks(REDIS_MEMBERS_MAX) {
            let mut states = Script::Begin.on(&schema::task_hosts(&op.key));
            for (host, state) in hosts {
                states.arg(host.as_str()).arg(state.as_str());
            }
            step.one(1, states);
        }
        if let Some(text) = &op.rollout {
            // What was changed since is kept when the task is written again.
            let key = schema::task_rollout(&op.key);
            match self.again {
                true => step.one(1, cmd!("SET", &key, text, "NX")),
                false => step.one(1, cmd!("SET", &key, text)),
            }
            step.one(1, cmd!("PERSIST", key));
        }
        self.response("SADD", step, 1);
        step.one(1, cmd!("PERSIST", schema::response(&op.key)));
    }

    /// Adds or removes the awaited hosts in the set of awaited answers.
    fn response(&self, verb: &str, step: &mut Step, stage: usize) {
        let awaited = self.op.hosts.iter().filter(|(_, state)| is_awaited(*state));
        let awaited: Vec<&str> = awaited.map(|(host, _)| host.as_str()).collect();
        for hosts in awaited.chunks(REDIS_MEMBERS_MAX) {
            step.one(stage, cmd!(verb, schema::response(&self.op.key), hosts));
        }
    }

    fn write_book(&self) -> Cmd {
        let mut book = Script::Book.on(&schema::book(&self.op.key));
        for (command, priority) in &self.op.commands {
            book.arg(*priority).arg(command);
        }
        book
    }

    fn write_event(&self, step: &mut Step) {
        let op = self.op;
        // The event is not repeated, but a step needs a command.
        step.one(
            0,
            match self.again {
                true => self.enter(),
                false => self.context.append(&StreamEvent::dispatch(op)),
            },
        );
        if !self.again {
            for (node, hosts) in &op.rings {
                let rings = ring_commands(node, &op.key, hosts, 0);
                rings.for_each(|ring| step.one(0, ring));
            }
        }
        // No host will change state, so the expiry begins now.
        if op.hosts.iter().all(|(_, state)| state.is_settled()) {
            for name in schema::of_whole_task(&op.key) {
                step.one(0, self.context.expire(&name));
            }
            step.one(0, close(&op.key));
        }
    }

    fn undo(&self, reach: &Reach, step: &mut Step) {
        let key = &self.op.key;
        if reach.hosts {
            let mut drop = Script::Drop.on(&schema::task_hosts(key));
            step.one(0, drop.arg("hash").take());
            if self.op.rollout.is_some() {
                step.one(0, cmd!("DEL", schema::task_rollout(key)));
            }
            self.response("SREM", step, 0);
        }
        if reach.claim {
            let mut unclaim = Script::Unclaim.on(&schema::task(key));
            step.one(1, unclaim.arg(&self.claim).take());
        }
        if reach.claim {
            step.one(2, close(key));
        }
        // At least one command, and the entry last: a start finds the rest by it.
        let last = if reach.entry { "ZREM" } else { "ZSCORE" };
        step.one(2, cmd!(last, schema::TASKS, key.as_str()));
    }

    fn next(&self, mut replies: Replies) -> Result<NextStep, Fault> {
        Ok(match &self.stage {
            DispatchStep::Claim => self.claimed(replies)?,
            DispatchStep::Hosts => {
                replies.rest_good()?;
                NextStep::Go(DispatchStep::Book)
            }
            DispatchStep::Book if replies.int()? == 1 => NextStep::Go(DispatchStep::Event),
            // Another program wrote a book of this name since we claimed the key.
            DispatchStep::Book => {
                let reach = Reach {
                    hosts: true,
                    claim: true,
                    entry: true,
                };
                NextStep::Go(DispatchStep::Undo(reach, Stored::Taken))
            }
            DispatchStep::Event => {
                replies.rest_good()?;
                NextStep::Done(Stored::Whole)
            }
            DispatchStep::Look(why) => {
                let standing = self.looked(&mut replies)?;
                if standing.may_be_stored() {
                    NextStep::Go(DispatchStep::Book)
                } else {
                    NextStep::Go(DispatchStep::Undo(standing.reach(), why.clone()))
                }
            }
            DispatchStep::Undo(_, why) => {
                replies.rest_good()?;
                NextStep::Done(why.clone())
            }
        })
    }

    /// Next step after the store has refused a part.
    fn refused(&self, reason: String) -> NextStep {
        match &self.stage {
            DispatchStep::Claim | DispatchStep::Hosts | DispatchStep::Book if self.looked => {
                NextStep::Done(Stored::Refused(reason))
            }
            DispatchStep::Claim | DispatchStep::Hosts | DispatchStep::Book => {
                NextStep::Go(DispatchStep::Look(Stored::Refused(reason)))
            }
            // The task is stored without its event.
            DispatchStep::Event => {
                let key = &self.op.key;
                log::warn!(
                    key:% = key, error = reason;
                    "store: the event of task {key} cannot be written: {reason}"
                );
                NextStep::Done(Stored::Whole)
            }
            // A key that cannot be removed has another type, and is not ours.
            DispatchStep::Look(stored) | DispatchStep::Undo(_, stored) => {
                NextStep::Done(stored.clone())
            }
        }
    }

    fn outcome(&self, stored: Stored) -> Outcome {
        match self.again {
            true => Outcome::Restored {
                key: self.op.key.clone(),
                stored,
            },
            false => Outcome::Dispatched {
                request: self.op.request,
                stored,
            },
        }
    }
}

/// The value read, or the default and an error if the key has another type.
fn readable<T>(read: Result<T, Fault>, damage: &mut Option<String>) -> Result<Option<T>, Fault> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Own(why)) => {
            damage.get_or_insert(why);
            Ok(None)
        }
        Err(unavailable) => Err(unavailable),
    }
}

/// Continuation of a dispatch.
enum NextStep {
    Go(DispatchStep),
    Done(Stored),
}

impl Job for Dispatch<'_> {
    fn encode(&mut self, step: &mut Step) {
        match &self.stage {
            DispatchStep::Claim => {
                step.one(0, self.enter());
                let task = schema::task(&self.op.key);
                step.one(1, cmd!("SET", task, &self.claim, "NX"));
                self.look(step, 2);
            }
            DispatchStep::Hosts => self.write_hosts(step),
            DispatchStep::Book => step.one(0, self.write_book()),
            DispatchStep::Event => self.write_event(step),
            DispatchStep::Look(_) => self.look(step, 0),
            DispatchStep::Undo(reach, _) => self.undo(reach, step),
        }
    }

    fn on_replies(&mut self, replies: Replies) -> Result<StepResult, Fault> {
        let next = match self.next(replies) {
            Err(Fault::Own(why)) => self.refused(why),
            next => next?,
        };
        Ok(match next {
            NextStep::Go(stage) => {
                self.looked |= matches!(self.stage, DispatchStep::Look(_));
                self.stage = stage;
                StepResult::More
            }
            NextStep::Done(stored) => StepResult::Done(self.outcome(stored)),
        })
    }
}
