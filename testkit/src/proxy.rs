//! A network that fails on demand, between the server and its Redis.
//!
//! ```text
//!  server ──▶ Proxy: pass, hang, refuse, delay, cut ──▶ Redis
//! ```
//!
//! A connection that hangs is not lost: its bytes arrive when the proxy passes again, as on a
//! repaired network.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::{PAUSE, free_port, until};

/// Treatment of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It passes everything on.
    Pass,
    /// It accepts connections, and passes nothing on.
    Hang,
    /// New connections are refused, and existing ones are cut.
    Refuse,
    /// Each piece is delayed by this time.
    Delay(Duration),
}

/// The proxy; it ends with this value.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    mode: Mutex<Mode>,
    /// The next reply is cut in the middle.
    cut: AtomicBool,
    cuts: AtomicU64,
    over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// In front of a port of this machine.
    pub fn before(to: u16) -> Self {
        let shared = Arc::new(Shared {
            to,
            mode: Mutex::new(Mode::Pass),
            cut: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            over: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let port = free_port();
        let listener = listen(port);
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || of_thread.accept(port, Some(listener)));
        Self { port, shared }
    }

    /// Its address as a store URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sets the mode.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode() = mode;
        if mode == Mode::Refuse {
            self.shared.cut_off();
        }
    }

    /// Cuts the next reply in the middle, and its connection with it.
    pub fn cut_next_reply(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
    }

    /// Number of replies cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.cut_off();
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = until("the proxy's port", || {
        TcpListener::bind(("127.0.0.1", port)).ok()
    });
    listener.set_nonblocking(true).expect("non-blocking");
    listener
}

impl Shared {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().expect("the mode")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn cut_off(&self) {
        for stream in self.streams.lock().expect("the streams").drain(..) {
            // One that has ended is ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn accept(self: Arc<Self>, port: u16, mut listener: Option<TcpListener>) {
        while !self.is_over() {
            let refuse = *self.mode() == Mode::Refuse;
            match (&listener, refuse) {
                (Some(_), true) => listener = None,
                (None, false) => listener = Some(listen(port)),
                (None, true) => thread::sleep(PAUSE),
                (Some(open), false) => match open.accept() {
                    Ok((client, _)) => self.join(client),
                    Err(_) => thread::sleep(PAUSE),
                },
            }
        }
    }

    /// Joins a client to the Redis, if that is there.
    fn join(self: &Arc<Self>, client: TcpStream) {
        client.set_nonblocking(false).expect("blocking");
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.to)) else {
            return;
        };
        let pairs = [(&client, &server, false), (&server, &client, true)];
        for (from, to, replies) in pairs {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(&from, &to, replies));
        }
        self.streams
            .lock()
            .expect("the streams")
            .extend([client, server]);
    }

    /// Passes on what comes, as the mode wants it.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, replies: bool) {
        from.set_read_timeout(Some(4 * PAUSE)).expect("a timeout");
        let mut bytes = [0; 64 * 1024];
        loop {
            let read = match from.read(&mut bytes) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => 0,
            };
            if let Mode::Delay(delay) = *self.mode() {
                thread::sleep(delay);
            }
            while *self.mode() == Mode::Hang && !self.is_over() {
                thread::sleep(PAUSE);
            }
            let cut = replies && read > 0 && self.cut.swap(false, Ordering::SeqCst);
            let kept = if cut { read / 2 } else { read };
            if to.write_all(&bytes[..kept]).is_err() || cut || read == 0 {
                self.cuts.fetch_add(u64::from(cut), Ordering::SeqCst);
                // Either may be closed already.
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                return;
            }
        }
    }
}
