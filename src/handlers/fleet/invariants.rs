//! Invariants of the fleet between any two steps.

use std::collections::HashMap;

use crate::handlers::fleet::Fleet;
use crate::handlers::fleet::host::Presence;

impl Fleet {
    /// # Panics
    /// When an invariant does not hold. Hosts are online without sessions when the server `is_stopping`.
    pub(crate) fn assert_invariants(&self, is_stopping: bool) {
        let mut sessions: HashMap<u32, u32> = HashMap::new();
        let mut count = 0;
        for (conn, session) in self.sessions.iter() {
            count += 1;
            if let Some(slot) = session.host() {
                assert!(self.hosts.get(slot).is_some(), "{conn:?} has no host");
                *sessions.entry(slot).or_default() += 1;
            }
        }
        assert_eq!(self.sessions.len(), count);
        assert!(self.wheel.len() >= count, "a session without a deadline");
        let mut known = 0;
        for slot in 0..self.slots() as u32 {
            let Some(host) = self.hosts.get(slot) else {
                continue;
            };
            known += 1;
            let id = &host.id();
            assert_eq!(self.hosts.find(id), Some(slot), "{id} is not found");
            let own = sessions.get(&slot).copied().unwrap_or_default();
            assert_eq!(host.sessions, own, "sessions of {id}");
            let live = host.presence == Presence::Online;
            assert!(live == (own > 0) || is_stopping, "{id}: {host:?}");
            if let Some(conn) = host.identified() {
                let session = self.sessions.get(conn);
                let its = session.is_some_and(|s| s.identified && s.host() == Some(slot));
                assert!(its, "{id} is named by a connection that is gone");
            }
        }
        assert_eq!(self.hosts.len(), known);
    }
}
