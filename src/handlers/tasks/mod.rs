//! Tasks: the table, deliveries and their retransmission, results, console commands, and the work of hosts.

pub(crate) mod answer;
pub(crate) mod book;
pub(crate) mod commands;
pub(crate) mod console;
pub(crate) mod delivery;
pub(crate) mod dispatch;
pub(crate) mod jobs;
pub(crate) mod lifetime;
pub(crate) mod payloads;
pub(crate) mod progress;
pub(crate) mod reads;
pub(crate) mod restore;
pub(crate) mod result;
pub(crate) mod sends;
pub(crate) mod sequence;
pub(crate) mod shards;
pub(crate) mod states;
pub(crate) mod strays;
pub(crate) mod table;
pub(crate) mod work;

use std::collections::VecDeque;

use crate::rng::Rng;
use crate::wheel::Wheel;

use self::commands::Commands;
use self::dispatch::Dispatches;
use self::jobs::Jobs;
use self::lifetime::Early;
use self::payloads::Payloads;
use self::reads::Reads;
use self::restore::Restores;
use self::sends::Outgoing;
use self::states::States;
use self::strays::Strays;
use self::table::TaskTable;
use self::work::Work;

/// Tasks, console commands, and all that is under way for them.
#[derive(Debug)]
pub(crate) struct Tasks {
    pub(crate) table: TaskTable,
    /// Deadlines of deliveries, by slot.
    pub(crate) tries: Wheel,
    pub(crate) due: Vec<u32>,
    pub(crate) rng: Rng,
    pub(crate) sends: VecDeque<Outgoing>,
    pub(crate) dispatches: Dispatches,
    pub(crate) jobs: Jobs,
    pub(crate) states: States,
    pub(crate) restores: Restores,
    pub(crate) early: Early,
    pub(crate) payloads: Payloads,
    pub(crate) strays: Strays,
    pub(crate) commands: Commands,
    pub(crate) reads: Reads,
    pub(crate) work: Work,
}

impl Tasks {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            table: TaskTable::default(),
            tries: Wheel::new(),
            due: Vec::new(),
            rng: Rng::new(seed),
            sends: VecDeque::new(),
            dispatches: Dispatches::default(),
            jobs: Jobs::default(),
            states: States::default(),
            restores: Restores::default(),
            early: Early::default(),
            payloads: Payloads::default(),
            strays: Strays::default(),
            commands: Commands::default(),
            reads: Reads::default(),
            work: Work::default(),
        }
    }

    /// Returns whether states of tasks must be written.
    pub(crate) fn has_states(&self) -> bool {
        self.states.is_walking() || !self.table.dirty.is_empty() || !self.table.gone.is_empty()
    }

    /// Returns whether requests with many hosts are under way.
    pub(crate) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty() || self.table.has_going()
    }

    /// Returns whether operations are ready.
    pub(crate) fn has_ops(&self) -> bool {
        self.dispatches.has_ops()
            || self.has_states()
            || self.restores.has_ops()
            || self.reads.has_ops()
    }

    /// Returns whether nothing is left to be written.
    pub(crate) fn is_settled(&self) -> bool {
        !self.has_states()
            && !self.restores.is_due()
            && self.dispatches.len() == 0
            && !self.has_jobs()
    }
}
