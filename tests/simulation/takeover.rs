//! Takeovers: connections of one id and of one address that come, speak, end and are found silent in any order,
//! while the store answers when it likes. What the core holds must be what the connections that are left
//! come to, after every step. Small and many, over the core alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use anthill::codec::message::{Flag, Hello, Incoming, Message, ReplyRequest, Word};
use anthill::codec::{Abnormal, DecodeError};
use anthill::handlers::effect::{Effect, Effects, EventKind};
use anthill::handlers::view::Filter;
use anthill::handlers::{Core, End, Flow, Input, Moment, Rules};
use anthill::ids::{ConnId, HostRef};
use anthill::store::op::{Op, Outcome, Settled};
use anthill::time::{Instant, Span, UnixMs};

use crate::dice::Dice;

const TIMEOUT: Span = Span::from_secs(10);
const STEPS: usize = 14;
/// The id that is fought over; addresses are the other two hosts.
const ID: &str = "ant";

/// One core, with the connections as they are known from outside.
pub struct Takeovers {
    core: Core,
    now: Instant,
    dice: Dice,
    generation: u32,
    free: Vec<u32>,
    open: BTreeMap<ConnId, Session>,
    told: BTreeSet<String>,
    /// Operations that the store has not answered: it does so in any order.
    asked: Vec<(HostRef, bool)>,
    epoch: u64,
    /// Events of this interleaving, if they are wanted.
    story: Vec<String>,
    tells: bool,
    pub interleavings: u64,
    pub replaced: u64,
}

#[derive(Debug)]
struct Session {
    peer: SocketAddr,
    host: Option<String>,
    identified: bool,
    last: Instant,
}

impl Takeovers {
    /// One that writes down what happens if it `tells`.
    pub fn new(seed: u64, tells: bool) -> Self {
        let rules = Rules {
            timeout: TIMEOUT,
            first_message: Span::from_secs(5),
            working_timeout: Span::from_secs(60),
            key_prefix: "AC".to_owned(),
            keep: Span::from_secs(7 * 86_400),
            hosts_max: 64,
            agent_port: 6655,
            rto: Span::from_secs(1),
            tries: 5,
            result_bytes: 1 << 20,
            certificates: false,
            seed,
        };
        let mut takeovers = Self {
            core: Core::new(rules, 1),
            now: Instant::ZERO + Span::from_secs(1_000),
            dice: Dice::new(seed),
            generation: 0,
            free: (0..16).collect(),
            open: BTreeMap::new(),
            told: BTreeSet::new(),
            asked: Vec::new(),
            epoch: 0,
            story: Vec::new(),
            tells,
            interleavings: 0,
            replaced: 0,
        };
        takeovers.input(Input::Outcome(Outcome::Available {
            session: 1,
            lease_clear: true,
            lost_data: false,
        }));
        takeovers
    }

    /// As many interleavings as one core goes through.
    pub fn many(&mut self) {
        for _ in 0..500 {
            self.interleave();
        }
    }

    /// One interleaving: a few steps, and then all hosts disconnect.
    fn interleave(&mut self) {
        self.story.clear();
        for _ in 0..STEPS {
            match self.dice.below(10) {
                0..3 => self.connect(),
                3..5 => self.speak(),
                5 | 6 => self.end(),
                7 => self.pull(),
                8 => self.settle(),
                _ => {
                    let ms = self.dice.ms(1, 7_000);
                    self.pass(ms);
                }
            }
            self.look();
        }
        while let Some(conn) = self.open.keys().next().copied() {
            self.end_of(conn);
            self.look();
        }
        // No connection is left, so no host is online; and beyond a minute no id is in quarantine.
        assert!(self.told.is_empty(), "{:?} left online", self.told);
        for _ in 0..4 {
            self.pull();
            while !self.asked.is_empty() {
                self.settle();
            }
        }
        self.pass(Span::from_secs(61));
        self.interleavings += 1;
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            wall: UnixMs(1_800_000_000_000 + self.now.as_nanos() / 1_000_000),
        }
    }

    /// Writes a step down, where it is wanted: that takes longer than the step itself.
    fn note(&mut self, text: fmt::Arguments<'_>) {
        if self.tells {
            self.story.push(text.to_string());
        }
    }

    /// Events that led to a failure.
    pub fn story(&self) -> String {
        self.story.join("\n")
    }

    fn connect(&mut self) {
        let Some(slot) = self.free.pop() else { return };
        self.generation += 1;
        let conn = ConnId {
            slot,
            generation: self.generation,
        };
        let port = 1_000 + (self.generation % 60_000) as u16;
        let peer = SocketAddr::from(([10, 0, 0, 1 + self.dice.below(2) as u8], port));
        self.note(format_args!("{conn:?} opens from {peer}"));
        let session = Session {
            peer,
            host: None,
            identified: false,
            last: self.now,
        };
        self.open.insert(conn, session);
        self.input(Input::Opened { conn, peer });
        match self.dice.below(4) {
            0 => {}
            1 => self.say(conn, Message::Heartbeat),
            _ => self.hello(conn),
        }
    }

    fn hello(&mut self, conn: ConnId) {
        let Some(session) = self.open.get(&conn) else {
            return;
        };
        let own = session.peer.ip().to_string();
        let id = if self.dice.one_in(4) {
            own
        } else {
            ID.to_owned()
        };
        let hello = Hello {
            id: id.into(),
            udp: None,
            push: false,
            boot: Some(["a", "b"][self.dice.place(2)].into()),
            ..Hello::default()
        };
        self.say(conn, Message::Hello(hello));
    }

    fn say(&mut self, conn: ConnId, message: Message<'_>) {
        self.note(format_args!("{conn:?} says {message:?}"));
        let Some(session) = self.open.get_mut(&conn) else {
            return;
        };
        let named = match &message {
            Message::Hello(hello) => Some(hello.id.to_string()),
            _ => None,
        };
        // A second hello, or one behind another message, is abnormal, and changes nothing here.
        if named.is_none() || session.host.is_none() {
            session.last = self.now;
            session.identified |= named.is_some();
            let own = session.peer.ip().to_string();
            session.host.get_or_insert(named.unwrap_or(own));
        }
        let ask = ReplyRequest {
            reply: true,
            seq: Some(1),
        };
        let incoming = Incoming { message, ask };
        self.input(Input::Message { conn, incoming });
    }

    fn anyone(&mut self) -> Option<ConnId> {
        let count = self.open.len();
        let place = (count > 0).then(|| self.dice.place(count))?;
        self.open.keys().nth(place).copied()
    }

    fn speak(&mut self) {
        let Some(conn) = self.anyone() else { return };
        match self.dice.below(8) {
            0 => self.hello(conn),
            1 => {
                self.note(format_args!("{conn:?} is abnormal"));
                let error = DecodeError::new(Abnormal::Utf8, 0);
                self.input(Input::Abnormal { conn, error });
            }
            _ => self.say(conn, Message::Heartbeat),
        }
    }

    fn end(&mut self) {
        if let Some(conn) = self.anyone() {
            self.end_of(conn);
        }
    }

    fn end_of(&mut self, conn: ConnId) {
        let end = [End::Closed, End::Reset, End::Dead][self.dice.place(3)];
        self.note(format_args!("{conn:?} ends: {end:?}"));
        self.forget(conn);
        self.input(Input::Ended { conn, end });
    }

    fn forget(&mut self, conn: ConnId) {
        if self.open.remove(&conn).is_some() {
            self.free.push(conn.slot);
        }
    }

    fn pull(&mut self) {
        let most = 1 + self.dice.place(8);
        let Some(batch) = self.core.pull(self.moment(), most) else {
            return;
        };
        for op in batch.ops {
            match op {
                Op::Online(op) => self.asked.push((op.ticket, true)),
                Op::Offline(op) => self.asked.push((op.ticket, false)),
                Op::Seen(_) => self.input(Input::Outcome(Outcome::Seen)),
                Op::Audit(_) => self.input(Input::Outcome(Outcome::Audited)),
                _ => {}
            }
        }
    }

    /// The store answers one of what it was asked, or says that it will not.
    fn settle(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let place = self.dice.place(self.asked.len());
        let (ticket, online) = self.asked.swap_remove(place);
        self.epoch += 1;
        let epoch = self.epoch;
        let settled = match self.dice.below(8) {
            0 => Settled::Refused("WRONGTYPE".to_owned()),
            1 if !online => Settled::NotOurs,
            _ if online => Settled::claimed(epoch),
            _ => Settled::Released,
        };
        self.input(Input::Outcome(Outcome::Presence { ticket, settled }));
    }

    fn pass(&mut self, span: Span) {
        self.note(format_args!("{span:?} pass"));
        self.now = self.now + span;
        let (at, mut fx) = (self.moment(), Effects::default());
        let next = self.core.tick(self.now, at, &mut fx);
        assert!(next.is_none_or(|next| next > self.now));
        self.apply(fx);
        // A connection with a message within the timeout is still open.
        for (conn, session) in &self.open {
            let silent = self.now.since(session.last);
            let slack = TIMEOUT + Span::from_millis(2);
            assert!(silent <= slack, "{conn:?} is silent for {silent:?}");
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let mut fx = Effects::default();
        let flow = self.core.handle(self.moment(), input, &mut fx);
        assert_eq!(flow, Flow::Taken);
        self.apply(fx);
    }

    fn apply(&mut self, fx: Effects) {
        for effect in fx.list {
            match effect {
                Effect::Close { conn } => {
                    self.note(format_args!("closed: {conn:?}"));
                    self.replaced += u64::from(self.open.contains_key(&conn));
                    self.forget(conn);
                }
                Effect::Reply { conn, reply } => {
                    // A replaced connection is refused first, and then closed.
                    let refused =
                        matches!(&reply.word, Word::Refused(why) if !why.starts_with("replaced"));
                    if refused && reply.flag == Flag::Hello {
                        // It never was anybody.
                        self.forget(conn);
                    }
                }
                Effect::Tell(event) => match event.kind {
                    EventKind::Online { host, .. } => {
                        self.note(format_args!("online: {host}"));
                        let is_new = self.told.insert(host.to_string());
                        assert!(is_new, "{host} is told online twice");
                    }
                    EventKind::Offline { host, reason } => {
                        self.note(format_args!("offline: {host} {reason:?}"));
                        let was = self.told.remove(host.as_str());
                        assert!(was, "{host} is told offline twice");
                        let own = |s: &&Session| s.host.as_deref() == Some(host.as_str());
                        let left = self.open.values().find(own);
                        assert!(left.is_none(), "{host} is told offline and has {left:?}");
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// A host is online exactly if it has a connection, and of an id the newest alone.
    fn look(&self) {
        let page = self.core.page(Filter::Online, 100, 0);
        let online: BTreeSet<&str> = page.hosts.iter().map(|host| host.id.as_str()).collect();
        let speaking = self.open.values().filter_map(|s| s.host.as_deref());
        let speaking: BTreeSet<&str> = speaking.collect();
        assert_eq!(online, speaking, "who is online, and who has a connection");
        assert!(
            online
                .iter()
                .copied()
                .eq(self.told.iter().map(String::as_str)),
            "{online:?} are online, and told online are {:?}",
            self.told
        );
        for host in &speaking {
            let named = |s: &&Session| s.identified && s.host.as_deref() == Some(*host);
            let count = self.open.values().filter(named).count();
            assert!(
                count <= 1,
                "{count} connections have named themselves {host}"
            );
        }
    }
}
