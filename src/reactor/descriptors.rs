//! Limits of open files, and the number of connections that they leave room for.

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::BindError;
use crate::limits::{CONNECTIONS_MAX, DESCRIPTORS_RESERVED};

/// Raises the soft limit to the hard one. Returns the number of connections that fit: `wanted`, or
/// less if the system allows fewer. `ours` descriptors are reserved for outbound connections.
///
/// # Errors
/// When not even one connection fits.
pub fn raise(wanted: Option<usize>, ours: usize) -> Result<usize, BindError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Some sandboxes refuse this; then the soft limit stays.
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    room(limit, wanted, ours)
}

/// Number of connections within a limit of descriptors (`None`: unlimited).
fn room(limit: Option<u64>, wanted: Option<usize>, ours: usize) -> Result<usize, BindError> {
    let reserved = (DESCRIPTORS_RESERVED + ours) as u64;
    let room = match limit {
        Some(limit) => limit.saturating_sub(reserved),
        None => u64::MAX,
    };
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    match room.min(wanted.unwrap_or(usize::MAX)).min(CONNECTIONS_MAX) {
        0 => Err(BindError::Descriptors {
            limit: limit.unwrap_or(u64::MAX),
            needed: reserved + 1,
        }),
        room => Ok(room),
    }
}

/// Reserved descriptor. When no other is left, it serves to accept and refuse the oldest connection
/// in the accept queue, which would wait without an answer otherwise.
#[derive(Debug, Default)]
pub struct Reserve(Option<File>);

impl Reserve {
    /// Reserves a descriptor, if the system has one.
    pub fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Releases the descriptor. Returns whether there was one.
    pub fn spend(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_bound_the_connections() {
        assert_eq!(room(Some(20_000), None, 0).unwrap(), 19_872);
        assert_eq!(room(Some(20_000), Some(500), 0).unwrap(), 500);
        assert_eq!(room(Some(1_024), Some(5_000), 0).unwrap(), 896);
        assert_eq!(room(Some(1_024), None, 500).unwrap(), 396);
        assert_eq!(room(None, None, 0).unwrap(), CONNECTIONS_MAX);
    }

    #[test]
    fn too_few_descriptors_are_an_error() {
        let error = room(Some(128), None, 0).unwrap_err().to_string();
        assert!(error.contains("128") && error.contains("129"), "{error}");
    }

    #[test]
    fn the_reserve_is_spent_once_and_refilled() {
        let mut reserve = Reserve::default();
        assert!(!reserve.spend());
        reserve.refill();
        assert!(reserve.spend());
        assert!(!reserve.spend());
    }
}
