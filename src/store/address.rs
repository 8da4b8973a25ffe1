//! The store's URL: parsing and printing. A password is never shown: an error repeats only the
//! scheme (and other text only if it has neither `:` nor `@`), and a printed URL has `***` in its
//! place.
//!
//! ```text
//!  embedded:DIR
//!  redis://[[user]:password@]host[:port][/db]
//!  rediss://[[user]:password@]host[:port][/db][?ca=FILE]
//!  redis+unix://[[user]:password@]/path/to.sock[?db=N]
//!  redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/MASTER[/db]
//!  redis+cluster://[[user]:password@]host[:port][,host[:port]…]
//!  rediss+sentinel://…[?ca=FILE], rediss+cluster://…[?ca=FILE]
//! ```
//!
//! In user, password, the socket's path and FILE any character may be written as `%XX`. `@ / ? #
//! %`, and `:` in a user, must be.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::escape;
use crate::limits::REDIS_SEEDS_MAX;

/// Default port of Redis.
pub const REDIS_PORT: u16 = 6_379;
/// Default port of a Sentinel.
pub const SENTINEL_PORT: u16 = 26_379;
/// Forms of a URL, for the errors.
const FORMS: &str = "embedded:DIR, redis://[user:password@]host:port/db, \
     rediss://[user:password@]host:port/db?ca=FILE, redis+unix://[user:password@]/path?db=N, \
     redis+sentinel://[user:password@]host:port,…/MASTER/db, \
     redis+cluster://[user:password@]host:port,… or the last two with rediss";
/// Longest text before `://` that is taken for a scheme, and shown.
const SCHEME_BYTES_MAX: usize = 16;
/// Longest word that is shown although it is no URL.
const WORD_BYTES_MAX: usize = 64;

/// A parsed `store.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `embedded:DIR`.
    Embedded(PathBuf),
    /// Any other form.
    Redis(RedisAddress),
}

/// Address of a Redis server.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// Transport and address.
    pub place: RedisPlace,
    /// The user, if one is given.
    pub user: Option<String>,
    /// The password, if there is one. Never shown.
    pub password: Option<String>,
    /// The database.
    pub db: i64,
}

/// Transport and address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// Over TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Over TLS.
    Tls {
        /// Name or address, for which the certificate must be.
        host: String,
        /// Port.
        port: u16,
        /// PEM file with the authorities; `None` for the system's.
        ca: Option<PathBuf>,
    },
    /// Over a Unix socket.
    Unix(PathBuf),
    /// The master that Sentinels name.
    Sentinel {
        /// The Sentinels.
        seeds: RedisSeeds,
        /// The name under which they watch the master.
        master: String,
    },
    /// A Redis Cluster.
    Cluster(RedisSeeds),
}

/// Servers that are asked for the servers to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSeeds {
    /// Host and port of each.
    pub hosts: Vec<(String, u16)>,
    /// Transport to them, and to the servers that they name.
    pub transport: RedisTransport,
}

/// Transport to servers over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTransport {
    /// No encryption.
    Plain,
    /// TLS. A server's certificate must be for the name or address by which it is reached.
    Tls {
        /// PEM file with the authorities; `None` for the system's.
        ca: Option<PathBuf>,
    },
}

impl RedisTransport {
    /// The address of one server.
    #[must_use]
    pub fn to(&self, host: &str, port: u16) -> RedisPlace {
        let host = host.to_owned();
        match self {
            Self::Plain => RedisPlace::Tcp { host, port },
            Self::Tls { ca } => RedisPlace::Tls {
                host,
                port,
                ca: ca.clone(),
            },
        }
    }
}

impl RedisPlace {
    /// The file with the authorities of TLS, if one is named.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        match self {
            Self::Tls { ca, .. } => ca.as_deref(),
            Self::Sentinel { seeds, .. } | Self::Cluster(seeds) => match &seeds.transport {
                RedisTransport::Tls { ca } => ca.as_deref(),
                RedisTransport::Plain => None,
            },
            Self::Tcp { .. } | Self::Unix(_) => None,
        }
    }
}

/// Error of a [`StoreUrl`]. It shows only the scheme, or a word that cannot hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// No scheme, and possibly a password.
    #[error("is not a store's URL: it may be {FORMS}")]
    NoScheme,
    /// A word or a path, without a password.
    #[error("\"{0}\" is not a store's URL: it may be {FORMS}")]
    Word(String),
    /// An unknown scheme.
    #[error("\"{0}://…\" is not a kind of store: it may be {FORMS}")]
    Scheme(String),
    /// A wrong part.
    #[error("\"{scheme}…\" {why}")]
    Part {
        /// The scheme, with its `:` or `://`.
        scheme: &'static str,
        /// The part, and its allowed forms.
        why: &'static str,
    },
}

const EMBEDDED: &str = "embedded:";
const REDIS: &str = "redis://";
const REDISS: &str = "rediss://";
const REDIS_UNIX: &str = "redis+unix://";
const SENTINEL: &str = "redis+sentinel://";
const SENTINEL_TLS: &str = "rediss+sentinel://";
const CLUSTER: &str = "redis+cluster://";
const CLUSTER_TLS: &str = "rediss+cluster://";

/// Parser of the text behind a scheme.
type Parse = fn(&str) -> Result<RedisAddress, &'static str>;

/// The schemes of a Redis.
const SCHEMES: [(&str, Parse); 7] = [
    (REDIS, tcp),
    (REDISS, tls),
    (REDIS_UNIX, unix),
    (SENTINEL, |rest| sentinel(rest, RedisTransport::Plain)),
    (SENTINEL_TLS, |rest| {
        let (rest, transport) = split_tls(rest)?;
        sentinel(rest, transport)
    }),
    (CLUSTER, |rest| cluster(rest, RedisTransport::Plain)),
    (CLUSTER_TLS, |rest| {
        let (rest, transport) = split_tls(rest)?;
        cluster(rest, transport)
    }),
];

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(url: &str) -> Result<Self, StoreUrlError> {
        let part = |scheme| move |why| StoreUrlError::Part { scheme, why };
        if let Some(dir) = url.strip_prefix(EMBEDDED) {
            return embedded(dir).map_err(part(EMBEDDED));
        }
        for (scheme, parse) in SCHEMES {
            if let Some(rest) = url.strip_prefix(scheme) {
                return parse(rest).map(Self::Redis).map_err(part(scheme));
            }
        }
        Err(unknown(url))
    }
}

fn unknown(url: &str) -> StoreUrlError {
    let allowed = |c: char| c.is_ascii_lowercase() || matches!(c, '+' | '-');
    match url.split_once("://") {
        Some((scheme, _)) if scheme.len() <= SCHEME_BYTES_MAX && scheme.chars().all(allowed) => {
            StoreUrlError::Scheme(scheme.to_owned())
        }
        _ if is_word(url) => StoreUrlError::Word(url.to_owned()),
        _ => StoreUrlError::NoScheme,
    }
}

/// Returns whether the text is short and has neither `:` nor `@`, so that it cannot hold a
/// password.
fn is_word(url: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    (1..=WORD_BYTES_MAX).contains(&url.len()) && url.chars().all(allowed)
}

fn embedded(dir: &str) -> Result<StoreUrl, &'static str> {
    if dir.is_empty() || dir.contains('\0') {
        return Err("has no directory: it must be embedded:DIR");
    }
    Ok(StoreUrl::Embedded(PathBuf::from(dir)))
}

/// Parses the text behind `redis://`.
fn tcp(rest: &str) -> Result<RedisAddress, &'static str> {
    let (authority, path) = split_before(rest, &['/', '?', '#']);
    let (login, place) = split_login(authority, path)?;
    let (user, password) = credentials(login)?;
    let (host, port) = host_and_port(place)?;
    let db = match path.strip_prefix('/') {
        None if path.is_empty() => 0,
        Some("") => 0,
        Some(number) => database(number)?,
        None => return Err("has options, and may have none"),
    };
    Ok(RedisAddress {
        place: RedisPlace::Tcp { host, port },
        user,
        password,
        db,
    })
}

/// Parses the text behind `rediss://`.
fn tls(rest: &str) -> Result<RedisAddress, &'static str> {
    let (rest, transport) = split_tls(rest)?;
    let mut address = tcp(rest)?;
    if let RedisPlace::Tcp { host, port } = &address.place {
        address.place = transport.to(host, *port);
    }
    Ok(address)
}

/// Splits the options of TLS from the text behind a scheme.
fn split_tls(rest: &str) -> Result<(&str, RedisTransport), &'static str> {
    if !cfg!(feature = "tls") {
        return Err("asks for TLS, which this build does not have (feature \"tls\")");
    }
    let (rest, options) = split_before(rest, &['?', '#']);
    let ca = match options {
        "" | "?" => None,
        _ => {
            let file = options
                .strip_prefix("?ca=")
                .ok_or("has an option other than ca=FILE")?;
            let file = decode(file).filter(|file| !file.is_empty() && !file.contains('\0'));
            Some(PathBuf::from(file.ok_or("has no good path in ca=FILE")?))
        }
    };
    Ok((rest, RedisTransport::Tls { ca }))
}

/// Parses the text behind `redis+sentinel://`.
fn sentinel(rest: &str, transport: RedisTransport) -> Result<RedisAddress, &'static str> {
    let (authority, path) = split_before(rest, &['/', '?', '#']);
    let (login, places) = split_login(authority, path)?;
    let (user, password) = credentials(login)?;
    let hosts = seeds(places, SENTINEL_PORT)?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let (master, db) = path.split_once('/').unwrap_or((path, ""));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if master.is_empty() || !master.chars().all(allowed) {
        return Err("has no good name of a master: it is …host:port/MASTER, of A-Z a-z 0-9 . _ -");
    }
    let place = RedisPlace::Sentinel {
        seeds: RedisSeeds { hosts, transport },
        master: master.to_owned(),
    };
    let db = match db {
        "" => 0,
        number => database(number)?,
    };
    Ok(RedisAddress {
        place,
        user,
        password,
        db,
    })
}

/// Parses the text behind `redis+cluster://`.
fn cluster(rest: &str, transport: RedisTransport) -> Result<RedisAddress, &'static str> {
    let (authority, path) = split_before(rest, &['/', '?', '#']);
    let (login, places) = split_login(authority, path)?;
    let (user, password) = credentials(login)?;
    let hosts = seeds(places, REDIS_PORT)?;
    match path {
        "" | "/" | "/0" => {}
        _ if path.starts_with('/') => return Err("has a database, and a Cluster has only one"),
        _ => return Err("has options, and may have none"),
    }
    Ok(RedisAddress {
        place: RedisPlace::Cluster(RedisSeeds { hosts, transport }),
        user,
        password,
        db: 0,
    })
}

/// Parses `host[:port][,host[:port]…]`.
fn seeds(places: &str, port: u16) -> Result<Vec<(String, u16)>, &'static str> {
    let mut hosts = Vec::new();
    for place in places.split(',') {
        let (host, own_port) = escape::host_and_port(place)?;
        let seed = (host, own_port.unwrap_or(port));
        if hosts.contains(&seed) {
            return Err("names a server twice");
        }
        if hosts.len() == REDIS_SEEDS_MAX {
            return Err("names too many servers: a few are enough to find the others");
        }
        hosts.push(seed);
    }
    Ok(hosts)
}

/// Parses the text behind `redis+unix://`.
fn unix(rest: &str) -> Result<RedisAddress, &'static str> {
    let (authority, path) = split_before(rest, &['/', '?', '#']);
    let (login, place) = split_login(authority, path)?;
    if !place.is_empty() {
        return Err("has a host: the socket's path begins with / behind redis+unix:// or the @");
    }
    let (user, password) = credentials(login)?;
    let (path, options) = split_before(path, &['?', '#']);
    let path = decode(path).filter(|path| path.len() > 1 && !path.contains('\0'));
    let db = match options {
        "" | "?" => 0,
        _ => match options.strip_prefix("?db=") {
            Some(number) => database(number)?,
            None => return Err("has an option other than db=N"),
        },
    };
    Ok(RedisAddress {
        place: RedisPlace::Unix(PathBuf::from(path.ok_or("has no good path to a socket")?)),
        user,
        password,
        db,
    })
}

/// Splits a text before the first of `marks`.
fn split_before<'a>(text: &'a str, marks: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(marks).unwrap_or(text.len()))
}

/// Splits credentials from the address. An `@` further on belongs to a password that was not
/// encoded.
fn split_login<'a>(
    authority: &'a str,
    path: &str,
) -> Result<(Option<&'a str>, &'a str), &'static str> {
    if path.contains('@') {
        return Err(
            "has an @ behind its address: in a password / ? # and @ are written %2F %3F %23 %40",
        );
    }
    Ok(match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    })
}

type Credentials = (Option<String>, Option<String>);

fn credentials(login: Option<&str>) -> Result<Credentials, &'static str> {
    let Some(login) = login else {
        return Ok((None, None));
    };
    let Some((user, password)) = login.split_once(':') else {
        return Err("has a user without a password: a password alone is written :password@");
    };
    let text =
        |part| decode(part).ok_or("has a % in its user or password that is not %XX of UTF-8");
    let (user, password) = (text(user)?, text(password)?);
    if password.is_empty() && !user.is_empty() {
        return Err("has a user without a password");
    }
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok((given(user), given(password)))
}

fn host_and_port(place: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = escape::host_and_port(place)?;
    Ok((host, port.unwrap_or(REDIS_PORT)))
}

fn database(digits: &str) -> Result<i64, &'static str> {
    escape::whole_number::<u16>(digits)
        .map(i64::from)
        .ok_or("has a database that is not a number from 0 to 65535")
}

/// Decodes `%XX`; `None` for any other `%`, and for bytes that are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// A part of a URL, with special characters written as `%XX`.
struct Encoded<'a>(&'a [u8]);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

fn encoded(path: &Path) -> Encoded<'_> {
    Encoded(path.as_os_str().as_encoded_bytes())
}

/// Host and port of a server, as in a URL.
pub(crate) struct HostPort<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Display for RedisSeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}", HostPort(host, *port))?;
        }
        Ok(())
    }
}

impl RedisPlace {
    fn scheme(&self) -> &'static str {
        let is_tls = |seeds: &RedisSeeds| seeds.transport != RedisTransport::Plain;
        match self {
            Self::Tcp { .. } => REDIS,
            Self::Tls { .. } => REDISS,
            Self::Unix(_) => REDIS_UNIX,
            Self::Sentinel { seeds, .. } if is_tls(seeds) => SENTINEL_TLS,
            Self::Sentinel { .. } => SENTINEL,
            Self::Cluster(seeds) if is_tls(seeds) => CLUSTER_TLS,
            Self::Cluster(_) => CLUSTER,
        }
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.place.scheme())?;
        if let Some(user) = &self.user {
            write!(f, "{}", Encoded(user.as_bytes()))?;
        }
        if self.password.is_some() {
            f.write_str(":***")?;
        }
        if self.user.is_some() || self.password.is_some() {
            f.write_str("@")?;
        }
        let db = self.db;
        match &self.place {
            RedisPlace::Tcp { host, port } | RedisPlace::Tls { host, port, .. } => {
                write!(f, "{}/{db}", HostPort(host, *port))?;
            }
            RedisPlace::Unix(path) => write!(f, "{}?db={db}", encoded(path))?,
            RedisPlace::Sentinel { seeds, master } => write!(f, "{seeds}/{master}/{db}")?,
            RedisPlace::Cluster(seeds) => write!(f, "{seeds}")?,
        }
        match self.place.ca() {
            Some(ca) => write!(f, "?ca={}", encoded(ca)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(dir) => {
                write!(
                    f,
                    "{EMBEDDED}{}",
                    crate::escape::escape(&dir.to_string_lossy())
                )
            }
            Self::Redis(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
