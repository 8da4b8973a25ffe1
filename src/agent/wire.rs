//! The connection to the server: plain, or with TLS between the socket and the bytes.
//!
//! ```text
//!  begin ─▶ TCP is established ─▶ (handshake) ─▶ connected ─▶ read, write ─▶ dropped: (close_notify)
//! ```
//!
//! The core sees no difference: a connection counts as established when data can be sent.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::setup::Setup;
use super::tls::Channel;

/// Seconds without traffic before the kernel probes the server's machine.
const KEEPALIVE_S: u64 = 30;

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    channel: Option<Box<Channel>>,
    is_connected: bool,
    /// Unsent bytes. Bounded by the core, which sends a limited amount and waits.
    out: Vec<u8>,
}

impl Wire {
    /// Begins to connect, to one of the server's addresses.
    ///
    /// # Errors
    /// No suitable address, or a system error.
    pub(super) fn begin(
        setup: &Setup,
        place: usize,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let server = resolve(&setup.server, setup.source, place)?;
        let channel = setup.tls.as_ref().map(Channel::new).transpose()?;
        let socket = Socket::new(
            Domain::for_address(server),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let often = Duration::from_secs(KEEPALIVE_S);
        let keepalive = TcpKeepalive::new().with_time(often).with_interval(often);
        socket.set_tcp_keepalive(&keepalive)?;
        if let Some(source) = setup.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token, both)?;
        Ok(Self {
            stream,
            channel: channel.map(Box::new),
            is_connected: false,
            out: Vec::new(),
        })
    }

    /// Returns whether data can be sent.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Local address.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.stream.local_addr().ok().map(|local| local.ip())
    }

    /// Continues to connect, reading at most `left` bytes. Returns local address and server once it
    /// is established.
    ///
    /// # Errors
    /// The attempt failed.
    pub(super) fn finish_connect(
        &mut self,
        left: &mut usize,
    ) -> io::Result<Option<(IpAddr, IpAddr)>> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        let server = match self.stream.peer_addr() {
            Ok(server) => server,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(channel) = &mut self.channel
            && !channel.handshake(&mut self.stream, left)?
        {
            return Ok(None);
        }
        self.is_connected = true;
        Ok(Some((self.stream.local_addr()?.ip(), server.ip())))
    }

    /// Reads bytes and takes what the socket gave from `left`. To be called until it would block.
    ///
    /// # Errors
    /// An error of the socket or of TLS. It also would block when `left` is used up.
    pub(super) fn read(&mut self, into: &mut [u8], left: &mut usize) -> io::Result<usize> {
        if let Some(channel) = &mut self.channel {
            return channel.read(&mut self.stream, into, left);
        }
        let some = into.len().min(*left);
        if some == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.stream.read(&mut into[..some])?;
        *left -= read;
        Ok(read)
    }

    /// Queues bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Number of unsent bytes.
    pub(super) fn unsent(&self) -> usize {
        self.out.len()
    }

    /// Writes as much as the socket takes. Returns whether anything was written.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn write(&mut self) -> io::Result<bool> {
        if let Some(channel) = &mut self.channel {
            return channel.write(&mut self.stream, &mut self.out);
        }
        let mut done = 0;
        let ended = loop {
            if done == self.out.len() {
                break Ok(());
            }
            match self.stream.write(&self.out[done..]) {
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.out.drain(..done);
        ended.map(|()| done > 0)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(channel) = &mut self.channel {
            channel.end(&mut self.stream);
        }
    }
}

/// Resolves the server and returns one of its addresses of the source's family. A name may resolve
/// to several addresses; the server may listen at one of them only. A lookup may take long; there
/// is no connection to keep alive meanwhile.
fn resolve(server: &str, source: Option<IpAddr>, place: usize) -> io::Result<SocketAddr> {
    let fits = |address: &SocketAddr| source.is_none_or(|own| own.is_ipv4() == address.is_ipv4());
    let none = || {
        let why = format!("{server} has no address that can be reached from here");
        io::Error::new(io::ErrorKind::NotFound, why)
    };
    let addresses: Vec<SocketAddr> = server.to_socket_addrs()?.filter(fits).collect();
    let place = place.checked_rem(addresses.len()).ok_or_else(none)?;
    Ok(addresses[place])
}
