//! The store thread with a clock that the test advances, over a backend with faults on demand.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::codec::message::{Flag, ReplyRequest};
use crate::ids::{ConnId, HostId};
use crate::limits::STORE_LOOK_MS;
use crate::store::StoreError;
use crate::store::op::{Notice, Op, Origin, Stamp};
use crate::store::tests::reports;
use fake::Shared;

/// A report with a number, which is also in its outcome.
fn report(n: u64) -> Op {
    let mut op = reports::report(n);
    if let Op::Progress(report) = &mut op {
        report.origin = Some(Origin {
            conn: ConnId {
                slot: n as u32,
                generation: 0,
            },
            flag: Flag::Progress,
            ask: ReplyRequest::default(),
            bytes: 100,
        });
    }
    op
}

fn audit() -> Op {
    Op::Audit(vec![HostId::checked("10.0.0.7").unwrap()])
}

fn away() -> Option<StoreError> {
    Some(StoreError::Unavailable("gone".to_owned()))
}

fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

struct Bench {
    world: Shared,
    worker: Worker,
    dir: tempfile::TempDir,
    seen: Vec<Outcome>,
    session: u32,
}

impl Bench {
    fn new(spool_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Shared::default();
        world.get().now = Instant::ZERO + ms(1_000_000);
        let worker = Self::worker(&world, dir.path(), spool_bytes);
        Self {
            world,
            worker,
            dir,
            seen: Vec::new(),
            session: 0,
        }
    }

    fn worker(world: &Shared, dir: &std::path::Path, spool_bytes: u64) -> Worker {
        let plan = Plan {
            spool_dir: dir.to_path_buf(),
            spool_bytes,
            flush: ms(50),
            retry: ms(1_000),
            grace: Span::from_secs(60),
            seed: 7,
        };
        let spool = Spool::open(dir, spool_bytes).unwrap();
        let maker = world.clone();
        Worker::new(
            Box::new(move || maker.backend()),
            plan,
            spool,
            Box::new(world.clone()),
            Arc::default(),
        )
    }

    /// The process is killed, and another one starts.
    fn killed(self, spool_bytes: u64) -> Self {
        let Self {
            world, worker, dir, ..
        } = self;
        drop(worker);
        // The lease of the dead process has lapsed meanwhile.
        world.get().ours = false;
        Self {
            worker: Self::worker(&world, dir.path(), spool_bytes),
            world,
            dir,
            seen: Vec::new(),
            session: 0,
        }
    }

    fn up(spool_bytes: u64) -> Self {
        let mut bench = Self::new(spool_bytes);
        bench.pass(1);
        assert_eq!(bench.session, 1);
        bench
    }

    /// Does one step.
    fn turn(&mut self) -> Next {
        let next = self.worker.turn();
        let told = self.worker.outcomes();
        for outcome in &told {
            if let Outcome::Available { session, .. } = outcome {
                self.session = *session;
            }
        }
        self.seen.extend(told);
        next
    }

    /// Lets time pass, with a step whenever one is due.
    fn pass(&mut self, millis: u64) {
        let end = self.worker.now() + ms(millis);
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 10_000, "it never rests: {:?}", self.worker.phase());
            match self.turn() {
                Next::Over => return,
                Next::Now => {}
                Next::At(moment) if moment > end => break,
                Next::At(moment) => {
                    let mut world = self.world.get();
                    world.now = world.now.max(moment);
                }
            }
            if self.worker.now() > end {
                return;
            }
        }
        let mut world = self.world.get();
        world.now = world.now.max(end);
    }

    fn give(&mut self, ops: impl IntoIterator<Item = Op>) {
        assert!(self.worker.has_room());
        self.worker.take(Batch {
            session: self.session,
            ops: ops.into_iter().collect(),
        });
    }

    /// The reports acknowledged so far, in order, and those refused.
    fn acknowledged(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for outcome in &self.seen {
            if let Outcome::Report {
                origin: Some(origin),
                result,
            } = outcome
            {
                let list = if result.is_ok() { &mut good } else { &mut bad };
                list.push(u64::from(origin.conn.slot));
            }
        }
        (good, bad)
    }

    fn count(&self, what: impl Fn(&Outcome) -> bool) -> usize {
        self.seen.iter().filter(|outcome| what(outcome)).count()
    }

    fn aways(&self) -> Vec<&str> {
        let text = |outcome: &'_ Outcome| matches!(outcome, Outcome::Unavailable(_));
        let found = self.seen.iter().filter(|outcome| text(outcome));
        found
            .filter_map(|outcome| match outcome {
                Outcome::Unavailable(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The reports written to `rejected`.
    fn rejected(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.dir.path().join("rejected")).unwrap_or_default();
        let number = |line| -> Option<u64> {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["record"]["stamp"]["seq"].as_u64()
        };
        text.lines().filter_map(number).collect()
    }
}

const ROOM: u64 = 1 << 30;

mod breakers;
mod dispatch;
mod fake;
mod faults;
mod lease;
mod ordinary;
mod replay;
mod storm;
mod threads;
