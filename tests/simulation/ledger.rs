//! The ledger: records inputs and effects from outside the core, and checks their consequences.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;

use anthill::codec::message::{Flag, Incoming, Message, Push, Word};
use anthill::handlers::effect::{Effect, EventKind};
use anthill::handlers::request::{ErrorKind, Response, TaskSummary, TaskView};
use anthill::handlers::view::{Filter, StoreView};
use anthill::handlers::{Core, End};
use anthill::ids::ConnId;
use anthill::limits::RECENT_S;
use anthill::store::op::{Outcome, Reason, Settled, TaskState};
use anthill::time::{Instant, Span};

use crate::arrows::Arrows;
use crate::rollouts::Rollouts;
use crate::sequence::{self, Sequences};
use crate::server::TIMEOUT;
use crate::store::Loss;

/// A connection, as its messages show it.
#[derive(Debug)]
struct Session {
    peer: SocketAddr,
    /// Its host.
    host: Option<String>,
    /// The host sent a hello.
    identified: bool,
    /// Time of its last message; before the first, of its opening.
    last: Instant,
    /// The message that is being passed in.
    said: Option<Said>,
    /// Its place in the sequence of an old client's work.
    sequence: Option<sequence::Said>,
}

/// A message that may be acknowledged.
#[derive(Clone, Debug)]
enum Said {
    Hello {
        id: String,
    },
    Report {
        seq: Option<u64>,
        flag: Flag,
        what: What,
    },
    Other,
}

/// Content of the store after an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// These commands are among those done.
    Done { key: String, commands: Vec<String> },
    /// There is a result of this command.
    Output { code: String, command: String },
}

/// A report that was acknowledged.
#[derive(Clone, Debug)]
pub struct Acked {
    pub at: Instant,
    pub host: String,
    pub what: What,
    /// Latest time at which the store can have written it.
    written: Instant,
    /// The spool may have it, and the store not yet.
    spooled: bool,
}

impl Acked {
    /// Returns whether it is on a disk that has everything confirmed from then on.
    fn is_on_disk(&self, from: Option<Instant>) -> bool {
        from.is_some_and(|from| self.written >= from)
    }
}

/// Result of a dispatch request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// Not answered yet.
    Asked,
    /// Stored and confirmed.
    Stored {
        at: Instant,
        hosts: Vec<String>,
        /// It had ended when the store came back empty: only what is open is written again.
        may_be_gone: bool,
    },
    /// Refused.
    Refused,
    /// Unknown to every observer.
    Unknown,
}

/// A data loss of the store that the server has not repaired yet.
#[derive(Clone, Copy, Debug)]
struct Hole {
    at: Instant,
    /// From when on acknowledged things were lost by it, and are to be written again.
    from: Instant,
    /// The store has been available since.
    is_up: bool,
}

/// Age of the oldest confirmed report that a server has on disk when it dies while the store is
/// unavailable.
fn kept_at_death() -> Span {
    Span::from_secs(RECENT_S - 2)
}

/// The server's copy on disk of recently confirmed reports, while the store is unavailable. A
/// report that was never seen there had to be there all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kept {
    #[default]
    NotSeen,
    There,
    /// It was there: the store has all of it again.
    WrittenAgain,
}

/// All records of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    pub now: Instant,
    pub horizon: Instant,
    sessions: BTreeMap<ConnId, Session>,
    /// Last messages of hosts whose connections the server has closed.
    heard: BTreeMap<String, Instant>,
    told: BTreeMap<String, bool>,
    /// Renewals of claims that the store had as given up: an offline of an earlier connection came
    /// late. The host is told online again.
    returns: u64,
    /// Hosts that the store reports as held, until the first connection.
    held: BTreeSet<String>,
    inherited: BTreeSet<String>,
    /// Start of this server: it does not know earlier acknowledgements.
    born: Instant,
    /// A server is running.
    lives: bool,
    /// Time at which it reported the store as unavailable, until it is back.
    away_since: Option<Instant>,
    /// Reports confirmed from then on are on the disk of the server that died last, until another
    /// has written them.
    on_disk: Option<Instant>,
    copy: Kept,
    /// The server knows the store as available.
    is_up: bool,
    /// Time of this server's first connection to the store.
    up_since: Option<Instant>,
    waits: HashMap<(ConnId, Flag, u64), (String, What)>,
    pub acked: Vec<Acked>,
    pub fates: BTreeMap<String, Fate>,
    requesters: BTreeMap<u64, String>,
    /// Hosts that have ended a task: later reports are acknowledged and do nothing.
    ended: BTreeSet<(String, String)>,
    holes: Vec<Hole>,
    arrows: Arrows,
    pub sequences: Sequences,
    pub rollouts: Rollouts,
    /// Tasks that were asked for.
    pub shown: Vec<TaskView>,
    /// Datagrams to be sent.
    pub datagrams: Vec<(SocketAddr, String)>,
    pub counts: BTreeMap<&'static str, u64>,
    /// Log of the run, for analysing a failure.
    pub lines: Vec<String>,
    digest: DefaultHasher,
}

impl Ledger {
    /// Records a line, for the digest and for a failure report.
    pub fn log(&mut self, text: fmt::Arguments<'_>) {
        let line = format!("{:>10.3} {text}", self.now.as_nanos() as f64 / 1e9);
        self.digest.write(line.as_bytes());
        self.lines.push(line);
    }

    /// Digest: equal for two runs of one seed.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Records that an old client has run a command.
    pub fn ran(&mut self, host: &str, command: &str) {
        self.count("commands run by old clients");
        self.log(format_args!("{host} has run {command}"));
        let pair = (host.to_owned(), command.to_owned());
        let times = self.sequences.ran.entry(pair).or_default();
        *times += 1;
        if *times > 1 {
            self.count("commands run again by old clients");
        }
    }

    /// Records a datagram to a host.
    pub fn sends(&mut self, to: SocketAddr, text: String) {
        let wrong = self.sequences.sends(to, &text, self.now);
        assert_eq!(wrong, None, "an old client is busy");
        let host = self.rollouts.addresses.get(&to).cloned();
        if let Some(host) = host {
            self.rollouts.sent(&text, &host);
        }
        self.datagrams.push((to, text));
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Records the end of the server and the loss of its memory.
    pub fn server_died(&mut self) {
        self.lives = false;
        self.on_disk = self.left_on_disk();
        self.copy = Kept::NotSeen;
        if !self.holes.is_empty() {
            self.rollouts.lost();
        }
        self.rollouts.server_died();
        for hole in std::mem::take(&mut self.holes) {
            // The server that was to write it again is dead.
            let lost = |at: Instant| at >= hole.from && at <= hole.at + Span::from_millis(100);
            let from = self.on_disk;
            self.acked.retain(|acked| {
                let is_lost = lost(acked.at) || lost(acked.written) || acked.spooled;
                !is_lost || acked.is_on_disk(from)
            });
            for fate in self.fates.values_mut() {
                if matches!(fate, Fate::Stored { at, .. } if *at <= hole.at) {
                    *fate = Fate::Unknown;
                }
            }
        }
        for (_, key) in std::mem::take(&mut self.requesters) {
            self.fates.insert(key, Fate::Unknown);
        }
        self.sessions.clear();
        self.heard.clear();
        self.told.clear();
        self.returns = 0;
        self.held.clear();
        self.inherited.clear();
        self.waits.clear();
        self.arrows.forget_stored();
        self.sequences.server_died();
        self.datagrams.clear();
        self.up_since = None;
        self.away_since = None;
        self.is_up = false;
    }

    /// From when on what was confirmed is on the disk of a server that dies now: if it found the store away, and nothing was
    /// lost since that it cannot know of.
    fn left_on_disk(&self) -> Option<Instant> {
        if self.copy == Kept::WrittenAgain {
            return None;
        }
        let found = self.away_since;
        let unknown = |hole: &Hole| hole.at >= self.born && found.is_none_or(|away| hole.at > away);
        if self.holes.iter().any(unknown) {
            return None;
        }
        // Of what its predecessors confirmed it has what it has written again itself.
        let left = found.map(|away| (away - kept_at_death()).max(self.born));
        // One that never had the store leaves there what it found.
        match self.up_since {
            None => self.on_disk.or(left),
            Some(_) => left,
        }
    }

    /// The store thread has done something; whether there is a copy on its disk now.
    pub fn copy(&mut self, is_there: bool) {
        self.copy = match (is_there, self.copy) {
            (true, _) => Kept::There,
            (false, Kept::There) => Kept::WrittenAgain,
            (false, before) => before,
        };
    }

    /// Records the start of a server.
    pub fn server_born(&mut self) {
        self.born = self.now;
        self.lives = true;
    }

    /// The store has lost something; `kept` is how far back the server writes again what it acknowledged.
    pub fn store_lost(&mut self, loss: Loss, kept: Span) {
        let now = self.now;
        // What the last server had on disk when it died is not touched by what the store loses meanwhile.
        let on_disk = self.on_disk.filter(|_| !self.lives);
        let is_on_disk = |acked: &Acked| acked.is_on_disk(on_disk);
        if loss == Loss::Everything && self.lives && !self.holes.is_empty() {
            // Emptied again before it was restored: what was written in between may conflict with
            // the rest.
            self.acked.clear();
        }
        let from = match loss {
            Loss::Nothing => return,
            Loss::LastSecond => {
                let (from, born) = (now - Span::from_secs(2), self.born);
                self.acked
                    .retain(|acked| is_on_disk(acked) || acked.written < from || acked.at >= born);
                from
            }
            Loss::Everything => {
                let known = (now - kept).max(self.born);
                self.acked
                    .retain(|acked| is_on_disk(acked) || acked.at >= known);
                now - kept
            }
        };
        if self.up_since.is_none() {
            // No server is there that knows what to write again.
            self.rollouts.lost();
            self.acked
                .retain(|acked| is_on_disk(acked) || acked.at < from && loss == Loss::LastSecond);
            for fate in self.fates.values_mut() {
                if matches!(fate, Fate::Stored { at, .. } if *at >= from || loss == Loss::Everything)
                {
                    *fate = Fate::Unknown;
                }
            }
            if loss == Loss::Everything {
                return;
            }
        }
        self.holes.push(Hole {
            at: now,
            from,
            is_up: false,
        });
    }

    /// Records a dispatch request.
    pub fn asked(&mut self, requester: u64, key: &str) {
        self.requesters.insert(requester, key.to_owned());
        self.fates.insert(key.to_owned(), Fate::Asked);
    }

    pub fn opened(&mut self, now: Instant, conn: ConnId, peer: SocketAddr) {
        let session = Session {
            peer,
            host: None,
            identified: false,
            last: now,
            said: None,
            sequence: None,
        };
        self.sequences.unsure(&peer.ip().to_string());
        self.sessions.insert(conn, session);
    }

    pub fn ended(&mut self, conn: ConnId, end: End) {
        let session = self.sessions.remove(&conn);
        let host = session.and_then(|session| session.host);
        if let Some(host) = &host {
            self.sequences.unsure(host);
        }
        if let (End::Dead, Some(host)) = (end, host) {
            // The kernel has tried for long enough.
            self.heard.insert(host, Instant::ZERO);
        }
    }

    /// Records a message before it is passed in.
    pub fn comes(&mut self, conn: ConnId, incoming: &Incoming<'_>) {
        let (seq, flag) = (incoming.ask.seq, incoming.message.flag());
        let said = match &incoming.message {
            Message::Hello(hello) => Said::Hello {
                id: hello.id.to_string(),
            },
            Message::Progress(progress) => Said::Report {
                seq,
                flag,
                what: What::Done {
                    key: progress.code.to_string(),
                    commands: progress.complete.iter().map(ToString::to_string).collect(),
                },
            },
            Message::Result(header) => Said::Report {
                seq,
                flag,
                what: What::Output {
                    code: header.code.to_string(),
                    command: header.command.to_string(),
                },
            },
            _ => Said::Other,
        };
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.said = Some(said);
            session.sequence = sequence::Said::of(&incoming.message);
        }
    }

    /// It was taken; what came of it is not yet known.
    pub fn taken(&mut self, now: Instant, conn: ConnId, flag: Flag) {
        self.count(flag.as_str());
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.last = now;
        match session.said.take() {
            Some(Said::Hello { id }) => {
                session.identified = true;
                session.host = Some(id);
            }
            Some(said) => {
                let ip = session.peer.ip().to_string();
                let host = session.host.get_or_insert(ip).clone();
                if let Some(said) = session.sequence.take_if(|_| !session.identified) {
                    self.sequences.said(&host, &said, now);
                }
                if let Said::Report {
                    seq: Some(seq),
                    flag,
                    what,
                } = said
                {
                    let is_late = match &what {
                        What::Done { key, .. } => self.ended.contains(&(key.clone(), host.clone())),
                        What::Output { .. } => false,
                    };
                    if !is_late {
                        self.waits.insert((conn, flag, seq), (host, what));
                    }
                }
            }
            None => {}
        }
    }

    /// Records raw bytes, which count as messages.
    pub fn heard(&mut self, now: Instant, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.last = now;
        }
    }

    pub fn outcome(&mut self, now: Instant, outcome: &Outcome) {
        match outcome {
            Outcome::Held(hosts) if self.up_since.is_none() => {
                let held = hosts.iter().filter(|host| host.ours);
                self.held.extend(held.map(|host| host.host.to_string()));
            }
            Outcome::Available {
                session, lost_data, ..
            } => {
                self.count("store up");
                self.log(format_args!(
                    "store up, session {session}, lost_data {lost_data}"
                ));
                self.is_up = true;
                self.away_since = None;
                self.copy = Kept::NotSeen;
                let from = self.on_disk.take();
                // What the store had lost as well: it may lose its last seconds again.
                let lost = self.holes.iter().map(|hole| hole.from).min();
                let again = |acked: &&mut Acked| {
                    acked.spooled || acked.is_on_disk(from) || acked.is_on_disk(lost)
                };
                for acked in self.acked.iter_mut().filter(again) {
                    // Only now was it written, if it was not before.
                    (acked.written, acked.spooled) = (now, false);
                }
                for hole in &mut self.holes {
                    hole.is_up |= now > hole.at + Span::from_millis(2_500);
                }
                if self.up_since.is_none() {
                    self.up_since = Some(now);
                    let speaks = |host: &String| self.bound(host).next().is_some();
                    // A host that came and went before is offline, and has its event.
                    let went = |host: &String| self.told.contains_key(host);
                    let held = self.held.iter();
                    let quiet = held.filter(|host| !speaks(host) && !went(host));
                    self.inherited = quiet.cloned().collect();
                    for host in &self.held {
                        self.told.entry(host.clone()).or_insert(true);
                    }
                }
            }
            Outcome::Presence {
                settled: Settled::Returned { .. },
                ..
            } => self.returns += 1,
            Outcome::Unavailable(why) => {
                self.is_up = false;
                self.away_since = Some(now);
                // The spool took the pending operations before this event, in the same turn.
                for acked in self.acked.iter_mut().filter(|acked| acked.at >= now) {
                    acked.spooled = true;
                }
                self.count("store away");
                self.log(format_args!("store away: {why}"));
            }
            _ => {}
        }
    }

    /// The open connections of a host.
    fn bound<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (&'a ConnId, &'a Session)> {
        let sessions = self.sessions.iter();
        sessions.filter(move |(_, session)| session.host.as_deref() == Some(host))
    }

    /// Records an effect of the core.
    pub fn effect(&mut self, now: Instant, effect: &Effect) {
        match effect {
            Effect::Close { conn } => {
                self.closed(*conn);
            }
            Effect::Reply { conn, reply } => {
                let Some(seq) = reply.seq else { return };
                let waited = self.waits.remove(&(*conn, reply.flag, seq));
                match (&reply.word, waited) {
                    (Word::GotIt, Some((host, what))) => {
                        self.count("acknowledged");
                        self.log(format_args!("acknowledged {host} {what:?}"));
                        let spooled = !self.is_up;
                        self.acked.push(Acked {
                            at: now,
                            written: now,
                            host,
                            what,
                            spooled,
                        });
                    }
                    (Word::Refused(why), _) => {
                        let flag = reply.flag.as_str();
                        self.count("refused");
                        self.log(format_args!("refused {flag} of {conn:?}: {why}"));
                    }
                    _ => {}
                }
            }
            Effect::Push {
                conn,
                push: Push::Task(key),
            } => {
                let host = self.sessions.get(conn).and_then(|s| s.host.clone());
                self.rollouts.sent(key, &host.expect("a host"));
            }
            Effect::Log(note) if note.what == "rollout" => {
                self.rollouts.noted(&note.who, &note.text, now);
            }
            Effect::Tell(event) => self.event(&event.kind),
            Effect::Respond { requester, answer } => self.answered(now, *requester, answer),
            _ => {}
        }
    }

    fn answered(&mut self, now: Instant, requester: u64, answer: &Response) {
        let sessions = &self.sessions;
        let is_connected = |host: &str| {
            let of = |s: &Session| s.identified && s.host.as_deref() == Some(host);
            sessions.values().any(of)
        };
        if self.rollouts.answered(requester, answer, is_connected) {
            self.count(match answer {
                Response::Cancelled(_) => "cancelled",
                Response::Rollout { .. } => "paused or resumed",
                _ => "controls refused",
            });
            self.log(format_args!("{requester} is answered {answer:?}"));
            return;
        }
        if let Response::Task(view) = answer {
            return self.shown.push((**view).clone());
        }
        if let Response::Tasks { tasks, next } = answer {
            assert!(next.is_none(), "all tasks fit on a page");
            return self.written_again(tasks);
        }
        let Some(key) = self.requesters.remove(&requester) else {
            return;
        };
        let fate = match answer {
            Response::Dispatched { hosts, .. } => {
                self.count("dispatched");
                for (host, state) in hosts.iter() {
                    self.arrows.became(&key, host.as_str(), *state);
                }
                let hosts = hosts.iter().map(|(host, _)| host.to_string()).collect();
                let may_be_gone = false;
                Fate::Stored {
                    at: now,
                    hosts,
                    may_be_gone,
                }
            }
            Response::Error { kind, text } => {
                self.count("dispatch refused");
                self.log(format_args!("{key} is refused: {text}"));
                match kind {
                    ErrorKind::NotNow if text.contains("unknown") => Fate::Unknown,
                    _ => Fate::Refused,
                }
            }
            other => panic!("a dispatch is answered {other:?}"),
        };
        self.fates.insert(key, fate);
    }

    /// Something is lost in the store, and may be so still.
    pub fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    /// The store came back empty, and these are the tasks of the server: what is open is written again.
    fn written_again(&mut self, tasks: &[TaskSummary]) {
        let is_open = |task: &&TaskSummary| {
            let settled = |state| {
                use TaskState as T;
                matches!(state, T::Offline | T::Done | T::Failed | T::Expired)
            };
            task.hosts.iter().any(|(state, _)| !settled(*state))
        };
        let open = tasks.iter().filter(is_open);
        let open: BTreeSet<&str> = open.map(|task| task.key.as_str()).collect();
        for (key, fate) in &mut self.fates {
            if let Fate::Stored { may_be_gone, .. } = fate {
                *may_be_gone |= !open.contains(key.as_str());
            }
        }
    }

    /// Records a connection that the server closes.
    fn closed(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.remove(&conn) else {
            panic!("{conn:?} is closed after its end");
        };
        let (host, last) = (session.host, session.last);
        if let Some(host) = &host {
            self.sequences.unsure(host);
            self.heard.insert(host.clone(), last);
        }
        self.log(format_args!(
            "server closes {conn:?} of {host:?}, heard of at {last:?}"
        ));
    }

    fn event(&mut self, kind: &EventKind) {
        self.log(format_args!("event {kind:?}"));
        match kind {
            EventKind::Online { host, .. } => {
                self.count("online");
                let before = self.told.insert(host.to_string(), true);
                if before == Some(true) {
                    let left = self.returns.checked_sub(1);
                    self.returns = left.unwrap_or_else(|| panic!("{host} is told online and was"));
                }
            }
            EventKind::Offline { host, reason } => self.offline(host.as_str(), *reason),
            EventKind::Progress {
                host, key, state, ..
            } => {
                if matches!(state, TaskState::Done | TaskState::Failed) {
                    self.ended.insert((key.to_string(), host.to_string()));
                }
                if self.up_since.is_none() {
                    // It does not know its tasks yet: this is what the host said.
                    return;
                }
                let stored = self.fates.get(key.as_str());
                if matches!(stored, Some(Fate::Stored { hosts, .. }) if hosts.iter().any(|named| named == host.as_str()))
                {
                    self.arrows.became(key.as_str(), host.as_str(), *state);
                }
            }
            _ => {}
        }
    }

    /// Checks an offline event: the host has no connection, or has been silent if that is the
    /// reason.
    fn offline(&mut self, host: &str, reason: Reason) {
        self.count(reason.as_str());
        let before = self.told.insert(host.to_owned(), false);
        assert_ne!(before, Some(false), "{host} is told offline and was");
        let open: Vec<_> = self.bound(host).collect();
        assert!(
            open.is_empty(),
            "{host} is told offline ({reason:?}) and has {open:?}"
        );
        if reason == Reason::Timeout {
            let silent = self.heard.get(host).map(|last| self.horizon.since(*last));
            assert!(
                silent.is_some_and(|silent| silent >= TIMEOUT),
                "{host} is told silent, and was for {silent:?}"
            );
        }
        if reason == Reason::Lost {
            let up = self
                .up_since
                .expect("nobody is judged before the store is up");
            assert!(
                self.inherited.remove(host),
                "{host} is told lost and was not inherited"
            );
            assert!(
                self.horizon.since(up) >= TIMEOUT,
                "{host} is told lost {:?} after the store was up",
                self.horizon.since(up)
            );
        } else {
            self.inherited.remove(host);
        }
    }

    /// Between two turns: a host that is online has a connection, or is inherited and not yet to be
    /// judged; a host with a connection is online.
    pub fn after_turn(&mut self, core: &Core) {
        assert_eq!(self.arrows.wrong, None, "as told");
        let mut online = BTreeSet::new();
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let page = core.page(Filter::Online, 1_000, from);
            online.extend(page.hosts.iter().map(|host| host.id.to_string()));
            cursor = page.next;
        }
        let speaking: BTreeSet<String> = self
            .sessions
            .values()
            .filter_map(|s| s.host.clone())
            .collect();
        for host in &speaking {
            self.inherited.remove(host);
            assert!(
                online.contains(host),
                "{host} has a connection and is not online"
            );
        }
        for host in &online {
            let inherited = self.inherited.contains(host) || self.up_since.is_none();
            assert!(
                inherited || speaking.contains(host),
                "{host} is online and has no connection"
            );
        }
        for host in &self.inherited {
            assert!(online.contains(host), "{host} was held and is not online");
        }
        // Silence is found out, but a plain host's that is at work.
        for (conn, session) in &self.sessions {
            // One whose message has to wait for room is not read, and so not silent.
            if !session.identified || session.said.is_some() {
                continue;
            }
            let most = TIMEOUT;
            let silent = self.horizon.since(session.last);
            let slack = most + Span::from_millis(10);
            assert!(
                silent <= slack,
                "{conn:?} {session:?} is silent for {silent:?}"
            );
        }
        let stats = core.stats();
        assert_eq!(stats.sessions, self.sessions.len() as u64, "sessions");
        if core.store() == StoreView::Available && core.settled() {
            self.holes.retain(|hole| !hole.is_up);
        }
    }
}
