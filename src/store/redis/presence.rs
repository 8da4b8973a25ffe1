//! Presence: claims, releases, and their consequences.

use redis::{Cmd, Value};

use super::Context;
use super::errors::Fault;
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Shared, Step, int, list, text};
use crate::ids::{HostId, HostRef};
use crate::limits::HISTORY_TRANSITIONS_MAX;
use crate::store::events::StreamEvent;
use crate::store::op::history::{TRANSITION_BYTES, pack};
use crate::store::op::{self, Hold, Outcome, Settled, Transition};
use crate::store::schema::{self, field};

/// Node's set, claim, `exists`, last seen and event. A claim does all of it in one step; a renewal
/// adds the host to `exists` only after the store has confirmed that it is this node's.
pub(super) struct Online<'a> {
    context: &'a Context,
    op: &'a op::Online,
    stage: OnlineStep,
}

/// Step of coming online.
#[derive(Debug)]
enum OnlineStep {
    Claim,
    Renew {
        epoch: u64,
    },
    /// The claim is renewed: enter the host in `exists`.
    Enter(Settled),
    /// The host belongs to another node: remove it from the node's set.
    Leave(Settled),
}

impl<'a> Online<'a> {
    pub(super) const fn new(context: &'a Context, op: &'a op::Online) -> Self {
        let stage = match op.hold {
            Hold::Claim { .. } => OnlineStep::Claim,
            Hold::Renew { epoch } => OnlineStep::Renew { epoch },
            Hold::Keep { epoch } => OnlineStep::Renew { epoch },
        };
        Self { context, op, stage }
    }

    /// Adds the arguments that claims and renewals share.
    fn describe<'s>(&self, step: &'s mut Step, what: Shared) -> &'s mut Cmd {
        let op = self.op;
        step.shared(1, what, &schema::host(&op.host))
            .arg(&self.context.node)
            .arg(op.host.as_str())
            .arg(op.peer.ip().to_canonical().to_string())
            .arg(op.peer.port())
            .arg(op.since.0)
            .arg(u8::from(op.keyed))
    }

    fn enter(&self, step: &mut Step, stage: usize) {
        let op = self.op;
        step.shared(stage, Shared::ExistsAdd, op.host.as_str());
        let heard_of = op.event.map_or(op.since, |stamp| stamp.at);
        step.seen(stage, &op.host, heard_of.0);
        if let Some(stamp) = op.event {
            let event = StreamEvent::online(&op.host, stamp);
            step.one(stage, self.context.append(&event));
        }
        history(&op.host, &op.history, 0, step);
    }

    /// The next step after a claim, or its result.
    fn claimed(&self, mut replies: Replies) -> Result<Result<Settled, OnlineStep>, Fault> {
        let mut facts = list(replies.value()?)?.into_iter();
        let mut next = || facts.next().unwrap_or(Value::Nil);
        let epoch = match int(next())? {
            -3 => return Ok(Err(OnlineStep::Leave(Settled::Foreign { is_free: false }))),
            epoch @ ..=-1 => {
                let is_first = epoch == -2;
                return Ok(Err(OnlineStep::Leave(Settled::Contested { is_first })));
            }
            epoch => epoch.unsigned_abs(),
        };
        let before = text(next())?.unwrap_or_default();
        let mut is_set = || text(next()).map(|text| text.as_deref() == Some("1"));
        let (restarted, keyed) = (is_set()?, is_set()?);
        replies.rest_good()?;
        Ok(Ok(Settled::Claimed {
            epoch,
            moved: !before.is_empty() && before != self.context.node,
            restarted,
            keyed,
        }))
    }

    /// The next step after a renewal.
    fn renewed(&self, mut replies: Replies) -> Result<OnlineStep, Fault> {
        let (kind, epoch) = replies.pair()?;
        let (kind, epoch) = (int(kind)?, int(epoch)?.unsigned_abs());
        let returned = self.op.event.is_none();
        Ok(match kind {
            1 if returned => OnlineStep::Enter(Settled::Returned { epoch }),
            0 | 1 => OnlineStep::Enter(Settled::Renewed { epoch }),
            kind => OnlineStep::Leave(Settled::Foreign { is_free: kind == 2 }),
        })
    }
}

impl Job for Online<'_> {
    fn encode(&mut self, step: &mut Step) {
        let op = self.op;
        match (&self.stage, &op.hold) {
            (OnlineStep::Claim, hold) => {
                step.shared(0, Shared::OwnAdd, op.host.as_str());
                let (boot, silent_ms) = match hold {
                    Hold::Claim { boot, silent_ms } => {
                        (boot.as_deref().unwrap_or_default(), *silent_ms)
                    }
                    Hold::Renew { .. } | Hold::Keep { .. } => ("", 0),
                };
                let claim = self.describe(step, Shared::Claim);
                claim.arg(boot).arg(silent_ms);
                self.enter(step, 2);
            }
            (OnlineStep::Renew { epoch }, hold) => {
                step.shared(0, Shared::OwnAdd, op.host.as_str());
                let is_connected = matches!(hold, Hold::Renew { .. });
                self.describe(step, Shared::Renew)
                    .arg(*epoch)
                    .arg(u8::from(is_connected));
            }
            (OnlineStep::Enter(_), _) => self.enter(step, 0),
            (OnlineStep::Leave(_), _) => {
                step.shared(0, Shared::OwnRemove, op.host.as_str());
            }
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let ticket = self.op.ticket;
        self.stage = match &self.stage {
            OnlineStep::Claim => match self.claimed(replies)? {
                Ok(result) => return Ok(settled(ticket, result)),
                Err(next) => next,
            },
            OnlineStep::Renew { .. } => self.renewed(replies)?,
            OnlineStep::Enter(result) | OnlineStep::Leave(result) => {
                replies.rest_good()?;
                return Ok(settled(ticket, result.clone()));
            }
        };
        Ok(StepResult::More)
    }
}

/// Deletes what is stored of a host, unless a node has claimed it.
pub(super) struct Forget<'a> {
    host: &'a HostId,
    is_gone: bool,
}

impl<'a> Forget<'a> {
    pub(super) const fn new(host: &'a HostId) -> Self {
        let is_gone = false;
        Self { host, is_gone }
    }
}

impl Job for Forget<'_> {
    fn encode(&mut self, step: &mut Step) {
        if self.is_gone {
            step.one(0, cmd!("ZREM", schema::SEEN, self.host.as_str()));
            step.one(0, cmd!("HDEL", schema::LABELS, self.host.as_str()));
            step.one(0, cmd!("DEL", schema::history(self.host)));
        } else {
            step.one(0, Script::Forget.on(&schema::host(self.host)));
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let done = replies.int()? == 0 || self.is_gone;
        self.is_gone = true;
        Ok(match done {
            true => StepResult::Written,
            false => StepResult::More,
        })
    }
}

fn settled(ticket: HostRef, settled: Settled) -> StepResult {
    StepResult::Done(Outcome::Presence { ticket, settled })
}

/// Gives up the claim, withdraws the host, and checks whether a node has claimed it meanwhile.
pub(super) struct Offline<'a> {
    context: &'a Context,
    op: &'a op::Offline,
    stage: OfflineStep,
}

/// Step of going offline.
#[derive(Clone, Copy)]
enum OfflineStep {
    /// Give up the claim.
    Release,
    /// The claim was released before, or belongs to another node, or does not exist: read the sets.
    Look(Holder),
    /// There is no claim, and the host is in `exists`: an older server left it, or the store has
    /// lost the claim. It is ended like one of ours.
    Adopt,
    /// The claim is given up: remove the host from `exists`.
    Withdraw,
    /// The host is withdrawn: write the event, and remove it from the node's set unless the node
    /// has claimed it again.
    Event(Claimant),
    /// The claim was not ours: remove the host from the node's set.
    Leave(Holder),
}

/// Holder of a host whose claim was not ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// No node: the claim was given up.
    Nobody,
    /// There is no claim, or the store has lost it.
    Unclaimed,
    Another,
}

impl Holder {
    /// Result of an `Offline` that found this holder.
    const fn settled(self) -> Settled {
        match self {
            Self::Nobody | Self::Unclaimed => Settled::NotOurs,
            Self::Another => Settled::Foreign { is_free: false },
        }
    }
}

/// Holder of a host after it went offline.
#[derive(Clone, Copy)]
enum Claimant {
    Nobody,
    ThisNode,
    Another,
}

impl<'a> Offline<'a> {
    pub(super) fn new(context: &'a Context, op: &'a op::Offline) -> Self {
        Self {
            context,
            op,
            stage: OfflineStep::Release,
        }
    }

    /// The next step after the attempt to release the claim; `None` if a later claim of ours holds
    /// the host.
    fn released(&self, mut replies: Replies) -> Result<Option<OfflineStep>, Fault> {
        let (given_up, found) = replies.pair()?;
        if int(given_up)? == 1 {
            return Ok(Some(OfflineStep::Withdraw));
        }
        // The script returns `-` and the node's name, or nothing.
        let found = text(found)?.unwrap_or_default();
        Ok(match found.strip_prefix('-') {
            Some(node) if node == self.context.node => None,
            Some("") => Some(OfflineStep::Look(Holder::Nobody)),
            Some(_) => Some(OfflineStep::Look(Holder::Another)),
            None => Some(OfflineStep::Look(Holder::Unclaimed)),
        })
    }

    /// The next step for a host that is in the node's set or in `exists`, without a claim of ours.
    fn looked(&self, holder: Holder, own: bool, exists: bool) -> Option<OfflineStep> {
        match holder {
            // Going offline was interrupted after the first write: it is finished.
            Holder::Nobody if own => Some(OfflineStep::Withdraw),
            Holder::Nobody if self.op.epoch == 0 && exists => Some(OfflineStep::Adopt),
            // Also under an epoch of ours: the store has lost the claim, and an audit has added the
            // host.
            Holder::Unclaimed if exists => Some(OfflineStep::Adopt),
            holder => own.then_some(OfflineStep::Leave(holder)),
        }
    }

    fn release(&self, step: &mut Step, stage: usize, unclaimed_too: bool) {
        let (context, op) = (self.context, self.op);
        step.shared(stage, Shared::Release, &schema::host(&op.host))
            .arg(&context.node)
            .arg(op.epoch)
            .arg(op.reason.as_str())
            .arg(op.since.0)
            .arg(context.keep_ms)
            .arg(u8::from(unclaimed_too));
    }
}

impl Job for Offline<'_> {
    fn encode(&mut self, step: &mut Step) {
        let (context, op) = (self.context, self.op);
        match self.stage {
            OfflineStep::Release => self.release(step, 0, false),
            OfflineStep::Look(_) => {
                step.one(0, is_member(&context.own_set, &op.host));
                step.one(0, is_member(schema::EXISTS, &op.host));
            }
            OfflineStep::Adopt => {
                // In the node's set first, so that a start finishes it after an interruption.
                step.shared(0, Shared::OwnAdd, op.host.as_str());
                self.release(step, 1, true);
            }
            OfflineStep::Withdraw => withdraw(context, &op.host, step),
            OfflineStep::Event(claimant) => {
                if !matches!(claimant, Claimant::Nobody) {
                    step.shared(0, Shared::ExistsAdd, op.host.as_str());
                }
                if let Some(stamp) = op.event {
                    let event = StreamEvent::offline(&op.host, Some(op.reason), stamp);
                    step.one(0, context.append(&event));
                }
                history(&op.host, &op.history, context.keep_ms, step);
                if !matches!(claimant, Claimant::ThisNode) {
                    step.shared(1, Shared::OwnRemove, op.host.as_str());
                }
            }
            OfflineStep::Leave(_) => {
                step.shared(1, Shared::OwnRemove, op.host.as_str());
            }
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        self.stage = match self.stage {
            OfflineStep::Release | OfflineStep::Adopt => match self.released(replies)? {
                Some(next) => next,
                None => return Ok(settled(self.op.ticket, Settled::NotOurs)),
            },
            OfflineStep::Look(holder) => {
                let (own, exists) = (replies.int()? == 1, replies.int()? == 1);
                match self.looked(holder, own, exists) {
                    Some(next) => next,
                    None => return Ok(settled(self.op.ticket, holder.settled())),
                }
            }
            OfflineStep::Withdraw => {
                let node = replies.text()?.unwrap_or_default();
                replies.rest_good()?;
                OfflineStep::Event(match node.as_str() {
                    "" => Claimant::Nobody,
                    node if node == self.context.node => Claimant::ThisNode,
                    _ => Claimant::Another,
                })
            }
            OfflineStep::Event(_) => {
                replies.rest_good()?;
                return Ok(settled(self.op.ticket, Settled::Released));
            }
            OfflineStep::Leave(holder) => {
                replies.rest_good()?;
                return Ok(settled(self.op.ticket, holder.settled()));
            }
        };
        Ok(StepResult::More)
    }
}

/// Withdraws a host whose claim is given up. The first reply is the node that has claimed it
/// meanwhile, if any.
pub(super) fn withdraw(context: &Context, host: &HostId, step: &mut Step) {
    step.shared(0, Shared::ExistsRemove, host.as_str());
    // Only now: a claim that this does not see yet adds the host to `exists` after its removal.
    step.one(1, cmd!("HGET", schema::host(host), field::NODE));
    for gone in &context.delete_fields {
        step.shared(0, Shared::Delete, &schema::of_host(host, gone));
    }
}

/// Adds transitions of a host, which are kept for `keep_ms`, or without a limit if that is 0.
fn history(host: &HostId, transitions: &[Transition], keep_ms: u64, step: &mut Step) {
    if transitions.is_empty() {
        return;
    }
    let mut add = Script::History.on(&schema::history(host));
    add.arg(pack(transitions))
        .arg(HISTORY_TRANSITIONS_MAX * TRANSITION_BYTES)
        .arg(keep_ms);
    step.one(2, add);
}

fn is_member(set: &str, host: &HostId) -> Cmd {
    cmd!("SISMEMBER", set, host.as_str())
}
