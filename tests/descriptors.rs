//! A process without a free descriptor. In a test program of its own, since it takes all of them.
#![cfg(feature = "embedded")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anthill::Server;
use anthill::config::Config;
use anthill::store::address::StoreUrl;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use testkit::PATIENCE;

const DESCRIPTORS: u64 = 400;

/// Data for a host: nothing yet, the end, or a first byte.
fn heard(host: &mut Socket) -> Option<usize> {
    match host.read(&mut [0; 1]) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_descriptors_closes_the_oldest_waiting() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    assert!(maximum.is_none_or(|maximum| maximum >= DESCRIPTORS));
    let limit = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    setrlimit(Resource::Nofile, limit).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    (config.server.tcp, config.server.udp, config.server.http) = (any, any, any);
    config.store.url = StoreUrl::Embedded(dir.path().join("data"));
    config.store.spool = dir.path().join("spool");
    let mut server = Server::bind(config).unwrap();
    assert_eq!(server.ready().connections, 400 - 128);
    let addr = server.ready().tcp;
    let start = Instant::now();
    let mut turn = || {
        assert!(start.elapsed() < PATIENCE);
        assert_eq!(server.turn(Some(Duration::from_millis(5))), Ok(true));
    };
    turn();

    // The hosts' own sockets while there are descriptors; then none is left.
    let new = |_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut hosts: Vec<Socket> = (0..3).map(new).collect();
    let mut hog = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hog.push(file);
    }
    let beat = br#"{"flag":"ADH18","phase":1,"ACK":"keepAlive","reply":true}"#;
    for host in &mut hosts {
        host.connect(&addr.into()).unwrap();
        host.set_nonblocking(true).unwrap();
    }
    // The oldest is closed by the server, in good order; it has said nothing yet.
    while heard(&mut hosts[0]) != Some(0) {
        turn();
    }
    // With descriptors again the next connection is accepted, although no new event reports it.
    drop(hog);
    let last = hosts.last_mut().unwrap();
    last.write_all(&(beat.len() as u32).to_le_bytes()).unwrap();
    last.write_all(beat).unwrap();
    while heard(hosts.last_mut().unwrap()).is_none() {
        turn();
    }
}
