//! AK devices, polled by the built program: our simulator, and handmade devices with and without
//! faults.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::process::Process;
use super::support::server::{lines, program, run};
use super::support::{Home, PATIENCE, Server, on_both_stores, until, until_so};

on_both_stores! {
    device_replies_are_shown_and_stored,
    bad_devices_are_recognized,
    a_reload_adds_and_removes_devices,
}

/// `anthill ak-sim`, running. Dropped, it is killed.
struct Sim {
    _process: Process,
    /// Kept open: a closed pipe would end the simulator.
    _stdout: Receiver<String>,
    addr: SocketAddr,
}

impl Sim {
    fn start(home: &Home, flags: &[&str]) -> Self {
        let args = [&["ak-sim", "--listen", "127.0.0.1:0"], flags].concat();
        let mut command = program(home.path(), &args);
        let mut process = Process::start(command.stderr(Stdio::null()));
        let stdout = lines(process.stdout.take().expect("a pipe"));
        let ready = stdout.recv_timeout(PATIENCE).expect("a ready line");
        let addr = ready.strip_prefix("anthill ak-sim ready tcp=");
        Self {
            _process: process,
            _stdout: stdout,
            addr: addr.expect("its address").parse().expect("an address"),
        }
    }
}

/// A handmade device: runs `behave` for each request, on one connection after the other.
fn device(
    behave: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let behave = Arc::new(behave);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let behave = Arc::clone(&behave);
            thread::spawn(move || converse(stream, &*behave));
        }
    });
    (addr, connections)
}

fn converse(mut stream: TcpStream, behave: &dyn Fn(&str, &mut TcpStream)) {
    let mut request = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        match byte[0] {
            2 => request.clear(),
            3 => behave(&String::from_utf8_lossy(&request), &mut stream),
            byte => request.push(byte),
        }
    }
}

/// The code of a request, from the bytes between its marks.
fn code(request: &str) -> &str {
    &request[1..5]
}

fn say(stream: &mut TcpStream, text: &str) {
    // One that was closed meanwhile is what some of these devices are for.
    let _ = stream.write_all(text.as_bytes());
}

fn configured(name: &str, addr: SocketAddr, commands: &[&str]) -> Value {
    json!({"name": name, "addr": addr.to_string(), "allowed_cmd": commands, "period_s": 0.1,
           "timeout_ms": 400, "stale_s": 60})
}

fn with(mut device: Value, key: &str, value: Value) -> Value {
    device[key] = value;
    device
}

fn shown(server: &Server, device: &str) -> Value {
    server.json(&format!("/v1/ak/{device}"))
}

#[track_caller]
fn until_state(server: &Server, device: &str, state: &str) -> Value {
    until(&format!("{device} {state}"), || {
        Some(shown(server, device)).filter(|shown| shown["state"] == state)
    })
}

fn device_replies_are_shown_and_stored(mut home: Home) {
    let sim = Sim::start(&home, &[]);
    let fields = json!({"AKON": [{"name": "co", "unit": "ppm"}, {"name": "hc"}, {"name": "no"}]});
    let commands = ["ASTZ", "AKON", "AZZZ"];
    let device = with(configured("bench-1", sim.addr, &commands), "fields", fields);
    home.set("ak.devices", json!([device]));
    if home.has_redis() {
        let of_an_earlier_server = ["HSET", "anthill:ak:bench-1", "AOLD", "1"];
        home.store().say::<u32>(&of_an_earlier_server);
    }
    let server = home.start();
    let seen = until("all answers", || {
        Some(shown(&server, "bench-1"))
            .filter(|seen| seen["values"].as_object().unwrap().len() == 3)
    });
    assert_eq!(seen["state"], "up");
    assert_eq!(seen["error_status"], 0);
    assert!(seen["last_good"].is_string());
    assert_eq!(seen["values"]["ASTZ"]["data"], "SREM STBY");
    assert_eq!(seen["values"]["ASTZ"]["refused"], Value::Null);
    assert_eq!(seen["values"]["AZZZ"]["refused"], "????");
    let named = &seen["values"]["AKON"]["fields"];
    assert_eq!(named["co"]["valid"], true);
    assert_eq!(named["hc"], json!({"value": 9999.0, "valid": false}));
    assert_eq!(named["no"]["value"], 0.03);
    assert_eq!(server.json("/v1/ak")["devices"][0]["name"], "bench-1");
    assert_eq!(server.get("/v1/ak/nobody").0, 404);
    assert_eq!(server.metric("anthill_devices{state=\"up\"}"), 1);
    if home.has_redis() {
        let key = "anthill:ak:bench-1";
        let field = |name: &str| {
            home.store()
                .say::<Option<String>>(&["HGET", key, name])
                .unwrap_or_default()
        };
        until_so("what is stored", || field("AZZZ") == "????");
        assert_eq!(field("ASTZ"), "SREM STBY");
        assert_eq!(field("AOLD"), "", "it is asked no more");
        assert_eq!(field("state"), "up");
        assert!(field("last_good").parse::<u64>().unwrap() > 1_700_000_000_000);
        let json: Value = serde_json::from_str(&field("AKON.fields")).unwrap();
        assert_eq!(json["co"]["unit"], "ppm");
        until_so("its event", || {
            home.store().events().iter().any(|event| {
                (
                    event.field("event"),
                    event.field("host"),
                    event.field("state"),
                ) == ("device", "bench-1", "up")
            })
        });
    }
    let api = format!("http://{}", server.http);
    let table = run(home.path(), &["ak", "--api", &api]);
    assert_eq!(table.status, Some(0), "{}", table.stderr);
    assert!(table.stdout.starts_with("NAME") && table.stdout.contains("bench-1"));
    let one = run(home.path(), &["ak", "bench-1", "--api", &api]);
    assert!(
        one.stdout.contains("SREM STBY") && one.stdout.contains("????"),
        "{}",
        one.stdout
    );
    let place = |code: &str| one.stdout.find(code);
    assert!(place("ASTZ") < place("AKON"), "as asked: {}", one.stdout);
    let is_named = |named: &str| one.stdout.contains(named);
    assert!(
        is_named("co ") && is_named(" ppm, hc #9999, no 0.03"),
        "{}",
        one.stdout
    );
    let json = run(home.path(), &["ak", "bench-1", "--json", "--api", &api]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["name"], "bench-1");
    assert_eq!(
        run(home.path(), &["ak", "nobody", "--api", &api]).status,
        Some(1)
    );
    server.stop();
}

fn bad_devices_are_recognized(mut home: Home) {
    let sim = Sim::start(&home, &["--bad-habits"]);
    home.set(
        "ak.devices",
        json!([configured("bad", sim.addr, &["ASTZ", "AKON", "ASTF"])]),
    );
    let server = home.start();
    // Every kind of trouble comes by, and the device is asked again after each.
    for what in [
        "no answer in time",
        "an answer to AXXX",
        "which was not asked",
        "error status 1",
        "error status 0",
    ] {
        server.logged(&["device bad", what]);
    }
    until_so("a good many answers", || {
        server.metric("anthill_device_replies_total{kind=\"good\"}") > 15
    });
    let mine = shown(&server, "bad");
    assert_ne!(
        mine["values"]["ASTZ"]["data"], "1.0",
        "what answers another question"
    );
    assert_eq!(server.metric("anthill_out_panics_total"), 0);
    server.stop();
}

fn a_reload_adds_and_removes_devices(mut home: Home) {
    let (one, ones) =
        device(|request, stream| say(stream, &format!("\x02 {} 0 1\x03", code(request))));
    let (two, _) =
        device(|request, stream| say(stream, &format!("\x02 {} 0 2\x03", code(request))));
    home.set("ak.devices", json!([configured("one", one, &["ASTZ"])]));
    let server = home.start();
    until_state(&server, "one", "up");
    home.set(
        "ak.devices",
        json!([
            configured("one", one, &["ASTZ"]),
            configured("two", two, &["ASTZ"])
        ]),
    );
    home.write_config();
    server.signal(Signal::HUP);
    server.logged(&["in force now", "ak.devices"]);
    until_state(&server, "two", "up");
    assert_eq!(ones.load(Ordering::SeqCst), 1, "its connection was kept");
    home.set("ak.devices", json!([configured("two", two, &["ASTZ"])]));
    home.write_config();
    server.signal(Signal::HUP);
    until_so("it is forgotten", || server.get("/v1/ak/one").0 == 404);
    if home.has_redis() {
        until_so("its key is gone", || {
            home.store().say::<u32>(&["EXISTS", "anthill:ak:one"]) == 0
        });
    }
    server.stop();
}

#[test]
fn only_allowed_commands_are_sent() {
    let mut home = Home::embedded();
    let (seen, requests) = std::sync::mpsc::channel();
    let (addr, _) = device(move |request, stream| {
        let _ = seen.send(request.to_owned());
        say(stream, &format!("\x02x{} 0\x03\r\n", code(request)));
    });
    let device = with(
        configured("d", addr, &["ASTZ", "AVFI"]),
        "channel",
        json!(12),
    );
    home.set("ak.devices", json!([with(device, "filler", json!("0"))]));
    let server = home.start();
    for _ in 0..3 {
        assert_eq!(requests.recv_timeout(PATIENCE).unwrap(), "0ASTZ K12");
        assert_eq!(requests.recv_timeout(PATIENCE).unwrap(), "0AVFI K12");
    }
    server.stop();
}

#[test]
fn a_silent_device_is_down_and_rests_between_dials() {
    let mut home = Home::embedded();
    let mute = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_mute = Arc::clone(&mute);
    let (addr, connections) = device(move |request, stream| {
        if !is_mute.load(Ordering::SeqCst) {
            say(stream, &format!("\x02 {} 0 7\x03", code(request)));
        }
    });
    home.set("ak.devices", json!([configured("d", addr, &["ASTZ"])]));
    let server = home.start();
    let down = until("down", || {
        Some(shown(&server, "d")).filter(|shown| shown["reason"] == "no answer in time")
    });
    assert_eq!(down["state"], "down");
    assert_eq!(down["values"], json!({}));
    // However long this takes: a rest of a second lies between any two.
    let begun = std::time::Instant::now();
    let before = connections.load(Ordering::SeqCst);
    thread::sleep(Duration::from_millis(2_500));
    let more = connections.load(Ordering::SeqCst) - before;
    assert!(
        more as u64 <= begun.elapsed().as_secs() + 1,
        "{more} connections"
    );
    mute.store(false, Ordering::SeqCst);
    let up = until_state(&server, "d", "up");
    assert_eq!(up["values"]["ASTZ"]["data"], "7");
    server.stop();
}

#[test]
fn a_late_reply_answers_no_other_request() {
    let mut home = Home::embedded();
    let asked = AtomicUsize::new(0);
    let (addr, _) = device(move |request, stream| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        // The first answer to each connection's question comes when that question is long given up.
        if number.is_multiple_of(2) {
            thread::sleep(Duration::from_millis(900));
            say(stream, &format!("\x02 {} 0 LATE\x03", code(request)));
        } else {
            say(
                stream,
                &format!("\x02 {} 0 {}\x03", code(request), code(request)),
            );
        }
    });
    home.set(
        "ak.devices",
        json!([configured("d", addr, &["ASTZ", "AKON"])]),
    );
    let server = home.start();
    let mut questions = 0;
    until_so("several rounds", || {
        let shown = shown(&server, "d");
        for (command, value) in shown["values"].as_object().unwrap() {
            assert_eq!(value["data"], **command);
        }
        questions = server.metric("anthill_device_timeouts_total");
        questions >= 3
    });
    server.stop();
}

#[test]
fn unrequested_data_is_no_reply() {
    let mut home = Home::embedded();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let greets = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let does_greet = Arc::clone(&greets);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // As a converter does that still held the answer to the connection before.
            if does_greet.load(Ordering::SeqCst) {
                say(&mut stream, "\x02 ASTZ 0 UNASKED\x03");
            }
            converse(stream, &|request, stream| {
                say(stream, &format!("\x02 {} 0 ASKED\x03", code(request)));
            });
        }
    });
    home.set("ak.devices", json!([configured("d", addr, &["ASTZ"])]));
    let server = home.start();
    let down = until("down", || {
        Some(shown(&server, "d")).filter(|shown| shown["reason"].is_string())
    });
    assert_eq!(down["reason"], "an answer to ASTZ, which was not asked");
    assert_eq!(down["values"], json!({}));
    greets.store(false, Ordering::SeqCst);
    let up = until_state(&server, "d", "up");
    assert_eq!(up["values"]["ASTZ"]["data"], "ASKED");
    server.stop();
}

#[test]
fn data_before_a_request_is_no_reply() {
    const MANY: usize = 64;
    let mut home = Home::embedded();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    let streams = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&streams);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            kept.lock().unwrap().push(stream.try_clone().unwrap());
            thread::spawn(|| {
                converse(stream, &|request, stream| {
                    say(stream, &format!("\x02 {} 0 ASKED\x03", code(request)));
                });
            });
        }
    });
    let devices = (0..MANY).map(|n| {
        let device = configured(&format!("d{n}"), addr, &["ASTZ"]);
        with(device, "timeout_ms", json!(5_000))
    });
    home.set("ak.devices", json!(devices.collect::<Vec<_>>()));
    let server = home.start();
    let up = "anthill_devices{state=\"up\"}";
    until_so("all up", || server.metric(up) == MANY as u64);
    // No device is read while the server stands still, and all of them are due when it goes on:
    // more than a turn reads. A second is enough for the devices to answer their last requests.
    server.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(1));
    for mut stream in streams.lock().unwrap().drain(..) {
        say(&mut stream, "\x02 ASTZ 0 UNASKED\x03");
    }
    server.signal(Signal::CONT);
    until_so("all are seen for what they are", || {
        for device in server.json("/v1/ak")["devices"].as_array().unwrap() {
            assert_eq!(device["values"]["ASTZ"]["data"], "ASKED", "{device}");
        }
        server.metric("anthill_device_abnormal_total") >= MANY as u64
    });
    server.stop();
}

#[test]
fn a_refusing_device_is_stale() {
    let mut home = Home::embedded();
    let (busy, _) =
        device(|request, stream| say(stream, &format!("\x02 {} 0 BS\x03", code(request))));
    let (rude, _) = device(|request, stream| {
        say(
            stream,
            &format!("\x02 {} 0 \x1b[2J\u{202e}evil\x03", code(request)),
        );
    });
    let (flood, _) = device(|_, stream| {
        for _ in 0..1_000 {
            say(stream, &"noise ".repeat(200));
        }
    });
    home.set(
        "ak.devices",
        json!([
            with(configured("busy", busy, &["ASTZ"]), "stale_s", json!(0.5)),
            configured("rude", rude, &["ASTZ"]),
            configured("flood", flood, &["ASTZ"]),
        ]),
    );
    let server = home.start();
    let stale = until_state(&server, "busy", "stale");
    assert_eq!(stale["values"]["ASTZ"]["refused"], "BS");
    until_state(&server, "rude", "up");
    let api = format!("http://{}", server.http);
    let table = run(home.path(), &["ak", "rude", "--api", &api]).stdout;
    assert!(
        table.contains("\\u{1b}[2J\\u{202e}evil") && !table.contains('\u{1b}'),
        "{table}"
    );
    server.logged(&["device flood", "belong to no reply"]);
    server.stop();
}

#[test]
fn a_control_code_needs_control() {
    let mut home = Home::embedded();
    let addr = "127.0.0.1:9".parse().unwrap();
    home.set(
        "ak.devices",
        json!([configured("d", addr, &["ASTZ", "SREM"])]),
    );
    home.write_config();
    let ended = run(home.path(), &["check-config"]);
    assert_eq!(ended.status, Some(2));
    assert!(
        ended.stderr.contains("ak.devices[0].allowed_cmd[1]"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("\"control\": true"),
        "{}",
        ended.stderr
    );
}
