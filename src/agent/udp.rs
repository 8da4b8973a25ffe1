//! The agent's UDP socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use super::setup::AgentError;

/// Binds `port` at `source`, else at every address.
pub(super) fn bind(source: Option<IpAddr>, port: u16) -> Result<UdpSocket, AgentError> {
    // Without a source: both families if the system has IPv6.
    let anywhere = [
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    ];
    let addresses = source.as_ref().map_or(&anywhere[..], std::slice::from_ref);
    let mut refused = None;
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match open(address) {
            Ok(udp) => return Ok(udp),
            Err(error) => refused = Some(AgentError::Bind(address, error)),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable).into()))
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}
