//! The server as a library: bound, run on a thread, asked through its handle.
#![cfg(feature = "embedded")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anthill::config::Config;
use anthill::handlers::request::{ErrorKind, Request, Response};
use anthill::ids::HostId;
use anthill::store::address::StoreUrl;
use anthill::{
    DispatchError, DispatchSource, Event, EventKind, Events, Filter, Handle, HandleError,
};
use anthill::{Ready, ServeError, Server, TaskState};
use testkit::{PATIENCE, little, until_so};

const BEAT: &[u8] = br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","reply":true,"seq":7}"#;
const REPORT: &[u8] = br#"{"flag":"ADH33","RCC":1,"taskId":"AC1","answerTime":1.5,"reply":true}"#;

fn config(dir: &Path) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    (config.server.tcp, config.server.udp, config.server.http) = (any, any, any);
    config.store.url = StoreUrl::Embedded(dir.join("data"));
    config.store.spool = dir.join("spool");
    config
}

/// Work for all that are online.
struct Uptime;

impl DispatchSource for Uptime {
    fn ip_list(&self) -> Option<Vec<String>> {
        None
    }

    fn dis_commands(&self) -> Vec<(String, f64)> {
        vec![("uptime".to_owned(), 1.0)]
    }

    fn key(&self) -> String {
        "AC1".to_owned()
    }
}

/// A server on a thread of its own.
struct Running {
    handle: Handle,
    ready: Ready,
    thread: JoinHandle<Result<(), ServeError>>,
}

fn run(config: Config) -> Running {
    let server = Server::bind(config).unwrap();
    Running {
        handle: server.handle(),
        ready: server.ready().clone(),
        thread: std::thread::spawn(|| server.run()),
    }
}

impl Running {
    fn stop(self) {
        self.handle.shutdown();
        assert_eq!(self.thread.join().unwrap(), Ok(()));
        assert_eq!(self.handle.alive(&["a"]), Err(HandleError::Ended));
        let ended = Err(DispatchError::NoAnswer(HandleError::Ended));
        assert_eq!(self.handle.dispatch(&Uptime), ended);
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.ready.tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// Sends a message and reads the reply to it.
fn ask(stream: &mut TcpStream, body: &[u8]) -> String {
    stream.write_all(&little(body)).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; usize::try_from(i32::from_le_bytes(length)).unwrap()];
    stream.read_exact(&mut reply).unwrap();
    String::from_utf8(reply).unwrap()
}

fn next(events: &Events) -> Event {
    let event = events.recv_timeout(PATIENCE).unwrap();
    event.expect("an event comes in time")
}

#[test]
fn a_host_is_online_until_it_closes() {
    let dir = tempfile::tempdir().unwrap();
    let server = run(config(dir.path()));
    let events = server.handle.events();
    let mut host = server.connect();
    let reply = ask(&mut host, BEAT);
    assert!(
        reply.contains("keepAlive") && reply.contains('7'),
        "{reply}"
    );

    let names = ["127.0.0.1", "10.9.9.9", "no name"];
    let alive = server.handle.alive(&names);
    assert_eq!(alive, Ok(vec![true, false, false]));
    let hosts = server.handle.hosts(Filter::Online).unwrap();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].ip, Some("127.0.0.1".parse().unwrap()));
    assert!(
        matches!(next(&events).kind, EventKind::Online { host, .. } if host.as_str() == names[0])
    );

    drop(host);
    assert!(
        matches!(next(&events).kind, EventKind::Offline { host, .. } if host.as_str() == names[0])
    );
    until_so("one is offline", || {
        server.handle.hosts(Filter::Offline).unwrap().len() == 1
    });
    assert_eq!(events.missed(), 0);
    server.stop();
    assert_eq!(events.recv_timeout(PATIENCE), Err(HandleError::Ended));
}

#[test]
fn a_restart_is_not_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let server = run(config(dir.path()));
    let mut host = server.connect();
    // Acknowledged, so the store is up; what it still has to write is written before the end.
    assert!(ask(&mut host, REPORT).contains("keepGotIt"));
    server.stop();

    let server = run(config(dir.path()));
    let events = server.handle.events();
    until_so("it is inherited", || {
        server.handle.alive(&["127.0.0.1"]) == Ok(vec![true])
    });
    let mut host = server.connect();
    ask(&mut host, BEAT);
    assert_eq!(events.try_recv(), Ok(None), "it was never offline");
    server.stop();
}

#[test]
fn a_report_is_acknowledged_once_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = run(config(dir.path()));
    let mut host = server.connect();
    let reply = ask(&mut host, REPORT);
    assert!(reply.contains("keepGotIt"), "{reply}");
    server.stop();
}

#[test]
fn a_configuration_reload_takes_effect() {
    let dir = tempfile::tempdir().unwrap();
    let server = run(config(dir.path()));
    let mut news = config(dir.path());
    news.limits.frame_bytes = 80;
    server.handle.reload(news);
    // A frame of 100 bytes is too long from now on, and closes its connection.
    until_so("the new limit closes", || {
        let mut host = server.connect();
        let body = [
            &BEAT[..BEAT.len() - 1],
            br#","note":"01234567890123456789012345"}"#,
        ]
        .concat();
        host.write_all(&little(&body)).unwrap();
        matches!(host.read(&mut [0; 1]), Ok(0) | Err(_))
    });
    server.stop();
}

#[test]
fn a_server_can_be_turned_inside_another_loop() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::bind(config(dir.path())).unwrap();
    let mut host = TcpStream::connect(server.ready().tcp).unwrap();
    host.set_nonblocking(true).unwrap();
    host.write_all(&little(BEAT)).unwrap();
    let start = Instant::now();
    let mut reply = [0; 4];
    while host.read(&mut reply).is_err() {
        assert!(start.elapsed() < PATIENCE);
        assert_eq!(server.turn(Some(Duration::from_millis(1))), Ok(true));
    }
    server.handle().shutdown();
    while server.turn(Some(Duration::from_millis(1))).unwrap() {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(server.turn(None), Ok(false), "it stays over");
}

#[test]
fn a_failed_start_names_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::bind(config(dir.path())).unwrap();
    let in_use = Server::bind(config(dir.path())).unwrap_err().to_string();
    assert!(in_use.contains("store.url"), "{in_use}");

    let other = tempfile::tempdir().unwrap();
    let mut taken = config(other.path());
    taken.server.tcp = first.ready().tcp;
    let taken = Server::bind(taken).unwrap_err().to_string();
    assert!(taken.contains("server.tcp"), "{taken}");
}

#[test]
fn a_spool_in_use_fails_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let held = Server::bind(config(dir.path())).unwrap();
    let mut second = config(dir.path());
    second.store.url = StoreUrl::Embedded(dir.path().join("other"));
    let error = Server::bind(second).unwrap_err().to_string();
    let spool = dir.path().join("spool");
    assert!(error.contains("store.spool"), "{error}");
    assert!(error.contains(spool.to_str().unwrap()), "{error}");
    drop(held);
}

#[test]
fn a_task_is_sent_and_its_result_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut config = config(dir.path());
    config.dispatch.agent_port = udp.local_addr().unwrap().port();
    let server = run(config);
    let mut host = server.connect();
    ask(&mut host, BEAT);
    let name = HostId::checked("127.0.0.1").unwrap();
    until_so("the task is sent", || {
        server
            .handle
            .dispatch(&Uptime)
            .is_ok_and(|hosts| hosts[&name] == TaskState::Sent)
    });
    let mut bytes = [0; 64];
    let (length, from) = udp.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"AC1");
    udp.send_to(br#"{"flag":"ADH33","RCC":1,"taskId":"AC1"}"#, from)
        .unwrap();
    let book = br#"{"flag":"ADH41","taskId":"AC1","reply":true}"#;
    let book = ask(&mut host, book);
    assert!(book.contains(r#""tasks":[["uptime",1]]"#), "{book}");
    // The bytes of the result are glued between two frames.
    let header = concat!(
        r#"{"flag":"ADH43","code":"AC1","task":"uptime","exit":0,"seconds":1,"total_size":5,"#,
        r#""sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}"#
    );
    let end = concat!(
        r#"{"flag":"ADH27","code":"AC1","phase":3,"working":null,"complete":["uptime"],"#,
        r#""oncall":[],"reply":true}"#
    );
    host.write_all(&[&little(header.as_bytes())[..], b"hello"].concat())
        .unwrap();
    let end = ask(&mut host, end.as_bytes());
    assert!(end.contains("ADH27") && end.contains("keepGotIt"), "{end}");
    until_so("the output is there", || {
        let asked = server.handle.ask(Request::Output {
            key: "AC1".into(),
            host: name.clone(),
            command: "uptime".into(),
        });
        asked == Ok(Response::Output(b"hello".to_vec()))
    });
    let again = server.handle.dispatch(&Uptime).unwrap_err();
    assert!(
        matches!(
            again,
            DispatchError::Refused {
                kind: ErrorKind::Taken,
                ..
            }
        ),
        "{again}"
    );
    server.stop();
}
