//! The start of a connection, from a chosen source address.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use crate::bench::host::Host;
use crate::bench::late_port;

/// Reason for a connection that cannot be started.
pub(super) enum Refused {
    Source(IpAddr, io::Error),
    Other(io::Error),
}

/// Begins a connection.
pub(super) fn connect(server: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Refused> {
    let other = Refused::Other;
    let domain = Domain::for_address(server);
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(domain, kind, Some(Protocol::TCP)).map_err(other)?;
    socket.set_tcp_nodelay(true).map_err(other)?;
    if let Some(address) = source {
        late_port::choose(&socket).map_err(other)?;
        let bound = socket.bind(&SocketAddr::new(address, 0).into());
        bound.map_err(|error| match error.kind() {
            ErrorKind::AddrNotAvailable | ErrorKind::InvalidInput => {
                Refused::Source(address, error)
            }
            _ => Refused::Other(error),
        })?;
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(Refused::Other(error)),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Returns whether the connection is established.
pub(super) fn connected(host: &Host) -> io::Result<bool> {
    if let Some(error) = host.stream.take_error()? {
        return Err(error);
    }
    match host.stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
