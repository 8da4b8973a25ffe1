//! Signals that end a run. The first one ends the load, and the report covers the part that ran.
//! One that comes more than [`REPEAT`](crate::program::signals::REPEAT) later ends the program at once.
//!
//! A thread receives them, since `--hold` may have stopped the server's process, which must be
//! resumed first.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Instant;

use crate::bench;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::program::signal_mask;
use crate::program::signals::{Arrival, StopSignals};

/// The first signal; 0 before it.
#[derive(Clone, Debug, Default)]
pub struct EndSignals(Arc<AtomicI32>);

/// A received signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndSignal(i32);

impl EndSignal {
    /// Exit status by the convention of shells.
    pub fn status(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(1)
    }
}

impl fmt::Display for EndSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SIGINT => "SIGINT",
            SIGHUP => "SIGHUP",
            SIGQUIT => "SIGQUIT",
            _ => "SIGTERM",
        })
    }
}

/// Returns whether a signal was ignored when the program began; false if that is not known.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

impl EndSignals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// A refusal of the system.
    pub fn catch() -> io::Result<Self> {
        let first = Self::default();
        let mut signals = signal_mask::held_while(&[SIGINT, SIGTERM, SIGQUIT, SIGHUP], || {
            let signals = Signals::new([SIGINT, SIGTERM, SIGQUIT])?;
            // Under nohup the terminal may close.
            if !is_ignored(SIGHUP) {
                signals.add_signal(SIGHUP)?;
            }
            Ok(signals)
        })?;
        let recorded = first.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut stops = StopSignals::default();
                for signal in signals.forever() {
                    match stops.arrived(Instant::now()) {
                        Arrival::First => recorded.record(signal),
                        Arrival::Repeat => {}
                        Arrival::Later => {
                            bench::resume_server();
                            signal_hook::low_level::exit(128 + signal);
                        }
                    }
                }
            })?;
        Ok(first)
    }

    fn record(&self, signal: i32) {
        self.0.store(signal, Ordering::Relaxed);
    }

    /// The signal that ends the run, if there was one.
    pub fn received(&self) -> Option<EndSignal> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(EndSignal(signal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_signal_gives_the_status() {
        let signals = EndSignals::default();
        assert_eq!(signals.received(), None);
        signals.record(SIGTERM);
        let received = signals.received().unwrap();
        assert_eq!(
            (received.to_string().as_str(), received.status()),
            ("SIGTERM", 143)
        );
    }
}
