//! The old server's configuration file, accepted as it is: its Redis, its addresses, and the fields
//! that it deletes.
//!
//! ```text
//!  redisConfig.host, .password ──▶ store.url               redis://…@host:6379/0
//!  localConfig.ip              ──▶ server.tcp, server.udp  ip:11451, ip:11452
//!  offlineDelFields.system     ──▶ offline.delete_fields
//!                             ──▶ dispatch.on_done      clear: it deleted what a finished host left
//! ```
//!
//! The old server had no keys and served every host, so such a file implies `auth: "none"`, with a
//! warning at each start. All other keys have their defaults; HTTP, which the old server did not
//! have, stays on loopback. New sections may be added beside the old ones, and take precedence.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::error::ConfigError;
use super::read::{delete_field, meets_another};
use super::table;
use super::tree::Node;
use super::value::Value;
use super::{Auth, Config, OnDone, TCP_PORT};
use crate::ids::TASK_FIELDS;
use crate::limits::CONFIG_ENTRIES_MAX;
use crate::store::address::{REDIS_PORT, RedisAddress, RedisPlace, StoreUrl};

const REDIS: &str = "redisConfig";
const LOCAL: &str = "localConfig";
const FIELDS: &str = "offlineDelFields";

/// Returns whether this is a file of the old server.
pub(super) fn is_old(root: &Node) -> bool {
    root.member(REDIS).is_some() || root.member(LOCAL).is_some()
}

/// Settings that an old and a new section can both give.
const SHADOWED: [(&str, &str, &str, &str); 3] = [
    (REDIS, "host", "store", "url"),
    (LOCAL, "ip", "server", "tcp"),
    (FIELDS, "system", "offline", "delete_fields"),
];

/// Reads the old sections over the defaults, then the new sections.
pub(super) fn read(file: &str, root: &Node) -> Result<Config, ConfigError> {
    let mut config = Config {
        auth: Auth::None,
        ..Config::default()
    };
    config.dispatch.on_done = OnDone::Clear;
    let root = Value {
        file,
        path: String::new(),
        node: root,
    };
    if !gives(root.node, "auth") {
        config.warnings.push(format!(
            "{file}: a configuration of the old server, which served every host: auth counts as \"none\""
        ));
    }
    for (name, node) in root.members()? {
        let value = root.member(name, node);
        match &**name {
            REDIS => config.store.url = redis(&value, &mut config.warnings)?,
            LOCAL => local(&value, &mut config)?,
            FIELDS => fields(&value, &mut config)?,
            ours if table::sections().contains(&ours) => {}
            _ => ignored(&value, &mut config.warnings),
        }
    }
    table::read_sections(&root.clone().open_section()?, &mut config)?;
    if config.auth == Auth::Unset {
        config.auth = Auth::None;
    }
    for (old, old_key, section, key) in SHADOWED {
        let ours = root.node.member(section);
        if ours.is_some_and(|of| gives(of, key))
            && root.node.member(old).is_some_and(|of| gives(of, old_key))
        {
            config.warnings.push(format!(
                "{file}: {section}.{key} takes precedence over {old}.{old_key}"
            ));
        }
    }
    let has_store = root.node.member("store").is_some_and(|of| gives(of, "url"));
    if root.node.member(REDIS).is_none() && !has_store {
        config.warnings.push(format!(
            "{file}: redisConfig is missing: the store is {}",
            config.store.url
        ));
    }
    Ok(config)
}

/// Returns whether `of` has a value under `key` other than `null`.
fn gives(of: &Node, key: &str) -> bool {
    of.member(key).is_some_and(|value| *value != Node::Null)
}

fn ignored(value: &Value<'_>, warnings: &mut Vec<String>) {
    let (file, path) = (value.file, &value.path);
    warnings.push(format!("{file}: {path} is not known, and ignored"));
}

fn redis(of: &Value<'_>, warnings: &mut Vec<String>) -> Result<StoreUrl, ConfigError> {
    let (mut host, mut password) = (None, None);
    for (name, node) in of.members()? {
        let value = of.member(name, node);
        match &**name {
            "host" => host = Some(redis_host(&value)?),
            "password" => password = redis_password(&value)?,
            _ => ignored(&value, warnings),
        }
    }
    let Some(host) = host else {
        return Err(of.error("has no host: it must be where Redis is".to_owned()));
    };
    Ok(StoreUrl::Redis(RedisAddress {
        place: RedisPlace::Tcp {
            host,
            port: REDIS_PORT,
        },
        user: None,
        password,
        db: 0,
    }))
}

fn redis_host(value: &Value<'_>) -> Result<String, ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    let is_not = "is not a host name or an IP address";
    value.text_of(1..=usize::MAX, allowed, is_not)
}

/// Reads the password. An error does not show the value, which may be a password without quotes.
fn redis_password(value: &Value<'_>) -> Result<Option<String>, ConfigError> {
    match value.node {
        Node::Null => Ok(None),
        Node::Text(password) => Ok(Some(password.clone()).filter(|p| !p.is_empty())),
        _ => Err(value.error("is not null or a text in quotes".to_owned())),
    }
}

fn local(of: &Value<'_>, config: &mut Config) -> Result<(), ConfigError> {
    for (name, node) in of.members()? {
        let value = of.member(name, node);
        if name == "ip" {
            config.server.tcp = SocketAddr::new(ip(&value)?, TCP_PORT);
        } else {
            ignored(&value, &mut config.warnings);
        }
    }
    Ok(())
}

/// Reads the address. An empty one means every address of the machine.
fn ip(value: &Value<'_>) -> Result<IpAddr, ConfigError> {
    let text = match value.node {
        Node::Text(text) => text.trim(),
        _ => "?",
    };
    match text {
        "" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text
            .parse()
            .map_err(|_| value.wrong("is not an IP address such as 10.0.0.1")),
    }
}

fn fields(of: &Value<'_>, config: &mut Config) -> Result<(), ConfigError> {
    for (name, node) in of.members()? {
        let value = of.member(name, node);
        if name != "system" {
            ignored(&value, &mut config.warnings);
            continue;
        }
        config.offline.delete_fields.clear();
        for entry in value.list(CONFIG_ENTRIES_MAX)? {
            match entry.node {
                // For the old server these were harmless: it looked for them below a host's name.
                Node::Text(field) if TASK_FIELDS.contains(&&**field) => {
                    config.warnings.push(format!(
                        "{}: {}: {field:?} belongs to tasks, and is left out",
                        entry.file, entry.path
                    ));
                }
                _ => config.offline.delete_fields.push(delete_field(&entry)?),
            }
        }
        let all = config.offline.delete_fields.clone();
        for field in &all {
            if let Some(why) = meets_another(field, &all) {
                let left_out =
                    format!("{}: {}: {field:?} {why}, and is left out", of.file, of.path);
                config.warnings.push(left_out);
                config.offline.delete_fields.retain(|kept| kept != field);
            }
        }
    }
    Ok(())
}
