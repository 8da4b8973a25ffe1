//! Redis: its answers, the rights of the server's user, and settings that can lose data.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Finding, quoted};
use crate::config::Config;
use crate::store::address::{RedisAddress, RedisPlace, StoreUrl};
use crate::store::redis;

const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest reply that is read.
const REPLY_BYTES_MAX: usize = 64 * 1024;

pub fn check(config: &Config) -> Vec<Finding> {
    let StoreUrl::Redis(address) = &config.store.url else {
        return vec![Finding::ok(
            "store",
            format!("{}: a store in files", config.store.url),
        )];
    };
    let url = config.store.url.to_string();
    let cli = cli(address);
    if let Err(error) = redis::try_out(address, &config.server.name, TIMEOUT) {
        let why = error.to_string();
        return vec![match lacks_rights(&why) {
            true => {
                let fix = format!("{cli} {}", grant(config, address));
                Finding::wrong("store rights", format!("{url}: {why}"), fix)
            }
            false => Finding::wrong("store", format!("{url}: {why}"), cli + " ping"),
        }];
    }
    let text = format!("{url} answers, and accepts every command that is needed");
    let mut findings = vec![Finding::ok("store", text)];
    findings.extend(password(address, &cli));
    match information(address) {
        Ok(Some((memory, persistence))) => findings.extend(settings(&memory, &persistence, &cli)),
        Ok(None) => findings.push(Finding::note(
            "store settings",
            "those of several servers, or behind TLS, are not looked at",
            "redis-cli info memory; redis-cli info persistence, on each server",
        )),
        Err(why) => findings.push(Finding::note(
            "store settings",
            format!("this user may not see them: {why}"),
            format!("{cli} info memory; {cli} info persistence, as an administrator"),
        )),
    }
    findings
}

/// Whether the user lacks rights. A command that Redis does not know is refused otherwise.
fn lacks_rights(why: &str) -> bool {
    why.contains("NOPERM") || why.starts_with("it refuses ") && !why.contains("nknown")
}

/// `redis-cli` with the address of the server. A password is asked for, never shown.
fn cli(address: &RedisAddress) -> String {
    let mut words = "redis-cli".to_owned();
    match &address.place {
        RedisPlace::Tcp { host, port } => words += &format!(" -h {} -p {port}", quoted(host)),
        RedisPlace::Tls { host, port, ca } => {
            words += &format!(" -h {} -p {port} --tls", quoted(host));
            if let Some(ca) = ca {
                words += &format!(" --cacert {}", quoted(&ca.to_string_lossy()));
            }
        }
        RedisPlace::Unix(path) => words += &format!(" -s {}", quoted(&path.to_string_lossy())),
        RedisPlace::Sentinel { .. } | RedisPlace::Cluster(_) => {}
    }
    if address.user.is_some() {
        // The user of the server may not change settings.
        words += " --user ADMINISTRATOR";
    }
    if address.user.is_some() || address.password.is_some() {
        words += " --askpass";
    }
    words
}

/// The command that gives the user of the server its rights.
fn grant(config: &Config, address: &RedisAddress) -> String {
    let mut words = vec![
        "acl setuser".to_owned(),
        address.user.clone().unwrap_or("default".to_owned()),
        "'~exists'".to_owned(),
        "'~anthill:*'".to_owned(),
        format!("'~{}*'", config.dispatch.key_prefix),
    ];
    let fields = config.offline.delete_fields.iter();
    words.extend(fields.map(|field| format!("'~*_{field}'")));
    words.extend(
        redis::commands().map(|command| match command.contains('|') {
            true => format!("'+{command}'"),
            false => format!("+{command}"),
        }),
    );
    words.join(" ")
}

/// Finding about a server that asks for no password.
fn password(address: &RedisAddress, cli: &str) -> Option<Finding> {
    if address.user.is_some() || address.password.is_some() {
        return None;
    }
    let fix = format!("{cli} config set requirepass PASSWORD");
    match &address.place {
        RedisPlace::Unix(_) => None,
        RedisPlace::Tcp { host, .. } if is_loopback(host) => Some(Finding::note(
            "store password",
            "none is asked for: every program of this machine may give orders to hosts (store.url takes :PASSWORD@)",
            fix,
        )),
        _ => Some(Finding::wrong(
            "store password",
            "none is asked for: every machine that reaches it may give orders to hosts (store.url takes :PASSWORD@)",
            fix,
        )),
    }
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || literal.is_ok_and(|ip| ip.is_loopback())
}

/// Sections `memory` and `persistence` of INFO; `None` for a kind of address that is not checked.
fn information(address: &RedisAddress) -> Result<Option<(String, String)>, String> {
    let Some(mut connection) = connect(address)? else {
        return Ok(None);
    };
    let memory = connection.ask(&["INFO", "memory"])?;
    Ok(Some((memory, connection.ask(&["INFO", "persistence"])?)))
}

fn settings(memory: &str, persistence: &str, cli: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let max = field(memory, "maxmemory").unwrap_or("0");
    let policy = field(memory, "maxmemory_policy").unwrap_or("noeviction");
    findings.push(match max != "0" && policy != "noeviction" {
        true => Finding::wrong(
            "store maxmemory",
            format!("maxmemory {max} with the policy {policy}: Redis deletes presence and tasks when it is full"),
            format!("{cli} config set maxmemory-policy noeviction && {cli} config rewrite"),
        ),
        false => Finding::ok("store maxmemory", format!("maxmemory {max}, {policy}")),
    });
    findings.push(match field(persistence, "aof_enabled") {
        Some("1") => Finding::ok("store appendonly", "yes"),
        _ => Finding::wrong(
            "store appendonly",
            "no: Redis loses what it was told since its last snapshot when it ends",
            format!("{cli} config set appendonly yes && {cli} config rewrite"),
        ),
    });
    findings
}

/// Value of a line `name:value` of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim())
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Connection(Box<dyn Stream>);

/// Connects and logs in; `None` for a kind of address that is not checked.
fn connect(address: &RedisAddress) -> Result<Option<Connection>, String> {
    let words = |error: io::Error| error.to_string();
    let stream: Box<dyn Stream> = match &address.place {
        RedisPlace::Tcp { host, port } => {
            let mut found = (host.as_str(), *port).to_socket_addrs().map_err(words)?;
            let addr = found.next().ok_or("the name has no address")?;
            let stream = TcpStream::connect_timeout(&addr, TIMEOUT).map_err(words)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(words)?;
            Box::new(stream)
        }
        RedisPlace::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(words)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(words)?;
            Box::new(stream)
        }
        _ => return Ok(None),
    };
    let mut connection = Connection(stream);
    match (&address.user, &address.password) {
        (Some(user), Some(password)) => connection.ask(&["AUTH", user, password])?,
        (None, Some(password)) => connection.ask(&["AUTH", password])?,
        (_, None) => String::new(),
    };
    connection.ask(&["PING"])?;
    Ok(Some(connection))
}

impl Connection {
    /// Returns the reply to a command: a line, or a bulk string.
    fn ask(&mut self, command: &[&str]) -> Result<String, String> {
        let words = |error: io::Error| error.to_string();
        let mut request = ::redis::Cmd::new();
        command.iter().for_each(|word| {
            request.arg(word);
        });
        self.0
            .write_all(&request.get_packed_command())
            .map_err(words)?;
        let head = self.line()?;
        let (kind, rest) = head.split_at_checked(1).ok_or("an empty reply")?;
        match kind {
            "+" => Ok(rest.to_owned()),
            "-" => Err(rest.to_owned()),
            "$" => {
                let length = rest
                    .parse::<usize>()
                    .ok()
                    .filter(|it| *it <= REPLY_BYTES_MAX);
                let mut text = vec![0; length.ok_or("a reply of a wrong length")? + 2];
                self.0.read_exact(&mut text).map_err(words)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            _ => Err("a reply that is not Redis's".to_owned()),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0
                .read_exact(&mut byte)
                .map_err(|error| error.to_string())?;
            line.push(byte[0]);
            if line.len() > 1_024 {
                return Err("a line without an end".to_owned());
            }
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn missing_rights_are_told_from_missing_commands() {
        let script = "ERR The user executing the script can't run this command or subcommand";
        for (why, lacks) in [
            (
                "NOPERM this user has no permissions to run the 'ping' command",
                true,
            ),
            (
                &*format!("it refuses HSET, which is needed: {script}"),
                true,
            ),
            (
                "it refuses EVALSHA, which is needed: unknown command",
                false,
            ),
            ("cannot connect: Connection refused (os error 111)", false),
        ] {
            assert_eq!(lacks_rights(why), lacks, "{why}");
        }
    }

    #[test]
    fn settings_that_lose_data_are_wrong() {
        let states = |memory: &str, persistence: &str| {
            let findings = settings(memory, persistence, "redis-cli");
            findings.iter().map(|it| it.state).collect::<Vec<_>>()
        };
        let (good, bad) = (State::Ok, State::Wrong);
        let memory = "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(states(memory, "aof_enabled:1\r\n"), [good, good]);
        let memory = "maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(states(memory, "aof_enabled:0\r\n"), [bad, bad]);
        let memory = "maxmemory:100\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(states(memory, ""), [good, bad]);
    }
}
