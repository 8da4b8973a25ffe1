//! Several nodes over one store: claims, renewals and releases while nodes die, stand still and are cut
//! off, primaries are replaced, and hosts move by chance.
//!
//! Each node is a real core and a real store thread logic. Hosts are connections with a hello and
//! heartbeats. Time goes in ticks. In the first phase anything may fail; in the second nothing does, and
//! nodes and store must agree on each host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anthill::codec::message::{Hello, Incoming, Message, ReplyRequest};
use anthill::handlers::effect::{Effect, Effects, EventKind};
use anthill::handlers::{Core, End, Flow, Input, LabelRules, Moment, Rules};
use anthill::ids::{ConnId, HostId, HostRef};
use anthill::limits::{BATCH_OPS_MAX, HOSTS_PER_STEP_MAX, SENDS_PER_TURN_MAX};
use anthill::store::op::{Batch, Op, Outcome, Settled};
use anthill::store::spool::Spool;
use anthill::store::worker::{Clock, Next, Plan, StoreStats, Worker};
use anthill::time::{Instant, Span, UnixMs};

use crate::dice::Dice;
use crate::model::Shared;

pub const WALL: u64 = 1_800_000_000_000;
const TICK: Span = Span::from_millis(100);
const STORM: Span = Span::from_secs(120);
const REST: Span = Span::from_secs(900);
const TIMEOUT: Span = Span::from_secs(15);
/// Silence after which a host gives up its connection.
const PATIENCE: Span = Span::from_secs(9);
/// Time after a new store connection by which a node has renewed its claims.
const RENEWAL: Span = Span::from_secs(8);

/// The simulated nodes, their store and their hosts.
pub struct Nodes {
    now: Instant,
    dice: Dice,
    store: Shared,
    nodes: Vec<Node>,
    hosts: Vec<Host>,
    is_calm: bool,
    /// Hosts whose release a failover may have lost, and whose node has died before it could repeat it.
    unrepeated: BTreeSet<String>,
    processes: u64,
    spools: tempfile::TempDir,
    pub counts: BTreeMap<&'static str, u64>,
    pub lines: Vec<String>,
}

struct Node {
    name: String,
    process: Option<Process>,
    /// Time of its next start.
    starts: Option<Instant>,
    /// It stands still until then.
    stands_until: Instant,
    cut_off_until: Instant,
}

/// A running node.
struct Process {
    number: u64,
    core: Core,
    worker: Worker,
    channel: VecDeque<Batch>,
    told: VecDeque<Outcome>,
    conns: BTreeMap<ConnId, usize>,
    free: Vec<u32>,
    generation: u32,
    /// Ends of connections on their way.
    ends: Vec<(Instant, ConnId, End)>,
    up_since: Option<Instant>,
    /// Time of its last connection to the store.
    connected: Instant,
    /// Its last look has shown no other node. While the store is away it reports at once.
    is_alone: bool,
    /// Claims that are asked for, and hosts whose claims are confirmed, with the time of that.
    asked: Vec<(HostRef, String)>,
    confirmed: BTreeMap<String, Instant>,
    /// Hosts whose claims it gave up, with the time of the answer.
    released: BTreeMap<String, Instant>,
}

/// A connection of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    node: usize,
    process: u64,
    conn: ConnId,
}

struct Host {
    name: String,
    boots: u64,
    link: Option<Link>,
    /// Nothing gets through.
    is_broken: bool,
    heard: Instant,
    next_beat: Instant,
    /// Time of its next attempt to connect; none once it has left for good.
    connects: Option<Instant>,
}

struct ThreadClock(Shared);

impl Clock for ThreadClock {
    fn now(&self) -> Instant {
        self.0.get().now
    }

    fn wall(&self) -> UnixMs {
        UnixMs(WALL + self.now().as_nanos() / 1_000_000)
    }
}

fn rules(seed: u64) -> Rules {
    Rules {
        timeout: TIMEOUT,
        first_message: Span::from_secs(5),
        working_timeout: Span::from_secs(60),
        key_prefix: "AC".to_owned(),
        keep: Span::from_secs(7 * 86_400),
        hosts_max: 1_000,
        agent_port: 6655,
        rto: Span::from_secs(1),
        tries: 5,
        result_bytes: 1 << 20,
        certificates: false,
        seed,
    }
}

impl Nodes {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let now = Instant::ZERO + Span::from_secs(1_000);
        let shm = Path::new("/dev/shm");
        let spools = match shm.is_dir() {
            true => tempfile::tempdir_in(shm),
            false => tempfile::tempdir(),
        };
        let count = 2 + dice.place(4);
        let nodes = (0..count).map(|number| Node {
            name: format!("n{number}"),
            process: None,
            starts: Some(now),
            stands_until: now,
            cut_off_until: now,
        });
        let nodes = nodes.collect();
        let hosts = 3 + dice.place(8);
        let hosts = (0..hosts).map(|number| Host {
            name: format!("ant-{number}"),
            boots: 0,
            link: None,
            is_broken: false,
            heard: now,
            next_beat: now,
            connects: Some(now + dice.ms(0, 5_000)),
        });
        let hosts = hosts.collect();
        let store = Shared::new(dice.number());
        store.get().now = now;
        Self {
            now,
            store,
            nodes,
            hosts,
            is_calm: false,
            unrepeated: BTreeSet::new(),
            processes: 0,
            spools: spools.expect("a directory"),
            counts: BTreeMap::new(),
            lines: Vec::new(),
            dice,
        }
    }

    /// Runs the whole simulation.
    pub fn run(&mut self) {
        let end = self.now + STORM;
        self.store.get().cuts = [0, 5, 50, 300][self.dice.place(4)];
        while self.now < end {
            if self.dice.one_in(20) {
                self.fault();
            }
            self.tick();
        }
        self.end_faults();
        let end = self.now + REST;
        // No disagreement is left that another round of renewals and looks would end.
        self.pass(Span::from_secs(150));
        while let Some(why) = self.disagreement() {
            assert!(self.now < end, "it does not come to rest: {why}");
            self.pass(Span::from_secs(10));
        }
        self.pass(Span::from_secs(70));
        assert_eq!(self.disagreement(), None, "and it does not last");
    }

    fn pass(&mut self, span: Span) {
        let end = self.now + span;
        while self.now < end {
            self.tick();
        }
    }

    fn log(&mut self, text: fmt::Arguments<'_>) {
        let seconds = self.now.as_nanos() as f64 / 1e9;
        self.lines.push(format!("{seconds:>10.3} {text}"));
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn end_faults(&mut self) {
        self.log(format_args!("the faults stop"));
        self.is_calm = true;
        self.store.get().recover();
        for node in &mut self.nodes {
            if node.process.is_none() {
                node.starts = Some(self.now);
            }
            node.stands_until = self.now;
            node.cut_off_until = self.now;
        }
    }

    fn fault(&mut self) {
        let node = self.dice.place(self.nodes.len());
        let host = self.dice.place(self.hosts.len());
        let pause = match self.dice.below(3) {
            0 => self.dice.ms(100, 3_000),
            1 => self.dice.ms(3_000, 20_000),
            _ => self.dice.ms(20_000, 60_000),
        };
        let until = self.now + pause;
        let name = self.nodes[node].name.clone();
        match self.dice.below(12) {
            0 => {
                self.count("failovers");
                let down = self.dice.ms(0, 8_000);
                self.log(format_args!("a primary is replaced, down for {down:?}"));
                self.store.get().fail_over(down);
            }
            1 => {
                if let Some(process) = self.nodes[node].process.take() {
                    self.count("nodes killed");
                    self.note_unrepeated(&process);
                    self.log(format_args!("{name} is killed until {until:?}"));
                    self.nodes[node].starts = Some(until);
                }
            }
            2 => {
                self.count("nodes cut off");
                self.log(format_args!("{name} is cut off until {until:?}"));
                self.nodes[node].cut_off_until = until;
            }
            3 => {
                self.count("nodes stood still");
                self.log(format_args!("{name} stands still until {until:?}"));
                self.nodes[node].stands_until = until;
            }
            4 => {
                self.count("links broken");
                self.hosts[host].is_broken = self.hosts[host].link.is_some();
            }
            5 if self.dice.one_in(6) => {
                self.count("hosts left");
                self.disconnect(host);
                self.hosts[host].connects = None;
            }
            5 | 6 => {
                self.count("hosts rebooted");
                self.disconnect(host);
                self.hosts[host].boots += 1;
                if self.hosts[host].connects.is_some() {
                    self.hosts[host].connects = Some(until);
                }
            }
            _ => {
                self.count("hosts moved");
                self.disconnect(host);
                if self.hosts[host].connects.is_some() {
                    self.hosts[host].connects = Some(self.now);
                }
            }
        }
    }

    /// Notes the hosts whose releases a dead node would have repeated.
    fn note_unrepeated(&mut self, process: &Process) {
        let store = self.store.get();
        // It has not connected since then, or not rewritten its hosts.
        let failovers = store.lost.iter();
        let failovers = failovers.filter(|(_, at)| *at + RENEWAL > process.connected);
        let Some((kept, _)) = failovers.min() else {
            return;
        };
        let is_lost = |at: &Instant| at >= kept;
        let hosts = process.released.iter().filter(|(_, at)| is_lost(at));
        self.unrepeated.extend(hosts.map(|(host, _)| host.clone()));
    }

    /// A host drops its connection. Its node hears of that at once, late, or never.
    fn disconnect(&mut self, host: usize) {
        let is_broken = std::mem::take(&mut self.hosts[host].is_broken);
        let Some(link) = self.hosts[host].link.take() else {
            return;
        };
        let late = match self.dice.below(3) {
            0 => Span::ZERO,
            1 => self.dice.ms(0, 9_000),
            _ => return,
        };
        let at = self.now + late;
        if let Some(process) = self.process_of(link)
            && !is_broken
        {
            process.ends.push((at, link.conn, End::Closed));
        }
    }

    fn process_of(&mut self, link: Link) -> Option<&mut Process> {
        let process = self.nodes[link.node].process.as_mut()?;
        (process.number == link.process).then_some(process)
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        {
            let mut store = self.store.get();
            store.now = self.now;
            store.cut_off.clear();
            for node in &self.nodes {
                if node.cut_off_until > self.now {
                    store.cut_off.insert(node.name.clone());
                }
            }
        }
        for host in 0..self.hosts.len() {
            self.step_host(host);
        }
        let first = self.dice.place(self.nodes.len());
        for place in 0..self.nodes.len() {
            self.step_node((first + place) % self.nodes.len());
        }
    }

    fn step_host(&mut self, place: usize) {
        let now = self.now;
        let Some(link) = self.hosts[place].link else {
            if self.hosts[place].connects.is_some_and(|at| at <= now) {
                self.connect(place);
            }
            return;
        };
        let stands = self.nodes[link.node].stands_until > now;
        let is_broken = self.hosts[place].is_broken;
        let is_known = self
            .process_of(link)
            .is_some_and(|process| process.conns.contains_key(&link.conn));
        if !is_known && !is_broken {
            // Its node is dead, or has closed the connection.
            self.hosts[place].link = None;
            self.hosts[place].connects = Some(now + self.dice.ms(100, 3_000));
            return;
        }
        if now.since(self.hosts[place].heard) > PATIENCE {
            self.disconnect(place);
            self.hosts[place].connects = Some(now + self.dice.ms(100, 3_000));
            return;
        }
        if self.hosts[place].next_beat <= now && !is_broken && !stands {
            self.hosts[place].next_beat = now + Span::from_secs(3) + self.dice.ms(0, 1_000);
            self.hosts[place].heard = now;
            self.say(link, Message::Heartbeat);
        }
    }

    fn connect(&mut self, place: usize) {
        let now = self.now;
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|node| {
                let node = &self.nodes[*node];
                node.process.is_some() && node.stands_until <= now
            })
            .collect();
        let host = &mut self.hosts[place];
        host.connects = Some(now + self.dice.ms(500, 3_000));
        if up.is_empty() {
            return;
        }
        let node = up[self.dice.place(up.len())];
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let Some(slot) = process.free.pop() else {
            return;
        };
        process.generation += 1;
        let conn = ConnId {
            slot,
            generation: process.generation,
        };
        process.conns.insert(conn, place);
        process.confirmed.remove(&host.name);
        let link = Link {
            node,
            process: process.number,
            conn,
        };
        host.link = Some(link);
        (host.heard, host.is_broken) = (now, false);
        host.next_beat = now + Span::from_secs(3);
        let port = 1_000 + (process.generation % 60_000) as u16;
        let peer = SocketAddr::from(([10, 0, 0, 1 + place as u8], port));
        let (name, boot) = (host.name.clone(), format!("{place}-{}", host.boots));
        let to = self.nodes[node].name.clone();
        self.log(format_args!("{name} connects to {to}"));
        self.input(node, Input::Opened { conn, peer });
        let hello = Hello {
            id: name.into(),
            udp: None,
            push: true,
            boot: Some(boot.into()),
            ..Hello::default()
        };
        self.say(link, Message::Hello(hello));
    }

    fn say(&mut self, link: Link, message: Message<'_>) {
        let is_open = self
            .process_of(link)
            .is_some_and(|process| process.conns.contains_key(&link.conn));
        if is_open {
            let ask = ReplyRequest {
                reply: true,
                seq: Some(1),
            };
            let incoming = Incoming { message, ask };
            let conn = link.conn;
            self.input(link.node, Input::Message { conn, incoming });
        }
    }

    fn moment(&self) -> Moment {
        let wall = UnixMs(WALL + self.now.as_nanos() / 1_000_000);
        Moment {
            now: self.now,
            wall,
        }
    }

    fn input(&mut self, node: usize, input: Input<'_>) {
        let (at, mut fx) = (self.moment(), Effects::default());
        if let Some(process) = &mut self.nodes[node].process {
            let flow = process.core.handle(at, input, &mut fx);
            assert_eq!(flow, Flow::Taken);
        }
        self.apply(node, fx);
    }

    fn start(&mut self, place: usize) {
        self.processes += 1;
        let number = self.processes;
        let node = &mut self.nodes[place];
        node.starts = None;
        let dir = self.spools.path().join(&node.name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let plan = Plan {
            spool_dir: dir.clone(),
            spool_bytes: 1 << 20,
            flush: Span::from_millis(50),
            retry: Span::from_secs(1),
            grace: TIMEOUT,
            seed: self.dice.number(),
        };
        let (store, name) = (self.store.clone(), node.name.clone());
        let labels = LabelRules {
            node: name.clone(),
            ..LabelRules::default()
        };
        node.process = Some(Process {
            number,
            core: Core::new(rules(self.dice.number()), number << 32)
                .with_labels(labels)
                .with_shared_store(),
            worker: Worker::new(
                Box::new(move || store.connection(&name, number)),
                plan,
                Spool::open(&dir, 1 << 20).expect("the process before it is dead"),
                Box::new(ThreadClock(self.store.clone())),
                Arc::<StoreStats>::default(),
            ),
            channel: VecDeque::new(),
            told: VecDeque::new(),
            conns: BTreeMap::new(),
            free: (0..64).collect(),
            generation: 0,
            ends: Vec::new(),
            up_since: None,
            connected: self.now,
            is_alone: false,
            asked: Vec::new(),
            confirmed: BTreeMap::new(),
            released: BTreeMap::new(),
        });
        let name = self.nodes[place].name.clone();
        self.log(format_args!("{name} starts"));
    }

    fn step_node(&mut self, place: usize) {
        let now = self.now;
        if self.nodes[place].starts.is_some_and(|at| at <= now) {
            self.start(place);
        }
        if self.nodes[place].stands_until > now {
            return;
        }
        self.take_outcomes(place);
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let due: Vec<_> = process.ends.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, conn, end) in due {
            let process = self.nodes[place].process.as_mut();
            if process.is_some_and(|process| process.forget(conn)) {
                self.input(place, Input::Ended { conn, end });
            }
        }
        let (at, mut fx) = (self.moment(), Effects::default());
        if let Some(process) = &mut self.nodes[place].process {
            process.core.tick(now, at, &mut fx);
            while process.core.go_on(at, HOSTS_PER_STEP_MAX, &mut fx) {}
            let sends = &mut Vec::new();
            process
                .core
                .take_sends(at, SENDS_PER_TURN_MAX, sends, &mut fx);
        }
        self.apply(place, fx);
        if let Some(process) = &mut self.nodes[place].process {
            process.hand_over(at);
            process.turn_thread(now);
        }
    }

    fn take_outcomes(&mut self, place: usize) {
        while let Some(process) = &mut self.nodes[place].process
            && process.core.takes_outcomes()
            && let Some(outcome) = process.told.pop_front()
        {
            process.note(&outcome, self.now);
            if let Outcome::Available { .. }
            | Outcome::Unavailable(_)
            | Outcome::Nodes { .. }
            | Outcome::Ended(_) = &outcome
            {
                let name = self.nodes[place].name.clone();
                self.log(format_args!("{name}: {outcome:?}"));
            }
            if let Outcome::Presence { ticket, settled } = &outcome {
                let name = self.nodes[place].name.clone();
                let host = self.hosts_of_ticket(place, *ticket);
                self.log(format_args!("{name}: {host:?} {settled:?}"));
            }
            self.input(place, Input::Outcome(outcome));
        }
    }

    fn hosts_of_ticket(&self, place: usize, ticket: HostRef) -> Option<String> {
        let asked = &self.nodes[place].process.as_ref()?.asked;
        let found = asked.iter().rev().find(|(one, _)| *one == ticket);
        found.map(|(_, host)| host.clone())
    }

    fn apply(&mut self, node: usize, fx: Effects) {
        for effect in fx.list {
            match effect {
                Effect::Close { conn } => {
                    if let Some(process) = &mut self.nodes[node].process {
                        process.forget(conn);
                    }
                }
                Effect::Tell(event) => {
                    let name = self.nodes[node].name.clone();
                    match event.kind {
                        EventKind::Online { host, .. } => {
                            self.count("online");
                            self.log(format_args!("{name} tells {host} online"));
                        }
                        EventKind::Offline { host, reason } => {
                            self.count(reason.as_str());
                            self.log(format_args!("{name} tells {host} offline: {reason:?}"));
                            self.offline(node, &name, host.as_str());
                        }
                        _ => {}
                    }
                }
                Effect::Stop { why, .. } => panic!("a node ends: {why}"),
                _ => {}
            }
        }
    }

    fn offline(&mut self, node: usize, name: &str, host: &str) {
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let is_on_its_own = process.is_alone && process.up_since.is_none();
        let lives = self.lives(host).cloned();
        if is_on_its_own && lives.is_some() {
            return self.count("offline though connected, by a node that knew of no others");
        }
        assert_eq!(
            lives, None,
            "{name} tells {host} offline, and it has a connection there"
        );
    }

    /// The node at which a host lives: it has a connection there, and the node reaches the store and
    /// has had its claim confirmed since the last failover.
    fn lives(&self, host: &str) -> Option<&String> {
        let store = self.store.get();
        let at = self.nodes.iter().find(|node| {
            let Some(process) = &node.process else {
                return false;
            };
            let lives = self.hosts.iter().any(|known| {
                let link = known
                    .link
                    .filter(|_| known.name == host && !known.is_broken);
                link.is_some_and(|link| {
                    link.process == process.number && process.conns.contains_key(&link.conn)
                })
            });
            let is_up = process
                .up_since
                .is_some_and(|up| self.now.since(up) > RENEWAL);
            let claimed = process.confirmed.get(host);
            let is_claimed = claimed.is_some_and(|at| self.now.since(*at) > TICK);
            let reaches = store.is_connected(&node.name) && node.stands_until <= self.now;
            lives && is_up && is_claimed && reaches
        });
        at.map(|node| &node.name)
    }

    /// A difference between connections, cores and store, if there is one.
    fn disagreement(&self) -> Option<String> {
        let store = self.store.get();
        // Such a claim stays until the host returns, and such an entry of `exists` until it is adopted.
        let is_left = |host: &String| self.unrepeated.contains(host);
        let mut held: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut present = BTreeSet::new();
        for host in &self.hosts {
            let name = &host.name;
            let holder = store.holder(name);
            let Some(link) = host.link else {
                if host.connects.is_some() {
                    return Some(format!("{name} is not connected"));
                }
                if holder.is_some() && !is_left(name) {
                    return Some(format!("{name} has left, and {holder:?} holds it"));
                }
                continue;
            };
            let node = &self.nodes[link.node];
            if holder.as_ref() != Some(&node.name) {
                return Some(format!(
                    "{name} is at {}, and {holder:?} holds it",
                    node.name
                ));
            }
            held.entry(&node.name).or_default().insert(name.clone());
            present.insert(name.clone());
        }
        for node in &self.nodes {
            let own = held.remove(node.name.as_str()).unwrap_or_default();
            let set = store.set(&node.name);
            if set != own {
                return Some(format!(
                    "the set of {} is {set:?}, and it has {own:?}",
                    node.name
                ));
            }
            let Some(process) = &node.process else {
                return Some(format!("{} does not run", node.name));
            };
            for host in &self.hosts {
                let id = HostId::checked(&host.name).expect("an id");
                let online = process.core.host(&id).is_some_and(|view| view.online);
                if online != own.contains(&host.name) {
                    return Some(format!(
                        "{} at {}: online is {online}",
                        host.name, node.name
                    ));
                }
            }
        }
        let mut exists = store.exists();
        exists.retain(|host| present.contains(host) || !is_left(host));
        (exists != present).then(|| format!("`exists` is {exists:?}, connected are {present:?}"))
    }
}

impl Process {
    /// Forgets a connection. Returns whether there was one.
    fn forget(&mut self, conn: ConnId) -> bool {
        let had = self.conns.remove(&conn).is_some();
        if had {
            self.free.push(conn.slot);
        }
        had
    }

    fn hand_over(&mut self, at: Moment) {
        while let Some(batch) = self.core.pull(at, BATCH_OPS_MAX) {
            for op in &batch.ops {
                match op {
                    Op::Online(op) => self.asked.push((op.ticket, op.host.to_string())),
                    Op::Offline(op) => self.asked.push((op.ticket, op.host.to_string())),
                    _ => {}
                }
            }
            self.channel.push_back(batch);
        }
    }

    fn turn_thread(&mut self, now: Instant) {
        for _ in 0..50 {
            if self.worker.has_room()
                && let Some(batch) = self.channel.pop_front()
            {
                self.worker.take(batch);
            }
            let next = self.worker.turn();
            self.told.extend(self.worker.outcomes());
            match next {
                Next::Now => {}
                Next::At(at) if at <= now => {}
                Next::At(_) if !self.channel.is_empty() && self.worker.has_room() => {}
                Next::At(_) | Next::Over => return,
            }
        }
    }

    /// Notes what the store has confirmed.
    fn note(&mut self, outcome: &Outcome, now: Instant) {
        match outcome {
            Outcome::Available { .. } => {
                self.up_since = Some(now);
                self.connected = now;
                self.asked.clear();
                self.confirmed.clear();
            }
            Outcome::Unavailable(_) => self.up_since = None,
            Outcome::Nodes { are_several } => self.is_alone = !are_several,
            Outcome::Presence { ticket, settled } => {
                let Some(place) = self.asked.iter().position(|(asked, _)| asked == ticket) else {
                    return;
                };
                let host = self.asked[place].1.clone();
                match settled {
                    Settled::Claimed { .. }
                    | Settled::Renewed { .. }
                    | Settled::Returned { .. } => {
                        self.confirmed.entry(host).or_insert(now);
                    }
                    Settled::Released | Settled::NotOurs => {
                        self.confirmed.remove(&host);
                        self.released.insert(host, now);
                    }
                    Settled::Foreign { .. } | Settled::Contested { .. } | Settled::Refused(_) => {
                        self.confirmed.remove(&host);
                    }
                }
            }
            _ => {}
        }
    }
}
