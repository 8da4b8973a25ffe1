//! Commands, run one at a time on a thread of their own, so that the agent goes on beating.
//!
//! ```text
//!  loop ── Job ──▶ runner ── fork, exec ──▶ command, in a process group of its own
//!    ▲               │  ▲ stdout and stderr, one pipe ──┘
//!    └── Finished ───┘  └ its end (pidfd) · its time · the order to stop
//! ```
//!
//! A command has ended when its own process has: what it left running in the background keeps the pipe
//! open and is not waited for. Out of time, or told to stop, all of its processes are ended, also those
//! that have left its process group: see `agent::tree`. Every step of that has a bound, so that
//! nothing a command does, and nothing that holds its pipe open, keeps the runner.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::Waker;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::allow::Job;
use super::core::{Finished, NOT_FOUND, REFUSED, TIMED_OUT};
use super::output::Output;
use super::tree::{
    Cgroup, Earlier, Note, Process, Tree, reap_orphans, remove_empty_groups, wait_for_end,
};
use crate::limits::{AGENT_KILL_MS, AGENT_PROCESS_LOOK_MS_MAX};

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
/// Longest wait for a dropped runner: both signals, and the start of a command in between.
const STOP_TIME: Duration = Duration::from_millis(3 * AGENT_KILL_MS);
/// Bytes of output read at once.
const READ_BYTES: usize = 16 * 1024;

/// The runner thread. Dropping it kills the running command without a report.
#[derive(Debug)]
pub struct Runner {
    jobs: Option<Sender<Job>>,
    results: Receiver<Finished>,
    /// Closed to say: stop.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// A runner that wakes `waker` whenever a command has ended. In `state` it writes down what it runs;
    /// what a runner before it has left running there is ended first.
    ///
    /// # Errors
    /// When the system gives no thread or pipe.
    pub fn start(waker: Arc<Waker>, state: Option<PathBuf>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        // One job at a time: the next is sent after the result of the one before.
        let (jobs, todo) = bounded::<Job>(1);
        let (done, results) = bounded(1);
        let mut place = Place::new(state);
        let work = move || {
            place.end_leftovers();
            while let Some(job) = next(&todo) {
                let Some(finished) = run(&job, &stopped, &mut place) else {
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

    /// Runs a command. The result of the command before must have been received.
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
        let Some(thread) = self.thread.take() else {
            return;
        };
        // The thread's end closes the channel. One that hangs in the system, as on a dead network disk, is
        // left behind.
        let deadline = Instant::now() + STOP_TIME;
        loop {
            match self.results.recv_deadline(deadline) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // One that panicked has said so itself.
                    let _ = thread.join();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => return,
            }
        }
    }
}

/// The next command. Meanwhile orphans of earlier ones are waited for.
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

/// State of a runner beside its commands.
struct Place {
    note: Note,
    /// The number of the next command.
    number: u64,
}

impl Place {
    fn new(state: Option<PathBuf>) -> Self {
        Self {
            note: Note::new(state),
            number: 0,
        }
    }

    /// Ends what an agent that was killed has left running: it has been reported lost.
    fn end_leftovers(&mut self) {
        remove_empty_groups();
        let Some(mut left) = self.note.left() else {
            return;
        };
        if !left.look().is_empty() {
            let processes = left.known().len();
            log::warn!(
                target: "agent", processes = processes;
                "a command that an earlier agent left running is ended"
            );
            if !end(&mut left, || Ok(())).unwrap_or(false) {
                let processes = left.look().len();
                log::error!(target: "agent", processes = processes; "{processes} of its processes cannot be ended");
            }
        }
        self.note.clear();
    }
}

/// Ends all processes of a command: they are asked to, and then killed. Whether all have ended.
fn end(tree: &mut Tree, mut meanwhile: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
    for signal in [Signal::TERM, Signal::KILL] {
        let deadline = Instant::now() + KILL_TIME;
        tree.signal(signal);
        // A stopped process takes the first signal only when it goes on.
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
                // Some may have been started meanwhile.
                tree.signal(signal);
            }
        }
    }
    Ok(false)
}

/// Runs one command to its end; `None` if the runner is stopped.
fn run(job: &Job, stopped: &PipeReader, place: &mut Place) -> Option<Finished> {
    let begun = Instant::now();
    let ended = match spawn(job, place) {
        Ok(watched) => watch(watched, job.time.into(), stopped, &mut place.note),
        Err(ended) => Ok(Some(ended)),
    };
    place.note.clear();
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

/// End of a command.
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

/// Starts a command, in a session of its own, with one pipe for all it puts out.
fn spawn(job: &Job, place: &mut Place) -> Result<Watched, Ended> {
    let Some((program, arguments)) = job.words.split_first() else {
        return Err(Ended::reason(NOT_FOUND, "there is no command"));
    };
    let path =
        find(program).ok_or_else(|| Ended::reason(NOT_FOUND, &format!("{program}: not found")))?;
    let earlier = Earlier::look();
    place.number += 1;
    let (cgroup, procs) = Cgroup::make(place.number).unzip();
    if let Some(cgroup) = &cgroup {
        place.note.write(Some(cgroup.dir()), &HashSet::new());
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
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        // SAFETY: between fork and exec the closure only makes system calls that are safe in a signal
        // handler; it takes no memory and no lock.
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
            place.note.write(tree.cgroup(), tree.known());
            Ok(Watched::new(child, reader, tree))
        }
        Err(error) => {
            let error: io::Error = error;
            let exit = match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => REFUSED,
            };
            Err(Ended::reason(exit, &format!("{program}: {error}")))
        }
    }
}

/// In the new process, before it becomes the command: joins its cgroup and begins its session.
fn join(procs: Option<&File>) -> io::Result<()> {
    if let Some(procs) = procs {
        // Where the system does not let it, its processes are found one by one.
        let _ = rustix::io::write(procs, b"0");
    }
    rustix::process::setsid()?;
    Ok(())
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

/// Reason to stop waiting for a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Ended,
    TimedOut,
    Stopped,
}

/// Reads what a command puts out until it has ended, by itself or by us.
fn watch(
    mut command: Watched,
    time: Duration,
    stopped: &PipeReader,
    note: &mut Note,
) -> io::Result<Option<Ended>> {
    // A time that no clock holds never ends.
    let followed = command.follow(Instant::now().checked_add(time), stopped, note);
    let over = match followed {
        Ok(over) => over,
        Err(error) => {
            // It is not watched any more, so it must not run on.
            command.end()?;
            return Err(error);
        }
    };
    let all_gone = over == Over::Ended || command.end()?;
    let status = command.child.try_wait()?;
    let mut output = command.output;
    let exit = match (over, status) {
        (Over::Stopped, _) => return Ok(None),
        (Over::TimedOut, _) => {
            output.say(&format!(
                "not ended within {} s, and killed",
                time.as_secs_f64()
            ));
            if !all_gone {
                output.say("some of its processes cannot be killed");
            }
            TIMED_OUT
        }
        (Over::Ended, Some(status)) => exit_of(status),
        (Over::Ended, None) => REFUSED,
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
    child: Child,
    pid: Pid,
    tree: Tree,
    /// Tells of its end, where the kernel can.
    end: Option<OwnedFd>,
    /// The output pipe; `None` once all its writers are gone.
    reader: Option<PipeReader>,
    output: Output,
    /// Time of the next record of its processes, and the interval to the one after.
    next_look: Instant,
    look_every: Duration,
}

impl Watched {
    fn new(child: Child, reader: PipeReader, tree: Tree) -> Self {
        let pid = Pid::from_child(&child);
        Self {
            child,
            pid,
            tree,
            end: pidfd_open(pid, PidfdFlags::empty()).ok(),
            reader: Some(reader),
            output: Output::default(),
            next_look: Instant::now() + FIRST_LOOK,
            look_every: FIRST_LOOK,
        }
    }

    /// Reads until the command has ended, or until `deadline`, or until told to stop.
    fn follow(
        &mut self,
        deadline: Option<Instant>,
        stopped: &PipeReader,
        note: &mut Note,
    ) -> io::Result<Over> {
        loop {
            let has_ended = self.has_ended()?;
            self.read()?;
            if has_ended {
                return Ok(Over::Ended);
            }
            let now = Instant::now();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Over::TimedOut);
            }
            if now >= self.next_look {
                self.tree.look();
                note.write(self.tree.cgroup(), self.tree.known());
                let most = Duration::from_millis(AGENT_PROCESS_LOOK_MS_MAX);
                self.look_every = (2 * self.look_every).min(most);
                self.next_look = now + self.look_every;
            }
            let look = self.next_look.saturating_duration_since(now);
            if self.wait(left.map_or(look, |left| left.min(look)), stopped)? {
                return Ok(Over::Stopped);
            }
        }
    }

    /// Ends all of it, and reads on meanwhile. Whether all of it has ended.
    fn end(&mut self) -> io::Result<bool> {
        let Self {
            tree,
            reader,
            output,
            ..
        } = self;
        end(tree, || read(reader, output))
    }

    /// Waits until something may have happened. Whether it is the order to stop.
    fn wait(&self, left: Duration, stopped: &PipeReader) -> io::Result<bool> {
        let reader = self.reader.as_ref().map(AsFd::as_fd);
        let end = self.end.as_ref().map(AsFd::as_fd);
        let watched = [Some(stopped.as_fd()), reader, end];
        let mut polled: Vec<PollFd<'_>> = watched
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let left = match self.end {
            Some(_) => left,
            None => left.min(TICK),
        };
        let left = Timespec::try_from(left).ok();
        match poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(!polled[0].revents().is_empty())
    }

    /// Returns whether the process has ended. It stays a zombie until it is waited for.
    fn has_ended(&self) -> io::Result<bool> {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), how)?.is_some())
    }

    fn read(&mut self) -> io::Result<()> {
        read(&mut self.reader, &mut self.output)
    }
}

/// Reads what is there, and no more than the pipe can hold several times over, so that a command
/// that never stops writing cannot keep us from its deadline.
fn read(pipe: &mut Option<PipeReader>, output: &mut Output) -> io::Result<()> {
    let mut buffer = [0; READ_BYTES];
    for _ in 0..64 {
        let Some(reader) = pipe else {
            return Ok(());
        };
        match reader.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => output.push(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::AGENT_OUTPUT_BYTES_MAX;
    use crate::time::Span;

    fn job(script: &str, time: Span) -> Job {
        let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Job { words, time }
    }

    fn run_it(job: &Job) -> Finished {
        let (stopped, _stop) = io::pipe().unwrap();
        run(job, &stopped, &mut Place::new(None)).expect("nobody stops it")
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
        assert!(finished.output.len() <= AGENT_OUTPUT_BYTES_MAX);
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

    /// Waits for a process of ours, or a zombie that its adopter has not reaped.
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
    fn out_of_time_what_has_left_its_group_and_session_is_ended_too() {
        // The second `sleep` is in a session of its own, and holds the pipe open.
        let script = "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait";
        let finished = run_it(&job(script, Span::from_millis(500)));
        assert_eq!(finished.exit, TIMED_OUT);
        let out = text(&finished);
        for pid in out.lines().take(2) {
            wait_until_gone(pid);
        }
    }

    #[test]
    fn a_stopped_command_ends_with_its_time() {
        let finished = run_it(&job("echo $$; kill -STOP $$", Span::from_millis(300)));
        assert_eq!(finished.exit, TIMED_OUT);
        let out = text(&finished);
        wait_until_gone(out.lines().next().unwrap());
    }

    #[test]
    fn what_a_killed_runner_left_running_is_ended_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "setsid sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = Vec::new();
        let mut stdout = child.stdout.take().unwrap();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let root = Process::of(i32::try_from(child.id()).unwrap());
        let mut note = Note::new(Some(dir.path().to_owned()));
        note.write(None, &root.into_iter().collect());
        Place::new(Some(dir.path().to_owned())).end_leftovers();
        let pid = String::from_utf8(line).unwrap();
        wait_until_gone(pid.trim());
        child.wait().unwrap();
        assert!(note.left().is_none());
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
        let text = String::from_utf8(finished.output).unwrap();
        assert!(text.len() <= AGENT_OUTPUT_BYTES_MAX);
        assert!(text.contains("bytes are missing here]\n"));
        assert!(text.ends_with("y\nanthill: not ended within 3 s, and killed\n"));
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
        let runner = Runner::start(waker, None).unwrap();
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
