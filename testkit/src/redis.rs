//! A Redis server of a test's own, and its keys as any other program reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use redis::FromRedisValue;
use redis::streams::StreamRangeReply;
use rustix::process::Signal;

use crate::{PATIENCE, Process, until, until_or};

/// A running Redis on a free port and a Unix socket; it ends with this value.
pub struct Redis {
    process: Process,
    port: u16,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
}

/// Keys of a store on one or several servers.
pub trait Keys {
    /// Runs a command whose first argument is its key, and returns the reply.
    fn on_key<T: FromRedisValue>(&self, words: &[&str]) -> T;
}

impl Keys for Redis {
    #[track_caller]
    fn on_key<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.say(words)
    }
}

/// An entry of the events.
#[derive(Clone, Debug)]
pub struct Event(BTreeMap<String, String>);

impl Event {
    /// A field; empty if it has none of this name.
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl Redis {
    /// Starts a server with further `arguments` and waits until it answers.
    ///
    /// # Panics
    /// When no `redis-server` is installed, or it does not come up.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_at(free_port, arguments)
    }

    /// Starts a server on a port that `port` finds.
    #[track_caller]
    pub(crate) fn start_at(port: impl Fn() -> u16, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        until("a Redis", || {
            // Another process may take the port first. Then the server ends, and the next port is tried.
            let (port, dir) = (port(), tempfile::tempdir().unwrap());
            let mut redis = Self {
                process: spawn(port, &arguments, dir.path()),
                port,
                arguments: arguments.clone(),
                dir,
            };
            redis.answers().then_some(redis)
        })
    }

    /// Returns whether a `redis-server` is installed.
    pub fn is_installed() -> bool {
        let mut version = Command::new("redis-server");
        version.arg("--version").output().is_ok()
    }

    /// Waits until it answers; false if it ended instead.
    fn answers(&mut self) -> bool {
        let answers = until_or(|| {
            if self.process.try_ended().is_some() {
                return Some(false);
            }
            match self.try_say::<String>(&["PING"]) {
                Ok(_) => Some(true),
                Err(error) if error.to_string().contains("NOAUTH") => Some(true),
                Err(error) if error.to_string().contains("Authentication") => Some(true),
                Err(_) => None,
            }
        });
        answers == Some(true)
    }

    /// Its address as a store URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// A port over which it also speaks TLS, if it was started with [`Self::start_with_tls`].
    pub fn tls_port(&self) -> u16 {
        let at = self.arguments.iter().position(|word| word == "--tls-port");
        self.arguments[at.expect("with TLS") + 1].parse().unwrap()
    }

    /// Starts a server that also speaks TLS, with these files; it demands no client certificate.
    #[track_caller]
    pub fn start_with_tls(cert: &Path, key: &Path) -> Self {
        let files = [cert, key].map(|path| path.to_str().expect("text"));
        until("a Redis with TLS", || {
            let redis = Self::start(&[
                "--tls-port",
                &free_port().to_string(),
                "--tls-cert-file",
                files[0],
                "--tls-key-file",
                files[1],
                "--tls-auth-clients",
                "no",
            ]);
            // Its second port may have been taken, too.
            let connected = std::net::TcpStream::connect(("127.0.0.1", redis.tls_port()));
            connected.is_ok().then_some(redis)
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Its Unix socket as a store URL.
    pub fn unix_url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command and returns the reply.
    #[track_caller]
    pub fn say<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_say(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs a command that may fail.
    pub fn try_say<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut self.connect()?)
    }

    /// A connection of its own.
    pub fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(connection)
    }

    /// Hosts online.
    #[track_caller]
    pub fn exists(&self) -> BTreeSet<String> {
        self.say(&["SMEMBERS", "exists"])
    }

    /// All events so far, the oldest first.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        let stream: StreamRangeReply = self.say(&["XRANGE", "anthill:events", "-", "+"]);
        let entry = |entry: redis::streams::StreamId| {
            let field = |(name, value): (String, redis::Value)| {
                (name, redis::from_redis_value(value).expect("a text"))
            };
            Event(entry.map.into_iter().map(field).collect())
        };
        stream.ids.into_iter().map(entry).collect()
    }

    /// The presence of one host according to the events: `online`, `offline closed`…
    #[track_caller]
    pub fn story(&self, host: &str) -> Vec<String> {
        let of_host = |event: &Event| {
            let presence = matches!(event.field("event"), "online" | "offline");
            (presence && event.field("host") == host).then(|| {
                let words = format!("{} {}", event.field("event"), event.field("reason"));
                words.trim_end().to_owned()
            })
        };
        self.events().iter().filter_map(of_host).collect()
    }

    /// Stops it: it keeps its connections and answers nothing.
    pub fn stop(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it continue after [`stop`](Self::stop).
    pub fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Kills it, and loses everything in its memory.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with what its files hold: nothing, unless the test had them written.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        until("Redis on its former port", || {
            self.process = spawn(self.port, &self.arguments, self.dir.path());
            self.answers().then_some(())
        });
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(port: u16, arguments: &[String], dir: &Path) -> Process {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(dir.join("socket"))
        .arg("--dir")
        .arg(dir)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::start(&mut command)
}
