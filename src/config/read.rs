//! Values of single keys: their words, and readers of values that are neither numbers nor words.
//! The keys are in `table`, rules between two values in `check`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use log::LevelFilter;
use serde_json::{Value as Json, json};

use super::error::ConfigError;
use super::form::Words;
use super::tree::Node;
use super::value::{NAME_CHARS_MAX, Value, is_name_char};
use super::{Auth, Format, HttpWrite, KeysFile, OnDone, OnShutdown, UDP_PORT};
use crate::codec::frame::ByteOrder;
use crate::ids::{self, TASK_FIELDS};
use crate::keys::Network;
use crate::limits::CONFIG_ENTRIES_MAX;
use crate::store::address::StoreUrl;

/// The keys of `auth` where it is an object.
pub(super) const AUTH_KEYS: [&str; 2] = ["keys_file", "plain_from"];

impl Words for LevelFilter {
    const WORDS: &[(&str, Self)] = &[
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Words for ByteOrder {
    const WORDS: &[(&str, Self)] = &[
        ("auto", Self::Auto),
        ("little", Self::Little),
        ("big", Self::Big),
    ];
}

impl Words for OnShutdown {
    const WORDS: &[(&str, Self)] = &[("keep", Self::Keep), ("offline", Self::Offline)];
}

impl Words for HttpWrite {
    const WORDS: &[(&str, Self)] = &[("token", Self::Token), ("open", Self::Open)];
}

impl Words for OnDone {
    const WORDS: &[(&str, Self)] = &[("keep", Self::Keep), ("clear", Self::Clear)];
}

impl Words for Format {
    const WORDS: &[(&str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// The default of `server.udp`: the address of `server.tcp`, with the UDP port.
pub(super) fn udp_beside(tcp: SocketAddr) -> SocketAddr {
    let mut udp = tcp;
    udp.set_port(UDP_PORT);
    udp
}

/// Reads the URL of the store. An error never shows a possible password.
pub(super) fn store_url(v: &Value<'_>) -> Result<StoreUrl, ConfigError> {
    match v.node {
        Node::Text(text) => super::tls::store_url(text).map_err(|why| v.error(why)),
        _ => Err(v.wrong("is not a URL in quotes")),
    }
}

pub(super) fn auth(v: &Value<'_>) -> Result<Auth, ConfigError> {
    match v.node {
        Node::Null => Ok(Auth::Unset),
        Node::Text(word) if word == "none" => Ok(Auth::None),
        Node::Object(_) => keys(v).map(Auth::Keys),
        _ => Err(v.wrong("is not null, \"none\" or an object with a keys_file")),
    }
}

/// `auth` in the shape of the file.
pub(super) fn auth_json(auth: &Auth) -> Json {
    match auth {
        Auth::Unset => Json::Null,
        Auth::None => "none".into(),
        Auth::Keys(keys) => json!({
            "keys_file": keys.keys_file,
            "plain_from": keys.plain_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    }
}

fn keys(v: &Value<'_>) -> Result<KeysFile, ConfigError> {
    let of = v.clone().section(&AUTH_KEYS)?;
    let mut keys = KeysFile::default();
    match of.get("keys_file") {
        Some(file) => keys.keys_file = path(&file)?,
        None => return Err(v.error("has no \"keys_file\"".to_owned())),
    }
    of.set("plain_from", &mut keys.plain_from, |v| list(&v, network))?;
    Ok(keys)
}

pub(super) fn network(v: &Value<'_>) -> Result<Network, ConfigError> {
    let network = v.text().parse().ok();
    network.ok_or_else(|| v.wrong("is not a network such as 10.0.0.0/8, or an address"))
}

pub(super) fn networks_json(networks: &[Network]) -> Json {
    let texts = networks.iter().map(ToString::to_string);
    texts.collect::<Vec<_>>().into()
}

pub(super) fn node_name(v: &Value<'_>) -> Result<String, ConfigError> {
    let is_not = "is not null or 1 to 64 of A-Z a-z 0-9 . _ -";
    v.text_of(1..=NAME_CHARS_MAX, is_name_char, is_not)
}

/// Reads a name for the `Host` of a request: a host name or an address.
pub(super) fn http_name(v: &Value<'_>) -> Result<String, ConfigError> {
    let allowed = |c: char| is_name_char(c) || matches!(c, ':' | '[' | ']');
    v.text_of(1..=253, allowed, "is not a host name or an address")
}

pub(super) fn key_prefix(v: &Value<'_>) -> Result<String, ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric();
    v.text_of(1..=16, allowed, "is not 1 to 16 letters and digits")
}

/// Returns the reason why `field` cannot be among `fields`, if there is one.
pub(super) fn meets_another(field: &str, fields: &[String]) -> Option<String> {
    let other = ids::meets_another(field, fields)?;
    Some(format!(
        "ends in _{other}, so that it could name a key of another host or of a task"
    ))
}

/// Reads a field that is deleted when its host goes offline. Fields of tasks are refused: a task
/// whose key equals a host's name would lose its records.
pub(super) fn delete_field(v: &Value<'_>) -> Result<String, ConfigError> {
    if TASK_FIELDS.contains(&v.text()) {
        return Err(v.wrong(
            "belongs to tasks, whose records a host that goes offline must not take along; leave it out",
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    v.text_of(1..=64, allowed, "is not 1 to 64 of A-Z a-z 0-9 _")
}

/// Reads several fields, none of which could name a key of another host or of a task.
pub(super) fn delete_fields(v: &Value<'_>) -> Result<Vec<String>, ConfigError> {
    let entries = v.list(CONFIG_ENTRIES_MAX)?;
    let fields: Vec<String> = entries.iter().map(delete_field).collect::<Result<_, _>>()?;
    for (entry, field) in entries.iter().zip(&fields) {
        if let Some(why) = meets_another(field, &fields) {
            return Err(entry.wrong(&why));
        }
    }
    Ok(fields)
}

/// Commands by their names.
pub(super) fn instructions(v: &Value<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let members = v.members()?;
    let (given, max) = (members.len(), CONFIG_ENTRIES_MAX);
    if given > max {
        return Err(v.error(format!("has {given} entries, and may have {max}")));
    }
    let entry = |(name, node): &(String, Node)| Ok((name.clone(), command(&v.member(name, node))?));
    members.iter().map(entry).collect()
}

fn command(v: &Value<'_>) -> Result<String, ConfigError> {
    let is_not = "is not a command in quotes, without control characters";
    v.text_of(1..=usize::MAX, |c| !c.is_control(), is_not)
}

/// The path of a file or a directory.
pub(super) fn path(v: &Value<'_>) -> Result<PathBuf, ConfigError> {
    v.path().map(PathBuf::from)
}

/// A list of at most [`CONFIG_ENTRIES_MAX`] entries.
pub(super) fn list<T>(
    v: &Value<'_>,
    read: fn(&Value<'_>) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    v.list(CONFIG_ENTRIES_MAX)?.iter().map(read).collect()
}
