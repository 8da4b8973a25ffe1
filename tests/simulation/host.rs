//! The hosts: real agents over a disk that loses unsynced data, and plain hosts like old clients,
//! which answer by a frame and are silent while they work.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anthill::agent::Allow;
use anthill::agent::core::{AgentCore, Effect, Facts, Finished, Moment, Settings};
use anthill::agent::memory::{Memory, Record};
use anthill::codec::message::{
    Answer, Incoming, Inventory, Message, Phase, Progress, ReplyRequest, ResultCode,
};
use anthill::codec::{Order, encode};
use anthill::time::{Instant, Span, UnixMs};

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::network::{Chunk, Network, soonest};
use crate::server::{ADDRESS, TIMEOUT};
use crate::store::Shared;

/// An agent's records. Synced ones survive everything.
#[derive(Debug, Default)]
struct Disk {
    records: Vec<Record>,
    synced: usize,
    outputs: BTreeMap<u64, Vec<u8>>,
    /// Outputs that go with the next sync.
    dropped: Vec<u64>,
}

impl Disk {
    fn sync(&mut self) {
        self.synced = self.records.len();
        for seq in std::mem::take(&mut self.dropped) {
            self.outputs.remove(&seq);
        }
    }

    /// Power is gone: of what was not synced some may be there all the same, from the front.
    fn crash(&mut self, dice: &mut Dice) {
        let most = self.records.len() - self.synced;
        self.dropped.clear();
        self.records.truncate(self.synced + dice.place(most + 1));
        self.sync();
    }

    fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for record in &self.records {
            memory.apply(record.clone());
        }
        for (seq, size) in memory.outputs() {
            let kept = self.outputs.get(&seq).map(|output| output.len() as u64);
            assert_eq!(
                kept,
                Some(size),
                "the output of report {seq} is not on the disk"
            );
        }
        memory
    }
}

/// A host with an agent.
pub struct Agent {
    core: Option<AgentCore>,
    disk: Disk,
    id: Option<String>,
    push: bool,
    boots: u64,
    /// The running command, and its end.
    job: Option<(Instant, String)>,
}

/// Sleep of an old client after every command, the last one too.
const SLEEP: Span = Span::from_secs(5);

/// An old client: one thread for datagrams, and a send lock that is held while a command runs.
#[derive(Debug, Default)]
pub struct Plain {
    running: bool,
    next_beat: Instant,
    /// Datagrams that wait in its socket.
    waiting: VecDeque<String>,
    /// The book in progress, if there is one.
    book: Option<Book>,
    /// End of the running command.
    runs: Option<Instant>,
    /// End of its sleep.
    sleeps: Option<Instant>,
}

/// A task in progress at an old client.
#[derive(Debug)]
struct Book {
    key: String,
    done: Vec<String>,
    left: Vec<String>,
}

/// Kind of a host.
pub enum Kind {
    Agent(Box<Agent>),
    Plain(Plain),
}

/// A host.
pub struct Host {
    pub place: usize,
    /// Its name at the server.
    pub name: String,
    pub ip: IpAddr,
    pub udp: Option<u16>,
    kind: Kind,
    link: Option<u64>,
    /// Time at which connecting succeeds or fails.
    connecting: Option<(Instant, Option<u64>)>,
    /// Time of its start, or of a plain host's next attempt to connect.
    pub wakes: Option<Instant>,
    next_port: u16,
    /// Offset of its own wall clock.
    pub wall_ms: i64,
}

/// Context of the hosts.
pub struct Around<'a> {
    pub now: Instant,
    pub network: &'a mut Network,
    pub dice: &'a mut Dice,
    pub ledger: &'a mut Ledger,
    pub store: &'a Shared,
    /// The server's machine accepts connections.
    pub listening: bool,
    /// Commands run so far: host and command.
    pub ran: &'a mut std::collections::BTreeSet<(usize, String)>,
}

impl Host {
    pub fn agent(place: usize, ip: IpAddr, id: Option<String>, udp: Option<u16>) -> Self {
        let name = id.clone().unwrap_or_else(|| ip.to_string());
        let kind = Kind::Agent(Box::new(Agent {
            core: None,
            disk: Disk::default(),
            push: udp.is_none(),
            id,
            boots: 0,
            job: None,
        }));
        Self::new(place, name, ip, udp, kind)
    }

    pub fn plain(place: usize, ip: IpAddr, udp: Option<u16>) -> Self {
        Self::new(
            place,
            ip.to_string(),
            ip,
            udp,
            Kind::Plain(Plain::default()),
        )
    }

    fn new(place: usize, name: String, ip: IpAddr, udp: Option<u16>, kind: Kind) -> Self {
        Self {
            place,
            name,
            ip,
            udp,
            kind,
            link: None,
            connecting: None,
            wakes: Some(Instant::ZERO),
            next_port: 20_000 + 500 * place as u16,
            wall_ms: 0,
        }
    }

    pub fn is_agent(&self) -> bool {
        matches!(self.kind, Kind::Agent(_))
    }

    pub fn is_running(&self) -> bool {
        match &self.kind {
            Kind::Agent(agent) => agent.core.is_some(),
            Kind::Plain(plain) => plain.running,
        }
    }

    fn moment(&self, now: Instant) -> Moment {
        let wall = 1_800_000_000_000 + (now.as_nanos() / 1_000_000) as i64 + self.wall_ms;
        Moment {
            now,
            wall: UnixMs(u64::try_from(wall).unwrap_or(0)),
        }
    }

    /// Time of its next work.
    pub fn next(&self, network: &Network) -> Option<Instant> {
        let link = self.link.and_then(|link| network.links.get(&link));
        let comes = link.and_then(|link| soonest([link.down.next(), link.host_gives_up]));
        let connecting = self.connecting.map(|(at, _)| at);
        let own = match &self.kind {
            Kind::Agent(agent) => soonest([
                agent.core.as_ref().map(AgentCore::deadline),
                agent.job.as_ref().map(|(at, _)| *at),
            ]),
            Kind::Plain(plain) if plain.running => soonest([
                plain.runs,
                plain.sleeps,
                self.link
                    .filter(|_| plain.runs.is_none())
                    .map(|_| plain.next_beat),
            ]),
            Kind::Plain(_) => None,
        };
        soonest([comes, connecting, own, self.wakes])
    }

    /// Runs due actions.
    pub fn step(&mut self, around: &mut Around<'_>) {
        if self.wakes.is_some_and(|at| at <= around.now) {
            self.wakes = None;
            self.wake(around);
        }
        if let Some((_, link)) = self.connecting.take_if(|(at, _)| *at <= around.now) {
            match link {
                Some(link) => self.connected(link, around),
                None => self.disconnected(around),
            }
        }
        while let Some(link) = self.link {
            let found = around.network.links.get_mut(&link);
            if let Some(found) = found
                && found.host_gives_up.is_some_and(|at| at <= around.now)
            {
                found.host_gives_up = None;
                found.down.chunks.clear();
                found.down.chunks.push_back((around.now, Chunk::Dead));
            }
            let pipe = around
                .network
                .links
                .get_mut(&link)
                .map(|link| &mut link.down);
            match pipe.and_then(|pipe| pipe.pop(around.now)) {
                None => break,
                Some((_, Chunk::Bytes(bytes))) => self.bytes(&bytes, around),
                Some(_) => {
                    self.leave(Some(Chunk::Fin), around);
                    self.disconnected(around);
                }
            }
        }
        match &self.kind {
            Kind::Agent(_) => self.step_agent(around),
            Kind::Plain(_) => self.step_plain(around),
        }
    }

    /// Starts the host; a running plain host connects again.
    fn wake(&mut self, around: &mut Around<'_>) {
        let at = self.moment(around.now);
        match &mut self.kind {
            Kind::Agent(agent) => {
                if agent.core.is_some() {
                    return;
                }
                agent.boots += 1;
                let settings = Settings {
                    id: agent.id.clone(),
                    udp: self.udp,
                    push: agent.push,
                    tls: false,
                    boot: format!("{:032x}", self.place as u64 * 1_000_000 + agent.boots),
                    interval: None,
                    takes_work: true,
                    seed: around.dice.number(),
                    labels: Vec::new(),
                };
                let allow = Allow::parse(r#"["work * *"]"#).expect("an allow file");
                let mut fx = Vec::new();
                let memory = agent.disk.memory();
                agent.core = Some(AgentCore::new(
                    settings,
                    Arc::new(allow),
                    memory,
                    at,
                    &mut fx,
                ));
                around.ledger.log(format_args!("{} starts", self.name));
                self.carry_out(fx, around);
            }
            Kind::Plain(plain) => {
                plain.running = true;
                match plain.runs {
                    // Its command has the lock.
                    Some(end) => self.wakes = Some(end + Span::from_millis(1)),
                    None => self.connect(around),
                }
            }
        }
    }

    fn connect(&mut self, around: &mut Around<'_>) {
        self.next_port = self.next_port.wrapping_add(1);
        let peer = SocketAddr::new(self.ip, self.next_port);
        let cut_off = around.network.cut_off.get(&self.place);
        let free = cut_off.copied().unwrap_or(around.now).max(around.now);
        let at = free + around.dice.ms(0, around.network.slow_ms.max(1));
        let link = around.listening.then(|| {
            let (network, dice) = (&mut *around.network, &mut *around.dice);
            network.connect(self.place, peer, around.now, dice)
        });
        self.connecting = Some((at, link));
    }

    fn connected(&mut self, link: u64, around: &mut Around<'_>) {
        if !around.network.links.contains_key(&link) {
            return self.disconnected(around);
        }
        self.link = Some(link);
        let at = self.moment(around.now);
        let server: SocketAddr = ADDRESS.parse().expect("an address");
        match &mut self.kind {
            Kind::Agent(agent) => {
                let mut fx = Vec::new();
                if let Some(core) = &mut agent.core {
                    core.connected(at, self.ip, server.ip(), &mut fx);
                }
                self.carry_out(fx, around);
            }
            Kind::Plain(plain) => {
                plain.next_beat = around.now + around.dice.ms(0, 2_000);
                let hostname = self.name.clone();
                let inventory = Inventory {
                    hostname: Some(hostname.clone().into()),
                    mac: None,
                    values: vec![hostname.into()],
                    addresses: vec![self.ip.to_string().into()],
                };
                self.say(Message::Inventory(inventory), around);
            }
        }
    }

    fn disconnected(&mut self, around: &mut Around<'_>) {
        let at = self.moment(around.now);
        match &mut self.kind {
            Kind::Agent(agent) => {
                let mut fx = Vec::new();
                if let Some(core) = &mut agent.core {
                    core.disconnected(at, "simulated", &mut fx);
                }
                self.carry_out(fx, around);
            }
            Kind::Plain(_) => self.wakes = Some(around.now + around.dice.ms(500, 4_000)),
        }
    }

    /// Drops its connection, after `word` if there is one.
    fn leave(&mut self, word: Option<Chunk>, around: &mut Around<'_>) {
        let half = self.connecting.take().and_then(|(_, link)| link);
        for id in self.link.take().into_iter().chain(half) {
            if let Some(word) = &word {
                let (network, dice) = (&mut *around.network, &mut *around.dice);
                network.send_up(id, word.clone(), around.now, dice);
            }
            if let Some(link) = around.network.links.get_mut(&id) {
                link.host_has_it = false;
            }
        }
    }

    /// Kills the host; with `silent` its machine, which sends nothing.
    pub fn crash(&mut self, silent: bool, around: &mut Around<'_>) {
        let word = match around.dice.one_in(2) {
            true => Chunk::Fin,
            false => Chunk::Reset,
        };
        self.leave((!silent).then_some(word), around);
        match &mut self.kind {
            Kind::Agent(agent) => {
                agent.core = None;
                agent.job = None;
                // Killed or without power: unsynced data may be lost.
                agent.disk.crash(around.dice);
            }
            Kind::Plain(plain) => *plain = Plain::default(),
        }
    }

    fn bytes(&mut self, bytes: &[u8], around: &mut Around<'_>) {
        let at = self.moment(around.now);
        match &mut self.kind {
            Kind::Agent(agent) => {
                let mut fx = Vec::new();
                if let Some(core) = &mut agent.core {
                    core.bytes(at, bytes, &mut fx);
                }
                self.carry_out(fx, around);
            }
            Kind::Plain(_) => panic!("{} never asked for anything: {bytes:?}", self.name),
        }
    }

    /// Handles a datagram.
    pub fn datagram(&mut self, from: SocketAddr, bytes: &[u8], around: &mut Around<'_>) {
        let at = self.moment(around.now);
        match &mut self.kind {
            Kind::Agent(agent) => {
                let mut fx = Vec::new();
                if let Some(core) = &mut agent.core {
                    core.datagram(at, from.ip(), bytes, &mut fx);
                }
                self.carry_out(fx, around);
            }
            Kind::Plain(plain) => {
                if plain.running && plain.waiting.len() < 20 {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    plain.waiting.push_back(text);
                    self.step_plain(around);
                }
            }
        }
    }

    fn step_agent(&mut self, around: &mut Around<'_>) {
        let at = self.moment(around.now);
        let Kind::Agent(agent) = &mut self.kind else {
            return;
        };
        let Some(core) = &mut agent.core else { return };
        let mut fx = Vec::new();
        if let Some((_, command)) = agent.job.take_if(|(end, _)| *end <= around.now) {
            let output = vec![b'x'; around.dice.place(3_000)];
            let finished = Finished {
                exit: i32::from(around.dice.one_in(10)),
                seconds: 0.5,
                output,
                truncated: false,
            };
            around
                .ledger
                .log(format_args!("{} ends {command}", self.name));
            core.finished(finished, &mut fx);
        }
        core.tick(at, &mut fx);
        self.carry_out(fx, around);
    }

    /// Applies an agent's effects in order.
    fn carry_out(&mut self, effects: Vec<Effect>, around: &mut Around<'_>) {
        let mut more = Vec::new();
        for effect in effects {
            let Kind::Agent(agent) = &mut self.kind else {
                return;
            };
            match effect {
                Effect::Connect => self.connect(around),
                Effect::Disconnect => self.leave(Some(Chunk::Fin), around),
                Effect::Send(bytes) => {
                    agent.disk.sync();
                    self.send(bytes, around);
                }
                Effect::SendOutput { seq, .. } => {
                    if let Some(output) = agent.disk.outputs.get(&seq).cloned() {
                        self.send(output, around);
                    }
                }
                Effect::Keep { seq, output } => {
                    agent.disk.outputs.insert(seq, output);
                }
                Effect::Drop { seq } => agent.disk.dropped.push(seq),
                Effect::Write(record) => agent.disk.records.push(record),
                Effect::Run(job) => {
                    agent.disk.sync();
                    let command = job.words.join(" ");
                    assert!(agent.job.is_none(), "one command at a time");
                    let end = around.now + around.dice.ms(1, 6_000);
                    agent.job = Some((end, command.clone()));
                    around.ledger.count("commands run");
                    around
                        .ledger
                        .log(format_args!("{} runs {command}", self.name));
                    let is_new = around.ran.insert((self.place, command.clone()));
                    assert!(is_new, "{} runs {command} twice", self.name);
                }
                Effect::EndRunning => {
                    if let Some((end, _)) = &mut agent.job {
                        *end = around.now;
                    }
                }
                Effect::Look => {
                    let facts = Facts {
                        hostname: Some(self.name.clone()),
                        mac: None,
                        ipv4: vec![self.ip.to_string()],
                    };
                    if let Some(core) = &mut agent.core {
                        core.facts(facts, &mut more);
                    }
                }
                Effect::Log(note) => {
                    around
                        .ledger
                        .log(format_args!("{}: {}", self.name, note.text));
                }
            }
        }
        if !more.is_empty() {
            self.carry_out(more, around);
        }
    }

    fn send(&mut self, bytes: Vec<u8>, around: &mut Around<'_>) {
        if let Some(link) = self.link {
            let (network, dice) = (&mut *around.network, &mut *around.dice);
            network.send_up(link, Chunk::Bytes(bytes), around.now, dice);
        }
    }

    /// Sends a message of a plain host without a request for a reply.
    fn say(&mut self, message: Message<'_>, around: &mut Around<'_>) {
        let mut bytes = Vec::new();
        let ask = ReplyRequest::default();
        let order = if self.place.is_multiple_of(2) {
            Order::Little
        } else {
            Order::Big
        };
        encode(&Incoming { message, ask }, order, &mut bytes).expect("it fits");
        self.send(bytes, around);
    }

    /// Runs an old client: one action after the other, and no heartbeat while a command runs.
    fn step_plain(&mut self, around: &mut Around<'_>) {
        let Kind::Plain(plain) = &mut self.kind else {
            return;
        };
        if !plain.running {
            return;
        }
        if plain.runs.take_if(|end| *end <= around.now).is_some() {
            return self.command_ends(around);
        }
        if plain.runs.is_some() {
            return;
        }
        if plain.sleeps.take_if(|end| *end <= around.now).is_some() && plain.book.is_some() {
            plain.runs = Some(around.now + around.dice.ms(1, 8_000));
            return;
        }
        if plain.sleeps.is_none()
            && let Some(text) = plain.waiting.pop_front()
        {
            let book = around.store.get().book(&text);
            let code = match book.is_empty() {
                true => ResultCode::NoBook,
                false => ResultCode::Received,
            };
            let received = progress(&text, Phase::Received, None, &[], &book);
            if !book.is_empty() {
                plain.runs = Some(around.now + around.dice.ms(1, 8_000));
                plain.book = Some(Book {
                    key: text.clone(),
                    done: Vec::new(),
                    left: book,
                });
            }
            let task = Some(text.into());
            self.say(Message::Answer(Answer { code, task }), around);
            if code == ResultCode::Received {
                self.say(Message::Progress(received), around);
            }
            return;
        }
        if self.link.is_some() && plain.next_beat <= around.now {
            let wait = TIMEOUT.part(4) + around.dice.ms(0, 1_000);
            plain.next_beat = around.now + wait;
            if around.dice.one_in(40) {
                // A script that reports on a key of which the store will have nothing.
                let left = ["a".to_owned()];
                let key = format!("{}1", crate::store::POISON);
                let report = progress(&key, Phase::Ended, None, &left, &[]);
                self.say(Message::Progress(report), around);
            }
            self.say(Message::Heartbeat, around);
        }
    }

    /// Ends a command of an old client. Phase 2, which waited for the lock, a heartbeat and phase 3
    /// are sent at once; without a connection they are lost.
    fn command_ends(&mut self, around: &mut Around<'_>) {
        let Kind::Plain(plain) = &mut self.kind else {
            return;
        };
        let Some(mut book) = plain.book.take() else {
            return;
        };
        let whole = book.left.clone();
        let command = book.left.remove(0);
        let began = progress(&book.key, Phase::Began, Some(&command), &book.done, &whole);
        around.ledger.ran(&self.name, &command);
        book.done.push(command);
        let ended = progress(&book.key, Phase::Ended, None, &book.done, &book.left);
        if !book.left.is_empty() {
            plain.book = Some(book);
        }
        plain.sleeps = Some(around.now + SLEEP);
        plain.next_beat = around.now + TIMEOUT.part(3);
        self.say(Message::Progress(began), around);
        self.say(Message::Heartbeat, around);
        self.say(Message::Progress(ended), around);
    }

    /// Reason for not being at rest, if any.
    pub fn pending_work(&self) -> Option<String> {
        match &self.kind {
            Kind::Agent(agent) => match &agent.core {
                None => Some("does not run".to_owned()),
                Some(core) if !core.is_live() => Some("is not connected".to_owned()),
                Some(core) if core.memory().reports() > 0 => {
                    Some(format!("still has {} reports", core.memory().reports()))
                }
                Some(core) if core.memory().open().next().is_some() => {
                    Some(format!("is at {:?}", core.memory().open().next()))
                }
                Some(_) => None,
            },
            Kind::Plain(plain) if !plain.running || self.link.is_none() => {
                Some("is not connected".to_owned())
            }
            Kind::Plain(plain) if plain.book.is_some() || !plain.waiting.is_empty() => {
                Some("is at work".to_owned())
            }
            Kind::Plain(_) => None,
        }
    }
}

fn progress(
    key: &str,
    phase: Phase,
    working: Option<&str>,
    done: &[String],
    left: &[String],
) -> Progress<'static> {
    let own = |list: &[String]| list.iter().map(|text| text.clone().into()).collect();
    Progress {
        code: key.to_owned().into(),
        phase,
        working: working.map(|text| text.to_owned().into()),
        complete: own(done),
        oncall: own(left),
        lost: false,
        cancelled: false,
    }
}

/// Random time for which a host is stopped.
pub fn pause(dice: &mut Dice) -> Span {
    match dice.below(3) {
        0 => dice.ms(200, 2_000),
        1 => dice.ms(2_000, 12_000),
        _ => dice.ms(12_000, 40_000),
    }
}
