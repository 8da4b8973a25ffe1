//! Support for the tests: a server, its store, its hosts, and waiting with a deadline.

pub mod home;
pub mod host;
pub mod http;
pub mod inbox;
pub mod old_client;
pub mod pace;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod reports;
pub mod server;
#[cfg(feature = "tls")]
pub mod tls;
pub mod words;

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use home::Home;
pub use host::{BEAT, BEAT_ASKING, Host, big, little};
pub use inbox::Inbox;
pub use redis::Redis;
pub use server::Server;

/// Time limit of every condition: far longer than any takes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something.
pub const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until there is something to see.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Looks again and again until there is something to see, or patience is at its end.
pub fn until_or<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(seen) = look() {
            return Some(seen);
        }
        std::thread::sleep(PAUSE);
    }
    None
}

/// Waits for a connection.
#[track_caller]
pub fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream
}

/// Looks again and again until it is so.
#[track_caller]
pub fn until_so(what: &str, mut so: impl FnMut() -> bool) {
    until(what, || so().then_some(()));
}

/// Runs each of these functions of a [`Home`] as a test on the embedded store and as one on Redis.
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        #[cfg(feature = "embedded")]
        mod on_embedded {
            $(#[test] fn $name() { super::$name($crate::support::Home::embedded()); })+
        }
        mod on_redis {
            $(#[test] fn $name() { super::$name($crate::support::Home::redis()); })+
        }
    };
}
pub(crate) use on_both_stores;

/// Lets this process have as many descriptors as it may, and sees to it that there is room for so many.
#[track_caller]
pub fn need_descriptors(count: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
    let room = limit.is_none_or(|limit| limit >= count as u64 + 1_000);
    assert!(room, "{count} connections need a higher `ulimit -Hn`");
}

/// Sets a flag when it is dropped, so that threads that look at it end also when the test has failed.
pub struct EndWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
