//! The configuration: `config.json`, ours or the old server's, and the command line's flags → a
//! checked [`Config`], or an error of one line that names the key.
//!
//! ```text
//!  config.json ──▶ tree ──▶ table (or old) ──▶ flags ──▶ check ──▶ Config
//!                  JSON     each key alone               what must hold between two values
//! ```
//!
//! Every section and every key may be left out; its value is then the one in the `config.json` that
//! is shipped. `table` lists each key once, with its range and its meaning. A flag beats the file,
//! the file beats the default. Relative paths are relative to the working directory.

mod check;
mod error;
#[cfg(feature = "cli")]
mod findings;
mod form;
mod keys;
mod labels;
mod log_file;
mod notify;
mod old;
mod outside;
mod read;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod tree;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{ConfigError, Place};
pub use keys::{read_key_file, read_keys};
pub use log_file::{LogFileKind, log_file_kind};
pub use notify::{Channel, NOTIFY_EVENTS, Receiver, Secret};
pub use outside::{Device, Field, Target};
pub use table::{documentation, flag_help};
pub use tls::{Acceptor, Tls};
use tree::Node;

use crate::codec::frame::ByteOrder;
pub use crate::codec::target::Target as TargetText;
use crate::escape;
use crate::files::{FileError, Guard, read_text};
use crate::keys::{Network, Ring, Tokens};
use crate::limits::{CONFIG_FILE_BYTES_MAX, FRAME_BYTES_MAX};
use crate::store::address::StoreUrl;
use crate::syntax::{self, JsonFault, json_fault};
use crate::time::Span;

/// File that is read by default, if it exists.
pub const DEFAULT_FILE: &str = "config.json";
/// Default TCP port for hosts.
pub const TCP_PORT: u16 = 11_451;
/// Default UDP port, at the TCP address.
pub const UDP_PORT: u16 = 11_452;
/// Default HTTP port.
pub const HTTP_PORT: u16 = 11_480;

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Config {
    /// `server`: name and addresses of the server.
    pub server: Server,
    /// `heartbeat`: rules of presence.
    pub heartbeat: Heartbeat,
    /// `limits`: limits of connections and sizes.
    pub limits: Limits,
    /// `dispatch`: delivery of tasks.
    pub dispatch: Dispatch,
    /// `offline`: fields deleted when a host goes offline.
    pub offline: Offline,
    /// `store`: Redis or files.
    pub store: Store,
    /// `auth`: authentication of hosts.
    pub auth: Auth,
    /// `tls`: TLS for the TCP port; none if `null`.
    pub tls: Option<Tls>,
    /// `instructions`: name → command, for the console and `POST /v1/commands`.
    pub instructions: BTreeMap<String, String>,
    /// `labels`: labels of the hosts that a target selects. Of two entries that set one key the first
    /// wins.
    pub labels: Vec<LabelRule>,
    /// `groups`: targets known by name.
    pub groups: BTreeMap<String, Arc<TargetText>>,
    /// `ak`: polled AK devices.
    pub ak: Ak,
    /// `reach`: probed targets.
    pub reach: Reach,
    /// `notify`: receivers of notifications.
    pub notify: Vec<Receiver>,
    /// `log`: level, file and format.
    pub log: Log,
    /// Warnings, to be logged at each start. Not part of the file.
    pub warnings: Vec<String>,
}

/// An entry of `labels`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRule {
    /// `match`: the hosts, by names and networks.
    pub hosts: Arc<TargetText>,
    /// `set`: their labels.
    pub set: BTreeMap<String, String>,
}

/// `server`: name and addresses of the server.
#[derive(Clone, PartialEq)]
pub struct Server {
    /// `name`: the node's name in the store, 1 to 64 of `A-Z a-z 0-9 . _ -`. `null`: the machine's
    /// host name.
    pub name: String,
    /// `tcp`: address for hosts, `ip:port`; port 0 is any free port.
    pub tcp: SocketAddr,
    /// `udp`: address for datagrams, `ip:port`. `null`: `tcp`'s address, port 11452.
    pub udp: SocketAddr,
    /// `http`: address of the HTTP API, `ip:port`.
    pub http: SocketAddr,
    /// `http_names`: names that a request's `Host` may have beside the bound address and
    /// `localhost`.
    pub http_names: Vec<String>,
    /// `proxy_from`: networks of load balancers, whose connections begin with a PROXY header.
    pub proxy_from: Vec<Network>,
    /// `http_token_file`: file with the API's token, 16 to 1024 visible ASCII characters. `null`:
    /// no token.
    pub http_token_file: Option<PathBuf>,
    /// The token read from that file. Never shown.
    pub http_token: Option<String>,
    /// `http_tokens`: file with the names, digests and roles of tokens. `null`: none.
    pub http_tokens: Option<PathBuf>,
    /// The tokens read from that file.
    pub tokens: Option<Tokens>,
    /// `http_tls`: TLS for the HTTP API; none if `null`.
    pub http_tls: Option<Tls>,
    /// `http_write`: requests that change something while no token is set. `null`: they need a
    /// token if hosts must authenticate ([`Config::is_guarded`]).
    pub http_write: HttpWrite,
    /// `coalesce_us`: longest wait of the loop for more input, in microseconds, 0 to 10000.
    pub coalesce_us: u64,
    /// `turn_budget_us`: time of a turn after its wait, in microseconds, 100 to 100000. `null`: each
    /// part of a turn has its usual slice.
    pub turn_budget_us: Option<u64>,
}

/// HTTP requests that change something while no token is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpWrite {
    /// `open`: every process that can connect may make them.
    #[default]
    Open,
    /// `token`: they need a token, and are refused without one.
    Token,
}

impl Default for Server {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            name: machine_name(),
            tcp: local(TCP_PORT),
            udp: local(UDP_PORT),
            http: local(HTTP_PORT),
            http_names: Vec::new(),
            proxy_from: Vec::new(),
            http_token_file: None,
            http_token: None,
            http_tokens: None,
            tokens: None,
            http_tls: None,
            http_write: HttpWrite::Open,
            coalesce_us: 1_000,
            turn_budget_us: None,
        }
    }
}

impl Server {
    /// The tokens of both files, if one of them is named. The one of `http_token_file` is an
    /// administrator's, and called `token`.
    pub(crate) fn all_tokens(&self) -> Result<Option<Tokens>, String> {
        let mut tokens = self.tokens.clone();
        if let Some(single) = &self.http_token {
            token::add_single(tokens.get_or_insert_default(), single)?;
        }
        Ok(tokens)
    }

    /// Returns whether requests need a token.
    pub(crate) fn needs_token(&self) -> bool {
        self.http_token.is_some() || self.tokens.is_some()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("tcp", &self.tcp)
            .field("udp", &self.udp)
            .field("http", &self.http)
            .field("http_names", &self.http_names)
            .field("proxy_from", &self.proxy_from)
            .field("http_token_file", &self.http_token_file)
            .field("http_token", &self.http_token.as_ref().map(|_| "***"))
            .field("http_tokens", &self.http_tokens)
            .field("tokens", &self.tokens)
            .field("http_tls", &self.http_tls)
            .field("http_write", &self.http_write)
            .field("coalesce_us", &self.coalesce_us)
            .field("turn_budget_us", &self.turn_budget_us)
            .finish()
    }
}

/// `heartbeat`: rules of presence. Seconds may be fractions.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// `timeout_s`: silence after which a host is offline, 0.1 s to a day.
    pub timeout: Span,
    /// `first_message_s`: timeout of the first valid message, 0.1 s to an hour.
    pub first_message: Span,
    /// `working_timeout_s`: silence allowed to a busy plain host, 1 s to 30 days.
    pub working_timeout: Span,
    /// `tcp_keepalive_s`: idle time before TCP probes, 1 to 32767 s (the kernel's limit; whole
    /// seconds).
    pub tcp_keepalive: Span,
    /// `byte_order` of frame lengths: `auto`, `little` or `big`.
    pub byte_order: ByteOrder,
    /// `on_shutdown`: effect of a planned stop on hosts online.
    pub on_shutdown: OnShutdown,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            timeout: Span::from_secs(60),
            first_message: Span::from_secs(10),
            working_timeout: Span::from_secs(3_600),
            tcp_keepalive: Span::from_secs(30),
            byte_order: ByteOrder::Auto,
            on_shutdown: OnShutdown::Keep,
        }
    }
}

/// `heartbeat.on_shutdown`: effect of a planned stop on hosts online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShutdown {
    /// `keep`: they stay online, and are judged after the next start.
    #[default]
    Keep,
    /// `offline`: all go offline.
    Offline,
}

/// `limits`: limits of connections and sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `connections` at once, 1 to 16777216. `null`: as many as descriptors allow.
    pub connections: Option<usize>,
    /// `connections_per_ip` at once, 1 to 16777216; an IPv6 /64 network counts as one address.
    /// `null`: as many as `connections`.
    pub connections_per_ip: Option<usize>,
    /// `frame_bytes`: the longest body of a frame, 64 to 65535 bytes.
    pub frame_bytes: usize,
    /// `result_bytes`: the longest output of a command that is taken, 1 byte to 16 MiB.
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_ip: None,
            frame_bytes: FRAME_BYTES_MAX,
            result_bytes: 1024 * 1024,
        }
    }
}

/// `dispatch`: delivery of tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// `agent_port`: UDP port of a host that reported none, 1 to 65535.
    pub agent_port: u16,
    /// `key_prefix`: prefix of task keys, 1 to 16 letters and digits.
    pub key_prefix: String,
    /// `rto_ms`: time before the first retransmission of a key, 10 ms to an hour; it doubles from
    /// try to try.
    pub rto: Span,
    /// `tries`: transmissions of a key, 1 to 100.
    pub tries: u32,
    /// `on_done`: fate of a host's record of a finished task.
    pub on_done: OnDone,
    /// `keep_s`: retention of finished tasks and offline hosts, 60 s to ten years.
    pub keep: Span,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            agent_port: 6_655,
            key_prefix: "AC".to_owned(),
            rto: Span::from_secs(3),
            tries: 5,
            on_done: OnDone::Keep,
            keep: Span::from_secs(7 * 24 * 3_600),
        }
    }
}

/// `dispatch.on_done`: fate of a host's record of a finished task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDone {
    /// `keep`: the record stays for `keep_s`.
    #[default]
    Keep,
    /// `clear`: it is deleted at once, as the old server did.
    Clear,
}

/// `offline`: fields deleted when a host goes offline.
#[derive(Clone, Debug, PartialEq)]
pub struct Offline {
    /// `delete_fields`: the key `<host>_<field>` is deleted for each; at most 64 of
    /// `A-Z a-z 0-9 _`, and never one that belongs to a task.
    pub delete_fields: Vec<String>,
}

impl Default for Offline {
    fn default() -> Self {
        Self {
            delete_fields: vec!["systemInfo".to_owned(), "systemInfoIPV4".to_owned()],
        }
    }
}

/// `store`: Redis or files.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// `url`: `embedded:DIR`, `redis://…` or `redis+unix://…`.
    pub url: StoreUrl,
    /// `spool`: directory of reports that wait while the store is unavailable.
    pub spool: PathBuf,
    /// `spool_mb`: size limit of the spool, 1 MiB to 1 TiB; here in bytes.
    pub spool_bytes: u64,
    /// `flush_ms`: time that the embedded store gathers writes for one fsync, 0 to 10000 ms. Redis
    /// is written to at once.
    pub flush: Span,
    /// `timeout_ms`: timeout of the store, after which it counts as unavailable, 10 to 60000 ms.
    pub timeout: Span,
    /// `wait_replicas`: replicas of Redis that must have a report before it is acknowledged, 0 to 8.
    pub wait_replicas: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: StoreUrl::Embedded(PathBuf::from("anthill-data")),
            spool: PathBuf::from("anthill-spool"),
            spool_bytes: 1_024 * MIB,
            flush: Span::from_millis(50),
            timeout: Span::from_secs(1),
            wait_replicas: 0,
        }
    }
}

/// `auth`: authentication of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// `null`: not configured. The server then listens on loopback only.
    #[default]
    Unset,
    /// `"none"`: every host is admitted.
    None,
    /// `{"keys_file": FILE, "plain_from": [NETWORK…]}`: hosts with a key.
    Keys(KeysFile),
}

/// `auth` as an object: the keys, and the networks that need none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysFile {
    /// `keys_file`: file with the keys; others must not be able to read it.
    pub keys_file: PathBuf,
    /// `plain_from`: networks whose hosts need no key, `10.0.0.0/8` or an address; at most 4096.
    pub plain_from: Vec<Network>,
    /// The keys read from that file. Never shown.
    pub ring: Ring,
}

/// `ak`: polled AK devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ak {
    /// `devices`: at most 1024.
    pub devices: Vec<Device>,
}

/// `reach`: probed targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// `period_s`: interval of the probes, 0.1 s to a day.
    pub period: Span,
    /// `targets`: at most 1024.
    pub targets: Vec<Target>,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            period: Span::from_secs(10),
            targets: Vec::new(),
        }
    }
}

/// `log`: level, file and format. Lines always go to stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `level`: lowest level that is written: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: log::LevelFilter,
    /// `file` that gets the lines, too. `null`: none.
    pub file: Option<PathBuf>,
    /// `format` of a line: `text` or `json`.
    pub format: Format,
    /// `rotate_mb`: size in MiB above which a new file begins, up to 1048576; 0: never.
    pub rotate_mb: u64,
    /// `keep`: number of older files, 0 to 1000.
    pub keep: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: log::LevelFilter::Info,
            file: None,
            format: Format::Text,
            rotate_mb: 16,
            keep: 8,
        }
    }
}

/// `log.format`: format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `text`: for people.
    #[default]
    Text,
    /// `json`: one object per line.
    Json,
}

/// Values from the command line, which replace those of the file.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--store URL`.
    pub store: Option<String>,
    /// `--tcp ADDR`.
    pub tcp: Option<String>,
    /// `--udp ADDR`.
    pub udp: Option<String>,
    /// `--http ADDR`.
    pub http: Option<String>,
    /// `--auth none`.
    pub auth: Option<String>,
    /// `--log-level LEVEL`.
    pub log_level: Option<String>,
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overrides")
            .field("store", &self.store.as_ref().map(|_| "***"))
            .field("tcp", &self.tcp)
            .field("udp", &self.udp)
            .field("http", &self.http)
            .field("auth", &self.auth)
            .field("log_level", &self.log_level)
            .finish()
    }
}

const MIB: u64 = 1024 * 1024;

/// Values of the file whose defaults depend on others.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    udp: bool,
    http_write: bool,
}

impl Config {
    /// Reads the configuration: `path`, or without one `./config.json` if it exists, or else the
    /// defaults; then the flags over it.
    ///
    /// # Errors
    /// When a file cannot be read or is not JSON, a key is unknown or given twice, a value is out
    /// of range, or the server would be open to every machine without `auth` saying so.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        // Without following a link: a dangling one exists, and is wrong.
        match std::fs::symlink_metadata(file) {
            Err(e) if path.is_none() && e.kind() == io::ErrorKind::NotFound => {
                Self::default().finish(None, Given::default(), overrides)
            }
            _ => {
                let name = error::shown_path(file);
                let text = read_file(file).map_err(|why| match path {
                    Some(_) => flag_error("--config", format!("{name} cannot be read: {why}")),
                    None => ConfigError::Unreadable {
                        file: name.clone(),
                        why,
                    },
                })?;
                Self::parse(&name, &text, overrides)
            }
        }
    }

    /// The same from the text of a file called `name`.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let root = json(name, text)?;
        let config = if old::is_old(&root) {
            old::read(name, &root)?
        } else {
            table::read(name, &root)?
        };
        let server = root.member("server");
        let is_given = |key| {
            let value = server.and_then(|of| of.member(key));
            value.is_some_and(|value| *value != Node::Null)
        };
        let given = Given {
            udp: is_given("udp"),
            http_write: is_given("http_write"),
        };
        config.finish(Some(name), given, overrides)
    }

    /// Returns whether hosts must prove their identity: by keys, or by certificates.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        let certified = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        matches!(self.auth, Auth::Keys(_)) || certified
    }

    /// Applies the flags and checks the result.
    fn finish(
        mut self,
        file: Option<&str>,
        given: Given,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        for (flag, path, text) in [
            ("--store", "store.url", &flags.store),
            ("--tcp", "server.tcp", &flags.tcp),
            ("--udp", "server.udp", &flags.udp),
            ("--http", "server.http", &flags.http),
            ("--log-level", "log.level", &flags.log_level),
        ] {
            if let Some(text) = text {
                let set = table::set_from_text(&mut self, path, text);
                set.map_err(|why| flag_error(flag, why))?;
            }
        }
        if !given.udp && flags.udp.is_none() {
            self.server.udp = read::udp_beside(self.server.tcp);
        }
        match flags.auth.as_deref() {
            None => {}
            Some("none") => self.auth = Auth::None,
            Some(other) => {
                let why = format!("{} is not \"none\"", value::shown_text(other));
                return Err(flag_error("--auth", why));
            }
        }
        let origin = check::Origin { file, flags };
        if let Some(path) = &self.server.http_token_file {
            let (token, warning) = token::read(path, origin.token_file())?;
            self.server.http_token = Some(token);
            self.warnings.extend(warning);
        }
        if let Some(path) = &self.server.http_tokens {
            let (tokens, warning) = token::read_tokens(path, origin.tokens())?;
            self.server.tokens = Some(tokens);
            self.warnings.extend(warning);
        }
        self.server.all_tokens().map_err(|why| ConfigError::Value {
            place: origin.token_file(),
            why,
        })?;
        let place = origin.keys_file();
        if let Auth::Keys(auth) = &mut self.auth {
            auth.ring = keys::read(&auth.keys_file, place)?;
            if auth.ring.is_empty() {
                self.warnings.push(format!(
                    "{} has no key: no host but those of auth.plain_from gets in",
                    error::shown_path(&auth.keys_file)
                ));
            }
        }
        let tls = [
            ("tls.cert", &self.tls),
            ("server.http_tls.cert", &self.server.http_tls),
        ];
        let warnings = tls.into_iter().filter_map(|(key, tls)| {
            let warning = tls.as_ref()?.warning.as_ref()?;
            Some(format!("{key}: {warning}"))
        });
        self.warnings.extend(warnings.collect::<Vec<_>>());
        check::check(&self, &origin)?;
        self.warnings
            .extend(self.log.file.as_deref().and_then(log_file::warning));
        if !given.http_write && self.is_guarded() {
            self.server.http_write = HttpWrite::Token;
        }
        self.warnings.extend(check::open_to_this_machine(&self));
        Ok(self)
    }
}

/// Reads the text of the file.
fn read_file(path: &Path) -> Result<String, String> {
    match read_text(path, CONFIG_FILE_BYTES_MAX, Guard::Shared) {
        Ok(read) => Ok(read.text),
        Err(FileError::Io(error)) => Err(error.to_string()),
        Err(error) => Err(format!("it {error}")),
    }
}

/// Parses the JSON of a file. A file without any is no valid one: it may have been cut.
fn json(file: &str, text: &str) -> Result<Node, ConfigError> {
    if let Some(blank) = syntax::blank(text) {
        return Err(ConfigError::Value {
            place: Place::Key {
                file: file.to_owned(),
                path: String::new(),
            },
            why: format!("{blank}, and must hold a JSON object, such as {{}}"),
        });
    }
    serde_json::from_str(text).map_err(|error| {
        let JsonFault { line, column, why } = json_fault(text, &error);
        ConfigError::Syntax {
            file: file.to_owned(),
            line,
            column,
            why: escape::escape(&why).into_owned(),
        }
    })
}

fn flag_error(flag: &'static str, why: String) -> ConfigError {
    ConfigError::Value {
        place: Place::Flag(flag),
        why,
    }
}

/// The machine's host name, reduced to characters of a node name.
fn machine_name() -> String {
    let uname = rustix::system::uname();
    let name: String = uname
        .nodename()
        .to_string_lossy()
        .chars()
        .take(value::NAME_CHARS_MAX)
        .map(|c| if value::is_name_char(c) { c } else { '-' })
        .collect();
    if name.is_empty() {
        "anthill".to_owned()
    } else {
        name
    }
}
