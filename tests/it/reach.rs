//! Reachability, probed by the built program: ports that listen, closed ports, and silent ports.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::server::run;
use super::support::{Home, Server, on_both_stores, until, until_so};

on_both_stores! {
    targets_follow_their_ports,
    a_reload_changes_targets,
}

/// A listener with a full queue, so that connections to it wait for ever. Holds it and the
/// connections that fill it.
struct Silent {
    addr: SocketAddr,
    _listener: socket2::Socket,
    _filling: Vec<socket2::Socket>,
}

impl Silent {
    fn new() -> Self {
        let socket =
            || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = socket();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let filling = (0..4).map(|_| {
            let filler = socket();
            filler.set_nonblocking(true).unwrap();
            // It is under way, which is all that is wanted.
            let _ = filler.connect(&addr.into());
            filler
        });
        let filling = filling.collect();
        Self {
            addr,
            _listener: listener,
            _filling: filling,
        }
    }
}

fn state(server: &Server, target: &str) -> Value {
    let all = server.json("/v1/reach");
    let all = all["targets"].as_array().unwrap();
    let found = all.iter().find(|found| found["target"] == target);
    found.unwrap_or(&Value::Null).clone()
}

#[track_caller]
fn until_state(server: &Server, target: &str, wanted: &str) -> Value {
    until(&format!("{target} {wanted}"), || {
        let found = state(server, target);
        // Before it was tried it is down too.
        (found["state"] == wanted && !found["at"].is_null()).then_some(found)
    })
}

fn targets_follow_their_ports(mut home: Home) {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = Silent::new();
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let quiet = UdpSocket::bind("127.0.0.1:0").unwrap();
    let open6 = TcpListener::bind("[::1]:0").unwrap();
    let udp_closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let answering = echo.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((bytes, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..bytes], from);
        }
    });
    let quiet_addr = quiet.local_addr().unwrap();
    let wanted = [
        (open.local_addr().unwrap().to_string(), "up"),
        (open6.local_addr().unwrap().to_string(), "up"),
        (closed.to_string(), "refused"),
        (silent.addr.to_string(), "down"),
        (format!("udp://{answering}?answer"), "up"),
        (format!("udp://{quiet_addr}"), "up"),
        (format!("udp://{quiet_addr}?answer"), "down"),
        (format!("udp://{udp_closed}"), "refused"),
    ];
    let targets: Vec<_> = wanted.iter().map(|(target, _)| target).collect();
    home.set("reach.targets", json!(targets))
        .set("reach.period_s", 0.3);
    let server = home.start();
    for (target, state) in &wanted {
        let found = until_state(&server, target, state);
        let answered = !target.contains(&quiet_addr.to_string()) && *state != "down";
        assert_eq!(found["rtt_ms"].is_number(), answered, "{found}");
        assert!(found["since"].is_string());
    }
    assert_eq!(server.metric("anthill_targets{state=\"refused\"}"), 2);
    if home.has_redis() {
        let stored = || {
            home.store()
                .say::<Option<String>>(&["HGET", "anthill:reach", &wanted[0].0])
                .unwrap_or_default()
        };
        until_so("it is stored", || stored().contains("\"state\":\"up\""));
        until_so("its event", || {
            home.store().events().iter().any(|event| {
                (
                    event.field("event"),
                    event.field("host"),
                    event.field("state"),
                ) == ("reach", &wanted[2].0, "refused")
            })
        });
    }
    // One that opens, and one that closes.
    let again = TcpListener::bind(closed).unwrap();
    until_state(&server, &closed.to_string(), "up");
    drop(again);
    until_state(&server, &closed.to_string(), "refused");
    let api = format!("http://{}", server.http);
    let table = run(home.path(), &["reach", "--api", &api]);
    assert!(
        table.stdout.starts_with("TARGET") && table.stdout.contains(&wanted[7].0),
        "{}",
        table.stdout
    );
    let json = run(home.path(), &["reach", "--json", "--api", &api]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["targets"].as_array().unwrap().len(), wanted.len());
    drop((open, open6, quiet));
    server.stop();
}

fn a_reload_changes_targets(mut home: Home) {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = open.local_addr().unwrap().to_string();
    home.set("reach.targets", json!(["127.0.0.1:1", target]))
        .set("reach.period_s", 0.2);
    if home.has_redis() {
        let of_an_earlier_server = ["HSET", "anthill:reach", "127.0.0.1:2", "{}"];
        home.store().say::<u32>(&of_an_earlier_server);
    }
    let server = home.start();
    until_state(&server, &target, "up");
    until_state(&server, "127.0.0.1:1", "refused");
    if home.has_redis() {
        until_so("both are stored", || {
            home.store().say::<u32>(&["HLEN", "anthill:reach"]) == 2
        });
    }
    home.set("reach.targets", json!([target]));
    home.write_config();
    server.signal(Signal::HUP);
    until_so("it is forgotten", || {
        state(&server, "127.0.0.1:1").is_null()
    });
    if home.has_redis() {
        until_so("its field is gone", || {
            home.store().say::<u32>(&["HLEN", "anthill:reach"]) == 1
        });
    }
    assert_eq!(state(&server, &target)["state"], "up");
    // What tried it has hung up each time.
    drop(TcpStream::connect(&target));
    server.stop();
}
