//! Devices and targets: their states, the leases of the nodes that poll them, and questions about
//! all of them.
//!
//! The names of the devices are in a set, so that a node lists devices that only others have in
//! their configuration. The targets share a hash: a node that connects removes those that no node
//! polls.

use redis::Cmd;

use super::Context;
use super::errors::Fault;
use super::load::lenient;
use super::run::{Job, StepResult};
use super::scripts::Script;
use super::step::{Replies, Step, int, list};
use crate::ids::HostId;
use crate::limits::{
    AK_DEVICES_MAX, POLL_LEASE_S, POLL_VALID_S, REACH_TARGETS_MAX, REDIS_MEMBERS_MAX,
};
use crate::store::op::{Found, Outcome, Outside, OutsideFound, Place, PollAsk, Polls, PollsFound};
use crate::store::schema;

/// State of a device or of the targets.
pub(super) struct Write<'a> {
    op: &'a Outside,
    /// Fields of targets that another node may have in its configuration.
    strange: Vec<String>,
    stage: u8,
}

impl<'a> Write<'a> {
    pub(super) fn new(op: &'a Outside) -> Self {
        let strange = Vec::new();
        Self {
            op,
            strange,
            stage: 0,
        }
    }

    fn write(&self, step: &mut Step) {
        let (op, key) = (self.op, schema::outside(&self.op.place));
        if let Place::Device(name) = &op.place
            && op.whole
        {
            let is_gone = op.set.is_empty();
            let verb = if is_gone { "SREM" } else { "SADD" };
            step.one(0, cmd!(verb, schema::AK_DEVICES, name.as_str()));
            step.one(0, cmd!("DEL", &key));
        }
        for removed in op.removed.chunks(REDIS_MEMBERS_MAX) {
            step.one(1, cmd!("HDEL", &key, removed));
        }
        for set in op.set.chunks(REDIS_MEMBERS_MAX) {
            step.one(1, cmd!("HSET", &key, set));
        }
        if self.is_shared() {
            step.one(2, cmd!("HGETALL", &key));
        }
    }

    /// The hash has fields of other nodes.
    fn is_shared(&self) -> bool {
        self.op.whole && self.op.place == Place::Reach
    }
}

impl Job for Write<'_> {
    fn encode(&mut self, step: &mut Step) {
        match self.stage {
            0 => self.write(step),
            1 => {
                for target in &self.strange {
                    step.one(0, cmd!("EXISTS", schema::poll(target)));
                }
            }
            _ => step.one(0, cmd!("HDEL", schema::REACH, &self.strange)),
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        match self.stage {
            0 if !self.is_shared() => {
                replies.rest_good()?;
                return Ok(StepResult::Written);
            }
            0 => {
                for _ in self.op.removed.chunks(REDIS_MEMBERS_MAX) {
                    replies.int()?;
                }
                for _ in self.op.set.chunks(REDIS_MEMBERS_MAX) {
                    replies.int()?;
                }
                let set = &self.op.set;
                let fields = replies.texts()?;
                self.strange = fields.into_iter().step_by(2).collect();
                self.strange
                    .retain(|target| !set.iter().any(|(field, _)| field == target));
                self.strange.truncate(REACH_TARGETS_MAX);
            }
            1 => {
                let strange = std::mem::take(&mut self.strange);
                for target in strange {
                    if replies.int()? == 0 {
                        self.strange.push(target);
                    }
                }
            }
            _ => {
                replies.rest_good()?;
                return Ok(StepResult::Written);
            }
        }
        self.stage += 1;
        Ok(match self.strange.is_empty() {
            true => StepResult::Written,
            false => StepResult::More,
        })
    }
}

/// Leases of devices and targets.
pub(super) struct Leases<'a> {
    context: &'a Context,
    op: &'a Polls,
}

impl<'a> Leases<'a> {
    pub(super) fn new(context: &'a Context, op: &'a Polls) -> Self {
        Self { context, op }
    }

    fn chunks(&self) -> impl Iterator<Item = &'a [(String, PollAsk)]> + use<'a> {
        self.op.ask.chunks(self.context.keys_max)
    }
}

impl Job for Leases<'_> {
    fn encode(&mut self, step: &mut Step) {
        let node = &self.context.node;
        let old_ms = (POLL_LEASE_S - POLL_VALID_S) * 1_000;
        for asked in self.chunks() {
            let mut call = Script::Poll.on_each(asked.len());
            for (name, _) in asked {
                call.arg(schema::poll(name));
            }
            call.arg(node).arg(POLL_LEASE_S * 1_000).arg(old_ms);
            for (_, ask) in asked {
                call.arg(match ask {
                    PollAsk::Renew => "renew",
                    PollAsk::Take => "take",
                    PollAsk::Look => "look",
                });
            }
            step.one(0, call);
        }
        for name in &self.op.release {
            let mut release = Script::ReleaseLease.on(&schema::poll(name));
            release.arg(node);
            step.one(0, release);
        }
        if self.op.ask.is_empty() && self.op.release.is_empty() {
            step.one(0, cmd!("PING"));
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        let mut held = Vec::with_capacity(self.op.ask.len());
        for asked in self.chunks() {
            let each = list(replies.value()?)?.into_iter();
            for ((name, _), holds) in asked.iter().zip(each) {
                let holds = lenient(&schema::poll(name), int(holds))?;
                held.push((name.clone(), holds == Some(1)));
            }
        }
        let at = self.op.at;
        Ok(StepResult::Done(Outcome::Polls(PollsFound { at, held })))
    }
}

/// States of devices and targets of all nodes.
pub(super) struct All<'a> {
    ticket: u64,
    /// Requested devices, listed even without a stored state.
    devices: &'a [HostId],
    found: OutsideFound,
    is_listed: bool,
}

impl<'a> All<'a> {
    pub(super) fn new(ticket: u64, devices: &'a [HostId]) -> Self {
        Self {
            ticket,
            devices,
            found: OutsideFound::default(),
            is_listed: false,
        }
    }

    fn lists() -> [Cmd; 2] {
        let devices = cmd!("SSCAN", schema::AK_DEVICES, 0, "COUNT", AK_DEVICES_MAX);
        [devices, cmd!("HGETALL", schema::REACH)]
    }

    fn take_lists(&mut self, replies: &mut Replies) -> Result<(), Fault> {
        let names = match lenient(schema::AK_DEVICES, replies.pair())? {
            Some((_, names)) => super::step::texts(names)?,
            None => Vec::new(),
        };
        let names = names.iter().filter_map(|name| HostId::checked(name).ok());
        let mut names: Vec<HostId> = names.chain(self.devices.iter().cloned()).collect();
        names.sort();
        names.dedup();
        names.truncate(AK_DEVICES_MAX);
        let devices = names.into_iter().map(|name| (name, None, Vec::new()));
        self.found.devices = devices.collect();
        let targets = lenient(schema::REACH, replies.value())?;
        let targets = targets.map_or(Ok(Vec::new()), super::step::texts)?;
        let targets = targets.chunks_exact(2);
        let targets = targets.map(|pair| (pair[0].clone(), None, pair[1].clone()));
        self.found.targets = targets.take(REACH_TARGETS_MAX).collect();
        self.found.targets.sort();
        Ok(())
    }
}

impl Job for All<'_> {
    fn encode(&mut self, step: &mut Step) {
        if !self.is_listed {
            return Self::lists().into_iter().for_each(|list| step.one(0, list));
        }
        for (name, ..) in &self.found.devices {
            step.one(0, cmd!("GET", schema::poll(name.as_str())));
            step.one(0, cmd!("HGETALL", schema::ak(name)));
        }
        for (target, ..) in &self.found.targets {
            step.one(0, cmd!("GET", schema::poll(target)));
        }
    }

    fn on_replies(&mut self, mut replies: Replies) -> Result<StepResult, Fault> {
        if !std::mem::replace(&mut self.is_listed, true) {
            self.take_lists(&mut replies)?;
            if !self.found.devices.is_empty() || !self.found.targets.is_empty() {
                return Ok(StepResult::More);
            }
        }
        for (name, node, fields) in &mut self.found.devices {
            *node = lenient(&schema::poll(name.as_str()), replies.text())?.flatten();
            let texts = lenient(&schema::ak(name), replies.texts())?.unwrap_or_default();
            let pairs = texts.chunks_exact(2);
            *fields = pairs
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect();
        }
        for (target, node, _) in &mut self.found.targets {
            *node = lenient(&schema::poll(target), replies.text())?.flatten();
        }
        let found = Found::Outside(Box::new(std::mem::take(&mut self.found)));
        let ticket = self.ticket;
        Ok(StepResult::Done(Outcome::Read { ticket, found }))
    }
}
