//! Waiting for a condition, with a deadline.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of every condition: far longer than any takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
pub const PAUSE: Duration = Duration::from_millis(5);

/// Calls `look` until it returns a value.
///
/// # Panics
/// When that takes longer than [`PATIENCE`]; the text names `what`.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_or(look).unwrap_or_else(|| panic!("waited in vain for: {what}"))
}

/// Calls `look` until it returns a value, for at most [`PATIENCE`].
pub fn until_or<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let seen = look();
        if seen.is_some() || start.elapsed() >= PATIENCE {
            return seen;
        }
        thread::sleep(PAUSE);
    }
}

/// Waits until `is_so` returns true.
///
/// # Panics
/// When that takes longer than [`PATIENCE`]; the text names `what`.
#[track_caller]
pub fn until_so(what: &str, mut is_so: impl FnMut() -> bool) {
    until(what, || is_so().then_some(()));
}

/// Waits for a connection.
///
/// # Panics
/// When none comes within [`PATIENCE`].
#[track_caller]
pub fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream
}
