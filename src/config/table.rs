//! The keys of `config.json`: one row per key, from which come the reader, the errors, the output
//! of `check-config`, the lines of a reload, and the table of docs/configuration.md.

use serde_json::{Value as Json, json};

use super::error::ConfigError;
use super::form::{mib, millis, or_derived, or_null, plain, seconds, shown, whole, word};
use super::tree::Node;
use super::value::{Section, Value};
use super::{Config, Device, MIB, labels, notify, outside, read, tls};
use crate::limits::FRAME_BYTES_MAX;

/// One key of the file.
pub(super) struct Key {
    /// `section.name`; the section alone where it is one value.
    pub(super) path: &'static str,
    /// A reload applies a new value; if not, the value waits for a restart.
    pub(super) is_reloaded: bool,
    /// Meaning of the default `null`; empty where the default is not `null` or needs no words.
    null: &'static str,
    /// Meaning of the value, in Markdown. The first sentence is the help of its flag.
    help: &'static str,
    may_be: fn() -> String,
    set: fn(&mut Config, &Value<'_>) -> Result<(), ConfigError>,
    value: fn(&Config) -> Json,
}

/// Builds [`KEYS`]: `"path" = member, reloaded or restart, form, "meaning of null" if any,
/// "help";`.
macro_rules! keys {
    ($($path:literal = $($at:ident).+, $when:ident, $form:expr $(, null $null:literal)?, $help:literal;)+) => {
        /// All keys, by section, in the order in which they are read.
        pub(super) const KEYS: &[Key] = &[$(Key {
            path: $path,
            is_reloaded: $when,
            null: concat!("" $(, $null)?),
            help: $help,
            may_be: || $form.may_be(|config| &config.$($at).+),
            set: |config, v| $form.set(v, &mut config.$($at).+),
            value: |config| $form.show(&config.$($at).+),
        }),+];
    };
}

const RELOADED: bool = true;
const RESTART: bool = false;
const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 24.0 * HOUR_S;
/// Highest limit of connections: more than any machine holds.
const CONNECTIONS_MAX: u64 = 1 << 24;

keys! {
    "server.name" = server.name, RESTART,
        or_derived(plain("1 to 64 of `A-Z a-z 0-9 . _ -`", read::node_name)), null "the machine's host name",
        "Name of this node in the store. Two servers on one Redis need two names. After a change of the name the hosts of the old one are `lost` unless they connect again within `heartbeat.timeout_s` after its lease ended; its tasks go on";
    "server.tcp" = server.tcp, RESTART, plain("`ip:port`", |v| v.address()),
        "Address that hosts connect to. Port 0 is any free port";
    "server.udp" = server.udp, RESTART, or_derived(plain("`ip:port`", |v| v.address())),
        null "the address of `tcp`, port 11452",
        "Address that datagrams are sent from and received at";
    "server.http" = server.http, RESTART, plain("`ip:port`", |v| v.address()),
        "Address of the HTTP API";
    "server.http_names" = server.http_names, RELOADED, plain("list of host names", |v| read::list(v, read::http_name)),
        "Names that the `Host` of a request may have, beside the bound address and `localhost`; `NAME:PORT` for a proxy at another port";
    "server.proxy_from" = server.proxy_from, RELOADED,
        shown("list of networks", |v| read::list(v, read::network), |networks| read::networks_json(networks)),
        "Networks of load balancers, such as `10.0.0.0/8`. A connection to `server.tcp` from there must begin with a header of the PROXY protocol, version 2, within `heartbeat.first_message_s`; the header gives the host's address";
    "server.http_token_file" = server.http_token_file, RELOADED, or_null(plain("path", read::path)),
        "File with the API's token, 16 to 1024 visible ASCII characters. Every path but `/healthz` then needs the token. A reload applies a changed token; removing it takes a restart";
    "server.http_tokens" = server.http_tokens, RELOADED, or_null(plain("path", read::path)),
        "File with several tokens, each with a role: see [security](security.md#tokens). A reload applies a changed file; removing the last token takes a restart";
    "server.http_tls" = server.http_tls, RESTART, or_null(plain("`{\"cert\": FILE, \"key\": FILE}`, PEM", tls::read_http)),
        "[TLS](tls.md#http) on `server.http`. A reload applies changed files; turning TLS on or off takes a restart";
    "server.http_write" = server.http_write, RELOADED, or_derived(word()),
        null "`token` where `auth` names keys or `tls` has `client_ca`, else `open`",
        "Requests that change something (all but GET and HEAD) while no token is set. `token` refuses them with 401; `open` accepts them from every process that can connect";
    "server.coalesce_us" = server.coalesce_us, RELOADED, whole(0..=10_000),
        "Longest time in microseconds that dense traffic (16,000 events a second and more) waits to be read together";
    "server.turn_budget_us" = server.turn_budget_us, RELOADED, or_null(whole(100..=100_000)), null "a slice of 300 for each part of a turn",
        "Time in microseconds after which a turn of the loop only finishes what it has begun, for a program that [embeds the server](library.md#the-time-of-a-turn)";
    "heartbeat.timeout_s" = heartbeat.timeout, RELOADED, seconds(0.1..=DAY_S),
        "Silence after which a host is offline";
    "heartbeat.first_message_s" = heartbeat.first_message, RELOADED, seconds(0.1..=HOUR_S),
        "Time that a connection has for its first valid message";
    "heartbeat.working_timeout_s" = heartbeat.working_timeout, RELOADED, seconds(1.0..=30.0 * DAY_S),
        "Silence allowed to a busy host";
    "heartbeat.tcp_keepalive_s" = heartbeat.tcp_keepalive, RESTART, seconds(1.0..=32_767.0),
        "Idle time after which TCP probes the peer";
    "heartbeat.byte_order" = heartbeat.byte_order, RELOADED, word(),
        "Byte order of frame lengths";
    "heartbeat.on_shutdown" = heartbeat.on_shutdown, RELOADED, word(),
        "Effect of a planned stop on the hosts online. `keep` leaves them online, to be judged after the next start; `offline` makes them offline";
    "limits.connections" = limits.connections, RESTART, or_null(whole(1..=CONNECTIONS_MAX)), null "as descriptors allow",
        "Connections of hosts at once";
    "limits.connections_per_ip" = limits.connections_per_ip, RESTART, or_null(whole(1..=CONNECTIONS_MAX)),
        null "no limit of its own",
        "Connections from one address at once. All addresses of one IPv6 /64 network count as one";
    "limits.frame_bytes" = limits.frame_bytes, RELOADED, whole(64..=FRAME_BYTES_MAX as u64),
        "Longest body of a message";
    "limits.result_bytes" = limits.result_bytes, RESTART, whole(1..=16 * MIB),
        "Longest output of a command. Our agents send up to 1048576 bytes, and leave out what a server with a lower limit refuses";
    "dispatch.agent_port" = dispatch.agent_port, RESTART, whole(1..=65_535),
        "UDP port of a host that reported none";
    "dispatch.key_prefix" = dispatch.key_prefix, RELOADED, plain("1 to 16 letters and digits", read::key_prefix),
        "First characters of every task key. Our agents accept other prefixes than `AC` only with `--push`";
    "dispatch.rto_ms" = dispatch.rto, RESTART, millis(10..=3_600_000),
        "Time before the first retransmission of a key. It doubles from try to try";
    "dispatch.tries" = dispatch.tries, RESTART, whole(1..=100),
        "Number of times that a key is sent in all";
    "dispatch.on_done" = dispatch.on_done, RESTART, word(),
        "Fate of a host's record of a task when it is done. `keep` keeps it for `keep_s`; `clear` deletes it at once";
    "dispatch.keep_s" = dispatch.keep, RESTART, seconds(60.0..=3_650.0 * DAY_S),
        "Time that finished tasks and offline hosts are kept";
    "offline.delete_fields" = offline.delete_fields, RESTART,
        plain("list of at most 64 of `A-Z a-z 0-9 _` each; none a task's, none that ends in `_` and another of them", read::delete_fields),
        "Fields deleted when a host goes offline. The key of each is `<host>_<name>`";
    "store.url" = store.url, RESTART,
        shown("`embedded:DIR`, `redis://[user:password@]host:port/db`, `rediss://…?ca=FILE`, `redis+unix://[user:password@]/path?db=N`, `redis+sentinel://[user:password@]host:port,host:port…/MASTER/db`, `redis+cluster://[user:password@]host:port,host:port…`, `rediss+sentinel://…`, `rediss+cluster://…`", read::store_url, |url| url.to_string().into()),
        "URL of the store. `sentinel` and `cluster`: see [scale.md](scale.md). `rediss` is [TLS](tls.md#redis). `@ / ? # %` in a password are written `%40 %2F %3F %23 %25`";
    "store.spool" = store.spool, RESTART, plain("path", read::path),
        "Directory of the spool, where reports wait while the store is unavailable";
    "store.spool_mb" = store.spool_bytes, RESTART, mib(1..=MIB),
        "Size limit of the spool";
    "store.flush_ms" = store.flush, RESTART, millis(0..=10_000),
        "Time that the embedded store gathers writes for one fsync. Redis is written to at once";
    "store.timeout_ms" = store.timeout, RESTART, millis(10..=60_000),
        "Time for an answer of the store, after which it counts as unavailable";
    "store.wait_replicas" = store.wait_replicas, RESTART, whole(0..=8),
        "Replicas of Redis that must have a report or a task before it is acknowledged. While too few have it the store counts as unavailable: see [scale.md](scale.md#losses-at-a-failover)";
    "auth" = auth, RELOADED,
        shown("`null`, `\"none\"`, `{\"keys_file\": FILE, \"plain_from\": [NETWORK…]}`", read::auth, read::auth_json),
        "Proof that hosts must give: see below. `\"none\"` lets the server listen beyond this machine although hosts need no key";
    "tls" = tls, RESTART, or_null(plain("`{\"cert\": FILE, \"key\": FILE, \"client_ca\": FILE or null}`, PEM", tls::read)),
        "[TLS](tls.md) on `server.tcp`. With `client_ca` a host must show a certificate, and the certificate's name is its id. A reload applies changed files; turning TLS on or off takes a restart";
    "instructions" = instructions, RELOADED, plain("name → command", read::instructions),
        "Commands known by name";
    "labels" = labels, RELOADED,
        shown("`[{\"match\": TARGET, \"set\": {KEY: VALUE}}…]`", labels::rules, |all| labels::rules_json(all)),
        "[Labels](targets.md#labels) of hosts. `match` has names and networks only; of two entries that set one key the first wins";
    "groups" = groups, RELOADED, shown("name → [target](targets.md)", labels::groups, labels::groups_json),
        "Targets known by name, as `@NAME`";
    "ak.devices" = ak.devices, RELOADED,
        shown("a list, at most 1024", outside::devices, |all| all.iter().map(Device::to_json).collect()),
        "AK devices that the server polls: see [below](#devices)";
    "reach.period_s" = reach.period, RELOADED, seconds(0.1..=DAY_S),
        "Interval between two probes of a target";
    "reach.targets" = reach.targets, RELOADED,
        shown("a list, at most 1024", outside::targets, |all| all.iter().map(|one| json!(one.text)).collect()),
        "Targets that the server probes: see [below](#targets)";
    "notify" = notify, RESTART,
        shown("a list, at most 16", notify::receivers, |all| all.iter().map(notify::to_json).collect()),
        "Commands and webhooks that receive events: see [below](#notifications)";
    "log.level" = log.level, RELOADED, word(),
        "Lowest level that is logged";
    "log.file" = log.file, RELOADED, or_null(plain("path", read::path)),
        "File that gets the lines beside stderr. If it cannot be written, stderr says so and the server tries again. Only a regular file is rotated";
    "log.format" = log.format, RELOADED, word(),
        "Format of a line. `json` is one object a line";
    "log.rotate_mb" = log.rotate_mb, RELOADED, whole(0..=MIB),
        "Size in MiB above which a new file is begun. 0 is never";
    "log.keep" = log.keep, RELOADED, whole(0..=1_000),
        "Number of older files kept, as `FILE.1` (the newest) to `FILE.8`";
}

impl Key {
    /// The section, and the name in it; no name where the section is one value.
    fn parts(&self) -> (&'static str, Option<&'static str>) {
        match self.path.split_once('.') {
            Some((section, name)) => (section, Some(name)),
            None => (self.path, None),
        }
    }

    /// Returns the value in `config` as JSON. Passwords are hidden.
    pub(super) fn value(&self, config: &Config) -> Json {
        (self.value)(config)
    }
}

/// The members of the whole file.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.parts().0).collect();
    sections.dedup();
    sections
}

/// The keys of a section; none where the section is one value.
pub(super) fn keys_of(section: &str) -> Vec<&'static str> {
    let parts = KEYS.iter().map(Key::parts);
    parts
        .filter_map(|(of, name)| name.filter(|_| of == section))
        .collect()
}

/// Reads the whole file over the defaults.
pub(super) fn read(file: &str, node: &Node) -> Result<Config, ConfigError> {
    let path = String::new();
    let root = Value { file, path, node }.section(&sections())?;
    let mut config = Config::default();
    read_sections(&root, &mut config)?;
    Ok(config)
}

/// Reads the sections that are given over the values of `config`.
pub(super) fn read_sections(root: &Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    for section in sections() {
        let Some(value) = root.get(section) else {
            continue;
        };
        let names = keys_of(section);
        let of = match names.is_empty() {
            true => None,
            false => Some(value.clone().section(&names)?),
        };
        for key in KEYS.iter().filter(|key| key.parts().0 == section) {
            let given = match (&of, key.parts().1) {
                (Some(of), Some(name)) => of.get(name),
                _ => Some(value.clone()),
            };
            if let Some(value) = given {
                (key.set)(config, &value)?;
            }
        }
    }
    Ok(())
}

/// Sets the key at `path` from the text of a flag; the error is the reason alone.
pub(super) fn set_from_text(config: &mut Config, path: &str, text: &str) -> Result<(), String> {
    let value = Value {
        file: "",
        path: String::new(),
        node: &Node::Text(text.to_owned()),
    };
    let key = KEYS.iter().find(|key| key.path == path);
    match key.map_or(Ok(()), |key| (key.set)(config, &value)) {
        Err(ConfigError::Value { why, .. }) => Err(why),
        other => other.map_err(|error| error.to_string()),
    }
}

/// The help of a flag that sets the key at `path`: the first sentence of the key's help.
#[doc(hidden)]
#[must_use]
pub fn flag_help(path: &str) -> String {
    let key = KEYS.iter().find(|key| key.path == path);
    let help = key.map_or("", |key| key.help);
    let sentence = help.split_once(". ").map_or(help, |(first, _)| first);
    format!("{sentence} ({path})")
}

/// The table of the documentation, in Markdown.
#[doc(hidden)]
#[must_use]
pub fn documentation() -> String {
    let defaults = Config::default();
    let mut table = "| key | default | may be | meaning |\n|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let mark = if key.is_reloaded { " ↻" } else { "" };
        let default = match (key.null, key.value(&defaults)) {
            ("", Json::Number(number)) => number.to_string(),
            ("", Json::String(text)) => format!("`{text}`"),
            ("", value) => format!("`{}`", value.to_string().replace("\",\"", "\", \"")),
            (null, _) => format!("`null`: {null}"),
        };
        let (path, may_be, help) = (key.path, (key.may_be)(), key.help);
        table += &format!("| `{path}`{mark} | {default} | {may_be} | {help} |\n");
    }
    table
}
