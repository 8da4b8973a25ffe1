//! Numbered reports for tests.

use crate::codec::message::Phase;
use crate::ids::{HostId, TaskKey};
use crate::store::op::{Op, Progress, Stamp};
use crate::time::UnixMs;

/// The report with this number.
pub(in crate::store) fn report(n: u64) -> Op {
    Op::Progress(Box::new(Progress {
        origin: None,
        host: HostId::checked("10.0.0.7").unwrap(),
        key: TaskKey::parse(&format!("AC{n}"), "AC").unwrap(),
        phase: Phase::Received,
        working: None,
        complete: Vec::new(),
        oncall: vec!["uptime \"now\"\n".to_owned()],
        unknown: false,
        silent: false,
        told: None,
        lifetime: Default::default(),
        state: None,
        stamp: Stamp {
            at: UnixMs(n),
            seq: n,
        },
    }))
}

/// The number of a report.
pub(in crate::store) fn name(op: &Op) -> u64 {
    match op {
        Op::Progress(report) => report.stamp.seq,
        Op::Answer(report) => report.stamp.seq,
        Op::Result(report) => report.stamp.seq,
        other => panic!("{other:?} is no report"),
    }
}
