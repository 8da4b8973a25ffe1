//! The store over Redis: operations become commands, many at a time, on one connection, or on one
//! to each primary of a Cluster.
//!
//! ```text
//!  ops ──▶ run: waves, steps ──▶ link ──▶ connection: windows, timeouts ──▶ Redis
//!           │                      └────▶ cluster: slots, redirects ──▶ a connection each
//!           │  presence, facts, progress, dispatch, results: the steps of each operation
//!           └─ errors: the store is unavailable, or one operation is refused
//! ```
//!
//! No command changes keys of two kinds, so a batch may be interrupted between any two commands,
//! and every operation can be repeated. The keys are in [`schema`]. Types of the client library
//! stay in this module.

/// A command: its name, and its arguments.
macro_rules! cmd {
    ($name:expr $(, $argument:expr)* $(,)?) => {{
        #[allow(unused_mut, reason = "a command without arguments")]
        let mut command = redis::cmd($name);
        $(command.arg($argument);)*
        command
    }};
}

mod cache;
mod cluster;
mod commands;
mod connection;
mod dispatch;
mod errors;
mod facts;
mod hosts;
mod inbox;
mod lease;
mod link;
mod load;
mod nodes;
mod outside;
mod presence;
mod progress;
mod results;
mod run;
mod scripts;
mod sentinel;
mod slots;
mod step;
mod tasks;
#[cfg(feature = "tls")]
mod tls;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use self::cache::ProgressCache;
use self::errors::CROSSSLOT;
use self::link::Link;
use self::load::query;
use self::step::Step;
use super::address::{RedisAddress, RedisPlace};
use super::events::StreamEvent;
use super::op::{self, HeldHost, HeldTask, Op, Outcome, Stored};
use super::{
    Backend, HeldCursor, Lease, NodeInfo, NodesSeen, Ran, Redirects, Settings, StoreError, schema,
};
use crate::ids::HostId;
use crate::limits::{EVENTS_OWED_MAX, REDIS_KEYS_MAX, STREAM_ENTRIES_MAX};
use crate::time::UnixMs;

/// Context of every operation.
#[derive(Clone, Debug)]
struct Context {
    node: String,
    /// The key of the hosts this node holds.
    own_set: String,
    delete_fields: Vec<String>,
    clear_on_done: bool,
    /// Greatest number of keys of a command: one in a Cluster, even of a single server.
    keys_max: usize,
    /// Time for which finished records are stored, in milliseconds. At least 1, since 0 would
    /// delete.
    keep_ms: u64,
    /// Number of replicas that must have a report before it is confirmed.
    wait_replicas: usize,
    info: NodeInfo,
    /// Time limit of an answer.
    timeout: Duration,
}

impl Context {
    /// The command that appends an event to the stream.
    fn append(&self, event: &StreamEvent<'_>) -> redis::Cmd {
        // Room for most entries, so that the buffer grows rarely.
        let mut xadd = redis::Cmd::with_capacity(20, 192);
        xadd.arg("XADD").arg(schema::EVENTS).arg("MAXLEN").arg("~");
        xadd.arg(STREAM_ENTRIES_MAX).arg("*");
        for (field, value) in event.fields(&self.node) {
            xadd.arg(field).arg(&*value);
        }
        xadd
    }

    /// The command that lets a finished record expire.
    fn expire(&self, key: &str) -> redis::Cmd {
        cmd!("PEXPIRE", key, self.keep_ms)
    }
}

/// A Redis server as a store. Needs Redis 6.2 or later.
pub struct RedisStore {
    address: RedisAddress,
    context: Context,
    link: Option<Link>,
    /// Primaries of a Cluster at the last connection.
    known: Vec<(String, u16)>,
    /// Number of failed attempts to connect. Each attempt begins with another server, since one may
    /// be cut off from the others and give old answers.
    failures: usize,
    /// Counts of connections that have ended.
    redirects: Redirects,
    lease: lease::LeaseHolder,
    /// Reports with an interrupted write: their lists may be written, but not their event. By host
    /// and number of the event.
    owed: HashSet<(HostId, u64)>,
    /// Lists of reports that this connection wrote.
    cache: ProgressCache,
    /// Invalid host names found since the start of the current reading of all hosts.
    strange_names: usize,
    /// Number of the oldest tasks that sweeps have examined.
    swept: usize,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.address)
            .field("connected", &self.link.is_some())
            .finish_non_exhaustive()
    }
}

/// Connects as a store does, and tries the commands that it needs.
///
/// # Errors
/// Reason why the servers cannot be a store now.
pub fn try_out(address: &RedisAddress, node: &str, timeout: Duration) -> Result<(), StoreError> {
    Link::open(address, &mut Vec::new(), 0, node, timeout).map(drop)
}

/// Commands that a user of the store needs, in the words of an ACL.
pub fn commands() -> impl Iterator<Item = String> {
    commands::names()
}

impl RedisStore {
    /// A store that is not connected yet.
    ///
    /// # Panics
    /// When the system gives no random number.
    #[must_use]
    pub fn new(address: RedisAddress, settings: Settings) -> Self {
        let timeout = settings.timeout.into();
        let context = Context {
            own_set: schema::node_hosts(&settings.node),
            node: settings.node,
            keys_max: match address.place {
                RedisPlace::Cluster(_) => 1,
                _ => REDIS_KEYS_MAX,
            },
            delete_fields: settings.delete_fields,
            clear_on_done: settings.clear_on_done,
            keep_ms: settings.keep.as_millis().max(1),
            wait_replicas: settings.wait_replicas,
            info: settings.info,
            timeout,
        };
        Self::closed(address, context, lease::LeaseHolder::new())
    }

    fn closed(address: RedisAddress, context: Context, lease: lease::LeaseHolder) -> Self {
        Self {
            address,
            context,
            link: None,
            known: Vec::new(),
            failures: 0,
            redirects: Redirects::default(),
            lease,
            owed: HashSet::new(),
            cache: ProgressCache::default(),
            strange_names: 0,
            swept: 0,
        }
    }

    /// A store with the same address, settings and lease, not connected: for a store thread that
    /// restarts. It must not take its own lease for a foreign one.
    #[must_use]
    pub fn again(&self) -> Self {
        let (address, context) = (self.address.clone(), self.context.clone());
        Self::closed(address, context, self.lease.again())
    }

    /// Runs `work` on the connection, and drops the connection if that fails: its next reply might
    /// be that of an older command, and after a failover another server answers.
    fn with_link<T>(
        &mut self,
        work: impl FnOnce(&mut Link, &Context) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with_lease(|_, link, context| work(link, context))
    }

    /// Runs `work` on the connection, with the lease.
    fn with_lease<T>(
        &mut self,
        work: impl FnOnce(&mut lease::LeaseHolder, &mut Link, &Context) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(mut link) = self.link.take() else {
            return Err(not_connected());
        };
        let done = work(&mut self.lease, &mut link, &self.context);
        match &done {
            Ok(_) => self.link = Some(link),
            Err(error) => {
                self.redirects += link.take_redirects();
                self.learn(error);
            }
        }
        done
    }

    /// Sends one key per command from now on, if the error is that of a server of a Cluster.
    fn learn(&mut self, error: &StoreError) {
        if matches!(error, StoreError::Unavailable(why) if why.starts_with(CROSSSLOT)) {
            self.context.keys_max = 1;
        }
    }

    fn note_owed(&mut self, ops: &[Op], progress: &run::BatchProgress) {
        for (op, settled) in ops.iter().zip(&progress.settled) {
            if let (Op::Progress(op), Some(_)) = (op, settled)
                && !self.owed.is_empty()
            {
                self.owed.remove(&(op.host.clone(), op.stamp.seq));
            }
        }
        for &at in &progress.broken_off {
            if let Op::Progress(op) = &ops[at]
                && self.owed.len() < EVENTS_OWED_MAX
            {
                self.owed.insert((op.host.clone(), op.stamp.seq));
            }
        }
    }
}

fn not_connected() -> StoreError {
    StoreError::Unavailable("not connected".to_owned())
}

fn begin<'a>(
    context: &'a Context,
    owed: &HashSet<(HostId, u64)>,
    cache: &'a ProgressCache,
    op: &'a Op,
) -> Box<dyn run::Job + 'a> {
    use facts::{answer, audit, counts, inventory, labels, result, seen, states};
    cache.before(op);
    match op {
        Op::Online(op) => Box::new(presence::Online::new(context, op)),
        Op::Offline(op) => Box::new(presence::Offline::new(context, op)),
        Op::Inventory(op) => Box::new(move |step: &mut Step| inventory(context, op, step)),
        Op::Labels(op) => Box::new(move |step: &mut Step| labels(op, step)),
        Op::Forget(host) => Box::new(presence::Forget::new(host)),
        Op::Seen(hosts) => Box::new(move |step: &mut Step| seen(hosts, step)),
        Op::Audit(hosts) => Box::new(move |step: &mut Step| audit(hosts, step)),
        Op::Notice(op) => Box::new(move |step: &mut Step| {
            step.one(0, context.append(&StreamEvent::notice(op)));
        }),
        Op::Progress(op) => {
            let owed = !owed.is_empty() && owed.contains(&(op.host.clone(), op.stamp.seq));
            Box::new(progress::Progress::new(context, op, owed, cache))
        }
        Op::Answer(op) => Box::new(move |step: &mut Step| answer(context, op, step)),
        Op::Result(op) => Box::new(move |step: &mut Step| result(context, op, step)),
        Op::TaskStates(op) => Box::new(move |step: &mut Step| states(context, op, step)),
        Op::Rollout(op) => Box::new(facts::Rollout(op)),
        Op::Outside(op) => Box::new(outside::Write::new(op)),
        Op::Polls(op) => Box::new(outside::Leases::new(context, op)),
        Op::History(op) => Box::new(move |step: &mut Step| counts(context, op, step)),
        Op::Dispatch(op) => Box::new(dispatch::Dispatch::new(context, op)),
        Op::Restore(op) => Box::new(dispatch::Dispatch::again(context, op)),
        Op::Ring(op) => Box::new(move |step: &mut Step| inbox::ring(op, step)),
        Op::Command(op) => Box::new(move |step: &mut Step| inbox::command(op, step)),
        Op::Rung(ids) => Box::new(move |step: &mut Step| inbox::rung(context, ids, step)),
        Op::Read(op) => results::read(context, op),
    }
}

impl Backend for RedisStore {
    fn open(&mut self) -> Result<(), StoreError> {
        if self.link.is_some() {
            return self.with_link(|link, _| link.ping());
        }
        let (known, context) = (&mut self.known, &self.context);
        let (node, timeout) = (&context.node, context.timeout);
        let opened = Link::open(&self.address, known, self.failures, node, timeout);
        self.failures = self.failures.wrapping_add(usize::from(opened.is_err()));
        self.link = Some(opened?);
        self.cache.clear();
        Ok(())
    }

    fn lease(&mut self, force: bool) -> Result<Lease, StoreError> {
        self.with_lease(|lease, link, context| lease.look(link, context, force))
    }

    fn release_lease(&mut self) -> Result<(), StoreError> {
        self.with_lease(|lease, link, context| lease.release(link, context))
    }

    fn held(
        &mut self,
        all_hosts: bool,
        cursor: &mut HeldCursor,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<(), StoreError> {
        if *cursor == HeldCursor::Start {
            self.strange_names = 0;
        }
        self.strange_names +=
            self.with_link(|link, context| load::page(link, context, all_hosts, cursor, hosts))?;
        if *cursor == HeldCursor::End && self.strange_names > 0 {
            let count = std::mem::take(&mut self.strange_names);
            log::warn!(
                count = count;
                "store: {count} names in it cannot be hosts, and are ignored"
            );
        }
        Ok(())
    }

    fn has_own_set(&mut self) -> Result<bool, StoreError> {
        self.with_link(|link, context| {
            let look = cmd!("EXISTS", &context.own_set);
            query(link, [look], |replies| Ok(replies.int()? == 1))
        })
    }

    fn has_node(&mut self) -> Result<bool, StoreError> {
        self.with_link(|link, context| {
            let look = cmd!("SISMEMBER", schema::NODES, &context.node);
            query(link, [look], |replies| Ok(replies.int()? == 1))
        })
    }

    fn tasks(
        &mut self,
        cursor: &mut HeldCursor,
        found: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        self.with_link(|link, context| tasks::page(link, context, &context.node, cursor, found))
    }

    fn look_at_nodes(&mut self, now: UnixMs) -> Result<NodesSeen, StoreError> {
        self.with_link(|link, context| nodes::look(link, context, now))
    }

    fn end_hosts(
        &mut self,
        node: &str,
        now: UnixMs,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<bool, StoreError> {
        self.with_link(|link, context| nodes::end_hosts(link, context, node, now, hosts))
    }

    fn take_over_tasks(
        &mut self,
        node: &str,
        now: UnixMs,
        cursor: &mut HeldCursor,
        found: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        self.with_link(|link, context| nodes::tasks(link, context, node, now, cursor, found))
    }

    fn read_inbox(&mut self, after: Option<&str>, max: usize) -> Result<Vec<op::Bell>, StoreError> {
        self.with_link(|link, context| inbox::read(link, context, after, max))
    }

    fn settle(&mut self, dispatch: &op::Dispatch, finish: bool) -> Result<Stored, StoreError> {
        self.with_lease(|lease, link, context| {
            let op = [Op::Dispatch(Box::new(dispatch.clone()))];
            let begin = |_| -> Box<dyn run::Job> {
                Box::new(match finish {
                    true => dispatch::Dispatch::new(context, dispatch),
                    false => dispatch::Dispatch::given_up(context, dispatch),
                })
            };
            let mut progress = run::run(link, context, lease, &op, begin);
            if let Some(error) = progress.error {
                return Err(error);
            }
            match progress.settled.pop().flatten().flatten() {
                Some(Outcome::Dispatched { stored, .. }) => Ok(stored),
                _ => Err(StoreError::Unavailable(
                    "a dispatch was not settled".to_owned(),
                )),
            }
        })
    }

    fn run(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) -> Ran {
        let Some(mut link) = self.link.take() else {
            return Ran::stopped(0, not_connected());
        };
        let (context, owed, cache) = (&self.context, &self.owed, &self.cache);
        let progress = run::run(&mut link, context, &mut self.lease, ops, |op| {
            begin(context, owed, cache, op)
        });
        self.note_owed(ops, &progress);
        match &progress.error {
            None => self.link = Some(link),
            Some(error) => {
                self.redirects += link.take_redirects();
                self.learn(error);
            }
        }
        let first_open = progress.settled.iter().position(Option::is_none);
        let done = first_open.unwrap_or(ops.len());
        outcomes.extend(progress.settled.into_iter().take(done).flatten().flatten());
        Ran {
            done,
            error: progress.error,
        }
    }

    fn sweep(&mut self, now: UnixMs) -> Result<(), StoreError> {
        self.with_link(|link, context| {
            let oldest = now.0.saturating_sub(context.keep_ms);
            let end = format!("({oldest}");
            let sweep = cmd!("ZREMRANGEBYSCORE", schema::SEEN, "-inf", end);
            query(link, [sweep], |replies| {
                load::lenient(schema::SEEN, replies.int())
            })?;
            Ok(())
        })?;
        let from = std::mem::take(&mut self.swept);
        self.swept = self.with_link(|link, context| tasks::sweep(link, context, now, from))?;
        Ok(())
    }

    fn look(&mut self) -> Result<bool, StoreError> {
        self.with_link(|link, _| link.look()).map(|()| true)
    }

    fn is_replicated(&self) -> bool {
        let place = &self.address.place;
        matches!(place, RedisPlace::Sentinel { .. } | RedisPlace::Cluster(_))
    }

    fn take_redirects(&mut self) -> Redirects {
        if let Some(link) = &mut self.link {
            self.redirects += link.take_redirects();
        }
        std::mem::take(&mut self.redirects)
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.with_link(|link, context| link.try_commands(&context.node))
    }

    fn disconnect(&mut self) {
        if let Some(mut link) = self.link.take() {
            self.redirects += link.take_redirects();
        }
    }
}
