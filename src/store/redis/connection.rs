//! One connection, and the only code that waits for Redis.
//!
//! ```text
//!  commands ──▶ windows of at most 1,000 and 256 KiB ──▶ written whole ──▶ replies, one by one
//!                                                             each must come within the timeout of the last
//! ```
//!
//! A server that keeps answering may take its time; one that falls silent is away. After any
//! failure of the connection itself what is in flight has an unknown fate and the next reply might be an
//! older command's, so the caller must drop it.

use std::time::Duration;

#[cfg(feature = "tls")]
use redis::TlsCertificates;
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult, Value,
};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::errors::{broken, judge, refuses_us, text};
use super::scripts;
#[cfg(feature = "tls")]
use crate::certificates::{self, PemError, PemFile};
use crate::limits::{REDIS_WINDOW_BYTES_MAX, REDIS_WINDOW_COMMANDS_MAX};
use crate::store::StoreError;
use crate::store::address::{RedisAddress, RedisPlace};

/// How often scripts that the server does not know are loaded again for one set of commands.
const RELOADS_MAX: usize = 3;
/// Seconds of idleness before the kernel asks whether the server's machine is still there.
const KEEPALIVE_S: u64 = 30;

/// Commands, packed one behind the other.
#[derive(Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Commands {
    /// Adds one.
    pub(super) fn push(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn one(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    fn push_packed(&mut self, packed: &[u8]) {
        self.bytes.extend_from_slice(packed);
        self.ends.push(self.bytes.len());
    }

    /// The commands in windows: their bytes, and how many.
    fn windows(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = next;
            let start = if first == 0 { 0 } else { self.ends[first - 1] };
            while next < self.len()
                && next - first < REDIS_WINDOW_COMMANDS_MAX
                && (next == first || self.ends[next] - start <= REDIS_WINDOW_BYTES_MAX)
            {
                next += 1;
            }
            (next > first).then(|| (&self.bytes[start..self.ends[next - 1]], next - first))
        })
    }
}

impl FromIterator<Cmd> for Commands {
    fn from_iter<I: IntoIterator<Item = Cmd>>(commands: I) -> Self {
        let mut packed = Self::default();
        commands
            .into_iter()
            .for_each(|command| packed.push(&command));
        packed
    }
}

/// A connection that has been let in and knows our scripts.
pub(super) struct Link {
    connection: redis::Connection,
}

impl Link {
    /// Connects, says who we are and loads the scripts.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the server refuses the user, the password or the database; else
    /// [`StoreError::Away`].
    pub(super) fn open(address: &RedisAddress, timeout: Duration) -> Result<Self, StoreError> {
        // Zero would mean for ever.
        let timeout = timeout.max(Duration::from_millis(1));
        let mut link = Self {
            connection: connect(address, timeout)?,
        };
        link.introduce(address)?;
        Ok(link)
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self) -> Result<(), StoreError> {
        let replies = self.exchange(&Commands::from_iter([redis::cmd("PING")]))?;
        replies.iter().try_for_each(admitted)
    }

    /// Runs commands and returns a reply for each. A script the server has forgotten is loaded again, and only what
    /// needed it is sent once more.
    ///
    /// # Errors
    /// When the connection failed: drop it.
    pub(super) fn ask(&mut self, commands: &Commands) -> Result<Vec<Value>, StoreError> {
        let mut replies = self.exchange(commands)?;
        for _ in 0..RELOADS_MAX {
            let forgotten: Vec<usize> = (0..replies.len())
                .filter(|&index| is_noscript(&replies[index]))
                .collect();
            if forgotten.is_empty() {
                return Ok(replies);
            }
            let mut again: Commands = scripts::load().collect();
            let loads = again.len();
            for &index in &forgotten {
                again.push_packed(commands.one(index));
            }
            let mut answers = self.exchange(&again)?;
            let late = answers.split_off(loads);
            answers.iter().try_for_each(loaded)?;
            for (index, answer) in forgotten.into_iter().zip(late) {
                replies[index] = answer;
            }
        }
        if replies.iter().any(is_noscript) {
            return Err(StoreError::Away(
                "the scripts vanish as they are loaded".to_owned(),
            ));
        }
        Ok(replies)
    }

    /// Writes windows of commands and reads their replies.
    fn exchange(&mut self, commands: &Commands) -> Result<Vec<Value>, StoreError> {
        let mut replies = Vec::with_capacity(commands.len());
        for (bytes, count) in commands.windows() {
            self.connection
                .send_packed_command(bytes)
                .map_err(|error| broken(&error))?;
            for _ in 0..count {
                replies.push(self.reply()?);
            }
        }
        Ok(replies)
    }

    fn reply(&mut self) -> Result<Value, StoreError> {
        loop {
            // The read timeout stays as it was set: it starts anew with each reply, which is the rule.
            match self
                .connection
                .recv_response()
                .map_err(|error| broken(&error))?
            {
                Value::Push { .. } => {}
                value => return Ok(value),
            }
        }
    }

    /// The user, the database and the scripts, in one go.
    fn introduce(&mut self, address: &RedisAddress) -> Result<(), StoreError> {
        let mut hello = Commands::default();
        if address.user.is_some() || address.password.is_some() {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &address.user {
                auth.arg(user);
            }
            // A user without a password is let in with any, the empty one too.
            auth.arg(address.password.as_deref().unwrap_or_default());
            hello.push(&auth);
        }
        if address.db != 0 {
            let mut select = redis::cmd("SELECT");
            hello.push(select.arg(address.db));
        }
        hello.push(&redis::cmd("PING"));
        let admission = hello.len();
        scripts::load().for_each(|load| hello.push(&load));
        let replies = self.exchange(&hello)?;
        replies[..admission]
            .iter()
            .try_for_each(admitted)
            .map_err(|error| hide(error, address.password.as_deref()))?;
        replies[admission..].iter().try_for_each(loaded)
    }
}

/// Whether a reply to a greeting lets us in.
fn admitted(reply: &Value) -> Result<(), StoreError> {
    match reply {
        Value::ServerError(error) if refuses_us(error) => Err(StoreError::Refused(text(error))),
        Value::ServerError(error) => Err(StoreError::Away(text(error))),
        _ => Ok(()),
    }
}

/// A server that does not know a command says so with the words that came with it: the password is
/// not for the log.
fn hide(error: StoreError, password: Option<&str>) -> StoreError {
    let mask = |text: String| match password {
        Some(password) if !password.is_empty() => text.replace(password, "***"),
        _ => text,
    };
    match error {
        StoreError::Away(text) => StoreError::Away(mask(text)),
        StoreError::Refused(text) => StoreError::Refused(mask(text)),
    }
}

fn loaded(reply: &Value) -> Result<(), StoreError> {
    match reply {
        Value::ServerError(error) => Err(judge(error).into_store_error()),
        _ => Ok(()),
    }
}

fn is_noscript(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// A bare connection with its timeouts set. The library is told neither user nor database: it would greet
/// with a timeout of its own and sort the errors differently.
fn connect(address: &RedisAddress, timeout: Duration) -> Result<redis::Connection, StoreError> {
    let place = match &address.place {
        RedisPlace::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        RedisPlace::Tls { host, port, .. } => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        },
        RedisPlace::Unix(path) => {
            knock(path).map_err(|error| StoreError::Away(format!("cannot connect: {error}")))?;
            ConnectionAddr::Unix(path.clone())
        }
    };
    let authority = authority(&address.place)
        .map_err(|error| StoreError::Away(format!("cannot connect: {error}")))?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(KEEPALIVE_S));
    place
        .into_connection_info()
        .map(|info| {
            let tcp = TcpSettings::default()
                .set_nodelay(true)
                .set_keepalive(keepalive);
            info.set_tcp_settings(tcp)
                .set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name())
        })
        .and_then(|info| client(info, authority))
        .and_then(|client| client.get_connection_with_timeout(timeout))
        .and_then(|connection| {
            connection.set_read_timeout(Some(timeout))?;
            connection.set_write_timeout(Some(timeout))?;
            Ok(connection)
        })
        .map_err(|error| match broken(&error) {
            _ if error.is_connection_refusal() => {
                StoreError::Away(format!("cannot connect: {error}"))
            }
            other => other,
        })
}

/// Who signed the server's certificate, where somebody is named: read at each attempt, so that a file that was
/// wrong or is renewed needs no restart. Also sees to it that the library has what encrypts.
#[cfg(feature = "tls")]
fn authority(place: &RedisPlace) -> Result<Option<Vec<u8>>, PemError> {
    let RedisPlace::Tls { ca, .. } = place else {
        return Ok(None);
    };
    certificates::install_provider();
    let file = ca.as_deref().map(PemFile::open).transpose()?;
    file.map(|file| file.certificates().map(|_| file.bytes().to_vec()))
        .transpose()
}

/// No address of such a build asks for TLS.
#[cfg(not(feature = "tls"))]
fn authority(_place: &RedisPlace) -> Result<Option<Vec<u8>>, std::convert::Infallible> {
    Ok(None)
}

#[cfg(feature = "tls")]
fn client(info: ConnectionInfo, authority: Option<Vec<u8>>) -> RedisResult<Client> {
    match authority {
        None => Client::open(info),
        root_cert => {
            let client_tls = None;
            Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls,
                    root_cert,
                },
            )
        }
    }
}

#[cfg(not(feature = "tls"))]
fn client(info: ConnectionInfo, _authority: Option<Vec<u8>>) -> RedisResult<Client> {
    Client::open(info)
}

/// Whether a Unix socket takes connections now. The library's own connect has no timeout there and would wait for ever
/// in front of a hung server whose queue is full.
fn knock(path: &std::path::Path) -> std::io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(size: usize) -> Cmd {
        let mut command = redis::cmd("SET");
        command.arg("k").arg(vec![b'x'; size]);
        command
    }

    #[test]
    fn windows_cover_all_commands_in_order_and_keep_their_bounds() {
        let sizes = [
            10,
            REDIS_WINDOW_BYTES_MAX * 2,
            10,
            10,
            REDIS_WINDOW_BYTES_MAX - 200,
            300,
        ];
        let mut commands: Commands = sizes.into_iter().map(command).collect();
        for _ in 0..2 * REDIS_WINDOW_COMMANDS_MAX {
            commands.push(&command(1));
        }
        let mut joined = Vec::new();
        let mut total = 0;
        for (bytes, count) in commands.windows() {
            assert!(count <= REDIS_WINDOW_COMMANDS_MAX);
            assert!(bytes.len() <= REDIS_WINDOW_BYTES_MAX || count == 1);
            joined.extend_from_slice(bytes);
            total += count;
        }
        assert_eq!(total, commands.len());
        assert_eq!(joined, commands.bytes);
    }

    #[test]
    fn no_commands_are_no_windows() {
        assert_eq!(Commands::default().windows().count(), 0);
    }
}
