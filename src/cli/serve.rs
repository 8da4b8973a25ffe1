//! `anthill serve`: the server as a process.
//!
//! ```text
//!  main thread     configuration ──▶ log ──▶ bind ──▶ run until the store has answered, or is away
//!                                                       ──▶ ready line ──▶ run ──▶ exit status
//!                                                                           ▲
//!  signals thread  SIGTERM, SIGINT ──▶ shutdown, whatever the main thread does ┤
//!                  SIGHUP ──▶ reload thread ──▶ configuration again, log reopened ┘
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, ConfigError, Overrides};
use crate::limits::{LOG_LINES_WAITING_MAX, READY_WAIT_MS_MAX};
use crate::logging::{self, Logging};
use crate::reactor::inherited::Addresses;
use crate::reactor::{memory, scheduling};
use crate::server::{Handle, ServeError, Server};
use crossbeam_channel::Receiver;

use super::args::ServeArgs;
use super::service::{self, Notifier};
use super::signals::{self, Caught, Watch};
use super::{Failure, notify, print};

/// Target of the log lines.
const LOG: &str = "server";

/// Runs the server until a signal or an error ends it. `caught` holds the signals since the start
/// of the process.
///
/// # Errors
/// Wrong configuration, status 2; an error, status 1 or the status that the server returns.
pub fn run(args: &ServeArgs, caught: Option<Caught>) -> Result<(), Failure> {
    memory::set_up();
    let watch = signals::watch(caught)?;
    memory::bring_in_code();
    let source = Source::of(args);
    let config = source.load().map_err(Failure::usage)?;
    let logging =
        Arc::new(logging::start(&config.log, LOG_LINES_WAITING_MAX).map_err(Failure::usage)?);
    let ended = serve(source, config, &watch, &logging);
    if ended.is_ok() {
        log::info!(target: LOG, "stopped");
    }
    // A reload that is blocked may still hold the log.
    logging.finish();
    ended
}

fn serve(
    source: Source,
    config: Config,
    watch: &Watch,
    logging: &Arc<Logging>,
) -> Result<(), Failure> {
    warn(&config);
    if watch.stop_requested() {
        return Ok(());
    }
    let started = config.clone();
    let (started_notify, node) = (config.notify.clone(), config.server.name.clone());
    let inherited = service::inherited(Addresses {
        tcp: config.server.tcp,
        udp: config.server.udp,
        http: config.server.http,
    })?;
    if !inherited.is_empty() {
        log::info!(target: LOG, "sockets of the service manager: {inherited}");
    }
    let mut server = Server::bind_with(config, inherited).map_err(Failure::failed)?;
    let handle = server.handle();
    let notifier = Arc::new(Notifier::connect());
    let manager = Arc::clone(&notifier);
    watch.on_stop(move || {
        log::info!(target: LOG, "stopping");
        manager.stopping();
        handle.shutdown();
    });
    let mut reloader = Reloader {
        source,
        handle: server.handle(),
        logging: Arc::clone(logging),
        notifier: Arc::clone(&notifier),
        before: started.clone(),
        started,
    };
    let reloads = watch.reloads();
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || reloader.run(&reloads))
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    let receivers = notify::start(&started_notify, &node, &server.handle())?;
    scheduling::ask_for_short_slices();
    let served = match until_ready(&mut server) {
        Ok(true) => {
            announce(&server);
            notifier.ready();
            notifier.run(server)
        }
        ended => {
            drop(server);
            ended.map(|_| ())
        }
    };
    if let Some(receivers) = receivers {
        receivers.finish();
    }
    served.map_err(|error| Failure::ended(error.status, error.why))
}

fn warn(config: &Config) {
    for warning in &config.warnings {
        log::warn!(target: LOG, reason = warning.as_str(); "{warning}");
    }
}

/// Source of the configuration: the file and the flags. SIGHUP reads both again.
struct Source {
    file: Option<PathBuf>,
    flags: Overrides,
}

impl Source {
    fn of(args: &ServeArgs) -> Self {
        Self {
            file: args.file.config.clone(),
            flags: args.overrides(),
        }
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.file.as_deref(), &self.flags)
    }
}

/// Runs the loop until the first attempt to reach the store has ended, within a time limit, so that
/// the ready line can tell the state of the store. Returns false if a stop was requested.
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

/// Prints the ready line on stdout.
fn announce(server: &Server) {
    let ready = server.ready().to_string();
    // Only at debug: a log beside stdout must not repeat the line.
    log::debug!(target: LOG, "{ready}");
    if print(&format!("{ready}\n")).is_err() {
        log::warn!(target: LOG, "the ready line cannot be written to stdout");
    }
}

/// The reload thread. It ends with the process.
struct Reloader {
    source: Source,
    handle: Handle,
    logging: Arc<Logging>,
    notifier: Arc<Notifier>,
    /// Configuration of the start: changes against it may need a restart.
    started: Config,
    /// Configuration that was read last.
    before: Config,
}

impl Reloader {
    fn run(&mut self, reloads: &Receiver<()>) {
        for () in reloads {
            self.notifier.reloading();
            self.reload();
            self.notifier.ready();
        }
    }

    /// Reloads the configuration. An invalid one changes nothing. The log is reopened in any case,
    /// as a rotation requires.
    fn reload(&mut self) {
        self.logging.reopen();
        let config = match self.source.load() {
            Ok(config) => config,
            Err(error) => {
                log::error!(target: LOG, error:% = error; "configuration not read again, nothing changed: {error}");
                return;
            }
        };
        warn(&config);
        let (applied, _) = self.before.describe_changes(&config);
        let (_, waiting) = self.started.describe_changes(&config);
        self.before = config.clone();
        self.logging.reload(&config.log);
        self.handle.reload(config);
        let (applied, waiting) = (in_words(&applied), in_words(&waiting));
        log::info!(
            target: LOG, applied = applied.as_str(), after_restart = waiting.as_str();
            "configuration read again; in force now: {applied}; after a restart: {waiting}"
        );
    }
}

fn in_words(changes: &[String]) -> String {
    match changes {
        [] => "nothing new".to_owned(),
        changes => changes.join(", "),
    }
}
