//! Commands, run one at a time on a thread of their own, so that the agent goes on beating.
//!
//! ```text
//!  loop ── Job ──▶ runner ── fork, exec ──▶ command, in a process group of its own
//!    ▲               │  ▲ stdout and stderr, one pipe ──┘
//!    └── Finished ───┘  └ its end (pidfd) · its time · the order to stop
//! ```
//!
//! A command has ended when its own process has: what it left running in the background keeps the pipe
//! open and is not waited for. Out of time, or told to stop, its whole group is ended.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::allow::Job;
use super::core::{Finished, NOT_FOUND, REFUSED, TIMED_OUT};
use crate::limits::{AGENT_KILL_MS, AGENT_OUTPUT_BYTES_MAX};

/// Where a bare program is looked up.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often a command is looked at where the kernel cannot tell of its end.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of output read at once.
const READ_BYTES: usize = 16 * 1024;

/// The thread. When it is dropped, the command under way is ended, and nothing is told of it.
#[derive(Debug)]
pub struct Runner {
    jobs: Option<Sender<Job>>,
    results: Receiver<Finished>,
    /// Closed to say: stop.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// A runner that wakes `waker` whenever a command has ended.
    ///
    /// # Errors
    /// When the system gives no thread or pipe.
    pub fn start(waker: Arc<Waker>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        // One at a time: the next is handed in when the one before has been told of.
        let (jobs, todo) = bounded::<Job>(1);
        let (done, results) = bounded(1);
        let work = move || {
            for job in todo {
                let Some(finished) = run(&job, &stopped) else {
                    return;
                };
                if done.send(finished).is_err() {
                    return;
                }
                // Fails only when the loop is gone.
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
            thread: Some(thread),
        })
    }

    /// Runs a command. The one before must have been told of.
    pub fn run(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The channel has room, since the one before has ended; and its thread lives as long as we.
            let sent = jobs.try_send(job);
            debug_assert!(sent.is_ok(), "two commands at once");
        }
    }

    /// A command that has ended.
    pub fn finished(&self) -> Option<Finished> {
        self.results.try_recv().ok()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.jobs = None;
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// Runs one command to its end. Nothing when it was told to stop.
fn run(job: &Job, stopped: &PipeReader) -> Option<Finished> {
    let begun = Instant::now();
    let ended = match spawn(job) {
        Ok((child, output)) => watch(child, output, job.time.into(), stopped),
        Err(ended) => Ok(Some(ended)),
    };
    let ended = match ended {
        Ok(ended) => ended?,
        Err(error) => Ended::reason(REFUSED, &format!("it could not be watched: {error}")),
    };
    Some(Finished {
        exit: ended.exit,
        seconds: begun.elapsed().as_secs_f64(),
        output: ended.output.bytes,
        truncated: ended.output.truncated,
    })
}

/// What became of a command.
struct Ended {
    exit: i32,
    output: Output,
}

impl Ended {
    fn reason(exit: i32, why: &str) -> Self {
        let mut output = Output::default();
        output.say(why);
        Self { exit, output }
    }
}

/// The beginning of what a command put out.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Output {
    fn push(&mut self, more: &[u8]) {
        let room = AGENT_OUTPUT_BYTES_MAX - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        self.truncated |= more.len() > room;
    }

    /// Adds a line of our own, for which there is always room.
    fn say(&mut self, why: &str) {
        let line = format!("anthill: {why}\n");
        let room = AGENT_OUTPUT_BYTES_MAX - line.len();
        self.truncated |= self.bytes.len() > room;
        self.bytes.truncate(room);
        if self.bytes.last().is_some_and(|last| *last != b'\n') && self.bytes.len() < room {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(line.as_bytes());
    }
}

/// Starts a command, with one pipe for all it puts out.
fn spawn(job: &Job) -> Result<(Child, PipeReader), Ended> {
    let Some((program, arguments)) = job.words.split_first() else {
        return Err(Ended::reason(NOT_FOUND, "there is no command"));
    };
    let path =
        find(program).ok_or_else(|| Ended::reason(NOT_FOUND, &format!("{program}: not found")))?;
    let start = || {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        let child = Command::new(path)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        Ok((child, reader))
    };
    start().map_err(|error: io::Error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => REFUSED,
        };
        Ended::reason(exit, &format!("{program}: {error}"))
    })
}

/// The file of a program: a bare name is looked up, a path stands for itself.
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

/// Why a command is no longer waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Ended,
    TimedOut,
    Stopped,
}

/// Reads what a command puts out until it has ended, by itself or by us.
fn watch(
    mut child: Child,
    reader: PipeReader,
    time: Duration,
    stopped: &PipeReader,
) -> io::Result<Option<Ended>> {
    let mut command = Watched::new(&child, reader);
    // A time that no clock holds never ends.
    let over = command.follow(Instant::now().checked_add(time), Some(stopped))?;
    if over != Over::Ended {
        command.signal(Signal::TERM);
        command.follow(
            Instant::now().checked_add(Duration::from_millis(AGENT_KILL_MS)),
            None,
        )?;
        // The group is signalled before its leader is waited for, so that its number is still its own.
        command.signal(Signal::KILL);
    }
    let status = child.wait()?;
    let mut output = command.output;
    let exit = match over {
        Over::Stopped => return Ok(None),
        Over::TimedOut => {
            output.say(&format!(
                "not ended within {} s, and killed",
                time.as_secs_f64()
            ));
            TIMED_OUT
        }
        Over::Ended => exit_of(status),
    };
    Ok(Some(Ended { exit, output }))
}

/// As shells tell it: 128 more for a signal.
fn exit_of(status: ExitStatus) -> i32 {
    let by_signal = status.signal().map(|signal| 128 + signal);
    status.code().or(by_signal).unwrap_or(REFUSED)
}

/// A command under way.
struct Watched {
    /// Also the number of its group.
    pid: Pid,
    /// Tells of its end, where the kernel can.
    end: Option<OwnedFd>,
    /// What it puts out; nothing more once all its writers are gone.
    reader: Option<PipeReader>,
    output: Output,
}

impl Watched {
    fn new(child: &Child, reader: PipeReader) -> Self {
        let pid = Pid::from_child(child);
        Self {
            pid,
            end: pidfd_open(pid, PidfdFlags::empty()).ok(),
            reader: Some(reader),
            output: Output::default(),
        }
    }

    /// Reads until the command has ended, or until `deadline`, or until told to stop. After an order
    /// to end (when there is nobody who could stop us) the end of its whole group is awaited.
    fn follow(
        &mut self,
        deadline: Option<Instant>,
        stopped: Option<&PipeReader>,
    ) -> io::Result<Over> {
        loop {
            let has_ended = self.has_ended()?;
            self.read()?;
            if has_ended && (stopped.is_some() || self.reader.is_none()) {
                return Ok(Over::Ended);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Over::TimedOut);
            }
            if self.wait(left, has_ended, stopped)? {
                return Ok(Over::Stopped);
            }
        }
    }

    /// Waits until something may have happened. Whether it is the order to stop.
    fn wait(
        &self,
        left: Option<Duration>,
        has_ended: bool,
        stopped: Option<&PipeReader>,
    ) -> io::Result<bool> {
        let reader = self.reader.as_ref().map(AsFd::as_fd);
        let end = self.end.as_ref().filter(|_| !has_ended).map(AsFd::as_fd);
        let watched = [stopped.map(AsFd::as_fd), reader, end];
        let mut polled: Vec<PollFd<'_>> = watched
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let left = match (self.end.is_some(), left) {
            (true, left) => left,
            (false, left) => Some(left.map_or(TICK, |left| left.min(TICK))),
        };
        // What is too long for the system to wait is waited for in pieces.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(stopped.is_some() && !polled[0].revents().is_empty())
    }

    /// Whether its process has ended. It is left to be waited for.
    fn has_ended(&self) -> io::Result<bool> {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), how)?.is_some())
    }

    /// Reads what is there, and no more than the pipe can hold several times over, so that a command
    /// that never stops writing cannot keep us from its deadline.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..64 {
            let Some(reader) = &mut self.reader else {
                return Ok(());
            };
            match reader.read(&mut buffer) {
                Ok(0) => self.reader = None,
                Ok(read) => self.output.push(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // There may be nobody left in the group.
        let _ = kill_process_group(self.pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn job(script: &str, time: Span) -> Job {
        let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Job { words, time }
    }

    fn run_it(job: &Job) -> Finished {
        let (stopped, _stop) = io::pipe().unwrap();
        run(job, &stopped).expect("nobody stops it")
    }

    fn sh(script: &str) -> Finished {
        run_it(&job(script, Span::from_secs(60)))
    }

    fn text(finished: &Finished) -> String {
        String::from_utf8(finished.output.clone()).unwrap()
    }

    #[test]
    fn exit_and_both_outputs_come_back_in_order() {
        let finished = sh("echo out; echo err >&2; echo out again; exit 3");
        assert_eq!((finished.exit, finished.truncated), (3, false));
        assert_eq!(text(&finished), "out\nerr\nout again\n");
        assert!(finished.seconds > 0.0);
        assert_eq!(sh("kill -9 $$").exit, 137);
    }

    #[test]
    fn nothing_of_our_environment_is_handed_on_and_there_is_no_input() {
        let finished = sh("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort; cat");
        assert_eq!(text(&finished), format!("LANG=C.UTF-8\nPATH={PATH}\n"));
    }

    #[test]
    fn a_program_is_looked_up_or_not_found_or_no_program() {
        let words = |words: &[&str]| Job {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            time: Span::from_secs(60),
        };
        let found = run_it(&words(&["echo", "$HOME *"]));
        assert_eq!((found.exit, text(&found)), (0, "$HOME *\n".to_owned()));
        for (program, exit) in [
            ("no-such-program-anywhere", NOT_FOUND),
            ("/no/such/program", NOT_FOUND),
            ("/etc/passwd", REFUSED),
            ("/etc", REFUSED),
        ] {
            let finished = run_it(&words(&[program]));
            assert_eq!(finished.exit, exit, "{program}");
            assert!(text(&finished).contains(program), "{program}");
        }
    }

    #[test]
    fn output_beyond_its_bound_is_read_and_dropped() {
        let finished = sh("head -c 3000000 /dev/zero; exit 5");
        assert_eq!((finished.exit, finished.truncated), (5, true));
        assert_eq!(finished.output.len(), AGENT_OUTPUT_BYTES_MAX);
        let just = sh(&format!("head -c {AGENT_OUTPUT_BYTES_MAX} /dev/zero"));
        assert_eq!((just.exit, just.truncated), (0, false));
    }

    #[test]
    fn out_of_time_the_whole_group_is_ended_even_if_it_does_not_listen() {
        let script = "trap '' TERM; echo $$; sleep 1000 & echo $!; yes > /dev/null";
        let finished = run_it(&job(script, Span::from_millis(300)));
        let out = text(&finished);
        assert_eq!(finished.exit, TIMED_OUT);
        assert!(
            out.ends_with("anthill: not ended within 0.3 s, and killed\n"),
            "{out}"
        );
        for pid in out.lines().take(2) {
            wait_until_gone(pid);
        }
    }

    /// A process of ours, or a zombie that whoever adopted it has not waited for.
    fn wait_until_gone(pid: &str) {
        let begun = Instant::now();
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while is_there() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{pid} is still there"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_left_in_the_background_is_not_waited_for() {
        let finished = sh("sleep 1000 & echo $!");
        assert_eq!(finished.exit, 0);
        let pid = text(&finished).trim().parse().unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).expect("it was left running");
    }

    #[test]
    fn a_flood_does_not_outlive_its_time() {
        // Far longer than so many bytes take, also on a busy machine.
        let finished = run_it(&job("yes", Span::from_secs(3)));
        assert_eq!((finished.exit, finished.truncated), (TIMED_OUT, true));
        assert_eq!(finished.output.len(), AGENT_OUTPUT_BYTES_MAX);
    }

    #[test]
    fn dropping_the_runner_ends_what_it_runs() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!(
            "echo $$ > {0}.new; mv {0}.new {0}; sleep 1000",
            file.display()
        );
        let runner = Runner::start(waker).unwrap();
        runner.run(job(&script, Span::from_secs(1000)));
        let begun = Instant::now();
        let pid = loop {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it does not start"
            );
            if let Ok(pid) = std::fs::read_to_string(&file) {
                break pid;
            }
            thread::sleep(Duration::from_millis(5));
        };
        drop(runner);
        wait_until_gone(pid.trim());
    }
}
