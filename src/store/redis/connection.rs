//! One connection, and the only code that waits for Redis.
//!
//! ```text
//!  commands ──▶ windows of at most 1,000 and 256 KiB ──▶ written ──▶ replies, one by one
//!               (two in flight)                                      each within the timeout of the last
//! ```
//!
//! A slow server that keeps answering is waited for; a silent one is unavailable. After a failure
//! of the connection the state of commands in flight is unknown, and the next reply might be that
//! of an older command. The caller must then drop the connection.

use std::borrow::Borrow;
use std::io::ErrorKind;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, Value};

use super::commands;
use super::errors::{Fault, broken, judge, refused, text, unusable};
use super::scripts;
use super::step::texts;
use super::wire::Wire;
use crate::limits::{REDIS_PUSHES_MAX, REDIS_WINDOW_BYTES_MAX, REDIS_WINDOW_COMMANDS_MAX};
use crate::store::StoreError;
use crate::store::address::RedisAddress;

/// Reloads of unknown scripts for one set of commands.
const RELOADS_MAX: usize = 3;

/// Encoded commands, in order.
#[derive(Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Commands {
    /// Adds a command.
    pub(super) fn push(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Number of commands.
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

    /// The windows of commands: bytes and number of commands of each.
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

/// An authenticated connection to a server that knows our scripts.
pub(super) struct Link {
    wire: Wire,
}

impl Link {
    /// Connects, authenticates, loads the scripts, and tries the commands on a key of this node.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the server refuses the user, the password or the database; else
    /// [`StoreError::Unavailable`].
    pub(super) fn open(
        address: &RedisAddress,
        node: &str,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        // Zero would mean no limit.
        let timeout = timeout.max(Duration::from_millis(1));
        let mut link = Self {
            wire: connect(address, timeout)?,
        };
        link.introduce(address).map_err(never_begun)?;
        link.try_commands(node)?;
        Ok(link)
    }

    /// Tests the connection.
    pub(super) fn ping(&mut self) -> Result<(), StoreError> {
        let replies = self.exchange_one(&Commands::from_iter([cmd!("PING")]))?;
        replies.iter().try_for_each(admitted)
    }

    /// Tests whether the server accepts all needed commands.
    ///
    /// # Errors
    /// When one is refused, with its name.
    pub(super) fn try_commands(&mut self, node: &str) -> Result<(), StoreError> {
        let trial = Commands::from_iter([commands::trial(node)]);
        let reply = self
            .request(&trial)
            .map_err(never_begun)?
            .into_iter()
            .next();
        let failed = match reply {
            Some(Value::ServerError(error)) => return Err(judge(&error).into_store_error()),
            Some(value) => texts(value).map_err(Fault::into_store_error)?,
            None => Vec::new(),
        };
        match failed.chunks_exact(2).next() {
            None => Ok(()),
            Some(first) => Err(StoreError::Unavailable(unusable(
                &first[0],
                &first[1],
                failed.len() / 2,
            ))),
        }
    }

    /// Checks that the server has not closed the connection, without a request.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        self.wire.look().map_err(|error| broken(&error.into()))
    }

    /// Runs commands and returns a reply for each. If the server has forgotten a script, it is
    /// loaded again, and only the commands that need it are repeated.
    ///
    /// # Errors
    /// When the connection failed, and must be dropped.
    pub(super) fn request(&mut self, commands: &Commands) -> Result<Vec<Value>, StoreError> {
        let asked = self.request_each([(commands, ())].into_iter())?;
        Ok(asked
            .into_iter()
            .flat_map(|(replies, ())| replies)
            .collect())
    }

    /// The same for sets of commands, each with a value that is returned with its replies. A set is
    /// encoded while the server runs the one before.
    ///
    /// # Errors
    /// As above.
    pub(super) fn request_each<C: Borrow<Commands>, T>(
        &mut self,
        sets: impl Iterator<Item = (C, T)>,
    ) -> Result<Vec<(Vec<Value>, T)>, StoreError> {
        let asked = self.exchange(sets)?;
        let complete = |(commands, mut replies, whose): (C, Vec<Value>, T)| {
            self.load_forgotten(commands.borrow(), &mut replies)?;
            Ok((replies, whose))
        };
        asked.into_iter().map(complete).collect()
    }

    /// Repeats the commands whose script the server did not know.
    fn load_forgotten(
        &mut self,
        commands: &Commands,
        replies: &mut [Value],
    ) -> Result<(), StoreError> {
        for _ in 0..RELOADS_MAX {
            let forgotten: Vec<usize> = (0..replies.len())
                .filter(|&index| is_noscript(&replies[index]))
                .collect();
            if forgotten.is_empty() {
                return Ok(());
            }
            let mut again: Commands = scripts::load().collect();
            let loads = again.len();
            for &index in &forgotten {
                again.push_packed(commands.one(index));
            }
            let mut answers = self.exchange_one(&again)?;
            let late = answers.split_off(loads);
            answers.iter().try_for_each(loaded)?;
            for (index, answer) in forgotten.into_iter().zip(late) {
                replies[index] = answer;
            }
        }
        if replies.iter().any(is_noscript) {
            return Err(StoreError::Unavailable(
                "the scripts vanish after they are loaded".to_owned(),
            ));
        }
        Ok(())
    }

    fn exchange_one(&mut self, commands: &Commands) -> Result<Vec<Value>, StoreError> {
        let heard = self.exchange([(commands, ())].into_iter())?;
        Ok(heard
            .into_iter()
            .flat_map(|(_, replies, ())| replies)
            .collect())
    }

    /// Writes windows of commands and reads their replies. A window is written before the replies
    /// to the previous one are read, so that the server is busy meanwhile.
    fn exchange<C: Borrow<Commands>, T>(
        &mut self,
        sets: impl Iterator<Item = (C, T)>,
    ) -> Result<Vec<(C, Vec<Value>, T)>, StoreError> {
        let (mut asked, mut heard) = (Vec::new(), Vec::new());
        // The set whose replies come next, and their number.
        let mut awaited: Option<(usize, usize)> = None;
        for (at, (commands, whose)) in sets.enumerate() {
            heard.push(Vec::with_capacity(commands.borrow().len()));
            for (bytes, count) in commands.borrow().windows() {
                if let Err(error) = self.wire.send(bytes) {
                    // A server may send the reason before it closes.
                    let (before, count) = awaited.unwrap_or((at, 1));
                    self.read_replies(count, &mut heard[before])?;
                    return Err(self.explain(&error.into(), heard[before].last()));
                }
                if let Some((before, count)) = awaited.replace((at, count)) {
                    self.read_replies(count, &mut heard[before])?;
                }
            }
            asked.push((commands, whose));
        }
        if let Some((before, count)) = awaited {
            self.read_replies(count, &mut heard[before])?;
        }
        let each = asked.into_iter().zip(heard);
        Ok(each
            .map(|((commands, whose), replies)| (commands, replies, whose))
            .collect())
    }

    /// Reads `count` replies.
    fn read_replies(&mut self, count: usize, replies: &mut Vec<Value>) -> Result<(), StoreError> {
        for _ in 0..count {
            let reply = self.reply();
            let reply = reply.map_err(|error| self.explain(&error, replies.last()))?;
            replies.push(reply);
        }
        Ok(())
    }

    fn reply(&mut self) -> RedisResult<Value> {
        for _ in 0..REDIS_PUSHES_MAX {
            // The read timeout starts anew with each reply.
            match self.wire.reply()? {
                Value::Push { .. } => {}
                value => return Ok(value),
            }
        }
        let why = format!("{REDIS_PUSHES_MAX} messages and no reply");
        Err(std::io::Error::new(ErrorKind::InvalidData, why).into())
    }

    /// Reason of a broken connection: the server's last error, another protocol, or the system's
    /// error.
    fn explain(&self, error: &RedisError, last: Option<&Value>) -> StoreError {
        match (last, self.wire.speaks()) {
            (Some(Value::ServerError(last)), _) => {
                StoreError::Broken(format!("the connection was closed: {}", text(last)))
            }
            (None, Some(other)) => StoreError::Broken(other.to_owned()),
            _ => broken(error),
        }
    }

    /// Sends user, database and scripts at once.
    fn introduce(&mut self, address: &RedisAddress) -> Result<(), StoreError> {
        let mut hello = Commands::default();
        if address.user.is_some() || address.password.is_some() {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &address.user {
                auth.arg(user);
            }
            // A user without a password is accepted with any, also an empty one.
            auth.arg(address.password.as_deref().unwrap_or_default());
            hello.push(&auth);
        }
        if address.db != 0 {
            hello.push(&cmd!("SELECT", address.db));
        }
        hello.push(&cmd!("PING"));
        let admission = hello.len();
        scripts::load().for_each(|load| hello.push(&load));
        let replies = self.exchange_one(&hello)?;
        replies[..admission]
            .iter()
            .try_for_each(admitted)
            .map_err(|error| hide(error, address.password.as_deref()))?;
        replies[admission..].iter().try_for_each(loaded)
    }
}

/// Checks a reply to the handshake.
fn admitted(reply: &Value) -> Result<(), StoreError> {
    match reply {
        Value::ServerError(error) => Err(match refused(error) {
            Some(what) => StoreError::Refused(format!("{what} is refused: {}", text(error))),
            None => StoreError::Unavailable(text(error)),
        }),
        _ => Ok(()),
    }
}

/// Hides the password: a server that does not know a command repeats its arguments.
fn hide(error: StoreError, password: Option<&str>) -> StoreError {
    let mask = |text: String| match password {
        Some(password) if !password.is_empty() => text.replace(password, "***"),
        _ => text,
    };
    match error {
        StoreError::Unavailable(text) => StoreError::Unavailable(mask(text)),
        StoreError::Broken(text) => StoreError::Broken(mask(text)),
        StoreError::Refused(text) => StoreError::Refused(mask(text)),
        damaged @ StoreError::Damaged(_) => damaged,
    }
}

/// The error of a connection that broke before an operation was in progress: none is the cause.
fn never_begun(error: StoreError) -> StoreError {
    match error {
        StoreError::Broken(text) => StoreError::Unavailable(text),
        other => other,
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

/// A bare connection.
fn connect(address: &RedisAddress, timeout: Duration) -> Result<Wire, StoreError> {
    Wire::connect(&address.place, timeout).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            StoreError::Unavailable("cannot connect: no answer in time".to_owned())
        }
        _ => StoreError::Unavailable(format!("cannot connect: {error}")),
    })
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
    fn no_commands_make_no_window() {
        assert_eq!(Commands::default().windows().count(), 0);
    }
}
