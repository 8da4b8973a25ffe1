//! The store against a real server: the conformance suite, and failures of the server.

mod cluster;
mod dispatch;
mod dump;
mod failures;
mod loading;
mod presence;
mod progress;
mod sentinel;
mod server;

use super::RedisStore;
use crate::codec::message::Phase;
use crate::ids::{HostId, HostRef, TaskKey};
use crate::store::op::{self, Op, Outcome, Reason, Settled, Stamp};
use crate::store::tests::conformance::{Case, RawKeys, Subject, conformance_tests};
use crate::store::{Backend, Dump, StoreError, schema};
use crate::time::UnixMs;
use server::{RedisServer, settings};

conformance_tests!(fresh);

/// Runs a case over an empty server.
fn fresh(case: Case) {
    let server = RedisServer::start(&[]);
    case(&mut |settings| -> Box<dyn Subject> { Box::new(server.store(settings)) });
}

impl RawKeys for RedisStore {
    fn dump(&mut self, key: &str) -> Result<Option<Dump>, StoreError> {
        self.with_link(|link, _| dump::read(link, key))
    }

    fn seed(&mut self, key: &str, value: Dump) {
        let mut commands = vec![command("DEL", key)];
        match value {
            Dump::Text(text) => commands.push(command("SET", key).arg(text).take()),
            Dump::List(list) => {
                commands.extend(list.iter().map(|one| command("RPUSH", key).arg(one).take()));
            }
            Dump::Set(set) => {
                commands.extend(set.iter().map(|one| command("SADD", key).arg(one).take()));
            }
            Dump::Hash(hash) => {
                commands.extend(hash.iter().map(|one| command("HSET", key).arg(one).take()));
            }
            Dump::Sorted(sorted) => {
                let add = |(member, score): &(String, f64)| {
                    command("ZADD", key).arg(score).arg(member).take()
                };
                commands.extend(sorted.iter().map(add));
            }
            Dump::Stream(stream) => {
                commands.extend(
                    stream
                        .iter()
                        .map(|one| command("XADD", key).arg("*").arg(one).take()),
                );
            }
        }
        self.with_link(|link, _| super::load::query(link, commands, |_| Ok(())))
            .unwrap();
    }
}

fn command(verb: &str, key: &str) -> redis::Cmd {
    redis::cmd(verb).arg(key).take()
}

const TICKET: HostRef = HostRef {
    slot: 3,
    generation: 4,
};

fn host(name: &str) -> HostId {
    HostId::checked(name).unwrap()
}

fn key(name: &str) -> TaskKey {
    TaskKey::parse(name, "AC").unwrap()
}

fn stamp(seq: u64) -> Stamp {
    Stamp {
        at: UnixMs(1_000_000 + seq),
        seq,
    }
}

fn online(name: &str, seq: u64) -> Op {
    Op::Online(Box::new(op::Online {
        history: Vec::new(),
        ticket: TICKET,
        host: host(name),
        peer: "10.0.0.7:40000".parse().unwrap(),
        keyed: false,
        since: UnixMs(1_000),
        hold: op::Hold::Claim {
            boot: None,
            silent_ms: 0,
        },
        event: Some(stamp(seq)),
    }))
}

fn offline(name: &str, epoch: u64, seq: u64) -> Op {
    Op::Offline(Box::new(op::Offline {
        history: Vec::new(),
        ticket: TICKET,
        host: host(name),
        epoch,
        reason: Reason::Timeout,
        since: UnixMs(2_000),
        event: Some(stamp(seq)),
    }))
}

/// A host in a task, with the number of its next event.
struct Part(&'static str, &'static str, u64);

impl Part {
    fn report(
        &mut self,
        phase: Phase,
        working: Option<&str>,
        complete: &[&str],
        oncall: &[&str],
    ) -> Op {
        self.2 += 1;
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Op::Progress(Box::new(op::Progress {
            origin: None,
            host: host(self.0),
            key: key(self.1),
            phase,
            working: working.map(str::to_owned),
            complete: owned(complete),
            oncall: owned(oncall),
            unknown: false,
            silent: false,
            told: None,
            lifetime: Default::default(),
            state: None,
            stamp: stamp(self.2),
        }))
    }

    fn received(&mut self, oncall: &[&str]) -> Op {
        self.report(Phase::Received, None, &[], oncall)
    }

    fn began(&mut self, working: &str, complete: &[&str], oncall: &[&str]) -> Op {
        self.report(Phase::Began, Some(working), complete, oncall)
    }

    fn ended(&mut self, complete: &[&str], oncall: &[&str]) -> Op {
        self.report(Phase::Ended, None, complete, oncall)
    }
}

/// Runs operations that must all be settled.
fn run(store: &mut RedisStore, ops: &[Op]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let ran = store.run(ops, &mut outcomes);
    assert_eq!((ran.done, ran.error), (ops.len(), None));
    outcomes
}

/// Runs one operation about a host's presence.
fn settle(store: &mut RedisStore, op: Op) -> Settled {
    match run(store, &[op]).pop() {
        Some(Outcome::Presence { ticket, settled }) => {
            assert_eq!(ticket, TICKET);
            settled
        }
        other => panic!("{other:?}"),
    }
}

fn claim(store: &mut RedisStore, name: &str, seq: u64) -> u64 {
    match settle(store, online(name, seq)) {
        Settled::Claimed { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    }
}

fn set(store: &mut RedisStore, name: &str) -> Vec<String> {
    match store.dump(name).unwrap() {
        Some(Dump::Set(members)) => members,
        None => Vec::new(),
        other => panic!("{name}: {other:?}"),
    }
}

fn list(store: &mut RedisStore, name: &str) -> Vec<String> {
    match store.dump(name).unwrap() {
        Some(Dump::List(members)) => members,
        None => Vec::new(),
        other => panic!("{name}: {other:?}"),
    }
}

fn field(store: &mut RedisStore, name: &str, field: &str) -> Option<String> {
    match store.dump(name).unwrap() {
        Some(Dump::Hash(fields)) => fields
            .into_iter()
            .find(|(name, _)| name == field)
            .map(|(_, value)| value),
        None => None,
        other => panic!("{name}: {other:?}"),
    }
}

/// The events so far, each as `event host reason-or-state`.
fn events(store: &mut RedisStore) -> Vec<String> {
    let Some(Dump::Stream(entries)) = store.dump(schema::EVENTS).unwrap() else {
        return Vec::new();
    };
    let word = |entry: &[(String, String)], name: &str| {
        entry
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    entries
        .iter()
        .map(|entry| {
            let detail = word(entry, "reason") + &word(entry, "state");
            format!("{} {} {detail}", word(entry, "event"), word(entry, "host"))
                .trim_end()
                .to_owned()
        })
        .collect()
}
