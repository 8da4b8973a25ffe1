//! The client of the older fleet at its own pace: one thread that takes datagrams and works them off, one that beats, and
//! a send lock between them that is held while a command runs. What it has to say while it has no socket is gone.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::Host;

use crate::client::{answer, progress};
use crate::support::{HEARTBEAT, frame};

/// Between two heartbeats.
const BEATS: Duration = Duration::from_secs(5);
/// Sleep after every command, the last one too.
const SLEEP: Duration = Duration::from_secs(5);
/// Time that a receiver which found no book takes to be back.
const BACK: Duration = Duration::from_secs(10);
/// Between two looks at whether the test is over.
const LOOK: Duration = Duration::from_millis(100);

struct Client {
    ip: String,
    server: SocketAddr,
    redis: String,
    dir: PathBuf,
    /// The socket behind the send lock.
    stream: Mutex<Option<Host>>,
    over: AtomicBool,
}

/// A running client; it ends with this value.
pub struct OldClient {
    client: Arc<Client>,
    threads: Vec<JoinHandle<()>>,
}

impl OldClient {
    /// Connects from `ip`, takes datagrams at `port` there, and runs commands in a directory of its own below `dir`.
    pub fn start(ip: &str, port: u16, server: SocketAddr, redis: &str, dir: &Path) -> Self {
        let client = Arc::new(Client {
            ip: ip.to_owned(),
            server,
            redis: redis.to_owned(),
            dir: dir.join(ip),
            stream: Mutex::new(None),
            over: AtomicBool::new(false),
        });
        std::fs::create_dir(&client.dir).expect("a directory of its own");
        let at: SocketAddr = format!("{ip}:{port}").parse().expect("an address");
        let socket = UdpSocket::bind(at).expect("the agents' port");
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let (beats, works) = (Arc::clone(&client), Arc::clone(&client));
        let threads = vec![
            thread::spawn(move || beats.beat()),
            thread::spawn(move || works.receive(&socket)),
        ];
        Self { client, threads }
    }

    /// The lines that its commands have appended to a file.
    pub fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.client.dir.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for OldClient {
    fn drop(&mut self) {
        self.client.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A failed test has said so already.
            let _ = thread.join();
        }
    }
}

impl Client {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sleeps, unless the test ends.
    fn sleep(&self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time && !self.is_over() {
            thread::sleep(LOOK.min(time));
        }
    }

    /// Beats, and connects where there is no socket.
    fn beat(&self) {
        while !self.is_over() {
            let mut stream = self.stream.lock().unwrap();
            if stream.is_none() {
                *stream = Host::try_connect(self.server, &self.ip).ok();
            }
            say(&mut stream, HEARTBEAT);
            let is_there = stream.is_some();
            drop(stream);
            self.sleep(if is_there { BEATS } else { LOOK });
        }
    }

    fn say(&self, text: &str) {
        say(&mut self.stream.lock().unwrap(), text);
    }

    fn receive(&self, socket: &UdpSocket) {
        let mut datagram = [0; 1_024];
        while !self.is_over() {
            let Ok(length) = socket.recv(&mut datagram) else {
                continue;
            };
            let key = String::from_utf8_lossy(&datagram[..length]).into_owned();
            self.work(&key);
        }
    }

    fn work(&self, key: &str) {
        self.say(&answer(1, Some(key)));
        let book = self.book(key);
        if book.is_empty() {
            self.say(&answer(2, Some(key)));
            return self.sleep(BACK);
        }
        self.say(&progress(key, 1, None, &[], &book));
        for at in 0..book.len() {
            if self.is_over() {
                return;
            }
            let (done, left) = book.split_at(at);
            let mut stream = self.stream.lock().unwrap();
            let status = Command::new("sh")
                .args(["-c", &left[0]])
                .current_dir(&self.dir)
                .stdin(Stdio::null())
                .status();
            assert!(status.is_ok_and(|status| status.success()), "{}", left[0]);
            let began = progress(key, 2, Some(&left[0]), done, left);
            let ended = progress(key, 3, None, &book[..=at], &left[1..]);
            for text in [&*began, HEARTBEAT, &ended] {
                say(&mut stream, text);
            }
            drop(stream);
            self.sleep(SLEEP);
        }
    }

    /// The book in Redis, the highest priority first.
    fn book(&self, key: &str) -> Vec<String> {
        let client = redis::Client::open(self.redis.as_str()).expect("an address");
        let mut connection = client.get_connection().expect("Redis");
        redis::cmd("ZREVRANGE")
            .arg(&[key, "0", "-1"])
            .query(&mut connection)
            .expect("a book")
    }
}

/// Sends a frame. What cannot be sent is gone, and so is the socket.
fn say(stream: &mut Option<Host>, body: &str) {
    let sent = stream
        .as_mut()
        .map(|host| host.stream.write_all(&frame(body)));
    if !matches!(sent, Some(Ok(()))) {
        *stream = None;
    }
}
