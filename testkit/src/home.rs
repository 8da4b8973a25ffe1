//! Directory of a server, with its configuration and its store. Servers may start and stop in it,
//! as over restarts.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Redis, Server};

/// A directory, a configuration and a store.
pub struct Home {
    dir: tempfile::TempDir,
    config: Value,
    environment: Vec<(String, String)>,
    redis: Option<Redis>,
}

impl Home {
    /// With the embedded store.
    pub fn embedded() -> Self {
        Self::with_store("embedded:data", None)
    }

    /// With a Redis of its own.
    pub fn redis() -> Self {
        Self::redis_with(&[])
    }

    /// With a Redis of its own that has further `arguments`.
    pub fn redis_with(arguments: &[&str]) -> Self {
        let redis = Redis::start(arguments);
        let url = redis.url();
        Self::with_store(&url, Some(redis))
    }

    /// Creates one with the store at `url`, which the caller manages.
    pub fn at(url: &str) -> Self {
        Self::with_store(url, None)
    }

    fn with_store(url: &str, redis: Option<Redis>) -> Self {
        let config = json!({
            "server": {"name": "n1", "tcp": "127.0.0.1:0", "udp": "127.0.0.1:0", "http": "127.0.0.1:0"},
            "store": {"url": url, "spool": "spool", "flush_ms": 5},
        });
        Self {
            dir: tempfile::tempdir().unwrap(),
            config,
            environment: Vec::new(),
            redis,
        }
    }

    /// Sets a key, as `heartbeat.timeout_s`, for the servers started from now on.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let (section, name) = key.split_once('.').expect("section.name");
        self.config[section][name] = value.into();
        self
    }

    /// Lets it listen where others than this machine may reach it.
    pub fn auth_none(&mut self) -> &mut Self {
        self.config["auth"] = "none".into();
        self
    }

    /// Sets a section that is one value.
    pub fn set_section(&mut self, section: &str, value: Value) -> &mut Self {
        self.config[section] = value;
        self
    }

    /// Sets `auth`.
    pub fn auth(&mut self, auth: Value) -> &mut Self {
        self.config["auth"] = auth;
        self
    }

    /// Sets a variable of the environment of the servers started from now on.
    pub fn environment(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its Redis.
    pub fn store(&self) -> &Redis {
        self.redis.as_ref().expect("a home with Redis")
    }

    /// The same, for example to kill it.
    pub fn store_mut(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("a home with Redis")
    }

    /// Returns whether it has a Redis.
    pub fn has_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Writes the configuration as it is now and returns its path.
    pub fn write_config(&self) -> PathBuf {
        let path = self.path().join("config.json");
        std::fs::write(&path, self.config.to_string()).unwrap();
        path
    }

    /// Starts a server and waits for its ready line. It is in the directory and finds its
    /// configuration there.
    pub fn start(&self) -> Server {
        self.write_config();
        Server::start(self.path(), &[], &self.environment)
    }
}
