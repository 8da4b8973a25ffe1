//! Where the datagrams for all hosts arrive. They differ by address only, so one port on all addresses is
//! enough; behind it stand several sockets, so that what comes at once finds room.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};

use super::arrival::{self, Arrival};

/// Sockets behind the port.
pub const SOCKETS: usize = 16;
/// What each of them may hold, in bytes, as far as the system allows.
const HELD_BYTES: usize = 4 * 1024 * 1024;
/// The longest datagram a server sends, and one byte more.
const TEXT_BYTES: usize = 1_025;

/// See the [room](self).
#[derive(Debug)]
pub struct Inbox {
    sockets: Vec<UdpSocket>,
    /// Those of them at which something waits, or may.
    ready: Vec<usize>,
    text: Vec<u8>,
    /// The port.
    pub port: u16,
}

impl Inbox {
    /// At `port`, or at a free one for 0. Its tokens are `first` and the ones behind it.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn open(mut port: u16, registry: &Registry, first: usize) -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(SOCKETS);
        for number in 0..SOCKETS {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), None)?;
            socket.set_reuse_port(true)?;
            // The system gives what it allows.
            socket.set_recv_buffer_size(HELD_BYTES)?;
            arrival::tell(&socket)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            let mut socket = UdpSocket::from_std(socket.into());
            port = socket.local_addr()?.port();
            registry.register(&mut socket, Token(first + number), Interest::READABLE)?;
            sockets.push(socket);
        }
        Ok(Self {
            sockets,
            ready: Vec::with_capacity(SOCKETS),
            text: vec![0; TEXT_BYTES],
            port,
        })
    }

    /// Something has come at the socket of this number.
    pub fn ready(&mut self, number: usize) {
        if !self.ready.contains(&number) {
            self.ready.push(number);
        }
    }

    /// Whether something waits, or may.
    #[must_use]
    pub const fn waits(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes `most` of what waits, and hands each on with its text.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(&mut self, most: usize, mut each: impl FnMut(Arrival, &[u8])) -> io::Result<()> {
        for _ in 0..most {
            let Some(&number) = self.ready.last() else {
                break;
            };
            match arrival::receive(&self.sockets[number], &mut self.text) {
                Ok(arrival) => each(arrival, &self.text[..arrival.length]),
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
