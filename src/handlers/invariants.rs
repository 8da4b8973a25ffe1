//! Invariants of the core between any two inputs. Checked by the tests and by the fuzzer.

use std::collections::{HashMap, HashSet};

use crate::handlers::core::Core;
use crate::handlers::fleet::host::{Marks, Presence};

impl Core {
    /// Looks at all of it.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn assert_invariants(&self) {
        self.assert_hosts();
        self.assert_sessions();
        self.assert_writes();
    }

    fn assert_hosts(&self) {
        let mut sessions: HashMap<u32, u32> = HashMap::new();
        for slot in self.fleet.sessions().filter_map(|(_, s)| s.host()) {
            *sessions.entry(slot).or_default() += 1;
        }
        let (mut known, mut online, mut inherited, mut flying) = (0, 0, 0, 0);
        for slot in 0..self.fleet.slots() as u32 {
            let Some(host) = self.fleet.host(slot) else {
                assert!(
                    !self.outbox.writes.is_behind(slot),
                    "a vacant slot is behind"
                );
                continue;
            };
            let id = &host.id();
            assert_eq!(self.fleet.find(id), Some(slot), "{id} is not found");
            let own = sessions.get(&slot).copied().unwrap_or_default();
            assert_eq!(host.sessions, own, "sessions of {id}");
            let live = host.presence == Presence::Online;
            assert!(live == (own > 0) || self.env.stopping, "{id}: {host:?}");
            if let Some(conn) = host.identified() {
                let session = self.fleet.session(conn);
                let its = session.is_some_and(|s| s.identified && s.host() == Some(slot));
                assert!(its, "{id} is named by a connection that is gone");
            }
            if host.has(Marks::IN_FLIGHT) {
                assert!(
                    self.outbox.writes.is_behind(slot),
                    "{id} is written for nothing"
                );
            }
            known += 1;
            online += u64::from(host.presence.is_online());
            inherited += u64::from(host.presence == Presence::Inherited);
            flying += usize::from(host.has(Marks::IN_FLIGHT));
        }
        assert_eq!(self.fleet.hosts.len(), known);
        assert_eq!(self.env.stats.hosts_online, online);
        assert_eq!(self.env.stats.hosts_inherited, inherited);
        assert_eq!(self.outbox.writes.presence_in_flight, flying);
    }

    fn assert_sessions(&self) {
        let for_reports = self.outbox.writes.waiting.iter().copied();
        let waiting: HashSet<_> = for_reports.chain(self.tasks.payloads.waiting()).collect();
        let mut count = 0;
        for (conn, session) in self.fleet.sessions() {
            count += 1;
            if let Some(slot) = session.host() {
                assert!(self.fleet.host(slot).is_some(), "{conn:?} is nobody's");
            }
            assert_eq!(
                session.is_waiting(),
                waiting.contains(&conn),
                "{conn:?} waits"
            );
        }
        assert_eq!(self.fleet.sessions.len(), count);
        assert!(
            self.fleet.wheel.len() >= count,
            "a session without a deadline"
        );
    }

    fn assert_writes(&self) {
        let in_flight = |slot| {
            self.fleet
                .host(slot)
                .is_some_and(|host| host.has(Marks::IN_FLIGHT))
        };
        self.outbox
            .writes
            .assert_invariants(self.fleet.slots() as u32, in_flight);
    }
}
