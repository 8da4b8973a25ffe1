//! The sockets for the datagrams of all hosts. Hosts differ by address only, so one port on all
//! addresses is enough. Several sockets share it, so that their buffers hold a burst.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};

use super::arrival::{self, Arrival};

/// Number of sockets behind the port.
pub const SOCKETS: usize = 16;
/// Receive buffer of each socket, in bytes; the system may allow less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// The longest datagram a server sends, and one byte more.
const DATAGRAM_BYTES: usize = 1_025;

/// The sockets behind one port.
#[derive(Debug)]
pub struct Inbox {
    sockets: Vec<UdpSocket>,
    /// Sockets that may have datagrams.
    ready: Vec<usize>,
    buffer: Vec<u8>,
    /// The port.
    pub port: u16,
}

impl Inbox {
    /// Opens the sockets on `port`, or on a free one for 0. Their tokens start at `first`.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn open(mut port: u16, registry: &Registry, first: usize) -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(SOCKETS);
        for number in 0..SOCKETS {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), None)?;
            socket.set_reuse_port(true)?;
            // The system may give less.
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
            arrival::enable(&socket)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            let mut socket = UdpSocket::from_std(socket.into());
            port = socket.local_addr()?.port();
            registry.register(&mut socket, Token(first + number), Interest::READABLE)?;
            sockets.push(socket);
        }
        Ok(Self {
            sockets,
            ready: Vec::with_capacity(SOCKETS),
            buffer: vec![0; DATAGRAM_BYTES],
            port,
        })
    }

    /// Marks a socket as readable.
    pub fn ready(&mut self, number: usize) {
        if !self.ready.contains(&number) {
            self.ready.push(number);
        }
    }

    /// Returns whether a socket may have datagrams.
    #[must_use]
    pub const fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Reads at most `max` datagrams and passes each to `each`.
    ///
    /// # Errors
    /// The system's error.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(Arrival, &[u8])) -> io::Result<()> {
        for _ in 0..max {
            let Some(&number) = self.ready.last() else {
                break;
            };
            match arrival::receive(&self.sockets[number], &mut self.buffer) {
                Ok(arrival) => each(arrival, &self.buffer[..arrival.length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ready.pop();
                    if error.kind() != ErrorKind::WouldBlock {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}
