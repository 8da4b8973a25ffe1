//! A Redis Cluster, made with `redis-cli --cluster create` as an operator makes it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Keys, PAUSE, Process, Redis, free_port, until, until_so};

/// Silence after which a primary counts as dead, in milliseconds.
pub const NODE_TIMEOUT_MS: u32 = 1_500;
/// Offset of the port on which the servers of a Cluster talk to each other.
const BUS: u16 = 10_000;

/// The servers; they end with this value.
pub struct Cluster {
    servers: Vec<Redis>,
}

/// A server of a Cluster as it sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has slots, and takes writes.
    Primary,
    /// It follows a primary.
    Replica,
    /// It does not answer.
    Silent,
}

impl Cluster {
    /// Starts `primaries`, each with so many `replicas`, and waits until all slots are served and
    /// all replicas follow.
    #[track_caller]
    pub fn start(primaries: usize, replicas: usize) -> Self {
        let count = primaries * (1 + replicas);
        let timeout = NODE_TIMEOUT_MS.to_string();
        let server = |_| {
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                &timeout,
                // A replica that has just begun may be promoted.
                "--cluster-replica-validity-factor",
                "0",
                "--repl-diskless-sync-delay",
                "0",
            ];
            Redis::start_at(port_with_bus, &arguments)
        };
        let cluster = Self {
            servers: (0..count).map(server).collect(),
        };
        let places = cluster.places();
        let mut words = vec!["create"];
        words.extend(places.iter().map(String::as_str));
        let replicas = replicas.to_string();
        words.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        let made = cluster.manage(&words).output();
        let text = String::from_utf8_lossy(&made.stdout);
        assert!(made.status.success(), "{text}");
        until_so("a Cluster that serves all slots", || {
            cluster.servers.iter().all(is_complete)
        });
        cluster
    }

    /// `redis-cli --cluster` with these words, started.
    #[track_caller]
    pub fn manage(&self, words: &[&str]) -> Management {
        let mut command = Command::new("redis-cli");
        command.arg("--cluster").args(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Management(Process::start(&mut command))
    }

    /// Host and port of each server.
    pub fn places(&self) -> Vec<String> {
        let place = |server: &Redis| format!("127.0.0.1:{}", server.port());
        self.servers.iter().map(place).collect()
    }

    /// The store's URL.
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", self.places().join(","))
    }

    /// All servers.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// One server, for example to kill it.
    pub fn server_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.servers[number]
    }

    /// The role of each server.
    pub fn roles(&self) -> Vec<Role> {
        let role = |server: &Redis| match server.try_say::<Vec<redis::Value>>(&["ROLE"]) {
            Ok(role) if role.first() == Some(&redis::Value::BulkString(b"master".to_vec())) => {
                Role::Primary
            }
            Ok(_) => Role::Replica,
            Err(_) => Role::Silent,
        };
        self.servers.iter().map(role).collect()
    }

    /// The primaries.
    pub fn primaries(&self) -> impl Iterator<Item = &Redis> {
        let each = self.servers.iter().zip(self.roles());
        each.filter(|(_, role)| *role == Role::Primary)
            .map(|(server, _)| server)
    }

    /// The number of the server that has the slot of `key`.
    #[track_caller]
    pub fn owner_of(&self, key: &str) -> usize {
        until("the owner of a slot", || {
            let knows = |server: &Redis| server.try_say::<redis::Value>(&["EXISTS", key]).is_ok();
            self.servers.iter().position(knows)
        })
    }

    /// Makes a replica the primary of its slots, while the current primary is alive.
    #[track_caller]
    pub fn promote(&self, number: usize) {
        until_so("a promotion", || {
            let begun: redis::RedisResult<()> =
                self.servers[number].try_say(&["CLUSTER", "FAILOVER"]);
            // An attempt that is not voted for ends after some seconds, and is repeated.
            let deadline = Instant::now() + Duration::from_secs(6);
            let is_primary = || self.roles()[number] == Role::Primary;
            while begun.is_ok() && !is_primary() && Instant::now() < deadline {
                thread::sleep(PAUSE);
            }
            is_primary()
        });
    }

    /// Hosts online.
    #[track_caller]
    pub fn exists(&self) -> BTreeSet<String> {
        self.on_key(&["SMEMBERS", "exists"])
    }

    /// Deletes all keys.
    #[track_caller]
    pub fn clear(&self) {
        for primary in self.primaries() {
            let _: redis::Value = primary.say(&["FLUSHALL"]);
        }
    }

    /// Waits until every running server serves all slots.
    #[track_caller]
    pub fn until_whole(&self) {
        until_so("a Cluster that serves all slots again", || {
            let roles = self.roles();
            let each = self.servers.iter().zip(roles);
            each.filter(|(_, role)| *role != Role::Silent)
                .all(|(server, _)| is_whole(server))
        });
    }
}

impl Keys for Cluster {
    #[track_caller]
    fn on_key<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        until(&format!("an answer to {words:?}"), || {
            let mut servers = self.servers.iter();
            servers.find_map(|server| server.try_say(words).ok())
        })
    }
}

/// A `redis-cli --cluster` that was started.
pub struct Management(Process);

impl Management {
    /// Waits until it has ended, and returns its output.
    #[track_caller]
    pub fn output(self) -> Output {
        self.0.output()
    }

    /// Returns whether it has ended.
    #[track_caller]
    pub fn has_ended(&mut self) -> bool {
        self.0.try_ended().is_some()
    }
}

fn info(server: &Redis, words: &[&str]) -> String {
    server.try_say(words).unwrap_or_default()
}

fn is_whole(server: &Redis) -> bool {
    let info = info(server, &["CLUSTER", "INFO"]);
    info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
}

/// Returns whether the server serves all slots, and follows its primary if it is a replica.
fn is_complete(server: &Redis) -> bool {
    let replication = info(server, &["INFO", "replication"]);
    let follows =
        !replication.contains("role:slave") || replication.contains("master_link_status:up");
    is_whole(server) && follows
}

/// A free port whose bus port is free, too.
fn port_with_bus() -> u16 {
    until("two free ports", || {
        let port = free_port();
        let bus = port.checked_add(BUS)?;
        TcpListener::bind(("127.0.0.1", bus))
            .is_ok()
            .then_some(port)
    })
}
