use std::io::Read;

use rustix::process::Pid;

use super::*;
use crate::agent::allow::Place;
use crate::agent::core::TIMED_OUT;
use crate::limits::AGENT_OUTPUT_BYTES_MAX;
use crate::time::Span;

fn job(script: &str, time: Span) -> Job {
    let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Job {
        words,
        time,
        place: Place::default(),
    }
}

fn run_it(job: &Job) -> Finished {
    let (stopped, _stop) = io::pipe().unwrap();
    let (looks, _look) = io::pipe().unwrap();
    let orders = Orders {
        stopped,
        looks,
        cancelled: Arc::default(),
        number: 1,
    };
    run(job, &orders, &mut State::new(None)).expect("it is not stopped")
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
fn commands_get_a_clean_environment() {
    let finished = sh("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort; cat");
    assert_eq!(text(&finished), format!("LANG=C.UTF-8\nPATH={PATH}\n"));
}

#[test]
fn programs_are_looked_up() {
    let words = |words: &[&str]| Job {
        place: Place::default(),
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
fn a_timeout_kills_the_process_group() {
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

/// Waits for the end of a process. A zombie that its adopter has not reaped has ended, too.
fn wait_until_gone(pid: &str) {
    let runs = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    // If the command was killed before it printed its number, the line is no number.
    if let Some(process) = pid.parse().ok().and_then(Process::of) {
        wait_for_end(&[process], Duration::from_secs(60));
    }
    assert!(!runs(), "{pid} is still there");
}

#[test]
fn a_timeout_kills_processes_in_other_sessions() {
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
fn a_command_with_a_nul_is_refused_in_words() {
    let finished = sh("echo a\0b");
    assert_eq!(finished.exit, REFUSED);
    let out = text(&finished);
    assert!(
        out.contains("the character NUL") && !out.contains("data"),
        "{out}"
    );
}

#[test]
fn leftovers_of_a_killed_runner_are_ended() {
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
    State::new(Some(dir.path().to_owned())).end_leftovers();
    let pid = String::from_utf8(line).unwrap();
    wait_until_gone(pid.trim());
    child.wait().unwrap();
    assert!(note.left().is_none());
}

#[test]
fn background_processes_are_not_awaited() {
    let finished = sh("sleep 1000 & echo $!");
    assert_eq!(finished.exit, 0);
    let pid = text(&finished).trim().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).expect("it was left running");
}

#[test]
fn endless_output_ends_at_the_timeout() {
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
    let mut runner = Runner::start(waker, None).unwrap();
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
        // Nothing reports that a command has written its file.
        thread::sleep(Duration::from_millis(5));
    };
    drop(runner);
    wait_until_gone(pid.trim());
}

#[test]
fn a_cancelled_command_ends_and_the_next_one_runs() {
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let mut runner = Runner::start(waker, None).unwrap();
    let finished = |runner: &Runner| {
        runner
            .results
            .recv_timeout(Duration::from_secs(60))
            .unwrap()
    };
    for _ in 0..3 {
        runner.run(job("sleep 1000 & sleep 1000", Span::from_secs(1000)));
        runner.cancel();
        let ended = finished(&runner);
        assert_eq!(ended.exit, 143, "{}", text(&ended));
        assert_eq!(text(&ended), "anthill: cancelled\n");
        // Too late: the command has ended.
        runner.cancel();
        runner.run(job("echo next", Span::from_secs(60)));
        assert_eq!(finished(&runner).exit, 0);
    }
}

/// A job of the shell in this place.
fn placed(script: &str, place: Place) -> Job {
    Job {
        place,
        ..job(script, Span::from_secs(60))
    }
}

#[test]
fn a_command_runs_in_its_directory_with_its_environment() {
    let dir = tempfile::tempdir().unwrap();
    let cwd = dir.path().canonicalize().unwrap().display().to_string();
    let place = Place {
        cwd: Some(cwd.clone()),
        env: vec![
            ("A".to_owned(), "one two".to_owned()),
            ("LANG".to_owned(), "C".to_owned()),
        ],
        ..Place::default()
    };
    let finished = run_it(&placed("pwd; echo \"$A:$LANG:$HOME\"", place));
    let output = String::from_utf8(finished.output).unwrap();
    assert_eq!((finished.exit, output), (0, format!("{cwd}\none two:C:\n")));
    let place = Place {
        cwd: Some(format!("{cwd}/none")),
        ..Place::default()
    };
    let finished = run_it(&placed("pwd", place));
    let output = String::from_utf8(finished.output).unwrap();
    assert_eq!(finished.exit, REFUSED);
    assert!(output.contains("is no directory"), "{output}");
}

#[test]
fn a_command_runs_as_its_user() {
    let own = rustix::process::geteuid();
    let place = |user: &str| Place {
        user: Some(user.to_owned()),
        ..Place::default()
    };
    let finished = run_it(&placed("id -u", place(&own.as_raw().to_string())));
    let output = String::from_utf8(finished.output).unwrap();
    assert_eq!((finished.exit, output), (0, format!("{}\n", own.as_raw())));
    // A root agent switches the user and drops its groups. Another agent refuses the command.
    let finished = run_it(&placed("id -u; id -G", place("daemon")));
    let output = String::from_utf8(finished.output).unwrap();
    match own.is_root() {
        true => assert_eq!((finished.exit, &*output), (0, "1\n1\n")),
        false => assert!(output.contains("needs an agent of root"), "{output}"),
    }
    let finished = run_it(&placed("id", place("no-such-user")));
    let output = String::from_utf8(finished.output).unwrap();
    assert_eq!(finished.exit, REFUSED);
    assert!(output.contains("no-such-user"), "{output}");
}
