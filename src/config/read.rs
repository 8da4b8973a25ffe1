//! Our own `config.json`, key by key: each value alone. What must hold between them is in `check`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use log::LevelFilter;

use super::error::ConfigError;
use super::outside;
use super::tree::Node;
use super::value::{NAME_CHARS_MAX, Section, Value, is_name_char};
use super::{
    Auth, Config, Dispatch, Format, Heartbeat, HttpWrite, KeysFile, Limits, Log, MIB, OnDone,
    OnShutdown, Server, Store, UDP_PORT,
};
use crate::codec::frame::ByteOrder;
use crate::ids::{self, TASK_FIELDS};
use crate::keys::Network;
use crate::limits::{CONFIG_ENTRIES_MAX, FRAME_BYTES_MAX};

/// The members of the whole file.
pub(super) const SECTIONS: [&str; 12] = [
    "server",
    "heartbeat",
    "limits",
    "dispatch",
    "offline",
    "store",
    "auth",
    "tls",
    "instructions",
    "ak",
    "reach",
    "log",
];

/// The keys of a section; none where its keys are not ours to know.
pub(super) fn keys_of(section: &str) -> &'static [&'static str] {
    match section {
        "server" => &[
            "name",
            "tcp",
            "udp",
            "http",
            "http_names",
            "http_token_file",
            "http_write",
            "coalesce_us",
        ],
        "heartbeat" => &[
            "timeout_s",
            "first_message_s",
            "working_timeout_s",
            "tcp_keepalive_s",
            "byte_order",
            "on_shutdown",
        ],
        "limits" => &[
            "connections",
            "connections_per_ip",
            "frame_bytes",
            "result_bytes",
        ],
        "dispatch" => &[
            "agent_port",
            "key_prefix",
            "rto_ms",
            "tries",
            "on_done",
            "keep_s",
        ],
        "offline" => &["delete_fields"],
        "store" => &["url", "spool", "spool_mb", "flush_ms", "timeout_ms"],
        "auth" => &["keys_file", "plain_from"],
        "ak" => &["devices"],
        "reach" => &["period_s", "targets"],
        "log" => &["level", "file", "format", "rotate_mb", "keep"],
        _ => &[],
    }
}

/// The words for a level, in the file and after `--log-level`.
pub(super) const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];
/// The words for a byte order.
pub(super) const BYTE_ORDERS: [(&str, ByteOrder); 3] = [
    ("auto", ByteOrder::Auto),
    ("little", ByteOrder::Little),
    ("big", ByteOrder::Big),
];
/// The words for what a planned stop does.
pub(super) const ON_SHUTDOWN: [(&str, OnShutdown); 2] =
    [("keep", OnShutdown::Keep), ("offline", OnShutdown::Offline)];
/// The words for requests that change something where no token is set.
pub(super) const HTTP_WRITE: [(&str, HttpWrite); 2] =
    [("token", HttpWrite::Token), ("open", HttpWrite::Open)];
/// The words for what becomes of a finished host's record.
pub(super) const ON_DONE: [(&str, OnDone); 2] = [("keep", OnDone::Keep), ("clear", OnDone::Clear)];
/// The words for the form of a log line.
pub(super) const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];

const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 24.0 * HOUR_S;
/// Connections that may be asked for: more than any machine holds.
const CONNECTIONS_MAX: u64 = 1 << 24;

/// Reads the whole file over the defaults.
pub(super) fn read(file: &str, root: &Node) -> Result<Config, ConfigError> {
    let root = Value {
        file,
        path: String::new(),
        node: root,
    };
    let mut config = Config::default();
    sections(&root.section(&SECTIONS)?, &mut config)?;
    Ok(config)
}

/// Reads the sections that are given over what `config` has.
pub(super) fn sections(root: &Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    let section = |name| {
        root.get(name)
            .map(|value| value.section(keys_of(name)))
            .transpose()
    };
    if let Some(of) = section("server")? {
        server(&of, &mut config.server)?;
    }
    if let Some(of) = section("heartbeat")? {
        heartbeat(&of, &mut config.heartbeat)?;
    }
    if let Some(of) = section("limits")? {
        limits(&of, &mut config.limits)?;
    }
    if let Some(of) = section("dispatch")? {
        dispatch(&of, &mut config.dispatch)?;
    }
    if let Some(of) = section("offline")? {
        of.set("delete_fields", &mut config.offline.delete_fields, |v| {
            delete_fields(&v)
        })?;
    }
    if let Some(of) = section("store")? {
        store(&of, &mut config.store)?;
    }
    root.set("auth", &mut config.auth, auth)?;
    root.set_or_null("tls", &mut config.tls, super::tls::read)?;
    root.set("instructions", &mut config.instructions, |v| {
        let members = v.members()?;
        if members.len() > CONFIG_ENTRIES_MAX {
            let given = members.len();
            return Err(v.error(format!(
                "has {given} entries, and may have {CONFIG_ENTRIES_MAX}"
            )));
        }
        let mut instructions = BTreeMap::new();
        for (name, node) in members {
            instructions.insert(name.clone(), command(&v.member(name, node))?);
        }
        Ok(instructions)
    })?;
    if let Some(of) = section("ak")? {
        of.set("devices", &mut config.ak.devices, outside::devices)?;
    }
    if let Some(of) = section("reach")? {
        of.set("period_s", &mut config.reach.period, |v| {
            v.seconds(0.1..=DAY_S)
        })?;
        of.set("targets", &mut config.reach.targets, outside::targets)?;
    }
    if let Some(of) = section("log")? {
        log(&of, &mut config.log)?;
    }
    Ok(())
}

fn server(of: &Section<'_>, server: &mut Server) -> Result<(), ConfigError> {
    if let Some(name) = of.get("name").and_then(Value::unless_null) {
        server.name = node_name(&name)?;
    }
    of.set("tcp", &mut server.tcp, |v| v.address())?;
    server.udp = udp_beside(server.tcp);
    if let Some(udp) = of.get("udp").and_then(Value::unless_null) {
        server.udp = udp.address()?;
    }
    of.set("http", &mut server.http, |v| v.address())?;
    of.set("http_names", &mut server.http_names, |v| {
        v.list(CONFIG_ENTRIES_MAX)?.iter().map(http_name).collect()
    })?;
    of.set_or_null("http_token_file", &mut server.http_token_file, path)?;
    if let Some(write) = of.get("http_write").and_then(Value::unless_null) {
        server.http_write = write.word(&HTTP_WRITE)?;
    }
    of.set("coalesce_us", &mut server.coalesce_us, |v| {
        v.whole(0..=10_000)
    })
}

/// Where UDP is when nobody says: at the address of TCP.
pub(super) fn udp_beside(tcp: SocketAddr) -> SocketAddr {
    let mut udp = tcp;
    udp.set_port(UDP_PORT);
    udp
}

fn heartbeat(of: &Section<'_>, heartbeat: &mut Heartbeat) -> Result<(), ConfigError> {
    of.set("timeout_s", &mut heartbeat.timeout, |v| {
        v.seconds(0.1..=DAY_S)
    })?;
    of.set("first_message_s", &mut heartbeat.first_message, |v| {
        v.seconds(0.1..=HOUR_S)
    })?;
    of.set("working_timeout_s", &mut heartbeat.working_timeout, |v| {
        v.seconds(1.0..=30.0 * DAY_S)
    })?;
    of.set("tcp_keepalive_s", &mut heartbeat.tcp_keepalive, |v| {
        v.seconds(1.0..=32_767.0)
    })?;
    of.set("byte_order", &mut heartbeat.byte_order, |v| {
        v.word(&BYTE_ORDERS)
    })?;
    of.set("on_shutdown", &mut heartbeat.on_shutdown, |v| {
        v.word(&ON_SHUTDOWN)
    })
}

fn limits(of: &Section<'_>, limits: &mut Limits) -> Result<(), ConfigError> {
    let count = |v: Value<'_>| v.whole(1..=CONNECTIONS_MAX).map(size);
    of.set_or_null("connections", &mut limits.connections, count)?;
    of.set_or_null("connections_per_ip", &mut limits.connections_per_ip, count)?;
    of.set("frame_bytes", &mut limits.frame_bytes, |v| {
        v.whole(64..=FRAME_BYTES_MAX as u64).map(size)
    })?;
    of.set("result_bytes", &mut limits.result_bytes, |v| {
        v.whole(1..=16 * MIB).map(size)
    })
}

fn dispatch(of: &Section<'_>, dispatch: &mut Dispatch) -> Result<(), ConfigError> {
    of.set("agent_port", &mut dispatch.agent_port, |v| {
        // Within the range of a port, so nothing is cut off.
        v.whole(1..=65_535).map(|port| port as u16)
    })?;
    of.set("key_prefix", &mut dispatch.key_prefix, |v| key_prefix(&v))?;
    of.set("rto_ms", &mut dispatch.rto, |v| v.millis(10..=3_600_000))?;
    of.set("tries", &mut dispatch.tries, |v| {
        v.whole(1..=100).map(|tries| tries as u32)
    })?;
    of.set("on_done", &mut dispatch.on_done, |v| v.word(&ON_DONE))?;
    of.set("keep_s", &mut dispatch.keep, |v| {
        v.seconds(60.0..=3_650.0 * DAY_S)
    })
}

fn store(of: &Section<'_>, store: &mut Store) -> Result<(), ConfigError> {
    of.set("url", &mut store.url, |v| match v.node {
        // The error of a URL never shows what may be a password, so nor must this one.
        Node::Text(text) => super::tls::store_url(text).map_err(|why| v.error(why)),
        _ => Err(v.wrong("is not a URL in quotes")),
    })?;
    of.set("spool", &mut store.spool, path)?;
    of.set("spool_mb", &mut store.spool_bytes, |v| {
        v.whole(1..=MIB).map(|mb| mb * MIB)
    })?;
    of.set("flush_ms", &mut store.flush, |v| v.millis(0..=10_000))?;
    of.set("timeout_ms", &mut store.timeout, |v| v.millis(10..=60_000))
}

fn log(of: &Section<'_>, log: &mut Log) -> Result<(), ConfigError> {
    of.set("level", &mut log.level, |v| v.word(&LEVELS))?;
    of.set_or_null("file", &mut log.file, path)?;
    of.set("format", &mut log.format, |v| v.word(&FORMATS))?;
    of.set("rotate_mb", &mut log.rotate_mb, |v| v.whole(0..=MIB))?;
    of.set("keep", &mut log.keep, |v| {
        v.whole(0..=1_000).map(|files| files as u32)
    })
}

fn auth(v: Value<'_>) -> Result<Auth, ConfigError> {
    match v.node {
        Node::Null => Ok(Auth::Unset),
        Node::Text(word) if word == "none" => Ok(Auth::None),
        Node::Object(_) => keys(v).map(Auth::Keys),
        _ => Err(v.wrong("is not null, \"none\" or an object with a keys_file")),
    }
}

fn keys(v: Value<'_>) -> Result<KeysFile, ConfigError> {
    let place = v.clone();
    let of = v.section(keys_of("auth"))?;
    let mut keys = KeysFile::default();
    match of.get("keys_file") {
        Some(file) => keys.keys_file = path(file)?,
        None => return Err(place.error("has no \"keys_file\"".to_owned())),
    }
    of.set("plain_from", &mut keys.plain_from, |v| {
        v.list(CONFIG_ENTRIES_MAX)?.iter().map(network).collect()
    })?;
    Ok(keys)
}

fn network(v: &Value<'_>) -> Result<Network, ConfigError> {
    let network = match v.node {
        Node::Text(text) => text.parse().ok(),
        _ => None,
    };
    network.ok_or_else(|| v.wrong("is not a network such as 10.0.0.0/8, or an address"))
}

fn node_name(v: &Value<'_>) -> Result<String, ConfigError> {
    match v.node {
        Node::Text(name)
            if (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_name_char) =>
        {
            Ok(name.clone())
        }
        _ => Err(v.wrong("is not null or 1 to 64 of A-Z a-z 0-9 . _ -")),
    }
}

/// A name that may stand in a request's `Host`: of a host name's letters, or an address.
fn http_name(v: &Value<'_>) -> Result<String, ConfigError> {
    let allowed = |c: char| is_name_char(c) || matches!(c, ':' | '[' | ']');
    match v.node {
        Node::Text(name) if (1..=253).contains(&name.len()) && name.chars().all(allowed) => {
            Ok(name.clone())
        }
        _ => Err(v.wrong("is not a host name or an address")),
    }
}

fn key_prefix(v: &Value<'_>) -> Result<String, ConfigError> {
    match v.node {
        Node::Text(prefix)
            if (1..=16).contains(&prefix.len())
                && prefix.chars().all(|c| c.is_ascii_alphanumeric()) =>
        {
            Ok(prefix.clone())
        }
        _ => Err(v.wrong("is not 1 to 16 letters and digits")),
    }
}

/// Why `field` cannot stand among `fields`, if it cannot.
pub(super) fn meets_another(field: &str, fields: &[String]) -> Option<String> {
    let other = ids::meets_another(field, fields)?;
    Some(format!(
        "ends in _{other}, so that it could name a key of another host or of a task"
    ))
}

/// A field that is deleted when its host goes offline. Those of tasks are not taken: a task whose
/// key reads like a host's name would lose what is recorded of it.
pub(super) fn delete_field(v: &Value<'_>) -> Result<String, ConfigError> {
    match v.node {
        Node::Text(field) if TASK_FIELDS.contains(&&**field) => Err(v.wrong(
            "belongs to tasks, whose records a host that goes offline must not take along; leave it out",
        )),
        Node::Text(field)
            if (1..=64).contains(&field.len())
                && field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
        {
            Ok(field.clone())
        }
        _ => Err(v.wrong("is not 1 to 64 of A-Z a-z 0-9 _")),
    }
}

fn delete_fields(v: &Value<'_>) -> Result<Vec<String>, ConfigError> {
    let entries = v.list(CONFIG_ENTRIES_MAX)?;
    let fields: Vec<String> = entries.iter().map(delete_field).collect::<Result<_, _>>()?;
    for (entry, field) in entries.iter().zip(&fields) {
        if let Some(why) = meets_another(field, &fields) {
            return Err(entry.wrong(&why));
        }
    }
    Ok(fields)
}

fn command(v: &Value<'_>) -> Result<String, ConfigError> {
    match v.node {
        Node::Text(command) if !command.is_empty() && !command.chars().any(char::is_control) => {
            Ok(command.clone())
        }
        _ => Err(v.wrong("is not a command in quotes, without control characters")),
    }
}

fn path(v: Value<'_>) -> Result<PathBuf, ConfigError> {
    v.path().map(PathBuf::from)
}

/// A number within the bounds above as a size: they all are far below 2³¹.
fn size(number: u64) -> usize {
    number as usize
}
