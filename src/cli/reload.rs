//! What a SIGHUP changed: which keys of the configuration are in force at once, and which wait for
//! a restart.

use serde_json::Value;

/// Keys that a running server takes over. Every other waits for a restart.
const LIVE: [&str; 5] = [
    "dispatch.key_prefix",
    "heartbeat.first_message_s",
    "heartbeat.timeout_s",
    "heartbeat.working_timeout_s",
    "log.level",
];

/// What a reload comes to, in dotted names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force now.
    pub applied: Vec<String>,
    /// In force after a restart.
    pub waiting: Vec<String>,
}

/// Compares the configuration just read with the one before it, and with the one the server
/// started with: what waited for a restart still does.
pub fn changes(started: &Value, before: &Value, now: &Value) -> Changes {
    let mut changes = Changes::default();
    differing(before, now, "", &mut |key| {
        if LIVE.contains(&key) {
            changes.applied.push(key.to_owned());
        }
    });
    differing(started, now, "", &mut |key| {
        if !LIVE.contains(&key) {
            changes.waiting.push(key.to_owned());
        }
    });
    changes
}

/// Calls `found` with the name of every value that is not the same in both.
fn differing(one: &Value, two: &Value, name: &str, found: &mut impl FnMut(&str)) {
    let (Value::Object(one), Value::Object(two)) = (one, two) else {
        if one != two {
            found(name);
        }
        return;
    };
    let only_in_two = two.keys().filter(|key| !one.contains_key(*key));
    for key in one.keys().chain(only_in_two) {
        let dot = if name.is_empty() { "" } else { "." };
        let one = one.get(key).unwrap_or(&Value::Null);
        let two = two.get(key).unwrap_or(&Value::Null);
        differing(one, two, &format!("{name}{dot}{key}"), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_needs_a_restart_is_said_again_until_it_has_had_one() {
        let started = json!({"log": {"level": "info"}, "server": {"tcp": "a", "udp": null}});
        let second = json!({"log": {"level": "debug"}, "server": {"tcp": "b", "udp": null}});
        let first = changes(&started, &started, &second);
        assert_eq!(first.applied, ["log.level"]);
        assert_eq!(first.waiting, ["server.tcp"]);
        let again = changes(&started, &second, &second);
        assert_eq!(again.applied, [""; 0]);
        assert_eq!(again.waiting, ["server.tcp"]);
    }

    #[test]
    fn a_table_that_comes_or_goes_is_named_itself() {
        let none = json!({"auth": null});
        let some = json!({"auth": {"keys_file": "k"}});
        assert_eq!(changes(&none, &none, &some).waiting, ["auth"]);
        assert_eq!(changes(&none, &none, &none), Changes::default());
    }
}
