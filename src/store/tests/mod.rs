//! Tests of all stores, and reports for the tests of this room.

pub(crate) mod conformance;
pub(super) mod reports;
