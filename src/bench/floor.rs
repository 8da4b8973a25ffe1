//! The floor: a program that only waits, reads, and decodes the length. Its cost is the kernel's,
//! and no program with the same calls can cost much less.
//!
//! ```text
//!  epoll_wait, level-triggered ─▶ one read into a shared buffer for each ready connection ─▶ its length
//!                                                                       └ with replies: the same bytes back
//! ```
//!
//! It runs as a process of its own, so that it can be measured like a server. It ends when its
//! parent closes its stdin.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::BenchError;
use super::proc::Observed;
use crate::limits::{BACKLOG_MAX, EVENTS_PER_TURN_MAX, READ_BUFFER_BYTES};

/// Name of the hidden subcommand that runs a floor.
pub const COMMAND: &str = "bench-floor";
/// Poll tokens of the listener and of stdin; connections use their index.
const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

/// A running floor; dropping it ends the process.
#[derive(Debug)]
pub struct Floor {
    child: Child,
    /// Address on which it listens.
    pub address: SocketAddr,
}

impl Floor {
    /// Starts a floor on the given CPUs.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(replies: bool, cpus: Option<&CpuSet>) -> Result<Self, BenchError> {
        let failed = |error| BenchError::system("cannot start the floor")(error);
        Self::spawn(replies, cpus).map_err(failed)
    }

    fn spawn(replies: bool, cpus: Option<&CpuSet>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND);
        if replies {
            command.arg("--replies");
        }
        // Ctrl-C at the terminal is handled by the parent, which ends the floor.
        let child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // From here on the child ends when this value is dropped.
        let mut floor = Self {
            child,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        if let Some(cpus) = cpus {
            sched_setaffinity(Some(rustix::process::Pid::from_child(&floor.child)), cpus)?;
        }
        let mut line = String::new();
        if let Some(stdout) = floor.child.stdout.take() {
            BufReader::new(stdout.take(64)).read_line(&mut line)?;
        }
        let address = line.trim().parse();
        floor.address = address.map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        Ok(floor)
    }

    /// The floor's process.
    #[must_use]
    pub fn observed(&self) -> Observed {
        Observed::of(self.child.id())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs as a floor: prints its address and drains connections until stdin ends.
///
/// # Errors
/// The system's refusal.
pub fn serve(replies: bool) -> io::Result<()> {
    let socket = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM.nonblocking(),
        None,
    )?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG_MAX)?;
    let listener = TcpListener::from(socket);
    let mut out = io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    drain(&listener, replies)
}

fn drain(listener: &TcpListener, replies: bool) -> io::Result<()> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let stdin = io::stdin();
    epoll::add(&poll, &stdin, EventData::new_u64(STDIN), EventFlags::IN)?;
    let mut connections: Vec<Option<OwnedFd>> = Vec::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS_PER_TURN_MAX);
    loop {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => accept(listener, &poll, &mut connections)?,
                STDIN => return Ok(()),
                place => {
                    let Some(place) = usize::try_from(place)
                        .ok()
                        .and_then(|place| connections.get_mut(place))
                    else {
                        continue;
                    };
                    let open = place
                        .as_ref()
                        .is_some_and(|fd| read(fd, &mut buffer, replies));
                    if !open {
                        *place = None;
                    }
                }
            }
        }
    }
}

/// Accepts waiting connections. The index is the descriptor's number, which the system keeps low.
fn accept(
    listener: &TcpListener,
    poll: &OwnedFd,
    connections: &mut Vec<Option<OwnedFd>>,
) -> io::Result<()> {
    use rustix::net::{SocketFlags, accept_with};
    use std::os::fd::AsRawFd;
    loop {
        match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => {
                let place = usize::try_from(fd.as_raw_fd()).unwrap_or_default();
                if connections.len() <= place {
                    connections.resize_with(place + 1, || None);
                }
                let data = EventData::new_u64(place as u64);
                epoll::add(poll, fd.as_fd(), data, EventFlags::IN)?;
                connections[place] = Some(fd);
            }
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads once; returns false at the end of the connection.
fn read(fd: &OwnedFd, buffer: &mut [u8], replies: bool) -> bool {
    let length = match recv(fd, &mut *buffer, RecvFlags::empty()) {
        Ok((_, length)) => length,
        Err(Errno::AGAIN | Errno::INTR) => return true,
        Err(_) => return false,
    };
    if length == 0 {
        return false;
    }
    if replies {
        // Unsent bytes are dropped: a peer that does not read its replies misses some.
        let _ = send(fd, &buffer[..length], SendFlags::NOSIGNAL);
    }
    true
}
