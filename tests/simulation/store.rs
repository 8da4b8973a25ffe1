//! The store as it goes wrong: the embedded store over bytes in memory, which does what the conformance suite asks of
//! every store, behind a connection that is slow, breaks, hangs, and executes late what lay in it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anthill::ids::TaskKey;
use anthill::store::embedded::{EmbeddedStore, Memory};
use anthill::store::op::{Dispatch, HeldHost, HeldTask, Op, Outcome, Stored};
use anthill::store::worker::Clock;
use anthill::store::{Backend, Dump, HeldCursor, Lease, Ran, Settings, StoreError, schema};
use anthill::time::{Instant, Span, UnixMs};

use crate::arrows::Arrows;
use crate::dice::Dice;

/// The name of the node.
pub const NODE: &str = "sim";
/// Time limit of a call.
const PATIENCE: Span = Span::from_secs(2);
/// Time after its return in which the store may still execute commands of dropped connections, in
/// milliseconds: the server rewrites everything five seconds after.
const LATE_MS: u64 = 4_500;
const LEASE: Span = Span::from_secs(15);
/// Reports on keys that begin so are refused for good.
pub const POISON: &str = "ACpoison";

/// Behaviour of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// Its process is dead: nothing can be connected.
    Dead,
    /// It accepts connections and commands and does not answer; it executes the commands in the
    /// end.
    Hangs,
    /// It answers that it cannot write.
    ReadOnly,
}

/// Extent of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// The writes of the last second.
    LastSecond,
    /// All of it.
    Everything,
}

/// The store itself, behind all connections.
pub struct Depot {
    memory: Memory,
    inner: EmbeddedStore,
    dice: Dice,
    pub now: Instant,
    pub mood: Mood,
    /// While it hangs, nothing of what is said to it gets lost.
    pub hears_all: bool,
    /// In percent: runs that are cut in their middle.
    pub cuts: u64,
    /// The longest that an answer takes, in milliseconds.
    pub slow_ms: u64,
    /// Counts what breaks all connections.
    generation: u64,
    lease: Option<(u64, Instant)>,
    /// Commands of dropped connections, and the time of their execution.
    late: VecDeque<(Instant, Op)>,
    /// The server process that says something.
    heard: u64,
    /// States to which a lossy crash may return, with their times: the oldest first.
    durable: VecDeque<(Instant, Vec<u8>)>,
    /// Duration of the call in progress.
    pub elapsed: Span,
    /// The states of hosts in tasks, as they were last seen in here.
    pub arrows: Arrows,
}

/// The store, shared by the connections and the world.
#[derive(Clone)]
pub struct Shared {
    depot: Arc<Mutex<Depot>>,
    wall: Arc<AtomicU64>,
}

impl Shared {
    pub fn new(seed: u64, wall: UnixMs) -> Self {
        let memory = Memory::default();
        let wall = Arc::new(AtomicU64::new(wall.0));
        let settings = Settings {
            node: NODE.to_owned(),
            delete_fields: vec!["systemInfo".to_owned(), "systemInfoIPV4".to_owned()],
            clear_on_done: false,
            keep: Span::from_secs(7 * 86_400),
            timeout: PATIENCE,
            wait_replicas: 0,
            info: anthill::store::NodeInfo::default(),
        };
        // The store's machine has a clock of its own: what the server's does changes nothing in there.
        let clock = Arc::clone(&wall);
        let time = Arc::new(move || UnixMs(clock.load(Ordering::Relaxed)));
        let mut inner = EmbeddedStore::in_memory(memory.clone(), settings, time, 1);
        inner.open().expect("memory can be opened");
        let depot = Depot {
            durable: VecDeque::new(),
            memory,
            inner,
            dice: Dice::new(seed),
            now: Instant::ZERO,
            mood: Mood::Well,
            hears_all: false,
            cuts: 0,
            slow_ms: 2,
            generation: 1,
            lease: None,
            late: VecDeque::new(),
            heard: 0,
            elapsed: Span::ZERO,
            arrows: Arrows::default(),
        };
        Self {
            depot: Arc::new(Mutex::new(depot)),
            wall,
        }
    }

    pub fn get(&self) -> MutexGuard<'_, Depot> {
        // A checker may have failed while it was held.
        self.depot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is `now`, and the store's own wall clock goes on as far.
    pub fn advance(&self, now: Instant) {
        let mut depot = self.get();
        let passed = now.as_nanos() / 1_000_000 - depot.now.as_nanos() / 1_000_000;
        self.wall.fetch_add(passed, Ordering::Relaxed);
        depot.now = now;
        depot.run_late();
    }

    /// A connection of the server process `process`.
    pub fn connection(&self, process: u64) -> Box<dyn Backend> {
        Box::new(Connection {
            shared: self.clone(),
            process,
            generation: None,
        })
    }
}

impl Depot {
    fn spend(&mut self, span: Span) {
        self.elapsed = self.elapsed + span;
    }

    /// Kills the store's process, with this loss of its disk. It stays [`Mood::Dead`] until the
    /// mood is set again.
    pub fn crash(&mut self, loss: Loss) {
        self.mood = Mood::Dead;
        self.generation += 1;
        self.late.clear();
        self.lose(loss);
    }

    /// Empties the store, or sets it back; connections stay.
    pub fn lose(&mut self, loss: Loss) {
        self.inner.disconnect();
        match loss {
            Loss::Nothing => {}
            Loss::LastSecond => {
                let second = self.now - Span::from_secs(1);
                let kept = self.durable.iter().find(|(at, _)| *at >= second);
                if let Some((_, bytes)) = kept {
                    self.memory.restore(bytes.clone());
                }
            }
            Loss::Everything => {
                self.memory.restore(Vec::new());
                self.lease = None;
            }
        }
        self.inner.open().expect("memory can be opened");
        if loss != Loss::Nothing {
            self.arrows.forget_stored();
        }
    }

    /// Its connections break, and nothing else.
    pub fn hang_up(&mut self) {
        self.generation += 1;
    }

    /// It answers again; what lay in dropped connections is done within [`LATE_MS`], maybe long after all has been
    /// written anew.
    pub fn recover(&mut self) {
        (self.mood, self.hears_all) = (Mood::Well, false);
        let most = Span::from_millis(self.dice.below(LATE_MS));
        // Not what an earlier return has given its time already.
        let latest = self.now + Span::from_millis(LATE_MS);
        for (due, _) in self.late.iter_mut().filter(|(due, _)| *due > latest) {
            *due = self.now + most;
        }
    }

    /// A server process says something. What a dead one has said before has all been read by then.
    fn hear(&mut self, process: u64) {
        if std::mem::replace(&mut self.heard, process) != process {
            for (due, _) in &mut self.late {
                *due = self.now;
            }
            self.run_late();
        }
    }

    fn run_late(&mut self) {
        if matches!(self.mood, Mood::Dead | Mood::Hangs) {
            return;
        }
        while self.late.front().is_some_and(|(due, _)| *due <= self.now) {
            if let Some((_, op)) = self.late.pop_front() {
                // It may be older than what is there: the server writes all of it once more five seconds later.
                self.arrows.forget_stored();
                self.execute(std::slice::from_ref(&op), &mut Vec::new());
                self.arrows.forget_stored();
            }
        }
    }

    /// Runs operations for good.
    fn execute(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) {
        let last = self.durable.back().map(|(at, _)| *at);
        if last.is_none_or(|at| self.now.since(at) >= Span::from_millis(300)) {
            let second = self.now - Span::from_secs(1);
            self.durable.retain(|(at, _)| *at >= second);
            self.durable.push_back((self.now, self.memory.snapshot()));
        }
        for op in ops {
            match op {
                Op::Progress(report) if report.key.as_str().starts_with(POISON) => {
                    let result = Err("WRONGTYPE".to_owned());
                    let origin = report.origin;
                    outcomes.push(Outcome::Report { origin, result });
                }
                op => {
                    let ran = self.inner.run(std::slice::from_ref(op), outcomes);
                    assert!(ran.error.is_none(), "memory fails: {:?}", ran.error);
                }
            }
            if let Some(key) = keys_of(op) {
                self.look_at_states(&key);
            }
        }
    }

    /// States move only along the arrows.
    fn look_at_states(&mut self, key: &TaskKey) {
        if let Some(Dump::Hash(states)) = self.dump(&schema::task_hosts(key)) {
            self.arrows.stored(key, &states);
        }
    }

    /// Content of a key.
    pub fn dump(&mut self, key: &str) -> Option<Dump> {
        self.inner.dump(key).expect("memory can be read")
    }

    pub fn set(&mut self, key: &str) -> Vec<String> {
        match self.dump(key) {
            None => Vec::new(),
            Some(Dump::Set(members)) => members,
            other => panic!("{key} is no set: {other:?}"),
        }
    }

    pub fn list(&mut self, key: &str) -> Vec<String> {
        match self.dump(key) {
            None => Vec::new(),
            Some(Dump::List(members)) => members,
            other => panic!("{key} is no list: {other:?}"),
        }
    }

    pub fn hash(&mut self, key: &str) -> Vec<(String, String)> {
        match self.dump(key) {
            None => Vec::new(),
            Some(Dump::Hash(fields)) => fields,
            other => panic!("{key} is no hash: {other:?}"),
        }
    }

    /// A book, the highest priority first.
    pub fn book(&mut self, key: &str) -> Vec<String> {
        match self.dump(key) {
            Some(Dump::Sorted(book)) => {
                book.into_iter().rev().map(|(command, _)| command).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn keys_of(op: &Op) -> Option<TaskKey> {
    match op {
        Op::Progress(op) => Some(op.key.clone()),
        Op::Answer(op) => Some(op.key.clone()),
        Op::TaskStates(op) => Some(op.key.clone()),
        Op::Dispatch(op) | Op::Restore(op) => Some(op.key.clone()),
        _ => None,
    }
}

/// The time, as a store thread reads it.
pub struct ThreadClock {
    pub shared: Shared,
    pub wall: Arc<AtomicU64>,
}

impl Clock for ThreadClock {
    fn now(&self) -> Instant {
        let depot = self.shared.get();
        depot.now + depot.elapsed
    }

    fn wall(&self) -> UnixMs {
        UnixMs(self.wall.load(Ordering::Relaxed))
    }
}

/// One server's connection.
struct Connection {
    shared: Shared,
    process: u64,
    /// The store's generation it belongs to, while there is one.
    generation: Option<u64>,
}

fn away(text: &str) -> StoreError {
    StoreError::Unavailable(text.to_owned())
}

impl Connection {
    /// The store, if it answers.
    fn depot(&self) -> Result<MutexGuard<'_, Depot>, StoreError> {
        let mut depot = self.shared.get();
        let took = Span::from_millis(depot.slow_ms.min(1 + depot.elapsed.as_millis()));
        let slow = depot.slow_ms;
        let took = took.min(depot.dice.ms(0, slow.max(1)));
        depot.spend(took);
        match depot.mood {
            Mood::Dead => Err(away("refused")),
            Mood::Hangs => {
                depot.spend(PATIENCE);
                Err(away("no answer"))
            }
            _ if self.generation != Some(depot.generation) => Err(away("the connection is gone")),
            Mood::Well | Mood::ReadOnly => {
                depot.hear(self.process);
                Ok(depot)
            }
        }
    }

    /// The same, if it can write.
    fn writable(&self) -> Result<MutexGuard<'_, Depot>, StoreError> {
        let depot = self.depot()?;
        match depot.mood {
            Mood::ReadOnly => Err(away("READONLY")),
            _ => Ok(depot),
        }
    }
}

impl Backend for Connection {
    fn open(&mut self) -> Result<(), StoreError> {
        let generation = self.shared.get().generation;
        self.generation.get_or_insert(generation);
        self.depot().map(drop)
    }

    fn lease(&mut self, force: bool) -> Result<Lease, StoreError> {
        let mut depot = self.writable()?;
        let now = depot.now + depot.elapsed;
        let held = depot.lease.filter(|(_, until)| *until > now);
        match held {
            Some((process, until)) if process != self.process && !force => Ok(Lease::Foreign {
                left: until.since(now),
            }),
            held => {
                let ours = held.is_some_and(|(process, _)| process == self.process);
                depot.lease = Some((self.process, now + LEASE));
                // Enters the node among the nodes as well.
                depot.inner.lease(true)?;
                Ok(if ours { Lease::Ours } else { Lease::Taken })
            }
        }
    }

    fn release_lease(&mut self) -> Result<(), StoreError> {
        let mut depot = self.writable()?;
        depot.lease = depot.lease.filter(|(process, _)| *process != self.process);
        Ok(())
    }

    fn has_own_set(&mut self) -> Result<bool, StoreError> {
        self.depot()?.inner.has_own_set()
    }

    fn has_node(&mut self) -> Result<bool, StoreError> {
        self.depot()?.inner.has_node()
    }

    fn held(
        &mut self,
        all_hosts: bool,
        cursor: &mut HeldCursor,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<(), StoreError> {
        self.writable()?.inner.held(all_hosts, cursor, hosts)
    }

    fn tasks(
        &mut self,
        cursor: &mut HeldCursor,
        tasks: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        self.writable()?.inner.tasks(cursor, tasks)
    }

    fn settle(&mut self, dispatch: &Dispatch, finish: bool) -> Result<Stored, StoreError> {
        let mut depot = self.writable()?;
        let stored = depot.inner.settle(dispatch, finish)?;
        depot.look_at_states(&dispatch.key);
        Ok(stored)
    }

    fn run(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) -> Ran {
        let mut depot = match self.writable() {
            Ok(depot) => depot,
            Err(error) => {
                let mut depot = self.shared.get();
                let heard = self.generation == Some(depot.generation);
                if depot.mood == Mood::Hangs && heard {
                    // It will be done, whether anybody waits for it or not. What takes several questions and
                    // answers does not come beyond the first of them.
                    let most = match depot.hears_all {
                        true => ops.len(),
                        false => depot.dice.place(ops.len() + 1),
                    };
                    let due = depot.now + Span::from_secs(3_600);
                    let lie = ops[..most].iter().filter(|op| is_one_piece(op)).cloned();
                    let lie: Vec<Op> = lie.collect();
                    depot.late.extend(lie.into_iter().map(|op| (due, op)));
                }
                return Ran {
                    done: 0,
                    error: Some(error),
                };
            }
        };
        let cuts = depot.cuts;
        let cut = depot.dice.percent(cuts);
        let done = match cut {
            true => depot.dice.place(ops.len() + 1),
            false => ops.len(),
        };
        depot.execute(&ops[..done], outcomes);
        if !cut {
            return Ran { done, error: None };
        }
        // More may have been executed than was answered.
        let untold = done + usize::from(depot.dice.one_in(2));
        let untold = untold.min(ops.len());
        depot.execute(&ops[done..untold], &mut Vec::new());
        depot.hang_up();
        Ran {
            done,
            error: Some(away("cut")),
        }
    }

    fn sweep(&mut self, now: UnixMs) -> Result<(), StoreError> {
        // The server's idea of the time is not the store's.
        let _ = now;
        self.writable().map(drop)
    }

    fn disconnect(&mut self) {
        self.generation = None;
    }
}

fn is_one_piece(op: &Op) -> bool {
    !matches!(op, Op::Dispatch(_) | Op::Restore(_) | Op::Read(_))
}
