//! A fault on purpose, in debug builds only, for the tests of a store thread that panics: with
//! `ANTHILL_FAULT=panic-store-on:KEY` in the environment, running a report of that task panics.

use crate::store::op::Op;

/// Panics if one of `ops` is to fail.
pub(super) fn panic_if_ordered(ops: &[Op]) {
    use std::sync::OnceLock;
    static TRIGGER: OnceLock<Option<String>> = OnceLock::new();

    let trigger = TRIGGER.get_or_init(|| {
        let setting = std::env::var("ANTHILL_FAULT").ok()?;
        setting.strip_prefix("panic-store-on:").map(str::to_owned)
    });
    let Some(key) = trigger else { return };
    let fails = |op: &Op| match op {
        Op::Progress(report) => report.key.as_str() == key,
        Op::Answer(report) => report.key.as_str() == key,
        _ => false,
    };
    assert!(
        !ops.iter().any(fails),
        "a fault was requested with ANTHILL_FAULT"
    );
}
