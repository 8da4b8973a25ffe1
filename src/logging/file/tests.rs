use super::*;

struct Case {
    dir: tempfile::TempDir,
    file: LogFile,
    now: Instant,
    said: Vec<String>,
}

fn case(rotate_bytes: u64, keep: u32) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let file = LogFile::new(dir.path().join("a.log"), rotate_bytes, keep);
    Case {
        dir,
        file,
        now: Instant::now(),
        said: Vec::new(),
    }
}

impl Case {
    fn line(&mut self, line: &str) {
        self.file.line(line.as_bytes(), self.now, &mut self.said);
    }

    fn flush(&mut self) {
        self.file.flush(self.now, &mut self.said);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| format!("({:?})", e.kind()))
    }
}

#[test]
fn a_file_in_an_open_directory_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut case = case(0, 0);
    let dir = case.dir.path().to_owned();
    let open = |mode| {
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(0o777);
    case.line("one\n");
    case.flush();
    open(0o700);
    assert!(case.said[0].contains("chmod o-w"), "{:?}", case.said);
    assert_eq!(case.read("a.log"), "(NotFound)");
}

#[test]
fn files_move_up_and_the_last_one_goes() {
    let mut case = case(10, 2);
    for line in [
        "one\n",
        "two\n",
        "three\n",
        "four\n",
        "a long line of its own\n",
        "six\n",
    ] {
        case.line(line);
    }
    case.flush();
    assert_eq!(case.read("a.log"), "six\n");
    assert_eq!(case.read("a.log.1"), "a long line of its own\n");
    assert_eq!(case.read("a.log.2"), "four\n");
    assert_eq!(case.read("a.log.3"), "(NotFound)");
    assert_eq!(case.said, Vec::<String>::new());
}

#[test]
fn a_file_found_at_the_start_counts_and_is_kept() {
    let mut case = case(10, 1);
    fs::write(case.path("a.log"), "12345678\n").unwrap();
    case.line("9\n");
    case.flush();
    assert_eq!(
        (case.read("a.log"), case.read("a.log.1")),
        ("9\n".into(), "12345678\n".into())
    );
}

#[test]
fn zero_disables_keeping_and_rotation() {
    let mut none = case(6, 0);
    none.line("one\n");
    none.line("two\n");
    none.flush();
    assert_eq!(
        (none.read("a.log"), none.read("a.log.1")),
        ("two\n".into(), "(NotFound)".into())
    );

    let mut never = case(0, 3);
    for _ in 0..100 {
        never.line("line\n");
    }
    never.flush();
    assert_eq!(never.read("a.log").len(), 500);
}

#[test]
fn a_renamed_file_is_used_until_reopening() {
    let mut case = case(1_000, 1);
    case.line("one\n");
    case.flush();
    fs::rename(case.path("a.log"), case.path("moved")).unwrap();
    case.line("two\n");
    case.file.reopen(case.now, &mut case.said);
    case.line("three\n");
    case.flush();
    assert_eq!(
        (case.read("moved"), case.read("a.log")),
        ("one\ntwo\n".into(), "three\n".into())
    );
}

#[test]
fn an_unwritable_file_is_reported_once_and_retried() {
    let mut case = case(1_000, 1);
    case.file.path = case.path("missing").join("a.log");
    for line in ["one\n", "two\n"] {
        case.line(line);
        case.flush();
    }
    assert_eq!(case.said.len(), 1, "{:?}", case.said);
    assert!(
        case.said[0].contains("cannot be written: No such file"),
        "{:?}",
        case.said
    );

    fs::create_dir(case.path("missing")).unwrap();
    case.line("too soon\n");
    case.flush();
    case.now += RETRY;
    case.line("four\n");
    case.flush();
    assert_eq!(case.read("missing/a.log"), "four\n");
    assert!(
        case.said[1].ends_with("can be written again; it misses 3 lines"),
        "{:?}",
        case.said
    );
}

#[test]
fn a_full_disk_loses_only_lines_of_the_file() {
    let mut case = case(1_000, 1);
    case.file.path = PathBuf::from("/dev/full");
    case.line("one\n");
    case.flush();
    assert!(case.said[0].contains("No space left"), "{:?}", case.said);
    case.file.path = case.path("a.log");
    case.now += RETRY;
    case.line("two\n");
    case.flush();
    assert_eq!(case.read("a.log"), "two\n");
    assert!(
        case.said[1].ends_with("it misses 1 lines"),
        "{:?}",
        case.said
    );
}

#[test]
fn a_file_that_cannot_be_rotated_grows_on() {
    let mut case = case(6, 1);
    fs::create_dir(case.path("a.log.1")).unwrap();
    for line in ["one\n", "two\n", "3\n"] {
        case.line(line);
    }
    case.flush();
    assert_eq!(case.read("a.log"), "one\ntwo\n3\n");
    assert_eq!(case.said.len(), 1, "{:?}", case.said);
    fs::remove_dir(case.path("a.log.1")).unwrap();
    case.line("four\n");
    case.flush();
    assert_eq!(
        (case.read("a.log"), case.read("a.log.1")),
        ("four\n".into(), "one\ntwo\n3\n".into())
    );
}

/// A case whose file is a named pipe.
fn pipe_case(rotate_bytes: u64) -> Case {
    let case = case(rotate_bytes, 2);
    let path = case.path("a.log");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
    case
}

fn reader(path: &Path) -> File {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags).open(path).unwrap()
}

/// All that is in the pipe now.
fn drained(reader: &mut File) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = reader.read_to_end(&mut bytes);
    assert!(read.is_ok() || read.unwrap_err().kind() == io::ErrorKind::WouldBlock);
    String::from_utf8(bytes).unwrap()
}

fn kind(path: &Path) -> fs::FileType {
    fs::symlink_metadata(path).unwrap().file_type()
}

#[test]
fn a_device_is_never_rotated() {
    let mut case = case(6, 2);
    std::os::unix::fs::symlink("/dev/null", case.path("a.log")).unwrap();
    for _ in 0..10 {
        case.line("line\n");
        case.flush();
    }
    assert!(kind(&case.path("a.log")).is_symlink());
    assert_eq!(case.read("a.log.1"), "(NotFound)");
    assert_eq!(case.said, Vec::<String>::new());
}

#[test]
fn a_pipe_gets_whole_lines_without_rotation() {
    use std::os::unix::fs::FileTypeExt;
    let mut case = pipe_case(6);
    let mut reader = reader(&case.path("a.log"));
    for line in ["one\n", "two\n", "three\n"] {
        case.line(line);
        case.flush();
    }
    assert_eq!(drained(&mut reader), "one\ntwo\nthree\n");
    assert!(kind(&case.path("a.log")).is_fifo());
    assert_eq!(case.said, Vec::<String>::new());
}

#[test]
fn a_pipe_without_a_reader_holds_nothing_up() {
    let mut case = pipe_case(6);
    case.line("one\n");
    case.flush();
    assert!(
        case.said[0].contains("no process reads it"),
        "{:?}",
        case.said
    );
    let mut reader = reader(&case.path("a.log"));
    case.now += RETRY;
    case.line("two\n");
    case.flush();
    assert_eq!(drained(&mut reader), "two\n");
    assert!(
        case.said[1].ends_with("it misses 1 lines"),
        "{:?}",
        case.said
    );
}

#[test]
fn a_pipe_whose_reader_is_slow_loses_whole_lines() {
    let mut case = pipe_case(6);
    let mut reader = reader(&case.path("a.log"));
    let line = format!("{}\n", "x".repeat(99));
    for _ in 0..2_000 {
        case.line(&line);
        case.flush();
    }
    assert_eq!(case.said.len(), 1, "{:?}", case.said);
    let taken = drained(&mut reader);
    assert!(taken.split_inclusive('\n').all(|taken| taken == line));
    let lost = 2_000 - taken.lines().count();
    case.now += RETRY;
    case.line("behind\n");
    case.flush();
    assert_eq!(drained(&mut reader), "behind\n");
    let misses = format!("it misses {lost} lines");
    assert!(case.said[1].ends_with(&misses), "{:?}", case.said);
}

#[test]
fn rotation_follows_links_to_the_file() {
    let mut case = case(6, 1);
    std::os::unix::fs::symlink("real.log", case.path("a.log")).unwrap();
    for line in ["one\n", "two\n"] {
        case.line(line);
    }
    case.flush();
    assert!(kind(&case.path("a.log")).is_symlink());
    assert_eq!(
        (case.read("real.log"), case.read("real.log.1")),
        ("two\n".into(), "one\n".into())
    );
}
