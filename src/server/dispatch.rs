//! Dispatch for users of the library: the trait of a source of tasks.

use super::handle::HandleError;
use crate::handlers::ask::{ErrorKind, NewTask};

/// Something to be dispatched: which hosts are to do what, and under which key it is known. Handed in with
/// [`Handle::dispatch`](super::Handle::dispatch).
///
/// ```no_run
/// struct Uptime;
///
/// impl anthill::DispatchSource for Uptime {
///     fn ip_list(&self) -> Option<Vec<String>> {
///         None // all that are online
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
    /// The hosts by name: their address, or the id they gave. `None` for all that are online; an empty list
    /// is an error.
    fn ip_list(&self) -> Option<Vec<String>>;

    /// The commands, each with its priority, a finite number: the highest is run first.
    fn dis_commands(&self) -> Vec<(String, f64)>;

    /// The key: `dispatch.key_prefix`, then letters, digits, `.` and `-`, at most 64 bytes in all. Each is used
    /// once.
    fn key(&self) -> String;
}

/// Error of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The server will not have it. Nothing is sent, and unless the text says that the outcome is unknown
    /// nothing is stored.
    #[error("{text}")]
    Refused {
        /// Kind of the error: a mistake in the request, or a condition that may pass.
        kind: ErrorKind,
        /// In a few words.
        text: String,
    },
    /// The server did not answer. What became of the task is not known.
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
        // It tells this request from those of other servers, so it comes from the system; a system that has
        // none to give has others than us to worry about.
        request: getrandom::u64().unwrap_or_else(|_| fastrand::u64(..)),
    }
}
