//! The commands that this module sends, directly and in its scripts.
//!
//! Each connection tries all of them. If one is renamed or forbidden by an ACL, the store counts as
//! unavailable, and the reason names the command; without the trial `/readyz` would be 200 while
//! every report is refused. The user in `docs/operations.md` has the permissions of this list.

use super::scripts::Script;

/// Calls on one key, `$`, in the order of the trial. The key is deleted before each.
const ON_A_KEY: &[&str] = &[
    "DEL $",
    "EXISTS $",
    "GET $",
    "HDEL $ x",
    "HGET $ x",
    "HGETALL $",
    "HINCRBY $ x 1",
    "HMGET $ x",
    "HSET $ x 1",
    "HSETNX $ x 1",
    "HVALS $",
    "LPUSH $ x",
    "LRANGE $ 0 -1",
    "PERSIST $",
    "PEXPIRE $ 1000",
    "PTTL $",
    "RPOP $ 1",
    "RPUSH $ x",
    "SADD $ x",
    "SCARD $",
    "SET $ x PX 1000",
    "SISMEMBER $ x",
    "SMISMEMBER $ x",
    "SREM $ x",
    "SSCAN $ 0",
    "TIME",
    "TYPE $",
    "XADD $ * x 1",
    "XLEN $",
    "ZADD $ 1 x",
    "ZCARD $",
    "ZMSCORE $ x",
    "ZRANGEBYSCORE $ 0 1",
    "ZREM $ x",
    "ZREMRANGEBYSCORE $ 0 1",
    "ZREVRANGE $ 0 -1",
    "ZSCAN $ 0",
    "ZSCORE $ x",
];

/// Commands without a key, and those that are sent only beside other nodes. A user without the
/// latter has a store all the same.
const OTHERS: &[&str] = &[
    "asking",
    "cluster|slots",
    "evalsha",
    "ping",
    "role",
    "script|load",
    "select",
    "wait",
    "xdel",
    "xrange",
];

/// All commands in the words of an ACL: `hset`, `script|load`, ….
pub(super) fn names() -> impl Iterator<Item = String> {
    let on_a_key = ON_A_KEY.iter().filter_map(|call| call.split(' ').next());
    on_a_key
        .chain(OTHERS.iter().copied())
        .map(str::to_lowercase)
}

/// The call that tries all commands on `key` and returns those that failed, each with the server's
/// error.
pub(super) fn trial(key: &str) -> redis::Cmd {
    let mut trial = Script::Trial.on(key);
    trial.arg(ON_A_KEY);
    trial
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::names;
    use crate::store::redis::scripts::Script;

    #[test]
    fn the_user_in_the_docs_has_exactly_these_commands() {
        let docs = include_str!("../../../docs/operations.md");
        let user = docs.lines().find(|line| line.contains("user anthill on "));
        let user = user.expect("the docs have the user");
        let granted: BTreeSet<String> = user
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('+'))
            .map(str::to_owned)
            .collect();
        let words: BTreeSet<String> = names().collect();
        let wanted: Vec<String> = words.iter().map(|word| format!("+{word}")).collect();
        assert_eq!(granted, words, "it should be: {}", wanted.join(" "));
    }

    #[test]
    fn the_list_has_all_commands_of_the_scripts() {
        let words: BTreeSet<String> = names().collect();
        for source in Script::sources() {
            let calls = source.split("call('").skip(1);
            for call in calls.filter_map(|rest| rest.split('\'').next()) {
                assert!(words.contains(&call.to_lowercase()), "{call}");
            }
        }
    }
}
