//! Support for the tests of the older fleet: a Redis of their own, the built program in front of
//! it, connections from any loopback address, and the keys in a comparable form.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// Time limit of every condition.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Content of a key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    Set(BTreeSet<String>),
    List(Vec<String>),
    Hash(BTreeMap<String, String>),
    Zset(BTreeMap<String, f64>),
}

/// All that a program of the older fleet sees: every key but the server's own.
pub type Keys = BTreeMap<String, Stored>;

/// A real Redis on a free port; it ends with this value.
pub struct Redis {
    child: Child,
    /// Its port on 127.0.0.1.
    pub port: u16,
    connection: RefCell<redis::Connection>,
    _directory: TempDir,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            // Another process may take the port before the server does: it ends, and we try another.
            let port = free_port();
            let directory = tempfile::tempdir().unwrap();
            let mut child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(directory.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server is installed");
            while child.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE {
                if let Ok(connection) = connect_redis(port) {
                    return Self {
                        child,
                        port,
                        connection: RefCell::new(connection),
                        _directory: directory,
                    };
                }
                thread::sleep(Duration::from_millis(5));
            }
            end(&mut child);
        }
        panic!("no Redis came up");
    }

    /// Runs one command.
    pub fn say<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut *self.connection.borrow_mut())
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Every key but the server's own.
    pub fn keys(&self) -> Keys {
        let names: Vec<String> = self.say(&["KEYS", "*"]);
        let compatible = names.into_iter().filter(|key| !key.starts_with("anthill:"));
        compatible
            .filter_map(|key| self.stored(&key).map(|stored| (key, stored)))
            .collect()
    }

    fn stored(&self, key: &str) -> Option<Stored> {
        let kind: String = self.say(&["TYPE", key]);
        Some(match kind.as_str() {
            "set" => Stored::Set(self.say(&["SMEMBERS", key])),
            "list" => Stored::List(self.say(&["LRANGE", key, "0", "-1"])),
            "hash" => Stored::Hash(self.say(&["HGETALL", key])),
            "zset" => Stored::Zset(self.say(&["ZRANGE", key, "0", "-1", "WITHSCORES"])),
            "none" => return None,
            other => panic!("{key} is a {other}"),
        })
    }

    /// Waits until the keys are `expected`, and nothing else.
    #[track_caller]
    pub fn becomes(&self, what: &str, expected: &Keys) {
        let start = Instant::now();
        loop {
            let found = self.keys();
            if found == *expected {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what}:\n   found {found:#?}\nexpected {expected:#?}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A connection to the Redis on a port, as any program would make one.
pub fn connect_redis(port: u16) -> redis::RedisResult<redis::Connection> {
    redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection_with_timeout(PATIENCE)
}

/// Ends a child at once and collects it. One that has ended already is ended.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The built program; it ends with this value, at once and without a word.
pub struct Anthill {
    child: Child,
    tcp: SocketAddr,
    _directory: TempDir,
}

impl Anthill {
    /// Serves in front of `redis`, with these further sections of `config.json`.
    pub fn serve(redis: &Redis, sections: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = redis.port;
        let config = format!(
            r#"{{"server": {{"tcp": "127.0.0.1:0", "udp": "127.0.0.1:0", "http": "127.0.0.1:0"}},
                 "store": {{"url": "redis://127.0.0.1:{port}/0"}},
                 "log": {{"level": "error"}}, {sections}}}"#
        );
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_anthill"))
            .arg("serve")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let tcp = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("tcp="));
        Self {
            tcp: tcp
                .unwrap_or_else(|| panic!("no ready line: {line:?}"))
                .parse()
                .unwrap(),
            child,
            _directory: directory,
        }
    }

    /// A connection to it from a loopback address.
    pub fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddrV4::new(from, 0).into()).unwrap();
        socket
            .connect(&self.tcp.into())
            .unwrap_or_else(|error| panic!("from {from}: {error}"));
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Anthill {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The heartbeat of the old client.
pub const HEARTBEAT: &str = r#"{"flag": "ADH18", "phase": 1, "ACK": "keepAlive"}"#;

/// A frame as the old client packs it on the machines it runs on.
pub fn frame(body: &str) -> Vec<u8> {
    let length = i32::try_from(body.len()).unwrap();
    [&length.to_le_bytes(), body.as_bytes()].concat()
}

/// Says something that leaves no trace and asks for a reply, which comes when all that was said
/// before by this connection is stored. Nothing may come before it: the older client never reads.
pub fn all_before_is_stored(stream: &mut TcpStream, what: &str) {
    let question =
        r#"{"flag":"ADH33","RCC":1,"taskId":"ACnothing","answerTime":1.5,"reply":true,"seq":77}"#;
    let answer = r#"{"flag":"ADH33","ACK":"keepGotIt","seq":77}"#;
    stream.write_all(&frame(question)).unwrap();
    let mut found = vec![0; 4 + answer.len()];
    stream
        .read_exact(&mut found)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = String::from_utf8_lossy(&found[4..]);
    assert_eq!(found, answer, "{what}");
}
