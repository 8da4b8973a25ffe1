//! A Redis of a test's own, and what any other program would read in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::FromRedisValue;
use redis::streams::StreamRangeReply;
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, PAUSE};

/// A running Redis on a free port; it ends with this value.
pub struct Redis {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
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
    /// Starts one with further `arguments` and waits until it answers.
    pub fn start(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            // Another process may take the port before it does: then it ends, and we try another.
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let mut redis = Self {
                child: spawn(port, &arguments, dir.path()),
                port,
                arguments: arguments.clone(),
                dir,
            };
            if redis.answers() {
                return redis;
            }
        }
        panic!("no Redis came up");
    }

    fn answers(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            match self.try_say::<String>(&["PING"]) {
                Ok(_) => return true,
                Err(error) if error.to_string().contains("NOAUTH") => return true,
                Err(error) if error.to_string().contains("Authentication") => return true,
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        false
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

    /// Starts one that also speaks TLS, with these files; it demands no client certificate.
    pub fn start_with_tls(cert: &Path, key: &Path) -> Self {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let redis = Self::start(&[
                "--tls-port",
                &free_port().to_string(),
                "--tls-cert-file",
                cert.to_str().unwrap(),
                "--tls-key-file",
                key.to_str().unwrap(),
                "--tls-auth-clients",
                "no",
            ]);
            // Its second port may have been taken, too: then it would have ended at once.
            if std::net::TcpStream::connect(("127.0.0.1", redis.tls_port())).is_ok() {
                return redis;
            }
        }
        panic!("no Redis with TLS came up");
    }

    /// Its Unix socket as a store URL.
    pub fn unix_url(&self) -> String {
        format!("redis+unix://{}", self.dir.path().join("socket").display())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says something and returns the reply.
    #[track_caller]
    pub fn say<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_say(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same for what may fail.
    pub fn try_say<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
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

    /// The presence of one host as the events tell it: `online`, `offline closed`…
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

    /// It hangs.
    pub fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// It goes on.
    pub fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// It dies, and everything in it is gone.
    pub fn kill(&mut self) {
        // Already dead is dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// It comes back on the same port, with what its files hold: nothing, unless the test had them written.
    pub fn restart(&mut self) {
        self.kill();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            self.child = spawn(self.port, &self.arguments, self.dir.path());
            if self.answers() {
                return;
            }
        }
        panic!("Redis did not come back");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(port: u16, arguments: &[String], dir: &Path) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(dir.join("socket"))
        .arg("--dir")
        .arg(dir)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}
