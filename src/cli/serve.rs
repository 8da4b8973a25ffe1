//! `anthill serve`: the server as a process.
//!
//! ```text
//!  main thread     configuration ──▶ log ──▶ bind ──▶ run until the store has answered, or is away
//!                                                       ──▶ ready line ──▶ run ──▶ exit status
//!                                                                           ▲
//!  signals thread  SIGTERM, SIGINT ──▶ shutdown ────────────────────────────┤
//!                  SIGHUP ──▶ configuration again, log reopened ────────────┘
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anthill::config::{Config, ConfigError};
use anthill::limits::READY_WAIT_MS_MAX;
use anthill::logging::{self, Logging};
use anthill::reactor::{memory, scheduling};
use anthill::server::{Handle, ServeError, Server};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{self, Signals};

use super::args::ServeArgs;
use super::{Failure, print};

/// What lines of the log are filed under.
const LOG: &str = "server";

/// Serves, until a signal or a fault ends it.
///
/// # Errors
/// Wrong configuration, status 2; a fault, status 1 or what the server says.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    memory::set_up();
    memory::bring_in_code();
    let config = load(args).map_err(Failure::usage)?;
    let signals = catch_signals()
        .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))?;
    let logging = logging::start(&config.log).map_err(Failure::usage)?;
    for warning in &config.warnings {
        log::warn!(target: LOG, "{warning}");
    }
    let started = config.clone();
    let mut server = Server::bind(config).map_err(Failure::failed)?;
    let mut caretaker = Caretaker {
        args,
        handle: server.handle(),
        logging: &logging,
        before: started.clone(),
        started,
    };
    let ended = thread::scope(|scope| {
        let _closes = CloseOnDrop(signals.handle());
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn_scoped(scope, move || caretaker.heed(signals))
            .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
        scheduling::ask_for_short_slices();
        let served = match until_ready(&mut server) {
            Ok(true) => {
                announce(&server);
                server.run()
            }
            ended => ended.map(|_| ()),
        };
        served.map_err(|error| Failure::ended(error.status, error.why))
    });
    if ended.is_ok() {
        log::info!(target: LOG, "stopped");
    }
    ended
}

fn load(args: &ServeArgs) -> Result<Config, ConfigError> {
    Config::load(args.file.config.as_deref(), &args.overrides())
}

/// Catches the signals from here on. A second one that asks for the end gets it at once, from the
/// handler itself: whatever the first set going may hang.
fn catch_signals() -> io::Result<Signals> {
    let ending = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&ending))?;
        signal_hook::flag::register(signal, Arc::clone(&ending))?;
    }
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

/// Serves until it is known whether the store can be reached, so that whoever waits for the ready line
/// finds what he then does in the store; but never for long. False if the end was asked for.
fn until_ready(server: &mut Server) -> Result<bool, ServeError> {
    let deadline = Instant::now() + Duration::from_millis(READY_WAIT_MS_MAX);
    while !server.has_tried_store() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if !server.turn(Some(left))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says once, on stdout, where the server is to be found.
fn announce(server: &Server) {
    let ready = server.ready().to_string();
    log::info!(target: LOG, "{ready}");
    if print(&format!("{ready}\n")).is_err() {
        log::warn!(target: LOG, "nobody reads the ready line");
    }
}

/// Ends the signals thread when the server has ended, however it did.
struct CloseOnDrop(iterator::Handle);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The signals thread.
struct Caretaker<'a> {
    args: &'a ServeArgs,
    handle: Handle,
    logging: &'a Logging,
    /// As the server was started: what waited for a restart still does.
    started: Config,
    /// As last read.
    before: Config,
}

impl Caretaker<'_> {
    fn heed(&mut self, mut signals: Signals) {
        for signal in signals.forever() {
            match signal {
                SIGHUP => self.reload(),
                _ => {
                    log::info!(target: LOG, "stopping");
                    self.handle.shutdown();
                }
            }
        }
    }

    /// Reads the configuration again. One that is wrong changes nothing; the log is reopened all
    /// the same, since that is what a rotation asks for.
    fn reload(&mut self) {
        self.logging.reopen();
        let config = match load(self.args) {
            Ok(config) => config,
            Err(error) => {
                log::error!(target: LOG, "configuration not read again, nothing changed: {error}");
                return;
            }
        };
        for warning in &config.warnings {
            log::warn!(target: LOG, "{warning}");
        }
        let (applied, _) = self.before.describe_changes(&config);
        let (_, waiting) = self.started.describe_changes(&config);
        self.before = config.clone();
        self.logging.reload(&config.log);
        self.handle.reload(config);
        log::info!(
            target: LOG, "configuration read again; in force now: {}; after a restart: {}",
            in_words(&applied),
            in_words(&waiting)
        );
    }
}

fn in_words(changes: &[String]) -> String {
    match changes {
        [] => "nothing new".to_owned(),
        changes => changes.join(", "),
    }
}
