//! One outbound socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token, event};

use crate::handlers::outside::{Failure, Link, Way};
use crate::time::Instant;

/// Content of a datagram to a target. Port 53 is sent a query for the root servers, which any name
/// server can answer.
const PROBE: &[u8] = b"anthill";
const DNS_PORT: u16 = 53;
const DNS_PROBE: &[u8] = &[
    0x41, 0x4e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, // id, a plain query, one question
    0, 0, 2, 0, 1, // for ".", NS, IN
];

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) link: Link,
    pub(super) token: Token,
    pub(super) dialed: Instant,
    /// It is in the queue.
    pub(super) queued: bool,
    socket: Socket,
    is_connecting: bool,
    /// The kernel has reported the end of the stream, or an error.
    is_ending: bool,
}

/// Result of reading a socket.
pub(super) enum Got {
    /// Nothing more for now.
    Nothing,
    Connected,
    /// A number of bytes; there may be more.
    Bytes {
        bytes: usize,
        more: bool,
    },
    Ended(Failure),
}

impl Wire {
    /// Begins to connect, or sends the datagram.
    ///
    /// # Errors
    /// When that fails at once.
    pub(super) fn dial(
        link: Link,
        token: Token,
        way: Way,
        to: SocketAddr,
        dialed: Instant,
        registry: &Registry,
    ) -> Result<Self, Failure> {
        let socket = match way {
            Way::Tcp => connect(to, token, registry).map(Socket::Tcp),
            Way::Udp => probe(to, token, registry).map(Socket::Udp),
        };
        Ok(Self {
            link,
            token,
            dialed,
            queued: false,
            socket: socket.map_err(|error| Failure::from(&error))?,
            is_connecting: way == Way::Tcp,
            is_ending: false,
        })
    }

    pub(super) fn note(&mut self, event: &event::Event) {
        self.is_ending |= event.is_read_closed() || event.is_error();
    }

    /// Returns the next result of the socket.
    pub(super) fn step(&mut self, buffer: &mut [u8]) -> Got {
        let capacity = buffer.len();
        let read = match &mut self.socket {
            Socket::Tcp(stream) if self.is_connecting => match is_connected(stream) {
                Ok(false) => return Got::Nothing,
                Ok(true) => {
                    self.is_connecting = false;
                    // Requests are small, and each is answered before the next.
                    let _ = stream.set_nodelay(true);
                    return Got::Connected;
                }
                Err(error) => return Got::Ended(Failure::from(&error)),
            },
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Udp(socket) => socket.recv(buffer),
        };
        match (read, &self.socket) {
            (Ok(0), Socket::Tcp(_)) => Got::Ended(Failure::Closed),
            (Ok(bytes), Socket::Udp(_)) => Got::Bytes { bytes, more: false },
            // A short read has emptied the socket, unless the end of the stream follows.
            (Ok(bytes), Socket::Tcp(_)) => {
                let more = bytes == capacity || self.is_ending;
                Got::Bytes { bytes, more }
            }
            (Err(error), _) => match error.kind() {
                ErrorKind::WouldBlock => Got::Nothing,
                ErrorKind::Interrupted => self.step(buffer),
                _ => Got::Ended(Failure::from(&error)),
            },
        }
    }

    /// Sends all of `bytes` at once.
    ///
    /// # Errors
    /// The socket has taken only a part of the bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = match &mut self.socket {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Udp(socket) => socket.send(bytes),
        };
        match sent {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => Err(Failure::NotTaken),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.send(bytes),
            Err(error) => Err(Failure::from(&error)),
        }
    }
}

fn connect(to: SocketAddr, token: Token, registry: &Registry) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

/// Returns whether a connecting stream is established; an error if it has failed.
fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // No socket listens there, and the kernel chose that port for this end: the socket is
        // connected to itself.
        Ok(peer) if stream.local_addr()? == peer => Err(ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a socket connected to `to`, so that the kernel reports ICMP errors for it.
fn probe(to: SocketAddr, token: Token, registry: &Registry) -> io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let mut socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    registry.register(&mut socket, token, Interest::READABLE)?;
    let payload = if to.port() == DNS_PORT {
        DNS_PROBE
    } else {
        PROBE
    };
    socket.send(payload)?;
    Ok(socket)
}
