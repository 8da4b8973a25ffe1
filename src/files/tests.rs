use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

const MAX: u64 = 100;

fn file(dir: &Path, bytes: &[u8], mode: u32) -> PathBuf {
    let path = dir.join("a file");
    fs::write(&path, bytes).unwrap();
    chmod(&path, mode);
    path
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn why(path: &Path, guard: Guard) -> String {
    read_text(path, MAX, guard).unwrap_err().to_string()
}

#[test]
fn text_is_utf8_without_a_byte_order_mark() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes, wanted) in [
        (&b"\xef\xbb\xbf[]\r\n"[..], Ok("[]\r\n")),
        (b"\xef\xbb\xbf", Ok("")),
        (b"", Ok("")),
        (b"a\xef\xbb\xbfb", Ok("a\u{feff}b")),
        (b"ab\xffc", Err("is not UTF-8 (at byte 2)")),
        (b"\xef\xbb", Err("is not UTF-8 (at byte 0)")),
        (
            b"\xff\xfea\0",
            Err("is not UTF-8 (at byte 0): it is UTF-16"),
        ),
    ] {
        let path = file(dir.path(), bytes, 0o644);
        let got = read_text(&path, MAX, Guard::Trusted);
        let got = got.map(|read| read.text).map_err(|error| error.to_string());
        assert_eq!(got, wanted.map(str::to_owned).map_err(str::to_owned));
    }
    let path = file(dir.path(), &[b'a'; 101], 0o644);
    assert_eq!(why(&path, Guard::None), "has more than 100 bytes");
}

#[test]
fn a_file_writable_by_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), b"x", 0o644);
    let name = format!("'{}'", path.display());
    for (mode, guard, command) in [
        (0o644, Guard::Trusted, None),
        (0o600, Guard::Secret, None),
        (0o640, Guard::Secret, None),
        (0o666, Guard::None, None),
        (0o666, Guard::Trusted, Some("chmod go-w")),
        (0o664, Guard::Trusted, Some("chmod go-w")),
        (0o664, Guard::Shared, None),
        (0o646, Guard::Shared, Some("chmod o-w")),
        (0o644, Guard::Secret, Some("chmod o=")),
        (0o666, Guard::Secret, Some("chmod g-w,o=")),
        (0o660, Guard::Secret, Some("chmod go-w")),
    ] {
        chmod(&path, mode);
        let got = read_text(&path, MAX, guard).map(|_| ());
        let got = got.map_err(|error| error.to_string()).err();
        let fits = |command: &str| {
            let end = format!("{command} {name}");
            got.as_ref().is_some_and(|got| got.ends_with(&end))
        };
        assert!(command.map_or(got.is_none(), fits), "{mode:o}: {got:?}");
    }
    chmod(&path, 0o644);
    chmod(dir.path(), 0o777);
    assert!(why(&path, Guard::Trusted).contains("chmod o-w"));
    chmod(dir.path(), 0o1777);
    assert!(read_text(&path, MAX, Guard::Trusted).is_ok());
    chmod(dir.path(), 0o700);
}

#[test]
fn devices_and_our_own_links_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let null = Path::new("/dev/null");
    assert_eq!(read_text(null, MAX, Guard::Secret).unwrap().text, "");
    assert_eq!(check_named_output(null), Ok(()));
    let path = file(dir.path(), b"x", 0o644);
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(read_text(&link, MAX, Guard::Trusted).unwrap().text, "x");
    chmod(&path, 0o666);
    assert!(why(&link, Guard::Trusted).contains("chmod go-w"));
    assert!(check_named_output(&link).is_err());
}

#[test]
fn files_of_another_user_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), b"x", 0o644);
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
        eprintln!("not tested: giving a file to another user needs root");
        return;
    }
    for guard in [Guard::Trusted, Guard::Secret] {
        chmod(&path, 0o640);
        let why = why(&path, guard);
        assert!(
            why.contains("user 12345") && why.contains("chown root"),
            "{why}"
        );
    }
    assert!(read_text(&path, MAX, Guard::Shared).is_ok());
    assert!(open_own(&path, OpenOptions::new().read(true)).is_err());
    let link = dir.path().join("link");
    symlink("/dev/null", &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
    assert!(why(&link, Guard::Trusted).contains("link of user 12345"));
    assert!(check_named_output(&link).is_err());
    std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
    assert!(own_directory(dir.path()).is_err());
}

#[test]
fn the_way_to_a_file_is_checked_up_to_the_root() {
    use std::os::unix::fs::{chown, lchown};
    let top = tempfile::tempdir().unwrap();
    let (outer, inner) = (top.path().join("outer"), top.path().join("outer/inner"));
    fs::create_dir_all(&inner).unwrap();
    let path = file(&inner, b"x", 0o644);
    let wanted = |command: &str| {
        for got in [
            why(&path, Guard::Trusted),
            own_directory(&inner.join("new")).unwrap_err().to_string(),
        ] {
            assert!(
                got.ends_with(&format!("{command} {}", outer.display())),
                "{got}"
            );
        }
        assert!(!inner.join("new").exists());
    };
    chmod(&outer, 0o757);
    wanted("chmod o-w");
    assert!(check_named_output(&inner.join("log")).is_err());
    chmod(&outer, 0o1777);
    assert!(read_text(&path, MAX, Guard::Trusted).is_ok());
    if chown(&outer, None, Some(12_345)).is_err() {
        eprintln!("not tested: giving a directory to another user needs root");
        return;
    }
    chmod(&outer, 0o775);
    wanted("chmod g-w");
    assert_eq!(check_named_output(&inner.join("log")), Ok(()));
    chown(&outer, Some(12_345), Some(0)).unwrap();
    for mode in [0o755, 0o1755] {
        chmod(&outer, mode);
        wanted("run anthill as that user, or chown root");
        assert!(check_named_output(&inner.join("log")).is_err());
    }
    let link = top.path().join("link");
    symlink(&outer, &link).unwrap();
    chown(&outer, Some(0), None).unwrap();
    let through = link.join("inner").join("../inner/a file");
    assert_eq!(read_text(&through, MAX, Guard::Trusted).unwrap().text, "x");
    lchown(&link, Some(12_345), None).unwrap();
    let why = why(&through, Guard::Trusted);
    assert!(why.ends_with(&format!("rm {}", link.display())), "{why}");
}

/// Calls `act` on a thread of its own; fails if it does not return.
fn returns<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, returned) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(act()));
    let got = returned.recv_timeout(std::time::Duration::from_secs(20));
    got.expect("it waits for another process")
}

fn make_pipe(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn special_files_are_refused_without_a_wait() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    make_pipe(&at("pipe"));
    symlink("pipe", at("link")).unwrap();
    symlink("link", at("second")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    // A writer that stays silent.
    let mut options = OpenOptions::new();
    let _writer = options.read(true).write(true).open(at("pipe")).unwrap();
    for (name, wanted) in [
        ("pipe", "a named pipe"),
        ("link", "a named pipe"),
        ("second", "a named pipe"),
        ("socket", "a socket"),
        ("directory", "a directory"),
    ] {
        for guard in [Guard::None, Guard::Shared, Guard::Trusted, Guard::Secret] {
            let path = at(name);
            let got = returns(move || read_text(&path, MAX, guard).map(|read| read.text));
            let got = got.unwrap_err().to_string();
            assert_eq!(got, format!("is {wanted}, and must be a regular file"));
        }
    }
}

#[test]
fn an_inherited_pipe_is_read_to_its_end() {
    use std::os::fd::AsRawFd;
    let (reader, mut writer) = io::pipe().unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    std::thread::spawn(move || {
        for part in [&b"[\"up"[..], b"time\"]"] {
            std::thread::sleep(std::time::Duration::from_millis(20));
            io::Write::write_all(&mut writer, part).unwrap();
        }
    });
    let got = returns(move || read_text(&path, MAX, Guard::None).map(|read| read.text));
    assert_eq!(got.unwrap(), "[\"uptime\"]");
    drop(reader);
}

#[test]
fn a_planted_pipe_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("lock");
    make_pipe(&pipe);
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let write = open_own(&pipe, OpenOptions::new().create(true).append(true));
        done.send(read_own(&pipe).map(|_| ())).unwrap();
        done.send(write.map(|_| ())).unwrap();
    });
    for _ in 0..2 {
        let got = told.recv_timeout(std::time::Duration::from_secs(20));
        let error = got.expect("it waits for the pipe").unwrap_err();
        assert!(
            error.to_string().contains("no regular file: rm "),
            "{error}"
        );
    }
}

#[test]
fn planted_links_in_the_state_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let victim = file(dir.path(), b"precious", 0o600);
    let own = dir.path().join("own");
    own_directory(&own).unwrap();
    assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
    let planted = own.join("journal.new");
    symlink(&victim, &planted).unwrap();
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    let error = open_own(&planted, &options).unwrap_err().to_string();
    assert!(
        error.contains("is a link") && error.contains("rm "),
        "{error}"
    );
    assert!(read_own(&planted).is_err());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    for (mode, is_ours) in [
        (0o777, false),
        (0o775, false),
        (0o755, true),
        (0o1777, true),
    ] {
        chmod(&own, mode);
        let got = own_directory(&own);
        assert_eq!(got.is_ok(), is_ours, "{mode:o}");
        if let Err(error) = got {
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    }
}

#[test]
fn what_is_no_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, link) = (dir.path().join("pipe"), dir.path().join("link"));
    make_pipe(&pipe);
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for path in [file(dir.path(), b"", 0o600), pipe, link] {
        let why = own_directory(&path).unwrap_err().to_string();
        assert_eq!(why, format!("{} is no directory", path.display()));
    }
}
