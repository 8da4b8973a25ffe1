//! `anthill ak-sim`: simulated AK devices, to test a configuration. Every connection leads to a
//! device of its own. One loop serves all of them, so that hundreds of devices cost little.

mod device;
mod line;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use slab::Slab;

use super::args::AkSimArgs;
use super::{Failure, print, print_error};
use device::{Device, Habits};
use line::{Left, Line};

/// Connections at once; one more is closed.
const CONNECTIONS_MAX: usize = 2_048;
const EVENTS_MAX: usize = 1_024;
/// Pause of accepting while the system has no room for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const LISTENER: Token = Token(usize::MAX);

/// Answers until a signal ends the process.
///
/// # Errors
/// The address cannot be used, or the system has no poll.
pub fn run(args: &AkSimArgs) -> Result<(), Failure> {
    raise_descriptors();
    let mut sim = Sim::bind(args.listen, args.bad_habits)
        .map_err(|error| Failure::failed(format!("--listen {}: {error}", args.listen)))?;
    let bound = sim.listener.local_addr().map_err(Failure::failed)?;
    print(&format!("anthill ak-sim ready tcp={bound}\n"))?;
    loop {
        sim.turn().map_err(Failure::failed)?;
    }
}

/// Raises the limit of open files as far as the system allows.
fn raise_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

/// All of it.
struct Sim {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    /// Next time to try the listener, if it does not become readable before.
    accept_at: Option<Instant>,
    lines: Slab<Line<TcpStream>>,
    /// Paused connections by their deadline. An entry may be stale: its connection has ended since.
    pauses: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Connections with more work, which wait for the next turn.
    ready: VecDeque<usize>,
    habits: Option<Habits>,
    complained: bool,
}

impl Sim {
    fn bind(listen: SocketAddr, bad_habits: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(listen)?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            listener,
            accept_at: None,
            lines: Slab::new(),
            pauses: BinaryHeap::new(),
            ready: VecDeque::new(),
            habits: bad_habits.then(Habits::default),
            complained: false,
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        let patience = self.patience(Instant::now());
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            ready => ready?,
        }
        let now = Instant::now();
        let ready: Vec<Token> = self.events.iter().map(|event| event.token()).collect();
        for place in std::mem::take(&mut self.ready) {
            self.serve(place, now);
        }
        for token in ready {
            match token {
                LISTENER => self.accept_at = Some(now),
                Token(place) => self.serve(place, now),
            }
        }
        while let Some(Reverse((until, place))) = self.pauses.peek().copied()
            && until <= now
        {
            self.pauses.pop();
            self.serve(place, now);
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = self.accept(now);
        }
        Ok(())
    }

    fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let pause = self.pauses.peek().map(|Reverse((until, _))| *until);
        let next = [pause, self.accept_at].into_iter().flatten().min();
        next.map(|at| at.saturating_duration_since(now))
    }

    /// Accepts connections. Returns the time of the next attempt if the system has no room.
    fn accept(&mut self, now: Instant) -> Option<Instant> {
        loop {
            match self.listener.accept() {
                // Above the limit the connection is dropped, which closes it.
                Ok((stream, _)) if self.lines.len() < CONNECTIONS_MAX => self.begin(stream),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return None,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        if !std::mem::replace(&mut self.complained, true) {
                            print_error(&format!("accepting: {error}"));
                        }
                        return Some(now + ACCEPT_AGAIN);
                    }
                },
            }
        }
    }

    fn begin(&mut self, mut stream: TcpStream) {
        let entry = self.lines.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let begun = stream.set_nodelay(true).and_then(|()| {
            let token = Token(entry.key());
            self.poll.registry().register(&mut stream, token, both)
        });
        // A peer that has disconnected is not an error.
        if begun.is_ok() {
            entry.insert(Line::new(stream, Device::default()));
        }
    }

    fn serve(&mut self, place: usize, now: Instant) {
        let Some(line) = self.lines.get_mut(place) else {
            return;
        };
        match line.serve(now, self.habits.as_mut()) {
            Ok(Left::Nothing) => {}
            Ok(Left::Pause(until)) => self.pauses.push(Reverse((until, place))),
            Ok(Left::More) => self.ready.push_back(place),
            Ok(Left::End) | Err(_) => {
                self.lines.remove(place);
            }
        }
    }
}
