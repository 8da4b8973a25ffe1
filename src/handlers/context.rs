//! The context of one step: the time, the effects, and the values that all parts use.

use std::fmt::Display;

use crate::codec::message::{Flag, Reply, Word};
use crate::ids::ConnId;
use crate::store::op::Stamp;

use super::Moment;
use super::core::Rules;
use super::effect::{Effect, Effects, Event, EventKind, Note};
use super::request::Response;
use super::stats::Stats;
use super::tasks::letters::is_remote;
use super::view::StoreView;

/// Values that all parts use.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) rules: Rules,
    pub(crate) stats: Stats,
    pub(crate) store: StoreState,
    pub(crate) nodes: Nodes,
    /// Other nodes have shared the store since the start: it may know hosts that this node does not.
    pub(crate) had_others: bool,
    /// Number of the next event.
    pub(crate) seq: u64,
    pub(crate) stopping: bool,
    /// Responses to requesters at other nodes.
    pub(crate) answers: Vec<(u64, Response)>,
}

/// Nodes that share the store with this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// The store cannot be shared.
    #[default]
    Unshared,
    /// The store has not been available yet.
    Unknown,
    /// This node is the only one.
    Alone,
    /// There are other nodes.
    Several,
}

/// State of the store.
#[derive(Debug)]
pub(crate) enum StoreState {
    Starting,
    Available,
    Unavailable(String),
}

impl StoreState {
    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Self::Available)
    }

    pub(crate) fn view(&self) -> StoreView<'_> {
        match self {
            Self::Starting => StoreView::Starting,
            Self::Available => StoreView::Available,
            Self::Unavailable(why) => StoreView::Unavailable(why),
        }
    }
}

/// Context of one step.
#[derive(Debug)]
pub(crate) struct Ctx<'a> {
    pub(crate) at: Moment,
    pub(crate) rules: &'a Rules,
    pub(crate) stats: &'a mut Stats,
    pub(crate) store: &'a mut StoreState,
    pub(crate) nodes: &'a mut Nodes,
    pub(crate) had_others: &'a mut bool,
    pub(crate) fx: &'a mut Effects,
    pub(crate) stopping: bool,
    pub(crate) answers: &'a mut Vec<(u64, Response)>,
    seq: &'a mut u64,
}

impl<'a> Ctx<'a> {
    pub(crate) fn new(at: Moment, env: &'a mut Env, fx: &'a mut Effects) -> Self {
        Self {
            at,
            rules: &env.rules,
            stats: &mut env.stats,
            store: &mut env.store,
            nodes: &mut env.nodes,
            had_others: &mut env.had_others,
            fx,
            stopping: env.stopping,
            answers: &mut env.answers,
            seq: &mut env.seq,
        }
    }
}

impl Ctx<'_> {
    pub(crate) fn is_store_up(&self) -> bool {
        self.store.is_up()
    }

    /// Returns whether other nodes share the store.
    pub(crate) fn has_other_nodes(&self) -> bool {
        *self.nodes == Nodes::Several
    }

    /// Returns whether other nodes may share the store. One that has just started is known only after
    /// the next look.
    pub(crate) fn may_have_other_nodes(&self) -> bool {
        !matches!(self.nodes, Nodes::Unshared | Nodes::Unknown)
    }

    /// Returns whether no other node shares the store, as of the last look.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.nodes, Nodes::Unshared | Nodes::Alone)
    }

    /// Returns whether a host that goes offline is reported only after the store has confirmed that
    /// its claim was this node's. A node without others does not wait for an unavailable store.
    pub(crate) fn reports_wait(&self) -> bool {
        let is_shared = *self.nodes != Nodes::Unshared;
        is_shared && (self.is_store_up() || !self.is_alone())
    }

    /// Returns whether the store has never been available, so that the tasks are not known.
    pub(crate) fn is_starting(&self) -> bool {
        self.stats.store_sessions == 0
    }

    /// The stamp of an event that happens now.
    pub(crate) fn stamp(&mut self) -> Stamp {
        let seq = *self.seq;
        *self.seq += 1;
        Stamp {
            at: self.at.wall,
            seq,
        }
    }

    /// Publishes an event.
    pub(crate) fn publish(&mut self, stamp: Stamp, kind: EventKind) {
        self.publish_event(stamp, kind, false);
    }

    /// Raises an event; `passing` says whether it is about a host or key that was never known here.
    pub(crate) fn publish_event(&mut self, stamp: Stamp, kind: EventKind, passing: bool) {
        self.fx.push(Effect::Tell(Event {
            stamp,
            kind,
            passing,
        }));
    }

    pub(crate) fn reply(&mut self, conn: ConnId, flag: Flag, seq: Option<u64>, word: Word) {
        let reply = Reply { flag, seq, word };
        self.fx.push(Effect::Reply { conn, reply });
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        self.fx.push(Effect::Close { conn });
    }

    pub(crate) fn resume(&mut self, conn: ConnId) {
        self.fx.push(Effect::Resume { conn });
    }

    pub(crate) fn respond(&mut self, requester: u64, answer: Response) {
        match is_remote(requester) {
            true => self.answers.push((requester, answer)),
            false => self.fx.push(Effect::Respond { requester, answer }),
        }
    }

    /// Writes a line to the log.
    pub(crate) fn log(
        &mut self,
        level: log::Level,
        what: &'static str,
        who: impl Display,
        text: impl Into<String>,
    ) {
        self.fx.push(Effect::Log(Note {
            level,
            what,
            who: who.to_string(),
            text: text.into(),
        }));
    }

    /// Counts a valid message.
    pub(crate) fn count(&mut self, flag: Flag) {
        self.stats.count(flag);
    }
}
