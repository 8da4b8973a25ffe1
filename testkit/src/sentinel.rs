//! A Redis master, its replica, and three Sentinels that replace the master when it dies.

use std::process::{Command, Stdio};

use redis::FromRedisValue;

use crate::{Keys, Process, Redis, free_port, until, until_so};

/// Name under which the Sentinels watch the master.
pub const MASTER: &str = "ants";
/// Silence after which a Sentinel takes the master for dead, in milliseconds.
const DOWN_AFTER_MS: u32 = 1_000;

/// The servers; they end with this value.
pub struct Sentinels {
    servers: [Redis; 2],
    sentinels: Vec<Sentinel>,
}

/// One Sentinel; it ends with this value.
pub struct Sentinel {
    port: u16,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Sentinels {
    /// Starts them, and waits until all know each other.
    #[track_caller]
    pub fn start() -> Self {
        let master = Redis::start(&[]);
        let port = master.port().to_string();
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]);
        let all = Self {
            sentinels: (0..3).map(|_| Sentinel::start(master.port())).collect(),
            servers: [master, replica],
        };
        until_so("Sentinels that know all", || {
            all.sentinels.iter().all(Sentinel::knows_all)
        });
        all
    }

    /// The store's URL.
    pub fn url(&self) -> String {
        let of = |sentinel: &Sentinel| format!("127.0.0.1:{}", sentinel.port);
        let all: Vec<String> = self.sentinels.iter().map(of).collect();
        format!("redis+sentinel://{}/{MASTER}", all.join(","))
    }

    /// The server that is the master now.
    #[track_caller]
    pub fn master(&self) -> &Redis {
        let place = self.master_place();
        &self.servers[place]
    }

    /// The same, for example to kill it.
    #[track_caller]
    pub fn master_mut(&mut self) -> &mut Redis {
        let place = self.master_place();
        &mut self.servers[place]
    }

    /// The server that the first Sentinel names and that knows to be the master.
    fn master_place(&self) -> usize {
        until("a master", || {
            let named = self.named()?;
            let place = |server: &Redis| server.port() == named;
            let place = self.servers.iter().position(place)?;
            let role = self.servers[place].try_say::<Vec<redis::Value>>(&["ROLE"]);
            let first = role.ok()?.into_iter().next()?;
            (String::from_redis_value(first).ok()? == "master").then_some(place)
        })
    }

    /// The port of the master, as the first Sentinel names it.
    pub fn named(&self) -> Option<u16> {
        let reply: Vec<String> = self.sentinels[0]
            .say(&["SENTINEL", "get-master-addr-by-name", MASTER])
            .ok()?;
        reply.get(1)?.parse().ok()
    }

    /// Lets the Sentinels replace the living master, and waits until they name the other server.
    #[track_caller]
    pub fn fail_over(&self) {
        let before = self.named().expect("a master");
        until_so("a failover", || {
            // Refused for a while after another failover.
            let begun = self.sentinels[0].say::<redis::Value>(&["SENTINEL", "FAILOVER", MASTER]);
            begun.is_ok() || self.named() != Some(before)
        });
        until_so("another master", || {
            self.named().is_some_and(|port| port != before)
        });
    }

    /// Stops a Sentinel: it keeps its connections and answers nothing.
    pub fn stop_sentinel(&self, number: usize) {
        self.sentinels[number]
            .process
            .signal(rustix::process::Signal::STOP);
    }
}

impl Keys for Sentinels {
    #[track_caller]
    fn on_key<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.master().say(words)
    }
}

impl Sentinel {
    /// Starts one that watches the master at this port, and waits until it answers.
    #[track_caller]
    pub fn start(master: u16) -> Self {
        until("a Sentinel", || {
            let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
            let file = dir.path().join("sentinel.conf");
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout {MASTER} 3000\n",
                dir.path().display(),
            );
            std::fs::write(&file, text).unwrap();
            let mut command = Command::new("redis-server");
            command.arg(&file).arg("--sentinel");
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut sentinel = Self {
                port,
                process: Process::start(&mut command),
                _dir: dir,
            };
            until("an answer of the Sentinel", || {
                if sentinel.process.try_ended().is_some() {
                    return Some(false);
                }
                sentinel.say::<String>(&["PING"]).is_ok().then_some(true)
            })
            .then_some(sentinel)
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn say<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection()?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    fn knows_all(&self) -> bool {
        let master =
            self.say::<std::collections::HashMap<String, String>>(&["SENTINEL", "master", MASTER]);
        let Ok(master) = master else { return false };
        let is = |name: &str, value: &str| master.get(name).is_some_and(|is| is == value);
        is("num-slaves", "1") && is("num-other-sentinels", "2") && is("flags", "master")
    }
}
