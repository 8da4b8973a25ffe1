//! A backend in memory with faults on demand (unavailable, hanging, refusing, panicking, losing its
//! data), and a clock that the test advances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::op::{Dispatch, Found, HeldHost, HeldTask, Op, Outcome, Settled, Stored};
use crate::store::tests::reports::name;
use crate::store::{Backend, HeldCursor, Lease, NodesSeen, Ran, StoreError};
use crate::time::{Instant, Span, UnixMs};

use crate::store::worker::Clock;

/// State shared by the test and its backends.
#[derive(Debug, Default)]
pub struct World {
    pub now: Instant,
    /// The node's own set is missing.
    pub is_empty: bool,
    /// The node is not among the nodes.
    pub forgot_node: bool,
    /// Error of every call.
    pub error: Option<StoreError>,
    /// Duration of a failing call.
    pub hang: Span,
    /// Operations that a call of `run` settles before it fails, one entry a call.
    pub cut: Vec<usize>,
    /// Reports that are refused for good.
    pub poison: BTreeSet<u64>,
    /// Reports that break the connection. Those before them in the batch are stored.
    pub breakers: BTreeSet<u64>,
    /// No write is taken: the connection breaks at the first one.
    pub breaks_always: bool,
    pub probes: usize,
    /// Reports that make `run` panic, with the remaining number of panics.
    pub mines: BTreeMap<u64, u32>,
    /// Calls of `run` that panic.
    pub panics: u32,
    /// Calls of `held` that panic.
    pub held_panics: u32,
    /// End of another process's lease.
    pub foreign: Option<Instant>,
    /// This process holds the lease.
    pub ours: bool,
    /// Number of checks of the connection, if the backend can do them.
    pub looks: Option<usize>,
    /// Confirmed operations survive its death.
    pub is_durable: bool,
    /// Reports as they were stored, in order, repetitions included.
    pub log: Vec<u64>,
    /// Stored operations, empty after a data loss.
    pub stored: BTreeSet<u64>,
    /// Time at which each report was last stored.
    pub written: BTreeMap<u64, Instant>,
    /// State operations run.
    pub state: usize,
    /// Sizes of the batches run.
    pub runs: Vec<usize>,
    pub opens: usize,
    pub sweeps: usize,
    pub made: usize,
    /// Arguments of `held`, for each reading.
    pub held: Vec<bool>,
    /// The stored tasks, one a page.
    pub tasks: Vec<HeldTask>,
    /// Nodes that are gone, until a takeover.
    pub silent: Vec<String>,
    /// The store becomes unavailable during the next takeover of tasks.
    pub cut_taking: bool,
    /// Dispatches run, by request.
    pub dispatched: Vec<u64>,
    /// Dispatches settled, and whether they were to be finished.
    pub settled: Vec<(u64, bool)>,
}

#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// The world. An ordered panic may have poisoned it.
    pub fn get(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backend of this world.
    pub fn backend(&self) -> Box<dyn Backend> {
        self.get().made += 1;
        Box::new(Fake(self.clone()))
    }
}

impl Clock for Shared {
    fn now(&self) -> Instant {
        self.get().now
    }
    fn wall(&self) -> UnixMs {
        UnixMs(self.get().now.as_nanos() / 1_000_000)
    }
}

struct Fake(Shared);

impl Fake {
    /// The world, unless it is unavailable.
    fn world(&self) -> Result<MutexGuard<'_, World>, StoreError> {
        let mut world = self.0.get();
        match world.error.clone() {
            Some(error) => {
                let hang = world.hang;
                world.now = world.now + hang;
                Err(error)
            }
            None => Ok(world),
        }
    }
}

impl Backend for Fake {
    fn open(&mut self) -> Result<(), StoreError> {
        self.world()?.opens += 1;
        Ok(())
    }

    fn lease(&mut self, force: bool) -> Result<Lease, StoreError> {
        let mut world = self.world()?;
        let now = world.now;
        world.forgot_node = false;
        match world.foreign {
            Some(end) if end > now && !force => Ok(Lease::Foreign {
                left: end.since(now),
            }),
            _ => {
                world.foreign = None;
                let had = std::mem::replace(&mut world.ours, true);
                Ok(if had { Lease::Ours } else { Lease::Taken })
            }
        }
    }

    fn release_lease(&mut self) -> Result<(), StoreError> {
        self.world()?.ours = false;
        Ok(())
    }

    fn held(
        &mut self,
        all_hosts: bool,
        cursor: &mut HeldCursor,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<(), StoreError> {
        let mut world = self.world()?;
        if let Some(left) = world.held_panics.checked_sub(1) {
            world.held_panics = left;
            ordered("in held");
        }
        if *cursor == HeldCursor::Start {
            world.held.push(all_hosts);
            *cursor = HeldCursor::At(0, Vec::new());
        } else {
            *cursor = HeldCursor::End;
        }
        hosts.push(HeldHost {
            host: crate::ids::HostId::checked("10.0.0.7").unwrap(),
            ours: true,
            epoch: 1,
            peer: None,
            keyed: false,
            since: UnixMs(0),
            seen: UnixMs(0),
            reason: None,
            hostname: None,
            mac: None,
            addresses: Vec::new(),
            admin_labels: None,
            host_labels: None,
        });
        Ok(())
    }

    fn has_own_set(&mut self) -> Result<bool, StoreError> {
        Ok(!self.world()?.is_empty)
    }

    fn has_node(&mut self) -> Result<bool, StoreError> {
        Ok(!self.world()?.forgot_node)
    }

    fn tasks(
        &mut self,
        cursor: &mut HeldCursor,
        tasks: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        let world = self.world()?;
        let at = match cursor {
            HeldCursor::At(at, _) => *at,
            _ => 0,
        };
        tasks.extend(world.tasks.get(usize::from(at)).cloned());
        *cursor = match usize::from(at) + 1 < world.tasks.len() {
            true => HeldCursor::At(at + 1, Vec::new()),
            false => HeldCursor::End,
        };
        Ok(())
    }

    fn look_at_nodes(&mut self, _now: UnixMs) -> Result<NodesSeen, StoreError> {
        let silent = self.world()?.silent.clone();
        Ok(NodesSeen {
            are_several: None,
            live: 0,
            inbox: 0,
            silent,
        })
    }

    fn take_over_tasks(
        &mut self,
        _node: &str,
        _now: UnixMs,
        cursor: &mut HeldCursor,
        _tasks: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        let mut world = self.world()?;
        world.silent.clear();
        *cursor = HeldCursor::End;
        match std::mem::take(&mut world.cut_taking) {
            true => Err(StoreError::Unavailable("cut".to_owned())),
            false => Ok(()),
        }
    }

    fn settle(&mut self, dispatch: &Dispatch, finish: bool) -> Result<Stored, StoreError> {
        let mut world = self.world()?;
        world.mine(dispatch.request);
        if world.breakers.contains(&dispatch.request) {
            return Err(StoreError::Broken("the connection was closed".to_owned()));
        }
        world.settled.push((dispatch.request, finish));
        Ok(match finish {
            true => Stored::Whole,
            false => Stored::Undone("too late".to_owned()),
        })
    }

    fn run(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) -> Ran {
        let mut world = match self.world() {
            Ok(world) => world,
            Err(error) => {
                return Ran {
                    done: 0,
                    error: Some(error),
                };
            }
        };
        if let Some(left) = world.panics.checked_sub(1) {
            world.panics = left;
            ordered("in run");
        }
        world.runs.push(ops.len());
        let breaker = ops
            .iter()
            .position(|op| world.breaks_always || world.breaks(op));
        if let Some(breaker) = breaker {
            // Operations before it are written, and not answered.
            ops[..breaker].iter().for_each(|op| drop(world.run(op)));
            return Ran {
                done: 0,
                error: Some(StoreError::Broken("the connection was closed".to_owned())),
            };
        }
        let cut = world.cut.pop().unwrap_or(usize::MAX);
        for (done, op) in ops.iter().enumerate() {
            if done >= cut {
                return Ran {
                    done,
                    error: Some(StoreError::Unavailable("cut".to_owned())),
                };
            }
            outcomes.extend(world.run(op));
        }
        Ran {
            done: ops.len(),
            error: None,
        }
    }

    fn sweep(&mut self, _now: UnixMs) -> Result<(), StoreError> {
        self.world()?.sweeps += 1;
        Ok(())
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        let mut world = self.world()?;
        world.probes += 1;
        match world.breaks_always {
            true => Err(StoreError::Unavailable(
                "the connection was closed".to_owned(),
            )),
            false => Ok(()),
        }
    }

    fn look(&mut self) -> Result<bool, StoreError> {
        let mut world = self.world()?;
        world.looks = world.looks.map(|looks| looks + 1);
        Ok(world.looks.is_some())
    }

    fn keeps_what_it_confirms(&self) -> bool {
        self.0.get().is_durable
    }

    fn disconnect(&mut self) {}
}

impl World {
    /// Loses what was written since `then`.
    pub fn forget_since(&mut self, then: Instant) {
        let written = &self.written;
        self.stored.retain(|n| written[n] < then);
    }

    fn breaks(&self, op: &Op) -> bool {
        match op {
            Op::Progress(_) | Op::Result(_) => self.breakers.contains(&name(op)),
            Op::Dispatch(dispatch) => self.breakers.contains(&dispatch.request),
            Op::Audit(_) => self.breakers.contains(&0),
            _ => false,
        }
    }

    /// Panics if the test has ordered it for this number.
    fn mine(&mut self, number: u64) {
        if let Some(left) = self.mines.get_mut(&number)
            && *left > 0
        {
            *left -= 1;
            ordered("by an operation");
        }
    }

    fn run(&mut self, op: &Op) -> Option<Outcome> {
        let (origin, number) = match op {
            Op::Progress(report) => (report.origin, name(op)),
            Op::Result(report) => (report.origin, name(op)),
            Op::Online(online) => {
                self.state += 1;
                return Some(Outcome::Presence {
                    ticket: online.ticket,
                    settled: Settled::claimed(1),
                });
            }
            Op::Notice(_) | Op::Forget(_) | Op::History(_) => return None,
            Op::Ring(_) | Op::Command(_) | Op::Rung(_) => return None,
            Op::Polls(_) => return op.written(),
            Op::TaskStates(_) => {
                self.state += 1;
                return Some(Outcome::StatesWritten);
            }
            Op::Outside(_) => {
                self.state += 1;
                return None;
            }
            Op::Dispatch(dispatch) => {
                self.mine(dispatch.request);
                self.dispatched.push(dispatch.request);
                return Some(Outcome::Dispatched {
                    request: dispatch.request,
                    stored: Stored::Whole,
                });
            }
            Op::Restore(dispatch) => {
                return Some(Outcome::Restored {
                    key: dispatch.key.clone(),
                    stored: Stored::Whole,
                });
            }
            Op::Read(read) => {
                return Some(Outcome::Read {
                    ticket: read.ticket,
                    found: Found::Output(None),
                });
            }
            _ => {
                self.state += 1;
                return Some(Outcome::Audited);
            }
        };
        self.mine(number);
        let result = if self.poison.contains(&number) {
            Err("WRONGTYPE".to_owned())
        } else {
            self.log.push(number);
            self.stored.insert(number);
            self.written.insert(number, self.now);
            Ok(())
        };
        Some(Outcome::Report { origin, result })
    }
}

/// Panics without output.
fn ordered(place: &str) -> ! {
    std::panic::resume_unwind(Box::new(format!("ordered, {place}")))
}
