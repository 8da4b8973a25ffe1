//! A Redis of a test's own: a real server on a free port and a Unix socket in a directory that goes
//! with it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::store::address::{RedisAddress, RedisPlace};
use crate::store::redis::RedisStore;
use crate::store::{Backend, Settings};
use crate::time::Span;

/// Time limit of every condition.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; it ends with this value.
pub(super) struct RedisServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
}

impl RedisServer {
    /// Starts a server with further `arguments` and waits until it answers.
    pub(super) fn start(arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Another process may take the port before the server does: then it ends, and we try another.
            let port = free_port();
            let directory = tempfile::tempdir().unwrap();
            let mut server = Self {
                child: spawn(port, &arguments, directory.path()),
                port,
                arguments: arguments.clone(),
                directory,
            };
            if server.answers() {
                server.enter_user();
                return server;
            }
        }
        panic!("no Redis came up");
    }

    /// Creates the user of the docs, with whose rights every [`store`](Self::store) runs. It may
    /// also read keys back.
    fn enter_user(&self) {
        let docs = include_str!("../../../../docs/operations.md");
        let user = docs.lines().find(|line| line.contains("user anthill on "));
        let user = user.expect("the docs have the user");
        let words: Vec<&str> = user.split_whitespace().skip(1).collect();
        let reading = ["+smembers", "+zrange", "+xrange"];
        let user: Vec<&str> = ["ACL", "SETUSER"]
            .into_iter()
            .chain(words)
            .chain(reading)
            .collect();
        // One that asks for a password has its own users.
        let _ = self.try_say::<redis::Value>(&user);
    }

    /// Commands that the user of the docs was denied, from the server's log.
    fn denied(&self) -> Vec<String> {
        let log: redis::RedisResult<Vec<std::collections::HashMap<String, redis::Value>>> =
            self.try_say(&["ACL", "LOG"]);
        let entries = log.unwrap_or_default().into_iter();
        let entries = entries.map(|entry| format!("{entry:?}"));
        entries
            .filter(|entry| entry.contains("user=anthill "))
            .collect()
    }

    /// Waits until it answers; false if it ended instead.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            match self.try_say::<String>(&["PING"]) {
                Ok(_) => return true,
                Err(error) if error.to_string().contains("NOAUTH") => return true,
                Err(error) if error.to_string().contains("Authentication") => return true,
                Err(_) => {}
            }
            std::thread::yield_now();
        }
        false
    }

    /// Its address over TCP.
    pub(super) fn address(&self) -> RedisAddress {
        RedisAddress {
            place: RedisPlace::Tcp {
                host: "127.0.0.1".to_owned(),
                port: self.port,
            },
            user: None,
            password: None,
            db: 0,
        }
    }

    /// Its address over the Unix socket.
    pub(super) fn unix_address(&self) -> RedisAddress {
        RedisAddress {
            place: RedisPlace::Unix(self.socket()),
            ..self.address()
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// A connected store of this node.
    pub(super) fn store(&self, settings: Settings) -> RedisStore {
        let mut address = self.address();
        address.user = Some("anthill".to_owned());
        address.password = Some("CHANGE-ME".to_owned());
        let mut store = RedisStore::new(address, settings);
        store.open().unwrap();
        store
    }

    /// A connected store of this node, behind the default user, whose rights a test may take away.
    pub(super) fn store_as_default(&self, settings: Settings) -> RedisStore {
        let mut store = RedisStore::new(self.address(), settings);
        store.open().unwrap();
        store
    }

    /// Says something to it as any other program would, and returns the reply.
    pub(super) fn say(&self, words: &[&str]) -> redis::Value {
        self.try_say(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same for what may be refused.
    pub(super) fn try_say<T: redis::FromRedisValue>(
        &self,
        words: &[&str],
    ) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    /// It hangs.
    pub(super) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub(super) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// It dies, and everything in it is gone.
    pub(super) fn kill(&mut self) {
        // Already dead is dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Comes back on the same port.
    pub(super) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, &self.arguments, self.directory.path());
        assert!(self.answers(), "it did not come back");
        self.enter_user();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(
                self.denied(),
                [""; 0],
                "the user of the docs lacks something"
            );
        }
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(port: u16, arguments: &[String], directory: &std::path::Path) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(directory.join("socket"))
        .arg("--dir")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// Settings of a node, as they are when nothing is configured.
pub(super) fn settings(node: &str) -> Settings {
    Settings {
        node: node.to_owned(),
        delete_fields: vec!["systemInfo".to_owned(), "systemInfoIPV4".to_owned()],
        clear_on_done: false,
        keep: Span::from_secs(604_800),
        timeout: Span::from_secs(10),
    }
}
