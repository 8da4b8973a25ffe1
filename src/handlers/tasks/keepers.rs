//! The keeper of a task: one node at a time, the one in the claim of the task.
//!
//! ```text
//!   store connection begins ─▶ Keepers: the keeper of each own task ─▶ still this node ─▶ go on
//!   a rollout is not taken ──▶        │
//!                                     └▶ another node ─▶ Following: only hosts of this node ─▶ Part
//! ```
//!
//! A node that stood still, or was cut off from the store, may find that its tasks were taken over.
//! Until the keeper is confirmed, no wave begins and no task is written again. Each takeover counts
//! the keeper epoch up, and the store takes a rollout only from the latest keeper.

use crate::handlers::context::Ctx;
use crate::handlers::directory::Directory;
use crate::handlers::tasks::Tasks;
use crate::handlers::tasks::jobs::Job;
use crate::handlers::tasks::table::Task;
use crate::ids::{HostId, TaskKey};
use crate::limits::BELL_HOSTS_MAX;
use crate::store::op::{Found, Keeper};

/// A task that another node keeps now: its hosts of this node are collected.
#[derive(Debug)]
pub(crate) struct Following {
    task: u32,
    number: u64,
    /// Place of the next delivery.
    place: usize,
    hosts: Vec<HostId>,
}

impl Tasks {
    /// Asks for the keepers of all tasks that this node keeps: others may have taken them over.
    pub(super) fn check_keepers(&mut self, cx: &Ctx<'_>) {
        // At the first connection the tasks were read just now.
        if cx.stats.store_sessions < 2 || !cx.may_have_other_nodes() {
            return;
        }
        let tasks = self.table.newest_first(0);
        let tasks = tasks.filter_map(|slot| self.table.task(slot));
        let kept = tasks.filter(|task| task.keeper.is_none() && !task.expires);
        let keys: Vec<TaskKey> = kept.map(|task| task.key.clone()).collect();
        for keys in keys.chunks(BELL_HOSTS_MAX) {
            self.peers.check(keys.to_vec());
        }
    }

    /// Asks for the keeper of a task.
    pub(super) fn ask_keeper(&mut self, key: TaskKey) {
        self.peers.check(vec![key]);
    }

    /// The store has named the keepers of some tasks.
    pub(super) fn keepers_found(&mut self, hosts: Directory<'_>, keys: Vec<TaskKey>, found: Found) {
        self.peers.checked();
        let Found::Keepers(keepers) = found else {
            return;
        };
        for (key, keeper) in keys.into_iter().zip(keepers) {
            // A claim that is missing is written again with its task.
            if let Some(keeper) = keeper.filter(|keeper| keeper.node != hosts.node()) {
                self.follow(&key, &keeper);
            }
        }
    }

    /// Gives a task up to its new keeper. Only hosts that are connected here stay.
    pub(super) fn follow(&mut self, key: &TaskKey, keeper: &Keeper) {
        let Some(slot) = self.table.find(key) else {
            return;
        };
        let Some(task) = self
            .table
            .task_mut(slot)
            .filter(|task| task.keeper.is_none() && !task.is_partial())
        else {
            return;
        };
        task.keeper = Some(keeper.node.as_str().into());
        task.rollout = None;
        let number = task.number;
        self.rollouts.forget(number);
        self.jobs.push(Job::Following(Following {
            task: slot,
            number,
            place: 0,
            hosts: Vec::new(),
        }));
    }

    fn followed_task(&self, following: &Following) -> Option<&Task> {
        let task = self.table.task(following.task);
        task.filter(|task| task.number == following.number)
    }

    /// Collects at most `max` more hosts. Returns whether these were the last.
    pub(super) fn follow_some(
        &self,
        hosts: Directory<'_>,
        following: &mut Following,
        max: usize,
    ) -> bool {
        let Some(task) = self.followed_task(following) else {
            return true;
        };
        let end = task.deliveries.len().min(following.place + max);
        let some = &task.deliveries[following.place.min(end)..end];
        let names = some.iter().filter_map(|slot| self.table.names_of(*slot));
        let own = names.filter(|(host, _)| hosts.is_online(host));
        following.hosts.extend(own.map(|(host, _)| host.clone()));
        following.place = end;
        end == task.deliveries.len()
    }

    /// Removes the task, and asks for the states of its hosts that are connected here.
    pub(super) fn followed(&mut self, cx: &mut Ctx<'_>, following: Following) {
        let Some(task) = self.followed_task(&following) else {
            return;
        };
        let (key, keeper) = (task.key.clone(), task.keeper.clone().unwrap_or_default());
        let text = format!("the node {keeper} keeps it now");
        cx.log(log::Level::Info, "dispatch", &key, text);
        self.table.remove(following.task);
        for hosts in following.hosts.chunks(BELL_HOSTS_MAX) {
            self.peers.look_at_own(key.clone(), hosts.to_vec());
        }
    }
}
