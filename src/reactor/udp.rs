//! The UDP socket. Receiving has a budget per turn; outgoing datagrams wait in a bounded queue.
//!
//! ```text
//!   socket ──▶ receive ──▶ one datagram, and from where
//!   queue ──▶ queue ──▶ sendmmsg ──▶ socket        the socket is full: wait until it is writable
//! ```

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;
use mio::net::UdpSocket;
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, Socket, Type};

use super::datagram_queue::DatagramQueue;
use super::stats::ReactorStats;
use super::{send_many, token};
use crate::handlers::effect::Effects;
use crate::handlers::request::Datagram;
use crate::handlers::{Core, Moment};

/// The UDP socket and its queue.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    /// The socket is IPv6 and takes mapped IPv4 addresses.
    is_v6: bool,
    /// Datagrams may wait in the socket.
    pending: bool,
    queue: DatagramQueue,
    /// The socket was full; the kernel reports when it is writable.
    blocked: bool,
    /// Datagrams on their way from the core to the queue; empty between turns.
    taken: Vec<Datagram>,
    /// The core has more to send than a turn sends.
    has_more: bool,
}

impl Udp {
    /// Binds `addr`.
    pub fn bind(addr: SocketAddr, inherited: Option<Socket>) -> io::Result<Self> {
        let socket = match inherited {
            Some(socket) => socket,
            None => {
                let domain = Domain::for_address(addr);
                let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
                if addr.is_ipv6() {
                    socket.set_only_v6(false)?;
                }
                socket.bind(&addr.into())?;
                socket
            }
        };
        socket.set_nonblocking(true)?;
        unfragmented(&socket, true);
        let bound = socket.local_addr()?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into()),
            is_v6: bound.is_ipv6(),
            pending: true,
            queue: DatagramQueue::default(),
            blocked: false,
            taken: Vec::new(),
            has_more: false,
        })
    }

    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.socket, token::UDP, Interest::READABLE)
    }

    /// Bound address, with the assigned port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Handles an event: datagrams have arrived, or the socket is writable.
    pub fn ready(&mut self, event: &Event) {
        self.pending |= event.is_readable() || event.is_error();
        self.blocked &= !(event.is_writable() || event.is_error());
    }

    /// Returns whether a datagram may be left that the kernel will not report again.
    pub fn has_ready(&self) -> bool {
        let unsent = !self.blocked && !self.queue.is_empty();
        self.pending || unsent || (self.has_more && self.room() > 0)
    }

    /// Returns whether the core had more to send than the last turn sent.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Takes at most `max` datagrams and pushes of the core, as far as there is room.
    pub fn take_sends(&mut self, core: &mut Core, max: usize, at: Moment, effects: &mut Effects) {
        self.has_more = core.has_sends();
        let room = self.room().min(max);
        if self.has_more && room > 0 {
            let mut taken = std::mem::take(&mut self.taken);
            self.has_more = core.take_sends(at, room, &mut taken, effects);
            taken.drain(..).for_each(|datagram| self.push(datagram));
            self.taken = taken;
        }
    }

    /// Returns whether there may be a datagram to receive.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Receives one datagram into `scratch`; returns its length and sender. `None` if there is
    /// none, or if the call returned an error, for example an ICMP error about an earlier datagram.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Option<(usize, SocketAddr)> {
        if !self.pending {
            return None;
        }
        match self.socket.recv_from(scratch) {
            Ok((bytes, from)) => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                Some((bytes, from))
            }
            Err(error) => {
                // Only this error means that no datagram is left.
                self.pending = error.kind() != ErrorKind::WouldBlock;
                None
            }
        }
    }

    /// Number of further datagrams that fit.
    pub fn room(&self) -> usize {
        self.queue.room()
    }

    /// Appends a datagram. Without [`room`](Self::room) it is dropped.
    pub fn push(&mut self, mut datagram: Datagram) {
        if let IpAddr::V4(ip) = datagram.to.ip()
            && self.is_v6
        {
            datagram.to.set_ip(ip.to_ipv6_mapped().into());
        }
        self.queue.push(datagram);
    }

    /// Sends waiting datagrams, as far as the socket takes them.
    pub fn flush(&mut self, registry: &Registry, stats: &mut ReactorStats) {
        if self.blocked || self.queue.is_empty() {
            return;
        }
        let socket = &self.socket;
        let send = |datagrams: &[Datagram]| match datagrams {
            [one] => socket.send_to(one.text.as_bytes(), one.to).map(|_| 1),
            many => send_many::send(socket, many),
        };
        let flushed = self.queue.flush(|datagrams| match send(datagrams) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                // The path to this address needs small packets, which is rare: allow fragmentation.
                unfragmented(socket, false);
                send(datagrams)
            }
            sent => sent,
        });
        stats.datagrams_sent += flushed.sent;
        stats.datagrams_failed += flushed.failed;
        if flushed.blocked {
            // Registered for each blocked send: otherwise every datagram would cause an event. If
            // that fails, the next turn sends without waiting.
            let both = Interest::READABLE | Interest::WRITABLE;
            let reregistered = registry.reregister(&mut self.socket, token::UDP, both);
            self.blocked = reregistered.is_ok();
            stats.datagrams_blocked += 1;
        } else if flushed.was_blocked {
            // At worst there are superfluous events.
            let _ = registry.reregister(&mut self.socket, token::UDP, Interest::READABLE);
        }
    }
}

/// Forbids or allows fragmentation of IPv4 packets. Without it packets need no identification
/// number, which is a quarter of the cost of a datagram to a new destination.
#[cfg(target_os = "linux")]
fn unfragmented(socket: &impl std::os::fd::AsFd, always: bool) {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
    let how = match always {
        true => Ipv4PathMtuDiscovery::DO,
        false => Ipv4PathMtuDiscovery::WANT,
    };
    // Without this option datagrams are only slower.
    let _ = set_ip_mtu_discover(socket, how);
}

#[cfg(not(target_os = "linux"))]
fn unfragmented<S>(_: &S, _: bool) {}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::Poll;
    use std::time::Duration;

    fn local() -> (Udp, std::net::UdpSocket, Poll) {
        let mut udp = Udp::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let poll = Poll::new().unwrap();
        udp.register(poll.registry()).unwrap();
        (udp, peer, poll)
    }

    fn text(peer: &std::net::UdpSocket) -> String {
        let mut bytes = [0; 2_048];
        let (length, _) = peer.recv_from(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn all_datagrams_are_received() {
        let (mut udp, peer, _poll) = local();
        let addr = udp.local_addr().unwrap();
        let mut scratch = [0; 64];
        for text in ["one", "two"] {
            peer.send_to(text.as_bytes(), addr).unwrap();
        }
        for text in ["one", "two"] {
            let from = peer.local_addr().unwrap();
            assert_eq!(udp.receive(&mut scratch), Some((3, from)));
            assert_eq!(&scratch[..3], text.as_bytes());
        }
        assert!(udp.has_ready(), "the socket was not seen empty");
        assert_eq!(udp.receive(&mut scratch), None);
        assert!(!udp.has_ready());
    }

    #[test]
    fn datagrams_are_sent_in_order_or_counted() {
        let (mut udp, peer, poll) = local();
        let to = peer.local_addr().unwrap();
        let mut stats = ReactorStats::default();
        for number in 0..100 {
            let text = format!("AC{number}").into();
            udp.push(Datagram { to, text });
            if number == 50 {
                // Nothing can be sent to port 0.
                let to = "127.0.0.1:0".parse().unwrap();
                let text = "nowhere".into();
                udp.push(Datagram { to, text });
            }
        }
        udp.flush(poll.registry(), &mut stats);
        assert_eq!((stats.datagrams_sent, stats.datagrams_failed), (100, 1));
        for number in 0..100 {
            assert_eq!(text(&peer), format!("AC{number}"));
        }
        udp.push(Datagram {
            to,
            text: "alone".into(),
        });
        udp.flush(poll.registry(), &mut stats);
        assert_eq!(text(&peer), "alone");
    }

    #[test]
    fn long_datagrams_are_fragmented() {
        let (mut udp, peer, poll) = local();
        let to = peer.local_addr().unwrap();
        let mut stats = ReactorStats::default();
        let tied = |udp: &Udp| {
            let how = rustix::net::sockopt::ip_mtu_discover(&udp.socket).unwrap();
            how == rustix::net::sockopt::Ipv4PathMtuDiscovery::DO
        };
        assert!(tied(&udp));
        // Longer than any datagram can be: the system refuses it with and without fragmentation.
        for text in ["before".into(), "x".repeat(70_000).into(), "behind".into()] {
            udp.push(Datagram { to, text });
        }
        udp.flush(poll.registry(), &mut stats);
        assert_eq!((stats.datagrams_sent, stats.datagrams_failed), (2, 1));
        assert_eq!([text(&peer), text(&peer)], ["before", "behind"]);
        assert!(!tied(&udp));
    }

    #[test]
    fn a_closed_peer_costs_others_nothing() {
        let (mut udp, peer, poll) = local();
        let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = gone.local_addr().unwrap();
        drop(gone);
        let mut stats = ReactorStats::default();
        for number in 0..10 {
            for to in [closed, peer.local_addr().unwrap()] {
                let text = number.to_string().into();
                udp.push(Datagram { to, text });
            }
            udp.flush(poll.registry(), &mut stats);
            assert_eq!(text(&peer), number.to_string());
        }
    }

    #[test]
    fn a_socket_of_ipv6_sends_to_hosts_of_ipv4() {
        // A machine may have no IPv6 at all.
        let Ok(mut udp) = Udp::bind("[::]:0".parse().unwrap(), None) else {
            return;
        };
        let (_, peer, poll) = local();
        udp.register(Poll::new().unwrap().registry()).unwrap();
        let mut stats = ReactorStats::default();
        for text in ["AC1", "AC2"] {
            let (to, text) = (peer.local_addr().unwrap(), text.into());
            udp.push(Datagram { to, text });
        }
        udp.flush(poll.registry(), &mut stats);
        assert_eq!([text(&peer), text(&peer)], ["AC1", "AC2"]);
        let port = udp.local_addr().unwrap().port();
        peer.send_to(b"x", ("127.0.0.1", port)).unwrap();
        let from = peer.local_addr().unwrap();
        assert_eq!(udp.receive(&mut [0; 8]), Some((1, from)));
    }
}
