//! The service manager: sockets that it passes on, notifications, and its watchdog (systemd's
//! `LISTEN_FDS`, `NOTIFY_SOCKET` and `WATCHDOG_USEC`). Without one of these nothing happens.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use socket2::Socket;

use crate::reactor::inherited::{Addresses, Inherited};
use crate::server::{ServeError, Server};

use super::Failure;
use super::groups::counted;

/// Longest interval between two status messages to the service manager.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Takes the sockets that the service manager has bound. To be called once, before anything else
/// opens a descriptor by number.
///
/// # Errors
/// Wrong variables, or a socket without a use: status 1.
pub fn inherited(addresses: Addresses) -> Result<Inherited, Failure> {
    let refused = |error: io::Error| Failure::failed(format!("LISTEN_FDS: {error}"));
    let passed = sd_notify::listen_fds_with_names().map_err(refused)?;
    let sockets = passed.map(|(fd, name)| {
        // SAFETY: LISTEN_PID names this process, so the descriptor was passed to it to own, and
        // this is the only place that takes it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        (Socket::from(fd), name)
    });
    Inherited::sort(sockets.collect(), addresses).map_err(Failure::failed)
}

/// Connection to the service manager. Sending never waits: a message that its socket does not take
/// at once is dropped.
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Connects to the service manager, if there is one.
    pub fn connect() -> Self {
        let connected = std::env::var_os("NOTIFY_SOCKET").map(|path| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.connect(path)?;
            Ok::<_, io::Error>(socket)
        });
        let socket = connected.and_then(|connected| {
            let warn = |error: &io::Error| {
                log::warn!(target: "server", "NOTIFY_SOCKET cannot be used: {error}");
            };
            connected.inspect_err(warn).ok()
        });
        Self {
            watchdog: sd_notify::watchdog_enabled().filter(|_| socket.is_some()),
            socket,
        }
    }

    /// The server is ready, or has read its configuration again.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
        }
    }

    /// The server has begun to stop.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else {
            return;
        };
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        // A service manager that does not read must not hold the loop.
        let _ = socket.send(text.as_bytes());
    }

    /// Runs `server` to its end. Its own loop feeds the watchdog, so that a loop that no longer
    /// turns is noticed.
    ///
    /// # Errors
    /// The same as of [`Server::run`].
    pub fn run(&self, mut server: Server) -> Result<(), ServeError> {
        if self.socket.is_none() {
            return server.run();
        }
        let half = self.watchdog.map(|watchdog| watchdog / 2);
        let interval = half.map_or(STATUS_INTERVAL, |half| half.min(STATUS_INTERVAL));
        let mut due = Instant::now();
        let mut shown = None;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                due += interval;
                due = due.max(Instant::now());
                self.beat(&server, &mut shown);
                continue;
            }
            if !server.turn(Some(left))? {
                return Ok(());
            }
        }
    }

    fn beat(&self, server: &Server, shown: &mut Option<u64>) {
        if self.watchdog.is_some() {
            self.send(&[NotifyState::Watchdog]);
        }
        let online = server.hosts_online();
        if *shown != Some(online) {
            *shown = Some(online);
            self.send(&[NotifyState::Status(&format!("{} online", counted(online)))]);
        }
    }
}
