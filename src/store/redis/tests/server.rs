//! A Redis for the tests of the store, with the user of the docs.

use std::ops::{Deref, DerefMut};

pub(super) use testkit::PATIENCE;
use testkit::Redis;

use crate::store::address::{RedisAddress, RedisPlace};
use crate::store::redis::RedisStore;
use crate::store::{Backend, Settings};
use crate::time::Span;

/// A running server; it ends with this value.
pub(super) struct RedisServer(Redis);

impl RedisServer {
    /// Starts a server with further `arguments` and waits until it answers.
    pub(super) fn start(arguments: &[&str]) -> Self {
        let server = Self(Redis::start(arguments));
        server.enter_user();
        server
    }

    /// Creates the user of the docs, with whose rights every [`store`](Self::store) runs. It may
    /// also read keys back.
    fn enter_user(&self) {
        // A server that asks for a password has its own users.
        let _ = self.try_say::<redis::Value>(&user_of_the_docs());
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

    /// Its address over TCP.
    pub(super) fn address(&self) -> RedisAddress {
        RedisAddress {
            place: RedisPlace::Tcp {
                host: "127.0.0.1".to_owned(),
                port: self.port(),
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

    /// Runs a command as any other program does, and returns the reply.
    pub(super) fn say(&self, words: &[&str]) -> redis::Value {
        self.0.say(words)
    }

    /// Starts it again on the same port, with nothing in it.
    pub(super) fn restart(&mut self) {
        self.0.restart();
        self.enter_user();
    }
}

impl Deref for RedisServer {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.0
    }
}

impl DerefMut for RedisServer {
    fn deref_mut(&mut self) -> &mut Redis {
        &mut self.0
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
    }
}

/// The command that creates the user of the docs.
pub(super) fn user_of_the_docs() -> Vec<&'static str> {
    let docs = include_str!("../../../../docs/operations.md");
    let user = docs.lines().find(|line| line.contains("user anthill on "));
    let user = user.expect("the docs have the user");
    let words = user.split_whitespace().skip(1);
    let reading = ["+smembers", "+zrange", "+xrange"];
    ["ACL", "SETUSER"]
        .into_iter()
        .chain(words)
        .chain(reading)
        .collect()
}

/// Settings of a node, as they are when nothing is configured.
pub(super) fn settings(node: &str) -> Settings {
    Settings {
        node: node.to_owned(),
        delete_fields: vec!["systemInfo".to_owned(), "systemInfoIPV4".to_owned()],
        clear_on_done: false,
        keep: Span::from_secs(604_800),
        timeout: Span::from_secs(10),
        wait_replicas: 0,
        info: crate::store::NodeInfo::default(),
    }
}
