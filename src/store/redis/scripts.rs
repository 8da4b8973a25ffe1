//! The Lua scripts. Each reads before it writes, so that it can be repeated and two servers do not
//! mix their changes of one key. A script has one key, or does the same with each of many keys, so
//! that many hosts share a call.

use std::sync::LazyLock;

/// The scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// Claims hosts that have connected.
    Claim,
    /// Renews claims.
    Renew,
    /// Gives up a claim.
    Release,
    /// Deletes the hash of a host.
    Forget,
    /// Writes host name and MAC address.
    Describe,
    /// Replaces a set.
    ReplaceSet,
    /// Replaces a list.
    ReplaceList,
    /// Adds finished commands.
    Complete,
    /// Updates the remaining commands.
    Oncall,
    /// Writes a report whose lists are known.
    Advance,
    /// Deletes a field of a hash if it has a value.
    Ended,
    /// Checks, takes or renews the node's lease.
    Lease,
    /// Gives up the node's lease.
    ReleaseLease,
    /// Renews the node's lease, if it exists.
    RenewLease,
    /// Sets states of hosts in a task.
    State,
    /// Sets the first states of hosts in a task.
    Begin,
    /// Writes a task book.
    Book,
    /// Gives up the claim of a task.
    Unclaim,
    /// Deletes a key of one type.
    Drop,
    /// Reads a host's results.
    Results,
    /// Checks the results of a host for a failed command.
    Failed,
    /// Tests commands.
    Trial,
    /// Takes over a task from a node that is gone.
    Retake,
    /// Writes the rollout of a task.
    Rollout,
    /// Adds transitions of a host.
    History,
    /// Adds counts of hosts online.
    Counts,
    /// Requests leases of devices and targets.
    Poll,
}

/// Sources, in the order of the variants.
const SOURCES: [&str; 27] = [
    concat!(include_str!("lua/claim.lua"), include_str!("lua/each.lua")),
    concat!(include_str!("lua/renew.lua"), include_str!("lua/each.lua")),
    concat!(
        include_str!("lua/release.lua"),
        include_str!("lua/each.lua")
    ),
    include_str!("lua/forget.lua"),
    include_str!("lua/describe.lua"),
    include_str!("lua/replace_set.lua"),
    include_str!("lua/replace_list.lua"),
    include_str!("lua/complete.lua"),
    include_str!("lua/oncall.lua"),
    include_str!("lua/advance.lua"),
    include_str!("lua/ended.lua"),
    include_str!("lua/lease.lua"),
    include_str!("lua/release_lease.lua"),
    include_str!("lua/renew_lease.lua"),
    include_str!("lua/state.lua"),
    include_str!("lua/begin.lua"),
    include_str!("lua/book.lua"),
    include_str!("lua/unclaim.lua"),
    include_str!("lua/drop.lua"),
    include_str!("lua/results.lua"),
    include_str!("lua/failed.lua"),
    include_str!("lua/trial.lua"),
    include_str!("lua/retake.lua"),
    include_str!("lua/rollout.lua"),
    include_str!("lua/history.lua"),
    include_str!("lua/counts.lua"),
    concat!(include_str!("lua/poll.lua"), include_str!("lua/each.lua")),
];

static HASHES: LazyLock<[String; SOURCES.len()]> =
    LazyLock::new(|| SOURCES.map(|source| redis::Script::new(source).get_hash().to_owned()));

impl Script {
    /// All sources.
    #[cfg(test)]
    pub(super) fn sources() -> impl Iterator<Item = &'static str> {
        SOURCES.into_iter()
    }

    /// The call of this script on one key. The caller adds the arguments.
    pub(super) fn on(self, key: &str) -> redis::Cmd {
        let mut call = self.on_each(1);
        call.arg(key);
        call
    }

    /// The call on `keys` keys. The caller adds them, and then the arguments of each.
    pub(super) fn on_each(self, keys: usize) -> redis::Cmd {
        cmd!("EVALSHA", &HASHES[self as usize], keys)
    }
}

/// The commands that load all scripts.
pub(super) fn load() -> impl Iterator<Item = redis::Cmd> {
    let sources = SOURCES.into_iter();
    sources.map(|source| cmd!("SCRIPT", "LOAD", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_and_sources_have_one_order() {
        for (script, sign) in [
            (Script::Claim, "Claims hosts that have connected"),
            (Script::Renew, "Renews claims"),
            (Script::Release, "Gives up a claim"),
            (Script::Forget, "Deletes the hash of a host"),
            (Script::Describe, "Writes host name and MAC"),
            (Script::ReplaceSet, "Replaces a set"),
            (Script::ReplaceList, "Replaces a list"),
            (Script::Complete, "Adds finished commands"),
            (Script::Oncall, "Updates the remaining commands"),
            (Script::Advance, "Writes a report whose lists"),
            (Script::Ended, "Deletes a field of a hash"),
            (Script::Lease, "Checks a node's lease"),
            (Script::ReleaseLease, "Gives up a node's lease"),
            (Script::RenewLease, "Renews a node's lease"),
            (Script::State, "Sets states of hosts"),
            (Script::Begin, "Sets the first states"),
            (Script::Book, "Writes a task book"),
            (Script::Unclaim, "Gives up the claim of a task"),
            (Script::Drop, "Deletes a key"),
            (Script::Results, "Reads the results of a host"),
            (Script::Failed, "whether a command of a host has failed"),
            (Script::Trial, "Tries commands"),
            (Script::Retake, "Takes over a task"),
            (Script::Rollout, "Writes the rollout of a task"),
            (Script::History, "Adds packed transitions"),
            (Script::Counts, "Adds counts of hosts online"),
            (Script::Poll, "Requests leases of devices"),
        ] {
            assert!(SOURCES[script as usize].contains(sign), "{script:?}");
        }
    }
}
