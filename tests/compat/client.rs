//! The client of the older fleet, unmodified, as the server sees it: what it sends, in which pieces,
//! and when it is silent. Its book comes from Redis, its key in a datagram, both from the test.
//!
//! ```text
//!  test ── book ──▶ Redis ◀── keys ── anthill ◀── frames ── old client
//!    │                └────────────── book ──────────────────▶ ▲
//!    └────────────────────── key, by UDP ──────────────────────┘
//! ```

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testkit::{Redis, until_so};

use crate::support::{Anthill, HEARTBEAT, all_before_is_stored, frame};

/// Between two heartbeats: five seconds with the real one, which is fifty times slower throughout.
const BEAT: Duration = Duration::from_millis(100);

/// The client's connection behind its send lock.
struct Line {
    stream: Mutex<TcpStream>,
    beats: AtomicUsize,
    /// Steps taken of those that the test allowed.
    steps: AtomicUsize,
    over: AtomicBool,
}

impl Line {
    fn send(&self, body: &str) {
        send(&mut self.stream.lock().unwrap(), body);
    }

    fn beat(&self) {
        let mut stream = self.stream.lock().unwrap();
        send(&mut stream, HEARTBEAT);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
}

/// A message as it leaves the client: its length, then its body, in two sends.
fn send(stream: &mut TcpStream, body: &str) {
    let frame = frame(body);
    let (length, body) = frame.split_at(4);
    // It may send on a connection that the server has closed, and does not mind.
    let _ = stream
        .write_all(length)
        .and_then(|()| stream.write_all(body));
}

/// Text as Python's `json` writes it.
fn python_text(text: &str) -> String {
    let mut out = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'"') => out.push_str("\\\""),
            Ok(b'\\') => out.push_str("\\\\"),
            Ok(byte @ b' '..=b'~') => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out + "\""
}

fn python_list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| python_text(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// An ADH33, as it leaves the client.
pub fn answer(code: u8, task: Option<&str>) -> String {
    let task = task.map_or("null".to_owned(), python_text);
    format!(
        r#"{{"flag": "ADH33", "RCC": {code}, "taskId": {task}, "answerTime": 1795217644.5199502}}"#
    )
}

/// An ADH27, as it leaves the client.
pub fn progress(
    key: &str,
    phase: u8,
    working: Option<&str>,
    done: &[String],
    left: &[String],
) -> String {
    format!(
        r#"{{"flag": "ADH27", "code": {}, "phase": {phase}, "working": {}, "complete": {}, "oncall": {}}}"#,
        python_text(key),
        working.map_or("null".to_owned(), python_text),
        python_list(done),
        python_list(left),
    )
}

/// The thread of the client that takes datagrams and works them off, one after the other.
struct Worker {
    line: Arc<Line>,
    socket: UdpSocket,
    redis: redis::Connection,
    /// Each step waits for the test to allow it.
    gate: Receiver<()>,
    previous: Option<String>,
}

/// The test is over.
struct Over;

impl Worker {
    fn run(mut self) -> Result<(), Over> {
        let mut datagram = [0; 1024];
        loop {
            let length = match self.socket.recv(&mut datagram) {
                Ok(length) => length,
                Err(_) if self.line.over.load(Ordering::Relaxed) => return Ok(()),
                Err(_) => continue,
            };
            match std::str::from_utf8(&datagram[..length]) {
                Ok(text) => self.previous = Some(text.to_owned()),
                // It reports the damage with its previous text, and then runs that again.
                Err(_) => {
                    let damaged = answer(3, self.previous.as_deref());
                    self.step(|| self.line.send(&damaged))?;
                }
            }
            if let Some(text) = self.previous.clone() {
                self.obey(&text)?;
            }
        }
    }

    /// Takes one step when the test allows it.
    fn step(&self, take: impl FnOnce()) -> Result<(), Over> {
        self.gate.recv().map_err(|_| Over)?;
        take();
        self.line.steps.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Answers, and if the text is a key, runs its book.
    fn obey(&mut self, text: &str) -> Result<(), Over> {
        self.step(|| self.line.send(&answer(1, Some(text))))?;
        if !text.starts_with("AC") {
            return Ok(());
        }
        let book: Vec<(String, f64)> = redis::cmd("ZREVRANGE")
            .arg(&[text, "0", "-1", "WITHSCORES"])
            .query(&mut self.redis)
            .unwrap();
        let commands: Vec<String> = book.into_iter().map(|(command, _)| command).collect();
        if commands.is_empty() {
            return self.step(|| self.line.send(&answer(2, None)));
        }
        self.step(|| self.line.send(&progress(text, 1, None, &[], &commands)))?;
        for index in 0..commands.len() {
            self.command(text, &commands, index)?;
            thread::sleep(BEAT);
        }
        Ok(())
    }

    /// Runs one command under the send lock: one step to begin it, one to end it. A `sleep` has the
    /// lock before phase 2 gets it, so that this waits for the command's end, as a heartbeat does.
    fn command(&self, key: &str, commands: &[String], index: usize) -> Result<(), Over> {
        let (done, left) = commands.split_at(index);
        let begun = progress(key, 2, Some(&left[0]), done, left);
        let (done, left_then) = commands.split_at(index + 1);
        let ended = progress(key, 3, None, done, left_then);
        if left[0].starts_with("sleep") {
            let mut stream = self.line.stream.lock().unwrap();
            self.step(|| ())?;
            self.step(|| {
                send(&mut stream, &begun);
                send(&mut stream, HEARTBEAT);
                send(&mut stream, &ended);
            })
        } else {
            self.step(|| self.line.send(&begun))?;
            let mut stream = self.line.stream.lock().unwrap();
            self.step(|| send(&mut stream, &ended))
        }
    }
}

/// A running client; it ends with this value.
pub struct OldClient {
    address: Ipv4Addr,
    line: Arc<Line>,
    udp: SocketAddr,
    gate: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl OldClient {
    /// Connects from `address`, beats, and waits for datagrams.
    pub fn start(address: Ipv4Addr, anthill: &Anthill, redis: &Redis) -> Self {
        let line = Arc::new(Line {
            stream: Mutex::new(anthill.connect(address)),
            beats: AtomicUsize::new(0),
            steps: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(BEAT)).unwrap();
        let udp = socket.local_addr().unwrap();
        let (gate, steps) = channel();
        let receiver = Worker {
            line: Arc::clone(&line),
            socket,
            redis: redis.connect().unwrap(),
            gate: steps,
            previous: None,
        };
        let beating = Arc::clone(&line);
        let threads = vec![
            thread::spawn(move || {
                while !beating.over.load(Ordering::Relaxed) {
                    beating.beat();
                    thread::sleep(BEAT);
                }
            }),
            thread::spawn(move || {
                let _ = receiver.run();
            }),
        ];
        Self {
            address,
            line,
            udp,
            gate: Some(gate),
            threads,
        }
    }

    /// Allows the next steps and waits until they are taken.
    pub fn go(&self, steps: usize) {
        let before = self.line.steps.load(Ordering::Relaxed);
        let gate = self.gate.as_ref().expect("there until the end");
        for _ in 0..steps {
            gate.send(()).unwrap();
        }
        until_so(&format!("{} takes its steps", self.address), || {
            self.line.steps.load(Ordering::Relaxed) >= before + steps
        });
    }

    /// Sends it a datagram, as the dispatcher would.
    pub fn datagram(&self, bytes: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(socket.send_to(bytes, self.udp).unwrap(), bytes.len());
    }

    /// Waits until all that it has sent is in Redis. Not while it runs a command.
    pub fn is_stored(&self, what: &str) {
        all_before_is_stored(&mut self.hold(), what);
    }

    /// Takes its send lock, so that it falls silent.
    pub fn hold(&self) -> MutexGuard<'_, TcpStream> {
        self.line.stream.lock().unwrap()
    }

    /// Number of heartbeats it has sent by itself.
    pub fn beats(&self) -> usize {
        self.line.beats.load(Ordering::Relaxed)
    }
}

impl Drop for OldClient {
    fn drop(&mut self) {
        self.line.over.store(true, Ordering::Relaxed);
        self.gate = None;
        for thread in self.threads.drain(..) {
            // A failed test has said so already.
            let _ = thread.join();
        }
    }
}
