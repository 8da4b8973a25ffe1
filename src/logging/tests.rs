//! The log as a whole, without being the log of the process: real files, a real thread, and a
//! standard error that can be held up.

use std::fs;
use std::path::Path;

use log::Level;

use super::*;
use crate::limits::LOG_LINES_ALIKE_MAX;

/// A standard error to be read back.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Shown {
    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }
}

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that reports each write, and then waits for the test.
struct Gate {
    shown: Shown,
    entered: Sender<()>,
    open: Receiver<()>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the test has dropped its ends, the gate stays open.
        let _ = self.entered.send(());
        let _ = self.open.recv();
        self.shown.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log other than the process's, with a handle to write lines.
fn started(config: &Log, shown: &Shown) -> (Logging, Box<dyn log::Log>) {
    let (logging, sink) = spawn(config, 1_000, Box::new(shown.clone())).unwrap();
    (logging, dispatch(sink).into_log().1)
}

fn say(logger: &dyn log::Log, level: Level, target: &str, message: &str) {
    logger.log(
        &log::Record::builder()
            .level(level)
            .target(target)
            .args(format_args!("{message}"))
            .build(),
    );
}

fn to_file(path: &Path) -> Log {
    Log {
        file: Some(path.to_path_buf()),
        ..Log::default()
    }
}

/// The lines of a text without the time in front.
fn untimed(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest))
        .collect()
}

#[test]
fn a_line_goes_to_stderr_and_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let shown = Shown::default();
    let (logging, logger) = started(&to_file(&path), &shown);
    say(&*logger, Level::Info, "online", "10.0.0.7: from port 51234");
    say(
        &*logger,
        Level::Warn,
        "abnormal",
        "10.0.0.7: forged\n2026 ERROR",
    );
    logging.flush();
    let wanted = [
        "INFO  online 10.0.0.7: from port 51234",
        "WARN  abnormal 10.0.0.7: forged\\u{a}2026 ERROR",
    ];
    assert_eq!(untimed(&shown.text()), wanted);
    assert_eq!(fs::read_to_string(&path).unwrap(), shown.text());
}

#[test]
fn queued_lines_are_written_at_the_end() {
    let shown = Shown::default();
    let (logging, logger) = started(&Log::default(), &shown);
    for i in 0..500 {
        say(
            &*logger,
            Level::Info,
            "anthill::store",
            &format!("line {i}"),
        );
    }
    drop(logging);
    assert_eq!(shown.text().lines().count(), 500);
    assert!(shown.text().ends_with("line 499\n"));
}

#[test]
fn reopening_leaves_a_renamed_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("a.log"), dir.path().join("moved"));
    let (logging, logger) = started(&to_file(&path), &Shown::default());
    say(&*logger, Level::Info, "t", "one");
    logging.flush();
    fs::rename(&path, &moved).unwrap();
    logging.reopen();
    logging.flush();
    say(&*logger, Level::Info, "t", "two");
    logging.flush();
    assert_eq!(
        untimed(&fs::read_to_string(&moved).unwrap()),
        ["INFO  t one"]
    );
    assert_eq!(
        untimed(&fs::read_to_string(&path).unwrap()),
        ["INFO  t two"]
    );
}

#[test]
fn a_reload_replaces_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.log"), dir.path().join("b.log"));
    let (logging, logger) = started(&to_file(&first), &Shown::default());
    say(&*logger, Level::Info, "t", "one");
    logging.flush();
    *lock(&logging.shared.reload) = Some(Log {
        format: Format::Json,
        ..to_file(&second)
    });
    logging.wake();
    logging.flush();
    say(&*logger, Level::Info, "t", "two");
    logging.flush();
    assert_eq!(
        untimed(&fs::read_to_string(&first).unwrap()),
        ["INFO  t one"]
    );
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&second).unwrap()).unwrap();
    assert_eq!(
        (&json["level"], &json["message"]),
        (&"info".into(), &"two".into())
    );
}

/// Even where the thread finds the order and the lines around it together.
#[test]
fn a_line_keeps_the_format_it_was_logged_with() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.log"), dir.path().join("b.log"));
    let (entered, arrived) = bounded(100);
    let (let_through, open) = bounded(100);
    let gate = Gate {
        shown: Shown::default(),
        entered,
        open,
    };
    let (logging, sink) = spawn(&to_file(&first), 1_000, Box::new(gate)).unwrap();
    let (_, logger) = dispatch(sink).into_log();
    say(&*logger, Level::Info, "t", "one");
    arrived.recv().unwrap();
    say(&*logger, Level::Info, "t", "two");
    *lock(&logging.shared.reload) = Some(to_file(&second));
    logging.wake();
    say(&*logger, Level::Info, "t", "three");
    drop((arrived, let_through));
    drop(logging);
    let text = |path| fs::read_to_string(path).unwrap();
    assert_eq!(untimed(&text(first)), ["INFO  t one", "INFO  t two"]);
    assert_eq!(untimed(&text(second)), ["INFO  t three"]);
}

#[test]
fn an_unwritable_file_is_reported_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let shown = Shown::default();
    let (logging, logger) = started(&to_file(&dir.path().join("missing/a.log")), &shown);
    say(&*logger, Level::Info, "t", "one");
    logging.flush();
    let text = shown.text();
    assert!(text.contains("INFO  t one\n"), "{text}");
    assert!(
        text.contains("missing/a.log cannot be written: No such file"),
        "{text}"
    );
}

#[test]
fn repeated_lines_are_counted() {
    let shown = Shown::default();
    let (logging, logger) = started(&Log::default(), &shown);
    for i in 0..1_000 {
        say(
            &*logger,
            Level::Warn,
            "abnormal",
            &format!("10.0.0.7: length {i}"),
        );
        logging.flush();
    }
    drop(logging);
    let text = shown.text();
    let summary = "WARN  abnormal 10.0.0.7: … ";
    // A busy machine may have seen more than one window.
    let windows = untimed(&text)
        .iter()
        .filter(|line| line.starts_with(summary))
        .count();
    assert!(windows >= 1, "{text}");
    let written = text.lines().filter(|line| line.contains("length")).count();
    assert!(
        written <= (windows + 1) * LOG_LINES_ALIKE_MAX as usize,
        "{text}"
    );
    let counted: usize = untimed(&text)
        .iter()
        .filter_map(|line| {
            line.strip_prefix(summary)?
                .split(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum();
    assert_eq!(written + counted, 1_000);
}

#[test]
fn a_blocked_log_drops_and_counts_lines() {
    let shown = Shown::default();
    let (entered, arrived) = bounded(0);
    let (let_through, open) = bounded(0);
    let gate = Gate {
        shown: shown.clone(),
        entered,
        open,
    };
    let (logging, sink) = spawn(&Log::default(), 4, Box::new(gate)).unwrap();
    let logger = dispatch(sink).into_log().1;
    say(&*logger, Level::Info, "anthill::a", "first");
    arrived.recv().unwrap();
    // The thread is blocked in the gate with the first line; four fit the channel.
    for i in 0..10 {
        say(&*logger, Level::Info, "anthill::a", &format!("line {i}"));
    }
    assert_eq!(logging.shared.dropped.load(Ordering::Relaxed), 6);
    // With no room for the order, this must not wait either.
    logging.reopen();
    drop((arrived, let_through));
    drop(logging);
    let text = shown.text();
    assert_eq!(
        untimed(&text),
        [
            "INFO  anthill::a first",
            "INFO  anthill::a line 0",
            "INFO  anthill::a line 1",
            "INFO  anthill::a line 2",
            "INFO  anthill::a line 3",
            "WARN  log 6 lines were dropped: they came faster than written",
        ]
    );
}

#[test]
fn lines_of_the_log_itself_have_fields() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/a.log");
    let config = Log {
        format: Format::Json,
        ..to_file(&path)
    };
    let shown = Shown::default();
    let (logging, logger) = started(&config, &shown);
    for _ in 0..=LOG_LINES_ALIKE_MAX {
        say(&*logger, Level::Info, "online", "10.0.0.7: from port 51234");
    }
    drop(logging);
    let text = shown.text();
    assert!(text.contains(r#""lines":1,"host":"10.0.0.7""#), "{text}");
    let path = format!(r#""path":"{}""#, path.display());
    assert!(text.contains(&path), "{text}");
}
