//! One connection to one server, and the only code that waits for Redis.
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
use std::ops::Range;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, RedisResult, Value};

use super::errors::{broken, judge, refused, text};
use super::scripts;
use super::watch::MasterWatch;
use super::wire::Wire;
use crate::limits::{REDIS_PUSHES_MAX, REDIS_WINDOW_BYTES_MAX, REDIS_WINDOW_COMMANDS_MAX};
use crate::store::StoreError;
use crate::store::address::{RedisAddress, RedisPlace};

/// Reloads of unknown scripts for one set of commands.
const RELOADS_MAX: usize = 3;

/// Encoded commands, in order.
///
/// One server runs them in this order. Where several servers have the keys, the order holds for the
/// commands on one key, and across a [`barrier`](Self::barrier).
#[derive(Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Numbers of commands before each barrier.
    barriers: Vec<usize>,
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

    /// The following commands are sent when all before have been answered, if they go to several
    /// servers.
    pub(super) fn barrier(&mut self) {
        if self.len() > self.barriers.last().copied().unwrap_or(0) {
            self.barriers.push(self.len());
        }
    }

    /// The commands between two barriers, as their indices; `None` after the last.
    pub(super) fn level(&self, level: usize) -> Option<Range<usize>> {
        let before = |level: usize| self.barriers.get(level).copied();
        let start = match level {
            0 => 0,
            _ => before(level - 1)?,
        };
        Some(start..before(level).unwrap_or(self.len()))
    }

    /// The encoded command at `index`.
    pub(super) fn one(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Adds an encoded command.
    pub(super) fn push_packed(&mut self, packed: &[u8]) {
        self.bytes.extend_from_slice(packed);
        self.ends.push(self.bytes.len());
    }

    /// The windows of commands: bytes and number of commands of each.
    pub(super) fn windows(&self) -> impl Iterator<Item = (&[u8], usize)> {
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

/// A connection to one server.
pub(super) struct Connection {
    wire: Wire,
    timeout: Duration,
    /// Set if Sentinels named the server.
    watch: Option<MasterWatch>,
}

impl Connection {
    /// Connects, authenticates, and loads the scripts.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the server refuses the user, the password or the database; else
    /// [`StoreError::Unavailable`].
    pub(super) fn open(address: &RedisAddress, timeout: Duration) -> Result<Self, StoreError> {
        let mut connection = Self::connect(&address.place, timeout)?;
        connection.introduce(address, None)?;
        Ok(connection)
    }

    /// Connects, and sends nothing.
    pub(super) fn connect(place: &RedisPlace, timeout: Duration) -> Result<Self, StoreError> {
        // Zero would mean no limit.
        let timeout = timeout.max(Duration::from_millis(1));
        let wire = Wire::connect(place, timeout).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => {
                StoreError::Unavailable("cannot connect: no answer in time".to_owned())
            }
            _ => StoreError::Unavailable(format!("cannot connect: {error}")),
        })?;
        Ok(Self {
            wire,
            timeout,
            watch: None,
        })
    }

    /// Sets the time limit of each wait.
    pub(super) fn set_timeout(&mut self, timeout: Duration) -> Result<(), StoreError> {
        self.timeout = timeout.max(Duration::from_millis(1));
        let set = self.wire.set_timeout(self.timeout);
        set.map_err(|error| broken(&error.into()))
    }

    /// Every later request fails once the watch has found another master.
    pub(super) fn watch(&mut self, watch: MasterWatch) {
        self.watch = Some(watch);
    }

    /// Checks that the server has not closed the connection and is not replaced, without a request.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        self.watch.as_ref().map_or(Ok(()), MasterWatch::look)?;
        self.wire.look().map_err(|error| broken(&error.into()))
    }

    /// Runs sets of commands, each with a value that is returned with a reply for each command. A
    /// set is encoded while the server runs the one before. If the server has forgotten a script,
    /// it is loaded again, and only the commands that need it are repeated.
    ///
    /// # Errors
    /// When the connection failed, and must be dropped.
    pub(super) fn request_each<C: Borrow<Commands>, T>(
        &mut self,
        sets: impl Iterator<Item = (C, T)>,
    ) -> Result<Vec<(Vec<Value>, T)>, StoreError> {
        let answered = self.exchange(sets)?;
        let complete = |(commands, mut replies, value): (C, Vec<Value>, T)| {
            self.load_forgotten(commands.borrow(), &mut replies)?;
            Ok((replies, value))
        };
        answered.into_iter().map(complete).collect()
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

    /// Runs commands and returns each reply.
    pub(super) fn exchange_one(&mut self, commands: &Commands) -> Result<Vec<Value>, StoreError> {
        let answered = self.exchange([(commands, ())].into_iter())?;
        Ok(answered
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
        self.watch.as_ref().map_or(Ok(()), MasterWatch::look)?;
        let (mut sent, mut replies) = (Vec::new(), Vec::new());
        // Index of the set with the next replies, and their number.
        let mut in_flight: Option<(usize, usize)> = None;
        for (at, (commands, value)) in sets.enumerate() {
            replies.push(Vec::with_capacity(commands.borrow().len()));
            for (bytes, count) in commands.borrow().windows() {
                if let Err(error) = self.wire.send(bytes) {
                    // A server may send the reason before it closes.
                    let (before, count) = in_flight.unwrap_or((at, 1));
                    self.read_replies(count, &mut replies[before])?;
                    return Err(self.explain(&error.into(), replies[before].last()));
                }
                if let Some((before, count)) = in_flight.replace((at, count)) {
                    self.read_replies(count, &mut replies[before])?;
                }
            }
            sent.push((commands, value));
        }
        if let Some((before, count)) = in_flight {
            self.read_replies(count, &mut replies[before])?;
        }
        let each = sent.into_iter().zip(replies);
        Ok(each
            .map(|((commands, value), replies)| (commands, replies, value))
            .collect())
    }

    /// Sends a window of commands. Its replies are read later.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let sent = self.wire.send(bytes);
        sent.map_err(|error| self.explain(&error.into(), None))
    }

    /// Reads `count` replies, the first before `deadline`.
    pub(super) fn read_before(
        &mut self,
        deadline: Instant,
        count: usize,
        replies: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        let timeout = self.timeout;
        let left = deadline.saturating_duration_since(Instant::now());
        self.set_timeout(left.min(timeout))?;
        let first = self.read_replies(count.min(1), replies);
        self.set_timeout(timeout)?;
        first?;
        self.read_replies(count.saturating_sub(1), replies)
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
            // The read timeout starts again with each reply.
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
        match (last, self.wire.foreign_protocol()) {
            (Some(Value::ServerError(last)), _) => {
                StoreError::Broken(format!("the connection was closed: {}", text(last)))
            }
            (None, Some(other)) => StoreError::Broken(other.to_owned()),
            _ => broken(error),
        }
    }

    /// Sends user, database and scripts at once. Returns the reply to `question`, which is asked
    /// between them.
    pub(super) fn introduce(
        &mut self,
        address: &RedisAddress,
        question: Option<Cmd>,
    ) -> Result<Option<Value>, StoreError> {
        let mut hello = login(address);
        if address.db != 0 {
            hello.push(&cmd!("SELECT", address.db));
        }
        hello.push(&cmd!("PING"));
        let admission = hello.len();
        question.iter().for_each(|question| hello.push(question));
        let questions = hello.len();
        scripts::load().for_each(|load| hello.push(&load));
        let mut replies = self.exchange_one(&hello).map_err(never_begun)?;
        replies[..admission]
            .iter()
            .try_for_each(admitted)
            .map_err(|error| hide(error, address.password.as_deref()))?;
        let scripts = replies.split_off(questions);
        scripts.iter().try_for_each(loaded)?;
        Ok(replies.drain(admission..).next())
    }

    /// Loads the scripts.
    pub(super) fn load_scripts(&mut self) -> Result<(), StoreError> {
        let replies = self.exchange_one(&scripts::load().collect())?;
        replies.iter().try_for_each(loaded)
    }
}

/// The command that sends user and password, if there are any.
pub(super) fn login(address: &RedisAddress) -> Commands {
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
    hello
}

/// Checks a reply to the handshake.
pub(super) fn admitted(reply: &Value) -> Result<(), StoreError> {
    match reply {
        Value::ServerError(error) => Err(match refused(error) {
            Some(what) => StoreError::Refused(format!("{what} is refused: {}", text(error))),
            None => StoreError::Unavailable(text(error)),
        }),
        _ => Ok(()),
    }
}

/// Hides the password: a server that does not know a command repeats its arguments.
pub(super) fn hide(error: StoreError, password: Option<&str>) -> StoreError {
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
pub(super) fn never_begun(error: StoreError) -> StoreError {
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

pub(super) fn is_noscript(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
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
    fn windows_cover_all_commands_within_bounds() {
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
    fn levels_lie_between_barriers() {
        let mut commands = Commands::default();
        commands.barrier();
        commands.push(&command(1));
        commands.push(&command(2));
        commands.barrier();
        commands.barrier();
        commands.push(&command(3));
        let levels: Vec<_> = (0..).map_while(|level| commands.level(level)).collect();
        assert_eq!(levels, [0..2, 2..3]);
        assert_eq!(commands.one(2).len(), commands.one(0).len() + 2);
    }

    #[test]
    fn no_commands_make_no_window() {
        assert_eq!(Commands::default().windows().count(), 0);
    }
}
