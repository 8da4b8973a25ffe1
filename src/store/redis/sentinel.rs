//! The master of a group of servers, as Sentinels name it.
//!
//! ```text
//!  each Sentinel, for a share of the timeout ──▶ address ──▶ connect ──▶ ROLE: master ──▶ used
//!                     ▲                                         │ unreachable, or a replica
//!                     └──────────────── the next one ◀──────────┘
//! ```
//!
//! The Sentinels are asked at each connection. A master that is replaced closes its connections, or
//! answers `READONLY`; both end the store connection, so that they are asked again. One that is
//! replaced and does not know it yet is found by [`MasterWatch`].

use std::time::{Duration, Instant};

use redis::Value;

use super::connection::{Commands, Connection, admitted, hide, login, never_begun};
use super::errors::{Fault, judge, text as error_text};
use super::step::{list, text, texts};
use super::watch::MasterWatch;
use crate::store::StoreError;
use crate::store::address::{HostPort, RedisAddress, RedisSeeds};

/// Address of a master, as a Sentinel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) host: String,
    pub(super) port: u16,
    /// Number of the failover that made it the master; `None` if the Sentinel does not tell.
    pub(super) epoch: Option<u64>,
}

/// Connects to the master. The Sentinel at `rotation` is asked first. All together are waited for at
/// most `timeout`, and so is each server that they name.
///
/// # Errors
/// When no Sentinel names a server that is reached and is a master.
pub(super) fn open(
    address: &RedisAddress,
    seeds: &RedisSeeds,
    master: &str,
    rotation: usize,
    timeout: Duration,
) -> Result<Connection, StoreError> {
    let first = rotation % seeds.hosts.len().max(1);
    let (after, before) = (&seeds.hosts[first..], &seeds.hosts[..first]);
    let mut waits = Shares::new(timeout, seeds.hosts.len());
    let mut tried: Vec<Named> = Vec::new();
    let mut failed = None;
    for (host, port) in after.iter().chain(before) {
        let share = waits.next_share();
        let place = seeds.transport.to(host, *port);
        let named = Connection::connect(&place, share)
            .and_then(|mut sentinel| ask(&mut sentinel, address, master))
            .map_err(|error| at("the Sentinel", host, *port, error));
        let named = match named {
            Ok(named) if tried.contains(&named) => continue,
            Ok(named) => named,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        let begun = Instant::now();
        let opened = open_master(address, seeds, &named, timeout);
        waits.extend(begun.elapsed());
        match opened {
            Err(error @ StoreError::Refused(_)) => return Err(error),
            // Evidence of a server is worth more than that of a Sentinel.
            Err(error) => failed = Some(error),
            Ok(mut connection) => {
                let watch = MasterWatch::start(address, seeds, master, named, timeout);
                watch.into_iter().for_each(|watch| connection.watch(watch));
                return Ok(connection);
            }
        }
        tried.push(named);
    }
    Err(failed.unwrap_or_else(|| StoreError::Unavailable("no Sentinel is named".to_owned())))
}

/// Time limits of attempts that follow each other: each gets half of what is left, the last all of
/// it. The next set of attempts begins with another server, which then gets the longest.
pub(super) struct Shares {
    deadline: Instant,
    left: usize,
}

impl Shares {
    pub(super) fn new(timeout: Duration, attempts: usize) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            left: attempts,
        }
    }

    /// Time limit of the next attempt.
    pub(super) fn next_share(&mut self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.left = self.left.saturating_sub(1);
        match self.left {
            0 => left,
            _ => left / 2,
        }
    }

    /// So much time was spent on something else.
    pub(super) fn extend(&mut self, spent: Duration) {
        self.deadline += spent;
    }
}

/// Asks a Sentinel for the address of the master.
pub(super) fn ask(
    sentinel: &mut Connection,
    address: &RedisAddress,
    master: &str,
) -> Result<Named, StoreError> {
    let questions = Commands::from_iter([
        cmd!("SENTINEL", "get-master-addr-by-name", master),
        cmd!("SENTINEL", "MASTER", master),
    ]);
    let mut replies = replies_of(sentinel, &questions)?;
    // Sentinels have users of their own, mostly none. If they want a login, it is that of Redis.
    if matches!(replies.first(), Some(Value::ServerError(error)) if error.code() == "NOAUTH") {
        let hello = login(address);
        if hello.len() > 0 {
            let admitted = sentinel.exchange_one(&hello).map_err(never_begun)?;
            for reply in &admitted {
                admit(reply).map_err(|error| hide(error, address.password.as_deref()))?;
            }
            replies = replies_of(sentinel, &questions)?;
        }
    }
    let mut replies = replies.into_iter();
    let place = match replies.next() {
        Some(Value::ServerError(error)) => {
            return Err(StoreError::Unavailable(error_text(&error)));
        }
        None | Some(Value::Nil) => {
            return Err(StoreError::Unavailable(format!(
                "it watches no master of the name {master}"
            )));
        }
        Some(value) => texts(value).map_err(Fault::into_store_error)?,
    };
    let [host, port] = &place[..] else {
        return Err(StoreError::Unavailable("it names no address".to_owned()));
    };
    let Ok(port) = port.parse() else {
        return Err(StoreError::Unavailable("it names no port".to_owned()));
    };
    Ok(Named {
        host: host.clone(),
        port,
        epoch: replies.next().and_then(epoch),
    })
}

/// The epoch in a Sentinel's description of a master.
fn epoch(description: Value) -> Option<u64> {
    let words = texts(description).ok()?;
    let mut pairs = words.chunks_exact(2);
    pairs.find(|pair| pair[0] == "config-epoch")?[1]
        .parse()
        .ok()
}

/// A Sentinel that refuses the login is unavailable: the user may be Redis's only.
fn admit(reply: &Value) -> Result<(), StoreError> {
    admitted(reply).map_err(|error| StoreError::Unavailable(error.to_string()))
}

fn replies_of(server: &mut Connection, questions: &Commands) -> Result<Vec<Value>, StoreError> {
    server.exchange_one(questions).map_err(never_begun)
}

/// Connects to a server that must be a master.
fn open_master(
    address: &RedisAddress,
    seeds: &RedisSeeds,
    Named { host, port, .. }: &Named,
    timeout: Duration,
) -> Result<Connection, StoreError> {
    let place = seeds.transport.to(host, *port);
    let opened = Connection::connect(&place, timeout).and_then(|mut connection| {
        let role = connection.introduce(address, Some(cmd!("ROLE")))?;
        is_master(role)?;
        Ok(connection)
    });
    opened.map_err(|error| at("the master", host, *port, error))
}

/// Checks the reply to `ROLE`.
fn is_master(reply: Option<Value>) -> Result<(), StoreError> {
    let role = match reply {
        Some(Value::ServerError(error)) => return Err(judge(&error).into_store_error()),
        Some(value) => list(value)
            .and_then(|values| values.into_iter().next().map_or(Ok(None), text))
            .map_err(Fault::into_store_error)?
            .unwrap_or_default(),
        None => String::new(),
    };
    match &*role {
        "master" => Ok(()),
        _ => Err(StoreError::Unavailable(
            "the Sentinels name it, but it is a replica".to_owned(),
        )),
    }
}

/// The error with the server at which it occurred.
pub(super) fn at(what: &str, host: &str, port: u16, error: StoreError) -> StoreError {
    let at = HostPort(host, port);
    let tell = |text: String| match what {
        "" => format!("{at}: {text}"),
        _ => format!("{what} {at}: {text}"),
    };
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(tell(text)),
        StoreError::Broken(text) => StoreError::Broken(tell(text)),
        StoreError::Refused(text) => StoreError::Refused(tell(text)),
        damaged @ StoreError::Damaged(_) => damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_time_are_bounded_together() {
        let mut shares = Shares::new(Duration::from_secs(60), 3);
        let half = |share: Duration| share <= Duration::from_secs(30) && share.as_secs() > 20;
        let first = shares.next_share();
        assert!(half(first), "{first:?}");
        // The first took no time.
        let second = shares.next_share();
        assert!(half(second), "{second:?}");
        shares.extend(Duration::from_secs(60));
        let third = shares.next_share();
        assert!(third.as_secs() > 100, "{third:?}");
    }

    #[test]
    fn a_role_must_be_that_of_a_master() {
        let role = |bytes: &str| redis::parse_redis_value(bytes.as_bytes()).ok();
        assert!(is_master(role("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")).is_ok());
        for other in [
            "*2\r\n$5\r\nslave\r\n$1\r\nx\r\n",
            "*0\r\n",
            "-NOPERM no\r\n",
            ":1\r\n",
        ] {
            assert!(is_master(role(other)).is_err(), "{other}");
        }
    }
}
