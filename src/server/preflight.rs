//! Checks of a configuration before anything is created: directories, ports, the file of the log.
//!
//! A start checks the directories first, so that a failed one leaves nothing behind. `check-config`
//! checks everything.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use crate::config::{Config, LogFileKind, log_file_kind};
use crate::files;
use crate::reactor::error::BindError;
use crate::store::address::StoreUrl;
use crate::store::spool;

/// Time limit of an answer of a running server.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Tries what a server with this configuration needs, and changes nothing. Each problem is a line
/// that names the key. Ports do not count while a server runs with this configuration.
#[must_use]
pub fn preflight(config: &Config) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    let directories = [store_directory(config, true), spool_directory(config, true)];
    let failed = directories.into_iter().filter_map(Result::err);
    problems.extend(failed.map(|error| error.to_string()));
    problems.extend(config.log.file.as_deref().and_then(log_file));
    if !spool::is_in_use(&config.store.spool) {
        let ports: Vec<_> = ports(config).collect();
        // The spool of a running server is another directory if its path is relative.
        if !ports.is_empty() && !is_served(config.server.http) {
            problems.extend(ports);
        }
    }
    problems
}

/// Whether a server of this program answers at an address for HTTP.
fn is_served(mut addr: SocketAddr) -> bool {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let answer = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&addr, ANSWER_WAIT)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        // A part of it is enough.
        let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    answer().is_ok_and(|text| text.contains("\"hosts_online\":"))
}

/// Checks that the directories of the store and the spool exist or can be created.
///
/// # Errors
/// For the first that does not and cannot, or for a store that is not part of this build.
pub(super) fn directories(config: &Config) -> Result<(), BindError> {
    store_directory(config, false)?;
    spool_directory(config, false)
}

fn store_directory(config: &Config, is_checked: bool) -> Result<(), BindError> {
    if let StoreUrl::Embedded(dir) = &config.store.url {
        if !cfg!(feature = "embedded") {
            return Err(lacks_store(&config.store.url));
        }
        directory(dir, is_checked)
            .map_err(|why| BindError::Store(format!("{}: {why}", config.store.url)))?;
    }
    Ok(())
}

fn spool_directory(config: &Config, is_checked: bool) -> Result<(), BindError> {
    directory(&config.store.spool, is_checked)
        .map_err(|why| BindError::Spool(format!("{}: {why}", config.store.spool.display())))
}

/// The error of an embedded store in a build without one.
pub(super) fn lacks_store(url: &StoreUrl) -> BindError {
    BindError::Store(format!(
        "{url} is a store that this build does not have: it takes the crate's feature \"embedded\"; \
         without it, it may be redis://…"
    ))
}

/// Checks that files can be created in `dir`, or in the nearest existing directory above it, and
/// that no other user can write there. `is_checked`: by `check-config`.
fn directory(dir: &Path, is_checked: bool) -> Result<(), String> {
    let mut at = dir.to_path_buf();
    loop {
        match at.metadata() {
            Ok(found) if !found.is_dir() => {
                return Err(format!("{} is no directory", at.display()));
            }
            Ok(found) => {
                // Root may check for the user of the server, which then owns the directory.
                let is_others = is_checked && geteuid().is_root() && found.uid() != 0;
                if at == dir && !is_others {
                    files::check_own_directory(dir).map_err(|error| error.to_string())?;
                }
                return writable(&at, Access::WRITE_OK | Access::EXEC_OK);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if at.is_symlink() {
                    return Err(format!("{} is a link that leads nowhere", at.display()));
                }
                at = parent(&at);
            }
            Err(error) => return Err(format!("{}: {error}", at.display())),
        }
    }
}

/// Parent directory of `path`; at the end of a relative path the working directory.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn writable(path: &Path, wanted: Access) -> Result<(), String> {
    access(path, wanted).map_err(|error| {
        let error = io::Error::from(error);
        format!("{} cannot be written: {error}", path.display())
    })
}

fn log_file(given: &Path) -> Option<String> {
    let LogFileKind::Regular(path) = log_file_kind(given) else {
        return None;
    };
    let looked = match path.metadata() {
        Ok(found) if found.is_dir() => Err("it is a directory".to_owned()),
        Ok(_) => writable(&path, Access::WRITE_OK).and_then(|()| alone(given)),
        Err(_) => {
            let dir = parent(&path);
            match dir.is_dir() {
                true => {
                    writable(&dir, Access::WRITE_OK | Access::EXEC_OK).and_then(|()| alone(given))
                }
                false => Err(format!("there is no directory {}", dir.display())),
            }
        }
    };
    looked
        .err()
        .map(|why| format!("log.file: {}: {why}", path.display()))
}

/// Checks that no other user can replace the file of the log. Root may check for the user of the
/// server.
fn alone(path: &Path) -> Result<(), String> {
    let is_roots = parent(path).metadata().is_ok_and(|dir| dir.uid() == 0);
    match geteuid().is_root() && !is_roots {
        true => Ok(()),
        false => files::check_named_output(path).map_err(|why| format!("it {why}")),
    }
}

/// Addresses that cannot be bound now.
fn ports(config: &Config) -> impl Iterator<Item = String> {
    let tcp = |addr: SocketAddr| TcpListener::bind(addr).map(drop);
    let udp = |addr: SocketAddr| UdpSocket::bind(addr).map(drop);
    let server = &config.server;
    [
        ("server.tcp", server.tcp, tcp(server.tcp)),
        ("server.udp", server.udp, udp(server.udp)),
        ("server.http", server.http, tcp(server.http)),
    ]
    .into_iter()
    .filter_map(|(key, addr, bound)| {
        let source = bound.err()?;
        Some(BindError::Socket { key, addr, source }.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let mut config = Config::default();
        for addr in [
            &mut config.server.tcp,
            &mut config.server.udp,
            &mut config.server.http,
        ] {
            addr.set_port(0);
        }
        config.store.url = format!("embedded:{}", dir.join("data").display())
            .parse()
            .unwrap();
        config.store.spool = dir.join("spool");
        config
    }

    #[test]
    fn a_check_of_a_good_configuration_creates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.log.file = Some(dir.path().join("anthill.log"));
        if cfg!(feature = "embedded") {
            assert_eq!(preflight(&config), Vec::<String>::new());
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn each_problem_is_a_line_that_names_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        std::fs::write(dir.path().join("file"), "").unwrap();
        config.store.spool = dir.path().join("file/spool");
        config.log.file = Some(dir.path().join("missing/anthill.log"));
        let tcp = TcpListener::bind(config.server.tcp).unwrap();
        let udp = UdpSocket::bind(config.server.udp).unwrap();
        config.server.http = tcp.local_addr().unwrap();
        config.server.udp = udp.local_addr().unwrap();
        let problems = preflight(&config).join("\n");
        for words in [
            "store.",
            "log.file: ",
            "there is no directory",
            "server.http 127.0.0.1:",
            "server.udp 127.0.0.1:",
        ] {
            assert!(problems.contains(words), "{words} in {problems}");
        }
        assert!(!problems.contains("server.tcp"), "{problems}");
    }

    #[test]
    fn writable_directories_fail_before_creation() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        std::fs::create_dir(&config.store.spool).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&config.store.spool, open).unwrap();
        let problems = preflight(&config).join("\n");
        let error = crate::server::Server::bind(config).map(|_| ()).unwrap_err();
        if cfg!(feature = "embedded") {
            for why in [problems, error.to_string()] {
                assert!(why.contains("chmod go-w"), "{why}");
            }
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }
}
