//! State of devices and targets, as fields of a hash each. Only changes are written.

use crate::ids::HostId;

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

/// Fields of a device's hash. The field of a command is its code: four capitals or digits, so none
/// of these.
pub mod device {
    /// `up`, `down` or `stale`.
    pub const STATE: &str = "state";
    /// Time of the last change, unix ms.
    pub const SINCE: &str = "since";
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
