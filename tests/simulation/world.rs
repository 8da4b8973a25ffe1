//! A whole simulation: a server, its store, many hosts and the network between them. One seed
//! determines all random choices. In the first phase anything may fail at any time. In the second
//! phase nothing fails, and all parts must come to rest and agree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anthill::handlers::request::{NewTask, Request};
use anthill::ids::{HostId, TaskKey};
use anthill::store::op::TaskState;
use anthill::store::{Dump, schema};
use anthill::time::{Instant, Span, UnixMs};

use crate::dice::Dice;
use crate::host::{self, Host, pause};
use crate::ledger::{Fate, Ledger, What};
use crate::network::{Chunk, GIVES_UP, Network, Parcel, ServerEnd, soonest};
use crate::rollouts;
use crate::sequence;
use crate::server::{self, ADDRESS, Server};
use crate::store::{Loss, Mood, NODE, Shared};

const WALL: u64 = 1_800_000_000_000;
const DAY_MS: u64 = 86_400_000;
/// Length of the time in which everything may fail.
const STORM: Span = Span::from_secs(90);
/// Longest time from the last fault to rest. It covers all backoffs and retries, and a plain host
/// that runs a book once for each copy.
const REST: Span = Span::from_secs(3_600);

/// The simulated world.
pub struct World {
    now: Instant,
    dice: Dice,
    network: Network,
    store: Shared,
    server: Option<Server>,
    /// Planned events: the start of a dead server, the answer of a stopped store, and so on.
    plans: Vec<(Instant, Plan)>,
    hosts: Vec<Host>,
    pub ledger: Ledger,
    ran: BTreeSet<(usize, String)>,
    /// The host that has left for good, if there is one.
    gone: Option<usize>,
    /// The host that returns while the store hangs.
    returning: Option<usize>,
    wall: Arc<AtomicU64>,
    spool: tempfile::TempDir,
    processes: u64,
    tasks: u64,
    requesters: u64,
    requests: VecDeque<(u64, Request)>,
    calm: bool,
    /// Tasks go out in waves, and an operator changes them.
    has_rollouts: bool,
    pub steps: u64,
}

/// An event at a known time.
#[derive(Clone, Copy, Debug)]
enum Plan {
    StartServer,
    Recover,
    Fault,
    Dispatch,
    Control,
    Vanish,
    Flicker,
    Return(usize),
    Leave(usize),
}

/// Builds the surroundings of a host: the other parts of the world.
macro_rules! around_hosts {
    ($world:ident) => {
        host::Around {
            now: $world.now,
            network: &mut $world.network,
            dice: &mut $world.dice,
            ledger: &mut $world.ledger,
            store: &$world.store,
            listening: $world.server.is_some(),
            ran: &mut $world.ran,
        }
    };
}

macro_rules! around_server {
    ($world:ident) => {
        server::Around {
            now: $world.now,
            network: &mut $world.network,
            dice: &mut $world.dice,
            ledger: &mut $world.ledger,
            is_busy: !$world.calm,
            has_rollouts: $world.has_rollouts,
        }
    };
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        // A memory file system, if there is one: the spool syncs often.
        let shm = Path::new("/dev/shm");
        let spool = match shm.is_dir() {
            true => tempfile::tempdir_in(shm),
            false => tempfile::tempdir(),
        };
        let start = Instant::ZERO + Span::from_secs(1_000);
        let store = Shared::new(dice.number(), UnixMs(WALL));
        store.get().now = start;
        let mut world = Self {
            now: start,
            network: Network {
                slow_ms: 20,
                ..Network::default()
            },
            store,
            server: None,
            plans: vec![
                (start, Plan::StartServer),
                (start + Span::from_secs(2), Plan::Fault),
                (start + Span::from_secs(1), Plan::Dispatch),
            ],
            hosts: Vec::new(),
            ledger: Ledger::default(),
            ran: BTreeSet::new(),
            gone: None,
            returning: None,
            wall: Arc::new(AtomicU64::new(WALL)),
            spool: spool.expect("a directory"),
            processes: 0,
            tasks: 0,
            requesters: 0,
            requests: VecDeque::new(),
            calm: false,
            has_rollouts: false,
            steps: 0,
            dice: dice.clone(),
        };
        world.create_hosts();
        if world.dice.one_in(2) {
            let at = start + world.dice.ms(60_000, STORM.as_millis());
            let plan = match world.dice.one_in(2) {
                true => Plan::Vanish,
                false => Plan::Flicker,
            };
            world.plans.push((at, plan));
        }
        world
    }

    /// Creates agents with and without ids, behind one address or their own, and plain hosts, some
    /// of which share an address.
    fn create_hosts(&mut self) {
        let agents = 3 + self.dice.place(6);
        let plain = 2 + self.dice.place(3);
        for number in 0..agents + plain {
            let own = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10 + number as u8));
            let nat = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
            let place = self.hosts.len();
            let host = if number < agents {
                let id = Some(format!("ant-{number}"));
                match self.dice.below(4) {
                    0 => Host::agent(place, own, None, Some(7_000)),
                    1 => Host::agent(place, own, id, Some(7_000)),
                    2 => Host::agent(place, own, id, None),
                    _ => Host::agent(place, nat, id, None),
                }
            } else {
                Host::plain(place, own, Some(sequence::PORT))
            };
            self.hosts.push(host);
            if number >= agents && self.dice.one_in(2) {
                self.hosts.push(Host::plain(place + 1, own, None));
            }
        }
        for host in &mut self.hosts {
            host.wakes = Some(self.now + self.dice.ms(0, 5_000));
        }
    }

    /// Runs the whole simulation.
    pub fn run(&mut self) {
        self.pass_until(self.now + STORM);
        self.end_faults();
        let end = self.now + REST;
        loop {
            self.pass_until(self.now + Span::from_secs(10));
            match self.pending_work() {
                None => break,
                Some(why) => assert!(self.now < end, "it does not come to rest: {why}"),
            }
        }
        self.assert_agreement();
    }

    /// Runs the whole simulation with tasks that go out in waves, and in the end an operator who
    /// resumes what is paused.
    pub fn run_rollouts(&mut self) {
        self.has_rollouts = true;
        self.plans
            .push((self.now + Span::from_secs(3), Plan::Control));
        for host in &self.hosts {
            if let Some(port) = host.udp {
                let address = SocketAddr::new(host.ip, port);
                let addresses = &mut self.ledger.rollouts.addresses;
                addresses.insert(address, host.name.clone());
            }
        }
        self.run();
        for _ in 0..60 {
            let paused = self.paused_rollouts();
            if paused.is_empty() {
                return;
            }
            for key in paused {
                self.requesters += 1;
                let request = self.ledger.rollouts.resume(self.requesters, key);
                self.request(Some(request));
            }
            self.come_to_rest();
        }
        let waits = self.paused_rollouts();
        assert!(waits.is_empty(), "{waits:?} are resumed again and again");
    }

    fn come_to_rest(&mut self) {
        let end = self.now + REST;
        loop {
            self.pass_until(self.now + Span::from_secs(10));
            match self.pending_work() {
                None => return,
                Some(why) => assert!(self.now < end, "it does not come to rest: {why}"),
            }
        }
    }

    /// Compares the rollouts of server and store, and returns those that an operator may resume.
    fn paused_rollouts(&mut self) -> Vec<String> {
        self.ledger.shown.clear();
        let stored: Vec<TaskKey> = self.stored_tasks(&mut self.store.clone().get());
        for key in &stored {
            self.requesters += 1;
            let (cursor, limit) = (0, 1_000);
            let key = key.to_string();
            self.request(Some(Request::Task { key, cursor, limit }));
        }
        self.pass_until(self.now + Span::from_secs(2));
        let shown = std::mem::take(&mut self.ledger.shown);
        assert_eq!(shown.len(), stored.len(), "every task is shown");
        let left = self.names();
        let mut paused = Vec::new();
        for view in shown {
            let key = view.key.to_string();
            let mut states: Vec<_> = view
                .hosts
                .iter()
                .map(|(h, s, _)| (h.to_string(), *s))
                .collect();
            states.sort_by(|a, b| a.0.cmp(&b.0));
            let mut store = self.store.get();
            let kept = store.hash(&schema::task_hosts(&view.key));
            let word =
                |(host, state): &(String, TaskState)| (host.clone(), state.as_str().to_owned());
            let told: Vec<_> = states.iter().map(word).collect();
            assert_eq!(kept, told, "states of {key} in the store and as shown");
            let rollout = view
                .rollout
                .unwrap_or_else(|| panic!("{key} has no rollout"));
            let text = match store.dump(&schema::task_rollout(&view.key)) {
                Some(Dump::Text(text)) => text,
                other => panic!("the rollout of {key} in the store: {other:?}"),
            };
            drop(store);
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(json["state"], rollout.state.as_str(), "{key}: {text}");
            assert_eq!(
                json["why"].as_str(),
                rollout.why.as_deref(),
                "{key}: {text}"
            );
            assert_eq!(json["wave"], rollout.wave - 1, "{key}: {text}");
            let facts = (
                rollout.state,
                rollout.digest.as_str(),
                rollout.why.as_deref(),
            );
            let is_gone = |host: &str| !left.contains(host);
            let checker = &self.ledger.rollouts;
            let waits = checker.assert_rest(&key, &states, facts);
            let is_queued =
                |(host, state): &(String, TaskState)| *state == TaskState::Queued && is_gone(host);
            if waits && !(states.iter().any(is_queued) && rollout.wave == rollout.waves) {
                paused.push(key);
            }
        }
        paused
    }

    /// Runs without faults: each host runs each of its commands exactly once.
    pub fn run_calmly(&mut self) {
        self.calm = true;
        self.plans
            .retain(|(_, plan)| matches!(plan, Plan::StartServer));
        self.pass_until(self.now + Span::from_secs(10));
        for _ in 0..12 {
            self.dispatch();
            let pause = self.dice.ms(0, 20_000);
            self.pass_until(self.now + pause);
        }
        let end = self.now + REST;
        while let Some(why) = self.pending_work() {
            assert!(self.now < end, "it does not come to rest: {why}");
            self.pass_until(self.now + Span::from_secs(10));
        }
        self.assert_agreement();
        self.assert_old_clients_ran_all();
    }

    fn assert_old_clients_ran_all(&mut self) {
        let mut wanted = BTreeMap::new();
        let old: Vec<String> = self
            .hosts
            .iter()
            .filter(|host| !host.is_agent())
            .map(|host| host.name.clone())
            .collect();
        for (key, fate) in &self.ledger.fates {
            let Fate::Stored { hosts, .. } = fate else {
                panic!("{key} is {fate:?}, and nothing failed");
            };
            for host in hosts.iter().filter(|host| old.contains(host)) {
                for command in self.store.get().book(key) {
                    wanted.insert((host.clone(), command), 1);
                }
            }
        }
        assert_eq!(self.ledger.sequences.ran, wanted);
    }

    /// Lets time pass, event by event.
    fn pass_until(&mut self, end: Instant) {
        loop {
            self.steps += 1;
            assert!(self.steps < 2_000_000, "it spins");
            let next = self.next().map_or(end, |next| next.max(self.now));
            let next = next.min(end);
            let passed = next.as_nanos() / 1_000_000 - self.now.as_nanos() / 1_000_000;
            self.wall.fetch_add(passed, Ordering::Relaxed);
            self.now = next;
            self.ledger.now = next;
            self.store.advance(next);
            if self.now >= end {
                return;
            }
            self.step();
        }
    }

    fn next(&self) -> Option<Instant> {
        let plans = self.plans.iter().map(|(at, _)| Some(*at));
        let hosts = self.hosts.iter().map(|host| host.next(&self.network));
        let server = self.server.as_ref();
        let turn = server.and_then(|server| server.next(&self.network));
        let thread = server.and_then(Server::next_of_thread);
        let parcels = self.network.parcels.iter().map(|parcel| {
            // Datagrams for the server wait in its socket until its next turn.
            let is_for_server = parcel.to.port() == 11_452;
            let stopped = server.map_or(parcel.at, |server| server.stopped_until);
            let at = parcel
                .at
                .max(if is_for_server { stopped } else { parcel.at });
            (!is_for_server || server.is_some()).then_some(at)
        });
        let ends = self
            .network
            .links
            .values()
            .map(|link| self.next_of_orphan(link));
        soonest(
            plans
                .chain(hosts)
                .chain([turn, thread])
                .chain(parcels)
                .chain(ends),
        )
    }

    /// Time at which data arrive at an end that no longer exists.
    fn next_of_orphan(&self, link: &crate::network::Link) -> Option<Instant> {
        let up = (link.server == ServerEnd::Gone && self.server.is_some())
            .then(|| link.up.next())
            .flatten();
        let runs = self.hosts[link.host].is_running();
        let down = (!link.host_has_it && runs)
            .then(|| link.down.next())
            .flatten();
        soonest([up, down])
    }

    fn step(&mut self) {
        let mut due = Vec::new();
        let now = self.now;
        self.plans.retain(|(at, plan)| {
            if *at <= now {
                due.push(*plan);
            }
            *at > now
        });
        for plan in due {
            self.carry_out(plan);
        }
        for place in 0..self.hosts.len() {
            let is_due = self.hosts[place].next(&self.network);
            if is_due.is_some_and(|at| at <= now) {
                self.hosts[place].step(&mut around_hosts!(self));
            }
        }
        self.step_server();
        if let Some(place) = self.returning {
            self.hang_for(place);
        }
        self.deliver();
        self.reset_orphans();
        self.network.tidy();
    }

    fn step_server(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        if server.next_of_thread().is_some_and(|at| at <= self.now) {
            server.turn_thread(self.now, &self.store);
            self.ledger.copy(self.spool.path().join("recent").exists());
        }
        if server.stopped_until <= self.now {
            while let Some((requester, ask)) = self.requests.pop_front() {
                server.ask(requester, ask, &mut around_server!(self));
            }
        }
        let for_it = |parcel: &Parcel| parcel.to.port() == 11_452 && parcel.at <= self.now;
        let mail = self.network.parcels.iter().any(for_it) && server.stopped_until <= self.now;
        if mail || server.next(&self.network).is_some_and(|at| at <= self.now) {
            server.turn(&mut around_server!(self));
            for (to, text) in std::mem::take(&mut self.ledger.datagrams) {
                self.post(to, text);
            }
        }
    }

    /// Sends a datagram of the server.
    fn post(&mut self, to: SocketAddr, text: String) {
        let found = |host: &&Host| host.ip == to.ip() && host.udp == Some(to.port());
        let Some(place) = self.hosts.iter().find(found).map(|host| host.place) else {
            return;
        };
        let parcel = Parcel {
            at: self.now,
            from: udp_of_server(),
            to,
            bytes: text.into_bytes(),
        };
        self.network.post(place, parcel, self.now, &mut self.dice);
    }

    /// Delivers due datagrams to hosts.
    fn deliver(&mut self) {
        let now = self.now;
        let is_for_host = |p: &mut Parcel| p.to.port() != 11_452 && p.at <= now;
        let arrived: Vec<Parcel> = self.network.parcels.extract_if(.., is_for_host).collect();
        for parcel in arrived {
            let to = parcel.to;
            let found = |host: &Host| host.ip == to.ip() && host.udp == Some(to.port());
            if let Some(place) = self.hosts.iter().position(found) {
                let mut around = around_hosts!(self);
                self.hosts[place].datagram(parcel.from, &parcel.bytes, &mut around);
            }
        }
    }

    /// Answers data for an end that no longer exists with a reset, if its machine is alive.
    fn reset_orphans(&mut self) {
        let now = self.now;
        let ids: Vec<u64> = self.network.links.keys().copied().collect();
        for id in ids {
            let Some(link) = self.network.links.get_mut(&id) else {
                continue;
            };
            let runs = self.hosts[link.host].is_running();
            let mut up = false;
            if link.server == ServerEnd::Gone && self.server.is_some() {
                while let Some((_, chunk)) = link.up.pop(now) {
                    up |= matches!(chunk, Chunk::Bytes(_));
                }
            }
            let mut down = false;
            if !link.host_has_it && runs {
                while let Some((_, chunk)) = link.down.pop(now) {
                    down |= matches!(chunk, Chunk::Bytes(_));
                }
            }
            let dice = &mut self.dice;
            if up {
                self.network.send_down(id, Chunk::Reset, now, dice);
            }
            if down {
                self.network.send_up(id, Chunk::Reset, now, dice);
            }
        }
    }

    fn carry_out(&mut self, plan: Plan) {
        match plan {
            Plan::StartServer => self.start_server(),
            Plan::Recover => {
                self.ledger.log(format_args!("the store answers again"));
                self.store.get().recover();
            }
            Plan::Dispatch => {
                self.dispatch();
                if !self.calm {
                    let at = self.now + self.dice.ms(200, 6_000);
                    self.plans.push((at, Plan::Dispatch));
                }
            }
            Plan::Control => {
                self.control();
                if !self.calm {
                    let at = self.now + self.dice.ms(200, 5_000);
                    self.plans.push((at, Plan::Control));
                }
            }
            Plan::Vanish => {
                if let Some(place) = self.pick_unique_host() {
                    let silent = self.dice.one_in(2);
                    self.leave(place, silent);
                }
            }
            Plan::Flicker => self.flicker(),
            Plan::Return(place) => {
                self.hosts[place].wakes = Some(self.now);
                self.returning = Some(place);
            }
            Plan::Leave(place) => self.leave(place, false),
            Plan::Fault if self.calm => {}
            Plan::Fault => {
                self.fault();
                let at = self.now + self.dice.ms(50, 4_000);
                self.plans.push((at, Plan::Fault));
            }
        }
    }

    /// Picks a random host. Returns none if it shares its name with another host.
    fn pick_unique_host(&mut self) -> Option<usize> {
        let place = self.dice.place(self.hosts.len());
        let name = &self.hosts[place].name;
        let namesakes = self.hosts.iter().filter(|host| host.name == *name);
        (namesakes.count() == 1).then_some(place)
    }

    /// Removes a host for good.
    fn leave(&mut self, place: usize, silent: bool) {
        let name = self.hosts[place].name.clone();
        self.ledger.log(format_args!("{name} leaves for good"));
        self.hosts[place].crash(silent, &mut around_hosts!(self));
        self.hosts[place].wakes = None;
        self.gone = Some(place);
    }

    /// Removes a host, lets it return while the store hangs, and removes it for good. Its online
    /// operation lies in a dropped connection, and is executed long after the host went offline.
    fn flicker(&mut self) {
        let Some(place) = self.pick_unique_host() else {
            return;
        };
        self.hosts[place].crash(false, &mut around_hosts!(self));
        self.hosts[place].wakes = None;
        let back = self.now + Span::from_secs(3);
        self.plans.push((back, Plan::Return(place)));
    }

    /// Lets the store hang once the flickering host is online.
    fn hang_for(&mut self, place: usize) {
        let id = HostId::checked(&self.hosts[place].name).expect("an id");
        let view = self
            .server
            .as_ref()
            .and_then(|server| server.core.host(&id));
        if !view.is_some_and(|view| view.online) {
            return;
        }
        self.returning = None;
        let mut store = self.store.get();
        if store.mood != Mood::Well || self.calm {
            return;
        }
        (store.mood, store.hears_all) = (Mood::Hangs, true);
        drop(store);
        self.ledger.count("store hung");
        self.ledger
            .log(format_args!("{id} comes back, and the store hangs"));
        let leaves = self.now + self.dice.ms(100, 2_400);
        self.plans.push((leaves, Plan::Leave(place)));
        let well = self.now + self.dice.ms(2_500, 9_000);
        self.plans.push((well, Plan::Recover));
    }

    /// Names of the hosts that are online in the end.
    fn names(&self) -> BTreeSet<String> {
        let left = self
            .hosts
            .iter()
            .filter(|host| self.gone != Some(host.place));
        left.map(|host| host.name.clone()).collect()
    }

    fn start_server(&mut self) {
        if self.server.is_some() {
            return;
        }
        self.processes += 1;
        self.ledger.server_born();
        self.ledger
            .log(format_args!("server {} starts", self.processes));
        self.server = Some(Server::start(
            self.processes,
            &self.store,
            self.spool.path(),
            &self.wall,
            self.now,
            &mut self.dice,
        ));
    }

    /// Kills the server. Its kernel closes the connections; with `silent` its machine is gone and
    /// sends nothing.
    fn kill_server(&mut self, silent: bool) {
        let Some(server) = self.server.take() else {
            return;
        };
        drop(server);
        self.ledger
            .log(format_args!("the server is killed, silent: {silent}"));
        self.ledger.count("server killed");
        self.ledger.server_died();
        self.requests.clear();
        let ids: Vec<u64> = self.network.links.keys().copied().collect();
        for id in ids {
            let Some(link) = self.network.links.get_mut(&id) else {
                continue;
            };
            let had = link.server != ServerEnd::Gone;
            link.server = ServerEnd::Gone;
            if had && !silent {
                let last = if self.dice.one_in(2) {
                    Chunk::Fin
                } else {
                    Chunk::Reset
                };
                self.network.send_down(id, last, self.now, &mut self.dice);
            }
        }
        self.network
            .parcels
            .retain(|parcel| parcel.to.port() != 11_452);
        let at = self.now + pause(&mut self.dice);
        self.plans.push((at, Plan::StartServer));
    }

    fn fault(&mut self) {
        match self.dice.below(20) {
            0..5 => self.break_link(),
            5..7 => self.cut_off(),
            7..9 => self.crash_host(),
            9 if self.has_rollouts && self.dice.one_in(2) => self.stop_server(),
            9 => {
                let silent = self.dice.one_in(2);
                self.kill_server(silent);
            }
            10 => {
                let span = pause(&mut self.dice);
                if let Some(server) = &mut self.server {
                    self.ledger
                        .log(format_args!("the server is stopped for {span:?}"));
                    self.ledger.count("server stopped");
                    server.stopped_until = self.now + span;
                }
            }
            11..15 => self.break_store(),
            15 => self.step_clocks(),
            16..18 => {
                let slow = [1, 20, 200, 1_500][self.dice.place(4)];
                self.network.loss = self.dice.below(31);
                self.network.repeats = self.dice.below(51);
                self.network.slow_ms = slow;
            }
            _ => {
                let cuts = [0, 0, 5, 20][self.dice.place(4)];
                let slow = [1, 10, 200, 1_500][self.dice.place(4)];
                let mut store = self.store.get();
                (store.cuts, store.slow_ms) = (cuts, slow);
            }
        }
    }

    /// Breaks a connection; each end may or may not learn of it.
    fn break_link(&mut self) {
        let count = self.network.links.len();
        if count == 0 {
            return;
        }
        let place = self.dice.place(count);
        let Some(id) = self.network.links.keys().nth(place).copied() else {
            return;
        };
        let how = self.dice.below(5);
        self.ledger.count("connections broken");
        self.ledger
            .log(format_args!("connection {id} breaks, {how}"));
        let late = self.now + self.dice.ms(0, GIVES_UP.as_millis());
        let Some(link) = self.network.links.get_mut(&id) else {
            return;
        };
        match how {
            // Both ends notice it, sooner or later.
            0 => {
                link.up.push(self.now, Chunk::Reset);
                link.down.push(late, Chunk::Reset);
                (link.up.is_hole, link.down.is_hole) = (true, true);
            }
            1 => {
                link.up.push(late, Chunk::Dead);
                link.down.push(self.now, Chunk::Dead);
                (link.up.is_hole, link.down.is_hole) = (true, true);
            }
            // One direction works, and neither end learns of it.
            2 => link.up.is_hole = true,
            3 => link.down.is_hole = true,
            _ => (link.up.is_hole, link.down.is_hole) = (true, true),
        }
        // Unacknowledged data ends a connection after some time, too.
        link.host_gives_up = Some(late + GIVES_UP);
    }

    /// Cuts off one host or all hosts.
    fn cut_off(&mut self) {
        let all = self.dice.one_in(4);
        let until = self.now + pause(&mut self.dice);
        self.ledger.count("partitions");
        self.ledger
            .log(format_args!("cut off until {until:?}, all: {all}"));
        let one = self.dice.place(self.hosts.len());
        for place in 0..self.hosts.len() {
            if all || place == one {
                self.network.cut_off(place, until);
                self.end_retries(place, until);
            }
        }
    }

    /// Ends connections that are cut off for longer than a kernel retries.
    fn end_retries(&mut self, place: usize, until: Instant) {
        let retries_end = self.now + GIVES_UP;
        if until <= retries_end {
            return;
        }
        for link in self
            .network
            .links
            .values_mut()
            .filter(|link| link.host == place)
        {
            link.host_gives_up = Some(retries_end + GIVES_UP);
            let (server, host) = (self.dice.one_in(2), self.dice.one_in(2));
            if server {
                link.up.chunks.clear();
                link.up.chunks.push_back((retries_end, Chunk::Dead));
                link.up.is_hole = true;
            }
            if host {
                link.down.chunks.clear();
                link.down.chunks.push_back((retries_end, Chunk::Dead));
                link.down.is_hole = true;
            }
        }
    }

    fn crash_host(&mut self) {
        let place = self.dice.place(self.hosts.len());
        if !self.hosts[place].is_running() || self.gone == Some(place) {
            return;
        }
        let silent = self.dice.one_in(2);
        self.ledger.count("hosts crashed");
        self.ledger.log(format_args!(
            "{} crashes, silent: {silent}",
            self.hosts[place].name
        ));
        self.hosts[place].crash(silent, &mut around_hosts!(self));
        self.hosts[place].wakes = Some(self.now + pause(&mut self.dice));
    }

    fn break_store(&mut self) {
        let mood = self.store.get().mood;
        if mood != Mood::Well {
            return;
        }
        let at = self.now + pause(&mut self.dice);
        let what = self.dice.below(8);
        self.ledger
            .log(format_args!("the store breaks, {what}, until {at:?}"));
        let mut store = self.store.get();
        match what {
            0..3 => {
                let loss = [Loss::Nothing, Loss::LastSecond, Loss::Everything][what as usize];
                store.crash(loss);
                drop(store);
                self.ledger.count("store crashed");
                self.ledger.store_lost(loss, Span::from_secs(8));
            }
            3 | 4 => {
                store.mood = Mood::Hangs;
                self.ledger.count("store hung");
            }
            5 => store.mood = Mood::ReadOnly,
            6 => {
                store.lose(Loss::Everything);
                drop(store);
                self.ledger.count("store emptied");
                return self
                    .ledger
                    .store_lost(Loss::Everything, Span::from_millis(3_500));
            }
            _ => return store.hang_up(),
        }
        self.plans.push((at, Plan::Recover));
    }

    /// A day forward or back: the server's clock, or a host's.
    fn step_clocks(&mut self) {
        let by = self.dice.below(2 * DAY_MS) as i64 - DAY_MS as i64;
        self.ledger.count("clock steps");
        if self.dice.one_in(2) {
            let wall = self.wall.load(Ordering::Relaxed) as i64 + by;
            self.wall.store(wall as u64, Ordering::Relaxed);
        } else {
            let place = self.dice.place(self.hosts.len());
            self.hosts[place].wall_ms += by;
        }
    }

    /// Posts a task for some or all hosts.
    fn dispatch(&mut self) {
        self.tasks += 1;
        self.requesters += 1;
        let key = format!("AC{}", self.tasks);
        let count = 1 + self.dice.below(3);
        let commands = (0..count).map(|n| (format!("work {key} {n}"), (count - n) as f64));
        let mut named: BTreeSet<String> = BTreeSet::new();
        for host in &self.hosts {
            if self.dice.one_in(2) {
                named.insert(host.name.clone());
            }
        }
        let all = self.dice.one_in(3) || named.is_empty();
        let mut task = NewTask {
            commands: commands.collect(),
            hosts: (!all).then(|| named.into_iter().collect()),
            queue: self.dice.one_in(2),
            request: self.dice.number(),
            key: key.clone(),
            rollout: Default::default(),
        };
        if self.has_rollouts {
            task.queue = false;
            task.rollout = Box::new(rollouts::options(&mut self.dice));
        }
        if self.server.is_some() {
            if self.has_rollouts {
                self.ledger.rollouts.asked(&key, &task.rollout);
            }
            self.ledger.asked(self.requesters, &key);
            self.requests
                .push_back((self.requesters, Request::Dispatch(task)));
        }
    }

    /// Changes a rollout as an operator does.
    fn control(&mut self) {
        self.requesters += 1;
        let request = self
            .ledger
            .rollouts
            .control(self.requesters, &mut self.dice);
        self.request(request);
    }

    fn request(&mut self, request: Option<Request>) {
        if let Some(request) = request
            && self.server.is_some()
        {
            self.ledger
                .log(format_args!("{} asks {request:?}", self.requesters));
            self.requests.push_back((self.requesters, request));
        }
    }

    /// Stops the server as a deployment does.
    fn stop_server(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        self.ledger
            .log(format_args!("the server is stopped for good"));
        self.ledger.count("server stopped for good");
        server.stop(&mut around_server!(self), &self.store);
        self.ledger.copy(self.spool.path().join("recent").exists());
        self.server = Some(server);
        self.kill_server(false);
    }

    /// Ends all faults.
    fn end_faults(&mut self) {
        self.calm = true;
        self.ledger.log(format_args!("the faults stop"));
        (
            self.network.loss,
            self.network.repeats,
            self.network.slow_ms,
        ) = (0, 0, 20);
        self.network.cut_off.clear();
        {
            let mut store = self.store.get();
            (store.cuts, store.slow_ms) = (0, 5);
            store.recover();
        }
        self.start_server();
        if let Some(server) = &mut self.server {
            server.stopped_until = server.stopped_until.min(self.now);
        }
        for host in &mut self.hosts {
            if !host.is_running() && self.gone != Some(host.place) {
                host.wakes = Some(self.now);
            }
        }
    }

    /// Reason why the world is not at rest yet.
    fn pending_work(&mut self) -> Option<String> {
        let server = self.server.as_ref()?;
        if !server.is_drained() {
            return Some(format!("not drained: {:?}", server.core.stats()));
        }
        let gone = self.gone.map(|place| self.hosts[place].name.clone());
        for host in self
            .hosts
            .iter()
            .filter(|host| gone.as_ref() != Some(&host.name))
        {
            if let Some(why) = host.pending_work() {
                return Some(format!("{} {why}", host.name));
            }
        }
        let left = self.spooled();
        if left > 0 {
            return Some(format!("{left} segments in the spool"));
        }
        for name in self.names() {
            let id = HostId::checked(&name).expect("an id");
            if !server.core.host(&id).is_some_and(|view| view.online) {
                return Some(format!("{name} is not online"));
            }
        }
        let online = server.core.stats().hosts_online;
        if online != self.names().len() as u64 {
            return Some(format!("{online} hosts are online"));
        }
        let open = self.unknown_host().or_else(|| self.open_task());
        open.or_else(|| self.running_rollout())
    }

    /// An agent without its system information in the store. Plain hosts are not checked: they send
    /// it once, perhaps over a connection that is read late and then ends, and it is not sent
    /// again.
    fn unknown_host(&self) -> Option<String> {
        let mut store = self.store.get();
        let is_checked = |host: &&Host| host.is_agent() && self.gone != Some(host.place);
        self.hosts.iter().filter(is_checked).find_map(|host| {
            let id = HostId::checked(&host.name).expect("an id");
            let info = store.set(&schema::system_info(&id));
            (info != [host.name.as_str()]).then(|| format!("{} is {info:?}", host.name))
        })
    }

    fn spooled(&self) -> usize {
        let files = std::fs::read_dir(self.spool.path()).expect("the spool is there");
        let is_segment = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.expect("it can be read").file_name();
            name.to_string_lossy().ends_with(".seg")
        };
        files.map(is_segment).filter(|is| *is).count()
    }

    /// A stored task with a host that is not in a terminal state.
    fn open_task(&mut self) -> Option<String> {
        let mut store = self.store.get();
        for key in self.stored_tasks(&mut store) {
            for (host, word) in store.hash(&schema::task_hosts(&key)) {
                let state = TaskState::parse(&word).expect("a state");
                // A queued delivery waits for a host that does not return.
                let waits = state == TaskState::Queued && !self.names().contains(&host);
                let waits =
                    waits || state == TaskState::Held && self.waits_for_wave(&mut store, &key);
                if !state.has_ended() && !waits {
                    return Some(format!("{host} is {word} in {key}"));
                }
            }
        }
        None
    }

    /// A rollout that is not paused, and has not ended.
    fn running_rollout(&self) -> Option<String> {
        let mut store = self.store.get();
        let mut keys = self.stored_tasks(&mut store).into_iter();
        keys.find_map(|key| match store.dump(&schema::task_rollout(&key)) {
            Some(Dump::Text(text)) if text.contains(r#""state":"running""#) => {
                Some(format!("{key} runs: {text}"))
            }
            _ => None,
        })
    }

    /// Returns whether the rollout of a task is paused, or waits for a host that is gone.
    fn waits_for_wave(&self, store: &mut crate::store::Depot, key: &TaskKey) -> bool {
        let names = self.names();
        let states = store.hash(&schema::task_hosts(key));
        let is_gone = |(host, word): &(String, String)| word == "queued" && !names.contains(host);
        let text = match store.dump(&schema::task_rollout(key)) {
            Some(Dump::Text(text)) => text,
            _ => String::new(),
        };
        text.contains(r#""state":"paused""#) || states.iter().any(is_gone)
    }

    /// The tasks in the store.
    fn stored_tasks(&self, store: &mut crate::store::Depot) -> Vec<TaskKey> {
        let Some(Dump::Sorted(tasks)) = store.dump(schema::TASKS) else {
            return Vec::new();
        };
        let keys = tasks
            .iter()
            .map(|(key, _)| TaskKey::parse(key, "AC").expect("a key"));
        keys.collect()
    }

    /// Checks that server, store and ledger agree.
    fn assert_agreement(&mut self) {
        let names: Vec<String> = self.names().into_iter().collect();
        let shared = self.store.clone();
        let mut store = shared.get();
        assert_eq!(store.set(schema::EXISTS), names, "`exists`");
        assert_eq!(
            store.set(&schema::node_hosts(NODE)),
            names,
            "the node's set"
        );
        for name in &names {
            let id = HostId::checked(name).expect("an id");
            let fields = store.hash(&schema::host(&id));
            let node = fields.iter().find(|(field, _)| field == "node");
            assert_eq!(node.map(|(_, value)| value.as_str()), Some(NODE), "{name}");
        }
        for acked in std::mem::take(&mut self.ledger.acked) {
            let id = HostId::checked(&acked.host).expect("an id");
            match &acked.what {
                What::Done { key, commands } => {
                    let key = TaskKey::parse(key, "AC").expect("a key");
                    let list = store.list(&schema::complete(&key, &id));
                    for command in commands {
                        assert!(
                            list.contains(command),
                            "acknowledged and gone: {acked:?}, there is {list:?}"
                        );
                    }
                }
                What::Output { code, command } => {
                    let results = store.hash(&schema::task_result(code, &id));
                    let found = results.iter().any(|(field, _)| field == command);
                    assert!(found, "acknowledged and gone: {acked:?}");
                }
            }
        }
        for (key, fate) in self.ledger.fates.clone() {
            let book = store.book(&key);
            match fate {
                Fate::Stored {
                    may_be_gone: true, ..
                } if book.is_empty() => {}
                Fate::Stored { hosts, .. } => {
                    assert!(!book.is_empty(), "{key} was stored and is gone");
                    let key = TaskKey::parse(&key, "AC").expect("a key");
                    let states = store.hash(&schema::task_hosts(&key));
                    let named: Vec<String> = states.into_iter().map(|(host, _)| host).collect();
                    let mut hosts = hosts;
                    hosts.sort();
                    assert_eq!(named, hosts, "the hosts of {key}");
                }
                Fate::Refused => assert!(book.is_empty(), "{key} was refused and is stored"),
                Fate::Asked => panic!("the request for {key} was never answered"),
                Fate::Unknown => {}
            }
        }
    }
}

fn udp_of_server() -> SocketAddr {
    let tcp: SocketAddr = ADDRESS.parse().expect("an address");
    SocketAddr::new(tcp.ip(), 11_452)
}
