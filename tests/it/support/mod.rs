//! Support for the end-to-end tests beside the testkit.

pub mod browser;
pub mod pace;
pub mod reports;
#[cfg(feature = "tls")]
pub mod tls;
pub mod words;

use std::sync::atomic::{AtomicBool, Ordering};

pub use testkit::{
    BEAT, BEAT_ASKING, Cluster, Home, Host, Inbox, Keys, PATIENCE, PAUSE, Redis, Sentinels, Server,
    accepted, agent, big, http, little, process, proxy, redis, server, until, until_so,
};

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

/// Raises the limit of descriptors of this process, and checks that there is room for this number.
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
