//! Runner of commands, one at a time on a separate thread, so that heartbeats continue.
//!
//! ```text
//!  loop ── Job ──▶ runner ── fork, exec ──▶ command, in a process group of its own
//!    ▲               │  ▲ stdout and stderr, one pipe ──┘
//!    └── Finished ───┘  └ its end (pidfd) · its time · the order to stop or to cancel
//! ```
//!
//! A command has ended when its own process has ended. Background processes may keep the pipe open
//! and are not waited for. At its time limit, or when the agent stops, all processes of a command
//! are ended, including those that have left its process group: see `agent::tree`. Each step of
//! that has a bound, so that neither a command nor a process with an open pipe can block the
//! runner.

mod watch;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::Waker;
use rustix::process::Signal;

use super::allow::Job;
use super::core::{Finished, NOT_FOUND, REFUSED};
use super::tree::{
    Cgroup, Earlier, Note, Process, Tree, reap_orphans, remove_empty_groups, wait_for_end,
};
use crate::limits::{AGENT_CANCEL_MS, AGENT_KILL_MS};
use watch::{Ended, Watched, watch};

/// Directories in which a bare program name is looked up.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Interval at which a command is polled if the kernel cannot report its end.
const TICK: Duration = Duration::from_millis(50);
/// Interval of the checks for the end of a killed command's processes.
const END_TICK: Duration = Duration::from_millis(20);
/// Time of the first record of a command's processes; the interval doubles each time.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// Interval of the checks for adopted orphans between commands.
const ORPHAN_TICK: Duration = Duration::from_secs(5);
/// Time for each of the two signals to end a command.
const KILL_TIME: Duration = Duration::from_millis(AGENT_KILL_MS);
/// The same for SIGTERM to a cancelled command.
const CANCEL_TIME: Duration = Duration::from_millis(AGENT_CANCEL_MS);
/// Longest wait for a dropped runner: both signals, and the start of a command in between.
const STOP_TIME: Duration = Duration::from_millis(3 * AGENT_KILL_MS);
/// Bytes of output read at once.
const READ_BYTES: usize = 16 * 1024;

/// The runner thread. Dropping it kills the running command without a report.
#[derive(Debug)]
pub struct Runner {
    jobs: Option<Sender<Job>>,
    results: Receiver<Finished>,
    /// Closing it stops the runner.
    stop: Option<PipeWriter>,
    /// A byte in it has the runner look at `cancelled`.
    look: PipeWriter,
    /// Number of the command that is to be ended.
    cancelled: Arc<AtomicU64>,
    /// Number of commands sent.
    sent: u64,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// A runner that wakes `waker` whenever a command has ended. In `dir` it keeps a note of the
    /// running command; processes that an earlier runner left running there are ended first.
    ///
    /// # Errors
    /// No thread or pipe.
    pub fn start(waker: Arc<Waker>, dir: Option<PathBuf>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let (looks, look) = io::pipe()?;
        // The loop must not wait for a runner that does not look.
        rustix::io::ioctl_fionbio(&look, true)?;
        let cancelled = Arc::new(AtomicU64::new(0));
        let mut orders = Orders {
            stopped,
            looks,
            cancelled: Arc::clone(&cancelled),
            number: 0,
        };
        // One job at a time: the next is sent after the result of the one before.
        let (jobs, todo) = bounded::<Job>(1);
        let (done, results) = bounded(1);
        let mut state = State::new(dir);
        let work = move || {
            state.end_leftovers();
            while let Some(job) = next(&todo) {
                orders.number += 1;
                let Some(finished) = run(&job, &orders, &mut state) else {
                    return;
                };
                if done.send(finished).is_err() {
                    return;
                }
                // Fails only after the end of the loop.
                let _ = waker.wake();
            }
        };
        let thread = thread::Builder::new()
            .name("runner".to_owned())
            .spawn(work)?;
        Ok(Self {
            jobs: Some(jobs),
            results,
            stop: Some(stop),
            look,
            cancelled,
            sent: 0,
            thread: Some(thread),
        })
    }

    /// Runs a command. The result of the command before must have been received.
    pub fn run(&mut self, job: Job) {
        self.sent += 1;
        if let Some(jobs) = &self.jobs {
            // The channel has room, since the previous command has ended, and the thread lives as
            // long as this value.
            let sent = jobs.try_send(job);
            debug_assert!(sent.is_ok(), "two commands at once");
        }
    }

    /// Ends the command that was sent last, if it still runs. Its result comes as always.
    pub fn cancel(&mut self) {
        self.cancelled.store(self.sent, Ordering::Release);
        // A full pipe has the runner look all the same, and without a runner nothing runs.
        let _ = self.look.write(&[0]);
    }

    /// Returns the result of an ended command.
    pub fn finished(&self) -> Option<Finished> {
        self.results.try_recv().ok()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.jobs = None;
        self.stop = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The end of the thread closes the channel. A thread that is blocked in the system, as by a
        // dead network disk, is abandoned.
        let deadline = Instant::now() + STOP_TIME;
        loop {
            match self.results.recv_deadline(deadline) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // A panic has been printed already.
                    let _ = thread.join();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => return,
            }
        }
    }
}

/// Receives the next command. Meanwhile ended orphans of earlier commands are reaped.
fn next(todo: &Receiver<Job>) -> Option<Job> {
    loop {
        if !reap_orphans() {
            return todo.recv().ok();
        }
        match todo.recv_timeout(ORPHAN_TICK) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Orders of the loop to the runner of a command.
struct Orders {
    /// Closed: the runner stops.
    stopped: PipeReader,
    /// A byte: `cancelled` has changed.
    looks: PipeReader,
    cancelled: Arc<AtomicU64>,
    /// Number of the running command.
    number: u64,
}

impl Orders {
    /// Returns whether the running command is to be ended.
    fn has_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) == self.number
    }
}

/// State of a runner beside its commands.
struct State {
    note: Note,
    /// The number of the next command.
    number: u64,
}

impl State {
    fn new(dir: Option<PathBuf>) -> Self {
        Self {
            note: Note::new(dir),
            number: 0,
        }
    }

    /// Ends processes that a killed agent left running: their command has been reported lost.
    fn end_leftovers(&mut self) {
        remove_empty_groups();
        let Some(mut left) = self.note.left() else {
            return;
        };
        if !left.look().is_empty() {
            let processes = left.known().len();
            log::warn!(
                target: "agent", processes = processes;
                "ending a command that an earlier agent left running"
            );
            if !end(&mut left, KILL_TIME, || Ok(())).unwrap_or(false) {
                let processes = left.look().len();
                log::error!(target: "agent", processes = processes; "{processes} of its processes cannot be ended");
            }
        }
        self.note.clear();
    }
}

/// Ends all processes of a command, by SIGTERM and after `grace` by SIGKILL. Returns whether all have
/// ended.
fn end(
    tree: &mut Tree,
    grace: Duration,
    mut meanwhile: impl FnMut() -> io::Result<()>,
) -> io::Result<bool> {
    for (signal, time) in [(Signal::TERM, grace), (Signal::KILL, KILL_TIME)] {
        let deadline = Instant::now() + time;
        tree.signal(signal);
        // A stopped process handles SIGTERM only after SIGCONT.
        tree.signal(Signal::CONT);
        loop {
            meanwhile()?;
            let running = tree.look();
            if running.is_empty() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                break;
            }
            wait_for_end(&running, END_TICK);
            if signal == Signal::KILL {
                // New processes may have started meanwhile.
                tree.signal(signal);
            }
        }
    }
    Ok(false)
}

/// Runs one command to its end; `None` if the runner is stopped.
fn run(job: &Job, orders: &Orders, state: &mut State) -> Option<Finished> {
    let begun = Instant::now();
    let ended = match spawn(job, state) {
        Ok(watched) => watch(watched, job.time.into(), orders, &mut state.note),
        Err(ended) => Ok(Some(ended)),
    };
    state.note.clear();
    let ended = match ended {
        Ok(ended) => ended?,
        Err(error) => Ended::reason(REFUSED, &format!("it could not be watched: {error}")),
    };
    let (output, truncated) = ended.output.finish();
    Some(Finished {
        exit: ended.exit,
        seconds: begun.elapsed().as_secs_f64(),
        output,
        truncated,
    })
}

/// Starts a command in its own session, with one pipe for stdout and stderr.
fn spawn(job: &Job, state: &mut State) -> Result<Watched, Ended> {
    let Some((program, arguments)) = job.words.split_first() else {
        return Err(Ended::reason(NOT_FOUND, "there is no command"));
    };
    let path =
        find(program).ok_or_else(|| Ended::reason(NOT_FOUND, &format!("{program}: not found")))?;
    let place = &job.place;
    if let Some(cwd) = place.cwd.as_deref().filter(|cwd| !Path::new(cwd).is_dir()) {
        return Err(Ended::reason(
            REFUSED,
            &format!("its cwd {cwd} is no directory"),
        ));
    }
    let account = place.user.as_deref().map(account_of).transpose();
    let account = account
        .map_err(|why| Ended::reason(REFUSED, &why))?
        .flatten();
    let earlier = Earlier::look();
    state.number += 1;
    let (cgroup, procs) = Cgroup::make(state.number).unzip();
    if let Some(cgroup) = &cgroup {
        state.note.write(Some(cgroup.dir()), &HashSet::new());
    }
    let start = || {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        let mut command = Command::new(path);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .envs(place.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        if let Some(cwd) = &place.cwd {
            command.current_dir(cwd);
        }
        if let Some(Account { uid, gid }) = account {
            // The groups of root are dropped, too.
            command.uid(uid).gid(gid);
        }
        // SAFETY: between fork and exec the closure makes only async-signal-safe system calls; it
        // allocates no memory and takes no lock.
        unsafe {
            command.pre_exec(move || join(procs.as_ref()));
        }
        let child = command.spawn()?;
        Ok((child, reader))
    };
    match start() {
        Ok((child, reader)) => {
            let root = i32::try_from(child.id()).ok().and_then(Process::of);
            let tree = Tree::new(root, earlier, cgroup);
            state.note.write(tree.cgroup(), tree.known());
            Ok(Watched::new(child, reader, tree))
        }
        Err(error) => {
            let error: io::Error = error;
            let exit = match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => REFUSED,
            };
            // The system is not asked: its strings end with this character.
            let is_nul = error.kind() == io::ErrorKind::InvalidInput;
            let why = match is_nul && error.raw_os_error().is_none() {
                true => "a word of the command has the character NUL".to_owned(),
                false => error.to_string(),
            };
            Err(Ended::reason(exit, &format!("{program}: {why}")))
        }
    }
}

/// User and group of a command.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

/// The account of a user; none if it is the agent's own.
///
/// # Errors
/// There is no such user, or only root can become it.
fn account_of(user: &str) -> Result<Option<Account>, String> {
    let own = rustix::process::geteuid();
    if user.parse() == Ok(own.as_raw()) {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd")
        .map_err(|error| format!("its user {user}: /etc/passwd: {error}"))?;
    let account = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        (name == user || uid == user).then_some(Account {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    });
    match account {
        None => Err(format!("its user {user} is not in /etc/passwd")),
        Some(account) if account.uid == own.as_raw() => Ok(None),
        Some(_) if !own.is_root() => Err(format!("its user {user} needs an agent of root")),
        Some(account) => Ok(Some(account)),
    }
}

/// Runs in the new process before exec: joins the cgroup and begins a session.
fn join(procs: Option<&File>) -> io::Result<()> {
    if let Some(procs) = procs {
        // If that fails, the processes of the command are found one by one.
        let _ = rustix::io::write(procs, b"0");
    }
    rustix::process::setsid()?;
    Ok(())
}

/// Returns the file of a program. A name without a slash is looked up.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    let can_run = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    PATH.split(':')
        .map(|dir| PathBuf::from(dir).join(program))
        .find(can_run)
}

#[cfg(test)]
mod tests;
