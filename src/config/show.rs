//! The configuration in effect as the JSON of the file, and its differences from a newer one.
//! Passwords are shown as `***`.

use serde_json::{Value, json};

use super::table::KEYS;
use super::{Auth, Config};
use crate::time::Span;

impl Config {
    /// Returns the configuration as the JSON of `config.json`, which reads back as this one, except
    /// for a store's password.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = json!({});
        for key in KEYS {
            let value = key.value(self);
            match key.path.split_once('.') {
                Some((section, name)) => json[section][name] = value,
                None => json[key.path] = value,
            }
        }
        json
    }

    /// Returns the differences of `new`, one line per key: those that a running server applies, and
    /// those that wait for its restart. A token that `new` removes stays until then.
    #[must_use]
    pub fn describe_changes(&self, new: &Self) -> (Vec<String>, Vec<String>) {
        let (mut applied, mut restart) = (Vec::new(), Vec::new());
        // The last token stays until a restart.
        let has_tokens = new.server.needs_token();
        for key in KEYS {
            let (path, old, new) = (key.path, key.value(self), key.value(new));
            if old == new {
                continue;
            }
            let is_applied = match path {
                "server.http_token_file" | "server.http_tokens" => has_tokens,
                // A reload applies changed files; turning TLS on or off takes a restart.
                "tls" | "server.http_tls" => !old.is_null() && !new.is_null(),
                _ => key.is_reloaded,
            };
            let lines = if is_applied {
                &mut applied
            } else {
                &mut restart
            };
            lines.push(format!("{path}: {old} → {new}"));
        }
        // Differences that the JSON does not show.
        if self.store.url != new.store.url
            && self.store.url.to_string() == new.store.url.to_string()
        {
            restart.push("store.url: another password".to_owned());
        }
        let file = &self.server.http_token_file;
        if *file == new.server.http_token_file && self.server.http_token != new.server.http_token {
            applied.push("server.http_token_file: another token".to_owned());
        }
        if self.server.http_tokens == new.server.http_tokens
            && let (Some(before), Some(after)) = (&self.server.tokens, &new.server.tokens)
        {
            let (gone, added) = before.changes(after);
            for (what, names) in [("gone or changed", gone), ("new or changed", added)] {
                if !names.is_empty() {
                    applied.push(format!("server.http_tokens: {what}: {}", names.join(" ")));
                }
            }
        }
        for (key, old, new) in [
            ("tls", &self.tls, &new.tls),
            (
                "server.http_tls",
                &self.server.http_tls,
                &new.server.http_tls,
            ),
        ] {
            if let (Some(old), Some(new)) = (old, new)
                && (&old.cert, &old.key, &old.client_ca) == (&new.cert, &new.key, &new.client_ca)
                && old.acceptor != new.acceptor
            {
                applied.push(format!("{key}: other certificates"));
            }
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

/// Seconds, without a fraction if they are whole.
pub(super) fn seconds(span: Span) -> Value {
    let millis = span.as_millis();
    if span == Span::from_secs(millis / 1_000) {
        (millis / 1_000).into()
    } else {
        span.as_secs_f64().into()
    }
}
