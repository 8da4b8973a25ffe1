//! Redis: whether it answers, and its settings that can lose data.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Finding;
use crate::config::Config;
use crate::store::address::{RedisAddress, RedisPlace, StoreUrl};

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
    let mut connection = match connect(address) {
        Ok(Some(connection)) => connection,
        Ok(None) => {
            let text = format!("{url}: the settings of this kind are not looked at");
            let fix = "redis-cli info memory; redis-cli info persistence, on each server";
            return vec![Finding::note("store", text, fix)];
        }
        Err(why) => {
            let fix =
                "systemctl status redis-server; and see docs/operations.md#redis for its users";
            return vec![Finding::wrong("store", format!("{url}: {why}"), fix)];
        }
    };
    let mut findings = vec![Finding::ok("store", format!("{url} answers"))];
    let info = |connection: &mut Connection, section| connection.ask(&["INFO", section]);
    match (
        info(&mut connection, "memory"),
        info(&mut connection, "persistence"),
    ) {
        (Ok(memory), Ok(persistence)) => findings.extend(settings(&memory, &persistence)),
        (Err(why), _) | (_, Err(why)) => findings.push(Finding::note(
            "store settings",
            format!("this user may not see them: {why}"),
            "redis-cli info memory; redis-cli info persistence, as an administrator",
        )),
    }
    findings
}

fn settings(memory: &str, persistence: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let max = field(memory, "maxmemory").unwrap_or("0");
    let policy = field(memory, "maxmemory_policy").unwrap_or("noeviction");
    findings.push(match max != "0" && policy != "noeviction" {
        true => Finding::wrong(
            "store maxmemory",
            format!("maxmemory {max} with the policy {policy}: Redis deletes presence and tasks when it is full"),
            "redis-cli config set maxmemory-policy noeviction && redis-cli config rewrite",
        ),
        false => Finding::ok("store maxmemory", format!("maxmemory {max}, {policy}")),
    });
    findings.push(match field(persistence, "aof_enabled") {
        Some("1") => Finding::ok("store appendonly", "yes"),
        _ => Finding::wrong(
            "store appendonly",
            "no: Redis loses what it was told since its last snapshot when it ends",
            "redis-cli config set appendonly yes && redis-cli config rewrite",
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
        let mut request = redis::Cmd::new();
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
    fn settings_that_lose_data_are_wrong() {
        let states = |memory: &str, persistence: &str| {
            let findings = settings(memory, persistence);
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
