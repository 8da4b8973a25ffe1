//! Devices and targets that two nodes have in their configuration: one of them polls each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use super::support::proxy::{Mode, Proxy};
use super::support::{Home, Redis, Server, until_so};

/// An imitation device that answers each request, and counts its connections.
struct Device {
    addr: SocketAddr,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Device {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address");
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&open), Arc::clone(&most));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (open, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::spawn(move || {
                    answer(stream);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, open, most }
    }
}

/// Answers requests until the connection ends.
fn answer(mut stream: TcpStream) {
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        if byte[0] == 3 && stream.write_all(b"\x02 ASTZ 0 7\x03").is_err() {
            return;
        }
    }
}

/// A node that has the device and its port as a target in its configuration.
fn home(name: &str, url: &str, device: &Device) -> Home {
    let mut home = Home::at(url);
    let addr = device.addr.to_string();
    home.set("server.name", name);
    home.set("heartbeat.timeout_s", 3);
    home.set(
        "ak.devices",
        json!([{"name": "bench-1", "addr": addr, "allowed_cmd": ["ASTZ"],
        "period_s": 0.1, "timeout_ms": 400, "stale_s": 60}]),
    );
    home
}

fn started(home: &Home) -> Server {
    let server = home.start();
    server.until_ready(true);
    server
}

/// The node that polls the device, as `server` shows it, if it is up.
fn polled_by(server: &Server) -> Option<String> {
    let shown = server.json("/v1/ak/bench-1");
    let listed = &server.json("/v1/ak")["devices"][0];
    assert_eq!(listed["name"], "bench-1");
    let is_up = shown["state"] == "up" && shown["values"]["ASTZ"]["data"] == "7";
    is_up.then(|| shown["node"].as_str().unwrap_or_default().to_owned())
}

fn standby(server: &Server) -> u64 {
    server.metric(r#"anthill_devices{state="standby"}"#)
}

#[test]
fn one_node_polls_and_the_other_takes_over() {
    let (redis, device) = (Redis::start(&[]), Device::start());
    let homes = ["n1", "n2"].map(|name| home(name, &redis.url(), &device));
    let first = started(&homes[0]);
    until_so("n1 polls", || device.open.load(Ordering::SeqCst) == 1);
    let second = started(&homes[1]);
    for server in [&first, &second] {
        until_so("both show it", || {
            polled_by(server).as_deref() == Some("n1")
        });
    }
    assert_eq!((standby(&first), standby(&second)), (0, 1));
    let holder: String = redis.say(&["GET", "anthill:poll:bench-1"]);
    assert_eq!(holder, "n1");
    // A node that dies keeps the lease until it runs out.
    first.kill();
    until_so("n2 polls", || polled_by(&second).as_deref() == Some("n2"));
    let again = started(&homes[0]);
    until_so("n1 stands by", || {
        polled_by(&again).as_deref() == Some("n2")
    });
    // A planned stop gives the lease up.
    second.stop();
    until_so("n1 polls again", || {
        polled_by(&again).is_some() && standby(&again) == 0
    });
    assert_eq!(device.most.load(Ordering::SeqCst), 1, "connections at once");
    again.stop();
}

#[test]
fn a_node_without_the_store_stops_polling_in_time() {
    let (redis, device) = (Redis::start(&[]), Device::start());
    let proxy = Proxy::before(redis.port());
    let (cut, whole) = (
        home("n1", &proxy.url(), &device),
        home("n2", &redis.url(), &device),
    );
    let first = started(&cut);
    until_so("n1 polls", || device.open.load(Ordering::SeqCst) == 1);
    let second = started(&whole);
    for server in [&first, &second] {
        until_so("both show it", || {
            polled_by(server).as_deref() == Some("n1")
        });
    }
    until_so("n1 knows of n2", || first.metric("anthill_nodes_up") == 1);
    proxy.set(Mode::Refuse);
    until_so("n2 polls", || polled_by(&second).as_deref() == Some("n2"));
    proxy.set(Mode::Pass);
    first.until_ready(true);
    until_so("n1 stands by", || {
        polled_by(&first).as_deref() == Some("n2")
    });
    assert_eq!(device.most.load(Ordering::SeqCst), 1, "connections at once");
    // The kernel keeps the connection of a stopped process. It is closed when the process goes on,
    // before another request.
    second.signal(Signal::STOP);
    until_so("n1 polls", || polled_by(&first).as_deref() == Some("n1"));
    second.signal(Signal::CONT);
    until_so("n2 stands by", || standby(&second) == 1);
    until_so("one connection is left", || {
        device.open.load(Ordering::SeqCst) == 1
    });
    first.stop();
    second.stop();
}
