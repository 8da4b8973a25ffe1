//! Invariants of the core between any two steps. Checked in debug builds, in tests and by the fuzzer.

use std::collections::HashSet;

use crate::handlers::core::Core;
use crate::handlers::fleet::host::{Marks, Presence};

/// Steps after which the invariants of a fleet of this size are checked again, so that the checks
/// cost about the same at each step.
#[cfg(debug_assertions)]
const HOSTS_PER_STEP: usize = 16;
/// Largest fleet that is checked in an ordinary debug build.
#[cfg(debug_assertions)]
const HOSTS_MAX: usize = 1_000;

impl Core {
    /// Checks the invariants after some of the steps.
    #[cfg(debug_assertions)]
    pub(super) fn sweep_invariants(&mut self) {
        let size = self.fleet.slots().max(self.fleet.sessions_len());
        self.unchecked_steps += 1;
        if size <= HOSTS_MAX && self.unchecked_steps > size / HOSTS_PER_STEP {
            self.unchecked_steps = 0;
            self.assert_invariants();
        }
    }

    /// # Panics
    /// When an invariant does not hold.
    pub(crate) fn assert_invariants(&self) {
        self.fleet.assert_invariants(self.env.stopping);
        let outbox = &self.outbox;
        let (mut online, mut inherited, mut flying) = (0, 0, 0);
        for slot in 0..self.fleet.slots() as u32 {
            let Some(host) = self.fleet.host(slot) else {
                assert!(!outbox.is_behind(slot), "a vacant slot is behind");
                continue;
            };
            let in_flight = host.has(Marks::IN_FLIGHT);
            assert!(!in_flight || outbox.is_behind(slot), "nothing is written");
            online += u64::from(host.presence.is_online());
            inherited += u64::from(host.presence == Presence::Inherited);
            flying += usize::from(in_flight);
        }
        assert_eq!(self.env.stats.hosts_online, online);
        assert_eq!(self.env.stats.hosts_inherited, inherited);
        assert_eq!(outbox.presence_in_flight(), flying);
        let for_reports = outbox.paused();
        let waiting: HashSet<_> = for_reports.chain(self.tasks.paused()).collect();
        for (conn, session) in self.fleet.sessions() {
            let is_waiting = waiting.contains(&conn);
            assert_eq!(session.is_waiting(), is_waiting, "{conn:?} waits");
        }
        let in_flight = |slot| {
            let host = self.fleet.host(slot);
            host.is_some_and(|host| host.has(Marks::IN_FLIGHT))
        };
        outbox.assert_invariants(self.fleet.slots() as u32, in_flight);
    }
}
