//! The UDP socket of a host.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::PATIENCE;

/// A host's UDP port.
pub struct Inbox {
    socket: UdpSocket,
}

impl Inbox {
    /// Any free port of an address.
    pub fn at(ip: &str) -> Self {
        Self::on(ip, 0)
    }

    /// This port of an address.
    pub fn on(ip: &str, port: u16) -> Self {
        let ip: IpAddr = ip.parse().expect("an address");
        let socket = UdpSocket::bind(SocketAddr::new(ip, port)).expect("a UDP port");
        Self { socket }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("an address").port()
    }

    /// The next datagram, as text.
    #[track_caller]
    pub fn next(&self) -> String {
        self.within(PATIENCE).expect("a datagram")
    }

    /// The next datagram, if one comes in time.
    pub fn within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut bytes = [0; 2_048];
        let (length, _) = self.socket.recv_from(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).expect("text"))
    }

    /// Sends bytes as they are.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        self.socket.send_to(bytes, to).expect("sent");
    }
}
