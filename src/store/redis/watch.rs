//! A thread that asks the Sentinels whether the master that we are connected to is still the master.
//!
//! A master that is replaced although it lives takes writes until the Sentinels make it a replica,
//! which takes them ten seconds or, on a busy machine, much longer. What it confirmed meanwhile is
//! lost then. The new master has a greater *epoch*; an answer with another address and a lower
//! epoch is that of a Sentinel that has missed the failover.
//!
//! ```text
//!  each 2 s: each Sentinel ─▶ address, epoch ── same address ──▶ the epoch is kept
//!                                │ another address, greater epoch
//!                                ▼
//!                          replaced: every later request on the connection fails
//! ```

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::connection::Connection;
use super::sentinel::{Named, ask};
use crate::limits::SENTINEL_WATCH_MS;
use crate::store::StoreError;
use crate::store::address::{HostPort, RedisAddress, RedisSeeds};

/// Place of the watched connection. The thread ends when this is dropped.
pub(super) struct MasterWatch {
    replaced_by: Arc<OnceLock<String>>,
    _end: Sender<()>,
}

impl MasterWatch {
    /// Watches whether `master` is replaced. `None` if no thread can be started: the connection is
    /// then used until the server closes it.
    pub(super) fn start(
        address: &RedisAddress,
        seeds: &RedisSeeds,
        name: &str,
        master: Named,
        timeout: Duration,
    ) -> Option<Self> {
        let (end, ended) = channel();
        let replaced_by = Arc::new(OnceLock::new());
        let rounds = Rounds {
            address: address.clone(),
            seeds: seeds.clone(),
            name: name.to_owned(),
            sentinels: seeds.hosts.iter().map(|_| None).collect(),
            timeout,
            master,
        };
        let result = Arc::clone(&replaced_by);
        let thread = thread::Builder::new().name("sentinels".to_owned());
        match thread.spawn(move || rounds.run(&ended, &result)) {
            Ok(_) => Some(Self {
                replaced_by,
                _end: end,
            }),
            Err(error) => {
                log::warn!(error:% = error; "store: no thread to watch the master: {error}");
                None
            }
        }
    }

    /// Checks that the server is still the master, without a request.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        match self.replaced_by.get() {
            None => Ok(()),
            Some(other) => Err(StoreError::Unavailable(format!(
                "the Sentinels name another master, {other}"
            ))),
        }
    }
}

/// State of the thread.
struct Rounds {
    address: RedisAddress,
    seeds: RedisSeeds,
    name: String,
    /// A connection to each, if it answered last time.
    sentinels: Vec<Option<Connection>>,
    timeout: Duration,
    master: Named,
}

impl Rounds {
    fn run(mut self, ended: &Receiver<()>, replaced_by: &OnceLock<String>) {
        let period = Duration::from_millis(SENTINEL_WATCH_MS);
        while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
            for number in 0..self.sentinels.len() {
                // One that does not answer is asked again in the next round.
                let Ok(named) = self.ask(number) else {
                    continue;
                };
                if let Some(other) = self.master.replaced_by(named) {
                    // It is set once, since the thread ends.
                    let _ = replaced_by.set(HostPort(&other.host, other.port).to_string());
                    return;
                }
            }
        }
    }

    fn ask(&mut self, number: usize) -> Result<Named, StoreError> {
        let mut sentinel = match self.sentinels[number].take() {
            Some(sentinel) => sentinel,
            None => {
                let (host, port) = &self.seeds.hosts[number];
                Connection::connect(&self.seeds.transport.to(host, *port), self.timeout)?
            }
        };
        let named = ask(&mut sentinel, &self.address, &self.name)?;
        self.sentinels[number] = Some(sentinel);
        Ok(named)
    }
}

impl Named {
    /// Compares a later answer of any Sentinel. Returns the new master if there is one.
    fn replaced_by(&mut self, later: Named) -> Option<Named> {
        let (Some(known), Some(epoch)) = (self.epoch, later.epoch) else {
            return None;
        };
        if self.is_at(&later) {
            self.epoch = Some(known.max(epoch));
            return None;
        }
        (epoch > known).then_some(later)
    }

    fn is_at(&self, other: &Named) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(port: u16, epoch: Option<u64>) -> Named {
        Named {
            host: "h".to_owned(),
            port,
            epoch,
        }
    }

    #[test]
    fn a_greater_epoch_replaces_the_master() {
        let mut master = named(1, Some(4));
        for stale in [named(2, Some(3)), named(2, Some(4)), named(2, None)] {
            assert_eq!(master.replaced_by(stale), None);
        }
        assert_eq!(master.replaced_by(named(1, Some(6))), None);
        assert_eq!(master.replaced_by(named(2, Some(5))), None);
        let other = named(2, Some(7));
        assert_eq!(master.replaced_by(other.clone()), Some(other));
    }
}
