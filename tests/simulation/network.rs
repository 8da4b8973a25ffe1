//! Connections and datagrams on their way: cut anywhere, late, never.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use anthill::ids::ConnId;
use anthill::time::{Instant, Span};

use crate::dice::Dice;

/// Output of one end of a connection.
#[derive(Clone, Debug)]
pub enum Chunk {
    Bytes(Vec<u8>),
    /// The other end has closed.
    Fin,
    /// The other end knows nothing of the connection.
    Reset,
    /// The other machine does not answer, says the kernel.
    Dead,
}

/// One direction of a connection. What comes out came in, in order.
#[derive(Debug, Default)]
pub struct Pipe {
    pub chunks: VecDeque<(Instant, Chunk)>,
    last: Instant,
    /// Input is lost from now on: the other end is gone without a word.
    pub is_hole: bool,
}

impl Pipe {
    pub fn push(&mut self, at: Instant, chunk: Chunk) {
        if !self.is_hole {
            self.last = self.last.max(at);
            self.chunks.push_back((self.last, chunk));
        }
    }

    /// Time of the next output.
    pub fn next(&self) -> Option<Instant> {
        self.chunks.front().map(|(at, _)| *at)
    }

    /// The output that has arrived by now, if any.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, Chunk)> {
        self.chunks.pop_front_if(|(at, _)| *at <= now)
    }

    /// Nothing comes out before that.
    fn hold(&mut self, until: Instant) {
        for (at, _) in &mut self.chunks {
            *at = (*at).max(until);
        }
        self.last = self.last.max(until);
    }
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    pub host: usize,
    pub peer: SocketAddr,
    /// To the server.
    pub up: Pipe,
    /// To the host.
    pub down: Pipe,
    pub server: ServerEnd,
    /// The host still has its end.
    pub host_has_it: bool,
    /// Time at which the host's kernel gives up.
    pub host_gives_up: Option<Instant>,
}

/// The server's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEnd {
    /// On its way to the accept queue, or in it.
    Knocking(Instant),
    Open(ConnId),
    Gone,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub at: Instant,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// The network.
#[derive(Debug, Default)]
pub struct Network {
    pub links: BTreeMap<u64, Link>,
    pub parcels: Vec<Parcel>,
    pub next: u64,
    /// In percent.
    pub loss: u64,
    /// In percent.
    pub repeats: u64,
    /// The longest that anything takes, in milliseconds.
    pub slow_ms: u64,
    /// Hosts that are cut off, and until when.
    pub cut_off: BTreeMap<usize, Instant>,
}

impl Network {
    /// Arrival time of data to or from host `host` sent now.
    fn arrival(&self, host: usize, now: Instant, dice: &mut Dice) -> Instant {
        let free = self.cut_off.get(&host).copied().unwrap_or(now).max(now);
        free + dice.ms(0, self.slow_ms.max(1))
    }

    pub fn connect(&mut self, host: usize, peer: SocketAddr, now: Instant, dice: &mut Dice) -> u64 {
        self.next += 1;
        let at = self.arrival(host, now, dice);
        let link = Link {
            host,
            peer,
            up: Pipe::default(),
            down: Pipe::default(),
            server: ServerEnd::Knocking(at),
            host_has_it: true,
            host_gives_up: None,
        };
        self.links.insert(self.next, link);
        self.next
    }

    /// Sends to the server.
    pub fn send_up(&mut self, id: u64, chunk: Chunk, now: Instant, dice: &mut Dice) {
        self.send(id, true, chunk, now, dice);
    }

    /// Sends to the host.
    pub fn send_down(&mut self, id: u64, chunk: Chunk, now: Instant, dice: &mut Dice) {
        self.send(id, false, chunk, now, dice);
    }

    fn send(&mut self, id: u64, up: bool, chunk: Chunk, now: Instant, dice: &mut Dice) {
        let Some(host) = self.links.get(&id).map(|link| link.host) else {
            return;
        };
        for piece in pieces(chunk, dice) {
            let mut at = self.arrival(host, now, dice);
            let Some(link) = self.links.get_mut(&id) else {
                return;
            };
            if let ServerEnd::Knocking(knocks) = link.server {
                at = at.max(knocks);
            }
            match up {
                true => link.up.push(at, piece),
                false => link.down.push(at, piece),
            }
        }
    }

    /// A host is cut off from the server until then.
    pub fn cut_off(&mut self, host: usize, until: Instant) {
        self.cut_off.insert(host, until);
        for link in self.links.values_mut().filter(|link| link.host == host) {
            link.up.hold(until);
            link.down.hold(until);
            if let ServerEnd::Knocking(at) = &mut link.server {
                *at = (*at).max(until);
            }
        }
    }

    /// Sends a datagram of or to `host`: lost, repeated, late.
    pub fn post(&mut self, host: usize, parcel: Parcel, now: Instant, dice: &mut Dice) {
        let cut_off = self.cut_off.get(&host).is_some_and(|until| *until > now);
        let copies = 1 + u64::from(dice.percent(self.repeats));
        for _ in 0..copies {
            if !cut_off && !dice.percent(self.loss) {
                let at = now + dice.ms(0, self.slow_ms.max(1));
                let parcel = parcel.clone();
                self.parcels.push(Parcel { at, ..parcel });
            }
        }
    }

    /// Forgets connections without an end.
    pub fn tidy(&mut self) {
        self.links
            .retain(|_, link| link.host_has_it || link.server != ServerEnd::Gone);
    }
}

/// Bytes are cut anywhere.
fn pieces(chunk: Chunk, dice: &mut Dice) -> Vec<Chunk> {
    let Chunk::Bytes(mut bytes) = chunk else {
        return vec![chunk];
    };
    let mut pieces = Vec::new();
    while bytes.len() > 1 && pieces.len() < 3 && dice.one_in(4) {
        let rest = bytes.split_off(1 + dice.place(bytes.len() - 1));
        pieces.push(Chunk::Bytes(std::mem::replace(&mut bytes, rest)));
    }
    pieces.push(Chunk::Bytes(bytes));
    pieces
}

/// The least of some moments.
pub fn soonest(moments: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    moments.into_iter().flatten().min()
}

/// The longest a kernel goes on sending to a machine that does not answer.
pub const GIVES_UP: Span = Span::from_secs(20);
