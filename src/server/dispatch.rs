//! Tasks of users of the library.

use std::time::Duration;

use super::handle::HandleError;
use crate::handlers::request::{ErrorKind, NewTask};
use crate::handlers::tasks_options::{Amount, OfflineRule, Pause, RolloutOptions};
use crate::time::Span;

/// A task: commands, hosts and a key. [`Handle::dispatch`](super::Handle::dispatch) sends it.
///
/// ```no_run
/// struct Uptime;
///
/// impl anthill::DispatchSource for Uptime {
///     fn ip_list(&self) -> Option<Vec<String>> {
///         None // all hosts online
///     }
///
///     fn dis_commands(&self) -> Vec<(String, f64)> {
///         vec![("uptime".to_owned(), 2.0), ("df -h".to_owned(), 1.0)]
///     }
///
///     fn key(&self) -> String {
///         "AC131".to_owned()
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = anthill::Server::bind(anthill::Config::default())?;
/// # let handle = server.handle();
/// for (host, state) in handle.dispatch(&Uptime)? {
///     println!("{host}: {}", state.as_str());
/// }
/// # Ok(())
/// # }
/// ```
pub trait DispatchSource {
    /// Names of the hosts: IP addresses, or the ids that they gave. `None` means all hosts online;
    /// an empty list is an error.
    fn ip_list(&self) -> Option<Vec<String>>;

    /// Commands with their priorities. The highest priority runs first; it must be a finite number.
    fn dis_commands(&self) -> Vec<(String, f64)>;

    /// Key of the task: `dispatch.key_prefix` (`AC` by default), then letters, digits, `.` and `-`,
    /// at most 64 bytes in all. A key is used once.
    fn key(&self) -> String;

    /// Target and rollout, or the mistake in them: see [`Rollout`].
    #[doc(hidden)]
    fn options(&self) -> Result<RolloutOptions, String> {
        Ok(RolloutOptions::default())
    }
}

/// A task for the hosts of a target, which may go to them in waves.
///
/// The values are checked by [`Handle::dispatch`](super::Handle::dispatch). The target is resolved
/// once. Without a target the task goes to all hosts online. The rollout lives in the server and
/// its store, and goes on after a restart.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = anthill::Server::bind(anthill::Config::default())?;
/// # let handle = server.handle();
/// let upgrade = anthill::Rollout::new("AC131")
///     .command("apt-get -y upgrade", 2.0)
///     .command("systemctl restart web", 1.0)
///     .target("role=web,env!=test")
///     .batch("1,10%,100%")
///     .max_fail("5%")
///     .pause(std::time::Duration::from_secs(60));
/// for (host, state) in handle.dispatch(&upgrade)? {
///     println!("{host}: {}", state.as_str()); // sent, held, or offline
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    key: String,
    commands: Vec<(String, f64)>,
    options: RolloutOptions,
    /// The first mistake.
    wrong: Option<String>,
}

impl Rollout {
    /// Begins a task with this key. See [`DispatchSource::key`].
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            ..Self::default()
        }
    }

    /// Adds a command with its priority. The highest priority runs first.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>, priority: f64) -> Self {
        self.commands.push((command.into(), priority));
        self
    }

    /// Hosts that get it, such as `web-[1-99],role=web,!10.1.9.0/24`.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.options.target = Some(target.into());
        self
    }

    /// Waves: cumulative numbers of hosts or shares, such as `1,10%,100%`; a single one repeats.
    #[must_use]
    pub fn batch(mut self, steps: &str) -> Self {
        let read: Option<Vec<Amount>> = steps.split(',').map(Amount::parse).collect();
        match read.filter(|read| read.iter().all(|step| !step.is_none())) {
            Some(read) => self.options.batch = read,
            None => self.note(format!(
                "the batch {steps:?} may be numbers of hosts and shares above 0, such as 1,10%,100%"
            )),
        }
        self
    }

    /// Number of hosts of the first wave, above 0.
    #[must_use]
    pub fn canary(mut self, hosts: u64) -> Self {
        match hosts {
            0 => self.note("the canary may be a number above 0".to_owned()),
            _ => self.options.canary = Some(hosts),
        }
        self
    }

    /// Failures over the whole rollout above which it pauses, such as `3` or `5%`. With waves it is
    /// 0 by default.
    #[must_use]
    pub fn max_fail(mut self, most: &str) -> Self {
        match Amount::parse(most) {
            Some(amount) => self.options.max_fail = Some(amount),
            None => self.note(format!(
                "max_fail {most:?} may be a number of hosts, or a share such as 5%"
            )),
        }
        self
    }

    /// Time between two waves.
    #[must_use]
    pub fn pause(mut self, time: Duration) -> Self {
        self.options.pause = Some(Pause::For(span(time)));
        self
    }

    /// The rollout pauses after each wave until an operator resumes it.
    #[must_use]
    pub fn ask(mut self) -> Self {
        self.options.pause = Some(Pause::Ask);
        self
    }

    /// Longest time of a wave, above 0, after which the rollout pauses: an hour by default.
    #[must_use]
    pub fn wave_timeout(mut self, time: Duration) -> Self {
        match span(time) {
            Span::ZERO => self.note("the wave_timeout may be a time above 0".to_owned()),
            time => self.options.wave_timeout = Some(time),
        }
        self
    }

    /// Hosts that are offline when their wave begins count as failures.
    #[must_use]
    pub fn fail_offline(mut self) -> Self {
        self.options.offline = Some(OfflineRule::Fail);
        self
    }

    /// Hosts that are offline when their wave begins get the task when they connect.
    #[must_use]
    pub fn queue_offline(mut self) -> Self {
        self.options.offline = Some(OfflineRule::Queue);
        self
    }

    /// Number of hosts; with any other the task is refused.
    #[must_use]
    pub fn expect(mut self, hosts: u64) -> Self {
        self.options.expect = Some(hosts);
        self
    }

    fn note(&mut self, why: String) {
        self.wrong.get_or_insert(why);
    }
}

impl DispatchSource for Rollout {
    fn ip_list(&self) -> Option<Vec<String>> {
        None
    }

    fn dis_commands(&self) -> Vec<(String, f64)> {
        self.commands.clone()
    }

    fn key(&self) -> String {
        self.key.clone()
    }

    fn options(&self) -> Result<RolloutOptions, String> {
        if let Some(why) = &self.wrong {
            return Err(why.clone());
        }
        self.options.check_steps()?;
        Ok(self.options.clone())
    }
}

/// A time of at most 30 days, as the server takes it.
fn span(time: Duration) -> Span {
    const DAYS_MAX: u64 = 30;
    let time = time.min(Duration::from_secs(DAYS_MAX * 86_400));
    Span::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Error of [`Handle::dispatch`](super::Handle::dispatch).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The server refuses the task. Nothing is sent. Nothing is stored, unless the text says that
    /// the outcome is unknown.
    #[error("{text}")]
    Refused {
        /// Kind of the error: a mistake in the request, or a condition that may pass.
        kind: ErrorKind,
        /// Description in a few words.
        text: String,
    },
    /// The server did not answer. The task may still be stored and sent.
    #[error(transparent)]
    NoAnswer(#[from] HandleError),
}

/// Builds the request for the task of `source`.
///
/// # Errors
/// A mistake in its rollout.
pub(super) fn new_task(source: &dyn DispatchSource) -> Result<NewTask, DispatchError> {
    let options = source.options().map_err(|text| DispatchError::Refused {
        kind: ErrorKind::Wrong,
        text,
    })?;
    Ok(NewTask {
        key: source.key(),
        commands: source.dis_commands(),
        hosts: source.ip_list(),
        queue: false,
        // Distinguishes this request from those of other servers, so it comes from the system if
        // possible.
        request: getrandom::u64().unwrap_or_else(|_| fastrand::u64(..)),
        rollout: Box::new(options),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_built_or_names_its_first_mistake() {
        let rollout = Rollout::new("AC1")
            .command("a", 1.0)
            .target("web-*")
            .batch("1,50%")
            .canary(1)
            .max_fail("2")
            .ask()
            .wave_timeout(Duration::from_secs(5))
            .queue_offline()
            .expect(4);
        let task = new_task(&rollout).unwrap();
        let options = RolloutOptions {
            target: Some("web-*".to_owned()),
            batch: vec![Amount::Hosts(1), Amount::Percent(50.0)],
            canary: Some(1),
            max_fail: Some(Amount::Hosts(2)),
            pause: Some(Pause::Ask),
            wave_timeout: Some(Span::from_secs(5)),
            offline: Some(OfflineRule::Queue),
            expect: Some(4),
        };
        assert_eq!((task.hosts, *task.rollout), (None, options));
        for (rollout, words) in [
            (Rollout::new("AC1").batch("1,x").canary(0), "the batch"),
            (
                Rollout::new("AC1").batch("5,1"),
                "the step 1 is not above 5",
            ),
            (Rollout::new("AC1").canary(0), "the canary"),
            (Rollout::new("AC1").max_fail("-1"), "max_fail"),
            (
                Rollout::new("AC1").wave_timeout(Duration::ZERO),
                "the wave_timeout",
            ),
        ] {
            let said = new_task(&rollout).unwrap_err().to_string();
            assert!(said.starts_with(words), "{said}");
        }
    }
}
