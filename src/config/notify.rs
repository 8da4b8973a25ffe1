//! `notify`: receivers of notifications, each a command or a webhook.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::TargetText;
use super::error::ConfigError;
use super::labels;
use super::value::Value;
use crate::files::{Guard, read_text};
use crate::limits::{API_TOKEN_BYTES_MAX, NOTIFY_RECEIVERS_MAX, NOTIFY_WORDS_MAX};
use crate::time::Span;

const DAY_S: f64 = 86_400.0;

/// Events that a receiver may subscribe to.
pub const NOTIFY_EVENTS: [&str; 6] = [
    "offline",
    "mass-offline",
    "quarantine",
    "device",
    "reach",
    "failed",
];

/// One entry of `notify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// `command` or `webhook`.
    pub channel: Channel,
    /// `events`: of [`NOTIFY_EVENTS`]. Default: all.
    pub events: Vec<&'static str>,
    /// `target`: events of other hosts are not reported. Default: those of all hosts are.
    pub target: Option<Arc<TargetText>>,
    /// `for_s`: an `offline`, `device` or `reach` is reported only if it lasts that long. Default: 0.
    pub lasting: Span,
    /// `group_s`: events within this time are one message. Default: 5.
    pub group: Span,
}

/// The way to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A program with its arguments, which reads the message from its standard input.
    Command(Vec<String>),
    /// A URL, to which the message is posted.
    Webhook {
        /// `webhook`.
        url: String,
        /// `key_file`: file with the key that signs the messages.
        key_file: Option<PathBuf>,
        /// The key read from that file.
        key: Option<Secret>,
    },
}

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads `notify`.
pub(super) fn receivers(v: &Value<'_>) -> Result<Vec<Receiver>, ConfigError> {
    v.list(NOTIFY_RECEIVERS_MAX)?.iter().map(receiver).collect()
}

fn receiver(entry: &Value<'_>) -> Result<Receiver, ConfigError> {
    let keys = [
        "command", "webhook", "key_file", "events", "target", "for_s", "group_s",
    ];
    let of = entry.clone().section(&keys)?;
    let channel = match (of.get("command"), of.get("webhook")) {
        (Some(command), None) => {
            if let Some(key) = of.get("key_file") {
                return Err(key.error("signs a webhook, and this is a command".to_owned()));
            }
            Channel::Command(words(&command)?)
        }
        (None, Some(webhook)) => {
            let url = url(&webhook)?;
            let (mut key_file, mut key) = (None, None);
            if let Some(v) = of.get("key_file").and_then(Value::unless_null) {
                let path = PathBuf::from(v.path()?);
                key = Some(secret(&v, &path)?);
                key_file = Some(path);
            }
            Channel::Webhook { url, key_file, key }
        }
        _ => {
            let why = "needs either \"command\" or \"webhook\"";
            return Err(entry.error(why.to_owned()));
        }
    };
    let mut receiver = Receiver {
        channel,
        events: NOTIFY_EVENTS.to_vec(),
        target: None,
        lasting: Span::ZERO,
        group: Span::from_secs(5),
    };
    of.set("events", &mut receiver.events, |v| {
        v.list(NOTIFY_EVENTS.len())?.iter().map(event).collect()
    })?;
    if let Some(v) = of.get("target").and_then(Value::unless_null) {
        receiver.target = Some(Arc::new(labels::target(&v)?));
    }
    of.set("for_s", &mut receiver.lasting, |v| v.seconds(0.0..=DAY_S))?;
    of.set("group_s", &mut receiver.group, |v| v.seconds(0.0..=3_600.0))?;
    Ok(receiver)
}

fn event(v: &Value<'_>) -> Result<&'static str, ConfigError> {
    v.word(&NOTIFY_EVENTS.map(|name| (name, name)))
}

fn words(v: &Value<'_>) -> Result<Vec<String>, ConfigError> {
    let words: Vec<String> = v
        .list(NOTIFY_WORDS_MAX)?
        .iter()
        .map(|word| word.path().map(str::to_owned))
        .collect::<Result<_, _>>()?;
    match words.first() {
        Some(program) if program.starts_with('/') => Ok(words),
        _ => Err(v.error("begins with no absolute path of a program".to_owned())),
    }
}

fn url(v: &Value<'_>) -> Result<String, ConfigError> {
    let text = v.text();
    let rest = text
        .strip_prefix("https://")
        .or(text.strip_prefix("http://"));
    let is_good = rest.is_some_and(|rest| {
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        !host.is_empty() && !host.contains('@') && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    if text.starts_with("https://") && !cfg!(feature = "tls") {
        return Err(v.error("needs a build with the feature \"tls\"".to_owned()));
    }
    match is_good {
        true => Ok(text.to_owned()),
        false => Err(v.wrong("is not http://… or https://…, without a user")),
    }
}

fn secret(v: &Value<'_>, path: &std::path::Path) -> Result<Secret, ConfigError> {
    let read = read_text(path, API_TOKEN_BYTES_MAX, Guard::Secret);
    let text = read.map_err(|error| v.error(format!("{} {error}", path.display())))?;
    match text.text.trim() {
        key if key.len() >= 16 => Ok(Secret(key.as_bytes().into())),
        _ => Err(v.error(format!("{} holds no key of 16 characters", path.display()))),
    }
}

/// Returns the entry in the form of the file.
pub(super) fn to_json(receiver: &Receiver) -> Json {
    let mut entry = json!({
        "events": receiver.events,
        "target": receiver.target.as_ref().map(|target| target.as_str()),
        "for_s": super::show::seconds(receiver.lasting),
        "group_s": super::show::seconds(receiver.group),
    });
    match &receiver.channel {
        Channel::Command(words) => entry["command"] = json!(words),
        Channel::Webhook { url, key_file, .. } => {
            entry["webhook"] = json!(url);
            entry["key_file"] = json!(key_file);
        }
    }
    entry
}
