//! Busy hosts and their tasks. A plain host that is busy may be silent: old clients hold
//! their send lock while a command runs.
//!
//! Also data that only plain hosts need: the end of a rest after a task, and the number of heartbeats
//! on a connection since its last report.

use std::collections::HashMap;

use crate::ids::{ConnId, HostId, Numbered, TaskKey};
use crate::limits::{BEATS_OF_THE_IDLE_MIN, BEATS_OF_THE_IDLE_S, TASKS_AT_WORK_MAX};
use crate::time::{Instant, Span};

/// The busy hosts. Other hosts take no memory here.
#[derive(Debug, Default)]
pub struct Work {
    hosts: HashMap<HostId, Vec<Job>>,
    /// End of the rest of hosts that have finished a task. At most one entry for each host, removed
    /// after its end.
    rests: HashMap<HostId, Instant>,
    /// At most one entry for each connection, removed with it.
    beats: Numbered<ConnId, Beats>,
}

/// A task of a busy host without a delivery in that state.
#[derive(Debug)]
struct Job {
    key: TaskKey,
    /// Time of its last message.
    last: Instant,
    /// The host has reconnected since then.
    cut: bool,
}

/// Heartbeats since the last report by the same connection.
#[derive(Clone, Copy, Debug)]
struct Beats {
    first: Instant,
    count: u32,
    /// The count has reached its bound.
    idle: bool,
}

impl Work {
    /// Records a message of `host` about its work on `key`.
    pub fn heard(&mut self, host: &HostId, key: &TaskKey, now: Instant) {
        let tasks = self.hosts.entry(host.clone()).or_default();
        tasks.retain(|job| job.key != *key);
        if tasks.len() == TASKS_AT_WORK_MAX {
            tasks.remove(0);
        }
        tasks.push(Job {
            key: key.clone(),
            last: now,
            cut: false,
        });
    }

    /// Ends the work on `key`: it is finished, or there is no book for it.
    pub fn ended(&mut self, host: &HostId, key: &TaskKey) {
        self.keep(host, |job| job.key != *key);
    }

    /// Sets `key` as the only work of the host. Returns whether the host had other work.
    pub fn only(&mut self, host: &HostId, key: &TaskKey) -> bool {
        self.keep(host, |job| job.key == *key)
    }

    /// Records a reconnection of the host: reports on its work may be lost.
    pub fn cut(&mut self, host: &HostId) {
        for job in self.hosts.get_mut(host).into_iter().flatten() {
            job.cut = true;
        }
    }

    /// Drops work without a report since the reconnection of the host.
    pub fn lose_cut(&mut self, host: &HostId) {
        self.keep(host, |job| !job.cut);
    }

    /// Keeps the selected tasks of a host. Returns whether others were dropped.
    fn keep(&mut self, host: &HostId, wanted: impl Fn(&Job) -> bool) -> bool {
        if self.hosts.is_empty() {
            return false;
        }
        let Some(tasks) = self.hosts.get_mut(host) else {
            return false;
        };
        let before = tasks.len();
        tasks.retain(wanted);
        let went = tasks.len() < before;
        if tasks.is_empty() {
            self.hosts.remove(host);
        }
        went
    }

    /// Forgets all work of a host.
    pub fn forget(&mut self, host: &HostId) {
        if !self.hosts.is_empty() {
            self.hosts.remove(host);
        }
    }

    /// Time until which `host` counts as busy, each task ending `limit` after its last message.
    #[must_use]
    pub fn until(&self, host: &HostId, limit: Span) -> Option<Instant> {
        // Tasks are in the order of their last messages.
        self.hosts.get(host)?.last().map(|job| job.last + limit)
    }

    /// Records the end of a task: the host reads no datagram before `until`.
    pub fn rest(&mut self, host: &HostId, until: Instant) {
        self.rests.insert(host.clone(), until);
    }

    /// End of the rest of `host`, if it is not over.
    #[must_use]
    pub fn rests_until(&self, host: &HostId, now: Instant) -> Option<Instant> {
        self.rests.get(host).copied().filter(|until| *until > now)
    }

    /// Restarts the count of heartbeats after a report on this connection.
    pub fn reported(&mut self, conn: ConnId) {
        self.beats.remove(&conn);
    }

    /// Counts a heartbeat on this connection. Returns whether the count since the last report shows
    /// that no command holds the send lock of an old client.
    pub fn beat(&mut self, conn: ConnId, now: Instant) -> bool {
        let beats = self.beats.entry(conn).or_insert(Beats {
            first: now,
            count: 0,
            idle: false,
        });
        beats.count = beats.count.saturating_add(1);
        beats.idle |= beats.count >= BEATS_OF_THE_IDLE_MIN
            && now.since(beats.first) >= Span::from_secs(BEATS_OF_THE_IDLE_S);
        beats.idle
    }

    /// Returns whether heartbeats have shown that no command runs behind this connection.
    #[must_use]
    pub fn is_idle(&self, conn: ConnId) -> bool {
        self.beats.get(&conn).is_some_and(|beats| beats.idle)
    }

    /// Removes a connection that has ended.
    pub fn closed(&mut self, conn: ConnId) {
        if !self.beats.is_empty() {
            self.beats.remove(&conn);
        }
    }

    /// Removes expired entries.
    pub fn expire(&mut self, now: Instant, limit: Span) {
        self.hosts.retain(|_, tasks| {
            tasks.retain(|job| job.last + limit > now);
            !tasks.is_empty()
        });
        self.rests.retain(|_, until| *until > now);
    }

    /// Returns whether no host is busy. No name need be looked up then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Number of busy hosts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId {
        slot: 4,
        generation: 1,
    };
    const HOUR: Span = Span::from_secs(3_600);

    fn host() -> HostId {
        HostId::checked("10.0.0.7").unwrap()
    }

    fn key(number: usize) -> TaskKey {
        TaskKey::parse(&format!("AC{number}"), "AC").unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Span::from_secs(seconds)
    }

    #[test]
    fn a_host_is_at_work_until_the_last_of_its_tasks_ends() {
        let mut work = Work::default();
        work.heard(&host(), &key(1), at(0));
        work.heard(&host(), &key(2), at(10));
        work.heard(&host(), &key(1), at(20));
        assert_eq!(work.until(&host(), HOUR), Some(at(3_620)));
        work.ended(&host(), &key(1));
        assert_eq!(work.until(&host(), HOUR), Some(at(3_610)));
        work.expire(at(3_610), HOUR);
        assert_eq!((work.until(&host(), HOUR), work.len()), (None, 0));
    }

    #[test]
    fn the_task_heard_of_longest_ago_makes_room() {
        let mut work = Work::default();
        for number in 0..=TASKS_AT_WORK_MAX {
            work.heard(&host(), &key(number), at(number as u64));
        }
        for number in 1..=TASKS_AT_WORK_MAX {
            work.ended(&host(), &key(number));
        }
        assert_eq!(work.len(), 0, "the first had gone already");
    }

    #[test]
    fn only_tasks_not_reported_on_since_a_reconnect_are_lost() {
        let mut work = Work::default();
        work.heard(&host(), &key(1), at(0));
        work.heard(&host(), &key(2), at(1));
        work.cut(&host());
        work.heard(&host(), &key(2), at(2));
        work.lose_cut(&host());
        assert!(!work.only(&host(), &key(2)), "the first has gone");
        assert!(work.only(&host(), &key(3)), "the second was still there");
        assert_eq!(work.len(), 0);
    }

    #[test]
    fn four_heartbeats_over_thirty_seconds_show_an_idle_client() {
        for (seconds, idle) in [
            (&[0, 10, 20, 29][..], false),
            (&[0, 15, 30], false),
            (&[0, 10, 20, 30], true),
            (&[0, 1, 2, 3, 4, 5], false),
        ] {
            let mut work = Work::default();
            let last = seconds.iter().map(|second| work.beat(CONN, at(*second)));
            assert_eq!(last.last(), Some(idle), "{seconds:?}");
            assert_eq!(work.is_idle(CONN), idle, "{seconds:?}");
            work.reported(CONN);
            assert!(!work.is_idle(CONN) && !work.beat(CONN, at(31)));
            work.closed(CONN);
            assert!(work.beats.is_empty());
        }
    }

    #[test]
    fn a_rest_ends_by_itself_and_leaves_nothing() {
        let mut work = Work::default();
        work.rest(&host(), at(6));
        work.forget(&host());
        assert_eq!(work.rests_until(&host(), at(5)), Some(at(6)));
        assert_eq!(work.rests_until(&host(), at(6)), None);
        work.expire(at(6), HOUR);
        assert!(work.rests.is_empty());
    }
}
