//! A fault put in on purpose, to see that the store thread goes on and loses nothing. Debug builds
//! only: with `ANTHILL_FAULT=panic-store-on:KEY` in the environment, running a report of that task panics. A
//! release build has no trace of it.

use crate::store::op::Op;

/// Panics if one of these was asked to fail.
#[cfg(debug_assertions)]
pub(super) fn trip(ops: &[Op]) {
    use std::sync::OnceLock;
    static TRIGGER: OnceLock<Option<String>> = OnceLock::new();

    let trigger = TRIGGER.get_or_init(|| {
        let asked = std::env::var("ANTHILL_FAULT").ok()?;
        asked.strip_prefix("panic-store-on:").map(str::to_owned)
    });
    let Some(key) = trigger else { return };
    let fails = |op: &Op| match op {
        Op::Progress(report) => report.key.as_str() == key,
        Op::Answer(report) => report.key.as_str() == key,
        _ => false,
    };
    assert!(
        !ops.iter().any(fails),
        "a fault was asked for with ANTHILL_FAULT"
    );
}

/// A release build never fails on purpose.
#[cfg(not(debug_assertions))]
pub(super) fn trip(_ops: &[Op]) {}
