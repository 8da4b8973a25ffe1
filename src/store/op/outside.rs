//! State of devices and targets, as fields of a hash each. Only changes are written.

use crate::ids::HostId;
use crate::time::Instant;

/// The hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of an AK device.
    Device(HostId),
    /// Of all targets.
    Reach,
}

impl Place {
    /// Its identity within a batch.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Device(name) => name.as_str(),
            Self::Reach => "",
        }
    }
}

/// Fields to be set and removed. The latest change wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The hash.
    pub place: Place,
    /// All earlier fields are deleted first.
    pub whole: bool,
    /// Fields to be set.
    pub set: Vec<(String, String)>,
    /// Fields to be removed.
    pub removed: Vec<String>,
}

impl Outside {
    /// No change.
    #[must_use]
    pub fn of(place: Place) -> Self {
        Self {
            place,
            whole: false,
            set: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Deletes the hash.
    #[must_use]
    pub fn gone(place: Place) -> Self {
        Self {
            whole: true,
            ..Self::of(place)
        }
    }

    /// Sets a field.
    pub fn set(&mut self, field: &str, text: impl Into<String>) {
        self.set.push((field.to_owned(), text.into()));
    }

    /// Sets a field, or removes it if there is no value.
    pub fn set_or_remove(&mut self, field: &str, text: Option<String>) {
        match text {
            Some(text) => self.set.push((field.to_owned(), text)),
            None => self.removed.push(field.to_owned()),
        }
    }
}

/// Leases of devices and targets: taken, renewed and given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polls {
    /// Time of the request, sent back with the outcome.
    pub at: Instant,
    /// Names of devices and targets, each with the way of its request.
    pub ask: Vec<(String, PollAsk)>,
    /// Names whose leases are given up.
    pub release: Vec<String>,
}

/// Way in which a lease is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollAsk {
    /// This process holds it: it is renewed, or taken again if it is missing.
    Renew,
    /// It is taken if it is free.
    Take,
    /// Its holder may not have renewed it yet since the store returned: it is not taken.
    Look,
}

/// Result of [`Polls`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollsFound {
    /// Time of the request.
    pub at: Instant,
    /// Names in the order of the request, each with whether this process holds its lease.
    pub held: Vec<(String, bool)>,
}

/// Fields of a hash with their values.
pub type Fields = Vec<(String, String)>;

/// Stored states of devices and targets, of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutsideFound {
    /// Devices: name, node that polls it, and the fields of its hash.
    pub devices: Vec<(HostId, Option<String>, Fields)>,
    /// Targets: text, node that polls it, and the stored JSON.
    pub targets: Vec<(String, Option<String>, String)>,
}

/// Fields of a device's hash. The field of a command is its code: four capitals or digits, so none
/// of these.
pub mod device {
    /// `up`, `down` or `stale`.
    pub const STATE: &str = "state";
    /// Time of the last change, unix ms.
    pub const SINCE: &str = "since";
    /// Address of the device.
    pub const ADDR: &str = "addr";
    /// Reason for not being up.
    pub const REASON: &str = "reason";
    /// The error status of its last reply.
    pub const ERROR_STATUS: &str = "error_status";
    /// Time of the last good reply, unix ms; absent before the first.
    pub const LAST_GOOD: &str = "last_good";
    /// Suffix of a command's code: the word by which its last answer refuses.
    pub const REFUSED: &str = ".refused";
    /// Suffix of a command's code: its named words, as JSON, name → `{value, unit, valid}`.
    pub const FIELDS: &str = ".fields";
}
