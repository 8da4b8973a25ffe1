//! TLS on the port of the hosts.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::server::run;
use super::support::tls::{Authority, Certified, TlsHost};
use super::support::{BEAT_ASKING, Home, Host, Server, big, little, until, until_so};

/// A server with a certificate, and its authority.
struct Secured {
    home: Home,
    server: Server,
    authority: Authority,
}

fn secured(names_hosts: bool) -> Secured {
    secured_with(names_hosts, |_| {})
}

fn secured_with(names_hosts: bool, change: impl FnOnce(&mut Home)) -> Secured {
    let mut home = Home::embedded();
    let authority = Authority::new();
    let own = authority.signs(&["localhost"], None, false);
    let (cert, key) = own.files(home.path(), "server");
    let ca = authority.file(home.path(), "ca.pem");
    home.set("tls.cert", cert.to_str());
    home.set("tls.key", key.to_str());
    if names_hosts {
        home.set("tls.client_ca", ca.to_str());
        home.set("server.http_write", "open");
    }
    change(&mut home);
    let server = home.start();
    Secured {
        home,
        server,
        authority,
    }
}

impl Secured {
    fn host(&self, source: &str, certified: Option<&Certified>) -> TlsHost {
        TlsHost::connect(self.server.tcp, source, &self.authority, certified)
    }

    fn abnormal(&self) -> String {
        let page = self.server.get("/metrics").1;
        let line = page
            .lines()
            .find(|line| line.contains("abnormal") && line.contains("\"tls\""));
        line.expect("a counter").to_owned()
    }
}

#[test]
fn a_host_over_tls_is_a_host_like_any_other() {
    let all = secured(false);
    let mut host = all.host("127.0.9.1", None);
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert!(all.server.is_online("127.0.9.1"));
    // Glued frames, and one cut in two records.
    let two = [little(BEAT_ASKING), little(BEAT_ASKING)].concat();
    host.stream.write_all(&two[..70]).unwrap();
    host.stream.flush().unwrap();
    host.stream.write_all(&two[70..]).unwrap();
    for _ in 0..2 {
        assert_eq!(host.reply()["ACK"], "keepAlive");
    }
    // A goodbye is an end.
    host.stream.conn.send_close_notify();
    host.stream.flush().unwrap();
    assert_eq!(all.server.until_offline("127.0.9.1")["reason"], "closed");
    all.server.stop();
}

#[test]
fn an_end_without_close_notify_is_an_end() {
    let all = secured(false);
    let mut host = all.host("127.0.9.1", None);
    host.ask(BEAT_ASKING);
    drop(host);
    assert_eq!(all.server.until_offline("127.0.9.1")["reason"], "closed");
}

#[test]
fn a_result_of_many_records_arrives_whole() {
    let all = secured(false);
    let mut host = all.host("127.0.9.1", None);
    host.ask(BEAT_ASKING);
    all.server
        .dispatch(&json!({"key": "AC1", "commands": {"dump": 1}, "hosts": ["127.0.9.1"]}));
    let output: Vec<u8> = (0..300_000_u32)
        .map(|n| b'!' + (n * 7 % 89) as u8)
        .collect();
    let digest = {
        use sha2::{Digest, Sha256};
        let hash: [u8; 32] = Sha256::digest(&output).into();
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let header = json!({
        "flag": "ADH43", "code": "AC1", "task": "dump", "exit": 0, "seconds": 0.5,
        "total_size": output.len(), "sha256": digest, "truncated": false, "reply": true,
    });
    host.say(header.to_string().as_bytes());
    host.stream.write_all(&output).unwrap();
    assert_eq!(host.reply()["ACK"], "keepGotIt");
    let url = "/v1/tasks/AC1/hosts/127.0.9.1/output?command=dump";
    let answer = all.server.get(url).1;
    assert!(answer.as_bytes() == output, "{} bytes", answer.len());
}

#[test]
fn the_certificate_names_the_host() {
    let all = secured(true);
    let by_dns = all
        .authority
        .signs(&["web-1", "web-9"], Some("web-8"), false);
    let mut host = all.host("127.0.9.1", Some(&by_dns));
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert!(all.server.is_online("web-1"));
    assert!(all.server.host("127.0.9.1").is_none());

    let by_common_name = all.authority.signs(&[], Some("web-2"), false);
    let mut other = all.host("127.0.9.1", Some(&by_common_name));
    other.ask(br#"{"flag":"ADH40","id":"web-2"}"#);
    assert!(all.server.is_online("web-2"));

    // The name of another is refused, in words.
    let mut liar = all.host("127.0.9.1", Some(&by_common_name));
    let reply = liar.ask(br#"{"flag":"ADH40","id":"web-1"}"#);
    assert_eq!(reply["ACK"], "keepRefused", "{reply}");
    assert!(all.server.is_online("web-1") && all.server.is_online("web-2"));

    // The newest connection replaces the older one, without an offline in between.
    let mut newer = all.host("127.0.9.2", Some(&by_dns));
    newer.ask(BEAT_ASKING);
    let refused = host.until_refused(BEAT_ASKING);
    assert!(!refused.is_empty());
    assert!(all.server.is_online("web-1"));

    // It is reached by its connection, though it never asked for that, and by no datagram.
    all.server
        .dispatch(&json!({"key": "AC1", "commands": {"uptime": 1}, "hosts": ["web-1"]}));
    let push = newer.reply();
    assert_eq!(
        (push["flag"].as_str(), push["taskId"].as_str()),
        (Some("ADH44"), Some("AC1"))
    );
    let udp = std::net::UdpSocket::bind("127.0.9.2:0").unwrap();
    let udp_port = all
        .server
        .ready
        .split(' ')
        .find_map(|word| word.strip_prefix("udp="));
    udp.send_to(
        br#"{"flag":"ADH33","RCC":1,"taskId":"AC1"}"#,
        udp_port.unwrap(),
    )
    .unwrap();
    until_so("the datagram refused", || {
        let page = all.server.get("/metrics").1;
        page.lines()
            .any(|line| line.starts_with("anthill_datagrams_refused_total") && line.ends_with(" 1"))
    });
    assert_eq!(all.server.task_state("AC1", "web-1"), "sent");
    newer.say(br#"{"flag":"ADH33","RCC":1,"taskId":"AC1"}"#);
    all.server.until_task("AC1", "web-1", "answered");
    all.server.stop();
}

#[test]
fn invalid_certificates_are_refused() {
    let all = secured(true);
    let stranger = Authority::new();
    let cases = [
        None,
        Some(stranger.signs(&["web-1"], None, false)),
        Some(all.authority.signs(&["web-1"], None, true)),
        // A name that is no id.
        Some(all.authority.signs(&["*.example"], None, false)),
        // An address that is another's.
        Some(all.authority.signs(&[], Some("127.0.9.77"), false)),
        Some(all.authority.signs(&[], None, false)),
        // A common name beside an address.
        Some(all.authority.signs(&["10.0.0.7"], Some("web-1"), false)),
    ];
    for (number, certified) in cases.iter().enumerate() {
        let mut host = all.host("127.0.9.1", certified.as_ref());
        host.until_refused(BEAT_ASKING);
        let counted = format!(" {}", number + 1);
        until_so("counted", || all.abnormal().ends_with(&counted));
    }
    assert_eq!(all.server.json("/v1/hosts")["hosts"], json!([]));
    all.server.logged(&["TLS: ", "127.0.9.1"]);
    all.server.stop();
}

#[test]
fn openssl_speaks_to_it() {
    let all = secured(true);
    let own = all.authority.signs(&["web-1"], None, false);
    let (cert, key) = own.files(all.home.path(), "client");
    let ca = all.home.path().join("ca.pem");
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-servername",
            "localhost",
        ])
        .args(["-connect", &all.server.tcp.to_string()])
        .args(["-CAfile", ca.to_str().unwrap()])
        .args([
            "-cert",
            cert.to_str().unwrap(),
            "-key",
            key.to_str().unwrap(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    client
        .stdin
        .as_mut()
        .unwrap()
        .write_all(&big(BEAT_ASKING))
        .unwrap();
    until_so("web-1 online", || all.server.is_online("web-1"));
    drop(client.stdin.take());
    let _ = client.kill();
    client.wait().unwrap();
    all.server.until_offline("web-1");
}

#[test]
fn a_plain_connection_is_closed() {
    let all = secured(false);
    let mut good = all.host("127.0.9.1", None);
    good.ask(BEAT_ASKING);
    let mut plain = Host::connect(all.server.tcp, "127.0.9.2");
    plain.send(&little(BEAT_ASKING));
    plain.until_closed();
    until_so("counted", || all.abnormal().ends_with(" 1"));
    assert!(all.server.host("127.0.9.2").is_none());
    assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
}

#[test]
fn half_handshakes_are_closed_in_time() {
    let all = secured_with(false, |home| {
        home.set("heartbeat.first_message_s", 1.0);
    });
    let mut good = all.host("127.0.9.1", None);
    good.ask(BEAT_ASKING);
    // The first flight of a client, over and over, and never a second; a byte of one; nothing at all.
    let mut hello = Vec::new();
    let mut client = all.host("127.0.9.3", None);
    client.stream.conn.write_tls(&mut hello).unwrap();
    let storm: Vec<Host> = (0..300)
        .map(|number| {
            let mut host = Host::connect(all.server.tcp, "127.0.9.2");
            match number % 3 {
                0 => host.send(&hello),
                1 => host.send(&hello[..1]),
                _ => {}
            }
            host
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
    }
    for mut host in storm {
        host.until_closed();
    }
    assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert!(all.server.host("127.0.9.2").is_none());
}

#[test]
fn half_handshakes_have_a_memory_bound() {
    const COUNT: usize = 500;
    const BYTES_MAX: u64 = 24 * 1024 * 1024;
    let all = secured(false);
    // The beginning of a message of 65,000 bytes, in four records.
    let mut hello = vec![1, 0, 0xfd, 0xe8];
    hello.resize(60_000, 3);
    let mut records = Vec::new();
    for piece in hello.chunks(16_000) {
        records.extend([22, 3, 1]);
        records.extend((piece.len() as u16).to_be_bytes());
        records.extend(piece);
    }
    all.host("127.0.9.1", None).ask(BEAT_ASKING);
    let before = all.server.resident();
    let mut half: Vec<Host> = (0..COUNT)
        .map(|number| Host::connect(all.server.tcp, &format!("127.0.9.{}", 2 + number % 8)))
        .collect();
    for host in &mut half {
        host.send(&records);
    }
    // Handshakes beyond the bound are refused; a host is admitted, and all is as before when they
    // have gone.
    let refused = COUNT - 8 * 1024 * 1024 / 60_000 - 1;
    until_so("refused", || {
        let line = all.abnormal();
        line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap() >= refused
    });
    let grown = all.server.resident().saturating_sub(before);
    assert!(grown < BYTES_MAX, "{grown} bytes for {COUNT} of them");
    all.server.logged(&["too many handshakes"]);
    let mut host = all.host("127.0.9.1", None);
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    drop(half);
    until_so("gone", || all.server.metric("anthill_connections") == 1);
}

#[test]
fn records_without_data_stop_no_other_host() {
    const QUESTIONS: usize = 30;
    const REPLIES: usize = 50;
    let all = secured(false);
    let mut good = all.host("127.0.9.1", None);
    good.ask(BEAT_ASKING);
    let mut flood = all.host("127.0.9.2", None);
    flood.ask(BEAT_ASKING);
    // Heartbeats, a byte a record, and thirty key updates before each byte.
    let mut records = Vec::new();
    let tls = &mut flood.stream.conn;
    tls.set_buffer_limit(None);
    for byte in little(BEAT_ASKING).repeat(QUESTIONS) {
        for _ in 0..30 {
            tls.refresh_traffic_keys().unwrap();
        }
        tls.writer().write_all(&[byte]).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut records).unwrap();
        }
    }
    let flooding = std::thread::spawn(move || {
        flood.stream.sock.write_all(&records).unwrap();
        (0..QUESTIONS).all(|_| flood.reply()["ACK"] == "keepAlive")
    });
    let mut replies = 0;
    while !flooding.is_finished() {
        assert_eq!(good.ask(BEAT_ASKING)["ACK"], "keepAlive");
        replies += 1;
    }
    assert!(flooding.join().unwrap(), "all of it is read and answered");
    assert!(replies >= REPLIES, "{replies} replies during the flood");
}

#[test]
fn certificates_reload_and_bad_ones_do_not() {
    let all = secured(false);
    let mut before = all.host("127.0.9.1", None);
    before.ask(BEAT_ASKING);
    let other = Authority::new();
    let cert = all.home.path().join("server.pem");
    let good = std::fs::read(&cert).unwrap();
    std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nno\n").unwrap();
    all.server.signal(Signal::HUP);
    all.server.logged(&["ERROR", "nothing changed", "tls.cert"]);
    std::fs::write(&cert, good).unwrap();
    let mut still = all.host("127.0.9.2", None);
    assert_eq!(still.ask(BEAT_ASKING)["ACK"], "keepAlive");

    other
        .signs(&["localhost"], None, false)
        .files(all.home.path(), "server");
    all.server.signal(Signal::HUP);
    all.server.logged(&["in force now", "tls"]);
    // A host that trusts the new authority is admitted; a connected one stays.
    let mut newer = until("the new certificate", || {
        let mut host = TlsHost::connect(all.server.tcp, "127.0.9.3", &other, None);
        host.stream
            .write_all(&little(BEAT_ASKING))
            .ok()
            .map(|()| host)
    });
    assert_eq!(newer.reply()["ACK"], "keepAlive");
    assert_eq!(before.ask(BEAT_ASKING)["ACK"], "keepAlive");
}

/// Takes the file as it is now.
fn take_config(all: &Secured) {
    all.server.signal(Signal::HUP);
    all.server.logged(&["in force now", "tls"]);
}

#[test]
fn removing_an_authority_ends_its_sessions() {
    let all = secured(true);
    let other = Authority::new();
    let host = |authority: &Authority, name: &str, source: &str| {
        let own = authority.signs(&[name], None, false);
        let mut host = all.host(source, Some(&own));
        host.ask(BEAT_ASKING);
        host
    };
    let mut old = host(&all.authority, "web-1", "127.0.9.1");
    let half = {
        let own = all.authority.signs(&["web-9"], None, false);
        all.host("127.0.9.9", Some(&own))
    };
    let ca = all.home.path().join("ca.pem");

    // Both are trusted: the session goes on.
    let both = format!("{}{}", all.authority.pem(), other.pem());
    std::fs::write(&ca, both).unwrap();
    take_config(&all);
    let mut new = host(&other, "web-2", "127.0.9.2");
    assert_eq!(old.ask(BEAT_ASKING)["ACK"], "keepAlive");

    // Only the new one is: the session of the old one ends, silent connections too, and it is not let in again.
    std::fs::write(&ca, other.pem()).unwrap();
    all.server.signal(Signal::HUP);
    assert_eq!(all.server.until_offline("web-1")["reason"], "closed");
    all.server.logged(&["WARN", "web-1", "its session ends"]);
    old.until_refused(BEAT_ASKING);
    let mut half = half;
    half.until_refused(BEAT_ASKING);
    let own = all.authority.signs(&["web-1"], None, false);
    all.host("127.0.9.1", Some(&own)).until_refused(BEAT_ASKING);
    assert_eq!(new.ask(BEAT_ASKING)["ACK"], "keepAlive");
    assert!(all.server.is_online("web-2") && !all.server.is_online("web-1"));
    all.server.stop();
}

#[test]
fn changing_the_demand_ends_sessions() {
    let mut all = secured(false);
    let ca = all.home.path().join("ca.pem");
    let mut plain = all.host("127.0.9.1", None);
    plain.ask(BEAT_ASKING);
    all.home.set("tls.client_ca", ca.to_str());
    all.home.write_config();
    take_config(&all);
    assert_eq!(all.server.until_offline("127.0.9.1")["reason"], "closed");
    plain.until_refused(BEAT_ASKING);

    let own = all.authority.signs(&["web-1"], None, false);
    let mut named = all.host("127.0.9.1", Some(&own));
    named.ask(BEAT_ASKING);
    all.home.set("tls.client_ca", json!(null));
    all.home.write_config();
    all.server.signal(Signal::HUP);
    assert_eq!(all.server.until_offline("web-1")["reason"], "closed");
    named.until_refused(BEAT_ASKING);
    all.server.stop();
}

#[test]
fn a_session_ends_with_its_certificate() {
    let all = secured(true);
    let validity = std::time::Duration::from_secs(3);
    let short = all.authority.signs_for("web-1", validity);
    let long = all.authority.signs(&["web-2"], None, false);
    let mut host = all.host("127.0.9.1", Some(&short));
    assert_eq!(host.ask(BEAT_ASKING)["ACK"], "keepAlive");
    let mut stays = all.host("127.0.9.2", Some(&long));
    stays.ask(BEAT_ASKING);
    assert_eq!(all.server.until_offline("web-1")["reason"], "closed");
    all.server.logged(&["WARN", "web-1", "expired"]);
    host.until_refused(BEAT_ASKING);
    assert_eq!(stays.ask(BEAT_ASKING)["ACK"], "keepAlive");
    all.server.stop();
}

#[test]
fn a_wrong_configuration_is_named() {
    let home = Home::embedded();
    let authority = Authority::new();
    let (cert, key) = authority
        .signs(&["localhost"], None, false)
        .files(home.path(), "one");
    let (_, foreign) = authority
        .signs(&["localhost"], None, false)
        .files(home.path(), "two");
    let open = home.path().join("open.key");
    std::fs::copy(&key, &open).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    // What openssl makes with a passphrase, in the old form and in the new one.
    let encrypted = |name: &str, command: &[&str]| {
        let path = home.path().join(name);
        let done = Command::new("openssl")
            .args(command)
            .args(["-passout", "pass:secret", "-in"])
            .arg(&key)
            .arg("-out")
            .arg(&path)
            .stderr(Stdio::null())
            .status()
            .expect("openssl is installed");
        assert!(done.success());
        path
    };
    let old = encrypted("old.key", &["ec", "-aes128"]);
    let new = encrypted("new.key", &["pkcs8", "-topk8"]);
    let text = std::fs::read_to_string(&cert).unwrap();
    // What some editors write, which changes nothing.
    std::fs::write(&cert, format!("\u{feff}{text}")).unwrap();
    let cut = home.path().join("cut.pem");
    std::fs::write(&cut, &text[..text.len() - 30]).unwrap();
    let key_text = std::fs::read_to_string(&key).unwrap();
    let cut_key = home.path().join("cut.key");
    std::fs::write(&cut_key, &key_text[..key_text.len() - 30]).unwrap();
    for path in [&old, &new, &cut_key] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
    }
    let cases = [
        (
            json!({"cert": cert, "key": old}),
            "holds an encrypted private key",
        ),
        (
            json!({"cert": cert, "key": new}),
            "holds an encrypted private key",
        ),
        (
            json!({"cert": cert, "key": cut_key}),
            "is cut off: the line -----END PRIVATE KEY----- is missing",
        ),
        (
            json!({"cert": cut, "key": key}),
            "is cut off: the line -----END CERTIFICATE----- is missing",
        ),
        (
            json!({"cert": cert, "key": cert}),
            "holds no private key, but a CERTIFICATE",
        ),
        (
            json!({"cert": cert, "key": foreign}),
            "is not the key of the certificate",
        ),
        (json!({"cert": cert}), "tls: needs"),
        (json!({"cert": "nowhere.pem", "key": key}), "tls.cert"),
        (json!({"cert": key, "key": key}), "tls.cert"),
        (json!({"cert": cert, "key": cert}), "tls.key"),
        (json!({"cert": cert, "key": foreign}), "tls.key"),
        (json!({"cert": cert, "key": open}), "that others may read"),
        (
            json!({"cert": cert, "key": key, "client_ca": key}),
            "tls.client_ca",
        ),
        (json!({"cert": cert, "key": key, "ca": 1}), "tls.ca"),
        (json!(true), "tls"),
    ];
    for (tls, said) in cases {
        let path = home.path().join("config.json");
        std::fs::write(&path, json!({"tls": tls}).to_string()).unwrap();
        let out = super::support::server::program(home.path(), &["check-config"])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{tls}: {error}");
        assert!(error.contains(said), "{tls}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn an_idle_connection_holds_little_memory() {
    const HOSTS: u64 = 300;
    const BYTES_MAX: u64 = 20_000;
    for names_hosts in [false, true] {
        let all = secured(names_hosts);
        let connect = |number: u64| {
            let own = all
                .authority
                .signs(&[&format!("web-{number}")], None, false);
            let mut host = all.host("127.0.9.1", names_hosts.then_some(&own));
            host.ask(BEAT_ASKING);
            host
        };
        // Memory that every first connection needs.
        let _first: Vec<TlsHost> = (0..50).map(connect).collect();
        let before = all.server.resident();
        let _idle: Vec<TlsHost> = (50..50 + HOSTS).map(connect).collect();
        let each = all.server.resident().saturating_sub(before) / HOSTS;
        println!("{each} bytes of resident memory per idle TLS connection, named: {names_hosts}");
        assert!(each < BYTES_MAX, "{each} bytes per connection");
    }
}

#[test]
fn the_bench_measures_hosts_over_tls() {
    let all = secured(false);
    let ca = all.home.path().join("ca.pem");
    let server = format!("localhost:{}", all.server.tcp.port());
    let words = [
        "bench",
        "--tls",
        "--json",
        "--hosts",
        "10",
        "--seconds",
        "1",
    ];
    let ca = ["--ca", ca.to_str().unwrap(), "--server", &server];
    let steady = [&words[..], &ca, &["--rate", "100"]].concat();
    let ended = run(all.home.path(), &steady);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).expect("a report");
    assert_eq!(report["asked"]["tls"], true);
    assert_eq!(report["connections"]["made"], 10);
    assert_eq!(report["heartbeats"]["answered"], 100);
    let flood = [&words[..], &ca, &["flood"]].concat();
    let ended = run(all.home.path(), &flood);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    // An authority that did not sign the certificate.
    let other = Authority::new().file(all.home.path(), "other.pem");
    let other = ["--ca", other.to_str().unwrap(), "--server", &server];
    let ended = run(all.home.path(), &[&words[..], &other].concat());
    assert_ne!(ended.status, Some(0));
    assert!(ended.stdout.contains("certificate"), "{}", ended.stdout);
}
