//! One store for several nodes, as commands on single keys. The keys fall into three groups, each at a
//! primary of its own that can be replaced by one that lacks the last writes. Only presence is in here.
//!
//! Claims, renewals and releases follow the scripts of the Redis store, and each operation takes its
//! commands in the order of that store's stages. Any of them may be the last one of its connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anthill::ids::HostId;
use anthill::limits::LEASE_S;
use anthill::store::op::{
    Dispatch, Found, HeldHost, HeldTask, Hold, Offline, Online, Op, Outcome, Question, Reason,
    Settled, Stored,
};
use anthill::store::{Backend, HeldCursor, Lease, NodesSeen, Ran, StoreError};
use anthill::time::{Instant, Span, UnixMs};

use crate::dice::Dice;

const GROUPS: usize = 3;
const EXISTS: &str = "exists";
const NODES: &str = "nodes";
/// Age of a host's last message at which a claim is late.
const LATE: Span = Span::from_secs(1);
/// Writes that a failover may lose.
const LOSS: Span = Span::from_secs(2);

/// A value, and the end of its life.
#[derive(Clone, Debug, Default)]
struct Value {
    members: BTreeSet<String>,
    fields: BTreeMap<String, String>,
    until: Option<Instant>,
}

type Keys = BTreeMap<String, Value>;

/// The primary of some keys.
#[derive(Debug, Default)]
struct Group {
    keys: Keys,
    /// Earlier states, the oldest first.
    kept: VecDeque<(Instant, Keys)>,
    /// It does not answer before that.
    down_until: Instant,
}

/// The store.
#[derive(Debug)]
pub struct Model {
    groups: [Group; GROUPS],
    dice: Dice,
    pub now: Instant,
    /// Nodes that do not reach it.
    pub cut_off: BTreeSet<String>,
    /// Commands of 10,000 that are the last of their connection.
    pub cuts: u64,
    /// Counts failovers: each ends all connections.
    generation: u64,
    /// The count at which each node has connected last.
    connected: BTreeMap<String, u64>,
    /// Times before which each failover kept all writes, and times of the failovers.
    pub lost: Vec<(Instant, Instant)>,
}

/// The store, shared by the nodes.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Model>>);

impl Shared {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Model {
            groups: Default::default(),
            dice: Dice::new(seed),
            now: Instant::ZERO,
            cut_off: BTreeSet::new(),
            cuts: 0,
            generation: 1,
            connected: BTreeMap::new(),
            lost: Vec::new(),
        })))
    }

    pub fn get(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of a process of a node.
    pub fn connection(&self, node: &str, process: u64) -> Box<dyn Backend> {
        Box::new(Connection {
            shared: self.clone(),
            node: node.to_owned(),
            process: process.to_string(),
            generation: None,
        })
    }
}

fn group_of(key: &str) -> usize {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as usize % GROUPS
}

fn set_of(node: &str) -> String {
    format!("node:{node}:hosts")
}

fn lease_of(node: &str) -> String {
    format!("node:{node}:lease")
}

fn heir_of(node: &str) -> String {
    format!("node:{node}:heir")
}

fn info_of(node: &str) -> String {
    format!("node:{node}:info")
}

fn hash_of(host: &str) -> String {
    format!("host:{host}")
}

impl Model {
    /// Replaces a primary by its replica, which lacks the last writes.
    pub fn fail_over(&mut self, down: Span) {
        let place = self.dice.place(GROUPS);
        let lost = self.dice.ms(0, LOSS.as_millis());
        let now = self.now;
        let group = &mut self.groups[place];
        // Each state was kept before a write, so the oldest of this span has all earlier writes.
        let kept = group.kept.iter().find(|(at, _)| now.since(*at) <= lost);
        if let Some((_, keys)) = kept {
            group.keys = keys.clone();
        }
        group.kept.clear();
        group.down_until = now + down;
        let kept_until = Instant::from_nanos(now.as_nanos().saturating_sub(lost.as_nanos()));
        self.lost.push((kept_until, now));
        self.generation += 1;
    }

    /// Returns whether all primaries answer this node.
    pub fn is_reached_by(&self, node: &str) -> bool {
        !self.cut_off.contains(node) && self.groups.iter().all(|g| g.down_until <= self.now)
    }

    /// Returns whether this node reaches all primaries, and has noticed the last failover.
    pub fn is_connected(&self, node: &str) -> bool {
        self.is_reached_by(node) && self.connected.get(node) == Some(&self.generation)
    }

    /// All primaries answer from now on.
    pub fn recover(&mut self) {
        for group in &mut self.groups {
            group.down_until = self.now;
        }
        self.cut_off.clear();
        self.cuts = 0;
    }

    fn members(&self, key: &str) -> BTreeSet<String> {
        let value = self.groups[group_of(key)].keys.get(key);
        value.map(|value| value.members.clone()).unwrap_or_default()
    }

    /// Hosts online.
    pub fn exists(&self) -> BTreeSet<String> {
        self.members(EXISTS)
    }

    /// The set of a node.
    pub fn set(&self, node: &str) -> BTreeSet<String> {
        self.members(&set_of(node))
    }

    /// The node that holds a host.
    pub fn holder(&self, host: &str) -> Option<String> {
        let key = hash_of(host);
        let value = self.groups[group_of(&key)].keys.get(&key)?;
        value
            .fields
            .get("node")
            .filter(|node| !node.is_empty())
            .cloned()
    }
}

/// One node's connection.
struct Connection {
    shared: Shared,
    node: String,
    process: String,
    generation: Option<u64>,
}

type Done<T> = Result<T, StoreError>;

fn epoch_of(value: &Value) -> Option<u64> {
    value.fields.get("epoch")?.parse().ok()
}

impl Connection {
    /// Runs a command on a key.
    fn on<T>(&mut self, key: &str, work: impl FnOnce(&mut Value, Instant) -> T) -> Done<T> {
        let away = |why: &str| Err(StoreError::Unavailable(why.to_owned()));
        let mut model = self.shared.get();
        let (now, place) = (model.now, group_of(key));
        if self.generation != Some(model.generation) || model.cut_off.contains(&self.node) {
            return away("the connection is gone");
        }
        if model.groups[place].down_until > now {
            return away("a primary does not answer");
        }
        let cuts = model.cuts;
        let is_cut = model.dice.below(10_000) < cuts;
        if is_cut && model.dice.one_in(2) {
            self.generation = None;
            return Err(StoreError::Broken("cut before a command".to_owned()));
        }
        let group = &mut model.groups[place];
        let is_old = |(at, _): &(Instant, Keys)| now.since(*at) >= Span::from_millis(300);
        if group.kept.back().is_none_or(is_old) {
            let oldest = Span::from_secs(5);
            group.kept.retain(|(at, _)| now.since(*at) < oldest);
            group.kept.push_back((now, group.keys.clone()));
        }
        let mut value = group.keys.remove(key).unwrap_or_default();
        if value.until.is_some_and(|until| until <= now) {
            value = Value::default();
        }
        let done = work(&mut value, now);
        if !value.members.is_empty() || !value.fields.is_empty() {
            group.keys.insert(key.to_owned(), value);
        }
        if is_cut {
            self.generation = None;
            return Err(StoreError::Broken("cut behind a command".to_owned()));
        }
        Ok(done)
    }

    fn add(&mut self, key: &str, member: &str) -> Done<()> {
        self.on(key, |value, _| {
            value.members.insert(member.to_owned());
        })
    }

    fn remove(&mut self, key: &str, member: &str) -> Done<()> {
        self.on(key, |value, _| {
            value.members.remove(member);
        })
    }

    fn has(&mut self, key: &str, member: &str) -> Done<bool> {
        self.on(key, |value, _| value.members.contains(member))
    }

    fn list(&mut self, key: &str) -> Done<Vec<String>> {
        self.on(key, |value, _| value.members.iter().cloned().collect())
    }

    fn field(&mut self, key: &str, field: &str) -> Done<Option<String>> {
        self.on(key, |value, _| value.fields.get(field).cloned())
    }

    /// `lua/lease.lua`.
    fn take_lease(&mut self, force: bool) -> Done<Lease> {
        let process = self.process.clone();
        self.on(&lease_of(&self.node.clone()), |value, now| {
            let holder = value.fields.get("by").cloned();
            let end = now + Span::from_secs(LEASE_S);
            match (holder, value.until) {
                (Some(by), Some(until)) if by != process && !force => Lease::Foreign {
                    left: until.since(now),
                },
                (holder, _) => {
                    value.fields.insert("by".to_owned(), process.clone());
                    value.until = Some(end);
                    match holder.as_ref() == Some(&process) {
                        true => Lease::Ours,
                        false => Lease::Taken,
                    }
                }
            }
        })
    }

    fn online(&mut self, op: &Online) -> Done<Settled> {
        let (host, node) = (op.host.as_str(), self.node.clone());
        let (own, hash) = (set_of(&node), hash_of(host));
        let (last, is_connected) = match &op.hold {
            Hold::Claim { boot, silent_ms } => {
                self.add(&own, host)?;
                let boot = boot.as_deref().map(str::to_owned);
                let silent = Span::from_millis(*silent_ms);
                let settled =
                    self.on(&hash, |value, now| claim(value, &node, boot, silent, now))?;
                match settled {
                    Settled::Foreign { .. } => self.remove(&own, host)?,
                    _ => self.add(EXISTS, host)?,
                }
                return Ok(settled);
            }
            Hold::Renew { epoch } => (*epoch, true),
            Hold::Keep { epoch } => (*epoch, false),
        };
        self.add(&own, host)?;
        let (kind, epoch) = self.on(&hash, |value, _| renew(value, &node, last, is_connected))?;
        match kind {
            0 | 1 => self.add(EXISTS, host)?,
            _ => self.remove(&own, host)?,
        }
        Ok(match kind {
            1 if op.event.is_none() => Settled::Returned { epoch },
            0 | 1 => Settled::Renewed { epoch },
            kind => Settled::Foreign { is_free: kind == 2 },
        })
    }

    fn release(
        &mut self,
        host: &str,
        node: &str,
        epoch: u64,
        unclaimed_too: bool,
    ) -> Done<Option<Option<String>>> {
        self.on(&hash_of(host), |value, _| {
            let holder = value.fields.get("node").cloned();
            let ours =
                holder.as_deref() == Some(node) && (epoch == 0 || epoch_of(value) == Some(epoch));
            let nobodys = unclaimed_too && holder.as_deref().is_none_or(str::is_empty);
            if ours || nobodys {
                value.fields.insert("node".to_owned(), String::new());
                return None;
            }
            Some(holder)
        })
    }

    /// Removes a host whose claim was given up from the sets, unless it was claimed meanwhile.
    fn withdraw(&mut self, host: &str, set: &str) -> Done<()> {
        self.remove(EXISTS, host)?;
        let holder = self.field(&hash_of(host), "node")?.unwrap_or_default();
        if !holder.is_empty() {
            self.add(EXISTS, host)?;
        }
        if set_of(&holder) != set {
            self.remove(set, host)?;
        }
        Ok(())
    }

    fn offline(&mut self, op: &Offline) -> Done<Settled> {
        let (host, node) = (op.host.as_str(), self.node.clone());
        let own = set_of(&node);
        let mut found = self.release(host, &node, op.epoch, false)?;
        if let Some(holder) = &found {
            if holder.as_ref() == Some(&node) {
                return Ok(Settled::NotOurs);
            }
            let (in_own, exists) = (self.has(&own, host)?, self.has(EXISTS, host)?);
            let is_free = holder.as_deref().is_none_or(str::is_empty);
            let is_finished = holder.as_deref() == Some("") && in_own;
            let is_adopted = is_free && exists && (holder.is_none() || op.epoch == 0);
            if is_adopted && !is_finished {
                self.add(&own, host)?;
                found = self.release(host, &node, op.epoch, true)?;
                if found.is_some() {
                    return Ok(Settled::NotOurs);
                }
            } else if !is_finished {
                self.remove(&own, host)?;
                return Ok(match is_free {
                    true => Settled::NotOurs,
                    false => Settled::Foreign { is_free: false },
                });
            }
        }
        self.withdraw(host, &own)?;
        Ok(Settled::Released)
    }

    fn run_one(&mut self, op: &Op) -> Done<Option<Outcome>> {
        let presence = |ticket, settled| Some(Outcome::Presence { ticket, settled });
        Ok(match op {
            Op::Online(op) => presence(op.ticket, self.online(op)?),
            Op::Offline(op) => presence(op.ticket, self.offline(op)?),
            Op::Audit(hosts) => {
                for host in hosts {
                    self.add(EXISTS, host.as_str())?;
                }
                op.written()
            }
            Op::Read(read) => {
                let ticket = read.ticket;
                let found = match &read.question {
                    Question::Open { .. } => Found::Open(Vec::new()),
                    _ => Found::Nothing("not simulated".to_owned()),
                };
                Some(Outcome::Read { ticket, found })
            }
            op => op.written(),
        })
    }

    fn is_heir(&mut self, node: &str) -> Done<bool> {
        let own = self.node.clone();
        let end = |now: Instant| Some(now + Span::from_secs(LEASE_S));
        let heir = self.on(&heir_of(node), |value, now| {
            let heir = value
                .fields
                .entry("by".to_owned())
                .or_insert_with(|| own.clone());
            value.until = value.until.or(end(now));
            heir.clone()
        })?;
        let is_back = self.on(&lease_of(node), |value, _| !value.fields.is_empty())?;
        if is_back || heir != own {
            return Ok(false);
        }
        self.on(&heir_of(node), |value, now| value.until = end(now))?;
        Ok(true)
    }

    fn held_host(&self, host: &str, ours: bool, epoch: u64) -> HeldHost {
        let now = UnixMs(crate::nodes::WALL + self.shared.get().now.as_nanos() / 1_000_000);
        HeldHost {
            host: HostId::checked(host).expect("an id"),
            ours,
            epoch,
            peer: None,
            keyed: false,
            since: now,
            seen: now,
            reason: (!ours).then_some(Reason::Lost),
            hostname: None,
            mac: None,
            addresses: Vec::new(),
            admin_labels: None,
            host_labels: None,
        }
    }
}

/// `lua/claim.lua`, without its bound on claims a minute.
fn claim(
    value: &mut Value,
    node: &str,
    boot: Option<String>,
    silent: Span,
    now: Instant,
) -> Settled {
    let epoch = epoch_of(value).unwrap_or(0) + 1;
    let fields = &mut value.fields;
    let is_elsewhere = fields
        .get("node")
        .is_some_and(|holder| !holder.is_empty() && holder != node);
    let now_ms = now.as_nanos() / 1_000_000;
    let claimed: Option<u64> = fields.get("claimed").and_then(|at| at.parse().ok());
    let is_newer = claimed.is_some_and(|at| at > now_ms.saturating_sub(silent.as_millis()));
    if is_elsewhere && silent >= LATE && is_newer {
        return Settled::Foreign { is_free: false };
    }
    fields.insert("claimed".to_owned(), now_ms.to_string());
    let before = fields.insert("node".to_owned(), node.to_owned());
    fields.insert("epoch".to_owned(), epoch.to_string());
    let moved = before.is_some_and(|before| !before.is_empty() && before != node);
    let restarted = match boot {
        Some(boot) => {
            let before = fields.insert("boot".to_owned(), boot.clone());
            before.is_some_and(|before| before != boot)
        }
        None => false,
    };
    Settled::Claimed {
        epoch,
        moved,
        restarted,
        keyed: false,
    }
}

/// `lua/renew.lua`.
fn renew(value: &mut Value, node: &str, epoch: u64, is_connected: bool) -> (u8, u64) {
    let holder = value.fields.get("node").cloned().unwrap_or_default();
    let stored = epoch_of(value);
    let mut write = |epoch: u64| {
        value.fields.insert("node".to_owned(), node.to_owned());
        value.fields.insert("epoch".to_owned(), epoch.to_string());
    };
    match stored {
        Some(stored) if holder == node && stored >= epoch => (0, stored),
        Some(stored) if stored >= epoch => {
            if holder.is_empty() && epoch == 0 {
                write(stored + 1);
                (0, stored + 1)
            } else if holder.is_empty() && epoch == stored && is_connected {
                write(stored + 1);
                (1, stored + 1)
            } else {
                (if holder.is_empty() { 2 } else { 3 }, stored)
            }
        }
        _ => {
            write(epoch.max(1));
            (0, epoch.max(1))
        }
    }
}

impl Backend for Connection {
    fn open(&mut self) -> Result<(), StoreError> {
        let mut model = self.shared.get();
        if !model.is_reached_by(&self.node) {
            self.generation = None;
            return Err(StoreError::Unavailable("refused".to_owned()));
        }
        let current = model.generation;
        match *self.generation.get_or_insert(current) == current {
            true => {
                model.connected.insert(self.node.clone(), current);
                Ok(())
            }
            false => Err(StoreError::Unavailable("the connection is gone".to_owned())),
        }
    }

    fn lease(&mut self, force: bool) -> Result<Lease, StoreError> {
        let lease = self.take_lease(force)?;
        let node = self.node.clone();
        self.add(NODES, &node)?;
        self.on(&info_of(&node), |value, _| {
            drop(value.fields.remove("gone"))
        })?;
        Ok(lease)
    }

    fn release_lease(&mut self) -> Result<(), StoreError> {
        let process = self.process.clone();
        self.on(&lease_of(&self.node.clone()), |value, _| {
            value.fields.retain(|_, by| *by != process);
        })
    }

    fn held(
        &mut self,
        all_hosts: bool,
        cursor: &mut HeldCursor,
        hosts: &mut Vec<HeldHost>,
    ) -> Result<(), StoreError> {
        let node = self.node.clone();
        let own = set_of(&node);
        for host in self.list(&own)? {
            let facts = self.on(&hash_of(&host), |value, _| {
                let epoch = epoch_of(value).unwrap_or(0);
                (value.fields.get("node").cloned(), epoch)
            })?;
            match facts {
                (Some(holder), epoch) if holder == node => {
                    hosts.push(self.held_host(&host, true, epoch));
                }
                (Some(holder), epoch) if holder.is_empty() => {
                    self.withdraw(&host, &own)?;
                    hosts.push(self.held_host(&host, false, epoch));
                }
                (None, _) if self.has(EXISTS, &host)? => {
                    hosts.push(self.held_host(&host, true, 0));
                }
                _ => self.remove(&own, &host)?,
            }
        }
        if all_hosts {
            for host in self.list(EXISTS)? {
                let holder = self.field(&hash_of(&host), "node")?;
                let is_free = holder.is_none_or(|holder| holder.is_empty());
                if is_free && !self.has(&own, &host)? {
                    hosts.push(self.held_host(&host, true, 0));
                }
            }
        }
        *cursor = HeldCursor::End;
        Ok(())
    }

    fn has_own_set(&mut self) -> Result<bool, StoreError> {
        let own = set_of(&self.node);
        self.on(&own, |value, _| !value.members.is_empty())
    }

    fn has_node(&mut self) -> Result<bool, StoreError> {
        let node = self.node.clone();
        self.has(NODES, &node)
    }

    fn tasks(&mut self, cursor: &mut HeldCursor, _: &mut Vec<HeldTask>) -> Result<(), StoreError> {
        *cursor = HeldCursor::End;
        Ok(())
    }

    fn settle(&mut self, _: &Dispatch, _: bool) -> Result<Stored, StoreError> {
        panic!("nothing is dispatched")
    }

    fn run(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) -> Ran {
        for (done, op) in ops.iter().enumerate() {
            match self.run_one(op) {
                Ok(outcome) => outcomes.extend(outcome),
                Err(error) => return Ran::stopped(done, error),
            }
        }
        Ran::all(ops.len())
    }

    fn sweep(&mut self, _: UnixMs) -> Result<(), StoreError> {
        Ok(())
    }

    fn look_at_nodes(&mut self, _: UnixMs) -> Result<NodesSeen, StoreError> {
        let mut seen = NodesSeen {
            are_several: Some(false),
            ..NodesSeen::default()
        };
        for node in self.list(NODES)? {
            if node == self.node {
                continue;
            }
            if self.on(&lease_of(&node), |value, _| !value.fields.is_empty())? {
                seen.live += 1;
                seen.are_several = Some(true);
                continue;
            }
            let has_hosts = self.on(&set_of(&node), |value, _| !value.members.is_empty())?;
            let is_gone = self.field(&info_of(&node), "gone")?.is_some();
            if has_hosts || !is_gone {
                seen.are_several = Some(true);
                seen.silent.push(node);
            }
        }
        Ok(seen)
    }

    fn end_hosts(
        &mut self,
        node: &str,
        _: UnixMs,
        ended: &mut Vec<HeldHost>,
    ) -> Result<bool, StoreError> {
        if !self.is_heir(node)? {
            return Ok(false);
        }
        let set = set_of(node);
        for host in self.list(&set)? {
            let (holder, epoch) = self.on(&hash_of(&host), |value, _| {
                let epoch = epoch_of(value).unwrap_or(0);
                (value.fields.get("node").cloned(), epoch)
            })?;
            let ends = match holder.as_deref() {
                Some("") => true,
                Some(holder) if holder == node => {
                    self.release(&host, node, epoch, false)?.is_none()
                }
                _ => false,
            };
            if ends {
                self.withdraw(&host, &set)?;
                ended.push(self.held_host(&host, false, epoch));
            }
            self.remove(&set, &host)?;
        }
        Ok(false)
    }

    fn take_over_tasks(
        &mut self,
        node: &str,
        _: UnixMs,
        cursor: &mut HeldCursor,
        _: &mut Vec<HeldTask>,
    ) -> Result<(), StoreError> {
        *cursor = HeldCursor::End;
        if self.is_heir(node)? {
            self.on(&info_of(node), |value, _| {
                drop(value.fields.insert("gone".to_owned(), "1".to_owned()));
            })?;
            self.on(&heir_of(node), |value, _| value.fields.clear())?;
        }
        Ok(())
    }

    fn is_replicated(&self) -> bool {
        true
    }

    fn disconnect(&mut self) {
        self.generation = None;
    }
}
