//! One step of many operations, as one set of commands.
//!
//! ```text
//!  operation 0 ─┐                     ┌─ SREM exists a b c …   (shared, one reply)
//!  operation 1 ─┼─▶ stage 0, 1, 2 ──▶ ┼─ EVALSHA … a b c …     (shared, one reply for each)
//!  operation 2 ─┘                     └─ XADD … a              (one operation's own)
//! ```
//!
//! Commands of an earlier stage run before those of a later one, and within a stage in the order of
//! the drawing. Each operation gets the replies to its own commands, in the order of their stages.

use redis::{Arg, Cmd, Value};

use super::connection::Commands;
use super::errors::{Fault, judge, unexpected};
use super::scripts::Script;
use crate::ids::HostId;
use crate::limits::REDIS_MEMBERS_MAX;
use crate::store::schema;

/// Estimated bytes of a time or a host name.
const WORD_BYTES: usize = 16;
/// Number of stages of a step.
const STAGES: usize = 3;

/// A change of a set that all hosts share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    /// Adds to the hosts online.
    ExistsAdd,
    /// Removes from the hosts online.
    ExistsRemove,
    /// Adds to the hosts that this node holds.
    OwnAdd,
    /// Removes from the hosts that this node holds.
    OwnRemove,
}

impl Shared {
    const ALL: [Self; 4] = [
        Self::ExistsAdd,
        Self::ExistsRemove,
        Self::OwnAdd,
        Self::OwnRemove,
    ];
}

/// Members of one shared set, each with its operation.
#[derive(Default)]
struct Group {
    owners: Vec<usize>,
    members: Vec<HostId>,
}

/// A command on the keys of many operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    /// [`Script::Claim`].
    Claim,
    /// [`Script::Release`].
    Release,
    /// `DEL`, which has one reply.
    Delete,
}

impl Many {
    const ALL: [Self; 3] = [Self::Claim, Self::Release, Self::Delete];

    /// The command on `keys` keys, which the caller adds.
    fn command(self, keys: usize) -> Cmd {
        match self {
            Self::Claim => Script::Claim.on_each(keys),
            Self::Release => Script::Release.on_each(keys),
            Self::Delete => cmd!("DEL"),
        }
    }
}

/// Keys of many operations, each with the same number of arguments.
#[derive(Default)]
struct Keys {
    owners: Vec<usize>,
    keys: Cmd,
    args: Cmd,
}

impl Keys {
    /// The commands, on at most `most` keys each, and the recipients of the replies.
    fn finish(self, what: Many, most: usize, into: &mut (Commands, Vec<Recipient>)) {
        let args_each = self.args.args_iter().count() / self.owners.len().max(1);
        let (mut keys, mut args) = (self.keys.args_iter(), self.args.args_iter());
        for owners in self.owners.chunks(most) {
            let mut command = what.command(owners.len());
            let keys = keys.by_ref().take(owners.len());
            let args = args.by_ref().take(owners.len() * args_each);
            for word in keys.chain(args) {
                if let Arg::Simple(bytes) = word {
                    command.arg(bytes);
                }
            }
            into.0.push(&command);
            into.1.push(match what {
                Many::Delete => Recipient::Each(owners.to_vec()),
                Many::Claim | Many::Release => Recipient::Scattered(owners.to_vec()),
            });
        }
    }
}

#[derive(Default)]
struct Stage {
    groups: [Group; Shared::ALL.len()],
    many: [Keys; Many::ALL.len()],
    seen: Vec<(usize, HostId, u64)>,
    singles: Vec<(usize, Cmd)>,
}

/// A step that is being encoded.
pub(super) struct Step {
    owner: usize,
    stages: [Stage; STAGES],
}

/// Recipient of a reply.
pub(super) enum Recipient {
    /// One operation, which reads it.
    One(usize),
    /// Several operations, which only need to know of an error.
    Each(Vec<usize>),
    /// Several operations, each of which reads one entry of the list.
    Scattered(Vec<usize>),
}

impl Step {
    pub(super) fn new() -> Self {
        Self {
            owner: 0,
            stages: Default::default(),
        }
    }

    /// Assigns the following commands to this operation.
    pub(super) fn for_owner(&mut self, owner: usize) {
        self.owner = owner;
    }

    /// Adds a command of the operation's own.
    pub(super) fn one(&mut self, stage: usize, command: Cmd) {
        self.stages[stage].singles.push((self.owner, command));
    }

    /// Adds or removes a host in a shared set.
    pub(super) fn shared(&mut self, stage: usize, what: Shared, host: &HostId) {
        let group = &mut self.stages[stage].groups[what as usize];
        group.owners.push(self.owner);
        group.members.push(host.clone());
    }

    /// Runs a shared command on a key of the operation; `args` adds its arguments.
    pub(super) fn many(
        &mut self,
        stage: usize,
        what: Many,
        key: &str,
        args: impl FnOnce(&mut Cmd),
    ) {
        let many = &mut self.stages[stage].many[what as usize];
        many.owners.push(self.owner);
        many.keys.arg(key);
        args(&mut many.args);
    }

    /// Raises the last-seen time of a host.
    pub(super) fn seen(&mut self, stage: usize, host: &HostId, at_ms: u64) {
        let owner = self.owner;
        self.stages[stage].seen.push((owner, host.clone(), at_ms));
    }

    /// Reserves room for the last-seen times of `hosts` hosts.
    pub(super) fn expect_seen(&mut self, stage: usize, hosts: usize) {
        self.stages[stage].seen.reserve(hosts);
    }

    /// The commands, and the recipient of each reply. `own_set` is the key of the hosts that this
    /// node holds. No command has more than `keys_max` keys.
    pub(super) fn finish(self, own_set: &str, keys_max: usize) -> (Commands, Vec<Recipient>) {
        let mut finished = (Commands::default(), Vec::new());
        for stage in self.stages {
            let (commands, recipients) = &mut finished;
            for (what, group) in Shared::ALL.into_iter().zip(stage.groups) {
                let chunks = group.members.chunks(REDIS_MEMBERS_MAX);
                for (members, owners) in chunks.zip(group.owners.chunks(REDIS_MEMBERS_MAX)) {
                    commands.push(&shared_command(what, own_set, members));
                    recipients.push(Recipient::Each(owners.to_vec()));
                }
            }
            for chunk in stage.seen.chunks(REDIS_MEMBERS_MAX) {
                // There is one such command a second for all active hosts: its memory is allocated
                // at once.
                let words = 2 * chunk.len() + 3;
                let mut zadd = Cmd::with_capacity(words, words * WORD_BYTES);
                zadd.arg("ZADD").arg(schema::SEEN).arg("GT");
                for (_, host, at_ms) in chunk {
                    zadd.arg(*at_ms).arg(host.as_str());
                }
                commands.push(&zadd);
                let owners = chunk.iter().map(|(owner, ..)| *owner).collect();
                recipients.push(Recipient::Each(owners));
            }
            for (what, keys) in Many::ALL.into_iter().zip(stage.many) {
                keys.finish(what, keys_max, &mut finished);
            }
            let (commands, recipients) = &mut finished;
            for (owner, command) in stage.singles {
                commands.push(&command);
                recipients.push(Recipient::One(owner));
            }
        }
        finished
    }
}

fn shared_command(what: Shared, own_set: &str, members: &[HostId]) -> Cmd {
    let (verb, key) = match what {
        Shared::ExistsAdd => ("SADD", schema::EXISTS),
        Shared::ExistsRemove => ("SREM", schema::EXISTS),
        Shared::OwnAdd => ("SADD", own_set),
        Shared::OwnRemove => ("SREM", own_set),
    };
    let mut command = cmd!(verb, key);
    for host in members {
        command.arg(host.as_str());
    }
    command
}

/// The replies to one operation's own commands of a step, to be read in order.
pub(super) struct Replies(std::vec::IntoIter<Value>);

impl Replies {
    pub(super) fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    /// The next reply, unless it is an error.
    pub(super) fn value(&mut self) -> Result<Value, Fault> {
        match self.0.next() {
            Some(Value::ServerError(error)) => Err(judge(&error)),
            Some(value) => Ok(value),
            None => Err(Fault::Unavailable("a reply is missing".to_owned())),
        }
    }

    /// The next reply, a number.
    pub(super) fn int(&mut self) -> Result<i64, Fault> {
        int(self.value()?)
    }

    /// The next reply, a text or nothing.
    pub(super) fn text(&mut self) -> Result<Option<String>, Fault> {
        text(self.value()?)
    }

    /// The next reply, a list of texts. A missing text is empty.
    pub(super) fn texts(&mut self) -> Result<Vec<String>, Fault> {
        texts(self.value()?)
    }

    /// The next reply, a list of two values.
    pub(super) fn pair(&mut self) -> Result<(Value, Value), Fault> {
        let mut values = list(self.value()?)?.into_iter();
        match (values.next(), values.next()) {
            (Some(first), Some(second)) => Ok((first, second)),
            _ => Err(Fault::Unavailable(
                "unexpected reply: too short a list".to_owned(),
            )),
        }
    }

    /// The other replies, none of which may be an error.
    pub(super) fn rest_good(&mut self) -> Result<(), Fault> {
        self.0.by_ref().try_for_each(|value| match value {
            Value::ServerError(error) => Err(judge(&error)),
            _ => Ok(()),
        })
    }
}

/// `value` as a number.
pub(super) fn int(value: Value) -> Result<i64, Fault> {
    match value {
        Value::Int(number) => Ok(number),
        other => Err(unexpected(&other)),
    }
}

/// `value` as a text. Bytes that are not UTF-8 are replaced: no text of ours has them.
pub(super) fn text(value: Value) -> Result<Option<String>, Fault> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })),
        Value::SimpleString(text) => Ok(Some(text)),
        Value::Int(number) => Ok(Some(number.to_string())),
        Value::Okay => Ok(Some("OK".to_owned())),
        other => Err(unexpected(&other)),
    }
}

/// `value` as a list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected(&other)),
    }
}

/// `value` as a list of texts.
pub(super) fn texts(value: Value) -> Result<Vec<String>, Fault> {
    list(value)?
        .into_iter()
        .map(|value| text(value).map(Option::unwrap_or_default))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_share_commands_and_stages_keep_their_order() {
        let mut step = Step::new();
        let hosts: Vec<_> = (0..REDIS_MEMBERS_MAX + 1)
            .map(|n| HostId::checked(&format!("h{n}")).unwrap())
            .collect();
        for (owner, host) in hosts.iter().enumerate() {
            step.for_owner(owner);
            step.shared(2, Shared::ExistsRemove, host);
        }
        step.for_owner(7);
        step.one(1, redis::cmd("PING"));
        let (commands, recipients) = step.finish("own", 64);
        assert_eq!(commands.len(), 3);
        assert!(matches!(recipients[0], Recipient::One(7)));
        let sizes: Vec<_> = recipients[1..]
            .iter()
            .map(|recipient| match recipient {
                Recipient::Each(owners) | Recipient::Scattered(owners) => owners.len(),
                Recipient::One(_) => 0,
            })
            .collect();
        assert_eq!(sizes, [REDIS_MEMBERS_MAX, 1]);
    }

    #[test]
    fn replies_are_read_by_their_type() {
        let mut replies = Replies::new(vec![Value::Int(3), Value::Nil, Value::Okay]);
        assert_eq!(replies.int(), Ok(3));
        assert_eq!(replies.text(), Ok(None));
        assert!(matches!(replies.texts(), Err(Fault::Unavailable(_))));
        assert!(matches!(replies.int(), Err(Fault::Unavailable(_))));
    }
}
