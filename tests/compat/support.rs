//! Support for the tests of the older fleet: the built program in front of a Redis, connections from any
//! loopback address, and the keys in a comparable form.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use serde::Deserialize;
use serde_json::Value;
use testkit::{Home, Host, Redis, Server, little, until_or};

/// Content of a key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    Set(BTreeSet<String>),
    List(Vec<String>),
    Hash(BTreeMap<String, String>),
    Zset(BTreeMap<String, f64>),
}

/// Every key that a program of the older fleet sees: all but the server's own.
pub type Keys = BTreeMap<String, Stored>;

/// Every key but the server's own.
pub fn keys(redis: &Redis) -> Keys {
    let mut connection = redis.connect().expect("Redis");
    let names: Vec<String> = say(&mut connection, &["KEYS", "*"]);
    let compatible = names.into_iter().filter(|key| !key.starts_with("anthill:"));
    compatible
        .filter_map(|key| stored(&mut connection, &key).map(|stored| (key, stored)))
        .collect()
}

fn say<T: redis::FromRedisValue>(connection: &mut redis::Connection, words: &[&str]) -> T {
    let reply = redis::cmd(words[0]).arg(&words[1..]).query(connection);
    reply.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn stored(connection: &mut redis::Connection, key: &str) -> Option<Stored> {
    let kind: String = say(connection, &["TYPE", key]);
    Some(match kind.as_str() {
        "set" => Stored::Set(say(connection, &["SMEMBERS", key])),
        "list" => Stored::List(say(connection, &["LRANGE", key, "0", "-1"])),
        "hash" => Stored::Hash(say(connection, &["HGETALL", key])),
        "zset" => Stored::Zset(say(connection, &["ZRANGE", key, "0", "-1", "WITHSCORES"])),
        "none" => return None,
        other => panic!("{key} is a {other}"),
    })
}

/// Waits until the keys are exactly `expected`.
#[track_caller]
pub fn until_keys(redis: &Redis, what: &str, expected: &Keys) {
    let mut found = Keys::new();
    let so = until_or(|| {
        found = keys(redis);
        (found == *expected).then_some(())
    });
    assert!(
        so.is_some(),
        "{what}:\n   found {found:#?}\nexpected {expected:#?}"
    );
}

/// The built program; it ends with this value.
pub struct Anthill {
    server: Server,
    _home: Home,
}

impl Anthill {
    /// Serves in front of `redis`, with these configuration keys.
    pub fn serve(redis: &Redis, settings: &[(&str, Value)]) -> Self {
        let mut home = Home::at(&redis.url());
        for (key, value) in settings {
            home.set(key, value.clone());
        }
        let server = home.start();
        Self {
            server,
            _home: home,
        }
    }

    /// A connection to it from a loopback address.
    pub fn connect(&self, from: Ipv4Addr) -> TcpStream {
        Host::connect(self.server.tcp, &from.to_string()).stream
    }
}

/// The heartbeat of the old client.
pub const HEARTBEAT: &str = r#"{"flag": "ADH18", "phase": 1, "ACK": "keepAlive"}"#;

/// A frame as the old client packs it on the machines it runs on.
pub fn frame(body: &str) -> Vec<u8> {
    little(body.as_bytes())
}

/// Sends a message that leaves no trace and asks for a reply. The reply comes when everything that
/// this connection sent before is stored. Nothing may come before it: the older client never reads.
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
