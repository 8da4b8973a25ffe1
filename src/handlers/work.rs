//! Who is at work on what. A plain host at work may be silent: old clients hold their send lock
//! while a command runs.

use crate::ids::{HostRef, Numbered, TaskKey};
use crate::limits::TASKS_AT_WORK_MAX;
use crate::time::{Instant, Span};

/// The hosts at work. A host that is not takes no memory here.
#[derive(Debug, Default)]
pub struct Work {
    hosts: Numbered<HostRef, Vec<(TaskKey, Instant)>>,
}

impl Work {
    /// A message of `host` says that it is at work on `key`.
    pub fn heard(&mut self, host: HostRef, key: &TaskKey, now: Instant) {
        let tasks = self.hosts.entry(host).or_default();
        tasks.retain(|(task, _)| task != key);
        if tasks.len() == TASKS_AT_WORK_MAX {
            tasks.remove(0);
        }
        tasks.push((key.clone(), now));
    }

    /// Nothing is left of `key`, or there is no book for it.
    pub fn ended(&mut self, host: HostRef, key: &TaskKey) {
        let Some(tasks) = self.hosts.get_mut(&host) else {
            return;
        };
        tasks.retain(|(task, _)| task != key);
        if tasks.is_empty() {
            self.hosts.remove(&host);
        }
    }

    /// The host has forgotten all it was at work on, or is itself forgotten.
    pub fn forget(&mut self, host: HostRef) {
        if !self.hosts.is_empty() {
            self.hosts.remove(&host);
        }
    }

    /// Until when `host` counts as at work, each task ending `limit` after its last message.
    #[must_use]
    pub fn until(&self, host: HostRef, limit: Span) -> Option<Instant> {
        // Tasks stand in the order of their last messages.
        self.hosts.get(&host)?.last().map(|(_, last)| *last + limit)
    }

    /// Takes out what is over by `now`.
    pub fn expire(&mut self, now: Instant, limit: Span) {
        self.hosts.retain(|_, tasks| {
            tasks.retain(|(_, last)| *last + limit > now);
            !tasks.is_empty()
        });
    }

    /// How many hosts are at work.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostRef = HostRef {
        slot: 3,
        generation: 9,
    };
    const HOUR: Span = Span::from_secs(3_600);

    fn key(number: usize) -> TaskKey {
        TaskKey::parse(&format!("AC{number}"), "AC").unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Span::from_secs(seconds)
    }

    #[test]
    fn a_host_is_at_work_until_the_last_of_its_tasks_ends() {
        let mut work = Work::default();
        work.heard(HOST, &key(1), at(0));
        work.heard(HOST, &key(2), at(10));
        work.heard(HOST, &key(1), at(20));
        assert_eq!(work.until(HOST, HOUR), Some(at(3_620)));
        work.ended(HOST, &key(1));
        assert_eq!(work.until(HOST, HOUR), Some(at(3_610)));
        work.expire(at(3_610), HOUR);
        assert_eq!((work.until(HOST, HOUR), work.len()), (None, 0));
    }

    #[test]
    fn the_task_heard_of_longest_ago_makes_room() {
        let mut work = Work::default();
        for number in 0..=TASKS_AT_WORK_MAX {
            work.heard(HOST, &key(number), at(number as u64));
        }
        for number in 1..=TASKS_AT_WORK_MAX {
            work.ended(HOST, &key(number));
        }
        assert_eq!(work.len(), 0, "the first had gone already");
    }
}
