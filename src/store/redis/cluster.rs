//! A Redis Cluster: one connection to each primary, and the executor of commands over them.
//!
//! ```text
//!             ┌─ a level: commands up to a barrier ──────────────────────────────┐
//!  commands ──┼─▶ slot of the key ─▶ windows for each primary ─▶ all are sent    │──▶ the next level
//!             │            ▲                                     │ all are read  │
//!             │            └── MOVED, ASK: again, in order ◀─────┘               │
//!             └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! - Every command has at most one key. Commands on one key keep their order. A command behind a
//!   barrier is sent when all before it have been answered, whatever server they are on.
//! - All primaries are waited for together: silent ones are noticed after one timeout.
//! - A silent or closed connection to any primary ends the store connection, and so does a primary
//!   that was replaced: its replica may lack the last writes, which are then replayed. A slot that
//!   moves between two primaries ends nothing.

use std::borrow::Borrow;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connection::{Commands, Connection, is_noscript, never_begun};
use super::errors::{Fault, judge};
use super::sentinel::{Shares, at};
use super::slots::{Redirect, SLOTS, SlotRange, key_of, slot, topology};
use crate::limits::{
    CLUSTER_PRIMARIES_MAX, CLUSTER_REFRESH_MS_MIN, CLUSTER_REFRESH_S, CLUSTER_ROUNDS_MAX,
};
use crate::store::address::{RedisAddress, RedisSeeds};
use crate::store::{Redirects, StoreError};

/// Tags that are tried for a key at a primary: enough for one that has a single slot.
const TAGS_MAX: usize = 200_000;

/// Pings of idle connections after which each primary has been pinged.
const PING_TURNS: usize = 3;

/// Connections to all primaries.
pub(super) struct Cluster {
    address: RedisAddress,
    seeds: RedisSeeds,
    timeout: Duration,
    primaries: Vec<Primary>,
    /// The primary of each slot, as its place in `primaries`.
    owners: Box<[u16; SLOTS]>,
    refreshed: Instant,
    /// The primary whose map was last requested.
    asked_last: usize,
    /// The primaries that were pinged last.
    pings: usize,
    /// A redirect has shown that slots have moved.
    is_stale: bool,
    redirects: Redirects,
}

/// A primary, and the connection to it.
struct Primary {
    host: String,
    port: u16,
    connection: Connection,
    /// A word whose slot this primary has, for keys of our own at each primary.
    tag: String,
}

/// A command on its way.
#[derive(Clone, Copy)]
struct Pending {
    set: usize,
    index: usize,
    slot: usize,
    /// The primary of a redirect with ASK, for this command only.
    asks: Option<usize>,
}

/// The commands for one primary, and the recipient of each reply: none for ASKING.
#[derive(Default)]
struct Lane {
    commands: Commands,
    pending: Vec<Option<Pending>>,
}

impl Cluster {
    /// Asks the servers of the last connection and the seeds for the topology, and connects to all
    /// primaries.
    ///
    /// # Errors
    /// As [`Link::open`](super::link::Link::open).
    pub(super) fn open(
        address: &RedisAddress,
        seeds: &RedisSeeds,
        known: &[(String, u16)],
        rotation: usize,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        let ranges = find(address, seeds, known, rotation, timeout)?;
        let mut cluster = Self {
            address: address.clone(),
            seeds: seeds.clone(),
            timeout,
            primaries: Vec::new(),
            owners: Box::new([0; SLOTS]),
            refreshed: Instant::now(),
            asked_last: 0,
            pings: 0,
            is_stale: false,
            redirects: Redirects::default(),
        };
        cluster.adopt(&ranges)?;
        Ok(cluster)
    }

    /// Host and port of each primary.
    pub(super) fn servers(&self) -> Vec<(String, u16)> {
        let of = |primary: &Primary| (primary.host.clone(), primary.port);
        self.primaries.iter().map(of).collect()
    }

    /// Takes the counts since the last call.
    pub(super) fn take_redirects(&mut self) -> Redirects {
        std::mem::take(&mut self.redirects)
    }

    /// Checks that no primary has closed its connection, without a request.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        let mut primaries = self.primaries.iter();
        primaries.try_for_each(|primary| {
            let open = primary.connection.look();
            open.map_err(|error| at("", &primary.host, primary.port, error))
        })
    }

    /// A word for each primary whose slot it has.
    pub(super) fn tags(&self) -> Vec<String> {
        let tags = self.primaries.iter().map(|primary| primary.tag.clone());
        tags.filter(|tag| !tag.is_empty()).collect()
    }

    /// Runs a command on each primary, made for a tag in one of its slots. The replies are in the
    /// order of the primaries.
    pub(super) fn on_each(
        &mut self,
        command: impl Fn(&str) -> Cmd,
    ) -> Result<Vec<Value>, StoreError> {
        self.on_some(|_, tag| Some(command(tag)))
    }

    /// Tests the connections: all for their end, and a third of the primaries, in turn, for an
    /// answer. An idle node sends few commands.
    pub(super) fn ping(&mut self) -> Result<Vec<Value>, StoreError> {
        self.refresh_if_due()?;
        self.look()?;
        self.pings = (self.pings + 1) % PING_TURNS;
        let turn = self.pings;
        self.on_some(|place, _| (place % PING_TURNS == turn).then(|| cmd!("PING")))
    }

    /// Runs a command on some primaries, made for the place and the tag of each.
    fn on_some(
        &mut self,
        command: impl Fn(usize, &str) -> Option<Cmd>,
    ) -> Result<Vec<Value>, StoreError> {
        let lanes = self.primaries.iter().enumerate().map(|(index, primary)| {
            let pending = Pending {
                set: 0,
                index,
                slot: 0,
                asks: None,
            };
            let commands: Commands = command(index, &primary.tag).into_iter().collect();
            Lane {
                pending: vec![Some(pending); commands.len()],
                commands,
            }
        });
        let lanes = lanes.collect();
        let mut answers = self.exchange(lanes)?;
        answers.sort_by_key(|(pending, ..)| pending.index);
        Ok(answers.into_iter().map(|(_, _, reply)| reply).collect())
    }

    /// As [`Link::request_each`](super::link::Link::request_each).
    pub(super) fn request_each<C: Borrow<Commands>, T>(
        &mut self,
        sets: impl Iterator<Item = (C, T)>,
    ) -> Result<Vec<(Vec<Value>, T)>, StoreError> {
        self.refresh_if_due()?;
        let sets: Vec<(C, T)> = sets.collect();
        let commands: Vec<&Commands> = sets.iter().map(|(commands, _)| commands.borrow()).collect();
        let mut replies: Vec<Vec<Value>> = commands
            .iter()
            .map(|commands| vec![Value::Nil; commands.len()])
            .collect();
        for level in 0.. {
            let (mut pending, mut is_last) = (Vec::new(), true);
            for (set, commands) in commands.iter().enumerate() {
                let Some(level) = commands.level(level) else {
                    continue;
                };
                is_last = false;
                pending.extend(level.map(|index| Pending {
                    set,
                    index,
                    slot: key_of(commands.one(index)).map_or(0, slot),
                    asks: None,
                }));
            }
            if is_last {
                break;
            }
            self.settle(&commands, pending, &mut replies)?;
        }
        drop(commands);
        let values = sets.into_iter().map(|(_, value)| value);
        Ok(replies.into_iter().zip(values).collect())
    }

    /// Runs commands until all have been answered by the primary of their slot.
    fn settle(
        &mut self,
        commands: &[&Commands],
        mut pending: Vec<Pending>,
        replies: &mut [Vec<Value>],
    ) -> Result<(), StoreError> {
        for _ in 0..CLUSTER_ROUNDS_MAX {
            if pending.is_empty() {
                return Ok(());
            }
            let lanes = self.lanes(commands, &pending);
            pending.clear();
            let (mut newest, mut forgetful) = (None, Vec::new());
            for (one, from, reply) in self.exchange(lanes)? {
                let redirect = match &reply {
                    Value::ServerError(error) => Redirect::of(error),
                    _ => None,
                };
                match redirect {
                    Some(redirect) => {
                        let (one, to) = self.follow(one, from, redirect)?;
                        newest = newest.or(Some(to).filter(|_| one.asks.is_none()));
                        pending.push(one);
                    }
                    None if is_noscript(&reply) => {
                        forgetful.push(from);
                        pending.push(one);
                    }
                    None => replies[one.set][one.index] = reply,
                }
            }
            forgetful.sort_unstable();
            forgetful.dedup();
            for at in forgetful {
                self.primaries[at].connection.load_scripts()?;
            }
            pending.sort_unstable_by_key(|one| (one.set, one.index));
            if let Some(at) = newest {
                self.refresh_at(at)?;
            }
        }
        match pending.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Unavailable(
                "the Cluster redirects commands again and again".to_owned(),
            )),
        }
    }

    /// Distributes the commands over the primaries.
    fn lanes(&self, commands: &[&Commands], pending: &[Pending]) -> Vec<Lane> {
        let mut lanes: Vec<Lane> = self.primaries.iter().map(|_| Lane::default()).collect();
        let asking = cmd!("ASKING").get_packed_command();
        for one in pending {
            let owner = usize::from(self.owners[one.slot]);
            let lane = &mut lanes[one.asks.unwrap_or(owner)];
            if one.asks.is_some() {
                lane.commands.push_packed(&asking);
                lane.pending.push(None);
            }
            lane.commands.push_packed(commands[one.set].one(one.index));
            lane.pending.push(Some(*one));
        }
        lanes
    }

    /// Returns the command with its next server, which `from` named, and the index of that server.
    fn follow(
        &mut self,
        one: Pending,
        from: usize,
        redirect: Redirect,
    ) -> Result<(Pending, usize), StoreError> {
        let host = match &*redirect.host {
            "" => self.primaries[from].host.clone(),
            host => host.to_owned(),
        };
        let to = self.primary(&host, redirect.port)?;
        if redirect.is_ask {
            self.redirects.asked += 1;
            let asks = Some(to);
            return Ok((Pending { asks, ..one }, to));
        }
        self.redirects.moved += 1;
        self.is_stale = true;
        self.owners[one.slot] = to as u16;
        Ok((Pending { asks: None, ..one }, to))
    }

    /// Sends each primary its commands, and reads the replies, a window at a time. Returns each
    /// command with the primary that answered it, and the reply.
    fn exchange(&mut self, lanes: Vec<Lane>) -> Result<Vec<(Pending, usize, Value)>, StoreError> {
        let mut answers = Vec::new();
        let mut windows: Vec<_> = lanes.iter().map(|lane| lane.commands.windows()).collect();
        let mut replies: Vec<Vec<Value>> = lanes.iter().map(|_| Vec::new()).collect();
        loop {
            let mut awaited = Vec::new();
            for (at_lane, windows) in windows.iter_mut().enumerate() {
                let Some((bytes, count)) = windows.next() else {
                    continue;
                };
                let primary = &mut self.primaries[at_lane];
                let sent = primary.connection.send(bytes);
                sent.map_err(|error| at("", &primary.host, primary.port, error))?;
                awaited.push((at_lane, count));
            }
            if awaited.is_empty() {
                break;
            }
            let deadline = Instant::now() + self.timeout;
            for (at_lane, count) in awaited {
                let primary = &mut self.primaries[at_lane];
                let into = &mut replies[at_lane];
                let read = primary.connection.read_before(deadline, count, into);
                read.map_err(|error| at("", &primary.host, primary.port, error))?;
            }
        }
        drop(windows);
        for (from, (lane, replies)) in lanes.into_iter().zip(replies).enumerate() {
            let each = lane.pending.into_iter().zip(replies);
            answers.extend(each.filter_map(|(pending, reply)| Some((pending?, from, reply))));
        }
        Ok(answers)
    }

    /// The place of a primary. A missing connection to it is opened.
    fn primary(&mut self, host: &str, port: u16) -> Result<usize, StoreError> {
        let mut known = self.primaries.iter();
        if let Some(place) = known.position(|one| one.host == host && one.port == port) {
            return Ok(place);
        }
        if self.primaries.len() == CLUSTER_PRIMARIES_MAX {
            return Err(StoreError::Unavailable(format!(
                "the Cluster has more than {CLUSTER_PRIMARIES_MAX} primaries"
            )));
        }
        let place = self.seeds.transport.to(host, port);
        let opened = Connection::connect(&place, self.timeout).and_then(|mut connection| {
            connection.introduce(&self.address, None)?;
            Ok(connection)
        });
        let connection = opened.map_err(|error| at("", host, port, error))?;
        self.primaries.push(Primary {
            host: host.to_owned(),
            port,
            connection,
            tag: String::new(),
        });
        Ok(self.primaries.len() - 1)
    }

    /// Reads the map again if slots have moved, at most once a second, or after some time.
    fn refresh_if_due(&mut self) -> Result<(), StoreError> {
        let age = self.refreshed.elapsed();
        let is_due = match self.is_stale {
            true => age >= Duration::from_millis(CLUSTER_REFRESH_MS_MIN),
            false => age >= Duration::from_secs(CLUSTER_REFRESH_S),
        };
        match is_due {
            // The primaries in turn: one of them may be cut off from the others.
            true => {
                self.asked_last = (self.asked_last + 1) % self.primaries.len();
                self.refresh(self.asked_last)
            }
            false => Ok(()),
        }
    }

    /// Reads the map again from this primary, which a redirect has just named.
    fn refresh_at(&mut self, at: usize) -> Result<(), StoreError> {
        match self.refreshed.elapsed() >= Duration::from_millis(CLUSTER_REFRESH_MS_MIN) {
            true => self.refresh(at),
            false => Ok(()),
        }
    }

    fn refresh(&mut self, from: usize) -> Result<(), StoreError> {
        self.redirects.refreshes += 1;
        let primary = &mut self.primaries[from];
        let ranges = slots_of(&mut primary.connection, &primary.host);
        let ranges = ranges.map_err(|error| at("", &primary.host, primary.port, error))?;
        let serves = |one: &Primary| {
            ranges
                .iter()
                .any(|r| r.host == one.host && r.port == one.port)
        };
        if let Some(gone) = self
            .primaries
            .iter()
            .find(|one| !one.tag.is_empty() && !serves(one))
        {
            let why = "is no primary with slots any more";
            let error = StoreError::Unavailable(why.to_owned());
            return Err(at("", &gone.host, gone.port, error));
        }
        self.refreshed = Instant::now();
        self.is_stale = false;
        self.adopt(&ranges)
    }

    /// Enters a map. Missing connections are opened; the first silent primary ends that.
    fn adopt(&mut self, ranges: &[SlotRange]) -> Result<(), StoreError> {
        for range in ranges {
            let place = self.primary(&range.host, range.port)?;
            self.owners[range.first..=range.last].fill(place as u16);
        }
        for place in 0..self.primaries.len() {
            let has = |tag: &str| usize::from(self.owners[slot(tag.as_bytes())]) == place;
            if !has(&self.primaries[place].tag) || self.primaries[place].tag.is_empty() {
                let mut tags = (0..TAGS_MAX).map(|number| number.to_string());
                self.primaries[place].tag = tags.find(|tag| has(tag)).unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// Asks for the topology: servers that were primaries, then the seeds, from the one at `rotation` on.
/// All are waited for at most `timeout` together.
fn find(
    address: &RedisAddress,
    seeds: &RedisSeeds,
    known: &[(String, u16)],
    rotation: usize,
    timeout: Duration,
) -> Result<Vec<SlotRange>, StoreError> {
    let mut servers: Vec<&(String, u16)> = known.iter().collect();
    servers.extend(seeds.hosts.iter().filter(|seed| !known.contains(seed)));
    let first = rotation % servers.len().max(1);
    servers.rotate_left(first);
    let mut shares = Shares::new(timeout, servers.len());
    let mut failed = None;
    for (host, port) in servers {
        let share = shares.next_share();
        let place = seeds.transport.to(host, *port);
        let found = Connection::connect(&place, share).and_then(|mut connection| {
            connection.introduce(address, None)?;
            slots_of(&mut connection, host).map_err(never_begun)
        });
        match found {
            Ok(ranges) => return Ok(ranges),
            Err(error) => {
                let error = at("", host, *port, error);
                if matches!(error, StoreError::Refused(_)) {
                    return Err(error);
                }
                failed.get_or_insert(error);
            }
        }
    }
    Err(failed.unwrap_or_else(|| StoreError::Unavailable("no server is named".to_owned())))
}

fn slots_of(connection: &mut Connection, host: &str) -> Result<Vec<SlotRange>, StoreError> {
    let replies = connection.exchange_one(&Commands::from_iter([cmd!("CLUSTER", "SLOTS")]))?;
    let ranges = match replies.into_iter().next() {
        Some(Value::ServerError(error)) => Err(judge(&error)),
        Some(reply) => topology(reply, host),
        None => Err(Fault::Unavailable("a reply is missing".to_owned())),
    };
    ranges.map_err(Fault::into_store_error)
}
