//! The UDP socket. What comes is counted and never answered.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::UdpSocket;
use mio::{Interest, Registry};

use super::token;
use crate::limits::DATAGRAMS_PER_TURN_MAX;

/// See the [room](self).
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    /// Something may be in its queue.
    pending: bool,
}

impl Udp {
    /// Binds `addr`.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            socket: UdpSocket::bind(addr)?,
            pending: true,
        })
    }

    /// Asks to be told when something comes.
    ///
    /// # Errors
    /// What the system says.
    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.socket, token::UDP, Interest::READABLE)
    }

    /// Where it is bound, with the port it was given.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The kernel says that something has come.
    pub fn ready(&mut self) {
        self.pending = true;
    }

    /// Whether something may be left that the kernel will not tell of again.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.pending
    }

    /// Takes what there is, within the budget of a turn; how many datagrams that were. A short read
    /// means nothing here: only `WouldBlock` ends it.
    pub fn drain(&mut self, scratch: &mut [u8]) -> u64 {
        let mut datagrams = 0;
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            if !self.pending {
                break;
            }
            match self.socket.recv_from(scratch) {
                Ok(_) => datagrams += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.pending = false,
                // Interrupted, or an ICMP message about something sent earlier: go on.
                Err(_) => {}
            }
        }
        datagrams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_budget_is_left_for_the_next_turn() {
        let mut udp = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = udp.local_addr().unwrap();
        let mut scratch = [0; 64];
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            peer.send_to(b"x", addr).unwrap();
        }
        assert_eq!(udp.drain(&mut scratch), DATAGRAMS_PER_TURN_MAX as u64);
        assert!(udp.has_ready(), "the budget ended it, not the socket");
        // No event tells of this one: the socket was not seen empty.
        peer.send_to(b"x", addr).unwrap();
        assert_eq!(udp.drain(&mut scratch), 1);
        assert!(!udp.has_ready());
    }
}
