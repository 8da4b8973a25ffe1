//! Tasks of users of the library.

use super::handle::HandleError;
use crate::handlers::request::{ErrorKind, NewTask};

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
pub(super) fn new_task(source: &dyn DispatchSource) -> NewTask {
    NewTask {
        key: source.key(),
        commands: source.dis_commands(),
        hosts: source.ip_list(),
        queue: false,
        // Distinguishes this request from those of other servers, so it comes from the system if
        // possible.
        request: getrandom::u64().unwrap_or_else(|_| fastrand::u64(..)),
        ..NewTask::default()
    }
}
