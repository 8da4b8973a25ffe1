//! The listening socket: accepting within a budget, and the answer to missing descriptors.
//!
//! ```text
//!   readiness ──▶ pending ──▶ accept … ──▶ WouldBlock: the queue is empty
//!                    ▲           ├──▶ budget used up: still pending, the next wait is zero
//!                    │           └──▶ no descriptor: the oldest is refused, then rest ─┐
//!                    └─────────────── 100 ms ─────────────────────────────────────────┘
//! ```

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::descriptors::Reserve;
use super::stats::ReactorStats;
use super::token;
use crate::limits::{
    ACCEPT_RETRY_MS, ACCEPTS_PER_TURN_MAX, BACKLOG_MAX, KERNEL_RECEIVE_BYTES, KERNEL_SEND_BYTES,
};
use crate::time::{Instant, Span};

/// Unanswered keep-alive probes after which the kernel gives a connection up.
const KEEPALIVE_PROBES: u32 = 3;

/// The listening socket and its state.
#[derive(Debug)]
pub struct Listener {
    /// None after the stop has begun.
    socket: Option<TcpListener>,
    bound: SocketAddr,
    reserve: Reserve,
    /// Connections may be in the queue.
    pending: bool,
    /// Accepting pauses until then.
    retry: Option<Instant>,
    /// Remaining accepts of this turn.
    left: usize,
}

impl Listener {
    /// Listens on `addr`, or on the `inherited` socket; connections idle for `keepalive` are
    /// probed.
    pub fn bind(addr: SocketAddr, keepalive: Span, inherited: Option<Socket>) -> io::Result<Self> {
        let mut reserve = Reserve::default();
        reserve.refill();
        let socket = TcpListener::from_std(open(addr, keepalive, inherited)?.into());
        Ok(Self {
            bound: socket.local_addr()?,
            socket: Some(socket),
            reserve,
            pending: true,
            retry: None,
            left: 0,
        })
    }

    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.socket {
            Some(socket) => registry.register(socket, token::LISTENER, Interest::READABLE),
            None => Ok(()),
        }
    }

    /// Bound address, with the assigned port.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// Closes the socket, and with it the connections that are not accepted.
    pub fn close(&mut self) {
        self.socket = None;
        self.pending = false;
        self.retry = None;
    }

    /// Records that the kernel reports waiting connections.
    pub fn ready(&mut self) {
        self.pending = true;
    }

    /// Returns whether a connection may be accepted at `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        self.pending || self.retry.is_some_and(|retry| retry <= now)
    }

    /// Begins a turn, with a new budget.
    pub fn begin(&mut self, now: Instant) {
        self.left = ACCEPTS_PER_TURN_MAX;
        if self.retry.take_if(|retry| *retry <= now).is_some() {
            self.pending = true;
        }
        self.reserve.refill();
    }

    /// Accepts the next pending connection, if the budget allows.
    pub fn accept(
        &mut self,
        now: Instant,
        stats: &mut ReactorStats,
    ) -> Option<(TcpStream, SocketAddr)> {
        while self.pending && self.retry.is_none() {
            self.left = self.left.checked_sub(1)?;
            match self.socket.as_ref()?.accept() {
                Ok(accepted) => return Some(accepted),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.pending = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    stats.accept_errors += 1;
                    if is_exhaustion(&error) {
                        self.shed_oldest(stats);
                        // Connections that wait already cause no new event, so a timer retries.
                        self.retry = Some(now + Span::from_millis(ACCEPT_RETRY_MS));
                    }
                    // Other errors, such as ECONNABORTED, concern one connection only.
                }
            }
        }
        None
    }

    /// Returns whether all connections that can be accepted are accepted. During a pause none can
    /// be, and the horizon must not wait for it.
    pub fn accepted_all(&self) -> bool {
        !self.pending || self.retry.is_some()
    }

    /// Time of the next retry.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry
    }

    /// Accepts the oldest pending connection with the reserved descriptor and closes it, so that
    /// its peer is informed.
    fn shed_oldest(&mut self, stats: &mut ReactorStats) {
        let accepts = || self.socket.as_ref().is_some_and(|s| s.accept().is_ok());
        if self.reserve.spend() && accepts() {
            stats.shed_descriptors += 1;
        }
        self.reserve.refill();
    }
}

/// Opens a listening socket. Accepted connections inherit its options.
fn open(addr: SocketAddr, keepalive: Span, inherited: Option<Socket>) -> io::Result<Socket> {
    let is_bound = inherited.is_some();
    let socket = match inherited {
        Some(socket) => socket,
        None => Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?,
    };
    socket.set_nonblocking(true)?;
    if !is_bound {
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
    }
    let interval = keepalive.part(3).max(Span::from_secs(1));
    let probes = TcpKeepalive::new()
        .with_time(keepalive.into())
        .with_interval(interval.into())
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&probes)?;
    // This also limits keep-alive, so it is not shorter than its probes.
    let patience = keepalive + interval.times(u64::from(KEEPALIVE_PROBES));
    socket.set_tcp_user_timeout(Some(patience.into()))?;
    socket.set_tcp_nodelay(true)?;
    // The receive buffer must be set before listening: it decides the window offered to peers.
    socket.set_send_buffer_size(KERNEL_SEND_BYTES)?;
    socket.set_recv_buffer_size(KERNEL_RECEIVE_BYTES)?;
    if !is_bound {
        socket.bind(&addr.into())?;
    }
    // On a socket that listens already this sets the length of the queue.
    socket.listen(BACKLOG_MAX)?;
    Ok(socket)
}

/// Returns whether the system lacks a resource that may become free.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream as StdStream;
    use std::time::{Duration, Instant as SystemInstant};

    fn listener() -> Listener {
        let addr = "127.0.0.1:0".parse().unwrap();
        Listener::bind(addr, Span::from_secs(30), None).unwrap()
    }

    #[test]
    fn connections_inherit_socket_options() {
        let mut listener = listener();
        let _peer = StdStream::connect(listener.local_addr()).unwrap();
        listener.begin(Instant::ZERO);
        let mut stats = ReactorStats::default();
        let (stream, _) = listener.accept(Instant::ZERO, &mut stats).unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(30)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(10)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(60))
        );
        // The kernel doubles them; a system may allow less.
        let sending = socket.send_buffer_size().unwrap();
        assert!(sending <= 2 * KERNEL_SEND_BYTES, "{sending}");
        let receiving = socket.recv_buffer_size().unwrap();
        assert!(receiving <= 2 * KERNEL_RECEIVE_BYTES, "{receiving}");
    }

    #[test]
    fn accepts_have_a_budget_per_turn() {
        let mut listener = listener();
        let addr = listener.local_addr();
        let mut stats = ReactorStats::default();
        let peers: Vec<_> = (0..3).map(|_| StdStream::connect(addr).unwrap()).collect();
        listener.begin(Instant::ZERO);
        listener.left = 2;
        assert!(listener.accept(Instant::ZERO, &mut stats).is_some());
        assert!(listener.accept(Instant::ZERO, &mut stats).is_some());
        assert!(listener.accept(Instant::ZERO, &mut stats).is_none());
        assert!(!listener.accepted_all());
        listener.begin(Instant::ZERO);
        assert!(listener.accept(Instant::ZERO, &mut stats).is_some());
        assert!(listener.accept(Instant::ZERO, &mut stats).is_none());
        assert!(listener.accepted_all());
        drop(peers);
    }

    #[test]
    fn accepting_resumes_at_the_deadline() {
        let mut listener = listener();
        let _peer = StdStream::connect(listener.local_addr()).unwrap();
        let mut stats = ReactorStats::default();
        let due = Instant::ZERO + Span::from_millis(ACCEPT_RETRY_MS);
        listener.begin(Instant::ZERO);
        listener.retry = Some(due);
        assert!(listener.accept(Instant::ZERO, &mut stats).is_none());
        assert!(listener.accepted_all(), "the horizon does not wait for it");
        listener.begin(due);
        assert!(listener.accept(due, &mut stats).is_some());
    }

    #[test]
    fn the_oldest_is_closed_so_that_it_knows() {
        use std::io::Read;
        let mut listener = listener();
        let mut peer = StdStream::connect(listener.local_addr()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut stats = ReactorStats::default();
        let start = SystemInstant::now();
        while stats.shed_descriptors == 0 && start.elapsed() < Duration::from_secs(20) {
            listener.shed_oldest(&mut stats);
        }
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn exhaustion_differs_from_a_peer_error() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(is_exhaustion(&io::Error::from_raw_os_error(errno)));
        }
        assert!(!is_exhaustion(&io::Error::from_raw_os_error(
            libc::ECONNABORTED
        )));
    }
}
