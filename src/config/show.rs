//! The configuration as it is in effect, in the shape of the file; and what is different in a newer
//! one. Passwords are shown as `***`.

use serde_json::{Value, json};

use super::read::{BYTE_ORDERS, FORMATS, HTTP_WRITE, LEVELS, ON_DONE, ON_SHUTDOWN};
use super::{Auth, Config, Device, MIB};
use crate::time::Span;

/// The keys that a running server takes over when it reads its configuration again. A key that
/// ends in a dot stands for its whole section.
const APPLIED: [&str; 17] = [
    "server.http_names",
    "server.http_token_file",
    "server.http_write",
    "server.coalesce_us",
    "heartbeat.timeout_s",
    "heartbeat.first_message_s",
    "heartbeat.working_timeout_s",
    "heartbeat.byte_order",
    "heartbeat.on_shutdown",
    "limits.frame_bytes",
    "dispatch.key_prefix",
    "auth",
    "instructions",
    "ak.devices",
    "reach.period_s",
    "reach.targets",
    "log.",
];

impl Config {
    /// The whole configuration in the shape of `config.json`, which reads back as this one (but
    /// for the password of a store).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self {
            server,
            heartbeat,
            limits,
            dispatch,
            offline,
            store,
            ..
        } = self;
        json!({
            "server": {
                "name": server.name,
                "tcp": server.tcp.to_string(),
                "udp": server.udp.to_string(),
                "http": server.http.to_string(),
                "http_names": server.http_names,
                "http_token_file": server.http_token_file,
                "http_write": word(&HTTP_WRITE, server.http_write),
                "coalesce_us": server.coalesce_us,
            },
            "heartbeat": {
                "timeout_s": seconds(heartbeat.timeout),
                "first_message_s": seconds(heartbeat.first_message),
                "working_timeout_s": seconds(heartbeat.working_timeout),
                "tcp_keepalive_s": seconds(heartbeat.tcp_keepalive),
                "byte_order": word(&BYTE_ORDERS, heartbeat.byte_order),
                "on_shutdown": word(&ON_SHUTDOWN, heartbeat.on_shutdown),
            },
            "limits": {
                "connections": limits.connections,
                "connections_per_ip": limits.connections_per_ip,
                "frame_bytes": limits.frame_bytes,
                "result_bytes": limits.result_bytes,
            },
            "dispatch": {
                "agent_port": dispatch.agent_port,
                "key_prefix": dispatch.key_prefix,
                "rto_ms": dispatch.rto.as_millis(),
                "tries": dispatch.tries,
                "on_done": word(&ON_DONE, dispatch.on_done),
                "keep_s": seconds(dispatch.keep),
            },
            "offline": {"delete_fields": offline.delete_fields},
            "store": {
                "url": store.url.to_string(),
                "spool": store.spool,
                "spool_mb": store.spool_bytes / MIB,
                "flush_ms": store.flush.as_millis(),
                "timeout_ms": store.timeout.as_millis(),
            },
            "auth": match &self.auth {
                Auth::Unset => Value::Null,
                Auth::None => "none".into(),
                Auth::Keys(keys) => json!({
                    "keys_file": keys.keys_file,
                    "plain_from": keys.plain_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
                }),
            },
            "tls": self.tls.as_ref().map(|tls| json!({
                "cert": tls.cert,
                "key": tls.key,
                "client_ca": tls.client_ca,
            })),
            "instructions": self.instructions,
            "ak": {
                "devices": self.ak.devices.iter().map(Device::to_json).collect::<Vec<_>>(),
            },
            "reach": {
                "period_s": seconds(self.reach.period),
                "targets": self.reach.targets.iter().map(|target| &target.text).collect::<Vec<_>>(),
            },
            "log": {
                "level": word(&LEVELS, self.log.level),
                "file": self.log.file,
                "format": word(&FORMATS, self.log.format),
                "rotate_mb": self.log.rotate_mb,
                "keep": self.log.keep,
            },
        })
    }

    /// What is different in `new`, a line for each key: what a running server takes over, and
    /// what waits for its next start.
    #[must_use]
    /// A token that is to go stays until then.
    pub fn describe_changes(&self, new: &Self) -> (Vec<String>, Vec<String>) {
        let (mut applied, mut restart) = (Vec::new(), Vec::new());
        let (before, after) = (flat(&self.to_json()), flat(&new.to_json()));
        for ((key, old), (_, new)) in before.iter().zip(&after) {
            if old == new {
                continue;
            }
            let line = format!("{key}: {old} → {new}");
            let no_token = key == "server.http_token_file" && new == "null";
            // Other files are taken over; whether it is spoken at all waits for the next start.
            let tls = key == "tls" && old != "null" && new != "null";
            if tls || is_applied(key) && !no_token {
                applied.push(line);
            } else {
                restart.push(line);
            }
        }
        // Two things that the file's shape does not show.
        if self.store.url != new.store.url
            && self.store.url.to_string() == new.store.url.to_string()
        {
            restart.push("store.url: another password".to_owned());
        }
        let file = &self.server.http_token_file;
        if *file == new.server.http_token_file && self.server.http_token != new.server.http_token {
            applied.push("server.http_token_file: another token".to_owned());
        }
        if let (Some(old), Some(new)) = (&self.tls, &new.tls)
            && (&old.cert, &old.key, &old.client_ca) == (&new.cert, &new.key, &new.client_ca)
            && old.acceptor != new.acceptor
        {
            applied.push("tls: other certificates".to_owned());
        }
        if let (Auth::Keys(before), Auth::Keys(after)) = (&self.auth, &new.auth) {
            let (changed, more) = before.ring.changes(&after.ring);
            if !changed.is_empty() {
                applied.push(format!(
                    "auth.keys_file: gone or changed: {}",
                    changed.join(" ")
                ));
            }
            if more > 0 {
                applied.push(format!("auth.keys_file: {more} new"));
            }
        }
        (applied, restart)
    }
}

fn is_applied(key: &str) -> bool {
    APPLIED
        .iter()
        .any(|one| *one == key || (one.ends_with('.') && key.starts_with(one)))
}

/// Every key with its value as text. The shape is the same for every configuration, so the order is too.
fn flat(json: &Value) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for (section, value) in json.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(members) if !["instructions", "auth", "tls"].contains(&&**section) => {
                keys.extend(
                    members
                        .iter()
                        .map(|(key, v)| (format!("{section}.{key}"), v.to_string())),
                );
            }
            _ => keys.push((section.clone(), value.to_string())),
        }
    }
    keys
}

/// Seconds, without a fraction where there is none.
pub(super) fn seconds(span: Span) -> Value {
    let millis = span.as_millis();
    if span == Span::from_secs(millis / 1_000) {
        (millis / 1_000).into()
    } else {
        span.as_secs_f64().into()
    }
}

/// The word that stands for `value`. Each table has all of them; one that it had not would be shown as `null`.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> Option<&'static str> {
    words
        .iter()
        .find(|(_, one)| *one == value)
        .map(|&(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key has a row in the documentation, and those taken over by a reload are marked there.
    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../docs/configuration.md");
        for (key, _) in flat(&Config::default().to_json()) {
            let cell = match is_applied(&key) {
                true => format!("\n| `{key}` ↻ |"),
                false => format!("\n| `{key}` |"),
            };
            assert!(
                page.contains(&cell),
                "{cell:?} is not in docs/configuration.md"
            );
        }
    }
}
