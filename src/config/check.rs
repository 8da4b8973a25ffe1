//! Rules between values: addresses and authentication. A server that other machines can reach
//! without authentication must be configured so explicitly.

use std::net::{IpAddr, SocketAddr};

use super::error::{ConfigError, Place};
use super::{Auth, Config, HttpWrite, Overrides};
use crate::codec::target::Selection;

/// Origin of the checked values, for the error.
pub(super) struct Origin<'a> {
    /// The file that was read, if one was.
    pub(super) file: Option<&'a str>,
    /// The flags.
    pub(super) flags: &'a Overrides,
}

impl Origin<'_> {
    /// Origin of the value at `path`, which `flag` replaces if it is given.
    fn place(&self, path: &'static str, flag: Option<(&'static str, &Option<String>)>) -> Place {
        match (flag, self.file) {
            (Some((flag, Some(_))), _) => Place::Flag(flag),
            (_, Some(file)) => Place::Key {
                file: file.to_owned(),
                path: path.to_owned(),
            },
            (_, None) => Place::Default(path),
        }
    }

    pub(super) fn token_file(&self) -> Place {
        self.place("server.http_token_file", None)
    }

    pub(super) fn tokens(&self) -> Place {
        self.place("server.http_tokens", None)
    }

    pub(super) fn keys_file(&self) -> Place {
        self.place("auth.keys_file", None)
    }
}

/// Checks where the server would listen.
pub(super) fn check(config: &Config, origin: &Origin<'_>) -> Result<(), ConfigError> {
    let server = &config.server;
    let flags = origin.flags;
    for (number, receiver) in config.notify.iter().enumerate() {
        let target = receiver.target.as_deref();
        if let Some(Err(why)) = target.map(|target| Selection::new(target, &config.groups)) {
            return Err(ConfigError::Value {
                place: origin.place("notify", None),
                why: format!("the target of entry {number}: {why}"),
            });
        }
    }
    let listeners = [
        ("server.tcp", "--tcp", &flags.tcp, server.tcp),
        ("server.udp", "--udp", &flags.udp, server.udp),
        ("server.http", "--http", &flags.http, server.http),
    ];
    for (path, flag, given, address) in listeners {
        if config.auth == Auth::Unset && !config.is_guarded() && is_open(address) {
            return Err(ConfigError::Value {
                place: origin.place(path, Some((flag, given))),
                why: format!(
                    "{address} is not a loopback address while auth is null; \
                     it may be one only with tls.client_ca, a keys file in auth, or auth \"none\" (--auth none), \
                     which lets everybody in"
                ),
            });
        }
    }
    if meet(server.tcp, server.http) {
        return Err(ConfigError::Value {
            place: origin.place("server.http", Some(("--http", &flags.http))),
            why: format!(
                "{} is taken by server.tcp, {}; it may be another port",
                server.http, server.tcp
            ),
        });
    }
    if is_open(server.http) && !server.needs_token() {
        return Err(ConfigError::Value {
            place: origin.place("server.http", Some(("--http", &flags.http))),
            why: format!(
                "{} is not a loopback address while server.http_token_file is null; \
                 it may be one only with a token (or several, server.http_tokens)",
                server.http
            ),
        });
    }
    Ok(())
}

/// Warning, logged at each start, for processes of this machine that may change things over HTTP
/// without a token although hosts must prove their identity.
pub(super) fn open_to_this_machine(config: &Config) -> Option<String> {
    if !config.is_guarded() || config.server.needs_token() {
        return None;
    }
    let text = match config.server.http_write {
        HttpWrite::Token => {
            "server.http_token_file is null while hosts have to prove who they are: requests over HTTP that change \
             something are refused, and dispatch and console with them; server.http_token_file ends that, and so \
             does server.http_write \"open\", which lets every process of this machine command the hosts"
        }
        HttpWrite::Open => {
            "server.http_write is \"open\" and server.http_token_file is null: every process of this machine may \
             command hosts that have to prove who they are"
        }
    };
    Some(text.to_owned())
}

/// Returns whether two listeners of one kind cannot both have their address.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    // Every address of IPv6 includes those of IPv4.
    let covers = |all: IpAddr, ip: IpAddr| {
        all.is_unspecified() && (all.is_ipv6() || all.is_ipv4() == ip.is_ipv4())
    };
    one.port() != 0 && one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

/// Returns whether other machines may reach the address.
fn is_open(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}
