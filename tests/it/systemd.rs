//! The service manager, simulated by the test: notifications, watchdog, inherited sockets.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;

use super::support::server::{Server, program_path, run};
use super::support::{BEAT_ASKING, Home, Host, PATIENCE, until, until_so};

/// The socket that the program notifies.
struct Manager(UnixDatagram);

impl Manager {
    fn of(home: &mut Home) -> Self {
        let path = home.path().join("notify");
        home.environment("NOTIFY_SOCKET", path.to_str().unwrap());
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a notification");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn until(&self, line: &str) {
        until_so(line, || self.next().lines().any(|told| told == line));
    }
}

#[test]
fn every_state_is_reported_to_the_service_manager() {
    let mut home = Home::embedded();
    let manager = Manager::of(&mut home);
    let mut server = home.start();
    assert_eq!(manager.next(), "READY=1\n");
    assert_eq!(manager.next(), "STATUS=0 hosts online\n");
    let _host = Host::online(server.tcp, "127.0.8.1");
    manager.until("STATUS=1 host online");
    server.signal(Signal::HUP);
    let reloading = until("RELOADING", || {
        Some(manager.next()).filter(|told| told.starts_with("RELOADING=1\nMONOTONIC_USEC="))
    });
    let since = reloading.trim().rsplit('=').next().unwrap();
    assert!(since.parse::<u64>().unwrap() > 0);
    manager.until("READY=1");
    server.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn the_watchdog_is_fed_without_waiting() {
    let mut home = Home::embedded();
    let manager = Manager::of(&mut home);
    home.environment("WATCHDOG_USEC", "2000");
    let server = home.start();
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    // From now on nothing is read: the socket is full after a few hundred messages.
    let turns = || server.metric("anthill_turns_total");
    let before = turns();
    until_so("a thousand turns", || turns() > before + 1_000);
    // A stopped loop feeds it no more.
    server.signal(Signal::STOP);
    manager.0.set_nonblocking(true).unwrap();
    let mut buffer = [0; 64];
    until_so("the queue is empty", || {
        manager.0.recv(&mut buffer).is_err()
    });
    server.signal(Signal::CONT);
    manager.0.set_nonblocking(false).unwrap();
    manager.until("WATCHDOG=1");
}

/// Starts the program with `sockets` as a service manager passes them.
fn activated(home: &Home, sockets: &[OwnedFd], names: &str) -> Server {
    home.write_config();
    Server::of(&mut activation(home.path(), sockets, names))
}

fn activation(dir: &Path, sockets: &[OwnedFd], names: &str) -> Command {
    // The numbers must be 3, 4, …, and LISTEN_PID the number of the process.
    let script = "import os, sys\n\
        given = sys.argv[2].split(',')\n\
        high = [os.dup(int(fd)) for fd in given]\n\
        high = [fd if fd > 9 else __import__('fcntl').fcntl(fd, 0, 10) for fd in high]\n\
        for number, fd in enumerate(high): os.dup2(fd, 3 + number)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)))\n\
        os.execv(sys.argv[1], [sys.argv[1]])";
    let numbers: Vec<String> = sockets
        .iter()
        .map(|fd| fd.as_raw_fd().to_string())
        .collect();
    for socket in sockets {
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
    }
    let mut command = Command::new("python3");
    command
        .args(["-c", script])
        .arg(program_path())
        .arg(numbers.join(","))
        .env("LISTEN_FDNAMES", names)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn inherited_sockets_outlast_a_restart() {
    let home = Home::embedded();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (at, web, datagrams) = (tcp.local_addr(), http.local_addr(), udp.local_addr());
    let sockets: [OwnedFd; 3] = [http.into(), udp.into(), tcp.into()];
    let server = activated(&home, &sockets, "http:udp:tcp");
    let bound = (server.tcp, server.udp, server.http);
    assert_eq!(bound, (at.unwrap(), datagrams.unwrap(), web.unwrap()));
    server.logged(&["sockets of the service manager: tcp", "udp", "http"]);
    drop(Host::online(server.tcp, "127.0.8.1"));
    let address = server.tcp;
    server.stop();
    // Nothing runs, and nothing is refused.
    let mut early = Host::connect(address, "127.0.8.2");
    early.say(BEAT_ASKING);
    TcpStream::connect(address).unwrap();
    let server = activated(&home, &sockets, "http:udp:tcp");
    until_so("the early host", || server.is_online("127.0.8.2"));
    server.stop();
}

#[test]
fn a_socket_without_a_use_ends_the_start() {
    let home = Home::embedded();
    home.write_config();
    let file = File::open(home.path().join("config.json")).unwrap();
    let sockets = [file.into()];
    let mut command = activation(home.path(), &sockets, "tcp");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("anthill: inherited socket 0 (\"tcp\"): "),
        "{text}"
    );
}

#[test]
fn health_is_status_0_or_1() {
    let home = Home::embedded();
    let server = home.start();
    let api = format!("http://{}", server.http);
    let healthy = run(home.path(), &["health", "--api", &api]);
    assert_eq!(healthy.status, Some(0), "{}", healthy.stderr);
    assert_eq!(healthy.stdout, "ok: store up, 0 hosts online\n");
    server.stop();
    let away = run(home.path(), &["health", "--api", &api]);
    assert_eq!(away.status, Some(1));
    assert!(
        away.stderr.starts_with("anthill: no server at "),
        "{}",
        away.stderr
    );
}
