//! The servers of the store, as its operations see them: one connection, or a Cluster.
//!
//! ```text
//!  redis://…            Connection ─▶ that server
//!  redis+sentinel://…   sentinel ─▶ the master ─▶ Connection
//!  redis+cluster://…    Cluster ─▶ a Connection to each primary
//! ```

use std::borrow::Borrow;
use std::time::Duration;

use redis::Value;

use super::cluster::Cluster;
use super::commands;
use super::connection::{Commands, Connection, admitted, never_begun};
use super::errors::{Fault, judge, unusable};
use super::sentinel;
use super::step::{int, texts};
use crate::store::address::{RedisAddress, RedisPlace};
use crate::store::{Redirects, StoreError, schema};

/// Connections to servers that know our scripts.
pub(super) enum Link {
    /// One server has all keys.
    One(Box<Connection>),
    /// Each primary of a Cluster has some keys.
    Cluster(Box<Cluster>),
}

impl Link {
    /// Connects, authenticates, loads the scripts, and tries the commands on keys of this node.
    /// `known` are the servers that a Cluster had at the last connection. Of the servers that can be
    /// asked for others, the one at `rotation` is the first.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when a server refuses the user, the password or the database; else
    /// [`StoreError::Unavailable`].
    pub(super) fn open(
        address: &RedisAddress,
        known: &mut Vec<(String, u16)>,
        rotation: usize,
        node: &str,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        let mut link = match &address.place {
            RedisPlace::Sentinel { seeds, master } => {
                let connection = sentinel::open(address, seeds, master, rotation, timeout)?;
                Self::One(Box::new(connection))
            }
            RedisPlace::Cluster(seeds) => {
                let cluster = Cluster::open(address, seeds, known, rotation, timeout)?;
                *known = cluster.servers();
                Self::Cluster(Box::new(cluster))
            }
            RedisPlace::Tcp { .. } | RedisPlace::Tls { .. } | RedisPlace::Unix(_) => {
                Self::One(Box::new(Connection::open(address, timeout)?))
            }
        };
        link.try_commands(node)?;
        Ok(link)
    }

    /// Tests the connections.
    pub(super) fn ping(&mut self) -> Result<(), StoreError> {
        let replies = match self {
            Self::One(connection) => {
                connection.exchange_one(&Commands::from_iter([cmd!("PING")]))?
            }
            Self::Cluster(cluster) => cluster.ping()?,
        };
        replies.iter().try_for_each(admitted)
    }

    /// Tests whether the servers accept all needed commands.
    ///
    /// # Errors
    /// When one is refused, with its name.
    pub(super) fn try_commands(&mut self, node: &str) -> Result<(), StoreError> {
        let replies = match self {
            Self::One(_) => {
                let trial = commands::trial(&schema::node_probe(node));
                self.request(&Commands::from_iter([trial]))
            }
            Self::Cluster(cluster) => {
                cluster.on_each(|tag| commands::trial(&schema::node_probe_at(node, tag)))
            }
        };
        let replies = replies.map_err(never_begun)?;
        replies.into_iter().try_for_each(accepted)
    }

    /// Words that name keys at each primary of a Cluster; none for a single server.
    pub(super) fn tags(&self) -> Vec<String> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Cluster(cluster) => cluster.tags(),
        }
    }

    /// Waits until `count` replicas of each server have all writes of this connection.
    ///
    /// # Errors
    /// When they do not have them after three quarters of `timeout`.
    pub(super) fn wait_for_replicas(
        &mut self,
        count: usize,
        timeout: Duration,
    ) -> Result<(), StoreError> {
        let limit = (timeout / 4 * 3).as_millis().max(1) as u64;
        let wait = || cmd!("WAIT", count, limit);
        let replies = match self {
            Self::One(connection) => connection.exchange_one(&Commands::from_iter([wait()]))?,
            Self::Cluster(cluster) => cluster.on_each(|_| wait())?,
        };
        for reply in replies {
            let have = match reply {
                Value::ServerError(error) => return Err(judge(&error).into_store_error()),
                reply => int(reply).map_err(Fault::into_store_error)?,
            };
            if usize::try_from(have).unwrap_or_default() < count {
                return Err(StoreError::Unavailable(format!(
                    "{have} of {count} replicas have the writes (store.wait_replicas)"
                )));
            }
        }
        Ok(())
    }

    /// Checks that no server has closed its connection, without a request.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        match self {
            Self::One(connection) => connection.look(),
            Self::Cluster(cluster) => cluster.look(),
        }
    }

    /// Runs commands and returns a reply for each. If a server has forgotten a script, it is loaded
    /// again, and only the commands that need it are repeated.
    ///
    /// # Errors
    /// When a connection failed; all must be dropped.
    pub(super) fn request(&mut self, commands: &Commands) -> Result<Vec<Value>, StoreError> {
        let answered = self.request_each([(commands, ())].into_iter())?;
        Ok(answered
            .into_iter()
            .flat_map(|(replies, ())| replies)
            .collect())
    }

    /// The same for sets of commands, each with a value that is returned with its replies. On one
    /// server a set is encoded while the server runs the one before. In a Cluster the order of the
    /// sets is not kept.
    ///
    /// # Errors
    /// As above.
    pub(super) fn request_each<C: Borrow<Commands>, T>(
        &mut self,
        sets: impl Iterator<Item = (C, T)>,
    ) -> Result<Vec<(Vec<Value>, T)>, StoreError> {
        match self {
            Self::One(connection) => connection.request_each(sets),
            Self::Cluster(cluster) => cluster.request_each(sets),
        }
    }

    /// Takes the counts of redirects since the last call.
    pub(super) fn take_redirects(&mut self) -> Redirects {
        match self {
            Self::One(_) => Redirects::default(),
            Self::Cluster(cluster) => cluster.take_redirects(),
        }
    }
}

/// Checks the reply to a trial of the commands.
fn accepted(reply: Value) -> Result<(), StoreError> {
    let failed = match reply {
        Value::ServerError(error) => return Err(judge(&error).into_store_error()),
        value => texts(value).map_err(Fault::into_store_error)?,
    };
    match failed.chunks_exact(2).next() {
        None => Ok(()),
        Some(first) => Err(StoreError::Unavailable(unusable(
            &first[0],
            &first[1],
            failed.len() / 2,
        ))),
    }
}
