//! One step of many operations, as one set of commands.
//!
//! ```text
//!  operation 0 ─┐                     ┌─ SREM exists a b c …   (shared, one reply)
//!  operation 1 ─┼─▶ stage 0, 1, 2 ──▶ ┼─ EVALSHA … a b c …     (shared, one reply for each)
//!  operation 2 ─┘                     └─ XADD … a              (one operation's own)
//! ```
//!
//! Commands of an earlier stage are answered before those of a later one run, on whatever servers.
//! Within a stage only the commands on one key keep the order of the drawing. Each operation gets
//! the replies to its own commands, in the order of their stages.

use redis::{Arg, Cmd, Value};

use super::connection::Commands;
use super::errors::{Fault, judge, unexpected};
use super::scripts::Script;
use crate::ids::HostId;
use crate::limits::REDIS_MEMBERS_MAX;
use crate::store::schema;

/// Number of stages of a step.
const STAGES: usize = 3;

/// A command that many operations share, each with words of its own.
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
    /// Raises last-seen times.
    Seen,
    /// [`Script::Claim`].
    Claim,
    /// [`Script::Renew`].
    Renew,
    /// [`Script::Release`].
    Release,
    /// `DEL`.
    Delete,
}

impl Shared {
    const ALL: [Self; 9] = [
        Self::ExistsAdd,
        Self::ExistsRemove,
        Self::OwnAdd,
        Self::OwnRemove,
        Self::Seen,
        Self::Claim,
        Self::Renew,
        Self::Release,
        Self::Delete,
    ];

    /// The beginning of the command for `count` operations.
    fn begin(self, own_set: &str, count: usize) -> Cmd {
        match self {
            Self::ExistsAdd => cmd!("SADD", schema::EXISTS),
            Self::ExistsRemove => cmd!("SREM", schema::EXISTS),
            Self::OwnAdd => cmd!("SADD", own_set),
            Self::OwnRemove => cmd!("SREM", own_set),
            Self::Seen => cmd!("ZADD", schema::SEEN, "GT"),
            Self::Claim => Script::Claim.on_each(count),
            Self::Renew => Script::Renew.on_each(count),
            Self::Release => Script::Release.on_each(count),
            Self::Delete => cmd!("DEL"),
        }
    }

    /// Returns whether the command is a script, whose reply is a list with an entry for each
    /// operation.
    fn is_script(self) -> bool {
        matches!(self, Self::Claim | Self::Renew | Self::Release)
    }

    /// Greatest number of operations of a command. `keys_max` bounds the keys.
    fn operations_max(self, keys_max: usize) -> usize {
        match self.is_script() || self == Self::Delete {
            true => keys_max,
            false => REDIS_MEMBERS_MAX,
        }
    }
}

/// The words of one shared command. Each operation has the same number of them.
#[derive(Default)]
struct Group {
    owners: Vec<usize>,
    /// Keys, or members of the set.
    keys: Cmd,
    /// Arguments of a script, which follow all keys.
    args: Cmd,
}

impl Group {
    /// The commands for at most `most` operations each, and the recipients of the replies.
    fn finish(
        self,
        what: Shared,
        own_set: &str,
        most: usize,
        into: &mut (Commands, Vec<Recipient>),
    ) {
        let count = self.owners.len().max(1);
        let (mut keys, mut args) = (self.keys.args_iter(), self.args.args_iter());
        let keys_each = self.keys.args_iter().count() / count;
        let args_each = self.args.args_iter().count() / count;
        for owners in self.owners.chunks(most) {
            let mut command = what.begin(own_set, owners.len());
            let keys = keys.by_ref().take(owners.len() * keys_each);
            let args = args.by_ref().take(owners.len() * args_each);
            for word in keys.chain(args) {
                if let Arg::Simple(bytes) = word {
                    command.arg(bytes);
                }
            }
            into.0.push(&command);
            into.1.push(match what.is_script() {
                true => Recipient::Scattered(owners.to_vec()),
                false => Recipient::Each(owners.to_vec()),
            });
        }
    }
}

#[derive(Default)]
struct Stage {
    groups: [Group; Shared::ALL.len()],
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

    /// Adds a key, or a member of the set, to a shared command. The caller adds its arguments to the
    /// result.
    pub(super) fn shared(&mut self, stage: usize, what: Shared, key: &str) -> &mut Cmd {
        let group = &mut self.stages[stage].groups[what as usize];
        group.owners.push(self.owner);
        group.keys.arg(key);
        &mut group.args
    }

    /// Raises the last-seen time of a host.
    pub(super) fn seen(&mut self, stage: usize, host: &HostId, at_ms: u64) {
        self.stages[stage].groups[Shared::Seen as usize]
            .keys
            .arg(at_ms);
        self.shared(stage, Shared::Seen, host.as_str());
    }

    /// The commands, and the recipient of each reply. `own_set` is the key of the hosts that this
    /// node holds. No command has more than `keys_max` keys.
    pub(super) fn finish(self, own_set: &str, keys_max: usize) -> (Commands, Vec<Recipient>) {
        let mut finished = (Commands::default(), Vec::new());
        for stage in self.stages {
            for (what, group) in Shared::ALL.into_iter().zip(stage.groups) {
                group.finish(what, own_set, what.operations_max(keys_max), &mut finished);
            }
            for (owner, command) in stage.singles {
                finished.0.push(&command);
                finished.1.push(Recipient::One(owner));
            }
            finished.0.barrier();
        }
        finished
    }
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
            step.shared(2, Shared::ExistsRemove, host.as_str());
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
