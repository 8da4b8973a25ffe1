//! The outbox: what the store must still be given.

pub(crate) mod changes;
pub(crate) mod inventory;
pub(crate) mod pull;
pub(crate) mod writes;

use crate::time::Instant;

use self::writes::Writes;

/// Pending writes, and when the next rounds of them come.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) writes: Writes,
    pub(crate) seen_due: Option<Instant>,
    pub(crate) audit_due: Option<Instant>,
}
