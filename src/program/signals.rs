//! Signals of a long-running subcommand: one path at every moment of the process.
//!
//! ```text
//!  main   Caught::early ──▶ handlers installed before the arguments are parsed; signals stay pending
//!           │
//!  run    Caught::watch ──▶ thread "signals"
//!                             SIGTERM, SIGINT ──▶ stop requested: stop_requested, on_stop
//!                             SIGHUP          ──▶ reload requested: reloads
//!                             a stop signal REPEAT or more after the first ──▶ the process ends, status 1
//! ```
//!
//! A signal that arrives before its receiver is ready is delivered as soon as the receiver is:
//! `on_stop` calls its hook at once, and a reload waits in the channel. The thread never waits for
//! the rest of the process, so that a blocked start, reload or shutdown can still be ended by a
//! second signal.

use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Failure, signal_mask};

/// Stop signals closer than this to the first one repeat it: service managers, `timeout` and
/// terminals send the same request to the process and then to its whole group.
pub const REPEAT: Duration = Duration::from_secs(2);

/// Exit status of a process that a later stop signal ends before its clean stop is complete.
const FORCED: i32 = 1;

/// Signals that a long-running subcommand catches.
const CAUGHT: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Installed handlers, without a thread yet: signals stay pending.
pub struct Caught(Signals);

impl Caught {
    /// Installs the handlers if `args` (the program's name in front) name a subcommand that stops
    /// cleanly. The others keep the default action of each signal.
    ///
    /// # Errors
    /// A refusal of the system.
    pub fn early(args: &[OsString]) -> io::Result<Option<Self>> {
        match stops_cleanly(args) {
            true => signal_mask::held_while(&CAUGHT, || Signals::new(CAUGHT))
                .map(|signals| Some(Self(signals))),
            false => Ok(None),
        }
    }

    /// Starts the thread that receives the signals, those that are pending first.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn watch(self) -> io::Result<Watch> {
        // One reload in the channel is enough: it reads the files after every signal that found the
        // channel full.
        let (reload, reloads) = bounded(1);
        let watch = Watch {
            stop: Arc::default(),
            reloads,
        };
        let stop = Arc::clone(&watch.stop);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || receive(self.0, &stop, &reload))?;
        Ok(watch)
    }
}

/// Starts the thread that receives `caught`, the signals since the start of the process.
///
/// # Errors
/// When the system refuses a thread, or the handlers were not installed.
pub fn watch(caught: Option<Caught>) -> Result<Watch, Failure> {
    let refused = |error: io::Error| Failure::failed(format!("cannot catch signals: {error}"));
    let Some(caught) = caught else {
        return Err(refused(io::ErrorKind::Unsupported.into()));
    };
    caught.watch().map_err(refused)
}

/// Returns whether the subcommand catches signals: `agent`, and `serve`, named or by default.
///
/// A flag in front means `serve`; `--help` and `--version` end before a signal could matter.
fn stops_cleanly(args: &[OsString]) -> bool {
    args.get(1).is_none_or(|first| {
        let first = first.as_encoded_bytes();
        first == b"serve" || first == b"agent" || first.starts_with(b"-")
    })
}

/// Signals received so far.
pub struct Watch {
    stop: Arc<Mutex<Stop>>,
    reloads: Receiver<()>,
}

#[derive(Default)]
struct Stop {
    requested: bool,
    hook: Option<Box<dyn FnOnce() + Send>>,
}

impl Watch {
    /// Returns whether SIGTERM or SIGINT has arrived.
    pub fn stop_requested(&self) -> bool {
        lock(&self.stop).requested
    }

    /// Calls `hook` once, on the signals thread, when a stop is requested; at once if it has been.
    pub fn on_stop(&self, hook: impl FnOnce() + Send + 'static) {
        let mut stop = lock(&self.stop);
        match stop.requested {
            true => hook(),
            false => stop.hook = Some(Box::new(hook)),
        }
    }

    /// Receives one message for each SIGHUP; those that come before it is taken are one.
    pub fn reloads(&self) -> Receiver<()> {
        self.reloads.clone()
    }
}

/// The signals thread.
fn receive(mut signals: Signals, stop: &Mutex<Stop>, reload: &Sender<()>) {
    let mut stops = StopSignals::default();
    for signal in signals.forever() {
        if signal == SIGHUP {
            // Full: the reload that waits serves this signal too.
            let _ = reload.try_send(());
            continue;
        }
        match stops.arrived(Instant::now()) {
            Arrival::First => {
                let mut stop = lock(stop);
                stop.requested = true;
                if let Some(hook) = stop.hook.take() {
                    hook();
                }
            }
            Arrival::Repeat => {}
            Arrival::Later => signal_hook::low_level::exit(FORCED),
        }
    }
}

/// A panic of a hook must not hide that a stop was requested.
fn lock(stop: &Mutex<Stop>) -> std::sync::MutexGuard<'_, Stop> {
    stop.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stop signals that have arrived.
#[derive(Debug, Default)]
pub struct StopSignals {
    first: Option<Instant>,
}

/// Meaning of one stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It requests the clean stop.
    First,
    /// It repeats the first one, within [`REPEAT`].
    Repeat,
    /// It requests the end of the process without a clean stop.
    Later,
}

impl StopSignals {
    /// Classifies a stop signal that arrives at `now`.
    pub fn arrived(&mut self, now: Instant) -> Arrival {
        match self.first {
            None => {
                self.first = Some(now);
                Arrival::First
            }
            Some(first) if now.saturating_duration_since(first) < REPEAT => Arrival::Repeat,
            Some(_) => Arrival::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_within_two_seconds_are_one() {
        let (start, mut stops) = (Instant::now(), StopSignals::default());
        let mut at = |millis| stops.arrived(start + Duration::from_millis(millis));
        assert_eq!(at(0), Arrival::First);
        assert_eq!(at(0), Arrival::Repeat);
        assert_eq!(at(300), Arrival::Repeat);
        assert_eq!(at(1_999), Arrival::Repeat);
        assert_eq!(at(2_000), Arrival::Later);
    }

    #[test]
    fn only_servers_and_agents_catch_signals() {
        let caught = |words: &[&str]| {
            let words = [&["anthill"], words].concat();
            let args: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            stops_cleanly(&args)
        };
        assert!(caught(&[]));
        assert!(caught(&["serve", "--tcp", "127.0.0.1:0"]));
        assert!(caught(&["--config", "config.json"]));
        assert!(caught(&["agent", "--server", "ants.example"]));
        assert!(!caught(&["hosts"]));
        assert!(!caught(&["dispatch", "AC1"]));
        assert!(!caught(&["bench"]));
    }

    #[test]
    fn a_signal_before_the_hook_is_delivered_to_it() {
        let watch = Watch {
            stop: Arc::default(),
            reloads: bounded(1).1,
        };
        lock(&watch.stop).requested = true;
        let (called, calls) = bounded(1);
        watch.on_stop(move || called.send(()).unwrap());
        assert!(watch.stop_requested());
        assert_eq!(calls.try_recv(), Ok(()));
    }
}
